//! Why a client gets what it gets, asked of the real program: over the control socket, over HTTP and by DNS; who asks, by
//! `whoami`; who sends client subnets (SPEC 8.4).

use std::process::Output;

use hickory_proto::rr::RecordType;
use serde_json::Value;

use crate::support::backend::Backends;
use crate::support::client;
use crate::support::site::Site;
use crate::support::{has, until_so};

const WWW: &str = "www.gslb.example.com";
const EUROPE: &str = "203.0.113.0/25";

/// The example, with names that say who asks, and explanations by DNS.
fn site() -> Site {
    let site = Site::patient();
    site.edit(
        "node      = \"test-1\"",
        "node = \"test-1\"\nwhoami = [\"whoami.gslb.example.com\"]\nexplain-from = [\"127.0.0.1/32\"]",
    );
    site
}

#[track_caller]
fn text(output: &Output, code: i32) -> String {
    let text = client::text(output);
    assert_eq!(output.status.code(), Some(code), "{text}");
    text
}

#[track_caller]
fn has_all(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn live_explanations_know_health_and_overrides() {
    let site = site();
    let mut backends = Backends::example(site.backends);
    let server = site.start();
    let live = |more: &[&str]| site.run(&[&["explain", WWW, "--client", EUROPE, "--live"], more].concat());
    let said = text(&live(&[]), 0);
    has_all(&said, &["eu-1 up (weight 3): status 200, up for ", " by check/web", "region     eu-west serves"]);

    backends.kill(&["eu-1", "eu-2"]);
    server.wait_health("eu-1", "down");
    server.wait_health("eu-2", "down");
    until_so("the answers", || text(&live(&[]), 0).contains("us-east serves"));
    let said = text(&live(&[]), 0);
    has_all(&said, &["eu-1 down (weight 3): connection refused, down for ", "eu-west: not available, 0 of 4"]);

    // Over HTTP the same, and both as JSON.
    let url = format!("http://{}", server.admin);
    let over_http = site.run(&["explain", WWW, "--client", EUROPE, "--server", &url, "--json"]);
    let explained: Value = serde_json::from_str(&text(&over_http, 0)).expect("JSON");
    assert_eq!((&explained["region"], &explained["rcode"]), (&"us-east".into(), &"NOERROR".into()));
    let first = &explained["considered"][0];
    assert_eq!(
        (&first["instance"], &first["state"], &first["region"]),
        (&"eu-1".into(), &"down".into(), &"eu-west".into())
    );
    assert!(first["reason"].as_str().is_some_and(|reason| reason.contains("connection refused")), "{first}");
    let here = serde_json::from_str::<Value>(&text(&live(&["--json"]), 0)).expect("JSON");
    let keys = |value: &Value| value.as_object().map(|object| object.keys().cloned().collect::<Vec<_>>());
    assert_eq!(keys(&here), keys(&explained));

    // What if that failed as well; nothing is changed by asking.
    let said = text(&live(&["--down", "region/us-east"]), 0);
    has_all(&said, &["us-1 down (weight 1): --down", "ap-south serves", "eu-1 down (weight 3): connection refused"]);
    assert!(server.addresses(WWW, EUROPE)[0].starts_with("127.0.12."));

    // Who holds what, and why.
    text(&site.run(&["drain", "instance/web/us-1", "--reason", "patching"]), 0);
    let said = text(&live(&[]), 0);
    has_all(
        &said,
        &["us-1 is taken out by an override (weight 1): drain instance/web/us-1 by ", ": patching; status 200"],
    );
    text(&site.run(&["force-up", "instance/web/eu-2"]), 0);
    let said = text(&live(&[]), 0);
    has_all(&said, &["eu-2 up (weight 1): force-up instance/web/eu-2 by ", "; connection refused, down for "]);
    text(&site.run(&["drain", "service/www.gslb.example.com", "--force"]), 0);
    has_all(
        &text(&live(&[]), 0),
        &["ap-1 is taken out by an override (weight 1): drain service/www.gslb.example.com by "],
    );
    let what_if = text(&live(&["--down", "pool/web"]), 0);
    has_all(&what_if, &["ap-1 is taken out by an override", "no records"]);
}

#[test]
fn questions_that_make_no_sense_are_refused() {
    let site = site();
    let _backends = Backends::example(site.backends);
    let not_yet = site.run(&["explain", WWW, "--client", EUROPE, "--live"]);
    has_all(&text(&not_yet, 1), &["no server is running"]);
    let server = site.start();
    let (own, nobody) = (format!("http://{}", server.admin), "http://127.0.0.1:1".to_string());
    for (arguments, code, said) in [
        (&["--live", "--down", "region/mars"][..], 2, "region/mars names nothing (there are region/NAME"),
        (&["--server", &own, "--down", "region/mars"], 2, "region/mars names nothing"),
        (&["--server", "https://127.0.0.1:8053"], 2, "over http, not https"),
        (&["--server", "nonsense"], 2, "http://127.0.0.1:8053"),
        (&["--server", "http://127.0.0.1:8053/v1"], 2, "only an address and a port"),
        (&["--server", &nobody], 1, "no server is running there"),
        (&["--server", &own, "--live"], 2, "cannot be used with"),
    ] {
        let output = site.run(&[&["explain", WWW, "--client", EUROPE], arguments].concat());
        has_all(&text(&output, code), &[said]);
    }
    for (query, status, said) in [
        ("name=www.gslb.example.com&client=203.0.113.0/25", 200, "\"eu-west\""),
        ("name=www.gslb.example.com&resolver=192.0.2.1", 200, "\"us-east\""),
        ("", 400, "name: it is missing"),
        ("name=www.gslb.example.com", 400, "whose answer?"),
        ("name=www.gslb.example.com&client=x", 400, "client: no address"),
        ("name=www.gslb.example.com&client=192.0.2.1&down=region/mars", 404, "names nothing"),
        ("name=nothing.example.org&client=192.0.2.1", 200, "REFUSED"),
    ] {
        let response = server.get(&format!("/v1/explain?{query}"));
        assert_eq!(response.status, status, "{query}: {}", response.body);
        has_all(&response.body, &[said]);
        let value: Value = serde_json::from_str(&response.body).expect("JSON");
        assert_eq!(value.get("error").is_some(), status != 200, "{value}");
    }
}

#[test]
fn dig_asks_why_and_who() {
    if !has("dig") {
        return;
    }
    let site = site();
    let mut backends = Backends::example(site.backends);
    let server = site.start();
    backends.kill(&["eu-1", "eu-2"]);
    until_so("the answers", || server.addresses(WWW, EUROPE).iter().all(|address| address.starts_with("127.0.12.")));
    // Too long for a datagram: dig comes again over TCP.
    let why = ["TXT", "_explain.www.gslb.example.com", "+subnet=203.0.113.0/25"];
    let said = client::tool("dig", server.dns, &why);
    has_all(
        &said,
        &[
            "Truncated, retrying in TCP mode",
            "address 203.0.113.0 of the client subnet 203.0.113.0/25",
            "203.0.113.0/24 is not public, but 127.0.0.1 is trusted",
            "eu-1 down (weight 3)",
            "us-east serves",
            "CLIENT-SUBNET: 203.0.113.0/25/25",
        ],
    );
    // Another source finds nothing there, and learns nothing.
    let said = client::tool("dig", server.dns, &["-b", "127.0.0.2", "+tcp", why[0], why[1]]);
    has_all(&said, &["NXDOMAIN", "ANSWER: 0"]);

    let said = client::tool("dig", server.dns, &["+short", "TXT", "whoami.gslb.example.com", "+subnet=203.0.113.0/25"]);
    let node = "\"node test-1\" \"transport udp\"";
    let place = "\"place continent EU, country DE\"";
    assert_eq!(
        said.trim(),
        format!("\"resolver 127.0.0.1\" \"ecs 203.0.113.0/25\" \"client 203.0.113.0\" {place} {node}")
    );
    let said = client::tool("dig", server.dns, &["+short", "A", "whoami.gslb.example.com"]);
    assert_eq!(said.trim(), "127.0.0.1");
    site.edit("explain-from = [\"127.0.0.1/32\"]", "explain-from = []");
    server.reload();
    let said = client::tool("dig", server.dns, &["+tcp", why[0], why[1]]);
    has_all(&said, &["NXDOMAIN"]);
}

#[test]
fn status_tells_who_sends_client_subnets() {
    let site = site();
    let _backends = Backends::example(site.backends);
    let server = site.start();
    let before = server.status()["ecs"].clone();
    assert_eq!((&before["with_subnet"], &before["senders"]), (&0.into(), &Value::Array(Vec::new())));
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
    socket.connect(server.dns).expect("a route");
    for _ in 0..400 {
        client::udp_on(&socket, &client::query(WWW, RecordType::A, EUROPE));
    }
    client::udp_on(&socket, &client::query(WWW, RecordType::A, "::/0"));
    client::udp_on(&socket, &client::query("whoami.gslb.example.com", RecordType::A, "2001:db8::/32"));
    let ecs = server.status()["ecs"].clone();
    assert_eq!((&ecs["with_subnet"], &ecs["senders"][0]["network"]), (&402.into(), &"127.0.0.0/24".into()));
    assert_eq!(ecs["senders"][0]["share"].as_f64(), Some(1.0), "{ecs}");
    let said = text(&site.run(&["status"]), 0);
    has_all(&said, &["402 of 402 queries (100.0%) carry a client subnet", "127.0.0.0/24 100.0%"]);
    for (sample, count) in [
        ("ecs_queries_total{family=\"ipv4\"}", 400.0),
        ("ecs_queries_total{family=\"ipv6\"}", 2.0),
        ("ecs_unused_total{reason=\"opted_out\"}", 1.0),
        ("ecs_unused_total{reason=\"set_aside\"}", 0.0),
        ("ecs_unused_total{reason=\"malformed\"}", 0.0),
        ("ecs_answers_total{scope=\"zero\"}", 1.0),
        ("ecs_answers_total{scope=\"above\"}", 401.0),
    ] {
        assert_eq!(server.metric(&format!("waymark_{sample}")), Some(count), "{sample}");
    }
    let mut malformed = client::query(WWW, RecordType::A, EUROPE).to_vec().expect("encodes");
    // The scope of a query must be 0.
    let option = malformed.windows(4).position(|octets| octets == [0, 1, 25, 0]).expect("the client subnet");
    malformed[option + 3] = 24;
    socket.send(&malformed).expect("sent");
    socket.recv(&mut [0; 512]).expect("FORMERR");
    assert_eq!(server.metric("waymark_ecs_unused_total{reason=\"malformed\"}"), Some(1.0));
}
