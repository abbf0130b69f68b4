//! One task for each target: when it is probed, how many at once, what happens when a probe crashes (SPEC 2.3).
//!
//! ```text
//!   first delay ─► permit ─► probe ─► Report ──► owner of the verdicts
//!                    ▲                              │ time until the next probe
//!                    └──── sleep, ±10 %, from ◄─────┘
//!                          start to start
//! ```
//!
//! Probes of one target never overlap, since its task runs them one after the other; waiting for a permit is no part of
//! a probe's time, but of its lateness. The first probes of a process come within a second: so that they do not come
//! together ever after, the first pause at the check's interval is drawn from all of it.
//!
//! A reload keeps the tasks of targets whose probes stay alike, under their new numbers. A [`Report`] looks its target's
//! number up when it is read: whoever calls [`Prober::update`] between two reports never sees one under a number that has
//! gone to another target.

use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::Poll;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use tokio::sync::{Notify, Semaphore, mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::fleet::{Target, TargetId};
use crate::health::{Observation, Outcome};
use crate::probe::{Check, Finding, Heard, Kind, Means, Probe, Totals, push, source_of};

/// Probes that run at once unless told otherwise; each holds a file descriptor. So that none waits for another (SPEC 2.3),
/// these are enough for all of 10 000 targets, when none of them answers and the first probes all begin in one second.
pub const MOST_AT_ONCE: usize = 16_384;
/// First probes of a process are spread over this, or over the interval where that is shorter.
const START_SPREAD: Duration = Duration::from_secs(1);
/// Least time between the end of a probe and the next of the same target.
const LEAST_PAUSE: Duration = Duration::from_millis(10);
/// Least time between the starts of two probes of the same target, of which the second is hastened.
const LEAST_APART: Duration = Duration::from_millis(250);
/// How long after its timeout a probe that did not end by itself is given up.
const STALLED_AFTER: Duration = Duration::from_secs(1);
/// A failure found this long after its timeout says that the node was busy and nothing of the target.
const LATE_AFTER: Duration = Duration::from_millis(250);

/// How all probes run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where jitter comes from; the same seed gives the same schedule.
    pub seed: u64,
    /// Most probes that run at once.
    pub most_at_once: usize,
    /// Root certificates that `https` checks believe beside the system's, in DER.
    pub extra_roots: Vec<Vec<u8>>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings { seed: 0, most_at_once: MOST_AT_ONCE, extra_roots: Vec::new() }
    }
}

impl Settings {
    /// For a process that may have so many descriptors open: a quarter of them is left to all else.
    #[must_use]
    pub fn within(descriptors: usize) -> Settings {
        Settings { most_at_once: MOST_AT_ONCE.min(descriptors - descriptors / 4), ..Settings::default() }
    }
}

/// The end of one probe, for the owner of the verdicts, who answers with [`Report::next`].
#[derive(Debug)]
pub struct Report {
    slot: Arc<Slot>,
    finding: Finding,
    took: Duration,
    next: oneshot::Sender<Duration>,
}

impl Report {
    /// A report as a probe task would send it, and the end at which that task waits for the time until the next probe.
    #[must_use]
    pub fn new(observation: &Observation) -> (Report, oneshot::Receiver<Duration>) {
        Report::hearing(observation, Heard::Nothing)
    }

    /// The same, of a probe that heard something beside.
    #[must_use]
    pub fn hearing(observation: &Observation, heard: Heard) -> (Report, oneshot::Receiver<Duration>) {
        let (next, answer) = oneshot::channel();
        let slot = Arc::new(Slot::new(observation.target));
        let finding = Finding { outcome: observation.outcome, reason: Arc::clone(&observation.reason), heard };
        (Report { slot, finding, took: observation.took, next }, answer)
    }

    /// What the probe saw, under the number that its target has now; `None` when the target is gone.
    #[must_use]
    pub fn observation(&self) -> Option<Observation> {
        let Finding { outcome, ref reason, .. } = self.finding;
        Some(Observation { target: self.slot.get()?, outcome, reason: Arc::clone(reason), took: self.took })
    }

    /// What the probe heard beside its target's health.
    #[must_use]
    pub fn heard(&self) -> Heard {
        self.finding.heard
    }

    /// Tells the task when to probe next, counted from the start of this probe. A report dropped without is the same
    /// as one answered with the check's interval.
    pub fn next(self, pace: Duration) {
        // The task may have ended meanwhile; then nobody waits.
        let _ = self.next.send(pace);
    }
}

/// The present number of a task's target, and how the task is woken.
#[derive(Debug)]
struct Slot {
    number: AtomicU32,
    hasten: Notify,
}

impl Slot {
    /// In place of a number: the target is gone.
    const GONE: u32 = u32::MAX;

    fn new(target: TargetId) -> Slot {
        Slot { number: AtomicU32::new(target.0), hasten: Notify::new() }
    }

    fn get(&self) -> Option<TargetId> {
        let number = self.number.load(Ordering::Acquire);
        (number != Slot::GONE).then_some(TargetId(number))
    }

    fn set(&self, target: TargetId) {
        self.number.store(target.0, Ordering::Release);
    }

    fn clear(&self) {
        self.number.store(Slot::GONE, Ordering::Release);
    }
}

/// The tasks of all targets; they end with it.
pub struct Prober {
    /// By `TargetId`.
    tasks: Vec<Task>,
    shared: Arc<Shared>,
}

/// A hash of a target: the same for the same target and seed, in every process and release.
fn hash(check: &Check, target: &Target, seed: u64) -> u64 {
    let Target { address, port, host, .. } = target;
    let text = format!("{} {address} {port} {}", check.name, host.as_deref().unwrap_or_default());
    xxh3_64_with_seed(text.as_bytes(), seed)
}

/// What all tasks use.
struct Shared {
    seed: u64,
    permits: Semaphore,
    totals: Arc<Totals>,
    means: Means,
    sink: mpsc::Sender<Report>,
}

struct Task {
    check: Arc<Check>,
    slot: Arc<Slot>,
    abort: AbortHandle,
    /// Of a target that reports itself.
    inbox: Option<push::Inbox>,
}

impl Drop for Task {
    fn drop(&mut self) {
        self.slot.clear();
        self.abort.abort();
    }
}

impl Prober {
    /// Begins to probe; first probes are spread over min(interval, 1 s). Reports go to `sink`. Needs a tokio runtime.
    #[must_use]
    pub fn start(targets: &[Target], checks: &[Check], settings: Settings, sink: mpsc::Sender<Report>) -> Prober {
        let roots = settings.extra_roots.into_iter().map(CertificateDer::from).collect();
        let means = Means::new(roots);
        let shared = Shared {
            seed: settings.seed,
            permits: Semaphore::new(settings.most_at_once.clamp(1, Semaphore::MAX_PERMITS)),
            totals: Arc::new(Totals::new(Arc::clone(&means.tls.certificates))),
            means,
            sink,
        };
        let mut prober = Prober { tasks: Vec::new(), shared: Arc::new(shared) };
        let new = vec![None; targets.len()];
        prober.set(targets, checks, &new, |check| check.policy.interval.min(START_SPREAD));
        prober
    }

    /// Takes on a new set. `before` says which target of the set so far is the same (check's name, address, port, host),
    /// if any: its task goes on under the new number, unless it is probed in another way now. All others end; those that
    /// are new or probed in another way begin within their interval. Call it where reports are read.
    pub fn update(&mut self, targets: &[Target], checks: &[Check], before: &[Option<TargetId>]) {
        self.set(targets, checks, before, |check| check.policy.interval);
    }

    /// Has a target probed at once, unless it is probed at this moment.
    pub fn hasten(&self, target: TargetId) {
        if let Some(task) = self.tasks.get(target.0 as usize) {
            task.slot.hasten.notify_waiters();
        }
    }

    /// Takes in what is reported of a target whose check is of type `push`; `false` when it is none, or when too many of its
    /// reports wait.
    #[must_use]
    pub fn tell(&self, target: TargetId, healthy: bool, said: &str) -> bool {
        let inbox = self.tasks.get(target.0 as usize).and_then(|task| task.inbox.as_ref());
        inbox.is_some_and(|inbox| inbox.try_send(push::finding(healthy, said)).is_ok())
    }

    /// Counters of all probes.
    #[must_use]
    pub fn totals(&self) -> Arc<Totals> {
        Arc::clone(&self.shared.totals)
    }

    fn set(
        &mut self,
        targets: &[Target],
        checks: &[Check],
        before: &[Option<TargetId>],
        spread: impl Fn(&Check) -> Duration,
    ) {
        let checks: Vec<Arc<Check>> = checks.iter().cloned().map(Arc::new).collect();
        let mut tasks: Vec<Option<Task>> = std::mem::take(&mut self.tasks).into_iter().map(Some).collect();
        let mut task_of = |before: &Option<TargetId>| tasks.get_mut(before.as_ref()?.0 as usize)?.take();
        let next = (0..).zip(targets).zip(before).map(|((number, target), before)| {
            let check = &checks[target.check.0 as usize];
            let task = match task_of(before) {
                Some(task) if probed_alike(&task.check, check) => task,
                _ => self.spawn(target, check, spread(check)),
            };
            task.slot.set(TargetId(number));
            task
        });
        let next = next.collect();
        self.tasks = next;
    }

    fn spawn(&self, target: &Target, check: &Arc<Check>, spread: Duration) -> Task {
        let slot = Arc::new(Slot::new(TargetId(Slot::GONE)));
        let probe = Lazy {
            check: Arc::clone(check),
            target: target.clone(),
            shared: Arc::clone(&self.shared),
            prepared: OnceLock::new(),
        };
        if check.kind == Kind::Push {
            let (inbox, reports) = mpsc::channel(push::MOST_WAITING);
            let task = attend(reports, Arc::clone(&slot), Arc::clone(&self.shared), probe);
            let abort = tokio::spawn(task).abort_handle();
            return Task { check: Arc::clone(check), slot, abort, inbox: Some(inbox) };
        }
        let mut random = Random(hash(check, target, self.shared.seed));
        let first = spread.mul_f64(random.next());
        let (interval, timeout) = (check.policy.interval, check.policy.timeout);
        let schedule = Schedule { first, crowded: spread < interval, interval, timeout, random };
        let task = run(schedule, check.kind.name(), Arc::clone(&slot), Arc::clone(&self.shared), probe);
        Task { check: Arc::clone(check), slot, abort: tokio::spawn(task).abort_handle(), inbox: None }
    }
}

/// Whether an edit leaves the probes and the rhythm of a check as they are; how it judges is not the task's concern.
fn probed_alike(before: &Check, after: &Check) -> bool {
    let rhythm = |check: &Check| (check.policy.interval, check.policy.timeout);
    before.kind == after.kind && before.source == after.source && rhythm(before) == rhythm(after)
}

/// A probe that is prepared when it first runs: ten thousand are not prepared at once, and a crash there is caught. What
/// it fails for may be this node's own link.
struct Lazy {
    check: Arc<Check>,
    target: Target,
    shared: Arc<Shared>,
    prepared: OnceLock<Box<dyn Probe>>,
}

impl Probe for Lazy {
    fn run(&self) -> Pin<Box<dyn Future<Output = Finding> + Send + '_>> {
        let means = &self.shared.means;
        let prepare = || self.check.kind.prepare(&self.check, &self.target, means);
        let probe = self.prepared.get_or_init(prepare);
        Box::pin(async {
            let finding = probe.run().await;
            // A report takes no way of this node's.
            if self.check.kind == Kind::Push {
                return finding;
            }
            means.links.excuse(finding, source_of(&self.check, &self.target), self.target.address)
        })
    }
}

/// When one target is probed.
struct Schedule {
    first: Duration,
    /// First probes came within less than the interval, and this target has not left that crowd.
    crowded: bool,
    interval: Duration,
    timeout: Duration,
    random: Random,
}

impl Schedule {
    /// When to probe next, after a probe that began at `start`: ±10 % of `pace` later, but not before a pause from now.
    /// Once it is sooner, to leave the crowd.
    fn next(&mut self, start: Instant, pace: Duration) -> Instant {
        let earliest = Instant::now() + LEAST_PAUSE;
        if self.crowded && pace == self.interval {
            self.crowded = false;
            let room = (start + pace).saturating_duration_since(earliest);
            return earliest + room.mul_f64(self.random.next());
        }
        let jittered = pace.mul_f64(0.9 + 0.2 * self.random.next());
        (start + jittered).max(earliest)
    }
}

/// Probes one target until nobody takes its reports.
async fn run(mut schedule: Schedule, kind: &'static str, slot: Arc<Slot>, shared: Arc<Shared>, probe: impl Probe) {
    let mut due = Instant::now() + schedule.first;
    // Long ago, for the first probe.
    let mut started = due - schedule.first - LEAST_APART;
    loop {
        tokio::select! {
            () = sleep_until(due) => {}
            () = slot.hasten.notified() => {
                due = Instant::now().max(started + LEAST_APART);
                sleep_until(due).await;
            }
        }
        let permit = shared.permits.acquire().await.expect("the semaphore is never closed");
        let start = Instant::now();
        started = start;
        shared.totals.lateness.count(start - due);
        let ended = guarded(&probe, schedule.timeout + STALLED_AFTER).await;
        drop(permit);
        let took = start.elapsed();
        let finding = judged(ended, took, schedule.timeout, &shared.totals);
        shared.totals.count(kind, finding.outcome, took);
        let Some(pace) = report(&slot, &shared.sink, finding, took, schedule.interval).await else { return };
        due = schedule.next(start, pace);
    }
}

/// Hands on what a target reports of itself, and its silence, until nobody takes it.
async fn attend(mut inbox: mpsc::Receiver<Finding>, slot: Arc<Slot>, shared: Arc<Shared>, silence: Lazy) {
    let (patience, interval) = (push::patience(&silence.check), silence.check.policy.interval);
    let mut due = Instant::now() + patience;
    loop {
        let (finding, is_silent) = match timeout_at(due, inbox.recv()).await {
            Ok(Some(finding)) => (finding, false),
            Ok(None) => return,
            Err(_) => (silence.run().await, true),
        };
        let heard = Instant::now();
        shared.totals.count(silence.check.kind.name(), finding.outcome, Duration::ZERO);
        let Some(pace) = report(&slot, &shared.sink, finding, Duration::ZERO, interval).await else { return };
        due = heard + if is_silent { pace } else { patience };
    }
}

/// Hands a report over; the time until the next probe, or `None` when nobody reads reports any more.
async fn report(
    slot: &Arc<Slot>,
    sink: &mpsc::Sender<Report>,
    finding: Finding,
    took: Duration,
    interval: Duration,
) -> Option<Duration> {
    let (next, answer) = oneshot::channel();
    sink.send(Report { slot: Arc::clone(slot), finding, took, next }).await.ok()?;
    Some(answer.await.unwrap_or(interval))
}

/// Why a probe has no finding of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Broken {
    Crashed,
    Stalled,
}

/// The finding of a probe that may panic or never end.
async fn guarded(probe: &impl Probe, limit: Duration) -> Result<Finding, Broken> {
    let caught = async {
        let mut running = pin!(async { probe.run().await });
        poll_fn(|context| match catch_unwind(AssertUnwindSafe(|| running.as_mut().poll(context))) {
            Ok(poll) => poll.map(Ok),
            Err(_) => Poll::Ready(Err(Broken::Crashed)),
        })
        .await
    };
    timeout(limit, caught).await.unwrap_or(Err(Broken::Stalled))
}

/// What a probe that ended in this way says of its target: nothing where it broke, or where it failed only because this
/// node came back to it late.
fn judged(ended: Result<Finding, Broken>, took: Duration, timeout: Duration, totals: &Totals) -> Finding {
    match ended {
        Ok(finding) if finding.outcome == Outcome::Fail && took > timeout + LATE_AFTER => {
            Finding::no_verdict("this node was too busy to look")
        }
        Ok(finding) => finding,
        Err(broken) => {
            totals.count_crash();
            Finding::no_verdict(match broken {
                Broken::Crashed => "probe crashed",
                Broken::Stalled => "probe stalled",
            })
        }
    }
}

/// SplitMix64.
#[derive(Clone, Debug)]
struct Random(u64);

impl Random {
    /// Evenly in 0..1.
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let bits = (mixed ^ (mixed >> 31)) >> 11;
        bits as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::sync::Mutex;
    use std::sync::atomic::AtomicUsize;

    use tokio::time::{advance, sleep};

    use super::*;
    use crate::probe::{Http, Kind, backends};

    const INTERVAL: Duration = Duration::from_secs(5);
    const TIMEOUT: Duration = Duration::from_secs(2);
    /// Later than anything a test waits for.
    const LONG: Duration = Duration::from_secs(3600);

    /// A probe that takes its time, or breaks.
    #[derive(Clone, Default)]
    struct Fake {
        takes: Duration,
        panics: bool,
        now: Arc<AtomicUsize>,
        most: Arc<AtomicUsize>,
        starts: Arc<Mutex<Vec<Instant>>>,
    }

    impl Probe for Fake {
        fn run(&self) -> Pin<Box<dyn Future<Output = Finding> + Send + '_>> {
            self.starts.lock().unwrap().push(Instant::now());
            assert!(!self.panics, "as the test asked for");
            Box::pin(async {
                self.most.fetch_max(self.now.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
                sleep(self.takes).await;
                self.now.fetch_sub(1, Ordering::Relaxed);
                Finding::pass("fake")
            })
        }
    }

    fn shared(most_at_once: usize) -> (Arc<Shared>, mpsc::Receiver<Report>) {
        let (sink, reports) = mpsc::channel(64);
        let permits = Semaphore::new(most_at_once);
        (Arc::new(Shared { seed: 1, permits, totals: Arc::default(), means: Means::new(Vec::new()), sink }), reports)
    }

    fn spawn(shared: &Arc<Shared>, probe: Fake) -> AbortHandle {
        let (first, random) = (Duration::ZERO, Random(1));
        let schedule = Schedule { first, crowded: false, interval: INTERVAL, timeout: TIMEOUT, random };
        let slot = Arc::new(Slot::new(TargetId(7)));
        tokio::spawn(run(schedule, "tcp", slot, Arc::clone(shared), probe)).abort_handle()
    }

    /// Reads so many reports, answers each with `pace`.
    async fn answer(reports: &mut mpsc::Receiver<Report>, count: usize, pace: Duration) -> Vec<Observation> {
        let mut seen = Vec::new();
        for _ in 0..count {
            let report = reports.recv().await.unwrap();
            seen.extend(report.observation());
            report.next(pace);
        }
        seen
    }

    #[tokio::test(start_paused = true)]
    async fn intervals_are_measured_from_start_to_start() {
        let (shared, mut reports) = shared(8);
        let fake = Fake { takes: Duration::from_millis(1500), ..Fake::default() };
        spawn(&shared, fake.clone());
        answer(&mut reports, 200, INTERVAL).await;
        let starts = fake.starts.lock().unwrap().clone();
        for pair in starts.windows(2) {
            let apart = pair[1] - pair[0];
            assert!(apart >= INTERVAL.mul_f64(0.9) && apart <= INTERVAL.mul_f64(1.1) + LEAST_PAUSE, "{apart:?}");
        }
        let mean = (starts[199] - starts[0]).div_f64(199.0).as_secs_f64();
        assert!((mean - 5.0).abs() < 0.1, "{mean}");
    }

    #[tokio::test(start_paused = true)]
    async fn the_owner_sets_the_pace() {
        let (shared, mut reports) = shared(8);
        let fake = Fake::default();
        spawn(&shared, fake.clone());
        for pace in [INTERVAL, INTERVAL / 2, INTERVAL / 2, LONG] {
            answer(&mut reports, 1, pace).await;
        }
        drop(reports.recv().await.unwrap());
        answer(&mut reports, 1, INTERVAL).await;
        let starts = fake.starts.lock().unwrap().clone();
        let apart: Vec<u64> = starts.windows(2).map(|pair| (pair[1] - pair[0]).as_secs_f64().round() as u64).collect();
        let near = |got: u64, wanted: u64| got >= wanted * 85 / 100 && got <= wanted * 115 / 100 + 1;
        for (got, wanted) in apart.into_iter().zip([5, 2, 2, 3600, 5]) {
            assert!(near(got, wanted), "{got} s, not {wanted}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_longer_than_its_interval_does_not_overlap_with_the_next() {
        let (shared, mut reports) = shared(8);
        let fake = Fake { takes: Duration::from_millis(2900), ..Fake::default() };
        spawn(&shared, fake.clone());
        answer(&mut reports, 20, Duration::from_millis(1)).await;
        assert_eq!(fake.most.load(Ordering::Relaxed), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn so_many_at_once_and_waiting_is_no_part_of_the_time_taken() {
        let (shared, mut reports) = shared(3);
        let fake = Fake { takes: Duration::from_secs(1), ..Fake::default() };
        for _ in 0..12 {
            spawn(&shared, fake.clone());
        }
        let begin = Instant::now();
        let seen = answer(&mut reports, 12, LONG).await;
        assert_eq!(fake.most.load(Ordering::Relaxed), 3);
        let late: Vec<u64> = shared.totals.lateness.buckets().into_iter().map(|(_, count)| count).collect();
        assert_eq!(
            (late[0], late[9], late[10], late[11]),
            (3, 3, 3, 3),
            "the others wait one, two, three seconds: {late:?}"
        );
        assert!(begin.elapsed() >= Duration::from_secs(4));
        assert!(seen.iter().all(|observation| observation.took < Duration::from_millis(1100)));
        assert!(seen.iter().all(|observation| observation.outcome == Outcome::Pass));
    }

    #[tokio::test(start_paused = true)]
    async fn a_hanging_target_delays_no_other() {
        let (shared, mut reports) = shared(8);
        spawn(&shared, Fake { takes: LONG, ..Fake::default() });
        let quick = Fake::default();
        spawn(&shared, quick.clone());
        let begin = Instant::now();
        while quick.starts.lock().unwrap().len() < 10 {
            answer(&mut reports, 1, INTERVAL).await;
        }
        assert!(begin.elapsed() < INTERVAL * 10);
    }

    #[tokio::test(start_paused = true)]
    async fn broken_probes_end_without_verdict_and_go_on() {
        let rows = [
            (Fake { panics: true, ..Fake::default() }, "probe crashed"),
            (Fake { takes: LONG, ..Fake::default() }, "probe stalled"),
        ];
        for (fake, reason) in rows {
            let (shared, mut reports) = shared(8);
            spawn(&shared, fake);
            for observation in answer(&mut reports, 3, INTERVAL).await {
                assert_eq!((observation.outcome, observation.reason.as_ref()), (Outcome::NoVerdict, reason));
                assert_eq!(observation.target, TargetId(7));
            }
            assert_eq!(shared.totals.crashed.load(Ordering::Relaxed), 3);
            assert_eq!(shared.permits.available_permits(), 8);
            let (_, tcp) = shared.totals.by_kind().find(|&(kind, _)| kind == "tcp").unwrap();
            assert_eq!(tcp.no_verdict.load(Ordering::Relaxed), 3);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn tasks_end_with_the_reader() {
        let (shared, reports) = shared(8);
        let task = spawn(&shared, Fake::default());
        drop(reports);
        while !task.is_finished() {
            advance(INTERVAL).await;
        }
    }

    #[test]
    fn a_failure_found_late_says_nothing() {
        let fail = || Ok(Finding::fail("timeout after 2s"));
        let busy = Finding::no_verdict("this node was too busy to look");
        let rows = [
            (fail(), TIMEOUT, Finding::fail("timeout after 2s")),
            (fail(), TIMEOUT + LATE_AFTER, Finding::fail("timeout after 2s")),
            (fail(), TIMEOUT * 2, busy),
            (Ok(Finding::pass("connected")), TIMEOUT * 2, Finding::pass("connected")),
            (Err(Broken::Stalled), TIMEOUT * 2, Finding::no_verdict("probe stalled")),
        ];
        for (ended, took, finding) in rows {
            assert_eq!(judged(ended, took, TIMEOUT, &Totals::default()), finding);
        }
    }

    #[test]
    fn probes_leave_descriptors_to_others() {
        for (descriptors, probes) in [(0, 0), (1024, 768), (20_000, 15_000), (65_536, MOST_AT_ONCE)] {
            assert_eq!(Settings::within(descriptors).most_at_once, probes);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_crowd_scatters_over_the_interval() {
        let mut tenths = [0; 10];
        for seed in 0..1000 {
            let (first, random) = (Duration::ZERO, Random(seed));
            let mut schedule = Schedule { first, crowded: true, interval: INTERVAL, timeout: TIMEOUT, random };
            let start = Instant::now();
            let hurried = schedule.next(start, INTERVAL / 2) - start;
            assert!(hurried >= INTERVAL.mul_f64(0.45) && hurried <= INTERVAL.mul_f64(0.55), "{hurried:?}");
            let second = schedule.next(start, INTERVAL) - start;
            tenths[(second.as_secs_f64() / INTERVAL.as_secs_f64() * 10.0) as usize] += 1;
            let third = schedule.next(start, INTERVAL) - start;
            assert!(third >= INTERVAL.mul_f64(0.9) && third <= INTERVAL.mul_f64(1.1), "{third:?}");
        }
        assert!(tenths.iter().all(|&count| (60..=140).contains(&count)), "{tenths:?}");
    }

    #[test]
    fn first_probes_are_spread_evenly() {
        let check = backends::check(Kind::Tcp, TIMEOUT);
        let share = |number: u8| {
            let target = backends::target(SocketAddr::from(([192, 0, 2, number], 80)), None);
            Random(hash(&check, &target, 0)).next()
        };
        let mut tenths = [0; 10];
        for number in 0..=255 {
            tenths[(share(number) * 10.0) as usize] += 1;
        }
        assert!(tenths.iter().all(|&count| (10..=45).contains(&count)), "{tenths:?}");
        assert_eq!(share(9).to_bits(), share(9).to_bits());
    }

    /// Targets of check 0, by port of loopback.
    fn targets(addresses: &[SocketAddr]) -> Vec<Target> {
        addresses.iter().map(|&address| backends::target(address, None)).collect()
    }

    fn quick_check() -> Check {
        let mut check = backends::check(Kind::Tcp, Duration::from_secs(1));
        check.policy.interval = Duration::from_millis(20);
        check
    }

    /// Reads reports until each of `wanted` was seen, and nothing else.
    async fn seen(reports: &mut mpsc::Receiver<Report>, wanted: &[(u32, Outcome)]) {
        let mut missing = wanted.to_vec();
        while !missing.is_empty() {
            let report = reports.recv().await.unwrap();
            if let Some(observation) = report.observation() {
                let got = (observation.target.0, observation.outcome);
                assert!(wanted.contains(&got), "{got:?}");
                missing.retain(|one| *one != got);
            }
            report.next(Duration::from_millis(20));
        }
    }

    #[tokio::test]
    async fn a_reload_renumbers_stops_and_starts() {
        let up = backends::listen(|_| async {}).await;
        let down = backends::refusing().await;
        let other = backends::listen(|_| async {}).await;
        let (sink, mut reports) = mpsc::channel(8);
        let mut prober = Prober::start(&targets(&[up, down]), &[quick_check()], Settings::default(), sink);
        seen(&mut reports, &[(0, Outcome::Pass), (1, Outcome::Fail)]).await;

        let waiting = reports.recv().await.unwrap();
        let before = waiting.observation().unwrap();
        prober.update(&targets(&[down, up]), &[quick_check()], &[Some(TargetId(1)), Some(TargetId(0))]);
        assert_eq!(waiting.observation().unwrap().target.0, 1 - before.target.0, "under the number of now");
        drop(waiting);
        seen(&mut reports, &[(0, Outcome::Fail), (1, Outcome::Pass)]).await;

        prober.update(&targets(&[other]), &[quick_check()], &[None]);
        seen(&mut reports, &[(0, Outcome::Pass)]).await;
        let (_, tcp) = prober
            .totals()
            .by_kind()
            .map(|(name, kind)| (name, kind.pass.load(Ordering::Relaxed)))
            .find(|(name, _)| *name == "tcp")
            .unwrap();
        assert!(tcp >= 3);

        prober.update(&[], &[], &[]);
        while let Ok(stale) = reports.try_recv() {
            assert_eq!(stale.observation(), None);
        }
        drop(prober);
        assert!(reports.recv().await.is_none_or(|stale| stale.observation().is_none()));
    }

    #[tokio::test]
    async fn a_reload_keeps_tasks_whose_probes_stay_alike() {
        let of = |edit: &dyn Fn(&mut Check)| {
            let mut check = backends::check(Kind::Http(backends::http()), TIMEOUT);
            edit(&mut check);
            check
        };
        let rows: [(&str, Check, bool); 6] = [
            ("nothing", of(&|_| {}), true),
            ("fall", of(&|check| check.policy.fall = 9), true),
            ("interval", of(&|check| check.policy.interval = LONG), false),
            ("timeout", of(&|check| check.policy.timeout = LONG), false),
            ("source", of(&|check| check.source = Some(backends::NOT_OURS)), false),
            ("path", of(&|check| check.kind = Kind::Http(Http { path: "/".into(), ..backends::http() })), false),
        ];
        let address = backends::refusing().await;
        for (what, edited, kept) in rows {
            let (sink, _reports) = mpsc::channel(8);
            let mut prober = Prober::start(&targets(&[address]), &[of(&|_| {})], Settings::default(), sink);
            let slot_of = |prober: &Prober| Arc::clone(&prober.tasks[0].slot);
            let before = slot_of(&prober);
            prober.update(&targets(&[address]), &[edited], &[Some(TargetId(0))]);
            assert_eq!(Arc::ptr_eq(&before, &slot_of(&prober)), kept, "{what}");
            assert_eq!(before.get(), kept.then_some(TargetId(0)), "{what}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_reported_is_observed_and_so_is_silence() {
        let mut check = backends::check(Kind::Push, Duration::ZERO);
        check.policy.interval = INTERVAL;
        let (sink, mut reports) = mpsc::channel(8);
        let targets = targets(&[SocketAddr::from(([192, 0, 2, 1], 0))]);
        let prober = Prober::start(&targets, &[check], Settings::default(), sink);
        let begin = Instant::now();
        let mut next = async |pace: Duration| {
            let report = reports.recv().await.unwrap();
            let Observation { outcome, reason, .. } = report.observation().unwrap();
            report.next(pace);
            (begin.elapsed().as_secs_f64().round(), outcome, reason.to_string())
        };
        let silent = |at: f64| (at, Outcome::Fail, "no report for 15s".to_string());
        assert_eq!(next(INTERVAL / 2).await, silent(15.0), "nothing was ever said");
        assert_eq!(next(INTERVAL).await, (17.5_f64.round(), Outcome::Fail, "no report for 15s".into()), "at its pace");
        assert_eq!(next(INTERVAL).await.0, 22.5_f64.round());
        assert!(prober.tell(TargetId(0), true, ""));
        assert_eq!(next(INTERVAL).await, (23.0, Outcome::Pass, "reported healthy".into()));
        assert!(prober.tell(TargetId(0), false, "disk full"));
        assert_eq!(next(INTERVAL).await, (23.0, Outcome::Fail, "reported unhealthy: disk full".into()));
        assert_eq!(next(INTERVAL).await, silent(38.0), "from the last report on");

        assert!((0..push::MOST_WAITING).all(|_| prober.tell(TargetId(0), true, "")));
        assert!(!prober.tell(TargetId(0), true, ""), "nobody takes them in");
        assert!(!prober.tell(TargetId(1), true, ""), "there is none");
    }

    #[test]
    fn a_made_up_report_reads_back() {
        let observation = Observation {
            target: TargetId(3),
            outcome: Outcome::Fail,
            reason: "connection refused".into(),
            took: Duration::from_millis(1),
        };
        let (report, mut answer) = Report::new(&observation);
        assert_eq!(report.observation(), Some(observation));
        report.next(INTERVAL);
        assert_eq!(answer.try_recv(), Ok(INTERVAL));
    }
}
