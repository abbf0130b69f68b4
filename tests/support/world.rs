//! A made-up world, laid out as publishers of geo data bases have it: blocks of registries are cut into those of
//! countries, these into networks of cities, with gaps, exceptions inside, and records that say little. With it come a
//! map, as Waymark and gdnsd are told it, and a second evaluation of both, which reads the data base file by the crate
//! `maxminddb` and shares nothing with the code under test.
//!
//! What gdnsd cannot say alike is not in this world: a country without coordinates (SPEC 4.4 takes its middle, gdnsd the
//! default), cities that are named outside their subdivision, tiers, fences.

// Each program that includes this file uses a part of it.
#![allow(dead_code, unreachable_pub)]

use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use maxminddb::Reader;
use serde::Deserialize;

use super::mmdb::{self, Value, map, text};

/// Latitude and longitude of each region, or datacenter.
pub const REGIONS: [(f64, f64); 8] = [
    (53.35, -6.26),
    (50.11, 8.68),
    (38.95, -77.45),
    (45.84, -119.7),
    (-23.55, -46.63),
    (1.35, 103.82),
    (35.68, 139.69),
    (-33.87, 151.21),
];

/// The map by place: `CONTINENT/COUNTRY/SUBDIVISION/#n`, which is the n-th city there, and its regions by number, or `*`
/// for all of them, nearest first. Everywhere else all of them are in the order of distance, too.
const ENTRIES: [(&str, &str); 14] = [
    ("EU", "0 1 2"),
    ("EU/DE", "1 0"),
    ("EU/FR", "*"),
    ("EU/GB/SCT", "0 1"),
    ("NA/US", "*"),
    ("NA/US/VA", "2 3"),
    ("NA/US/VA/#0", "3"),
    ("NA/US/CA", "3 2"),
    ("NA/CA", "2 3"),
    ("AS", "5 6 7"),
    ("AS/JP", "6 5"),
    ("AS/IN", "*"),
    ("OC", "7 5"),
    ("SA/BR/SP", "4"),
];

/// The map by network, which goes before.
const NETWORKS: [(&str, &str); 11] = [
    ("10.0.0.0/8", "6"),
    ("81.0.0.0/10", "0 1"),
    ("81.16.0.0/12", "4"),
    ("81.16.32.0/19", "0 1"),
    ("198.51.100.0/24", "7 6"),
    ("203.0.112.0/22", "3"),
    ("2001:db8::/32", "7"),
    ("2400:c000::/19", "6 5"),
    ("2600:8000::/24", "2"),
    ("2a00::/20", "1"),
    ("2a00:40::/36", "3 2"),
];

/// Continent, country, where that is, subdivisions.
const COUNTRIES: [(&str, &str, f64, f64, &[&str]); 25] = [
    ("EU", "DE", 51.0, 10.0, &["BE", "BY", "HE"]),
    ("EU", "FR", 46.5, 2.5, &["IDF", "PAC"]),
    ("EU", "GB", 54.0, -2.0, &["ENG", "SCT", "WLS"]),
    ("EU", "SE", 60.0, 15.0, &[]),
    ("EU", "PL", 52.0, 19.0, &["14"]),
    ("EU", "ES", 40.0, -4.0, &["MD", "CT"]),
    ("EU", "IE", 53.0, -8.0, &[]),
    ("NA", "US", 39.0, -97.0, &["VA", "CA", "TX", "NY"]),
    ("NA", "CA", 50.0, -95.0, &["ON", "BC"]),
    ("NA", "MX", 23.0, -102.0, &["CMX"]),
    ("SA", "BR", -12.0, -50.0, &["SP", "RJ", "BA"]),
    ("SA", "AR", -35.0, -64.0, &[]),
    ("SA", "CL", -33.0, -71.0, &["RM"]),
    ("AS", "JP", 36.0, 138.0, &["13", "27"]),
    ("AS", "IN", 21.0, 78.0, &["MH", "KA"]),
    ("AS", "SG", 1.4, 103.8, &[]),
    ("AS", "TR", 39.0, 35.0, &["34", "06"]),
    ("AS", "KR", 37.0, 127.5, &["11"]),
    ("AS", "AE", 24.0, 54.0, &["DU"]),
    ("OC", "AU", -25.0, 134.0, &["NSW", "WA"]),
    ("OC", "NZ", -41.0, 174.0, &["AUK"]),
    ("AF", "ZA", -29.0, 24.0, &["GT", "WC"]),
    ("AF", "NG", 9.0, 8.0, &["LA"]),
    ("AF", "EG", 27.0, 30.0, &["C"]),
    ("AF", "KE", 0.5, 38.0, &[]),
];
const CONTINENTS: [&str; 7] = ["EU", "NA", "SA", "AS", "OC", "AF", "AN"];

/// Blocks of IPv6 that registries hand out from.
const REGISTRIES: [u128; 6] = [0x2001_0200, 0x2400_0000, 0x2600_0000, 0x2800_0000, 0x2a00_0000, 0x2c00_0000];

/// How much of a world there is.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Cities of each country, 1 to 100 000.
    pub cities: u32,
    /// Bits of most IPv4 networks, up to 24.
    pub ipv4: u8,
    /// Bits of most IPv6 networks, from 33.
    pub ipv6: u8,
    /// Allocations (/32) of each registry, up to 65 536.
    pub allocations: u32,
}

impl Size {
    /// As a data base of cities is sold: some seven million networks, 100 000 places.
    pub const FULL: Size = Size { cities: 4000, ipv4: 24, ipv6: 40, allocations: 3000 };
    /// Some thirty thousand networks.
    pub const SMALL: Size = Size { cities: 60, ipv4: 15, ipv6: 35, allocations: 150 };
}

/// Two ways of steering, both by the world's data base.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Steer {
    /// By [`ENTRIES`] and [`NETWORKS`].
    Map,
    /// By distance alone.
    Nearest,
}

/// SplitMix64: small and reproducible.
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    /// 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// A number below `bound`, which is above 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.bits() % bound
    }

    /// 128 bits.
    pub fn wide(&mut self) -> u128 {
        u128::from(self.bits()) << 64 | u128::from(self.bits())
    }

    /// True once in so many times.
    pub fn one_in(&mut self, number: u64) -> bool {
        self.below(number) == 0
    }
}

fn mix(bits: u64) -> u64 {
    let mixed = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// Networks and what is said of each.
pub struct World {
    size: Size,
    /// Outer ones before those inside, with the number of a place.
    networks: Vec<(IpNet, u32)>,
}

impl World {
    /// The same seed makes the same world.
    pub fn new(size: Size, seed: u64) -> World {
        let mut maker = Maker { random: Random(seed), size, networks: Vec::new() };
        for first in (1..224).filter(|first| ![10, 127].contains(first)) {
            let continent = maker.random.below(6) as usize;
            maker.countries(Block { address: first << 120, length: 8, is_v4: true }, continent);
        }
        for (continent, registry) in REGISTRIES.into_iter().enumerate() {
            for allocation in 0..u128::from(size.allocations) {
                // Apart by the width of a /29, as registries leave room to grow.
                let address = (registry + allocation * 8) << 96;
                let country = maker.country(continent);
                maker.cities(Block { address, length: 32, is_v4: false }, country);
            }
        }
        World { size, networks: maker.networks }
    }

    /// How many networks it has.
    pub fn len(&self) -> usize {
        self.networks.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.networks.is_empty()
    }

    /// The data base.
    pub fn file(&self) -> Vec<u8> {
        let values: Vec<Value> = (0..self.size.places()).map(|place| self.size.value(place)).collect();
        let writer = mmdb::Writer { record_size: 32, kind: "Waymark-Test-City", ..mmdb::Writer::new([]) };
        writer.write_all(self.networks.iter().map(|(net, place)| (*net, &values[*place as usize])))
    }

    /// A network of it, or of the map.
    pub fn network(&self, random: &mut Random) -> IpNet {
        if random.one_in(50) {
            return network_of(NETWORKS[random.below(NETWORKS.len() as u64) as usize].0);
        }
        self.networks[random.below(self.networks.len() as u64) as usize].0
    }

    /// Regions, maps and services of Waymark: `map` and `near` of `example.com`.
    pub fn waymark(&self) -> String {
        let mut out = String::from("[maps.world]\ndefault = [\"*\"]\n");
        for (path, list) in ENTRIES {
            let parts: Vec<&str> = path.split('/').collect();
            let selector = match parts[..] {
                [continent] => format!("continent:{continent}"),
                [_, country] => format!("country:{country}"),
                [_, country, subdivision] => format!("subdivision:{country}-{subdivision}"),
                [_, country, subdivision, city] => format!("city:{}", self.size.city_of(country, subdivision, city)),
                _ => unreachable!("at most four levels"),
            };
            let _ = writeln!(out, "{selector:?} = {}", waymark_list(list));
        }
        for (network, list) in NETWORKS {
            let _ = writeln!(out, "{network:?} = {}", waymark_list(list));
        }
        for (at, (latitude, longitude)) in REGIONS.iter().enumerate() {
            let _ = writeln!(out, "[regions.r{at}]\nlocation = {{ latitude = {latitude}, longitude = {longitude} }}");
        }
        out += "[pools.all.instances]\n";
        for at in 0..REGIONS.len() {
            let _ = writeln!(out, "i{at} = {{ region = \"r{at}\", address = \"192.0.2.{at}\" }}");
        }
        out += "[services.\"map.example.com\"]\npool = \"all\"\nsteer = \"geo\"\nmap = \"world\"\n";
        out + "[services.\"near.example.com\"]\npool = \"all\"\nsteer = \"nearest\"\ntolerance = \"0%\"\n"
    }

    /// `plugins` of gdnsd, resources `map` and `near` of its geoip plugin, by the data base at `path`.
    pub fn gdnsd(&self, path: &str) -> String {
        let names: Vec<String> = (0..REGIONS.len()).map(|at| format!("r{at}")).collect();
        let coordinates = names.iter().zip(REGIONS).map(|(name, (north, east))| format!("{name} => [{north}, {east}]"));
        let coordinates: Vec<String> = coordinates.collect();
        let common = format!(
            "geoip2_db => {path}\n datacenters => [{}]\n auto_dc_limit => 0\n auto_dc_coords => {{ {} }}\n",
            names.join(", "),
            coordinates.join(", ")
        );
        let entries: Vec<(Vec<String>, &str)> = ENTRIES.iter().map(|(path, list)| (self.keys(path), *list)).collect();
        let networks = NETWORKS.iter().map(|(network, list)| format!("{network} => {}\n", gdnsd_list(list)));
        let addresses = names.iter().enumerate().map(|(at, name)| format!("{name} => 192.0.2.{at}"));
        let addresses = addresses.collect::<Vec<_>>().join(", ");
        let resource = |map| format!("{{ map => {map}, service_types => up, dcmap => {{ {addresses} }} }}");
        format!(
            "plugins => {{ geoip => {{\nmaps => {{\nworld => {{\n{common} map => {{ default => [auto]\n{} }}\n nets => \
             {{\n{} }}\n}}\nby_distance => {{\n{common}}}\n}}\nresources => {{\nmap => {}\nnear => {}\n}}\n}} }}\n",
            nested(&entries),
            networks.collect::<String>(),
            resource("world"),
            resource("by_distance"),
        )
    }

    /// The parts of a path as the data base has them.
    fn keys(&self, path: &str) -> Vec<String> {
        let parts: Vec<&str> = path.split('/').collect();
        let key = |(at, part): (usize, &&str)| match at {
            3 => city_name(self.size.city_of(parts[1], parts[2], part)),
            _ => (*part).to_owned(),
        };
        parts.iter().enumerate().map(key).collect()
    }
}

fn waymark_list(list: &str) -> String {
    let region = |word: &str| if word == "*" { "\"*\"".to_owned() } else { format!("\"r{word}\"") };
    format!("[{}]", list.split(' ').map(region).collect::<Vec<_>>().join(", "))
}

fn gdnsd_list(list: &str) -> String {
    let region = |word: &str| if word == "*" { "auto".to_owned() } else { format!("r{word}") };
    format!("[{}]", list.split(' ').map(region).collect::<Vec<_>>().join(", "))
}

/// Entries with a common first part under one another.
fn nested(entries: &[(Vec<String>, &str)]) -> String {
    let mut out = String::new();
    let mut heads: Vec<&String> = entries.iter().filter_map(|(path, _)| path.first()).collect();
    heads.dedup();
    for head in heads {
        let below = entries.iter().filter(|(path, _)| path.first() == Some(head));
        let below: Vec<(Vec<String>, &str)> = below.map(|(path, list)| (path[1..].to_vec(), *list)).collect();
        let own = below.iter().find(|(path, _)| path.is_empty()).map(|(_, list)| gdnsd_list(list));
        let default = own.map_or_else(String::new, |list| format!("default => {list}\n"));
        let _ = writeln!(out, "{head} => {{ {default}{}}}", nested(&below));
    }
    out
}

fn network_of(text: &str) -> IpNet {
    text.parse().expect("a prefix")
}

fn city_name(id: u32) -> String {
    format!("City-{id}")
}

/// Places by number: the empty one, continents, then each country's own followed by its cities.
impl Size {
    fn places(self) -> u32 {
        self.first(COUNTRIES.len())
    }

    /// The number of a country's own place.
    fn first(self, country: usize) -> u32 {
        1 + CONTINENTS.len() as u32 + country as u32 * (self.cities + 1)
    }

    /// GeoNames id of a city: any number that no other has.
    fn city_id(self, country: usize, city: u32) -> u32 {
        (country as u32 + 1) * 100_000 + city
    }

    /// The id of the city `#n` of a subdivision.
    fn city_of(self, country: &str, subdivision: &str, city: &str) -> u32 {
        let number = COUNTRIES.iter().position(|one| one.1 == country).expect("a country");
        let subdivisions = COUNTRIES[number].4;
        let at = subdivisions.iter().position(|one| *one == subdivision).expect("a subdivision") as u32;
        let nth: u32 = city.trim_start_matches('#').parse().expect("a number");
        self.city_id(number, at + nth * subdivisions.len() as u32)
    }

    /// As MaxMind lays a record out.
    fn value(self, place: u32) -> Value {
        let Some(place) = place.checked_sub(1) else { return Value::Map(Vec::new()) };
        let continent = |code: &str| ("continent", map([("code", text(code))]));
        let Some(place) = place.checked_sub(CONTINENTS.len() as u32) else {
            return map([continent(CONTINENTS[place as usize])]);
        };
        let (number, city) = ((place / (self.cities + 1)) as usize, place % (self.cities + 1));
        let (of, code, north, east, subdivisions) = COUNTRIES[number];
        let mut parts = vec![continent(of), ("country", map([("iso_code", text(code))]))];
        let mut point = (north, east);
        if let Some(city) = city.checked_sub(1) {
            let id = self.city_id(number, city);
            let names = map([("en", text(&city_name(id)))]);
            parts.push(("city", map([("geoname_id", Value::U32(id)), ("names", names)])));
            if !subdivisions.is_empty() {
                let code = subdivisions[city as usize % subdivisions.len()];
                parts.push(("subdivisions", Value::Array(vec![map([("iso_code", text(code))])])));
            }
            point = around(point, mix(id.into()));
        }
        let (north, east) = (Value::Double(point.0), Value::Double(point.1));
        parts.push(("location", map([("latitude", north), ("longitude", east)])));
        Value::Map(parts.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
    }
}

/// A point some degrees away, in ten-thousandths of a degree, as publishers give it.
fn around((north, east): (f64, f64), bits: u64) -> (f64, f64) {
    let off = |bits: u64, most: i64| (bits % (2 * most as u64)) as i64 - most;
    let exact = |degrees: f64, off: i64| ((degrees * 10_000.0).round() + off as f64) / 10_000.0;
    let east = exact(east, off(bits & 0xffff_ffff, 80_000));
    (exact(north, off(bits >> 32, 50_000)), if east > 180.0 { exact(east - 360.0, 0) } else { east })
}

/// A prefix whose bits begin at the top of the number.
#[derive(Clone, Copy)]
struct Block {
    address: u128,
    length: u8,
    is_v4: bool,
}

impl Block {
    fn halves(self) -> [Block; 2] {
        let half = Block { length: self.length + 1, ..self };
        [half, Block { address: self.address | 1 << (127 - self.length), ..half }]
    }

    fn net(self) -> IpNet {
        let address = match self.is_v4 {
            true => IpAddr::V4(Ipv4Addr::from((self.address >> 96) as u32)),
            false => IpAddr::V6(Ipv6Addr::from(self.address)),
        };
        IpNet::new(address, self.length).expect("a length of the family")
    }
}

struct Maker {
    random: Random,
    size: Size,
    networks: Vec<(IpNet, u32)>,
}

impl Maker {
    /// Cuts a registry's block into those of countries.
    fn countries(&mut self, block: Block, continent: usize) {
        if block.length >= 15 || block.length >= 11 && self.random.one_in(3) {
            let country = self.country(continent);
            return self.cities(block, country);
        }
        block.halves().into_iter().for_each(|half| self.countries(half, continent));
    }

    /// Nearly always one of the continent.
    fn country(&mut self, continent: usize) -> usize {
        let here = |country: &usize| COUNTRIES[*country].0 == CONTINENTS[continent];
        let countries: Vec<usize> = (0..COUNTRIES.len()).filter(here).collect();
        match self.random.one_in(8) {
            true => self.random.below(COUNTRIES.len() as u64) as usize,
            false => countries[self.random.below(countries.len() as u64) as usize],
        }
    }

    /// Cuts a country's block into networks.
    fn cities(&mut self, block: Block, country: usize) {
        let finest = if block.is_v4 { self.size.ipv4 } else { self.size.ipv6 };
        if block.length >= finest || self.random.one_in(10) {
            return self.network(block, country, finest);
        }
        block.halves().into_iter().for_each(|half| self.cities(half, country));
    }

    fn network(&mut self, block: Block, country: usize, finest: u8) {
        let place = match self.random.below(100) {
            0..3 => None,
            3..5 => Some(1 + CONTINENTS.iter().position(|code| *code == COUNTRIES[country].0).unwrap_or(0) as u32),
            5 => Some(0),
            6..20 => Some(self.size.first(country)),
            20..24 => Some(self.elsewhere()),
            _ => Some(self.nearby(block, country, finest)),
        };
        self.networks.extend(place.map(|place| (block.net(), place)));
        if self.random.one_in(25) {
            self.exception(block);
        }
    }

    /// One of a few cities that the neighbours are in as well.
    fn nearby(&mut self, block: Block, country: usize, finest: u8) -> u32 {
        let around = (block.address >> (134 - u32::from(finest))) as u64;
        let city = mix(around).wrapping_add(self.random.below(3)) % u64::from(self.size.cities);
        self.size.first(country) + 1 + city as u32
    }

    fn elsewhere(&mut self) -> u32 {
        let country = self.random.below(COUNTRIES.len() as u64) as usize;
        self.size.first(country) + self.random.below(u64::from(self.size.cities) + 1) as u32
    }

    /// A smaller network inside.
    fn exception(&mut self, block: Block) {
        let most = if block.is_v4 { 32 } else { 64 };
        let length = (block.length + 1 + self.random.below(9) as u8).min(most);
        let inside = u128::MAX.checked_shr(block.length.into()).unwrap_or(0);
        let address = block.address | self.random.wide() & inside;
        let net = Block { address, length, ..block }.net().trunc();
        let place = self.elsewhere();
        if length > block.length {
            self.networks.push((net, place));
        }
    }
}

/// What a record says, as far as the map asks.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Record {
    continent: Continent,
    country: Coded,
    subdivisions: Vec<Coded>,
    city: City,
    location: Location,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Continent {
    code: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Coded {
    iso_code: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct City {
    names: Names,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Names {
    en: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Location {
    latitude: Option<f64>,
    longitude: Option<f64>,
}

/// The second evaluation.
pub struct Judge<'a> {
    reader: Reader<&'a [u8]>,
    networks: Vec<(IpNet, &'static str)>,
    /// Keys from the continent down, and the list.
    entries: Vec<(Vec<String>, &'static str)>,
}

impl<'a> Judge<'a> {
    /// Of a world and its data base.
    pub fn new(world: &World, file: &'a [u8]) -> Judge<'a> {
        let mut networks: Vec<(IpNet, &str)> = NETWORKS.iter().map(|(net, list)| (network_of(net), *list)).collect();
        networks.sort_by_key(|(net, _)| std::cmp::Reverse(net.prefix_len()));
        let mut entries: Vec<(Vec<String>, &str)> =
            ENTRIES.iter().map(|(path, list)| (world.keys(path), *list)).collect();
        entries.sort_by_key(|(path, _)| std::cmp::Reverse(path.len()));
        Judge { reader: Reader::from_source(file).expect("a data base"), networks, entries }
    }

    /// The first region for a client at `address`; `None` where two are too near to each other to tell.
    pub fn region(&self, steer: Steer, address: IpAddr) -> Option<usize> {
        let Some(address) = looked_at(address) else { return Some(0) };
        if steer == Steer::Map
            && let Some((_, list)) = self.networks.iter().find(|(net, _)| net.contains(&address))
        {
            return first(list);
        }
        let found = self.reader.lookup(address).expect("a sound data base");
        let record: Record = found.decode().expect("a record").unwrap_or_default();
        let subdivision = record.subdivisions.into_iter().next().unwrap_or_default().iso_code;
        let place = [record.continent.code, record.country.iso_code, subdivision, record.city.names.en];
        let mut entries = self.entries.iter().filter(|_| steer == Steer::Map);
        let entry = entries.find(|(path, _)| path.iter().zip(&place).all(|(key, part)| key == part));
        if let Some(region) = entry.and_then(|(_, list)| first(list)) {
            return Some(region);
        }
        match (record.location.latitude, record.location.longitude) {
            (Some(latitude), Some(longitude)) => nearest((latitude, longitude)),
            _ => Some(0),
        }
    }
}

fn first(list: &str) -> Option<usize> {
    list.split(' ').next()?.parse().ok()
}

/// By the angle between vectors from the middle of the earth.
fn nearest(from: (f64, f64)) -> Option<usize> {
    let vector = |(north, east): (f64, f64)| {
        let (north, east) = (north.to_radians(), east.to_radians());
        [north.cos() * east.cos(), north.cos() * east.sin(), north.sin()]
    };
    let from = vector(from);
    let cosine = |to: (f64, f64)| vector(to).iter().zip(from).map(|(a, b)| a * b).sum::<f64>();
    let mut near: Vec<(f64, usize)> = REGIONS.iter().enumerate().map(|(at, to)| (cosine(*to), at)).collect();
    near.sort_by(|a, b| b.0.total_cmp(&a.0));
    (near[0].0 - near[1].0 > 1e-9).then_some(near[0].1)
}

/// The address that a client counts by: the IPv4 address inside 6to4, mapped and NAT64 ones. `None` for IPv6 addresses of
/// which a data base says nothing of its own: `::/96`, where it keeps IPv4, and Teredo, where it refers to that.
fn looked_at(address: IpAddr) -> Option<IpAddr> {
    let IpAddr::V6(v6) = address else { return Some(address) };
    let bits = v6.to_bits();
    match (bits >> 112, bits >> 96, bits >> 32) {
        (0x2002, ..) => Some(IpAddr::V4(Ipv4Addr::from((bits >> 80) as u32))),
        (_, _, 0xffff | 0x64_ff9b_0000_0000_0000_0000) => Some(IpAddr::V4(Ipv4Addr::from(bits as u32))),
        (_, 0x2001_0000, _) | (_, _, 0) => None,
        _ => Some(address),
    }
}

/// What gdnsd reads in another way: IPv4 inside IPv6 where too few bits are given to hold some of it, IPv4-compatible
/// addresses, those of RFC 2765, and Teredo in a client subnet, whose client stands in bits that it does not have.
pub fn is_read_otherwise(prefix: IpNet) -> bool {
    let IpAddr::V6(v6) = prefix.network() else { return false };
    let (bits, length) = (v6.to_bits(), prefix.prefix_len());
    match (bits >> 112, bits >> 96, bits >> 32) {
        (0x2002, ..) => length < 24,
        (_, _, 0xffff | 0x64_ff9b_0000_0000_0000_0000) => length < 104,
        (_, 0x2001_0000, _) | (_, _, 0 | 0xffff_0000) => true,
        _ => false,
    }
}
