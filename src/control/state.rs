//! What runs now: the compiled configuration, a health machine for each target, the standings published last.

mod blindness;
#[cfg(test)]
mod blindness_tests;
mod failback;
mod loads;
mod look;
mod orders;
mod pushes;
mod suspicion;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::agenda::Agenda;
use super::desk::Desk;
use super::doubt::Doubts;
use super::journal::{Journal, Record};
use super::last_good::{Clock, LastGood, Notes};
use super::latency::Inbox;
use super::loads::Loads;
use super::log::Burst;
use super::lookout::Lookout;
use super::overrides::Compiled;
use super::retired::Retired;
use super::sight::Sight;
use super::status::{self, Status};
use super::succession::{Origin, Succession};
use super::world::{Health, World};
use super::{Change, GeoNews, GeoRefusal};
use crate::dns::{Name, Secrets};
use crate::fleet::{Family, InstanceId, TargetId};
use crate::health::group::{Before, STEADY};
use crate::health::{Machine, Memory, Outcome, Presence, Transition, Verdict};
use crate::latency::{Measured, View};
use crate::probe::{Prober, Report};
use crate::snapshot::{Published, Snapshot};
use crate::steering::selection::Selection;
use crate::steering::{LayoutId, ServiceId, Standings, Table, walk};
use crate::time::{Tick, unix_seconds};

pub use loads::{LoadReport, LoadReports, LoadsTaken};
pub use pushes::{Push, Pushed};

/// How long the first probes have before last-good health is gone by.
const MEMORY_PATIENCE: Duration = Duration::from_millis(500);

/// The state of a node; only the control loop holds it.
pub struct State {
    world: Arc<World>,
    machines: Vec<Machine>,
    /// The machines' verdicts, for judging.
    verdicts: Vec<Verdict>,
    /// By target: seconds until observations can change its verdict; empty where no TTL follows health.
    steady_for: Vec<u16>,
    /// By target: when it recovered last, where that is to be gone by.
    recovered: Vec<Option<Tick>>,
    standings: Table,
    /// Layouts to judge before the next publish.
    touched: BTreeSet<LayoutId>,
    /// Layouts whose standings change with time alone.
    agenda: Agenda,
    /// Checks that are not believed now.
    doubts: Doubts,
    /// Whether this node sees the world.
    sight: Sight,
    /// Whether it can look at all.
    lookout: Lookout,
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
    /// What is measured of round-trip times.
    latency: View,
    /// Whether that is to be published.
    is_measured_anew: bool,
    /// What DNS cookies are made with, unless the configuration says it.
    secrets: Arc<Secrets>,
    /// Where samples of round-trip times go, and questions about them.
    gauge: Option<Arc<Inbox>>,
    burst: Burst,
    /// What instances and their agents report.
    loads: Loads,
    /// What the operator says.
    desk: Desk,
    /// By target: its verdict is held by a freeze, whatever its machine says; empty = none is.
    frozen: Vec<bool>,
    /// The same, also where its check is not believed.
    held: Vec<bool>,
    /// Unix seconds.
    loaded_at: u64,
    reloads: u64,
    reload_problems: Vec<String>,
    /// What is doubtful about the last reload that was accepted.
    reload_warnings: Vec<String>,
    /// Geo files whose newest version is not served.
    geo_refused: Vec<GeoRefusal>,
    geo_reloads: u64,
}

impl State {
    /// A state that serves `world`, all of whose targets are unknown; `prober` probes them already.
    #[must_use]
    pub fn new(world: Arc<World>, published: Published, prober: Prober, now: Tick) -> State {
        let mut state = State {
            machines: Vec::new(),
            verdicts: Vec::new(),
            steady_for: Vec::new(),
            recovered: Vec::new(),
            standings: Table::default(),
            touched: BTreeSet::new(),
            agenda: Agenda::default(),
            doubts: Doubts::default(),
            sight: Sight::default(),
            lookout: Lookout::default(),
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
            latency: View::default(),
            is_measured_anew: false,
            secrets: Arc::default(),
            gauge: None,
            burst: Burst::default(),
            loads: Loads::new(now),
            desk: Desk::default(),
            frozen: Vec::new(),
            held: Vec::new(),
            loaded_at: unix_seconds(),
            reloads: 0,
            reload_problems: Vec::new(),
            reload_warnings: Vec::new(),
            geo_refused: Vec::new(),
            geo_reloads: 0,
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
        self.weigh_all(clock.now);
        for &id in world.watched() {
            let before = |group, family| {
                let lost_at = recall.lost_at(&world, id, group, family);
                let is = self.standings.get(id).get(group, family).map(|selection| selection.presence);
                let presence = is.filter(|is| *is == Presence::Latched).unwrap_or_default();
                (Some(Before { had_eligible: false, lost_at, presence }), None)
            };
            self.standings.set(id, world.judge_after(id, self.health_of(id, clock.now), before));
        }
        self.is_new = true;
        self.memory_until = (known == self.machines.len()).then(|| clock.now.plus(MEMORY_PATIENCE));
        known
    }

    /// Has health noted from now on, for the next start.
    pub fn keep_health(&mut self, notes: Arc<Notes>, now: Tick) {
        notes.begin(&self.world, self.memories(now));
        self.last_good = Some(notes);
    }

    /// What is known of each target, with the verdict that is gone by.
    fn memories(&self, now: Tick) -> Vec<Memory> {
        let known = self.machines.iter().zip(&self.verdicts);
        known.map(|(machine, &verdict)| Memory { verdict, ..machine.memory(now) }).collect()
    }

    /// Has what happens noted from now on.
    pub fn keep_journal(&mut self, journal: Journal) {
        self.journal = journal;
    }

    /// Goes by round-trip times that are `measured`, and by those that `gauge` sends from now on.
    pub fn measure_latency(&mut self, gauge: Arc<Inbox>, measured: Arc<Measured>) {
        self.gauge = Some(gauge);
        self.go_by(measured);
    }

    /// Makes DNS cookies with these secrets from now on, unless the configuration says which.
    pub fn bake(&mut self, secrets: Arc<Secrets>) {
        self.secrets = secrets;
        self.is_new = true;
    }

    fn go_by(&mut self, measured: Arc<Measured>) {
        self.latency = View::of(measured, self.world.fleet(), self.world.latency.explore);
        self.is_measured_anew = true;
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

    /// How long until something is to be judged anew without further observations; `None` when nothing is.
    #[must_use]
    pub fn judging_due(&self, now: Tick) -> Option<Duration> {
        let next = [self.agenda.next(), self.doubts.next(), self.loads.next()].into_iter().flatten().min();
        next.map(|due| due.since(now))
    }

    /// What is due by time is judged at the next publish.
    pub fn take_due(&mut self, now: Tick) {
        while let Some(layout) = self.agenda.pop(now) {
            self.touched.insert(layout);
        }
        while let Some(check) = self.doubts.pop(now) {
            self.note_held();
            self.believe(check, now);
        }
        while let Some(check) = self.doubts.overdue(now) {
            self.ask(check, true, now);
        }
        self.take_due_loads(now);
    }

    /// Whether the verdict of a target is held, whatever its probes see.
    fn is_withheld(&self, id: TargetId) -> bool {
        self.is_frozen(id) || self.is_distrusted(id) || self.is_unseen(id)
    }

    /// Notes for how long the verdict of a target lasts at least, for TTLs that follow health (SPEC 6); one that is held
    /// may be wrong now.
    fn weigh(&mut self, id: TargetId, now: Tick) {
        if self.steady_for.is_empty() {
            return;
        }
        let check = self.world.fleet().target(id).check;
        let policy = &self.world.checks[check.0 as usize].policy;
        let is_held = self.is_withheld(id) || self.doubts.waits(check, id);
        let time = match self.machines[id.0 as usize].steady_for(policy, now) {
            _ if is_held => 0,
            None => STEADY,
            Some(time) => u16::try_from(time.as_secs()).unwrap_or(STEADY).clamp(1, STEADY - 1),
        };
        if std::mem::replace(&mut self.steady_for[id.0 as usize], time) != time {
            let layouts = self.world.layouts_of(id);
            self.touched.extend(layouts.filter(|&layout| self.world.steering.layout(layout).ttl_varies));
        }
    }

    fn weigh_all(&mut self, now: Tick) {
        (0..self.steady_for.len() as u32).for_each(|id| self.weigh(TargetId(id), now));
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
        self.is_new || self.is_measured_anew || !self.touched.is_empty()
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
            Change::Geo(next, news, done) => {
                self.renew_geo(*next, news, now);
                // Whoever asked may be gone.
                let _ = done.send(());
            }
            Change::Found(next, names, done) => {
                self.take_found(*next, &names, now);
                // Whoever asked may be gone.
                let _ = done.send(());
            }
            Change::Zones(next, names, done) => {
                self.take_zones(*next, &names, now);
                // Whoever asked may be gone.
                let _ = done.send(());
            }
            Change::GeoRefused(refused) => self.refuse_geo(refused),
            Change::Status(reply) => {
                let _ = reply.send(self.status(now));
            }
            Change::Override(order) => self.order(*order, now),
            Change::Push(push) => self.push(*push),
            Change::Load(reports) => self.take_loads(reports, now),
            Change::Overrides(reply) => {
                let _ = reply.send(self.desk.shown());
            }
            Change::Look(look) => self.look(*look, now),
            // Without a gauge the question is dropped, which answers it.
            Change::Latency(ask) => {
                if let Some(gauge) = &self.gauge {
                    gauge.ask(*ask);
                }
            }
            Change::Measured(measured) => self.go_by(measured),
            Change::Cookies(secrets) => self.bake(secrets),
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
        let before = self.sight.has_canaries().then(|| machine.memory(now));
        let was_stale = machine.stale();
        let heard = report.heard();
        let transition = machine.observe(policy, now, &observation);
        let (pace, held) = (machine.pace(policy), machine.held(policy));
        let fast = policy.fast_interval;
        let is_held = self.is_unseen(observation.target) || self.is_frozen(observation.target);
        self.look_out(&observation, was_stale);
        let transition = match before {
            Some(before) => {
                self.look_around(&observation);
                self.believed(&observation, transition, before, now)
            }
            None => transition,
        };
        report.next(if self.sight.is_urgent(observation.target) { fast } else { pace });
        if let Some(transition) = transition {
            self.turn(observation.target, &transition, now);
        } else if held && !is_held {
            self.release_if_needed(observation.target, now);
        }
        let check = self.world.fleet().target(observation.target).check;
        if self.doubts.asks_again(check, observation.outcome == Outcome::Pass, now) {
            self.ask(check, false, now);
        }
        self.weigh(observation.target, now);
        self.hear(observation.target, heard, now);
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
        let would_help = self.world.layouts_of(target).any(|layout| {
            let health = Health { verdicts: &verdicts, ..self.health_of(layout, now) };
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
        let judged = self.verdicts[id.0 as usize];
        if self.is_frozen(id) && judged != Verdict::Unknown {
            if self.burst.allows(now) {
                let (who, new) = (status::describe_target(&self.world, id), status::word(transition.to));
                tracing::warn!("{who}: {new} by its check, frozen {}: {}", status::word(judged), transition.reason);
            }
            return;
        }
        if !self.is_doubted(id, transition, now) {
            self.turn_at_last(id, transition, now);
        }
    }

    /// A verdict that changed is published.
    fn turn_at_last(&mut self, id: TargetId, transition: &Transition, now: Tick) {
        self.verdicts[id.0 as usize] = transition.to;
        let recovers = (transition.from, transition.to) == (Verdict::Down, Verdict::Up) && self.has_company(id);
        self.recovered[id.0 as usize] = recovers.then_some(now);
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
        self.weigh(id, now);
    }

    /// Whether somebody else of its region serves, so that an instance need not have its whole weight at once.
    fn has_company(&self, id: TargetId) -> bool {
        let owners: Vec<InstanceId> = self.world.owners_of(id).collect();
        self.world.layouts_of(id).any(|layout| {
            let groups = self.world.steering.layout(layout).groups.iter().enumerate();
            let of_owners = groups.filter(|(_, group)| group.members.iter().any(|member| owners.contains(member)));
            let mut selections = of_owners.flat_map(|(at, _)| {
                Family::BOTH.into_iter().filter_map(move |family| self.standings.get(layout).get(at, family))
            });
            selections.any(|one| one.eligible.entries.iter().any(|entry| !owners.contains(&entry.instance)))
        })
    }

    /// Judges what was touched and publishes a snapshot that shares everything else.
    pub fn publish(&mut self, now: Tick) {
        self.serial += 1;
        let touched = std::mem::take(&mut self.touched);
        for &layout in &touched {
            let judged = self.world.judge(layout, self.health_of(layout, now), Some(self.standings.get(layout)));
            self.stand(layout, judged, now);
        }
        self.judge_apart(&touched, now);
        let is_new = std::mem::take(&mut self.is_new);
        self.is_measured_anew = false;
        let latency = self.latency.clone();
        let snapshot = self.world.freeze(self.standings.clone(), self.serial);
        let secrets = self.world.cookies.secrets.as_ref().unwrap_or(&self.secrets);
        let snapshot = Snapshot { latency, secrets: Arc::clone(secrets), blind: self.sight.frozen(), ..snapshot };
        self.retired.push(self.published.swap(Arc::new(snapshot)));
        if let Some(notes) = &self.last_good {
            notes.judged(&self.standings);
        }
        self.settle();
        self.desk.acknowledge(&self.world);
        self.desk.keep_up(now);
        if is_new {
            let watched = self.world.watched().iter().copied();
            let all: BTreeSet<LayoutId> = watched.chain(touched).collect();
            self.watch_fail_open(all, now);
        } else {
            self.watch_fail_open(touched, now);
        }
    }

    /// Takes judged standings in.
    fn stand(&mut self, layout: LayoutId, judged: Standings, now: Tick) {
        self.agenda.set(layout, judged.due());
        self.tell_of_returns(layout, &judged, now);
        self.note_latches(layout, &judged);
        self.standings.set(layout, judged);
    }

    /// A line for each region that is lost or on its way back.
    fn tell_of_returns(&mut self, id: LayoutId, judged: &Standings, now: Tick) {
        let world = Arc::clone(&self.world);
        let (layout, how) = (world.steering.layout(id), world.returns(id));
        let pool = &world.fleet().pool(layout.pool).name;
        let whose = world.latching(id).map_or_else(|| format!("pool/{pool}"), |service| format!("service/{service}"));
        for (at, group) in layout.groups.iter().enumerate() {
            for family in Family::BOTH {
                let presence = |standings: &Standings| standings.get(at, family).map(|selection| selection.presence);
                let (Some(before), Some(after)) = (presence(self.standings.get(id)), presence(judged)) else {
                    continue;
                };
                let Some(what) = after.told_after(before, how) else { continue };
                if self.burst.allows(now) {
                    tracing::info!("{whose} in region/{} ({family}): {what}", group.label(world.fleet()));
                }
            }
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

    /// What a layout is judged by: with the overrides of its service, where it is for one alone.
    fn health_of(&self, layout: LayoutId, now: Tick) -> Health<'_> {
        self.health_under(self.desk.compiled(), layout, now)
    }

    /// The same, if these overrides were in force.
    fn health_under<'a>(&'a self, compiled: &'a Compiled, layout: LayoutId, now: Tick) -> Health<'a> {
        let service = self.world.steering.layout(layout).service;
        let operator = service.map_or_else(|| compiled.operator(), |service| compiled.operator_for(service));
        Health { operator, ..self.health(now) }
    }

    fn health(&self, now: Tick) -> Health<'_> {
        let grace_over = self.grace_until.is_none();
        Health {
            verdicts: &self.verdicts,
            down: &[],
            steady_for: &self.steady_for,
            operator: self.desk.operator(),
            reported: self.loads.reported(),
            held: &self.held,
            recovered: &self.recovered,
            unresolved: Verdict::Unknown,
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
            if steered.configured.service.is_derived() {
                continue;
            }
            let now = Family::BOTH.map(|family| walk::is_all_down(steering, &self.standings, service, family));
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
        self.loaded_at = unix_seconds();
        self.reloads += 1;
        self.reload_problems.clear();
        self.geo_refused.clear();
        self.reload_warnings = std::mem::take(&mut next.warnings);
        self.reload_warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
        let record = Record::reload(&next.world, &self.reload_warnings);
        self.follow(next, vec![record], now);
    }

    /// Serves the same configuration over other geo data: what was said of reloads still holds.
    fn renew_geo(&mut self, next: Succession, news: GeoNews, now: Tick) {
        self.refuse_geo(news.refused);
        self.geo_reloads += 1;
        self.follow(next, news.taken.iter().map(|file| Record::geo(file, "taken", "")).collect(), now);
    }

    /// Serves the same configuration over other addresses behind CNAMEs.
    fn take_found(&mut self, next: Succession, names: &[Name], now: Tick) {
        let record = |name| {
            let of = |world: &World| world.fleet().found(name).collect::<Vec<IpAddr>>();
            Record::target(name, [&of(&self.world), &of(&next.world)])
        };
        let records = names.iter().map(record).collect();
        self.follow(next, records, now);
    }

    /// Serves the same configuration over other data of these zones.
    fn take_zones(&mut self, next: Succession, names: &[Name], now: Tick) {
        let record = |name| Record::zone(name, [self.world.serial_of(name), next.world.serial_of(name)]);
        let records = names.iter().map(record).collect();
        self.follow(next, records, now);
    }

    /// Notes which geo files are not served as they are now; what is new among it goes to the journal.
    fn refuse_geo(&mut self, refused: Vec<GeoRefusal>) {
        for refusal in refused.iter().filter(|refusal| !self.geo_refused.contains(refusal)) {
            self.journal.note(|| Record::geo(&refusal.file, "refused", &refusal.reason));
        }
        self.geo_refused = refused;
    }

    fn follow(&mut self, mut next: Succession, records: Vec<Record>, now: Tick) {
        self.forget_unseen(None, now);
        let probed_as: Vec<Option<TargetId>> = next.targets.iter().map(|origin| origin.probed_as()).collect();
        self.prober.update(&next.world.fleet().targets, &next.world.checks, &probed_as);
        let (old, standings) = self.succeed(&mut next, now);
        self.renew_grace(now);
        self.judge_watched(&next, &standings, now);
        self.forget_latches();
        // What was touched before is judged anew with all else, and its numbers mean nothing now.
        self.touched = self.overridden().into_iter().collect();
        self.touch_loaded();
        if let Some(notes) = &self.last_good {
            notes.reloaded(&self.world, self.memories(now));
        }
        records.into_iter().for_each(|record| self.journal.note(|| record));
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
        self.take_back_falls(|_| true, now);
        let machine = |id: TargetId| self.machines[id.0 as usize].clone();
        let machines = next.targets.iter().map(|&origin| match origin {
            Origin::New => Machine::new(now),
            Origin::Same(id) => machine(id),
            Origin::Edited(id) | Origin::Near(id) => machine(id).adopt(),
        });
        let mut machines: Vec<Machine> = machines.collect();
        let mut verdicts: Vec<Verdict> = machines.iter().map(Machine::verdict).collect();
        for ((origin, machine), verdict) in next.targets.iter().zip(&mut machines).zip(&mut verdicts) {
            let known = origin.known().filter(|id| self.doubts.hold(self.world.fleet().target(*id).check));
            let Some(id) = known else { continue };
            *verdict = self.verdicts[id.0 as usize];
            if !matches!(origin, Origin::Same(_)) {
                // The edit may be what mends it.
                *machine = Machine::restored(Memory { verdict: *verdict, since: now, ..Memory::default() }, now);
            }
        }
        self.doubts.renumber(&self.world, &next.world);
        let fleets = (self.world.fleet(), next.world.fleet());
        let speaks = |id: TargetId| next.world.is_agent(id);
        self.loads.renumber(fleets, &next.targets, speaks, |id| next.world.owners_of(id), now);
        let recovered = |origin: &Origin| self.recovered[origin.probed_as()?.0 as usize];
        self.recovered = next.targets.iter().map(recovered).collect();
        let held = std::mem::replace(&mut self.verdicts, verdicts);
        self.machines = machines;
        let fails_open = |before: &Option<ServiceId>| before.map(|id| self.failing_open[id.0 as usize]);
        self.failing_open = next.services.iter().map(|before| fails_open(before).unwrap_or_default()).collect();
        let world = std::mem::replace(&mut self.world, Arc::clone(&next.world));
        let standings = std::mem::replace(&mut self.standings, std::mem::take(&mut next.standings));
        self.go_by(Arc::clone(&self.latency.measured));
        if let Some(gauge) = &self.gauge {
            gauge.reloaded(&self.world);
        }
        self.follow_sight();
        self.desk.recompile(&self.world);
        self.frozen = self.freeze();
        self.hold(&held, &next.targets);
        let ttl_varies = self.world.steering.layouts.iter().any(|layout| layout.ttl_varies);
        self.steady_for = if ttl_varies { vec![STEADY; self.machines.len()] } else { Vec::new() };
        self.weigh_all(now);
        self.note_held();
        (world, standings)
    }

    /// Judges all that some verdict touches. Times of loss of groups that stay come from the standings `before`.
    fn judge_watched(&mut self, next: &Succession, before: &Table, now: Tick) {
        let mut groups = &next.groups[..];
        self.agenda = Agenda::default();
        let world = Arc::clone(&self.world);
        for &id in world.watched() {
            let of_layout;
            (of_layout, groups) = groups.split_at(world.steering.layout(id).groups.len());
            let known = |group: usize, family: Family| {
                let (layout, at) = of_layout[group]?;
                before.get(layout).get(at, family).map(Selection::before)
            };
            let judged = world.judge_after(id, self.health_of(id, now), |group, family| (known(group, family), None));
            self.stand(id, judged, now);
        }
        self.is_new = true;
    }

    fn view(&self, now: Tick) -> status::View<'_> {
        status::View {
            world: &self.world,
            machines: &self.machines,
            verdicts: &self.verdicts,
            standings: &self.standings,
            failing_open: &self.failing_open,
            doubts: &self.doubts,
            sight: &self.sight,
            overrides: self.desk.shown(),
            latches: self.desk.latches(),
            compiled: self.desk.compiled(),
            loads: &self.loads,
            now,
        }
    }

    fn status(&self, now: Tick) -> Status {
        let view = self.view(now);
        Status {
            serial: self.serial,
            loaded_at: self.loaded_at,
            reloads: self.reloads,
            problems: self.reload_problems.clone(),
            warnings: self.reload_warnings.clone(),
            geo_reloads: self.geo_reloads,
            geo: status::geo(&self.world, &self.geo_refused),
            last_good_at: self.last_good.as_ref().and_then(|notes| notes.written_ms()).map(|ms| ms / 1000),
            ..status::status(view)
        }
    }
}
