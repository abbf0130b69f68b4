//! Nodes that are cut off, again and again, at any moment: what is up stays up, what is dead goes down, and blindness is
//! noticed and ends. Probes are simulated, time is an argument, every history has a seed.

use arc_swap::ArcSwap;
use tokio::sync::mpsc;

use super::tests::world;
use super::*;
use crate::control::{Order, What, Wish};
use crate::health::Observation;
use crate::probe;

const CONFIG: &str = r#"
        [server]
        canaries = ["world"]
        [zones."example.com"]
        file = "zone"
        [regions.a]
        [regions.b]
        [defaults.check]
        interval = "1s"
        timeout = "500ms"
        fall = 2
        rise = 2
        hold-down = "30s"
        [checks.world]
        type = "tcp"
        port = 443
        interval = "2s"
        address = ["198.51.100.1", "198.51.100.2", "2001:db8:ffff::1"]
        [checks.tcp]
        type = "tcp"
        port = 80
        [pools.one]
        check = "tcp"
        [pools.one.instances]
        a1 = { region = "a", address = ["192.0.2.1", "2001:db8::1"] }
        a2 = { region = "a", address = ["192.0.2.2", "2001:db8::2"] }
        b1 = { region = "b", address = ["192.0.2.3", "2001:db8::3"] }
        b2 = { region = "b", address = "192.0.2.4" }
        b3 = { region = "b", address = "192.0.2.5" }
        [services."one.example.com"]
        pool = "one"
        steer = "any"
    "#;

/// How long a probe takes that passes or is refused, milliseconds.
const QUICK: u64 = 5;
/// As configured, milliseconds.
const TIMEOUT: u64 = 500;

/// A state whose probes are played.
struct Play {
    state: State,
    now: u64,
    random: u64,
    /// By target: when its running probe began, when it ends, and whether it was cut off.
    probes: Vec<(u64, u64, bool)>,
    /// Families that are cut off.
    cut: [bool; 2],
    /// Whether probes that are cut off find no route, rather than run out of time.
    routeless: bool,
    dead: BTreeSet<u32>,
    /// Fails one time in three.
    flaky: Option<u32>,
    /// Probes that have ended.
    ended: u64,
    /// Turns: (when, target, verdict).
    turns: Vec<(u64, u32, Verdict)>,
}

impl Play {
    fn new(config: &str, seed: u64) -> Play {
        let (sink, _) = mpsc::channel(1);
        let prober = Prober::start(&[], &[], probe::Settings::default(), sink);
        let published: Published = Arc::new(ArcSwap::default());
        let state = State::new(Arc::new(world(config)), published, prober, Tick(0));
        let count = state.machines.len();
        let mut play = Play {
            state,
            now: 0,
            random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            probes: Vec::new(),
            cut: [false; 2],
            routeless: false,
            dead: BTreeSet::new(),
            flaky: None,
            ended: 0,
            turns: Vec::new(),
        };
        for target in 0..count as u32 {
            let start = play.below(1000);
            play.probes.push((0, 0, false));
            play.begin(target, start);
        }
        play
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % limit
    }

    fn family(&self, target: u32) -> Family {
        Family::of(self.state.world.fleet().target(TargetId(target)).address)
    }

    fn begin(&mut self, target: u32, start: u64) {
        self.probes[target as usize] = (start, start + QUICK, false);
    }

    /// Runs so many milliseconds.
    fn run(&mut self, time: u64) {
        let until = self.now + time;
        while self.now < until {
            self.now += 1;
            for target in 0..self.probes.len() as u32 {
                let (start, end, was_cut) = self.probes[target as usize];
                let is_cut = self.cut[self.family(target) as usize];
                if is_cut && !was_cut && (start..end).contains(&self.now) {
                    let end = if self.routeless { end } else { start + TIMEOUT };
                    self.probes[target as usize] = (start, end, true);
                } else if self.now == end {
                    self.end(target, start, was_cut);
                }
            }
        }
    }

    fn end(&mut self, target: u32, start: u64, was_cut: bool) {
        self.ended += u64::from(self.flaky == Some(target));
        let outcome = match () {
            () if self.flaky == Some(target) && self.ended.is_multiple_of(3) => Outcome::Fail,
            () if was_cut && self.routeless => Outcome::NoVerdict,
            () if was_cut || self.dead.contains(&target) => Outcome::Fail,
            () => Outcome::Pass,
        };
        let took = Duration::from_millis(self.now - start);
        let observation = Observation { target: TargetId(target), outcome, reason: "x".into(), took };
        let before = self.state.verdicts.clone();
        let (report, mut pace) = Report::new(&observation);
        self.state.report(report, Tick(self.now));
        for (at, (before, after)) in before.iter().zip(&self.state.verdicts).enumerate() {
            if before != after {
                self.turns.push((self.now, at as u32, *after));
            }
        }
        if self.state.is_dirty() {
            self.state.publish(Tick(self.now));
        }
        let pace = pace.try_recv().expect("a pace").as_millis() as u64;
        let next = start + pace * (900 + self.below(200)) / 1000;
        self.begin(target, next.max(self.now + 10));
    }

    /// Targets of instances: canaries have numbers behind theirs.
    fn used(&self) -> impl Iterator<Item = u32> + use<> {
        0..(self.state.machines.len() - self.state.world.fleet().canaries.len()) as u32
    }

    fn falls(&self) -> Vec<(u64, u32, Verdict)> {
        let used = self.used().count() as u32;
        self.turns.iter().copied().filter(|&(_, target, verdict)| target < used && verdict == Verdict::Down).collect()
    }

    fn is_blind(&self) -> [bool; 2] {
        self.state.sight.frozen()
    }
}

#[tokio::test]
async fn cuts_of_any_length_take_nothing_down() {
    for seed in 1..=60 {
        let mut play = Play::new(CONFIG, seed);
        play.run(3000);
        assert!(play.used().all(|target| play.state.verdicts[target as usize] == Verdict::Up), "seed {seed}");
        for round in 0..12 {
            play.cut = [[true, true], [false, true], [true, false]][play.below(3) as usize];
            play.routeless = play.below(4) == 0;
            let length = [200, 1000, 3000, 12_000][play.below(4) as usize];
            let length = length / 2 + play.below(length);
            play.run(length);
            if length > 5000 {
                assert_eq!(play.is_blind(), play.cut, "seed {seed}, round {round}: {length} ms");
                assert_eq!(play.state.published.load().blind, play.cut, "answers say so");
            }
            play.cut = [false; 2];
            // Long enough that every target is probed between two cuts.
            let pause = 1300 + play.below(8000);
            play.run(pause);
            assert_eq!(play.falls(), [], "seed {seed}, round {round}: {length} ms");
            if pause > 3000 {
                assert_eq!(play.is_blind(), [false; 2], "seed {seed}, round {round}");
            }
        }
    }
}

#[tokio::test]
async fn what_dies_goes_down_while_the_world_is_seen_and_after_it_was_not() {
    let mut longest = 0;
    for seed in 1..=150 {
        let mut play = Play::new(CONFIG, seed);
        let random = 3000 + play.below(2000);
        play.run(random);
        let first = play.below(play.used().count() as u64) as u32;
        play.dead.insert(first);
        let died = play.now;
        play.run(5000);
        let falls = play.falls();
        assert_eq!(falls.iter().map(|fall| fall.1).collect::<Vec<_>>(), [first], "seed {seed}");
        longest = longest.max(falls[0].0 - died);
        play.cut = [true; 2];
        play.run(6000);
        let second = (first + 1) % play.used().count() as u32;
        play.dead.insert(second);
        play.dead.remove(&first);
        play.run(4000);
        assert_eq!(play.falls().len(), 1, "seed {seed}");
        assert_eq!(play.state.verdicts[first as usize], Verdict::Down, "seed {seed}");
        play.cut = [false; 2];
        play.run(8000);
        assert_eq!(play.state.verdicts[second as usize], Verdict::Down, "seed {seed}");
        assert_eq!(play.state.verdicts[first as usize], Verdict::Up, "seed {seed}");
        assert_eq!(play.falls().len(), 2, "seed {seed}");
    }
    // Two failures take 1.7 s; a canary's interval and one further failure at most come on top.
    assert!(longest < 4500, "{longest} ms");
}

impl Play {
    fn reload(&mut self, config: &str) {
        let next = Succession::new(Arc::new(world(config)), &self.state.world);
        self.state.reload(next, Tick(self.now));
        self.probes.truncate(self.state.machines.len());
    }

    async fn order(&mut self, what: What) {
        let (reply, answer) = tokio::sync::oneshot::channel();
        self.state.apply(Change::Override(Box::new(Order { what, force: true, reply })), Tick(self.now));
        let written = self.state.written().await;
        self.state.end_saving(written, Tick(self.now));
        if self.state.is_dirty() {
            self.state.publish(Tick(self.now));
        }
        answer.await.expect("an answer").expect("no refusal");
    }

    fn all_are(&self, verdict: Verdict) -> bool {
        self.used().all(|target| self.state.verdicts[target as usize] == verdict)
    }
}

#[tokio::test]
async fn a_reload_does_not_open_the_eyes() {
    let mut play = Play::new(CONFIG, 1);
    play.run(3000);
    play.cut = [true; 2];
    play.run(6000);
    assert_eq!(play.is_blind(), [true; 2]);
    for config in [CONFIG.replace("rise = 2", "rise = 3"), CONFIG.replace("port = 80", "port = 81"), CONFIG.into()] {
        play.reload(&config);
        play.run(6000);
        assert_eq!((play.is_blind(), play.all_are(Verdict::Up)), ([true; 2], true));
    }
    play.cut = [false; 2];
    play.run(6000);
    assert_eq!((play.is_blind(), play.falls()), ([false; 2], Vec::new()));

    // Without canaries nobody knows.
    play.cut = [true; 2];
    play.run(6000);
    play.reload(&CONFIG.replace("canaries = [\"world\"]", ""));
    assert_eq!((play.is_blind(), play.all_are(Verdict::Up)), ([false; 2], true));
    play.run(6000);
    assert!(play.all_are(Verdict::Down));
}

#[tokio::test]
async fn the_end_of_an_operators_freeze_changes_nothing_while_nothing_is_seen() {
    let mut play = Play::new(CONFIG, 2);
    play.run(3000);
    let target = || "instance/one/a1".to_string();
    let action = "freeze".parse().expect("an action");
    let wish = Wish { target: target(), action, who: "alice".into(), why: String::new(), lasts: None };
    play.order(What::Set(wish)).await;
    play.cut = [true; 2];
    play.run(6000);
    play.order(What::Resume { target: target(), who: "bob".into() }).await;
    assert!(play.all_are(Verdict::Up));
    play.run(3000);
    play.cut = [false; 2];
    play.run(6000);
    assert_eq!((play.is_blind(), play.falls()), ([false; 2], Vec::new()));
}

#[tokio::test]
async fn a_node_that_starts_blind_knows_nothing_until_it_sees() {
    let mut play = Play::new(CONFIG, 3);
    play.cut = [true; 2];
    play.run(9000);
    assert_eq!((play.is_blind(), play.all_are(Verdict::Unknown)), ([true; 2], true));
    assert!(*play.state.settled().borrow());
    play.cut = [false; 2];
    play.run(6000);
    assert_eq!((play.is_blind(), play.all_are(Verdict::Up)), ([false; 2], true));
}

#[tokio::test]
async fn a_family_without_canaries_goes_by_those_of_the_other() {
    let config = CONFIG.replace(", \"2001:db8:ffff::1\"]", "]");
    assert_ne!(config, CONFIG);
    let mut play = Play::new(&config, 4);
    play.run(3000);
    play.cut = [true; 2];
    play.run(6000);
    assert_eq!((play.is_blind(), play.all_are(Verdict::Up)), ([true; 2], true));
    play.cut = [false, true];
    play.run(8000);
    assert_eq!(play.is_blind(), [false; 2], "canaries pass: what fails over IPv6 has failed");
    assert_eq!(play.falls().len(), 3);
}

#[tokio::test]
async fn one_failure_in_three_takes_an_instance_out() {
    for seed in 1..=20 {
        let mut play = Play::new(CONFIG, seed);
        play.run(3000);
        play.flaky = Some(2);
        play.run(25_000);
        let fell: Vec<u32> = play.falls().iter().map(|fall| fall.1).collect();
        assert_eq!(fell.first(), Some(&2), "seed {seed}");
        assert!(fell.iter().all(|&target| target == 2), "seed {seed}");
    }
}

/// Canaries pass: it is the targets, or their check, and that is not believed at once either.
#[tokio::test]
async fn what_fails_while_canaries_pass_goes_down() {
    let mut play = Play::new(CONFIG, 5);
    play.run(3000);
    play.dead.extend(play.used());
    play.run(9000);
    play.state.take_due(Tick(play.now));
    assert_eq!((play.is_blind(), play.all_are(Verdict::Down)), ([false; 2], true));
}

#[tokio::test]
async fn status_journal_and_pace_say_so() {
    let mut play = Play::new(CONFIG, 6);
    play.run(3000);
    let status = play.state.status(Tick(play.now));
    assert!(status.blind.is_empty() && status.canaries.iter().all(|canary| canary.passes));
    play.cut = [true; 2];
    play.run(6000);
    let status = play.state.status(Tick(play.now));
    let shown: Vec<_> = status.blind.iter().map(|blind| (&*blind.family, blind.failing, blind.targets)).collect();
    assert_eq!(shown, [("ipv4", 5, 5), ("ipv6", 3, 3)]);
    let names: Vec<&str> = status.canaries.iter().map(|canary| &*canary.target).collect();
    assert_eq!(names, ["198.51.100.1:443", "198.51.100.2:443", "[2001:db8:ffff::1]:443"]);
    assert!(status.canaries.iter().all(|canary| !canary.passes && canary.check == "world"));
    for &canary in &play.state.world.fleet().canaries {
        assert!(play.state.sight.is_urgent(canary));
        assert_eq!(status::describe_target(&play.state.world, canary).split(' ').next(), Some("canary"));
    }
}
