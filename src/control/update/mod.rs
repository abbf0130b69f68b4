//! Dynamic updates (RFC 2136) of what proves to a certificate authority whose a name is: TXT records at `_acme-challenge`.
//!
//! ```text
//! UPDATE ─ answer::Handed ─► Desk: prerequisites, what may be changed ─► Book ─► file, synced ─► Given ─► World::with_zones
//!                              └ no: answered at once                     ▲         published ─► answered NOERROR
//!                                                       what has expired ─┘
//! ```
//! One task has all books, and does one update after the other; it does not wait until one is served before it takes the next.

mod book;
mod message;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore, mpsc, watch};

use super::supply::{Found, Given, Supply};
use crate::answer::ExtendedError;
use crate::dns::{LowerName, Name, Rcode, RecordType};
use crate::serve::Delivery;
use crate::snapshot::Published;
use crate::time::{self, Tick, unix_seconds};
use book::{Book, Store};
use message::{Refused, View};

/// Updates that may wait for the desk, and for being served.
const QUEUE: usize = 64;
const MOST_UNSERVED: usize = 256;
/// Longest wait for an update to be served.
const SERVED_PATIENCE: Duration = Duration::from_secs(20);
/// Longest sleep while nothing expires.
const LONGEST_SLEEP: Duration = Duration::from_secs(3600);
/// Shortest time between two lines of the log about updates that are refused.
const TELL_PAUSE: Duration = Duration::from_secs(1);
/// What is compiled anew of all zones takes a while: changes of others wait so long.
const CHANGE_PAUSE: Duration = Duration::from_millis(50);

/// Counts of updates by those who may.
#[derive(Debug, Default)]
pub struct Totals {
    /// Done, and served.
    pub done: AtomicU64,
    /// Not done, as they ask for what is not allowed, or their prerequisites do not hold.
    pub refused: AtomicU64,
    /// Not done, or not known to be served: the disk, or too much to do.
    pub failed: AtomicU64,
    /// Records that went by themselves.
    pub expired: AtomicU64,
}

/// What is known of a zone.
#[derive(Debug)]
struct Zone {
    supply: Supply,
    store: Store,
    book: Book,
    /// TXT records of the file at names that may be changed, by name in lower case.
    filed: HashMap<Vec<u8>, Vec<Vec<u8>>>,
    /// Whether the book is not compiled yet.
    is_new: bool,
}

/// What the task and the reloader share.
#[derive(Debug)]
struct Shared {
    zones: Mutex<HashMap<Name, Zone>>,
    /// How many changes of books there were.
    changes: AtomicU64,
    changed: Notify,
    /// How many of them are served.
    served: watch::Sender<u64>,
    unserved: Arc<Semaphore>,
    totals: Arc<Totals>,
}

impl Shared {
    fn zones(&self) -> MutexGuard<'_, HashMap<Name, Zone>> {
        // Each change of a zone is whole in itself.
        self.zones.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A zone has this book from now on; once the change that is returned is served, so is the book.
    fn set(&self, origin: &Name, book: Book) -> u64 {
        // Counted while nobody else can look.
        let mut zones = self.zones();
        if let Some(zone) = zones.get_mut(origin) {
            // Where the serial stays, what is served does.
            if zone.book.serial != book.serial {
                zone.is_new = true;
                self.changes.fetch_add(1, Ordering::AcqRel);
                self.changed.notify_one();
            }
            zone.book = book;
        }
        self.changes.load(Ordering::Acquire)
    }
}

/// All zones that may be updated.
#[derive(Debug)]
pub struct Updates {
    state_dir: PathBuf,
    shared: Arc<Shared>,
    compiled_at: Option<Tick>,
}

impl Updates {
    /// Those that `supplies` name, with what an earlier process left in `state_dir`.
    #[must_use]
    pub fn start(state_dir: &Path, supplies: &[Supply]) -> Updates {
        let shared = Arc::new(Shared {
            zones: Mutex::default(),
            changes: AtomicU64::new(0),
            changed: Notify::new(),
            served: watch::channel(0).0,
            unserved: Arc::new(Semaphore::new(MOST_UNSERVED)),
            totals: Arc::default(),
        });
        let updates = Updates { state_dir: state_dir.to_path_buf(), shared, compiled_at: None };
        updates.follow(supplies);
        updates
    }

    /// Goes by another configuration, which is served already; books of zones that stay are kept.
    pub fn follow(&self, supplies: &[Supply]) {
        let mut zones = self.shared.zones();
        let mut before = std::mem::take(&mut *zones);
        for supply in supplies.iter().filter(|supply| !supply.is_copied()) {
            let known = before.remove(&supply.origin);
            let store = Store::new(&self.state_dir, &supply.origin);
            let (book, is_new) = match known {
                Some(zone) => (zone.book, zone.is_new),
                None => (store.load(time::now(), unix_seconds()), true),
            };
            let over = book.over(supply);
            if let Some(over) = &over
                && let Err(error) = store.save(over, time::now(), unix_seconds())
            {
                let zone = supply.origin.to_plain();
                tracing::error!("zone {zone}: its serial cannot be kept over a restart: {error}");
            }
            let (supply, filed) = (supply.clone(), filed(supply));
            let zone = Zone { book: over.unwrap_or(book), supply, store, filed, is_new };
            zones.insert(zone.supply.origin.clone(), zone);
        }
    }

    /// Starts the task that does updates; where they go.
    pub fn open(&self, published: Published) -> mpsc::Sender<Delivery> {
        let (sender, deliveries) = mpsc::channel(QUEUE);
        let desk = Desk { shared: Arc::clone(&self.shared), published, told_at: None };
        tokio::spawn(desk.run(deliveries));
        sender
    }

    /// Counters.
    #[must_use]
    pub fn totals(&self) -> Arc<Totals> {
        Arc::clone(&self.shared.totals)
    }

    /// Adds what is known now to `given`.
    pub fn give(&self, given: &mut Given) {
        give(&self.shared.zones(), given);
    }

    /// [`Updates::give`] of what is about to be compiled; up to which change that goes.
    pub fn take_given(&mut self, given: &mut Given) -> u64 {
        self.compiled_at = Some(time::now());
        let mut zones = self.shared.zones();
        zones.values_mut().for_each(|zone| zone.is_new = false);
        give(&zones, given);
        self.shared.changes.load(Ordering::Acquire)
    }

    /// All up to this change is served.
    pub fn serves(&self, change: u64) {
        self.shared.served.send_replace(change);
    }

    /// Waits until zones have changed in a way that is not compiled; which ones. Given up on, it has lost nothing.
    pub async fn changed(&mut self) -> Vec<Name> {
        loop {
            let pause =
                self.compiled_at.map_or(Duration::ZERO, |at| CHANGE_PAUSE.saturating_sub(time::now().since(at)));
            let new = |(name, zone): (&Name, &Zone)| zone.is_new.then(|| name.clone());
            let mut changed: Vec<Name> = self.shared.zones().iter().filter_map(new).collect();
            if changed.is_empty() {
                self.shared.changed.notified().await;
            } else if pause.is_zero() {
                changed.sort_by_key(Name::to_plain);
                return changed;
            } else {
                tokio::time::sleep(pause).await;
            }
        }
    }
}

fn give(zones: &HashMap<Name, Zone>, given: &mut Given) {
    let beside = |zone: &Zone| Some(Found::Updated(zone.book.beside()?));
    given.extend(zones.iter().filter_map(|(name, zone)| Some((name.clone(), beside(zone)?))));
}

/// TXT records of a zone's file at names that may be changed.
fn filed(supply: &Supply) -> HashMap<Vec<u8>, Vec<Vec<u8>>> {
    let mut filed: HashMap<Vec<u8>, Vec<Vec<u8>>> = HashMap::new();
    for record in supply.base.iter().filter(|record| record.rtype == RecordType::TXT) {
        let name = record.owner.to_ascii_lowercase();
        if message::is_challenge(&name) {
            filed.entry(name).or_default().push(record.rdata.to_vec());
        }
    }
    filed
}

/// Does one update after the other.
struct Desk {
    shared: Arc<Shared>,
    published: Published,
    /// When the log was told last of one that is refused.
    told_at: Option<Tick>,
}

impl Desk {
    async fn run(mut self, mut deliveries: mpsc::Receiver<Delivery>) {
        loop {
            let due = self.shared.zones().values().filter_map(|zone| zone.book.due()).min();
            let wait = due.map_or(LONGEST_SLEEP, |due| due.since(time::now()).min(LONGEST_SLEEP));
            tokio::select! {
                delivery = deliveries.recv() => match delivery {
                    Some(delivery) => self.take(delivery).await,
                    None => return,
                },
                () = tokio::time::sleep(wait) => self.expire().await,
            }
        }
    }

    async fn take(&mut self, delivery: Delivery) {
        let totals = Arc::clone(&self.shared.totals);
        let (book, store) = match self.look(&delivery) {
            Ok(next) => next,
            Err(refused) => {
                totals.refused.fetch_add(1, Ordering::Relaxed);
                self.tell(&delivery, refused);
                return self.answer(delivery, refused.rcode, Some(ExtendedError::because(refused.why)));
            }
        };
        let Ok(place) = Arc::clone(&self.shared.unserved).try_acquire_owned() else {
            totals.failed.fetch_add(1, Ordering::Relaxed);
            return self.answer(delivery, Rcode::SERVFAIL, Some(ExtendedError::because("too much waits")));
        };
        if let Some(store) = store
            && let Err(error) = save(book.clone(), store).await
        {
            totals.failed.fetch_add(1, Ordering::Relaxed);
            let zone = delivery.handed.zone.to_plain();
            self.tell_line(&format!("zone {zone}: an update cannot be written, and is not done: {error}"));
            return self.answer(delivery, Rcode::SERVFAIL, Some(ExtendedError::because("it cannot be written")));
        }
        let change = self.shared.set(&delivery.handed.zone, book);
        let (mut served, published) = (self.shared.served.subscribe(), Arc::clone(&self.published));
        tokio::spawn(async move {
            let is_served = served.wait_for(|&served| served >= change);
            let is_served = matches!(tokio::time::timeout(SERVED_PATIENCE, is_served).await, Ok(Ok(_)));
            let rcode = if is_served { Rcode::NOERROR } else { Rcode::SERVFAIL };
            let counter = if is_served { &totals.done } else { &totals.failed };
            counter.fetch_add(1, Ordering::Relaxed);
            let answer = delivery.handed.answer(&published.load(), rcode, None, unix_seconds());
            delivery.answer(answer);
            drop(place);
        });
    }

    /// The book of the zone when that is done, and where it is kept if it is another one then.
    fn look(&self, delivery: &Delivery) -> Result<(Book, Option<Store>), Refused> {
        let handed = &delivery.handed;
        let gone = Refused { rcode: Rcode::NOTAUTH, why: "the zone is not updated here any more" };
        let snapshot = self.published.load_full();
        let mut apex = LowerName::new();
        apex.set(handed.zone.as_wire()).ok_or(gone)?;
        let zone = snapshot.authority.zone_at(&apex).ok_or(gone)?;
        let zones = self.shared.zones();
        let Zone { supply, store, book, filed, .. } = zones.get(&handed.zone).ok_or(gone)?;
        let view = View { authority: &snapshot.authority, zone, origin: &supply.origin, filed, book };
        let ops = message::read(&view, handed)?;
        let next = book.after(&ops, supply, time::now().plus(supply.update_expire))?;
        let is_other = next != *book;
        Ok((next, is_other.then(|| store.clone())))
    }

    /// Takes away what has expired.
    async fn expire(&mut self) {
        let now = time::now();
        let next = |zone: &Zone| {
            let book = zone.book.without_expired(&zone.supply, now)?;
            let gone = zone.book.added.len() - book.added.len();
            Some((zone.supply.origin.clone(), book, zone.store.clone(), gone))
        };
        let due: Vec<_> = self.shared.zones().values().filter_map(next).collect();
        for (origin, book, store, gone) in due {
            // What cannot be written is not served any more all the same; a restart takes it away anew.
            if let Err(error) = save(book.clone(), store).await {
                let zone = origin.to_plain();
                self.tell_line(&format!("zone {zone}: that updates have expired cannot be written: {error}"));
            }
            self.shared.totals.expired.fetch_add(gone as u64, Ordering::Relaxed);
            self.shared.set(&origin, book);
        }
    }

    fn answer(&self, delivery: Delivery, rcode: Rcode, error: Option<ExtendedError>) {
        let answer = delivery.handed.answer(&self.published.load(), rcode, error, unix_seconds());
        delivery.answer(answer);
    }

    fn tell(&mut self, delivery: &Delivery, refused: Refused) {
        let handed = &delivery.handed;
        let (zone, source) = (handed.zone.to_plain(), handed.source());
        self.tell_line(&format!("zone {zone}: an update by {source} is not done: {}, {}", refused.rcode, refused.why));
    }

    /// Writes a line, one a second at most.
    fn tell_line(&mut self, line: &str) {
        let now = time::now();
        if self.told_at.is_none_or(|at| now.since(at) >= TELL_PAUSE) {
            self.told_at = Some(now);
            tracing::warn!("{line}");
        }
    }
}

async fn save(book: Book, store: Store) -> std::io::Result<()> {
    let saved = tokio::task::spawn_blocking(move || store.save(&book, time::now(), unix_seconds())).await;
    saved.unwrap_or_else(|error| Err(std::io::Error::other(error)))
}
