//! What changed between two editions of a zone, as those see it who copy it: records removed and added, name by name.
//! It is found out while a new configuration is compiled, in a thread that nobody waits for.

use std::collections::HashSet;

use crate::dns::RecordType;
use crate::problem::{SourceId, Span};
use crate::snapshot::Contents;
use crate::zone::{Node, Record, Records};

/// A record without its owner: type, TTL, data.
type Data = (RecordType, u32, Vec<u8>);

/// Records that one edition has and the other has not; each begins with the SOA of its edition.
#[derive(Debug)]
pub(super) struct Difference {
    pub(super) removed: Records,
    pub(super) added: Records,
    /// How many there may still be.
    left: usize,
}

/// There are more changes than are wanted.
pub(super) struct TooMany;

impl Difference {
    /// Compares two editions; the SOA is not counted among the changes, of which there are `most` at most.
    pub(super) fn between(before: Contents<'_>, now: Contents<'_>, most: usize) -> Result<Difference, TooMany> {
        let mut difference = Difference { removed: soa(before)?, added: soa(now)?, left: most };
        let is_same_authority = std::ptr::eq(before.authority, now.authority) && before.zone == now.zone;
        for node in before.authority.nodes(before.zone) {
            let other = if is_same_authority { Some(node) } else { counterpart(node, now) };
            difference.compare(Some((before, node)), other.map(|other| (now, other)))?;
        }
        if !is_same_authority {
            let new = now.authority.nodes(now.zone).filter(|node| counterpart(*node, before).is_none());
            new.into_iter().try_for_each(|node| difference.compare(None, Some((now, node))))?;
            difference.compare_aside(before, now)?;
        }
        Ok(difference)
    }

    /// Whether nothing but the SOA may differ.
    pub(super) fn is_empty(&self) -> bool {
        self.removed.len() + self.added.len() == 2
    }

    fn compare(
        &mut self,
        before: Option<(Contents<'_>, Node<'_>)>,
        now: Option<(Contents<'_>, Node<'_>)>,
    ) -> Result<(), TooMany> {
        if let (Some((before, was)), Some((now, is))) = (before, now)
            && before.steered_at(was).is_none()
            && now.steered_at(is).is_none()
            && was.has_rrsets_of(is)
        {
            return Ok(());
        }
        let list = |of: Option<(Contents<'_>, Node<'_>)>| of.map_or_else(Vec::new, |(of, node)| data(of, node));
        let (was, is) = (list(before), list(now));
        let (known, wanted): (HashSet<&Data>, HashSet<&Data>) = (was.iter().collect(), is.iter().collect());
        let name = |of: Option<(Contents<'_>, Node<'_>)>| of.map_or_else(Vec::new, |(_, node)| node.name().to_vec());
        let (old, new) = (name(before), name(now));
        for data in was.iter().filter(|data| !wanted.contains(data)) {
            push(&mut self.removed, &mut self.left, &old, data)?;
        }
        for data in is.iter().filter(|data| !known.contains(data)) {
            push(&mut self.added, &mut self.left, &new, data)?;
        }
        Ok(())
    }

    /// Compares what both have aside.
    fn compare_aside(&mut self, before: Contents<'_>, now: Contents<'_>) -> Result<(), TooMany> {
        let list = |of: Contents<'_>| -> HashSet<(Vec<u8>, Data)> {
            let aside = &of.authority.zone(of.zone).aside;
            aside.iter().map(|one| (one.owner.to_ascii_lowercase(), (one.rtype, one.ttl, one.rdata.to_vec()))).collect()
        };
        let (was, is) = (list(before), list(now));
        was.difference(&is).try_for_each(|(owner, data)| push(&mut self.removed, &mut self.left, owner, data))?;
        is.difference(&was).try_for_each(|(owner, data)| push(&mut self.added, &mut self.left, owner, data))
    }
}

/// The node of the same name in another edition of the zone.
fn counterpart<'a>(node: Node<'_>, of: Contents<'a>) -> Option<Node<'a>> {
    of.authority.exact(node.lower()).filter(|other| other.zone() == of.zone)
}

/// The records of a node as they are copied.
fn data(of: Contents<'_>, node: Node<'_>) -> Vec<Data> {
    let mut data = Vec::new();
    let _ = of.each_at(node, |rtype, ttl, rdata| {
        data.push((rtype, ttl, rdata.to_vec()));
        std::ops::ControlFlow::<()>::Continue(())
    });
    data
}

fn soa(of: Contents<'_>) -> Result<Records, TooMany> {
    let mut records = Records::default();
    let (ttl, rdata) = of.authority.soa(of.zone).ok_or(TooMany)?;
    let apex = of.authority.zone(of.zone).origin.as_wire();
    push(&mut records, &mut 1, apex, &(RecordType::SOA, ttl, rdata.to_vec()))?;
    Ok(records)
}

fn push(to: &mut Records, left: &mut usize, owner: &[u8], (rtype, ttl, rdata): &Data) -> Result<(), TooMany> {
    *left = left.checked_sub(1).ok_or(TooMany)?;
    let span = Span::new(SourceId(0), 0..0);
    to.push(Record { owner, rtype: *rtype, ttl: *ttl, rdata, span }).map_err(|_| TooMany)
}
