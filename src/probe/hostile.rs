//! Targets that mean no good, met through the real prober: each kind says in words what it met, in bounded time, and takes
//! in a bounded amount of what they send.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use crate::fleet::{CheckId, Target};
use crate::health::Outcome;
use crate::probe::backends::{self, Authority, listen, read_head, reset};
use crate::probe::{BodyMatch, Check, Grpc, Http, Kind, Prober, Report, Settings, Version};

const TIMEOUT: Duration = Duration::from_millis(500);
const INTERVAL: Duration = Duration::from_millis(600);
/// Later than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
const NAME: &str = "www.example.com";
/// More than a prober and the sockets between it and a target hold; one that reads on takes in ten times that.
const MOST_TAKEN: usize = 16 << 20;

/// The most that was taken over one connection, and how many connections came.
#[derive(Clone, Default)]
struct Tally {
    octets: Arc<AtomicUsize>,
    connections: Arc<AtomicUsize>,
}

impl Tally {
    /// Sends the same again and again, for as long as it is taken.
    async fn pour(&self, stream: &mut (impl AsyncWriteExt + Unpin), what: &[u8], pause: Duration) {
        let mut taken = 0;
        while stream.write_all(what).await.is_ok() {
            taken += what.len();
            self.octets.fetch_max(taken, Ordering::Relaxed);
            if !pause.is_zero() {
                sleep(pause).await;
            }
        }
    }

    /// Reads a request, sends the beginning of a response, and pours from then on.
    async fn endless(&self, head: &'static str, what: &'static str, pause: Duration) -> SocketAddr {
        let tally = self.clone();
        listen(move |mut stream| {
            let tally = tally.clone();
            async move {
                tally.connections.fetch_add(1, Ordering::Relaxed);
                read_head(&mut stream).await;
                let _ = stream.write_all(head.as_bytes()).await;
                tally.pour(&mut stream, what.repeat(if pause.is_zero() { 1000 } else { 1 }).as_bytes(), pause).await;
            }
        })
        .await
    }

    /// Says this from the first moment on.
    async fn babbling(&self, head: &'static [u8], what: &'static [u8], pause: Duration) -> SocketAddr {
        let tally = self.clone();
        listen(move |mut stream| {
            let tally = tally.clone();
            async move {
                let _ = stream.write_all(head).await;
                tally.pour(&mut stream, what, pause).await;
            }
        })
        .await
    }
}

fn http(tls: bool) -> Http {
    Http { tls, ..backends::http() }
}

/// Looks for what never comes, and so reads on.
fn seeking(tls: bool) -> Kind {
    Kind::Http(Http { expect_body: Some(BodyMatch::Contains("needle".into())), ..http(tls) })
}

/// Name, kind, address, reasons one of which is expected.
type Row<'a> = (&'a str, Kind, SocketAddr, &'a [&'a str]);

/// Probes each target by its kind until each has been met; a timeout that is not expected is one of this machine's.
async fn meet(rows: &[Row<'_>], authority: &Authority) -> Vec<(Outcome, String)> {
    let check = |(name, kind, ..): &Row<'_>| Check { name: (*name).into(), ..backends::check(kind.clone(), TIMEOUT) };
    let mut checks: Vec<Check> = rows.iter().map(check).collect();
    checks.iter_mut().for_each(|check| check.policy.interval = INTERVAL);
    let target = |(check, (_, _, address, _)): (u32, &Row<'_>)| Target {
        check: CheckId(check),
        ..backends::target(*address, Some(NAME))
    };
    let targets: Vec<Target> = (0..).zip(rows).map(target).collect();
    let (sink, mut reports) = mpsc::channel::<Report>(8);
    let settings = Settings { extra_roots: vec![authority.root()], ..Settings::default() };
    let _prober = Prober::start(&targets, &checks, settings, sink);
    let mut met = BTreeMap::new();
    while met.len() < rows.len() {
        let report = reports.recv().await.expect("the prober goes on");
        let seen = report.observation().expect("a target");
        // A machine that was too busy to look looks again.
        let expected = rows[seen.target.0 as usize].3;
        let is_late = seen.reason.starts_with("timeout") && !expected.contains(&&*seen.reason);
        if seen.outcome != Outcome::NoVerdict && !is_late {
            assert!(seen.took < TIMEOUT + Duration::from_secs(1), "{seen:?}");
            met.entry(seen.target).or_insert((seen.outcome, seen.reason.to_string()));
        }
        report.next(INTERVAL);
    }
    met.into_values().collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_says_in_words_what_it_met() {
    let authority = Authority::new("ours");
    let slow = TIMEOUT / 50;
    let tally = Tally::default();
    let refuses = backends::refusing().await;
    let hangs = listen(|stream: TcpStream| async move {
        sleep(PATIENCE).await;
        drop(stream);
    })
    .await;
    let resets = listen(|stream| async move { reset(&stream) }).await;
    let trickles = tally.endless("HTTP/1.1 200 OK\r\nServer: ", "x", slow).await;
    let drips = tally.endless("HTTP/1.1 200 OK\r\n\r\n", ".", slow).await;
    // The head of a handshake record of 16 KiB.
    let trickles_tls = tally.babbling(&[22, 3, 3, 64, 0], b"x", slow).await;
    let noise = tally.babbling(b"", &[0x55; 4096], Duration::ZERO).await;
    let body = tally.endless("HTTP/1.1 200 OK\r\n\r\n", "no pin ", Duration::ZERO).await;
    let headers = tally.endless("HTTP/1.1 200 OK\r\n", "X-Filler: filler\r\n", Duration::ZERO).await;
    // Read and forgotten until the time is over.
    let early = Tally::default().endless("", "HTTP/1.1 100 Continue\r\n\r\n", Duration::ZERO).await;
    let redirected = Tally::default();
    let redirects = "HTTP/1.1 302 Found\r\nLocation: /health\r\nContent-Length: 0\r\n\r\n";
    let redirects = redirected.endless(redirects, "", PATIENCE).await;
    let expired = authority.serving(NAME, (2020, 2024)).await;
    let misnamed = authority.serving("other.example", (2020, 2100)).await;
    let self_signed = backends::serving_self_signed(NAME).await;

    let drip = tally.babbling(b"up ", b"u", slow).await;
    let other = tally.babbling(b"SSH-2.0-OpenSSH_9.9\r\n", b"x", slow).await;

    let plain = || Kind::Http(http(false));
    let agent = || Kind::Agent { send: "state\n".into() };
    let https = || Kind::Http(http(true));
    let two = || Kind::Http(Http { version: Version::Two, ..http(false) });
    let grpc = || Kind::Grpc(Grpc { tls: false, verify: false, identity: None, service: String::new() });
    let tls = || Kind::Tls { verify: true, identity: None };
    const RESET: &[&str] = &["connection reset"];
    // It depends on whether the reset is met while reading or while writing.
    const CLOSED: &[&str] = &["connection reset", "connection closed before a response"];
    const WAITING: &[&str] = &["timeout after 500ms (waiting for a response)"];
    const SHAKING: &[&str] = &["timeout after 500ms (waiting for the TLS handshake)"];
    let table: Vec<Row<'_>> = vec![
        ("http of one that refuses", plain(), refuses, &["connection refused"]),
        ("https of one that refuses", https(), refuses, &["connection refused"]),
        ("http/2 of one that refuses", two(), refuses, &["connection refused"]),
        ("grpc of one that refuses", grpc(), refuses, &["connection refused"]),
        ("tcp of one that refuses", Kind::Tcp, refuses, &["connection refused"]),
        ("tls of one that refuses", tls(), refuses, &["connection refused"]),
        ("agent of one that refuses", agent(), refuses, &["connection refused"]),
        ("agent of one that hangs", agent(), hangs, &["timeout after 500ms (waiting for a line)"]),
        ("agent of one that resets", agent(), resets, RESET),
        ("agent of one that never ends its line", agent(), drip, &["timeout after 500ms (waiting for a line)"]),
        ("agent of noise", agent(), noise, &["the agent's line is longer than 256 octets"]),
        ("agent of another server", agent(), other, &["the agent is not understood: \"SSH-2.0-OpenSSH_9.9\""]),
        ("http of one that hangs", plain(), hangs, WAITING),
        ("https of one that hangs", https(), hangs, &["timeout after 500ms (connecting)"]),
        ("http/2 of one that hangs", two(), hangs, WAITING),
        ("grpc of one that hangs", grpc(), hangs, WAITING),
        ("tls of one that hangs", tls(), hangs, SHAKING),
        ("http of one that resets", plain(), resets, RESET),
        ("https of one that resets", https(), resets, RESET),
        ("http/2 of one that resets", two(), resets, CLOSED),
        ("grpc of one that resets", grpc(), resets, CLOSED),
        ("tls of one that resets", tls(), resets, RESET),
        ("http of one that trickles its head", plain(), trickles, WAITING),
        ("http of one that trickles its body", seeking(false), drips, &["timeout after 500ms (reading the body)"]),
        ("https of one that trickles", https(), trickles_tls, &["timeout after 500ms (connecting)", "not TLS"]),
        (
            "tls of one that trickles",
            tls(),
            trickles_tls,
            &["timeout after 500ms (waiting for the TLS handshake)", "not TLS"],
        ),
        ("http of noise", plain(), noise, &["not HTTP"]),
        ("http/2 of noise", two(), noise, &["not HTTP/2"]),
        ("grpc of noise", grpc(), noise, &["not HTTP/2"]),
        ("https of noise", https(), noise, &["not TLS"]),
        ("tls of noise", tls(), noise, &["not TLS"]),
        ("http of an endless body", seeking(false), body, &["first 64 KiB of the body do not contain \"needle\""]),
        ("http of endless headers", plain(), headers, &["response head too large"]),
        ("http of one that is never done", plain(), early, WAITING),
        ("http of one that redirects", plain(), redirects, &["status 302, expected 200-299"]),
        ("https of an expired certificate", https(), expired, &["certificate expired 2024-01-02"]),
        ("tls of an expired certificate", tls(), expired, &["certificate expired 2024-01-02"]),
        ("https of another name", https(), misnamed, &["certificate is for other.example, not www.example.com"]),
        ("tls of another name", tls(), misnamed, &["certificate is for other.example, not www.example.com"]),
        ("https of its own authority", https(), self_signed, &["certificate signed by an unknown authority"]),
        ("tls of its own authority", tls(), self_signed, &["certificate signed by an unknown authority"]),
    ];
    let met = timeout(PATIENCE, meet(&table, &authority)).await.expect("bounded time");
    for ((what, .., reasons), (outcome, reason)) in table.iter().zip(met) {
        assert_eq!(outcome, Outcome::Fail, "{what}: {reason}");
        assert!(reasons.contains(&reason.as_str()), "{what}: {reason}, expected {reasons:?}");
    }
    let taken = tally.octets.load(Ordering::Relaxed);
    assert!(taken < MOST_TAKEN, "{taken} octets were taken over one connection");
    assert!(redirected.connections.load(Ordering::Relaxed) > 0);

    // What listens is all that a handshake asks for.
    let met = meet(&[("tcp", Kind::Tcp, hangs, &[]), ("tcp 2", Kind::Tcp, noise, &[])], &authority).await;
    assert!(met.iter().all(|met| *met == (Outcome::Pass, "connected".into())), "{met:?}");
}
