//! `waymark geo check`: what is in a file of places, before it is put in place.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use clap::Args;
use ipnet::IpNet;
use serde::Serialize;

use super::{ShownPlace, date, widest};
use crate::cli::{End, output, status};
use crate::config::{self, NetworksFile};
use crate::geo::{Atlas, Data, Database, Described, Extent, Field, Known, PARTS, PlaceId};
use crate::time::unix_seconds;

/// How many places are shown of each family.
const SAMPLES: usize = 3;
/// Data bases older than this are called old.
const OLD_DAYS: u64 = 90;

/// Open MaxMind DB files, or files of networks (.toml), and show what they say of how much of the address space. Exit code
/// 1 when one is damaged, or says nothing that is understood
#[derive(Args, Debug)]
pub(super) struct Check {
    /// The files
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Print what is found as JSON
    #[arg(long)]
    json: bool,
}

/// What is in a file.
#[derive(Debug, Default, Serialize)]
struct Report {
    file: String,
    ok: bool,
    /// Why it cannot be used.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
    /// `networks`, or what the publisher calls it.
    #[serde(rename = "type")]
    kind: String,
    /// `nested`, `flat`.
    #[serde(skip_serializing_if = "Option::is_none")]
    schema: Option<&'static str>,
    /// What records have, `country.iso_code`, that is read.
    read: Vec<String>,
    /// What they have besides.
    ignored: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    built: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    age_days: Option<u64>,
    /// In the file.
    networks: Families<usize>,
    /// Stretches of addresses that are told apart.
    stretches: Families<usize>,
    /// Distinct ones.
    places: usize,
    /// What is said of which share of the address space (IPv6: of 2000::/3), 0 to 1.
    shares: Vec<Share>,
    /// What it cannot do, and what is odd.
    notes: Vec<String>,
    samples: Vec<Sample>,
}

#[derive(Clone, Copy, Debug, Default, Serialize)]
struct Families<T> {
    ipv4: T,
    ipv6: T,
}

impl<T: Copy> From<[T; 2]> for Families<T> {
    fn from([ipv4, ipv6]: [T; 2]) -> Families<T> {
        Families { ipv4, ipv6 }
    }
}

#[derive(Debug, Serialize)]
struct Share {
    part: &'static str,
    ipv4: f64,
    ipv6: f64,
}

#[derive(Debug, Serialize)]
struct Sample {
    prefix: String,
    place: ShownPlace,
}

impl Check {
    pub(super) fn run(self) -> End {
        let reports: Vec<Report> = self.files.iter().map(|path| report(path)).collect();
        if self.json {
            output::json(&reports);
        } else {
            reports.iter().for_each(print);
        }
        if reports.iter().all(|report| report.ok) { End::Done } else { End::Failed }
    }
}

fn report(path: &Path) -> Report {
    let found = if path.extension().is_some_and(|extension| extension == "toml") {
        networks(path)
    } else {
        config::read_octets(path).map_err(|error| error.to_string()).and_then(|octets| database(path, octets))
    };
    let file = path.display().to_string();
    match found {
        Ok(report) => Report { file, ok: true, ..report },
        Err(problem) => Report { file, problem: Some(problem), ..Report::default() },
    }
}

fn networks(path: &Path) -> Result<Report, String> {
    let file = NetworksFile::read(path).map_err(|error| error.to_string())?;
    if let Some(problems) = file.problems() {
        return Err(format!("is no file of networks:\n{}", problems.trim_end()));
    }
    let count = |is_ipv6: bool| file.networks.iter().filter(|one| one.prefix.addr().is_ipv6() == is_ipv6).count();
    let networks = [count(false), count(true)];
    let atlas = Atlas::compile(&Data { networks: file.networks, databases: Vec::new() });
    Ok(Report { kind: "networks".into(), networks: networks.into(), ..measured(atlas.known()) })
}

fn database(path: &Path, octets: Vec<u8>) -> Result<Report, String> {
    let name = path.display().to_string();
    let Described { database, ip_version, fields, .. } = Database::describe(name, octets)?;
    let mut report = Report {
        kind: database.kind().into(),
        schema: Some(schema(&fields)),
        networks: database.networks().into(),
        built: date(database.built()),
        ..measured(database.known())
    };
    let paths = |is_read| fields.iter().filter(move |field| field.is_read == is_read).map(|field| field.path.clone());
    report.read = paths(true).collect();
    report.ignored = paths(false).collect();
    report.age_days = report.built.as_ref().map(|_| unix_seconds().saturating_sub(database.built()) / 86_400);
    report.notes.extend(oddities(&database, ip_version, report.age_days));
    Ok(report)
}

/// How its records are laid out.
fn schema(fields: &[Field]) -> &'static str {
    if fields.iter().any(|field| field.is_read && field.path.contains('.')) { "nested" } else { "flat" }
}

fn oddities(database: &Database, ip_version: u16, age_days: Option<u64>) -> Vec<String> {
    let built = database.built();
    let mut notes = Vec::new();
    match age_days {
        None => notes.push("the file does not say when it was made".into()),
        Some(_) if built > unix_seconds() + 86_400 => notes.push("it says that it was made in the future".into()),
        Some(days) if days > OLD_DAYS => notes.push(format!("it is old: made {days} days ago")),
        Some(_) => {}
    }
    let [ipv4, ipv6] = database.networks();
    if ip_version == 4 || ipv6 == 0 {
        notes.push("it has no IPv6 networks: clients with IPv6 addresses are unknown to it".into());
    }
    if ipv4 == 0 {
        notes.push("it has no IPv4 networks: clients with IPv4 addresses are unknown to it".into());
    }
    notes
}

/// What is said of how much, what not at all, and some of it.
fn measured(known: Known<'_>) -> Report {
    let extent = Extent::of(known);
    let [v4, v6] = extent.shares;
    let share = |(at, part)| Share { part, ipv4: v4[at], ipv6: v6[at] };
    let shares: Vec<Share> = PARTS.into_iter().enumerate().map(share).collect();
    Report {
        stretches: extent.networks.into(),
        places: known.places.iter().filter(|place| !place.is_unknown()).count(),
        notes: shares.iter().filter_map(missing).collect(),
        samples: samples(known, extent.networks),
        shares,
        ..Report::default()
    }
}

/// What cannot be steered by, where a part is missing.
fn missing(share: &Share) -> Option<String> {
    let lost = match share.part {
        _ if share.ipv4 + share.ipv6 > 0.0 => return None,
        "coordinates" => "`nearest` measures from the middle of the country",
        "country" => "`country:…` fits nobody by it",
        "as" => "`as:…` fits nobody by it",
        "city" => "`city:…` fits nobody by it",
        "subdivision" => "`subdivision:…` fits nobody by it",
        _ => "`continent:…` fits nobody by it",
    };
    Some(format!("no {}: {lost}", share.part))
}

/// Some of what is known, spread over all of it.
fn samples(known: Known<'_>, networks: [usize; 2]) -> Vec<Sample> {
    let mut seen = [0usize; 2];
    let mut samples = Vec::new();
    known.map.each_run(|first, last, id| {
        let family = usize::from(first.is_ipv6());
        if id == PlaceId::UNKNOWN {
            return;
        }
        let every = networks[family].div_ceil(SAMPLES).max(1);
        if seen[family] % every == every / 2 {
            samples.push(Sample {
                prefix: first_prefix(first, last).to_string(),
                place: (&known.places[id.0 as usize]).into(),
            });
        }
        seen[family] += 1;
    });
    samples
}

/// The largest prefix that begins at the first address of a stretch.
fn first_prefix(first: IpAddr, last: IpAddr) -> IpNet {
    let longest = if first.is_ipv4() { 32 } else { 128 };
    let fits = |net: &IpNet| net.network() == first && net.broadcast() <= last;
    (0..=longest).map(|length| widest(first, length)).find(fits).unwrap_or_else(|| first.into())
}

fn print(report: &Report) {
    if let Some(problem) = &report.problem {
        return output::error(&format!("{}: {problem}", report.file));
    }
    let line = |what: &str, text: String| output::line(&format!("  {what:9}  {text}"));
    output::line(&format!("{}: good", report.file));
    let schema = report.schema.map_or_else(String::new, |schema| format!(", {schema} records"));
    line("type", format!("{}{schema}", report.kind));
    if let (Some(built), Some(days)) = (&report.built, report.age_days) {
        line("built", format!("{built}, {} ago", status::span(days * 86_400)));
    }
    let (networks, stretches) = (report.networks, report.stretches);
    line("networks", format!("{} IPv4, {} IPv6", networks.ipv4, networks.ipv6));
    line(
        "tells",
        format!("{} IPv4 and {} IPv6 stretches apart, in {} places", stretches.ipv4, stretches.ipv6, report.places),
    );
    for share in report.shares.iter().filter(|share| share.ipv4 + share.ipv6 > 0.0) {
        let percent = |share: f64| format!("{:.2} %", share * 100.0);
        line(share.part, format!("{} of IPv4, {} of IPv6", percent(share.ipv4), percent(share.ipv6)));
    }
    if report.schema.is_some() {
        line("read", report.read.join(", "));
        line("ignored", if report.ignored.is_empty() { "nothing".into() } else { report.ignored.join(", ") });
    }
    report.samples.iter().for_each(|sample| line("sample", format!("{} {}", sample.prefix, sample.place.text)));
    report.notes.iter().for_each(|note| line("note", note.clone()));
}
