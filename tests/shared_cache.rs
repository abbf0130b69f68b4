//! A thousand clients share the cache of one resolver: each gets the answer of its own region, the first time and from
//! the cache (SPEC 7.5), because the scopes say for whom an answer is. All of it is in a network namespace, where clients
//! may have whatever address they like.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use hickory_proto::rr::RecordType;
use ipnet::IpNet;
use socket2::{Domain, Socket, Type};

use crate::support::net::Net;
use crate::support::resolver::{Resolver, recursive};
use crate::support::server::Server;
use crate::support::site::Site;
use crate::support::world::Random;
use crate::support::{client, has, say};

/// Each of its own /24 or /56.
const CLIENTS: usize = 1000;
/// Networks whose places are known, of each family.
const NETWORKS: usize = 120;
/// Continent, and the address of the region that it leads to; the first is also for places unknown.
const REGIONS: [(&str, &str); 4] = [("EU", "192.0.2.1"), ("NA", "192.0.2.2"), ("AS", "192.0.2.3"), ("SA", "192.0.2.4")];
/// All that lies in here is an address of this host.
const CLIENTS_ARE_LOCAL: &str = "
    ip route add local 81.0.0.0/8 dev lo
    ip -6 route add local 2a00::/12 dev lo
";

/// `fine` is steered by the networks, `coarse` by the halves of the clients' blocks, `family` by nothing but the family.
const CONFIG: &str = r#"
[server]
listen    = ["127.0.0.1:5300", "[::1]:5300"]
state-dir = "state"
[admin]
listen = "127.0.0.1:8053"
[zones."gslb.example.com"]
file = "gslb.example.com.zone"
[geo]
networks = "networks.toml"
[regions.eu]
[regions.na]
[regions.as]
[regions.sa]
[maps.fine]
default        = ["eu"]
"continent:NA" = ["na"]
"continent:AS" = ["as"]
"continent:SA" = ["sa"]
[maps.coarse]
default      = ["eu"]
"81.0.0.0/9" = ["na"]
"2a00::/13"  = ["as"]
[maps.family]
default = ["eu"]
"::/0"  = ["as"]
[services."fine.gslb.example.com"]
pool  = "web"
steer = "geo"
map   = "fine"
ttl   = "1h"
[services."coarse.gslb.example.com"]
pool  = "web"
steer = "geo"
map   = "coarse"
ttl   = "1h"
[services."family.gslb.example.com"]
pool  = "web"
steer = "geo"
map   = "family"
ttl   = "1h"
[pools.web.instances]
eu = { region = "eu", address = "192.0.2.1" }
na = { region = "na", address = "192.0.2.2" }
as = { region = "as", address = "192.0.2.3" }
sa = { region = "sa", address = "192.0.2.4" }
"#;

const UNBOUND: &str = r#"
server:
    interface: 127.0.0.1
    interface: ::1
    access-control: 0.0.0.0/0 allow
    access-control: ::/0 allow
    port: PORT
    do-daemonize: no
    use-syslog: no
    username: ""
    chroot: ""
    directory: "FOLDER"
    pidfile: ""
    num-threads: 1
    module-config: "subnetcache iterator"
    do-not-query-localhost: no
    domain-insecure: "gslb.example.com"
    send-client-subnet: 127.0.0.0/8
    max-client-subnet-ipv4: 24
    max-client-subnet-ipv6: 56
    max-ecs-tree-size-ipv4: 100000
    max-ecs-tree-size-ipv6: 100000
stub-zone:
    name: "gslb.example.com"
    stub-addr: 127.0.0.1@UPSTREAM
remote-control:
    control-enable: no
"#;

const PDNS: &str = "
local-address=127.0.0.1,::1
local-port=PORT
allow-from=0.0.0.0/0,::/0
dont-query=
forward-zones=gslb.example.com=127.0.0.1:UPSTREAM
edns-subnet-allow-list=127.0.0.1
ecs-add-for=0.0.0.0/0,::/0
ecs-ipv4-bits=24
ecs-ipv6-bits=56
ecs-ipv4-cache-bits=24
ecs-ipv6-cache-bits=56
dnssec=off
daemon=no
threads=1
socket-dir=FOLDER
write-pid=no
disable-syslog=yes
hint-file=no
security-poll-suffix=
";

/// `port` is also where it asks: it knows no other way to ask a server that is not on port 53.
const BIND: &str = r#"
options {
    directory "FOLDER";
    port UPSTREAM;
    listen-on port PORT { 127.0.0.1; };
    listen-on-v6 port PORT { ::1; };
    query-source address SOURCE;
    pid-file none;
    session-keyfile none;
    lock-file none;
    recursion yes;
    allow-query { any; };
    allow-recursion { any; };
    allow-query-cache { any; };
    dnssec-validation no;
    empty-zones-enable no;
};
controls { };
zone "gslb.example.com" { type static-stub; server-addresses { 127.0.0.1; }; };
"#;

/// Who asks, where they are, and whom they ask.
struct Scene {
    net: Net,
    /// Prefix → number of its region.
    networks: BTreeMap<IpNet, usize>,
    clients: Vec<IpAddr>,
    server: Server,
    _site: Site,
}

impl Scene {
    /// `None` where namespaces are not permitted.
    fn new() -> Option<Scene> {
        let net = Net::new()?;
        net.run(CLIENTS_ARE_LOCAL);
        let mut random = Random(9);
        let networks = networks(&mut random);
        let clients = clients(&networks, &mut random);
        let site = Site::example();
        site.write("waymark.toml", CONFIG);
        let line = |(prefix, region): (&IpNet, &usize)| {
            format!("\"{prefix}\" = {{ continent = \"{}\" }}\n", REGIONS[*region].0)
        };
        site.write("networks.toml", &networks.iter().map(line).collect::<String>());
        let server = net.enter(|| site.start());
        Some(Scene { net, networks, clients, server, _site: site })
    }

    fn start(&self, program: &str, arguments: &[&str], configuration: &str) -> Resolver {
        self.net.enter(|| Resolver::start(program, arguments, configuration, &self.server))
    }

    /// The region of a client of `fine`.
    fn fine(&self, client: IpAddr) -> usize {
        let around = self.networks.iter().filter(|(prefix, _)| prefix.contains(&client));
        around.max_by_key(|(prefix, _)| prefix.prefix_len()).map_or(0, |(_, region)| *region)
    }

    /// How many queries the server has had.
    fn queries(&self) -> usize {
        let metrics = self.net.enter(|| self.server.get("/metrics").body);
        let counts = metrics.lines().filter(|line| line.starts_with("waymark_queries_total"));
        counts.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum::<f64>() as usize
    }

    /// Every client asks twice, all in a random order; each must get the address of its region each time. Returns how many
    /// queries the server had meanwhile.
    #[track_caller]
    fn ask_twice(&self, resolver: &Resolver, name: &str, region: impl Fn(IpAddr) -> usize) -> usize {
        let mut asking: Vec<IpAddr> = self.clients.iter().chain(&self.clients).copied().collect();
        shuffle(&mut asking, &mut Random(3));
        let before = self.queries();
        let name = format!("{name}.gslb.example.com");
        let said = self.net.enter(|| asking.iter().map(|client| ask(resolver, *client, &name)).collect::<Vec<_>>());
        for (client, said) in asking.iter().zip(said) {
            assert_eq!(said, [REGIONS[region(*client)].1], "{name} for {client}");
        }
        self.queries() - before
    }
}

/// The addresses that a client at this address is given.
fn ask(resolver: &Resolver, client: IpAddr, name: &str) -> Vec<String> {
    let loopback: IpAddr = if client.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() };
    let socket = socket(client).expect("an address of this host");
    socket.connect(SocketAddr::new(loopback, resolver.address.port())).expect("a route");
    client::addresses(&client::udp_on(&socket, &recursive(name, RecordType::A, "")))
}

/// A socket of an address that no interface has, yet a route says is ours.
fn socket(address: IpAddr) -> std::io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address((address, 0).into()), Type::DGRAM, None)?;
    match address {
        IpAddr::V4(_) => socket.set_freebind_v4(true)?,
        IpAddr::V6(_) => socket.set_freebind_v6(true)?,
    }
    socket.bind(&SocketAddr::new(address, 0).into())?;
    Ok(socket.into())
}

/// Prefixes that nest and touch, in 81.0.0.0/8 and 2a00::/12, none finer than what resolvers send.
fn networks(random: &mut Random) -> BTreeMap<IpNet, usize> {
    let mut networks = BTreeMap::new();
    while networks.len() < 2 * NETWORKS {
        let is_v4 = networks.len() % 2 == 0;
        let length = if is_v4 { 9 + random.below(16) } else { 13 + random.below(44) } as u8;
        let region = random.below(REGIONS.len() as u64) as usize;
        networks.insert(IpNet::new(address(is_v4, random), length).expect("a length").trunc(), region);
    }
    networks
}

/// Few of the first bits vary, so that clients meet.
fn address(is_v4: bool, random: &mut Random) -> IpAddr {
    let bits = random.wide();
    match is_v4 {
        true => IpAddr::V4((81 << 24 | bits as u32 & 0x00c3_ff00).into()),
        false => IpAddr::V6((0x2a00_u128 << 112 | bits & 0x000c_0003_00ff_ff00_u128 << 64).into()),
    }
}

/// Half of them IPv4; anywhere, and at the borders of networks.
fn clients(networks: &BTreeMap<IpNet, usize>, random: &mut Random) -> Vec<IpAddr> {
    let mut seen = BTreeSet::new();
    let mut clients = Vec::new();
    let edges: Vec<IpAddr> = networks.keys().flat_map(|prefix| [prefix.network(), prefix.broadcast()]).collect();
    while clients.len() < CLIENTS {
        let is_v4 = clients.len() % 2 == 0;
        let edge = edges[random.below(edges.len() as u64) as usize];
        let client = if random.below(3) == 0 { edge } else { address(is_v4, random) };
        let length = if client.is_ipv4() { 24 } else { 56 };
        let is_new = seen.insert(IpNet::new(client, length).expect("a length").trunc());
        if is_new && client.is_ipv4() == is_v4 {
            clients.push(client);
        }
    }
    clients
}

fn shuffle<T>(list: &mut [T], random: &mut Random) {
    for at in (1..list.len()).rev() {
        list.swap(at, random.below(at as u64 + 1) as usize);
    }
}

#[track_caller]
fn keeps_clients_apart(program: &str, arguments: &[&str], configuration: &str) {
    if !has(program) {
        return;
    }
    let Some(scene) = Scene::new() else { return };
    let regions: BTreeSet<usize> = scene.clients.iter().map(|client| scene.fine(*client)).collect();
    assert_eq!(regions.len(), REGIONS.len());
    let resolver = scene.start(program, arguments, configuration);
    let fine = scene.ask_twice(&resolver, "fine", |client| scene.fine(client));
    let coarse = scene.ask_twice(&resolver, "coarse", |client| match client {
        IpAddr::V4(v4) => usize::from(v4.octets()[1] < 128),
        IpAddr::V6(v6) => {
            if v6.segments()[0] < 0x2a08 {
                2
            } else {
                0
            }
        }
    });
    let family = scene.ask_twice(&resolver, "family", |client| if client.is_ipv4() { 0 } else { 2 });
    say(&format!(
        "measured: {program}: of 2 × {CLIENTS} queries {fine} reached the server, {coarse} with wide scopes, \
        {family} by family"
    ));
    // The second half of the questions is answered from the cache at least, and many of the first half; with two scopes of
    // each family nearly all are.
    assert!(fine < CLIENTS && coarse.max(family) < CLIENTS / 50, "{fine}, {coarse} and {family} queries");
}

#[test]
fn unbound_keeps_a_thousand_clients_apart() {
    keeps_clients_apart("unbound", &["-d", "-c", "FOLDER/recursor.conf"], UNBOUND);
}

#[test]
fn pdns_recursor_keeps_a_thousand_clients_apart() {
    keeps_clients_apart("pdns_recursor", &["--config-dir=FOLDER"], PDNS);
}

#[test]
fn behind_a_resolver_without_client_subnets_its_own_region_answers() {
    if !has("named") {
        return;
    }
    let Some(scene) = Scene::new() else { return };
    let arguments = ["-g", "-n", "1", "-c", "FOLDER/recursor.conf"];
    for region in 0..REGIONS.len() {
        let is_there = |client: &&IpAddr| client.is_ipv4() && scene.fine(**client) == region;
        let source = scene.clients.iter().find(is_there).expect("a client of every region");
        let resolver = scene.start("named", &arguments, &BIND.replace("SOURCE", &source.to_string()));
        let queries = scene.ask_twice(&resolver, "fine", |_| region);
        assert!(queries < 20, "{queries} queries");
    }
}
