//! Waymark beside gdnsd: both steer the same clients by the same data base and an equivalent map, and each answer is
//! looked at by a second evaluation.
//!
//! | what | bound |
//! |---|---|
//! | region, theirs and that of the second evaluation | the same for every client |
//! | scope | never wider than correct: every client in it that is looked at gets that region |
//! | scope | at least as wide as gdnsd's for 99 of 100 clients, and each that is not is explained |

// Each program that includes this file uses a part of it.
#![allow(dead_code, unreachable_pub)]

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::rdata::opt::{EdnsCode, EdnsOption};
use ipnet::IpNet;

use super::world::{Judge, Random, Size, Steer, World, is_read_otherwise};

/// Queries that are out at a time.
const WINDOW: usize = 64;
/// How long to wait for an answer before asking again, and how often to ask.
const WAIT: Duration = Duration::from_millis(500);
const TRIES: usize = 20;
/// Longest that a server may take to read a large data base and answer its first query.
const START: Duration = Duration::from_secs(300);
const PAUSE: Duration = Duration::from_millis(50);
/// Clients that are looked at in a scope, beside its first and last.
const INSIDE: usize = 14;
/// Most of each kind of finding that are told.
const TOLD: usize = 5;

/// What to compare.
pub struct Options<'a> {
    pub size: Size,
    /// Client subnets to ask for, of each service.
    pub prefixes: usize,
    pub seed: u64,
    /// Programs.
    pub waymark: &'a Path,
    pub gdnsd: &'a Path,
    /// Free ports on 127.0.0.1: Waymark's two, gdnsd's.
    pub ports: [u16; 3],
    /// A scratch folder.
    pub folder: &'a Path,
}

/// What came of it.
pub struct Outcome {
    /// Networks of the data base, and octets of its file.
    pub networks: usize,
    pub octets: usize,
    pub services: Vec<Agreement>,
}

impl Outcome {
    /// Whether all bounds hold.
    pub fn holds(&self) -> bool {
        self.services.iter().all(Agreement::holds)
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a data base of {} networks, {} KiB", self.networks, self.octets >> 10)?;
        self.services.iter().try_for_each(|service| write!(f, "\n{service}"))
    }
}

/// What came of one service.
pub struct Agreement {
    pub name: &'static str,
    /// Client subnets asked for.
    pub asked: usize,
    /// Answers with the same scope.
    pub same: usize,
    /// Answers whose scope is wider than gdnsd's, by cause.
    pub wider: BTreeMap<&'static str, usize>,
    /// Answers whose scope is narrower than gdnsd's, by cause.
    pub narrower: BTreeMap<&'static str, usize>,
    /// Sum of the scopes of IPv4 and IPv6 answers, ours and gdnsd's, and how many there are.
    scopes: [(u64, u64, u64); 2],
    /// What must not be.
    pub problems: Problems,
}

/// Each kind of problem with its count, and some of them in words.
#[derive(Default)]
pub struct Problems {
    counts: BTreeMap<&'static str, usize>,
    told: Vec<String>,
}

impl Problems {
    fn add(&mut self, kind: &'static str, text: impl FnOnce() -> String) {
        let count = self.counts.entry(kind).or_default();
        *count += 1;
        if *count <= TOLD {
            self.told.push(format!("{kind}: {}", text()));
        }
    }
}

const NO_CAUSE: &str = "no cause known";

impl Agreement {
    fn new(name: &'static str, asked: usize) -> Agreement {
        let (wider, narrower) = (BTreeMap::new(), BTreeMap::new());
        Agreement { name, asked, same: 0, wider, narrower, scopes: [(0, 0, 0); 2], problems: Problems::default() }
    }

    /// Share of the answers whose scope is at least as wide as gdnsd's, in percent.
    pub fn as_wide(&self) -> f64 {
        let narrower: usize = self.narrower.values().sum();
        (self.asked - narrower) as f64 * 100.0 / self.asked.max(1) as f64
    }

    /// Whether all bounds hold.
    pub fn holds(&self) -> bool {
        self.problems.counts.is_empty() && self.as_wide() >= 99.0
    }
}

impl fmt::Display for Agreement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sum = |causes: &BTreeMap<&str, usize>| causes.values().sum::<usize>();
        write!(
            f,
            "{}: {} client subnets; scope as gdnsd's {}, wider {}, narrower {} ({:.3} % at least as wide)",
            self.name,
            self.asked,
            self.same,
            sum(&self.wider),
            sum(&self.narrower),
            self.as_wide()
        )?;
        for (family, (ours, theirs, count)) in ["IPv4", "IPv6"].iter().zip(self.scopes) {
            let mean = |sum: u64| sum as f64 / count.max(1) as f64;
            write!(f, "\n  {family}: {count}, scope {:.3} bits on average, gdnsd's {:.3}", mean(ours), mean(theirs))?;
        }
        for (word, causes) in [("wider", &self.wider), ("narrower", &self.narrower)] {
            for (cause, count) in causes {
                write!(f, "\n  {word}: {count} × {cause}")?;
            }
        }
        for (kind, count) in &self.problems.counts {
            write!(f, "\n  wrong: {count} × {kind}")?;
        }
        self.problems.told.iter().try_for_each(|text| write!(f, "\n    {text}"))
    }
}

/// Starts both servers, asks them, and says what came of it.
///
/// # Errors
/// In words, when a file cannot be written, a server does not start, or does not answer.
pub fn run(options: &Options<'_>) -> Result<Outcome, String> {
    let world = World::new(options.size, options.seed);
    let file = world.file();
    let servers = [Server::waymark(options, &world, &file)?, Server::gdnsd(options, &world)?];
    for server in &servers {
        server.wait()?;
    }
    let judge = Judge::new(&world, &file);
    let prefixes = prefixes(&world, options.prefixes, options.seed);
    let compare = |(name, steer)| {
        let ours = servers[0].ask_all(name, &prefixes)?;
        let theirs = servers[1].ask_all(name, &prefixes)?;
        let mut random = Random(options.seed ^ 0x5ca1e);
        let mut agreement = Agreement::new(name, prefixes.len());
        for ((prefix, ours), theirs) in prefixes.iter().zip(ours).zip(theirs) {
            Case { judge: &judge, steer, prefix: *prefix, ours, theirs }.look(&mut agreement, &mut random);
        }
        Ok(agreement)
    };
    let both = [("map.example.com", Steer::Map), ("near.example.com", Steer::Nearest)];
    let services = both.into_iter().map(compare).collect::<Result<_, String>>()?;
    Ok(Outcome { networks: world.len(), octets: file.len(), services })
}

/// Client subnets: anywhere, in networks of the world, at the borders of these, IPv4 inside IPv6.
fn prefixes(world: &World, count: usize, seed: u64) -> Vec<IpNet> {
    let mut random = Random(seed ^ 0xec5);
    let drawn = std::iter::repeat_with(|| prefix(world, &mut random));
    drawn.filter(|prefix| !is_read_otherwise(*prefix)).take(count).collect()
}

fn prefix(world: &World, random: &mut Random) -> IpNet {
    let anywhere = IpAddr::V4(Ipv4Addr::from(random.bits() as u32));
    match random.below(100) {
        0..40 => long_or_short(anywhere, random),
        40..65 => {
            let address = inside(world.network(random), random);
            long_or_short(address, random)
        }
        65..75 => {
            let address = IpAddr::V6(Ipv6Addr::from(0x2 << 124 | random.wide() >> 3));
            long_or_short(address, random)
        }
        75..78 => long_or_short(IpAddr::V6(Ipv6Addr::from(random.wide())), random),
        78..93 => {
            let net = world.network(random);
            let edge = if random.below(2) == 0 { net.network() } else { net.broadcast() };
            long_or_short(step(edge, random.below(3) as i64 - 1), random)
        }
        93..97 => in_ipv6(anywhere, 0x2002 << 112, 80, 24..=64, random),
        97..99 => in_ipv6(anywhere, 0xffff << 32, 0, 104..=128, random),
        _ => in_ipv6(anywhere, 0x64_ff9b << 96, 0, 104..=128, random),
    }
}

/// Mostly of the length that resolvers send.
fn long_or_short(address: IpAddr, random: &mut Random) -> IpNet {
    let drawn = random.below(4);
    let length = match (address, drawn) {
        (IpAddr::V4(_), 0) => 8 + random.below(25),
        (IpAddr::V4(_), _) => 24,
        (IpAddr::V6(_), 0) => 16 + random.below(113),
        (IpAddr::V6(_), 1) => 48,
        (IpAddr::V6(_), _) => 56,
    };
    IpNet::new(address, length as u8).expect("a length of the family").trunc()
}

fn in_ipv6(v4: IpAddr, prefix: u128, at: u32, lengths: std::ops::RangeInclusive<u8>, random: &mut Random) -> IpNet {
    let IpAddr::V4(v4) = v4 else { unreachable!("IPv4") };
    let address = Ipv6Addr::from(prefix | u128::from(u32::from(v4)) << at);
    let length = *lengths.start() + random.below(u64::from(lengths.end() - lengths.start()) + 1) as u8;
    IpNet::new(address.into(), length).expect("a length").trunc()
}

/// A random address of a network.
fn inside(net: IpNet, random: &mut Random) -> IpAddr {
    let noise = random.wide();
    match net.network() {
        IpAddr::V4(first) => {
            let free = u32::MAX.checked_shr(net.prefix_len().into()).unwrap_or(0);
            IpAddr::V4((u32::from(first) | noise as u32 & free).into())
        }
        IpAddr::V6(first) => {
            let free = u128::MAX.checked_shr(net.prefix_len().into()).unwrap_or(0);
            IpAddr::V6((u128::from(first) | noise & free).into())
        }
    }
}

fn step(address: IpAddr, by: i64) -> IpAddr {
    match address {
        IpAddr::V4(v4) => IpAddr::V4(u32::from(v4).wrapping_add_signed(by as i32).into()),
        IpAddr::V6(v6) => IpAddr::V6(u128::from(v6).wrapping_add_signed(by.into()).into()),
    }
}

/// What a server said to one client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Said {
    /// `None` = not one address.
    region: Option<usize>,
    scope: u8,
}

/// A client, what both servers say, and who knows better.
struct Case<'a> {
    judge: &'a Judge<'a>,
    steer: Steer,
    prefix: IpNet,
    ours: Said,
    theirs: Said,
}

impl Case<'_> {
    fn look(&self, agreement: &mut Agreement, random: &mut Random) {
        let Case { prefix, ours, theirs, .. } = *self;
        if ours.region != theirs.region {
            agreement.problems.add("another region than gdnsd", || format!("{prefix}: {ours:?}, gdnsd {theirs:?}"));
        }
        let right = self.judge.region(self.steer, prefix.network());
        if right.is_some() && right != ours.region {
            agreement
                .problems
                .add("another region than the second evaluation", || format!("{prefix}: {ours:?}, expected {right:?}"));
        }
        if let Some(client) = self.stray(ours, random) {
            agreement.problems.add("a scope that is too wide", || format!("{prefix}: {ours:?}, but not so {client}"));
        }
        let scopes = &mut agreement.scopes[usize::from(prefix.addr().is_ipv6())];
        *scopes = (scopes.0 + u64::from(ours.scope), scopes.1 + u64::from(theirs.scope), scopes.2 + 1);
        match ours.scope.cmp(&theirs.scope) {
            std::cmp::Ordering::Equal => agreement.same += 1,
            std::cmp::Ordering::Less => *agreement.wider.entry(self.why_wider()).or_default() += 1,
            std::cmp::Ordering::Greater => {
                let why = self.why_narrower(random);
                *agreement.narrower.entry(why).or_default() += 1;
                if why == NO_CAUSE {
                    agreement
                        .problems
                        .add("a narrower scope for no cause", || format!("{prefix}: {ours:?}, gdnsd {theirs:?}"));
                }
            }
        }
    }

    /// A client of the scope that belongs elsewhere.
    fn stray(&self, said: Said, random: &mut Random) -> Option<IpAddr> {
        let scope = self.around(said.scope);
        let edges = [scope.network(), scope.broadcast()];
        let mut clients = edges.into_iter().chain((0..INSIDE).map(|_| inside(scope, random)));
        clients.find(|client| {
            let region = self.judge.region(self.steer, *client);
            region.is_some() && region != said.region
        })
    }

    fn around(&self, scope: u8) -> IpNet {
        IpNet::new(self.prefix.network(), scope).expect("a length of the family").trunc()
    }

    /// What is in our scope and not in gdnsd's; that it may be there was looked at.
    fn why_wider(&self) -> &'static str {
        if holds(self.around(self.ours.scope), &ONLY_GDNSD_KEEPS_APART) {
            return "gdnsd keeps Teredo and the addresses of RFC 2765 apart";
        }
        "gdnsd does not merge what is alike"
    }

    fn why_narrower(&self, random: &mut Random) -> &'static str {
        if self.stray(self.theirs, random).is_some() {
            return "gdnsd's is too wide";
        }
        if (self.ours.scope, self.theirs.scope) == (1, 0) {
            return "gdnsd says 0 of what holds for one family alone";
        }
        if holds(self.around(self.theirs.scope), &WITH_IPV4_INSIDE) {
            return "IPv4 inside IPv6 is kept apart";
        }
        NO_CAUSE
    }
}

const ONLY_GDNSD_KEEPS_APART: [&str; 2] = ["2001::/32", "::ffff:0:0:0/96"];
const WITH_IPV4_INSIDE: [&str; 3] = ["2002::/16", "::ffff:0:0/96", "64:ff9b::/96"];

/// Whether one of these lies in a prefix.
fn holds(prefix: IpNet, blocks: &[&str]) -> bool {
    blocks.iter().any(|block| prefix.contains(&block.parse::<IpNet>().expect("a prefix")))
}

/// A server that runs; ended by its process id, at the latest when it is dropped.
struct Server {
    child: Child,
    name: &'static str,
    address: SocketAddr,
    log: std::path::PathBuf,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const ZONE: &str = "$ORIGIN example.com.\n$TTL 30\n@ 3600 IN SOA ns1 hostmaster 1 7200 1800 259200 60\n\
                    @ 3600 NS ns1\nns1 3600 A 127.0.0.1\n";

impl Server {
    fn waymark(options: &Options<'_>, world: &World, file: &[u8]) -> Result<Server, String> {
        let Options { folder, ports: [dns, admin, _], .. } = *options;
        let head = format!(
            "[server]\nlisten = [\"127.0.0.1:{dns}\"]\nstate-dir = \"state\"\n[admin]\nlisten = \"127.0.0.1:{admin}\"\n\
             [zones.\"example.com\"]\nfile = \"zone\"\n[geo]\ndatabases = [\"geo.mmdb\"]\n[ecs]\nipv4 = 32\nipv6 = 128\n"
        );
        write(&folder.join("geo.mmdb"), file)?;
        write(&folder.join("zone"), ZONE.as_bytes())?;
        write(&folder.join("waymark.toml"), (head + &world.waymark()).as_bytes())?;
        let mut command = Command::new(options.waymark);
        command.env_remove("WAYMARK_LOG").arg("run").arg("--config").arg(folder.join("waymark.toml"));
        Server::start(command, "waymark", dns, folder)
    }

    fn gdnsd(options: &Options<'_>, world: &World) -> Result<Server, String> {
        let Options { folder, ports: [.., port], .. } = *options;
        let own = folder.join("gdnsd");
        let at = own.display();
        let head = format!(
            "options => {{\n listen => [127.0.0.1:{port}]\n udp_threads => 1\n tcp_threads => 1\n run_dir => {at}/run\n \
             state_dir => {at}/var\n}}\n"
        );
        let dynamic = "map 30 DYNA geoip!map\nnear 30 DYNA geoip!near\n";
        write(&own.join("zones/example.com"), (ZONE.to_owned() + dynamic).as_bytes())?;
        let database = folder.join("geo.mmdb").display().to_string();
        write(&own.join("config"), (head + &world.gdnsd(&database)).as_bytes())?;
        let mut command = Command::new(options.gdnsd);
        command.arg("-c").arg(&own).arg("start");
        Server::start(command, "gdnsd", port, folder)
    }

    fn start(mut command: Command, name: &'static str, port: u16, folder: &Path) -> Result<Server, String> {
        let failed = |error| format!("cannot start {name}: {error}");
        let log = folder.join(format!("{name}.log"));
        let file = File::create(&log).map_err(failed)?;
        command.stdin(Stdio::null()).stdout(file.try_clone().map_err(failed)?).stderr(file);
        let child = command.spawn().map_err(failed)?;
        Ok(Server { child, name, address: (Ipv4Addr::LOCALHOST, port).into(), log })
    }

    /// Until it answers.
    fn wait(&self) -> Result<(), String> {
        let deadline = Instant::now() + START;
        let one = "192.0.2.0/24".parse().expect("a prefix");
        while Instant::now() < deadline {
            let asked = Asker::new(self.address).and_then(|asker| asker.window("map.example.com", &[one], 1));
            if asked.is_ok_and(|said| said[0].is_some_and(|said| said.region.is_some())) {
                return Ok(());
            }
            thread::sleep(PAUSE);
        }
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let last = lines[lines.len().saturating_sub(20)..].join("\n");
        Err(format!("{} does not answer:\n{last}", self.name))
    }

    fn ask_all(&self, name: &str, prefixes: &[IpNet]) -> Result<Vec<Said>, String> {
        let failed = |error: std::io::Error| format!("cannot ask {}: {error}", self.name);
        let asker = Asker::new(self.address).map_err(failed)?;
        let mut all = Vec::with_capacity(prefixes.len());
        for window in prefixes.chunks(WINDOW) {
            for (prefix, said) in window.iter().zip(asker.window(name, window, TRIES).map_err(failed)?) {
                all.push(said.ok_or_else(|| format!("{} does not answer {name} for {prefix}", self.name))?);
            }
        }
        Ok(all)
    }
}

/// A socket that asks one server.
struct Asker(UdpSocket);

impl Asker {
    fn new(server: SocketAddr) -> std::io::Result<Asker> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        socket.connect(server)?;
        socket.set_read_timeout(Some(WAIT))?;
        Ok(Asker(socket))
    }

    /// Asks for the address of a name for some clients at once; those without an answer again.
    fn window(&self, name: &str, clients: &[IpNet], tries: usize) -> std::io::Result<Vec<Option<Said>>> {
        let mut said = vec![None; clients.len()];
        let mut buffer = [0; 4096];
        for _ in 0..tries {
            let open = (0..clients.len()).filter(|at| said[*at].is_none()).collect::<Vec<_>>();
            for &at in &open {
                self.0.send(&query(at as u16, name, clients[at]))?;
            }
            for _ in &open {
                let length = match self.0.recv(&mut buffer) {
                    Ok(length) => length,
                    Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => break,
                    Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                    Err(error) => return Err(error),
                };
                note(&buffer[..length], clients, &mut said);
            }
            if said.iter().all(Option::is_some) {
                break;
            }
        }
        Ok(said)
    }
}

/// Files an answer under its question. One that came late, and is of another client, is left.
fn note(octets: &[u8], clients: &[IpNet], said: &mut [Option<Said>]) {
    let Ok(message) = Message::from_vec(octets) else { return };
    let at = usize::from(message.id);
    let Some(client) = clients.get(at) else { return };
    let option = message.edns.as_ref().and_then(|edns| edns.option(EdnsCode::Subnet));
    let Some(EdnsOption::Subnet(subnet)) = option else { return };
    if (subnet.addr(), subnet.source_prefix()) != (client.network(), client.prefix_len()) {
        return;
    }
    let addresses: Vec<IpAddr> = message.answers.iter().filter_map(|record| record.data.ip_addr()).collect();
    let region = match addresses[..] {
        [IpAddr::V4(v4)] if message.response_code == ResponseCode::NoError => Some(usize::from(v4.octets()[3])),
        _ => None,
    };
    said[at] = Some(Said { region, scope: subnet.scope_prefix() });
}

/// A query for the IPv4 address of a name with a client subnet (RFC 7871 §6).
fn query(id: u16, name: &str, client: IpNet) -> Vec<u8> {
    let mut octets = id.to_be_bytes().to_vec();
    octets.extend([0, 0, 0, 1, 0, 0, 0, 0, 0, 1]);
    for label in name.split('.') {
        octets.push(label.len() as u8);
        octets.extend(label.as_bytes());
    }
    octets.extend([0, 0, 1, 0, 1, 0, 0, 41, 0x04, 0xd0, 0, 0, 0, 0]);
    let length = client.prefix_len();
    let (family, address) = match client.network() {
        IpAddr::V4(v4) => (1, v4.octets().to_vec()),
        IpAddr::V6(v6) => (2, v6.octets().to_vec()),
    };
    let address = &address[..usize::from(length).div_ceil(8)];
    octets.extend((address.len() as u16 + 8).to_be_bytes());
    octets.extend([0, 8]);
    octets.extend((address.len() as u16 + 4).to_be_bytes());
    octets.extend([0, family, length, 0]);
    octets.extend(address);
    octets
}

fn write(path: &Path, octets: &[u8]) -> Result<(), String> {
    let folder = path.parent().expect("a file is in a folder");
    let written = fs::create_dir_all(folder).and_then(|()| fs::write(path, octets));
    written.map_err(|error| format!("cannot write {}: {error}", path.display()))
}
