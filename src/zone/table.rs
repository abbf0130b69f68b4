//! A table of names that are kept elsewhere: hash of the name in lower case to its number. Open addressing with linear
//! probing, so that a name is found with one access to memory in most cases.
//!
//! ```text
//! slot   0              4        8
//!        | hash         | number |      the upper bits of the hash say where a slot's place is
//! ```

use xxhash_rust::xxh3::xxh3_64;

use crate::prefetch;

/// The number in a slot that is free.
const FREE: u32 = u32::MAX;
/// Fewest slots of a table that is not empty.
const MIN_SLOTS: usize = 8;

/// Hash of a name in lower-case wire format. Not seeded: what is in a table comes from the configuration alone.
pub(super) fn hash(lower: &[u8]) -> u32 {
    (xxh3_64(lower) >> 32) as u32
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    hash: u32,
    number: u32,
}

/// Numbers by the hash of their names; at most two thirds of the slots are taken.
#[derive(Clone, Debug, Default)]
pub(super) struct Table {
    /// None, or a power of two.
    slots: Vec<Slot>,
    taken: usize,
}

impl Table {
    /// Room for so many names.
    pub(super) fn with_capacity(names: usize) -> Table {
        let mut table = Table::default();
        table.resize((names + names / 2 + 1).next_power_of_two().max(MIN_SLOTS));
        table
    }

    /// The number with this hash of which `is` says that it has the name.
    pub(super) fn find(&self, hash: u32, mut is: impl FnMut(u32) -> bool) -> Option<u32> {
        let mut at = self.place(hash);
        loop {
            // An empty table has no slot at all; in all others one is free.
            let slot = *self.slots.get(at)?;
            if slot.number == FREE {
                return None;
            }
            if slot.hash == hash && is(slot.number) {
                return Some(slot.number);
            }
            at = (at + 1) & (self.slots.len() - 1);
        }
    }

    /// Asks the processor for what [`Table::find`] will read first for this hash.
    pub(super) fn prefetch(&self, hash: u32) {
        if let Some(slot) = self.slots.get(self.place(hash)) {
            prefetch::first_line(slot);
        }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.taken
    }

    /// Adds a number whose name has this hash and is not there yet.
    pub(super) fn insert(&mut self, hash: u32, number: u32) {
        if (self.taken + 1) * 3 > self.slots.len() * 2 {
            self.resize((self.slots.len() * 2).max(MIN_SLOTS));
        }
        self.place_slot(Slot { hash, number });
        self.taken += 1;
    }

    fn place_slot(&mut self, slot: Slot) {
        let mut at = self.place(slot.hash);
        while self.slots[at].number != FREE {
            at = (at + 1) & (self.slots.len() - 1);
        }
        self.slots[at] = slot;
    }

    /// Where the search for a hash begins.
    fn place(&self, hash: u32) -> usize {
        ((u64::from(hash) * self.slots.len() as u64) >> 32) as usize
    }

    fn resize(&mut self, slots: usize) {
        let before = std::mem::replace(&mut self.slots, vec![Slot { hash: 0, number: FREE }; slots]);
        before.into_iter().filter(|slot| slot.number != FREE).for_each(|slot| self.place_slot(slot));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_was_inserted() {
        let mut table = Table::default();
        assert_eq!(table.find(0, |_| true), None);
        let hashes: Vec<u32> = (0..5000u32).map(|number| hash(&(number / 2).to_be_bytes())).collect();
        for (number, hash) in hashes.iter().enumerate() {
            table.insert(*hash, number as u32);
        }
        for (number, hash) in hashes.iter().enumerate() {
            let number = number as u32;
            assert_eq!(table.find(*hash, |each| each == number), Some(number));
            assert_eq!(table.find(*hash, |each| each == number + 10_000), None);
        }
        assert!(table.taken * 3 <= table.slots.len() * 2);
    }

    #[test]
    fn wraps_at_the_end() {
        let mut table = Table::with_capacity(5);
        for number in 0..5 {
            table.insert(u32::MAX, number);
        }
        assert_eq!(table.slots.len(), MIN_SLOTS);
        assert_eq!(table.find(u32::MAX, |number| number == 4), Some(4));
    }
}
