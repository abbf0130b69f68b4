//! What an explanation is made of: shared where it can be, copied where it is of the services asked for alone.

use std::collections::BTreeSet;

use super::State;
use crate::answer::explain::services;
use crate::control::explain::{Kept, Live, Look, TargetKept};
use crate::control::status;
use crate::fleet::{InstanceId, TargetId};
use crate::health::group::STEADY;
use crate::snapshot::Snapshot;
use crate::steering::walk::MAX_SHOWN;
use crate::steering::{LayoutId, ServiceId};
use crate::time::Tick;

/// Most instances of which a reason is told.
const MOST_REASONS: usize = 1000;

impl State {
    /// Answers a look.
    pub(super) fn look(&self, look: Look, now: Tick) {
        let snapshot = self.published.load_full();
        let asked = look.lower().map_or_else(Vec::new, |name| services(&snapshot, &name, look.rtype));
        let view = self.view(now);
        let shown = self.shown(&snapshot, &asked);
        let instances = shown.into_iter().map(|id| (id, status::instance(&view, &view.overrides, id))).collect();
        let compiled = self.desk.compiled();
        let winners = asked.iter().filter_map(|&service| compiled.winner_of_service(service));
        let overrides = winners.map(|at| view.overrides[at].of.clone()).collect();
        let kept = look.judges.then(|| self.kept(&asked, now));
        let live = Live { world: self.world.clone(), snapshot, instances, overrides, kept };
        // Whoever asked may be gone.
        let _ = look.reply.send(Box::new(live));
    }

    /// The instances that an explanation shows.
    fn shown(&self, snapshot: &Snapshot, asked: &[ServiceId]) -> BTreeSet<InstanceId> {
        let steering = &snapshot.steering;
        let groups = asked.iter().flat_map(|&id| &steering.layout(steering.service(id).layout).groups);
        groups.flat_map(|group| group.members.iter().copied().take(MAX_SHOWN)).take(MOST_REASONS).collect()
    }

    /// What the layouts of these services are judged by.
    fn kept(&self, asked: &[ServiceId], now: Tick) -> Kept {
        let layouts: BTreeSet<LayoutId> = asked.iter().map(|&id| self.world.steering.service(id).layout).collect();
        let targets: BTreeSet<TargetId> = layouts.iter().flat_map(|&layout| self.world.targets_of(layout)).collect();
        let of_target = |id: TargetId| {
            let at = id.0 as usize;
            let kept = TargetKept {
                verdict: self.verdicts[at],
                steady_for: self.steady_for.get(at).copied().unwrap_or(STEADY),
                is_held: self.held.get(at).is_some_and(|&held| held),
                recovered: self.recovered[at],
            };
            (id, kept)
        };
        Kept {
            layouts,
            targets: targets.into_iter().map(of_target).collect(),
            compiled: self.desk.compiled().clone(),
            reported: self.loads.reported().to_vec(),
            grace_over: self.grace_until.is_none(),
            now,
            serial: self.serial,
        }
    }
}
