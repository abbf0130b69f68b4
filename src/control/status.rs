//! What runs now, as shown by `status`, the API and the metrics (SPEC 2.7: health always with its reason).

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::doubt::Doubts;
use super::latches::Latches;
use super::loads::{Loads, Shown, Taken};
use super::overrides::{Compiled, Override, ShownOverride};
use super::renewal::GeoRefusal;
use super::secondary::SecondaryStatus;
use super::sight::Sight;
use super::world::World;
use crate::config::GeoFile;
use crate::fleet::{Address, CheckId, Family, InstanceId, Limits, TargetId};
use crate::health::group::Judge;
use crate::health::presence::{ALL, Presence};
use crate::health::{Administrative, Machine, Outcome, Verdict};
use crate::steering::plan::{Group, Steered};
use crate::steering::{ServiceId, Steering, Table};
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
    /// What is doubtful about the last reload that was accepted, though it is served; empty when nothing is.
    #[serde(default)]
    pub warnings: Vec<String>,
    /// How often geo files that were replaced were taken without a reload.
    #[serde(default)]
    pub geo_reloads: u64,
    /// Geo files, the networks first.
    #[serde(default)]
    pub geo: Vec<GeoFileStatus>,
    /// Checks that are not believed now: everything they look at fails at once.
    pub suspects: Vec<SuspectStatus>,
    /// Address families over which this node cannot see the world: their verdicts are frozen.
    #[serde(default)]
    pub blind: Vec<BlindStatus>,
    /// What tells whether it can.
    #[serde(default)]
    pub canaries: Vec<CanaryStatus>,
    /// What the operator overrides, oldest first.
    #[serde(default)]
    pub overrides: Vec<ShownOverride>,
    /// When health was last written to disk, seconds since the Unix epoch; `None` when it never was.
    pub last_good_at: Option<u64>,
    /// Who sends client subnets.
    #[serde(default)]
    pub ecs: EcsStatus,
    /// Secondary zones, by name. Told by `admin`.
    #[serde(default)]
    pub secondaries: Vec<SecondaryStatus>,
    /// Reports of load that were taken in, by way.
    #[serde(default)]
    pub load_reports: LoadReportsStatus,
    /// In configured order.
    pub services: Vec<ServiceStatus>,
    /// In configured order.
    pub pools: Vec<PoolStatus>,
}

/// A geo file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GeoFileStatus {
    /// As configured.
    pub file: String,
    /// `networks`, or what the publisher calls the data base: `GeoLite2-City`.
    #[serde(rename = "type")]
    pub kind: String,
    /// When the publisher made it, seconds since the Unix epoch; `None` = the file does not say.
    pub built_at: Option<u64>,
    /// When what is served was read, seconds since the Unix epoch.
    pub loaded_at: u64,
    /// How many networks it has.
    pub networks: usize,
    /// Why what stands there now is not served; `None` = it is.
    pub refused: Option<String>,
}

/// Client subnets in queries. What threads count is told by `admin`, not by the control loop.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EcsStatus {
    /// Queries over all transports since the start.
    pub queries: u64,
    /// Those of them with a client subnet.
    pub with_subnet: u64,
    /// Networks (/24, /48) of resolvers that send client subnets, the busiest first, from a sample of the last ones.
    pub senders: Vec<Sender>,
}

/// A network of resolvers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sender {
    /// `192.0.2.0/24`.
    pub network: String,
    /// Its part of the queries with a client subnet, 0 to 1, about.
    pub share: f64,
}

/// Reports of load since the process began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadReportsStatus {
    /// Over the control socket.
    pub api: u64,
    /// Read from responses to checks.
    pub check: u64,
    /// Said by agents.
    pub agent: u64,
    /// Responses in which no load stood where one was looked for.
    pub ignored: u64,
}

/// The load of an instance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LoadStatus {
    /// As reported last, in the unit of its capacity.
    pub load: f64,
    /// Its load when it is fully used.
    pub capacity: f64,
    /// From this load on it gets no clients while another can have them; `None` = it always may.
    pub max_load: Option<f64>,
    /// Load ÷ capacity.
    pub ratio: f64,
    /// Seconds since it was reported.
    pub age_s: u64,
    /// Who says it: `api`, `check`, `agent`.
    pub source: String,
    /// Whether it began to report a short while ago: until then `least-load` compares it by the mean.
    pub new: bool,
    /// Whether it has said nothing for too long: then so, too.
    pub expired: bool,
    /// Whether it is at its `max-load`.
    pub at_max_load: bool,
}

/// A check that is not believed: verdicts stay as they were.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SuspectStatus {
    /// `web`.
    pub check: String,
    /// Seconds until what still fails is applied.
    pub held_for_s: u64,
}

/// An address family over which nothing is seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlindStatus {
    /// `ipv4`, `ipv6`.
    pub family: String,
    /// Since when verdicts are frozen, seconds since the Unix epoch.
    pub since: u64,
    /// Targets that fail now.
    pub failing: usize,
    /// Of so many.
    pub targets: usize,
}

/// A canary.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CanaryStatus {
    /// `world`.
    pub check: String,
    /// What is probed, `192.0.2.1:443`.
    pub target: String,
    /// Whether the last probe passed.
    pub passes: bool,
    /// What the last probe saw.
    pub reason: String,
    /// How long the last probe took, milliseconds.
    pub took_ms: f64,
}

/// A service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServiceStatus {
    /// `www.gslb.example.com`.
    pub name: String,
    /// Its pool.
    pub pool: String,
    /// What the operator says of it: `enabled`, `drained`, `forced-up`, `forced-down`.
    #[serde(default)]
    pub administrative: String,
    /// The override that says so.
    #[serde(default)]
    pub overrides: Vec<Override>,
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
    /// The name that answers with this region alone (`region-names`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What the operator says of it: `enabled`, `drained`, `forced-up`, `forced-down`.
    #[serde(default)]
    pub administrative: String,
    /// Of the clients whose order begins there, the part that begins there by the operator's will, in percent.
    #[serde(default = "all")]
    pub weight_percent: u16,
    /// For A queries; `None` without any IPv4 address.
    pub ipv4: Option<FamilyStatus>,
    /// For AAAA queries.
    pub ipv6: Option<FamilyStatus>,
}

/// The weight of what nothing is said of.
fn all() -> u16 {
    100
}

/// What a region can do in one address family.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FamilyStatus {
    /// Whether enough is eligible.
    pub available: bool,
    /// The share of its clients that it serves while it is available, 0 to 1: less than 1 when it returns or overflows.
    pub share: f64,
    /// Whether it was lost and is on its way back.
    pub returning: bool,
    /// Since when it stays out until it is resumed (`failback = "manual"`), seconds since the Unix epoch; `None` = it
    /// does not.
    #[serde(default)]
    pub latched_since: Option<u64>,
    /// Sum of the weights that are eligible; where weights are overridden, in a unit that makes them whole numbers.
    pub eligible_weight: u64,
    /// Sum of the weights that are allowed, in the same unit.
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
    /// What the operator says of it, beside what its checks say: `enabled`, `drained`, `forced-up`, `forced-down`.
    #[serde(default)]
    pub administrative: String,
    /// Its effective weight, in percent of the configured one.
    #[serde(default)]
    pub weight_percent: u16,
    /// What its agent has it have of its configured weight, in percent; 0 = it drains it; `None` = none has spoken.
    #[serde(default)]
    pub agent_percent: Option<u16>,
    /// Its load; `None` when it never reported one.
    #[serde(default)]
    pub load: Option<LoadStatus>,
    /// Where the operator took it out: when the last answers that name it have expired in caches that keep to their TTL,
    /// seconds since the Unix epoch.
    #[serde(default)]
    pub answers_expire_at: Option<u64>,
    /// Whether the verdicts of its addresses are held, whatever its checks say.
    #[serde(default)]
    pub frozen: bool,
    /// The overrides that say so: of itself, its pool, its regions.
    #[serde(default)]
    pub overrides: Vec<Override>,
    /// Where its CNAME leads, if it is answered with one.
    #[serde(default)]
    pub target: Option<String>,
    /// Its addresses; those that were found behind its CNAME, if it has one.
    pub addresses: Vec<AddressStatus>,
}

/// An address of an instance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AddressStatus {
    /// As handed out.
    pub address: IpAddr,
    /// `up`, `down`, `unknown`: what all its checks say together, or said when it was frozen.
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
    pub(super) verdicts: &'a [Verdict],
    pub(super) standings: &'a Table,
    pub(super) failing_open: &'a [[bool; 2]],
    pub(super) doubts: &'a Doubts,
    pub(super) sight: &'a Sight,
    pub(super) overrides: Vec<ShownOverride>,
    pub(super) latches: &'a Latches,
    pub(super) compiled: &'a Compiled,
    pub(super) loads: &'a Loads,
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
    let owners = if owners.is_empty() { vec!["canary".into()] } else { owners };
    format!("{} (check/{check} at {})", owners.join(" "), place(target.address, target.port))
}

fn place(address: IpAddr, port: u16) -> String {
    if port == 0 { address.to_string() } else { std::net::SocketAddr::new(address, port).to_string() }
}

/// The geo files of a world.
pub(super) fn geo(world: &World, refused: &[GeoRefusal]) -> Vec<GeoFileStatus> {
    let shown = |file: &GeoFile, kind: &str, built: u64, networks: usize| GeoFileStatus {
        file: file.name.clone(),
        kind: kind.into(),
        built_at: Some(built).filter(|&built| built > 0),
        loaded_at: file.loaded_at,
        networks,
        refused: refused.iter().find(|one| one.file == file.name).map(|one| one.reason.clone()),
    };
    let networks = world.geo_files.networks.iter().map(|file| shown(file, "networks", 0, world.geo().networks.len()));
    let databases = world.geo_files.databases.iter().zip(&world.geo().databases);
    let databases = databases.map(|(file, one)| shown(file, one.kind(), one.built(), one.networks().into_iter().sum()));
    networks.chain(databases).collect()
}

fn suspects(view: &View<'_>) -> Vec<SuspectStatus> {
    let suspect = |(check, until): (CheckId, Tick)| SuspectStatus {
        check: view.world.checks[check.0 as usize].name.clone(),
        held_for_s: until.since(view.now).as_secs(),
    };
    view.doubts.held().map(suspect).collect()
}

fn blind(view: &View<'_>) -> Vec<BlindStatus> {
    let of_family = |family: Family| {
        let since = view.sight.blind_since(family)?;
        let (_, targets) = view.sight.shares(family);
        Some(BlindStatus {
            family: family_word(family).into(),
            since: unix_seconds().saturating_sub(view.now.since(since).as_secs()),
            failing: targets.failing,
            targets: targets.of,
        })
    };
    Family::BOTH.into_iter().filter_map(of_family).collect()
}

fn family_word(family: Family) -> &'static str {
    match family {
        Family::V4 => "ipv4",
        Family::V6 => "ipv6",
    }
}

fn canaries(view: &View<'_>) -> Vec<CanaryStatus> {
    let canary = |&id: &TargetId| {
        let passes = view.machines[id.0 as usize].last().is_some_and(|last| last.outcome == Outcome::Pass);
        let CheckStatus { check, target, reason, took_ms, .. } = check(view, id);
        CanaryStatus { check, target, passes, reason, took_ms }
    };
    view.world.fleet().canaries.iter().map(canary).collect()
}

/// All but the serial and what is known of reloads.
pub(super) fn status(view: View<'_>) -> Status {
    let world = view.world;
    let overrides = &view.overrides[..];
    let services = (0..world.steering.configured()).map(|index| service(&view, overrides, index)).collect();
    let pools = (world.fleet().pools.iter())
        .map(|pool| PoolStatus {
            name: pool.name.to_string(),
            instances: pool.instances.iter().map(|&id| instance(&view, overrides, id)).collect(),
        })
        .collect();
    Status {
        node: world.server.node.clone(),
        version: env!("CARGO_PKG_VERSION").into(),
        uptime_s: view.now.since(Tick::START).as_secs(),
        suspects: suspects(&view),
        blind: blind(&view),
        canaries: canaries(&view),
        overrides: overrides.to_vec(),
        load_reports: load_reports(view.loads.taken()),
        services,
        pools,
        ..Status::default()
    }
}

fn service(view: &View<'_>, overrides: &[ShownOverride], index: usize) -> ServiceStatus {
    let id = ServiceId(index as u32);
    let steering = &view.world.steering;
    let steered = &steering.services[index];
    let layout = steering.layout(steered.layout);
    let standings = view.standings.of(id, steered.layout);
    let latching = view.world.latching(steered.layout);
    let latched_since = |group: &Group, family| view.latches.since(latching?, &group.label(&steering.fleet), family);
    let regions = layout.groups.iter().enumerate().map(|(at, group)| {
        let family = |family: Family| {
            let selection = standings.get(at, family).filter(|_| has_address(view, group, family))?;
            Some(FamilyStatus {
                available: selection.available,
                share: f64::from(selection.share) / f64::from(ALL),
                returning: matches!(selection.presence, Presence::Waiting(_) | Presence::Growing(_)),
                latched_since: latched_since(group, family),
                eligible_weight: selection.eligible.weight,
                allowed_weight: selection.allowed.weight,
            })
        };
        RegionStatus {
            region: group.label(&steering.fleet),
            name: region_name(steering, steered, group),
            administrative: of_group(view, group).word().into(),
            weight_percent: view.compiled.operator().begin_at(&group.regions),
            ipv4: family(Family::V4),
            ipv6: family(Family::V6),
        }
    });
    let failing_open = view.failing_open[index];
    let names = [("ipv4", failing_open[0]), ("ipv6", failing_open[1])];
    ServiceStatus {
        name: steered.configured.name.to_string(),
        pool: steering.fleet.pool(layout.pool).name.to_string(),
        administrative: view.compiled.of_service(id).state.word().into(),
        overrides: view.compiled.winner_of_service(id).into_iter().map(|at| overrides[at].of.clone()).collect(),
        failing_open: names.iter().filter(|(_, failing)| *failing).map(|(name, _)| (*name).into()).collect(),
        regions: regions.collect(),
    }
}

/// The name of a group that is one region, if it has one.
fn region_name(steering: &Steering, steered: &Steered, group: &Group) -> Option<String> {
    let beside = steered.configured.service.beside.as_deref()?;
    let derived = beside.region(*group.regions.first()?).filter(|_| group.regions.len() == 1)?;
    Some(steering.service(derived).configured.name.to_string())
}

/// Whether a group has something to hand out in a family, were it allowed.
fn has_address(view: &View<'_>, group: &Group, family: Family) -> bool {
    let fleet = view.world.fleet();
    let members = || group.members.iter().copied().filter(|&id| fleet.instance(id).weight > 0);
    let addresses = members().flat_map(|id| &fleet.instance(id).addresses);
    let has = addresses.map(|address| Family::of(address.ip)).any(|of| of == family);
    has || members().any(|id| fleet.cname(id).is_some())
}

/// What the operator says of the region that a group stands for; of several, nothing.
fn of_group(view: &View<'_>, group: &Group) -> Administrative {
    match group.regions[..] {
        [only] => view.compiled.operator().of_region(only).state,
        _ => Administrative::Enabled,
    }
}

pub(super) fn instance(view: &View<'_>, overrides: &[ShownOverride], id: InstanceId) -> InstanceStatus {
    let fleet = view.world.fleet();
    let instance = fleet.instance(id);
    let said = view.compiled.operator().of(id, instance, &[]);
    let winners = view.compiled.winners(fleet, id);
    let is_out = said.state.removes() || said.percent == 0;
    let expiries = winners.iter().filter_map(|&at| overrides[at].left.as_ref()).map(|left| left.expire_at);
    InstanceStatus {
        name: instance.name.to_string(),
        regions: instance.regions.iter().map(|&region| fleet.region(region).name.clone()).collect(),
        weight: instance.weight,
        administrative: said.state.word().into(),
        weight_percent: said.percent,
        agent_percent: view.loads.part(fleet, id),
        load: view.loads.shown(fleet, id, view.now).map(|shown| load_of(fleet.limits(id), &shown)),
        answers_expire_at: expiries.max().filter(|_| is_out),
        frozen: view.compiled.is_frozen(id),
        overrides: winners.into_iter().map(|at| overrides[at].of.clone()).collect(),
        target: fleet.cname(id).map(|cname| cname.target.to_plain()),
        addresses: instance.addresses.iter().map(|one| address(view, one)).collect(),
    }
}

fn load_reports(Taken { api, check, agent, ignored }: Taken) -> LoadReportsStatus {
    LoadReportsStatus { api, check, agent, ignored }
}

fn load_of(limits: Limits, shown: &Shown) -> LoadStatus {
    let Shown { load, age, source, reported } = *shown;
    LoadStatus {
        load,
        capacity: limits.capacity,
        max_load: limits.max_load,
        ratio: load / limits.capacity,
        age_s: age.as_secs(),
        source: source.into(),
        new: reported.is_new,
        expired: reported.load.is_none(),
        at_max_load: reported.is_full,
    }
}

fn address(view: &View<'_>, address: &Address) -> AddressStatus {
    let checks: Vec<CheckStatus> = address.targets.iter().map(|&target| check(view, target)).collect();
    let verdict_of = |target: &TargetId| view.verdicts[target.0 as usize];
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
