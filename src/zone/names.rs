//! The names of a zone by number, and what stands at each: what `check` looks things up in.
//!
//! Some 60 octets for a name: a zone may have millions, and all this is gone when the zone is checked.

use super::records::{Record, Records};
use super::table::{Table, hash};
use super::wire::name_at;
use crate::dns::name::wire_is_at_or_below;
use crate::dns::{LowerName, Name, RecordType};

/// Not the index of any record, not the place of any name.
const NONE: u32 = u32::MAX;

/// What stands at a name.
#[derive(Clone, Copy)]
pub(super) struct At {
    /// Where its octets are in the records; `NONE` for the apex.
    name: u32,
    /// Where its records begin in `Names::order`, and how many there are.
    first: u32,
    count: u32,
    ns: u32,
    cname: u32,
    dname: u32,
    pub(super) has_address: bool,
    /// A server of a delegation or of the zone.
    pub(super) is_server: bool,
}

impl At {
    fn new(name: u32) -> At {
        At { name, first: 0, count: 0, ns: NONE, cname: NONE, dname: NONE, has_address: false, is_server: false }
    }

    /// Index of its first NS record.
    pub(super) fn ns(&self) -> Option<usize> {
        index(self.ns)
    }

    /// Index of its first CNAME record.
    pub(super) fn cname(&self) -> Option<usize> {
        index(self.cname)
    }

    /// Index of its first DNAME record.
    pub(super) fn dname(&self) -> Option<usize> {
        index(self.dname)
    }
}

fn index(number: u32) -> Option<usize> {
    (number != NONE).then_some(number as usize)
}

/// Names by number; the apex is 0.
pub(super) struct Names<'r> {
    records: &'r Records,
    table: Table,
    at: Vec<At>,
    /// Indices of records by name, in the order of the file.
    order: Vec<u32>,
    apex: Box<[u8]>,
    has_dname: bool,
    has_cut: bool,
}

impl<'r> Names<'r> {
    pub(super) fn new(zone: &Name, records: &'r Records) -> Names<'r> {
        let apex: Box<[u8]> = zone.to_lower().as_wire().into();
        let mut names = Names {
            records,
            table: Table::with_capacity(records.len()),
            at: Vec::new(),
            order: vec![0; records.len()],
            apex,
            has_dname: false,
            has_cut: false,
        };
        names.add(hash(&names.apex), NONE);
        let numbers = names.number_all();
        names.lay_out(&numbers);
        for (index, record) in records.iter().enumerate() {
            names.note(numbers[index], index as u32, record);
        }
        names
    }

    /// How many names there are.
    pub(super) fn len(&self) -> usize {
        self.at.len()
    }

    /// What stands at a name.
    pub(super) fn at(&self, number: usize) -> At {
        self.at[number]
    }

    /// What stands at the name `lower`, in lower case.
    pub(super) fn get(&self, lower: &[u8]) -> Option<At> {
        self.find(hash(lower), lower).map(|number| self.at[number as usize])
    }

    /// Indices of a name's records, in the order of the file.
    pub(super) fn records_at(&self, number: usize) -> impl Iterator<Item = usize> + Clone {
        let At { first, count, .. } = self.at[number];
        self.order[first as usize..][..count as usize].iter().map(|index| *index as usize)
    }

    /// The apex in lower case.
    pub(super) fn apex(&self) -> &[u8] {
        &self.apex
    }

    /// The number of the owner of each record.
    fn number_all(&mut self) -> Vec<u32> {
        let mut lower = LowerName::new();
        let (mut before, mut number) = (NONE, 0);
        let mut numbers = Vec::with_capacity(self.records.len());
        for index in 0..self.records.len() {
            let at = self.records.owner_at(index);
            if at != before {
                number = self.number(at, &mut lower);
                before = at;
            }
            numbers.push(number);
        }
        numbers
    }

    /// The number of the name at a place of the records, a new one if need be.
    fn number(&mut self, at: u32, lower: &mut LowerName) -> u32 {
        lower.set(self.records.name_at(at));
        let hash = hash(lower.as_wire());
        self.find(hash, lower.as_wire()).unwrap_or_else(|| self.add(hash, at))
    }

    fn find(&self, hash: u32, lower: &[u8]) -> Option<u32> {
        self.table.find(hash, |number| self.name(number).eq_ignore_ascii_case(lower))
    }

    fn name(&self, number: u32) -> &[u8] {
        match self.at[number as usize].name {
            NONE => &self.apex,
            at => self.records.name_at(at),
        }
    }

    fn add(&mut self, hash: u32, name: u32) -> u32 {
        let number = self.at.len() as u32;
        self.table.insert(hash, number);
        self.at.push(At::new(name));
        number
    }

    /// Groups the records by name: counts, then places.
    fn lay_out(&mut self, numbers: &[u32]) {
        for number in numbers {
            self.at[*number as usize].count += 1;
        }
        let mut start = 0;
        for at in &mut self.at {
            at.first = start;
            start += std::mem::take(&mut at.count);
        }
        for (index, number) in numbers.iter().enumerate() {
            let At { first, count, .. } = &mut self.at[*number as usize];
            self.order[(*first + *count) as usize] = index as u32;
            *count += 1;
        }
    }

    fn note(&mut self, number: u32, index: u32, record: Record<'_>) {
        let at = &mut self.at[number as usize];
        let first = |known: &mut u32| *known = index.min(*known);
        match record.rtype {
            RecordType::NS => {
                first(&mut at.ns);
                self.has_cut |= number != 0;
                self.note_server(index);
            }
            RecordType::CNAME => first(&mut at.cname),
            RecordType::DNAME => {
                first(&mut at.dname);
                self.has_dname = true;
            }
            RecordType::A | RecordType::AAAA => at.has_address = true,
            _ => {}
        }
    }

    /// Remembers that a name of the zone is a server; it may have no records.
    fn note_server(&mut self, ns: u32) {
        let Some(target) = name_at(self.records.get(ns as usize).rdata, 0) else { return };
        if wire_is_at_or_below(target.as_wire(), &self.apex) {
            let number = self.number(self.records.rdata_at(ns as usize), &mut LowerName::new());
            self.at[number as usize].is_server = true;
        }
    }

    fn is_apex(&self, lower: &[u8]) -> bool {
        lower.len() == self.apex.len()
    }

    /// The highest zone cut at or above a name, or the highest DNAME strictly above it: index of a record there.
    pub(super) fn cover(&self, lower: &[u8]) -> Cover {
        let mut cover = Cover::None;
        if !self.has_cut && !self.has_dname {
            return cover;
        }
        let mut rest = lower;
        loop {
            let at = self.get(rest);
            if let Some(index) = at.and_then(|at| at.dname()).filter(|_| rest.len() < lower.len()) {
                cover = Cover::Dname(index);
            }
            if self.is_apex(rest) {
                return cover;
            }
            if let Some(index) = at.and_then(|at| at.ns()) {
                cover = Cover::Cut { index, strictly: rest.len() < lower.len() };
            }
            rest = &rest[1 + usize::from(rest[0])..];
        }
    }

    /// Whether a wildcard of the zone gives this name something.
    pub(super) fn has_wildcard(&self, lower: &[u8]) -> bool {
        let mut rest = lower;
        while !self.is_apex(rest) {
            rest = &rest[1 + usize::from(rest[0])..];
            let wildcard = [b"\x01*", rest].concat();
            if self.get(&wildcard).is_some_and(|at| at.has_address || at.cname().is_some()) {
                return true;
            }
        }
        false
    }
}

/// What hides a name.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Cover {
    None,
    Cut { index: usize, strictly: bool },
    Dname(usize),
}
