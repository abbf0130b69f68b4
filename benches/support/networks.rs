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

/// A network and what is said of it.
pub(crate) struct Network {
    prefix: IpNet,
    continent: &'static str,
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
