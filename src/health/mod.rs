//! Pure health: observations in, verdicts out (`machine`), what the operator says beside it (`operator`), what load
//! instances report (`load`), which regions can serve (`group`), and how instances and regions come back (`ramp`,
//! `presence`).

pub mod group;
pub mod load;
pub mod machine;
pub mod operator;
pub mod presence;
mod ramp;

pub use group::Standing;
pub use load::{Remark, Reported};
pub use machine::{Evidence, Last, Machine, Memory, Transition};
pub use operator::{Administrative, Operator, Said};
pub use presence::Presence;

use std::sync::Arc;
use std::time::Duration;

use crate::fleet::TargetId;

/// How one check turns observations into verdicts (SPEC 2.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Time between probes of one target.
    pub interval: Duration,
    /// A probe that takes longer has failed; less than `interval`.
    pub timeout: Duration,
    /// Consecutive failures that take a target down.
    pub fall: u32,
    /// Consecutive passes that bring it up.
    pub rise: u32,
    /// (failures, of): also down when that many of the last `of` observations failed; `None` = off.
    pub window: Option<(u32, u32)>,
    /// Time between probes while an up or unknown target has a running failure.
    pub fast_interval: Duration,
    /// The n-th time down within 10 minutes lasts at least `hold_down` × n, at most 5 minutes; the first is not held.
    pub hold_down: Duration,
}

/// What checks say of a target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// Never observed, or not enough to say.
    #[default]
    Unknown,
    /// Working.
    Up,
    /// Failed.
    Down,
}

/// What one probe saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The target works.
    Pass,
    /// It does not.
    Fail,
    /// The node itself could not look (no route, descriptors, ports, memory, its own resolver).
    NoVerdict,
}

/// The end of one probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observation {
    /// Which target.
    pub target: TargetId,
    /// Pass, fail or no verdict.
    pub outcome: Outcome,
    /// In words: `connection refused`, `status 503, expected 200-299`, `timeout after 2s`, `status 200`.
    pub reason: Arc<str>,
    /// How long the probe took.
    pub took: Duration,
}
