//! What the operator wants of a state: orders planned, applied and ended (SPEC 8.2). Which override wins is decided in
//! `overrides`, how an order gets to the disk in `desk`.

use std::collections::BTreeSet;
use std::io;
use std::time::Duration;

use super::super::desk::{Applied, Order, Plan, Refusal, RefusalCode, What};
use super::super::journal::{Kind, Record};
use super::super::overrides::{Action, Compiled, Override, Overrides};
use super::super::store::Store;
use super::super::succession::Origin;
use super::super::world::Health;
use super::State;
use crate::fleet::{Family, InstanceId, TargetId};
use crate::health::Verdict;
use crate::steering::{LayoutId, walk};
use crate::time::{Tick, unix_seconds};

/// Most instances that an answer to an order names.
const MOST_NAMED: usize = 1000;
/// Most services that a refusal names in one line.
const MOST_NAMED_IN_A_LINE: usize = 10;

impl State {
    /// Keeps overrides in `store`, and puts in force those that it holds.
    pub fn keep_overrides(&mut self, store: Store, now: Tick) {
        let overrides = Overrides::restore(store.load(), now, unix_seconds());
        overrides.iter().for_each(|of| tracing::warn!("override in force since before the start: {of}"));
        self.desk.keep_in(store);
        self.put_in_force(overrides);
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
        Ok(Plan { overrides, applied, target: target.into(), line })
    }

    fn named(&self, target: &str) -> Vec<InstanceId> {
        let fleet = self.world.fleet();
        if target == "all" { (0..fleet.instances.len() as u32).map(InstanceId).collect() } else { fleet.named(target) }
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

    /// The longest time that a cache may keep answers with one of these instances, seconds.
    fn caches_hold_s(&self, named: &[InstanceId]) -> Option<u32> {
        let named: BTreeSet<InstanceId> = named.iter().copied().collect();
        let layouts = self.world.layouts_with(|id| named.contains(&id));
        let services = layouts.into_iter().flat_map(|layout| self.world.services_of(layout));
        services.map(|service| self.world.steering.service(service).manner.ttl).max()
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
            self.journal.note(|| Record::said(Kind::Override, &*plan.target, &plan.line));
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

    /// How long until an override ends or its end is to be announced.
    #[must_use]
    pub fn overrides_due(&self, now: Tick) -> Option<Duration> {
        self.desk.overrides().due(now)
    }

    /// Ends overrides whose time is over, and announces the ends that are near.
    pub fn end_overrides(&mut self, now: Tick) {
        if let Some((left, over)) = self.desk.end_due(now) {
            for of in over {
                tracing::warn!("override has ended: {of}");
                self.journal.note(|| Record::said(Kind::Override, &*of.target, &format!("override has ended: {of}")));
            }
            self.put_in_force(left);
            self.desk.tidy();
        }
    }

    fn put_in_force(&mut self, overrides: Overrides) {
        let before = self.desk.set(overrides, self.world.fleet());
        let touched = self.differing(&before, self.desk.compiled());
        self.touched.extend(touched);
        self.thaw();
    }

    /// The layouts of which some override says something.
    pub(super) fn overridden(&self) -> Vec<LayoutId> {
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
    fn thaw(&mut self) {
        let frozen = self.freeze();
        let before = std::mem::replace(&mut self.frozen, frozen);
        for id in (0..before.len() as u32).map(TargetId).filter(|id| before[id.0 as usize]) {
            let verdict = self.machines[id.0 as usize].verdict();
            let is_held = self.is_frozen(id) || self.is_distrusted(id);
            if !is_held && std::mem::replace(&mut self.verdicts[id.0 as usize], verdict) != verdict {
                self.touched.extend(self.world.layouts_of(id));
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
