//! Whether services fit their maps, pools, zones and each other (SPEC 1.2).

use std::collections::{BTreeSet, HashMap, HashSet};

use ipnet::IpNet;

use super::findings::Findings;
use super::maps;
use super::networks;
use super::pools::Places;
use super::services::Placed;
use super::zones::{Statics, Use};
use super::{Ecs, Zone};
use crate::dns::Name;
use crate::fleet::{Fleet, InstanceId, RegionId};
use crate::problem::{Problem, Span};
use crate::steering::walk::MAX_FALLBACKS;
use crate::steering::{Element, List, Steer, StickyBy, WhenAllDown};

/// All that services are held against.
pub(super) struct Surroundings<'c> {
    pub(super) fleet: &'c Fleet,
    pub(super) places: &'c Places,
    pub(super) maps: &'c [maps::Placed],
}

/// Checks all services, and completes those whose order of regions is not given.
pub(super) fn check(services: &mut [Placed], around: &Surroundings<'_>, findings: &mut Findings) {
    let mut told = BTreeSet::new();
    for service in services.iter_mut().filter(|service| service.has_pool) {
        let present = regions_of_pool(service, around.fleet);
        let named_alone = |region: &RegionId| around.fleet.region(*region).only_named;
        service.complete_order(present.iter().copied().filter(|region| !named_alone(region)));
        check_regions(service, &present, around, findings);
        check_instances_have_regions(service, around, &mut told, findings);
        check_map(service, &present, around, findings);
        warn_of_empty_fences(service, &present, around, findings);
    }
    check_fallbacks(services, findings);
}

pub(super) fn regions_of_pool(service: &Placed, fleet: &Fleet) -> BTreeSet<RegionId> {
    let instances = &fleet.pool(service.service.pool).instances;
    instances.iter().flat_map(|id| fleet.instance(*id).regions.iter().copied()).collect()
}

/// Every name is steered once, stands in a zone and hides nothing; so does every name that services make beside their own,
/// and every `whoami` name, whose places are given.
pub(super) fn check_names(
    services: &[Placed],
    fleet: &Fleet,
    made: &[(Name, Span, Use)],
    whoami: &[Name],
    places: &[Span],
    zones: &[Zone],
    findings: &mut Findings,
) {
    let steered = services.iter().flat_map(Placed::names).map(|(name, _)| name);
    let made_names = made.iter().map(|(name, ..)| name);
    let statics = Statics::new(zones, steered.chain(made_names).chain(whoami));
    let mut seen: HashMap<&Name, Span> = HashMap::with_capacity(services.len() + made.len());
    for (placed, of) in services.iter().zip(may_be_cname(services, fleet)) {
        refuse_own_name(placed, fleet, findings);
        for (name, span) in placed.names().filter(|(name, _)| !name.is_root()) {
            if let Some(first) = seen.insert(name, span) {
                let problem = Problem::error(span, format!("{} is steered twice", name.to_plain()));
                findings.cross.push(problem.also(first, "first here"));
                continue;
            }
            findings.cross.extend(statics.problems(name, span, of));
            let taken = placed.wanted.iter().flat_map(|wanted| wanted.taken()).flatten();
            findings.cross.extend(taken.flat_map(|(rtype, span)| statics.collision(name, rtype, span)));
        }
    }
    let made = made.iter().map(|(name, span, of)| (name, *span, *of));
    for (name, span, of) in made.chain(whoami.iter().zip(places).map(|(name, span)| (name, *span, Use::Whoami))) {
        match seen.insert(name, span) {
            Some(first) => {
                let message = format!("{} {}, and is something else already", name.to_plain(), of.says());
                findings.cross.push(Problem::error(span, message).also(first, "first here"));
            }
            None => findings.cross.extend(statics.problems(name, span, of)),
        }
    }
}

/// At the name of a zone no CNAME may stand: a service with such a name is answered with the addresses behind it.
pub(super) fn find_apexes(services: &mut [Placed], zones: &[Zone]) {
    let origins: HashSet<&Name> = zones.iter().map(|zone| &zone.origin).collect();
    for placed in services {
        let is_apex = placed.names().any(|(name, _)| origins.contains(name));
        placed.service.no_cname = is_apex;
    }
}

/// What the names of each service are: those of a CNAME where an instance of its own, or of a service that stands in for it,
/// has a `target`.
fn may_be_cname(services: &[Placed], fleet: &Fleet) -> Vec<Use> {
    let own = services.iter().map(|placed| !placed.service.no_cname && fleet.has_cname(placed.service.pool));
    let own: Vec<bool> = own.collect();
    let in_turn = |at| std::iter::successors(Some(at), |&at: &usize| fallback(&services[at])).take(1 + MAX_FALLBACKS);
    let is = |at: usize| !services[at].service.no_cname && in_turn(at).any(|at| own[at]);
    let of = |at| if is(at) { Use::Cname } else { Use::Steered };
    (0..services.len()).map(of).collect()
}

/// A CNAME does not lead back to where it stands.
fn refuse_own_name(placed: &Placed, fleet: &Fleet, findings: &mut Findings) {
    if !fleet.has_cname(placed.service.pool) {
        return;
    }
    for &id in &fleet.pool(placed.service.pool).instances {
        let Some(cname) = fleet.cname(id) else { continue };
        if let Some((name, span)) = placed.names().find(|(name, _)| **name == cname.target) {
            let instance = &fleet.instance(id).name;
            let message =
                format!("instance \"{instance}\" has {} as its `target`: the name leads to itself", name.to_plain());
            findings.cross.push(Problem::error(span, message));
        }
    }
}

/// `order` and `shares` name only regions in which the pool has instances.
fn check_regions(placed: &Placed, present: &BTreeSet<RegionId>, around: &Surroundings<'_>, findings: &mut Findings) {
    let named: Vec<RegionId> = match &placed.service.steer {
        Steer::Failover { order } => order.clone(),
        Steer::Weighted { shares } => shares.iter().map(|(region, _)| *region).collect(),
        _ => return,
    };
    for (region, &span) in named.iter().zip(&placed.regions) {
        if !present.contains(region) {
            let pool = &around.fleet.pool(placed.service.pool).name;
            let message =
                format!("pool \"{pool}\" has no instance in region \"{}\"", around.fleet.region(*region).name);
            let problem = Problem::error(span, message).allowed(name_regions(present, around.fleet));
            findings.cross.push(problem.also(placed.name, "the service"));
        }
    }
}

fn name_regions(regions: &BTreeSet<RegionId>, fleet: &Fleet) -> String {
    let names: Vec<&str> = regions.iter().take(20).map(|region| fleet.region(*region).name.as_str()).collect();
    if names.is_empty() { "none: its instances have no region".to_string() } else { names.join(", ") }
}

/// Everything but `any` finds instances by their regions. Each instance is told once, however many services use it.
fn check_instances_have_regions(
    placed: &Placed,
    around: &Surroundings<'_>,
    told: &mut BTreeSet<InstanceId>,
    findings: &mut Findings,
) {
    if placed.service.steer == Steer::Any {
        return;
    }
    for id in &around.fleet.pool(placed.service.pool).instances {
        let instance = around.fleet.instance(*id);
        let span = around.places.instances[id.0 as usize];
        if instance.regions.is_empty() && !around.places.names_region[id.0 as usize] && told.insert(*id) {
            let message = format!("instance \"{}\" has no region", instance.name);
            findings.cross.push(
                Problem::error(span, message)
                    .hint("add region = \"…\"; only `steer = \"any\"` does without")
                    .also(placed.steer, "a service that steers by region"),
            );
        }
    }
}

/// A map entry must lead somewhere.
fn check_map(placed: &Placed, present: &BTreeSet<RegionId>, around: &Surroundings<'_>, findings: &mut Findings) {
    let Some(map) = placed.service.map.map(|id| &around.maps[id.0 as usize]) else { return };
    let is_geo = placed.service.steer == Steer::Geo;
    if present.is_empty() || !(is_geo || matches!(placed.service.steer, Steer::Nearest { .. } | Steer::Latency { .. }))
    {
        return;
    }
    match map.default {
        Some(span) => check_list(&map.map.default, "default", span, placed, present, around, findings),
        None if is_geo => findings.cross.push(
            Problem::error(map.name, format!("map \"{}\" has no `default`", map.map.name))
                .hint("add default = [\"*\"] for clients that no entry fits")
                .also(placed.map, "a service steers by it"),
        ),
        None => {}
    }
    if is_geo {
        for (entry, &span) in map.map.entries.iter().zip(&map.entries) {
            check_list(&entry.value, &entry.text, span, placed, present, around, findings);
        }
    }
}

fn check_list(
    list: &List,
    text: &str,
    span: Span,
    placed: &Placed,
    present: &BTreeSet<RegionId>,
    around: &Surroundings<'_>,
    findings: &mut Findings,
) {
    let reaches = |element: &Element| match element {
        Element::Region(region) => present.contains(region),
        Element::Tier(tier) => tier.iter().any(|region| present.contains(region)),
        Element::Split(split) => split.iter().any(|(region, share)| *share > 0 && present.contains(region)),
        Element::Rest => present.iter().any(|region| !around.fleet.region(*region).only_named),
    };
    if list.is_empty() || list.iter().any(reaches) {
        return;
    }
    let pool = &around.fleet.pool(placed.service.pool).name;
    let service = placed.service.name.to_plain();
    let message = format!("\"{text}\" leads {service} nowhere: pool \"{pool}\" has no instance in these regions");
    findings.cross.push(
        Problem::error(span, message)
            .allowed(format!("at least one of {}, or \"*\"", name_regions(present, around.fleet)))
            .also(placed.map, "the service that uses this map"),
    );
}

/// Clients whose fence leaves no region of the pool never get an address, except from another service.
fn warn_of_empty_fences(
    placed: &Placed,
    present: &BTreeSet<RegionId>,
    around: &Surroundings<'_>,
    findings: &mut Findings,
) {
    let Some(map) = placed.service.map.map(|id| &around.maps[id.0 as usize]) else { return };
    if present.is_empty() || matches!(placed.service.when_all_down, WhenAllDown::Service(_)) {
        return;
    }
    for (fence, &span) in map.map.fences.iter().zip(&map.fences) {
        if fence.value.is_empty() || fence.value.iter().any(|region| present.contains(region)) {
            continue;
        }
        let pool = &around.fleet.pool(placed.service.pool).name;
        let service = placed.service.name.to_plain();
        let message = format!(
            "fence \"{}\" leads {service} nowhere: pool \"{pool}\" has no instance in these regions",
            fence.text
        );
        findings.cross.push(
            Problem::warning(span, message)
                .hint(format!(
                    "these clients never get an address; the pool is in {}",
                    name_regions(present, around.fleet)
                ))
                .also(placed.map, "the service that uses this map"),
        );
    }
}

/// Fallbacks end somewhere. Each circle is told once, at its first service.
fn check_fallbacks(services: &[Placed], findings: &mut Findings) {
    services.iter().for_each(|service| refuse_labels_of_others(service, services, findings));
    let mut circles = circles(services);
    circles.sort();
    for circle in circles {
        let names: Vec<String> =
            circle.iter().chain(&circle[..1]).map(|&at| services[at].service.name.to_plain()).collect();
        let message = format!("`when-all-down` goes round in a circle: {}", names.join(" → "));
        let mut problem = Problem::error(services[circle[0]].when_all_down, message);
        for &at in &circle[1..] {
            problem = problem.also(services[at].when_all_down, "and from here");
        }
        findings.cross.push(problem);
    }
}

/// A service that is sticky by label stands in for wildcards alone: of other names all clients have the same label.
fn refuse_labels_of_others(service: &Placed, services: &[Placed], findings: &mut Findings) {
    let Some(stand_in) = fallback(service).map(|at| &services[at]) else { return };
    let is_by_label = stand_in.service.manner.sticky.by == StickyBy::Label;
    if is_by_label && !service.names().all(|(name, _)| name.is_wildcard()) {
        let message = format!("{} is sticky by label, and the names here have none", stand_in.service.name.to_plain());
        let problem = Problem::error(service.when_all_down, message).hint("name a service that is sticky by client");
        findings.cross.push(problem.also(stand_in.name, "the service that would stand in"));
    }
}

/// The circles of fallbacks, each from its first service on. Every service is come to once: a walk ends where an earlier
/// one went, and it found a circle when that one was itself.
fn circles(services: &[Placed]) -> Vec<Vec<usize>> {
    let mut walked_from: Vec<Option<usize>> = vec![None; services.len()];
    let mut circles = Vec::new();
    for start in 0..services.len() {
        let mut path = Vec::new();
        let mut next = Some(start);
        while let Some(at) = next.filter(|&at| walked_from[at].is_none()) {
            walked_from[at] = Some(start);
            path.push(at);
            next = fallback(&services[at]);
        }
        let met =
            next.filter(|&at| walked_from[at] == Some(start)).and_then(|met| path.iter().position(|&at| at == met));
        if let Some(begin) = met {
            let mut circle = path.split_off(begin);
            let first = (0..circle.len()).min_by_key(|&index| circle[index]).unwrap_or_default();
            circle.rotate_left(first);
            circles.push(circle);
        }
    }
    circles
}

fn fallback(placed: &Placed) -> Option<usize> {
    match placed.service.when_all_down {
        WhenAllDown::Service(id) => Some(id.0 as usize),
        _ => None,
    }
}

/// Finds prefixes longer than what ECS lets see (SPEC 1.5 `[ecs]`): a warning, once for each kind of place. Clients
/// would pass such a fence, so there each is an error (SPEC 4.3).
pub(super) fn check_long_prefixes(
    ecs: &Ecs,
    networks: &networks::Placed,
    maps: &[maps::Placed],
    services: &[Placed],
    findings: &mut Findings,
) {
    if !ecs.enabled {
        return;
    }
    let in_networks =
        networks.data.networks.iter().zip(&networks.networks).map(|(network, &span)| (network.prefix, span));
    warn(ecs, in_networks, findings);
    let of_map = |placed| {
        let maps::Placed { map, entries, .. }: &maps::Placed = placed;
        map.entries.iter().zip(entries).flat_map(|(entry, &span)| entry.selector.networks().map(move |net| (net, span)))
    };
    warn(ecs, maps.iter().flat_map(of_map), findings);
    for map in maps {
        for (fence, &span) in map.map.fences.iter().zip(&map.fences) {
            refuse_long_fence(ecs, fence.selector.networks(), span, findings);
        }
    }
    for placed in services {
        let Some(span) = placed.sticky else { continue };
        let sticky = placed.service.manner.sticky;
        if placed.service.manner.ecs && (sticky.ipv4 > ecs.ipv4 || sticky.ipv6 > ecs.ipv6) {
            let message = format!("longer than what [ecs] looks at: /{}, IPv6 /{}", ecs.ipv4, ecs.ipv6);
            findings.cross.push(Problem::warning(span, message).hint("clients are grouped by what is seen"));
        }
    }
}

fn is_long(ecs: &Ecs, prefix: &IpNet) -> bool {
    match prefix {
        IpNet::V4(net) => net.prefix_len() > ecs.ipv4,
        IpNet::V6(net) => net.prefix_len() > ecs.ipv6,
    }
}

fn refuse_long_fence(ecs: &Ecs, prefixes: impl Iterator<Item = IpNet>, span: Span, findings: &mut Findings) {
    for prefix in prefixes.filter(|prefix| is_long(ecs, prefix)) {
        let (key, seen) = if prefix.addr().is_ipv4() { ("ipv4", ecs.ipv4) } else { ("ipv6", ecs.ipv6) };
        let message = format!("the fence {prefix} is longer than what [ecs] looks at: /{seen}");
        let hint = format!(
            "clients behind a resolver that sends ECS would pass it; shorten it to /{seen}, or raise `{key}` in [ecs] to {}",
            prefix.prefix_len()
        );
        findings.cross.push(Problem::error(span, message).hint(hint));
    }
}

fn warn(ecs: &Ecs, prefixes: impl Iterator<Item = (IpNet, Span)>, findings: &mut Findings) {
    let mut long = prefixes.filter(|(prefix, _)| is_long(ecs, prefix));
    let Some((prefix, span)) = long.next() else { return };
    let others = long.count();
    let of_others = if others > 0 { format!(" (and {others} more)") } else { String::new() };
    let message = format!("{prefix}{of_others} is longer than what [ecs] looks at: /{}, IPv6 /{}", ecs.ipv4, ecs.ipv6);
    let hint = "clients behind a resolver that sends ECS do not match it; raise `ipv4` or `ipv6` in [ecs]";
    findings.cross.push(Problem::warning(span, message).hint(hint));
}
