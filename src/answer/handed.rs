//! NOTIFY (RFC 1996) and UPDATE (RFC 2136): what others say, beside asking. Who may say it is decided here, from the snapshot;
//! what comes of it is up to whoever changes what is served, who has the message handed and answers when it is done.
//!
//! ```text
//! opcode 4 or 5 ─┬─ no zone takes such messages ──────────── NOTIMP, as any other opcode
//!                ├─ no form, a version of EDNS, a bad TSIG ── FORMERR, BADVERS, NOTAUTH
//!                ├─ no zone of ours ──────────────────────── NOTAUTH
//!                ├─ not from whom the zone hears ─────────── REFUSED
//!                └─ Handed ─► serve ─► control … Handed::answer ─► the way back
//! ```

use std::net::IpAddr;

use super::access::{self, signed_message};
use super::edns::{ExtendedError, Extension};
use super::{Arrival, Given, Head, MIN_PAYLOAD, Transport, Worker, bare, bare_with, echoed};
use crate::dns::query::{FLAG_AA, FLAG_TC, MASK_OPCODE};
use crate::dns::tsig::{Key, Signer};
use crate::dns::{Class, Edns, LowerName, Name, Rcode, RecordType, Targets, Writer};
use crate::snapshot::{Message, Snapshot};
use crate::zone::{Received, ZoneId};

/// Opcodes in the flags of a header.
const NOTIFY: u16 = 4 << 11;
const UPDATE: u16 = 5 << 11;
/// Octets of an answer: one without records, and a signature.
const ROOM: usize = 1024;

/// A message that somebody sent who may.
#[derive(Debug)]
pub struct Handed {
    /// What kind of message.
    pub kind: Message,
    /// Apex of the zone it is about, as sent.
    pub zone: Name,
    /// The whole of it.
    pub message: Box<[u8]>,
    question_end: usize,
    flags: u16,
    edns: Option<Edns>,
    arrival: Arrival,
    /// Whoever signed it, with the signer of the answer.
    signed: Option<(Key, Signer)>,
}

/// What came of a message that is no query.
pub(super) enum Taken {
    /// An opcode that nobody here knows.
    Unknown,
    /// It was answered.
    Given(Given),
    /// It is to be handed on.
    Handed(Box<Handed>),
}

/// Takes a message that is no query.
#[cold]
pub(super) fn take(
    snapshot: &Snapshot,
    worker: &mut Worker,
    message: &[u8],
    edns: Option<&Edns>,
    arrival: Arrival,
    out: &mut [u8],
) -> Taken {
    let Some(mut received) = Received::new(message) else { return Taken::Unknown };
    let flags = received.flags();
    let kind = match flags & MASK_OPCODE {
        NOTIFY => Message::Notify,
        UPDATE => Message::Update,
        _ => return Taken::Unknown,
    };
    if !snapshot.transfers.takes(kind) {
        return Taken::Unknown;
    }
    let extension = Extension::new(snapshot, edns, arrival);
    let is_one = received.left(0) == 1;
    let question = received.question().ok().flatten();
    let is_meant = |rtype, class| is_one && rtype == RecordType::SOA && class == Class::IN;
    let Some(question) = question.filter(|question| is_meant(question.rtype, question.class)) else {
        let head = Head { flags, octets: &message[..crate::dns::query::HEADER] };
        return Taken::Given(bare(&mut worker.targets, &extension, head, Rcode::FORMERR, out));
    };
    let question_end = received.position();
    let head = Head { flags, octets: &message[..question_end] };
    if edns.is_some_and(|edns| edns.version != 0) {
        return Taken::Given(bare(&mut worker.targets, &extension, head, Rcode::BADVERS, out));
    }
    let now = arrival.moment.wall;
    let signed = match signed_message(snapshot, message, now) {
        Ok(signed) => signed,
        Err(fault) => {
            access::count(&worker.counters.answering, fault);
            let given = bare(&mut worker.targets, &extension, head, fault.rcode(), out);
            let length = access::sign_fault(snapshot, message, fault, now, out, given.length);
            return Taken::Given(Given { length, ..given });
        }
    };
    let answering = &worker.counters.answering;
    answering.tsig_good.add(u64::from(signed.is_some()));
    let mut apex = LowerName::new();
    let zone = apex.set(question.name.as_wire()).and_then(|_| snapshot.authority.zone_at(&apex));
    let refused = match zone {
        None => Some((Rcode::NOTAUTH, None)),
        Some(zone)
            if !is_heard(arrival.transport)
                || !is_admitted(snapshot, zone, kind, arrival.source, signed.map(|(id, ..)| id)) =>
        {
            Some((Rcode::REFUSED, Some(ExtendedError::PROHIBITED)))
        }
        Some(_) => None,
    };
    let refusals = if kind == Message::Notify { &answering.notifies_refused } else { &answering.updates_refused };
    if let Some(why) = refused {
        refusals.add(1);
        let room = signed.map_or(0, |(_, key, _)| key.room());
        let mut given = bare_with(&mut worker.targets, &extension, head, why, room, out);
        if let Some((_, key, mut signer)) = signed {
            given.length = signer.sign(key, now, out, given.length);
        }
        return Taken::Given(given);
    }
    let signed = signed.map(|(_, key, signer)| (key.clone(), signer));
    let (zone, edns, message) = (question.name, edns.copied(), message.into());
    Taken::Handed(Box::new(Handed { kind, zone, message, question_end, flags, edns, arrival, signed }))
}

/// Whether such messages are heard over a transport.
fn is_heard(transport: Transport) -> bool {
    matches!(transport, Transport::Udp | Transport::Tcp)
}

fn is_admitted(
    snapshot: &Snapshot,
    zone: ZoneId,
    kind: Message,
    source: IpAddr,
    key: Option<crate::snapshot::KeyId>,
) -> bool {
    snapshot.transfers.gate(zone).is_some_and(|gate| match kind {
        Message::Notify => gate.policy.hears(source, key),
        Message::Update => gate.policy.may_update(source, key),
    })
}

impl Handed {
    /// Who sent it.
    #[must_use]
    pub fn source(&self) -> IpAddr {
        self.arrival.source
    }

    /// Where its question ends.
    #[must_use]
    pub fn question_end(&self) -> usize {
        self.question_end
    }

    /// Its answer, signed as it was; `now` are seconds since the Unix epoch.
    #[must_use]
    pub fn answer(&self, snapshot: &Snapshot, rcode: Rcode, error: Option<ExtendedError>, now: u64) -> Vec<u8> {
        let (mut out, mut targets) = (vec![0; ROOM], Targets::default());
        let extension = Extension::new(snapshot, self.edns.as_ref(), self.arrival);
        let authoritative = if self.kind == Message::Notify { FLAG_AA } else { 0 };
        let head = &self.message[..self.question_end];
        let flags = (echoed(self.flags) | authoritative) & !FLAG_TC;
        let mut writer = Writer::new(&mut out, &mut targets, MIN_PAYLOAD, flags, head);
        writer.set_rcode(rcode);
        writer.reserve(extension.reserved);
        let mut length = extension.finish(&mut writer, rcode, 0, error);
        if let Some((key, mut signer)) = self.signed.as_ref().map(|(key, signer)| (key, *signer)) {
            length = signer.sign(key, now, &mut out, length);
        }
        out.truncate(length);
        out
    }

    /// The answer that too much waits to be done, when it could not be handed on.
    #[must_use]
    pub fn busy(&self, snapshot: &Snapshot, now: u64) -> Vec<u8> {
        self.answer(snapshot, Rcode::SERVFAIL, Some(ExtendedError::BUSY), now)
    }
}
