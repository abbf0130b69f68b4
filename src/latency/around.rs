//! Estimates of autonomous systems and countries: the median of what their prefixes say, each with one vote.
//!
//! ```text
//!  prefix × region ─► Cell ─► Vote ─┐
//!  prefix × region ─► Cell ─► Vote ─┴─► Tally: median ─► dead band ─► published
//! ```
//! However many samples a prefix sends, it moves its system and its country by no more than one voter among many. A prefix
//! of which nothing is published yet votes with what is thought of it. When the last voter goes, the tally stays what it
//! was until it expires.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use super::cell::{Cell, ENOUGH, Rtt, Stored, is_beyond_band};
use super::measured::Entry;
use crate::geo::Code;

/// Most autonomous systems that have estimates of their own.
pub(super) const MOST_SYSTEMS: usize = 16_384;
/// Where there is no room, this part of what there is room for goes at once: finding out who goes costs a look at all.
pub(super) const EVICTED_AT_ONCE: usize = 100;

/// What a prefix says of a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Vote {
    pub(super) rtt: Rtt,
    /// Samples that it comes from.
    pub(super) samples: u16,
}

/// Where a prefix is: who hears its votes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Home {
    pub(super) as_number: Option<u32>,
    pub(super) country: Option<Code>,
}

/// Votes for the same value; where there are more than fit, another run of that value follows.
#[derive(Clone, Copy, Debug)]
struct Run {
    value: u16,
    count: u16,
}

/// The way to one region, by the votes for it.
#[derive(Clone, Debug)]
pub(super) struct Tally {
    pub(super) region: u16,
    /// Tenths of a millisecond; 0 = too few samples yet.
    published: u16,
    /// Median of the votes, or of those there were.
    estimate: u16,
    /// When the last sample came.
    pub(super) last: u32,
    /// Samples behind the votes, or behind those there were.
    samples: u64,
    /// Ascending by value.
    votes: Vec<Run>,
}

impl Tally {
    fn new(region: u16) -> Tally {
        Tally { region, published: 0, estimate: 1, last: 0, samples: 0, votes: Vec::new() }
    }

    /// A vote is another one; whether that changes what is published.
    fn change(&mut self, before: Option<Vote>, now: Option<Vote>) -> bool {
        let remembered = self.samples;
        if self.votes.is_empty() {
            self.samples = 0;
        }
        let samples = |vote: Option<Vote>| vote.map_or(0, |vote| u64::from(vote.samples));
        self.samples = (self.samples + samples(now)).saturating_sub(samples(before));
        let [before, now] = [before, now].map(|vote| vote.map(|vote| vote.rtt.0));
        if before != now {
            before.into_iter().for_each(|value| self.remove(value));
            now.into_iter().for_each(|value| self.add(value));
            let Some(median) = self.median() else {
                self.samples = remembered;
                return false;
            };
            self.estimate = median;
        }
        self.settle()
    }

    fn settle(&mut self) -> bool {
        let is_new = self.samples >= ENOUGH.into() && is_beyond_band(self.published, self.estimate.into());
        is_new && std::mem::replace(&mut self.published, self.estimate) != self.estimate
    }

    fn of_value(&self, value: u16) -> usize {
        self.votes.partition_point(|run| run.value < value)
    }

    fn add(&mut self, value: u16) {
        let at = self.of_value(value);
        match self.votes[at..].iter_mut().take_while(|run| run.value == value).find(|run| run.count < u16::MAX) {
            Some(run) => run.count += 1,
            None => self.votes.insert(at, Run { value, count: 1 }),
        }
    }

    fn remove(&mut self, value: u16) {
        let at = self.of_value(value);
        let Some(run) = self.votes.get_mut(at).filter(|run| run.value == value) else { return };
        run.count -= 1;
        if run.count == 0 {
            self.votes.remove(at);
        }
    }

    /// Of an even number the lower one; `None` when nobody votes.
    fn median(&self) -> Option<u16> {
        let total: usize = self.votes.iter().map(|run| usize::from(run.count)).sum();
        let mut before = total.checked_sub(1)? / 2;
        for run in &self.votes {
            match before.checked_sub(run.count.into()) {
                Some(left) => before = left,
                None => return Some(run.value),
            }
        }
        None
    }

    pub(super) fn published(&self) -> Option<Rtt> {
        Some(Rtt(self.published)).filter(|rtt| rtt.0 > 0)
    }

    pub(super) fn estimate(&self) -> Rtt {
        Rtt(self.estimate)
    }

    /// Stops counting at 65 535.
    pub(super) fn samples(&self) -> u16 {
        self.samples.min(u16::MAX.into()) as u16
    }

    pub(super) fn stored(&self) -> Stored {
        let &Tally { region, published, estimate, last, .. } = self;
        Stored { region, last, estimate, published, weight: 0, count: self.samples() }
    }

    /// Voters come afterwards.
    fn restored(cell: &Cell) -> Tally {
        let Stored { region, last, estimate, published, count, .. } = cell.stored();
        Tally { published, estimate, last, samples: count.into(), ..Tally::new(region) }
    }
}

/// Estimates of a system or a country.
#[derive(Clone, Debug, Default)]
pub(super) struct Tallies {
    /// By region in ascending order.
    pub(super) all: Vec<Tally>,
    /// What is published of them, as it was frozen last.
    frozen: Arc<[Entry]>,
    /// Whether something else is published by now.
    is_new: bool,
}

impl Tallies {
    fn change(&mut self, region: u16, before: Option<Vote>, now: Option<Vote>, last: u32) -> bool {
        let at = match self.all.binary_search_by_key(&region, |tally| tally.region) {
            Ok(at) => at,
            Err(_) if now.is_none() => return false,
            Err(at) => {
                self.all.reserve_exact(1);
                self.all.insert(at, Tally::new(region));
                at
            }
        };
        let tally = &mut self.all[at];
        tally.last = tally.last.max(last);
        let changes = tally.change(before, now);
        self.is_new |= changes;
        changes
    }

    pub(super) fn restored(cells: &[Cell]) -> Tallies {
        Tallies { all: cells.iter().map(Tally::restored).collect(), is_new: true, ..Tallies::default() }
    }

    pub(super) fn tally(&self, region: u16) -> Option<&Tally> {
        self.all.binary_search_by_key(&region, |tally| tally.region).ok().map(|at| &self.all[at])
    }

    /// What is published, each with the number of samples when the row was frozen last: their number alone makes no new row.
    pub(super) fn freeze(&mut self) -> Arc<[Entry]> {
        if std::mem::take(&mut self.is_new) {
            let entry =
                |tally: &Tally| Some(Entry { region: tally.region, rtt: tally.published()?, samples: tally.samples() });
            self.frozen = self.all.iter().filter_map(entry).collect();
        }
        Arc::clone(&self.frozen)
    }

    /// Forgets what had no sample for too long; whether that changes what is published.
    fn expire(&mut self, second: u32, after: u32) -> bool {
        let is_old = |tally: &Tally| second.saturating_sub(tally.last) >= after;
        let changes = self.all.iter().any(|tally| is_old(tally) && tally.published > 0);
        self.all.retain(|tally| !is_old(tally));
        self.is_new |= changes;
        changes
    }

    fn last(&self) -> u32 {
        self.all.iter().map(|tally| tally.last).max().unwrap_or(0)
    }

    /// Regions get new numbers, in the same order; those without one are forgotten.
    fn renumber(&mut self, numbers: &[Option<u16>]) {
        self.is_new = true;
        self.all.retain_mut(|tally| {
            let number = numbers[usize::from(tally.region)];
            tally.region = number.unwrap_or(0);
            number.is_some()
        });
    }
}

/// All systems and countries.
#[derive(Debug, Default)]
pub(super) struct Around {
    pub(super) systems: HashMap<u32, Tallies>,
    pub(super) countries: HashMap<Code, Tallies>,
}

impl Around {
    /// A prefix votes otherwise, of a sample at `last`; whether that changes what is published.
    pub(super) fn change(
        &mut self,
        home: Home,
        region: u16,
        before: Option<Vote>,
        now: Option<Vote>,
        last: u32,
    ) -> bool {
        let of = |tallies: &mut Tallies| tallies.change(region, before, now, last);
        let system = home.as_number.is_some_and(|number| of(self.systems.entry(number).or_default()));
        let country = home.country.is_some_and(|code| of(self.countries.entry(code).or_default()));
        system || country
    }

    /// Makes room for a system; those that go had no sample for the longest time.
    pub(super) fn evict_for(&mut self, number: u32) -> Vec<u32> {
        if self.systems.len() < MOST_SYSTEMS || self.systems.contains_key(&number) {
            return Vec::new();
        }
        let mut ages: Vec<(u32, u32)> = self.systems.iter().map(|(&number, row)| (row.last(), number)).collect();
        let gone = MOST_SYSTEMS / EVICTED_AT_ONCE;
        ages.select_nth_unstable(gone);
        let gone: Vec<u32> = ages[..gone].iter().map(|(_, number)| *number).collect();
        for number in &gone {
            self.systems.remove(number);
        }
        gone
    }

    /// Forgets what had no sample for too long; whether that changes what is published.
    pub(super) fn expire(&mut self, second: u32, after: u32) -> bool {
        expire(&mut self.systems, second, after) | expire(&mut self.countries, second, after)
    }

    /// See [`Tallies::renumber`].
    pub(super) fn renumber(&mut self, numbers: &[Option<u16>]) {
        self.systems.values_mut().chain(self.countries.values_mut()).for_each(|tallies| tallies.renumber(numbers));
    }

    /// How many estimates.
    pub(super) fn estimates(&self) -> usize {
        self.systems.values().chain(self.countries.values()).map(|tallies| tallies.all.len()).sum()
    }
}

fn expire<K: Eq + Hash>(all: &mut HashMap<K, Tallies>, second: u32, after: u32) -> bool {
    let mut changes = false;
    all.retain(|_, tallies| {
        changes |= tallies.expire(second, after);
        !tallies.all.is_empty()
    });
    changes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn vote(rtt: u16) -> Option<Vote> {
        Some(Vote { rtt: Rtt(rtt), samples: 1 })
    }

    #[test]
    fn a_value_may_have_more_votes_than_a_run_holds() {
        let mut tally = Tally::new(0);
        (0..70_000).for_each(|_| tally.add(300));
        (0..69_999).for_each(|_| tally.add(200));
        assert_eq!((tally.median(), tally.votes.len()), (Some(300), 4));
        (0..70_000).for_each(|_| tally.remove(300));
        assert_eq!((tally.median(), tally.votes.len()), (Some(200), 2));
    }

    #[test]
    fn what_was_voted_for_stays_when_the_voters_go() {
        let mut tally = Tally::new(0);
        [250, 300, 900].into_iter().for_each(|rtt| {
            tally.change(None, vote(rtt));
        });
        assert_eq!((tally.published(), tally.samples()), (Some(Rtt(300)), 3));
        [250, 900, 300].into_iter().for_each(|rtt| {
            tally.change(vote(rtt), None);
        });
        assert_eq!((tally.published(), tally.samples(), tally.votes.len()), (Some(Rtt(300)), 1, 0));
    }

    proptest! {
        #[test]
        fn medians_are_those_of_the_sorted_votes(values in prop::collection::vec((1u16..40, any::<bool>()), 1..200)) {
            let (mut tally, mut votes) = (Tally::new(0), Vec::new());
            for (value, goes) in values {
                tally.change(None, vote(value));
                votes.push(value);
                if goes && votes.len() > 1 {
                    tally.change(vote(votes.swap_remove(0)), None);
                }
                let mut sorted = votes.clone();
                sorted.sort_unstable();
                prop_assert_eq!(tally.median(), Some(sorted[(sorted.len() - 1) / 2]));
            }
        }
    }
}
