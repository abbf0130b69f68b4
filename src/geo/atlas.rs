//! One map of all addresses, compiled from everything that says where clients are.
//!
//! Layers, each over the next: the operator's networks (the longest match alone speaks), then the data bases in order.
//! What a layer leaves open the next one adds (SPEC 1.5 `[geo]`); a layer that names a country and no continent speaks
//! for the country's continent as well. Of a lower layer that means another country or continent only the autonomous
//! system is used.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use super::places::{Interner, NumberMap, Places};
use super::{Database, Known, Place, PlaceId, RangeMap};

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

    /// All that is known, to be measured.
    pub fn known(&self) -> Known<'_> {
        Known { map: &self.map, places: self.places() }
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
            // Most pairs add nothing to the upper place; they need not be told apart.
            let lower = if self.place(upper).gains_from(below.place(lower)) { lower } else { PlaceId::UNKNOWN };
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
#[derive(Clone, Debug, Default)]
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::geo::mmdb::{Value, Writer, map, text};
    use crate::geo::{Code, Coordinates};

    fn network(prefix: &str, place: Place) -> Network {
        Network { prefix: prefix.parse().unwrap(), place }
    }

    fn country(code: &str) -> Place {
        Place { country: Code::parse(code), ..Place::UNKNOWN }
    }

    fn as_number(number: u32) -> Place {
        Place { as_number: Some(number), ..Place::UNKNOWN }
    }

    fn database(name: &str, networks: impl IntoIterator<Item = (&'static str, Value)>) -> Database {
        Database::parse(name.into(), Writer::new(networks).write()).unwrap()
    }

    fn cities() -> Database {
        let city = |country: &str, id: u32, latitude: f64, longitude: f64| {
            map([
                ("city", map([("geoname_id", Value::U32(id))])),
                ("country", map([("iso_code", text(country))])),
                ("location", map([("latitude", Value::Double(latitude)), ("longitude", Value::Double(longitude))])),
            ])
        };
        database(
            "city.mmdb",
            [
                ("203.0.113.0/24", city("DE", 2_925_533, 50.1, 8.7)),
                ("192.0.2.0/24", city("US", 4_887_398, 41.9, -87.6)),
            ],
        )
    }

    fn systems() -> Database {
        let system = |number| {
            map([("autonomous_system_number", Value::U32(number)), ("autonomous_system_organization", text("Example"))])
        };
        database("asn.mmdb", [("203.0.113.0/25", system(64500)), ("198.51.100.0/24", system(64501))])
    }

    fn said(data: &Data, address: &str) -> (String, u8) {
        let atlas = Atlas::compile(data);
        let (id, scope) = atlas.lookup(address.parse().unwrap());
        (atlas.place(id).to_string(), scope)
    }

    #[test]
    fn nothing_is_known_without_data() {
        assert_eq!(said(&Data::default(), "192.0.2.1"), ("unknown".into(), 0));
        assert_eq!(Atlas::default().lookup("::1".parse().unwrap()), (PlaceId::UNKNOWN, 0));
    }

    #[test]
    fn layers_add_what_is_absent_above() {
        let networks = vec![
            network("203.0.113.0/24", as_number(64999)),
            network("203.0.113.64/26", country("AT")),
            network(
                "192.0.2.0/28",
                Place { coordinates: Some(Coordinates { latitude: 42.0, longitude: -88.0 }), ..Place::UNKNOWN },
            ),
            network("10.0.0.0/8", country("TR")),
        ];
        let data = Data { networks, databases: vec![cities(), systems()] };
        for (address, place, scope) in [
            ("203.0.113.1", "continent EU, country DE, city 2925533, as 64999, at 50.1 8.7", 26),
            ("203.0.113.200", "continent EU, country DE, city 2925533, as 64999, at 50.1 8.7", 25),
            ("203.0.113.65", "continent EU, country AT, as 64500", 26),
            ("192.0.2.1", "continent NA, country US, city 4887398, at 42 -88", 28),
            ("192.0.2.99", "continent NA, country US, city 4887398, at 41.9 -87.6", 26),
            ("198.51.100.1", "as 64501", 24),
            ("10.9.8.7", "continent AS, country TR", 8),
            ("2001:db8::1", "unknown", 0),
        ] {
            assert_eq!(said(&data, address), (place.into(), scope), "{address}");
        }
    }

    #[test]
    fn the_first_data_base_wins() {
        let other =
            database("other.mmdb", [("203.0.113.0/24", map([("country_code", text("FR")), ("asn", text("AS64502"))]))]);
        let forth = Data { networks: vec![], databases: vec![cities(), other.clone()] };
        assert_eq!(said(&forth, "203.0.113.1").0, "continent EU, country DE, city 2925533, as 64502, at 50.1 8.7");
        let back = Data { networks: vec![], databases: vec![other, cities()] };
        assert_eq!(said(&back, "203.0.113.1").0, "continent EU, country FR, as 64502");
    }

    #[test]
    fn sources_say_who_said_what() {
        let networks = vec![network("203.0.113.0/24", as_number(64999)), network("203.0.0.0/16", country("AT"))];
        let data = Data { networks, databases: vec![cities(), systems()] };
        let sources = |address: &str| {
            let found = data.sources(address.parse().unwrap());
            found.iter().map(Source::to_string).collect::<Vec<_>>().join("; ")
        };
        assert_eq!(
            sources("203.0.113.1"),
            "networks 203.0.113.0/24 (as); city.mmdb 203.0.113.0/24 (continent, country, city, coordinates); \
             asn.mmdb 203.0.113.0/25 (nothing used)"
        );
        assert_eq!(sources("203.0.1.1"), "networks 203.0.0.0/16 (continent, country)");
        assert_eq!(sources("2001:db8::1"), "");
    }

    /// Prefixes in 10.0.0.0/8 only, so that layers overlap.
    fn layer() -> impl Strategy<Value = Vec<(IpNet, Place)>> {
        let prefix = (any::<u32>(), 8u8..=14).prop_map(|(noise, length)| {
            let address = std::net::Ipv4Addr::from(0x0a00_0000 | noise & 0x000f_ffff);
            IpNet::new(address.into(), length).unwrap().trunc()
        });
        let code = prop::sample::select(vec![None, Some("DE"), Some("FR"), Some("US")]);
        let place =
            (code, prop::option::of(1u32..3), prop::option::of(1u32..3)).prop_map(|(country, city, as_number)| Place {
                country: country.and_then(Code::parse),
                city,
                as_number,
                ..Place::UNKNOWN
            });
        prop::collection::btree_map(prefix, place, 0..12).prop_map(|layer| layer.into_iter().collect())
    }

    fn record(place: &Place) -> Value {
        let country = place.country.map(|code| ("country_code".to_owned(), text(&code.to_string())));
        let city = place.city.map(|id| ("city_geoname_id".to_owned(), Value::U32(id)));
        let system = place.as_number.map(|number| ("asn".to_owned(), Value::U32(number)));
        Value::Map([country, city, system].into_iter().flatten().collect())
    }

    fn longest(layer: &[(IpNet, Place)], address: IpAddr) -> Place {
        let around = layer.iter().filter(|(prefix, _)| prefix.contains(&address));
        let place = around.max_by_key(|(prefix, _)| prefix.prefix_len()).map(|(_, place)| place.clone());
        place.unwrap_or_default().with_continent()
    }

    proptest! {
        #[test]
        fn compiles_what_the_layers_say(
            networks in layer(),
            below in prop::collection::vec(layer(), 0..3),
            noise in any::<u32>(),
        ) {
            let useful = |layer: &Vec<(IpNet, Place)>| layer.iter().any(|(_, place)| !place.is_unknown());
            let below: Vec<_> = below.into_iter().filter(useful).collect();
            let databases = below.iter().map(|layer| {
                let networks = layer.iter().map(|(prefix, place)| (*prefix, record(place))).collect();
                Database::parse("x".into(), Writer { networks, ..Writer::new([]) }.write()).unwrap()
            });
            let data = Data {
                databases: databases.collect(),
                networks: networks.iter().cloned().map(|(prefix, place)| Network { prefix, place }).collect(),
            };
            let atlas = Atlas::compile(&data);
            let layers: Vec<_> = std::iter::once(&networks).chain(&below).collect();
            let edges = layers.iter().flat_map(|layer| layer.iter().flat_map(|(p, _)| [p.network(), p.broadcast()]));
            for address in edges.chain([std::net::Ipv4Addr::from(0x0a00_0000 | noise >> 8).into()]) {
                let said = layers.iter().map(|layer| longest(layer, address));
                let expected = said.reduce(|above, below| above.over(&below));
                let (id, scope) = atlas.lookup(address);
                prop_assert_eq!(atlas.place(id), &expected.unwrap());
                let source = data.sources(address).into_iter().flat_map(|source| source.used).count();
                prop_assert_eq!(source, atlas.place(id).parts().len());
                let around = IpNet::new(address, scope).unwrap().trunc();
                prop_assert_eq!(atlas.lookup(around.broadcast()), (id, scope));
            }
        }
    }
}
