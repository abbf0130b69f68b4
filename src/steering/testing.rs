//! A small world for the unit tests of steering.

use ipnet::IpNet;

use super::service::{Element, FenceUnknown, List, Map, MapEntry, Part, Selector, Within};
use crate::fleet::{Fleet, Region, RegionId};
use crate::geo::Coordinates;

/// eu-west (Dublin), eu-central (Frankfurt), us-east (Virginia), ap-south (Singapore), nowhere (no location), hidden
/// (only named, in Dublin).
pub(crate) fn world() -> Fleet {
    let region = |(name, location): (&str, Option<(f64, f64)>)| Region {
        name: name.into(),
        location: location.map(|(latitude, longitude)| Coordinates { latitude, longitude }),
        bias: 0,
        only_named: name == "hidden",
    };
    let regions = [
        ("eu-west", Some((53.3, -6.3))),
        ("eu-central", Some((50.1, 8.7))),
        ("us-east", Some((38.9, -77.0))),
        ("ap-south", Some((1.3, 103.8))),
        ("nowhere", None),
        ("hidden", Some((53.3, -6.3))),
    ];
    Fleet { regions: regions.map(region).into(), ..Fleet::default() }
}

/// A map from short lists: `eu-west+us-east *`; entries are prefixes.
pub(crate) fn map(fleet: &Fleet, default: &str, entries: &[(&str, &str)]) -> Map {
    let region = |name: &str| {
        let at = fleet.regions.iter().position(|region| region.name == name).expect("a region");
        RegionId(at as u16)
    };
    let element = |text: &str| match text {
        "*" => Element::Rest,
        tier if tier.contains('+') => Element::Tier(tier.split('+').map(region).collect()),
        name => Element::Region(region(name)),
    };
    let list = |text: &str| -> List { text.split_whitespace().map(element).collect() };
    let entry = |(text, value): &(&str, &str)| MapEntry {
        text: (*text).into(),
        selector: Selector(vec![Part::Network(text.parse::<IpNet>().expect("a prefix"))]),
        value: list(value),
    };
    Map {
        name: "test".into(),
        within: Within::Nearest,
        fence_unknown: FenceUnknown::Default,
        default: list(default),
        entries: entries.iter().map(entry).collect(),
        fences: Vec::new(),
    }
}
