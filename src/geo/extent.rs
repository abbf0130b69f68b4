//! How much a source of places says, and whether a newer version of it can be meant: a file that was cut, emptied or
//! mixed up on its way still reads as a data base, and would send everybody elsewhere.
//!
//! All addresses are looked at, not a sample of them: both versions are maps of runs, and one pass over these is exact.
//! Shares are of all IPv4 addresses, and of 2000::/3 for IPv6, where all clients are.

use std::net::IpAddr;

use super::place::PARTS;
use super::{Place, PlaceId, RangeMap};

/// A newer version that says less than this share of what was said before is doubted.
const LEAST_SHARE: f64 = 0.5;
/// Coordinates that moved no farther mean the same place: publishers move those of countries now and then.
const SAME_PLACE_KM: f64 = 500.0;

/// What a source says, address by address.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    /// Address → place.
    pub map: &'a RangeMap<PlaceId>,
    /// By [`PlaceId`].
    pub places: &'a [Place],
}

impl Known<'_> {
    fn place(&self, id: PlaceId) -> &Place {
        &self.places[id.0 as usize]
    }
}

/// A number for each family (IPv4, IPv6) and each of [`PARTS`].
type Shares = [[f64; PARTS.len()]; 2];

/// How much a source says.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Extent {
    /// Stretches of addresses with one known place, by family.
    pub networks: [usize; 2],
    /// By family and [`PARTS`]: the share of the addresses of which that is said, 0 to 1.
    pub shares: Shares,
}

impl Extent {
    /// Measures a source in one pass.
    pub fn of(known: Known<'_>) -> Extent {
        let mut extent = Extent::default();
        known.map.each_run(|first, last, id| {
            if id != PlaceId::UNKNOWN {
                extent.networks[family(first)] += 1;
                add(&mut extent.shares, known.place(id).given(), first, last);
            }
        });
        extent
    }
}

/// Why `after` cannot be meant to follow `before`, in words; `None` when it can: it says at least half as much of
/// everything that was said, and of that at least half is the same.
pub fn doubt(before: Known<'_>, after: Known<'_>) -> Option<String> {
    let (had, has) = (Extent::of(before), Extent::of(after));
    let mut same = Shares::default();
    before.map.each_stretch(after.map, |first, last, old, new| {
        if old != PlaceId::UNKNOWN && new != PlaceId::UNKNOWN {
            add(&mut same, before.place(old).agrees(after.place(new), SAME_PLACE_KM), first, last);
        }
    });
    let lost = each(&had.shares).find(|&(family, part, share)| has.shares[family][part] < share * LEAST_SHARE);
    if let Some((family, part, share)) = lost {
        let now = percent(has.shares[family][part]);
        let (part, family) = (PARTS[part], FAMILIES[family]);
        return Some(format!(
            "more than half empty: it says {part} of {now} of {family}, of {} before",
            percent(share)
        ));
    }
    let moved = each(&had.shares).find(|&(family, part, share)| same[family][part] < share * LEAST_SHARE);
    if let Some((family, part, share)) = moved {
        let kept = percent(same[family][part] / share);
        let (part, family) = (PARTS[part], FAMILIES[family]);
        return Some(format!("moves too much: {part} is the same for only {kept} of what was known of {family}"));
    }
    let (old, new): (usize, usize) = (had.networks.iter().sum(), has.networks.iter().sum());
    let few = (new as f64) < old as f64 * LEAST_SHARE;
    few.then(|| format!("more than half empty: it tells {new} networks apart, {old} before"))
}

const FAMILIES: [&str; 2] = ["IPv4", "IPv6"];

/// Family, part and share of all that is said.
fn each(shares: &Shares) -> impl Iterator<Item = (usize, usize, f64)> {
    let of_family = move |family: usize| (0..PARTS.len()).map(move |part| (family, part, shares[family][part]));
    (0..FAMILIES.len()).flat_map(of_family).filter(|(_, _, share)| *share > 0.0)
}

fn family(address: IpAddr) -> usize {
    usize::from(address.is_ipv6())
}

fn add(shares: &mut Shares, parts: [bool; PARTS.len()], first: IpAddr, last: IpAddr) {
    let size = share(first, last);
    let shares = &mut shares[family(first)];
    shares.iter_mut().zip(parts).filter(|(_, said)| *said).for_each(|(share, _)| *share += size);
}

/// What share of its family the addresses from `first` to `last` are.
fn share(first: IpAddr, last: IpAddr) -> f64 {
    match (first, last) {
        (IpAddr::V4(first), IpAddr::V4(last)) => {
            (f64::from(last.to_bits() - first.to_bits()) + 1.0) / (f64::from(u32::MAX) + 1.0)
        }
        (IpAddr::V6(first), IpAddr::V6(last)) => {
            const UNICAST: (u128, u128) = (0x2000 << 112, (0x4000 << 112) - 1);
            let (first, last) = (first.to_bits().max(UNICAST.0), last.to_bits().min(UNICAST.1));
            let size = last.checked_sub(first).map_or(0.0, |size| size as f64 + 1.0);
            size / (UNICAST.1 - UNICAST.0) as f64
        }
        _ => 0.0,
    }
}

/// `41 %`, `0.02 %`.
fn percent(share: f64) -> String {
    let percent = share * 100.0;
    if percent == 0.0 || percent >= 10.0 { format!("{percent:.0} %") } else { format!("{percent:.2} %") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geo::{Atlas, Code, Coordinates, Data, Network};

    fn atlas(networks: &[(&str, Place)]) -> Atlas {
        let network =
            |(prefix, place): &(&str, Place)| Network { prefix: prefix.parse().unwrap(), place: place.clone() };
        Atlas::compile(&Data { networks: networks.iter().map(network).collect(), databases: Vec::new() })
    }

    fn country(code: &str) -> Place {
        Place { country: Code::parse(code), ..Place::UNKNOWN }
    }

    fn at(latitude: f64) -> Place {
        Place { coordinates: Some(Coordinates { latitude, longitude: 7.0 }), ..Place::UNKNOWN }
    }

    fn as_number(number: u32) -> Place {
        Place { as_number: Some(number), ..Place::UNKNOWN }
    }

    #[track_caller]
    fn says(before: &[(&str, Place)], after: &[(&str, Place)], words: &str) {
        let (before, after) = (atlas(before), atlas(after));
        let doubt = doubt(before.known(), after.known()).unwrap_or_default();
        assert!(doubt.contains(words) && words.is_empty() == doubt.is_empty(), "{doubt:?}, expected {words:?}");
    }

    #[test]
    fn what_is_said_is_measured() {
        let extent = Extent::of(
            atlas(&[
                ("10.0.0.0/8", country("DE")),
                ("11.0.0.0/8", at(50.0)),
                ("2000::/4", as_number(1)),
                ("4000::/3", as_number(2)),
            ])
            .known(),
        );
        assert_eq!(extent.networks, [2, 2]);
        let shares = extent.shares.map(|shares| shares.map(|share| (share * 512.0).round()));
        assert_eq!(shares, [[2.0, 2.0, 0.0, 0.0, 0.0, 2.0], [0.0, 0.0, 0.0, 0.0, 256.0, 0.0]]);
    }

    #[test]
    fn what_lost_or_moved_more_than_half_is_doubted() {
        let four = ["10.0.0.0/8", "12.0.0.0/8", "14.0.0.0/8", "16.0.0.0/8"];
        let of = |codes: [&str; 4]| four.into_iter().zip(codes.map(country)).collect::<Vec<_>>();
        let before = of(["DE", "FR", "US", "JP"]);
        says(&before, &before, "");
        says(&before, &of(["DE", "FR", "GB", "GB"]), "");
        says(&before, &of(["GB", "GB", "GB", "GB"]), "country is the same for only 0 %");
        says(&before, &of(["DE", "US", "GB", "CN"]), "country is the same for only 25 %");
        says(&before, &before[..2], "");
        says(&before, &before[..1], "says continent of 0.39 % of IPv4, of 1.56 % before");
        says(&before, &[], "more than half empty");
        says(&[], &before, "");
        let grown: Vec<_> = before.iter().cloned().chain([("20.0.0.0/6", country("BR"))]).collect();
        says(&before, &grown, "");
    }

    #[test]
    fn every_part_and_family_counts() {
        says(&[("10.0.0.0/8", as_number(1))], &[("10.0.0.0/8", as_number(2))], "as is the same for only 0 %");
        says(&[("10.0.0.0/8", as_number(1))], &[("10.0.0.0/8", country("DE"))], "it says as of 0 %");
        says(&[("10.0.0.0/8", at(50.0))], &[("10.0.0.0/8", at(53.0))], "");
        says(&[("10.0.0.0/8", at(50.0))], &[("10.0.0.0/8", at(57.0))], "coordinates is the same for only 0 %");
        let both = [("10.0.0.0/8", country("DE")), ("2a00::/16", country("DE"))];
        says(&both, &both[..1], "continent of 0 % of IPv6");
        says(&both, &both[1..], "continent of 0 % of IPv4");
    }

    /// The whole space is kept, in one piece of what were many.
    #[test]
    fn few_networks_are_doubted() {
        let small = |at: u8| -> (String, Place) { (format!("10.{at}.0.0/24"), as_number(u32::from(at) + 1)) };
        let many: Vec<(String, Place)> = (0..40).map(small).collect();
        let mut before: Vec<(&str, Place)> = many.iter().map(|(prefix, place)| (&**prefix, place.clone())).collect();
        before.push(("64.0.0.0/2", as_number(99)));
        says(&before, &before[30..], "it tells 11 networks apart, 41 before");
    }
}
