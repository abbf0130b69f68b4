//! The steered services and maps of a configuration, with names already turned into numbers (SPEC 1.5, 4, 5).

use std::net::IpAddr;

use ipnet::IpNet;

use super::beside::{Beside, Derived};
use crate::dns::Name;
use crate::fleet::{PoolId, RegionId};
use crate::geo::Code;
use crate::health::group::STEADY;

/// Index into the configuration's services.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceId(pub u32);
/// Index into the configuration's maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MapId(pub u32);

/// A DNS name that is steered.
#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    /// Owner name, may be a wildcard.
    pub name: Name,
    /// Further owner names that answer alike.
    pub aliases: Vec<Name>,
    /// Where its instances are.
    pub pool: PoolId,
    /// Which region.
    pub steer: Steer,
    /// The map: what `geo` follows, fences for every other `steer`, `default` for `nearest`.
    pub map: Option<MapId>,
    /// How much of its clients each part of a region's weight stands for, in thousandths, when the rest goes on to the next
    /// region; `None` = all stay (SPEC 3.4).
    pub spill: Option<u32>,
    /// What to answer when nothing works.
    pub when_all_down: WhenAllDown,
    /// How its answers are made.
    pub manner: Manner,
    /// Whether no CNAME may stand at one of its names, as that is a zone's: it is answered with the addresses behind it.
    pub no_cname: bool,
    /// What it answers beside addresses; of most services nothing.
    pub beside: Option<Box<Beside>>,
    /// What it is of another service, when it comes of one.
    pub derived: Option<Box<Derived>>,
}

/// How a service's answers are made: what each of them reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Manner {
    /// How long its answers may be kept.
    pub ttl: Ttl,
    /// Most addresses in one answer; 0 = all.
    pub answers: u16,
    /// How clients are grouped for everything that keeps a client where it is.
    pub sticky: Sticky,
    /// Which instance.
    pub balance: Balance,
    /// Whether ECS is looked at.
    pub ecs: bool,
}

impl Manner {
    /// Whether the region of a client is to stay the same where it would be drawn.
    #[must_use]
    pub fn keeps_region(&self) -> bool {
        self.balance == Balance::Sticky || self.sticky.level == StickyLevel::Region
    }
}

/// How long answers may be kept, in seconds (SPEC 6).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ttl {
    /// While nothing speaks against the verdicts that an answer goes by.
    pub max: u32,
    /// While failing open or frozen, and of negative answers; the same as `max` where it is fixed.
    pub min: u32,
}

impl Ttl {
    /// Whether it follows health.
    #[must_use]
    pub fn varies(self) -> bool {
        self.min < self.max
    }

    /// The TTL of an answer whose verdicts last this many seconds at least; [`STEADY`] = nothing speaks against them.
    #[must_use]
    pub fn within(self, steady_for: u16) -> u32 {
        if steady_for == STEADY { self.max } else { u32::from(steady_for).clamp(self.min, self.max) }
    }
}

/// Regions that take so much longer than the best are equals unless a service says otherwise, in tenths of a millisecond.
pub const TOLERANCE: u16 = 100;

/// How the regions are ordered for a client.
#[derive(Clone, Debug, PartialEq)]
pub enum Steer {
    /// By the map entry that fits the client best.
    Geo,
    /// By distance; regions within this share (1/10 000) of the nearest are equals.
    Nearest {
        /// In 1/10 000 of the nearest distance.
        tolerance: u16,
    },
    /// By measured round-trip time; regions within this time of the best are equals.
    Latency {
        /// In tenths of a millisecond.
        tolerance: u16,
    },
    /// In this order.
    Failover {
        /// Regions that hold instances of the pool, most wanted first.
        order: Vec<RegionId>,
    },
    /// At random by these shares.
    Weighted {
        /// Share of each region; one that is not named has 0 and comes last.
        shares: Vec<(RegionId, u32)>,
    },
    /// All regions are one group.
    Any,
}

/// How instances are picked inside the region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Balance {
    /// Without replacement, probability by weight.
    Weighted,
    /// Smooth weighted round-robin, exact for each worker.
    RoundRobin,
    /// Weighted rendezvous hashing of the client prefix.
    Sticky,
    /// As weighted, all weights equal.
    Random,
    /// Of two drawn by weight the one with the lower load ÷ capacity.
    LeastLoad,
}

/// What is answered when no instance is eligible.
#[derive(Clone, Debug, PartialEq)]
pub enum WhenAllDown {
    /// As if the instances of the region that failed last were up.
    ServeAll,
    /// NOERROR without records.
    Nodata,
    /// SERVFAIL.
    Servfail,
    /// Ask another service.
    Service(ServiceId),
    /// These addresses.
    Addresses(Vec<IpAddr>),
}

/// What groups clients, and what stays the same for a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sticky {
    /// What a client's key is made of.
    pub by: StickyBy,
    /// What the key decides, where regions are drawn or instances are `sticky`.
    pub level: StickyLevel,
    /// Prefix length for IPv4 clients, 0..=32.
    pub ipv4: u8,
    /// Prefix length for IPv6 clients, 0..=128.
    pub ipv6: u8,
}

/// Clients keep their instance by /24 and /56.
impl Default for Sticky {
    fn default() -> Sticky {
        Sticky { by: StickyBy::Client, level: StickyLevel::Instance, ipv4: 24, ipv6: 56 }
    }
}

impl Sticky {
    /// The mask for an address's family.
    #[must_use]
    pub fn bits(self, address: IpAddr) -> u8 {
        if address.is_ipv4() { self.ipv4 } else { self.ipv6 }
    }
}

/// What a client's key is made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StickyBy {
    /// Its prefix.
    #[default]
    Client,
    /// The leftmost label of the name asked, of a wildcard service.
    Label,
}

/// What a client keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StickyLevel {
    /// Its instance, where those are balanced by `sticky`; then the region as well.
    #[default]
    Instance,
    /// Its region; instances are balanced inside.
    Region,
}

/// Place of the client → ordered regions.
#[derive(Clone, Debug, PartialEq)]
pub struct Map {
    /// As configured, `world`.
    pub name: String,
    /// Order inside a tier.
    pub within: Within,
    /// What fences say to clients of unknown place.
    pub fence_unknown: FenceUnknown,
    /// For clients that no entry fits.
    pub default: List,
    /// In configured order.
    pub entries: Vec<MapEntry<List>>,
    /// Hard limits, in configured order.
    pub fences: Vec<MapEntry<Vec<RegionId>>>,
}

/// A selector and what it selects.
#[derive(Clone, Debug, PartialEq)]
pub struct MapEntry<T> {
    /// As written, for traces: `country:DE`.
    pub text: String,
    /// The same, parsed.
    pub selector: Selector,
    /// What clients it fits get.
    pub value: T,
}

/// Conditions that must all hold of a client; at least one.
#[derive(Clone, Debug, PartialEq)]
pub struct Selector(pub Vec<Part>);

/// One condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// The client's prefix lies in it.
    Network(IpNet),
    /// Its autonomous system.
    As(u32),
    /// GeoNames id of its city.
    City(u32),
    /// ISO 3166-2, `US-CA`.
    Subdivision(Box<str>),
    /// Its country.
    Country(Code),
    /// Its continent.
    Continent(Code),
}

/// An ordered list of a map.
pub type List = Vec<Element>;

/// An element of a [`List`].
#[derive(Clone, Debug, PartialEq)]
pub enum Element {
    /// One region.
    Region(RegionId),
    /// Equals, ordered by the map's `within`.
    Tier(Vec<RegionId>),
    /// Shares of the clients; each goes on to the others by its own order.
    Split(Vec<(RegionId, u32)>),
    /// `"*"`: every region that the list does not name, nearest to the client first.
    Rest,
}

/// Order inside a tier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Within {
    /// Nearest to the client first.
    Nearest,
    /// By measured round-trip time; those without come after, nearest first.
    Latency,
    /// As listed.
    Listed,
}

/// What a map's fences say to clients of unknown place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FenceUnknown {
    /// Nothing: they go by `default`.
    Default,
    /// They get NODATA.
    Nodata,
}
