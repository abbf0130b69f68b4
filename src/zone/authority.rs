//! All zones in one table of names, and the lookup of RFC 1034 §4.3.2 over it (RFC 4592, 6672, 8020).
//!
//! Every name that exists has a [`Node`], empty non-terminals too; one hash lookup finds it. A name that has none is
//! decided by its closest encloser, found by stripping labels:
//!
//! | the node found is | answer |
//! |---|---|
//! | below or at a zone cut | referral (DS at the cut: from here) |
//! | below a DNAME | the DNAME |
//! | the name itself | its data |
//! | an encloser with a wildcard child | the wildcard's data |
//! | an encloser | NXDOMAIN |
//! | nothing | not ours |
//!
//! A node may carry a tag: the number of the service that is steered there. What it means is not known here.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::ops::Range;

use xxhash_rust::xxh3::xxh3_64;

use super::Record;
use crate::dns::{LowerName, Name, RecordType};

/// Index into the zones of an [`Authority`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ZoneId(pub u32);

/// Index into its nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct NodeId(u32);

/// An RRset: records of one owner and type.
#[derive(Clone, Debug)]
pub struct Rrset {
    /// Type.
    pub rtype: RecordType,
    /// Seconds; one for all records (RFC 2181 §5.2).
    pub ttl: u32,
    /// Record data, uncompressed.
    pub rdatas: Vec<Box<[u8]>>,
}

/// A zone's apex.
#[derive(Clone, Debug)]
pub struct Apex {
    /// Its name.
    pub origin: Name,
    /// Record data of its SOA.
    pub soa: Box<[u8]>,
    /// TTL of the SOA in negative answers: min(SOA TTL, MINIMUM) (RFC 2308 §5).
    pub negative_ttl: u32,
}

/// A name that exists.
#[derive(Clone, Debug)]
pub struct Node {
    /// Uncompressed wire format, case as in the zone file.
    pub name: Name,
    /// The zone it belongs to.
    pub zone: ZoneId,
    /// The service steered here.
    pub tag: Option<u32>,
    is_apex: bool,
    /// At or below this zone cut.
    cut: Option<NodeId>,
    /// Below this DNAME.
    dname: Option<NodeId>,
    /// `*` below this name.
    wildcard: Option<NodeId>,
    /// DS of a child zone that is served here too; the parent zone answers for it (RFC 4035 §3.1.4.1).
    parent_side: Option<(ZoneId, Option<Box<Rrset>>)>,
    rrsets: Range<u32>,
}

/// All names of all zones.
#[derive(Debug, Default)]
pub struct Authority {
    zones: Vec<Apex>,
    nodes: Vec<Node>,
    rrsets: Vec<Rrset>,
    names: HashMap<Box<[u8]>, NodeId, BuildHasherDefault<WireHasher>>,
}

/// What was found for a name.
#[derive(Clone, Copy, Debug)]
pub enum Found<'a> {
    /// In no zone of ours.
    NotOurs,
    /// The name exists, or a wildcard covers it.
    Data {
        /// The name, or the wildcard.
        node: &'a Node,
        /// Whether a wildcard was expanded.
        wildcard: bool,
    },
    /// DS asked at the apex of a child zone that is served here too.
    ParentSide {
        /// The parent zone.
        zone: ZoneId,
        /// Owner name.
        node: &'a Node,
        /// The DS RRset, if there is one.
        rrset: Option<&'a Rrset>,
    },
    /// The name is at or below a zone cut.
    Referral {
        /// The cut: owner of the NS RRset.
        cut: &'a Node,
    },
    /// The name is below a DNAME.
    Dname {
        /// Owner of the DNAME.
        node: &'a Node,
        /// How many labels the owner has.
        labels: usize,
    },
    /// The name does not exist in this zone.
    Nxdomain {
        /// The zone.
        zone: ZoneId,
    },
}

/// Hash of a name in lower-case wire format; the table's keys come from the configuration alone.
#[derive(Default)]
struct WireHasher(u64);

impl Hasher for WireHasher {
    fn write(&mut self, octets: &[u8]) {
        self.0 = xxh3_64(octets);
    }
    // The length that `[u8]` hashes first adds nothing: a name ends where its root label is.
    fn write_usize(&mut self, _: usize) {}
    fn finish(&self) -> u64 {
        self.0
    }
}

impl Authority {
    /// Builds the table from zones, each its apex and records (a SOA at the apex among them), and steered names with
    /// their tags. Names outside all zones are left out: loading has reported them.
    #[must_use]
    pub fn build<'a>(
        zones: impl IntoIterator<Item = (&'a Name, &'a [Record])>,
        steered: impl IntoIterator<Item = (&'a Name, u32)>,
    ) -> Authority {
        let mut zones: Vec<(&Name, &[Record])> = zones.into_iter().collect();
        // Children before their parents, so that a name belongs to the zone closest to it.
        zones.sort_by_key(|(origin, _)| std::cmp::Reverse(origin.as_wire().len()));
        let mut builder = Builder::default();
        for (origin, records) in &zones {
            builder.add_apex(origin, records);
        }
        for (index, (origin, records)) in zones.iter().enumerate() {
            builder.add_zone(ZoneId(index as u32), origin, records);
        }
        for (name, tag) in steered {
            builder.add_steered(name, tag);
        }
        builder.finish()
    }

    /// The apex of a zone.
    #[must_use]
    pub fn zone(&self, id: ZoneId) -> &Apex {
        &self.zones[id.0 as usize]
    }

    /// All zones.
    #[must_use]
    pub fn zones(&self) -> &[Apex] {
        &self.zones
    }

    /// The RRsets of a node, by type.
    #[must_use]
    pub fn rrsets(&self, node: &Node) -> &[Rrset] {
        &self.rrsets[node.rrsets.start as usize..node.rrsets.end as usize]
    }

    /// The RRset of a type at a node.
    #[must_use]
    pub fn rrset(&self, node: &Node, rtype: RecordType) -> Option<&Rrset> {
        self.rrsets(node).iter().find(|rrset| rrset.rtype == rtype)
    }

    /// The node of exactly this name (lower-case wire format), also below a cut: for glue.
    #[must_use]
    pub fn exact(&self, name: &[u8]) -> Option<&Node> {
        self.names.get(name).map(|&id| self.node(id))
    }

    /// Finds what there is for a name and type.
    #[must_use]
    pub fn find(&self, name: &LowerName, rtype: RecordType) -> Found<'_> {
        if let Some(node) = self.exact(name.as_wire()) {
            return self.at_node(node, rtype, false);
        }
        let closest = (1..=name.labels()).find_map(|skip| self.exact(name.suffix(skip)));
        let Some(encloser) = closest else { return Found::NotOurs };
        if let Some(found) = self.redirected(encloser) {
            return found;
        }
        if let Some(dname) = self.rrset(encloser, RecordType::DNAME).map(|_| encloser) {
            return Found::Dname { node: dname, labels: dname.name.labels().count() };
        }
        match encloser.wildcard {
            Some(wildcard) => self.at_node(self.node(wildcard), rtype, true),
            None => Found::Nxdomain { zone: encloser.zone },
        }
    }

    fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.0 as usize]
    }

    fn at_node<'a>(&'a self, node: &'a Node, rtype: RecordType, wildcard: bool) -> Found<'a> {
        if rtype == RecordType::DS
            && let Some((zone, rrset)) = &node.parent_side
        {
            return Found::ParentSide { zone: *zone, node, rrset: rrset.as_deref() };
        }
        let is_cut_itself = node.cut.is_some_and(|cut| std::ptr::eq(self.node(cut), node));
        match self.redirected(node) {
            // At the cut itself DS belongs to the parent side: to us.
            Some(_) if is_cut_itself && rtype == RecordType::DS => Found::Data { node, wildcard },
            Some(found) => found,
            None => Found::Data { node, wildcard },
        }
    }

    /// The referral or DNAME that hides this node and all below it.
    fn redirected<'a>(&'a self, node: &'a Node) -> Option<Found<'a>> {
        if let Some(cut) = node.cut {
            return Some(Found::Referral { cut: self.node(cut) });
        }
        let dname = self.node(node.dname?);
        Some(Found::Dname { node: dname, labels: dname.name.labels().count() })
    }
}

#[derive(Default)]
struct Builder {
    authority: Authority,
    /// RRsets of each node while they grow.
    rrsets: Vec<Vec<Rrset>>,
}

impl Builder {
    fn add_apex(&mut self, origin: &Name, records: &[Record]) {
        let zone = ZoneId(self.authority.zones.len() as u32);
        let soa = records.iter().find(|record| record.rtype == RecordType::SOA);
        let rdata: Box<[u8]> = soa.map_or_else(Box::default, |record| record.rdata.clone());
        let minimum = rdata.last_chunk::<4>().map_or(0, |octets| u32::from_be_bytes(*octets));
        let negative_ttl = soa.map_or(0, |record| record.ttl.min(minimum));
        self.authority.zones.push(Apex { origin: origin.clone(), soa: rdata, negative_ttl });
        let node = self.node(origin, zone);
        self.authority.nodes[node.0 as usize].is_apex = true;
    }

    fn add_zone(&mut self, zone: ZoneId, origin: &Name, records: &[Record]) {
        let earlier = self.authority.zones[..zone.0 as usize].iter().map(|apex| apex.origin.clone());
        let children: Vec<Name> = earlier.filter(|child| child.is_at_or_below(origin)).collect();
        for child in &children {
            self.add_ancestors(child, zone, origin);
            if !is_delegated_above(child, origin, records) {
                self.mark_parent_side(child, zone);
            }
        }
        for record in records.iter().filter(|record| record.owner.is_at_or_below(origin)) {
            match children.iter().find(|child| record.owner.is_at_or_below(child)) {
                None => {
                    let node = self.node_with_ancestors(&record.owner, zone, origin);
                    push_record(&mut self.rrsets[node.0 as usize], record);
                }
                // Of what a parent says at or below a child's apex only the DS is its own (RFC 4035 §3.1.4.1).
                Some(child) if record.owner == *child && record.rtype == RecordType::DS => {
                    self.add_parent_side(record, zone);
                }
                Some(_) => {}
            }
        }
    }

    /// DS at the apex of a child that is served here too is answered from this zone, also when there is none.
    fn mark_parent_side(&mut self, child: &Name, zone: ZoneId) {
        if let Some(&id) = self.authority.names.get(child.to_lower().as_wire()) {
            self.authority.nodes[id.0 as usize].parent_side.get_or_insert((zone, None));
        }
    }

    fn add_parent_side(&mut self, record: &Record, zone: ZoneId) {
        let Some(&id) = self.authority.names.get(record.owner.to_lower().as_wire()) else { return };
        let side = &mut self.authority.nodes[id.0 as usize].parent_side;
        let Some((_, rrset)) = side.as_mut().filter(|(owner, _)| *owner == zone) else { return };
        let rrset =
            rrset.get_or_insert_with(|| Box::new(Rrset { rtype: record.rtype, ttl: record.ttl, rdatas: Vec::new() }));
        rrset.ttl = rrset.ttl.min(record.ttl);
        rrset.rdatas.push(record.rdata.clone());
    }

    fn add_steered(&mut self, name: &Name, tag: u32) {
        let mut zones = self.authority.zones.iter().enumerate();
        let Some((index, apex)) = zones.find(|(_, apex)| name.is_at_or_below(&apex.origin)) else { return };
        let origin = apex.origin.clone();
        let node = self.node_with_ancestors(name, ZoneId(index as u32), &origin);
        self.authority.nodes[node.0 as usize].tag = Some(tag);
    }

    /// The node of `name`, made when missing, and of all names between it and the apex: empty non-terminals exist.
    fn node_with_ancestors(&mut self, name: &Name, zone: ZoneId, origin: &Name) -> NodeId {
        if !self.authority.names.contains_key(name.to_lower().as_wire()) {
            self.add_ancestors(name, zone, origin);
        }
        self.node(name, zone)
    }

    /// The names between `name` and the apex, as far as they are missing.
    fn add_ancestors(&mut self, name: &Name, zone: ZoneId, origin: &Name) {
        let mut child = name.clone();
        while child != *origin {
            let Some(parent) = child.parent() else { break };
            if self.authority.names.contains_key(parent.to_lower().as_wire()) {
                break;
            }
            self.node(&parent, zone);
            child = parent;
        }
    }

    fn node(&mut self, name: &Name, zone: ZoneId) -> NodeId {
        let key: Box<[u8]> = name.to_lower().as_wire().into();
        let next = NodeId(self.authority.nodes.len() as u32);
        let id = *self.authority.names.entry(key).or_insert(next);
        if id == next {
            self.rrsets.push(Vec::new());
            self.authority.nodes.push(Node {
                name: name.clone(),
                zone,
                tag: None,
                is_apex: false,
                cut: None,
                dname: None,
                wildcard: None,
                parent_side: None,
                rrsets: 0..0,
            });
        }
        id
    }

    /// Links cuts, DNAMEs and wildcards to what they concern, and lays the RRsets out.
    fn finish(mut self) -> Authority {
        for index in 0..self.authority.nodes.len() {
            self.link(NodeId(index as u32));
        }
        for (index, mut rrsets) in self.rrsets.into_iter().enumerate() {
            rrsets.sort_by_key(|rrset| rrset.rtype);
            let start = self.authority.rrsets.len() as u32;
            self.authority.rrsets.append(&mut rrsets);
            self.authority.nodes[index].rrsets = start..self.authority.rrsets.len() as u32;
        }
        self.authority
    }

    /// The highest cut at or above a node (within its zone) hides it; so does the highest DNAME strictly above it.
    fn link(&mut self, id: NodeId) {
        let (mut cut, mut dname) = (None, None);
        let mut name = self.authority.nodes[id.0 as usize].name.to_lower();
        let mut at = id;
        while !self.authority.nodes[at.0 as usize].is_apex {
            if self.has(at, RecordType::NS) {
                (cut, dname) = (Some(at), None);
            }
            let Some(parent) = name.parent() else { break };
            let Some(&above) = self.authority.names.get(parent.as_wire()) else { break };
            if self.has(above, RecordType::DNAME) {
                (cut, dname) = (None, Some(above));
            }
            (name, at) = (parent, above);
        }
        let node = &mut self.authority.nodes[id.0 as usize];
        (node.cut, node.dname) = (cut, dname);
        if node.name.is_wildcard()
            && let Some(parent) = node.name.parent()
            && let Some(&parent) = self.authority.names.get(parent.to_lower().as_wire())
        {
            self.authority.nodes[parent.0 as usize].wildcard = Some(id);
        }
    }

    fn has(&self, node: NodeId, rtype: RecordType) -> bool {
        self.rrsets[node.0 as usize].iter().any(|rrset| rrset.rtype == rtype)
    }
}

/// Whether a zone delegates a name above `child`: then what is below is not its own, the DS of `child` included.
fn is_delegated_above(child: &Name, origin: &Name, records: &[Record]) -> bool {
    records.iter().any(|record| {
        let redirects = matches!(record.rtype, RecordType::NS | RecordType::DNAME);
        let is_between = record.owner != *child && child.is_at_or_below(&record.owner);
        redirects && is_between && (record.owner != *origin || record.rtype == RecordType::DNAME)
    })
}

fn push_record(rrsets: &mut Vec<Rrset>, record: &Record) {
    match rrsets.iter_mut().find(|rrset| rrset.rtype == record.rtype) {
        Some(rrset) => {
            rrset.ttl = rrset.ttl.min(record.ttl);
            if !rrset.rdatas.contains(&record.rdata) {
                rrset.rdatas.push(record.rdata.clone());
            }
        }
        None => {
            rrsets.push(Rrset { rtype: record.rtype, ttl: record.ttl, rdatas: vec![record.rdata.clone()] });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::problem::{SourceId, Span};

    fn name(text: &str) -> Name {
        Name::parse(text, None).expect("a name")
    }

    fn record(owner: &str, rtype: RecordType) -> Record {
        let rdata: Box<[u8]> = match rtype {
            RecordType::SOA => [&[0u8, 0][..], &[0; 16], &30u32.to_be_bytes()].concat().into(),
            _ => Box::from([0u8]),
        };
        Record { owner: name(owner), rtype, ttl: 300, rdata, span: Span::new(SourceId(0), 0..0) }
    }

    fn example() -> Authority {
        let parent: Vec<Record> = [
            ("example", RecordType::SOA),
            ("example", RecordType::NS),
            ("host.example", RecordType::A),
            ("a.b.ent.example", RecordType::A),
            ("*.wild.example", RecordType::A),
            ("host.wild.example", RecordType::TXT),
            ("below.sub.wild.example", RecordType::A),
            ("cut.example", RecordType::NS),
            ("cut.example", RecordType::DS),
            ("ns.cut.example", RecordType::A),
            ("d.example", RecordType::DNAME),
            ("d.example", RecordType::TXT),
            ("child.example", RecordType::NS),
            ("child.example", RecordType::DS),
            ("glue.child.example", RecordType::A),
        ]
        .map(|(owner, rtype)| record(owner, rtype))
        .into();
        let child: Vec<Record> =
            [("child.example", RecordType::SOA), ("child.example", RecordType::NS)].map(|(o, t)| record(o, t)).into();
        let (parent_name, child_name) = (name("example"), name("Child.Example"));
        let (www, any) = (name("www.Example"), name("*.app.example"));
        Authority::build([(&parent_name, &parent[..]), (&child_name, &child[..])], [(&www, 1), (&any, 2)])
    }

    fn show(authority: &Authority, asked: &str, rtype: RecordType) -> String {
        let mut lower = LowerName::new();
        lower.set(name(asked).as_wire()).expect("a name");
        match authority.find(&lower, rtype) {
            Found::NotOurs => "not ours".into(),
            Found::Data { node, wildcard } => {
                let data = authority.rrset(node, rtype).map_or("nodata", |_| "data");
                let tag = node.tag.map_or(String::new(), |tag| format!(" tag {tag}"));
                format!("{data} {}{tag}{}", node.name, if wildcard { " wildcard" } else { "" })
            }
            Found::ParentSide { zone, rrset, .. } => {
                format!("parent {} {}", authority.zone(zone).origin, rrset.map_or("nodata", |_| "data"))
            }
            Found::Referral { cut } => format!("referral {}", cut.name),
            Found::Dname { node, labels } => format!("dname {} {labels}", node.name),
            Found::Nxdomain { zone } => format!("nxdomain {}", authority.zone(zone).origin),
        }
    }

    #[test]
    fn finds_by_the_rules_of_rfc_1034_and_4592() {
        let authority = example();
        for (asked, rtype, expected) in [
            ("example", RecordType::SOA, "data example."),
            ("EXAMPLE", RecordType::MX, "nodata example."),
            ("org", RecordType::A, "not ours"),
            (".", RecordType::NS, "not ours"),
            ("host.example", RecordType::A, "data host.example."),
            ("x.host.example", RecordType::A, "nxdomain example."),
            ("missing.example", RecordType::A, "nxdomain example."),
            ("ent.example", RecordType::A, "nodata ent.example."),
            ("b.ent.example", RecordType::A, "nodata b.ent.example."),
            ("c.ent.example", RecordType::A, "nxdomain example."),
            ("x.wild.example", RecordType::A, "data *.wild.example. wildcard"),
            ("x.y.wild.example", RecordType::A, "data *.wild.example. wildcard"),
            ("x.wild.example", RecordType::MX, "nodata *.wild.example. wildcard"),
            ("*.wild.example", RecordType::A, "data *.wild.example."),
            ("host.wild.example", RecordType::A, "nodata host.wild.example."),
            ("x.host.wild.example", RecordType::A, "nxdomain example."),
            ("sub.wild.example", RecordType::A, "nodata sub.wild.example."),
            ("x.sub.wild.example", RecordType::A, "nxdomain example."),
            ("cut.example", RecordType::A, "referral cut.example."),
            ("cut.example", RecordType::NS, "referral cut.example."),
            ("cut.example", RecordType::DS, "data cut.example."),
            ("ns.cut.example", RecordType::A, "referral cut.example."),
            ("ns.cut.example", RecordType::DS, "referral cut.example."),
            ("x.y.cut.example", RecordType::A, "referral cut.example."),
            ("d.example", RecordType::TXT, "data d.example."),
            ("d.example", RecordType::A, "nodata d.example."),
            ("x.d.example", RecordType::A, "dname d.example. 2"),
            ("x.y.d.example", RecordType::A, "dname d.example. 2"),
            ("child.example", RecordType::SOA, "data child.example."),
            ("child.example", RecordType::DS, "parent example. data"),
            ("glue.child.example", RecordType::A, "nxdomain child.example."),
            ("www.example", RecordType::A, "nodata www.Example. tag 1"),
            ("s1.app.example", RecordType::A, "nodata *.app.example. tag 2 wildcard"),
            ("app.example", RecordType::A, "nodata app.example."),
        ] {
            let got = show(&authority, asked, rtype).to_lowercase();
            assert_eq!(got, expected.to_lowercase(), "{asked} {rtype}");
        }
        let mut lower = LowerName::new();
        lower.set(name("x.example").as_wire()).expect("a name");
        let Found::Nxdomain { zone } = authority.find(&lower, RecordType::A) else { panic!("NXDOMAIN") };
        assert_eq!(authority.zone(zone).negative_ttl, 30);
    }
}
