//! What several test modules use.

pub(crate) mod node;
pub(crate) mod query;

use std::io::Write;
use std::process::Command;

/// Whether an outside program is there. When it is not, the test says `ignored: needs …` and is to return; where
/// `WAYMARK_REQUIRE_TOOLS` is set (as in CI) a missing program is a failure.
pub fn has(program: &str) -> bool {
    let path = std::env::var("PATH").unwrap_or_default();
    let there = path
        .split(':')
        .chain(["/usr/sbin", "/sbin"])
        .any(|folder| std::path::Path::new(folder).join(program).is_file());
    if !there {
        assert!(std::env::var_os("WAYMARK_REQUIRE_TOOLS").is_none(), "{program} is not installed");
        // Past the capture of the test harness, which hides what a passing test prints.
        let _ = writeln!(std::io::stderr(), "ignored: needs {program}");
    }
    there
}

/// The program under test.
pub fn waymark() -> Command {
    Command::new(env!("CARGO_BIN_EXE_waymark"))
}
