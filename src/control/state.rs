//! What runs now: the compiled configuration, a health machine for each target, the standings published last.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::Change;
use super::desk::{Applied, Desk, Order, Plan, Refusal, RefusalCode, What};
use super::log::Burst;
use super::overrides::{Action, Compiled, Override, Overrides};
use super::retired::Retired;
use super::status::{self, Status};
use super::store::Store;
use super::succession::{Origin, Succession};
use super::world::{Health, World};
use crate::fleet::{Family, InstanceId, TargetId};
use crate::health::{Machine, Transition, Verdict};
use crate::probe::{Prober, Report};
use crate::snapshot::Published;
use crate::steering::selection::Selection;
use crate::steering::{LayoutId, ServiceId, Standings, Table, walk};
use crate::time::{Tick, unix_seconds};

/// Most instances that an answer to an order names.
const MOST_NAMED: usize = 1000;
/// Most services that a refusal names in one line.
const MOST_NAMED_IN_A_LINE: usize = 10;

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
    burst: Burst,
    /// What the operator says.
    desk: Desk,
    /// By target: its verdict is held, whatever its machine says; empty = none is.
    frozen: Vec<bool>,
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
            burst: Burst::default(),
            desk: Desk::default(),
            frozen: Vec::new(),
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

    /// Keeps overrides in `store`, and puts in force those that it holds.
    pub fn keep_overrides(&mut self, store: Store, now: Tick) {
        let overrides = Overrides::restore(store.load(), now, unix_seconds());
        overrides.iter().for_each(|of| tracing::warn!("override in force since before the start: {of}"));
        self.desk.keep_in(store);
        self.put_in_force(overrides);
    }

    /// Turns true when the first round is over and published: every target has an observation, or `startup-grace` has
    /// ended. From then on answers are right.
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
            Change::ReloadFailed(problems) => self.reload_problems = problems,
            Change::Status(reply) => {
                let _ = reply.send(self.status(now));
            }
            Change::Override(order) => self.order(*order, now),
            Change::Overrides(reply) => {
                let _ = reply.send(self.desk.overrides().iter().cloned().collect());
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
        let is_frozen = self.is_frozen(observation.target);
        if let Some(transition) = transition {
            self.turn(observation.target, &transition, now);
        } else if held && !is_frozen {
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

    /// Whether the verdict of a target is held.
    fn is_frozen(&self, id: TargetId) -> bool {
        self.frozen.get(id.0 as usize).is_some_and(|&frozen| frozen)
    }

    /// By target: whether an instance that it is probed for is frozen. Empty where nothing is.
    fn freeze(&self) -> Vec<bool> {
        let compiled = self.desk.compiled();
        if !compiled.is_any_frozen() {
            return Vec::new();
        }
        let targets = (0..self.world.fleet().targets.len() as u32).map(TargetId);
        targets.map(|id| self.world.owners_of(id).any(|owner| compiled.is_frozen(owner))).collect()
    }

    /// Judges by what checks say now where that was held, and is no longer.
    fn thaw(&mut self) {
        let frozen = self.freeze();
        let before = std::mem::replace(&mut self.frozen, frozen);
        for id in (0..before.len() as u32).map(TargetId).filter(|id| before[id.0 as usize]) {
            let verdict = self.machines[id.0 as usize].verdict();
            if !self.is_frozen(id) && std::mem::replace(&mut self.verdicts[id.0 as usize], verdict) != verdict {
                self.touched.extend(self.world.layouts_of(id));
            }
        }
    }

    /// A verdict changed.
    fn turn(&mut self, id: TargetId, transition: &Transition, now: Tick) {
        let judged = self.verdicts[id.0 as usize];
        if self.is_frozen(id) && judged != Verdict::Unknown {
            if self.burst.allows(now) {
                let (who, new) = (status::describe_target(&self.world, id), status::word(transition.to));
                tracing::warn!("{who}: {new} by its check, frozen {}: {}", status::word(judged), transition.reason);
            }
            return;
        }
        self.verdicts[id.0 as usize] = transition.to;
        self.touched.extend(self.world.layouts_of(id));
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
        self.settle();
        self.desk.acknowledge();
        if is_new {
            let watched = self.world.watched().iter().copied();
            let all: BTreeSet<LayoutId> = watched.chain(touched).collect();
            self.watch_fail_open(all, now);
        } else {
            self.watch_fail_open(touched, now);
        }
    }

    /// Ends the first round, once what it found is published.
    fn settle(&mut self) {
        if *self.settled.borrow() || self.is_dirty() {
            return;
        }
        if self.grace_until.is_none() || self.machines.iter().all(Machine::observed) {
            self.settled.send_replace(true);
        }
    }

    fn health(&self, now: Tick) -> Health<'_> {
        let grace_over = self.grace_until.is_none();
        Health {
            verdicts: &self.verdicts,
            down: &[],
            operator: self.desk.operator(),
            grace_over,
            now,
            serial: self.serial,
        }
    }

    /// One warning when a service begins to answer though nothing works, one line when that ends.
    fn watch_fail_open(&mut self, layouts: impl IntoIterator<Item = LayoutId>, at: Tick) {
        let steering = &self.world.steering;
        for service in layouts.into_iter().flat_map(|layout| self.world.services_of(layout)) {
            let (index, steered) = (service.0 as usize, steering.service(service));
            let now = Family::BOTH.map(|family| walk::is_all_down(steering, &self.standings, steered, family));
            let before = std::mem::replace(&mut self.failing_open[index], now);
            let name = &steered.configured.name;
            match (before.contains(&true), now.contains(&true)) {
                (before, now) if before == now || !self.burst.allows(at) => {}
                (false, _) => {
                    tracing::warn!("service/{name}: all instances down for some clients, answering by when-all-down");
                }
                (true, _) => tracing::info!("service/{name}: serves healthy instances again"),
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
        // What was touched before is judged anew with all else, and its numbers mean nothing now.
        self.touched = self.overridden().into_iter().collect();
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
        let held = std::mem::take(&mut self.verdicts);
        self.verdicts = self.machines.iter().map(Machine::verdict).collect();
        let fails_open = |before: &Option<ServiceId>| before.map(|id| self.failing_open[id.0 as usize]);
        self.failing_open = next.services.iter().map(|before| fails_open(before).unwrap_or_default()).collect();
        let world = std::mem::replace(&mut self.world, Arc::clone(&next.world));
        let standings = std::mem::replace(&mut self.standings, std::mem::take(&mut next.standings));
        self.desk.recompile(self.world.fleet());
        self.frozen = self.freeze();
        self.hold(&held, &next.targets);
        (world, standings)
    }

    /// Verdicts of frozen targets stay as they were judged `before`.
    fn hold(&mut self, before: &[Verdict], origins: &[Origin]) {
        for (at, origin) in origins.iter().enumerate().filter(|(at, _)| self.frozen.get(*at) == Some(&true)) {
            if let Origin::Same(id) | Origin::Edited(id) | Origin::Near(id) = origin {
                self.verdicts[at] = before[id.0 as usize];
            }
        }
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

    /// The layouts of which some override says something.
    fn overridden(&self) -> Vec<LayoutId> {
        if self.desk.operator().is_silent() {
            Vec::new()
        } else {
            self.differing(self.desk.compiled(), &Compiled::default())
        }
    }

    /// The layouts of which these overrides say different things.
    fn differing(&self, a: &Compiled, b: &Compiled) -> Vec<LayoutId> {
        self.world.layouts_with(|id| a.differs(b, self.world.fleet(), id))
    }

    /// Takes an order of the operator in; behind others, while one is written.
    fn order(&mut self, order: Order, now: Tick) {
        if self.desk.is_saving() {
            return self.desk.wait(order);
        }
        match self.plan(&order.what, order.force, now) {
            Ok(plan) => self.desk.save(plan, order.reply),
            Err(refusal) => {
                let _ = order.reply.send(Err(refusal));
            }
        }
    }

    /// What an order comes to.
    fn plan(&self, what: &What, force: bool, now: Tick) -> Result<Plan, Refusal> {
        let (overrides, mut applied, line) = self.desk.overrides().ordered(what, now)?;
        let target = what.target();
        let named = self.named(target);
        if named.is_empty() && matches!(what, What::Set(_)) && !force {
            let hint = "see `waymark status` for names; --force keeps it for instances that are configured later";
            return Err(Refusal::new(RefusalCode::NotFound, format!("{target} names no instance"), Some(hint)));
        }
        let compiled = overrides.compile(self.world.fleet());
        applied.lost = self.loses(&compiled, now);
        if !applied.lost.is_empty() && !force {
            return Err(last_available(applied.lost));
        }
        self.tell_of(&named, &overrides, &compiled, &mut applied);
        Ok(Plan { overrides, applied, line })
    }

    fn named(&self, target: &str) -> Vec<InstanceId> {
        let fleet = self.world.fleet();
        if target == "all" { (0..fleet.instances.len() as u32).map(InstanceId).collect() } else { fleet.named(target) }
    }

    /// The longest time that a cache may keep answers with one of these instances, seconds.
    fn caches_hold_s(&self, named: &[InstanceId]) -> Option<u32> {
        let named: BTreeSet<InstanceId> = named.iter().copied().collect();
        let layouts = self.world.layouts_with(|id| named.contains(&id));
        let services = layouts.into_iter().flat_map(|layout| self.world.services_of(layout));
        services.map(|service| self.world.steering.service(service).manner.ttl).max()
    }

    /// Names what a target names, and who holds it.
    fn tell_of(&self, named: &[InstanceId], overrides: &Overrides, compiled: &Compiled, applied: &mut Applied) {
        let fleet = self.world.fleet();
        applied.instances = named.iter().take(MOST_NAMED).map(|&id| fleet.instance_path(id)).collect();
        if applied.set.as_ref().is_some_and(|set| set.action.removes()) {
            applied.caches_hold_s = self.caches_hold_s(named);
            return;
        }
        if applied.set.as_ref().is_some_and(|set| set.action == Action::Freeze) {
            return;
        }
        let all: Vec<&Override> = overrides.iter().collect();
        let out = named.iter().filter(|id| compiled.operator().of(**id, fleet.instance(**id), &[]).state.removes());
        let by: BTreeSet<usize> = out.flat_map(|&id| compiled.winners(fleet, id)).collect();
        let holds = by.into_iter().map(|at| all[at]).filter(|of| of.action.removes());
        applied.held_by = holds.cloned().collect();
    }

    /// The services that `next` would leave without the last region or instance that they have now (SPEC 8.2).
    fn loses(&self, next: &Compiled, now: Tick) -> Vec<String> {
        let touched = self.differing(next, self.desk.compiled());
        let judged = |operator| {
            let health = Health { operator, ..self.health(now) };
            let mut table = self.standings.clone();
            for &layout in &touched {
                table.set(layout, self.world.judge(layout, health, Some(self.standings.get(layout))));
            }
            table
        };
        let (before, after) = (judged(self.desk.operator()), judged(next.operator()));
        let steering = &self.world.steering;
        let services = touched.iter().flat_map(|&layout| self.world.services_of(layout));
        let steered = services.map(|id| steering.service(id));
        let losing = steered.filter(|steered| {
            Family::BOTH.into_iter().any(|family| walk::takes_last(steering, &before, &after, steered, family))
        });
        losing.map(|steered| steered.configured.name.to_string()).collect()
    }

    /// Whether an order is being written.
    #[must_use]
    pub fn is_saving(&self) -> bool {
        self.desk.is_saving()
    }

    /// Waits until it is.
    pub async fn written(&mut self) -> io::Result<()> {
        self.desk.written().await
    }

    /// Applies the order that was written, and plans the next.
    pub fn end_saving(&mut self, written: io::Result<()>, now: Tick) {
        if let Some((mut plan, reply)) = self.desk.end_saving(written) {
            tracing::warn!("{}", plan.line);
            plan.overrides.end(now);
            self.put_in_force(plan.overrides);
            self.desk.acknowledge_later(reply, plan.applied);
            if !self.is_dirty() {
                self.desk.acknowledge();
            }
        }
        while let Some(order) = self.desk.next() {
            self.order(order, now);
        }
    }

    fn put_in_force(&mut self, overrides: Overrides) {
        let before = self.desk.set(overrides, self.world.fleet());
        let touched = self.differing(&before, self.desk.compiled());
        self.touched.extend(touched);
        self.thaw();
    }

    /// How long until an override ends or its end is to be announced.
    #[must_use]
    pub fn overrides_due(&self, now: Tick) -> Option<Duration> {
        self.desk.overrides().due(now)
    }

    /// Ends overrides whose time is over, and announces the ends that are near.
    pub fn end_overrides(&mut self, now: Tick) {
        if let Some(left) = self.desk.end_due(now) {
            self.put_in_force(left);
            self.desk.tidy();
        }
    }

    fn status(&self, now: Tick) -> Status {
        let view = status::View {
            world: &self.world,
            machines: &self.machines,
            verdicts: &self.verdicts,
            standings: &self.standings,
            failing_open: &self.failing_open,
            overrides: self.desk.overrides(),
            compiled: self.desk.compiled(),
            now,
        };
        Status {
            serial: self.serial,
            loaded_at: self.loaded_at,
            reloads: self.reloads,
            problems: self.reload_problems.clone(),
            ..status::status(view)
        }
    }
}

/// Why an order that takes the last of `services` is refused.
fn last_available(services: Vec<String>) -> Refusal {
    let shown: Vec<&str> = services.iter().take(MOST_NAMED_IN_A_LINE).map(String::as_str).collect();
    let more = if services.len() > shown.len() { ", …" } else { "" };
    let error = format!(
        "it would take the last region or instance that is available now, for some clients at least, from {}{more}",
        shown.join(", ")
    );
    Refusal { services, ..Refusal::new(RefusalCode::LastAvailable, error, Some("--force does it nevertheless")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use crate::control::Wish;
    use crate::health::{Observation, Outcome};
    use crate::probe;
    use arc_swap::ArcSwap;
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

        /// Gives an order and waits until it is served or refused.
        async fn order(&mut self, what: What, force: bool) -> Result<Applied, Refusal> {
            let (reply, answer) = tokio::sync::oneshot::channel();
            self.state.apply(Change::Override(Box::new(Order { what, force, reply })), Tick(self.now));
            if self.state.is_saving() {
                let written = self.state.written().await;
                self.state.end_saving(written, Tick(self.now));
            }
            if self.state.is_dirty() {
                self.state.publish(Tick(self.now));
            }
            answer.await.expect("an answer")
        }

        /// `drain region/a`, `weight 50% instance/one/a1`; by force.
        async fn force(&mut self, text: &str) -> Applied {
            self.order(what(text), true).await.expect("no refusal")
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

    fn what(text: &str) -> What {
        let (action, target) = text.rsplit_once(' ').expect("an action and a target");
        let action = action.parse().expect("an action");
        What::Set(Wish { target: target.into(), action, who: "alice".into(), why: String::new(), lasts: None })
    }

    #[tokio::test]
    async fn overrides_are_judged_beside_verdicts() {
        let mut fixture = Fixture::new();
        for target in 0..5 {
            fixture.observe(target, "p");
        }
        for (order, expected) in [
            ("drain instance/one/a1", "1/1+ 2/2+"),
            ("enable instance/one/a1", "2/2+ 2/2+"),
            ("drain region/a", "0/0- 2/2+"),
            ("force-up instance/one/a1", "0/0- 2/2+"),
            ("enable region/a", "2/2+ 2/2+"),
            ("weight 0% instance/one/b*", "2/2+ 0/0-"),
            ("enable instance/one/b*", "2/2+ 2/2+"),
            ("force-down pool/one", "0/0- 0/0-"),
            ("enable pool/one", "2/2+ 2/2+"),
        ] {
            fixture.force(order).await;
            assert_eq!(fixture.standing(), expected, "{order}");
        }
        // What checks say changes meanwhile and afterwards as ever.
        fixture.observe(0, "ff");
        fixture.observe(1, "ff");
        assert_eq!(fixture.standing(), "1/2+ 2/2+", "a1 is forced up");
        fixture.force("enable instance/one/a1").await;
        assert_eq!(fixture.standing(), "0/2- 2/2+");
        assert!(fixture.state.desk.overrides().is_empty());
    }

    #[tokio::test]
    async fn the_last_one_is_kept_without_force() {
        let mut fixture = Fixture::new();
        for target in 0..5 {
            fixture.observe(target, "p");
        }
        let services = |refused: Result<Applied, Refusal>| refused.expect_err("refused").services;
        assert_eq!(services(fixture.order(what("drain region/a"), false).await), ["two.example.com"]);
        assert_eq!(
            services(fixture.order(what("drain region/*"), false).await),
            ["one.example.com", "two.example.com"]
        );
        assert_eq!(services(fixture.order(what("force-down instance/two/c1"), false).await), ["two.example.com"]);
        assert_eq!(fixture.standing(), "2/2+ 2/2+");
        fixture.order(what("drain instance/one/a*"), false).await.expect("region b is left");
        assert_eq!(fixture.standing(), "0/0- 2/2+");
        assert_eq!(services(fixture.order(what("drain pool/one"), false).await), ["one.example.com"]);
        fixture.order(what("force-up instance/one/b1"), false).await.expect("takes nothing");
        fixture.observe(2, "ff");
        fixture.observe(3, "ff");
        assert_eq!(fixture.standing(), "0/0- 1/2+");
        let end = || What::End { target: "instance/one/b1".into(), who: "bob".into() };
        assert_eq!(services(fixture.order(end(), false).await), ["one.example.com"]);
        assert_eq!(fixture.force("drain pool/one").await.lost, ["one.example.com"]);
        // Nothing is left to be lost.
        fixture.order(what("drain region/b"), false).await.expect("nothing to lose");
    }

    #[tokio::test]
    async fn overrides_stay_over_a_reload_and_meet_new_names() {
        let mut fixture = Fixture::new();
        for target in 0..5 {
            fixture.observe(target, "p");
        }
        fixture.force("drain instance/one/a*").await;
        let more = CONFIG.replace("b1 = {", "a0 = { region = \"b\", address = \"192.0.2.9\" }\n        b1 = {");
        fixture.reload(&more, Tick(10_000));
        assert_eq!(fixture.standing(), "0/0- 2/2+");
        // Without checks nothing is watched, and overrides are judged all the same.
        let unchecked = CONFIG.replace("check = \"tcp\"\n", "");
        fixture.reload(&unchecked, Tick(20_000));
        assert_eq!(fixture.standing(), "0/0- 2/2+");
        fixture.force("enable instance/one/a1").await;
        assert_eq!(fixture.standing(), "1/1+ 2/2+");
        fixture.force("enable instance/one/a*").await;
        assert_eq!(fixture.standing(), "2/2+ 2/2+");
    }

    #[tokio::test]
    async fn an_override_ends_by_itself() {
        let mut fixture = Fixture::new();
        for target in 0..5 {
            fixture.observe(target, "p");
        }
        let What::Set(wish) = what("drain instance/one/a*") else { panic!("an override") };
        let lasts = Some(Duration::from_secs(60));
        fixture.order(What::Set(Wish { lasts, ..wish }), false).await.expect("no refusal");
        let (began, ends) = (Tick(fixture.now), Tick(fixture.now + 60_000));
        assert_eq!(fixture.state.overrides_due(began), lasts);
        fixture.state.end_overrides(Tick(ends.0 - 1));
        assert!(!fixture.state.is_dirty());
        fixture.state.end_overrides(ends);
        fixture.state.publish(ends);
        assert_eq!(fixture.standing(), "2/2+ 2/2+");
        assert_eq!(fixture.state.overrides_due(ends), None);
    }

    #[tokio::test]
    async fn a_freeze_holds_verdicts_and_nothing_else() {
        let mut fixture = Fixture::new();
        for target in 0..4 {
            fixture.observe(target, "p");
        }
        fixture.force("freeze all").await;
        fixture.observe(4, "p");
        assert_eq!(fixture.state.verdicts[4], Verdict::Up, "what was never known is learned");
        fixture.observe(0, "ff");
        fixture.observe(1, "ff");
        assert_eq!(fixture.standing(), "2/2+ 2/2+");
        fixture.force("drain instance/one/b1").await;
        assert_eq!(fixture.standing(), "2/2+ 1/1+");
        // Another order of pools gives every target another number.
        let (head, tail) = CONFIG.split_once("[pools.one]").expect("a pool");
        let (one, rest) = tail.split_once("[pools.two]").expect("a pool");
        let (two, services) = rest.split_once("[services.").expect("services");
        fixture.reload(&format!("{head}[pools.two]{two}[pools.one]{one}[services.{services}"), Tick(100_000));
        assert_eq!(fixture.standing(), "2/2+ 1/1+");
        let status = fixture.state.status(Tick(100_000));
        let address = &status.pools[1].instances[0].addresses[0];
        assert_eq!((&*address.verdict, &*address.checks[0].verdict), ("up", "down"));
        assert!(status.pools[1].instances[0].frozen);
        let resume = What::Resume { target: "all".into(), who: "bob".into() };
        fixture.order(resume, false).await.expect("something to resume");
        assert_eq!(fixture.standing(), "0/2- 1/1+");
    }

    #[tokio::test]
    async fn what_is_not_written_is_not_done() {
        let mut fixture = Fixture::new();
        for target in 0..5 {
            fixture.observe(target, "p");
        }
        let folder = tempfile::tempdir().expect("a folder");
        fixture.state.keep_overrides(Store::new(folder.path()), Tick(0));
        fixture.force("drain instance/one/a1").await;
        std::fs::create_dir(folder.path().join("overrides.new")).expect("in the way");
        let refusal = fixture.order(what("drain instance/one/a2"), false).await.expect_err("refused");
        assert_eq!(refusal.code, RefusalCode::NotStored);
        assert_eq!(fixture.standing(), "1/1+ 2/2+");
        assert_eq!(Store::new(folder.path()).load().len(), 1);
        let nothing = fixture.order(what("drain region/mars"), false).await.expect_err("refused");
        assert_eq!(nothing.code, RefusalCode::NotFound);
    }

    #[tokio::test]
    async fn a_reload_forgets_what_the_world_before_touched() {
        let mut fixture = Fixture::new();
        for target in 0..5 {
            fixture.report(target, Outcome::Pass);
        }
        let (one, _) = CONFIG.split_once("[services.\"two").expect("a service");
        fixture.reload(one, Tick(10_000));
        assert_eq!(fixture.standing(), "2/2+ 2/2+");
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
