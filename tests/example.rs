//! `tests/example` as its users see it: the real binary, five real HTTP backends, real queries. Instances die, hang and
//! lie, and the answers follow (SPEC 2, 3).

use std::time::Duration;

use hickory_proto::rr::RecordType;

use crate::support::backend::{Backends, Behaviour, EXAMPLE, HEALTHY};
use crate::support::client;
use crate::support::server::Server;
use crate::support::site::Site;
use crate::support::{say, until, until_so};

const WWW: &str = "www.gslb.example.com";
const NEAR: &str = "near.gslb.example.com";
const RR: &str = "rr.gslb.example.com";
const DR: &str = "dr.gslb.example.com";

/// Clients by the region that the example's map prefers for them.
const EU: &str = "203.0.113.0/25";
const US: &str = "192.0.2.0/24";
const AP: &str = "198.18.0.0/24";

fn example() -> (Site, Backends, Server) {
    let site = Site::example();
    let backends = Backends::example(site.backends);
    let server = site.start();
    (site, backends, server)
}

/// [`Site::patient`].
fn patient_example() -> (Site, Backends, Server) {
    let site = Site::patient();
    let backends = Backends::example(site.backends);
    let server = site.start();
    (site, backends, server)
}

/// The region of the example that all of these addresses are in.
#[track_caller]
fn region(addresses: &[String]) -> &'static str {
    let of = |address: &String| match address.rsplit_once('.').expect("IPv4").0 {
        "127.0.11" => "eu-west",
        "127.0.12" => "us-east",
        "127.0.13" => "ap-south",
        other => panic!("no region has {other}"),
    };
    let mut regions: Vec<_> = addresses.iter().map(of).collect();
    regions.dedup();
    assert_eq!(regions.len(), 1, "{addresses:?}");
    regions[0]
}

#[track_caller]
fn region_for(server: &Server, name: &str, client: &str) -> &'static str {
    region(&server.addresses(name, client))
}

#[test]
fn first_answers_are_right() {
    let (_site, _backends, server) = patient_example();
    for (name, client, expected, scope) in [
        (WWW, EU, "eu-west", Some(25)),
        (WWW, "203.0.113.128/25", "eu-west", Some(25)),
        (WWW, US, "us-east", None),
        (WWW, AP, "ap-south", Some(15)),
        (WWW, "198.51.100.0/24", "ap-south", Some(24)),
        (WWW, "100.64.0.0/16", "us-east", Some(16)),
        (WWW, "2001:db8:1::/48", "eu-west", Some(48)),
        (WWW, "2001:db8:2::/48", "us-east", None),
        (NEAR, EU, "eu-west", None),
        (NEAR, US, "us-east", None),
        (NEAR, AP, "ap-south", None),
        (DR, EU, "us-east", Some(0)),
    ] {
        let answer = server.ask(name, RecordType::A, client);
        assert_eq!(region(&client::addresses(&answer)), expected, "{name} for {client}");
        assert!(answer.authoritative && client::ttl(&answer) == 5, "{answer}");
        let echoed = client::scope(&answer).expect("ECS is echoed");
        assert_eq!(echoed, scope.unwrap_or(echoed), "scope of {name} for {client}");
        assert_eq!(client::extended_error(&answer), None);
    }
    assert_eq!(server.addresses(DR, EU), ["127.0.12.1", "127.0.12.2"], "answers = 0 gives all");
    assert_eq!(server.addresses(WWW, EU).len(), 1, "answers = 1 gives one");
    let nodata = server.ask(WWW, RecordType::AAAA, EU);
    assert!(nodata.answers.is_empty() && nodata.authorities.len() == 1, "{nodata}");
    for (name, _) in EXAMPLE {
        assert_eq!(server.health(name).0, "up", "{name}");
    }
}

#[test]
fn round_robin_visits_all() {
    let (_site, _backends, server) = patient_example();
    // Weights 3, 1, 1, 1, 1: each worker has a rotation of its own, so one socket stays with one worker.
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
    socket.connect(server.dns).expect("a route");
    let ask = || client::addresses(&client::udp_on(&socket, &client::query(RR, RecordType::A, "")));
    let mut seen: Vec<String> = (0..14).flat_map(|_| ask()).collect();
    seen.sort_unstable();
    let times = |address: &str| seen.iter().filter(|one| *one == address).count();
    assert_eq!(EXAMPLE.map(|(_, address)| times(address)), [6, 2, 2, 2, 2]);
}

#[test]
fn answers_follow_a_death_and_a_return() {
    let (_site, mut backends, server) = example();
    let death = Duration::from_secs(10);

    backends.kill(&["us-1"]);
    let took = until_so("one address left", || server.addresses(DR, EU) == ["127.0.12.2"]);
    say(&format!("measured: an instance that refuses is out of the answer after {took:?}"));
    assert!(took < death, "{took:?}");

    backends.kill(&["ap-1"]);
    let took = until_so("the next region", || region_for(&server, WWW, AP) != "ap-south");
    say(&format!("measured: a region that refuses is out of the answer after {took:?}"));
    assert!(took < death, "{took:?}");
    assert_eq!(region_for(&server, WWW, AP), "eu-west", "nearest of the others");

    backends.revive(&["us-1", "ap-1"]);
    let took =
        until_so("both are back", || server.addresses(DR, EU).len() == 2 && region_for(&server, WWW, AP) == "ap-south");
    say(&format!("measured: what returns is back in the answer after {took:?}"));
    let line = server.wait_logged(&["instance/web/ap-1", "up -> down"]);
    assert!(line.contains("connection refused") && line.contains("check/web at 127.0.13.1:"), "{line}");
    server.wait_logged(&["instance/web/ap-1", "down -> up", "status 200"]);
}

#[test]
fn a_region_serves_while_enough_of_it_lives() {
    let (_site, mut backends, server) = patient_example();
    // A quarter of eu-west's weight is enough for its up-threshold of 25 %.
    backends.kill(&["eu-1"]);
    server.wait_health("eu-1", "down");
    until_so("the rest of the region", || server.addresses(WWW, EU) == ["127.0.11.2"]);
    backends.kill(&["eu-2"]);
    server.wait_health("eu-2", "down");
    until_so("the next region", || region_for(&server, WWW, EU) == "us-east");
    assert_eq!(region_for(&server, NEAR, EU), "us-east");
    let sample = format!("waymark_region_available{{service=\"{WWW}\",region=\"eu-west\",family=\"ipv4\"}}");
    assert_eq!(server.metric(&sample), Some(0.0));
}

#[test]
fn all_dead_fails_open_loudly_once() {
    let (site, mut backends, server) = patient_example();
    let all = EXAMPLE.map(|(name, _)| name);
    let fail_open = format!("waymark_fail_open{{service=\"{WWW}\"}}");
    assert_eq!(server.metric(&fail_open), Some(0.0));

    backends.kill(&all);
    all.iter().for_each(|name| drop(server.wait_health(name, "down")));
    let answer = until("fail-open", || {
        let answer = server.ask(WWW, RecordType::A, EU);
        client::extended_error(&answer).is_some().then_some(answer)
    });
    // Lost within a minute counts as lost at once: the order of steering decides.
    assert_eq!(region(&client::addresses(&answer)), "eu-west");
    let (code, text) = client::extended_error(&answer).expect("just seen");
    assert!(code == 0 && text.contains("all instances down"), "{code} {text}");
    assert_eq!(region_for(&server, WWW, AP), "ap-south");
    assert_eq!(server.addresses(DR, EU), ["127.0.12.1", "127.0.12.2"]);
    let without_edns = client::udp(server.dns, &client::plain(WWW, RecordType::A));
    assert_eq!((without_edns.answers.len(), without_edns.edns.is_none()), (1, true));

    assert_eq!(server.metric(&fail_open), Some(1.0));
    let status = client::text(&site.run(&["status"]));
    assert!(status.contains("ALL DOWN"), "{status}");
    assert!(status.contains("connection refused"), "{status}");
    backends.revive(&all);
    until_so("no fail-open", || server.metric(&fail_open) == Some(0.0));
    all.iter().for_each(|name| drop(server.wait_health(name, "up")));
    let answer = server.ask(WWW, RecordType::A, EU);
    assert_eq!((region(&client::addresses(&answer)), client::extended_error(&answer)), ("eu-west", None));
    for name in [WWW, NEAR, RR, DR] {
        server.wait_logged(&[&format!("service/{name}: serves healthy instances again")]);
        let warnings = server.logged(&[&format!("service/{name}: all instances down")]);
        assert_eq!(warnings.len(), 1, "{warnings:?}");
    }
}

#[test]
fn every_way_to_fail_has_its_reason() {
    let (site, mut backends, server) = example();
    let slow = Behaviour::Slow(Duration::from_secs(30));
    let rows = [
        ("eu-1", Behaviour::Hang, "timeout after 500ms"),
        ("eu-2", Behaviour::Status(503), "status 503, expected 200-299"),
        ("us-1", Behaviour::Reset, "connection reset"),
        ("us-2", slow, "timeout after 500ms"),
        ("ap-1", Behaviour::Refuse, "connection refused"),
    ];
    for (name, behaviour, _) in rows {
        backends.set(name, behaviour);
    }
    for (name, _, expected) in rows {
        until(&format!("{name}: {expected}"), || {
            let (verdict, reason) = server.health(name);
            (verdict == "down" && reason.contains(expected)).then_some(())
        });
        server.wait_logged(&[&format!("instance/web/{name} "), "up -> down"]);
    }
    let status = client::text(&site.run(&["status"]));
    for (name, _, expected) in rows {
        let line = status.lines().find(|line| line.contains(&format!("instance/web/{name} "))).expect("a line");
        assert!(line.contains("down") && line.contains(expected), "{line}");
    }
    for (name, ..) in rows {
        backends.set(name, HEALTHY);
    }
    for (name, ..) in rows {
        assert!(server.wait_health(name, "up").contains("status 200"), "{name}");
    }
}

#[test]
fn one_lost_probe_changes_nothing() {
    let (_site, mut backends, server) = patient_example();
    backends.set("ap-1", Behaviour::Once(500));
    let before = backends.served("ap-1");
    until_so("four more probes", || {
        assert_eq!(region_for(&server, WWW, AP), "ap-south");
        backends.served("ap-1") >= before + 4
    });
    assert_eq!(server.logged(&["instance/web/ap-1", "-> down"]), Vec::<String>::new());
    let failed = server.metric("waymark_probes_total{kind=\"http\",outcome=\"fail\"}");
    assert!(failed >= Some(1.0), "{failed:?}");
}

#[test]
fn a_dead_backend_at_the_start_is_never_answered() {
    let site = Site::example();
    let mut backends = Backends::example(site.backends);
    backends.kill(&["us-1", "ap-1"]);
    let server = site.start();
    assert_eq!(server.addresses(DR, EU), ["127.0.12.2"]);
    assert_ne!(region_for(&server, WWW, AP), "ap-south");
    assert_eq!(server.logged(&["all instances down"]), Vec::<String>::new());
}
