//! Secondary zones: copied from their primaries, kept in `state-dir`, followed when they change (RFC 1034 §4.3.5, RFC 1996).
//!
//! ```text
//! NOTIFY ─ Bell ─┐                         ┌─ nothing newer: confirmed
//! refresh ───────┼─► task of the zone: SOA ┤
//! retry ─────────┘    at each primary      └─ newer: copy ─ right? ─► file ─► Given ─► World::with_zones
//!                                                              └─ no: what is served stays, `status` says why
//! expire without a word of any primary: the zone is not known any more, SERVFAIL
//! ```
//! `transfer` asks, `assembly` puts the copy together and judges it, `store` keeps it, `task` has the times.

mod assembly;
mod store;
mod task;
mod transfer;

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio::task::JoinHandle;

use super::supply::{Found, Given, Supply};
use crate::dns::Name;
use crate::time::{self, Tick, unix_seconds};
use crate::zone::Records;
use assembly::serial_of;
use store::{Kept, Store};
use task::Task;
pub use transfer::assemble;

/// Zones that are copied at once.
const MOST_AT_ONCE: usize = 10;
/// What is compiled anew of all zones takes a while: changes of others wait so long.
const CHANGE_PAUSE: Duration = Duration::from_millis(100);

/// Counts of what primaries were asked.
#[derive(Debug, Default)]
pub struct Refreshes {
    /// A zone was found to be as new as it can be.
    pub current: AtomicU64,
    /// A newer one was copied.
    pub copied: AtomicU64,
    /// A primary did not answer, or not what was asked.
    pub failed: AtomicU64,
    /// A copy was not to be served.
    pub refused: AtomicU64,
    /// Primaries said that a zone had changed.
    pub notified: AtomicU64,
}

/// A secondary zone, as `status` shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecondaryStatus {
    /// Its apex.
    pub zone: String,
    /// The serial that is served; `None` = the zone is answered SERVFAIL.
    pub serial: Option<u32>,
    /// How many records it has.
    pub records: usize,
    /// When a primary was heard last to have nothing newer, seconds since the Unix epoch.
    pub confirmed_at: Option<u64>,
    /// When it is not served any more if none is heard until then.
    pub expires_at: Option<u64>,
    /// The primary that was heard last.
    pub primary: Option<String>,
    /// Why nothing came of asking last; `None` = something did.
    pub problem: Option<String>,
}

/// What the tasks of all zones share.
#[derive(Debug)]
pub struct Board {
    zones: Mutex<HashMap<Name, Entry>>,
    changed: Notify,
    places: Semaphore,
    /// Counters.
    pub totals: Refreshes,
}

/// What is known of a zone.
#[derive(Debug, Default)]
struct Entry {
    records: Option<Arc<Records>>,
    /// Whether that is not compiled yet.
    is_new: bool,
    shown: SecondaryStatus,
    /// Wakes its task.
    bell: Option<mpsc::Sender<IpAddr>>,
}

impl Default for Board {
    fn default() -> Board {
        let (zones, changed, totals) = Default::default();
        Board { zones, changed, places: Semaphore::new(MOST_AT_ONCE), totals }
    }
}

impl Board {
    fn zones(&self) -> MutexGuard<'_, HashMap<Name, Entry>> {
        // Each change of an entry is whole in itself.
        self.zones.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All zones, by name.
    #[must_use]
    pub fn shown(&self) -> Vec<SecondaryStatus> {
        let mut shown: Vec<SecondaryStatus> = self.zones().values().map(|entry| entry.shown.clone()).collect();
        shown.sort_unstable_by(|one, other| one.zone.cmp(&other.zone));
        shown
    }

    /// A primary says that a zone has changed; it is asked at once.
    pub fn notify(&self, zone: &Name, source: IpAddr) {
        self.totals.notified.fetch_add(1, Ordering::Relaxed);
        if let Some(bell) = self.zones().get(zone).and_then(|entry| entry.bell.as_ref()) {
            // When it rings already, that is enough.
            let _ = bell.try_send(source);
        }
    }

    /// What is known of a zone from now on.
    fn set(&self, zone: &Name, records: Option<Arc<Records>>) {
        if let Some(entry) = self.zones().get_mut(zone) {
            entry.shown.serial = records.as_deref().and_then(serial_of);
            entry.shown.records = records.as_deref().map_or(0, Records::len);
            (entry.records, entry.is_new) = (records, true);
        }
        self.changed.notify_one();
    }

    fn show(&self, zone: &Name, show: impl FnOnce(&mut SecondaryStatus)) {
        if let Some(entry) = self.zones().get_mut(zone) {
            show(&mut entry.shown);
        }
    }
}

/// All secondary zones; dropped, they are not followed any more.
#[derive(Debug)]
pub struct Secondaries {
    state_dir: PathBuf,
    board: Arc<Board>,
    tasks: HashMap<Name, (Supply, Running)>,
    /// When what is known was compiled last.
    compiled_at: Option<Tick>,
}

/// A task that ends with this.
#[derive(Debug)]
struct Running(JoinHandle<()>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Secondaries {
    /// Those that `supplies` name, with what an earlier process left in `state_dir`.
    #[must_use]
    pub fn start(state_dir: &Path, supplies: &[Supply]) -> Secondaries {
        let (board, tasks) = Default::default();
        let mut secondaries = Secondaries { state_dir: state_dir.to_path_buf(), board, tasks, compiled_at: None };
        secondaries.follow(supplies);
        secondaries
    }

    /// Goes by another configuration; what is known of zones that stay is kept.
    pub fn follow(&mut self, supplies: &[Supply]) {
        let supplies: Vec<&Supply> = supplies.iter().filter(|supply| supply.is_copied()).collect();
        let mut before = std::mem::take(&mut self.tasks);
        let named: BTreeSet<Vec<u8>> =
            supplies.iter().map(|supply| supply.origin.to_lower().as_wire().to_vec()).collect();
        self.board.zones().retain(|name, _| named.contains(name.to_lower().as_wire()));
        for supply in supplies {
            let running = match before.remove(&supply.origin) {
                Some((old, running)) if old.is_like(supply) => running,
                _ => self.begin(supply),
            };
            self.tasks.insert(supply.origin.clone(), (supply.clone(), running));
        }
    }

    /// Begins to follow a zone.
    fn begin(&self, supply: &Supply) -> Running {
        let (bell, rings) = mpsc::channel(1);
        let store = Store::new(&self.state_dir, &supply.origin);
        let known = self.board.zones().get(&supply.origin).and_then(|entry| {
            let confirmed = entry.shown.confirmed_at?;
            Some((Arc::clone(entry.records.as_ref()?), confirmed))
        });
        let known = known.or_else(|| store.load().map(|Kept { records, confirmed }| (Arc::new(records), confirmed)));
        let zone = supply.origin.to_plain();
        let shown = SecondaryStatus { zone, ..SecondaryStatus::default() };
        let entry = Entry { bell: Some(bell), shown, ..Entry::default() };
        self.board.zones().insert(supply.origin.clone(), entry);
        let task = Task::new(supply.clone(), Arc::clone(&self.board), store, known, time::now(), unix_seconds());
        Running(tokio::spawn(task.run(rings)))
    }

    /// What the tasks share.
    #[must_use]
    pub fn board(&self) -> Arc<Board> {
        Arc::clone(&self.board)
    }

    /// What is known now, which is about to be compiled.
    #[must_use]
    pub fn take_given(&mut self) -> Given {
        self.compiled_at = Some(time::now());
        self.board.zones().values_mut().for_each(|entry| entry.is_new = false);
        self.given()
    }

    /// What is known now.
    #[must_use]
    pub fn given(&self) -> Given {
        let zones = self.board.zones();
        let copied = |entry: &Entry| Some(Found::Copied(Arc::clone(entry.records.as_ref()?)));
        zones.iter().filter_map(|(name, entry)| Some((name.clone(), copied(entry)?))).collect()
    }

    /// Waits until something is known of zones that is not compiled; of which ones. Given up on, it has lost nothing.
    pub async fn changed(&mut self) -> Vec<Name> {
        loop {
            let pause =
                self.compiled_at.map_or(Duration::ZERO, |at| CHANGE_PAUSE.saturating_sub(time::now().since(at)));
            let new = |(name, entry): (&Name, &Entry)| entry.is_new.then(|| name.clone());
            let mut changed: Vec<Name> = self.board.zones().iter().filter_map(new).collect();
            if changed.is_empty() {
                self.board.changed.notified().await;
            } else if pause.is_zero() {
                changed.sort_by_key(Name::to_plain);
                return changed;
            } else {
                tokio::time::sleep(pause).await;
            }
        }
    }
}
