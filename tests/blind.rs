//! A node that is cut off goes on answering as before, says so, and takes dead backends out again once it sees the world
//! (SPEC 2.1, 2.8). The server runs in a network namespace, its backends in another; the cable between them is pulled.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use hickory_proto::rr::RecordType;
use serde_json::Value;

use crate::support::backend::Backends;
use crate::support::client;
use crate::support::net::Net;
use crate::support::server::Server;
use crate::support::site::Site;
use crate::support::{until, until_so};

const NAME: &str = "cut.gslb.example.com";

/// Everything that can be answered is, so that any change shows.
const CONFIG: &str = r#"
[server]
listen    = ["127.0.0.1:5300"]
state-dir = "state"

[admin]
listen = "127.0.0.1:8053"

[zones."gslb.example.com"]
file = "gslb.example.com.zone"

[regions.here]
[regions.there]

[defaults.check]
interval      = "1s"
timeout       = "700ms"
fall          = 3
rise          = 2
hold-down     = "0s"

[checks.web]
type = "http"
host = "address"

[checks.world]
type    = "http"
host    = "address"
port    = 18080
address = ["198.51.100.1", "2001:db8:ffff::1"]

[pools.web]
check = "web"

[pools.web.instances]
a1 = { region = "here", address = ["192.0.2.11", "2001:db8::11"], port = 18080 }
a2 = { region = "here", address = ["192.0.2.12", "2001:db8::12"], port = 18080 }
b1 = { region = "there", address = ["192.0.2.13", "2001:db8::13"], port = 18080 }

[services."cut.gslb.example.com"]
pool    = "web"
steer   = "any"
answers = 0
"#;

const BACKENDS: [(&str, &str); 8] = [
    ("a1", "192.0.2.11"),
    ("a1-v6", "2001:db8::11"),
    ("a2", "192.0.2.12"),
    ("a2-v6", "2001:db8::12"),
    ("b1", "192.0.2.13"),
    ("b1-v6", "2001:db8::13"),
    ("canary", "198.51.100.1"),
    ("canary-v6", "2001:db8:ffff::1"),
];

/// Addresses and routes of the node; an interface that was down has lost some.
const NODE: &str = "
    ip link set eth0 up
    ip addr replace 192.0.2.1/24 dev eth0
    ip addr replace 2001:db8::1/64 dev eth0 nodad
    ip route replace default via 192.0.2.254
    ip -6 route replace default via 2001:db8::fe
";
const WORLD: &str = "
    ip link set eth0 up
    for last in 11 12 13 254; do ip addr replace 192.0.2.$last/24 dev eth0; done
    for last in 11 12 13 fe; do ip addr replace 2001:db8::$last/64 dev eth0 nodad; done
    ip addr replace 198.51.100.1/32 dev lo
    ip addr replace 2001:db8:ffff::1/128 dev lo nodad
";

/// A server, its backends beyond a cable, and somebody who asks all the time.
struct Scene {
    node: Net,
    world: Net,
    server: Server,
    backends: Backends,
    watcher: Watcher,
    site: Site,
}

impl Scene {
    /// Everything up; `None` where namespaces are not permitted.
    fn new(canaries: bool) -> Option<Scene> {
        let (node, world) = (Net::new()?, Net::new()?);
        node.connect(&world);
        world.run(WORLD);
        node.run(NODE);
        let site = Site::example();
        let with = "state-dir = \"state\"\ncanaries  = [\"world\"]";
        site.write(
            "waymark.toml",
            &if canaries { CONFIG.replace("state-dir = \"state\"", with) } else { CONFIG.into() },
        );
        let port = site.backends;
        let backends = world.enter(|| Backends::start(port, &BACKENDS));
        let server = node.enter(|| site.start());
        let watcher = node.enter(|| {
            until_so("all are up", || verdicts(&server.status()).iter().all(|verdict| verdict == "up"));
            Watcher::start(server.dns)
        });
        Some(Scene { node, world, server, backends, watcher, site })
    }

    fn status(&self) -> Value {
        self.node.enter(|| self.server.status())
    }

    /// What last-good health says.
    fn on_disk(&self) -> String {
        std::fs::read_to_string(self.site.path("state/last-good")).unwrap_or_default()
    }

    /// Waits until the status says something.
    #[track_caller]
    fn wait(&self, what: &str, so: impl Fn(&Value) -> bool + Sync) {
        self.node.enter(|| until_so(what, || so(&self.server.status())));
    }

    /// Long enough that every check would have failed more often than it takes.
    fn stay_cut(&self) {
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(6) {
            let verdicts = verdicts(&self.status());
            assert!(verdicts.iter().all(|verdict| verdict == "up"), "{verdicts:?}");
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// The world is back: checks pass, nobody has noticed anything, and a backend that is dead is taken out.
    fn end(mut self) {
        self.wait("an end of blindness", |status| blind(status).is_empty());
        self.wait("checks that pass", |status| reasons(status).iter().all(|reason| reason == "status 200"));
        thread::sleep(Duration::from_secs(2));
        self.watcher.check();
        self.backends.kill(&["a1", "a1-v6"]);
        let gone = |rtype| !ask(self.server.dns, rtype).iter().any(|address| address.ends_with("11"));
        self.node.enter(|| {
            until("a1 is out", || (gone(RecordType::A) && gone(RecordType::AAAA)).then_some(()));
        });
    }
}

fn texts(status: &Value, key: &str, of_check: bool) -> Vec<String> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let instances = list(&status["pools"][0]["instances"]);
    let addresses: Vec<Value> = instances.iter().flat_map(|one| list(&one["addresses"])).collect();
    let checks: Vec<Value> = addresses.iter().flat_map(|one| list(&one["checks"])).collect();
    let from = if of_check { &checks } else { &addresses };
    from.iter().map(|one| one[key].as_str().map_or_else(|| one[key].to_string(), str::to_owned)).collect()
}

/// What each address is taken for.
fn verdicts(status: &Value) -> Vec<String> {
    texts(status, "verdict", false)
}

/// What each check saw last.
fn reasons(status: &Value) -> Vec<String> {
    texts(status, "reason", true)
}

/// Which checks could not look, by address: those over IPv4 and IPv6 take turns.
fn stale(status: &Value) -> Vec<bool> {
    texts(status, "stale", true).iter().map(|stale| stale == "true").collect()
}

/// Families over which nothing is seen.
fn blind(status: &Value) -> Vec<String> {
    let blind = status["blind"].as_array().expect("a list");
    blind.iter().map(|one| one["family"].as_str().expect("a family").to_owned()).collect()
}

fn ask(server: SocketAddr, rtype: RecordType) -> Vec<String> {
    let answer = client::try_udp(server, &client::query(NAME, rtype, "")).expect("an answer");
    let mut addresses: Vec<String> = answer.answers.iter().map(|record| record.data.to_string()).collect();
    addresses.sort();
    addresses
}

/// Asks for both families all the time, and keeps every answer that differs.
struct Watcher {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<BTreeSet<Vec<String>>>>,
}

impl Watcher {
    fn start(server: SocketAddr) -> Watcher {
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let watch = move || {
            let mut answers = BTreeSet::new();
            loop {
                answers.extend([RecordType::A, RecordType::AAAA].map(|rtype| ask(server, rtype)));
                if told.load(Ordering::Relaxed) {
                    return answers;
                }
                thread::sleep(Duration::from_millis(5));
            }
        };
        Watcher { stop, thread: Some(thread::spawn(watch)) }
    }

    /// Ends; there was one answer for each family, with all addresses.
    fn check(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let answers = self.thread.take().expect("not ended").join().expect("no panic");
        let all = [["192.0.2.11", "192.0.2.12", "192.0.2.13"], ["2001:db8::11", "2001:db8::12", "2001:db8::13"]];
        assert_eq!(answers, all.map(|family| family.map(String::from).to_vec()).into_iter().collect());
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

const BOTH: [&str; 2] = ["ipv4", "ipv6"];

/// Drops on the path what `which` matches.
fn drops(which: &str) -> String {
    format!(
        "nft add table inet cut
         nft 'add chain inet cut way {{ type filter hook input priority 0; }}'
         nft add rule inet cut way iifname eth0 {which} drop"
    )
}

#[test]
fn a_link_that_is_down_with_canaries() {
    let Some(scene) = Scene::new(true) else { return };
    scene.node.run("ip link set eth0 down");
    scene.wait("blindness", |status| blind(status) == BOTH);
    scene.stay_cut();
    scene.server.wait_logged(&["ERROR", "this node sees nothing of the world over IPv4", "verdicts are frozen"]);
    let metrics = [r#"waymark_blind{family="ipv4"}"#, r#"waymark_blind{family="ipv6"}"#];
    assert_eq!(scene.node.enter(|| metrics.map(|sample| scene.server.metric(sample))), [Some(1.0); 2]);
    scene.node.run(NODE);
    scene.server.wait_logged(&["this node sees the world over IPv4 again"]);
    scene.end();
}

#[test]
fn packets_that_vanish_on_the_path_with_canaries() {
    let Some(scene) = Scene::new(true) else { return };
    scene.world.run(&drops(""));
    scene.wait("blindness", |status| blind(status) == BOTH);
    scene.stay_cut();
    scene.world.run("nft delete table inet cut");
    scene.end();
}

#[test]
fn a_node_that_starts_blind_goes_by_what_it_knew() {
    let Some(mut scene) = Scene::new(true) else { return };
    scene.watcher.check();
    until_so("health on disk", || scene.on_disk().matches("\"up\":true").count() == BACKENDS.len());
    scene.server.signal("KILL");
    scene.server.wait_end();
    scene.world.run(&drops(""));
    scene.server = scene.node.enter(|| scene.site.start());
    scene.watcher = scene.node.enter(|| Watcher::start(scene.server.dns));
    scene.wait("blindness", |status| blind(status) == BOTH);
    scene.stay_cut();
    scene.world.run("nft delete table inet cut");
    scene.end();
}

#[test]
fn a_link_that_is_down_without_canaries() {
    let Some(scene) = Scene::new(false) else { return };
    scene.node.run("ip link set eth0 down");
    scene.wait("stale verdicts", |status| stale(status).iter().all(|&stale| stale));
    scene.stay_cut();
    scene.node.run(NODE);
    scene.end();
}

#[test]
fn a_cable_that_is_pulled_without_canaries() {
    let Some(scene) = Scene::new(false) else { return };
    scene.world.run("ip link set eth0 down");
    scene.wait("no link", |status| reasons(status).iter().all(|reason| reason == "no link on eth0"));
    scene.stay_cut();
    scene.server.wait_logged(&["ERROR", "this node cannot look at", "over IPv4", "(no link on eth0)"]);
    scene.world.run(WORLD);
    scene.server.wait_logged(&["this node can look at most targets over IPv4 again"]);
    scene.end();
}

#[test]
fn ipv6_that_is_lost_with_and_without_canaries() {
    for canaries in [false, true] {
        let Some(scene) = Scene::new(canaries) else { return };
        scene.node.run("ip -6 addr flush dev eth0");
        scene.wait("stale verdicts over IPv6", |status| stale(status) == [false, true].repeat(3));
        if canaries {
            scene.wait("blindness over IPv6", |status| blind(status) == ["ipv6"]);
        }
        scene.stay_cut();
        scene.node.run(NODE);
        scene.end();
    }
}

#[test]
fn ipv6_that_vanishes_on_the_path_with_canaries() {
    let Some(scene) = Scene::new(true) else { return };
    scene.world.run(&drops("meta nfproto ipv6"));
    scene.wait("blindness over IPv6", |status| blind(status) == ["ipv6"]);
    scene.stay_cut();
    assert_eq!(blind(&scene.status()), ["ipv6"]);
    scene.world.run("nft delete table inet cut");
    scene.end();
}
