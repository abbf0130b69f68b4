//! The server as users run it, in a process of its own.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::system;

/// A server that runs; it is killed when dropped.
pub(crate) struct Server {
    child: Child,
    log: PathBuf,
    /// From the start of the process to the line that says that it answers.
    pub(crate) ready_after: Duration,
}

/// Longest that a start or a reload may take.
const PATIENCE: Duration = Duration::from_secs(120);

impl Server {
    /// Starts it on one core and waits until it answers.
    pub(crate) fn start(configuration: &Path, core: usize) -> io::Result<Server> {
        Server::start_believing(configuration, core, None)
    }

    /// The same; instead of the system's it believes the root certificates in the file `roots`.
    pub(crate) fn start_believing(configuration: &Path, core: usize, roots: Option<&Path>) -> io::Result<Server> {
        let log = configuration.with_file_name("log");
        let begun = Instant::now();
        let mut command = Command::new(env!("CARGO_BIN_EXE_waymark"));
        command.args(["run", "--config"]).arg(configuration).stderr(fs::File::create(&log)?).stdin(Stdio::null());
        command.envs(roots.map(|roots| ("SSL_CERT_FILE", roots)));
        system::confine(&mut command, core);
        let child = command.spawn()?;
        let mut server = Server { child, log, ready_after: Duration::ZERO };
        server.wait_for("answers on", 1)?;
        server.ready_after = begun.elapsed();
        Ok(server)
    }

    /// Has it reload; returns a function that tells whether that is done.
    pub(crate) fn reload(&self) -> io::Result<impl Fn() -> bool + use<>> {
        let (log, before) = (self.log.clone(), self.said("reloaded"));
        Command::new("kill").args(["-HUP", &self.pid().to_string()]).status()?;
        Ok(move || count(&log, "reloaded") > before)
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Octets: resident now, and at most so far.
    pub(crate) fn memory(&self) -> (u64, u64) {
        memory_of(&self.pid().to_string())
    }

    /// Descriptors that it has open.
    pub(crate) fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.pid())).map_or(0, Iterator::count)
    }

    fn said(&self, what: &str) -> usize {
        count(&self.log, what)
    }

    fn wait_for(&mut self, what: &str, times: usize) -> io::Result<()> {
        let begun = Instant::now();
        while self.said(what) < times {
            if let Some(status) = self.child.try_wait()? {
                let log = fs::read_to_string(&self.log).unwrap_or_default();
                return Err(io::Error::other(format!("the server ended ({status}):\n{log}")));
            }
            if begun.elapsed() > PATIENCE {
                return Err(io::Error::other(format!("the server did not say \"{what}\" in {PATIENCE:?}")));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn count(log: &Path, what: &str) -> usize {
    let mut text = String::new();
    let read = fs::File::open(log).and_then(|mut file| file.read_to_string(&mut text));
    read.map_or(0, |_| text.matches(what).count())
}

/// Octets that a process (`self`, or its number) holds: resident now, and at most so far.
pub(crate) fn memory_of(process: &str) -> (u64, u64) {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let of = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
        kilobytes.unwrap_or(0) * 1024
    };
    (of("VmRSS:"), of("VmHWM:"))
}
