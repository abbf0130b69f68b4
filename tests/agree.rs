//! The same clients of a small world get the same region from Waymark and from gdnsd, in scopes that are right and no
//! narrower. `cargo bench --bench compare -- agree` does the same at full size.

use std::path::Path;

use crate::support::agree::{self, Options};
use crate::support::world::Size;
use crate::support::{has, ports, program, say};

#[test]
fn clients_get_the_region_that_gdnsd_gives_them() {
    if !has("gdnsd") {
        return;
    }
    let folder = tempfile::tempdir().expect("a scratch folder");
    let options = Options {
        size: Size::SMALL,
        prefixes: 4000,
        seed: 1,
        waymark: Path::new(env!("CARGO_BIN_EXE_waymark")),
        gdnsd: &program("gdnsd").expect("it is there"),
        ports: [ports::free(), ports::free(), ports::free()],
        folder: folder.path(),
    };
    let outcome = agree::run(&options).expect("an outcome");
    say(&format!("measured: {outcome}"));
    assert!(outcome.holds(), "{outcome}");
}
