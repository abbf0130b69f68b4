//! Where an address is: places, the data that says so, and one map of all addresses compiled from it.
//!
//! [`Data`] (networks and data bases) compiles to an [`Atlas`]: address → [`PlaceId`] → [`Place`]. What follows from a
//! place is computed once for each place, not for each network, and laid over the addresses with [`RangeMap::map`],
//! where equal neighbours merge and so widen the ECS scope (SPEC 7.5). No file is opened here.

mod atlas;
mod clouds;
mod countries;
mod database;
mod distance;
mod extent;
mod place;
mod places;
mod range_map;
mod record;

pub use atlas::{Atlas, Data, Network, Source};
pub use clouds::{PROVIDERS, Provider, cloud_region};
pub use countries::{centroid_of, continent_of};
pub use database::{Database, Described, Field};
pub use distance::distance_km;
pub use extent::{Extent, Known, doubt};
pub use place::{Code, Coordinates, PARTS, Place};
pub(crate) use places::NumberMap;
pub use places::PlaceId;
pub use range_map::RangeMap;

#[cfg(test)]
#[path = "../../tests/support/mmdb.rs"]
pub(crate) mod mmdb;
