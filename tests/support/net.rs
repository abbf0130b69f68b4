//! Network namespaces: networks of a test's own, whose cables can be pulled. Nothing in them reaches the machine's own
//! network, and they are gone when the last thread, process and file of theirs is.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::panic::resume_unwind;
use std::process::Command;
use std::thread;

use nix::sched::{CloneFlags, setns, unshare};

use super::{has, needs_root};

/// A network namespace with a loopback interface.
pub(crate) struct Net(File);

impl Net {
    /// A new one. Where that is not permitted, the test says `ignored: needs …` and is to return.
    pub(crate) fn new() -> Option<Net> {
        if !has("ip") || !has("nft") {
            return None;
        }
        let create = || {
            unshare(CloneFlags::CLONE_NEWNET).ok()?;
            File::open("/proc/thread-self/ns/net").ok()
        };
        let Some(file) = thread::spawn(create).join().expect("no panic") else {
            needs_root("a network namespace");
            return None;
        };
        let net = Net(file);
        net.run("ip link set lo up");
        Some(net)
    }

    /// Does something in it: sockets, threads and processes that are made there belong there for as long as they are.
    pub(crate) fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let inside = || {
            setns(&self.0, CloneFlags::CLONE_NEWNET).expect("root");
            work()
        };
        thread::scope(|scope| scope.spawn(inside).join()).unwrap_or_else(|panic| resume_unwind(panic))
    }

    /// Runs commands in it, one a line.
    #[track_caller]
    pub(crate) fn run(&self, commands: &str) {
        for command in commands.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let output = self.enter(|| Command::new("sh").args(["-c", command]).env("PATH", path()).output());
            let output = output.expect("a shell");
            assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
        }
    }

    /// A cable from `eth0` of this one to `eth0` of the other; both ends are down.
    pub(crate) fn connect(&self, other: &Net) {
        let there = format!("/proc/{}/fd/{}", std::process::id(), other.0.as_raw_fd());
        self.run(&format!("ip link add eth0 type veth peer name eth0 netns {there}"));
    }
}

/// Where `ip` and `nft` are, whoever runs the tests.
fn path() -> String {
    format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default())
}
