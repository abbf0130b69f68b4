//! `region-names`, `https`, `svcb` and `srv` of services: what they answer beside addresses, and the names that this makes.
//!
//! | key | makes |
//! |---|---|
//! | `region-names` | `eu-west.NAME`: a derived service that has this region alone |
//! | `srv` | `_sip._tcp.NAME`: a derived service that answers SRV; `eu-1.NAME`: static addresses, the targets |
//!
//! A name that is made must be free, like that of a service. Derived services come behind all services, so that these keep their
//! numbers.

use std::net::IpAddr;

use super::Zone;
use super::fields::Fields;
use super::findings::Findings;
use super::fit::regions_of_pool;
use super::keys;
use super::kinds::{self, Read};
use super::pools::Places;
use super::services::Placed;
use super::value::{Value, quoted};
use super::zones::Use;
use crate::dns::name::MAX_LABEL;
use crate::dns::{Name, RecordType};
use crate::fleet::{Fleet, InstanceId, RegionId};
use crate::problem::{Problem, Span};
use crate::steering::beside::{Beside, Binding, Derived, Srv, Target};
use crate::steering::{Service, ServiceId, Steer, WhenAllDown};
use crate::zone::{Record, Records, base64};

/// Most protocols of an `alpn`.
const MAX_ALPN: usize = 16;
/// Most `names` of a `srv`.
const MAX_PREFIXES: usize = 16;
/// Keys of service parameters (RFC 9460 §14.3.2).
const ALPN: u16 = 1;
const PORT: u16 = 3;
const ECH: u16 = 5;

/// What a service asks for.
#[derive(Default)]
pub(super) struct Wanted {
    /// Where that is said, and whether by the service itself.
    region_names: Option<(Span, bool)>,
    https: Option<(Binding, Span)>,
    svcb: Option<(Binding, Span)>,
    srv: Option<WantedSrv>,
}

struct WantedSrv {
    prefixes: Vec<(Name, Span)>,
    port: Option<u16>,
    tiers: u8,
    span: Span,
}

/// Reads the keys of a service. What is inherited holds where it can; what it gives itself must.
pub(super) fn read(fields: &Fields<'_>, name: &Name, steer: &Steer, findings: &mut Findings) -> Option<Box<Wanted>> {
    let can = |key: &str, needs_name: bool, findings: &mut Findings| {
        let value = fields.find(key)?;
        let is_refused = needs_name && name.is_wildcard();
        if is_refused && fields.own(key).is_some() {
            let problem = Problem::error(value.span, format!("`{key}` of a wildcard: there is no name to stand below"));
            findings.cross.push(problem.hint("name the service in full").also(fields.place, "the service"));
        }
        (!is_refused).then_some(value)
    };
    let region_names = can("region-names", true, findings).filter(|_| fields.boolean("region-names"));
    let mut bound = |key: &str| {
        let value = can(key, false, findings)?;
        let (mut binding, tiers) = binding(value)?;
        if binding.tiers > 1 && !may_have_tiers(steer, region_names.is_some(), tiers, fields.own(key), findings) {
            binding.tiers = 1;
        }
        Some((binding, value.span))
    };
    let (https, svcb) = (bound("https"), bound("svcb"));
    let mut srv = can("srv", true, findings).and_then(wanted_srv);
    if let Some(srv) = srv.as_mut().filter(|srv| srv.tiers > 1)
        && !may_have_tiers(steer, true, srv.span, fields.own("srv"), findings)
    {
        srv.tiers = 1;
    }
    let wanted = Wanted {
        region_names: region_names.map(|value| (value.span, fields.own("region-names").is_some())),
        https,
        svcb,
        srv,
    };
    let is_any =
        wanted.region_names.is_some() || wanted.https.is_some() || wanted.svcb.is_some() || wanted.srv.is_some();
    is_any.then(|| Box::new(wanted))
}

/// Whether there are regions to name, and names for them.
fn may_have_tiers(steer: &Steer, has_names: bool, tiers: Span, own: Option<&Value>, findings: &mut Findings) -> bool {
    let (message, hint) = match (steer, has_names) {
        (Steer::Any, _) => ("`tiers` with `steer = \"any\"`: all regions are one group", "choose another `steer`"),
        (_, false) => ("`tiers` without `region-names`: further records name the regions", "add region-names = true"),
        _ => return true,
    };
    if own.is_some() {
        findings.cross.push(Problem::error(tiers, message).hint(hint));
    }
    false
}

/// What `https` or `svcb` says, and where its tiers stand.
fn binding(value: &Value) -> Option<(Binding, Span)> {
    let fields = Fields::alone(&keys::BINDING, value.span, value.table()?);
    let mut head = Vec::new();
    let alpn: Vec<u8> = fields.each("alpn", protocol).iter().flat_map(|(id, _)| id.clone()).collect();
    put_param(&mut head, ALPN, &alpn);
    if let Some(port) = fields.integer::<u16>("port") {
        put_param(&mut head, PORT, &port.to_be_bytes());
    }
    let mut middle = Vec::new();
    put_param(&mut middle, ECH, &fields.custom("ech", |value| ech(value).ok()).unwrap_or_default());
    let (hints, tiers) = (fields.boolean("hints"), fields.integer("tiers").unwrap_or(1));
    Some((Binding { head: head.into(), middle: middle.into(), hints, tiers }, fields.at("tiers")))
}

/// Adds a parameter that has a value.
fn put_param(params: &mut Vec<u8>, key: u16, value: &[u8]) {
    if !value.is_empty() {
        params.extend(key.to_be_bytes());
        params.extend((value.len() as u16).to_be_bytes());
        params.extend(value);
    }
}

/// A protocol id with its length.
fn protocol(value: &Value) -> Read<Vec<u8>> {
    let id = kinds::text(value)?;
    let length = u8::try_from(id.len()).unwrap_or_default();
    Ok([&[length], id.as_bytes()].concat())
}

fn ech(value: &Value) -> Read<Vec<u8>> {
    let text = kinds::text(value)?;
    let octets = base64(text).ok().filter(|octets| u16::try_from(octets.len()).is_ok());
    octets.ok_or_else(|| {
        let problem = Problem::error(value.span, format!("{} is not base64", quoted(text)));
        Box::new(problem.allowed("an ECHConfigList in base64"))
    })
}

fn wanted_srv(value: &Value) -> Option<WantedSrv> {
    let fields = Fields::alone(&keys::SRV, value.span, value.table()?);
    let prefixes = Vec::from(fields.each("names", prefix));
    let (port, tiers) = (fields.integer("port"), fields.integer("tiers").unwrap_or(1));
    Some(WantedSrv { prefixes, port, tiers, span: value.span })
}

/// `_sip._tcp`, as a name of its own.
fn prefix(value: &Value) -> Read<Name> {
    let text = kinds::text(value)?;
    let name = Name::parse(text, None).ok().filter(|_| !text.ends_with('.'));
    let name = name.filter(|name| !name.is_root() && name.labels().all(|label| label.starts_with(b"_")));
    name.ok_or_else(|| {
        let problem = Problem::error(value.span, format!("{} is no name of a service", quoted(text)));
        Box::new(problem.allowed("labels that begin with an underscore, such as \"_sip._tcp\""))
    })
}

/// Checks `https` and `svcb`.
pub(super) fn check_binding(value: &Value, problems: &mut Vec<Problem>) {
    keys::check_whole_table(&keys::BINDING, value, problems);
}

/// Checks `srv`.
pub(super) fn check_srv(value: &Value, problems: &mut Vec<Problem>) {
    keys::check_whole_table(&keys::SRV, value, problems);
}

/// Checks `alpn`.
pub(super) fn check_alpn(value: &Value, problems: &mut Vec<Problem>) {
    check_count(value, MAX_ALPN, "protocols", problems);
    kinds::check_each(value, protocol, problems);
}

/// Checks `ech`.
pub(super) fn check_ech(value: &Value, problems: &mut Vec<Problem>) {
    kinds::report(ech(value), value, problems);
}

/// Checks `names` of `srv`.
pub(super) fn check_prefixes(value: &Value, problems: &mut Vec<Problem>) {
    check_count(value, MAX_PREFIXES, "names", problems);
    kinds::check_each(value, prefix, problems);
}

fn check_count(value: &Value, most: usize, what: &str, problems: &mut Vec<Problem>) {
    let count = value.elements().len();
    if !(1..=most).contains(&count) {
        problems.push(Problem::error(value.span, format!("{count} {what}")).allowed(format!("1 to {most}")));
    }
}

impl Wanted {
    /// What stands at the service's own names.
    pub(super) fn taken(&self) -> [Option<(RecordType, Span)>; 2] {
        let of = |binding: &Option<(Binding, Span)>, rtype| binding.as_ref().map(|(_, span)| (rtype, *span));
        [of(&self.https, RecordType::HTTPS), of(&self.svcb, RecordType::SVCB)]
    }
}

/// What services make beside themselves.
#[derive(Default)]
pub(super) struct Made {
    /// Their numbers follow those of the services.
    pub(super) derived: Vec<Service>,
    /// All names that are made, each with its place.
    pub(super) names: Vec<(Name, Span, Use)>,
    addresses: Vec<(Name, InstanceId, u32, Span)>,
}

/// Makes the names and derived services of all services, and tells the services of them.
pub(super) fn make(services: &mut [Placed], fleet: &Fleet, places: &Places, findings: &mut Findings) -> Made {
    let mut made = Made::default();
    let first = services.len();
    for (id, placed) in (0..).map(ServiceId).zip(services.iter_mut()) {
        let Some(wanted) = placed.wanted.take() else { continue };
        if placed.has_pool {
            let mut making = Making { id, placed, fleet, places, first, made: &mut made, findings };
            let regions = wanted.region_names.map_or_else(Box::default, |(span, is_own)| making.regions(span, is_own));
            let srv = wanted.srv.as_ref().and_then(|srv| making.srv(srv));
            let binding = |of: &Option<(Binding, Span)>| of.as_ref().map(|(binding, _)| binding.clone());
            let (https, svcb) = (binding(&wanted.https), binding(&wanted.svcb));
            placed.service.beside = Some(Box::new(Beside { https, svcb, regions, srv }));
        }
        placed.wanted = Some(wanted);
    }
    made
}

/// One service at work.
struct Making<'a> {
    id: ServiceId,
    placed: &'a Placed,
    fleet: &'a Fleet,
    places: &'a Places,
    /// How many services there are.
    first: usize,
    made: &'a mut Made,
    findings: &'a mut Findings,
}

impl Making<'_> {
    /// A service for each region. Fences hold there too. Where nothing works it says so: nothing stands in for the region, and
    /// what is down is not taken for up.
    fn regions(&mut self, span: Span, is_own: bool) -> Box<[(RegionId, ServiceId)]> {
        let service = &self.placed.service;
        let present = regions_of_pool(self.placed, self.fleet);
        if present.is_empty() && is_own {
            let message = format!("pool \"{}\" has no instance in a region", self.fleet.pool(service.pool).name);
            let problem = Problem::error(span, message).hint("give the instances regions, or leave `region-names` out");
            self.findings.cross.push(problem.also(self.placed.name, "the service"));
        }
        let mut parts = Vec::new();
        for region in present {
            let label = &self.fleet.region(region).name;
            let Some(name) = self.below(label.as_bytes(), span) else { continue };
            let derived = Service {
                name: name.clone(),
                aliases: Vec::new(),
                steer: Steer::Failover { order: vec![region] },
                when_all_down: WhenAllDown::Nodata,
                beside: None,
                derived: Some(Box::new(Derived::Region { of: self.id, region })),
                ..service.clone()
            };
            parts.push((region, self.push(derived)));
            let of = if self.fleet.has_cname(service.pool) && !service.no_cname { Use::Cname } else { Use::Region };
            self.made.names.push((name, span, of));
        }
        parts.into()
    }

    /// The service that answers SRV, and the names of the instances.
    fn srv(&mut self, wanted: &WantedSrv) -> Option<ServiceId> {
        let mut targets: Vec<Target> = Vec::new();
        let fleet = self.fleet;
        let service = &self.placed.service;
        for &id in &fleet.pool(service.pool).instances {
            let instance = fleet.instance(id);
            let cname = fleet.cname(id);
            if instance.addresses.is_empty() && cname.is_none() {
                continue;
            }
            let place = self.places.instances[id.0 as usize];
            let Some(port) = self.port(id, wanted) else { continue };
            if let Some(cname) = cname {
                targets.push(Target { instance: id, port, name: cname.target.clone() });
                continue;
            }
            let Some(name) = self.below(instance.name.as_bytes(), place) else { continue };
            self.made.names.push((name.clone(), place, Use::Target));
            self.made.addresses.push((name.clone(), id, service.manner.ttl.max, place));
            targets.push(Target { instance: id, port, name });
        }
        targets.sort_unstable_by_key(|target| target.instance);
        let own: Vec<Name> =
            self.placed.names().map(|(name, _)| name.clone()).filter(|name| !name.is_wildcard()).collect();
        let mut names = Vec::new();
        for (prefix, span) in &wanted.prefixes {
            for name in &own {
                match joined(prefix, name) {
                    Some(name) => names.push((name, *span)),
                    None => self.findings.cross.push(too_long(*span, prefix, name)),
                }
            }
        }
        self.made.names.extend(names.iter().map(|(name, span)| (name.clone(), *span, Use::Srv)));
        let mut names = names.into_iter().map(|(name, _)| name);
        let derived = Service {
            name: names.next()?,
            aliases: names.collect(),
            steer: Steer::Any,
            map: None,
            when_all_down: WhenAllDown::Nodata,
            beside: None,
            derived: Some(Box::new(Derived::Srv(Srv { of: self.id, tiers: wanted.tiers, targets: targets.into() }))),
            ..service.clone()
        };
        Some(self.push(derived))
    }

    fn port(&mut self, id: InstanceId, wanted: &WantedSrv) -> Option<u16> {
        let own = self.places.ports[id.0 as usize];
        let port = (own > 0).then_some(own).or(wanted.port);
        if port.is_none() {
            let message = format!("no port for the SRV records of {}", self.placed.service.name.to_plain());
            let problem = Problem::error(self.places.instances[id.0 as usize], message);
            let problem = problem.hint("give `port` in the instance or in `srv`");
            self.findings.cross.push(problem.also(wanted.span, "`srv` of the service"));
        }
        port
    }

    /// A name with one more label.
    fn below(&mut self, label: &[u8], span: Span) -> Option<Name> {
        let wire = [&[label.len().min(MAX_LABEL) as u8], label, &[0]].concat();
        let label = Name::from_wire(&wire).ok()?;
        let name = joined(&label, &self.placed.service.name);
        if name.is_none() {
            self.findings.cross.push(too_long(span, &label, &self.placed.service.name));
        }
        name
    }

    fn push(&mut self, derived: Service) -> ServiceId {
        let id = ServiceId((self.first + self.made.derived.len()) as u32);
        self.made.derived.push(derived);
        id
    }
}

/// The labels of `prefix` before `name`, where that is not too long.
fn joined(prefix: &Name, name: &Name) -> Option<Name> {
    let (_, labels) = prefix.as_wire().split_last()?;
    Name::from_wire(&[labels, name.as_wire()].concat()).ok()
}

fn too_long(span: Span, prefix: &Name, name: &Name) -> Problem {
    Problem::error(span, format!("{}.{} is longer than a name may be", prefix.to_plain(), name.to_plain()))
}

impl Made {
    /// Gives the targets of SRV records their addresses, each in the zone whose apex is closest.
    pub(super) fn add_addresses(&self, fleet: &Fleet, zones: &mut [Zone]) {
        for (name, id, ttl, span) in &self.addresses {
            let above = zones.iter_mut().filter(|zone| name.is_at_or_below(&zone.origin));
            let Some(zone) = above.max_by_key(|zone| zone.origin.as_wire().len()) else { continue };
            for address in &fleet.instance(*id).addresses {
                add(&mut zone.records, name, *ttl, address.ip, *span);
            }
        }
    }
}

fn add(records: &mut Records, name: &Name, ttl: u32, address: IpAddr, span: Span) {
    let (v4, v6);
    let (rtype, rdata): (RecordType, &[u8]) = match address {
        IpAddr::V4(address) => {
            v4 = address.octets();
            (RecordType::A, &v4)
        }
        IpAddr::V6(address) => {
            v6 = address.octets();
            (RecordType::AAAA, &v6)
        }
    };
    // Beyond 4 GiB of a zone, which its file would have reported.
    let _ = records.push(Record { owner: name.as_wire(), rtype, ttl, rdata, span });
}
