//! Regions that stay out of a service until they are resumed (`failback = "manual"`, SPEC 3.5): noted where they are
//! latched, found again after a restart, resumed by order. When they are latched is decided in `health::presence`; they
//! are written with the overrides, by `desk`.

use super::super::desk::{Refusal, RefusalCode};
use super::super::journal::Record;
use super::super::latches::Latches;
use super::State;
use crate::fleet::{Family, TargetId};
use crate::health::Presence;
use crate::health::group::Before;
use crate::steering::selection::Selection;
use crate::steering::{LayoutId, Standings};
use crate::time::Tick;

impl State {
    /// Notes which regions of a layout are latched from now on, and which are no longer.
    pub(super) fn note_latches(&mut self, id: LayoutId, judged: &Standings) {
        let Some(service) = self.world.latching(id) else { return };
        let layout = self.world.steering.layout(id);
        for (at, group) in layout.groups.iter().enumerate() {
            for family in Family::BOTH {
                let Some(selection) = judged.get(at, family) else { continue };
                let region = group.label(self.world.fleet());
                let is = selection.presence == Presence::Latched;
                if self.desk.latch(service, &region, family, is) {
                    let why = if is { "lost, and `failback` is manual" } else { "in use again" };
                    self.journal.note(|| Record::latch(service, &region, family, is, why));
                    if is {
                        tracing::warn!(
                            "service/{service}: region/{region} ({family}) was lost and stays out until `waymark resume \
                             {service} {region}`"
                        );
                    }
                }
            }
        }
    }

    /// Latches what was latched before the start, and forgets what can be latched no more.
    pub(super) fn latch_again(&mut self, now: Tick) {
        let latches = self.desk.latches().clone();
        latches.iter().for_each(|latch| {
            tracing::warn!(
                "service/{}: region/{} ({}) is latched out since before the start",
                latch.service,
                latch.region,
                latch.family()
            );
        });
        self.judge_latched(&latches, now, |_| Presence::Latched);
        self.forget_latches();
    }

    /// Judges the layouts of these latches with another presence of their groups.
    fn judge_latched(&mut self, latches: &Latches, now: Tick, presence: impl Fn(&Selection) -> Presence) {
        if latches.is_empty() {
            return;
        }
        let world = std::sync::Arc::clone(&self.world);
        for id in (0..world.steering.layouts.len() as u32).map(LayoutId) {
            let Some(service) = world.latching(id) else { continue };
            let layout = world.steering.layout(id);
            let of =
                |at: usize, family| latches.since(service, &layout.groups[at].label(world.fleet()), family).is_some();
            let concerns = |at| Family::BOTH.into_iter().any(|family| of(at, family));
            if !(0..layout.groups.len()).any(concerns) {
                continue;
            }
            let before = self.standings.get(id).clone();
            let judged = world.judge_after(id, self.health_of(id, now), |at, family| {
                let Some(selection) = before.get(at, family) else { return (None, None) };
                let known = selection.before();
                let presence = if of(at, family) { presence(selection) } else { known.presence };
                (Some(Before { presence, ..known }), Some(selection))
            });
            self.stand(id, judged, now);
            self.touched.insert(id);
        }
    }

    /// The latches that a service and a region name.
    pub(super) fn lifted(&self, service: &str, region: &str) -> Result<Latches, Refusal> {
        let plain = |name: &str, kind: &str| name.strip_prefix(kind).unwrap_or(name).to_owned();
        let service = plain(service, "service/").trim_end_matches('.').to_ascii_lowercase();
        let region = plain(region, "region/");
        let lifted = self.desk.latches().named(&service, &region);
        if !lifted.is_empty() {
            return Ok(lifted);
        }
        let error = format!("region/{region} is not latched out of service/{service}");
        Err(Refusal::new(RefusalCode::NotFound, error, Some("see `waymark status` for what is")))
    }

    /// Has these regions serve again: their clients return at once, by `region-ramp`.
    pub(super) fn resume(&mut self, lifted: &Latches, now: Tick) {
        self.desk.lift(lifted);
        for latch in lifted.iter() {
            self.journal.note(|| Record::latch(&latch.service, &latch.region, latch.family(), false, "resumed"));
        }
        self.judge_latched(lifted, now, |selection| selection.presence.resumed(selection.available, now));
    }

    /// Forgets the latches of what is there no more, or returns by itself from now on.
    pub(super) fn forget_latches(&mut self) {
        let world = std::sync::Arc::clone(&self.world);
        let mut held = Latches::default();
        for id in (0..world.steering.layouts.len() as u32).map(LayoutId).filter(|_| !self.desk.latches().is_empty()) {
            let Some(service) = world.latching(id) else { continue };
            for (at, group) in world.steering.layout(id).groups.iter().enumerate() {
                for family in Family::BOTH {
                    let selection = self.standings.get(id).get(at, family);
                    if selection.is_some_and(|selection| selection.presence == Presence::Latched) {
                        held.add(service, &group.label(world.fleet()), family, 0);
                    }
                }
            }
        }
        let gone = self.desk.retain_latches(|service, region, family| held.since(service, region, family).is_some());
        for latch in gone.iter() {
            let (service, region) = (&latch.service, &latch.region);
            tracing::warn!("service/{service}: region/{region} is latched out no more: the configuration changed");
            self.journal.note(|| Record::latch(service, region, latch.family(), false, "the configuration changed"));
        }
    }

    /// Notes whose verdicts are held: by a freeze, as their check is not believed, as this node sees nothing.
    pub(super) fn note_held(&mut self) {
        let is_any = !self.frozen.is_empty() || self.doubts.next().is_some() || self.sight.frozen().contains(&true);
        let targets = (0..self.world.fleet().targets.len() as u32).map(TargetId);
        self.held = if is_any { targets.map(|id| self.is_withheld(id)).collect() } else { Vec::new() };
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{CONFIG, Fixture};
    use super::*;
    use crate::control::{Store, What};
    use crate::health::presence::ALL;
    use crate::steering::ServiceId;

    /// Two services over the pool `one`, whose regions a and b latch; targets are numbered a1 a2 b1 b2 c1.
    fn manual() -> String {
        let latching = CONFIG.replace("[pools.one.instances]", "failback = \"manual\"\n[pools.one.instances]");
        let another = "[services.\"also.example.com\"]\npool = \"one\"\nsteer = \"failover\"\norder = [\"a\", \"b\"]\n";
        latching.replace("[services.\"two", &format!("{another}[services.\"two"))
    }

    fn all_up() -> Fixture {
        let mut fixture = Fixture::of(&manual());
        (0..5).for_each(|target| fixture.observe(target, "p"));
        fixture
    }

    impl Fixture {
        /// The share of its clients that a region (0 = a) of a service serves, in percent; -1 while it is not available.
        fn percent(&self, service: u32, region: usize) -> i64 {
            let snapshot = self.published.load();
            let layout = snapshot.steering.service(ServiceId(service)).layout;
            let selection = snapshot.standings.get(layout).get(region, Family::V4).expect("served");
            if selection.available { (f64::from(selection.share) / f64::from(ALL) * 100.0).round() as i64 } else { -1 }
        }

        fn latched(&self) -> Vec<String> {
            let named = self.state.desk.latches();
            named.iter().map(|one| format!("{} {}", one.service, one.region)).collect()
        }

        fn wait(&mut self, seconds: u64) {
            self.now += seconds * 1000;
            self.state.take_due(Tick(self.now));
            self.state.publish(Tick(self.now));
        }
    }

    fn resume(service: &str, region: &str) -> What {
        What::Unlatch { service: service.into(), region: region.into(), who: "alice".into() }
    }

    #[tokio::test]
    async fn a_lost_region_stays_out_of_each_service_until_it_is_resumed_there() {
        let mut fixture = all_up();
        assert_eq!((fixture.percent(0, 0), fixture.percent(1, 0)), (100, 100));
        fixture.observe(0, "ff");
        fixture.observe(1, "ff");
        assert_eq!(fixture.latched(), ["also.example.com a", "one.example.com a"]);
        fixture.wait(100);
        fixture.observe(0, "pp");
        fixture.observe(1, "pp");
        fixture.wait(100_000);
        assert_eq!((fixture.percent(0, 0), fixture.percent(0, 1)), (0, 100), "available, and not used");
        fixture.order(resume("service/One.example.com.", "region/a"), false).await.expect("it is latched");
        assert_eq!(fixture.latched(), ["also.example.com a"]);
        for tenth in 0..=10 {
            let percent = fixture.percent(0, 0);
            assert!(
                (percent - 10 * tenth).abs() < 5,
                "{percent} % after {tenth} tenths, without another `return-after`"
            );
            assert_eq!(fixture.percent(1, 0), 0, "the other service was not resumed");
            fixture.wait(12);
        }
        let refusal = fixture.order(resume("one.example.com", "a"), false).await.expect_err("nothing to resume");
        assert!(refusal.error.contains("region/a is not latched out of service/one.example.com"), "{}", refusal.error);
        let applied = fixture.order(resume("*", "*"), false).await.expect("the other one");
        assert_eq!(applied.resumed.len(), 1);
    }

    #[tokio::test]
    async fn what_is_frozen_taken_out_or_the_last_is_not_latched() {
        let mut fixture = all_up();
        fixture.force("drain region/a").await;
        fixture.force("enable region/a").await;
        assert_eq!(fixture.latched(), Vec::<String>::new(), "the operator knows what he did");
        fixture.wait(30);
        fixture.wait(120);
        assert_eq!(fixture.percent(0, 0), 100);
        // Half of a is frozen: what is seen of a is not what is so.
        fixture.force("freeze instance/one/a1").await;
        fixture.force("drain instance/one/a1").await;
        fixture.observe(1, "ff");
        assert_eq!((fixture.percent(0, 0), fixture.latched()), (-1, Vec::new()));
        fixture.order(What::Resume { target: "all".into(), who: "bob".into() }, false).await.expect("a freeze");
        // b is the last that serves.
        fixture.observe(2, "ff");
        fixture.observe(3, "ff");
        assert_eq!((fixture.percent(0, 1), fixture.latched()), (-1, Vec::new()));
        fixture.observe(2, "pp");
        assert_eq!(fixture.percent(0, 1), 100, "at once, as nobody else serves");
    }

    #[tokio::test]
    async fn a_service_that_is_forced_up_loses_no_region() {
        let mut fixture = all_up();
        fixture.force("force-up service/one.example.com").await;
        fixture.observe(0, "ff");
        fixture.observe(1, "ff");
        assert_eq!(fixture.latched(), ["also.example.com a"]);
    }

    #[tokio::test]
    async fn a_new_service_begins_without_the_latches_of_others() {
        let mut fixture = all_up();
        fixture.observe(0, "ff");
        fixture.observe(1, "ff");
        fixture.observe(0, "pp");
        fixture.observe(1, "pp");
        let new = "[services.\"new.example.com\"]\npool = \"one\"\nsteer = \"failover\"\norder = [\"a\", \"b\"]\n";
        fixture.reload(&(manual() + new), Tick(fixture.now));
        assert_eq!(fixture.latched(), ["also.example.com a", "one.example.com a"]);
        assert_eq!((fixture.percent(0, 0), fixture.percent(3, 0)), (0, 100));
    }

    #[tokio::test]
    async fn a_latch_outlives_the_process_and_reloads() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = || Store::new(folder.path());
        let mut fixture = all_up();
        fixture.state.keep_overrides(store(), Tick(fixture.now));
        fixture.observe(0, "ff");
        fixture.observe(1, "ff");
        while fixture.state.is_saving() {
            let written = fixture.state.written().await;
            fixture.state.end_saving(written, Tick(fixture.now));
        }
        assert_eq!(store().load().latches.len(), 2);
        fixture.reload(&manual(), Tick(fixture.now));
        assert_eq!(fixture.latched().len(), 2);

        let mut fixture = Fixture::of(&manual());
        fixture.state.keep_overrides(store(), Tick(0));
        (0..5).for_each(|target| fixture.observe(target, "p"));
        assert_eq!((fixture.percent(0, 0), fixture.percent(0, 1)), (0, 100));
        // With nobody else it serves nevertheless, and stays latched.
        fixture.observe(2, "ff");
        fixture.observe(3, "ff");
        assert_eq!((fixture.percent(0, 0), fixture.latched().len()), (0, 2));
        // Another configuration in which a returns by itself.
        fixture.reload(CONFIG, Tick(fixture.now));
        assert_eq!(fixture.latched(), Vec::<String>::new());
    }

    #[tokio::test]
    async fn a_latch_that_cannot_be_written_is_written_later() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut fixture = all_up();
        fixture.state.keep_overrides(Store::new(folder.path()), Tick(fixture.now));
        std::fs::create_dir(folder.path().join("overrides.new")).expect("in the way");
        fixture.observe(0, "ff");
        fixture.observe(1, "ff");
        for _ in 0..3 {
            assert!(fixture.state.is_saving());
            let written = fixture.state.written().await;
            assert!(written.is_err());
            fixture.state.end_saving(written, Tick(fixture.now));
            assert!(!fixture.state.is_saving(), "not in a loop");
            let due = fixture.state.overrides_due(Tick(fixture.now)).expect("to be tried again");
            fixture.now += due.as_millis() as u64;
            fixture.state.end_overrides(Tick(fixture.now));
        }
        std::fs::remove_dir(folder.path().join("overrides.new")).expect("room again");
        // The write under way may have failed before that.
        while fixture.state.is_saving() {
            let written = fixture.state.written().await;
            fixture.state.end_saving(written, Tick(fixture.now));
            if let Some(due) = fixture.state.overrides_due(Tick(fixture.now)) {
                fixture.now += due.as_millis() as u64;
                fixture.state.end_overrides(Tick(fixture.now));
            }
        }
        assert_eq!(Store::new(folder.path()).load().latches.len(), 2);
        assert_eq!(fixture.state.overrides_due(Tick(fixture.now)), None);
    }
}
