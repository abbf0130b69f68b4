//! When a connection with many requests at once is to be closed, whatever it is spoken over (HTTP, QUIC), and how much is kept
//! for it: its pulse.
//!
//! | fault | when |
//! |---|---|
//! | idle | the client took no answer for as long as a connection may be idle, and no request is in progress that may still take as long as a message may |
//! | slow reader | answers are ready, and the client took none for as long as writing may take |
//! | wasteful | it sent more than [`WASTE`] octets since it took an answer last, or has more than [`ROOM`] octets of queries in progress |
//!
//! What protocols bound by themselves, streams and headers, is theirs; floods of what they let pass (resets, settings, pings,
//! empty frames) have an end here, as none of it makes an answer that is taken.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use bytes::Buf;
use tokio::sync::Notify;

use super::connections::Seat;
use crate::time::{self, Tick};

/// Octets that may come between two answers: a hundred usual queries, or a few of the longest.
pub(super) const WASTE: u64 = 256 * 1024;
/// Octets kept for a connection, of queries that are not whole, and the same of answers that are not taken, which one more
/// answer may pass.
pub(super) const ROOM: usize = 256 * 1024;
/// How late a fault may be noticed.
const LOOK: Duration = Duration::from_secs(1);

/// Why a connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    Idle,
    SlowReader,
    Wasteful,
}

/// What a connection's tasks know of it together.
pub(super) struct Pulse {
    seat: Seat,
    /// Requests that have begun and have no answer yet.
    in_progress: Cell<usize>,
    /// When the first of these began, while none was.
    busy_since: Cell<Tick>,
    /// Octets of queries that are not whole.
    asked: Cell<usize>,
    /// Octets of answers that are not taken.
    untaken: Cell<usize>,
    /// When the first of these was ready while there was none, or one was taken.
    untaken_since: Cell<Tick>,
    /// Octets that were received.
    received: Cell<u64>,
    /// The same when an answer was taken last.
    received_before: Cell<u64>,
    is_wasteful: Cell<bool>,
    wasted_now: Notify,
    has_room: Notify,
}

/// It was more than may be.
#[derive(Debug)]
pub(super) struct TooMuch;

impl Pulse {
    pub(super) fn new(seat: Seat) -> Rc<Pulse> {
        let now = time::now();
        Rc::new(Pulse {
            seat,
            in_progress: Cell::new(0),
            busy_since: Cell::new(now),
            asked: Cell::new(0),
            untaken: Cell::new(0),
            untaken_since: Cell::new(now),
            received: Cell::new(0),
            received_before: Cell::new(0),
            is_wasteful: Cell::new(false),
            wasted_now: Notify::new(),
            has_room: Notify::new(),
        })
    }

    pub(super) fn seat(&self) -> &Seat {
        &self.seat
    }

    /// Says that so many octets came.
    pub(super) fn received(&self, octets: usize) -> Result<(), TooMuch> {
        self.received_in_all(self.received.get() + octets as u64)
    }

    /// Says how many octets came from the beginning.
    pub(super) fn received_in_all(&self, octets: u64) -> Result<(), TooMuch> {
        self.received.set(octets);
        if octets - self.received_before.get() > WASTE { Err(self.waste()) } else { Ok(()) }
    }

    /// Says that a request begins.
    pub(super) fn begin(self: &Rc<Pulse>) -> Request {
        if self.in_progress.get() == 0 {
            self.busy_since.set(time::now());
        }
        self.in_progress.set(self.in_progress.get() + 1);
        Request { pulse: Rc::clone(self), octets: 0 }
    }

    /// Waits for a fault.
    pub(super) async fn watch(&self) -> Fault {
        loop {
            match self.look(time::now()) {
                Ok(left) => {
                    let wait = left.min(LOOK);
                    // Past the deadline, not at it.
                    let _ = tokio::time::timeout(wait + Duration::from_millis(1), self.wasted_now.notified()).await;
                }
                Err(fault) => return fault,
            }
        }
    }

    /// Whether it was wasteful: then no more comes of it.
    pub(super) fn wasted(&self) -> Option<Fault> {
        self.is_wasteful.get().then_some(Fault::Wasteful)
    }

    /// A fault, or how long there is none if nothing happens.
    fn look(&self, now: Tick) -> Result<Duration, Fault> {
        if let Some(fault) = self.wasted() {
            return Err(fault);
        }
        let left = |deadline: Tick, fault| Some(deadline.since(now)).filter(|left| !left.is_zero()).ok_or(fault);
        let connections = self.seat.connections();
        let limits = connections.limits();
        let may_write = match self.untaken.get() {
            0 => limits.write,
            _ => left(self.untaken_since.get().plus(limits.write), Fault::SlowReader)?,
        };
        let idle = self.seat.idle_since().plus(connections.idle());
        let busy = self.busy_since.get().plus(limits.message);
        let deadline = if self.in_progress.get() > 0 { idle.max(busy) } else { idle };
        Ok(left(deadline, Fault::Idle)?.min(may_write))
    }

    fn waste(&self) -> TooMuch {
        self.is_wasteful.set(true);
        self.wasted_now.notify_one();
        TooMuch
    }

    fn taken(&self) {
        let now = time::now();
        self.seat.finished(now);
        self.untaken_since.set(now);
        self.received_before.set(self.received.get());
    }
}

/// A request that has begun; over when dropped.
pub(super) struct Request {
    pulse: Rc<Pulse>,
    /// Of its query, as far as they came.
    octets: usize,
}

impl Request {
    /// Says that so many octets of the query came.
    pub(super) fn grew(&mut self, octets: usize) -> Result<(), TooMuch> {
        let asked = self.pulse.asked.get() + octets;
        self.pulse.asked.set(asked);
        self.octets += octets;
        if asked > ROOM { Err(self.pulse.waste()) } else { Ok(()) }
    }

    /// Waits until there is room for an answer.
    pub(super) async fn room(&self) {
        while self.pulse.untaken.get() >= ROOM {
            self.pulse.has_room.notified().await;
        }
    }

    /// An answer is ready.
    pub(super) fn answered(self, octets: Vec<u8>) -> Answer {
        let pulse = Rc::clone(&self.pulse);
        if pulse.untaken.get() == 0 {
            pulse.untaken_since.set(time::now());
        }
        pulse.untaken.set(pulse.untaken.get() + octets.len());
        Answer { octets, taken: 0, pulse }
    }

    pub(super) fn limits(&self) -> &super::Limits {
        self.pulse.seat.connections().limits()
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        self.pulse.in_progress.set(self.pulse.in_progress.get() - 1);
        self.pulse.asked.set(self.pulse.asked.get() - self.octets);
    }
}

/// The octets of an answer until the client takes them. One that is dropped before was cancelled, which is no sign of life.
pub(super) struct Answer {
    octets: Vec<u8>,
    taken: usize,
    pulse: Rc<Pulse>,
}

impl Buf for Answer {
    fn remaining(&self) -> usize {
        self.octets.len() - self.taken
    }

    fn chunk(&self) -> &[u8] {
        &self.octets[self.taken..]
    }

    fn advance(&mut self, count: usize) {
        self.taken += count;
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.pulse.untaken.set(self.pulse.untaken.get() - self.octets.len());
        if self.taken == self.octets.len() {
            self.pulse.taken();
        }
        self.pulse.has_room.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};
    use std::sync::Arc;

    use super::*;
    use crate::serve::Limits;
    use crate::serve::connections::Connections;

    const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
    const MOMENT: Duration = Duration::from_millis(1);

    fn pulse() -> (Rc<Pulse>, Tick) {
        let connections = Arc::new(Connections::new(Limits::default()));
        let (seat, _) = connections.admit(Some(CLIENT), time::now());
        let pulse = Pulse::new(seat);
        let began = pulse.seat.idle_since();
        (pulse, began)
    }

    #[test]
    fn the_idle() {
        let Limits { idle, message, .. } = Limits::default();
        let (pulse, began) = pulse();
        assert!(pulse.look(began.plus(idle - MOMENT)).is_ok());
        assert_eq!(pulse.look(began.plus(idle)), Err(Fault::Idle));
        // A request that begins late may take as long as any other.
        let request = pulse.begin();
        pulse.busy_since.set(began.plus(idle - MOMENT));
        assert!(pulse.look(began.plus(idle)).is_ok());
        assert_eq!(pulse.look(began.plus(idle + message)), Err(Fault::Idle));
        // One that is refused is no sign of life, nor is an answer that nobody takes.
        drop(request);
        assert_eq!(pulse.look(began.plus(idle)), Err(Fault::Idle));
        drop(pulse.begin().answered(vec![0; 100]));
        assert_eq!(pulse.look(began.plus(idle + MOMENT * 100)), Err(Fault::Idle));
        assert_eq!((pulse.in_progress.get(), pulse.untaken.get()), (0, 0));
    }

    #[test]
    fn slow_readers() {
        let Limits { write, .. } = Limits::default();
        let (pulse, _) = pulse();
        let mut answers: Vec<Answer> = (0..2).map(|_| pulse.begin().answered(vec![0; 100])).collect();
        let ready = pulse.untaken_since.get();
        assert!(pulse.look(ready.plus(write - MOMENT)).is_ok());
        assert_eq!(pulse.look(ready.plus(write)), Err(Fault::SlowReader));
        answers[0].advance(100);
        drop(answers.remove(0));
        assert!(pulse.look(pulse.untaken_since.get().plus(write - MOMENT)).is_ok(), "one was taken meanwhile");
        drop(answers);
        assert!(pulse.look(ready.plus(write)).is_ok(), "nothing is kept back");
    }

    #[test]
    fn the_wasteful() {
        let (pulse, began) = pulse();
        assert!(pulse.received(WASTE as usize).is_ok());
        let mut answer = pulse.begin().answered(vec![0; 10]);
        answer.advance(10);
        drop(answer);
        assert!(pulse.received(WASTE as usize).is_ok(), "an answer was taken");
        assert!(pulse.look(began).is_ok());
        assert!(pulse.received(1).is_err());
        assert_eq!(pulse.look(began), Err(Fault::Wasteful));
    }

    #[test]
    fn queries_have_little_room_together() {
        let (pulse, began) = pulse();
        let mut requests: Vec<Request> = (0..4).map(|_| pulse.begin()).collect();
        for request in &mut requests {
            assert!(request.grew(ROOM / 4).is_ok());
        }
        drop(requests.pop());
        assert!(requests[0].grew(ROOM / 4).is_ok(), "one is gone");
        assert!(requests[0].grew(1).is_err());
        assert_eq!(pulse.look(began), Err(Fault::Wasteful));
        drop(requests);
        assert_eq!(pulse.asked.get(), 0);
    }

    #[test]
    fn answers_wait_for_room() {
        let (pulse, _) = pulse();
        let mut kept: Vec<Answer> = (0..4).map(|_| pulse.begin().answered(vec![0; ROOM / 4])).collect();
        let waiting = pulse.begin();
        let mut room = std::pin::pin!(waiting.room());
        let mut poll = || {
            let mut context = std::task::Context::from_waker(std::task::Waker::noop());
            room.as_mut().poll(&mut context).is_ready()
        };
        assert!(!poll());
        drop(kept.pop());
        assert!(poll());
    }
}
