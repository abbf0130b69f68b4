//! Why a client gets what it gets (SPEC 8.4): the decision that `steered` makes, made once more with a trace. Off the hot
//! path: for `control::explain` and for `inband`, which may allocate.

use std::borrow::Cow;
use std::net::IpAddr;

use super::chain::MAX_CHAIN;
use super::{synthesized, whoami};
use crate::dns::{ClientSubnet, LowerName, Name, RecordType};
use crate::fleet::{Family, InstanceId};
use crate::snapshot::Snapshot;
use crate::steering::balance::{Choice, pick};
use crate::steering::client::EcsPolicy;
use crate::steering::service::WhenAllDown;
use crate::steering::trace::{Recorded, Trace};
use crate::steering::walk::MAX_FALLBACKS;
use crate::steering::{Client, Decision, Local, Outcome, ServiceId, decide, hash};
use crate::zone::Found;

/// A question to be explained.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The name.
    pub name: &'a LowerName,
    /// The type.
    pub rtype: RecordType,
    /// The packet's source. `None` = whoever asks names the client alone: then any subnet is taken, as from a trusted
    /// source.
    pub resolver: Option<IpAddr>,
    /// The client subnet of the query.
    pub subnet: Option<&'a ClientSubnet>,
}

/// What the trace found beside its stages.
#[derive(Clone, Debug, Default)]
pub struct Traced {
    /// The region that serves; `None` when the name is not steered, or nothing serves.
    pub region: Option<String>,
    /// The instances answered, best first.
    pub instances: Vec<String>,
    /// The instances that could have been answered, by other draws or clients of this order.
    pub candidates: Vec<String>,
    /// The addresses answered.
    pub addresses: Vec<IpAddr>,
    /// Where the CNAME leads that is answered in their place.
    pub cname: Option<String>,
    /// How long the answer may be kept, seconds; `None` when the name is not steered.
    pub ttl: Option<u32>,
    /// What the answer's ECS option says, if it has one.
    pub scope: u8,
}

impl Asked<'_> {
    /// Whose ECS is taken.
    #[must_use]
    pub fn policy<'p>(&self, policy: &'p EcsPolicy) -> Cow<'p, EcsPolicy> {
        if self.resolver.is_some() {
            return Cow::Borrowed(policy);
        }
        Cow::Owned(policy.trusting_all())
    }

    /// The packet's source; the client itself where none is named.
    #[must_use]
    pub fn source(&self) -> IpAddr {
        let client = || self.subnet.map_or(IpAddr::from([0, 0, 0, 0]), |subnet| subnet.address);
        self.resolver.unwrap_or_else(client)
    }
}

/// Makes the decision, and notes every stage in `trace`. Draws come from `local`, which need not have adopted anything.
pub fn trace(snapshot: &Snapshot, asked: &Asked<'_>, local: &mut Local, trace: &mut Recorded) -> Traced {
    let Some(found) = find(snapshot, asked.name, asked.rtype, trace) else { return Traced::default() };
    let Steered { service, label } = found;
    let steering = &*snapshot.steering;
    let made_of = synthesized::made_of(steering, service, asked.rtype);
    let has_addresses = matches!(asked.rtype, RecordType::A | RecordType::AAAA) || made_of.is_some();
    let (service, family) = match (asked.rtype, made_of) {
        (RecordType::A, _) => (service, Family::V4),
        (RecordType::AAAA, _) => (service, Family::V6),
        // A CNAME answers every type.
        (_, None) if steering.service(service).may_be_cname => (service, Family::V4),
        (made, Some(of)) => {
            let family = if steering.service(of).serves[0] { Family::V4 } else { Family::V6 };
            let service = &steering.service(of).configured.name;
            trace.note("type", || {
                format!("{made} is made of the decisions for service/{service}, this is the one for {family}")
            });
            (of, family)
        }
        (other, None) => {
            trace.note("type", || {
                format!("a steered name has addresses (A, AAAA); {other} is answered from the zone, else NODATA")
            });
            return Traced::default();
        }
    };
    let steered = steering.service(service);
    let (policy, source) = (asked.policy(&snapshot.settings.ecs), asked.source());
    let mut client = policy.client(source, asked.subnet, steered.manner.ecs);
    client.label = label;
    trace.note("client", || policy.describe(source, asked.resolver.is_some(), asked.subnet, steered.manner.ecs));
    trace.note("place", || place(snapshot, client.address));
    steering.describe(steered, client.address, trace);
    local.adopt(steering);
    let decision = decide(steering, snapshot.situation(), service, &client, family, local, trace);
    let mut traced = Traced { ttl: Some(decision.ttl), ..Traced::default() };
    let mut found = decision.scope;
    match decision.outcome {
        Outcome::Pick { .. } => {
            found =
                found.max(picked(snapshot, &decision, (family, steered.no_cname), &client, local, trace, &mut traced));
            if !has_addresses && traced.cname.is_none() {
                traced.addresses.clear();
                trace.note("type", || {
                    format!("no CNAME is chosen: {} is answered from the zone, else NODATA", asked.rtype)
                });
            }
        }
        Outcome::Addresses(all) => {
            trace.note("balance", || "the addresses of `when-all-down`".into());
            traced.addresses = all.iter().copied().filter(|&address| Family::of(address) == family).collect();
        }
        Outcome::Nodata => trace.note("balance", || "nothing to answer with: NODATA".into()),
        Outcome::Servfail => trace.note("balance", || "SERVFAIL, as `when-all-down` says".into()),
    }
    let is_negative = traced.addresses.is_empty() && traced.cname.is_none();
    trace.note("ttl", || ttl(snapshot, service, &decision, is_negative));
    traced.scope = client.scope(found);
    trace.note("scope", || client.describe_scope(found));
    traced
}

/// Picks instances; returns the scope that this needs.
fn picked(
    snapshot: &Snapshot,
    decision: &Decision<'_>,
    (family, no_cname): (Family, bool),
    client: &Client,
    local: &mut Local,
    trace: &mut Recorded,
    traced: &mut Traced,
) -> u8 {
    let Outcome::Pick { roster, group, version } = decision.outcome else { return 0 };
    let steering = &*snapshot.steering;
    let answering = steering.service(decision.service);
    let mut instances: Vec<InstanceId> = Vec::new();
    let choice = Choice { roster, group, version, family, no_cname, takes_turn: true };
    let scope = pick(steering, answering, choice, client, local, trace, |instance, address| {
        traced.addresses.extend(address);
        if address.is_none() {
            traced.cname = steering.fleet.cname(instance).map(|cname| cname.target.to_plain());
        }
        if !instances.contains(&instance) {
            instances.push(instance);
        }
    });
    let regions = &steering.layout(answering.layout).groups[group].regions;
    let name = |id: &InstanceId| steering.fleet.instance(*id).name.to_string();
    let of_first = instances.first().and_then(|&id| steering.fleet.instance(id).regions.first());
    let region = if let [only] = regions[..] { Some(only) } else { of_first.copied() };
    traced.region = region.map(|region| steering.fleet.region(region).name.clone());
    traced.instances = instances.iter().map(name).collect();
    traced.candidates = roster.entries.iter().map(|entry| name(&entry.instance)).collect();
    scope
}

/// Where an address is, who says so, and where distances are measured from.
fn place(snapshot: &Snapshot, address: IpAddr) -> String {
    let atlas = &snapshot.steering.atlas;
    let place = atlas.place(atlas.lookup(address).0);
    let sources: Vec<String> = snapshot.settings.geo.sources(address).iter().map(ToString::to_string).collect();
    let sources = if sources.is_empty() { "no network or data base knows it".into() } else { sources.join("; ") };
    let middle = place.coordinates_or_centroid().filter(|_| place.coordinates.is_none());
    let middle = middle.map_or(String::new(), |at| {
        format!("; distances from the middle of the country, {:.1} {:.1}", at.latitude, at.longitude)
    });
    format!("{place}: {sources}{middle}")
}

/// How long the answer may be kept, and why. What health says of it was noted with the decision.
fn ttl(snapshot: &Snapshot, asked: ServiceId, decision: &Decision<'_>, is_negative: bool) -> String {
    let ttl = snapshot.steering.service(asked).manner.ttl;
    let seconds = decision.ttl;
    match () {
        () if matches!(decision.outcome, Outcome::Servfail) => "none: SERVFAIL has no records".into(),
        () if is_negative => {
            let least = ttl.min;
            format!(
                "{least} at most: NODATA is kept as long as the zone's SOA says, no longer than the service's answers"
            )
        }
        () if !ttl.varies() => format!("{seconds}: `ttl` of the service"),
        () if decision.all_down => format!("{seconds}: `min`, as everything is down"),
        () => format!("{seconds}: within `min` {} and `max` {} of the service's `ttl`", ttl.min, ttl.max),
    }
}

/// The service that answers for a name, and those that stand in for it.
#[must_use]
pub fn services(snapshot: &Snapshot, name: &LowerName, rtype: RecordType) -> Vec<ServiceId> {
    let mut services: Vec<ServiceId> = Vec::new();
    let found = find(snapshot, name, rtype, &mut Recorded::default()).map(|found| found.service);
    let mut next = found.map(|service| synthesized::made_of(&snapshot.steering, service, rtype).unwrap_or(service));
    while let Some(service) = next.filter(|service| services.len() < MAX_FALLBACKS && !services.contains(service)) {
        services.push(service);
        next = match snapshot.steering.service(service).configured.service.when_all_down {
            WhenAllDown::Service(stand_in) => Some(stand_in),
            _ => None,
        };
    }
    services
}

/// A name that is steered.
struct Steered {
    service: ServiceId,
    /// Hash of its leftmost label.
    label: u64,
}

/// The service at a name, or where its static CNAMEs lead to in our zones.
fn find(snapshot: &Snapshot, name: &LowerName, rtype: RecordType, trace: &mut Recorded) -> Option<Steered> {
    let mut current = name.clone();
    for _ in 0..MAX_CHAIN {
        match look_up(snapshot, &current, rtype, trace) {
            Ok(service) => return Some(Steered { service, label: hash::of_label(current.first_label()) }),
            Err(target) => current.set(target?)?,
        };
    }
    None
}

/// The service at a name; else the target of its CNAME, if it has one that is to be followed.
fn look_up<'a>(
    snapshot: &'a Snapshot,
    name: &LowerName,
    rtype: RecordType,
    trace: &mut Recorded,
) -> Result<ServiceId, Option<&'a [u8]>> {
    let authority = &snapshot.authority;
    let mut note = |text: String| trace.note("name", || text);
    match authority.find(name, rtype) {
        Found::NotOurs => note("in none of the zones".into()),
        Found::Void => note("in a zone whose data are not known".into()),
        Found::Referral { cut } => note(format!("below the zone cut {}", cut.owner())),
        Found::Dname { node, .. } => note(format!("below the DNAME {}", node.owner())),
        Found::Nxdomain { zone } => note(format!("does not exist in zone {}", authority.zone(zone).origin)),
        Found::ParentSide { zone, .. } => {
            note(format!("DS is answered by the parent zone {}", authority.zone(zone).origin));
        }
        Found::Data { node, wildcard } => {
            let by = if wildcard { format!(" by the wildcard {}", node.owner()) } else { String::new() };
            match node.tag() {
                Some(whoami::TAG) => {
                    note(format!("whoami{by}: says who asks"));
                    return Err(None);
                }
                Some(tag) => {
                    let steered = snapshot.steering.service(ServiceId(tag));
                    let pool = &snapshot.steering.fleet.pool(steered.configured.service.pool).name;
                    note(format!("service/{}{by}, pool/{pool}", steered.configured.name));
                    return Ok(ServiceId(tag));
                }
                None => {}
            }
            let cname = node.rrset(RecordType::CNAME).filter(|_| rtype != RecordType::CNAME);
            let Some(target) = cname.and_then(|cname| cname.rdatas().next()) else {
                note(format!("static name{by}: not steered"));
                return Err(None);
            };
            let shown = Name::from_wire(target).map_or_else(|_| "?".into(), |name| name.to_plain());
            note(format!("static CNAME{by} to {shown}"));
            return Err(Some(target));
        }
    }
    Err(None)
}
