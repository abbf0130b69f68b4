//! Where an address is: places, the data that says so, and prefix tables compiled from it.

mod database;
mod range_map;

pub use database::Database;
pub use range_map::RangeMap;

use std::fmt;

use ipnet::IpNet;

/// Degrees; latitude -90..=90, longitude -180..=180.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Coordinates {
    /// North positive.
    pub latitude: f64,
    /// East positive.
    pub longitude: f64,
}

/// Two ASCII letters in upper case: an ISO 3166-1 country or a continent (AF AN AS EU NA OC SA).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Code(pub [u8; 2]);

/// What is known of where a client is; every part is optional.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Place {
    /// Continent.
    pub continent: Option<Code>,
    /// Country.
    pub country: Option<Code>,
    /// ISO 3166-2 with its country, `US-CA`.
    pub subdivision: Option<Box<str>>,
    /// GeoNames id.
    pub city: Option<u32>,
    /// Autonomous system number.
    pub as_number: Option<u32>,
    /// Coordinates.
    pub coordinates: Option<Coordinates>,
}

/// A prefix and what the operator says of it; what is `None` comes from the data bases.
#[derive(Clone, Debug, PartialEq)]
pub struct Network {
    /// Clients in it; the longest match wins.
    pub prefix: IpNet,
    /// What is known.
    pub place: Place,
}

/// All that says where clients are: networks first, then the data bases in order.
#[derive(Debug, Default)]
pub struct Data {
    /// `[geo] networks`.
    pub networks: Vec<Network>,
    /// `[geo] databases`, in configured order.
    pub databases: Vec<Database>,
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&self.0).unwrap_or("??"))
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
