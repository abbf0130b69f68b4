//! Which clients a map's entry or fence fits, and which of several entries is the most specific (SPEC 4.2).

use std::cmp::Ordering;
use std::collections::HashMap;

use ipnet::IpNet;

use super::service::{List, Map, MapEntry, Part, Selector};
use crate::fleet::RegionId;
use crate::geo::{Code, Place};

/// Where a client is, as far as selectors can ask.
#[derive(Clone, Copy, Debug)]
pub(super) struct Whereabouts<'a> {
    /// What geo data say.
    pub(super) place: &'a Place,
    /// Those of the map's own networks that hold the client.
    pub(super) networks: &'a [IpNet],
}

impl<'a> Whereabouts<'a> {
    /// All that parts of selectors may ask for and this client has.
    fn keys(self) -> impl Iterator<Item = Key<'a>> {
        let Whereabouts { place, networks } = self;
        let others = [
            place.as_number.map(Key::As),
            place.city.map(Key::City),
            place.subdivision.as_deref().map(Key::Subdivision),
            place.country.map(Key::Country),
            place.continent.map(Key::Continent),
        ];
        networks.iter().map(|network| Key::Network(*network)).chain(others.into_iter().flatten())
    }
}

impl Selector {
    /// Whether all conditions hold.
    #[must_use]
    pub(super) fn fits(&self, client: Whereabouts<'_>) -> bool {
        self.0.iter().all(|part| part.fits(client))
    }

    /// More specific is greater: the most specific part decides, then more parts, then the parts that follow.
    #[must_use]
    pub(super) fn specificity(&self, other: &Selector) -> Ordering {
        let (mine, theirs) = (self.ranks(), other.ranks());
        let first = mine.first().cmp(&theirs.first());
        first.then(mine.len().cmp(&theirs.len())).then_with(|| mine.cmp(&theirs))
    }

    /// Ranks of the parts, most specific first.
    fn ranks(&self) -> Vec<(u8, u8)> {
        let mut ranks: Vec<(u8, u8)> = self.0.iter().map(Part::rank).collect();
        ranks.sort_unstable_by(|a, b| b.cmp(a));
        ranks
    }

    /// The networks it names.
    pub(crate) fn networks(&self) -> impl Iterator<Item = IpNet> {
        self.0.iter().filter_map(|part| match part {
            Part::Network(network) => Some(*network),
            _ => None,
        })
    }
}

impl Part {
    fn fits(&self, client: Whereabouts<'_>) -> bool {
        let key = Key::of(self);
        client.keys().any(|of_client| of_client == key)
    }

    /// Kind, then prefix length.
    fn rank(&self) -> (u8, u8) {
        match self {
            Part::Network(network) => (6, network.prefix_len()),
            Part::As(_) => (5, 0),
            Part::City(_) => (4, 0),
            Part::Subdivision(_) => (3, 0),
            Part::Country(_) => (2, 0),
            Part::Continent(_) => (1, 0),
        }
    }
}

/// Entries of a map, or its fences, by the most specific part of each: of many only those few are looked at that name
/// something of the client.
pub(super) struct Selectors<'m, T> {
    entries: &'m [MapEntry<T>],
    by_part: HashMap<Key<'m>, Vec<usize>>,
}

/// What a [`Part`] asks for.
#[derive(PartialEq, Eq, Hash)]
enum Key<'m> {
    Network(IpNet),
    As(u32),
    City(u32),
    Subdivision(&'m str),
    Country(Code),
    Continent(Code),
}

impl<'m> Key<'m> {
    fn of(part: &'m Part) -> Key<'m> {
        match part {
            Part::Network(network) => Key::Network(*network),
            Part::As(number) => Key::As(*number),
            Part::City(id) => Key::City(*id),
            Part::Subdivision(code) => Key::Subdivision(code),
            Part::Country(code) => Key::Country(*code),
            Part::Continent(code) => Key::Continent(*code),
        }
    }
}

impl<'m, T> Selectors<'m, T> {
    pub(super) fn new(entries: &'m [MapEntry<T>]) -> Selectors<'m, T> {
        let mut by_part: HashMap<Key<'m>, Vec<usize>> = HashMap::new();
        for (number, entry) in entries.iter().enumerate() {
            // Loading sees to it that each has one.
            if let Some(part) = entry.selector.0.iter().max_by_key(|part| part.rank()) {
                by_part.entry(Key::of(part)).or_default().push(number);
            }
        }
        Selectors { entries, by_part }
    }

    /// Numbers of the entries that fit, in no order.
    pub(super) fn fitting<'c>(&'c self, client: Whereabouts<'c>) -> impl Iterator<Item = usize> + 'c {
        let named = client.keys().filter_map(|key| self.by_part.get(&key)).flatten().copied();
        named.filter(move |&number| self.entries[number].selector.fits(client))
    }

    /// Number of the most specific entry that fits; of equals the one that stands first.
    pub(super) fn most_specific(&self, client: Whereabouts<'_>) -> Option<usize> {
        let selector = |number: usize| &self.entries[number].selector;
        self.fitting(client).reduce(|best, number| match selector(number).specificity(selector(best)) {
            Ordering::Greater => number,
            Ordering::Equal => best.min(number),
            Ordering::Less => best,
        })
    }
}

/// A map, ready to be asked for many clients.
pub(super) struct Indexed<'m> {
    pub(super) map: &'m Map,
    pub(super) entries: Selectors<'m, List>,
    pub(super) fences: Selectors<'m, Vec<RegionId>>,
}

impl<'m> Indexed<'m> {
    pub(super) fn new(map: &'m Map) -> Indexed<'m> {
        Indexed { map, entries: Selectors::new(&map.entries), fences: Selectors::new(&map.fences) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(text: &str) -> MapEntry<()> {
        let part = |text: &str| match text.split_once(':') {
            Some(("as", n)) => Part::As(n.parse().expect("number")),
            Some(("city", n)) => Part::City(n.parse().expect("number")),
            Some(("subdivision", s)) => Part::Subdivision(s.into()),
            Some(("country", c)) => Part::Country(Code::parse(c).expect("code")),
            Some(("continent", c)) => Part::Continent(Code::parse(c).expect("code")),
            _ => Part::Network(text.parse().expect("a prefix")),
        };
        MapEntry { text: text.into(), selector: Selector(text.split(',').map(part).collect()), value: () }
    }

    #[test]
    fn the_most_specific_entry_wins() {
        let networks: Vec<IpNet> = ["10.0.0.0/8", "10.1.0.0/16"].map(|net| net.parse().expect("net")).into();
        let place = Place {
            continent: Code::parse("EU"),
            country: Code::parse("DE"),
            subdivision: Some("DE-BE".into()),
            city: Some(7),
            as_number: Some(64500),
            coordinates: None,
        };
        let client = Whereabouts { place: &place, networks: &networks };
        let ladder = [
            "continent:EU",
            "country:DE",
            "continent:EU,country:DE",
            "subdivision:DE-BE",
            "city:7",
            "as:64500",
            "as:64500,continent:EU",
            "as:64500,country:DE",
            "as:64500,subdivision:DE-BE",
            "as:64500,continent:EU,country:DE",
            "as:64500,city:7,country:DE",
            "10.0.0.0/8",
            "10.0.0.0/8,as:64500",
            "10.1.0.0/16",
        ];
        for (index, wins) in ladder.iter().enumerate() {
            for loses in &ladder[..index] {
                for pair in [[wins, loses], [loses, wins]] {
                    let entries = pair.map(|text| entry(text));
                    let best = Selectors::new(&entries).most_specific(client).expect("one fits");
                    assert_eq!(&entries[best].text, wins, "over {loses}");
                }
            }
        }
        let others = ["continent:AS", "country:DE,as:1", "10.2.0.0/16", "city:8"].map(entry);
        assert_eq!(Selectors::new(&others).most_specific(client), None);
        // Of equals the first counts.
        let equals = ["continent:AS", "country:DE", "country:DE", "continent:EU"].map(entry);
        assert_eq!(Selectors::new(&equals).most_specific(client), Some(1));
    }
}
