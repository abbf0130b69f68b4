//! `[zones]`: their files, and whether services may stand where they do.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{Hash, Hasher};

use super::Zone;
use super::fields::Fields;
use super::files::{self, Document};
use super::findings::Findings;
use super::keyring::{self, Keyring};
use super::keys;
use super::kinds;
use super::zone_files::{self, Unread};
use crate::dns::name::MAX_NAME;
use crate::dns::{Name, RecordType};
use crate::problem::{Problem, Sources, Span};
use crate::zone::{Record, Records};

/// Reads all zones, in configured order.
pub(super) fn compile(
    document: &Document,
    keyring: &Keyring,
    sources: &mut Sources,
    findings: &mut Findings,
) -> Vec<Zone> {
    let mut zones = Vec::new();
    let mut first: HashMap<Name, Span> = HashMap::new();
    for entry in document.named("zones") {
        let fields = Fields::alone(&keys::ZONE, entry.key, entry.value.table().unwrap_or(&keys::EMPTY));
        let Ok(origin) = kinds::domain_name_of(&entry.name) else { continue };
        if origin.is_wildcard() {
            findings.cross.push(Problem::error(entry.key, "a zone cannot be a wildcard"));
            continue;
        }
        if let Some(first) = first.insert(origin.clone(), entry.key) {
            let problem = Problem::error(entry.key, format!("zone {} is defined twice", origin.to_plain()));
            findings.cross.push(problem.also(first, "first defined here"));
            continue;
        }
        let records = match (fields.own("primaries"), fields.own("file")) {
            (Some(primaries), file) => {
                let both = file.map(|file| {
                    let problem = Problem::error(primaries.span, "a zone with `file` and `primaries`");
                    problem
                        .hint("remove one: its data come from the file, or from a primary")
                        .also(file.span, "the file")
                });
                findings.cross.extend(both);
                findings.cross.extend(fields.own("update-from").map(|updates| {
                    let problem = Problem::error(updates.span, "a zone with `update-from` and `primaries`");
                    problem.hint("send updates to the primary").also(primaries.span, "its primaries")
                }));
                stand_in(&origin)
            }
            (None, _) => {
                fields.require(findings);
                read_zone(&fields, &origin, sources, findings)
            }
        };
        let policy = keyring::policy(&fields, document, keyring, findings);
        let max_shrink = fields.share("max-shrink").unwrap_or_default();
        let update_expire = fields.duration("update-expire").unwrap_or_default();
        zones.push(Zone { origin, records, policy, max_shrink, update_expire });
    }
    zones
}

/// What a secondary zone has before anything of it is known, as far as services and tests go: a SOA. It is never served.
fn stand_in(origin: &Name) -> Records {
    let rdata = [&[0, 0][..], &[0; 20]].concat();
    [Record::made(origin.as_wire(), RecordType::SOA, 0, &rdata)].into_iter().collect()
}

fn read_zone(fields: &Fields<'_>, origin: &Name, sources: &mut Sources, findings: &mut Findings) -> Records {
    let (Some(value), Some(named)) = (fields.own("file"), fields.text("file")) else { return Records::default() };
    let path = files::resolve(sources, value.span.source, &named);
    let named = fields.own("include-root").zip(fields.text("include-root"));
    let root = named.map(|(value, named)| (value.span, files::resolve(sources, value.span.source, &named)));
    let folder = root.as_ref().map(|(_, folder)| folder.as_path());
    match zone_files::read(sources, &path, folder, |_| Some(origin.clone())) {
        Ok(read) => read.map_or_else(Records::default, |(_, records, problems)| {
            findings.local.extend(problems);
            records
        }),
        Err(unread) => {
            let (span, path, error) = match (unread, &root) {
                (Unread::Root(error), Some((span, folder))) => (*span, folder, error),
                (Unread::Root(error) | Unread::File(error), _) => (value.span, &path, error),
            };
            findings.local.push(files::unreadable(span, path, &error));
            Records::default()
        }
    }
}

/// The static data at names that are steered and above them, for questions about those: a zone may have a million others.
pub(super) struct Statics<'z> {
    zones: &'z [Zone],
    origins: HashMap<Folded<'z>, &'z Zone>,
    records: HashMap<Folded<'z>, Vec<Record<'z>>>,
}

/// What a name that is not static is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    /// A service's.
    Steered,
    /// That of a service that may be answered with a CNAME.
    Cname,
    /// It says who asks.
    Whoami,
    /// It is a region of a service.
    Region,
    /// It has SRV records of a service's instances.
    Srv,
    /// It is one of these instances.
    Target,
}

impl Use {
    /// What a name of that use does, in words.
    pub(super) fn says(self) -> &'static str {
        match self {
            Use::Steered => "is steered",
            Use::Cname => "may be a CNAME, as an instance has a `target`,",
            Use::Whoami => "says who asks",
            Use::Region => "is made by `region-names`",
            Use::Srv => "is made by `srv`",
            Use::Target => "is made by `srv` for an instance",
        }
    }

    /// What makes it so.
    fn by(self) -> &'static str {
        match self {
            Use::Steered | Use::Cname => "the service",
            Use::Whoami => "the name from `whoami`",
            Use::Region => "`region-names`",
            Use::Srv | Use::Target => "`srv`",
        }
    }

    fn collides(self, rtype: RecordType) -> bool {
        match rtype {
            RecordType::A | RecordType::AAAA | RecordType::CNAME => true,
            _ if self == Use::Cname => true,
            RecordType::TXT => self == Use::Whoami,
            RecordType::SRV => self == Use::Srv,
            _ => false,
        }
    }
}

/// A name in wire format, compared without case (RFC 4343).
#[derive(Clone, Copy)]
struct Folded<'n>(&'n [u8]);

impl PartialEq for Folded<'_> {
    fn eq(&self, other: &Folded<'_>) -> bool {
        self.0.eq_ignore_ascii_case(other.0)
    }
}

impl Eq for Folded<'_> {}

impl Hash for Folded<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let mut lower = [0; MAX_NAME];
        let lower = &mut lower[..self.0.len()];
        lower.copy_from_slice(self.0);
        lower.make_ascii_lowercase();
        state.write(lower);
    }
}

/// A name and those above it, up to the root.
fn upwards(name: &Name) -> impl Iterator<Item = Folded<'_>> {
    std::iter::successors(Some(name.as_wire()), |wire| (wire.len() > 1).then(|| &wire[1 + usize::from(wire[0])..]))
        .map(Folded)
}

impl<'z> Statics<'z> {
    pub(super) fn new(zones: &'z [Zone], steered: impl Iterator<Item = &'z Name>) -> Statics<'z> {
        let mut records: HashMap<Folded<'_>, Vec<Record<'_>>> = HashMap::new();
        for name in steered {
            for at in upwards(name) {
                let Entry::Vacant(unknown) = records.entry(at) else {
                    // Those above it are known as well.
                    break;
                };
                unknown.insert(Vec::new());
            }
        }
        for record in zones.iter().flat_map(|zone| zone.records.iter()) {
            if let Some(at) = records.get_mut(&Folded(record.owner)) {
                at.push(record);
            }
        }
        let origins = zones.iter().map(|zone| (Folded(zone.origin.as_wire()), zone)).collect();
        Statics { zones, origins, records }
    }

    /// What is wrong with making this use of `name`, which is written at `span`.
    pub(super) fn problems(&self, name: &Name, span: Span, of: Use) -> Vec<Problem> {
        let Some(zone) = upwards(name).find_map(|at| self.origins.get(&at)) else {
            return vec![self.outside(name, span)];
        };
        let (says, what) = (of.says(), of.by());
        let collisions = self.at(Folded(name.as_wire())).iter().filter(|record| of.collides(record.rtype));
        let mut problems: Vec<Problem> = Vec::new();
        for record in collisions {
            // One problem for each RRset, not for each record.
            let message = format!("{} {says} and has a static {} record", name.to_plain(), record.rtype);
            if !problems.iter().any(|problem| problem.message == message) {
                problems.push(
                    Problem::error(span, message)
                        .hint(match of {
                            Use::Cname => "remove the record or the `target`: a CNAME stands alone at its name".into(),
                            _ => format!("remove the record or {what}; records of other types may stand beside it"),
                        })
                        .also(record.span, "the static record"),
                );
            }
        }
        problems.extend(self.hidden(name, zone, span));
        problems
    }

    /// The static records of a type that a service makes at `name`, as the key at `span` says.
    pub(super) fn collision(&self, name: &Name, rtype: RecordType, span: Span) -> Option<Problem> {
        let record = self.at(Folded(name.as_wire())).iter().find(|record| record.rtype == rtype)?;
        let message = format!("{} has static {rtype} records, and those that the service makes", name.to_plain());
        let hint = format!("remove the records or `{}`", rtype.to_string().to_lowercase());
        Some(Problem::error(span, message).hint(hint).also(record.span, "the static record"))
    }

    fn at<'a>(&'a self, name: Folded<'a>) -> &'a [Record<'z>] {
        self.records.get(&name).map_or(&[], |records| records)
    }

    fn outside(&self, name: &Name, span: Span) -> Problem {
        let origins: Vec<String> = self.zones.iter().take(20).map(|zone| zone.origin.to_plain()).collect();
        let problem = Problem::error(span, format!("{} is in no zone served here", name.to_plain()));
        match origins.len() {
            0 => problem.hint("no zone is configured: write [zones.\"…\"] with its file"),
            _ => problem.allowed(format!("names at or below {}", origins.join(", "))),
        }
    }

    /// A zone cut or DNAME above the name hides it.
    fn hidden(&self, name: &Name, zone: &Zone, span: Span) -> Option<Problem> {
        let (own, origin) = (Folded(name.as_wire()), Folded(zone.origin.as_wire()));
        let mut hiding = None;
        for owner in upwards(name).take_while(|at| at.0.len() >= origin.0.len()) {
            let of_type = |rtype| self.at(owner).iter().find(|record| record.rtype == rtype);
            let cut = of_type(RecordType::NS).filter(|_| owner != origin);
            let dname = of_type(RecordType::DNAME).filter(|_| owner != own);
            hiding = cut.map(|record| (record, "a zone cut")).or(dname.map(|record| (record, "a DNAME"))).or(hiding);
        }
        let (record, what) = hiding?;
        let message = format!("{} is never answered: {what} at {} hides it", name.to_plain(), record.name().to_plain());
        Some(Problem::error(span, message).also(record.span, what))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::problem::SourceId;
    use crate::snapshot::ZonePolicy;

    fn name(text: &str) -> Name {
        Name::parse(text, None).expect("a name")
    }

    #[test]
    fn says_where_services_cannot_stand() {
        let span = Span::new(SourceId(0), 0..1);
        let records = |lines: &[(&str, RecordType)]| -> Records {
            let lines: Vec<(Name, RecordType)> = lines.iter().map(|(owner, rtype)| (name(owner), *rtype)).collect();
            lines
                .iter()
                .map(|line| Record { owner: line.0.as_wire(), rtype: line.1, ttl: 1, rdata: &[], span })
                .collect()
        };
        let zones = [
            Zone {
                origin: name("example"),
                records: records(&[
                    ("example", RecordType::NS),
                    ("a.example", RecordType::A),
                    ("a.example", RecordType::A),
                    ("c.example", RecordType::CNAME),
                    ("t.example", RecordType::TXT),
                    ("cut.example", RecordType::NS),
                    ("d.example", RecordType::DNAME),
                    ("child.example", RecordType::NS),
                ]),
                policy: ZonePolicy::default(),
                max_shrink: 0,
                update_expire: Duration::ZERO,
            },
            Zone {
                origin: name("child.example"),
                records: Records::default(),
                policy: ZonePolicy::default(),
                max_shrink: 0,
                update_expire: Duration::ZERO,
            },
        ];
        let cases = [
            ("example", 0, ""),
            ("www.example", 0, ""),
            ("t.example", 0, ""),
            ("d.example", 0, ""),
            ("www.child.example", 0, ""),
            ("A.Example", 1, "static A record"),
            ("c.example", 1, "static CNAME record"),
            ("cut.example", 1, "zone cut at cut.example"),
            ("x.y.cut.example", 1, "zone cut at cut.example"),
            ("x.d.example", 1, "DNAME at d.example"),
            ("example.org", 1, "in no zone"),
        ]
        .map(|(service, count, part)| (name(service), count, part));
        let statics = Statics::new(&zones, cases.iter().map(|(service, ..)| service));
        for (service, count, part) in &cases {
            let problems = statics.problems(service, span, Use::Steered);
            assert_eq!(problems.len(), *count, "{service}");
            assert!(problems.iter().all(|problem| problem.message.contains(part)), "{service}: {problems:?}");
        }
    }
}
