//! Checks of type `push` (SPEC 2.6) on the real binary: what instances report of themselves, and their silence.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use serde_json::{Value, json};

use crate::support::server::Server;
use crate::support::site::Site;
use crate::support::{client, until_so};

const WWW: &str = "www.gslb.example.com";
const EUROPE: &str = "203.0.113.0/24";

/// The example, whose instances report; silence shows after three times `interval`.
fn site(interval: &str) -> Site {
    let site = Site::example();
    site.edit("type     = \"http\"\npath     = \"/health\"\n", "type     = \"push\"\n");
    site.edit("interval = \"1s\"\ntimeout  = \"500ms\"", &format!("interval = {interval:?}"));
    site.edit("state-dir = \"state\"", "state-dir = \"state\"\nstartup-grace = \"100ms\"");
    site
}

/// Runs `waymark report`, which is to end with `code`; what it prints.
#[track_caller]
fn report(site: &Site, arguments: &[&str], code: i32) -> String {
    let output = site.run(&[&["report"], arguments].concat());
    let text = client::text(&output);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {text}");
    text
}

/// A request over the control socket, as an agent without our command makes it: status and body.
#[track_caller]
fn put(site: &Site, path: &str, body: &str) -> (u16, Value) {
    let mut stream = UnixStream::connect(site.path("state/control")).expect("the control socket");
    let length = body.len();
    let request = format!(
        "PUT {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).expect("sent");
    let mut response = String::new();
    stream.read_to_string(&mut response).expect("a response");
    let (head, body) = response.split_once("\r\n\r\n").expect("a response");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    (status, serde_json::from_str(body).expect("JSON"))
}

#[track_caller]
fn wait_served(server: &Server, expected: &str) {
    until_so(&format!("{expected} alone serves"), || server.addresses(WWW, EUROPE) == [expected]);
}

#[test]
fn reports_decide_who_serves() {
    let site = site("1h");
    let server = site.start();
    assert_eq!(server.health("eu-1").0, "unknown", "nobody has reported");
    let said = report(&site, &["instance/web/eu-1", "--up"], 0);
    assert!(said.contains("instance/web/eu-1: reported healthy to check/web"), "{said}");
    assert_eq!(server.wait_health("eu-1", "up"), "reported healthy");
    wait_served(&server, "127.0.11.1");

    assert_eq!(server.health("eu-2").0, "unknown", "a report is for one instance");
    let (status, pushed) = put(&site, "/v1/health/instance/web/eu-2", r#"{"check": "web", "healthy": true}"#);
    assert_eq!((status, pushed), (200, json!({"target": "instance/web/eu-2", "check": "web"})));
    server.wait_health("eu-2", "up");

    let down = ["instance/web/eu-1", "--down", "--reason", "disk full"];
    report(&site, &down, 0);
    let first = || server.health("eu-1") == ("up".into(), "reported unhealthy: disk full".into());
    until_so("a first report of failure, of which it takes two", first);
    report(&site, &down, 0);
    assert_eq!(server.wait_health("eu-1", "down"), "reported unhealthy: disk full");
    wait_served(&server, "127.0.11.2");
    server.wait_logged(&["instance/web/eu-1", "check/web", "up -> down", "disk full"]);
    assert_eq!(server.metric("waymark_probes_total{kind=\"push\",outcome=\"fail\"}"), Some(2.0));
}

#[test]
fn silence_is_a_failure() {
    let site = site("1s");
    let server = site.start();
    report(&site, &["instance/web/eu-1", "--up"], 0);
    server.wait_health("eu-1", "up");
    assert_eq!(server.wait_health("eu-1", "down"), "no report for 3s");
    assert_eq!(server.wait_health("eu-2", "down"), "no report for 3s", "who never reported");
    // It takes two, in time.
    until_so("eu-1 is up again", || {
        report(&site, &["instance/web/eu-1", "--up"], 0);
        server.health("eu-1").0 == "up"
    });
}

#[test]
fn what_was_reported_outlives_the_process() {
    let site = site("1h");
    let mut server = site.start();
    report(&site, &["instance/web/eu-2", "--up"], 0);
    server.wait_health("eu-2", "up");
    let on_disk = || std::fs::read_to_string(site.path("state/last-good")).unwrap_or_default();
    until_so("the verdict on disk", || on_disk().contains("\"up\":true"));
    server.signal("KILL");
    server.wait_end();
    let server = site.start();
    assert_eq!(server.health("eu-2").0, "up", "until silence or a report says otherwise");
    wait_served(&server, "127.0.11.2");
}

#[test]
fn reports_that_name_nothing_are_refused() {
    let site = site("1h");
    site.edit("check        = \"web\"", "check        = [\"web\", \"disk\", \"tcp\"]");
    site.append("\n[checks.disk]\ntype = \"push\"\n[checks.tcp]\ntype = \"tcp\"\n[checks.idle]\ntype = \"push\"\n");
    let server = site.start();
    let rows = [
        (&["instance/web/eu-1", "--up"][..], "pool/web has several checks of type `push`: name one"),
        (&["instance/web/eu-1", "--up", "--check", "tcp"], "check/tcp is of type `tcp`: it takes no reports"),
        (&["instance/web/eu-1", "--up", "--check", "idle"], "pool/web is not checked by check/idle"),
        (&["instance/web/eu-1", "--up", "--check", "no"], "checks of pool/web that wait for reports: web, disk"),
        (&["instance/web/eu-9", "--up", "--check", "web"], "there is no instance/web/eu-9"),
        (&["instance/web/eu-*", "--up", "--check", "web"], "without *"),
        (&["pool/web", "--up", "--check", "web"], "\"pool/web\" is not the name of an instance"),
        (&["instance/web/eu-1"], "--up"),
        (&["instance/web/eu-1", "--up", "--down"], "cannot be used with"),
    ];
    for (arguments, said) in rows {
        let text = report(&site, arguments, 2);
        assert!(text.contains(said), "{said}: {text}");
    }
    report(&site, &["instance/web/eu-1", "--up", "--check", "disk"], 0);
    let (status, refusal) = put(&site, "/v1/health/instance/web/eu-1", r#"{"healthy": "yes"}"#);
    assert_eq!((status, &refusal["code"]), (400, &json!("wrong")));
    let (status, _) =
        put(&site, "/v1/health/instance/web/eu-1", &format!("{{\"reason\": \"{}\"}}", "x".repeat(20_000)));
    assert_eq!(status, 413);
    let response = client::request(server.admin, "PUT", "/v1/health/instance/web/eu-1", &server.admin.to_string());
    assert_eq!(response.expect("a response").status, 403, "without tokens only the control socket may write");
}
