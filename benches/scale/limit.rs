//! The rate limit: what it costs while nothing is limited, and what becomes of a flood from one network and of others meanwhile.

use std::fmt::{self, Write};
use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use crate::child::Server;
use crate::support::load::{self, Report};
use crate::support::query::{Query, Type};
use crate::{Arguments, free_port, median, print};

/// Names that are asked in turn: each has a bucket of its own for each network.
const NAMES: usize = 16;
/// Networks that others ask from, a socket each.
const NETWORKS: usize = 128;
/// Answers a second of a name to a network that nobody reaches here.
const PLENTY: u32 = 1_000_000;
/// Answers a second of a name to a network, as it is unless said otherwise.
const RATE: u32 = 200;
/// Queries a second of the flood, all for one name.
const FLOOD: f64 = 50_000.0;
/// Hosts of the network that it comes from. What is not answered is out for half a second: all of it needs room.
const HOSTS: usize = 64;
/// Queries a second of the others, for the same name: less than half of what each network may have.
const OTHERS: f64 = 10_000.0;
/// Both loads sleep so long at a time.
const PAUSE: Duration = Duration::from_micros(50);

/// A host in a network of its own.
fn apart(number: usize) -> Ipv4Addr {
    Ipv4Addr::new(127, 1, number as u8, 1)
}

/// A host in the network that the flood comes from.
fn together(number: usize) -> Ipv4Addr {
    Ipv4Addr::new(127, 2, 3, 1 + number as u8)
}

pub(crate) fn run(arguments: &Arguments, folder: &Path) -> io::Result<()> {
    cost(arguments, folder)?;
    flood(arguments, folder)
}

#[derive(serde::Serialize)]
struct Cost {
    without_us: f64,
    with_us: f64,
    ratio: f64,
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Cost { without_us, with_us, ratio } = self;
        write!(f, "rate limit, nothing limited: {with_us:.3} µs per query, {without_us:.3} without: {ratio:.3}")
    }
}

/// Two servers in turns, one with a limit that nobody reaches.
fn cost(arguments: &Arguments, folder: &Path) -> io::Result<()> {
    let limited =
        start(arguments, folder, "with", &format!("[rate-limit]\nenabled = true\nanswers-per-second = {PLENTY}\n"))?;
    let unlimited = start(arguments, folder, "without", "")?;
    let (mut with, mut without, mut ratios) = (vec![], vec![], vec![]);
    for _ in 0..arguments.rounds {
        let one = |(server, address): &(Server, SocketAddr)| {
            let report = load::run(&load::Options {
                duration: Duration::from_secs(arguments.seconds),
                core: Some(arguments.load_core),
                process: Some(server.pid()),
                sockets: NETWORKS,
                source: apart,
                window: 2,
                ..load::Options::new(*address, queries(NAMES))
            })?;
            let is_whole = report.lost + report.bad + report.short == 0;
            let cpu = report.cpu_per_answer().filter(|_| is_whole);
            cpu.map(|cpu| cpu.as_secs_f64() * 1e6).ok_or_else(|| io::Error::other("answers are missing"))
        };
        let (a, b) = (one(&unlimited)?, one(&limited)?);
        without.push(a);
        with.push(b);
        ratios.push(b / a);
    }
    let row = Cost { without_us: median(&mut without), with_us: median(&mut with), ratio: median(&mut ratios) };
    print(&row, arguments.json, &row.to_string())
}

#[derive(serde::Serialize)]
struct Flood {
    flood_per_s: f64,
    answered_per_s: f64,
    truncated_per_s: f64,
    others_per_s: f64,
    others_lost: u64,
    others_truncated: u64,
    others_p99_us: f64,
}

impl fmt::Display for Flood {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Flood {
            flood_per_s,
            answered_per_s,
            truncated_per_s,
            others_per_s,
            others_lost,
            others_truncated,
            others_p99_us,
        } = self;
        write!(
            f,
            "rate limit, {RATE} a second: of {flood_per_s:.0} queries/s from one network {answered_per_s:.0} are answered and \
             {truncated_per_s:.0} truncated; {NETWORKS} others: {others_per_s:.0} answers/s, {others_lost} lost, \
             {others_truncated} truncated, p99 {others_p99_us:.0} µs"
        )
    }
}

/// A flood from one network, and others, who ask for the same.
fn flood(arguments: &Arguments, folder: &Path) -> io::Result<()> {
    let (_server, address) =
        start(arguments, folder, "flood", &format!("[rate-limit]\nenabled = true\nanswers-per-second = {RATE}\n"))?;
    let options = load::Options {
        duration: Duration::from_secs(arguments.seconds.max(3)),
        core: Some(arguments.load_core),
        pause: Some(PAUSE),
        ..load::Options::new(address, queries(1))
    };
    let flood = load::Options {
        rate: Some(FLOOD),
        sockets: HOSTS,
        source: together,
        window: load::MAX_WINDOW,
        // All that the network saved up is used up before.
        warm_up: Duration::from_secs(2),
        ..options.clone()
    };
    let others =
        load::Options { rate: Some(OTHERS), sockets: NETWORKS, source: apart, warm_up: flood.warm_up, ..options };
    let (flood, others): (io::Result<Report>, io::Result<Report>) = thread::scope(|scope| {
        let flood = scope.spawn(|| load::run(&flood));
        let others = load::run(&others);
        (flood.join().expect("no panic"), others)
    });
    let (flood, others) = (flood?, others?);
    let per_second = |count: u64| count as f64 / flood.elapsed.as_secs_f64();
    let row = Flood {
        flood_per_s: per_second(flood.sent),
        answered_per_s: per_second(flood.answered - flood.short),
        truncated_per_s: per_second(flood.short),
        others_per_s: others.rate(),
        others_lost: others.lost + others.bad,
        others_truncated: others.short,
        others_p99_us: others.latency(0.99).as_secs_f64() * 1e6,
    };
    print(&row, arguments.json, &row.to_string())
}

fn queries(names: usize) -> Vec<Query> {
    (0..names).map(|number| Query::new(&format!("n{number}.example.com"), Type::A, false)).collect()
}

/// A server whose zone has what is asked.
fn start(arguments: &Arguments, folder: &Path, name: &str, keys: &str) -> io::Result<(Server, SocketAddr)> {
    let (dns, admin) = (free_port()?, free_port()?);
    let folder = folder.join(name);
    fs::create_dir_all(&folder)?;
    let path = write(&folder, dns, admin, keys)?;
    Ok((Server::start(&path, arguments.server_core)?, SocketAddr::from((Ipv4Addr::LOCALHOST, dns))))
}

fn write(folder: &Path, dns: u16, admin: u16, keys: &str) -> io::Result<PathBuf> {
    crate::write_zone(folder)?;
    let mut zone = fs::read_to_string(folder.join("zone"))?;
    for number in 0..NAMES {
        let _ = writeln!(zone, "n{number} A 192.0.2.1");
    }
    fs::write(folder.join("zone"), zone)?;
    let path = folder.join("waymark.toml");
    let text = format!(
        "[server]\nlisten = [\"127.0.0.1:{dns}\"]\nstate-dir = \"state\"\nworkers = 1\n[admin]\nlisten = \
         \"127.0.0.1:{admin}\"\n[zones.\"example.com\"]\nfile = \"zone\"\n{keys}"
    );
    fs::write(&path, text)?;
    Ok(path)
}
