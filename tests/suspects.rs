//! A check that is wrong (SPEC 2.8), on the real binary with real backends: everything that it looks at fails at once.

use std::collections::BTreeSet;

use hickory_proto::rr::RecordType;

use crate::support::backend::Backends;
use crate::support::server::Server;
use crate::support::site::Site;
use crate::support::{until, until_so};

const WWW: &str = "www.gslb.example.com";
const EUROPE: &str = "203.0.113.0/24";
const ALL: [&str; 5] = ["eu-1", "eu-2", "us-1", "us-2", "ap-1"];

/// `tests/example`, whose backends are reached by a second check as well.
fn site() -> Site {
    let site = Site::example();
    site.append(
        "\n[checks.port]\ntype = \"tcp\"\ninterval = \"1s\"\ntimeout = \"500ms\"\n\
         [pools.other]\ncheck = \"port\"\n[pools.other.instances]\n\
         eu-1 = { region = \"eu-west\", address = \"127.0.11.1\", port = 18080 }\n\
         [services.\"other.gslb.example.com\"]\npool = \"other\"\n",
    );
    site
}

fn served(server: &Server) -> BTreeSet<String> {
    (0..40).flat_map(|_| server.addresses(WWW, EUROPE)).collect()
}

fn is_suspect(server: &Server) -> bool {
    server.status()["suspects"].as_array().is_some_and(|suspects| !suspects.is_empty())
}

/// Has the check expect what no backend answers.
fn break_check(site: &Site, server: &Server) {
    site.edit("path     = \"/health\"", "path     = \"/health\"\nexpect-status = [\"204\"]");
    server.reload();
}

#[test]
fn a_check_of_which_all_fails_is_held_then_believed() {
    let site = site();
    let _backends = Backends::example(site.backends);
    let server = site.start();
    let before = served(&server);
    break_check(&site, &server);
    until_so("the check is suspect", || {
        assert!(served(&server).is_subset(&before), "nothing is taken out yet");
        is_suspect(&server)
    });
    server.wait_logged(&["ERROR", "check/web is suspect", "status 200, expected 204"]);
    assert_eq!(server.metric("waymark_check_suspect{check=\"web\"}"), Some(1.0));
    assert_eq!(served(&server), before, "nothing was taken out");
    assert_eq!(server.status()["pools"][0]["instances"][0]["addresses"][0]["verdict"], "up", "what is gone by");
    until("it persists, so it is applied", || (!is_suspect(&server)).then_some(()));
    for instance in ALL {
        assert_eq!(server.wait_health(instance, "down"), "status 200, expected 204");
    }
    server.wait_logged(&["ERROR", "check/web", "still fail"]);
    until_so("it fails open", || server.metric(&format!("waymark_fail_open{{service=\"{WWW}\"}}")) == Some(1.0));
    assert!(!server.ask(WWW, RecordType::A, EUROPE).answers.is_empty());
}

#[test]
fn a_check_that_is_mended_in_time_took_nothing_out() {
    let site = site();
    // So that there is time to mend it: verdicts are held for two intervals. The others are waited for a timeout and a second
    // until one that fails is believed, also where the machine is busy.
    site.edit("interval = \"1s\"\ntimeout  = \"500ms\"\n", "interval = \"8s\"\ntimeout  = \"5s\"\n");
    site.edit("interval = \"1s\"\ntimeout = \"500ms\"\n", "interval = \"8s\"\ntimeout = \"5s\"\n");
    let _backends = Backends::example(site.backends);
    let server = site.start();
    break_check(&site, &server);
    until_so("the check is suspect", || is_suspect(&server));
    site.edit("expect-status = [\"204\"]", "");
    server.reload();
    until_so("the check is believed again", || !is_suspect(&server));
    server.wait_logged(&["check/web", "nothing fails any more"]);
    for instance in ALL {
        assert_eq!(server.health(instance).0, "up");
    }
    assert_eq!(server.logged(&["up -> down"]), Vec::<String>::new());
}
