//! The SOA of negative answers (RFC 2308 §3), ready: encoded as if the apex itself were asked.
//!
//! ```text
//! header | apex | type class | c0 0c | SOA … | MNAME, RNAME: labels, then a pointer into the apex or the record
//! header | labels  apex | type class | c0 0c + n … every pointer + n, for n octets of labels
//! ```
//! Whatever name below the apex is asked: its question ends with the apex, so everything that a pointer leads to stands
//! a fixed number of octets later. One copy, at most three additions and the TTL make the answer.

use crate::dns::query::HEADER;
use crate::dns::writer::Targets;
use crate::dns::{Full, Owner, RecordType, Section, Writer};

/// Room for header, question and a SOA that is not compressed.
const ROOM: usize = HEADER + (255 + 4) + (255 + 10) + (255 + 255 + 20);
/// Type and class of a question.
const QUESTION_TAIL: usize = 4;

/// A SOA record for negative answers of one zone.
#[derive(Clone, Debug)]
pub(super) struct Negative {
    record: Box<[u8]>,
    /// Where in it pointers are, and how many.
    pointers: [u16; 3],
    pointer_count: usize,
    /// Where its TTL is.
    ttl_at: usize,
    /// Octets of the apex.
    apex: usize,
}

impl Negative {
    /// For the zone at `origin` (wire format) with this SOA; `None` when that is no SOA.
    pub(super) fn new(origin: &[u8], soa: &[u8]) -> Option<Negative> {
        let head = [&[0; HEADER][..], origin, &[0; QUESTION_TAIL]].concat();
        let (mut out, mut targets) = ([0; ROOM], Targets::default());
        let mut writer = Writer::new(&mut out, &mut targets, ROOM, 0, &head);
        writer.record(Section::Authority, Owner::Name(origin), RecordType::SOA, 0, soa).ok()?;
        let length = writer.length();
        let record: Box<[u8]> = out[head.len()..length].into();
        let owner = name_end(&record, 0)?;
        let mname = name_end(&record, owner.end + 10)?;
        let rname = name_end(&record, mname.end)?;
        let mut pointers = [0; 3];
        let found = [owner, mname, rname].into_iter().filter_map(|name| name.pointer);
        let pointer_count = pointers.iter_mut().zip(found).map(|(to, at)| *to = at as u16).count();
        Some(Negative { record, pointers, pointer_count, ttl_at: owner.end + 4, apex: origin.len() })
    }

    /// Writes it right behind the question, whose name has `qname` octets and ends with the apex.
    ///
    /// # Errors
    /// [`Full`] when it does not fit; then nothing was written.
    pub(super) fn write(&self, writer: &mut Writer<'_>, qname: usize, ttl: u32) -> Result<(), Full> {
        let written = writer.copy(Section::Authority, &self.record, 1)?;
        let shift = qname.saturating_sub(self.apex) as u16;
        for at in self.pointers.iter().take(self.pointer_count).map(|at| usize::from(*at)) {
            let pointer = u16::from_be_bytes([written[at], written[at + 1]]) + shift;
            written[at..at + 2].copy_from_slice(&pointer.to_be_bytes());
        }
        written[self.ttl_at..self.ttl_at + 4].copy_from_slice(&ttl.to_be_bytes());
        Ok(())
    }
}

/// Where a compressed name ends, and where its pointer is.
#[derive(Clone, Copy)]
struct NameEnd {
    end: usize,
    pointer: Option<usize>,
}

fn name_end(record: &[u8], start: usize) -> Option<NameEnd> {
    let mut at = start;
    loop {
        match *record.get(at)? {
            0 => return Some(NameEnd { end: at + 1, pointer: None }),
            0xc0.. => return Some(NameEnd { end: at + 2, pointer: Some(at) }),
            length => at += 1 + usize::from(length),
        }
    }
}
