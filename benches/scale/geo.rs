//! Data bases of the size that publishers sell: how long compiling takes, what it holds, what a lookup costs.

use std::fmt;
use std::hint::black_box;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use ipnet::IpNet;
use waymark::geo::{Atlas, Data, Database};

use crate::child::memory_of;
use crate::mib;
use crate::support::mmdb::{Value, Writer, map, text};
use crate::support::query::Random;

/// Lookups that are timed.
const LOOKUPS: u32 = 4_000_000;

/// What a data base costs.
#[derive(Clone, Debug, serde::Deserialize, serde::Serialize)]
pub(crate) struct Cost {
    /// Octets of the file.
    pub(crate) file: usize,
    /// From the octets of the file to a map of all addresses, in seconds.
    pub(crate) compile_s: f64,
    /// Octets that compiling took at most, the file's own among them.
    pub(crate) peak: u64,
    /// Octets that are held afterwards.
    pub(crate) resident: u64,
    /// A lookup of a random IPv4 address, in nanoseconds.
    pub(crate) ipv4_ns: f64,
    /// The same of a random address in the part of IPv6 that is in use.
    pub(crate) ipv6_ns: f64,
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Cost { compile_s, ipv4_ns, ipv6_ns, .. } = self;
        let [file, peak, resident] = [self.file as u64, self.peak, self.resident].map(mib);
        write!(
            f,
            "a file of {file:.0} MiB compiles in {compile_s:.2} s, peak {peak:.0} MiB, resident {resident:.0} MiB; a lookup \
             takes {ipv4_ns:.0} ns (IPv4), {ipv6_ns:.0} ns (IPv6)"
        )
    }
}

/// Costs of a data base of `networks` networks that are in `places` places, taken in a process of its own: memory that
/// making the file took would blur what compiling it takes.
pub(crate) fn cost(folder: &Path, networks: usize, places: usize) -> io::Result<Cost> {
    let path = folder.join("geo.mmdb");
    std::fs::write(&path, file(networks, places))?;
    let output = Command::new(std::env::current_exe()?).arg("measure-geo").arg(&path).output()?;
    serde_json::from_slice(&output.stdout)
        .map_err(|error| io::Error::other(format!("{error}: {}", String::from_utf8_lossy(&output.stderr))))
}

/// Costs of the file at `path`.
pub(crate) fn measure(path: &Path) -> io::Result<Cost> {
    let before = memory_of("self").0;
    let octets = std::fs::read(path)?;
    let file = octets.len();
    let begun = Instant::now();
    let database = Database::parse("geo.mmdb".into(), octets).map_err(io::Error::other)?;
    let data = Data { networks: Vec::new(), databases: vec![database] };
    let atlas = Atlas::compile(&data);
    let compile_s = begun.elapsed().as_secs_f64();
    let (resident, peak) = memory_of("self");
    let mut random = Random(1);
    let ipv4_ns = lookups(&atlas, || IpAddr::V4(Ipv4Addr::from(random.draw() as u32)));
    let ipv6_ns = lookups(&atlas, || in_registry(random.draw() as usize, u128::from(random.draw()) << 44));
    let own = |octets: u64| octets.saturating_sub(before);
    Ok(Cost { file, compile_s, peak: own(peak), resident: own(resident), ipv4_ns, ipv6_ns })
}

fn lookups(atlas: &Atlas, mut address: impl FnMut() -> IpAddr) -> f64 {
    let begun = Instant::now();
    for _ in 0..LOOKUPS {
        black_box(atlas.lookup(black_box(address())));
    }
    begun.elapsed().as_secs_f64() * 1e9 / f64::from(LOOKUPS)
}

/// Two thirds of the networks are IPv4, spread over all of it, in blocks that are cut up more and less; the others are
/// IPv6, crowded as registries have them.
fn file(networks: usize, places: usize) -> Vec<u8> {
    let values: Vec<Value> = (0..places).map(|at| place(at, places > 1000)).collect();
    let ipv4 = networks * 2 / 3;
    // A block is cut into 3.5 networks on average.
    let blocks = ipv4 * 2 / 7;
    let length = blocks.ilog2() + 1;
    let of_v4 = (0..blocks).flat_map(|at| cut((at as u32) << (32 - length), length as u8, at % 4));
    let of_v6 = (0..networks - ipv4).map(|at| (in_registry(at, (at as u128 / 6) << 84), 44));
    let mut random = Random(7);
    let nets = of_v4.chain(of_v6).map(|(address, length)| IpNet::new(address, length).expect("a length"));
    let all = nets.map(|net| (net, &values[random.draw() as usize % places]));
    Writer { record_size: 32, ..Writer::new([]) }.write_all(all)
}

/// A block whole, in halves, in a half and two quarters, in eighths: 14 networks of four blocks.
fn cut(block: u32, length: u8, how: usize) -> Vec<(IpAddr, u8)> {
    let lengths: &[u8] = [&[0][..], &[1, 1], &[1, 2, 2], &[3; 8]][how];
    let mut address = block;
    let part = |&more: &u8| {
        let part = (IpAddr::V4(Ipv4Addr::from(address)), length + more);
        address = address.wrapping_add(1 << (32 - length - more));
        part
    };
    lengths.iter().map(part).collect()
}

/// An address in the block of one of the registries.
fn in_registry(which: usize, bits: u128) -> IpAddr {
    let registry = [0x2001u128, 0x2400, 0x2600, 0x2800, 0x2a00, 0x2c00][which % 6];
    IpAddr::V6(Ipv6Addr::from(registry << 112 | bits & ((1 << 104) - 1)))
}

/// A city with its coordinates, or a country alone.
fn place(at: usize, is_city: bool) -> Value {
    let codes = ["DE", "FR", "US", "GB", "JP", "BR", "IN", "ZA", "AU", "CA", "SE", "PL", "TR", "SG"];
    let country = ("country", map([("iso_code", text(codes[at % codes.len()]))]));
    if !is_city {
        return map([country]);
    }
    let location = map([
        ("latitude", Value::Double((at % 1700) as f64 / 10.0 - 85.0)),
        ("longitude", Value::Double((at % 3600) as f64 / 10.0 - 180.0)),
    ]);
    map([country, ("city", map([("geoname_id", Value::U32(at as u32))])), ("location", location)])
}
