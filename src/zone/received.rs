//! Messages that others sent with records in them (transfers, updates), read record by record: owners and data come out as
//! zones hold them, without compression (RFC 1035 §4.1.4) and checked against their type.
//!
//! ```text
//! | header | question … | answer … | authority … | additional … |
//!            └─ Received::question └─ Received::next, section by section
//! ```

use super::rdata::{Field, form};
use super::wire;
use crate::dns::name::{MAX_LABEL, MAX_NAME};
use crate::dns::query::HEADER;
use crate::dns::{Class, Name, RecordType};

/// Octets of a record's type, class, TTL and RDLENGTH.
const FIXED: usize = 10;
/// Sections of a message.
const SECTIONS: usize = 4;

/// A message that is read from the front.
#[derive(Clone, Debug)]
pub struct Received<'m> {
    message: &'m [u8],
    at: usize,
    /// Entries of each section that are still to be read.
    left: [u16; SECTIONS],
}

/// A question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// As sent.
    pub name: Name,
    /// Type.
    pub rtype: RecordType,
    /// Class.
    pub class: Class,
}

/// A record of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceivedRecord {
    /// Owner name in wire format, case as sent.
    pub owner: Vec<u8>,
    /// Type.
    pub rtype: RecordType,
    /// Class; in updates it says what is to be done.
    pub class: Class,
    /// Seconds; what does not fit 31 bits is 0 (RFC 2181 §8).
    pub ttl: u32,
    /// Data, names in it uncompressed.
    pub rdata: Vec<u8>,
}

/// A message, or the part of it that is to be read next, has no form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

impl<'m> Received<'m> {
    /// Begins with the message; `None` when it is shorter than a header.
    #[must_use]
    pub fn new(message: &'m [u8]) -> Option<Received<'m>> {
        let header = message.first_chunk::<HEADER>()?;
        let count = |section: usize| u16::from_be_bytes([header[4 + 2 * section], header[5 + 2 * section]]);
        Some(Received { message, at: HEADER, left: [0, 1, 2, 3].map(count) })
    }

    /// Message id.
    #[must_use]
    pub fn id(&self) -> u16 {
        u16::from_be_bytes([self.message[0], self.message[1]])
    }

    /// Flags of the header, with opcode and rcode.
    #[must_use]
    pub fn flags(&self) -> u16 {
        u16::from_be_bytes([self.message[2], self.message[3]])
    }

    /// Entries of a section (0 = questions, 3 = additional) that were not read yet.
    #[must_use]
    pub fn left(&self, section: usize) -> u16 {
        self.left[section]
    }

    /// Where what comes next begins.
    #[must_use]
    pub fn position(&self) -> usize {
        self.at
    }

    /// The next question, if there is one.
    ///
    /// # Errors
    /// When it has no form.
    pub fn question(&mut self) -> Result<Option<Question>, Malformed> {
        if self.left[0] == 0 {
            return Ok(None);
        }
        let mut owner = Vec::new();
        let end = name(self.message, self.at, &mut owner).ok_or(Malformed)?;
        let fixed = self.message.get(end..).and_then(<[u8]>::first_chunk::<4>).ok_or(Malformed)?;
        (self.at, self.left[0]) = (end + 4, self.left[0] - 1);
        Ok(Some(Question {
            name: Name::from_wire(&owner).map_err(|_| Malformed)?,
            rtype: RecordType(u16::from_be_bytes([fixed[0], fixed[1]])),
            class: Class(u16::from_be_bytes([fixed[2], fixed[3]])),
        }))
    }

    /// The next record of a section, which those before it were read of; nothing when there are no more.
    ///
    /// # Errors
    /// When it has no form. Data of class IN must be in order for their type; those of other classes may also be empty.
    pub fn next(&mut self, section: usize) -> Result<Option<ReceivedRecord>, Malformed> {
        if self.left[section] == 0 {
            return Ok(None);
        }
        let mut owner = Vec::new();
        let at = name(self.message, self.at, &mut owner).ok_or(Malformed)?;
        let fixed = self.message.get(at..).and_then(<[u8]>::first_chunk::<FIXED>).ok_or(Malformed)?;
        let number = |at: usize| u16::from_be_bytes([fixed[at], fixed[at + 1]]);
        let (rtype, class) = (RecordType(number(0)), Class(number(2)));
        let ttl = u32::from_be_bytes([fixed[4], fixed[5], fixed[6], fixed[7]]);
        let (start, length) = (at + FIXED, usize::from(number(8)));
        let end = start + length;
        if end > self.message.len() {
            return Err(Malformed);
        }
        let mut rdata = Vec::with_capacity(length);
        if length > 0 || class == Class::IN {
            expand(rtype, self.message, start..end, &mut rdata).ok_or(Malformed)?;
        }
        (self.at, self.left[section]) = (end, self.left[section] - 1);
        let ttl = if ttl > i32::MAX as u32 { 0 } else { ttl };
        Ok(Some(ReceivedRecord { owner, rtype, class, ttl, rdata }))
    }
}

/// Appends the name at `at` of a message, without its pointers, to `to`; where it ends in the message.
fn name(message: &[u8], mut at: usize, to: &mut Vec<u8>) -> Option<usize> {
    let (start, mut end, mut before) = (to.len(), None, at);
    loop {
        let length = *message.get(at)?;
        match length {
            0 => {
                to.push(0);
                return Some(end.unwrap_or(at + 1));
            }
            _ if usize::from(length) <= MAX_LABEL => {
                let label = message.get(at..=at + usize::from(length))?;
                if to.len() - start + label.len() >= MAX_NAME {
                    return None;
                }
                to.extend_from_slice(label);
                at += label.len();
            }
            _ if length & 0xc0 == 0xc0 => {
                let target = usize::from(u16::from_be_bytes([length & 0x3f, *message.get(at + 1)?]));
                end.get_or_insert(at + 2);
                // Only ever backward, so that it ends.
                if target >= before {
                    return None;
                }
                (at, before) = (target, target);
            }
            _ => return None,
        }
    }
}

/// Appends record data without compression; `None` when they are not those of their type.
fn expand(rtype: RecordType, message: &[u8], range: std::ops::Range<usize>, to: &mut Vec<u8>) -> Option<()> {
    let (mut at, end) = (range.start, range.end);
    for field in form(rtype).unwrap_or_default() {
        let octets = match field {
            Field::Name => {
                at = name(&message[..end], at, to)?;
                continue;
            }
            Field::U8 | Field::Algorithm => 1,
            Field::U16 | Field::CertType => 2,
            Field::U32 | Field::Period | Field::A => 4,
            Field::Aaaa => 16,
            Field::Text => 1 + usize::from(*message.get(at)?),
            // Behind fields of any length no names are compressed.
            _ => break,
        };
        to.extend_from_slice(message[..end].get(at..at + octets)?);
        at += octets;
    }
    to.extend_from_slice(message[..end].get(at..)?);
    wire::verify(rtype, to).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(counts: [u16; 4], body: &[u8]) -> Vec<u8> {
        let counts = counts.iter().flat_map(|count| count.to_be_bytes());
        [0u8, 7, 0x84, 0].into_iter().chain(counts).chain(body.iter().copied()).collect()
    }

    const QUESTION: &[u8] = b"\x07example\x03com\x00\x00\x06\x00\x01";

    fn record(owner: &[u8], rtype: u16, rdata: &[u8]) -> Vec<u8> {
        let length = rdata.len() as u16;
        [owner, &rtype.to_be_bytes(), &[0, 1, 0, 0, 0, 60], &length.to_be_bytes(), rdata].concat()
    }

    #[test]
    fn names_lose_their_pointers() {
        let soa = [&b"\x02ns\xc0\x0c\x01h\xc0\x0c"[..], &[0; 20]].concat();
        let body =
            [QUESTION, &record(b"\xc0\x0c", 6, &soa), &record(b"\x01m\xc0\x0c", 15, b"\x00\x05\xc0\x14")].concat();
        let message = message([1, 2, 0, 0], &body);
        let mut received = Received::new(&message).expect("a header");
        assert_eq!((received.id(), received.flags()), (7, 0x8400));
        let question = received.question().expect("a form").expect("one");
        assert_eq!((question.name.to_plain().as_str(), question.rtype), ("example.com", RecordType::SOA));
        let soa = received.next(1).expect("a form").expect("one");
        assert_eq!(soa.owner, b"\x07example\x03com\x00");
        assert_eq!(soa.rdata[..31], b"\x02ns\x07example\x03com\x00\x01h\x07example\x03com\x00"[..]);
        let mx = received.next(1).expect("a form").expect("one");
        assert_eq!(
            (mx.owner.as_slice(), mx.rdata.as_slice()),
            (&b"\x01m\x07example\x03com\x00"[..], &b"\x00\x05\x03com\x00"[..])
        );
        assert_eq!((mx.ttl, received.next(1)), (60, Ok(None)));
        assert_eq!(received.position(), message.len());
    }

    #[test]
    fn what_has_no_form_is_refused() {
        for (owner, rtype, rdata) in [
            (&b"\xc0\x1d"[..], 1, &[192, 0, 2, 1][..]),
            (b"\xc0\xff", 1, &[192, 0, 2, 1]),
            (b"\x80a\x00", 1, &[192, 0, 2, 1]),
            (b"\xc0\x0c", 1, &[192, 0, 2]),
            (b"\xc0\x0c", 1, &[]),
            (b"\xc0\x0c", 2, b"\x01a"),
            (b"\xc0\x0c", 2, b"\x01a\x00\x00"),
            (b"\xc0\x0c", 15, b"\x00"),
            (b"\xc0\x0c", 16, b"\x05a"),
        ] {
            let message = message([1, 1, 0, 0], &[QUESTION, &record(owner, rtype, rdata)].concat());
            let mut received = Received::new(&message).expect("a header");
            received.question().expect("a form");
            assert_eq!(received.next(1), Err(Malformed), "{owner:?} {rtype} {rdata:?}");
        }
        assert!(Received::new(&[0; 11]).is_none());
    }

    #[test]
    fn any_octets_are_read_without_a_panic() {
        let whole = message(
            [1, 1, 1, 1],
            &[QUESTION, &record(b"\xc0\x0c", 33, b"\x00\x01\x00\x02\x00\x03\x01a\xc0\x0c")].concat(),
        );
        for end in 0..whole.len() {
            for flip in 0..whole.len() {
                let mut octets = whole.clone();
                octets[flip] ^= 0x55;
                let Some(mut received) = Received::new(&octets[..end]) else { continue };
                while let Ok(Some(_)) = received.question() {}
                (1..SECTIONS).for_each(|section| while let Ok(Some(_)) = received.next(section) {});
            }
        }
    }
}
