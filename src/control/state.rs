//! What runs now: the compiled configuration, a health machine for each target, the standings published last.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::Change;
use super::log::Burst;
use super::status::{self, Status};
use super::world::{Health, World};
use crate::fleet::{CheckId, Family, InstanceId, Target, TargetId};
use crate::health::{Machine, Standing, Transition, Verdict};
use crate::probe::{Check, Prober, Report};
use crate::snapshot::Published;
use crate::steering::plan::{Group, Layout};
use crate::steering::{LayoutId, Standings, walk};
use crate::time::{Tick, unix_seconds};

/// The state of a node; only the control loop holds it.
pub struct State {
    world: World,
    machines: Vec<Machine>,
    /// The machines' verdicts, for judging.
    verdicts: Vec<Verdict>,
    standings: Vec<Standings>,
    /// Layouts to judge before the next publish.
    touched: BTreeSet<LayoutId>,
    /// By service: which families fail open.
    failing_open: Vec<[bool; 2]>,
    grace_over: bool,
    serial: u64,
    published: Published,
    prober: Prober,
    settled: watch::Sender<bool>,
    burst: Burst,
    /// Unix seconds.
    loaded_at: u64,
    reloads: u64,
    reload_problems: Vec<String>,
}

impl State {
    /// A state that serves `world`, all of whose targets are unknown; `prober` probes them already.
    #[must_use]
    pub fn new(world: World, published: Published, prober: Prober, now: Tick) -> State {
        let machines: Vec<Machine> = world.fleet().targets.iter().map(|_| Machine::new(now)).collect();
        let mut state = State {
            verdicts: vec![Verdict::Unknown; machines.len()],
            machines,
            standings: Vec::new(),
            touched: BTreeSet::new(),
            failing_open: Vec::new(),
            grace_over: false,
            serial: published.load().serial,
            published,
            prober,
            settled: watch::Sender::new(false),
            burst: Burst::default(),
            loaded_at: unix_seconds(),
            reloads: 0,
            reload_problems: Vec::new(),
            world,
        };
        state.adopt_world(&HashMap::new(), now);
        state
    }

    /// Turns true when the first round is over and published: every target has an observation, or `startup-grace` has
    /// ended. From then on answers are right.
    #[must_use]
    pub fn settled(&self) -> watch::Receiver<bool> {
        self.settled.subscribe()
    }

    /// How long unknown targets do not count.
    #[must_use]
    pub fn startup_grace(&self) -> Duration {
        self.world.server.startup_grace
    }

    /// Whether that time is over.
    #[must_use]
    pub fn grace_over(&self) -> bool {
        self.grace_over
    }

    /// Unknown targets count from now on.
    pub fn end_grace(&mut self) {
        self.grace_over = true;
        self.touch_all();
        if !*self.settled.borrow() {
            let grace = self.startup_grace();
            tracing::warn!("some targets have no observation after {grace:?}; answering without them");
        }
        self.settle();
    }

    /// Whether there is something to publish.
    #[must_use]
    pub fn is_dirty(&self) -> bool {
        !self.touched.is_empty()
    }

    /// Takes a change in. What it touches is judged at the next [`State::publish`].
    pub fn apply(&mut self, change: Change, now: Tick) {
        match change {
            Change::Reload(world, done) => {
                self.reload(*world, now);
                // Whoever asked may be gone.
                let _ = done.send(());
            }
            Change::ReloadFailed(problems) => self.reload_problems = problems,
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

    /// Lifts a hold-down that alone keeps a region from being available (SPEC 2.2).
    fn release_if_needed(&mut self, target: TargetId, now: Tick) {
        let of_instance = |id: &InstanceId| {
            self.world.fleet().instance(*id).addresses.iter().any(|address| address.targets.contains(&target))
        };
        let needed = self.world.layouts_of(target).iter().any(|&layout| {
            let groups = &self.world.steering.layout(layout).groups;
            let mut standings = groups.iter().zip(self.standings[layout.0 as usize].iter());
            standings.any(|(group, standing)| {
                group.members.iter().any(of_instance)
                    && standing.iter().any(|one| !one.allowed.is_empty() && !one.available)
            })
        });
        if !needed {
            return;
        }
        let policy = &self.world.checks[self.world.fleet().target(target).check.0 as usize].policy;
        if let Some(transition) = self.machines[target.0 as usize].release_hold(policy, now) {
            self.turn(target, &transition, now);
        }
    }

    /// A verdict changed.
    fn turn(&mut self, id: TargetId, transition: &Transition, now: Tick) {
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
            self.judge(layout, now);
        }
        self.published.store(Arc::new(self.world.freeze(self.standings.clone(), self.serial)));
        self.settle();
        self.watch_fail_open(&touched);
    }

    /// Ends the first round, once what it found is published.
    fn settle(&mut self) {
        if *self.settled.borrow() || self.is_dirty() {
            return;
        }
        if self.grace_over || self.machines.iter().all(Machine::observed) {
            self.settled.send_replace(true);
        }
    }

    fn judge(&mut self, layout: LayoutId, now: Tick) {
        let index = layout.0 as usize;
        let (verdicts, serial) = (&self.verdicts, self.serial);
        let health = Health { verdicts, down: &[], grace_over: self.grace_over, now, serial };
        self.standings[index] = self.world.judge(layout, health, Some(&self.standings[index]));
    }

    /// One warning when a service begins to answer though nothing works, one line when that ends.
    fn watch_fail_open(&mut self, touched: &BTreeSet<LayoutId>) {
        let steering = &self.world.steering;
        for (index, steered) in steering.services.iter().enumerate() {
            if !touched.contains(&steered.layout) {
                continue;
            }
            let now = Family::BOTH.map(|family| walk::is_all_down(steering, &self.standings, steered, family));
            let before = std::mem::replace(&mut self.failing_open[index], now);
            let name = &steered.name;
            match (before.contains(&true), now.contains(&true)) {
                (false, true) if *self.settled.borrow() => {
                    tracing::warn!("service/{name}: all instances down for some clients, answering by when-all-down");
                }
                (true, false) => tracing::info!("service/{name}: serves healthy instances again"),
                _ => {}
            }
        }
    }

    /// Serves another configuration. Targets that stay keep their health.
    fn reload(&mut self, world: World, now: Tick) {
        let mut kept = self.take_machines();
        let before = self.standings_by_name();
        let machines: Vec<Machine> = world
            .fleet()
            .targets
            .iter()
            .map(|target| match kept.remove(&key(target, &world.checks)) {
                Some((machine, check)) if check == world.checks[target.check.0 as usize] => machine,
                Some((machine, _)) => machine.adopt(),
                None => Machine::new(now),
            })
            .collect();
        self.verdicts = machines.iter().map(Machine::verdict).collect();
        self.machines = machines;
        self.world = world;
        self.loaded_at = unix_seconds();
        self.reloads += 1;
        self.reload_problems.clear();
        self.prober.update(&self.world.fleet().targets, &self.world.checks);
        self.adopt_world(&before, now);
        self.publish(now);
    }

    /// The machines and checks of the targets so far, by what makes a target the same.
    fn take_machines(&mut self) -> HashMap<String, (Machine, Check)> {
        let machines = std::mem::take(&mut self.machines);
        let targets = self.world.fleet().targets.iter();
        let of = |(target, machine): (&Target, Machine)| {
            let check = self.world.checks[target.check.0 as usize].clone();
            (key(target, &self.world.checks), (machine, check))
        };
        targets.zip(machines).map(of).collect()
    }

    fn standings_by_name(&self) -> HashMap<GroupName, [Standing; 2]> {
        let mut by_name = HashMap::new();
        for (layout, standings) in self.world.steering.layouts.iter().zip(&self.standings) {
            for (group, standing) in layout.groups.iter().zip(standings.iter()) {
                by_name.insert(group_name(&self.world, layout, group), standing.clone());
            }
        }
        by_name
    }

    /// Sets up all that is sized by the world, and tells the prober what to probe.
    /// Times of loss of groups that stay come from `before`.
    fn adopt_world(&mut self, before: &HashMap<GroupName, [Standing; 2]>, now: Tick) {
        let steering = &self.world.steering;
        let of = |layout: &Layout| {
            let standing = |group| before.get(&group_name(&self.world, layout, group)).cloned().unwrap_or_default();
            layout.groups.iter().map(standing).collect()
        };
        self.standings = steering.layouts.iter().map(of).collect();
        self.failing_open = vec![[false; 2]; self.world.steering.services.len()];
        for layout in 0..self.standings.len() as u32 {
            self.judge(LayoutId(layout), now);
        }
        self.touch_all();
        self.settle();
    }

    fn touch_all(&mut self) {
        self.touched.extend((0..self.standings.len() as u32).map(LayoutId));
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
            ..status::status(view)
        }
    }
}

/// A pool's name and its group's regions: what makes a group the same over a reload.
type GroupName = (String, Vec<String>);

fn group_name(world: &World, layout: &Layout, group: &Group) -> GroupName {
    let fleet = world.fleet();
    let regions = group.regions.iter().map(|&region| fleet.region(region).name.clone()).collect();
    (fleet.pool(layout.pool).name.clone(), regions)
}

/// What makes a target the same over a reload: the check's name, address, port and host.
fn key(target: &Target, checks: &[Check]) -> String {
    let name = |id: CheckId| &checks[id.0 as usize].name;
    format!("{} {} {} {:?}", name(target.check), target.address, target.port, target.host)
}
