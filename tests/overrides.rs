//! Overrides of the operator (SPEC 8.2) on the real binary: the commands, the answers that follow, what survives kill -9.

use std::collections::BTreeSet;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::support::backend::Backends;
use crate::support::client;
use crate::support::control::{self, ask, try_ask};
use crate::support::server::Server;
use crate::support::site::Site;
use crate::support::{until, until_so};

const WWW: &str = "www.gslb.example.com";
const EUROPE: &str = "203.0.113.0/24";

/// Runs a command that is to end with `code`; what it prints.
#[track_caller]
fn run(site: &Site, arguments: &[&str], code: i32) -> String {
    let output = site.run(arguments);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", client::text(&output));
    client::text(&output)
}

#[track_caller]
fn overrides(site: &Site) -> Vec<Value> {
    let text = run(site, &["overrides", "--json"], 0);
    let listed: Value = serde_json::from_str(&text).expect("JSON");
    let mut listed = listed["overrides"].as_array().expect("a list").clone();
    // What time makes of them is no part of them.
    listed.iter_mut().filter_map(Value::as_object_mut).for_each(|of| drop(of.remove("left")));
    listed
}

/// All addresses that a client in Europe gets, over some draws.
fn served(server: &Server) -> BTreeSet<String> {
    (0..40).flat_map(|_| server.addresses(WWW, EUROPE)).collect()
}

#[track_caller]
fn assert_served(server: &Server, expected: &[&str], when: &str) {
    let expected: BTreeSet<String> = expected.iter().map(|&one| one.to_owned()).collect();
    // Threads take a snapshot with their next batch; the order was acknowledged when it was published.
    assert_eq!(served(server), expected, "{when}");
}

fn user() -> String {
    let output = Command::new("id").arg("-un").output().expect("id runs");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

#[test]
fn commands_change_what_is_answered() {
    let site = Site::unchecked();
    let server = site.start();
    let (eu, us) = (["127.0.11.1", "127.0.11.2"], ["127.0.12.1", "127.0.12.2"]);
    assert_served(&server, &eu, "at first");
    for (arguments, said, expected) in [
        (&["drain", "instance/web/eu-1", "--for", "2h", "--reason", "patching"][..], "1 instance: web/eu-1", &eu[1..]),
        (&["drain", "region/eu-west"], "2 instances: web/eu-1 web/eu-2", &us),
        (&["enable", "instance/web/eu-1"], "some stay out, by another level: drain region/eu-west", &us),
        (&["enable", "region/eu-west"], "2 instances", &eu),
        (&["weight", "instance/web/eu-2", "0%"], "weight 0% instance/web/eu-2", &eu[..1]),
        (&["weight", "instance/web/eu-2", "100%"], "weight 100%", &eu),
        (&["force-down", "instance/*/eu-*"], "2 instances", &us),
        (&["enable", "instance/*/eu-*"], "2 instances", &eu),
    ] {
        let text = run(&site, arguments, 0);
        assert!(text.contains(said), "{said}: {text}");
        assert_served(&server, expected, &arguments.join(" "));
    }
    // The same as before, so nobody's weight is overridden.
    run(&site, &["overrides", "--remove", "instance/web/eu-2"], 0);
    assert_eq!(overrides(&site), Vec::<Value>::new());
    assert!(run(&site, &["overrides"], 0).contains("no overrides"));
}

#[test]
fn both_axes_are_shown() {
    let site = Site::unchecked();
    let server = site.start();
    run(&site, &["drain", "region/eu-west", "--for", "2h", "--reason", "a new switch"], 0);
    let applied = run(&site, &["weight", "instance/web/us-1", "50%", "--json"], 0);
    let applied: Value = serde_json::from_str(&applied).expect("JSON");
    assert_eq!((&applied["set"]["action"], &applied["instances"]), (&json!("weight 50%"), &json!(["web/us-1"])));

    let status = server.status();
    let of = |name: &str| {
        let all = status["pools"][0]["instances"].as_array().expect("instances");
        all.iter().find(|one| one["name"] == name).expect("the instance").clone()
    };
    assert_eq!((&of("eu-1")["administrative"], &of("us-1")["administrative"]), (&json!("drained"), &json!("enabled")));
    assert_eq!(of("eu-1")["addresses"][0]["verdict"], "up", "checks say what they said");
    assert_eq!(of("us-1")["weight_percent"], 50);
    assert_eq!(of("ap-1")["overrides"], json!([]));
    let by = &of("eu-1")["overrides"][0];
    assert_eq!(
        (&by["target"], &by["why"], &by["who"]),
        (&json!("region/eu-west"), &json!("a new switch"), &json!(user()))
    );
    assert_eq!(by["until"].as_u64(), by["since"].as_u64().map(|since| since + 7200));
    assert_eq!(status["overrides"].as_array().map(Vec::len), Some(2));
    let region = &status["services"][0]["regions"][0];
    assert_eq!((&region["administrative"], &region["ipv4"]["available"]), (&json!("drained"), &json!(false)));

    let text = run(&site, &["status"], 0);
    for parts in [
        &["instance/web/eu-1", "drained", "up"][..],
        &["instance/web/us-1", "enabled 50%"],
        &["eu-west (drained)", "unavailable"],
        &["region/eu-west", "drain", &user(), "a new switch", "1h59m"],
    ] {
        let is_there = text.lines().any(|line| parts.iter().all(|part| line.contains(part)));
        // A test that took its time before this sees less left, never more.
        assert!(is_there || parts.contains(&"1h59m"), "{parts:?}: {text}");
    }
    assert_eq!(server.metric("waymark_overrides{action=\"drain\"}"), Some(1.0));
    assert_eq!(server.metric("waymark_overrides{action=\"weight\"}"), Some(1.0));
    assert_eq!(server.metric("waymark_overrides{action=\"force-up\"}"), Some(0.0));
}

#[test]
fn the_operator_and_the_checks_are_two_axes() {
    let site = Site::patient();
    let mut backends = Backends::example(site.backends);
    let server = site.start();
    run(&site, &["drain", "instance/web/eu-1"], 0);
    assert_served(&server, &["127.0.11.2"], "eu-1 is drained");
    backends.kill(&["eu-1", "eu-2"]);
    server.wait_health("eu-1", "down");
    server.wait_health("eu-2", "down");
    until_so("us-east serves", || served(&server).iter().all(|address| address.starts_with("127.0.12.")));
    run(&site, &["force-up", "instance/web/eu-1"], 0);
    assert_served(&server, &["127.0.11.1"], "forced up, whatever its checks say");
    assert_eq!(server.health("eu-1").0, "down");
    run(&site, &["enable", "instance/web/eu-1"], 0);
    assert_served(&server, &["127.0.12.1", "127.0.12.2"], "left to its checks");
}

#[test]
fn a_freeze_holds_what_checks_say() {
    let site = Site::patient();
    let mut backends = Backends::example(site.backends);
    let server = site.start();
    run(&site, &["freeze", "region/eu-west", "--for", "1h"], 0);
    backends.kill(&["eu-1", "eu-2"]);
    server.wait_health("eu-1", "down");
    server.wait_health("eu-2", "down");
    assert_served(&server, &["127.0.11.1", "127.0.11.2"], "frozen as they were");
    server.wait_logged(&["instance/web/eu-1", "down by its check, frozen up"]);
    let text = run(&site, &["status"], 0);
    let shown =
        |line: &str| line.contains("instance/web/eu-1") && line.contains("up (frozen)") && line.contains("web down");
    assert!(text.lines().any(shown), "{text}");
    run(&site, &["drain", "instance/web/eu-1"], 0);
    assert_served(&server, &["127.0.11.2"], "overrides act as ever");
    assert!(run(&site, &["resume"], 0).contains("ended: freeze region/eu-west"));
    assert_served(&server, &["127.0.12.1", "127.0.12.2"], "checks count again");
    assert!(run(&site, &["resume"], 2).contains("no freeze of all"));
}

#[test]
fn an_override_ends_by_itself() {
    let site = Site::unchecked();
    let server = site.start();
    run(&site, &["drain", "region/eu-west", "--for", "2s"], 0);
    until_so("the end", || server.addresses(WWW, EUROPE)[0].starts_with("127.0.11."));
    assert_eq!(overrides(&site), Vec::<Value>::new());
    server.wait_logged(&["override has ended", "region/eu-west"]);
}

/// For how long answers of before may be kept is told, and whether something that was drained is given out nevertheless.
#[test]
fn a_drain_says_when_the_last_answers_expire() {
    let site = Site::unchecked();
    site.edit("us-1 = {", "eu-9 = { region = \"us-east\", address = \"127.0.11.2\" }\nus-1 = {");
    let server = site.start();
    let before = unix_seconds();
    run(&site, &["drain", "instance/web/eu-1"], 0);
    let after = unix_seconds();
    let left = |target: &str| {
        let all = server.status()["overrides"].as_array().expect("a list").clone();
        let one = all.into_iter().find(|of| of["target"] == target).expect("the override");
        (one["left"]["expire_at"].as_u64(), one["left"]["still_given"].to_string())
    };
    let (expire_at, still_given) = left("instance/web/eu-1");
    let expire_at = expire_at.expect("a time");
    // The longest TTL is 5 s; a second goes for the one that has begun.
    assert!((before + 6..=after + 6).contains(&expire_at), "{expire_at}, drained between {before} and {after}");
    assert_eq!(still_given, "[]");
    let text = run(&site, &["overrides"], 0);
    let shown = |text: &str| {
        text.contains("drained; last answers expire") && text.contains("Z (in ")
            || text.contains("answers have expired")
    };
    assert!(shown(&text), "{text}");
    let text = run(&site, &["status"], 0);
    let row = text.lines().find(|line| line.starts_with("instance/web/eu-1") || line.contains(" instance/web/eu-1 "));
    assert!(row.is_some_and(shown), "{text}");
    until_so("the end of the last TTL", || {
        run(&site, &["overrides"], 0).contains("drained; last answers have expired")
    });
    assert!(unix_seconds() >= expire_at);

    run(&site, &["drain", "instance/web/eu-2"], 0);
    let (_, still_given) = left("instance/web/eu-2");
    assert!(still_given.contains("127.0.11.2, as instance/web/eu-9"), "{still_given}");
    let text = run(&site, &["overrides"], 0);
    assert!(text.contains("still given out: 127.0.11.2, as instance/web/eu-9"), "{text}");
    assert_eq!(left("instance/web/eu-1").0, Some(expire_at), "as it was");
    run(&site, &["drain", "instance/web/us-*", "--force"], 0);
    run(&site, &["enable", "instance/web/us-1"], 0);
    assert!(left("instance/web/us-*").1.contains("instance/web/us-1, by a newer override"));
}

fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs()
}

/// A service is overridden alone: others over the same pool do not feel it.
#[test]
fn a_service_is_overridden_alone() {
    const DR: &str = "dr.gslb.example.com";
    let site = Site::patient();
    let mut backends = Backends::example(site.backends);
    let server = site.start();
    let text = run(&site, &["drain", "service/www.gslb.example.com"], 1);
    assert!(text.contains("--force") && text.contains(WWW) && !text.contains(DR), "{text}");
    let text = run(&site, &["drain", "service/mars.example.com", "--force"], 0);
    assert!(text.contains("no service now"), "{text}");
    assert!(run(&site, &["drain", "service/mars.example.com"], 2).contains("names no service"));
    run(&site, &["drain", "service/WWW.gslb.example.com", "--force", "--reason", "moved"], 0);
    assert_served(&server, &[], "nothing is permitted, so NODATA");
    assert_eq!(server.addresses(DR, ""), ["127.0.12.1", "127.0.12.2"], "over the same pool");
    assert_eq!(
        server.metric(&format!("waymark_fail_open{{service=\"{WWW}\"}}")),
        Some(0.0),
        "on purpose is no failure"
    );
    let status = server.status();
    let www = &status["services"][0];
    assert_eq!((&www["administrative"], &www["overrides"][0]["why"]), (&json!("drained"), &json!("moved")));
    assert!(run(&site, &["status"], 0).contains("service/www.gslb.example.com (drained)"));
    run(&site, &["enable", "service/www.*"], 0);
    assert_served(&server, &["127.0.11.1", "127.0.11.2"], "enabled by a newer glob");

    run(&site, &["force-up", "service/www.*"], 0);
    backends.kill(&["eu-1", "eu-2", "us-1"]);
    server.wait_health("eu-1", "down");
    server.wait_health("eu-2", "down");
    until_so("us-1 is out of the others", || server.addresses(DR, "") == ["127.0.12.2"]);
    assert_served(&server, &["127.0.11.1", "127.0.11.2"], "whatever checks say");
    run(&site, &["drain", "instance/web/eu-1"], 0);
    assert_served(&server, &["127.0.11.2"], "what removes wins across levels");
    run(&site, &["overrides", "--remove", "service/WWW.gslb.example.com"], 0);
    run(&site, &["overrides", "--remove", "service/www.*"], 0);
    until_so("its checks count again", || served(&server) == BTreeSet::from(["127.0.12.2".into()]));

    run(&site, &["freeze", "service/dr.*"], 0);
    backends.kill(&["us-2"]);
    server.wait_health("us-2", "down");
    assert_eq!(server.addresses(DR, ""), ["127.0.12.2"], "verdicts of its pool are held");
}

/// SPEC 8.2: of the clients whose order begins with a region, a part begins at the next.
#[test]
fn a_region_sheds_clients() {
    let site = Site::unchecked();
    let server = site.start();
    let text = run(&site, &["weight", "region/eu-west", "50%"], 0);
    assert!(text.contains("weight 50% region/eu-west"), "{text}");
    let region = |client: u32| {
        let subnet = format!("203.0.113.{client}/32");
        let regions: BTreeSet<String> = (0..3).map(|_| server.addresses(WWW, &subnet)[0][..8].to_owned()).collect();
        assert_eq!(regions.len(), 1, "always on the same side: {regions:?}");
        regions.into_iter().next()
    };
    let eu = (0..128).filter(|&client| region(client).as_deref() == Some("127.0.11")).count();
    // Clients of one /24 are one client: `sticky` says how they are told apart.
    assert!(eu == 0 || eu == 128, "{eu}");
    assert!(run(&site, &["status"], 0).contains("eu-west (weight 50%)"));
    assert_eq!(server.status()["services"][0]["regions"][0]["weight_percent"], 50);
    run(&site, &["weight", "region/eu-west", "0%"], 0);
    assert_eq!(region(1).as_deref(), Some("127.0.12"), "everybody begins at the next");
    run(&site, &["drain", "region/us-east", "--force"], 0);
    assert_ne!(region(1).as_deref(), Some("127.0.12"));
    run(&site, &["drain", "region/ap-south", "--force"], 0);
    assert_eq!(region(1).as_deref(), Some("127.0.11"), "there is no next");
    run(&site, &["enable", "region/*"], 0);
    assert_served(&server, &["127.0.11.1", "127.0.11.2"], "enabled");
}

#[test]
fn the_last_one_needs_force() {
    let site = Site::unchecked();
    let server = site.start();
    let text = run(&site, &["drain", "region/*"], 1);
    assert!(text.contains(WWW) && text.contains("--force"), "{text}");
    // A fence lets some clients have this region alone.
    let text = run(&site, &["drain", "region/us-east"], 1);
    assert!(text.contains(WWW) && !text.contains("rr.gslb.example.com"), "{text}");
    assert_served(&server, &["127.0.11.1", "127.0.11.2"], "nothing was done");
    assert_eq!(overrides(&site), Vec::<Value>::new());
    let text = run(&site, &["drain", "region/*", "--force"], 0);
    assert!(text.contains("caches may hand out answers of before for 5s more"), "{text}");
    assert!(text.contains("service/rr.gslb.example.com has lost its last"), "{text}");
    assert_served(&server, &[], "all drained");
}

#[test]
fn exit_codes_tell_wrong_from_failed() {
    let site = Site::unchecked();
    for (arguments, said) in [
        (&["drain"][..], "TARGET"),
        (&["drain", "eu-1"], "no target"),
        (&["drain", "all"], "all may be frozen, no more"),
        (&["weight", "service/www.gslb.example.com", "50%"], "weights are of instances and regions"),
        (&["weight", "pool/web", "50%"], "weights are of instances and regions"),
        (&["drain", "service/www/x"], "no target"),
        (&["drain", "pool/web", "--for", "soon"], "soon"),
        (&["drain", "pool/web", "--for", "100ms"], "100ms"),
        (&["weight", "instance/web/eu-1", "50"], "50"),
        (&["weight", "instance/web/eu-1", "5000%"], "5000%"),
        (&["weight", "region/eu-west", "150%"], "0% to 100%"),
        (&["overrides", "--force"], "--remove"),
    ] {
        let text = run(&site, arguments, 2);
        assert!(text.contains(said), "{arguments:?}: {text}");
    }
    let text = run(&site, &["drain", "pool/web"], 1);
    assert!(text.contains("no server is running"), "{text}");
    let _server = site.start();
    let text = run(&site, &["drain", "instance/web/mars-*"], 2);
    assert!(text.contains("names no instance") && text.contains("waymark status"), "{text}");
    run(&site, &["drain", "instance/web/mars-*", "--force"], 0);
    let text = run(&site, &["overrides", "--remove", "pool/web"], 2);
    assert!(text.contains("no override of pool/web"), "{text}");
}

#[test]
fn globs_apply_to_later_names() {
    let site = Site::unchecked();
    let server = site.start();
    run(&site, &["drain", "instance/web/eu-*"], 0);
    site.edit("us-1 = {", "eu-3 = { region = \"us-east\", address = \"127.0.12.9\" }\nus-1 = {");
    server.reload();
    assert_served(&server, &["127.0.12.1", "127.0.12.2"], "eu-3 is drained from the beginning");
    assert_eq!(overrides(&site).len(), 1);
}

/// What was acknowledged is there after a kill -9, in force and as it was.
#[test]
fn acknowledged_is_kept() {
    let site = Site::unchecked();
    let mut server = site.start();
    let mut acknowledged = Vec::new();
    let orders = [
        ["drain", "instance/web/eu-1"],
        ["force-up", "instance/web/us-*"],
        ["force-down", "instance/web/us-1"],
        ["drain", "pool/nothing-yet"],
        ["force-up", "region/ap-south"],
        ["drain", "region/eu-west"],
    ];
    for (at, [command, target]) in orders.into_iter().enumerate() {
        let answer = run(&site, &[command, target, "--force", "--json", "--reason", "kept"], 0);
        let answer: Value = serde_json::from_str(&answer).expect("JSON");
        acknowledged.push(answer["set"].clone());
        if at % 2 == 0 {
            server.signal("KILL");
            server.wait_end();
            server = site.start();
        }
        assert_eq!(overrides(&site), acknowledged, "after {command} {target}");
    }
    drop(server);
    let server = site.start();
    assert_eq!(overrides(&site), acknowledged);
    assert_served(&server, &["127.0.12.2"], "from the first answer on");
}

/// The same when it is killed in the midst of orders: what was acknowledged is there, and of what was not at most the one
/// that was on its way.
#[test]
fn acknowledged_is_kept_when_killed_at_any_moment() {
    let site = Site::unchecked();
    let mut acknowledged: Vec<String> = Vec::new();
    for round in 0..4 {
        let mut server = site.start();
        until("the control socket", || control::connect(&site));
        let count = AtomicUsize::new(0);
        let give = |at: usize| {
            let target = format!("pool/later-{round}-{at}");
            let body = json!({ "target": target, "action": "drain", "force": true }).to_string();
            let (status, _) = try_ask(&site, "PUT", "/v1/overrides", &body)?;
            assert_eq!(status, 200);
            count.fetch_add(1, Ordering::Relaxed);
            Some(target)
        };
        thread::scope(|scope| {
            let giver = scope.spawn(|| (0..100).map_while(give).collect::<Vec<_>>());
            until_so("some orders", || count.load(Ordering::Relaxed) > 3 * round);
            server.signal("KILL");
            server.wait_end();
            acknowledged.extend(giver.join().expect("no panic"));
        });
        let server = site.start();
        let kept: Vec<String> = overrides(&site).iter().map(|of| of["target"].as_str().expect("text").into()).collect();
        assert!(acknowledged.iter().all(|target| kept.contains(target)), "{acknowledged:?} {kept:?}");
        assert!(kept.len() <= acknowledged.len() + 1, "{acknowledged:?} {kept:?}");
        acknowledged = kept;
        assert_eq!(server.logged(&["damaged"]), Vec::<String>::new());
    }
}

#[test]
fn what_cannot_be_kept_is_refused() {
    let site = Site::unchecked();
    let server = site.start();
    run(&site, &["drain", "instance/web/eu-1"], 0);
    // As a full disk does, this keeps the new file from being written.
    std::fs::create_dir(site.path("state/overrides.new")).expect("in the way");
    let text = run(&site, &["drain", "instance/web/us-1"], 1);
    assert!(text.contains("cannot be written") && text.contains("nothing was changed"), "{text}");
    assert_eq!(overrides(&site).len(), 1);
    assert_served(&server, &["127.0.11.2"], "as before");
    std::fs::remove_dir(site.path("state/overrides.new")).expect("room again");
    run(&site, &["drain", "instance/web/us-1"], 0);
    drop(server);

    std::fs::write(site.path("state/overrides"), "{\"version\": 1, \"checks").expect("written");
    let server = site.start();
    server.wait_logged(&["overrides", "damaged", "moved to"]);
    assert!(site.path("state/overrides.damaged").exists());
    assert_eq!(overrides(&site), Vec::<Value>::new());
    assert_served(&server, &["127.0.11.1", "127.0.11.2"], "without overrides");
    run(&site, &["drain", "instance/web/eu-1"], 0);
}

#[test]
fn the_api_answers_in_one_shape() {
    let site = Site::unchecked();
    let server = site.start();
    until("the control socket", || control::connect(&site));
    let set = |target: &str, action: &str| json!({ "target": target, "action": action }).to_string();
    let long = "x".repeat(20_000);
    for (method, path, body, status, code) in [
        ("PUT", "/v1/overrides", set("instance/web/eu-1", "drain"), 200, ""),
        ("PUT", "/v1/overrides", set("instance/web/eu-1", "weight 50%"), 200, ""),
        ("PUT", "/v1/overrides", set("instance/web/eu-1", "dance"), 400, "wrong"),
        ("PUT", "/v1/overrides", set("eu-1", "drain"), 400, "wrong"),
        ("PUT", "/v1/overrides", set("pool/x\ny", "drain"), 400, "wrong"),
        (
            "PUT",
            "/v1/overrides",
            json!({ "target": "pool/web", "action": "drain", "when": 1 }).to_string(),
            400,
            "wrong",
        ),
        ("PUT", "/v1/overrides", "garbage".into(), 400, "wrong"),
        ("PUT", "/v1/overrides", String::new(), 400, "wrong"),
        ("PUT", "/v1/overrides", long, 413, "wrong"),
        ("PUT", "/v1/overrides", set("pool/mars", "drain"), 404, "not-found"),
        ("PUT", "/v1/overrides", set("pool/web", "drain"), 409, "last-available"),
        ("DELETE", "/v1/overrides/pool/web", String::new(), 404, "not-found"),
        ("DELETE", "/v1/overrides/pool/web?force=perhaps", String::new(), 400, "wrong"),
        ("DELETE", "/v1/overrides/instance/web/eu-1", String::new(), 200, ""),
        ("GET", "/v1/overrides", String::new(), 200, ""),
    ] {
        let (got, answer) = ask(&site, method, path, &body);
        assert_eq!(got, status, "{method} {path} {body}: {answer}");
        if !code.is_empty() {
            assert_eq!(answer["code"], code, "{answer}");
            assert!(answer["error"].is_string() && answer["services"].is_array(), "{answer}");
        }
    }
    for (method, path, status) in [
        ("GET", "/v1/overrides", 200),
        ("PUT", "/v1/overrides", 403),
        ("DELETE", "/v1/overrides/pool/web", 403),
        ("POST", "/v1/overrides", 405),
    ] {
        let response = client::request(server.admin, method, path, &server.admin.to_string()).expect("a response");
        assert_eq!(response.status, status, "{method} {path}: {}", response.body);
        if status == 403 {
            let refusal: Value = serde_json::from_str(&response.body).expect("JSON");
            assert_eq!(refusal["code"], "forbidden");
            assert!(refusal["hint"].as_str().is_some_and(|hint| hint.contains("control socket")), "{refusal}");
        }
    }
}
