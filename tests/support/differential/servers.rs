//! The servers with the same zones, and asking each many queries at once.

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::message::{AA, ANY, Answer, Ask, CH, IN, SOA};
use super::name;
use super::zones::Zones;

/// Longest that a server may take to load zones and answer.
const START: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(50);
/// How long to wait for an answer, and how often to ask again: what is lost is lost by want of buffers.
const WAIT: Duration = Duration::from_millis(500);
const TRIES: usize = 10;
/// Lines of its log that are shown when it does not start.
const LINES: usize = 10;
/// NSD is asked one in so many of what it answers with an error.
const ERRORS: u64 = 32;
/// What all of them call themselves.
const NODE: &str = "differential";

/// Whose server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Peer {
    Waymark,
    Nsd,
    Knot,
}

impl Peer {
    pub fn name(self) -> &'static str {
        match self {
            Peer::Waymark => "waymark",
            Peer::Nsd => "nsd",
            Peer::Knot => "knot",
        }
    }

    fn configuration(self) -> &'static str {
        match self {
            Peer::Waymark => "waymark.toml",
            Peer::Nsd => "nsd.conf",
            Peer::Knot => "knot.conf",
        }
    }

    fn arguments(self, configuration: &Path) -> Vec<PathBuf> {
        let words: &[&str] = match self {
            Peer::Waymark => &["run", "--config"],
            Peer::Nsd => &["-d", "-c"],
            Peer::Knot => &["-c"],
        };
        words.iter().map(PathBuf::from).chain([configuration.to_owned()]).collect()
    }

    /// Its configuration in a folder of its own, with files of zones beside.
    fn text(self, zones: &Zones, folder: &Path, [port, admin]: [u16; 2]) -> String {
        let at = folder.display();
        let head = match self {
            Peer::Waymark => format!(
                "[server]\nlisten = [\"127.0.0.1:{port}\"]\nstate-dir = \"{at}/state\"\nnode = \"{NODE}\"\nworkers = 1\n\
                 [admin]\nlisten = \"127.0.0.1:{admin}\"\n"
            ),
            Peer::Nsd => format!(
                "server:\n  server-count: 1\n  ip-address: 127.0.0.1@{port}\n  username: \"\"\n  zonesdir: \"{at}\"\n  \
                 database: \"\"\n  pidfile: \"{at}/nsd.pid\"\n  xfrdfile: \"{at}/xfrd.state\"\n  zonelistfile: \
                 \"{at}/zone.list\"\n  xfrdir: \"{at}\"\n  rrl-ratelimit: 0\n  minimal-responses: yes\n  ipv4-edns-size: \
                 1232\n  nsid: \"ascii_{NODE}\"\n  identity: \"{NODE}\"\nremote-control:\n  control-enable: no\n"
            ),
            Peer::Knot => format!(
                "server:\n  rundir: \"{at}\"\n  listen: 127.0.0.1@{port}\n  udp-workers: 1\n  tcp-workers: 1\n  \
                 background-workers: 1\n  udp-max-payload: 1232\n  nsid: {NODE}\n  edns-client-subnet: on\n  identity: {NODE}\nlog:\n  - target: \
                 stderr\n    any: warning\ndatabase:\n  storage: \"{at}\"\nzone:\n"
            ),
        };
        (0..zones.zones.len()).fold(head, |text, number| {
            let origin = name::text(&zones.zones[number].origin);
            text + &match self {
                Peer::Waymark => format!("[zones.\"{origin}\"]\nfile = \"zone{number}\"\n"),
                Peer::Nsd => format!("zone:\n  name: {origin}\n  zonefile: zone{number}\n"),
                Peer::Knot => format!(
                    "  - domain: {origin}\n    storage: \"{at}\"\n    file: zone{number}\n    zonefile-sync: -1\n    \
                     journal-content: none\n    semantic-checks: false\n"
                ),
            }
        })
    }
}

/// A server that runs; ended by its process id when it is dropped.
pub struct Server {
    pub peer: Peer,
    child: Child,
    log: PathBuf,
    address: SocketAddr,
    udp: UdpSocket,
    /// One query is out on each at a time: of several answers the kernels of some servers would hold back the second
    /// until the first is acknowledged, which takes 40 ms.
    tcp: Vec<Option<TcpStream>>,
    /// Of the next query, so that answers that come late fit no other.
    id: u16,
    /// How many queries there were that NSD answers with an error.
    errors: u64,
}

impl Server {
    /// Starts it in `folder`, and waits until it answers for every zone.
    pub fn start(peer: Peer, program: &Path, zones: &Zones, folder: &Path, ports: [u16; 2]) -> Result<Server, String> {
        let failed = |error: std::io::Error| format!("cannot start {}: {error}", peer.name());
        fs::create_dir_all(folder).map_err(failed)?;
        for (number, zone) in zones.zones.iter().enumerate() {
            fs::write(folder.join(format!("zone{number}")), &zone.text).map_err(failed)?;
        }
        let configuration = folder.join(peer.configuration());
        fs::write(&configuration, peer.text(zones, folder, ports)).map_err(failed)?;
        let log = folder.join("log");
        let file = File::create(&log).map_err(failed)?;
        let mut command = Command::new(program);
        command.env_remove("WAYMARK_LOG").args(peer.arguments(&configuration)).stdin(Stdio::null());
        command.stdout(file.try_clone().map_err(failed)?).stderr(file);
        let address = (Ipv4Addr::LOCALHOST, ports[0]).into();
        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).map_err(failed)?;
        udp.connect(address).map_err(failed)?;
        udp.set_read_timeout(Some(WAIT)).map_err(failed)?;
        let child = command.spawn().map_err(failed)?;
        let mut server = Server { peer, child, log, address, udp, tcp: vec![], id: 0, errors: 0 };
        server.wait(zones)?;
        Ok(server)
    }

    fn wait(&mut self, zones: &Zones) -> Result<(), String> {
        let asks: Vec<Ask> = zones.zones.iter().map(|zone| Ask::plain(zone.origin.clone(), SOA)).collect();
        let deadline = Instant::now() + START;
        while Instant::now() < deadline && matches!(self.child.try_wait(), Ok(None)) {
            let is_ready = |octets: &Option<Vec<u8>>| {
                octets.as_deref().and_then(Answer::parse).is_some_and(|answer| answer.has(AA) && answer.rcode == 0)
            };
            if self.ask(&asks).is_ok_and(|answers| answers.iter().all(is_ready)) {
                return Ok(());
            }
            thread::sleep(PAUSE);
        }
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let errors: Vec<&str> = log.lines().filter(|line| line.contains("error")).take(LINES).collect();
        Err(format!("{} does not answer for all zones:\n{}", self.peer.name(), errors.join("\n")))
    }

    /// The answers to all of these, in their order; `None` where none comes.
    pub fn ask(&mut self, asks: &[Ask]) -> Result<Vec<Option<Vec<u8>>>, String> {
        let mut window = self.begin(asks)?;
        self.finish(asks, &mut window)?;
        Ok(window.answers)
    }

    /// Sends all of these, so that other servers can be sent theirs before anything is waited for.
    pub fn begin(&mut self, asks: &[Ask]) -> Result<Window, String> {
        let answers = asks.iter().map(|ask| (!self.is_asked(ask)).then(Vec::new)).collect();
        let mut window = Window { id: self.id, answers, over_tcp: vec![] };
        self.id = self.id.wrapping_add(asks.len() as u16);
        self.send(asks, &mut window).map_err(|error| self.failed(&error))?;
        Ok(window)
    }

    /// Of what NSD answers with an error it is asked a part only: it keeps silent after 100 errors in a second.
    fn is_asked(&mut self, ask: &Ask) -> bool {
        let is_error = ask.opcode() != 0
            || ask.edns.as_ref().is_some_and(|edns| edns.version > 0)
            || ![IN, CH, ANY].contains(&ask.class);
        if self.peer != Peer::Nsd || !is_error {
            return true;
        }
        self.errors += 1;
        self.errors.is_multiple_of(ERRORS)
    }

    /// Receives what was asked, asking again for what does not come.
    pub fn finish(&mut self, asks: &[Ask], window: &mut Window) -> Result<(), String> {
        for attempt in 0..TRIES {
            if attempt > 0 {
                self.send(asks, window).map_err(|error| self.failed(&error))?;
            }
            self.receive_udp(asks, window).map_err(|error| self.failed(&error))?;
            self.receive_tcp(window);
            if window.answers.iter().all(Option::is_some) {
                break;
            }
        }
        Ok(())
    }

    fn failed(&self, error: &std::io::Error) -> String {
        format!("cannot ask {}: {error}", self.peer.name())
    }

    fn send(&mut self, asks: &[Ask], window: &mut Window) -> std::io::Result<()> {
        window.over_tcp.clear();
        for at in window.open() {
            let octets = asks[at].encode(window.id.wrapping_add(at as u16));
            if asks[at].tcp {
                self.send_tcp(window.over_tcp.len(), &octets);
                window.over_tcp.push(at);
            } else if let Err(error) = self.udp.send(&octets)
                && error.kind() != ErrorKind::ConnectionRefused
            {
                return Err(error);
            }
        }
        Ok(())
    }

    /// A connection that does not take it is given up: the next attempt makes a new one.
    fn send_tcp(&mut self, connection: usize, octets: &[u8]) {
        let connect = || {
            let stream = TcpStream::connect(self.address).ok()?;
            stream.set_nodelay(true).ok()?;
            stream.set_read_timeout(Some(WAIT)).ok()?;
            Some(stream)
        };
        if connection == self.tcp.len() {
            self.tcp.push(None);
        }
        let framed = [&(octets.len() as u16).to_be_bytes(), octets].concat();
        let stream = self.tcp[connection].take().or_else(connect);
        self.tcp[connection] = stream.filter(|mut stream| stream.write_all(&framed).is_ok());
    }

    fn receive_udp(&mut self, asks: &[Ask], window: &mut Window) -> std::io::Result<()> {
        let mut buffer = [0; 4096];
        while window.open().iter().any(|at| !asks[*at].tcp) {
            match self.udp.recv(&mut buffer) {
                Ok(length) => window.take(&buffer[..length]),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => break,
                Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::ConnectionRefused) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// After an error or silence the connection is given up.
    fn receive_tcp(&mut self, window: &mut Window) {
        for connection in 0..window.over_tcp.len() {
            let Some(stream) = &mut self.tcp[connection] else { continue };
            match read_message(stream) {
                Ok(message) => window.take(&message),
                Err(_) => self.tcp[connection] = None,
            }
        }
    }
}

fn read_message(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut message)?;
    Ok(message)
}

/// Queries that are out, and what came.
pub struct Window {
    /// Of the first; the others follow.
    id: u16,
    /// Empty where it was not asked at all.
    pub answers: Vec<Option<Vec<u8>>>,
    /// Which of them are out over TCP, in the order of their connections.
    over_tcp: Vec<usize>,
}

impl Window {
    fn open(&self) -> Vec<usize> {
        (0..self.answers.len()).filter(|at| self.answers[*at].is_none()).collect()
    }

    fn take(&mut self, message: &[u8]) {
        let Some(id) = message.first_chunk().map(|id| u16::from_be_bytes(*id)) else { return };
        if let Some(answer) = self.answers.get_mut(usize::from(id.wrapping_sub(self.id))) {
            *answer = Some(message.to_vec());
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // NSD and Knot have processes and files to put in order.
        let id = self.child.id().to_string();
        let _ = Command::new("kill").args(["-TERM", &id]).status();
        let deadline = Instant::now() + Duration::from_secs(5);
        while Instant::now() < deadline {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            thread::sleep(PAUSE);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
