//! What several test modules use.
//!
//! | file | gives |
//! |---|---|
//! | `site`, `server` | a configuration on ports of its own, and the real binary that serves it |
//! | `backend` | what is checked: HTTP servers that can be told to die, hang, lie |
//! | `client` | DNS over UDP and TCP, and HTTP, without the code under test |
//! | `control` | requests over the control socket |
//! | `differential` | NSD and Knot beside the server, asked the same |
//! | `disk` | a disk that fills up soon |
//! | `floods` | clients that only hold connections, and honest ones among them |
//! | `fuzz` | what the fuzzer throws octets at |
//! | `mmdb`, `world` | writes geo data bases; a whole world in one |
//! | `agree` | gdnsd beside the server, and who of them is right |
//! | `net` | networks of its own, whose cables can be pulled |
//! | `resolver` | resolvers that are not ours, in front of the server |
//! | `encrypted`, `h2`, `quic` | the example over encrypted transports; HTTP over TLS by hand; QUIC by `quinn` and `h3` |
//! | `secondary` | NSD and Knot, which copy a zone and are told of changes |
//! | `primary` | NSD, Knot and one that lies, which a zone is copied from |
//! | `peer` | what both of these have in common |
//! | `tls` | certificates of an authority of its own, and clients that believe it |
//! | `ports` | ports that nobody else takes |
//! | `node`, `query` | answering inside this process, and queries octet by octet |

pub(crate) mod agree;
pub(crate) mod backend;
pub(crate) mod client;
pub(crate) mod control;
pub(crate) mod differential;
pub(crate) mod disk;
pub(crate) mod encrypted;
pub(crate) mod floods;
pub(crate) mod fuzz;
pub(crate) mod h2;
pub(crate) mod mmdb;
pub(crate) mod net;
pub(crate) mod node;
pub(crate) mod peer;
pub(crate) mod ports;
pub(crate) mod primary;
pub(crate) mod query;
pub(crate) mod quic;
pub(crate) mod resolver;
pub(crate) mod secondary;
pub(crate) mod server;
pub(crate) mod site;
pub(crate) mod tls;
pub(crate) mod world;

// Where the fuzzer has them too.
pub(crate) use differential::{message, name};

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

/// Longest that anything may take, on however busy a machine; no claim about speed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// Pause between two looks at something that is to happen.
const PAUSE: Duration = Duration::from_millis(10);

/// Whether an outside program is there. When it is not, the test says `ignored: needs …` and is to return; where
/// `WAYMARK_REQUIRE_TOOLS` is set (as in CI) a missing program is a failure.
pub(crate) fn has(name: &str) -> bool {
    let there = program(name).is_some();
    if !there {
        assert!(!is_strict(), "{name} is not installed");
        say(&format!("ignored: needs {name}"));
    }
    there
}

/// Where an outside program is: in the PATH, or where servers are that a user's PATH leaves out.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default();
    let folders = path.split(':').chain(["/usr/sbin", "/sbin"]);
    folders.map(|folder| Path::new(folder).join(name)).find(|path| path.is_file())
}

/// Whether this is CI, where nothing may be left out.
pub(crate) fn is_strict() -> bool {
    std::env::var_os("WAYMARK_REQUIRE_TOOLS").is_some()
}

/// Says that a test is ignored, as this user may not do what it needs. To root that must not happen in CI.
pub(crate) fn needs_root(what: &str) {
    let is_root = std::fs::metadata("/proc/self").is_ok_and(|of| std::os::unix::fs::MetadataExt::uid(&of) == 0);
    assert!(!(is_root && is_strict()), "root may not make {what}");
    say(&format!("ignored: needs root, for {what}"));
}

/// A line to standard error past the capture of the test harness, which hides what a passing test prints.
pub(crate) fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// The program under test, deaf to variables that the developer may have set.
pub(crate) fn waymark() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_waymark"));
    command.env_remove("WAYMARK_CONFIG").env_remove("WAYMARK_LOG").env_remove("SUDO_USER");
    command
}

/// Looks again and again until there is something; gives up with `what` when patience ends.
#[track_caller]
pub(crate) fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
        thread::sleep(PAUSE);
    }
}

/// [`until`] something is so; how long it took.
#[track_caller]
pub(crate) fn until_so(what: &str, mut so: impl FnMut() -> bool) -> Duration {
    let began = Instant::now();
    until(what, || so().then_some(()));
    began.elapsed()
}
