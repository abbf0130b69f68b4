//! `icmp`: an echo request; a target passes when its reply comes in time.
//!
//! All targets of a family share one socket (one for each `source` too). A task reads it and hands replies to the probes
//! that wait, which it tells apart by sequence number, sender and token:
//!
//! ```text
//!    0        1        2                 4                 6                 8                      16
//!   ┌────────┬────────┬─────────────────┬─────────────────┬─────────────────┬──────────────────────┐
//!   │ type   │ code 0 │ checksum        │ identifier      │ sequence number │ token                │
//!   └────────┴────────┴─────────────────┴─────────────────┴─────────────────┴──────────────────────┘
//! ```
//!
//! The socket is a datagram socket, for which the kernel sets the identifier and receives its replies only, where the
//! process may have one (`net.ipv4.ping_group_range`, which holds for IPv6 as well), else a raw one (`CAP_NET_RAW`),
//! which receives what the whole machine does and has a filter. RFC 792 and RFC 4443 §4.

use std::collections::HashMap;
use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use socket2::{Domain, Protocol, SockFilter, Socket, Type};
use tokio::net::UdpSocket;
use tokio::sync::oneshot;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, timeout_at};

use crate::fleet::Target;
use crate::probe::{Check, Finding, Probe, reason, source_of};

/// Octets of an echo request, and of its reply.
const LENGTH: usize = 16;
/// Room for a packet with the longest IPv4 header before it.
const PACKET: usize = 60 + LENGTH;
/// Room asked for replies that wait to be read.
const RECEIVE_BUFFER: usize = 1 << 20;
/// How long reading pauses after an error.
const PAUSE: Duration = Duration::from_millis(10);

/// An echo request to one target.
pub(super) struct Echo {
    sockets: Arc<Sockets>,
    address: IpAddr,
    source: Option<IpAddr>,
    timeout: Duration,
}

impl Echo {
    pub(super) fn new(check: &Check, target: &Target, sockets: &Arc<Sockets>) -> Echo {
        Echo {
            sockets: Arc::clone(sockets),
            address: target.address,
            source: source_of(check, target),
            timeout: check.policy.timeout,
        }
    }

    async fn probe(&self) -> Finding {
        self.ask().await.unwrap_or_else(|finding| finding)
    }

    /// Pass, or whatever ended it before.
    async fn ask(&self) -> Result<Finding, Finding> {
        let deadline = Instant::now() + self.timeout;
        let late = |_| reason::timeout(self.timeout, "waiting for an echo reply");
        let socket = self.sockets.get(self.address.is_ipv4(), self.source).map_err(|error| self.cannot_open(&error))?;
        let (waiting, reply) =
            socket.wait_for(self.address).ok_or_else(|| Finding::no_verdict("too many echo requests at once"))?;
        let packet = request(self.address.is_ipv4(), socket.identifier, waiting.sequence, waiting.token);
        timeout_at(deadline, socket.socket.send_to(&packet, SocketAddr::new(self.address, 0)))
            .await
            .map_err(late)?
            .map_err(|error| reason::of(&error, self.address))?;
        timeout_at(deadline, reply).await.map_err(late)?.map_err(|_| Finding::no_verdict("nobody reads replies"))?;
        Ok(Finding::pass("echo reply"))
    }

    fn cannot_open(&self, error: &io::Error) -> Finding {
        if error.kind() == ErrorKind::PermissionDenied {
            return Finding::no_verdict(
                "ICMP is not permitted on this node: it needs CAP_NET_RAW, or its group in net.ipv4.ping_group_range",
            );
        }
        match reason::of(error, self.address) {
            Finding { outcome: crate::health::Outcome::NoVerdict, reason, .. } => Finding::no_verdict(&reason),
            _ => Finding::no_verdict(&format!("no ICMP socket on this node: {error}")),
        }
    }
}

impl Probe for Echo {
    fn run(&self) -> Pin<Box<dyn Future<Output = Finding> + Send + '_>> {
        Box::pin(self.probe())
    }
}

/// The sockets of all `icmp` checks, by family and source, opened when first used.
#[derive(Default)]
pub(super) struct Sockets(Mutex<HashMap<(bool, Option<IpAddr>), Reading>>);

impl Sockets {
    fn get(&self, is_v4: bool, source: Option<IpAddr>) -> io::Result<Arc<EchoSocket>> {
        let mut sockets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(reading) = sockets.get(&(is_v4, source)) {
            return Ok(Arc::clone(&reading.socket));
        }
        let socket = Arc::new(EchoSocket::open(is_v4, source)?);
        let task = tokio::spawn(read(Arc::clone(&socket))).abort_handle();
        sockets.insert((is_v4, source), Reading { socket: Arc::clone(&socket), task });
        Ok(socket)
    }
}

/// A socket and the task that reads it, which ends with it.
struct Reading {
    socket: Arc<EchoSocket>,
    task: AbortHandle,
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn read(socket: Arc<EchoSocket>) {
    let mut buffer = [0; PACKET];
    loop {
        match socket.socket.recv_from(&mut buffer).await {
            Ok((length, from)) => socket.deliver(&buffer[..length], from.ip()),
            Err(_) => sleep(PAUSE).await,
        }
    }
}

struct EchoSocket {
    /// Of ICMP: what tokio and the standard library call a UDP socket is any datagram socket.
    socket: UdpSocket,
    is_v4: bool,
    is_raw: bool,
    /// Of requests over a raw socket; a datagram socket's is the kernel's concern.
    identifier: u16,
    random: RandomState,
    waiting: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    by_sequence: HashMap<u16, Waiter>,
    /// Requests so far.
    count: u64,
}

struct Waiter {
    address: IpAddr,
    token: u64,
    reply: oneshot::Sender<()>,
}

impl EchoSocket {
    fn open(is_v4: bool, source: Option<IpAddr>) -> io::Result<EchoSocket> {
        let random = RandomState::new();
        let identifier = random.hash_one("identifier") as u16;
        let (socket, is_raw) = match socket(is_v4, Type::DGRAM) {
            Ok(socket) => (socket, false),
            Err(_) => (socket(is_v4, Type::RAW)?, true),
        };
        if is_raw {
            // Without the filter, only more is read in vain.
            let _ = socket.attach_filter(&filter(is_v4, identifier));
        }
        if let Some(source) = source {
            socket.bind(&SocketAddr::new(source, 0).into())?;
        }
        let socket = UdpSocket::from_std(socket.into())?;
        Ok(EchoSocket { socket, is_v4, is_raw, identifier, random, waiting: Mutex::default() })
    }

    /// A place in the queue, and what is told of the reply; `None` when every sequence number is taken.
    fn wait_for(&self, address: IpAddr) -> Option<(Waiting<'_>, oneshot::Receiver<()>)> {
        let (reply, told) = oneshot::channel();
        let mut queue = self.queue();
        if queue.by_sequence.len() > usize::from(u16::MAX) {
            return None;
        }
        while queue.by_sequence.contains_key(&(queue.count as u16)) {
            queue.count += 1;
        }
        let (sequence, token) = (queue.count as u16, self.random.hash_one(queue.count));
        queue.count += 1;
        queue.by_sequence.insert(sequence, Waiter { address, token, reply });
        Some((Waiting { socket: self, sequence, token }, told))
    }

    /// Tells the probe that waits for it of a reply; whatever else comes is nobody's.
    fn deliver(&self, packet: &[u8], from: IpAddr) {
        let Some((sequence, token)) = self.reply(packet) else { return };
        let mut queue = self.queue();
        let is_awaited = |waiter: &Waiter| waiter.address == from && waiter.token == token;
        if queue.by_sequence.get(&sequence).is_some_and(is_awaited)
            && let Some(waiter) = queue.by_sequence.remove(&sequence)
        {
            // The probe may have ended just now.
            let _ = waiter.reply.send(());
        }
    }

    /// Sequence number and token of an echo reply to us.
    fn reply(&self, packet: &[u8]) -> Option<(u16, u64)> {
        let has_header = self.is_v4 && self.is_raw;
        let header = if has_header { usize::from(packet.first()? & 0x0f) * 4 } else { 0 };
        let message: &[u8; LENGTH] = packet.get(header..)?.first_chunk()?;
        let &[kind, code, _, _, i0, i1, s0, s1, ref token @ ..] = message;
        let is_ours = !self.is_raw || u16::from_be_bytes([i0, i1]) == self.identifier;
        let is_reply = (kind, code) == (reply_type(self.is_v4), 0);
        (is_reply && is_ours).then(|| (u16::from_be_bytes([s0, s1]), u64::from_be_bytes(*token)))
    }

    fn queue(&self) -> std::sync::MutexGuard<'_, Queue> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place in the queue, which is left when this is dropped.
struct Waiting<'s> {
    socket: &'s EchoSocket,
    sequence: u16,
    token: u64,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut queue = self.socket.queue();
        // After a reply the number may belong to another already.
        if queue.by_sequence.get(&self.sequence).is_some_and(|waiter| waiter.token == self.token) {
            queue.by_sequence.remove(&self.sequence);
        }
    }
}

fn socket(is_v4: bool, kind: Type) -> io::Result<Socket> {
    let (domain, protocol) = if is_v4 { (Domain::IPV4, Protocol::ICMPV4) } else { (Domain::IPV6, Protocol::ICMPV6) };
    let socket = Socket::new(domain, kind, Some(protocol))?;
    socket.set_nonblocking(true)?;
    // The kernel gives what it may.
    let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER);
    Ok(socket)
}

fn request_type(is_v4: bool) -> u8 {
    if is_v4 { 8 } else { 128 }
}

fn reply_type(is_v4: bool) -> u8 {
    if is_v4 { 0 } else { 129 }
}

/// An echo request; over IPv6 the kernel fills in the checksum.
fn request(is_v4: bool, identifier: u16, sequence: u16, token: u64) -> [u8; LENGTH] {
    let mut packet = [0; LENGTH];
    packet[0] = request_type(is_v4);
    packet[4..6].copy_from_slice(&identifier.to_be_bytes());
    packet[6..8].copy_from_slice(&sequence.to_be_bytes());
    packet[8..].copy_from_slice(&token.to_be_bytes());
    if is_v4 {
        let sum = checksum(&packet);
        packet[2..4].copy_from_slice(&sum.to_be_bytes());
    }
    packet
}

/// RFC 1071, of an even number of octets.
fn checksum(octets: &[u8]) -> u16 {
    let words = octets.chunks_exact(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// Lets echo replies to `identifier` through. Over IPv4 a raw socket sees the IP header first.
fn filter(is_v4: bool, identifier: u16) -> Vec<SockFilter> {
    let step = |code: u32, otherwise: u8, k: u32| SockFilter::new(code as u16, 0, otherwise, k);
    let header_length = if is_v4 { libc::BPF_LDX | libc::BPF_B | libc::BPF_MSH } else { libc::BPF_LDX | libc::BPF_IMM };
    let equals = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    vec![
        step(header_length, 0, 0),
        step(libc::BPF_LD | libc::BPF_B | libc::BPF_IND, 0, 0),
        step(equals, 3, reply_type(is_v4).into()),
        step(libc::BPF_LD | libc::BPF_H | libc::BPF_IND, 0, 4),
        step(equals, 1, identifier.into()),
        step(libc::BPF_RET | libc::BPF_K, 0, u32::MAX),
        step(libc::BPF_RET | libc::BPF_K, 0, 0),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::{Kind, backends};

    const AMPLE: Duration = Duration::from_secs(20);
    const SHORT: Duration = Duration::from_millis(300);

    fn echo(address: &str, source: Option<&str>, timeout: Duration, sockets: &Arc<Sockets>) -> Echo {
        let source = source.map(|source| source.parse().unwrap());
        let check = Check { source, ..backends::check(Kind::Icmp, timeout) };
        let address = SocketAddr::new(address.parse().unwrap(), 0);
        Echo::new(&check, &backends::target(address, None), sockets)
    }

    /// Whether this process may have ICMP sockets at all, and this machine has the family.
    fn is_permitted(is_v4: bool) -> bool {
        let loopback = if is_v4 { "127.0.0.1:0" } else { "[::1]:0" };
        let is_there = std::net::UdpSocket::bind(loopback).is_ok();
        let permitted = is_there && (socket(is_v4, Type::DGRAM).is_ok() || socket(is_v4, Type::RAW).is_ok());
        if !permitted {
            assert!(std::env::var_os("WAYMARK_REQUIRE_TOOLS").is_none(), "ICMP sockets are missing");
            eprintln!("ignored: needs ICMP sockets");
        }
        permitted
    }

    #[tokio::test]
    async fn findings() {
        let passed = Finding::pass("echo reply");
        let rows = [
            ("127.0.0.1", None, AMPLE, passed.clone()),
            ("127.0.0.7", None, AMPLE, passed.clone()),
            ("127.0.0.1", Some("127.0.0.9"), AMPLE, passed.clone()),
            ("127.0.0.1", Some("2001:db8::1"), AMPLE, passed.clone()),
            ("::1", None, AMPLE, passed),
            // This machine, which does not reply from this address.
            ("0.0.0.0", None, SHORT, Finding::fail("timeout after 300ms (waiting for an echo reply)")),
            ("127.255.255.255", None, AMPLE, Finding::no_verdict("not permitted on this node")),
            (
                "127.0.0.1",
                Some("198.51.100.77"),
                AMPLE,
                Finding::no_verdict("no such source address or no free port on this node"),
            ),
        ];
        let sockets = Arc::default();
        for (address, source, timeout, finding) in rows {
            let echo = echo(address, source, timeout, &sockets);
            if is_permitted(echo.address.is_ipv4()) {
                assert_eq!(echo.probe().await, finding, "{address} from {source:?}");
            }
        }
    }

    #[tokio::test]
    async fn many_share_a_socket() {
        if !is_permitted(true) {
            return;
        }
        let sockets: Arc<Sockets> = Arc::default();
        let many = (1..=200).map(|last| echo(&format!("127.0.0.{last}"), None, AMPLE, &sockets));
        let probes: Vec<_> = many.map(|echo| tokio::spawn(async move { echo.probe().await })).collect();
        for probe in probes {
            assert_eq!(probe.await.unwrap(), Finding::pass("echo reply"));
        }
        let sockets = sockets.0.lock().unwrap();
        assert_eq!(sockets.len(), 1);
        assert!(sockets.values().all(|reading| reading.socket.queue().by_sequence.is_empty()));
    }

    #[tokio::test]
    async fn replies_of_others_are_passed_over() {
        if !is_permitted(true) {
            return;
        }
        let socket = EchoSocket::open(true, None).unwrap();
        let [one, other]: [IpAddr; 2] = ["192.0.2.1", "192.0.2.2"].map(|address| address.parse().unwrap());
        let packet = |identifier: u16, sequence: u16, token: u64| {
            let mut message = request(true, identifier, sequence, token);
            message[0] = reply_type(true);
            let header: &[u8] = if socket.is_raw { &[0x46; 24] } else { &[] };
            [header, &message].concat()
        };
        let (waiting, mut reply) = socket.wait_for(one).unwrap();
        let (sequence, token, own) = (waiting.sequence, waiting.token, socket.identifier);
        let good = packet(own, sequence, token);
        let rows = [
            ("sender", good.clone(), other),
            ("sequence", packet(own, sequence.wrapping_add(1), token), one),
            ("token", packet(own, sequence, token ^ 1), one),
            ("cut", good[..good.len() - 1].to_vec(), one),
            ("nothing", Vec::new(), one),
            ("header only", vec![0x4f; 20], one),
        ];
        for (what, packet, from) in rows {
            socket.deliver(&packet, from);
            assert!(reply.try_recv().is_err(), "{what}");
        }
        if socket.is_raw {
            socket.deliver(&packet(own.wrapping_add(1), sequence, token), one);
            assert!(reply.try_recv().is_err(), "identifier");
        }
        socket.deliver(&good, one);
        assert_eq!(reply.try_recv(), Ok(()));
        socket.deliver(&good, one);
        drop(waiting);
        assert!(socket.queue().by_sequence.is_empty());
    }

    #[tokio::test]
    async fn sequence_numbers_in_use_are_not_used_again() {
        if !is_permitted(true) {
            return;
        }
        let socket = EchoSocket::open(true, None).unwrap();
        let address = "192.0.2.1".parse().unwrap();
        let mut waiting: Vec<_> = (0..=u16::MAX).map(|_| socket.wait_for(address).unwrap()).collect();
        assert!(socket.wait_for(address).is_none());
        let freed = waiting.swap_remove(77).0.sequence;
        assert_eq!(socket.wait_for(address).unwrap().0.sequence, freed);
    }

    #[test]
    fn what_keeps_this_node_from_asking_is_named() {
        let echo = echo("127.0.0.1", None, AMPLE, &Arc::default());
        let denied =
            "ICMP is not permitted on this node: it needs CAP_NET_RAW, or its group in net.ipv4.ping_group_range";
        let rows = [
            (libc::EPERM, denied),
            (libc::EACCES, denied),
            (libc::EMFILE, "out of file descriptors on this node"),
            (libc::EPROTONOSUPPORT, "no ICMP socket on this node: Protocol not supported (os error 93)"),
        ];
        for (code, reason) in rows {
            assert_eq!(echo.cannot_open(&io::Error::from_raw_os_error(code)), Finding::no_verdict(reason));
        }
    }

    #[test]
    fn checksums() {
        assert_eq!(checksum(&request(true, 0x1234, 7, u64::MAX)), 0);
        assert_eq!(checksum(&[8, 0, 0, 0, 0, 7, 0, 9, 97, 98, 99, 100, 101, 102, 103, 104]), 0x665a);
    }
}
