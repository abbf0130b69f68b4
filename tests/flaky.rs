//! An instance that fails now and then: `window` takes it out where `fall` never would (SPEC 2.2).

use crate::support::backend::{Backends, Behaviour};
use crate::support::site::Site;
use crate::support::until_so;

#[test]
fn one_failure_in_three_takes_an_instance_out() {
    let site = Site::example();
    // All but the pace is as it is when nobody says.
    let own = "interval = \"1s\"\ntimeout  = \"500ms\"\nfall = 2\nrise = 2\nhold-down = \"0s\"";
    let own = own.replace("fall = 2", "fall     = 2").replace("rise = 2", "rise     = 2");
    site.edit(&own, "interval = \"400ms\"\ntimeout  = \"390ms\"");
    let mut backends = Backends::example(site.backends);
    let server = site.start();
    server.wait_health("eu-1", "up");
    backends.set("eu-1", Behaviour::EachThird(503));
    server.wait_logged(&["instance/web/eu-1", "up -> down", "status 503, expected 200-299"]);
    // It never passes three times in a row, which it would take to return.
    let then = backends.served("eu-1");
    until_so("more probes", || {
        assert_eq!(server.health("eu-1").0, "down");
        backends.served("eu-1") > then + 12
    });
}
