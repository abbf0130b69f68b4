//! Transports of the real binary: wildcard addresses, IPv6, pipelined TCP, truncation and what follows it (SPEC 7.4, 7.6).

use std::fmt::Write;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket};
use std::thread;

use hickory_proto::op::Message;
use hickory_proto::rr::RecordType;

use crate::support::site::Site;
use crate::support::{client, has, until_so};

const STATIC: &str = "static.gslb.example.com";
/// Addresses at one name, many enough for no datagram.
const MANY: usize = 200;

/// The example on wildcard addresses, with two workers.
fn everywhere() -> Site {
    everywhere_with("")
}

/// The same with more `[server]` keys.
fn everywhere_with(keys: &str) -> Site {
    let site = Site::unchecked();
    let listen = format!("listen    = [\"{}\", \"{}\"]", site.dns(), site.dns6());
    let port = site.dns().port();
    site.edit(&listen, &format!("listen = [\"0.0.0.0:{port}\", \"[::]:{port}\"]\nworkers = 2\n{keys}"));
    site
}

#[test]
fn a_wildcard_answers_from_the_address_asked() {
    let site = everywhere();
    let server = site.start();
    let port = server.dns.port();
    let loopbacks = ["127.0.0.1", "127.0.0.2", "127.45.67.89", "::1"];
    for address in loopbacks.map(|address| address.parse::<IpAddr>().expect("an address")) {
        let asked = SocketAddr::new(address, port);
        // The client's socket is connected: the kernel drops what comes from another address.
        let answer = client::udp(asked, &client::query(STATIC, RecordType::A, ""));
        assert_eq!(answer.answers.len(), 2, "{asked}");
        let [answer] = &client::tcp(asked, &[client::query(STATIC, RecordType::A, "")])[..] else { panic!("one") };
        assert_eq!(answer.answers.len(), 2, "{asked}");
    }
}

#[test]
fn both_families_steer_alike() {
    let site = Site::unchecked();
    let server = site.start();
    assert_eq!(site.dns6().ip(), Ipv6Addr::LOCALHOST);
    for (subnet, region) in [("203.0.113.0/25", "127.0.11."), ("2001:db8:1::/48", "127.0.11."), ("", "127.0.12.")] {
        let query = client::query("www.gslb.example.com", RecordType::A, subnet);
        for at in [site.dns(), site.dns6()] {
            let addresses = client::addresses(&client::udp(at, &query));
            assert!(addresses.len() == 1 && addresses[0].starts_with(region), "{subnet} at {at}: {addresses:?}");
        }
    }
    drop(server);
}

#[test]
fn every_pipelined_query_is_answered() {
    let site = everywhere();
    let server = site.start();
    let names = [
        ("static.gslb.example.com", RecordType::A, 2),
        ("dr.gslb.example.com", RecordType::A, 2),
        ("text.gslb.example.com", RecordType::TXT, 1),
        ("nothing.gslb.example.com", RecordType::A, 0),
    ];
    let queries: Vec<(Message, usize)> = (0..100)
        .map(|index| names[index % names.len()])
        .map(|(name, rtype, count)| (client::query(name, rtype, ""), count))
        .collect();
    let messages: Vec<Message> = queries.iter().map(|(query, _)| query.clone()).collect();
    let ask = || {
        let answers = client::tcp(server.dns, &messages);
        for (answer, (_, count)) in answers.iter().zip(&queries) {
            assert_eq!(answer.answers.len(), *count, "{answer}");
        }
    };
    ask();
    thread::scope(|scope| (0..10).for_each(|_| drop(scope.spawn(ask))));
}

#[test]
fn both_workers_answer() {
    let site = everywhere();
    let server = site.start();
    // Among sockets of one port the kernel chooses by the client's port: 64 clients reach both, but for one case in 2^63.
    for _ in 0..64 {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        socket.connect(server.dns).expect("a route");
        for _ in 0..4 {
            let answer = client::udp_on(&socket, &client::query("dr.gslb.example.com", RecordType::A, ""));
            assert_eq!(client::addresses(&answer), ["127.0.12.1", "127.0.12.2"]);
        }
    }
    assert_eq!(server.metric("waymark_queries_total{transport=\"udp\",type=\"A\"}"), Some(256.0));
}

#[test]
fn pinned_workers_answer_everywhere() {
    let site = everywhere_with("pin-workers = true");
    let server = site.start();
    for _ in 0..16 {
        for at in [server.dns, site.dns6()] {
            let answer = client::udp(at, &client::query("dr.gslb.example.com", RecordType::A, ""));
            assert_eq!(client::addresses(&answer), ["127.0.12.1", "127.0.12.2"]);
        }
    }
    server.wait_logged(&["UDP workers pinned: 0 on core ", ", 1 on core "]);
    let messages = ["waymark_udp_received_total", "waymark_udp_sent_total", "waymark_tcp_received_total"];
    // What was sent is counted right behind.
    let counts = [Some(32.0), Some(32.0), Some(0.0)];
    until_so("all counted", || messages.map(|name| server.metric(name)) == counts);
}

#[test]
fn what_does_not_fit_comes_over_tcp() {
    let site = Site::unchecked();
    let mut zone = std::fs::read_to_string(site.path("gslb.example.com.zone")).expect("text");
    let mut instances = String::from("\n[pools.many.instances]\n");
    for number in 0..MANY {
        writeln!(zone, "many IN A 192.0.2.{number}").expect("text");
        writeln!(instances, "i-{number} = {{ address = \"192.0.2.{number}\" }}").expect("text");
    }
    site.write("gslb.example.com.zone", &zone);
    site.append(&(instances + "[services.\"all.gslb.example.com\"]\npool = \"many\"\nanswers = 0\n"));
    let server = site.start();
    for name in ["many.gslb.example.com", "all.gslb.example.com"] {
        let without_edns = client::plain(name, RecordType::A);
        for query in [client::query(name, RecordType::A, ""), without_edns] {
            let answer = client::udp(server.dns, &query);
            assert!(answer.truncation && answer.answers.is_empty(), "{name}: {answer}");
            let [answer] = &client::tcp(server.dns, &[query])[..] else { panic!("one") };
            assert_eq!((answer.truncation, answer.answers.len()), (false, MANY), "{name}");
            let mut addresses = client::addresses(answer);
            addresses.dedup();
            assert_eq!(addresses.len(), MANY, "{name}");
        }
    }
    assert_eq!(server.metric("waymark_truncated_answers_total"), Some(4.0));
    for program in ["dig", "kdig"].into_iter().filter(|program| has(program)) {
        let said = client::tool(program, server.dns, &["all.gslb.example.com", "+short"]);
        assert_eq!(said.lines().filter(|line| line.starts_with("192.0.2.")).count(), MANY, "{program}: {said}");
    }
}
