//! Files of `state-dir` that are replaced whole.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

/// Replaces the file at `path`, by way of one beside it with the extension `beside`: whoever reads it, after a crash as
/// well, sees the one before or this one.
///
/// # Errors
/// When it was not replaced; nothing of the new one is left, for half a file would only take room on a disk that is full.
pub(super) fn replace(path: &Path, beside: &str, octets: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension(beside);
    let written = File::create(&temporary).and_then(|mut file| {
        file.write_all(octets)?;
        file.sync_all()
    });
    written.and_then(|()| fs::rename(&temporary, path)).inspect_err(|_| {
        // It may have never been made.
        let _ = fs::remove_file(&temporary);
    })
}
