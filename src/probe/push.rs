//! `push`: nobody probes; the instance or its agent reports over the API, and each report is one observation.
//!
//! ```text
//!   report ──► observation, pass or fail ──► wait for the next, 3 × interval
//!                                              │ none came
//!   wait at the pace of probes ◄── fail ◄──────┘
//!   (interval, fast-interval while a failure runs)
//! ```
//! Before the first report a target is as one whose first probe failed: unknown until `fall` confirms it.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::probe::{Check, Finding, Probe};

/// Most reports of one target that wait to be taken in.
pub(super) const MOST_WAITING: usize = 16;

/// Where the reports of one target are put.
pub(super) type Inbox = mpsc::Sender<Finding>;

/// How long a target may say nothing.
pub(super) fn patience(check: &Check) -> Duration {
    check.policy.interval * 3
}

/// What a report says.
pub(super) fn finding(healthy: bool, said: &str) -> Finding {
    match (healthy, said) {
        (true, "") => Finding::pass("reported healthy"),
        (true, said) => Finding::pass(&format!("reported healthy: {said}")),
        (false, "") => Finding::fail("reported unhealthy"),
        (false, said) => Finding::fail(&format!("reported unhealthy: {said}")),
    }
}

/// What it means that a target said nothing for so long.
pub(super) struct Silence(Duration);

impl Silence {
    pub(super) fn new(check: &Check) -> Silence {
        Silence(patience(check))
    }
}

impl Probe for Silence {
    fn run(&self) -> Pin<Box<dyn Future<Output = Finding> + Send + '_>> {
        Box::pin(std::future::ready(Finding::fail(&format!("no report for {:?}", self.0))))
    }
}
