//! The buckets: a fixed table of 64-bit words, which all threads read and write without a lock.
//!
//! ```text
//!  63          48 47      47 46      40 39                        0
//! +--------------+----------+----------+---------------------------+
//! | tag          | limited  | withheld | empty at                  |
//! +--------------+----------+----------+---------------------------+
//! ```
//! *Empty at* is when the bucket will be empty if nothing more is taken, in µs modulo 2^40 (12 days): each answer puts it
//! off by its share of a second, and one that would put it off for more than a second from now is beyond the rate (the
//! generic cell rate algorithm). *Limited* says that there was such a one since the bucket was empty; *withheld* counts
//! them modulo `slip`. A key belongs into a set of four buckets, which lie in one line of the cache, and has the one with its *tag*;
//! a newcomer takes the one that will be empty first, so that whoever is limited is the last to be forgotten.

use std::hash::Hasher;
use std::sync::atomic::{AtomicU64, Ordering};

use siphasher::sip::SipHasher13;

use crate::time::Tick;

/// Buckets of a set.
const WAYS: usize = 4;
/// Most that is taken in advance, in µs: a second's worth.
const BURST: u64 = 1_000_000;
const TIME_BITS: u32 = 40;
const TIME: u64 = (1 << TIME_BITS) - 1;
const WITHHELD: u64 = 0x7f;
const LIMITED: u64 = 1 << 47;
const TAG_BITS: u32 = 48;

#[derive(Debug, Default)]
#[repr(align(32))]
struct Set([AtomicU64; WAYS]);

/// All buckets.
#[derive(Debug)]
pub(super) struct Table {
    /// As many as a power of two.
    sets: Box<[Set]>,
    hasher: SipHasher13,
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spent {
    /// It is within the rate.
    Within,
    /// It is not.
    Beyond {
        /// It is one of those that go out truncated.
        slips: bool,
        /// It is the first since the bucket was empty.
        begins: bool,
    },
}

impl Table {
    /// At least so many buckets, at most twice as many.
    pub(super) fn new(buckets: usize, key: u128) -> Table {
        let sets = buckets.div_ceil(WAYS).next_power_of_two();
        Table {
            sets: (0..sets).map(|_| Set::default()).collect(),
            hasher: SipHasher13::new_with_key(&key.to_be_bytes()),
        }
    }

    /// Takes one from the bucket of a key that is refilled with `rate` (above 0) a second.
    pub(super) fn spend(&self, prefix: u64, of: u64, rate: u32, slip: u8, now: Tick) -> Spent {
        let mut hasher = self.hasher;
        hasher.write_u64(prefix);
        hasher.write_u64(of);
        let hash = hasher.finish();
        let Set(set) = &self.sets[(hash >> 16) as usize & (self.sets.len() - 1)];
        // An empty bucket has the tag 0.
        let tag = (hash & 0xffff).max(1);
        let now = now.0.wrapping_mul(1000) & TIME;
        let cost = (BURST / u64::from(rate.max(1))).max(1);
        loop {
            let (bucket, before) = find(set, tag, now);
            let (after, spent) = taken(before, tag, cost, slip, now);
            // Another thread may have been faster; whichever was has got on.
            if bucket.compare_exchange_weak(before, after, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
                return spent;
            }
        }
    }
}

/// The bucket with this tag, else the one that is empty first; and what is in it.
fn find(set: &[AtomicU64; WAYS], tag: u64, now: u64) -> (&AtomicU64, u64) {
    let mut best = (&set[0], set[0].load(Ordering::Relaxed));
    for bucket in set {
        let word = bucket.load(Ordering::Relaxed);
        if word >> TAG_BITS == tag {
            return (bucket, word);
        }
        if debt(word, now) < debt(best.1, now) {
            best = (bucket, word);
        }
    }
    best
}

/// How long until a bucket is empty, in µs.
fn debt(word: u64, now: u64) -> u64 {
    let debt = word.wrapping_sub(now) & TIME;
    // What another thread filled, whose batch is of a later time, is a little fuller than full. No bucket is fuller than
    // that: it was empty long ago.
    if debt > 2 * BURST { 0 } else { debt }
}

/// What a bucket holds after one more was taken from it, if that is within the rate.
fn taken(before: u64, tag: u64, cost: u64, slip: u8, now: u64) -> (u64, Spent) {
    let is_own = before >> TAG_BITS == tag;
    let debt = if is_own { debt(before, now) } else { 0 };
    let (limited, withheld) = if debt > 0 { (before & LIMITED, before >> TIME_BITS & WITHHELD) } else { (0, 0) };
    let word = |limited, withheld, debt| tag << TAG_BITS | limited | withheld << TIME_BITS | (now + debt) & TIME;
    if debt + cost <= BURST {
        return (word(limited, withheld, debt + cost), Spent::Within);
    }
    let withheld = (withheld + 1).checked_rem(u64::from(slip)).unwrap_or(1) & WITHHELD;
    (word(LIMITED, withheld, debt), Spent::Beyond { slips: withheld == 0, begins: limited == 0 })
}
