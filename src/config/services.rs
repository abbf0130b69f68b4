//! `[services]`: each by itself; how they fit maps, zones and each other is `fit`'s.

use std::collections::HashMap;
use std::time::Duration;

use super::checks::refuse_unused;
use super::fields::{Fields, Index, entries};
use super::files::{Document, Named};
use super::findings::Findings;
use super::keys::{self, MAX_WEIGHT};
use super::kinds::{self, Read};
use super::pools::instance_address;
use super::records::{self, Wanted};
use super::value::{Data, Entry, Value, quoted};
use crate::dns::Name;
use crate::fleet::{Fleet, PoolId, RegionId};
use crate::problem::{Problem, Span};
use crate::steering::service::{TOLERANCE, Ttl};
use crate::steering::{Balance, Manner, MapId, Service, ServiceId, Steer, Sticky, StickyBy, StickyLevel, WhenAllDown};

/// Longest TTL, in seconds.
const MAX_TTL: u64 = 86_400;
/// Largest `spill`.
const MOST_SPILL: f64 = 100.0;
/// Largest tolerance in time.
const MOST_TOLERANCE_MS: u64 = 1_000;
const WHEN_ALL_DOWN: &[&str] = &["serve-all", "nodata", "servfail"];

/// A service, and where its parts stand.
pub(super) struct Placed {
    pub(super) service: Service,
    /// False when its pool is not known: then it fits nothing.
    pub(super) has_pool: bool,
    pub(super) name: Span,
    pub(super) aliases: Vec<Span>,
    pub(super) map: Span,
    pub(super) steer: Span,
    pub(super) when_all_down: Span,
    /// Places of `order` or `shares`, one for each region named.
    pub(super) regions: Vec<Span>,
    /// Place of a `sticky` that it gives itself.
    pub(super) sticky: Option<Span>,
    is_order_given: bool,
    /// What it is to answer beside addresses.
    pub(super) wanted: Option<Box<Wanted>>,
}

/// What services refer to.
struct References<'d> {
    pools: Index<'d>,
    maps: Index<'d>,
    regions: Index<'d>,
    services: &'d Named,
    /// The first service of each name: written differently, two keys may be one.
    names: HashMap<Name, ServiceId>,
}

impl<'d> References<'d> {
    fn of(document: &'d Document, names: &[Name]) -> References<'d> {
        let mut numbers = HashMap::with_capacity(names.len());
        for (name, number) in names.iter().zip(0..) {
            numbers.entry(name.clone()).or_insert(ServiceId(number));
        }
        References {
            pools: Index::new("pool", document.section("pools")),
            maps: Index::new("map", document.section("maps")),
            regions: Index::new("region", document.section("regions")),
            services: document.section("services"),
            names: numbers,
        }
    }
}

/// The mixes of pools so far, by shares: equal ones are one.
type Mixes = HashMap<Box<[(PoolId, u32)]>, PoolId>;

/// Compiles all services, in configured order.
pub(super) fn compile(document: &Document, fleet: &mut Fleet, findings: &mut Findings) -> Vec<Placed> {
    let entries = document.named("services");
    let name_of = |entry: &Entry| kinds::domain_name_of(&entry.name).unwrap_or_else(|_| Name::root());
    let names: Vec<Name> = entries.iter().map(name_of).collect();
    let references = References::of(document, &names);
    let mut services = Vec::with_capacity(entries.len());
    let mut mixes = Mixes::new();
    for (entry, name) in entries.iter().zip(names) {
        let fields = Fields::of(document, "services", "service", &keys::SERVICE, entry, findings);
        fields.require(findings);
        let pool = fields.find("pool").and_then(|value| pool(value, &references, fleet, &mut mixes, findings));
        services.push(service(&fields, name, pool, &references, findings));
    }
    services
}

fn service(
    fields: &Fields<'_>,
    name: Name,
    pool: Option<PoolId>,
    references: &References<'_>,
    findings: &mut Findings,
) -> Placed {
    let (aliases, alias_places): (Vec<Name>, Vec<Span>) =
        Vec::from(fields.each("aliases", kinds::domain_name)).into_iter().unzip();
    let map = fields.find("map").and_then(|value| references.maps.resolve(value, findings));
    let (steer, regions) = steer(fields, references, findings);
    let sticky = sticky_of(fields, &steer, std::iter::once(&name).chain(&aliases), findings);
    if matches!(steer, Steer::Geo) && fields.find("map").is_none() {
        let problem = Problem::error(fields.at("steer"), "`steer = \"geo\"` without a map");
        let hint = match references.maps.named.names().next() {
            Some(first) => format!("add map = \"{first}\""),
            None => "write [maps.world] and add map = \"world\"".to_string(),
        };
        findings.cross.push(problem.hint(hint).also(fields.place, "of this service"));
    }
    let wanted = records::read(fields, &name, &steer, findings);
    let placed = Placed {
        service: Service {
            name,
            aliases,
            pool: pool.unwrap_or(PoolId(0)),
            steer,
            map: map.map(MapId),
            spill: fields.custom("spill", |value| spill(value).ok()),
            when_all_down: when_all_down(fields, references, findings),
            manner: Manner {
                balance: balance(fields, sticky),
                answers: fields.integer("answers").unwrap_or(1),
                ttl: fields.custom("ttl", |value| ttl(value).ok()).unwrap_or_default(),
                sticky,
                ecs: fields.boolean("ecs"),
            },
            beside: None,
            // Known when the zones are.
            no_cname: false,
            derived: None,
        },
        has_pool: pool.is_some(),
        name: fields.place,
        aliases: alias_places,
        map: fields.at("map"),
        steer: fields.at("steer"),
        when_all_down: fields.at("when-all-down"),
        regions,
        sticky: fields.own("sticky").map(|value| value.span),
        is_order_given: fields.find("order").is_some(),
        wanted,
    };
    refuse_names_without_label(&placed, fields.at("sticky"), findings);
    placed
}

impl Placed {
    /// Its name and aliases, each with its place.
    pub(super) fn names(&self) -> impl Iterator<Item = (&Name, Span)> {
        let aliases = self.service.aliases.iter().zip(self.aliases.iter().copied());
        std::iter::once((&self.service.name, self.name)).chain(aliases)
    }

    /// Without `order`, failover goes by the regions as configured: only those in which the pool has instances count.
    pub(super) fn complete_order(&mut self, configured: impl Iterator<Item = RegionId>) {
        if let Steer::Failover { order } = &mut self.service.steer
            && !self.is_order_given
        {
            *order = configured.collect();
        }
    }
}

/// One pool, or several by shares.
fn pool(
    value: &Value,
    references: &References<'_>,
    fleet: &mut Fleet,
    mixes: &mut Mixes,
    findings: &mut Findings,
) -> Option<PoolId> {
    let Some(table) = value.table() else { return references.pools.resolve(value, findings).map(PoolId) };
    let mut shares: Vec<(PoolId, u32)> = Vec::new();
    for entry in &table.entries {
        let pool = references.pools.resolve(&entry.name_as_value(), findings).map(PoolId);
        shares.extend(pool.zip(share(&entry.value)));
    }
    shares.retain(|(_, share)| *share > 0);
    let shares: Box<[(PoolId, u32)]> = shares.into();
    if shares.is_empty() {
        return None;
    }
    if let Some(&mix) = mixes.get(&shares) {
        return Some(mix);
    }
    let mix = fleet.mix(shares.clone());
    mixes.insert(shares, mix);
    Some(mix)
}

/// A share, where it is one.
pub(super) fn share(value: &Value) -> Option<u32> {
    kinds::integer(value, 0, MAX_WEIGHT).ok().and_then(|share| u32::try_from(share).ok())
}

fn steer(fields: &Fields<'_>, references: &References<'_>, findings: &mut Findings) -> (Steer, Vec<Span>) {
    let kind = fields.text("steer").unwrap_or_default();
    let with = format!("`steer = \"{kind}\"`");
    let is_known = fields.find("steer").is_none_or(|value| value.text() == Some(&kind));
    for (key, of) in [("order", &["failover"][..]), ("shares", &["weighted"]), ("tolerance", &["nearest", "latency"])] {
        if !of.contains(&&*kind) && is_known {
            refuse_unused(fields, &[key], &with, findings);
        }
    }
    match kind.as_str() {
        "geo" => (Steer::Geo, Vec::new()),
        "nearest" => {
            let tolerance = fields.custom("tolerance", |value| kinds::share(value, 10_000).ok()).unwrap_or(500);
            refuse_tolerance(fields, is_time, "a share of the distance, \"5%\"", &with, findings);
            (Steer::Nearest { tolerance: u16::try_from(tolerance).unwrap_or_default() }, Vec::new())
        }
        "latency" => {
            let tolerance = fields.custom("tolerance", |value| tenths(value).ok()).unwrap_or(TOLERANCE);
            let is_share = |value: &Value| kinds::share(value, 10_000).is_ok();
            refuse_tolerance(fields, is_share, "a time, \"10ms\"", &with, findings);
            (Steer::Latency { tolerance }, Vec::new())
        }
        "failover" => order(fields, references, findings),
        "weighted" => shares(fields, references, findings),
        _ => (Steer::Any, Vec::new()),
    }
}

/// Says that a service gives the tolerance of another policy; one that it takes from elsewhere is passed over.
fn refuse_tolerance(
    fields: &Fields<'_>,
    is_other: impl Fn(&Value) -> bool,
    allowed: &str,
    with: &str,
    findings: &mut Findings,
) {
    if let Some(value) = fields.own("tolerance").filter(|value| is_other(value)) {
        let problem = Problem::error(value.span, format!("{} is no tolerance for {with}", value.shown()));
        findings.cross.push(problem.allowed(allowed));
    }
}

fn order(fields: &Fields<'_>, references: &References<'_>, findings: &mut Findings) -> (Steer, Vec<Span>) {
    let (mut order, mut places): (Vec<RegionId>, Vec<Span>) = (Vec::new(), Vec::new());
    if let Some(value) = fields.find("order")
        && value.elements().is_empty()
    {
        let problem = Problem::error(value.span, "`order` without regions");
        findings.cross.push(problem.hint("leave it out to go by the regions as configured"));
    }
    for value in fields.find("order").map(Value::elements).unwrap_or_default() {
        let number = references.regions.resolve(value, findings).and_then(|number| u16::try_from(number).ok());
        let Some(region) = number.map(RegionId) else { continue };
        match order.iter().position(|earlier| *earlier == region) {
            Some(first) => {
                let problem = Problem::error(value.span, format!("{} is listed twice", value.shown()));
                findings.cross.push(problem.also(places[first], "first listed here"));
            }
            None => {
                order.push(region);
                places.push(value.span);
            }
        }
    }
    (Steer::Failover { order }, places)
}

fn shares(fields: &Fields<'_>, references: &References<'_>, findings: &mut Findings) -> (Steer, Vec<Span>) {
    let (mut shares, mut places) = (Vec::new(), Vec::new());
    let Some(value) = fields.find("shares") else {
        let problem = Problem::error(fields.at("steer"), "`steer = \"weighted\"` without shares");
        findings.cross.push(problem.hint("add shares = { eu-west = 70, us-east = 30 }"));
        return (Steer::Weighted { shares }, places);
    };
    for entry in entries(value) {
        let number =
            references.regions.resolve(&entry.name_as_value(), findings).and_then(|number| u16::try_from(number).ok());
        if let (Some(region), Some(share)) = (number.map(RegionId), share(&entry.value)) {
            shares.push((region, share));
            places.push(entry.key);
        }
    }
    (Steer::Weighted { shares }, places)
}

fn when_all_down(fields: &Fields<'_>, references: &References<'_>, findings: &mut Findings) -> WhenAllDown {
    let Some(value) = fields.find("when-all-down") else { return WhenAllDown::ServeAll };
    match &value.data {
        Data::Text(text) if text == "nodata" => WhenAllDown::Nodata,
        Data::Text(text) if text == "servfail" => WhenAllDown::Servfail,
        Data::Table(table) => match (table.get("service"), table.get("address")) {
            (Some(service), None) => fallback(service, references, findings),
            (None, Some(address)) => WhenAllDown::Addresses(
                address.elements().iter().filter_map(|value| instance_address(value).ok()).collect(),
            ),
            _ => WhenAllDown::ServeAll,
        },
        _ => WhenAllDown::ServeAll,
    }
}

fn fallback(value: &Value, references: &References<'_>, findings: &mut Findings) -> WhenAllDown {
    let Ok(name) = kinds::domain_name(value) else { return WhenAllDown::ServeAll };
    match references.names.get(&name) {
        Some(&id) => WhenAllDown::Service(id),
        None => {
            let (found, known) = (value.text().unwrap_or_default(), references.services.names());
            findings.cross.push(super::fields::unknown_reference(value, "service", found, known));
            WhenAllDown::ServeAll
        }
    }
}

/// Checks `when-all-down`.
pub(super) fn check_when_all_down(value: &Value, problems: &mut Vec<Problem>) {
    const FORMS: &str = "\"serve-all\", \"nodata\", \"servfail\", { service = \"…\" }, { address = [\"…\"] }";
    let Some(table) = value.table() else {
        if let Err(problem) = kinds::choice(value, WHEN_ALL_DOWN, &[]) {
            problems.push(problem.allowed(FORMS));
        }
        return;
    };
    for entry in &table.entries {
        match entry.name.as_str() {
            "service" => kinds::check(&kinds::Kind::DomainName, &entry.value, problems),
            "address" if entry.value.elements().is_empty() => {
                problems.push(Problem::error(entry.value.span, "no address"));
            }
            "address" => kinds::check_each(&entry.value, instance_address, problems),
            name => {
                let problem = Problem::error(entry.key, format!("unknown key {} in when-all-down", quoted(name)));
                problems.push(keys::unknown(problem.allowed(FORMS), name, &["service", "address"]));
            }
        }
    }
    let given = ["service", "address"].into_iter().filter(|name| table.get(name).is_some()).count();
    if given != 1 && table.entries.len() == given {
        let found = if given == 0 { "an empty table" } else { "both a service and addresses" };
        problems.push(Problem::error(value.span, found).allowed(FORMS));
    }
}

/// Checks `pool` of a service.
pub(super) fn check_pool(value: &Value, problems: &mut Vec<Problem>) {
    match value.data {
        Data::Table(_) => check_shares_of(value, "{ web = 99, web-v2 = 1 }", "no pool would get clients", problems),
        _ => kinds::check(&kinds::Kind::Reference("pool"), value, problems),
    }
}

fn ttl(value: &Value) -> Read<Ttl> {
    if value.table().is_none() {
        return seconds(value).map(|ttl| Ttl { max: ttl, min: ttl });
    }
    let fields = Fields::alone(&keys::TTL, value.span, value.table().expect("it is a table"));
    let read = |key| fields.custom(key, |value| seconds(value).ok()).unwrap_or_default();
    let ttl = Ttl { max: read("max"), min: read("min") };
    if ttl.min <= ttl.max {
        return Ok(ttl);
    }
    let problem = Problem::error(fields.at("min"), "`min` is longer than `max`");
    Err(Box::new(problem.also(fields.at("max"), "`max` is here")))
}

fn seconds(value: &Value) -> Read<u32> {
    let duration = kinds::duration(value, 0, MAX_TTL * 1_000)?;
    if duration != Duration::from_secs(duration.as_secs()) {
        let problem = Problem::error(value.span, format!("{} is not a whole number of seconds", value.shown()));
        return Err(Box::new(problem.allowed("0s to 1d in whole seconds")));
    }
    Ok(u32::try_from(duration.as_secs()).unwrap_or_default())
}

/// Checks `max` and `min` of a `ttl`.
pub(super) fn check_seconds(value: &Value, problems: &mut Vec<Problem>) {
    kinds::report(seconds(value), value, problems);
}

/// Checks `ttl`.
pub(super) fn check_ttl(value: &Value, problems: &mut Vec<Problem>) {
    if value.table().is_some() {
        let before = problems.len();
        keys::check_whole_table(&keys::TTL, value, problems);
        if problems.len() > before {
            return;
        }
    }
    kinds::report(ttl(value), value, problems);
}

/// In thousandths.
fn spill(value: &Value) -> Read<u32> {
    let factor = kinds::number(value, 0.0, MOST_SPILL)?;
    let thousandths = (factor * 1000.0).round() as u32;
    if thousandths > 0 {
        return Ok(thousandths);
    }
    let problem = Problem::error(value.span, "no client of a region would ever stay in it");
    Err(Box::new(problem.allowed("1.0: half of the weight serves half of the clients; 1.4: with 40% to spare")))
}

/// Checks `spill`.
pub(super) fn check_spill(value: &Value, problems: &mut Vec<Problem>) {
    kinds::report(spill(value), value, problems);
}

/// Checks `shares`.
pub(super) fn check_shares(value: &Value, problems: &mut Vec<Problem>) {
    check_shares_of(value, "{ eu-west = 70, us-east = 30 }", "no region would get clients", problems);
}

fn check_shares_of(value: &Value, form: &str, nobody: &str, problems: &mut Vec<Problem>) {
    let Some(table) = value.table() else {
        problems.push(kinds::wrong_type(value, "a table of shares").allowed(form));
        return;
    };
    let before = problems.len();
    let mut sum = 0;
    for entry in &table.entries {
        match kinds::integer(&entry.value, 0, MAX_WEIGHT) {
            Ok(share) => sum += share,
            problem => kinds::report(problem, &entry.value, problems),
        }
    }
    if sum == 0 && problems.len() == before {
        let problem = Problem::error(value.span, format!("the shares sum up to 0: {nobody}"));
        problems.push(problem.allowed("at least one share above 0"));
    }
}

/// Checks `tolerance`.
pub(super) fn check_tolerance(value: &Value, problems: &mut Vec<Problem>) {
    if is_time(value) {
        kinds::report(tenths(value), value, problems);
    } else if let Err(problem) = kinds::share(value, 10_000) {
        let forms = "\"5%\" for `steer = \"nearest\"`, \"10ms\" for `steer = \"latency\"`";
        let problem = if problem.allowed.is_some() { *problem } else { problem.allowed(forms) };
        kinds::report::<()>(Err(Box::new(problem)), value, problems);
    }
}

fn is_time(value: &Value) -> bool {
    value.text().is_some_and(|text| super::text::duration(text).is_some())
}

/// A tolerance in time, in tenths of a millisecond.
fn tenths(value: &Value) -> Read<u16> {
    let tolerance = kinds::duration(value, 0, MOST_TOLERANCE_MS)?;
    Ok(u16::try_from(tolerance.as_millis() * 10).unwrap_or(u16::MAX))
}

/// Where only the region is kept, instances are balanced inside it by weight.
fn balance(fields: &Fields<'_>, sticky: Sticky) -> Balance {
    match fields.text("balance").as_deref() {
        Some("sticky") if sticky.level == StickyLevel::Region => Balance::Weighted,
        Some("sticky") => Balance::Sticky,
        Some("round-robin") => Balance::RoundRobin,
        Some("random") => Balance::Random,
        Some("least-load") => Balance::LeastLoad,
        _ => Balance::Weighted,
    }
}

/// What groups the clients of a service; it must be able to.
fn sticky_of<'n>(
    fields: &Fields<'_>,
    steer: &Steer,
    names: impl IntoIterator<Item = &'n Name>,
    findings: &mut Findings,
) -> Sticky {
    let mut sticky = fields.custom("sticky", sticky).unwrap_or_default();
    // What is inherited holds where it can.
    let is_own = fields.own("sticky").is_some();
    let has_labels = names.into_iter().all(Name::is_wildcard);
    if sticky.by == StickyBy::Label && !has_labels && !is_own {
        sticky.by = StickyBy::Client;
    }
    if sticky.level == StickyLevel::Region && *steer == Steer::Any && !is_own {
        sticky.level = StickyLevel::Instance;
    }
    if sticky.level == StickyLevel::Region && *steer == Steer::Any {
        let message = "no region to keep: with `steer = \"any\"` all regions are one group";
        let problem = Problem::error(fields.at("sticky"), message).hint("choose another `steer`");
        findings.cross.push(problem.also(fields.place, "of this service"));
    }
    sticky
}

/// Labels are the clients' own in the names of a wildcard alone.
fn refuse_names_without_label(placed: &Placed, asked: Span, findings: &mut Findings) {
    if placed.service.manner.sticky.by == StickyBy::Client {
        return;
    }
    for (name, span) in placed.names().filter(|(name, _)| !name.is_root() && !name.is_wildcard()) {
        let message = format!("{} has no label of the client's to be sticky by", name.to_plain());
        let problem = Problem::error(span, message).hint("`by = \"label\"` is for wildcards, \"*.app.example.com\"");
        findings.cross.push(problem.also(asked, "asked for here"));
    }
}

fn sticky(value: &Value) -> Option<Sticky> {
    let fields = Fields::alone(&keys::STICKY, value.span, value.table()?);
    Some(Sticky {
        by: if fields.text("by").as_deref() == Some("label") { StickyBy::Label } else { StickyBy::Client },
        level: match fields.text("level").as_deref() {
            Some("region") => StickyLevel::Region,
            _ => StickyLevel::Instance,
        },
        ipv4: fields.integer("ipv4")?,
        ipv6: fields.integer("ipv6")?,
    })
}

/// Checks `sticky`.
pub(super) fn check_sticky(value: &Value, problems: &mut Vec<Problem>) {
    kinds::check(&kinds::Kind::Table(&keys::STICKY), value, problems);
}
