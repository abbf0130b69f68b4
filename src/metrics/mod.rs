//! Counters: one set per thread, written by that thread alone, summed at scrape.

mod answers;
pub mod senders;

pub use answers::{AnswerCounters, Labels, RCODES, TRANSPORTS, TYPES, Tallies, Tally};
pub use senders::Senders;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use ipnet::IpNet;

/// A counter with one writer; anybody may read it.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `count`; only the owning thread may.
    pub fn add(&self, count: u64) {
        // One writer: a plain load and store, no locked instruction.
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(count), Ordering::Relaxed);
    }

    /// The value.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What one thread counts; a cache line is never shared with another's.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Counters {
    /// Datagrams received.
    pub udp_received: Counter,
    /// Answers handed to the kernel over UDP.
    pub udp_sent: Counter,
    /// Datagrams that could not be sent.
    pub udp_send_failed: Counter,
    /// Datagrams that were longer than the receive buffer and dropped.
    pub udp_too_long: Counter,
    /// Datagrams dropped because nothing can be sent to their source: port 0.
    pub udp_bad_source: Counter,
    /// Receive calls that failed.
    pub udp_receive_failed: Counter,
    /// Messages received over TCP.
    pub tcp_received: Counter,
    /// Answers written over TCP.
    pub tcp_sent: Counter,
    /// TCP connections accepted; those closed since are in `tcp_closed`.
    pub tcp_opened: Counter,
    /// TCP connections closed, for whatever reason.
    pub tcp_closed: Counter,
    /// TCP connections closed because no query came for long.
    pub tcp_closed_idle: Counter,
    /// TCP connections closed to make room for a newcomer.
    pub tcp_closed_for_newcomer: Counter,
    /// TCP connections closed because a message did not become whole in time.
    pub tcp_closed_slow_query: Counter,
    /// TCP connections closed because the client did not take its answers in time.
    pub tcp_closed_slow_reader: Counter,
    /// TCP connections closed because of a message shorter than a header.
    pub tcp_closed_junk: Counter,
    /// Connections closed because so much came over them, and so few answers were taken.
    pub tcp_closed_wasteful: Counter,
    /// Connections closed because they came from a balancer and did not begin with its header.
    pub tcp_closed_bad_header: Counter,
    /// Datagrams dropped because they came from a balancer and did not begin with its header.
    pub udp_bad_header: Counter,
    /// TLS handshakes that were done.
    pub tls_handshakes_done: Counter,
    /// Those of them that resumed a session.
    pub tls_resumed: Counter,
    /// TLS handshakes that failed: the client closed, or nothing could be agreed on.
    pub tls_handshakes_failed: Counter,
    /// TLS handshakes that were not done in time.
    pub tls_handshakes_timed_out: Counter,
    /// Queries received over QUIC, DNS over HTTP/3 among them.
    pub quic_received: Counter,
    /// Answers written over QUIC.
    pub quic_sent: Counter,
    /// QUIC connections whose handshake began; those closed since are in `quic_closed`.
    pub quic_opened: Counter,
    /// QUIC connections closed, for whatever reason.
    pub quic_closed: Counter,
    /// QUIC connections closed because no query came for long.
    pub quic_closed_idle: Counter,
    /// Connections closed to make room for a newcomer over QUIC.
    pub quic_closed_for_newcomer: Counter,
    /// QUIC connections closed because the client did not take its answers in time.
    pub quic_closed_slow_reader: Counter,
    /// QUIC connections closed because so much came over them, and so few answers were taken.
    pub quic_closed_wasteful: Counter,
    /// QUIC connections closed because of what RFC 9250 forbids.
    pub quic_closed_misuse: Counter,
    /// Queries over QUIC that did not become whole in time; each cost its stream.
    pub quic_slow_queries: Counter,
    /// Beginnings of QUIC connections that were told to prove their address.
    pub quic_retries: Counter,
    /// Requests over HTTP that were answered with another status than 200.
    pub http_refused: Counter,
    /// Copies of zones that ended before they were whole: the client left or was slow, or there were too many at once.
    pub transfers_broken: Counter,
    /// Connections that could not be accepted, by want of descriptors or memory.
    pub tcp_accept_failed: Counter,
    /// Messages whose answering panicked; each cost its sender one answer.
    pub panics: Counter,
    /// What answering itself counts.
    pub answering: AnswerCounters,
    /// Who sends client subnets.
    pub senders: Senders,
}

/// The counters of all threads.
#[derive(Debug, Default)]
pub struct Registry {
    threads: Mutex<Vec<Arc<Counters>>>,
    /// Answers by service and region.
    pub tallies: Tallies,
}

impl Registry {
    /// One more thread: its number, from 0, and a set of its own.
    #[must_use]
    pub fn join(&self) -> (usize, Arc<Counters>) {
        let counters = Arc::new(Counters::default());
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        threads.push(Arc::clone(&counters));
        (threads.len() - 1, counters)
    }

    /// How many threads there are.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// What all threads counted with one of their counters: `registry.sum(|counters| &counters.udp_sent)`.
    #[must_use]
    pub fn sum(&self, counter: impl Fn(&Counters) -> &Counter) -> u64 {
        let all = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().fold(0, |sum, counters| sum.wrapping_add(counter(counters).get()))
    }

    /// Networks that send client subnets, the busiest first, each with how often it was seen, and the sum of that.
    #[must_use]
    pub fn senders(&self) -> (Vec<(IpNet, u64)>, u64) {
        let all = self.threads.lock().unwrap_or_else(PoisonError::into_inner).clone();
        senders::merged(all.iter().map(|counters| &counters.senders))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_over_threads() {
        let registry = Registry::default();
        let ((first, one), (second, two)) = (registry.join(), registry.join());
        assert_eq!((first, second, registry.threads()), (0, 1, 2));
        one.udp_sent.add(3);
        two.udp_sent.add(4);
        two.panics.add(1);
        assert_eq!((registry.sum(|all| &all.udp_sent), registry.sum(|all| &all.panics)), (7, 1));
    }
}
