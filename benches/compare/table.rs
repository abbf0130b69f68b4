//! What came of it: medians of all rounds, and ratios taken within each round.

use std::time::Duration;

use comfy_table::{CellAlignment, Table, presets};
use serde_json::{Value, json};

use crate::contest::Entry;
use crate::peer::Peer;
use crate::support::load::Report;

const HEAD: [&str; 12] = [
    "KIND",
    "SERVER",
    "CPU µs",
    "(least–most)",
    "× echo",
    "× gdnsd",
    "k/s",
    "p50 µs",
    "p99",
    "p99.9",
    "OCTETS",
    "LOST/BAD/SHORT",
];

/// For people.
pub(crate) fn text(entries: &[Entry]) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(HEAD);
    for entry in entries {
        table.add_row(row(entry, entries));
    }
    table.column_iter_mut().skip(2).for_each(|column| column.set_cell_alignment(CellAlignment::Right));
    table.trim_fmt()
}

fn row(entry: &Entry, all: &[Entry]) -> [String; 12] {
    let cpu = sorted(entry, cpu);
    let range = match (cpu.first(), cpu.last()) {
        (Some(least), Some(most)) => format!("({least:.2}–{most:.2})"),
        _ => String::new(),
    };
    let latency = |share: f64| format!("{:.0}", middle(&sorted(entry, |report| micros(report.latency(share)))));
    [
        entry.kind.name().to_owned(),
        entry.peer.name().to_owned(),
        if cpu.is_empty() { "-".to_owned() } else { format!("{:.2}", middle(&cpu)) },
        range,
        ratio(entry, all, Peer::Echo).map_or("-".to_owned(), |ratio| format!("{ratio:.2}")),
        ratio(entry, all, Peer::Gdnsd).map_or("-".to_owned(), |ratio| format!("{ratio:.2}")),
        format!("{:.0}", middle(&sorted(entry, |report| Some(report.rate() / 1000.0)))),
        latency(0.5),
        latency(0.99),
        latency(0.999),
        format!("{:.0}", middle(&sorted(entry, |report| Some(report.octets_per_answer())))),
        [total(entry, |report| report.lost), total(entry, |report| report.bad), total(entry, |report| report.short)]
            .map(|count| count.to_string())
            .join("/"),
    ]
}

/// For programs: every round.
pub(crate) fn json(entries: &[Entry]) -> String {
    let entries: Vec<Value> = entries.iter().map(|entry| entry_json(entry, entries)).collect();
    format!("{:#}", Value::from(entries))
}

fn entry_json(entry: &Entry, all: &[Entry]) -> Value {
    json!({
        "kind": entry.kind.name(),
        "server": entry.peer.name(),
        "ratio_to_echo": ratio(entry, all, Peer::Echo),
        "ratio_to_gdnsd": ratio(entry, all, Peer::Gdnsd),
        "rounds": entry.reports.iter().map(report_json).collect::<Vec<Value>>(),
    })
}

fn report_json(report: &Report) -> Value {
    json!({
        "cpu_per_answer_us": cpu(report),
        "answers_per_second": report.rate(),
        "latency_p50_us": micros(report.latency(0.5)),
        "latency_p99_us": micros(report.latency(0.99)),
        "latency_p99_9_us": micros(report.latency(0.999)),
        "octets_per_answer": report.octets_per_answer(),
        "sent": report.sent,
        "answered": report.answered,
        "lost": report.lost,
        "bad": report.bad,
        "short": report.short,
    })
}

/// Processor time of an answer against that of `base` in the same round and kind; the median of the rounds.
fn ratio(entry: &Entry, all: &[Entry], base: Peer) -> Option<f64> {
    let base = all.iter().find(|other| other.kind == entry.kind && other.peer == base)?;
    let rounds = entry.reports.iter().zip(&base.reports);
    let mut ratios: Vec<f64> = rounds.filter_map(|(one, base)| Some(cpu(one)? / cpu(base)?)).collect();
    ratios.sort_by(f64::total_cmp);
    (!ratios.is_empty()).then(|| middle(&ratios))
}

fn cpu(report: &Report) -> Option<f64> {
    micros(report.cpu_per_answer()?)
}

fn micros(duration: Duration) -> Option<f64> {
    Some(duration.as_secs_f64() * 1e6)
}

fn total(entry: &Entry, count: impl Fn(&Report) -> u64) -> u64 {
    entry.reports.iter().map(count).sum()
}

/// A figure of every round, from least to most; rounds that lack it are left out.
fn sorted(entry: &Entry, figure: impl Fn(&Report) -> Option<f64>) -> Vec<f64> {
    let mut figures: Vec<f64> = entry.reports.iter().filter_map(figure).collect();
    figures.sort_by(f64::total_cmp);
    figures
}

/// The median of sorted figures; of an even number the mean of the two in the middle.
fn middle(sorted: &[f64]) -> f64 {
    match sorted.len() {
        0 => f64::NAN,
        count if count % 2 == 1 => sorted[count / 2],
        count => (sorted[count / 2 - 1] + sorted[count / 2]) / 2.0,
    }
}
