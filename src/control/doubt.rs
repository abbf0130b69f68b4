//! Checks that are not believed for a while (SPEC 2.8): when all that a check looks at fails at once while other checks
//! pass, it is likelier that the check is wrong (edited, its page removed, its certificate expired) than that instances in
//! several regions died together. Their verdicts are held for two intervals; what still fails then is applied.
//!
//! ```text
//!   believed ── all its up targets fail, other checks pass ──► held ── 2 × interval ──► believed
//!                                          (verdicts stay as they were)      (verdicts as its probes say)
//! ```

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use super::World;
use crate::fleet::{CheckId, Target, TargetId};
use crate::health::{Machine, Verdict};
use crate::time::Tick;

/// Fewer targets say nothing about the check.
const LEAST_TARGETS: usize = 3;
/// Neither do targets in fewer regions.
const LEAST_REGIONS: usize = 2;
/// How many intervals verdicts are held.
const INTERVALS: u32 = 2;

/// The checks that are held now.
#[derive(Debug, Default)]
pub(super) struct Doubts {
    until: HashMap<CheckId, Tick>,
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

    /// Holds a check; how long that is.
    pub(super) fn begin(&mut self, check: CheckId, interval: Duration, now: Tick) -> Duration {
        let time = interval * INTERVALS;
        self.until.insert(check, now.plus(time));
        time
    }

    /// When the next ends.
    pub(super) fn next(&self) -> Option<Tick> {
        self.until.values().min().copied()
    }

    /// Takes out one that has ended.
    pub(super) fn pop(&mut self, now: Tick) -> Option<CheckId> {
        let ended = self.held().find(|(_, until)| *until <= now).map(|(check, _)| check)?;
        self.until.remove(&ended);
        Some(ended)
    }

    /// The same checks under the numbers that they have in the world `after`; those that are gone are not held.
    pub(super) fn renumber(&mut self, before: &World, after: &World) {
        let name = |check: CheckId| &before.checks[check.0 as usize].name;
        let number = |name: &str| after.checks.iter().position(|check| check.name == name);
        let held = self.held().filter_map(|(check, until)| Some((CheckId(number(name(check))? as u32), until)));
        self.until = held.collect();
    }
}

/// Whether everything that is up by `check` fails now, in several regions, while something else passes.
pub(super) fn fails_everywhere(check: CheckId, world: &World, verdicts: &[Verdict], machines: &[Machine]) -> bool {
    let fleet = world.fleet();
    let fails = |id: TargetId| {
        let machine = &machines[id.0 as usize];
        machine.verdict() == Verdict::Down || machine.running_failures() > 0
    };
    let is_up = |id: &TargetId| verdicts[id.0 as usize] == Verdict::Up;
    let up = || world.targets_of_check(check).filter(is_up);
    let others = fleet.targets.len() - world.targets_of_check(check).count();
    if others == 0 || !up().all(fails) || up().count() < LEAST_TARGETS {
        return false;
    }
    let regions: BTreeSet<_> = up()
        .flat_map(|id| world.owners_of(id))
        .flat_map(|instance| fleet.instance(instance).regions.iter().copied())
        .collect();
    let passes = |(id, target): (u32, &Target)| target.check != check && is_up(&TargetId(id)) && !fails(TargetId(id));
    regions.len() >= LEAST_REGIONS && (0..).zip(&fleet.targets).any(passes)
}
