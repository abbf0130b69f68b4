//! Whether a failure is the target's: a probe that would leave by an interface without link (its cable pulled, the
//! switch beyond it dead) says nothing of the target (SPEC 2.1). Routes outlive the link, so the kernel lets such a probe
//! begin, and time runs out.
//!
//! So it is where a family has lost its addresses and a route is left: packets would come from the loopback interface.
//!
//! Only failures ask. The kernel's list of interfaces is read at most every [`FRESH_FOR`], and while all of them have a
//! link, and the family an address, nothing else is done: ten thousand failures cost as little as one.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::{Mutex, Once, PoisonError};
use std::time::{Duration, Instant};

use nix::ifaddrs::{InterfaceAddress, getifaddrs};
use nix::net::if_::InterfaceFlags;

use crate::fleet::Family;
use crate::health::Outcome;
use crate::probe::{Finding, reason};

/// How long the list of interfaces is gone by.
const FRESH_FOR: Duration = Duration::from_millis(50);
/// In place of a port: nothing is sent.
const NO_PORT: u16 = 9;
/// Said once.
static CANNOT_LOOK: Once = Once::new();
/// What an interface with a link is.
const RUNNING: InterfaceFlags = InterfaceFlags::from_bits_truncate(
    InterfaceFlags::IFF_UP.bits() | InterfaceFlags::IFF_RUNNING.bits() | InterfaceFlags::IFF_LOWER_UP.bits(),
);

/// Interfaces of this node that have no link.
#[derive(Debug, Default)]
pub(super) struct Links(Mutex<Option<Looked>>);

/// What the last look at the interfaces saw.
#[derive(Debug)]
struct Looked {
    at: Instant,
    without_link: Vec<Interface>,
    /// By family: whether some interface with a link has an address that others could answer to.
    has_address: [bool; 2],
}

impl Looked {
    fn at(now: Instant, all: impl Iterator<Item = InterfaceAddress>) -> Looked {
        let (with, without): (Vec<_>, Vec<_>) = all.partition(|one| has_link(one.flags));
        let with: Vec<IpAddr> = with.iter().filter_map(address).collect();
        let interface = |one: InterfaceAddress| Some(Interface { address: address(&one)?, name: one.interface_name });
        let is_of = |family| move |&address: &IpAddr| Family::of(address) == family && is_reachable(address);
        Looked {
            at: now,
            has_address: Family::BOTH.map(|family| with.iter().any(is_of(family))),
            // An address that an interface with a link has too is no sign of the other.
            without_link: without
                .into_iter()
                .filter_map(interface)
                .filter(|one| !with.contains(&one.address))
                .collect(),
        }
    }
}

/// An address of an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Interface {
    name: String,
    address: IpAddr,
}

impl Links {
    /// A failure as it was found, or what of this node explains it: that there is no link, or no route any more.
    /// `source` is the address that the probe came from, where its check names one.
    pub(super) fn excuse(&self, finding: Finding, source: Option<IpAddr>, target: IpAddr) -> Finding {
        if finding.outcome != Outcome::Fail {
            return finding;
        }
        self.own_fault(source, target, Instant::now()).unwrap_or(finding)
    }

    fn own_fault(&self, source: Option<IpAddr>, target: IpAddr, now: Instant) -> Option<Finding> {
        let mut looked = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if looked.as_ref().is_none_or(|looked| now.duration_since(looked.at) >= FRESH_FOR) {
            let interfaces = getifaddrs().inspect_err(|error| {
                CANNOT_LOOK.call_once(|| {
                    tracing::warn!(
                        "cannot look at this node's interfaces, so a link that is down goes unnoticed: {error}"
                    );
                });
            });
            *looked = Some(Looked::at(now, interfaces.into_iter().flatten()));
        }
        let Looked { without_link, has_address, .. } = looked.as_ref()?;
        let family = Family::of(target);
        if without_link.is_empty() && has_address[family as usize] {
            return None;
        }
        match leaves_from(source, target) {
            Ok(address) if address.is_loopback() && !target.is_loopback() => {
                Some(Finding::no_verdict(&format!("no {family} address on this node")))
            }
            Ok(address) => {
                let interface = without_link.iter().find(|interface| interface.address == address)?;
                Some(Finding::no_verdict(&format!("no link on {}", interface.name)))
            }
            Err(error) => Some(reason::of(&error, target)).filter(|finding| finding.outcome == Outcome::NoVerdict),
        }
    }
}

/// The address that packets to `target` come from, bound to `source` or not; sends nothing.
fn leaves_from(source: Option<IpAddr>, target: IpAddr) -> io::Result<IpAddr> {
    let any: IpAddr = if target.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind(SocketAddr::new(source.unwrap_or(any), 0))?;
    socket.connect(SocketAddr::new(target, NO_PORT))?;
    Ok(socket.local_addr()?.ip())
}

/// Whether an address is more than this machine's own, or a link's.
fn is_reachable(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => !address.is_loopback(),
        IpAddr::V6(address) => !address.is_loopback() && !address.is_unicast_link_local(),
    }
}

/// "Lower up" is the kernel's word for a carrier, "running" for an interface that is used because of it.
fn has_link(flags: InterfaceFlags) -> bool {
    flags.contains(RUNNING)
}

fn address(interface: &InterfaceAddress) -> Option<IpAddr> {
    let address = interface.address.as_ref()?;
    let v4 = address.as_sockaddr_in().map(|socket| socket.ip().into());
    v4.or_else(|| address.as_sockaddr_in6().map(|socket| socket.ip().into()))
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddrV4;

    use super::*;

    fn interface(name: &str, flags: InterfaceFlags, address: [u8; 4]) -> InterfaceAddress {
        let address = SocketAddrV4::new(address.into(), 0);
        InterfaceAddress {
            interface_name: name.into(),
            flags,
            address: Some(address.into()),
            netmask: None,
            broadcast: None,
            destination: None,
        }
    }

    #[test]
    fn interfaces_without_link() {
        let all = [
            interface("lo", RUNNING, [127, 0, 0, 1]),
            interface("eth0", InterfaceFlags::IFF_UP, [192, 0, 2, 1]),
            interface("eth1", InterfaceFlags::empty(), [192, 0, 2, 2]),
            interface("eth2", RUNNING, [192, 0, 2, 3]),
            // The same address as on a dead twin.
            interface("eth3", InterfaceFlags::IFF_UP | InterfaceFlags::IFF_RUNNING, [192, 0, 2, 3]),
        ];
        let looked = Looked::at(Instant::now(), all.into_iter());
        let shown: Vec<String> =
            looked.without_link.iter().map(|one| format!("{} {}", one.name, one.address)).collect();
        assert_eq!(shown, ["eth0 192.0.2.1", "eth1 192.0.2.2"]);
        assert_eq!(looked.has_address, [true, false]);
    }

    #[test]
    fn a_failure_over_a_link_stays_one() {
        let links = Links::default();
        let loopback = IpAddr::from([127, 0, 0, 1]);
        assert_eq!(links.excuse(Finding::fail("refused"), None, loopback), Finding::fail("refused"));
        assert_eq!(links.excuse(Finding::pass("fine"), None, loopback), Finding::pass("fine"));
    }

    #[test]
    fn a_probe_that_leaves_by_a_dead_interface_says_nothing() {
        let loopback = IpAddr::from([127, 0, 0, 1]);
        let dead = Interface { name: "eth0".into(), address: loopback };
        // Looked at far ahead, so that it is not looked at again.
        let at = Instant::now() + Duration::from_secs(3600);
        let links = Links(Mutex::new(Some(Looked { at, without_link: vec![dead], has_address: [true; 2] })));
        let excused = links.excuse(Finding::fail("timeout after 2s (connecting)"), None, loopback);
        assert_eq!(excused, Finding::no_verdict("no link on eth0"));
    }
}
