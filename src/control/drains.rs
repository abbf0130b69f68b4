//! What is left of those that were taken out (SPEC 8.2): how long caches may keep answers that name them, and what of it is
//! given out nevertheless.
//!
//! No answer is counted for that. Once a snapshot without an instance is published, no later batch of queries gets it: its
//! last answer is no younger than that, and a cache that keeps to the rules drops it after the longest TTL of the services
//! that could have given it out.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use super::overrides::{Compiled, Overrides, names_services};
use super::world::World;
use crate::fleet::{InstanceId, PoolId};
use crate::steering::ServiceId;
use crate::steering::service::WhenAllDown;

/// Most things that are named as given out nevertheless, for one override.
const MOST_NAMED: usize = 10;

/// Which services a target names, each with its name and its pool.
fn services_named<'w>(world: &'w World, target: &str) -> impl Iterator<Item = (ServiceId, &'w str, PoolId)> + use<'w> {
    let is_named = names_services(target);
    let all = (0..).map(ServiceId).zip(world.services()).take(world.steering.configured());
    all.filter(move |(_, (name, _))| is_named(name)).map(|(id, (name, pool))| (id, name, pool))
}

/// Which instances a target names; those of a service are its pool's.
pub(super) fn named(world: &World, target: &str) -> Vec<InstanceId> {
    let fleet = world.fleet();
    if target == "all" {
        return (0..fleet.instances.len() as u32).map(InstanceId).collect();
    }
    let pools: BTreeSet<PoolId> = services_named(world, target).map(|(_, _, pool)| pool).collect();
    let of_services = pools.into_iter().flat_map(|pool| fleet.pool(pool).instances.iter().copied());
    of_services.chain(fleet.named(target)).collect()
}

/// The longest time that a cache may keep answers with what a target names, seconds; `None` where nothing gives it out.
pub(super) fn caches_hold_s(world: &World, target: &str) -> Option<u32> {
    let services = &world.steering.services;
    let mut giving: BTreeSet<ServiceId> = if target.starts_with("service/") {
        services_named(world, target).map(|(id, ..)| id).collect()
    } else {
        let named: BTreeSet<InstanceId> = named(world, target).into_iter().collect();
        let layouts = world.layouts_with(|id| named.contains(&id));
        layouts.into_iter().flat_map(|layout| world.services_of(layout)).collect()
    };
    // A service answers by one that stands in for it with its own TTL.
    loop {
        let stands_in = |id: &ServiceId| match world.steering.service(*id).configured.service.when_all_down {
            WhenAllDown::Service(next) => giving.contains(&next) && !giving.contains(id),
            _ => false,
        };
        let more: Vec<ServiceId> = (0..services.len() as u32).map(ServiceId).filter(stands_in).collect();
        if more.is_empty() {
            break;
        }
        giving.extend(more);
    }
    giving.into_iter().map(|id| world.steering.service(id).manner.ttl.max).max()
}

/// What of each override that takes something out is given out nevertheless, in words; nothing for all others.
pub(super) fn still_given(world: &World, overrides: &Overrides, compiled: &Compiled) -> Vec<Vec<String>> {
    let fleet = world.fleet();
    let is_out = |id: InstanceId| {
        let instance = fleet.instance(id);
        let said = compiled.operator().of(id, instance, &[]);
        said.state.removes() || said.percent == 0 || instance.weight == 0
    };
    let mut whose: HashMap<IpAddr, Vec<usize>> = HashMap::new();
    let mut still: Vec<Vec<String>> = Vec::new();
    for (at, (of, named)) in overrides.with_named(fleet).enumerate() {
        let mut given = Vec::new();
        match of {
            _ if !of.removes() => {}
            _ if of.target.starts_with("service/") => {
                let all = services_named(world, &of.target);
                let served = all.filter(|(id, ..)| !compiled.of_service(*id).state.removes());
                given.extend(served.map(|(_, name, _)| format!("service/{name}, by a newer override")));
            }
            _ => {
                for &id in named.iter() {
                    if !is_out(id) {
                        let path = fleet.instance_path(id);
                        given.push(format!("instance/{path}, by a newer override or in another region"));
                        continue;
                    }
                    for address in &fleet.instance(id).addresses {
                        let of_address = whose.entry(address.ip).or_default();
                        if of_address.last() != Some(&at) {
                            of_address.push(at);
                        }
                    }
                }
            }
        }
        still.push(given);
    }
    if !whose.is_empty() {
        let others = (0..fleet.instances.len() as u32).map(InstanceId).filter(|&id| !is_out(id));
        for (id, address) in others.flat_map(|id| fleet.instance(id).addresses.iter().map(move |one| (id, one.ip))) {
            for &at in whose.get(&address).into_iter().flatten() {
                still[at].push(format!("{address}, as instance/{}", fleet.instance_path(id)));
            }
        }
        for steered in &world.steering.services {
            let WhenAllDown::Addresses(addresses) = &steered.configured.service.when_all_down else { continue };
            for address in addresses {
                for &at in whose.get(address).into_iter().flatten() {
                    still[at].push(format!("{address}, by when-all-down of service/{}", steered.configured.name));
                }
            }
        }
    }
    still.into_iter().map(shortened).collect()
}

fn shortened(mut given: Vec<String>) -> Vec<String> {
    if given.len() > MOST_NAMED {
        let more = given.len() - MOST_NAMED;
        given.truncate(MOST_NAMED);
        given.push(format!("{more} more"));
    }
    given
}
