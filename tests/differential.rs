//! Waymark, NSD and Knot give the same answers to some thousand queries, or there is a reason. `cargo bench --bench
//! compare -- differential` asks a million.

use std::path::Path;

use crate::support::differential::{self, Options, Peer};
use crate::support::{has, ports, program, say};

const QUERIES: u64 = 4000;

#[test]
fn nsd_gives_the_same_answers() {
    compare(Peer::Nsd, "nsd");
}

#[test]
fn knot_gives_the_same_answers() {
    compare(Peer::Knot, "knotd");
}

#[test]
fn every_reason_is_on_the_page() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/compare/DIFFERENCES.md");
    let page = differential::rules::page();
    if std::env::var_os("UPDATE_REFERENCE").is_some() {
        std::fs::write(&path, &page).expect("a file of the repository");
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(written == page, "{}: to be written anew with UPDATE_REFERENCE=1", path.display());
}

fn compare(peer: Peer, name: &str) {
    if !has(name) {
        return;
    }
    let folder = tempfile::tempdir().expect("a scratch folder");
    let outcome = differential::run(&Options {
        queries: QUERIES,
        seed: 1,
        waymark: Path::new(env!("CARGO_BIN_EXE_waymark")),
        peers: &[(peer, &program(name).expect("it is there"))],
        ports: &[ports::free(), ports::free(), ports::free()],
        folder: folder.path(),
    })
    .expect("servers that run");
    say(&format!("measured: {outcome}"));
    assert!(outcome.holds(), "{outcome}");
}
