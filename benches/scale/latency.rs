//! `latency`: 100 000 prefixes with estimates for 32 regions. What they take, and what it costs to have answers go by
//! 10 000 of them that changed.

use std::fmt;
use std::io::{self, BufWriter};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use waymark::geo::Code;
use waymark::latency::{Book, ENOUGH, Measured, Policy, Rtt, Sample};
use waymark::time::Tick;

use super::support::cpu;
use super::support::query::Random;
use super::{Arguments, median, mib, print};

const PREFIXES: u32 = 100_000;
const REGIONS: u16 = 32;
const CHANGED: u32 = 10_000;
const SYSTEMS: u32 = 5_000;
/// Other prefixes that come.
const NEW: u32 = 100;

#[derive(Debug, serde::Serialize)]
struct Cost {
    prefixes: u32,
    regions: u16,
    /// Of estimates and two tables, as in the middle of a publish.
    memory_mib: f64,
    /// Of a sample, taken in.
    sample_us: f64,
    /// A table after 10 000 prefixes changed; of the clock, and of a processor.
    publish_ms: f64,
    publish_cpu_ms: f64,
    /// A table after 100 prefixes came and as many went.
    publish_with_new_prefixes_ms: f64,
    publish_with_new_prefixes_cpu_ms: f64,
    /// Everything, to a file that nobody syncs.
    encode_ms: f64,
    file_mib: f64,
    /// That takes so much more memory.
    encode_memory_mib: f64,
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Cost { prefixes, regions, memory_mib, sample_us, publish_ms, publish_cpu_ms, .. } = self;
        write!(
            f,
            "latency, {prefixes} prefixes × {regions} regions: {memory_mib:.0} MiB, {sample_us:.2} µs a sample, publish \
             after {CHANGED} changed {publish_ms:.1} ms ({publish_cpu_ms:.1} ms of a processor), after {NEW} came {:.1} ms \
             ({:.1} ms); written down in {:.0} ms, {:.0} MiB, with {:.1} MiB \
             more",
            self.publish_with_new_prefixes_ms,
            self.publish_with_new_prefixes_cpu_ms,
            self.encode_ms,
            self.file_mib,
            self.encode_memory_mib
        )
    }
}

pub(crate) fn run(arguments: &Arguments) -> io::Result<()> {
    let before = resident()?;
    let mut random = Random(1);
    let mut book = Book::new(Policy { prefixes: PREFIXES as usize, ..Policy::default() });
    for region in 0..REGIONS {
        book.region(&format!("region-{region}"));
    }
    let began = Instant::now();
    for prefix in 0..PREFIXES {
        measure(&mut book, prefix, 50.0 + (random.draw() % 100) as f64, 0);
    }
    let samples = f64::from(PREFIXES) * f64::from(REGIONS) * f64::from(ENOUGH);
    let sample_us = began.elapsed().as_secs_f64() * 1e6 / samples;
    let mut measured = Arc::new(book.freeze(&Measured::default()));
    let mut memory_mib: f64 = 0.0;
    let mut publish = |book: &mut Book| -> io::Result<[f64; 2]> {
        let (began, used) = (Instant::now(), cpu::used(std::process::id()).unwrap_or_default());
        let next = Arc::new(book.freeze(&measured));
        let took = began.elapsed().as_secs_f64() * 1e3;
        let used = cpu::used(std::process::id()).unwrap_or_default().saturating_sub(used).as_secs_f64() * 1e3;
        memory_mib = memory_mib.max(mib(resident()?.saturating_sub(before)));
        measured = next;
        Ok([took, used])
    };
    let (mut changed, mut came) = (Vec::new(), Vec::new());
    for round in 1..=arguments.rounds {
        // Far enough from before that something is published of each.
        for _ in 0..CHANGED {
            let prefix = (random.draw() % u64::from(PREFIXES)) as u32;
            measure(&mut book, prefix, 50.0 + 40.0 * f64::from(round), round.into());
        }
        changed.push(publish(&mut book)?);
        for new in 0..NEW {
            measure(&mut book, PREFIXES + round * NEW + new, 70.0, round.into());
        }
        came.push(publish(&mut book)?);
    }
    let (began, idle) = (Instant::now(), resident()?);
    let mut file = BufWriter::with_capacity(1 << 16, tempfile::tempfile()?);
    book.encode(at(arguments.rounds.into()), &mut file)?;
    let file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
    let cost = Cost {
        prefixes: PREFIXES,
        regions: REGIONS,
        memory_mib,
        sample_us,
        publish_ms: middle(&changed, 0),
        // The kernel counts in steps of some milliseconds: only the mean says something.
        publish_cpu_ms: mean(&changed, 1),
        publish_with_new_prefixes_ms: middle(&came, 0),
        publish_with_new_prefixes_cpu_ms: mean(&came, 1),
        encode_ms: began.elapsed().as_secs_f64() * 1e3,
        file_mib: mib(file.metadata()?.len()),
        encode_memory_mib: mib(resident()?.saturating_sub(idle)),
    };
    print(&cost, arguments.json, &cost.to_string())
}

fn middle(rows: &[[f64; 2]], column: usize) -> f64 {
    median(&mut rows.iter().map(|row| row[column]).collect::<Vec<f64>>())
}

fn mean(rows: &[[f64; 2]], column: usize) -> f64 {
    rows.iter().map(|row| row[column]).sum::<f64>() / rows.len().max(1) as f64
}

/// As many samples of each region as count.
fn measure(book: &mut Book, prefix: u32, ms: f64, round: u64) {
    let address = IpAddr::V4(Ipv4Addr::from(0x0100_0000 + (prefix << 8)));
    let client = IpNet::new(address, 24).expect("a length of the family");
    let (as_number, country) = (Some(prefix % SYSTEMS), Code::parse("DE"));
    for region in 0..REGIONS {
        let sample = Sample { client, as_number, country, region, rtt: Rtt::from_ms(ms + f64::from(region)) };
        (0..ENOUGH).for_each(|_| book.take(&sample, at(round)));
    }
}

fn at(round: u64) -> Tick {
    Tick::START.plus(Duration::from_secs(60 * round))
}

/// Octets of this process in memory.
fn resident() -> io::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib: u64 = line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or_default();
    Ok(kib * 1024)
}
