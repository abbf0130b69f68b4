//! Who gets how much: weights, rotations, stickiness and random region orders over many answers (SPEC 4.6, 5).

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::support::node::Node;
use crate::support::query::Ask;

const DRAWS: u32 = 1_000_000;
/// Half a percentage point.
const WITHIN: f64 = 0.005;

const CONFIGURATION: &str = r#"
[zones."gslb.example.com"]
file = "zone"
[regions.eu]
location = { latitude = 53.3, longitude = -6.3 }
[regions.us]
location = { latitude = 38.9, longitude = -77.0 }
[regions.ap]
location = { latitude = 1.3, longitude = 103.8 }
[checks.web]
type = "tcp"
port = 80
[pools.web]
check = "web"
up-threshold = "1%"
[pools.web.instances]
a = { region = "eu", address = "192.0.2.1", weight = 2 }
b = { region = "eu", address = "192.0.2.2" }
c = { region = "eu", address = "192.0.2.3" }
d = { region = "us", address = "192.0.2.4", weight = 1000 }
e = { region = "ap", address = "192.0.2.5", weight = 7 }
[services."draw.gslb.example.com"]
pool = "web"
steer = "failover"
order = ["eu"]
[services."two.gslb.example.com"]
pool = "web"
steer = "failover"
order = ["eu"]
answers = 2
[services."random.gslb.example.com"]
pool = "web"
steer = "failover"
order = ["eu"]
balance = "random"
[services."turns.gslb.example.com"]
pool = "web"
steer = "failover"
order = ["eu"]
balance = "round-robin"
[services."all-turns.gslb.example.com"]
pool = "web"
balance = "round-robin"
[services."shares.gslb.example.com"]
pool = "web"
steer = "weighted"
shares = { eu = 70, us = 20, ap = 10 }
[services."sticky.gslb.example.com"]
pool = "web"
balance = "sticky"
"#;
const ZONE: &str = "$TTL 300\n@ SOA ns hostmaster 1 2 3 4 60\n@ NS ns\nns A 127.0.0.1\n";

fn node() -> Node {
    Node::of(&[("waymark.toml", CONFIGURATION), ("zone", ZONE)])
}

/// The last octets of the addresses answered.
fn octets(node: &mut Node, query: &[u8], source: IpAddr) -> Vec<u8> {
    let answer = node.respond(query, source, waymark::answer::Transport::Udp);
    // Read by hand, for there are millions: records of 16 octets behind the question, and the OPT of 11.
    let count = usize::from(answer[7]);
    let end = answer.len() - 11;
    (0..count).map(|at| answer[end - 16 * (count - at) + 15]).collect()
}

/// How often each octet came first, of `draws` answers.
fn firsts(node: &mut Node, ask: &Ask, draws: u32) -> BTreeMap<u8, u32> {
    let query = ask.encode();
    let mut firsts = BTreeMap::new();
    for _ in 0..draws {
        *firsts.entry(octets(node, &query, ask.source)[0]).or_insert(0) += 1;
    }
    firsts
}

fn assert_shares(counts: &BTreeMap<u8, u32>, expected: &[(u8, f64)]) {
    let total: u32 = counts.values().sum();
    assert_eq!(counts.len(), expected.len(), "{counts:?}");
    for (octet, share) in expected {
        let found = f64::from(counts[octet]) / f64::from(total);
        assert!((found - share).abs() < WITHIN, "{octet}: {found:.4}, expected {share:.4}: {counts:?}");
    }
}

#[test]
fn weights_are_shares() {
    let mut example = Node::example();
    // 3:1 in eu-west; the last octets are those of eu-1 and eu-2.
    let www = Ask::new("www.gslb.example.com", 1).from("203.0.113.5");
    assert_shares(&firsts(&mut example, &www, DRAWS), &[(1, 0.75), (2, 0.25)]);
    let mut node = node();
    let draw = Ask::new("draw.gslb.example.com", 1);
    assert_shares(&firsts(&mut node, &draw, DRAWS / 5), &[(1, 0.5), (2, 0.25), (3, 0.25)]);
    let random = Ask::new("random.gslb.example.com", 1);
    assert_shares(&firsts(&mut node, &random, DRAWS / 5), &[(1, 1.0 / 3.0), (2, 1.0 / 3.0), (3, 1.0 / 3.0)]);
    node.down("instance/web/a");
    assert_shares(&firsts(&mut node, &draw, DRAWS / 5), &[(2, 0.5), (3, 0.5)]);
}

/// Two of {2, 1, 1} without replacement: in each place, and as a pair.
#[test]
fn several_answers_are_drawn_without_replacement() {
    let mut node = node();
    let ask = Ask::new("two.gslb.example.com", 1);
    let query = ask.encode();
    let mut pairs: BTreeMap<u8, u32> = BTreeMap::new();
    for _ in 0..DRAWS / 5 {
        let drawn = octets(&mut node, &query, ask.source);
        assert_eq!(drawn.len(), 2);
        assert_ne!(drawn[0], drawn[1]);
        *pairs.entry(drawn[0] * 10 + drawn[1]).or_insert(0) += 1;
    }
    // After a (1/2): b or c alike. After b (1/4): a of a and c by 2:1.
    let (from_a, to_a, rest) = (0.25, 0.25 * 2.0 / 3.0, 0.25 / 3.0);
    assert_shares(&pairs, &[(12, from_a), (13, from_a), (21, to_a), (23, rest), (31, to_a), (32, rest)]);
}

#[test]
fn turns_are_smooth_and_exact() {
    let mut node = node();
    let ask = Ask::new("turns.gslb.example.com", 1);
    let turns = |node: &mut Node, count| -> Vec<u8> {
        (0..count).map(|_| octets(node, &ask.encode(), ask.source)[0]).collect()
    };
    assert_eq!(turns(&mut node, 8), [1, 2, 1, 3, 1, 2, 1, 3], "a b a c");
    // Any window of a whole cycle is exact, wherever it begins.
    let many = turns(&mut node, 400);
    for window in many.windows(4) {
        let of = |octet| window.iter().filter(|&&each| each == octet).count();
        assert_eq!((of(1), of(2), of(3)), (2, 1, 1));
    }
    // After a change of health, and after the next.
    turns(&mut node, 3);
    node.down("instance/web/b");
    assert_eq!(turns(&mut node, 6), [1, 3, 1, 1, 3, 1]);
    node.up("instance/web/b");
    assert_eq!(turns(&mut node, 4), [1, 2, 1, 3]);
    // What happens elsewhere does not disturb the rotation.
    turns(&mut node, 1);
    node.down("region/us");
    assert_eq!(turns(&mut node, 3), [2, 1, 3]);
}

#[test]
fn turns_of_uneven_weights_are_exact_over_a_cycle() {
    let mut node = node();
    let ask = Ask::new("all-turns.gslb.example.com", 1);
    for _ in 0..3 {
        let cycle = firsts(&mut node, &ask, 1011);
        assert_eq!(cycle, BTreeMap::from([(1, 2), (2, 1), (3, 1), (4, 1000), (5, 7)]));
    }
}

#[test]
fn regions_are_drawn_by_shares() {
    let mut node = node();
    let ask = Ask::new("shares.gslb.example.com", 1);
    let region = |octet: u8| if octet < 4 { 1 } else { octet };
    let regions = |node: &mut Node| {
        let mut counts = BTreeMap::new();
        for (octet, count) in firsts(node, &ask, DRAWS / 5) {
            *counts.entry(region(octet)).or_insert(0) += count;
        }
        counts
    };
    assert_shares(&regions(&mut node), &[(1, 0.7), (4, 0.2), (5, 0.1)]);
    // What a region loses goes to the others by their shares.
    node.down("region/eu");
    assert_shares(&regions(&mut node), &[(4, 2.0 / 3.0), (5, 1.0 / 3.0)]);
}

/// Where each client of 4096 /24s is sent.
fn placed(node: &mut Node, name: &str) -> Vec<u8> {
    let ask = Ask::new(name, 1);
    let query = ask.encode();
    (0..4096u32)
        .map(|at| {
            let source = IpAddr::from((0x5102_0000_u32 + at * 256 + at % 251).to_be_bytes());
            octets(node, &query, source)[0]
        })
        .collect()
}

/// SPEC 5.3: what fails moves its own clients only, and they return.
#[test]
fn stickiness_moves_only_who_must_move() {
    let mut node = node();
    let before = placed(&mut node, "sticky.gslb.example.com");
    assert_eq!(before, placed(&mut node, "sticky.gslb.example.com"), "for ever");
    for (instance, octet) in [("a", 1), ("b", 2), ("c", 3), ("d", 4), ("e", 5)] {
        node.down(&format!("instance/web/{instance}"));
        let after = placed(&mut node, "sticky.gslb.example.com");
        for (was, is) in before.iter().zip(&after) {
            assert_ne!(*is, octet);
            assert!(*was == octet || was == is, "{instance} moved a client from {was} to {is}");
        }
        node.up(&format!("instance/web/{instance}"));
        assert_eq!(before, placed(&mut node, "sticky.gslb.example.com"), "they return");
    }
    // One client network, one instance.
    let ask = Ask::new("sticky.gslb.example.com", 1);
    let of = |node: &mut Node, source: &str| node.address(&ask.clone().from(source));
    for last in [0, 1, 77, 255] {
        assert_eq!(of(&mut node, &format!("81.2.69.{last}")), of(&mut node, "81.2.69.9"));
    }
    let shares = before.iter().fold(BTreeMap::new(), |mut counts: BTreeMap<u8, u32>, octet| {
        *counts.entry(*octet).or_insert(0) += 1;
        counts
    });
    assert!(shares[&4] > 3900, "weights hold: {shares:?}");
}

/// The example's `near`: on the death of one instance only its clients move.
#[test]
fn near_keeps_its_clients() {
    let mut node = Node::example();
    let clients: Vec<Ask> = (0..=255)
        .map(|third| Ask::new("near.gslb.example.com", 1).subnet(&format!("198.18.{third}.0/24")))
        .chain((0..128).map(|last| Ask::new("near.gslb.example.com", 1).from(&format!("203.0.{last}.9"))))
        .collect();
    let place = |node: &mut Node| -> Vec<IpAddr> { clients.iter().map(|ask| node.address(ask)).collect() };
    let before = place(&mut node);
    let eu_1: IpAddr = "127.0.11.1".parse().expect("ip");
    assert!(before.contains(&eu_1));
    node.down("instance/web/eu-1");
    let after = place(&mut node);
    assert!(before.iter().zip(&after).all(|(was, is)| (*was == eu_1) == (was != is)));
    node.up("instance/web/eu-1");
    assert_eq!(before, place(&mut node));
}
