//! Reports of load on their way in (SPEC 5.4, 8.5): whose they are, and which layouts they touch. When they count is
//! `control/loads.rs`'.

use std::collections::HashMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::super::desk::{Refusal, RefusalCode};
use super::super::journal::{Kind, Record};
use super::super::loads::{MOST_LOAD, Touched};
use super::super::world::World;
use super::State;
use super::pushes::{named_pool, unknown};
use crate::fleet::{InstanceId, PoolId, TargetId};
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
        let world = Arc::clone(&self.world);
        let mut members = Members::new(&world);
        let mut answer = LoadsTaken::default();
        let mut first = None;
        for LoadReport { target, load } in &reports {
            // One alone is found sooner than all are noted.
            let named = if reports.len() == 1 { self.named_instance(target) } else { members.named(target) };
            let taken = named.and_then(|id| self.take_load(target, id, *load, now));
            let Err(refusal) = taken else {
                answer.taken += 1;
                continue;
            };
            if answer.refused.len() < MOST_NAMED {
                answer.refused.push(refusal.error.clone());
            }
            first.get_or_insert(refusal);
        }
        // Whoever reported may be gone.
        let _ = reply.send(match first {
            Some(refusal) if answer.taken == 0 => Err(refusal),
            _ => Ok(answer),
        });
    }

    fn take_load(&mut self, target: &str, id: InstanceId, load: f64, now: Tick) -> Result<(), Refusal> {
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

/// Instances by name, of the pools that the reports of one request name: each is gone through once.
struct Members<'w> {
    world: &'w World,
    pools: HashMap<PoolId, HashMap<&'w str, InstanceId>>,
}

impl<'w> Members<'w> {
    fn new(world: &'w World) -> Members<'w> {
        Members { world, pools: HashMap::new() }
    }

    fn named(&mut self, target: &str) -> Result<InstanceId, Refusal> {
        let (pool, name) = named_pool(self.world, target)?;
        let fleet = self.world.fleet();
        let named = || fleet.pool(pool).instances.iter().map(|&id| (&*fleet.instance(id).name, id)).collect();
        let members: &HashMap<&str, InstanceId> = self.pools.entry(pool).or_insert_with(named);
        members.get(name).copied().ok_or_else(|| unknown(target))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::tests::{CONFIG, Fixture};
    use super::*;
    use crate::fleet::Family;
    use crate::health::{Observation, Outcome};
    use crate::probe::Report;
    use crate::steering::LayoutId;

    /// Service one of the fixture by load; `a1` has a `max-load`.
    fn config() -> String {
        CONFIG
            .replace("order = [\"a\", \"b\"]\n", "order = [\"a\", \"b\"]\n        balance = \"least-load\"\n")
            .replace("\"192.0.2.1\" }", "\"192.0.2.1\", max-load = 90 }")
    }

    fn report(fixture: &mut Fixture, reports: &[(&str, f64)]) -> Result<LoadsTaken, Refusal> {
        let (reply, mut answer) = oneshot::channel();
        let one = |&(target, load): &(&str, f64)| LoadReport { target: target.into(), load };
        let reports = LoadReports { reports: reports.iter().map(one).collect(), reply };
        fixture.state.take_loads(reports, Tick(fixture.now));
        answer.try_recv().expect("an answer")
    }

    fn take(fixture: &mut Fixture, name: &str, load: f64) {
        assert_eq!(report(fixture, &[(name, load)]).expect("taken").taken, 1);
    }

    fn publish(fixture: &mut Fixture) -> bool {
        let is_dirty = fixture.state.is_dirty();
        if is_dirty {
            fixture.state.publish(Tick(fixture.now));
        }
        is_dirty
    }

    /// Loads of those eligible in the first region of service one.
    fn loads(fixture: &Fixture) -> Vec<u16> {
        let snapshot = fixture.published.load();
        let selection = snapshot.standings.get(LayoutId(0)).get(0, Family::V4).expect("a selection").clone();
        selection.eligible.entries.iter().map(|entry| entry.load).collect()
    }

    fn up(config: &str) -> Fixture {
        let mut fixture = Fixture::of(config);
        (0..5).for_each(|target| fixture.observe(target, "p"));
        publish(&mut fixture);
        fixture
    }

    #[tokio::test]
    async fn reports_are_served_where_somebody_goes_by_them() {
        let mut fixture = up(&config());
        take(&mut fixture, "instance/one/a1", 30.0);
        take(&mut fixture, "instance/one/a2", 60.0);
        assert!(publish(&mut fixture));
        assert_eq!(loads(&fixture), [30, 60]);
        take(&mut fixture, "instance/one/a1", 30.5);
        assert!(!publish(&mut fixture), "that is not material");
        take(&mut fixture, "instance/two/c1", 60.0);
        assert!(!publish(&mut fixture), "nobody goes by it");
        take(&mut fixture, "instance/one/a1", 90.0);
        assert!(publish(&mut fixture));
        assert_eq!(loads(&fixture), [0], "a1 is at its most, and a2 is alone");
        // Both are too old in three minutes; the state looks by itself.
        fixture.now += 180_001;
        assert_eq!(fixture.state.judging_due(Tick(fixture.now)), Some(Duration::ZERO));
        fixture.state.take_due(Tick(fixture.now));
        assert!(publish(&mut fixture));
        assert_eq!(loads(&fixture), [0, 0]);
    }

    #[tokio::test]
    async fn one_that_is_wrong_keeps_no_other_out() {
        let mut fixture = up(&config());
        let all = [("instance/one/a1", 1.0), ("instance/one/a9", 1.0), ("one", 1.0), ("instance/one/a2", -1.0)];
        let taken = report(&mut fixture, &all).expect("one is taken");
        let refused = [
            "there is no instance/one/a9",
            "\"one\" is not the name of an instance",
            "-1 is no load of instance/one/a2",
        ];
        assert_eq!((taken.taken, taken.refused), (1, refused.map(String::from).to_vec()));
        assert_eq!(report(&mut fixture, &all[1..]).expect_err("none").code, RefusalCode::NotFound);
        for load in [f64::NAN, f64::INFINITY, 2e12] {
            assert_eq!(report(&mut fixture, &[("instance/one/a1", load)]).expect_err("none").code, RefusalCode::Wrong);
        }
        let many: Vec<(&str, f64)> = (0..100).map(|_| ("instance/no/a", 1.0)).chain([all[0]]).collect();
        assert_eq!(report(&mut fixture, &many).expect("one is taken").refused.len(), MOST_NAMED);
        assert_eq!(report(&mut fixture, &[]).expect("nothing is wrong"), LoadsTaken::default());
    }

    #[tokio::test]
    async fn reports_outlive_a_reload() {
        let mut fixture = up(&config());
        take(&mut fixture, "instance/one/a1", 30.0);
        take(&mut fixture, "instance/one/a2", 60.0);
        publish(&mut fixture);
        let more = config().replace("a1 = {", "a0 = { region = \"a\", address = \"192.0.2.9\" }\n        a1 = {");
        let now = Tick(fixture.now);
        fixture.reload(&more, now);
        assert_eq!(loads(&fixture), [30, 60], "a0 is unknown yet");
        // Where nothing is checked, too.
        fixture.reload(&config().replace("check = \"tcp\"", ""), now);
        assert_eq!(loads(&fixture), [30, 60]);
    }

    /// Who is drained by its agent is out, and back when that says so; its weight is what its agent says.
    #[tokio::test]
    async fn agents_decide_over_their_instances() {
        let mut fixture = up(&CONFIG.replace("type = \"tcp\"", "type = \"agent\""));
        let mut hear = |part, load| {
            let observation =
                Observation { target: TargetId(0), outcome: Outcome::Pass, reason: "x".into(), took: Duration::ZERO };
            let report = Report::hearing(&observation, Heard::Agent { part, load }).0;
            fixture.state.report(report, Tick(fixture.now));
            let is_dirty = publish(&mut fixture);
            let snapshot = fixture.published.load();
            let selection = snapshot.standings.get(LayoutId(0)).get(0, Family::V4).expect("a selection").clone();
            let weights: Vec<u32> = selection.eligible.entries.iter().map(|entry| entry.weight).collect();
            (is_dirty, weights, selection.allowed.weight, selection.available)
        };
        assert_eq!(hear(100, Some(0)), (false, vec![1, 1], 2, true), "nobody goes by load here");
        assert_eq!(hear(50, Some(50)), (true, vec![1, 2], 3, true));
        assert_eq!(hear(0, None), (true, vec![1], 1, true), "it is not counted");
        assert_eq!(hear(0, None), (false, vec![1], 1, true));
        assert_eq!(hear(100, None), (true, vec![1, 1], 2, true));
    }
}
