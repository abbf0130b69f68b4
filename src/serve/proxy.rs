//! The header that balancers put before what they hand on (PROXY protocol, version 2): whose connection or datagram it is.
//!
//! ```text
//!  0            12        13                14           16                      length
//! ┌────────────┬─────────┬─────────────────┬────────────┬───────────┬───────────┬──────┬─────────┐
//! │ signature  │ version │ family (4 bits) │ octets     │ source    │ destina-  │ both │ TLVs,   │
//! │ \r\n\r\n…  │ command │ transport       │ to follow  │ 4 or 16   │ tion      │ ports│ skipped │
//! └────────────┴─────────┴─────────────────┴────────────┴───────────┴───────────┴──────┴─────────┘
//! ```
//! Command LOCAL means that the balancer asks for itself; so do families without an address of the Internet. It is pure: who
//! may say so, and what is done without a header, `tcp` and `udp` decide.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Octets of a header that say how long it is.
pub(super) const HEAD: usize = 16;
/// Octets of the longest header that is read: addresses, and TLVs of some hundred octets.
pub(super) const MOST: usize = 1024;

const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Version 2, and the commands.
const LOCAL: u8 = 0x20;
const PROXY: u8 = 0x21;
/// Families, in the upper half of their octet.
const UNSPECIFIED: u8 = 0;
const INTERNET: u8 = 1;
const INTERNET_6: u8 = 2;
const UNIX: u8 = 3;
/// Largest number of a transport: unspecified, stream, datagram.
const DATAGRAM: u8 = 2;
/// Octets of both addresses and both ports, by family.
const OCTETS_V4: usize = 12;
const OCTETS_V6: usize = 36;

/// A header that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Octets that it has.
    pub length: usize,
    /// Whose connection or datagram it is; `None` = the balancer's own.
    pub client: Option<IpAddr>,
}

/// How long a header is that begins with these octets, at least [`HEAD`]; `None` when it is none, or too long.
pub(super) fn length(head: &[u8]) -> Option<usize> {
    let (signature, rest) = head.split_first_chunk()?;
    let &[command, _, high, low] = rest.first_chunk()?;
    let length = HEAD + usize::from(u16::from_be_bytes([high, low]));
    (*signature == SIGNATURE && matches!(command, LOCAL | PROXY) && length <= MOST).then_some(length)
}

/// The header at the start of `octets`; `None` when there is none, or not all of it.
#[must_use]
pub fn parse(octets: &[u8]) -> Option<Header> {
    let length = length(octets)?;
    let (head, data) = octets.get(..length)?.split_at(HEAD);
    let (family, transport) = (head[13] >> 4, head[13] & 0x0f);
    if transport > DATAGRAM {
        return None;
    }
    let client = match (head[12], family) {
        (LOCAL, _) | (_, UNSPECIFIED | UNIX) => None,
        (_, INTERNET) => {
            let source: &[u8; 4] = data.get(..OCTETS_V4)?.first_chunk()?;
            Some(Ipv4Addr::from(*source).into())
        }
        (_, INTERNET_6) => {
            let source: &[u8; 16] = data.get(..OCTETS_V6)?.first_chunk()?;
            Some(Ipv6Addr::from(*source).into())
        }
        _ => return None,
    };
    Some(Header { length, client })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A header of this command and family, with these octets behind its first 16.
    fn header(command: u8, family: u8, data: &[u8]) -> Vec<u8> {
        [&SIGNATURE[..], &[command, family], &(data.len() as u16).to_be_bytes(), data].concat()
    }

    fn v4(source: [u8; 4], behind: &[u8]) -> Vec<u8> {
        [&source[..], &[192, 0, 2, 53, 0xc0, 0, 0, 53], behind].concat()
    }

    fn v6(source: Ipv6Addr, behind: &[u8]) -> Vec<u8> {
        [&source.octets()[..], &Ipv6Addr::LOCALHOST.octets(), &[0xc0, 0, 0, 53], behind].concat()
    }

    #[test]
    fn headers() {
        let (of_v4, source): ([u8; 4], Ipv6Addr) = ([198, 51, 100, 7], "2001:db8::7".parse().expect("an address"));
        let (client_v4, client_v6) = (Some(IpAddr::from(of_v4)), Some(IpAddr::from(source)));
        // An ALPN of `h2`, and a TLV without a value.
        let tlvs = [1, 0, 2, b'h', b'2', 4, 0, 0];
        let rows = [
            (header(PROXY, 0x11, &v4(of_v4, &[])), Some(client_v4)),
            (header(PROXY, 0x12, &v4(of_v4, &tlvs)), Some(client_v4)),
            (header(PROXY, 0x21, &v6(source, &[])), Some(client_v6)),
            (header(PROXY, 0x22, &v6(source, &tlvs)), Some(client_v6)),
            (header(PROXY, 0x11, &v4(of_v4, &[0; MOST - HEAD - OCTETS_V4])), Some(client_v4)),
            // Its own: by command, by family.
            (header(LOCAL, 0x00, &[]), Some(None)),
            (header(LOCAL, 0x11, &v4(of_v4, &[])), Some(None)),
            (header(PROXY, 0x00, &tlvs), Some(None)),
            (header(PROXY, 0x31, &[0; 216]), Some(None)),
            // Too short for its family, too long, of another version, command, family or transport.
            (header(PROXY, 0x11, &[0; OCTETS_V4 - 1]), None),
            (header(PROXY, 0x21, &[0; OCTETS_V6 - 1]), None),
            (header(PROXY, 0x11, &v4(of_v4, &[0; MOST - HEAD - OCTETS_V4 + 1])), None),
            (header(0x11, 0x11, &v4(of_v4, &[])), None),
            (header(0x22, 0x11, &v4(of_v4, &[])), None),
            (header(PROXY, 0x41, &v4(of_v4, &[])), None),
            (header(PROXY, 0x13, &v4(of_v4, &[])), None),
            (b"PROXY TCP4 198.51.100.7 192.0.2.53 49152 53\r\n".to_vec(), None),
        ];
        for (octets, client) in rows {
            let expected = client.map(|client| Header { length: octets.len(), client });
            assert_eq!(parse(&octets), expected, "{octets:02x?}");
            assert_eq!(parse(&[&octets[..], b"a query"].concat()), expected, "what follows is not its own");
            for cut in 0..octets.len().min(64) {
                assert_eq!(parse(&octets[..cut]), None, "{octets:02x?} cut to {cut}");
            }
        }
    }

    proptest! {
        #[test]
        fn no_octets_panic(octets in prop::collection::vec(any::<u8>(), 0..80), good in any::<bool>()) {
            let octets = if good { [&SIGNATURE[..], &[PROXY], &octets].concat() } else { octets };
            if let Some(header) = parse(&octets) {
                prop_assert!((HEAD..=octets.len().min(MOST)).contains(&header.length));
            }
        }
    }
}
