//! A server as a child process on a core of its own; ended by its process id, at the latest when it is dropped.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::query::{Query, Random};
use crate::support::system::Signal;
use crate::support::{cpu, system};

/// Longest that a server may take to answer its first query.
const START: Duration = Duration::from_secs(60);
/// Longest that it may take to end by itself.
const END: Duration = Duration::from_secs(3);
/// How long to wait for an answer.
const PATIENCE: Duration = Duration::from_millis(500);
const PAUSE: Duration = Duration::from_millis(20);
/// Lines of a server's log that are shown when it did not start.
const LINES: usize = 10;

/// A server that runs.
pub(crate) struct Running {
    child: Child,
    log: PathBuf,
    pub(crate) address: SocketAddr,
}

impl Running {
    /// Starts it on this core, and waits until it answers `query`. What it says goes to the file `log`.
    pub(crate) fn start(
        mut command: Command,
        core: usize,
        port: u16,
        log: PathBuf,
        query: &Query,
    ) -> Result<Running, String> {
        let program = command.get_program().display().to_string();
        let failed = |error| format!("cannot start {program}: {error}");
        let file = File::create(&log).map_err(failed)?;
        command.stdin(Stdio::null()).stdout(file.try_clone().map_err(failed)?).stderr(file);
        system::confine(&mut command, core);
        let child = command.spawn().map_err(failed)?;
        let mut running = Running { child, log, address: (Ipv4Addr::LOCALHOST, port).into() };
        running.wait_ready(query).map_err(|problem| format!("{program} {problem}:\n{}", running.last_words()))?;
        Ok(running)
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Asks once from `count` clients, and has each answer, or that there was none, looked at.
    pub(crate) fn ask(
        &self,
        queries: &[Query],
        count: usize,
        mut look: impl FnMut(&[u8], Option<&[u8]>) -> Result<(), String>,
    ) -> Result<(), String> {
        let socket = self.socket().map_err(|error| format!("cannot ask: {error}"))?;
        let (mut random, mut buffer) = (Random(7), [0; system::ROOM]);
        for query in queries.iter().cycle().take(count) {
            let mut query = query.clone();
            let octets = query.vary(&mut random);
            let received = socket.send(octets).and_then(|_| socket.recv(&mut buffer));
            look(octets, received.ok().map(|length| &buffer[..length]))?;
        }
        Ok(())
    }

    fn socket(&self) -> std::io::Result<UdpSocket> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.connect(self.address)?;
        Ok(socket)
    }

    fn wait_ready(&mut self, query: &Query) -> Result<(), String> {
        let deadline = Instant::now() + START;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait().map_err(|error| error.to_string())? {
                return Err(format!("ended at once ({status})"));
            }
            let is_answer =
                |answer: Option<&[u8]>| answer.is_some_and(|answer| answer.len() > 7 && answer[3] & 15 == 0);
            let mut ready = false;
            self.ask(std::slice::from_ref(query), 1, |_, answer| {
                ready = is_answer(answer);
                Ok(())
            })?;
            if ready {
                return Ok(());
            }
            thread::sleep(PAUSE);
        }
        Err("did not answer".to_owned())
    }

    fn last_words(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LINES)..].join("\n")
    }

    /// Whether it has ended within `END`.
    fn has_ended(&mut self) -> bool {
        let deadline = Instant::now() + END;
        while Instant::now() < deadline {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return true;
            }
            thread::sleep(PAUSE);
        }
        false
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let family = family(self.child.id());
        system::signal(self.child.id(), Signal::Term);
        if !self.has_ended() {
            family.into_iter().for_each(|process| system::signal(process, Signal::Kill));
        }
        let _ = self.child.wait();
    }
}

/// A process and all below it.
fn family(process: u32) -> Vec<u32> {
    let below = cpu::children(process).into_iter().flat_map(family);
    std::iter::once(process).chain(below).collect()
}

/// A port of loopback that is free for UDP and TCP.
pub(crate) fn free_port() -> Result<u16, String> {
    let found = (0..100).find_map(|_| {
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).ok()?;
        let port = tcp.local_addr().ok()?.port();
        UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).ok().map(|_| port)
    });
    found.ok_or_else(|| "no free port on loopback".to_owned())
}

/// A folder of its own for a server, below `scratch`.
pub(crate) fn folder(scratch: &Path, name: &str) -> Result<PathBuf, String> {
    let folder = scratch.join(name);
    fs::create_dir_all(&folder).map_err(|error| format!("cannot make {}: {error}", folder.display()))?;
    Ok(folder)
}
