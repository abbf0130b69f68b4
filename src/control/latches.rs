//! Which regions stay out of which services until they are resumed (`failback = "manual"`, SPEC 3.5): the list that
//! outlives the process. When a region is latched is decided in `health::presence`.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use serde::{Deserialize, Serialize};

use crate::fleet::{Family, glob};

/// A region that stays out of a service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Latch {
    /// `www.gslb.example.com`.
    pub service: String,
    /// `eu-west`.
    pub region: String,
    /// For AAAA queries, not for A.
    pub ipv6: bool,
    /// Since when, seconds since the Unix epoch.
    pub since: u64,
}

impl Latch {
    /// Which family it is for.
    #[must_use]
    pub fn family(&self) -> Family {
        if self.ipv6 { Family::V6 } else { Family::V4 }
    }
}

/// Service, region, whether for AAAA.
type Key = (String, String, bool);

/// All of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Latches {
    since: BTreeMap<Key, u64>,
}

fn key(service: &str, region: &str, family: Family) -> Key {
    (service.into(), region.into(), family == Family::V6)
}

impl Latches {
    pub(super) fn of(list: Vec<Latch>) -> Latches {
        Latches { since: list.into_iter().map(|one| ((one.service, one.region, one.ipv6), one.since)).collect() }
    }

    /// By service, region and family.
    pub(super) fn iter(&self) -> impl Iterator<Item = Latch> {
        let latch = |((service, region, ipv6), since): (&Key, &u64)| Latch {
            service: service.clone(),
            region: region.clone(),
            ipv6: *ipv6,
            since: *since,
        };
        self.since.iter().map(latch)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.since.is_empty()
    }

    /// Since when a region is latched, seconds since the Unix epoch.
    pub(super) fn since(&self, service: &str, region: &str, family: Family) -> Option<u64> {
        if self.since.is_empty() {
            return None;
        }
        self.since.get(&key(service, region, family)).copied()
    }

    /// Adds one; whether it is new.
    pub(super) fn add(&mut self, service: &str, region: &str, family: Family, unix_now: u64) -> bool {
        match self.since.entry(key(service, region, family)) {
            Entry::Vacant(free) => {
                free.insert(unix_now);
                true
            }
            Entry::Occupied(_) => false,
        }
    }

    /// Removes one; whether it was there.
    pub(super) fn remove(&mut self, service: &str, region: &str, family: Family) -> bool {
        !self.since.is_empty() && self.since.remove(&key(service, region, family)).is_some()
    }

    /// Those whose service and region match these names, in which `*` stands for any characters.
    pub(super) fn named(&self, service: &str, region: &str) -> Latches {
        let matches = |key: &Key| glob(service, &key.0) && glob(region, &key.1);
        let some = self.since.iter().filter(|(key, _)| matches(key));
        Latches { since: some.map(|(key, since)| (key.clone(), *since)).collect() }
    }

    /// Those that are not among `others`.
    pub(super) fn without(&self, others: &Latches) -> Latches {
        let left = self.since.iter().filter(|(key, _)| !others.since.contains_key(*key));
        Latches { since: left.map(|(key, since)| (key.clone(), *since)).collect() }
    }

    /// Keeps those of which `holds` is true; the others.
    pub(super) fn retain(&mut self, holds: impl Fn(&str, &str, Family) -> bool) -> Latches {
        let family = |ipv6| if ipv6 { Family::V6 } else { Family::V4 };
        let all = std::mem::take(&mut self.since).into_iter();
        let (kept, gone) = all.partition(|((service, region, ipv6), _)| holds(service, region, family(*ipv6)));
        self.since = kept;
        Latches { since: gone }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_globs() {
        let mut all = Latches::default();
        for (service, region, family) in [
            ("www.a", "eu", Family::V4),
            ("www.a", "eu", Family::V6),
            ("api.a", "eu", Family::V4),
            ("www.a", "us", Family::V4),
        ] {
            assert!(all.add(service, region, family, 7));
            assert!(!all.add(service, region, family, 9));
        }
        let count = |service, region| all.named(service, region).iter().count();
        assert_eq!((count("www.a", "eu"), count("*", "eu"), count("www.a", "*"), count("api.a", "us")), (2, 3, 3, 0));
        assert_eq!(Latches::of(all.iter().collect()), all);
        assert_eq!(all.without(&all.named("*", "eu")).iter().count(), 1);
        assert_eq!(all.since("www.a", "us", Family::V4), Some(7));
        let gone = all.retain(|service, _, _| service == "api.a");
        assert_eq!((all.iter().count(), gone.iter().count()), (1, 3));
        assert!(all.remove("api.a", "eu", Family::V4) && all.is_empty());
    }
}
