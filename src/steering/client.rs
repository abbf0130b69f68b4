//! Whose address decides: the client subnet or the resolver (SPEC 4.1), and how a scope in the address that was looked
//! at is told in the form that the query used (SPEC 7.5).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::hash;
use super::service::{Sticky, StickyBy};
use crate::dns::ClientSubnet;
use crate::geo::RangeMap;

/// `[ecs]` as steering needs it.
#[derive(Clone, Debug)]
pub struct EcsPolicy {
    /// Whether it is looked at, at all.
    pub enabled: bool,
    /// Most bits of an IPv4 prefix looked at.
    pub ipv4: u8,
    /// Most bits of an IPv6 prefix looked at.
    pub ipv6: u8,
    /// Packet sources whose ECS may name addresses that are not global unicast.
    trusted: Networks,
    special: Special,
}

/// Where the address came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// EDNS Client Subnet.
    Subnet,
    /// The packet's source: no subnet was sent, it had length 0, or it is not looked at.
    Resolver,
    /// The packet's source: the subnet is in a special-purpose block of this length and its sender is not trusted.
    SetAside(u8),
}

/// The client as steering sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client {
    /// The address looked at, IPv4 inside IPv6 unwrapped, bits not given zero.
    pub address: IpAddr,
    /// Where it came from.
    pub origin: Origin,
    /// Hash of the leftmost label of the name that was asked, for services that are sticky by it.
    pub label: u64,
    /// Bits that stood before the IPv4 address inside the IPv6 one; 0 when nothing was unwrapped.
    wrapped: u8,
    /// Longest scope, in the form that the query used: never more bits than are looked at.
    longest: u8,
    /// Least scope but 0, in the form that the query used: so many bits tell the client from all that are decided in
    /// another way, set aside or unwrapped.
    apart: u8,
}

/// Switched off.
impl Default for EcsPolicy {
    fn default() -> EcsPolicy {
        EcsPolicy::new(false, 0, 0, Vec::new())
    }
}

impl EcsPolicy {
    /// See the fields.
    #[must_use]
    pub fn new(enabled: bool, ipv4: u8, ipv6: u8, trusted: Vec<IpNet>) -> EcsPolicy {
        EcsPolicy { enabled, ipv4, ipv6, trusted: Networks::new(&trusted), special: Special::new() }
    }

    /// The same, with every packet source trusted.
    #[must_use]
    pub fn trusting_all(&self) -> EcsPolicy {
        EcsPolicy { trusted: Networks { v4: vec![(0, 0)], v6: vec![(0, 0)] }, ..self.clone() }
    }

    /// The client of a query from `source` with `subnet`; `follow` is the service's own `ecs` switch.
    #[must_use]
    #[inline]
    pub fn client(&self, source: IpAddr, subnet: Option<&ClientSubnet>, follow: bool) -> Client {
        match subnet.filter(|subnet| self.enabled && follow && subnet.source > 0) {
            None => resolver(source, Origin::Resolver),
            Some(subnet) => self.of_subnet(source, subnet),
        }
    }

    fn of_subnet(&self, source: IpAddr, subnet: &ClientSubnet) -> Client {
        let (address, bits, wrapped) = unwrap(subnet.address, subnet.source, false);
        let trusted = self.trusted.hold(source);
        let unwrapped = apart_from_unwrapped(address);
        let mut apart = unwrapped;
        if !trusted {
            let (block, from_special) = self.special.lookup(address);
            if block > 0 && bits >= block {
                return resolver(source, Origin::SetAside(block.max(unwrapped) + wrapped));
            }
            apart = apart.max(from_special);
        }
        let most = self.most_bits(address);
        Client {
            address: mask(address, bits.min(most)),
            origin: Origin::Subnet,
            label: 0,
            wrapped,
            longest: most + wrapped,
            apart: apart + wrapped,
        }
    }

    /// Whose address counts and why, in words; the arguments are those of [`EcsPolicy::client`]. Where the resolver is not
    /// named, `source` is the client itself, and taken for trusted.
    #[must_use]
    pub fn describe(&self, source: IpAddr, is_named: bool, subnet: Option<&ClientSubnet>, follow: bool) -> String {
        let Client { address, wrapped, origin, .. } = self.client(source, subnet, follow);
        let inside = if wrapped > 0 { ", the IPv4 address inside" } else { "" };
        let Some(subnet) = subnet else {
            return format!("address {address} of the resolver{inside}: no client subnet was sent");
        };
        let sent = format!("{}/{}", subnet.address, subnet.source);
        let (block, is_special) = self.block_of(subnet);
        let why = match origin {
            Origin::Subnet => {
                let most = self.most_bits(address);
                let cut = if subnet.source > most && wrapped == 0 {
                    format!("; [ecs] looks at /{most}")
                } else {
                    String::new()
                };
                let trusted = match is_special {
                    false => String::new(),
                    true if is_named => format!("; {block} is not public, but {source} is trusted"),
                    true => format!("; {block} is not public, so only a trusted resolver may name it"),
                };
                return format!("address {address} of the client subnet {sent}{inside}{cut}{trusted}");
            }
            Origin::SetAside(_) => {
                format!("the client subnet {sent} was set aside, as {block} is not public and {source} not trusted")
            }
            Origin::Resolver if !self.enabled => "[ecs] enabled = false".into(),
            Origin::Resolver if !follow => "the service has ecs = false".into(),
            Origin::Resolver => "a client subnet of length 0 says that no other is to be used".into(),
        };
        format!("address {address} of the resolver{inside}: {why}")
    }

    /// The special-purpose block that holds a subnet, and whether there is one.
    fn block_of(&self, subnet: &ClientSubnet) -> (String, bool) {
        let (address, bits, _) = unwrap(subnet.address, subnet.source, false);
        let (block, _) = self.special.lookup(address);
        (format!("{}/{block}", mask(address, block)), block > 0 && bits >= block)
    }

    /// The longest prefix of a client of that family that is looked at.
    #[must_use]
    pub fn most_bits(&self, address: IpAddr) -> u8 {
        if address.is_ipv4() { self.ipv4 } else { self.ipv6 }
    }
}

fn resolver(source: IpAddr, origin: Origin) -> Client {
    let bits = if source.is_ipv4() { 32 } else { 128 };
    let (address, _, wrapped) = unwrap(source, bits, true);
    Client { address, origin, label: 0, wrapped, longest: 128, apart: 0 }
}

impl Client {
    /// A client that is known by a packet's source alone.
    #[must_use]
    pub fn of_resolver(source: IpAddr) -> Client {
        resolver(source, Origin::Resolver)
    }

    /// What stands for the client wherever it is to stay where it is, seeded with a service's hash.
    #[must_use]
    pub fn key(&self, service: u64, sticky: Sticky) -> u64 {
        match sticky.by {
            StickyBy::Client => hash::client_key(service, self.address, sticky.bits(self.address)),
            StickyBy::Label => hash::label_key(service, self.label),
        }
    }

    /// What its key is made of, in words.
    #[must_use]
    pub fn describe_key(&self, sticky: Sticky) -> String {
        let bits = sticky.bits(self.address);
        match sticky.by {
            StickyBy::Client => format!("{}/{bits}", mask(self.address, bits)),
            StickyBy::Label => "the leftmost label".into(),
        }
    }

    /// The scope of what depends on [`Client::key`], in bits of [`Client::address`]; 0 only where no client differs, for the
    /// families are told apart under every mask.
    #[must_use]
    pub fn key_bits(&self, sticky: Sticky) -> u8 {
        match sticky.by {
            StickyBy::Client => sticky.bits(self.address).max(1),
            StickyBy::Label => 0,
        }
    }

    /// Why the scope of an answer is what [`Client::scope`] makes of `found`, in words.
    #[must_use]
    pub fn describe_scope(&self, found: u8) -> String {
        let scope = self.scope(found);
        let why = match self.origin {
            Origin::Resolver => "no client subnet decided",
            Origin::SetAside(_) => "the length of the block that the client subnet was set aside for",
            Origin::Subnet if found == 0 => "the client did not matter",
            Origin::Subnet if scope == found + self.wrapped && self.wrapped > 0 => {
                "the longest of these, and the bits before the IPv4 address"
            }
            Origin::Subnet if scope == found => "the longest of these",
            Origin::Subnet if scope == self.apart => "so many bits tell it from networks that are decided otherwise",
            Origin::Subnet => "the most that [ecs] looks at",
        };
        format!("{scope} in the answer: {why}")
    }

    /// What a scope found for [`Client::address`] is in the answer's ECS option. 0 stays 0, and nothing else becomes 0:
    /// resolvers take that for all clients of both families.
    #[must_use]
    pub fn scope(&self, found: u8) -> u8 {
        match self.origin {
            Origin::Resolver => 0,
            Origin::SetAside(block) => block,
            Origin::Subnet if found == 0 => 0,
            Origin::Subnet => (found + self.wrapped).min(self.longest).max(self.apart).max(1),
        }
    }
}

/// The IPv4 address inside an IPv6 prefix of `bits`, its length and the bits before it: mapped and NAT64 (from /104 on),
/// 6to4 (from /24 on), Teredo for a packet's own source alone, where the client's address is in the last 32 bits,
/// inverted (RFC 4380 §4).
#[must_use]
pub fn unwrap(address: IpAddr, bits: u8, own_source: bool) -> (IpAddr, u8, u8) {
    let IpAddr::V6(v6) = address else { return (address, bits, 0) };
    let octets = v6.octets();
    let inside = |at: usize| IpAddr::V4(Ipv4Addr::new(octets[at], octets[at + 1], octets[at + 2], octets[at + 3]));
    if bits >= 104 && (v6.to_ipv4_mapped().is_some() || octets.starts_with(&NAT64)) {
        return (inside(12), bits - 96, 96);
    }
    if bits >= 24 && octets.starts_with(&[0x20, 0x02]) {
        return (inside(2), (bits - 16).min(32), 16);
    }
    if own_source && octets.starts_with(&[0x20, 0x01, 0, 0]) {
        let IpAddr::V4(inverted) = inside(12) else { return (address, bits, 0) };
        return (IpAddr::V4(Ipv4Addr::from_bits(!inverted.to_bits())), 32, 96);
    }
    (address, bits, 0)
}

/// 64:ff9b::/96 (RFC 6052).
const NAT64: [u8; 12] = [0, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0];

/// The address with all bits past `bits` zero.
#[must_use]
pub fn mask(address: IpAddr, bits: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let keep = u32::MAX.checked_shl(32 - u32::from(bits.min(32))).unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() & keep))
        }
        IpAddr::V6(v6) => {
            let keep = u128::MAX.checked_shl(128 - u32::from(bits.min(128))).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & keep))
        }
    }
}

/// Blocks that are not global unicast: first address and length (IANA special-purpose address registries, multicast,
/// class E).
const SPECIAL_V4: &[([u8; 4], u8)] = &[
    ([0, 0, 0, 0], 8),
    ([10, 0, 0, 0], 8),
    ([100, 64, 0, 0], 10),
    ([127, 0, 0, 0], 8),
    ([169, 254, 0, 0], 16),
    ([172, 16, 0, 0], 12),
    ([192, 0, 0, 0], 24),
    ([192, 0, 2, 0], 24),
    ([192, 88, 99, 0], 24),
    ([192, 168, 0, 0], 16),
    ([198, 18, 0, 0], 15),
    ([198, 51, 100, 0], 24),
    ([203, 0, 113, 0], 24),
    ([224, 0, 0, 0], 4),
    ([240, 0, 0, 0], 4),
];

/// The same for IPv6, within 2000::/3: all outside it is special in blocks of a sixteenth.
const SPECIAL_V6: &[([u16; 3], u8)] =
    &[([0x2001, 0x0db8, 0], 32), ([0x2001, 0, 0], 23), ([0x2002, 0, 0], 16), ([0x3fff, 0, 0], 20)];

/// Ranges of IPv6 that [`unwrap`] takes IPv4 addresses from, where a prefix has at least 8 bits of these.
const UNWRAPPED: &[([u16; 6], u8)] =
    &[([0, 0, 0, 0, 0, 0xffff], 96), ([0x64, 0xff9b, 0, 0, 0, 0], 96), ([0x2002, 0, 0, 0, 0, 0], 16)];

/// A few networks, of each its first address and its mask.
#[derive(Clone, Debug)]
struct Networks {
    v4: Vec<(u32, u32)>,
    v6: Vec<(u128, u128)>,
}

impl Networks {
    fn new(nets: &[IpNet]) -> Networks {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for net in nets {
            match net {
                IpNet::V4(net) => v4.push((net.network().to_bits(), net.netmask().to_bits())),
                IpNet::V6(net) => v6.push((net.network().to_bits(), net.netmask().to_bits())),
            }
        }
        Networks { v4, v6 }
    }

    /// Whether an address is in one of them; IPv4 inside IPv6 is unwrapped.
    fn hold(&self, address: IpAddr) -> bool {
        match address.to_canonical() {
            IpAddr::V4(v4) => self.v4.iter().any(|&(first, mask)| v4.to_bits() & mask == first),
            IpAddr::V6(v6) => self.v6.iter().any(|&(first, mask)| v6.to_bits() & mask == first),
        }
    }
}

/// Which special-purpose block an address is in.
#[derive(Clone, Debug)]
struct Special {
    /// Number of the block, 0 = global unicast; neighbours differ, so that none of them merge.
    blocks: RangeMap<u8>,
    /// By number.
    lengths: Vec<u8>,
    /// What [`Special::lookup`] says by the first octet of an IPv4 address, where that octet decides.
    by_octet: Box<[Option<(u8, u8)>; 256]>,
}

impl Special {
    fn new() -> Special {
        let v4 = SPECIAL_V4.iter().map(|&(block, length)| IpNet::new(IpAddr::from(block), length));
        let v6 = |[a, b, c]: [u16; 3], length| IpNet::new(IpAddr::from([a, b, c, 0, 0, 0, 0, 0]), length);
        let inside = SPECIAL_V6.iter().map(|&(block, length)| v6(block, length));
        // 2000::/3 is the sixteenths 2 and 3.
        let outside = (0..16).filter(|sixteenth| sixteenth / 2 != 1).map(|sixteenth| v6([sixteenth << 12, 0, 0], 4));
        let nets: Vec<IpNet> = v4.chain(inside).chain(outside).flatten().collect();
        let lengths = std::iter::once(0).chain(nets.iter().map(IpNet::prefix_len)).collect();
        let blocks = RangeMap::from_prefixes(0, nets.into_iter().zip(1u8..));
        let mut special = Special { blocks, lengths, by_octet: Box::new([None; 256]) };
        let of_octet = |octet: usize| special.search(IpAddr::from([octet as u8, 0, 0, 0]));
        let by_octet = std::array::from_fn(|octet| Some(of_octet(octet)).filter(|(_, apart)| *apart <= 8));
        special.by_octet = Box::new(by_octet);
        special
    }

    /// The length of the block that holds an address, 0 = none; and the length of the widest prefix around it that holds
    /// no other block, nor anything beside its own.
    fn lookup(&self, address: IpAddr) -> (u8, u8) {
        let by_octet = match address {
            IpAddr::V4(v4) => self.by_octet[usize::from(v4.octets()[0])],
            IpAddr::V6(_) => None,
        };
        by_octet.unwrap_or_else(|| self.search(address))
    }

    fn search(&self, address: IpAddr) -> (u8, u8) {
        let (number, apart) = self.blocks.lookup(address);
        (self.lengths[number as usize], apart)
    }
}

/// The length of the widest prefix of a client that holds nothing that is unwrapped; 0 for IPv4.
fn apart_from_unwrapped(address: IpAddr) -> u8 {
    let IpAddr::V6(v6) = address else { return 0 };
    let apart = |&([a, b, c, d, e, f], length): &([u16; 6], u8)| {
        let shared = (v6.to_bits() ^ Ipv6Addr::new(a, b, c, d, e, f, 0, 0).to_bits()).leading_zeros() as u8;
        // Inside such a range, yet not unwrapped, is only a prefix that is too short for it.
        if shared >= length { length + 8 } else { shared + 1 }
    };
    UNWRAPPED.iter().map(apart).fold(0, u8::max)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn policy() -> EcsPolicy {
        EcsPolicy::new(true, 24, 56, vec!["127.0.0.0/8".parse().expect("net")])
    }

    fn subnet(text: &str) -> ClientSubnet {
        let net: IpNet = text.parse().expect("a prefix");
        ClientSubnet { family: if net.addr().is_ipv4() { 1 } else { 2 }, source: net.prefix_len(), address: net.addr() }
    }

    #[test]
    fn the_subnet_decides_where_it_may() {
        let far = "9.9.9.9";
        for (source, ecs, address, origin, found, scope) in [
            (far, "81.2.69.0/24", "81.2.69.0", Origin::Subnet, 20, 20),
            (far, "81.2.69.160/32", "81.2.69.0", Origin::Subnet, 30, 24),
            (far, "81.2.0.0/16", "81.2.0.0", Origin::Subnet, 22, 22),
            (far, "81.2.69.0/24", "81.2.69.0", Origin::Subnet, 0, 0),
            (far, "0.0.0.0/0", far, Origin::Resolver, 20, 0),
            (far, "10.1.2.0/24", far, Origin::SetAside(8), 20, 8),
            ("127.0.0.1", "10.1.2.0/24", "10.1.2.0", Origin::Subnet, 20, 20),
            (far, "172.31.2.0/24", far, Origin::SetAside(12), 20, 12),
            (far, "224.0.0.0/3", "224.0.0.0", Origin::Subnet, 1, 4),
            (far, "2001:db8:1::/48", far, Origin::SetAside(32), 20, 32),
            (far, "fd00::/16", far, Origin::SetAside(4), 20, 4),
            (far, "2a00:1450:4000::/56", "2a00:1450:4000::", Origin::Subnet, 40, 40),
            (far, "::ffff:81.2.69.0/120", "81.2.69.0", Origin::Subnet, 20, 116),
            (far, "64:ff9b::81.2.69.0/120", "81.2.69.0", Origin::Subnet, 20, 116),
            (far, "2002:5102:4500::/40", "81.2.69.0", Origin::Subnet, 20, 36),
            (far, "2002:0a01:0200::/40", far, Origin::SetAside(24), 20, 24),
        ] {
            let client = policy().client(source.parse().expect("ip"), Some(&subnet(ecs)), true);
            assert_eq!(client.address.to_string(), address, "{source} {ecs}");
            assert_eq!((client.origin, client.scope(found)), (origin, scope), "{source} {ecs}");
        }
    }

    #[test]
    fn scopes_keep_apart_from_what_is_decided_otherwise() {
        let (far, near) = ("9.9.9.9", "127.0.0.1");
        for (source, ecs, found, scope) in [
            (far, "8.8.8.0/24", 2, 7),
            (far, "8.8.8.0/24", 0, 0),
            (near, "8.8.8.0/24", 2, 2),
            (far, "192.0.1.0/24", 2, 24),
            (far, "192.0.0.0/16", 2, 24),
            (far, "2a00::/56", 3, 5),
            (near, "2a00::/56", 1, 5),
            (near, "fd00::/16", 1, 1),
            (near, "2003::/48", 3, 16),
            (near, "2002::/16", 3, 24),
            (far, "2002::/16", 3, 24),
            (far, "::/56", 3, 81),
            (far, "::1:0:0/96", 3, 81),
            (far, "::ffff:8.8.8.0/120", 2, 103),
        ] {
            let client = policy().client(source.parse().expect("ip"), Some(&subnet(ecs)), true);
            assert_eq!(client.scope(found), scope, "{source} {ecs}");
        }
    }

    /// Near the blocks, with few bits changed.
    fn near_blocks() -> impl Strategy<Value = IpAddr> {
        let v4 = (prop::sample::select(SPECIAL_V4), 0u32..32, any::<u32>(), 0u32..=32).prop_map(
            |((block, _), bit, noise, from)| {
                let noise = noise.checked_shr(from).unwrap_or(0);
                IpAddr::V4(Ipv4Addr::from_bits(u32::from_be_bytes(block) ^ (1 << bit) ^ noise))
            },
        );
        let v6 = (prop::sample::select(UNWRAPPED), 0u32..128, any::<u128>(), 0u32..=128).prop_map(
            |(([a, b, c, d, e, f], _), bit, noise, from)| {
                let block = Ipv6Addr::new(a, b, c, d, e, f, 0, 0).to_bits();
                IpAddr::V6(Ipv6Addr::from_bits(block ^ (1 << bit) ^ noise.checked_shr(from).unwrap_or(0)))
            },
        );
        prop_oneof![v4, v6]
    }

    proptest! {
        /// Whoever is in a scope is looked at in the same way.
        #[test]
        fn scopes_hold_one_way_of_looking(
            address in near_blocks(), noise: u128, near: bool, found in 1u8..8,
        ) {
            let (family, length) = if address.is_ipv4() { (1, 32) } else { (2, 128) };
            let source: IpAddr = if near { "127.0.0.1" } else { "9.9.9.9" }.parse().expect("ip");
            let client = |address| policy().client(source, Some(&ClientSubnet { family, source: length, address }), true);
            let one = client(address);
            let scope = one.scope(found);
            let noise = noise.checked_shr(scope.into()).unwrap_or(0);
            let other = client(match address {
                IpAddr::V4(v4) => IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() ^ (noise >> 96) as u32)),
                IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() ^ noise)),
            });
            let way = |client: Client| (client.origin == Origin::Subnet, client.wrapped);
            prop_assert_eq!(way(one), way(other), "{:?} {:?} {}", one, other, scope);
        }
    }

    #[test]
    fn the_resolver_decides_else() {
        for (source, address) in [
            ("9.9.9.9", "9.9.9.9"),
            ("::ffff:9.9.9.9", "9.9.9.9"),
            ("2001:0:5ef5:79fd:0:59d:a0e5:e5", "95.26.255.26"),
            ("2a00::1", "2a00::1"),
        ] {
            let source: IpAddr = source.parse().expect("ip");
            let client = policy().client(source, Some(&subnet("81.2.69.0/24")), false);
            assert_eq!((client.address.to_string().as_str(), client.scope(24)), (address, 0), "{source}");
            assert_eq!(
                EcsPolicy { enabled: false, ..policy() }.client(source, Some(&subnet("81.2.69.0/24")), true),
                client
            );
        }
    }

    #[test]
    fn masks() {
        for (address, bits, masked) in
            [("1.2.3.4", 0, "0.0.0.0"), ("1.2.3.4", 24, "1.2.3.0"), ("1.2.3.4", 32, "1.2.3.4"), ("2a00::1", 0, "::")]
        {
            assert_eq!(mask(address.parse().expect("ip"), bits).to_string(), masked);
        }
    }
}
