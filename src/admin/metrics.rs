//! `/metrics`: the counters of all threads and what the control loop knows, in the OpenMetrics text format.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry as Exposition;

use super::Api;
use crate::control::status::{CheckStatus, FamilyStatus, InstanceStatus};
use crate::control::{Action, Status};
use crate::metrics::{Counter, Counters, RCODES, TRANSPORTS, TYPES};
use crate::time::unix_seconds;

/// One scrape.
pub(super) fn encode(api: &Api, status: &Status) -> Result<String, fmt::Error> {
    let mut exposition = Exposition::with_prefix("waymark");
    exposition.register_collector(Box::new(Scrape { api: api.clone(), status: status.clone() }));
    let mut out = String::new();
    text::encode(&mut out, &exposition)?;
    Ok(out)
}

#[derive(Debug)]
struct Scrape {
    api: Api,
    status: Status,
}

type Which = fn(&Counters) -> &Counter;

/// Values of a label, each with its counter.
type Values = &'static [(&'static str, Which)];

/// Counters with one label: (name, meaning, label, values).
const TRANSPORT_COUNTERS: &[(&str, &str, &str, Values)] = &[
    (
        "udp_dropped",
        "Datagrams left without an answer, by reason",
        "reason",
        &[
            ("too_long", |all| &all.udp_too_long),
            ("source_port_0", |all| &all.udp_bad_source),
            ("proxy_header", |all| &all.udp_bad_header),
            ("send_failed", |all| &all.udp_send_failed),
        ],
    ),
    (
        "silent",
        "Messages that get no answer, by reason",
        "reason",
        &[("response", |all| &all.answering.silent_responses), ("short", |all| &all.answering.silent_short)],
    ),
    (
        "tcp_closed",
        "TCP connections closed by the server, by reason",
        "reason",
        &[
            ("idle", |all| &all.tcp_closed_idle),
            ("for_newcomer", |all| &all.tcp_closed_for_newcomer),
            ("slow_query", |all| &all.tcp_closed_slow_query),
            ("slow_reader", |all| &all.tcp_closed_slow_reader),
            ("junk", |all| &all.tcp_closed_junk),
            ("wasteful", |all| &all.tcp_closed_wasteful),
            ("proxy_header", |all| &all.tcp_closed_bad_header),
        ],
    ),
    (
        "quic_closed",
        "QUIC connections closed by the server, by reason",
        "reason",
        &[
            ("idle", |all| &all.quic_closed_idle),
            ("for_newcomer", |all| &all.quic_closed_for_newcomer),
            ("slow_reader", |all| &all.quic_closed_slow_reader),
            ("wasteful", |all| &all.quic_closed_wasteful),
            ("misuse", |all| &all.quic_closed_misuse),
        ],
    ),
    (
        "tls_handshakes",
        "TLS handshakes, by what became of them",
        "outcome",
        &[
            ("done", |all| &all.tls_handshakes_done),
            ("failed", |all| &all.tls_handshakes_failed),
            ("timed_out", |all| &all.tls_handshakes_timed_out),
        ],
    ),
    (
        "ecs_unused",
        "Client subnets that could not decide, by reason",
        "reason",
        &[
            ("opted_out", |all| &all.answering.ecs_opted_out),
            ("set_aside", |all| &all.answering.ecs_set_aside),
            ("malformed", |all| &all.answering.ecs_malformed),
        ],
    ),
    (
        "cookie_queries",
        "Queries with a DNS cookie, by what its server part is",
        "server_cookie",
        &[
            ("good", |all| &all.answering.cookies_good),
            ("none", |all| &all.answering.cookies_absent),
            ("bad", |all| &all.answering.cookies_bad),
        ],
    ),
    (
        "rate_limited_answers",
        "Answers over UDP beyond the rate limit, by what became of them",
        "outcome",
        &[
            ("dropped", |all| &all.answering.limit_dropped),
            ("truncated", |all| &all.answering.limit_slipped),
            ("badcookie", |all| &all.answering.limit_bad_cookie),
            ("dry_run", |all| &all.answering.limit_dry_run),
        ],
    ),
    (
        "rate_limit_exempt_answers",
        "Answers over UDP that the rate limit let pass: with a good cookie, or to an exempt prefix",
        "reason",
        &[("cookie", |all| &all.answering.limit_exempt_cookie), ("prefix", |all| &all.answering.limit_exempt_prefix)],
    ),
    (
        "tsig_queries",
        "Signed queries, by what their signature is worth",
        "signature",
        &[
            ("good", |all| &all.answering.tsig_good),
            ("bad_key", |all| &all.answering.tsig_bad_key),
            ("bad_signature", |all| &all.answering.tsig_bad_signature),
            ("bad_time", |all| &all.answering.tsig_bad_time),
            ("truncated", |all| &all.answering.tsig_truncated),
        ],
    ),
    (
        "transfers",
        "Queries for copies of zones, by what was answered",
        "answer",
        &[
            ("whole", |all| &all.answering.transfers_whole),
            ("incremental", |all| &all.answering.transfers_incremental),
            ("current", |all| &all.answering.transfers_current),
            ("refused", |all| &all.answering.transfers_refused),
        ],
    ),
    (
        "ecs_answers",
        "Answers to a client subnet: for everybody, or for a network",
        "scope",
        &[("zero", |all| &all.answering.ecs_unscoped), ("above", |all| &all.answering.ecs_scoped)],
    ),
];

/// Counters without labels: (name, meaning, counter).
const PLAIN_COUNTERS: &[(&str, &str, Which)] = &[
    ("udp_received", "Datagrams received", |all| &all.udp_received),
    ("udp_sent", "Answers handed to the kernel over UDP", |all| &all.udp_sent),
    ("udp_receive_failed", "Receive calls over UDP that failed", |all| &all.udp_receive_failed),
    ("tcp_received", "Messages received over TCP", |all| &all.tcp_received),
    ("tcp_sent", "Answers written over TCP", |all| &all.tcp_sent),
    ("transfers_broken", "Copies of zones that ended before they were whole", |all| &all.transfers_broken),
    ("notifies_refused", "Notifies by others that are not heard", |all| &all.answering.notifies_refused),
    ("updates_refused", "Updates of zones by those who may not", |all| &all.answering.updates_refused),
    ("handed_busy", "Notifies and updates that were answered SERVFAIL, as too many waited", |all| {
        &all.answering.handed_busy
    }),
    ("truncated_answers", "Answers with TC", |all| &all.answering.truncated),
    ("rate_limit_begun", "Times that a prefix began to be limited", |all| &all.answering.limit_began),
    ("fail_open_answers", "Answers made while every instance was down", |all| &all.answering.fail_open),
    ("panics", "Messages whose answering failed inside", |all| &all.panics),
    ("tcp_accept_failed", "TCP connections that could not be accepted", |all| &all.tcp_accept_failed),
    ("tcp_opened", "TCP connections accepted", |all| &all.tcp_opened),
    ("quic_received", "Queries received over QUIC", |all| &all.quic_received),
    ("quic_sent", "Answers written over QUIC", |all| &all.quic_sent),
    ("quic_opened", "QUIC connections whose handshake began", |all| &all.quic_opened),
    ("quic_retries", "QUIC connections that were asked to prove their address first", |all| &all.quic_retries),
    ("quic_slow_queries", "Queries over QUIC that did not become whole in time", |all| &all.quic_slow_queries),
    ("http_refused", "Requests of DNS over HTTPS with another status than 200", |all| &all.http_refused),
    ("tls_resumed", "TLS handshakes that resumed a session", |all| &all.tls_resumed),
];

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        self.queries(&mut encoder)?;
        self.transports(&mut encoder)?;
        self.health(&mut encoder)?;
        self.loads(&mut encoder)?;
        self.overrides(&mut encoder)?;
        self.resolutions(&mut encoder)?;
        self.notifies(&mut encoder)?;
        self.secondaries(&mut encoder)?;
        self.latency(&mut encoder)?;
        self.geo(&mut encoder)?;
        self.certificate(&mut encoder)?;
        self.node(&mut encoder)
    }
}

impl Scrape {
    fn queries(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let sum = |which: &dyn Fn(&Counters) -> &Counter| self.api.registry.sum(which);
        let mut queries = counter(encoder, "queries", "Queries by transport and type")?;
        for (transport, name) in TRANSPORTS.iter().enumerate() {
            for (index, (rtype, _)) in TYPES.iter().enumerate() {
                let count = sum(&|all: &Counters| &all.answering.queries[transport][index]);
                put(&mut queries, &[("transport", name), ("type", rtype)], count)?;
            }
        }
        let mut answers = counter(encoder, "answers", "Answers by transport and rcode")?;
        for (transport, name) in TRANSPORTS.iter().enumerate() {
            for (index, (rcode, _)) in RCODES.iter().enumerate() {
                let count = sum(&|all: &Counters| &all.answering.answers[transport][index]);
                put(&mut answers, &[("transport", name), ("rcode", rcode)], count)?;
            }
        }
        let mut steered = counter(encoder, "steered_answers", "Answers with addresses by service and region")?;
        for ((service, region), count) in self.api.registry.tallies.sum() {
            put(&mut steered, &[("service", &service), ("region", &region)], count)?;
        }
        Ok(())
    }

    fn transports(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        for &(name, meaning, label, counters) in TRANSPORT_COUNTERS {
            let mut family = counter(encoder, name, meaning)?;
            for &(value, which) in counters {
                put(&mut family, &[(label, value)], self.api.registry.sum(which))?;
            }
        }
        let sum = |which: Which| self.api.registry.sum(which);
        let (subnets, ipv6) = (sum(|all| &all.answering.ecs), sum(|all| &all.answering.ecs_ipv6));
        let mut family = counter(encoder, "ecs_queries", "Queries with a client subnet, by its family")?;
        put(&mut family, &[("family", "ipv4")], subnets.saturating_sub(ipv6))?;
        put(&mut family, &[("family", "ipv6")], ipv6)?;
        let sum = |which: Which| self.api.registry.sum(which);
        let (tcp, quic) = (sum(|all| &all.tcp_opened), sum(|all| &all.quic_opened));
        let (tcp, quic) =
            (tcp.saturating_sub(sum(|all| &all.tcp_closed)), quic.saturating_sub(sum(|all| &all.quic_closed)));
        for &(name, meaning, which) in PLAIN_COUNTERS {
            total(counter(encoder, name, meaning)?, sum(which))?;
        }
        value(gauge(encoder, "tcp_connections", "TCP connections that are open")?, tcp as f64)?;
        value(gauge(encoder, "quic_connections", "QUIC connections that are open")?, quic as f64)
    }

    fn health(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let mut probes = counter(encoder, "probes", "Probes that ended, by kind of check and outcome")?;
        for (kind, totals) in self.api.probes.by_kind() {
            let outcomes = [("pass", &totals.pass), ("fail", &totals.fail), ("no_verdict", &totals.no_verdict)];
            for (outcome, count) in outcomes {
                put(&mut probes, &[("kind", kind), ("outcome", outcome)], count.load(Ordering::Relaxed))?;
            }
        }
        let mut took = counter(encoder, "probe_seconds", "Time that probes took, by kind of check")?;
        for (kind, totals) in self.api.probes.by_kind() {
            let seconds = totals.took_us.load(Ordering::Relaxed) as f64 / 1e6;
            ConstCounter::new(seconds).encode(took.encode_family(&[("kind", kind)])?)?;
        }
        let crashed = counter(encoder, "probes_crashed", "Probes that failed inside or outlived their timeout")?;
        total(crashed, self.api.probes.crashed.load(Ordering::Relaxed))?;
        let late = &self.api.probes.lateness;
        let (says, buckets) = ("From when a probe was due until it began", late.buckets());
        let count = buckets.iter().map(|(_, count)| count).sum();
        let mut lateness = histogram(encoder, "probe_lateness_seconds", says)?;
        lateness.encode_histogram::<[(&str, &str); 0]>(late.sum(), count, &buckets, None)?;
        let says = "When the certificate expires that a target showed last, since the Unix epoch";
        let mut expiry = gauge(encoder, "check_certificate_expiry_seconds", says)?;
        for (holder, expires) in self.api.probes.certificates.expiries() {
            let labels = [("check", &*holder.check), ("target", &*holder.target), ("host", &*holder.host)];
            level(&mut expiry, &labels, expires as f64)?;
        }
        // Two addresses of an instance may share a target; a series must not come twice.
        let mut targets: BTreeMap<[&str; 3], &CheckStatus> = BTreeMap::new();
        let names: Vec<(String, &InstanceStatus)> = self.instances().collect();
        for (name, instance) in &names {
            for check in instance.addresses.iter().flat_map(|address| &address.checks) {
                targets.insert([name, &check.check, &check.target], check);
            }
        }
        let mut verdicts = gauge(encoder, "target_up", "What a check says of a target: 1 up, 0 down, -1 unknown")?;
        for ([instance, check, target], status) in &targets {
            let value = match &*status.verdict {
                "up" => 1.0,
                "down" => 0.0,
                _ => -1.0,
            };
            level(&mut verdicts, &[("instance", instance), ("check", check), ("target", target)], value)?;
        }
        let mut suspect =
            gauge(encoder, "check_suspect", "1 while all targets of a check fail at once and are not believed")?;
        let checks: BTreeSet<&str> = targets.keys().map(|[_, check, _]| *check).collect();
        for check in checks {
            let held = self.status.suspects.iter().any(|suspect| suspect.check == check);
            level(&mut suspect, &[("check", check)], f64::from(u8::from(held)))?;
        }
        self.sight(encoder)?;
        let mut stale = gauge(encoder, "target_stale", "1 when the last probe could say nothing of the target")?;
        for ([instance, check, target], status) in &targets {
            let labels = [("instance", *instance), ("check", *check), ("target", *target)];
            level(&mut stale, &labels, f64::from(u8::from(status.stale)))?;
        }
        let mut available = gauge(encoder, "region_available", "1 when a region can serve a service")?;
        for (labels, standing) in self.regions() {
            level(&mut available, &labels, f64::from(u8::from(standing.available)))?;
        }
        let mut share = gauge(encoder, "region_share", "share of its clients that an available region serves, 0 to 1")?;
        for (labels, standing) in self.regions() {
            level(&mut share, &labels, if standing.available { standing.share } else { 0.0 })?;
        }
        let says = "1 while a region that was lost stays out of a service until it is resumed";
        let mut latched = gauge(encoder, "region_latched", says)?;
        for (labels, standing) in self.regions() {
            level(&mut latched, &labels, f64::from(u8::from(standing.latched_since.is_some())))?;
        }
        let mut open = gauge(encoder, "fail_open", "1 while a service is answered though all its instances are down")?;
        for service in &self.status.services {
            let failing = u8::from(!service.failing_open.is_empty());
            level(&mut open, &[("service", &service.name)], f64::from(failing))?;
        }
        Ok(())
    }

    fn sight(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let says = "1 while this node cannot see the world over an address family, and verdicts are frozen";
        let mut blind = gauge(encoder, "blind", says)?;
        for family in ["ipv4", "ipv6"] {
            let is_blind = self.status.blind.iter().any(|blind| blind.family == family);
            level(&mut blind, &[("family", family)], f64::from(u8::from(is_blind)))?;
        }
        let mut canaries = gauge(encoder, "canary_passes", "1 when the last probe of a canary passed")?;
        for canary in &self.status.canaries {
            let labels = [("check", &*canary.check), ("target", &*canary.target)];
            level(&mut canaries, &labels, f64::from(u8::from(canary.passes)))?;
        }
        Ok(())
    }

    fn loads(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let taken = &self.status.load_reports;
        let mut reports = counter(encoder, "load_reports", "Reports of load that were taken in, by way")?;
        for (source, count) in [("api", taken.api), ("check", taken.check), ("agent", taken.agent)] {
            put(&mut reports, &[("source", source)], count)?;
        }
        let says = "Responses to checks in which no load stood where one was looked for";
        total(counter(encoder, "load_reports_ignored", says)?, taken.ignored)?;
        let instances: Vec<(String, &InstanceStatus)> = self.instances().collect();
        let says = "Load of an instance by its capacity, while it reports";
        let mut ratios = gauge(encoder, "instance_load_ratio", says)?;
        for (name, instance) in &instances {
            if let Some(load) = instance.load.as_ref().filter(|load| !load.expired) {
                level(&mut ratios, &[("instance", name)], load.ratio)?;
            }
        }
        let says = "1 while the agent of an instance drains it";
        let mut drained = gauge(encoder, "instance_drained_by_agent", says)?;
        for (name, instance) in &instances {
            if let Some(percent) = instance.agent_percent {
                level(&mut drained, &[("instance", name)], f64::from(u8::from(percent == 0)))?;
            }
        }
        Ok(())
    }

    fn overrides(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        use Action::{Drain, Enable, ForceDown, ForceUp, Freeze, Weight};
        let actions = [Drain, Enable, ForceUp, ForceDown, Weight(0), Freeze];
        let mut overrides = gauge(encoder, "overrides", "Overrides by the operator that are in force, by action")?;
        for action in actions.map(Action::word) {
            let count = self.status.overrides.iter().filter(|one| one.of.action.word() == action).count();
            level(&mut overrides, &[("action", action)], count as f64)?;
        }
        Ok(())
    }

    fn resolutions(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let totals = &self.api.resolutions;
        let says = "Targets of CNAMEs that were resolved, by what became of it";
        let mut all = counter(encoder, "target_resolutions", says)?;
        for (outcome, count) in [("answered", &totals.answered), ("failed", &totals.failed)] {
            put(&mut all, &[("outcome", outcome)], count.load(Ordering::Relaxed))?;
        }
        let says = "Addresses that are known behind the CNAME of an instance";
        let mut addresses = gauge(encoder, "target_addresses", says)?;
        for pool in &self.status.pools {
            for instance in pool.instances.iter().filter(|instance| instance.target.is_some()) {
                let labels = [("pool", &*pool.name), ("instance", &*instance.name)];
                level(&mut addresses, &labels, instance.addresses.len() as f64)?;
            }
        }
        Ok(())
    }

    fn notifies(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let totals = &self.api.notifies;
        let says = "Zones that a target was told of (NOTIFY), by what it said";
        let mut notifies = counter(encoder, "notifies", says)?;
        let outcomes =
            [("acknowledged", &totals.acknowledged), ("refused", &totals.refused), ("unanswered", &totals.unanswered)];
        for (outcome, count) in outcomes {
            put(&mut notifies, &[("outcome", outcome)], count.load(Ordering::Relaxed))?;
        }
        total(
            counter(encoder, "notify_sent", "Messages by which targets were told")?,
            totals.sent.load(Ordering::Relaxed),
        )
    }

    fn secondaries(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let totals = &self.api.secondaries.totals;
        let says = "Questions to primaries about secondary zones, by what came of them";
        let mut refreshes = counter(encoder, "secondary_refreshes", says)?;
        let outcomes = [
            ("current", &totals.current),
            ("copied", &totals.copied),
            ("failed", &totals.failed),
            ("refused", &totals.refused),
        ];
        for (outcome, count) in outcomes {
            put(&mut refreshes, &[("outcome", outcome)], count.load(Ordering::Relaxed))?;
        }
        total(
            counter(encoder, "secondary_notifies", "Notifies of primaries that were heard")?,
            totals.notified.load(Ordering::Relaxed),
        )?;
        let totals = &self.api.updates;
        let mut updates = counter(encoder, "updates", "Updates of zones by those who may, by what became of them")?;
        for (outcome, count) in [("done", &totals.done), ("refused", &totals.refused), ("failed", &totals.failed)] {
            put(&mut updates, &[("outcome", outcome)], count.load(Ordering::Relaxed))?;
        }
        total(
            counter(encoder, "updates_expired", "Updated records that went by themselves")?,
            totals.expired.load(Ordering::Relaxed),
        )?;
        let shown = self.api.secondaries.shown();
        let says =
            "When a secondary zone is not served any more if no primary is heard, Unix time; 0 = it is not known";
        let mut expiry = gauge(encoder, "secondary_expiry_timestamp_seconds", says)?;
        for zone in &shown {
            let at = zone.expires_at.filter(|_| zone.serial.is_some()).unwrap_or_default();
            level(&mut expiry, &[("zone", &zone.zone)], at as f64)?;
        }
        Ok(())
    }

    fn latency(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let totals = &self.api.latency;
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let says = "Samples of round-trip times, by what became of them";
        let mut samples = counter(encoder, "latency_samples", says)?;
        for (outcome, count) in [("taken", &totals.taken), ("refused", &totals.refused)] {
            put(&mut samples, &[("outcome", outcome)], read(count))?;
        }
        let prefixes = gauge(encoder, "latency_prefixes", "Prefixes with round-trip times of their own")?;
        value(prefixes, read(&totals.prefixes) as f64)?;
        let says = "Prefixes that gave way to others, for there was no room";
        total(counter(encoder, "latency_evicted", says)?, read(&totals.evicted))?;
        let says = "Tables of round-trip times that answers went by";
        total(counter(encoder, "latency_published", says)?, read(&totals.published))
    }

    fn geo(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let now = unix_seconds();
        let mut age = gauge(encoder, "geo_age_seconds", "How long ago a publisher made the data base that is served")?;
        for file in &self.status.geo {
            if let Some(built) = file.built_at {
                level(&mut age, &[("file", &file.file)], now.saturating_sub(built) as f64)?;
            }
        }
        let mut loaded =
            gauge(encoder, "geo_loaded_seconds", "When what is served of a geo file was read, since the Unix epoch")?;
        for file in &self.status.geo {
            level(&mut loaded, &[("file", &file.file)], file.loaded_at as f64)?;
        }
        let mut networks = gauge(encoder, "geo_networks", "Networks in what is served of a geo file")?;
        for file in &self.status.geo {
            level(&mut networks, &[("file", &file.file)], file.networks as f64)?;
        }
        let mut refused = gauge(encoder, "geo_refused", "1 while what stands in a geo file is not served")?;
        for file in &self.status.geo {
            level(&mut refused, &[("file", &file.file)], f64::from(u8::from(file.refused.is_some())))?;
        }
        let reloads = counter(encoder, "geo_reloads", "Geo files taken without a reload")?;
        total(reloads, self.status.geo_reloads)
    }

    fn certificate(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let Some(certificates) = &self.api.certificates else { return Ok(()) };
        let says = "When the certificate of encrypted transports expires, since the Unix epoch";
        let expiry = gauge(encoder, "tls_certificate_expiry_seconds", says)?;
        if let Some(expires) = certificates.expires() {
            value(expiry, expires as f64)?;
        }
        let says = "1 while what stands in the files of the certificate and its key is not shown, as it is wrong";
        let failed = gauge(encoder, "tls_certificate_reload_failed", says)?;
        value(failed, f64::from(u8::from(certificates.refused().is_some())))
    }

    /// What each region can do for each service and family, with the labels that say so.
    fn regions(&self) -> impl Iterator<Item = ([(&str, &str); 3], &FamilyStatus)> {
        let regions =
            self.status.services.iter().flat_map(|service| service.regions.iter().map(move |one| (service, one)));
        regions.flat_map(|(service, region)| {
            let families = [("ipv4", &region.ipv4), ("ipv6", &region.ipv6)];
            families.into_iter().filter_map(move |(family, standing)| {
                let labels = [("service", &*service.name), ("region", &*region.region), ("family", family)];
                Some((labels, standing.as_ref()?))
            })
        })
    }

    /// Every instance with its path, `web/eu-1`.
    fn instances(&self) -> impl Iterator<Item = (String, &InstanceStatus)> {
        self.status.pools.iter().flat_map(|pool| {
            pool.instances.iter().map(|instance| (format!("{}/{}", pool.name, instance.name), instance))
        })
    }

    fn node(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let mut info = gauge(encoder, "build", "1; which version runs on which node")?;
        level(&mut info, &[("version", &self.status.version), ("node", &self.status.node)], 1.0)?;
        let serial = gauge(encoder, "snapshot_serial", "Serial of the snapshot that is served")?;
        value(serial, self.status.serial as f64)?;
        let loaded = gauge(encoder, "configuration_loaded_seconds", "When it was loaded, since the Unix epoch")?;
        value(loaded, self.status.loaded_at as f64)?;
        let kept = gauge(encoder, "last_good_age_seconds", "How long ago health was written to disk")?;
        if let Some(at) = self.status.last_good_at {
            value(kept, unix_seconds().saturating_sub(at) as f64)?;
        }
        let refused = gauge(encoder, "configuration_refused", "1 when the last reload was refused")?;
        value(refused, f64::from(u8::from(!self.status.problems.is_empty())))?;
        let reloads = counter(encoder, "reloads", "Reloads that were accepted")?;
        total(reloads, self.status.reloads)
    }
}

type Family<'a> = prometheus_client::encoding::MetricEncoder<'a>;

fn counter<'a>(encoder: &'a mut DescriptorEncoder<'_>, name: &'a str, meaning: &str) -> Result<Family<'a>, fmt::Error> {
    encoder.encode_descriptor(name, meaning, None, MetricType::Counter)
}

fn gauge<'a>(encoder: &'a mut DescriptorEncoder<'_>, name: &'a str, meaning: &str) -> Result<Family<'a>, fmt::Error> {
    encoder.encode_descriptor(name, meaning, None, MetricType::Gauge)
}

fn histogram<'a>(
    encoder: &'a mut DescriptorEncoder<'_>,
    name: &'a str,
    meaning: &str,
) -> Result<Family<'a>, fmt::Error> {
    encoder.encode_descriptor(name, meaning, None, MetricType::Histogram)
}

fn put(family: &mut Family<'_>, labels: &[(&str, &str)], count: u64) -> fmt::Result {
    ConstCounter::new(count).encode(family.encode_family(&labels)?)
}

fn total(family: Family<'_>, count: u64) -> fmt::Result {
    ConstCounter::new(count).encode(family)
}

fn value(family: Family<'_>, value: f64) -> fmt::Result {
    ConstGauge::new(value).encode(family)
}

fn level(family: &mut Family<'_>, labels: &[(&str, &str)], value: f64) -> fmt::Result {
    ConstGauge::new(value).encode(family.encode_family(&labels)?)
}
