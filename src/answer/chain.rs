//! From the name asked to the answer: RFC 1034 §4.3.2 with CNAME and DNAME followed through our zones, as far as
//! [`MAX_CHAIN`] links; what comes of the last link is the answer's rcode (RFC 6604).

use xxhash_rust::xxh3::xxh3_64;

use super::edns::ExtendedError;
use super::reply::Reply;
use super::steered::Asked;
use super::{Transport, steered, synthesized, whoami};
use crate::dns::name::{MAX_NAME, wire_is_at_or_below};
use crate::dns::writer::name_length;
use crate::dns::{LowerName, Owner, Rcode, RecordType, Section, Writer};
use crate::fleet::Family;
use crate::limit::Kind;
use crate::steering::ServiceId;
use crate::zone::{Found, Node, Rrset};

/// Most CNAMEs and DNAMEs followed; a loop ends here, with what was found.
pub(super) const MAX_CHAIN: usize = 16;
/// Most records of an answer whose targets get additional data.
const MAX_TARGETS: usize = 16;

/// The name that is looked up now: at first the one asked, then the target of each link. Its room belongs to the thread.
#[derive(Debug)]
pub(super) struct Current {
    lower: LowerName,
    /// The target as written, for owners; unused for the name asked, and for one that the message holds already.
    target: [u8; MAX_NAME],
    length: usize,
    /// Where the message holds the target already.
    written_at: Option<u16>,
    /// Hashes of the names of the chain so far, this one the last; nothing before the first link.
    seen: [u64; MAX_CHAIN + 1],
    links: usize,
}

impl Current {
    pub(super) fn new() -> Current {
        Current {
            lower: LowerName::new(),
            target: [0; MAX_NAME],
            length: 0,
            written_at: None,
            seen: [0; MAX_CHAIN + 1],
            links: 0,
        }
    }

    /// Room for the next name asked.
    pub(super) fn begin(&mut self) -> &mut LowerName {
        (self.length, self.links) = (0, 0);
        &mut self.lower
    }

    pub(super) fn lower(&self) -> &LowerName {
        &self.lower
    }

    /// What a service is asked for.
    fn asked(&self) -> Asked<'_> {
        Asked { owner: self.owner(), label: self.lower.first_label(), no_cname: false }
    }

    fn owner(&self) -> Owner<'_> {
        match (self.length, self.written_at) {
            (0, _) => Owner::Question,
            (_, Some(at)) => Owner::At(at),
            (length, None) => Owner::Name(&self.target[..length]),
        }
    }

    /// Goes on with `target`, which was written as the data of the last record; false when it is no name, or was
    /// looked up before: a chain that leads in a circle ends there, so that each record is written once.
    fn follow(&mut self, target: &[u8], writer: &Writer<'_>) -> bool {
        if self.links == 0 {
            self.seen[0] = xxh3_64(self.lower.as_wire());
        }
        let Some(length) = self.lower.set(target) else { return false };
        self.written_at = writer.name_in_rdata();
        if self.written_at.is_none() {
            self.target[..length].copy_from_slice(&target[..length]);
        }
        self.length = length;
        // What differs may have the same hash once in 2⁶⁴ times.
        let hash = xxh3_64(self.lower.as_wire());
        let is_new = self.links < MAX_CHAIN && !self.seen[..=self.links].contains(&hash);
        if is_new {
            self.links += 1;
            self.seen[self.links] = hash;
        }
        is_new
    }
}

/// What a link says.
enum Link<'a> {
    /// The answer is complete.
    End,
    /// There is another name to look up, for the CNAME or DNAME of this node said so.
    Next(Node<'a>),
}

/// The nodes whose CNAME or DNAME were followed so far.
type Followed<'a> = [Option<Node<'a>>];

/// Whether a node was followed before: a DNAME is written once, whatever is made of it.
fn has(followed: &Followed<'_>, node: Node<'_>) -> bool {
    followed.iter().flatten().any(|each| *each == node)
}

/// Answers for `current` in class IN.
pub(super) fn answer(reply: &mut Reply<'_>, current: &mut Current) {
    if let Link::Next(node) = link(reply, current, &[]) {
        follow(reply, current, node);
    }
}

/// Goes on behind the CNAME or DNAME of `first`.
fn follow<'a>(reply: &mut Reply<'a>, current: &mut Current, first: Node<'a>) {
    let mut followed = [None; MAX_CHAIN];
    followed[0] = Some(first);
    for links in 1..MAX_CHAIN {
        match link(reply, current, &followed[..links]) {
            Link::End => return,
            Link::Next(node) => followed[links] = Some(node),
        }
    }
}

fn link<'a>(reply: &mut Reply<'a>, current: &mut Current, followed: &Followed<'_>) -> Link<'a> {
    let snapshot = reply.snapshot;
    let authority = &*snapshot.authority;
    let qtype = reply.query.qtype;
    let first = current.length == 0;
    match authority.find(&current.lower, qtype) {
        Found::NotOurs if first => {
            reply.extended_error = Some(ExtendedError::NOT_AUTHORITATIVE);
            reply.refuse(Rcode::REFUSED);
        }
        // A chain that leaves our zones ends there; the resolver goes on.
        Found::NotOurs => {}
        // Behind a link of ours the resolver asks for itself.
        Found::Void if !first => {}
        Found::Void => {
            reply.extended_error = Some(ExtendedError::NOT_READY);
            reply.refuse(Rcode::SERVFAIL);
        }
        Found::Referral { cut } => {
            if first {
                reply.subject = (Kind::Referral, cut.ordinal());
            }
            referral(reply, cut, first);
        }
        Found::Nxdomain { zone } => {
            reply.subject = (Kind::Nxdomain, zone.0);
            reply.authoritative();
            reply.negative(Rcode::NXDOMAIN, authority.zone(zone), u32::MAX);
        }
        Found::ParentSide { zone, .. } if authority.soa(zone).is_none() => {
            reply.extended_error = Some(ExtendedError::NOT_READY);
            reply.refuse(Rcode::SERVFAIL);
        }
        Found::ParentSide { zone, rrset, .. } => {
            reply.authoritative();
            match rrset {
                Some(rrset) => drop(reply.rrset(Section::Answer, current.owner(), &rrset)),
                None => reply.negative(Rcode::NOERROR, authority.zone(zone), u32::MAX),
            }
        }
        Found::Dname { node } => {
            if first {
                reply.subject = (Kind::Wildcard, node.ordinal());
            }
            reply.authoritative();
            return dname(reply, node, current, followed);
        }
        Found::Data { node, wildcard } => {
            if first {
                reply.subject = (if wildcard { Kind::Wildcard } else { Kind::Positive }, node.ordinal());
            }
            reply.authoritative();
            return data(reply, node, current);
        }
    }
    Link::End
}

fn data<'a>(reply: &mut Reply<'a>, node: Node<'a>, current: &mut Current) -> Link<'a> {
    let snapshot = reply.snapshot;
    let qtype = reply.query.qtype;
    let tag = node.tag();
    if tag == Some(whoami::TAG) && whoami::answer(reply, node.zone(), current.owner()) {
        return Link::End;
    }
    let service = tag.filter(|&tag| tag != whoami::TAG).map(ServiceId);
    let apex = snapshot.authority.zone(node.zone());
    if let Some(service) = service {
        let asked = current.asked();
        let target = match family(qtype) {
            Some(family) => steered::answer(reply, service, family, node.zone(), asked),
            None => steered::cname(reply, service, asked),
        };
        match target {
            Some(target) if !matches!(qtype, RecordType::CNAME | RecordType::ANY) => {
                return if current.follow(target, &reply.writer) { Link::Next(node) } else { Link::End };
            }
            None if family(qtype).is_none() => {}
            _ => return Link::End,
        }
    }
    if qtype == RecordType::ANY {
        any(reply, node, current.asked());
        return Link::End;
    }
    if let Some(service) = service
        && synthesized::answer(reply, service, node.zone(), current.asked())
    {
        return Link::End;
    }
    if let Some(rrset) = node.rrset(qtype) {
        if reply.rrset(Section::Answer, current.owner(), &rrset) {
            additional(reply, &rrset);
        }
        return Link::End;
    }
    if let Some(cname) = node.rrset(RecordType::CNAME) {
        let goes_on = reply.rrset(Section::Answer, current.owner(), &cname)
            && cname.rdatas().next().is_some_and(|target| current.follow(target, &reply.writer));
        return if goes_on { Link::Next(node) } else { Link::End };
    }
    match service {
        None => reply.negative(Rcode::NOERROR, apex, u32::MAX),
        Some(service) => steered::nodata(reply, node.zone(), snapshot.steering.service(service).manner.ttl.min),
    }
    Link::End
}

/// The address family that a type asks for.
fn family(qtype: RecordType) -> Option<Family> {
    match qtype {
        RecordType::A => Some(Family::V4),
        RecordType::AAAA => Some(Family::V6),
        _ => None,
    }
}

/// The DNAME and the CNAME made from it (RFC 6672 §3.1), YXDOMAIN when that becomes too long.
fn dname<'a>(reply: &mut Reply<'a>, node: Node<'a>, current: &mut Current, followed: &Followed<'_>) -> Link<'a> {
    let Some(rrset) = node.rrset(RecordType::DNAME) else { return Link::End };
    let Some(target) = rrset.rdatas().next() else { return Link::End };
    if !has(followed, node) && !reply.rrset(Section::Answer, Owner::Name(node.name()), &rrset) {
        return Link::End;
    }
    let kept = current.lower.as_wire().len() - node.name().len();
    let Some(target) = target.get(..name_length(target).unwrap_or(0)) else { return Link::End };
    if kept + target.len() > MAX_NAME {
        reply.refuse(Rcode::YXDOMAIN);
        return Link::End;
    }
    let mut name = [0u8; MAX_NAME];
    name[..kept].copy_from_slice(&current.lower.as_wire()[..kept]);
    name[kept..kept + target.len()].copy_from_slice(target);
    let name = &name[..kept + target.len()];
    let written = reply.record(Section::Answer, current.owner(), RecordType::CNAME, rrset.ttl(), name);
    let goes_on = written && reply.query.qtype != RecordType::CNAME && current.follow(name, &reply.writer);
    if goes_on { Link::Next(node) } else { Link::End }
}

/// NS of the cut, not authoritative, with all glue in its domain or TC (RFC 9471).
fn referral(reply: &mut Reply<'_>, cut: Node<'_>, first: bool) {
    let Some(ns) = cut.rrset(RecordType::NS) else { return };
    // Behind a CNAME of ours AA speaks of that (RFC 1034 §3.7: of the first owner in the answer).
    if !first {
        reply.authoritative();
    }
    if !reply.rrset(Section::Authority, Owner::Name(cut.name()), &ns) {
        return;
    }
    for target in ns.rdatas() {
        let is_written = exact(reply, target).is_none_or(|node| glue(reply, target, node, RecordType::NS));
        if !is_written && wire_is_at_or_below(target, cut.name()) {
            return reply.truncate();
        }
    }
}

/// What is known of the names in an NS, MX, SRV, SVCB or HTTPS RRset, each once, where they are ours and it fits.
fn additional(reply: &mut Reply<'_>, rrset: &Rrset<'_>) {
    let skip = match rrset.rtype {
        RecordType::NS => 0,
        RecordType::MX | RecordType::SVCB | RecordType::HTTPS => 2,
        RecordType::SRV => 6,
        _ => return,
    };
    let mut seen = [None; MAX_TARGETS];
    for (rdata, number) in rrset.rdatas().zip(0..MAX_TARGETS) {
        let Some(target) = rdata.get(skip..) else { return };
        let Some(node) = exact(reply, target).filter(|node| !seen.contains(&Some(*node))) else { continue };
        seen[number] = Some(node);
        if !glue(reply, target, node, rrset.rtype) {
            return;
        }
    }
}

/// Writes the static addresses of the target of an SRV record, if it has any; false when they did not fit.
pub(super) fn addresses_of(reply: &mut Reply<'_>, target: &[u8]) -> bool {
    exact(reply, target).is_none_or(|node| glue(reply, target, node, RecordType::SRV))
}

/// The node of the name at the start of `target`.
fn exact<'a>(reply: &Reply<'a>, target: &[u8]) -> Option<Node<'a>> {
    let mut lower = LowerName::new();
    lower.set(target)?;
    reply.snapshot.authority.exact(lower.as_wire())
}

/// Writes the static addresses of `node`, whose name is at the start of `target`, which a record of type `of` has, and the
/// RRset that an SVCB or HTTPS record leads to (RFC 9460 §4.1); false when they did not fit.
fn glue(reply: &mut Reply<'_>, target: &[u8], node: Node<'_>, of: RecordType) -> bool {
    let Some(length) = name_length(target) else { return true };
    let next = Some(of).filter(|of| matches!(*of, RecordType::SVCB | RecordType::HTTPS));
    [Some(RecordType::A), Some(RecordType::AAAA), next]
        .into_iter()
        .flatten()
        .filter_map(|rtype| node.rrset(rtype))
        .all(|rrset| rrset.write(&mut reply.writer, Section::Additional, Owner::Name(&target[..length])).is_ok())
}

/// HINFO "RFC8482" over UDP, so that nobody gains from asking (RFC 8482 §4.2); everything over TCP.
fn any(reply: &mut Reply<'_>, node: Node<'_>, asked: Asked<'_>) {
    let owner = asked.owner;
    let apex = reply.snapshot.authority.zone(node.zone());
    if node.tag().is_none() && node.is_empty() {
        return reply.negative(Rcode::NOERROR, apex, u32::MAX);
    }
    if let Some(cname) = node.rrset(RecordType::CNAME) {
        reply.rrset(Section::Answer, owner, &cname);
    } else if reply.transport == Transport::Udp {
        reply.record(Section::Answer, owner, RecordType::HINFO, apex.negative_ttl, b"\x07RFC8482\x00");
    } else {
        // What does not fit is left out: no RRset in particular was asked for (RFC 8482 §4.1).
        for rrset in node.rrsets() {
            let _ = rrset.write(&mut reply.writer, Section::Answer, owner);
        }
        if let Some(tag) = node.tag() {
            let service = ServiceId(tag);
            // Before the addresses, which take turns: hints are what these are about to be.
            let has_others = synthesized::answer_all(reply, service, asked) || !node.is_empty();
            steered::answer_both(reply, service, node.zone(), asked, has_others);
        }
    }
}
