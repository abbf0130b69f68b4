//! From the death of an instance to the first answer without it, with the defaults and with a quick check.
//!
//! Each death is a service of its own with an instance in each of two regions, all in one server: the first one dies at a
//! random moment, and its name is asked for again and again until the second one is the answer. Deaths:
//!
//! | death | what probes meet |
//! |---|---|
//! | refused | nobody listens |
//! | reset | each connection is reset once it stands |
//! | silent | packets are dropped (nftables); without, connections never stand (a full backlog) |
//! | deciding | status 503: the time counts from the writing of the response that decides |
//!
//! It runs in a network namespace of its own, where it may make one (root).

use std::collections::HashMap;
use std::fmt::{self, Write as _};
use std::io::{self, Write as _};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, SockRef, Socket, Type as SocketType};
use tokio::net::TcpStream;
use tokio::task::AbortHandle;

use crate::backend::{self, Servants};
use crate::child::Server;
use crate::support::query::{Query, Random, Type};
use crate::{Arguments, free_port, median, print};

/// How often each is taken.
const TIMES: usize = 10;
/// From the first answer to the first death: each target has a schedule of its own by then.
const WARM_UP: Duration = Duration::from_secs(6);
/// Deaths are spread over this: more than an interval.
const SPREAD: Duration = Duration::from_secs(6);
/// A death that is not seen by then is none.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks at all that died.
const PAUSE: Duration = Duration::from_millis(1);
/// Most from the deciding response to the first changed answer, in ms.
const DECIDED_MS: f64 = 10.0;
const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
const BROKEN: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Death {
    Refused,
    Reset,
    Silent,
    Deciding,
}

/// A check, and how soon a death is to be seen with it, in seconds: refused or reset, silent.
struct Schedule {
    name: &'static str,
    words: &'static str,
    keys: &'static str,
    fall: usize,
    most: (f64, f64),
}

const DEFAULTS: Schedule = Schedule { name: "usual", words: "defaults", keys: "", fall: 3, most: (11.3, 13.3) };
const QUICK: Schedule = Schedule {
    name: "quick",
    words: "interval 1 s, timeout 500 ms, fall 2",
    keys: "interval = \"1s\"\ntimeout = \"500ms\"\nfall = 2\n",
    fall: 2,
    most: (1.8, 2.3),
};

#[derive(serde::Serialize)]
struct Row {
    death: String,
    check: &'static str,
    times: usize,
    median_s: f64,
    max_s: f64,
    most_s: f64,
    holds: bool,
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Row { death, check, times, median_s, max_s, most_s, holds } = self;
        let verdict = if *holds { "ok" } else { "MISSED" };
        let [median, max, most] = [*median_s, *max_s, *most_s].map(time);
        write!(f, "{death}, {check}: median {median}, max {max} of {times} (≤ {most}): {verdict}")
    }
}

fn time(seconds: f64) -> String {
    if seconds < 0.1 { format!("{:.2} ms", seconds * 1e3) } else { format!("{seconds:.2} s") }
}

/// Runs this program again in a network namespace of its own, or here where there can be none.
pub(crate) fn run_apart() -> io::Result<()> {
    let may = Command::new("unshare").args(["--net", "true"]).stderr(Stdio::null()).status();
    let is_apart = may.is_ok_and(|status| status.success());
    let mut command = if is_apart {
        let mut apart = Command::new("unshare");
        apart.args(["--net", "sh", "-c", "ip link set lo up && exec \"$0\" \"$@\""]).arg(std::env::current_exe()?);
        apart
    } else {
        eprintln!("deaths: no network namespace of its own (needs root): silent ones are full backlogs");
        Command::new(std::env::current_exe()?)
    };
    let told = std::env::args().skip(1).filter(|word| !["all", "deaths"].contains(&word.as_str()));
    let status = command.arg("deaths-here").args(is_apart.then_some("--apart")).args(told).status()?;
    if status.success() { Ok(()) } else { Err(io::Error::other(format!("deaths: {status}"))) }
}

/// All deaths, in this network namespace, which is ours when `is_apart`.
pub(crate) fn run(arguments: &Arguments, folder: &Path, is_apart: bool) -> io::Result<()> {
    let servants = Servants::start(arguments.load_core)?;
    let filter = Filter::install(is_apart);
    let port = free_port()?;
    let mut victims = Vec::new();
    for schedule in [&DEFAULTS, &QUICK] {
        for death in [Death::Refused, Death::Reset, Death::Silent] {
            for _ in 0..TIMES {
                victims.push(Victim::new(victims.len(), death, schedule, port, &servants)?);
            }
        }
    }
    let mut deciding = Vec::new();
    for at in victims.len()..victims.len() + TIMES {
        deciding.push(Victim::new(at, Death::Deciding, &QUICK, port, &servants)?);
    }
    let (dns, all) = (free_port()?, victims.len() + deciding.len());
    let server = Server::start(&write(folder, dns, port, all, arguments.canaries)?, arguments.server_core)?;
    let mut watcher = Watcher::new(dns)?;
    thread::sleep(WARM_UP);
    watcher.watch(&mut victims, &filter)?;
    for schedule in [&DEFAULTS, &QUICK] {
        for death in [Death::Refused, Death::Reset, Death::Silent] {
            let of_kind = |victim: &&Victim| victim.death == death && victim.schedule.name == schedule.name;
            let took = victims.iter().filter(of_kind).filter_map(|victim| victim.took);
            let most = if death == Death::Silent { schedule.most.1 } else { schedule.most.0 };
            let how = if death == Death::Silent { filter.how() } else { "" };
            report(arguments, format!("{death:?}").to_lowercase() + how, schedule, took.collect(), most)?;
        }
    }
    let mut took = Vec::new();
    for victim in &mut deciding {
        took.extend(watcher.decide(victim)?);
    }
    report(arguments, "from the deciding response to the first changed answer".into(), &QUICK, took, DECIDED_MS / 1e3)?;
    drop(server);
    Ok(())
}

fn report(
    arguments: &Arguments,
    death: String,
    schedule: &Schedule,
    took: Vec<Duration>,
    most_s: f64,
) -> io::Result<()> {
    let mut took: Vec<f64> = took.iter().map(Duration::as_secs_f64).collect();
    let (median_s, max_s) = (median(&mut took), took.iter().copied().fold(0.0, f64::max));
    let holds = took.len() == TIMES && max_s <= most_s;
    let row = Row { death, check: schedule.words, times: took.len(), median_s, max_s, most_s, holds };
    print(&row, arguments.json, &row.to_string())
}

/// Services, each with an instance that dies (`127.2.x.1`) and one that does not (`127.2.x.2`).
fn write(folder: &Path, dns: u16, port: u16, services: usize, canaries: bool) -> io::Result<PathBuf> {
    let (mut text, mut canary) = (String::from("[server]\n"), String::new());
    if canaries {
        text += "canaries = [\"canary\"]\n";
        canary = format!("[checks.canary]\ntype = \"tcp\"\nport = {port}\naddress = \"{}\"\n", address(0, 2));
    }
    let _ = write!(
        text,
        "listen = [\"127.0.0.1:{dns}\"]\nworkers = 1\n[admin]\nlisten = \"127.0.0.1:{}\"\n\
         [zones.\"example.com\"]\nfile = \"zone\"\n[regions.one]\n[regions.two]\n{canary}",
        free_port()?
    );
    for Schedule { name, keys, .. } in [&DEFAULTS, &QUICK] {
        let _ = writeln!(text, "[checks.{name}]\ntype = \"http\"\npath = \"/\"\nport = {port}\n{keys}");
    }
    for at in 0..services {
        let check = if at < services_of_defaults() { DEFAULTS.name } else { QUICK.name };
        let _ = writeln!(
            text,
            "[pools.p{at}]\ncheck = \"{check}\"\n[pools.p{at}.instances]\n\
             dies = {{ region = \"one\", address = \"{}\" }}\nstays = {{ region = \"two\", address = \"{}\" }}\n\
             [services.\"s{at}.example.com\"]\npool = \"p{at}\"\nsteer = \"failover\"\norder = [\"one\", \"two\"]",
            address(at, 1),
            address(at, 2)
        );
    }
    let path = folder.join("waymark.toml");
    std::fs::write(&path, text)?;
    crate::write_zone(folder)?;
    Ok(path)
}

const fn services_of_defaults() -> usize {
    3 * TIMES
}

fn address(service: usize, instance: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, 2, service as u8, instance)
}

/// An instance that dies, and what is seen of that.
struct Victim {
    service: usize,
    death: Death,
    schedule: &'static Schedule,
    /// What to break: it takes connections; and the listener below.
    accepting: AbortHandle,
    listener: std::net::TcpListener,
    is_broken: Arc<AtomicBool>,
    /// When it answered 503.
    refusals: Arc<Mutex<Vec<Instant>>>,
    /// Connections that fill its backlog.
    filling: Vec<Socket>,
    died: Option<Instant>,
    took: Option<Duration>,
}

impl Victim {
    /// Both instances of a service, alive.
    fn new(
        service: usize,
        death: Death,
        schedule: &'static Schedule,
        port: u16,
        servants: &Servants,
    ) -> io::Result<Victim> {
        let stays = backend::listen((address(service, 2), port).into(), 16)?;
        servants.accept(stays, |mut stream| async move { backend::answer(&mut stream, OK).await });
        let listener = backend::listen((address(service, 1), port).into(), 1)?;
        let (is_broken, refusals) = (Arc::<AtomicBool>::default(), Arc::<Mutex<Vec<Instant>>>::default());
        let (broken, refused) = (Arc::clone(&is_broken), Arc::clone(&refusals));
        let serve = move |stream: TcpStream| {
            let (broken, refused) = (broken.load(Ordering::Relaxed), Arc::clone(&refused));
            serve(stream, death, broken, refused)
        };
        let accepting = servants.accept(listener.try_clone()?, serve);
        let (filling, died, took) = (Vec::new(), None, None);
        Ok(Victim { service, death, schedule, accepting, listener, is_broken, refusals, filling, died, took })
    }

    /// It dies now; the time counts from before.
    fn kill(&mut self, filter: &Filter) -> io::Result<()> {
        self.died = Some(Instant::now());
        match self.death {
            Death::Reset | Death::Deciding => self.is_broken.store(true, Ordering::Relaxed),
            // Whoever has the socket as well is of no use to it any more.
            Death::Refused => {
                self.accepting.abort();
                SockRef::from(&self.listener).shutdown(std::net::Shutdown::Both)?;
            }
            Death::Silent if filter.is_there => filter.drop_all(address(self.service, 1))?,
            Death::Silent => {
                self.accepting.abort();
                let to = SocketAddr::from((address(self.service, 1), self.listener.local_addr()?.port()));
                for _ in 0..3 {
                    let socket = Socket::new(Domain::IPV4, SocketType::STREAM, None)?;
                    socket.set_nonblocking(true)?;
                    // In progress, whether it ever stands or not.
                    let _ = socket.connect(&to.into());
                    self.filling.push(socket);
                }
            }
        }
        Ok(())
    }
}

async fn serve(mut stream: TcpStream, death: Death, is_broken: bool, refusals: Arc<Mutex<Vec<Instant>>>) {
    match death {
        Death::Reset if is_broken => {
            let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
        }
        Death::Deciding if is_broken => {
            backend::answer(&mut stream, BROKEN).await;
            refusals.lock().unwrap_or_else(PoisonError::into_inner).push(Instant::now());
        }
        _ => backend::answer(&mut stream, OK).await,
    }
}

/// Drops packets by nftables, in a namespace that is ours.
struct Filter {
    is_there: bool,
}

impl Filter {
    /// Outside a namespace of our own it is not ours to filter.
    fn install(is_apart: bool) -> Filter {
        let rules = "table ip bench {\n set dead { type ipv4_addr; }\n chain input {\n \
                     type filter hook input priority 0;\n ip daddr @dead drop;\n }\n}\n";
        Filter { is_there: is_apart && nft(rules).is_ok() }
    }

    fn drop_all(&self, address: Ipv4Addr) -> io::Result<()> {
        nft(&format!("add element ip bench dead {{ {address} }}\n"))
    }

    fn how(&self) -> &'static str {
        if self.is_there { " (packets dropped)" } else { " (backlog full)" }
    }
}

fn nft(rules: &str) -> io::Result<()> {
    let mut child = Command::new("nft").args(["-f", "-"]).stdin(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    if let Some(mut input) = child.stdin.take() {
        input.write_all(rules.as_bytes())?;
    }
    if child.wait()?.success() { Ok(()) } else { Err(io::Error::other("nft refused a rule")) }
}

/// Asks for names.
struct Watcher {
    socket: UdpSocket,
    queries: HashMap<usize, Query>,
    id: u16,
}

impl Watcher {
    fn new(port: u16) -> io::Result<Watcher> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        socket.connect((Ipv4Addr::LOCALHOST, port))?;
        socket.set_read_timeout(Some(Duration::from_secs(1)))?;
        Ok(Watcher { socket, queries: HashMap::new(), id: 0 })
    }

    /// The address that is the answer for a service now.
    fn ask(&mut self, service: usize) -> io::Result<Ipv4Addr> {
        let name = format!("s{service}.example.com");
        let query = self.queries.entry(service).or_insert_with(|| Query::new(&name, Type::A, false));
        let mut octets = query.octets().to_vec();
        self.id = self.id.wrapping_add(1);
        octets[..2].copy_from_slice(&self.id.to_be_bytes());
        self.socket.send(&octets)?;
        let mut answer = [0; 512];
        let mut length = 0;
        while length < 2 || answer[..2] != octets[..2] {
            length = self.socket.recv(&mut answer)?;
        }
        // Header, question, then the answer: a pointer to the name, type, class, TTL, length, address.
        let at = 12 + name.len() + 2 + 4 + 12;
        match answer[6..8] {
            [0, 1] if length >= at + 4 => Ok(Ipv4Addr::new(answer[at], answer[at + 1], answer[at + 2], answer[at + 3])),
            _ => Err(io::Error::other(format!("no answer for {name}: {:?}", &answer[..length]))),
        }
    }

    /// Has each die at a moment of its own, and looks until all are out of the answers.
    fn watch(&mut self, victims: &mut [Victim], filter: &Filter) -> io::Result<()> {
        let (mut random, began) = (Random(7), Instant::now());
        let moments: Vec<Duration> =
            victims.iter().map(|_| SPREAD.mul_f64((random.draw() >> 11) as f64 / (1u64 << 53) as f64)).collect();
        while began.elapsed() < PATIENCE && victims.iter().any(|victim| victim.took.is_none()) {
            for (victim, moment) in victims.iter_mut().zip(&moments) {
                let Some(died) = victim.died else {
                    if began.elapsed() >= *moment {
                        self.expect_alive(victim)?;
                        victim.kill(filter)?;
                    }
                    continue;
                };
                if victim.took.is_none() && self.ask(victim.service)? == address(victim.service, 2) {
                    victim.took = Some(died.elapsed());
                }
            }
            thread::sleep(PAUSE);
        }
        Ok(())
    }

    fn expect_alive(&mut self, victim: &Victim) -> io::Result<()> {
        let answer = self.ask(victim.service)?;
        if answer == address(victim.service, 1) { Ok(()) } else { Err(io::Error::other("it was out before it died")) }
    }

    /// Asks for one name all the time while its instance begins to fail; from the response that decides to the change.
    fn decide(&mut self, victim: &mut Victim) -> io::Result<Option<Duration>> {
        self.expect_alive(victim)?;
        victim.kill(&Filter { is_there: false })?;
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            if self.ask(victim.service)? == address(victim.service, 2) {
                let changed = Instant::now();
                let refusals = victim.refusals.lock().unwrap_or_else(PoisonError::into_inner);
                return Ok(refusals
                    .get(victim.schedule.fall - 1)
                    .map(|decided| changed.saturating_duration_since(*decided)));
            }
        }
        Ok(None)
    }
}
