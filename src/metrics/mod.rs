//! Counters: one set per thread, written by that thread alone, summed at scrape.

mod answers;

pub use answers::{AnswerCounters, Labels, RCODES, TRANSPORTS, TYPES, Tallies, Tally};

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

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
    /// Messages received over TCP.
    pub tcp_received: Counter,
    /// Answers written over TCP.
    pub tcp_sent: Counter,
    /// Messages whose answering panicked; each cost its sender one answer.
    pub panics: Counter,
    /// What answering itself counts.
    pub answering: AnswerCounters,
}

/// The counters of all threads.
#[derive(Debug, Default)]
pub struct Registry {
    threads: Mutex<Vec<Arc<Counters>>>,
    /// Answers by service and region.
    pub tallies: Tallies,
}

impl Registry {
    /// A set for one more thread.
    #[must_use]
    pub fn counters(&self) -> Arc<Counters> {
        let counters = Arc::new(Counters::default());
        self.threads.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&counters));
        counters
    }

    /// What all threads counted with one of their counters: `registry.sum(|counters| &counters.udp_sent)`.
    #[must_use]
    pub fn sum(&self, counter: impl Fn(&Counters) -> &Counter) -> u64 {
        let all = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().fold(0, |sum, counters| sum.wrapping_add(counter(counters).get()))
    }
}
