//! A configuration, compiled: everything that stays the same until the next reload, and how health becomes a snapshot.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::config::{Admin, Configuration, Server, Test};
use crate::fleet::{Family, Fleet, InstanceId, TargetId};
use crate::geo;
use crate::health::group::Judge;
use crate::health::{Standing, Verdict};
use crate::probe::Check;
use crate::snapshot::{Settings, Snapshot};
use crate::steering::plan::Group;
use crate::steering::{EcsPolicy, LayoutId, Standings, Steering, hash};
use crate::time::Tick;
use crate::zone::Authority;

/// A configuration, compiled.
#[derive(Debug)]
pub struct World {
    /// `[server]`.
    pub server: Server,
    /// `[admin]`.
    pub admin: Admin,
    /// By `CheckId`.
    pub checks: Vec<Check>,
    /// `[[tests]]`.
    pub tests: Vec<Test>,
    /// Networks and data bases, for explanations.
    pub geo: geo::Data,
    /// Services, maps, places, the fleet.
    pub steering: Arc<Steering>,
    /// Static names.
    pub authority: Arc<Authority>,
    /// What of the configuration shapes answers.
    pub settings: Arc<Settings>,
    /// Which layouts a target's verdict touches.
    layouts_of: Vec<Vec<LayoutId>>,
    /// Frozen hash of each instance's path.
    hashes: Vec<u32>,
}

/// The health that a judgement goes by.
#[derive(Clone, Copy, Debug)]
pub struct Health<'a> {
    /// By `TargetId`.
    pub verdicts: &'a [Verdict],
    /// By `InstanceId`, taken for down whatever checks say; may be empty.
    pub down: &'a [bool],
    /// Whether `startup-grace` is over.
    pub grace_over: bool,
    /// The current time.
    pub now: Tick,
    /// A number that grows with each judgement.
    pub serial: u64,
}

impl World {
    /// Compiles a configuration.
    #[must_use]
    pub fn compile(configuration: Configuration) -> World {
        static COMPILED: AtomicU64 = AtomicU64::new(0);
        let epoch = COMPILED.fetch_add(1, Ordering::Relaxed);
        let Configuration { server, admin, ecs, checks, fleet, maps, services, zones, geo, tests } = configuration;
        let names = services.iter().enumerate().flat_map(|(tag, service)| {
            std::iter::once(&service.name).chain(&service.aliases).map(move |name| (name, tag as u32))
        });
        let authority = Authority::build(zones.iter().map(|zone| (&zone.origin, &zone.records[..])), names);
        let settings = Settings {
            ecs: EcsPolicy { enabled: ecs.enabled, ipv4: ecs.ipv4, ipv6: ecs.ipv6, trusted: ecs.trusted },
            max_udp_payload: server.max_udp_payload,
            node: server.node.clone(),
            identity: server.identity,
        };
        let atlas = geo::Atlas::compile(&geo);
        let steering = Steering::compile(epoch, fleet, maps, atlas, services);
        let layouts_of = layouts_of(&steering);
        let ids = (0..steering.fleet.instances.len() as u32).map(InstanceId);
        let hashes = ids.map(|id| hash::of_name(&steering.fleet.instance_path(id)) as u32).collect();
        World {
            server,
            admin,
            checks,
            tests,
            geo,
            steering: Arc::new(steering),
            authority: Arc::new(authority),
            settings: Arc::new(settings),
            layouts_of,
            hashes,
        }
    }

    /// The fleet.
    #[must_use]
    pub fn fleet(&self) -> &Fleet {
        &self.steering.fleet
    }

    /// The layouts that a target's verdict touches.
    #[must_use]
    pub fn layouts_of(&self, target: TargetId) -> &[LayoutId] {
        self.layouts_of.get(target.0 as usize).map_or(&[], |layouts| &layouts[..])
    }

    /// Whether a target is probed for a member of a group.
    #[must_use]
    pub fn probes(&self, group: &Group, target: TargetId) -> bool {
        let addresses = group.members.iter().flat_map(|&id| &self.fleet().instance(id).addresses);
        addresses.flat_map(|address| &address.targets).any(|&each| each == target)
    }

    /// The standings of a layout's groups.
    #[must_use]
    pub fn judge(&self, layout: LayoutId, health: Health<'_>, before: Option<&Standings>) -> Standings {
        let Health { verdicts, down, grace_over, now, serial } = health;
        let fleet = self.fleet();
        let judge = Judge { fleet, verdicts, down, grace_over, now, serial };
        let layout = self.steering.layout(layout);
        let threshold = fleet.pool(layout.pool).up_threshold;
        let of = |(index, group): (usize, &Group)| {
            Family::BOTH.map(|family| -> Standing {
                let before = before.and_then(|before| before.get(index)).map(|group| &group[family as usize]);
                judge.judge(&group.members, family, threshold, |id| self.hashes[id.0 as usize], before)
            })
        };
        layout.groups.iter().enumerate().map(of).collect()
    }

    /// A snapshot of everything under `health`, from scratch.
    #[must_use]
    pub fn snapshot(&self, health: Health<'_>) -> Snapshot {
        let layouts = (0..self.steering.layouts.len() as u32).map(LayoutId);
        self.freeze(layouts.map(|layout| self.judge(layout, health, None)).collect(), health.serial)
    }

    /// A snapshot of standings judged before.
    #[must_use]
    pub fn freeze(&self, standings: Vec<Standings>, serial: u64) -> Snapshot {
        Snapshot {
            serial,
            authority: Arc::clone(&self.authority),
            steering: Arc::clone(&self.steering),
            standings,
            settings: Arc::clone(&self.settings),
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
        for id in down.iter().flat_map(|name| fleet.named(name)) {
            flags[id.0 as usize] = true;
        }
        let verdicts = vec![verdict; fleet.targets.len()];
        self.snapshot(Health { verdicts: &verdicts, down: &flags, grace_over: true, now: Tick(0), serial: 0 })
    }
}

fn layouts_of(steering: &Steering) -> Vec<Vec<LayoutId>> {
    let mut of = vec![Vec::new(); steering.fleet.targets.len()];
    for (index, layout) in steering.layouts.iter().enumerate() {
        let id = LayoutId(index as u32);
        for &member in layout.groups.iter().flat_map(|group| &group.members) {
            for target in steering.fleet.instance(member).addresses.iter().flat_map(|address| &address.targets) {
                let layouts: &mut Vec<LayoutId> = &mut of[target.0 as usize];
                if layouts.last() != Some(&id) {
                    layouts.push(id);
                }
            }
        }
    }
    of
}
