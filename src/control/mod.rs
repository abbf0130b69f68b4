//! The single writer: changes in, snapshots out. Everybody else sends a [`Change`] or reads a snapshot.
//!
//! ```text
//!  probe tasks ── Report ──┐
//!  SIGHUP ─────── Reload ──┼─► run ─► State ─► judge what was touched ─► publish, at most 100 times a second
//!  API, status ── Status ──┘
//! ```

pub mod explain;
mod index;
mod log;
mod retired;
mod state;
pub mod status;
pub mod world;

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::probe::Report;
use crate::time;
pub use state::State;
pub use status::Status;
pub use world::World;

/// Least time between two publishes.
const PUBLISH_INTERVAL: Duration = Duration::from_millis(10);
/// Changes that may wait; senders wait when there are more.
const QUEUE: usize = 4096;

/// All that can change what is served.
#[derive(Debug)]
pub enum Change {
    /// A new configuration, compiled; answered when it is served.
    Reload(Box<World>, oneshot::Sender<()>),
    /// Loading failed: the running configuration stays, the problems are shown in the status.
    ReloadFailed(Vec<String>),
    /// Somebody wants to know; changes nothing.
    Status(oneshot::Sender<Status>),
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
    let mut published = Instant::now() - PUBLISH_INTERVAL;
    loop {
        let due = published + PUBLISH_INTERVAL;
        let (grace, log_due) = (state.grace_left(time::now()), state.log_due(time::now()));
        tokio::select! {
            change = changes.recv() => match change {
                Some(change) => state.apply(change, time::now()),
                None => return,
            },
            Some(report) = reports.recv() => state.report(report, time::now()),
            () = tokio::time::sleep(grace.unwrap_or_default()), if grace.is_some() => state.end_grace(),
            () = tokio::time::sleep(log_due.unwrap_or_default()), if log_due.is_some() => state.flush_log(time::now()),
            () = tokio::time::sleep_until(due), if state.is_dirty() => {}
        }
        if state.is_dirty() && Instant::now() >= due {
            state.publish(time::now());
            published = Instant::now();
        }
    }
}
