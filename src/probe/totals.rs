//! Counters of probes by kind of check, written by all probe tasks and read by whoever prints metrics.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::health::Outcome;
use crate::probe::{Certificates, Kind};

/// Probes ended since the process began.
#[derive(Debug, Default)]
pub struct Totals {
    kinds: [KindTotals; Kind::NAMES.len()],
    /// Probes that panicked or outlived their timeout; each ended without a verdict and its target is probed on.
    pub crashed: AtomicU64,
    /// How late probes begin.
    pub lateness: Lateness,
    /// Those that targets showed.
    pub certificates: Arc<Certificates>,
}

/// From when probes were due until they began: what this node lacks (time, or permits of [`super::MOST_AT_ONCE`]), never
/// what their targets do.
#[derive(Debug, Default)]
pub struct Lateness {
    /// By the bounds, each without those below; then those above all bounds.
    counts: [AtomicU64; Lateness::BOUNDS_MS.len() + 1],
    sum_us: AtomicU64,
}

impl Lateness {
    /// Most lateness that a bucket counts, in milliseconds.
    pub const BOUNDS_MS: [u64; 11] = [1, 2, 5, 10, 25, 50, 100, 250, 500, 1000, 2500];

    pub(super) fn count(&self, late: Duration) {
        let us = u64::try_from(late.as_micros()).unwrap_or(u64::MAX);
        let bucket = Lateness::BOUNDS_MS.iter().take_while(|bound| us > **bound * 1000).count();
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum_us.fetch_add(us, Ordering::Relaxed);
    }

    /// Upper bound in seconds, the last one `f64::INFINITY`, and how many probes were that late and later than the bound before.
    #[must_use]
    pub fn buckets(&self) -> Vec<(f64, u64)> {
        let bounds = Lateness::BOUNDS_MS.iter().map(|ms| *ms as f64 / 1e3).chain([f64::INFINITY]);
        bounds.zip(self.counts.iter().map(|count| count.load(Ordering::Relaxed))).collect()
    }

    /// All together, in seconds.
    #[must_use]
    pub fn sum(&self) -> f64 {
        self.sum_us.load(Ordering::Relaxed) as f64 / 1e6
    }
}

/// Probes of one kind that ended.
#[derive(Debug, Default)]
pub struct KindTotals {
    /// In pass.
    pub pass: AtomicU64,
    /// In fail.
    pub fail: AtomicU64,
    /// In no-verdict.
    pub no_verdict: AtomicU64,
    /// Time taken by all of them, in microseconds.
    pub took_us: AtomicU64,
}

impl Totals {
    pub(super) fn new(certificates: Arc<Certificates>) -> Totals {
        Totals { certificates, ..Totals::default() }
    }

    /// The name of each kind, as in `type = "…"`, with its counters.
    pub fn by_kind(&self) -> impl Iterator<Item = (&'static str, &KindTotals)> {
        Kind::NAMES.into_iter().zip(&self.kinds)
    }

    pub(super) fn count(&self, kind: &str, outcome: Outcome, took: Duration) {
        let (_, totals) = self.by_kind().find(|&(name, _)| name == kind).expect("NAMES holds the name of every kind");
        let counter = match outcome {
            Outcome::Pass => &totals.pass,
            Outcome::Fail => &totals.fail,
            Outcome::NoVerdict => &totals.no_verdict,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        totals.took_us.fetch_add(u64::try_from(took.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    pub(super) fn count_crash(&self) {
        self.crashed.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lateness_is_counted_in_buckets() {
        let lateness = Lateness::default();
        for us in [0, 1000, 1001, 250_000, 3_000_000] {
            lateness.count(Duration::from_micros(us));
        }
        let some: Vec<_> = lateness.buckets().into_iter().filter(|(_, count)| *count > 0).collect();
        assert_eq!(some, [(0.001, 2), (0.002, 1), (0.25, 1), (f64::INFINITY, 1)]);
        assert!((lateness.sum() - 3.252_001).abs() < 1e-9);
    }

    #[test]
    fn each_kind_counts_apart() {
        let totals = Totals::default();
        let rows =
            [("http", Outcome::Pass), ("http", Outcome::Pass), ("https", Outcome::Fail), ("tcp", Outcome::NoVerdict)];
        for (kind, outcome) in rows {
            totals.count(kind, outcome, Duration::from_millis(3));
        }
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counted = |name: &str| rows.iter().any(|(kind, _)| *kind == name);
        let all: Vec<_> = totals
            .by_kind()
            .map(|(name, kind)| (name, read(&kind.pass), read(&kind.fail), read(&kind.no_verdict), read(&kind.took_us)))
            .collect();
        let (some, others): (Vec<_>, Vec<_>) = all.into_iter().partition(|(name, ..)| counted(name));
        assert_eq!(some, [("http", 2, 0, 0, 6000), ("https", 0, 1, 0, 3000), ("tcp", 0, 0, 1, 3000)]);
        assert!(others.iter().all(|&(_, pass, fail, no_verdict, took)| pass + fail + no_verdict + took == 0));
    }
}
