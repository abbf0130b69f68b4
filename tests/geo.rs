//! A data base of places steers real addresses through the running binary; a damaged one is a problem, a replaced one is
//! read at the next reload.

use std::fs;

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
