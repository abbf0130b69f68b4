//! Selectors that no client can ever reach: of all the places that addresses have, and all the networks of the map that
//! hold them, each pair that occurs is evaluated once, as for an order.

use std::collections::HashSet;

use super::plan::{Networks, networks_of};
use super::selector::{Indexed, Whereabouts};
use super::service::{Map, MapId, Part, Selector, Service, Steer};
use crate::geo::{Atlas, Place, PlaceId};

/// Most selectors that are named as those which win instead.
const MAX_WINNERS: usize = 3;

/// A selector that no client reaches.
#[derive(Clone, Debug, PartialEq)]
pub struct Unreached {
    /// Its map.
    pub map: MapId,
    /// Whether it is a fence, else an entry.
    pub is_fence: bool,
    /// Its number among these.
    pub number: usize,
    /// As written.
    pub text: String,
    /// Why.
    pub why: Why,
}

/// Why no client reaches a selector.
#[derive(Clone, Debug, PartialEq)]
pub enum Why {
    /// No address is said to have one of that kind at all: `city`.
    NoneOfKind(&'static str),
    /// No address has this: `country AQ`.
    Nobody(String),
    /// Each of its parts fits some address, all together none.
    NotTogether,
    /// Whoever it fits is fitted better by one of these, and so many more.
    Shadowed(Vec<String>, usize),
}

/// All selectors of maps in use that no address reaches: the first `most` of them, and how many there are.
#[must_use]
pub fn unreached(maps: &[Map], services: &[Service], atlas: &Atlas, most: usize) -> (Vec<Unreached>, usize) {
    let (mut shown, mut count) = (Vec::new(), 0);
    for (map, id) in maps.iter().zip((0..).map(MapId)) {
        let uses = || services.iter().filter(|service| service.map == Some(id));
        let survey = Survey::new(map, atlas);
        if uses().any(|service| service.steer == Steer::Geo) {
            let found = survey.entries();
            count += found.len();
            let left = most.saturating_sub(shown.len());
            shown.extend(found.into_iter().take(left).map(|(number, winners)| {
                let entry = &map.entries[number];
                let why = winners.unwrap_or_else(|| survey.why(&entry.selector));
                Unreached { map: id, is_fence: false, number, text: entry.text.clone(), why }
            }));
        }
        if uses().next().is_some() {
            let found = survey.fences();
            count += found.len();
            let left = most.saturating_sub(shown.len());
            shown.extend(found.into_iter().take(left).map(|number| {
                let fence = &map.fences[number];
                let why = survey.why(&fence.selector);
                Unreached { map: id, is_fence: true, number, text: fence.text.clone(), why }
            }));
        }
    }
    (shown, count)
}

/// Everybody that a map can meet.
struct Survey<'a> {
    map: Indexed<'a>,
    atlas: &'a Atlas,
    networks: Networks,
    pairs: Vec<(PlaceId, u32)>,
}

impl<'a> Survey<'a> {
    fn new(map: &'a Map, atlas: &'a Atlas) -> Survey<'a> {
        let networks = Networks::of(networks_of(map));
        let mut outside = vec![false; atlas.places().len()];
        let mut inside = HashSet::new();
        let mut pairs = Vec::new();
        atlas.map().each_stretch(&networks.table, |_, _, place, set| {
            let is_new = match set {
                0 => !std::mem::replace(&mut outside[place.0 as usize], true),
                _ => inside.insert((place, set)),
            };
            if is_new {
                pairs.push((place, set));
            }
        });
        Survey { map: Indexed::new(map), atlas, networks, pairs }
    }

    fn clients(&self) -> impl Iterator<Item = Whereabouts<'_>> {
        let whereabouts = |&(place, set): &(PlaceId, u32)| Whereabouts {
            place: self.atlas.place(place),
            networks: &self.networks.sets[set as usize],
        };
        self.pairs.iter().map(whereabouts)
    }

    /// Numbers of the entries that win nowhere, and what wins instead of those that fit somewhere.
    fn entries(&self) -> Vec<(usize, Option<Why>)> {
        let Indexed { map: Map { entries, .. }, entries: selectors, .. } = &self.map;
        let mut wins = vec![false; entries.len()];
        let mut losses: Vec<Option<(Vec<String>, usize)>> = vec![None; entries.len()];
        let mut known: HashSet<(usize, usize)> = HashSet::new();
        for client in self.clients() {
            let Some(at) = selectors.most_specific(client) else { continue };
            let best = &entries[at];
            wins[at] = true;
            for number in selectors.fitting(client).filter(|&number| !wins[number]) {
                let (winners, more) = losses[number].get_or_insert_default();
                if winners.contains(&best.text) {
                } else if winners.len() < MAX_WINNERS {
                    winners.push(best.text.clone());
                } else if known.insert((number, at)) {
                    *more += 1;
                }
            }
        }
        let lost = losses.into_iter().map(|lost| lost.map(|(winners, more)| Why::Shadowed(winners, more)));
        lost.enumerate().filter(|(number, _)| !wins[*number]).collect()
    }

    /// Numbers of the fences that hold nobody.
    fn fences(&self) -> Vec<usize> {
        let mut fits = vec![false; self.map.map.fences.len()];
        for client in self.clients() {
            self.map.fences.fitting(client).for_each(|number| fits[number] = true);
        }
        fits.iter().enumerate().filter(|(_, fits)| !**fits).map(|(number, _)| number).collect()
    }

    /// Why a selector fits nobody.
    fn why(&self, selector: &Selector) -> Why {
        for part in &selector.0 {
            let (kind, says): (&'static str, fn(&Place) -> bool) = match part {
                Part::Network(_) => continue,
                Part::As(_) => ("as", |place| place.as_number.is_some()),
                Part::City(_) => ("city", |place| place.city.is_some()),
                Part::Subdivision(_) => ("subdivision", |place| place.subdivision.is_some()),
                Part::Country(_) => ("country", |place| place.country.is_some()),
                Part::Continent(_) => ("continent", |place| place.continent.is_some()),
            };
            if !self.clients().any(|client| says(client.place)) {
                return Why::NoneOfKind(kind);
            }
            let alone = Selector(vec![part.clone()]);
            if !self.clients().any(|client| alone.fits(client)) {
                return Why::Nobody(words(part));
            }
        }
        Why::NotTogether
    }
}

/// `country AQ`.
fn words(part: &Part) -> String {
    match part {
        Part::Network(network) => network.to_string(),
        Part::As(number) => format!("as {number}"),
        Part::City(id) => format!("city {id}"),
        Part::Subdivision(code) => format!("subdivision {code}"),
        Part::Country(code) => format!("country {code}"),
        Part::Continent(code) => format!("continent {code}"),
    }
}
