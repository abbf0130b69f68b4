//! EDNS options octet by octet: cookies (RFC 7873, 9018), TCP keepalive (RFC 7828), padding (RFC 7830, 8467),
//! extended errors (RFC 8914), payload sizes (RFC 6891, 9715); and cookies of the real binary.

use std::fs;
use std::time::Duration;

use hickory_proto::op::Message;
use hickory_proto::rr::RecordType;

use waymark::answer::Transport;

use crate::support::net::Net;
use crate::support::node::Node;
use crate::support::query::{Ask, NSID};
use crate::support::server::Server;
use crate::support::site::Site;
use crate::support::{client, has, until_so};

const COOKIE: u16 = 10;
const KEEPALIVE: u16 = 11;
const PADDING: u16 = 12;
const EXTENDED_ERROR: u16 = 15;

/// RFC 9018, appendix A.1.
const SECRET: &str = "e5e973e5a6b2a43f48e7dc849e37bfcf";
const CLIENT_COOKIE: &str = "2464c4abcf10c957";
const SERVER_COOKIE: &str = "010000005cf79f111f8130c3eee29480";
const ADDRESS: &str = "198.51.100.100";
const TIME: u32 = 1_559_731_985;

const CONFIGURATION: &str = r#"
[server]
node = "test-1"
explain-from = ["192.0.2.0/24"]
[zones."example.com"]
file = "zone"
[cookies]
secret-file = "secrets"
[regions.eu]
[pools.web.instances]
one = { region = "eu", address = "192.0.2.11" }
[services."www.example.com"]
pool = "web"
"#;
const ZONE: &str =
    "$TTL 300\n@ SOA ns hostmaster 1 2 3 4 60\n@ NS ns\nns A 127.0.0.1\ncut NS ns.cut\nns.cut A 127.0.0.1\n";

/// With these `[cookies]` keys, at [`TIME`].
fn node_with(cookies: &str) -> Node {
    let zone: String = (0..100).map(|number| format!("many A 192.0.2.{number}\n")).collect();
    let configuration = CONFIGURATION.replace("[cookies]", &format!("[cookies]\n{cookies}"));
    let files = [("waymark.toml", &*configuration), ("zone", &(ZONE.to_owned() + &zone)), ("secrets", SECRET)];
    let mut node = Node::of(&files);
    node.worker.moment.wall = u64::from(TIME);
    node
}

fn node() -> Node {
    node_with("")
}

fn octets(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hexadecimal")).collect()
}

fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

fn ask() -> Ask {
    Ask::new("www.example.com", 1).from(ADDRESS)
}

fn with_cookie(hex: &str) -> Ask {
    ask().option(COOKIE, octets(hex))
}

/// What is in an answer, read octet by octet.
#[derive(Debug)]
struct Read {
    rcode: u16,
    truncated: bool,
    /// Records of the answer section.
    answers: u16,
    length: usize,
    payload: u16,
    options: Vec<(u16, Vec<u8>)>,
}

impl Read {
    fn option(&self, code: u16) -> Option<String> {
        let mut found = self.options.iter().filter(|(known, _)| *known == code);
        let option = found.next().map(|(_, data)| hex(data));
        assert!(found.next().is_none(), "option {code} comes once: {self:?}");
        option
    }
}

fn number(octets: &[u8]) -> u16 {
    u16::from_be_bytes([octets[0], octets[1]])
}

/// The OPT is last: root, type, payload, extended rcode, version 0, flags, options.
fn read(answer: &[u8]) -> Read {
    Message::from_vec(answer).expect("well-formed");
    let low = u16::from(answer[3] & 0x0f);
    let mut read = Read {
        rcode: low,
        truncated: answer[2] & 2 != 0,
        answers: number(&answer[6..]),
        length: answer.len(),
        payload: 0,
        options: Vec::new(),
    };
    for at in (12..answer.len().saturating_sub(10)).filter(|at| answer[*at..].starts_with(&[0, 0, 41])) {
        let opt = &answer[at..];
        if usize::from(number(&opt[9..])) + 11 != opt.len() {
            continue;
        }
        (read.payload, read.rcode) = (number(&opt[3..]), u16::from(opt[5]) << 4 | low);
        assert_eq!(opt[6], 0, "version 0");
        let mut rest = &opt[11..];
        while !rest.is_empty() {
            let length = usize::from(number(&rest[2..]));
            read.options.push((number(rest), rest[4..4 + length].to_vec()));
            rest = &rest[4 + length..];
        }
    }
    read
}

fn answer(node: &mut Node, ask: &Ask) -> Read {
    read(node.respond(&ask.encode(), ask.source, ask.transport))
}

#[test]
fn a_client_learns_its_cookie() {
    let mut node = node();
    let learned = answer(&mut node, &with_cookie(CLIENT_COOKIE));
    assert_eq!((learned.rcode, learned.answers), (0, 1));
    assert_eq!(learned.option(COOKIE), Some(format!("{CLIENT_COOKIE}{SERVER_COOKIE}")));
    assert_eq!(answer(&mut node, &ask()).option(COOKIE), None, "only who asks");
    // It is kept for half an hour, and good for an hour.
    for (later, is_kept, good, bad) in [(60, true, 1, 0), (1801, false, 2, 0), (3601, false, 2, 1)] {
        node.worker.moment.wall = u64::from(TIME + later);
        let again = answer(&mut node, &with_cookie(&format!("{CLIENT_COOKIE}{SERVER_COOKIE}")));
        let cookie = again.option(COOKIE).expect("a cookie");
        assert_eq!((again.rcode, again.answers, cookie.ends_with(SERVER_COOKIE)), (0, 1, is_kept), "{later} s later");
        assert_eq!(cookie[..24], format!("{CLIENT_COOKIE}01000000"));
        let counters = &node.worker.counters.answering;
        assert_eq!((counters.cookies_good.get(), counters.cookies_bad.get()), (good, bad), "{later} s later");
    }
}

#[test]
fn malformed_cookies_are_refused() {
    let mut node = node();
    for length in 0..=60 {
        let is_good = length == 8 || (16..=40).contains(&length);
        let read = answer(&mut node, &ask().option(COOKIE, vec![7; length]));
        assert_eq!((read.rcode, read.option(COOKIE).is_some()), (u16::from(!is_good), is_good), "{length} octets");
    }
    // Of several the first counts (RFC 7873 §5.2).
    let two = answer(&mut node, &with_cookie(CLIENT_COOKIE).option(COOKIE, vec![7; 3]));
    assert_eq!((two.rcode, two.option(COOKIE)), (0, Some(format!("{CLIENT_COOKIE}{SERVER_COOKIE}"))));
}

/// RFC 7873 §5.4.
#[test]
fn a_cookie_without_a_question() {
    let mut node = node();
    let bad = format!("{CLIENT_COOKIE}{}", "7".repeat(32));
    let good = format!("{CLIENT_COOKIE}{SERVER_COOKIE}");
    for (cookie, tcp, rcode) in [(CLIENT_COOKIE, false, 0), (&good, false, 0), (&bad, false, 23), (&bad, true, 0)] {
        let ask = if tcp { with_cookie(cookie).tcp() } else { with_cookie(cookie) };
        let message = [&[0x47, 0x11, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1][..], &ask.edns.as_ref().expect("EDNS").encode()];
        let answer = node.respond(&message.concat(), ask.source, ask.transport);
        assert_eq!(answer[..12], [0x47, 0x11, 0x81, rcode & 0xf, 0, 0, 0, 0, 0, 0, 0, 1], "the header alone");
        let read = read(answer);
        assert_eq!((read.rcode, read.option(COOKIE)), (rcode.into(), Some(good.clone())), "{cookie}");
    }
    let mut off = node_with("enabled = false");
    let opt = with_cookie(CLIENT_COOKIE).edns.expect("EDNS").encode();
    for (node, opt) in [(&mut node, &[][..]), (&mut off, &opt)] {
        let message = [&[0x47, 0x11, 1, 0, 0, 0, 0, 0, 0, 0, 0, u8::from(!opt.is_empty())][..], opt].concat();
        assert_eq!(node.respond(&message, [127, 0, 0, 1].into(), ask().transport)[3] & 0xf, 1, "FORMERR");
    }
}

#[test]
fn a_cookie_can_be_required() {
    let good = format!("{CLIENT_COOKIE}{SERVER_COOKIE}");
    let bad = format!("{CLIENT_COOKIE}{}", "7".repeat(32));
    for (require, required) in [("never", false), ("limited", false), ("always", true)] {
        let mut node = node_with(&format!("require = \"{require}\""));
        for (ask, refused) in [
            (with_cookie(CLIENT_COOKIE), required),
            (with_cookie(&bad), required),
            (with_cookie(&good), false),
            (with_cookie(&bad).tcp(), false),
            (ask(), false),
            (ask().plain(), false),
        ] {
            let read = answer(&mut node, &ask);
            assert_eq!((read.rcode, read.answers), if refused { (23, 0) } else { (0, 1) }, "{require} {ask:?}");
            let has_cookie = ask.edns.as_ref().is_some_and(|edns| !edns.options.is_empty());
            assert_eq!(read.option(COOKIE), has_cookie.then(|| good.clone()), "a fresh one: {require} {ask:?}");
        }
    }
}

#[test]
fn cookies_go_with_every_code() {
    let mut node = node();
    for (name, qtype, rcode) in
        [("none.example.com", 1, 3), ("example.org", 1, 5), ("www.example.com", 128, 1), ("a.cut.example.com", 1, 0)]
    {
        let ask = Ask::new(name, qtype).from(ADDRESS).option(COOKIE, octets(CLIENT_COOKIE));
        let read = answer(&mut node, &ask);
        assert_eq!((read.rcode, read.option(COOKIE).is_some()), (rcode, true), "{name}");
    }
    let mut off = node_with("enabled = false");
    assert_eq!(answer(&mut off, &with_cookie(CLIENT_COOKIE)).option(COOKIE), None);
    let mut unserved = with_cookie(CLIENT_COOKIE);
    unserved.edns.as_mut().expect("EDNS").version = 1;
    let read = answer(&mut node, &unserved);
    assert_eq!((read.rcode, read.options.len()), (16, 0), "options of an unserved version mean nothing");
}

/// RFC 7828: over TCP and TLS, on request, in units of 100 ms; ignored over UDP; what clients must not say is malformed.
#[test]
fn keepalive() {
    let mut node = node();
    let asks = |data: &[u8]| ask().option(KEEPALIVE, data.to_vec());
    for (idle, told) in [(10_000, "0064"), (2_000, "0014"), (150, "0001"), (0, "0000"), (10_000_000, "ffff")] {
        node.worker.moment.tcp_idle = Duration::from_millis(idle);
        assert_eq!(answer(&mut node, &asks(&[]).tcp()).option(KEEPALIVE).as_deref(), Some(told), "{idle} ms");
        assert_eq!(answer(&mut node, &ask().tcp()).option(KEEPALIVE), None, "it was not asked");
        let over = |transport| Ask { transport, ..asks(&[]) };
        assert_eq!(answer(&mut node, &over(Transport::Tls)).option(KEEPALIVE).as_deref(), Some(told), "{idle} ms");
        for transport in [Transport::Https, Transport::Quic, Transport::Https3] {
            assert_eq!(answer(&mut node, &over(transport)).option(KEEPALIVE), None, "{transport:?}");
        }
        for data in [&[][..], &[0, 100], &[1, 2, 3]] {
            let read = answer(&mut node, &asks(data));
            assert_eq!((read.rcode, read.answers, read.option(KEEPALIVE)), (0, 1, None), "over UDP: {data:?}");
        }
    }
    for data in [&[0][..], &[0, 100], &[1, 2, 3]] {
        for transport in [Transport::Tcp, Transport::Tls] {
            let read = answer(&mut node, &Ask { transport, ..asks(data) });
            assert_eq!((read.rcode, read.answers), (1, 0), "{data:?} over {transport:?}");
        }
    }
}

/// RFC 7830 §6: not in the clear.
#[test]
fn padding_is_not_sent_in_the_clear() {
    let mut node = node();
    for ask in [ask(), ask().tcp()] {
        let read = answer(&mut node, &ask.option(PADDING, vec![0; 64]));
        assert_eq!((read.rcode, read.answers, read.options.len()), (0, 1, 0));
    }
}

/// RFC 8467 §4.1: whole blocks, on request and where nobody can read along.
#[test]
fn padding_fills_blocks() {
    let mut node = node();
    let encrypted = [Transport::Tls, Transport::Https, Transport::Quic, Transport::Https3];
    let rows = [
        (ask(), 468),
        (Ask::new("many.example.com", 1), 4 * 468),
        (Ask::new("www.example.org", 1), 468),
        (Ask::new("www.example.com", 128), 468),
        (ask().option(NSID, vec![]).option(COOKIE, octets(CLIENT_COOKIE)).subnet("203.0.113.0/24"), 468),
    ];
    for (ask, length) in rows {
        for transport in encrypted {
            let unpadded = answer(&mut node, &Ask { transport, ..ask.clone() });
            assert!(unpadded.length < length && unpadded.option(PADDING).is_none(), "only on request: {unpadded:?}");
            for padding in [vec![], vec![0; 64]] {
                let padded = answer(&mut node, &Ask { transport, ..ask.clone() }.option(PADDING, padding));
                assert_eq!((padded.length, padded.rcode), (length, unpadded.rcode), "{ask:?} over {transport:?}");
                let zeroes = "00".repeat(length - unpadded.length - 4);
                assert_eq!(padded.option(PADDING), Some(zeroes));
                assert_eq!(padded.options.last().map(|(code, _)| *code), Some(PADDING));
                assert_eq!(padded.options[..padded.options.len() - 1], unpadded.options);
            }
        }
    }
}

/// Of every length a name can have, and at both ends of a block: one that is full takes four octets more for the option.
#[test]
fn padding_of_every_length() {
    let mut node = node();
    for length in 1..=200 {
        let name = [
            "a".repeat(length.min(63)),
            "b".repeat(length.saturating_sub(62).clamp(1, 63)),
            "c".repeat(1 + length % 60),
        ];
        for nsid in [false, true] {
            let ask = Ask { transport: Transport::Tls, ..Ask::new(&format!("{}.example.com", name.join(".")), 1) };
            let ask = if nsid { ask.option(NSID, vec![]) } else { ask };
            let padded = answer(&mut node, &ask.option(PADDING, vec![]));
            assert!(padded.length.is_multiple_of(468) && padded.length > 0, "{length}: {padded:?}");
        }
    }
}

#[test]
fn extended_errors() {
    let mut node = node();
    for (name, qtype, from, rcode, code) in [
        ("www.example.org", 1, "192.0.2.1", 5, Some("0014")),
        ("example.com", 252, "192.0.2.1", 5, Some("0012")),
        ("example.com", 251, "192.0.2.1", 5, Some("0012")),
        ("www.example.com", 128, "192.0.2.1", 1, Some("001e")),
        ("_explain.www.example.com", 16, "192.0.2.1", 0, None),
        ("_explain.www.example.com", 16, ADDRESS, 3, Some("0012")),
        ("_explain.ns.example.com", 16, ADDRESS, 3, None),
        ("www.example.com", 1, "192.0.2.1", 0, None),
    ] {
        let ask = Ask::new(name, qtype).from(from);
        let read = answer(&mut node, &ask);
        assert_eq!((read.rcode, read.option(EXTENDED_ERROR).as_deref()), (rcode, code), "{name} {qtype} {from}");
        let plain = answer(&mut node, &ask.plain());
        assert_eq!((plain.rcode, plain.options.len()), (rcode, 0), "none without EDNS");
    }
    node.snapshot.blind = [true, false];
    for (qtype, code) in [(1, true), (28, false)] {
        let read = answer(&mut node, &Ask::new("www.example.com", qtype));
        let said = read.option(EXTENDED_ERROR);
        assert_eq!((read.rcode, said.is_some_and(|said| said.starts_with("0003"))), (0, code), "{qtype}");
    }
}

/// RFC 6891 §6.2.3 and §6.2.5, RFC 9715: below 512 means 512, above `max-udp-payload` is not used.
#[test]
fn payloads() {
    let mut node = node();
    for (payload, most) in [(0, 512), (511, 512), (512, 512), (700, 700), (1232, 1232), (1233, 1232), (65_535, 1232)] {
        for (options, name) in [(false, "www"), (true, "www"), (false, "many"), (true, "many")] {
            let mut ask = Ask::new(&format!("{name}.example.com"), 1);
            if options {
                ask = ask.option(NSID, Vec::new()).option(COOKIE, octets(CLIENT_COOKIE)).subnet("192.0.2.0/24");
            }
            ask.edns.as_mut().expect("EDNS").payload = payload;
            let read = answer(&mut node, &ask);
            assert_eq!((read.payload, read.truncated), (1232, name == "many"), "{payload}");
            assert!(read.length <= most, "{} octets of {payload}", read.length);
            assert_eq!(read.options.len(), if options { 3 } else { 0 }, "all options fit");
        }
    }
}

/// What a node says of the cookie of a client, by its counters.
fn counted(server: &Server, is: &str) -> f64 {
    server.metric(&format!("waymark_cookie_queries_total{{server_cookie=\"{is}\"}}")).expect("a metric")
}

/// Secrets of a file are rolled by a reload, and nobody's cookie is lost; without a file they survive a restart.
#[test]
fn secrets_roll() {
    let site = Site::unchecked();
    let mut server = site.start();
    let cookie_of = |server: &Server, cookie: &[u8]| -> Vec<u8> {
        let ask = Ask::new("static.gslb.example.com", 1).option(COOKIE, cookie.to_vec());
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
        socket.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
        socket.send_to(&ask.encode(), server.dns).expect("sent");
        let mut buffer = [0; 1500];
        let length = socket.recv(&mut buffer).expect("an answer");
        octets(&read(&buffer[..length]).option(COOKIE).expect("a cookie"))
    };
    let first = cookie_of(&server, &[1; 8]);
    server.signal("TERM");
    server.wait_end();
    let server = site.start();
    assert_eq!(cookie_of(&server, &first), first, "it survives a restart");
    assert_eq!(counted(&server, "good"), 1.0);

    site.append("\n[cookies]\nsecret-file = \"secrets\"\n");
    let (one, two) = (SECRET, "445536bcd2513298075a5d379663c962");
    let mut cookie = first;
    for (secrets, good, bad) in [
        // Others than those of the node: what was good is not.
        (format!("{one} # ours\n"), 1.0, 1.0),
        (format!("{two}\n{one}\n"), 2.0, 1.0),
        (format!("\n{two}\n"), 3.0, 1.0),
    ] {
        fs::write(site.path("secrets"), &secrets).expect("a file");
        server.reload();
        cookie = cookie_of(&server, &cookie);
        assert_eq!((counted(&server, "good"), counted(&server, "bad")), (good, bad), "{secrets}");
    }
    let check = client::text(&site.run(&["check"]));
    assert!(check.contains("anybody on this machine may read it"), "{check}");
    fs::write(site.path("secrets"), format!("{one}\nhush\n")).expect("a file");
    let check = client::text(&site.run(&["check"]));
    assert!(check.contains("secrets:2: this is no secret") && !check.contains("hush"), "{check}");
}

#[test]
fn dig_is_content() {
    if !has("dig") {
        return;
    }
    let site = Site::unchecked();
    let server = site.start();
    let text = client::tool("dig", server.dns, &["static.gslb.example.com", "+cookie=2464c4abcf10c957"]);
    assert!(text.contains("; COOKIE: 2464c4abcf10c95701000000") && text.contains("(good)"), "{text}");
    let text = client::tool("dig", server.dns, &["static.gslb.example.com", "+tcp", "+keepalive"]);
    assert!(text.contains("TCP-KEEPALIVE: 10.0 secs") || text.contains("TCP KEEPALIVE: 10.0 secs"), "{text}");
    let answer = client::udp(server.dns, &client::query("static.gslb.example.com", RecordType::A, ""));
    assert_eq!(answer.answers.len(), 2);
}

/// What is configured to be longer than the interface takes is sent truncated, not in fragments (RFC 9715 §3.1); over TCP
/// it comes whole.
#[test]
fn longer_than_the_link_takes() {
    let Some(net) = Net::new() else { return };
    net.run("ip link set lo mtu 1400");
    let site = Site::unchecked();
    site.edit("[server]", "[server]\nmax-udp-payload = 4096");
    let zone = fs::read_to_string(site.path("gslb.example.com.zone")).expect("a zone");
    let long = format!(" {:a<250}", "").repeat(8);
    site.write("gslb.example.com.zone", &format!("{zone}\nlong IN TXT{long}\n"));
    let (udp, tcp) = net.enter(|| {
        let server = site.start();
        let mut ask = Ask::new("long.gslb.example.com", 16).option(NSID, Vec::new());
        ask.edns.as_mut().expect("EDNS").payload = 4096;
        let query = Message::from_vec(&ask.encode()).expect("a query");
        let answers = (client::udp(server.dns, &query), client::tcp(server.dns, &[query]).remove(0));
        // What came of sending is counted after it, when the client may have its answer already.
        until_so("it is counted", || server.metric("waymark_truncated_answers_total") == Some(1.0));
        assert_eq!(server.metric("waymark_udp_dropped_total{reason=\"send_failed\"}"), Some(0.0));
        answers
    });
    assert!(udp.metadata.truncation && udp.answers.is_empty() && udp.edns.is_some(), "{udp}");
    assert!(!tcp.metadata.truncation && tcp.answers.len() == 1, "{tcp}");
}
