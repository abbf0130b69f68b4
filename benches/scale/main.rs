//! What size costs: many services and static names, changes of health among them, a reload of all of it, large data
//! bases, a large zone, ten thousand checks, floods; and how soon what fails is out of the answers.
//!
//! ```sh
//! cargo bench --bench scale -- all            # or one of them: --help lists them
//! ```
//! Servers run on one core, the load (or what is checked) on another, on loopback; nothing else should run. The server is
//! the program as users run it, but for `flips`, which is in this process, so that reports can be made without probes.

// It prints what it finds.
#![allow(clippy::print_stdout)]

mod backend;
mod checks;
mod child;
mod deaths;
mod flips;
mod floods;
mod geo;
mod latency;
mod limit;
mod reload;
mod set;
mod sizes;
#[path = "../support/mod.rs"]
mod support;
mod zones;

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};

use set::Set;
use support::load;
use support::query::{Query, Type};

/// What size costs: load time, memory, processor time per query, changes of health, a reload, large data bases.
#[derive(Debug, Parser)]
#[command(name = "cargo bench --bench scale --", max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    what: Option<What>,
    /// Services of the largest set, of eight instances each
    #[arg(long, global = true, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    services: u32,
    /// Static names of the largest set
    #[arg(long, global = true, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    names: u32,
    /// How often each figure is taken; medians are printed
    #[arg(long, global = true, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Seconds of load for each figure
    #[arg(long, global = true, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=60))]
    seconds: u64,
    /// The core of the server
    #[arg(long, global = true, default_value_t = 0)]
    server_core: usize,
    /// The core of the load
    #[arg(long, global = true, default_value_t = 1)]
    load_core: usize,
    /// Targets that are checked
    #[arg(long, global = true, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(100..=60_000))]
    targets: u32,
    /// For floods: slow writers, slow readers, drippers; ten times as many are idle
    #[arg(long, global = true, default_value_t = 1000, value_parser = clap::value_parser!(u16).range(1..=1000))]
    flood: u16,
    /// For deaths: a server with a canary
    #[arg(long, global = true)]
    canaries: bool,
    /// Print one JSON object a line
    #[arg(long, global = true)]
    json: bool,
    /// What cargo gives every bench
    #[arg(long, hide = true, global = true)]
    bench: bool,
}

#[derive(Clone, Debug, Subcommand)]
enum What {
    /// All of the following
    All,
    /// Load time, memory and processor time per query of 1, 1000 and all services
    Sizes,
    /// A zone of mixed types with as many records as the largest set has names: reading, building, formatting
    Zones,
    /// One change of health, and a thousand a second while queries come
    Flips,
    /// Latencies at half load while all of it is loaded anew
    Reload,
    /// Data bases of 500 000 and 6 million networks: compiling, memory, lookups
    Geo,
    /// Round-trip times of 100 000 prefixes: memory, and what it costs to have answers go by those that changed
    Latency,
    /// 10 000 targets at 5 s: processor time of checks, how late they begin, one of them hanging, all of them hanging
    Checks,
    /// From the death of an instance to the first answer without it
    Deaths,
    #[command(hide = true)]
    DeathsHere {
        #[arg(long)]
        apart: bool,
    },
    /// Connections that only want to be held, and queries for names that nobody has
    Floods,
    /// The rate limit: what it costs, and a flood from one network beside others
    Limit,
    #[command(hide = true)]
    MeasureGeo { file: PathBuf },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match &arguments.what {
        Some(What::MeasureGeo { file }) => geo::measure(file).and_then(|cost| print(&cost, true, "")),
        Some(what) => run(what, &arguments),
        None => {
            println!("This bench takes minutes: cargo bench --bench scale -- all (or --help)");
            Ok(())
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(what: &What, arguments: &Arguments) -> io::Result<()> {
    let folder = tempfile::tempdir()?;
    let is = |one: fn(&What) -> bool| matches!(what, What::All) || one(what);
    if is(|what| matches!(what, What::Sizes)) {
        sizes::run(arguments, folder.path())?;
    }
    if is(|what| matches!(what, What::Zones)) {
        zones::run(arguments, folder.path())?;
    }
    if is(|what| matches!(what, What::Flips)) {
        flips::run(arguments, folder.path())?;
    }
    if is(|what| matches!(what, What::Reload)) {
        reload::run(arguments, folder.path())?;
    }
    if is(|what| matches!(what, What::Geo)) {
        for (kind, networks, places) in [("country", 500_000, 250), ("city", 6_000_000, 100_000)] {
            let cost = geo::cost(folder.path(), networks, places)?;
            print(&cost, arguments.json, &format!("geo, {kind}, {networks} networks: {cost}"))?;
        }
    }
    if is(|what| matches!(what, What::Latency)) {
        latency::run(arguments)?;
    }
    if is(|what| matches!(what, What::Checks)) {
        checks::run(arguments, folder.path())?;
    }
    if is(|what| matches!(what, What::Deaths)) {
        deaths::run_apart()?;
    }
    if is(|what| matches!(what, What::Floods)) {
        floods::connections(arguments, folder.path())?;
        floods::names(arguments, folder.path())?;
    }
    if is(|what| matches!(what, What::Limit)) {
        limit::run(arguments, folder.path())?;
    }
    if let What::DeathsHere { apart } = what {
        deaths::run(arguments, folder.path(), *apart)?;
    }
    Ok(())
}

/// A line of JSON, or of text.
fn print(row: &impl serde::Serialize, json: bool, text: &str) -> io::Result<()> {
    if json {
        println!("{}", serde_json::to_string(row)?)
    } else {
        println!("{text}")
    }
    Ok(())
}

impl Arguments {
    /// The largest set, on free ports.
    fn largest(&self) -> io::Result<Set> {
        self.set(self.services as usize, self.names as usize)
    }

    fn set(&self, services: usize, names: usize) -> io::Result<Set> {
        let [dns, admin, check] = [free_port()?, free_port()?, free_port()?];
        Ok(Set { services, names, dns, admin, check })
    }

    /// Load on the server at `port`, every query with a client of its own.
    fn load(&self, port: u16, names: &[String]) -> load::Options {
        let queries = names.iter().map(|name| Query::new(name, Type::A, true)).collect();
        let server = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let duration = Duration::from_secs(self.seconds);
        load::Options { duration, core: Some(self.load_core), ..load::Options::new(server, queries) }
    }
}

/// A zone `example.com` with nothing but its own records, in `folder/zone`.
fn write_zone(folder: &Path) -> io::Result<()> {
    std::fs::write(
        folder.join("zone"),
        "$TTL 300\n@ SOA ns hostmaster 1 7200 1800 259200 60\n@ NS ns\nns A 127.0.0.1\n",
    )
}

fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// The middle one; 0 of none.
fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

/// Octets in MiB.
fn mib(octets: u64) -> f64 {
    octets as f64 / f64::from(1 << 20)
}
