//! One map of all addresses, compiled from everything that says where clients are.
//!
//! Layers, each over the next: the operator's networks (the longest match alone speaks), then the data bases in order. What
//! a layer leaves open the next one adds (SPEC 1.5 `[geo]`); a layer that names a country and no continent speaks for the
//! country's continent as well. Of a lower layer that means another country or continent only the autonomous system is
//! used.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use super::places::{Interner, NumberMap, Places};
use super::{Database, Place, PlaceId, RangeMap};

/// Where every address is.
#[derive(Clone, Debug)]
pub struct Atlas {
    map: RangeMap<PlaceId>,
    places: Places,
}

impl Atlas {
    /// Merges the layers; equal places get one number.
    pub fn compile(data: &Data) -> Atlas {
        let networks = (!data.networks.is_empty()).then(|| Atlas::of_networks(&data.networks));
        let databases = data.databases.iter().map(Atlas::of_database);
        networks.into_iter().chain(databases).reduce(|above, below| above.over(&below)).unwrap_or_default()
    }

    /// The place of an address, and the length of the widest prefix around it that lies wholly in this place.
    #[inline]
    pub fn lookup(&self, address: IpAddr) -> (PlaceId, u8) {
        self.map.lookup(address)
    }

    /// The place with this number, which came from this atlas.
    pub fn place(&self, id: PlaceId) -> &Place {
        self.places.get(id)
    }

    /// All places by number; the first is the unknown one. Some may have no address left.
    pub fn places(&self) -> &[Place] {
        self.places.as_slice()
    }

    /// Address → place.
    pub fn map(&self) -> &RangeMap<PlaceId> {
        &self.map
    }

    fn of_networks(networks: &[Network]) -> Atlas {
        let mut interner = Interner::new();
        let places = networks.iter().map(|network| interner.intern(network.place.clone().with_continent()));
        let prefixes: Vec<(IpNet, PlaceId)> = networks.iter().map(|network| network.prefix).zip(places).collect();
        Atlas { map: RangeMap::from_prefixes(PlaceId::UNKNOWN, prefixes), places: interner.finish() }
    }

    fn of_database(database: &Database) -> Atlas {
        Atlas { map: database.map().clone(), places: database.places.clone() }
    }

    fn over(&self, below: &Atlas) -> Atlas {
        let mut interner = Interner::new();
        let mut known: NumberMap<PlaceId> = NumberMap::default();
        let map = self.map.zip(&below.map, |upper, lower| {
            *known
                .entry(u64::from(upper.0) << 32 | u64::from(lower.0))
                .or_insert_with(|| interner.intern(self.place(upper).over(below.place(lower))))
        });
        Atlas { map, places: interner.finish() }
    }
}

/// Nobody knows anything.
impl Default for Atlas {
    fn default() -> Atlas {
        Atlas { map: RangeMap::uniform(PlaceId::UNKNOWN), places: Interner::new().finish() }
    }
}

/// All that says where clients are: networks first, then the data bases in order.
#[derive(Debug, Default)]
pub struct Data {
    /// `[geo] networks`.
    pub networks: Vec<Network>,
    /// `[geo] databases`, in configured order.
    pub databases: Vec<Database>,
}

/// A prefix and what the operator says of it; what is `None` comes from the data bases.
#[derive(Clone, Debug, PartialEq)]
pub struct Network {
    /// Clients in it; the longest match wins.
    pub prefix: IpNet,
    /// What is known.
    pub place: Place,
}

/// One that had something to say of an address.
#[derive(Clone, Debug, PartialEq)]
pub struct Source {
    /// `networks`, or the name of the data base.
    pub name: String,
    /// The network as configured; of a data base the widest prefix of which it says the same.
    pub prefix: IpNet,
    /// All it says.
    pub place: Place,
    /// What of that is used, as no layer above it said it: `country`, `as`, `coordinates` …
    pub used: Vec<&'static str>,
}

impl Data {
    /// Who says what of an address, uppermost layer first, for `explain`; empty where nobody knows it.
    pub fn sources(&self, address: IpAddr) -> Vec<Source> {
        let network = self.network(address).into_iter();
        let layers = network.chain(self.databases.iter().map(|database| database.says(address)));
        let mut known = Place::UNKNOWN;
        let mut sources = Vec::new();
        for (name, prefix, place) in layers.filter(|(_, _, place)| !place.is_unknown()) {
            let before = known.parts();
            known = known.over(&place);
            let used = known.parts().into_iter().filter(|part| !before.contains(part)).collect();
            sources.push(Source { name, prefix, place, used });
        }
        sources
    }

    fn network(&self, address: IpAddr) -> Option<(String, IpNet, Place)> {
        let around = self.networks.iter().filter(|network| network.prefix.contains(&address));
        let longest = around.max_by_key(|network| network.prefix.prefix_len())?;
        Some(("networks".into(), longest.prefix.trunc(), longest.place.clone().with_continent()))
    }
}

/// `networks 203.0.113.0/24 (country, coordinates)`.
impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let used = if self.used.is_empty() { "nothing used".into() } else { self.used.join(", ") };
        write!(f, "{} {} ({used})", self.name, self.prefix)
    }
}
