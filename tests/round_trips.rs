//! `steer = "latency"` in a made-up world: regions, prefixes in autonomous systems and countries, detours, noise, drift
//! and one sample in ten garbage. Seeds are fixed; what holds for all of them is asserted.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use ipnet::IpNet;
use waymark::steering::local::Random;

use crate::support::node::Node;
use crate::support::query::Ask;
use crate::support::say;

const SEEDS: [u64; 5] = [1, 2, 3, 4, 5];
const COUNTRIES: [&str; 12] = ["DE", "FR", "GB", "US", "CA", "BR", "IN", "JP", "SG", "AU", "ZA", "TR"];
const SYSTEMS: usize = 60;
const PREFIXES: usize = 600;
const HALF_LIFE: Duration = Duration::from_secs(600);
/// Part of the samples that are garbage, in percent.
const GARBAGE: u64 = 10;
/// Noise of a sample: the spread of a factor, and the mean of a delay on top.
const NOISE: f64 = 0.06;
const DELAY_MS: f64 = 4.0;
/// Beyond the best, a region that is this much slower is the wrong one.
const GOOD_MS: f64 = 10.0;

struct World {
    random: Random,
    regions: Vec<(f64, f64)>,
    prefixes: Vec<Prefix>,
}

struct Prefix {
    net: IpNet,
    system: usize,
    at: (f64, f64),
    /// By region: true round-trip times, milliseconds.
    ms: Vec<f64>,
}

impl World {
    fn new(seed: u64, regions: usize) -> World {
        let mut random = Random::new(seed);
        let regions: Vec<(f64, f64)> = (0..regions).map(|_| anywhere(&mut random)).collect();
        let homes: Vec<(f64, f64)> = COUNTRIES.iter().map(|_| anywhere(&mut random)).collect();
        // Some systems go a long way round to some regions.
        let detours: Vec<Vec<f64>> = (0..SYSTEMS)
            .map(|_| {
                regions
                    .iter()
                    .map(|_| if random.below(3) == 0 { within(&mut random, 0.0, 80.0) } else { 0.0 })
                    .collect()
            })
            .collect();
        let prefixes = (0..PREFIXES).map(|number| {
            let system = random.below(SYSTEMS as u64) as usize;
            let home = homes[system % COUNTRIES.len()];
            let at = (home.0 + within(&mut random, -4.0, 4.0), home.1 + within(&mut random, -4.0, 4.0));
            let last_mile = within(&mut random, 2.0, 15.0);
            let way = |region: &(f64, f64), detour: &f64| last_mile + kilometres(at, *region) / 75.0 + detour;
            let ms = regions.iter().zip(&detours[system]).map(|(region, detour)| way(region, detour)).collect();
            let address = Ipv4Addr::from(0x5000_0000 + ((number as u32) << 9));
            let net = IpNet::new(IpAddr::V4(address), 24).expect("a length of the family");
            Prefix { net, system, at, ms }
        });
        let prefixes = prefixes.collect();
        World { random, regions, prefixes }
    }

    fn node(&self) -> Node {
        let mut text = format!(
            "[zones.\"example\"]\nfile = \"zone\"\n[geo]\nnetworks = \"networks\"\n[latency]\nhalf-life = \"{}s\"\n\
             [services.\"fast.example\"]\npool = \"web\"\nsteer = \"latency\"\n[checks.web]\ntype = \"tcp\"\nport = 80\n",
            HALF_LIFE.as_secs()
        );
        for (at, (latitude, longitude)) in self.regions.iter().enumerate() {
            let _ = writeln!(
                text,
                "[regions.r{at}]\nlocation = {{ latitude = {latitude:.3}, longitude = {longitude:.3} }}"
            );
        }
        text += "[pools.web]\ncheck = \"web\"\nreturn-after = \"0s\"\nregion-ramp = \"0s\"\n[pools.web.instances]\n";
        for at in 0..self.regions.len() {
            let _ = writeln!(text, "i{at} = {{ region = \"r{at}\", address = \"192.0.2.{at}\" }}");
        }
        let mut networks = String::new();
        for Prefix { net, system, at: (latitude, longitude), .. } in &self.prefixes {
            let _ = writeln!(
                networks,
                "\"{net}\" = {{ country = \"{}\", as = {}, latitude = {latitude:.3}, longitude = {longitude:.3} }}",
                COUNTRIES[system % COUNTRIES.len()],
                64_500 + system
            );
        }
        let zone = "$TTL 300\n@ SOA ns hostmaster 1 2 3 4 60\n@ NS ns\nns A 127.0.0.1\n";
        Node::of(&[("waymark.toml", &text), ("networks", &networks), ("zone", zone)])
    }

    /// One round trip from each prefix to each region of `regions`, all nodes hearing of it.
    fn sample(&mut self, regions: impl Iterator<Item = usize> + Clone, nodes: &mut [Node]) {
        for prefix in &self.prefixes {
            for region in regions.clone() {
                let (factor, delay) =
                    ((NOISE * normal(&mut self.random)).exp(), exponential(&mut self.random, DELAY_MS));
                let measured = match self.random.below(100) < GARBAGE {
                    true => within(&mut self.random, 0.1, 5_000.0),
                    false => prefix.ms[region] * factor + delay,
                };
                nodes.iter_mut().for_each(|node| node.measure(prefix.net, &format!("r{region}"), measured));
            }
        }
    }

    /// Everything gets a little slower or faster.
    fn drift(&mut self) {
        for prefix in &mut self.prefixes {
            for ms in &mut prefix.ms {
                *ms *= 1.0 + within(&mut self.random, -0.004, 0.004);
            }
        }
    }

    /// Where each prefix is sent.
    fn served(&self, node: &mut Node) -> Vec<usize> {
        let ask = |prefix: &Prefix| Ask::new("fast.example", 1).subnet(&prefix.net.to_string());
        let region = |address| match address {
            IpAddr::V4(v4) => usize::from(v4.octets()[3]),
            IpAddr::V6(_) => unreachable!("A was asked"),
        };
        self.prefixes.iter().map(|prefix| region(node.address(&ask(prefix)))).collect()
    }

    /// The part of the prefixes that are sent to a region within [`GOOD_MS`] of the best that is not `down`.
    fn good(&self, served: &[usize], down: &BTreeSet<usize>) -> f64 {
        let best = |prefix: &Prefix| {
            let up = prefix.ms.iter().enumerate().filter(|(region, _)| !down.contains(region));
            up.map(|(_, ms)| *ms).fold(f64::INFINITY, f64::min)
        };
        let good =
            self.prefixes.iter().zip(served).filter(|(prefix, region)| prefix.ms[**region] <= best(prefix) + GOOD_MS);
        good.count() as f64 / self.prefixes.len() as f64
    }
}

fn anywhere(random: &mut Random) -> (f64, f64) {
    (within(random, -40.0, 60.0), within(random, -170.0, 170.0))
}

fn within(random: &mut Random, least: f64, most: f64) -> f64 {
    least + (most - least) * (random.bits() >> 11) as f64 / (1u64 << 53) as f64
}

/// By Box and Muller.
fn normal(random: &mut Random) -> f64 {
    let (one, two) = (within(random, f64::EPSILON, 1.0), within(random, 0.0, std::f64::consts::TAU));
    (-2.0 * one.ln()).sqrt() * two.cos()
}

fn exponential(random: &mut Random, mean: f64) -> f64 {
    -mean * within(random, f64::EPSILON, 1.0).ln()
}

/// By the spherical law of cosines.
fn kilometres(a: (f64, f64), b: (f64, f64)) -> f64 {
    let [(north_a, east_a), (north_b, east_b)] = [a, b].map(|(n, e)| (n.to_radians(), e.to_radians()));
    let cosine = north_a.sin() * north_b.sin() + north_a.cos() * north_b.cos() * (east_a - east_b).cos();
    6371.0 * cosine.clamp(-1.0, 1.0).acos()
}

fn all(regions: usize) -> std::ops::Range<usize> {
    0..regions
}

/// 20 samples of each prefix, whatever the number of regions they are shared out among.
#[test]
fn clients_come_to_a_region_that_is_about_the_best() {
    for seed in SEEDS {
        let mut world = World::new(seed, 5);
        let mut nodes = [world.node(), world.node()];
        let before = world.good(&world.served(&mut nodes[0]), &BTreeSet::new());
        for _ in 0..4 {
            world.sample(all(5), &mut nodes);
            world.drift();
            nodes.iter_mut().for_each(|node| node.wait(Duration::from_secs(30)));
        }
        nodes.iter_mut().for_each(Node::go_by_measured);
        let [one, other] = &mut nodes;
        let served = world.served(one);
        assert_eq!(world.served(other), served, "what nodes hear alike they decide alike");
        let good = world.good(&served, &BTreeSet::new());
        say(&format!(
            "measured: seed {seed}: {:.1}% by distance, {:.1}% after 20 samples",
            before * 100.0,
            good * 100.0
        ));
        assert!(good >= 0.95, "seed {seed}: {good}");

        let down = BTreeSet::from([served[0], served[PREFIXES / 2]]);
        down.iter().for_each(|region| one.down(&format!("region/r{region}")));
        let served = world.served(one);
        assert!(served.iter().all(|region| !down.contains(region)), "seed {seed}: sent to one that is down");
        // Those that are left are far away for some, and far ways are noisy.
        assert!(world.good(&served, &down) >= 0.9, "seed {seed}: {}", world.good(&served, &down));
    }
}

/// Many regions, 20 samples of each way; then a region slows, and everybody who has somewhere better to go leaves.
#[test]
fn a_region_that_slows_loses_its_clients_and_noise_moves_nobody() {
    for seed in SEEDS {
        let mut world = World::new(seed, 12);
        let mut nodes = [world.node()];
        let round = Duration::from_secs(60);
        let mut moved = 0;
        let mut before: Option<Vec<usize>> = None;
        for at in 0..20 {
            world.sample(all(12), &mut nodes);
            nodes[0].wait(round);
            nodes[0].go_by_measured();
            let served = world.served(&mut nodes[0]);
            let changes = before.iter().flatten().zip(&served).filter(|(before, now)| before != now).count();
            // Until then little is known.
            moved += if at >= 10 { changes } else { 0 };
            before = Some(served);
        }
        let served = before.expect("there were rounds");
        let good = world.good(&served, &BTreeSet::new());
        let moved = moved as f64 / (10 * PREFIXES) as f64;

        let slow = served[0];
        world.prefixes.iter_mut().for_each(|prefix| prefix.ms[slow] += 100.0);
        for _ in 0..2 * HALF_LIFE.as_secs() / round.as_secs() {
            world.sample(all(12), &mut nodes);
            nodes[0].wait(round);
        }
        nodes[0].go_by_measured();
        let now = world.served(&mut nodes[0]);
        let stuck = world.prefixes.iter().zip(&now).filter(|(prefix, region)| {
            let best = prefix.ms.iter().copied().fold(f64::INFINITY, f64::min);
            **region == slow && prefix.ms[slow] > best + 2.0 * GOOD_MS
        });
        let (stuck, clients) = (stuck.count(), served.iter().filter(|region| **region == slow).count());
        let after = world.good(&now, &BTreeSet::new());
        say(&format!(
            "measured: seed {seed}: {:.1}% good, {:.2}% move a minute; 100 ms slower, {stuck} of {clients} stay, {:.1}% good",
            good * 100.0,
            moved * 100.0,
            after * 100.0
        ));
        assert!(good >= 0.95 && after >= 0.95, "seed {seed}: {good}, {after}");
        assert!(moved <= 0.01, "seed {seed}: {moved} of the clients move a minute");
        assert!(clients > 0 && stuck * 20 <= clients, "seed {seed}: {stuck} of {clients}");
    }
}

/// Exploring clients: as many as are to, at the second best region, and nobody elsewhere.
#[test]
fn few_clients_explore() {
    let mut world = World::new(7, 4);
    let mut node = world.node();
    let plain = {
        for _ in 0..5 {
            world.sample(all(4), std::slice::from_mut(&mut node));
        }
        node.go_by_measured();
        world.served(&mut node)
    };
    node.world.latency.explore = 1_000;
    node.go_by_measured();
    let exploring = world.served(&mut node);
    let share = plain.iter().zip(&exploring).filter(|(a, b)| a != b).count() as f64 / PREFIXES as f64;
    assert!((0.06..0.14).contains(&share), "{share}");
    // Where there is nothing else to go to, nobody goes.
    let left = plain[0];
    all(4).filter(|region| *region != left).for_each(|region| node.down(&format!("region/r{region}")));
    assert!(world.served(&mut node).iter().all(|region| *region == left));
}
