//! Generated zones against a second lookup, written from RFC 1034 §4.3.2, 4592 and 6672 over a plain list of records.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use hickory_proto::op::Message;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use waymark::answer::{Transport, Worker, respond};
use waymark::dns::{Name, RecordType};
use waymark::problem::{SourceId, Span};
use waymark::snapshot::Snapshot;
use waymark::zone::{Authority, Record, Records};

use crate::support::query::Ask;

/// A name as its labels from the right: a prefix of the list is an ancestor.
type Path = Vec<&'static str>;

const LABELS: [&str; 3] = ["a", "b", "*"];
const TYPES: [RecordType; 6] =
    [RecordType::A, RecordType::TXT, RecordType::NS, RecordType::CNAME, RecordType::DNAME, RecordType::DS];

/// A record: owner, type, and for those that name something, what.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Line {
    owner: Path,
    rtype: RecordType,
    target: Path,
}

#[derive(Clone, Debug)]
struct Zone {
    origin: Path,
    lines: BTreeSet<Line>,
}

fn below(origin: Path, most: usize) -> impl Strategy<Value = Path> {
    prop::collection::vec(prop::sample::select(&LABELS[..]), 0..=most)
        .prop_map(move |labels| [&origin[..], &labels[..]].concat())
}

fn zone(origin: Path) -> impl Strategy<Value = Zone> {
    let target = prop_oneof![5 => below(vec!["z"], 4), 1 => Just(vec!["org", "else"])];
    let line = (below(origin.clone(), 4), prop::sample::select(&TYPES[..]), target)
        .prop_map(|(owner, rtype, target)| Line { owner, rtype, target });
    prop::collection::vec(line, 0..14).prop_map(move |lines| Zone::of(origin.clone(), lines))
}

fn zones() -> impl Strategy<Value = Vec<Zone>> {
    (zone(vec!["z"]), prop::option::of(zone(vec!["z", "a"])), prop::option::of(zone(vec!["z", "b", "a"])))
        .prop_map(|(top, child, far)| std::iter::once(top).chain(child).chain(far).collect())
}

impl Zone {
    /// Takes the lines that may stand beside those before: what loading would refuse is left out.
    fn of(origin: Path, lines: Vec<Line>) -> Zone {
        let mut zone = Zone { origin, lines: BTreeSet::new() };
        for line in lines {
            if zone.permits(&line) {
                zone.lines.insert(line);
            }
        }
        zone
    }

    fn permits(&self, line: &Line) -> bool {
        use RecordType as T;
        let is_apex = line.owner == self.origin;
        let is_wild = line.owner.last() == Some(&"*");
        let at = |rtype: Option<T>| {
            let mut lines = self.lines.iter().filter(|other| other.owner == line.owner);
            lines.any(|other| rtype.is_none_or(|rtype| other.rtype == rtype))
        };
        let beside = match line.rtype {
            T::CNAME => !is_apex && !at(None),
            T::DNAME => !is_wild && !at(Some(T::DNAME)) && !at(Some(T::NS)) && !at(Some(T::CNAME)),
            T::NS => !is_apex && !is_wild && !at(Some(T::CNAME)) && !at(Some(T::DNAME)),
            T::DS => !is_apex && !at(Some(T::CNAME)),
            _ => !at(Some(T::CNAME)),
        };
        let below_dname = self.lines.iter().any(|other| {
            (other.rtype == T::DNAME && is_below(&line.owner, &other.owner))
                || (line.rtype == T::DNAME && is_below(&other.owner, &line.owner))
        });
        // DS elsewhere than at a delegation is data like any other, but which side of a cut it is on is not the point.
        beside && !below_dname && (line.rtype != T::DS || at(Some(T::NS)))
    }

    fn records(&self) -> Records {
        let soa = [&[0u8, 0][..], &[0; 20]].concat();
        let ns = name(&["org", "ns"]).as_wire().to_vec();
        let apex =
            [(RecordType::SOA, soa), (RecordType::NS, ns)].map(|(rtype, rdata)| (name(&self.origin), rtype, rdata));
        let lines = self.lines.iter().map(|line| {
            let rdata = match line.rtype {
                RecordType::A => vec![192, 0, 2, line.target.len() as u8],
                RecordType::TXT => vec![1, b'0' + line.target.len() as u8],
                RecordType::DS => vec![0, line.target.len() as u8, 13, 2, 1],
                RecordType::NS => name(&["org", "ns"]).as_wire().to_vec(),
                _ => name(&line.target).as_wire().to_vec(),
            };
            (name(&line.owner), line.rtype, rdata)
        });
        let span = Span::new(SourceId(0), 0..0);
        let mut records = Records::default();
        for (owner, rtype, rdata) in apex.into_iter().chain(lines) {
            let record = Record { owner: owner.as_wire(), rtype, ttl: 300, rdata: &rdata, span };
            records.push(record).expect("room");
        }
        records
    }

    fn has(&self, owner: &[&str], rtype: RecordType) -> Vec<&Line> {
        self.lines.iter().filter(|line| line.owner == owner && line.rtype == rtype).collect()
    }
}

fn is_below(name: &[&str], ancestor: &[&str]) -> bool {
    name.len() > ancestor.len() && name.starts_with(ancestor)
}

fn name(path: &[&str]) -> Name {
    let text: String = path.iter().rev().map(|label| format!("{label}.")).collect();
    Name::parse(&text, None).expect("a name")
}

/// What is compared of an answer: `TYPE owner` of each record without repetitions of an RRset.
#[derive(Debug, Default, PartialEq)]
struct Answer {
    rcode: u8,
    authoritative: bool,
    answer: Vec<String>,
    authority: Vec<String>,
}

/// The second lookup.
struct Naive<'a> {
    zones: &'a [Zone],
    answer: Answer,
    /// Owners of the DNAMEs that are in the answer.
    dnames: Vec<Path>,
}

impl Naive<'_> {
    fn zone_of(&self, qname: &[&str]) -> Option<&Zone> {
        self.zones.iter().filter(|zone| qname.starts_with(&zone.origin)).max_by_key(|zone| zone.origin.len())
    }

    /// Whether a name exists in a zone: it or something below it owns a record, or is the apex of a zone of ours.
    fn exists(&self, zone: &Zone, name: &[&str]) -> bool {
        let owned = zone.lines.iter().any(|line| self.is_own(zone, &line.owner) && line.owner.starts_with(name));
        let child =
            self.zones.iter().any(|other| is_below(&other.origin, &zone.origin) && other.origin.starts_with(name));
        zone.origin.starts_with(name) || owned || child
    }

    /// Whether a name belongs to this zone and to no child of it.
    fn is_own(&self, zone: &Zone, name: &[&str]) -> bool {
        self.zone_of(name).is_some_and(|closest| closest.origin == zone.origin)
    }

    /// One step; the next name when a CNAME or DNAME leads on.
    fn step(&mut self, qname: &Path, qtype: RecordType, first: bool) -> Option<Path> {
        let zones = self.zones;
        let Some(zone) = self.zone_of(qname).cloned() else {
            self.answer.rcode = if first { 5 } else { self.answer.rcode };
            return None;
        };
        if qtype == RecordType::DS && *qname == zone.origin {
            let parent =
                zones.iter().filter(|other| is_below(qname, &other.origin)).max_by_key(|other| other.origin.len());
            if let Some(parent) = parent.filter(|parent| !is_hidden(parent, qname)) {
                self.answer.authoritative = true;
                let found = parent.has(qname, RecordType::DS);
                self.say(qname, RecordType::DS, !found.is_empty(), &parent.origin);
                return None;
            }
        }
        for length in zone.origin.len()..=qname.len() {
            let node = &qname[..length];
            if length > zone.origin.len() && !zone.has(node, RecordType::NS).is_empty() {
                if length == qname.len() && qtype == RecordType::DS {
                    break;
                }
                self.answer.authoritative |= !first;
                self.answer.authority.push(format!("NS {}", name(node)));
                return None;
            }
            if length < qname.len()
                && let Some(dname) = zone.has(node, RecordType::DNAME).first()
            {
                return self.dname(node, &dname.target, qname, qtype);
            }
        }
        self.answer.authoritative = true;
        let source = if self.exists(&zone, qname) {
            qname.clone()
        } else {
            let encloser = (0..qname.len()).rev().find(|&length| self.exists(&zone, &qname[..length]))?;
            let wildcard = [&qname[..encloser], &["*"]].concat();
            if !self.exists(&zone, &wildcard) {
                self.answer.rcode = 3;
                self.answer.authority.push(format!("SOA {}", name(&zone.origin)));
                return None;
            }
            wildcard
        };
        if let (Some(cname), true) = (zone.has(&source, RecordType::CNAME).first(), qtype != RecordType::CNAME) {
            self.answer.answer.push(format!("CNAME {}", name(qname)));
            return Some(cname.target.clone());
        }
        let apex_has = source == zone.origin && [RecordType::SOA, RecordType::NS].contains(&qtype);
        let found = apex_has || !zone.has(&source, qtype).is_empty();
        self.say(qname, qtype, found, &zone.origin);
        None
    }

    fn say(&mut self, qname: &[&str], qtype: RecordType, found: bool, origin: &[&str]) {
        if found {
            self.answer.answer.push(format!("{qtype} {}", name(qname)));
        } else {
            self.answer.authority.push(format!("SOA {}", name(origin)));
        }
    }

    fn dname(
        &mut self,
        owner: &[&'static str],
        target: &[&'static str],
        qname: &Path,
        qtype: RecordType,
    ) -> Option<Path> {
        self.answer.authoritative = true;
        if !self.dnames.iter().any(|dname| dname == owner) {
            self.answer.answer.push(format!("DNAME {}", name(owner)));
            self.dnames.push(owner.to_vec());
        }
        let next: Path = [target, &qname[owner.len()..]].concat();
        self.answer.answer.push(format!("CNAME {}", name(qname)));
        (qtype != RecordType::CNAME).then_some(next)
    }
}

/// Whether a zone delegates or redirects above a name.
fn is_hidden(zone: &Zone, qname: &[&str]) -> bool {
    zone.lines
        .iter()
        .any(|line| is_below(qname, &line.owner) && [RecordType::NS, RecordType::DNAME].contains(&line.rtype))
}

fn naive(zones: &[Zone], qname: &Path, qtype: RecordType) -> Answer {
    let mut naive = Naive { zones, answer: Answer::default(), dnames: Vec::new() };
    let mut next = naive.step(qname, qtype, true);
    let mut seen = vec![qname.clone()];
    for _ in 1..16 {
        let Some(current) = next.filter(|next| !seen.contains(next)) else { break };
        seen.push(current.clone());
        next = naive.step(&current, qtype, false);
    }
    naive.answer
}

fn real(snapshot: &Snapshot, worker: &mut Worker, qname: &Path, qtype: RecordType) -> Answer {
    let ask = Ask { name: name(qname).as_wire().to_vec(), ..Ask::new(".", qtype.0) }.tcp();
    let mut out = vec![0; 65_535];
    let source = IpAddr::from([127, 0, 0, 1]);
    let length = respond(snapshot, worker, &ask.encode(), source, Transport::Tcp, &mut out).length();
    let message = Message::from_vec(&out[..length]).expect("a message");
    let shown = |records: &[hickory_proto::rr::Record]| {
        let mut shown: Vec<String> = Vec::new();
        for record in records {
            let text = format!("{} {}", RecordType(record.record_type().into()), record.name);
            if shown.last() != Some(&text) {
                shown.push(text);
            }
        }
        shown
    };
    Answer {
        rcode: message.metadata.response_code.low(),
        authoritative: message.metadata.authoritative,
        answer: shown(&message.answers),
        authority: shown(&message.authorities),
    }
}

#[test]
fn answers_are_those_of_a_second_lookup() {
    let queries = prop::collection::vec(
        (
            prop_oneof![20 => below(vec!["z"], 5), 1 => Just(vec!["org", "a"])],
            prop::sample::select(
                &[
                    RecordType::A,
                    RecordType::TXT,
                    RecordType::CNAME,
                    RecordType::DNAME,
                    RecordType::DS,
                    RecordType::NS,
                    RecordType::SOA,
                ][..],
            ),
        ),
        40,
    );
    let config = ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() };
    let run = TestRunner::new(config).run(&(zones(), queries), |(zones, queries)| {
        let authority = Authority::build(zones.iter().map(|zone| (name(&zone.origin), zone.records())), []);
        let snapshot = Snapshot { authority: Arc::new(authority), ..Snapshot::default() };
        let mut worker = Worker::new(&Arc::default(), 1);
        worker.adopt(&snapshot);
        for (qname, qtype) in queries {
            // Chains as long as the bound may end at either side of it.
            let expected = naive(&zones, &qname, qtype);
            if expected.answer.len() >= 14 {
                continue;
            }
            let found = real(&snapshot, &mut worker, &qname, qtype);
            prop_assert_eq!(found, expected, "{} {}", name(&qname), qtype);
        }
        Ok(())
    });
    run.expect("holds");
}
