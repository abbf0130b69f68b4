//! Kinds of answer, and what is asked to get them.

use clap::ValueEnum;

use crate::support::query::{Query, Type};

/// Static names in the zone.
pub(crate) const HOSTS: usize = 1000;

/// A kind of answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// One address from the zone file; 1000 names in turn, no client subnet
    Static,
    /// The three addresses of the region that the client's continent leads to; random /24 clients
    Geo,
    /// One of three addresses, drawn by weight; random /24 clients
    Weighted,
    /// One of the region's three addresses, drawn by weight; random /24 clients
    GeoWeighted,
    /// One of 30 addresses, always the same one for a client; random /24 clients
    Sticky,
    /// One address of the nearest region by distance; random /24 clients
    Nearest,
    /// One address of the best region by round-trip times, measured for 100 000 prefixes; random /24 clients
    Latency,
}

impl Kind {
    /// In the order of the table.
    pub(crate) const ALL: [Kind; 7] =
        [Kind::Static, Kind::Geo, Kind::Weighted, Kind::GeoWeighted, Kind::Sticky, Kind::Nearest, Kind::Latency];

    /// As it is called on the command line and in the table.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Static => "static",
            Kind::Geo => "geo",
            Kind::Weighted => "weighted",
            Kind::GeoWeighted => "geo-weighted",
            Kind::Sticky => "sticky",
            Kind::Nearest => "nearest",
            Kind::Latency => "latency",
        }
    }

    /// Queries to ask in turn.
    pub(crate) fn queries(self) -> Vec<Query> {
        match self {
            Kind::Static => {
                (1..=HOSTS).map(|host| Query::new(&format!("h{host}.example.com"), Type::A, false)).collect()
            }
            steered => vec![Query::new(&format!("{}.example.com", steered.name()), Type::A, true)],
        }
    }

    /// Addresses of an answer.
    pub(crate) fn answers(self) -> u16 {
        if self == Kind::Geo { 3 } else { 1 }
    }

    /// Whether a client always gets the same answer, from whichever server.
    pub(crate) fn is_certain(self) -> bool {
        matches!(self, Kind::Static | Kind::Geo)
    }
}
