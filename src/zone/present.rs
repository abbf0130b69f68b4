//! Records as text in one canonical form: what `waymark zone format` prints, the way back of `file` and `rdata`.
//!
//! ```text
//! $ORIGIN example.com.
//! example.com.      300 IN SOA  ns1.example.com. …     one record a line, tabs between owner, TTL, class, type and data;
//! example.com.      300 IN NS   ns1.example.com.       names absolute, TTLs in seconds
//! www.example.com.   60 IN A    192.0.2.1
//! ```
//! Names in canonical order (RFC 4034 §6.1), the apex first; within a name the SOA, then types by number, data by their
//! octets. `$ORIGIN` is there to say whose zone it is.
//!
//! The table [`form`] says what the data of a type consist of. Data that their type's text cannot say (a LOC beyond the
//! poles, given by `\#`) stand as `\# LENGTH HEX`: each line is read once more before it goes out.

mod special;

use std::fmt::Write;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::encoding::{to_base64, to_hex};
use super::lexer::{Input, Lexer};
use super::rdata::{self, Field, form};
use super::records::{Record, Records};
use crate::dns::writer::name_length;
use crate::dns::{Name, RecordType};
use crate::problem::SourceId;

/// The lines of a zone file with these records of `zone`, without their ends.
pub fn lines(zone: &Name, records: &Records) -> impl Iterator<Item = String> {
    let order = in_order(records).into_iter();
    std::iter::once(format!("$ORIGIN {zone}")).chain(order.map(|index| line(records.get(index))))
}

/// Indices of the records in canonical order.
fn in_order(records: &Records) -> Vec<usize> {
    let key = |index: &usize| {
        let Record { owner, rtype, rdata, .. } = records.get(*index);
        (from_the_right(owner), (rtype != RecordType::SOA, rtype), rdata, owner)
    };
    let mut order: Vec<usize> = (0..records.len()).collect();
    order.sort_by_cached_key(key);
    order
}

/// Octets that compare as names do in canonical order: labels from the right, in lower case, each ended by 0; the octets 0
/// and 1 become two.
fn from_the_right(owner: &[u8]) -> Vec<u8> {
    let mut labels = Vec::new();
    let mut rest = owner;
    while let Some((&length, behind)) = rest.split_first().filter(|(length, _)| **length > 0) {
        let (label, behind) = behind.split_at(usize::from(length).min(behind.len()));
        labels.push(label);
        rest = behind;
    }
    let mut key = Vec::with_capacity(owner.len());
    for label in labels.into_iter().rev() {
        for octet in label {
            match octet.to_ascii_lowercase() {
                low @ ..=1 => key.extend([1, low + 1]),
                octet => key.push(octet),
            }
        }
        key.push(0);
    }
    key
}

fn line(record: Record<'_>) -> String {
    let Record { rtype, ttl, rdata, .. } = record;
    let head = format!("{}\t{ttl}\tIN\t{rtype}", record.name());
    let Some(data) = own_text(rtype, rdata) else { return format!("{head}\t{}", generic(rdata)) };
    let line = if data.is_empty() { head.clone() } else { format!("{head}\t{data}") };
    if reads_back(&line, rtype, rdata) { line } else { format!("{head}\t{}", generic(rdata)) }
}

/// `\# LENGTH HEX` (RFC 3597 §5).
fn generic(rdata: &[u8]) -> String {
    let text = format!("\\# {} {}", rdata.len(), to_hex(rdata));
    text.trim_end().to_string()
}

fn reads_back(line: &str, rtype: RecordType, rdata: &[u8]) -> bool {
    let mut tokens = Vec::new();
    let entry = Lexer::default().next(line, &mut tokens);
    let input = Input { text: line, source: SourceId(0), pinned: None };
    // Owner, TTL, class, type.
    let Some((before, data)) = tokens.split_at_checked(4).filter(|_| entry.is_some_and(|entry| entry.fault.is_none()))
    else {
        return false;
    };
    rdata::encode(rtype, input, before[3], data, &Name::root(), Vec::new()).is_ok_and(|again| again == rdata)
}

/// The text that the type has for its data; `None` when it has none.
fn own_text(rtype: RecordType, rdata: &[u8]) -> Option<String> {
    let mut data = Data { rest: rdata, text: String::new() };
    form(rtype)?.iter().try_for_each(|field| data.field(*field))?;
    data.rest.is_empty().then_some(data.text)
}

/// Octets that are left, and the text so far. What does not fit ends in `None`.
struct Data<'a> {
    rest: &'a [u8],
    text: String,
}

impl<'a> Data<'a> {
    fn field(&mut self, field: Field) -> Option<()> {
        match field {
            Field::Name => self.name()?,
            Field::U8 | Field::Algorithm => self.u8().map(drop)?,
            Field::U16 | Field::CertType => self.u16().map(drop)?,
            Field::U32 | Field::Period => {
                let number = u32::from_be_bytes(self.take()?);
                self.word(number);
            }
            Field::A => self.address::<4, Ipv4Addr>()?,
            Field::Aaaa => self.address::<16, Ipv6Addr>()?,
            Field::Text => self.string()?,
            Field::OptionalText if self.rest.is_empty() => {}
            Field::OptionalText => self.string()?,
            Field::Texts => {
                self.string()?;
                while !self.rest.is_empty() {
                    self.string()?;
                }
            }
            Field::Value | Field::FilledValue => {
                let value = self.all();
                self.word(quoted(value));
            }
            Field::Tag => {
                let tag = std::str::from_utf8(self.counted()?).ok()?;
                self.word(tag);
            }
            Field::Base64 => {
                let octets = self.all();
                self.word(to_base64(octets));
            }
            Field::Hex => {
                let octets = self.all();
                self.word(to_hex(octets));
            }
            Field::Types => self.types()?,
            Field::Eui48 => self.groups(6, 1, "-")?,
            Field::Eui64 => self.groups(8, 1, "-")?,
            Field::Node64 => self.groups(4, 2, ":")?,
            Field::Nsap => {
                let octets = self.all();
                self.word(format_args!("0x{}", to_hex(octets)));
            }
            Field::Location => special::location(self)?,
            Field::Prefixes => special::prefixes(self)?,
            Field::Services => special::services(self)?,
            Field::Gateway => special::gateway(self)?,
            Field::HostIdentity => special::host_identity(self)?,
            Field::Params => special::params(self)?,
        }
        Some(())
    }

    /// Adds a word.
    fn word(&mut self, word: impl std::fmt::Display) {
        if !self.text.is_empty() {
            self.text.push(' ');
        }
        // Writing to a string does not fail.
        let _ = write!(self.text, "{word}");
    }

    fn octets(&mut self, length: usize) -> Option<&'a [u8]> {
        let (octets, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(octets)
    }

    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.octets(N)?.try_into().ok()
    }

    /// All that is left.
    fn all(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    fn u8(&mut self) -> Option<u8> {
        let [number] = self.take()?;
        self.word(number);
        Some(number)
    }

    fn u16(&mut self) -> Option<u16> {
        let number = u16::from_be_bytes(self.take()?);
        self.word(number);
        Some(number)
    }

    fn address<const N: usize, A: From<[u8; N]> + std::fmt::Display>(&mut self) -> Option<()> {
        let address = A::from(self.take::<N>()?);
        self.word(address);
        Some(())
    }

    fn name(&mut self) -> Option<()> {
        let length = name_length(self.rest)?;
        let name = Name::from_wire(self.octets(length)?).ok()?;
        self.word(name);
        Some(())
    }

    /// As many octets as the first one says.
    fn counted(&mut self) -> Option<&'a [u8]> {
        let [length] = self.take()?;
        self.octets(length.into())
    }

    fn string(&mut self) -> Option<()> {
        let string = self.counted()?;
        self.word(quoted(string));
        Some(())
    }

    fn types(&mut self) -> Option<()> {
        while !self.rest.is_empty() {
            let [window] = self.take()?;
            for (octet, at) in self.counted()?.iter().zip(0u16..) {
                let set = (0..8u16).filter(|bit| octet & (0x80 >> bit) != 0);
                set.for_each(|bit| self.word(RecordType(u16::from(window) << 8 | at << 3 | bit)));
            }
        }
        Some(())
    }

    /// So many groups of so many octets in hexadecimal.
    fn groups(&mut self, count: usize, octets: usize, separator: &str) -> Option<()> {
        let groups: Vec<String> =
            self.octets(count * octets)?.chunks(octets).map(|group| to_hex(group).to_lowercase()).collect();
        self.word(groups.join(separator));
        Some(())
    }
}

/// A string in quotes: printable ASCII as it is, `\"`, `\\`, all else as `\DDD`.
pub(super) fn quoted(octets: &[u8]) -> String {
    let mut text = String::with_capacity(octets.len() + 2);
    text.push('"');
    for octet in octets {
        match octet {
            b'"' | b'\\' => text.extend(['\\', char::from(*octet)]),
            b' '..=b'~' => text.push(char::from(*octet)),
            _ => {
                let _ = write!(text, "\\{octet:03}");
            }
        }
    }
    text.push('"');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 4034 §6.1.
    #[test]
    fn names_are_in_canonical_order() {
        let names = [
            "example.",
            "a.example.",
            "yljkjljk.a.example.",
            "Z.a.example.",
            "zABC.a.EXAMPLE.",
            "z.example.",
            "\\000.z.example.",
            "\\001.z.example.",
            "\\001a.z.example.",
            "\\002.z.example.",
            "*.z.example.",
            "\\200.z.example.",
        ];
        let keys: Vec<Vec<u8>> =
            names.iter().map(|name| from_the_right(Name::parse(name, None).expect("a name").as_wire())).collect();
        assert!(keys.is_sorted_by(|a, b| a < b), "{keys:?}");
    }
}
