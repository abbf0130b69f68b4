//! Compiling: what steers each service, evaluated once for each distinct place and frozen as *prefix → order*.
//!
//! ```text
//!  atlas: prefix → place        map: its own networks
//!            └──────── zip ────────┘
//!                       │ evaluate(service, place, networks), once per distinct pair
//!                       ▼
//!            Orders: prefix → Order (groups, most wanted first)     equal neighbours merged = widest right ECS scope
//! ```
//! A *group* is what one step of an order may serve from: the pool's instances in one region, or, for `any`, in all
//! regions that the client may be sent to. Services that steer alike share their tables.

use std::collections::HashMap;
use std::net::IpAddr;
use std::ops::Range;
use std::sync::Arc;

use ipnet::IpNet;
use smallvec::SmallVec;

use super::beside::Derived;
use super::latency::Homes;
use super::local::Large;
use super::order::{Order, Ranking};
use super::selector::{Indexed, Whereabouts};
use super::service::{Balance, Manner, Map, MapId, Service, ServiceId, Steer, WhenAllDown};
use super::trace::{Silent, Trace};
use super::walk::MAX_FALLBACKS;
use super::{failover, fence, geo, hash, latency, nearest, weighted};
use crate::fleet::{Family, Fleet, InstanceId, PoolId, RegionId};
use crate::geo::{Atlas, PlaceId, RangeMap};
use crate::metrics::Labels;

/// Runs of a table of which a core's nearest caches hold little, beside what the kernel reads for each packet.
const LARGE: usize = 1 << 12;

/// Index into [`Steering::layouts`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LayoutId(pub u32);

/// All that steering needs beside health; unchanged until the configuration or geo data change.
#[derive(Debug, Default)]
pub struct Steering {
    /// Different for each compilation in a process: rotations begin anew with it.
    pub epoch: u64,
    /// Regions, pools, instances.
    pub fleet: Fleet,
    /// By [`MapId`].
    pub maps: Vec<Map>,
    /// Where addresses are.
    pub atlas: Atlas,
    /// By [`ServiceId`].
    pub services: Vec<Steered>,
    /// By [`LayoutId`].
    pub layouts: Vec<Layout>,
    /// Whose addresses are, where some service goes by what is measured.
    pub homes: Homes,
    /// Tables of orders too large for the nearest caches of a core, by [`Orders::large`].
    pub large: Vec<Arc<Orders>>,
    /// Service and region of each counter of answers, in the order of [`Steered::slot`].
    pub labels: Labels,
    room: Room,
}

/// How much room a thread needs to decide.
#[derive(Clone, Copy, Debug, Default)]
pub struct Room {
    /// Groups of the largest layout.
    pub groups: usize,
    /// Instances of the largest group.
    pub candidates: usize,
    /// Of the largest group of those from which several are chosen by load.
    pub loaded: usize,
    /// Rotations: of each service that takes turns two for each group.
    pub turns: usize,
    /// Running weights of all rotations.
    pub running: usize,
}

/// A service, compiled: what every answer reads of it, in one cache line. Among many services it is in no cache, and each
/// further line costs as much as all the rest of an answer.
#[derive(Debug)]
#[repr(align(64))]
pub struct Steered {
    /// Prefix → order.
    pub orders: Arc<Orders>,
    /// Frozen hash of its name.
    pub hash: u64,
    /// What its orders refer to.
    pub layout: LayoutId,
    /// Number of its first group's counter; one for each group of its layout follows.
    pub slot: u32,
    /// Number of its first rotation, if it takes turns: group by group, family by family.
    pub(super) turns: u32,
    /// Where its running weights begin, in the same order.
    pub(super) running: u32,
    /// Families of which its pool has an address at all, with a weight above 0.
    pub serves: [bool; 2],
    /// Whether something else answers when nothing works.
    pub has_stand_in: bool,
    /// Whether it may be answered with a CNAME, its own or that of a service that stands in for it.
    pub may_be_cname: bool,
    /// [`Service::no_cname`].
    pub no_cname: bool,
    /// How its answers are made.
    pub manner: Manner,
    /// All that few answers read.
    pub configured: Box<Configured>,
}

const _: () = assert!(size_of::<Steered>() == 64);

impl Steered {
    /// Number of the rotation of a group and family, if it takes turns.
    pub(super) fn turn(&self, group: usize, family: Family) -> usize {
        self.turns as usize + 2 * group + family as usize
    }
}

/// What most likely answers a client.
#[derive(Clone, Copy, Debug)]
pub struct Likely<'a> {
    /// The service asked.
    pub service: &'a Steered,
    /// Index into its layout's groups.
    pub group: usize,
    /// As asked.
    pub family: Family,
}

/// What services must have in common to share a layout: pool, for `any` the map, [`Service::spill`], [`Layout::service`].
type LayoutKey = (PoolId, Option<Option<MapId>>, Option<u32>, Option<ServiceId>, bool);

/// A service as configured.
#[derive(Debug)]
pub struct Configured {
    /// All of it.
    pub service: Service,
    /// Its name without the final dot, in lower case: label of metrics and seed of its hash.
    pub name: Arc<str>,
}

/// The groups of a pool.
#[derive(Debug)]
pub struct Layout {
    /// Which pool.
    pub pool: PoolId,
    /// In order of their regions' configuration, or of first use for `any`.
    pub groups: Vec<Group>,
    /// Whether the pool has an address of that family at all, with a weight above 0.
    pub serves: [bool; 2],
    /// Whether no CNAME can be answered, and the pool has some.
    pub no_cname: bool,
    /// Whether several pools share the clients of each group.
    pub has_shares: bool,
    /// Whether some service takes turns.
    pub rotates: bool,
    /// Whether some service's TTL follows health.
    pub ttl_varies: bool,
    /// Whether some service chooses by load.
    pub by_load: bool,
    /// Its services' [`Service::spill`].
    pub spill: Option<u32>,
    /// The only service that it is for, where regions that are lost stay out of each service until they are resumed there
    /// (`failback = "manual"`): they are in use or not service by service. `None` = services of the same needs share it.
    pub service: Option<ServiceId>,
    /// Where it is for a service alone: by group, the others that some client of it may be sent to instead.
    pub companions: Box<[Box<[u32]>]>,
}

/// Instances that one step of an order may serve from.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// Regions it stands for: one, or for `any` all that are allowed.
    pub regions: SmallVec<[RegionId; 4]>,
    /// In configured order.
    pub members: SmallVec<[InstanceId; 4]>,
    /// Frozen hash of its first region's name.
    pub hash: u32,
    /// Sum of the members' weights.
    pub weight: u64,
    /// Whether a fence left regions out that `any` would have.
    pub fenced: bool,
    /// Whether some member is in no region: outside of every fence.
    pub has_homeless: bool,
}

impl Group {
    /// Its region's name; where it stands for several `any`, or their names when a fence left others out.
    #[must_use]
    pub fn label(&self, fleet: &Fleet) -> String {
        let names: Vec<&str> = self.regions.iter().map(|&region| fleet.region(region).name.as_str()).collect();
        match names[..] {
            [name] => name.into(),
            [] if self.fenced => "none".into(),
            _ if self.fenced => names.join("+"),
            _ => "any".into(),
        }
    }
}

/// Prefix → order.
#[derive(Debug)]
pub struct Orders {
    /// Index into `orders`.
    pub table: RangeMap<u32>,
    /// Distinct orders.
    pub orders: Vec<Order>,
    /// Its number among those that are worth looking into ahead.
    pub large: Option<Large>,
}

impl Orders {
    /// The other groups that stand in an order with this one.
    fn companions(&self, group: u32) -> Box<[u32]> {
        let with = self.orders.iter().filter(|order| order.groups.contains(&group));
        let mut others: Vec<u32> = with.flat_map(|order| order.groups.iter().copied()).collect();
        others.sort_unstable();
        others.dedup();
        others.into_iter().filter(|&other| other != group).collect()
    }
}

/// What a policy says for one place.
struct Evaluated {
    ranking: Ranking,
    fence: Option<Vec<RegionId>>,
}

impl Steering {
    /// Compiles services over a fleet, maps and geo data. `epoch` must differ from all earlier ones.
    #[must_use]
    pub fn compile(epoch: u64, fleet: Fleet, maps: Vec<Map>, atlas: Atlas, services: Vec<Service>) -> Steering {
        let indexed: Vec<Indexed<'_>> = maps.iter().map(Indexed::new).collect();
        let mut compiler = Compiler {
            fleet: &fleet,
            maps: &indexed,
            atlas: &atlas,
            layouts: Vec::new(),
            layout_ids: HashMap::new(),
            orders: HashMap::new(),
            networks: HashMap::new(),
            large: Vec::new(),
            room: Room::default(),
        };
        let mut compiled: Vec<Steered> = Vec::with_capacity(services.len());
        for (id, service) in (0..).map(ServiceId).zip(services) {
            let steered = match service.derived.as_deref() {
                None => compiler.service(id, service),
                Some(derived) => {
                    let whole = &compiled[derived.of().0 as usize];
                    compiler.derived(id, service, whole)
                }
            };
            compiled.push(steered);
        }
        let mut services = compiled;
        let Compiler { layouts, orders, mut room, large, .. } = compiler;
        let by_latency = orders.values().any(|orders| orders.orders.iter().any(Order::goes_by_latency));
        let mut slot: u32 = 0;
        for steered in &mut services {
            let groups = &layouts[steered.layout.0 as usize].groups;
            let counted = counted(&steered.configured.service, groups);
            // Of one region alone: those of the regions before it are counted before, so that this is not below 0.
            steered.slot = slot.saturating_sub(counted.start as u32);
            slot += counted.len() as u32;
            if steered.manner.balance == Balance::RoundRobin {
                (steered.turns, steered.running) = (room.turns as u32, room.running as u32);
                let pool = layouts[steered.layout.0 as usize].pool;
                room.turns += 2 * groups.len() * fleet.pool(pool).shares.len().max(1);
                room.running += 2 * groups.iter().map(|group| group.members.len()).sum::<usize>();
            }
        }
        let may_be_cname = may_be_cname(&services, &fleet);
        services.iter_mut().zip(may_be_cname).for_each(|(steered, may)| steered.may_be_cname = may);
        let labels = labels(&services, &layouts, &fleet);
        let homes = if by_latency { Homes::of(&atlas) } else { Homes::default() };
        Steering { epoch, fleet, maps, atlas, services, layouts, homes, large, labels, room }
    }

    /// How many services are configured; those behind them are derived from these.
    #[must_use]
    pub fn configured(&self) -> usize {
        self.services.partition_point(|steered| !steered.configured.service.is_derived())
    }

    /// How much room a thread needs.
    #[must_use]
    pub fn room(&self) -> Room {
        self.room
    }

    /// The service of that number.
    #[must_use]
    pub fn service(&self, id: ServiceId) -> &Steered {
        &self.services[id.0 as usize]
    }

    /// The layout of a service.
    #[must_use]
    pub fn layout(&self, id: LayoutId) -> &Layout {
        &self.layouts[id.0 as usize]
    }

    /// The first group of the order for a client at `address`, whatever its health.
    #[must_use]
    pub fn likely(&self, service: ServiceId, address: IpAddr, family: Family) -> Option<Likely<'_>> {
        let service = self.service(service);
        let (order, _) = service.orders.table.lookup(address);
        let group = *service.orders.orders[order as usize].groups.first()? as usize;
        Some(Likely { service, group, family })
    }

    /// Says why the order of `service` is what it is for a client at `address`; the same evaluation that compiled it.
    pub fn describe<T: Trace>(&self, service: &Steered, address: IpAddr, trace: &mut T) {
        let (place, _) = self.atlas.lookup(address);
        let configured = &service.configured.service;
        let map = configured.map.map(|map| Indexed::new(&self.maps[map.0 as usize]));
        let map = map.as_ref();
        let networks: Vec<IpNet> = map.map_or_else(Vec::new, |map| {
            networks_of(map.map).into_iter().filter(|network| network.contains(&address)).collect()
        });
        let client = Whereabouts { place: self.atlas.place(place), networks: &networks };
        let present = present(&self.fleet, self.layout(service.layout).pool);
        let evaluated = evaluate(&self.fleet, map, configured, &present, client, trace);
        trace_left_out(&self.fleet, &present, &evaluated, trace);
    }
}

/// Says which regions of the pool are in no place of the order, and why.
fn trace_left_out<T: Trace>(fleet: &Fleet, present: &[RegionId], evaluated: &Evaluated, trace: &mut T) {
    let why = |region: &RegionId| match &evaluated.fence {
        Some(allowed) if !allowed.contains(region) => "outside a fence",
        _ if fleet.region(*region).only_named => "only-named, and not named",
        _ => "not in the list",
    };
    let left_out = present.iter().filter(|region| !evaluated.ranking.regions.contains(region));
    let shown: Vec<String> =
        left_out.map(|region| format!("{} ({})", fleet.region(*region).name, why(region))).collect();
    if !shown.is_empty() {
        trace.note("order", || format!("left out: {}", shown.join(", ")));
    }
}

/// Which services may be answered with a CNAME; nothing for a fleet without any. One that stands in for another brings its own.
fn may_be_cname(services: &[Steered], fleet: &Fleet) -> Vec<bool> {
    if fleet.cnames.is_empty() {
        return Vec::new();
    }
    // SRV has the targets themselves.
    let is_srv = |service: &Service| matches!(service.derived.as_deref(), Some(Derived::Srv(_)));
    let has = |service: &Service| !is_srv(service) && fleet.has_cname(service.pool);
    let own: Vec<bool> = services.iter().map(|one| !one.no_cname && has(&one.configured.service)).collect();
    let stand_in = |&at: &usize| match services[at].configured.service.when_all_down {
        WhenAllDown::Service(ServiceId(next)) => Some(next as usize),
        _ => None,
    };
    // A configuration has no circles of them; whoever compiles one all the same is not kept for ever.
    let in_turn = |at| std::iter::successors(Some(at), stand_in).take(1 + MAX_FALLBACKS);
    (0..services.len()).map(|at| !services[at].no_cname && in_turn(at).any(|at| own[at])).collect()
}

/// The groups of a service whose answers are counted: of one region alone that one, of SRV none: those of the whole are.
fn counted(service: &Service, groups: &[Group]) -> Range<usize> {
    match service.derived.as_deref() {
        None => 0..groups.len(),
        Some(Derived::Srv(_)) => 0..0,
        Some(Derived::Region { region, .. }) => {
            let at = groups.iter().position(|group| group.regions[..] == [*region]);
            at.map_or(0..0, |at| at..at + 1)
        }
    }
}

/// Equal regions share one text.
fn labels(services: &[Steered], layouts: &[Layout], fleet: &Fleet) -> Labels {
    let mut texts: HashMap<String, Arc<str>> = HashMap::new();
    let mut labels = Vec::with_capacity(services.iter().map(|one| layouts[one.layout.0 as usize].groups.len()).sum());
    for steered in services {
        let groups = &layouts[steered.layout.0 as usize].groups;
        for group in &groups[counted(&steered.configured.service, groups)] {
            let text = texts.entry(group.label(fleet)).or_insert_with_key(|label| label.as_str().into());
            labels.push((Arc::clone(&steered.configured.name), Arc::clone(text)));
        }
    }
    labels.into()
}

struct Compiler<'a> {
    fleet: &'a Fleet,
    maps: &'a [Indexed<'a>],
    atlas: &'a Atlas,
    layouts: Vec<Layout>,
    layout_ids: HashMap<LayoutKey, LayoutId>,
    orders: HashMap<String, Arc<Orders>>,
    networks: HashMap<MapId, Arc<Networks>>,
    large: Vec<Arc<Orders>>,
    room: Room,
}

/// Prefix → which of a map's own networks hold it.
pub(super) struct Networks {
    pub(super) table: RangeMap<u32>,
    pub(super) sets: Vec<Vec<IpNet>>,
}

impl Compiler<'_> {
    fn service(&mut self, id: ServiceId, service: Service) -> Steered {
        let layout = self.layout_of(id, &service);
        let orders = self.orders_of(&service, layout);
        let name: Arc<str> = service.name.to_plain().to_ascii_lowercase().into();
        let Layout { groups, serves, rotates, ttl_varies, by_load, service: own, companions, .. } =
            &mut self.layouts[layout.0 as usize];
        if own.is_some() {
            *companions = (0..groups.len() as u32).map(|group| orders.companions(group)).collect();
        }
        *rotates |= service.manner.balance == Balance::RoundRobin;
        *ttl_varies |= service.manner.ttl.varies();
        let is_by_load = service.manner.balance == Balance::LeastLoad;
        *by_load |= is_by_load;
        let serves = *serves;
        self.room.groups = self.room.groups.max(groups.len());
        let largest = groups.iter().map(|group| group.members.len()).max().unwrap_or(0);
        self.room.candidates = self.room.candidates.max(largest).max(groups.len());
        if is_by_load && service.manner.answers != 1 {
            self.room.loaded = self.room.loaded.max(largest);
        }
        let hash = hash::of_name(&name);
        let has_stand_in = matches!(service.when_all_down, WhenAllDown::Service(_) | WhenAllDown::Addresses(_));
        let (manner, no_cname) = (service.manner, service.no_cname);
        let configured = Box::new(Configured { service, name });
        Steered {
            orders,
            hash,
            layout,
            slot: 0,
            turns: 0,
            running: 0,
            serves,
            has_stand_in,
            may_be_cname: false,
            no_cname,
            manner,
            configured,
        }
    }

    /// What comes of a service decides as that would: the same client keeps its instance.
    fn derived(&mut self, id: ServiceId, service: Service, whole: &Steered) -> Steered {
        if matches!(service.derived.as_deref(), Some(Derived::Region { .. })) {
            return Steered { hash: whole.hash, ..self.service(id, service) };
        }
        let name: Arc<str> = service.name.to_plain().to_ascii_lowercase().into();
        Steered {
            orders: Arc::clone(&whole.orders),
            hash: whole.hash,
            layout: whole.layout,
            slot: 0,
            turns: 0,
            running: 0,
            // It has no addresses.
            serves: [false; 2],
            has_stand_in: false,
            may_be_cname: false,
            no_cname: service.no_cname,
            manner: service.manner,
            configured: Box::new(Configured { service, name }),
        }
    }

    /// Regions of a pool are one layout for all services that spill alike, but for those with `any`: theirs depends on the
    /// map's fences; and but for those whose regions latch.
    fn layout_of(&mut self, id: ServiceId, service: &Service) -> LayoutId {
        let any = service.steer == Steer::Any;
        // The groups of `any` do not stand in for each other: each is all that some clients may have.
        // Nor has one region alone another to give way to.
        let own = (self.fleet.pool(service.pool).manual_failback && !any && !service.is_derived()).then_some(id);
        let no_cname = service.no_cname && self.fleet.has_cname(service.pool);
        let key = (service.pool, any.then_some(service.map), service.spill, own, no_cname);
        if let Some(&id) = self.layout_ids.get(&key) {
            return id;
        }
        let regions = if any { Vec::new() } else { present(self.fleet, service.pool) };
        let groups = regions.into_iter().map(|region| self.group(service.pool, vec![region], false, false)).collect();
        let serves = Family::BOTH.map(|family| {
            let of = |&id: &InstanceId| self.fleet.instance(id);
            let mut instances = self.fleet.pool(service.pool).instances.iter().map(of).filter(|i| i.weight > 0);
            let has_cname = || self.fleet.has_cname(service.pool);
            instances.any(|instance| instance.addresses.iter().any(|address| Family::of(address.ip) == family))
                || has_cname()
        });
        let id = LayoutId(self.layouts.len() as u32);
        let (pool, spill) = (service.pool, service.spill);
        let companions = Box::default();
        let (rotates, ttl_varies, by_load) = (false, false, false);
        let has_shares = !self.fleet.pool(pool).shares.is_empty();
        self.layouts.push(Layout {
            pool,
            groups,
            serves,
            no_cname,
            has_shares,
            rotates,
            ttl_varies,
            by_load,
            spill,
            service: own,
            companions,
        });
        self.layout_ids.insert(key, id);
        id
    }

    /// The instances of a pool in any of `regions`, and for `any` without a fence those that have no region.
    fn group(&self, pool: PoolId, regions: Vec<RegionId>, without_region: bool, fenced: bool) -> Group {
        let belongs = |&id: &InstanceId| {
            let of = &self.fleet.instance(id).regions;
            (without_region && of.is_empty()) || of.iter().any(|region| regions.contains(region))
        };
        let members: SmallVec<[InstanceId; 4]> =
            self.fleet.pool(pool).instances.iter().copied().filter(belongs).collect();
        let weight = members.iter().map(|&id| u64::from(self.fleet.instance(id).weight)).sum();
        let hash = regions.first().map_or(0, |&region| hash::of_name(&self.fleet.region(region).name) as u32);
        let has_homeless = members.iter().any(|&id| self.fleet.instance(id).regions.is_empty());
        Group { regions: regions.into(), members, hash, weight, fenced, has_homeless }
    }

    fn orders_of(&mut self, service: &Service, layout: LayoutId) -> Arc<Orders> {
        let any = (service.steer == Steer::Any).then_some(layout);
        let present = present(self.fleet, service.pool);
        let keeps = matches!(service.steer, Steer::Weighted { .. }) && service.manner.keeps_region();
        let key = format!("{:?} {:?} {present:?} {any:?} {keeps}", service.steer, service.map);
        if let Some(orders) = self.orders.get(&key) {
            return Arc::clone(orders);
        }
        let (table, orders) = self.compile_orders(service, layout, &present);
        let large = if table.runs() < LARGE { None } else { Large::of_table(self.large.len()) };
        let orders = Arc::new(Orders { table, orders, large });
        if orders.large.is_some() {
            self.large.push(Arc::clone(&orders));
        }
        self.orders.insert(key, Arc::clone(&orders));
        orders
    }

    /// Prefix → number of an order, and the orders.
    fn compile_orders(
        &mut self,
        service: &Service,
        layout: LayoutId,
        present: &[RegionId],
    ) -> (RangeMap<u32>, Vec<Order>) {
        let map = service.map.map(|map| &self.maps[map.0 as usize]);
        let mut collected = Collected::default();
        let fleet = self.fleet;
        let follows_place = match service.steer {
            Steer::Geo | Steer::Nearest { .. } | Steer::Latency { .. } => true,
            Steer::Failover { .. } | Steer::Weighted { .. } | Steer::Any => {
                map.is_some_and(|map| !map.map.fences.is_empty())
            }
        };
        if !follows_place {
            let client = Whereabouts { place: self.atlas.place(PlaceId(0)), networks: &[] };
            let evaluated = evaluate(fleet, map, service, present, client, &mut Silent);
            let order = self.order(service, layout, evaluated);
            return (RangeMap::uniform(collected.id(order)), collected.orders);
        }
        let networks = self.networks_of(service.map);
        let atlas = self.atlas;
        let mut known = Known::of(atlas.places().len());
        let table = atlas.map().zip(&networks.table, |place: PlaceId, set: u32| {
            let slot = known.slot(place, set);
            if *slot == Known::NOT_YET {
                let client = Whereabouts { place: atlas.place(place), networks: &networks.sets[set as usize] };
                let evaluated = evaluate(fleet, map, service, present, client, &mut Silent);
                *slot = collected.id(self.order(service, layout, evaluated));
            }
            *slot
        });
        (table, collected.orders)
    }

    /// Regions become groups of the layout.
    fn order(&mut self, service: &Service, layout: LayoutId, evaluated: Evaluated) -> Order {
        let groups: Box<[u32]> = if service.steer == Steer::Any {
            let (regions, fence) = (evaluated.ranking.regions, &evaluated.fence);
            let group = self.group(service.pool, regions, fence.is_none(), fence.is_some());
            let groups = &mut self.layouts[layout.0 as usize].groups;
            let at = groups.iter().position(|known| *known == group).unwrap_or_else(|| {
                groups.push(group);
                groups.len() - 1
            });
            Box::from([at as u32])
        } else {
            let groups = &self.layouts[layout.0 as usize].groups;
            let of = |region: &RegionId| groups.iter().position(|group| group.regions[0] == *region);
            evaluated.ranking.regions.iter().filter_map(of).map(|at| at as u32).collect()
        };
        Order { groups, runs: evaluated.ranking.runs.into(), fence: evaluated.fence.map(Into::into) }
    }

    fn networks_of(&mut self, map: Option<MapId>) -> Arc<Networks> {
        let Some(id) = map else {
            return Arc::new(Networks { table: RangeMap::uniform(0), sets: vec![Vec::new()] });
        };
        let maps = self.maps;
        let compile = || Arc::new(Networks::of(networks_of(maps[id.0 as usize].map)));
        Arc::clone(self.networks.entry(id).or_insert_with(compile))
    }
}

impl Networks {
    pub(super) fn of(mut networks: Vec<IpNet>) -> Networks {
        // Outer before inner.
        networks.sort_unstable_by_key(|network| (network.network(), network.prefix_len()));
        let mut sets = vec![Vec::new()];
        let mut around: Vec<IpNet> = Vec::new();
        let mut prefixes = Vec::with_capacity(networks.len());
        for network in networks {
            while around.pop_if(|outer| !outer.contains(&network)).is_some() {}
            around.push(network);
            prefixes.push((network, sets.len() as u32));
            sets.push(around.clone());
        }
        Networks { table: RangeMap::from_prefixes(0, prefixes), sets }
    }
}

/// One order for each pair of a place and a set of the map's networks that occurs: nearly all places are in no network,
/// few of them in any other set.
struct Known {
    outside: Vec<u32>,
    inside: HashMap<(PlaceId, u32), u32>,
}

impl Known {
    /// The order of a pair that did not occur.
    const NOT_YET: u32 = u32::MAX;

    fn of(places: usize) -> Known {
        Known { outside: vec![Known::NOT_YET; places], inside: HashMap::new() }
    }

    fn slot(&mut self, place: PlaceId, set: u32) -> &mut u32 {
        match set {
            0 => &mut self.outside[place.0 as usize],
            _ => self.inside.entry((place, set)).or_insert(Known::NOT_YET),
        }
    }
}

/// All networks that the entries and fences of a map name, each once.
pub(super) fn networks_of(map: &Map) -> Vec<IpNet> {
    let entries = map.entries.iter().flat_map(|entry| entry.selector.networks());
    let fences = map.fences.iter().flat_map(|fence| fence.selector.networks());
    let mut networks: Vec<IpNet> = entries.chain(fences).collect();
    networks.sort_unstable();
    networks.dedup();
    networks
}

/// Distinct orders while they are collected.
#[derive(Default)]
struct Collected {
    orders: Vec<Order>,
    ids: HashMap<Order, u32>,
}

impl Collected {
    fn id(&mut self, order: Order) -> u32 {
        let next = self.orders.len() as u32;
        *self.ids.entry(order).or_insert_with_key(|order| {
            self.orders.push(order.clone());
            next
        })
    }
}

/// Regions in which a pool has an instance, in configured order.
fn present(fleet: &Fleet, pool: PoolId) -> Vec<RegionId> {
    let regions = fleet.pool(pool).instances.iter().flat_map(|&id| fleet.instance(id).regions.iter().copied());
    let mut present: Vec<RegionId> = regions.collect();
    present.sort_unstable();
    present.dedup();
    present
}

/// The one place that decides an order: policy first, fences over it.
fn evaluate<T: Trace>(
    fleet: &Fleet,
    map: Option<&Indexed<'_>>,
    service: &Service,
    present: &[RegionId],
    client: Whereabouts<'_>,
    trace: &mut T,
) -> Evaluated {
    let mut ranking = policy(fleet, map, service, present, client, trace);
    let fence = map.and_then(|map| fence::allowed(map, client, fleet, trace));
    if let Some(allowed) = &fence {
        ranking.keep(allowed);
        trace.note("order", || format!("within the fences: {}", fence::names(fleet, &ranking.regions)));
    }
    Evaluated { ranking, fence }
}

fn policy<T: Trace>(
    fleet: &Fleet,
    map: Option<&Indexed<'_>>,
    service: &Service,
    present: &[RegionId],
    client: Whereabouts<'_>,
    trace: &mut T,
) -> Ranking {
    let plain = map.map(|map| map.map);
    match (&service.steer, map) {
        (Steer::Geo, Some(map)) => geo::order(map, client, fleet, present, trace),
        // A configuration without a map for `geo` is refused at load.
        (Steer::Geo, None) => Ranking::default(),
        (Steer::Nearest { tolerance }, _) => nearest::order(plain, *tolerance, client.place, fleet, present, trace),
        (Steer::Latency { tolerance }, _) => latency::order(plain, *tolerance, client.place, fleet, present, trace),
        (Steer::Failover { order }, _) => {
            let regions = failover::order(order, present);
            trace.note("order", || format!("failover: {}", fence::names(fleet, &regions)));
            Ranking::fixed(regions)
        }
        (Steer::Weighted { shares }, _) => {
            let ranking = weighted::order(fleet, shares, present, service.manner.keeps_region());
            trace.note("order", || format!("by shares: {}", fence::names(fleet, &ranking.regions)));
            ranking
        }
        (Steer::Any, _) => {
            let open = nearest::open(fleet, present);
            trace.note("order", || "any: all regions are one group".into());
            Ranking::fixed(open)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_the_networks_around_an_address() {
        let texts = ["10.1.2.0/24", "10.0.0.0/8", "2a00::/16", "10.1.0.0/16", "10.2.0.0/16", "11.0.0.0/8", "::/0"];
        let all: Vec<IpNet> = texts.iter().map(|text| text.parse().expect("a prefix")).collect();
        let networks = Networks::of(all.clone());
        for address in ["10.1.2.3", "10.1.3.1", "10.2.0.1", "10.3.0.1", "11.1.2.3", "12.0.0.0", "2a00::1", "2b00::"] {
            let address: IpAddr = address.parse().expect("ip");
            let mut around: Vec<IpNet> = all.iter().copied().filter(|network| network.contains(&address)).collect();
            around.sort_unstable();
            assert_eq!(networks.sets[networks.table.lookup(address).0 as usize], around, "{address}");
        }
    }

    #[test]
    fn many_networks_and_places_need_room_for_the_pairs_that_occur() {
        let (places, sets) = (40_000, 10_000);
        let mut known = Known::of(places);
        for set in 0..sets {
            assert_eq!(*known.slot(PlaceId(set), set), Known::NOT_YET);
            *known.slot(PlaceId(set), set) = set;
        }
        assert_eq!((*known.slot(PlaceId(7), 7), *known.slot(PlaceId(0), 0)), (7, 0));
        assert_eq!((known.outside.len(), known.inside.len()), (places, sets as usize - 1));
    }
}
