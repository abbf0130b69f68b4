//! Queries octet by octet, built ahead; what varies from query to query (ID, client subnet) is written in place.

/// Octets of the client subnet that vary: all queries carry a /24.
const SUBNET: usize = 3;

/// A query of class IN, with EDNS (1232 octets).
#[derive(Clone, Debug)]
pub(crate) struct Query {
    octets: Vec<u8>,
    /// Where the client subnet is, if there is one.
    subnet: Option<usize>,
}

/// A type that can be asked for, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Type(pub(crate) u16);

impl Type {
    /// IPv4 address.
    pub(crate) const A: Type = Type(1);
    /// IPv6 address.
    pub(crate) const AAAA: Type = Type(28);
}

impl Query {
    /// Asks for `name`; with the client subnet 81.2.69.0/24 when `with_subnet`.
    pub(crate) fn new(name: &str, qtype: Type, with_subnet: bool) -> Query {
        // ID 0; no flags; one question, one additional record.
        let mut octets = vec![0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1];
        for label in name.split('.').filter(|label| !label.is_empty()) {
            octets.push(label.len() as u8);
            octets.extend(label.as_bytes());
        }
        octets.push(0);
        octets.extend(qtype.0.to_be_bytes());
        octets.extend([0, 1]);
        // OPT (RFC 6891 §6.1.2): root, type 41, payload; no extended code, version or flag.
        octets.extend([0, 0, 41, 0x04, 0xd0, 0, 0, 0, 0]);
        // ECS (RFC 7871 §6): option 8, IPv4, source prefix 24, scope 0.
        let options: &[u8] = if with_subnet { &[0, 8, 0, 7, 0, 1, 24, 0, 81, 2, 69] } else { &[] };
        octets.extend((options.len() as u16).to_be_bytes());
        octets.extend(options);
        let subnet = with_subnet.then(|| octets.len() - SUBNET);
        Query { octets, subnet }
    }

    /// The same from another client, if it says where its client is.
    pub(crate) fn vary(&mut self, random: &mut Random) -> &[u8] {
        if let Some(at) = self.subnet {
            self.octets[at..at + SUBNET].copy_from_slice(&random.subnet());
        }
        &self.octets
    }

    /// As it is sent, with ID 0.
    pub(crate) fn octets(&self) -> &[u8] {
        &self.octets
    }
}

/// SplitMix64: small and reproducible, so that a run can be repeated.
#[derive(Clone, Debug)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    /// 64 bits.
    pub(crate) fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A /24 of 1.0.0.0 to 223.255.255.0, but for 10/8 and 127/8, in which no public client is.
    pub(crate) fn subnet(&mut self) -> [u8; SUBNET] {
        let drawn = self.draw();
        let first = match (drawn % 223 + 1) as u8 {
            10 | 127 => 8,
            first => first,
        };
        [first, (drawn >> 16) as u8, (drawn >> 24) as u8]
    }
}
