//! The example loads as it stands, every problem reads as its golden file says, and no text at all makes loading panic.

use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::*;
use crate::dns::Rcode;
use crate::fleet::{CheckId, InstanceId, PoolId, RegionId, Target, TargetId};
use crate::probe::{Dns, Exec, Grpc, Http, Kind, Version};
use crate::problem::render;
use crate::steering::{Balance, Element, FenceUnknown, MapId, Steer, Sticky, WhenAllDown, Within};

fn loaded(path: &str) -> Configuration {
    let loaded = load(Path::new(path));
    assert_eq!(render(&loaded.problems, &loaded.sources, false), "", "{path}");
    loaded.configuration.expect("a configuration")
}

/// Loads a text from a folder of its own, beside a zone and a networks file.
fn load_text(text: &str) -> Loaded {
    let folder = tempfile::tempdir().expect("a folder");
    for file in ["gslb.example.com.zone", "networks.toml"] {
        std::fs::copy(Path::new("tests/example").join(file), folder.path().join(file)).expect("a copy");
    }
    let path = folder.path().join("waymark.toml");
    std::fs::write(&path, text).expect("a file");
    load(&path)
}

fn messages(loaded: &Loaded) -> Vec<&str> {
    loaded.problems.iter().map(|problem| problem.message.as_str()).collect()
}

#[test]
fn the_example_loads() {
    let configuration = loaded("tests/example/waymark.toml");
    let server = &configuration.server;
    assert_eq!(server.listen, ["127.0.0.1:5300".parse().expect("one"), "[::1]:5300".parse().expect("one")]);
    assert_eq!((server.node.as_str(), server.max_udp_payload, server.identity), ("test-1", 1232, true));
    assert_eq!(server.state_dir, Path::new("tests/example/state"));
    assert_eq!(server.startup_grace, Duration::from_secs(5));
    assert_eq!(configuration.admin.listen, "127.0.0.1:8053".parse().expect("one"));
    let ecs = &configuration.ecs;
    assert_eq!((ecs.enabled, ecs.ipv4, ecs.ipv6, ecs.trusted.len()), (true, 32, 64, 2));
    assert_eq!(configuration.zones.len(), 1);
    assert_eq!(configuration.geo.networks.len(), 7);
    assert_eq!(configuration.geo.networks[4].place.as_number, Some(64_500));
}

#[test]
fn the_examples_check_and_fleet() {
    let configuration = loaded("tests/example/waymark.toml");
    let policy = &configuration.checks[0].policy;
    assert_eq!((policy.interval, policy.timeout), (Duration::from_secs(1), Duration::from_millis(500)));
    assert_eq!(policy.fast_interval, Duration::from_millis(500));
    assert_eq!((policy.fall, policy.rise, policy.window, policy.hold_down), (2, 2, Some((6, 20)), Duration::ZERO));
    let fleet = &configuration.fleet;
    let names: Vec<&str> = fleet.instances.iter().map(|instance| instance.name.as_str()).collect();
    assert_eq!(names, ["eu-1", "eu-2", "us-1", "us-2", "ap-1"]);
    assert_eq!(fleet.instances[0].weight, 3);
    assert_eq!(fleet.instances[2].regions, [RegionId(1)]);
    assert_eq!(fleet.pools[0].checks, [CheckId(0)]);
    assert_eq!(fleet.pools[0].up_threshold, 2_500);
    assert_eq!(fleet.pools[0].instances[..], (0..5).map(InstanceId).collect::<Vec<_>>());
    assert_eq!(fleet.targets.len(), 5);
    let target = Target { check: CheckId(0), address: [127, 0, 11, 1].into(), port: 18_080, host: None };
    assert_eq!(fleet.targets[0], target);
    assert_eq!(fleet.instances[4].addresses[0].targets, [TargetId(4)]);
}

#[test]
fn the_examples_map_and_services() {
    let configuration = loaded("tests/example/waymark.toml");
    let map = &configuration.maps[0];
    assert_eq!((map.within, map.fence_unknown), (Within::Nearest, FenceUnknown::Default));
    assert_eq!(map.default, [Element::Region(RegionId(1)), Element::Rest]);
    let texts: Vec<&str> = map.entries.iter().map(|entry| entry.text.as_str()).collect();
    assert_eq!(texts, ["continent:EU", "continent:AS", "country:TR", "198.51.100.0/24"]);
    assert_eq!(map.fences[0].value, [RegionId(1)]);
    let [www, near, rr, dr] = &configuration.services[..] else { panic!("four services") };
    assert_eq!((&www.steer, www.map, www.manner.ttl.max, www.manner.answers), (&Steer::Geo, Some(MapId(0)), 5, 1));
    assert_eq!((www.pool, www.manner.ecs, &www.when_all_down), (PoolId(0), true, &WhenAllDown::ServeAll));
    assert_eq!((&near.steer, near.manner.balance), (&Steer::Nearest { tolerance: 500 }, Balance::Sticky));
    assert_eq!(near.manner.sticky, Sticky::default());
    assert_eq!((&rr.steer, rr.manner.balance), (&Steer::Any, Balance::RoundRobin));
    assert_eq!(dr.steer, Steer::Failover { order: vec![RegionId(1), RegionId(0)] });
    assert_eq!(dr.manner.answers, 0);
    let test = &configuration.tests[1];
    assert_eq!((test.place.as_str(), test.down.len()), ("tests/example/waymark.toml:93:1", 1));
    assert_eq!(test.expect_region.as_deref(), Some("us-east"));
}

/// What a map does not say itself it takes from the one it extends: `default`, entries, fences, words.
#[test]
fn maps_extend_maps() {
    let text = std::fs::read_to_string("tests/example/waymark.toml").expect("the example");
    let more = r#"
[maps.narrow]
extends = "world"
"country:TR" = ["us-east"]
"country:FR" = ["eu-west"]
[maps.narrow.fences]
"country:FR" = ["eu-west"]
[maps.narrower]
extends = "narrow"
default = ["ap-south"]
within = "listed"
"#;
    let loaded = load_text(&format!("{text}{more}"));
    let configuration = loaded.configuration.expect("a configuration");
    let [world, narrow, narrower] = &configuration.maps[..] else { panic!("three maps") };
    let texts = |map: &Map| map.entries.iter().map(|entry| entry.text.clone()).collect::<Vec<_>>().join(" ");
    assert_eq!(texts(narrow), "country:TR country:FR continent:EU continent:AS 198.51.100.0/24");
    assert_eq!(texts(narrower), texts(narrow));
    assert_eq!(narrow.entries[0].value, [Element::Region(RegionId(1))], "its own, not the inherited one");
    assert_eq!((&narrow.default, narrow.within), (&world.default, Within::Nearest));
    assert_eq!((narrower.default.len(), narrower.within), (1, Within::Listed));
    let fences = |map: &Map| map.fences.iter().map(|fence| fence.text.clone()).collect::<Vec<_>>().join(" ");
    assert_eq!(fences(narrow), format!("country:FR {}", fences(world)));
    assert_eq!(fences(narrower), fences(narrow));
}

/// Each `tests/config/NAME.toml` has its problems beside it in `NAME.txt`; none means that it loads.
#[test]
fn problems_read_as_their_golden_files_say() {
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut differing = Vec::new();
    for path in golden_files() {
        let loaded = load(&path);
        let printed = render(&loaded.problems, &loaded.sources, false);
        let has_errors = loaded.problems.iter().any(|problem| problem.severity == Severity::Error);
        assert_eq!(loaded.configuration.is_none(), has_errors, "{}", path.display());
        let golden = path.with_extension("txt");
        if update {
            std::fs::write(&golden, &printed).expect("the golden file can be written");
        }
        if std::fs::read_to_string(&golden).unwrap_or_default() != printed {
            differing.push(format!("{}:\n{printed}", path.display()));
        }
    }
    assert!(differing.is_empty(), "{}\nUPDATE_GOLDEN=1 cargo test rewrites them", differing.join("\n"));
}

fn golden_files() -> Vec<PathBuf> {
    let entries = std::fs::read_dir("tests/config").expect("the folder of golden files");
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    paths.sort();
    assert!(paths.len() > 10, "golden files are missing");
    paths
}

#[test]
fn nothing_to_serve_is_refused() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    assert!(load(file.path()).configuration.is_some());
    let loaded = load_to_serve(file.path());
    assert!(loaded.configuration.is_none());
    assert!(messages(&loaded)[0].contains("no zone is named"), "{:?}", messages(&loaded));
}

#[test]
fn equal_targets_are_probed_once() {
    let loaded = load_text(
        "[checks.a]\ntype = \"tcp\"\n[checks.b]\nextends = \"a\"\nport = 99\n\
         [pools.p]\ncheck = [\"a\", \"b\"]\n[pools.p.instances]\n\
         x = { address = [\"192.0.2.1\", \"192.0.2.2\"], port = 1 }\n\
         y = { address = \"192.0.2.1\", port = 1, check-port = 7 }\n\
         z = { address = [\"192.0.2.9\", \"192.0.2.8\"], port = 1, check-address = \"192.0.2.1\" }\n",
    );
    assert_eq!(messages(&loaded), [""; 0]);
    let fleet = loaded.configuration.expect("a configuration").fleet;
    let targets: Vec<String> =
        fleet.targets.iter().map(|target| format!("{} {}:{}", target.check.0, target.address, target.port)).collect();
    assert_eq!(
        targets,
        ["0 192.0.2.1:1", "1 192.0.2.1:99", "0 192.0.2.2:1", "1 192.0.2.2:99", "0 192.0.2.1:7", "1 192.0.2.1:7"]
    );
    let of = |instance: usize, address: usize| &fleet.instances[instance].addresses[address].targets;
    assert_eq!(of(0, 0), &[TargetId(0), TargetId(1)]);
    assert_eq!((of(2, 0), of(2, 1)), (of(0, 0), of(0, 0)));
}

#[test]
fn every_type_of_check_is_read() {
    let loaded = load_text(
        "[checks.http]\ntype = \"http\"\n[checks.tcp]\ntype = \"tcp\"\nport = 7\n[checks.icmp]\ntype = \"icmp\"\n\
         [checks.tls]\ntype = \"tls\"\nport = 853\nhost = \"dns.example\"\n[checks.dns]\ntype = \"dns\"\n\
         query = \"www.example.com\"\nquery-type = \"AAAA\"\nexpect-answer = \"2001:DB8:0::1\"\n\
         [checks.exec]\ntype = \"exec\"\ncommand = [\"/bin/check\", \"-q\"]\n\
         [pools.p]\nhost = \"www.example.com\"\ncheck = [\"http\", \"tcp\", \"icmp\", \"tls\", \"dns\", \"exec\"]\n\
         [pools.p.instances]\nx = { address = \"192.0.2.1\" }\ny = { address = \"192.0.2.2\", port = 9 }\n",
    );
    assert_eq!(messages(&loaded), [""; 0]);
    let configuration = loaded.configuration.expect("a configuration");
    let kinds: Vec<&Kind> = configuration.checks.iter().map(|check| &check.kind).collect();
    let dns = Dns {
        name: Name::parse("www.example.com", None).expect("a name"),
        rtype: RecordType::AAAA,
        expect_rcode: Rcode::NOERROR,
        expect_answer: Some("2001:db8::1".into()),
    };
    let exec = Exec { command: vec!["/bin/check".into(), "-q".into()] };
    assert_eq!(
        kinds[1..],
        [&Kind::Tcp, &Kind::Icmp, &Kind::Tls { verify: true, identity: None }, &Kind::Dns(dns), &Kind::Exec(exec)]
    );
    let reached: Vec<(u16, Option<&str>)> =
        configuration.fleet.targets.iter().map(|target| (target.port, target.host.as_deref())).collect();
    let (own, pools) = (Some("dns.example"), Some("www.example.com"));
    assert_eq!(reached[..6], [(80, pools), (7, None), (0, None), (853, own), (53, None), (0, pools)]);
    assert_eq!(reached[6..], [(9, pools), (7, None), (0, None), (853, own), (9, None), (9, pools)]);
}

#[test]
fn grpc_push_and_http_2_are_read() {
    let loaded = load_text(
        "[checks.grpc]\ntype = \"grpc\"\ntls = true\nservice = \"acme.Shop\"\n\
         [checks.plain]\ntype = \"grpc\"\n[checks.agent]\ntype = \"push\"\ninterval = \"1s\"\n\
         [checks.two]\ntype = \"http\"\nhttp-version = \"2\"\nport = 80\n\
         [pools.p]\nhost = \"api.example.com\"\ncheck = [\"grpc\", \"plain\", \"agent\", \"two\"]\n[pools.p.instances]\n\
         x = { address = \"192.0.2.1\", port = 50 }\ny = { address = \"192.0.2.1\", port = 50 }\n",
    );
    assert_eq!(messages(&loaded), [""; 0]);
    let configuration = loaded.configuration.expect("a configuration");
    let checks = &configuration.checks;
    let grpc =
        |tls: bool, service: &str| Kind::Grpc(Grpc { tls, verify: tls, identity: None, service: service.into() });
    assert_eq!((&checks[0].kind, &checks[1].kind), (&grpc(true, "acme.Shop"), &grpc(false, "")));
    assert_eq!((&checks[2].kind, checks[2].policy.fast_interval), (&Kind::Push, Duration::from_millis(500)));
    assert!(matches!(&checks[3].kind, Kind::Http(Http { version: Version::Two, .. })));
    let reached: Vec<(u16, Option<&str>)> =
        configuration.fleet.targets.iter().map(|target| (target.port, target.host.as_deref())).collect();
    let host = Some("api.example.com");
    // Each instance reports for itself, where what is probed is shared.
    assert_eq!(reached, [(50, host), (50, host), (0, Some("p/x")), (80, host), (0, Some("p/y"))]);
}

#[test]
fn certificates_for_targets_are_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let issue = |name: &str| {
        let key = rcgen::KeyPair::generate().expect("a key");
        let certificate = rcgen::CertificateParams::new(vec![name.into()]).expect("a name").self_signed(&key);
        let (certificate, key) = (certificate.expect("a certificate").pem(), key.serialize_pem());
        std::fs::write(folder.path().join(format!("{name}.pem")), certificate + &key).expect("written");
    };
    issue("one");
    issue("other");
    let path = folder.path().join("waymark.toml");
    let load_with = |key: &str| {
        let keys = format!("client-certificate = \"one.pem\"\nclient-key = \"{key}.pem\"\n");
        std::fs::write(&path, format!("[checks.a]\ntype = \"https\"\n{keys}")).expect("written");
        load(&path)
    };
    let loaded = load_with("one");
    assert_eq!(messages(&loaded), [""; 0]);
    let checks = loaded.configuration.expect("a configuration").checks;
    assert!(matches!(&checks[0].kind, Kind::Http(Http { identity: Some(_), .. })));
    let loaded = load_with("other");
    assert_eq!(messages(&loaded), ["the key is not that of the certificate"]);
    let problem = loaded.problems[0].span.map(|span| loaded.sources.position(&span).0);
    assert_eq!(problem, Some(4), "the line of the key");
}

#[test]
fn the_certificate_of_encrypted_transports_is_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let issue = |name: &str, until: i32, mode: u32| {
        let key = rcgen::KeyPair::generate().expect("a key");
        let mut params = rcgen::CertificateParams::new(vec![name.into()]).expect("a name");
        params.not_after = rcgen::date_time_ymd(until, 1, 2);
        let certificate = params.self_signed(&key).expect("a certificate").pem();
        let file = folder.path().join(format!("{name}.pem"));
        std::fs::write(&file, certificate + &key.serialize_pem()).expect("written");
        std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(mode)).expect("permissions");
    };
    issue("one", 2100, 0o600);
    issue("other", 2100, 0o600);
    issue("old", 2020, 0o644);
    let path = folder.path().join("waymark.toml");
    let load_with = |certificate: &str, key: &str, lists: &str| {
        let files = format!("certificate = \"{certificate}.pem\"\nkey = \"{key}.pem\"\n");
        std::fs::write(&path, format!("[tls]\n{files}{lists}\n")).expect("written");
        load(&path)
    };
    let dot = "dot = [\"127.0.0.1:853\"]";
    let good = load_with("one", "one", dot);
    assert_eq!(messages(&good), [""; 0]);
    let tls = good.configuration.expect("a configuration").tls.expect("encrypted transports");
    assert_eq!((tls.dot.len(), &*tls.doh_path, tls.identity.expires()), (1, "/dns-query", Some(4_102_531_200)));
    assert_eq!(tls.files.key, folder.path().join("one.pem"));
    let mixed = load_with("one", "other", dot);
    assert_eq!(messages(&mixed), ["the key is not that of the certificate"]);
    let line = mixed.problems[0].span.map(|span| mixed.sources.position(&span).0);
    assert_eq!(line, Some(3), "the line of the key");
    let unused = load_with("one", "one", "");
    assert_eq!(messages(&unused), ["a certificate, and no encrypted transport is listed"]);
    assert!(unused.configuration.expect("a warning").tls.is_none());
    let old = load_with("old", "old", dot);
    let [expired, open] = &messages(&old)[..] else { panic!("{:?}", messages(&old)) };
    assert!(expired.contains("old.pem: the certificate expired ") && expired.ends_with(" days ago"), "{expired}");
    assert!(open.ends_with("old.pem: anybody on this machine may read it"), "{open}");
    assert!(old.configuration.is_some(), "these are warnings");
}

#[test]
fn what_is_not_given_is_inherited() {
    let loaded = load_text(
        "[zones.\"gslb.example.com\"]\nfile = \"gslb.example.com.zone\"\n\
         [defaults.check]\ntype = \"tcp\"\nport = 7\nfall = 9\n\
         [defaults.service]\nttl = \"7s\"\n\
         [checks.child]\nextends = \"base\"\nrise = 1\n\
         [checks.base]\nfall = 4\nrise = 5\n\
         [regions.r]\n\
         [maps.child]\nextends = \"base\"\n\"country:DE\" = \"*\"\n\
         [maps.base]\ndefault = [\"r\"]\n\"country:DE\" = [\"r\"]\n\"country:FR\" = [\"r\"]\n\
         [pools.p]\ncheck = \"child\"\ninstances = { a = { region = \"r\", address = \"192.0.2.1\" } }\n\
         [services.\"a.gslb.example.com\"]\npool = \"p\"\nsteer = \"geo\"\nmap = \"child\"\naliases = [\"x.gslb.example.com\"]\n\
         [services.\"b.gslb.example.com\"]\nextends = \"a.gslb.example.com\"\nanswers = 2\n",
    );
    assert_eq!(messages(&loaded), [""; 0]);
    let configuration = loaded.configuration.expect("a configuration");
    let policy = &configuration.checks[0].policy;
    assert_eq!((policy.fall, policy.rise), (4, 1));
    assert_eq!(configuration.fleet.targets[0].port, 7);
    let map = &configuration.maps[0];
    assert_eq!(map.default, [Element::Region(RegionId(0))]);
    assert_eq!(map.entries.len(), 2);
    assert_eq!(map.entries[0].value, [Element::Rest]);
    let service = &configuration.services[1];
    assert_eq!(
        (service.manner.ttl.max, service.manner.answers, &service.steer, service.aliases.len()),
        (7, 2, &Steer::Geo, 0)
    );
}

#[test]
fn files_are_merged_in_order() {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        std::fs::write(&path, text).expect("a file");
        path
    };
    let main = write("main.toml", "include = [\"z.toml\", \"parts/*.toml\", \"*.toml\"]\n[regions.main]\n");
    write("parts/b.toml", "[regions.b]\n[geo]\nnetworks = \"nets.toml\"\n");
    write("parts/a.toml", "[regions.a]\n");
    write("parts/.hidden.toml", "[regions.hidden]\n");
    write("parts/nets.toml.txt", "");
    write("z.toml", "[regions.z]\n");
    let loaded = load(&main);
    assert_eq!(loaded.problems.len(), 1, "{:?}", messages(&loaded));
    assert!(loaded.problems[0].message.contains("parts/nets.toml: "), "relative to the file that names it");
    std::fs::write(folder.path().join("parts/b.toml"), "[regions.b]\n").expect("a file");
    let regions = load(&main).configuration.expect("a configuration").fleet.regions;
    let names: Vec<&str> = regions.iter().map(|region| region.name.as_str()).collect();
    assert_eq!(names, ["main", "z", "a", "b"]);
}

#[test]
fn order_of_appearance_is_kept_where_tables_are_opened_twice() {
    let loaded = load_text(
        "[pools.b.instances]\nx = { address = \"192.0.2.1\" }\n[pools.a.instances]\ny = { address = \"192.0.2.1\" }\n\
         [pools.c.instances]\nz = { address = \"192.0.2.1\" }\n[pools.b]\nup-threshold = \"1%\"\n",
    );
    let pools = loaded.configuration.expect("a configuration").fleet.pools;
    assert_eq!(pools.iter().map(|pool| pool.name.as_str()).collect::<Vec<_>>(), ["b", "a", "c"]);
}

#[test]
fn files_that_cannot_be_read_are_problems() {
    assert!(messages(&load(Path::new("tests/no-such.toml")))[0].contains("No such file"));
    assert!(load(Path::new("tests")).configuration.is_none());
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("latin.toml");
    std::fs::write(&path, b"a = 1\n# \xe9\n").expect("a file");
    assert!(messages(&load(&path))[0].contains("not UTF-8 text (line 2)"));
}

#[test]
fn problems_are_bounded() {
    let many: String = (0..5_000).map(|number| format!("[regions.r{number}]\nbias = 100\nbiass = 1\n")).collect();
    let loaded = load_text(&many);
    assert!(loaded.configuration.is_none());
    assert_eq!(loaded.problems.len(), 1_001);
    assert!(messages(&loaded)[1_000].contains("further problems"));
}

/// The example with one piece cut out, doubled, or replaced.
fn mutated() -> impl Strategy<Value = String> {
    let text = std::fs::read_to_string("tests/example/waymark.toml").expect("the example");
    let length = text.len();
    let pieces = prop_oneof![
        Just(String::new()),
        "[\\[\\]{}\"'=,.#*/:0-9a-z\n -]{0,12}",
        "\\PC{0,6}",
        Just("99999999999999999999999999999999999999999".to_string()),
        Just("nan".to_string()),
        Just("1979-05-27".to_string()),
        Just("[]".to_string()),
        Just("{}".to_string()),
        Just("\"\"".to_string()),
        Just("\"*\"".to_string()),
        Just("[[[[".to_string()),
    ];
    let change = (0..length, 0..40usize, pieces);
    proptest::collection::vec(change, 1..4).prop_map(move |changes| {
        let mut mutated = text.clone();
        for (at, removed, piece) in changes {
            let at = at.min(mutated.len());
            let end = (at + removed).min(mutated.len());
            if mutated.is_char_boundary(at) && mutated.is_char_boundary(end) {
                mutated.replace_range(at..end, &piece);
            }
        }
        mutated
    })
}

fn is_whole_or_refused(text: &str) {
    let loaded = load_text(text);
    let errors = loaded.problems.iter().filter(|problem| problem.severity == Severity::Error).count();
    assert_eq!(loaded.configuration.is_none(), errors > 0);
    assert_eq!(render(&loaded.problems, &loaded.sources, true).is_empty(), loaded.problems.is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_mutation_of_the_example_panics(text in mutated()) {
        is_whole_or_refused(&text);
    }

    #[test]
    fn no_text_panics(text in "\\PC{0,200}|([\\[\\]a-z.=\"\n{}, 0-9]{0,80}){0,4}") {
        is_whole_or_refused(&text);
    }
}
