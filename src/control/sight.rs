//! Whether this node sees the world (SPEC 2.8). A node that was cut off sees everything fail, while clients that reach it
//! by another way would do well with the answers that it gave before. Canaries tell: targets far away that are nobody's
//! instances.
//!
//! ```text
//!            every canary fails, and over half of all targets
//!   seeing ───────────────────────────────────────────────────► blind
//!      ▲                                                          │     verdicts stay as published
//!      └──────────────────────────────────────────────────────────┘
//!            a canary passes, or half of the targets do: evidence for other verdicts begins anew
//! ```
//!
//! Families are judged apart, each by its own canaries; one that has none goes by those of the other. Whoever could not
//! look at a canary, for whatever reason, did not see it.
//!
//! It takes a while until blindness shows, and verdicts must not fall meanwhile: a target is not taken for down before a
//! failure that the world's being seen has preceded, after its first failure. The world was *seen* at the beginning of a
//! probe of a canary that passed, and at the latest time since which half of all targets have passed.
//!
//! ```text
//!   a target's probes      fail            fail          fail ► down
//!   seen                          ✓ (a canary passes, or half of the targets)
//! ```
//! A target that only waits for this and passes was never down.

use std::collections::{BTreeMap, BTreeSet};

use super::World;
use crate::fleet::{Family, TargetId};
use crate::health::{Evidence, Machine, Memory, Observation, Outcome, Transition, Verdict};
use crate::time::Tick;

/// Most times that are remembered when the world was seen.
const MOST_SEEN: usize = 1024;
/// How often it is found out what half of the targets have seen: once for so many parts of them that reported.
const PARTS: usize = 16;

/// What a node knows of its own sight.
#[derive(Debug, Default)]
pub(super) struct Sight {
    /// By `TargetId`; empty without canaries.
    seen: Vec<Seen>,
    /// By family.
    views: [View; 2],
    /// Targets that keep their verdict though their machines say otherwise.
    held: BTreeMap<TargetId, Held>,
}

/// A turn that is not believed, yet or at all.
#[derive(Clone, Debug)]
pub(super) struct Held {
    /// What was known of the target before.
    pub(super) before: Memory,
    /// What its machine said then.
    pub(super) transition: Transition,
}

/// The last observation of a target.
#[derive(Clone, Copy, Debug)]
struct Seen {
    family: Family,
    is_canary: bool,
    /// Some instance uses it.
    is_used: bool,
    outcome: Option<Outcome>,
    /// When its probe began.
    began: Tick,
    /// When the first of the running failures was reported.
    failing_since: Option<Tick>,
}

impl Seen {
    fn fails(&self) -> bool {
        self.outcome.is_some_and(|outcome| outcome != Outcome::Pass)
    }
}

/// What is seen of the world over one address family.
#[derive(Debug, Default)]
struct View {
    canaries: Share,
    targets: Share,
    blind_since: Option<Tick>,
    /// When the world was seen.
    seen_at: BTreeSet<Tick>,
    /// Reports since it was found out what half of the targets have seen.
    reports: usize,
}

/// How many of something fail.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Share {
    pub(super) failing: usize,
    pub(super) of: usize,
}

impl Share {
    fn and(self, other: Share) -> Share {
        Share { failing: self.failing + other.failing, of: self.of + other.of }
    }

    fn is_all(self) -> bool {
        self.of > 0 && self.failing == self.of
    }

    fn is_over_half(self) -> bool {
        self.failing * 2 > self.of
    }

    fn count(&mut self, before: bool, after: bool) {
        self.failing = self.failing + usize::from(after) - usize::from(before);
    }
}

/// What becomes of a turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Belief {
    /// It is believed.
    Turn(Transition),
    /// The verdict stays.
    Stay,
    /// The verdict stays, and what its machine has seen since is to be forgotten.
    Forget(Memory),
}

impl Sight {
    /// Whether there are canaries.
    pub(super) fn has_canaries(&self) -> bool {
        !self.seen.is_empty()
    }

    /// Whether verdicts of a family are frozen.
    pub(super) fn is_blind(&self, family: Family) -> bool {
        self.blind_since(family).is_some()
    }

    /// Since when verdicts of a family are frozen.
    pub(super) fn blind_since(&self, family: Family) -> Option<Tick> {
        self.views[family as usize].blind_since
    }

    /// Whether verdicts are frozen, by family.
    pub(super) fn frozen(&self) -> [bool; 2] {
        Family::BOTH.map(|family| self.is_blind(family))
    }

    /// Whether a target's verdict is held against what its machine says.
    pub(super) fn holds(&self, target: TargetId) -> bool {
        self.held.contains_key(&target)
    }

    /// Whether a target is better looked at soon: a canary while something hangs on it, or a target that waits.
    pub(super) fn is_urgent(&self, target: TargetId) -> bool {
        let Some(seen) = self.seen.get(target.0 as usize) else { return false };
        let is_waited_for = seen.is_canary && (!self.held.is_empty() || self.frozen().contains(&true));
        is_waited_for || (self.holds(target) && !self.is_blind(seen.family))
    }

    /// How many canaries and how many targets of a family fail now; canaries of both where it has none of its own.
    pub(super) fn shares(&self, family: Family) -> (Share, Share) {
        let view = &self.views[family as usize];
        let own = view.canaries;
        let canaries = if own.of > 0 { own } else { self.views[0].canaries.and(self.views[1].canaries) };
        (canaries, view.targets)
    }

    /// Follows another world, whose machines these are. A family that was blind stays so until something is seen, if there
    /// are canaries; held turns are forgotten.
    pub(super) fn follow(&mut self, world: &World, machines: &[Machine]) {
        let blind = self.views.each_ref().map(|view| view.blind_since);
        *self = Sight::default();
        let fleet = world.fleet();
        if fleet.canaries.is_empty() {
            return;
        }
        let canaries: BTreeSet<TargetId> = fleet.canaries.iter().copied().collect();
        let seen = (0..).map(TargetId).zip(&fleet.targets).zip(machines).map(|((id, target), machine)| Seen {
            family: Family::of(target.address),
            is_canary: canaries.contains(&id),
            is_used: world.owners_of(id).next().is_some(),
            outcome: machine.last().map(|last| last.outcome),
            began: machine.last().map_or(Tick::default(), |last| last.at.minus(last.took)),
            failing_since: machine.last().filter(|last| last.outcome == Outcome::Fail).map(|last| last.at),
        });
        self.seen = seen.collect();
        for seen in &self.seen {
            let view = &mut self.views[seen.family as usize];
            let one = Share { failing: usize::from(seen.fails()), of: 1 };
            view.canaries = if seen.is_canary { view.canaries.and(one) } else { view.canaries };
            view.targets = if seen.is_used { view.targets.and(one) } else { view.targets };
        }
        for (view, blind_since) in self.views.iter_mut().zip(blind) {
            view.blind_since = blind_since.filter(|_| view.targets.of > 0);
        }
    }

    /// Takes in what a probe saw; returns the families that are blind from now on, or no longer.
    pub(super) fn observe(&mut self, observation: &Observation, now: Tick) -> Vec<Family> {
        let Some(seen) = self.seen.get_mut(observation.target.0 as usize) else { return Vec::new() };
        let failed_before = seen.fails();
        seen.outcome = Some(observation.outcome);
        seen.began = now.minus(observation.took);
        match observation.outcome {
            Outcome::Pass => seen.failing_since = None,
            Outcome::Fail => seen.failing_since = seen.failing_since.or(Some(now)),
            Outcome::NoVerdict => {}
        }
        let seen = *seen;
        let view = &mut self.views[seen.family as usize];
        if seen.is_used {
            view.targets.count(failed_before, seen.fails());
            view.reports += 1;
        }
        if seen.is_canary {
            view.canaries.count(failed_before, seen.fails());
        }
        if seen.is_canary && !seen.fails() {
            for family in Family::BOTH {
                if family == seen.family || self.views[family as usize].canaries.of == 0 {
                    self.views[family as usize].saw(seen.began);
                }
            }
        }
        self.ask_half(seen.family);
        Family::BOTH.into_iter().filter(|&family| self.judge(family, now)).collect()
    }

    /// Finds out since when half of a family's targets have passed.
    fn ask_half(&mut self, family: Family) {
        let view = &mut self.views[family as usize];
        let half = view.targets.of.div_ceil(2);
        if view.reports * PARTS < view.targets.of || half == 0 {
            return;
        }
        view.reports = 0;
        let is_counted = |seen: &&Seen| seen.is_used && seen.family == family && seen.outcome == Some(Outcome::Pass);
        let mut passed: Vec<Tick> = self.seen.iter().filter(is_counted).map(|seen| seen.began).collect();
        if passed.len() >= half {
            let (_, &mut since, _) = passed.select_nth_unstable_by(half - 1, |a, b| b.cmp(a));
            view.saw(since);
        }
    }

    /// Whether a family has become blind, or is no longer.
    fn judge(&mut self, family: Family, now: Tick) -> bool {
        let (canaries, targets) = self.shares(family);
        let all = |share: fn(&View) -> Share| share(&self.views[0]).and(share(&self.views[1]));
        let sees_nothing = all(|view| view.canaries).is_all() && all(|view| view.targets).is_over_half();
        // The other family's canaries say enough only where over half of all targets fail.
        let has_own = self.views[family as usize].canaries.of > 0;
        let is_blind = targets.of > 0 && canaries.is_all() && ((has_own && targets.is_over_half()) || sees_nothing);
        let view = &mut self.views[family as usize];
        let has_changed = is_blind != view.blind_since.is_some();
        if has_changed {
            view.blind_since = is_blind.then_some(now);
        }
        has_changed
    }

    /// What becomes of the verdict of a target, `judged` so far, whose machine saw `observation` and made this
    /// `transition`, if any; `before` is what was known of it before. To be asked after [`Sight::observe`].
    pub(super) fn believe(
        &mut self,
        observation: &Observation,
        transition: Option<Transition>,
        judged: Verdict,
        before: Memory,
    ) -> Belief {
        let (id, pass) = (observation.target, observation.outcome == Outcome::Pass);
        let as_it_is = transition.clone().map_or(Belief::Stay, Belief::Turn);
        let Some(seen) = self.seen.get(id.0 as usize).copied().filter(|seen| seen.is_used) else { return as_it_is };
        if self.is_blind(seen.family) {
            // What was never known to work and does is no change of a verdict.
            if pass && judged == Verdict::Unknown && !self.holds(id) {
                return as_it_is;
            }
            if let Some(transition) = transition {
                self.held.entry(id).or_insert(Held { before, transition });
            }
            return Belief::Stay;
        }
        // One failure of many, with passes between them, is no sign of a node that was cut off, unless others fail as well.
        let by_window = transition.as_ref().is_some_and(|transition| transition.evidence == Evidence::Window);
        let is_proven = self.is_proven(&seen) || (by_window && !self.shares(seen.family).1.is_over_half());
        match self.held.remove(&id) {
            Some(held) if pass => Belief::Forget(held.before),
            Some(held) if observation.outcome == Outcome::Fail && is_proven => Belief::Turn(held.transition),
            Some(held) => {
                self.held.insert(id, held);
                Belief::Stay
            }
            None => match transition {
                Some(transition) if transition.to == Verdict::Down && !is_proven => {
                    self.held.insert(id, Held { before, transition });
                    Belief::Stay
                }
                _ => as_it_is,
            },
        }
    }

    /// Whether the world was seen between a target's first failure and its last.
    fn is_proven(&self, seen: &Seen) -> bool {
        let Some(since) = seen.failing_since.filter(|&since| since <= seen.began) else { return false };
        self.views[seen.family as usize].seen_at.range(since..=seen.began).next().is_some()
    }

    /// Takes out the turns that are held, of one family or of both.
    pub(super) fn release(&mut self, of: Option<Family>) -> Vec<(TargetId, Held)> {
        let is_of = |id: &TargetId| of.is_none_or(|family| self.seen[id.0 as usize].family == family);
        let released: Vec<(TargetId, Held)> = self.held.extract_if(.., |id, _| is_of(id)).collect();
        released
    }
}

impl View {
    fn saw(&mut self, at: Tick) {
        self.seen_at.insert(at);
        if self.seen_at.len() > MOST_SEEN {
            self.seen_at.pop_first();
        }
    }
}
