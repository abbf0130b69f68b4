//! `balance = "least-load"` and `max-load` (SPEC 5.4): shares over many answers, and random pools, loads and times against
//! a second reading of the rule.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use waymark::control::explain::{Ask as Question, explain};
use waymark::health::Verdict;
use waymark::steering::trace::Recorded;

use crate::support::node::Node;
use crate::support::query::Ask;

const ZONE: &str = "$TTL 300\n@ SOA ns hostmaster 1 2 3 4 60\n@ NS ns\nns A 127.0.0.1\n";

/// Services by load over instances of one region; these lines are the instances.
fn node(instances: &str) -> Node {
    let text = format!(
        "[zones.\"example\"]\nfile = \"zone\"\n[regions.eu]\n[checks.web]\ntype = \"tcp\"\nport = 80\n\
         [pools.web]\ncheck = \"web\"\n[pools.web.instances]\n{instances}\n\
         [defaults.service]\npool = \"web\"\nbalance = \"least-load\"\nsteer = \"failover\"\n\
         [services.\"one.example\"]\n[services.\"all.example\"]\nanswers = 0\n\
         [services.\"turns.example\"]\nbalance = \"round-robin\"\n"
    );
    Node::of(&[("waymark.toml", &text), ("zone", ZONE)])
}

/// The last octets of the addresses of `draws` answers: how often each came first.
fn firsts(node: &mut Node, name: &str, draws: u32) -> BTreeMap<u8, f64> {
    let ask = Ask::new(name, 1);
    let mut counts = BTreeMap::new();
    for _ in 0..draws {
        *counts.entry(last_octet(node.addresses(&ask)[0])).or_insert(0.0) += 1.0 / f64::from(draws);
    }
    counts
}

fn last_octet(address: std::net::IpAddr) -> u8 {
    match address {
        std::net::IpAddr::V4(address) => address.octets()[3],
        std::net::IpAddr::V6(_) => panic!("{address}"),
    }
}

#[track_caller]
fn assert_shares(found: &BTreeMap<u8, f64>, expected: &[(u8, f64)]) {
    assert_eq!(found.len(), expected.len(), "{found:?}");
    for (octet, share) in expected {
        assert!((found[octet] - share).abs() < 0.01, "{found:?}, expected {expected:?}");
    }
}

const THREE: &str = "a = { region = \"eu\", address = \"192.0.2.1\", weight = 2, capacity = 800, max-load = 700 }\n\
                     b = { region = \"eu\", address = \"192.0.2.2\", capacity = 400 }\n\
                     c = { region = \"eu\", address = \"192.0.2.3\" }";
const DRAWS: u32 = 40_000;

#[test]
fn equal_loads_are_weights_and_the_loaded_gets_less() {
    let mut node = node(THREE);
    let by_weight = [(1, 0.5), (2, 0.25), (3, 0.25)];
    assert_shares(&firsts(&mut node, "one.example", DRAWS), &by_weight);
    node.report_load("instance/web/a", 400.0);
    assert_shares(&firsts(&mut node, "one.example", DRAWS), &by_weight);
    node.report_load("instance/web/b", 200.0);
    // Half of each, and the mean of who says nothing.
    assert_shares(&firsts(&mut node, "one.example", DRAWS), &by_weight);
    // a 75 %, b 25 %, c 50 % as it says nothing. With a (weight 2 of 4) goes b or c; of b and c the first.
    node.report_load("instance/web/a", 600.0);
    node.report_load("instance/web/b", 100.0);
    // Pairs: a b 1/4 + 1/6, a c the same, b c 1/12 + 1/12. a is never the less loaded one.
    assert_shares(&firsts(&mut node, "one.example", DRAWS), &[(2, 7.0 / 12.0), (3, 5.0 / 12.0)]);
    // c reports that it has most of all.
    node.report_load("instance/web/c", 90.0);
    assert_shares(&firsts(&mut node, "one.example", DRAWS), &[(1, 5.0 / 12.0), (2, 7.0 / 12.0)]);
}

/// Who gets no clients by load has them again as soon as it says that it is idle, and turns are not disturbed by loads.
#[test]
fn at_max_load_nobody_is_picked_while_another_can_be() {
    let mut node = node(THREE);
    for (load, expected) in [(699.0, 3), (700.0, 2), (5000.0, 2), (10.0, 3)] {
        node.report_load("instance/web/a", load);
        assert_eq!(node.addresses(&Ask::new("all.example", 1)).len(), expected, "{load}");
        assert_eq!(firsts(&mut node, "turns.example", 8).len(), expected, "{load}: it counts for every balance");
    }
    let turns = |node: &mut Node| last_octet(node.addresses(&Ask::new("turns.example", 1))[0]);
    let mut seen = BTreeMap::new();
    for turn in 0..40 {
        node.report_load("instance/web/b", f64::from(turn * 10));
        *seen.entry(turns(&mut node)).or_insert(0) += 1;
    }
    assert_eq!(seen, BTreeMap::from([(1, 20), (2, 10), (3, 10)]), "a cycle is exact, whatever loads do meanwhile");
}

#[test]
fn an_explanation_tells_of_loads() {
    let mut node = node(THREE);
    node.wait(Duration::from_secs(60));
    node.report_load("instance/web/a", 700.0);
    node.wait(Duration::from_secs(40));
    node.report_load("instance/web/a", 720.0);
    let lines = |node: &Node| {
        let name = waymark::dns::Name::parse("one.example.", None).expect("a name");
        let client = Some("203.0.113.0/24".parse().expect("a prefix"));
        let ask = Question { name, rtype: waymark::dns::RecordType::A, client, resolver: None, seed: 1 };
        let stages = explain(&node.snapshot, &ask, Recorded::default()).stages;
        stages.into_iter().map(|stage| stage.text).collect::<Vec<_>>().join("\n")
    };
    let text = lines(&node);
    assert!(text.contains("a is at its max-load (weight 2)\nb up (weight 1)\nc up (weight 1)"), "{text}");
    node.report_load("instance/web/a", 400.0);
    node.report_load("instance/web/b", 100.0);
    let text = lines(&node);
    assert!(text.contains("less loaded of two drawn by weight: "), "{text}");
    // b is new: with a alone nothing is to be compared.
    assert!(text.contains("(load 0%, weight "), "{text}");
    node.wait(Duration::from_secs(31));
    let text = lines(&node);
    assert!(text.contains("a up (weight 2)\nb up (weight 1)\nc up (weight 1, no report, the mean)"), "{text}");
    assert!(text.contains("b (load 25%, weight 1 of 4)") || text.contains("c (load 38%, weight 1 of 4)"), "{text}");
    node.agent_says("instance/web/b", 0, None);
    let text = lines(&node);
    assert!(text.contains("b is drained by its agent (weight 1)"), "{text}");
}

#[derive(Clone, Debug)]
struct Instance {
    weight: u32,
    capacity: f64,
    max_load: Option<f64>,
}

#[derive(Clone, Debug)]
enum Event {
    Load(prop::sample::Index, f64),
    Wait(u64),
    Verdict(prop::sample::Index, bool),
}

/// The second reading.
struct Model {
    instances: Vec<Instance>,
    up: Vec<bool>,
    /// Load, when, since when without a gap of three minutes.
    reports: Vec<Option<(f64, u64, u64)>>,
    now: u64,
}

impl Model {
    fn fresh(&self, at: usize) -> Option<f64> {
        self.reports[at].filter(|&(_, when, _)| self.now - when <= 180).map(|(load, ..)| load)
    }

    fn is_full(&self, at: usize) -> bool {
        matches!((self.fresh(at), self.instances[at].max_load), (Some(load), Some(most)) if load >= most)
    }

    /// Those that may be picked.
    fn eligible(&self) -> Vec<usize> {
        let up: Vec<usize> = (0..self.up.len()).filter(|&at| self.up[at] && self.instances[at].weight > 0).collect();
        let with_room: Vec<usize> = up.iter().copied().filter(|&at| !self.is_full(at)).collect();
        if with_room.is_empty() { up } else { with_room }
    }

    /// The share of its capacity that each of them has, as it is compared.
    fn ratios(&self, eligible: &[usize]) -> Vec<f64> {
        let counts = |at: usize| {
            // A report within the first half minute of the process is of one that was there before.
            let (_, _, since) = self.reports[at]?;
            let is_new = since > 30 && self.now < since + 30;
            Some(self.fresh(at)? / self.instances[at].capacity).filter(|_| !is_new)
        };
        let own: Vec<Option<f64>> = eligible.iter().map(|&at| counts(at)).collect();
        let known: Vec<f64> = own.iter().flatten().copied().collect();
        if known.len() < 2 {
            return vec![0.0; eligible.len()];
        }
        let mean = known.iter().sum::<f64>() / known.len() as f64;
        own.into_iter().map(|own| own.unwrap_or(mean)).collect()
    }
}

fn event() -> impl Strategy<Value = Event> {
    let load = prop_oneof![Just(0.0), 0.0..120.0, 0.0..120.0, Just(100.0)];
    prop_oneof![
        6 => (any::<prop::sample::Index>(), load).prop_map(|(at, load)| Event::Load(at, load)),
        2 => prop_oneof![0u64..200, Just(30), Just(180), Just(1)].prop_map(Event::Wait),
        1 => (any::<prop::sample::Index>(), any::<bool>()).prop_map(|(at, up)| Event::Verdict(at, up)),
    ]
}

fn instance() -> impl Strategy<Value = Instance> {
    let capacity = prop::sample::select(&[50.0, 100.0, 120.0][..]);
    let max_load = prop::sample::select(&[None, Some(60.0), Some(100.0)][..]);
    (0u32..4, capacity, max_load).prop_map(|(weight, capacity, max_load)| Instance { weight, capacity, max_load })
}

fn apply(event: &Event, node: &mut Node, model: &mut Model) {
    let count = model.instances.len();
    match event {
        Event::Load(at, load) => {
            let at = at.index(count);
            node.report_load(&format!("instance/web/i{at}"), *load);
            let since = model.fresh(at).and(model.reports[at]).map_or(model.now, |(.., since)| since);
            model.reports[at] = Some((*load, model.now, since));
        }
        Event::Wait(seconds) => {
            node.wait(Duration::from_secs(*seconds));
            model.now += seconds;
        }
        Event::Verdict(at, up) => {
            let at = at.index(count);
            let verdict = if *up { Verdict::Up } else { Verdict::Down };
            node.set(&format!("instance/web/i{at}"), &waymark::fleet::Family::BOTH, verdict);
            model.up[at] = *up;
        }
    }
}

/// Ratios are gone by in whole percent, and change when they are off by one: within two, either may be taken for lower.
const CLEARLY: f64 = 0.025;

#[test]
fn who_is_picked_is_what_a_second_reading_says() {
    let config = ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() };
    let all = (prop::collection::vec(instance(), 2..6), prop::collection::vec(event(), 1..25));
    let run = TestRunner::new(config).run(&all, |(instances, events)| {
        let line = |(at, one): (usize, &Instance)| {
            let max_load = one.max_load.map_or_else(String::new, |most| format!(", max-load = {most:?}"));
            let (weight, capacity) = (one.weight, one.capacity);
            format!(
                "i{at} = {{ region = \"eu\", address = \"192.0.2.{at}\", weight = {weight}, capacity = {capacity:?}{max_load} }}\n"
            )
        };
        let node = RefCell::new(node(&instances.iter().enumerate().map(line).collect::<String>()));
        let count = instances.len();
        let mut model = Model { instances, up: vec![true; count], reports: vec![None; count], now: 0 };
        for event in &events {
            let node = &mut *node.borrow_mut();
            apply(event, node, &mut model);
            let eligible = model.eligible();
            if eligible.is_empty() {
                continue;
            }
            let mut found: Vec<usize> =
                node.addresses(&Ask::new("all.example", 1)).into_iter().map(|one| last_octet(one).into()).collect();
            found.sort_unstable();
            prop_assert_eq!(&found, &eligible, "after {:?}", event);
            let ratios = model.ratios(&eligible);
            let drawn = firsts(node, "one.example", 300);
            for (&at, &ratio) in eligible.iter().zip(&ratios) {
                let others = eligible.iter().zip(&ratios).filter(|(other, _)| **other != at);
                let (mut is_best, mut is_worst) = (true, eligible.len() > 1);
                for (_, &other) in others {
                    is_best &= ratio + CLEARLY < other;
                    is_worst &= other + CLEARLY < ratio;
                }
                let got = drawn.get(&(at as u8)).copied().unwrap_or(0.0);
                prop_assert!(!is_worst || got == 0.0, "i{} is the most loaded, and got {} after {:?}", at, got, event);
                if eligible.len() == 2 {
                    prop_assert!(!is_best || got > 0.99999, "i{} of two got {} after {:?}", at, got, event);
                }
                // Where none differ, each has its part by weight: at least one in sixteen.
                if ratios.iter().all(|each| *each == ratios[0]) && eligible.len() > 1 {
                    prop_assert!(got > 0.0, "i{} got nothing after {:?}", at, event);
                }
            }
        }
        Ok(())
    });
    run.expect("holds");
}
