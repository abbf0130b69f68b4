//! A configuration with every kind of answer, and what it takes to answer from it in this process: what
//! `benches/respond.rs` takes the time of and `benches/instructions.rs` counts the instructions of.

use std::fmt::Write;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use waymark::answer::{Transport, Worker, respond};
use waymark::control::world::Health;
use waymark::control::{Loads, World};
use waymark::fleet::InstanceId;
use waymark::geo::Code;
use waymark::health::{Operator, Verdict};
use waymark::latency::{Book, ENOUGH, Measured, Policy, Rtt, Sample, View};
use waymark::snapshot::Snapshot;
use waymark::steering::{LayoutId, Table};
use waymark::time::Tick;

use super::networks;
use super::query::{Query, Type};

/// Where queries come from: an address for documentation, so that only the client subnet tells where a client is.
const SOURCE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, 9));
/// Room for an answer over TCP.
const ROOM: usize = 65_535;

const CONFIGURATION: &str = r#"
[zones."gslb.example.com"]
file = "zone"
[geo]
networks = "networks"
[regions.eu]
location = { latitude = 53.3, longitude = -6.3 }
[regions.us]
location = { latitude = 38.9, longitude = -77.0 }
[regions.ap]
location = { latitude = 1.3, longitude = 103.8 }
[maps.world]
default = ["us", "*"]
"continent:EU" = ["eu", "*"]
"continent:AF" = ["eu", "*"]
"continent:AS" = ["ap", "*"]
"continent:OC" = ["ap", "*"]
[services."geo.gslb.example.com"]
pool = "p9"
steer = "geo"
map = "world"
[services."nearest.gslb.example.com"]
pool = "p9"
steer = "nearest"
[services."latency.gslb.example.com"]
pool = "p9"
steer = "latency"
[services."turns.gslb.example.com"]
pool = "p30"
balance = "round-robin"
[services."load.gslb.example.com"]
pool = "p30"
balance = "least-load"
[services."all.gslb.example.com"]
pool = "p30"
answers = 0
[services."sticky3.gslb.example.com"]
pool = "p3"
balance = "sticky"
[services."sticky30.gslb.example.com"]
pool = "p30"
balance = "sticky"
[services."sticky1000.gslb.example.com"]
pool = "p1000"
balance = "sticky"
"#;
const ZONE: &str = "$TTL 300\n@ SOA ns hostmaster 1 2 3 4 60\n@ NS ns\nns A 127.0.0.1\nstatic A 192.0.2.1\n\
                    chain CNAME chain2\nchain2 CNAME chain3\nchain3 A 192.0.2.3\n";

/// A kind of answer, and what is asked to get it.
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    qname: &'static str,
    qtype: Type,
    /// Whether the query says where its client is.
    with_subnet: bool,
    transport: Transport,
    /// Response code and number of answers expected.
    expected: (u8, u16),
}

const NOERROR: u8 = 0;
const NXDOMAIN: u8 = 3;

/// All kinds.
pub(crate) const KINDS: [Kind; 13] = [
    Kind::plain("static_data", "static.gslb.example.com"),
    Kind { expected: (NXDOMAIN, 0), ..Kind::plain("nxdomain", "nope.gslb.example.com") },
    Kind { expected: (NOERROR, 0), qtype: Type::AAAA, ..Kind::plain("nodata", "static.gslb.example.com") },
    Kind { expected: (NOERROR, 3), ..Kind::plain("cname_chain", "chain.gslb.example.com") },
    Kind::steered("geo_weighted", "geo.gslb.example.com"),
    Kind::steered("nearest", "nearest.gslb.example.com"),
    Kind::steered("latency", "latency.gslb.example.com"),
    Kind::steered("sticky_of_3", "sticky3.gslb.example.com"),
    Kind::steered("sticky_of_30", "sticky30.gslb.example.com"),
    Kind::steered("sticky_of_1000", "sticky1000.gslb.example.com"),
    Kind::steered("round_robin", "turns.gslb.example.com"),
    Kind::steered("load", "load.gslb.example.com"),
    // 30 addresses: more than UDP would take without EDNS.
    Kind { transport: Transport::Tcp, expected: (NOERROR, 30), ..Kind::plain("tcp", "all.gslb.example.com") },
];

impl Kind {
    const fn plain(name: &'static str, qname: &'static str) -> Kind {
        let (with_subnet, transport, expected) = (false, Transport::Udp, (NOERROR, 1));
        Kind { name, qname, qtype: Type::A, with_subnet, transport, expected }
    }

    const fn steered(name: &'static str, qname: &'static str) -> Kind {
        Kind { with_subnet: true, ..Kind::plain(name, qname) }
    }

    /// The kind of this name, which must be there.
    pub(crate) fn named(name: &str) -> &'static Kind {
        KINDS.iter().find(|kind| kind.name == name).unwrap_or_else(|| panic!("no kind {name}"))
    }

    /// What is asked.
    pub(crate) fn query(&self) -> Query {
        Query::new(self.qname, self.qtype, self.with_subnet)
    }
}

/// A snapshot with everything up, and a worker that answers from it.
pub(crate) struct Fixture {
    snapshot: Snapshot,
    worker: Worker,
    out: Vec<u8>,
}

impl Fixture {
    /// Loads the configuration; it has seen one query of `kind`, and answered as expected.
    pub(crate) fn new(kind: &Kind) -> Fixture {
        let snapshot = snapshot();
        let mut worker = Worker::new(&Arc::default(), 1);
        worker.adopt(&snapshot);
        let mut fixture = Fixture { snapshot, worker, out: vec![0; ROOM] };
        let length = fixture.answer(kind, kind.query().octets());
        let (rcode, answers) = (fixture.out[3] & 15, u16::from_be_bytes([fixture.out[6], fixture.out[7]]));
        assert!(length > 12 && (rcode, answers) == kind.expected, "{}: {rcode}, {answers} answers", kind.name);
        fixture
    }

    /// Answers one query; the octets of the answer.
    pub(crate) fn answer(&mut self, kind: &Kind, query: &[u8]) -> usize {
        respond(&self.snapshot, &mut self.worker, query, SOURCE, kind.transport, &mut self.out).length()
    }
}

fn snapshot() -> Snapshot {
    let folder = tempfile::tempdir().expect("a folder");
    let configuration = [CONFIGURATION, &pool(3), &pool(9), &pool(30), &pool(1000)].concat();
    let networks = networks::toml(&networks::networks());
    for (name, text) in [("waymark.toml", &*configuration), ("zone", ZONE), ("networks", &networks)] {
        std::fs::write(folder.path().join(name), text).expect("a file");
    }
    let loaded = waymark::config::load(&folder.path().join("waymark.toml"));
    let problems: Vec<&str> = loaded.problems.iter().map(|problem| problem.message.as_str()).take(5).collect();
    let world = World::compile(loaded.configuration.unwrap_or_else(|| panic!("{problems:?}")));
    let mut loads = Loads::new(Tick::START);
    for id in 0..world.fleet().instances.len() as u32 {
        let _ = loads.say(world.fleet(), InstanceId(id), f64::from(id * 37 % 100), Tick::START);
    }
    let health = Health {
        verdicts: &[],
        down: &[],
        steady_for: &[],
        operator: Operator::default(),
        reported: loads.reported(),
        held: &[],
        recovered: &[],
        unresolved: Verdict::Unknown,
        grace_over: true,
        now: Tick::START,
        serial: 1,
    };
    let layouts = (0..world.base().len() as u32).map(LayoutId);
    let table: Table = layouts.map(|layout| world.judge(layout, health, None)).collect();
    let mut snapshot = world.freeze(table, 1);
    snapshot.latency = View::of(Arc::new(measured()), world.fleet(), 0);
    snapshot
}

/// Half of all clients measured the ways to all regions, the others go by their country.
fn measured() -> Measured {
    let mut book = Book::new(Policy::default());
    let regions = ["eu", "us", "ap"].map(|name| book.region(name));
    for at in 0..1u32 << 16 {
        // A /16 of every two, and a /24 in it.
        let address = IpAddr::V4((at >> 1 << 17 | (at & 1) << 8).into());
        let client = IpNet::new(address, if at & 1 == 0 { 16 } else { 24 }).expect("a length of the family");
        for (region, number) in regions.iter().zip(1..) {
            let rtt = Rtt::from_ms(f64::from(at % 97 * number % 101 + 1));
            let sample = Sample { client, as_number: None, country: Code::parse("DE"), region: *region, rtt };
            (0..ENOUGH).for_each(|_| book.take(&sample, Tick::START));
        }
    }
    book.freeze(&Measured::default())
}

/// A pool of `count` instances in three regions, with weights of 1 to 3 in each.
fn pool(count: usize) -> String {
    let mut text = format!("[pools.p{count}.instances]\n");
    for at in 0..count {
        let (region, weight) = (["eu", "us", "ap"][at % 3], 1 + at / 3 % 3);
        let (high, low) = (at / 250, at % 250);
        let _ =
            writeln!(text, "i{at} = {{ region = \"{region}\", address = \"192.0.{high}.{low}\", weight = {weight} }}");
    }
    text
}
