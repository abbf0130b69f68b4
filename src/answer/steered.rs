//! A steered name: decide, pick, write (SPEC 7.2). An answer holds addresses, or it is NODATA with the zone's SOA.

use std::net::IpAddr;

use super::edns::ExtendedError;
use super::reply::Reply;
use crate::dns::{Full, Owner, Rcode, RecordType, Section};
use crate::fleet::Family;
use crate::steering::balance::{Choice, pick};
use crate::steering::client::Origin;
use crate::steering::trace::Silent;
use crate::steering::{Client, Outcome, ServiceId, WhenAllDown, decide};
use crate::zone::ZoneId;

/// Answers for `service` at a node of `zone`, as the records of `owner`.
pub(super) fn answer(reply: &mut Reply<'_>, service: ServiceId, family: Family, zone: ZoneId, owner: Owner<'_>) {
    let snapshot = reply.snapshot;
    let steered = snapshot.steering.service(service);
    let subnet = reply.query.edns.as_ref().and_then(|edns| edns.client_subnet.as_ref());
    let client = snapshot.settings.ecs.client(reply.source, subnet, steered.service.ecs);
    count_subnet(reply, subnet.is_some(), &client);
    let local = &mut reply.worker.local;
    let decision = decide(&snapshot.steering, &snapshot.standings, service, &client, family, local, &mut Silent);
    reply.scope = reply.scope.max(client.scope(decision.scope));
    let ttl = steered.service.ttl;
    if decision.all_down {
        reply.worker.counters.answering.fail_open.add(1);
    }
    let answering = snapshot.steering.service(decision.service);
    let written = match decision.outcome {
        Outcome::Nodata => return nodata(reply, zone, ttl),
        Outcome::Servfail => return reply.refuse(Rcode::SERVFAIL),
        Outcome::Addresses(addresses) => addresses_of(reply, owner, ttl, family, addresses),
        Outcome::Pick { candidates, group, version } => {
            if decision.all_down && answering.service.when_all_down == WhenAllDown::ServeAll {
                reply.extended_error = Some(ExtendedError::FAIL_OPEN);
            }
            reply.worker.tally.add(answering.slot + group);
            let choice = Choice { candidates, group, version, family };
            picked(reply, owner, ttl, decision.service, choice, &client)
        }
    };
    match written {
        Ok(0) => nodata(reply, zone, ttl),
        Ok(_) => {}
        Err(Full) => reply.truncate(),
    }
}

/// NODATA at a service's name: its SOA lives no longer than the service's own answers.
pub(super) fn nodata(reply: &mut Reply<'_>, zone: ZoneId, ttl: u32) {
    let snapshot = reply.snapshot;
    reply.negative(Rcode::NOERROR, snapshot.authority.zone(zone), ttl);
}

fn count_subnet(reply: &Reply<'_>, sent: bool, client: &Client) {
    let counters = &reply.worker.counters.answering;
    if sent {
        counters.ecs.add(1);
    }
    if matches!(client.origin, Origin::SetAside(_)) {
        counters.ecs_set_aside.add(1);
    }
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
        written = written.and_then(|count| record(&mut reply.writer, owner, ttl, address).map(|()| count + 1));
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
    let (writer, local) = (&mut reply.writer, &mut reply.worker.local);
    let mark = writer.mark();
    let mut written = Ok(0);
    let emit = |_, address| {
        written = written.and_then(|count| record(writer, owner, ttl, address).map(|()| count + 1));
    };
    let scope = pick(steering.service(service), choice, client, &steering.fleet, local, &mut Silent, emit);
    if written.is_err() {
        reply.writer.rewind(mark);
    }
    reply.scope = reply.scope.max(client.scope(scope));
    written
}

fn record(writer: &mut crate::dns::Writer<'_>, owner: Owner<'_>, ttl: u32, address: IpAddr) -> Result<(), Full> {
    match address {
        IpAddr::V4(v4) => writer.record(Section::Answer, owner, RecordType::A, ttl, &v4.octets()),
        IpAddr::V6(v6) => writer.record(Section::Answer, owner, RecordType::AAAA, ttl, &v6.octets()),
    }
}
