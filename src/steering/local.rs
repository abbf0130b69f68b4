//! What a thread that decides owns: random state, rotations, room to work in. Nothing here is shared.

use super::plan::{Likely, Steering};
use super::service::Balance;
use crate::prefetch;

/// A small fast generator (SplitMix64), for draws, not for secrets.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The same seed gives the same draws.
    #[must_use]
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound` (which is above 0); the bias is below 2^-24 for bounds below 2^40.
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.bits()) * u128::from(bound)) >> 64) as u64
    }
}

/// A large table of clients that answers read: that of a number, or those of the measured ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Large(u64);

impl Large {
    /// What is measured of clients, and whose system and country they are.
    pub(super) const LATENCY: Large = Large(1 << 63);

    /// A table of orders by its number, if there is room for it.
    pub(super) fn of_table(number: usize) -> Option<Large> {
        (number < 63).then(|| Large(1 << number))
    }
}

/// Which large tables the answers of a batch have read: those of the next batch most likely read the same.
#[derive(Clone, Copy, Debug, Default)]
pub struct Read(u64);

impl Read {
    /// Most tables of orders that are looked into ahead for every client, whatever it asks for.
    const MOST: usize = 4;

    /// Notes a table, if it is large.
    #[inline]
    pub(super) fn note(&mut self, table: Option<Large>) {
        self.0 |= table.map_or(0, |table| table.0);
    }

    /// Whether there is one.
    #[must_use]
    pub fn is_any(self) -> bool {
        self.0 != 0
    }

    /// Whether what is measured was.
    #[must_use]
    pub fn has_latency(self) -> bool {
        self.0 & Large::LATENCY.0 != 0
    }

    /// Numbers of tables of orders, ascending; of more than a few the first.
    pub fn tables(self) -> impl Iterator<Item = usize> {
        let mut left = self.0 & !Large::LATENCY.0;
        let next = move || {
            let number = left.trailing_zeros();
            left &= left.checked_sub(1)?;
            Some(number as usize)
        };
        std::iter::from_fn(next).take(Read::MOST)
    }
}

/// Random state, rotations and scratch space of one thread.
#[derive(Debug)]
pub struct Local {
    /// Draws.
    pub random: Random,
    /// What answers have read since it was last taken.
    pub read: Read,
    /// Groups in the order of this query, where it is not ready made.
    pub(super) order: Vec<u32>,
    /// Shares that belong to `order`.
    pub(super) shares: Vec<u32>,
    /// (rank, index) of entries or groups.
    pub(super) ranked: Vec<(f64, u32)>,
    /// Sums of the weights of entries that are left, for `least-load` with several answers.
    pub(super) sums: Vec<u64>,
    /// Indexes of the entries that are answered, best first.
    pub(super) chosen: Vec<u32>,
    /// Rotations, by [`super::plan::Steered::turns`].
    pub(super) turns: Vec<Turn>,
    /// Running weights of those whose cycle is long, by [`super::plan::Steered::running`].
    pub(super) running: Vec<i64>,
    epoch: u64,
}

/// Where a rotation is.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Turn {
    /// Which version of a roster it goes through; 0 = none yet.
    pub(super) version: u64,
    /// The turn of the cycle that is next.
    pub(super) place: u64,
}

impl Local {
    /// Random state from `seed`; no room yet.
    #[must_use]
    pub fn new(seed: u64) -> Local {
        Local {
            random: Random::new(seed),
            read: Read::default(),
            order: Vec::new(),
            shares: Vec::new(),
            ranked: Vec::new(),
            sums: Vec::new(),
            chosen: Vec::new(),
            turns: Vec::new(),
            running: Vec::new(),
            epoch: u64::MAX,
        }
    }

    /// Asks the processor for the rotation there, if it is one.
    pub fn prefetch(&self, likely: &Likely<'_>) {
        let Likely { service, group, family } = *likely;
        if service.manner.balance == Balance::RoundRobin
            && let Some(turn) = self.turns.get(service.turn(group, family))
        {
            prefetch::first_line(turn);
        }
    }

    /// Makes room for what `steering` needs; rotations begin anew when it is another one.
    pub fn adopt(&mut self, steering: &Steering) {
        if self.epoch == steering.epoch {
            return;
        }
        self.epoch = steering.epoch;
        let need = steering.room();
        for list in [&mut self.order, &mut self.shares] {
            list.clear();
            list.reserve(need.groups);
        }
        self.ranked.clear();
        self.ranked.reserve(need.candidates);
        self.sums.clear();
        self.sums.reserve(need.loaded);
        self.chosen.clear();
        self.chosen.reserve(need.candidates);
        self.turns = vec![Turn::default(); need.turns];
        // Fresh zeroes come from the kernel page by page as they are used, and few of these ever are.
        self.running = vec![0; need.running];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_read_is_told_once_each() {
        let mut read = Read::default();
        assert!(!read.is_any() && !read.has_latency() && read.tables().next().is_none());
        for table in [7, 0, 62, 7, 63, 100] {
            read.note(Large::of_table(table));
        }
        read.note(None);
        assert_eq!(read.tables().collect::<Vec<_>>(), [0, 7, 62]);
        assert!(read.is_any() && !read.has_latency());
        read.note(Some(Large::LATENCY));
        assert!(read.has_latency());
        (0..63).for_each(|table| read.note(Large::of_table(table)));
        assert_eq!(read.tables().collect::<Vec<_>>(), [0, 1, 2, 3]);
    }
}
