//! Class CHAOS: who is answering (RFC 4892).

use super::edns::ExtendedError;
use super::reply::Reply;
use crate::dns::{Class, LowerName, Owner, Rcode, RecordType, Section};

/// Names and what they ask for.
const NAMES: [(&[u8], Asked); 4] = [
    (b"\x07version\x04bind\x00", Asked::Version),
    (b"\x07version\x06server\x00", Asked::Version),
    (b"\x02id\x06server\x00", Asked::Node),
    (b"\x08hostname\x04bind\x00", Asked::Node),
];

#[derive(Clone, Copy)]
enum Asked {
    Version,
    Node,
}

/// Answers `version.bind`, `id.server` and their like with a TXT record; REFUSED where switched off, and else.
pub(super) fn answer(reply: &mut Reply<'_>, qname: &LowerName) {
    let settings = &reply.snapshot.settings;
    let known = NAMES.iter().find(|(name, _)| *name == qname.as_wire()).filter(|_| settings.identity);
    let Some(&(_, asked)) = known else {
        reply.extended_error = Some(ExtendedError::NOT_AUTHORITATIVE);
        return reply.refuse(Rcode::REFUSED);
    };
    reply.writer.set_flags(crate::dns::query::FLAG_AA);
    if !matches!(reply.query.qtype, RecordType::TXT | RecordType::ANY) {
        return;
    }
    let text = match asked {
        Asked::Version => concat!("waymark ", env!("CARGO_PKG_VERSION")).as_bytes(),
        Asked::Node => settings.node.as_bytes(),
    };
    let mut rdata = [0u8; 256];
    let length = text.len().min(255);
    rdata[0] = length as u8;
    rdata[1..=length].copy_from_slice(&text[..length]);
    let mark = reply.writer.mark();
    let rdata = &rdata[..=length];
    let written = reply.writer.record_of_class(Section::Answer, Owner::Question, RecordType::TXT, Class::CH, 0, rdata);
    if written.is_err() {
        reply.writer.rewind(mark);
        reply.truncate();
    }
}
