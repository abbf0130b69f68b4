//! What fuzzing has kept: every file of `fuzz/corpus` goes through its target again.

use std::fs;
use std::path::Path;

use crate::support::fuzz;

fn run(target: &str, function: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let files: Vec<_> = fs::read_dir(&folder).expect("a corpus").map(|file| file.expect("a file").path()).collect();
    assert!(!files.is_empty(), "{target} has no corpus");
    for file in files {
        function(&fs::read(&file).expect("a file"));
    }
}

#[test]
fn packets() {
    run("packet", fuzz::packet);
}

#[test]
fn options_of_edns() {
    run("edns", fuzz::edns);
}

#[test]
fn zone_files() {
    run("zone_file", fuzz::zone_file);
}
