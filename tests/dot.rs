//! DNS over TLS (RFC 7858) by the real binary: kdig and other clients than ours, half handshakes, certificates that are replaced
//! under load, resumption, padding (RFC 7830, 8467); and balancers that say whose connection or datagram it is.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::RecordType;
use hickory_proto::rr::rdata::opt::EdnsOption;
use rustls::HandshakeKind;
use rustls::version::{TLS12, TLS13};
use socket2::{Domain, Socket, Type};

use crate::support::server::Server;
use crate::support::site::Site;
use crate::support::tls::{Authority, HOST, Issued, Secure};
use crate::support::{PATIENCE, client, has, ports, until, until_so};

const STATIC: &str = "static.gslb.example.com";
const WWW: &str = "www.gslb.example.com";
const WHOAMI: &str = "whoami.gslb.example.com";
const FAILED: &str = "waymark_tls_certificate_reload_failed";
/// Whose the connections and datagrams of a balancer are: in Europe, as the example has it; and where the balancer is.
const CLIENT: [u8; 4] = [203, 0, 113, 9];
const BALANCER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// The example, over TLS as well.
struct Secured {
    site: Site,
    authority: Authority,
    shown: Issued,
    dot: SocketAddr,
}

impl Secured {
    fn new() -> Secured {
        Secured::with("")
    }

    /// With more keys of `[server]`.
    fn with(keys: &str) -> Secured {
        let (site, authority) = (Site::unchecked(), Authority::new());
        let dot = SocketAddr::from((Ipv4Addr::LOCALHOST, ports::free()));
        let shown = authority.issue(2020, 2100);
        shown.write(&site.path("cert.pem"), &site.path("key.pem"));
        fs::write(site.path("root.pem"), authority.root()).expect("written");
        site.edit("[server]\n", &format!("[server]\n{keys}\n"));
        site.append(&format!("\n[tls]\ncertificate = \"cert.pem\"\nkey = \"key.pem\"\ndot = [\"{dot}\"]\n"));
        Secured { site, authority, shown, dot }
    }

    fn files(&self) -> [PathBuf; 2] {
        ["cert.pem", "key.pem"].map(|file| self.site.path(file))
    }

    fn replace(&self, issued: &Issued) {
        let [certificate, key] = self.files();
        issued.write(&certificate, &key);
    }

    /// A new connection, which is answered; what it was shown.
    #[track_caller]
    fn asked(&self) -> Secure {
        let mut secure = Secure::connect(self.dot, &self.authority.client()).expect("a handshake");
        let answer = secure.ask(&client::query(STATIC, RecordType::A, "")).expect("an answer");
        assert_eq!(answer.answers.len(), 2);
        secure
    }
}

fn handshakes(server: &Server, outcome: &str) -> f64 {
    server.metric(&format!("waymark_tls_handshakes_total{{outcome=\"{outcome}\"}}")).expect("a metric")
}

#[test]
fn kdig_is_answered() {
    if !has("kdig") {
        return;
    }
    let secured = Secured::new();
    let server = secured.site.start();
    let root = format!("+tls-ca={}", secured.site.path("root.pem").display());
    let host = format!("+tls-hostname={HOST}");
    let said = client::tool("kdig", secured.dot, &[&root, &host, STATIC, "A"]);
    assert!(said.contains("TLS session (TLS1.3)") && said.contains("status: NOERROR"), "{said}");
    assert!(said.contains("192.0.2.") && said.contains("PADDING"), "{said}");
    let plain = client::tool("kdig", server.dns, &["+tcp", "+padding=64", STATIC, "A"]);
    assert!(!plain.contains("PADDING"), "{plain}");
    assert_eq!(server.metric("waymark_queries_total{transport=\"dot\",type=\"A\"}"), Some(1.0));
    assert_eq!(server.metric("waymark_answers_total{transport=\"dot\",rcode=\"NOERROR\"}"), Some(1.0));
}

#[test]
fn every_pipelined_query_is_answered() {
    let secured = Secured::new();
    let _server = secured.site.start();
    let queries: Vec<Message> = (0..300).map(|_| client::query(STATIC, RecordType::A, "")).collect();
    let ask = || {
        let mut secure = Secure::connect(secured.dot, &secured.authority.client()).expect("a handshake");
        secure.send(&queries).expect("sent");
        for query in &queries {
            let answer = Message::from_vec(&secure.receive().expect("an answer")).expect("a message");
            assert_eq!((answer.id, answer.answers.len()), (query.id, 2));
        }
    };
    ask();
    thread::scope(|scope| (0..8).for_each(|_| drop(scope.spawn(ask))));
}

/// RFC 9103 has them over TLS 1.3 alone, which is not offered.
#[test]
fn copies_of_zones_are_for_tcp() {
    let secured = Secured::new();
    let zone = "file = \"gslb.example.com.zone\"";
    secured.site.edit(zone, &format!("{zone}\ntransfer-to = [\"127.0.0.0/8\"]"));
    let server = secured.site.start();
    let whole = client::query("gslb.example.com", RecordType::AXFR, "");
    let in_clear = client::tcp(server.dns, std::slice::from_ref(&whole));
    assert!(in_clear[0].response_code == ResponseCode::NoError && in_clear[0].answers.len() > 2);
    let mut secure = Secure::connect(secured.dot, &secured.authority.client()).expect("a handshake");
    secure.send(std::slice::from_ref(&whole)).expect("sent");
    let answer = Message::from_vec(&secure.receive().expect("an answer")).expect("a message");
    assert_eq!((answer.response_code, answer.answers.len()), (ResponseCode::Refused, 0));
}

/// RFC 7858 §3.1, with the name of IANA's registry; and none, as old clients have it.
#[test]
fn the_protocol_is_agreed_on() {
    let secured = Secured::new();
    let server = secured.site.start();
    let agreed = |protocols: &[&str]| {
        let config = secured.authority.client_of(rustls::ALL_VERSIONS, protocols);
        let secure = Secure::connect(secured.dot, &config).map_err(|error| error.to_string())?;
        Ok::<_, String>(secure.0.conn.alpn_protocol().map(|protocol| String::from_utf8_lossy(protocol).into_owned()))
    };
    assert_eq!(agreed(&["dot"]), Ok(Some("dot".into())));
    assert_eq!(agreed(&["h2", "dot"]), Ok(Some("dot".into())));
    assert_eq!(agreed(&[]), Ok(None));
    let refused = agreed(&["h2"]).expect_err("nothing in common");
    assert!(refused.contains("NoApplicationProtocol"), "{refused}");
    until_so("a failed handshake is counted", || handshakes(&server, "failed") == 1.0);
}

/// The beginning of a handshake with a client that knows no later version than TLS 1.1, or 1.0.
#[test]
fn older_versions_are_refused() {
    let secured = Secured::new();
    let _server = secured.site.start();
    for version in [1u8, 2] {
        let mut hello = vec![3, version];
        hello.extend([7; 32]);
        // No session; TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA and one of RSA; no compression; no extensions.
        hello.extend([0, 0, 4, 0xc0, 0x09, 0xc0, 0x13, 1, 0]);
        let handshake = [&[1, 0, 0, hello.len() as u8][..], &hello].concat();
        let record = [&[22, 3, 1, 0, handshake.len() as u8][..], &handshake].concat();
        let mut stream = TcpStream::connect(secured.dot).expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream.write_all(&record).expect("sent");
        let mut said = Vec::new();
        let _ = stream.read_to_end(&mut said);
        assert_eq!(said.get(..1), Some(&[21][..]), "an alert: {said:02x?}");
        assert!(
            matches!(said.get(5..7), Some([2, 40 | 70])),
            "fatal: handshake_failure, protocol_version: {said:02x?}"
        );
    }
}

/// RFC 7858 §3.1: whoever asks in the clear gets an alert at most.
#[test]
fn clear_text_is_not_answered() {
    let secured = Secured::new();
    let server = secured.site.start();
    let mut stream = TcpStream::connect(secured.dot).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream.write_all(&client::framed(&client::query(STATIC, RecordType::A, ""))).expect("sent");
    let mut said = Vec::new();
    let _ = stream.read_to_end(&mut said);
    assert!(said.len() < 16 && said.first().is_none_or(|&kind| kind == 21), "{said:02x?}");
    until_so("it is counted", || handshakes(&server, "failed") == 1.0);
}

#[test]
fn sslscan_sees_new_versions_only() {
    if !has("sslscan") {
        return;
    }
    let secured = Secured::new();
    let _server = secured.site.start();
    let output = Command::new("sslscan")
        .args([
            "--no-colour",
            "--no-ciphersuites",
            "--no-groups",
            "--no-fallback",
            "--no-compression",
            "--no-heartbleed",
        ])
        .arg(secured.dot.to_string())
        .output()
        .expect("it runs");
    let said = client::text(&output);
    let state = |version: &str| {
        let line = said.lines().find(|line| line.split_whitespace().next() == Some(version));
        line.and_then(|line| line.split_whitespace().nth(1))
            .unwrap_or_else(|| panic!("no {version} in {said}"))
            .to_owned()
    };
    for (version, expected) in [
        ("SSLv2", "disabled"),
        ("SSLv3", "disabled"),
        ("TLSv1.0", "disabled"),
        ("TLSv1.1", "disabled"),
        ("TLSv1.2", "enabled"),
        ("TLSv1.3", "enabled"),
    ] {
        assert_eq!(state(version), expected, "{version}");
    }
}

#[test]
fn sessions_are_resumed() {
    let secured = Secured::new();
    let server = secured.site.start();
    for (count, version) in [(1.0, &TLS13), (2.0, &TLS12)] {
        let config = secured.authority.client_of(&[version], &["dot"]);
        let kind = || {
            let mut secure = Secure::connect(secured.dot, &config).expect("a handshake");
            secure.ask(&client::query(STATIC, RecordType::A, "")).expect("an answer");
            secure.0.conn.handshake_kind().expect("a handshake")
        };
        assert_eq!([kind(), kind()], [HandshakeKind::Full, HandshakeKind::Resumed], "{version:?}");
        assert_eq!(server.metric("waymark_tls_resumed_total"), Some(count));
    }
}

/// Two hundred that never end their handshake, half of them silent, and honest clients of the same prefix among them.
#[test]
fn half_handshakes_hold_up_nobody() {
    let secured = Secured::new();
    let server = secured.site.start();
    let hold = |number: usize| {
        let mut stream = TcpStream::connect(secured.dot).expect("a connection");
        if number.is_multiple_of(2) {
            // The head of a record of 512 octets, and a part of it.
            stream.write_all(&[22, 3, 1, 2, 0, 1, 0]).expect("sent");
        }
        stream
    };
    let mut held: Vec<TcpStream> = (0..200).map(hold).collect();
    for number in 0..50 {
        secured.asked();
        held.push(hold(number));
    }
    assert_eq!(handshakes(&server, "done"), 50.0);
    until_so("the prefix keeps to its half", || {
        server.metric("waymark_tcp_connections").is_some_and(|open| open <= 50.0)
    });
    drop(held);
    until_so("nobody is left", || server.metric("waymark_tcp_connections") == Some(0.0));
    assert_eq!(server.metric("waymark_panics_total"), Some(0.0));
    assert!(server.logged(&["WARN"]).iter().all(|line| !line.contains("tls")), "no line for any of them");
}

/// Of the octets of a handshake some, and then the end.
#[test]
fn a_client_that_closes_mid_handshake_costs_a_counter() {
    let secured = Secured::new();
    let server = secured.site.start();
    let hello = {
        let name = rustls::pki_types::ServerName::try_from(HOST).expect("a name");
        let mut connection = rustls::ClientConnection::new(secured.authority.client(), name).expect("a client");
        let mut octets = Vec::new();
        connection.write_tls(&mut octets).expect("a hello");
        octets
    };
    let cuts = [0, 1, 5, 9, hello.len() / 2, hello.len() - 1, hello.len()];
    for cut in cuts {
        let mut stream = TcpStream::connect(secured.dot).expect("a connection");
        stream.write_all(&hello[..cut]).expect("sent");
    }
    until_so("each is counted", || handshakes(&server, "failed") == cuts.len() as f64);
    secured.asked();
    assert_eq!(server.metric("waymark_panics_total"), Some(0.0));
}

#[test]
fn a_handshake_must_be_done_in_time() {
    let secured = Secured::with("tcp-message-timeout = \"200ms\"");
    let server = secured.site.start();
    let mut stream = TcpStream::connect(secured.dot).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    assert_eq!(stream.read(&mut [0; 8]).expect("the end"), 0);
    until_so("it is counted", || handshakes(&server, "timed_out") == 1.0);
}

/// Nobody notices but new connections.
#[test]
fn a_replaced_certificate_drops_no_connection() {
    let secured = Secured::new();
    let server = secured.site.start();
    let (stop, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    let query = client::query(STATIC, RecordType::A, "");
    thread::scope(|scope| {
        let ask = || -> io::Result<()> {
            let mut secure = Secure::connect(secured.dot, &secured.authority.client())?;
            while !stop.load(Ordering::Relaxed) {
                secure.ask(&query)?;
                answered.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        };
        let clients: Vec<_> = (0..4).map(|_| scope.spawn(ask)).collect();
        for round in 0..2 {
            let next = secured.authority.issue(2020, 2090 - round);
            secured.replace(&next);
            until_so("new connections are shown the new one", || secured.asked().certificate() == next.der);
            let before = answered.load(Ordering::Relaxed);
            until_so("the load goes on", || answered.load(Ordering::Relaxed) > before + 100);
        }
        stop.store(true, Ordering::Relaxed);
        for client in clients {
            client.join().expect("no panic").expect("all are answered");
        }
    });
    // 2089-01-01.
    assert_eq!(server.metric("waymark_tls_certificate_expiry_seconds"), Some(3_755_376_000.0));
    assert_eq!(server.logged(&["[tls]", "replaced, taken"]).len(), 2);
}

#[test]
fn junk_keeps_the_certificate_before() {
    let secured = Secured::new();
    let server = secured.site.start();
    let [certificate, key] = secured.files();
    let other = secured.authority.issue(2020, 2090);
    assert_eq!(server.metric(FAILED), Some(0.0));
    let wrongs: [(&str, &PathBuf, &str); 3] = [
        ("junk", &certificate, "no certificate in it"),
        (&other.key, &key, "the key is not that of the certificate"),
        ("", &key, "no private key in it, or an encrypted one"),
    ];
    for (text, path, problem) in wrongs {
        fs::write(path, text).expect("written");
        until_so("the metric says so", || server.metric(FAILED) == Some(1.0));
        server.wait_logged(&["[tls] not taken", problem]);
        assert_eq!(secured.asked().certificate(), secured.shown.der, "{problem}");
        server.signal("HUP");
        until(problem, || (!server.logged(&["reload refused"]).is_empty()).then_some(()));
        assert_eq!(secured.asked().certificate(), secured.shown.der, "{problem}");
        secured.replace(&secured.shown);
        until_so("what is good again is shown", || server.metric(FAILED) == Some(0.0));
    }
    secured.replace(&other);
    until_so("a good one is taken", || secured.asked().certificate() == other.der);
    // Another file, by a reload.
    let third = secured.authority.issue(2020, 2080);
    third.write(&secured.site.path("third.pem"), &secured.site.path("third.key"));
    secured
        .site
        .edit("certificate = \"cert.pem\"\nkey = \"key.pem\"", "certificate = \"third.pem\"\nkey = \"third.key\"");
    server.reload();
    assert_eq!(secured.asked().certificate(), third.der);
}

/// What was sent before the end is answered, and the end is said (RFC 8446 §6.1).
#[test]
fn the_end_is_orderly() {
    let secured = Secured::new();
    let mut server = secured.site.start();
    let mut secure = secured.asked();
    let queries: Vec<Message> = (0..100).map(|_| client::query(STATIC, RecordType::A, "")).collect();
    secure.send(&queries).expect("sent");
    server.signal("TERM");
    for query in &queries {
        let answer = Message::from_vec(&secure.receive().expect("an answer")).expect("a message");
        assert_eq!((answer.id, answer.answers.len()), (query.id, 2));
    }
    assert_eq!(secure.0.read(&mut [0; 8]).expect("a notice, not a cut"), 0);
    assert!(server.wait_end().0.success());
}

/// RFC 8467 §4.1 as octets on the wire.
#[test]
fn answers_are_padded() {
    let secured = Secured::new();
    let server = secured.site.start();
    let mut query = client::query(STATIC, RecordType::A, "");
    let mut secure = Secure::connect(secured.dot, &secured.authority.client()).expect("a handshake");
    secure.send(std::slice::from_ref(&query)).expect("sent");
    assert!(secure.receive().expect("an answer").len() < 100, "only where asked");
    let edns = query.edns.as_mut().expect("EDNS");
    edns.options_mut().insert(EdnsOption::Unknown(12, vec![0; 60]));
    secure.send(std::slice::from_ref(&query)).expect("sent");
    assert_eq!(secure.receive().expect("an answer").len(), 468);
    let [answer] = &client::tcp(server.dns, &[query])[..] else { panic!("one") };
    assert!(answer.to_vec().expect("encodes").len() < 100, "not in the clear");
}

/// A header that says that [`CLIENT`] asks, over a protocol below it: 1 = stream, 2 = datagram.
fn header(protocol: u8) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21".to_vec();
    // With a TLV behind the addresses.
    header.extend([0x10 | protocol, 0, 17]);
    header.extend(CLIENT);
    header.extend([192, 0, 2, 53, 0xc0, 0, 0, 53, 4, 0, 2, 0, 0]);
    header
}

/// A connection from this address.
fn connect_from(source: Ipv4Addr, server: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::from((source, 0)).into()).expect("a loopback address");
    socket.connect(&server.into()).expect("a connection");
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream
}

/// Whether the example answers as to a client in Europe.
fn is_european(answer: &Message) -> bool {
    client::addresses(answer).iter().all(|address| address.starts_with("127.0.11.")) && !answer.answers.is_empty()
}

fn behind_a_balancer(message_timeout: &str) -> Secured {
    let whoami = format!("whoami = [\"{WHOAMI}\"]");
    let balancer = format!("proxy-protocol-from = [\"{BALANCER}/32\"]\ntcp-message-timeout = {message_timeout:?}");
    Secured::with(&format!("{balancer}\n{whoami}"))
}

/// Whose a query was, and how it came, as the server says.
fn is_from(answer: &Message, resolver: Ipv4Addr, transport: &str) -> bool {
    let said = client::records(answer).concat();
    said.contains(&format!("resolver {resolver}")) && said.contains(&format!("transport {transport}"))
}

#[test]
fn a_balancer_says_whose_connection_it_is() {
    let secured = behind_a_balancer("60s");
    let server = secured.site.start();
    let query = client::query(WWW, RecordType::A, "");
    for _ in 0..80 {
        let mut stream = connect_from(BALANCER, server.dns);
        stream.write_all(&[header(1), client::framed(&query)].concat()).expect("sent");
        let answer = Message::from_vec(&client::read_framed(&mut stream).expect("an answer")).expect("a message");
        assert!(is_european(&answer), "{answer}");
    }
    // Octet by octet, then TLS right behind it.
    let mut stream = connect_from(BALANCER, secured.dot);
    stream.set_nodelay(true).expect("an option");
    for octet in header(1) {
        stream.write_all(&[octet]).expect("sent");
    }
    let mut secure = Secure::over(stream, &secured.authority.client()).expect("a handshake");
    assert!(is_european(&secure.ask(&query).expect("an answer")));
    let who = secure.ask(&client::query(WHOAMI, RecordType::TXT, "")).expect("an answer");
    assert!(is_from(&who, CLIENT.into(), "dot"), "{who}");
    // Its own: a check of the balancer's.
    let mut stream = connect_from(BALANCER, server.dns);
    stream.write_all(b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0").expect("sent");
    stream.write_all(&client::framed(&client::query(WHOAMI, RecordType::TXT, ""))).expect("sent");
    let who = Message::from_vec(&client::read_framed(&mut stream).expect("an answer")).expect("a message");
    assert!(is_from(&who, BALANCER, "tcp"), "{who}");
}

#[test]
fn a_balancer_without_a_header_is_not_served() {
    let secured = behind_a_balancer("500ms");
    let server = secured.site.start();
    let query = client::framed(&client::query(WWW, RecordType::A, ""));
    let junk = [query, vec![0; 100]].concat();
    let cut = header(1)[..20].to_vec();
    for (sent, number) in [(&junk, 1.0), (&cut, 2.0), (&Vec::new(), 3.0)] {
        for at in [server.dns, secured.dot] {
            let mut stream = connect_from(BALANCER, at);
            stream.write_all(sent).expect("sent");
            assert!(matches!(stream.read(&mut [0; 8]), Ok(0) | Err(_)), "{sent:02x?}");
        }
        let counted = "waymark_tcp_closed_total{reason=\"proxy_header\"}";
        until_so("both are counted", || server.metric(counted) == Some(2.0 * number));
    }
    // From others it is not read.
    let mut stream = connect_from(Ipv4Addr::LOCALHOST, server.dns);
    stream.write_all(&[header(1), client::framed(&client::query(WWW, RecordType::A, ""))].concat()).expect("sent");
    assert!(client::read_framed(&mut stream).is_none());
}

#[test]
fn a_balancer_says_whose_datagram_it_is() {
    let secured = behind_a_balancer("60s");
    let server = secured.site.start();
    let exchange = |source: Ipv4Addr, octets: &[u8]| {
        let socket = UdpSocket::bind((source, 0)).expect("a socket");
        socket.connect(server.dns).expect("a route");
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        socket.send(octets).expect("sent");
        let mut buffer = [0; 4096];
        let length = socket.recv(&mut buffer).expect("an answer");
        Message::from_vec(&buffer[..length]).expect("a message")
    };
    let query = client::query(WWW, RecordType::A, "").to_vec().expect("encodes");
    for protocol in [1, 2] {
        assert!(is_european(&exchange(BALANCER, &[header(protocol), query.clone()].concat())));
    }
    assert!(!is_european(&exchange(Ipv4Addr::LOCALHOST, &query)));
    // To others it is a message, and not one that anybody answers: an operation of another kind.
    let misread = exchange(Ipv4Addr::LOCALHOST, &[header(2), query.clone()].concat());
    assert_eq!(misread.response_code, ResponseCode::NotImp);
    // From the balancer without one it is dropped.
    let socket = UdpSocket::bind((BALANCER, 0)).expect("a socket");
    socket.send_to(&query, server.dns).expect("sent");
    let counted = "waymark_udp_dropped_total{reason=\"proxy_header\"}";
    until_so("it is counted", || server.metric(counted) == Some(1.0));
}
