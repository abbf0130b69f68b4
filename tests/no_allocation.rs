//! Answering allocates nothing, whatever is asked: counted by the allocator of this test program, for each thread apart.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;

use hickory_proto::op::Message;
use waymark::answer::{Transport, look_ahead, respond};
use waymark::dns::Name;
use waymark::dns::tsig::{Algorithm, Key, Signer};
use waymark::latency::ENOUGH;
use waymark::limit::{Limiter, Policy};

use crate::support::node::Node;
use crate::support::query::Ask;

thread_local! {
    /// Without destructor and lazy start, so that the allocator may use it at any time.
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
    /// Octets that this thread has allocated and not given back, and the most there were at once.
    static HELD: Cell<(i64, i64)> = const { Cell::new((0, 0)) };
}

/// The system's allocator, counting.
struct Counting;

fn count() {
    let _ = ALLOCATIONS.try_with(|allocations| allocations.set(allocations.get() + 1));
}

fn hold(octets: i64) {
    let _ = HELD.try_with(|held| {
        let (now, most) = held.get();
        held.set((now + octets, most.max(now + octets)));
    });
}

/// Runs something; the octets that it held at once at most, and those that its result still holds.
pub(crate) fn octets_of<T>(run: impl FnOnce() -> T) -> (T, i64, i64) {
    let (before, _) = HELD.get();
    HELD.set((before, before));
    let result = run();
    let (after, most) = HELD.get();
    (result, most - before, after - before)
}

// SAFETY: every call is handed to the system's allocator unchanged; counting touches a thread's own cell alone and does
// not allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        hold(layout.size() as i64);
        // SAFETY: the caller's contract is that of `System`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        hold(-(layout.size() as i64));
        // SAFETY: `pointer` came from `System` with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        hold(size as i64 - layout.size() as i64);
        // SAFETY: `pointer` came from `System` with this layout.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const CONFIGURATION: &str = r#"
[server]
whoami = ["whoami.gslb.example.com"]
explain-from = ["192.0.2.0/24"]
[cookies]
secret-file = "secrets"
[rate-limit]
enabled = true
answers-per-second = 1000000
[zones."gslb.example.com"]
file = "zone"
[geo]
networks = "networks"
[regions.eu]
location = { latitude = 50.0, longitude = 0.0 }
[regions.eu2]
location = { latitude = 50.0, longitude = 0.1 }
[regions.us]
location = { latitude = 38.9, longitude = -77.0 }
[maps.world]
default = ["us", "*"]
"country:CH" = ["eu", "*"]
[maps.world.fences]
"country:CH" = ["eu", "eu2"]
[checks.web]
type = "tcp"
port = 80
[pools.web]
check = "web"
[defaults.service]
pool = "web"
answers = 0
[services."geo.gslb.example.com"]
steer = "geo"
map = "world"
[services."sticky.gslb.example.com"]
balance = "sticky"
steer = "nearest"
tolerance = "50%"
[services."one.gslb.example.com"]
balance = "sticky"
answers = 1
[services."turns.gslb.example.com"]
balance = "round-robin"
[services."turn.gslb.example.com"]
https = {}
srv = { names = ["_x._tcp"], port = 80 }
balance = "round-robin"
answers = 1
[services."random.gslb.example.com"]
balance = "random"
[services."loads.gslb.example.com"]
balance = "least-load"
[services."load.gslb.example.com"]
balance = "least-load"
answers = 1
[services."fast.gslb.example.com"]
steer = "latency"
[latency]
explore = "10%"
[services."shares.gslb.example.com"]
steer = "weighted"
shares = { eu = 70, us = 30 }
region-names = true
https = { alpn = ["h2"], ech = "AA==", tiers = 4 }
srv = { names = ["_x._tcp"], port = 80, tiers = 4 }
[services."stand-in.gslb.example.com"]
steer = "failover"
when-all-down = { service = "geo.gslb.example.com" }
[services."sorry.gslb.example.com"]
steer = "failover"
https = {}
when-all-down = { address = ["192.0.2.200"] }
[pools.web.instances]
"#;
const NETWORKS: &str = r#""203.0.113.0/24" = { country = "CH", latitude = 50.0, longitude = 0.05 }"#;
const SECRET: &str = "e5e973e5a6b2a43f48e7dc849e37bfcf";
const ZONE: &str = r#"$TTL 300
@ SOA ns hostmaster 1 2 3 4 60
@ NS ns
ns A 127.0.0.1
static A 192.0.2.1
*.wild TXT "x"
chain CNAME chain2
chain2 CNAME geo
cut NS ns.cut
ns.cut A 192.0.2.53
d DNAME wild
mail MX 1 static
"#;
/// More names than are in caches.
const MANY_NAMES: &str = "$GENERATE 1-12000 h$ A 192.0.2.1\n";
/// Networks by turns in and out of a country: more than are in caches.
const MANY_NETWORKS: u16 = 6000;

/// 600 instances in three regions, half of them with IPv6.
fn node() -> Node {
    node_with(MANY_NAMES)
}

/// The same with these names beside.
fn node_with(names: &str) -> Node {
    let mut configuration = CONFIGURATION.to_string();
    for at in 0..600 {
        let region = ["eu", "eu2", "us"][at % 3];
        let (high, low) = (at / 250, at % 250);
        let six = if at % 2 == 0 { format!(", \"2001:db8::{at:x}\"") } else { String::new() };
        let weight = 1 + at % 5;
        configuration += &format!(
            "i{at} = {{ region = \"{region}\", address = [\"192.0.{high}.{low}\"{six}], weight = {weight} }}\n"
        );
    }
    let mut networks = format!("{NETWORKS}\n");
    for [high, low] in (0..MANY_NETWORKS).step_by(2).map(u16::to_be_bytes) {
        networks += &format!("\"11.{high}.{low}.0/24\" = {{ country = \"CH\" }}\n");
    }
    let zone = format!("{ZONE}{names}");
    let mut node =
        Node::of(&[("waymark.toml", &configuration), ("networks", &networks), ("zone", &zone), ("secrets", SECRET)]);
    for (client, region, ms) in [("203.0.113.0/24", "us", 30.0), ("203.0.113.0/24", "eu2", 35.0)] {
        (0..ENOUGH).for_each(|_| node.measure(client.parse().expect("a prefix"), region, ms));
    }
    node.go_by_measured();
    node
}

/// Every kind of question that is answered differently.
fn asks() -> Vec<Ask> {
    let names = [
        "geo",
        "sticky",
        "one",
        "turns",
        "turn",
        "random",
        "fast",
        "shares",
        "stand-in",
        "sorry",
        "eu.shares",
        "_x._tcp.shares",
        "_x._tcp.turn",
        "static",
        "chain",
        "mail",
        "none",
        "whoami",
        "_explain.geo",
        "x.wild",
        "wild",
        "a.cut",
        "wild.d",
        "x.d",
        "",
    ];
    let mut asks = Vec::new();
    for name in names {
        let name = format!("{name}.gslb.example.com");
        let name = name.trim_start_matches('.');
        for qtype in [1, 28, 2, 15, 16, 33, 64, 65, 255, 43, 252, 128] {
            let ask = Ask::new(name, qtype);
            asks.push(ask.clone());
            asks.push(ask.clone().plain());
            asks.push(ask.clone().option(10, vec![7; 24]));
            asks.push(ask.clone().option(11, Vec::new()).tcp());
            asks.push(Ask { transport: Transport::Tls, ..ask.clone().option(12, vec![0; 16]) });
            asks.push(ask.clone().subnet("203.0.113.0/24").option(3, Vec::new()));
            asks.push(ask.clone().subnet("11.0.2.0/24"));
            asks.push(ask.clone().subnet("2001:db8::/32").from("198.51.100.1"));
            asks.push(ask.tcp());
        }
    }
    asks.push(Ask::new("www.example.org", 1));
    asks.push(Ask { class: 3, ..Ask::new("id.server", 16) });
    asks.push(Ask { flags: 0x2800, ..Ask::new("geo.gslb.example.com", 1) });
    asks.push(Ask::new("geo.gslb.example.com", 1).option(8, vec![0, 9]));
    asks
}

#[test]
fn answering_allocates_nothing() {
    let mut node = node();
    assert!(node.report_load("instance/*/*", 50.0) > 1);
    let queries: Vec<(Ask, Vec<u8>)> = asks().into_iter().map(|ask| (ask.clone(), ask.encode())).collect();
    let mut out = vec![0; 65_535];
    for down in [None, Some("region/eu"), Some("region/*")] {
        if let Some(down) = down {
            node.down(down);
        }
        for (ask, query) in &queries {
            let before = ALLOCATIONS.get();
            let length = respond(&node.snapshot, &mut node.worker, query, ask.source, ask.transport, &mut out).length();
            let allocations = ALLOCATIONS.get() - before;
            assert!(length > 0);
            assert_eq!(allocations, 0, "{down:?} {ask:?}");
        }
    }
    // Junk, on every transport.
    for query in [&[][..], &[0; 11], &[0xff; 12], &[0; 300]] {
        for transport in [Transport::Udp, Transport::Tcp] {
            let before = ALLOCATIONS.get();
            drop(respond(&node.snapshot, &mut node.worker, query, [127, 0, 0, 1].into(), transport, &mut out));
            assert_eq!(ALLOCATIONS.get(), before);
        }
    }
}

/// Nor do signatures, whatever they are worth; and whoever may not copy a zone costs no more.
#[test]
fn looking_at_signatures_allocates_nothing() {
    let configuration = "[zones.\"gslb.example.com\"]\nfile = \"zone\"\n[keys.transfer]\nsecret-file = \"key\"\n";
    let mut node = Node::of(&[("waymark.toml", configuration), ("zone", ZONE), ("key", "AAECAwQFBgcICQoLDA0ODw==")]);
    let key = |name, secret: u8| {
        let secret: Vec<u8> = (0..secret).collect();
        Key::new(&Name::parse(name, None).expect("a name"), Algorithm::Sha256, &secret)
    };
    let mut out = vec![0; 65_535];
    for (key, time, rcode) in [
        (key("transfer", 16), 0, None),
        (key("transfer", 16), 1000, Some(9)),
        (key("transfer", 17), 0, Some(9)),
        (key("stranger", 16), 0, Some(9)),
    ] {
        for qtype in [1, 251, 252] {
            for transport in [Transport::Udp, Transport::Tcp] {
                let mut query = Ask::new("static.gslb.example.com", qtype).encode();
                let length = query.len();
                query.resize(length + key.room(), 0);
                let length = Signer::asking().sign(&key, time, &mut query, length);
                let source = [127, 0, 0, 1].into();
                let before = ALLOCATIONS.get();
                let outcome = respond(&node.snapshot, &mut node.worker, &query[..length], source, transport, &mut out);
                assert_eq!(ALLOCATIONS.get(), before);
                let answer = Message::from_vec(&out[..outcome.length()]).expect("well-formed");
                let expected = rcode.unwrap_or(if qtype == 1 { 0 } else { 9 });
                assert_eq!(u16::from(answer.response_code.low()), expected, "{key:?} at {time}, type {qtype}");
            }
        }
    }
}

/// What is sent instead of an answer neither.
#[test]
fn withholding_allocates_nothing() {
    let mut node = node();
    let policy = node.snapshot.limiter.as_ref().expect("a rate limit").policy().clone();
    node.snapshot.limiter = Some(Arc::new(Limiter::new(Policy { rate: 1, ..policy }, 7)));
    let mut out = vec![0; 65_535];
    let mut lengths = [0; 2];
    for _ in 0..4 {
        for (ask, query) in asks().into_iter().map(|ask| (ask.clone(), ask.encode())) {
            let before = ALLOCATIONS.get();
            let length =
                respond(&node.snapshot, &mut node.worker, &query, ask.source, ask.transport, &mut out).length();
            assert_eq!(ALLOCATIONS.get(), before, "{ask:?}");
            lengths[usize::from(length > 0)] += 1;
        }
    }
    assert!(lengths.iter().all(|&count| count > 500), "{lengths:?}");
}

/// It allocates nothing either, and changes no answer: no draw, no turn, no counter.
#[test]
fn looking_ahead_changes_nothing() {
    for names in [MANY_NAMES, ""] {
        let nodes = [names; 2].map(node_with);
        let has_large =
            nodes[0].snapshot.steering.large.iter().any(|orders| orders.table.runs() > MANY_NETWORKS.into());
        assert!(has_large, "a table of clients is looked into as well");
        look_ahead_at(nodes);
    }
}

fn look_ahead_at([mut one, mut other]: [Node; 2]) {
    let queries: Vec<(Ask, Vec<u8>)> = asks().into_iter().map(|ask| (ask.clone(), ask.encode())).collect();
    let junk = [&[][..], &[0; 11], &[0xff; 12], &[0; 300]];
    for down in [None, Some("region/eu"), Some("region/*")] {
        for node in [&mut one, &mut other] {
            if let Some(down) = down {
                node.down(down);
            }
        }
        for batch in queries.chunks(28) {
            let messages = batch.iter().map(|(ask, query)| (&query[..], ask.source));
            let messages = junk.iter().map(|junk| (*junk, [127, 0, 0, 1].into())).chain(messages);
            let before = ALLOCATIONS.get();
            look_ahead(&one.snapshot, &mut one.worker, junk.len() + batch.len(), messages);
            assert_eq!(ALLOCATIONS.get(), before);
            for (ask, query) in batch {
                let [looked, not] = [&mut one, &mut other].map(|node| {
                    let mut out = vec![0; 65_535];
                    let length =
                        respond(&node.snapshot, &mut node.worker, query, ask.source, ask.transport, &mut out).length();
                    out.truncate(length);
                    out
                });
                assert_eq!(looked, not, "{down:?} {ask:?}");
            }
        }
    }
    let counted = |node: &Node| format!("{:?}", node.worker.counters);
    assert_eq!(counted(&one), counted(&other));
}

#[test]
fn the_allocator_counts() {
    let before = ALLOCATIONS.get();
    drop(std::hint::black_box(vec![0u8; 100]));
    assert!(ALLOCATIONS.get() > before);
}
