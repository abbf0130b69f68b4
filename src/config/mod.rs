//! Configuration: text → document → problems → compiled (SPEC 1).
//!
//! | step | module |
//! |---|---|
//! | files to one document of values with places, `include` | `files`, `syntax`, `value`, `packed` |
//! | keys and values one by one, against the table of all keys | `keys`, `kinds`, `text`, `selectors` |
//! | what is given, inherited or default | `fields` |
//! | each section, names turned into numbers | `server` `tls` `cookies` `rate_limit` `keyring` `zones` `networks` `geo_files` `regions` `checks` `identity` `pools` `canaries` `maps` `services` `records` `expectations` |
//! | zone files, with what they include from below one folder | `zone_files` |
//! | whether they fit each other | `fit`, and for `check` alone `reach` |
//!
//! Nothing stops at the first problem: every step goes on with what is in order, and a configuration comes out only when
//! no problem was an error.

mod canaries;
mod checks;
mod cookies;
mod expectations;
mod fields;
mod files;
mod findings;
mod fit;
mod geo_files;
mod identity;
mod keyring;
mod keys;
mod kinds;
mod maps;
mod networks;
mod packed;
mod pools;
mod rate_limit;
mod reach;
mod records;
mod reference;
mod regions;
mod selectors;
mod server;
mod services;
mod syntax;
mod text;
mod tls;
mod value;
mod zone_files;
mod zones;

#[cfg(test)]
mod tests;

pub use files::read_octets;
pub use geo_files::{GeoFile, GeoFiles, NetworksFile, Stamp, Unread};
pub use reach::unreached;
pub use reference::reference;
pub use text::duration;
pub use text::show_duration;
pub use zone_files::{LoadedZone, load_zone};

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use crate::dns::cookie::Require;
use crate::dns::tsig::Key;
use crate::dns::{Name, RecordType, Secrets};
use crate::fleet::Fleet;
use crate::probe::Check;
use crate::problem::{Problem, Severity, Sources, Span};
use crate::snapshot::ZonePolicy;
use crate::steering::{Map, Service};
use crate::zone::Records;

/// Everything a configuration file and the files it names say, with names turned into numbers.
#[derive(Debug)]
pub struct Configuration {
    /// `[server]`.
    pub server: Server,
    /// `[admin]`.
    pub admin: Admin,
    /// `[tls]`; `None` = no encrypted transport.
    pub tls: Option<Tls>,
    /// `[ecs]`.
    pub ecs: Ecs,
    /// `[latency]`.
    pub latency: Latency,
    /// `[cookies]`.
    pub cookies: Cookies,
    /// `[rate-limit]`; `None` = off.
    pub rate_limit: Option<crate::limit::Policy>,
    /// `[checks]`, numbered by `CheckId`.
    pub checks: Vec<Check>,
    /// Regions, pools, instances, targets.
    pub fleet: Fleet,
    /// `[maps]`, numbered by `MapId`.
    pub maps: Vec<Map>,
    /// `[services]`, numbered by `ServiceId`, and behind them those derived from them.
    pub services: Vec<Service>,
    /// `[keys]`, by `KeyId`.
    pub keys: Vec<Key>,
    /// `[zones]`, with their records.
    pub zones: Vec<Zone>,
    /// `[geo]`: networks and data bases, read into memory.
    pub geo: crate::geo::Data,
    /// The files that these came from.
    pub geo_files: GeoFiles,
    /// Where the selectors of maps stand, by `MapId`.
    pub selectors: Vec<SelectorSpans>,
    /// `[[tests]]`.
    pub tests: Vec<Test>,
}

/// Where the keys of a map stand.
#[derive(Clone, Debug)]
pub struct SelectorSpans {
    /// The map's name.
    pub name: Span,
    /// Of its entries.
    pub entries: Vec<Span>,
    /// Of its fences.
    pub fences: Vec<Span>,
}

/// `[server]`.
#[derive(Clone, Debug)]
pub struct Server {
    /// UDP and TCP on each.
    pub listen: Vec<SocketAddr>,
    /// Who is asked for the addresses of targets; empty = the system's resolvers.
    pub resolvers: Vec<SocketAddr>,
    /// Name of this node.
    pub node: String,
    /// Absolute, or relative to the working directory.
    pub state_dir: PathBuf,
    /// UDP threads, at least 1.
    pub workers: usize,
    /// Whether each UDP thread has a core of its own, and gets what that core receives.
    pub pin_workers: bool,
    /// 512..=4096.
    pub max_udp_payload: u16,
    /// Longest wait for the first observations before listening.
    pub startup_grace: Duration,
    /// Whether `id.server` and `version.bind` (class CHAOS) are answered; else REFUSED.
    pub identity: bool,
    /// Names that say who asks.
    pub whoami: Vec<Name>,
    /// Packet sources whose `_explain.NAME` is answered; none = nobody's.
    pub explain_from: Vec<IpNet>,
    /// Balancers, who say before all else whose connection or datagram it is.
    pub proxies: Vec<IpNet>,
    /// Bounds of TCP service.
    pub tcp: Tcp,
}

/// `[server] tcp-…`: bounds of TCP service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tcp {
    /// Connections open at once.
    pub connections: usize,
    /// The same per client prefix.
    pub connections_per_prefix: usize,
    /// A connection without a query for this long is closed.
    pub idle: Duration,
    /// The same while more than half of `connections` are open.
    pub idle_when_pressed: Duration,
    /// A message must be whole this long after its first octet.
    pub message: Duration,
    /// Answers must be taken this long after they were ready.
    pub write: Duration,
    /// Answers written at once.
    pub burst: usize,
}

/// `[tls]`: encrypted transports. At least one is listed.
#[derive(Clone, Debug)]
pub struct Tls {
    /// Where certificate and key are.
    pub files: crate::tls::Files,
    /// What stood there.
    pub identity: Arc<crate::tls::Identity>,
    /// DNS over TLS.
    pub dot: Vec<SocketAddr>,
    /// DNS over HTTPS, HTTP/1.1 and HTTP/2.
    pub doh: Vec<SocketAddr>,
    /// DNS over QUIC.
    pub doq: Vec<SocketAddr>,
    /// DNS over HTTP/3.
    pub doh3: Vec<SocketAddr>,
    /// Path of the URL of DNS over HTTPS.
    pub doh_path: String,
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

/// `[cookies]`: DNS cookies.
#[derive(Clone, Debug, Default)]
pub struct Cookies {
    /// Whether they are looked at, at all.
    pub enabled: bool,
    /// When queries over UDP must have one.
    pub require: Require,
    /// Of `secret-file`; `None` = this node makes its own.
    pub secrets: Option<Arc<Secrets>>,
}

/// `[latency]`: round-trip times that were measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Latency {
    /// How samples are kept.
    pub policy: crate::latency::Policy,
    /// Share of the clients that begin at the second best region, in 1/10 000; at most 1000.
    pub explore: u16,
}

/// A zone and its static records.
#[derive(Clone, Debug)]
pub struct Zone {
    /// Apex.
    pub origin: Name,
    /// SOA at the apex included, exactly one.
    pub records: Records,
    /// Who may copy it.
    pub policy: ZonePolicy,
    /// Of a secondary: what share of its records it may lose at once, in 1/10 000.
    pub max_shrink: u16,
    /// How long what is updated stays.
    pub update_expire: Duration,
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

/// What came of loading.
#[derive(Debug)]
pub struct Loaded {
    /// The configuration; `None` when a problem is an error.
    pub configuration: Option<Configuration>,
    /// All problems, in order of place; without errors among them these are warnings.
    pub problems: Vec<Problem>,
    /// The files that were read, for rendering the problems.
    pub sources: Sources,
}

/// Reads a configuration and every file it names: included files, zones, networks, data bases.
#[must_use]
pub fn load(path: &Path) -> Loaded {
    let mut sources = Sources::default();
    let mut findings = findings::Findings::default();
    let mut document = files::read(path, &mut sources, &mut findings);
    files::check_values(&mut document, &mut findings);
    let configuration = compile(document, &mut sources, &mut findings);
    let problems = findings.finish(&sources);
    let is_refused = problems.iter().any(|problem| problem.severity == Severity::Error);
    Loaded { configuration: (!is_refused).then_some(configuration), problems, sources }
}

/// [`load`] for what is to be served: an empty file, or one that was cut while it was written, is refused.
#[must_use]
pub fn load_to_serve(path: &Path) -> Loaded {
    let mut loaded = load(path);
    if loaded.configuration.as_ref().is_some_and(|configuration| configuration.zones.is_empty()) {
        let problem = Problem::placeless(format!("{}: no zone is named, every query would be refused", path.display()));
        loaded.problems.push(problem.hint("name one: `[zones.\"gslb.example.com\"]` with `file = \"…\"`"));
        loaded.configuration = None;
    }
    loaded
}

/// Where a configuration says that its server keeps its state; also when the rest of it is broken, as it may be just
/// when somebody wants to know how the server fares.
///
/// # Errors
/// In words, when the file cannot be read.
pub fn state_dir(path: &Path) -> Result<PathBuf, String> {
    std::fs::metadata(path).map_err(|error| format!("{}: {error}; name it with --config", path.display()))?;
    let mut sources = Sources::default();
    let mut findings = findings::Findings::default();
    let document = files::read(path, &mut sources, &mut findings);
    Ok(server::server(&document, &sources, &mut findings).0.state_dir)
}

/// Sections with values of millions of instances go first, and their values from memory, before zones are read.
fn compile(mut document: files::Document, sources: &mut Sources, findings: &mut findings::Findings) -> Configuration {
    let (server, whoami) = server::server(&document, sources, findings);
    let admin = server::admin(&document, findings);
    let tls = tls::compile(&document, &server, sources, findings);
    let ecs = server::ecs(&document);
    let latency = server::latency(&document, findings);
    let cookies = cookies::compile(&document, sources, findings);
    let rate_limit = rate_limit::compile(&document);
    let regions = regions::compile(&document, findings);
    let checks = checks::compile(&document, sources, findings);
    let (mut fleet, places) = pools::compile(&document, regions, &checks, findings);
    canaries::compile(&document, &checks, &mut fleet, findings);
    fleet.configured_targets = fleet.targets.len();
    document.forget("pools");
    let maps = maps::compile(&document, findings);
    let mut services = services::compile(&document, &mut fleet, findings);
    document.forget("services");
    let keyring = keyring::compile(&document, sources, findings);
    let mut zones = zones::compile(&document, &keyring, sources, findings);
    let networks = networks::compile(&document, sources, findings);
    fit::find_apexes(&mut services, &zones);
    fit::check(&mut services, &fit::Surroundings { fleet: &fleet, places: &places, maps: &maps }, findings);
    let made = records::make(&mut services, &fleet, &places, findings);
    fit::check_names(&services, &fleet, &made.names, &server.whoami, &whoami, &zones, findings);
    made.add_addresses(&fleet, &mut zones);
    fit::check_long_prefixes(&ecs, &networks, &maps, &services, findings);
    let tests = expectations::compile(&document, sources, &fleet, &services, findings);
    let (maps, selectors) = maps.into_iter().map(maps::Placed::apart).unzip();
    Configuration {
        server,
        admin,
        tls,
        ecs,
        latency,
        cookies,
        rate_limit,
        checks: checks.into_iter().map(|placed| placed.check).collect(),
        fleet,
        maps,
        services: services.into_iter().map(|placed| placed.service).chain(made.derived).collect(),
        keys: keyring.keys,
        zones,
        geo: networks.data,
        geo_files: networks.files,
        selectors,
        tests,
    }
}
