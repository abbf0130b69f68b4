//! Instances that are answered with a CNAME (SPEC 7.2): every type gets it, the addresses behind it are found by real
//! resolvers and probed, one that passes suffices, and at a zone's apex these are answered.

use std::net::SocketAddr;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::RecordType;

use crate::support::backend::{Backends, Behaviour};
use crate::support::node::Node;
use crate::support::query::Ask;
use crate::support::server::Server;
use crate::support::site::Site;
use crate::support::until_so;

const WWW: &str = "www.gslb.example.com";
const EUROPE: &str = "203.0.113.0/24";

/// Europe has a CDN, Asia has an address; the zone's own name and a wildcard go by them as well.
const CONFIGURATION: &str = r#"
[server]
listen = ["127.0.0.1:5300"]
[ecs]
ipv4 = 32
[zones."example.com"]
file = "zone"
[zones."cdn.example"]
file = "cdn"
[regions.eu]
[regions.ap]
[maps.world]
default = ["eu", "ap"]
"198.51.100.0/24" = ["ap", "eu"]
[checks.web]
type = "http"
[pools.web]
check = "web"
return-after = "0s"
region-ramp = "0s"
[pools.web.instances]
cdn = { region = "eu", target = "acme.CDN.example." }
ap-1 = { region = "ap", address = ["192.0.2.1", "2001:db8::1"] }
[pools.mixed]
check = "web"
[pools.mixed.instances]
cdn = { target = "acme.CDN.example.", weight = 1 }
four = { address = "192.0.2.4", weight = 1, port = 443 }
[services."mixed.example.com"]
pool = "mixed"
balance = "sticky"
https = { alpn = ["h2"] }
srv = { names = ["_x._tcp"], port = 5060 }
[services."turns.example.com"]
pool = "mixed"
balance = "round-robin"
[services."www.example.com"]
pool = "web"
steer = "geo"
map = "world"
ttl = "20s"
[services."example.com"]
extends = "www.example.com"
[services."*.any.example.com"]
extends = "www.example.com"
"#;
const ZONE: &str =
    "$TTL 300\n@ SOA ns hostmaster 1 7200 1800 1209600 30\n@ NS ns\n@ MX 10 mail\nns A 192.0.2.53\nmail A 192.0.2.25\n";
const CDN: &str = "$TTL 60\n@ SOA ns hostmaster 1 7200 1800 1209600 30\n@ NS ns\nns A 192.0.2.54\nacme A 192.0.2.80\n";

fn node() -> Node {
    Node::of(&[("waymark.toml", CONFIGURATION), ("zone", ZONE), ("cdn", CDN)])
}

/// Rcode, records of the answer and the type of the first of the authority section, for a client in Europe.
fn answer(node: &mut Node, name: &str, qtype: RecordType, client: &str) -> String {
    let ask = Ask::new(name, qtype.into()).subnet(client);
    let ask = if qtype == RecordType::ANY { ask.tcp() } else { ask };
    let message = node.ask(&ask);
    let authority = message.authorities.first().map(|record| format!(" | {}", record.record_type()));
    let rcode = match message.response_code {
        ResponseCode::NoError => String::new(),
        other => format!("{other} "),
    };
    assert!(message.authoritative, "{name} {qtype}");
    format!("{rcode}{}{}", shown(&message).join(", "), authority.unwrap_or_default())
}

/// The records of the answer section, in its order.
fn shown(message: &Message) -> Vec<String> {
    message.answers.iter().map(ToString::to_string).collect()
}

#[test]
fn a_target_answers_every_type() {
    let mut node = node();
    node.find("acme.cdn.example.", &["192.0.2.80", "192.0.2.81"]);
    let (eu, ap) = ("203.0.113.0/24", "198.51.100.0/24");
    for (name, qtype, client, expected) in [
        // What it leads to is ours and goes along, as with a static CNAME.
        (
            "www.example.com",
            RecordType::A,
            eu,
            "www.example.com. 20 IN CNAME acme.CDN.example., acme.CDN.example. 60 IN A 192.0.2.80",
        ),
        ("www.example.com", RecordType::AAAA, eu, "www.example.com. 20 IN CNAME acme.CDN.example. | SOA"),
        ("www.example.com", RecordType::TXT, eu, "www.example.com. 20 IN CNAME acme.CDN.example. | SOA"),
        ("www.example.com", RecordType::CNAME, eu, "www.example.com. 20 IN CNAME acme.CDN.example."),
        ("www.example.com", RecordType::ANY, eu, "www.example.com. 20 IN CNAME acme.CDN.example."),
        (
            "a.any.example.com",
            RecordType::A,
            eu,
            "a.any.example.com. 20 IN CNAME acme.CDN.example., acme.CDN.example. 60 IN A 192.0.2.80",
        ),
        ("www.example.com", RecordType::A, ap, "www.example.com. 20 IN A 192.0.2.1"),
        ("www.example.com", RecordType::AAAA, ap, "www.example.com. 20 IN AAAA 2001:db8::1"),
        ("www.example.com", RecordType::TXT, ap, " | SOA"),
        ("www.example.com", RecordType::CNAME, ap, " | SOA"),
        // No CNAME stands at an apex: what was found is answered, and what else stands there stays.
        ("example.com", RecordType::A, eu, "example.com. 20 IN A 192.0.2.80"),
        ("example.com", RecordType::MX, eu, "example.com. 300 IN MX 10 mail.example.com."),
        ("example.com", RecordType::TXT, eu, " | SOA"),
        ("example.com", RecordType::A, ap, "example.com. 20 IN A 192.0.2.1"),
    ] {
        let got = answer(&mut node, name, qtype, client);
        assert_eq!(got, expected, "{name} {qtype} for {client}");
    }
    let scope = |node: &mut Node, qtype: RecordType| {
        crate::support::query::scope(&node.ask(&Ask::new("www.example.com", qtype.into()).subnet(ap)))
    };
    let asked = [RecordType::A, RecordType::TXT].map(|qtype| scope(&mut node, qtype));
    assert!(asked[0] > Some(0) && asked[0] == asked[1], "NODATA that a client's place led to is his: {asked:?}");
}

#[test]
fn one_address_that_passes_suffices() {
    let mut node = node();
    let www = |node: &mut Node| answer(node, "www.example.com", RecordType::CNAME, EUROPE);
    const CNAME: &str = "www.example.com. 20 IN CNAME acme.CDN.example.";
    // Nothing is known of it yet, and Asia is known to work.
    node.up("region/ap");
    assert_eq!(www(&mut node), " | SOA");
    node.find("acme.cdn.example.", &["192.0.2.80", "2001:db8::80"]);
    assert_eq!(www(&mut node), CNAME);
    node.set("instance/web/cdn", &[waymark::fleet::Family::V4], waymark::health::Verdict::Down);
    assert_eq!(www(&mut node), CNAME, "the other family works");
    assert_eq!(answer(&mut node, "example.com", RecordType::AAAA, EUROPE), "example.com. 20 IN AAAA 2001:db8::80");
    // At the apex the families are apart, as with all other addresses.
    assert_eq!(answer(&mut node, "example.com", RecordType::A, EUROPE), "example.com. 20 IN A 192.0.2.1");
    node.down("instance/web/cdn");
    assert_eq!(www(&mut node), " | SOA");
    assert_eq!(answer(&mut node, "www.example.com", RecordType::A, EUROPE), "www.example.com. 20 IN A 192.0.2.1");
    // Everything is down: what is allowed is answered, be it a CNAME.
    node.down("region/ap");
    assert_eq!(www(&mut node), CNAME);
}

/// Who gets a CNAME gets it for every type and who gets an address for none, though that has no IPv6: a resolver that holds
/// the CNAME of one type follows it for all.
#[test]
fn all_types_of_a_client_agree() {
    let mut node = node();
    node.find("acme.cdn.example.", &["192.0.2.80"]);
    let mut sent = [0; 2];
    for client in 0..100 {
        let client = format!("203.0.{client}.0/24");
        let types = [RecordType::A, RecordType::AAAA, RecordType::TXT, RecordType::HTTPS, RecordType::CNAME];
        let answers = types.map(|qtype| answer(&mut node, "mixed.example.com", qtype, &client));
        let is_cname = answers.each_ref().map(|answer| answer.contains("CNAME acme"));
        assert!(is_cname == [true; 5] || is_cname == [false; 5], "{client}: {answers:#?}");
        if !is_cname[0] {
            assert_eq!(answers[0], "mixed.example.com. 30 IN A 192.0.2.4");
            assert_eq!([&answers[1], &answers[2], &answers[4]], [" | SOA"; 3]);
            assert!(answers[3].contains("ipv4hint=192.0.2.4") && !answers[3].contains("ipv6hint"), "{}", answers[3]);
        }
        sent[usize::from(is_cname[0])] += 1;
    }
    assert!(sent.iter().all(|count| *count > 30), "{sent:?}");
    // SRV leads to the target itself, or to the name of the instance.
    let srv = |client: &str, node: &mut Node| answer(node, "_x._tcp.mixed.example.com", RecordType::SRV, client);
    let targets: Vec<String> = (0..20).map(|client| srv(&format!("203.0.{client}.0/24"), &mut node)).collect();
    let leads = |to: &str| targets.iter().any(|answer| answer.ends_with(to));
    assert!(leads("5060 acme.CDN.example.") && leads("443 four.mixed.example.com."), "{targets:?}");
}

/// Questions of other types take nobody's turn.
#[test]
fn turns_are_those_of_addresses() {
    let mut node = node();
    node.find("acme.cdn.example.", &["192.0.2.80"]);
    let mut cnames = 0;
    for _ in 0..20 {
        cnames += usize::from(answer(&mut node, "turns.example.com", RecordType::A, EUROPE).contains("CNAME"));
        answer(&mut node, "turns.example.com", RecordType::TXT, EUROPE);
    }
    assert_eq!(cnames, 10);
}

/// A server for the zone of a CDN, which others resolve by.
fn start_cdn(addresses: &[&str]) -> (Site, Server) {
    let site = Site::unchecked();
    write_cdn(&site, addresses);
    let zones = "[zones.\"gslb.example.com\"]";
    site.edit(zones, &format!("[zones.\"cdn.example\"]\nfile = \"cdn\"\n\n{zones}"));
    let server = site.start();
    (site, server)
}

fn write_cdn(site: &Site, addresses: &[&str]) {
    let records: String = addresses.iter().map(|address| format!("acme A {address}\n")).collect();
    site.write(
        "cdn",
        &format!("$TTL 1\n@ SOA ns hostmaster 1 7200 1800 1209600 30\n@ NS ns\nns A 192.0.2.54\n{records}"),
    );
}

fn site_with_target(resolver: SocketAddr) -> Site {
    let site = Site::example();
    site.edit("state-dir = \"state\"", &format!("state-dir = \"state\"\nresolvers = [\"{resolver}\"]"));
    let port = site.backends;
    site.edit(
        &format!("eu-1 = {{ region = \"eu-west\",  address = \"127.0.11.1\", port = {port}, weight = 3 }}\n"),
        "",
    );
    site.edit("address = \"127.0.11.2\"", "target = \"acme.cdn.example\"");
    site
}

#[test]
fn targets_are_resolved_and_probed() {
    let (cdn, resolver) = start_cdn(&["127.0.31.1", "127.0.31.2"]);
    let site = site_with_target(resolver.dns);
    let all = [("us-1", "127.0.12.1"), ("us-2", "127.0.12.2"), ("ap-1", "127.0.13.1"), ("one", "127.0.31.1")];
    let mut backends =
        Backends::start(site.backends, &[&all[..], &[("two", "127.0.31.2"), ("three", "127.0.31.3")]].concat());
    let server = site.start();
    let is_sent_there = || {
        let answer = server.ask(WWW, RecordType::A, EUROPE);
        shown(&answer) == ["www.gslb.example.com. 5 IN CNAME acme.cdn.example."]
    };
    until_so("the CNAME", is_sent_there);
    let addresses = || -> Vec<(String, String)> {
        let status = server.status();
        let pools = status["pools"].as_array().expect("pools");
        let instances = pools.iter().flat_map(|pool| pool["instances"].as_array().expect("instances"));
        let of_cdn = instances.filter(|instance| instance["target"] == "acme.cdn.example");
        let addresses = of_cdn.flat_map(|instance| instance["addresses"].as_array().expect("addresses").clone());
        let text = |value: &serde_json::Value| value.as_str().expect("text").to_owned();
        addresses.map(|one| (text(&one["address"]), text(&one["verdict"]))).collect()
    };
    let has = |expected: &[(&str, &str)]| {
        let expected: Vec<(String, String)> =
            expected.iter().map(|(address, verdict)| ((*address).into(), (*verdict).into())).collect();
        until_so(&format!("{expected:?}"), || addresses() == expected);
    };
    has(&[("127.0.31.1", "up"), ("127.0.31.2", "up")]);

    backends.set("one", Behaviour::Refuse);
    has(&[("127.0.31.1", "down"), ("127.0.31.2", "up")]);
    assert!(is_sent_there(), "one that passes suffices");
    backends.set("two", Behaviour::Refuse);
    until_so("the next region", || server.addresses(WWW, EUROPE).iter().all(|address| address.starts_with("127.0.1")));

    // Another address is found, probed, and brings it back.
    write_cdn(&cdn, &["127.0.31.3"]);
    resolver.reload();
    until_so("the CNAME, by another address", is_sent_there);
    has(&[("127.0.31.1", "down"), ("127.0.31.2", "down"), ("127.0.31.3", "up")]);
    assert_eq!(server.metric("waymark_target_addresses{pool=\"web\",instance=\"eu-2\"}"), Some(3.0));
    assert!(server.metric("waymark_target_resolutions_total{outcome=\"answered\"}") > Some(1.0));
    let journal = std::fs::read_to_string(site.path("state/journal")).expect("a journal");
    assert!(journal.contains("target/acme.cdn.example"), "{journal}");

    // A reload keeps what was found.
    site.edit("ttl     = \"5s\"", "ttl     = \"6s\"");
    server.reload();
    has(&[("127.0.31.1", "down"), ("127.0.31.2", "down"), ("127.0.31.3", "up")]);
    assert_eq!(shown(&server.ask(WWW, RecordType::MX, EUROPE)), ["www.gslb.example.com. 6 IN CNAME acme.cdn.example."]);

    // A resolver that fails is no verdict.
    drop(resolver);
    server.wait_logged(&["target acme.cdn.example.", "is kept for"]);
    assert!(server.metric("waymark_target_resolutions_total{outcome=\"failed\"}") > Some(0.0));
    until_so("the CNAME, as before", is_sent_there_with_ttl_6(&server));
}

fn is_sent_there_with_ttl_6(server: &Server) -> impl Fn() -> bool {
    || shown(&server.ask(WWW, RecordType::A, EUROPE)) == ["www.gslb.example.com. 6 IN CNAME acme.cdn.example."]
}
