//! The records of a zone as loaded: one block of octets, and a few numbers for each record. A zone may have millions.
//!
//! ```text
//! octets   | owner | rdata | rdata | owner | rdata |     an owner stands once for records that follow one another
//! entries    {owner, rdata, length, type, TTL, span} …
//! ```

use xxhash_rust::xxh3::xxh3_128;

use crate::dns::writer::name_length;
use crate::dns::{Name, RecordType};
use crate::problem::{SourceId, Span};

/// Most octets of a zone's owners and data.
const MAX_OCTETS: usize = u32::MAX as usize;

/// One record as loaded, class IN.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// Owner name in wire format, absolute, case kept.
    pub owner: &'a [u8],
    /// Type, never a meta type.
    pub rtype: RecordType,
    /// Seconds, at most 2^31 - 1.
    pub ttl: u32,
    /// Record data in wire format, names in it uncompressed, case kept; at most 65 535 octets.
    pub rdata: &'a [u8],
    /// Where in the zone file.
    pub span: Span,
}

impl<'a> Record<'a> {
    /// A record that stands in no file.
    #[must_use]
    pub fn made(owner: &'a [u8], rtype: RecordType, ttl: u32, rdata: &'a [u8]) -> Record<'a> {
        Record { owner, rtype, ttl, rdata, span: Span::new(SourceId(0), 0..0) }
    }
}

impl Record<'_> {
    /// The owner, to be shown and compared.
    #[must_use]
    pub fn name(&self) -> Name {
        Name::from_wire(self.owner).unwrap_or_else(|_| Name::root())
    }

    /// The serial of a SOA; of what is none, nothing.
    #[must_use]
    pub fn soa_serial(&self) -> Option<u32> {
        soa_serial(self.rdata).filter(|_| self.rtype == RecordType::SOA)
    }
}

/// The serial in the data of a SOA.
#[must_use]
pub fn soa_serial(rdata: &[u8]) -> Option<u32> {
    // Behind two names five numbers, the serial the first.
    let numbers = rdata.last_chunk::<20>()?;
    Some(u32::from_be_bytes([numbers[0], numbers[1], numbers[2], numbers[3]]))
}

/// Records in the order of the file.
#[derive(Clone, Debug, Default)]
pub struct Records {
    octets: Vec<u8>,
    entries: Vec<Entry>,
}

/// Where a record's parts are.
#[derive(Clone, Copy, Debug)]
struct Entry {
    owner: u32,
    rdata: u32,
    ttl: u32,
    span: Span,
    rtype: RecordType,
    length: u16,
}

/// There is no more room.
#[derive(Clone, Copy, Debug)]
pub struct TooMany;

impl Records {
    /// Adds a record.
    ///
    /// # Errors
    /// [`TooMany`] when all records together have more than 4 GiB.
    pub fn push(&mut self, record: Record<'_>) -> Result<(), TooMany> {
        if self.octets.len() + record.owner.len() + record.rdata.len() > MAX_OCTETS {
            return Err(TooMany);
        }
        let owner = match self.last() {
            Some(last) if last.owner == record.owner => self.entries[self.len() - 1].owner,
            _ => self.add(record.owner),
        };
        let rdata = self.add(record.rdata);
        let Record { ttl, span, rtype, .. } = record;
        self.entries.push(Entry { owner, rdata, ttl, span, rtype, length: record.rdata.len() as u16 });
        Ok(())
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The record at `index`.
    #[must_use]
    pub fn get(&self, index: usize) -> Record<'_> {
        let Entry { owner, rdata, ttl, span, rtype, length } = self.entries[index];
        Record {
            owner: self.name_at(owner),
            rtype,
            ttl,
            rdata: &self.octets[rdata as usize..][..usize::from(length)],
            span,
        }
    }

    /// The last record.
    #[must_use]
    pub fn last(&self) -> Option<Record<'_>> {
        self.len().checked_sub(1).map(|last| self.get(last))
    }

    /// All records.
    pub fn iter(&self) -> impl Iterator<Item = Record<'_>> + Clone {
        (0..self.len()).map(|index| self.get(index))
    }

    /// Tells sets of records apart: equal for equal records (owners compared without case) in any order.
    #[must_use]
    pub fn digest(&self) -> u128 {
        let mut octets = Vec::new();
        let of = |record: Record<'_>| {
            octets.clear();
            octets.extend(record.owner.iter().map(u8::to_ascii_lowercase));
            octets.extend(record.rtype.0.to_be_bytes());
            octets.extend(record.ttl.to_be_bytes());
            octets.extend(record.rdata);
            xxh3_128(&octets)
        };
        self.iter().map(of).fold(0, u128::wrapping_add)
    }

    /// Where the owner of the record at `index` is, for [`Records::name_at`].
    pub(super) fn owner_at(&self, index: usize) -> u32 {
        self.entries[index].owner
    }

    /// Where the data of the record at `index` are.
    pub(super) fn rdata_at(&self, index: usize) -> u32 {
        self.entries[index].rdata
    }

    /// The name there.
    pub(super) fn name_at(&self, at: u32) -> &[u8] {
        let octets = &self.octets[at as usize..];
        &octets[..name_length(octets).unwrap_or(0)]
    }

    /// The type of the record at `index`.
    pub(super) fn rtype(&self, index: usize) -> RecordType {
        self.entries[index].rtype
    }

    /// Takes away the records at these indices, which ascend.
    pub(super) fn remove(&mut self, indices: &[usize]) {
        let (mut next, mut index) = (indices.iter().peekable(), 0);
        self.entries.retain(|_| {
            index += 1;
            next.next_if_eq(&&(index - 1)).is_none()
        });
    }

    /// Gives back the room that is not needed.
    pub(super) fn shrink(&mut self) {
        self.octets.shrink_to_fit();
        self.entries.shrink_to_fit();
    }

    fn add(&mut self, octets: &[u8]) -> u32 {
        let at = self.octets.len() as u32;
        self.octets.extend_from_slice(octets);
        at
    }
}

/// Records made by hand; those beyond 4 GiB are left out.
impl<'a> FromIterator<Record<'a>> for Records {
    fn from_iter<T: IntoIterator<Item = Record<'a>>>(records: T) -> Records {
        let mut all = Records::default();
        for record in records {
            let _ = all.push(record);
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_records_as_they_were_given() {
        let record = |owner: &'static [u8], rtype, rdata: &'static [u8], at: usize| Record {
            owner,
            rtype,
            ttl: at as u32,
            rdata,
            span: Span::new(SourceId(1), at..at + 1),
        };
        let given = [
            record(b"\x01a\x00", RecordType::A, &[192, 0, 2, 1], 1),
            record(b"\x01a\x00", RecordType::TXT, &[0], 2),
            record(b"\x01A\x00", RecordType::APL, &[], 3),
            record(b"\x00", RecordType::NULL, &[9; 300], 4),
        ];
        let mut records: Records = given.into_iter().collect();
        let show = |records: &Records| records.iter().map(|record| format!("{record:?}")).collect::<Vec<_>>();
        assert_eq!(show(&records), given.map(|record| format!("{record:?}")));
        assert_eq!(records.octets.len(), (3 + 4) + 1 + 3 + (1 + 300));
        records.remove(&[0, 2]);
        assert_eq!(show(&records), [1, 3].map(|index| format!("{:?}", given[index])));
        assert_eq!(records.last().map(|record| record.name()), Some(Name::root()));
    }
}
