//! The arena: every name that exists with its RRsets, ready to be copied into answers, one behind the other.
//!
//! ```text
//! node, at a multiple of 4 octets
//! 0      4     8          12         16      17       18       20
//! | zone | tag | redirect | wildcard | flags | length | RRsets | name | (name as written) | RRset … | (parent side)
//!
//! RRset
//! 0      2       4        8
//! | type | count | octets | record …
//!
//! record, as answers to its owner hold it: the owner is a pointer to the question
//! 0       2      4          6     10         12
//! | c0 0c | type | class IN | TTL | RDLENGTH | rdata, names in it uncompressed
//!
//! parent side
//! 0                    4
//! | zone of the parent | RRset of the DS, without records when there is none
//! ```
//! `name` is in lower case; as the zone file wrote it, it follows only when that is different. Numbers outside of
//! records are little-endian.

use crate::dns::writer::is_compressed;
use crate::dns::{Class, Full, Name, Owner, RecordType, Section, Writer};
use crate::prefetch;

use super::ZoneId;

/// Octets of a node before its name.
const HEAD: usize = 20;
/// Octets of an RRset before its records.
const RRSET_HEAD: usize = 8;
/// Octets of a record before its data.
const RECORD_HEAD: usize = 12;
/// What a [`NodeId`] counts.
const UNIT: usize = 4;
/// No tag, no other node.
const NONE: u32 = u32::MAX;

/// Flag of a node: `redirect` is a zone cut at or above it.
const CUT: u8 = 1;
/// `redirect` is a DNAME above it.
const DNAME: u8 = 2;
/// The name as written follows the name.
const WRITTEN: u8 = 4;
/// There is a parent side.
const PARENT_SIDE: u8 = 8;
/// It is the apex of a zone whose data are not known: that hides all of it.
const VOID: u8 = 16;

/// Where a node begins, in units of 4 octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NodeId(pub(super) u32);

/// The node that hides another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Redirect<T> {
    /// Nothing does.
    No,
    /// A zone cut at or above it.
    Cut(T),
    /// A DNAME above it.
    Dname(T),
    /// The data of its zone are not known.
    Void,
}

impl<T> Redirect<T> {
    pub(super) fn map<U>(self, of: impl FnOnce(T) -> U) -> Redirect<U> {
        match self {
            Redirect::No => Redirect::No,
            Redirect::Cut(at) => Redirect::Cut(of(at)),
            Redirect::Dname(at) => Redirect::Dname(of(at)),
            Redirect::Void => Redirect::Void,
        }
    }
}

/// A name that exists.
#[derive(Clone, Copy, Debug)]
pub struct Node<'a> {
    id: NodeId,
    head: &'a [u8; HEAD],
    tail: &'a [u8],
}

impl PartialEq for Node<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl<'a> Node<'a> {
    /// The zone it belongs to.
    #[must_use]
    pub fn zone(self) -> ZoneId {
        ZoneId(self.number(0))
    }

    /// The service steered here.
    #[must_use]
    pub fn tag(self) -> Option<u32> {
        Some(self.number(4)).filter(|tag| *tag != NONE)
    }

    /// Its name in uncompressed wire format, case as in the zone file.
    #[must_use]
    pub fn name(self) -> &'a [u8] {
        let length = self.length();
        if self.has(WRITTEN) { &self.tail[length..2 * length] } else { &self.tail[..length] }
    }

    /// [`Node::name`] to be shown.
    #[must_use]
    pub fn owner(self) -> Name {
        Name::from_wire(self.name()).unwrap_or_else(|_| Name::root())
    }

    /// Its RRsets, by type.
    pub fn rrsets(self) -> impl Iterator<Item = Rrset<'a>> {
        let mut rest = &self.tail[self.names()..];
        (0..self.count()).map(move |_| {
            let (rrset, behind) = Rrset::split(rest);
            rest = behind;
            rrset
        })
    }

    /// Its RRset of a type.
    #[must_use]
    pub fn rrset(self, rtype: RecordType) -> Option<Rrset<'a>> {
        self.rrsets().find(|rrset| rrset.rtype == rtype)
    }

    /// Whether it has no RRset at all.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.count() == 0
    }

    /// Whether it has the RRsets that `other` has, in the same order of records.
    #[must_use]
    pub fn has_rrsets_of(self, other: Node<'_>) -> bool {
        let is_same = |(a, b): (Rrset<'_>, Rrset<'_>)| a.rtype == b.rtype && a.records == b.records;
        self.count() == other.count() && self.rrsets().zip(other.rrsets()).all(is_same)
    }

    /// Whether all types are answered from here: nothing hides it, and it has no parent side.
    pub(super) fn is_plain(self) -> bool {
        self.head[16] & (CUT | DNAME | VOID | PARENT_SIDE) == 0
    }

    /// Its name in lower case, in wire format.
    #[must_use]
    pub fn lower(self) -> &'a [u8] {
        &self.tail[..self.length()]
    }

    /// A number that no other node has.
    #[must_use]
    pub fn ordinal(self) -> u32 {
        self.id.0
    }

    pub(super) fn id(self) -> NodeId {
        self.id
    }

    pub(super) fn redirect(self) -> Redirect<NodeId> {
        match self.head[16] & (CUT | DNAME | VOID) {
            0 => Redirect::No,
            CUT => Redirect::Cut(NodeId(self.number(8))),
            VOID => Redirect::Void,
            _ => Redirect::Dname(NodeId(self.number(8))),
        }
    }

    /// `*` below this name.
    pub(super) fn wildcard(self) -> Option<NodeId> {
        Some(NodeId(self.number(12))).filter(|id| id.0 != NONE)
    }

    /// What follows it in the arena.
    fn behind(self) -> &'a [u8] {
        let mut rest = &self.tail[self.names()..];
        for _ in 0..self.count() {
            rest = Rrset::split(rest).1;
        }
        if self.has(PARENT_SIDE) { Rrset::split(&rest[size_of::<u32>()..]).1 } else { rest }
    }

    /// DS of a child zone that is served here too; the parent zone answers for it (RFC 4035 §3.1.4.1).
    pub(super) fn parent_side(self) -> Option<(ZoneId, Option<Rrset<'a>>)> {
        if !self.has(PARENT_SIDE) {
            return None;
        }
        let mut rest = &self.tail[self.names()..];
        for _ in 0..self.count() {
            rest = Rrset::split(rest).1;
        }
        let (zone, rest) = rest.split_first_chunk().expect("a parent side is whole");
        let (rrset, _) = Rrset::split(rest);
        Some((ZoneId(u32::from_le_bytes(*zone)), Some(rrset).filter(|rrset| rrset.count > 0)))
    }

    fn has(self, flag: u8) -> bool {
        self.head[16] & flag != 0
    }

    fn length(self) -> usize {
        usize::from(self.head[17])
    }

    /// Octets of its name, or of both.
    fn names(self) -> usize {
        if self.has(WRITTEN) { 2 * self.length() } else { self.length() }
    }

    fn count(self) -> u16 {
        u16::from_le_bytes([self.head[18], self.head[19]])
    }

    fn number(self, at: usize) -> u32 {
        u32::from_le_bytes([self.head[at], self.head[at + 1], self.head[at + 2], self.head[at + 3]])
    }
}

/// An RRset: records of one owner and type.
#[derive(Clone, Copy, Debug)]
pub struct Rrset<'a> {
    /// Type.
    pub rtype: RecordType,
    count: u16,
    records: &'a [u8],
}

impl<'a> Rrset<'a> {
    /// How many records it has; at most 65 535 are counted, and none that many fits a message.
    #[must_use]
    pub fn count(&self) -> u16 {
        self.count
    }

    /// Seconds; one for all records (RFC 2181 §5.2).
    #[must_use]
    pub fn ttl(&self) -> u32 {
        self.records.get(6..10).map_or(0, |ttl| u32::from_be_bytes([ttl[0], ttl[1], ttl[2], ttl[3]]))
    }

    /// Record data, uncompressed.
    pub fn rdatas(&self) -> impl Iterator<Item = &'a [u8]> {
        let mut rest = self.records;
        std::iter::from_fn(move || {
            let end = record_length(rest)?;
            let (record, behind) = rest.split_at_checked(end)?;
            rest = behind;
            Some(&record[RECORD_HEAD..])
        })
    }

    /// Writes all of its records, or none.
    ///
    /// # Errors
    /// [`Full`] when they do not fit.
    #[inline]
    pub fn write(&self, writer: &mut Writer<'_>, section: Section, owner: Owner<'_>) -> Result<(), Full> {
        if is_compressed(self.rtype) {
            return self.write_each(writer, section, owner);
        }
        match (owner, owner.pointer()) {
            (Owner::Question, _) => writer.copy(section, self.records, self.count).map(drop),
            (_, Some(pointer)) => writer.copy(section, self.records, self.count).map(|to| set_owners(to, pointer)),
            (_, None) => self.write_each(writer, section, owner),
        }
    }

    fn write_each(&self, writer: &mut Writer<'_>, section: Section, owner: Owner<'_>) -> Result<(), Full> {
        let (mark, ttl) = (writer.mark(), self.ttl());
        let written = self.rdatas().try_for_each(|rdata| writer.record(section, owner, self.rtype, ttl, rdata));
        if written.is_err() {
            writer.rewind(mark);
        }
        written
    }

    /// The RRset at the start of these octets, and what follows.
    fn split(octets: &'a [u8]) -> (Rrset<'a>, &'a [u8]) {
        let (head, rest) = octets.split_first_chunk::<RRSET_HEAD>().expect("an RRset is whole");
        let length = u32::from_le_bytes([head[4], head[5], head[6], head[7]]);
        let (records, rest) = rest.split_at(length as usize);
        let rtype = RecordType(u16::from_le_bytes([head[0], head[1]]));
        (Rrset { rtype, count: u16::from_le_bytes([head[2], head[3]]), records }, rest)
    }
}

/// Octets of the record at the start of `records`.
fn record_length(records: &[u8]) -> Option<usize> {
    let length = records.get(10..RECORD_HEAD)?;
    Some(RECORD_HEAD + usize::from(u16::from_be_bytes([length[0], length[1]])))
}

/// Gives all records another owner.
fn set_owners(records: &mut [u8], owner: [u8; 2]) {
    let mut rest = records;
    while let Some(end) = record_length(rest).filter(|end| *end <= rest.len()) {
        rest[..2].copy_from_slice(&owner);
        rest = &mut rest[end..];
    }
}

/// All nodes.
#[derive(Debug, Default)]
pub(super) struct Arena(Vec<u8>);

/// A node to be written.
pub(super) struct Plan<'a> {
    pub(super) zone: ZoneId,
    pub(super) tag: Option<u32>,
    /// Of nodes written before, or of this one.
    pub(super) redirect: Redirect<NodeId>,
    /// Case as written.
    pub(super) name: &'a [u8],
}

impl Arena {
    /// The node there.
    pub(super) fn node(&self, id: NodeId) -> Node<'_> {
        let octets = &self.0[id.0 as usize * UNIT..];
        let (head, tail) = octets.split_first_chunk().expect("a node is whole");
        Node { id, head, tail }
    }

    /// The node that was written after another.
    pub(super) fn after(&self, node: Node<'_>) -> Option<Node<'_>> {
        let end = (self.0.len() - node.behind().len()).next_multiple_of(UNIT);
        (end < self.0.len()).then(|| self.node(NodeId((end / UNIT) as u32)))
    }

    /// Asks the processor for the node there, as far as short ones go.
    pub(super) fn prefetch(&self, id: NodeId) {
        prefetch::lines(&self.0[id.0 as usize * UNIT..], 2);
    }

    /// Where the next node begins.
    pub(super) fn next(&mut self) -> NodeId {
        self.0.resize(self.0.len().next_multiple_of(UNIT), 0);
        NodeId(u32::try_from(self.0.len() / UNIT).ok().filter(|at| *at != NONE).expect("less than 16 GiB of zones"))
    }

    /// Writes a node; its RRsets are to follow, by type.
    pub(super) fn add(&mut self, plan: &Plan<'_>) -> NodeId {
        let id = self.next();
        let (kind, redirect) = match plan.redirect {
            Redirect::No => (0, NONE),
            Redirect::Cut(at) => (CUT, at.0),
            Redirect::Dname(at) => (DNAME, at.0),
            Redirect::Void => (VOID, NONE),
        };
        let is_lower = !plan.name.iter().any(u8::is_ascii_uppercase);
        for number in [plan.zone.0, plan.tag.unwrap_or(NONE), redirect, NONE] {
            self.0.extend(number.to_le_bytes());
        }
        self.0.extend([kind | if is_lower { 0 } else { WRITTEN }, plan.name.len() as u8, 0, 0]);
        self.0.extend(plan.name.iter().map(u8::to_ascii_lowercase));
        if !is_lower {
            self.0.extend(plan.name);
        }
        id
    }

    /// Adds an RRset to the node written last.
    pub(super) fn add_rrset<'r>(
        &mut self,
        node: NodeId,
        rtype: RecordType,
        ttl: u32,
        rdatas: impl Iterator<Item = &'r [u8]>,
    ) {
        self.rrset(rtype, ttl, rdatas);
        let count = self.node(node).count() + 1;
        self.head(node)[18..].copy_from_slice(&count.to_le_bytes());
    }

    /// Adds the parent side to the node written last, behind all its RRsets.
    pub(super) fn add_parent_side<'r>(
        &mut self,
        node: NodeId,
        zone: ZoneId,
        ttl: u32,
        rdatas: impl Iterator<Item = &'r [u8]>,
    ) {
        self.0.extend(zone.0.to_le_bytes());
        self.rrset(RecordType::DS, ttl, rdatas);
        self.head(node)[16] |= PARENT_SIDE;
    }

    /// Says that a node has a wildcard child.
    pub(super) fn set_wildcard(&mut self, node: NodeId, wildcard: NodeId) {
        self.head(node)[12..16].copy_from_slice(&wildcard.0.to_le_bytes());
    }

    /// Gives back what is not needed.
    pub(super) fn shrink(&mut self) {
        self.0.shrink_to_fit();
    }

    fn head(&mut self, node: NodeId) -> &mut [u8] {
        &mut self.0[node.0 as usize * UNIT..][..HEAD]
    }

    fn rrset<'r>(&mut self, rtype: RecordType, ttl: u32, rdatas: impl Iterator<Item = &'r [u8]>) {
        let start = self.0.len();
        self.0.extend(rtype.0.to_le_bytes());
        self.0.extend([0; RRSET_HEAD - 2]);
        let mut count = 0u16;
        for rdata in rdatas {
            self.record(rtype, ttl, rdata);
            count = count.saturating_add(1);
        }
        let octets = (self.0.len() - start - RRSET_HEAD) as u32;
        self.0[start + 2..start + 4].copy_from_slice(&count.to_le_bytes());
        self.0[start + 4..start + 8].copy_from_slice(&octets.to_le_bytes());
    }

    fn record(&mut self, rtype: RecordType, ttl: u32, rdata: &[u8]) {
        let mut head = [0xc0, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        head[2..4].copy_from_slice(&rtype.0.to_be_bytes());
        head[4..6].copy_from_slice(&Class::IN.0.to_be_bytes());
        head[6..10].copy_from_slice(&ttl.to_be_bytes());
        head[10..].copy_from_slice(&(rdata.len() as u16).to_be_bytes());
        self.0.extend(head);
        self.0.extend(rdata);
    }
}
