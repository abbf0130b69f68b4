//! An answer while it is being written: the message so far, its rcode and ECS scope.

use std::net::IpAddr;

use super::Transport;
use super::edns::ExtendedError;
use crate::dns::query::{FLAG_AA, FLAG_TC, HEADER};
use crate::dns::{Full, Owner, Query, Rcode, RecordType, Section, Writer};
use crate::limit::Kind;
use crate::metrics::{Counters, Tally};
use crate::snapshot::Snapshot;
use crate::steering::Local;
use crate::zone::{Apex, Rrset};

/// Octets of header and question beside the name asked: type and class.
const QUESTION_REST: usize = HEADER + 4;

/// What a thread lends to an answer.
pub(super) struct Lent<'a> {
    pub(super) counters: &'a Counters,
    pub(super) tally: &'a Tally,
    pub(super) local: &'a mut Local,
}

/// One answer in the making.
pub(super) struct Reply<'a> {
    pub(super) snapshot: &'a Snapshot,
    /// What the thread lends.
    pub(super) thread: Lent<'a>,
    pub(super) query: &'a Query,
    pub(super) source: IpAddr,
    pub(super) transport: Transport,
    pub(super) writer: Writer<'a>,
    pub(super) rcode: Rcode,
    /// Longest scope of all stages that looked at the client, as the ECS option will show it.
    pub(super) scope: u8,
    pub(super) extended_error: Option<ExtendedError>,
    /// What the rate limit counts it as, and by the number of what.
    pub(super) subject: (Kind, u32),
}

impl<'a> Reply<'a> {
    pub(super) fn new(
        snapshot: &'a Snapshot,
        thread: Lent<'a>,
        query: &'a Query,
        source: IpAddr,
        transport: Transport,
        writer: Writer<'a>,
    ) -> Reply<'a> {
        let (rcode, scope, extended_error) = (Rcode::NOERROR, 0, None);
        let subject = (Kind::Positive, u32::MAX);
        Reply { snapshot, thread, query, source, transport, writer, rcode, scope, extended_error, subject }
    }

    /// An answer of a code alone.
    pub(super) fn refuse(&mut self, rcode: Rcode) {
        self.rcode = rcode;
        self.writer.set_rcode(rcode);
    }

    /// What the rate limit is to count it as.
    pub(super) fn counted_as(&self) -> (Kind, u32) {
        match (self.rcode, self.subject) {
            (Rcode::NOERROR, (Kind::Positive, subject)) if self.writer.count(Section::Answer) == 0 => {
                (Kind::Nodata, subject)
            }
            (Rcode::NOERROR | Rcode::NXDOMAIN, subject) => subject,
            _ => (Kind::Error, 0),
        }
    }

    pub(super) fn authoritative(&mut self) {
        // In class ANY nothing can be said with authority (RFC 1035 §6.2).
        if self.query.qclass == crate::dns::Class::IN {
            self.writer.set_flags(FLAG_AA);
        }
    }

    /// Writes a whole RRset, or nothing of it: then the answer is marked as truncated.
    pub(super) fn rrset(&mut self, section: Section, owner: Owner<'_>, rrset: &Rrset<'_>) -> bool {
        let written = rrset.write(&mut self.writer, section, owner);
        self.is_written(written)
    }

    /// Writes one record, or nothing of it: then the answer is marked as truncated.
    pub(super) fn record(
        &mut self,
        section: Section,
        owner: Owner<'_>,
        rtype: RecordType,
        ttl: u32,
        rdata: &[u8],
    ) -> bool {
        let mark = self.writer.mark();
        let written = self.writer.record(section, owner, rtype, ttl, rdata);
        if written.is_err() {
            self.writer.rewind(mark);
        }
        self.is_written(written)
    }

    fn is_written(&mut self, written: Result<(), Full>) -> bool {
        if written.is_err() {
            self.truncate();
        }
        written.is_ok()
    }

    pub(super) fn truncate(&mut self) {
        self.writer.set_flags(FLAG_TC);
        self.thread.counters.answering.truncated.add(1);
    }

    /// NODATA or NXDOMAIN: the SOA in the authority section (RFC 2308 §3), its TTL at most `ttl`.
    pub(super) fn negative(&mut self, rcode: Rcode, apex: &Apex, ttl: u32) {
        self.rcode = rcode;
        self.writer.set_rcode(rcode);
        // While nothing is written the name looked up is the one asked, so that it ends with the apex.
        let is_asked = self.writer.length() == self.query.question_end;
        let qname = Some(self.query.question_end - QUESTION_REST).filter(|_| is_asked);
        let written = self.snapshot.authority.write_soa(apex, &mut self.writer, ttl, qname);
        self.is_written(written);
    }
}
