//! `steer = "geo"`: the map entry that fits the client best says the order (SPEC 4.2).

use super::nearest::{by_distance, distances, position};
use super::order::Ranking;
use super::selector::{Indexed, Whereabouts};
use super::service::{Element, List, TOLERANCE, Within};
use super::trace::Trace;
use crate::fleet::{Fleet, RegionId};
use crate::geo::Coordinates;

/// The order of `present` regions for a client.
pub(super) fn order<T: Trace>(
    indexed: &Indexed<'_>,
    client: Whereabouts<'_>,
    fleet: &Fleet,
    present: &[RegionId],
    trace: &mut T,
) -> Ranking {
    let map = indexed.map;
    let list = match indexed.entries.most_specific(client).map(|number| &map.entries[number]) {
        Some(entry) => {
            trace.note("entry", || format!("map {}: {} fits best", map.name, entry.text));
            &entry.value
        }
        None => {
            trace.note("entry", || format!("map {}: no entry fits, default", map.name));
            &map.default
        }
    };
    let order = resolve(list, map.within, position(client.place), fleet, present);
    trace.note("order", || distances(fleet, &order.regions, position(client.place)));
    order
}

/// A list for a client at `client`, reduced to the regions that are `present`.
pub(super) fn resolve(
    list: &List,
    within: Within,
    client: Option<Coordinates>,
    fleet: &Fleet,
    present: &[RegionId],
) -> Ranking {
    let listed = named(list);
    // Where nobody knows the client, distances are taken from the list's first region.
    let from = client.or_else(|| listed.first().and_then(|&first| fleet.region(first).location));
    let here = |regions: &[RegionId]| -> Vec<RegionId> {
        regions.iter().copied().filter(|region| present.contains(region)).collect()
    };
    let mut order = Ranking::default();
    for element in list {
        match element {
            Element::Region(region) => order.extend(here(&[*region])),
            Element::Tier(tier) if within == Within::Listed => order.extend(here(tier)),
            Element::Tier(tier) if within == Within::Latency => {
                order.push_measured(by_distance(fleet, &here(tier), from), TOLERANCE);
            }
            Element::Tier(tier) => order.extend(by_distance(fleet, &here(tier), from)),
            Element::Split(split) => {
                order.push_split(split.iter().copied().filter(|(region, _)| present.contains(region)));
            }
            Element::Rest => {
                let is_rest = |region: &RegionId| !listed.contains(region) && !fleet.region(*region).only_named;
                let rest: Vec<RegionId> = present.iter().copied().filter(is_rest).collect();
                order.extend(by_distance(fleet, &rest, from));
            }
        }
    }
    order
}

/// All regions that a list names.
fn named(list: &List) -> Vec<RegionId> {
    let mut named = Vec::new();
    for element in list {
        match element {
            Element::Region(region) => named.push(*region),
            Element::Tier(tier) => named.extend(tier),
            Element::Split(split) => named.extend(split.iter().map(|(region, _)| *region)),
            Element::Rest => {}
        }
    }
    named
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::steering::fence::names;
    use crate::steering::testing::{map, world};

    #[test]
    fn lists_become_orders() {
        let fleet = world();
        let all: Vec<RegionId> = (0..fleet.regions.len() as u16).map(RegionId).collect();
        let dublin = Some(Coordinates { latitude: 53.3, longitude: -6.3 });
        let sydney = Some(Coordinates { latitude: -33.9, longitude: 151.2 });
        for (list, within, client, expected) in [
            ("us-east *", Within::Nearest, dublin, "us-east, eu-west, eu-central, ap-south, nowhere"),
            ("*", Within::Nearest, sydney, "ap-south, us-east, eu-central, eu-west, nowhere"),
            ("ap-south *", Within::Nearest, None, "ap-south, eu-central, eu-west, us-east, nowhere"),
            ("*", Within::Nearest, None, "eu-west, eu-central, us-east, ap-south, nowhere"),
            ("us-east+eu-west ap-south", Within::Nearest, dublin, "eu-west, us-east, ap-south"),
            ("us-east+eu-west ap-south", Within::Listed, dublin, "us-east, eu-west, ap-south"),
            ("hidden *", Within::Nearest, dublin, "hidden, eu-west, eu-central, us-east, ap-south, nowhere"),
            ("eu-west", Within::Nearest, sydney, "eu-west"),
        ] {
            let list = map(&fleet, list, &[]).default;
            assert_eq!(names(&fleet, &resolve(&list, within, client, &fleet, &all).regions), expected, "{list:?}");
        }
        let list = map(&fleet, "us-east *", &[]).default;
        assert_eq!(
            names(&fleet, &resolve(&list, Within::Nearest, dublin, &fleet, &[RegionId(1)]).regions),
            "eu-central"
        );
    }
}
