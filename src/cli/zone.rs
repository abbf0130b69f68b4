//! `waymark zone`: zone files by themselves, without a configuration around them.

use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde::Serialize;

use super::output::ProblemReport;
use super::{End, output, refuse};
use crate::config::{self, LoadedZone};
use crate::dns::{Name, RecordType};
use crate::problem::Severity;
use crate::zone::{self, Records};

/// Check zone files, or print them in one canonical form; needs no configuration
#[derive(Args, Debug)]
pub(super) struct Zone {
    #[command(subcommand)]
    command: ZoneCommand,
}

#[derive(Debug, Subcommand)]
enum ZoneCommand {
    Check(Check),
    Format(Format),
}

/// Read a zone file and report every problem. Exit code 2 when one is an error
#[derive(Args, Debug)]
struct Check {
    #[command(flatten)]
    file: FileArg,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

/// Print a zone file in one canonical form: one record a line, names absolute, TTLs in seconds, names and their records in
/// canonical order, what is included in its place. A file with errors is not printed: exit code 2
#[derive(Args, Debug)]
struct Format {
    #[command(flatten)]
    file: FileArg,
}

/// Which zone file.
#[derive(Args, Debug)]
struct FileArg {
    /// The zone file
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The zone [default: the name of the file, as example.com.zone; then the first $ORIGIN in it]
    #[arg(long, value_name = "NAME", value_parser = parse)]
    origin: Option<Name>,
    /// Folder that included files must be in, or further below [default: the folder of FILE]
    #[arg(long, value_name = "FOLDER")]
    include_root: Option<PathBuf>,
}

fn parse(text: &str) -> Result<Name, String> {
    let name = Name::parse(text, None).map_err(|error| error.to_string())?;
    if name.is_wildcard() { Err("a zone cannot be a wildcard".into()) } else { Ok(name) }
}

impl FileArg {
    fn load(&self) -> LoadedZone {
        config::load_zone(&self.file, self.origin.clone(), self.include_root.as_deref())
    }
}

#[derive(Serialize)]
struct Report {
    ok: bool,
    problems: Vec<ProblemReport>,
    /// `None` when nothing says whose zone it is.
    origin: Option<String>,
    /// Of the SOA; `None` without one.
    serial: Option<u32>,
    /// Those that are in order.
    records: usize,
}

impl Zone {
    pub(super) fn run(self) -> End {
        match self.command {
            ZoneCommand::Check(check) => check.run(),
            ZoneCommand::Format(format) => format.run(),
        }
    }
}

impl Check {
    fn run(self) -> End {
        let LoadedZone { origin, records, problems, sources } = self.file.load();
        let ok = problems.iter().all(|problem| problem.severity == Severity::Warning);
        let (serial, count) = (serial(&records), records.len());
        let origin = origin.map(|origin| origin.to_plain());
        if self.json {
            let problems = problems.iter().map(|problem| ProblemReport::of(problem, &sources)).collect();
            output::json(&Report { ok, problems, origin, serial, records: count });
            return if ok { End::Done } else { End::Wrong };
        }
        output::problems(&problems, &sources);
        if !ok {
            return refuse(&self.file.file, &problems);
        }
        output::line(&format!(
            "{}: good: zone {}, serial {}, {}",
            self.file.file.display(),
            origin.unwrap_or_default(),
            serial.unwrap_or_default(),
            output::count(count, "record"),
        ));
        End::Done
    }
}

fn serial(records: &Records) -> Option<u32> {
    records.iter().find(|record| record.rtype == RecordType::SOA)?.soa_serial()
}

impl Format {
    fn run(self) -> End {
        let LoadedZone { origin, records, problems, sources } = self.file.load();
        output::problems(&problems, &sources);
        // The text may be a lot, and so is what is made of it.
        drop(sources);
        let is_good = problems.iter().all(|problem| problem.severity == Severity::Warning);
        let Some(origin) = origin.filter(|_| is_good) else { return refuse(&self.file.file, &problems) };
        match print(&origin, &records) {
            Ok(()) => End::Done,
            // The reader has seen enough.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => End::Done,
            Err(error) => {
                output::error(&format!("cannot print: {error}"));
                End::Failed
            }
        }
    }
}

fn print(origin: &Name, records: &Records) -> io::Result<()> {
    let mut out = BufWriter::new(io::stdout().lock());
    zone::lines(origin, records).try_for_each(|line| writeln!(out, "{line}"))?;
    out.flush()
}
