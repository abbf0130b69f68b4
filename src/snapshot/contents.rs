//! What a copy of a zone holds: its static records as they are, and for each steered name a picture of what stands there.
//!
//! Who copies a zone cannot steer. At a steered name he gets the addresses of all instances that may be answered (a weight
//! above 0), whatever their health, with the least TTL of the service: what differs from client to client, or changes
//! with health, would be out of date at once. What else a service makes (HTTPS, SVCB, SRV, a CNAME) is left out.

use std::net::IpAddr;
use std::ops::ControlFlow;

use crate::dns::RecordType;
use crate::fleet::Family;
use crate::steering::beside::Derived;
use crate::steering::{ServiceId, Steering};
use crate::zone::{Authority, Node, ZoneId};

/// Most addresses of a family at a steered name: no server that copies them could answer with more.
const MOST_ADDRESSES: usize = 1000;

/// A zone as it is copied.
#[derive(Clone, Copy, Debug)]
pub struct Contents<'a> {
    /// Where its records are.
    pub authority: &'a Authority,
    /// Which zone.
    pub zone: ZoneId,
    /// What stands at steered names; `None` = that is left out.
    pub steering: Option<&'a Steering>,
}

impl Contents<'_> {
    /// Hands out type, TTL and data of each record at a node but for the SOA, RRset by RRset, until `each` breaks off.
    pub fn each_at<B>(
        &self,
        node: Node<'_>,
        mut each: impl FnMut(RecordType, u32, &[u8]) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        for rrset in node.rrsets().filter(|rrset| rrset.rtype != RecordType::SOA) {
            let ttl = rrset.ttl();
            rrset.rdatas().try_for_each(|rdata| each(rrset.rtype, ttl, rdata))?;
        }
        let Some((steering, service)) = self.steered_at(node) else { return ControlFlow::Continue(()) };
        let ttl = steering.service(service).manner.ttl.min;
        for family in Family::BOTH {
            for address in addresses(steering, service, family) {
                match address {
                    IpAddr::V4(address) => each(RecordType::A, ttl, &address.octets())?,
                    IpAddr::V6(address) => each(RecordType::AAAA, ttl, &address.octets())?,
                }
            }
        }
        ControlFlow::Continue(())
    }

    /// The service whose addresses stand at a node.
    pub fn steered_at(&self, node: Node<'_>) -> Option<(&Steering, ServiceId)> {
        let (steering, tag) = (self.steering?, node.tag()?);
        // Other names that are not static say who asks.
        ((tag as usize) < steering.services.len()).then_some((steering, ServiceId(tag)))
    }
}

/// The addresses of a family of all instances of a service, sorted.
fn addresses(steering: &Steering, service: ServiceId, family: Family) -> Vec<IpAddr> {
    let (fleet, configured) = (&steering.fleet, &steering.service(service).configured.service);
    let only = match configured.derived.as_deref() {
        Some(Derived::Srv(_)) => return Vec::new(),
        Some(Derived::Region { region, .. }) => Some(*region),
        None => None,
    };
    let instances = fleet.parts_of(configured.pool).flat_map(|part| &fleet.pool(part).instances);
    let enabled = instances.map(|&id| fleet.instance(id)).filter(|instance| instance.weight > 0);
    let of_region = enabled.filter(|instance| only.is_none_or(|region| instance.regions.contains(&region)));
    let all = of_region.flat_map(|instance| &instance.addresses).map(|address| address.ip);
    let mut addresses: Vec<IpAddr> = all.filter(|ip| Family::of(*ip) == family).collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses.truncate(MOST_ADDRESSES);
    addresses
}
