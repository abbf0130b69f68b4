//! A steered name: decide, pick, write (SPEC 7.2). An answer holds addresses, or it is NODATA with the zone's SOA.

use std::net::IpAddr;

use super::edns::ExtendedError;
use super::reply::Reply;
use crate::dns::{Full, Owner, Rcode};
use crate::fleet::Family;
use crate::steering::balance::{Choice, pick};
use crate::steering::client::Origin;
use crate::steering::trace::Silent;
use crate::steering::{Client, Outcome, ServiceId, StickyBy, decide, hash};
use crate::zone::ZoneId;

/// The name that a service is asked for.
#[derive(Clone, Copy)]
pub(super) struct Asked<'a> {
    /// As the owner of records.
    pub(super) owner: Owner<'a>,
    /// Its leftmost label, in lower case.
    pub(super) label: &'a [u8],
}

/// What came of asking a service.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Given {
    /// No address of this family.
    Nothing,
    /// SERVFAIL is configured.
    Failure,
    /// Addresses, or they did not fit and the answer says so.
    Addresses,
}

/// Answers for `service` at a node of `zone`, by the name asked.
pub(super) fn answer(reply: &mut Reply<'_>, service: ServiceId, family: Family, zone: ZoneId, asked: Asked<'_>) {
    let given = addresses(reply, service, family, asked);
    conclude(reply, service, zone, given);
}

/// [`answer`] for both families at once; without addresses it is negative only if it has no other records.
pub(super) fn answer_both(reply: &mut Reply<'_>, service: ServiceId, zone: ZoneId, asked: Asked<'_>, has_others: bool) {
    let [v4, v6] = Family::BOTH.map(|family| addresses(reply, service, family, asked));
    if !has_others {
        conclude(reply, service, zone, v4.max(v6));
    }
}

fn conclude(reply: &mut Reply<'_>, service: ServiceId, zone: ZoneId, given: Given) {
    match given {
        Given::Addresses => {}
        Given::Failure => reply.refuse(Rcode::SERVFAIL),
        Given::Nothing => nodata(reply, zone, reply.snapshot.steering.service(service).manner.ttl.min),
    }
}

/// Decides and writes the addresses.
fn addresses(reply: &mut Reply<'_>, service: ServiceId, family: Family, asked: Asked<'_>) -> Given {
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
    let local = &mut *reply.thread.local;
    let decision = decide(&snapshot.steering, snapshot.situation(), service, &client, family, local, &mut Silent);
    reply.scope = reply.scope.max(client.scope(decision.scope));
    let ttl = decision.ttl;
    if snapshot.blind[family as usize] {
        reply.extended_error = Some(ExtendedError::STALE);
    }
    if decision.all_down {
        reply.thread.counters.answering.fail_open.add(1);
        let as_if_up = decision.as_if_up;
        reply.extended_error = Some(if as_if_up { ExtendedError::FAIL_OPEN } else { ExtendedError::FALLBACK });
    }
    let answering = snapshot.steering.service(decision.service);
    let written = match decision.outcome {
        Outcome::Nodata => return Given::Nothing,
        Outcome::Servfail => return Given::Failure,
        Outcome::Addresses(addresses) => addresses_of(reply, asked.owner, ttl, family, addresses),
        Outcome::Pick { roster, group, version } => {
            reply.thread.tally.add(answering.slot as usize + group);
            let choice = Choice { roster, group, version, family };
            picked(reply, asked.owner, ttl, decision.service, choice, &client)
        }
    };
    match written {
        Ok(0) => Given::Nothing,
        Ok(_) => Given::Addresses,
        Err(Full) => {
            reply.truncate();
            Given::Addresses
        }
    }
}

/// NODATA at a service's name: its SOA lives no longer than the service's own answers.
pub(super) fn nodata(reply: &mut Reply<'_>, zone: ZoneId, ttl: u32) {
    let snapshot = reply.snapshot;
    reply.negative(Rcode::NOERROR, snapshot.authority.zone(zone), ttl);
}

fn addresses_of(
    reply: &mut Reply<'_>,
    owner: Owner<'_>,
    ttl: u32,
    family: Family,
    addresses: &[IpAddr],
) -> Result<usize, Full> {
    let mark = reply.writer.mark();
    let mut written = Ok(0);
    for &address in addresses.iter().filter(|&&address| Family::of(address) == family) {
        written = written.and_then(|count| reply.writer.address(owner, ttl, address).map(|()| count + 1));
    }
    if written.is_err() {
        reply.writer.rewind(mark);
    }
    written
}

fn picked(
    reply: &mut Reply<'_>,
    owner: Owner<'_>,
    ttl: u32,
    service: ServiceId,
    choice: Choice<'_>,
    client: &Client,
) -> Result<usize, Full> {
    let steering = &reply.snapshot.steering;
    let (writer, local) = (&mut reply.writer, &mut *reply.thread.local);
    let mark = writer.mark();
    let mut written = Ok(0);
    let emit = |_, address| {
        written = written.and_then(|count| writer.address(owner, ttl, address).map(|()| count + 1));
    };
    let scope = pick(steering, steering.service(service), choice, client, local, &mut Silent, emit);
    if written.is_err() {
        reply.writer.rewind(mark);
    }
    reply.scope = reply.scope.max(client.scope(scope));
    written
}
