//! Secondary zones: copied from NSD and Knot, followed, kept over restarts, expired; and primaries that lie.

use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{RData, RecordType};
use waymark::dns::tsig::{self, Algorithm};

use crate::support::primary::{Liar, Lie, Primary};
use crate::support::secondary::{Key, Secondary};
use crate::support::server::Server;
use crate::support::site::Site;
use crate::support::{client, has, until, until_so};

const ZONE: &str = "gslb.example.com";
const KEY: Key =
    Key { name: "transfer", algorithm: "hmac-sha256", secret: "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=" };
const DAYS: &str = "7200 1800 1209600 30";

/// The example as a secondary of `primaries`.
fn site(primaries: &str, key: bool, more: &str) -> Site {
    let site = Site::unchecked();
    let key = if key { "key = \"transfer\"\n" } else { "" };
    site.edit("file = \"gslb.example.com.zone\"\n", &format!("primaries = [{primaries}]\n{key}{more}\n"));
    site.write("secret", KEY.secret);
    fs::set_permissions(site.path("secret"), fs::Permissions::from_mode(0o600)).expect("a mode");
    site.append(&format!("\n[keys.{}]\nalgorithm = \"{}\"\nsecret-file = \"secret\"\n", KEY.name, KEY.algorithm));
    site
}

fn serial(server: &Server) -> Option<u32> {
    let answer = client::try_udp(server.dns, &client::query(ZONE, RecordType::SOA, ""))?;
    answer.answers.iter().find_map(|record| if let RData::SOA(soa) = &record.data { Some(soa.serial) } else { None })
}

#[track_caller]
fn wait_serial(server: &Server, expected: u32) -> Duration {
    until_so(&format!("serial {expected}"), || serial(server) == Some(expected))
}

fn rcode(server: &Server, name: &str, rtype: RecordType) -> ResponseCode {
    server.ask(name, rtype, "").response_code
}

/// What `status` says of the zone.
fn shown(server: &Server) -> serde_json::Value {
    server.status()["secondaries"][0].clone()
}

#[test]
fn nsd_and_knot_are_followed() {
    for name in ["nsd", "knotd"] {
        if !has(name) {
            continue;
        }
        for key in [None, Some(KEY)] {
            let port = Secondary::port();
            // The primary's port is known once it runs, and it must know ours before.
            let site = site(
                "\"127.0.0.1\"",
                key.is_some(),
                &format!("transfer-to = [\"127.0.0.1\"]\nnotify = [\"127.0.0.1:{port}\"]"),
            );
            let primary = Primary::start(name, ZONE, site.dns(), key, DAYS);
            site.edit("primaries = [\"127.0.0.1\"]", &format!("primaries = [\"{}\"]", primary.address));
            let server = site.start();
            wait_serial(&server, 1);
            assert_eq!(server.addresses("static.gslb.example.com", ""), ["192.0.2.1"], "{name} {key:?}");
            assert_eq!(client::records(&server.ask("text.gslb.example.com", RecordType::TXT, "")), ["TXT a \"b\""]);
            assert_eq!(rcode(&server, "nothing.gslb.example.com", RecordType::A), ResponseCode::NXDomain);
            // A service stands where the zone has an address as well.
            assert_ne!(server.addresses("www.gslb.example.com", ""), ["192.0.2.99"]);
            server.wait_logged(&["www.gslb.example.com is not served: a service stands"]);
            let next = has("knotd").then(|| Secondary::start("knotd", ZONE, port, server.dns, key));
            if let Some(next) = &next {
                next.wait_serial(ZONE, 1);
            }
            for step in 2..5 {
                let address = format!("192.0.2.{}", 100 + step);
                primary.change(step, &[&address], DAYS);
                // Its refresh timer is two hours: it was told.
                wait_serial(&server, step);
                assert_eq!(server.addresses("static.gslb.example.com", ""), [&*address], "{name} {key:?}");
                if let Some(next) = &next {
                    next.wait_serial(ZONE, step);
                    next.wait_addresses("static.gslb.example.com", &[&address]);
                }
            }
            assert!(server.metric("waymark_secondary_notifies_total") >= Some(3.0), "{name} {key:?}");
            assert_eq!(server.metric("waymark_secondary_refreshes_total{outcome=\"copied\"}"), Some(4.0));
            assert_eq!(shown(&server)["problem"], serde_json::Value::Null);
            drop((primary, server));
            // Nobody is there to be asked.
            let server = site.start();
            assert_eq!(serial(&server), Some(4), "at once");
            assert_eq!(server.addresses("static.gslb.example.com", ""), ["192.0.2.104"]);
            assert_eq!(rcode(&server, "host-7.gslb.example.com", RecordType::A), ResponseCode::NoError);
        }
    }
}

#[test]
fn a_zone_that_is_not_known_is_answered_servfail() {
    let liar = Liar::start(ZONE, None);
    liar.set(1, Lie::Refuses);
    let site = site(&format!("\"{}\"", liar.address), false, "");
    let server = site.start();
    for (name, rtype) in
        [(ZONE, RecordType::SOA), ("www.gslb.example.com", RecordType::A), ("x.gslb.example.com", RecordType::A)]
    {
        let answer = server.ask(name, rtype, "");
        assert_eq!(answer.response_code, ResponseCode::ServFail, "{name}");
        assert_eq!(client::extended_error(&answer).map(|(code, _)| code), Some(14), "{name}");
    }
    assert_eq!(rcode(&server, "example.org", RecordType::A), ResponseCode::Refused);
    until("what is wrong is shown", || {
        shown(&server)["problem"].as_str().filter(|text| text.contains("REFUSED")).map(drop)
    });
    liar.set(2, Lie::None);
    assert_eq!(liar.notify(server.dns, Ipv4Addr::LOCALHOST.into()), 0);
    wait_serial(&server, 2);
    assert!(!server.addresses("www.gslb.example.com", "").is_empty());
}

#[test]
fn a_zone_expires() {
    let liar = Liar::start(ZONE, None);
    let site = site(&format!("\"{}\"", liar.address), false, "");
    // Kept by an earlier process, confirmed so long ago that an hour is over.
    let server = site.start();
    wait_serial(&server, 1);
    let kept = site.path("state/zones/gslb.example.com.zone");
    until_so("it is kept", || kept.exists());
    drop((server, liar));
    let text = fs::read_to_string(&kept).expect("kept");
    let (head, rest) = text.split_once('\n').expect("lines");
    let at = head.rsplit_once(' ').expect("words").0;
    let now = waymark::time::unix_seconds();
    let confirm = |at_second: u64| {
        fs::write(&kept, format!("{at} {at_second}\n{rest}")).expect("written");
        let _ = fs::remove_file(site.path("state/zones/gslb.example.com.confirmed"));
    };
    confirm(now - 3595);
    let server = site.start();
    if let Some(serial) = serial(&server) {
        assert_eq!(serial, 1);
    }
    until_so("it expires", || rcode(&server, "host-1.gslb.example.com", RecordType::A) == ResponseCode::ServFail);
    server.wait_logged(&["no primary was heard for as long as its SOA allows"]);
    assert_eq!(shown(&server)["serial"], serde_json::Value::Null);
    drop(server);
    confirm(now - 4000);
    let server = site.start();
    assert_eq!(rcode(&server, "host-1.gslb.example.com", RecordType::A), ResponseCode::ServFail);
}

#[test]
fn what_is_wrong_is_not_served() {
    let secret: Vec<u8> = (0..32).collect();
    let key = tsig::Key::new(&waymark::dns::Name::parse(KEY.name, None).expect("a name"), Algorithm::Sha256, &secret);
    for key in [None, Some(key)] {
        let liar = Liar::start(ZONE, key.clone());
        let site = site(&format!("\"{}\"", liar.address), key.is_some(), "");
        let server = site.start();
        wait_serial(&server, 1);
        let mut serial_now = 1;
        let lies = [
            (Lie::BreaksOff, "ended before"),
            (Lie::Shrinks, "max-shrink"),
            (Lie::Empty, "no NS at its apex"),
            (Lie::OtherEnd, "another SOA at the end"),
            (Lie::OtherZone, "a name outside the zone"),
            (Lie::Malformed, "without form"),
            (Lie::Refuses, "REFUSED"),
            (Lie::BadThird, "BadSig"),
            (Lie::Unsigned, "BadSig"),
            // Unsigned messages without end, or the same host over and over.
            (Lie::Endless, if key.is_some() { "BadSig" } else { "more than" }),
        ];
        for (lie, told) in lies {
            let needs_key = matches!(lie, Lie::BadThird | Lie::Unsigned);
            // Without a key the endless copy is a gibibyte long: the bound is that of a unit test.
            if (needs_key || lie == Lie::Endless) && key.is_none() {
                continue;
            }
            liar.set(serial_now + 1, lie);
            until(&format!("{lie:?} is told"), || {
                shown(&server)["problem"].as_str().filter(|text| text.contains(told)).map(drop)
            });
            assert_eq!(serial(&server), Some(serial_now), "{lie:?}");
            assert_eq!(server.addresses("host-39.gslb.example.com", ""), ["192.0.2.39"], "{lie:?}");
            serial_now += 1;
            liar.set(serial_now, Lie::None);
            wait_serial(&server, serial_now);
            until("that is over", || shown(&server)["problem"].is_null().then_some(()));
        }
        // One that is behind changes nothing.
        liar.set(serial_now - 1, Lie::None);
        until("it is behind", || shown(&server)["problem"].as_str().filter(|text| text.contains("behind")).map(drop));
        assert_eq!(serial(&server), Some(serial_now));
        assert!(server.metric("waymark_secondary_refreshes_total{outcome=\"refused\"}") >= Some(5.0));
        assert_eq!(server.logged(&["max-shrink"]).len(), 1, "once for each cause");
    }
}

#[test]
fn only_primaries_are_heard() {
    let liar = Liar::start(ZONE, None);
    let site = site(&format!("\"{}\"", liar.address), false, "");
    let server = site.start();
    wait_serial(&server, 1);
    assert_eq!(liar.notify(server.dns, Ipv4Addr::new(127, 0, 0, 2).into()), 5);
    assert_eq!(liar.notify(server.dns, Ipv4Addr::LOCALHOST.into()), 0);
    assert_eq!(server.metric("waymark_notifies_refused_total"), Some(1.0));
    assert_eq!(server.metric("waymark_secondary_notifies_total"), Some(1.0));
    let other = Liar::start("example.org", None);
    assert_eq!(other.notify(server.dns, Ipv4Addr::LOCALHOST.into()), 9);
    assert!(liar.copies() >= 1);
}
