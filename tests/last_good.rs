//! What outlives the process: health, so that the first answers after a restart are right (SPEC 2.5, 3.3).

use std::fs;
use std::time::{Duration, Instant};

use hickory_proto::rr::RecordType;

use crate::support::backend::{Backends, Behaviour};
use crate::support::client;
use crate::support::site::Site;
use crate::support::{say, until, until_so};

const WWW: &str = "www.gslb.example.com";
const RR: &str = "rr.gslb.example.com";
const STATIC: &str = "static.gslb.example.com";
/// A client of `eu-west`.
const EUROPEAN: &str = "203.0.113.0/25";
const DEAD: &str = "127.0.11.1";

/// What last-good health says.
fn on_disk(site: &Site) -> String {
    fs::read_to_string(site.path("state/last-good")).unwrap_or_default()
}

#[test]
fn the_first_answers_after_a_kill_are_right() {
    let site = Site::patient();
    let mut backends = Backends::example(site.backends);
    let mut server = site.start();
    backends.kill(&["eu-1"]);
    server.wait_health("eu-1", "down");
    let took = until_so("the verdict on disk", || on_disk(&site).contains("\"up\":false"));
    say(&format!("measured: a verdict seen in the status was on disk {took:?} later"));
    assert!(server.metric("waymark_last_good_age_seconds").is_some_and(|age| age < 60.0));
    server.signal("KILL");
    server.wait_end();

    // From now on a round of checks takes longer than anything here.
    backends.set("eu-1", Behaviour::Hang);
    site.edit("interval = \"2s\"\ntimeout  = \"1900ms\"", "interval = \"50s\"\ntimeout  = \"40s\"");
    site.edit("state-dir = \"state\"", "state-dir = \"state\"\nstartup-grace = \"50s\"");
    let began = Instant::now();
    let server = site.spawn();
    until("an answer", || client::try_udp(site.dns(), &client::query(STATIC, RecordType::A, "")));
    let took = began.elapsed();
    say(&format!("measured: killed and started again, the first answer came after {took:?}"));
    assert!(took < Duration::from_secs(20), "{took:?}");
    let first = Instant::now();
    let mut asked = 0;
    while first.elapsed() < Duration::from_secs(1) {
        assert_eq!(server.addresses(WWW, EUROPEAN), ["127.0.11.2"]);
        assert!(!server.addresses(RR, "").contains(&DEAD.to_string()));
        asked += 2;
    }
    say(&format!("measured: {asked} answers in the first second, none with the dead instance"));
    server.wait_logged(&["INFO", "last-good", "health of 5 targets"]);
    let (verdict, reason) = server.health("eu-1");
    assert_eq!((&*verdict, &*reason), ("down", "as before the restart; no probe has ended yet"));
}

#[test]
fn a_file_that_cannot_be_believed_costs_no_start() {
    let site = Site::example();
    let _backends = Backends::example(site.backends);
    let mut server = site.start();
    until_so("health on disk", || on_disk(&site).matches("\"up\":true").count() == 5);
    server.signal("TERM");
    server.wait_end();
    let good = on_disk(&site);
    for (text, why) in [
        (good[..good.len() - 10].to_string(), "damaged"),
        (good.replace("\"up\":true", "\"up\":false"), "damaged"),
        (good.replace("last-good 1 ", "last-good 7 "), "another version"),
        (String::new(), "damaged"),
    ] {
        fs::write(site.path("state/last-good"), text).expect("written");
        let mut server = site.start();
        server.wait_logged(&["WARN", "state/last-good", why]);
        assert_eq!(server.addresses("dr.gslb.example.com", "").len(), 2);
        server.signal("KILL");
        server.wait_end();
    }
}

#[test]
fn a_disk_that_takes_nothing_costs_no_answer() {
    let site = Site::example();
    let mut backends = Backends::example(site.backends);
    let server = site.start();
    until_so("health on disk", || on_disk(&site).matches("\"up\":true").count() == 5);
    // No file can be made where a folder is, whoever one is.
    let obstacle = site.path("state/last-good.tmp");
    until_so("an obstacle", || fs::create_dir(&obstacle).is_ok());
    backends.kill(&["us-1", "us-2"]);
    server.wait_health("us-1", "down");
    server.wait_health("us-2", "down");
    server.wait_logged(&["WARN", "state/last-good", "not kept"]);
    backends.revive(&["us-1"]);
    server.wait_health("us-1", "up");
    assert_eq!(server.addresses("dr.gslb.example.com", ""), ["127.0.12.1"]);
    fs::remove_dir(&obstacle).expect("removed");
    server.wait_logged(&["INFO", "state/last-good", "written again"]);
    assert_eq!(server.logged(&["not kept"]).len(), 1);
    assert_eq!(on_disk(&site).matches("\"up\":true").count(), 4);
}
