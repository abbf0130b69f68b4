//! Round-trip times on the real binary: samples by API and file, what answers make of them, and what outlives the
//! process (SPEC 4.5, 8.5).

use std::fs;

use serde_json::{Value, json};

use crate::support::client;
use crate::support::control::ask;
use crate::support::server::Server;
use crate::support::site::Site;
use crate::support::{until, until_so};

const FAST: &str = "fast.gslb.example.com";
/// A client near `eu-west`.
const CLIENT: &str = "203.0.113.0/25";
const EUROPE: &str = "127.0.11.1";
const ASIA: &str = "127.0.13.1";

fn site() -> Site {
    let site = Site::unchecked();
    site.append(&format!("\n[services.\"{FAST}\"]\npool = \"web\"\nsteer = \"latency\"\n"));
    // One address for each region.
    site.edit("weight = 1 }", "weight = 0 }");
    site
}

fn sample(client: &str, region: &str, ms: f64) -> Value {
    json!({"client": client, "region": region, "rtt-ms": ms})
}

/// As many as count.
#[track_caller]
fn measure(site: &Site, client: &str, region: &str, ms: f64) {
    let samples: Vec<Value> = (0..3).map(|_| sample(client, region, ms)).collect();
    let (status, taken) = ask(site, "POST", "/v1/latency", &json!(samples).to_string());
    assert_eq!((status, &taken["taken"]), (200, &json!(3)), "{taken}");
}

#[track_caller]
fn wait_served(server: &Server, expected: &str) {
    until_so(&format!("{expected} serves"), || server.addresses(FAST, CLIENT) == [expected]);
}

#[track_caller]
fn run(site: &Site, arguments: &[&str], code: i32) -> String {
    let output = site.run(&[&["latency"], arguments].concat());
    let text = client::text(&output);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {text}");
    text
}

#[test]
fn samples_decide_and_outlive_the_process() {
    let site = site();
    let mut server = site.start();
    wait_served(&server, EUROPE);
    measure(&site, CLIENT, "eu-west", 80.0);
    measure(&site, CLIENT, "ap-south", 12.0);
    wait_served(&server, ASIA);

    let shown: Value = serde_json::from_str(&run(&site, &["show", "203.0.113.7", "--json"], 0)).expect("JSON");
    assert_eq!(shown["prefix"], json!("203.0.113.0/25"));
    let regions = shown["regions"].as_array().expect("regions");
    let told: Vec<(&Value, &Value, &Value)> =
        regions.iter().map(|one| (&one["region"], &one["rtt-ms"], &one["samples"])).collect();
    assert_eq!(told, [(&json!("ap-south"), &json!(12.0), &json!(3)), (&json!("eu-west"), &json!(80.0), &json!(3))]);
    let said = run(&site, &["show", "203.0.113.7"], 0);
    assert!(said.contains("ap-south") && said.contains("12 ms"), "{said}");
    assert!(run(&site, &["show"], 0).contains("samples taken"));
    assert_eq!(server.metric("waymark_latency_samples_total{outcome=\"taken\"}"), Some(6.0));
    assert_eq!(server.metric("waymark_latency_prefixes"), Some(1.0));
    assert!(server.metric("waymark_latency_published_total").is_some_and(|count| count >= 1.0));

    // What if one were down: by what is measured, still.
    let live = ["explain", FAST, "--client", CLIENT, "--live", "--down", "region/eu-west"];
    let said = client::text(&site.run(&live));
    assert!(said.contains("ap-south serves") && said.contains("12 ms by 203.0.113.0/25"), "{said}");

    until("the file", || fs::metadata(site.path("state/latency")).ok());
    server.signal("KILL");
    server.wait_end();
    // The first answers are right, and a reload changes nothing of that.
    let mut server = site.start();
    assert_eq!(server.addresses(FAST, CLIENT), [ASIA]);
    server.wait_logged(&["INFO", "round-trip times of 1 prefixes"]);
    site.edit("ttl     = \"5s\"", "ttl     = \"6s\"");
    server.reload();
    assert_eq!(server.addresses(FAST, CLIENT), [ASIA]);

    // What came since the last write is written at an orderly end.
    measure(&site, "198.51.100.0/24", "us-east", 12.0);
    server.signal("TERM");
    server.wait_end();
    let server = site.start();
    assert_eq!(server.metric("waymark_latency_prefixes"), Some(2.0));
}

#[test]
fn a_file_that_cannot_be_believed_is_passed_over() {
    let site = site();
    fs::create_dir_all(site.path("state")).expect("a folder");
    fs::write(site.path("state/latency"), "waymark latency 1 0000000000000000\nnonsense").expect("written");
    let server = site.start();
    server.wait_logged(&["WARN", "state/latency", "not used", "checksum", "moved to"]);
    assert!(site.path("state/latency.aside").exists());
    assert_eq!(server.addresses(FAST, CLIENT), [EUROPE]);
    measure(&site, CLIENT, "ap-south", 12.0);
    wait_served(&server, ASIA);
}

#[test]
fn wrong_samples_are_told_together_and_none_is_taken() {
    let site = site();
    let server = site.start();
    let samples = json!([
        sample(CLIENT, "eu-west", 12.0),
        sample("nobody", "eu-west", 12.0),
        sample(CLIENT, "eu-wets", 12.0),
        sample(CLIENT, "eu-west", 0.0),
        {"client": CLIENT, "region": "eu-west"},
        7,
    ]);
    let (status, refusal) = ask(&site, "POST", "/v1/latency", &samples.to_string());
    assert_eq!((status, &refusal["code"]), (400, &json!("wrong")));
    let said = refusal["error"].as_str().expect("text");
    for part in
        ["5 of 6", "[1] client", "[2] there is no region \"eu-wets\"", "[3] rtt-ms", "[4] rtt-ms: missing", "[5] not"]
    {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(!said.contains("[0]"), "{said}");
    assert!(refusal["hint"].as_str().is_some_and(|hint| hint.contains("eu-west, us-east, ap-south")), "{refusal}");

    let many: Vec<Value> = (0..10_001).map(|_| json!(1)).collect();
    for (body, status, part) in [
        ("{}", 400, "not understood"),
        ("[", 400, "not understood"),
        (&json!(many).to_string(), 400, "at most 10000"),
        (&format!("[\"{}\"]", "x".repeat(1 << 20)), 413, ""),
    ] {
        let (got, refusal) = ask(&site, "POST", "/v1/latency", body);
        assert_eq!(got, status, "{refusal}");
        assert!(refusal["error"].as_str().is_some_and(|error| error.contains(part)), "{refusal}");
    }
    assert_eq!(server.metric("waymark_latency_samples_total{outcome=\"taken\"}"), Some(0.0));
    assert_eq!(server.metric("waymark_latency_samples_total{outcome=\"refused\"}"), Some(6.0));
    let over_tcp = client::request(server.admin, "POST", "/v1/latency", &server.admin.to_string());
    assert_eq!(over_tcp.expect("a response").status, 403, "without tokens only the control socket may write");
    assert_eq!(server.get("/v1/latency").status, 200);
    assert_eq!(server.get("/v1/latency?client=nobody").status, 400);
    assert_eq!(server.get("/v1/latency?clint=203.0.113.7").status, 400);
}

#[test]
fn files_are_imported() {
    let site = site();
    let server = site.start();
    let line = |region: &str, ms: f64| format!("{CLIENT},{region},{ms}\n");
    let table =
        format!("client,region,rtt-ms\n{}", [line("eu-west", 90.0), line("ap-south", 40.0)].concat().repeat(4_000));
    site.write("samples.csv", &table);
    let said = run(&site, &["import", site.path("samples.csv").to_str().expect("text")], 0);
    assert!(said.contains("8000 samples taken; 1 prefixes"), "{said}");
    wait_served(&server, ASIA);

    site.write("samples.json", &format!("{}\n", sample(CLIENT, "eu-west", 5.0)).repeat(200));
    let file = site.path("samples.json");
    let file = file.to_str().expect("text");
    let said: Value = serde_json::from_str(&run(&site, &["import", file, "--json"], 0)).expect("JSON");
    assert_eq!(said, json!({"taken": 200, "prefixes": 1}));
    wait_served(&server, EUROPE);

    site.write("samples.json", &format!("{}\nnonsense\n{{}}\n", sample(CLIENT, "eu-west", 5.0)));
    let said = run(&site, &["import", file], 2);
    assert!(said.contains("samples.json:2: 1 columns") && said.contains("samples.json:3: rtt-ms: missing"), "{said}");
    site.write("samples.json", &format!("\n\n{}", sample(CLIENT, "nowhere", 5.0)));
    let said = run(&site, &["import", file], 2);
    assert!(
        said.contains("line 3: there is no region \"nowhere\"") && said.contains("0 samples before them are"),
        "{said}"
    );
    run(&site, &["import", "/nonexistent"], 1);
    assert_eq!(server.metric("waymark_latency_samples_total{outcome=\"taken\"}"), Some(8_200.0));
}
