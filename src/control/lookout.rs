//! Whether this node can look at its targets at all: a probe that it could not make says nothing (SPEC 2.1). One such
//! target is shown as stale; when over half of an address family are, the node is what is broken, and that is worth a line.
//! Verdicts need no care: each stays by itself, and those of targets that can be looked at go on changing.

use super::World;
use crate::fleet::{Family, TargetId};
use crate::health::Machine;

/// How many targets of each family cannot be looked at.
#[derive(Debug, Default)]
pub(super) struct Lookout([Stale; 2]);

/// Those of one family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Stale {
    pub(super) stale: usize,
    pub(super) of: usize,
    /// That it is over half has been said.
    is_said: bool,
}

impl Lookout {
    /// Counts anew, for a world with these machines.
    pub(super) fn follow(&mut self, world: &World, machines: &[Machine]) {
        for of_family in &mut self.0 {
            *of_family = Stale { is_said: of_family.is_said, ..Stale::default() };
        }
        for ((id, target), machine) in (0..).map(TargetId).zip(&world.fleet().targets).zip(machines) {
            if world.owners_of(id).next().is_some() {
                let of_family = &mut self.0[Family::of(target.address) as usize];
                of_family.of += 1;
                of_family.stale += usize::from(machine.stale());
            }
        }
    }

    /// A target of an instance that could (not) be looked at before can (not) be now. What is to be said, when over half
    /// of the family's targets are stale from now on, or no longer.
    pub(super) fn observe(&mut self, family: Family, before: bool, now: bool) -> Option<(bool, Stale)> {
        let of_family = &mut self.0[family as usize];
        of_family.stale = of_family.stale + usize::from(now) - usize::from(before);
        let is_over_half = of_family.stale * 2 > of_family.of;
        let has_changed = std::mem::replace(&mut of_family.is_said, is_over_half) != is_over_half;
        has_changed.then_some((is_over_half, *of_family))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_is_not_enough_and_nothing_is_said_twice() {
        let mut lookout = Lookout([Stale { of: 4, ..Stale::default() }, Stale { of: 1, ..Stale::default() }]);
        let said = |said: Option<(bool, Stale)>| said.map(|(begins, stale)| (begins, stale.stale));
        assert_eq!(said(lookout.observe(Family::V4, false, true)), None);
        assert_eq!(said(lookout.observe(Family::V4, false, true)), None);
        assert_eq!(said(lookout.observe(Family::V4, false, true)), Some((true, 3)));
        assert_eq!(said(lookout.observe(Family::V4, true, true)), None);
        assert_eq!(said(lookout.observe(Family::V4, false, true)), None);
        assert_eq!(said(lookout.observe(Family::V6, false, true)), Some((true, 1)));
        assert_eq!(said(lookout.observe(Family::V4, true, false)), None);
        assert_eq!(said(lookout.observe(Family::V4, true, false)), Some((false, 2)));
    }
}
