//! The single writer: changes in, snapshots out. Everybody else sends a [`Change`] or reads a snapshot.
//!
//! ```text
//!  probe tasks ── Report ──┐
//!  SIGHUP ─────── Reload ──┼─► run ─► State ─► judge what was touched ─► publish, at most 100 times a second
//!  geo files ──── Geo ─────┤
//!  targets ────── Found ───┤
//!  primaries, updates Zones ┤
//!  API, status ── Status ──┤
//!  operator ───── Override ┤
//!  agents ─── Push, Load ───┤
//!  latency ────── Measured ─┤
//!  cookies ────── Cookies ──┘
//! ```

mod agenda;
pub mod certificates;
pub mod cookies;
pub mod desk;
mod doubt;
mod drains;
mod editions;
pub mod explain;
mod files;
mod index;
pub mod journal;
pub mod last_good;
pub mod latches;
pub mod latency;
pub mod loads;
mod log;
mod lookout;
pub mod notify;
pub mod overrides;
pub mod renewal;
pub mod resolution;
mod retired;
pub mod secondary;
mod sight;
pub mod sources;
mod state;
pub mod status;
pub mod store;
mod succession;
pub mod supply;
pub mod update;
pub mod world;

use std::future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::dns::{Name, Secrets};
use crate::latency::Measured;
use crate::probe::Report;
use crate::time;
pub use desk::{Applied, Order, Refusal, RefusalCode, What};
pub use loads::Loads;
pub use notify::Notifier;
pub use overrides::{Action, Override, ShownOverride, Wish};
pub use renewal::GeoRefusal;
pub use resolution::Resolution;
pub use sources::Sources;
pub use state::{LoadReport, LoadReports, LoadsTaken, Push, Pushed, State};
pub use status::Status;
pub use store::Store;
pub use succession::Succession;
pub use world::World;

/// Mean time between two publishes while changes pour in.
const PUBLISH_INTERVAL: Duration = Duration::from_micros(10_400);
/// Publishes that need not wait for one another: a single change is served at once. With the interval that is at most 100
/// in any second.
const PUBLISH_BURST: u32 = 4;
/// Changes that may wait; senders wait when there are more.
const QUEUE: usize = 4096;

/// All that can change what is served.
#[derive(Debug)]
pub enum Change {
    /// A new configuration, compiled, to follow the one that is served; answered when it is served.
    Reload(Box<Succession>, oneshot::Sender<()>),
    /// Loading failed: the running configuration stays, the problems are shown in the status.
    ReloadFailed(Vec<String>),
    /// The same configuration over geo files that were replaced; answered when it is served.
    Geo(Box<Succession>, GeoNews, oneshot::Sender<()>),
    /// The same configuration over other addresses behind CNAMEs, those of the targets of these names; answered when it is served.
    Found(Box<Succession>, Vec<Name>, oneshot::Sender<()>),
    /// The same configuration over other data of zones that do not come from a file, of these; answered when it is served.
    Zones(Box<Succession>, Vec<Name>, oneshot::Sender<()>),
    /// Geo files were replaced, and none was taken.
    GeoRefused(Vec<GeoRefusal>),
    /// Somebody wants to know; changes nothing.
    Status(oneshot::Sender<Status>),
    /// The operator overrides what checks say, or ends that; answered when it is on the disk and served.
    Override(Box<Order>),
    /// An instance reports of itself; answered when the report is on its way to be an observation.
    Push(Box<Push>),
    /// Instances report their load; answered when it is taken in.
    Load(LoadReports),
    /// Which overrides are in force; changes nothing.
    Overrides(oneshot::Sender<Vec<ShownOverride>>),
    /// What is known of a name, to explain an answer; changes nothing.
    Look(Box<explain::Look>),
    /// Samples of round-trip times, or a question about them; answered by the thread that has them.
    Latency(Box<latency::Ask>),
    /// What is measured of round-trip times, to be gone by from now on.
    Measured(Arc<Measured>),
    /// What DNS cookies are made with from now on, unless the configuration says it.
    Cookies(Arc<Secrets>),
}

/// What became of geo files that were replaced.
#[derive(Debug)]
pub struct GeoNews {
    /// Names of those that were taken.
    pub taken: Vec<String>,
    /// All whose newest version is not served.
    pub refused: Vec<GeoRefusal>,
}

/// Where changes go.
pub type Changes = mpsc::Sender<Change>;

/// A queue of changes.
#[must_use]
pub fn queue() -> (Changes, mpsc::Receiver<Change>) {
    mpsc::channel(QUEUE)
}

/// Owns `state` until all senders of changes are gone. `reports` come from the probes.
pub async fn run(mut state: State, mut changes: mpsc::Receiver<Change>, mut reports: mpsc::Receiver<Report>) {
    let mut pace = Pace::new(Instant::now());
    loop {
        let due = pace.due();
        let now = time::now();
        let (grace, memory, log_due) = (state.grace_left(now), state.memory_left(now), state.log_due(now));
        let (judging_due, overrides_due) = (state.judging_due(now), state.overrides_due(now));
        let is_saving = state.is_saving();
        tokio::select! {
            change = changes.recv() => match change {
                Some(change) => state.apply(change, time::now()),
                None => return,
            },
            Some(report) = reports.recv() => state.report(report, time::now()),
            () = after(grace) => state.end_grace(),
            () = after(memory) => state.go_by_memory(),
            () = after(log_due) => state.flush_log(time::now()),
            () = after(judging_due) => state.take_due(time::now()),
            () = after(overrides_due) => state.end_overrides(time::now()),
            written = state.written(), if is_saving => state.end_saving(written, time::now()),
            () = tokio::time::sleep_until(due), if state.is_dirty() => {}
        }
        if state.is_dirty() && Instant::now() >= due {
            state.publish(time::now());
            pace.spend(Instant::now());
        }
    }
}

/// Waits so long; without end when that is `None`.
async fn after(left: Option<Duration>) {
    match left {
        Some(left) => tokio::time::sleep(left).await,
        None => future::pending().await,
    }
}

/// When a publish is due: each pays for an interval, and a few may be owed.
struct Pace {
    paid_until: Instant,
}

impl Pace {
    fn new(now: Instant) -> Pace {
        Pace { paid_until: now }
    }

    fn due(&self) -> Instant {
        self.paid_until.checked_sub(PUBLISH_INTERVAL * (PUBLISH_BURST - 1)).unwrap_or(self.paid_until)
    }

    fn spend(&mut self, now: Instant) {
        self.paid_until = self.paid_until.max(now) + PUBLISH_INTERVAL;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Changes all the time: at most 100 publishes in any second. Changes now and then: none waits.
    #[test]
    fn publishes_are_paced() {
        let begun = Instant::now();
        let mut pace = Pace::new(begun);
        let mut at = begun + Duration::from_secs(10);
        let mut published = Vec::new();
        for _ in 0..1000 {
            at = at.max(pace.due());
            pace.spend(at);
            published.push(at);
        }
        assert!(published.windows(101).all(|those| those[100] - those[0] > Duration::from_secs(1)));
        for _ in 0..20 {
            at += Duration::from_millis(50);
            assert!(pace.due() <= at);
            pace.spend(at);
        }
    }
}
