//! One world after another: where the health of what stays comes from. It is found out while the new world is compiled,
//! in a thread that nobody waits for, so that the control loop has only to move it.
//!
//! ```text
//! target of the new world   same check, address, port, host   ─► health and probes go on
//!                           same, but its check was edited    ─► verdict stays, evidence begins anew (SPEC 2.5)
//!                           only the address is the same      ─► the same; it is probed from anew
//! group                     same pool, same regions           ─► time of loss, how much it is in use; where regions latch,
//!                                                                that of the same service
//! service                   same name                         ─► whether it fails open
//! ```

use std::collections::HashMap;
use std::iter;
use std::net::IpAddr;
use std::sync::Arc;

use super::{World, editions};
use crate::fleet::{Target, TargetId};
use crate::probe::Check;
use crate::steering::plan::{Group, Layout};
use crate::steering::{LayoutId, ServiceId, Table};

/// A world that is to be served, and what it takes over.
#[derive(Debug)]
pub struct Succession {
    /// The world.
    pub(super) world: Arc<World>,
    /// Standings while nothing is known, shared with nobody: changing them copies nothing.
    pub(super) standings: Table,
    /// By `TargetId`.
    pub(super) targets: Vec<Origin>,
    /// Group by group of the watched layouts.
    pub(super) groups: Vec<Option<(LayoutId, usize)>>,
    /// By `ServiceId`.
    pub(super) services: Vec<Option<ServiceId>>,
    /// What is doubtful about it, though it is served.
    pub(super) warnings: Vec<String>,
}

/// Where the health of a target comes from: numbers are those of the world before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// Nothing is known of it.
    New,
    /// The same target.
    Same(TargetId),
    /// The same target, its check was edited.
    Edited(TargetId),
    /// Another target of the same address, if there is one by a check of the same name.
    Near(TargetId),
}

impl Origin {
    /// The target whose probes may go on.
    pub(super) fn probed_as(self) -> Option<TargetId> {
        match self {
            Origin::New | Origin::Near(_) => None,
            Origin::Same(id) | Origin::Edited(id) => Some(id),
        }
    }

    /// The target of before from which it has its health.
    pub(super) fn known(self) -> Option<TargetId> {
        match self {
            Origin::New => None,
            Origin::Same(id) | Origin::Edited(id) | Origin::Near(id) => Some(id),
        }
    }
}

impl Succession {
    /// A world that follows none.
    #[must_use]
    pub fn first(world: Arc<World>) -> Succession {
        let (targets, services) = (world.fleet().targets.len(), world.steering.services.len());
        let groups = watched_groups(&world).count();
        Succession {
            standings: world.base().unshared(),
            targets: vec![Origin::New; targets],
            groups: vec![None; groups],
            services: vec![None; services],
            warnings: Vec::new(),
            world,
        }
    }

    /// A world that follows the one that is served.
    #[must_use]
    pub fn new(world: Arc<World>, before: &World) -> Succession {
        let known = Known::new(before);
        let targets = world.fleet().targets.iter().map(|target| known.origin(target, &world)).collect();
        let before_groups = groups_by_name(before);
        let groups = watched_groups(&world)
            .map(|(id, at)| {
                let name = group_name(&world, world.steering.layout(id), at);
                let own = world.latching(id).and_then(|service| before_groups.get(&(Some(service), name.clone())));
                // What another service has to itself is no business of this one.
                let is_shared = |&&(layout, _): &&(LayoutId, usize)| {
                    world.latching(id).is_none() || before.latching(layout).is_none()
                };
                own.or_else(|| before_groups.get(&(None, name)).filter(is_shared)).copied()
            })
            .collect();
        let before_services: HashMap<&str, ServiceId> =
            (0..).map(ServiceId).zip(&before.steering.services).map(|(id, one)| (&*one.configured.name, id)).collect();
        let services =
            world.steering.services.iter().map(|one| before_services.get(&*one.configured.name).copied()).collect();
        let warnings = editions::doubts(&before.editions, &world.editions);
        Succession { standings: world.base().unshared(), targets, groups, services, warnings, world }
    }

    /// The world.
    #[must_use]
    pub fn world(&self) -> &Arc<World> {
        &self.world
    }
}

/// The groups that some verdict touches, layout by layout.
pub(super) fn watched_groups(world: &World) -> impl Iterator<Item = (LayoutId, usize)> {
    let groups = |&id: &LayoutId| iter::repeat(id).zip(0..world.steering.layout(id).groups.len());
    world.watched().iter().flat_map(groups)
}

/// Groups by the service that has them to itself, if one has, and name; all of them without such a service too, as far
/// as names differ.
fn groups_by_name(world: &World) -> HashMap<(Option<&str>, GroupName<'_>), (LayoutId, usize)> {
    let mut groups = HashMap::new();
    for (id, at) in watched_groups(world) {
        let name = group_name(world, world.steering.layout(id), at);
        if let Some(service) = world.latching(id) {
            groups.insert((Some(service), name.clone()), (id, at));
        }
        groups.insert((None, name), (id, at));
    }
    groups
}

/// A pool's name and its group's regions: what makes a group the same over a reload.
pub(super) type GroupName<'w> = (&'w str, Vec<&'w str>);

pub(super) fn group_name<'w>(world: &'w World, layout: &Layout, at: usize) -> GroupName<'w> {
    let fleet = world.fleet();
    let Group { regions, .. } = &layout.groups[at];
    (&fleet.pool(layout.pool).name, regions.iter().map(|&region| &*fleet.region(region).name).collect())
}

/// Targets of the world before, to be found again.
struct Known<'w> {
    world: &'w World,
    exact: HashMap<Key<'w>, TargetId>,
    by_address: HashMap<IpAddr, Vec<TargetId>>,
}

/// What makes a target the same over a reload: the check's name, address, port and host.
pub(super) type Key<'w> = (&'w str, IpAddr, u16, Option<&'w str>);

impl<'w> Known<'w> {
    fn new(world: &'w World) -> Known<'w> {
        let targets = || (0..).map(TargetId).zip(&world.fleet().targets);
        let exact = targets().map(|(id, target)| (key(target, world), id)).collect();
        let mut by_address: HashMap<IpAddr, Vec<TargetId>> = HashMap::new();
        targets().for_each(|(id, target)| by_address.entry(target.address).or_default().push(id));
        Known { world, exact, by_address }
    }

    fn origin(&self, target: &Target, world: &World) -> Origin {
        let check = check(target, world);
        let before = |id: TargetId| check_of(id, self.world);
        if let Some(&id) = self.exact.get(&key(target, world)) {
            return if before(id) == check { Origin::Same(id) } else { Origin::Edited(id) };
        }
        let there = self.by_address.get(&target.address).map_or(&[][..], |ids| &ids[..]);
        let same_check = there.iter().find(|&&id| before(id).name == check.name);
        same_check.or(there.first()).map_or(Origin::New, |&id| Origin::Near(id))
    }
}

pub(super) fn key<'w>(target: &'w Target, world: &'w World) -> Key<'w> {
    (&check(target, world).name, target.address, target.port, target.host.as_deref())
}

fn check<'w>(target: &Target, world: &'w World) -> &'w Check {
    &world.checks[target.check.0 as usize]
}

fn check_of(id: TargetId, world: &World) -> &Check {
    check(world.fleet().target(id), world)
}
