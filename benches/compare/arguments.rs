//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::kind::Kind;
use crate::peer::Peer;
use crate::support::{echo, load};

/// Compares Waymark with other servers on loopback: the same data, the same load, in turns.
///
/// Figures are medians of all rounds. CPU is what the server's process used for one answer; the ratios beside it are
/// taken within each round, and hold where the figures themselves differ from machine to machine and hour to hour.
#[derive(Parser)]
#[command(name = "cargo bench --bench compare --", bin_name = "cargo bench --bench compare --")]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,

    /// How long each server is measured in each round
    #[arg(long, default_value_t = 2.0, value_parser = positive)]
    seconds: f64,

    /// How many times each server has its turn
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) rounds: u32,

    /// Kinds of answer, separated by commas [default: all]
    #[arg(long, value_enum, value_delimiter = ',', hide_default_value = true)]
    kinds: Vec<Kind>,

    /// Servers, separated by commas [default: all that are installed]
    #[arg(long, value_enum, value_delimiter = ',')]
    peers: Vec<Peer>,

    /// A second Waymark executable that takes part as `other`: the same one before a change, say
    #[arg(long, value_name = "PATH")]
    pub(crate) other: Option<PathBuf>,

    /// Have Waymark configured with all that steers beside the data of its peers: data bases of cities and autonomous
    /// systems, a map of every selector with splits, tiers and fences, measured round-trip times, services of all kinds
    #[arg(long)]
    pub(crate) full: bool,

    /// Queries per second [default: as many as the server answers]
    #[arg(long, value_parser = positive)]
    pub(crate) rate: Option<f64>,

    /// Sockets that queries come from
    #[arg(long, default_value_t = 8, value_parser = within::<1024>)]
    pub(crate) sockets: usize,

    /// Queries that each socket has outstanding; 8 × 24 fit into the receive buffer that a server has by default
    #[arg(long, default_value_t = 24, value_parser = within::<{ load::MAX_WINDOW }>)]
    pub(crate) window: usize,

    /// Datagrams of one system call of the echo server
    #[arg(long, default_value_t = 32, value_parser = within::<1024>)]
    pub(crate) batch: usize,

    /// Core that the servers run on
    #[arg(long, default_value_t = 0)]
    pub(crate) server_core: usize,

    /// Core that the load comes from
    #[arg(long, default_value_t = 1)]
    pub(crate) load_core: usize,

    /// Print JSON, every round of it
    #[arg(long)]
    pub(crate) json: bool,

    /// Cargo gives it to every bench
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Only turn datagrams round: what `echo` is in the table
    Echo(echo::Options),
    /// Hold steering against gdnsd's: regions and scopes of random client subnets, by one data base of full size
    Agree(Agree),
    /// Hold answers against NSD's and Knot's: the same generated zones, and all kinds of queries
    Differential(Differential),
}

/// What `differential` takes.
#[derive(Args)]
pub(crate) struct Differential {
    /// Queries, each asked of every server
    #[arg(long, default_value_t = 1_000_000, value_parser = within::<1_000_000_000>)]
    pub(crate) queries: usize,

    /// Another seed makes other zones and queries
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,

    /// Cargo gives it to every bench
    #[arg(long, hide = true)]
    bench: bool,
}

/// What `agree` takes.
#[derive(Args)]
pub(crate) struct Agree {
    /// Client subnets, asked of each of two services
    #[arg(long, default_value_t = 100_000, value_parser = within::<10_000_000>)]
    pub(crate) prefixes: usize,

    /// Another seed makes another world and other clients
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,

    /// A small data base instead of some seven million networks
    #[arg(long)]
    pub(crate) small: bool,

    /// Cargo gives it to every bench
    #[arg(long, hide = true)]
    bench: bool,
}

impl Arguments {
    /// How long to measure.
    pub(crate) fn duration(&self) -> Duration {
        Duration::from_secs_f64(self.seconds)
    }

    /// The kinds asked for, in the order of the table.
    pub(crate) fn kinds(&self) -> Vec<Kind> {
        Kind::ALL.into_iter().filter(|kind| self.kinds.is_empty() || self.kinds.contains(kind)).collect()
    }

    /// The servers asked for, in the order of their turns.
    pub(crate) fn peers(&self) -> Vec<Peer> {
        let is_asked = |peer: &Peer| match peer {
            Peer::Other => self.other.is_some(),
            peer => self.peers.is_empty() || self.peers.contains(peer),
        };
        Peer::ALL.into_iter().filter(is_asked).collect()
    }
}

fn positive(text: &str) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if number > 0.0 && number <= 1e9 { Ok(number) } else { Err("not above 0 and at most 1e9".to_owned()) }
}

fn within<const MOST: usize>(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|number| (1..=MOST).contains(number));
    number.ok_or_else(|| format!("not a number from 1 to {MOST}"))
}
