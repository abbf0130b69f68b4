//! What fuzzing has kept: every file of `fuzz/corpus` goes through its target again.

use std::fs;
use std::path::Path;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;

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
fn headers_of_balancers() {
    run("proxy", fuzz::proxy);
}

#[test]
fn requests_of_dns_over_https() {
    run("doh", fuzz::doh);
}

#[test]
fn copies_of_zones() {
    run("transfer", fuzz::transfer);
}

#[test]
fn signed_messages() {
    run("tsig", fuzz::tsig);
}

/// What a fuzzer does at length and with more wit.
#[test]
fn random_options_of_edns() {
    let octet = prop_oneof![2 => 0u8..13, 1 => any::<u8>()];
    let octets = prop::collection::vec(octet, 6..200);
    let config = ProptestConfig { cases: 20_000, failure_persistence: None, ..ProptestConfig::default() };
    let run = TestRunner::new(config).run(&octets, |octets| {
        fuzz::edns(&octets);
        Ok(())
    });
    run.expect("holds");
}

#[test]
fn zone_files() {
    run("zone_file", fuzz::zone_file);
}
