//! What the operator wants of a state: orders planned, applied and ended (SPEC 8.2). Which override wins is decided in
//! `overrides`, how an order gets to the disk in `desk`.

use std::collections::BTreeSet;
use std::io;
use std::time::Duration;

use super::super::desk::{Applied, Order, Plan, Refusal, RefusalCode, What};
use super::super::drains;
use super::super::files::Kept;
use super::super::journal::{Kind, Record};
use super::super::latches::Latches;
use super::super::overrides::{Action, Compiled, Override, Overrides};
use super::super::store::Store;
use super::super::succession::Origin;
use super::super::world::Health;
use super::State;
use crate::fleet::{Family, InstanceId, TargetId};
use crate::health::Verdict;
use crate::steering::{LayoutId, ServiceId, Standings, Table, walk};
use crate::time::{Tick, unix_seconds};

/// Most instances that an answer to an order names.
const MOST_NAMED: usize = 1000;
/// A bit of the version of rosters that a service has to itself.
const APART: u64 = 1 << 60;
/// Most services that a refusal names in one line.
const MOST_NAMED_IN_A_LINE: usize = 10;

impl State {
    /// Keeps overrides in `store`, and puts in force those that it holds.
    pub fn keep_overrides(&mut self, store: Store, now: Tick) {
        let kept = store.load();
        let overrides = Overrides::restore(kept.overrides, now, unix_seconds());
        overrides.iter().for_each(|of| tracing::warn!("override in force since before the start: {of}"));
        self.desk.keep_in(store, Latches::of(kept.latches));
        self.put_in_force(overrides, now);
        self.latch_again(now);
    }

    /// Takes an order of the operator in; behind others, while one is written.
    pub(super) fn order(&mut self, order: Order, now: Tick) {
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
        let (mut overrides, mut applied, line) = self.desk.overrides().ordered(what, now)?;
        let target = what.target();
        if let What::Unlatch { service, region, .. } = what {
            let lifted = self.lifted(service, region)?;
            applied.resumed = lifted.iter().collect();
            let target = format!("service/{service}");
            return Ok(Plan { overrides, lifted, applied, target, line });
        }
        let named = drains::named(&self.world, target);
        if named.is_empty() && matches!(what, What::Set(_)) && !force {
            let hint = "see `waymark status` for names; --force keeps it for instances that are configured later";
            let noun = if target.starts_with("service/") { "service" } else { "instance" };
            return Err(Refusal::new(RefusalCode::NotFound, format!("{target} names no {noun}"), Some(hint)));
        }
        overrides.look_up(self.world.fleet(), self.world.steering.epoch);
        let compiled = overrides.compile(self.world.fleet(), self.world.services());
        applied.lost = self.loses(&compiled, now);
        if !applied.lost.is_empty() && !force {
            return Err(last_available(applied.lost));
        }
        self.tell_of(&named, &overrides, &compiled, &mut applied);
        Ok(Plan { overrides, lifted: Latches::default(), applied, target: target.into(), line })
    }

    /// The services that `next` would leave without the last region or instance that they have now (SPEC 8.2).
    fn loses(&self, next: &Compiled, now: Tick) -> Vec<String> {
        let touched: BTreeSet<LayoutId> = self.differing(next, self.desk.compiled()).into_iter().collect();
        let judged = |compiled: &Compiled| {
            let mut table = self.standings.clone();
            for &layout in &touched {
                let health = self.health_under(compiled, layout, now);
                table.set(layout, self.world.judge(layout, health, Some(self.standings.get(layout))));
            }
            table.set_apart(self.apart(&table, compiled, &touched, now));
            table
        };
        let (before, after) = (judged(self.desk.compiled()), judged(next));
        let steering = &self.world.steering;
        let services = touched.iter().flat_map(|&layout| self.world.services_of(layout));
        let services = services.filter(|&id| !steering.service(id).configured.service.is_derived());
        let losing = services.filter(|&id| {
            Family::BOTH.into_iter().any(|family| walk::takes_last(steering, &before, &after, id, family))
        });
        losing.map(|id| steering.service(id).configured.name.to_string()).collect()
    }

    /// The standings of services of which overrides say something, over those of their layouts in `table`; where nothing
    /// was touched, as they are.
    fn apart(
        &self,
        table: &Table,
        compiled: &Compiled,
        touched: &BTreeSet<LayoutId>,
        now: Tick,
    ) -> Vec<(ServiceId, Standings)> {
        let of_service = |id: ServiceId| {
            let layout = self.world.steering.service(id).layout;
            let known = self.standings.apart(id);
            if let Some(known) = known.filter(|_| !touched.contains(&layout)) {
                return (id, known.clone());
            }
            // Rotations must not take its rosters for those of its layout.
            let serial = self.serial | APART;
            let health = Health { operator: compiled.operator_for(id), serial, ..self.health(now) };
            (id, self.world.judge(layout, health, Some(known.unwrap_or_else(|| table.get(layout)))))
        };
        // Where a layout is for one service alone, its own standings are that service's.
        let shares = |&id: &ServiceId| {
            let layout = self.world.steering.service(id).layout;
            self.world.steering.layout(layout).service.is_none()
        };
        compiled.services().filter(shares).map(of_service).collect()
    }

    /// Judges the services of which overrides say something, where their layouts were touched.
    pub(super) fn judge_apart(&mut self, touched: &BTreeSet<LayoutId>, now: Tick) {
        if !self.standings.has_apart() && self.desk.compiled().services().next().is_none() {
            return;
        }
        let apart = self.apart(&self.standings, self.desk.compiled(), touched, now);
        for (id, standings) in &apart {
            if let Some(due) = standings.due() {
                self.agenda.hasten(self.world.steering.service(*id).layout, due);
            }
        }
        self.standings.set_apart(apart);
    }

    /// Names what a target names, and who holds it.
    fn tell_of(&self, named: &[InstanceId], overrides: &Overrides, compiled: &Compiled, applied: &mut Applied) {
        let fleet = self.world.fleet();
        applied.instances = named.iter().take(MOST_NAMED).map(|&id| fleet.instance_path(id)).collect();
        if applied.set.as_ref().is_some_and(Override::removes) {
            applied.caches_hold_s =
                applied.set.as_ref().and_then(|set| drains::caches_hold_s(&self.world, &set.target));
            return;
        }
        if applied.set.as_ref().is_some_and(|set| set.action == Action::Freeze) {
            return;
        }
        let all: Vec<&Override> = overrides.iter().collect();
        let out = named.iter().filter(|id| compiled.operator().of(**id, fleet.instance(**id), &[]).state.removes());
        let by: BTreeSet<usize> = out.flat_map(|&id| compiled.winners(fleet, id)).collect();
        let holds = by.into_iter().map(|at| all[at]).filter(|of| of.removes());
        applied.held_by = holds.cloned().collect();
    }

    /// Whether an order is being written.
    #[must_use]
    pub fn is_saving(&self) -> bool {
        self.desk.is_saving()
    }

    /// Waits until it is.
    pub async fn written(&mut self) -> io::Result<Kept> {
        self.desk.written().await
    }

    /// Applies the order that was written, and plans the next.
    pub fn end_saving(&mut self, written: io::Result<Kept>, now: Tick) {
        if let Some((mut plan, reply)) = self.desk.end_saving(written, now) {
            tracing::warn!("{}", plan.line);
            self.journal.note(|| Record::said(Kind::Override, &*plan.target, &plan.line));
            plan.overrides.end(now);
            self.put_in_force(plan.overrides, now);
            self.resume(&plan.lifted, now);
            self.desk.acknowledge_later(reply, plan.applied);
            if !self.is_dirty() {
                self.desk.acknowledge(&self.world);
            }
        }
        while let Some(order) = self.desk.next() {
            self.order(order, now);
        }
        self.desk.keep_up(now);
    }

    /// How long until an override ends, its end is to be announced, or a write that failed is tried again.
    #[must_use]
    pub fn overrides_due(&self, now: Tick) -> Option<Duration> {
        let retry = self.desk.retry_at().map(|at| at.since(now));
        self.desk.overrides().due(now).into_iter().chain(retry).min()
    }

    /// Ends overrides whose time is over, and announces the ends that are near.
    pub fn end_overrides(&mut self, now: Tick) {
        if let Some((left, over)) = self.desk.end_due(now) {
            for of in over {
                tracing::warn!("override has ended: {of}");
                self.journal.note(|| Record::said(Kind::Override, &*of.target, &format!("override has ended: {of}")));
            }
            self.put_in_force(left, now);
            self.desk.tidy();
        }
        self.desk.keep_up(now);
    }

    fn put_in_force(&mut self, overrides: Overrides, now: Tick) {
        let before = self.desk.set(overrides, &self.world);
        let touched = self.differing(&before, self.desk.compiled());
        self.touched.extend(touched);
        self.thaw(now);
        self.note_held();
        self.weigh_all(now);
    }

    /// The layouts of which some override says something.
    pub(super) fn overridden(&self) -> Vec<LayoutId> {
        if self.desk.compiled().is_silent() {
            Vec::new()
        } else {
            self.differing(self.desk.compiled(), &Compiled::default())
        }
    }

    /// The layouts of which these overrides say different things.
    fn differing(&self, a: &Compiled, b: &Compiled) -> Vec<LayoutId> {
        let services = a.differing_services(b).into_iter();
        let of_services = services.map(|id| self.world.steering.service(id).layout);
        let mut layouts: Vec<LayoutId> =
            self.world.layouts_with(|id| a.differs(b, self.world.fleet(), id)).into_iter().chain(of_services).collect();
        layouts.sort_unstable();
        layouts.dedup();
        layouts
    }

    /// Whether the verdict of a target is held.
    pub(super) fn is_frozen(&self, id: TargetId) -> bool {
        self.frozen.get(id.0 as usize).is_some_and(|&frozen| frozen)
    }

    /// By target: whether an instance that it is probed for is frozen. Empty where nothing is.
    pub(super) fn freeze(&self) -> Vec<bool> {
        let compiled = self.desk.compiled();
        if !compiled.is_any_frozen() {
            return Vec::new();
        }
        let targets = (0..self.world.fleet().targets.len() as u32).map(TargetId);
        targets.map(|id| self.world.owners_of(id).any(|owner| compiled.is_frozen(owner))).collect()
    }

    /// Judges by what checks say now where that was held, and is no longer.
    fn thaw(&mut self, now: Tick) {
        let frozen = self.freeze();
        let before = std::mem::replace(&mut self.frozen, frozen);
        for id in (0..before.len() as u32).map(TargetId).filter(|id| before[id.0 as usize]) {
            if !self.is_frozen(id) && !self.is_distrusted(id) {
                self.go_by_machine(id, now);
            }
        }
    }

    /// Verdicts of frozen targets stay as they were judged `before`.
    pub(super) fn hold(&mut self, before: &[Verdict], origins: &[Origin]) {
        for (at, origin) in origins.iter().enumerate().filter(|(at, _)| self.frozen.get(*at) == Some(&true)) {
            if let Origin::Same(id) | Origin::Edited(id) | Origin::Near(id) = origin {
                self.verdicts[at] = before[id.0 as usize];
            }
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
