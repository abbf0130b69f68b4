//! Overrides of the operator (SPEC 8.2), as a pure model: which there are, which wins, when each ends.
//!
//! ```text
//! level       target                     who may be meant
//! instance    instance/POOL/NAME         globs in both parts
//! pool        pool/NAME
//! region      region/NAME
//! service     service/NAME               all its instances, for it alone; its freeze holds the instances of its pool
//! all         all                        to be frozen, no more
//! ```
//! Targets are kept as typed and matched anew with each configuration, so a glob applies to later names too. Within one
//! level the newest match wins, and `enable` is the newest match "enabled". Across levels a drain or force-down removes,
//! force-up and weight apply to what is left ([`Said::and`]).
//!
//! A freeze holds what checks say, not what overrides do: it is an axis of its own, on which nothing competes.
//!
//! An override that can never win again is forgotten: one of the same target that is newer and lasts as long covers it,
//! and an `enable` with nothing older at its level says what is so anyway.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::fleet::{Fleet, InstanceId, PoolId, RegionId, glob};
use crate::health::{Administrative, Operator, Said};
use crate::steering::ServiceId;
use crate::time::Tick;

/// Most overrides at a time.
pub const MOST: usize = 1000;
/// Longest target, user and reason, in characters.
const LONGEST_TEXT: usize = 300;
/// Greatest weight.
const MOST_PERCENT: u16 = 1000;
/// Longest that an override may last; longer ones have no end.
pub const LONGEST: Duration = Duration::from_secs(10 * 366 * 86_400);
/// Longest that the disk may have taken until an override was served that an earlier process set, seconds.
const SLOWEST: u64 = 600;
/// An end is announced this long before.
const ANNOUNCED_BEFORE: Duration = Duration::from_secs(15 * 60);

/// What an override does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Action {
    /// Takes out.
    Drain,
    /// Leaves it to the checks, whatever older overrides of the level say.
    Enable,
    /// Eligible whatever checks say.
    ForceUp,
    /// Down whatever checks say.
    ForceDown,
    /// Scales the weight, in percent.
    Weight(u16),
    /// Holds the verdicts of its checks as they are.
    Freeze,
}

impl Action {
    /// What it says of what it matches.
    #[must_use]
    pub fn said(self) -> Said {
        let state = match self {
            Action::Drain => Administrative::Drained,
            Action::ForceUp => Administrative::ForcedUp,
            Action::ForceDown => Administrative::ForcedDown,
            Action::Enable | Action::Weight(_) | Action::Freeze => Administrative::Enabled,
        };
        Said { state, percent: if let Action::Weight(percent) = self { percent } else { 100 } }
    }

    /// Without the share: `drain`, `enable`, `force-up`, `force-down`, `weight`, `freeze`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Action::Drain => "drain",
            Action::Enable => "enable",
            Action::ForceUp => "force-up",
            Action::ForceDown => "force-down",
            Action::Weight(_) => "weight",
            Action::Freeze => "freeze",
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())?;
        if let Action::Weight(percent) = self { write!(f, " {percent}%") } else { Ok(()) }
    }
}

impl From<Action> for String {
    fn from(action: Action) -> String {
        action.to_string()
    }
}

impl FromStr for Action {
    type Err = String;

    /// `drain`, `enable`, `force-up`, `force-down`, `weight 50%`, `freeze`.
    fn from_str(text: &str) -> Result<Action, String> {
        let plain = [Action::Drain, Action::Enable, Action::ForceUp, Action::ForceDown, Action::Freeze];
        if let Some(action) = plain.into_iter().find(|action| action.word() == text) {
            return Ok(action);
        }
        match text.strip_prefix("weight ") {
            Some(share) => Ok(Action::Weight(percent(share)?)),
            None => Err(format!("{text:?} is none of drain, enable, force-up, force-down, weight N%, freeze")),
        }
    }
}

impl TryFrom<String> for Action {
    type Error = String;

    fn try_from(text: String) -> Result<Action, String> {
        text.parse()
    }
}

/// `50%`.
///
/// # Errors
/// When it is anything else, or too great.
pub fn percent(text: &str) -> Result<u16, String> {
    let digits = text.strip_suffix('%').filter(|digits| digits.bytes().all(|octet| octet.is_ascii_digit()));
    let percent = digits.and_then(|digits| digits.parse().ok()).filter(|&percent| percent <= MOST_PERCENT);
    percent.ok_or_else(|| format!("{text:?} is no share: a whole number from 0% to {MOST_PERCENT}%"))
}

/// At which level a target is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Level {
    Instance,
    Pool,
    Region,
    Service,
    All,
}

/// The level of a target.
///
/// # Errors
/// In words, when it has none.
fn level(target: &str) -> Result<Level, String> {
    let parts: Vec<&str> = target.split('/').collect();
    if parts.iter().any(|part| part.is_empty()) || !is_plain(target) {
        return Err(format!("{target:?} is no target; {TARGETS}"));
    }
    match (parts[0], parts.len()) {
        ("instance", 3) => Ok(Level::Instance),
        ("pool", 2) => Ok(Level::Pool),
        ("region", 2) => Ok(Level::Region),
        ("service", 2) => Ok(Level::Service),
        ("all", 1) => Ok(Level::All),
        _ => Err(format!("{target:?} is no target; {TARGETS}")),
    }
}

const TARGETS: &str =
    "there are instance/POOL/NAME, pool/NAME, region/NAME and service/NAME, with * for any characters of a name";

/// Which services a target names, if it is of services, by their names in lower case and without the final dot.
pub fn names_services(target: &str) -> impl Fn(&str) -> bool + Clone + use<> {
    let pattern = target.strip_prefix("service/");
    let pattern = pattern.map(|pattern| pattern.strip_suffix('.').unwrap_or(pattern).to_ascii_lowercase());
    move |name| pattern.as_deref().is_some_and(|pattern| glob(pattern, name))
}

/// Whether a text is short enough to be kept and cannot disturb a log or a table.
fn is_plain(text: &str) -> bool {
    text.chars().count() <= LONGEST_TEXT && !text.chars().any(char::is_control)
}

/// What the operator wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    /// As typed: `instance/web/eu-*`.
    pub target: String,
    /// What to do with it.
    pub action: Action,
    /// Who wants it.
    pub who: String,
    /// Why; empty when nobody said.
    pub why: String,
    /// How long it lasts; `None` = until it is ended.
    pub lasts: Option<Duration>,
}

impl Wish {
    /// Whether it is well-formed.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&self) -> Result<(), String> {
        let level = level(&self.target)?;
        if level == Level::All && self.action != Action::Freeze {
            return Err(format!("all may be frozen, no more; {TARGETS}"));
        }
        match (self.action, level) {
            (Action::Weight(_), Level::Instance) => {}
            (Action::Weight(percent), Level::Region) if percent > 100 => {
                return Err(format!(
                    "{}: a region's weight is the part of its clients that begin there, 0% to 100%",
                    self.target
                ));
            }
            (Action::Weight(_), Level::Pool | Level::Service) => {
                return Err(format!(
                    "{}: weights are of instances and regions; to scale all of a pool or service alike would change no \
                     share",
                    self.target
                ));
            }
            _ => {}
        }
        if !is_plain(&self.why) || !is_plain(&self.who) {
            return Err(format!("a reason has up to {LONGEST_TEXT} characters, in one line"));
        }
        match self.lasts {
            Some(lasts) if lasts < Duration::from_secs(1) || lasts > LONGEST => {
                Err("an override lasts from a second to ten years; leave the time out where it has no end".into())
            }
            _ => Ok(()),
        }
    }
}

/// An override.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Override {
    /// As typed.
    pub target: String,
    /// What it does.
    pub action: Action,
    /// Who wanted it.
    pub who: String,
    /// Why; empty when nobody said.
    pub why: String,
    /// When it began, seconds since the Unix epoch.
    pub since: u64,
    /// When it ends by itself, seconds since the Unix epoch; `None` = it does not.
    pub until: Option<u64>,
}

impl Override {
    /// Whether instances get no clients by it. A region of weight 0% still has those that nobody else can serve.
    #[must_use]
    pub fn removes(&self) -> bool {
        self.action.said().state.removes() || (self.action == Action::Weight(0) && self.target.starts_with("instance/"))
    }
}

impl fmt::Display for Override {
    /// `drain region/eu-west by alice: patching`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} by {}", self.action, self.target, self.who)?;
        if self.why.is_empty() { Ok(()) } else { write!(f, ": {}", self.why) }
    }
}

/// An override, as it is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShownOverride {
    /// As it is kept.
    #[serde(flatten)]
    pub of: Override,
    /// Where it takes something out, what is left of that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left: Option<Left>,
}

/// What is left of those that were taken out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Left {
    /// When the last answers that name them have expired in caches that keep to their TTL, seconds since the Unix epoch.
    pub expire_at: u64,
    /// What of them is given out nevertheless, in words: an address that another instance shares, for example.
    pub still_given: Vec<String>,
}

/// An override and its end by the clock that does not jump.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    of: Override,
    level: Level,
    ends: Option<Tick>,
    is_announced: bool,
    /// Whether an earlier process set it, so that nobody knows when it was served first.
    is_restored: bool,
    /// Where it takes something out and is served: when the last answers of before expire, seconds since the Unix epoch.
    expire_at: Option<u64>,
    /// The instances that its target names in the fleet that is served; `None` = not looked up yet.
    named: Option<Arc<[InstanceId]>>,
}

impl Entry {
    fn new(of: Override, left: Option<Duration>, now: Tick) -> Result<Entry, String> {
        Ok(Entry {
            level: level(&of.target)?,
            ends: left.map(|left| now.plus(left)),
            is_announced: left.is_some_and(|left| left <= ANNOUNCED_BEFORE),
            is_restored: false,
            expire_at: None,
            named: None,
            of,
        })
    }

    /// Whether an older one can never count again.
    fn covers(&self, older: &Entry) -> bool {
        self.of.target == older.of.target && self.is_freeze() == older.is_freeze() && self.outlasts(older)
    }

    fn named(&self, fleet: &Fleet) -> Arc<[InstanceId]> {
        self.named.clone().unwrap_or_else(|| fleet.named(&self.of.target).into())
    }

    fn is_freeze(&self) -> bool {
        self.of.action == Action::Freeze
    }

    fn outlasts(&self, other: &Entry) -> bool {
        match (self.ends, other.ends) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(own), Some(others)) => own >= others,
        }
    }
}

/// All overrides, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    entries: Vec<Entry>,
    /// The compilation whose instances [`Entry::named`] are.
    epoch: u64,
}

impl Overrides {
    /// Those that were kept, as far as they have not ended; `now` and `unix_now` are the same moment. None has more time
    /// left than it had in all, however the wall clock was set meanwhile.
    #[must_use]
    pub fn restore(kept: Vec<Override>, now: Tick, unix_now: u64) -> Overrides {
        let left =
            |of: &Override| of.until.map(|until| Duration::from_secs(until.saturating_sub(unix_now.max(of.since))));
        let entries = kept.into_iter().take(MOST).filter_map(|of| {
            let left = left(&of);
            Entry::new(of, left, now).ok().map(|entry| Entry { is_restored: true, ..entry })
        });
        let mut overrides = Overrides { entries: entries.collect(), epoch: 0 };
        overrides.end(now);
        overrides
    }

    /// Oldest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Override> {
        self.entries.iter().map(|entry| &entry.of)
    }

    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// All of them are served, at the latest from now on. `hold_s` says how long caches may keep what was served before.
    pub fn served(&mut self, unix_now: u64, hold_s: impl Fn(&Override) -> u32) {
        for Entry { of, is_restored, expire_at, .. } in &mut self.entries {
            if of.removes() && expire_at.is_none() {
                let since = if *is_restored { unix_now.min(of.since.saturating_add(SLOWEST)) } else { unix_now };
                // One for the second that has begun, and the batch of queries under way.
                *expire_at = Some(since.saturating_add(1 + u64::from(hold_s(of))));
            }
        }
    }

    /// What takes an instance out again of which `returned` is true was not served so far: answers of since may be kept.
    pub(super) fn renew(&mut self, returned: impl Fn(InstanceId) -> bool) {
        for entry in self.entries.iter_mut().filter(|entry| entry.of.removes() && entry.expire_at.is_some()) {
            if entry.named.iter().flat_map(|named| named.iter()).any(|&id| returned(id)) {
                entry.expire_at = None;
            }
        }
    }

    /// When the last answers of before expire, of each that takes something out and is served.
    pub fn expiries(&self) -> impl Iterator<Item = Option<u64>> {
        self.entries.iter().map(|entry| entry.expire_at)
    }

    /// What is known of when those `before` were served holds for the same ones here.
    pub(super) fn follow(&mut self, before: &Overrides) {
        let mut before = before.entries.iter();
        for entry in self.entries.iter_mut().filter(|entry| entry.expire_at.is_none()) {
            let Some(same) = before.by_ref().find(|one| one.of == entry.of) else { return };
            entry.expire_at = same.expire_at;
        }
    }

    /// Those with one more, the newest.
    ///
    /// # Errors
    /// When the wish is not well-formed, or there are too many.
    pub fn with(&self, wish: Wish, now: Tick, unix_now: u64) -> Result<(Overrides, Override), String> {
        wish.check()?;
        let Wish { target, action, who, why, lasts } = wish;
        let until = lasts.map(|lasts| unix_now.saturating_add(lasts.as_secs()));
        let of = Override { target, action, who, why, since: unix_now, until };
        let newest = Entry::new(of.clone(), lasts, now)?;
        let mut entries = self.entries.clone();
        entries.retain(|entry| !newest.covers(entry));
        entries.push(newest);
        let mut overrides = Overrides { entries, epoch: self.epoch };
        overrides.forget_idle();
        if overrides.len() > MOST {
            return Err(format!("there are {MOST} overrides already; end some, see `waymark overrides`"));
        }
        Ok((overrides, of))
    }

    /// Those without the ones typed as `target`, and these.
    #[must_use]
    pub fn without(&self, target: &str) -> (Overrides, Vec<Override>) {
        self.parted(|entry| entry.of.target == target)
    }

    /// Those without the freezes typed as `target`, of `all` without any, and these.
    #[must_use]
    pub fn thawed(&self, target: &str) -> (Overrides, Vec<Override>) {
        self.parted(|entry| entry.is_freeze() && (target == "all" || entry.of.target == target))
    }

    fn parted(&self, goes: impl Fn(&Entry) -> bool) -> (Overrides, Vec<Override>) {
        let (gone, entries): (Vec<Entry>, Vec<Entry>) = self.entries.iter().cloned().partition(goes);
        let mut overrides = Overrides { entries, epoch: self.epoch };
        overrides.forget_idle();
        (overrides, gone.into_iter().map(|entry| entry.of).collect())
    }

    /// An `enable` with nothing older at its level says what is so anyway.
    fn forget_idle(&mut self) {
        let mut seen = Vec::new();
        self.entries.retain(|entry| {
            let idle = entry.of.action == Action::Enable && !seen.contains(&entry.level);
            if !idle && !entry.is_freeze() {
                seen.push(entry.level);
            }
            !idle
        });
    }

    /// Ends those whose time is over, and returns them.
    pub fn end(&mut self, now: Tick) -> Vec<Override> {
        let is_over = |entry: &Entry| entry.ends.is_some_and(|ends| ends <= now);
        let (over, entries): (Vec<Entry>, Vec<Entry>) = self.entries.drain(..).partition(is_over);
        self.entries = entries;
        self.forget_idle();
        over.into_iter().map(|entry| entry.of).collect()
    }

    /// Those that end soon and were not announced yet, each with the time it has left.
    pub fn announce(&mut self, now: Tick) -> Vec<(Override, Duration)> {
        let due = self.entries.iter_mut().filter(|entry| !entry.is_announced);
        due.filter_map(|entry| {
            let left = entry.ends?.since(now);
            entry.is_announced = left <= ANNOUNCED_BEFORE;
            entry.is_announced.then(|| (entry.of.clone(), left))
        })
        .collect()
    }

    /// How long until one ends or is to be announced.
    #[must_use]
    pub fn due(&self, now: Tick) -> Option<Duration> {
        let due = |entry: &Entry| {
            let left = entry.ends?.since(now);
            Some(if entry.is_announced { left } else { left.saturating_sub(ANNOUNCED_BEFORE) })
        };
        self.entries.iter().filter_map(due).min()
    }

    /// Looks up what targets name that was not looked up yet: with many overrides that takes longer than all else.
    pub(super) fn look_up(&mut self, fleet: &Fleet, epoch: u64) {
        if self.epoch != epoch {
            self.entries.iter_mut().for_each(|entry| entry.named = None);
            self.epoch = epoch;
        }
        for Entry { of, named, .. } in self.entries.iter_mut().filter(|entry| entry.named.is_none()) {
            *named = Some(fleet.named(&of.target).into());
        }
    }

    /// Each with the instances that its target names, oldest first.
    pub(super) fn with_named(&self, fleet: &Fleet) -> impl Iterator<Item = (&Override, Arc<[InstanceId]>)> {
        self.entries.iter().map(|entry| (&entry.of, entry.named(fleet)))
    }

    /// What they say of everything in a fleet, and of `services`, each with its pool, by `ServiceId`.
    #[must_use]
    pub fn compile<'s>(&self, fleet: &Fleet, services: impl Iterator<Item = (&'s str, PoolId)> + Clone) -> Compiled {
        let mut compiled = Compiled::default();
        for (at, entry) in self.entries.iter().enumerate() {
            let (Entry { of, level, .. }, winner) = (entry, at as u16);
            if of.action == Action::Freeze {
                let list = sized(&mut compiled.frozen, fleet.instances.len());
                match level {
                    Level::All => list.fill(Some(winner)),
                    Level::Service => {
                        let is_named = names_services(&of.target);
                        let pools = services.clone().filter(|(name, _)| is_named(name));
                        for (_, pool) in pools {
                            fleet.pool(pool).instances.iter().for_each(|id| list[id.0 as usize] = Some(winner));
                        }
                    }
                    _ => entry.named(fleet).iter().for_each(|id| list[id.0 as usize] = Some(winner)),
                }
                continue;
            }
            match level {
                Level::Instance => {
                    let list = sized(&mut compiled.winners[0], fleet.instances.len());
                    entry.named(fleet).iter().for_each(|id| list[id.0 as usize] = Some(winner));
                }
                Level::Pool => {
                    let names = fleet.pools.iter().map(|pool| format!("pool/{}", pool.name));
                    win(&mut compiled.winners[1], fleet.pools.len(), names, &of.target, winner);
                }
                Level::Region => {
                    let names = fleet.regions.iter().map(|region| format!("region/{}", region.name));
                    win(&mut compiled.winners[2], fleet.regions.len(), names, &of.target, winner);
                }
                Level::Service => {
                    let named = (0..).map(ServiceId).zip(services.clone());
                    let is_named = names_services(&of.target);
                    let named = named.filter(|(_, (name, _))| is_named(name));
                    compiled.services.extend(named.map(|(id, _)| (id, (winner, of.action.said()))));
                }
                Level::All => {}
            }
        }
        self.say(fleet, &mut compiled);
        compiled
    }

    fn say(&self, fleet: &Fleet, compiled: &mut Compiled) {
        let said = |winner: Option<u16>| {
            winner.map_or_else(Said::default, |at| self.entries[usize::from(at)].of.action.said())
        };
        let [instances, pools, regions] = &compiled.winners;
        if !instances.is_empty() || !pools.is_empty() {
            let of = |(at, pool): (usize, usize)| said(won(instances, at)).and(said(won(pools, pool)));
            let all = fleet.instances.iter().enumerate().map(|(at, one)| of((at, one.pool.0 as usize)));
            compiled.instances = all.collect();
        }
        compiled.regions = regions.iter().map(|&winner| said(winner)).collect();
    }
}

type Winners = Vec<Option<u16>>;

fn sized(list: &mut Winners, length: usize) -> &mut Winners {
    list.resize(length, None);
    list
}

fn win(list: &mut Winners, length: usize, names: impl Iterator<Item = String>, target: &str, winner: u16) {
    let list = sized(list, length);
    for (place, _) in list.iter_mut().zip(names).filter(|(_, name)| glob(target, name)) {
        *place = Some(winner);
    }
}

fn won(list: &Winners, at: usize) -> Option<u16> {
    list.get(at).copied().flatten()
}

/// What overrides say of the instances and regions of one configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Compiled {
    /// By `InstanceId`, of the levels instance and pool; empty = nothing is said.
    instances: Vec<Said>,
    /// By `RegionId`; empty = nothing is said.
    regions: Vec<Said>,
    /// By number at the levels instance, pool, region: which override wins.
    winners: [Winners; 3],
    /// By `InstanceId`: the newest freeze of it; empty = nothing is frozen.
    frozen: Winners,
    /// Of services of which something is said: which override wins, and what it says.
    services: BTreeMap<ServiceId, (u16, Said)>,
}

impl Compiled {
    /// For judging.
    #[must_use]
    pub fn operator(&self) -> Operator<'_> {
        Operator { instances: &self.instances, regions: &self.regions, service: Said::NOTHING }
    }

    /// For judging what a service alone is to feel.
    #[must_use]
    pub fn operator_for(&self, service: ServiceId) -> Operator<'_> {
        Operator { service: self.of_service(service), ..self.operator() }
    }

    /// What is said of a service.
    #[must_use]
    pub fn of_service(&self, service: ServiceId) -> Said {
        self.services.get(&service).map_or(Said::NOTHING, |(_, said)| *said)
    }

    /// The services of which something is said, by number.
    pub fn services(&self) -> impl Iterator<Item = ServiceId> {
        self.services.iter().filter(|(_, (_, said))| *said != Said::NOTHING).map(|(id, _)| *id)
    }

    /// The services of which these and `other` say different things.
    #[must_use]
    pub fn differing_services(&self, other: &Compiled) -> Vec<ServiceId> {
        let mut both: Vec<ServiceId> = self.services.keys().chain(other.services.keys()).copied().collect();
        both.sort_unstable();
        both.dedup();
        both.retain(|&id| self.of_service(id) != other.of_service(id));
        both
    }

    /// The override that says something of a service, as an index into [`Overrides::iter`].
    #[must_use]
    pub fn winner_of_service(&self, service: ServiceId) -> Option<usize> {
        self.services.get(&service).map(|(winner, _)| usize::from(*winner))
    }

    /// Whether nothing is said that judging must know.
    #[must_use]
    pub fn is_silent(&self) -> bool {
        self.operator().is_silent() && self.services().next().is_none()
    }

    /// Whether these and `other` say different things of an instance, at any level.
    #[must_use]
    pub fn differs(&self, other: &Compiled, fleet: &Fleet, id: InstanceId) -> bool {
        let own = |of: &Compiled| of.instances.get(id.0 as usize).copied().unwrap_or_default();
        let there = |region: &RegionId| self.operator().of_region(*region) != other.operator().of_region(*region);
        own(self) != own(other) || fleet.instance(id).regions.iter().any(there)
    }

    /// Whether something is frozen.
    #[must_use]
    pub fn is_any_frozen(&self) -> bool {
        !self.frozen.is_empty()
    }

    /// Whether the verdicts of an instance are held.
    #[must_use]
    pub fn is_frozen(&self, id: InstanceId) -> bool {
        won(&self.frozen, id.0 as usize).is_some()
    }

    /// The overrides that say something of an instance, as indices into [`Overrides::iter`]: its own, its pool's, its
    /// regions', and its freeze.
    #[must_use]
    pub fn winners(&self, fleet: &Fleet, id: InstanceId) -> Vec<usize> {
        let instance = fleet.instance(id);
        let [instances, pools, regions] = &self.winners;
        let own = [won(instances, id.0 as usize), won(pools, instance.pool.0 as usize)];
        let there = instance.regions.iter().map(|region| won(regions, usize::from(region.0)));
        let frozen = won(&self.frozen, id.0 as usize);
        let all = own.into_iter().chain(there).chain([frozen]).flatten().map(usize::from);
        let mut all: Vec<usize> = all.collect();
        all.dedup();
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::{Instance, Pool, PoolId, Region};
    use proptest::prelude::*;

    /// web/eu-1, web/eu-2, web/us-1, mail/eu-1.
    fn fleet() -> Fleet {
        let region = |name: &str| Region { name: name.into(), location: None, bias: 0, only_named: false };
        let instance = |name: &str, pool, region| Instance {
            name: name.into(),
            pool: PoolId(pool),
            regions: [RegionId(region)].into(),
            weight: 1,
            addresses: Default::default(),
        };
        let pool = |name: &str, instances: &[u32]| Pool {
            name: name.into(),
            instances: instances.iter().map(|&id| InstanceId(id)).collect(),
            checks: Default::default(),
            up_threshold: 0,
            ramp: std::time::Duration::ZERO,
            return_after: std::time::Duration::ZERO,
            region_ramp: std::time::Duration::ZERO,
            manual_failback: false,
            shares: Box::default(),
        };
        Fleet {
            regions: vec![region("eu"), region("us")],
            pools: vec![pool("web", &[0, 1, 2]), pool("mail", &[3])],
            instances: vec![
                instance("eu-1", 0, 0),
                instance("eu-2", 0, 0),
                instance("us-1", 0, 1),
                instance("eu-1", 1, 0),
            ],
            ..Fleet::default()
        }
    }

    fn wish(text: &str) -> Wish {
        let (target, action) = text.split_once(": ").expect("a target and an action");
        let (action, lasts) =
            action.split_once(" for ").map_or((action, None), |(action, lasts)| (action, Some(lasts)));
        let lasts = lasts.map(|seconds| Duration::from_secs(seconds.parse().expect("seconds")));
        Wish {
            target: target.into(),
            action: action.parse().expect("an action"),
            who: "alice".into(),
            why: String::new(),
            lasts,
        }
    }

    fn after(wishes: &[&str]) -> Overrides {
        wishes
            .iter()
            .fold(Overrides::default(), |all, text| all.with(wish(text), Tick(0), 1000).expect("well-formed").0)
    }

    /// Two services over web, one over mail.
    const SERVICES: [(&str, PoolId); 3] =
        [("www.example.com", PoolId(0)), ("api.example.com", PoolId(0)), ("mx.example.com", PoolId(1))];

    /// The same, of services: `.` for those of which nothing is said.
    fn service_states(overrides: &Overrides) -> Vec<&'static str> {
        let compiled = overrides.compile(&fleet(), SERVICES.into_iter());
        (0..3).map(|id| compiled.of_service(ServiceId(id)).state.word()).collect()
    }

    #[test]
    fn services_are_a_level_of_their_own() {
        let (e, d, u, x) = ("enabled", "drained", "forced-up", "forced-down");
        for (wishes, expected) in [
            (&["service/www.example.com: drain"][..], [d, e, e]),
            (&["service/WWW.example.com.: drain"], [d, e, e]),
            (&["service/*: drain", "service/www.*: enable"], [e, d, d]),
            (&["service/*.example.com: force-up", "service/mx.example.com: force-down"], [u, u, x]),
            (&["pool/web: drain", "service/mars.example.com: drain"], [e, e, e]),
        ] {
            assert_eq!(service_states(&after(wishes)), expected, "{wishes:?}");
        }
        let all = after(&["service/www.*: drain", "service/mx.example.com: freeze"]);
        let compiled = all.compile(&fleet(), SERVICES.into_iter());
        assert_eq!(states(&all), ". . . .", "of instances, nothing is said");
        assert_eq!(
            (0..4).map(|id| compiled.is_frozen(InstanceId(id))).collect::<Vec<_>>(),
            [false, false, false, true]
        );
        assert_eq!(compiled.services().collect::<Vec<_>>(), [ServiceId(0)]);
        assert_eq!(
            (compiled.winner_of_service(ServiceId(0)), compiled.winner_of_service(ServiceId(2))),
            (Some(0), None)
        );
        let other = after(&["service/*: drain"]).compile(&fleet(), SERVICES.into_iter());
        assert_eq!(compiled.differing_services(&other), [ServiceId(1), ServiceId(2)]);
    }

    fn targets(overrides: &Overrides) -> Vec<String> {
        overrides.iter().map(|of| format!("{}: {}", of.target, of.action)).collect()
    }

    /// `.` enabled, `d` drained, `f` forced-up, `x` forced-down, `50` percent; instance by instance.
    fn states(overrides: &Overrides) -> String {
        let fleet = fleet();
        let compiled = overrides.compile(&fleet, SERVICES.into_iter());
        let shown = (0..).zip(&fleet.instances).map(|(id, instance)| {
            let Said { state, percent } = compiled.operator().of(InstanceId(id), instance, &[]);
            match state {
                Administrative::Enabled if percent != 100 => percent.to_string(),
                Administrative::Enabled => ".".into(),
                Administrative::Drained => "d".into(),
                Administrative::ForcedUp if percent != 100 => format!("f{percent}"),
                Administrative::ForcedUp => "f".into(),
                Administrative::ForcedDown => "x".into(),
            }
        });
        shown.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn the_newest_of_a_level_wins_and_what_removes_across_levels() {
        for (wishes, expected) in [
            (&[][..], ". . . ."),
            (&["instance/web/eu-1: drain"], "d . . ."),
            (&["instance/web/*: drain"], "d d d ."),
            (&["instance/*/eu-1: drain"], "d . . d"),
            (&["pool/web: drain"], "d d d ."),
            (&["region/eu: drain"], "d d . d"),
            (&["region/*: force-down"], "x x x x"),
            (&["instance/web/*: drain", "instance/web/eu-1: enable"], "d d d .".replacen('d', ".", 1).as_str()),
            (&["instance/web/eu-1: enable", "instance/web/*: drain"], "d d d ."),
            (&["region/eu: drain", "instance/web/eu-1: enable"], "d d . d"),
            (&["region/eu: drain", "instance/web/eu-1: force-up"], "d d . d"),
            (&["region/eu: force-up", "instance/web/eu-1: drain"], "d f . f"),
            (&["pool/web: force-up", "region/us: force-down"], "f f x ."),
            (&["instance/web/eu-1: weight 50%", "pool/web: force-up"], "f50 f f ."),
            (&["instance/web/eu-1: drain", "instance/web/eu-1: weight 50%"], "50 . . ."),
            (&["instance/web/eu-*: weight 50%", "instance/web/eu-1: force-up"], "f 50 . ."),
            (&["region/eu: drain", "region/eu: enable"], ". . . ."),
            (&["instance/web/ap-*: drain"], ". . . ."),
        ] {
            assert_eq!(states(&after(wishes)), expected, "{wishes:?}");
        }
    }

    #[test]
    fn what_can_never_win_again_is_forgotten() {
        for (wishes, kept) in [
            (&["pool/web: enable"][..], &[][..]),
            (&["pool/web: drain", "pool/web: enable"], &[]),
            (&["pool/web: drain", "pool/web: force-up"], &["pool/web: force-up"]),
            (&["pool/web: drain", "pool/web: force-up for 60"], &["pool/web: drain", "pool/web: force-up"]),
            (&["pool/web: drain for 60", "pool/web: force-up for 60"], &["pool/web: force-up"]),
            (&["pool/web: drain for 60", "pool/web: force-up"], &["pool/web: force-up"]),
            (&["pool/*: drain", "pool/web: enable"], &["pool/*: drain", "pool/web: enable"]),
            (&["region/eu: drain", "pool/web: enable"], &["region/eu: drain"]),
            (&["pool/web: freeze", "pool/web: enable"], &["pool/web: freeze"]),
            (&["pool/web: drain", "pool/web: freeze"], &["pool/web: drain", "pool/web: freeze"]),
            (&["pool/web: freeze", "pool/web: freeze"], &["pool/web: freeze"]),
        ] {
            assert_eq!(targets(&after(wishes)), kept, "{wishes:?}");
        }
        let (left, gone) = after(&["pool/*: drain", "pool/web: enable"]).without("pool/*");
        assert!(left.is_empty() && gone.len() == 1);
    }

    #[test]
    fn a_freeze_competes_with_nothing() {
        let fleet = fleet();
        let frozen = |all: &Overrides| {
            let compiled = all.compile(&fleet, SERVICES.into_iter());
            (0..4).filter(|&id| compiled.is_frozen(InstanceId(id))).collect::<Vec<_>>()
        };
        let all = after(&["pool/web: drain", "instance/web/eu-*: freeze", "instance/web/eu-1: force-up"]);
        assert_eq!((states(&all).as_str(), frozen(&all)), ("d d d .", vec![0, 1]));
        let all = all.with(wish("all: freeze for 60"), Tick(0), 0).expect("well-formed").0;
        assert_eq!(frozen(&all), [0, 1, 2, 3]);
        assert_eq!(frozen(&all.thawed("instance/web/eu-*").0), [0, 1, 2, 3]);
        assert_eq!(targets(&all.thawed("all").0), ["pool/web: drain", "instance/web/eu-1: force-up"]);
        assert!(all.with(wish("all: drain"), Tick(0), 0).is_err());
    }

    #[test]
    fn they_end_by_themselves_and_say_so_before() {
        let minutes = |count: u64| Tick(count * 60_000);
        let mut all = after(&["pool/web: drain", "pool/web: force-up for 3600", "region/eu: drain for 60"]);
        assert_eq!(states(&all), "d d f d");
        assert_eq!(all.due(Tick(0)), Some(Duration::from_secs(60)));
        assert!(all.announce(Tick(0)).is_empty(), "it was short from the beginning");
        assert_eq!(all.end(minutes(1)).len(), 1);
        assert_eq!(states(&all), "f f f .");
        assert_eq!(all.due(minutes(1)), Some(Duration::from_secs(44 * 60)));
        assert!(all.announce(minutes(44)).is_empty());
        let announced = all.announce(minutes(45));
        assert_eq!(announced.len(), 1);
        assert_eq!(announced[0].1, Duration::from_secs(15 * 60));
        assert!(all.announce(minutes(46)).is_empty());
        assert_eq!(all.due(minutes(50)), Some(Duration::from_secs(10 * 60)));
        all.end(minutes(60));
        assert_eq!(states(&all), "d d d .", "the one before counts again");
        assert_eq!(all.due(minutes(61)), None);
    }

    #[test]
    fn the_last_answers_expire() {
        let mut all = after(&["pool/web: drain", "pool/mail: force-up", "instance/web/eu-1: weight 0%"]);
        all.served(5000, |of| if of.target == "pool/web" { 30 } else { 60 });
        assert_eq!(all.expiries().collect::<Vec<_>>(), [Some(5031), None, Some(5061)]);
        all.served(9000, |_| 30);
        assert_eq!(all.expiries().next(), Some(Some(5031)), "once is enough");
        let (mut next, _) = all.with(wish("region/eu: drain"), Tick(0), 9000).expect("well-formed");
        next.served(9000, |_| 30);
        assert_eq!(next.expiries().last(), Some(Some(9031)));
        let mut again = after(&["pool/web: drain", "pool/mail: force-up", "region/eu: drain"]);
        again.follow(&all);
        assert_eq!(again.expiries().collect::<Vec<_>>(), [Some(5031), None, None], "each where it is the same");
        // Of an earlier process nobody knows when it served them, but that it was long ago.
        let kept: Vec<Override> = all.iter().cloned().collect();
        for (unix_now, expires) in [(1010, 1041), (9000, 1631)] {
            let mut restored = Overrides::restore(kept.clone(), Tick(0), unix_now);
            restored.served(unix_now, |_| 30);
            assert_eq!(restored.expiries().next(), Some(Some(expires)));
        }
    }

    #[test]
    fn time_left_survives_a_restart_whatever_the_clock_says() {
        let kept: Vec<Override> = after(&["pool/web: drain for 600", "pool/mail: drain"]).iter().cloned().collect();
        for (unix_now, left) in [(1000, Some(600)), (1300, Some(300)), (0, Some(600)), (1600, None), (9_999_999, None)]
        {
            let restored = Overrides::restore(kept.clone(), Tick(5000), unix_now);
            let expected = left.map(Duration::from_secs);
            assert_eq!(restored.entries.iter().find_map(|one| one.ends).map(|ends| ends.since(Tick(5000))), expected);
            assert_eq!(restored.len(), 1 + usize::from(left.is_some()), "{unix_now}");
        }
    }

    #[test]
    fn wishes_are_checked() {
        for (text, problem) in [
            ("web/eu-1: drain", "is no target"),
            ("instance/web: drain", "is no target"),
            ("pool/web/eu-1: drain", "is no target"),
            ("region/: drain", "is no target"),
            ("*/web: drain", "is no target"),
            ("service/www.example.com: weight 50%", "weights are of instances and regions"),
            ("service/www/example.com: drain", "is no target"),
            ("region/eu\n: drain", "is no target"),
            ("region/eu: weight 101%", "0% to 100%"),
            ("pool/web: weight 50%", "weights are of instances and regions"),
            ("pool/web: drain for 0", "from a second"),
            ("pool/web: drain for 999999999999", "from a second"),
        ] {
            let problem_found = after(&[]).with(wish(text), Tick(0), 0).expect_err(text);
            assert!(problem_found.contains(problem), "{text}: {problem_found}");
        }
        let long = Wish { why: "x".repeat(301), ..wish("pool/web: drain") };
        assert!(long.check().is_err());
        for text in ["weight 50", "weight 1001%", "weight -1%", "weight %", "drained", ""] {
            assert!(text.parse::<Action>().is_err(), "{text}");
        }
        for text in ["drain", "enable", "force-up", "force-down", "weight 0%", "weight 1000%"] {
            assert_eq!(text.parse::<Action>().map(|action| action.to_string()), Ok(text.into()));
        }
        let full = (0..MOST).fold(Overrides::default(), |mut all, at| {
            let of = Override {
                target: format!("pool/p{at}"),
                action: Action::Drain,
                who: String::new(),
                why: String::new(),
                since: 0,
                until: None,
            };
            all.entries.push(Entry::new(of, None, Tick(0)).expect("well-formed"));
            all
        });
        assert!(full.with(wish("pool/web: drain"), Tick(0), 0).is_err());
        assert!(full.with(wish("pool/p7: force-up"), Tick(0), 0).is_ok(), "it takes the place of another");
    }

    fn any_wish() -> impl Strategy<Value = Wish> {
        let target = prop::sample::select(vec![
            "instance/web/eu-1",
            "instance/web/*",
            "instance/*/eu-1",
            "pool/web",
            "pool/*",
            "region/eu",
            "region/*",
        ]);
        let action = prop::sample::select(vec!["drain", "enable", "force-up", "force-down"]);
        (target, action, prop::option::of(1..5u64)).prop_map(|(target, action, lasts)| Wish {
            lasts: lasts.map(Duration::from_secs),
            ..wish(&format!("{target}: {action}"))
        })
    }

    /// The rules read once more, over all that was ever wished and has not ended.
    fn plain_states(wishes: &[(Tick, Wish)], now: Tick) -> Vec<Administrative> {
        let fleet = fleet();
        let left = |(at, wish): &&(Tick, Wish)| wish.lasts.is_none_or(|lasts| at.plus(lasts) > now);
        let newest = |level: &str, name: &str| {
            let found = wishes
                .iter()
                .rev()
                .filter(left)
                .find(|(_, wish)| wish.target.starts_with(level) && glob(&wish.target, &format!("{level}/{name}")));
            found.map_or(Administrative::Enabled, |(_, wish)| wish.action.said().state)
        };
        let of = |id: u32| {
            let instance = fleet.instance(InstanceId(id));
            let own = newest("instance", &fleet.instance_path(InstanceId(id)));
            let pool = newest("pool", &fleet.pool(instance.pool).name);
            let region = newest("region", &fleet.region(instance.regions[0]).name);
            own.max(pool).max(region)
        };
        (0..4).map(of).collect()
    }

    proptest! {
        #[test]
        fn forgetting_and_ending_change_no_state(wishes in prop::collection::vec(any_wish(), 0..12)) {
            let fleet = fleet();
            let mut all = Overrides::default();
            let mut ever = Vec::new();
            for (second, wish) in (0..).zip(wishes) {
                let now = Tick(second * 1000);
                all.end(now);
                all = all.with(wish.clone(), now, second).expect("well-formed").0;
                ever.push((now, wish));
                for later in [now, now.plus(Duration::from_secs(2))] {
                    let mut then = all.clone();
                    then.end(later);
                    let compiled = then.compile(&fleet, SERVICES.into_iter());
                    let states: Vec<Administrative> = (0..).zip(&fleet.instances)
                        .map(|(id, instance)| compiled.operator().of(InstanceId(id), instance, &[]).state)
                        .collect();
                    prop_assert_eq!(states, plain_states(&ever, later));
                }
            }
        }
    }
}
