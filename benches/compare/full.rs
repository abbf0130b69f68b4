//! What `--full` gives Waymark beside the data that all servers have: whatever else steers, so that one sees what that
//! costs an answer. What is asked is answered as before, as each entry of the map begins with the region of its continent.

use std::fmt::Write;

use crate::support::networks::{self, CITIES, FIRST_SYSTEM, Network, SYSTEMS};
use crate::support::query::Random;

/// Further keys of `[server]`.
pub(crate) const SERVER: &str = "whoami = [\"whoami.example.com\"]\nexplain-from = [\"127.0.0.0/8\"]";
/// Further keys of `[geo]`.
pub(crate) const GEO: &str = "databases = [\"city.mmdb\", \"asn.mmdb\"]";
/// Further tables.
pub(crate) const REST: &str = include_str!("peers/waymark-full.toml");

/// Of so many cities, systems and networks one has an entry of the map.
const ONE_IN: usize = 100;
/// Prefixes that were measured, and how often the way from each to each region was.
const MEASURED: usize = 100_000;
const TIMES: usize = 3;

/// Further entries and fences of the map `world`: each kind of selector, and several joined; splits and tiers.
pub(crate) fn world(networks: &[Network]) -> String {
    let mut text = "\"subdivision:DE-BE\" = [\"eu\", { na = 60, as = 40 }]\n\
                    \"subdivision:US-CA\" = [\"na\", [\"eu\", \"as\"]]\n\
                    \"country:BR\" = [\"na\", \"*\"]\n"
        .to_owned();
    for (continent, first, others) in [
        ("EU", "eu", "\"as\", \"na\""),
        ("AF", "eu", "\"as\""),
        ("NA", "na", "\"as\", \"eu\""),
        ("SA", "na", "[\"as\", \"eu\"]"),
        ("AS", "as", "{ na = 1, eu = 2 }"),
        ("OC", "as", "\"eu\""),
    ] {
        for at in (0..SYSTEMS).step_by(ONE_IN) {
            let _ =
                writeln!(text, "\"as:{},continent:{continent}\" = [\"{first}\", {others}]", FIRST_SYSTEM + at as u32);
        }
        for city in (1..=CITIES).step_by(ONE_IN) {
            let _ = writeln!(text, "\"city:{city},continent:{continent}\" = [\"{first}\", \"*\"]");
        }
        for network in networks.iter().filter(|network| network.continent == continent).step_by(ONE_IN) {
            let _ = writeln!(text, "\"{}\" = [\"{first}\", {others}]", network.prefix);
        }
    }
    text + "[maps.world.fences]\n\"country:ZA\" = [\"eu\", \"na\"]\n\"as:64501,country:AU\" = [\"as\"]\n"
}

/// Further files: data bases of cities and of autonomous systems, each with hundreds of thousands of networks.
pub(crate) fn files(networks: &[Network]) -> [(&'static str, Vec<u8>); 2] {
    [("city.mmdb", networks::cities(networks)), ("asn.mmdb", networks::systems(networks))]
}

/// Measured round-trip times, as `waymark latency import` reads them.
pub(crate) fn samples() -> String {
    let mut random = Random(11);
    let mut text = String::from("client,region,rtt-ms\n");
    for _ in 0..MEASURED {
        let [a, b, c] = random.subnet();
        for region in ["eu", "na", "as"] {
            let rtt = 5 + random.draw() % 200;
            let line = format!("{a}.{b}.{c}.0/24,{region},{rtt}\n");
            text += &line.repeat(TIMES);
        }
    }
    text
}
