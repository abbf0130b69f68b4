//! Copies of zones (RFC 5936, RFC 1995), who may have them and who is told of changes (RFC 1996), and signed messages (RFC
//! 8945): asked by dig and kdig, followed by NSD and Knot, and read by `hickory-proto`.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use hickory_proto::op::Message;
use hickory_proto::rr::rdata::SOA;
use hickory_proto::rr::{Name, RData, Record, RecordType};
use waymark::answer::{Outcome, Transfer, Transport, Worker, respond};
use waymark::config;
use waymark::control::World;
use waymark::dns::tsig;
use waymark::metrics::Registry;
use waymark::serve::{Limits, Listeners};
use waymark::snapshot::Snapshot;

use crate::support::node::{Node, folder};
use crate::support::query::Ask;
use crate::support::secondary::{Key, Secondary};
use crate::support::site::Site;
use crate::support::{PATIENCE, client, has, say};

const ZONE: &str = "gslb.example.com";
const SERIAL: u32 = 2_026_112_301;
const KEY: Key =
    Key { name: "transfer", algorithm: "hmac-sha256", secret: "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=" };
const OTHER_SECRET: &str = "HxwdGhsYGRYXFBUSExAREA8ODQwLCgkIBwYFBAMCAQA=";

/// The example, where the zone says this as well.
fn site(zone_keys: &str) -> Site {
    let site = Site::unchecked();
    let file = "file = \"gslb.example.com.zone\"\n";
    site.edit(file, &format!("{file}{zone_keys}\n"));
    site
}

/// The same, with a key for each algorithm; the one for SHA-256 is [`KEY`].
fn site_with_keys(zone_keys: &str) -> Site {
    let site = site(zone_keys);
    site.write("secret", KEY.secret);
    fs::set_permissions(site.path("secret"), fs::Permissions::from_mode(0o600)).expect("a mode");
    for (name, algorithm) in [(KEY.name, KEY.algorithm), ("t384", "hmac-sha384"), ("t512", "hmac-sha512")] {
        site.append(&format!("\n[keys.{name}]\nalgorithm = \"{algorithm}\"\nsecret-file = \"secret\"\n"));
    }
    site
}

/// The zone file with another serial, and another address of `static`.
fn change(site: &Site, serial: u32, address: &str) {
    let text = fs::read_to_string(site.path("gslb.example.com.zone")).expect("a zone");
    let line = |line: &str| match line {
        _ if line.contains(" SOA ") => format!("@ IN SOA ns1 hostmaster {serial} 7200 1800 1209600 30"),
        _ if line.starts_with("static") => format!("static IN A {address}"),
        _ => line.to_owned(),
    };
    site.write("gslb.example.com.zone", &(text.lines().map(line).collect::<Vec<_>>().join("\n") + "\n"));
}

/// A record, to be compared.
fn show(record: &Record) -> String {
    format!("{} {} {} {}", record.name.to_lowercase(), record.ttl, record.record_type(), record.data)
}

/// Answers of all messages, until the SOA that came first has come again (in an IXFR: as often as it must).
fn read_copy(stream: &mut TcpStream) -> Vec<Record> {
    let mut records: Vec<Record> = Vec::new();
    loop {
        let octets = client::read_framed(stream).expect("a message of the copy");
        let message = Message::from_vec(&octets).expect("well-formed");
        assert_eq!(message.response_code.low(), 0, "{message}");
        assert!(octets.len() <= 16_384, "{} octets", octets.len());
        records.extend(message.answers.iter().cloned());
        if is_whole(&records) {
            return records;
        }
    }
}

fn serial_of(record: &Record) -> Option<u32> {
    if let RData::SOA(SOA { serial, .. }) = &record.data { Some(*serial) } else { None }
}

fn is_whole(records: &[Record]) -> bool {
    let serials: Vec<u32> = records.iter().filter_map(serial_of).collect();
    let ends = records.len() > 1 && records.last().is_some_and(|last| serial_of(last) == serial_of(&records[0]));
    // In steps the newest SOA stands three times: first, before what was added last, last.
    let is_stepped = records.len() > 1 && serial_of(&records[1]).is_some();
    let newest = serials.iter().filter(|&&serial| Some(serial) == serials.first().copied()).count();
    ends && (!is_stepped || newest == 3)
}

#[track_caller]
fn axfr(server: SocketAddr, zone: &str) -> Vec<Record> {
    let mut stream = TcpStream::connect(server).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream.write_all(&client::framed(&client::plain(zone, RecordType::AXFR))).expect("sent");
    read_copy(&mut stream)
}

/// What AXFR gave, as a set; the SOA once.
fn set(records: &[Record]) -> BTreeSet<String> {
    let set: BTreeSet<String> = records.iter().map(show).collect();
    assert_eq!(set.len(), records.len() - 1, "all but the SOA come once");
    set
}

#[test]
fn dig_copies_a_zone() {
    if !has("dig") {
        return;
    }
    let server = site("transfer-to = [\"127.0.0.0/8\"]").start();
    let text = client::tool("dig", server.dns, &[ZONE, "AXFR", "+onesoa", "+nocookie"]);
    let lines: Vec<String> = text
        .lines()
        .filter(|line| !line.starts_with(';') && !line.is_empty())
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    for expected in [
        "gslb.example.com. 300 IN SOA ns1.gslb.example.com. hostmaster.gslb.example.com. 2026112301 7200 1800 1209600 30",
        "static.gslb.example.com. 300 IN A 192.0.2.1",
        "static.gslb.example.com. 300 IN A 192.0.2.2",
        "sub.gslb.example.com. 300 IN NS ns.sub.gslb.example.com.",
        "ns.sub.gslb.example.com. 300 IN A 192.0.2.53",
        "*.wild.gslb.example.com. 300 IN A 192.0.2.77",
        "odd.gslb.example.com. 300 IN TYPE65400 \\# 4 0A000001",
        // What stands at a steered name: the addresses of all instances.
        "www.gslb.example.com. 5 IN A 127.0.11.1",
        "www.gslb.example.com. 5 IN A 127.0.13.1",
        "dr.gslb.example.com. 5 IN A 127.0.12.2",
    ] {
        assert!(lines.iter().any(|line| line == expected), "{expected}\n{text}");
    }
    // 17 records of the file, five addresses at each of four services.
    assert_eq!(lines.len(), 17 + 4 * 5, "{text}");
    let server = site("transfer-to = [\"127.0.0.0/8\"]\ntransfer-steered = \"skip\"").start();
    assert_eq!(axfr(server.dns, ZONE).len(), 17 + 1);
    assert_eq!(server.metric("waymark_transfers_total{answer=\"whole\"}"), Some(1.0));
}

#[test]
fn strangers_get_nothing() {
    let server = site_with_keys("transfer-to = [\"127.0.0.2\"]\nkey = \"transfer\"").start();
    for (name, expected, error) in
        [(ZONE, 5, Some(18)), ("www.gslb.example.com", 9, None), ("example.com", 9, None), ("example.org", 9, None)]
    {
        for rtype in [RecordType::AXFR, RecordType::IXFR] {
            let query = client::query(name, rtype, "");
            let [over_tcp] = &client::tcp(server.dns, std::slice::from_ref(&query))[..] else { panic!("one answer") };
            for answer in [over_tcp, &client::udp(server.dns, &query)] {
                assert_eq!(answer.response_code.low(), expected, "{name} {rtype}");
                assert_eq!(client::extended_error(answer).map(|(code, _)| code), error, "{name} {rtype}");
                assert!(answer.answers.is_empty());
            }
        }
    }
    assert_eq!(server.metric("waymark_transfers_total{answer=\"refused\"}"), Some(16.0));
    if !has("dig") {
        return;
    }
    // The right address without the key, the key from another address, another key.
    let signed = format!("{}:{}:{}", KEY.algorithm, KEY.name, KEY.secret);
    let other = format!("hmac-sha512:t512:{}", KEY.secret);
    for arguments in [&["-b", "127.0.0.2"][..], &["-y", &signed], &["-b", "127.0.0.2", "-y", &other]] {
        let text = client::tool("dig", server.dns, &[arguments, &[ZONE, "AXFR"]].concat());
        assert!(text.contains("Transfer failed"), "{arguments:?}: {text}");
    }
    let text = client::tool("dig", server.dns, &["-b", "127.0.0.2", "-y", &signed, ZONE, "AXFR"]);
    assert!(text.contains("XFR size: 38 records"), "{text}");
}

#[test]
fn axfr_over_udp_is_refused_and_ixfr_says_come_by_tcp() {
    let server = site("transfer-to = [\"127.0.0.0/8\"]").start();
    let answer = client::udp(server.dns, &client::query(ZONE, RecordType::AXFR, ""));
    assert_eq!((answer.response_code.low(), answer.answers.len()), (5, 0));
    for (serial, expected) in [(SERIAL - 1, 1), (SERIAL, 1), (SERIAL + 1, 1), (0, 1)] {
        let answer = Message::from_vec(&udp(server.dns, &ixfr(serial))).expect("well-formed");
        assert_eq!((answer.response_code.low(), answer.answers.len()), (0, expected), "{serial}");
        assert_eq!(answer.answers.first().and_then(serial_of), Some(SERIAL));
    }
    // Without the SOA that he has, nothing can be said.
    let answer = client::udp(server.dns, &client::query(ZONE, RecordType::IXFR, ""));
    assert_eq!(answer.response_code.low(), 1);
}

/// An IXFR query of whoever has this serial.
fn ixfr(serial: u32) -> Vec<u8> {
    let mut query = client::plain(ZONE, RecordType::IXFR).to_vec().expect("encodes");
    query[9] = 1;
    let numbers = [serial, 0, 0, 0, 0].map(u32::to_be_bytes).concat();
    query.extend([&[0xc0, 12, 0, 6, 0, 1, 0, 0, 0, 0, 0, 22, 0, 0][..], &numbers].concat());
    query
}

fn udp(server: SocketAddr, query: &[u8]) -> Vec<u8> {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    socket.send_to(query, server).expect("sent");
    let mut buffer = [0; 4096];
    let length = socket.recv(&mut buffer).expect("an answer");
    buffer[..length].to_vec()
}

/// Signs, verifies, and refuses as dig and kdig expect.
#[test]
fn dig_and_kdig_sign() {
    let server = site_with_keys("transfer-to = [\"127.0.0.0/8\"]").start();
    let key = |algorithm: &str, name: &str, secret: &str| format!("{algorithm}:{name}:{secret}");
    let keys = [(KEY.name, "hmac-sha256"), ("t384", "hmac-sha384"), ("t512", "hmac-sha512")];
    for tool in ["dig", "kdig"] {
        if !has(tool) {
            continue;
        }
        for (name, algorithm) in keys {
            let signed = key(algorithm, name, KEY.secret);
            for arguments in
                [&["static.gslb.example.com", "A"][..], &["+tcp", "www.gslb.example.com", "AAAA"], &[ZONE, "AXFR"]]
            {
                let text = client::tool(tool, server.dns, &[&["-y", &signed], arguments].concat());
                let bad =
                    ["could not be validated", "TSIG error", "WARNING: TSIG", "failed", "BADKEY", "BADSIG", "BADTIME"];
                assert!(!bad.iter().any(|bad| text.contains(bad)), "{tool} {algorithm} {arguments:?}: {text}");
                assert!(text.contains("TSIG"), "{tool} {algorithm} {arguments:?}: {text}");
            }
        }
    }
    if !has("dig") {
        return;
    }
    let good = key(KEY.algorithm, KEY.name, KEY.secret);
    for (signed, more, told) in [
        (key(KEY.algorithm, "nobody", KEY.secret), "", "BADKEY"),
        (key("hmac-sha512", KEY.name, KEY.secret), "", "BADKEY"),
        (key(KEY.algorithm, KEY.name, OTHER_SECRET), "", "BADSIG"),
        (good, "+fuzztime=1000000000", "BADTIME"),
    ] {
        for transport in ["+notcp", "+tcp"] {
            let more = if more.is_empty() { "+nofuzztime" } else { more };
            let text = client::tool("dig", server.dns, &["-y", &signed, "static.gslb.example.com", transport, more]);
            assert!(text.contains("status: NOTAUTH") && text.contains(told), "{signed} {transport}: {text}");
            assert!(!text.contains("192.0.2.1"), "{text}");
        }
    }
    for (signature, count) in [("bad_key", 4.0), ("bad_signature", 2.0), ("bad_time", 2.0), ("truncated", 0.0)] {
        let sample = format!("waymark_tsig_queries_total{{signature={signature:?}}}");
        assert_eq!(server.metric(&sample), Some(count), "{signature}");
    }
}

/// Every message of a copy is signed, after the one before.
#[test]
fn dig_and_kdig_verify_a_stream() {
    let site = site_with_keys("transfer-to = [\"127.0.0.0/8\"]\nkey = \"t384\"\ntransfer-steered = \"skip\"");
    site.write("gslb.example.com.zone", &large(5000));
    let server = site.start();
    let signed = format!("hmac-sha384:t384:{}", KEY.secret);
    for (tool, told) in [("dig", "XFR size: 5004 records (messages 8"), ("kdig", "(8 messages, 5004 records)")] {
        if has(tool) {
            let text = client::tool(tool, server.dns, &["-y", &signed, ZONE, "AXFR"]);
            let end: Vec<&str> = text.lines().rev().take(10).collect();
            assert!(text.contains(told), "{tool}: {end:#?}");
            assert!(!text.contains("WARNING") && !text.contains("failed"), "{tool}: {end:#?}");
        }
    }
}

#[test]
fn secondaries_follow() {
    for name in ["nsd", "knotd"] {
        if !has(name) {
            continue;
        }
        for key in [None, Some(KEY)] {
            let port = Secondary::port();
            let keys = format!("transfer-to = [\"127.0.0.1\"]\nnotify = [\"127.0.0.1:{port}\"]");
            let signed = if key.is_some() { "\nkey = \"transfer\"" } else { "" };
            let site = site_with_keys(&(keys + signed));
            let server = site.start();
            let secondary = Secondary::start(name, ZONE, port, server.dns, key);
            secondary.wait_serial(ZONE, SERIAL);
            secondary.wait_addresses("static.gslb.example.com", &["192.0.2.1", "192.0.2.2"]);
            let all = ["127.0.11.1", "127.0.11.2", "127.0.12.1", "127.0.12.2", "127.0.13.1"];
            secondary.wait_addresses("www.gslb.example.com", &all);
            for step in 1..=3 {
                // Its refresh timer is two hours.
                change(&site, SERIAL + step, &format!("192.0.2.{}", 100 + step));
                server.reload();
                let took = secondary.wait_serial(ZONE, SERIAL + step);
                say(&format!("measured: {name} followed {took:?} after the reload"));
                let changed = format!("192.0.2.{}", 100 + step);
                secondary.wait_addresses("static.gslb.example.com", &["192.0.2.2", &changed]);
            }
            let answered = |answer| server.metric(&format!("waymark_transfers_total{{answer={answer:?}}}"));
            assert_eq!(answered("incremental"), Some(3.0), "{name} {key:?}");
            assert!(server.metric("waymark_notifies_total{outcome=\"acknowledged\"}") >= Some(3.0));
            assert_eq!(server.metric("waymark_transfers_broken_total"), Some(0.0));
        }
    }
}

/// A zone with this many names beside its SOA and NS.
fn large(names: usize) -> String {
    let mut zone = "$TTL 300\n@ SOA ns hostmaster 1 7200 1800 1209600 30\n@ NS ns\nns A 127.0.0.1\n".to_owned();
    for name in 0..names {
        let _ = writeln!(zone, "host-{name} A 192.0.{}.{}", name / 256 % 256, name % 256);
    }
    zone
}

fn large_site(names: usize) -> Site {
    let site = site("transfer-to = [\"127.0.0.0/8\"]\ntransfer-steered = \"skip\"");
    site.write("gslb.example.com.zone", &large(names));
    site.edit("[server]\n", "[server]\nworkers = 1\ntcp-write-timeout = \"1m\"\n");
    site
}

#[test]
fn a_copy_of_100_000_records_is_the_zone() {
    let site = large_site(100_000);
    let server = site.start();
    let copied = set(&axfr(server.dns, ZONE));
    let origin = waymark::dns::Name::parse(ZONE, None).expect("a name");
    let zone = config::load_zone(&site.path("gslb.example.com.zone"), Some(origin), None).records;
    assert_eq!(copied.len(), zone.len());
    let address = |record: &waymark::zone::Record<'_>| {
        let [a, b, c, d] = record.rdata.try_into().expect("an address");
        format!("{} {} A {}", record.name(), record.ttl, std::net::Ipv4Addr::new(a, b, c, d))
    };
    for record in zone.iter().filter(|record| record.rtype == waymark::dns::RecordType::A) {
        assert!(copied.contains(&address(&record)), "{}", address(&record));
    }
}

/// One thread serves all TCP; whoever does not read holds up nobody else, and gets all of it when he reads at last.
#[test]
fn a_slow_reader_holds_up_nobody() {
    let server = large_site(100_000).start();
    let mut slow: Vec<TcpStream> = (0..5)
        .map(|_| {
            let mut stream = TcpStream::connect(server.dns).expect("a connection");
            stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
            stream.write_all(&client::framed(&client::plain(ZONE, RecordType::AXFR))).expect("sent");
            stream
        })
        .collect();
    for round in 0..100 {
        let queries: Vec<Message> =
            (0..10).map(|at| client::plain(&format!("host-{}.{ZONE}", round * 10 + at), RecordType::A)).collect();
        for answer in client::tcp(server.dns, &queries) {
            assert_eq!(answer.answers.len(), 1);
        }
    }
    assert_eq!(axfr(server.dns, ZONE).len(), 100_004, "another copy");
    for stream in &mut slow {
        assert_eq!(read_copy(stream).len(), 100_004);
    }
    assert_eq!(server.metric("waymark_transfers_broken_total"), Some(0.0));
}

/// Where too many copies are on their way, whoever comes hears that there is none now.
#[test]
fn copies_on_their_way_are_bounded() {
    let site = site("transfer-to = [\"127.0.0.0/8\"]");
    let world = World::compile(config::load(&site.configuration()).configuration.expect("it loads"));
    for (transfers, expected) in [(1, 0), (0, 2)] {
        let published = Arc::new(ArcSwap::from_pointee(world.freeze(world.base().clone(), 0)));
        let listeners = Listeners::bind(&["127.0.0.1:0".parse().expect("an address")], 1).expect("a port");
        let address = listeners.local_addresses()[0];
        let registry: Arc<Registry> = Arc::default();
        let limits = Limits { transfers, ..Limits::default() };
        let running = listeners.serve(&published, &registry, 1, limits).expect("threads");
        for _ in 0..3 {
            let [answer] = &client::tcp(address, &[client::plain(ZONE, RecordType::AXFR)])[..] else { panic!("one") };
            assert_eq!(answer.response_code.low(), expected);
        }
        running.stop();
        assert_eq!(registry.sum(|counters| &counters.transfers_broken), if transfers == 0 { 3 } else { 0 });
    }
}

/// A copy is of the zone as it was when it began, and what is asked behind it on the same connection is answered then.
#[test]
fn a_reload_does_not_touch_a_copy_on_its_way() {
    let site = large_site(100_000);
    let server = site.start();
    let mut stream = TcpStream::connect(server.dns).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let queries = [client::plain(ZONE, RecordType::AXFR), client::plain(ZONE, RecordType::SOA)];
    stream.write_all(&queries.iter().flat_map(client::framed).collect::<Vec<u8>>()).expect("sent");
    let first = client::read_framed(&mut stream).expect("a message");
    site.write("gslb.example.com.zone", &large(10).replace("hostmaster 1 ", "hostmaster 2 "));
    server.reload();
    let mut records = Message::from_vec(&first).expect("well-formed").answers;
    records.extend(read_rest(&mut stream));
    assert_eq!(records.len(), 100_004);
    assert_eq!((serial_of(&records[0]), serial_of(&records[100_003])), (Some(1), Some(1)));
    let answer = Message::from_vec(&client::read_framed(&mut stream).expect("an answer")).expect("well-formed");
    assert_eq!(answer.answers.first().and_then(serial_of), Some(2));
}

/// The records of further messages, up to the SOA.
fn read_rest(stream: &mut TcpStream) -> Vec<Record> {
    let mut records = Vec::new();
    while records.last().and_then(serial_of).is_none() {
        let octets = client::read_framed(stream).expect("a message of the copy");
        records.extend(Message::from_vec(&octets).expect("well-formed").answers);
    }
    records
}

#[test]
fn a_target_that_does_not_answer_is_told_again() {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let address = socket.local_addr().expect("an address");
    let site = site_with_keys(&format!("notify = [\"{address}\"]\nkey = \"transfer\""));
    let server = site.start();
    let mut buffer = [0; 4096];
    let mut hear = || {
        let (length, from) = socket.recv_from(&mut buffer).expect("a notify");
        (buffer[..length].to_vec(), from)
    };
    for _ in 0..2 {
        let (notify, _) = hear();
        let message = Message::from_vec(&notify).expect("well-formed");
        assert_eq!((message.op_code.into(), message.authoritative), (4u8, true));
        assert_eq!(message.answers.first().and_then(serial_of), Some(SERIAL));
        assert_eq!(message.queries[0].name(), &Name::from_ascii("gslb.example.com.").expect("a name"));
    }
    // An answer that is not signed is none, where there is a key; one that says no ends it.
    let (mut answer, from) = hear();
    answer.truncate(12);
    (answer[2], answer[3]) = (0xa4, 0);
    answer[4..].fill(0);
    socket.send_to(&answer, from).expect("sent");
    let (mut answer, from) = hear();
    answer.truncate(12);
    (answer[2], answer[3]) = (0xa4, 5);
    answer[4..].fill(0);
    socket.send_to(&answer, from).expect("sent");
    server.wait_logged(&["does not want to know", "gslb.example.com"]);
    assert_eq!(server.metric("waymark_notifies_total{outcome=\"refused\"}"), Some(1.0));
}

/// Whatever octets stand in a signature: an answer comes, as long as the query at most but for what an answer has anyway.
#[test]
fn any_signature_is_answered() {
    let zone = fs::read_to_string(folder().join("example/gslb.example.com.zone")).expect("a zone");
    let text = format!("[zones.{ZONE:?}]\nfile = \"zone\"\n[keys.transfer]\nsecret-file = \"key\"\n");
    let mut node = Node::of(&[("waymark.toml", &text), ("zone", &zone), ("key", KEY.secret)]);
    let secret = waymark::zone::base64(KEY.secret).expect("base64");
    let name = waymark::dns::Name::parse(KEY.name, None).expect("a name");
    let key = tsig::Key::new(&name, tsig::Algorithm::Sha256, &secret);
    let mut random = Random(1);
    let mut rcodes = [0; 16];
    for round in 0..30_000 {
        let mut query = Ask::new("static.gslb.example.com", [1, 252, 251][round % 3]).encode();
        let unsigned = query.len();
        query.resize(unsigned + key.room(), 0);
        let length = tsig::Signer::asking().sign(&key, 0, &mut query, unsigned);
        query.truncate(length);
        for _ in 0..random.below(3) {
            let at = unsigned + random.below((length - unsigned) as u64) as usize;
            query[at] = random.below(256) as u8;
        }
        if random.below(8) == 0 {
            query.truncate(unsigned + random.below((length - unsigned) as u64) as usize);
        }
        let transport = if round % 2 == 0 { Transport::Udp } else { Transport::Tcp };
        let answer = node.respond(&query, [127, 0, 0, 1].into(), transport).to_vec();
        let message = Message::from_vec(&answer).expect("well-formed");
        assert!(answer.len() <= length + 120, "{query:02x?}: {} octets", answer.len());
        rcodes[usize::from(message.response_code.low())] += 1;
    }
    assert!([0, 1, 9].iter().all(|&rcode| rcodes[rcode] > 500), "{rcodes:?}");
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, most: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % most
    }
}

/// How many things of a configuration are by chance.
const CHANCES: usize = 24;

/// A configuration by these chances: static names, cuts with glue, a child that is served here too or not, services.
fn world(chances: &[u64; CHANCES], serial: u32) -> World {
    let folder = tempfile::tempdir().expect("a folder");
    let mut zone = format!("$TTL 300\n@ SOA ns hostmaster {serial} 7200 1800 1209600 30\n@ NS ns\nns A 127.0.0.1\n");
    for (name, &chance) in chances[..16].iter().enumerate() {
        let mut random = Random(chance);
        for _ in 0..random.below(3) {
            let _ = writeln!(zone, "N{name} 300 A 192.0.2.{}", random.below(3));
        }
        if random.below(3) == 0 {
            let _ = writeln!(zone, "n{name} {} TXT \"{}\"", 60 * (1 + random.below(2)), random.below(2));
        }
        if random.below(6) == 0 {
            let _ = writeln!(zone, "cut{name} NS ns.cut{name}\nns.cut{name} A 192.0.2.{}", random.below(2));
        }
    }
    let is = |at: usize| chances[at].is_multiple_of(2);
    let _ = writeln!(zone, "child NS ns.child\nns.child A 192.0.2.{}", u8::from(is(16)));
    let mut text = format!(
        "[zones.\"{ZONE}\"]\nfile = \"zone\"\ntransfer-to = [\"127.0.0.0/8\"]\n[regions.eu]\n[pools.web.instances]\n\
         i9 = {{ region = \"eu\", address = [\"198.51.100.9\", \"2001:db8::9\"] }}\n"
    );
    for at in 17..20 {
        let weight = u8::from(is(at));
        let _ = writeln!(text, "i{at} = {{ region = \"eu\", address = \"198.51.100.{at}\", weight = {weight} }}");
    }
    for at in (20..23).filter(|at| is(*at)) {
        let _ = writeln!(text, "[services.\"s{at}.{ZONE}\"]\npool = \"web\"");
    }
    if is(23) {
        let _ = writeln!(text, "[zones.\"child.{ZONE}\"]\nfile = \"child\"");
    }
    for (file, text) in
        [("waymark.toml", &*text), ("zone", &zone), ("child", "@ 60 SOA a b 1 2 3 4 5\n@ 60 NS a\na 60 A 192.0.2.1\n")]
    {
        fs::write(folder.path().join(file), text).expect("written");
    }
    let loaded = config::load(&folder.path().join("waymark.toml"));
    let problems: Vec<&str> = loaded.problems.iter().map(|problem| &*problem.message).collect();
    World::compile(loaded.configuration.unwrap_or_else(|| panic!("{problems:?}\n{text}\n{zone}")))
}

/// All records that answer a query over TCP.
fn ask(snapshot: &Arc<Snapshot>, query: &[u8]) -> Vec<Record> {
    let mut worker = Worker::new(&Arc::default(), 1);
    worker.adopt(snapshot);
    let mut out = vec![0; 65_535];
    let source = [127, 0, 0, 1].into();
    let mut records = Vec::new();
    match respond(snapshot, &mut worker, query, source, Transport::Tcp, &mut out) {
        Outcome::Answer(length) => records = Message::from_vec(&out[..length]).expect("well-formed").answers,
        Outcome::Stream(order) => {
            let mut transfer = Transfer::new(Arc::clone(snapshot), order);
            while let Some(length) = transfer.next_message(0, &mut out) {
                records.extend(Message::from_vec(&out[..length]).expect("well-formed").answers);
            }
            assert!(transfer.is_whole());
        }
        Outcome::Handed(_) => panic!("a query is never handed on"),
    }
    records
}

/// Applies an IXFR answer to what somebody has (RFC 1995 §4); whether it came in steps.
fn apply(copy: &mut BTreeSet<String>, answer: &[Record]) -> bool {
    if answer.len() < 2 || serial_of(&answer[1]).is_none() {
        *copy = set(answer);
        return false;
    }
    let mut adds = true;
    for record in &answer[1..answer.len() - 1] {
        adds ^= serial_of(record).is_some();
        let text = show(record);
        let changed = if adds { copy.insert(text.clone()) } else { copy.remove(&text) };
        assert!(changed, "{text}: {}", if adds { "was there" } else { "was not there" });
    }
    true
}

/// Whatever happens to a zone: whoever applies what he is told since the serial that he has, has what AXFR gives; also if
/// somebody forgot to raise the serial, or set it back.
#[test]
fn whoever_follows_has_the_zone() {
    let mut random = Random(7);
    let (mut in_steps, mut whole) = (0, 0);
    for _ in 0..40 {
        let mut serial = u32::MAX - 3;
        let mut chances = [0; CHANCES].map(|_| random.below(u64::MAX));
        let mut before = world(&chances, serial);
        let mut copies: Vec<(u32, BTreeSet<String>)> = Vec::new();
        for _ in 0..8 {
            let snapshot = Arc::new(before.freeze(before.base().clone(), 0));
            let axfr = client::plain(ZONE, RecordType::AXFR).to_vec().expect("encodes");
            let zone = set(&ask(&snapshot, &axfr));
            for &(theirs, ref copy) in &copies {
                let mut copy = copy.clone();
                let answer = ask(&snapshot, &ixfr(theirs));
                if serial.wrapping_sub(theirs).wrapping_sub(1) >= 0x7fff_ffff {
                    assert_eq!(answer.iter().map(serial_of).collect::<Vec<_>>(), [Some(serial)], "{theirs} is current");
                    continue;
                }
                if apply(&mut copy, &answer) {
                    in_steps += 1
                } else {
                    whole += 1
                }
                assert_eq!(copy, zone, "from {theirs} to {serial}");
            }
            copies.push((serial, zone));
            serial = match random.below(8) {
                0 => serial,
                1 => serial.wrapping_sub(1),
                up => serial.wrapping_add(up as u32 - 1),
            };
            for _ in 0..random.below(5) {
                chances[random.below(CHANCES as u64) as usize] = random.below(u64::MAX);
            }
            let mut next = world(&chances, serial);
            next.remember(&before);
            before = next;
        }
    }
    assert!(in_steps > 50 && whole > 50, "{in_steps} in steps, {whole} whole");
}
