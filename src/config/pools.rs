//! `[pools]` with their instances, and the targets that come of them (SPEC 2.4).

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::checks::{self, Host, TypePort};
use super::fields::{Fields, Index};
use super::files::{self, Document};
use super::findings::Findings;
use super::keys;
use super::kinds::{self, Read};
use super::text::{self, show_share};
use super::value::{Entry, Value};
use crate::dns::Name;
use crate::fleet::{
    Address, CheckId, Cname, Few, Fleet, Instance, InstanceId, Limits, Pool, PoolId, Region, RegionId, Target, TargetId,
};
use crate::problem::{Problem, Span};

/// Most addresses of one instance.
const MAX_ADDRESSES: usize = 64;
/// Where pools and instances stand.
#[derive(Default)]
pub(super) struct Places {
    pub(super) pools: Vec<Span>,
    pub(super) instances: Vec<Span>,
    /// Whether an instance names a region, be it one that does not exist.
    pub(super) names_region: Vec<bool>,
    /// Of each instance its own, 0 where it gives none.
    pub(super) ports: Vec<u16>,
}

/// Compiles all pools, in configured order.
pub(super) fn compile(
    document: &Document,
    regions: Vec<Region>,
    checks: &[checks::Placed],
    findings: &mut Findings,
) -> (Fleet, Places) {
    let mut builder = Builder {
        fleet: Fleet { regions, ..Fleet::default() },
        places: Places::default(),
        targets: HashMap::new(),
        regions: Index::new("region", document.section("regions")),
        check_names: Index::new("check", document.section("checks")),
        checks,
    };
    for entry in document.named("pools") {
        let fields = Fields::of(document, "pools", "pool", &keys::POOL, entry, findings);
        fields.require(findings);
        builder.pool(entry, &fields, findings);
    }
    (builder.fleet, builder.places)
}

struct Builder<'d> {
    fleet: Fleet,
    places: Places,
    targets: HashMap<Target, TargetId>,
    regions: Index<'d>,
    check_names: Index<'d>,
    checks: &'d [checks::Placed],
}

/// What the instances of a pool have in common.
struct Common<'a> {
    pool: PoolId,
    name: &'a str,
    used: Vec<(CheckId, Span)>,
    host: Option<Arc<str>>,
}

impl Builder<'_> {
    fn pool(&mut self, entry: &Entry, fields: &Fields<'_>, findings: &mut Findings) {
        let id = PoolId(self.fleet.pools.len() as u32);
        let used = self.pool_checks(fields, findings);
        let host = fields.text("host").map(Arc::from);
        self.require_hosts(fields, &used, host.is_some(), findings);
        let common = Common { pool: id, name: &entry.name, used, host };
        let mut instances = Vec::new();
        for instance in fields.find("instances").and_then(Value::entries).unwrap_or_default().iter() {
            instances.push(InstanceId(self.fleet.instances.len() as u32));
            self.instance(instance, &common, findings);
        }
        self.fleet.pools.push(Pool {
            name: entry.name.clone(),
            instances: instances.into(),
            checks: common.used.iter().map(|(check, _)| *check).collect(),
            up_threshold: fields.share("up-threshold").unwrap_or_default(),
            ramp: fields.duration("ramp").unwrap_or_default(),
            return_after: fields.duration("return-after").unwrap_or_default(),
            region_ramp: fields.duration("region-ramp").unwrap_or_default(),
            manual_failback: fields.text("failback").as_deref() == Some("manual"),
            shares: Box::default(),
        });
        self.places.pools.push(entry.key);
        self.warn_of_weights(id, fields, findings);
    }

    fn pool_checks(&self, fields: &Fields<'_>, findings: &mut Findings) -> Vec<(CheckId, Span)> {
        let mut used: Vec<(CheckId, Span)> = Vec::new();
        for value in fields.find("check").map(Value::elements).unwrap_or_default() {
            let Some(check) = self.check_names.resolve(value, findings).map(CheckId) else { continue };
            match used.iter().find(|(earlier, _)| *earlier == check) {
                Some((_, first)) => {
                    let problem = Problem::error(value.span, format!("{} is listed twice", value.shown()));
                    findings.cross.push(problem.also(*first, "first listed here"));
                }
                None => used.push((check, value.span)),
            }
        }
        used
    }

    fn require_hosts(&self, fields: &Fields<'_>, used: &[(CheckId, Span)], has_host: bool, findings: &mut Findings) {
        for &(check, span) in used {
            let placed = &self.checks[check.0 as usize];
            if placed.host == (Host::Pool { needed: true }) && !has_host {
                let message = format!("check \"{}\" verifies certificates, but for which host?", placed.check.name);
                findings.cross.push(
                    Problem::error(span, message)
                        .hint("give `host` in the check or in the pool, or `verify = false` in the check")
                        .also(placed.name, "the check")
                        .also(fields.place, "the pool"),
                );
            }
        }
    }

    fn instance(&mut self, entry: &Entry, common: &Common<'_>, findings: &mut Findings) {
        let table = entry.value.table().unwrap_or(&keys::EMPTY);
        let fields = Fields::alone(&keys::INSTANCE, entry.key, table);
        fields.require(findings);
        let ips = unique_addresses(&fields, findings);
        let target = target(entry, &fields, findings);
        let probes = if ips.is_empty() && target.is_none() || common.used.is_empty() {
            Few::default()
        } else {
            self.probes(entry, &fields, common, findings)
        };
        let addresses = ips.iter().map(|&ip| self.address(ip, &probes)).collect();
        if let Some(target) = target {
            self.fleet.cnames.push((InstanceId(self.fleet.instances.len() as u32), Cname { target, probes }));
        }
        let regions = self.instance_regions(&fields, findings);
        let weight = fields.integer("weight").unwrap_or(1);
        if let Some(limits) = limits(&fields) {
            self.fleet.limits.push((InstanceId(self.fleet.instances.len() as u32), limits));
        }
        self.fleet.instances.push(Instance { name: entry.name.clone(), pool: common.pool, regions, weight, addresses });
        self.places.instances.push(entry.key);
        self.places.ports.push(fields.integer("port").unwrap_or(0));
        self.places.names_region.push(fields.own("region").is_some_and(|value| !value.elements().is_empty()));
    }

    /// What is probed for each address of an instance, a target for each check; its address is unspecified where it is that of the
    /// instance.
    fn probes(&self, entry: &Entry, fields: &Fields<'_>, common: &Common<'_>, findings: &mut Findings) -> Few<Target> {
        let port = fields.integer("port");
        let check_port = fields.integer("check-port");
        let address = fields.address("check-address").unwrap_or(IpAddr::from([0, 0, 0, 0]));
        let probe = |&(check, _): &(CheckId, Span)| {
            let placed = &self.checks[check.0 as usize];
            let told: Option<u16> = check_port.or(placed.port).or(port);
            let port = match (told, placed.type_port) {
                (_, TypePort::Unused) => 0,
                (Some(port), _) | (None, TypePort::Usual(port)) => port,
                (None, TypePort::Needed) => {
                    findings.cross.push(no_port(entry, placed));
                    0
                }
            };
            Target { check, address, port, host: self.target_host(check, common, &entry.name) }
        };
        common.used.iter().map(probe).collect()
    }

    /// An address of an instance, and the targets that are probed for it.
    fn address(&mut self, ip: IpAddr, probes: &Few<Target>) -> Address {
        let at = |probe: &Target| if probe.address.is_unspecified() { ip } else { probe.address };
        let targets = probes.iter().map(|probe| self.target(Target { address: at(probe), ..probe.clone() }));
        Address { ip, targets: targets.collect() }
    }

    /// Host header and SNI of a check, for an instance of a pool.
    fn target_host(&self, check: CheckId, common: &Common<'_>, instance: &str) -> Option<Arc<str>> {
        match &self.checks[check.0 as usize].host {
            Host::Named(name) => Some(Arc::clone(name)),
            Host::Pool { .. } => common.host.as_ref().filter(|host| ***host != *"address").cloned(),
            Host::Instance => Some(format!("{}/{instance}", common.name).into()),
            Host::Address | Host::Unused => None,
        }
    }

    fn instance_regions(&self, fields: &Fields<'_>, findings: &mut Findings) -> Few<RegionId> {
        let region = |value| {
            let number = self.regions.resolve(value, findings).and_then(|number| u16::try_from(number).ok());
            Some((RegionId(number?), value))
        };
        let named = fields.find("region").map(Value::elements).unwrap_or_default();
        let named: Few<(RegionId, &Value)> = named.iter().filter_map(region).collect();
        let is_first = |&(index, &(region, value)): &(usize, &(RegionId, &Value))| {
            let is_twice = named[..index].iter().any(|(earlier, _)| *earlier == region);
            if is_twice {
                findings.cross.push(Problem::error(value.span, format!("{} is listed twice", value.shown())));
            }
            !is_twice
        };
        named.iter().enumerate().filter(is_first).map(|(_, (region, _))| *region).collect()
    }

    fn target(&mut self, target: Target) -> TargetId {
        let next = TargetId(self.fleet.targets.len() as u32);
        let id = *self.targets.entry(target.clone()).or_insert(next);
        if id == next {
            self.fleet.targets.push(target);
        }
        id
    }

    /// Warns where nothing can ever be answered, and where one instance alone crosses `up-threshold` (SPEC 3.2).
    fn warn_of_weights(&self, id: PoolId, fields: &Fields<'_>, findings: &mut Findings) {
        let pool = self.fleet.pool(id);
        if !pool.instances.is_empty() && pool.instances.iter().all(|id| self.fleet.instance(*id).weight == 0) {
            let message = format!("every instance of pool \"{}\" has weight 0: it never answers", pool.name);
            findings.cross.push(Problem::warning(fields.place, message));
        }
        let of = |&id: &InstanceId| self.fleet.instance(id).regions.iter().map(move |&region| (region, id));
        let mut by_region: Vec<(RegionId, InstanceId)> = pool.instances.iter().flat_map(of).collect();
        by_region.sort_by_key(|(region, _)| *region);
        for instances in by_region.chunk_by(|(region, _), (next, _)| region == next) {
            let weight = |(_, id): &(RegionId, InstanceId)| u64::from(self.fleet.instance(*id).weight);
            let total: u64 = instances.iter().map(weight).sum();
            let Some(heaviest) = instances.iter().max_by_key(|each| weight(each)) else { continue };
            let rest = total - weight(heaviest);
            let (region, heaviest) = *heaviest;
            if rest > 0 && rest * 10_000 < u64::from(pool.up_threshold) * total {
                let message = format!(
                    "without instance \"{}\" region \"{}\" is below the up-threshold {} of pool \"{}\"",
                    self.fleet.instance(heaviest).name,
                    self.fleet.region(region).name,
                    show_share(u32::from(pool.up_threshold)),
                    pool.name,
                );
                let part = show_share(u32::try_from(rest * 10_000 / total).unwrap_or_default());
                findings.cross.push(Problem::warning(self.places.instances[heaviest.0 as usize], message).hint(
                    format!(
                        "what is left has {part} of the weight: when this one fails, clients go to the next region"
                    ),
                ));
            }
        }
    }
}

/// Where the CNAME of an instance leads, if it has one; it has that or addresses.
fn target(entry: &Entry, fields: &Fields<'_>, findings: &mut Findings) -> Option<Name> {
    let address = fields.own("address");
    let Some(given) = fields.own("target") else {
        if address.is_none() {
            let problem = Problem::error(entry.key, "an instance without address");
            findings.cross.push(problem.allowed("address = \"192.0.2.11\", or target = \"cdn.example.net.\""));
        }
        return None;
    };
    let target = fields.custom("target", |value| kinds::domain_name(value).ok())?;
    if let Some(address) = address {
        let problem = Problem::error(given.span, "an instance has a `target` or addresses, not both");
        findings.cross.push(problem.also(address.span, "its addresses").hint("make two instances of it"));
    } else if target.is_wildcard() || target.is_root() {
        let problem = Problem::error(given.span, format!("no client can be sent to {}", given.shown()));
        findings.cross.push(problem.allowed("the name of a host, \"cdn.example.net.\""));
    }
    Some(target)
}

/// How much load an instance takes, where it is given.
fn limits(fields: &Fields<'_>) -> Option<Limits> {
    let is_given = fields.own("capacity").or(fields.own("max-load")).is_some();
    let capacity = fields.number("capacity").unwrap_or(Limits::default().capacity);
    is_given.then(|| Limits { capacity, max_load: fields.number("max-load") })
}

fn no_port(entry: &Entry, check: &checks::Placed) -> Problem {
    let message = format!("no port for check \"{}\"", check.check.name);
    Problem::error(entry.key, message)
        .hint("give `port` in the check or in the instance: this type of check has no port of its own")
        .also(check.name, "the check")
}

/// The addresses that a table gives, each once.
pub(super) fn unique_addresses(fields: &Fields<'_>, findings: &mut Findings) -> Few<IpAddr> {
    let given = fields.each("address", instance_address);
    let is_first = |&(index, &(address, span)): &(usize, &(IpAddr, Span))| {
        let first = given[..index].iter().find(|(earlier, _)| *earlier == address);
        if let Some((_, first)) = first {
            let problem = Problem::error(span, format!("{address} is listed twice"));
            findings.cross.push(problem.also(*first, "first listed here"));
        }
        first.is_none()
    };
    given.iter().enumerate().filter(is_first).map(|(_, (address, _))| *address).collect()
}

/// Reads an address that clients may be sent to.
pub(super) fn instance_address(value: &Value) -> Read<IpAddr> {
    let address = kinds::address(value)?;
    if address.is_unspecified() || address.is_multicast() || address == IpAddr::from([255, 255, 255, 255]) {
        let problem = Problem::error(value.span, format!("{address} is not an address to send clients to"));
        return Err(Box::new(problem.allowed("a unicast address")));
    }
    Ok(address)
}

/// Checks `address` of an instance.
pub(super) fn check_addresses(value: &Value, problems: &mut Vec<Problem>) {
    let count = value.elements().len();
    if !(1..=MAX_ADDRESSES).contains(&count) {
        let problem = Problem::error(value.span, format!("{count} addresses"));
        problems.push(problem.allowed(format!("1 to {MAX_ADDRESSES}")));
        return;
    }
    for element in value.elements() {
        kinds::report(instance_address(element), element, problems);
    }
}

/// Checks `instances`.
pub(super) fn check_instances(value: &Value, problems: &mut Vec<Problem>) {
    let Some(instances) = value.entries() else {
        problems.push(*kinds::wrong_type(value, "a table of instances"));
        return;
    };
    if instances.is_empty() {
        problems.push(
            Problem::error(value.span, "a pool without instances")
                .allowed("eu-1 = { region = \"eu-west\", address = \"192.0.2.11\" }"),
        );
    }
    for entry in instances.iter() {
        if !text::is_name(&entry.name) {
            problems.push(files::bad_name(entry));
        }
        kinds::check(&kinds::Kind::Table(&keys::INSTANCE), &entry.value, problems);
    }
}
