//! Builds the arena and the table of names of an [`Authority`], zone by zone.
//!
//! A name belongs to the zone whose apex is closest above it. Of what a parent says at or below the apex of a child that
//! is served here too, only the DS is its own (RFC 4035 §3.1.4.1). Within a zone every name gets a [`Draft`], parents
//! before their children; then the drafts are written in that order, so that what hides a node stands before it.

use super::authority::{Apex, Authority, ZoneId};
use super::negative::Negative;
use super::node::{NodeId, Plan, Redirect};
use super::records::{Record, Records};
use super::table::{Table, hash};
use crate::dns::name::wire_is_at_or_below;
use crate::dns::{LowerName, Name, RecordType};

/// Not the number of any draft.
const NONE: u32 = u32::MAX;

/// A zone to be built.
struct Source<'n> {
    origin: Name,
    /// Its data are not known: there is its apex and nothing else.
    is_void: bool,
    /// Given back when the zone is built.
    records: Records,
    /// Zones below it, children before their parents.
    children: Vec<usize>,
    /// The zone that answers for the DS here, and the indices of the DS among its records.
    parent_side: Option<(usize, Vec<usize>)>,
    steered: Vec<(&'n Name, u32)>,
}

/// All zones to be built, children before their parents, so that a name belongs to the zone closest to it.
struct Sources<'n> {
    list: Vec<Source<'n>>,
    apexes: Table,
}

/// The table of names of these zones and steered names; of two zones with one apex the first counts.
pub(super) fn build<'n>(
    mut zones: Vec<(Name, Option<Records>)>,
    steered: impl IntoIterator<Item = (&'n Name, u32)>,
) -> Authority {
    zones.sort_by_key(|(origin, _)| std::cmp::Reverse(origin.as_wire().len()));
    let mut sources = Sources { list: Vec::new(), apexes: Table::default() };
    for (origin, records) in zones {
        sources.add(origin, records);
    }
    sources.relate();
    for (name, tag) in steered {
        if let Some(zone) = sources.closest(&lower(name.as_wire()), 0).filter(|zone| !sources.list[*zone].is_void) {
            sources.list[zone].steered.push((name, tag));
        }
    }
    let mut authority = Authority::default();
    for index in 0..sources.list.len() {
        Zone::new(&sources, index).write(&mut authority);
        sources.list[index].records = Records::default();
    }
    authority.arena.shrink();
    authority
}

impl Sources<'_> {
    fn add(&mut self, origin: Name, records: Option<Records>) {
        let lower = lower(origin.as_wire());
        if self.apex(lower.as_wire()).is_none() {
            self.apexes.insert(hash(lower.as_wire()), self.list.len() as u32);
            let (is_void, records) = (records.is_none(), records.unwrap_or_default());
            let (children, steered) = (Vec::new(), Vec::new());
            self.list.push(Source { origin, is_void, records, children, parent_side: None, steered });
        }
    }

    /// The zone with this apex, in lower case.
    fn apex(&self, lower: &[u8]) -> Option<usize> {
        let is = |zone| self.list[zone as usize].origin.as_wire().eq_ignore_ascii_case(lower);
        self.apexes.find(hash(lower), is).map(|zone| zone as usize)
    }

    /// The zone whose apex is closest above a name without its `skip` leftmost labels, or at it.
    fn closest(&self, lower: &LowerName, skip: usize) -> Option<usize> {
        (skip..=lower.labels()).find_map(|skip| self.apex(lower.suffix(skip)))
    }

    /// Tells parents of their children, and children who answers for their DS: the closest parent that does not
    /// delegate above them.
    fn relate(&mut self) {
        for child in 0..self.list.len() {
            let lower = lower(self.list[child].origin.as_wire());
            for skip in 1..=lower.labels() {
                if let Some(parent) = self.apex(lower.suffix(skip)) {
                    self.list[parent].children.push(child);
                }
            }
        }
        for parent in 0..self.list.len() {
            if !self.list[parent].children.is_empty() {
                self.take_parent_sides(parent);
            }
        }
    }

    fn take_parent_sides(&mut self, parent: usize) {
        let redirects = self.redirects(parent);
        let children = &self.list[parent].children;
        let answered = children.iter().filter(|child| !self.is_delegated_above(**child, parent, &redirects));
        for child in answered.copied().collect::<Vec<_>>() {
            self.list[child].parent_side.get_or_insert((parent, Vec::new()));
        }
        for index in 0..self.list[parent].records.len() {
            let record = self.list[parent].records.get(index);
            let child = Some(record.owner).filter(|_| record.rtype == RecordType::DS);
            let child = child.and_then(|owner| self.apex(lower(owner).as_wire()));
            let side = child.and_then(|child| self.list[child].parent_side.as_mut());
            if let Some((_, rrset)) = side.filter(|(zone, _)| *zone == parent) {
                rrset.push(index);
            }
        }
    }

    /// The names where a zone delegates, or redirects what is below.
    fn redirects(&self, zone: usize) -> Redirects<'_> {
        let Source { origin, records, .. } = &self.list[zone];
        let mut redirects = Redirects { names: Vec::new(), table: Table::default() };
        let is = |record: &Record<'_>| match record.rtype {
            RecordType::NS => !record.owner.eq_ignore_ascii_case(origin.as_wire()),
            rtype => rtype == RecordType::DNAME,
        };
        for record in records.iter().filter(is) {
            redirects.add(record.owner);
        }
        redirects
    }

    /// Whether a zone delegates a name above the apex of `child`: then what is below is not its own, the DS of `child`
    /// included.
    fn is_delegated_above(&self, child: usize, zone: usize, redirects: &Redirects<'_>) -> bool {
        let origin = self.list[zone].origin.as_wire();
        let lower = lower(self.list[child].origin.as_wire());
        let between = (1..=lower.labels()).map(|skip| lower.suffix(skip));
        between.take_while(|name| name.len() >= origin.len()).any(|name| redirects.has(name))
    }
}

/// A set of names.
struct Redirects<'a> {
    names: Vec<&'a [u8]>,
    table: Table,
}

impl<'a> Redirects<'a> {
    fn add(&mut self, name: &'a [u8]) {
        let lower = lower(name);
        if !self.has(lower.as_wire()) {
            self.table.insert(hash(lower.as_wire()), self.names.len() as u32);
            self.names.push(name);
        }
    }

    fn has(&self, lower: &[u8]) -> bool {
        self.table.find(hash(lower), |number| self.names[number as usize].eq_ignore_ascii_case(lower)).is_some()
    }
}

/// A name of the zone at work.
struct Draft<'a> {
    /// Case as written.
    name: &'a [u8],
    /// Of the name in lower case.
    hash: u32,
    parent: u32,
    tag: u32,
    /// Where its records begin in `Zone::order`; while they are counted, how many there are.
    first: u32,
    has_ns: bool,
    has_dname: bool,
    redirect: Redirect<u32>,
}

/// The zone at work.
struct Zone<'a> {
    sources: &'a Sources<'a>,
    index: usize,
    /// The apex is the first.
    drafts: Vec<Draft<'a>>,
    names: Table,
    /// Most labels of a name.
    deepest: usize,
    /// Indices of its records, by draft.
    order: Vec<u32>,
}

impl<'a> Zone<'a> {
    fn new(sources: &'a Sources<'a>, index: usize) -> Zone<'a> {
        let Source { origin, is_void, records, children, steered, .. } = &sources.list[index];
        let mut zone = Zone {
            sources,
            index,
            drafts: Vec::new(),
            names: Table::with_capacity(records.len()),
            deepest: 0,
            order: Vec::new(),
        };
        let apex = lower(origin.as_wire());
        zone.push(origin.as_wire(), hash(apex.as_wire()), NONE);
        zone.deepest = apex.labels();
        if *is_void {
            zone.drafts[0].redirect = Redirect::Void;
            return zone;
        }
        for child in children {
            let apex = sources.list[*child].origin.as_wire();
            zone.draft(&apex[1 + usize::from(apex[0])..]);
        }
        let numbers = zone.take(records);
        for (name, tag) in steered {
            let number = zone.draft(name.as_wire());
            zone.drafts[number as usize].tag = *tag;
        }
        zone.lay_out(&numbers);
        zone.hide();
        zone
    }

    /// Drafts the owners of the records that are its own; returns the draft of each record.
    fn take(&mut self, records: &'a Records) -> Vec<u32> {
        let mut before: Option<(&[u8], u32)> = None;
        let mut numbers = Vec::with_capacity(records.len());
        for record in records.iter() {
            let owner = record.owner;
            let number = match before {
                Some((name, number)) if name == owner => number,
                _ if self.owns(owner) => self.draft(owner),
                _ => NONE,
            };
            before = Some((owner, number));
            numbers.push(number);
            if let Some(draft) = self.drafts.get_mut(number as usize) {
                draft.first += 1;
                draft.has_ns |= record.rtype == RecordType::NS;
                draft.has_dname |= record.rtype == RecordType::DNAME;
            }
        }
        numbers
    }

    /// Whether a name belongs to this zone: it is no child's, and not outside.
    fn owns(&self, name: &[u8]) -> bool {
        let Source { origin, children, .. } = &self.sources.list[self.index];
        wire_is_at_or_below(name, origin.as_wire())
            && (children.is_empty() || self.sources.closest(&lower(name), 0) == Some(self.index))
    }

    /// The indices of all records, grouped by draft, in the order of the file.
    fn lay_out(&mut self, numbers: &[u32]) {
        let mut start = 0;
        for draft in &mut self.drafts {
            start += std::mem::replace(&mut draft.first, start);
        }
        let mut next: Vec<u32> = self.drafts.iter().map(|draft| draft.first).collect();
        self.order = vec![0; start as usize];
        for (index, number) in numbers.iter().enumerate().filter(|(_, number)| **number != NONE) {
            let place = &mut next[*number as usize];
            self.order[*place as usize] = index as u32;
            *place += 1;
        }
    }

    /// The draft of a name, made when missing, and of all names between it and the apex: empty non-terminals exist.
    fn draft(&mut self, name: &'a [u8]) -> u32 {
        let lower = lower(name);
        let mut skip = 0;
        let mut number = loop {
            match self.find(lower.suffix(skip)) {
                Some(number) => break number,
                None => skip += 1,
            }
        };
        self.deepest = self.deepest.max(lower.labels());
        while skip > 0 {
            skip -= 1;
            let suffix = lower.suffix(skip);
            number = self.push(&name[name.len() - suffix.len()..], hash(suffix), number);
        }
        number
    }

    fn find(&self, lower: &[u8]) -> Option<u32> {
        self.names.find(hash(lower), |number| self.drafts[number as usize].name.eq_ignore_ascii_case(lower))
    }

    fn push(&mut self, name: &'a [u8], hash: u32, parent: u32) -> u32 {
        let number = self.drafts.len() as u32;
        self.names.insert(hash, number);
        let redirect = Redirect::No;
        let draft = Draft { name, hash, parent, tag: NONE, first: 0, has_ns: false, has_dname: false, redirect };
        self.drafts.push(draft);
        number
    }

    /// The highest cut at or above a node hides it; so does the highest DNAME strictly above it.
    fn hide(&mut self) {
        for number in 1..self.drafts.len() {
            let Draft { parent, has_ns, .. } = self.drafts[number];
            let above = &self.drafts[parent as usize];
            self.drafts[number].redirect = match above.redirect {
                Redirect::No if above.has_dname => Redirect::Dname(parent),
                Redirect::No if has_ns => Redirect::Cut(number as u32),
                redirect => redirect,
            };
        }
    }

    /// Writes all drafts into the arena and the table of names.
    fn write(mut self, authority: &mut Authority) {
        // It has done its work, and what follows needs the room.
        self.names = Table::default();
        let mut own = Vec::new();
        let mut ids: Vec<NodeId> = Vec::with_capacity(self.drafts.len());
        for (number, draft) in self.drafts.iter().enumerate() {
            ids.push(authority.arena.next());
            let plan = Plan {
                zone: ZoneId(self.index as u32),
                tag: Some(draft.tag).filter(|tag| *tag != NONE),
                redirect: draft.redirect.map(|at| ids[at as usize]),
                name: draft.name,
            };
            let id = authority.arena.add(&plan);
            self.write_rrsets(authority, number, id, &mut own);
            if draft.name.starts_with(b"\x01*") && number > 0 {
                authority.arena.set_wildcard(ids[draft.parent as usize], id);
            }
            authority.names.insert(draft.hash, id.0);
        }
        authority.deepest = authority.deepest.max(self.deepest);
        self.write_apex(authority, ids[0]);
    }

    /// Writes the RRsets of a draft; `own` is room for its records.
    fn write_rrsets(&self, authority: &mut Authority, number: usize, id: NodeId, own: &mut Vec<Record<'a>>) {
        let Source { records, parent_side, .. } = &self.sources.list[self.index];
        let end = self.drafts.get(number + 1).map_or(self.order.len(), |next| next.first as usize);
        let order = &self.order[self.drafts[number].first as usize..end];
        own.clear();
        own.extend(order.iter().map(|index| records.get(*index as usize)));
        own.sort_by_key(|record| record.rtype);
        for rrset in own.chunk_by(|a, b| a.rtype == b.rtype) {
            authority.arena.add_rrset(id, rrset[0].rtype, lowest_ttl(rrset), distinct(rrset));
        }
        if let Some((zone, rrset)) = parent_side.as_ref().filter(|_| number == 0) {
            let records = &self.sources.list[*zone].records;
            let rrset: Vec<Record<'_>> = rrset.iter().map(|index| records.get(*index)).collect();
            authority.arena.add_parent_side(id, ZoneId(*zone as u32), lowest_ttl(&rrset), distinct(&rrset));
        }
    }

    fn write_apex(&self, authority: &mut Authority, node: NodeId) {
        let origin = &self.sources.list[self.index].origin;
        let soa = authority.arena.node(node).rrset(RecordType::SOA);
        let (ttl, rdata) = soa.and_then(|soa| Some((soa.ttl(), soa.rdatas().next()?))).unwrap_or((0, &[]));
        let minimum = rdata.last_chunk::<4>().map_or(0, |octets| u32::from_be_bytes(*octets));
        let negative = Negative::new(origin.as_wire(), rdata);
        let (origin, negative_ttl, aside) = (origin.clone(), ttl.min(minimum), self.aside());
        authority.zones.push(Apex { origin, negative_ttl, aside, node, negative });
    }

    /// The records that are a child's to answer for.
    fn aside(&self) -> Records {
        let Source { origin, records, children, .. } = &self.sources.list[self.index];
        if children.is_empty() {
            return Records::default();
        }
        let is_inside = |record: &Record<'_>| wire_is_at_or_below(record.owner, origin.as_wire());
        let mut aside: Records = records.iter().filter(is_inside).filter(|record| !self.owns(record.owner)).collect();
        aside.shrink();
        aside
    }
}

/// The TTL of all records of an RRset (RFC 2181 §5.2).
fn lowest_ttl(rrset: &[Record<'_>]) -> u32 {
    rrset.iter().map(|record| record.ttl).min().unwrap_or(0)
}

/// The data of an RRset, each once.
fn distinct<'r>(rrset: &'r [Record<'_>]) -> impl Iterator<Item = &'r [u8]> {
    let is_first = |at: usize| !rrset[..at].iter().any(|before| before.rdata == rrset[at].rdata);
    (0..rrset.len()).filter(move |at| is_first(*at)).map(|at| rrset[at].rdata)
}

/// A name in lower case; of what is no name, nothing.
fn lower(wire: &[u8]) -> LowerName {
    let mut lower = LowerName::new();
    lower.set(wire);
    lower
}
