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
    /// Those that targets showed.
    pub certificates: Arc<Certificates>,
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
