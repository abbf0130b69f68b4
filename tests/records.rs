//! What services answer beside A and AAAA: HTTPS and SVCB, SRV, names of regions; of random health, read by
//! `hickory-proto`, and asked of the real program by `dig` and `kdig`.

use std::collections::BTreeSet;
use std::net::IpAddr;

use hickory_proto::op::Message;
use hickory_proto::rr::rdata::svcb::{SVCB, SvcParamValue};
use hickory_proto::rr::{RData, RecordType};
use waymark::fleet::Family;
use waymark::health::Verdict;
use waymark::steering::local::Random;

use crate::support::backend::Backends;
use crate::support::client;
use crate::support::has;
use crate::support::node::Node;
use crate::support::query::{Ask, scope};
use crate::support::site::Site;

const A: u16 = 1;
const AAAA: u16 = 28;
const SRV: u16 = 33;
const HTTPS: u16 = 65;
const ROUNDS: usize = 300;
const CLIENTS: [&str; 4] = ["192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "2001:db8:77::/56"];
const STEERS: [&str; 4] = [
    "steer = \"failover\"",
    "steer = \"nearest\"\ntolerance = \"100%\"",
    "steer = \"weighted\"\nshares = { eu = 2, us = 1, ap = 1 }",
    "steer = \"any\"",
];
const BALANCES: [&str; 5] = ["weighted", "round-robin", "sticky", "least-load", "random"];
const CONFIGURATION: &str = r#"
[zones."gslb.example.com"]
file = "zone"
[ecs]
ipv4 = 32
[regions.eu]
location = { latitude = 50.0, longitude = 0.0 }
[regions.us]
location = { latitude = 39.0, longitude = -77.0 }
[regions.ap]
location = { latitude = 1.0, longitude = 103.0 }
[checks.web]
type = "tcp"
port = 80
[pools.web]
check = "web"
return-after = "0s"
region-ramp = "0s"
[pools.web.instances]
eu-1 = { region = "eu", address = ["192.0.2.11", "2001:db8:e::1"], weight = 600000 }
eu-2 = { region = "eu", address = "192.0.2.12", weight = 3 }
eu-3 = { region = "eu", address = "2001:db8:e::3", weight = 7 }
us-1 = { region = "us", address = ["192.0.2.21", "192.0.2.121", "2001:db8:a::1"] }
us-2 = { region = "us", address = "192.0.2.22" }
ap-1 = { region = "ap", address = "2001:db8:9::1" }
"#;
const ZONE: &str = "$TTL 300\n@ SOA ns hostmaster 1 2 3 4 60\n@ NS ns\nns A 127.0.0.1\n";

/// A service for each way to steer, balance and count, named by the three.
fn node() -> (Node, Vec<(String, usize, &'static str, u16)>) {
    let mut text = CONFIGURATION.to_string();
    let mut services = Vec::new();
    for (at, steer) in STEERS.into_iter().enumerate() {
        for balance in BALANCES {
            for answers in [0, 1, 2] {
                let name = format!("s{at}-{balance}-{answers}.gslb.example.com");
                let tiers = if at < 3 { 3 } else { 1 };
                text += &format!(
                    "[services.\"{name}\"]\npool = \"web\"\n{steer}\nbalance = \"{balance}\"\nanswers = {answers}\n\
                     region-names = true\nhttps = {{ alpn = [\"h2\"], port = 8443, ech = \"AA==\", tiers = {tiers} }}\n\
                     srv = {{ names = [\"_x._tcp\"], port = 80, tiers = {tiers} }}\n"
                );
                services.push((name, at, balance, answers));
            }
        }
    }
    (Node::of(&[("waymark.toml", &text), ("zone", ZONE)]), services)
}

fn bindings(message: &Message) -> Vec<&SVCB> {
    let all = message.answers.iter().map(|record| match &record.data {
        RData::HTTPS(https) => &https.0,
        other => panic!("{other}"),
    });
    all.collect()
}

fn hints(binding: &SVCB) -> Vec<IpAddr> {
    let of = |value: &SvcParamValue| -> Vec<IpAddr> {
        match value {
            SvcParamValue::Ipv4Hint(hint) => hint.0.iter().map(|address| IpAddr::V4(address.0)).collect(),
            SvcParamValue::Ipv6Hint(hint) => hint.0.iter().map(|address| IpAddr::V6(address.0)).collect(),
            _ => Vec::new(),
        }
    };
    binding.svc_params.iter().flat_map(|(_, value)| of(value)).collect()
}

/// What HTTPS says at a name and for a client, held against A and AAAA asked of the same.
fn check_bindings(node: &mut Node, name: &str, client: &str, is_kept: bool, up: &BTreeSet<IpAddr>) {
    let https = node.ask(&Ask::new(name, HTTPS).subnet(client).tcp());
    let [a, aaaa] = [A, AAAA].map(|qtype| node.ask(&Ask::new(name, qtype).subnet(client).tcp()));
    let what = format!("{name} {client}\n{https}\n{a}\n{aaaa}");
    let addresses: Vec<IpAddr> =
        [&a, &aaaa].iter().flat_map(|one| &one.answers).filter_map(|record| record.data.ip_addr()).collect();
    let bindings = bindings(&https);
    assert_eq!(bindings.is_empty(), addresses.is_empty(), "{what}");
    assert!(scope(&https) >= scope(&a).max(scope(&aaaa)), "{what}");
    let ttls: BTreeSet<u32> = https.answers.iter().map(|record| record.ttl).collect();
    assert!(ttls.len() <= 1, "{what}");
    for (at, binding) in bindings.iter().enumerate() {
        assert_eq!(usize::from(binding.svc_priority), at + 1, "{what}");
        let keys: Vec<u16> = binding.svc_params.iter().map(|(key, _)| u16::from(*key)).collect();
        assert!(keys.is_sorted_by(|a, b| a < b), "{what}");
        assert!(keys.contains(&1) && keys.contains(&3) && keys.contains(&5), "{what}");
        let hints = hints(binding);
        assert!(!hints.is_empty(), "{what}");
        assert!(up.is_empty() || hints.iter().all(|hint| up.contains(hint)), "{what}");
        let target = binding.target_name.to_string();
        assert_eq!(target == ".", at == 0, "{what}");
        if at == 0 {
            assert!(!is_kept || hints == addresses, "{what}");
        } else {
            let target = target.trim_end_matches('.');
            let [v4, v6] = [A, AAAA].map(|qtype| node.addresses(&Ask::new(target, qtype).subnet(client).tcp()));
            assert_eq!(hints.len(), v4.len() + v6.len(), "{target} {what}");
        }
    }
    let targets: BTreeSet<String> = bindings.iter().map(|binding| binding.target_name.to_string()).collect();
    assert_eq!(targets.len(), bindings.len(), "{what}");
}

/// What SRV says, held against who is up.
fn check_srv(node: &mut Node, name: &str, client: &str, answers: u16, up: &BTreeSet<IpAddr>) {
    let srv = node.ask(&Ask::new(&format!("_x._tcp.{name}"), SRV).subnet(client).tcp());
    let [a, aaaa] = [A, AAAA].map(|qtype| node.addresses(&Ask::new(name, qtype).subnet(client).tcp()));
    let what = format!("{name} {client}\n{srv}");
    assert_eq!(srv.answers.is_empty(), a.is_empty() && aaaa.is_empty(), "{what}");
    let mut counts = [0u16; 4];
    for record in &srv.answers {
        let RData::SRV(data) = &record.data else { panic!("{what}") };
        assert!(data.weight > 0 && data.port == 80, "{what}");
        counts[usize::from(data.priority)] += 1;
        let target = data.target.to_string();
        let target = target.trim_end_matches('.');
        let addresses: Vec<IpAddr> =
            [A, AAAA].into_iter().flat_map(|qtype| node.addresses(&Ask::new(target, qtype))).collect();
        assert!(up.is_empty() || addresses.iter().any(|address| up.contains(address)), "{target} {what}");
        let added = srv.additionals.iter().filter(|record| record.name == data.target).count();
        assert_eq!(added, addresses.len(), "{target} {what}");
    }
    assert!(answers == 0 || counts.iter().all(|&count| count <= answers), "{what}");
    assert!(counts[0] > 0 || srv.answers.is_empty(), "{what}");
}

#[test]
fn hints_and_targets_follow_health() {
    let (mut node, services) = node();
    let mut random = Random::new(6);
    let fleet = node.world.fleet().clone();
    let of_check = |id: usize| format!("instance/{}", fleet.instance_path(waymark::fleet::InstanceId(id as u32)));
    for _ in 0..ROUNDS {
        let mut up = BTreeSet::new();
        // From all up to all down.
        let bound = random.below(4);
        for (id, instance) in fleet.instances.iter().enumerate() {
            for family in Family::BOTH {
                let is_up = random.below(4) >= bound;
                let verdict = if is_up { Verdict::Up } else { Verdict::Down };
                node.set(&of_check(id), &[family], verdict);
                let own = instance.addresses.iter().map(|address| address.ip);
                up.extend(own.filter(|&address| is_up && Family::of(address) == family));
            }
        }
        // While a family is down altogether, what is down may be given for it.
        let is_mixed = Family::BOTH.iter().all(|&family| up.iter().any(|&address| Family::of(address) == family));
        let up = if is_mixed { up } else { BTreeSet::new() };
        let (name, steer, balance, answers) = &services[random.below(services.len() as u64) as usize];
        let client = CLIENTS[random.below(CLIENTS.len() as u64) as usize];
        // The region is drawn at each query by shares, unless it is kept.
        let is_kept = *balance == "sticky" || (*balance == "round-robin" && *answers == 1 && *steer != 2);
        check_bindings(&mut node, name, client, is_kept, &up);
        check_srv(&mut node, name, client, *answers, &up);
    }
}

#[test]
fn answers_are_counted_by_their_regions() {
    let (mut node, _) = node();
    let registry_counts = |node: &Node| {
        let steering = &node.snapshot.steering;
        let labels: Vec<(String, String)> =
            steering.labels.iter().map(|(service, region)| (service.to_string(), region.to_string())).collect();
        labels
    };
    let labels = registry_counts(&node);
    let name = "s0-sticky-1.gslb.example.com";
    let of = |service: &str| -> Vec<&str> {
        labels.iter().filter(|(of, _)| of == service).map(|(_, region)| region.as_str()).collect()
    };
    assert_eq!(of(name), ["eu", "us", "ap"]);
    assert_eq!(of(&format!("us.{name}")), ["us"]);
    assert_eq!(of(&format!("_x._tcp.{name}")), [""; 0]);
    let steering = std::sync::Arc::clone(&node.snapshot.steering);
    for (region, steered) in ["eu", "us", "ap"].into_iter().map(|region| {
        let of = format!("{region}.{name}");
        (region, steering.services.iter().find(|one| *one.configured.name == *of).expect("it was made"))
    }) {
        let at = steering.layout(steered.layout).groups.iter().position(|group| group.label(&steering.fleet) == region);
        let (service, label) = &steering.labels[steered.slot as usize + at.expect("its group")];
        assert_eq!((&**service, &**label), (&*format!("{region}.{name}"), region));
    }
    // Who is sticky has the same instance there as at the service itself.
    for client in CLIENTS {
        let [whole, alone] =
            [name.to_string(), format!("eu.{name}")].map(|name| node.address(&Ask::new(&name, A).subnet(client)));
        assert_eq!(whole, alone);
    }
}

#[test]
fn dig_and_kdig_read_them() {
    let site = Site::patient();
    let _backends = Backends::example(site.backends);
    site.edit(
        "[services.\"near.gslb.example.com\"]",
        "https = { alpn = [\"h2\", \"h3\"], ech = \"AAEC\", tiers = 2 }\nregion-names = true\n\
         srv = { names = [\"_https._tcp\"], tiers = 2 }\nanswers = 0\n\n[services.\"near.gslb.example.com\"]",
    );
    let server = site.start();
    let ask = |program: &str, more: &[&str]| {
        let said = client::tool(program, server.dns, &[more, &["+subnet=203.0.113.0/25"]].concat());
        said.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    if has("dig") {
        let said = ask("dig", &["HTTPS", "www.gslb.example.com"]);
        assert!(said.contains("5 IN HTTPS 1 . alpn=\"h2,h3\" ipv4hint=127.0.11."), "{said}");
        assert!(said.contains(" ech=AAEC"), "{said}");
        assert!(
            said.contains("5 IN HTTPS 2 us-east.www.gslb.example.com. alpn=\"h2,h3\" ipv4hint=127.0.12."),
            "{said}"
        );
        let said = ask("dig", &["SRV", "_https._tcp.www.gslb.example.com"]);
        let port = site.backends;
        for part in [
            format!(" SRV 0 3 {port} eu-1.www.gslb."),
            format!(" SRV 0 1 {port} eu-2.www.gslb."),
            format!(" SRV 1 1 {port} us-2.www.gslb."),
        ] {
            assert!(said.contains(&part), "{part}: {said}");
        }
        assert!(said.contains("eu-1.www.gslb.example.com. 5 IN A 127.0.11.1"), "{said}");
        let said = ask("dig", &["A", "us-east.www.gslb.example.com"]);
        assert!(said.contains("us-east.www.gslb.example.com. 5 IN A 127.0.12."), "{said}");
    }
    if has("kdig") {
        let said = ask("kdig", &["HTTPS", "www.gslb.example.com"]);
        assert!(said.contains("HTTPS 1 . alpn=h2,h3 ipv4hint=127.0.11."), "{said}");
    }
    let explained =
        client::text(&site.run(&["explain", "www.gslb.example.com", "HTTPS", "--client", "203.0.113.0/25"]));
    assert!(explained.contains("HTTPS is made of the decisions for service/www.gslb.example.com"), "{explained}");
    assert!(explained.contains("eu-west serves"), "{explained}");
    let explained =
        client::text(&site.run(&["explain", "_https._tcp.www.gslb.example.com", "SRV", "--client", "203.0.113.0/25"]));
    assert!(explained.contains("SRV is made of the decisions for service/www.gslb.example.com"), "{explained}");
    let status = server.status();
    let services = status["services"].as_array().expect("services");
    assert_eq!(services.len(), 4, "what is derived is no service of its own: {status}");
    let names: Vec<&str> =
        services[0]["regions"].as_array().expect("regions").iter().filter_map(|one| one["name"].as_str()).collect();
    assert_eq!(names, ["eu-west", "us-east", "ap-south"].map(|region| format!("{region}.www.gslb.example.com")));

    // What the operator says of a service holds for all that is made of it.
    let answers = |name: &str, rtype: RecordType| server.ask(name, rtype, "203.0.113.0/25").answers.len();
    let asked = [
        ("us-east.www.gslb.example.com", RecordType::A),
        ("www.gslb.example.com", RecordType::HTTPS),
        ("_https._tcp.www.gslb.example.com", RecordType::SRV),
    ];
    assert!(asked.iter().all(|(name, rtype)| answers(name, *rtype) > 0));
    let drained = site.run(&["drain", "service/www.gslb.example.com", "--force"]);
    assert!(drained.status.success(), "{}", client::text(&drained));
    assert_eq!(asked.map(|(name, rtype)| answers(name, rtype)), [0; 3]);
}

#[test]
fn octet_by_octet() {
    let many: String = (1..=200).map(|at| format!("i{at} = {{ address = \"198.51.100.{at}\" }}\n")).collect();
    let text = format!(
        "[zones.\"gslb.example.com\"]\nfile = \"zone\"\n[pools.one.instances]\n\
         one = {{ address = [\"192.0.2.41\", \"2001:db8::1\"] }}\n[pools.many.instances]\n{many}\
         [services.\"www.gslb.example.com\"]\npool = \"one\"\nanswers = 2\n\
         https = {{ alpn = [\"h2\", \"h3\"], port = 8443, ech = \"AA==\" }}\n\
         srv = {{ names = [\"_sip._tcp\"], port = 5060 }}\n\
         [services.\"many.gslb.example.com\"]\npool = \"many\"\nanswers = 0\nhttps = {{}}\n\
         srv = {{ names = [\"_sip._tcp\"], port = 5060 }}\n"
    );
    let mut node = Node::of(&[("waymark.toml", &text), ("zone", ZONE)]);
    let mut records = |name: &str, qtype: u16| {
        let ask = Ask::new(name, qtype).plain();
        node.respond(&ask.encode(), ask.source, ask.transport)[ask.encode().len()..].to_vec()
    };
    // Owner, type, class IN, TTL 30, RDLENGTH; priority 1, target "."; alpn, port, ipv4hint, ech, ipv6hint.
    let expected = [
        &[0xc0, 12, 0, 65, 0, 1, 0, 0, 0, 30, 0, 52][..],
        &[0, 1, 0],
        b"\x00\x01\x00\x06\x02h2\x02h3",
        &[0, 3, 0, 2, 0x20, 0xfb],
        &[0, 4, 0, 4, 192, 0, 2, 41],
        &[0, 5, 0, 1, 0],
        &[0, 6, 0, 16, 0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
    ];
    let expected = expected.concat();
    assert_eq!(usize::from(expected[11]), expected.len() - 12);
    assert_eq!(records("www.gslb.example.com", HTTPS), expected);
    // Priority 0, weight 1, port 5060; the target is not compressed (RFC 2782).
    let target = b"\x03one\x03www\x04gslb\x07example\x03com\x00";
    let head = [0xc0, 12, 0, 33, 0, 1, 0, 0, 0, 30, 0, 6 + target.len() as u8, 0, 0, 0, 1, 0x13, 0xc4];
    assert!(records("_sip._tcp.www.gslb.example.com", SRV).starts_with(&[&head[..], target].concat()));

    // What does not fit is left out whole, and TC says so.
    for (name, qtype) in [("many.gslb.example.com", HTTPS), ("_sip._tcp.many.gslb.example.com", SRV)] {
        let message = node.ask(&Ask::new(name, qtype).plain());
        assert!(message.metadata.truncation && message.answers.is_empty() && message.additionals.is_empty());
        let whole = node.ask(&Ask::new(name, qtype).tcp());
        assert!(!whole.metadata.truncation);
        let told = if qtype == SRV { whole.answers.len() } else { hints(bindings(&whole)[0]).len() };
        assert_eq!(told, 200, "{name}");
    }
}
