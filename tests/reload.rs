//! Life and death of the process: reload while it is asked (SPEC 8.3), refused configurations (1.2), signals (8.8), what
//! keeps it from starting.

use std::fs;
use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::RecordType;

use crate::support::backend::{Backends, Behaviour, EXAMPLE};
use crate::support::client;
use crate::support::server::Server;
use crate::support::site::Site;
use crate::support::{PATIENCE, say, until_so};

const WWW: &str = "www.gslb.example.com";
const DR: &str = "dr.gslb.example.com";
const STATIC: &str = "static.gslb.example.com";

/// Somebody who asks again and again; every query must be answered, and rightly.
struct Asking {
    enough: Arc<AtomicBool>,
    thread: JoinHandle<usize>,
}

impl Asking {
    fn start(server: SocketAddr, name: &'static str, is_right: fn(&Message) -> bool) -> Asking {
        let enough: Arc<AtomicBool> = Arc::default();
        let ended = Arc::clone(&enough);
        let thread = thread::spawn(move || {
            let mut asked = 0;
            while !ended.load(Ordering::Relaxed) {
                let answer = client::udp(server, &client::query(name, RecordType::A, ""));
                assert!(is_right(&answer), "{answer}");
                asked += 1;
            }
            asked
        });
        Asking { enough, thread }
    }

    /// How many answers it got.
    fn end(self) -> usize {
        self.enough.store(true, Ordering::Relaxed);
        self.thread.join().expect("every query was answered rightly")
    }
}

#[test]
fn a_good_configuration_is_served_without_a_lost_query_or_forgotten_health() {
    let site = Site::patient();
    let mut backends = Backends::example(site.backends);
    let server = site.start();
    backends.kill(&["us-2"]);
    server.wait_health("us-2", "down");
    until_so("one address left", || server.addresses(DR, "") == ["127.0.12.1"]);
    let asking = Asking::start(server.dns, DR, |answer| client::addresses(answer) == ["127.0.12.1"]);

    // The log is written beside the answers, and may be behind them.
    server.wait_logged(&["instance/web/us-2", "up -> down"]);
    let logged = server.log().len();
    for ttl in 10..20 {
        let before = format!("ttl     = \"{}s\"", if ttl == 10 { 5 } else { ttl - 1 });
        site.edit(&before, &format!("ttl     = \"{ttl}s\""));
        site.edit_file("gslb.example.com.zone", "192.0.2.", "192.0.3.");
        site.edit_file("gslb.example.com.zone", "192.0.3.", "192.0.2.");
        server.reload();
        assert_eq!(client::ttl(&server.ask(DR, RecordType::A, "")), ttl);
        assert_eq!(server.health("us-2").0, "down");
        assert_eq!(server.health("us-1").0, "up");
    }
    site.edit_file("gslb.example.com.zone", "192.0.2.2", "192.0.2.3");
    site.append("[services.\"new.gslb.example.com\"]\npool = \"web\"\n");
    site.edit("path     = \"/health\"", "path     = \"/healthz\"");
    server.reload();
    assert_eq!(client::records(&server.ask(STATIC, RecordType::A, "")), ["A 192.0.2.1", "A 192.0.2.3"]);
    assert_eq!(server.addresses("new.gslb.example.com", "").len(), 1);

    say(&format!("measured: {} queries answered during 11 reloads", asking.end()));
    let lines = &server.log()[logged..];
    assert!(!lines.iter().any(|line| line.contains(" -> ") || line.contains("all instances down")), "{lines:?}");
    assert_eq!(server.metric("waymark_reloads_total"), Some(11.0));
}

#[test]
fn serials_that_go_back_are_warned_of() {
    let site = Site::unchecked();
    let server = site.start();
    let zone = fs::read_to_string(site.path("gslb.example.com.zone")).expect("text");
    let serial: u32 = zone.split_once("hostmaster ").map(|(_, rest)| rest).and_then(number).expect("a serial");
    let with = |from: &str, serial: u32| zone.replace(from, &serial.to_string());
    let before = serial.to_string();
    let changed = |text: String| text.replace("192.0.2.2", "192.0.2.3");
    let back = format!("the serial of the SOA went back from {} to {serial} (RFC 1982)", serial + 1);
    let still = format!("the records have changed, the serial of the SOA is still {serial}");
    for (text, expected) in [
        (with(&before, serial + 1), None),
        (with(&before, serial), Some(back)),
        (with(&before, serial), None),
        (changed(with(&before, serial)), Some(still)),
        (with(&before, serial + 2), None),
    ] {
        site.write("gslb.example.com.zone", &text);
        server.reload();
        let warnings = server.status()["warnings"].clone();
        let Some(expected) = expected else {
            assert_eq!(warnings.as_array().map(Vec::len), Some(0), "{warnings}");
            continue;
        };
        let told = warnings[0].as_str().expect("a warning");
        assert!(told.starts_with("zone gslb.example.com: ") && told.contains(&expected), "{told}");
        server.wait_logged(&["WARN", &expected]);
        let shown = client::text(&site.run(&["status"]));
        assert!(shown.contains("The last reload is served, but:") && shown.contains(&expected), "{shown}");
        until_so("it is in the history", || client::text(&site.run(&["history"])).contains(&expected));
    }
    assert_eq!(server.logged(&["secondaries will not notice"]).len(), 2);
}

/// The number that a text begins with.
fn number(text: &str) -> Option<u32> {
    text.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

#[test]
fn a_new_instance_gets_nothing_before_its_first_pass() {
    let site = Site::example();
    let mut backends = Backends::start(site.backends, &[&EXAMPLE[..], &[("us-3", "127.0.12.3")]].concat());
    backends.kill(&["us-3"]);
    site.edit("hold-down = \"0s\"", "hold-down = \"0s\"\nwindow = \"off\"");
    let server = site.start();
    let both = |answer: &Message| client::addresses(answer) == ["127.0.12.1", "127.0.12.2"];
    let asking = Asking::start(server.dns, DR, both);
    let last = "us-2 = { region = \"us-east\",  address = \"127.0.12.2\", port = 18080 }";
    let last = last.replace("18080", &site.backends.to_string());
    site.edit(&last, &format!("{last}\n{}", last.replace("us-2", "us-3").replace("12.2", "12.3")));
    server.reload();
    server.wait_health("us-3", "down");
    asking.end();
    backends.revive(&["us-3"]);
    until_so("it is answered", || server.addresses(DR, "").len() == 3);
}

#[test]
fn a_bad_configuration_changes_nothing_and_is_shown() {
    let site = Site::unchecked();
    let server = site.start();
    let asking = Asking::start(server.dns, STATIC, |answer| answer.answers.len() == 2);
    let configuration = fs::read_to_string(site.configuration()).expect("text");
    let cut = configuration.find(".gslb.example.com\"]\npool").expect("a service");
    let wrong_test =
        "\n[[tests]]\nname = \"www.gslb.example.com\"\nclient = \"192.0.2.0/24\"\nexpect-region = \"ap-south\"\n";
    let rows = [
        ("an unknown key", configuration.replace("balance = \"sticky\"", "balence = \"sticky\""), "balence"),
        ("an unknown pool", configuration.replace("pool    = \"web\"", "pool    = \"wep\""), "wep"),
        ("no TOML", configuration.replace("[regions.us-east]", "[regions.us-east"), "[regions.us-east"),
        ("cut while it is written", configuration[..cut].to_owned(), "waymark.toml:"),
        ("a zone that is not there", configuration.replace("example.com.zone", "example.org.zone"), "example.org.zone"),
        ("a test that fails", configuration.clone() + wrong_test, "expected region ap-south, got us-east"),
    ];
    let places = regex::Regex::new(r"waymark\.toml:\d+:\d+").expect("an expression");
    for (number, (what, text, shown)) in rows.iter().enumerate() {
        site.write("waymark.toml", text);
        server.signal("HUP");
        until_so(what, || server.logged(&["reload refused"]).len() == number + 1);
        until_so("the status shows it", || server.status()["problems"].to_string().contains(shown));
        let problems = server.status()["problems"].to_string();
        assert!(places.is_match(&problems), "{what}: {problems}");
        assert!(server.log().iter().any(|line| places.is_match(line)), "{what}");
        let status = site.run(&["status"]);
        let status_text = client::text(&status);
        assert!(status.status.success() && status_text.contains("last reload was refused"), "{what}: {status_text}");
        assert_eq!(server.metric("waymark_configuration_refused"), Some(1.0), "{what}");
        assert_eq!(client::ttl(&server.ask(WWW, RecordType::A, "")), 5, "{what}");
    }
    assert_eq!(server.metric("waymark_reloads_total"), Some(0.0));
    site.write("waymark.toml", &configuration);
    server.reload();
    assert_eq!(server.status()["problems"].as_array().map(Vec::len), Some(0));
    assert_eq!(server.metric("waymark_configuration_refused"), Some(0.0));
    asking.end();
}

/// How many entries a folder of `/proc` has for a server.
fn entries(server: &Server, folder: &str) -> usize {
    fs::read_dir(format!("/proc/{}/{folder}", server.id())).expect("a process").count()
}

/// Its resident memory in kB.
fn memory(server: &Server) -> usize {
    let status = fs::read_to_string(format!("/proc/{}/status", server.id())).expect("a process");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

#[test]
fn reloads_leave_nothing_behind() {
    let site = Site::unchecked();
    let server = site.start();
    (0..20).for_each(|_| server.reload());
    let (descriptors, threads, before) = (entries(&server, "fd"), entries(&server, "task"), memory(&server));
    (0..100).for_each(|_| server.reload());
    until_so("as many descriptors", || entries(&server, "fd") <= descriptors);
    until_so("as many threads", || entries(&server, "task") <= threads);
    let after = memory(&server);
    say(&format!("measured: {before} kB before and {after} kB after 100 reloads"));
    assert!(after < before + 8192, "{before} kB, then {after} kB");
}

#[test]
fn a_log_that_nobody_reads_stops_nothing() {
    let site = Site::patient();
    let mut backends = Backends::example(site.backends);
    let mut server = site.spawn_unread();
    server.wait_ready();
    let good = fs::read_to_string(site.configuration()).expect("text");
    // Each refusal writes more than a pipe holds.
    let problems: String = (0..500).map(|number| format!("\n[regions.r{number}]\nnonsense = true\n")).collect();
    for round in 0..3 {
        let marker = format!("round-{round}");
        site.write("waymark.toml", &format!("{good}{problems}\n[regions.last]\n{marker} = true\n"));
        server.signal("HUP");
        until_so("the refusal", || server.status()["problems"].to_string().contains(&marker));
    }
    backends.kill(&["us-1"]);
    until_so("checks go on", || server.addresses(DR, "") == ["127.0.12.2"]);
    site.write("waymark.toml", &good.replace("ttl     = \"5s\"", "ttl     = \"6s\""));
    server.reload();
    assert_eq!(client::ttl(&server.ask(DR, RecordType::A, "")), 6);
    server.signal("TERM");
    let (status, took) = server.wait_end();
    say(&format!("measured: SIGTERM ended a server with a blocked log after {took:?}"));
    assert_eq!(status.code(), Some(0));
}

#[test]
fn signals_end_it_after_the_answers() {
    for signal in ["TERM", "INT"] {
        let site = Site::unchecked();
        let mut server = site.start();
        let queries: Vec<Message> = (0..50).map(|_| client::query(STATIC, RecordType::A, "")).collect();
        let mut stream = TcpStream::connect(server.dns).expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream.write_all(&queries.iter().flat_map(client::framed).collect::<Vec<u8>>()).expect("sent");
        let first = client::read_framed(&mut stream).expect("an answer");
        server.signal(signal);
        let began = Instant::now();
        let mut answers = vec![first];
        answers.extend(std::iter::from_fn(|| client::read_framed(&mut stream)));
        for answer in &answers {
            assert_eq!(Message::from_vec(answer).expect("well-formed").answers.len(), 2);
        }
        let (status, _) = server.wait_end();
        say(&format!("measured: SIG{signal} ended it after {:?}", began.elapsed()));
        assert_eq!(status.code(), Some(0), "{signal}");
        assert!(!site.path("state/control").exists());
        assert!(server.logged(&["ending: SIG", signal]).len() == 1, "{:?}", server.log());
    }
}

#[test]
fn signals_before_the_first_answer_are_not_lost() {
    let site = Site::waiting();
    let mut backends = Backends::example(site.backends);
    backends.set("eu-1", Behaviour::Hang);
    let is_alive =
        |server: &Server| client::try_get(server.admin, "/healthz").is_some_and(|health| health.status == 200);

    let mut server = site.spawn();
    until_so("/healthz", || is_alive(&server));
    server.signal("HUP");
    server.signal("TERM");
    assert_eq!(server.wait_end().0.code(), Some(0));
    assert!(!site.path("state/control").exists());

    let mut server = site.spawn();
    until_so("/healthz", || is_alive(&server));
    site.edit("ttl     = \"5s\"", "ttl     = \"6s\"");
    server.signal("HUP");
    backends.kill(&["eu-1"]);
    server.wait_ready();
    until_so("the reload", || client::ttl(&server.ask(DR, RecordType::A, "")) == 6);
}

#[test]
fn a_killed_server_starts_again_at_once() {
    let site = Site::unchecked();
    for _ in 0..5 {
        let mut server = site.start();
        assert_eq!(server.addresses(DR, "").len(), 2);
        server.signal("KILL");
        server.wait_end();
    }
    let server = site.start();
    let status = client::text(&site.run(&["status"]));
    assert!(status.contains("instance/web/eu-1"), "{status}");
    drop(server);
}

/// The server is expected to end by itself; its exit code and what it said.
#[track_caller]
fn refused(site: &Site) -> (Option<i32>, String) {
    let mut server = site.spawn();
    let (status, _) = server.wait_end();
    (status.code(), server.log().join("\n"))
}

#[test]
fn a_second_server_on_the_same_state_is_refused() {
    let (one, two) = (Site::unchecked(), Site::unchecked());
    let server = one.start();
    two.edit("state-dir = \"state\"", &format!("state-dir = {:?}", one.path("state")));
    let (code, said) = refused(&two);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains(&format!("process {}", server.id())), "{said}");
    assert_eq!(server.addresses(DR, "").len(), 2, "the first one is unmoved");
    let status = client::text(&one.run(&["status"]));
    assert!(status.contains("instance/web/eu-1"), "its control socket is still there: {status}");
}

#[test]
fn a_port_in_use_is_said() {
    type Hold = fn(&Site) -> Box<dyn std::any::Any>;
    let rows: [(&str, Hold, &str); 4] = [
        ("UDP", |site| Box::new(UdpSocket::bind(site.dns()).expect("free")), "over UDP"),
        ("TCP", |site| Box::new(TcpListener::bind(site.dns()).expect("free")), "over TCP"),
        ("IPv6", |site| Box::new(UdpSocket::bind(site.dns6()).expect("free")), "[::1]:"),
        ("the API", |site| Box::new(TcpListener::bind(site.admin()).expect("free")), "for the API"),
    ];
    for (what, hold, shown) in rows {
        let site = Site::unchecked();
        let held = hold(&site);
        let (code, said) = refused(&site);
        assert_eq!(code, Some(1), "{what}: {said}");
        assert!(said.contains("cannot listen on") && said.contains(shown), "{what}: {said}");
        drop(held);
        drop(site.start());
    }
}

#[test]
fn a_broken_configuration_starts_nothing() {
    let site = Site::example();
    site.edit("steer   = \"geo\"", "stear   = \"geo\"");
    site.edit("timeout  = \"500ms\"", "timeout  = \"5 apples\"");
    let (code, said) = refused(&site);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("stear") && said.contains("5 apples"), "{said}");
    assert!(regex::Regex::new(r"waymark\.toml:\d+:\d+").expect("an expression").is_match(&said), "{said}");
    assert!(!site.path("state").exists());
}

#[test]
fn a_folder_that_cannot_be_written_costs_no_answer() {
    let site = Site::unchecked();
    site.edit("state-dir = \"state\"", "state-dir = \"networks.toml/state\"");
    let server: Server = site.start();
    assert_eq!(server.ask(STATIC, RecordType::A, "").response_code, ResponseCode::NoError);
    server.wait_logged(&["ERROR", "networks.toml/state"]);
    assert_eq!(site.run(&["status"]).status.code(), Some(1));
}
