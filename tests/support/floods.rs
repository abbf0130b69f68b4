//! Clients that only hold TCP connections, all at once, and honest ones among them.
//!
//! | who | does |
//! |---|---|
//! | idle | connects |
//! | slow writer | sends half a query |
//! | slow reader | asks for a long answer again and again, and reads nothing |
//! | dripper | sends a query octet by octet, one each round |
//! | honest | connects, asks, reads, and is timed; another asks over UDP |
//!
//! Whoever loses his connection comes again. Clients have addresses of many prefixes (127/8), so that caps of a prefix do
//! not hide what the total means.

// Each program that includes this file uses a part of it.
#![allow(dead_code, unreachable_pub)]

use std::fmt;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

/// Longest that an honest client waits.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two rounds of those who are not honest.
const ROUND: Duration = Duration::from_millis(100);
const ROUNDS: usize = 5;
/// Queries that a slow reader sends at once.
const BURST: usize = 20;
/// Connections of a /24.
const OF_PREFIX: usize = 20;

/// How many there are of each kind.
#[derive(Clone, Copy, Debug)]
pub struct Flood {
    pub idle: usize,
    pub slow_writers: usize,
    pub slow_readers: usize,
    pub drippers: usize,
}

impl Flood {
    pub fn connections(&self) -> usize {
        self.idle + self.slow_writers + self.slow_readers + self.drippers
    }
}

/// What to do, and to whom.
#[derive(Clone, Debug)]
pub struct Options {
    pub server: SocketAddr,
    /// Its process.
    pub process: u32,
    pub flood: Flood,
    /// Honest clients, one after the other, at least; they go on until the flood has had [`ROUNDS`].
    pub honest: usize,
    /// A question, and one whose answer is long; messages.
    pub question: Vec<u8>,
    pub long: Vec<u8>,
}

/// What came of it.
#[derive(Debug)]
pub struct Outcome {
    /// Connections made by those who are not honest, again and again.
    pub opened: usize,
    /// Those that the server had open when it was looked at last.
    pub held: usize,
    /// Milliseconds that each honest client over TCP took, sorted; of those who got an answer.
    pub tcp_ms: Vec<f64>,
    /// Honest clients that got none.
    pub unserved: usize,
    /// The same over UDP.
    pub udp_ms: Vec<f64>,
    pub lost: usize,
    /// Octets of the server's memory: before, and at most during the flood.
    pub before: u64,
    pub most: u64,
    /// Octets that the kernel had in buffers of TCP sockets at most, on both sides.
    pub kernel: u64,
}

impl Outcome {
    /// Octets of the server's memory for each connection that it had open.
    pub fn octets_per_connection(&self) -> u64 {
        self.most.saturating_sub(self.before) / self.held.max(1) as u64
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = |sorted: &[f64], share: f64| {
            sorted
                .get(((sorted.len() as f64 * share) as usize).min(sorted.len().saturating_sub(1)))
                .copied()
                .unwrap_or(0.0)
        };
        let times = |sorted: &[f64]| {
            format!("median {:.1}, p99 {:.1}, most {:.1} ms", at(sorted, 0.5), at(sorted, 0.99), at(sorted, 1.0))
        };
        let mib = |octets: u64| octets as f64 / f64::from(1 << 20);
        write!(
            f,
            "{} connections held of {} made; TCP: {} served, {} not, {}; UDP: {} answered, {} lost, {}; memory {:.1} MiB, at \
             most {:.1} MiB: {:.1} KiB a connection; {:.0} MiB in the kernel",
            self.held,
            self.opened,
            self.tcp_ms.len(),
            self.unserved,
            times(&self.tcp_ms),
            self.udp_ms.len(),
            self.lost,
            times(&self.udp_ms),
            mib(self.before),
            mib(self.most),
            self.octets_per_connection() as f64 / 1024.0,
            mib(self.kernel),
        )
    }
}

/// Has all of them come, and waits for the honest ones.
pub fn run(options: &Options) -> std::io::Result<Outcome> {
    let before = resident(options.process);
    let (rounds, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        let bad = scope.spawn(|| hold(options, &rounds, &stop));
        while rounds.load(Ordering::Relaxed) == 0 && !bad.is_finished() {
            thread::sleep(Duration::from_millis(1));
        }
        let udp = scope.spawn(|| ask_udp(options, &stop));
        let goes_on =
            |number: &usize| *number < options.honest || rounds.load(Ordering::Relaxed) < ROUNDS && !bad.is_finished();
        let honest: Vec<Option<f64>> = (0..).take_while(goes_on).map(|number| honest(options, number)).collect();
        stop.store(true, Ordering::Relaxed);
        let (udp_ms, lost) = udp.join().expect("no panic")?;
        let held = bad.join().expect("no panic")?;
        let unserved = honest.iter().filter(|took| took.is_none()).count();
        let mut outcome = Outcome {
            opened: held.opened,
            held: held.open,
            tcp_ms: honest.into_iter().flatten().collect(),
            unserved,
            udp_ms,
            lost,
            before,
            most: held.most,
            kernel: held.kernel,
        };
        outcome.tcp_ms.sort_by(f64::total_cmp);
        outcome.udp_ms.sort_by(f64::total_cmp);
        Ok(outcome)
    })
}

#[derive(Clone, Copy)]
enum Kind {
    Idle,
    SlowWriter,
    SlowReader,
    Dripper,
}

/// Those who are not honest.
#[derive(Default)]
struct Held {
    opened: usize,
    open: usize,
    most: u64,
    kernel: u64,
}

/// A connection of one of them, and how many octets it has sent.
struct Holder {
    kind: Kind,
    stream: Option<TcpStream>,
    sent: usize,
}

fn hold(options: &Options, rounds: &AtomicUsize, stop: &AtomicBool) -> std::io::Result<Held> {
    let Flood { idle, slow_writers, slow_readers, drippers } = options.flood;
    let kinds = [
        (Kind::Idle, idle),
        (Kind::SlowWriter, slow_writers),
        (Kind::SlowReader, slow_readers),
        (Kind::Dripper, drippers),
    ];
    let mut holders: Vec<Holder> = kinds
        .into_iter()
        .flat_map(|(kind, count)| (0..count).map(move |_| Holder { kind, stream: None, sent: 0 }))
        .collect();
    let mut held = Held::default();
    while !stop.load(Ordering::Relaxed) {
        for (number, holder) in holders.iter_mut().enumerate() {
            if holder.stream.is_none() {
                holder.connect(options, number)?;
                held.opened += 1;
            }
            holder.act(options);
        }
        held.open = holders.iter().filter(|holder| holder.stream.is_some()).count();
        held.most = held.most.max(resident(options.process));
        held.kernel = held.kernel.max(in_kernel());
        rounds.fetch_add(1, Ordering::Relaxed);
        thread::sleep(ROUND);
    }
    Ok(held)
}

impl Holder {
    fn connect(&mut self, options: &Options, number: usize) -> std::io::Result<()> {
        let prefix = number / OF_PREFIX;
        let source = Ipv4Addr::new(127, 1 + (prefix >> 8) as u8, prefix as u8, 1 + (number % OF_PREFIX) as u8);
        let stream = connect(source, options.server)?;
        stream.set_nonblocking(true)?;
        (self.stream, self.sent) = (Some(stream), 0);
        if let (Kind::SlowWriter, Some(stream)) = (self.kind, &mut self.stream) {
            let query = framed(&options.question);
            let _ = stream.write(&query[..query.len() / 2]);
        }
        Ok(())
    }

    fn act(&mut self, options: &Options) {
        let Some(stream) = &mut self.stream else { return };
        let is_open = match self.kind {
            Kind::Idle | Kind::SlowWriter => is_open(stream),
            Kind::SlowReader => is_taken(stream.write(&framed(&options.long).repeat(BURST))),
            Kind::Dripper => {
                let query = framed(&options.question);
                let octet = query[self.sent % query.len()];
                self.sent += 1;
                is_open(stream) && is_taken(stream.write(&[octet]))
            }
        };
        if !is_open {
            self.stream = None;
        }
    }
}

/// Whether the other side has not closed; takes what came.
fn is_open(stream: &mut TcpStream) -> bool {
    let mut octets = [0; 512];
    match stream.read(&mut octets) {
        Ok(length) => length > 0,
        Err(error) => error.kind() == ErrorKind::WouldBlock,
    }
}

/// Whether octets were sent, or wait for the other side.
fn is_taken(written: std::io::Result<usize>) -> bool {
    match written {
        Ok(_) => true,
        Err(error) => error.kind() == ErrorKind::WouldBlock,
    }
}

/// A connection from an address of one's own.
pub fn connect(source: Ipv4Addr, server: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((source, 0)).into())?;
    socket.connect_timeout(&server.into(), PATIENCE)?;
    Ok(socket.into())
}

fn framed(message: &[u8]) -> Vec<u8> {
    [&(message.len() as u16).to_be_bytes(), message].concat()
}

/// Milliseconds from connecting to the whole answer; `None` without one.
fn honest(options: &Options, number: usize) -> Option<f64> {
    let source = Ipv4Addr::new(127, 200, number as u8, 1);
    let began = Instant::now();
    let exchange = || {
        let mut stream = connect(source, options.server)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(&framed(&options.question))?;
        let mut length = [0; 2];
        stream.read_exact(&mut length)?;
        let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
        stream.read_exact(&mut answer)?;
        Ok::<_, std::io::Error>(answer)
    };
    let answer = exchange().ok()?;
    (answer[..2] == options.question[..2]).then(|| began.elapsed().as_secs_f64() * 1000.0)
}

/// Milliseconds of each answer over UDP, and how many did not come.
fn ask_udp(options: &Options, stop: &AtomicBool) -> std::io::Result<(Vec<f64>, usize)> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    socket.connect(options.server)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let (mut took, mut lost, mut buffer) = (vec![], 0, [0; 4096]);
    while !stop.load(Ordering::Relaxed) {
        let began = Instant::now();
        socket.send(&options.question)?;
        match socket.recv(&mut buffer) {
            Ok(_) => took.push(began.elapsed().as_secs_f64() * 1000.0),
            Err(_) => lost += 1,
        }
        thread::sleep(Duration::from_millis(1));
    }
    Ok((took, lost))
}

/// Octets of memory that a process has.
pub fn resident(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
    kilobytes.unwrap_or(0) * 1024
}

/// Octets in buffers of all TCP sockets of this machine.
fn in_kernel() -> u64 {
    let text = std::fs::read_to_string("/proc/net/sockstat").unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with("TCP:"));
    let pages = line.and_then(|line| line.rsplit_once("mem ")?.1.trim().parse::<u64>().ok());
    pages.unwrap_or(0) * 4096
}
