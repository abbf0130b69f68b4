//! What answers read: published round-trip times, frozen.
//!
//! ```text
//!  table     address ─► row of its prefix, and the widest prefix around it that has that row = ECS scope
//!  row       eu us ap                    by number of the region; a row may have none
//! ```
//! Systems and countries have rows as well, found by their numbers.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::cell::Rtt;
use crate::fleet::{Fleet, RegionId};
use crate::geo::{Code, NumberMap, RangeMap};

/// The way from some clients to a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Number of the region.
    pub(super) region: u16,
    /// What decisions go by.
    pub rtt: Rtt,
    /// Samples that it comes from; stops counting near 65 535.
    pub samples: u16,
}

/// Published round-trip times.
#[derive(Clone, Debug)]
pub struct Measured {
    /// Names of regions by number.
    pub(super) regions: Arc<[Box<str>]>,
    /// One more than the number of a row; 0 = no prefix is around it.
    pub(super) table: RangeMap<u32>,
    /// By number of the row: one that did not change is shared with the table before.
    pub(super) prefixes: Vec<Arc<[Entry]>>,
    /// Whether something is published of a prefix.
    pub(super) has_prefixes: bool,
    pub(super) systems: Rows,
    pub(super) countries: Rows,
}

/// Nothing is measured.
impl Default for Measured {
    fn default() -> Measured {
        Measured {
            regions: Arc::default(),
            table: RangeMap::uniform(0),
            prefixes: Vec::new(),
            has_prefixes: false,
            systems: Rows::default(),
            countries: Rows::default(),
        }
    }
}

impl Measured {
    /// Whether nothing is measured.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.has_prefixes && self.systems.0.is_empty() && self.countries.0.is_empty()
    }

    /// What is published for the prefix around an address, empty where there is none; and the length of the widest prefix
    /// in which that holds.
    #[must_use]
    #[inline]
    pub fn of_prefix(&self, address: IpAddr) -> (&[Entry], u8) {
        let (row, scope) = self.table.lookup(address);
        (row.checked_sub(1).map_or(&[], |row| &*self.prefixes[row as usize]), scope)
    }

    /// Asks the processor for what [`Measured::of_prefix`] reads first; another step asks for what it reads then.
    pub fn prefetch_index(&self, address: IpAddr) {
        self.table.prefetch_index(address);
    }

    /// The second step.
    pub fn prefetch_runs(&self, address: IpAddr) {
        self.table.prefetch_runs(address);
    }

    /// What is published for an autonomous system.
    #[must_use]
    pub fn of_system(&self, number: u32) -> &[Entry] {
        self.systems.find(number)
    }

    /// What is published for a country.
    #[must_use]
    pub fn of_country(&self, code: Code) -> &[Entry] {
        self.countries.find(super::book::key_of(code))
    }

    /// Octets that it takes, beside what it shares with the table before it.
    #[must_use]
    pub fn octets(&self) -> usize {
        let of_rows = |rows: &Rows| rows.0.capacity() * size_of::<(u64, Arc<[Entry]>)>();
        size_of_val(&self.prefixes[..]) + of_rows(&self.systems) + of_rows(&self.countries)
    }
}

/// What a row says of a region, by its number.
#[must_use]
#[inline]
pub fn find(row: &[Entry], region: u16) -> Option<&Entry> {
    // Mostly the way to every region was measured, so that each is where its number says.
    if let Some(entry) = row.get(usize::from(region)).filter(|entry| entry.region == region) {
        return Some(entry);
    }
    row.binary_search_by_key(&region, |entry| entry.region).ok().map(|at| &row[at])
}

/// Rows of systems or of countries, found by a number; one that did not change is shared with the table before.
#[derive(Clone, Debug, Default)]
pub(super) struct Rows(NumberMap<Arc<[Entry]>>);

impl Rows {
    /// Those of which something is published.
    pub(super) fn keyed(rows: impl Iterator<Item = (u32, Arc<[Entry]>)>) -> Rows {
        Rows(rows.filter(|(_, row)| !row.is_empty()).map(|(key, row)| (key.into(), row)).collect())
    }

    #[inline]
    fn find(&self, key: u32) -> &[Entry] {
        self.0.get(&key.into()).map_or(&[], |row| row)
    }
}

/// [`Measured`] as steering reads it: with the regions of a configuration, and which clients explore.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// What is measured.
    pub measured: Arc<Measured>,
    /// By `RegionId`: its number in `measured`.
    numbers: Arc<[u16]>,
    /// Clients whose score is below it begin at the second best region; 0 = nobody does.
    pub explorers: u32,
}

impl View {
    /// No region has this number.
    const NONE: u16 = u16::MAX;

    /// `explore` is a share in 1/10 000.
    #[must_use]
    pub fn of(measured: Arc<Measured>, fleet: &Fleet, explore: u16) -> View {
        let numbers: HashMap<&str, u16> = measured.regions.iter().map(|name| &**name).zip(0..View::NONE).collect();
        let number = |name: &str| numbers.get(name).copied().unwrap_or(View::NONE);
        let numbers = fleet.regions.iter().map(|region| number(&region.name)).collect();
        View { measured, numbers, explorers: (u64::from(u32::MAX) * u64::from(explore) / 10_000) as u32 }
    }

    /// The number of a region in rows; `None` when no way to it was ever measured.
    #[must_use]
    #[inline]
    pub fn number(&self, region: RegionId) -> Option<u16> {
        self.numbers.get(usize::from(region.0)).copied().filter(|&number| number != View::NONE)
    }
}
