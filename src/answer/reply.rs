//! An answer while it is being written: the message so far, its rcode and ECS scope.

use std::net::IpAddr;

use super::Transport;
use super::edns::ExtendedError;
use crate::dns::query::{FLAG_AA, FLAG_TC};
use crate::dns::{Full, Owner, Query, Rcode, RecordType, Section, Writer};
use crate::metrics::{Counters, Tally};
use crate::snapshot::Snapshot;
use crate::steering::Local;
use crate::zone::{Apex, Rrset};

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
        Reply { snapshot, thread, query, source, transport, writer, rcode, scope, extended_error }
    }

    /// An answer of a code alone.
    pub(super) fn refuse(&mut self, rcode: Rcode) {
        self.rcode = rcode;
        self.writer.set_rcode(rcode);
    }

    pub(super) fn authoritative(&mut self) {
        // In class ANY nothing can be said with authority (RFC 1035 §6.2).
        if self.query.qclass == crate::dns::Class::IN {
            self.writer.set_flags(FLAG_AA);
        }
    }

    /// Writes a whole RRset, or nothing of it: then the answer is marked as truncated.
    pub(super) fn rrset(&mut self, section: Section, owner: Owner<'_>, rrset: &Rrset) -> bool {
        let rdatas = rrset.rdatas.iter().map(|rdata| &rdata[..]);
        self.records(section, owner, rrset.rtype, rrset.ttl, rdatas)
    }

    /// Writes all of these records, or none: then the answer is marked as truncated.
    pub(super) fn records<'r>(
        &mut self,
        section: Section,
        owner: Owner<'_>,
        rtype: RecordType,
        ttl: u32,
        rdatas: impl Iterator<Item = &'r [u8]>,
    ) -> bool {
        let fitted = self.try_records(section, owner, rtype, ttl, rdatas).is_ok();
        if !fitted {
            self.truncate();
        }
        fitted
    }

    /// Writes all of these records, or none.
    pub(super) fn try_records<'r>(
        &mut self,
        section: Section,
        owner: Owner<'_>,
        rtype: RecordType,
        ttl: u32,
        mut rdatas: impl Iterator<Item = &'r [u8]>,
    ) -> Result<(), Full> {
        let mark = self.writer.mark();
        let written = rdatas.try_for_each(|rdata| self.writer.record(section, owner, rtype, ttl, rdata));
        if written.is_err() {
            self.writer.rewind(mark);
        }
        written
    }

    pub(super) fn truncate(&mut self) {
        self.writer.set_flags(FLAG_TC);
        self.thread.counters.answering.truncated.add(1);
    }

    /// NODATA or NXDOMAIN: the SOA in the authority section (RFC 2308 §3), its TTL at most `ttl`.
    pub(super) fn negative(&mut self, rcode: Rcode, apex: &Apex, ttl: u32) {
        self.rcode = rcode;
        self.writer.set_rcode(rcode);
        let owner = Owner::Name(apex.origin.as_wire());
        let ttl = apex.negative_ttl.min(ttl);
        self.records(Section::Authority, owner, RecordType::SOA, ttl, std::iter::once(&apex.soa[..]));
    }
}
