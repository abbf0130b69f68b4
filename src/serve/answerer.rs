//! What a thread answers with: its view of the newest snapshot, its worker, the responder; and what a panic in there
//! costs: one message, one count, at most one line of log a second.

use std::cell::Cell;
use std::net::IpAddr;
use std::panic::{self, AssertUnwindSafe, PanicHookInfo};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Once};
use std::time::Duration;

use tokio::sync::mpsc::error::TrySendError;

use super::Respond;
use super::handover::{Delivery, Inbox, Way};
use crate::answer::{self, Handed, Moment, Order, Outcome, Transfer, Transport, Worker};
use crate::metrics::Counters;
use crate::snapshot::{Published, Reader, Snapshot};
use crate::time;

/// Answers the messages of one thread.
pub(super) struct Answerer {
    reader: Reader,
    worker: Worker,
    /// Serial of the snapshot that the worker adopted.
    adopted: Option<u64>,
    respond: Respond,
    /// Where messages go that are no queries.
    inbox: Option<Inbox>,
}

/// An [`Answerer`] with the snapshot that a batch of messages is answered from.
pub(super) struct Batch<'a> {
    snapshot: &'a Arc<Snapshot>,
    worker: &'a mut Worker,
    respond: Respond,
    inbox: Option<&'a Inbox>,
}

impl Answerer {
    pub(super) fn new(published: &Published, worker: Worker, respond: Respond, inbox: Option<Inbox>) -> Answerer {
        Answerer { reader: Reader::new(published.clone()), worker, adopted: None, respond, inbox }
    }

    /// Takes the newest snapshot; to be called once per batch, and now and then by an idle thread, which would keep an
    /// old snapshot in memory otherwise.
    /// `tcp_idle` is how long a connection may be idle now. The only clock reads.
    pub(super) fn begin(&mut self, tcp_idle: Duration) -> Batch<'_> {
        let snapshot: &Arc<Snapshot> = self.reader.load();
        let worker = &mut self.worker;
        worker.moment = Moment { now: time::now(), wall: time::unix_seconds(), tcp_idle };
        if self.adopted != Some(snapshot.serial) {
            guarded(worker, |worker| worker.adopt(snapshot));
            self.adopted = Some(snapshot.serial);
        }
        Batch { snapshot, worker, respond: self.respond, inbox: self.inbox.as_ref() }
    }

    pub(super) fn counters(&self) -> &Counters {
        &self.worker.counters
    }
}

impl Batch<'_> {
    /// Has the memory fetched that answering these messages will read; `waiting` is how many there are.
    pub(super) fn look_ahead<'m>(&mut self, waiting: usize, messages: impl Iterator<Item = (&'m [u8], IpAddr)>) {
        let snapshot = &**self.snapshot;
        guarded(self.worker, |worker| answer::look_ahead(snapshot, worker, waiting, messages));
    }

    /// What comes of a message; nothing is said after a panic.
    #[inline]
    pub(super) fn answer(&mut self, query: &[u8], client: IpAddr, transport: Transport, out: &mut [u8]) -> Outcome {
        let (snapshot, respond, room) = (&**self.snapshot, self.respond, out.len());
        match guarded(self.worker, |worker| respond(snapshot, worker, query, client, transport, out)) {
            Some(Outcome::Answer(length)) => Outcome::Answer(length.min(room)),
            Some(stream) => stream,
            None => Outcome::Answer(0),
        }
    }

    /// Hands a message on, whose answer goes by `way`; where too many wait, that is said at once: its octets in `out`.
    pub(super) fn hand(&self, handed: Box<Handed>, way: Way, out: &mut [u8]) -> usize {
        let delivery = Delivery { handed, way };
        let refused = match self.inbox {
            None => delivery,
            Some(inbox) => match inbox.try_send(delivery) {
                Ok(()) => return 0,
                Err(TrySendError::Full(delivery) | TrySendError::Closed(delivery)) => delivery,
            },
        };
        self.worker.counters.answering.handed_busy.add(1);
        let answer = refused.handed.busy(self.snapshot, self.worker.moment.wall);
        let length = answer.len().min(out.len());
        out[..length].copy_from_slice(&answer[..length]);
        length
    }

    /// Begins the copy of a zone that [`Batch::answer`] has granted.
    pub(super) fn begin(&self, order: Box<Order>) -> Transfer {
        Transfer::new(Arc::clone(self.snapshot), order)
    }

    /// Writes the next message of a copy into `out`, or that there is none now where `fails`; its octets. Nothing when
    /// there are no more, also after a panic.
    pub(super) fn next_message(&mut self, transfer: &mut Transfer, fails: bool, out: &mut [u8]) -> Option<usize> {
        let now = self.worker.moment.wall;
        guarded(self.worker, |_| match fails {
            true => transfer.fail(now, out),
            false => transfer.next_message(now, out),
        })
        .flatten()
    }

    pub(super) fn counters(&self) -> &Counters {
        &self.worker.counters
    }
}

thread_local! {
    /// Whether this thread is inside [`guarded`], so that the panic hook knows whose panic it sees.
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Runs `work`; `None` after a panic. A worker holds counters, rotations and random state, of which any value is a
/// good one, so it may be used on.
fn guarded<T>(worker: &mut Worker, work: impl FnOnce(&mut Worker) -> T) -> Option<T> {
    GUARDED.set(true);
    let result = panic::catch_unwind(AssertUnwindSafe(|| work(worker)));
    GUARDED.set(false);
    if result.is_err() {
        worker.counters.panics.add(1);
    }
    result.ok()
}

/// Has panics inside [`guarded`] logged by [`log_panic`]; all others go where they went. The standard hook writes a
/// line for each, at a rate that whoever found the packet for it controls.
pub(super) fn mute_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let previous = panic::take_hook();
        panic::set_hook(Box::new(move |panic| if GUARDED.get() { log_panic(panic) } else { previous(panic) }));
    });
}

fn log_panic(panic: &PanicHookInfo<'_>) {
    static RATE: Rate = Rate::new();
    if let Some(unlogged) = RATE.allows(time::now().0) {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let message = panic.payload_as_str().unwrap_or_default();
        tracing::error!(place, message, unlogged, "answering a query panicked; it got no answer");
    }
}

/// Lets one event a second pass, and says how many did not before it.
pub(super) struct Rate {
    /// When the next may pass, in ms.
    next: AtomicU64,
    held_back: AtomicU64,
}

impl Rate {
    const INTERVAL_MS: u64 = 1000;

    pub(super) const fn new() -> Rate {
        Rate { next: AtomicU64::new(0), held_back: AtomicU64::new(0) }
    }

    pub(super) fn allows(&self, now_ms: u64) -> Option<u64> {
        let next = self.next.load(Ordering::Relaxed);
        let passes = now_ms >= next
            && self
                .next
                .compare_exchange(next, now_ms + Rate::INTERVAL_MS, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok();
        if passes {
            return Some(self.held_back.swap(0, Ordering::Relaxed));
        }
        self.held_back.fetch_add(1, Ordering::Relaxed);
        None
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::testing::{echo, published, snapshot};
    use super::*;

    const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    #[test]
    fn a_panic_costs_one_answer() {
        mute_panics();
        let mut answerer = Answerer::new(&published(), Worker::new(&Arc::default(), 1), echo, None);
        let mut out = [0; 512];
        let mut batch = answerer.begin(Duration::ZERO);
        assert_eq!(batch.answer(b"panic, please", CLIENT, Transport::Udp, &mut out).length(), 0);
        assert_eq!(batch.answer(b"twelve octet", CLIENT, Transport::Udp, &mut out).length(), 12);
        assert_eq!(answerer.counters().panics.get(), 1);
    }

    #[test]
    fn a_batch_sees_the_newest_snapshot() {
        let published = published();
        let serial: Respond = |snapshot, _, _, _, _, _| Outcome::Answer(snapshot.serial as usize);
        let mut answerer = Answerer::new(&published, Worker::new(&Arc::default(), 1), serial, None);
        let mut out = [0; 512];
        assert_eq!(answerer.begin(Duration::ZERO).answer(b"", CLIENT, Transport::Udp, &mut out).length(), 0);
        published.store(Arc::new(snapshot(7)));
        assert_eq!(answerer.begin(Duration::ZERO).answer(b"", CLIENT, Transport::Udp, &mut out).length(), 7);
        assert_eq!(answerer.adopted, Some(7));
    }

    #[test]
    fn one_event_a_second_passes() {
        let rate = Rate::new();
        let passed: Vec<Option<u64>> = [0, 1, 999, 1000, 1001, 5000].map(|now| rate.allows(now)).to_vec();
        assert_eq!(passed, [Some(0), None, None, Some(2), None, Some(1)]);
    }
}
