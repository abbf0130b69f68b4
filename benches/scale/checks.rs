//! Ten thousand targets at an interval of 5 s against real backends: what checking them costs, how late probes begin, what
//! one target that hangs does to the others, and what all of them do when they hang.
//!
//! Lateness is the server's own metric, from when a probe was due to when it began; figures are bounds of its buckets. As a
//! cross-check the backend says when it was visited: nobody may come later than interval + 10 % after the time before.

use std::collections::HashMap;
use std::fmt::{self, Write as _};
use std::io::{self, Read, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::PoisonError;
use std::thread;
use std::time::{Duration, Instant};

use crate::backend::{self, Manners, Servants, Visits};
use crate::child::Server;
use crate::support::cpu;
use crate::{Arguments, free_port, mib, print};

const INTERVAL: Duration = Duration::from_secs(5);
/// How long figures are taken.
const WINDOW: Duration = Duration::from_secs(30);
/// The same where something hangs.
const SHORT: Duration = Duration::from_secs(20);
/// From the first answer until figures are taken.
const WARM_UP: Duration = Duration::from_secs(2);
/// Instances of each service.
const EACH: usize = 100;
/// Most processor time of checks, as a share of one core.
const MOST_CPU: f64 = 0.6;
/// Most lateness of 99 probes in 100, in milliseconds.
const MOST_LATE_MS: f64 = 250.0;
/// Most that one target that hangs may delay any other, in milliseconds.
const MOST_DELAY_MS: f64 = 100.0;

/// What was seen of all targets.
#[derive(serde::Serialize)]
struct Row {
    kind: &'static str,
    /// What they do, in words.
    case: &'static str,
    targets: usize,
    /// Share of one core.
    cpu: f64,
    done: f64,
    due: f64,
    /// Bounds of buckets, in milliseconds; no number where it is above all bounds.
    p50_ms: Option<f64>,
    p99_ms: Option<f64>,
    max_ms: Option<f64>,
    mean_ms: f64,
    /// Of all probes before: the first ones all begin within a second.
    start_p99_ms: Option<f64>,
    /// As backends saw it: later than the latest that the schedule allows, in milliseconds; `None` where nobody looks.
    outside_p999_ms: Option<f64>,
    outside_max_ms: Option<f64>,
    /// Octets.
    peak: u64,
    /// The most that were seen open.
    descriptors: usize,
    verdict: String,
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Row { kind, case, targets, done, due, mean_ms, descriptors, verdict, .. } = self;
        let bound = |ms: Option<f64>| ms.map_or("above all bounds".into(), |ms| format!("≤ {ms} ms"));
        let (p50, p99, max) = (bound(self.p50_ms), bound(self.p99_ms), bound(self.max_ms));
        let start = bound(self.start_p99_ms);
        write!(
            f,
            "{kind}, {case}, {targets} targets: CPU {:.1} % of a core; {done:.0} probes of {due:.0} due; late: p50 {p50}, \
             p99 {p99}, max {max}, mean {mean_ms:.2} ms (p99 at the start {start})",
            self.cpu * 100.0
        )?;
        if let Some((p999, max)) = self.outside_p999_ms.zip(self.outside_max_ms) {
            write!(f, "; seen by backends: p99.9 {p999:.1} ms, max {max:.1} ms past the latest planned")?;
        }
        write!(f, "; peak {:.0} MiB, {descriptors} descriptors: {verdict}", mib(self.peak))
    }
}

/// All kinds in turn.
pub(crate) fn run(arguments: &Arguments, folder: &Path) -> io::Result<()> {
    waymark::serve::raise_descriptor_limit();
    let (tls, roots) = backend::tls(folder).map_err(io::Error::other)?;
    let of = |kind, manners| Case { arguments, folder, kind, manners, roots: roots.clone(), hanging: Hanging::None };
    for case in [of("tcp", Manners::Close), of("http", Manners::Http), of("https", Manners::Https(tls))] {
        let mut quiet = case.measure(WINDOW)?;
        quiet.verdict = case.verdict(&quiet);
        print(&quiet, arguments.json, &quiet.to_string())?;
        if case.kind == "https" {
            continue;
        }
        let one = Case { hanging: Hanging::One, ..case.clone() };
        let mut with = one.measure(SHORT)?;
        with.verdict = delay_verdict(&quiet, &with);
        print(&with, arguments.json, &with.to_string())?;
        let all = Case { hanging: Hanging::All, manners: Manners::Silent, ..case };
        let mut hung = all.measure(SHORT)?;
        hung.verdict = schedule_verdict(&hung);
        print(&hung, arguments.json, &hung.to_string())?;
    }
    Ok(())
}

fn word(holds: bool) -> &'static str {
    if holds { "ok" } else { "MISSED" }
}

/// Whether the one that hangs delays others, as they see it.
fn delay_verdict(without: &Row, with: &Row) -> String {
    let delay = with.outside_max_ms.zip(without.outside_max_ms).map_or(0.0, |(with, without)| with - without);
    format!(
        "delays the others by {:.1} ms at most (≤ {MOST_DELAY_MS} ms): {}",
        delay.max(0.0),
        word(delay <= MOST_DELAY_MS)
    )
}

fn schedule_verdict(row: &Row) -> String {
    let holds = row.p99_ms.is_some_and(|late| late <= MOST_LATE_MS);
    format!("late at p99 (≤ {MOST_LATE_MS} ms): {}", word(holds))
}

/// Which targets do not answer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Hanging {
    None,
    One,
    All,
}

/// One kind of check and how its targets behave.
#[derive(Clone)]
struct Case<'a> {
    arguments: &'a Arguments,
    folder: &'a Path,
    kind: &'static str,
    manners: Manners,
    roots: PathBuf,
    hanging: Hanging,
}

impl Case<'_> {
    fn verdict(&self, row: &Row) -> String {
        if self.kind == "https" {
            return "reported".into();
        }
        format!("CPU (≤ {:.0} %): {}; {}", MOST_CPU * 100.0, word(row.cpu <= MOST_CPU), schedule_verdict(row))
    }

    /// Starts backends and a server, looks at them for so long, ends them.
    fn measure(&self, window: Duration) -> io::Result<Row> {
        let servants = Servants::start(self.arguments.load_core)?;
        let hole = Hole::dig()?;
        let (port, visits) = match (self.hanging, self.kind) {
            // A connection that is taken would be a pass.
            (Hanging::All, "tcp") => (hole.port, Visits::default()),
            _ => backend::everywhere(&servants, &self.manners)?,
        };
        let admin = free_port()?;
        let configuration = self.write(admin, port, hole.port)?;
        let roots = Some(self.roots.as_path());
        let server = Server::start_believing(&configuration, self.arguments.server_core, roots)?;
        let mut descriptors = server.descriptors();
        let begin = Scrape::after(admin, WARM_UP)?;
        let (used, began) = (cpu::used(server.pid()), Instant::now());
        let taken = visits.lock().unwrap_or_else(PoisonError::into_inner).len();
        while began.elapsed() < window {
            thread::sleep(window / 40);
            descriptors = descriptors.max(server.descriptors());
        }
        let (elapsed, used) =
            (began.elapsed(), cpu::used(server.pid()).zip(used).map(|(after, before)| after - before));
        let seen = visits.lock().unwrap_or_else(PoisonError::into_inner).split_off(taken);
        let end = Scrape::take(admin)?;
        let done = end.probes - begin.probes;
        let start_p99_ms = begin.bound(0.99);
        let late = end.since(&begin);
        let targets = self.arguments.targets as usize;
        let mut outside = outside(&seen);
        Ok(Row {
            kind: self.kind,
            case: match self.hanging {
                Hanging::None => "all answer",
                Hanging::One => "one hangs",
                Hanging::All => "all hang",
            },
            targets,
            cpu: used.unwrap_or_default().as_secs_f64() / elapsed.as_secs_f64(),
            done,
            due: targets as f64 * elapsed.as_secs_f64() / INTERVAL.as_secs_f64(),
            p50_ms: late.bound(0.5),
            p99_ms: late.bound(0.99),
            max_ms: late.bound(1.0),
            start_p99_ms,
            mean_ms: late.sum * 1e3 / late.count().max(1.0),
            outside_p999_ms: quantile(&mut outside, 0.999),
            outside_max_ms: quantile(&mut outside, 1.0),
            peak: server.memory().1,
            descriptors,
            verdict: String::new(),
        })
    }

    /// Writes the configuration: all targets at `port`, and one at `hole` if one is to hang.
    fn write(&self, admin: u16, port: u16, hole: u16) -> io::Result<PathBuf> {
        let Case { arguments, folder, kind, .. } = self;
        let host = if *kind == "tcp" { String::new() } else { format!("host = \"{}\"\n", backend::HOST) };
        let mut text = format!(
            "[server]\nlisten = [\"127.0.0.1:{}\"]\nworkers = 1\nstate-dir = \"{}\"\n\
             [admin]\nlisten = \"127.0.0.1:{admin}\"\n[zones.\"example.com\"]\nfile = \"zone\"\n[regions.eu]\n[regions.us]\n\
             [checks.all]\ntype = \"{kind}\"\nport = {port}\n{host}[checks.hole]\nextends = \"all\"\nport = {hole}\n",
            free_port()?,
            tempfile::tempdir_in(folder)?.keep().display()
        );
        let targets = arguments.targets as usize;
        for first in (0..targets).step_by(EACH) {
            let _ = writeln!(text, "[pools.p{first}]\ncheck = \"all\"\n[pools.p{first}.instances]");
            for at in first..targets.min(first + EACH) {
                let (region, address) = (["eu", "us"][at % 2], address(at));
                let _ = writeln!(text, "i{at} = {{ region = \"{region}\", address = \"{address}\" }}");
            }
            let _ = writeln!(text, "[services.\"s{first}.example.com\"]\npool = \"p{first}\"\nsteer = \"failover\"");
        }
        if self.hanging == Hanging::One {
            text += "[pools.hole]\ncheck = \"hole\"\n[pools.hole.instances]\ni = { region = \"eu\", address = \"127.0.0.1\" }\n\
                     [services.\"hole.example.com\"]\npool = \"hole\"\nsteer = \"failover\"\n";
        }
        let path = folder.join("checks.toml");
        std::fs::write(&path, text)?;
        crate::write_zone(folder)?;
        Ok(path)
    }
}

/// Where a target is: not where the server or the API is.
fn address(at: usize) -> Ipv4Addr {
    Ipv4Addr::new(127, 1, (at >> 8) as u8, at as u8)
}

/// A port, at every address, whose connections never stand: its backlog is full.
struct Hole {
    port: u16,
    _listener: TcpListener,
    _waiting: TcpStream,
}

impl Hole {
    fn dig() -> io::Result<Hole> {
        let listener = backend::listen((Ipv4Addr::UNSPECIFIED, 0).into(), 0)?;
        let port = listener.local_addr()?.port();
        let waiting = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        Ok(Hole { port, _listener: listener, _waiting: waiting })
    }
}

/// By how much each visit came later than the schedule allows after the one before, in milliseconds.
fn outside(visits: &[(Ipv4Addr, Instant)]) -> Vec<f64> {
    let mut last: HashMap<Ipv4Addr, Instant> = HashMap::new();
    let gaps = visits.iter().filter_map(|&(address, at)| Some(at - last.insert(address, at)?));
    let latest = INTERVAL.mul_f64(1.1);
    gaps.map(|gap| gap.saturating_sub(latest).as_secs_f64() * 1e3).collect()
}

/// The value that this share does not exceed; `None` of none.
fn quantile(values: &mut [f64], share: f64) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let at = (values.len() as f64 * share).ceil() as usize;
    values.get(at.max(1) - 1).copied()
}

/// What the server says of its probes.
#[derive(Default)]
struct Scrape {
    /// That ended.
    probes: f64,
    /// Of lateness: bound in seconds, how many were at most that late.
    buckets: Vec<(f64, f64)>,
    sum: f64,
}

impl Scrape {
    fn after(admin: u16, pause: Duration) -> io::Result<Scrape> {
        thread::sleep(pause);
        Scrape::take(admin)
    }

    fn take(admin: u16) -> io::Result<Scrape> {
        let text = metrics(admin)?;
        let of = |name: &str| -> Vec<(String, f64)> {
            let lines = text.lines().filter_map(|line| line.strip_prefix(name)?.rsplit_once(' '));
            lines.filter_map(|(labels, value)| Some((labels.to_string(), value.parse().ok()?))).collect()
        };
        let bound = |labels: &str| labels.split('"').nth(1).and_then(|bound| bound.parse().ok());
        let buckets = of("waymark_probe_lateness_seconds_bucket").into_iter();
        let buckets = buckets.map(|(labels, count)| (bound(&labels).unwrap_or(f64::INFINITY), count)).collect();
        let sum = of("waymark_probe_lateness_seconds_sum").first().map_or(0.0, |(_, sum)| *sum);
        let probes = of("waymark_probes_total").iter().map(|(_, count)| count).sum();
        Ok(Scrape { probes, buckets, sum })
    }

    fn since(mut self, before: &Scrape) -> Scrape {
        self.sum -= before.sum;
        self.buckets.iter_mut().zip(&before.buckets).for_each(|((_, now), (_, then))| *now -= then);
        self
    }

    fn count(&self) -> f64 {
        self.buckets.last().map_or(0.0, |(_, count)| *count)
    }

    /// The bound that this share does not exceed, in milliseconds; `None` when it is above all.
    fn bound(&self, share: f64) -> Option<f64> {
        let enough = |(_, count): &&(f64, f64)| *count >= self.count() * share;
        self.buckets.iter().find(enough).map(|(bound, _)| bound * 1e3).filter(|bound| bound.is_finite())
    }
}

fn metrics(admin: u16) -> io::Result<String> {
    let mut stream = TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, admin)))?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}
