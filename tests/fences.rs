//! A fence never leaks (SPEC 4.3): random fences, every kind of `steer` and of `when-all-down`, splits, tiers, spill,
//! regions that return, regions that shed, services that stand in for each other, random histories of health; whoever is
//! answered is inside of all fences that hold for the client, by a second reading of them.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use waymark::latency::ENOUGH;

use crate::support::node::Node;
use crate::support::query::Ask;

const REGIONS: usize = 4;
/// `(network, continent, country, as)`; empty and 0 = not given.
const NETWORKS: [(&str, &str, &str, u32); 6] = [
    ("8.1.0.0/16", "EU", "DE", 0),
    ("8.2.0.0/16", "EU", "DE", 64500),
    ("8.3.0.0/16", "EU", "FR", 64501),
    ("8.4.0.0/16", "NA", "US", 64500),
    ("8.5.0.0/16", "AS", "IN", 0),
    ("2a00:8::/32", "EU", "FR", 64500),
];
/// Nobody knows where these are.
const UNKNOWN: &str = "8.9.0.0/16";
const SELECTORS: [&str; 7] =
    ["continent:EU", "country:DE", "country:FR", "as:64500", "as:64500,country:DE", "8.2.0.0/16", "8.3.128.0/17"];
/// The services: how each steers, and what else it says.
const SERVICES: [(&str, &str); 15] = [
    ("geo", "steer = \"geo\""),
    ("split", "steer = \"geo\""),
    ("near", "steer = \"nearest\"\ntolerance = \"100%\""),
    ("fast", "steer = \"latency\""),
    ("exact", "steer = \"latency\"\ntolerance = \"0s\"\nspill = 1.0"),
    ("tiers", "steer = \"geo\""),
    ("order", "steer = \"failover\""),
    ("shares", "steer = \"weighted\"\nshares = { r0 = 3, r1 = 1, r2 = 1 }"),
    ("kept", "steer = \"weighted\"\nshares = { r0 = 3, r1 = 1, r3 = 1 }\nbalance = \"sticky\""),
    ("any", "steer = \"any\"\nanswers = 0"),
    ("spills", "steer = \"failover\"\nspill = 1.0"),
    ("chain", "steer = \"nearest\"\nwhen-all-down = { service = \"geo.example\" }"),
    ("fixed", "steer = \"geo\"\nwhen-all-down = { address = [\"198.51.100.99\", \"2001:db8:ffff::1\"] }"),
    ("mix", "steer = \"nearest\"\nspill = 1.0\nbalance = \"sticky\""),
    ("other", "steer = \"failover\"\nwhen-all-down = { service = \"free.example\" }"),
];

type Fences = Vec<(&'static str, BTreeSet<usize>)>;

#[derive(Clone, Debug)]
enum Event {
    Down(usize),
    Up(usize),
    Instance(usize),
    Weigh(usize, u16),
    Wait(u64),
}

#[derive(Clone, Debug)]
struct Setting {
    fences: Fences,
    unknown_is_nodata: bool,
    events: Vec<Event>,
    clients: Vec<(usize, u32)>,
}

fn setting() -> impl Strategy<Value = Setting> {
    let fence = (prop::sample::select(&SELECTORS[..]), prop::collection::btree_set(0..REGIONS, 1..4));
    let event = prop_oneof![
        3 => (0..REGIONS).prop_map(Event::Down),
        2 => (0..REGIONS).prop_map(Event::Up),
        2 => (0..2 * REGIONS + 1).prop_map(Event::Instance),
        1 => (0..REGIONS, 0u16..=100).prop_map(|(region, percent)| Event::Weigh(region, percent)),
        2 => (1u64..90).prop_map(Event::Wait),
    ];
    let clients = prop::collection::vec((0..=NETWORKS.len(), any::<u32>()), 8);
    (prop::collection::vec(fence, 1..5), any::<bool>(), prop::collection::vec(event, 0..8), clients).prop_map(
        |(mut fences, unknown_is_nodata, events, clients)| {
            let mut seen = BTreeSet::new();
            fences.retain(|(selector, _)| seen.insert(*selector));
            Setting { fences, unknown_is_nodata, events, clients }
        },
    )
}

impl Setting {
    fn text(&self) -> String {
        let mut text = String::from("[zones.\"example\"]\nfile = \"zone\"\n[geo]\nnetworks = \"networks\"\n");
        for region in 0..REGIONS {
            text += &format!("[regions.r{region}]\nlocation = {{ latitude = 1{region}.0, longitude = 2{region}.0 }}\n");
        }
        text += "[checks.web]\ntype = \"tcp\"\nport = 80\n[pools.web]\ncheck = \"web\"\nreturn-after = \"20s\"\n\
                 region-ramp = \"1m\"\n[pools.web.instances]\n";
        for region in 0..REGIONS {
            for second in [0, 1] {
                let octet = 10 * region + second;
                text += &format!(
                    "i{octet} = {{ region = \"r{region}\", address = [\"192.0.2.{octet}\", \"2001:db8::{octet}\"] }}\n"
                );
            }
        }
        // One that is in two regions at once.
        text += "i90 = { region = [\"r0\", \"r3\"], address = [\"192.0.2.90\", \"2001:db8::90\"] }\n";
        text += "[pools.canary]\ncheck = \"web\"\n[pools.canary.instances]\n\
                 c32 = { region = \"r3\", address = [\"192.0.2.32\", \"2001:db8::32\"] }\n";
        text += &self.map("world", "default = [[\"r0\", \"r1\"], \"*\"]\n\"country:FR\" = [\"r3\", \"*\"]\n");
        text += &self.map("split", "default = [{ r0 = 50, r1 = 30, r2 = 20 }, \"*\"]\n");
        text += &self.map("tiers", "within = \"latency\"\ndefault = [[\"r0\", \"r1\", \"r2\"], \"*\"]\n");
        text += "[latency]\nexplore = \"10%\"\n";
        for (name, rest) in SERVICES {
            let map = if ["split", "tiers"].contains(&name) { name } else { "world" };
            let pool = if name == "mix" { "{ web = 60, canary = 40 }" } else { "\"web\"" };
            text += &format!("[services.\"{name}.example\"]\npool = {pool}\nmap = \"{map}\"\n{rest}\n");
        }
        // One that is in no region, and always up, beside one that is in a region.
        text += "[pools.free.instances]\nf80 = { address = [\"192.0.2.80\", \"2001:db8::80\"] }\n\
                 f15 = { region = \"r1\", address = [\"192.0.2.15\", \"2001:db8::15\"] }\n";
        text + "[services.\"free.example\"]\npool = \"free\"\nsteer = \"any\"\nanswers = 0\n"
    }

    fn map(&self, name: &str, entries: &str) -> String {
        let unknown = if self.unknown_is_nodata { "nodata" } else { "default" };
        let mut text = format!("[maps.{name}]\nfence-unknown = \"{unknown}\"\n{entries}[maps.{name}.fences]\n");
        for (selector, regions) in &self.fences {
            let regions: Vec<String> = regions.iter().map(|region| format!("r{region}")).collect();
            text += &format!("\"{selector}\" = {regions:?}\n");
        }
        text
    }

    /// The second reading: regions that a client may be sent to.
    fn allowed(&self, network: Option<usize>, client: IpAddr) -> BTreeSet<usize> {
        let (continent, country, system) =
            network.map_or(("", "", 0), |at| (NETWORKS[at].1, NETWORKS[at].2, NETWORKS[at].3));
        let fits = |selector: &str| {
            selector.split(',').all(|part| match part.split_once(':') {
                Some(("continent", code)) => code == continent,
                Some(("country", code)) => code == country,
                Some(("as", number)) => number == system.to_string(),
                _ => part.parse::<ipnet::IpNet>().expect("a prefix").contains(&client),
            })
        };
        let mut fitting = self.fences.iter().filter(|(selector, _)| fits(selector)).peekable();
        if fitting.peek().is_none() && network.is_none() && self.unknown_is_nodata {
            return BTreeSet::new();
        }
        fitting.fold((0..REGIONS).collect(), |all, (_, regions)| all.intersection(regions).copied().collect())
    }
}

fn networks() -> String {
    let row = |(prefix, continent, country, system): &(&str, &str, &str, u32)| {
        let system = if *system > 0 { format!(", as = {system}") } else { String::new() };
        format!("\"{prefix}\" = {{ continent = \"{continent}\", country = \"{country}\"{system} }}\n")
    };
    NETWORKS.iter().map(row).collect()
}

/// Ways of every length, of every network but the last.
fn measure(node: &mut Node) {
    for (at, (network, ..)) in NETWORKS[..NETWORKS.len() - 1].iter().enumerate() {
        for region in 0..REGIONS {
            let (client, ms) = (network.parse().expect("a prefix"), 1 + (7 * at + 13 * region) % 40);
            (0..ENOUGH).for_each(|_| node.measure(client, &format!("r{region}"), ms as f64));
        }
    }
    node.go_by_measured();
}

fn happen(node: &mut Node, event: &Event) {
    match event {
        Event::Down(region) => node.down(&format!("region/r{region}")),
        Event::Up(region) => node.up(&format!("region/r{region}")),
        Event::Instance(at) if *at == 2 * REGIONS => node.down("instance/web/i90"),
        Event::Instance(at) => node.down(&format!("instance/web/i{}", 10 * (at / 2) + at % 2)),
        Event::Weigh(region, percent) => node.weigh(&format!("r{region}"), *percent),
        Event::Wait(seconds) => node.wait(Duration::from_secs(*seconds)),
    }
}

/// The regions of the instance at an address.
fn regions_of(address: IpAddr) -> BTreeSet<usize> {
    let text = address.to_string();
    // The zero of 2001:db8:: is not written.
    let last: usize = text.rsplit(['.', ':']).next().and_then(|octet| octet.parse().ok()).unwrap_or(0);
    match last {
        90 => BTreeSet::from([0, 3]),
        99 => panic!("a fixed address for a fenced client"),
        _ => BTreeSet::from([last / 10]),
    }
}

fn holds(setting: &Setting, node: &mut Node, seen: &mut [u64; 2]) -> Result<(), TestCaseError> {
    for &(at, low) in &setting.clients {
        let network = Some(at).filter(|&at| at < NETWORKS.len());
        let prefix: ipnet::IpNet = network.map_or(UNKNOWN, |at| NETWORKS[at].0).parse().expect("a prefix");
        let (client, length) = match prefix.network() {
            IpAddr::V4(v4) => (IpAddr::from((u32::from(v4) | low & 0xffff).to_be_bytes()), 32),
            IpAddr::V6(v6) => (IpAddr::from((u128::from(v6) | u128::from(low) << 64).to_be_bytes()), 128),
        };
        let allowed = setting.allowed(network, client);
        let is_fenced = allowed.len() < REGIONS;
        for (name, _) in SERVICES {
            for rtype in [1, 28] {
                let ask = Ask::new(&format!("{name}.example"), rtype).subnet(&format!("{client}/{length}"));
                for address in node.addresses(&ask) {
                    let nowhere = ["198.51.100.99", "2001:db8:ffff::1", "192.0.2.80", "2001:db8::80"];
                    let is_fixed = nowhere.contains(&address.to_string().as_str());
                    if is_fixed {
                        prop_assert!(!is_fenced, "{name} for {client}: {address} is in no region");
                        continue;
                    }
                    let of = regions_of(address);
                    prop_assert!(!of.is_disjoint(&allowed), "{name} for {client}: {address} outside of {allowed:?}");
                    seen[usize::from(is_fenced)] += 1;
                }
            }
        }
    }
    Ok(())
}

#[test]
fn nothing_passes_a_fence() {
    let seen = RefCell::new([0; 2]);
    let mut runner = TestRunner::new(ProptestConfig::with_cases(60));
    let networks = networks();
    let outcome = runner.run(&setting(), |setting| {
        let mut node = Node::of(&[("waymark.toml", &setting.text()), ("networks", &networks), ("zone", ZONE)]);
        measure(&mut node);
        holds(&setting, &mut node, &mut seen.borrow_mut())?;
        for event in &setting.events {
            happen(&mut node, event);
            holds(&setting, &mut node, &mut seen.borrow_mut())?;
        }
        Ok(())
    });
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
    let seen = seen.into_inner();
    assert!(seen.iter().all(|&count| count > 3_000), "both kinds of clients were answered: {seen:?}");
}

const ZONE: &str = "$TTL 300\n@ SOA ns hostmaster 1 2 3 4 60\n@ NS ns\nns A 127.0.0.1\n";
