//! Changes of health in a large configuration: what one costs, how soon it is served, and what a thousand a second do to
//! the threads that answer. In this process, so that reports can be made without probes.

use std::fmt;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::sync::mpsc;
use waymark::control::{self, State, World};
use waymark::fleet::TargetId;
use waymark::health::{Observation, Outcome};
use waymark::metrics::Registry;
use waymark::probe::{self, Prober, Report};
use waymark::serve::{Limits, Listeners, Running};
use waymark::snapshot::Published;
use waymark::time;

use crate::support::load::{self, Report as LoadReport};
use crate::support::system;
use crate::{Arguments, median, print};

/// Flips whose cost is taken.
const COUNTED: u32 = 1000;
/// Flips that are waited for one by one.
const AWAITED: u32 = 100;
/// Flips a second while queries come.
const PER_SECOND: u32 = 1000;

/// What flips cost.
#[derive(serde::Serialize)]
struct Row {
    services: usize,
    /// Taking a report in, judging, publishing: the median, and the dearest.
    cost_us: f64,
    dearest_us: f64,
    /// From a report to a snapshot that has it, through the control loop: the median, and the slowest.
    published_ms: f64,
    slowest_ms: f64,
    /// Processor time of the thread that answers, for each query, at full load.
    quiet_us: f64,
    flipping_us: f64,
    /// The second to the first.
    ratio: f64,
    publishes_per_second: f64,
    lost: u64,
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Row { services, cost_us, dearest_us, published_ms, slowest_ms, .. } = self;
        let Row { quiet_us, flipping_us, ratio, publishes_per_second, lost, .. } = self;
        write!(
            f,
            "a flip among {services} services costs {cost_us:.0} µs (at most {dearest_us:.0}), is published after \
             {published_ms:.2} ms (at most {slowest_ms:.2}); {PER_SECOND} a second at full load: {publishes_per_second:.0} \
             publishes a second, {flipping_us:.3} µs per query, without {quiet_us:.3} ({ratio:.3}); lost {lost}"
        )
    }
}

/// Single flips, then many under load.
pub(crate) fn run(arguments: &Arguments, folder: &Path) -> io::Result<()> {
    let set = arguments.largest()?;
    let mut node = Node::load(&set.write(folder)?);
    let (cost_us, dearest_us) = node.cost();
    let flipping = node.run();
    let (published_ms, slowest_ms) = flipping.delays();
    let running = flipping.serve(set.dns, arguments.server_core)?;
    let load = arguments.load(set.dns, &set.steered_names());
    let (mut quiet, mut flipped, mut published, mut lost) = (Vec::new(), Vec::new(), Vec::new(), 0);
    for _ in 0..arguments.rounds {
        let (us, report) = cpu_per_query(&load)?;
        quiet.push(us);
        lost += report.lost;
        let (publishes, outcome) = flipping.while_flipping(|| cpu_per_query(&load));
        let (us, report) = outcome?;
        flipped.push(us);
        lost += report.lost;
        published.push(publishes as f64 / (load.warm_up + load.duration).as_secs_f64());
    }
    running.stop();
    flipping.stop();
    let (quiet_us, flipping_us) = (median(&mut quiet), median(&mut flipped));
    let row = Row {
        services: set.services,
        cost_us,
        dearest_us,
        published_ms,
        slowest_ms,
        quiet_us,
        flipping_us,
        ratio: flipping_us / quiet_us,
        publishes_per_second: median(&mut published),
        lost,
    };
    print(&row, arguments.json, &row.to_string())
}

/// Full load from a thread of its own, which is pinned; microseconds of the threads that answer for each answer.
fn cpu_per_query(load: &load::Options) -> io::Result<(f64, LoadReport)> {
    let load = load::Options { warm_up: Duration::ZERO, ..load.clone() };
    let before = worker_ns();
    let report = std::thread::spawn(move || load::run(&load)).join().expect("no panic")?;
    let used = worker_ns() - before;
    Ok((used as f64 / 1e3 / report.answered.max(1) as f64, report))
}

/// A configuration, compiled and ready to be changed.
struct Node {
    state: State,
    published: Published,
    targets: u32,
}

impl Node {
    /// Loads `path`; every target is up.
    fn load(path: &Path) -> Node {
        let loaded = waymark::config::load(path);
        let problems: Vec<&str> = loaded.problems.iter().map(|one| one.message.as_str()).take(5).collect();
        let world = World::compile(loaded.configuration.unwrap_or_else(|| panic!("{problems:?}")));
        let targets = world.fleet().targets.len() as u32;
        let published: Published = Arc::new(ArcSwap::default());
        let (sink, _) = mpsc::channel(1);
        // It probes nothing: reports are made here.
        let prober = Prober::start(&[], &[], probe::Settings::default(), sink);
        let mut state = State::new(Arc::new(world), Arc::clone(&published), prober, time::now());
        for target in 0..targets {
            state.report(report(target, Outcome::Pass), time::now());
        }
        state.publish(time::now());
        Node { state, published, targets }
    }

    /// The cost of single flips, the control loop's thread doing nothing else.
    fn cost(&mut self) -> (f64, f64) {
        let mut costs: Vec<f64> = (0..COUNTED).map(|flip| self.flip(flip % self.targets)).collect();
        (median(&mut costs), costs.iter().copied().fold(0.0, f64::max))
    }

    /// Takes a target down and up again; microseconds for one of the two.
    fn flip(&mut self, target: u32) -> f64 {
        let begun = Instant::now();
        for outcome in [Outcome::Fail, Outcome::Pass] {
            self.state.report(report(target, outcome), time::now());
            self.state.publish(time::now());
        }
        begun.elapsed().as_secs_f64() * 1e6 / 2.0
    }

    /// Hands the state to a control loop of its own.
    fn run(self) -> Flipping {
        let (changes, queue) = control::queue();
        let (reports, reported) = mpsc::channel(4096);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("threads");
        runtime.spawn(control::run(self.state, queue, reported));
        let next = Arc::default();
        Flipping { published: self.published, targets: self.targets, next, reports, changes, runtime }
    }
}

/// A control loop that takes reports.
struct Flipping {
    published: Published,
    targets: u32,
    /// Number of the flip that is next: all targets go down one by one, then up again.
    next: Arc<AtomicU32>,
    reports: mpsc::Sender<Report>,
    /// The loop ends when nobody can send a change any more.
    changes: control::Changes,
    runtime: tokio::runtime::Runtime,
}

impl Flipping {
    /// From a report to its snapshot: milliseconds, median and slowest. Flips come at odd moments, so that some find the
    /// loop just after a publish.
    fn delays(&self) -> (f64, f64) {
        let mut delays: Vec<f64> = (0..AWAITED)
            .map(|flip| {
                std::thread::sleep(Duration::from_micros(u64::from(flip * 7919 % 23_000)));
                let outcome = if flip % 2 == 0 { Outcome::Fail } else { Outcome::Pass };
                self.await_flip(flip / 2 % self.targets, outcome)
            })
            .collect();
        (median(&mut delays), delays.iter().copied().fold(0.0, f64::max))
    }

    fn await_flip(&self, target: u32, outcome: Outcome) -> f64 {
        let before = self.published.load().serial;
        let begun = Instant::now();
        self.reports.blocking_send(report(target, outcome)).expect("the loop runs");
        while self.published.load().serial == before {
            std::hint::spin_loop();
        }
        begun.elapsed().as_secs_f64() * 1e3
    }

    /// Answers on `port` from what is published, in threads on `core`.
    fn serve(&self, port: u16, core: usize) -> io::Result<Running> {
        let published = Arc::clone(&self.published);
        // Threads inherit the core of the one that starts them.
        let starting = std::thread::spawn(move || {
            system::pin(core)?;
            let listeners = Listeners::bind(&[([127, 0, 0, 1], port).into()], 1).map_err(io::Error::other)?;
            listeners.serve(&published, &Arc::<Registry>::default(), 1, Limits::default())
        });
        starting.join().expect("no panic")
    }

    /// Flips targets, `PER_SECOND`, while `work` runs; returns how many snapshots were published, and what it returns.
    fn while_flipping<T>(&self, work: impl FnOnce() -> T) -> (u64, T) {
        let before = self.published.load().serial;
        let (reports, targets, next) = (self.reports.clone(), self.targets, Arc::clone(&self.next));
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        self.runtime.spawn(async move {
            let mut tick = tokio::time::interval(Duration::from_secs(1) / PER_SECOND);
            while !stopped.load(Ordering::Relaxed) {
                tick.tick().await;
                let flip = next.fetch_add(1, Ordering::Relaxed);
                let outcome = if flip / targets % 2 == 0 { Outcome::Fail } else { Outcome::Pass };
                let _ = reports.send(report(flip % targets, outcome)).await;
            }
        });
        let result = work();
        stop.store(true, Ordering::Relaxed);
        (self.published.load().serial - before, result)
    }

    /// Ends the loop.
    fn stop(self) {
        drop(self.changes);
        self.runtime.shutdown_timeout(Duration::from_secs(1));
    }
}

fn report(target: u32, outcome: Outcome) -> Report {
    let reason = if outcome == Outcome::Pass { "connected" } else { "connection refused" };
    let observation =
        Observation { target: TargetId(target), outcome, reason: reason.into(), took: Duration::from_millis(1) };
    Report::new(&observation).0
}

/// Nanoseconds of processor time that this process's UDP threads have used.
fn worker_ns() -> u64 {
    let tasks = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let of_udp =
        tasks.filter(|task| fs::read_to_string(task.path().join("comm")).is_ok_and(|name| name.starts_with("udp-")));
    of_udp
        .filter_map(|task| {
            let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
            text.split(' ').next()?.parse::<u64>().ok()
        })
        .sum()
}
