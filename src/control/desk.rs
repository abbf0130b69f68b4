//! Orders of the operator, one after another: planned, written to the disk, applied, served, and only then acknowledged.
//!
//! ```text
//!  Change::Override ─► plan (refused: answered at once) ─► save, in a thread of its own ─► apply ─► publish ─► answered
//!       others wait ◄──────────────────── while one is saved ────────┘
//! ```
//! What cannot be written is refused and changes nothing. The control loop never waits for the disk.
//!
//! Latches (SPEC 3.5) come of what checks say, so nobody is there to be refused: they count at once, are written as soon
//! as no other write is under way, and again and again where the disk takes nothing.

use std::collections::VecDeque;
use std::time::Duration;
use std::{future, io, mem};

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::drains;
use super::files::Kept;
use super::latches::{Latch, Latches};
use super::overrides::{Compiled, Left, Override, Overrides, ShownOverride, Wish};
use super::store::{Lists, Store};
use super::world::World;
use crate::config::show_duration;
use crate::fleet::{Family, InstanceId};
use crate::health::Operator;
use crate::time::{Tick, unix_seconds};

/// Most orders that wait for the disk.
const MOST_WAITING: usize = 64;
/// How often is tried again to write what nobody waits for.
const RETRY: Duration = Duration::from_secs(1);

/// An order.
#[derive(Debug)]
pub struct Order {
    /// What is wanted.
    pub what: What,
    /// Whether also when it takes the last region or instance of a service, or names nothing.
    pub force: bool,
    /// Where the answer goes.
    pub reply: Reply,
}

/// Where the answer to an order goes.
pub type Reply = oneshot::Sender<Result<Applied, Refusal>>;

/// What an order wants.
#[derive(Debug)]
pub enum What {
    /// An override more.
    Set(Wish),
    /// To end those typed so.
    End {
        /// As typed.
        target: String,
        /// Who wants that.
        who: String,
    },
    /// To end the freezes typed so; all of them for `all`.
    Resume {
        /// As typed.
        target: String,
        /// Who wants that.
        who: String,
    },
    /// To let regions serve again that are latched out of services.
    Unlatch {
        /// Its name, `*` for any characters.
        service: String,
        /// Its name, `*` for any characters.
        region: String,
        /// Who wants that.
        who: String,
    },
}

impl What {
    /// What it is about, as typed.
    #[must_use]
    pub fn target(&self) -> &str {
        match self {
            What::Set(Wish { target, .. }) | What::End { target, .. } | What::Resume { target, .. } => target,
            What::Unlatch { service, .. } => service,
        }
    }
}

/// What an order did.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Applied {
    /// The override that was set.
    pub set: Option<Override>,
    /// The overrides that were ended by the order.
    pub ended: Vec<Override>,
    /// The instances that the target names now, `web/eu-1`.
    pub instances: Vec<String>,
    /// Overrides of other levels that still keep some of them out.
    pub held_by: Vec<Override>,
    /// Services that lost their last region or instance, by force.
    pub lost: Vec<String>,
    /// Where it takes instances out: how long answers of before may be kept in caches, seconds.
    #[serde(default)]
    pub caches_hold_s: Option<u32>,
    /// The regions that serve a service again by the order.
    #[serde(default)]
    pub resumed: Vec<Latch>,
    /// Why a loss of power could undo it; `None` = it could not.
    #[serde(default)]
    pub not_durable: Option<String>,
}

/// Why an order was refused; it changed nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Refusal {
    /// What kind of refusal.
    pub code: RefusalCode,
    /// In words.
    pub error: String,
    /// What to do.
    pub hint: Option<String>,
    /// Services that would lose their last region or instance.
    pub services: Vec<String>,
}

/// Kinds of refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RefusalCode {
    /// It is not well-formed.
    Wrong,
    /// The target names nothing.
    NotFound,
    /// It would take the last region or instance of a service.
    LastAvailable,
    /// It could not be written.
    NotStored,
    /// Not from here.
    Forbidden,
    /// Too many orders wait, or the server ends.
    Busy,
}

impl Refusal {
    /// Without services.
    #[must_use]
    pub fn new(code: RefusalCode, error: impl Into<String>, hint: Option<&str>) -> Refusal {
        Refusal { code, error: error.into(), hint: hint.map(Into::into), services: Vec::new() }
    }
}

/// What an order comes to.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) overrides: Overrides,
    /// Latches to be lifted.
    pub(super) lifted: Latches,
    pub(super) applied: Applied,
    /// As typed.
    pub(super) target: String,
    /// One line for the log.
    pub(super) line: String,
}

#[derive(Debug)]
struct Saving {
    /// `None` where the list is only tidied up.
    plan: Option<(Plan, Reply)>,
    /// Whether it holds something that nobody waits for and that was not written before.
    news: bool,
    written: JoinHandle<io::Result<Kept>>,
}

/// The overrides in force and the orders on their way.
#[derive(Debug, Default)]
pub(super) struct Desk {
    overrides: Overrides,
    compiled: Compiled,
    /// Of each override: what it takes out and is given out nevertheless.
    still_given: Vec<Vec<String>>,
    latches: Latches,
    /// Whether what is in force differs from what was written last or is being written.
    news: bool,
    /// When `news` are tried again after a write that failed.
    retry_at: Option<Tick>,
    /// Whether the last write failed, which was said.
    failing: bool,
    /// `None` = they are kept in memory alone.
    store: Option<Store>,
    saving: Option<Saving>,
    waiting: VecDeque<Order>,
    /// To be answered when they are served.
    applied: Vec<(Reply, Applied)>,
}

impl Desk {
    pub(super) fn overrides(&self) -> &Overrides {
        &self.overrides
    }

    pub(super) fn compiled(&self) -> &Compiled {
        &self.compiled
    }

    pub(super) fn operator(&self) -> Operator<'_> {
        self.compiled.operator()
    }

    pub(super) fn latches(&self) -> &Latches {
        &self.latches
    }

    pub(super) fn keep_in(&mut self, store: Store, latches: Latches) {
        self.store = Some(store);
        self.latches = latches;
    }

    /// Notes that a region is latched out of a service, or no longer; whether that is news.
    pub(super) fn latch(&mut self, service: &str, region: &str, family: Family, is: bool) -> bool {
        let is_news = match is {
            true => self.latches.add(service, region, family, unix_seconds()),
            false => self.latches.remove(service, region, family),
        };
        self.news |= is_news;
        is_news
    }

    /// Forgets latches of which `holds` is false; those.
    pub(super) fn retain_latches(&mut self, holds: impl Fn(&str, &str, Family) -> bool) -> Latches {
        let gone = self.latches.retain(holds);
        self.news |= !gone.is_empty();
        gone
    }

    /// Takes latches off the list, as it was written already.
    pub(super) fn lift(&mut self, lifted: &Latches) {
        self.latches = self.latches.without(lifted);
    }

    /// Puts these in force; what they said before.
    pub(super) fn set(&mut self, mut overrides: Overrides, world: &World) -> Compiled {
        overrides.follow(&self.overrides);
        overrides.look_up(world.fleet(), world.steering.epoch);
        self.overrides = overrides;
        let before = self.compile(world);
        let fleet = world.fleet();
        let removes = |by: &Compiled, id: InstanceId| by.operator().of(id, fleet.instance(id), &[]).state.removes();
        let after = &self.compiled;
        self.overrides.renew(|id| removes(after, id) && !removes(&before, id));
        before
    }

    /// Matches all targets anew; what they said before.
    pub(super) fn recompile(&mut self, world: &World) -> Compiled {
        self.overrides.look_up(world.fleet(), world.steering.epoch);
        self.compile(world)
    }

    fn compile(&mut self, world: &World) -> Compiled {
        let compiled = self.overrides.compile(world.fleet(), world.services());
        self.still_given = drains::still_given(world, &self.overrides, &compiled);
        mem::replace(&mut self.compiled, compiled)
    }

    pub(super) fn is_saving(&self) -> bool {
        self.saving.is_some()
    }

    /// Puts an order behind those that wait for the disk.
    pub(super) fn wait(&mut self, order: Order) {
        if self.waiting.len() < MOST_WAITING {
            return self.waiting.push_back(order);
        }
        let hint = "the disk of state-dir may be slow or hang; try again";
        answer(order.reply, Err(Refusal::new(RefusalCode::Busy, "too many orders wait to be written", Some(hint))));
    }

    /// The next order, when nothing is saved.
    pub(super) fn next(&mut self) -> Option<Order> {
        if self.is_saving() { None } else { self.waiting.pop_front() }
    }

    /// Begins to write what a plan comes to.
    pub(super) fn save(&mut self, plan: Plan, reply: Reply) {
        let written = self.write(&plan.overrides, self.latches.without(&plan.lifted));
        self.saving = Some(Saving { plan: Some((plan, reply)), news: mem::take(&mut self.news), written });
    }

    /// What is in force is to be written though nobody waits for it.
    pub(super) fn tidy(&mut self) {
        self.news = true;
    }

    /// Begins to write what nobody waits for, unless a write is under way or one has failed just now.
    pub(super) fn keep_up(&mut self, now: Tick) {
        if self.news && !self.is_saving() && self.retry_at.is_none_or(|at| at <= now) {
            let written = self.write(&self.overrides, self.latches.clone());
            self.saving = Some(Saving { plan: None, news: mem::take(&mut self.news), written });
        }
    }

    /// When that is to be tried again.
    pub(super) fn retry_at(&self) -> Option<Tick> {
        self.retry_at.filter(|_| self.news && !self.is_saving())
    }

    fn write(&self, overrides: &Overrides, latches: Latches) -> JoinHandle<io::Result<Kept>> {
        let lists = Lists { overrides: overrides.iter().cloned().collect(), latches: latches.iter().collect() };
        let store = self.store.clone();
        tokio::task::spawn_blocking(move || store.map_or(Ok(Kept::Durably), |store| store.save(lists)))
    }

    /// Waits for the end of the write under way; for ever when there is none.
    pub(super) async fn written(&mut self) -> io::Result<Kept> {
        match &mut self.saving {
            Some(saving) => (&mut saving.written).await.unwrap_or_else(|error| Err(io::Error::other(error))),
            None => future::pending().await,
        }
    }

    /// Ends the write under way: the plan that is to be applied, unless it was not written, which is answered here.
    pub(super) fn end_saving(&mut self, written: io::Result<Kept>, now: Tick) -> Option<(Plan, Reply)> {
        let Saving { plan, news, .. } = self.saving.take()?;
        self.tell_of(&written);
        let error = match written {
            Ok(kept) => {
                self.retry_at = None;
                let (mut plan, reply) = plan?;
                if let Kept::Perhaps(error) = kept {
                    plan.applied.not_durable = Some(format!("the folder of state-dir cannot be synced: {error}"));
                }
                return Some((plan, reply));
            }
            Err(error) => error,
        };
        self.news |= news;
        self.retry_at = Some(now.plus(RETRY));
        let (_, reply) = plan?;
        let error = format!("it cannot be written to state-dir, so nothing was changed: {error}");
        answer(reply, Err(Refusal::new(RefusalCode::NotStored, error, Some("make room there, then try again"))));
        None
    }

    /// One line when writing begins to fail, one when that ends.
    fn tell_of(&mut self, written: &io::Result<Kept>) {
        match written {
            Ok(Kept::Durably) if mem::take(&mut self.failing) => tracing::info!("overrides are written again"),
            Ok(Kept::Durably) => {}
            Ok(Kept::Perhaps(error)) => {
                tracing::error!("overrides are written, but their folder cannot be synced: {error}");
            }
            Err(error) if !mem::replace(&mut self.failing, true) => {
                tracing::error!("overrides cannot be written: {error}");
            }
            Err(_) => {}
        }
    }

    /// To be answered with the next publish.
    pub(super) fn acknowledge_later(&mut self, reply: Reply, applied: Applied) {
        self.applied.push((reply, applied));
    }

    /// The overrides, each with what is left of what it takes out.
    pub(super) fn shown(&self) -> Vec<ShownOverride> {
        let left = self.overrides.expiries().zip(&self.still_given).map(|(expire_at, still_given)| {
            expire_at.map(|expire_at| Left { expire_at, still_given: still_given.clone() })
        });
        self.overrides.iter().cloned().zip(left).map(|(of, left)| ShownOverride { of, left }).collect()
    }

    /// All that was applied is served.
    pub(super) fn acknowledge(&mut self, world: &World) {
        self.overrides.served(unix_seconds(), |of| drains::caches_hold_s(world, &of.target).unwrap_or(0));
        self.applied.drain(..).for_each(|(reply, applied)| answer(reply, Ok(applied)));
    }

    /// Says which overrides end soon; those whose time is over, and what is left then, if there are any.
    pub(super) fn end_due(&mut self, now: Tick) -> Option<(Overrides, Vec<Override>)> {
        for (of, left) in self.overrides.announce(now) {
            tracing::warn!("override ends in {} min: {of}", left.as_secs().div_ceil(60));
        }
        let mut left = self.overrides.clone();
        let over = left.end(now);
        (!over.is_empty()).then_some((left, over))
    }
}

impl Overrides {
    /// What they are after an order; what it does, and the line for the log.
    pub(super) fn ordered(&self, what: &What, now: Tick) -> Result<(Overrides, Applied, String), Refusal> {
        match what {
            What::Set(wish) => {
                let wrong = |problem| Refusal::new(RefusalCode::Wrong, problem, None);
                let (overrides, set) = self.with(wish.clone(), now, unix_seconds()).map_err(wrong)?;
                let lasts = wish.lasts.map_or(String::new(), |lasts| format!(" (for {})", show_duration(lasts)));
                let line = format!("override: {set}{lasts}");
                Ok((overrides, Applied { set: Some(set), ..Applied::default() }, line))
            }
            What::End { target, who } => ended(self.without(target), "override", target, who),
            What::Resume { target, who } => ended(self.thawed(target), "freeze", target, who),
            What::Unlatch { service, region, who } => {
                let service = service.trim_start_matches("service/");
                let region = region.trim_start_matches("region/");
                let line = format!("service/{service}: region/{region} is resumed by {who}");
                Ok((self.clone(), Applied::default(), line))
            }
        }
    }
}

/// What an order that ends overrides comes to.
fn ended(
    (left, ended): (Overrides, Vec<Override>),
    noun: &str,
    target: &str,
    who: &str,
) -> Result<(Overrides, Applied, String), Refusal> {
    if ended.is_empty() {
        let error = format!("there is no {noun} of {target}");
        return Err(Refusal::new(RefusalCode::NotFound, error, Some("see `waymark overrides`")));
    }
    let line = format!("{noun} of {target} ended by {who}");
    Ok((left, Applied { ended, ..Applied::default() }, line))
}

fn answer(reply: Reply, answer: Result<Applied, Refusal>) {
    // Whoever asked may be gone.
    let _ = reply.send(answer);
}
