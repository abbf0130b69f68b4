//! The query parser: one question, at most one OPT, nothing allocated (RFC 1035 §4.1, RFC 6891 §6, RFC 7871 §6,
//! RFC 7873 §5.2, RFC 7828 §3.2).
//!
//! ```text
//! +--------+----------------------+ - - - - - - +--------------------------------+
//! | header | QNAME  QTYPE  QCLASS | (records)   | OPT: payload, version, options |
//! +--------+----------------------+ - - - - - - +--------------------------------+
//! 0        12                     question_end
//! ```
//! Parsing never fails up the stack: what is wrong with a message is an [`Parsed`] outcome.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::cookie::Cookie;
use super::name::{MAX_LABEL, MAX_NAME};
use super::types::{Class, RecordType};

/// Octets of a message header.
pub const HEADER: usize = 12;
/// Header flag: response.
pub const FLAG_QR: u16 = 0x8000;
/// Header flag: authoritative answer.
pub const FLAG_AA: u16 = 0x0400;
/// Header flag: truncated.
pub const FLAG_TC: u16 = 0x0200;
/// Header flag: recursion desired.
pub const FLAG_RD: u16 = 0x0100;
/// Header bits of the opcode.
pub const MASK_OPCODE: u16 = 0x7800;

/// EDNS option codes read here.
const OPTION_NSID: u16 = 3;
const OPTION_CLIENT_SUBNET: u16 = 8;
const OPTION_COOKIE: u16 = 10;
const OPTION_KEEPALIVE: u16 = 11;
const OPTION_PADDING: u16 = 12;
/// Octets of a record's type, class, TTL and RDLENGTH.
const FIXED: usize = 10;
/// Labels of the longest name: 127, and the root.
pub const MAX_LABELS: usize = 128;

/// Response codes (RFC 1035 §4.1.1, RFC 6891 §9).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rcode(pub u16);

#[allow(missing_docs)]
impl Rcode {
    pub const NOERROR: Rcode = Rcode(0);
    pub const FORMERR: Rcode = Rcode(1);
    pub const SERVFAIL: Rcode = Rcode(2);
    pub const NXDOMAIN: Rcode = Rcode(3);
    pub const NOTIMP: Rcode = Rcode(4);
    pub const REFUSED: Rcode = Rcode(5);
    pub const YXDOMAIN: Rcode = Rcode(6);
    pub const YXRRSET: Rcode = Rcode(7);
    pub const NXRRSET: Rcode = Rcode(8);
    pub const NOTAUTH: Rcode = Rcode(9);
    pub const NOTZONE: Rcode = Rcode(10);
    pub const BADVERS: Rcode = Rcode(16);
    pub const BADCOOKIE: Rcode = Rcode(23);
}

impl std::fmt::Display for Rcode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            0 => f.write_str("NOERROR"),
            1 => f.write_str("FORMERR"),
            2 => f.write_str("SERVFAIL"),
            3 => f.write_str("NXDOMAIN"),
            4 => f.write_str("NOTIMP"),
            5 => f.write_str("REFUSED"),
            6 => f.write_str("YXDOMAIN"),
            7 => f.write_str("YXRRSET"),
            8 => f.write_str("NXRRSET"),
            9 => f.write_str("NOTAUTH"),
            10 => f.write_str("NOTZONE"),
            16 => f.write_str("BADVERS"),
            23 => f.write_str("BADCOOKIE"),
            other => write!(f, "RCODE{other}"),
        }
    }
}

/// Octets that are lower-cased at once; a multiple of them holds every name.
const BLOCK: usize = 16;
/// Room for a lower-cased name: [`MAX_NAME`] in whole blocks.
const ROOM: usize = MAX_NAME.next_multiple_of(BLOCK);

/// A lower-cased name on the stack, with the offset of each of its labels.
#[derive(Clone, Debug)]
pub struct LowerName {
    /// What stands behind the name has no meaning.
    octets: [u8; ROOM],
    length: u8,
    offsets: [u8; MAX_LABELS],
    labels: u8,
}

impl LowerName {
    /// An empty buffer; only [`LowerName::set`] makes it a name.
    #[must_use]
    pub fn new() -> LowerName {
        LowerName { octets: [0; ROOM], length: 1, offsets: [0; MAX_LABELS], labels: 0 }
    }

    /// Takes the uncompressed name at the start of `wire`, lower-cased. `None` when it is cut short, too long, or holds
    /// a pointer or an unknown label type.
    pub fn set(&mut self, wire: &[u8]) -> Option<usize> {
        let mut at = 0;
        let mut labels = 0;
        loop {
            let length = usize::from(*wire.get(at)?);
            if length == 0 {
                break;
            }
            // At most 127 labels fit into 254 octets, so neither index can overflow.
            self.offsets[labels] = at as u8;
            labels += 1;
            at += 1 + length;
            if length > MAX_LABEL || at >= MAX_NAME {
                return None;
            }
        }
        at += 1;
        self.set_octets(wire, at);
        self.length = at as u8;
        self.labels = labels as u8;
        Some(at)
    }

    /// Lower-cases the first `length` octets of `wire`; in whole blocks, when so much follows there.
    fn set_octets(&mut self, wire: &[u8], length: usize) {
        // Label lengths are at most 63, below b'A', so lowering every octet leaves them alone.
        let blocks = length.div_ceil(BLOCK);
        if wire.len() < blocks * BLOCK {
            self.octets[..length].copy_from_slice(&wire[..length]);
            return self.octets[..length].make_ascii_lowercase();
        }
        let (to, from) = (self.octets.as_chunks_mut::<BLOCK>().0, wire.as_chunks::<BLOCK>().0);
        for (to, from) in to.iter_mut().zip(from).take(blocks) {
            *to = from.map(|octet| octet.to_ascii_lowercase());
        }
    }

    /// The whole name in wire format.
    #[must_use]
    pub fn as_wire(&self) -> &[u8] {
        &self.octets[..self.length as usize]
    }

    /// The leftmost label, without its length; empty for the root.
    #[must_use]
    pub fn first_label(&self) -> &[u8] {
        &self.octets[1..1 + usize::from(self.octets[0])]
    }

    /// How many labels, the root not counted.
    #[must_use]
    pub fn labels(&self) -> usize {
        self.labels as usize
    }

    /// The name without its `skip` leftmost labels.
    #[must_use]
    pub fn suffix(&self, skip: usize) -> &[u8] {
        let start = if skip < self.labels() { self.offsets[skip] as usize } else { self.length as usize - 1 };
        &self.octets[start..self.length as usize]
    }
}

impl Default for LowerName {
    fn default() -> LowerName {
        LowerName::new()
    }
}

/// EDNS Client Subnet as received (RFC 7871 §6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientSubnet {
    /// As received: 1 = IPv4, 2 = IPv6, 0 only with a source of 0.
    pub family: u16,
    /// SOURCE PREFIX-LENGTH, at most 32 or 128.
    pub source: u8,
    /// The prefix, bits past `source` zero; unspecified when `source` is 0.
    pub address: IpAddr,
}

/// What an OPT record said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Edns {
    /// Payload size as received.
    pub payload: u16,
    /// EDNS version; only 0 is served.
    pub version: u8,
    /// DO.
    pub dnssec_ok: bool,
    /// NSID was asked for.
    pub nsid: bool,
    /// Client subnet, if one was sent.
    pub client_subnet: Option<ClientSubnet>,
    /// A client subnet was sent that is malformed, or one too many; such a query is refused.
    pub has_bad_subnet: bool,
    /// DNS cookie, if one was sent; the first, where there are several (RFC 7873 §5.2).
    pub cookie: Option<Cookie>,
    /// How long an idle connection stays open was asked for.
    pub keepalive: bool,
    /// The client said how long, which is the server's to say: malformed over TCP (RFC 7828 §3.2.1).
    pub has_keepalive_timeout: bool,
    /// It was padded, and so is its answer where nobody can read along (RFC 7830 §4).
    pub padding: bool,
}

/// A well-formed query.
pub struct Query {
    /// Message id.
    pub id: u16,
    /// Header flags as received.
    pub flags: u16,
    /// Where the question ends in the message.
    pub question_end: usize,
    /// Type asked.
    pub qtype: RecordType,
    /// Class asked.
    pub qclass: Class,
    /// OPT, if there was one.
    pub edns: Option<Edns>,
    /// Where its TSIG begins in the message, its last record (RFC 8945 §5.1); 0 = it has none.
    pub tsig_at: u16,
}

/// What a message is.
pub enum Parsed {
    /// To be ignored: a response, or shorter than a header.
    Silence,
    /// To be answered with this code; the question is echoed up to `question_end` when that is not 0.
    Refuse {
        /// Response code.
        rcode: Rcode,
        /// Header flags as received.
        flags: u16,
        /// End of a well-formed question, or 0.
        question_end: usize,
        /// Whether the answer carries an OPT.
        edns: Option<Edns>,
    },
    /// A query without a question, for the sake of its cookie (RFC 7873 §5.4).
    CookieOnly {
        /// Header flags as received.
        flags: u16,
        /// With a cookie.
        edns: Edns,
    },
    /// A query.
    Query(Query),
}

/// Parses `message`; the name asked is left in `qname`, lower-cased.
pub fn parse(message: &[u8], qname: &mut LowerName) -> Parsed {
    let Some((header, rest)) = message.split_first_chunk::<HEADER>() else {
        return Parsed::Silence;
    };
    let count = |index: usize| u16::from_be_bytes([header[4 + 2 * index], header[5 + 2 * index]]);
    let id = u16::from_be_bytes([header[0], header[1]]);
    let flags = u16::from_be_bytes([header[2], header[3]]);
    if flags & FLAG_QR != 0 {
        return Parsed::Silence;
    }
    let refuse = |rcode, question_end, edns| Parsed::Refuse { rcode, flags, question_end, edns };
    if flags & MASK_OPCODE != 0 {
        return refuse(Rcode::NOTIMP, 0, opt_of([0, 1, 2, 3].map(count), rest));
    }
    if count(0) != 1 {
        let is_empty = (0..3).all(|section| count(section) == 0);
        return match is_empty {
            true => cookie_only(rest, count(3), flags),
            false => refuse(Rcode::FORMERR, 0, opt_of([0, 1, 2, 3].map(count), rest)),
        };
    }
    let Some((qtype, qclass, behind)) = question(rest, qname) else {
        return refuse(Rcode::FORMERR, 0, None);
    };
    let question_end = message.len() - behind.len();
    // Queries have no answers; an authority record only comes with IXFR (RFC 1995 §3).
    if count(1) != 0 || (count(2) != 0 && qtype != RecordType::IXFR) {
        return refuse(Rcode::FORMERR, question_end, None);
    }
    let mut edns = None;
    let Some(signature) = additional(behind, count(2).into(), count(3).into(), &mut edns) else {
        return refuse(Rcode::FORMERR, question_end, edns);
    };
    if edns.is_some_and(|edns| edns.version != 0) {
        return refuse(Rcode::BADVERS, question_end, edns);
    }
    let tsig_at = if signature == 0 { 0 } else { (message.len() - signature) as u16 };
    Parsed::Query(Query { id, flags, question_end, qtype, qclass, edns, tsig_at })
}

/// The address of the client subnet that a query most likely has, at its very end or in an OPT right behind its question: for
/// looking ahead, so that nothing is checked.
#[inline]
#[must_use]
pub fn likely_subnet(message: &[u8]) -> Option<IpAddr> {
    // As nearly all resolvers send it: a /24, the last of the message.
    const V4: [u8; 8] = [0, 8, 0, 7, 0, 1, 24, 0];
    if let Some((rest, [a, b, c])) = message.split_last_chunk()
        && rest.ends_with(&V4)
    {
        return Some(Ipv4Addr::new(*a, *b, *c, 0).into());
    }
    written_subnet(message)
}

/// The same of any other form.
fn written_subnet(message: &[u8]) -> Option<IpAddr> {
    let (fixed, options) = skip_name(message.get(HEADER..)?)?.get(4..)?.split_first_chunk::<{ 1 + FIXED }>()?;
    if fixed[..3] != [0, 0, RecordType::OPT.0 as u8] {
        return None;
    }
    let mut rest = options;
    loop {
        let (code, data, behind) = option(rest)?;
        if code == OPTION_CLIENT_SUBNET {
            return client_subnet(data).map(|subnet| subnet.address);
        }
        rest = behind;
    }
}

/// The OPT of a message that is refused whatever it asks, as far as it can be read: its answer has one too (RFC 6891
/// §6.1.1).
#[cold]
fn opt_of([questions, answers, authority, more]: [u16; 4], behind_header: &[u8]) -> Option<Edns> {
    let mut rest = behind_header;
    for _ in 0..questions {
        rest = skip_name(rest)?.get(4..)?;
    }
    let mut edns = None;
    // What is wrong with it matters no more.
    let _ = additional(rest, u32::from(answers) + u32::from(authority), more.into(), &mut edns);
    edns
}

/// A message without a question: FORMERR unless it has a cookie.
#[cold]
fn cookie_only(behind_header: &[u8], additional_count: u16, flags: u16) -> Parsed {
    let mut edns = None;
    let is_sound = additional(behind_header, 0, additional_count.into(), &mut edns).is_some();
    let rcode = if edns.is_some_and(|edns| edns.version != 0) { Rcode::BADVERS } else { Rcode::FORMERR };
    match edns.filter(|edns| is_sound && edns.cookie.is_some()) {
        Some(edns) => Parsed::CookieOnly { flags, edns },
        None => Parsed::Refuse { rcode, flags, question_end: 0, edns },
    }
}

/// The question right behind the header: its type and class, and what follows.
fn question<'m>(behind_header: &'m [u8], qname: &mut LowerName) -> Option<(RecordType, Class, &'m [u8])> {
    let length = qname.set(behind_header)?;
    let (&[type_high, type_low, class_high, class_low], behind) = behind_header[length..].split_first_chunk()?;
    let number = |high, low| u16::from_be_bytes([high, low]);
    Some((RecordType(number(type_high, type_low)), Class(number(class_high, class_low)), behind))
}

/// Walks the records behind the question and reads the OPT among the additional ones into `edns`. Returns how many octets
/// before the end a TSIG begins, the last of them; 0 = there is none. `None` is FORMERR; then `edns` holds what an OPT
/// said as far as it was understood.
fn additional(behind: &[u8], authority: u32, additional: u32, edns: &mut Option<Edns>) -> Option<usize> {
    let (mut rest, mut signature) = (behind, 0);
    for index in 0..authority + additional {
        let record = rest.len();
        let owner_is_root = *rest.first()? == 0;
        let fixed = if owner_is_root { &rest[1..] } else { skip_name(rest)? };
        let (fixed, data) = fixed.split_first_chunk::<FIXED>()?;
        let (rdata, behind) = data.split_at_checked(usize::from(u16::from_be_bytes([fixed[8], fixed[9]])))?;
        rest = behind;
        let rtype = u16::from_be_bytes([fixed[0], fixed[1]]);
        if rtype == RecordType::OPT.0 {
            let is_first = edns.is_none();
            let edns = edns.get_or_insert_default();
            if !is_first || !owner_is_root || index < authority {
                return None;
            }
            opt(fixed, rdata, edns)?;
        } else if rtype == RecordType::TSIG.0 {
            if index < authority || index + 1 < authority + additional {
                return None;
            }
            signature = record;
        }
    }
    Some(signature)
}

/// What follows a name that may be compressed.
fn skip_name(message: &[u8]) -> Option<&[u8]> {
    let mut rest = message;
    loop {
        rest = match *rest.first()? {
            0 => return Some(&rest[1..]),
            length if usize::from(length) <= MAX_LABEL => rest.get(1 + usize::from(length)..)?,
            pointer if pointer & 0xc0 == 0xc0 => return rest.get(2..),
            _ => return None,
        };
    }
}

/// Where the last record of a message is.
pub(super) struct Last {
    /// Where the question ends.
    pub(super) question_end: usize,
    /// Where the record begins; the end of the message where there is none.
    pub(super) at: usize,
    /// Its type; 0 where there is none.
    pub(super) rtype: RecordType,
}

/// The last record of a message, whatever it says. `None` when it is cut short.
pub(super) fn last_record(message: &[u8]) -> Option<Last> {
    let (header, behind_header) = message.split_first_chunk::<HEADER>()?;
    let count = |index: usize| u32::from(u16::from_be_bytes([header[4 + 2 * index], header[5 + 2 * index]]));
    let mut rest = behind_header;
    for _ in 0..count(0) {
        rest = skip_name(rest)?.get(4..)?;
    }
    let question_end = message.len() - rest.len();
    let (mut at, mut rtype) = (message.len(), RecordType(0));
    for _ in 0..count(1) + count(2) + count(3) {
        at = message.len() - rest.len();
        let (fixed, data) = skip_name(rest)?.split_first_chunk::<FIXED>()?;
        rtype = RecordType(u16::from_be_bytes([fixed[0], fixed[1]]));
        rest = data.get(usize::from(u16::from_be_bytes([fixed[8], fixed[9]]))..)?;
    }
    Some(Last { question_end, at, rtype })
}

/// Reads an OPT record: type, class, TTL and length, and its data. `None` when it is malformed. An unserved version
/// hides the meaning of its options (RFC 6891 §6.1.3).
fn opt(fixed: &[u8; FIXED], options: &[u8], edns: &mut Edns) -> Option<()> {
    edns.payload = u16::from_be_bytes([fixed[2], fixed[3]]);
    edns.version = fixed[5];
    edns.dnssec_ok = fixed[6] & 0x80 != 0;
    let mut rest = if edns.version == 0 { options } else { &[] };
    while !rest.is_empty() {
        let (code, data, behind) = option(rest)?;
        rest = behind;
        match code {
            OPTION_NSID => edns.nsid = true,
            OPTION_CLIENT_SUBNET => match client_subnet(data).filter(|_| edns.client_subnet.is_none()) {
                None => {
                    edns.has_bad_subnet = true;
                    return None;
                }
                subnet => edns.client_subnet = subnet,
            },
            OPTION_COOKIE if edns.cookie.is_none() => edns.cookie = Some(Cookie::read(data)?),
            OPTION_KEEPALIVE => {
                edns.keepalive = true;
                edns.has_keepalive_timeout |= !data.is_empty();
            }
            OPTION_PADDING => edns.padding = true,
            _ => {}
        }
    }
    Some(())
}

/// The first of the options of an OPT: its code and data, and what follows it.
#[inline]
fn option(options: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let (&[code_high, code_low, high, low], behind) = options.split_first_chunk()?;
    let (data, behind) = behind.split_at_checked(usize::from(u16::from_be_bytes([high, low])))?;
    Some((u16::from_be_bytes([code_high, code_low]), data, behind))
}

/// RFC 7871 §6: FAMILY, SOURCE, SCOPE (0 in a query), as many octets as SOURCE needs, no bit set past it. Family 0 is
/// what `dig +subnet=0` sends: no address at all.
fn client_subnet(data: &[u8]) -> Option<ClientSubnet> {
    let (&[family_high, family_low, source, scope], prefix) = data.split_first_chunk::<4>()?;
    let family = u16::from_be_bytes([family_high, family_low]);
    let longest = match family {
        0 => 0,
        1 => 32,
        2 => 128,
        _ => return None,
    };
    if scope != 0 || source > longest || prefix.len() != usize::from(source).div_ceil(8) {
        return None;
    }
    if source % 8 != 0 && prefix[prefix.len() - 1] & (0xff >> (source % 8)) != 0 {
        return None;
    }
    let mut octets = [0u8; 16];
    octets[..prefix.len()].copy_from_slice(prefix);
    let address = if family == 2 {
        IpAddr::V6(Ipv6Addr::from(octets))
    } else {
        IpAddr::V4(Ipv4Addr::new(octets[0], octets[1], octets[2], octets[3]))
    };
    Some(ClientSubnet { family, source, address })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// id 0x1234, RD, one question `www.Example.` A IN, then `tail` as additional records.
    fn message(additional: u16, tail: &[u8]) -> Vec<u8> {
        let mut message = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0];
        message.extend_from_slice(&additional.to_be_bytes());
        message.extend_from_slice(b"\x03www\x07Example\x00\x00\x01\x00\x01");
        message.extend_from_slice(tail);
        message
    }

    fn opt_record(options: &[u8]) -> Vec<u8> {
        let mut record = vec![0, 0, 41, 0x10, 0, 0, 0, 0x80, 0];
        record.extend_from_slice(&(options.len() as u16).to_be_bytes());
        record.extend_from_slice(options);
        record
    }

    fn rcode(message: &[u8]) -> Option<Rcode> {
        match parse(message, &mut LowerName::new()) {
            Parsed::Silence => None,
            Parsed::Refuse { rcode, .. } => Some(rcode),
            Parsed::CookieOnly { .. } | Parsed::Query(_) => Some(Rcode::NOERROR),
        }
    }

    #[test]
    fn a_subnet_is_found_without_looking_closely() {
        let subnet = [0, 8, 0, 7, 0, 1, 24, 0, 203, 0, 113];
        let behind_cookie = [&[0, 10, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8][..], &subnet].concat();
        let found = Some(IpAddr::from([203, 0, 113, 0]));
        let before_cookie = [&subnet[..], &[0, 10, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8]].concat();
        let short = [0, 8, 0, 6, 0, 1, 16, 0, 203, 1];
        let ipv6 = [0, 8, 0, 8, 0, 2, 32, 0, 0x20, 0x01, 0x0d, 0xb8];
        let other_first = [&[0, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0][..], &opt_record(&before_cookie)].concat();
        for (message, expected) in [
            (message(1, &opt_record(&subnet)), found),
            (message(1, &opt_record(&behind_cookie)), found),
            (message(1, &opt_record(&before_cookie)), found),
            (message(1, &opt_record(&short)), Some(IpAddr::from([203, 1, 0, 0]))),
            (message(1, &opt_record(&ipv6)), Some("2001:db8::".parse().expect("an address"))),
            (message(1, &opt_record(&[0, 10, 0, 0])), None),
            (message(0, &[]), None),
            (message(2, &other_first), None),
        ] {
            assert_eq!(likely_subnet(&message), expected, "{message:?}");
            for length in 0..message.len() {
                let _ = likely_subnet(&message[..length]);
            }
        }
    }

    #[test]
    fn reads_a_query() {
        let mut qname = LowerName::new();
        let subnet = [0, 8, 0, 7, 0, 1, 24, 0, 203, 0, 113];
        let Parsed::Query(query) = parse(&message(1, &opt_record(&subnet)), &mut qname) else { panic!("a query") };
        assert_eq!(qname.as_wire(), b"\x03www\x07example\x00");
        assert_eq!((qname.labels(), qname.suffix(1), qname.suffix(2)), (2, &b"\x07example\x00"[..], &b"\x00"[..]));
        assert_eq!((query.id, query.qtype, query.qclass), (0x1234, RecordType::A, Class::IN));
        let edns = query.edns.expect("an OPT");
        assert_eq!((edns.payload, edns.dnssec_ok, edns.nsid), (4096, true, false));
        let subnet = edns.client_subnet.expect("a subnet");
        assert_eq!((subnet.source, subnet.address), (24, "203.0.113.0".parse().expect("an address")));
    }

    #[test]
    fn a_tsig_is_the_last_record() {
        let tsig = b"\x01k\x00\x00\xfa\x00\xff\x00\x00\x00\x00\x00\x01x";
        let opt = opt_record(&[]);
        let question_end = message(0, &[]).len();
        for (records, tail, expected) in [
            (0, [&[][..], &[]], Some(0)),
            (1, [&opt, &[]], Some(0)),
            (1, [tsig, &[]], Some(question_end)),
            (2, [&opt, tsig], Some(question_end + opt.len())),
            (2, [tsig, &opt], None),
            (2, [tsig, tsig], None),
        ] {
            let mut qname = LowerName::new();
            let parsed = parse(&message(records, &tail.concat()), &mut qname);
            let found = if let Parsed::Query(query) = parsed { Some(usize::from(query.tsig_at)) } else { None };
            assert_eq!(found, expected, "{tail:?}");
        }
        let mut in_authority = message(0, tsig);
        (in_authority[9], in_authority[question_end - 3]) = (1, 251);
        assert_eq!(rcode(&in_authority), Some(Rcode::FORMERR));
    }

    #[test]
    fn refuses_malformed_messages() {
        let with_option = |option: &[u8]| message(1, &opt_record(option));
        let two = [opt_record(&[]), opt_record(&[])].concat();
        let mut opt_with_owner = vec![1, b'a'];
        opt_with_owner.extend_from_slice(&opt_record(&[]));
        let mut version_1 = opt_record(&[0, 8, 0, 1, 9]);
        version_1[6] = 1;
        let mut response = message(0, &[]);
        response[2] |= 0x80;
        let mut notify = message(0, &[]);
        notify[2] |= 0x20;
        let patched = |at: usize, value: u8| {
            let mut message = message(0, &[]);
            message[at] = value;
            message
        };
        for (what, message, expected) in [
            ("empty", vec![], None),
            ("eleven octets", vec![0; 11], None),
            ("a response", response, None),
            ("NOTIFY", notify, Some(Rcode::NOTIMP)),
            ("QDCOUNT 0", patched(5, 0), Some(Rcode::FORMERR)),
            ("QDCOUNT 2", patched(5, 2), Some(Rcode::FORMERR)),
            ("ANCOUNT 1", patched(7, 1), Some(Rcode::FORMERR)),
            ("ARCOUNT beyond the end", patched(11, 1), Some(Rcode::FORMERR)),
            ("a pointer in the name", patched(12, 0xc0), Some(Rcode::FORMERR)),
            ("an unknown label type", patched(12, 0x40), Some(Rcode::FORMERR)),
            ("two OPTs", message(2, &two), Some(Rcode::FORMERR)),
            ("OPT with an owner", message(1, &opt_with_owner), Some(Rcode::FORMERR)),
            ("EDNS version 1", message(1, &version_1), Some(Rcode::BADVERS)),
            ("a cut option", with_option(&[0, 8, 0, 9, 0]), Some(Rcode::FORMERR)),
            ("an unknown option", with_option(&[0, 99, 0, 1, 0]), Some(Rcode::NOERROR)),
            ("ECS of family 3", with_option(&[0, 8, 0, 4, 0, 3, 0, 0]), Some(Rcode::FORMERR)),
            ("ECS with source 33", with_option(&[0, 8, 0, 9, 0, 1, 33, 0, 1, 2, 3, 4, 0]), Some(Rcode::FORMERR)),
            ("ECS with scope 1", with_option(&[0, 8, 0, 5, 0, 1, 8, 1, 10]), Some(Rcode::FORMERR)),
            ("ECS one octet short", with_option(&[0, 8, 0, 6, 0, 1, 24, 0, 10, 0]), Some(Rcode::FORMERR)),
            ("ECS one octet long", with_option(&[0, 8, 0, 6, 0, 1, 8, 0, 10, 0]), Some(Rcode::FORMERR)),
            ("ECS with bits past the prefix", with_option(&[0, 8, 0, 5, 0, 1, 4, 0, 0x1f]), Some(Rcode::FORMERR)),
            ("a cookie of 7 octets", with_option(&[0, 10, 0, 7, 1, 2, 3, 4, 5, 6, 7]), Some(Rcode::FORMERR)),
            ("a cookie of 8 octets", with_option(&[0, 10, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8]), Some(Rcode::NOERROR)),
            ("a cookie of 15 octets", with_option(&[&[0, 10, 0, 15][..], &[7; 15]].concat()), Some(Rcode::FORMERR)),
            ("a cookie of 41 octets", with_option(&[&[0, 10, 0, 41][..], &[7; 41]].concat()), Some(Rcode::FORMERR)),
            (
                "a good cookie, then a bad one",
                with_option(&[0, 10, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8, 0, 10, 0, 1, 7]),
                Some(Rcode::NOERROR),
            ),
            (
                "a bad cookie, then a good one",
                with_option(&[0, 10, 0, 1, 7, 0, 10, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8]),
                Some(Rcode::FORMERR),
            ),
            ("ECS with source 0", with_option(&[0, 8, 0, 4, 0, 1, 0, 0]), Some(Rcode::NOERROR)),
            ("ECS with family 0 and source 0", with_option(&[0, 8, 0, 4, 0, 0, 0, 0]), Some(Rcode::NOERROR)),
        ] {
            assert_eq!(rcode(&message), expected, "{what}");
        }
    }

    #[test]
    fn a_query_without_a_question_has_a_cookie() {
        let of = |questions: u8, answers: u8, record: &[u8]| {
            let counts = [0, questions, 0, answers, 0, 0, 0, u8::from(!record.is_empty())];
            let message = [&[0x12, 0x34, 1, 0][..], &counts, record].concat();
            matches!(parse(&message, &mut LowerName::new()), Parsed::CookieOnly { .. })
        };
        let cookie = opt_record(&[&[0, 10, 0, 8][..], &[7; 8]].concat());
        assert!(of(0, 0, &cookie));
        assert!(!of(0, 0, &opt_record(&[])) && !of(0, 0, &[]), "no cookie");
        assert!(!of(0, 1, &cookie) && !of(2, 0, &cookie), "other counts");
        assert!(!of(0, 0, &cookie[..cookie.len() - 1]), "cut");
    }

    #[test]
    fn bounds_names() {
        let mut longest = vec![];
        for length in [63u8, 63, 63, 61] {
            longest.push(length);
            longest.extend(vec![b'a'; length as usize]);
        }
        longest.push(0);
        assert_eq!(LowerName::new().set(&longest), Some(255));
        let mut longer = longest.clone();
        longer[192] = 62;
        longer.insert(193, b'a');
        assert_eq!(LowerName::new().set(&longer), None);
        let deepest: Vec<u8> = [1u8, b'a'].repeat(127).into_iter().chain([0]).collect();
        let mut name = LowerName::new();
        assert_eq!((name.set(&deepest), name.labels()), (Some(255), 127));
    }
}
