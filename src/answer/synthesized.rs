//! What a service answers beside A and AAAA, made at each query of the same decision: HTTPS and SVCB (RFC 9460), SRV
//! (RFC 2782).
//!
//! ```text
//! HTTPS, SVCB   1 .                    alpn port ipv4hint ech ipv6hint    the hints: what A and AAAA would give now
//!               2 us-east.www.…        alpn port ipv4hint ech ipv6hint    what A and AAAA of that name would give
//! SRV           0 weight port eu-1.www.…                                  instances of the region that serves
//!               1 weight port us-1.www.…                                  and of those that would serve next
//! ```
//! Both families are decided with the same draws, so that they tell of one region wherever they can. The scope is the
//! longest of all decisions, the TTL the least.

use std::net::IpAddr;

use super::chain;
use super::reply::Reply;
use super::steered::{self, Asked, Given};
use crate::dns::{Full, Owner, RecordType, Section};
use crate::fleet::{Family, InstanceId};
use crate::steering::balance::{Choice, pick, pick_instances};
use crate::steering::beside::{Binding, Derived, MAX_TIERS, Srv, Target};
use crate::steering::trace::Silent;
use crate::steering::walk::{Reserve, reserves};
use crate::steering::{Client, Decision, Outcome, ServiceId, Steering, decide};
use crate::zone::ZoneId;

/// Keys of service parameters (RFC 9460 §14.3.2), by family.
const HINTS: [u16; 2] = [4, 6];
/// Most instances whose addresses are added.
const MOST_ADDED: usize = 64;
/// Largest sum of the weights that stand in SRV records as they are.
const WHOLE: u64 = u16::MAX as u64;

/// Answers for the type asked, if `service` makes records of it; else false.
pub(super) fn answer(reply: &mut Reply<'_>, service: ServiceId, zone: ZoneId, asked: Asked<'_>) -> bool {
    let mark = reply.writer.mark();
    let Some(given) = write(reply, service, reply.query.qtype, asked) else { return false };
    let given = given.unwrap_or_else(|Full| {
        reply.writer.rewind(mark);
        reply.truncate();
        Given::Addresses
    });
    steered::conclude(reply, service, zone, given);
    true
}

/// Writes all that `service` makes, as far as it fits: for who asks for any type.
pub(super) fn answer_all(reply: &mut Reply<'_>, service: ServiceId, asked: Asked<'_>) -> bool {
    let mut has_some = false;
    for rtype in [RecordType::SRV, RecordType::SVCB, RecordType::HTTPS] {
        let mark = reply.writer.mark();
        match write(reply, service, rtype, asked) {
            Some(Err(Full)) => reply.writer.rewind(mark),
            Some(Ok(given)) => has_some |= given == Given::Addresses,
            None => {}
        }
    }
    has_some
}

/// The service whose decisions say what records of a type `service` makes; `None` where it makes none of it.
pub(super) fn made_of(steering: &Steering, service: ServiceId, rtype: RecordType) -> Option<ServiceId> {
    let configured = &steering.service(service).configured.service;
    match (rtype, configured.derived.as_deref(), configured.beside.as_deref()) {
        (RecordType::SRV, Some(Derived::Srv(srv)), _) => Some(srv.of),
        (RecordType::HTTPS, _, Some(beside)) => beside.https.as_ref().map(|_| service),
        (RecordType::SVCB, _, Some(beside)) => beside.svcb.as_ref().map(|_| service),
        _ => None,
    }
}

/// Writes the records of a type; `None` where the service makes none of it.
fn write(
    reply: &mut Reply<'_>,
    service: ServiceId,
    rtype: RecordType,
    asked: Asked<'_>,
) -> Option<Result<Given<'static>, Full>> {
    let snapshot = reply.snapshot;
    let configured = &snapshot.steering.service(service).configured.service;
    if let (RecordType::SRV, Some(Derived::Srv(srv))) = (rtype, configured.derived.as_deref()) {
        return Some(write_srv(reply, srv, asked));
    }
    let beside = configured.beside.as_deref()?;
    let binding = match rtype {
        RecordType::HTTPS => beside.https.as_ref()?,
        RecordType::SVCB => beside.svcb.as_ref()?,
        _ => return None,
    };
    Some(write_bindings(reply, service, rtype, binding, asked))
}

/// The decisions for both families.
#[derive(Clone, Copy)]
struct Decided<'a> {
    client: Client,
    /// By family.
    each: [Decision<'a>; 2],
}

impl<'a> Decided<'a> {
    /// Decides for both families with the same draws, and takes note of scopes and of what fails open.
    fn new(reply: &mut Reply<'a>, service: ServiceId, client: Client) -> Decided<'a> {
        let snapshot = reply.snapshot;
        let draws = reply.thread.local.random.clone();
        // IPv6 comes last: it goes to a service that stands in only where IPv4 does, so that while this one serves at all
        // the thread is left with its order (`reserves`).
        let each = Family::BOTH.map(|family| {
            reply.thread.local.random = draws.clone();
            let local = &mut *reply.thread.local;
            decide(&snapshot.steering, snapshot.situation(), service, &client, family, local, &mut Silent)
        });
        for decision in &each {
            reply.scope = reply.scope.max(client.scope(decision.scope));
        }
        if let Some(decision) = each.iter().find(|decision| decision.all_down) {
            steered::note_all_down(reply, decision);
        }
        Decided { client, each }
    }

    /// Whether a family has an address to give.
    fn gives(&self, family: Family) -> bool {
        match self.each[family as usize].outcome {
            // A CNAME may lead to none.
            Outcome::Pick { roster, .. } => {
                roster.entries.iter().any(|entry| roster.addresses_of(entry).next().is_some())
            }
            Outcome::Addresses(addresses) => addresses.iter().any(|&address| Family::of(address) == family),
            Outcome::Nodata | Outcome::Servfail => false,
        }
    }

    /// What it comes to where there is no record.
    fn nothing(&self) -> Given<'static> {
        let fails = self.each.iter().any(|decision| matches!(decision.outcome, Outcome::Servfail));
        if fails { Given::Failure } else { Given::Nothing }
    }

    fn ttl(&self) -> u32 {
        self.each.iter().map(|decision| decision.ttl).min().unwrap_or(0)
    }

    /// The groups that serve, as far as they are `service`'s own.
    fn groups(&self, service: ServiceId) -> [Option<usize>; 2] {
        self.each.map(|decision| match decision.outcome {
            Outcome::Pick { group, .. } if decision.service == service && !decision.all_down => Some(group),
            _ => None,
        })
    }

    /// The groups that would serve next, where some group serves; at most `tiers` with it.
    fn reserves(&self, reply: &Reply<'a>, service: ServiceId, tiers: u8) -> [Option<Reserve<'a>>; MAX_TIERS - 1] {
        let mut found = [None; MAX_TIERS - 1];
        let served = self.groups(service);
        if tiers > 1 && served != [None; 2] {
            let snapshot = reply.snapshot;
            let (steering, local) = (&snapshot.steering, &*reply.thread.local);
            let room = &mut found[..usize::from(tiers - 1).min(MAX_TIERS - 1)];
            reserves(steering, snapshot.situation(), service, &self.client, local, served, room);
        }
        found
    }

    /// Counts the answer where those are counted that are sent to the same region.
    fn count(&self, reply: &Reply<'_>) {
        let first = self.each.iter().find_map(|decision| match decision.outcome {
            Outcome::Pick { group, .. } => Some((decision.service, group)),
            _ => None,
        });
        if let Some((service, group)) = first {
            reply.thread.tally.add(reply.snapshot.steering.service(service).slot as usize + group);
        }
    }
}

fn write_bindings(
    reply: &mut Reply<'_>,
    service: ServiceId,
    rtype: RecordType,
    binding: &Binding,
    asked: Asked<'_>,
) -> Result<Given<'static>, Full> {
    let steering = &*reply.snapshot.steering;
    let client = steered::client(reply, service, asked);
    let decided = Decided::new(reply, service, client);
    if !Family::BOTH.iter().any(|&family| decided.gives(family)) {
        return Ok(decided.nothing());
    }
    decided.count(reply);
    let beside = steering.service(service).configured.service.beside.as_deref();
    let groups = &steering.layout(steering.service(service).layout).groups;
    let mut tiers = [None; MAX_TIERS];
    tiers[0] = Some((service, &b"\0"[..], decided));
    for (tier, reserve) in tiers[1..].iter_mut().zip(decided.reserves(reply, service, binding.tiers)) {
        let region = reserve.and_then(|reserve| groups[reserve.group].regions.first());
        let Some(derived) = region.and_then(|&region| beside?.region(region)) else { continue };
        let name = steering.service(derived).configured.service.name.as_wire();
        *tier = Some((derived, name, Decided::new(reply, derived, client)));
    }
    let tiers = tiers.iter().flatten().filter(|(.., one)| Family::BOTH.iter().any(|&family| one.gives(family)));
    let ttl = tiers.clone().map(|(.., decided)| decided.ttl()).min().unwrap_or(0);
    for (priority, (_, target, decided)) in (1u16..).zip(tiers) {
        reply.writer.begin(Section::Answer, asked.owner, rtype, ttl)?;
        reply.writer.append(&priority.to_be_bytes())?;
        reply.writer.append(target)?;
        write_params(reply, binding, decided)?;
    }
    Ok(Given::Addresses)
}

/// The parameters, in the order of their keys (RFC 9460 §2.2).
fn write_params(reply: &mut Reply<'_>, binding: &Binding, decided: &Decided<'_>) -> Result<(), Full> {
    let Binding { head, middle, hints, .. } = binding;
    reply.writer.append(head)?;
    for (family, behind) in Family::BOTH.into_iter().zip([&middle[..], &[]]) {
        if *hints && decided.gives(family) {
            write_hints(reply, family, decided)?;
        }
        reply.writer.append(behind)?;
    }
    Ok(())
}

/// The addresses of a family as one parameter; there is one.
fn write_hints(reply: &mut Reply<'_>, family: Family, decided: &Decided<'_>) -> Result<(), Full> {
    let steering = &*reply.snapshot.steering;
    let Decided { client, each } = decided;
    let decision = &each[family as usize];
    let (writer, local) = (&mut reply.writer, &mut *reply.thread.local);
    let [high, low] = HINTS[family as usize].to_be_bytes();
    writer.append(&[high, low, 0, 0])?;
    let begin = writer.length();
    let mut written = Ok(());
    let mut hint = |address: IpAddr| {
        written = written.and_then(|()| match address {
            IpAddr::V4(address) => writer.append(&address.octets()),
            IpAddr::V6(address) => writer.append(&address.octets()),
        });
    };
    match decision.outcome {
        Outcome::Pick { roster, group, version } => {
            let choice = Choice { roster, group, version, family, no_cname: true, takes_turn: false };
            let answering = steering.service(decision.service);
            let emit = |_, address: Option<IpAddr>| address.into_iter().for_each(&mut hint);
            let scope = pick(steering, answering, choice, client, local, &mut Silent, emit);
            reply.scope = reply.scope.max(client.scope(scope));
        }
        Outcome::Addresses(addresses) => {
            addresses.iter().copied().filter(|&address| Family::of(address) == family).for_each(hint);
        }
        Outcome::Nodata | Outcome::Servfail => {}
    }
    written?;
    let octets = (writer.length() - begin) as u16;
    if octets == 0 {
        // Those drawn have no address of this family, and a hint without any would be malformed.
        writer.take_back(4);
        return Ok(());
    }
    writer.overwrite(begin - 2, octets.to_be_bytes());
    Ok(())
}

/// Targets whose addresses are to be added.
struct Added<'a> {
    targets: [Option<&'a Target>; MOST_ADDED],
    count: usize,
}

impl<'a> Added<'a> {
    fn add(&mut self, target: &'a Target) {
        if let Some(free) = self.targets.get_mut(self.count) {
            *free = Some(target);
        }
        self.count += 1;
    }
}

/// The rosters of one region, by family.
type Rosters<'a> = [Option<Choice<'a>>; 2];

/// What the SRV records of one region say.
struct Tier<'a> {
    priority: u16,
    ttl: u32,
    /// Whose instances they are.
    srv: &'a Srv,
    /// The service that picks them, with rotations of its own.
    derived: ServiceId,
    rosters: Rosters<'a>,
}

fn write_srv<'a>(reply: &mut Reply<'a>, srv: &'a Srv, asked: Asked<'_>) -> Result<Given<'static>, Full> {
    let snapshot = reply.snapshot;
    let steering = &*snapshot.steering;
    let client = steered::client(reply, srv.of, asked);
    let decided = Decided::new(reply, srv.of, client);
    let Some((first, rosters)) = serving(&decided) else { return Ok(decided.nothing()) };
    // A service that stands in tells of its instances only if they have names.
    let Some((derived, answering)) = srv_of(reply, first) else { return Ok(decided.nothing()) };
    decided.count(reply);
    let reserves = decided.reserves(reply, srv.of, srv.tiers);
    let steady = |reserve: &Reserve<'_>| steering.service(srv.of).manner.ttl.within(reserve.steady_for);
    let ttl = reserves.iter().flatten().map(steady).fold(decided.ttl(), u32::min);
    let mut added = Added { targets: [None; MOST_ADDED], count: 0 };
    let tier = Tier { priority: 0, ttl, srv: answering, derived, rosters };
    write_tier(reply, &tier, &decided.client, asked.owner, &mut added)?;
    for (priority, reserve) in (1..).zip(reserves.into_iter().flatten()) {
        let rosters = Family::BOTH.map(|family| {
            let (roster, version) = reserve.rosters[family as usize]?;
            Some(Choice { roster, group: reserve.group, version, family, no_cname: true, takes_turn: true })
        });
        let tier = Tier { priority, rosters, ..tier };
        write_tier(reply, &tier, &decided.client, asked.owner, &mut added)?;
    }
    for target in added.targets.iter().flatten() {
        if !chain::addresses_of(reply, target.name.as_wire()) {
            break;
        }
    }
    Ok(if added.count > 0 { Given::Addresses } else { decided.nothing() })
}

/// The service that answers, and its rosters in the group that serves: those of both families if it is the same, else
/// those of IPv4.
fn serving<'a>(decided: &Decided<'a>) -> Option<(ServiceId, Rosters<'a>)> {
    let of = |family: Family| match decided.each[family as usize] {
        Decision { outcome: Outcome::Pick { roster, group, version }, service, .. } => {
            Some((service, Choice { roster, group, version, family, no_cname: true, takes_turn: true }))
        }
        _ => None,
    };
    match (of(Family::V4), of(Family::V6)) {
        (Some((service, v4)), Some((other, v6))) if service == other && v4.group == v6.group => {
            Some((service, [Some(v4), Some(v6)]))
        }
        (Some((service, v4)), _) => Some((service, [Some(v4), None])),
        (None, Some((service, v6))) => Some((service, [None, Some(v6)])),
        (None, None) => None,
    }
}

/// The derived service that answers SRV.
fn srv_of<'a>(reply: &Reply<'a>, service: ServiceId) -> Option<(ServiceId, &'a Srv)> {
    let steering = &*reply.snapshot.steering;
    let derived = steering.service(service).configured.service.beside.as_deref()?.srv?;
    match steering.service(derived).configured.service.derived.as_deref() {
        Some(Derived::Srv(srv)) => Some((derived, srv)),
        _ => None,
    }
}

/// Writes the records of one region: instances with an IPv4 address first, then those with an IPv6 address alone.
fn write_tier<'a>(
    reply: &mut Reply<'_>,
    tier: &Tier<'a>,
    client: &Client,
    owner: Owner<'_>,
    added: &mut Added<'a>,
) -> Result<(), Full> {
    let steering = &*reply.snapshot.steering;
    let Tier { priority, ttl, srv, derived, rosters } = *tier;
    let picking = steering.service(derived);
    let most = match picking.manner.answers {
        0 => usize::MAX,
        most => usize::from(most),
    };
    let sum = rosters.iter().flatten().map(|choice| choice.roster.weight).next().unwrap_or(1);
    let [v4, _] = rosters;
    let is_told = |id: InstanceId| v4.is_some_and(|v4| v4.roster.entries.iter().any(|entry| entry.instance == id));
    let (mut written, mut count, mut scopes) = (Ok(()), 0, 0);
    for choice in rosters.into_iter().flatten() {
        let (writer, local) = (&mut reply.writer, &mut *reply.thread.local);
        let scope = pick_instances(steering, picking, choice, client, local, |id, weight| {
            if written.is_err() || count == most || (choice.family == Family::V6 && is_told(id)) {
                return;
            }
            let Some(target) = srv.target(id) else { return };
            let [weight, port] = [scaled(weight, sum), target.port];
            let numbers = [priority, weight, port].map(u16::to_be_bytes);
            written = writer
                .begin(Section::Answer, owner, RecordType::SRV, ttl)
                .and_then(|()| writer.append(numbers.as_flattened()))
                .and_then(|()| writer.append(target.name.as_wire()));
            added.add(target);
            count += 1;
        });
        scopes = scopes.max(scope);
    }
    reply.scope = reply.scope.max(client.scope(scopes));
    written
}

/// A weight of those that sum up to `sum`, as SRV tells it: never 0, which would mean nearly never (RFC 2782).
fn scaled(weight: u32, sum: u64) -> u16 {
    let weight = u64::from(weight);
    let scaled = if sum <= WHOLE { weight } else { weight * WHOLE / sum };
    scaled.clamp(1, WHOLE) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_fit_sixteen_bits() {
        for (weight, sum, expected) in [
            (1, 1, 1),
            (3, 8, 3),
            (65_535, 65_535, 65_535),
            (1, 65_536, 1),
            (1_000_000, 3_000_000, 21_845),
            (1_000_000, 1_000_000, 65_535),
            (1_000_000, 1, 65_535),
        ] {
            assert_eq!(scaled(weight, sum), expected, "{weight} of {sum}");
        }
    }
}
