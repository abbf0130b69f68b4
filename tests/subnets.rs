//! Random configurations asked for many clients: every client inside ADDRESS/SCOPE of an answer gets that answer
//! (RFC 7871 §7.2.1, SPEC 7.5), and the order of regions is that of a second evaluation, written from SPEC 1.5 `[geo]` and
//! 4.1 to 4.4. Networks and two data bases over each other, maps, fences, tolerances, masks, lengths that are looked at,
//! senders that are trusted and others, IPv4 inside IPv6, chains, stand-ins, regions that shed.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use waymark::latency::ENOUGH;
use waymark::steering::client::mask;

use crate::support::mmdb::{Value, Writer, map, text};
use crate::support::node::Node;
use crate::support::query::{Ask, CLIENT_SUBNET, scope, subnet_option};

/// Latitude and longitude of each region; the last is only named.
const REGIONS: [(f64, f64); 5] = [(53.3, -6.3), (50.1, 8.7), (38.9, -77.0), (1.3, 103.8), (48.0, 2.0)];
const ONLY_NAMED: usize = 4;
/// `(continent, country, as, coordinates)`; empty and 0 = not given.
type Place = (&'static str, &'static str, u32, Option<(f64, f64)>);
const UNKNOWN: Place = ("", "", 0, None);
/// Places that networks may have.
const PLACES: [Place; 8] = [
    ("EU", "DE", 0, Some((50.0, 8.0))),
    ("EU", "DE", 64500, Some((53.0, 1.0))),
    ("NA", "US", 0, Some((40.0, -90.0))),
    ("AS", "IN", 64500, Some((19.0, 72.0))),
    ("EU", "FR", 64501, Some((51.4, 1.2))),
    ("", "", 64500, None),
    ("EU", "", 0, None),
    ("", "", 0, Some((38.0, -80.0))),
];
/// Whose subnets may not name special-purpose addresses: a resolver somewhere.
const FAR: &str = "9.9.9.9";
const PLACE_SELECTORS: [&str; 8] = [
    "continent:EU",
    "country:DE",
    "country:US",
    "as:64500",
    "as:64500,country:DE",
    "continent:EU,country:DE",
    "as:64501,continent:EU",
    "continent:AS",
];

#[derive(Clone, Debug)]
enum Element {
    Region(usize),
    Tier(Vec<usize>),
    /// Which of them is first the client's key decides.
    Split(Vec<usize>),
    Rest,
}

type List = Vec<Element>;

/// A random configuration, as data for the second evaluation and as text for the server.
#[derive(Clone, Debug)]
struct Setting {
    /// The operator's networks, then data bases.
    layers: [BTreeMap<IpNet, usize>; 3],
    looks: Looks,
    default: List,
    entries: BTreeMap<String, List>,
    fences: BTreeMap<String, Vec<usize>>,
    fence_unknown: bool,
    within_listed: bool,
    down: Vec<usize>,
    /// What clients measured: prefix, region, milliseconds.
    samples: Vec<(IpNet, usize, u16)>,
    explores: bool,
}

/// How clients are looked at.
#[derive(Clone, Debug)]
struct Looks {
    /// `[ecs] ipv4` and `ipv6`.
    bits: (u8, u8),
    /// Masks of stickiness.
    sticky: (u8, u8),
    /// Queries come from [`FAR`], not from a trusted sender.
    far: bool,
    /// A region, and the part of its clients that begin there, in percent.
    shed: Option<(usize, u16)>,
}

fn looks() -> impl Strategy<Value = Looks> {
    let bits = (prop::sample::select(&[32, 32, 24, 17, 1, 0][..]), prop::sample::select(&[128, 64, 56, 33, 3, 0][..]));
    let sticky = (prop::sample::select(&[24, 32, 20, 1, 0][..]), prop::sample::select(&[56, 64, 40, 1, 0][..]));
    let shed = prop::option::weighted(0.25, (0..REGIONS.len(), 1u16..100));
    (bits, sticky, any::<bool>(), shed).prop_map(|(bits, sticky, far, shed)| Looks { bits, sticky, far, shed })
}

/// Few leading bits, so that prefixes nest and touch.
fn prefix() -> impl Strategy<Value = IpNet> {
    let v4 = (6u8..=30, any::<u32>()).prop_map(|(length, low)| {
        let address = 0x5100_0000 | low & 0x00ff_f0f0 & low.rotate_left(7);
        IpNet::new(IpAddr::from(address.to_be_bytes()), length)
    });
    let v6 = (12u8..=62, any::<u64>()).prop_map(|(length, low)| {
        let address = u128::from(0x2a00_0000_0000_0000 | low & low.rotate_left(9) & 0x0000_ffff_ffff_ff00) << 64;
        IpNet::new(IpAddr::from(address.to_be_bytes()), length)
    });
    prop_oneof![v4, v6].prop_map(|net| net.expect("a length of the family").trunc())
}

/// Now and then a whole family, or half of it.
fn wide_or(prefix: impl Strategy<Value = IpNet>) -> impl Strategy<Value = IpNet> {
    let wide = prop::sample::select(&["0.0.0.0/0", "::/0", "0.0.0.0/1", "2000::/3"][..]);
    prop_oneof![9 => prefix, 1 => wide.prop_map(|text| text.parse().expect("a prefix"))]
}

fn list() -> impl Strategy<Value = List> {
    let order = Just((0..REGIONS.len()).collect::<Vec<usize>>()).prop_shuffle();
    (order, 0usize..=3, 0usize..=2, any::<bool>(), any::<bool>()).prop_map(|(order, single, tier, split, rest)| {
        let mut list: List = order[..single].iter().map(|&region| Element::Region(region)).collect();
        let several = order[single..single + tier].to_vec();
        match tier {
            0 => {}
            _ if split => list.insert(list.len().min(1), Element::Split(several)),
            _ => list.push(Element::Tier(several)),
        }
        if rest || list.is_empty() {
            list.push(Element::Rest);
        }
        list
    })
}

fn selector() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => prop::sample::select(&PLACE_SELECTORS[..]).prop_map(String::from),
        2 => wide_or(prefix()).prop_map(|net| net.to_string()),
        1 => prefix().prop_map(|net| format!("{net},country:DE")),
    ]
}

fn setting() -> impl Strategy<Value = Setting> {
    let regions = || prop::collection::btree_set(0..REGIONS.len(), 1..4).prop_map(|set| set.into_iter().collect());
    let layer = |most| prop::collection::btree_map(wide_or(prefix()), 0..PLACES.len(), 0..most);
    (
        ([layer(10), layer(6), layer(6)], looks()),
        list(),
        prop::collection::btree_map(selector(), list(), 0..7),
        prop::collection::btree_map(selector(), regions(), 0..3),
        any::<bool>(),
        any::<bool>(),
        prop::collection::vec(0..REGIONS.len(), 0..4),
        prop::collection::vec((prefix(), 0..REGIONS.len(), 1u16..60), 0..24),
        any::<bool>(),
    )
        .prop_map(
            |((layers, mut looks), default, entries, fences, fence_unknown, within_listed, down, samples, explores)| {
                // A fence of more bits than are looked at is refused.
                if fences.keys().any(|selector: &String| selector.contains('/')) {
                    looks.bits = (32, 128);
                }
                Setting {
                    layers,
                    looks,
                    default,
                    entries,
                    fences,
                    fence_unknown,
                    within_listed,
                    down,
                    samples,
                    explores,
                }
            },
        )
}

impl Setting {
    fn node(&self) -> Node {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |name: &str, octets: &[u8]| std::fs::write(folder.path().join(name), octets).expect("written");
        write("waymark.toml", self.text().as_bytes());
        write("networks", self.networks_text().as_bytes());
        write("zone", ZONE.as_bytes());
        for (name, layer) in self.databases() {
            let networks = layer.iter().map(|(prefix, place)| (*prefix, record(PLACES[*place]))).collect();
            write(name, &Writer { networks, aliases: false, ..Writer::new([]) }.write());
        }
        let mut node = Node::load(&folder.path().join("waymark.toml"));
        node.down("pool/none");
        for region in &self.down {
            node.down(&format!("region/r{region}"));
        }
        for &(prefix, region, ms) in &self.samples {
            (0..ENOUGH).for_each(|_| node.measure(prefix, &format!("r{region}"), ms.into()));
        }
        node.go_by_measured();
        if let Some((region, percent)) = self.looks.shed {
            node.weigh(&format!("r{region}"), percent);
        }
        node
    }

    /// Names and networks of the data bases; one that knows nothing is refused.
    fn databases(&self) -> impl Iterator<Item = (&'static str, &BTreeMap<IpNet, usize>)> {
        ["first.mmdb", "second.mmdb"].into_iter().zip(&self.layers[1..]).filter(|(_, layer)| !layer.is_empty())
    }

    fn text(&self) -> String {
        let Looks { bits, sticky, .. } = self.looks;
        let names: Vec<&str> = self.databases().map(|(name, _)| name).collect();
        let sticky = format!("{{ ipv4 = {}, ipv6 = {} }}", sticky.0, sticky.1);
        let mut text = HEAD.replace("STICKY", &sticky).replace("DATABASES", &format!("{names:?}"));
        text += &format!("[ecs]\nipv4 = {}\nipv6 = {}\n", bits.0, bits.1);
        for (at, (latitude, longitude)) in REGIONS.iter().enumerate() {
            let only_named = at == ONLY_NAMED;
            text += &format!(
                "[regions.r{at}]\nlocation = {{ latitude = {latitude:?}, longitude = {longitude:?} }}\n\
                 only-named = {only_named}\n"
            );
        }
        text += "[pools.web.instances]\n";
        for at in 0..REGIONS.len() {
            for second in 1..=1 + at % 3 {
                let weight = 1 + second % 2;
                text += &format!(
                    "i{at}-{second} = {{ region = \"r{at}\", address = \"192.0.2.{}{second}\", weight = {weight} }}\n",
                    at + 1
                );
            }
        }
        let (unknown, within) = (
            if self.fence_unknown { "nodata" } else { "default" },
            if self.within_listed { "listed" } else { "nearest" },
        );
        for (map, within) in [("world", within), ("measured", "latency")] {
            text += &format!("[maps.{map}]\nwithin = \"{within}\"\nfence-unknown = \"{unknown}\"\n");
            text += &format!("default = {}\n", list_text(&self.default));
            for (selector, list) in &self.entries {
                text += &format!("\"{selector}\" = {}\n", list_text(list));
            }
            text += &format!("[maps.{map}.fences]\n");
            for (selector, regions) in &self.fences {
                let regions: Vec<String> = regions.iter().map(|region| format!("r{region}")).collect();
                text += &format!("\"{selector}\" = {regions:?}\n");
            }
        }
        text += &format!("[latency]\nexplore = \"{}\"\n", if self.explores { "10%" } else { "0%" });
        text
    }

    fn networks_text(&self) -> String {
        let line = |(prefix, place): (&IpNet, &usize)| {
            let (continent, country, system, coordinates) = PLACES[*place];
            let mut parts = Vec::new();
            let codes = [("continent", continent), ("country", country)];
            parts.extend(
                codes.iter().filter(|(_, code)| !code.is_empty()).map(|(key, code)| format!("{key} = {code:?}")),
            );
            if system != 0 {
                parts.push(format!("as = {system}"));
            }
            if let Some((latitude, longitude)) = coordinates {
                parts.push(format!("latitude = {latitude:?}, longitude = {longitude:?}"));
            }
            format!("\"{prefix}\" = {{ {} }}\n", parts.join(", "))
        };
        self.layers[0].iter().map(line).collect()
    }

    /// The address that decides for a client: what is looked at of its own, or the resolver's where it is set aside.
    fn address(&self, client: IpAddr) -> IpAddr {
        let inside = unwrapped(client);
        if self.looks.far && is_special(inside) {
            return FAR.parse().expect("an address");
        }
        mask(inside, if inside.is_ipv4() { self.looks.bits.0 } else { self.looks.bits.1 })
    }

    /// What is known of an address: the networks' longest match, then of each data base what is still open and speaks of
    /// the same place.
    fn place(&self, address: IpAddr) -> Place {
        let mut known = UNKNOWN;
        for (at, layer) in self.layers.iter().enumerate() {
            // In a data base ::/96 is where IPv4 lies.
            let is_ipv4_there = |address| matches!(address, IpAddr::V6(v6) if v6.to_bits() >> 32 == 0);
            if at > 0 && is_ipv4_there(address) && layer.keys().any(|prefix| prefix.addr().is_ipv4()) {
                continue;
            }
            // A record around that speaks of IPv4 as well.
            let ipv4 = |prefix: &IpNet| if prefix.addr().is_ipv4() { 96 } else { 0 };
            let is_around = |prefix: &IpNet| at > 0 && address.is_ipv4() && prefix.contains(&IpAddr::V6(0.into()));
            let fitting = layer.iter().filter(|(prefix, _)| prefix.contains(&address) || is_around(prefix));
            let longest = fitting.max_by_key(|(prefix, _)| prefix.prefix_len() + ipv4(prefix));
            let Some((_, place)) = longest else { continue };
            let (continent, country, system, point) = PLACES[*place];
            let differ = |a: &str, b: &str| !a.is_empty() && !b.is_empty() && a != b;
            let apart = differ(known.0, continent) || differ(known.1, country);
            known.2 = if known.2 == 0 { system } else { known.2 };
            if !apart {
                known.0 = if known.0.is_empty() { continent } else { known.0 };
                known.1 = if known.1.is_empty() { country } else { known.1 };
                known.3 = known.3.or(point);
            }
        }
        known
    }

    /// The regions that fences leave a client; `None` = all.
    fn fence(&self, client: IpAddr) -> Option<Vec<usize>> {
        let place = self.place(client);
        let fitting: Vec<&Vec<usize>> =
            self.fences.iter().filter(|(selector, _)| fits(selector, place, client)).map(|(_, list)| list).collect();
        if fitting.is_empty() {
            return (place == UNKNOWN && self.fence_unknown && !self.fences.is_empty()).then(Vec::new);
        }
        Some((0..REGIONS.len()).filter(|region| fitting.iter().all(|list| list.contains(region))).collect())
    }

    /// The order of regions of `geo`, step by step.
    fn geo(&self, client: IpAddr) -> Vec<Vec<usize>> {
        let place = self.place(client);
        let mut best: Option<(&String, &List)> = None;
        // Of equals the first in the file wins, which is in the order of this map.
        for (selector, list) in self.entries.iter().filter(|(selector, _)| fits(selector, place, client)) {
            if best.is_none_or(|(other, _)| specificity(selector) > specificity(other)) {
                best = Some((selector, list));
            }
        }
        let list = best.map_or(&self.default, |(_, list)| list);
        self.within_fence(client, resolve(list, place, self.within_listed))
    }

    fn within_fence(&self, client: IpAddr, mut order: Vec<Vec<usize>>) -> Vec<Vec<usize>> {
        if let Some(fence) = self.fence(client) {
            order.iter_mut().for_each(|step| step.retain(|region| fence.contains(region)));
            order.retain(|step| !step.is_empty());
        }
        order
    }

    /// The regions that may serve a client of `nearest`.
    fn nearest(&self, client: IpAddr) -> Vec<usize> {
        let Some(from) = position(self.place(client)) else {
            let order = self.within_fence(client, resolve(&self.default, UNKNOWN, self.within_listed));
            return self.serving(&order);
        };
        let mut order: Vec<usize> = (0..REGIONS.len()).filter(|&region| region != ONLY_NAMED).collect();
        order.sort_by(|&a, &b| kilometres(from, REGIONS[a]).total_cmp(&kilometres(from, REGIONS[b])));
        let nearest = kilometres(from, REGIONS[order[0]]);
        let equals: Vec<usize> =
            order.iter().copied().filter(|&region| kilometres(from, REGIONS[region]) <= nearest * 1.4).collect();
        let steps = self.within_fence(client, order.into_iter().map(|region| vec![region]).collect());
        let order: Vec<usize> = steps.concat();
        let equals: Vec<usize> = order.iter().copied().filter(|region| equals.contains(region)).collect();
        let alive: Vec<usize> = equals.iter().copied().filter(|region| !self.down.contains(region)).collect();
        let all_down = order.iter().all(|region| self.down.contains(region));
        match (alive.is_empty(), all_down) {
            (false, _) => alive,
            (true, true) if !equals.is_empty() => equals,
            _ => self.serving(&steps),
        }
    }

    /// Those of the first step that are up, one of whom serves; all down (at one time): the first step.
    fn serving(&self, order: &[Vec<usize>]) -> Vec<usize> {
        let up = |step: &Vec<usize>| step.iter().copied().filter(|region| !self.down.contains(region)).collect();
        let first = order.iter().map(up).find(|step: &Vec<usize>| !step.is_empty());
        first.or_else(|| order.first().cloned()).unwrap_or_default()
    }
}

fn list_text(list: &List) -> String {
    let text = |element: &Element| match element {
        Element::Region(region) => format!("\"r{region}\""),
        Element::Tier(tier) => format!("{:?}", tier.iter().map(|region| format!("r{region}")).collect::<Vec<_>>()),
        Element::Split(split) => {
            let shares: Vec<String> = split.iter().map(|region| format!("r{region} = {}", region + 1)).collect();
            format!("{{ {} }}", shares.join(", "))
        }
        Element::Rest => "\"*\"".to_string(),
    };
    format!("[{}]", list.iter().map(text).collect::<Vec<_>>().join(", "))
}

/// As MaxMind lays a record out.
fn record((continent, country, system, point): Place) -> Value {
    let mut parts = vec![("autonomous_system_number".to_owned(), Value::U32(system))];
    if let Some((latitude, longitude)) = point {
        let location = map([("latitude", Value::Double(latitude)), ("longitude", Value::Double(longitude))]);
        parts.push(("location".to_owned(), location));
    }
    for (key, code, value) in [("continent", "code", continent), ("country", "iso_code", country)] {
        if !value.is_empty() {
            parts.push((key.to_owned(), map([(code, text(value))])));
        }
    }
    Value::Map(parts)
}

/// Where distances are measured from.
fn position(place: Place) -> Option<(f64, f64)> {
    assert!(place.1.is_empty() || place.3.is_some(), "each country has coordinates here");
    place.3
}

/// The IPv4 address inside a mapped, NAT64 or 6to4 one.
fn unwrapped(client: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = client else { return client };
    let [a, b, c, d, e, f, g, h] = v6.segments();
    let inside = |high: u16, low: u16| IpAddr::V4(Ipv4Addr::from(u32::from(high) << 16 | u32::from(low)));
    match (a, b, c, d, e, f) {
        (0x2002, ..) => inside(b, c),
        (0, 0, 0, 0, 0, 0xffff) | (0x64, 0xff9b, 0, 0, 0, 0) => inside(g, h),
        _ => client,
    }
}

/// Whether an address is not global unicast (IANA special-purpose registries).
fn is_special(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, c, _] = v4.octets();
            v4.is_private()
                || v4.is_loopback()
                || v4.is_link_local()
                || v4.is_documentation()
                || v4.is_multicast()
                || matches!(
                    (a, b, c),
                    (0 | 240.., ..) | (100, 64..128, _) | (192, 0, 0) | (192, 88, 99) | (198, 18..20, _)
                )
        }
        IpAddr::V6(v6) => match v6.segments() {
            [0x2001, 0..0x200, ..] | [0x2001, 0xdb8, ..] | [0x2002, ..] | [0x3fff, 0..0x1000, ..] => true,
            [first, ..] => !(0x2000..0x4000).contains(&first),
        },
    }
}

fn fits(selector: &str, (continent, country, system, _): Place, client: IpAddr) -> bool {
    selector.split(',').all(|part| match part.split_once(':') {
        Some(("continent", code)) => code == continent,
        Some(("country", code)) => code == country,
        Some(("as", number)) => number == system.to_string(),
        _ => part.parse::<IpNet>().expect("a prefix").contains(&client),
    })
}

/// Longest CIDR > as > country > continent; then more parts; then the parts one by one.
fn specificity(selector: &str) -> (u32, usize, Vec<u32>) {
    let rank = |part: &str| match part.split_once(':') {
        Some(("continent", _)) => 1,
        Some(("country", _)) => 2,
        Some(("as", _)) => 5,
        _ => 1000 + u32::from(part.parse::<IpNet>().expect("a prefix").prefix_len()),
    };
    let mut ranks: Vec<u32> = selector.split(',').map(rank).collect();
    ranks.sort_unstable_by(|a, b| b.cmp(a));
    (ranks[0], ranks.len(), ranks)
}

/// The order of a list, step by step; of a step with several the client's key decides which is first.
fn resolve(list: &List, place: Place, listed: bool) -> Vec<Vec<usize>> {
    let named: Vec<usize> = list
        .iter()
        .flat_map(|element| match element {
            Element::Region(region) => vec![*region],
            Element::Tier(several) | Element::Split(several) => several.clone(),
            Element::Rest => Vec::new(),
        })
        .collect();
    let from = position(place).or_else(|| named.first().map(|&first| REGIONS[first]));
    let nearest_first = |mut regions: Vec<usize>| {
        if let Some(from) = from {
            regions.sort_by(|&a, &b| kilometres(from, REGIONS[a]).total_cmp(&kilometres(from, REGIONS[b])));
        }
        regions
    };
    let mut order = Vec::new();
    for element in list {
        let steps = match element {
            Element::Split(split) => {
                order.push(split.clone());
                continue;
            }
            Element::Region(region) => vec![*region],
            Element::Tier(tier) if listed => tier.clone(),
            Element::Tier(tier) => nearest_first(tier.clone()),
            Element::Rest => {
                nearest_first((0..REGIONS.len()).filter(|r| *r != ONLY_NAMED && !named.contains(r)).collect())
            }
        };
        order.extend(steps.into_iter().map(|region| vec![region]));
    }
    order
}

/// By the spherical law of cosines.
fn kilometres(a: (f64, f64), b: (f64, f64)) -> f64 {
    let [(north_a, east_a), (north_b, east_b)] = [a, b].map(|(n, e)| (n.to_radians(), e.to_radians()));
    let cosine = north_a.sin() * north_b.sin() + north_a.cos() * north_b.cos() * (east_a - east_b).cos();
    6371.0 * cosine.clamp(-1.0, 1.0).acos()
}

const ZONE: &str = "$TTL 300\n@ SOA ns hostmaster 1 2 3 4 60\n@ NS ns\nns A 127.0.0.1\n\
                    alias CNAME second\nsecond CNAME geo-sticky\n";
const HEAD: &str = r#"
[zones."gslb.example.com"]
file = "zone"
[geo]
networks = "networks"
databases = DATABASES
[checks.web]
type = "tcp"
port = 80
[pools.web]
check = "web"
[services."geo.gslb.example.com"]
pool = "web"
steer = "geo"
map = "world"
[services."geo-sticky.gslb.example.com"]
pool = "web"
steer = "geo"
map = "world"
balance = "sticky"
sticky = STICKY
[services."near.gslb.example.com"]
pool = "web"
steer = "nearest"
tolerance = "40%"
map = "world"
balance = "sticky"
sticky = STICKY
[services."near-drawn.gslb.example.com"]
pool = "web"
steer = "nearest"
tolerance = "40%"
map = "world"
sticky = STICKY
[services."down.gslb.example.com"]
pool = "none"
steer = "geo"
map = "world"
when-all-down = { service = "near.gslb.example.com" }
[pools.none]
check = "web"
[pools.none.instances]
gone0 = { region = "r0", address = "192.0.2.10" }
gone1 = { region = "r1", address = "192.0.2.20" }
gone2 = { region = "r2", address = "192.0.2.30" }
gone3 = { region = "r3", address = "192.0.2.40" }
gone4 = { region = "r4", address = "192.0.2.50" }
[services."any.gslb.example.com"]
pool = "web"
map = "world"
balance = "sticky"
sticky = STICKY
[services."open.gslb.example.com"]
pool = "web"
steer = "nearest"
balance = "sticky"
sticky = STICKY
[services."fast.gslb.example.com"]
pool = "web"
steer = "latency"
map = "world"
balance = "sticky"
sticky = STICKY
[services."fast-open.gslb.example.com"]
pool = "web"
steer = "latency"
tolerance = "0s"
balance = "sticky"
sticky = { ipv4 = 20, ipv6 = 48 }
[services."tiers.gslb.example.com"]
pool = "web"
steer = "geo"
map = "measured"
balance = "sticky"
sticky = STICKY
"#;

/// Services that draw an instance at random.
const DRAWN: [&str; 2] = ["geo", "near-drawn"];

/// What a client is told: the region, the address for services that keep a client where it is, and the scope.
fn told(node: &mut Node, looks: &Looks, name: &str, client: IpNet) -> (Option<usize>, Option<IpAddr>, u8) {
    let mut ask = Ask::new(&format!("{name}.gslb.example.com"), 1).option(CLIENT_SUBNET, subnet_option(client));
    if looks.far {
        ask = ask.from(FAR);
    }
    let message = node.ask(&ask);
    let address = message.answers.iter().find_map(|record| record.data.ip_addr());
    let region = address.map(|address| match address {
        IpAddr::V4(v4) => usize::from(v4.octets()[3] / 10 - 1),
        IpAddr::V6(_) => unreachable!("A was asked"),
    });
    (region, address.filter(|_| !DRAWN.contains(&name)), scope(&message).expect("a scope"))
}

/// All of its bits are given.
fn whole(client: IpAddr) -> IpNet {
    IpNet::from(client)
}

/// Most clients of one setting.
const MOST: usize = 24;

/// Clients at the borders of everything that has borders, and elsewhere.
fn clients(setting: &Setting, elsewhere: &[u64]) -> Vec<IpAddr> {
    let named = setting.entries.keys().chain(setting.fences.keys()).flat_map(|selector| selector.split(','));
    let networks = setting.layers.iter().flat_map(BTreeMap::keys).copied();
    let prefixes = named.filter_map(|part| part.parse().ok()).chain(networks);
    let mut clients: Vec<IpAddr> = Vec::new();
    for prefix in prefixes {
        let prefix: IpNet = prefix;
        let (first, last) = (prefix.network(), prefix.broadcast());
        clients.extend([step(first, -1), first, last, step(last, 1)]);
    }
    // Not always the same ones of many.
    let from = elsewhere[0] as usize % clients.len().max(1);
    clients.rotate_left(from);
    clients.truncate(MOST);
    for (at, &bits) in elsewhere.iter().enumerate() {
        let v4 = [bits as u32, 0x5100_0000 | bits as u32 & 0xff_ffff, [0x0a01_0203, 0xc612_0001, 0x6440_0001][at % 3]];
        clients.extend(v4.map(|v4| IpAddr::V4(v4.into())));
        clients.extend(v4.map(|v4| wrapped(v4, bits)));
        clients.push(IpAddr::V6((u128::from(bits) << 64).into()));
        clients.push(IpAddr::V6((0x2 << 124 | u128::from(bits) << 60).into()));
    }
    clients
}

fn step(address: IpAddr, by: i8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => IpAddr::V4(u32::from(v4).wrapping_add_signed(by.into()).into()),
        IpAddr::V6(v6) => IpAddr::V6(u128::from(v6).wrapping_add_signed(by.into()).into()),
    }
}

/// An IPv4 address inside an IPv6 one.
fn wrapped(v4: u32, bits: u64) -> IpAddr {
    let v4 = u128::from(v4);
    let inside = [0xffff << 32 | v4, 0x64_ff9b << 96 | v4, 0x2002 << 112 | v4 << 80 | u128::from(bits >> 8)];
    IpAddr::V6(Ipv6Addr::from(inside[(bits % 3) as usize]))
}

/// Another client of the same prefix.
fn neighbour(client: IpAddr, scope: u8, noise: u64) -> IpAddr {
    match client {
        IpAddr::V4(v4) => {
            let inside = u32::MAX.checked_shr(scope.into()).unwrap_or(0);
            IpAddr::V4(((u32::from(v4) & !inside) | (noise as u32 & inside)).into())
        }
        IpAddr::V6(v6) => {
            let inside = u128::MAX.checked_shr(scope.into()).unwrap_or(0);
            let noise = u128::from(noise) << 64 | u128::from(noise.rotate_left(23));
            IpAddr::V6(((u128::from(v6) & !inside) | (noise & inside)).into())
        }
    }
}

#[test]
fn scopes_hold_and_orders_are_right() {
    let config = ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() };
    let noise = prop::collection::vec(any::<u64>(), 4);
    let run = TestRunner::new(config).run(&(setting(), noise), |(setting, noise)| {
        let node = RefCell::new(setting.node());
        for client in clients(&setting, &noise) {
            one_client(&setting, &mut node.borrow_mut(), client, &noise)?;
        }
        Ok(())
    });
    run.expect("holds");
}

/// Clients that an answer of this scope may be given to: those of the prefix, near its edges and far from them; of 0 those
/// of the other family as well.
fn others(client: IpAddr, scope: u8, noise: &[u64]) -> impl Iterator<Item = IpAddr> {
    let near = (0..3).map(move |free| neighbour(client, scope, 1 << (free * 20)));
    let far = noise.iter().copied().chain([0, u64::MAX]).map(move |noise| neighbour(client, scope, noise));
    let v4 = noise.iter().map(|noise| IpAddr::V4((0x5100_0000 | *noise as u32 & 0xff_ffff).into()));
    let v6 = noise.iter().map(|noise| IpAddr::V6(((0x2a00 << 112) | u128::from(*noise) << 50).into()));
    near.chain(far).chain(v4.chain(v6).filter(move |_| scope == 0))
}

fn one_client(setting: &Setting, node: &mut Node, client: IpAddr, noise: &[u64]) -> Result<(), TestCaseError> {
    let looks = &setting.looks;
    let address = setting.address(client);
    for name in
        ["geo", "geo-sticky", "near", "near-drawn", "any", "open", "alias", "down", "fast", "fast-open", "tiers"]
    {
        let answer = told(node, looks, name, whole(client));
        let (region, _, scope) = answer;
        for other in others(client, scope, noise) {
            let said = told(node, looks, name, whole(other));
            prop_assert_eq!((said.0, said.1), (answer.0, answer.1), "{}: {} and {}", name, client, other);
            // What is set aside has the scope of its block, even where the client matters to nothing.
            prop_assert!(scope == 0 || said.2 == scope, "{}: {} has {}, {} {}", name, client, scope, other, said.2);
        }
        fewer_bits(setting, node, name, client, noise)?;
        if let (Some(fence), true) = (setting.fence(address), !name.ends_with("open")) {
            prop_assert!(region.is_none_or(|region| fence.contains(&region)), "{}: {} is fenced", name, client);
        }
        if looks.shed.is_some() {
            continue;
        }
        match name {
            "geo" | "geo-sticky" | "alias" | "near" | "near-drawn" | "down" => {
                let by_distance = name.starts_with("near") || name == "down";
                let may = if by_distance { setting.nearest(address) } else { setting.serving(&setting.geo(address)) };
                let fits = region.map_or(may.is_empty(), |region| may.contains(&region));
                prop_assert!(fits, "{}: {}: {:?}, expected one of {:?}", name, client, region, may);
            }
            _ => {}
        }
    }
    Ok(())
}

/// Of a client less may be given than all its bits: whoever is in ADDRESS/SCOPE gets that answer, too.
fn fewer_bits(
    setting: &Setting,
    node: &mut Node,
    name: &str,
    client: IpAddr,
    noise: &[u64],
) -> Result<(), TestCaseError> {
    let least = match client {
        IpAddr::V4(_) => 1,
        // Less than that holds no part of the address inside.
        IpAddr::V6(v6) if v6.segments()[0] == 0x2002 => 24,
        IpAddr::V6(_) if unwrapped(client).is_ipv4() => 104,
        IpAddr::V6(_) => 1,
    };
    let most: u8 = if client.is_ipv4() { 32 } else { 128 };
    let length = least + (noise[1] % u64::from(most - least)) as u8;
    let some = IpNet::new(client, length).expect("a length of the family").trunc();
    let answer = told(node, &setting.looks, name, some);
    if answer.2 > length {
        // Resolvers keep it for those alone who gave as little (RFC 7871 §7.3.1).
        return Ok(());
    }
    for noise in noise.iter().copied().chain([0, u64::MAX]) {
        let other = neighbour(some.addr(), answer.2, noise);
        let said = told(node, &setting.looks, name, whole(other));
        prop_assert_eq!((said.0, said.1), (answer.0, answer.1), "{}: {} and {}", name, some, other);
    }
    Ok(())
}
