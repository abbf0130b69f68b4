//! Random configurations asked for many clients: every client inside ADDRESS/SCOPE of an answer gets that answer
//! (RFC 7871 §7.2.1, SPEC 7.5), and the order of regions is that of a second evaluation, written from SPEC 4.2 to 4.4.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use waymark::latency::ENOUGH;
use waymark::steering::client::mask;

use crate::support::node::Node;
use crate::support::query::{Ask, CLIENT_SUBNET, scope, subnet_option};

/// Latitude and longitude of each region; the last is only named.
const REGIONS: [(f64, f64); 5] = [(53.3, -6.3), (50.1, 8.7), (38.9, -77.0), (1.3, 103.8), (48.0, 2.0)];
const ONLY_NAMED: usize = 4;
/// `(continent, country, as, coordinates)`; empty and 0 = not given.
type PlaceRow = (&'static str, &'static str, u32, Option<(f64, f64)>);
/// Places that networks may have.
const PLACES: [PlaceRow; 6] = [
    ("EU", "DE", 0, Some((50.0, 8.0))),
    ("EU", "DE", 64500, Some((53.0, 1.0))),
    ("NA", "US", 0, Some((40.0, -90.0))),
    ("AS", "IN", 64500, Some((19.0, 72.0))),
    ("EU", "FR", 64501, Some((51.4, 1.2))),
    ("", "", 64500, None),
];
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
    Rest,
}

type List = Vec<Element>;

/// A random configuration, as data for the second evaluation and as text for the server.
#[derive(Clone, Debug)]
struct Setting {
    networks: BTreeMap<IpNet, usize>,
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

fn list() -> impl Strategy<Value = List> {
    let order = Just((0..REGIONS.len()).collect::<Vec<usize>>()).prop_shuffle();
    (order, 0usize..=3, 0usize..=2, any::<bool>()).prop_map(|(order, single, tier, rest)| {
        let mut list: List = order[..single].iter().map(|&region| Element::Region(region)).collect();
        if tier > 0 {
            list.push(Element::Tier(order[single..single + tier].to_vec()));
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
        2 => prefix().prop_map(|net| net.to_string()),
        1 => prefix().prop_map(|net| format!("{net},country:DE")),
    ]
}

fn setting() -> impl Strategy<Value = Setting> {
    let regions = || prop::collection::btree_set(0..REGIONS.len(), 1..4).prop_map(|set| set.into_iter().collect());
    (
        prop::collection::btree_map(prefix(), 0..PLACES.len(), 0..14),
        list(),
        prop::collection::btree_map(selector(), list(), 0..7),
        prop::collection::btree_map(selector(), regions(), 0..3),
        any::<bool>(),
        any::<bool>(),
        prop::collection::vec(0..REGIONS.len(), 0..4),
        prop::collection::vec((prefix(), 0..REGIONS.len(), 1u16..60), 0..24),
        any::<bool>(),
    )
        .prop_map(|(networks, default, entries, fences, fence_unknown, within_listed, down, samples, explores)| {
            Setting { networks, default, entries, fences, fence_unknown, within_listed, down, samples, explores }
        })
}

impl Setting {
    fn node(&self) -> Node {
        let mut node = Node::of(&[("waymark.toml", &self.text()), ("networks", &self.networks_text()), ("zone", ZONE)]);
        for region in &self.down {
            node.down(&format!("region/r{region}"));
        }
        for &(prefix, region, ms) in &self.samples {
            (0..ENOUGH).for_each(|_| node.measure(prefix, &format!("r{region}"), ms.into()));
        }
        node.go_by_measured();
        node
    }

    fn text(&self) -> String {
        let mut text = String::from(HEAD);
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
            if !continent.is_empty() {
                parts.push(format!("continent = \"{continent}\", country = \"{country}\""));
            }
            if system != 0 {
                parts.push(format!("as = {system}"));
            }
            if let Some((latitude, longitude)) = coordinates {
                parts.push(format!("latitude = {latitude:?}, longitude = {longitude:?}"));
            }
            format!("\"{prefix}\" = {{ {} }}\n", parts.join(", "))
        };
        self.networks.iter().map(line).collect()
    }

    fn place(&self, client: IpAddr) -> Option<usize> {
        let around = self.networks.iter().filter(|(prefix, _)| prefix.contains(&client));
        around.max_by_key(|(prefix, _)| prefix.prefix_len()).map(|(_, place)| *place)
    }

    /// The regions that fences leave a client; `None` = all.
    fn fence(&self, client: IpAddr) -> Option<Vec<usize>> {
        let place = self.place(client);
        let fitting: Vec<&Vec<usize>> =
            self.fences.iter().filter(|(selector, _)| fits(selector, place, client)).map(|(_, list)| list).collect();
        if fitting.is_empty() {
            return (place.is_none() && self.fence_unknown && !self.fences.is_empty()).then(Vec::new);
        }
        Some((0..REGIONS.len()).filter(|region| fitting.iter().all(|list| list.contains(region))).collect())
    }

    /// The order of regions of `geo`.
    fn geo(&self, client: IpAddr) -> Vec<usize> {
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

    fn within_fence(&self, client: IpAddr, mut order: Vec<usize>) -> Vec<usize> {
        if let Some(fence) = self.fence(client) {
            order.retain(|region| fence.contains(region));
        }
        order
    }

    /// The regions that may serve a client of `nearest`.
    fn nearest(&self, client: IpAddr) -> Vec<usize> {
        let Some(from) = self.place(client).and_then(|place| PLACES[place].3) else {
            let order = self.within_fence(client, resolve(&self.default, None, self.within_listed));
            return self.serving(&order).into_iter().collect();
        };
        let mut order: Vec<usize> = (0..REGIONS.len()).filter(|&region| region != ONLY_NAMED).collect();
        order.sort_by(|&a, &b| kilometres(from, REGIONS[a]).total_cmp(&kilometres(from, REGIONS[b])));
        let nearest = kilometres(from, REGIONS[order[0]]);
        let equals: Vec<usize> =
            order.iter().copied().filter(|&region| kilometres(from, REGIONS[region]) <= nearest * 1.4).collect();
        let order = self.within_fence(client, order);
        let equals: Vec<usize> = order.iter().copied().filter(|region| equals.contains(region)).collect();
        let alive: Vec<usize> = equals.iter().copied().filter(|region| !self.down.contains(region)).collect();
        let all_down = order.iter().all(|region| self.down.contains(region));
        match (alive.is_empty(), all_down) {
            (false, _) => alive,
            (true, true) if !equals.is_empty() => equals,
            _ => self.serving(&order).into_iter().collect(),
        }
    }

    /// The first that is up; all down (at one time): the first.
    fn serving(&self, order: &[usize]) -> Option<usize> {
        order.iter().find(|region| !self.down.contains(region)).or(order.first()).copied()
    }
}

fn list_text(list: &List) -> String {
    let text = |element: &Element| match element {
        Element::Region(region) => format!("\"r{region}\""),
        Element::Tier(tier) => format!("{:?}", tier.iter().map(|region| format!("r{region}")).collect::<Vec<_>>()),
        Element::Rest => "\"*\"".to_string(),
    };
    format!("[{}]", list.iter().map(text).collect::<Vec<_>>().join(", "))
}

fn fits(selector: &str, place: Option<usize>, client: IpAddr) -> bool {
    let (continent, country, system, _) = place.map_or(("", "", 0, None), |place| PLACES[place]);
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

fn resolve(list: &List, place: Option<usize>, listed: bool) -> Vec<usize> {
    let named: Vec<usize> = list
        .iter()
        .flat_map(|element| match element {
            Element::Region(region) => vec![*region],
            Element::Tier(tier) => tier.clone(),
            Element::Rest => Vec::new(),
        })
        .collect();
    let from = place.and_then(|place| PLACES[place].3).or_else(|| named.first().map(|&first| REGIONS[first]));
    let nearest_first = |mut regions: Vec<usize>| {
        if let Some(from) = from {
            regions.sort_by(|&a, &b| kilometres(from, REGIONS[a]).total_cmp(&kilometres(from, REGIONS[b])));
        }
        regions
    };
    let mut order = Vec::new();
    for element in list {
        order.extend(match element {
            Element::Region(region) => vec![*region],
            Element::Tier(tier) if listed => tier.clone(),
            Element::Tier(tier) => nearest_first(tier.clone()),
            Element::Rest => {
                nearest_first((0..REGIONS.len()).filter(|r| *r != ONLY_NAMED && !named.contains(r)).collect())
            }
        });
    }
    order
}

/// By the spherical law of cosines.
fn kilometres(a: (f64, f64), b: (f64, f64)) -> f64 {
    let [(north_a, east_a), (north_b, east_b)] = [a, b].map(|(n, e)| (n.to_radians(), e.to_radians()));
    let cosine = north_a.sin() * north_b.sin() + north_a.cos() * north_b.cos() * (east_a - east_b).cos();
    6371.0 * cosine.clamp(-1.0, 1.0).acos()
}

const ZONE: &str = "$TTL 300\n@ SOA ns hostmaster 1 2 3 4 60\n@ NS ns\nns A 127.0.0.1\n";
const HEAD: &str = r#"
[zones."gslb.example.com"]
file = "zone"
[geo]
networks = "networks"
[ecs]
ipv4 = 32
ipv6 = 64
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
[services."near.gslb.example.com"]
pool = "web"
steer = "nearest"
tolerance = "40%"
map = "world"
balance = "sticky"
[services."near-drawn.gslb.example.com"]
pool = "web"
steer = "nearest"
tolerance = "40%"
map = "world"
[services."any.gslb.example.com"]
pool = "web"
map = "world"
balance = "sticky"
[services."open.gslb.example.com"]
pool = "web"
steer = "nearest"
balance = "sticky"
[services."fast.gslb.example.com"]
pool = "web"
steer = "latency"
map = "world"
balance = "sticky"
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
"#;

/// Services that draw an instance at random.
const DRAWN: [&str; 2] = ["geo", "near-drawn"];

/// What a client is told: the region, the address for services that keep a client where it is, and the scope.
fn told(node: &mut Node, name: &str, client: IpAddr) -> (Option<usize>, Option<IpAddr>, u8) {
    let length = if client.is_ipv4() { 32 } else { 64 };
    let net = IpNet::new(client, length).expect("a length of the family");
    let ask = Ask::new(&format!("{name}.gslb.example.com"), 1).option(CLIENT_SUBNET, subnet_option(net));
    let message = node.ask(&ask);
    let address = message.answers.first().and_then(|record| record.data.ip_addr());
    let region = address.map(|address| match address {
        IpAddr::V4(v4) => usize::from(v4.octets()[3] / 10 - 1),
        IpAddr::V6(_) => unreachable!("A was asked"),
    });
    (region, address.filter(|_| !DRAWN.contains(&name)), scope(&message).expect("a scope"))
}

/// Clients at the borders of everything that has borders, and elsewhere.
fn clients(setting: &Setting, elsewhere: &[u64]) -> Vec<IpAddr> {
    let named = setting.entries.keys().chain(setting.fences.keys()).flat_map(|selector| selector.split(','));
    let prefixes = named.filter_map(|part| part.parse().ok()).chain(setting.networks.keys().copied());
    let mut clients: Vec<IpAddr> = Vec::new();
    for prefix in prefixes {
        let prefix: IpNet = prefix;
        match (prefix.network(), prefix.broadcast()) {
            (IpAddr::V4(first), IpAddr::V4(last)) => {
                let (first, last) = (u32::from(first), u32::from(last));
                clients
                    .extend([first.wrapping_sub(1), first, last, last.wrapping_add(1)].map(|n| IpAddr::V4(n.into())));
            }
            (IpAddr::V6(first), IpAddr::V6(last)) => {
                // The last 64 bits are not looked at.
                let (first, last) = (u128::from(first) >> 64, u128::from(last) >> 64);
                clients.extend([first - 1, first, last, last + 1].map(|n| IpAddr::V6((n << 64).into())));
            }
            _ => unreachable!("one family"),
        }
    }
    for &bits in elsewhere {
        clients.push(IpAddr::V4((bits as u32).into()));
        clients.push(IpAddr::V4((0x5100_0000 | bits as u32 & 0xff_ffff).into()));
        clients.push(IpAddr::V6((u128::from(bits) << 64).into()));
    }
    // IPv4 inside IPv6 is another story, and has a scenario.
    clients.retain(|client| !is_wrapped(*client));
    clients
}

fn is_wrapped(client: IpAddr) -> bool {
    let IpAddr::V6(v6) = client else { return false };
    v6.segments()[0] == 0x2002 || v6.segments()[0] == 0 || v6.segments()[0] == 0x64
}

/// Another client of the same prefix.
fn neighbour(client: IpAddr, scope: u8, noise: u64) -> IpAddr {
    match client {
        IpAddr::V4(v4) => {
            let inside = u32::MAX.checked_shr(scope.into()).unwrap_or(0);
            IpAddr::V4(((u32::from(v4) & !inside) | (noise as u32 & inside)).into())
        }
        IpAddr::V6(v6) => {
            let inside = u128::MAX.checked_shr(scope.into()).unwrap_or(0) & !u128::from(u64::MAX);
            IpAddr::V6(((u128::from(v6) & !inside) | ((u128::from(noise) << 64) & inside)).into())
        }
    }
}

#[test]
fn scopes_hold_and_orders_are_right() {
    let config = ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() };
    let noise = prop::collection::vec(any::<u64>(), 6);
    let run = TestRunner::new(config).run(&(setting(), noise), |(setting, noise)| {
        let node = RefCell::new(setting.node());
        for client in clients(&setting, &noise) {
            one_client(&setting, &mut node.borrow_mut(), client, &noise)?;
        }
        Ok(())
    });
    run.expect("holds");
}

fn one_client(setting: &Setting, node: &mut Node, client: IpAddr, noise: &[u64]) -> Result<(), TestCaseError> {
    let client = mask(client, if client.is_ipv4() { 32 } else { 64 });
    for name in ["geo", "geo-sticky", "near", "near-drawn", "any", "open", "fast", "fast-open", "tiers"] {
        let answer = told(node, name, client);
        let (region, _, scope) = answer;
        for noise in noise.iter().copied().chain([0, u64::MAX]) {
            let other = neighbour(client, scope, noise);
            if is_wrapped(other) {
                continue;
            }
            prop_assert_eq!(told(node, name, other), answer, "{}: {} and {}", name, client, other);
        }
        if let (Some(fence), true) = (setting.fence(client), !name.ends_with("open")) {
            prop_assert!(region.is_none_or(|region| fence.contains(&region)), "{}: {} is fenced", name, client);
        }
        match name {
            "geo" | "geo-sticky" => prop_assert_eq!(region, setting.serving(&setting.geo(client)), "{}", client),
            "near" | "near-drawn" => {
                let may = setting.nearest(client);
                let fits = region.map_or(may.is_empty(), |region| may.contains(&region));
                prop_assert!(fits, "{}: {:?}, expected one of {:?}", client, region, may);
            }
            _ => {}
        }
    }
    Ok(())
}
