//! Copies of zones (RFC 5936, RFC 1995): message after message into whatever buffer the transport has.
//!
//! ```text
//! AXFR             SOA | records of every name | records aside | SOA
//! IXFR, steps      SOA | SOA before, removed | SOA then, added | … | SOA
//! IXFR, current    SOA                                      whoever asks has it already; also over UDP: come by TCP
//! IXFR, otherwise  as AXFR                                  what he has is not remembered
//! ```
//! A copy is made from the snapshot that was current when it was asked for, and is what `snapshot::Contents` says.
//! AXFR over UDP is refused, whoever asks: there is no such thing (RFC 5936 §4.2), and a stranger hears the same.

use std::ops::ControlFlow;
use std::sync::Arc;

use super::access::{Signed, admitted, gives_copies, refusal};
use super::edns::{ExtendedError, Extension};
use super::{Arrival, Given, MAX_MESSAGE, Worker, echoed, limit_of, objection};
use crate::dns::query::{FLAG_AA, FLAG_TC};
use crate::dns::tsig::Signer;
use crate::dns::{Edns, Full, Owner, Query, Rcode, RecordType, Section, Targets, Writer};
use crate::limit::Kind;
use crate::snapshot::{KeyId, Snapshot, Step};
use crate::zone::{Records, ZoneId, soa_serial};

/// Octets that a message is filled to: pointers reach no farther (RFC 1035 §4.1.4), and others get their turn.
const FILL: usize = 16 * 1024;

/// A query for a copy.
#[derive(Clone, Copy)]
pub(super) struct Asked<'a> {
    pub(super) query: &'a Query,
    pub(super) message: &'a [u8],
    pub(super) arrival: Arrival,
    pub(super) signed: Option<Signed<'a>>,
}

/// What came of a query for a copy.
pub(super) enum Begun {
    /// An answer of one message.
    Given(Given),
    /// It is to be made with a [`Transfer`].
    Stream(Box<Order>),
}

/// A copy that somebody may have.
#[derive(Debug)]
pub struct Order {
    zone: ZoneId,
    /// The step that it begins with; `None` = the whole zone.
    since: Option<usize>,
    /// Header and question of the query.
    head: Box<[u8]>,
    flags: u16,
    edns: Option<Edns>,
    arrival: Arrival,
    signed: Option<(KeyId, Signer)>,
}

/// Decides what whoever asks for a copy gets.
pub(super) fn begin(snapshot: &Snapshot, worker: &mut Worker, asked: Asked<'_>, out: &mut [u8]) -> Begun {
    let Asked { query, message, arrival, signed } = asked;
    let is_whole = query.qtype == RecordType::AXFR;
    let refused = |worker: &mut Worker, why, out: &mut [u8]| {
        worker.counters.answering.transfers_refused.add(1);
        Begun::Given(refusal(snapshot, worker, asked, why, out))
    };
    let proof = Extension::new(snapshot, query.edns.as_ref(), arrival).proof();
    if let Some(rcode) = query.edns.as_ref().and_then(|edns| objection(snapshot, edns, proof, arrival.transport)) {
        return refused(worker, (rcode, None), out);
    }
    let zone = match admitted(snapshot, worker.name.lower(), arrival, signed.map(|signed| signed.id)) {
        Err(why) => return refused(worker, why, out),
        Ok(_) if is_whole && !gives_copies(arrival.transport) => {
            return refused(worker, (Rcode::REFUSED, Some(ExtendedError::PROHIBITED)), out);
        }
        Ok(zone) => zone,
    };
    let Some(ours) = snapshot.authority.serial(zone) else { return refused(worker, (Rcode::SERVFAIL, None), out) };
    let mut since = None;
    if !is_whole {
        let Some(theirs) = serial_in(message, query.question_end) else {
            return refused(worker, (Rcode::FORMERR, None), out);
        };
        // RFC 1982 §3.2: what is not behind ours is as new, or newer.
        let is_current = theirs.wrapping_sub(ours) < 0x8000_0000;
        if is_current || !gives_copies(arrival.transport) {
            worker.counters.answering.transfers_current.add(1);
            return Begun::Given(soa_alone(snapshot, worker, zone, asked, out));
        }
        let history = snapshot.transfers.gate(zone).map(|gate| &gate.history);
        since = history.and_then(|history| Some(history.steps.len() - history.since(theirs)?.len()));
    }
    let counters = &worker.counters.answering;
    if since.is_some() {
        counters.transfers_incremental.add(1)
    } else {
        counters.transfers_whole.add(1)
    }
    Begun::Stream(Box::new(Order {
        zone,
        since,
        head: message[..query.question_end].into(),
        flags: query.flags,
        edns: query.edns,
        arrival,
        signed: signed.map(|signed| (signed.id, signed.signer)),
    }))
}

/// The serial of the SOA in the authority section of a query (RFC 1995 §3).
fn serial_in(message: &[u8], question_end: usize) -> Option<u32> {
    if message[8..10] != [0, 1] {
        return None;
    }
    let record = &message[question_end..];
    // Its owner, a name or a pointer, was passed over when the query was parsed.
    let mut at = 0;
    let behind = loop {
        match *record.get(at)? {
            0 => break at + 1,
            0xc0.. => break at + 2,
            label => at += 1 + usize::from(label),
        }
    };
    let (fixed, data) = record.get(behind..)?.split_first_chunk::<10>()?;
    let data = data.get(..usize::from(u16::from_be_bytes([fixed[8], fixed[9]])))?;
    soa_serial(data).filter(|_| fixed[..2] == RecordType::SOA.0.to_be_bytes())
}

/// An answer of the zone's SOA and nothing else.
fn soa_alone(snapshot: &Snapshot, worker: &mut Worker, zone: ZoneId, asked: Asked<'_>, out: &mut [u8]) -> Given {
    let Asked { query, message, arrival, signed } = asked;
    let extension = Extension::new(snapshot, query.edns.as_ref(), arrival);
    let limit = limit_of(snapshot, query, arrival.transport);
    let head = &message[..query.question_end];
    let mut writer = Writer::new(out, &mut worker.targets, limit, echoed(query.flags) | FLAG_AA, head);
    writer.reserve(extension.reserved + signed.map_or(0, |signed| signed.room()));
    let (ttl, soa) = snapshot.authority.soa(zone).unwrap_or_default();
    let mark = writer.mark();
    if writer.record(Section::Answer, Owner::Question, RecordType::SOA, ttl, soa).is_err() {
        writer.rewind(mark);
        writer.set_flags(FLAG_TC);
    }
    let length = extension.finish(&mut writer, Rcode::NOERROR, 0, None);
    let counted_as = (Kind::Positive, snapshot.authority.apex(zone).ordinal());
    Given { length, rcode: Rcode::NOERROR, counted_as, proof: extension.proof() }
}

/// Where a copy has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The SOA comes first.
    Begin,
    /// The records of this node, of which so many are written.
    Node {
        ordinal: u32,
        written: usize,
    },
    /// The records that the zone has aside, from this one on.
    Aside {
        next: usize,
    },
    /// What a step removed, or added, from this record on.
    Step {
        step: usize,
        adds: bool,
        next: usize,
    },
    /// The SOA comes last.
    End,
    Done,
}

/// A copy that is being made.
#[derive(Debug)]
pub struct Transfer {
    snapshot: Arc<Snapshot>,
    order: Box<Order>,
    stage: Stage,
    is_first: bool,
    has_failed: bool,
    targets: Targets,
}

impl Transfer {
    /// Begins; `snapshot` is the one that the order was taken from.
    #[must_use]
    pub fn new(snapshot: Arc<Snapshot>, order: Box<Order>) -> Transfer {
        let targets = Targets::default();
        Transfer { snapshot, order, stage: Stage::Begin, is_first: true, has_failed: false, targets }
    }

    /// Whether all of it was written.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.stage == Stage::Done && !self.has_failed
    }

    /// Writes the next message into `out`, which holds 65 535 octets; `now` are seconds since the Unix epoch. Returns its
    /// length; `None` when there is none any more.
    pub fn next_message(&mut self, now: u64, out: &mut [u8]) -> Option<usize> {
        if self.stage == Stage::Done {
            return None;
        }
        for limit in [FILL, MAX_MESSAGE] {
            let (length, records) = self.fill(limit, out);
            if records > 0 {
                return Some(self.finish(now, out, length));
            }
        }
        // A record that fits no message: better no copy than one without it.
        self.fail(now, out)
    }

    /// [`Transfer::next_message`], which says that there is no copy now, and is the last.
    pub fn fail(&mut self, now: u64, out: &mut [u8]) -> Option<usize> {
        if self.stage == Stage::Done {
            return None;
        }
        (self.stage, self.has_failed) = (Stage::Done, true);
        let Transfer { snapshot, order, targets, .. } = self;
        let mut writer = Writer::new(out, targets, MAX_MESSAGE, echoed(order.flags), &order.head);
        writer.set_rcode(Rcode::SERVFAIL);
        let extension = Extension::new(snapshot, order.edns.as_ref(), order.arrival);
        writer.reserve(extension.reserved);
        let length = extension.finish(&mut writer, Rcode::SERVFAIL, 0, None);
        Some(self.finish(now, out, length))
    }

    /// Signs a message.
    fn finish(&mut self, now: u64, out: &mut [u8], length: usize) -> usize {
        self.is_first = false;
        let Some((id, signer)) = &mut self.order.signed else { return length };
        signer.sign(self.snapshot.transfers.key(*id), now, out, length)
    }

    /// Writes as much as fits into a message of at most `limit` octets: its length, and how many records that were.
    fn fill(&mut self, limit: usize, out: &mut [u8]) -> (usize, u16) {
        let Transfer { snapshot, order, stage, is_first, targets, .. } = self;
        // The OPT need only be in the first (RFC 5936 §2.2.5).
        let edns = order.edns.as_ref().filter(|_| *is_first);
        let extension = Extension::new(snapshot, edns, order.arrival);
        let mut writer = Writer::new(out, targets, limit, echoed(order.flags) | FLAG_AA, &order.head);
        let room = order.signed.as_ref().map_or(0, |(id, _)| snapshot.transfers.key(*id).room());
        writer.reserve(extension.reserved + room);
        let mut page = Page { snapshot, order, writer: &mut writer };
        while *stage != Stage::Done && page.write(stage).is_ok() {}
        let records = writer.count(Section::Answer);
        (extension.finish(&mut writer, Rcode::NOERROR, 0, None), records)
    }
}

/// A message that is being filled.
struct Page<'p, 'w> {
    snapshot: &'p Snapshot,
    order: &'p Order,
    writer: &'p mut Writer<'w>,
}

impl Page<'_, '_> {
    /// Writes what a stage is about, and moves it on as far as that went.
    fn write(&mut self, stage: &mut Stage) -> Result<(), Full> {
        match stage {
            Stage::Begin => {
                self.soa()?;
                *stage = match self.order.since {
                    Some(step) => Stage::Step { step, adds: false, next: 0 },
                    None => {
                        let ordinal = self.snapshot.authority.apex(self.order.zone).ordinal();
                        Stage::Node { ordinal, written: 0 }
                    }
                };
            }
            Stage::Node { ordinal, written } => {
                self.nodes(ordinal, written)?;
                *stage = Stage::Aside { next: 0 };
            }
            Stage::Aside { next } => {
                let snapshot = self.snapshot;
                self.records(&snapshot.authority.zone(self.order.zone).aside, next)?;
                *stage = Stage::End;
            }
            Stage::Step { step, adds, next } => {
                let snapshot = self.snapshot;
                let Some(at) = self.step(snapshot, *step) else {
                    *stage = Stage::End;
                    return Ok(());
                };
                self.records(if *adds { &at.added } else { &at.removed }, next)?;
                *stage = Stage::Step { step: *step + usize::from(*adds), adds: !*adds, next: 0 };
            }
            Stage::End => {
                self.soa()?;
                *stage = Stage::Done;
            }
            Stage::Done => {}
        }
        Ok(())
    }

    fn step<'s>(&self, snapshot: &'s Snapshot, number: usize) -> Option<&'s Step> {
        let gate = snapshot.transfers.gate(self.order.zone)?;
        gate.history.steps.get(number).map(|step| &**step)
    }

    fn soa(&mut self) -> Result<(), Full> {
        let (ttl, soa) = self.snapshot.authority.soa(self.order.zone).unwrap_or_default();
        self.record(Owner::Question, RecordType::SOA, ttl, soa)
    }

    /// The records of a node and of those that follow it.
    fn nodes(&mut self, ordinal: &mut u32, written: &mut usize) -> Result<(), Full> {
        let snapshot = self.snapshot;
        let contents = snapshot.contents(self.order.zone);
        let apex = snapshot.authority.apex(self.order.zone);
        let mut next = Some(snapshot.authority.numbered(*ordinal));
        while let Some(node) = next {
            *ordinal = node.ordinal();
            let mut owner = if node == apex { Owner::Question } else { Owner::Name(node.name()) };
            let (mut seen, skipped) = (0, *written);
            let flow = contents.each_at(node, |rtype, ttl, rdata| {
                seen += 1;
                if seen <= skipped {
                    return ControlFlow::Continue(());
                }
                match self.owned(&mut owner, rtype, ttl, rdata) {
                    Ok(()) => *written += 1,
                    Err(full) => return ControlFlow::Break(full),
                }
                ControlFlow::Continue(())
            });
            if let ControlFlow::Break(full) = flow {
                return Err(full);
            }
            *written = 0;
            next = snapshot.authority.next_node(node);
        }
        Ok(())
    }

    /// Records from the one numbered `next` on.
    fn records(&mut self, records: &Records, next: &mut usize) -> Result<(), Full> {
        for index in *next..records.len() {
            let record = records.get(index);
            self.record(Owner::Name(record.owner), record.rtype, record.ttl, record.rdata)?;
            *next = index + 1;
        }
        Ok(())
    }

    /// A record whose owner is a pointer from the next one on.
    fn owned(&mut self, owner: &mut Owner<'_>, rtype: RecordType, ttl: u32, rdata: &[u8]) -> Result<(), Full> {
        let at = self.writer.length();
        self.record(*owner, rtype, ttl, rdata)?;
        if let (Owner::Name(_), Some(at)) = (&owner, self.writer.name_at(at)) {
            *owner = Owner::At(at);
        }
        Ok(())
    }

    fn record(&mut self, owner: Owner<'_>, rtype: RecordType, ttl: u32, rdata: &[u8]) -> Result<(), Full> {
        let mark = self.writer.mark();
        let written = self.writer.record(Section::Answer, owner, rtype, ttl, rdata);
        if written.is_err() {
            self.writer.rewind(mark);
        }
        written
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_serial_of_a_query() {
        let head = |authority: u8| [0, 1, 0, 0, 0, 1, 0, 0, 0, authority, 0, 0];
        let question = b"\x01a\x00\x00\xfb\x00\x01";
        let soa = |owner: &[u8], rtype: u8| {
            let numbers = [7u32, 0, 0, 0, 0].map(u32::to_be_bytes).concat();
            [owner, &[0, rtype, 0, 1, 0, 0, 0, 0, 0, 22, 0, 0][..], &numbers].concat()
        };
        for (authority, record, expected) in [
            (1, soa(b"\x01a\x00", 6), Some(7)),
            (1, soa(b"\xc0\x0c", 6), Some(7)),
            (1, soa(b"\x01x\xc0\x0c", 6), Some(7)),
            (1, soa(b"\xc0\x0c", 2), None),
            (0, Vec::new(), None),
            (2, soa(b"\xc0\x0c", 6), None),
            (1, b"\x01a".to_vec(), None),
        ] {
            let message = [&head(authority)[..], question, &record].concat();
            assert_eq!(serial_in(&message, 12 + question.len()), expected, "{record:?}");
        }
    }
}
