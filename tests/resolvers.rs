//! Programs that are not ours in front of the server: resolvers (unbound, BIND) that recurse to it, and `dig`, `kdig`,
//! `drill`.

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;

use crate::support::backend::Backends;
use crate::support::resolver::Resolver;
use crate::support::server::Server;
use crate::support::site::Site;
use crate::support::{client, has, say, until_so};

const UNBOUND: &str = r#"
server:
    interface: 127.0.0.1
    port: PORT
    do-daemonize: no
    use-syslog: no
    username: ""
    chroot: ""
    directory: "FOLDER"
    pidfile: ""
    num-threads: 1
    module-config: "MODULES"
    do-not-query-localhost: no
    domain-insecure: "gslb.example.com"
    qname-minimisation: yes
    use-caps-for-id: yes
    send-client-subnet: 127.0.0.0/8
    client-subnet-always-forward: yes
    max-client-subnet-ipv4: 32
    max-client-subnet-ipv6: 64
stub-zone:
    name: "gslb.example.com"
    stub-addr: 127.0.0.1@UPSTREAM
remote-control:
    control-enable: no
"#;

/// `port` is also where it asks: it knows no other way to ask a server that is not on port 53.
const BIND: &str = r#"
options {
    directory "FOLDER";
    port UPSTREAM;
    listen-on port PORT { 127.0.0.1; };
    listen-on-v6 { none; };
    pid-file none;
    session-keyfile none;
    lock-file none;
    recursion yes;
    allow-query { any; };
    dnssec-validation no;
    qname-minimization strict;
    empty-zones-enable no;
};
controls { };
zone "gslb.example.com" { type static-stub; server-addresses { 127.0.0.1; }; };
"#;

fn unbound(server: &Server, modules: &str) -> Resolver {
    let configuration = UNBOUND.replace("MODULES", modules);
    Resolver::start("unbound", &["-d", "-c", "FOLDER/recursor.conf"], &configuration, server)
}

fn bind(server: &Server) -> Resolver {
    Resolver::start("named", &["-g", "-n", "1", "-c", "FOLDER/recursor.conf"], BIND, server)
}

/// The example with a service at a wildcard, on live backends.
fn example() -> (Site, Backends, Server) {
    let site = Site::patient();
    let app = "pool = \"web\"\nsteer = \"failover\"\norder = [\"ap-south\"]\nttl = \"5s\"\n";
    site.append(&format!("\n[services.\"*.app.gslb.example.com\"]\n{app}"));
    let backends = Backends::example(site.backends);
    let server = site.start();
    (site, backends, server)
}

/// What a resolver must say: name below the zone, type, code, records. `*` stands for either instance of us-east, which
/// the example's map prefers for clients of unknown place.
const SAID: [(&str, RecordType, ResponseCode, &[&str]); 22] = {
    use RecordType::{A, AAAA, CNAME, HTTPS, MX, NS, SOA, TXT};
    use ResponseCode::{NXDomain, NoError};
    [
        ("dr", A, NoError, &["A 127.0.12.1", "A 127.0.12.2"]),
        ("DR", A, NoError, &["A 127.0.12.1", "A 127.0.12.2"]),
        ("www", A, NoError, &["A 127.0.12.*"]),
        ("www", AAAA, NoError, &[]),
        ("www", TXT, NoError, &[]),
        ("www", HTTPS, NoError, &[]),
        ("alias", A, NoError, &["A 127.0.12.*", "CNAME www.gslb.example.com."]),
        ("alias", CNAME, NoError, &["CNAME www.gslb.example.com."]),
        ("static", A, NoError, &["A 192.0.2.1", "A 192.0.2.2"]),
        ("static", AAAA, NoError, &[]),
        ("one.wild", A, NoError, &["A 192.0.2.77"]),
        ("two.one.wild", A, NoError, &["A 192.0.2.77"]),
        ("one.wild", AAAA, NoError, &[]),
        ("user-1.app", A, NoError, &["A 127.0.13.1"]),
        ("user-1.app", AAAA, NoError, &[]),
        ("ent", A, NoError, &[]),
        ("b.ent", A, NoError, &[]),
        ("a.b.ent", A, NoError, &["A 192.0.2.9"]),
        ("nothing", A, NXDomain, &[]),
        ("mail", MX, NoError, &["MX 10 static.gslb.example.com."]),
        ("", NS, NoError, &["NS ns1.gslb.example.com.", "NS ns2.gslb.example.com."]),
        ("", SOA, NoError, &["SOA ns1.gslb.example.com. hostmaster.gslb.example.com. 2026112301 7200 1800 1209600 30"]),
    ]
};

#[track_caller]
fn says_it_all(resolver: &Resolver) {
    for (name, rtype, code, expected) in SAID {
        let name = if name.is_empty() { "gslb.example.com".into() } else { format!("{name}.gslb.example.com") };
        let answer = resolver.ask(&name, rtype, "");
        assert_eq!(answer.response_code, code, "{name} {rtype}: {answer}");
        let known =
            |record: String| record.replace("A 127.0.12.1", "A 127.0.12.*").replace("A 127.0.12.2", "A 127.0.12.*");
        let records = client::records(&answer);
        let starred = expected.iter().any(|record| record.ends_with('*'));
        let records = if starred { records.into_iter().map(known).collect() } else { records };
        assert_eq!(records, expected, "{name} {rtype}: {answer}");
    }
    let text = resolver.ask("text.gslb.example.com", RecordType::TXT, "");
    let text = client::records(&text).concat();
    assert!(text.contains("v=spf1 -all") && text.contains("second string"), "{text}");
    let odd = resolver.ask("odd.gslb.example.com", RecordType::Unknown(65400), "");
    assert_eq!(odd.answers.len(), 1, "{odd}");
}

#[track_caller]
fn learns_of_a_death(resolver: &Resolver, backends: &mut Backends) {
    let dr = || client::addresses(&resolver.ask("dr.gslb.example.com", RecordType::A, ""));
    assert_eq!(dr().len(), 2);
    backends.kill(&["us-1"]);
    let took = until_so("the resolver follows", || dr() == ["127.0.12.2"]);
    say(&format!("measured: behind a resolver the answer follows after {took:?} (TTL 5 s)"));
    backends.revive(&["us-1"]);
    until_so("the resolver follows back", || dr().len() == 2);
}

#[test]
fn unbound_resolves() {
    if !has("unbound") {
        return;
    }
    let (_site, mut backends, server) = example();
    let resolver = unbound(&server, "iterator");
    says_it_all(&resolver);
    learns_of_a_death(&resolver, &mut backends);
}

#[test]
fn bind_resolves() {
    if !has("named") {
        return;
    }
    let (_site, mut backends, server) = example();
    let resolver = bind(&server);
    says_it_all(&resolver);
    learns_of_a_death(&resolver, &mut backends);
}

#[test]
fn a_resolver_keeps_clients_apart_by_scope() {
    if !has("unbound") {
        return;
    }
    let (_site, _backends, server) = example();
    let resolver = unbound(&server, "subnetcache iterator");
    // Each client twice: from the server, then from the resolver's cache by the scope that the server gave.
    for _ in 0..2 {
        for (subnet, region) in [
            ("203.0.113.5/32", "127.0.11."),
            ("198.18.0.0/24", "127.0.13."),
            ("198.19.255.1/32", "127.0.13."),
            ("198.51.100.0/24", "127.0.13."),
            ("192.0.2.0/24", "127.0.12."),
            ("203.0.113.100/32", "127.0.11."),
            ("2001:db8:1::/64", "127.0.11."),
            ("2001:db8:2::/64", "127.0.12."),
        ] {
            let answer = resolver.ask("www.gslb.example.com", RecordType::A, subnet);
            let addresses = client::addresses(&answer);
            assert!(addresses.len() == 1 && addresses[0].starts_with(region), "{subnet}: {answer}");
        }
    }
    // Of a /15 that gets one answer as a whole, the second client is answered from the cache.
    let asked = || server.metric("waymark_ecs_queries_total{family=\"ipv4\"}");
    resolver.ask("near.gslb.example.com", RecordType::A, "198.18.0.0/24");
    let before = asked();
    resolver.ask("near.gslb.example.com", RecordType::A, "198.18.0.0/24");
    assert_eq!(asked(), before);
}

/// A program, its arguments behind address and port, and what its output must contain.
type Row = (&'static str, &'static [&'static str], &'static [&'static str]);

const TOOLS: [Row; 19] = [
    ("dig", &["dr.gslb.example.com", "+short"], &["127.0.12.1\n", "127.0.12.2\n"]),
    ("dig", &["alias.gslb.example.com", "+norec"], &["flags: qr aa;", "CNAME\twww.gslb.example.com.", "ANSWER: 2"]),
    (
        "dig",
        &["+tcp", "+keepopen", "static.gslb.example.com", "text.gslb.example.com", "TXT"],
        &["192.0.2.2", "v=spf1"],
    ),
    ("dig", &["+nsid", "static.gslb.example.com"], &["NSID: 74 65 73 74 2d 31 (\"test-1\")"]),
    ("dig", &["+subnet=203.0.113.0/25", "www.gslb.example.com"], &["CLIENT-SUBNET: 203.0.113.0/25/25", "127.0.11."]),
    ("dig", &["+subnet=0.0.0.0/0", "www.gslb.example.com"], &["CLIENT-SUBNET: 0.0.0.0/0/0", "127.0.12."]),
    ("dig", &["+notcp", "static.gslb.example.com", "ANY"], &["NOERROR", "ANSWER: 1,"]),
    ("dig", &["CH", "TXT", "version.bind"], &[concat!("\"waymark ", env!("CARGO_PKG_VERSION"), "\"")]),
    ("dig", &["CH", "TXT", "id.server"], &["\"test-1\""]),
    ("dig", &["www.example.org"], &["REFUSED", "EDE: 20"]),
    ("dig", &["nothing.gslb.example.com"], &["NXDOMAIN", "AUTHORITY: 1,"]),
    ("dig", &["x.sub.gslb.example.com", "+norec"], &["flags: qr;", "ns.sub.gslb.example.com.", "192.0.2.53"]),
    ("dig", &["odd.gslb.example.com", "TYPE65400"], &["\\# 4 0A000001"]),
    ("dig", &["svc.gslb.example.com", "HTTPS"], &["1 . alpn=\"h2\" ipv4hint=192.0.2.1"]),
    ("dig", &["+edns=1", "+noednsnegotiation", "static.gslb.example.com"], &["BADVERS"]),
    ("kdig", &["+tcp", "static.gslb.example.com"], &["NOERROR", "192.0.2.1", "(TCP)"]),
    ("kdig", &["+subnet=198.18.0.0/24", "www.gslb.example.com"], &["CLIENT-SUBNET: 198.18.0.0/24/15", "127.0.13.1"]),
    ("drill", &["static.gslb.example.com"], &["rcode: NOERROR", "192.0.2.1"]),
    ("drill", &["-t", "mail.gslb.example.com", "MX"], &["rcode: NOERROR", "10 static.gslb.example.com."]),
];

#[test]
fn tools_are_answered() {
    let (_site, _backends, server) = example();
    let programs: Vec<&str> = ["dig", "kdig", "drill"].into_iter().filter(|program| has(program)).collect();
    for (program, arguments, expected) in TOOLS.iter().filter(|(program, ..)| programs.contains(program)) {
        let said = client::tool(program, server.dns, arguments);
        for part in *expected {
            assert!(said.contains(part), "{program} {arguments:?} without {part:?}:\n{said}");
        }
        assert!(
            !said.contains("WARNING") || said.contains("recursion requested but not available"),
            "{program} {arguments:?}:\n{said}"
        );
    }
}
