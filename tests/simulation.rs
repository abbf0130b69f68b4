//! Health over days that never were: seeded, by the real machine and the real control state, with a clock of their own.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, oneshot};
use waymark::answer::{Transport, Worker, respond};
use waymark::control::{Action, Change, Order, State, Status, Store, What, Wish, World};
use waymark::fleet::{Family, TargetId};
use waymark::health::{Machine, Observation, Outcome, Policy, Verdict};
use waymark::probe::{Prober, Report, Settings};
use waymark::snapshot::Published;
use waymark::steering::LayoutId;
use waymark::steering::local::Random as Draws;
use waymark::time::Tick;

use crate::support::query::Ask;

const DAY: u64 = 24 * 60 * 60 * 1000;
const MINUTE: u64 = 60 * 1000;

/// Draws as the server makes them.
struct Random(Draws);

impl Random {
    fn new(seed: u64) -> Random {
        Random(Draws::new(seed))
    }

    /// Evenly in 0..1.
    fn unit(&mut self) -> f64 {
        (self.0.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.unit() * bound as f64) as usize
    }
}

/// What a check has unless it says otherwise.
fn defaults() -> Policy {
    let seconds = Duration::from_secs;
    Policy {
        interval: seconds(5),
        timeout: seconds(2),
        fall: 3,
        rise: 3,
        window: Some((6, 20)),
        fast_interval: Duration::from_millis(2500),
        hold_down: seconds(30),
    }
}

fn observation(target: u32, passes: bool) -> Observation {
    let (outcome, reason) = if passes { (Outcome::Pass, "status 200") } else { (Outcome::Fail, "timeout after 2s") };
    Observation { target: TargetId(target), outcome, reason: reason.into(), took: Duration::ZERO }
}

/// A thousand targets that lose two probes in a thousand: at most one false removal in five days. Long runs of passes are
/// leapt over: behind twenty of them every machine is in the same state.
#[test]
fn lost_probes_remove_nearly_nothing() {
    const DAYS: u64 = 60;
    const LOSS: f64 = 0.002;
    let (policy, mut random) = (defaults(), Random::new(7));
    let interval = policy.interval.as_millis() as u64;
    let (mut removals, mut failures) = (0, 0u64);
    let end = 1000 * DAYS * DAY;
    let mut machine = Machine::new(Tick(0));
    machine.observe(&policy, Tick(0), &observation(0, true));
    let (mut now, mut passes) = (0, 20);
    while now < end {
        if passes >= 20 {
            now += (random.unit().ln() / (1.0 - LOSS).ln()) as u64 * interval;
            passes = 0;
            failures += 1;
            machine.observe(&policy, Tick(now), &observation(0, false));
        }
        now += machine.pace(&policy).as_millis() as u64;
        let lost = random.unit() < LOSS;
        (passes, failures) = if lost { (0, failures + 1) } else { (passes + 1, failures) };
        let transition = machine.observe(&policy, Tick(now), &observation(0, !lost));
        removals += u32::from(transition.is_some_and(|transition| transition.to == Verdict::Down));
    }
    assert!(failures > 1_000_000, "{failures}");
    assert!(f64::from(removals) <= 0.2 * DAYS as f64, "{removals} removals in {DAYS} days");
}

/// However a probe's schedule falls on a target that works for half of every second: at most three changes in the first
/// minute from its first change, at most two in any other, wherever that begins.
#[test]
fn a_flapping_target_changes_seldom() {
    const TARGETS: u64 = 2000;
    let policy = defaults();
    for seed in 0..TARGETS {
        let mut random = Random::new(seed);
        let (mut machine, mut now) = (Machine::new(Tick(0)), (random.unit() * 5000.0) as u64);
        let mut changes: Vec<u64> = Vec::new();
        while now < 20 * MINUTE {
            let before = machine.verdict();
            machine.observe(&policy, Tick(now), &observation(0, now % 1000 < 500));
            // The first pass is no change of what is published: it never was anything else.
            if machine.verdict() != before && before != Verdict::Unknown {
                changes.push(now);
            }
            now += (machine.pace(&policy).as_millis() as f64 * (0.9 + 0.2 * random.unit())) as u64;
        }
        for (at, begin) in changes.iter().enumerate() {
            let in_minute = changes[at..].iter().take_while(|change| **change < begin + MINUTE).count();
            let most = if at == 0 { 3 } else { 2 };
            assert!(in_minute <= most, "seed {seed}: {in_minute} in the minute from {begin} on: {changes:?}");
        }
    }
}

const SERVICES: usize = 24;
const REGIONS: [&str; 3] = ["eu", "us", "ap"];
/// Instances of a service in one region.
const EACH: usize = 3;

fn configuration() -> String {
    let mut text = String::from(
        "[zones.\"example.com\"]\nfile = \"zone\"\n[regions.eu]\n[regions.us]\n[regions.ap]\n\
         [checks.web]\ntype = \"tcp\"\nport = 80\ninterval = \"30s\"\n[checks.other]\nextends = \"web\"\nport = 81\n",
    );
    for service in 0..SERVICES {
        let check = ["web", "other"][service % 2];
        text += &format!("[pools.p{service}]\ncheck = \"{check}\"\n[pools.p{service}.instances]\n");
        for (at, region) in REGIONS.iter().enumerate() {
            for each in 0..EACH {
                let number = at * EACH + each;
                text += &format!("i{number} = {{ region = \"{region}\", address = \"192.0.{service}.{number}\" }}\n");
            }
        }
        let order: Vec<&str> = (0..3).map(|at| REGIONS[(at + service) % 3]).collect();
        let balance = ["weighted", "round-robin", "sticky"][service / 2 % 3];
        text += &format!(
            "[services.\"s{service}.example.com\"]\npool = \"p{service}\"\nsteer = \"failover\"\norder = {order:?}\nbalance = \"{balance}\"\n"
        );
    }
    text
}

/// Backends that fail by themselves, with their pool, with their region, or all at once.
struct Faults {
    target: Vec<u64>,
    pool: [u64; SERVICES],
    region: [u64; 3],
    all: u64,
}

impl Faults {
    /// What breaks in one minute.
    fn breed(&mut self, now: u64, random: &mut Random) {
        let mut time = |minutes: f64| now + (random.unit() * minutes * MINUTE as f64) as u64;
        let lengths = [time(20.0), time(40.0), time(60.0), time(10.0)];
        if random.unit() < 0.5 {
            let target = random.below(self.target.len());
            self.target[target] = lengths[0];
        }
        if random.unit() < 0.02 {
            self.pool[random.below(SERVICES)] = lengths[1];
        }
        if random.unit() < 0.01 {
            self.region[random.below(3)] = lengths[2];
        }
        if random.unit() < 0.002 {
            self.all = lengths[3];
        }
    }

    fn passes(&self, target: usize, now: u64, random: &mut Random) -> bool {
        let (pool, region) = (target / (3 * EACH), target % (3 * EACH) / EACH);
        let broken = [self.target[target], self.pool[pool], self.region[region], self.all];
        broken.iter().all(|&until| until <= now) && random.unit() >= 0.002
    }
}

/// The last outcomes of a target, the newest in front: whether it passed.
#[derive(Clone, Default)]
struct History(VecDeque<bool>);

impl History {
    fn push(&mut self, passed: bool) {
        self.0.push_front(passed);
        self.0.truncate(20);
    }

    /// Three failures in a row, or six of the last twenty.
    fn may_be_down(&self) -> bool {
        self.0.iter().take(3).filter(|passed| !**passed).count() == 3
            || self.0.iter().filter(|passed| !**passed).count() >= 6
    }

    fn may_be_up(&self) -> bool {
        self.0.iter().take(3).all(|passed| *passed)
    }
}

/// What the operator said, newest last: what it is about, what, and until when.
#[derive(Default)]
struct Orders(Vec<(String, Action, u64)>);

impl Orders {
    /// What the newest order in force says of something; within a level it wins.
    fn of(&self, target: &str, now: u64) -> Action {
        let newest = self.0.iter().rev().find(|(about, _, until)| about == target && now < *until);
        newest.map_or(Action::Enable, |(_, action, _)| *action)
    }

    /// An instance's order and that of its region.
    fn about(&self, target: usize, now: u64) -> [Action; 2] {
        let (pool, number) = (target / (3 * EACH), target % (3 * EACH));
        [format!("instance/p{pool}/i{number}"), format!("region/{}", REGIONS[number / EACH])]
            .map(|name| self.of(&name, now))
    }

    fn removes(&self, target: usize, now: u64) -> bool {
        self.about(target, now).iter().any(|action| matches!(action, Action::Drain | Action::ForceDown))
    }

    fn forces_up(&self, target: usize, now: u64) -> bool {
        !self.removes(target, now) && self.about(target, now).contains(&Action::ForceUp)
    }
}

struct Simulation {
    state: State,
    /// Where overrides are kept.
    _folder: tempfile::TempDir,
    orders: Orders,
    published: Published,
    worker: Worker,
    now: u64,
    histories: Vec<History>,
    /// By target, as published.
    eligible: Vec<bool>,
    /// By target: whether the operator had it in or out when it was looked at last.
    ordered: Vec<bool>,
    changes: u32,
    failing_open: [bool; SERVICES],
    opened: u32,
    ordered_count: u32,
}

impl Simulation {
    fn new() -> Simulation {
        let folder = tempfile::tempdir().expect("a folder");
        let zone = "@ 60 IN SOA ns hm 1 1 1 1 1\n@ 60 IN NS ns\nns 60 IN A 192.0.2.53\n";
        std::fs::write(folder.path().join("zone"), zone).expect("written");
        std::fs::write(folder.path().join("waymark.toml"), configuration()).expect("written");
        let loaded = waymark::config::load(&folder.path().join("waymark.toml"));
        let world = World::compile(loaded.configuration.expect("it loads"));
        let targets = world.fleet().targets.len();
        assert_eq!(targets, SERVICES * 3 * EACH);
        let published: Published = Arc::new(ArcSwap::default());
        let (sink, _) = mpsc::channel(1);
        // It probes nothing: reports are made here.
        let prober = Prober::start(&[], &[], Settings::default(), sink);
        let state = State::new(Arc::new(world), Arc::clone(&published), prober, Tick(0));
        let mut state = state;
        state.keep_overrides(Store::new(folder.path()), Tick(0));
        Simulation {
            state,
            _folder: folder,
            orders: Orders::default(),
            published,
            worker: Worker::new(&Arc::default(), 1),
            now: 0,
            histories: vec![History::default(); targets],
            eligible: vec![false; targets],
            ordered: vec![false; targets],
            changes: 0,
            failing_open: [false; SERVICES],
            opened: 0,
            ordered_count: 0,
        }
    }

    /// Everything that is due before `until`.
    fn pass_time(&mut self, until: u64) {
        loop {
            let now = Tick(self.now);
            let timers = [self.state.judging_due(now), self.state.grace_left(now), self.state.overrides_due(now)];
            let Some(due) = timers.iter().flatten().min().map(|left| self.now + left.as_millis() as u64) else { break };
            if due > until {
                break;
            }
            self.now = due;
            self.state.take_due(Tick(due));
            self.state.end_overrides(Tick(due));
            if self.state.grace_left(Tick(due)).is_some_and(|left| left.is_zero()) {
                self.state.end_grace();
            }
            self.publish();
        }
        self.now = until;
    }

    /// Probes a target; when to probe it next.
    fn probe(&mut self, target: usize, passes: bool) -> u64 {
        self.histories[target].push(passes);
        let (report, mut next) = Report::new(&observation(target as u32, passes));
        self.state.report(report, Tick(self.now));
        self.publish();
        self.now + next.try_recv().expect("an answer").as_millis() as u64
    }

    fn publish(&mut self) {
        if self.state.is_dirty() {
            self.state.publish(Tick(self.now));
            self.verdicts_have_evidence();
        }
    }

    /// Nothing leaves or comes back without `fall`, `window` or `rise`; a first pass is enough the first time.
    fn verdicts_have_evidence(&mut self) {
        let snapshot = self.published.load_full();
        let mut now = vec![false; self.eligible.len()];
        for service in 0..SERVICES {
            for group in 0..3 {
                let selection = snapshot.standings.get(LayoutId(service as u32)).get(group, Family::V4);
                for entry in selection.expect("IPv4").eligible.entries.iter() {
                    now[entry.instance.0 as usize] = true;
                }
            }
        }
        for (target, history) in self.histories.iter().enumerate() {
            let at = self.now;
            let (removed, forced) = (self.orders.removes(target, at), self.orders.forces_up(target, at));
            assert!(!removed || !now[target], "{target} is drained, and there at {at}");
            assert!(!forced || now[target], "{target} is forced up, and not there at {at}");
            if removed || forced || std::mem::replace(&mut self.ordered[target], removed || forced) {
                self.ordered[target] = removed || forced;
                continue;
            }
            match (self.eligible[target], now[target]) {
                (true, false) => assert!(history.may_be_down(), "{target} left at {at}: {:?}", history.0),
                (false, true) => assert!(history.may_be_up(), "{target} came at {at}: {:?}", history.0),
                _ => continue,
            }
            self.changes += 1;
        }
        self.eligible = now;
    }

    /// An answer holds eligible instances, as long as there is one; what a client is told is told.
    fn answers_are_right(&mut self, random: &mut Random) {
        let service = random.below(SERVICES);
        let client = format!("20.{}.{}.0/24", random.below(256), random.below(256));
        let ask = Ask::new(&format!("s{service}.example.com"), 1).subnet(&client);
        let snapshot = self.published.load_full();
        self.worker.adopt(&snapshot);
        let mut out = [0; 512];
        let source = IpAddr::from([127, 0, 0, 1]);
        let length = respond(&snapshot, &mut self.worker, &ask.encode(), source, Transport::Udp, &mut out).length();
        let message = hickory_proto::op::Message::from_vec(&out[..length]).expect("a message");
        let some_allowed = self.some_allowed(service);
        if !some_allowed {
            assert!(message.answers.is_empty(), "s{service} is drained as a whole at {}", self.now);
            return;
        }
        let Some(IpAddr::V4(address)) = message.answers.first().and_then(|record| record.data.ip_addr()) else {
            panic!("no address for s{service} at {}", self.now);
        };
        let [.., pool, number] = address.octets();
        assert_eq!(usize::from(pool), service);
        let of_service = &self.eligible[service * 3 * EACH..][..3 * EACH];
        let some = of_service.contains(&true);
        assert!(!some || of_service[usize::from(number)], "s{service} got {address} at {}: {of_service:?}", self.now);
    }

    /// Whether the operator leaves some instance of a service in.
    fn some_allowed(&self, service: usize) -> bool {
        (service * 3 * EACH..(service + 1) * 3 * EACH).any(|target| !self.orders.removes(target, self.now))
    }

    /// An order for an instance or a region, for at most two hours.
    async fn order(&mut self, random: &mut Random) {
        let target = match random.below(4) {
            0 => format!("region/{}", REGIONS[random.below(3)]),
            _ => format!("instance/p{}/i{}", random.below(SERVICES), random.below(3 * EACH)),
        };
        let action = [Action::Drain, Action::ForceDown, Action::ForceUp, Action::Enable][random.below(4)];
        let lasts = Duration::from_secs(60 + random.below(7200) as u64);
        let wish = Wish { target: target.clone(), action, who: "sim".into(), why: String::new(), lasts: Some(lasts) };
        let (reply, answer) = oneshot::channel();
        let order = Order { what: What::Set(wish), force: random.below(4) == 0, reply };
        let now = Tick(self.now);
        self.state.apply(Change::Override(Box::new(order)), now);
        while self.state.is_saving() {
            let written = self.state.written().await;
            // Of what the answer says only a refusal matters, and that came without writing.
            self.orders.0.push((target.clone(), action, self.now + lasts.as_millis() as u64));
            self.state.end_saving(written, now);
        }
        self.publish();
        self.ordered_count += u32::from(answer.await.expect("an answer").is_ok());
    }

    fn status(&mut self) -> Status {
        let (reply, mut answer) = oneshot::channel();
        self.state.apply(Change::Status(reply), Tick(self.now));
        answer.try_recv().expect("a status")
    }

    /// Raised when nothing is eligible, cleared when something is.
    fn failing_open_is_told(&mut self) {
        let status = self.status();
        for (service, told) in status.services.iter().enumerate() {
            let some = self.eligible[service * 3 * EACH..][..3 * EACH].contains(&true);
            let fails_open = !told.failing_open.is_empty();
            let expected = !some && self.some_allowed(service);
            assert_eq!(fails_open, expected, "{} at {}", told.name, self.now);
            self.opened += u32::from(fails_open && !self.failing_open[service]);
            self.failing_open[service] = fails_open;
        }
    }
}

#[tokio::test]
async fn a_day_of_everything() {
    let (mut simulation, mut random) = (Simulation::new(), Random::new(11));
    let targets = simulation.histories.len();
    let mut faults = Faults { target: vec![0; targets], pool: [0; SERVICES], region: [0; 3], all: 0 };
    let mut schedule: BinaryHeap<Reverse<(u64, usize)>> =
        (0..targets).map(|target| Reverse((random.below(1000) as u64, target))).collect();
    let mut minute = 0;
    while let Some(Reverse((at, target))) = schedule.pop().filter(|Reverse((at, _))| *at < DAY) {
        simulation.pass_time(at);
        while minute < at / MINUTE {
            minute += 1;
            faults.breed(at, &mut random);
            if minute > 3 {
                simulation.failing_open_is_told();
            }
            if minute % 10 == 0 {
                simulation.order(&mut random).await;
            }
        }
        let passes = faults.passes(target, at, &mut random);
        let next = simulation.probe(target, passes);
        let jittered = at + ((next - at) as f64 * (0.9 + 0.2 * random.unit())) as u64;
        schedule.push(Reverse((jittered, target)));
        if minute > 3 {
            simulation.answers_are_right(&mut random);
        }
    }
    let Simulation { changes, opened, ordered_count, .. } = simulation;
    assert!(changes > 500 && opened > 5 && ordered_count > 80, "{changes} {opened} {ordered_count}");
}
