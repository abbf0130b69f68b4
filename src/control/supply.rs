//! Zones whose data are found at run time: what is served of them is compiled anew when they change, like all else that is
//! found then. Every zone has its records in one table of names, so the others are taken from there as they are.
//!
//! ```text
//! Supply: a secondary zone ── Given: what was copied of it ──┐
//! records of all other zones ── Authority::records ──────────┼─► Authority::build_known ─► World::with_zones
//! names of services ─────────────────────────────────────────┘
//! ```
//! Data from outside know nothing of our services: what of them cannot stand where a service is, or would hide it, is left
//! out, and said.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;

use crate::config::Zone;
use crate::dns::name::wire_is_at_or_below;
use crate::dns::tsig::Key;
use crate::dns::{Name, RecordType};
use crate::zone::{Authority, Record, Records, ZoneId};

/// Most records of which is said that they are left out.
const MOST_TOLD: usize = 20;

/// A zone whose data do not come from a file.
#[derive(Clone, Debug)]
pub struct Supply {
    /// Its apex.
    pub origin: Name,
    /// Where it is copied from.
    pub primaries: Vec<SocketAddr>,
    /// What both sides sign with.
    pub key: Option<Key>,
    /// What share of its records it may lose at once, in 1/10 000.
    pub max_shrink: u16,
    /// What the configuration adds to it: addresses of targets of SRV.
    made: Arc<Records>,
}

/// What is known of zones, by apex; a zone that is not there is not known.
pub type Given = HashMap<Name, Arc<Records>>;

impl Supply {
    /// That of a zone; none of one that has a file.
    pub(super) fn of(zone: &Zone, keys: &[Key]) -> Option<Supply> {
        if zone.policy.primaries.is_empty() {
            return None;
        }
        let made = zone.records.iter().filter(|record| record.rtype != RecordType::SOA);
        Some(Supply {
            origin: zone.origin.clone(),
            primaries: zone.policy.primaries.clone(),
            key: zone.policy.key.map(|key| keys[key.0 as usize].clone()),
            max_shrink: zone.max_shrink,
            made: Arc::new(made.collect()),
        })
    }

    /// Whether it is copied from the same servers in the same way.
    #[must_use]
    pub fn is_like(&self, other: &Supply) -> bool {
        let same_key = match (&self.key, &other.key) {
            (None, None) => true,
            (Some(one), Some(other)) => one.is_like(other),
            _ => false,
        };
        same_key && self.primaries == other.primaries && self.max_shrink == other.max_shrink
    }
}

/// All zones of `before`, those of `supplies` with what is `given`; and what was left out of that, in words.
pub(super) fn build<'n>(
    before: &Authority,
    supplies: &[Supply],
    given: &Given,
    steered: impl Iterator<Item = (&'n Name, u32)> + Clone,
) -> (Authority, Vec<String>) {
    let supplied: HashMap<&Name, &Supply> = supplies.iter().map(|supply| (&supply.origin, supply)).collect();
    let origins: Vec<&Name> = before.zones().iter().map(|apex| &apex.origin).collect();
    let names = Steered::new(&origins, steered.clone().map(|(name, _)| name));
    let mut left_out = Vec::new();
    let zone = |(id, &origin): (u32, &&Name)| {
        let records = match supplied.get(origin) {
            None => before.records(ZoneId(id)),
            Some(supply) => given.get(origin).map(|records| fit(supply, records, &names, &mut left_out)),
        };
        (origin.clone(), records)
    };
    let zones = (0..).zip(&origins).map(zone).collect();
    let untold = left_out.len().saturating_sub(MOST_TOLD);
    if untold > 0 {
        left_out.truncate(MOST_TOLD);
        left_out.push(format!("{untold} more records that are not served, as services stand there"));
    }
    (Authority::build_known(zones, steered), left_out)
}

/// Where services stand.
struct Steered {
    /// Their names, each with the apex of its zone, in lower case.
    at: HashMap<Vec<u8>, Vec<u8>>,
    /// These, and all names between them and the apex, which is not among them.
    above: HashSet<Vec<u8>>,
}

impl Steered {
    fn new<'n>(origins: &[&Name], names: impl Iterator<Item = &'n Name>) -> Steered {
        let origins: HashSet<Vec<u8>> = origins.iter().map(|origin| origin.to_lower().as_wire().to_vec()).collect();
        let (mut at, mut above) = (HashMap::new(), HashSet::new());
        for name in names {
            let lower = name.to_lower();
            let mut rest = lower.as_wire();
            let mut below = Vec::new();
            while !origins.contains(rest) && rest.len() > 1 {
                below.push(rest.to_vec());
                rest = &rest[1 + usize::from(rest[0])..];
            }
            above.extend(below);
            at.insert(lower.as_wire().to_vec(), rest.to_vec());
        }
        Steered { at, above }
    }

    /// Whether a record of the zone `origin` cannot stand beside a service, or hides one.
    fn forbids(&self, origin: &Name, record: &Record<'_>) -> bool {
        let owner = record.owner.to_ascii_lowercase();
        let is_at = self.at.get(&owner).is_some_and(|apex| origin.as_wire().eq_ignore_ascii_case(apex));
        match record.rtype {
            RecordType::A | RecordType::AAAA | RecordType::CNAME => is_at,
            RecordType::NS => self.above.contains(&owner),
            RecordType::DNAME => !is_at && (self.above.contains(&owner) || self.is_apex(&owner, origin)),
            _ => false,
        }
    }

    /// Whether this is the apex of a zone with services below it.
    fn is_apex(&self, owner: &[u8], origin: &Name) -> bool {
        origin.as_wire().eq_ignore_ascii_case(owner)
            && self.at.iter().any(|(name, apex)| apex == owner && name.len() > owner.len())
    }
}

/// The records of a zone, without those that no service may have beside it, and with those that services make.
fn fit(supply: &Supply, records: &Records, names: &Steered, left_out: &mut Vec<String>) -> Records {
    let origin = &supply.origin;
    let is_inside = |record: &Record<'_>| wire_is_at_or_below(record.owner, origin.as_wire());
    let mut fitting = Records::default();
    let served = records.iter().filter(is_inside);
    for record in served {
        if names.forbids(origin, &record) {
            left_out.push(format!(
                "zone {}: the {} record of {} is not served: a service stands at or below that name",
                origin.to_plain(),
                record.rtype,
                record.name().to_plain()
            ));
        } else {
            // They had room before.
            let _ = fitting.push(record);
        }
    }
    for record in supply.made.iter() {
        let _ = fitting.push(record);
    }
    fitting
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::LowerName;
    use crate::zone::Found;

    fn name(text: &str) -> Name {
        Name::parse(text, None).expect("a name")
    }

    fn records(lines: &[(&str, RecordType)]) -> Records {
        let lines: Vec<(Name, RecordType)> = lines.iter().map(|(owner, rtype)| (name(owner), *rtype)).collect();
        let record = |line: &(Name, RecordType)| {
            let rdata = if line.1 == RecordType::SOA { vec![0; 22] } else { vec![0] };
            (line.0.clone(), line.1, rdata)
        };
        let made: Vec<(Name, RecordType, Vec<u8>)> = lines.iter().map(record).collect();
        made.iter().map(|(owner, rtype, rdata)| Record::made(owner.as_wire(), *rtype, 60, rdata)).collect()
    }

    fn supply(origin: &str) -> Supply {
        let (primaries, made) = (Vec::new(), Arc::default());
        Supply { origin: name(origin), primaries, key: None, max_shrink: 0, made }
    }

    #[test]
    fn services_win() {
        let apex = [("example", RecordType::SOA), ("example", RecordType::NS)];
        let before = Authority::build(
            [(name("example"), records(&apex)), (name("other"), records(&[("other", RecordType::SOA)]))],
            [],
        );
        let copied = records(&[
            ("example", RecordType::SOA),
            ("example", RecordType::NS),
            ("WWW.example", RecordType::A),
            ("www.example", RecordType::TXT),
            ("b.example", RecordType::CNAME),
            ("cut.example", RecordType::NS),
            ("free.example", RecordType::NS),
            ("d.example", RecordType::DNAME),
            ("static.example", RecordType::A),
            ("outside.org", RecordType::A),
        ]);
        let steered = [name("www.example"), name("b.example"), name("x.cut.example"), name("y.d.example")];
        let steered = steered.iter().zip(0..);
        let given = Given::from([(name("Example"), Arc::new(copied))]);
        let (authority, told) = build(&before, &[supply("example")], &given, steered.clone());
        assert_eq!(told.len(), 4, "{told:?}");
        let of = |asked: &str, rtype| {
            let mut lower = LowerName::new();
            lower.set(name(asked).as_wire()).expect("a name");
            match authority.find(&lower, rtype) {
                Found::Data { node, .. } => format!("{:?} {}", node.tag(), node.rrset(rtype).is_some()),
                Found::Referral { .. } => "referral".into(),
                _ => "nothing".into(),
            }
        };
        for (asked, rtype, expected) in [
            ("www.example", RecordType::A, "Some(0) false"),
            ("www.example", RecordType::TXT, "Some(0) true"),
            ("b.example", RecordType::CNAME, "Some(1) false"),
            ("x.cut.example", RecordType::A, "Some(2) false"),
            ("y.d.example", RecordType::A, "Some(3) false"),
            ("free.example", RecordType::A, "referral"),
            ("static.example", RecordType::A, "None true"),
            ("other", RecordType::SOA, "None true"),
        ] {
            assert_eq!(of(asked, rtype), expected, "{asked} {rtype}");
        }
        let (authority, told) = build(&before, &[supply("example")], &Given::new(), steered);
        assert!(told.is_empty());
        let mut lower = LowerName::new();
        lower.set(name("www.example").as_wire()).expect("a name");
        assert!(matches!(authority.find(&lower, RecordType::A), Found::Void));
    }
}
