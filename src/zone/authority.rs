//! All zones in one table of names, and the lookup of RFC 1034 §4.3.2 over it (RFC 4592, 6672, 8020).
//!
//! Every name that exists has a [`Node`], empty non-terminals too; one hash lookup finds it. A name that has none is
//! decided by its closest encloser, found by stripping labels:
//!
//! | the node found is | answer |
//! |---|---|
//! | the apex of a zone whose data are not known | nothing can be said |
//! | below or at a zone cut | referral (DS at the cut: from here) |
//! | below a DNAME | the DNAME |
//! | the name itself | its data |
//! | an encloser with a wildcard child | the wildcard's data |
//! | an encloser | NXDOMAIN |
//! | nothing | not ours |
//!
//! A node may carry a tag: the number of the service that is steered there. What it means is not known here. How nodes
//! lie in memory is drawn in `node`; `build` makes them.

use super::build;
use super::negative::Negative;
use super::node::{Arena, Node, NodeId, Redirect, Rrset};
use super::records::{Record, Records, soa_serial};
use super::table::{Table, hash};
use crate::dns::{Full, LowerName, Name, Owner, RecordType, Section, Writer};

/// Index into the zones of an [`Authority`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ZoneId(pub u32);

/// A zone's apex.
#[derive(Clone, Debug)]
pub struct Apex {
    /// Its name.
    pub origin: Name,
    /// TTL of the SOA in negative answers: min(SOA TTL, MINIMUM) (RFC 2308 §5).
    pub negative_ttl: u32,
    /// What it says at and below the apexes of zones that are served here too and answer for these names themselves: its
    /// delegations to them, and glue. Only whoever copies the zone gets that.
    pub aside: Records,
    pub(super) node: NodeId,
    pub(super) negative: Option<Negative>,
}

/// All names of all zones.
#[derive(Debug, Default)]
pub struct Authority {
    pub(super) zones: Vec<Apex>,
    pub(super) arena: Arena,
    /// Numbers of nodes by name.
    pub(super) names: Table,
    /// Most labels of a name in the table.
    pub(super) deepest: usize,
}

/// Where a search for a name begins.
#[derive(Clone, Copy, Debug)]
pub struct Place(u32);

/// A node whose name has the right hash; whether it has the right octets was not looked at.
#[derive(Clone, Copy, Debug)]
pub struct LikelyNode(NodeId);

/// What was found for a name.
#[derive(Clone, Copy, Debug)]
pub enum Found<'a> {
    /// In no zone of ours.
    NotOurs,
    /// The name exists, or a wildcard covers it.
    Data {
        /// The name, or the wildcard.
        node: Node<'a>,
        /// Whether a wildcard was expanded.
        wildcard: bool,
    },
    /// DS asked at the apex of a child zone that is served here too.
    ParentSide {
        /// The parent zone.
        zone: ZoneId,
        /// The DS RRset, if there is one.
        rrset: Option<Rrset<'a>>,
    },
    /// The name is at or below a zone cut.
    Referral {
        /// The cut: owner of the NS RRset.
        cut: Node<'a>,
    },
    /// The name is below a DNAME.
    Dname {
        /// Owner of the DNAME.
        node: Node<'a>,
    },
    /// The data of its zone are not known: it was never transferred, or too long ago.
    Void,
    /// The name does not exist in this zone.
    Nxdomain {
        /// The zone.
        zone: ZoneId,
    },
}

impl Authority {
    /// Builds the table from zones, each its apex and records (a SOA at the apex among them), and steered names with
    /// their tags. Names outside all zones are left out: loading has reported them. Records are given back zone by zone.
    #[must_use]
    pub fn build<'n>(
        zones: impl IntoIterator<Item = (Name, Records)>,
        steered: impl IntoIterator<Item = (&'n Name, u32)>,
    ) -> Authority {
        let zones = zones.into_iter().map(|(origin, records)| (origin, Some(records)));
        build::build(zones.collect(), steered)
    }

    /// [`Authority::build`], with zones whose data are not known: of these nothing is said, whatever is asked.
    #[must_use]
    pub fn build_known<'n>(
        zones: Vec<(Name, Option<Records>)>,
        steered: impl IntoIterator<Item = (&'n Name, u32)>,
    ) -> Authority {
        build::build(zones, steered)
    }

    /// The static records of a zone, as it was built from them: what it has aside comes last. Nothing of a zone whose
    /// data are not known.
    #[must_use]
    pub fn records(&self, zone: ZoneId) -> Option<Records> {
        self.soa(zone)?;
        let mut records = Records::default();
        for node in self.nodes(zone) {
            for rrset in node.rrsets() {
                for rdata in rrset.rdatas() {
                    let record = Record::made(node.name(), rrset.rtype, rrset.ttl(), rdata);
                    // They had room before.
                    let _ = records.push(record);
                }
            }
        }
        for record in self.zone(zone).aside.iter() {
            let _ = records.push(record);
        }
        Some(records)
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

    /// The zone whose apex a name is.
    #[must_use]
    pub fn zone_at(&self, apex: &LowerName) -> Option<ZoneId> {
        let node = self.exact(apex.as_wire())?;
        Some(node.zone()).filter(|zone| self.zone(*zone).node == node.id())
    }

    /// TTL and data of the SOA of a zone.
    #[must_use]
    pub fn soa(&self, zone: ZoneId) -> Option<(u32, &[u8])> {
        let soa = self.apex(zone).rrset(RecordType::SOA)?;
        Some((soa.ttl(), soa.rdatas().next()?))
    }

    /// The serial of a zone.
    #[must_use]
    pub fn serial(&self, zone: ZoneId) -> Option<u32> {
        soa_serial(self.soa(zone)?.1)
    }

    /// The node of a zone's apex, which is its first.
    #[must_use]
    pub fn apex(&self, zone: ZoneId) -> Node<'_> {
        self.node(self.zone(zone).node)
    }

    /// The node that follows another in its zone; names come before those below them.
    #[must_use]
    pub fn next_node(&self, node: Node<'_>) -> Option<Node<'_>> {
        self.arena.after(node).filter(|next| next.zone() == node.zone())
    }

    /// All nodes of a zone.
    pub fn nodes(&self, zone: ZoneId) -> impl Iterator<Item = Node<'_>> {
        std::iter::successors(Some(self.apex(zone)), |node| self.next_node(*node))
    }

    /// The node with this [`Node::ordinal`].
    #[must_use]
    pub fn numbered(&self, ordinal: u32) -> Node<'_> {
        self.node(NodeId(ordinal))
    }

    /// The node of exactly this name (lower-case wire format), also below a cut: for glue.
    #[must_use]
    #[inline]
    pub fn exact(&self, name: &[u8]) -> Option<Node<'_>> {
        let is = |number| self.node(NodeId(number)).lower() == name;
        self.names.find(hash(name), is).map(|number| self.node(NodeId(number)))
    }

    /// How many names there are, counting those that exist only because of names below them.
    #[must_use]
    pub fn names(&self) -> usize {
        self.names.len()
    }

    /// Where a search for this name begins, which the processor is asked for.
    #[must_use]
    pub fn place(&self, name: &LowerName) -> Place {
        let hash = hash(name.as_wire());
        self.names.prefetch(hash);
        Place(hash)
    }

    /// The node that a search from there most likely finds, which the processor is asked for.
    #[must_use]
    pub fn likely_node(&self, place: Place) -> Option<LikelyNode> {
        let id = NodeId(self.names.find(place.0, |_| true)?);
        self.arena.prefetch(id);
        Some(LikelyNode(id))
    }

    /// The service steered there.
    #[must_use]
    pub fn likely_tag(&self, node: LikelyNode) -> Option<u32> {
        self.node(node.0).tag()
    }

    /// Finds what there is for a name and type.
    #[must_use]
    pub fn find(&self, name: &LowerName, rtype: RecordType) -> Found<'_> {
        if let Some(node) = self.exact(name.as_wire()) {
            return self.at_node(node, rtype, false);
        }
        // Names deeper than any that exists need not be looked for.
        let first = name.labels().saturating_sub(self.deepest).max(1);
        let closest = (first..=name.labels()).find_map(|skip| self.exact(name.suffix(skip)));
        let Some(encloser) = closest else { return Found::NotOurs };
        if let Some(found) = self.redirected(encloser) {
            return found;
        }
        if encloser.rrset(RecordType::DNAME).is_some() {
            return Found::Dname { node: encloser };
        }
        match encloser.wildcard() {
            Some(wildcard) => self.at_node(self.node(wildcard), rtype, true),
            None => Found::Nxdomain { zone: encloser.zone() },
        }
    }

    /// Writes the SOA of a negative answer (RFC 2308 §3), its TTL at most `ttl`. `qname` says how many octets the name
    /// asked has when it ends with the zone's apex and nothing is written behind the question yet.
    ///
    /// # Errors
    /// [`Full`] when it does not fit; then nothing was written.
    pub fn write_soa(&self, apex: &Apex, writer: &mut Writer<'_>, ttl: u32, qname: Option<usize>) -> Result<(), Full> {
        let ttl = apex.negative_ttl.min(ttl);
        if let (Some(qname), Some(negative)) = (qname, &apex.negative) {
            return negative.write(writer, qname, ttl);
        }
        let soa = self.node(apex.node).rrset(RecordType::SOA).and_then(|soa| soa.rdatas().next()).unwrap_or_default();
        let mark = writer.mark();
        let owner = Owner::Name(apex.origin.as_wire());
        let written = writer.record(Section::Authority, owner, RecordType::SOA, ttl, soa);
        if written.is_err() {
            writer.rewind(mark);
        }
        written
    }

    fn node(&self, id: NodeId) -> Node<'_> {
        self.arena.node(id)
    }

    #[inline]
    fn at_node<'a>(&'a self, node: Node<'a>, rtype: RecordType, wildcard: bool) -> Found<'a> {
        if node.is_plain() {
            return Found::Data { node, wildcard };
        }
        self.at_special_node(node, rtype, wildcard)
    }

    fn at_special_node<'a>(&'a self, node: Node<'a>, rtype: RecordType, wildcard: bool) -> Found<'a> {
        if rtype == RecordType::DS
            && let Some((zone, rrset)) = node.parent_side()
        {
            return Found::ParentSide { zone, rrset };
        }
        let is_cut_itself = node.redirect() == Redirect::Cut(node.id());
        match self.redirected(node) {
            // At the cut itself DS belongs to the parent side: to us.
            Some(_) if is_cut_itself && rtype == RecordType::DS => Found::Data { node, wildcard },
            Some(found) => found,
            None => Found::Data { node, wildcard },
        }
    }

    /// The referral or DNAME that hides this node and all below it.
    fn redirected<'a>(&'a self, node: Node<'a>) -> Option<Found<'a>> {
        match node.redirect() {
            Redirect::No => None,
            Redirect::Cut(cut) => Some(Found::Referral { cut: self.node(cut) }),
            Redirect::Dname(dname) => Some(Found::Dname { node: self.node(dname) }),
            Redirect::Void => Some(Found::Void),
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

    fn records(lines: &[(&str, RecordType)]) -> Records {
        let soa = [&[0u8, 0][..], &[0; 16], &30u32.to_be_bytes()].concat();
        let mut records = Records::default();
        for (owner, rtype) in lines {
            let rdata: &[u8] = if *rtype == RecordType::SOA { &soa } else { &[0] };
            let (owner, span) = (name(owner), Span::new(SourceId(0), 0..0));
            records.push(Record { owner: owner.as_wire(), rtype: *rtype, ttl: 300, rdata, span }).expect("room");
        }
        records
    }

    fn example() -> Authority {
        let parent = records(&[
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
        ]);
        let child = records(&[("child.example", RecordType::SOA), ("child.example", RecordType::NS)]);
        let (www, any) = (name("www.Example"), name("*.app.example"));
        Authority::build([(name("example"), parent), (name("Child.Example"), child)], [(&www, 1), (&any, 2)])
    }

    fn show(authority: &Authority, asked: &str, rtype: RecordType) -> String {
        let mut lower = LowerName::new();
        lower.set(name(asked).as_wire()).expect("a name");
        match authority.find(&lower, rtype) {
            Found::NotOurs => "not ours".into(),
            Found::Data { node, wildcard } => {
                let data = node.rrset(rtype).map_or("nodata", |_| "data");
                let tag = node.tag().map_or(String::new(), |tag| format!(" tag {tag}"));
                format!("{data} {}{tag}{}", node.owner(), if wildcard { " wildcard" } else { "" })
            }
            Found::ParentSide { zone, rrset, .. } => {
                format!("parent {} {}", authority.zone(zone).origin, rrset.map_or("nodata", |_| "data"))
            }
            Found::Referral { cut } => format!("referral {}", cut.owner()),
            Found::Dname { node } => format!("dname {}", node.owner()),
            Found::Void => "void".into(),
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
            ("x.d.example", RecordType::A, "dname d.example."),
            ("x.y.d.example", RecordType::A, "dname d.example."),
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

    #[test]
    fn of_a_zone_that_is_not_known_nothing_is_said() {
        let child = records(&[("child.example", RecordType::SOA), ("child.example", RecordType::NS)]);
        let zones = vec![(name("example"), None), (name("child.example"), Some(child))];
        let authority = Authority::build_known(zones, [(&name("www.example"), 1), (&name("www.child.example"), 2)]);
        for (asked, rtype, expected) in [
            ("example", RecordType::SOA, "void"),
            ("www.example", RecordType::A, "void"),
            ("a.b.example", RecordType::A, "void"),
            ("child.example", RecordType::SOA, "data child.example."),
            ("www.child.example", RecordType::A, "nodata www.child.example. tag 2"),
            ("x.child.example", RecordType::A, "nxdomain child.example."),
            ("child.example", RecordType::DS, "parent example. nodata"),
            ("example.org", RecordType::A, "not ours"),
        ] {
            assert_eq!(show(&authority, asked, rtype), expected, "{asked} {rtype}");
        }
        let mut lower = LowerName::new();
        lower.set(name("example").as_wire()).expect("a name");
        let zone = authority.zone_at(&lower).expect("it is ours");
        assert!(authority.soa(zone).is_none() && authority.records(zone).is_none());
    }

    #[test]
    fn what_was_built_is_given_back() {
        let before = example();
        let zones = (0..).map(ZoneId).zip(before.zones()).map(|(id, apex)| (apex.origin.clone(), before.records(id)));
        let (www, any) = (name("www.Example"), name("*.app.example"));
        let after = Authority::build_known(zones.collect(), [(&www, 1), (&any, 2)]);
        let all = |authority: &Authority| -> Vec<u128> {
            (0..)
                .map(ZoneId)
                .zip(authority.zones())
                .map(|(id, _)| authority.records(id).expect("known").digest())
                .collect()
        };
        assert_eq!(all(&before), all(&after));
        assert_eq!(before.names(), after.names());
    }
}
