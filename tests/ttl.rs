//! TTLs that follow health (SPEC 6), as a client of the real binary sees them.

use hickory_proto::op::Message;
use hickory_proto::rr::RecordType;

use crate::support::backend::{Backends, Behaviour, HEALTHY};
use crate::support::server::Server;
use crate::support::site::Site;
use crate::support::{client, until, until_so};

const WWW: &str = "www.gslb.example.com";
const EUROPE: &str = "203.0.113.0/24";

/// `tests/example`, patient: a probe a second, ten in a row for a verdict.
fn site() -> Site {
    let site = Site::example();
    site.edit("timeout  = \"500ms\"", "timeout  = \"900ms\"\nwindow   = \"off\"");
    site.edit("fall     = 2\nrise     = 2", "fall     = 10\nrise     = 10");
    site.edit(
        "balance = \"weighted\"\nttl     = \"5s\"",
        "balance = \"weighted\"\nttl     = { max = \"60s\", min = \"2s\" }",
    );
    site
}

/// The TTL of all records that a client in Europe gets.
#[track_caller]
fn ttl(server: &Server) -> u32 {
    let message = server.ask(WWW, RecordType::A, EUROPE);
    let ttls: Vec<u32> = message.answers.iter().map(|record| record.ttl).collect();
    assert!(!ttls.is_empty() && ttls.iter().all(|ttl| *ttl == ttls[0]), "{ttls:?}");
    ttls[0]
}

fn negative_ttl(message: &Message) -> u32 {
    message.authorities[0].ttl
}

#[test]
fn the_ttl_is_short_while_something_may_change_soon() {
    let site = site();
    let mut backends = Backends::example(site.backends);
    let server = site.start();
    until_so("nothing speaks against what is up", || ttl(&server) == 60);
    assert_eq!(negative_ttl(&server.ask(WWW, RecordType::MX, EUROPE)), 2, "it has no records of this type");

    // A lost probe or two of one instance, and all is as before.
    backends.set("eu-1", Behaviour::Status(503));
    until_so("a failure is seen", || ttl(&server) < 60);
    backends.set("eu-1", HEALTHY);
    until_so("it was one alone", || ttl(&server) == 60);

    // What another region goes through does not matter here: nobody asks it.
    backends.kill(&["us-1"]);
    until("a failure of another region", || server.health("us-1").1.contains("refused").then_some(()));
    until_so("nothing speaks against those that are asked", || ttl(&server) == 60);
    assert!(server.health("us-1").1.contains("refused"));
    backends.revive(&["us-1"]);

    // Failure by failure less is left, down to `min`; then it is known that the instance is down.
    backends.kill(&["eu-1"]);
    let mut seen = vec![until("a failure is seen", || Some(ttl(&server)).filter(|ttl| *ttl < 60))];
    until_so("down for good", || {
        seen.push(ttl(&server));
        seen.last() == Some(&60)
    });
    let falling = &seen[..seen.len() - 1];
    assert!(falling.is_sorted_by(|a, b| a >= b), "{seen:?}");
    assert!(falling[0] <= 9 && falling.last() == Some(&2), "{seen:?}");
    assert_eq!(server.health("eu-1").0, "down");

    // The same on its way back.
    backends.set("eu-1", HEALTHY);
    until_so("a pass is seen", || ttl(&server) < 60);
    server.wait_health("eu-1", "up");
    until_so("up for good", || ttl(&server) == 60);
}

#[test]
fn the_ttl_is_least_while_failing_open_or_frozen() {
    let site = Site::example();
    site.edit(
        "balance = \"weighted\"\nttl     = \"5s\"",
        "balance = \"weighted\"\nttl     = { max = \"60s\", min = \"2s\" }",
    );
    let mut backends = Backends::example(site.backends);
    let server = site.start();
    until_so("all is well", || ttl(&server) == 60);
    let explained = client::text(&site.run(&["explain", WWW, "A", "--client", EUROPE]));
    assert!(explained.contains("60: nothing speaks against the verdicts consulted"), "{explained}");
    let run = |arguments: &[&str]| {
        let output = site.run(arguments);
        assert!(output.status.success(), "{}", client::text(&output));
    };
    run(&["freeze", "instance/web/eu-1", "--for", "1m"]);
    until_so("a verdict consulted is held", || ttl(&server) == 2);
    run(&["overrides", "--remove", "instance/web/eu-1"]);
    until_so("not any more", || ttl(&server) == 60);

    backends.kill(&["eu-1", "eu-2", "us-1", "us-2", "ap-1"]);
    for instance in ["eu-1", "eu-2", "us-1", "us-2", "ap-1"] {
        server.wait_health(instance, "down");
    }
    until_so("it fails open", || ttl(&server) == 2);
}
