//! Who may ask for what: the one place, whatever the transport, that looks at signatures (RFC 8945) and at who may copy a
//! zone. Ordinary queries without a signature never come here.
//!
//! | the message | answer |
//! |---|---|
//! | signed with a key that we have | as any other, signed; not rate limited |
//! | the key or the MAC is wrong, the time, or the MAC too short | NOTAUTH with BADKEY or BADSIG, unsigned; with BADTIME or BADTRUNC, signed |
//! | AXFR or IXFR | what `transfer` makes of it, by the `ZonePolicy` of the zone: its addresses, its key |
//! | NOTIFY or UPDATE | handed to whoever changes what is served (`handed`), if it is from whom the zone hears |

use super::edns::{ExtendedError, Extension};
use super::{Arrival, Given, Head, Outcome, Transport, Worker, bare, bare_with, transfer};
use crate::dns::tsig::{self, Fault, Key, Signer, Tsig};
use crate::dns::{Class, LowerName, Query, Rcode};
use crate::metrics::AnswerCounters;
use crate::snapshot::{KeyId, Snapshot};
use crate::zone::ZoneId;

/// What comes of a message that is signed, or is not for everybody.
pub(super) enum Entry<'a> {
    /// It is to be answered as any other; then signed, if somebody did.
    Open(Option<Signed<'a>>),
    /// It is answered, to somebody we know.
    Known(Outcome, Rcode),
    /// It is answered, to anybody: he gets no more answers than others.
    Unknown(Given),
}

/// Whoever signed a message.
#[derive(Clone, Copy)]
pub(super) struct Signed<'a> {
    pub(super) id: KeyId,
    key: &'a Key,
    pub(super) signer: Signer,
}

impl Signed<'_> {
    /// Octets of the longest signature of an answer.
    pub(super) fn room(&self) -> usize {
        self.key.room()
    }

    /// Signs the answer in the first `length` octets of `out`; returns its length then.
    #[cold]
    pub(super) fn sign(mut self, now: u64, out: &mut [u8], length: usize) -> usize {
        self.signer.sign(self.key, now, out, length)
    }
}

/// Whether a query is to be answered here.
#[inline]
pub(super) fn concerns(query: &Query) -> bool {
    query.tsig_at != 0 || query.qtype.is_transfer()
}

/// Looks at a query that [`concerns`] this module, and answers it here unless it is as any other.
#[cold]
pub(super) fn enter<'a>(
    snapshot: &'a Snapshot,
    worker: &mut Worker,
    query: &Query,
    message: &[u8],
    arrival: Arrival,
    out: &mut [u8],
) -> Entry<'a> {
    let signed = match signed_by(snapshot, worker, query, message, arrival, out) {
        Ok(signed) => signed,
        Err(given) => return Entry::Unknown(given),
    };
    if !query.qtype.is_transfer() || query.qclass != Class::IN {
        return Entry::Open(signed);
    }
    let asked = transfer::Asked { query, message, arrival, signed };
    match (transfer::begin(snapshot, worker, asked, out), signed) {
        (transfer::Begun::Stream(order), _) => Entry::Known(Outcome::Stream(order), Rcode::NOERROR),
        (transfer::Begun::Given(given), None) => Entry::Unknown(given),
        (transfer::Begun::Given(given), Some(signed)) => {
            let length = signed.sign(arrival.moment.wall, out, given.length);
            Entry::Known(Outcome::Answer(length), given.rcode)
        }
    }
}

/// Who signed a message, if anybody did; else what he is told.
fn signed_by<'a>(
    snapshot: &'a Snapshot,
    worker: &mut Worker,
    query: &Query,
    message: &[u8],
    arrival: Arrival,
    out: &mut [u8],
) -> Result<Option<Signed<'a>>, Given> {
    if query.tsig_at == 0 {
        return Ok(None);
    }
    let extension = Extension::new(snapshot, query.edns.as_ref(), arrival);
    let head = Head { flags: query.flags, octets: &message[..query.question_end] };
    let now = arrival.moment.wall;
    let Some(tsig) = Tsig::read(message, query.tsig_at.into()) else {
        return Err(bare(&mut worker.targets, &extension, head, Rcode::FORMERR, out));
    };
    let known = snapshot.transfers.key_named(tsig.key_name());
    let fault = match (tsig.verify(message, known.map(|(_, key)| key), now, None), known) {
        (Ok(()), Some((id, key))) => {
            worker.counters.answering.tsig_good.add(1);
            return Ok(Some(Signed { id, key, signer: Signer::answering(&tsig) }));
        }
        (Ok(()), None) => Fault::BadKey,
        (Err(fault), _) => fault,
    };
    count(&worker.counters.answering, fault);
    let room = known.filter(|_| fault.is_signed()).map_or(0, |(_, key)| key.room());
    let given = bare_with(&mut worker.targets, &extension, head, (fault.rcode(), None), room, out);
    let limit = super::limit_of(snapshot, query, arrival.transport);
    let length = match known {
        _ if fault == Fault::Malformed => given.length,
        Some((_, key)) if fault.is_signed() => tsig.answer_signed(fault, key, now, out, given.length),
        _ => tsig.answer_unsigned(fault, now, out, given.length, limit),
    };
    Err(Given { length, ..given })
}

pub(super) fn count(answering: &AnswerCounters, fault: Fault) {
    match fault {
        Fault::Malformed => {}
        Fault::BadKey => answering.tsig_bad_key.add(1),
        Fault::BadSig => answering.tsig_bad_signature.add(1),
        Fault::BadTime => answering.tsig_bad_time.add(1),
        Fault::BadTrunc => answering.tsig_truncated.add(1),
    }
}

/// Who signed a message that is no query, if anybody did, with the signer of its answer; else what he is told, and the TSIG
/// that says so.
pub(super) fn signed_message<'a>(
    snapshot: &'a Snapshot,
    message: &[u8],
    now: u64,
) -> Result<Option<(KeyId, &'a Key, Signer)>, Fault> {
    let Some(at) = tsig::find(message) else { return Ok(None) };
    let tsig = Tsig::read(message, at).ok_or(Fault::Malformed)?;
    let (id, key) = snapshot.transfers.key_named(tsig.key_name()).ok_or(Fault::BadKey)?;
    tsig.verify(message, Some(key), now, None)?;
    Ok(Some((id, key, Signer::answering(&tsig))))
}

/// Adds to the answer in the first `length` octets of `out` the TSIG that says what is wrong with that of `message`.
pub(super) fn sign_fault(
    snapshot: &Snapshot,
    message: &[u8],
    fault: Fault,
    now: u64,
    out: &mut [u8],
    length: usize,
) -> usize {
    let Some(tsig) = tsig::find(message).and_then(|at| Tsig::read(message, at)) else { return length };
    match snapshot.transfers.key_named(tsig.key_name()) {
        _ if fault == Fault::Malformed => length,
        Some((_, key)) if fault.is_signed() => tsig.answer_signed(fault, key, now, out, length),
        _ => tsig.answer_unsigned(fault, now, out, length, super::MIN_PAYLOAD),
    }
}

/// The zone with this apex, if whoever asks may copy it.
///
/// # Errors
/// What he is told: that it is no zone of ours, or that it is not for him.
pub(super) fn admitted(
    snapshot: &Snapshot,
    apex: &LowerName,
    arrival: Arrival,
    key: Option<KeyId>,
) -> Result<ZoneId, (Rcode, Option<ExtendedError>)> {
    let zone = snapshot.authority.zone_at(apex).ok_or((Rcode::NOTAUTH, None))?;
    let gate = snapshot.transfers.gate(zone);
    let admits = gate.is_some_and(|gate| gate.policy.admits(arrival.source, key));
    if admits { Ok(zone) } else { Err((Rcode::REFUSED, Some(ExtendedError::PROHIBITED))) }
}

/// An answer that says no.
pub(super) fn refusal(
    snapshot: &Snapshot,
    worker: &mut Worker,
    asked: transfer::Asked<'_>,
    why: (Rcode, Option<ExtendedError>),
    out: &mut [u8],
) -> Given {
    let extension = Extension::new(snapshot, asked.query.edns.as_ref(), asked.arrival);
    let head = Head { flags: asked.query.flags, octets: &asked.message[..asked.query.question_end] };
    let room = asked.signed.map_or(0, |signed| signed.room());
    bare_with(&mut worker.targets, &extension, head, why, room, out)
}

/// Whether copies of zones are given over a transport: over TLS they would have to be over 1.3 alone (RFC 9103).
pub(super) fn gives_copies(transport: Transport) -> bool {
    transport == Transport::Tcp
}
