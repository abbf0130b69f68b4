//! Kinds of health check, and the tasks that run them.
//!
//! A [`Check`] says how to probe; [`Kind`] is the list of what there is: a new kind is one file and one line in
//! [`Kind`] (and its name and constructor, which the compiler asks for). [`Prober`] runs one task for each target and
//! sends what it saw as a [`Report`]; the receiver owns the verdicts and answers when to probe next.
//!
//! | file | owns |
//! |---|---|
//! | `agent`, `dns`, `exec`, `grpc`, `http`, `icmp`, `push`, `tcp`, `tls` | one kind each: from a check and a target to a [`Finding`] |
//! | `http2` | one request over HTTP/2, for `grpc`, `http` and `https` |
//! | `certificates` | when those that targets show expire |
//! | `identity` | the certificate that targets are shown |
//! | `load` | the load that a response tells |
//! | `link` | failures that a dead link of this node explains |
//! | `reason` | errors in words, and which of them are the node's own fault |
//! | `tasks` | schedule, concurrency, crashes |
//! | `totals` | counters |
//! | `trust` | certificates that checks over TLS believe |
//!
//! Left to others: verdicts (`health`), what is probed (`fleet`), overrides and publishing (`control`).

mod agent;
#[cfg(test)]
mod backends;
mod certificates;
mod dns;
mod exec;
mod grpc;
#[cfg(test)]
mod hostile;
mod http;
mod http2;
mod icmp;
mod identity;
mod link;
mod load;
mod push;
mod reason;
mod tasks;
mod tcp;
mod tls;
mod totals;
mod trust;

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;

use crate::fleet::Target;
use crate::health::{Outcome, Policy};

pub use certificates::{Certificates, Holder};
pub use dns::Dns;
pub use exec::Exec;
pub use grpc::Grpc;
pub use http::{BodyMatch, Http, Version};
pub use identity::Identity;
pub use load::LoadSource;
pub use tasks::{MOST_AT_ONCE, Prober, Report, Settings};
pub use totals::{KindTotals, Lateness, Totals};

/// A configured check: how to probe and how to judge.
#[derive(Clone, Debug, PartialEq)]
pub struct Check {
    /// As configured, `web`.
    pub name: String,
    /// How observations become verdicts.
    pub policy: Policy,
    /// What a probe does.
    pub kind: Kind,
    /// Address that probes come from, where it is of the target's family; `None` = the system chooses.
    pub source: Option<IpAddr>,
}

/// What a probe does.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// A line that an agent says.
    Agent {
        /// What it is sent first; mostly nothing.
        send: String,
    },
    /// A DNS query.
    Dns(Dns),
    /// A program that is run.
    Exec(Exec),
    /// A call of the health checking protocol of gRPC.
    Grpc(Grpc),
    /// An HTTP request over a new connection.
    Http(Http),
    /// An ICMP echo.
    Icmp,
    /// Nothing: the instance reports.
    Push,
    /// A TCP handshake.
    Tcp,
    /// A TLS handshake.
    Tls {
        /// Whether the certificate must be valid for the host.
        verify: bool,
        /// The certificate that is shown to targets.
        identity: Option<Arc<Identity>>,
    },
}

impl Kind {
    /// The names of all kinds, as in `type = "…"`.
    pub const NAMES: [&str; 10] = ["agent", "dns", "exec", "grpc", "http", "https", "icmp", "push", "tcp", "tls"];

    /// As in `type = "…"`, one of [`Kind::NAMES`].
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Kind::Agent { .. } => "agent",
            Kind::Dns(_) => "dns",
            Kind::Exec(_) => "exec",
            Kind::Grpc(_) => "grpc",
            Kind::Http(Http { tls: false, .. }) => "http",
            Kind::Http(Http { tls: true, .. }) => "https",
            Kind::Icmp => "icmp",
            Kind::Push => "push",
            Kind::Tcp => "tcp",
            Kind::Tls { .. } => "tls",
        }
    }

    /// What is prepared once for a target and then runs again and again.
    fn prepare(&self, check: &Check, target: &Target, means: &Means) -> Box<dyn Probe> {
        match self {
            Kind::Agent { send } => Box::new(agent::Agent::new(send, check, target)),
            Kind::Dns(kind) => Box::new(dns::Lookup::new(kind, check, target)),
            Kind::Exec(kind) => Box::new(exec::Program::new(kind, check, target, &means.programs)),
            Kind::Grpc(kind) => Box::new(grpc::Call::new(kind, check, target, &means.tls)),
            Kind::Http(kind) if kind.version == Version::Two => {
                Box::new(http2::Request::new(kind, check, target, &means.tls))
            }
            Kind::Http(kind) => Box::new(http::Request::new(kind, check, target, &means.tls)),
            Kind::Icmp => Box::new(icmp::Echo::new(check, target, &means.echoes)),
            Kind::Push => Box::new(push::Silence::new(check)),
            Kind::Tcp => Box::new(tcp::Handshake::new(check, target)),
            Kind::Tls { verify, identity } => {
                Box::new(tls::Handshake::new(*verify, identity.as_deref(), check, target, &means.tls))
            }
        }
    }
}

/// What all probes of a process share.
struct Means {
    tls: trust::Tls,
    programs: exec::Programs,
    echoes: Arc<icmp::Sockets>,
    links: link::Links,
}

impl Means {
    /// Believes the system's root certificates and these.
    fn new(extra_roots: Vec<CertificateDer<'static>>) -> Means {
        Means {
            tls: trust::Tls::new(extra_roots),
            programs: exec::Programs::default(),
            echoes: Arc::default(),
            links: link::Links::default(),
        }
    }
}

/// One check of one target, ready to run; each run opens a new connection and ends by the check's timeout.
trait Probe: Send + Sync {
    fn run(&self) -> Pin<Box<dyn Future<Output = Finding> + Send + '_>>;
}

/// Most characters of a reason.
const LONGEST_REASON: usize = 200;

/// What a probe hears beside its target's health (SPEC 5.4).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Heard {
    /// Nothing, and nothing was asked for.
    #[default]
    Nothing,
    /// A load, in the unit of the instance's capacity, 0 or more.
    Load(f64),
    /// The load that was asked for is not there, or no number.
    NoLoad,
    /// What an agent says.
    Agent {
        /// The part of its configured weight that the instance is to have, in percent; 0 = no new clients.
        part: u16,
        /// Load in percent of the capacity, if it says how idle the instance is.
        load: Option<u16>,
    },
}

/// How a probe ended.
#[derive(Clone, Debug, PartialEq)]
struct Finding {
    outcome: Outcome,
    /// In words, at most [`LONGEST_REASON`] characters, none of them a control character.
    reason: Arc<str>,
    heard: Heard,
}

impl Finding {
    fn new(outcome: Outcome, reason: &str) -> Finding {
        let printable = |letter: char| if letter.is_control() { ' ' } else { letter };
        let reason: String = reason.chars().take(LONGEST_REASON).map(printable).collect();
        Finding { outcome, reason: reason.into(), heard: Heard::Nothing }
    }

    fn pass(reason: &str) -> Finding {
        Finding::new(Outcome::Pass, reason)
    }

    fn fail(reason: &str) -> Finding {
        Finding::new(Outcome::Fail, reason)
    }

    fn no_verdict(reason: &str) -> Finding {
        Finding::new(Outcome::NoVerdict, reason)
    }
}

/// Where a target is probed.
fn socket_address(target: &Target) -> SocketAddr {
    SocketAddr::new(target.address, target.port)
}

/// The source address to bind to, if the check names one of the target's family.
fn source_of(check: &Check, target: &Target) -> Option<IpAddr> {
    check.source.filter(|source| source.is_ipv4() == target.address.is_ipv4())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_bounded_and_printable() {
        let long = Finding::fail(&"ü\n".repeat(1000));
        assert_eq!(long.reason.chars().count(), LONGEST_REASON);
        assert_eq!(Finding::fail("two\r\nlines\u{1b}[31m").reason.as_ref(), "two  lines [31m");
    }
}
