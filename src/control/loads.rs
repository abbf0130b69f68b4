//! What instances report of their load, and what their agents say of them (SPEC 5.4): who said what when, and what is gone
//! by now. What follows from it is judged in `health/load.rs`.
//!
//! ```text
//! first report, or one after silence ─► new, BLACKOUT long: compared by the mean, so that an instance that begins with
//!   a load of 0 is not flooded             │
//!                                          ▼
//!                                  compared by its own ◄── a report ──┐
//!                                          │ none for EXPIRY          │
//!                                          ▼                          │
//!                                  silent: compared by the mean ──────┘ as new
//! ```
//! In the first [`BLACKOUT`] of a process nobody is new: all report for the first time, and nothing tells who has long
//! been loaded.
//!
//! An instance may be spoken for in several ways: over the API, and by checks at each of its addresses. The highest load
//! counts, and of what agents say the least weight; the idleness that an agent reports is taken for a load only where
//! nothing else says one. All is bounded by the fleet: one word for each instance and target.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use super::succession::Origin;
use crate::fleet::{Fleet, InstanceId, TargetId};
use crate::health::Reported;
use crate::health::load::{self, WHOLE};
use crate::probe::Heard;
use crate::time::Tick;

/// A report that is older does not count.
pub const EXPIRY: Duration = Duration::from_secs(180);
/// How long an instance that begins to report is compared by the mean.
pub const BLACKOUT: Duration = Duration::from_secs(30);
/// The greatest load that is taken in.
pub const MOST_LOAD: f64 = 1e12;
/// A ratio that is gone by changes when the load is off by so much, in percent of the capacity: what only trembles
/// publishes nothing.
const MATERIAL: f64 = 1.0;

/// Whose word it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Speaker {
    /// Somebody over the API.
    Api(InstanceId),
    /// A check that reads the load from a response.
    Check(TargetId),
    /// An agent that says how idle it is.
    Agent(TargetId),
}

/// What was said last.
#[derive(Clone, Copy, Debug)]
struct Word {
    /// In the unit of the capacity; of agents, in percent of it.
    load: f64,
    at: Tick,
    /// When the first of an unbroken row was said.
    since: Tick,
}

impl Word {
    fn is_fresh(&self, now: Tick) -> bool {
        now.since(self.at) <= EXPIRY
    }
}

/// What a report changes of what is gone by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Touched {
    /// Its ratio, or whether that counts: of interest to who goes by load.
    pub ratio: bool,
    /// Whether it may have clients, and how many: of interest to all.
    pub part: bool,
}

impl Touched {
    /// Whether anything changed.
    #[must_use]
    pub fn any(self) -> bool {
        self.ratio || self.part
    }
}

/// The load of an instance as it is shown.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shown {
    /// In the unit of its capacity.
    pub load: f64,
    /// How long ago it was reported.
    pub age: Duration,
    /// `api`, `check`, `agent`.
    pub source: &'static str,
    /// What is gone by.
    pub reported: Reported,
}

/// Reports taken in, by way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// Over the API.
    pub api: u64,
    /// Read from responses to checks.
    pub check: u64,
    /// Said by agents.
    pub agent: u64,
    /// Asked for in a response, where no load stood.
    pub ignored: u64,
}

/// All that is reported.
#[derive(Debug)]
pub struct Loads {
    begun: Tick,
    words: HashMap<Speaker, Word>,
    /// The part of their weight that agents have their instances have, in percent.
    parts: HashMap<TargetId, u16>,
    /// By `InstanceId`; empty while nothing was ever reported.
    reported: Vec<Reported>,
    /// When an instance is to be looked at again; one time at most for each.
    due: BTreeSet<(Tick, InstanceId)>,
    due_of: HashMap<InstanceId, Tick>,
    taken: Taken,
}

impl Loads {
    /// None yet, in a process that began at this time.
    #[must_use]
    pub fn new(begun: Tick) -> Loads {
        Loads {
            begun,
            words: HashMap::new(),
            parts: HashMap::new(),
            reported: Vec::new(),
            due: BTreeSet::new(),
            due_of: HashMap::new(),
            taken: Taken::default(),
        }
    }

    /// By `InstanceId`; empty while nothing was ever reported.
    #[must_use]
    pub fn reported(&self) -> &[Reported] {
        &self.reported
    }

    /// Reports taken in.
    #[must_use]
    pub fn taken(&self) -> Taken {
        self.taken
    }

    /// Takes a report of an instance in: its load, 0 to [`MOST_LOAD`].
    pub fn say(&mut self, fleet: &Fleet, id: InstanceId, load: f64, now: Tick) -> Touched {
        self.taken.api += 1;
        self.note(Speaker::Api(id), load, now);
        self.look(fleet, id, now)
    }

    /// Takes in what a check heard at a target of these instances; what it changes of each.
    pub fn hear(
        &mut self,
        fleet: &Fleet,
        owners: impl Iterator<Item = InstanceId>,
        target: TargetId,
        heard: Heard,
        now: Tick,
    ) -> Vec<(InstanceId, Touched)> {
        match heard {
            Heard::Nothing => return Vec::new(),
            Heard::NoLoad => {
                self.taken.ignored += 1;
                return Vec::new();
            }
            Heard::Load(load) => {
                self.taken.check += 1;
                self.note(Speaker::Check(target), load, now);
            }
            Heard::Agent { part, load } => {
                self.taken.agent += 1;
                self.parts.insert(target, part);
                if let Some(load) = load {
                    self.note(Speaker::Agent(target), load.into(), now);
                }
            }
        }
        let looked = owners.map(|id| (id, self.look(fleet, id, now)));
        looked.filter(|(_, touched)| touched.any()).collect()
    }

    fn note(&mut self, speaker: Speaker, load: f64, now: Tick) {
        let before = self.words.get(&speaker).filter(|word| word.is_fresh(now));
        let since = before.map_or(now, |word| word.since);
        self.words.insert(speaker, Word { load, at: now, since });
    }

    /// When an instance is to be looked at again though nothing is reported.
    #[must_use]
    pub fn next(&self) -> Option<Tick> {
        self.due.first().map(|(due, _)| *due)
    }

    /// Looks at an instance again that is due: what that changes.
    pub fn pop(&mut self, fleet: &Fleet, now: Tick) -> Option<(InstanceId, Touched)> {
        let (_, id) = *self.due.first().filter(|(due, _)| *due <= now)?;
        Some((id, self.look(fleet, id, now)))
    }

    /// Finds out what is to be gone by of an instance from now on.
    fn look(&mut self, fleet: &Fleet, id: InstanceId, now: Tick) -> Touched {
        if self.reported.is_empty() {
            self.reported = vec![Reported::default(); fleet.instances.len()];
        }
        let before = self.reported[id.0 as usize];
        let after = self.find_out(fleet, id, before, now);
        self.reported[id.0 as usize] = after;
        self.set_due(id, self.next_of(fleet, id, now));
        Touched {
            ratio: (before.load, before.is_new) != (after.load, after.is_new),
            part: (before.is_full, before.percent) != (after.is_full, after.percent),
        }
    }

    fn find_out(&self, fleet: &Fleet, id: InstanceId, before: Reported, now: Tick) -> Reported {
        let percent = self.part(fleet, id).unwrap_or(100);
        let Some((_, load)) = self.load(fleet, id, |word| word.is_fresh(now)) else {
            return Reported { percent, ..Reported::default() };
        };
        let limits = fleet.limits(id);
        let exact = load::ratio(load, limits.capacity);
        let is_same = |known: &u16| (exact - f64::from(*known)).abs() < MATERIAL;
        Reported {
            load: before.load.filter(is_same).or(Some(exact.round() as u16)),
            is_new: self.blackout(fleet, id, now).is_some(),
            is_full: limits.max_load.is_some_and(|most| load >= most),
            percent,
        }
    }

    /// The part of its configured weight that its agents have an instance have, in percent: the least that one says; `None`
    /// when none has spoken.
    #[must_use]
    pub fn part(&self, fleet: &Fleet, id: InstanceId) -> Option<u16> {
        targets(fleet, id).filter_map(|target| self.parts.get(&target)).min().copied()
    }

    /// All that speak for an instance, those that say a load first.
    fn speakers(fleet: &Fleet, id: InstanceId) -> impl Iterator<Item = Speaker> {
        let checks = targets(fleet, id).map(Speaker::Check);
        std::iter::once(Speaker::Api(id)).chain(checks).chain(targets(fleet, id).map(Speaker::Agent))
    }

    /// The load that counts among words of which `is` is true, with who says it.
    fn load(&self, fleet: &Fleet, id: InstanceId, is: impl Fn(&Word) -> bool) -> Option<(Speaker, f64)> {
        let whole = f64::from(WHOLE);
        let capacity = fleet.limits(id).capacity;
        let said = |speaker| {
            let word = self.words.get(&speaker).filter(|word| is(word))?;
            let is_agent = matches!(speaker, Speaker::Agent(_));
            Some((speaker, if is_agent { word.load * capacity / whole } else { word.load }))
        };
        let all = || Loads::speakers(fleet, id).filter_map(said);
        let is_agent = |(speaker, _): &(Speaker, f64)| matches!(speaker, Speaker::Agent(_));
        let highest = |a: &(Speaker, f64), b: &(Speaker, f64)| a.1.total_cmp(&b.1);
        all().filter(|one| !is_agent(one)).max_by(highest).or_else(|| all().max_by(highest))
    }

    /// When an instance is no longer new; `None` when it is not.
    fn blackout(&self, fleet: &Fleet, id: InstanceId, now: Tick) -> Option<Tick> {
        let words = Loads::speakers(fleet, id).filter_map(|speaker| self.words.get(&speaker));
        let since = words.filter(|word| word.is_fresh(now)).map(|word| word.since).min()?;
        let ends = since.plus(BLACKOUT);
        (since > self.begun.plus(BLACKOUT) && now < ends).then_some(ends)
    }

    /// When what is gone by changes by itself.
    fn next_of(&self, fleet: &Fleet, id: InstanceId, now: Tick) -> Option<Tick> {
        let words = Loads::speakers(fleet, id).filter_map(|speaker| self.words.get(&speaker));
        let fresh = words.filter(|word| word.is_fresh(now));
        // A report of this age counts, one that is older does not.
        let expiry = fresh.map(|word| word.at.plus(EXPIRY + Duration::from_millis(1))).min();
        [expiry, self.blackout(fleet, id, now)].into_iter().flatten().min()
    }

    /// Notes when an instance is to be looked at, in place of what was noted; `None` = when it reports.
    fn set_due(&mut self, id: InstanceId, due: Option<Tick>) {
        let before = match due {
            Some(due) => self.due_of.insert(id, due),
            None => self.due_of.remove(&id),
        };
        if let Some(before) = before {
            self.due.remove(&(before, id));
        }
        if let Some(due) = due {
            self.due.insert((due, id));
        }
    }

    /// What is shown of the load of an instance; `None` when it never reported.
    #[must_use]
    pub fn shown(&self, fleet: &Fleet, id: InstanceId, now: Tick) -> Option<Shown> {
        let fresh = self.load(fleet, id, |word| word.is_fresh(now));
        let (speaker, load) = fresh.or_else(|| self.load(fleet, id, |_| true))?;
        let source = match speaker {
            Speaker::Api(_) => "api",
            Speaker::Check(_) => "check",
            Speaker::Agent(_) => "agent",
        };
        let age = now.since(self.words.get(&speaker)?.at);
        Some(Shown { load, age, source, reported: load::of(&self.reported, id) })
    }

    /// The instances of which something is gone by.
    pub fn instances(&self) -> impl Iterator<Item = InstanceId> {
        let known = (0..).map(InstanceId).zip(&self.reported).filter(|(_, said)| **said != Reported::default());
        known.map(|(id, _)| id)
    }

    /// Follows instances and targets to another configuration: an instance is the same by its name, a target by its probe
    /// (`targets` says from where). `speaks` says whether an agent is asked at a target there, `owners` for whom.
    pub(super) fn renumber<O: Iterator<Item = InstanceId>>(
        &mut self,
        (before, after): (&Fleet, &Fleet),
        targets: &[Origin],
        speaks: impl Fn(TargetId) -> bool,
        owners: impl Fn(TargetId) -> O,
        now: Tick,
    ) {
        let words = std::mem::take(&mut self.words);
        let parts = std::mem::take(&mut self.parts);
        (self.due, self.due_of, self.reported) = Default::default();
        if words.is_empty() && parts.is_empty() {
            return;
        }
        let mut known: BTreeSet<InstanceId> = BTreeSet::new();
        for (new, origin) in (0..).map(TargetId).zip(targets) {
            let Some(old) = origin.probed_as() else { continue };
            let of_target = [(Speaker::Check(old), Speaker::Check(new)), (Speaker::Agent(old), Speaker::Agent(new))];
            let moved = of_target.map(|(from, to)| words.get(&from).map(|word| self.words.insert(to, *word)).is_some());
            let part = parts.get(&old).filter(|_| speaks(new));
            self.parts.extend(part.map(|part| (new, *part)));
            if moved.contains(&true) || part.is_some() {
                known.extend(owners(new));
            }
        }
        for (id, word) in spoken(&words, before, after) {
            self.words.insert(Speaker::Api(id), word);
            known.insert(id);
        }
        for id in known {
            self.look(after, id, now);
        }
    }
}

/// What was said over the API, under the numbers that instances of the same name have in another fleet.
fn spoken(words: &HashMap<Speaker, Word>, before: &Fleet, after: &Fleet) -> Vec<(InstanceId, Word)> {
    let mut by_pool: HashMap<&str, HashMap<&str, Word>> = HashMap::new();
    for (speaker, word) in words {
        if let Speaker::Api(id) = speaker {
            let instance = before.instance(*id);
            by_pool.entry(&before.pool(instance.pool).name).or_default().insert(&instance.name, *word);
        }
    }
    let pools = after.pools.iter().filter_map(|pool| Some((pool, by_pool.get(&*pool.name)?)));
    let found = pools.flat_map(|(pool, words)| {
        pool.instances.iter().filter_map(|&id| Some((id, *words.get(&*after.instance(id).name)?)))
    });
    found.collect()
}

/// What is probed for an instance.
fn targets(fleet: &Fleet, id: InstanceId) -> impl Iterator<Item = TargetId> {
    fleet.instance(id).addresses.iter().flat_map(|address| address.targets.iter().copied())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::{Address, CheckId, Instance, Limits, Pool, PoolId, Target};
    use std::net::IpAddr;

    const SECOND: u64 = 1000;

    /// Pool `web` of these instances, each with two addresses, one target each: those of the n-th are 2n and 2n + 1.
    fn fleet(names: &[&str], limits: Limits) -> Fleet {
        let mut fleet = Fleet::default();
        for (at, name) in (0u32..).zip(names) {
            let address = |which: u32| {
                let number = 2 * at + which;
                fleet.targets.push(Target { check: CheckId(0), address: ip(number), port: 1, host: None });
                Address { ip: ip(number), targets: [TargetId(number)].into() }
            };
            let addresses = [0, 1].map(address).into();
            let (name, pool, regions) = ((*name).into(), PoolId(0), [].into());
            fleet.instances.push(Instance { name, pool, regions, weight: 1, addresses });
            fleet.limits.push((InstanceId(at), limits));
        }
        fleet.pools.push(Pool {
            name: "web".into(),
            instances: (0..names.len() as u32).map(InstanceId).collect(),
            checks: [].into(),
            up_threshold: 0,
            ramp: Duration::ZERO,
            return_after: Duration::ZERO,
            region_ramp: Duration::ZERO,
            manual_failback: false,
            shares: Box::default(),
        });
        fleet
    }

    fn ip(number: u32) -> IpAddr {
        IpAddr::from([192, 0, 2, number as u8])
    }

    struct Fixture {
        fleet: Fleet,
        loads: Loads,
        now: Tick,
    }

    impl Fixture {
        fn new(limits: Limits) -> Fixture {
            // A process that has run for a while.
            let fleet = fleet(&["a", "b", "c"], limits);
            Fixture { fleet, loads: Loads::new(Tick(0)), now: Tick(1_000 * SECOND) }
        }

        fn say(&mut self, id: u32, load: f64) -> Touched {
            self.loads.say(&self.fleet, InstanceId(id), load, self.now)
        }

        fn hear(&mut self, target: u32, heard: Heard) -> Vec<(InstanceId, Touched)> {
            let owner = std::iter::once(InstanceId(target / 2));
            self.loads.hear(&self.fleet, owner, TargetId(target), heard, self.now)
        }

        /// Time passes; who is looked at again meanwhile, second by second, and what that changes.
        fn wait(&mut self, seconds: u64) -> Vec<(u64, InstanceId, Touched)> {
            let mut changes = Vec::new();
            for second in 1..=seconds {
                self.now = self.now.plus(Duration::from_secs(1));
                while let Some((id, touched)) = self.loads.pop(&self.fleet, self.now) {
                    if touched.any() {
                        changes.push((second, id, touched));
                    }
                }
            }
            changes
        }

        /// `50`, `50 new`, `full`, `part 75`, `-`.
        fn said(&self, id: u32) -> String {
            let Reported { load, is_new, is_full, percent } = load::of(self.loads.reported(), InstanceId(id));
            let load = load.map_or("-".into(), |load| load.to_string());
            let part = if percent == 100 { String::new() } else { format!(" part {percent}") };
            format!("{load}{}{}{part}", if is_new { " new" } else { "" }, if is_full { " full" } else { "" })
        }
    }

    const RATIO: Touched = Touched { ratio: true, part: false };
    const PART: Touched = Touched { ratio: false, part: true };
    const NOTHING: Touched = Touched { ratio: false, part: false };

    #[test]
    fn who_begins_is_new_and_who_is_silent_counts_no_more() {
        let mut fixture = Fixture::new(Limits::default());
        assert_eq!((fixture.said(0), fixture.loads.next()), ("-".into(), None));
        assert_eq!(fixture.say(0, 40.0), RATIO);
        assert_eq!(fixture.said(0), "40 new");
        assert_eq!(fixture.wait(29), []);
        assert_eq!(fixture.wait(2), [(1, InstanceId(0), RATIO)], "half a minute is over");
        assert_eq!(fixture.said(0), "40");
        // Three minutes after the report, not before, and on.
        assert_eq!(fixture.wait(149), []);
        assert_eq!(fixture.said(0), "40");
        assert_eq!(fixture.wait(10), [(1, InstanceId(0), RATIO)]);
        assert_eq!((fixture.said(0), fixture.loads.next()), ("-".into(), None));
        // Who was silent for longer than that is new again.
        fixture.say(0, 40.0);
        assert_eq!(fixture.said(0), "40 new");
        // Who goes on is not.
        for _ in 0..10 {
            fixture.wait(170);
            assert_eq!(fixture.say(0, 40.0), NOTHING);
        }
        assert_eq!(fixture.said(0), "40");
        assert_eq!(fixture.loads.taken().api, 12);
        assert_eq!((fixture.loads.due.len(), fixture.loads.due_of.len()), (1, 1));
    }

    #[test]
    fn nobody_is_new_when_the_process_is() {
        let mut fixture = Fixture::new(Limits::default());
        fixture.loads = Loads::new(fixture.now);
        fixture.say(0, 40.0);
        fixture.wait(30);
        fixture.say(1, 40.0);
        fixture.wait(1);
        fixture.say(2, 40.0);
        assert_eq!([0, 1, 2].map(|id| fixture.said(id)), ["40", "40", "40 new"]);
    }

    #[test]
    fn what_trembles_changes_nothing() {
        let mut fixture = Fixture::new(Limits { capacity: 800.0, max_load: Some(700.0) });
        for (load, touched, said) in [
            (400.0, RATIO, "50 new"),
            (407.0, NOTHING, "50 new"),
            (393.0, NOTHING, "50 new"),
            (408.0, RATIO, "51 new"),
            (699.0, RATIO, "87 new"),
            (700.0, PART, "87 new full"),
            (699.9, PART, "87 new"),
            (1600.0, Touched { ratio: true, part: true }, "200 new full"),
            (0.0, Touched { ratio: true, part: true }, "0 new"),
            (MOST_LOAD, Touched { ratio: true, part: true }, "60000 new full"),
        ] {
            assert_eq!((fixture.say(0, load), &*fixture.said(0)), (touched, said), "{load}");
        }
    }

    #[test]
    fn the_worst_word_counts() {
        let mut fixture = Fixture::new(Limits { capacity: 200.0, max_load: None });
        let agent = |part, load| Heard::Agent { part, load };
        assert_eq!(fixture.hear(0, Heard::Nothing), []);
        assert_eq!(fixture.hear(0, Heard::NoLoad), []);
        assert_eq!(fixture.hear(0, agent(75, Some(25))), [(InstanceId(0), Touched { ratio: true, part: true })]);
        assert_eq!(fixture.said(0), "25 new part 75");
        assert_eq!(fixture.loads.shown(&fixture.fleet, InstanceId(0), fixture.now).map(|shown| shown.load), Some(50.0));
        // Each address has its own agent: the least part, the highest load.
        fixture.hear(1, agent(50, Some(50)));
        assert_eq!(fixture.said(0), "50 new part 50");
        assert_eq!(fixture.hear(0, agent(75, None)), [], "no word of its load");
        fixture.hear(0, agent(0, None));
        assert_eq!(fixture.said(0), "50 new part 0");
        fixture.hear(0, agent(100, None));
        fixture.hear(1, agent(100, None));
        // What else tells the load counts more than idleness, the highest of it.
        fixture.hear(1, Heard::Load(20.0));
        assert_eq!(fixture.said(0), "10 new");
        fixture.hear(0, Heard::Load(60.0));
        fixture.say(0, 40.0);
        assert_eq!(fixture.said(0), "30 new");
        fixture.wait(31);
        assert_eq!(fixture.said(0), "30");
        // Another way to tell it does not make it new; when that ends, the first counts.
        fixture.wait(140);
        fixture.say(0, 40.0);
        fixture.wait(20);
        assert_eq!(fixture.said(0), "20");
        let Taken { api, check, agent, ignored } = fixture.loads.taken();
        assert_eq!((api, check, agent, ignored), (2, 2, 6, 1));
        assert_eq!(fixture.said(1), "-");
    }

    #[test]
    fn reports_follow_names_and_targets() {
        let mut fixture = Fixture::new(Limits::default());
        fixture.say(0, 40.0);
        fixture.wait(31);
        fixture.say(1, 50.0);
        fixture.hear(4, Heard::Agent { part: 0, load: Some(70) });
        fixture.hear(2, Heard::Load(90.0));
        // `a` goes, `new` comes first; targets of `b` and `c` are the same, `b`'s second is asked in another way.
        let after = fleet(&["new", "c", "b"], Limits::default());
        let targets = [
            Origin::New,
            Origin::Near(TargetId(0)),
            Origin::Same(TargetId(4)),
            Origin::Same(TargetId(5)),
            Origin::Edited(TargetId(2)),
            Origin::New,
        ];
        let owners = |target: TargetId| std::iter::once(InstanceId(target.0 / 2));
        let before = std::mem::replace(&mut fixture.fleet, after);
        let known = fixture.now;
        fixture.loads.renumber((&before, &fixture.fleet), &targets, |_| true, owners, known);
        assert_eq!([0, 1, 2].map(|id| fixture.said(id)), ["-", "70 new part 0", "90 new"]);
        assert_eq!(fixture.loads.instances().count(), 2);
        fixture.wait(31);
        assert_eq!([0, 1, 2].map(|id| fixture.said(id)), ["-", "70 part 0", "90"]);
        // Agents that are asked no more say nothing of weight; loads count until they are too old.
        let same: Vec<Origin> = (0..6).map(|at| Origin::Edited(TargetId(at))).collect();
        let fleet = fixture.fleet.clone();
        fixture.loads.renumber((&fleet, &fleet), &same, |_| false, owners, fixture.now);
        assert_eq!([0, 1, 2].map(|id| fixture.said(id)), ["-", "70", "90"]);
        fixture.wait(180);
        assert_eq!([0, 1, 2].map(|id| fixture.said(id)), ["-", "-", "-"]);
        fixture.loads.renumber((&fleet, &fleet), &same, |_| false, owners, fixture.now);
        assert_eq!((fixture.loads.next(), fixture.loads.instances().count()), (None, 0));
    }
}
