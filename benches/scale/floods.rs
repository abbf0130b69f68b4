//! Floods: TCP connections that only want to be held, and names that nobody has.
//!
//! Connections: once on the program as users run it, which has room for most of them, and once with room for few, so that
//! newcomers replace others.

use std::fmt::{self, Write};
use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::thread;
use std::time::Duration;

use crate::child::{Server, memory_of};
use crate::support::floods::{self, Flood, Options};
use crate::support::load::{self, Report};
use crate::support::query::{Query, Random, Type};
use crate::{Arguments, free_port, mib, print};

/// Records of the long answer, of 60 octets each.
const LONG: usize = 500;
/// Connections of a server that has room for few.
const FEW: usize = 1000;
/// Names that nobody has, asked in turn.
const NAMES: usize = 200_000;
/// Queries a second for names that there are; ten times as many for the others.
const GOOD: f64 = 3000.0;
/// Both loads sleep so long at a time.
const PAUSE: Duration = Duration::from_micros(50);

#[derive(serde::Serialize)]
struct Row {
    server: &'static str,
    made: usize,
    held: usize,
    tcp_served: usize,
    tcp_unserved: usize,
    tcp_most_ms: f64,
    udp_answered: usize,
    udp_lost: usize,
    udp_most_ms: f64,
    octets_per_connection: u64,
}

/// The flood of connections.
pub(crate) fn connections(arguments: &Arguments, folder: &Path) -> io::Result<()> {
    waymark::serve::raise_descriptor_limit();
    let one = usize::from(arguments.flood);
    let flood = Flood { idle: 10 * one, slow_writers: one, slow_readers: one, drippers: one };
    for (name, keys) in [("as it is", String::new()), ("with room for few", format!("tcp-connections = {FEW}\n"))] {
        let (dns, admin) = (free_port()?, free_port()?);
        let path = write(folder, dns, admin, &keys)?;
        let server = Server::start(&path, arguments.server_core)?;
        report(
            arguments,
            name,
            &Options {
                server: SocketAddr::from((Ipv4Addr::LOCALHOST, dns)),
                process: server.pid(),
                flood,
                honest: 1000,
                question: Query::new("ns.example.com", Type::A, false).octets().to_vec(),
                long: Query::new("long.example.com", Type(16), false).octets().to_vec(),
            },
        )?;
    }
    Ok(())
}

fn report(arguments: &Arguments, server: &'static str, options: &Options) -> io::Result<()> {
    let outcome = floods::run(options)?;
    let most = |sorted: &[f64]| sorted.last().copied().unwrap_or(0.0);
    let row = Row {
        server,
        made: outcome.opened,
        held: outcome.held,
        tcp_served: outcome.tcp_ms.len(),
        tcp_unserved: outcome.unserved,
        tcp_most_ms: most(&outcome.tcp_ms),
        udp_answered: outcome.udp_ms.len(),
        udp_lost: outcome.lost,
        udp_most_ms: most(&outcome.udp_ms),
        octets_per_connection: outcome.octets_per_connection(),
    };
    print(&row, arguments.json, &format!("floods, a server {server}: {outcome}"))
}

fn write(folder: &Path, dns: u16, admin: u16, keys: &str) -> io::Result<std::path::PathBuf> {
    crate::write_zone(folder)?;
    let mut zone = fs::read_to_string(folder.join("zone"))?;
    for number in 0..LONG {
        let _ = writeln!(zone, "long TXT \"{number} {}\"", "x".repeat(40));
    }
    fs::write(folder.join("zone"), zone)?;
    let path = folder.join("waymark.toml");
    let text = format!(
        "[server]\nlisten = [\"127.0.0.1:{dns}\"]\nstate-dir = \"state\"\nworkers = 1\n{keys}[admin]\nlisten = \
         \"127.0.0.1:{admin}\"\n[zones.\"example.com\"]\nfile = \"zone\"\n"
    );
    fs::write(&path, text)?;
    Ok(path)
}

#[derive(serde::Serialize)]
struct Names {
    good_per_s: f64,
    bad_per_s: f64,
    good_p99_us: f64,
    good_lost: u64,
    before: u64,
    after: u64,
}

impl fmt::Display for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Names { good_per_s, bad_per_s, good_p99_us, good_lost, before, after } = self;
        write!(
            f,
            "random names: {bad_per_s:.0} queries/s for names that nobody has beside {good_per_s:.0} for others, whose p99 is \
             {good_p99_us:.0} µs, {good_lost} lost; memory {:.1} MiB before, {:.1} MiB after",
            mib(*before),
            mib(*after)
        )
    }
}

/// The flood of names.
pub(crate) fn names(arguments: &Arguments, folder: &Path) -> io::Result<()> {
    let (dns, admin) = (free_port()?, free_port()?);
    let server = Server::start(&write(folder, dns, admin, "")?, arguments.server_core)?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, dns));
    let mut random = Random(1);
    let name = |random: &mut Random| format!("{:x}.example.com", random.draw());
    let bad = (0..NAMES).map(|_| Query::new(&name(&mut random), Type::A, false)).collect();
    let good = vec![Query::new("ns.example.com", Type::A, false)];
    let options = |queries, rate| load::Options {
        rate: Some(rate),
        pause: Some(PAUSE),
        duration: Duration::from_secs(arguments.seconds),
        core: Some(arguments.load_core),
        ..load::Options::new(address, queries)
    };
    let (bad, good) = (options(bad, 10.0 * GOOD), options(good, GOOD));
    // What is allocated once is allocated.
    load::run(&good)?;
    let before = memory_of(&server.pid().to_string()).0;
    let (bad, good): (io::Result<Report>, io::Result<Report>) = thread::scope(|scope| {
        let flood = scope.spawn(|| load::run(&bad));
        let good = load::run(&good);
        (flood.join().expect("no panic"), good)
    });
    let (bad, good) = (bad?, good?);
    let row = Names {
        good_per_s: good.rate(),
        bad_per_s: bad.rate(),
        good_p99_us: good.latency(0.99).as_secs_f64() * 1e6,
        good_lost: good.lost,
        before,
        after: memory_of(&server.pid().to_string()).0,
    };
    print(&row, arguments.json, &row.to_string())
}
