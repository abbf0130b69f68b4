//! Files of `state-dir` that are replaced whole.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::xxh3_64;

use crate::dns::Name;

/// Octets of the name of a file for a zone; those of longer names end with a hash.
const LONGEST: usize = 180;

/// Replaces the file at `path`, by way of one beside it with the extension `beside`: whoever reads it, after a crash as
/// well, sees the one before or this one.
///
/// # Errors
/// When it was not replaced; nothing of the new one is left, for half a file would only take room on a disk that is full.
pub(super) fn replace(path: &Path, beside: &str, octets: &[u8]) -> io::Result<()> {
    let mut new = NewFile::beside(path, beside)?;
    new.file.write_all(octets)?;
    new.take_place()
}

/// A file that is to take the place of another one; if it never does, nothing of it is left.
#[derive(Debug)]
pub(super) struct NewFile {
    /// To write to.
    pub(super) file: File,
    temporary: PathBuf,
    path: PathBuf,
}

impl NewFile {
    /// An empty one beside the file at `path`, with the extension `beside`.
    pub(super) fn beside(path: &Path, beside: &str) -> io::Result<NewFile> {
        let temporary = path.with_extension(beside);
        Ok(NewFile { file: File::create(&temporary)?, temporary, path: path.to_owned() })
    }

    /// The same, which nobody else may ever open.
    pub(super) fn secret_beside(path: &Path, beside: &str) -> io::Result<NewFile> {
        let temporary = path.with_extension(beside);
        // One that a crash left may be open to others.
        if let Err(error) = fs::remove_file(&temporary)
            && error.kind() != io::ErrorKind::NotFound
        {
            return Err(error);
        }
        let file = File::options().write(true).create_new(true).mode(0o600).open(&temporary)?;
        Ok(NewFile { file, temporary, path: path.to_owned() })
    }

    /// Puts it where it belongs, once all of it is on the disk.
    pub(super) fn take_place(self) -> io::Result<()> {
        self.file.sync_all()?;
        fs::rename(&self.temporary, &self.path)
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        // Once it has taken its place there is no such file.
        let _ = fs::remove_file(&self.temporary);
    }
}

/// How well what was written is kept. Either way it is what the next process reads.
#[derive(Debug)]
pub enum Kept {
    /// It survives a loss of power.
    Durably,
    /// It is in place, but the folder could not be synced: after a loss of power the file before may be back.
    Perhaps(io::Error),
}

/// [`replace`], and the new file survives a loss of power: its folder is synced, too.
///
/// # Errors
/// When it was not replaced. What can fail before the file is in place does; once it is, there is no way back that could
/// not fail as well, so a folder that cannot be synced then is no error: the new file is what counts.
pub(super) fn replace_durably(path: &Path, beside: &str, octets: &[u8]) -> io::Result<Kept> {
    replace_and(path, beside, octets, File::sync_all)
}

fn replace_and(
    path: &Path,
    beside: &str,
    octets: &[u8],
    sync: impl FnOnce(&File) -> io::Result<()>,
) -> io::Result<Kept> {
    let folder = File::open(path.parent().unwrap_or(Path::new(".")))?;
    replace(path, beside, octets)?;
    Ok(sync(&folder).map_or_else(Kept::Perhaps, |()| Kept::Durably))
}

/// The name of a file for that of a zone: what is no letter, digit, hyphen, underscore or dot as `%` and its number.
pub(super) fn of_zone(origin: &Name) -> String {
    let mut text = String::new();
    for octet in origin.to_lower().to_plain().bytes() {
        match octet {
            b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' => text.push(char::from(octet)),
            b'.' if !text.is_empty() => text.push('.'),
            _ => text.push_str(&format!("%{octet:02x}")),
        }
    }
    if text.len() > LONGEST {
        let hash = xxh3_64(origin.to_lower().as_wire());
        text.truncate(LONGEST - 17);
        text.push_str(&format!("-{hash:016x}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_place_is_not_called_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("file");
        let read = || fs::read_to_string(&path).expect("there");
        assert!(matches!(replace_durably(&path, "new", b"1"), Ok(Kept::Durably)));
        let fails = |_: &File| Err(io::Error::other("the folder cannot be synced"));
        assert!(matches!(replace_and(&path, "new", b"2", fails), Ok(Kept::Perhaps(_))));
        assert_eq!(read(), "2");
        fs::create_dir(folder.path().join("file.new")).expect("in the way");
        assert!(replace_and(&path, "new", b"3", |_| panic!("nothing to sync")).is_err());
        assert_eq!(read(), "2");
    }

    #[test]
    fn any_name_has_a_file() {
        let name = |text: &str| Name::parse(text, None).expect("a name");
        for (origin, expected) in [
            (".", "%2e"),
            ("Example.COM", "example.com"),
            ("a/b.x", "a%2fb.x"),
            ("_x.y-z", "_x.y-z"),
            ("\\.\\046\\000", "%5c.%5c.%5c000"),
        ] {
            assert_eq!(of_zone(&name(origin)), expected, "{origin}");
        }
        let long = |last: char| name(&["a".repeat(60), "b".repeat(60), "c".repeat(60), last.to_string()].join("."));
        let names = ['x', 'y'].map(|last| of_zone(&long(last)));
        assert!(names[0] != names[1] && names.iter().all(|name| name.len() == LONGEST), "{names:?}");
    }
}
