//! What a running node adds to an explanation: its configuration, its health with the reasons, overrides, latches.
//!
//! ```text
//!  API ── Change::Look ──► control loop: shares world and snapshot, copies what is known of the services asked for
//!   ▲                          │
//!   └── a thread explains ◄────┘ Live
//! ```
//! The loop does no more than that, so that explaining holds nothing up.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::{Ask, Explanation, explain, said_down};
use crate::config::show_duration;
use crate::control::overrides::{Compiled, Override};
use crate::control::status::{AddressStatus, CheckStatus, InstanceStatus, LoadStatus};
use crate::control::world::{Health, World};
use crate::dns::{LowerName, Name, RecordType};
use crate::fleet::{Family, InstanceId, TargetId};
use crate::health::Verdict;
use crate::health::group::STEADY;
use crate::health::load::Reported;
use crate::snapshot::Snapshot;
use crate::steering::trace::{Reasons, Recorded};
use crate::steering::{LayoutId, ServiceId, Standings, Table};
use crate::time::{Tick, unix_seconds};

/// What somebody wants to know.
#[derive(Debug)]
pub struct Look {
    /// The name asked for.
    pub name: Name,
    /// The type asked for.
    pub rtype: RecordType,
    /// Whether something is to be taken for down, so that health is to be judged anew.
    pub judges: bool,
    /// Where the answer goes.
    pub reply: oneshot::Sender<Box<Live>>,
}

/// A node at a moment, as far as it concerns a name.
#[derive(Debug)]
pub struct Live {
    pub(in crate::control) world: Arc<World>,
    pub(in crate::control) snapshot: Arc<Snapshot>,
    /// The instances that an explanation shows.
    pub(in crate::control) instances: Vec<(InstanceId, InstanceStatus)>,
    /// Overrides of the services asked for.
    pub(in crate::control) overrides: Vec<Override>,
    /// What health is judged by.
    pub(in crate::control) kept: Option<Kept>,
}

/// What the layouts of the services asked for are judged by.
#[derive(Debug)]
pub(in crate::control) struct Kept {
    pub(in crate::control) layouts: BTreeSet<LayoutId>,
    pub(in crate::control) targets: Vec<(TargetId, TargetKept)>,
    pub(in crate::control) compiled: Compiled,
    /// By `InstanceId`; may be shorter.
    pub(in crate::control) reported: Vec<Reported>,
    pub(in crate::control) grace_over: bool,
    pub(in crate::control) now: Tick,
    pub(in crate::control) serial: u64,
}

/// What is known of a target.
#[derive(Clone, Copy, Debug)]
pub(in crate::control) struct TargetKept {
    pub(in crate::control) verdict: Verdict,
    pub(in crate::control) steady_for: u16,
    pub(in crate::control) is_held: bool,
    pub(in crate::control) recovered: Option<Tick>,
}

impl Look {
    /// The name in lower case.
    pub(in crate::control) fn lower(&self) -> Option<LowerName> {
        let mut lower = LowerName::new();
        lower.set(self.name.as_wire()).map(|_| lower)
    }
}

impl Live {
    /// Which of these name no instance.
    #[must_use]
    pub fn unknown<'d>(&self, down: &'d [String]) -> Option<&'d str> {
        down.iter().map(String::as_str).find(|name| self.world.fleet().named(name).is_empty())
    }

    /// Explains an answer of this node, with what `down` names taken for down as well.
    #[must_use]
    pub fn explain(&self, ask: &Ask, down: &[String]) -> Explanation {
        let mut reasons = self.reasons();
        reasons.extend(said_down(&self.world, down));
        let recorded = Recorded::with(reasons, "");
        match &self.kept {
            Some(kept) if !down.is_empty() => {
                let standings = kept.standings(&self.world, &self.snapshot.standings, down);
                let latency = self.snapshot.latency.clone();
                let snapshot = Snapshot { latency, ..self.world.freeze(standings, self.snapshot.serial) };
                explain(&snapshot, ask, recorded)
            }
            _ => explain(&self.snapshot, ask, recorded),
        }
    }

    fn reasons(&self) -> Reasons {
        let now = unix_seconds();
        let of = |(id, status): &(InstanceId, InstanceStatus)| {
            Family::BOTH.map(|family| ((*id, family), reason(status, &self.overrides, family, now)))
        };
        self.instances.iter().flat_map(of).collect()
    }
}

impl Kept {
    /// `before`, with what `down` names taken for down.
    fn standings(&self, world: &World, before: &Table, down: &[String]) -> Table {
        let fleet = world.fleet();
        let mut flags = vec![false; fleet.instances.len()];
        down.iter().flat_map(|name| fleet.named(name)).for_each(|id| flags[id.0 as usize] = true);
        let targets = fleet.targets.len();
        let mut verdicts = vec![Verdict::Unknown; targets];
        let mut steady_for = vec![STEADY; targets];
        let mut held = vec![false; targets];
        let mut recovered = vec![None; targets];
        for &(TargetId(at), kept) in &self.targets {
            let at = at as usize;
            (verdicts[at], steady_for[at], held[at], recovered[at]) =
                (kept.verdict, kept.steady_for, kept.is_held, kept.recovered);
        }
        let health = Health {
            verdicts: &verdicts,
            down: &flags,
            steady_for: &steady_for,
            operator: self.compiled.operator(),
            reported: &self.reported,
            held: &held,
            recovered: &recovered,
            unresolved: Verdict::Unknown,
            grace_over: self.grace_over,
            now: self.now,
            serial: self.serial,
        };
        let mut table = before.clone();
        for &id in &self.layouts {
            let alone = world.steering.layout(id).service;
            let operator = alone.map_or(health.operator, |service| self.compiled.operator_for(service));
            table.set(id, world.judge(id, Health { operator, ..health }, Some(before.get(id))));
        }
        let apart = self.compiled.services().filter_map(|service| {
            let known = before.apart(service)?;
            let layout = world.steering.service(service).layout;
            let operator = self.compiled.operator_for(service);
            let judged = || world.judge(layout, Health { operator, ..health }, Some(known));
            Some((service, if self.layouts.contains(&layout) { judged() } else { known.clone() }))
        });
        let apart: Vec<(ServiceId, Standings)> = apart.collect();
        table.set_apart(apart);
        table
    }
}

/// Why an instance is in the state it is in: what the operator says, then what checks say.
fn reason(status: &InstanceStatus, of_service: &[Override], family: Family, now: u64) -> String {
    let mut parts: Vec<String> = status.overrides.iter().chain(of_service).map(ToString::to_string).collect();
    // Whoever is sent to a name may have either family there.
    let counts = |address: &&AddressStatus| status.target.is_some() || Family::of(address.address) == family;
    let addresses = || status.addresses.iter().filter(counts);
    // One that is up is enough, and says so.
    let decides = addresses().find(|address| address.verdict == "up").or_else(|| addresses().next());
    if let Some(address) = decides {
        parts.push(of_address(address, now));
    }
    if status.frozen {
        parts.push("frozen".into());
    }
    if let Some(percent) = status.agent_percent.filter(|&percent| percent != 100) {
        parts.push(format!("its agent says {percent}% of the weight"));
    }
    parts.extend(status.load.as_ref().map(of_load));
    parts.join("; ")
}

/// `load 345 of 800, 12s ago`.
fn of_load(load: &LoadStatus) -> String {
    let LoadStatus { load, capacity, age_s, .. } = load;
    format!("load {load} of {capacity}, {} ago", show_duration(rounded(*age_s)))
}

/// `connection refused, down for 3m by check/web`.
fn of_address(address: &AddressStatus, now: u64) -> String {
    // All must pass: the first that does not is the reason.
    let verdict = &address.verdict;
    let first = address.checks.iter().find(|check| check.verdict == *verdict).or(address.checks.first());
    let Some(check) = first else { return "no check, always up".into() };
    let CheckStatus { check: name, reason, since, stale, held_for_s, .. } = check;
    let time = show_duration(rounded(now.saturating_sub(*since)));
    let held = if *held_for_s > 0 { format!(", held down for {held_for_s}s more") } else { String::new() };
    let stale = if *stale { ", stale" } else { "" };
    let otherwise =
        if check.verdict == *verdict { String::new() } else { format!(", {verdict} as long as it is not believed") };
    format!("{reason}, {} for {time} by check/{name}{held}{stale}{otherwise}", check.verdict)
}

/// Two units are enough to read.
fn rounded(seconds: u64) -> std::time::Duration {
    let unit = match seconds {
        86_400.. => 3_600,
        3_600.. => 60,
        _ => 1,
    };
    std::time::Duration::from_secs(seconds - seconds % unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(verdict: &str, reason: &str, since: u64) -> CheckStatus {
        CheckStatus {
            check: "web".into(),
            target: "192.0.2.1:80".into(),
            verdict: verdict.into(),
            since,
            reason: reason.into(),
            took_ms: 1.0,
            stale: false,
            held_for_s: 0,
        }
    }

    #[test]
    fn reasons_name_what_decides() {
        let now = 1_000_000;
        let address = |ip: &str, verdict: &str, checks: Vec<CheckStatus>| AddressStatus {
            address: ip.parse().expect("an address"),
            verdict: verdict.into(),
            checks,
        };
        let refused = check("down", "connection refused", now - 185);
        let passed = check("up", "status 200", now - 90_061);
        let held = CheckStatus { held_for_s: 20, stale: true, ..check("down", "timeout after 2s", now) };
        for (addresses, family, expected) in [
            (vec![], Family::V4, ""),
            (vec![address("192.0.2.1", "up", vec![])], Family::V4, "no check, always up"),
            (
                vec![address("192.0.2.1", "down", vec![passed.clone(), refused.clone()])],
                Family::V4,
                "connection refused, down for 3m5s by check/web",
            ),
            (
                vec![
                    address("192.0.2.1", "down", vec![refused.clone()]),
                    address("192.0.2.2", "up", vec![passed.clone()]),
                    address("2001:db8::1", "down", vec![held]),
                ],
                Family::V6,
                "timeout after 2s, down for 0s by check/web, held down for 20s more, stale",
            ),
            (
                vec![address("192.0.2.1", "up", vec![refused])],
                Family::V4,
                "connection refused, down for 3m5s by check/web, up as long as it is not believed",
            ),
        ] {
            let status = InstanceStatus {
                name: "eu-1".into(),
                regions: Vec::new(),
                weight: 1,
                administrative: String::new(),
                weight_percent: 100,
                answers_expire_at: None,
                agent_percent: None,
                load: None,
                frozen: false,
                overrides: Vec::new(),
                target: None,
                addresses,
            };
            assert_eq!(reason(&status, &[], family, now), expected);
        }
    }

    #[test]
    fn times_are_rounded() {
        let shown: Vec<String> = [0, 59, 3_599, 3_661, 90_061].map(|seconds| show_duration(rounded(seconds))).to_vec();
        assert_eq!(shown, ["0s", "59s", "59m59s", "1h1m", "1d1h"]);
    }
}
