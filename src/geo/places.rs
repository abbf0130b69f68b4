//! Distinct places, numbered.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use super::Place;

/// Number of a place; 0 is the unknown one. Counts within one [`Atlas`](super::Atlas) or
/// [`Database`](super::Database).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PlaceId(pub u32);

impl PlaceId {
    /// Of the place of which nothing is known.
    pub const UNKNOWN: PlaceId = PlaceId(0);
}

/// Places by number; cheap to copy.
#[derive(Clone, Debug)]
pub(super) struct Places(Arc<[Place]>);

impl Places {
    pub(super) fn as_slice(&self) -> &[Place] {
        &self.0
    }

    pub(super) fn get(&self, id: PlaceId) -> &Place {
        &self.0[id.0 as usize]
    }
}

/// Gives equal places one number.
#[derive(Debug)]
pub(super) struct Interner {
    places: Vec<Place>,
    /// By hash; where another place sits there already, by the next number that is free.
    ids: NumberMap<PlaceId>,
}

impl Interner {
    pub(super) fn new() -> Interner {
        let mut interner = Interner { places: Vec::new(), ids: HashMap::default() };
        interner.intern(Place::UNKNOWN);
        interner
    }

    pub(super) fn intern(&mut self, place: Place) -> PlaceId {
        let mut key = hash(&place);
        while let Some(&id) = self.ids.get(&key) {
            if self.places[id.0 as usize] == place {
                return id;
            }
            key = key.wrapping_add(1);
        }
        let id = PlaceId(u32::try_from(self.places.len()).expect("2^32 places do not fit in memory"));
        self.ids.insert(key, id);
        self.places.push(place);
        id
    }

    /// Number of places, the unknown one included.
    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    pub(super) fn finish(self) -> Places {
        Places(self.places.into())
    }
}

fn hash(place: &Place) -> u64 {
    let mut hasher = DefaultHasher::new();
    (place.continent, place.country, &place.subdivision, place.city, place.as_number).hash(&mut hasher);
    place.coordinates.map(|point| (point.latitude.to_bits(), point.longitude.to_bits())).hash(&mut hasher);
    hasher.finish()
}

/// A table of numbers that come from whom the operator trusts, looked up millions of times in one load, or for each answer.
pub(crate) type NumberMap<V> = HashMap<u64, V, BuildHasherDefault<NumberHasher>>;

/// Multiplies and folds; `u64` only.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct NumberHasher(u64);

impl Hasher for NumberHasher {
    fn write(&mut self, octets: &[u8]) {
        octets.iter().for_each(|&octet| self.write_u64(octet.into()));
    }

    fn write_u64(&mut self, number: u64) {
        let product = u128::from(self.0 ^ number) * 0x9e37_79b9_7f4a_7c15;
        self.0 = (product >> 64) as u64 ^ product as u64;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_places_have_one_number() {
        let mut interner = Interner::new();
        let place = |as_number| Place { as_number, ..Place::UNKNOWN };
        let ids: Vec<u32> = [None, Some(1), Some(2), Some(1), None].map(|n| interner.intern(place(n)).0).into();
        assert_eq!(ids, [0, 1, 2, 1, 0]);
        let places = interner.finish();
        assert_eq!(places.get(PlaceId(2)).as_number, Some(2));
        assert!(places.get(PlaceId::UNKNOWN).is_unknown());
    }
}
