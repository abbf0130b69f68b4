//! `steer = "nearest"`: great-circle distance, biased; those about as near as the nearest are equals (SPEC 4.4).

use super::geo;
use super::order::{By, Ranking};
use super::service::Map;
use super::trace::Trace;
use crate::fleet::{Fleet, Region, RegionId};
use crate::geo::{Coordinates, Place, distance_km};

/// Where a client is: its coordinates, else the middle of its country.
#[must_use]
pub(super) fn position(place: &Place) -> Option<Coordinates> {
    place.coordinates_or_centroid()
}

/// The order of `present` regions for a client; about as near as the nearest are equals.
pub(super) fn order<T: Trace>(
    map: Option<&Map>,
    tolerance: u16,
    place: &Place,
    fleet: &Fleet,
    present: &[RegionId],
    trace: &mut T,
) -> Ranking {
    let Some(client) = position(place) else {
        let (how, order) = of_unknown(map, fleet, present);
        trace.note("order", || format!("{how}: {}", super::fence::names(fleet, &order.regions)));
        return order;
    };
    let order = with_bias(fleet, &open(fleet, present), client);
    let nearest = order.first().map_or(0.0, |first| first.0);
    let limit = nearest * (1.0 + f64::from(tolerance) / 10_000.0);
    // Regions without a location are never near, not even equals of each other.
    let equals = order.iter().take_while(|(distance, _)| distance.is_finite() && *distance <= limit).count().max(1);
    trace.note("order", || {
        let shown: Vec<String> = order.iter().map(|&(km, region)| with_distance(fleet, region, km)).collect();
        let biased = order.iter().any(|(_, region)| fleet.region(*region).bias != 0);
        let by_bias = if biased { ", by `bias`" } else { "" };
        format!("nearest first{by_bias}: {}{}", shown.join(", "), equal(equals, tolerance))
    });
    Ranking::fixed(order.into_iter().map(|(_, region)| region).collect()).with_run(equals, By::Weights)
}

/// Those that need not be named.
#[must_use]
pub(super) fn open(fleet: &Fleet, present: &[RegionId]) -> Vec<RegionId> {
    present.iter().copied().filter(|&region| !fleet.region(region).only_named).collect()
}

/// The order for clients whose place nobody knows, and where it comes from.
#[must_use]
pub(super) fn of_unknown(map: Option<&Map>, fleet: &Fleet, present: &[RegionId]) -> (&'static str, Ranking) {
    match map.filter(|map| !map.default.is_empty()) {
        Some(map) => ("place unknown, the map's default", geo::resolve(&map.default, map.within, None, fleet, present)),
        None => ("place unknown, configured order", Ranking::fixed(open(fleet, present))),
    }
}

/// `; the first 2 are equals, within 5%`.
fn equal(equals: usize, tolerance: u16) -> String {
    let percent = f64::from(tolerance) / 100.0;
    if equals > 1 { format!("; the first {equals} are equals, within {percent}%") } else { String::new() }
}

/// `eu-west (1855 km)`.
fn with_distance(fleet: &Fleet, region: RegionId, km: f64) -> String {
    let name = &fleet.region(region).name;
    if km.is_finite() { format!("{name} ({km:.0} km)") } else { format!("{name} (no location)") }
}

/// Regions in order, each with its distance from a client whose position is known.
#[must_use]
pub(super) fn distances(fleet: &Fleet, regions: &[RegionId], from: Option<Coordinates>) -> String {
    let Some(from) = from else { return super::fence::names(fleet, regions) };
    let distance = |region: RegionId| fleet.region(region).location.map_or(f64::INFINITY, |at| distance_km(from, at));
    let shown: Vec<String> = regions.iter().map(|&region| with_distance(fleet, region, distance(region))).collect();
    if shown.is_empty() { "none".into() } else { shown.join(", ") }
}

/// Regions by biased distance from a point, with that distance; those without location last, in the order given.
fn with_bias(fleet: &Fleet, regions: &[RegionId], client: Coordinates) -> Vec<(f64, RegionId)> {
    let distance = |region: RegionId| biased_km(fleet.region(region), client).unwrap_or(f64::INFINITY);
    let mut order: Vec<(f64, RegionId)> = regions.iter().map(|&region| (distance(region), region)).collect();
    order.sort_by(|a, b| a.0.total_cmp(&b.0));
    order
}

/// The same without the distance.
#[must_use]
pub(super) fn by_bias(fleet: &Fleet, regions: &[RegionId], client: Coordinates) -> Vec<RegionId> {
    with_bias(fleet, regions, client).into_iter().map(|(_, region)| region).collect()
}

/// Regions by distance from a point, those without location last, in the order given among equals.
#[must_use]
pub(super) fn by_distance(fleet: &Fleet, regions: &[RegionId], from: Option<Coordinates>) -> Vec<RegionId> {
    let Some(from) = from else { return regions.to_vec() };
    let distance = |region: RegionId| match fleet.region(region).location {
        Some(location) => distance_km(from, location),
        None => f64::INFINITY,
    };
    let mut order: Vec<(f64, RegionId)> = regions.iter().map(|&region| (distance(region), region)).collect();
    order.sort_by(|a, b| a.0.total_cmp(&b.0));
    order.into_iter().map(|(_, region)| region).collect()
}

/// What the distance of a region counts as, by its bias; `None` without a location.
#[must_use]
pub fn biased_km(region: &Region, client: Coordinates) -> Option<f64> {
    let distance = distance_km(client, region.location?);
    let bias = f64::from(region.bias) / 100.0;
    Some(if bias >= 0.0 { distance * (1.0 - bias) } else { distance / (1.0 + bias) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::steering::fence::names;
    use crate::steering::testing::{map, world};
    use crate::steering::trace::Silent;

    #[test]
    fn the_nearest_come_first() {
        let mut fleet = world();
        let all: Vec<RegionId> = (0..fleet.regions.len() as u16).map(RegionId).collect();
        let at =
            |latitude, longitude| Place { coordinates: Some(Coordinates { latitude, longitude }), ..Place::default() };
        let country = |code| Place { country: crate::geo::Code::parse(code), ..Place::default() };
        let (default, none) = (map(&fleet, "ap-south us-east", &[]), map(&fleet, "", &[]));
        for (map, tolerance, place, bias, expected, equals) in [
            (None, 500, at(53.0, -6.0), 0, "eu-west, eu-central, us-east, ap-south, nowhere", 1),
            (None, 500, country("SG"), 0, "ap-south, eu-central, eu-west, us-east, nowhere", 1),
            // Between Dublin and Frankfurt, a little nearer to Dublin.
            (None, 0, at(52.1, 0.9), 0, "eu-west, eu-central, us-east, ap-south, nowhere", 1),
            (None, 2000, at(52.1, 0.9), 0, "eu-west, eu-central, us-east, ap-south, nowhere", 2),
            (None, 0, at(52.1, 0.9), -20, "eu-central, eu-west, us-east, ap-south, nowhere", 1),
            (None, 500, Place::default(), 0, "eu-west, eu-central, us-east, ap-south, nowhere", 1),
            (Some(&default), 500, Place::default(), 0, "ap-south, us-east", 1),
            (Some(&none), 500, Place::default(), 0, "eu-west, eu-central, us-east, ap-south, nowhere", 1),
        ] {
            fleet.regions[0].bias = bias;
            let order = order(map, tolerance, &place, &fleet, &all, &mut Silent);
            let first = order.runs.first().map_or(1, |run| run.to);
            assert_eq!(
                (names(&fleet, &order.regions).as_str(), first),
                (expected, equals),
                "{place:?} {tolerance} {bias}"
            );
        }
    }
}
