//! The addresses behind CNAMEs: the targets of instances are resolved again and again, and when one has other addresses, the
//! configuration is compiled over these (SPEC 7.2).
//!
//! ```text
//! answer ──► addresses seen now          kept while they are seen, and KEPT_UNSEEN longer, so that those which take
//!                                        their place have been probed by then; asked again when the TTL is over
//! failure ─► nothing is thought of it    all that were known are kept for KEPT_FAILED after the last answer
//! ```
//! Many targets answer with a few of many addresses, others each time: what is known of one is the union of what was
//! seen lately.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hickory_resolver::config::{
    ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::{ResolverBuilder, TokioResolver};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::config::Server;
use crate::dns::Name;
use crate::fleet::Fleet;
use crate::time::{self, Tick};

/// A target is resolved at most this often, whatever the TTL of its addresses.
const LEAST_PAUSE: Duration = Duration::from_secs(5);
/// And at least this often.
const MOST_PAUSE: Duration = Duration::from_secs(300);
/// When a failure is tried again.
const FAILED_PAUSE: Duration = Duration::from_secs(10);
/// How long an address is kept that the target does not have any more.
const KEPT_UNSEEN: Duration = Duration::from_secs(120);
/// How long all are kept when the target cannot be resolved.
const KEPT_FAILED: Duration = Duration::from_secs(3600);
/// Most addresses of a target: those seen last.
const MOST_ADDRESSES: usize = 32;
/// Targets that are resolved at once.
const MOST_AT_ONCE: usize = 64;
/// Configurations are compiled over other addresses at most this often.
const CHANGE_PAUSE: Duration = Duration::from_secs(1);
/// How long resolvers have for one question, and for all they try to answer it.
const QUESTION: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(8);

/// Addresses by target; of some none are known.
pub type Found = HashMap<Name, Vec<IpAddr>>;

/// Counters, for the metrics.
#[derive(Debug, Default)]
pub struct Resolutions {
    /// Targets that were resolved.
    pub answered: AtomicU64,
    /// That could not be.
    pub failed: AtomicU64,
}

/// Knows the addresses of targets.
pub struct Resolution {
    /// As configured; empty = the system's.
    servers: Vec<SocketAddr>,
    resolver: Option<TokioResolver>,
    targets: HashMap<Name, Watched>,
    changed_at: Option<Tick>,
    totals: Arc<Resolutions>,
}

/// What is known of a target.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Watched {
    /// Addresses, ascending, and when each was seen last.
    seen: Vec<(IpAddr, Tick)>,
    /// When it is to be resolved again.
    due: Tick,
    /// When it was last.
    answered_at: Option<Tick>,
    is_failing: bool,
    /// What the configuration is compiled over.
    served: Vec<IpAddr>,
}

/// Addresses and how long they hold, or what was wrong.
type Answer = Result<(Vec<IpAddr>, Duration), String>;

impl Watched {
    fn new(now: Tick) -> Watched {
        Watched { seen: Vec::new(), due: now, answered_at: None, is_failing: false, served: Vec::new() }
    }

    /// Takes an answer; `true` when it begins or ceases to fail.
    fn take(&mut self, answer: &Answer, now: Tick) -> bool {
        let was_failing = std::mem::replace(&mut self.is_failing, answer.is_err());
        match answer {
            Ok((addresses, ttl)) => {
                self.answered_at = Some(now);
                self.due = now.plus((*ttl).clamp(LEAST_PAUSE, MOST_PAUSE));
                self.seen.retain(|(address, at)| !addresses.contains(address) && now.since(*at) < KEPT_UNSEEN);
                self.seen.extend(addresses.iter().map(|&address| (address, now)));
                self.seen.sort_by_key(|(address, at)| (std::cmp::Reverse(*at), *address));
                self.seen.dedup();
                self.seen.truncate(MOST_ADDRESSES);
                self.seen.sort_unstable();
            }
            Err(_) => {
                self.due = now.plus(FAILED_PAUSE);
                if self.answered_at.is_none_or(|at| now.since(at) >= KEPT_FAILED) {
                    self.seen.clear();
                }
            }
        }
        was_failing != self.is_failing
    }

    fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.seen.iter().map(|(address, _)| *address)
    }

    fn is_new(&self) -> bool {
        !self.addresses().eq(self.served.iter().copied())
    }
}

impl Resolution {
    /// For the targets of a fleet, of which nothing is known yet.
    #[must_use]
    pub fn new(server: &Server, fleet: &Fleet) -> Resolution {
        let mut resolution = Resolution {
            servers: server.resolvers.clone(),
            resolver: None,
            targets: HashMap::new(),
            changed_at: None,
            totals: Arc::default(),
        };
        resolution.follow(server, fleet);
        resolution
    }

    /// Goes by another configuration; what is known of targets that stay is kept.
    pub fn follow(&mut self, server: &Server, fleet: &Fleet) {
        let now = time::now();
        if self.servers != server.resolvers {
            self.servers.clone_from(&server.resolvers);
            self.resolver = None;
        }
        let mut before = std::mem::take(&mut self.targets);
        for (id, cname) in &fleet.cnames {
            let watched = before.remove(&cname.target);
            let watched =
                self.targets.entry(cname.target.clone()).or_insert_with(|| watched.unwrap_or(Watched::new(now)));
            watched.served = fleet.instance(*id).addresses.iter().map(|address| address.ip).collect();
        }
    }

    /// Counters.
    #[must_use]
    pub fn totals(&self) -> Arc<Resolutions> {
        Arc::clone(&self.totals)
    }

    /// What is known now.
    #[must_use]
    pub fn found(&self) -> Found {
        self.targets.iter().map(|(name, watched)| (name.clone(), watched.addresses().collect())).collect()
    }

    /// Resolves all that are due once, for at most so long.
    pub async fn first(&mut self, patience: Duration) {
        // What has no answer by then is unknown for now.
        let _ = timeout(patience, self.resolve_due()).await;
    }

    /// Waits until a target has other addresses than the configuration is compiled over; which ones. Given up on, it has lost
    /// nothing but the answers on their way.
    pub async fn changed(&mut self) -> Vec<Name> {
        loop {
            let pause = self.changed_at.map_or(Duration::ZERO, |at| CHANGE_PAUSE.saturating_sub(time::now().since(at)));
            let is_new = |(name, watched): (&Name, &Watched)| watched.is_new().then(|| name.clone());
            let mut changed: Vec<Name> = self.targets.iter().filter_map(is_new).collect();
            changed.sort_by_key(Name::to_plain);
            if !changed.is_empty() && pause.is_zero() {
                self.changed_at = Some(time::now());
                return changed;
            }
            let due = self.targets.values().map(|watched| watched.due).min();
            let due = due.map_or(MOST_PAUSE, |due| due.since(time::now()));
            tokio::time::sleep(if changed.is_empty() { due } else { due.min(pause) }).await;
            self.resolve_due().await;
        }
    }

    async fn resolve_due(&mut self) {
        let now = time::now();
        let due = self.targets.iter().filter(|(_, watched)| watched.due <= now).map(|(name, _)| name.clone());
        let mut due: Vec<Name> = due.collect();
        if due.is_empty() {
            return;
        }
        let resolver = match self.resolver() {
            Ok(resolver) => resolver,
            Err(why) => return due.iter().for_each(|name| self.take(name, &Err(why.clone()))),
        };
        let mut asked = JoinSet::new();
        while !due.is_empty() || !asked.is_empty() {
            while asked.len() < MOST_AT_ONCE
                && let Some(name) = due.pop()
            {
                let resolver = resolver.clone();
                asked.spawn(async move { (resolve(&resolver, &name).await, name) });
            }
            if let Some(Ok((answer, name))) = asked.join_next().await {
                self.take(&name, &answer);
            }
        }
    }

    fn take(&mut self, name: &Name, answer: &Answer) {
        let counter = if answer.is_ok() { &self.totals.answered } else { &self.totals.failed };
        counter.fetch_add(1, Ordering::Relaxed);
        let Some(watched) = self.targets.get_mut(name) else { return };
        if watched.take(answer, time::now()) {
            let kept = watched.seen.len();
            match answer {
                Ok(_) => tracing::info!("target {name}: resolved again"),
                Err(why) if kept > 0 => tracing::warn!(
                    "target {name}: {why}; what was found before, {kept}, is kept for {KEPT_FAILED:?} after the last answer"
                ),
                Err(why) => tracing::warn!("target {name}: {why}; no address of it is known"),
            }
        }
    }

    fn resolver(&mut self) -> Result<TokioResolver, String> {
        if let Some(resolver) = &self.resolver {
            return Ok(resolver.clone());
        }
        let resolver = build(&self.servers)?;
        self.resolver = Some(resolver.clone());
        Ok(resolver)
    }
}

fn build(servers: &[SocketAddr]) -> Result<TokioResolver, String> {
    let system = || TokioResolver::builder_tokio().map_err(|error| format!("the system's resolvers: {error}"));
    let mut builder = if servers.is_empty() { system()? } else { of_servers(servers) };
    let options: &mut ResolverOpts = builder.options_mut();
    options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    // What holds how long is known here.
    options.cache_size = 0;
    options.timeout = QUESTION;
    options.attempts = 2;
    builder.build().map_err(|error| error.to_string())
}

fn of_servers(servers: &[SocketAddr]) -> ResolverBuilder<TokioRuntimeProvider> {
    let of = |socket: &SocketAddr| {
        let at_port = |connection: ConnectionConfig| {
            let mut connection = connection;
            connection.port = socket.port();
            connection
        };
        let mut server = NameServerConfig::udp_and_tcp(socket.ip());
        server.connections = server.connections.into_iter().map(at_port).collect();
        server
    };
    let config = ResolverConfig::from_parts(None, Vec::new(), servers.iter().map(of).collect());
    let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    builder.options_mut().use_hosts_file = ResolveHosts::Never;
    builder
}

async fn resolve(resolver: &TokioResolver, name: &Name) -> Answer {
    let absolute = format!("{}.", name.to_plain().trim_end_matches('.'));
    let answer = timeout(PATIENCE, resolver.lookup_ip(absolute)).await.map_err(|_| "no answer in time".to_string())?;
    let answer = answer.map_err(|error| error.to_string())?;
    let ttl = answer.valid_until().saturating_duration_since(std::time::Instant::now());
    let usable = |address: &IpAddr| !address.is_unspecified() && !address.is_multicast();
    let addresses: Vec<IpAddr> = answer.iter().filter(usable).collect();
    if addresses.is_empty() { Err("it has no address".into()) } else { Ok((addresses, ttl)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    #[test]
    fn addresses_are_kept_for_a_while() {
        let mut watched = Watched::new(Tick::START);
        let at = |second: u64| Tick::START.plus(Duration::from_secs(second));
        let answer = |last: &[u8]| Ok((last.iter().map(|&last| address(last)).collect(), Duration::from_secs(20)));
        let failure: Answer = Err("SERVFAIL".into());
        for (second, given, known, changes) in [
            (0, failure.clone(), &[][..], true),
            (10, failure.clone(), &[], false),
            (20, answer(&[1, 2]), &[1, 2], true),
            (40, answer(&[3, 2]), &[1, 2, 3], false),
            (139, answer(&[3]), &[1, 2, 3], false),
            (140, answer(&[3]), &[2, 3], false),
            (160, answer(&[4]), &[3, 4], false),
            (1000, failure.clone(), &[3, 4], true),
            (160 + 3599, failure.clone(), &[3, 4], false),
            (160 + 3600, failure.clone(), &[], false),
            (4000, answer(&[5, 5]), &[5], true),
        ] {
            assert_eq!(watched.take(&given, at(second)), changes, "whether it changed at {second}");
            let expected: Vec<IpAddr> = known.iter().map(|&last| address(last)).collect();
            assert_eq!(watched.addresses().collect::<Vec<_>>(), expected, "at {second}");
            let pause = if given.is_ok() { Duration::from_secs(20) } else { FAILED_PAUSE };
            assert_eq!(watched.due, at(second).plus(pause), "at {second}");
        }
    }

    #[test]
    fn pauses_and_numbers_are_bounded() {
        let mut watched = Watched::new(Tick::START);
        for (ttl, pause) in [(0, LEAST_PAUSE), (1, LEAST_PAUSE), (60, Duration::from_secs(60)), (86_400, MOST_PAUSE)] {
            watched.take(&Ok((vec![address(1)], Duration::from_secs(ttl))), Tick::START);
            assert_eq!(watched.due, Tick::START.plus(pause));
        }
        let later = Tick::START.plus(Duration::from_secs(1));
        watched.take(&Ok(((2..200).map(address).collect(), LEAST_PAUSE)), later);
        assert_eq!(watched.seen.len(), MOST_ADDRESSES);
        assert!(!watched.addresses().any(|known| known == address(1)), "the one seen before all others goes");
    }
}
