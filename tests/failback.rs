//! `failback = "manual"` (SPEC 3.5) on the real binary: a region that was lost stays out until it is resumed.

use serde_json::Value;

use crate::support::backend::Backends;
use crate::support::client;
use crate::support::server::Server;
use crate::support::site::Site;
use crate::support::until_so;

const DR: &str = "dr.gslb.example.com";
const WWW: &str = "www.gslb.example.com";
/// A client of `us-east`, by the map's default.
const AMERICAN: &str = "192.0.2.0/25";

fn site() -> Site {
    let site = Site::patient();
    site.edit("region-ramp  = \"0s\"", "region-ramp  = \"0s\"\nfailback     = \"manual\"");
    site
}

#[track_caller]
fn run(site: &Site, arguments: &[&str], code: i32) -> String {
    let output = site.run(arguments);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", client::text(&output));
    client::text(&output)
}

/// Whether all answers come from that region.
fn serves(server: &Server, service: &str, region: &str) -> bool {
    (0..10).flat_map(|_| server.addresses(service, AMERICAN)).all(|address| address.starts_with(region))
}

const US: &str = "127.0.12.";

#[test]
fn a_lost_region_stays_out_until_it_is_resumed() {
    let site = site();
    let mut backends = Backends::example(site.backends);
    let mut server = site.start();
    assert!(serves(&server, DR, US) && serves(&server, WWW, US));
    backends.kill(&["us-1", "us-2"]);
    until_so("us-east is left", || !serves(&server, DR, US) && !serves(&server, WWW, US));
    backends.revive(&["us-1", "us-2"]);
    server.wait_health("us-1", "up");
    server.wait_health("us-2", "up");
    assert!(serves(&server, DR, "127.0.11."), "it is well, and stays out");
    let line = server.wait_logged(&["WARN", "service/dr.gslb.example.com", "region/us-east"]);
    assert!(line.contains("until `waymark resume dr.gslb.example.com us-east`"), "{line}");

    let text = run(&site, &["status"], 0);
    let row = text.lines().find(|line| line.contains(DR) && line.contains("us-east")).expect("a row");
    assert!(row.contains("latched out 2/2") && row.contains("waymark resume dr.gslb.example.com us-east"), "{row}");
    let latched =
        |service: &str| format!("waymark_region_latched{{service=\"{service}\",region=\"us-east\",family=\"ipv4\"}}");
    assert_eq!(server.metric(&latched(DR)), Some(1.0));
    let explained = run(&site, &["history", "region/us-east"], 0);
    assert!(explained.contains("failback") && explained.contains(DR), "{explained}");

    until_so("the latches on disk", || {
        let kept = std::fs::read_to_string(site.path("state/overrides")).unwrap_or_default();
        kept.matches("us-east").count() >= 2
    });
    server.signal("KILL");
    server.wait_end();
    let server = site.start();
    assert!(serves(&server, DR, "127.0.11."), "nor does a restart bring it back");
    server.wait_logged(&["service/dr.gslb.example.com", "us-east", "latched out since before the start"]);

    let text = run(&site, &["resume", DR, "us-east"], 0);
    assert!(text.contains("region/us-east serves service/dr.gslb.example.com again"), "{text}");
    assert!(serves(&server, DR, US), "resumed");
    assert!(!serves(&server, WWW, US), "of this service, not of the other");
    assert_eq!((server.metric(&latched(DR)), server.metric(&latched(WWW))), (Some(0.0), Some(1.0)));
    let text = run(&site, &["resume", DR, "us-east"], 2);
    assert!(text.contains("region/us-east is not latched out of service/dr.gslb.example.com"), "{text}");
    let answer = run(&site, &["resume", "service/www.gslb.example.com", "region/us-*", "--json"], 0);
    let answer: Value = serde_json::from_str(&answer).expect("JSON");
    assert_eq!(answer["resumed"][0]["region"], "us-east");
    assert!(serves(&server, WWW, US));
}

/// Where nobody else is left, a region that is latched serves nevertheless.
#[test]
fn a_latched_region_serves_when_no_other_can() {
    let site = site();
    let mut backends = Backends::example(site.backends);
    let server = site.start();
    backends.kill(&["us-1", "us-2"]);
    until_so("us-east is left", || serves(&server, DR, "127.0.11."));
    backends.revive(&["us-1", "us-2"]);
    server.wait_health("us-1", "up");
    server.wait_health("us-2", "up");
    backends.kill(&["eu-1", "eu-2", "ap-1"]);
    until_so("us-east serves, there is no other", || serves(&server, DR, US));
    backends.revive(&["eu-1", "eu-2"]);
    until_so("eu-west again", || serves(&server, DR, "127.0.11."));
    assert!(run(&site, &["resume", "*", "*"], 0).contains("service/dr.gslb.example.com"));
    until_so("us-east, resumed", || serves(&server, DR, US));
}
