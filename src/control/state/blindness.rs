//! A state that goes by what its node sees of the world: whether it does is decided in `sight` (SPEC 2.8).

use std::sync::Arc;

use super::super::journal::{Kind, Record};
use super::super::sight::{Belief, Held};
use super::State;
use crate::fleet::{Family, TargetId};
use crate::health::{Memory, Observation, Outcome, Transition, Verdict};
use crate::time::Tick;

/// What the journal calls it.
const NODE: &str = "node";

impl State {
    /// The change of verdict that an observation comes to, in a world with canaries; its machine made `transition` of it,
    /// and `before` is what was known of its target before.
    pub(super) fn believed(
        &mut self,
        observation: &Observation,
        mut transition: Option<Transition>,
        before: Memory,
        now: Tick,
    ) -> Option<Transition> {
        let at = observation.target.0 as usize;
        let own_family = Family::of(self.world.fleet().target(observation.target).address);
        for family in self.sight.observe(observation, now) {
            if self.sight.is_blind(family) {
                self.go_blind(family, &observation.reason, now);
                continue;
            }
            // What opens the eyes is the first that counts, and no more than that.
            if family == own_family && transition.take().is_some() {
                self.machines[at] = self.machines[at].reverted(before.clone(), now);
            }
            self.see_again(family, now);
        }
        match self.sight.believe(observation, transition, self.verdicts[at], before) {
            Belief::Turn(transition) => Some(transition),
            Belief::Stay => None,
            Belief::Forget(before) => {
                self.machines[at] = self.machines[at].reverted(before, now);
                None
            }
        }
    }

    /// Verdicts of a family are frozen from now on.
    fn go_blind(&mut self, family: Family, reason: &str, now: Tick) {
        let (canaries, targets) = self.sight.shares(family);
        let said = format!(
            "this node sees nothing of the world over {family}: {} of {} canaries fail, and {} of {} targets; verdicts are \
             frozen ({reason})",
            canaries.failing, canaries.of, targets.failing, targets.of
        );
        tracing::error!("{said}");
        self.journal.note(|| Record::said(Kind::Blind, NODE, &said));
        // Answers say so.
        self.is_new = true;
        // Falls that waited for a look at others were not seen in time.
        let world = Arc::clone(&self.world);
        self.take_back_falls(|id| Family::of(world.fleet().target(id).address) == family, now);
        self.note_held();
        self.weigh_all(now);
    }

    /// Verdicts of a family are what its targets' checks say again, by what is seen from now on.
    fn see_again(&mut self, family: Family, now: Tick) {
        self.forget_unseen(Some(family), now);
        let world = Arc::clone(&self.world);
        for (id, target) in (0..).map(TargetId).zip(&world.fleet().targets) {
            if Family::of(target.address) != family || world.owners_of(id).next().is_none() {
                continue;
            }
            let machine = &mut self.machines[id.0 as usize];
            *machine = std::mem::take(machine).adopt();
            // The operator's freeze may have ended meanwhile.
            if !self.is_frozen(id) && !self.is_distrusted(id) {
                self.go_by_machine(id, now);
            }
        }
        self.say_seen(family);
        self.note_held();
        self.weigh_all(now);
    }

    /// Has the canaries probed at once when a target may fall by its next failure: that the world was seen since its first
    /// is then known in time.
    pub(super) fn look_around(&self, observation: &Observation) {
        let target = self.world.fleet().target(observation.target);
        let (machine, policy) =
            (&self.machines[observation.target.0 as usize], &self.world.checks[target.check.0 as usize].policy);
        let may_fall = machine.verdict() == Verdict::Up && machine.running_failures() + 1 == policy.fall;
        if observation.outcome == Outcome::Fail && may_fall {
            self.world.fleet().canaries.iter().for_each(|&canary| self.prober.hasten(canary));
        }
    }

    /// Whether this node sees nothing over the family of a target.
    pub(super) fn is_unseen(&self, id: TargetId) -> bool {
        self.sight.is_blind(Family::of(self.world.fleet().target(id).address))
    }

    fn say_seen(&mut self, family: Family) {
        self.is_new = true;
        let said = format!("this node sees the world over {family} again; verdicts change by what is seen from now on");
        tracing::error!("{said}");
        self.journal.note(|| Record::said(Kind::Blind, NODE, &said));
    }

    /// Targets whose turns are held are as they were before, in one family or in both.
    pub(super) fn forget_unseen(&mut self, of: Option<Family>, now: Tick) {
        for (id, Held { before, .. }) in self.sight.release(of) {
            let machine = &mut self.machines[id.0 as usize];
            *machine = machine.reverted(before, now);
        }
    }

    /// Whether the verdict of a target is held because its check or this node's sight is not trusted.
    pub(super) fn is_distrusted(&self, id: TargetId) -> bool {
        self.doubts.hold(self.world.fleet().target(id).check) || self.sight.holds(id)
    }

    /// Says so when this node cannot look at most of its targets; where all canaries fail as well, they say it.
    pub(super) fn look_out(&mut self, observation: &Observation, was_stale: bool) {
        let id = observation.target;
        if self.world.owners_of(id).next().is_none() {
            return;
        }
        let family = Family::of(self.world.fleet().target(id).address);
        let is_stale = observation.outcome == Outcome::NoVerdict;
        let Some((begins, stale)) = self.lookout.observe(family, was_stale, is_stale) else { return };
        let (canaries, _) = self.sight.shares(family);
        if canaries.of > 0 && canaries.failing == canaries.of {
            return;
        }
        let said = match begins {
            true => format!(
                "this node cannot look at {} of {} targets over {family}: their verdicts stay as they are ({})",
                stale.stale, stale.of, observation.reason
            ),
            false => format!("this node can look at most targets over {family} again"),
        };
        tracing::error!("{said}");
        self.journal.note(|| Record::said(Kind::Blind, NODE, &said));
    }

    /// Goes by the canaries of another configuration.
    pub(super) fn follow_sight(&mut self) {
        self.lookout.follow(&self.world, &self.machines);
        let before = self.sight.frozen();
        self.sight.follow(&self.world, &self.machines);
        let after = self.sight.frozen();
        for family in Family::BOTH.into_iter().filter(|&family| before[family as usize] && !after[family as usize]) {
            self.say_seen(family);
        }
    }
}
