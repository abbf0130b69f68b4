//! What runs now: the compiled configuration, a health machine for each target, the standings published last.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::Change;
use super::journal::{Journal, Record};
use super::last_good::{Clock, LastGood, Notes};
use super::log::Burst;
use super::retired::Retired;
use super::status::{self, Status};
use super::succession::{Origin, Succession};
use super::world::{Health, World};
use crate::fleet::{Family, TargetId};
use crate::health::group::Before;
use crate::health::{Machine, Transition, Verdict};
use crate::probe::{Prober, Report};
use crate::snapshot::Published;
use crate::steering::selection::Selection;
use crate::steering::{LayoutId, ServiceId, Standings, Table, walk};
use crate::time::{Tick, unix_seconds};

/// How long the first probes have before last-good health is gone by.
const MEMORY_PATIENCE: Duration = Duration::from_millis(500);

/// The state of a node; only the control loop holds it.
pub struct State {
    world: Arc<World>,
    machines: Vec<Machine>,
    /// The machines' verdicts, for judging.
    verdicts: Vec<Verdict>,
    standings: Table,
    /// Layouts to judge before the next publish.
    touched: BTreeSet<LayoutId>,
    /// Whether what is judged already is to be published.
    is_new: bool,
    /// Snapshots that some thread may still answer from.
    retired: Retired,
    /// By service: which families fail open.
    failing_open: Vec<[bool; 2]>,
    /// Until then unknown targets do not count; `None` = they do.
    grace_until: Option<Tick>,
    serial: u64,
    published: Published,
    prober: Prober,
    settled: watch::Sender<bool>,
    /// What the first round waits for where last-good health covers all targets.
    memory_until: Option<Tick>,
    /// Last-good health covers all targets, and the first probes had their time.
    goes_by_memory: bool,
    /// Where changes are noted for the next start.
    last_good: Option<Arc<Notes>>,
    journal: Journal,
    burst: Burst,
    /// Unix seconds.
    loaded_at: u64,
    reloads: u64,
    reload_problems: Vec<String>,
}

impl State {
    /// A state that serves `world`, all of whose targets are unknown; `prober` probes them already.
    #[must_use]
    pub fn new(world: Arc<World>, published: Published, prober: Prober, now: Tick) -> State {
        let mut state = State {
            machines: Vec::new(),
            verdicts: Vec::new(),
            standings: Table::default(),
            touched: BTreeSet::new(),
            is_new: false,
            retired: Retired::default(),
            failing_open: Vec::new(),
            grace_until: Some(now.plus(world.server.startup_grace)),
            serial: published.load().serial,
            published,
            prober,
            settled: watch::Sender::new(false),
            memory_until: None,
            goes_by_memory: false,
            last_good: None,
            journal: Journal::default(),
            burst: Burst::default(),
            loaded_at: unix_seconds(),
            reloads: 0,
            reload_problems: Vec::new(),
            world: Arc::clone(&world),
        };
        let mut first = Succession::first(world);
        let (_, nothing) = state.succeed(&mut first, now);
        state.judge_watched(&first, &nothing, now);
        state
    }

    /// Takes over what an earlier process knew, and returns of how many targets: it takes `fall` or `rise` to leave those
    /// verdicts (SPEC 2.5), and groups lost their last instance when they did (SPEC 3.3).
    pub fn recall(&mut self, file: &LastGood<'_>, clock: Clock) -> usize {
        let recall = file.recall(clock);
        let world = Arc::clone(&self.world);
        let mut known = 0;
        for (machine, target) in self.machines.iter_mut().zip(&world.fleet().targets) {
            if let Some(memory) = recall.target(target, &world) {
                *machine = Machine::restored(memory, clock.now);
                known += 1;
            }
        }
        self.verdicts = self.machines.iter().map(Machine::verdict).collect();
        for &id in world.watched() {
            let before = |group, family| {
                let lost_at = recall.lost_at(&world, id, group, family);
                (Some(Before { had_eligible: false, lost_at }), None)
            };
            self.standings.set(id, world.judge_after(id, self.health(clock.now), before));
        }
        self.is_new = true;
        self.memory_until = (known == self.machines.len()).then(|| clock.now.plus(MEMORY_PATIENCE));
        known
    }

    /// Has health noted from now on, for the next start.
    pub fn keep_health(&mut self, notes: Arc<Notes>, now: Tick) {
        notes.begin(&self.world, &self.machines, now);
        self.last_good = Some(notes);
    }

    /// Has what happens noted from now on.
    pub fn keep_journal(&mut self, journal: Journal) {
        self.journal = journal;
    }

    /// How long the first probes still have before last-good health is gone by; `None` when that is no question.
    #[must_use]
    pub fn memory_left(&self, now: Tick) -> Option<Duration> {
        self.memory_until.map(|until| until.since(now))
    }

    /// Last-good health counts for a first round.
    pub fn go_by_memory(&mut self) {
        self.memory_until = None;
        self.goes_by_memory = true;
        self.settle();
    }

    /// Turns true when the first round is over and published: every target has an observation, `startup-grace` has ended,
    /// or last-good health is gone by. From then on answers are right.
    #[must_use]
    pub fn settled(&self) -> watch::Receiver<bool> {
        self.settled.subscribe()
    }

    /// How long unknown targets still do not count; `None` when they do.
    #[must_use]
    pub fn grace_left(&self, now: Tick) -> Option<Duration> {
        self.grace_until.map(|until| until.since(now))
    }

    /// Unknown targets count from now on.
    pub fn end_grace(&mut self) {
        self.grace_until = None;
        self.touched.extend(self.world.watched());
        if !*self.settled.borrow() {
            let grace = self.world.server.startup_grace;
            tracing::warn!("some targets have no observation after {grace:?}; answering without them");
        }
        self.settle();
    }

    /// How long until held-back log lines are to be summed up; `None` when there are none.
    #[must_use]
    pub fn log_due(&self, now: Tick) -> Option<Duration> {
        self.burst.due(now)
    }

    /// Sums held-back log lines up.
    pub fn flush_log(&mut self, now: Tick) {
        self.burst.flush(now);
    }

    /// Whether there is something to publish.
    #[must_use]
    pub fn is_dirty(&self) -> bool {
        self.is_new || !self.touched.is_empty()
    }

    /// Takes a change in. What it touches is judged at the next [`State::publish`].
    pub fn apply(&mut self, change: Change, now: Tick) {
        match change {
            Change::Reload(next, done) => {
                self.reload(*next, now);
                // Whoever asked may be gone.
                let _ = done.send(());
            }
            Change::ReloadFailed(problems) => {
                self.journal.note(|| Record::refused(&problems));
                self.reload_problems = problems;
            }
            Change::Status(reply) => {
                let _ = reply.send(self.status(now));
            }
        }
    }

    /// Takes in what a probe saw, and tells its task when to probe again.
    pub fn report(&mut self, report: Report, now: Tick) {
        let Some(observation) = report.observation() else { return };
        let index = observation.target.0 as usize;
        let (Some(machine), Some(target)) = (self.machines.get_mut(index), self.world.fleet().targets.get(index))
        else {
            return;
        };
        let policy = &self.world.checks[target.check.0 as usize].policy;
        let transition = machine.observe(policy, now, &observation);
        report.next(machine.pace(policy));
        let held = machine.held(policy);
        if let Some(transition) = transition {
            self.turn(observation.target, &transition, now);
        } else if held {
            self.release_if_needed(observation.target, now);
        }
        self.settle();
    }

    /// Lifts a hold-down where hold-downs alone keep a region from being available (SPEC 2.2): the targets that are only
    /// held come back one by one until there are enough.
    fn release_if_needed(&mut self, target: TargetId, now: Tick) {
        let policy = |target: TargetId| &self.world.checks[self.world.fleet().target(target).check.0 as usize].policy;
        let mut verdicts = self.verdicts.clone();
        for near in self.world.layouts_of(target).flat_map(|layout| self.world.targets_of(layout)) {
            if self.machines[near.0 as usize].held(policy(near)) {
                verdicts[near.0 as usize] = Verdict::Up;
            }
        }
        let health = Health { verdicts: &verdicts, ..self.health(now) };
        let would_help = self.world.layouts_of(target).any(|layout| {
            let (would, is) = (self.world.judge(layout, health, None), self.standings.get(layout));
            let available = |standings: &Standings, group, family| {
                standings.get(group, family).is_some_and(|selection| selection.available)
            };
            self.world.steering.layout(layout).groups.iter().enumerate().any(|(at, group)| {
                let gains = |family| available(&would, at, family) && !available(is, at, family);
                self.world.probes(group, target) && Family::BOTH.into_iter().any(gains)
            })
        });
        if !would_help {
            return;
        }
        let policy = policy(target).clone();
        if let Some(transition) = self.machines[target.0 as usize].release_hold(&policy, now) {
            self.turn(target, &transition, now);
        }
    }

    /// A verdict changed.
    fn turn(&mut self, id: TargetId, transition: &Transition, now: Tick) {
        self.verdicts[id.0 as usize] = transition.to;
        self.touched.extend(self.world.layouts_of(id));
        if let Some(notes) = &self.last_good {
            notes.turned(id, self.machines[id.0 as usize].memory(now));
        }
        self.journal.note(|| Record::verdict(&self.world, id, transition));
        if self.burst.allows(now) {
            let who = status::describe_target(&self.world, id);
            let (old, new, reason) = (status::word(transition.from), status::word(transition.to), &transition.reason);
            match transition.to {
                Verdict::Up => tracing::info!("{who}: {old} -> {new}: {reason}"),
                Verdict::Unknown | Verdict::Down => tracing::warn!("{who}: {old} -> {new}: {reason}"),
            }
        }
    }

    /// Judges what was touched and publishes a snapshot that shares everything else.
    pub fn publish(&mut self, now: Tick) {
        self.serial += 1;
        let touched = std::mem::take(&mut self.touched);
        for &layout in &touched {
            let judged = self.world.judge(layout, self.health(now), Some(self.standings.get(layout)));
            self.standings.set(layout, judged);
        }
        let is_new = std::mem::take(&mut self.is_new);
        let snapshot = self.world.freeze(self.standings.clone(), self.serial);
        self.retired.push(self.published.swap(Arc::new(snapshot)));
        if let Some(notes) = &self.last_good {
            notes.judged(&self.standings);
        }
        self.settle();
        if is_new {
            let watched: Vec<LayoutId> = self.world.watched().into();
            self.watch_fail_open(watched, now);
        } else {
            self.watch_fail_open(touched, now);
        }
    }

    /// Ends the first round, once what it found is published.
    fn settle(&mut self) {
        if *self.settled.borrow() || self.is_dirty() {
            return;
        }
        if self.grace_until.is_none() || self.goes_by_memory || self.machines.iter().all(Machine::observed) {
            self.settled.send_replace(true);
        }
    }

    fn health(&self, now: Tick) -> Health<'_> {
        let grace_over = self.grace_until.is_none();
        Health { verdicts: &self.verdicts, down: &[], grace_over, now, serial: self.serial }
    }

    /// One warning when a service begins to answer though nothing works, one line when that ends.
    fn watch_fail_open(&mut self, layouts: impl IntoIterator<Item = LayoutId>, at: Tick) {
        let steering = &self.world.steering;
        for service in layouts.into_iter().flat_map(|layout| self.world.services_of(layout)) {
            let (index, steered) = (service.0 as usize, steering.service(service));
            let now = Family::BOTH.map(|family| walk::is_all_down(steering, &self.standings, steered, family));
            let before = std::mem::replace(&mut self.failing_open[index], now);
            let name = &steered.configured.name;
            let (before, now) = (before.contains(&true), now.contains(&true));
            if before == now {
                continue;
            }
            self.journal.note(|| Record::fail_open(name, now));
            match now {
                _ if !self.burst.allows(at) => {}
                true => {
                    tracing::warn!("service/{name}: all instances down for some clients, answering by when-all-down");
                }
                false => tracing::info!("service/{name}: serves healthy instances again"),
            }
        }
    }

    /// Serves another configuration. Targets that stay keep their health.
    fn reload(&mut self, mut next: Succession, now: Tick) {
        let probed_as: Vec<Option<TargetId>> = next.targets.iter().map(|origin| origin.probed_as()).collect();
        self.prober.update(&next.world.fleet().targets, &next.world.checks, &probed_as);
        let (old, standings) = self.succeed(&mut next, now);
        self.renew_grace(now);
        self.judge_watched(&next, &standings, now);
        if let Some(notes) = &self.last_good {
            notes.reloaded(&self.world, &self.machines, now);
        }
        self.journal.note(|| Record::reload(&self.world));
        self.loaded_at = unix_seconds();
        self.reloads += 1;
        self.reload_problems.clear();
        self.publish(now);
        self.retired.put_away(old);
    }

    /// New targets get the time of their first probe before they count, so that adding many to a region does not take
    /// it below its threshold.
    fn renew_grace(&mut self, now: Tick) {
        let targets = self.world.fleet().targets.iter().zip(&self.machines);
        let policies = targets.filter(|(_, machine)| !machine.observed()).map(|(target, _)| {
            let policy = &self.world.checks[target.check.0 as usize].policy;
            policy.interval + policy.timeout
        });
        if let Some(longest) = policies.max() {
            let until = now.plus(longest.max(self.world.server.startup_grace));
            self.grace_until = Some(self.grace_until.map_or(until, |before| before.max(until)));
        }
    }

    /// Sets up all that is sized by the world, with what is known already; returns the world before, and its standings.
    fn succeed(&mut self, next: &mut Succession, now: Tick) -> (Arc<World>, Table) {
        let machine = |id: TargetId| self.machines[id.0 as usize].clone();
        let machines = next.targets.iter().map(|&origin| match origin {
            Origin::New => Machine::new(now),
            Origin::Same(id) => machine(id),
            Origin::Edited(id) | Origin::Near(id) => machine(id).adopt(),
        });
        self.machines = machines.collect();
        self.verdicts = self.machines.iter().map(Machine::verdict).collect();
        let fails_open = |before: &Option<ServiceId>| before.map(|id| self.failing_open[id.0 as usize]);
        self.failing_open = next.services.iter().map(|before| fails_open(before).unwrap_or_default()).collect();
        let world = std::mem::replace(&mut self.world, Arc::clone(&next.world));
        let standings = std::mem::replace(&mut self.standings, std::mem::take(&mut next.standings));
        (world, standings)
    }

    /// Judges all that some verdict touches. Times of loss of groups that stay come from the standings `before`.
    fn judge_watched(&mut self, next: &Succession, before: &Table, now: Tick) {
        let mut groups = &next.groups[..];
        for &id in self.world.watched() {
            let of_layout;
            (of_layout, groups) = groups.split_at(self.world.steering.layout(id).groups.len());
            let known = |group: usize, family: Family| {
                let (layout, at) = of_layout[group]?;
                before.get(layout).get(at, family).map(Selection::before)
            };
            let judged = self.world.judge_after(id, self.health(now), |group, family| (known(group, family), None));
            self.standings.set(id, judged);
        }
        self.is_new = true;
    }

    fn status(&self, now: Tick) -> Status {
        let view = status::View {
            world: &self.world,
            machines: &self.machines,
            standings: &self.standings,
            failing_open: &self.failing_open,
            now,
        };
        Status {
            serial: self.serial,
            loaded_at: self.loaded_at,
            reloads: self.reloads,
            problems: self.reload_problems.clone(),
            last_good_at: self.last_good.as_ref().and_then(|notes| notes.written_ms()).map(|ms| ms / 1000),
            ..status::status(view)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use crate::control::last_good::{self, Keeper};
    use crate::health::{Observation, Outcome};
    use crate::probe;
    use arc_swap::ArcSwap;
    use std::time::Instant;
    use tokio::sync::mpsc;

    /// Two pools with a service each; targets are numbered a1 a2 b1 b2 c1.
    const CONFIG: &str = r#"
        [zones."example.com"]
        file = "zone"
        [regions.a]
        [regions.b]
        [checks.tcp]
        type = "tcp"
        port = 80
        interval = "1s"
        timeout = "500ms"
        fall = 2
        rise = 2
        hold-down = "30s"
        [pools.one]
        check = "tcp"
        [pools.one.instances]
        a1 = { region = "a", address = "192.0.2.1" }
        a2 = { region = "a", address = "192.0.2.2" }
        b1 = { region = "b", address = "192.0.2.3" }
        b2 = { region = "b", address = "192.0.2.4" }
        [pools.two]
        check = "tcp"
        [pools.two.instances]
        c1 = { region = "a", address = "192.0.2.5" }
        [services."one.example.com"]
        pool = "one"
        steer = "failover"
        order = ["a", "b"]
        [services."two.example.com"]
        pool = "two"
        steer = "failover"
    "#;

    fn world(config: &str) -> World {
        let folder = tempfile::tempdir().expect("a folder");
        let zone = "@ 60 IN SOA ns hm 1 1 1 1 1\n@ 60 IN NS ns\nns 60 IN A 192.0.2.53\n";
        std::fs::write(folder.path().join("zone"), zone).expect("written");
        let path = folder.path().join("waymark.toml");
        std::fs::write(&path, config).expect("written");
        let loaded = config::load(&path);
        World::compile(loaded.configuration.unwrap_or_else(|| panic!("{:?}", loaded.problems)))
    }

    struct Fixture {
        state: State,
        published: Published,
        now: u64,
    }

    impl Fixture {
        fn new() -> Fixture {
            let (sink, _) = mpsc::channel(1);
            // It probes nothing: reports are made here.
            let prober = Prober::start(&[], &[], probe::Settings::default(), sink);
            let published: Published = Arc::new(ArcSwap::default());
            let state = State::new(Arc::new(world(CONFIG)), Arc::clone(&published), prober, Tick(0));
            Fixture { state, published, now: 0 }
        }

        fn reload(&mut self, config: &str, now: Tick) {
            let next = Succession::new(Arc::new(world(config)), &self.state.world);
            self.state.reload(next, now);
        }

        /// Observes `outcomes` of a target, a second apart, publishing after each.
        fn observe(&mut self, target: u32, outcomes: &str) {
            for letter in outcomes.chars() {
                self.report(target, if letter == 'p' { Outcome::Pass } else { Outcome::Fail });
                if self.state.is_dirty() {
                    self.state.publish(Tick(self.now));
                }
            }
        }

        /// Observes a target a second later, without publishing.
        fn report(&mut self, target: u32, outcome: Outcome) {
            let took = Duration::ZERO;
            let observation = Observation { target: TargetId(target), outcome, reason: "x".into(), took };
            self.now += 1000;
            self.state.report(Report::new(&observation).0, Tick(self.now));
        }

        /// `a2 b2/2`: eligible of all, of service one, by region.
        fn standing(&self) -> String {
            let snapshot = self.published.load();
            let standings = snapshot.standings.get(LayoutId(0));
            let shown = (0..2).filter_map(|group| {
                let v4 = standings.get(group, Family::V4)?;
                let mark = if v4.available { "+" } else { "-" };
                Some(format!("{}/{}{mark}", v4.eligible.entries.len(), v4.allowed.entries.len()))
            });
            shown.collect::<Vec<_>>().join(" ")
        }
    }

    #[tokio::test]
    async fn a_verdict_changes_what_it_touches_alone() {
        let mut fixture = Fixture::new();
        for target in 0..5 {
            assert!(!*fixture.state.settled().borrow());
            fixture.observe(target, "p");
        }
        assert!(*fixture.state.settled().borrow());
        assert_eq!(fixture.standing(), "2/2+ 2/2+");
        let before = fixture.published.load_full();
        fixture.observe(4, "ff");
        let after = fixture.published.load_full();
        assert_eq!(after.serial, before.serial + 1);
        let is_shared = |layout| {
            let entries = |snapshot: &crate::snapshot::Snapshot| {
                let selection = snapshot.standings.get(LayoutId(layout)).get(0, Family::V4).cloned();
                selection.expect("IPv4").eligible.entries
            };
            Arc::ptr_eq(&entries(&before), &entries(&after))
        };
        assert_eq!((is_shared(0), is_shared(1)), (true, false));
        assert_eq!(fixture.state.failing_open, [[false; 2], [true, false]]);
        fixture.observe(4, "pp");
        assert_eq!(fixture.state.failing_open, [[false; 2]; 2]);
    }

    #[tokio::test]
    async fn the_first_round_ends_when_it_is_published() {
        let mut fixture = Fixture::new();
        (0..5).for_each(|target| fixture.report(target, Outcome::Pass));
        assert!(!*fixture.state.settled().borrow());
        fixture.state.publish(Tick(fixture.now));
        assert!(*fixture.state.settled().borrow());
        assert_eq!(fixture.standing(), "2/2+ 2/2+");
    }

    #[tokio::test]
    async fn unknown_targets_count_after_the_grace_and_new_ones_get_their_own() {
        let mut fixture = Fixture::new();
        fixture.observe(0, "p");
        assert_eq!(fixture.standing(), "1/2+ 0/2-");
        assert_eq!(fixture.state.grace_left(Tick(1000)), Some(Duration::from_secs(4)));
        fixture.state.end_grace();
        fixture.state.publish(Tick(6000));
        assert_eq!(fixture.standing(), "1/2+ 0/2-");
        for target in 1..5 {
            fixture.observe(target, "p");
        }
        let many = CONFIG.replace("[pools.two]", "a3 = { region = \"a\", address = \"192.0.2.6\" }\na4 = { region = \"a\", address = \"192.0.2.7\" }\na5 = { region = \"a\", address = \"192.0.2.8\" }\n[pools.two]");
        fixture.reload(&many, Tick(10_000));
        // Two of five are up, which is below the threshold, but three have not been looked at yet.
        assert_eq!(fixture.standing(), "2/5+ 2/2+");
        fixture.state.end_grace();
        fixture.state.publish(Tick(20_000));
        assert_eq!(fixture.standing(), "2/5- 2/2+");
    }

    #[tokio::test]
    async fn a_reload_keeps_health_and_times_of_loss() {
        let mut fixture = Fixture::new();
        for target in 0..5 {
            fixture.observe(target, "p");
        }
        fixture.observe(0, "ff");
        fixture.observe(1, "ff");
        let lost_at = |fixture: &Fixture| {
            let snapshot = fixture.published.load();
            snapshot.standings.get(LayoutId(0)).get(0, Family::V4).and_then(|selection| selection.lost_at)
        };
        let lost = lost_at(&fixture);
        assert!(lost.is_some());
        fixture.observe(4, "ff");
        let failing_open = |fixture: &Fixture| {
            let services = fixture.state.world.steering.services.iter().zip(&fixture.state.failing_open);
            services.map(|(service, flags)| (service.configured.name.to_string(), flags[0])).collect::<Vec<_>>()
        };
        let expected = [("one.example.com".into(), false), ("two.example.com".into(), true)];
        assert_eq!(failing_open(&fixture), expected);
        // Another order of pools gives every target another number.
        let (head, tail) = CONFIG.split_once("[pools.one]").expect("a pool");
        let (one, rest) = tail.split_once("[pools.two]").expect("a pool");
        let (two, services) = rest.split_once("[services.").expect("services");
        let turned = format!("{head}[pools.two]{two}[pools.one]{one}[services.{services}");
        fixture.reload(&turned, Tick(100_000));
        assert_eq!(fixture.standing(), "0/2- 2/2+");
        assert_eq!(lost_at(&fixture), lost);
        assert_eq!(failing_open(&fixture), expected);
        assert!(*fixture.state.settled().borrow());
        let status = fixture.state.status(Tick(100_000));
        assert_eq!((status.reloads, status.pools[0].name.as_str()), (1, "two"));
        assert_eq!(status.pools[1].instances[0].addresses[0].verdict, "down");
    }

    #[tokio::test]
    async fn what_an_earlier_process_knew_is_gone_by() {
        let mut before = Fixture::new();
        for target in 0..5 {
            before.observe(target, "p");
        }
        for target in [0, 1, 4] {
            before.observe(target, "ff");
        }
        let (then, later) = (before.now, 1_700_000_000_000);
        let memories: Vec<_> = before.state.machines.iter().map(|machine| machine.memory(Tick(then))).collect();
        let clock = Clock { now: Tick(then), unix_ms: later - 60_000 };
        let file = LastGood::of(&before.state.world, &memories, &before.state.standings, clock);

        let mut fixture = Fixture::new();
        fixture.now = 1_000_000;
        let clock = Clock { now: Tick(fixture.now), unix_ms: later };
        assert_eq!(fixture.state.recall(&file, clock), 5);
        fixture.state.publish(Tick(fixture.now));
        assert_eq!(fixture.standing(), "0/2- 2/2+");
        assert_eq!(fixture.state.failing_open, [[false; 2], [true, false]]);
        let lost_at = |fixture: &Fixture, layout| {
            let snapshot = fixture.published.load();
            snapshot.standings.get(LayoutId(layout)).get(0, Family::V4).and_then(|selection| selection.lost_at)
        };
        for layout in [0, 1] {
            let ago = Tick(then).since(lost_at(&before, layout).expect("lost")) + Duration::from_secs(60);
            assert_eq!(lost_at(&fixture, layout), Some(Tick(fixture.now).minus(ago)));
        }
        assert!(!*fixture.state.settled().borrow());
        assert_eq!(fixture.state.memory_left(Tick(fixture.now)), Some(MEMORY_PATIENCE));
        fixture.state.go_by_memory();
        assert!(*fixture.state.settled().borrow());
        assert_eq!(fixture.state.memory_left(Tick(fixture.now)), None);
        fixture.observe(0, "p");
        fixture.observe(2, "f");
        assert_eq!(fixture.standing(), "0/2- 2/2+");
        fixture.observe(0, "p");
        fixture.observe(2, "f");
        assert_eq!(fixture.standing(), "1/2+ 1/2+");
    }

    /// Verdicts change all the time: about ten writes a second, and the last change is there soon.
    #[tokio::test]
    async fn health_is_written_now_and_then() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = last_good::path(folder.path());
        let mut fixture = Fixture::new();
        let keeper = Keeper::start(path.clone(), None).expect("a thread");
        let notes = keeper.notes();
        fixture.state.keep_health(Arc::clone(&notes), Tick(0));
        let began = Instant::now();
        let mut writes = BTreeSet::new();
        while began.elapsed() < Duration::from_secs(1) {
            fixture.observe(0, "ffpp");
            writes.extend(notes.written_ms());
            std::thread::sleep(Duration::from_millis(1));
        }
        assert!((1..=13).contains(&writes.len()), "{writes:?}");
        fixture.observe(4, "p");
        keeper.finish(Duration::from_secs(60));
        let file = LastGood::read(&path, crate::time::unix_milliseconds()).expect("good").expect("a file");
        assert_eq!(Fixture::new().state.recall(&file, Clock { now: Tick(0), unix_ms: file.written_ms() }), 2);
    }

    #[tokio::test]
    async fn several_hold_downs_end_where_a_region_needs_them() {
        let mut fixture = Fixture::new();
        for target in 0..5 {
            fixture.observe(target, "p");
        }
        for target in [0, 1] {
            fixture.observe(target, "ffpp");
        }
        // Both of region a fall again and pass again: one alone is below the threshold of 100 %.
        let strict = CONFIG.replace("[pools.one]\n", "[pools.one]\nup-threshold = \"100%\"\n");
        fixture.reload(&strict, Tick(fixture.now));
        fixture.observe(0, "ff");
        fixture.observe(1, "ff");
        fixture.observe(0, "pp");
        assert_eq!(fixture.standing(), "0/2- 2/2+");
        fixture.observe(1, "pp");
        fixture.observe(0, "p");
        assert_eq!(fixture.standing(), "2/2+ 2/2+");
    }

    #[tokio::test]
    async fn a_target_that_is_checked_in_another_way_keeps_its_verdict() {
        for (from, to) in [
            ("port = 80", "port = 81"),
            (
                "[checks.tcp]\n        type = \"tcp\"",
                "[checks.tcp]\n        type = \"http\"\n        host = \"www.example.com\"",
            ),
            ("interval = \"1s\"", "interval = \"2s\""),
        ] {
            let mut fixture = Fixture::new();
            for target in 0..5 {
                fixture.observe(target, "p");
            }
            fixture.observe(1, "ff");
            let edited = CONFIG.replace(from, to);
            assert_ne!(edited, CONFIG, "{from}");
            fixture.reload(&edited, Tick(10_000));
            assert_eq!(fixture.standing(), "1/2+ 2/2+", "{to}");
        }
    }

    #[tokio::test]
    async fn a_hold_down_ends_where_a_region_needs_it() {
        let mut fixture = Fixture::new();
        for target in 0..5 {
            fixture.observe(target, "p");
        }
        // The second time down is held; one of two is enough for the region, so nobody lifts it.
        fixture.observe(0, "ffppff");
        fixture.observe(0, "pp");
        assert_eq!(fixture.standing(), "1/2+ 2/2+");
        // Without the other one the region is lost, and the held one comes back with its next pass.
        fixture.observe(1, "ff");
        assert_eq!(fixture.standing(), "0/2- 2/2+");
        fixture.observe(0, "p");
        assert_eq!(fixture.standing(), "1/2+ 2/2+");
    }
}
