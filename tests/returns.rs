//! How a region that was lost comes back (SPEC 3.5), as its clients see it.

use std::net::IpAddr;
use std::time::Duration;

use waymark::control::explain;
use waymark::dns::{Name, RecordType};
use waymark::steering::trace::Recorded;

use crate::support::node::Node;
use crate::support::query::{Ask, scope};

const CONFIGURATION: &str = r#"
[zones."gslb.example.com"]
file = "zone"
[regions.eu]
[regions.us]
[regions.ap]
[checks.web]
type = "tcp"
port = 80
[pools.web]
check = "web"
[pools.web.instances]
eu-1 = { region = "eu", address = "192.0.2.1" }
us-1 = { region = "us", address = "192.0.2.2" }
ap-1 = { region = "ap", address = "192.0.2.3" }
[services."www.gslb.example.com"]
pool = "web"
steer = "failover"
order = ["eu", "us", "ap"]
"#;
const ZONE: &str = "@ 300 IN SOA ns hostmaster 1 2 3 4 60\n@ 300 IN NS ns\nns 300 IN A 192.0.2.53\n";
const CLIENTS: u32 = 2000;
/// `return-after` and `region-ramp`, unless told otherwise.
const AFTER: Duration = Duration::from_secs(30);
const TENTH: Duration = Duration::from_secs(12);

fn node(configuration: &str) -> Node {
    Node::of(&[("waymark.toml", configuration), ("zone", ZONE)])
}

/// The last octet of the address that each client gets, and the scope of the answers, which is one.
fn answers(node: &mut Node) -> (Vec<u8>, u8) {
    let mut scopes = Vec::new();
    let answers = (0..CLIENTS).map(|client| {
        let [.., high, low] = client.to_be_bytes();
        let ask = Ask::new("www.gslb.example.com", 1).subnet(&format!("20.{high}.{low}.0/24"));
        let message = node.ask(&ask);
        scopes.extend(scope(&message));
        match message.answers[0].data.ip_addr() {
            Some(IpAddr::V4(address)) => address.octets()[3],
            other => panic!("{other:?}"),
        }
    });
    let answers = answers.collect();
    scopes.dedup();
    assert_eq!(scopes.len(), 1, "{scopes:?}");
    (answers, scopes[0])
}

/// The share of clients in region `eu`, 0 to 1; all others are where they were while it was away.
fn share(answers: &[u8]) -> f64 {
    assert!(answers.iter().all(|at| [1, 2].contains(at)));
    answers.iter().filter(|at| **at == 1).count() as f64 / f64::from(CLIENTS)
}

#[test]
fn clients_come_back_one_by_one_and_stay() {
    let mut node = node(CONFIGURATION);
    assert_eq!((share(&answers(&mut node).0), answers(&mut node).1), (1.0, 0), "nothing waits at the start");
    node.down("region/eu");
    assert_eq!(answers(&mut node), (vec![2; CLIENTS as usize], 0));
    node.up("region/eu");
    for _ in 0..2 {
        assert_eq!(answers(&mut node), (vec![2; CLIENTS as usize], 24), "still waiting");
        node.wait(AFTER / 2);
    }
    let mut before = answers(&mut node).0;
    for tenth in 0..10 {
        let (now, scope) = answers(&mut node);
        let (grown, expected) = (share(&now), f64::from(tenth) / 10.0);
        assert!((grown - expected).abs() < 0.05, "{grown} after {tenth} tenths");
        assert_eq!(scope, 24, "a cache between must tell the clients apart");
        assert!(before.iter().zip(&now).all(|(before, now)| *before == 2 || *now == 1), "somebody went back");
        before = now;
        node.wait(TENTH);
    }
    assert_eq!(answers(&mut node), (vec![1; CLIENTS as usize], 0));
}

#[test]
fn a_region_lost_again_begins_anew() {
    let mut node = node(CONFIGURATION);
    node.down("region/eu");
    node.up("region/eu");
    node.wait(AFTER + 5 * TENTH);
    assert!(share(&answers(&mut node).0) > 0.4);
    node.down("region/eu");
    assert_eq!(share(&answers(&mut node).0), 0.0);
    node.up("region/eu");
    node.wait(AFTER - Duration::from_secs(1));
    assert_eq!(share(&answers(&mut node).0), 0.0);
    node.wait(Duration::from_secs(1) + TENTH);
    assert!((share(&answers(&mut node).0) - 0.1).abs() < 0.05);
}

#[test]
fn nobody_waits_for_a_region_when_no_other_serves() {
    let mut node = node(CONFIGURATION);
    node.down("region/*");
    node.up("region/eu");
    assert_eq!(answers(&mut node), (vec![1; CLIENTS as usize], 0));
    // The others wait, for eu serves; without it they serve what they can.
    node.up("region/us");
    node.up("region/ap");
    assert_eq!(share(&answers(&mut node).0), 1.0);
    node.down("region/eu");
    assert_eq!(answers(&mut node), (vec![2; CLIENTS as usize], 0));
}

#[test]
fn a_region_may_return_at_once() {
    let at_once =
        CONFIGURATION.replace("check = \"web\"\n", "check = \"web\"\nreturn-after = \"0s\"\nregion-ramp = \"0s\"\n");
    let mut node = node(&at_once);
    node.down("region/eu");
    node.up("region/eu");
    assert_eq!(answers(&mut node), (vec![1; CLIENTS as usize], 0));
}

#[test]
fn explain_names_the_share() {
    let mut node = node(CONFIGURATION);
    node.down("region/eu");
    node.up("region/eu");
    assert!(explained(&node).contains("eu: available again, not yet used"), "{}", explained(&node));
    node.wait(AFTER + 5 * TENTH);
    assert!(explained(&node).contains("eu: returning, 50% of its clients"), "{}", explained(&node));
}

fn explained(node: &Node) -> String {
    let ask = explain::Ask {
        name: Name::parse("www.gslb.example.com", None).expect("a name"),
        rtype: RecordType::A,
        client: "20.0.0.0/24".parse().ok(),
        resolver: None,
        seed: 0,
    };
    let stages = explain::explain(&node.snapshot, &ask, Recorded::default()).stages;
    stages.into_iter().map(|stage| stage.text + "\n").collect()
}

/// SPEC 3.4: of four clients whose region has a quarter of its weight left, one stays.
#[test]
fn what_a_region_cannot_bear_goes_on_to_the_next() {
    let spilling = CONFIGURATION
        .replace("steer = \"failover\"\n", "steer = \"failover\"\nspill = 1.0\n")
        .replace("us-1 =", "eu-3 = { region = \"eu\", address = \"192.0.2.1\", check-port = 81, weight = 3 }\nus-1 =");
    let mut node = node(&spilling);
    assert_eq!(answers(&mut node), (vec![1; CLIENTS as usize], 0));
    node.down("instance/web/eu-3");
    let (quarter, scope) = answers(&mut node);
    assert!((share(&quarter) - 0.25).abs() < 0.03, "{}", share(&quarter));
    assert_eq!(scope, 24);
    assert_eq!(answers(&mut node).0, quarter, "the same clients");
    assert!(explained(&node).contains("eu: overflowing, 25% of its clients"), "{}", explained(&node));
    // Nobody else can take them: whoever it is stays.
    node.down("region/us");
    node.down("region/ap");
    assert_eq!(share(&answers(&mut node).0), 1.0);
}

/// SPEC 2.9: a tenth at once, all of it at the end, evenly between; the others of its region have the rest.
#[test]
fn an_instance_gets_its_weight_back_evenly() {
    let ramping = CONFIGURATION
        .replace("check = \"web\"\n", "check = \"web\"\nramp = \"100s\"\n")
        .replace("us-1 =", "eu-2 = { region = \"eu\", address = \"192.0.2.2\" }\nus-1 =");
    let mut node = node(&ramping);
    let part = |node: &mut Node| {
        let ask = Ask::new("www.gslb.example.com", 1);
        let first = (0..20_000).filter(|_| node.address(&ask) == IpAddr::from([192, 0, 2, 1])).count();
        first as f64 / 20_000.0
    };
    assert!((part(&mut node) - 0.5).abs() < 0.02);
    node.down("instance/web/eu-1");
    assert_eq!(part(&mut node), 0.0);
    node.up("instance/web/eu-1");
    for tenth in 0..=10 {
        let weight = 0.1 + 0.9 * f64::from(tenth) / 10.0;
        let (found, expected) = (part(&mut node), weight / (1.0 + weight));
        assert!((found - expected).abs() < 0.03, "{found} instead of {expected} after {tenth} tenths");
        node.wait(Duration::from_secs(10));
    }
    // With nobody else there, it has to bear everything anyway.
    node.down("instance/web/eu-*");
    node.up("instance/web/eu-1");
    node.wait(AFTER + 10 * TENTH);
    assert_eq!(part(&mut node), 1.0);
}

/// SPEC 8.2: `weight region/eu 70%` sends 30 % of the clients that would begin there to the next region.
#[test]
fn a_region_sheds_the_same_clients_always() {
    let mut node = node(CONFIGURATION);
    node.weigh("us", 50);
    assert_eq!((share(&answers(&mut node).0), answers(&mut node).1), (1.0, 24), "nobody begins in us");
    node.weigh("us", 100);
    assert_eq!(answers(&mut node), (vec![1; CLIENTS as usize], 0), "nothing is shed");
    let mut before = vec![1; CLIENTS as usize];
    for percent in [100, 90, 70, 50, 20, 0] {
        node.weigh("eu", percent);
        let (now, scope) = answers(&mut node);
        assert!((share(&now) - f64::from(percent) / 100.0).abs() < 0.03, "{} at {percent} %", share(&now));
        assert_eq!(scope, if percent == 100 { 0 } else { 24 });
        assert!(before.iter().zip(&now).all(|(before, now)| *before == 1 || *now == 2), "somebody came back");
        assert_eq!(answers(&mut node).0, now, "the same clients");
        before = now;
    }
    node.weigh("eu", 70);
    assert!(explained(&node).contains("eu: shedding, 70% of its clients"), "{}", explained(&node));
    let seventy = answers(&mut node).0;
    // Nobody else can take them: whoever it is stays.
    node.down("region/us");
    node.down("region/ap");
    assert_eq!(share(&answers(&mut node).0), 1.0);
    node.up("region/us");
    node.wait(AFTER + 10 * TENTH);
    assert_eq!(answers(&mut node).0, seventy, "and the same ones go again");
}

/// Of what returns, overflows and sheds, the least share counts, of the same clients.
#[test]
fn a_region_that_sheds_may_return_and_overflow() {
    let mut node = node(CONFIGURATION);
    node.weigh("eu", 70);
    let seventy = answers(&mut node).0;
    node.down("region/eu");
    node.up("region/eu");
    node.wait(AFTER + 5 * TENTH);
    let half = answers(&mut node).0;
    assert!((share(&half) - 0.5).abs() < 0.05, "{}", share(&half));
    assert!(
        half.iter().zip(&seventy).all(|(now, then)| *now == 2 || *then == 1),
        "those that are back are of the seventy"
    );
    node.wait(5 * TENTH);
    assert_eq!(answers(&mut node).0, seventy);

    let spilling = CONFIGURATION
        .replace("steer = \"failover\"\n", "steer = \"failover\"\nspill = 1.0\n")
        .replace("us-1 =", "eu-3 = { region = \"eu\", address = \"192.0.2.1\", check-port = 81, weight = 3 }\nus-1 =");
    let mut node = self::node(&spilling);
    node.weigh("eu", 50);
    assert!((share(&answers(&mut node).0) - 0.5).abs() < 0.03);
    node.down("instance/web/eu-3");
    assert!((share(&answers(&mut node).0) - 0.25).abs() < 0.03, "no more than it can bear");
}

/// SPEC 3.5: with `failback = "manual"` a region that was lost has no clients, however well it is, and answers need not
/// tell them apart; where nobody else is left, it serves all of them.
#[test]
fn a_latched_region_serves_nobody_while_another_can() {
    let manual = CONFIGURATION.replace("check = \"web\"\n", "check = \"web\"\nfailback = \"manual\"\n");
    let mut node = node(&manual);
    assert_eq!(answers(&mut node), (vec![1; CLIENTS as usize], 0));
    node.down("region/eu");
    node.up("region/eu");
    node.wait(Duration::from_secs(86_400));
    assert_eq!(answers(&mut node), (vec![2; CLIENTS as usize], 0));
    assert!(explained(&node).contains("eu: latched out until it is resumed"), "{}", explained(&node));
    node.down("region/us");
    assert_eq!(answers(&mut node).0, vec![3; CLIENTS as usize]);
    node.down("region/ap");
    assert_eq!(answers(&mut node), (vec![1; CLIENTS as usize], 0), "nobody else is left");
    node.up("region/ap");
    assert_eq!(answers(&mut node), (vec![3; CLIENTS as usize], 0), "it was the last, so it is not latched");
}
