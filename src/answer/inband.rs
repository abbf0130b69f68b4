//! `_explain.NAME` TXT: why a client gets what it gets, asked by DNS (SPEC 8.4), from the sources that `[server]
//! explain-from` names; to all others such a name is what the zone says.
//!
//! `_explain.www.example.com` explains A, `_explain-aaaa.www.example.com` AAAA, where `www.example.com` is steered. The
//! client is the query's client subnet, else its source, as with any query. Each stage is a record, numbered, since the
//! records of a set have no order. What is verdict here has its reason in `waymark explain --live`.
//!
//! This allocates and formats: only those who are allowed to get here.

use super::edns::ExtendedError;
use super::explain::{self, Asked, Traced};
use super::reply::Reply;
use crate::dns::{LowerName, Owner, Rcode, RecordType, Section};
use crate::steering::Local;
use crate::steering::trace::{Recorded, Stage};
use crate::zone::{Found, ZoneId};

/// First labels, and what each has explained.
const LABELS: [(&[u8], RecordType); 2] = [(b"\x08_explain", RecordType::A), (b"\x0d_explain-aaaa", RecordType::AAAA)];
/// Most octets of one string of a TXT record.
const MOST_OF_STRING: usize = 255;
/// Most octets of one stage.
const MOST_OF_STAGE: usize = 4 * MOST_OF_STRING;
/// Most octets of all stages, so that they fit into a message over TCP.
const MOST: usize = 60_000;
/// Octets of a record beside its data: a pointer as owner, type, class, TTL, length.
const RECORD: usize = 12;

/// Answers when `name` is one to be explained, and the query's source may know; false = it is any other name, also to
/// those who may not, and are told so.
pub(super) fn answer(reply: &mut Reply<'_>, name: &LowerName) -> bool {
    let Some((explained, rtype, zone)) = explained(reply, name) else { return false };
    let source = reply.source.to_canonical();
    if !reply.snapshot.settings.explain_from.iter().any(|network| network.contains(&source)) {
        reply.extended_error = Some(ExtendedError::PROHIBITED);
        return false;
    }
    reply.authoritative();
    if !matches!(reply.query.qtype, RecordType::TXT | RecordType::ANY) {
        reply.negative(Rcode::NOERROR, reply.snapshot.authority.zone(zone), 0);
        return true;
    }
    let subnet = reply.query.edns.and_then(|edns| edns.client_subnet);
    reply.scope = subnet.map_or(0, |subnet| subnet.source);
    let asked = Asked { name: &explained, rtype, resolver: Some(reply.source.to_canonical()), subnet: subnet.as_ref() };
    // Draws, not turns: those of the thread go on as if nobody had asked.
    let mut local = Local::new(reply.thread.local.random.bits());
    let mut trace = Recorded::default();
    let traced = explain::trace(reply.snapshot, &asked, &mut local, &mut trace);
    trace.stages.push(Stage { stage: "answer".into(), text: outcome(&traced) });
    write(reply, &trace.stages);
    true
}

/// The steered name that is to be explained, for which type, and its zone.
fn explained(reply: &Reply<'_>, name: &LowerName) -> Option<(LowerName, RecordType, ZoneId)> {
    let (_, rtype) = LABELS.iter().copied().find(|(label, _)| name.as_wire().starts_with(label))?;
    let authority = &reply.snapshot.authority;
    if authority.exact(name.as_wire()).is_some() {
        return None;
    }
    let mut explained = LowerName::new();
    explained.set(name.suffix(1))?;
    match authority.find(&explained, rtype) {
        Found::Data { node, .. } => {
            let zone = node.zone();
            node.tag().filter(|&tag| tag != super::whoami::TAG).map(|_| (explained, rtype, zone))
        }
        _ => None,
    }
}

fn outcome(traced: &Traced) -> String {
    let cname = traced.cname.iter().map(|target| format!("CNAME {target}"));
    let addresses: Vec<String> = cname.chain(traced.addresses.iter().map(ToString::to_string)).collect();
    match (&addresses[..], traced.ttl) {
        ([], _) => "no address".into(),
        (_, Some(ttl)) => format!("TTL {ttl}, ECS scope {}: {}", traced.scope, addresses.join(", ")),
        (_, None) => addresses.join(", "),
    }
}

/// One record for each stage. Over UDP all or none of them; over TCP those that fit, and how many more there are.
fn write(reply: &mut Reply<'_>, stages: &[Stage]) {
    let width = stages.iter().map(|stage| stage.stage.len()).max().unwrap_or(0);
    let mark = reply.writer.mark();
    let mut left = MOST;
    for (number, Stage { stage, text }) in stages.iter().enumerate() {
        let rdata = rdata(&format!("{:02} {stage:width$}  {text}", number + 1));
        let Some(rest) = left.checked_sub(RECORD + rdata.len()) else {
            let more = self::rdata(&format!("{:02} … {} more stages", number + 1, stages.len() - number));
            reply.record(Section::Answer, Owner::Question, RecordType::TXT, 0, &more);
            return;
        };
        left = rest;
        if reply.writer.record(Section::Answer, Owner::Question, RecordType::TXT, 0, &rdata).is_err() {
            reply.writer.rewind(mark);
            return reply.truncate();
        }
    }
}

/// A text as the strings of a TXT record.
fn rdata(text: &str) -> Vec<u8> {
    let octets = &text.as_bytes()[..text.len().min(MOST_OF_STAGE)];
    let strings = octets.chunks(MOST_OF_STRING);
    strings.flat_map(|string| [&[string.len() as u8], string].concat()).collect()
}
