//! Reports of load on their way in (SPEC 5.4, 8.5): whose they are, and which layouts they touch. When they count is
//! `control/loads.rs`'.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::super::desk::{Refusal, RefusalCode};
use super::super::journal::{Kind, Record};
use super::super::loads::{MOST_LOAD, Touched};
use super::State;
use crate::fleet::{InstanceId, TargetId};
use crate::health::load;
use crate::probe::Heard;
use crate::time::Tick;

/// Most refusals that an answer names.
const MOST_NAMED: usize = 20;

/// Reports of several instances.
#[derive(Debug)]
pub struct LoadReports {
    /// Each with its load, in the unit of the instance's capacity.
    pub reports: Vec<LoadReport>,
    /// Where the answer goes.
    pub reply: oneshot::Sender<Result<LoadsTaken, Refusal>>,
}

/// A report of one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoadReport {
    /// `instance/web/eu-1`.
    pub target: String,
    /// 0 or more.
    pub load: f64,
}

/// What became of reports.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadsTaken {
    /// So many were taken in.
    pub taken: usize,
    /// Why others were not, the first of them.
    pub refused: Vec<String>,
}

impl State {
    /// Takes reports in; one that is wrong keeps no other out. Refused as a whole only when none was taken.
    pub(super) fn take_loads(&mut self, reports: LoadReports, now: Tick) {
        let LoadReports { reports, reply } = reports;
        let mut answer = LoadsTaken::default();
        let mut first = None;
        for LoadReport { target, load } in reports {
            match self.take_load(&target, load, now) {
                Ok(()) => answer.taken += 1,
                Err(refusal) => {
                    if answer.refused.len() < MOST_NAMED {
                        answer.refused.push(refusal.error.clone());
                    }
                    first.get_or_insert(refusal);
                }
            }
        }
        // Whoever reported may be gone.
        let _ = reply.send(match first {
            Some(refusal) if answer.taken == 0 => Err(refusal),
            _ => Ok(answer),
        });
    }

    fn take_load(&mut self, target: &str, load: f64, now: Tick) -> Result<(), Refusal> {
        let id = self.named_instance(target)?;
        if !(0.0..=MOST_LOAD).contains(&load) {
            let error = format!("{load} is no load of {target}");
            return Err(Refusal::new(RefusalCode::Wrong, error, Some("a number from 0 to 1000000000000")));
        }
        let touched = self.loads.say(self.world.fleet(), id, load, now);
        self.touch_by_load(id, touched);
        Ok(())
    }

    /// Takes in what a probe heard beside its target's health.
    pub(super) fn hear(&mut self, target: TargetId, heard: Heard, now: Tick) {
        if heard == Heard::Nothing {
            return;
        }
        let world = Arc::clone(&self.world);
        let before = |state: &State, id| load::of(state.loads.reported(), id).percent;
        let drained: Vec<(InstanceId, bool)> = world.owners_of(target).map(|id| (id, before(self, id) == 0)).collect();
        for (id, touched) in self.loads.hear(world.fleet(), world.owners_of(target), target, heard, now) {
            self.touch_by_load(id, touched);
        }
        for (id, was) in drained {
            let is = before(self, id) == 0;
            if is != was {
                self.tell_of_agent(id, is, now);
            }
        }
    }

    /// One line when an agent drains its instance, and when it does so no more.
    fn tell_of_agent(&mut self, id: InstanceId, drains: bool, now: Tick) {
        let who = format!("instance/{}", self.world.fleet().instance_path(id));
        let said = if drains { "drained by its agent" } else { "no longer drained by its agent" };
        self.journal.note(|| Record::said(Kind::Agent, &*who, said));
        if self.burst.allows(now) {
            tracing::info!("{who}: {said}");
        }
    }

    /// Layouts that go by the load of an instance are judged at the next publish.
    fn touch_by_load(&mut self, id: InstanceId, touched: Touched) {
        if !touched.any() {
            return;
        }
        let pool = self.world.fleet().instance(id).pool;
        let heeds = |layout: &crate::steering::LayoutId| {
            let of = self.world.steering.layout(*layout);
            touched.part || of.by_load || of.spill.is_some()
        };
        self.touched.extend(self.world.layouts_of_pool(pool).filter(heeds));
    }

    /// Looks at those again whose reports have become too old, or who are no longer new.
    pub(super) fn take_due_loads(&mut self, now: Tick) {
        let world = Arc::clone(&self.world);
        while let Some((id, touched)) = self.loads.pop(world.fleet(), now) {
            self.touch_by_load(id, touched);
        }
    }

    /// All layouts that may go by something reported, after a reload.
    pub(super) fn touch_loaded(&mut self) {
        let known: Vec<InstanceId> = self.loads.instances().collect();
        for id in known {
            self.touch_by_load(id, Touched { ratio: true, part: true });
        }
    }
}
