//! Follows one zone: when its primaries are asked, and until when what is known of it holds (RFC 1034 §4.3.5).
//!
//! ```text
//! confirmed ──refresh──► asks ──no answer──► retry … ──expire after `confirmed`──► not known
//!                          └── nothing newer, or copied: confirmed
//! ```
//! The times are those of the SOA, within bounds. A zone that is not known is asked for more and more seldom.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::mpsc;

use super::Board;
use super::assembly::Copied;
use super::store::Store;
use super::transfer::{self, Failed, serial_served};
use crate::control::supply::{Supply, is_after};
use crate::dns::RecordType;
use crate::time::{self, Tick, unix_seconds};
use crate::zone::Records;

/// Bounds of what a SOA says, in seconds.
const REFRESH: [u32; 2] = [1, 86_400];
const RETRY: [u32; 2] = [1, 86_400];
const EXPIRE: [u32; 2] = [1, 366 * 86_400];
/// Pauses while nothing is known, the first and the longest; each is twice the one before.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Shortest time between two rounds of questions, however often a primary says that something has changed.
const LEAST_PAUSE: Duration = Duration::from_millis(200);

/// One zone.
pub(super) struct Task {
    supply: Supply,
    board: Arc<Board>,
    store: Store,
    served: Option<Arc<Records>>,
    /// When a primary was heard last, or may have been, by the wall clock of an earlier process.
    confirmed: Tick,
    /// When they are asked next.
    due: Tick,
    pause: Duration,
    /// What was said last of what is wrong.
    told: Option<String>,
}

/// Times of a zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Times {
    refresh: Duration,
    retry: Duration,
    expire: Duration,
}

impl Times {
    fn of(records: &Records) -> Times {
        let soa = records.iter().find(|record| record.rtype == RecordType::SOA);
        let numbers = soa.and_then(|soa| soa.rdata.last_chunk::<20>().copied()).unwrap_or_default();
        let number = |at: usize, [least, most]: [u32; 2]| {
            let octets = [numbers[at], numbers[at + 1], numbers[at + 2], numbers[at + 3]];
            Duration::from_secs(u32::from_be_bytes(octets).clamp(least, most).into())
        };
        Times { refresh: number(4, REFRESH), retry: number(8, RETRY), expire: number(12, EXPIRE) }
    }
}

impl Task {
    /// A task that begins with what is `known`, and when that was confirmed by the wall clock.
    pub(super) fn new(
        supply: Supply,
        board: Arc<Board>,
        store: Store,
        known: Option<(Arc<Records>, u64)>,
        now: Tick,
        unix: u64,
    ) -> Task {
        let (served, confirmed) = known.unzip();
        let age = Duration::from_secs(unix.saturating_sub(confirmed.unwrap_or(unix)));
        let mut task =
            Task { supply, board, store, served, confirmed: now.minus(age), due: now, pause: FIRST_PAUSE, told: None };
        if task.served.is_some() {
            task.publish();
            task.show_confirmed(confirmed.unwrap_or(unix));
            task.expire(now);
        }
        task
    }

    /// Follows the zone without end; `rings` says which primary has told that it has changed.
    pub(super) async fn run(mut self, mut rings: mpsc::Receiver<IpAddr>) {
        loop {
            let now = time::now();
            let wait = self.due.since(now).min(self.left(now).unwrap_or(Duration::MAX));
            let first = tokio::select! {
                ring = rings.recv() => match ring {
                    Some(source) => Some(source),
                    None => return,
                },
                () = tokio::time::sleep(wait) => None,
            };
            self.expire(time::now());
            if first.is_some() || self.due <= time::now() {
                self.refresh(first).await;
                tokio::time::sleep(LEAST_PAUSE).await;
            }
        }
    }

    /// How long what is served holds still.
    fn left(&self, now: Tick) -> Option<Duration> {
        let served = self.served.as_ref()?;
        Some(self.confirmed.plus(Times::of(served).expire).since(now))
    }

    fn expire(&mut self, now: Tick) {
        if self.left(now).is_some_and(|left| left.is_zero()) {
            let zone = self.supply.origin.to_plain();
            tracing::error!("zone {zone}: no primary was heard for as long as its SOA allows; it is answered SERVFAIL");
            self.served = None;
            self.pause = FIRST_PAUSE;
            self.publish();
        }
    }

    /// Asks the primaries in turn until one knows something; the one that rang is asked first.
    async fn refresh(&mut self, first: Option<IpAddr>) {
        let mut primaries = self.supply.primaries.clone();
        primaries.sort_by_key(|primary| Some(primary.ip()) != first);
        let board = Arc::clone(&self.board);
        // It fails only when the semaphore is closed, which it never is.
        let _place = board.places.acquire().await;
        let mut problems = Vec::new();
        for primary in primaries {
            match self.ask(primary).await {
                Ok(()) => return,
                Err(failed) => {
                    let (counter, what) = match failed {
                        Failed::Primary(what) => (&self.board.totals.failed, what),
                        Failed::Refused(what) => (&self.board.totals.refused, what),
                    };
                    counter.fetch_add(1, Ordering::Relaxed);
                    problems.push(format!("{primary}: {what}"));
                }
            }
        }
        self.complain(&problems.join("; "));
        let pause = match &self.served {
            Some(served) => Times::of(served).retry,
            None => self.pause,
        };
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        self.due = time::now().plus(pause);
    }

    async fn ask(&mut self, primary: SocketAddr) -> Result<(), Failed> {
        let theirs = transfer::serial(&self.supply, primary).await?;
        let ours = serial_served(self.served.as_ref());
        let behind = ours.filter(|&ours| is_after(ours, theirs));
        if ours == Some(theirs) || behind.is_some() {
            self.confirm(primary);
            if let Some(ours) = behind {
                self.complain(&format!("{primary}: its serial is {theirs}, behind {ours}, which is served (RFC 1982)"));
            }
            return Ok(());
        }
        match transfer::copy(&self.supply, primary, self.served.as_ref()).await? {
            Copied::Nothing => self.confirm(primary),
            Copied::Zone(records) => self.take(records, primary).await,
        }
        Ok(())
    }

    /// Serves a copy, and keeps it: to write a large one down takes as long as to compile it.
    async fn take(&mut self, records: Records, primary: SocketAddr) {
        let records = Arc::new(records);
        self.board.totals.copied.fetch_add(1, Ordering::Relaxed);
        self.served = Some(Arc::clone(&records));
        self.publish();
        let zone = self.supply.origin.to_plain();
        let serial = serial_served(self.served.as_ref()).unwrap_or_default();
        tracing::info!("zone {zone}: serial {serial} copied from {primary}");
        self.note_heard(primary);
        let store = self.store.clone();
        let saved = tokio::task::spawn_blocking(move || store.save(&records, unix_seconds())).await;
        let problem = match saved {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        };
        tracing::error!("zone {zone}: its copy is served, but cannot be kept over a restart: {problem}");
    }

    fn confirm(&mut self, primary: SocketAddr) {
        self.board.totals.current.fetch_add(1, Ordering::Relaxed);
        self.note_heard(primary);
        if let Err(error) = self.store.confirm(unix_seconds()) {
            // Once, as long as it is so: nothing but the age after a restart is lost.
            self.complain(&format!("cannot write when it was confirmed: {error}"));
        }
    }

    /// A primary was heard.
    fn note_heard(&mut self, primary: SocketAddr) {
        let Some(served) = &self.served else { return };
        self.confirmed = time::now();
        self.due = self.confirmed.plus(Times::of(served).refresh);
        self.pause = FIRST_PAUSE;
        if self.told.take().is_some() {
            tracing::info!("zone {}: heard of {primary} again", self.supply.origin.to_plain());
        }
        self.show_confirmed(unix_seconds());
        self.board.show(&self.supply.origin, |shown| {
            shown.primary = Some(primary.to_string());
            shown.problem = None;
        });
    }

    /// Says what is wrong, once.
    fn complain(&mut self, problem: &str) {
        if self.told.as_deref() != Some(problem) {
            let zone = self.supply.origin.to_plain();
            let stays = if self.served.is_some() { "what is served stays" } else { "it is answered SERVFAIL" };
            tracing::warn!("zone {zone}: {problem}; {stays}");
            self.told = Some(problem.to_owned());
        }
        self.board.show(&self.supply.origin, |shown| shown.problem = Some(problem.to_owned()));
    }

    fn publish(&self) {
        self.board.set(&self.supply.origin, self.served.clone());
    }

    fn show_confirmed(&self, unix: u64) {
        let expire = self.served.as_ref().map(|served| Times::of(served).expire.as_secs());
        self.board.show(&self.supply.origin, |shown| {
            shown.confirmed_at = Some(unix);
            shown.expires_at = expire.map(|expire| unix + expire);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::Name;
    use crate::zone::Record;

    #[test]
    fn times_are_bounded() {
        let origin = Name::parse("z", None).expect("a name");
        for (numbers, expected) in [
            ([7200, 1800, 1_209_600], [7200, 1800, 1_209_600]),
            ([0, 0, 0], [1, 1, 1]),
            ([u32::MAX; 3], [86_400, 86_400, 366 * 86_400]),
        ] {
            let numbers: Vec<u8> = [9, numbers[0], numbers[1], numbers[2], 60].map(u32::to_be_bytes).concat();
            let rdata = [&[0, 0][..], &numbers].concat();
            let records = [Record::made(origin.as_wire(), RecordType::SOA, 60, &rdata)].into_iter().collect();
            let [refresh, retry, expire] = expected.map(|seconds: u32| Duration::from_secs(seconds.into()));
            assert_eq!(Times::of(&records), Times { refresh, retry, expire });
        }
    }
}
