//! `steer = "failover"`: one order for everybody (SPEC 4.6).

use crate::fleet::RegionId;

/// The configured order, reduced to the regions that are `present`.
#[must_use]
pub(super) fn order(configured: &[RegionId], present: &[RegionId]) -> Vec<RegionId> {
    configured.iter().copied().filter(|region| present.contains(region)).collect()
}
