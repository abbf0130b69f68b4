//! A configuration, compiled: everything that stays the same until the next reload, and how health becomes a snapshot.

use std::collections::{BTreeSet, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use super::editions::{self, Edition};
use super::index::Index;
use super::resolution::Found;
use super::supply::{self, Given, Supply};
use crate::answer::whoami;
use crate::config::{Admin, Configuration, Cookies, GeoFiles, Latency, Server, Test, Tls};
use crate::dns::{LowerName, Name};
use crate::fleet::{CheckId, Family, Fleet, Instance, InstanceId, Pool, PoolId, TargetId, Word};
use crate::geo;
use crate::health::group::{Before, Judge, Members, Others, Rule, Standing};
use crate::health::presence::Return;
use crate::health::{Operator, Reported, Said, Verdict};
use crate::latency::View;
use crate::limit::Limiter;
use crate::metrics::Tally;
use crate::probe::{Check, Kind};
use crate::snapshot::{Contents, CookiePolicy, Settings, Snapshot, Transfers};
use crate::steering::beside::Derived;
use crate::steering::plan::{Group, Layout};
use crate::steering::selection::{Needs, Selection};
use crate::steering::{EcsPolicy, LayoutId, Service, ServiceId, Standings, Steering, Table, hash};
use crate::time::Tick;
use crate::zone::{Authority, ZoneId};

/// A configuration, compiled.
#[derive(Clone, Debug)]
pub struct World {
    /// `[server]`.
    pub server: Server,
    /// `[admin]`.
    pub admin: Admin,
    /// `[tls]`; `None` = no encrypted transport.
    pub tls: Option<Tls>,
    /// By `CheckId`.
    pub checks: Vec<Check>,
    /// `[latency]`.
    pub latency: Latency,
    /// `[cookies]`.
    pub cookies: Cookies,
    /// `[[tests]]`.
    pub tests: Vec<Test>,
    /// The files that say where clients are.
    pub geo_files: GeoFiles,
    /// Services, maps, places, the fleet.
    pub steering: Arc<Steering>,
    /// Static names.
    pub authority: Arc<Authority>,
    /// Which versions of their zones these are.
    pub editions: Arc<[Edition]>,
    /// Who may copy which zone, and what changed in each.
    pub transfers: Arc<Transfers>,
    /// Zones whose data do not come from a file.
    pub supplies: Arc<[Supply]>,
    /// What of their data is not served, in words.
    pub left_out: Arc<[String]>,
    /// How many answers a network gets over UDP.
    pub limiter: Option<Arc<Limiter>>,
    /// What of the configuration shapes answers.
    pub settings: Arc<Settings>,
    /// Counters of answers, for each thread that will answer.
    pub tallies: Arc<[Arc<Tally>]>,
    /// What is known of round-trip times while nothing is measured.
    unmeasured: View,
    /// Layout → services.
    services_of: Index,
    /// Target → layouts that its verdict touches.
    layouts_of: Index,
    /// Target → instances that it is probed for.
    owners_of: Index,
    /// Check → its targets.
    targets_of_check: Index,
    /// Pool → its layouts.
    layouts_of_pool: Index,
    /// Pools by name, once somebody asks.
    pools_by_name: OnceLock<HashMap<Word, PoolId>>,
    /// Layouts that some verdict touches; all others never change.
    watched: Vec<LayoutId>,
    /// Frozen hash of each instance's path.
    hashes: Vec<u32>,
    /// Standings while nothing is known.
    base: Table,
}

/// Standings of a group that were judged before: what the judgement must know, and what may be shared.
type Known<'a> = (Option<Before>, Option<&'a Selection>);

/// The health that a judgement goes by.
#[derive(Clone, Copy, Debug)]
pub struct Health<'a> {
    /// By `TargetId`.
    pub verdicts: &'a [Verdict],
    /// By `InstanceId`, taken for down whatever checks say; may be empty.
    pub down: &'a [bool],
    /// By `TargetId`: seconds until observations can change the verdict at the earliest, `STEADY` when nothing speaks
    /// against it; may be empty.
    pub steady_for: &'a [u16],
    /// What the operator says.
    pub operator: Operator<'a>,
    /// By `InstanceId`: what instances and their agents report; may be empty.
    pub reported: &'a [Reported],
    /// By `TargetId`: whether its verdict is held, whatever its probes see; may be empty.
    pub held: &'a [bool],
    /// By `TargetId`: when it recovered last, if that counts; may be empty.
    pub recovered: &'a [Option<Tick>],
    /// What is thought of an instance whose CNAME leads to no address that is known.
    pub unresolved: Verdict,
    /// Whether `startup-grace` is over.
    pub grace_over: bool,
    /// The current time.
    pub now: Tick,
    /// A number that grows with each judgement: the version of rosters that change.
    pub serial: u64,
}

impl Health<'_> {
    /// Nothing is known yet.
    const NONE: Health<'static> = Health {
        verdicts: &[],
        down: &[],
        steady_for: &[],
        operator: Operator { instances: &[], regions: &[], service: Said::NOTHING },
        reported: &[],
        held: &[],
        recovered: &[],
        unresolved: Verdict::Unknown,
        grace_over: false,
        now: Tick(0),
        serial: 0,
    };
}

impl World {
    /// Compiles a configuration.
    #[must_use]
    pub fn compile(configuration: Configuration) -> World {
        let atlas = geo::Atlas::compile(&configuration.geo);
        World::compile_over(configuration, atlas)
    }

    /// Compiles a configuration whose geo data are compiled to `atlas` already.
    #[must_use]
    pub fn compile_over(configuration: Configuration, atlas: geo::Atlas) -> World {
        let Configuration {
            server,
            admin,
            tls,
            ecs,
            latency,
            cookies,
            rate_limit,
            checks,
            fleet,
            maps,
            services,
            keys,
            zones,
            geo,
            geo_files,
            selectors: _,
            tests,
        } = configuration;
        let names = steered_names(services.iter(), &server);
        let supplies = zones.iter().filter_map(|zone| Supply::of(zone, &keys)).collect();
        let editions = zones.iter().filter(|zone| zone.policy.primaries.is_empty()).map(Edition::of).collect();
        let policies = zones.iter().map(|zone| (zone.origin.clone(), zone.policy.clone())).collect();
        let authority = Authority::build(zones.into_iter().map(|zone| (zone.origin, zone.records)), names);
        let settings = Settings {
            ecs: EcsPolicy::new(ecs.enabled, ecs.ipv4, ecs.ipv6, ecs.trusted),
            max_udp_payload: server.max_udp_payload,
            node: server.node.clone(),
            identity: server.identity,
            explain_from: server.explain_from.clone(),
            cookies: CookiePolicy { enabled: cookies.enabled, require: cookies.require },
            geo: Arc::new(geo),
        };
        let transfers = Transfers { keys, zones: editions::gates(&authority, policies) };
        let (authority, transfers, settings) = (Arc::new(authority), Arc::new(transfers), Arc::new(settings));
        let steering = Steering::compile(next_epoch(), fleet, maps, atlas, services);
        let limiter = rate_limit.map(|policy| Arc::new(Limiter::new(policy, random_key())));
        let parts = Parts {
            server,
            admin,
            tls,
            latency,
            cookies,
            limiter,
            checks,
            tests,
            geo_files,
            authority,
            editions,
            transfers,
            supplies,
            left_out: Arc::default(),
            settings,
        };
        parts.over(steering)
    }

    /// The same configuration over other geo data.
    #[must_use]
    pub fn with_geo(&self, geo: geo::Data, geo_files: GeoFiles) -> World {
        let steering = self.steering_over(self.fleet().clone(), geo::Atlas::compile(&geo));
        let settings = Arc::new(Settings { geo: Arc::new(geo), ..Settings::clone(&self.settings) });
        Parts { geo_files, settings, ..self.parts() }.over(steering)
    }

    /// The same configuration over other addresses behind CNAMEs.
    #[must_use]
    pub fn with_found(&self, found: &Found) -> World {
        let mut fleet = self.fleet().clone();
        fleet.take_found(found);
        self.parts().over(self.steering_over(fleet, self.steering.atlas.clone()))
    }

    /// The same configuration with what is known now of zones whose data do not come from a file. All else is shared.
    #[must_use]
    pub fn with_zones(&self, given: &Given) -> World {
        let services = self.steering.services.iter().map(|one| &one.configured.service);
        let names = steered_names(services, &self.server);
        let (authority, left_out) = supply::build(&self.authority, &self.supplies, given, names);
        World { authority: Arc::new(authority), left_out: left_out.into(), ..self.clone() }
    }

    fn steering_over(&self, fleet: Fleet, atlas: geo::Atlas) -> Steering {
        let services = self.steering.services.iter().map(|one| one.configured.service.clone()).collect();
        Steering::compile(next_epoch(), fleet, self.steering.maps.clone(), atlas, services)
    }

    fn parts(&self) -> Parts {
        Parts {
            server: self.server.clone(),
            admin: self.admin.clone(),
            tls: self.tls.clone(),
            latency: self.latency,
            cookies: self.cookies.clone(),
            limiter: self.limiter.clone(),
            checks: self.checks.clone(),
            tests: self.tests.clone(),
            geo_files: self.geo_files.clone(),
            authority: Arc::clone(&self.authority),
            editions: Arc::clone(&self.editions),
            transfers: Arc::clone(&self.transfers),
            supplies: Arc::clone(&self.supplies),
            left_out: Arc::clone(&self.left_out),
            settings: Arc::clone(&self.settings),
        }
    }

    /// Goes on counting answers where a world before did, if it counts them alike.
    pub fn count_as(&mut self, before: &World) {
        let policy = |limiter: &Option<Arc<Limiter>>| limiter.as_ref().map(|limiter| limiter.policy().clone());
        if policy(&self.limiter) == policy(&before.limiter) {
            self.limiter.clone_from(&before.limiter);
        }
    }

    /// Takes over what is remembered of earlier editions of zones, with what changed since `before`.
    pub fn remember(&mut self, before: &World) {
        let zones = editions::gates_after(before, self);
        self.transfers = Arc::new(Transfers { keys: self.transfers.keys.clone(), zones });
    }

    /// The serial of the zone with this apex; of one that is not known, or not ours, nothing.
    #[must_use]
    pub fn serial_of(&self, origin: &Name) -> Option<u32> {
        let mut apex = LowerName::new();
        apex.set(origin.as_wire())?;
        self.authority.serial(self.authority.zone_at(&apex)?)
    }

    /// A zone as it is copied.
    #[must_use]
    pub fn contents(&self, zone: ZoneId) -> Contents<'_> {
        self.transfers.contents(&self.authority, &self.steering, zone)
    }

    /// Makes counters of answers for `threads` threads, so that none has to when it meets this world.
    pub fn count_for(&mut self, threads: usize) {
        self.tallies = (0..threads).map(|_| Arc::new(Tally::new(Arc::clone(&self.steering.labels)))).collect();
    }

    /// Networks and data bases.
    #[must_use]
    pub fn geo(&self) -> &geo::Data {
        &self.settings.geo
    }

    /// The fleet.
    #[must_use]
    pub fn fleet(&self) -> &Fleet {
        &self.steering.fleet
    }

    fn all_layouts(&self) -> impl Iterator<Item = LayoutId> + use<> {
        (0..self.steering.layouts.len() as u32).map(LayoutId)
    }

    fn is_watched(&self, layout: &Layout) -> bool {
        let instances = layout.groups.iter().flat_map(|group| &group.members).map(|&id| self.fleet().instance(id));
        instances.flat_map(|instance| &instance.addresses).any(|address| !address.targets.is_empty())
    }

    /// The layouts that a target's verdict touches.
    pub fn layouts_of(&self, target: TargetId) -> impl Iterator<Item = LayoutId> {
        self.layouts_of.get(target.0).iter().copied().map(LayoutId)
    }

    /// The pool of a name.
    #[must_use]
    pub fn pool_named(&self, name: &str) -> Option<PoolId> {
        let pools = self.pools_by_name.get_or_init(|| {
            (0..).map(PoolId).zip(&self.fleet().pools).map(|(id, pool)| (pool.name.clone(), id)).collect()
        });
        pools.get(name).copied()
    }

    /// The layouts of a pool.
    pub fn layouts_of_pool(&self, pool: PoolId) -> impl Iterator<Item = LayoutId> {
        self.layouts_of_pool.get(pool.0).iter().copied().map(LayoutId)
    }

    /// The layouts that some target's verdict touches.
    #[must_use]
    pub fn watched(&self) -> &[LayoutId] {
        &self.watched
    }

    /// The services of a layout.
    pub fn services_of(&self, layout: LayoutId) -> impl Iterator<Item = ServiceId> {
        self.services_of.get(layout.0).iter().copied().map(ServiceId)
    }

    /// The instances that a target is probed for.
    pub fn owners_of(&self, target: TargetId) -> impl Iterator<Item = InstanceId> {
        self.owners_of.get(target.0).iter().copied().map(InstanceId)
    }

    /// Whether it is an agent that is asked at a target.
    #[must_use]
    pub fn is_agent(&self, target: TargetId) -> bool {
        matches!(self.checks[self.fleet().target(target).check.0 as usize].kind, Kind::Agent { .. })
    }

    /// The targets of a check.
    pub fn targets_of_check(&self, check: CheckId) -> impl Iterator<Item = TargetId> {
        self.targets_of_check.get(check.0).iter().copied().map(TargetId)
    }

    /// The targets that are probed for the members of a layout, some of them several times.
    pub fn targets_of(&self, layout: LayoutId) -> impl Iterator<Item = TargetId> {
        let members = self.steering.layout(layout).groups.iter().flat_map(|group| &group.members);
        let addresses = members.flat_map(|&id| &self.fleet().instance(id).addresses);
        addresses.flat_map(|address| address.targets.iter().copied())
    }

    /// Whether a target is probed for a member of a group.
    #[must_use]
    pub fn probes(&self, group: &Group, target: TargetId) -> bool {
        self.owners_of(target).any(|owner| group.members.contains(&owner))
    }

    /// The standings of a layout's groups, which share with those `before` what did not change.
    #[must_use]
    pub fn judge(&self, layout: LayoutId, health: Health<'_>, before: Option<&Standings>) -> Standings {
        self.judge_after(layout, health, |group, family| {
            let selection = before.and_then(|before| before.get(group, family));
            (selection.map(Selection::before), selection)
        })
    }

    /// The standings of a layout's groups; `known` says what was known of each.
    #[must_use]
    pub fn judge_after<'k>(
        &self,
        layout: LayoutId,
        health: Health<'_>,
        known: impl Fn(usize, Family) -> Known<'k>,
    ) -> Standings {
        let Health {
            verdicts,
            down,
            steady_for,
            operator,
            reported,
            held,
            recovered,
            unresolved,
            grace_over,
            now,
            serial,
        } = health;
        let how = self.returns(layout);
        let layout = self.steering.layout(layout);
        let steady_for = if layout.ttl_varies { steady_for } else { &[] };
        let fleet = self.fleet();
        let judge = Judge { fleet, verdicts, down, steady_for, operator, reported, unresolved, grace_over, now };
        let threshold = Rule::Threshold(self.fleet().pool(layout.pool).up_threshold);
        let Pool { ramp, shares, .. } = self.fleet().pool(layout.pool);
        let ramp = *ramp;
        let rule = layout.spill.map_or(threshold, Rule::Spill);
        let of_group = |(group, of): (usize, &Group)| {
            let no_cname = layout.no_cname;
            let members = Members { instances: &of.members, regions: &of.regions, shares, no_cname };
            Family::BOTH.map(|family| {
                let mut standing = judge.judge(members, family, rule, known(group, family).0);
                standing.heed_load(reported, layout.by_load);
                standing.ramp(self.fleet(), family, recovered, ramp, now);
                standing
            })
        };
        let mut standings: Vec<[Standing; 2]> = layout.groups.iter().enumerate().map(of_group).collect();
        let around = |group: &Group| (self.holds(held, group), operator.begin_at(&group.regions));
        let around: Vec<(bool, u16)> = layout.groups.iter().map(around).collect();
        for family in Family::BOTH.map(|family| family as usize) {
            let able = |group: &[Standing; 2]| (group[family].serves(), group[family].replaces());
            let able: Vec<(bool, bool)> = standings.iter().map(able).collect();
            let serving = able.iter().filter(|(serves, _)| *serves).count();
            let replaced = |at: usize| {
                layout.companions.get(at).is_some_and(|others| others.iter().any(|&other| able[other as usize].1))
            };
            for (at, (group, &(frozen, begin_percent))) in standings.iter_mut().zip(&around).enumerate() {
                let (serve, replace) = (serving > usize::from(able[at].0), replaced(at));
                group[family].settle(Others { serve, replace, frozen, begin_percent }, how, now);
            }
        }
        let needs = Needs { fleet: self.fleet(), hashes: &self.hashes, rotates: layout.rotates, shares };
        Standings::new(layout.groups.len(), layout.serves, |group, family| {
            Selection::freeze(&standings[group][family as usize], needs, known(group, family).1, serial)
        })
    }

    /// Whether the verdict of some member of a group is `held`, by `TargetId`.
    fn holds(&self, held: &[bool], group: &Group) -> bool {
        let is_held = |target: &TargetId| held.get(target.0 as usize).is_some_and(|&held| held);
        let addresses = || group.members.iter().flat_map(|&id| &self.fleet().instance(id).addresses);
        !held.is_empty() && addresses().any(|address| address.targets.iter().any(is_held))
    }

    /// How the regions of a layout return.
    #[must_use]
    pub fn returns(&self, layout: LayoutId) -> Return {
        let layout = self.steering.layout(layout);
        let pool = self.fleet().pool(layout.pool);
        Return { after: pool.return_after, ramp: pool.region_ramp, manual: layout.service.is_some() }
    }

    /// The service that has a layout to itself, because its regions latch (SPEC 3.5).
    #[must_use]
    pub fn latching(&self, layout: LayoutId) -> Option<&str> {
        let service = self.steering.layout(layout).service?;
        Some(&self.steering.service(service).configured.name)
    }

    /// The standings of all layouts while nothing is known.
    #[must_use]
    pub fn base(&self) -> &Table {
        &self.base
    }

    /// A snapshot of standings judged before.
    #[must_use]
    pub fn freeze(&self, standings: Table, serial: u64) -> Snapshot {
        Snapshot {
            serial,
            authority: Arc::clone(&self.authority),
            steering: Arc::clone(&self.steering),
            standings,
            latency: self.unmeasured.clone(),
            secrets: self.cookies.secrets.clone().unwrap_or_default(),
            transfers: Arc::clone(&self.transfers),
            settings: Arc::clone(&self.settings),
            limiter: self.limiter.clone(),
            blind: [false; 2],
            tallies: Arc::clone(&self.tallies),
        }
    }

    /// Everything up, but for the instances that `down` names (`region/eu-west`, `instance/web/*`): what a configuration
    /// does by itself.
    #[must_use]
    pub fn offline(&self, down: &[String]) -> Snapshot {
        self.all(Verdict::Up, down)
    }

    /// All targets with the same verdict, but for the instances that `down` names.
    #[must_use]
    pub fn all(&self, verdict: Verdict, down: &[String]) -> Snapshot {
        let fleet = self.fleet();
        let mut flags = vec![false; fleet.instances.len()];
        let mut pools = BTreeSet::new();
        for id in down.iter().flat_map(|name| fleet.named(name)) {
            flags[id.0 as usize] = true;
            pools.insert(fleet.instance(id).pool);
        }
        let verdicts = vec![verdict; fleet.targets.len()];
        let health =
            Health { verdicts: &verdicts, down: &flags, unresolved: verdict, grace_over: true, ..Health::NONE };
        let mut table = self.base.clone();
        for layout in self.touched_by(&pools) {
            table.set(layout, self.judge(layout, health, None));
        }
        self.freeze(table, 0)
    }

    /// The layouts that have a member of which `is` is true.
    #[must_use]
    pub fn layouts_with(&self, is: impl Fn(InstanceId) -> bool) -> Vec<LayoutId> {
        let has =
            |&id: &LayoutId| self.steering.layout(id).groups.iter().any(|group| group.members.iter().any(|&m| is(m)));
        self.all_layouts().filter(has).collect()
    }

    /// Names and pools of all services, by `ServiceId`. What is derived goes by the name of the whole: an override
    /// of that is one of all that comes of it.
    pub fn services(&self) -> impl Iterator<Item = (&str, PoolId)> + Clone {
        self.steering.services.iter().map(move |one| {
            let whole = one.configured.service.derived.as_deref().map(Derived::of);
            let named = whole.map_or(one, |of| self.steering.service(of));
            (&*named.configured.name, one.configured.service.pool)
        })
    }

    /// The layouts that are watched, and those of `pools`.
    fn touched_by(&self, pools: &BTreeSet<PoolId>) -> BTreeSet<LayoutId> {
        let is_of =
            |&id: &LayoutId| self.fleet().parts_of(self.steering.layout(id).pool).any(|part| pools.contains(&part));
        let of_pools = self.all_layouts().filter(is_of).filter(|_| !pools.is_empty());
        self.watched.iter().copied().chain(of_pools).collect()
    }
}

/// A world but for what steers, and what follows from that.
struct Parts {
    server: Server,
    admin: Admin,
    tls: Option<Tls>,
    latency: Latency,
    cookies: Cookies,
    limiter: Option<Arc<Limiter>>,
    checks: Vec<Check>,
    tests: Vec<Test>,
    geo_files: GeoFiles,
    authority: Arc<Authority>,
    editions: Arc<[Edition]>,
    transfers: Arc<Transfers>,
    supplies: Arc<[Supply]>,
    left_out: Arc<[String]>,
    settings: Arc<Settings>,
}

impl Parts {
    fn over(self, steering: Steering) -> World {
        let Parts {
            server,
            admin,
            tls,
            latency,
            cookies,
            limiter,
            checks,
            tests,
            geo_files,
            authority,
            editions,
            transfers,
            supplies,
            left_out,
            settings,
        } = self;
        let mut world = World {
            unmeasured: View::of(Arc::default(), &steering.fleet, latency.explore),
            server,
            admin,
            tls,
            latency,
            cookies,
            limiter,
            tests,
            geo_files,
            authority,
            editions,
            transfers,
            supplies,
            left_out,
            settings,
            tallies: Arc::default(),
            services_of: services_of(&steering),
            layouts_of: layouts_of(&steering),
            owners_of: owners_of(&steering.fleet),
            targets_of_check: targets_of_check(checks.len(), &steering.fleet),
            layouts_of_pool: layouts_of_pool(&steering),
            pools_by_name: OnceLock::new(),
            checks,
            watched: Vec::new(),
            hashes: hashes(&steering.fleet),
            base: Table::default(),
            steering: Arc::new(steering),
        };
        world.watched = world.all_layouts().filter(|&id| world.is_watched(world.steering.layout(id))).collect();
        world.base = world.all_layouts().map(|layout| world.judge(layout, Health::NONE, None)).collect();
        world
    }
}

/// Names that are steered, or say who asks, with their tags.
fn steered_names<'a>(
    services: impl Iterator<Item = &'a Service> + Clone,
    server: &'a Server,
) -> impl Iterator<Item = (&'a Name, u32)> + Clone {
    let names = (0..)
        .zip(services)
        .flat_map(|(tag, service)| std::iter::once(&service.name).chain(&service.aliases).map(move |name| (name, tag)));
    names.chain(server.whoami.iter().map(|name| (name, whoami::TAG)))
}

/// A key that nobody else knows.
fn random_key() -> u128 {
    let keys = RandomState::new();
    u128::from(keys.hash_one(0)) << 64 | u128::from(keys.hash_one(1))
}

/// A number for each compilation.
fn next_epoch() -> u64 {
    static COMPILED: AtomicU64 = AtomicU64::new(0);
    COMPILED.fetch_add(1, Ordering::Relaxed)
}

fn services_of(steering: &Steering) -> Index {
    let pairs = (0..).zip(&steering.services).map(|(service, steered)| (steered.layout.0, service));
    Index::new(steering.layouts.len(), pairs)
}

fn layouts_of(steering: &Steering) -> Index {
    let fleet = &steering.fleet;
    let of_layout = |(layout, of): (u32, &Layout)| {
        let members = of.groups.iter().flat_map(|group| &group.members);
        let addresses = members.flat_map(|&id| &fleet.instance(id).addresses);
        let mut targets: Vec<u32> = addresses.flat_map(|one| &one.targets).map(|target| target.0).collect();
        targets.sort_unstable();
        targets.dedup();
        targets.into_iter().map(move |target| (target, layout))
    };
    Index::new(fleet.targets.len(), (0..).zip(&steering.layouts).flat_map(of_layout))
}

fn owners_of(fleet: &Fleet) -> Index {
    let of_instance = |(id, instance): (u32, &Instance)| {
        let mut targets: Vec<u32> =
            instance.addresses.iter().flat_map(|one| &one.targets).map(|target| target.0).collect();
        targets.sort_unstable();
        targets.dedup();
        targets.into_iter().map(move |target| (target, id))
    };
    Index::new(fleet.targets.len(), (0..).zip(&fleet.instances).flat_map(of_instance))
}

fn targets_of_check(checks: usize, fleet: &Fleet) -> Index {
    Index::new(checks, fleet.targets.iter().zip(0..).map(|(target, id)| (target.check.0, id)))
}

fn layouts_of_pool(steering: &Steering) -> Index {
    let of_layout = |(layout, of): (u32, &Layout)| {
        let pools = steering.fleet.parts_of(of.pool);
        pools.map(move |pool| (pool.0, layout)).collect::<Vec<_>>()
    };
    Index::new(steering.fleet.pools.len(), (0..).zip(&steering.layouts).flat_map(of_layout))
}

fn hashes(fleet: &Fleet) -> Vec<u32> {
    let ids = (0..fleet.instances.len() as u32).map(InstanceId);
    ids.map(|id| hash::of_name(&fleet.instance_path(id)) as u32).collect()
}
