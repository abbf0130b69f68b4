//! Zones whose data are found at run time: what is served of them is compiled anew when they change, like all else that is
//! found then. Every zone has its records in one table of names, so the others are taken from there as they are.
//!
//! ```text
//! Supply: a secondary zone ─── Given: what was copied of it ──┐
//! a zone that is updated ───── Given: serial, TXT beside file ┤
//! records of all other zones ── Authority::records ───────────┼─► Authority::build_known ─► World::with_zones
//! names of services ──────────────────────────────────────────┘
//! ```
//! Data from outside know nothing of our services: what of them cannot stand where a service is, or would hide it, is left
//! out, and said.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::config::Zone;
use crate::dns::name::wire_is_at_or_below;
use crate::dns::tsig::Key;
use crate::dns::{Name, RecordType};
use crate::zone::{Authority, Record, Records, ZoneId};

/// Most records of which is said that they are left out.
const MOST_TOLD: usize = 20;

/// A zone whose data do not come from a file, or not all of them.
#[derive(Clone, Debug)]
pub struct Supply {
    /// Its apex.
    pub origin: Name,
    /// Where it is copied from; empty = from nowhere: it has a file, and is updated.
    pub primaries: Vec<SocketAddr>,
    /// What both sides sign with.
    pub key: Option<Key>,
    /// What share of its records it may lose at once, in 1/10 000.
    pub max_shrink: u16,
    /// How long what is updated stays.
    pub update_expire: Duration,
    /// What the configuration says of it: the records of its file, addresses of targets of SRV.
    pub base: Arc<Records>,
    /// Tells versions of that apart.
    pub base_digest: u128,
}

/// What is known of zones, by apex; a secondary zone that is not there is not known.
pub type Given = HashMap<Name, Found>;

/// What is known of a zone.
#[derive(Clone, Debug)]
pub enum Found {
    /// All of it.
    Copied(Arc<Records>),
    /// What is beside its file.
    Updated(Beside),
}

/// What updates have made of a zone.
#[derive(Clone, Debug, Default)]
pub struct Beside {
    /// The serial then.
    pub serial: u32,
    /// The file then.
    pub base_digest: u128,
    /// The records that came beside it.
    pub records: Arc<Records>,
}

impl Beside {
    /// The serial over what a file says now: it never goes back, and goes up where the file has changed.
    #[must_use]
    pub fn serial_over(&self, supply: &Supply) -> u32 {
        let of_file = supply.serial();
        if is_after(of_file, self.serial) {
            of_file
        } else if self.base_digest == supply.base_digest {
            self.serial
        } else {
            after(self.serial)
        }
    }
}

/// Whether a serial is ahead of another (RFC 1982 §3.2): by less than half of the circle.
#[must_use]
pub fn is_after(serial: u32, other: u32) -> bool {
    (1..0x8000_0000).contains(&serial.wrapping_sub(other))
}

/// The next serial; 0 is passed over, as some take it for none.
#[must_use]
pub fn after(serial: u32) -> u32 {
    serial.wrapping_add(1).max(1)
}

impl Supply {
    /// That of a zone; none of one that has a file and nothing else.
    pub(super) fn of(zone: &Zone, keys: &[Key]) -> Option<Supply> {
        let is_copied = !zone.policy.primaries.is_empty();
        if !is_copied && zone.policy.update_from.is_empty() {
            return None;
        }
        let stands_in = |record: &Record<'_>| is_copied && record.rtype == RecordType::SOA;
        let base: Records = zone.records.iter().filter(|record| !stands_in(record)).collect();
        Some(Supply {
            origin: zone.origin.clone(),
            primaries: zone.policy.primaries.clone(),
            key: zone.policy.key.map(|key| keys[key.0 as usize].clone()),
            max_shrink: zone.max_shrink,
            update_expire: zone.update_expire,
            base_digest: base.digest(),
            base: Arc::new(base),
        })
    }

    /// Whether it is copied from elsewhere.
    #[must_use]
    pub fn is_copied(&self) -> bool {
        !self.primaries.is_empty()
    }

    /// The serial of its file.
    #[must_use]
    pub fn serial(&self) -> u32 {
        self.base.iter().find_map(|record| record.soa_serial()).unwrap_or_default()
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
            Some(supply) => match given.get(origin) {
                Some(Found::Copied(records)) => Some(fit(supply, records, &names, &mut left_out)),
                Some(Found::Updated(beside)) => Some(update(supply, beside)),
                None if supply.is_copied() => None,
                None => Some(Records::clone(&supply.base)),
            },
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
    for record in supply.base.iter() {
        let _ = fitting.push(record);
    }
    fitting
}

/// The records of a file with the serial and the records that updates gave it.
fn update(supply: &Supply, beside: &Beside) -> Records {
    let serial = beside.serial_over(supply).to_be_bytes();
    let mut updated = Records::default();
    for record in supply.base.iter() {
        let mut rdata = record.rdata.to_vec();
        if let Some(numbers) = rdata.last_chunk_mut::<20>().filter(|_| record.rtype == RecordType::SOA) {
            numbers[..4].copy_from_slice(&serial);
        }
        // They had room before, but for what updates may add.
        let _ = updated.push(Record { rdata: &rdata, ..record });
    }
    for record in beside.records.iter() {
        let _ = updated.push(record);
    }
    updated
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::LowerName;
    use crate::zone::Found as Answer;

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
        Supply {
            origin: name(origin),
            primaries: vec![([192, 0, 2, 1], 53).into()],
            key: None,
            max_shrink: 0,
            update_expire: Duration::ZERO,
            base: Arc::default(),
            base_digest: 0,
        }
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
        let given = Given::from([(name("Example"), Found::Copied(Arc::new(copied)))]);
        let (authority, told) = build(&before, &[supply("example")], &given, steered.clone());
        assert_eq!(told.len(), 4, "{told:?}");
        let of = |asked: &str, rtype| {
            let mut lower = LowerName::new();
            lower.set(name(asked).as_wire()).expect("a name");
            match authority.find(&lower, rtype) {
                Answer::Data { node, .. } => format!("{:?} {}", node.tag(), node.rrset(rtype).is_some()),
                Answer::Referral { .. } => "referral".into(),
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
        assert!(matches!(authority.find(&lower, RecordType::A), Answer::Void));
    }

    #[test]
    fn a_serial_never_goes_back() {
        let of = |serial: u32, digest| {
            let soa = [&[0, 0][..], &serial.to_be_bytes(), &[0; 16]].concat();
            let base: Records = [Record::made(name("z").as_wire(), RecordType::SOA, 60, &soa)].into_iter().collect();
            Supply { base: Arc::new(base), base_digest: digest, ..supply("z") }
        };
        // Served, over a file with this serial that is the same or another.
        for (served, file, digest, expected) in [
            (10, 5, 1, 10),
            (10, 10, 1, 10),
            (10, 5, 2, 11),
            (10, 10, 2, 11),
            (10, 11, 2, 11),
            (10, 20, 2, 20),
            (u32::MAX, 5, 2, 5),
            (u32::MAX, u32::MAX - 9, 2, 1),
        ] {
            let beside = Beside { serial: served, base_digest: 1, records: Arc::default() };
            assert_eq!(beside.serial_over(&of(file, digest)), expected, "{served} {file} {digest}");
        }
        let txt =
            [Record::made(name("_acme-challenge.z").as_wire(), RecordType::TXT, 60, b"\x01a")].into_iter().collect();
        let updated = update(&of(5, 1), &Beside { serial: 10, base_digest: 1, records: Arc::new(txt) });
        assert_eq!((updated.len(), updated.get(0).soa_serial()), (2, Some(10)));
    }
}
