//! What a service answers beside A and AAAA, as configured: HTTPS and SVCB at its name, a name for each of its regions, SRV
//! below it. The last two are *derived* services: they come of another and follow all those that are configured, so
//! that an answer finds them by a tag as it finds any other.

use super::service::{Service, ServiceId};
use crate::dns::Name;
use crate::fleet::{InstanceId, RegionId};

/// Most regions that the records of one answer name.
pub const MAX_TIERS: usize = 4;

/// What a service answers beside addresses.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Beside {
    /// HTTPS records at its names.
    pub https: Option<Binding>,
    /// SVCB records at its names.
    pub svcb: Option<Binding>,
    /// The names of its regions, where they have some.
    pub regions: Box<[(RegionId, ServiceId)]>,
    /// The one that answers SRV.
    pub srv: Option<ServiceId>,
}

impl Beside {
    /// The one that answers for a region alone.
    #[must_use]
    pub fn region(&self, region: RegionId) -> Option<ServiceId> {
        self.regions.iter().find(|(of, _)| *of == region).map(|(_, derived)| *derived)
    }
}

/// SVCB or HTTPS records in service mode (RFC 9460): their parameters in wire format, around the hints.
#[derive(Clone, Debug, PartialEq)]
pub struct Binding {
    /// Parameters below `ipv4hint`: alpn, port.
    pub head: Box<[u8]>,
    /// Between the hints: ech.
    pub middle: Box<[u8]>,
    /// Whether there are hints.
    pub hints: bool,
    /// Most regions that have a record, 1..=[`MAX_TIERS`].
    pub tiers: u8,
}

/// What a service is of another one.
#[derive(Clone, Debug, PartialEq)]
pub enum Derived {
    /// One region alone.
    Region {
        /// Of which service.
        of: ServiceId,
        /// Which.
        region: RegionId,
    },
    /// SRV records.
    Srv(Srv),
}

impl Derived {
    /// The service that it comes of.
    #[must_use]
    pub fn of(&self) -> ServiceId {
        match self {
            Derived::Region { of, .. } => *of,
            Derived::Srv(srv) => srv.of,
        }
    }
}

/// SRV records of a service's instances (RFC 2782).
#[derive(Clone, Debug, PartialEq)]
pub struct Srv {
    /// The service whose instances they name.
    pub of: ServiceId,
    /// Most regions that have records, 1..=[`MAX_TIERS`].
    pub tiers: u8,
    /// By [`InstanceId`].
    pub targets: Box<[Target]>,
}

impl Srv {
    /// Where an instance is to be found; `None` for one that has no name of its own.
    #[must_use]
    pub fn target(&self, instance: InstanceId) -> Option<&Target> {
        let at = self.targets.binary_search_by_key(&instance, |target| target.instance).ok()?;
        Some(&self.targets[at])
    }
}

/// An instance as the target of a SRV record.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// Which.
    pub instance: InstanceId,
    /// Its port.
    pub port: u16,
    /// Its own name, which has its addresses.
    pub name: Name,
}

impl Service {
    /// Whether it comes of another service, and is not configured itself.
    #[must_use]
    pub fn is_derived(&self) -> bool {
        self.derived.is_some()
    }
}
