//! DNS over QUIC (RFC 9250) and over HTTP/3 (RFC 9114) by the real binary: clients of other hands, what must not be said, and
//! floods of beginnings, streams and frames.

use std::net::{Ipv4Addr, UdpSocket};
use std::process::Command;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::RecordType;
use hickory_proto::rr::rdata::opt::EdnsOption;
use http::Method;
use quinn::{ConnectionError, ReadError, ReadToEndError, TransportConfig, VarInt};
use tokio::task::JoinSet;

use crate::support::encrypted::Encrypted;
use crate::support::floods::resident;
use crate::support::h2::{http1, url};
use crate::support::quic::{Http3, Quic, ask, closed, exchange, framed, run};
use crate::support::server::Server;
use crate::support::tls::Secure;
use crate::support::{client, is_strict, say, until_so};

const STATIC: &str = "static.gslb.example.com";
const MESSAGE: &str = "application/dns-message";
/// Codes of RFC 9250 §4.3, and of RFC 9114 §8.1.
const NO_ERROR: u32 = 0;
const PROTOCOL_ERROR: u32 = 2;
const EXCESSIVE_LOAD: u32 = 4;
const H3_EXCESSIVE_LOAD: u32 = 0x107;
/// Memory that floods may cost, in octets.
const MEMORY: u64 = 48 << 20;

fn question() -> Message {
    client::query(STATIC, RecordType::A, "")
}

fn octets(message: &Message) -> Vec<u8> {
    message.to_vec().expect("encodes")
}

/// The question with an option of EDNS, as it goes over a stream.
fn with_option(code: u16, data: &[u8]) -> Vec<u8> {
    let mut query = question();
    let edns = query.edns.as_mut().expect("EDNS");
    edns.options_mut().insert(EdnsOption::Unknown(code, data.to_vec()));
    framed(&query)
}

impl Encrypted {
    fn quic(&self, protocol: &str) -> Quic {
        Quic::new(&self.authority, protocol)
    }
}

fn misused(server: &Server) -> Option<f64> {
    server.metric("waymark_quic_closed_total{reason=\"misuse\"}")
}

/// More than any number that a connection might be limited to, a hundred at once.
#[test]
fn a_connection_serves_any_number_of_queries() {
    let encrypted = Encrypted::new();
    let server = encrypted.site.start();
    run(async {
        let quic = encrypted.quic("doq");
        let connection = quic.connect(encrypted.doq).await;
        let mut tasks = JoinSet::new();
        for number in 0..3000 {
            if number >= 100 {
                tasks.join_next().await.expect("a task").expect("no panic");
            }
            let connection = connection.clone();
            tasks.spawn(async move { assert_eq!(ask(&connection, &question()).await.answers.len(), 2) });
        }
        tasks.join_all().await;
        connection.close(VarInt::from_u32(NO_ERROR), b"");
    });
    assert_eq!(server.metric("waymark_queries_total{transport=\"doq\",type=\"A\"}"), Some(3000.0));
    assert_eq!(server.metric("waymark_answers_total{transport=\"doq\",rcode=\"NOERROR\"}"), Some(3000.0));
    until_so("it is closed", || server.metric("waymark_quic_connections") == Some(0.0));
}

/// RFC 9250 §5.4, RFC 8467 §4.1.
#[test]
fn answers_are_padded_where_asked() {
    let encrypted = Encrypted::new();
    let _server = encrypted.site.start();
    run(async {
        let quic = encrypted.quic("doq");
        let connection = quic.connect(encrypted.doq).await;
        let padded = exchange(&connection, &with_option(12, &[0; 10])).await.expect("an answer");
        assert_eq!(padded.len(), 2 + 468);
        let plain = exchange(&connection, &framed(&question())).await.expect("an answer");
        assert!(plain.len() < 2 + 468);
    });
}

/// It could be replayed (RFC 9250 §4.5, §7.1).
#[test]
fn there_is_no_early_data() {
    let encrypted = Encrypted::new();
    let _server = encrypted.site.start();
    run(async {
        for (protocol, address) in [("doq", encrypted.doq), ("h3", encrypted.doh3)] {
            let quic = encrypted.quic(protocol);
            let connection = quic.connect(address).await;
            if protocol == "doq" {
                ask(&connection, &question()).await;
            }
            assert!(!quic.has_early_data(address), "{protocol}");
        }
    });
}

/// RFC 9250 §4.2.1, §4.3.3, §5.5.2: each ends its connection.
#[test]
fn what_must_not_be_said_ends_the_connection() {
    let encrypted = Encrypted::new();
    let server = encrypted.site.start();
    let good = framed(&question());
    let another_id = { [&good[..2], &[0, 1], &good[4..]].concat() };
    let response = { [&good[..4], &[good[4] | 0x80], &good[5..]].concat() };
    let wrongs: [(&str, Vec<u8>); 8] = [
        ("another id", another_id),
        ("keepalive", with_option(11, &[])),
        ("keepalive with a time", with_option(11, &[0, 9])),
        ("a response", response),
        ("an end in the middle", good[..good.len() - 1].to_vec()),
        ("more behind it", [&good[..], &[0]].concat()),
        ("two queries", good.repeat(2)),
        ("nothing", vec![]),
    ];
    run(async {
        let quic = encrypted.quic("doq");
        for (what, wrong) in &wrongs {
            let connection = quic.connect(encrypted.doq).await;
            assert_eq!(ask(&connection, &question()).await.answers.len(), 2);
            assert!(exchange(&connection, wrong).await.is_err(), "{what}");
            assert_eq!(closed(&connection).await, VarInt::from_u32(PROTOCOL_ERROR), "{what}");
        }
        let connection = quic.connect(encrypted.doq).await;
        let mut stream = connection.open_uni().await.expect("a stream");
        stream.write_all(&good).await.expect("sent");
        assert_eq!(closed(&connection).await, VarInt::from_u32(PROTOCOL_ERROR));
    });
    until_so("all are counted", || misused(&server) == Some(wrongs.len() as f64 + 1.0));
}

/// One that does not become whole, and one that is taken back, beside others of the same connection.
#[test]
fn a_slow_stream_costs_itself_alone() {
    let encrypted = Encrypted::with("tcp-message-timeout = \"500ms\"");
    let server = encrypted.site.start();
    run(async {
        let quic = encrypted.quic("doq");
        let connection = quic.connect(encrypted.doq).await;
        let query = framed(&question());
        let (mut slow, mut answer) = connection.open_bi().await.expect("a stream");
        slow.write_all(&query[..9]).await.expect("sent");
        let (mut taken_back, mut nothing) = connection.open_bi().await.expect("a stream");
        taken_back.write_all(&query[..9]).await.expect("sent");
        taken_back.reset(VarInt::from_u32(3)).expect("open");
        for _ in 0..10 {
            assert_eq!(ask(&connection, &question()).await.answers.len(), 2);
        }
        let reset = |error| match error {
            Err(ReadToEndError::Read(ReadError::Reset(code))) => code,
            other => panic!("{other:?}"),
        };
        assert_eq!(reset(answer.read_to_end(100).await), VarInt::from_u32(EXCESSIVE_LOAD));
        assert_eq!(reset(nothing.read_to_end(100).await), VarInt::from_u32(3));
        assert_eq!(ask(&connection, &question()).await.answers.len(), 2);
    });
    assert_eq!(server.metric("waymark_quic_slow_queries_total"), Some(1.0));
}

#[test]
fn streams_are_bounded() {
    let encrypted = Encrypted::new();
    let _server = encrypted.site.start();
    run(async {
        let quic = encrypted.quic("doq");
        let connection = quic.connect(encrypted.doq).await;
        let mut held = vec![];
        for _ in 0..100 {
            let mut stream = connection.open_bi().await.expect("a stream");
            stream.0.write_all(&[0]).await.expect("sent");
            held.push(stream);
        }
        let is_full = tokio::select! {
            biased;
            _ = connection.open_bi() => false,
            () = std::future::ready(()) => true,
        };
        assert!(is_full, "a hundred and no more");
    });
}

#[test]
fn the_idle_are_told_and_so_is_everybody_at_the_end() {
    let encrypted = Encrypted::with("tcp-idle = \"1s\"");
    let server = encrypted.site.start();
    run(async {
        let quic = encrypted.quic("doq");
        let connection = quic.connect(encrypted.doq).await;
        ask(&connection, &question()).await;
        match connection.closed().await {
            // Both sides know how long that is.
            ConnectionError::ApplicationClosed(close) => assert_eq!(close.error_code, VarInt::from_u32(NO_ERROR)),
            ConnectionError::TimedOut => {}
            other => panic!("{other}"),
        }
        until_so("it is gone", || server.metric("waymark_quic_connections") == Some(0.0));
        let connection = quic.connect(encrypted.doq).await;
        ask(&connection, &question()).await;
        server.signal("TERM");
        assert_eq!(closed(&connection).await, VarInt::from_u32(NO_ERROR));
    });
}

/// A client that leaves no room for the stream that HTTP/3 begins with, and one whose body does not come.
#[test]
fn slow_clients_of_http3_hold_up_nothing() {
    let encrypted = Encrypted::with("tcp-message-timeout = \"300ms\"\ntcp-idle = \"60s\"");
    let mut server = encrypted.site.start();
    run(async {
        let mut transport = TransportConfig::default();
        transport.max_concurrent_uni_streams(VarInt::from_u32(0));
        let _stuck = Quic::with(&encrypted.authority, "h3", transport).connect(encrypted.doh3).await;
        let http3 = Http3::over(encrypted.quic("h3").connect(encrypted.doh3).await).await;
        assert_eq!(http3.begin("/dns-query", MESSAGE).await.status(), 408);
        assert_eq!(http3.ask(Method::GET, &url(&octets(&question())), None, b"").await.0.status(), 200);
        server.signal("TERM");
        assert!(server.wait_end().0.success());
    });
}

#[test]
fn only_its_own_protocol_is_agreed_on() {
    let encrypted = Encrypted::new();
    let server = encrypted.site.start();
    run(async {
        for (protocol, address) in [("h3", encrypted.doq), ("doq", encrypted.doh3), ("dot", encrypted.doq)] {
            let refused = encrypted.quic(protocol).try_connect(address).await.expect_err("nothing in common");
            // no_application_protocol.
            assert!(
                matches!(&refused, ConnectionError::ConnectionClosed(close) if u64::from(close.error_code) == 0x178)
            );
        }
    });
    until_so("each is counted", || server.metric("waymark_tls_handshakes_total{outcome=\"failed\"}") == Some(3.0));
}

/// Sends first packets, each from a socket of its own, which then says nothing.
fn begin(encrypted: &Encrypted, packets: &[Vec<u8>]) -> Vec<UdpSocket> {
    let send = |packet: &Vec<u8>| {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket");
        socket.send_to(packet, encrypted.doq).expect("sent");
        socket
    };
    packets.iter().map(send).collect()
}

/// Two hundred that begin and say nothing more; then more than may be in progress, whose addresses are to be proven. Honest
/// clients come all the while, and UDP is served.
#[test]
fn half_handshakes_hold_up_nobody() {
    let encrypted = Encrypted::with("workers = 1\ntcp-message-timeout = \"50s\"");
    let server = encrypted.site.start();
    let before = resident(server.id());
    run(async {
        let quic = encrypted.quic("doq");
        let packets = quic.first_packets(600).await;
        let mut held = vec![];
        // So many fit into any receive buffer.
        for some in packets.chunks(20) {
            held.extend(begin(&encrypted, some));
            let connection = quic.connect(encrypted.doq).await;
            assert_eq!(ask(&connection, &question()).await.answers.len(), 2);
            connection.close(VarInt::from_u32(NO_ERROR), b"");
            assert_eq!(server.ask(STATIC, RecordType::A, "").answers.len(), 2);
            let are_few = held.len() <= 200;
            assert!(!are_few || server.metric("waymark_quic_retries_total") == Some(0.0), "fewer than half");
        }
    });
    assert!(server.metric("waymark_quic_retries_total") >= Some(100.0));
    assert!(resident(server.id()).saturating_sub(before) < MEMORY);
    assert_eq!(server.metric("waymark_panics_total"), Some(0.0));
}

#[test]
fn a_handshake_must_be_done_in_time() {
    let encrypted = Encrypted::with("tcp-message-timeout = \"200ms\"");
    let server = encrypted.site.start();
    run(async {
        let packets = encrypted.quic("doq").first_packets(1).await;
        begin(&encrypted, &packets);
    });
    until_so("it is counted", || server.metric("waymark_tls_handshakes_total{outcome=\"timed_out\"}") == Some(1.0));
}

/// Streams that are opened and reset, again and again; queries that grow together; frames and heads without an end: each ends
/// its connection, and memory stays as it was.
#[test]
fn floods_of_streams_end_their_connection() {
    let encrypted = Encrypted::new();
    let server = encrypted.site.start();
    let before = resident(server.id());
    run(async {
        let quic = encrypted.quic("doq");
        let connection = quic.connect(encrypted.doq).await;
        while let Ok((mut send, _)) = connection.open_bi().await {
            let _ = send.write_all(&[0, 40, 0, 0]).await;
            let _ = send.reset(VarInt::from_u32(3));
            if server.ask(STATIC, RecordType::A, "").answers.len() != 2 {
                panic!("UDP is served");
            }
        }
        assert_eq!(closed(&connection).await, VarInt::from_u32(EXCESSIVE_LOAD));
        let connection = quic.connect(encrypted.doq).await;
        let mut streams = vec![];
        while let Ok(stream) = connection.open_bi().await {
            streams.push(stream);
            if streams.len() == 100 {
                break;
            }
        }
        'sending: loop {
            for (send, _) in &mut streams {
                if send.write_all(&[0; 500]).await.is_err() {
                    break 'sending;
                }
            }
        }
        assert_eq!(closed(&connection).await, VarInt::from_u32(EXCESSIVE_LOAD));
        // HEADERS of a GiB; an unknown frame of as much; the same on the control stream.
        let http3 = encrypted.quic("h3");
        for frame in [[0x01, 0xc0, 0, 0, 0, 0x40, 0, 0, 0], [0x21, 0xc0, 0, 0, 0, 0x40, 0, 0, 0]] {
            let connection = http3.connect(encrypted.doh3).await;
            let (mut send, _receive) = connection.open_bi().await.expect("a stream");
            let _ = send.write_all(&frame).await;
            while send.write_all(&[0; 1000]).await.is_ok() {}
            assert_eq!(closed(&connection).await, VarInt::from_u32(H3_EXCESSIVE_LOAD));
            let connection = http3.connect(encrypted.doh3).await;
            let mut send = connection.open_uni().await.expect("a stream");
            let _ = send.write_all(&[0, 4, 0]).await;
            let _ = send.write_all(&frame).await;
            while send.write_all(&[0; 1000]).await.is_ok() {}
            connection.closed().await;
        }
        let connection = quic.connect(encrypted.doq).await;
        assert_eq!(ask(&connection, &question()).await.answers.len(), 2);
    });
    assert!(resident(server.id()).saturating_sub(before) < MEMORY);
    assert!(server.metric("waymark_quic_closed_total{reason=\"wasteful\"}") >= Some(4.0));
    assert_eq!(server.metric("waymark_panics_total"), Some(0.0));
    let about =
        |line: &&String| ["quinn", "h3", "QUIC"].iter().any(|part| line.contains(part)) && line.contains("WARN");
    assert_eq!(server.log().iter().filter(about).collect::<Vec<_>>(), Vec::<&String>::new(), "no line for any of them");
}

#[test]
fn idle_connections_take_little_memory() {
    const CONNECTIONS: usize = 300;
    let encrypted = Encrypted::with("tcp-idle = \"60s\"\ntcp-connections-per-prefix = 1000");
    let server = encrypted.site.start();
    run(async {
        let quic = encrypted.quic("doq");
        ask(&quic.connect(encrypted.doq).await, &question()).await;
        let before = resident(server.id());
        let mut held = vec![];
        for _ in 0..CONNECTIONS {
            let connection = quic.connect(encrypted.doq).await;
            ask(&connection, &question()).await;
            held.push(connection);
        }
        let each = resident(server.id()).saturating_sub(before) / CONNECTIONS as u64;
        assert!(each < 192 << 10, "{} KiB each", each >> 10);
    });
}

/// Whose a query was, and how it came.
#[test]
fn the_server_knows_how_a_query_came() {
    let whoami = "whoami.gslb.example.com";
    let encrypted = Encrypted::with(&format!("whoami = [\"{whoami}\"]"));
    let _server = encrypted.site.start();
    let query = client::query(whoami, RecordType::TXT, "");
    let is_from = |answer: &Message, transport: &str| {
        let said = client::records(answer).concat();
        assert!(said.contains("resolver 127.0.0.1") && said.contains(&format!("transport {transport}")), "{said}");
    };
    run(async {
        let connection = encrypted.quic("doq").connect(encrypted.doq).await;
        is_from(&ask(&connection, &query).await, "doq");
        let http3 = Http3::over(encrypted.quic("h3").connect(encrypted.doh3).await).await;
        let (_, body) = http3.ask(Method::GET, &url(&octets(&query)), None, b"").await;
        is_from(&Message::from_vec(&body).expect("a message"), "doh3");
    });
}

/// Whoever may copy the zone over TCP, and is told NOTAUTH of others, gets the same words here, but for the copy itself: that
/// is many messages.
#[test]
fn copies_of_zones_are_refused_to_everybody() {
    let encrypted = Encrypted::new();
    let zone = "file = \"gslb.example.com.zone\"";
    encrypted.site.edit(zone, &format!("{zone}\ntransfer-to = [\"127.0.0.0/8\"]"));
    let server = encrypted.site.start();
    let whole = client::query("gslb.example.com", RecordType::AXFR, "");
    let other = client::query("example.org", RecordType::AXFR, "");
    assert_eq!(client::tcp(server.dns, std::slice::from_ref(&whole))[0].response_code, ResponseCode::NoError);
    let config = encrypted.authority.client_of(rustls::ALL_VERSIONS, &["http/1.1"]);
    run(async {
        let connection = encrypted.quic("doq").connect(encrypted.doq).await;
        let http3 = Http3::over(encrypted.quic("h3").connect(encrypted.doh3).await).await;
        for (query, code) in [(&whole, ResponseCode::Refused), (&other, ResponseCode::NotAuth)] {
            let path = url(&octets(query));
            let mut secure = Secure::connect(encrypted.doh, &config).expect("a handshake");
            let over_https = http1(&mut secure, "GET", &path, "", b"").expect("a response").body;
            let (_, over_http3) = http3.ask(Method::GET, &path, None, b"").await;
            let answers = [over_https, over_http3].map(|octets| Message::from_vec(&octets).expect("a message"));
            for answer in answers.into_iter().chain([ask(&connection, query).await]) {
                assert_eq!((answer.response_code, answer.answers.len()), (code, 0), "{query}");
            }
        }
    });
}

#[test]
fn http3_is_what_http2_is() {
    let encrypted = Encrypted::new();
    let server = encrypted.site.start();
    let query = octets(&question());
    let path = url(&query);
    run(async {
        let quic = encrypted.quic("h3");
        let http3 = Http3::over(quic.connect(encrypted.doh3).await).await;
        // Method, path, type and octets of the body; status of the response.
        type Row<'a> = (Method, &'a str, Option<&'a str>, &'a [u8], u16);
        let rows: [Row; 9] = [
            (Method::GET, &path, None, b"", 200),
            (Method::HEAD, &path, None, b"", 200),
            (Method::POST, "/dns-query", Some(MESSAGE), &query, 200),
            (Method::GET, "/", None, b"", 404),
            (Method::PUT, &path, None, b"", 405),
            (Method::GET, "/dns-query", None, b"", 400),
            (Method::POST, "/dns-query", Some(MESSAGE), b"\0\0", 400),
            (Method::POST, "/dns-query", Some("text/plain"), &query, 415),
            (Method::POST, "/dns-query", Some(MESSAGE), &[0; 65_536], 413),
        ];
        for (method, path, content_type, body, status) in rows {
            let is_get = method == Method::GET;
            let (response, body) = http3.ask(method.clone(), path, content_type, body).await;
            assert_eq!(response.status().as_u16(), status, "{method} {path}");
            if status == 200 {
                assert_eq!(response.headers()["content-type"], MESSAGE);
                let cached = response.headers()["cache-control"].to_str().expect("text").to_owned();
                assert!(cached.starts_with("private, max-age="), "{cached}");
            }
            if is_get && status == 200 {
                assert_eq!(Message::from_vec(&body).expect("a message").answers.len(), 2);
            }
        }
        for _ in 0..1500 {
            assert_eq!(http3.ask(Method::GET, &path, None, b"").await.0.status(), 200);
        }
    });
    assert_eq!(server.metric("waymark_queries_total{transport=\"doh3\",type=\"A\"}"), Some(1503.0));
}

/// RFC 7838: where HTTP/3 is, HTTP/1.1 and HTTP/2 say.
#[test]
fn http3_is_found() {
    let encrypted = Encrypted::new();
    let _server = encrypted.site.start();
    let config = encrypted.authority.client_of(rustls::ALL_VERSIONS, &["http/1.1"]);
    let mut secure = Secure::connect(encrypted.doh, &config).expect("a handshake");
    let reply = http1(&mut secure, "GET", &url(&octets(&question())), "", b"").expect("a response");
    let expected = format!("alt-svc: h3=\":{}\"; ma=86400\r\n", encrypted.doh3.port());
    assert!(reply.head.contains(&expected), "{}", reply.head);
}

/// `dnspython` over `aioquic`, where the Python of `WAYMARK_TEST_PYTHON`, or that of the system, has them.
#[test]
fn dnspython_is_answered() {
    let encrypted = Encrypted::new();
    let _server = encrypted.site.start();
    let script = "
import sys, dns.message, dns.query
address, doq, doh3, root, host = sys.argv[1:]
query = dns.message.make_query('static.gslb.example.com', 'A', use_edns=0, pad=128)
answer = dns.query.quic(query, address, port=int(doq), verify=root, server_hostname=host, timeout=30)
assert len(answer.answer[0]) == 2, answer
url = f'https://{host}:{doh3}/dns-query'
for post in True, False:
    answer = dns.query.https(query, url, bootstrap_address=address, verify=root, timeout=30, post=post,
                             http_version=dns.query.HTTPVersion.H3)
    assert len(answer.answer[0]) == 2, answer
";
    let python = std::env::var("WAYMARK_TEST_PYTHON").unwrap_or_else(|_| "python3".into());
    let there = Command::new(&python).args(["-c", "import dns.query, aioquic"]).output();
    if !there.is_ok_and(|output| output.status.success()) {
        assert!(!is_strict(), "dnspython and aioquic are not installed");
        return say("ignored: needs dnspython and aioquic");
    }
    let arguments = [
        encrypted.doq.ip().to_string(),
        encrypted.doq.port().to_string(),
        encrypted.doh3.port().to_string(),
        encrypted.site.path("root.pem").display().to_string(),
        crate::support::tls::HOST.to_owned(),
    ];
    let output = Command::new(python).args(["-c", script]).args(arguments).output().expect("it runs");
    assert!(output.status.success(), "{}", client::text(&output));
}
