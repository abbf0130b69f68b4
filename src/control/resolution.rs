//! The addresses behind CNAMEs: the targets of instances are resolved again and again, and when one has other addresses, the
//! configuration is compiled over these (SPEC 7.2).
//!
//! ```text
//! answer ──► addresses it has now        kept while it has them, and KEPT_UNSEEN longer, so that those which take
//!                                        their place have been probed by then; asked again when the TTL is over
//! failure ─► nothing is thought of it    what was known is kept: of one family as long as the other is answered, all for
//!                                        KEPT_FAILED after the last answer
//! ```
//! Many targets answer with a few of many addresses, others each time: what is known of one is the union of what was
//! seen lately.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::RecordType;
use hickory_resolver::{ResolverBuilder, TokioResolver};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::config::Server;
use crate::dns::Name;
use crate::fleet::{Family, Fleet};
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
    /// Ascending by address.
    seen: Vec<Seen>,
    /// When it is to be resolved again.
    due: Tick,
    /// When it was last.
    answered_at: Option<Tick>,
    is_failing: bool,
    /// What the configuration is compiled over.
    served: Vec<IpAddr>,
}

/// An address that a target has, or had a short while ago.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Seen {
    address: IpAddr,
    /// Since when it is not in the answers any more.
    gone_since: Option<Tick>,
}

/// The addresses of a family, mostly some, and how long they hold; or what was wrong, which says nothing of them.
type OfFamily = Result<(Vec<IpAddr>, Duration), String>;
/// By family.
type Answer = [OfFamily; 2];

/// Why no address came of an answer; `None` = some did.
fn failure(answer: &Answer) -> Option<String> {
    let has_some = answer.iter().flatten().any(|(addresses, _)| !addresses.is_empty());
    let wrong = || answer.iter().find_map(|of_family| of_family.as_ref().err().cloned());
    (!has_some).then(|| wrong().unwrap_or_else(|| "it has no address".into()))
}

impl Watched {
    fn new(now: Tick) -> Watched {
        Watched { seen: Vec::new(), due: now, answered_at: None, is_failing: false, served: Vec::new() }
    }

    /// Takes an answer; `true` when it begins or ceases to fail.
    fn take(&mut self, answer: &Answer, now: Tick) -> bool {
        let fails = failure(answer).is_some();
        if fails {
            self.due = now.plus(FAILED_PAUSE);
            if self.answered_at.is_none_or(|at| now.since(at) >= KEPT_FAILED) {
                self.seen.clear();
            }
        } else {
            self.answered_at = Some(now);
            let ttls = answer.iter().flatten().filter(|(addresses, _)| !addresses.is_empty()).map(|(_, ttl)| *ttl);
            let pause = ttls.min().unwrap_or(LEAST_PAUSE).clamp(LEAST_PAUSE, MOST_PAUSE);
            let is_whole = answer.iter().all(Result::is_ok);
            self.due = now.plus(if is_whole { pause } else { pause.min(FAILED_PAUSE) });
            let [v4, v6] = answer;
            [(Family::V4, v4), (Family::V6, v6)].into_iter().for_each(|(family, of)| self.take_family(family, of, now));
            self.bound();
        }
        std::mem::replace(&mut self.is_failing, fails) != fails
    }

    fn take_family(&mut self, family: Family, answer: &OfFamily, now: Tick) {
        let Ok((addresses, _)) = answer else { return };
        for seen in self.seen.iter_mut().filter(|seen| Family::of(seen.address) == family) {
            let is_there = addresses.contains(&seen.address);
            seen.gone_since = if is_there { None } else { seen.gone_since.or(Some(now)) };
        }
        self.seen.retain(|seen| seen.gone_since.is_none_or(|since| now.since(since) < KEPT_UNSEEN));
        for &address in addresses {
            if !self.seen.iter().any(|seen| seen.address == address) {
                self.seen.push(Seen { address, gone_since: None });
            }
        }
    }

    /// Those that are gone for longest go first.
    fn bound(&mut self) {
        let gone_since = |seen: &Seen| seen.gone_since.map_or(u64::MAX, |since| since.0);
        self.seen.sort_by_key(|seen| (std::cmp::Reverse(gone_since(seen)), seen.address));
        self.seen.truncate(MOST_ADDRESSES);
        self.seen.sort_unstable();
    }

    fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.seen.iter().map(|seen| seen.address)
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
            Err(why) => {
                return due.iter().for_each(|name| self.take(name, &[Err(why.clone()), Err(why.clone())]));
            }
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
        let failure = failure(answer);
        let counter = if failure.is_none() { &self.totals.answered } else { &self.totals.failed };
        counter.fetch_add(1, Ordering::Relaxed);
        let Some(watched) = self.targets.get_mut(name) else { return };
        if watched.take(answer, time::now()) {
            let kept = watched.seen.len();
            match failure {
                None => tracing::info!("target {name}: resolved again"),
                Some(why) if kept > 0 => tracing::warn!(
                    "target {name}: {why}; what was found before, {kept}, is kept for {KEPT_FAILED:?} after the last answer"
                ),
                Some(why) => tracing::warn!("target {name}: {why}; no address of it is known"),
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
    let of = |rtype| of_family(resolver, name, rtype);
    let (v4, v6) = tokio::join!(of(RecordType::A), of(RecordType::AAAA));
    [v4, v6]
}

/// A family is asked for by itself: that it cannot be resolved is not to mean that it has no address.
async fn of_family(resolver: &TokioResolver, name: &Name, rtype: RecordType) -> OfFamily {
    let absolute = format!("{}.", name.to_plain().trim_end_matches('.'));
    let answer = timeout(PATIENCE, resolver.lookup(absolute, rtype)).await;
    let answer = match answer.map_err(|_| "no answer in time".to_string())? {
        Ok(answer) => answer,
        Err(error) if error.is_no_records_found() => return Ok((Vec::new(), LEAST_PAUSE)),
        Err(error) => return Err(error.to_string()),
    };
    let ttl = answer.valid_until().saturating_duration_since(std::time::Instant::now());
    let addresses = answer.answers().iter().filter_map(|record| record.data.ip_addr());
    Ok((addresses.filter(is_usable).collect(), ttl))
}

/// Whether a client can be sent there.
fn is_usable(address: &IpAddr) -> bool {
    let is_mapped = matches!(address, IpAddr::V6(address) if address.to_ipv4_mapped().is_some());
    !address.is_unspecified() && !address.is_multicast() && !is_mapped && *address != IpAddr::V4(Ipv4Addr::BROADCAST)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    fn at(second: u64) -> Tick {
        Tick::START.plus(Duration::from_secs(second))
    }

    /// Of IPv4, while there is no IPv6.
    fn answer(last: &[u8], ttl: u64) -> Answer {
        let addresses = last.iter().map(|&last| address(last)).collect();
        [Ok((addresses, Duration::from_secs(ttl))), Ok((Vec::new(), LEAST_PAUSE))]
    }

    fn failure() -> Answer {
        [Err("SERVFAIL".into()), Err("timeout".into())]
    }

    #[test]
    fn addresses_are_kept_for_a_while() {
        for ttl in [20, 300] {
            let mut watched = Watched::new(Tick::START);
            let answer = |last: &[u8]| answer(last, ttl);
            let nothing = [Ok((Vec::new(), LEAST_PAUSE)), Ok((Vec::new(), LEAST_PAUSE))];
            for (second, given, known, changes) in [
                (0, failure(), &[][..], true),
                (10, nothing.clone(), &[], false),
                (20, answer(&[1, 2]), &[1, 2], true),
                (320, answer(&[3, 2]), &[1, 2, 3], false),
                (439, answer(&[3]), &[1, 2, 3], false),
                (440, answer(&[3]), &[2, 3], false),
                (558, answer(&[3]), &[2, 3], false),
                (559, answer(&[4]), &[3, 4], false),
                (1000, failure(), &[3, 4], true),
                (1300, answer(&[4]), &[4], true),
                (1310, nothing, &[4], true),
                (1300 + 3599, failure(), &[4], false),
                (1300 + 3600, failure(), &[], false),
                (6000, answer(&[5, 5]), &[5], true),
            ] {
                assert_eq!(watched.take(&given, at(second)), changes, "whether it changed at {second}");
                let expected: Vec<IpAddr> = known.iter().map(|&last| address(last)).collect();
                assert_eq!(watched.addresses().collect::<Vec<_>>(), expected, "at {second}, with TTL {ttl}");
                let pause = if watched.is_failing { FAILED_PAUSE } else { Duration::from_secs(ttl) };
                assert_eq!(watched.due, at(second).plus(pause), "at {second}");
            }
        }
    }

    #[test]
    fn a_family_that_is_not_answered_is_kept() {
        let mut watched = Watched::new(Tick::START);
        let v6: IpAddr = "2001:db8::1".parse().expect("an address");
        let [v4, _] = answer(&[1], 60);
        watched.take(&[v4.clone(), Ok((vec![v6], Duration::from_secs(60)))], at(0));
        watched.take(&[v4.clone(), Err("timeout".into())], at(7200));
        assert_eq!(watched.addresses().collect::<Vec<_>>(), [address(1), v6]);
        assert_eq!(watched.due, at(7200).plus(FAILED_PAUSE));
        watched.take(&[v4.clone(), Ok((Vec::new(), LEAST_PAUSE))], at(7210));
        watched.take(&[v4, Ok((Vec::new(), LEAST_PAUSE))], at(7330));
        assert_eq!(watched.addresses().collect::<Vec<_>>(), [address(1)]);
    }

    #[test]
    fn pauses_and_numbers_are_bounded() {
        let mut watched = Watched::new(Tick::START);
        for (ttl, pause) in [(0, LEAST_PAUSE), (1, LEAST_PAUSE), (60, Duration::from_secs(60)), (86_400, MOST_PAUSE)] {
            watched.take(&answer(&[1], ttl), Tick::START);
            assert_eq!(watched.due, Tick::START.plus(pause));
        }
        watched.take(&answer(&(2..200).collect::<Vec<u8>>(), 5), at(1));
        assert_eq!(watched.seen.len(), MOST_ADDRESSES);
        assert!(!watched.addresses().any(|known| known == address(1)), "the one that is gone makes room");
    }
}
