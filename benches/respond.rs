//! Wall time of `answer::respond` by kind of answer. `cargo bench`; figures inform, they gate nothing.

use std::fmt::Write;
use std::hint::black_box;
use std::net::IpAddr;
use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use waymark::answer::{Transport, Worker, respond};
use waymark::control::World;
use waymark::snapshot::Snapshot;

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
"continent:AS" = ["ap", "*"]
[services."geo.gslb.example.com"]
pool = "p3"
steer = "geo"
map = "world"
[services."nearest.gslb.example.com"]
pool = "p3"
steer = "nearest"
balance = "sticky"
[services."turns.gslb.example.com"]
pool = "p30"
balance = "round-robin"
"#;
const ZONE: &str = "$TTL 300\n@ SOA ns hostmaster 1 2 3 4 60\n@ NS ns\nns A 127.0.0.1\nstatic A 192.0.2.1\n\
                    chain CNAME chain2\nchain2 CNAME chain3\nchain3 A 192.0.2.3\n";

/// A pool of `count` instances in three regions, and a sticky service over it.
fn pool(count: usize) -> String {
    let mut text = format!(
        "[services.\"sticky{count}.gslb.example.com\"]\npool = \"p{count}\"\nbalance = \"sticky\"\n[pools.p{count}.instances]\n"
    );
    for at in 0..count {
        let region = ["eu", "us", "ap"][at % 3];
        let _ = writeln!(text, "i{at} = {{ region = \"{region}\", address = \"192.0.{}.{}\" }}", at / 250, at % 250);
    }
    text
}

/// 5000 networks of public space in three continents.
fn networks() -> String {
    let mut text = String::new();
    for at in 0..5000u32 {
        let continent = ["EU", "NA", "AS"][at as usize % 3];
        let octets = (0x1400_0000 + at * 0x4_0000).to_be_bytes();
        let prefix = IpAddr::from(octets);
        let _ =
            writeln!(text, "\"{prefix}/14\" = {{ continent = \"{continent}\", latitude = 50.0, longitude = {at}e-2 }}");
    }
    text
}

fn snapshot() -> Snapshot {
    let folder = tempfile::tempdir().expect("a folder");
    let configuration = [CONFIGURATION, &pool(3), &pool(30), &pool(1000)].concat();
    for (name, text) in [("waymark.toml", &configuration), ("zone", &ZONE.to_string()), ("networks", &networks())] {
        std::fs::write(folder.path().join(name), text).expect("a file");
    }
    let loaded = waymark::config::load(&folder.path().join("waymark.toml"));
    let problems: Vec<&str> = loaded.problems.iter().map(|problem| problem.message.as_str()).take(5).collect();
    World::compile(loaded.configuration.unwrap_or_else(|| panic!("{problems:?}"))).offline(&[])
}

/// A query for A; with a client subnet of 24 bits when `ecs`. Returns where the subnet's address is.
fn query(name: &str, ecs: bool) -> (Vec<u8>, usize) {
    let mut octets = vec![0x47, 0x11, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1];
    for label in name.split('.') {
        octets.push(label.len() as u8);
        octets.extend(label.as_bytes());
    }
    octets.extend([0, 0, 1, 0, 1]);
    octets.extend([0, 0, 41, 0x04, 0xd0, 0, 0, 0, 0]);
    let options: &[u8] = if ecs { &[0, 8, 0, 7, 0, 1, 24, 0, 81, 2, 69] } else { &[] };
    octets.extend((options.len() as u16).to_be_bytes());
    octets.extend(options);
    let at = octets.len() - 3;
    (octets, at)
}

fn kinds(criterion: &mut Criterion) {
    let snapshot = snapshot();
    let mut worker = Worker::new(&Arc::default(), 1);
    worker.adopt(&snapshot);
    let mut out = vec![0u8; 1232];
    let source = IpAddr::from([203, 0, 113, 9]);
    for (kind, name, ecs) in [
        ("static", "static.gslb.example.com", false),
        ("nxdomain", "nope.gslb.example.com", false),
        ("cname chain of three", "chain.gslb.example.com", false),
        ("geo, weighted, random subnet", "geo.gslb.example.com", true),
        ("nearest, sticky, random subnet", "nearest.gslb.example.com", true),
        ("sticky of 3", "sticky3.gslb.example.com", true),
        ("sticky of 30", "sticky30.gslb.example.com", true),
        ("sticky of 1000", "sticky1000.gslb.example.com", true),
        ("round-robin of 30", "turns.gslb.example.com", false),
    ] {
        let (mut octets, at) = query(name, ecs);
        let mut client = 0u32;
        criterion.bench_function(kind, |bencher| {
            bencher.iter(|| {
                if ecs {
                    client = client.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    octets[at..at + 3].copy_from_slice(&client.to_be_bytes()[..3]);
                }
                respond(&snapshot, &mut worker, black_box(&octets), source, Transport::Udp, &mut out)
            });
        });
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(30).measurement_time(std::time::Duration::from_secs(1))
        .warm_up_time(std::time::Duration::from_millis(300));
    targets = kinds
}
criterion_main!(benches);
