//! What the groups of a layout can do now, frozen so that a pick is a step or two (SPEC 3, 5).
//!
//! ```text
//! Table      layout → Standings              in chunks: a change of health copies one chunk, all others are shared
//! Standings  (group, family) → Selection     families of which the pool has no address have none
//! Selection  available, and three rosters:   eligible | unknown | allowed (used when nothing works)
//! Roster     entries, each with weight, frozen hash, address, and its place in the alias table
//! ```
//! `health` says who is eligible; here that becomes tables. A draw by weight takes one random number and one
//! comparison (the alias method of Walker, built as Vose does), a turn of round-robin is read from a cycle laid out
//! ahead, and stickiness goes through hashes that lie together, class of weight by class of weight.

use std::net::IpAddr;
use std::sync::Arc;

use smallvec::SmallVec;

use super::balance::round_robin;
use super::hash;
use super::plan::LayoutId;
use super::service::ServiceId;
use crate::fleet::{Family, Fleet, InstanceId, PoolId};
use crate::health::group::{Before, Candidate, Candidates};
use crate::health::presence::{ALL, Presence};
use crate::health::{Remark, Standing};
use crate::prefetch;
use crate::time::Tick;

/// Standings in one chunk of a [`Table`]: what a change of health copies, beside one pointer for each chunk.
const CHUNK: usize = 256;
/// Rosters of more entries keep their hashes together, class by class, if a class has at least [`CLASS_FROM`] on average.
const CLASSES_FROM: usize = 16;
/// With fewer entries of a weight, to score them in a block costs more than one by one.
const CLASS_FROM: usize = 8;
/// Hashes of a class that are scored together: a bit for each in 32.
pub(super) const LANES: usize = 32;
/// One part of a draw, of 2^32.
const WHOLE: u64 = 1 << 32;

/// The standings of all layouts; a copy shares them.
#[derive(Clone, Debug, Default)]
pub struct Table {
    chunks: Vec<Arc<[Standings]>>,
    length: usize,
    /// Standings of single services of which the operator says something that others of their layouts are not to feel, by
    /// `ServiceId`; mostly none.
    apart: Arc<[(ServiceId, Standings)]>,
}

impl Table {
    /// How many layouts.
    #[must_use]
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether there is no layout.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The standings of a layout.
    #[must_use]
    pub fn get(&self, layout: LayoutId) -> &Standings {
        let at = layout.0 as usize;
        &self.chunks[at / CHUNK][at % CHUNK]
    }

    /// The standings that a service goes by, whose layout is that.
    #[must_use]
    #[inline]
    pub fn of(&self, service: ServiceId, layout: LayoutId) -> &Standings {
        if self.apart.is_empty() { self.get(layout) } else { self.apart(service).unwrap_or_else(|| self.get(layout)) }
    }

    /// The standings of a service that has its own.
    #[must_use]
    pub fn apart(&self, service: ServiceId) -> Option<&Standings> {
        let at = self.apart.binary_search_by_key(&service, |(id, _)| *id).ok()?;
        Some(&self.apart[at].1)
    }

    /// Replaces the standings that services have to themselves; they come by `ServiceId`.
    pub fn set_apart(&mut self, apart: Vec<(ServiceId, Standings)>) {
        self.apart = apart.into();
    }

    /// Whether some service has standings to itself.
    #[must_use]
    pub fn has_apart(&self) -> bool {
        !self.apart.is_empty()
    }

    /// The same standings, in chunks that are shared with nobody.
    #[must_use]
    pub fn unshared(&self) -> Table {
        let chunks = self.chunks.iter().map(|chunk| chunk.iter().cloned().collect()).collect();
        Table { chunks, length: self.length, apart: Arc::clone(&self.apart) }
    }

    /// Asks the processor for the standings of a layout.
    pub fn prefetch(&self, layout: LayoutId) {
        prefetch::first_line(self.get(layout));
    }

    /// Replaces the standings of a layout.
    pub fn set(&mut self, layout: LayoutId, standings: Standings) {
        let at = layout.0 as usize;
        Arc::make_mut(&mut self.chunks[at / CHUNK])[at % CHUNK] = standings;
    }
}

impl FromIterator<Standings> for Table {
    fn from_iter<I: IntoIterator<Item = Standings>>(all: I) -> Table {
        let mut table = Table::default();
        let mut chunk = Vec::with_capacity(CHUNK);
        let mut all = all.into_iter().peekable();
        while let Some(standings) = all.next() {
            chunk.push(standings);
            table.length += 1;
            if chunk.len() == CHUNK || all.peek().is_none() {
                table.chunks.push(chunk.drain(..).collect());
            }
        }
        table
    }
}

/// What the groups of one layout can do; cheap to copy.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Standings {
    /// Group by group, of each the families that are served.
    selections: Arc<[Selection]>,
    serves: [bool; 2],
    /// Whether some group that is available does not serve all its clients.
    partial: bool,
    /// Whether some group that is available serves some of its clients, or is about to.
    returning: bool,
}

impl Standings {
    /// The selections of `groups` groups in each family that the layout `serves`.
    pub fn new(groups: usize, serves: [bool; 2], selection: impl Fn(usize, Family) -> Selection) -> Standings {
        let served = || Family::BOTH.into_iter().filter(|&family| serves[family as usize]);
        let selection = &selection;
        let selections: Arc<[Selection]> =
            (0..groups).flat_map(|group| served().map(move |family| selection(group, family))).collect();
        let some = |selection: &Selection| selection.share != ALL || selection.begins != ALL;
        let partial = |selection: &&Selection| selection.available && some(selection);
        let returning = selections.iter().filter(partial).any(|selection| selection.presence != Presence::Latched);
        let partial = selections.iter().any(|selection| partial(&selection));
        Standings { selections, serves, partial, returning }
    }

    /// Whether some group that is available does not serve all its clients.
    #[must_use]
    pub fn partial(&self) -> bool {
        self.partial
    }

    /// Whether clients are told apart by their hash: some group serves some of its clients, or is about to. One that is
    /// latched serves none of them.
    #[must_use]
    pub fn returning(&self) -> bool {
        self.returning
    }

    /// When some group is to be judged again though nothing else changes; `None` = never.
    #[must_use]
    pub fn due(&self) -> Option<Tick> {
        self.selections.iter().filter_map(|selection| selection.due).min()
    }

    /// What a group weighs among others that are as good for a client.
    #[must_use]
    pub fn weight(&self, group: usize) -> u64 {
        Family::BOTH.into_iter().find_map(|family| self.get(group, family)).map_or(0, |selection| selection.weight)
    }

    /// What a group can do for a family; `None` when the layout has no address of it.
    #[must_use]
    pub fn get(&self, group: usize, family: Family) -> Option<&Selection> {
        let [v4, v6] = self.serves.map(usize::from);
        let behind = if family == Family::V4 { 0 } else { v4 };
        if !self.serves[family as usize] {
            return None;
        }
        self.selections.get(group * (v4 + v6) + behind)
    }
}

/// What a group can do for one address family. Two cache lines; an answer mostly reads the first.
#[derive(Clone, Debug, Default, PartialEq)]
#[repr(C, align(64))]
pub struct Selection {
    /// Instances that are up (or have no check).
    pub eligible: Roster,
    /// Changes whenever a roster does: rotations begin anew.
    pub version: u64,
    /// The share of clients that the group serves while it is available, of 2^32 (SPEC 3.5).
    pub share: u32,
    /// The same of the clients whose order begins with it (SPEC 8.2).
    pub begins: u32,
    /// Whether enough is eligible (SPEC 3.2).
    pub available: bool,
    /// Seconds until observations can change the verdicts that it goes by, at the earliest; `STEADY` = nothing speaks
    /// against them. Known where some service's TTL follows health.
    pub steady_for: u16,
    /// Instances never observed well enough to say.
    pub unknown: Roster,
    /// All that the operator allows, whatever the checks say; used when nothing works.
    pub allowed: Roster,
    /// When the last eligible one was lost; `None` while there is one, and when there never was.
    pub lost_at: Option<Tick>,
    /// What it weighs among others that are as good for a client; the same for both families.
    pub weight: u64,
    /// How much of it works: what is eligible, and of what that is a part.
    pub works: (u64, u64),
    /// How much it is in use.
    pub presence: Presence,
    /// When it is to be judged again though nothing else changes.
    pub due: Option<Tick>,
    /// What a trace says of some instances beside their health; of nearly all selections nothing.
    remarks: Option<Arc<[(InstanceId, Remark)]>>,
}

/// What freezing rosters goes by.
#[derive(Clone, Copy)]
pub struct Needs<'a> {
    /// Whose instances are picked.
    pub fleet: &'a Fleet,
    /// Frozen hash of each instance's path, by [`InstanceId`].
    pub hashes: &'a [u32],
    /// Whether some service takes turns over them.
    pub rotates: bool,
    /// Where several pools share the clients: which, and the share of each (SPEC 5.5).
    pub shares: &'a [(PoolId, u32)],
}

impl Selection {
    /// Freezes `standing`. What did not change is shared with `before`, of the same group; what did gets `version`.
    #[must_use]
    pub fn freeze(standing: &Standing, needs: Needs<'_>, before: Option<&Selection>, version: u64) -> Selection {
        let Standing { eligible, unknown, allowed, .. } = standing;
        let &Standing { weight, works, available, steady_for, lost_at, presence, share, begins, due, .. } = standing;
        let remarks = (!standing.remarks.is_empty()).then(|| standing.remarks[..].into());
        // Rotations go on where nothing but loads changed.
        let same = before.filter(|before| before.says(standing));
        let version = same.map_or(version, |same| same.version);
        if let Some(same) = same.filter(|same| same.has_loads_of(standing)) {
            return Selection {
                weight,
                works,
                steady_for,
                lost_at,
                presence,
                share,
                begins,
                due,
                remarks,
                ..same.clone()
            };
        }
        let known = |roster: fn(&Selection) -> &Roster| before.map(roster);
        let allowed = Roster::shared(allowed, needs, [known(|before| &before.allowed), None]);
        let eligible = Roster::shared(eligible, needs, [Some(&allowed), known(|before| &before.eligible)]);
        let unknown = Roster::shared(unknown, needs, [Some(&allowed), known(|before| &before.unknown)]);
        let rosters = Selection { eligible, unknown, allowed, weight, works, ..Selection::default() };
        Selection { available, steady_for, lost_at, presence, share, begins, due, remarks, version, ..rosters }
    }

    /// What is to be said of an instance beside its health.
    #[must_use]
    pub fn remark(&self, instance: InstanceId) -> Option<Remark> {
        let remarks = self.remarks.as_deref().unwrap_or_default();
        remarks.iter().find(|(of, _)| *of == instance).map(|(_, remark)| *remark)
    }

    /// What the next judgement must know of this one.
    #[must_use]
    pub fn before(&self) -> Before {
        Before { had_eligible: !self.eligible.is_empty(), lost_at: self.lost_at, presence: self.presence }
    }

    fn says(&self, standing: &Standing) -> bool {
        self.available == standing.available
            && self.eligible.holds(&standing.eligible)
            && self.unknown.holds(&standing.unknown)
            && self.allowed.holds(&standing.allowed)
    }

    fn has_loads_of(&self, standing: &Standing) -> bool {
        self.eligible.has_loads_of(&standing.eligible)
            && self.unknown.has_loads_of(&standing.unknown)
            && self.allowed.has_loads_of(&standing.allowed)
    }
}

/// Instances that may be picked, in configured order; cheap to copy.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Roster {
    /// Each with a weight above 0, and an address or a CNAME.
    pub entries: Arc<[Entry]>,
    /// Sum of their weights.
    pub weight: u64,
    extra: Option<Arc<Extra>>,
}

/// An instance that may be picked.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Which instance.
    pub instance: InstanceId,
    /// Effective weight, above 0.
    pub weight: u32,
    /// Frozen hash of its path, `web/eu-1`, for stickiness.
    pub hash: u32,
    /// Of 2^32 draws that hit this place, how many are its own; all, when it is its own alias.
    own: u32,
    /// Whose the others are.
    alias: u32,
    /// Where its further addresses are in [`Extra::addresses`], and how many.
    further: (u32, u8),
    /// Load ÷ capacity in percent, for `least-load`; 0 of all where it does not count.
    pub load: u16,
    /// The address handed out first; `None` = it is answered with its CNAME, or without any if it has none.
    pub address: Option<IpAddr>,
}

// A draw reads one, and nothing says which.
const _: () = assert!(size_of::<Entry>() <= 48);

/// What only some rosters need.
#[derive(Debug, Default, PartialEq)]
struct Extra {
    /// Short cycles, as most are, lie here and not elsewhere in memory.
    cycle: SmallVec<[u16; 12]>,
    classes: Box<[Class]>,
    addresses: Box<[IpAddr]>,
    parts: Box<[Part]>,
}

/// Those entries of a roster that belong to one of several pools; none is empty.
#[derive(Debug, PartialEq)]
pub struct Part {
    /// Frozen hash of the pool's name.
    pub hash: u32,
    /// Its share of the clients, above 0.
    pub share: u32,
    /// Entries of the parts before.
    pub from: usize,
    /// Its own.
    pub roster: Roster,
}

/// Entries of the same weight.
#[derive(Debug, PartialEq)]
pub struct Class {
    /// Their weight.
    pub weight: u32,
    /// Their hashes, in configured order; the last block is filled up with the last of them.
    pub blocks: Box<[[u32; LANES]]>,
    /// Index of each in [`Roster::entries`].
    pub entries: Box<[u32]>,
}

impl Roster {
    /// Freezes candidates, or shares what a roster of another list has that says the same, but for loads maybe.
    fn shared(candidates: &Candidates, needs: Needs<'_>, others: [Option<&Roster>; 2]) -> Roster {
        let others = || others.into_iter().flatten().filter(|other| other.holds(candidates));
        match (others().find(|other| other.has_loads_of(candidates)), others().next()) {
            (Some(same), _) => same.clone(),
            // What each of several pools has is frozen with its loads.
            (None, Some(other)) if needs.shares.is_empty() => other.loaded_as(candidates),
            (None, _) => Roster::freeze(candidates, needs),
        }
    }

    /// The same entries with other loads.
    fn loaded_as(&self, candidates: &Candidates) -> Roster {
        let loads = candidates.list.iter().map(|candidate| candidate.load);
        let entries = self.entries.iter().zip(loads).map(|(entry, load)| Entry { load, ..entry.clone() });
        Roster { entries: entries.collect(), ..self.clone() }
    }

    /// Freezes candidates.
    #[must_use]
    pub fn freeze(candidates: &Candidates, needs: Needs<'_>) -> Roster {
        if candidates.is_empty() {
            return Roster::default();
        }
        let weights: Vec<u32> = candidates.list.iter().map(|candidate| candidate.weight).collect();
        let mut further = Vec::new();
        let entries = candidates.list.iter().zip(aliases(&weights)).map(|(candidate, (own, alias))| {
            let addresses = candidates.addresses_of(candidate);
            let (address, rest) = match addresses.split_first().filter(|_| !candidate.is_cname) {
                Some((&first, rest)) => (Some(first), rest),
                None => (None, addresses),
            };
            let begin = further.len() as u32;
            further.extend_from_slice(rest);
            let hash = needs.hashes[candidate.instance.0 as usize];
            let &Candidate { instance, weight, load, .. } = candidate;
            Entry { instance, weight, hash, own, alias, further: (begin, rest.len() as u8), load, address }
        });
        let entries: Arc<[Entry]> = entries.collect();
        let cycle: SmallVec<[u16; 12]> =
            if needs.rotates { round_robin::cycle(&weights).unwrap_or_default().into() } else { SmallVec::new() };
        let classes = classes(&entries);
        let parts = parts(candidates, needs);
        let is_plain = cycle.is_empty() && classes.is_empty() && further.is_empty() && parts.is_empty();
        let extra = || Arc::new(Extra { cycle, classes, addresses: further.into(), parts });
        Roster { entries, weight: candidates.weight, extra: (!is_plain).then(extra) }
    }

    /// Whether there is nothing to pick.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Asks the processor for what a pick among a few entries reads.
    pub fn prefetch(&self) {
        prefetch::lines(&self.entries, 4);
        if let Some(extra) = &self.extra {
            prefetch::first_line(&**extra);
        }
    }

    /// Draws an entry by weight, from 64 random bits: its index. There must be one.
    #[must_use]
    pub fn draw(&self, random: u64) -> u32 {
        let (at, rest) = scale(random, self.entries.len());
        let entry = &self.entries[at];
        if rest < entry.own { at as u32 } else { entry.alias }
    }

    /// The addresses of an entry, in configured order; those found behind its CNAME, if it has one.
    pub fn addresses_of(&self, entry: &Entry) -> impl Iterator<Item = IpAddr> {
        entry.address.into_iter().chain(self.further(entry).iter().copied())
    }

    /// The addresses of an entry but for the first; all that were found behind its CNAME, if it has one.
    #[must_use]
    pub fn further(&self, entry: &Entry) -> &[IpAddr] {
        let (begin, count) = (entry.further.0 as usize, entry.further.1 as usize);
        self.extra.as_ref().map_or(&[], |extra| &extra.addresses[begin..begin + count])
    }

    /// Number of all addresses.
    #[must_use]
    pub fn addresses(&self) -> usize {
        self.entries.len() + self.extra.as_ref().map_or(0, |extra| extra.addresses.len())
    }

    /// A whole cycle of turns, as indexes of entries; empty when it is not laid out.
    #[must_use]
    pub fn cycle(&self) -> &[u16] {
        self.extra.as_ref().map_or(&[], |extra| &extra.cycle)
    }

    /// The entries by weight; empty where there are few, or few of a weight.
    #[must_use]
    pub fn classes(&self) -> &[Class] {
        self.extra.as_ref().map_or(&[], |extra| &extra.classes)
    }

    /// What each pool has of it; empty where it is of one pool.
    #[must_use]
    pub fn parts(&self) -> &[Part] {
        self.extra.as_ref().map_or(&[], |extra| &extra.parts)
    }

    fn has_loads_of(&self, candidates: &Candidates) -> bool {
        self.entries.iter().zip(&candidates.list).all(|(entry, candidate)| entry.load == candidate.load)
    }

    /// Whether it says what candidates do, but for loads.
    fn holds(&self, candidates: &Candidates) -> bool {
        self.weight == candidates.weight
            && self.entries.len() == candidates.list.len()
            && self.entries.iter().zip(&candidates.list).all(|(entry, candidate)| {
                entry.instance == candidate.instance
                    && entry.weight == candidate.weight
                    && entry.address.is_none() == (candidate.is_cname || candidate.addresses.is_empty())
                    && self.addresses_of(entry).eq(candidates.addresses_of(candidate).iter().copied())
            })
    }
}

fn parts(candidates: &Candidates, needs: Needs<'_>) -> Box<[Part]> {
    let mut parts = Vec::new();
    let mut from = 0;
    for &(pool, share) in needs.shares {
        let mut own = Candidates::default();
        for one in candidates.list.iter().filter(|one| needs.fleet.instance(one.instance).pool == pool) {
            own.add(one.clone(), candidates.addresses_of(one).iter().copied());
        }
        let roster = Roster::freeze(&own, Needs { shares: &[], ..needs });
        if !roster.is_empty() {
            // Another number than that of a region of the same name.
            let hash = hash::of_name(&format!("pool/{}", needs.fleet.pool(pool).name)) as u32;
            let entries = roster.entries.len();
            parts.push(Part { hash, share, from, roster });
            from += entries;
        }
    }
    parts.into()
}

/// Scales 64 random bits to an index below `count`, and 32 bits that are random within it. The bias is below
/// `count` ÷ 2^32.
fn scale(random: u64, count: usize) -> (usize, u32) {
    let scaled = u128::from(random) * count as u128;
    ((scaled >> 64) as usize, (scaled >> 32) as u32)
}

/// The alias table (Vose 1991) in whole numbers: of each place the share of 2^32 that is its own, and whose the rest is.
/// Places have room for as much as the mean weight; what is lighter is filled up from what is heavier.
fn aliases(weights: &[u32]) -> Vec<(u32, u32)> {
    let count = weights.len() as u64;
    let room: u64 = weights.iter().map(|&weight| u64::from(weight)).sum();
    let mut left: Vec<u64> = weights.iter().map(|&weight| u64::from(weight) * count).collect();
    let mut table: Vec<(u32, u32)> = (0..weights.len()).map(|at| (u32::MAX, at as u32)).collect();
    let (mut light, mut heavy): (Vec<usize>, Vec<usize>) = (0..weights.len()).partition(|&at| left[at] < room);
    while let (Some(&lighter), Some(&heavier)) = (light.last(), heavy.last()) {
        light.pop();
        let own = u128::from(left[lighter]) * u128::from(WHOLE) / u128::from(room);
        table[lighter] = (own as u32, heavier as u32);
        left[heavier] -= room - left[lighter];
        if left[heavier] < room {
            heavy.pop();
            light.push(heavier);
        }
    }
    table
}

/// Entries class by class, the heaviest first; nothing where classes do not pay.
fn classes(entries: &[Entry]) -> Box<[Class]> {
    if entries.len() <= CLASSES_FROM {
        return Box::default();
    }
    let mut order: Vec<u32> = (0..entries.len() as u32).collect();
    let weight = |at: u32| entries[at as usize].weight;
    order.sort_by_key(|&at| std::cmp::Reverse(weight(at)));
    let classes = order.chunk_by(|&a, &b| weight(a) == weight(b));
    if entries.len() < CLASS_FROM * classes.clone().count() {
        return Box::default();
    }
    let hash = |at: u32| entries[at as usize].hash;
    let block = |same: &[u32]| std::array::from_fn(|lane| hash(same[lane.min(same.len() - 1)]));
    let class = |same: &[u32]| Class {
        weight: weight(same[0]),
        blocks: same.chunks(LANES).map(block).collect(),
        entries: same.into(),
    };
    classes.map(class).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A roster of these weights; instances are numbered, hashes scattered.
    pub(in crate::steering) fn roster(weights: &[u32], rotates: bool) -> Roster {
        let hashes: Vec<u32> = (0..weights.len() as u32).map(|at| at.wrapping_mul(0x9e37_79b9)).collect();
        let mut candidates = Candidates::default();
        for (at, &weight) in weights.iter().enumerate() {
            candidates.push(InstanceId(at as u32), weight, std::iter::once(IpAddr::from((at as u32).to_be_bytes())));
        }
        Roster::freeze(&candidates, Needs { fleet: &Fleet::default(), hashes: &hashes, rotates, shares: &[] })
    }

    /// A roster of these weights and loads.
    pub(in crate::steering) fn roster_loaded(weights: &[u32], loads: &[u16]) -> Roster {
        let plain = roster(weights, false);
        let entries = plain.entries.iter().zip(loads).map(|(entry, &load)| Entry { load, ..entry.clone() });
        Roster { entries: entries.collect(), ..plain.clone() }
    }

    /// The share of each entry, added up over the whole table, is its weight's.
    #[test]
    fn the_alias_table_gives_each_its_share() {
        for weights in
            [&[1][..], &[3, 1], &[1, 1, 1], &[1_000_000, 1, 1], &[5, 4, 3, 2, 1], &[1; 1000], &[7, 1_000_000]]
        {
            let roster = roster(weights, false);
            let mut shares = vec![0u64; weights.len()];
            for (at, entry) in roster.entries.iter().enumerate() {
                let own = if entry.alias == at as u32 { WHOLE } else { u64::from(entry.own) };
                shares[at] += own;
                shares[entry.alias as usize] += WHOLE - own;
            }
            let all = WHOLE as f64 * weights.len() as f64;
            for (share, weight) in shares.iter().zip(weights) {
                let expected = f64::from(*weight) / roster.weight as f64;
                assert!((*share as f64 / all - expected).abs() < 1e-9, "{weights:?}: {share} for {weight}");
            }
        }
    }

    #[test]
    fn a_draw_reaches_the_ends() {
        assert_eq!(scale(0, 7), (0, 0));
        assert_eq!(scale(u64::MAX, 7), (6, u32::MAX));
        assert_eq!(roster(&[9], false).draw(u64::MAX), 0);
    }

    #[test]
    fn what_did_not_change_is_shared() {
        let table: Table = (0..1000).map(|_| Standings::new(1, [true, false], |_, _| Selection::default())).collect();
        let mut changed = table.clone();
        let other = Selection { available: true, ..Selection::default() };
        changed.set(LayoutId(300), Standings::new(1, [true, false], |_, _| other.clone()));
        assert_eq!((table.len(), table.chunks.len()), (1000, 4));
        for (at, (before, after)) in table.chunks.iter().zip(&changed.chunks).enumerate() {
            assert_eq!(Arc::ptr_eq(before, after), at != 1);
        }
        let available = |table: &Table, at| table.get(LayoutId(at)).get(0, Family::V4).is_some_and(|one| one.available);
        assert_eq!((available(&table, 300), available(&changed, 300), available(&changed, 301)), (false, true, false));
        assert!(changed.get(LayoutId(300)).get(0, Family::V6).is_none());
    }

    #[test]
    fn rosters_that_say_the_same_are_one() {
        let list = |weights: &[u32]| {
            let mut candidates = Candidates::default();
            for (at, &weight) in weights.iter().enumerate() {
                candidates.push(InstanceId(at as u32), weight, std::iter::once(IpAddr::from([192, 0, 2, at as u8])));
            }
            candidates
        };
        let standing =
            |eligible: &[u32]| Standing { eligible: list(eligible), allowed: list(&[1, 2]), ..Standing::default() };
        let needs = Needs { fleet: &Fleet::default(), hashes: &[5, 6], rotates: false, shares: &[] };
        let all = Selection::freeze(&standing(&[1, 2]), needs, None, 1);
        assert!(Arc::ptr_eq(&all.eligible.entries, &all.allowed.entries));
        let fewer = Selection::freeze(&standing(&[1]), needs, Some(&all), 2);
        assert_eq!((fewer.version, fewer.eligible.entries.len()), (2, 1));
        assert!(Arc::ptr_eq(&fewer.allowed.entries, &all.allowed.entries));
        let lost = Standing { lost_at: Some(Tick(7)), ..standing(&[1]) };
        let same = Selection::freeze(&lost, needs, Some(&fewer), 3);
        assert_eq!((same.version, same.lost_at), (2, Some(Tick(7))));
        assert!(Arc::ptr_eq(&same.eligible.entries, &fewer.eligible.entries));
    }

    #[test]
    fn loads_change_no_version_and_no_table() {
        let list = |loads: &[u16]| {
            let mut candidates = Candidates::default();
            for (at, &load) in loads.iter().enumerate() {
                candidates.push(
                    InstanceId(at as u32),
                    1 + at as u32,
                    std::iter::once(IpAddr::from([192, 0, 2, at as u8])),
                );
                candidates.list[at].load = load;
            }
            candidates
        };
        let standing = |loads: &[u16]| Standing { eligible: list(loads), allowed: list(loads), ..Standing::default() };
        let fleet = Fleet::default();
        let needs = Needs { fleet: &fleet, hashes: &[5, 6], rotates: true, shares: &[] };
        let idle = Selection::freeze(&standing(&[0, 0]), needs, None, 1);
        let busy = Selection::freeze(&standing(&[70, 20]), needs, Some(&idle), 2);
        assert_eq!(busy.version, 1, "rotations go on");
        assert_eq!(busy.eligible.entries.iter().map(|entry| entry.load).collect::<Vec<_>>(), [70, 20]);
        assert_eq!(busy.eligible.cycle(), idle.eligible.cycle());
        assert!(Arc::ptr_eq(&busy.eligible.entries, &busy.allowed.entries));
        let same = Selection::freeze(&standing(&[70, 20]), needs, Some(&busy), 3);
        assert!(Arc::ptr_eq(&same.eligible.entries, &busy.eligible.entries));
        let afresh = Selection::freeze(&standing(&[70, 20]), needs, None, 1);
        assert_eq!(afresh.eligible.entries, busy.eligible.entries);
    }
}
