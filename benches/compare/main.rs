//! Waymark beside its peers, and beside the floor: what one answer costs the server's processor.
//!
//! ```sh
//! cargo bench --bench compare                                             # everything that is installed: minutes
//! cargo bench --bench compare -- --kinds geo --peers echo,waymark,gdnsd
//! cargo bench --bench compare -- --full                                   # with all of steering configured
//! cargo bench --bench compare -- --other ../before/target/release/waymark # before and after, in one run
//! cargo bench --bench compare -- agree                                    # who is steered where, beside gdnsd
//! cargo bench --bench compare -- differential                             # what is answered, beside NSD and Knot
//! ```
//! All servers get the same data and run on one core, one after the other in each round; the load comes from another
//! core. Before that their answers are looked at, and must be the same. The floor, `echo`, sends as many octets.

use std::path::Path;
use std::process::ExitCode;
use std::thread;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};

use arguments::{Agree, Arguments, Command, Differential};
use contest::say;
use peer::Peer;
use support::agree;
use support::differential;
use support::world::Size;

mod arguments;
mod contest;
mod full;
mod kind;
mod peer;
mod running;
#[path = "../support/mod.rs"]
mod support;
mod table;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match arguments.command {
        Some(Command::Echo(options)) => support::echo::serve(options).map_err(|error| format!("echo: {error}")),
        Some(Command::Agree(options)) => agree(&options),
        Some(Command::Differential(options)) => differential(&options),
        None => compare(&arguments),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            say(&format!("compare: {problem}"));
            ExitCode::FAILURE
        }
    }
}

#[allow(clippy::print_stdout)]
fn compare(arguments: &Arguments) -> Result<(), String> {
    check_cores(arguments);
    let entries = contest::run(arguments)?;
    println!("{}", if arguments.json { table::json(&entries) } else { table::text(&entries) });
    Ok(())
}

/// Fails where a bound does not hold.
#[allow(clippy::print_stdout)]
fn agree(options: &Agree) -> Result<(), String> {
    let scratch = tempfile::tempdir().map_err(|error| format!("cannot make a scratch folder: {error}"))?;
    let outcome = agree::run(&agree::Options {
        size: if options.small { Size::SMALL } else { Size::FULL },
        prefixes: options.prefixes,
        seed: options.seed,
        waymark: Path::new(env!("CARGO_BIN_EXE_waymark")),
        gdnsd: &Peer::Gdnsd.program(None).ok_or("gdnsd is not installed")?,
        ports: [running::free_port()?, running::free_port()?, running::free_port()?],
        folder: scratch.path(),
    })?;
    println!("{outcome}");
    if outcome.holds() { Ok(()) } else { Err("a bound does not hold".to_owned()) }
}

/// Fails where a difference has no reason.
#[allow(clippy::print_stdout)]
fn differential(options: &Differential) -> Result<(), String> {
    let scratch = tempfile::tempdir().map_err(|error| format!("cannot make a scratch folder: {error}"))?;
    let others = [(differential::Peer::Nsd, Peer::Nsd), (differential::Peer::Knot, Peer::Knot)];
    let installed = others.map(|(peer, server)| (peer, server.program(None)));
    let peers: Vec<_> =
        installed.iter().filter_map(|(peer, program)| program.as_deref().map(|program| (*peer, program))).collect();
    if peers.is_empty() {
        return Err("neither NSD nor Knot is installed".to_owned());
    }
    let ports: Vec<u16> = (0..2 + peers.len()).map(|_| running::free_port()).collect::<Result<_, _>>()?;
    let outcome = differential::run(&differential::Options {
        queries: options.queries as u64,
        seed: options.seed,
        waymark: Path::new(env!("CARGO_BIN_EXE_waymark")),
        peers: &peers,
        ports: &ports,
        folder: scratch.path(),
    })?;
    println!("{outcome}");
    if outcome.holds() { Ok(()) } else { Err("a difference has no reason".to_owned()) }
}

/// Ends with exit code 2 where the cores asked for are the same, or one is not there.
fn check_cores(arguments: &Arguments) {
    let usage = |problem: String| Arguments::command().error(ErrorKind::ValueValidation, problem).exit();
    let cores = [("--server-core", arguments.server_core), ("--load-core", arguments.load_core)];
    if cores[0].1 == cores[1].1 {
        usage("--server-core and --load-core must differ: server and load would share a core".to_owned());
    }
    for (flag, core) in cores {
        // On a thread of its own, which is then the only one that is pinned.
        let pinned = thread::spawn(move || support::system::pin(core)).join();
        if !matches!(pinned, Ok(Ok(()))) {
            usage(format!("{flag} {core}: this process may not run on such a core"));
        }
    }
}
