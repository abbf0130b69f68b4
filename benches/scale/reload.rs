//! Latencies at half load while everything is loaded anew.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::child::Server;
use crate::sizes::listen;
use crate::support::load::{self, Report};
use crate::{Arguments, median, mib, print};

/// The load sleeps so long at a time. Both cores of a virtual machine would be busy else, and its host stops such a
/// machine now and then, for longer than a reload makes anybody wait.
const PAUSE: Duration = Duration::from_micros(20);
/// Longest that a reload may take.
const PATIENCE: Duration = Duration::from_secs(120);

#[derive(serde::Serialize)]
struct Row {
    services: usize,
    names: usize,
    /// Queries a second: half of what the server answers at most.
    rate: f64,
    quiet_p999_us: f64,
    reload_p999_us: f64,
    /// The second to the first.
    ratio: f64,
    reload_s: f64,
    peak: u64,
    lost: u64,
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Row { services, names, rate, quiet_p999_us, reload_p999_us, ratio, reload_s, lost, .. } = self;
        write!(
            f,
            "reload of {services} services, {names} names at {rate:.0} queries/s: {reload_s:.1} s; p99.9 {quiet_p999_us:.0} µs \
             without, {reload_p999_us:.0} µs during ({ratio:.2}); peak {:.0} MiB; lost {lost}",
            mib(self.peak)
        )
    }
}

/// Half load without and with a reload, in turns.
pub(crate) fn run(arguments: &Arguments, folder: &Path) -> io::Result<()> {
    let set = arguments.largest()?;
    let path = set.write(folder)?;
    let _listening = listen(set.check)?;
    let server = Server::start(&path, arguments.server_core)?;
    let names: Vec<String> = set.steered_names().into_iter().take(100_000).chain(set.static_names()).collect();
    let full = arguments.load(set.dns, &names);
    let rate = load::run(&full)?.rate() / 2.0;
    let half = load::Options { rate: Some(rate), pause: Some(PAUSE), ..full };
    let (mut quiet, mut during, mut took, mut lost) = (Vec::new(), Vec::new(), Vec::new(), 0);
    for _ in 0..arguments.rounds {
        let report = load::run(&half)?;
        quiet.push(p999(&report));
        let (reloading, time) = while_reloading(&server, &half)?;
        during.push(p999(&reloading));
        took.push(time.as_secs_f64());
        lost += report.lost + reloading.lost;
    }
    let (quiet_p999_us, reload_p999_us) = (median(&mut quiet), median(&mut during));
    let row = Row {
        services: set.services,
        names: set.names,
        rate,
        quiet_p999_us,
        reload_p999_us,
        ratio: reload_p999_us / quiet_p999_us,
        reload_s: median(&mut took),
        peak: server.memory().1,
        lost,
    };
    print(&row, arguments.json, &row.to_string())
}

fn p999(report: &Report) -> f64 {
    report.latency(0.999).as_secs_f64() * 1e6
}

/// Load from before the reload until after it, and how long that took.
fn while_reloading(server: &Server, half: &load::Options) -> io::Result<(Report, Duration)> {
    let stop: Arc<AtomicBool> = Arc::default();
    let options = load::Options { duration: PATIENCE, stop: Arc::clone(&stop), ..half.clone() };
    let loading = std::thread::spawn(move || load::run(&options));
    std::thread::sleep(half.warm_up + Duration::from_millis(100));
    let begun = Instant::now();
    let is_done = server.reload()?;
    while !is_done() && begun.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(20));
    }
    let took = begun.elapsed();
    // The world before is dropped meanwhile, and what is new is read for the first time.
    std::thread::sleep(Duration::from_secs(1));
    stop.store(true, Ordering::Relaxed);
    let report = loading.join().map_err(|_| io::Error::other("the load panicked"))??;
    Ok((report, took))
}
