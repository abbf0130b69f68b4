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
/// How often it is asked what to think of a check, while its targets report failures.
const ASKED_EVERY: Duration = Duration::from_millis(50);

/// What is known of a check when one of its targets falls.
pub(super) enum Opinion {
    /// Something that it looks at passes, or there is too little of it to say.
    Works,
    /// All that was up fails, in several regions, while something else passes.
    FailsEverywhere,
    /// Nothing passed since the target began to fail, but some were not looked at since: one of each region.
    Unsure(Vec<TargetId>),
}

/// The checks that are held now, and those of which falls wait for what other targets are found to do.
#[derive(Debug, Default)]
pub(super) struct Doubts {
    until: HashMap<CheckId, Tick>,
    waiting: HashMap<CheckId, Waiting>,
}

/// Falls of a check that are not published yet.
#[derive(Debug)]
struct Waiting {
    falls: Vec<Fall>,
    /// When the first of them began to fail.
    since: Tick,
    /// When it was last asked what to think of the check.
    asked_at: Tick,
    /// When they are published in any case.
    until: Tick,
}

/// A fall that waits.
#[derive(Debug)]
pub(super) struct Fall {
    pub(super) target: TargetId,
    pub(super) transition: Transition,
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

    /// Has a fall wait, with others of its check or as the first.
    pub(super) fn wait(&mut self, check: CheckId, fall: Fall, since: Tick, now: Tick, patience: Duration) {
        let first = || Waiting { falls: Vec::new(), since, asked_at: now, until: now.plus(patience) };
        self.waiting.entry(check).or_insert_with(first).falls.push(fall);
    }

    /// When the first of the falls that wait began; `None` when none of the check waits.
    pub(super) fn waiting_since(&self, check: CheckId) -> Option<Tick> {
        self.waiting.get(&check).map(|waiting| waiting.since)
    }

    /// Whether it is time to ask again what to think of a check of which falls wait.
    pub(super) fn asks_again(&self, check: CheckId, passed: bool, now: Tick) -> bool {
        self.waiting.get(&check).is_some_and(|waiting| passed || now.since(waiting.asked_at) >= ASKED_EVERY)
    }

    /// It was asked, without an answer.
    pub(super) fn asked(&mut self, check: CheckId, now: Tick) {
        self.waiting.entry(check).and_modify(|waiting| waiting.asked_at = now);
    }

    /// Takes out the falls of a check that wait.
    pub(super) fn take(&mut self, check: CheckId) -> Vec<Fall> {
        self.waiting.remove(&check).map_or_else(Vec::new, |waiting| waiting.falls)
    }

    /// Takes out the falls that wait of the targets of which `is` is true; these targets.
    pub(super) fn take_if(&mut self, is: impl Fn(TargetId) -> bool) -> Vec<TargetId> {
        let falls = self.waiting.values_mut().flat_map(|waiting| waiting.falls.extract_if(.., |fall| is(fall.target)));
        let targets = falls.map(|fall| fall.target).collect();
        self.waiting.retain(|_, waiting| !waiting.falls.is_empty());
        targets
    }

    /// Whether the fall of a target waits.
    pub(super) fn waits(&self, check: CheckId, target: TargetId) -> bool {
        self.waiting.get(&check).is_some_and(|waiting| waiting.falls.iter().any(|fall| fall.target == target))
    }

    /// When the next of anything ends.
    pub(super) fn next(&self) -> Option<Tick> {
        let waiting = self.waiting.values().map(|waiting| waiting.until);
        self.until.values().copied().chain(waiting).min()
    }

    /// Takes out a check that is held no longer.
    pub(super) fn pop(&mut self, now: Tick) -> Option<CheckId> {
        let ended = self.held().find(|(_, until)| *until <= now).map(|(check, _)| check)?;
        self.until.remove(&ended);
        Some(ended)
    }

    /// A check of which falls have waited long enough.
    pub(super) fn overdue(&self, now: Tick) -> Option<CheckId> {
        self.waiting.iter().find(|(_, waiting)| waiting.until <= now).map(|(check, _)| *check)
    }

    /// The same checks under the numbers that they have in the world `after`; those that are gone are not held. No fall
    /// may wait.
    pub(super) fn renumber(&mut self, before: &World, after: &World) {
        let name = |check: CheckId| &before.checks[check.0 as usize].name;
        let number = |name: &str| after.checks.iter().position(|check| check.name == name);
        let held = self.held().filter_map(|(check, until)| Some((CheckId(number(name(check))? as u32), until)));
        self.until = held.collect();
        debug_assert!(self.waiting.is_empty());
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
