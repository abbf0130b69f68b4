//! What the operator says of instances: the administrative axis (SPEC 2.1), beside what checks say.
//!
//! It is said at four levels: of an instance and of its pool, which is one [`Said`] here, of a region, and of the service
//! that is judged for. Across levels whatever removes wins, a forced-up and a weight apply to what is left (SPEC 8.2). The
//! weight of a region is another thing than that of an instance: the part of its clients that begin there at all.

use crate::fleet::{Instance, InstanceId, RegionId};

/// The administrative state of an instance; of two levels the greater counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Administrative {
    /// Its checks decide.
    #[default]
    Enabled,
    /// Eligible whatever its checks say.
    ForcedUp,
    /// Taken out; its clients go elsewhere.
    Drained,
    /// Taken for broken whatever its checks say.
    ForcedDown,
}

impl Administrative {
    /// Whether it takes an instance out, in every pass of steering.
    #[must_use]
    pub fn removes(self) -> bool {
        matches!(self, Administrative::Drained | Administrative::ForcedDown)
    }

    /// `enabled`, `drained`, `forced-up`, `forced-down`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Administrative::Enabled => "enabled",
            Administrative::ForcedUp => "forced-up",
            Administrative::Drained => "drained",
            Administrative::ForcedDown => "forced-down",
        }
    }
}

/// What is said of one instance or region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Said {
    /// Its state.
    pub state: Administrative,
    /// Its effective weight, in parts of the configured one; 100 = all of it.
    pub percent: u16,
}

impl Default for Said {
    fn default() -> Said {
        Said::NOTHING
    }
}

impl Said {
    /// Its checks decide, with all of its weight.
    pub const NOTHING: Said = Said { state: Administrative::Enabled, percent: 100 };

    /// What two levels say together.
    #[must_use]
    pub fn and(self, other: Said) -> Said {
        let percent = u32::from(self.percent) * u32::from(other.percent) / 100;
        Said { state: self.state.max(other.state), percent: percent.min(u16::MAX.into()) as u16 }
    }
}

/// What is said of all of them. Lists may be shorter than the fleet's: of what they do not hold, nothing is said.
#[derive(Clone, Copy, Debug, Default)]
pub struct Operator<'a> {
    /// By [`InstanceId`].
    pub instances: &'a [Said],
    /// By [`RegionId`].
    pub regions: &'a [Said],
    /// Of the service that is judged for.
    pub service: Said,
}

impl Operator<'_> {
    /// Whether nothing is said.
    #[must_use]
    pub fn is_silent(&self) -> bool {
        self.instances.is_empty() && self.regions.is_empty() && self.service == Said::NOTHING
    }

    /// What is said of an instance as a member of a group that stands for `regions`; of an instance of several regions
    /// those of the group count, and one that is not taken out keeps it in.
    #[must_use]
    pub fn of(&self, id: InstanceId, instance: &Instance, regions: &[RegionId]) -> Said {
        if self.is_silent() {
            return Said::default();
        }
        let own = self.instances.get(id.0 as usize).copied().unwrap_or_default();
        let counts = |region: &&RegionId| regions.is_empty() || regions.contains(region);
        let there = instance.regions.iter().filter(counts).map(|&region| self.of_region(region));
        let there = there.reduce(either).unwrap_or_default();
        own.and(Said { percent: 100, ..there }).and(self.service)
    }

    /// Of the clients whose order begins with a group that stands for these regions, the part that begins there, in
    /// percent; 100 where that is several.
    #[must_use]
    pub fn begin_at(&self, regions: &[RegionId]) -> u16 {
        match regions {
            [only] => self.of_region(*only).percent.min(100),
            _ => 100,
        }
    }

    /// What is said of a region.
    #[must_use]
    pub fn of_region(&self, region: RegionId) -> Said {
        self.regions.get(usize::from(region.0)).copied().unwrap_or_default()
    }
}

/// Of two places where an instance is, the one that keeps it in; of two that do, the greater state.
fn either(a: Said, b: Said) -> Said {
    match (a.state.removes(), b.state.removes()) {
        (true, false) => b,
        (false, true) => a,
        _ if a.state >= b.state => a,
        _ => b,
    }
}

#[cfg(test)]
mod tests {
    use super::Administrative::{Drained, Enabled, ForcedDown, ForcedUp};
    use super::*;
    use crate::fleet::PoolId;

    fn said(state: Administrative) -> Said {
        Said { state, ..Said::default() }
    }

    #[test]
    fn whatever_removes_wins() {
        for (a, b, both) in [
            (Enabled, Enabled, Enabled),
            (Enabled, ForcedUp, ForcedUp),
            (ForcedUp, Drained, Drained),
            (Drained, Enabled, Drained),
            (Drained, ForcedDown, ForcedDown),
            (ForcedUp, ForcedDown, ForcedDown),
        ] {
            assert_eq!((said(a).and(said(b)).state, said(b).and(said(a)).state), (both, both));
        }
        let half = Said { percent: 50, ..Said::default() };
        assert_eq!(half.and(Said::default()), half);
        assert_eq!(half.and(half).percent, 25);
    }

    #[test]
    fn regions_of_a_group_count() {
        let instance = Instance {
            name: "i".into(),
            pool: PoolId(0),
            regions: [RegionId(0), RegionId(1)].into(),
            weight: 1,
            addresses: Default::default(),
        };
        let regions = [said(Drained), said(Enabled), said(ForcedUp)];
        let operator = Operator { regions: &regions, ..Operator::default() };
        let of = |group: &[u16]| {
            let group: Vec<RegionId> = group.iter().map(|&region| RegionId(region)).collect();
            operator.of(InstanceId(0), &instance, &group).state
        };
        assert_eq!((of(&[0]), of(&[1]), of(&[0, 1]), of(&[])), (Drained, Enabled, Enabled, Enabled));
        let all = [said(Drained), said(ForcedDown)];
        let operator = Operator { regions: &all, ..Operator::default() };
        assert_eq!(operator.of(InstanceId(0), &instance, &[]).state, ForcedDown);
        let operator = Operator { service: said(ForcedUp), ..Operator::default() };
        assert_eq!(operator.of(InstanceId(0), &instance, &[]).state, ForcedUp);
        assert_eq!(
            Operator { service: said(ForcedUp), ..Operator { regions: &all, ..operator } }
                .of(InstanceId(0), &instance, &[])
                .state,
            ForcedDown
        );
    }

    #[test]
    fn the_weight_of_a_region_is_none_of_its_instances() {
        let instance = Instance {
            name: "i".into(),
            pool: PoolId(0),
            regions: [RegionId(0)].into(),
            weight: 1,
            addresses: Default::default(),
        };
        let regions = [Said { percent: 70, ..Said::default() }, Said::default()];
        let operator = Operator { regions: &regions, ..Operator::default() };
        assert_eq!(operator.of(InstanceId(0), &instance, &[]).percent, 100);
        let begin_at =
            |regions: &[u16]| operator.begin_at(&regions.iter().map(|&region| RegionId(region)).collect::<Vec<_>>());
        assert_eq!((begin_at(&[0]), begin_at(&[1]), begin_at(&[0, 1]), begin_at(&[])), (70, 100, 100, 100));
    }
}
