//! A configuration of any size: services of eight instances in three regions, each with a pool of its own, in 50
//! included files; and a zone of static names.

use std::fmt::Write;
use std::io;
use std::path::{Path, PathBuf};

/// Instances of each service.
pub(crate) const INSTANCES: usize = 8;
/// Files that the services are in.
const FILES: usize = 50;
/// One pool of so many is checked.
const CHECKED: usize = 100;
/// Networks of public space that place clients.
const NETWORKS: u32 = 5000;

/// How large, and which ports.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Set {
    /// Services, each of [`INSTANCES`] instances.
    pub(crate) services: usize,
    /// Static names.
    pub(crate) names: usize,
    /// Where queries are answered.
    pub(crate) dns: u16,
    /// The API.
    pub(crate) admin: u16,
    /// Where checks find somebody listening.
    pub(crate) check: u16,
}

impl Set {
    /// Writes all files; returns the path of the configuration.
    pub(crate) fn write(&self, folder: &Path) -> io::Result<PathBuf> {
        let path = folder.join("waymark.toml");
        std::fs::write(&path, self.main())?;
        std::fs::write(folder.join("zone"), self.zone())?;
        std::fs::write(folder.join("networks.toml"), networks())?;
        std::fs::create_dir_all(folder.join("services"))?;
        let each = self.services.div_ceil(FILES).max(1);
        for (file, first) in (0..self.services).step_by(each).enumerate() {
            let services = first..self.services.min(first + each);
            let text: String = services.map(service).collect();
            std::fs::write(folder.join(format!("services/{file:02}.toml")), text)?;
        }
        Ok(path)
    }

    fn main(&self) -> String {
        let Set { dns, admin, check, .. } = self;
        format!(
            r#"include = ["services/*.toml"]
[server]
listen = ["127.0.0.1:{dns}"]
workers = 1
[admin]
listen = "127.0.0.1:{admin}"
[zones."example.com"]
file = "zone"
[geo]
networks = "networks.toml"
[regions.eu]
location = {{ latitude = 53.3, longitude = -6.3 }}
[regions.us]
location = {{ latitude = 38.9, longitude = -77.0 }}
[regions.ap]
location = {{ latitude = 1.3, longitude = 103.8 }}
[maps.world]
default = ["us", "*"]
"continent:EU" = ["eu", "*"]
"continent:AS" = ["ap", "*"]
[checks.tcp]
type = "tcp"
port = {check}
interval = "1h"
fall = 1
rise = 1
window = "off"
hold-down = "0s"
[defaults.service]
steer = "geo"
map = "world"
"#
        )
    }

    fn zone(&self) -> String {
        let mut text = String::from("$TTL 300\n@ SOA ns hostmaster 1 7200 1800 259200 60\n@ NS ns\nns A 127.0.0.1\n");
        for at in 0..self.names {
            let _ = writeln!(text, "h{at} A 192.0.{}.{}", at / 250 % 250, at % 250);
        }
        text
    }

    /// Names to ask for, every one once, in an order that follows no memory.
    pub(crate) fn steered_names(&self) -> Vec<String> {
        scattered(self.services).map(|at| format!("s{at}.example.com")).collect()
    }

    /// The same for static names, at most 200 000 of them.
    pub(crate) fn static_names(&self) -> Vec<String> {
        scattered(self.names).take(200_000).map(|at| format!("h{at}.example.com")).collect()
    }
}

/// All numbers below `count`, in another order: by steps that share no divisor with it.
fn scattered(count: usize) -> impl Iterator<Item = usize> {
    let step = (0..).map(|more| 7_368_787 + 2 * more).find(|step| is_coprime(*step, count)).unwrap_or(1);
    (0..count).map(move |at| at * step % count)
}

fn is_coprime(a: usize, b: usize) -> bool {
    if b == 0 { a == 1 } else { is_coprime(b, a % b) }
}

fn service(at: usize) -> String {
    let check = if at.is_multiple_of(CHECKED) { "check = \"tcp\"\n" } else { "" };
    let balance = ["weighted", "sticky", "round-robin"][at % 3];
    let mut text = format!("[pools.p{at}]\n{check}[pools.p{at}.instances]\n");
    for instance in 0..INSTANCES {
        let (region, weight) = (["eu", "us", "ap"][instance % 3], 1 + instance % 3);
        let (high, middle, low) = (at >> 13 & 255, at >> 5 & 255, (at & 31) * INSTANCES + instance);
        let _ = writeln!(
            text,
            "i{instance} = {{ region = \"{region}\", address = \"127.{high}.{middle}.{low}\", weight = {weight} }}"
        );
    }
    let _ = writeln!(text, "[services.\"s{at}.example.com\"]\npool = \"p{at}\"\nbalance = \"{balance}\"");
    text
}

fn networks() -> String {
    let mut text = String::new();
    for at in 0..NETWORKS {
        let [a, b, ..] = (0x1400_0000 + at * 0x4_0000).to_be_bytes();
        let continent = ["EU", "NA", "AS"][at as usize % 3];
        let _ = writeln!(
            text,
            "\"{a}.{b}.0.0/14\" = {{ continent = \"{continent}\", latitude = 50.0, longitude = {at}e-2 }}"
        );
    }
    text
}
