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
