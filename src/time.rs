//! The only reader of clocks.
//!
//! Everything that decides (health, steering, group rules) takes time as an argument: a [`Tick`], monotonic, so that a
//! wall clock that jumps changes no verdict. Wall-clock time is shown, and says how old a file of an earlier process is.

use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A time in milliseconds, monotonic; [`Tick::START`] is when the process began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tick(pub u64);

impl Tick {
    /// When the process began: far enough from zero that times before it can be told as well.
    pub const START: Tick = Tick(1 << 42);

    /// The time `later` after this one; saturates.
    #[must_use]
    pub fn plus(self, later: Duration) -> Tick {
        Tick(self.0.saturating_add(u64::try_from(later.as_millis()).unwrap_or(u64::MAX)))
    }

    /// The time `earlier` before this one; saturates.
    #[must_use]
    pub fn minus(self, earlier: Duration) -> Tick {
        Tick(self.0.saturating_sub(u64::try_from(earlier.as_millis()).unwrap_or(u64::MAX)))
    }

    /// How long it is since `earlier`; zero when `earlier` is in the future.
    #[must_use]
    pub fn since(self, earlier: Tick) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// The current tick. The first call in a process is [`Tick::START`]; only differences mean anything.
#[must_use]
pub fn now() -> Tick {
    static START: OnceLock<Instant> = OnceLock::new();
    Tick::START.plus(START.get_or_init(Instant::now).elapsed())
}

/// Nanoseconds since the Unix epoch, as seed of random state.
#[must_use]
pub fn unix_nanoseconds() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// Milliseconds since the Unix epoch by the wall clock, 0 before it.
#[must_use]
pub fn unix_milliseconds() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Seconds since the Unix epoch by the wall clock, 0 before it; for display only.
#[must_use]
pub fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
