//! Random pools and random histories of health: who serves is what a second reading of SPEC 3.1 to 3.3 says. Regions
//! return at once; how they do otherwise is in `returns.rs`.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use waymark::fleet::Family;
use waymark::health::Verdict;

use crate::support::node::Node;
use crate::support::query::Ask;

const REGIONS: usize = 3;

#[derive(Clone, Debug)]
struct Instance {
    region: usize,
    weight: u64,
    /// Whether it has an address of each family.
    has: [bool; 2],
    verdicts: [Verdict; 2],
}

#[derive(Clone, Debug)]
enum Event {
    Verdict { instance: prop::sample::Index, families: usize, verdict: Verdict },
    Region { region: usize, verdict: Verdict },
    Wait(u64),
    Grace(bool),
}

/// The second reading.
struct Model {
    instances: Vec<Instance>,
    threshold: u64,
    grace_over: bool,
    now: u64,
    /// When a region lost its last eligible instance, by region and family.
    lost: [[Option<u64>; 2]; REGIONS],
    /// Whether it had one before the last event.
    had: [[bool; 2]; REGIONS],
}

impl Model {
    fn members(&self, region: usize, family: usize) -> impl Iterator<Item = (usize, &Instance)> {
        let instances = self.instances.iter().enumerate();
        instances.filter(move |(_, one)| one.region == region && one.has[family] && one.weight > 0)
    }

    fn of(&self, region: usize, family: usize, verdict: Verdict) -> Vec<usize> {
        self.members(region, family).filter(|(_, one)| one.verdicts[family] == verdict).map(|(at, _)| at).collect()
    }

    fn all(&self, region: usize, family: usize) -> Vec<usize> {
        self.members(region, family).map(|(at, _)| at).collect()
    }

    fn weight(&self, instances: &[usize]) -> u64 {
        instances.iter().map(|&at| self.instances[at].weight).sum()
    }

    /// Notes losses after each event.
    fn judge(&mut self) {
        for region in 0..REGIONS {
            for family in 0..2 {
                let has = !self.of(region, family, Verdict::Up).is_empty();
                self.lost[region][family] = match (self.had[region][family], has) {
                    (_, true) => None,
                    (true, false) => Some(self.now),
                    (false, false) => self.lost[region][family],
                };
                self.had[region][family] = has;
            }
        }
    }

    /// Passes 1 and 2.
    fn alive(&self, family: usize) -> Option<Vec<usize>> {
        let up = |region| self.of(region, family, Verdict::Up);
        let unknown = |region| self.of(region, family, Verdict::Unknown);
        let all = |region| self.weight(&self.all(region, family));
        let available = (0..REGIONS).find(|&region| {
            let counted = if self.grace_over { all(region) } else { all(region) - self.weight(&unknown(region)) };
            !up(region).is_empty() && self.weight(&up(region)) * 100 >= self.threshold * counted
        });
        let mut fullest: Option<usize> = None;
        for region in (0..REGIONS).filter(|&region| !up(region).is_empty()) {
            let share = |region| self.weight(&up(region)) as f64 / all(region) as f64;
            if fullest.is_none_or(|best| share(region) > share(best) + 1e-12) {
                fullest = Some(region);
            }
        }
        available.or(fullest).map(up).or_else(|| (0..REGIONS).map(unknown).find(|list| !list.is_empty()))
    }

    /// The instances that are answered.
    fn serving(&self, family: usize) -> Vec<usize> {
        if let Some(alive) = self.alive(family) {
            return alive;
        }
        if family == 1 && self.alive(0).is_some() {
            return Vec::new();
        }
        let mut regions = (0..REGIONS).filter(|&region| !self.all(region, family).is_empty());
        let latest = regions.clone().filter_map(|region| self.lost[region][family]).max();
        let chosen = match latest {
            None => regions.next(),
            Some(latest) => regions.find(|&region| self.lost[region][family].is_some_and(|lost| lost + 60 >= latest)),
        };
        chosen.map_or(Vec::new(), |region| self.all(region, family))
    }
}

fn configuration(instances: &[Instance], threshold: u64) -> String {
    let mut text = String::from(
        "[zones.\"example\"]\nfile = \"zone\"\n[regions.r0]\n[regions.r1]\n[regions.r2]\n\
         [checks.web]\ntype = \"tcp\"\nport = 80\n\
         [services.\"www.example\"]\npool = \"web\"\nsteer = \"failover\"\nanswers = 0\n",
    );
    text += &format!(
        "[pools.web]\ncheck = \"web\"\nreturn-after = \"0s\"\nregion-ramp = \"0s\"\nup-threshold = \"{threshold}%\"\n[pools.web.instances]\n"
    );
    for (at, instance) in instances.iter().enumerate() {
        let addresses: Vec<String> = (0..2).filter(|&family| instance.has[family]).map(|f| address(at, f)).collect();
        let (region, weight) = (instance.region, instance.weight);
        text += &format!("i{at} = {{ region = \"r{region}\", weight = {weight}, address = {addresses:?} }}\n");
    }
    text
}

fn address(instance: usize, family: usize) -> String {
    if family == 0 { format!("192.0.2.{instance}") } else { format!("2001:db8::{instance:x}") }
}

fn instance() -> impl Strategy<Value = Instance> {
    let has = prop::sample::select(&[[true, false], [false, true], [true, true], [true, true]][..]);
    let verdicts = [Verdict::Up, Verdict::Up];
    (0..REGIONS, 0u64..4, has).prop_map(move |(region, weight, has)| Instance { region, weight, has, verdicts })
}

fn verdict() -> impl Strategy<Value = Verdict> {
    prop_oneof![2 => Just(Verdict::Up), 4 => Just(Verdict::Down), 1 => Just(Verdict::Unknown)]
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        5 => (any::<prop::sample::Index>(), 0usize..3, verdict())
            .prop_map(|(instance, families, verdict)| Event::Verdict { instance, families, verdict }),
        3 => (0..REGIONS, verdict()).prop_map(|(region, verdict)| Event::Region { region, verdict }),
        2 => prop_oneof![0u64..130, Just(60)].prop_map(Event::Wait),
        1 => any::<bool>().prop_map(Event::Grace),
    ]
}

fn apply(event: &Event, node: &mut Node, model: &mut Model) {
    match event {
        Event::Verdict { instance, families, verdict } => {
            let families: &[Family] = [&[Family::V4][..], &[Family::V6], &Family::BOTH][*families];
            set(instance.index(model.instances.len()), families, *verdict, node, model);
        }
        Event::Region { region, verdict } => {
            let members: Vec<usize> =
                (0..model.instances.len()).filter(|&at| model.instances[at].region == *region).collect();
            for at in members {
                set(at, &Family::BOTH, *verdict, node, model);
            }
        }
        Event::Wait(seconds) => {
            node.wait(Duration::from_secs(*seconds));
            model.now += seconds;
        }
        Event::Grace(over) => {
            node.set_grace_over(*over);
            model.grace_over = *over;
        }
    }
}

fn set(at: usize, families: &[Family], verdict: Verdict, node: &mut Node, model: &mut Model) {
    node.set(&format!("instance/web/i{at}"), families, verdict);
    for &family in families {
        model.instances[at].verdicts[family as usize] = verdict;
    }
    model.judge();
}

#[test]
fn who_serves_is_what_a_second_reading_says() {
    let config = ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() };
    let threshold = prop::sample::select(&[1u64, 25, 50, 67, 100][..]);
    let all = (prop::collection::vec(instance(), 1..9), threshold, prop::collection::vec(event(), 1..30));
    let run = TestRunner::new(config).run(&all, |(instances, threshold, events)| {
        let zone = "$TTL 300\n@ SOA ns hostmaster 1 2 3 4 60\n@ NS ns\nns A 127.0.0.1\n";
        let text = configuration(&instances, threshold);
        let node = RefCell::new(Node::of(&[("waymark.toml", &text), ("zone", zone)]));
        let mut model = Model {
            instances,
            threshold,
            grace_over: true,
            now: 0,
            lost: [[None; 2]; REGIONS],
            had: [[false; 2]; REGIONS],
        };
        model.judge();
        for event in &events {
            let node = &mut *node.borrow_mut();
            apply(event, node, &mut model);
            for (family, qtype) in [(0, 1), (1, 28)] {
                let found: BTreeSet<IpAddr> = node.addresses(&Ask::new("www.example", qtype)).into_iter().collect();
                let expected: BTreeSet<IpAddr> =
                    model.serving(family).iter().map(|&at| address(at, family).parse().expect("an address")).collect();
                prop_assert_eq!(found, expected, "after {:?}", event);
            }
        }
        Ok(())
    });
    run.expect("holds");
}
