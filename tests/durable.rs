//! What was acknowledged is in force and whole, whatever becomes of the process or the disk (SPEC 8.2): kill -9 at random
//! points of a stream of overrides, and a disk that is full.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::backend::Backends;
use crate::support::control::{self, try_ask};
use crate::support::disk::SmallDisk;
use crate::support::server::Server;
use crate::support::site::Site;
use crate::support::{PATIENCE, say, until, until_so};

/// Overrides in the stream.
const ORDERS: usize = 1000;
/// Connections that give them at the same time.
const CONNECTIONS: usize = 4;
/// Whatever random points the seed gives, there are more kills than this.
const LEAST_KILLS: usize = 20;

/// A small fast generator (SplitMix64).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}

/// A site with an instance for each order, and one more.
fn site_of_many() -> Site {
    let site = Site::unchecked();
    let instance =
        |at: usize| format!("i{at} = {{ region = \"us-east\", address = \"127.3.{}.{}\" }}\n", at / 250, 1 + at % 250);
    let instances: String = (0..=ORDERS).map(instance).collect();
    site.append(&format!(
        "\n[pools.many]\n[pools.many.instances]\n{instances}\n[services.\"many.gslb.example.com\"]\npool = \"many\"\n"
    ));
    site
}

/// What order number `at` asks for; all of them differ.
fn order(at: usize) -> Value {
    let action = ["drain", "force-down", "force-up", "weight 50%"][at % 4];
    json!({ "target": format!("instance/many/i{at}"), "action": action, "reason": format!("order {at}"), "force": true })
}

/// The overrides in force, by the number of their order, each as it was asked for.
fn in_force(server: &Server) -> BTreeSet<usize> {
    let status = server.status();
    let mut found = BTreeSet::new();
    for of in status["overrides"].as_array().expect("a list") {
        let at: usize = of["target"]
            .as_str()
            .and_then(|text| text.strip_prefix("instance/many/i"))
            .map_or_else(|| panic!("half an override: {of}"), |number| number.parse().expect("a number"));
        let asked = order(at);
        assert_eq!((&of["action"], &of["why"]), (&asked["action"], &asked["reason"]), "whole, or not at all");
        assert!(of["who"].as_str().is_some_and(|who| !who.is_empty()) && of["since"].as_u64() > Some(0), "{of}");
        assert!(found.insert(at), "{at} is there twice");
    }
    // Not only listed: judged by.
    let pools = status["pools"].as_array().expect("pools");
    let many = pools.iter().find(|pool| pool["name"] == "many").expect("the pool");
    for (at, instance) in many["instances"].as_array().expect("instances").iter().enumerate() {
        let state = (instance["administrative"].as_str().expect("text"), instance["weight_percent"].as_u64());
        let expected = match (found.contains(&at), at % 4) {
            (false, _) => ("enabled", Some(100)),
            (true, 0) => ("drained", Some(100)),
            (true, 1) => ("forced-down", Some(100)),
            (true, 2) => ("forced-up", Some(100)),
            (true, _) => ("enabled", Some(50)),
        };
        assert_eq!(state, expected, "i{at}");
    }
    found
}

/// Gives orders that wait, one after another, until there are none or the server is gone.
fn give(site: &Site, waiting: &Mutex<Vec<usize>>, acknowledged: &Mutex<BTreeSet<usize>>) {
    loop {
        let Some(at) = waiting.lock().expect("no panic").pop() else { return };
        let Some((status, answer)) = try_ask(site, "PUT", "/v1/overrides", &order(at).to_string()) else {
            return waiting.lock().expect("no panic").push(at);
        };
        assert_eq!(status, 200, "{answer}");
        acknowledged.lock().expect("no panic").insert(at);
    }
}

#[test]
fn a_stream_of_overrides_survives_kills_at_random_points() {
    let site = site_of_many();
    let mut random = Random(0x5eed);
    let acknowledged: Mutex<BTreeSet<usize>> = Mutex::default();
    let waiting: Mutex<Vec<usize>> = Mutex::new((0..ORDERS).rev().collect());
    let (mut kills, mut unacknowledged) = (0, 0);
    let began = Instant::now();
    loop {
        let mut server = site.start();
        let kept = in_force(&server);
        let before = acknowledged.lock().expect("no panic").clone();
        let lost: Vec<&usize> = before.difference(&kept).collect();
        assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
        // Those that were on their way when it was killed.
        let more = kept.difference(&before).count();
        assert!(more <= CONNECTIONS * kills, "{more} that nobody knows");
        unacknowledged = unacknowledged.max(more);
        assert_eq!(server.logged(&["damaged"]), Vec::<String>::new());
        if before.len() == ORDERS {
            break;
        }
        assert!(began.elapsed() < 6 * PATIENCE, "{kills} kills, and no end");
        let after = before.len() + 10 + random.below((ORDERS / LEAST_KILLS - 10) as u64) as usize;
        let pause = Duration::from_micros(random.below(20_000));
        until("the control socket", || control::connect(&site));
        thread::scope(|scope| {
            for _ in 0..CONNECTIONS {
                scope.spawn(|| give(&site, &waiting, &acknowledged));
            }
            until_so("some orders", || acknowledged.lock().expect("no panic").len() >= after.min(ORDERS));
            thread::sleep(pause);
            server.signal("KILL");
            server.wait_end();
        });
        kills += 1;
    }
    assert!(kills >= LEAST_KILLS / 4, "{kills}");
    say(&format!(
        "measured: {ORDERS} overrides over {CONNECTIONS} connections, {kills} kills in {:?}; none was lost, at most \
         {unacknowledged} were kept and not acknowledged",
        began.elapsed()
    ));
}

/// Killed as soon as an override is on the disk, acknowledged or not: it is in force after the restart.
#[test]
fn what_is_written_when_the_server_is_killed_is_in_force() {
    let site = site_of_many();
    let mut outcomes: BTreeMap<bool, usize> = BTreeMap::new();
    for at in 0..8 {
        let mut server = site.start();
        until("the control socket", || control::connect(&site));
        let answered = AtomicUsize::new(0);
        thread::scope(|scope| {
            scope.spawn(|| {
                if try_ask(&site, "PUT", "/v1/overrides", &order(at).to_string()).is_some() {
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            });
            let target = format!("\"instance/many/i{at}\"");
            let began = Instant::now();
            // No pause between looks: the acknowledgement is only a sync of the folder away.
            while !fs::read_to_string(site.path("state/overrides")).is_ok_and(|text| text.contains(&target)) {
                assert!(began.elapsed() < PATIENCE, "never written");
            }
            server.signal("STOP");
            server.signal("KILL");
            server.wait_end();
        });
        *outcomes.entry(answered.load(Ordering::Relaxed) > 0).or_default() += 1;
        let server = site.start();
        assert_eq!(in_force(&server), (0..=at).collect::<BTreeSet<usize>>());
    }
    say(&format!("measured: killed right after the write, by whether it was acknowledged: {outcomes:?}"));
}

/// A full disk: overrides are refused and change nothing, all else goes on, complaints come once; then there is room again.
#[test]
fn a_full_disk_costs_no_answer_and_no_override() {
    let site = Site::patient();
    site.edit("region-ramp  = \"0s\"", "region-ramp  = \"0s\"\nfailback     = \"manual\"");
    let Some(disk) = SmallDisk::mount(&site, "state", "256k") else { return };
    let mut backends = Backends::example(site.backends);
    let mut server = disk.start();
    let www = |server: &Server| server.addresses("www.gslb.example.com", "203.0.113.0/24");
    let run = |arguments: &[&str], code: i32| {
        let output = disk.waymark(arguments);
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {text}");
        text
    };
    run(&["drain", "instance/web/eu-1"], 0);
    assert_eq!(www(&server), ["127.0.11.2"]);
    until_so("health on disk", || disk.read("last-good").matches("\"up\":true").count() == 5);

    disk.fill();
    let before = disk.read("overrides");
    for _ in 0..3 {
        let text = run(&["drain", "instance/web/us-1"], 1);
        assert!(text.contains("cannot be written") && text.contains("No space left"), "{text}");
        assert!(text.contains("nothing was changed") && text.contains("make room"), "{text}");
    }
    assert_eq!(disk.read("overrides"), before);
    assert_eq!(server.status()["overrides"].as_array().map(Vec::len), Some(1));
    assert_eq!(www(&server), ["127.0.11.2"], "as before");
    let dr = |server: &Server| server.addresses("dr.gslb.example.com", "");
    backends.kill(&["us-1", "us-2"]);
    until_so("us-east is left", || dr(&server) == ["127.0.11.2"]);
    server.wait_logged(&["WARN", "state/last-good", "not kept"]);
    // The journal has room left in its last page.
    for _ in 0..200 {
        if !server.logged(&["state/journal", "is not kept"]).is_empty() {
            break;
        }
        server.reload();
    }
    backends.revive(&["us-1"]);
    server.wait_health("us-1", "up");
    backends.kill(&["us-1"]);
    server.wait_health("us-1", "down");
    for parts in [
        &["state/last-good", "not kept"][..],
        &["state/journal", "is not kept"],
        &["ERROR", "overrides cannot be written"],
    ] {
        assert_eq!(server.logged(parts).len(), 1, "{parts:?}: once, not in a loop");
    }
    assert_eq!(dr(&server), ["127.0.11.2"], "it answers by what it sees");
    assert!(server.status()["services"][3]["regions"][1]["ipv4"]["latched_since"].is_u64());

    disk.empty();
    server.wait_logged(&["INFO", "state/last-good", "written again"]);
    server.wait_logged(&["INFO", "overrides are written again"]);
    run(&["drain", "instance/web/ap-1", "--reason", "room again", "--force"], 0);
    server.wait_logged(&["INFO", "state/journal", "written again"]);
    until_so("latches on disk", || disk.read("overrides").contains("\"latches\""));
    server.signal("KILL");
    server.wait_end();
    let server = disk.start();
    let targets: Vec<Value> =
        server.status()["overrides"].as_array().expect("a list").iter().map(|of| of["target"].clone()).collect();
    assert_eq!(targets, ["instance/web/eu-1", "instance/web/ap-1"], "what was refused is not there");
    assert_eq!(dr(&server), ["127.0.11.2"], "us-east is down and latched out");
    server.wait_logged(&["service/dr.gslb.example.com", "us-east", "latched out since before the start"]);
    assert!(run(&["resume", "dr.gslb.example.com", "us-east"], 0).contains("region/us-east"));
}
