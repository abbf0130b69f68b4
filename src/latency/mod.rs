//! How long round trips take between clients and regions, by what was measured: samples in, a frozen table out. Pure:
//! time is an argument, nothing is opened.
//!
//! ```text
//!  samples ─► Book: (prefix | AS | country) × region ─► Cell        owned by one thread
//!                                     │ freeze
//!                                     ▼
//!             Measured: address ─► row of published times            shared, never changed, only replaced
//! ```
//! | what | file |
//! |---|---|
//! | one estimate: noise, garbage, drift, a dead band | `cell` |
//! | systems and countries: the median of their prefixes | `around` |
//! | all of them, bounded; expiry | `book` |
//! | what answers read | `measured` |
//! | what outlives the process | `stored` |

mod around;
mod book;
mod cell;
mod measured;
mod stored;

use std::time::Duration;

pub use book::{Book, Counts, Known, Level, Sample};
pub use cell::{ENOUGH, Rtt};
pub use measured::{Entry, Measured, View, find};

/// `[latency]`: how samples are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// After so long what was measured before counts half, at least a second.
    pub half_life: Duration,
    /// An estimate without a sample for so long is forgotten.
    pub expire_after: Duration,
    /// Most prefixes that have estimates of their own, at least 1.
    pub prefixes: usize,
}

/// As the keys' defaults say.
impl Default for Policy {
    fn default() -> Policy {
        Policy { half_life: Duration::from_secs(600), expire_after: Duration::from_secs(24 * 3600), prefixes: 100_000 }
    }
}
