//! What runs now, as shown by `status`, the API and the metrics (SPEC 2.7: health always with its reason).

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::world::World;
use crate::fleet::{Address, Family, InstanceId, TargetId};
use crate::health::group::Judge;
use crate::health::{Machine, Verdict};
use crate::steering::Table;
use crate::time::{Tick, unix_seconds};

/// Everything about a running node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// `[server] node`.
    pub node: String,
    /// Version of the program.
    pub version: String,
    /// Seconds since the process began.
    pub uptime_s: u64,
    /// Serial of the snapshot served.
    pub serial: u64,
    /// When the configuration was loaded, seconds since the Unix epoch.
    pub loaded_at: u64,
    /// Reloads that were accepted.
    pub reloads: u64,
    /// Why the last reload was refused; empty when it was not.
    pub problems: Vec<String>,
    /// When health was last written to disk, seconds since the Unix epoch; `None` when it never was.
    pub last_good_at: Option<u64>,
    /// In configured order.
    pub services: Vec<ServiceStatus>,
    /// In configured order.
    pub pools: Vec<PoolStatus>,
}

/// A service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServiceStatus {
    /// `www.gslb.example.com`.
    pub name: String,
    /// Its pool.
    pub pool: String,
    /// Families that are answered though everything is down, for some clients at least: `ipv4`, `ipv6`.
    pub failing_open: Vec<String>,
    /// Its regions, each with what it can do.
    pub regions: Vec<RegionStatus>,
}

/// What a region can do for a service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RegionStatus {
    /// `eu-west`; `any` where regions do not count.
    pub region: String,
    /// For A queries; `None` without any IPv4 address.
    pub ipv4: Option<FamilyStatus>,
    /// For AAAA queries.
    pub ipv6: Option<FamilyStatus>,
}

/// What a region can do in one address family.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FamilyStatus {
    /// Whether enough is eligible.
    pub available: bool,
    /// Sum of the weights that are eligible.
    pub eligible_weight: u64,
    /// Sum of the weights that are allowed.
    pub allowed_weight: u64,
}

/// A pool.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PoolStatus {
    /// `web`.
    pub name: String,
    /// In configured order.
    pub instances: Vec<InstanceStatus>,
}

/// An instance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InstanceStatus {
    /// `eu-1`.
    pub name: String,
    /// Its regions.
    pub regions: Vec<String>,
    /// Its configured weight.
    pub weight: u32,
    /// Its addresses.
    pub addresses: Vec<AddressStatus>,
}

/// An address of an instance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AddressStatus {
    /// As handed out.
    pub address: IpAddr,
    /// `up`, `down`, `unknown`: what all its checks say together.
    pub verdict: String,
    /// Its checks; empty = always up.
    pub checks: Vec<CheckStatus>,
}

/// What a check says of a target.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CheckStatus {
    /// `web`.
    pub check: String,
    /// Where it probes, `127.0.11.1:18080`.
    pub target: String,
    /// `up`, `down`, `unknown`.
    pub verdict: String,
    /// When the verdict last changed, seconds since the Unix epoch.
    pub since: u64,
    /// What the last probe saw.
    pub reason: String,
    /// How long the last probe took, milliseconds.
    pub took_ms: f64,
    /// The last probe said nothing of the target; the verdict is older.
    pub stale: bool,
    /// Seconds that hold-down keeps it down at least, whatever probes see; 0 = it does not.
    pub held_for_s: u64,
}

/// What the control loop lends for a status.
pub(super) struct View<'a> {
    pub(super) world: &'a World,
    pub(super) machines: &'a [Machine],
    pub(super) standings: &'a Table,
    pub(super) failing_open: &'a [[bool; 2]],
    pub(super) now: Tick,
}

/// `up`, `down`, `unknown`.
#[must_use]
pub fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Unknown => "unknown",
        Verdict::Up => "up",
        Verdict::Down => "down",
    }
}

/// `instance/web/eu-1 (check/web at 127.0.11.1:18080)`, with all instances that share the target.
pub(super) fn describe_target(world: &World, id: TargetId) -> String {
    let fleet = world.fleet();
    let owners: Vec<String> =
        world.owners_of(id).map(|instance| format!("instance/{}", fleet.instance_path(instance))).collect();
    let target = fleet.target(id);
    let check = &world.checks[target.check.0 as usize].name;
    format!("{} (check/{check} at {})", owners.join(" "), place(target.address, target.port))
}

fn place(address: IpAddr, port: u16) -> String {
    if port == 0 { address.to_string() } else { std::net::SocketAddr::new(address, port).to_string() }
}

/// All but the serial and what is known of reloads.
pub(super) fn status(view: View<'_>) -> Status {
    let world = view.world;
    let services = (0..world.steering.services.len()).map(|index| service(&view, index)).collect();
    let pools = (world.fleet().pools.iter())
        .map(|pool| PoolStatus {
            name: pool.name.to_string(),
            instances: pool.instances.iter().map(|&id| instance(&view, id)).collect(),
        })
        .collect();
    Status {
        node: world.server.node.clone(),
        version: env!("CARGO_PKG_VERSION").into(),
        uptime_s: view.now.since(Tick::START).as_secs(),
        services,
        pools,
        ..Status::default()
    }
}

fn service(view: &View<'_>, index: usize) -> ServiceStatus {
    let steering = &view.world.steering;
    let steered = &steering.services[index];
    let layout = steering.layout(steered.layout);
    let standings = view.standings.get(steered.layout);
    let regions = layout.groups.iter().enumerate().map(|(at, group)| {
        let family = |family: Family| {
            let selection = standings.get(at, family).filter(|selection| !selection.allowed.is_empty())?;
            Some(FamilyStatus {
                available: selection.available,
                eligible_weight: selection.eligible.weight,
                allowed_weight: selection.allowed.weight,
            })
        };
        RegionStatus { region: group.label(&steering.fleet), ipv4: family(Family::V4), ipv6: family(Family::V6) }
    });
    let failing_open = view.failing_open[index];
    let names = [("ipv4", failing_open[0]), ("ipv6", failing_open[1])];
    ServiceStatus {
        name: steered.configured.name.to_string(),
        pool: steering.fleet.pool(layout.pool).name.to_string(),
        failing_open: names.iter().filter(|(_, failing)| *failing).map(|(name, _)| (*name).into()).collect(),
        regions: regions.collect(),
    }
}

fn instance(view: &View<'_>, id: InstanceId) -> InstanceStatus {
    let fleet = view.world.fleet();
    let instance = fleet.instance(id);
    InstanceStatus {
        name: instance.name.to_string(),
        regions: instance.regions.iter().map(|&region| fleet.region(region).name.clone()).collect(),
        weight: instance.weight,
        addresses: instance.addresses.iter().map(|one| address(view, one)).collect(),
    }
}

fn address(view: &View<'_>, address: &Address) -> AddressStatus {
    let checks: Vec<CheckStatus> = address.targets.iter().map(|&target| check(view, target)).collect();
    let verdict_of = |target: &TargetId| view.machines[target.0 as usize].verdict();
    let verdict = Judge::all(address.targets.iter().map(verdict_of));
    AddressStatus { address: address.ip, verdict: word(verdict).into(), checks }
}

fn check(view: &View<'_>, id: TargetId) -> CheckStatus {
    let target = view.world.fleet().target(id);
    let machine = &view.machines[id.0 as usize];
    CheckStatus {
        check: view.world.checks[target.check.0 as usize].name.clone(),
        target: place(target.address, target.port),
        verdict: word(machine.verdict()).into(),
        since: unix_seconds().saturating_sub(view.now.since(machine.since()).as_secs()),
        reason: machine.last().map_or_else(|| unobserved(machine).into(), |last| last.reason.to_string()),
        took_ms: machine.last().map_or(0.0, |last| last.took.as_secs_f64() * 1e3),
        stale: machine.stale(),
        held_for_s: machine.held_until().map_or(0, |until| until.since(view.now).as_secs()),
    }
}

/// In place of a reason.
fn unobserved(machine: &Machine) -> &'static str {
    match machine.verdict() {
        Verdict::Unknown => "no probe has ended yet",
        Verdict::Up | Verdict::Down => "as before the restart; no probe has ended yet",
    }
}
