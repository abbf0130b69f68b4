//! Where clients are: the same networks for Waymark, as TOML, and for its peers, as a MaxMind DB file.

use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net};

use super::mmdb::{self, Value, map, text};

/// All public IPv4 space in networks of this many bits.
const BITS: u8 = 14;

/// Continent codes with a country of each, and a place in it.
const PLACES: [(&str, &str, f64, f64); 6] = [
    ("EU", "DE", 50.1, 8.7),
    ("NA", "US", 39.0, -77.5),
    ("AS", "SG", 1.3, 103.8),
    ("SA", "BR", -23.5, -46.6),
    ("OC", "AU", -33.9, 151.2),
    ("AF", "ZA", -26.2, 28.0),
];

/// Bits of a network of one city.
const CITY_BITS: u8 = 20;
/// Cities in all, by their numbers from 1 on.
pub(crate) const CITIES: usize = 5000;
/// Bits of a network of one autonomous system.
const SYSTEM_BITS: u8 = 18;
/// Autonomous systems in all.
pub(crate) const SYSTEMS: usize = 5000;
/// The number of the first of them.
pub(crate) const FIRST_SYSTEM: u32 = 64_500;

/// A network and what is said of it.
pub(crate) struct Network {
    pub(crate) prefix: IpNet,
    pub(crate) continent: &'static str,
    country: &'static str,
    latitude: f64,
    longitude: f64,
}

/// 1.0.0.0 to 223.255.255.255 without a gap, neighbours on different continents; a thousand places in all.
pub(crate) fn networks() -> Vec<Network> {
    let last = 224u32 << 24;
    (1u32 << 24..last).step_by(1 << (32 - BITS)).enumerate().map(|(at, address)| network(at, address)).collect()
}

fn network(at: usize, address: u32) -> Network {
    let (continent, country, latitude, longitude) = PLACES[at % PLACES.len()];
    let prefix = Ipv4Net::new(Ipv4Addr::from(address), BITS).expect("bits of a prefix");
    // Places around the middle of each country, as far as 8 degrees east of it.
    let longitude = longitude + (at % 1000) as f64 / 125.0;
    Network { prefix: prefix.into(), continent, country, latitude, longitude }
}

/// The file of `[geo] networks`.
pub(crate) fn toml(networks: &[Network]) -> String {
    networks.iter().fold(String::new(), |mut text, network| {
        let Network { prefix, continent, country, latitude, longitude } = network;
        let _ = writeln!(
            text,
            "\"{prefix}\" = {{ continent = \"{continent}\", country = \"{country}\", latitude = {latitude:.3}, \
             longitude = {longitude:.3} }}"
        );
        text
    })
}

/// A MaxMind DB file of version 6, in which IPv4 networks are at `::/96` and loopback is, of all places, in Germany.
pub(crate) fn mmdb(networks: &[Network]) -> Vec<u8> {
    let mut writer = mmdb::Writer::new([("127.0.0.0/8", place(&network(0, 127 << 24)))]);
    writer.networks.extend(networks.iter().filter(|network| !is_loopback(network)).map(|one| (one.prefix, place(one))));
    writer.write()
}

/// A file that says in which city each part of the networks is, and in which subdivision.
pub(crate) fn cities(networks: &[Network]) -> Vec<u8> {
    let value = |network: &Network, part: usize| {
        let mut entries = vec![("city", map([("geoname_id", Value::U32((scattered(part) % CITIES + 1) as u32))]))];
        let subdivision = [("DE", "BE"), ("US", "CA")].into_iter().find(|(country, _)| *country == network.country);
        if let Some((_, code)) = subdivision {
            entries.push(("country", map([("iso_code", text(network.country))])));
            entries.push(("subdivisions", Value::Array(vec![map([("iso_code", text(code))])])));
        }
        Value::Map(entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
    };
    parts(networks, CITY_BITS, value)
}

/// A file that says of which autonomous system each part of the networks is.
pub(crate) fn systems(networks: &[Network]) -> Vec<u8> {
    parts(networks, SYSTEM_BITS, |_, part| {
        map([("autonomous_system_number", Value::U32(FIRST_SYSTEM + (scattered(part) % SYSTEMS) as u32))])
    })
}

/// A MaxMind DB file of the networks in parts of so many bits, by their number.
fn parts(networks: &[Network], bits: u8, value: impl Fn(&Network, usize) -> Value) -> Vec<u8> {
    let parts = |network: &IpNet| network.subnets(bits).expect("more bits than the network has");
    let parts = networks.iter().flat_map(|network| parts(&network.prefix).map(move |part| (network, part)));
    let networks = parts.enumerate().map(|(at, (network, part))| (part, value(network, at)));
    mmdb::Writer { networks: networks.collect(), ..mmdb::Writer::new([]) }.write()
}

/// A number that looks random, so that neighbours have little in common.
fn scattered(number: usize) -> usize {
    number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40
}

fn is_loopback(network: &Network) -> bool {
    matches!(network.prefix.addr(), IpAddr::V4(address) if address.is_loopback())
}

fn place(network: &Network) -> Value {
    let location =
        map([("latitude", Value::Double(network.latitude)), ("longitude", Value::Double(network.longitude))]);
    map([
        ("continent", map([("code", text(network.continent))])),
        ("country", map([("iso_code", text(network.country))])),
        ("location", location),
    ])
}
