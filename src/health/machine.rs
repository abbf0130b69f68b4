//! The health of one target as a state machine: observations in, verdicts out (SPEC 2.1, 2.2, 2.5).
//!
//! ```text
//!                     first pass
//!        ┌─────────────────────────────────────┐
//!        │                                     ▼
//!   ┌─────────┐                             ┌──────┐ ◄─┐ pass: the run of failures ends
//!   │ unknown │ ◄─┐ fewer than `fall`       │  up  │   │ fewer failures than `fall` and `window` ask for
//!   └─────────┘ ──┘ failures                └──────┘ ──┘
//!        │                                   │    ▲
//!        │ `fall` failures    `fall` in a row│    │`rise` passes in a row,
//!        │ in a row           or `window`    ▼    │and the hold-down is over or lifted
//!        │                                  ┌──────┐ ◄─┐ failure: the run of passes ends
//!        └────────────────────────────────► │ down │   │ passes while held down
//!                                           └──────┘ ──┘
//! ```
//!
//! No-verdict changes neither the verdict nor a counter; it marks the verdict stale until the next pass or failure.
//! Every change of verdict begins the counters and the window anew. A pass never takes a target down, a failure never
//! brings one up.
//!
//! Hold-down: the n-th time a target goes down within ten minutes, it stays down at least `hold-down` × n, at most five
//! minutes; the first time it is not held at all. A time down counts until ten minutes after its end, so that one that
//! lasted is not forgotten just when it is over. With 30 s, whatever flaps changes at most three times in its first
//! minute (down, up, down) and twice in any later one:
//!
//! ```text
//!   up ──┐   ┌─┐                    ┌─┐                              ┌─┐
//!   down └───┘ └────────────────────┘ └──────────────────────────────┘ └──── …
//!         n=1    n=2: 60 s at least      n=3: 90 s at least
//! ```
//! That a hold must not keep a region from being available is for the owner to see, who knows regions: it asks
//! [`Machine::held`] and calls [`Machine::release_hold`].
//!
//! Left to others: overrides and freezing (`control`), several addresses and checks of an instance (`group`).

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::health::{Observation, Outcome, Policy, Verdict};
use crate::time::Tick;

/// How long after its end a time down counts towards the hold-down.
const DOWNS_COUNT_FOR: Duration = Duration::from_secs(10 * 60);
/// The longest hold-down.
const LONGEST_HOLD: Duration = Duration::from_secs(5 * 60);
/// Most times down that are remembered; further ones within ten minutes are held no longer than this many.
const MOST_DOWNS: usize = 64;

/// The health of one target.
#[derive(Clone, Debug, Default)]
pub struct Machine {
    verdict: Verdict,
    since: Tick,
    failures: u32,
    /// When the first of the running failures was reported.
    failing_since: Tick,
    passes: u32,
    window: Window,
    /// Times down: when each ended, or began where it has not.
    downs: VecDeque<Tick>,
    held_until: Tick,
    last: Option<Last>,
    stale: bool,
}

/// The last observation of a target, for display.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Last {
    /// Pass, fail or no verdict.
    pub outcome: Outcome,
    /// In words.
    pub reason: Arc<str>,
    /// How long the probe took.
    pub took: Duration,
    /// When it was reported.
    pub at: Tick,
}

/// What of a target's health outlives the process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// The verdict.
    pub verdict: Verdict,
    /// When it began.
    pub since: Tick,
    /// Times down that ended in the last ten minutes: when each did, or began where it has not.
    pub downs: Vec<Tick>,
    /// Until when it stays down whatever probes see.
    pub held_until: Tick,
}

/// A change of verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transition {
    /// The verdict so far.
    pub from: Verdict,
    /// The verdict from now on.
    pub to: Verdict,
    /// What the deciding probe saw, in words.
    pub reason: Arc<str>,
    /// Which rule decided.
    pub evidence: Evidence,
}

/// The rule by which a verdict changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// A target never seen up before passed.
    FirstPass,
    /// `fall` failures in a row.
    Fall,
    /// Too many failures among the last observations.
    Window,
    /// `rise` passes in a row.
    Rise,
}

impl Machine {
    /// A target that was never observed.
    #[must_use]
    pub fn new(now: Tick) -> Machine {
        Machine { since: now, ..Machine::default() }
    }

    /// A target whose health is known from an earlier process; it takes `fall` or `rise` to leave its verdict.
    #[must_use]
    pub fn restored(memory: Memory, now: Tick) -> Machine {
        let Memory { verdict, since, mut downs, held_until } = memory;
        let downs = downs.split_off(downs.len().saturating_sub(MOST_DOWNS)).into();
        Machine { verdict, since, downs, held_until: held_until.min(now.plus(LONGEST_HOLD)), ..Machine::default() }
    }

    /// What of it outlives the process.
    #[must_use]
    pub fn memory(&self, now: Tick) -> Memory {
        let downs = self.downs.iter().copied().filter(|&down| counts(down, now)).collect();
        Memory { verdict: self.verdict, since: self.since, downs, held_until: self.held_until }
    }

    /// This target after its check was edited: the verdict stays, the evidence for another begins anew.
    #[must_use]
    pub fn adopt(mut self) -> Machine {
        self.begin_anew();
        self
    }

    /// This target as it was, but for what is shown of the last observation: what was seen since counts for nothing.
    #[must_use]
    pub fn reverted(&self, before: Memory, now: Tick) -> Machine {
        Machine { last: self.last.clone(), stale: self.stale, ..Machine::restored(before, now) }
    }

    /// Takes in what a probe saw; `now` is when it was reported.
    pub fn observe(&mut self, policy: &Policy, now: Tick, observation: &Observation) -> Option<Transition> {
        let Observation { outcome, ref reason, took, .. } = *observation;
        self.last = Some(Last { outcome, reason: Arc::clone(reason), took, at: now });
        self.stale = outcome == Outcome::NoVerdict;
        match outcome {
            Outcome::NoVerdict => None,
            Outcome::Pass => self.pass(policy, now),
            Outcome::Fail => self.fail(policy, now),
        }
    }

    /// Time until the next probe: `fast-interval` while an up or unknown target has a running failure.
    #[must_use]
    pub fn pace(&self, policy: &Policy) -> Duration {
        if self.verdict != Verdict::Down && self.failures > 0 { policy.fast_interval } else { policy.interval }
    }

    /// How long it takes at least until observations can change the verdict; `None` while nothing speaks against it.
    #[must_use]
    pub fn steady_for(&self, policy: &Policy, now: Tick) -> Option<Duration> {
        let (needed, with_nothing_seen) = match self.verdict {
            Verdict::Unknown => return Some(self.pace(policy)),
            Verdict::Up => {
                let within = self.window.short_of(policy.window).min(policy.fall.saturating_sub(self.failures));
                (within, Window::default().short_of(policy.window).min(policy.fall))
            }
            Verdict::Down => (policy.rise.saturating_sub(self.passes), policy.rise),
        };
        if needed >= with_nothing_seen {
            return None;
        }
        // After the first failure an up target is probed at `fast_interval`.
        let then = if self.verdict == Verdict::Up { policy.fast_interval } else { policy.interval };
        let seen = self.pace(policy) + then * needed.saturating_sub(1);
        let held = if self.verdict == Verdict::Down { self.held_until.since(now) } else { Duration::ZERO };
        Some(seen.max(held))
    }

    /// Whether nothing but the hold-down keeps it from being up.
    #[must_use]
    pub fn held(&self, policy: &Policy) -> bool {
        self.verdict == Verdict::Down && self.passes >= policy.rise
    }

    /// Until when it stays down whatever probes see; `None` when it is not down. May lie in the past.
    #[must_use]
    pub fn held_until(&self) -> Option<Tick> {
        (self.verdict == Verdict::Down).then_some(self.held_until)
    }

    /// Lifts the hold-down of this time down; a target that was only held is up at once.
    pub fn release_hold(&mut self, policy: &Policy, now: Tick) -> Option<Transition> {
        self.held_until = self.held_until.min(now);
        if self.held(policy) { self.change(Verdict::Up, Evidence::Rise, now) } else { None }
    }

    /// What checks say.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// When the verdict began.
    #[must_use]
    pub fn since(&self) -> Tick {
        self.since
    }

    /// The last observation.
    #[must_use]
    pub fn last(&self) -> Option<&Last> {
        self.last.as_ref()
    }

    /// Whether any probe has ended, no-verdict included.
    #[must_use]
    pub fn observed(&self) -> bool {
        self.last.is_some()
    }

    /// Whether the last probe could not say anything about the target.
    #[must_use]
    pub fn stale(&self) -> bool {
        self.stale
    }

    /// Failures in a row since the last pass or change of verdict.
    #[must_use]
    pub fn running_failures(&self) -> u32 {
        self.failures
    }

    /// When the last run of failures began, be it the one that took it down; of no meaning where there never was one.
    #[must_use]
    pub fn failing_since(&self) -> Tick {
        self.failing_since
    }

    /// Passes in a row since the last failure or change of verdict.
    #[must_use]
    pub fn running_passes(&self) -> u32 {
        self.passes
    }

    /// How many of its times down ended in the last ten minutes, or have not.
    #[must_use]
    pub fn times_down(&self, now: Tick) -> usize {
        self.downs.iter().filter(|&&down| counts(down, now)).count()
    }

    fn pass(&mut self, policy: &Policy, now: Tick) -> Option<Transition> {
        self.failures = 0;
        self.passes = self.passes.saturating_add(1);
        self.window.push(false);
        match self.verdict {
            Verdict::Up => None,
            Verdict::Unknown => self.change(Verdict::Up, Evidence::FirstPass, now),
            Verdict::Down if self.passes < policy.rise || now < self.held_until => None,
            Verdict::Down => self.change(Verdict::Up, Evidence::Rise, now),
        }
    }

    fn fail(&mut self, policy: &Policy, now: Tick) -> Option<Transition> {
        self.passes = 0;
        if self.failures == 0 && self.verdict != Verdict::Down {
            self.failing_since = now;
        }
        self.failures = self.failures.saturating_add(1);
        self.window.push(true);
        let fallen = self.failures >= policy.fall;
        match self.verdict {
            Verdict::Up if fallen => self.go_down(policy, Evidence::Fall, now),
            Verdict::Up if self.window.exceeds(policy.window) => self.go_down(policy, Evidence::Window, now),
            Verdict::Unknown if fallen => self.go_down(policy, Evidence::Fall, now),
            Verdict::Up | Verdict::Unknown | Verdict::Down => None,
        }
    }

    /// It is down from now on, which counts towards the hold-down.
    fn go_down(&mut self, policy: &Policy, evidence: Evidence, now: Tick) -> Option<Transition> {
        self.downs.retain(|&down| counts(down, now));
        if self.downs.len() == MOST_DOWNS {
            self.downs.pop_front();
        }
        self.downs.push_back(now);
        self.held_until = now.plus(hold(policy, self.downs.len()));
        self.change(Verdict::Down, evidence, now)
    }

    fn change(&mut self, to: Verdict, evidence: Evidence, now: Tick) -> Option<Transition> {
        let from = std::mem::replace(&mut self.verdict, to);
        if let Some(ended) = self.downs.back_mut().filter(|_| from == Verdict::Down) {
            *ended = now;
        }
        self.since = now;
        self.begin_anew();
        let reason = self.last.as_ref().map_or_else(|| Arc::from(""), |last| Arc::clone(&last.reason));
        Some(Transition { from, to, reason, evidence })
    }

    fn begin_anew(&mut self) {
        self.failures = 0;
        self.passes = 0;
        self.window = Window::default();
    }
}

/// How long a target is held that is down for the n-th time within ten minutes, `times` being n.
fn hold(policy: &Policy, times: usize) -> Duration {
    let times = u32::try_from(times).unwrap_or(u32::MAX);
    if times < 2 { Duration::ZERO } else { policy.hold_down.saturating_mul(times).min(LONGEST_HOLD) }
}

/// Whether a time down counts at `now`.
fn counts(down: Tick, now: Tick) -> bool {
    now.since(down) < DOWNS_COUNT_FOR
}

/// The last 64 outcomes, the newest in the lowest bit, 1 = failure.
#[derive(Clone, Copy, Debug, Default)]
struct Window(u64);

impl Window {
    fn push(&mut self, failed: bool) {
        self.0 = self.0 << 1 | u64::from(failed);
    }

    /// Whether the last `of` outcomes hold at least that many failures; never when the window is off.
    fn exceeds(self, limit: Option<(u32, u32)>) -> bool {
        self.short_of(limit) == 0
    }

    /// How many failures there may be at least until the window is exceeded.
    fn short_of(self, limit: Option<(u32, u32)>) -> u32 {
        let Some((failures, of)) = limit else { return u32::MAX };
        let last = if of < 64 { self.0 & ((1 << of) - 1) } else { self.0 };
        failures.saturating_sub(last.count_ones())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::fleet::TargetId;

    const SECOND: u64 = 1000;

    fn policy() -> Policy {
        Policy {
            interval: Duration::from_secs(5),
            timeout: Duration::from_secs(2),
            fall: 3,
            rise: 2,
            window: Some((6, 20)),
            fast_interval: Duration::from_millis(2500),
            hold_down: Duration::from_secs(30),
        }
    }

    fn observation(outcome: Outcome) -> Observation {
        let reason = match outcome {
            Outcome::Pass => "status 200",
            Outcome::Fail => "connection refused",
            Outcome::NoVerdict => "out of file descriptors",
        };
        Observation { target: TargetId(0), outcome, reason: reason.into(), took: Duration::from_millis(7) }
    }

    fn outcome(letter: char) -> Outcome {
        match letter {
            '+' => Outcome::Pass,
            '-' => Outcome::Fail,
            '?' => Outcome::NoVerdict,
            other => panic!("no outcome {other}"),
        }
    }

    /// Observes one outcome a second; the verdicts after each, as letters.
    fn run(machine: &mut Machine, policy: &Policy, outcomes: &str) -> String {
        let start = machine.last().map_or(0, |last| last.at.0);
        let step = |(second, letter)| {
            machine.observe(policy, Tick(start + (second as u64 + 1) * SECOND), &observation(outcome(letter)));
            letter_of(machine.verdict())
        };
        outcomes.chars().enumerate().map(step).collect()
    }

    fn letter_of(verdict: Verdict) -> char {
        match verdict {
            Verdict::Unknown => 'u',
            Verdict::Up => 'U',
            Verdict::Down => 'D',
        }
    }

    #[test]
    fn what_is_remembered_goes_on() {
        let mut machine = Machine::new(Tick(0));
        run(&mut machine, &policy(), "+---++---");
        let now = Tick(10 * SECOND);
        let memory = machine.memory(now);
        assert_eq!((memory.verdict, memory.since, memory.downs.len()), (Verdict::Down, Tick(9 * SECOND), 2));
        let restored = Machine::restored(memory.clone(), now);
        assert_eq!(restored.memory(now), memory);
        assert_eq!((restored.times_down(now), restored.observed()), (2, false));
        assert_eq!(restored.held_until(), Some(Tick(69 * SECOND)));
        let absurd = Memory { held_until: Tick(u64::MAX), ..memory };
        assert_eq!(Machine::restored(absurd, now).held_until(), Some(now.plus(LONGEST_HOLD)));
    }

    #[test]
    fn verdicts() {
        let rows = [
            // (what, outcomes, verdicts)
            ("first pass", "+", "U"),
            ("first failures wait for fall", "---", "uuD"),
            ("a pass after first failures is still the first", "--+", "uuU"),
            ("fall", "+---", "UUUD"),
            ("a pass ends the run", "+--+--+", "UUUUUUU"),
            ("one lost probe", "+++-+++-+", "UUUUUUUUU"),
            ("rise", "---+-++", "uuDDDDU"),
            ("no-verdict never counts", "???", "uuu"),
            ("no-verdict between failures", "+-?-??-", "UUUUUUD"),
            ("no-verdict between passes", "---+?+", "uuDDDU"),
            ("one in three, sixth of the last 20", "+-++-++-++-++-++-", "UUUUUUUUUUUUUUUUD"),
            ("two failures in three", "+--+--+--", "UUUUUUUUD"),
            ("five in twenty stay", "+-+++-+++-+++-+++-+++-+++-", "UUUUUUUUUUUUUUUUUUUUUUUUUU"),
        ];
        for (what, outcomes, verdicts) in rows {
            assert_eq!(run(&mut Machine::new(Tick(0)), &policy(), outcomes), verdicts, "{what}");
        }
    }

    #[test]
    fn pace_is_fast_only_while_up_or_unknown_has_a_running_failure() {
        let rows = [
            ("", false),
            ("+", false),
            ("-", true),
            ("-?", true),
            ("+-", true),
            ("+-+", false),
            ("---", false),
            ("---+", false),
            ("---+-", false),
            ("---++", false),
            ("?", false),
        ];
        for (outcomes, fast) in rows {
            let mut machine = Machine::new(Tick(0));
            run(&mut machine, &policy(), outcomes);
            let expected = if fast { policy().fast_interval } else { policy().interval };
            assert_eq!(machine.pace(&policy()), expected, "{outcomes}");
        }
    }

    #[test]
    fn a_transition_says_what_decided() {
        let rows = [
            ("+", Evidence::FirstPass, "status 200"),
            ("+---", Evidence::Fall, "connection refused"),
            ("+--+--+--", Evidence::Window, "connection refused"),
            ("---++", Evidence::Rise, "status 200"),
        ];
        for (outcomes, evidence, reason) in rows {
            let mut machine = Machine::new(Tick(0));
            let last = outcomes.len() - 1;
            run(&mut machine, &policy(), &outcomes[..last]);
            let outcome = outcome(outcomes.chars().next_back().unwrap());
            let from = machine.verdict();
            let seen = machine.observe(&policy(), Tick(99 * SECOND), &observation(outcome)).unwrap();
            let expected = Transition { from, to: machine.verdict(), reason: reason.into(), evidence };
            assert_eq!(seen, expected, "{outcomes}");
            assert_eq!(machine.since(), Tick(99 * SECOND));
        }
    }

    #[test]
    fn no_verdict_is_observed_and_stale() {
        let mut machine = Machine::new(Tick(0));
        assert!(!machine.observed() && !machine.stale());
        run(&mut machine, &policy(), "?");
        assert!(machine.observed() && machine.stale());
        run(&mut machine, &policy(), "-");
        assert!(!machine.stale());
        run(&mut machine, &policy(), "?");
        assert!(machine.stale());
        assert_eq!(machine.last().unwrap().reason.as_ref(), "out of file descriptors");
    }

    #[test]
    fn last_good_takes_fall_or_rise_to_leave() {
        let rows = [(Verdict::Up, "--+---", "UUUUUD"), (Verdict::Down, "+-++", "DDDU"), (Verdict::Unknown, "+", "U")];
        for (verdict, outcomes, verdicts) in rows {
            let mut machine = Machine::restored(Memory { verdict, ..Memory::default() }, Tick(0));
            assert!(!machine.observed());
            assert_eq!(run(&mut machine, &policy(), outcomes), verdicts);
        }
    }

    #[test]
    fn an_edited_check_keeps_the_verdict_and_begins_its_evidence_anew() {
        let rows = [("+--", "--", "UU"), ("---+", "+", "D"), ("--", "--", "uu"), ("+--+--+-", "-", "U")];
        for (before, after, verdicts) in rows {
            let mut machine = Machine::new(Tick(0));
            run(&mut machine, &policy(), before);
            let mut adopted = machine.adopt();
            assert_eq!(run(&mut adopted, &policy(), after), verdicts, "{before} then {after}");
        }
    }

    /// Seconds that a target which passes all probes stays down, for each of its times down.
    fn times_held(policy: &Policy, times: usize, pause: u64) -> Vec<u64> {
        let mut machine = Machine::restored(Memory { verdict: Verdict::Up, ..Memory::default() }, Tick(0));
        let mut now = 0;
        let mut held = Vec::new();
        for _ in 0..times {
            now += pause;
            while machine.verdict() == Verdict::Up {
                machine.observe(policy, Tick(now), &observation(Outcome::Fail));
            }
            let down = now;
            while machine.verdict() == Verdict::Down {
                machine.observe(policy, Tick(now), &observation(Outcome::Pass));
                now += SECOND;
            }
            held.push((now - SECOND - down) / SECOND);
        }
        held
    }

    #[test]
    fn each_time_down_within_ten_minutes_lasts_longer() {
        let of = |seconds| Policy { hold_down: Duration::from_secs(seconds), rise: 1, ..policy() };
        assert_eq!(times_held(&of(30), 5, 0), [0, 60, 90, 120, 150]);
        assert_eq!(times_held(&of(120), 4, 0), [0, 240, 300, 300], "five minutes at most");
        assert_eq!(times_held(&of(30), 3, 600 * SECOND), [0, 0, 0], "ten minutes apart");
        assert_eq!(times_held(&of(300), 3, 590 * SECOND), [0, 300, 300], "ten minutes from end to beginning");
        assert_eq!(times_held(&of(0), 3, 0), [0, 0, 0], "off");
    }

    #[test]
    fn a_target_that_begins_down_was_down_once() {
        let mut machine = Machine::new(Tick(0));
        run(&mut machine, &policy(), "---++---");
        assert_eq!((machine.times_down(Tick(8 * SECOND)), machine.held_until()), (2, Some(Tick(68 * SECOND))));
    }

    #[test]
    fn times_down_are_bounded() {
        let policy = Policy { rise: 1, fall: 1, hold_down: Duration::ZERO, ..policy() };
        let mut machine = Machine::new(Tick(0));
        for _ in 0..1000 {
            machine.observe(&policy, Tick(0), &observation(Outcome::Pass));
            machine.observe(&policy, Tick(0), &observation(Outcome::Fail));
        }
        assert_eq!(machine.times_down(Tick(0)), MOST_DOWNS);
        assert_eq!(machine.times_down(Tick(600 * SECOND)), 0);
    }

    #[test]
    fn a_hold_can_be_lifted() {
        let mut machine = Machine::new(Tick(0));
        run(&mut machine, &policy(), "+---++---");
        assert_eq!(machine.held_until(), Some(Tick(69 * SECOND)));
        assert!(!machine.held(&policy()));
        assert_eq!(machine.clone().release_hold(&policy(), Tick(9 * SECOND)), None, "without evidence it stays down");
        assert_eq!(run(&mut machine, &policy(), "++++"), "DDDD");
        assert!(machine.held(&policy()));
        let lifted = machine.release_hold(&policy(), Tick(13 * SECOND)).unwrap();
        assert_eq!((lifted.from, lifted.to), (Verdict::Down, Verdict::Up));
        assert_eq!(machine.release_hold(&policy(), Tick(13 * SECOND)), None);
        assert_eq!(machine.held_until(), None);
    }

    #[test]
    fn a_hold_lifted_early_ends_with_rise() {
        let mut machine = Machine::new(Tick(0));
        run(&mut machine, &policy(), "+---++---");
        machine.release_hold(&policy(), Tick(9 * SECOND));
        assert_eq!(run(&mut machine, &policy(), "++"), "DU");
    }

    /// The verdict by reading the whole history again, slowly and without any running state but the last change.
    fn oracle(policy: &Policy, history: &[(Tick, Outcome)]) -> Verdict {
        let mut verdict = Verdict::Unknown;
        let mut begin = 0;
        let mut ended: Vec<Tick> = Vec::new();
        let mut free = Tick(0);
        for end in 1..=history.len() {
            let now = history[end - 1].0;
            let real: Vec<Outcome> =
                history[begin..end].iter().map(|&(_, outcome)| outcome).filter(|&o| o != Outcome::NoVerdict).collect();
            if history[end - 1].1 == Outcome::NoVerdict {
                continue;
            }
            let run_of = |wanted| real.iter().rev().take_while(|&&outcome| outcome == wanted).count() as u32;
            let bad = |of: u32| real.iter().rev().take(of as usize).filter(|&&o| o == Outcome::Fail).count() as u32;
            let windowed = policy.window.is_some_and(|(failures, of)| bad(of) >= failures);
            let failed = real.last() == Some(&Outcome::Fail);
            let fallen = run_of(Outcome::Fail) >= policy.fall;
            let next = match verdict {
                Verdict::Unknown if run_of(Outcome::Pass) > 0 => Verdict::Up,
                Verdict::Up | Verdict::Unknown if fallen || (verdict == Verdict::Up && failed && windowed) => {
                    let n = ended.iter().filter(|end| now.0 - end.0 < 600_000).count() as u64 + 1;
                    let hold = if n == 1 { 0 } else { policy.hold_down.as_millis() as u64 * n };
                    free = Tick(now.0 + hold.min(300_000));
                    Verdict::Down
                }
                Verdict::Down if run_of(Outcome::Pass) >= policy.rise && now >= free => {
                    ended.push(now);
                    Verdict::Up
                }
                same => same,
            };
            if next != verdict {
                verdict = next;
                begin = end;
            }
        }
        verdict
    }

    fn policies() -> impl Strategy<Value = Policy> {
        let window = proptest::option::of((1u32..10, 1u32..=64));
        (1u32..5, 1u32..5, window, 0u64..40).prop_map(|(fall, rise, window, hold)| Policy {
            fall,
            rise,
            window,
            hold_down: Duration::from_secs(hold),
            ..policy()
        })
    }

    fn histories() -> impl Strategy<Value = Vec<(Tick, Outcome)>> {
        let outcomes = prop_oneof![
            5 => Just(Outcome::Pass),
            4 => Just(Outcome::Fail),
            1 => Just(Outcome::NoVerdict),
        ];
        proptest::collection::vec((0u64..60_000, outcomes), 0..120).prop_map(|steps| {
            let mut now = 0;
            let at = |(pause, outcome)| {
                now += pause;
                (Tick(now), outcome)
            };
            steps.into_iter().map(at).collect()
        })
    }

    proptest! {
        #[test]
        fn agrees_with_a_reading_of_the_whole_history(policy in policies(), history in histories()) {
            let mut machine = Machine::new(Tick(0));
            for (index, &(now, outcome)) in history.iter().enumerate() {
                let before = machine.verdict();
                let transition = machine.observe(&policy, now, &observation(outcome));
                prop_assert_eq!(machine.verdict(), oracle(&policy, &history[..=index]));
                prop_assert_eq!(transition.is_some(), machine.verdict() != before);
                let allowed = match outcome {
                    Outcome::Pass => [before, Verdict::Up],
                    Outcome::Fail => [before, Verdict::Down],
                    Outcome::NoVerdict => [before, before],
                };
                prop_assert!(allowed.contains(&machine.verdict()), "{outcome:?} led to {:?}", machine.verdict());
            }
        }

        /// Whatever probes see from now on, the verdict does not change sooner, and it does so then if they all agree.
        #[test]
        fn a_verdict_lasts_as_long_as_it_is_said_to(policy in policies(), history in histories(),
            future in proptest::collection::vec(any::<bool>(), 200)) {
            let mut machine = Machine::new(Tick(0));
            let mut now = Tick(0);
            for (at, outcome) in history {
                now = at;
                machine.observe(&policy, now, &observation(outcome));
            }
            let (verdict, lasts) = (machine.verdict(), machine.steady_for(&policy, now));
            let least = lasts.unwrap_or_default();
            let mut against = machine.clone();
            let contrary = if verdict == Verdict::Up { Outcome::Fail } else { Outcome::Pass };
            let first_change = |machine: &mut Machine, outcome: &mut dyn FnMut() -> Outcome| {
                let mut at = now;
                for _ in 0..200 {
                    at = at.plus(machine.pace(&policy));
                    if machine.observe(&policy, at, &observation(outcome())).is_some() {
                        return at.since(now);
                    }
                }
                Duration::MAX
            };
            let mut future = future.into_iter();
            let any = first_change(&mut machine, &mut || if future.next() == Some(true) { Outcome::Pass } else { Outcome::Fail });
            prop_assert!(any >= least, "{any:?} {least:?}");
            let soonest = first_change(&mut against, &mut || contrary);
            prop_assert!(soonest >= least);
            if lasts.is_none() && verdict == Verdict::Up {
                let window = policy.window.filter(|(failures, of)| failures <= of);
                let rested = policy.fall.min(window.map_or(u32::MAX, |(failures, _)| failures));
                prop_assert_eq!(soonest, policy.interval + policy.fast_interval * (rested - 1));
            }
            if verdict == Verdict::Unknown {
                prop_assert_eq!(Some(soonest), lasts);
            }
        }

        #[test]
        fn one_lost_probe_takes_nothing_out(policy in policies(), lost in 1usize..100) {
            let policy = Policy { fall: policy.fall.max(2), window: policy.window.map(|(n, of)| (n.max(2), of)), ..policy };
            let mut machine = Machine::new(Tick(0));
            for probe in 0..100 {
                let outcome = if probe == lost { Outcome::Fail } else { Outcome::Pass };
                machine.observe(&policy, Tick(probe as u64 * SECOND), &observation(outcome));
                prop_assert_eq!(machine.verdict(), Verdict::Up);
            }
        }

        #[test]
        fn a_clock_that_stands_or_jumps_back_breaks_nothing(policy in policies(), steps in
            proptest::collection::vec((any::<u64>(), any::<bool>()), 0..60)) {
            let mut machine = Machine::new(Tick(u64::MAX));
            for (now, pass) in steps {
                machine.observe(&policy, Tick(now), &observation(if pass { Outcome::Pass } else { Outcome::Fail }));
            }
        }
    }
}
