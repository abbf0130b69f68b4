//! Which TCP connections may be open: caps in total and per client prefix (SPEC 7.6). A cap that is reached refuses
//! nobody; the connection that finished nothing for longest makes room. Whoever only holds connections, by silence,
//! half messages or unread answers, is therefore the one who loses them.
//!
//! Seats wait in queues, ordered by when they last finished something *as far as was looked*: finishing an exchange is one
//! store, and a seat moves back in its queues when it is found at their head with a later time than it stands there for.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::Limits;
use crate::time::Tick;

/// Leading bits that clients counted together share.
const PREFIX_V4: u32 = 24;
const PREFIX_V6: u32 = 48;

/// All connections that are open.
pub(super) struct Connections {
    limits: Limits,
    /// How many seats the table has.
    open: AtomicUsize,
    /// How many copies of zones are on their way.
    copies: AtomicUsize,
    table: Mutex<Table>,
}

/// A copy of a zone that is on its way; counted until it is dropped.
pub(super) struct Copying<'c>(&'c Connections);

impl Drop for Copying<'_> {
    fn drop(&mut self) {
        self.0.copies.fetch_sub(1, Ordering::Relaxed);
    }
}

#[derive(Default)]
struct Table {
    next: u64,
    seats: HashMap<u64, Entry>,
    /// All seats.
    queue: Queue,
    /// Those of each prefix.
    queues: HashMap<IpAddr, Queue>,
    /// Those of each prefix that are in their handshake, the first that began first.
    handshakes: HashMap<IpAddr, BTreeSet<u64>>,
}

/// Seats by the time they stand there for and their numbers, the one that makes room first.
type Queue = BTreeSet<(u64, u64)>;

struct Entry {
    /// `None` until it is known whose it is.
    prefix: Option<IpAddr>,
    state: Arc<State>,
    /// The time that it stands in its queues for.
    queued: u64,
    in_handshake: bool,
}

/// What the connection and the table share.
struct State {
    /// When it was accepted or last finished an exchange.
    finished: AtomicU64,
    evicted: Notify,
}

/// One connection's place among the others; given up when dropped.
pub(super) struct Seat {
    connections: Arc<Connections>,
    id: u64,
    state: Arc<State>,
}

impl Connections {
    pub(super) fn new(limits: Limits) -> Connections {
        Connections { limits, open: AtomicUsize::new(0), copies: AtomicUsize::new(0), table: Mutex::default() }
    }

    /// A seat for a newcomer, and how many others lost theirs for it. `None` is a client that a balancer is about to name
    /// ([`Seat::belongs_to`]).
    pub(super) fn admit(self: &Arc<Connections>, client: Option<IpAddr>, now: Tick) -> (Seat, u64) {
        let mut table = self.table();
        let prefix = client.map(prefix);
        let mut evicted = prefix.map_or(0, |prefix| table.make_room_in(prefix, self.limits.connections_per_prefix));
        if table.seats.len() >= self.limits.connections.max(1) {
            evicted += table.evict(None);
        }
        let state = Arc::new(State { finished: AtomicU64::new(now.0), evicted: Notify::new() });
        let id = table.insert(Entry { prefix, state: Arc::clone(&state), queued: now.0, in_handshake: false });
        self.open.store(table.seats.len(), Ordering::Relaxed);
        (Seat { connections: Arc::clone(self), id, state }, evicted)
    }

    /// Takes a seat from whoever finished nothing for longest, so that its descriptor becomes free; how many it took.
    pub(super) fn make_room(&self) -> u64 {
        let mut table = self.table();
        let evicted = table.evict(None);
        self.open.store(table.seats.len(), Ordering::Relaxed);
        evicted
    }

    /// One more copy of a zone, unless there are too many.
    pub(super) fn begin_copy(&self) -> Option<Copying<'_>> {
        let before = self.copies.fetch_add(1, Ordering::Relaxed);
        // Where there are too many, it is given back at once.
        Some(Copying(self)).filter(|_| before < self.limits.transfers)
    }

    /// How long a connection may be silent, as things are.
    pub(super) fn idle(&self) -> Duration {
        let pressed = self.open.load(Ordering::Relaxed) > self.limits.connections / 2;
        if pressed { self.limits.idle_when_pressed.min(self.limits.idle) } else { self.limits.idle }
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.limits
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn insert(&mut self, entry: Entry) -> u64 {
        let id = self.next;
        self.next += 1;
        self.queue(id, entry);
        id
    }

    fn queue(&mut self, id: u64, entry: Entry) {
        self.queue.insert((entry.queued, id));
        if let Some(prefix) = entry.prefix {
            self.queues.entry(prefix).or_default().insert((entry.queued, id));
            if entry.in_handshake {
                self.handshakes.entry(prefix).or_default().insert(id);
            }
        }
        self.seats.insert(id, entry);
    }

    fn remove(&mut self, id: u64) -> Option<Entry> {
        let entry = self.seats.remove(&id)?;
        self.queue.remove(&(entry.queued, id));
        if let Some(prefix) = entry.prefix {
            take(&mut self.queues, prefix, &(entry.queued, id));
            if entry.in_handshake {
                take(&mut self.handshakes, prefix, &id);
            }
        }
        Some(entry)
    }

    /// Changes what is known of a seat that has not been lost.
    fn change(&mut self, id: u64, change: impl FnOnce(&mut Entry)) {
        if let Some(mut entry) = self.remove(id) {
            change(&mut entry);
            self.queue(id, entry);
        }
    }

    /// Takes a seat of a prefix that has as many as it may; how many it took.
    fn make_room_in(&mut self, prefix: IpAddr, most: usize) -> u64 {
        let is_full = self.queues.get(&prefix).is_some_and(|queue| queue.len() >= most.max(1));
        if is_full { self.evict(Some(prefix)) } else { 0 }
    }

    /// Takes the seat of the handshake of a prefix that began first, if there are as many as may be; how many it took.
    fn make_room_for_handshake(&mut self, prefix: IpAddr, most: usize) -> u64 {
        let handshakes = self.handshakes.get(&prefix).filter(|handshakes| handshakes.len() >= most.max(1));
        let first = handshakes.and_then(BTreeSet::first).copied();
        let Some(entry) = first.and_then(|id| self.remove(id)) else { return 0 };
        entry.state.evicted.notify_one();
        1
    }

    /// Takes the seat of the one, of this prefix or of all, that finished nothing for longest; how many it took. A seat
    /// that is moved back on the way finished something since it was last looked at, so that each exchange costs one
    /// move at most.
    fn evict(&mut self, prefix: Option<IpAddr>) -> u64 {
        loop {
            let queue = prefix.map_or(Some(&self.queue), |prefix| self.queues.get(&prefix));
            let Some(&(queued, id)) = queue.and_then(BTreeSet::first) else { return 0 };
            let Some(mut entry) = self.remove(id) else { return 0 };
            let finished = entry.state.finished.load(Ordering::Relaxed);
            if finished <= queued {
                entry.state.evicted.notify_one();
                return 1;
            }
            entry.queued = finished;
            self.queue(id, entry);
        }
    }
}

impl Seat {
    /// Says whose connection it is, of one that was admitted without; how many others lost theirs for it.
    pub(super) fn belongs_to(&self, client: IpAddr) -> u64 {
        let mut table = self.connections.table();
        let prefix = prefix(client);
        let evicted = table.make_room_in(prefix, self.connections.limits.connections_per_prefix);
        table.change(self.id, |entry| entry.prefix = Some(prefix));
        self.connections.open.store(table.seats.len(), Ordering::Relaxed);
        evicted
    }

    /// Says that it begins a handshake; how many others lost their seats for it.
    pub(super) fn shakes_hands(&self) -> u64 {
        let mut table = self.connections.table();
        let prefix = table.seats.get(&self.id).and_then(|entry| entry.prefix);
        let most = self.connections.limits.connections_per_prefix / 2;
        let evicted = prefix.map_or(0, |prefix| table.make_room_for_handshake(prefix, most));
        table.change(self.id, |entry| entry.in_handshake = true);
        self.connections.open.store(table.seats.len(), Ordering::Relaxed);
        evicted
    }

    /// Says that its handshake is done.
    pub(super) fn has_shaken_hands(&self, now: Tick) {
        self.finished(now);
        self.connections.table().change(self.id, |entry| entry.in_handshake = false);
    }

    /// Says that the connection finished an exchange.
    pub(super) fn finished(&self, now: Tick) {
        self.state.finished.store(now.0, Ordering::Relaxed);
    }

    /// When it was accepted or last finished an exchange.
    pub(super) fn idle_since(&self) -> Tick {
        Tick(self.state.finished.load(Ordering::Relaxed))
    }

    /// Waits until a newcomer gets the seat.
    pub(super) async fn evicted(&self) {
        self.state.evicted.notified().await;
    }

    pub(super) fn connections(&self) -> &Connections {
        &self.connections
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut table = self.connections.table();
        table.remove(self.id);
        self.connections.open.store(table.seats.len(), Ordering::Relaxed);
    }
}

/// Takes one out of the set of a prefix; an empty set takes no room.
fn take<T: Ord>(sets: &mut HashMap<IpAddr, BTreeSet<T>>, prefix: IpAddr, one: &T) {
    if let Some(set) = sets.get_mut(&prefix) {
        set.remove(one);
        if set.is_empty() {
            sets.remove(&prefix);
        }
    }
}

/// The address whose bits past the prefix are zero.
fn prefix(client: IpAddr) -> IpAddr {
    match client {
        IpAddr::V4(address) => Ipv4Addr::from_bits(address.to_bits() & (u32::MAX << (32 - PREFIX_V4))).into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << (128 - PREFIX_V6))).into(),
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn connections(total: usize, per_prefix: usize) -> Arc<Connections> {
        let limits = Limits { connections: total, connections_per_prefix: per_prefix, ..Limits::default() };
        Arc::new(Connections::new(limits))
    }

    fn admit(connections: &Arc<Connections>, client: &str, now: u64) -> Seat {
        connections.admit(Some(client.parse().expect("an address")), Tick(now)).0
    }

    fn was_evicted(seat: &Seat) -> bool {
        pin!(seat.evicted()).poll(&mut Context::from_waker(Waker::noop())) == Poll::Ready(())
    }

    #[test]
    fn the_one_idle_for_longest_makes_room() {
        let connections = connections(3, 3);
        let seats: Vec<Seat> = (1..=3).map(|now| admit(&connections, "192.0.2.1", now)).collect();
        seats[0].finished(Tick(4));
        let newcomer = admit(&connections, "198.51.100.1", 5);
        assert_eq!(seats.iter().map(was_evicted).collect::<Vec<_>>(), [false, true, false]);
        drop(seats);
        assert_eq!(connections.table().seats.len(), 1, "an evicted seat is not given up twice");
        drop(newcomer);
        assert!(connections.table().queues.is_empty());
    }

    #[test]
    fn a_full_prefix_makes_room_itself() {
        let connections = connections(9, 2);
        let other = admit(&connections, "198.51.100.1", 0);
        let (one, two) = (admit(&connections, "192.0.2.1", 1), admit(&connections, "192.0.2.77", 2));
        let _newcomer = admit(&connections, "192.0.2.200", 3);
        assert_eq!([&other, &one, &two].map(was_evicted), [false, true, false]);
        let v6 = ["2001:db8:0:1::1", "2001:db8:0:2::1", "2001:db8:1::1"].map(|client| admit(&connections, client, 4));
        assert_eq!(v6.each_ref().map(was_evicted), [false; 3]);
        let _newcomer = admit(&connections, "2001:db8:0:3::1", 5);
        assert_eq!(v6.each_ref().map(was_evicted), [true, false, false]);
    }

    #[test]
    fn the_handshake_that_began_first_makes_room() {
        let connections = connections(99, 4);
        let other = admit(&connections, "198.51.100.1", 0);
        other.shakes_hands();
        let seats: Vec<Seat> = (1..=4).map(|now| admit(&connections, "192.0.2.1", now)).collect();
        assert_eq!(seats[..2].iter().map(Seat::shakes_hands).sum::<u64>(), 0, "half of them");
        seats[1].has_shaken_hands(Tick(5));
        assert_eq!(seats[2].shakes_hands(), 0);
        assert_eq!(seats[3].shakes_hands(), 1);
        assert_eq!(seats.iter().map(was_evicted).collect::<Vec<_>>(), [true, false, false, false]);
        assert!(!was_evicted(&other));
        drop((seats, other));
        assert!(connections.table().handshakes.is_empty());
    }

    #[test]
    fn a_balancer_is_no_prefix() {
        let connections = connections(99, 2);
        let now = Tick(1);
        let seats: Vec<Seat> = (0..9).map(|_| connections.admit(None, now).0).collect();
        let client = |last: u8| IpAddr::from([192, 0, 2, last]);
        assert_eq!([0, 1, 2].map(|at| seats[at].belongs_to(client(at as u8))), [0, 0, 1]);
        assert!(was_evicted(&seats[0]) && !was_evicted(&seats[1]));
        assert_eq!(seats[3].belongs_to([198, 51, 100, 1].into()), 0);
        drop(seats);
        assert!(connections.table().queues.is_empty());
    }

    #[test]
    fn room_is_made_while_there_is_anyone() {
        let connections = connections(3, 3);
        let seats = [2, 1].map(|now| admit(&connections, "192.0.2.1", now));
        assert_eq!(connections.make_room(), 1);
        assert_eq!(seats.each_ref().map(was_evicted), [false, true]);
        assert_eq!((connections.make_room(), connections.make_room()), (1, 0));
    }

    /// Whatever finished when, it is always the one that did so first that makes room; of one prefix where that is full.
    #[test]
    fn queues_are_those_of_a_plain_search() {
        let connections = connections(40, 7);
        let (mut seats, mut random): (Vec<(IpAddr, u64, Seat)>, u64) = (Vec::new(), 1);
        for now in 1..4000 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let drawn = (random >> 33) as usize;
            if !drawn.is_multiple_of(3) && !seats.is_empty() {
                let at = drawn / 3 % seats.len();
                seats[at].1 = now;
                seats[at].2.finished(Tick(now));
                continue;
            }
            let client: IpAddr = [192, 0, (drawn / 3 % 8) as u8, 1].into();
            let of_prefix = seats.iter().filter(|(prefix, ..)| *prefix == client).count();
            let candidates = seats.iter().filter(|(prefix, ..)| of_prefix < 7 || *prefix == client);
            let is_full = of_prefix >= 7 || seats.len() >= 40;
            let expected = candidates.min_by_key(|(_, finished, _)| *finished).map(|(_, finished, _)| *finished);
            let (seat, evicted) = connections.admit(Some(client), Tick(now));
            assert_eq!(evicted, u64::from(is_full));
            let gone: Vec<u64> = seats.iter().filter(|(.., seat)| was_evicted(seat)).map(|(_, at, _)| *at).collect();
            assert_eq!(gone, expected.filter(|_| is_full).into_iter().collect::<Vec<_>>());
            seats.retain(|(_, finished, _)| !gone.contains(finished));
            seats.push((client, now, seat));
        }
    }

    #[test]
    fn half_full_means_less_patience() {
        let connections = connections(2, 2);
        let limits = Limits::default();
        let _one = admit(&connections, "192.0.2.1", 0);
        assert_eq!(connections.idle(), limits.idle);
        let _two = admit(&connections, "192.0.2.1", 0);
        assert_eq!(connections.idle(), limits.idle_when_pressed);
    }
}
