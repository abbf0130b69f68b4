//! The rate limit: what is sent instead of an answer, what is exempt, that spoofed queries gain nothing; and a flood that
//! the real binary gets from one network, while another loses nothing.

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use hickory_proto::op::Message;
use waymark::metrics::{AnswerCounters, Counter};

use crate::support::node::Node;
use crate::support::query::Ask;
use crate::support::site::Site;

const SECRET: &str = "e5e973e5a6b2a43f48e7dc849e37bfcf";
const COOKIE: u16 = 10;
const CLIENT_COOKIE: [u8; 8] = [7; 8];
/// Where the flood seems to come from.
const VICTIM: &str = "203.0.113.9";

const CONFIGURATION: &str = r#"
[zones."example.com"]
file = "zone"
[cookies]
secret-file = "secrets"
[regions.eu]
[pools.web.instances]
one = { region = "eu", address = "192.0.2.11" }
[services."www.example.com"]
pool = "web"
[rate-limit]
enabled = true
"#;

fn node_with(keys: &str) -> Node {
    let text = format!("\"{}\"", "x".repeat(200));
    let glue: String = (0..8).map(|at| format!("cut NS ns{at}.cut\nns{at}.cut A 192.0.2.{at}\n")).collect();
    let zone = format!(
        "$TTL 300\n@ SOA ns hostmaster 1 2 3 4 60\n@ NS ns\nns A 127.0.0.1\ntext TXT {text} {text} {text} {text} {text}\n\
         {glue}*.wild A 192.0.2.1\nd DNAME wild\nalias CNAME text\n"
    );
    let files = [("waymark.toml", &*(CONFIGURATION.to_owned() + keys)), ("zone", &zone), ("secrets", SECRET)];
    Node::of(&files)
}

fn ask(name: &str, qtype: u16) -> Ask {
    Ask::new(&format!("{name}.example.com"), qtype).from(VICTIM)
}

/// Asks until the rate is used up.
fn exhaust(node: &mut Node, ask: &Ask) {
    for _ in 0..200 {
        assert!(!answer(node, ask).is_empty());
    }
}

fn answer(node: &mut Node, ask: &Ask) -> Vec<u8> {
    node.respond(&ask.encode(), ask.source, ask.transport).to_vec()
}

fn count(node: &Node, counter: fn(&AnswerCounters) -> &Counter) -> u64 {
    counter(&node.worker.counters.answering).get()
}

#[test]
fn what_is_beyond_the_rate_is_dropped_or_truncated() {
    let mut node = node_with("");
    for (name, qtype, answers) in [("text", 16, 1), ("www", 1, 1), ("none", 1, 0), ("x.wild", 1, 1), ("alias", 16, 2)] {
        let ask = ask(name, qtype);
        exhaust(&mut node, &ask);
        let [dropped, truncated] = [answer(&mut node, &ask), answer(&mut node, &ask)];
        assert!(dropped.is_empty(), "{name}");
        let message = Message::from_vec(&truncated).expect("well-formed");
        assert!(message.metadata.truncation && message.metadata.authoritative, "{name}");
        assert_eq!((message.metadata.response_code.low(), message.answers.len(), message.authorities.len()), (0, 0, 0));
        assert!(message.edns.is_some() && message.queries.len() == 1, "{name}");
        assert!(truncated.len() <= ask.encode().len(), "{name}");
        // By TCP it is there.
        let whole = node.ask(&ask.clone().tcp());
        assert_eq!((whole.metadata.truncation, whole.answers.len()), (false, answers), "{name}");
        // A neighbour shares the count, others do not.
        assert!(answer(&mut node, &ask.clone().from("203.0.113.200")).is_empty(), "{name}");
        assert!(!node.ask(&ask.from("203.0.112.9")).metadata.truncation, "{name}");
    }
    assert_eq!((count(&node, |all| &all.limit_dropped), count(&node, |all| &all.limit_slipped)), (10, 5));
    assert_eq!(count(&node, |all| &all.limit_began), 5);
    node.worker.moment.now = node.worker.moment.now.plus(Duration::from_secs(1));
    exhaust(&mut node, &ask("text", 16));
}

/// Names below a wildcard or a DNAME, and names that do not exist, are counted together; others by themselves.
#[test]
fn random_names_are_one_flood() {
    let mut node = node_with("");
    for (suffix, qtype) in [("wild", 1), ("wild", 16), ("d", 1), ("ns", 1), ("cut", 1)] {
        let of = |number: usize| ask(&format!("r{number}.{suffix}"), qtype);
        let passed = (0..1000).filter(|&number| answer(&mut node, &of(number)).len() > of(number).encode().len());
        let passed = passed.count();
        let expected = if (suffix, qtype) == ("wild", 16) { 0 } else { 200 };
        assert_eq!(passed, expected, "{suffix} {qtype}");
    }
    for name in ["text", "www", "ns", "alias"] {
        assert!(!answer(&mut node, &ask(name, 16)).is_empty(), "{name}");
    }
}

#[test]
fn errors_slip_as_they_are() {
    let mut node = node_with("");
    let refused = Ask::new("www.example.org", 1).from(VICTIM);
    exhaust(&mut node, &refused);
    let notimp = Ask { flags: 0x2800, ..ask("www", 1) }.plain();
    assert!(answer(&mut node, &notimp).is_empty());
    assert_eq!(node.ask(&refused).metadata.response_code.low(), 5);
    assert!(answer(&mut node, &refused).is_empty());
}

/// A client that has a cookie learns what exempts it, and is exempt from then on.
#[test]
fn cookies() {
    for (require, rcode) in [("limited", 23), ("never", 0), ("always", 23)] {
        let mut node = node_with("");
        let mut settings = waymark::snapshot::Settings::clone(&node.snapshot.settings);
        settings.cookies.require = match require {
            "limited" => waymark::dns::cookie::Require::Limited,
            "never" => waymark::dns::cookie::Require::Never,
            _ => waymark::dns::cookie::Require::Always,
        };
        node.snapshot.settings = settings.into();
        exhaust(&mut node, &ask("text", 16));
        let asked = ask("text", 16).option(COOKIE, CLIENT_COOKIE.to_vec());
        let answers = [answer(&mut node, &asked), answer(&mut node, &asked)];
        let got = answers.iter().rfind(|answer| !answer.is_empty()).expect("an answer");
        let message = Message::from_vec(got).expect("well-formed");
        let high = u16::from(message.edns.as_ref().expect("EDNS").rcode_high()) << 4;
        assert_eq!(high | u16::from(message.metadata.response_code.low()), rcode, "{require}");
        assert_eq!((message.metadata.truncation, message.answers.len()), (require == "never", 0));
        assert!(got.len() <= asked.encode().len() + 16, "{require}");
        // The cookie stands at the end.
        let cookie = got[got.len() - 24..].to_vec();
        assert_eq!(cookie[..12], [7, 7, 7, 7, 7, 7, 7, 7, 1, 0, 0, 0]);
        for _ in 0..1000 {
            let whole = answer(&mut node, &ask("text", 16).option(COOKIE, cookie.clone()));
            assert!(whole.len() > 1000, "{require}");
        }
        assert_eq!(count(&node, |all| &all.limit_exempt_cookie), 1000);
        assert!(answer(&mut node, &ask("text", 16)).len() < 100, "others are limited still");
    }
}

#[test]
fn the_exempt_and_dry_runs() {
    for (keys, counter, counted) in [
        ("dry-run = true", (|all| &all.limit_dry_run) as fn(&AnswerCounters) -> &Counter, 800),
        ("exempt = [\"203.0.113.0/24\"]", |all| &all.limit_exempt_prefix, 1000),
    ] {
        let mut node = node_with(keys);
        for _ in 0..1000 {
            assert!(answer(&mut node, &ask("text", 16)).len() > 1000, "{keys}");
        }
        assert_eq!(count(&node, counter), counted, "{keys}");
    }
    let mut off = node_with("");
    off.snapshot.limiter = None;
    assert!((0..1000).all(|_| answer(&mut off, &ask("text", 16)).len() > 1000));
}

/// Whoever sends in somebody's name sends more than a third of what hits him, whatever is asked.
#[test]
fn spoofed_queries_gain_nothing() {
    let cookie = |ask: Ask| ask.option(COOKIE, CLIENT_COOKIE.to_vec());
    for asks in [
        vec![ask("text", 16)],
        vec![ask("text", 255)],
        vec![ask("text", 16).plain()],
        vec![ask("a.cut", 1)],
        vec![ask("alias", 16), ask("none", 1), ask("www", 28), ask("ns", 6)],
        (0..50).map(|number| ask(&format!("r{number}"), 1)).collect(),
        vec![cookie(ask("text", 16))],
        vec![cookie(ask("a.cut", 1))],
        vec![Ask::new("www.example.org", 1).from(VICTIM), Ask { class: 3, ..Ask::new("version.bind", 16) }],
    ] {
        let mut node = node_with("");
        let queries: Vec<(Vec<u8>, &Ask)> = asks.iter().map(|ask| (ask.encode(), ask)).collect();
        let (mut octets_in, mut octets_out) = (0, 0);
        // 10 000 a second, for two seconds.
        for turn in 0..2000 {
            node.worker.moment.now = node.worker.moment.now.plus(Duration::from_millis(1));
            for at in 0..10 {
                let (query, ask) = &queries[(turn * 10 + at) % queries.len()];
                octets_in += query.len();
                octets_out += node.respond(query, ask.source, ask.transport).len();
            }
        }
        assert!(octets_out < 3 * octets_in, "{octets_out} octets for {octets_in}: {:?}", asks[0]);
    }
}

/// Clients of the real binary, each with sockets in a /24 of loopback.
struct Flood {
    sockets: Vec<UdpSocket>,
    query: Vec<u8>,
    sent: u64,
    whole: u64,
    truncated: u64,
}

impl Flood {
    fn new(network: u8, server: SocketAddr) -> Flood {
        let socket = |host: u8| {
            let socket = UdpSocket::bind(SocketAddr::from(([127, 0, network, host], 0))).expect("a socket");
            socket.connect(server).expect("a route");
            socket.set_nonblocking(true).expect("an option");
            socket
        };
        let query = Ask::new("static.gslb.example.com", 1).encode();
        Flood { sockets: (1..=8).map(socket).collect(), query, sent: 0, whole: 0, truncated: 0 }
    }

    fn burst(&mut self, count: usize) {
        for at in 0..count {
            self.sockets[at % self.sockets.len()].send(&self.query).expect("sent");
            self.sent += 1;
        }
    }

    /// Takes the answers that are there.
    fn take(&mut self) {
        let mut buffer = [0; 1500];
        for socket in &self.sockets {
            loop {
                match socket.recv(&mut buffer) {
                    Ok(_) if buffer[2] & 2 != 0 => self.truncated += 1,
                    Ok(_) => self.whole += 1,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => panic!("{error}"),
                }
            }
        }
    }
}

#[test]
fn a_flood_from_one_network_costs_others_nothing() {
    const RATE: u64 = 300;
    let site = Site::unchecked();
    site.edit("[admin]", "workers = 1\n[admin]");
    site.append(&format!("\n[rate-limit]\nenabled = true\nanswers-per-second = {RATE}\n"));
    let server = site.start();
    let mut flood = Flood::new(5, server.dns);
    let honest = UdpSocket::bind("127.0.77.1:0").expect("a socket");
    honest.connect(server.dns).expect("a route");
    honest.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
    let began = Instant::now();
    for _ in 0..200 {
        flood.burst(64);
        // One thread answers in order: with this answer the burst is done, and no buffer ever overflows.
        honest.send(&flood.query).expect("sent");
        let mut buffer = [0; 1500];
        honest.recv(&mut buffer).expect("an answer");
        assert_eq!((buffer[2] & 2, buffer[7]), (0, 2), "whole, with both addresses");
        flood.take();
    }
    let took = began.elapsed();
    flood.take();
    let most = RATE + (took.as_secs_f64() * RATE as f64).ceil() as u64 + 1;
    assert!((RATE..=most).contains(&flood.whole), "{} of {} in {took:?}", flood.whole, flood.sent);
    let withheld = flood.sent - flood.whole;
    assert!(flood.truncated.abs_diff(withheld / 2) <= 1, "{} of {withheld}", flood.truncated);

    let metric = |outcome: &str| {
        let sample = format!("waymark_rate_limited_answers_total{{outcome=\"{outcome}\"}}");
        server.metric(&sample).expect("a metric") as u64
    };
    assert_eq!((metric("truncated"), metric("dropped")), (flood.truncated, withheld - flood.truncated));
    let line = server.wait_logged(&["rate limit: 127.0.5.0/24", "300 answers a second (positive)", "is limited"]);
    assert!(!line.is_empty());
    assert!(server.logged(&["rate limit"]).len() as u64 <= took.as_secs() + 2);

    // A reload that changes nothing of it forgives nothing; switched off, everything is answered.
    for _ in 0..10 {
        flood.burst(64);
        honest.send(&flood.query).expect("sent");
        honest.recv(&mut [0; 1500]).expect("an answer");
        flood.take();
    }
    let (whole, spent) = (flood.whole, Instant::now());
    server.reload();
    flood.burst(64);
    honest.send(&flood.query).expect("sent");
    honest.recv(&mut [0; 1500]).expect("an answer");
    flood.take();
    let refilled = (spent.elapsed().as_secs_f64() * RATE as f64).ceil() as u64 + 1;
    assert!(flood.whole - whole <= refilled.min(64), "{} more after a reload, {refilled} at most", flood.whole - whole);
    site.edit("enabled = true", "enabled = false");
    server.reload();
    let before = (metric("truncated"), metric("dropped"));
    let off = Flood::new(5, server.dns);
    for socket in &off.sockets {
        socket.set_nonblocking(false).expect("an option");
        socket.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
        for _ in 0..100 {
            socket.send(&off.query).expect("sent");
            let mut buffer = [0; 1500];
            socket.recv(&mut buffer).expect("an answer");
            assert_eq!(buffer[2] & 2, 0);
        }
    }
    assert_eq!((metric("truncated"), metric("dropped")), before);
}
