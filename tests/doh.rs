//! DNS over HTTPS (RFC 8484) by the real binary: kdig, dig, curl and h2load, requests of every kind by hand, and floods of what
//! HTTP/2 has beside requests.

use std::fs;
use std::io::{self, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::RecordType;
use hickory_proto::rr::rdata::opt::EdnsOption;

use crate::support::encrypted::Encrypted;
use crate::support::floods::{connect, resident};
use crate::support::h2::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, H2, HEADERS, PING, RST_STREAM, Reply, SETTINGS, WINDOW_UPDATE,
    block, frame, http1, reply, url,
};
use crate::support::server::Server;
use crate::support::tls::{HOST, Secure};
use crate::support::{client, has, until_so};

const STATIC: &str = "static.gslb.example.com";
const WASTEFUL: &str = "waymark_tcp_closed_total{reason=\"wasteful\"}";
/// Memory that floods may cost, in octets; a connection is allowed a fraction of a megabyte.
const MEMORY: u64 = 48 << 20;
/// Octets that an attacker sends on one connection at most, before the test says that nothing stops him.
const ENDLESS: usize = 64 << 20;

fn question() -> Message {
    client::query(STATIC, RecordType::A, "")
}

fn octets(message: &Message) -> Vec<u8> {
    message.to_vec().expect("encodes")
}

impl Encrypted {
    fn http1(&self) -> Secure {
        let config = self.authority.client_of(rustls::ALL_VERSIONS, &["http/1.1"]);
        Secure::connect(self.doh, &config).expect("a handshake")
    }

    fn h2(&self, settings: &[(u16, u32)]) -> H2 {
        let config = self.authority.client_of(rustls::ALL_VERSIONS, &["h2"]);
        H2::connect(self.doh, &config, settings).expect("a handshake")
    }

    /// One request over HTTP/1.1 on a connection of its own.
    #[track_caller]
    fn ask(&self, method: &str, path: &str, headers: &str, body: &[u8]) -> Reply {
        http1(&mut self.http1(), method, path, headers, body).expect("a response")
    }
}

/// Asks by GET, and sees that the answer is right.
fn asked(h2: &mut H2) -> io::Result<()> {
    let (query, stream) = (question(), h2.open());
    let path = url(&octets(&query));
    h2.send(&frame(HEADERS, END_HEADERS | END_STREAM, stream, &block("GET", &path, &[])))?;
    let answer = Message::from_vec(&h2.answer(stream)?).map_err(io::Error::other)?;
    assert_eq!((answer.id, answer.answers.len()), (query.id, 2));
    Ok(())
}

#[test]
fn kdig_and_dig_are_answered() {
    if !has("kdig") || !has("dig") {
        return;
    }
    let encrypted = Encrypted::new();
    let server = encrypted.site.start();
    let [root, host] = &encrypted.belief();
    for (program, how, said) in [
        ("kdig", "+https", "HTTP/2-POST"),
        ("kdig", "+https-get", "HTTP/2-GET"),
        ("dig", "+https", "(HTTPS)"),
        ("dig", "+https-get", "(HTTPS-GET)"),
    ] {
        let text = client::tool(program, encrypted.doh, &[how, root, host, STATIC, "A"]);
        assert!(text.contains("status: NOERROR") && text.contains("192.0.2."), "{program} {how}: {text}");
        assert!(text.contains(said), "{program} {how}: {text}");
    }
    assert_eq!(server.metric("waymark_queries_total{transport=\"doh\",type=\"A\"}"), Some(4.0));
    assert_eq!(server.metric("waymark_answers_total{transport=\"doh\",rcode=\"NOERROR\"}"), Some(4.0));
    let (at, port) = (format!("@{}", encrypted.doh.ip()), encrypted.doh.port().to_string());
    let plain = ["+http-plain", "+tries=1", "+timeout=5"];
    let output = Command::new("dig").args([&*at, "-p", &*port]).args(plain).args([STATIC, "A"]).output();
    let output = output.expect("it runs");
    assert!(!output.status.success(), "nothing in the clear: {}", client::text(&output));
}

#[test]
fn curl_is_answered_over_both_versions() {
    if !has("curl") {
        return;
    }
    let encrypted = Encrypted::new();
    let _server = encrypted.site.start();
    let query = question();
    fs::write(encrypted.site.path("query"), octets(&query)).expect("written");
    let resolve = format!("{HOST}:{}:{}", encrypted.doh.port(), encrypted.doh.ip());
    let url = |path: &str| format!("https://{HOST}:{}{path}", encrypted.doh.port());
    let root = encrypted.site.path("root.pem").display().to_string();
    let body = format!("@{}", encrypted.site.path("query").display());
    for (version, said) in [("--http1.1", "1.1"), ("--http2", "2")] {
        let get = vec![url(&self::url(&octets(&query)))];
        let post = ["-H", "content-type: application/dns-message", "--data-binary", &body].map(String::from);
        let post = [&post[..], &[url("/dns-query")]].concat();
        for how in [get, post] {
            let mut command = Command::new("curl");
            command.args(["-sS", version, "--cacert", &root, "--resolve", &resolve]);
            let output = command.args(["-w", "\n%{http_code} %{http_version} %{content_type}"]).args(&how).output();
            let output = output.expect("it runs").stdout;
            let line = output.iter().rposition(|octet| *octet == b'\n').expect("what curl writes");
            let expected = format!("200 {said} application/dns-message");
            assert_eq!(String::from_utf8_lossy(&output[line + 1..]), expected, "{version} {how:?}");
            let answer = Message::from_vec(&output[..line]).expect("a message");
            assert_eq!((answer.id, answer.answers.len()), (query.id, 2));
        }
    }
}

#[test]
fn h2load_is_answered_twenty_thousand_times() {
    if !has("h2load") {
        return;
    }
    let encrypted = Encrypted::new();
    let server = encrypted.site.start();
    let url = format!("https://{}{}", encrypted.doh, url(&octets(&question())));
    let output = Command::new("h2load").args(["-n", "20000", "-c", "20", "-m", "10", &url]).output().expect("it runs");
    let said = client::text(&output);
    assert!(said.contains("20000 succeeded, 0 failed, 0 errored, 0 timeout"), "{said}");
    assert!(said.contains("status codes: 20000 2xx, 0 3xx, 0 4xx, 0 5xx"), "{said}");
    assert_eq!(server.metric("waymark_queries_total{transport=\"doh\",type=\"A\"}"), Some(20_000.0));
}

/// RFC 8484 §4.2, §5.1; RFC 9110.
#[test]
fn what_a_request_gets() {
    let encrypted = Encrypted::new();
    let server = encrypted.site.start();
    let path = url(&octets(&question()));
    let refused = client::query("example.org", RecordType::A, "");
    let message = "content-type: application/dns-message\r\n";
    let length = |octets: usize| format!("{message}content-length: {octets}\r\n");
    let query = octets(&question());
    let response = { [&query[..2], &[query[2] | 0x80], &query[3..]].concat() };
    // Method, path, headers, body; status and a header of the response.
    type Row<'a> = (&'a str, &'a str, &'a str, &'a [u8], u16, &'a str);
    let rows: [Row; 15] = [
        ("GET", &path, "", b"", 200, "content-type: application/dns-message"),
        ("HEAD", &path, "", b"", 200, "content-length: "),
        ("POST", "/dns-query", &length(query.len()), &query, 200, "cache-control: private, max-age="),
        // Any rcode is a good answer.
        ("GET", &url(&octets(&refused)), "", b"", 200, "cache-control: private, max-age=0"),
        ("GET", &url(&[&query[..], &[1, 2, 3]].concat()), "", b"", 200, "content-type: application/dns-message"),
        ("GET", "/dns-query", "", b"", 400, ""),
        ("GET", "/dns-query?dns=AAAB====", "", b"", 400, ""),
        ("GET", &url(&[1; 11]), "", b"", 400, ""),
        ("GET", &url(&response), "", b"", 400, ""),
        ("GET", "/", "", b"", 404, ""),
        ("POST", "/dns-query", "content-type: text/plain\r\ncontent-length: 1\r\n", b"x", 415, ""),
        ("POST", "/dns-query", "content-length: 0\r\n", b"", 415, ""),
        ("POST", "/dns-query", &length(65_536), b"", 413, ""),
        ("PUT", &path, "", b"", 405, "allow: get, head, post"),
        ("GET", &format!("/dns-query?dns={}", "A".repeat(40_000)), "", b"", 431, ""),
    ];
    for (method, path, headers, body, status, header) in rows {
        let reply = encrypted.ask(method, path, headers, body);
        let shown = path.chars().take(60).collect::<String>();
        assert_eq!(reply.status, status, "{method} {shown}: {}", reply.head);
        assert!(reply.head.contains(header), "{method} {shown}: {}", reply.head);
    }
    let reply = encrypted.ask("GET", &url(&octets(&refused)), "", b"");
    assert_eq!(Message::from_vec(&reply.body).expect("a message").response_code, ResponseCode::Refused);
    // In pieces whose sum is too long.
    let chunk = [&b"8000\r\n"[..], &[0; 0x8000], b"\r\n"].concat();
    let body = [chunk.clone(), chunk, b"1\r\nx\r\n0\r\n\r\n".to_vec()].concat();
    let reply = encrypted.ask("POST", "/dns-query", &format!("{message}transfer-encoding: chunked\r\n"), &body);
    assert_eq!(reply.status, 413);
    assert!(server.metric("waymark_http_refused_total") >= Some(10.0));
}

/// RFC 8484 §5.1: of an answer the least TTL, of a negative one what its SOA says.
#[test]
fn answers_say_how_long_they_are_fresh() {
    let encrypted = Encrypted::new();
    let _server = encrypted.site.start();
    for (name, rtype) in [(STATIC, RecordType::A), ("nope.gslb.example.com", RecordType::A), (STATIC, RecordType::MX)] {
        let reply = encrypted.ask("GET", &url(&octets(&client::query(name, rtype, ""))), "", b"");
        let answer = Message::from_vec(&reply.body).expect("a message");
        let records = if answer.answers.is_empty() { &answer.authorities } else { &answer.answers };
        let least = records.iter().map(|record| record.ttl).min().expect("records");
        assert!(least > 0 && reply.head.contains(&format!("max-age={least}\r\n")), "{name}: {least}, {}", reply.head);
    }
}

/// A query's id comes back, whatever it is; caches like 0 (RFC 8484 §4.1).
#[test]
fn ids_are_kept_and_answers_padded() {
    let encrypted = Encrypted::new();
    let _server = encrypted.site.start();
    let mut secure = encrypted.http1();
    for id in [0u16, 1, 0xffff] {
        let mut query = question();
        let edns = query.edns.as_mut().expect("EDNS");
        edns.options_mut().insert(EdnsOption::Unknown(12, vec![0; 16]));
        let query = [&id.to_be_bytes()[..], &octets(&query)[2..]].concat();
        let reply = http1(&mut secure, "GET", &url(&query), "", b"").expect("a response");
        assert_eq!(Message::from_vec(&reply.body).expect("a message").id, id);
        assert_eq!(reply.body.len(), 468);
    }
}

/// HTTP/1.1 by pipelining, HTTP/2 by streams: more than any number that a connection might be limited to.
#[test]
fn a_connection_serves_any_number_of_requests() {
    let encrypted = Encrypted::new();
    let _server = encrypted.site.start();
    let mut secure = encrypted.http1();
    let path = url(&octets(&question()));
    let request = format!("GET {path} HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
    for _ in 0..50 {
        secure.0.write_all(request.repeat(40).as_bytes()).expect("sent");
        secure.0.flush().expect("sent");
        for _ in 0..40 {
            assert_eq!(reply(&mut secure, false).expect("a response").status, 200);
        }
    }
    let mut h2 = encrypted.h2(&[]);
    for _ in 0..3000 {
        asked(&mut h2).expect("an answer");
    }
}

#[test]
fn bodies_may_come_in_pieces() {
    let encrypted = Encrypted::new();
    let _server = encrypted.site.start();
    let query = octets(&question());
    let mut h2 = encrypted.h2(&[]);
    let stream = h2.open();
    let headers = block("POST", "/dns-query", &[("content-type", "application/dns-message")]);
    h2.send(&frame(HEADERS, 0, stream, &headers[..7])).expect("sent");
    h2.send(&frame(CONTINUATION, END_HEADERS, stream, &headers[7..])).expect("sent");
    for octet in &query {
        h2.send(&frame(DATA, 0, stream, &[*octet])).expect("sent");
    }
    h2.send(&frame(DATA, END_STREAM, stream, &[])).expect("sent");
    let answer = Message::from_vec(&h2.answer(stream).expect("an answer")).expect("a message");
    assert_eq!(answer.answers.len(), 2);
}

#[test]
fn what_is_not_agreed_on_is_refused() {
    let encrypted = Encrypted::new();
    let _server = encrypted.site.start();
    let refused = Secure::connect(encrypted.doh, &encrypted.authority.client()).err().expect("nothing in common");
    assert!(refused.to_string().contains("NoApplicationProtocol"), "{refused}");
    // Without ALPN it is HTTP/1.1.
    let config = encrypted.authority.client_of(rustls::ALL_VERSIONS, &[]);
    let mut secure = Secure::connect(encrypted.doh, &config).expect("a handshake");
    let reply = http1(&mut secure, "GET", &url(&octets(&question())), "", b"").expect("a response");
    assert_eq!(reply.status, 200);
}

/// A header of PROXY protocol that says that 203.0.113.9 asks, before the handshake; and none.
#[test]
fn a_balancer_says_whose_connection_it_is() {
    let balancer = Ipv4Addr::new(127, 0, 0, 2);
    let whoami = "whoami.gslb.example.com";
    let encrypted = Encrypted::with(&format!("proxy-protocol-from = [\"{balancer}/32\"]\nwhoami = [\"{whoami}\"]"));
    let _server = encrypted.site.start();
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
    header.extend([203, 0, 113, 9, 192, 0, 2, 53, 0xc0, 0, 1, 187]);
    let config = encrypted.authority.client_of(rustls::ALL_VERSIONS, &["http/1.1"]);
    let query = url(&octets(&client::query(whoami, RecordType::TXT, "")));
    for (source, header, resolver) in [(balancer, &header[..], "203.0.113.9"), (Ipv4Addr::LOCALHOST, &[], "127.0.0.1")]
    {
        let mut stream = connect(source, encrypted.doh).expect("a connection");
        stream.write_all(header).expect("sent");
        let mut secure = Secure::over(stream, &config).expect("a handshake");
        // What a client says of itself over HTTP is not believed.
        let reply = http1(&mut secure, "GET", &query, "x-forwarded-for: 192.0.2.77\r\n", b"").expect("a response");
        let said = client::records(&Message::from_vec(&reply.body).expect("a message")).concat();
        assert!(said.contains(&format!("resolver {resolver}")) && said.contains("transport doh"), "{said}");
    }
}

#[test]
fn another_path_may_be_served() {
    let encrypted = Encrypted::new();
    encrypted.site.append("doh-path = \"/a/b\"\n");
    let _server = encrypted.site.start();
    let path = url(&octets(&question()));
    assert_eq!(encrypted.ask("GET", &path, "", b"").status, 404);
    assert_eq!(encrypted.ask("GET", &path.replace("/dns-query", "/a/b"), "", b"").status, 200);
}

#[test]
fn the_idle_the_slow_and_the_silent_are_cut() {
    let encrypted = Encrypted::with("tcp-idle = \"1s\"\ntcp-message-timeout = \"500ms\"");
    let server = encrypted.site.start();
    let closed = |reason: &str| server.metric(&format!("waymark_tcp_closed_total{{reason=\"{reason}\"}}"));
    // Nothing; half a head; an idle connection that is told so.
    let (mut silent, mut half, mut idle) = (encrypted.h2(&[]), encrypted.http1(), encrypted.h2(&[]));
    half.0.write_all(b"GET /dns-query").expect("sent");
    asked(&mut idle).expect("an answer");
    silent.wait_closed();
    let told = loop {
        match idle.receive() {
            Ok(frame) if frame.kind == GOAWAY => break true,
            Ok(_) => {}
            Err(_) => break false,
        }
    };
    assert!(told, "GOAWAY before the end");
    until_so("all three are counted", || closed("idle") == Some(3.0));
    // A body that does not come: 408, and no sign of life.
    let reply =
        encrypted.ask("POST", "/dns-query", "content-type: application/dns-message\r\ncontent-length: 40\r\n", b"\0\0");
    assert_eq!(reply.status, 408);
    assert_eq!(server.metric("waymark_panics_total"), Some(0.0));
}

/// What was asked is answered, those who wait are told, and the process ends.
#[test]
fn the_end_is_orderly() {
    let encrypted = Encrypted::new();
    let mut server = encrypted.site.start();
    let (mut h2, mut secure) = (encrypted.h2(&[]), encrypted.http1());
    asked(&mut h2).expect("an answer");
    http1(&mut secure, "GET", &url(&octets(&question())), "", b"").expect("a response");
    server.signal("TERM");
    while h2.receive().expect("GOAWAY before the end").kind != GOAWAY {}
    h2.wait_closed();
    assert_eq!(std::io::Read::read(&mut secure.0, &mut [0; 8]).expect("an orderly end"), 0);
    let (status, _) = server.wait_end();
    assert!(status.success(), "{status}");
}

/// A window of no octets, on as many streams as may be open.
#[test]
fn answers_that_nobody_takes_end_their_connection() {
    let encrypted = Encrypted::with("tcp-write-timeout = \"200ms\"");
    let server = encrypted.site.start();
    let mut reader = encrypted.h2(&[(4, 0)]);
    let path = url(&octets(&question()));
    for _ in 0..100 {
        let stream = reader.open();
        let asks = frame(HEADERS, END_HEADERS | END_STREAM, stream, &block("GET", &path, &[]));
        reader.send(&asks).expect("sent");
    }
    reader.wait_closed();
    until_so("it is counted", || server.metric("waymark_tcp_closed_total{reason=\"slow_reader\"}") == Some(1.0));
}

/// What attackers send again and again: what comes once for a connection, and what comes in each turn.
type Turn = fn(&mut H2) -> Vec<u8>;

/// Several connections that send the same again and again, until each of them is closed; UDP is served meanwhile, and memory
/// stays as it was.
fn flood(encrypted: &Encrypted, server: &Server, what: &str, first: Turn, turn: Turn) {
    let before = resident(server.id());
    let open = AtomicUsize::new(4);
    thread::scope(|scope| {
        let attack = || {
            let mut h2 = encrypted.h2(&[]);
            let head = first(&mut h2);
            let mut sent = head.len();
            let mut stands = h2.send(&head).is_ok();
            while stands && sent < ENDLESS {
                let octets: Vec<u8> = (0..100).flat_map(|_| turn(&mut h2)).collect();
                sent += octets.len();
                stands = h2.send(&octets).is_ok() && h2.drain();
            }
            open.fetch_sub(1, Ordering::Relaxed);
            (stands, sent)
        };
        let attackers: Vec<_> = (0..4).map(|_| scope.spawn(attack)).collect();
        let mut most = before;
        while open.load(Ordering::Relaxed) > 0 {
            assert_eq!(server.ask(STATIC, RecordType::A, "").answers.len(), 2, "{what}");
            most = most.max(resident(server.id()));
        }
        for attacker in attackers {
            let (stands, sent) = attacker.join().expect("no panic");
            assert!(!stands, "{what}: {sent} octets, and nobody minds");
        }
        assert!(most - before < MEMORY, "{what}: {} KiB more", (most - before) >> 10);
    });
    let mut honest = encrypted.h2(&[]);
    asked(&mut honest).expect("an answer");
    assert_eq!(server.metric("waymark_panics_total"), Some(0.0));
}

fn nothing(_: &mut H2) -> Vec<u8> {
    vec![]
}

#[test]
fn floods_of_frames_end_their_connection() {
    let encrypted = Encrypted::new();
    let server = encrypted.site.start();
    let flood = |what, first: Turn, turn: Turn| flood(&encrypted, &server, what, first, turn);
    // CVE-2023-44487.
    flood("rapid reset", nothing, |h2| {
        let stream = h2.open();
        let headers = frame(HEADERS, END_HEADERS | END_STREAM, stream, &block("GET", "/dns-query?dns=AAAB", &[]));
        [headers, frame(RST_STREAM, 0, stream, &8u32.to_be_bytes())].concat()
    });
    // CVE-2025-8671: streams that the server has to reset.
    flood("made you reset", nothing, |h2| {
        let stream = h2.open();
        let block = block("POST", "/dns-query", &[("content-type", "application/dns-message")]);
        let headers = frame(HEADERS, END_HEADERS, stream, &block);
        [headers, frame(WINDOW_UPDATE, 0, stream, &0u32.to_be_bytes())].concat()
    });
    // CVE-2024-27316.
    flood(
        "CONTINUATION",
        |h2| frame(HEADERS, END_STREAM, h2.open(), &block("GET", "/dns-query", &[])),
        |_| frame(CONTINUATION, 0, 1, &[&[0][..], b"\x01a\x7f\x81\x01", &[b'x'; 256]].concat()),
    );
    flood("empty CONTINUATION", |h2| frame(HEADERS, END_STREAM, h2.open(), &[]), |_| frame(CONTINUATION, 0, 1, &[]));
    // CVE-2019-9512, 9515, 9518.
    flood("PING", nothing, |_| frame(PING, 0, 0, &[7; 8]));
    flood("PING that nobody waits for", nothing, |_| frame(PING, 1, 0, &[7; 8]));
    flood("SETTINGS", nothing, |_| frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0xff, 0xff]));
    flood(
        "empty DATA",
        |h2| {
            let headers = [("content-type", "application/dns-message")];
            frame(HEADERS, END_HEADERS, h2.open(), &block("POST", "/dns-query", &headers))
        },
        |_| frame(DATA, 0, 1, &[]),
    );
    flood("WINDOW_UPDATE", nothing, |_| frame(WINDOW_UPDATE, 0, 0, &1u32.to_be_bytes()));
    flood("refused requests", nothing, |h2| {
        frame(HEADERS, END_HEADERS | END_STREAM, h2.open(), &block("GET", "/", &[]))
    });
    flood("unknown frames", nothing, |_| frame(0xee, 0, 0, &[0; 100]));
    flood("junk", nothing, |_| vec![0xff; 100]);
    assert!(server.metric(WASTEFUL) >= Some(1.0));
    let about = |line: &&String| ["h2", "hyper", "PING"].iter().any(|part| line.contains(part));
    assert_eq!(server.log().iter().filter(about).collect::<Vec<_>>(), Vec::<&String>::new(), "no line for any of them");
}

/// A hundred bodies of the longest kind at once are more than is kept for a connection.
#[test]
fn queries_that_grow_together_end_their_connection() {
    let encrypted = Encrypted::new();
    let server = encrypted.site.start();
    let before = resident(server.id());
    let attack = || {
        let mut h2 = encrypted.h2(&[]);
        let headers = block("POST", "/dns-query", &[("content-type", "application/dns-message")]);
        let streams: Vec<u32> = (0..100).map(|_| h2.open()).collect();
        let opened: Vec<u8> =
            streams.iter().flat_map(|stream| frame(HEADERS, END_HEADERS, *stream, &headers)).collect();
        let mut stands = h2.send(&opened).is_ok();
        for _ in 0..100 {
            for stream in &streams {
                stands = stands && h2.send(&frame(DATA, 0, *stream, &[0; 400])).is_ok();
            }
            stands = stands && h2.drain();
        }
        stands
    };
    assert!(!attack(), "it is closed");
    assert!(resident(server.id()) - before < MEMORY);
    until_so("it is counted", || server.metric(WASTEFUL) == Some(1.0));
}

/// A thousand of many networks, each of which was answered.
#[test]
fn idle_connections_take_little_memory() {
    const CONNECTIONS: usize = 1000;
    let encrypted = Encrypted::with("tcp-idle = \"60s\"");
    let server = encrypted.site.start();
    asked(&mut encrypted.h2(&[])).expect("an answer");
    let before = resident(server.id());
    let config = encrypted.authority.client_of(rustls::ALL_VERSIONS, &["h2"]);
    let hold = |number: usize| {
        let source = Ipv4Addr::new(127, 1, (number / 20) as u8, 1 + (number % 20) as u8);
        let secure = Secure::over(connect(source, encrypted.doh).expect("a connection"), &config).expect("a handshake");
        let mut h2 = H2::over(secure, &[]).expect("sent");
        asked(&mut h2).expect("an answer");
        h2
    };
    let held: Vec<H2> = (0..CONNECTIONS).map(hold).collect();
    let each = resident(server.id()).saturating_sub(before) / CONNECTIONS as u64;
    assert!(each < 128 << 10, "{} KiB each", each >> 10);
    drop(held);
}

/// A thousand of as many clients that never end their handshake; honest ones come and go.
#[test]
fn half_handshakes_hold_up_nobody() {
    let encrypted = Encrypted::new();
    let server = encrypted.site.start();
    let hold = |number: usize| {
        let source = Ipv4Addr::new(127, 1, (number / 20) as u8, 1 + (number % 20) as u8);
        let mut stream = connect(source, encrypted.doh).expect("a connection");
        if number.is_multiple_of(2) {
            stream.write_all(&[22, 3, 1, 2, 0, 1, 0]).expect("sent");
        }
        stream
    };
    let held: Vec<TcpStream> = (0..1000).map(hold).collect();
    for _ in 0..20 {
        asked(&mut encrypted.h2(&[])).expect("an answer");
        assert_eq!(server.ask(STATIC, RecordType::A, "").answers.len(), 2);
    }
    drop(held);
    assert_eq!(server.metric("waymark_panics_total"), Some(0.0));
}
