//! Writes last-good health: a thread that waits for changes, gathers what comes together, and replaces the file.
//!
//! ```text
//! control loop ── Notes (what changed since the last write) ──► thread ──► state-dir/last-good
//! ```
//! The control loop only notes; it waits for no disk. A change is on disk within 100 ms where the disk allows; a fleet so
//! large that a write takes long is written less often, so that writing never takes more than a fifth of a core.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::Builder;
use std::time::{Duration, Instant};

use super::super::World;
use super::{Clock, LastGood, write};
use crate::fleet::TargetId;
use crate::health::Memory;
use crate::steering::Table;
use crate::time::{self, unix_milliseconds};

/// How long a change waits for others that come with it; the publish that follows a verdict does.
const GATHER: Duration = Duration::from_millis(15);
/// Least time from one write to the next.
const PAUSE: Duration = Duration::from_millis(80);
/// A pause is at least this many times as long as the write before it.
const PAUSE_PER_WRITE: u32 = 4;
/// Without any change it is written this often, so that its age tells that the server lives.
const REFRESH: Duration = Duration::from_secs(60);
/// How often a write that failed is tried again, whatever changes.
const RETRY: Duration = Duration::from_secs(1);

/// What the control loop tells the thread.
#[derive(Debug, Default)]
pub struct Notes {
    slot: Mutex<Slot>,
    changed: Condvar,
    /// When the file was written, milliseconds since the Unix epoch; 0 = never.
    written_ms: AtomicU64,
}

/// What has changed since the last write; bounded by the number of targets.
#[derive(Debug, Default)]
struct Slot {
    /// Another world, and the health of all its targets.
    world: Option<(Arc<World>, Vec<Memory>)>,
    targets: BTreeMap<TargetId, Memory>,
    standings: Option<Table>,
    /// Whether it is to be written now.
    is_due: bool,
    /// A verdict changed, the standings that follow from it are not there yet.
    is_unjudged: bool,
    ending: bool,
}

impl Notes {
    /// All that is known at a start. It is not written before something is seen: what an earlier process left does not
    /// become younger by being read.
    pub(in crate::control) fn begin(&self, world: &Arc<World>, known: Vec<Memory>) {
        self.replace(world, known, false);
    }

    /// All that is known, in another world.
    pub(in crate::control) fn reloaded(&self, world: &Arc<World>, known: Vec<Memory>) {
        self.replace(world, known, true);
    }

    fn replace(&self, world: &Arc<World>, known: Vec<Memory>, is_due: bool) {
        let mut slot = self.slot();
        slot.targets.clear();
        slot.world = Some((Arc::clone(world), known));
        slot.is_due |= is_due;
        // It is followed by a publish.
        slot.is_unjudged |= is_due;
        self.changed.notify_one();
    }

    /// A verdict changed.
    pub(in crate::control) fn turned(&self, target: TargetId, memory: Memory) {
        let mut slot = self.slot();
        slot.targets.insert(target, memory);
        slot.is_due = true;
        slot.is_unjudged = true;
        self.changed.notify_one();
    }

    /// Standings were judged, with times of loss.
    pub(in crate::control) fn judged(&self, standings: &Table) {
        let mut slot = self.slot();
        slot.standings = Some(standings.clone());
        slot.is_due |= std::mem::take(&mut slot.is_unjudged);
        self.changed.notify_one();
    }

    /// When the file was written, milliseconds since the Unix epoch.
    #[must_use]
    pub fn written_ms(&self) -> Option<u64> {
        Some(self.written_ms.load(Ordering::Relaxed)).filter(|&at| at > 0)
    }

    fn slot(&self) -> MutexGuard<'_, Slot> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for changes at most that long; `false` when it is to end.
    fn wait(&self, longest: Duration) -> bool {
        let unchanged = |slot: &mut Slot| !slot.is_due && !slot.ending;
        let (slot, _) =
            self.changed.wait_timeout_while(self.slot(), longest, unchanged).unwrap_or_else(PoisonError::into_inner);
        !slot.ending
    }

    /// Lets time pass, unless it is to end.
    fn pause(&self, longest: Duration) {
        let _ = self.changed.wait_timeout_while(self.slot(), longest, |slot| !slot.ending);
    }

    fn take(&self) -> Slot {
        let mut slot = self.slot();
        let left = Slot { ending: slot.ending, is_unjudged: slot.is_unjudged, ..Slot::default() };
        std::mem::replace(&mut *slot, left)
    }
}

/// The thread that writes.
#[derive(Debug)]
pub struct Keeper {
    notes: Arc<Notes>,
    /// Nothing ever comes; it is closed when the thread ends.
    ended: mpsc::Receiver<()>,
}

impl Keeper {
    /// Starts the thread. `read_ms` is when the file that is there was written, if it was believed.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(path: PathBuf, read_ms: Option<u64>) -> io::Result<Keeper> {
        let notes = Arc::new(Notes { written_ms: read_ms.unwrap_or_default().into(), ..Notes::default() });
        let (running, ended) = mpsc::channel();
        let noted = Arc::clone(&notes);
        Builder::new().name("last-good".into()).spawn(move || {
            let _running = running;
            keep(&path, &noted);
        })?;
        Ok(Keeper { notes, ended })
    }

    /// Where changes are noted.
    #[must_use]
    pub fn notes(&self) -> Arc<Notes> {
        Arc::clone(&self.notes)
    }

    /// Writes once more and ends the thread; waits at most `patience` for the disk.
    pub fn finish(self, patience: Duration) {
        self.notes.slot().ending = true;
        self.notes.changed.notify_one();
        // Either way: it is over, or it took too long.
        let _ = self.ended.recv_timeout(patience);
    }
}

/// What the file is to say.
#[derive(Default)]
struct Picture {
    world: Option<Arc<World>>,
    memories: Vec<Memory>,
    standings: Table,
}

impl Picture {
    fn update(&mut self, changes: Slot) {
        if let Some((world, memories)) = changes.world {
            *self = Picture { standings: world.base().clone(), world: Some(world), memories };
        }
        for (id, memory) in changes.targets {
            self.memories[id.0 as usize] = memory;
        }
        if let Some(standings) = changes.standings {
            self.standings = standings;
        }
    }

    fn encode(&self, clock: Clock) -> Option<Vec<u8>> {
        let world = self.world.as_ref()?;
        Some(LastGood::of(world, &self.memories, &self.standings, clock).encode())
    }
}

fn keep(path: &Path, notes: &Notes) {
    let mut picture = Picture::default();
    let mut failing = false;
    loop {
        let goes_on = notes.wait(if failing { RETRY } else { REFRESH });
        if goes_on {
            notes.pause(GATHER);
        }
        let began = Instant::now();
        picture.update(notes.take());
        let clock = Clock { now: time::now(), unix_ms: unix_milliseconds() };
        if let Some(octets) = picture.encode(clock) {
            let written = write(path, &octets);
            if written.is_ok() {
                notes.written_ms.store(clock.unix_ms, Ordering::Relaxed);
            }
            say(path, written, &mut failing);
        }
        if !goes_on {
            return;
        }
        notes.pause(if failing { RETRY } else { PAUSE.max(began.elapsed() * PAUSE_PER_WRITE) });
    }
}

/// One warning when writing begins to fail, one line when that ends.
fn say(path: &Path, written: io::Result<()>, failing: &mut bool) {
    match written {
        Err(error) if !*failing => {
            tracing::warn!("{}: {error}; health is not kept for the next start", path.display());
            *failing = true;
        }
        Ok(()) if *failing => {
            tracing::info!("{}: written again", path.display());
            *failing = false;
        }
        Ok(()) | Err(_) => {}
    }
}
