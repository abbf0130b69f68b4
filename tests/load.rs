//! Loads on the real binary (SPEC 5.4, 8.5): what backends tell in their responses, what agents say, what is reported over
//! the control socket.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use serde_json::{Value, json};

use crate::support::backend::{Backends, Behaviour, EXAMPLE};
use crate::support::server::Server;
use crate::support::site::Site;
use crate::support::{client, until_so};

const WWW: &str = "www.gslb.example.com";
const EUROPE: &str = "203.0.113.0/24";

/// The example, which goes by load.
fn by_load() -> Site {
    let site = Site::example();
    site.edit("map     = \"world\"\nbalance = \"weighted\"", "map     = \"world\"\nbalance = \"least-load\"");
    site.edit("weight = 3 }", "weight = 3, capacity = 800, max-load = 700 }");
    site
}

/// What the status says of an instance.
fn instance(server: &Server, name: &str) -> Value {
    let status = server.status();
    let instances = status["pools"][0]["instances"].as_array().expect("instances").clone();
    instances.into_iter().find(|one| one["name"] == name).expect("the instance")
}

/// Waits until all of several answers name this address alone.
#[track_caller]
fn wait_alone(server: &Server, expected: &str) {
    until_so(&format!("{expected} alone is answered"), || (0..12).all(|_| server.addresses(WWW, EUROPE) == [expected]));
}

/// A request over the control socket: status and body.
#[track_caller]
fn put(site: &Site, path: &str, body: &str) -> (u16, Value) {
    let mut stream = UnixStream::connect(site.path("state/control")).expect("the control socket");
    let length = body.len();
    let request = format!(
        "PUT {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    // Whoever finds a body too large answers before it is read, and closes.
    let _ = stream.write_all(request.as_bytes());
    let mut response = Vec::new();
    let _ = stream.read_to_end(&mut response);
    let response = String::from_utf8(response).expect("text");
    let (head, body) = response.split_once("\r\n\r\n").expect("a response");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    (status, serde_json::from_str(body).expect("JSON"))
}

#[test]
fn backends_tell_their_load_with_their_health() {
    for key in
        ["load-header = \"X-Load\"", "load-json = \"/load/now\"", "load-json = \"/load/now\"\nhttp-version = \"1.1\""]
    {
        let site = by_load();
        site.edit("path     = \"/health\"", &format!("path     = \"/health\"\n{key}"));
        let mut backends = Backends::example(site.backends);
        // Half of 800, and 20 %.
        backends.set("eu-1", Behaviour::Loaded(400));
        backends.set("eu-2", Behaviour::Loaded(20));
        let server = site.start();
        server.wait_health("eu-1", "up");
        wait_alone(&server, "127.0.11.2");
        assert_eq!(server.health("eu-1").1, "status 200, load 400");
        backends.set("eu-2", Behaviour::Loaded(60));
        wait_alone(&server, "127.0.11.1");
        // At its max-load it is out, though the other has more for what it can.
        backends.set("eu-1", Behaviour::Loaded(700));
        backends.set("eu-2", Behaviour::Loaded(500));
        wait_alone(&server, "127.0.11.2");
        let load = &instance(&server, "eu-1")["load"];
        let shown = json!([load["load"], load["capacity"], load["max_load"], load["at_max_load"], load["source"]]);
        assert_eq!(shown, json!([700.0, 800.0, 700.0, true, "check"]));
        // What is no load is no failure, and is said.
        until_so("us-1 has said something", || server.health("us-1").1.contains("load ignored: "));
        assert_eq!(server.health("us-1").0, "up");
        let text = client::text(&site.run(&["status"]));
        assert!(text.contains("LOAD") && text.contains("700 of 800 (at max-load)"), "{text}");
        assert_eq!(server.metric("waymark_instance_load_ratio{instance=\"web/eu-1\"}"), Some(0.875));
        assert!(server.metric("waymark_load_reports_ignored_total") > Some(0.0));
        assert!(server.metric("waymark_load_reports_total{source=\"check\"}") > Some(0.0));
        assert!(server.log().iter().all(|line| !line.contains("700")), "no line for a report");
    }
}

/// Agents of the example's instances, each with its own line.
struct Agents {
    lines: Vec<Arc<Mutex<String>>>,
    addresses: Vec<SocketAddr>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Agents {
    fn start(port: u16) -> Agents {
        let stop = Arc::new(AtomicBool::new(false));
        let mut agents = Agents { lines: Vec::new(), addresses: Vec::new(), stop, threads: Vec::new() };
        for (_, address) in EXAMPLE {
            let address = SocketAddr::new(address.parse().expect("an address"), port);
            let listener = TcpListener::bind(address).expect("the port is ours");
            let line = Arc::new(Mutex::new("up 100%\n".to_string()));
            let (said, stop) = (Arc::clone(&line), Arc::clone(&agents.stop));
            agents.threads.push(std::thread::spawn(move || {
                for stream in listener.incoming().map_while(Result::ok) {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let mut stream = stream;
                    // Whoever asks may have gone.
                    let _ = stream.write_all(said.lock().expect("no panic").as_bytes());
                }
            }));
            agents.lines.push(line);
            agents.addresses.push(address);
        }
        agents
    }

    fn say(&self, name: &str, line: &str) {
        let at = EXAMPLE.iter().position(|(known, _)| *known == name).expect("an agent");
        *self.lines[at].lock().expect("no panic") = format!("{line}\n");
    }
}

impl Drop for Agents {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for (address, thread) in self.addresses.iter().zip(self.threads.drain(..)) {
            // It is woken, and ends.
            let _ = std::net::TcpStream::connect(address);
            let _ = thread.join();
        }
    }
}

#[test]
fn agents_drain_weigh_and_fail_their_instances() {
    let site = by_load();
    site.edit("type     = \"http\"\npath     = \"/health\"\n", "type     = \"agent\"\n");
    // 40 % of one part is a small part of what there is with 90 % of three.
    site.edit("up-threshold = \"25%\"", "up-threshold = \"5%\"");
    let agents = Agents::start(site.backends);
    let server = site.start();
    server.wait_health("eu-1", "up");
    server.wait_health("eu-2", "up");
    agents.say("eu-1", "drain");
    wait_alone(&server, "127.0.11.2");
    let drained = instance(&server, "eu-1");
    assert_eq!((&drained["agent_percent"], &drained["addresses"][0]["verdict"]), (&json!(0), &json!("up")));
    server.wait_logged(&["instance/web/eu-1: drained by its agent"]);
    let text = client::text(&site.run(&["status"]));
    assert!(text.contains("drained by its agent"), "{text}");
    assert_eq!(server.metric("waymark_instance_drained_by_agent{instance=\"web/eu-1\"}"), Some(1.0));
    let history = client::text(&site.run(&["history", "instance/web/eu-1"]));
    assert!(history.contains("drained by its agent"), "{history}");
    // Idle ones: 10 % of load, and 60 %.
    agents.say("eu-1", "ready up 90%");
    agents.say("eu-2", "40%");
    wait_alone(&server, "127.0.11.1");
    server.wait_logged(&["instance/web/eu-1: no longer drained by its agent"]);
    let part = &instance(&server, "eu-2");
    assert_eq!((&part["agent_percent"], &part["load"]["ratio"]), (&json!(40), &json!(0.6)));
    agents.say("eu-1", "down#disk full");
    assert_eq!(server.wait_health("eu-1", "down"), "agent says \"down#disk full\"");
    wait_alone(&server, "127.0.11.2");
    agents.say("eu-2", "hello");
    assert_eq!(server.wait_health("eu-2", "down"), "the agent is not understood: \"hello\"");
    // All that is left says that it drains: no answer is empty for that.
    for (name, _) in EXAMPLE {
        agents.say(name, "up maint");
    }
    until_so("all are drained", || {
        EXAMPLE.iter().all(|(name, _)| instance(&server, name)["agent_percent"] == json!(0))
    });
    until_so("somebody is answered", || !server.addresses(WWW, EUROPE).is_empty());
}

#[test]
fn loads_are_reported_over_the_control_socket() {
    let site = by_load();
    site.edit("check        = \"web\"\n", "");
    let server = site.start();
    let report = |arguments: &[&str], code: i32| {
        let output = site.run(&[&["report"], arguments].concat());
        let text = client::text(&output);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {text}");
        text
    };
    let said = report(&["instance/web/eu-1", "--load", "600"], 0);
    assert!(said.contains("instance/web/eu-1: reported a load of 600"), "{said}");
    report(&["instance/web/eu-2", "--load", "12.5"], 0);
    wait_alone(&server, "127.0.11.2");
    let both = r#"[{"target": "instance/web/eu-1", "load": 0}, {"target": "instance/web/no", "load": 1}]"#;
    let (status, taken) = put(&site, "/v1/load", both);
    assert_eq!((status, taken), (200, json!({"taken": 1, "refused": ["there is no instance/web/no"]})));
    wait_alone(&server, "127.0.11.1");
    assert_eq!(put(&site, "/v1/load/instance/web/eu-2", r#"{"load": 99}"#).0, 200);
    server.reload();
    assert_eq!(instance(&server, "eu-2")["load"]["load"], json!(99.0), "they outlive a reload");
    wait_alone(&server, "127.0.11.1");
    assert_eq!(server.metric("waymark_load_reports_total{source=\"api\"}"), Some(4.0));

    for (arguments, said) in [
        (&["instance/web/eu-9", "--load", "1"][..], "there is no instance/web/eu-9"),
        (&["pool/web", "--load", "1"], "\"pool/web\" is not the name of an instance"),
        (&["instance/web/eu-1", "--load=-1"], "-1 is no load of instance/web/eu-1"),
        (&["instance/web/eu-1", "--load", "much"], "invalid float"),
        (&["instance/web/eu-1", "--load", "1", "--up"], "cannot be used with"),
        (&["instance/web/eu-1", "--load", "1", "--check", "web"], "cannot be used with"),
    ] {
        let text = report(arguments, 2);
        assert!(text.contains(said), "{said}: {text}");
    }
    let many = |count| format!("[{}]", vec![r#"{"target": "instance/web/eu-1", "load": 1}"#; count].join(","));
    for (path, body, status) in [
        ("/v1/load/instance/web/eu-1", r#"{"load": "1"}"#.to_string(), 400),
        ("/v1/load/instance/web/eu-1", r#"{"load": 1, "more": 1}"#.into(), 400),
        ("/v1/load/instance/web/eu-1", r#"{"load": -1}"#.into(), 400),
        ("/v1/load/instance/web/eu-9", r#"{"load": 1}"#.into(), 404),
        ("/v1/load/instance/web/eu-1", format!("{{\"load\": {}}}", " ".repeat(20_000)), 413),
        ("/v1/load", "{}".into(), 400),
        ("/v1/load", many(5_000), 200),
        ("/v1/load", many(5_001), 400),
        ("/v1/load", many(20_000), 413),
    ] {
        assert_eq!(put(&site, path, &body).0, status, "{path} {body:.60}");
    }
    for path in ["/v1/load/instance/web/eu-1", "/v1/load"] {
        let response = client::request(server.admin, "PUT", path, &server.admin.to_string());
        assert_eq!(response.expect("a response").status, 403, "{path}: only the control socket may write");
    }
}
