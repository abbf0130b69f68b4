//! The decision: which group serves this client now (SPEC 3.3). Nothing else in Waymark decides.
//!
//! ```text
//!            order of groups for this client
//!  pass 1    the first that is available
//!  pass 2    the greatest share alive, ties in order; then the first with unknown instances
//!  pass 3    when-all-down: serve-all (the one lost last) | nodata | servfail | another service | fixed addresses
//! ```

use std::net::IpAddr;
use std::time::Duration;

use super::client::{Client, mask};
use super::hash;
use super::latency::{EXPLORER, Ways};
use super::local::{Large, Local};
use super::order::{self, By, Order, Run};
use super::plan::{Group, Steered, Steering};
use super::selection::{Roster, Selection, Standings, Table};
use super::service::{ServiceId, WhenAllDown};
use super::trace::{Candidate, Trace};
use crate::fleet::{Family, InstanceId, RegionId};
use crate::health::Remark;
use crate::health::group::STEADY;
use crate::health::presence::{ALL, Presence};
use crate::latency::View;

/// Losses within this time of each other count as equal.
const SAME_LOSS: Duration = Duration::from_secs(60);
/// Longest chain of services that stand in for each other; loading refuses cycles.
pub const MAX_FALLBACKS: usize = 8;

/// Most members of a group that a trace names.
pub const MAX_SHOWN: usize = 20;

/// What is to be answered.
#[derive(Clone, Copy, Debug)]
pub enum Outcome<'a> {
    /// Pick among these.
    Pick {
        /// Who may be picked.
        roster: &'a Roster,
        /// Index into the layout's groups.
        group: usize,
        /// Version of the roster, for rotations; above 0.
        version: u64,
    },
    /// NOERROR without records.
    Nodata,
    /// SERVFAIL.
    Servfail,
    /// These addresses, those of the family asked for.
    Addresses(&'a [IpAddr]),
}

/// A decision.
#[derive(Clone, Copy, Debug)]
pub struct Decision<'a> {
    /// What is to be answered.
    pub outcome: Outcome<'a>,
    /// The service that answers: the one asked, or one that stands in for it.
    pub service: ServiceId,
    /// Widest prefix (in bits of [`Client::address`]) in which the order is the same.
    pub scope: u8,
    /// How long the answer may be kept, seconds.
    pub ttl: u32,
    /// Whether nothing eligible or unknown was left.
    pub all_down: bool,
    /// Whether the candidates are down and are taken for up (`serve-all`).
    pub as_if_up: bool,
}

/// What is known now, beside what is configured.
#[derive(Clone, Copy, Debug)]
pub struct Situation<'a> {
    /// What each group can do.
    pub standings: &'a Table,
    /// How long the ways from clients to regions are.
    pub latency: &'a View,
}

/// Decides for `client` asking `service` for addresses of `family`.
pub fn decide<'a, T: Trace>(
    steering: &'a Steering,
    situation: Situation<'a>,
    service: ServiceId,
    client: &Client,
    family: Family,
    local: &mut Local,
    trace: &mut T,
) -> Decision<'a> {
    let Situation { standings, latency } = situation;
    let latency = Some(latency);
    let mut walk = Walk { steering, standings, latency, client, family, fences: Fences::default(), scope: 0 };
    let ttl = steering.service(service).manner.ttl;
    let mut asked = service;
    let mut all_down = false;
    for _ in 0..MAX_FALLBACKS {
        let step = walk.service(asked, local, trace);
        all_down |= step.all_down;
        let outcome = match step.next {
            Next::Answer(outcome) => outcome,
            Next::Service(next) => {
                trace.note("fallback", || {
                    format!("all down: service/{} stands in", steering.service(next).configured.name)
                });
                if T::KEEPS {
                    steering.describe(steering.service(next), client.address, trace);
                }
                asked = next;
                continue;
            }
        };
        let ttl = if all_down { ttl.min } else { ttl.within(step.steady_for) };
        return Decision { outcome, service: asked, scope: walk.scope, ttl, all_down, as_if_up: step.as_if_up };
    }
    let (outcome, ttl) = (Outcome::Servfail, ttl.min);
    Decision { outcome, service: asked, scope: walk.scope, ttl, all_down: true, as_if_up: false }
}

/// A group that would serve a client if those before it did not.
#[derive(Clone, Copy, Debug)]
pub struct Reserve<'a> {
    /// Index into the layout's groups.
    pub group: usize,
    /// By family: who may be picked there, and the version of that; `None` where that family is not served.
    pub rosters: [Option<(&'a Roster, u64)>; 2],
    /// Seconds for which its verdicts last; [`STEADY`] = nothing speaks against them.
    pub steady_for: u16,
}

/// The groups that would serve `client` beside those in `served`, in its order, as many as `found` takes; how many there
/// are. To be asked right after [`decide`] of this very service, whose order it goes by, with the same `local`.
pub fn reserves<'a>(
    steering: &'a Steering,
    situation: Situation<'a>,
    service: ServiceId,
    client: &Client,
    local: &Local,
    served: [Option<usize>; 2],
    found: &mut [Option<Reserve<'a>>],
) -> usize {
    let Situation { standings, latency } = situation;
    let (latency, family, mut fences) = (Some(latency), Family::V4, Fences::default());
    let steered = steering.service(service);
    let (order, _) = steered.orders.table.lookup(client.address);
    let order = &steered.orders.orders[order as usize];
    fences.add(order.fence.as_deref());
    let walk = Walk { steering, standings, latency, client, family, fences, scope: 0 };
    let sequence = if order.is_fixed() { &order.groups[..] } else { &local.order };
    let mut count = 0;
    for (at, group) in walk.allowed(steered, sequence).enumerate() {
        let Some(free) = found.get_mut(count) else { break };
        if served.contains(&Some(group)) {
            continue;
        }
        if let Some(reserve) = walk.reserve(steered, standings.of(service, steered.layout), group, at == 0) {
            *free = Some(reserve);
            count += 1;
        }
    }
    count
}

struct Walk<'a, 'c> {
    steering: &'a Steering,
    standings: &'a Table,
    /// `None` where the order of groups is no question.
    latency: Option<&'a View>,
    client: &'c Client,
    family: Family,
    fences: Fences<'a>,
    scope: u8,
}

/// Fences of the services asked so far; nothing passes any of them.
#[derive(Clone, Copy, Default)]
struct Fences<'a> {
    lists: [Option<&'a [RegionId]>; MAX_FALLBACKS],
}

impl<'a> Fences<'a> {
    fn add(&mut self, fence: Option<&'a [RegionId]>) {
        if let Some(free) = self.lists.iter_mut().find(|list| list.is_none()) {
            *free = fence;
        }
    }

    fn is_any(&self) -> bool {
        self.lists[0].is_some()
    }

    fn allow(&self, group: &Group) -> bool {
        !group.regions.is_empty()
            && !group.has_homeless
            && self.lists.iter().flatten().all(|list| group.regions.iter().all(|region| list.contains(region)))
    }
}

enum Next<'a> {
    Answer(Outcome<'a>),
    Service(ServiceId),
}

struct Step<'a> {
    next: Next<'a>,
    /// Seconds for which the verdicts that were consulted last; [`STEADY`] = nothing speaks against them.
    steady_for: u16,
    all_down: bool,
    as_if_up: bool,
}

impl<'a> Step<'a> {
    /// An answer to which health has nothing to say.
    fn answer(outcome: Outcome<'a>) -> Step<'a> {
        Step { next: Next::Answer(outcome), steady_for: STEADY, all_down: false, as_if_up: false }
    }
}

/// A group that may serve, and what it can do.
#[derive(Clone, Copy)]
struct Serving<'a> {
    group: usize,
    selection: &'a Selection,
}

impl<'a> Walk<'a, '_> {
    fn service<T: Trace>(&mut self, id: ServiceId, local: &mut Local, trace: &mut T) -> Step<'a> {
        let steered = self.steering.service(id);
        if !steered.serves[self.family as usize] && !steered.has_stand_in {
            trace.note("region", || "no instance has an address of this family: NODATA".into());
            return Step::answer(Outcome::Nodata);
        }
        local.read.note(steered.orders.large);
        let (order, scope) = steered.orders.table.lookup(self.client.address);
        // Resolvers give an answer of scope 0 to clients of both families.
        let least = u8::from(steered.orders.orders.len() > 1);
        self.scope = self.scope.max(scope).max(least);
        trace.note("scope", || match scope {
            0 => "0: all clients have the same order of regions".into(),
            scope => format!("{scope}: that order holds for all of {}", network(self.client.address, scope)),
        });
        let order = &steered.orders.orders[order as usize];
        self.fences.add(order.fence.as_deref());
        let standings = self.standings.of(id, steered.layout);
        if standings.returning() || order.goes_by_key() {
            self.scope = self.scope.max(self.client.key_bits(steered.manner.sticky));
            trace.note("scope", || {
                let why = match order.goes_by_key() {
                    true if order.runs.iter().any(|run| matches!(run.by, By::Shares(_))) => "regions share the clients",
                    true => "regions are equals",
                    false => "a region serves some of its clients",
                };
                self.told_apart(steered, why)
            });
        }
        if order.is_fixed() {
            return self.passes(steered, standings, order, &order.groups, trace);
        }
        self.sequence(id, order, local, trace);
        self.passes(steered, standings, order, &local.order, trace)
    }

    /// The groups in the order for this very query, in `local.order`.
    fn sequence<T: Trace>(&mut self, id: ServiceId, order: &Order, local: &mut Local, trace: &mut T) {
        let steered = self.steering.service(id);
        let Local { order: sequence, shares: room, ranked, random, read, .. } = local;
        sequence.clear();
        sequence.extend_from_slice(&order.groups);
        let groups = &self.steering.layout(steered.layout).groups;
        let standings = self.standings.of(id, steered.layout);
        let client = self.client;
        let key = || client.key(steered.hash, steered.manner.sticky);
        for run in &order.runs {
            let stretch = &mut sequence[run.from as usize..run.to as usize];
            let hash = |group: u32| groups[group as usize].hash;
            let weight = |group: u32| standings.weight(group as usize);
            match &run.by {
                By::Draw(shares) => order::draw(stretch, shares, room, random),
                By::Shares(shares) => {
                    order::by_key(stretch, key(), ranked, |place, group| (hash(group), u64::from(shares[place])));
                }
                By::Weights => order::by_key(stretch, key(), ranked, |_, group| (hash(group), weight(group))),
                By::Latency { tolerance } => {
                    read.note(Some(Large::LATENCY));
                    let equals = self.sort_by_latency(steered, stretch, *tolerance, ranked);
                    if equals > 1 {
                        let equals = &mut stretch[..equals];
                        order::by_key(equals, key(), ranked, |_, group| (hash(group), weight(group)));
                    }
                    self.tell_of_latency(steered, stretch, equals, trace);
                }
            }
            trace.note("order", || {
                let how = match run.by {
                    By::Draw(_) => "drawn by shares".into(),
                    By::Shares(_) => format!("split by hash of {}", self.client.describe_key(steered.manner.sticky)),
                    By::Weights => {
                        format!("equals ranked by hash of {}", self.client.describe_key(steered.manner.sticky))
                    }
                    By::Latency { .. } => "by latency".into(),
                };
                format!("{how}: {}", self.names(steered, sequence))
            });
        }
    }

    /// Sorts a run by what is measured for this client; how many of its first are equals.
    fn sort_by_latency(
        &mut self,
        steered: &Steered,
        run: &mut [u32],
        tolerance: u16,
        room: &mut Vec<(f64, u32)>,
    ) -> usize {
        let Some(view) = self.latency.filter(|view| !view.measured.is_empty() || view.explorers > 0) else { return 0 };
        let groups = &self.steering.layout(steered.layout).groups;
        let mut ways = Ways::new(view, &self.steering.homes, self.client.address);
        let equals = ways.sort(run, tolerance, |group| groups[group as usize].regions[0], room);
        // As with places: what is measured is that of one family.
        self.scope = self.scope.max(ways.scope).max(u8::from(!view.measured.is_empty()));
        if equals > 1 || view.explorers > 0 {
            self.scope = self.scope.max(self.client.key_bits(steered.manner.sticky));
        }
        equals
    }

    fn tell_of_latency<T: Trace>(&self, steered: &Steered, run: &[u32], equals: usize, trace: &mut T) {
        let Some(view) = self.latency else { return };
        trace.note("latency", || {
            let groups = &self.steering.layout(steered.layout).groups;
            let ways = Ways::new(view, &self.steering.homes, self.client.address);
            let told = |&group: &u32| {
                format!("{} ({})", self.name(steered, group as usize), ways.tell(groups[group as usize].regions[0]))
            };
            let told: Vec<String> = run.iter().map(told).collect();
            let equals = match equals {
                0 => "nothing is measured, as compiled".into(),
                1 => "the first is the best".into(),
                _ => format!("the first {equals} are equals, by the client's key"),
            };
            format!("{}; {equals}", told.join(", "))
        });
    }

    /// The group where a client that explores begins instead of `best`: the next behind the equals of the run, so that the
    /// way to it is measured. It is no client's turn where nobody explores, and no group's that cannot serve.
    fn explored<T: Trace>(
        &self,
        steered: &Steered,
        standings: &'a Standings,
        order: &Order,
        sequence: &[u32],
        best: Serving<'a>,
        trace: &mut T,
    ) -> Option<Serving<'a>> {
        let view = self.latency.filter(|view| view.explorers > 0)?;
        let at = sequence.iter().position(|&group| group as usize == best.group)?;
        let holds = |run: &&Run| (run.from as usize..run.to as usize).contains(&at);
        let run = order.runs.iter().find(holds)?;
        let By::Latency { tolerance } = run.by else { return None };
        let key = self.client.key(steered.hash, steered.manner.sticky);
        if hash::score(key, EXPLORER) >= view.explorers {
            return None;
        }
        let groups = &self.steering.layout(steered.layout).groups;
        let mut ways = Ways::new(view, &self.steering.homes, self.client.address);
        let stretch = &sequence[run.from as usize..run.to as usize];
        let equals = ways.equals(stretch, tolerance, |group| groups[group as usize].regions[0]);
        let beyond = (run.from as usize + equals).max(at + 1);
        let (behind, from) = (&sequence[beyond..run.to as usize], beyond);
        let second = self.in_use_from(from, steered, standings, behind, self.family)?;
        trace.note("explore", || {
            let (second, best) = (self.name(steered, second.group), self.name(steered, best.group));
            format!("by its key this client begins at {second} instead of {best}, so that it is measured")
        });
        Some(second)
    }

    #[inline(always)]
    fn passes<T: Trace>(
        &self,
        steered: &'a Steered,
        standings: &'a Standings,
        order: &Order,
        sequence: &[u32],
        trace: &mut T,
    ) -> Step<'a> {
        let answer = |roster, serving: Serving<'a>| {
            Step::answer(Outcome::Pick { roster, group: serving.group, version: version_of(serving.selection, roster) })
        };
        self.describe(steered, standings, sequence, trace);
        let first = self.in_use(steered, standings, sequence, self.family);
        let explored = first.and_then(|best| self.explored(steered, standings, order, sequence, best, trace));
        let first = explored.or(first);
        if let Some(serving) = first.or_else(|| self.next_best(steered, standings, sequence, self.family)) {
            trace.note("region", || format!("{} serves", self.name(steered, serving.group)));
            let selection = serving.selection;
            let roster = if selection.eligible.is_empty() { &selection.unknown } else { &selection.eligible };
            let mut step = answer(roster, serving);
            if steered.manner.ttl.varies() {
                step.steady_for = self.steady_for(steered, standings, sequence, first, trace);
            }
            return step;
        }
        if self.only_this_family_lacks(steered, standings, sequence) {
            trace.note("region", || "no address of this family while the other is served: NODATA".into());
            return Step::answer(Outcome::Nodata);
        }
        let nothing = |next| Step { next, steady_for: STEADY, all_down: true, as_if_up: false };
        let fenced = self.fences.is_any();
        match &steered.configured.service.when_all_down {
            WhenAllDown::ServeAll => match self.lost_last(steered, standings, sequence) {
                Some(serving) => {
                    trace.note("region", || {
                        format!("all down, serve-all: {} was lost last", self.name(steered, serving.group))
                    });
                    Step { all_down: true, as_if_up: true, ..answer(&serving.selection.allowed, serving) }
                }
                None => Step::answer(Outcome::Nodata),
            },
            WhenAllDown::Nodata => nothing(Next::Answer(Outcome::Nodata)),
            WhenAllDown::Servfail => nothing(Next::Answer(Outcome::Servfail)),
            WhenAllDown::Service(next) => nothing(Next::Service(*next)),
            // An address belongs to no region, so it is outside every fence.
            WhenAllDown::Addresses(_) if fenced => nothing(Next::Answer(Outcome::Nodata)),
            WhenAllDown::Addresses(addresses) => nothing(Next::Answer(Outcome::Addresses(addresses))),
        }
    }

    /// What a group can do for this client, when it can serve in some family.
    fn reserve(
        &self,
        steered: &Steered,
        standings: &'a Standings,
        group: usize,
        is_first: bool,
    ) -> Option<Reserve<'a>> {
        let of_family = |family: Family| {
            let selection = standings.get(group, family).filter(|selection| selection.available)?;
            let serving = Serving { group, selection };
            let is_served = !standings.partial() || self.is_served(steered, serving, is_first);
            (is_served && !selection.eligible.is_empty()).then_some(selection)
        };
        let [v4, v6] = Family::BOTH.map(of_family);
        let steady_for = v4.into_iter().chain(v6).map(|selection| selection.steady_for).min()?;
        let roster = |selection: &'a Selection| (&selection.eligible, version_of(selection, &selection.eligible));
        Some(Reserve { group, rosters: [v4.map(roster), v6.map(roster)], steady_for })
    }

    /// The groups of `sequence` that no fence forbids.
    fn allowed<'s>(&'s self, steered: &Steered, sequence: &'s [u32]) -> impl Iterator<Item = usize> + 's
    where
        'a: 's,
    {
        let groups = &self.steering.layout(steered.layout).groups;
        let fenced = self.fences.is_any();
        sequence.iter().map(|&at| at as usize).filter(move |&at| !fenced || self.fences.allow(&groups[at]))
    }

    /// The groups of `sequence` that no fence forbids, with their standings.
    fn open<'s>(
        &'s self,
        steered: &'s Steered,
        standings: &'a Standings,
        sequence: &'s [u32],
        family: Family,
    ) -> impl Iterator<Item = Serving<'a>> + 's {
        self.allowed(steered, sequence)
            .filter_map(move |group| Some(Serving { group, selection: standings.get(group, family)? }))
    }

    /// Passes 1 and 2.
    fn alive(
        &self,
        steered: &Steered,
        standings: &'a Standings,
        sequence: &[u32],
        family: Family,
    ) -> Option<Serving<'a>> {
        let first = self.in_use(steered, standings, sequence, family);
        first.or_else(|| self.next_best(steered, standings, sequence, family))
    }

    /// Pass 2.
    fn next_best(
        &self,
        steered: &Steered,
        standings: &'a Standings,
        sequence: &[u32],
        family: Family,
    ) -> Option<Serving<'a>> {
        let open = || self.open(steered, standings, sequence, family);
        // Eligible ÷ allowed, compared by cross multiplication; the first wins ties.
        let greater = |a: &Selection, b: &Selection| {
            let ((some, of), (others, of_others)) = (a.works, b.works);
            u128::from(some) * u128::from(of_others) > u128::from(others) * u128::from(of)
        };
        let some_alive = open().filter(|serving| !serving.selection.eligible.is_empty());
        let fullest = some_alive.reduce(|best, next| if greater(next.selection, best.selection) { next } else { best });
        fullest.or_else(|| open().find(|serving| !serving.selection.unknown.is_empty()))
    }

    /// Pass 1.
    fn in_use(
        &self,
        steered: &Steered,
        standings: &'a Standings,
        sequence: &[u32],
        family: Family,
    ) -> Option<Serving<'a>> {
        self.in_use_from(0, steered, standings, sequence, family)
    }

    /// The same of the end of an order, of which `from` groups come before.
    fn in_use_from(
        &self,
        from: usize,
        steered: &Steered,
        standings: &'a Standings,
        sequence: &[u32],
        family: Family,
    ) -> Option<Serving<'a>> {
        let is_partial = standings.partial();
        let serves = |(at, serving): &(usize, Serving<'_>)| {
            serving.selection.available && (!is_partial || self.is_served(steered, *serving, from + at == 0))
        };
        self.open(steered, standings, sequence, family).enumerate().find(serves).map(|(_, serving)| serving)
    }

    /// Seconds for which the verdicts last that made a group serve: those of the `first` that is in use, and of the groups
    /// before it; of all groups, where none is (SPEC 6).
    fn steady_for<T: Trace>(
        &self,
        steered: &Steered,
        standings: &'a Standings,
        sequence: &[u32],
        first: Option<Serving<'_>>,
        trace: &mut T,
    ) -> u16 {
        let mut least = STEADY;
        for one in self.open(steered, standings, sequence, self.family) {
            least = least.min(one.selection.steady_for);
            if first.is_some_and(|first| one.group == first.group) {
                break;
            }
        }
        trace.note("ttl", || match (least, steered.manner.ttl) {
            (STEADY, ttl) => format!("{}: nothing speaks against the verdicts consulted", ttl.max),
            (0, ttl) => format!("{}: verdicts consulted are held", ttl.min),
            (seconds, ttl) => {
                format!("{}: a verdict consulted may change in {seconds}s at the earliest", ttl.within(seconds))
            }
        });
        least
    }

    /// Whether this client is among those that a group serves that serves some of its clients, as it returns, overflows or
    /// sheds (SPEC 3.4, 3.5, 8.2): as long as the share grows, it stays so. The shares are nested, so that the least counts.
    fn is_served(&self, steered: &Steered, serving: Serving<'_>, is_first: bool) -> bool {
        let share = if is_first { serving.selection.begins } else { serving.selection.share };
        if share == ALL || share == 0 {
            return share == ALL;
        }
        let group = &self.steering.layout(steered.layout).groups[serving.group];
        let key = self.client.key(steered.hash, steered.manner.sticky);
        // Another number than where groups are equals: who likes this one best is not to come back last.
        hash::score(key, !group.hash) < share
    }

    /// SPEC 3.1: AAAA may be NODATA when its instances are down (not unknown) and A is served normally. A family of which
    /// the pool has no address at all is NODATA (SPEC 7.2) while the other works: nothing needs to stand in for it.
    fn only_this_family_lacks(&self, steered: &Steered, standings: &'a Standings, sequence: &[u32]) -> bool {
        let serves = steered.serves[self.family as usize];
        let other = match self.family {
            Family::V6 => Family::V4,
            Family::V4 if !serves => Family::V6,
            Family::V4 => return false,
        };
        self.alive(steered, standings, sequence, other).is_some()
    }

    /// Pass 3 of `serve-all`: the group that lost its last eligible instance last; within a minute, order decides.
    fn lost_last(&self, steered: &Steered, standings: &'a Standings, sequence: &[u32]) -> Option<Serving<'a>> {
        let open = || {
            let open = self.open(steered, standings, sequence, self.family);
            open.filter(|serving| !serving.selection.allowed.is_empty())
        };
        let latest = open().filter_map(|serving| serving.selection.lost_at).max();
        match latest {
            None => open().next(),
            Some(latest) => {
                open().find(|serving| serving.selection.lost_at.is_some_and(|lost| latest.since(lost) <= SAME_LOSS))
            }
        }
    }

    /// Each group in order with what it can do, and why each member may be picked or not.
    fn describe<T: Trace>(&self, steered: &Steered, standings: &'a Standings, sequence: &[u32], trace: &mut T) {
        if !T::KEEPS {
            return;
        }
        for (place, &at) in sequence.iter().enumerate() {
            let group = &self.steering.layout(steered.layout).groups[at as usize];
            let none = Selection::default();
            let selection = standings.get(at as usize, self.family).unwrap_or(&none);
            trace.note("region", || {
                let weights = match selection.works {
                    (some, all) if self.steering.layout(steered.layout).has_shares => {
                        format!("{:.0}% of the shares of its pools", 100.0 * some as f64 / all.max(1) as f64)
                    }
                    (some, all) => format!("{some} of {all} of the weight"),
                };
                let verdict = verdict(selection, place == 0);
                let fenced = if self.fences.is_any() && !self.fences.allow(group) { ", outside a fence" } else { "" };
                let share = if place == 0 { selection.begins } else { selection.share };
                let side = match share {
                    0 | ALL => "",
                    _ if self.is_served(steered, Serving { group: at as usize, selection }, place == 0) => {
                        ", this client among them"
                    }
                    _ => ", this client not among them",
                };
                format!("{}: {verdict}{side}{fenced}, {weights}", self.name(steered, at as usize))
            });
            for &id in group.members.iter().take(MAX_SHOWN) {
                trace.candidate(|| self.candidate(selection, self.name(steered, at as usize), id));
            }
            if group.members.len() > MAX_SHOWN {
                trace.note("candidate", || format!("{} more", group.members.len() - MAX_SHOWN));
            }
        }
    }

    fn candidate(&self, selection: &Selection, region: String, id: InstanceId) -> Candidate {
        let instance = self.steering.fleet.instance(id);
        let weight_in = |roster: &Roster| {
            roster.entries.iter().find(|entry| entry.instance == id).map(|entry| u64::from(entry.weight))
        };
        let (eligible, allowed) = (weight_in(&selection.eligible), weight_in(&selection.allowed));
        let remark = selection.remark(id);
        let state = match () {
            () if instance.weight == 0 => "never",
            () if self.steering.fleet.cname(id).is_none()
                && !instance.addresses.iter().any(|address| Family::of(address.ip) == self.family) =>
            {
                "no address"
            }
            () if remark == Some(Remark::DrainedByAgent) => "drained",
            () if remark == Some(Remark::AtMaxLoad) => "full",
            () if allowed.is_none() => "out",
            () if eligible.is_some() => "up",
            () if weight_in(&selection.unknown).is_some() => "unknown",
            () => "down",
        };
        let ramp = eligible.zip(allowed).filter(|(now, all)| now < all).map(|(now, all)| now * 100 / all);
        let (name, weight, family) = (instance.name.to_string(), instance.weight, self.family);
        Candidate { instance: id, name, region, family, state, weight, ramp_percent: ramp, remark }
    }

    /// Why more of the client counts than its place.
    fn told_apart(&self, steered: &Steered, why: &str) -> String {
        let sticky = steered.manner.sticky;
        let key = self.client.describe_key(sticky);
        format!("{}: {why}, which tells clients apart by hash of {key}", self.client.key_bits(sticky))
    }

    fn name(&self, steered: &Steered, group: usize) -> String {
        let regions = &self.steering.layout(steered.layout).groups[group].regions;
        super::fence::names(&self.steering.fleet, regions)
    }

    fn names(&self, steered: &Steered, sequence: &[u32]) -> String {
        let names: Vec<String> = sequence.iter().map(|&at| self.name(steered, at as usize)).collect();
        names.join(", ")
    }
}

/// The network of `bits` around an address, in words.
fn network(address: IpAddr, bits: u8) -> String {
    format!("{}/{bits}", mask(address, bits))
}

/// Whether a group serves, in words.
fn verdict(selection: &Selection, is_first: bool) -> String {
    let sheds = is_first && selection.begins < selection.share;
    match if sheds { selection.begins } else { selection.share } {
        _ if !selection.available => "not available".into(),
        ALL => "available".into(),
        _ if selection.presence == Presence::Latched => "latched out until it is resumed".into(),
        0 if sheds => "available, sheds all clients that would begin here".into(),
        0 => "available again, not yet used".into(),
        share => {
            let percent = f64::from(share) / f64::from(ALL) * 100.0;
            let word = match selection.presence {
                _ if sheds => "shedding",
                Presence::Growing(_) => "returning",
                _ => "overflowing",
            };
            format!("{word}, {percent:.0}% of its clients")
        }
    }
}

/// The version of a roster of a selection, for rotations.
fn version_of(selection: &Selection, roster: &Roster) -> u64 {
    selection.version.wrapping_mul(4).wrapping_add(pass_of(selection, roster))
}

/// Tells the rosters of a selection apart, so that rotations over them do not mix; above 0.
fn pass_of(selection: &Selection, roster: &Roster) -> u64 {
    if std::ptr::eq(roster, &selection.eligible) {
        1
    } else if std::ptr::eq(roster, &selection.unknown) {
        2
    } else {
        3
    }
}

/// Whether standings `after` leave some client of a service without the last available region that it has `before`, or
/// without the last eligible instance.
#[must_use]
pub fn takes_last(steering: &Steering, before: &Table, after: &Table, service: ServiceId, family: Family) -> bool {
    let steered = steering.service(service);
    let client = Client::of_resolver(IpAddr::from([0, 0, 0, 0]));
    let of = |standings, order: &Order, is: fn(&Selection) -> bool| {
        let fences = Fences::default();
        let mut walk = Walk { steering, standings, latency: None, client: &client, family, fences, scope: 0 };
        walk.fences.add(order.fence.as_deref());
        let mut open = walk.open(steered, standings.of(service, steered.layout), &order.groups, family);
        open.any(|serving| is(serving.selection))
    };
    let takes = |order: &Order, is: fn(&Selection) -> bool| of(before, order, is) && !of(after, order, is);
    let eligible = |selection: &Selection| !selection.eligible.is_empty();
    steered.orders.orders.iter().any(|order| takes(order, |selection| selection.available) || takes(order, eligible))
}

/// Whether some client of a service gets an answer of the third pass now: the service fails open, or has nothing left.
#[must_use]
pub fn is_all_down(steering: &Steering, standings: &Table, service: ServiceId, family: Family) -> bool {
    let steered = steering.service(service);
    if !steered.serves[family as usize] {
        return false;
    }
    let client = Client::of_resolver(IpAddr::from([0, 0, 0, 0]));
    let fences = Fences::default();
    let walk = Walk { steering, standings, latency: None, client: &client, family, fences, scope: 0 };
    let standings = standings.of(service, steered.layout);
    steered.orders.orders.iter().any(|order| {
        let allowed = walk.open(steered, standings, &order.groups, family).any(|one| !one.selection.allowed.is_empty());
        let alive = |family| walk.alive(steered, standings, &order.groups, family).is_some();
        allowed && !alive(family) && !(family == Family::V6 && alive(Family::V4))
    })
}
