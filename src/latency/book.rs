//! All estimates: by prefix, by autonomous system and by country, each region by region.
//!
//! A sample counts for its client's prefix, and the prefix has one vote in its system and in its country, so that prefixes
//! of which little is known can go by what their neighbours measured. Everything is bounded: when there is no room for a prefix more,
//! those go that had no sample for the longest time, and whatever has none for `expire-after` goes by itself.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use ipnet::IpNet;

use super::Policy;
use super::around::{Around, EVICTED_AT_ONCE, Home, Tallies, Tally, Vote};
use super::cell::{Cell, ENOUGH, Rtt};
use super::measured::{Entry, Measured, Rows};
use crate::geo::{Code, Place, RangeMap};
use crate::time::Tick;

/// Names of regions that are kept beside those configured now: they may come back.
const MOST_FORMER_REGIONS: usize = 256;

/// Seconds, monotonic, with room for times before the process began.
pub(super) fn second(now: Tick) -> u32 {
    const ZERO: u64 = Tick::START.0 - 1_000 * (1 << 31);
    u32::try_from(now.0.saturating_sub(ZERO) / 1_000).unwrap_or(u32::MAX)
}

/// A measurement.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// The client's prefix, no longer than what is looked at of a client; its address is its first.
    pub client: IpNet,
    /// Its autonomous system.
    pub as_number: Option<u32>,
    /// Its country.
    pub country: Option<Code>,
    /// Number of the region, from [`Book::region`].
    pub region: u16,
    /// How long the round trip took.
    pub rtt: Rtt,
}

/// Whose estimate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Of the client's prefix.
    Prefix,
    /// Of its autonomous system.
    System,
    /// Of its country.
    Country,
}

/// What is known of the way from a client to a region.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Known {
    /// Number of the region.
    pub region: u16,
    /// Whose estimate it is.
    pub level: Level,
    /// What decisions go by; `None` where there are too few samples on every level, and this is the level with the most.
    pub published: Option<Rtt>,
    /// What is thought now.
    pub estimate: Rtt,
    /// Samples so far.
    pub samples: u16,
    /// Seconds since the last one.
    pub age_s: u32,
}

/// How much there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Prefixes.
    pub prefixes: usize,
    /// Autonomous systems.
    pub systems: usize,
    /// Countries.
    pub countries: usize,
    /// Estimates, of all of them.
    pub estimates: usize,
    /// Prefixes that went because there was no room.
    pub evicted: u64,
}

/// The estimates of some clients, by region in ascending order.
#[derive(Clone, Debug, Default)]
pub(super) struct Row {
    pub(super) cells: Vec<Cell>,
}

impl Row {
    /// Takes a sample; whether what is published changed.
    fn take(&mut self, region: u16, rtt: Rtt, second: u32, pace: Pace) -> bool {
        match self.cells.binary_search_by_key(&region, |cell| cell.region) {
            Ok(at) if second.saturating_sub(self.cells[at].last) >= pace.expire_after => {
                let before = self.cells[at].published();
                self.cells[at] = Cell::new(region, rtt, second);
                before.is_some()
            }
            Ok(at) => self.cells[at].take(rtt, second, pace.half_life),
            Err(at) => {
                // Most rows have as many as there are regions: doubling would waste much of 100 000 of them.
                self.cells.reserve_exact(1);
                self.cells.insert(at, Cell::new(region, rtt, second));
                false
            }
        }
    }

    fn vote(&self, region: u16) -> Option<Vote> {
        self.cell(region).map(Cell::vote)
    }

    fn is_published(&self) -> bool {
        self.cells.iter().any(|cell| cell.published().is_some())
    }

    /// When the last sample came.
    fn last(&self) -> u32 {
        self.cells.iter().map(|cell| cell.last).max().unwrap_or(0)
    }

    fn entries(&self) -> impl Iterator<Item = Entry> {
        let entry = |cell: &Cell| Some(Entry { region: cell.region, rtt: cell.published()?, samples: cell.count });
        self.cells.iter().filter_map(entry)
    }

    fn cell(&self, region: u16) -> Option<&Cell> {
        self.cells.binary_search_by_key(&region, |cell| cell.region).ok().map(|at| &self.cells[at])
    }
}

/// All rows, each kind in ascending order.
pub(super) struct Written<'b> {
    pub(super) prefixes: Vec<(IpNet, &'b Row)>,
    pub(super) systems: Vec<(u32, &'b Tallies)>,
    pub(super) countries: Vec<(Code, &'b Tallies)>,
}

/// [`Policy`] in the units of cells.
#[derive(Clone, Copy, Debug)]
struct Pace {
    half_life: f32,
    expire_after: u32,
}

/// The estimates of a prefix.
#[derive(Clone, Debug)]
struct Slot {
    /// `None` = free.
    prefix: Option<IpNet>,
    /// Who hears the votes of all its cells.
    home: Home,
    row: Row,
    /// Whether something is published of it: whoever looks at all slots has no time for their rows.
    is_published: bool,
    /// Whether it is other than in the table frozen last.
    is_new: bool,
}

impl Slot {
    /// After its row changed; whether something is published of it now and was not before, or the other way round.
    fn settle(&mut self) -> bool {
        let now = self.row.is_published();
        std::mem::replace(&mut self.is_published, now) != now
    }
}

/// All estimates.
#[derive(Debug)]
pub struct Book {
    policy: Policy,
    /// Names of regions by number.
    regions: Vec<Box<str>>,
    numbers: HashMap<Box<str>, u16>,
    /// Numbered, so that frozen tables keep what did not change.
    slots: Vec<Slot>,
    free: Vec<u32>,
    by_prefix: HashMap<IpNet, u32>,
    around: Around,
    /// By number of a region: prefixes that have an estimate of it.
    held: Vec<usize>,
    evicted: u64,
    /// Whether the prefixes are other ones than in the table frozen last.
    has_new_prefixes: bool,
    /// Whether anything is other than in it.
    is_new: bool,
}

impl Book {
    /// Nothing is known yet.
    #[must_use]
    pub fn new(policy: Policy) -> Book {
        Book {
            policy,
            regions: Vec::new(),
            numbers: HashMap::new(),
            slots: Vec::new(),
            free: Vec::new(),
            by_prefix: HashMap::new(),
            around: Around::default(),
            held: Vec::new(),
            evicted: 0,
            has_new_prefixes: true,
            is_new: true,
        }
    }

    /// Goes by another configuration: `regions` are the names in use. Names that are no longer in use are remembered with
    /// what was measured, until there are too many.
    pub fn adopt<'n>(&mut self, policy: Policy, regions: impl Iterator<Item = &'n str>) {
        self.policy = policy;
        self.make_room(0);
        let used: HashSet<&str> = regions.collect();
        if self.regions.len() > used.len() + MOST_FORMER_REGIONS {
            self.keep_regions(|name| used.contains(name));
        }
    }

    /// The number of a region.
    pub fn region(&mut self, name: &str) -> u16 {
        if let Some(&number) = self.numbers.get(name) {
            return number;
        }
        // A configuration has fewer than 2^16 regions, and few that are not in it are kept beside them.
        let number = u16::try_from(self.regions.len()).unwrap_or(u16::MAX);
        self.regions.push(name.into());
        self.held.push(0);
        self.numbers.insert(name.into(), number);
        self.is_new = true;
        number
    }

    /// The name of a region.
    #[must_use]
    pub fn region_name(&self, number: u16) -> &str {
        self.regions.get(usize::from(number)).map_or("", |name| name)
    }

    /// Takes a sample; what it changes is in the next frozen table.
    pub fn take(&mut self, sample: &Sample, now: Tick) {
        let (second, pace) = (second(now), self.pace());
        let &Sample { client, as_number, country, region, rtt } = sample;
        let (at, home) = (self.slot(client), Home { as_number, country });
        self.house(at, home);
        let slot = &mut self.slots[at];
        let before = slot.row.vote(region);
        let mut changed = slot.row.take(region, rtt, second, pace);
        // If only for the number of its samples.
        slot.is_new = true;
        if changed {
            self.has_new_prefixes |= slot.settle();
        }
        self.held[usize::from(region)] += usize::from(before.is_none());
        changed |= self.around.change(home, region, before, slot.row.vote(region), second);
        self.is_new |= changed;
    }

    /// Has prefixes vote where they are now, by what `place` says of their autonomous system and their country.
    pub fn locate(&mut self, place: impl Fn(IpNet) -> (Option<u32>, Option<Code>)) {
        for at in 0..self.slots.len() {
            if let Some(prefix) = self.slots[at].prefix {
                let (as_number, country) = place(prefix);
                self.house(at, Home { as_number, country });
            }
        }
    }

    /// Where the prefix of a slot is, from now on.
    fn house(&mut self, at: usize, home: Home) {
        if let Some(number) = home.as_number {
            self.make_room_for_system(number);
        }
        let before = std::mem::replace(&mut self.slots[at].home, home);
        if before == home {
            return;
        }
        // No country, and no system, hears a prefix twice.
        for cell in &self.slots[at].row.cells {
            let vote = Some(cell.vote());
            self.is_new |= self.around.change(before, cell.region, vote, None, 0);
            self.is_new |= self.around.change(home, cell.region, None, vote, cell.last);
        }
    }

    fn make_room_for_system(&mut self, number: u32) {
        let gone = self.around.evict_for(number);
        if gone.is_empty() {
            return;
        }
        let gone: HashSet<u32> = gone.into_iter().collect();
        // With the next sample they vote again, with all they have.
        for slot in &mut self.slots {
            slot.home.as_number = slot.home.as_number.filter(|number| !gone.contains(number));
        }
        self.is_new = true;
    }

    /// Forgets what had no sample for `expire-after`.
    pub fn expire(&mut self, now: Tick) {
        let (second, after) = (second(now), self.pace().expire_after);
        let is_old = |cell: &Cell| second.saturating_sub(cell.last) >= after;
        let mut empty = Vec::new();
        for (at, slot) in (0..).zip(&mut self.slots).filter(|(_, slot)| slot.prefix.is_some()) {
            let mut changes = false;
            for cell in slot.row.cells.iter().filter(|cell| is_old(cell)) {
                changes |= cell.published().is_some();
                self.held[usize::from(cell.region)] -= 1;
                self.is_new |= self.around.change(slot.home, cell.region, Some(cell.vote()), None, 0);
            }
            slot.row.cells.retain(|cell| !is_old(cell));
            if changes {
                (slot.is_new, self.is_new) = (true, true);
                self.has_new_prefixes |= slot.settle();
            }
            if slot.row.cells.is_empty() {
                empty.push(at);
            }
        }
        empty.into_iter().for_each(|at| self.give_up(at));
        self.is_new |= self.around.expire(second, after);
    }

    /// Whether anything is published otherwise than in the table frozen last.
    #[must_use]
    pub fn is_new(&self) -> bool {
        self.is_new
    }

    /// What answers are to go by now. `before` is the table that was frozen last, an empty one at first: it lends what did
    /// not change.
    #[must_use]
    pub fn freeze(&mut self, before: &Measured) -> Measured {
        let known = |slot: &Slot| slot.prefix.filter(|_| slot.is_published);
        let prefixes = (1..).zip(&self.slots).filter_map(|(number, slot)| Some((known(slot)?, number)));
        let is_other = self.has_new_prefixes;
        let table = if is_other { RangeMap::from_prefixes(0, prefixes) } else { before.table.clone() };
        // How many entries a row has is known once they are read: room for them is made once for all.
        let mut entries = Vec::new();
        let row = |(at, slot): (usize, &Slot)| match before.prefixes.get(at) {
            Some(same) if !slot.is_new => Arc::clone(same),
            _ => {
                entries.clear();
                entries.extend(slot.row.entries());
                Arc::from(&entries[..])
            }
        };
        let rows: Vec<Arc<[Entry]>> = self.slots.iter().enumerate().map(row).collect();
        self.slots.iter_mut().for_each(|slot| slot.is_new = false);
        (self.is_new, self.has_new_prefixes) = (false, false);
        Measured {
            regions: self.regions.clone().into(),
            table,
            has_prefixes: self.slots.iter().any(|slot| slot.is_published),
            prefixes: rows,
            systems: Rows::keyed(self.around.systems.iter_mut().map(|(&number, row)| (number, row.freeze()))),
            countries: Rows::keyed(self.around.countries.iter_mut().map(|(&code, row)| (key_of(code), row.freeze()))),
        }
    }

    /// What is known for clients of a prefix, of which `place` is known: of each region once, by the level that counts.
    #[must_use]
    pub fn look(&self, client: IpNet, place: &Place, now: Tick) -> Vec<Known> {
        let now = second(now);
        let own = self.around(client);
        let system = place.as_number.and_then(|number| self.around.systems.get(&number));
        let country = place.country.and_then(|code| self.around.countries.get(&code));
        let regions = 0..self.regions.len() as u16;
        let known = |region| {
            let own = own.and_then(|row| row.cell(region)).map(|cell| of_cell(cell, now));
            let of_tally = |level, row: Option<&Tallies>| Some(of_tally(level, row?.tally(region)?, now));
            let each = [own, of_tally(Level::System, system), of_tally(Level::Country, country)].into_iter().flatten();
            let counts = each.clone().find(|known| known.published.is_some());
            counts.or_else(|| each.max_by_key(|known| known.samples))
        };
        regions.filter_map(known).collect()
    }

    /// The prefix of which estimates count for a client: the longest of which something is published, else the longest.
    #[must_use]
    pub fn prefix_around(&self, client: IpNet) -> Option<IpNet> {
        let around = (0..=client.prefix_len()).rev().filter_map(|length| IpNet::new(client.addr(), length).ok());
        let known = |net: &IpNet| Some(&self.slots[*self.by_prefix.get(net)? as usize]);
        let mut around = around.map(|net| net.trunc());
        let counts = around.clone().find(|net| known(net).is_some_and(|slot| slot.is_published));
        counts.or_else(|| around.find(|net| known(net).is_some()))
    }

    /// How much there is.
    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts {
            prefixes: self.by_prefix.len(),
            systems: self.around.systems.len(),
            countries: self.around.countries.len(),
            estimates: self.held.iter().sum::<usize>() + self.around.estimates(),
            evicted: self.evicted,
        }
    }

    /// How many prefixes there are.
    #[must_use]
    pub fn prefixes(&self) -> usize {
        self.by_prefix.len()
    }

    /// How many prefixes went because there was no room.
    #[must_use]
    pub fn evicted(&self) -> u64 {
        self.evicted
    }

    /// How many prefixes have an estimate for each region, in order of their numbers.
    #[must_use]
    pub fn prefixes_by_region(&self) -> Vec<(&str, usize)> {
        self.regions.iter().map(|name| &**name).zip(self.held.iter().copied()).collect()
    }

    fn around(&self, client: IpNet) -> Option<&Row> {
        let at = self.by_prefix.get(&self.prefix_around(client)?)?;
        Some(&self.slots[*at as usize].row)
    }

    fn pace(&self) -> Pace {
        let Policy { half_life, expire_after, .. } = self.policy;
        let expire_after = u32::try_from(expire_after.as_secs()).unwrap_or(u32::MAX);
        Pace { half_life: half_life.as_secs_f32().max(1.0), expire_after: expire_after.max(1) }
    }

    /// Where a prefix is, from now on.
    fn slot(&mut self, prefix: IpNet) -> usize {
        if let Some(&at) = self.by_prefix.get(&prefix) {
            return at as usize;
        }
        self.make_room(1);
        let slot = Slot {
            prefix: Some(prefix),
            home: Home::default(),
            row: Row::default(),
            is_published: false,
            is_new: true,
        };
        let at = match self.free.pop() {
            Some(at) => {
                self.slots[at as usize] = slot;
                at
            }
            None => {
                self.slots.push(slot);
                self.slots.len() as u32 - 1
            }
        };
        self.by_prefix.insert(prefix, at);
        at as usize
    }

    /// Those go that had no sample for the longest time, where there is no room for so many more.
    fn make_room(&mut self, more: usize) {
        let most = self.policy.prefixes.max(1);
        if self.by_prefix.len() + more <= most {
            return;
        }
        let surplus = self.by_prefix.len() + more - most;
        let gone = surplus.max(most / EVICTED_AT_ONCE).min(self.by_prefix.len());
        let mut ages: Vec<(u32, IpNet, u32)> =
            self.by_prefix.iter().map(|(&prefix, &at)| (self.slots[at as usize].row.last(), prefix, at)).collect();
        if gone < ages.len() {
            ages.select_nth_unstable(gone);
        }
        for &(_, _, at) in &ages[..gone] {
            self.give_up(at);
        }
        self.evicted += gone as u64;
    }

    fn give_up(&mut self, at: u32) {
        let slot = &mut self.slots[at as usize];
        let changes = std::mem::take(&mut slot.is_published);
        if let Some(prefix) = slot.prefix.take() {
            self.by_prefix.remove(&prefix);
            self.free.push(at);
        }
        let row = std::mem::take(&mut slot.row);
        let home = std::mem::take(&mut slot.home);
        slot.is_new = true;
        for cell in &row.cells {
            self.held[usize::from(cell.region)] -= 1;
            self.is_new |= self.around.change(home, cell.region, Some(cell.vote()), None, 0);
        }
        self.has_new_prefixes |= changes;
        self.is_new |= changes;
    }

    /// Forgets all regions but those; the others get new numbers.
    fn keep_regions(&mut self, is_kept: impl Fn(&str) -> bool) {
        let mut kept = Vec::new();
        let numbers: Vec<Option<u16>> = std::mem::take(&mut self.regions)
            .into_iter()
            .map(|name| {
                is_kept(&name).then(|| {
                    kept.push(name);
                    kept.len() as u16 - 1
                })
            })
            .collect();
        self.numbers = kept.iter().cloned().zip(0..).collect();
        self.regions = kept;
        self.held = self.held.iter().zip(&numbers).filter(|(_, number)| number.is_some()).map(|(n, _)| *n).collect();
        for slot in &mut self.slots {
            // They stay in order.
            slot.row.cells.retain_mut(|cell| {
                let number = numbers[usize::from(cell.region)];
                cell.region = number.unwrap_or(0);
                number.is_some()
            });
            slot.settle();
            slot.is_new = true;
        }
        self.around.renumber(&numbers);
        (self.has_new_prefixes, self.is_new) = (true, true);
    }

    /// All rows, for whoever writes them down, each kind in ascending order.
    pub(super) fn rows(&self) -> Written<'_> {
        let prefixes = self.slots.iter().filter_map(|slot| Some((slot.prefix?, &slot.row)));
        let mut prefixes: Vec<(IpNet, &Row)> = prefixes.collect();
        prefixes.sort_unstable_by_key(|(prefix, _)| *prefix);
        let mut systems: Vec<(u32, &Tallies)> =
            self.around.systems.iter().map(|(&number, row)| (number, row)).collect();
        systems.sort_unstable_by_key(|(number, _)| *number);
        let mut countries: Vec<(Code, &Tallies)> =
            self.around.countries.iter().map(|(&code, row)| (code, row)).collect();
        countries.sort_unstable_by_key(|(code, _)| *code);
        Written { prefixes, systems, countries }
    }

    /// Takes a row that was written down.
    pub(super) fn put_prefix(&mut self, prefix: IpNet, row: Row) {
        // Twice the same would be no file of ours; the later one holds.
        if let Some(&at) = self.by_prefix.get(&prefix) {
            self.give_up(at);
        }
        let at = self.slot(prefix);
        row.cells.iter().for_each(|cell| self.held[usize::from(cell.region)] += 1);
        self.slots[at].row = row;
        self.slots[at].settle();
        (self.is_new, self.has_new_prefixes) = (true, true);
    }

    /// The same.
    pub(super) fn put_system(&mut self, number: u32, row: &Row) {
        self.make_room_for_system(number);
        self.around.systems.insert(number, Tallies::restored(&row.cells));
        self.is_new = true;
    }

    /// The same.
    pub(super) fn put_country(&mut self, code: Code, row: &Row) {
        self.around.countries.insert(code, Tallies::restored(&row.cells));
        self.is_new = true;
    }
}

fn of_cell(cell: &Cell, now: u32) -> Known {
    let (published, estimate, samples) = (cell.published(), cell.estimate(), cell.count);
    let age_s = now.saturating_sub(cell.last);
    Known { region: cell.region, level: Level::Prefix, published, estimate, samples, age_s }
}

fn of_tally(level: Level, tally: &Tally, now: u32) -> Known {
    let (published, estimate, samples) = (tally.published(), tally.estimate(), tally.samples());
    let age_s = now.saturating_sub(tally.last);
    Known { region: tally.region, level, published, estimate, samples, age_s }
}

/// A country as the key of [`Measured`].
pub(super) fn key_of(Code([a, b]): Code) -> u32 {
    u32::from(a) << 8 | u32::from(b)
}

impl Known {
    /// Whether it is gone by.
    #[must_use]
    pub fn counts(&self) -> bool {
        self.samples >= ENOUGH && self.published.is_some()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use proptest::prelude::*;

    use super::super::around::MOST_SYSTEMS;
    use super::super::measured::find;
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    fn net(text: &str) -> IpNet {
        text.parse().expect("a prefix")
    }

    fn germany() -> Place {
        Place { country: Code::parse("DE"), as_number: Some(64500), ..Place::default() }
    }

    /// As many samples of a client as count.
    fn measure(book: &mut Book, client: &str, place: &Place, region: &str, ms: f64, now: Tick) {
        let region = book.region(region);
        let &Place { as_number, country, .. } = place;
        let sample = Sample { client: net(client), as_number, country, region, rtt: Rtt::from_ms(ms) };
        (0..ENOUGH).for_each(|_| book.take(&sample, now));
    }

    fn shown(book: &Book, client: &str, place: &Place, now: Tick) -> Vec<(String, Level, f64)> {
        let known = book.look(net(client), place, now);
        let counts = known.into_iter().filter(Known::counts);
        counts.map(|one| (book.region_name(one.region).into(), one.level, one.published.map_or(0.0, Rtt::ms))).collect()
    }

    fn ms_of(row: &[Entry], region: u16) -> Option<f64> {
        find(row, region).map(|entry| entry.rtt.ms())
    }

    #[test]
    fn who_has_too_few_samples_goes_by_its_system_and_country() {
        let (mut book, now) = (Book::new(Policy::default()), Tick::START);
        measure(&mut book, "203.0.113.0/24", &germany(), "eu", 20.0, now);
        let austria = Place { country: Code::parse("AT"), ..germany() };
        measure(&mut book, "198.51.100.0/24", &austria, "us", 90.0, now);
        let elsewhere = Place { as_number: Some(64501), ..germany() };
        for (client, place, expected) in [
            ("203.0.113.0/24", germany(), &[("eu", Level::Prefix, 20.0), ("us", Level::System, 90.0)][..]),
            ("203.0.113.7/32", germany(), &[("eu", Level::Prefix, 20.0), ("us", Level::System, 90.0)]),
            ("192.0.2.0/24", germany(), &[("eu", Level::System, 20.0), ("us", Level::System, 90.0)]),
            ("192.0.2.0/24", elsewhere, &[("eu", Level::Country, 20.0)]),
            ("192.0.2.0/24", Place::default(), &[]),
        ] {
            let shown = shown(&book, client, &place, now);
            let shown: Vec<(&str, Level, f64)> = shown.iter().map(|(name, level, ms)| (&**name, *level, *ms)).collect();
            assert_eq!(shown, expected, "{client} {place}");
        }
    }

    fn encoded(book: &Book, now: Tick) -> Vec<u8> {
        let mut octets = Vec::new();
        book.encode(now, &mut octets).expect("written");
        octets
    }

    /// What clients of a place go by of whom nothing is known.
    fn around_ms(book: &Book, place: &Place, now: Tick) -> Vec<f64> {
        shown(book, "192.0.2.0/24", place, now).into_iter().map(|(_, _, ms)| ms).collect()
    }

    #[test]
    fn one_prefix_does_not_speak_for_its_system() {
        for samples in [1, ENOUGH, 10] {
            let (mut book, now) = (Book::new(Policy::default()), Tick::START);
            let regions = [book.region("eu"), book.region("us")];
            let sample = |number: u8, region: u16, ms: f64| Sample {
                client: IpNet::new(IpAddr::from([198, 51, number, 0]), 24).expect("a length of the family"),
                as_number: Some(64500),
                country: Code::parse("DE"),
                region,
                rtt: Rtt::from_ms(ms),
            };
            for number in 0..200 {
                for _ in 0..samples {
                    book.take(&sample(number, regions[0], 20.0 + f64::from(number % 5)), now);
                    book.take(&sample(number, regions[1], 90.0), now);
                }
            }
            let elsewhere = Place { as_number: None, ..germany() };
            let before = [germany(), elsewhere.clone()].map(|place| around_ms(&book, &place, now));
            assert!(before.iter().all(|ms| (20.0..=24.0).contains(&ms[0]) && ms[1] == 90.0), "{before:?}");
            for _ in 0..20 {
                book.take(&sample(7, regions[0], 300.0), now);
                book.take(&sample(7, regions[1], 5.0), now);
            }
            let after = [germany(), elsewhere].map(|place| around_ms(&book, &place, now));
            assert_eq!(after, before, "{samples} samples each");
            // Half of them and one: then it is so.
            for number in 0..101 {
                (0..20).for_each(|_| book.take(&sample(number, regions[0], 300.0), now));
            }
            assert!(around_ms(&book, &germany(), now)[0] > 200.0, "{samples} samples each");
        }
    }

    #[test]
    fn prefixes_vote_where_they_are() {
        let (mut book, now) = (Book::new(Policy::default()), Tick::START);
        let austria = Place { country: Code::parse("AT"), as_number: Some(64501), ..Place::default() };
        measure(&mut book, "203.0.113.0/24", &germany(), "eu", 20.0, now);
        measure(&mut book, "198.51.100.0/24", &germany(), "eu", 40.0, now);
        measure(&mut book, "198.51.101.0/24", &germany(), "eu", 60.0, now);
        assert_eq!(around_ms(&book, &germany(), now), [40.0]);
        let octets = encoded(&book, now);
        book.locate(|prefix| match prefix.addr() {
            IpAddr::V4(v4) if v4.octets()[0] == 203 => (germany().as_number, germany().country),
            _ => (austria.as_number, austria.country),
        });
        assert_eq!((around_ms(&book, &germany(), now), around_ms(&book, &austria, now)), (vec![20.0], vec![40.0]));
        // Whoever reads it again goes by what was published until it knows where the prefixes are.
        let mut again = Book::decode(&octets, book.policy, now, 0).expect("readable");
        assert_eq!(around_ms(&again, &germany(), now), [40.0]);
        again.locate(|_| (austria.as_number, austria.country));
        assert_eq!((around_ms(&again, &germany(), now), around_ms(&again, &austria, now)), (vec![40.0], vec![40.0]));
        measure(&mut again, "203.0.113.0/24", &austria, "eu", 20.0, now);
        assert_eq!(around_ms(&again, &austria, now), [40.0]);
    }

    #[test]
    fn what_is_frozen_is_what_is_known() {
        let (mut book, now) = (Book::new(Policy::default()), Tick::START);
        let mut frozen = Measured::default();
        for round in 0..4 {
            measure(&mut book, "203.0.113.0/24", &germany(), "eu", 20.0 + 30.0 * f64::from(round), now);
            measure(&mut book, &format!("198.51.{round}.0/24"), &germany(), "us", 90.0, now);
            assert!(book.is_new());
            frozen = book.freeze(&frozen);
            assert!(!book.is_new());
            let fresh = {
                book.has_new_prefixes = true;
                book.slots.iter_mut().for_each(|slot| slot.is_new = true);
                book.freeze(&Measured::default())
            };
            let around: Vec<f64> = frozen.of_system(64500).iter().map(|entry| entry.rtt.ms()).collect();
            assert_eq!(around, around_ms(&book, &germany(), now), "round {round}");
            assert_eq!(frozen.of_country(Code(*b"DE")), frozen.of_system(64500), "round {round}");
            for address in ["203.0.113.9", "198.51.0.1", "198.51.1.1", "198.51.3.1", "198.51.200.1"] {
                let address = address.parse().expect("an address");
                assert_eq!(frozen.of_prefix(address), fresh.of_prefix(address), "{address} in round {round}");
            }
        }
        let (row, scope) = frozen.of_prefix("203.0.113.200".parse().expect("an address"));
        assert_eq!((ms_of(row, 0), ms_of(row, 1), scope), (Some(62.7), None, 24));
        assert_eq!(ms_of(frozen.of_system(64500), 1), Some(90.0));
        assert_eq!(ms_of(frozen.of_country(Code(*b"DE")), 1), Some(90.0));
        assert!(frozen.of_system(64501).is_empty() && frozen.of_country(Code(*b"FR")).is_empty());
        let (row, scope) = frozen.of_prefix("9.0.0.0".parse().expect("an address"));
        assert_eq!((row.len(), scope), (0, 1));
    }

    #[test]
    fn two_samples_are_no_row() {
        let (mut book, now) = (Book::new(Policy::default()), Tick::START);
        let region = book.region("eu");
        let sample = Sample { client: net("192.0.2.0/24"), as_number: None, country: None, region, rtt: Rtt(300) };
        book.take(&sample, now);
        book.take(&sample, now);
        let frozen = book.freeze(&Measured::default());
        assert_eq!(frozen.of_prefix("192.0.2.1".parse().expect("an address")), (&[][..], 0));
        assert!(frozen.is_empty());
    }

    #[test]
    fn what_is_not_measured_any_more_is_forgotten() {
        let mut book = Book::new(Policy { expire_after: DAY, ..Policy::default() });
        let (early, late) = (Tick::START, Tick::START.plus(DAY / 2));
        measure(&mut book, "203.0.113.0/24", &germany(), "eu", 20.0, early);
        measure(&mut book, "203.0.113.0/24", &germany(), "us", 90.0, late);
        measure(&mut book, "192.0.2.0/24", &Place::default(), "eu", 20.0, early);
        let before = book.freeze(&Measured::default());
        book.expire(early.plus(DAY));
        assert_eq!(book.counts(), Counts { prefixes: 1, systems: 1, countries: 1, estimates: 3, evicted: 0 });
        let frozen = book.freeze(&before);
        let (row, _) = frozen.of_prefix("203.0.113.1".parse().expect("an address"));
        assert_eq!((ms_of(row, 0), ms_of(row, 1)), (None, Some(90.0)));
        book.expire(late.plus(DAY));
        assert_eq!(book.counts(), Counts::default());
        assert!(book.freeze(&frozen).is_empty());
        // Who comes back begins anew.
        measure(&mut book, "203.0.113.0/24", &germany(), "eu", 70.0, late.plus(DAY * 3));
        let again = late.plus(DAY * 5);
        measure(&mut book, "203.0.113.0/24", &germany(), "eu", 10.0, again);
        assert_eq!(shown(&book, "203.0.113.0/24", &germany(), again)[0].2, 10.0);
    }

    #[test]
    fn the_stalest_prefixes_make_room() {
        let mut book = Book::new(Policy { prefixes: 10, ..Policy::default() });
        let at = |second: u64| Tick::START.plus(Duration::from_secs(second));
        for number in 0..25 {
            measure(&mut book, &format!("192.0.{number}.0/24"), &Place::default(), "eu", 20.0, at(number));
            measure(&mut book, "192.0.0.0/24", &Place::default(), "eu", 20.0, at(number));
        }
        let counts = book.counts();
        assert_eq!((counts.prefixes, counts.evicted), (10, 15));
        let frozen = book.freeze(&Measured::default());
        let known = |number: u8| !frozen.of_prefix(IpAddr::from([192, 0, number, 1])).0.is_empty();
        assert_eq!(
            (0..25).filter(|&number| known(number)).collect::<Vec<u8>>(),
            [0, 16, 17, 18, 19, 20, 21, 22, 23, 24]
        );
        book.adopt(Policy { prefixes: 3, ..Policy::default() }, ["eu"].into_iter());
        assert_eq!(book.counts().prefixes, 3);
        assert_eq!(book.freeze(&frozen).table.runs(), 1 + 6);
    }

    #[test]
    fn systems_are_bounded() {
        let mut book = Book::new(Policy { prefixes: 2, ..Policy::default() });
        for number in 0..MOST_SYSTEMS as u32 + 1_000 {
            let place = Place { as_number: Some(number), ..Place::default() };
            let now = Tick::START.plus(Duration::from_secs(number.into()));
            measure(&mut book, "192.0.2.0/24", &place, "eu", 20.0, now);
        }
        assert!((MOST_SYSTEMS - 200..=MOST_SYSTEMS).contains(&book.counts().systems), "{:?}", book.counts());
        assert!(
            !book.around.systems.contains_key(&0) && book.around.systems.contains_key(&(MOST_SYSTEMS as u32 + 999))
        );
    }

    #[test]
    fn regions_that_are_gone_are_remembered_for_a_while() {
        let (mut book, now) = (Book::new(Policy::default()), Tick::START);
        for number in 0..400 {
            measure(&mut book, "192.0.2.0/24", &Place::default(), &format!("r{number}"), 20.0, now);
        }
        book.adopt(Policy::default(), (200..400).map(|number| if number == 399 { "r399" } else { "r200" }));
        assert_eq!(book.prefixes_by_region(), [("r200", 1), ("r399", 1)]);
        let frozen = Arc::new(book.freeze(&Measured::default()));
        let (row, _) = frozen.of_prefix(IpAddr::from([192, 0, 2, 1]));
        assert_eq!((row.len(), ms_of(row, 0), ms_of(row, 1)), (2, Some(20.0), Some(20.0)));
        book.adopt(Policy::default(), ["other"].into_iter());
        assert_eq!(book.prefixes_by_region().len(), 2);
    }

    fn book_of(samples: &[(u8, u8, u16, u16)]) -> Book {
        let mut book = Book::new(Policy { prefixes: 40, ..Policy::default() });
        for name in ["a", "b", "c", "d"] {
            book.region(name);
        }
        for &(first, second, rtt, seconds) in samples {
            let client = match first % 3 {
                0 => IpNet::new(IpAddr::from([first, second, 0, 0]), 16),
                1 => IpNet::new(IpAddr::from([first, second % 4, first, 0]), 24),
                _ => IpNet::new(IpAddr::from([0x2a00, second.into(), first.into(), 0, 0, 0, 0, 0]), 56),
            };
            let sample = Sample {
                client: client.expect("a length of the family"),
                as_number: Some(u32::from(second) % 5).filter(|&number| number > 0),
                country: Some(Code([b'A' + first % 2, b'Z'])).filter(|_| second % 3 > 0),
                region: u16::from(first) % 4,
                rtt: Rtt(rtt.max(1)),
            };
            book.take(&sample, Tick::START.plus(Duration::from_secs(seconds.into())));
        }
        book
    }

    use std::net::IpAddr;

    proptest! {
        /// What is written down and read again says the same; half of it, or another octet, is refused or harmless.
        #[test]
        fn books_survive_being_written_down(
            samples in prop::collection::vec(any::<(u8, u8, u16, u16)>(), 0..200), cut: prop::sample::Index, octet: u8,
        ) {
            let mut book = book_of(&samples);
            let now = Tick::START.plus(Duration::from_secs(70_000));
            let octets = encoded(&book, now);
            let mut again = Book::decode(&octets, book.policy, now, 0).expect("readable");
            prop_assert_eq!(encoded(&again, now), octets.clone());
            prop_assert_eq!(again.counts(), Counts { evicted: 0, ..book.counts() });
            let (one, two) = (book.freeze(&Measured::default()), again.freeze(&Measured::default()));
            for &(first, second, ..) in &samples {
                for address in [IpAddr::from([first, second, 0, 1]), IpAddr::from([first, second % 4, first, 9])] {
                    prop_assert_eq!(one.of_prefix(address), two.of_prefix(address));
                }
            }
            let at = cut.index(octets.len());
            prop_assert!(Book::decode(&octets[..at], book.policy, now, 0).is_err());
            let mut other = octets.clone();
            other[at] = octet;
            if let Ok(mut other) = Book::decode(&other, book.policy, now, 7) {
                let _ = other.freeze(&Measured::default());
            }
            let old = Book::decode(&octets, book.policy, now, 10 * 86_400).expect("readable");
            prop_assert_eq!(old.counts(), Counts::default());
        }
    }
}
