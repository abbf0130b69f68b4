//! From the name asked to the answer: RFC 1034 §4.3.2 with CNAME and DNAME followed through our zones, as far as
//! [`MAX_CHAIN`] links; what comes of the last link is the answer's rcode (RFC 6604).

use super::edns::ExtendedError;
use super::reply::Reply;
use super::{Transport, steered};
use crate::dns::name::{MAX_NAME, wire_is_at_or_below};
use crate::dns::writer::name_length;
use crate::dns::{LowerName, Owner, Rcode, RecordType, Section};
use crate::fleet::Family;
use crate::steering::ServiceId;
use crate::zone::{Found, Node, Rrset};

/// Most CNAMEs and DNAMEs followed; a loop ends here, with what was found.
const MAX_CHAIN: usize = 16;

/// The name that is looked up now: at first the one asked, then the target of each link. Its room belongs to the thread.
#[derive(Debug)]
pub(super) struct Current {
    lower: LowerName,
    /// The target as written, for owners; unused for the name asked.
    target: [u8; MAX_NAME],
    length: usize,
}

impl Current {
    pub(super) fn new() -> Current {
        Current { lower: LowerName::new(), target: [0; MAX_NAME], length: 0 }
    }

    /// Room for the next name asked.
    pub(super) fn begin(&mut self) -> &mut LowerName {
        self.length = 0;
        &mut self.lower
    }

    pub(super) fn lower(&self) -> &LowerName {
        &self.lower
    }

    fn owner(&self) -> Owner<'_> {
        if self.length == 0 { Owner::Question } else { Owner::Name(&self.target[..self.length]) }
    }

    /// Goes on with `target`; false when it is no name.
    fn follow(&mut self, target: &[u8]) -> bool {
        let Some(length) = self.lower.set(target) else { return false };
        self.target[..length].copy_from_slice(&target[..length]);
        self.length = length;
        true
    }
}

/// What a link says.
enum Link<'a> {
    /// The answer is complete.
    End,
    /// There is another name to look up, for the CNAME or DNAME of this node said so.
    Next(&'a Node),
}

/// The nodes whose CNAME or DNAME were followed so far.
type Followed<'a> = [Option<&'a Node>];

/// Whether a node was followed before. Then its CNAME leads in a circle: each record is written once.
fn has(followed: &Followed<'_>, node: &Node) -> bool {
    followed.iter().flatten().any(|each| std::ptr::eq(*each, node))
}

/// Answers for `current` in class IN.
pub(super) fn answer(reply: &mut Reply<'_>, current: &mut Current) {
    let mut followed = [None; MAX_CHAIN];
    for links in 0..MAX_CHAIN {
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
        Found::Referral { cut } => referral(reply, cut, first),
        Found::Nxdomain { zone } => {
            reply.authoritative();
            reply.negative(Rcode::NXDOMAIN, authority.zone(zone), u32::MAX);
        }
        Found::ParentSide { zone, rrset, .. } => {
            reply.authoritative();
            match rrset {
                Some(rrset) => drop(reply.rrset(Section::Answer, current.owner(), rrset)),
                None => reply.negative(Rcode::NOERROR, authority.zone(zone), u32::MAX),
            }
        }
        Found::Dname { node, labels } => {
            reply.authoritative();
            return dname(reply, node, labels, current, followed);
        }
        Found::Data { node, .. } => {
            reply.authoritative();
            return data(reply, node, current, followed);
        }
    }
    Link::End
}

fn data<'a>(reply: &mut Reply<'a>, node: &'a Node, current: &mut Current, followed: &Followed<'_>) -> Link<'a> {
    let snapshot = reply.snapshot;
    let authority = &*snapshot.authority;
    let qtype = reply.query.qtype;
    if qtype == RecordType::ANY {
        any(reply, node, current.owner());
        return Link::End;
    }
    if let (Some(tag), Some(family)) = (node.tag, family(qtype)) {
        steered::answer(reply, ServiceId(tag), family, node.zone, current.owner());
        return Link::End;
    }
    if let Some(rrset) = authority.rrset(node, qtype) {
        if reply.rrset(Section::Answer, current.owner(), rrset) {
            additional(reply, rrset);
        }
        return Link::End;
    }
    if let Some(cname) = authority.rrset(node, RecordType::CNAME) {
        let goes_on = !has(followed, node)
            && reply.rrset(Section::Answer, current.owner(), cname)
            && cname.rdatas.first().is_some_and(|target| current.follow(target));
        return if goes_on { Link::Next(node) } else { Link::End };
    }
    match node.tag {
        Some(tag) => steered::nodata(reply, node.zone, snapshot.steering.service(ServiceId(tag)).service.ttl),
        None => reply.negative(Rcode::NOERROR, authority.zone(node.zone), u32::MAX),
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
fn dname<'a>(
    reply: &mut Reply<'a>,
    node: &'a Node,
    labels: usize,
    current: &mut Current,
    followed: &Followed<'_>,
) -> Link<'a> {
    let Some(rrset) = reply.snapshot.authority.rrset(node, RecordType::DNAME) else { return Link::End };
    let Some(target) = rrset.rdatas.first() else { return Link::End };
    if !has(followed, node) && !reply.rrset(Section::Answer, Owner::Name(node.name.as_wire()), rrset) {
        return Link::End;
    }
    let kept = current.lower.as_wire().len() - current.lower.suffix(current.lower.labels() - labels).len();
    let Some(target) = target.get(..name_length(target).unwrap_or(0)) else { return Link::End };
    if kept + target.len() > MAX_NAME {
        reply.refuse(Rcode::YXDOMAIN);
        return Link::End;
    }
    let mut name = [0u8; MAX_NAME];
    name[..kept].copy_from_slice(&current.lower.as_wire()[..kept]);
    name[kept..kept + target.len()].copy_from_slice(target);
    let name = &name[..kept + target.len()];
    let written = reply.records(Section::Answer, current.owner(), RecordType::CNAME, rrset.ttl, std::iter::once(name));
    if written && reply.query.qtype != RecordType::CNAME && current.follow(name) { Link::Next(node) } else { Link::End }
}

/// NS of the cut, not authoritative, with all glue in its domain or TC (RFC 9471).
fn referral(reply: &mut Reply<'_>, cut: &Node, first: bool) {
    let authority = &*reply.snapshot.authority;
    let Some(ns) = authority.rrset(cut, RecordType::NS) else { return };
    // Behind a CNAME of ours AA speaks of that (RFC 1034 §3.7: of the first owner in the answer).
    if !first {
        reply.authoritative();
    }
    if !reply.rrset(Section::Authority, Owner::Name(cut.name.as_wire()), ns) {
        return;
    }
    for target in &ns.rdatas {
        if !glue(reply, target) && wire_is_at_or_below(target, cut.name.as_wire()) {
            return reply.truncate();
        }
    }
}

/// Addresses of the names in an NS, MX or SRV RRset, where they are ours and fit.
fn additional(reply: &mut Reply<'_>, rrset: &Rrset) {
    let skip = match rrset.rtype {
        RecordType::NS => 0,
        RecordType::MX => 2,
        RecordType::SRV => 6,
        _ => return,
    };
    for rdata in &rrset.rdatas {
        if !rdata.get(skip..).is_some_and(|target| glue(reply, target)) {
            return;
        }
    }
}

/// Writes the static addresses of `target`; false when they did not fit.
fn glue(reply: &mut Reply<'_>, target: &[u8]) -> bool {
    let mut lower = LowerName::new();
    let authority = &*reply.snapshot.authority;
    let Some(node) = lower.set(target).and_then(|_| authority.exact(lower.as_wire())) else { return true };
    [RecordType::A, RecordType::AAAA].into_iter().filter_map(|rtype| authority.rrset(node, rtype)).all(|rrset| {
        let rdatas = rrset.rdatas.iter().map(|rdata| &rdata[..]);
        reply.try_records(Section::Additional, Owner::Name(target), rrset.rtype, rrset.ttl, rdatas).is_ok()
    })
}

/// HINFO "RFC8482" over UDP, so that nobody gains from asking (RFC 8482 §4.2); everything over TCP.
fn any(reply: &mut Reply<'_>, node: &Node, owner: Owner<'_>) {
    let snapshot = reply.snapshot;
    let authority = &*snapshot.authority;
    let apex = authority.zone(node.zone);
    if node.tag.is_none() && authority.rrsets(node).is_empty() {
        return reply.negative(Rcode::NOERROR, apex, u32::MAX);
    }
    if let Some(cname) = authority.rrset(node, RecordType::CNAME) {
        reply.rrset(Section::Answer, owner, cname);
    } else if reply.transport == Transport::Udp {
        let hinfo = std::iter::once(&b"\x07RFC8482\x00"[..]);
        reply.records(Section::Answer, owner, RecordType::HINFO, apex.negative_ttl, hinfo);
    } else {
        // What does not fit is left out: no RRset in particular was asked for (RFC 8482 §4.1).
        for rrset in authority.rrsets(node) {
            let rdatas = rrset.rdatas.iter().map(|rdata| &rdata[..]);
            let _ = reply.try_records(Section::Answer, owner, rrset.rtype, rrset.ttl, rdatas);
        }
        if let Some(tag) = node.tag {
            let has_others = !authority.rrsets(node).is_empty();
            steered::answer_both(reply, ServiceId(tag), node.zone, owner, has_others);
        }
    }
}
