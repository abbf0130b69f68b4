//! Log lines of changes: one each with old, new and reason; a burst of them becomes a summary (SPEC 8.7).

use std::time::Duration;

use crate::time::Tick;

/// Lines a window may hold before the rest is only counted.
const MOST_LINES: u32 = 50;
/// How long a window lasts.
const WINDOW: Duration = Duration::from_secs(10);

/// Lets a bounded number of lines through.
#[derive(Debug, Default)]
pub(super) struct Burst {
    began: Tick,
    lines: u32,
    held_back: u32,
}

impl Burst {
    /// Whether one more line may be logged now; says first how many were held back in the window before.
    pub(super) fn allows(&mut self, now: Tick) -> bool {
        if now.since(self.began) >= WINDOW {
            self.flush(now);
        }
        self.lines += 1;
        let allowed = self.lines <= MOST_LINES;
        if !allowed {
            self.held_back += 1;
        }
        allowed
    }

    /// How long until lines that were held back are to be summed up.
    pub(super) fn due(&self, now: Tick) -> Option<Duration> {
        (self.held_back > 0).then(|| WINDOW.saturating_sub(now.since(self.began)))
    }

    /// Says how many lines were held back, and begins a new window.
    pub(super) fn flush(&mut self, now: Tick) {
        if self.held_back > 0 {
            tracing::warn!("{} further changes of health within {WINDOW:?}, see `waymark status`", self.held_back);
        }
        *self = Burst { began: now, lines: 0, held_back: 0 };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_bounded() {
        let mut burst = Burst::default();
        let through = (0..1000).filter(|_| burst.allows(Tick(0))).count();
        assert_eq!((through, burst.held_back), (50, 950));
        assert_eq!(burst.due(Tick(4000)), Some(Duration::from_secs(6)));
        assert!(burst.allows(Tick(10_000)));
        assert_eq!(burst.held_back, 0);
    }
}
