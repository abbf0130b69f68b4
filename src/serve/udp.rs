//! UDP: one thread per socket, which receives a batch, answers it, sends the answers. Between the two calls there is no
//! lock, allocation, system call or clock read.
//!
//! The socket wakes an idle thread every [`WAKE`], which then lets go of an outdated snapshot and sees that it shall
//! stop. That costs a busy thread nothing.
//!
//! What was tried instead, by CPU per query of an echo: io_uring with multishot receives and provided buffers costs 1.07
//! of this, with `sendmsg_zc` 1.31; a blocking `recvmsg` before the rest of the batch, and `poll`, cost the same. What
//! stands between an answer and its client is the kernel's network stack, 95 % of the whole.

use std::io;
use std::net::{IpAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use ipnet::IpNet;

use super::answerer::{self, Answerer, Rate};
use super::cores::Core;
use super::handover::Way;
use super::proxy;
use super::socket::{self, BATCH, Batch, Datagram, Sent};
use crate::answer::{Handed, Outcome, Transport};
use crate::dns;
use crate::metrics::Counters;
use crate::time;

/// How often an idle thread wakes.
const WAKE: Duration = Duration::from_millis(250);
/// How long a full send buffer may hold up a thread before the batch is dropped.
const SEND_WAIT: Duration = Duration::from_millis(50);
/// How long to wait after a receive call that failed for want of memory or worse, which may well fail again at once.
const FAILED_WAIT: Duration = Duration::from_millis(50);
/// Batches that were waiting in the kernel and are still answered when stopping: bounded, as more may keep coming.
const LAST_BATCHES: usize = 64;

/// A socket, and whether it is bound to a wildcard address and tells where each datagram came to.
#[derive(Debug)]
pub(super) struct Socket {
    pub(super) socket: UdpSocket,
    pub(super) wildcard: bool,
    /// Where its thread runs; `None`: anywhere.
    pub(super) core: Option<Core>,
}

/// Starts thread `index`, which answers what comes to `socket` until `stopped`.
pub(super) fn start(
    index: usize,
    socket: Socket,
    answerer: Answerer,
    proxies: Arc<[IpNet]>,
    stopped: Arc<AtomicBool>,
) -> io::Result<JoinHandle<()>> {
    socket.socket.set_read_timeout(Some(WAKE))?;
    socket.socket.set_write_timeout(Some(SEND_WAIT))?;
    thread::Builder::new().name(format!("udp-{index}")).spawn(move || {
        pin(index, socket.core);
        // After pinning, so that its memory is near.
        let batch = Batch::new(socket.wildcard);
        Loop { socket: Arc::new(socket.socket), batch, answerer, proxies }.run(&stopped);
    })
}

fn pin(index: usize, core: Option<Core>) {
    let Some(core) = core else { return };
    if let Err(error) = socket::pin_to(core) {
        tracing::warn!(%error, core, "cannot pin thread udp-{index}; it runs anywhere");
    }
}

struct Loop {
    /// Shared with answers that are sent later.
    socket: Arc<UdpSocket>,
    batch: Batch,
    answerer: Answerer,
    /// Balancers, whose datagrams begin with a header.
    proxies: Arc<[IpNet]>,
}

impl Loop {
    fn run(mut self, stopped: &AtomicBool) {
        while !stopped.load(Ordering::Relaxed) {
            match self.batch.receive(&self.socket) {
                Ok(received) => self.answer(received),
                Err(error) => self.receive_failed(&error),
            }
        }
        for _ in 0..LAST_BATCHES {
            match self.batch.receive_waiting(&self.socket) {
                Ok(received) => self.answer(received),
                Err(_) => break,
            }
        }
    }

    fn answer(&mut self, received: usize) {
        debug_assert!(received <= BATCH);
        let mut answers = self.answerer.begin(Duration::ZERO);
        let proxies = &*self.proxies;
        let queries = self.batch.queries().filter_map(|(query, source)| proxied(proxies, query, source));
        answers.look_ahead(received, queries);
        for index in 0..received {
            let Some(datagram) = self.batch.datagram(index) else { continue };
            let length = match answer_one(&mut answers, proxies, datagram) {
                Outcome::Answer(length) => length,
                Outcome::Handed(handed) => hand(&mut self.batch, index, handed, &answers, &self.socket),
                Outcome::Stream(_) => 0,
            };
            if length > 0 {
                self.batch.reply(index, length);
            }
        }
        let sent = self.batch.send(&self.socket, dns::writer::cut);
        count(answers.counters(), received, sent);
    }

    fn receive_failed(&mut self, error: &io::Error) {
        match error.raw_os_error() {
            // The timeout; the newest snapshot replaces the one that this thread holds.
            Some(libc::EAGAIN) => drop(self.answerer.begin(Duration::ZERO)),
            // Interrupted; ICMP errors about earlier answers, each told once.
            Some(libc::EINTR | libc::ECONNREFUSED | libc::EHOSTUNREACH | libc::ENETUNREACH) => {}
            _ => {
                self.answerer.counters().udp_receive_failed.add(1);
                log_receive_failure(error);
                thread::sleep(FAILED_WAIT);
            }
        }
    }
}

/// What comes of `datagram`.
#[inline]
fn answer_one(answers: &mut answerer::Batch<'_>, proxies: &[IpNet], datagram: Datagram<'_>) -> Outcome {
    let counters = answers.counters();
    if datagram.truncated {
        counters.udp_too_long.add(1);
        return Outcome::Answer(0);
    }
    if datagram.source.port() == 0 {
        counters.udp_bad_source.add(1);
        return Outcome::Answer(0);
    }
    let Some((query, client)) = proxied(proxies, datagram.query, datagram.source.ip()) else {
        counters.udp_bad_header.add(1);
        return Outcome::Answer(0);
    };
    answers.answer(query, client, Transport::Udp, datagram.out)
}

/// The message of a datagram, and whose it is: a balancer says that in a header before it. `None` when it does not. The
/// answer goes to the balancer either way, without one.
#[inline]
fn proxied<'q>(proxies: &[IpNet], octets: &'q [u8], source: IpAddr) -> Option<(&'q [u8], IpAddr)> {
    if !proxies.iter().any(|prefix| prefix.contains(&source)) {
        return Some((octets, source));
    }
    let header = proxy::parse(octets)?;
    Some((&octets[header.length..], header.client.unwrap_or(source)))
}

/// Hands the message at `index` on; octets of the answer that it cannot be, or 0.
#[cold]
fn hand(
    batch: &mut Batch,
    index: usize,
    handed: Box<Handed>,
    answers: &answerer::Batch<'_>,
    socket: &Arc<UdpSocket>,
) -> usize {
    let way = Way::Udp(Arc::clone(socket), batch.back(index));
    batch.datagram(index).map_or(0, |datagram| answers.hand(handed, way, datagram.out))
}

fn count(counters: &Counters, received: usize, sent: Sent) {
    counters.udp_received.add(received as u64);
    counters.udp_sent.add(sent.sent as u64);
    if sent.shortened > 0 {
        counters.answering.truncated.add(sent.shortened as u64);
    }
    if sent.failed > 0 {
        counters.udp_send_failed.add(sent.failed as u64);
    }
}

fn log_receive_failure(error: &io::Error) {
    static RATE: Rate = Rate::new();
    if let Some(unlogged) = RATE.allows(time::now().0) {
        tracing::warn!(%error, unlogged, "receiving over UDP failed");
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::net::{IpAddr, SocketAddr};

    use super::super::Limits;
    use super::super::testing::{Server, echo, exchange, query, udp_client};
    use super::*;
    use crate::answer::Worker;
    use crate::snapshot::Snapshot;

    #[test]
    fn answers_over_both_families() {
        for (listen, client) in [("127.0.0.1:0", "127.0.0.1:0"), ("[::1]:0", "[::1]:0")] {
            let server = Server::start(&[listen], 1, Limits::default(), echo);
            let client = udp_client(client);
            for id in 0..100 {
                let (query, answer) = query(id);
                assert_eq!(exchange(&client, server.addresses[0], &query), (answer, server.addresses[0]));
            }
        }
    }

    #[test]
    fn a_wildcard_socket_answers_from_the_address_asked() {
        let server = Server::start(&["0.0.0.0:0", "[::]:0"], 1, Limits::default(), echo);
        for (listener, asked, client) in
            [(0, "127.0.0.2", "0.0.0.0:0"), (0, "127.0.0.3", "0.0.0.0:0"), (1, "::1", "[::]:0")]
        {
            let to = SocketAddr::new(asked.parse().expect("an address"), server.addresses[listener].port());
            let (query, answer) = query(7);
            assert_eq!(exchange(&udp_client(client), to, &query), (answer, to));
        }
    }

    #[test]
    fn bad_datagrams_cost_only_themselves() {
        let mut server = Server::echo(Limits::default());
        let (client, to) = (udp_client("127.0.0.1:0"), server.addresses[0]);
        for bad in [&[0; 5000][..], b"panic, please", b"silent, please"] {
            client.send_to(bad, to).expect("sent");
        }
        let (query, answer) = query(7);
        assert_eq!(exchange(&client, to, &query).0, answer);
        server.stop();
        let counts = [
            server.count(|counters| &counters.udp_received),
            server.count(|counters| &counters.udp_too_long),
            server.count(|counters| &counters.panics),
            server.count(|counters| &counters.udp_sent),
        ];
        assert_eq!(counts, [4, 1, 1, 1]);
    }

    #[test]
    fn what_was_sent_before_stopping_is_answered() {
        let mut server = Server::echo(Limits::default());
        let client = udp_client("127.0.0.1:0");
        let queries: Vec<_> = (0..200).map(query).collect();
        for (query, _) in &queries {
            client.send_to(query, server.addresses[0]).expect("sent");
        }
        server.stop();
        let mut buffer = [0; 512];
        for (_, answer) in &queries {
            let length = client.recv(&mut buffer).expect("an answer");
            assert_eq!(&buffer[..length], answer);
        }
    }

    /// Answers with the name of its thread and the cores that it may run on: `udp-1 [3]`.
    fn named(_: &Snapshot, _: &mut Worker, _: &[u8], _: IpAddr, _: Transport, out: &mut [u8]) -> Outcome {
        let thread = thread::current();
        let name = format!("{} {:?}", thread.name().unwrap_or_default(), usable_cores());
        out[..name.len()].copy_from_slice(name.as_bytes());
        Outcome::Answer(name.len())
    }

    fn usable_cores() -> Vec<Core> {
        socket::usable_cores().expect("cores")
    }

    /// Runs `exchange` with `server` on `core`; what was answered.
    fn asked_on(core: Core, server: SocketAddr) -> String {
        let client = thread::spawn(move || {
            socket::pin_to(core).expect("pinned");
            exchange(&udp_client(&SocketAddr::new(server.ip(), 0).to_string()), server, &query(7).0).0
        });
        String::from_utf8(client.join().expect("a thread")).expect("a name")
    }

    #[test]
    fn a_pinned_worker_answers_what_its_core_receives() {
        let cores = usable_cores();
        // One worker more than cores: it runs on the first core, and the first worker gets what comes there.
        for workers in [1, cores.len(), cores.len() + 1] {
            let listeners = Server::bind(&["127.0.0.1:0", "[::1]:0"], workers).pinned();
            let server = Server::start_on(listeners, Limits::default(), named);
            for (group, &address) in server.addresses.iter().enumerate() {
                for (at, &core) in cores.iter().enumerate() {
                    let worker = if workers < cores.len() { 0 } else { at };
                    let expected = format!("udp-{} {:?}", group * workers + worker, [cores[worker]]);
                    // Loopback receives on the core that sent; of many tries none goes astray.
                    for _ in 0..8 {
                        assert_eq!(asked_on(core, address), expected, "{workers} workers, core {core}");
                    }
                }
            }
        }
    }

    #[test]
    fn an_unpinned_worker_runs_anywhere() {
        let server = Server::start(&["127.0.0.1:0"], 1, Limits::default(), named);
        let expected = format!("udp-0 {:?}", usable_cores());
        assert_eq!(asked_on(usable_cores()[0], server.addresses[0]), expected);
    }

    #[test]
    fn a_core_that_is_not_there_is_no_reason_not_to_serve() {
        let mut listeners = Server::bind(&["127.0.0.1:0"], 1);
        listeners.udp[0].core = Some(usize::MAX);
        let server = Server::start_on(listeners, Limits::default(), echo);
        let (query, answer) = query(7);
        assert_eq!(exchange(&udp_client("127.0.0.1:0"), server.addresses[0], &query).0, answer);
    }

    #[test]
    fn workers_share_the_load() {
        let server = Server::start(&["127.0.0.1:0"], 2, Limits::default(), named);
        // The kernel picks by the client's port: that 64 ports meet one thread has a chance of 2^-63.
        let names: HashSet<Vec<u8>> =
            (0..64).map(|id| exchange(&udp_client("127.0.0.1:0"), server.addresses[0], &query(id).0).0).collect();
        assert_eq!(names.len(), 2);
    }
}
