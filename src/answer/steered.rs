//! A steered name: decide, pick, write (SPEC 7.2). An answer holds addresses or one CNAME, or it is NODATA with the
//! zone's SOA.

use std::net::IpAddr;

use super::edns::ExtendedError;
use super::reply::Reply;
use crate::dns::{Full, Owner, Rcode, RecordType, Section};
use crate::fleet::Family;
use crate::steering::balance::{Choice, pick};
use crate::steering::client::Origin;
use crate::steering::trace::Silent;
use crate::steering::{Client, Decision, Outcome, ServiceId, StickyBy, decide, hash};
use crate::zone::ZoneId;

/// The name that a service is asked for.
#[derive(Clone, Copy)]
pub(super) struct Asked<'a> {
    /// As the owner of records.
    pub(super) owner: Owner<'a>,
    /// Its leftmost label, in lower case.
    pub(super) label: &'a [u8],
    /// Whether no CNAME may be written, for other records are.
    pub(super) no_cname: bool,
}

/// What came of asking a service.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Given<'a> {
    /// No address of this family.
    Nothing,
    /// SERVFAIL is configured.
    Failure,
    /// Addresses, or they did not fit and the answer says so.
    Addresses,
    /// A CNAME that leads there.
    Cname(&'a [u8]),
}

/// Answers for `service` at a node of `zone`, by the name asked. Returns where a CNAME leads, if that is the answer.
pub(super) fn answer<'a>(
    reply: &mut Reply<'a>,
    service: ServiceId,
    family: Family,
    zone: ZoneId,
    asked: Asked<'_>,
) -> Option<&'a [u8]> {
    let given = give(reply, service, family, asked, false);
    conclude(reply, service, zone, given)
}

/// [`answer`] with addresses of both families at once; without any it is negative only if it has no other records.
pub(super) fn answer_both(reply: &mut Reply<'_>, service: ServiceId, zone: ZoneId, asked: Asked<'_>, has_others: bool) {
    let asked = Asked { no_cname: true, ..asked };
    let [v4, v6] = Family::BOTH.map(|family| give(reply, service, family, asked, false));
    if !has_others {
        conclude(reply, service, zone, v4.max(v6));
    }
}

/// The CNAME of a service, which every type is answered with, if one is chosen; returns where it leads. Else nothing is
/// written.
pub(super) fn cname<'a>(reply: &mut Reply<'a>, service: ServiceId, asked: Asked<'_>) -> Option<&'a [u8]> {
    if !reply.snapshot.steering.service(service).may_be_cname {
        return None;
    }
    match give(reply, service, Family::V4, asked, true) {
        Given::Cname(target) => Some(target),
        _ => None,
    }
}

/// Says what came of a service at a node of `zone`, where nothing was written for it. Returns where a CNAME leads.
pub(super) fn conclude<'a>(
    reply: &mut Reply<'_>,
    service: ServiceId,
    zone: ZoneId,
    given: Given<'a>,
) -> Option<&'a [u8]> {
    match given {
        Given::Addresses => {}
        Given::Failure => reply.refuse(Rcode::SERVFAIL),
        Given::Nothing => nodata(reply, zone, reply.snapshot.steering.service(service).manner.ttl.min),
        Given::Cname(target) => return Some(target),
    }
    None
}

/// Decides, and writes what comes of it: addresses or a CNAME, or, where `only_cname` is wanted, nothing instead of addresses.
fn give<'a>(
    reply: &mut Reply<'a>,
    service: ServiceId,
    family: Family,
    asked: Asked<'_>,
    only_cname: bool,
) -> Given<'a> {
    let snapshot = reply.snapshot;
    let client = client(reply, service, asked);
    let local = &mut *reply.thread.local;
    let decision = decide(&snapshot.steering, snapshot.situation(), service, &client, family, local, &mut Silent);
    reply.scope = reply.scope.max(client.scope(decision.scope));
    let ttl = decision.ttl;
    if snapshot.blind[family as usize] {
        reply.extended_error = Some(ExtendedError::STALE);
    }
    if decision.all_down {
        note_all_down(reply, &decision);
    }
    let answering = snapshot.steering.service(decision.service);
    let mut cname = None;
    let written = match decision.outcome {
        Outcome::Nodata => return Given::Nothing,
        Outcome::Servfail => return Given::Failure,
        Outcome::Addresses(addresses) => {
            let of_family = |address: &&IpAddr| Family::of(**address) == family && !only_cname;
            addresses_of(reply, asked.owner, ttl, addresses.iter().filter(of_family))
        }
        Outcome::Pick { roster, group, version } => {
            let no_cname = asked.no_cname || snapshot.steering.service(service).no_cname;
            // Who asks for another type takes nobody's turn: whoever asks for both would always get the same instance.
            let choice = Choice { roster, group, version, family, no_cname, takes_turn: !only_cname };
            let (writer, local) = (&mut reply.writer, &mut *reply.thread.local);
            let mark = writer.mark();
            let mut written = Ok(0);
            let emit = |instance, address: Option<IpAddr>| {
                written = written.and_then(|count| match address {
                    Some(_) if only_cname => Ok(count),
                    Some(address) => writer.address(asked.owner, ttl, address).map(|()| count + 1),
                    None => {
                        // An instance that has no address of this family, and no CNAME either.
                        let Some(to) = snapshot.steering.fleet.cname(instance) else { return Ok(count) };
                        let target = to.target.as_wire();
                        cname = Some(target);
                        let written = writer.record(Section::Answer, asked.owner, RecordType::CNAME, ttl, target);
                        written.map(|()| count + 1)
                    }
                });
            };
            let scope = pick(&snapshot.steering, answering, choice, &client, local, &mut Silent, emit);
            if written.is_err() {
                reply.writer.rewind(mark);
            }
            if !only_cname || cname.is_some() {
                reply.thread.tally.add(answering.slot as usize + group);
            }
            reply.scope = reply.scope.max(client.scope(scope));
            written
        }
    };
    match (written, cname) {
        (Ok(0), _) => Given::Nothing,
        (Ok(_), Some(target)) => Given::Cname(target),
        (Ok(_), None) => Given::Addresses,
        (Err(Full), _) => {
            reply.truncate();
            Given::Addresses
        }
    }
}

/// Whose address decides at `service`.
#[inline]
pub(super) fn client(reply: &mut Reply<'_>, service: ServiceId, asked: Asked<'_>) -> Client {
    let snapshot = reply.snapshot;
    let steered = snapshot.steering.service(service);
    let subnet = reply.query.edns.as_ref().and_then(|edns| edns.client_subnet.as_ref());
    let mut client = snapshot.settings.ecs.client(reply.source, subnet, steered.manner.ecs);
    if steered.manner.sticky.by == StickyBy::Label || steered.has_stand_in {
        client.label = hash::of_label(asked.label);
    }
    if matches!(client.origin, Origin::SetAside(_)) {
        reply.thread.counters.answering.ecs_set_aside.add(1);
    }
    client
}

/// Notes that everything is down, and says so with the answer.
pub(super) fn note_all_down(reply: &mut Reply<'_>, decision: &Decision<'_>) {
    reply.thread.counters.answering.fail_open.add(1);
    let as_if_up = decision.as_if_up;
    reply.extended_error = Some(if as_if_up { ExtendedError::FAIL_OPEN } else { ExtendedError::FALLBACK });
}

/// NODATA at a service's name: its SOA lives no longer than the service's own answers.
pub(super) fn nodata(reply: &mut Reply<'_>, zone: ZoneId, ttl: u32) {
    let snapshot = reply.snapshot;
    reply.negative(Rcode::NOERROR, snapshot.authority.zone(zone), ttl);
}

fn addresses_of<'i>(
    reply: &mut Reply<'_>,
    owner: Owner<'_>,
    ttl: u32,
    addresses: impl Iterator<Item = &'i IpAddr>,
) -> Result<usize, Full> {
    let mark = reply.writer.mark();
    let mut written = Ok(0);
    for &address in addresses {
        written = written.and_then(|count| reply.writer.address(owner, ttl, address).map(|()| count + 1));
    }
    if written.is_err() {
        reply.writer.rewind(mark);
    }
    written
}
