//! Round-trip times that clients measured (SPEC 8.5): a thread of its own takes samples in and says what answers are to
//! go by. The control loop hands samples and questions on, waits for nothing, and publishes the tables it is sent.
//!
//! ```text
//!  API ── Change::Latency ──► control loop ── Inbox ──► thread "latency": Book ── Change::Measured ──► publish
//!                                                                          └──► state-dir/latency, every minute
//! ```

mod file;
mod sample;

use std::collections::{HashSet, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::desk::{Refusal, RefusalCode};
use super::{Change, Changes, World};
use crate::latency::{Book, Counts, Known, Level, Measured, Rtt, Sample};
use crate::time::{self, Tick, unix_milliseconds};

pub use file::path;
pub use sample::{Given, MOST_RTT_MS, parse_client};

/// Most samples of one request.
pub const MOST_SAMPLES: usize = 10_000;
/// Requests with samples that may wait.
const MOST_WAITING: usize = 64;
/// Questions that may wait, beside them: they keep no sample out.
const MOST_QUESTIONS: usize = 8;
/// Most problems of one request that are told.
const MOST_TOLD: usize = 20;
/// Least time from one table to the next: what comes meanwhile goes into one.
const PUBLISH_PAUSE: Duration = Duration::from_secs(1);
/// Least time from one write to the next.
const WRITE_PAUSE: Duration = Duration::from_secs(60);
/// A pause is at least this many times as long as it took to write everything down.
const PAUSE_PER_WRITE: u32 = 50;
/// How long samples wait for others before what they come to is written.
const GATHER: Duration = Duration::from_millis(500);
/// How often expired estimates are looked for.
const SWEEP: Duration = Duration::from_secs(30);

/// What somebody wants of the thread.
#[derive(Debug)]
pub enum Ask {
    /// To take samples in.
    Take(Report),
    /// What is known for a client.
    Look(IpNet, oneshot::Sender<Result<Looked, Refusal>>),
    /// How much there is.
    Sum(oneshot::Sender<Result<Summary, Refusal>>),
}

/// Samples of one request: all of them are taken, or none.
#[derive(Debug)]
pub struct Report {
    /// Those that are well-formed, each with its number in the request, from 0.
    pub samples: Vec<(usize, Given)>,
    /// What is wrong with the others.
    pub problems: Vec<(usize, String)>,
    /// Where the answer goes.
    pub reply: oneshot::Sender<Result<Taken, Refusal>>,
}

/// Samples that were taken; answers go by them within about a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Taken {
    /// How many.
    pub taken: usize,
    /// Prefixes that have estimates now.
    pub prefixes: usize,
}

/// What is known for a client.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Looked {
    /// As looked at.
    pub client: String,
    /// The prefix around it of which something is known.
    pub prefix: Option<String>,
    /// Where it is.
    pub place: String,
    /// The nearest first, those with too few samples last.
    pub regions: Vec<LookedRegion>,
}

/// What is known of the way to a region.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct LookedRegion {
    /// Its name.
    pub region: String,
    /// What decisions go by; `None` while there are too few samples.
    pub rtt_ms: Option<f64>,
    /// Whose estimate it is: `prefix`, `as`, `country`.
    pub level: String,
    /// What is thought now; decisions follow when it is far enough from what they go by.
    pub estimate_ms: f64,
    /// Samples so far; stops counting near 65 535.
    pub samples: u16,
    /// Seconds since the last one.
    pub age_s: u32,
}

/// How much there is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Summary {
    /// Prefixes with estimates of their own.
    pub prefixes: usize,
    /// Most of them that there may be.
    pub most_prefixes: usize,
    /// Autonomous systems with estimates.
    pub systems: usize,
    /// Countries with estimates.
    pub countries: usize,
    /// Estimates, of all of these.
    pub estimates: usize,
    /// Samples taken since the start.
    pub taken: u64,
    /// Samples of requests that were refused since the start.
    pub refused: u64,
    /// Prefixes that went since the start because there was no room.
    pub evicted: u64,
    /// How many prefixes have an estimate for each region.
    pub regions: Vec<SummedRegion>,
}

/// One region of a [`Summary`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SummedRegion {
    /// Its name.
    pub region: String,
    /// Prefixes.
    pub prefixes: usize,
}

/// Counters, for the metrics.
#[derive(Debug, Default)]
pub struct Totals {
    /// Samples taken.
    pub taken: AtomicU64,
    /// Samples of requests that were refused.
    pub refused: AtomicU64,
    /// Tables that answers went by.
    pub published: AtomicU64,
    /// Prefixes with estimates, now.
    pub prefixes: AtomicU64,
    /// Prefixes that went because there was no room.
    pub evicted: AtomicU64,
}

/// What waits for the thread.
#[derive(Debug, Default)]
pub struct Inbox {
    slot: Mutex<Slot>,
    changed: Condvar,
    totals: Arc<Totals>,
}

#[derive(Debug, Default)]
struct Slot {
    /// Another configuration.
    world: Option<Arc<World>>,
    asks: VecDeque<Ask>,
    ending: bool,
}

impl Inbox {
    /// Hands on what somebody wants; whoever wants it is told when too much waits.
    pub(super) fn ask(&self, ask: Ask) {
        let mut slot = self.slot();
        let most = if ask.is_question() { MOST_QUESTIONS } else { MOST_WAITING };
        let waiting = slot.asks.iter().filter(|other| other.is_question() == ask.is_question()).count();
        if waiting >= most || slot.ending {
            drop(slot);
            return self.turn_away(ask);
        }
        slot.asks.push_back(ask);
        self.changed.notify_one();
    }

    /// Whoever asked may be gone.
    fn turn_away(&self, ask: Ask) {
        let busy = |error: &str, hint| Refusal::new(RefusalCode::Busy, error, Some(hint));
        let questions = || busy("too many questions wait to be answered", "ask again in a moment");
        match ask {
            Ask::Take(report) => {
                self.totals.refused.fetch_add(report.count() as u64, Ordering::Relaxed);
                let refusal = busy("too many samples wait to be taken in", "send them again later");
                let _ = report.reply.send(Err(refusal));
            }
            Ask::Look(_, reply) => {
                let _ = reply.send(Err(questions()));
            }
            Ask::Sum(reply) => {
                let _ = reply.send(Err(questions()));
            }
        }
    }

    /// Another configuration is served.
    pub(super) fn reloaded(&self, world: &Arc<World>) {
        self.slot().world = Some(Arc::clone(world));
        self.changed.notify_one();
    }

    fn slot(&self) -> MutexGuard<'_, Slot> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What came, after at most so long.
    fn wait(&self, longest: Duration) -> Slot {
        let nothing = |slot: &mut Slot| slot.asks.is_empty() && slot.world.is_none() && !slot.ending;
        let waited = self.changed.wait_timeout_while(self.slot(), longest, nothing);
        let (mut slot, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let left = Slot { ending: slot.ending, ..Slot::default() };
        std::mem::replace(&mut *slot, left)
    }
}

impl Ask {
    fn is_question(&self) -> bool {
        !matches!(self, Ask::Take(_))
    }
}

impl Report {
    fn count(&self) -> usize {
        self.samples.len() + self.problems.len()
    }
}

/// The thread.
#[derive(Debug)]
pub struct Gauge {
    inbox: Arc<Inbox>,
    measured: Arc<Measured>,
    /// Nothing ever comes; it is closed when everything is written.
    ended: mpsc::Receiver<()>,
}

impl Gauge {
    /// Starts the thread, with what an earlier process left in `state_dir`.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(world: &Arc<World>, state_dir: &Path, changes: Changes) -> io::Result<Gauge> {
        let path = file::path(state_dir);
        let now = time::now();
        let mut book = read(&path, world, now);
        adopt(&mut book, world);
        let measured = Arc::new(book.freeze(&Measured::default()));
        let inbox = Arc::new(Inbox::default());
        let (running, ended) = mpsc::channel();
        let mut clerk = Clerk {
            book,
            world: Arc::clone(world),
            measured: Arc::clone(&measured),
            changes,
            inbox: Arc::clone(&inbox),
            path,
            writing: None,
            is_failing: false,
            published_at: None,
            swept_at: Instant::now(),
            unwritten_since: None,
            next_write: Instant::now(),
        };
        clerk.count();
        Builder::new().name("latency".into()).spawn(move || {
            let _running: mpsc::Sender<()> = running;
            clerk.run();
        })?;
        Ok(Gauge { inbox, measured, ended })
    }

    /// Where samples and questions go.
    #[must_use]
    pub fn inbox(&self) -> Arc<Inbox> {
        Arc::clone(&self.inbox)
    }

    /// What was known at the start.
    #[must_use]
    pub fn measured(&self) -> Arc<Measured> {
        Arc::clone(&self.measured)
    }

    /// Counters.
    #[must_use]
    pub fn totals(&self) -> Arc<Totals> {
        Arc::clone(&self.inbox.totals)
    }

    /// Has everything written and ends the thread, without waiting for that.
    pub fn end(&self) {
        self.inbox.slot().ending = true;
        self.inbox.changed.notify_one();
    }

    /// [`Gauge::end`], and waits at most `patience` for the disk.
    pub fn finish(self, patience: Duration) {
        self.end();
        // Either way: it is over, or it took too long.
        let _ = self.ended.recv_timeout(patience);
    }
}

/// What an earlier process left.
fn read(path: &Path, world: &World, now: Tick) -> Book {
    let policy = world.latency.policy;
    match file::read(path, policy, now, unix_milliseconds()) {
        Ok(None) => Book::new(policy),
        Ok(Some(book)) => {
            let prefixes = book.prefixes();
            tracing::info!("{}: round-trip times of {prefixes} prefixes", path.display());
            book
        }
        Err(why) => {
            tracing::warn!("{}: not used: {why}", path.display());
            Book::new(policy)
        }
    }
}

fn adopt(book: &mut Book, world: &World) {
    book.adopt(world.latency.policy, world.fleet().regions.iter().map(|region| &*region.name));
    let atlas = &world.steering.atlas;
    book.locate(|prefix| {
        let place = atlas.place(atlas.lookup(prefix.addr()).0);
        (place.as_number, place.country)
    });
}

/// Owns all estimates.
struct Clerk {
    book: Book,
    world: Arc<World>,
    /// The table that was made last.
    measured: Arc<Measured>,
    changes: Changes,
    inbox: Arc<Inbox>,
    /// Of the file.
    path: PathBuf,
    /// What is being put in its place.
    writing: Option<JoinHandle<io::Result<()>>>,
    /// Whether the last try to write failed.
    is_failing: bool,
    published_at: Option<Instant>,
    swept_at: Instant,
    /// Since when there is something that is not written.
    unwritten_since: Option<Instant>,
    next_write: Instant,
}

impl Clerk {
    fn run(&mut self) {
        loop {
            let Slot { world, asks, ending } = self.inbox.wait(self.time_left());
            if let Some(world) = world {
                self.world = world;
                adopt(&mut self.book, &self.world);
            }
            asks.into_iter().for_each(|ask| self.handle(ask));
            if !self.is_writing() {
                self.finish_writing();
            }
            if self.swept_at.elapsed() >= SWEEP {
                self.book.expire(time::now());
                self.swept_at = Instant::now();
                self.count();
            }
            if self.publish_due().is_some_and(|left| left.is_zero()) {
                self.publish();
            }
            if ending || self.write_due().is_some_and(|left| left.is_zero()) {
                self.write(ending);
            }
            if ending {
                self.finish_writing();
                return;
            }
        }
    }

    /// Until something is to be done, whatever comes.
    fn time_left(&self) -> Duration {
        let sweep = SWEEP.saturating_sub(self.swept_at.elapsed());
        [self.publish_due(), self.write_due()].into_iter().flatten().fold(sweep, Duration::min)
    }

    fn publish_due(&self) -> Option<Duration> {
        let left = || self.published_at.map_or(Duration::ZERO, |at| PUBLISH_PAUSE.saturating_sub(at.elapsed()));
        self.book.is_new().then(left)
    }

    fn write_due(&self) -> Option<Duration> {
        let gathered = self.unwritten_since? + GATHER;
        Some(gathered.max(self.next_write).saturating_duration_since(Instant::now()))
    }

    fn handle(&mut self, ask: Ask) {
        // Whoever asked may be gone.
        match ask {
            Ask::Take(report) => self.take(report),
            Ask::Look(client, reply) => {
                let _ = reply.send(Ok(self.look(client)));
            }
            Ask::Sum(reply) => {
                let _ = reply.send(Ok(self.sum()));
            }
        }
    }

    fn take(&mut self, report: Report) {
        let count = report.count() as u64;
        let Report { samples, mut problems, reply } = report;
        problems.extend(self.unknown_regions(&samples));
        let totals = &self.inbox.totals;
        if !problems.is_empty() {
            totals.refused.fetch_add(count, Ordering::Relaxed);
            let _ = reply.send(Err(self.refusal(problems, count)));
            return;
        }
        totals.taken.fetch_add(count, Ordering::Relaxed);
        let now = time::now();
        for (_, given) in &samples {
            let sample = self.placed(given);
            self.book.take(&sample, now);
        }
        if !samples.is_empty() {
            self.unwritten_since.get_or_insert_with(Instant::now);
        }
        self.count();
        let _ = reply.send(Ok(Taken { taken: samples.len(), prefixes: self.book.prefixes() }));
    }

    fn unknown_regions(&self, samples: &[(usize, Given)]) -> Vec<(usize, String)> {
        let known: HashSet<&str> = self.world.fleet().regions.iter().map(|region| &*region.name).collect();
        let unknown = samples.iter().filter(|(_, given)| !known.contains(&*given.region));
        unknown.map(|(at, given)| (*at, format!("there is no region {:?}", given.region))).collect()
    }

    fn refusal(&self, mut problems: Vec<(usize, String)>, count: u64) -> Refusal {
        problems.sort_by_key(|(at, _)| *at);
        let told = problems.iter().take(MOST_TOLD).map(|(at, problem)| format!("[{at}] {problem}"));
        let told: Vec<String> = told.collect();
        let more = match problems.len().saturating_sub(MOST_TOLD) {
            0 => String::new(),
            more => format!("; and {more} more"),
        };
        let error =
            format!("{} of {count} samples are wrong, none is taken: {}{more}", problems.len(), told.join("; "));
        let regions = self.world.fleet().regions.iter().take(MOST_TOLD).map(|region| region.name.as_str());
        let hint = format!("regions: {}", regions.collect::<Vec<_>>().join(", "));
        Refusal::new(RefusalCode::Wrong, error, Some(&hint))
    }

    /// A sample of the prefix that is looked at of its client, with the place of that.
    fn placed(&mut self, given: &Given) -> Sample {
        let client = given.prefix(&self.world.settings.ecs);
        let atlas = &self.world.steering.atlas;
        let place = atlas.place(atlas.lookup(client.addr()).0);
        let (as_number, country) = (place.as_number, place.country);
        let region = self.book.region(&given.region);
        Sample { client, as_number, country, region, rtt: Rtt::from_ms(given.rtt_ms) }
    }

    fn look(&self, client: IpNet) -> Looked {
        let client = sample::masked(client, &self.world.settings.ecs);
        let atlas = &self.world.steering.atlas;
        let place = atlas.place(atlas.lookup(client.addr()).0);
        let mut known = self.book.look(client, place, time::now());
        known.sort_by_key(|one| (one.published.is_none(), one.published, one.region));
        Looked {
            client: client.to_string(),
            prefix: self.book.prefix_around(client).map(|prefix| prefix.to_string()),
            place: place.to_string(),
            regions: known.into_iter().map(|one| self.looked(one)).collect(),
        }
    }

    fn looked(&self, known: Known) -> LookedRegion {
        LookedRegion {
            region: self.book.region_name(known.region).to_owned(),
            rtt_ms: known.published.map(Rtt::ms),
            level: level_word(known.level).to_owned(),
            estimate_ms: known.estimate.ms(),
            samples: known.samples,
            age_s: known.age_s,
        }
    }

    fn sum(&self) -> Summary {
        let Counts { prefixes, systems, countries, estimates, evicted } = self.book.counts();
        let by_region = self.book.prefixes_by_region().into_iter();
        Summary {
            prefixes,
            most_prefixes: self.world.latency.policy.prefixes,
            systems,
            countries,
            estimates,
            taken: self.inbox.totals.taken.load(Ordering::Relaxed),
            refused: self.inbox.totals.refused.load(Ordering::Relaxed),
            evicted,
            regions: by_region.map(|(name, prefixes)| SummedRegion { region: name.to_owned(), prefixes }).collect(),
        }
    }

    /// Has answers go by what is known now.
    fn publish(&mut self) {
        self.measured = Arc::new(self.book.freeze(&self.measured));
        self.published_at = Some(Instant::now());
        self.inbox.totals.published.fetch_add(1, Ordering::Relaxed);
        self.unwritten_since.get_or_insert_with(Instant::now);
        // It fails only when the control loop has ended.
        let _ = self.changes.blocking_send(Change::Measured(Arc::clone(&self.measured)));
    }

    /// Writes everything down, unless the disk is still busy with what was written before; at the `last` in any case.
    fn write(&mut self, last: bool) {
        if self.unwritten_since.is_none() {
            return;
        }
        if !last && self.is_writing() {
            self.next_write = Instant::now() + PUBLISH_PAUSE;
            return;
        }
        self.finish_writing();
        let began = Instant::now();
        let written = file::write(&self.path, &self.book, time::now(), unix_milliseconds());
        self.next_write = Instant::now() + WRITE_PAUSE.max(began.elapsed() * PAUSE_PER_WRITE);
        self.unwritten_since = None;
        match written {
            Ok(writing) => self.writing = Some(writing),
            Err(error) => self.wrote(Err(error)),
        }
    }

    fn is_writing(&self) -> bool {
        self.writing.as_ref().is_some_and(|writing| !writing.is_finished())
    }

    /// Waits until the disk has what was written.
    fn finish_writing(&mut self) {
        if let Some(writing) = self.writing.take() {
            let panicked = |_| Err(io::Error::other("the thread that writes it panicked"));
            self.wrote(writing.join().unwrap_or_else(panicked));
        }
    }

    /// One warning when writing begins to fail, one line when that ends. What could not be written, on a full disk, is to be
    /// written still.
    fn wrote(&mut self, written: io::Result<()>) {
        let path = self.path.display();
        match &written {
            Err(error) if !self.is_failing => {
                tracing::warn!("{path}: {error}; round-trip times are not kept for the next start");
            }
            Ok(()) if self.is_failing => tracing::info!("{path}: written again"),
            Ok(()) | Err(_) => {}
        }
        self.is_failing = written.is_err();
        if self.is_failing {
            self.unwritten_since.get_or_insert_with(Instant::now);
        }
    }

    fn count(&self) {
        let totals = &self.inbox.totals;
        totals.prefixes.store(self.book.prefixes() as u64, Ordering::Relaxed);
        totals.evicted.store(self.book.evicted(), Ordering::Relaxed);
    }
}

fn level_word(level: Level) -> &'static str {
    match level {
        Level::Prefix => "prefix",
        Level::System => "as",
        Level::Country => "country",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_keep_no_samples_out() {
        let inbox = Inbox::default();
        let sum = || {
            let (reply, answer) = oneshot::channel();
            inbox.ask(Ask::Sum(reply));
            answer
        };
        let take = || {
            let (reply, answer) = oneshot::channel();
            inbox.ask(Ask::Take(Report { samples: Vec::new(), problems: Vec::new(), reply }));
            answer
        };
        let mut questions: Vec<_> = (0..20).map(|_| sum()).collect();
        let mut reports: Vec<_> = (0..MOST_WAITING + 1).map(|_| take()).collect();
        let refusal = questions[MOST_QUESTIONS].try_recv().expect("answered").expect_err("refused");
        assert!(refusal.code == RefusalCode::Busy && refusal.error.contains("too many questions"), "{refusal:?}");
        assert!(questions[MOST_QUESTIONS - 1].try_recv().is_err() && reports[MOST_WAITING - 1].try_recv().is_err());
        let refusal = reports[MOST_WAITING].try_recv().expect("answered").expect_err("refused");
        assert!(refusal.error.contains("too many samples"), "{refusal:?}");
    }
}
