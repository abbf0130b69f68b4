//! The servers' turns: all are started and their answers looked at; then, kind by kind, each is measured in each round.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use hickory_proto::op::{Message, ResponseCode};
use tempfile::TempDir;

use crate::arguments::Arguments;
use crate::full;
use crate::kind::Kind;
use crate::peer::Peer;
use crate::running::{self, Running};
use crate::support::load::{self, Report};

/// Answers that are looked at before anything is measured.
const LOOKED_AT: usize = 300;

/// How long round-trip times need at most until answers go by them.
const UNTIL_PUBLISHED: Duration = Duration::from_secs(2);

/// What one server did with one kind of answer.
pub(crate) struct Entry {
    pub(crate) kind: Kind,
    pub(crate) peer: Peer,
    /// One for each round.
    pub(crate) reports: Vec<Report>,
}

/// Runs all of it; progress goes to standard error.
pub(crate) fn run(arguments: &Arguments) -> Result<Vec<Entry>, String> {
    let scratch = tempfile::tempdir().map_err(|error| format!("cannot make a scratch folder: {error}"))?;
    let contest = Contest { arguments, scratch, servers: vec![] };
    contest.start()?.measure()
}

/// Those asked for that are there and know one of the kinds, with their programs; says which are not there.
fn installed(arguments: &Arguments) -> Vec<(Peer, PathBuf)> {
    let mut installed = vec![];
    let kinds = arguments.kinds();
    for peer in arguments.peers().into_iter().filter(|peer| kinds.iter().any(|kind| peer.knows(*kind))) {
        match peer.program(arguments.other.as_deref()) {
            Some(program) => installed.push((peer, program)),
            None => say(&format!("not installed: {}", peer.name())),
        }
    }
    installed
}

struct Contest<'a> {
    arguments: &'a Arguments,
    scratch: TempDir,
    /// In the order of their turns; echo is started for each kind.
    servers: Vec<(Peer, Running)>,
}

/// What the answers of a server to the same clients look like.
#[derive(Default)]
struct Looks {
    /// Addresses of each answer.
    addresses: Vec<Vec<IpAddr>>,
    /// Octets of all answers beyond those of the queries.
    added: usize,
}

impl Contest<'_> {
    /// Starts every server but echo.
    fn start(mut self) -> Result<Self, String> {
        for (peer, program) in installed(self.arguments) {
            if peer != Peer::Echo {
                let running = self.start_one(peer, &program)?;
                self.servers.push((peer, running));
            }
        }
        Ok(self)
    }

    fn start_one(&self, peer: Peer, program: &Path) -> Result<Running, String> {
        let (port, folder) = (running::free_port()?, running::folder(self.scratch.path(), peer.name())?);
        peer.write(&folder, port, running::free_port()?, self.arguments.full)?;
        let running = self.spawn(peer.command(program, &folder), port, &folder, Kind::Static)?;
        if peer.is_waymark() && (self.arguments.full || self.arguments.kinds().contains(&Kind::Latency)) {
            tell_samples(program, &folder)?;
        }
        Ok(running)
    }

    fn start_echo(&self, kind: Kind, pad: usize) -> Result<Running, String> {
        let (port, folder) = (running::free_port()?, running::folder(self.scratch.path(), Peer::Echo.name())?);
        let program = Peer::Echo.program(None).ok_or("this program cannot be found")?;
        let mut command = Command::new(program);
        let numbers = [usize::from(port), self.arguments.batch, pad, usize::from(kind.answers())];
        command.arg("echo");
        for (flag, number) in ["--port", "--batch", "--pad", "--answers"].into_iter().zip(numbers) {
            command.args([flag, &number.to_string()]);
        }
        self.spawn(command, port, &folder, kind)
    }

    fn spawn(&self, command: Command, port: u16, folder: &Path, kind: Kind) -> Result<Running, String> {
        Running::start(command, self.arguments.server_core, port, folder.join("log"), &kind.queries()[0])
    }

    fn measure(mut self) -> Result<Vec<Entry>, String> {
        let mut entries = vec![];
        for kind in self.arguments.kinds() {
            let pad = self.look(kind)?;
            let has_echo = self.arguments.peers().contains(&Peer::Echo);
            let echo = has_echo.then(|| self.start_echo(kind, pad)).transpose()?;
            self.servers.splice(0..0, echo.map(|echo| (Peer::Echo, echo)));
            entries.extend(self.rounds(kind)?);
            self.servers.retain(|(peer, _)| *peer != Peer::Echo);
        }
        Ok(entries)
    }

    /// Looks at some answers of each server, which must be alike where nothing is drawn. Returns how many octets an
    /// answer has beyond its query: Waymark's, or those of the first server where it takes no part.
    fn look(&self, kind: Kind) -> Result<usize, String> {
        let mut first: Option<(Peer, Looks)> = None;
        for (peer, running) in self.servers.iter().filter(|(peer, _)| peer.knows(kind)) {
            let looks =
                look(kind, running).map_err(|problem| format!("{}, {}: {problem}", peer.name(), kind.name()))?;
            match &first {
                Some((other, seen)) if kind.is_certain() && seen.addresses != looks.addresses => {
                    let (one, two, kind) = (other.name(), peer.name(), kind.name());
                    return Err(format!("{one} and {two} give the same clients different answers of kind {kind}"));
                }
                Some(_) => {}
                None => first = Some((*peer, looks)),
            }
        }
        Ok(first.map_or(0, |(_, looks)| (looks.added + LOOKED_AT / 2) / LOOKED_AT))
    }

    fn rounds(&self, kind: Kind) -> Result<Vec<Entry>, String> {
        let knows = self.servers.iter().filter(|(peer, _)| peer.knows(kind));
        let mut entries: Vec<(Entry, &Running)> =
            knows.map(|(peer, running)| (Entry { kind, peer: *peer, reports: vec![] }, running)).collect();
        let names: Vec<&str> = entries.iter().map(|(entry, _)| entry.peer.name()).collect();
        say(&format!("{}: {} rounds of {}", kind.name(), self.arguments.rounds, names.join(", ")));
        for round in 0..self.arguments.rounds {
            for (entry, running) in &mut entries {
                entry.reports.push(self.turn(kind, running, u64::from(round))?);
            }
        }
        Ok(entries.into_iter().map(|(entry, _)| entry).collect())
    }

    fn turn(&self, kind: Kind, running: &Running, seed: u64) -> Result<Report, String> {
        let options = load::Options {
            duration: self.arguments.duration(),
            sockets: self.arguments.sockets,
            window: self.arguments.window,
            rate: self.arguments.rate,
            least_answers: kind.answers(),
            seed,
            core: Some(self.arguments.load_core),
            process: Some(running.id()),
            ..load::Options::new(running.address, kind.queries())
        };
        load::run(&options).map_err(|error| format!("the load failed: {error}"))
    }
}

/// Looks at [`LOOKED_AT`] answers, each of which must be a good one.
fn look(kind: Kind, running: &Running) -> Result<Looks, String> {
    let mut looks = Looks::default();
    running.ask(&kind.queries(), LOOKED_AT, |query, answer| {
        let answer = answer.ok_or("no answer")?;
        looks.addresses.push(addresses(answer, kind.answers())?);
        looks.added += answer.len().saturating_sub(query.len());
        Ok(())
    })?;
    Ok(looks)
}

/// The addresses of an answer, sorted, of which there must be so many.
fn addresses(answer: &[u8], count: u16) -> Result<Vec<IpAddr>, String> {
    let message = Message::from_vec(answer).map_err(|error| format!("no DNS message: {error}"))?;
    let mut addresses: Vec<IpAddr> = message.answers.iter().filter_map(|record| record.data.ip_addr()).collect();
    addresses.sort_unstable();
    if message.response_code != ResponseCode::NoError || addresses.len() != usize::from(count) {
        let code = message.response_code;
        return Err(format!("{code} with {} addresses where NoError with {count} is expected", addresses.len()));
    }
    Ok(addresses)
}

/// Tells the server in `folder` round-trip times, and waits until answers go by them.
fn tell_samples(program: &Path, folder: &Path) -> Result<(), String> {
    let file = folder.join("samples.csv");
    let output = fs::write(&file, full::samples()).and_then(|()| Peer::import(program, folder, &file).output());
    let output = output.map_err(|error| format!("cannot import round-trip times: {error}"))?;
    if !output.status.success() {
        return Err(format!("importing round-trip times failed: {}", String::from_utf8_lossy(&output.stderr)));
    }
    thread::sleep(UNTIL_PUBLISHED);
    Ok(())
}

/// A line of progress.
#[allow(clippy::print_stderr)]
pub(crate) fn say(line: &str) {
    eprintln!("{line}");
}
