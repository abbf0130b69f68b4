//! The command line: one file for each command, registered in [`Command`].
//!
//! Exit codes (SPEC 8.1): 0 done, 1 failed, 2 wrong usage or configuration.

mod check;
mod demo;
mod explain;
mod geo;
mod history;
mod latency;
mod output;
mod overrides;
mod report;
mod run;
mod status;
mod zone;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::admin::client::Failure;
use crate::config::{self, Configuration};
use crate::control::Action;
use crate::problem::{Problem, Severity};

/// Authoritative DNS server for global server load balancing: answers with the service instances that work, in the
/// region that suits the client.
#[derive(Debug, Parser)]
#[command(name = "waymark", version, arg_required_else_help = true, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::Run),
    Demo(demo::Demo),
    Check(check::Check),
    Explain(explain::Explain),
    Geo(geo::Geo),
    Zone(zone::Zone),
    Status(status::Status),
    /// Take instances out: they get no clients, whatever their checks say
    Drain(overrides::Order),
    /// Let checks decide again, whatever older overrides of the same level say
    Enable(overrides::Order),
    /// Let instances have clients whatever their checks say
    ForceUp(overrides::Order),
    /// Take instances for broken whatever their checks say
    ForceDown(overrides::Order),
    /// Scale the weight of instances, or the part of its clients that a region begins with
    Weight(overrides::Weight),
    /// Hold verdicts as they are, whatever checks say from now on; overrides act as ever
    Freeze(overrides::Freeze),
    /// End freezes, so that what checks say counts again; with a region, let it serve again that `failback = "manual"` keeps out
    Resume(overrides::Resume),
    /// Show the overrides in force: who, why, since when, until when
    Overrides(overrides::Overrides),
    Report(report::Report),
    History(history::History),
    Latency(latency::Latency),
}

/// Which configuration.
#[derive(Args, Clone, Debug)]
struct ConfigArg {
    /// The configuration file [default: config/waymark.toml, then /etc/waymark/waymark.toml]
    #[arg(long, short, env = "WAYMARK_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Where the configuration is looked for when nobody says, in order.
const DEFAULT_CONFIGS: [&str; 2] = ["config/waymark.toml", "/etc/waymark/waymark.toml"];

impl ConfigArg {
    fn path(&self) -> PathBuf {
        let there = |path: &&&str| Path::new(path).is_file();
        let default = || DEFAULT_CONFIGS.iter().find(there).unwrap_or(&DEFAULT_CONFIGS[0]);
        self.config.clone().unwrap_or_else(|| PathBuf::from(default()))
    }
}

/// Which server.
#[derive(Args, Clone, Debug)]
struct ControlArg {
    #[command(flatten)]
    config: ConfigArg,
    /// The server's control socket [default: `state-dir`/control of the configuration]
    #[arg(long, value_name = "PATH")]
    control: Option<PathBuf>,
}

impl ControlArg {
    /// Its control socket; a configuration that does not say where is told to standard error.
    fn socket(&self) -> Result<PathBuf, End> {
        if let Some(path) = &self.control {
            return Ok(path.clone());
        }
        match config::state_dir(&self.config.path()) {
            Ok(state_dir) => Ok(crate::admin::control_socket(&state_dir)),
            Err(problem) => {
                output::error(&problem);
                Err(End::Wrong)
            }
        }
    }

    /// Asks the server and shows its answer.
    fn ask<T>(&self, ask: impl FnOnce(&Path) -> Result<T, Failure>, show: impl FnOnce(&T)) -> End {
        let socket = match self.socket() {
            Ok(socket) => socket,
            Err(end) => return end,
        };
        match ask(&socket) {
            Ok(answer) => {
                show(&answer);
                End::Done
            }
            Err(failure) => {
                let place = if matches!(failure, Failure::Refused(_)) {
                    String::new()
                } else {
                    format!("{}: ", socket.display())
                };
                output::error(&format!("{place}{failure}"));
                if failure.is_wrong() { End::Wrong } else { End::Failed }
            }
        }
    }
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Done,
    Failed,
    /// Wrong usage or configuration.
    Wrong,
}

impl From<End> for ExitCode {
    fn from(end: End) -> ExitCode {
        ExitCode::from(match end {
            End::Done => 0,
            End::Failed => 1,
            End::Wrong => 2,
        })
    }
}

/// Runs the command that the arguments name.
#[must_use]
pub fn main() -> ExitCode {
    // The one crypto provider; a second call is a no-op that reports an error.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let end = match Cli::parse().command {
        Command::Run(run) => run.run(),
        Command::Demo(demo) => demo.run(),
        Command::Check(check) => check.run(),
        Command::Explain(explain) => explain.run(),
        Command::Geo(geo) => geo.run(),
        Command::Zone(zone) => zone.run(),
        Command::Status(status) => status.run(),
        Command::Drain(order) => order.run(Action::Drain),
        Command::Enable(order) => order.run(Action::Enable),
        Command::ForceUp(order) => order.run(Action::ForceUp),
        Command::ForceDown(order) => order.run(Action::ForceDown),
        Command::Weight(weight) => weight.run(),
        Command::Freeze(freeze) => freeze.run(),
        Command::Resume(resume) => resume.run(),
        Command::Overrides(overrides) => overrides.run(),
        Command::Report(report) => report.run(),
        Command::History(history) => history.run(),
        Command::Latency(latency) => latency.run(),
    };
    end.into()
}

/// Loads a configuration; prints all its problems to standard error and gives up when one is an error. The texts of its
/// files, of which there may be a lot, are gone afterwards.
fn load(path: &Path) -> Result<Configuration, End> {
    let config::Loaded { configuration, problems, sources } = config::load_to_serve(path);
    output::problems(&problems, &sources);
    match configuration {
        Some(configuration) => Ok(configuration),
        None => Err(refuse(path, &problems)),
    }
}

/// Says how many errors there are.
fn refuse(path: &Path, problems: &[Problem]) -> End {
    let errors = problems.iter().filter(|problem| problem.severity == Severity::Error).count();
    output::error(&format!("{}: {}", path.display(), output::count(errors, "error")));
    End::Wrong
}
