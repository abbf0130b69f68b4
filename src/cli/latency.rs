//! `waymark latency`: round-trip times that clients measured, into a running server and out of it.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use clap::{Args, Subcommand};

use super::status::{span, table};
use super::{ControlArg, End, output};
use crate::admin::client::{self, Failure};
use crate::admin::latency::sample;
use crate::control::latency::{Given, Looked, LookedRegion, Summary, Taken, parse_client};

/// Most octets that are read from a file.
const LONGEST_FILE: u64 = 512 << 20;
/// Samples of one request: even with the longest names they fit into it.
const BATCH: usize = 2_500;
/// Most problems of a file that are told.
const MOST_TOLD: usize = 20;
/// Something and the number of its line.
type Numbered<T> = (usize, T);

/// First line of a table, which may be left out.
const HEAD: [&str; 3] = ["client", "region", "rtt-ms"];

/// Round-trip times that clients measured, for `steer = "latency"`: take them in, or show what is known
#[derive(Args, Debug)]
pub(super) struct Latency {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Take samples in from a file: one JSON object a line, as `{"client": "203.0.113.0/24", "region": "eu-west", "rtt-ms":
    /// 34}`, or a table of `client,region,rtt-ms`
    Import(Import),
    /// Show what is known for a client, or how much is known
    Show(Show),
}

#[derive(Args, Debug)]
struct Import {
    /// The file; `-` is standard input
    file: String,
    #[command(flatten)]
    control: ControlArg,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args, Debug)]
struct Show {
    /// The client: an address or a prefix [default: how much is known in all]
    client: Option<String>,
    #[command(flatten)]
    control: ControlArg,
    /// Print it as JSON
    #[arg(long)]
    json: bool,
}

impl Latency {
    pub(super) fn run(self) -> End {
        match self.what {
            What::Import(import) => import.run(),
            What::Show(show) => show.run(),
        }
    }
}

impl Import {
    fn run(self) -> End {
        let text = match read(&self.file) {
            Ok(text) => text,
            Err(problem) => {
                output::error(&format!("{}: {problem}", self.file));
                return End::Failed;
            }
        };
        let samples = match parse(&text) {
            Ok(samples) => samples,
            Err(problems) => {
                for (line, problem) in problems.iter().take(MOST_TOLD) {
                    output::error(&format!("{}:{line}: {problem}", self.file));
                }
                let count = output::count(problems.len(), "line");
                output::error(&format!("{}: {count} not understood, nothing is taken", self.file));
                return End::Wrong;
            }
        };
        drop(text);
        self.send(&samples)
    }

    /// In several requests, where there are many.
    fn send(&self, samples: &[Numbered<Given>]) -> End {
        let mut sum = Taken { taken: 0, prefixes: 0 };
        for batch in samples.chunks(BATCH) {
            let given: Vec<&Given> = batch.iter().map(|(_, given)| given).collect();
            let (first, last) = (batch[0].0, batch[batch.len() - 1].0);
            let lines: Vec<usize> = batch.iter().map(|(line, _)| *line).collect();
            let ask = |socket: &Path| client::take_latency(socket, &given).map_err(|failure| by_line(failure, &lines));
            let end = self.control.ask(ask, |taken| sum = Taken { taken: sum.taken + taken.taken, ..*taken });
            if end != End::Done {
                let place = format!("{}: lines {first} to {last} are not taken", self.file);
                output::error(&format!("{place}, {} before them are", output::count(sum.taken, "sample")));
                return end;
            }
        }
        if self.json {
            output::json(&sum);
        } else {
            let (samples, prefixes) = (output::count(sum.taken, "sample"), sum.prefixes);
            output::line(&format!("{samples} taken; {prefixes} prefixes have estimates"));
        }
        End::Done
    }
}

/// A refusal with the lines of samples, where it names their places in the request.
fn by_line(failure: Failure, lines: &[usize]) -> Failure {
    let Failure::Refused(mut refusal) = failure else { return failure };
    let mut said = String::new();
    for (at, part) in refusal.error.split('[').enumerate() {
        let line =
            part.split_once(']').and_then(|(place, rest)| Some((lines.get(place.parse::<usize>().ok()?)?, rest)));
        match line.filter(|_| at > 0) {
            Some((line, rest)) => said += &format!("line {line}:{rest}"),
            None if at > 0 => said += &format!("[{part}"),
            None => said += part,
        }
    }
    refusal.error = said;
    Failure::Refused(refusal)
}

fn read(file: &str) -> Result<String, String> {
    let mut text = String::new();
    let source: io::Result<Box<dyn Read>> = match file {
        "-" => Ok(Box::new(io::stdin().lock())),
        path => File::open(path).map(|file| Box::new(file) as Box<dyn Read>),
    };
    let read = source.and_then(|source| source.take(LONGEST_FILE + 1).read_to_string(&mut text));
    match read {
        Ok(length) if length as u64 > LONGEST_FILE => Err(format!("longer than {} MiB: cut it", LONGEST_FILE >> 20)),
        Ok(_) => Ok(text),
        Err(error) => Err(error.to_string()),
    }
}

/// The samples of a file, each with its line; what is wrong with the lines that are none.
fn parse(text: &str) -> Result<Vec<Numbered<Given>>, Vec<Numbered<String>>> {
    let (mut samples, mut problems) = (Vec::new(), Vec::new());
    let lines = (1..).zip(text.lines()).map(|(number, line)| (number, line.trim()));
    for (number, line) in lines.filter(|(_, line)| !line.is_empty()) {
        if samples.is_empty() && problems.is_empty() && line.split(',').map(str::trim).eq(HEAD) {
            continue;
        }
        match if line.starts_with(['{', '[']) { from_json(line) } else { from_table(line) } {
            Ok(given) => samples.push((number, given)),
            Err(problem) => problems.push((number, problem)),
        }
    }
    if problems.is_empty() { Ok(samples) } else { Err(problems) }
}

fn from_json(line: &str) -> Result<Given, String> {
    let value = serde_json::from_str(line).map_err(|problem| format!("no JSON: {problem}"))?;
    sample(&value)
}

fn from_table(line: &str) -> Result<Given, String> {
    let parts: Vec<&str> = line.split(',').map(|part| part.trim().trim_matches('"')).collect();
    let [client, region, rtt] = parts[..] else {
        return Err(format!("{} columns; expected client,region,rtt-ms, or a JSON object", parts.len()));
    };
    let rtt_ms = rtt.parse().map_err(|_| format!("rtt-ms: {rtt:?} is not a number"))?;
    Given::new(client, region, rtt_ms)
}

impl Show {
    fn run(self) -> End {
        let Show { client, control, json } = self;
        let Some(client) = client else {
            return control.ask(client::latency, |summary| if json { output::json(summary) } else { sum(summary) });
        };
        if let Err(problem) = parse_client(&client) {
            output::error(&problem);
            return End::Wrong;
        }
        let ask = |socket: &Path| client::latency_of(socket, &client);
        control.ask(ask, |looked| if json { output::json(looked) } else { look(looked) })
    }
}

fn sum(summary: &Summary) {
    let Summary { prefixes, most_prefixes, systems, countries, estimates, taken, refused, evicted, regions } = summary;
    output::line(&format!(
        "{prefixes} of at most {most_prefixes} prefixes, {systems} autonomous systems, {countries} countries; \
         {estimates} estimates"
    ));
    output::line(&format!(
        "since the start: {taken} samples taken, {refused} refused; {evicted} prefixes gave way to others"
    ));
    if regions.is_empty() {
        return;
    }
    let mut table = table(&["REGION", "PREFIXES"]);
    for one in regions {
        table.add_row([one.region.clone(), one.prefixes.to_string()]);
    }
    output::line(&format!("\n{table}"));
}

fn look(looked: &Looked) {
    let prefix = looked.prefix.as_ref().map_or("nothing of its own".into(), |prefix| format!("estimates of {prefix}"));
    output::line(&format!("{}: {prefix}; {}", looked.client, looked.place));
    if looked.regions.is_empty() {
        output::line("nothing is measured for it: it goes by distance");
        return;
    }
    let mut table = table(&["REGION", "RTT", "BY", "ESTIMATE", "SAMPLES", "LAST"]);
    for one in &looked.regions {
        let LookedRegion { region, rtt_ms, level, estimate_ms, samples, age_s } = one;
        table.add_row([
            region.clone(),
            rtt_ms.map_or("too few samples".into(), |ms| format!("{ms} ms")),
            level.clone(),
            format!("{estimate_ms} ms"),
            samples.to_string(),
            format!("{} ago", span((*age_s).into())),
        ]);
    }
    output::line(&table.to_string());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::desk::{Refusal, RefusalCode};

    #[test]
    fn files_are_tables_or_json() {
        let expected = |line| (line, Given::new("203.0.113.0/24", "eu-west", 34.5).expect("well-formed"));
        let json = r#"{"client": "203.0.113.0/24", "region": "eu-west", "rtt-ms": 34.5}"#;
        for (text, lines) in [
            ("client,region,rtt-ms\n203.0.113.0/24,eu-west,34.5\n\n203.0.113.0/24, eu-west, 34.5\r\n", &[2, 4][..]),
            ("\"203.0.113.0/24\",\"eu-west\",34.5", &[1]),
            (&format!("{json}\n{json}\n"), &[1, 2]),
            ("", &[]),
        ] {
            assert_eq!(parse(text), Ok(lines.iter().copied().map(expected).collect()), "{text}");
        }
    }

    #[test]
    fn refusals_name_lines() {
        let error = "2 of 3 samples are wrong: [0] there is no region \"a[7]\"; [2] there is no region \"b\"";
        let refusal = Refusal::new(RefusalCode::Wrong, error, None);
        assert_eq!(
            by_line(Failure::Refused(Box::new(refusal)), &[15, 17, 19]).to_string(),
            "2 of 3 samples are wrong: line 15: there is no region \"a[7]\"; line 19: there is no region \"b\""
        );
        assert_eq!(by_line(Failure::NobodyListens, &[1]), Failure::NobodyListens);
    }

    #[test]
    fn every_wrong_line_is_told() {
        let text = "client,region,rtt-ms\nx,eu,3\n203.0.113.7,eu,3\n203.0.113.7,eu\n203.0.113.7,eu,fast\n{\"a\": 1}\n{";
        let problems = parse(text).expect_err("refused");
        let lines: Vec<usize> = problems.iter().map(|(line, _)| *line).collect();
        assert_eq!(lines, [2, 4, 5, 6, 7]);
        for (problem, said) in
            problems.iter().zip(["no address", "2 columns", "not a number", "unknown key", "no JSON"])
        {
            assert!(problem.1.contains(said), "{problem:?}");
        }
    }
}
