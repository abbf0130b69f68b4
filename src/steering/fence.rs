//! Fences: hard limits on the regions of a client, whatever else steers (SPEC 4.3).

use super::selector::Whereabouts;
use super::service::{FenceUnknown, Map};
use super::trace::Trace;
use crate::fleet::{Fleet, RegionId};

/// The regions this client may be sent to: all matching fences intersected; `None` = any.
pub(super) fn allowed<T: Trace>(
    map: &Map,
    client: Whereabouts<'_>,
    fleet: &Fleet,
    trace: &mut T,
) -> Option<Vec<RegionId>> {
    let mut allowed: Option<Vec<RegionId>> = None;
    for fence in map.fences.iter().filter(|fence| fence.selector.fits(client)) {
        trace.note("fence", || format!("{} allows only {}", fence.text, names(fleet, &fence.value)));
        allowed = Some(match allowed {
            None => fence.value.clone(),
            Some(before) => before.into_iter().filter(|region| fence.value.contains(region)).collect(),
        });
    }
    let unknown = *client.place == crate::geo::Place::default();
    if allowed.is_none() && unknown && !map.fences.is_empty() && map.fence_unknown == FenceUnknown::Nodata {
        trace.note("fence", || "place unknown and fence-unknown = \"nodata\": no region is allowed".into());
        return Some(Vec::new());
    }
    allowed
}

/// `eu-west, us-east`.
#[must_use]
pub(super) fn names(fleet: &Fleet, regions: &[RegionId]) -> String {
    let names: Vec<&str> = regions.iter().map(|&region| fleet.region(region).name.as_str()).collect();
    if names.is_empty() { "none".into() } else { names.join(", ") }
}
