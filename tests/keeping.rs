//! Who stays where he is when a configuration changes, exactly (SPEC 4.2, 4.7, 5.3, 5.5): instances that come and go,
//! splits of regions, pools by shares, labels; and that every node decides alike.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, UdpSocket};
use std::sync::Arc;

use proptest::prelude::*;
use waymark::answer::{Transport, Worker};

use crate::support::PATIENCE;
use crate::support::node::Node;
use crate::support::query::{Ask, scope};
use crate::support::site::Site;

const HEAD: &str = r#"
[zones."gslb.example.com"]
file = "zone"
[regions.eu]
location = { latitude = 53.3, longitude = -6.3 }
[regions.us]
location = { latitude = 38.9, longitude = -77.0 }
[regions.ap]
location = { latitude = 1.3, longitude = 103.8 }
"#;
const ZONE: &str = "$TTL 300\n@ SOA ns hostmaster 1 2 3 4 60\n@ NS ns\nns A 127.0.0.1\n";
/// Client networks that are asked for.
const CLIENTS: u32 = 20_000;

fn node(rest: &str) -> Node {
    Node::of(&[("waymark.toml", &format!("{HEAD}{rest}")), ("zone", ZONE)])
}

/// The last octet of the address that comes first; 0 without any.
fn octet(node: &mut Node, query: &[u8], source: IpAddr) -> u8 {
    let answer = node.respond(query, source, Transport::Udp);
    // Read by hand, for there are many: records of 16 octets behind the question, and the OPT of 11.
    let (count, end) = (usize::from(answer[7]), answer.len() - 11);
    if count == 0 { 0 } else { answer[end - 16 * count + 15] }
}

/// Where each client of so many /24s is sent.
fn placed(node: &mut Node, name: &str, clients: u32) -> Vec<u8> {
    let query = Ask::new(name, 1).encode();
    let source = |at: u32| IpAddr::from((at.wrapping_mul(0x9e37_79b1) & 0x3fff_ff00 | 0x4000_0007).to_be_bytes());
    (0..clients).map(|at| octet(node, &query, source(at))).collect()
}

/// From where to where clients moved, and how many.
fn moves(before: &[u8], after: &[u8]) -> BTreeMap<(u8, u8), u32> {
    let moved = before.iter().zip(after).filter(|(was, is)| was != is);
    moved.fold(BTreeMap::new(), |mut moves, (&was, &is)| {
        *moves.entry((was, is)).or_insert(0) += 1;
        moves
    })
}

fn part(count: u32, of: u32) -> f64 {
    f64::from(count) / f64::from(of)
}

fn split(eu: u32, us: u32) -> Node {
    node(&format!(
        r#"
[maps.world]
default = [{{ eu = {eu}, us = {us} }}, "ap"]
[pools.web.instances]
e = {{ region = "eu", address = "192.0.2.1" }}
u = {{ region = "us", address = "192.0.2.2" }}
a = {{ region = "ap", address = "192.0.2.3" }}
[services."www.gslb.example.com"]
pool = "web"
steer = "geo"
map = "world"
"#
    ))
}

#[test]
fn a_split_moves_exactly_its_tenth() {
    let [mut before, mut after] = [split(80, 20), split(70, 30)];
    let [was, is] = [&mut before, &mut after].map(|node| placed(node, "www.gslb.example.com", CLIENTS));
    let of = |list: &[u8], octet| part(list.iter().filter(|&&one| one == octet).count() as u32, CLIENTS);
    assert!((of(&was, 1) - 0.8).abs() < 0.01 && (of(&is, 1) - 0.7).abs() < 0.01);
    let moved = moves(&was, &is);
    assert_eq!(moved.keys().collect::<Vec<_>>(), [&(1, 2)], "nobody moves but from eu to us");
    assert!((part(moved[&(1, 2)], CLIENTS) - 0.1).abs() < 0.005, "{moved:?}");
    // What fails goes on within the split, then behind it; and returns.
    after.down("region/us");
    assert!(placed(&mut after, "www.gslb.example.com", 500).iter().all(|&octet| octet == 1));
    after.down("region/eu");
    assert!(placed(&mut after, "www.gslb.example.com", 500).iter().all(|&octet| octet == 3));
    // The answer holds for the network that decided, as long as some client's goes by it.
    let answer = before.ask(&Ask::new("www.gslb.example.com", 1).subnet("81.2.69.0/24"));
    assert_eq!(scope(&answer), Some(24));
    // A share of 0 is nobody's, until nothing else is left.
    let mut none = split(1, 0);
    assert!(placed(&mut none, "www.gslb.example.com", 500).iter().all(|&octet| octet == 1));
    none.down("region/eu");
    assert!(placed(&mut none, "www.gslb.example.com", 500).iter().all(|&octet| octet == 2));
}

/// Instances of one region, as `(octet, weight)`.
fn sticky(instances: &[(u8, u32)], answers: u16) -> Node {
    let mut text = String::from("[pools.web.instances]\n");
    for (octet, weight) in instances {
        text += &format!("i{octet} = {{ region = \"eu\", address = \"192.0.2.{octet}\", weight = {weight} }}\n");
    }
    node(&format!(
        "{text}[services.\"www.gslb.example.com\"]\npool = \"web\"\nbalance = \"sticky\"\nanswers = {answers}\n"
    ))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Removing one of n moves its clients and no other; so does adding it, and no more than its fair share and 1 %.
    #[test]
    fn an_instance_moves_its_own_clients(
        weights in prop::collection::vec(1u32..6, 2..24),
        equal: bool,
        which: prop::sample::Index,
    ) {
        let weight = |weight: u32| if equal { 1 } else { weight };
        let all: Vec<(u8, u32)> = (1..).zip(weights.iter().map(|&one| weight(one))).collect();
        let gone = all[which.index(all.len())];
        let rest: Vec<(u8, u32)> = all.iter().copied().filter(|one| *one != gone).collect();
        let [with, without] = [&all, &rest].map(|set| placed(&mut sticky(set, 1), "www.gslb.example.com", 4000));
        for (was, is) in with.iter().zip(&without) {
            prop_assert_eq!(was != is, *was == gone.0, "from {} to {}", was, is);
        }
        let total: u32 = all.iter().map(|(_, weight)| weight).sum();
        let moved = moves(&without, &with).values().sum::<u32>();
        let fair = part(gone.1, total);
        // The count of a fair share of 4000 clients itself varies: four of its standard deviations.
        let deviation = (fair * (1.0 - fair) / 4000.0).sqrt();
        prop_assert!(part(moved, 4000) <= fair * 1.01 + 4.0 * deviation, "{moved} of 4000, fair {fair}");
    }

    /// Several answers are the first of one ranking: the first of three is the only one of one.
    #[test]
    fn more_answers_begin_with_the_same(count in 3u8..22, source: u32) {
        let set: Vec<(u8, u32)> = (1..=count).map(|octet| (octet, u32::from(octet % 3) + 1)).collect();
        let ask = Ask { source: IpAddr::from(source.to_be_bytes()), ..Ask::new("www.gslb.example.com", 1) };
        let [one, three, all] = [1, 3, 0].map(|answers| sticky(&set, answers).addresses(&ask));
        prop_assert_eq!(&three[..1], &one[..]);
        prop_assert_eq!(&all[..3], &three[..]);
        prop_assert_eq!(all.len(), usize::from(count));
    }
}

/// A fair share and 1 % over many clients: of one instance more beside 2, 9, 30.
#[test]
fn an_instance_more_takes_its_fair_share() {
    for count in [2u8, 9, 30] {
        let before: Vec<(u8, u32)> = (1..=count).map(|octet| (octet, 1)).collect();
        let after: Vec<(u8, u32)> = (1..=count + 1).map(|octet| (octet, 1)).collect();
        let [was, is] = [&before, &after].map(|set| placed(&mut sticky(set, 1), "www.gslb.example.com", 200_000));
        let moved = moves(&was, &is);
        assert!(moved.keys().all(|(_, to)| *to == count + 1), "only to the new one");
        let share = part(moved.values().sum(), 200_000);
        assert!(share <= 1.0 / f64::from(count + 1) + 0.01, "{count}: {share}");
    }
}

const REGIONS: &str = r#"
[pools.web.instances]
e1 = { region = "eu", address = "192.0.2.1" }
e2 = { region = "eu", address = "192.0.2.2" }
u1 = { region = "us", address = "192.0.2.3" }
u2 = { region = "us", address = "192.0.2.4" }
[services."region.gslb.example.com"]
pool = "web"
steer = "weighted"
shares = { eu = 75, us = 25 }
sticky = { level = "region" }
[services."turns.gslb.example.com"]
extends = "region.gslb.example.com"
balance = "round-robin"
[services."both.gslb.example.com"]
extends = "region.gslb.example.com"
balance = "sticky"
sticky = {}
[services."*.app.gslb.example.com"]
pool = "web"
steer = "nearest"
tolerance = "100%"
balance = "sticky"
sticky = { by = "label" }
"#;

/// The level `region` keeps the region of a client; its instances are balanced.
#[test]
fn a_region_can_be_kept() {
    let mut node = node(REGIONS);
    let of_region = |octet: u8| (octet - 1) / 2;
    for name in ["region.gslb.example.com", "turns.gslb.example.com"] {
        let rounds: Vec<Vec<u8>> = (0..12).map(|_| placed(&mut node, name, 2000)).collect();
        for client in 0..2000 {
            let octets: BTreeSet<u8> = rounds.iter().map(|round| round[client]).collect();
            let regions: BTreeSet<u8> = octets.iter().map(|&octet| of_region(octet)).collect();
            assert_eq!(regions.len(), 1, "{name}: one region");
        }
        let eu = rounds[0].iter().filter(|&&octet| of_region(octet) == 0).count() as u32;
        assert!((part(eu, 2000) - 0.75).abs() < 0.05, "{name}: {eu}");
        let drawn = rounds.iter().flatten().filter(|&&octet| octet == 1).count() as u32;
        assert!((part(drawn, 24_000) - 0.375).abs() < 0.03, "{name}: {drawn}");
    }
    // Whose instance is kept keeps the region as well.
    let first = placed(&mut node, "both.gslb.example.com", 2000);
    assert_eq!(first, placed(&mut node, "both.gslb.example.com", 2000));
    assert_eq!(first.iter().collect::<BTreeSet<_>>().len(), 4);
    let answer = node.ask(&Ask::new("region.gslb.example.com", 1).subnet("81.2.69.0/24"));
    assert_eq!(scope(&answer), Some(24));
}

/// Sticky by label: whoever asks gets the instance of the label, in all cases of letters, by A and AAAA alike.
#[test]
fn a_label_keeps_its_instance() {
    let mut node = node(REGIONS);
    let mut seen = BTreeSet::new();
    for session in 0..200 {
        let name = format!("s{session}.app.gslb.example.com");
        let ask = |name: &str| Ask::new(name, 1);
        let one = node.address(&ask(&name).subnet("81.2.69.0/24"));
        for other in ["9.9.9.0/24", "2a00:1450::/48"] {
            assert_eq!(node.address(&ask(&name).subnet(other)), one);
        }
        assert_eq!(node.address(&ask(&name.to_uppercase()).from("8.8.8.8")), one);
        assert_eq!(node.address(&ask(&format!("S{session}.x.y.app.gslb.example.com"))), one, "the leftmost label");
        assert_eq!(scope(&node.ask(&ask(&name).subnet("81.2.69.0/24"))), Some(0), "no client differs");
        seen.insert(one);
    }
    assert!(seen.len() >= 2, "labels differ: {seen:?}");
    // Golden: no release moves a session.
    let golden = ["a", "b", "c", "session-1", "0123456789abcdef"].map(|label| {
        let address = node.address(&Ask::new(&format!("{label}.app.gslb.example.com"), 1)).to_string();
        address.rsplit('.').next().expect("an octet").to_string()
    });
    assert_eq!(golden.join(" "), "2 2 2 1 2");
}

/// Of a client the three that it gets of so many.
const GOLDEN: &str = "\
    3 8.8.8.8: 3 1 2\n\
    3 81.2.69.160: 2 3 1\n\
    3 203.0.113.9: 1 3 2\n\
    3 2001:db8:1::1: 1 2 3\n\
    3 2a00:1450:4001:800::e: 1 2 3\n\
    30 8.8.8.8: 3 4 22\n\
    30 81.2.69.160: 17 2 23\n\
    30 203.0.113.9: 23 26 7\n\
    30 2001:db8:1::1: 26 20 19\n\
    30 2a00:1450:4001:800::e: 28 26 20\n\
    ";

/// Golden: whom clients get from a pool of mixed weights, from few and from many instances, of IPv4 and IPv6.
#[test]
fn no_release_moves_clients() {
    let mut golden = String::new();
    for count in [3u8, 30] {
        let set: Vec<(u8, u32)> = (1..=count).map(|octet| (octet, u32::from(octet % 3) + 1)).collect();
        let mut node = sticky(&set, 3);
        for source in ["8.8.8.8", "81.2.69.160", "203.0.113.9", "2001:db8:1::1", "2a00:1450:4001:800::e"] {
            let got = node.addresses(&Ask::new("www.gslb.example.com", 1).from(source));
            let octets = got.iter().map(|ip| ip.to_string().rsplit('.').next().expect("an octet").to_string());
            golden += &format!("{count} {source}: {}\n", octets.collect::<Vec<_>>().join(" "));
        }
    }
    assert_eq!(golden, GOLDEN);
}

fn mix(web: u32, canary: u32, balance: &str) -> Node {
    node(&format!(
        r#"
[checks.web]
type = "tcp"
port = 80
[pools.web]
check = "web"
[pools.web.instances]
w1 = {{ region = "eu", address = "192.0.2.1", weight = 3 }}
w2 = {{ region = "eu", address = "192.0.2.2" }}
w3 = {{ region = "us", address = "192.0.2.3" }}
[pools.web-v2]
check = "web"
[pools.web-v2.instances]
c1 = {{ region = "eu", address = "192.0.2.11", weight = 50 }}
c2 = {{ region = "eu", address = "192.0.2.12", weight = 50 }}
[services."www.gslb.example.com"]
pool = {{ web = {web}, web-v2 = {canary} }}
steer = "failover"
order = ["eu", "us"]
balance = "{balance}"
"#
    ))
}

fn counts(octets: &[u8]) -> BTreeMap<u8, f64> {
    let total = octets.len() as u32;
    let mut counts: BTreeMap<u8, u32> = BTreeMap::new();
    octets.iter().for_each(|&octet| *counts.entry(octet).or_insert(0) += 1);
    counts.into_iter().map(|(octet, count)| (octet, part(count, total))).collect()
}

fn assert_near(found: &BTreeMap<u8, f64>, expected: &[(u8, f64)]) {
    let keys: Vec<u8> = expected.iter().map(|(octet, _)| *octet).collect();
    assert_eq!(found.keys().copied().collect::<Vec<_>>(), keys, "{found:?}");
    assert!(expected.iter().all(|(octet, share)| (found[octet] - share).abs() < 0.005), "{found:?}");
}

/// Pools share the clients of a region by their shares, whatever their instances weigh; what has nobody left leaves its
/// share to the others, and a canary alone is no region.
#[test]
fn pools_share_the_clients_of_a_region() {
    for balance in ["weighted", "round-robin"] {
        let mut node = mix(95, 5, balance);
        let of = |node: &mut Node| counts(&placed(node, "www.gslb.example.com", 200_000));
        assert_near(&of(&mut node), &[(1, 0.7125), (2, 0.2375), (11, 0.025), (12, 0.025)]);
        node.down("instance/web-v2/c1");
        assert_near(&of(&mut node), &[(1, 0.7125), (2, 0.2375), (12, 0.05)]);
        node.down("pool/web-v2");
        assert_near(&of(&mut node), &[(1, 0.75), (2, 0.25)]);
        node.up("pool/web-v2");
        node.down("instance/web/w1");
        assert_near(&of(&mut node), &[(3, 1.0)]);
    }
    // Half of each by its own measure is enough; all of the small one is not.
    let mut node = mix(95, 5, "weighted");
    node.down("instance/web/w2");
    assert_near(&counts(&placed(&mut node, "www.gslb.example.com", 100_000)), &[(1, 0.95), (11, 0.025), (12, 0.025)]);
    node.down("instance/web/w*");
    node.up("instance/web/w3");
    assert_near(&counts(&placed(&mut node, "www.gslb.example.com", 1000)), &[(3, 1.0)]);
    node.down("instance/web/w3");
    let left = placed(&mut node, "www.gslb.example.com", 1000);
    assert!(left.iter().all(|octet| [11, 12].contains(octet)), "the canary is better than nothing");
}

/// Rotations of each pool go on by themselves, exact.
#[test]
fn turns_are_exact_within_each_pool() {
    let mut node = mix(50, 50, "round-robin");
    let all = placed(&mut node, "www.gslb.example.com", 10_000);
    let of = |is: fn(&u8) -> bool| all.iter().copied().filter(is).collect::<Vec<u8>>();
    let (web, canary) = (of(|octet| *octet < 10), of(|octet| *octet > 10));
    assert!(web.windows(4).all(|four| four.iter().filter(|&&octet| octet == 1).count() == 3));
    assert!(canary.windows(2).all(|two| two[0] != two[1]));
}

/// Sticky clients of pools by shares: from 99:1 to 98:2 a hundredth moves, to the canary.
#[test]
fn a_share_more_moves_its_own_clients() {
    let [was, is] = [(99, 1), (98, 2)]
        .map(|(web, canary)| placed(&mut mix(web, canary, "sticky"), "www.gslb.example.com", 100_000));
    let moved = moves(&was, &is);
    assert!(moved.keys().all(|(from, to)| *from < 10 && *to > 10), "{moved:?}");
    let share = part(moved.values().sum(), 100_000);
    assert!((share - 0.01).abs() < 0.002, "{share}");
    // The death of one instance moves its own clients only, within their pool.
    let mut node = mix(50, 50, "sticky");
    let before = placed(&mut node, "www.gslb.example.com", 5000);
    node.down("instance/web-v2/c1");
    let moved = moves(&before, &placed(&mut node, "www.gslb.example.com", 5000));
    assert_eq!(moved.keys().collect::<Vec<_>>(), [&(11, 12)]);
}

/// Nodes of the same configuration answer octet for octet alike where no draw is configured, whatever each answered
/// before and however its own random state began.
#[test]
fn every_node_decides_alike() {
    let text = format!(
        "{REGIONS}{}",
        r#"
[maps.world]
default = [{ eu = 60, us = 30, ap = 10 }, "*"]
[services."split.gslb.example.com"]
pool = "web"
steer = "geo"
map = "world"
balance = "sticky"
answers = 2
[services."near.gslb.example.com"]
pool = "web"
steer = "nearest"
tolerance = "50%"
balance = "sticky"
[services."order.gslb.example.com"]
pool = "web"
steer = "failover"
answers = 0
balance = "sticky"
"#
    );
    let mut nodes = [node(&text), node(&text)];
    let [_, second] = &mut nodes;
    second.worker = Worker::new(&Arc::default(), 0xdead_beef);
    second.worker.adopt(&second.snapshot);
    placed(second, "turns.gslb.example.com", 77);
    for down in ["", "instance/web/e1", "region/us"] {
        if !down.is_empty() {
            nodes.iter_mut().for_each(|node| node.down(down));
        }
        for at in 0..3000u32 {
            let name = ["split", "near", "order", "both", "s7.app"][at as usize % 5];
            let client = IpAddr::from(at.wrapping_mul(0x9e37_79b1).to_be_bytes());
            let ask = Ask::new(&format!("{name}.gslb.example.com"), [1, 28][at as usize / 5 % 2]);
            let query = ask.subnet(&format!("{client}/24")).encode();
            let [one, other] = &mut nodes;
            let source = "127.0.0.1".parse().expect("ip");
            let (one, other) =
                (one.respond(&query, source, Transport::Udp), other.respond(&query, source, Transport::Udp));
            assert_eq!(one, other, "{name} {client}");
        }
    }
}

/// Two servers of their own, each with another history: octet for octet the same.
#[test]
fn two_servers_answer_alike() {
    let sites = [Site::unchecked(), Site::unchecked()];
    let servers = sites.each_ref().map(Site::start);
    for _ in 0..40 {
        servers[0].addresses("www.gslb.example.com", "203.0.113.0/25");
    }
    let sockets = servers.each_ref().map(|server| {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        socket.connect(server.dns).expect("a route");
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        socket
    });
    let mut answers = BTreeSet::new();
    for at in 0..1500u32 {
        let client = IpAddr::from(at.wrapping_mul(0x9e37_79b1).to_be_bytes());
        let query = Ask::new("near.gslb.example.com", 1).subnet(&format!("{client}/24")).encode();
        let [one, other] = sockets.each_ref().map(|socket| {
            let mut octets = vec![0; 1232];
            socket.send(&query).expect("sent");
            let length = socket.recv(&mut octets).expect("an answer");
            octets.truncate(length);
            octets
        });
        assert_eq!(one, other, "{client}");
        answers.insert(one[one.len() - 40..].to_vec());
    }
    assert!(answers.len() > 2, "several answers were compared");
}
