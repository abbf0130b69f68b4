//! The journal and `waymark history` (SPEC 8.1): what happened and why, from a running server, after it was killed, and
//! from a file whose last line is torn.

use std::fs::{self, File};
use std::io::Write;

use serde_json::Value;

use crate::support::backend::{Backends, EXAMPLE};
use crate::support::client;
use crate::support::site::Site;
use crate::support::{until, until_so};

/// The records that `waymark history` prints.
#[track_caller]
fn history(site: &Site, arguments: &[&str]) -> Vec<Value> {
    let output = site.run(&[&["history", "--json"], arguments].concat());
    assert_eq!(output.status.code(), Some(0), "{}", client::text(&output));
    let read: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    read["records"].as_array().expect("records").clone()
}

/// `verdict up -> down: reason`, one for each.
fn changes(records: &[Value]) -> Vec<String> {
    let text = |record: &Value, key: &str| record[key].as_str().unwrap_or_default().to_owned();
    let show = |record| {
        let [kind, old, new, reason] = ["kind", "old", "new", "reason"].map(|key| text(record, key));
        format!("{kind} {old} -> {new}: {reason}")
    };
    records.iter().map(show).collect()
}

#[track_caller]
fn wait_for(site: &Site, arguments: &[&str], last: &str) -> Vec<Value> {
    until(&format!("{last:?} at the end of {arguments:?}"), || {
        let records = history(site, arguments);
        changes(&records).last().is_some_and(|change| change.starts_with(last)).then_some(records)
    })
}

#[test]
fn what_happened_is_told_with_its_reason() {
    let site = Site::patient();
    let mut backends = Backends::example(site.backends);
    let server = site.start();
    backends.kill(&["eu-1"]);
    server.wait_health("eu-1", "down");
    backends.revive(&["eu-1"]);
    server.wait_health("eu-1", "up");
    let eu_1 = wait_for(&site, &["instance/web/eu-1"], "verdict down -> up: status 200");
    assert_eq!(
        changes(&eu_1),
        [
            "verdict unknown -> up: status 200",
            "verdict up -> down: connection refused",
            "verdict down -> up: status 200"
        ]
    );
    assert!(eu_1.iter().all(|record| record["time"].as_str().is_some_and(|time| time.ends_with('Z'))));
    let target = format!("instance/web/eu-1 (check/web at 127.0.11.1:{})", site.backends);
    assert!(eu_1.iter().all(|record| record["target"] == target.as_str()));
    for pattern in ["instance/*/eu-1", "eu-1", "region/eu-west", "pool/web", "instance/web/*"] {
        assert!(eu_1.iter().all(|record| history(&site, &[pattern]).contains(record)), "{pattern}");
    }
    assert!(!history(&site, &["region/us-east"]).contains(&eu_1[0]));
    assert_eq!(history(&site, &["eu-1", "--limit", "1"]), eu_1[2..]);
    assert_eq!(history(&site, &["eu-1", "--since", "1h"]), eu_1);
    assert!(history(&site, &["--since", "0s"]).is_empty());
    assert!(history(&site, &["instance/web/nobody"]).is_empty());

    let table = client::text(&site.run(&["history", "eu-1"]));
    assert!(table.contains("up -> down") && table.contains("connection refused"), "{table}");
    let all = changes(&history(&site, &[]));
    assert!(all.iter().any(|change| change.starts_with("start  -> answering: waymark ")), "{all:?}");

    backends.kill(&EXAMPLE.map(|(name, _)| name));
    wait_for(&site, &["service/www.gslb.example.com"], "fail-open healthy instances -> when-all-down");
    wait_for(&site, &["eu-1"], "verdict up -> down");

    let over_http = server.get("/v1/history?target=instance%2Fweb%2Feu-1&limit=2&since=1h");
    assert_eq!(over_http.status, 200);
    assert!(serde_json::from_str::<Value>(&over_http.body).is_ok_and(|read| read["records"][1]["new"] == "down"));
    for wrong in ["since=noon", "limit=0", "limit=-1", "limit=10001", "who=me"] {
        assert_eq!(server.get(&format!("/v1/history?{wrong}")).status, 400, "{wrong}");
    }
    assert_eq!(site.run(&["history", "--since", "noon"]).status.code(), Some(2));
}

#[test]
fn reloads_are_told() {
    let site = Site::unchecked();
    let server = site.start();
    server.reload();
    wait_for(&site, &["configuration"], "reload  -> accepted: 4 services, 0 targets");
    site.edit("steer   = \"geo\"", "stear   = \"geo\"");
    server.signal("HUP");
    let refused = wait_for(&site, &["configuration"], "reload-refused  -> refused: ");
    assert!(refused[1]["reason"].as_str().is_some_and(|reason| reason.contains("stear")), "{refused:?}");
}

#[test]
fn it_outlives_a_kill_and_a_torn_line() {
    let site = Site::unchecked();
    let mut server = site.start();
    wait_for(&site, &["node/test-1"], "start");
    server.signal("KILL");
    server.wait_end();
    let path = site.path("state/journal");
    let whole = fs::read_to_string(&path).expect("a journal");
    let torn = &whole[..whole.len() / 2];
    File::options().append(true).open(&path).and_then(|mut file| file.write_all(torn.as_bytes())).expect("torn");
    let output = site.run(&["history", "--json"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&output.stderr).contains("no server is running"), "{}", client::text(&output));
    assert_eq!(history(&site, &[]).len(), 1);

    let mut server = site.start();
    until_so("the second start", || history(&site, &["node/*"]).len() == 2);
    server.signal("TERM");
    server.wait_end();
    let kinds: Vec<Value> = history(&site, &[]).iter().map(|record| record["kind"].clone()).collect();
    assert_eq!(kinds, ["start", "start", "stop"]);
    assert_eq!(changes(&history(&site, &[]))[2], "stop  -> ended: SIGTERM");
    let control = site.path("state/control");
    let by_socket = history(&site, &["--control", control.to_str().expect("text")]);
    assert_eq!(by_socket.len(), 3);
}

#[test]
fn a_journal_that_cannot_be_written_costs_no_answer() {
    let site = Site::unchecked();
    fs::create_dir_all(site.path("state/journal")).expect("a folder in its way");
    let server = site.start();
    server.wait_logged(&["WARN", "state/journal", "not kept"]);
    server.reload();
    assert_eq!(server.addresses("dr.gslb.example.com", "").len(), 2);
    fs::remove_dir(site.path("state/journal")).expect("removed");
    server.reload();
    server.wait_logged(&["INFO", "state/journal", "written again"]);
    assert_eq!(server.logged(&["not kept"]).len(), 1);
    let records = wait_for(&site, &[], "reload");
    assert_eq!(records[0]["lost"], 2);
}
