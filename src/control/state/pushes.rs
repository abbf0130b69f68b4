//! What instances and their agents report of themselves (SPEC 2.6, `push`): whose report it is, and whether its check
//! waits for one. The report itself goes the way of an observation, through the task of its target.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::super::desk::{Refusal, RefusalCode};
use super::super::world::World;
use super::State;
use crate::fleet::{CheckId, Instance, InstanceId, PoolId, TargetId};
use crate::probe::Kind;

/// A report.
#[derive(Debug)]
pub struct Push {
    /// `instance/web/eu-1`.
    pub target: String,
    /// The check it is for; `None` where the instance has one of its type.
    pub check: Option<String>,
    /// Whether the instance is.
    pub healthy: bool,
    /// Why, in words; may be empty.
    pub reason: String,
    /// Where the answer goes.
    pub reply: oneshot::Sender<Result<Pushed, Refusal>>,
}

/// A report that was taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pushed {
    /// `instance/web/eu-1`.
    pub target: String,
    /// `agent`.
    pub check: String,
}

impl State {
    /// Takes a report; what it changes is judged and published as with any observation.
    pub(super) fn push(&self, push: Push) {
        let Push { target, check, healthy, reason, reply } = push;
        // Whoever reported may be gone.
        let _ = reply.send(self.take_report(&target, check.as_deref(), healthy, &reason));
    }

    fn take_report(&self, target: &str, check: Option<&str>, healthy: bool, reason: &str) -> Result<Pushed, Refusal> {
        let instance = self.world.fleet().instance(self.named_instance(target)?);
        let (place, check) = self.awaited(instance, check)?;
        // Several addresses that are checked at one are one target.
        let targets: BTreeSet<TargetId> = instance.addresses.iter().map(|address| address.targets[place]).collect();
        for target_id in targets {
            if !self.prober.tell(target_id, healthy, reason) {
                let error = format!("too many reports of {target} wait to be taken in");
                return Err(Refusal::new(RefusalCode::Busy, error, Some("report once per interval")));
            }
        }
        let check = self.world.checks[check.0 as usize].name.clone();
        Ok(Pushed { target: target.to_string(), check })
    }

    /// Who reports.
    pub(super) fn named_instance(&self, target: &str) -> Result<InstanceId, Refusal> {
        let (pool, name) = named_pool(&self.world, target)?;
        let fleet = self.world.fleet();
        let found = fleet.pool(pool).instances.iter().find(|&&id| *fleet.instance(id).name == *name);
        found.copied().ok_or_else(|| unknown(target))
    }

    /// The check that a report of an instance is for, and its place among those of the instance's pool.
    fn awaited(&self, instance: &Instance, named: Option<&str>) -> Result<(usize, CheckId), Refusal> {
        let pool = self.world.fleet().pool(instance.pool);
        let check = |id: CheckId| &self.world.checks[id.0 as usize];
        let of_pool: Vec<(usize, CheckId)> = pool.checks.iter().copied().enumerate().collect();
        let waiting: Vec<(usize, CheckId)> =
            of_pool.iter().copied().filter(|&(_, id)| check(id).kind == Kind::Push).collect();
        let names: Vec<&str> = waiting.iter().map(|&(_, id)| check(id).name.as_str()).collect();
        let hint = format!("checks of pool/{} that wait for reports: {}", pool.name, names.join(", "));
        let hint = Some(hint.as_str()).filter(|_| !names.is_empty());
        let refuse = |code, error: String| Err(Refusal::new(code, error, hint));
        match (named, &waiting[..]) {
            (None, &[one]) => Ok(one),
            (None, []) => {
                refuse(RefusalCode::Wrong, format!("pool/{} has no check of type `push` to report to", pool.name))
            }
            (None, _) => {
                refuse(RefusalCode::Wrong, format!("pool/{} has several checks of type `push`: name one", pool.name))
            }
            (Some(name), _) => match of_pool.iter().find(|&&(_, id)| check(id).name == name) {
                Some(&found) if waiting.contains(&found) => Ok(found),
                Some(&(_, id)) => {
                    let kind = check(id).kind.name();
                    refuse(RefusalCode::Wrong, format!("check/{name} is of type `{kind}`: it takes no reports"))
                }
                None => refuse(RefusalCode::NotFound, format!("pool/{} is not checked by check/{name}", pool.name)),
            },
        }
    }
}

/// The pool of an instance `instance/web/eu-1`, and its name there.
pub(super) fn named_pool<'t>(world: &World, target: &'t str) -> Result<(PoolId, &'t str), Refusal> {
    let path = target.strip_prefix("instance/").and_then(|path| path.split_once('/'));
    let Some((pool, name)) = path.filter(|(_, name)| !name.contains('/')) else {
        let error = format!("{target:?} is not the name of an instance");
        return Err(Refusal::new(RefusalCode::Wrong, error, Some("instance/POOL/NAME")));
    };
    world.pool_named(pool).map(|pool| (pool, name)).ok_or_else(|| unknown(target))
}

pub(super) fn unknown(target: &str) -> Refusal {
    let hint = "see `waymark status` for names; a report is for one instance, without *";
    Refusal::new(RefusalCode::NotFound, format!("there is no {target}"), Some(hint))
}
