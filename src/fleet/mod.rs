//! Regions, pools, instances and the targets their checks probe, as dense numbered tables.
//!
//! Names become numbers when a configuration is compiled; after that everything refers to a [`RegionId`],
//! [`InstanceId`] or [`TargetId`]. Health, steering and probes index by them. This module owns data only: no policy, no
//! state that changes while running.

mod few;
mod names;
mod word;

pub use few::Few;
pub use names::glob;
pub use word::Word;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::dns::Name;
use crate::geo::Coordinates;

/// Index into [`Fleet::regions`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RegionId(pub u16);
/// Index into [`Fleet::pools`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PoolId(pub u32);
/// Index into [`Fleet::instances`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InstanceId(pub u32);
/// Index into the configuration's checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CheckId(pub u32);
/// Index into [`Fleet::targets`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TargetId(pub u32);

/// A place that holds instances.
#[derive(Clone, Debug, PartialEq)]
pub struct Region {
    /// As configured, `eu-west`.
    pub name: String,
    /// Where it is; without it never "nearest" and last in `"*"`.
    pub location: Option<Coordinates>,
    /// -99..=99: shrinks (positive) or grows its distance.
    pub bias: i8,
    /// Reached only where a list names it, never through `"*"`, nearest or any.
    pub only_named: bool,
}

/// Named instances that are checked alike.
#[derive(Clone, Debug, PartialEq)]
pub struct Pool {
    /// As configured, `web`.
    pub name: Word,
    /// In configured order.
    pub instances: Box<[InstanceId]>,
    /// Checks that all must pass; none = always up.
    pub checks: Few<CheckId>,
    /// Least share of the allowed weight that must be eligible for a region to be available, in 1/10 000.
    pub up_threshold: u16,
    /// How long it takes until an instance that recovered has its whole weight.
    pub ramp: Duration,
    /// How long a region that was lost must be available again before it is used.
    pub return_after: Duration,
    /// How long it then takes until all its clients are back.
    pub region_ramp: Duration,
    /// Whether a region that was lost stays out of a service until it is resumed there.
    pub manual_failback: bool,
    /// Of several pools that share the traffic of each region: which, and the share of each, above 0. Empty = it is one.
    pub shares: Box<[(PoolId, u32)]>,
}

/// One member of a pool.
#[derive(Clone, Debug, PartialEq)]
pub struct Instance {
    /// As configured, `eu-1`; unique within its pool.
    pub name: Word,
    /// Its pool.
    pub pool: PoolId,
    /// Regions it belongs to, none when steering needs none.
    pub regions: Few<RegionId>,
    /// 0..=1 000 000; 0 = never.
    pub weight: u32,
    /// At least one, in configured order; those that were found where its CNAME leads, if it has one.
    pub addresses: Few<Address>,
}

// There may be a million of them: one with one address in one region has all of it in place.
const _: () = assert!(size_of::<Instance>() <= 88);

/// How much load an instance takes, in the unit of what it reports (SPEC 5.4).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// Its load when it is fully used, above 0.
    pub capacity: f64,
    /// From this load on it gets no clients while another can have them; `None` = it always may.
    pub max_load: Option<f64>,
}

impl Default for Limits {
    /// Of an instance that is given none: its load is in percent.
    fn default() -> Limits {
        Limits { capacity: 100.0, max_load: None }
    }
}

/// Of an instance that is answered with a CNAME: where that leads, and what is probed there.
#[derive(Clone, Debug, PartialEq)]
pub struct Cname {
    /// The name that clients are sent to.
    pub target: Name,
    /// What is probed for each address that is found; where it has no address of its own it is unspecified here.
    pub probes: Few<Target>,
}

/// An address of an instance and what is probed for it.
#[derive(Clone, Debug, PartialEq)]
pub struct Address {
    /// Handed out in answers.
    pub ip: IpAddr,
    /// One target for each check of the pool, all must pass; empty = always up.
    pub targets: Few<TargetId>,
}

/// What a probe task probes; equal (check, address, port, host) of several instances is one target.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    /// How.
    pub check: CheckId,
    /// Where: the instance's address, or its `check-address`.
    pub address: IpAddr,
    /// Port; 0 for checks without one.
    pub port: u16,
    /// Host header and SNI, `None` = the address itself; for checks of type `push` the instance, `web/eu-1`.
    pub host: Option<Arc<str>>,
}

/// Of two weights; that of 0 and another is the other.
#[must_use]
pub fn greatest_common_divisor(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

/// An address family; they are judged apart (SPEC 3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// A records.
    V4 = 0,
    /// AAAA records.
    V6 = 1,
}

impl std::fmt::Display for Family {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Family::V4 => "IPv4",
            Family::V6 => "IPv6",
        })
    }
}

impl Family {
    /// Both, in the order of their numbers.
    pub const BOTH: [Family; 2] = [Family::V4, Family::V6];

    /// The family of an address.
    #[must_use]
    pub fn of(address: IpAddr) -> Family {
        if address.is_ipv4() { Family::V4 } else { Family::V6 }
    }
}

/// All regions, pools, instances and targets of a configuration.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Fleet {
    /// In configured order.
    pub regions: Vec<Region>,
    /// In configured order.
    pub pools: Vec<Pool>,
    /// Pools made of several, by shares; their numbers follow those of the pools.
    pub mixes: Vec<Pool>,
    /// Pool by pool, in configured order.
    pub instances: Vec<Instance>,
    /// Without duplicates, in order of first use.
    pub targets: Vec<Target>,
    /// How many of them were configured; the others belong to addresses that were found.
    pub configured_targets: usize,
    /// By [`InstanceId`]: of those that are answered with a CNAME.
    pub cnames: Vec<(InstanceId, Cname)>,
    /// Those that tell whether this node sees the world; most of them no instance uses.
    pub canaries: Box<[TargetId]>,
    /// By [`InstanceId`]: of the few that are given some.
    pub limits: Vec<(InstanceId, Limits)>,
}

impl Fleet {
    /// The region of that number.
    #[must_use]
    pub fn region(&self, id: RegionId) -> &Region {
        &self.regions[id.0 as usize]
    }

    /// The pool or mix of that number.
    #[must_use]
    pub fn pool(&self, id: PoolId) -> &Pool {
        let at = id.0 as usize;
        self.pools.get(at).unwrap_or_else(|| &self.mixes[at - self.pools.len()])
    }

    /// The pools that a mix is made of; a pool itself.
    pub fn parts_of(&self, id: PoolId) -> impl Iterator<Item = PoolId> {
        let shares = &self.pool(id).shares;
        let itself = shares.is_empty().then_some(id);
        itself.into_iter().chain(shares.iter().map(|(part, _)| *part))
    }

    /// Mixes pools by shares above 0, of which there is at least one. Regions are judged by what the first says of them.
    pub fn mix(&mut self, shares: Box<[(PoolId, u32)]>) -> PoolId {
        self.mixes.push(self.mixed(shares));
        PoolId((self.pools.len() + self.mixes.len() - 1) as u32)
    }

    fn mixed(&self, shares: Box<[(PoolId, u32)]>) -> Pool {
        let pools = || shares.iter().map(|(pool, _)| self.pool(*pool));
        // Without the shares: what is known of its regions outlasts a change of these.
        let names: Vec<&str> = pools().map(|pool| &*pool.name).collect();
        Pool {
            name: names.join("+").as_str().into(),
            instances: pools().flat_map(|pool| pool.instances.iter().copied()).collect(),
            checks: Few::default(),
            manual_failback: pools().any(|pool| pool.manual_failback),
            shares: shares.clone(),
            ..self.pool(shares[0].0).clone()
        }
    }

    /// The instance of that number.
    #[must_use]
    pub fn instance(&self, id: InstanceId) -> &Instance {
        &self.instances[id.0 as usize]
    }

    /// The target of that number.
    #[must_use]
    pub fn target(&self, id: TargetId) -> &Target {
        &self.targets[id.0 as usize]
    }

    /// How much load an instance takes.
    #[must_use]
    pub fn limits(&self, id: InstanceId) -> Limits {
        let at = self.limits.binary_search_by_key(&id, |(of, _)| *of);
        at.map_or_else(|_| Limits::default(), |at| self.limits[at].1)
    }

    /// Where the CNAME leads that an instance is answered with; `None` = it is answered with its addresses.
    #[must_use]
    pub fn cname(&self, id: InstanceId) -> Option<&Cname> {
        let at = self.cnames.binary_search_by_key(&id, |(of, _)| *of).ok()?;
        Some(&self.cnames[at].1)
    }

    /// Whether an instance of a pool may be answered with a CNAME.
    #[must_use]
    pub fn has_cname(&self, pool: PoolId) -> bool {
        // Mostly there are few.
        self.cnames.iter().any(|(id, _)| self.parts_of(pool).any(|part| part == self.instance(*id).pool))
    }

    /// The addresses that were found behind the CNAMEs to a target.
    pub fn found(&self, target: &Name) -> impl Iterator<Item = IpAddr> {
        let leads_there = self.cnames.iter().find(|(_, cname)| cname.target == *target);
        leads_there.into_iter().flat_map(|&(id, _)| &self.instance(id).addresses).map(|address| address.ip)
    }

    /// Gives instances with a CNAME the addresses that were `found` for its target, in place of those they had.
    pub fn take_found(&mut self, found: &HashMap<Name, Vec<IpAddr>>) {
        self.targets.truncate(self.configured_targets);
        if self.cnames.is_empty() {
            return;
        }
        let numbers = (0..).map(TargetId);
        let mut numbers: HashMap<Target, TargetId> = self.targets.iter().cloned().zip(numbers).collect();
        let targets = &mut self.targets;
        for (id, cname) in &self.cnames {
            let mut number = |target: Target| {
                let next = TargetId(targets.len() as u32);
                let number = *numbers.entry(target.clone()).or_insert(next);
                if number == next {
                    targets.push(target);
                }
                number
            };
            let mut address = |&ip: &IpAddr| {
                let at = |probe: &Target| if probe.address.is_unspecified() { ip } else { probe.address };
                let targets = cname.probes.iter().map(|probe| number(Target { address: at(probe), ..probe.clone() }));
                Address { ip, targets: targets.collect() }
            };
            let addresses = found.get(&cname.target).into_iter().flatten();
            self.instances[id.0 as usize].addresses = addresses.map(&mut address).collect();
        }
    }

    /// `web/eu-1`, as used in `instance/web/eu-1`.
    #[must_use]
    pub fn instance_path(&self, id: InstanceId) -> String {
        let instance = self.instance(id);
        format!("{}/{}", self.pool(instance.pool).name, instance.name)
    }
}
