//! Puts a copy of a zone together, record by record as a primary sends them (RFC 5936 §2.2, RFC 1995 §4), and says what is
//! wrong with it. Nothing here waits, and nothing of a copy counts before all of it is there.
//!
//! ```text
//! whole      SOA 7 │ all other records …                                  │ SOA 7
//! in steps   SOA 7 │ SOA 4, removed … SOA 5, added … │ SOA 5 … SOA 7, … │ SOA 7      where we have serial 4
//! nothing    SOA 4                                                             where we have serial 4, or a later one
//! ```

use std::collections::HashSet;
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_128;

use crate::control::supply::is_after;
use crate::dns::name::wire_is_at_or_below;
use crate::dns::{Class, Name, RecordType};
use crate::zone::{ReceivedRecord, Record, Records, soa_serial};

/// Most records of a copy, those of all its steps counted.
const MOST_RECORDS: usize = 10_000_000;

/// What a primary has sent.
#[derive(Debug)]
pub(super) enum Copied {
    /// It has nothing newer than what we have.
    Nothing,
    /// This is its zone; the SOA is the first record.
    Zone(Records),
}

/// Why a copy is not taken. What is wrong with the data is no reason to ask for them again at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// What was removed is not what we have: the whole zone is to be copied.
    Mismatch,
    /// It is not right.
    Wrong(&'static str),
    /// It lost so many of so many records.
    Shrunk(usize, usize),
}

/// A copy that is being put together.
pub(super) struct Assembly<'a> {
    origin: &'a Name,
    /// What we have, where only what changed was asked for.
    known: Option<&'a Arc<Records>>,
    stage: Stage,
    /// Records so far.
    count: usize,
    /// The SOA that came first: its data and TTL.
    newest: (Vec<u8>, u32),
    whole: Records,
    steps: Steps,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Nothing came yet.
    Begin,
    /// The SOA came.
    Second,
    Whole,
    /// What a step removes.
    Removing,
    /// What the step to this serial adds.
    Adding(u32),
    Done,
}

/// What changed, of records without their SOA.
#[derive(Default)]
struct Steps {
    /// Digests of what we have.
    known: HashSet<u128>,
    /// Those of them that were removed.
    removed: HashSet<u128>,
    /// In order; some were removed again.
    added: Records,
    /// Digests of those that are there still.
    is_added: HashSet<u128>,
}

impl<'a> Assembly<'a> {
    /// A copy of the zone `origin`, of which we have `known` where only what changed was asked for.
    pub(super) fn new(origin: &'a Name, known: Option<&'a Arc<Records>>) -> Assembly<'a> {
        Assembly {
            origin,
            known,
            stage: Stage::Begin,
            count: 0,
            newest: (Vec::new(), 0),
            whole: Records::default(),
            steps: Steps::default(),
        }
    }

    /// Whether all of it is there.
    pub(super) fn is_done(&self) -> bool {
        self.stage == Stage::Done
    }

    /// Takes the next record.
    ///
    /// # Errors
    /// When it does not belong there; nothing more is to be taken then.
    pub(super) fn take(&mut self, record: &ReceivedRecord) -> Result<(), Refusal> {
        self.count += 1;
        if self.count > MOST_RECORDS {
            return Err(Refusal::Wrong("more records than are taken"));
        }
        if record.class != Class::IN || record.rtype.is_meta() {
            return Err(Refusal::Wrong("a record that is none of a zone"));
        }
        if !wire_is_at_or_below(&record.owner, self.origin.as_wire()) {
            return Err(Refusal::Wrong("a name outside the zone"));
        }
        match (record.rtype == RecordType::SOA).then(|| soa_serial(&record.rdata)).flatten() {
            Some(_) if !record.owner.eq_ignore_ascii_case(self.origin.as_wire()) => {
                Err(Refusal::Wrong("a SOA below the apex"))
            }
            Some(serial) => self.take_soa(serial, record),
            None => self.take_other(record),
        }
    }

    fn take_soa(&mut self, serial: u32, record: &ReceivedRecord) -> Result<(), Refusal> {
        let is_newest = record.rdata == self.newest.0;
        self.stage = match self.stage {
            Stage::Begin => {
                self.newest = (record.rdata.clone(), record.ttl);
                Stage::Second
            }
            Stage::Second if self.known.is_some_and(|known| serial_of(known) == Some(serial)) && !is_newest => {
                self.steps.known = self.known.iter().flat_map(|known| known.iter()).map(|one| digest(&one)).collect();
                Stage::Removing
            }
            Stage::Second | Stage::Whole if is_newest => Stage::Done,
            Stage::Removing => Stage::Adding(serial),
            Stage::Adding(to) if is_newest && soa_serial(&self.newest.0) == Some(to) => Stage::Done,
            // The next step begins where this one ends.
            Stage::Adding(to) if to == serial => Stage::Removing,
            Stage::Second => return Err(Refusal::Mismatch),
            Stage::Adding(_) => return Err(Refusal::Wrong("steps that do not follow one another")),
            Stage::Whole => return Err(Refusal::Wrong("another SOA at the end than at the beginning")),
            Stage::Done => return Err(Refusal::Wrong("records behind the end")),
        };
        Ok(())
    }

    fn take_other(&mut self, record: &ReceivedRecord) -> Result<(), Refusal> {
        let made = Record::made(&record.owner, record.rtype, record.ttl, &record.rdata);
        let room = |pushed: Result<(), _>| pushed.map_err(|_| Refusal::Wrong("more than can be held"));
        match self.stage {
            Stage::Begin => Err(Refusal::Wrong("it does not begin with the SOA")),
            Stage::Second | Stage::Whole => {
                self.stage = Stage::Whole;
                room(self.whole.push(made))
            }
            Stage::Removing => self.steps.remove(digest(&made)),
            Stage::Adding(_) => {
                self.steps.add(digest(&made))?;
                room(self.steps.added.push(made))
            }
            Stage::Done => Err(Refusal::Wrong("records behind the end")),
        }
    }

    /// What came of it, when the messages ended; `served` is the zone as we have it, and `max_shrink` what share of its
    /// records it may lose, in 1/10 000.
    ///
    /// # Errors
    /// When it is not to be served.
    pub(super) fn finish(self, served: Option<&Records>, max_shrink: u16) -> Result<Copied, Refusal> {
        let ours = served.and_then(serial_of);
        let theirs = soa_serial(&self.newest.0).ok_or(Refusal::Wrong("it has no SOA"))?;
        let is_newer = ours.is_none_or(|ours| is_after(theirs, ours));
        match self.stage {
            // One SOA says that there is nothing newer (RFC 1995 §4).
            Stage::Second if self.known.is_some() && !is_newer => return Ok(Copied::Nothing),
            Stage::Second if self.known.is_some() => return Err(Refusal::Mismatch),
            Stage::Done => {}
            _ => return Err(Refusal::Wrong("it breaks off")),
        }
        if !is_newer {
            return Ok(Copied::Nothing);
        }
        let is_stepped = !self.steps.known.is_empty();
        let mut zone = Records::default();
        let room = |pushed: Result<(), _>| pushed.map_err(|_| Refusal::Wrong("more than can be held"));
        room(zone.push(Record::made(self.origin.as_wire(), RecordType::SOA, self.newest.1, &self.newest.0)))?;
        if is_stepped {
            let kept = self.known.iter().flat_map(|known| known.iter());
            let kept = kept.filter(|one| one.rtype != RecordType::SOA && !self.steps.removed.contains(&digest(one)));
            let mut left = self.steps.is_added;
            // Of what was added twice the last counts, with its TTL.
            let mut added: Vec<usize> = (0..self.steps.added.len()).rev().collect();
            added.retain(|&index| left.remove(&digest(&self.steps.added.get(index))));
            let added = added.into_iter().rev().map(|index| self.steps.added.get(index));
            for record in kept.chain(added) {
                room(zone.push(record))?;
            }
        } else {
            for record in self.whole.iter() {
                room(zone.push(record))?;
            }
        }
        let is_apex_ns = |record: Record<'_>| {
            record.rtype == RecordType::NS && record.owner.eq_ignore_ascii_case(self.origin.as_wire())
        };
        if !zone.iter().any(is_apex_ns) {
            return Err(Refusal::Wrong("it has no NS at its apex"));
        }
        let before = served.map_or(0, Records::len);
        let lost = before.saturating_sub(zone.len());
        if lost as u64 * 10_000 > before as u64 * u64::from(max_shrink) {
            return Err(Refusal::Shrunk(lost, before));
        }
        Ok(Copied::Zone(zone))
    }
}

impl Steps {
    fn remove(&mut self, digest: u128) -> Result<(), Refusal> {
        let is_there = self.is_added.remove(&digest) || (self.known.contains(&digest) && self.removed.insert(digest));
        if is_there { Ok(()) } else { Err(Refusal::Mismatch) }
    }

    fn add(&mut self, digest: u128) -> Result<(), Refusal> {
        let is_known = self.known.contains(&digest) && !self.removed.contains(&digest);
        if !is_known && self.is_added.insert(digest) { Ok(()) } else { Err(Refusal::Mismatch) }
    }
}

/// Tells records apart, whatever their TTL.
fn digest(record: &Record<'_>) -> u128 {
    let mut octets = record.owner.to_ascii_lowercase();
    octets.extend(record.rtype.0.to_be_bytes());
    octets.extend(record.rdata);
    xxh3_128(&octets)
}

/// The serial of a zone.
pub(super) fn serial_of(records: &Records) -> Option<u32> {
    records.iter().find_map(|record| record.soa_serial())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::parse(text, None).expect("a name")
    }

    /// `owner TYPE number`: a SOA of this serial, or a record that ends with this number.
    fn record(line: &str) -> ReceivedRecord {
        let parts: Vec<&str> = line.split(' ').collect();
        let rtype = RecordType::parse(parts[1]).expect("a type");
        let number: u32 = parts[2].parse().expect("a number");
        let rdata = match rtype {
            RecordType::SOA => [&[0, 0][..], &number.to_be_bytes(), &[0; 16]].concat(),
            _ => number.to_be_bytes().to_vec(),
        };
        ReceivedRecord { owner: name(parts[0]).as_wire().to_vec(), rtype, class: Class::IN, ttl: 60, rdata }
    }

    fn zone(lines: &[&str]) -> Arc<Records> {
        let records: Vec<ReceivedRecord> = lines.iter().map(|line| record(line)).collect();
        let made = |one: &'_ ReceivedRecord| (one.owner.clone(), one.rtype, one.rdata.clone());
        let made: Vec<_> = records.iter().map(made).collect();
        Arc::new(made.iter().map(|(owner, rtype, rdata)| Record::made(owner, *rtype, 60, rdata)).collect())
    }

    /// `owner TYPE number` of all records, the SOA first.
    fn show(records: &Records) -> Vec<String> {
        let number = |record: &Record<'_>| match record.soa_serial() {
            Some(serial) => serial,
            None => u32::from_be_bytes(record.rdata.try_into().expect("four octets")),
        };
        records.iter().map(|one| format!("{} {} {}", one.name().to_plain(), one.rtype, number(&one))).collect()
    }

    fn copy(known: Option<&Arc<Records>>, lines: &[&str]) -> Result<Vec<String>, Refusal> {
        let origin = name("z");
        let mut assembly = Assembly::new(&origin, known);
        for line in lines {
            assembly.take(&record(line))?;
        }
        match assembly.finish(known.map(|known| &**known), 5_000)? {
            Copied::Nothing => Ok(Vec::new()),
            Copied::Zone(records) => Ok(show(&records)),
        }
    }

    #[test]
    fn whole_copies() {
        let lines = ["z SOA 7", "z NS 1", "a.z A 1", "A.z A 2", "z SOA 7"];
        assert_eq!(copy(None, &lines), Ok(["z SOA 7", "z NS 1", "a.z A 1", "A.z A 2"].map(String::from).to_vec()));
        for (lines, why) in [
            (&["z NS 1", "z SOA 7"][..], "it does not begin with the SOA"),
            (&[], "it has no SOA"),
            (&["z SOA 7"], "it breaks off"),
            (&["z SOA 7", "z NS 1"], "it breaks off"),
            (&["z SOA 7", "z NS 1", "z SOA 8"], "another SOA at the end than at the beginning"),
            (&["z SOA 7", "z NS 1", "a.y A 1", "z SOA 7"], "a name outside the zone"),
            (&["z SOA 7", "z NS 1", "a.z SOA 7", "z SOA 7"], "a SOA below the apex"),
            (&["z SOA 7", "z NS 1", "z SOA 7", "a.z A 1"], "records behind the end"),
            (&["z SOA 7", "z NS 1", "a.z ANY 1", "z SOA 7"], "a record that is none of a zone"),
            (&["z SOA 7", "z NS 1", "a.z TYPE0 1", "z SOA 7"], "a record that is none of a zone"),
            (&["z SOA 7", "a.z A 1", "z SOA 7"], "it has no NS at its apex"),
            (&["z SOA 7", "z SOA 7"], "it has no NS at its apex"),
        ] {
            assert_eq!(copy(None, lines), Err(Refusal::Wrong(why)), "{lines:?}");
        }
    }

    #[test]
    fn copies_in_steps() {
        let known = zone(&["z SOA 4", "z NS 1", "a.z A 1", "b.z A 1"]);
        for (lines, expected) in [
            // One step; another; one that takes back what was before it.
            (
                &["z SOA 5", "z SOA 4", "a.z A 1", "z SOA 5", "c.z A 1", "z SOA 5"][..],
                &["z NS 1", "b.z A 1", "c.z A 1"][..],
            ),
            (
                &[
                    "z SOA 6", "z SOA 4", "a.z A 1", "z SOA 5", "c.z A 1", "z SOA 5", "c.z A 1", "z SOA 6", "a.z A 1",
                    "d.z A 1", "z SOA 6",
                ],
                &["z NS 1", "b.z A 1", "a.z A 1", "d.z A 1"],
            ),
            // The whole zone, though less was asked for.
            (&["z SOA 9", "z NS 1", "x.z A 1", "z SOA 9"], &["z NS 1", "x.z A 1"]),
        ] {
            let copied = copy(Some(&known), lines).expect("taken");
            assert_eq!(copied[1..], expected.iter().map(|line| (*line).to_string()).collect::<Vec<_>>(), "{lines:?}");
            assert_eq!(copied[0], lines[0]);
        }
        for lines in [&["z SOA 4"][..], &["z SOA 3"], &["z SOA 3", "z NS 1", "z SOA 3"]] {
            assert_eq!(copy(Some(&known), lines), Ok(Vec::new()), "{lines:?}");
        }
        for (lines, expected) in [
            (&["z SOA 5"][..], Refusal::Mismatch),
            (&["z SOA 5", "z SOA 3", "z SOA 5", "z SOA 5"], Refusal::Mismatch),
            (&["z SOA 5", "z SOA 4", "x.z A 1", "z SOA 5", "z SOA 5"], Refusal::Mismatch),
            (&["z SOA 5", "z SOA 4", "a.z A 1", "a.z A 1", "z SOA 5", "z SOA 5"], Refusal::Mismatch),
            (&["z SOA 5", "z SOA 4", "z SOA 5", "a.z A 1", "z SOA 5"], Refusal::Mismatch),
            (&["z SOA 5", "z SOA 4", "a.z A 1", "z SOA 5"], Refusal::Wrong("it breaks off")),
            (
                &["z SOA 7", "z SOA 4", "z SOA 5", "z SOA 6", "z SOA 7", "z SOA 7"],
                Refusal::Wrong("steps that do not follow one another"),
            ),
        ] {
            assert_eq!(copy(Some(&known), lines), Err(expected), "{lines:?}");
        }
    }

    #[test]
    fn half_of_a_zone_may_go() {
        let known = zone(&["z SOA 4", "z NS 1", "a.z A 1", "b.z A 1", "c.z A 1", "d.z A 1"]);
        assert!(copy(Some(&known), &["z SOA 5", "z NS 1", "a.z A 1", "z SOA 5"]).is_ok());
        assert_eq!(copy(Some(&known), &["z SOA 5", "z NS 1", "z SOA 5"]), Err(Refusal::Shrunk(4, 6)));
    }
}
