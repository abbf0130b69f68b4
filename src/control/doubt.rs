//! Checks that are not believed for a while (SPEC 2.8): when all that a check looks at fails at once while other checks
//! pass, it is likelier that the check is wrong (edited, its page removed, its certificate expired) than that instances in
//! several regions died together. Their verdicts are held for two intervals; what still fails then is applied.
//! Probes are spread over an interval, so the first target may fall before the others were looked at: then they are, at
//! once, and its fall waits for what is found.
//!
//! ```text
//!   believed ── all its up targets fail, other checks pass ──► held ── 2 × interval ──► believed
//!                                          (verdicts stay as they were)      (verdicts as its probes say)
//! ```

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use super::World;
use crate::fleet::{CheckId, Target, TargetId};
use crate::health::{Machine, Transition, Verdict};
use crate::time::Tick;

/// Fewer targets say nothing about the check.
const LEAST_TARGETS: usize = 3;
/// Neither do targets in fewer regions.
const LEAST_REGIONS: usize = 2;
/// How many intervals verdicts are held.
const INTERVALS: u32 = 2;

/// What is known of a check when one of its targets falls.
pub(super) enum Opinion {
    /// Something that it looks at passes, or there is too little of it to say.
    Works,
    /// All that was up fails, in several regions, while something else passes.
    FailsEverywhere,
    /// Nothing passed since the target began to fail, but some were not looked at since: one of each region.
    Unsure(Vec<TargetId>),
}

/// The checks that are held now, and targets whose fall waits for what others of their check are found to do.
#[derive(Debug, Default)]
pub(super) struct Doubts {
    until: HashMap<CheckId, Tick>,
    waiting: HashMap<CheckId, Vec<Waiting>>,
}

/// A fall that is not published yet.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) target: TargetId,
    pub(super) transition: Transition,
    /// When it is published in any case.
    pub(super) until: Tick,
}

impl Doubts {
    /// Whether verdicts of a check are held.
    pub(super) fn hold(&self, check: CheckId) -> bool {
        self.until.contains_key(&check)
    }

    /// The checks that are held, each with the time when that ends.
    pub(super) fn held(&self) -> impl Iterator<Item = (CheckId, Tick)> {
        self.until.iter().map(|(check, until)| (*check, *until))
    }

    /// Holds a check, and with it the falls that wait; how long that is.
    pub(super) fn begin(&mut self, check: CheckId, interval: Duration, now: Tick) -> Duration {
        let time = interval * INTERVALS;
        self.until.insert(check, now.plus(time));
        self.waiting.remove(&check);
        time
    }

    /// Has the fall of a target wait until others of its check were looked at, which takes a probe.
    pub(super) fn wait(&mut self, check: CheckId, fall: Waiting) {
        self.waiting.entry(check).or_default().push(fall);
    }

    /// Takes out the falls of a check that wait.
    pub(super) fn waiting(&mut self, check: CheckId) -> Vec<Waiting> {
        self.waiting.remove(&check).unwrap_or_default()
    }

    /// Takes out all falls that wait.
    pub(super) fn drain_waiting(&mut self) -> Vec<Waiting> {
        std::mem::take(&mut self.waiting).into_values().flatten().collect()
    }

    /// Whether the fall of a target waits.
    pub(super) fn waits(&self, check: CheckId, target: TargetId) -> bool {
        self.waiting.get(&check).is_some_and(|waiting| waiting.iter().any(|one| one.target == target))
    }

    /// When the next of anything ends.
    pub(super) fn next(&self) -> Option<Tick> {
        let waiting = self.waiting.values().flatten().map(|one| one.until);
        self.until.values().copied().chain(waiting).min()
    }

    /// Takes out a check that is held no longer.
    pub(super) fn pop(&mut self, now: Tick) -> Option<CheckId> {
        let ended = self.held().find(|(_, until)| *until <= now).map(|(check, _)| check)?;
        self.until.remove(&ended);
        Some(ended)
    }

    /// Takes out a fall that has waited long enough.
    pub(super) fn pop_waiting(&mut self, now: Tick) -> Option<Waiting> {
        let of_check = self.waiting.values_mut().find(|waiting| waiting.iter().any(|one| one.until <= now))?;
        let at = of_check.iter().position(|one| one.until <= now)?;
        Some(of_check.swap_remove(at))
    }

    /// The same checks under the numbers that they have in the world `after`; those that are gone are not held. Falls that
    /// wait are dropped.
    pub(super) fn renumber(&mut self, before: &World, after: &World) {
        let name = |check: CheckId| &before.checks[check.0 as usize].name;
        let number = |name: &str| after.checks.iter().position(|check| check.name == name);
        let held = self.held().filter_map(|(check, until)| Some((CheckId(number(name(check))? as u32), until)));
        self.until = held.collect();
        self.waiting.clear();
    }
}

/// What to think of a check of which a target falls that began to fail at `since`.
pub(super) fn opinion(
    check: CheckId,
    since: Tick,
    world: &World,
    verdicts: &[Verdict],
    machines: &[Machine],
) -> Opinion {
    let fleet = world.fleet();
    let fails = |id: TargetId| {
        let machine = &machines[id.0 as usize];
        machine.verdict() == Verdict::Down || machine.running_failures() > 0
    };
    let is_up = |id: &TargetId| verdicts[id.0 as usize] == Verdict::Up;
    let up = || world.targets_of_check(check).filter(is_up);
    if up().nth(LEAST_TARGETS - 1).is_none() {
        return Opinion::Works;
    }
    let seen_since = |id: TargetId| machines[id.0 as usize].last().is_some_and(|last| last.at >= since);
    if up().any(|id| !fails(id) && seen_since(id)) {
        return Opinion::Works;
    }
    let passes = |(id, target): (u32, &Target)| target.check != check && is_up(&TargetId(id)) && !fails(TargetId(id));
    let regions_of = |id: TargetId| world.owners_of(id).flat_map(|owner| fleet.instance(owner).regions.iter().copied());
    let regions: BTreeSet<_> = up().flat_map(regions_of).collect();
    if regions.len() < LEAST_REGIONS || !(0..).zip(&fleet.targets).any(passes) {
        return Opinion::Works;
    }
    let mut unseen = BTreeMap::new();
    for id in up().filter(|&id| !fails(id)) {
        unseen.extend(regions_of(id).map(|region| (region, id)));
    }
    if unseen.is_empty() { Opinion::FailsEverywhere } else { Opinion::Unsure(unseen.into_values().collect()) }
}
