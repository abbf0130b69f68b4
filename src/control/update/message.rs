//! What an UPDATE asks for (RFC 2136 §3), held against what the zone has and what may be changed of it: TXT records of names
//! that begin with `_acme-challenge`, and nothing else. Pure.
//!
//! | of the message | what it says | else |
//! |---|---|---|
//! | prerequisites | names and RRsets that must be there, or must not | YXDOMAIN, YXRRSET, NXRRSET, NXDOMAIN |
//! | updates | records to be added, RRsets and records to be deleted | NOTZONE, FORMERR, REFUSED with the reason |

use std::collections::HashMap;

use super::book::Book;
use crate::answer::Handed;
use crate::dns::name::wire_is_at_or_below;
use crate::dns::{Class, LowerName, Name, Rcode, RecordType};
use crate::zone::{Authority, Found, Malformed, Received, ReceivedRecord, ZoneId};

/// Most records of each section.
const MOST_PREREQUISITES: u16 = 100;
const MOST_UPDATES: u16 = 1000;
const MOST_ADDITIONAL: u16 = 10;
/// Longest TTL of what is added, in seconds.
const LONGEST_TTL: u32 = 300;
/// Longest data of a TXT record; those of ACME have 44 octets.
const LONGEST_DATA: usize = 512;
/// The first label of names that may be changed.
const CHALLENGE: &[u8] = b"\x0f_acme-challenge";
/// Sections of an UPDATE, by their places in a message.
const PREREQUISITE: usize = 1;
const UPDATE: usize = 2;
const ADDITIONAL: usize = 3;

/// Something to be done, to a name in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Op {
    /// Adds a TXT record.
    Add { name: Vec<u8>, ttl: u32, rdata: Vec<u8> },
    /// Deletes all TXT records of a name.
    Clear { name: Vec<u8> },
    /// Deletes one.
    Delete { name: Vec<u8>, rdata: Vec<u8> },
}

/// Why an update is not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) rcode: Rcode,
    /// For the log and the extended error.
    pub(super) why: &'static str,
}

const fn refused(rcode: Rcode, why: &'static str) -> Refused {
    Refused { rcode, why }
}

const FORM: Refused = refused(Rcode::FORMERR, "the message has no form");

/// A zone as updates see it: what is served, and what will be as soon as what was updated before is.
pub(super) struct View<'a> {
    pub(super) authority: &'a Authority,
    pub(super) zone: ZoneId,
    pub(super) origin: &'a Name,
    /// TXT records of the file at names that may be changed, by name in lower case.
    pub(super) filed: &'a HashMap<Vec<u8>, Vec<Vec<u8>>>,
    pub(super) book: &'a Book,
}

impl View<'_> {
    /// The static data of a name and type.
    fn rrset(&self, name: &[u8], rtype: RecordType) -> Vec<Vec<u8>> {
        if is_challenge(name) && rtype == RecordType::TXT {
            let filed = self.filed.get(name).into_iter().flatten().cloned();
            return filed.chain(self.book.data(name).map(<[u8]>::to_vec)).collect();
        }
        let node = self.authority.exact(name).filter(|node| node.zone() == self.zone);
        let rrset = node.and_then(|node| node.rrset(rtype));
        rrset.iter().flat_map(|rrset| rrset.rdatas()).map(<[u8]>::to_vec).collect()
    }

    /// Whether a name has any data (RFC 2136 §2.4.4), be they those of a service.
    fn is_in_use(&self, name: &[u8]) -> bool {
        let node = self.authority.exact(name).filter(|node| node.zone() == self.zone);
        let is_other = |rtype| !(is_challenge(name) && rtype == RecordType::TXT);
        node.is_some_and(|node| node.tag().is_some() || node.rrsets().any(|rrset| is_other(rrset.rtype)))
            || !self.rrset(name, RecordType::TXT).is_empty()
    }

    /// Why a name is not to have data of this zone.
    fn hidden(&self, name: &[u8]) -> Option<Refused> {
        let mut lower = LowerName::new();
        // A name that exists is no wildcard's any more (RFC 4592 §2.2.2), nor are those between it and the wildcard.
        lower.set(&name[CHALLENGE.len()..]);
        if matches!(self.authority.find(&lower, RecordType::TXT), Found::Data { wildcard: true, .. }) {
            return Some(refused(Rcode::REFUSED, "it would take the name above it from a wildcard"));
        }
        lower.set(name);
        let foreign = refused(Rcode::NOTZONE, "the name is one of another zone");
        match self.authority.find(&lower, RecordType::TXT) {
            Found::Referral { .. } | Found::Dname { .. } => {
                Some(refused(Rcode::REFUSED, "a delegation or DNAME hides the name"))
            }
            Found::Data { node, wildcard: false } if node.zone() != self.zone => Some(foreign),
            Found::Data { node, wildcard: false } if node.rrset(RecordType::CNAME).is_some() => {
                Some(refused(Rcode::REFUSED, "the name has a CNAME"))
            }
            Found::Nxdomain { zone } if zone != self.zone => Some(foreign),
            Found::Void | Found::NotOurs | Found::ParentSide { .. } => Some(foreign),
            Found::Data { .. } | Found::Nxdomain { .. } => None,
        }
    }
}

/// What is to be done to a zone.
pub(super) fn read(view: &View<'_>, handed: &Handed) -> Result<Vec<Op>, Refused> {
    let mut received = Received::new(&handed.message).ok_or(FORM)?;
    received.question().map_err(|_| FORM)?;
    let counts = [PREREQUISITE, UPDATE, ADDITIONAL].map(|section| received.left(section));
    if counts.iter().zip([MOST_PREREQUISITES, MOST_UPDATES, MOST_ADDITIONAL]).any(|(count, most)| *count > most) {
        return Err(refused(Rcode::REFUSED, "more records than are taken"));
    }
    check(view, &mut received)?;
    let mut ops = Vec::new();
    let form = |_: Malformed| FORM;
    while let Some(record) = received.next(UPDATE).map_err(form)? {
        ops.push(op(view, record)?);
    }
    Ok(ops)
}

/// Checks the prerequisites (RFC 2136 §3.2).
fn check(view: &View<'_>, received: &mut Received<'_>) -> Result<(), Refused> {
    // RRsets that must be there exactly so.
    let mut exact: HashMap<(Vec<u8>, RecordType), Vec<Vec<u8>>> = HashMap::new();
    while let Some(record) = received.next(PREREQUISITE).map_err(|_| FORM)? {
        let name = own(view, &record)?;
        if record.ttl != 0 || (record.class != Class::IN && !record.rdata.is_empty()) {
            return Err(FORM);
        }
        let is_there = || !view.rrset(&name, record.rtype).is_empty();
        match (record.class, record.rtype) {
            (Class::ANY, RecordType::ANY) if !view.is_in_use(&name) => {
                return Err(refused(Rcode::NXDOMAIN, "a name that must be in use is not"));
            }
            (Class::NONE, RecordType::ANY) if view.is_in_use(&name) => {
                return Err(refused(Rcode::YXDOMAIN, "a name that must not be in use is"));
            }
            (Class::ANY | Class::NONE, RecordType::ANY) => {}
            (Class::ANY, _) if !is_there() => {
                return Err(refused(Rcode::NXRRSET, "an RRset that must be there is not"));
            }
            (Class::NONE, _) if is_there() => {
                return Err(refused(Rcode::YXRRSET, "an RRset that must not be there is"));
            }
            (Class::ANY | Class::NONE, _) => {}
            (Class::IN, _) => exact.entry((name, record.rtype)).or_default().push(record.rdata),
            _ => return Err(FORM),
        }
    }
    for ((name, rtype), mut wanted) in exact {
        let mut present = view.rrset(&name, rtype);
        [&mut wanted, &mut present].into_iter().for_each(|set| {
            set.sort_unstable();
            set.dedup();
        });
        if wanted != present {
            return Err(refused(Rcode::NXRRSET, "an RRset is not the one that it must be"));
        }
    }
    Ok(())
}

/// What one record of the update section asks for (RFC 2136 §3.4).
fn op(view: &View<'_>, record: ReceivedRecord) -> Result<Op, Refused> {
    let name = own(view, &record)?;
    let ReceivedRecord { rtype, class, ttl, rdata, .. } = record;
    let is_meta = (128..=255).contains(&rtype.0) && !(class == Class::ANY && rtype == RecordType::ANY);
    let is_bare = ttl == 0 && rdata.is_empty();
    if is_meta || (class == Class::ANY && !is_bare) || (class == Class::NONE && ttl != 0) {
        return Err(FORM);
    }
    if !is_challenge(&name) {
        return Err(refused(Rcode::REFUSED, "only names that begin with _acme-challenge may be updated"));
    }
    let deletes_all = class == Class::ANY && rtype == RecordType::ANY;
    if rtype != RecordType::TXT && !deletes_all {
        return Err(refused(Rcode::REFUSED, "only TXT records may be updated"));
    }
    if let Some(refused) = view.hidden(&name) {
        return Err(refused);
    }
    let filed = view.filed.get(&name);
    match class {
        Class::IN if rdata.len() > LONGEST_DATA => Err(refused(Rcode::REFUSED, "the TXT record is too long")),
        Class::IN => Ok(Op::Add { name, ttl: ttl.min(LONGEST_TTL), rdata }),
        Class::ANY if filed.is_some() => Err(refused(Rcode::REFUSED, "a record of the zone file cannot be deleted")),
        Class::ANY => Ok(Op::Clear { name }),
        Class::NONE if filed.is_some_and(|filed| filed.contains(&rdata)) => {
            Err(refused(Rcode::REFUSED, "a record of the zone file cannot be deleted"))
        }
        Class::NONE => Ok(Op::Delete { name, rdata }),
        _ => Err(FORM),
    }
}

/// The owner of a record in lower case, which must be in the zone.
fn own(view: &View<'_>, record: &ReceivedRecord) -> Result<Vec<u8>, Refused> {
    let is_inside = wire_is_at_or_below(&record.owner, view.origin.as_wire());
    let outside = refused(Rcode::NOTZONE, "a name outside the zone");
    if is_inside { Ok(record.owner.to_ascii_lowercase()) } else { Err(outside) }
}

/// Whether a name, in lower case, is one that may be changed.
pub(super) fn is_challenge(name: &[u8]) -> bool {
    name.starts_with(CHALLENGE)
}
