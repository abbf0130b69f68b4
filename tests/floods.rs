//! Idle connections, slow writers, slow readers and drippers, more than there is room for: UDP loses nothing, honest
//! clients over TCP are served, memory stays (SPEC 7.6). `cargo bench --bench scale -- floods` has ten times as many.

use std::fmt::Write;

use hickory_proto::rr::RecordType;

use crate::support::floods::{self, Flood, Options};
use crate::support::site::Site;
use crate::support::{client, say};

/// Records at the name whose answer is long: some 30 000 octets.
const LONG: usize = 500;
/// Most octets of the server for each connection.
const OCTETS: u64 = 64 << 10;
/// Connections that it has at most.
const CAP: usize = 1000;

#[test]
fn a_flood_of_connections_costs_nobody_else_anything() {
    // Where the limit cannot be raised the flood fails, and says so.
    let _ = waymark::serve::raise_descriptor_limit();
    let site = Site::unchecked();
    let mut zone = std::fs::read_to_string(site.path("gslb.example.com.zone")).expect("the zone");
    for number in 0..LONG {
        let _ = writeln!(zone, "long TXT \"{number} {}\"", "x".repeat(40));
    }
    site.write("gslb.example.com.zone", &zone);
    site.edit("state-dir = \"state\"", &format!("state-dir = \"state\"\ntcp-connections = {CAP}"));
    let server = site.start();
    let message = |name: &str, rtype| client::plain(name, rtype).to_vec().expect("a message");
    let outcome = floods::run(&Options {
        server: server.dns,
        process: server.id(),
        flood: Flood { idle: 1000, slow_writers: 150, slow_readers: 150, drippers: 150 },
        honest: 200,
        question: message("static.gslb.example.com", RecordType::A),
        long: message("long.gslb.example.com", RecordType::TXT),
    })
    .expect("sockets");
    say(&format!("measured: {outcome}"));
    assert_eq!((outcome.unserved, outcome.lost), (0, 0), "{outcome}");
    assert!(outcome.most.saturating_sub(outcome.before) <= OCTETS * CAP as u64, "{outcome}");
    let evicted = server.metric("waymark_tcp_closed_total{reason=\"for_newcomer\"}").expect("a metric");
    assert!(evicted > 0.0, "there is room for all of them: {outcome}");
}
