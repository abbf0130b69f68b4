//! A data base of places steers real addresses through the running binary; a damaged one is a problem, one that is
//! replaced is taken, unless it cannot be meant. `waymark geo` says where addresses are, and what is in a file.

use std::fs;

use serde_json::Value as Json;

use crate::support::client;
use crate::support::mmdb::{Value, Writer, map, text};
use crate::support::server::Server;
use crate::support::site::Site;
use crate::support::until_so;

const WWW: &str = "www.gslb.example.com";
/// Where the data bases of these tests say that clients are: prefix, continent, country.
const PLACES: [(&str, &str, &str); 7] = [
    ("81.2.69.0/24", "EU", "GB"),
    ("85.96.0.0/12", "AS", "TR"),
    ("1.0.16.0/20", "AS", "JP"),
    ("8.8.8.0/24", "NA", "US"),
    ("203.0.113.0/24", "EU", "DE"),
    ("2a02:2b80::/32", "EU", "GB"),
    ("2001:200::/32", "AS", "JP"),
];
/// Clients, and the prefix of the addresses that the example's map gives them.
const STEERED: [(&str, &str); 8] = [
    ("81.2.69.0/24", "127.0.11."),
    ("85.97.1.0/24", "127.0.11."),
    ("1.0.17.7/32", "127.0.13."),
    ("8.8.8.0/24", "127.0.12."),
    ("9.9.9.0/24", "127.0.12."),
    ("2a02:2b80:77::/56", "127.0.11."),
    ("2001:200::/48", "127.0.13."),
    ("2002:5102:4501::/48", "127.0.11."),
];

/// As MaxMind and DB-IP lay a record out.
fn nested(continent: &str, country: &str) -> Value {
    map([("continent", map([("code", text(continent))])), ("country", map([("iso_code", text(country))]))])
}

/// As IPinfo does.
fn flat(continent: &str, country: &str) -> Value {
    map([("continent_code", text(continent)), ("country_code", text(country))])
}

fn data_base(record: fn(&str, &str) -> Value) -> Vec<u8> {
    Writer::new(PLACES.map(|(prefix, continent, country)| (prefix, record(continent, country)))).write()
}

/// The example, with this data base in place of its networks.
fn site(data_base: &[u8]) -> Site {
    let site = Site::unchecked();
    site.edit("networks = \"networks.toml\"", "databases = [\"places.mmdb\"]");
    fs::write(site.path("places.mmdb"), data_base).expect("written");
    site
}

#[track_caller]
fn steers(server: &Server, client: &str, region: &str) {
    let addresses = server.addresses(WWW, client);
    assert!(addresses.len() == 1 && addresses[0].starts_with(region), "{client}: {addresses:?}, expected {region}…");
}

#[test]
fn data_bases_steer_clients() {
    for record in [nested, flat] {
        let server = site(&data_base(record)).start();
        STEERED.iter().for_each(|(client, region)| steers(&server, client, region));
    }
}

/// What may lie where a data base should.
fn damaged() -> [(&'static str, Vec<u8>); 4] {
    let good = data_base(nested);
    let cut = good[good.len() / 2..].to_vec();
    [
        ("empty", Vec::new()),
        ("cut at the end", good[..good.len() / 2].to_vec()),
        ("cut at the beginning", cut),
        ("text", b"prefix,country\n".repeat(1000)),
    ]
}

#[test]
fn a_damaged_data_base_is_a_problem() {
    for (what, octets) in damaged() {
        let output = site(&octets).run(&["check"]);
        let said = client::text(&output);
        assert_eq!(output.status.code(), Some(2), "{what}: {said}");
        assert!(said.contains("waymark.toml:14:14") && said.contains("places.mmdb"), "{what}: {said}");
    }
}

#[test]
fn a_replaced_data_base_is_read_at_the_reload() {
    let site = site(&data_base(nested));
    let server = site.start();
    steers(&server, "81.2.69.0/24", "127.0.11.");

    for (number, (what, octets)) in damaged().iter().enumerate() {
        // In place, as careless scripts do: what was read stays.
        fs::write(site.path("places.mmdb"), octets).expect("written");
        STEERED.iter().for_each(|(client, region)| steers(&server, client, region));
        server.signal("HUP");
        until_so(what, || server.logged(&["reload refused"]).len() == number + 1);
        STEERED.iter().for_each(|(client, region)| steers(&server, client, region));
    }

    let moved = Writer::new([("81.2.69.0/24", nested("AS", "JP")), ("203.0.113.0/24", nested("EU", "DE"))]);
    fs::write(site.path("places.mmdb"), moved.write()).expect("written");
    server.reload();
    steers(&server, "81.2.69.0/24", "127.0.13.");
    steers(&server, "1.0.17.7/32", "127.0.12.");
}

/// Another file in place of the one that is served, as careful scripts do it.
fn replace(site: &Site, file: &str, octets: &[u8]) {
    fs::write(site.path("newer"), octets).expect("written");
    fs::rename(site.path("newer"), site.path(file)).expect("renamed");
}

/// Why the first geo file is not served as it is now.
fn refusal(server: &Server) -> String {
    server.status()["geo"][0]["refused"].as_str().unwrap_or_default().to_owned()
}

fn of_places(change: impl Fn(&'static str, &'static str, &'static str) -> Option<(&'static str, Value)>) -> Vec<u8> {
    Writer::new(PLACES.into_iter().filter_map(|(prefix, continent, country)| change(prefix, continent, country)))
        .write()
}

/// The data base with the first client in Japan.
fn moved() -> Vec<u8> {
    of_places(|prefix, continent, country| {
        let is_first = prefix == PLACES[0].0;
        Some((prefix, if is_first { nested("AS", "JP") } else { nested(continent, country) }))
    })
}

/// What may be put in place of a data base, and what is said of it.
fn not_meant() -> [(&'static str, Vec<u8>, &'static str); 6] {
    let good = data_base(nested);
    let noise = (0..good.len() as u64).map(|at| (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 29) as u8).collect();
    [
        ("truncated", good[..good.len() / 2].to_vec(), "is no MaxMind DB file, or is cut short"),
        ("noise", noise, "is no MaxMind DB file"),
        ("of another type", b"\x1f\x8b\x08\x00places".to_vec(), "is compressed with gzip"),
        ("empty", Writer::new([]).write(), "holds no networks"),
        (
            "more than half empty",
            of_places(|prefix, continent, country| {
                (prefix != "85.96.0.0/12").then(|| (prefix, nested(continent, country)))
            }),
            "more than half empty: it says continent of",
        ),
        (
            "everything one country",
            of_places(|prefix, _, _| Some((prefix, nested("NA", "US")))),
            "moves too much: continent is the same for only",
        ),
    ]
}

#[test]
fn a_replaced_data_base_is_taken_unless_it_cannot_be_meant() {
    let site = site(&data_base(nested));
    let server = site.start();
    let all_as_before = || STEERED.iter().for_each(|(client, region)| steers(&server, client, region));
    all_as_before();
    let metric = |name: &str| server.metric(&format!("waymark_geo_{name}{{file=\"places.mmdb\"}}"));
    assert_eq!((metric("refused"), metric("networks")), (Some(0.0), Some(7.0)));
    assert!(metric("age_seconds").is_some() && metric("loaded_seconds").is_some_and(|at| at > 1e9));

    for (what, octets, words) in not_meant() {
        replace(&site, "places.mmdb", &octets);
        until_so(what, || refusal(&server).contains(words));
        all_as_before();
        assert_eq!(metric("refused"), Some(1.0), "{what}");
        let status = client::text(&site.run(&["status"]));
        assert!(status.contains("NOT TAKEN as it is now"), "{what}: {status}");
    }
    server.wait_logged(&["[geo] places.mmdb: not taken", "moves too much"]);

    // Whoever edits the configuration meanwhile is not disturbed, and disturbs nothing.
    let configuration = fs::read_to_string(site.configuration()).expect("text");
    site.write("waymark.toml", "half edited = [");
    replace(&site, "places.mmdb", &moved());
    until_so("it is taken", || server.addresses(WWW, "81.2.69.0/24")[0].starts_with("127.0.13."));
    until_so("the status says so", || refusal(&server).is_empty());
    assert_eq!(server.metric("waymark_geo_reloads_total"), Some(1.0));
    assert_eq!(server.metric("waymark_reloads_total"), Some(0.0));
    assert_eq!((metric("refused"), server.metric("waymark_configuration_refused")), (Some(0.0), Some(0.0)));
    let journal = client::text(&site.run(&["history"]));
    assert!(journal.contains("geo/places.mmdb") && journal.contains("taken"), "{journal}");

    fs::remove_file(site.path("places.mmdb")).expect("removed");
    until_so("it is missed", || refusal(&server).contains("cannot be read"));
    steers(&server, "81.2.69.0/24", "127.0.13.");
    replace(&site, "places.mmdb", &data_base(nested));
    until_so("the first one is back", || {
        refusal(&server).is_empty() && server.addresses(WWW, "81.2.69.0/24")[0].starts_with("127.0.11.")
    });
    all_as_before();
    assert_eq!(server.logged(&["cannot be read"]).len(), 1);

    // The operator has the last word.
    site.write("waymark.toml", &configuration);
    let (_, emptier, words) = not_meant().into_iter().nth(4).expect("a row");
    replace(&site, "places.mmdb", &emptier);
    until_so("it is doubted", || refusal(&server).contains(words));
    server.reload();
    steers(&server, "85.97.1.0/24", "127.0.12.");
    assert_eq!(refusal(&server), "");
    server.wait_logged(&["taken, as this is a reload", "more than half empty"]);
}

#[test]
fn networks_are_taken_when_tests_pass() {
    let site = Site::unchecked();
    let server = site.start();
    steers(&server, "203.0.113.0/24", "127.0.11.");
    let networks = fs::read_to_string(site.path("networks.toml")).expect("text");
    for (what, text, words) in [
        ("no TOML", networks.clone() + "\n\"10.0.0.0/8\" = {", "networks.toml:"),
        ("no country", networks.clone() + "\n\"10.0.0.0/8\" = { country = \"XX\" }\n", "is not a country"),
        ("emptied", String::new(), "more than half empty: it has 0 networks, 7 before"),
        ("a test fails", networks.replace("\"203.0.113.0/24\"", "\"203.0.114.0/24\""), "expected region eu-west"),
    ] {
        replace(&site, "networks.toml", text.as_bytes());
        until_so(what, || refusal(&server).contains(words));
        steers(&server, "203.0.113.0/24", "127.0.11.");
    }
    replace(&site, "networks.toml", (networks + "\n\"9.9.9.0/24\" = { country = \"JP\" }\n").as_bytes());
    until_so("it is taken", || server.addresses(WWW, "9.9.9.0/24")[0].starts_with("127.0.13."));
    assert_eq!(server.metric("waymark_reloads_total"), Some(0.0));
}

/// Of two that are replaced at once the good one is taken; the other follows as soon as it is good.
#[test]
fn each_file_is_taken_by_itself() {
    let site = layered();
    let server = site.start();
    let networks = fs::read_to_string(site.path("networks.toml")).expect("text");
    let refused = |file: &str| server.metric(&format!("waymark_geo_refused{{file=\"{file}\"}}"));
    let failing = networks.replace("{ continent = \"EU\", country = \"DE\"", "{ continent = \"NA\", country = \"US\"");
    replace(&site, "networks.toml", failing.as_bytes());
    replace(&site, "places.mmdb", &moved());
    until_so("the data base is taken", || server.addresses(WWW, "81.2.69.0/24")[0].starts_with("127.0.13."));
    until_so("the networks are refused", || refused("networks.toml") == Some(1.0));
    assert_eq!(refused("places.mmdb"), Some(0.0));
    steers(&server, "203.0.113.0/24", "127.0.11.");
    replace(&site, "networks.toml", (networks + "\n\"9.9.9.0/24\" = { country = \"JP\" }\n").as_bytes());
    until_so("they are taken", || server.addresses(WWW, "9.9.9.0/24")[0].starts_with("127.0.13."));
    assert_eq!(refused("networks.toml"), Some(0.0));
}

/// The example with its networks over the data base.
fn layered() -> Site {
    let site = Site::unchecked();
    site.edit("networks = \"networks.toml\"", "networks = \"networks.toml\"\ndatabases = [\"places.mmdb\"]");
    fs::write(site.path("places.mmdb"), data_base(nested)).expect("written");
    site
}

fn json(site: &Site, arguments: &[&str]) -> Json {
    let output = site.run(arguments);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", client::text(&output)))
}

#[test]
fn geo_says_where_addresses_are_and_who_says_so() {
    let site = layered();
    let shown = client::text(&site.run(&["geo", "203.0.113.7", "::ffff:8.8.8.8", "9.9.9.9", "85.96.0.0/11"]));
    for line in [
        "place    continent EU, country DE, at 50.1 8.7",
        "networks.toml:2:1 203.0.113.0/24: continent EU, country DE, at 50.1 8.7; used: continent, country, coordinates",
        "places.mmdb (Waymark-Test, built 2026-01-01) 203.0.113.0/24: continent EU, country DE; used: nothing used",
        "::ffff:8.8.8.8, read as 8.8.8.8",
        "no network or data base knows it",
        "85.96.0.0/11",
        "other places are in the rest of what was asked for",
        "nearest  eu-west ",
        "(from the middle of the country)",
    ] {
        assert!(shown.contains(line), "{line:?} is not in\n{shown}");
    }
    let places = json(&site, &["geo", "--json", "85.97.1.1", "2a02:2b80::1"]);
    let first = &places[0];
    assert_eq!((&first["place"]["country"], &first["place"]["continent"]), (&"TR".into(), &"AS".into()), "{first}");
    assert_eq!(first["sources"][0]["file"], "places.mmdb", "{first}");
    let regions = first["regions"].as_array().expect("regions");
    let kms: Vec<u64> = regions.iter().map(|near| near["km"].as_u64().expect("km")).collect();
    assert!(kms.len() == 3 && kms.is_sorted(), "{kms:?}");
    assert_eq!(places[1]["place"]["country"], "GB");
    for wrong in [&["geo"][..], &["geo", "somewhere"], &["geo", "check"]] {
        assert_eq!(site.run(wrong).status.code(), Some(2), "{wrong:?}");
    }
}

#[test]
fn geo_check_says_what_is_in_a_file() {
    let site = layered();
    let check = |files: &[&str]| {
        let paths: Vec<String> = files.iter().map(|file| site.path(file).display().to_string()).collect();
        let arguments: Vec<&str> = ["geo", "check"].into_iter().chain(paths.iter().map(String::as_str)).collect();
        let output = crate::support::waymark().args(arguments).output().expect("the program runs");
        (output.status.code(), client::text(&output))
    };
    let (code, shown) = check(&["places.mmdb", "networks.toml"]);
    assert_eq!(code, Some(0), "{shown}");
    for line in [
        "places.mmdb: good",
        "Waymark-Test, nested records",
        "built      2026-01-01",
        "networks   5 IPv4, 2 IPv6",
        "read       continent.code, country.iso_code",
        "country    0.02 % of IPv4",
        "no coordinates: `nearest` measures from the middle of the country",
        "no as: `as:…` fits nobody by it",
        "sample     85.96.0.0/12 continent AS, country TR",
        "networks.toml: good",
    ] {
        assert!(shown.contains(line), "{line:?} is not in\n{shown}");
    }
    for (what, octets) in damaged() {
        fs::write(site.path("places.mmdb"), octets).expect("written");
        let (code, shown) = check(&["places.mmdb"]);
        assert!(code == Some(1) && shown.contains("places.mmdb: "), "{what}: {shown}");
    }
    site.write("networks.toml", "\"10.0.0.0/8\" = { country = \"XX\" }\n");
    let (code, shown) = check(&["networks.toml", "nothing.mmdb"]);
    assert!(code == Some(1) && shown.contains("networks.toml:1:") && shown.contains("nothing.mmdb: "), "{shown}");
}

#[test]
fn clouds_are_places() {
    let site = site(&data_base(nested));
    let text = fs::read_to_string(site.configuration()).expect("text");
    let locations = regex::Regex::new(r"location = \{[^}]*\}").expect("an expression");
    let mut clouds = ["aws:eu-west-1", "gcp:us-east4", "azure:southeastasia"].into_iter();
    let named = |_: &regex::Captures<'_>| format!("location = {:?}", clouds.next().expect("three regions"));
    site.write("waymark.toml", &locations.replace_all(&text, named));
    let server = site.start();
    STEERED[..2].iter().for_each(|(client, region)| steers(&server, client, region));
    let near = server.addresses("near.gslb.example.com", "1.0.17.0/24");
    assert!(near.iter().all(|address| address.starts_with("127.0.13.")), "{near:?}");
}
