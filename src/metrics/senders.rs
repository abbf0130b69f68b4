//! Who sends client subnets: a bounded table of resolver networks (/24, /48) for each thread, written while queries are
//! answered, read by whoever asks.
//!
//! One query in [`EVERY`] that carries a client subnet is looked at. The table is that of *space saving* (Metwally,
//! Agrawal, El Abbadi 2005): a network that is not in it takes the place of the one seen least, and its count. So
//! whoever sends more than a 64th of all is in it, however many others there are, and no count is too low by much. Counts
//! are halved now and then: what counts is the last million or so.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering};

use ipnet::IpNet;

use super::Counter;

/// One query in so many is looked at; a power of two.
pub const EVERY: u64 = 16;
/// Networks remembered.
const PLACES: usize = 64;
/// After so many looks all counts are halved.
const HALVED_AFTER: u64 = 1 << 16;
/// The fractional part of the golden ratio, of 2^64: its multiples spread evenly, in step with no pattern of queries.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
/// Marks a key as of IPv4 or IPv6, so that none is 0.
const V4: u64 = 1 << 62;
const V6: u64 = 1 << 63;

/// Networks that send client subnets to one thread, with one writer.
#[derive(Debug)]
pub struct Senders {
    /// 0 = nobody's place.
    keys: [AtomicU64; PLACES],
    counts: [AtomicU64; PLACES],
    looks: Counter,
}

impl Default for Senders {
    fn default() -> Senders {
        let zeroes = || std::array::from_fn(|_| AtomicU64::new(0));
        Senders { keys: zeroes(), counts: zeroes(), looks: Counter::default() }
    }
}

impl Senders {
    /// Whether the `number`th query with a client subnet is to be looked at.
    #[must_use]
    #[inline]
    pub fn is_sampled(number: u64) -> bool {
        number.wrapping_mul(GOLDEN) < u64::MAX / EVERY
    }

    /// Takes in a packet's source; only the owning thread may.
    pub fn see(&self, source: IpAddr) {
        let key = key_of(source);
        let place = self.place_of(key);
        let count = load(&self.counts[place]);
        if load(&self.keys[place]) != key {
            // Whoever reads meanwhile sees nobody there rather than a count that is another's.
            self.keys[place].store(0, Ordering::Release);
            self.counts[place].store(count + 1, Ordering::Release);
            self.keys[place].store(key, Ordering::Release);
        } else {
            self.counts[place].store(count + 1, Ordering::Release);
        }
        self.looks.add(1);
        if self.looks.get().is_multiple_of(HALVED_AFTER) {
            self.counts.iter().for_each(|count| count.store(load(count) / 2, Ordering::Release));
        }
    }

    /// Its place, else that of the one seen least.
    fn place_of(&self, key: u64) -> usize {
        let own = self.keys.iter().position(|known| load(known) == key);
        own.unwrap_or_else(|| (0..PLACES).min_by_key(|&place| load(&self.counts[place])).unwrap_or(0))
    }

    /// Adds what was seen to `sums`.
    fn add_to(&self, sums: &mut HashMap<u64, u64>) {
        for (key, count) in self.keys.iter().zip(&self.counts) {
            let (before, seen) = (key.load(Ordering::Acquire), count.load(Ordering::Acquire));
            if before != 0 && key.load(Ordering::Acquire) == before {
                *sums.entry(before).or_default() += seen;
            }
        }
    }
}

/// The networks that all these saw, the busiest first, each with how often, and the sum of that.
#[must_use]
pub fn merged<'s>(all: impl Iterator<Item = &'s Senders>) -> (Vec<(IpNet, u64)>, u64) {
    let mut sums = HashMap::new();
    all.for_each(|senders| senders.add_to(&mut sums));
    let total = sums.values().sum();
    let mut networks: Vec<(IpNet, u64)> = sums.into_iter().map(|(key, seen)| (network_of(key), seen)).collect();
    networks.sort_unstable_by_key(|&(network, seen)| (std::cmp::Reverse(seen), network));
    (networks, total)
}

fn load(cell: &AtomicU64) -> u64 {
    cell.load(Ordering::Relaxed)
}

fn key_of(source: IpAddr) -> u64 {
    match source.to_canonical() {
        IpAddr::V4(address) => V4 | u64::from(address.to_bits() >> 8),
        IpAddr::V6(address) => V6 | (address.to_bits() >> 80) as u64,
    }
}

fn network_of(key: u64) -> IpNet {
    let (address, length) = if key & V6 != 0 {
        (IpAddr::V6(Ipv6Addr::from_bits(u128::from(key & !V6) << 80)), 48)
    } else {
        (IpAddr::V4(Ipv4Addr::from_bits((key as u32) << 8)), 24)
    };
    IpNet::new_assert(address, length)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn one_in_sixteen_is_sampled_whatever_the_step() {
        for step in [1, 2, 3, 7, 16, 32, 1024] {
            let sampled = (0..160_000u64).filter(|number| Senders::is_sampled(number * step)).count();
            assert!((9_500..10_500).contains(&sampled), "{step}: {sampled}");
        }
    }

    #[test]
    fn networks_are_told_apart_and_merged() {
        let (one, other) = (Senders::default(), Senders::default());
        for source in ["192.0.2.1", "192.0.2.99", "::ffff:192.0.2.7", "2001:db8:0:1::1", "2001:db8:0:2::1"] {
            one.see(ip(source));
        }
        for source in ["192.0.2.1", "0.0.0.0", "::"] {
            other.see(ip(source));
        }
        let (networks, total) = merged([&one, &other].into_iter());
        let shown: Vec<String> = networks.iter().map(|(network, seen)| format!("{network} {seen}")).collect();
        assert_eq!((shown.join(", "), total), ("192.0.2.0/24 4, 2001:db8::/48 2, 0.0.0.0/24 1, ::/48 1".into(), 8));
    }

    /// Among 10 000 that come once, those who send a tenth each are found, with their share.
    #[test]
    fn the_busy_are_found_among_many() {
        let senders = Senders::default();
        for round in 0..10_000u32 {
            senders.see(IpAddr::from((0x0b00_0000 | round << 8).to_be_bytes()));
            if round % 8 == 0 {
                senders.see(ip("192.0.2.1"));
                senders.see(ip("2001:db8::1"));
            }
        }
        let (networks, total) = merged(std::iter::once(&senders));
        assert!(networks.len() <= PLACES);
        for (network, seen) in &networks[..2] {
            assert!(["192.0.2.0/24", "2001:db8::/48"].contains(&&*network.to_string()), "{network}");
            let share = *seen as f64 / total as f64;
            assert!((0.08..0.14).contains(&share), "{network}: {share}");
        }
    }

    #[test]
    fn the_past_fades() {
        let senders = Senders::default();
        (0..HALVED_AFTER).for_each(|_| senders.see(ip("192.0.2.1")));
        (0..HALVED_AFTER - 1).for_each(|_| senders.see(ip("198.51.100.1")));
        let (networks, _) = merged(std::iter::once(&senders));
        assert_eq!((networks[0].0.to_string(), networks[1].1), ("198.51.100.0/24".into(), HALVED_AFTER / 2));
    }
}
