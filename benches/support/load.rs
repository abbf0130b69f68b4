//! A load generator for DNS over UDP on loopback: one thread, any number of sockets.
//!
//! Each socket has a *window* of queries outstanding. Without a rate it is kept full (closed loop): that measures what a
//! query costs, and latencies say how long a query waits behind all others. With a rate, queries become due at even
//! distances, whether the server keeps up or not, and latency counts from when a query was due.
//!
//! ```text
//! warm up ──► measure ──► drain: what comes now is not counted, what does not come is lost
//! ```
//! Every answer is checked. Its ID says which slot of the window it belongs to, and which use of that slot:
//! ```text
//!  15          9 8                0
//! ┌─────────────┬─────────────────┐
//! │ generation  │ slot            │
//! └─────────────┴─────────────────┘
//! ```

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use socket2::SockRef;

use super::cpu;
use super::query::{Query, Random};
use super::system::{self, Batch};

/// Datagrams of one system call.
const BATCH: usize = 32;
const SLOT_BITS: u32 = 9;
/// The largest window.
pub(crate) const MAX_WINDOW: usize = 1 << SLOT_BITS;
/// What is out for longer is lost.
const PATIENCE: Duration = Duration::from_millis(500);
/// How often to look for what is lost.
const REAP: Duration = Duration::from_millis(100);
/// Receive buffer asked for each socket: it holds the answers of a window.
const BUFFER: usize = 4 << 20;
const HEADER: usize = 12;

/// What to send, and how much of it.
#[derive(Clone)]
pub(crate) struct Options {
    pub(crate) server: SocketAddr,
    /// Asked in turn; those with a client subnet get a new one each time.
    pub(crate) queries: Vec<Query>,
    /// How long to measure.
    pub(crate) duration: Duration,
    /// Load before that.
    pub(crate) warm_up: Duration,
    pub(crate) sockets: usize,
    /// The address of each socket, by its number.
    pub(crate) source: fn(usize) -> Ipv4Addr,
    /// Queries outstanding per socket, at most [`MAX_WINDOW`].
    pub(crate) window: usize,
    /// Queries per second; `None`: as many as the windows let through.
    pub(crate) rate: Option<f64>,
    /// Sleep between looks at what is due and what came; `None`: look all the time, which keeps a core busy.
    pub(crate) pause: Option<Duration>,
    /// An answer with fewer records is short.
    pub(crate) least_answers: u16,
    /// Client subnets are drawn from it.
    pub(crate) seed: u64,
    /// The core that the calling thread is pinned to.
    pub(crate) core: Option<usize>,
    /// The process whose processor time is taken.
    pub(crate) process: Option<u32>,
    /// Ends before its time when this is set.
    pub(crate) stop: Arc<AtomicBool>,
}

impl Options {
    /// Two seconds of as much as possible.
    pub(crate) fn new(server: SocketAddr, queries: Vec<Query>) -> Options {
        Options {
            server,
            queries,
            duration: Duration::from_secs(2),
            warm_up: Duration::from_millis(300),
            // What is out fits into the receive buffer that a socket has by default: the queue of a busy server.
            sockets: 8,
            source: |_| Ipv4Addr::LOCALHOST,
            window: 24,
            rate: None,
            pause: None,
            least_answers: 1,
            seed: 1,
            core: None,
            process: None,
            stop: Arc::default(),
        }
    }
}

/// What came of it.
#[derive(Clone, Debug)]
pub(crate) struct Report {
    /// Queries sent while measuring.
    pub(crate) sent: u64,
    /// Answers to them, also bad and short ones.
    pub(crate) answered: u64,
    /// Queries without an answer in half a second.
    pub(crate) lost: u64,
    /// Answers with an error code, and datagrams that answer nothing that is out.
    pub(crate) bad: u64,
    /// Answers with too few records.
    pub(crate) short: u64,
    /// Octets of all answers.
    pub(crate) octets: u64,
    /// How long was measured.
    pub(crate) elapsed: Duration,
    /// Processor time of the server meanwhile.
    pub(crate) cpu: Option<Duration>,
    /// Of every answer, in ns.
    pub(crate) latencies: Histogram<u64>,
}

impl Report {
    fn new() -> Report {
        // 1 µs to 10 s, to three digits.
        let latencies = Histogram::new_with_bounds(1_000, 10_000_000_000, 3).expect("bounds in order");
        let (elapsed, cpu) = (Duration::ZERO, None);
        Report { sent: 0, answered: 0, lost: 0, bad: 0, short: 0, octets: 0, elapsed, cpu, latencies }
    }

    /// Answers per second.
    pub(crate) fn rate(&self) -> f64 {
        self.answered as f64 / self.elapsed.as_secs_f64()
    }

    /// Processor time of the server for each answer.
    pub(crate) fn cpu_per_answer(&self) -> Option<Duration> {
        self.cpu.filter(|_| self.answered > 0).map(|cpu| cpu.div_f64(self.answered as f64))
    }

    /// The latency that this share of the answers (0 to 1) did not exceed.
    pub(crate) fn latency(&self, share: f64) -> Duration {
        Duration::from_nanos(self.latencies.value_at_quantile(share))
    }

    /// Octets of an answer, on average.
    pub(crate) fn octets_per_answer(&self) -> f64 {
        self.octets as f64 / self.answered.max(1) as f64
    }
}

/// Sends, waits, counts; pins the calling thread if told to. Takes `warm_up`, `duration` and at most half a second more.
pub(crate) fn run(options: &Options) -> io::Result<Report> {
    if let Some(core) = options.core {
        system::pin(core)?;
    }
    let mut flows =
        (0..options.sockets).map(|number| Flow::open(options, number)).collect::<io::Result<Vec<Flow>>>()?;
    let mut load = Load::new(options);
    load.phase(&mut flows, options.warm_up)?;
    load.report = Report::new();
    let (cpu, began) = (options.process.and_then(cpu::used), Instant::now());
    load.phase(&mut flows, options.duration)?;
    load.report.elapsed = began.elapsed();
    load.report.cpu = options.process.and_then(cpu::used).zip(cpu).map(|(after, before)| after.saturating_sub(before));
    load.drain(&mut flows)
}

/// What all sockets share.
struct Load<'a> {
    options: &'a Options,
    queries: Vec<Query>,
    /// The query that is sent next.
    next: usize,
    random: Random,
    began: Instant,
    /// Queries since then.
    sent: u64,
    reaped: Instant,
    outgoing: Batch,
    incoming: Batch,
    report: Report,
}

impl<'a> Load<'a> {
    fn new(options: &'a Options) -> Load<'a> {
        let (now, random) = (Instant::now(), Random(options.seed));
        Load {
            options,
            queries: options.queries.clone(),
            next: 0,
            random,
            began: now,
            sent: 0,
            reaped: now,
            outgoing: Batch::new(BATCH, false),
            incoming: Batch::new(BATCH, false),
            report: Report::new(),
        }
    }

    /// Sends and receives for so long.
    fn phase(&mut self, flows: &mut [Flow], duration: Duration) -> io::Result<()> {
        let end = Instant::now() + duration;
        while Instant::now() < end && !self.options.stop.load(Ordering::Relaxed) {
            // What is due goes to another one each time.
            flows.rotate_left(1);
            for flow in &mut *flows {
                flow.send(self)?;
                flow.receive(self)?;
            }
            self.reap(flows);
            if let Some(pause) = self.options.pause {
                std::thread::sleep(pause);
            }
        }
        Ok(())
    }

    /// Receives what is still out, uncounted; what does not come is lost.
    fn drain(mut self, flows: &mut [Flow]) -> io::Result<Report> {
        let mut report = std::mem::replace(&mut self.report, Report::new());
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end && flows.iter().any(|flow| flow.outstanding() > 0) {
            flows.iter_mut().try_for_each(|flow| flow.receive(&mut self))?;
        }
        report.lost += flows.iter().map(|flow| flow.outstanding() as u64).sum::<u64>();
        Ok(report)
    }

    fn reap(&mut self, flows: &mut [Flow]) {
        let now = Instant::now();
        if now.duration_since(self.reaped) >= REAP {
            self.reaped = now;
            self.report.lost += flows.iter_mut().map(|flow| flow.reap(now)).sum::<u64>();
        }
    }

    /// How many queries may be sent now, at most `most`.
    fn due(&self, now: Instant, most: usize) -> usize {
        let Some(rate) = self.options.rate else { return most };
        let due = (now.duration_since(self.began).as_secs_f64() * rate) as u64;
        due.saturating_sub(self.sent).min(most as u64) as usize
    }

    /// When the query that is sent as number `at` was due.
    fn due_at(&self, at: u64, now: Instant) -> Instant {
        self.options.rate.map_or(now, |rate| self.began + Duration::from_secs_f64(at as f64 / rate))
    }

    /// Puts the next query at `index` of the batch.
    fn write(&mut self, index: usize, id: u16) {
        let octets = self.queries[self.next].vary(&mut self.random);
        let out = self.outgoing.resize(index, octets.len());
        out.copy_from_slice(octets);
        out[..2].copy_from_slice(&id.to_be_bytes());
        self.next = (self.next + 1) % self.queries.len();
    }
}

/// A socket and what is out on it.
struct Flow {
    socket: UdpSocket,
    slots: Vec<Slot>,
    free: Vec<u16>,
    generation: u16,
}

/// A query that is out, or was.
#[derive(Clone, Copy)]
struct Slot {
    id: u16,
    /// When it was due and when it was sent; `None` when nothing is out.
    out: Option<Out>,
}

#[derive(Clone, Copy)]
struct Out {
    due: Instant,
    sent: Instant,
}

impl Flow {
    fn open(options: &Options, number: usize) -> io::Result<Flow> {
        let socket = UdpSocket::bind(((options.source)(number), 0))?;
        SockRef::from(&socket).set_recv_buffer_size(BUFFER)?;
        socket.connect(options.server)?;
        socket.set_nonblocking(true)?;
        let window = options.window.clamp(1, MAX_WINDOW);
        let free = (0..window as u16).collect();
        Ok(Flow { socket, slots: vec![Slot { id: 0, out: None }; window], free, generation: 0 })
    }

    fn outstanding(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Sends up to a batch of what is due and has room in the window.
    fn send(&mut self, load: &mut Load<'_>) -> io::Result<()> {
        let now = Instant::now();
        let count = load.due(now, self.free.len().min(BATCH));
        if count == 0 {
            return Ok(());
        }
        self.generation = self.generation.wrapping_add(1 << SLOT_BITS);
        for index in 0..count {
            let slot = self.free[self.free.len() - 1 - index];
            load.write(index, self.generation | slot);
        }
        let sent = passing(load.outgoing.send(&self.socket, 0..count))?;
        for _ in 0..sent {
            let slot = self.free.pop().expect("no more were sent than were free");
            let out = Out { due: load.due_at(load.sent, now), sent: now };
            self.slots[usize::from(slot)] = Slot { id: self.generation | slot, out: Some(out) };
            load.sent += 1;
        }
        load.report.sent += sent as u64;
        Ok(())
    }

    /// Receives up to a batch of what is there.
    fn receive(&mut self, load: &mut Load<'_>) -> io::Result<()> {
        let received = passing(load.incoming.receive(&self.socket, false))?;
        let now = Instant::now();
        for index in 0..received {
            self.take(load.incoming.message(index), now, load.options.least_answers, &mut load.report);
        }
        Ok(())
    }

    fn take(&mut self, message: &[u8], now: Instant, least_answers: u16, report: &mut Report) {
        let Some((slot, due)) = self.slot_of(message) else {
            report.bad += 1;
            return;
        };
        self.slots[usize::from(slot)].out = None;
        self.free.push(slot);
        report.answered += 1;
        report.octets += message.len() as u64;
        report.bad += u64::from(message[3] & 15 != 0);
        report.short += u64::from(u16::from_be_bytes([message[6], message[7]]) < least_answers);
        report.latencies.saturating_record(now.saturating_duration_since(due).as_nanos() as u64);
    }

    /// The slot that a response belongs to, and when its query was due.
    fn slot_of(&self, message: &[u8]) -> Option<(u16, Instant)> {
        if message.len() < HEADER || message[2] & 0x80 == 0 {
            return None;
        }
        let id = u16::from_be_bytes([message[0], message[1]]);
        let number = id & (MAX_WINDOW as u16 - 1);
        let slot = self.slots.get(usize::from(number)).filter(|slot| slot.id == id)?;
        slot.out.map(|out| (number, out.due))
    }

    /// Gives up what is out for too long; how many that are. Their answers are bad from now on.
    fn reap(&mut self, now: Instant) -> u64 {
        let before = self.free.len();
        for (number, slot) in self.slots.iter_mut().enumerate() {
            if slot.out.is_some_and(|out| now.saturating_duration_since(out.sent) > PATIENCE) {
                slot.out = None;
                self.free.push(number as u16);
            }
        }
        (self.free.len() - before) as u64
    }
}

/// Nothing there, no room, or nobody listens (yet): none were sent or received, and it may pass.
fn passing(outcome: io::Result<usize>) -> io::Result<usize> {
    use io::ErrorKind::{ConnectionRefused, Interrupted, WouldBlock};
    match outcome {
        Err(error) if matches!(error.kind(), WouldBlock | Interrupted | ConnectionRefused) => Ok(0),
        outcome => outcome,
    }
}
