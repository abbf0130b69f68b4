//! Which TCP connections may be open: caps in total and per client prefix (SPEC 7.6). A cap that is reached refuses
//! nobody; the connection that finished nothing for longest makes room. Whoever only holds connections, by silence,
//! half messages or unread answers, is therefore the one who loses them.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering};
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
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    next: u64,
    seats: HashMap<u64, Entry>,
    /// All of `seats`.
    order: Order,
    /// Those of each prefix.
    of_prefix: HashMap<IpAddr, Order>,
}

/// Seats by when they last finished something, as far as is known, and number: none finished its last before.
type Order = BTreeSet<(u64, u64)>;

struct Entry {
    prefix: IpAddr,
    /// Where it stands in the orders.
    known: u64,
    state: Arc<State>,
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
        Connections { limits, table: Mutex::default() }
    }

    /// A seat for a newcomer, and how many others lost theirs for it.
    pub(super) fn admit(self: &Arc<Connections>, client: IpAddr, now: Tick) -> (Seat, u64) {
        let mut table = self.table();
        let prefix = prefix(client);
        let mut evicted = 0;
        if table.of_prefix.get(&prefix).is_some_and(|order| order.len() >= self.limits.connections_per_prefix.max(1)) {
            evicted += table.evict(Some(prefix));
        }
        if table.seats.len() >= self.limits.connections.max(1) {
            evicted += table.evict(None);
        }
        let state = Arc::new(State { finished: AtomicU64::new(now.0), evicted: Notify::new() });
        let id = table.insert(prefix, Arc::clone(&state));
        (Seat { connections: Arc::clone(self), id, state }, evicted)
    }

    /// Takes a seat from whoever finished nothing for longest, so that its descriptor becomes free; how many it took.
    pub(super) fn make_room(&self) -> u64 {
        self.table().evict(None)
    }

    /// How long a connection may be silent, as things are.
    pub(super) fn idle(&self) -> Duration {
        let pressed = self.table().seats.len() > self.limits.connections / 2;
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
    fn insert(&mut self, prefix: IpAddr, state: Arc<State>) -> u64 {
        let id = self.next;
        self.next += 1;
        let known = state.finished.load(Ordering::Relaxed);
        self.seats.insert(id, Entry { prefix, known, state });
        self.order.insert((known, id));
        self.of_prefix.entry(prefix).or_default().insert((known, id));
        id
    }

    fn remove(&mut self, id: u64) -> Option<Entry> {
        let entry = self.seats.remove(&id)?;
        self.order.remove(&(entry.known, id));
        if let Some(order) = self.of_prefix.get_mut(&entry.prefix) {
            order.remove(&(entry.known, id));
            if order.is_empty() {
                self.of_prefix.remove(&entry.prefix);
            }
        }
        Some(entry)
    }

    /// Takes the seat of the one that finished nothing for longest, of a prefix or of all. Whoever finished something since
    /// it was looked at goes to where it belongs: for each exchange that is done once at most.
    fn evict(&mut self, prefix: Option<IpAddr>) -> u64 {
        loop {
            let order = prefix.map_or(Some(&self.order), |prefix| self.of_prefix.get(&prefix));
            let Some(&(known, id)) = order.and_then(BTreeSet::first) else { return 0 };
            let Some(entry) = self.remove(id) else { return 0 };
            if entry.state.finished.load(Ordering::Relaxed) == known {
                entry.state.evicted.notify_one();
                return 1;
            }
            self.put_back(id, entry);
        }
    }

    fn put_back(&mut self, id: u64, mut entry: Entry) {
        entry.known = entry.state.finished.load(Ordering::Relaxed);
        self.order.insert((entry.known, id));
        self.of_prefix.entry(entry.prefix).or_default().insert((entry.known, id));
        self.seats.insert(id, entry);
    }
}

impl Seat {
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
        self.connections.table().remove(self.id);
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
        connections.admit(client.parse().expect("an address"), Tick(now)).0
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
        assert!(connections.table().of_prefix.is_empty());
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
    fn room_is_made_while_there_is_anyone() {
        let connections = connections(3, 3);
        let seats = [2, 1].map(|now| admit(&connections, "192.0.2.1", now));
        assert_eq!(connections.make_room(), 1);
        assert_eq!(seats.each_ref().map(was_evicted), [false, true]);
        assert_eq!((connections.make_room(), connections.make_room()), (1, 0));
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
