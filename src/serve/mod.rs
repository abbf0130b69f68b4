//! Transports: sockets and threads around [`answer::respond`], which knows nothing of them.
//!
//! ```text
//!  per listen address      per worker
//!  ┌ TCP listener ┐──────► thread tcp-w ── one task per connection ─┐
//!  │ QUIC sockets │──────► thread quic-w ─ one task per connection ─┤
//!  └ UDP socket×w ┘──────► thread udp-n ── batches of datagrams ────┴─► Answerer ─► respond(&Snapshot, &mut Worker, …)
//! ```
//! A thread blocked on a quiet socket costs nothing, so every UDP socket has its own thread, and every thread its own
//! [`answer::Worker`] and counters: between receiving and sending there is no lock.
//!
//! `bind` opens the sockets, `socket` alone calls the kernel past the standard library, `answerer` calls `respond` and
//! survives its panics, `handover` has messages that are no queries go to the control plane, `connections` decides which TCP connections may stay, `cores` which worker runs where, `udp` and
//! `tcp` (RFC 7766) are the loops. Before its first query a connection goes through `entry`: the header of a balancer
//! (`proxy`), the TLS handshake (RFC 7858); from then on a `stream` is the same with and without TLS. DNS over HTTPS (RFC 8484)
//! is `doh`; DNS over QUIC (RFC 9250) is `doq` and DNS over HTTP/3 `doh3`, both over `quic`, with threads of their own where
//! they are listed. `pulse` knows when a connection with many requests at once is to be closed. What the tasks of a thread share is
//! the `desk`.

mod answerer;
mod bind;
mod connections;
mod cores;
mod desk;
pub mod doh;
mod doh3;
mod doq;
mod entry;
mod handover;
pub mod proxy;
mod pulse;
mod quic;
mod socket;
mod stream;
mod tcp;
mod udp;

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::watch;

use crate::answer::{self, Outcome, Transport, Worker};
use crate::metrics::Registry;
use crate::snapshot::{Published, Snapshot};

use answerer::Answerer;
use connections::Connections;

pub use bind::{BindError, Encrypted, Listeners};
pub use handover::{Delivery, Inbox, inbox};
pub use socket::raise_descriptor_limit;

/// Answers one message; what [`answer::respond`] is, and what tests put in its place.
pub type Respond = fn(&Snapshot, &mut Worker, &[u8], IpAddr, Transport, &mut [u8]) -> Outcome;

/// Copies of zones on their way at once, unless said otherwise: each holds a snapshot, which a reload leaves in memory.
pub const TRANSFERS: usize = 100;

/// Bounds of connections, over TCP and QUIC (SPEC 7.6).
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections open at once; a newcomer replaces the one that finished nothing for longest.
    pub connections: usize,
    /// The same per client prefix (/24, /48); a newcomer replaces one of its own prefix.
    pub connections_per_prefix: usize,
    /// A connection without a query for this long is closed.
    pub idle: Duration,
    /// The same while more than half of `connections` are open.
    pub idle_when_pressed: Duration,
    /// A message must be whole this long after its first octet.
    pub message: Duration,
    /// The client must have taken the answers of a burst this long after they were ready.
    pub write: Duration,
    /// Copies of zones that may be on their way at once.
    pub transfers: usize,
    /// Answers written at once; further queries wait, unread, until the client took them.
    pub burst: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections: 20_000,
            connections_per_prefix: 50,
            idle: Duration::from_secs(10),
            idle_when_pressed: Duration::from_secs(2),
            message: Duration::from_secs(5),
            write: Duration::from_secs(5),
            transfers: TRANSFERS,
            burst: 100,
        }
    }
}

impl Listeners {
    /// Starts to answer from what is `published`. Each thread counts in a set of `registry` and draws its random state
    /// from `seed`. Fails when a thread cannot be started.
    pub fn serve(
        self,
        published: &Published,
        registry: &Arc<Registry>,
        seed: u64,
        limits: Limits,
    ) -> io::Result<Running> {
        self.serve_with(published, registry, seed, limits, answer::respond)
    }

    /// [`Listeners::serve`] with a responder of the caller.
    pub fn serve_with(
        self,
        published: &Published,
        registry: &Arc<Registry>,
        seed: u64,
        limits: Limits,
        respond: Respond,
    ) -> io::Result<Running> {
        answerer::mute_panics();
        bind::tell_small_buffers(&self.udp);
        let inbox = self.inbox.clone();
        let (stop, _) = watch::channel(false);
        let mut running = Running { stop_udp: Arc::default(), stop_tcp: stop, threads: vec![] };
        // SplitMix64's increment: neighbouring threads get unlike seeds.
        let mut seeds = (0u64..).map(|thread| seed.wrapping_add(thread.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
        let mut answerer = || {
            let worker = Worker::new(registry, seeds.next().unwrap_or(seed));
            Answerer::new(published, worker, respond, inbox.clone())
        };
        let connections = Arc::new(Connections::new(limits));
        for (index, listeners) in self.tcp.into_iter().enumerate() {
            let stopped = running.stop_tcp.subscribe();
            let thread = tcp::start(index, listeners, answerer(), Arc::clone(&connections), stopped)?;
            running.threads.push(thread);
        }
        // Threads that nobody comes to are not started.
        for (index, listeners) in self.quic.into_iter().enumerate().filter(|(_, listeners)| !listeners.is_empty()) {
            let stopped = running.stop_tcp.subscribe();
            let thread = quic::start(index, listeners, answerer(), Arc::clone(&connections), stopped)?;
            running.threads.push(thread);
        }
        for (index, socket) in self.udp.into_iter().enumerate() {
            let proxies = Arc::clone(&self.proxies);
            let thread = udp::start(index, socket, answerer(), proxies, Arc::clone(&running.stop_udp))?;
            running.threads.push(thread);
        }
        Ok(running)
    }
}

/// The threads that answer. Dropping it stops them as well, without waiting.
#[derive(Debug)]
pub struct Running {
    stop_udp: Arc<AtomicBool>,
    stop_tcp: watch::Sender<bool>,
    threads: Vec<JoinHandle<()>>,
}

impl Running {
    /// Stops reading, answers what was read, closes the sockets and joins the threads: within a second (SPEC 8.8).
    /// Blocks meanwhile; asynchronous callers use `spawn_blocking`.
    pub fn stop(mut self) {
        self.signal();
        for thread in std::mem::take(&mut self.threads) {
            if thread.join().is_err() {
                tracing::error!("a thread that answered queries had panicked");
            }
        }
    }

    fn signal(&self) {
        self.stop_udp.store(true, Ordering::Relaxed);
        self.stop_tcp.send_replace(true);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.signal();
    }
}

#[cfg(test)]
mod testing;
