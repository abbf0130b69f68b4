//! `waymark history`: what happened and why, from a running server or from its journal.

use std::path::{Path, PathBuf};

use clap::{Args, value_parser};
use comfy_table::{Table, presets};

use super::{ConfigArg, End, output};
use crate::admin::{self, History as Shown, Question, client};
use crate::control::journal::{self, Record};

/// Show what happened, to which instance or service, and why: verdicts, reloads, starts
#[derive(Args, Debug)]
pub(super) struct History {
    /// Of what: `instance/web/*`, `region/eu-west`, `service/www.example.com`, or a part of a name [default: everything]
    target: Option<String>,
    /// How far back [default: as far as is known]
    #[arg(long, value_name = "DURATION")]
    since: Option<String>,
    /// Most records to show, the newest
    #[arg(long, value_name = "N", default_value_t = admin::RECORDS, value_parser = value_parser!(u16).range(1..=i64::from(admin::MOST_RECORDS)))]
    limit: u16,
    #[command(flatten)]
    config: ConfigArg,
    /// The server's control socket [default: `state-dir`/control of the configuration]
    #[arg(long, value_name = "PATH")]
    control: Option<PathBuf>,
    /// Print the records as JSON
    #[arg(long)]
    json: bool,
}

impl History {
    pub(super) fn run(self) -> End {
        let state_dir = match &self.control {
            Some(path) => path.parent().unwrap_or(Path::new("")).to_path_buf(),
            None => match crate::config::state_dir(&self.config.path()) {
                Ok(state_dir) => state_dir,
                Err(problem) => {
                    output::error(&problem);
                    return End::Wrong;
                }
            },
        };
        let question = Question { target: self.target, since: self.since, limit: Some(self.limit) };
        if let Err(problem) = question.wanted() {
            output::error(&problem);
            return End::Wrong;
        }
        let socket = self.control.unwrap_or_else(|| admin::control_socket(&state_dir));
        match client::history(&socket, &question)
            .and_then(|there| there.map_or_else(|| read(&state_dir, &question), Ok))
        {
            Err(problem) => {
                output::error(&problem);
                End::Failed
            }
            Ok(history) => {
                if self.json {
                    output::json(&history);
                } else {
                    print(&history);
                }
                End::Done
            }
        }
    }
}

/// What the journal says, where no server runs.
fn read(state_dir: &Path, question: &Question) -> Result<Shown, String> {
    let path = journal::path(state_dir);
    output::error(&format!("no server is running there; from {}", path.display()));
    let records = journal::read(&path, &question.wanted()?);
    records.map(|records| Shown { records }).map_err(|error| format!("{}: {error}", path.display()))
}

fn print(history: &Shown) {
    if history.records.is_empty() {
        output::line("nothing is known of that");
        return;
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(["TIME", "WHAT", "TARGET", "CHANGE", "REASON"]);
    for record in &history.records {
        let lost =
            if record.lost > 0 { format!(" ({} records before it are lost)", record.lost) } else { String::new() };
        table.add_row([
            record.time.clone(),
            record.kind.word().into(),
            record.target.clone(),
            change(record),
            record.reason.clone() + &lost,
        ]);
    }
    output::line(&table.to_string());
}

fn change(record: &Record) -> String {
    match (&*record.old, &*record.new) {
        ("", new) => new.into(),
        (old, new) => format!("{old} -> {new}"),
    }
}
