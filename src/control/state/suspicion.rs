//! A state that does not believe every check: whether one is suspect is decided in `doubt` (SPEC 2.8).

use std::sync::Arc;
use std::time::Duration;

use super::super::doubt::{Fall, Opinion, opinion};
use super::super::journal::{Kind, Record};
use super::State;
use crate::fleet::{CheckId, TargetId};
use crate::health::{Evidence, Machine, Memory, Outcome, Transition, Verdict};
use crate::probe::{self, Check};
use crate::time::Tick;

/// How much longer than its timeout a probe is waited for.
const PATIENCE: Duration = Duration::from_secs(1);

impl State {
    /// Whether the verdict of a target that changes is held: because its check is not believed, or from now on is not, or
    /// until others of the check were looked at.
    pub(super) fn is_doubted(&mut self, id: TargetId, transition: &Transition, now: Tick) -> bool {
        let check = self.world.fleet().target(id).check;
        if self.doubts.hold(check) {
            return true;
        }
        if (transition.from, transition.to) != (Verdict::Up, Verdict::Down) {
            return false;
        }
        let since = self.machines[id.0 as usize].failing_since();
        let waits_already = self.doubts.waiting_since(check).is_some();
        if !waits_already {
            match opinion(check, since, &self.world, &self.verdicts, &self.machines) {
                Opinion::Works => return false,
                Opinion::Unsure(unseen) => unseen.into_iter().for_each(|other| self.prober.hasten(other)),
                Opinion::FailsEverywhere => {
                    self.suspect(check, &transition.reason, now);
                    return true;
                }
            }
        }
        let Check { kind, policy, .. } = &self.world.checks[check.0 as usize];
        // Who reports by himself cannot be asked.
        let looked = if *kind == probe::Kind::Push { policy.interval } else { policy.timeout };
        let fall = Fall { target: id, transition: transition.clone() };
        self.doubts.wait(check, fall, since, now, looked + PATIENCE);
        true
    }

    /// Asks again what to think of a check of which falls wait, the last time when that `is_over`.
    pub(super) fn ask(&mut self, check: CheckId, is_over: bool, now: Tick) {
        let Some(since) = self.doubts.waiting_since(check) else { return };
        match opinion(check, since, &self.world, &self.verdicts, &self.machines) {
            Opinion::Unsure(unseen) if !is_over => {
                unseen.into_iter().for_each(|other| self.prober.hasten(other));
                self.doubts.asked(check, now);
            }
            Opinion::FailsEverywhere => {
                let falls = self.doubts.take(check);
                let reason = falls.first().map_or_else(|| Arc::from(""), |fall| Arc::clone(&fall.transition.reason));
                self.suspect(check, &reason, now);
            }
            Opinion::Works | Opinion::Unsure(_) => {
                for Fall { target, transition } in self.doubts.take(check) {
                    if !self.is_withheld(target) {
                        self.turn_at_last(target, &transition, now);
                    }
                }
            }
        }
    }

    /// Verdicts of a check are held from now on.
    fn suspect(&mut self, check: CheckId, reason: &str, now: Tick) {
        let world = Arc::clone(&self.world);
        let Check { name, policy, .. } = &world.checks[check.0 as usize];
        let time = self.doubts.begin(check, policy.interval, now);
        let said = format!(
            "all its targets fail at once while other checks pass; their verdicts are held for {time:?} ({reason})"
        );
        tracing::error!("check/{name} is suspect: {said}");
        self.journal.note(|| Record::said(Kind::Suspect, format!("check/{name}"), &said));
        self.note_held();
        self.weigh_all(now);
    }

    /// Verdicts of a check that were held become what its probes say; what passes again by now was never down.
    pub(super) fn believe(&mut self, check: CheckId, now: Tick) {
        let world = Arc::clone(&self.world);
        let mut failed = 0;
        for id in world.targets_of_check(check) {
            let verdict = self.verdicts[id.0 as usize];
            let machine = &self.machines[id.0 as usize];
            if self.is_frozen(id) || self.sight.holds(id) || machine.verdict() == verdict {
                continue;
            }
            let passes = machine.last().is_some_and(|last| last.outcome == Outcome::Pass);
            if self.is_unseen(id) || (verdict == Verdict::Up && passes) {
                self.machines[id.0 as usize] = taken_back(machine, verdict, now);
                continue;
            }
            failed += u32::from(machine.verdict() == Verdict::Down);
            self.go_by_machine(id, now);
        }
        let name = &world.checks[check.0 as usize].name;
        let said = match failed {
            0 => "believed again, nothing fails any more".to_string(),
            _ => format!("{failed} targets still fail, they are taken for down now"),
        };
        tracing::error!("check/{name}: {said}");
        self.journal.note(|| Record::said(Kind::Suspect, format!("check/{name}"), &said));
        self.note_held();
        self.weigh_all(now);
    }

    /// Falls that wait, of targets of which `is` is true, never were.
    pub(super) fn take_back_falls(&mut self, is: impl Fn(TargetId) -> bool, now: Tick) {
        for target in self.doubts.take_if(is) {
            let machine = &mut self.machines[target.0 as usize];
            *machine = taken_back(machine, Verdict::Up, now);
        }
    }

    /// A verdict that was held is what its probes say from now on.
    pub(super) fn go_by_machine(&mut self, id: TargetId, now: Tick) {
        let machine = &self.machines[id.0 as usize];
        let (from, to) = (self.verdicts[id.0 as usize], machine.verdict());
        if from == to {
            return;
        }
        let reason = machine.last().map_or_else(|| Arc::from("as its probes found"), |last| Arc::clone(&last.reason));
        let evidence = if to == Verdict::Down { Evidence::Fall } else { Evidence::Rise };
        self.turn_at_last(id, &Transition { from, to, reason, evidence }, now);
    }
}

/// A target whose fall is not believed: with the verdict that is gone by, and without this time down.
fn taken_back(machine: &Machine, verdict: Verdict, now: Tick) -> Machine {
    let Memory { mut downs, .. } = machine.memory(now);
    if verdict == Verdict::Up && machine.verdict() == Verdict::Down {
        downs.pop();
    }
    machine.reverted(Memory { verdict, since: now, downs, ..Memory::default() }, now)
}
