//! Where what is no longer served waits until no thread answers from it, so that none of them has to give it up.
//!
//! A snapshot of health shares nearly everything with the next; its own part is dropped at a later publish. A world is
//! large: it is dropped in a thread that yields to all others.

use std::sync::Arc;
use std::time::Duration;

use super::World;
use crate::idle;
use crate::snapshot::Snapshot;

/// How often is looked whether anybody still answers from what was retired.
const LOOK: Duration = Duration::from_millis(50);

/// Snapshots that were replaced, and may still be read.
#[derive(Debug, Default)]
pub(super) struct Retired {
    snapshots: Vec<Arc<Snapshot>>,
}

impl Retired {
    /// Takes in what was just replaced, and drops what nobody reads any more.
    pub(super) fn push(&mut self, snapshot: Arc<Snapshot>) {
        self.sweep();
        self.snapshots.push(snapshot);
    }

    fn sweep(&mut self) {
        self.snapshots.retain(|snapshot| Arc::strong_count(snapshot) > 1);
    }

    /// Drops a world with all snapshots of it, once nobody reads them, without anybody waiting for it.
    pub(super) fn put_away(&mut self, world: Arc<World>) {
        let mut retired = std::mem::take(self);
        let dropping = move || {
            let _world = world;
            while !retired.snapshots.is_empty() {
                std::thread::sleep(LOOK);
                retired.sweep();
            }
        };
        if let Err(error) = idle::spawn("retire", dropping) {
            tracing::warn!(%error, "no thread to drop the configuration before in; it was dropped at once");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_somebody_reads_stays() {
        let mut retired = Retired::default();
        let read = Arc::new(Snapshot::default());
        retired.push(Arc::clone(&read));
        retired.push(Arc::default());
        retired.push(Arc::default());
        assert_eq!(retired.snapshots.len(), 2);
        drop(read);
        retired.push(Arc::default());
        assert_eq!(retired.snapshots.len(), 1);
    }
}
