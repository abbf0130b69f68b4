//! Kinds of health check, and the tasks that run them.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use crate::health::Policy;

/// A configured check: how to probe and how to judge.
#[derive(Clone, Debug)]
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
#[derive(Clone, Debug)]
pub enum Kind {
    /// An HTTP request over a new connection.
    Http(Http),
    /// A TCP handshake.
    Tcp,
}

/// An `http` or `https` check. Host header and SNI come from the target.
#[derive(Clone, Debug)]
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
