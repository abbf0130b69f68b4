//! Fences: hard limits on the regions of a client, whatever else steers (SPEC 4.3).

use smallvec::SmallVec;

use super::selector::{Indexed, Whereabouts};
use super::service::FenceUnknown;
use super::trace::Trace;
use crate::fleet::{Fleet, RegionId};

/// The regions this client may be sent to: all matching fences intersected; `None` = any.
pub(super) fn allowed<T: Trace>(
    indexed: &Indexed<'_>,
    client: Whereabouts<'_>,
    fleet: &Fleet,
    trace: &mut T,
) -> Option<Vec<RegionId>> {
    let mut allowed: Option<Vec<RegionId>> = None;
    let map = indexed.map;
    let mut fitting: SmallVec<[usize; 4]> = indexed.fences.fitting(client).collect();
    fitting.sort_unstable();
    for fence in fitting.into_iter().map(|number| &map.fences[number]) {
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
