//! Loading a large configuration takes memory in proportion to what it makes: a million instances must fit into a small
//! machine. Counted in octets by the allocator of this test program, for each thread apart.

use std::fs;

use waymark::config;

use crate::no_allocation::octets_of;

const FILES: usize = 20;
const SERVICES: usize = 2_000;
const INSTANCES: usize = 8;

/// Services with a pool each, in included files.
fn configuration() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).expect("a file");
    let main =
        "include = [\"services-*.toml\"]\n[zones.\"example.com\"]\nfile = \"zone\"\n[regions.eu]\n[regions.us]\n";
    write("waymark.toml", main);
    write("zone", "$TTL 300\n@ SOA ns hostmaster 1 2 3 4 60\n@ NS ns\nns A 127.0.0.1\n");
    for file in 0..FILES {
        let mut text = String::new();
        for service in (file..SERVICES).step_by(FILES) {
            text += &format!("[services.\"s{service}.example.com\"]\npool = \"p{service}\"\nsteer = \"failover\"\n");
            text += &format!("[pools.p{service}.instances]\n");
            for at in 0..INSTANCES {
                let (region, address) = (["eu", "us"][at % 2], format!("10.{}.{}.{at}", service / 250, service % 250));
                text += &format!("i{at} = {{ region = \"{region}\", address = \"{address}\", weight = {at} }}\n");
            }
        }
        write(&format!("services-{file:02}.toml"), &text);
    }
    folder
}

#[test]
fn loading_takes_little_for_each_instance() {
    let folder = configuration();
    let load = || config::load(&folder.path().join("waymark.toml"));
    // Once before: what is made once and stays.
    drop(load());
    let (loaded, most, _) = octets_of(load);
    let fleet = loaded.configuration.expect("a configuration").fleet;
    assert_eq!(fleet.instances.len(), SERVICES * INSTANCES);
    let each = |octets: i64| octets / (SERVICES * INSTANCES) as i64;
    let (copy, _, kept) = octets_of(|| fleet.clone());
    assert_eq!(copy, fleet);
    assert!(each(most) < 500, "{} octets for each instance while loading", each(most));
    assert!(each(kept) < 120, "{} octets for each instance of the fleet", each(kept));
}
