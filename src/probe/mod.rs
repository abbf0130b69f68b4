//! Kinds of health check, and the tasks that run them.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use crate::health::Policy;

/// A configured check: how to probe and how to judge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// As configured, `web`.
    pub name: String,
    /// How observations become verdicts.
    pub policy: Policy,
    /// What a probe does.
    pub kind: Kind,
    /// Address that probes come from; `None` = the system chooses.
    pub source: Option<IpAddr>,
}

/// What a probe does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An HTTP request over a new connection.
    Http(Http),
    /// A TCP handshake.
    Tcp,
}

/// An `http` or `https` check. Host header and SNI come from the target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Http {
    /// `https`.
    pub tls: bool,
    /// Whether the certificate must be valid for the host.
    pub verify: bool,
    /// `GET`.
    pub method: String,
    /// Path and query, begins with `/`.
    pub path: String,
    /// Further request headers.
    pub headers: Vec<(String, String)>,
    /// Statuses that pass.
    pub expect_status: Vec<RangeInclusive<u16>>,
    /// What the first 64 KiB of the body must hold.
    pub expect_body: Option<BodyMatch>,
}

/// A condition on a response body.
#[derive(Clone, Debug)]
pub enum BodyMatch {
    /// Contains this text.
    Contains(String),
    /// Matches this regular expression (`"/…/"` in the configuration).
    Regex(regex::bytes::Regex),
}

impl PartialEq for BodyMatch {
    fn eq(&self, other: &BodyMatch) -> bool {
        match (self, other) {
            (BodyMatch::Contains(a), BodyMatch::Contains(b)) => a == b,
            (BodyMatch::Regex(a), BodyMatch::Regex(b)) => a.as_str() == b.as_str(),
            _ => false,
        }
    }
}

impl Eq for BodyMatch {}

pub use stub::{Prober, Report, Totals};
mod stub {
    use crate::fleet::Target;
    use crate::health::Observation;
    use std::time::Duration;
    use tokio::sync::oneshot;
    #[derive(Debug)]
    pub struct Report {
        pub observation: Observation,
        pub reply: oneshot::Sender<Duration>,
    }
    #[derive(Debug, Default)]
    pub struct Totals;
    impl Totals {
        pub fn counts(&self) -> Vec<(&'static str, &'static str, u64)> {
            vec![]
        }
    }
    #[derive(Debug)]
    pub struct Prober;
    impl Prober {
        pub fn new(_: tokio::sync::mpsc::Sender<Report>, _: std::sync::Arc<Totals>, _: u64) -> Prober {
            Prober
        }
        pub fn update(&mut self, _: &[Target], _: &[super::Check]) {}
    }
}
