//! Configuration: text → spec → problems → compiled.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use crate::dns::{Name, RecordType};
use crate::fleet::Fleet;
use crate::probe::Check;
use crate::steering::{Map, Service};
use crate::zone::Record;

/// Everything a configuration file and the files it names say, with names turned into numbers.
#[derive(Debug)]
pub struct Configuration {
    /// `[server]`.
    pub server: Server,
    /// `[admin]`.
    pub admin: Admin,
    /// `[ecs]`.
    pub ecs: Ecs,
    /// `[checks]`, numbered by `CheckId`.
    pub checks: Vec<Check>,
    /// Regions, pools, instances, targets.
    pub fleet: Fleet,
    /// `[maps]`, numbered by `MapId`.
    pub maps: Vec<Map>,
    /// `[services]`, numbered by `ServiceId`.
    pub services: Vec<Service>,
    /// `[zones]`, with their records.
    pub zones: Vec<Zone>,
    /// `[geo]`: networks and data bases, read into memory.
    pub geo: crate::geo::Data,
    /// `[[tests]]`.
    pub tests: Vec<Test>,
}

/// `[server]`.
#[derive(Clone, Debug)]
pub struct Server {
    /// UDP and TCP on each.
    pub listen: Vec<SocketAddr>,
    /// Name of this node.
    pub node: String,
    /// Absolute, or relative to the working directory.
    pub state_dir: PathBuf,
    /// UDP threads, at least 1.
    pub workers: usize,
    /// 512..=4096.
    pub max_udp_payload: u16,
    /// Longest wait for the first observations before listening.
    pub startup_grace: Duration,
}

/// `[admin]`.
#[derive(Clone, Debug)]
pub struct Admin {
    /// API, metrics, status.
    pub listen: SocketAddr,
    /// Host names accepted beside its addresses, localhost and the node's name.
    pub hosts: Vec<String>,
}

/// `[ecs]`: EDNS Client Subnet.
#[derive(Clone, Debug)]
pub struct Ecs {
    /// Whether it is looked at, at all.
    pub enabled: bool,
    /// Most bits of an IPv4 prefix looked at.
    pub ipv4: u8,
    /// Most bits of an IPv6 prefix looked at.
    pub ipv6: u8,
    /// Packet sources whose ECS may name addresses that are not global unicast.
    pub trusted: Vec<IpNet>,
}

/// A zone and its static records.
#[derive(Clone, Debug)]
pub struct Zone {
    /// Apex.
    pub origin: Name,
    /// SOA at the apex included, exactly one.
    pub records: Vec<Record>,
}

/// `[[tests]]`: an expectation, run by `check` and before every reload.
#[derive(Clone, Debug)]
pub struct Test {
    /// Where it stands, `waymark.toml:12:1`, for messages.
    pub place: String,
    /// The name asked.
    pub name: Name,
    /// The type asked, A unless given.
    pub rtype: RecordType,
    /// The client's prefix.
    pub client: IpNet,
    /// What is down: `region/eu-west`, `pool/web`, `instance/web/eu-1`, with globs.
    pub down: Vec<String>,
    /// Region that must be chosen.
    pub expect_region: Option<String>,
    /// Instances that may be answered, exactly these: `eu-1`.
    pub expect_instances: Option<Vec<String>>,
}
