//! What the records of a zone mean together: SOA and NS at the apex, CNAME alone, nothing below a DNAME, glue, TTLs.
//!
//! | rule | severity |
//! |---|---|
//! | exactly one SOA, at the apex; NS at the apex | error |
//! | CNAME alone at its name, one CNAME, one DNAME (RFC 2181 §10.1, RFC 6672 §2.4) | error |
//! | nothing below a DNAME; no DNAME at a wildcard or a zone cut (RFC 6672 §2.3, §3.3) | error |
//! | a server of a delegation that is below it has an address: glue | error |
//! | an RRset fits one message | error |
//! | the same record twice (one is kept), RRset with several TTLs (the lowest is used) | warning |
//! | data below or at a zone cut that is neither NS, DS nor glue; DS where no NS is | warning |
//! | NS at a wildcard; NS, MX, SRV to an alias, or to a name of the zone without address | warning |
//! | a name that ends in the zone's name twice: a final dot was forgotten | warning |
//!
//! Services may give a name its addresses, hence most missing addresses are warnings. Rules about what is missing are
//! silent while the file has errors: what is missing may stand in a line that was not understood.
//!
//! The work is linear in the records but for sorting within a name; names are numbered once by a hash table.

use std::collections::HashMap;
use std::ops::Range;

use super::Record;
use super::collect::Problems;
use super::wire::name_at;
use crate::dns::{Name, RecordType};
use crate::problem::{Problem, SourceId, Span};

/// Most octets of an RRset's records in an answer: 65 535 less header, question, EDNS and room for a signature. The
/// owner of each is a pointer.
const MAX_RRSET: usize = 65_535 - 1024;
/// Octets of a record before its data, the owner a pointer.
const RECORD_HEAD: usize = 12;

/// Checks the records of `zone`, whose main file is `file`, and drops repetitions.
pub(super) fn check(zone: &Name, file: SourceId, records: &mut Vec<Record>, problems: &mut Problems) {
    let is_whole = problems.errors() == 0;
    let repeated = {
        let mut check = Check { records, zone, names: Names::new(zone, records), problems, repeated: Vec::new() };
        check.sets();
        check.apex(file, is_whole);
        check.hidden();
        check.targets(is_whole);
        check.forgotten_dots();
        check.repeated
    };
    drop_all(records, repeated);
}

fn drop_all(records: &mut Vec<Record>, mut indices: Vec<usize>) {
    indices.sort_unstable();
    let (mut next, mut index) = (indices.into_iter().peekable(), 0);
    records.retain(|_| {
        index += 1;
        next.next_if_eq(&(index - 1)).is_none()
    });
}

/// What stands at a name.
#[derive(Default)]
struct At {
    /// Indices of its records in `Names::order`.
    records: Range<usize>,
    ns: Option<usize>,
    cname: Option<usize>,
    dname: Option<usize>,
    has_address: bool,
    /// A server of a delegation or of the zone.
    is_server: bool,
}

/// Names by number.
struct Names {
    /// Lower-case wire format to index into `at`.
    numbers: HashMap<Box<[u8]>, usize>,
    at: Vec<At>,
    /// Indices of records by name, in the order of the file.
    order: Vec<usize>,
    apex: Box<[u8]>,
    has_dname: bool,
    has_cut: bool,
}

impl Names {
    fn new(zone: &Name, records: &[Record]) -> Names {
        let apex: Box<[u8]> = zone.to_lower().as_wire().into();
        let mut names = Names {
            numbers: HashMap::from([(apex.clone(), 0)]),
            at: vec![At::default()],
            order: vec![0; records.len()],
            apex,
            has_dname: false,
            has_cut: false,
        };
        let numbers: Vec<usize> = records.iter().map(|record| names.number(record.owner.as_wire())).collect();
        names.lay_out(&numbers);
        for (index, record) in records.iter().enumerate() {
            names.note(numbers[index], index, record);
        }
        names
    }

    /// The number of a name, a new one if need be.
    fn number(&mut self, wire: &[u8]) -> usize {
        let mut buffer = [0u8; 255];
        let lower = lower(wire, &mut buffer);
        if let Some(number) = self.numbers.get(lower) {
            return *number;
        }
        self.numbers.insert(lower.into(), self.at.len());
        self.at.push(At::default());
        self.at.len() - 1
    }

    /// Groups the records by name: counts, then places.
    fn lay_out(&mut self, numbers: &[usize]) {
        for number in numbers {
            self.at[*number].records.end += 1;
        }
        let mut start = 0;
        for at in &mut self.at {
            let count = at.records.end;
            at.records = start..start;
            start += count;
        }
        for (index, number) in numbers.iter().enumerate() {
            let end = &mut self.at[*number].records.end;
            self.order[*end] = index;
            *end += 1;
        }
    }

    fn note(&mut self, number: usize, index: usize, record: &Record) {
        let at = &mut self.at[number];
        match record.rtype {
            RecordType::NS => {
                at.ns.get_or_insert(index);
                self.has_cut |= number != 0;
                if let Some(target) = name_at(&record.rdata, 0) {
                    self.note_server(&target);
                }
            }
            RecordType::CNAME => {
                at.cname.get_or_insert(index);
            }
            RecordType::DNAME => {
                at.dname.get_or_insert(index);
                self.has_dname = true;
            }
            RecordType::A | RecordType::AAAA => at.has_address = true,
            _ => {}
        }
    }

    /// Remembers that a name of the zone is a server; it may have no records.
    fn note_server(&mut self, target: &Name) {
        let mut buffer = [0u8; 255];
        if ends_with(lower(target.as_wire(), &mut buffer), &self.apex) {
            let number = self.number(target.as_wire());
            self.at[number].is_server = true;
        }
    }

    fn get(&self, lower: &[u8]) -> Option<&At> {
        self.numbers.get(lower).map(|number| &self.at[*number])
    }

    fn is_apex(&self, lower: &[u8]) -> bool {
        lower.len() == self.apex.len()
    }

    /// The highest zone cut at or above a name, or the highest DNAME strictly above it: index of a record there.
    fn cover(&self, lower: &[u8]) -> Cover {
        let mut cover = Cover::None;
        if !self.has_cut && !self.has_dname {
            return cover;
        }
        let mut rest = lower;
        loop {
            let at = self.get(rest);
            if let Some(index) = at.and_then(|at| at.dname).filter(|_| rest.len() < lower.len()) {
                cover = Cover::Dname(index);
            }
            if self.is_apex(rest) {
                return cover;
            }
            if let Some(index) = at.and_then(|at| at.ns) {
                cover = Cover::Cut { index, strictly: rest.len() < lower.len() };
            }
            rest = &rest[1 + usize::from(rest[0])..];
        }
    }

    /// Whether a wildcard of the zone gives this name something.
    fn has_wildcard(&self, lower: &[u8]) -> bool {
        let mut rest = lower;
        while !self.is_apex(rest) {
            rest = &rest[1 + usize::from(rest[0])..];
            let wildcard = [b"\x01*", rest].concat();
            if self.get(&wildcard).is_some_and(|at| at.has_address || at.cname.is_some()) {
                return true;
            }
        }
        false
    }
}

/// What hides a name.
#[derive(Clone, Copy, PartialEq)]
enum Cover {
    None,
    Cut { index: usize, strictly: bool },
    Dname(usize),
}

/// The name in lower case, in a buffer.
fn lower<'a>(wire: &[u8], buffer: &'a mut [u8; 255]) -> &'a [u8] {
    let lower = &mut buffer[..wire.len()];
    lower.copy_from_slice(wire);
    lower.make_ascii_lowercase();
    lower
}

/// Whether a name is at or below another, both in lower case.
fn ends_with(name: &[u8], ancestor: &[u8]) -> bool {
    let mut rest = name;
    while rest.len() > ancestor.len() {
        rest = &rest[1 + usize::from(rest[0])..];
    }
    rest == ancestor
}

struct Check<'a> {
    records: &'a [Record],
    zone: &'a Name,
    names: Names,
    problems: &'a mut Problems,
    /// Records that repeat another.
    repeated: Vec<usize>,
}

impl Check<'_> {
    fn span(&self, index: usize) -> Span {
        self.records[index].span
    }

    fn error(&mut self, index: usize, message: impl Into<String>, other: Option<(usize, &str)>) {
        let mut problem = Problem::error(self.span(index), message);
        problem.also.extend(other.map(|(other, label)| (self.span(other), label.into())));
        self.problems.push(problem);
    }

    fn warn(&mut self, index: usize, message: impl Into<String>, other: Option<(usize, &str)>) {
        let mut problem = Problem::warning(self.span(index), message);
        problem.also.extend(other.map(|(other, label)| (self.span(other), label.into())));
        self.problems.push(problem);
    }

    /// Rules within one name.
    fn sets(&mut self) {
        let mut sorted = Vec::new();
        for number in 0..self.names.at.len() {
            let at = &self.names.at[number].records;
            if at.len() < 2 {
                self.alone(number, at.clone());
                continue;
            }
            sorted.clear();
            sorted.extend_from_slice(&self.names.order[at.clone()]);
            self.beside(number, &sorted);
            let records = self.records;
            sorted.sort_by(|a, b| {
                let key = |index: &usize| (records[*index].rtype, &records[*index].rdata, *index);
                key(a).cmp(&key(b))
            });
            for set in sorted.chunk_by(|a, b| records[*a].rtype == records[*b].rtype) {
                self.set(set);
            }
            self.at_wildcard(number);
        }
    }

    fn alone(&mut self, number: usize, at: Range<usize>) {
        let octets = at.clone().map(|place| self.records[self.names.order[place]].rdata.len()).sum::<usize>();
        if let Some(place) = at.clone().next().filter(|_| octets + RECORD_HEAD > MAX_RRSET) {
            self.too_large(self.names.order[place], octets + RECORD_HEAD);
        }
        self.at_wildcard(number);
    }

    /// One RRset, sorted by data.
    fn set(&mut self, set: &[usize]) {
        let first = set.iter().copied().min().expect("chunks are not empty");
        for pair in set.windows(2) {
            if self.records[pair[0]].rdata == self.records[pair[1]].rdata {
                self.repeated.push(pair[1]);
                self.warn(pair[1], "the same record again", Some((pair[0], "first here")));
            }
        }
        let records = self.records;
        let mut differing = set.iter().copied().filter(|index| records[*index].ttl != records[first].ttl);
        if let Some(other) = differing.by_ref().min() {
            let lowest = set.iter().map(|index| records[*index].ttl).min().unwrap_or(0);
            let Record { owner, rtype, .. } = &records[other];
            let message = format!("{owner} {rtype} has several TTLs, the lowest is used: {lowest}");
            self.warn(other, message, Some((first, "another TTL here")));
        }
        self.single(set, first);
        let octets: usize = set.iter().map(|index| self.records[*index].rdata.len() + RECORD_HEAD).sum();
        if octets > MAX_RRSET {
            self.too_large(first, octets);
        }
    }

    fn too_large(&mut self, index: usize, octets: usize) {
        let Record { owner, rtype, span, .. } = &self.records[index];
        let message = format!("the RRset {owner} {rtype} has {octets} octets");
        let problem = Problem::error(*span, message);
        self.problems.push(problem.allowed(format!("at most {MAX_RRSET}, so that it fits one message")));
    }

    /// CNAME and DNAME are alone of their type.
    fn single(&mut self, set: &[usize], first: usize) {
        let Record { owner, rtype, rdata, .. } = &self.records[first];
        if !matches!(*rtype, RecordType::CNAME | RecordType::DNAME) {
            return;
        }
        let second = set.iter().copied().filter(|index| self.records[*index].rdata != *rdata).min();
        if let Some(second) = second {
            self.error(second, format!("{owner} has two {rtype} records"), Some((first, "first here")));
        }
    }

    /// What must not stand beside one another; `all` in the order of the file.
    fn beside(&mut self, number: usize, all: &[usize]) {
        let At { ns, cname, dname, .. } = self.names.at[number];
        let records = self.records;
        if let Some(cname) = cname
            && let Some(other) = all.iter().copied().find(|index| records[*index].rtype != RecordType::CNAME)
        {
            let Record { owner, rtype, .. } = &records[other];
            self.error(cname, format!("{owner} has a CNAME beside {rtype}"), Some((other, "other data here")));
        }
        if let (Some(dname), Some(ns)) = (dname, ns)
            && number != 0
        {
            let message = format!("{} has a DNAME beside the NS of a delegation", records[dname].owner);
            self.error(dname, message, Some((ns, "delegated here")));
        }
    }

    fn at_wildcard(&mut self, number: usize) {
        let At { ns, dname, .. } = self.names.at[number];
        if let Some(dname) = dname.filter(|index| self.records[*index].owner.is_wildcard()) {
            self.error(dname, format!("a DNAME at the wildcard {}", self.records[dname].owner), None);
        }
        if let Some(ns) = ns.filter(|index| self.records[*index].owner.is_wildcard()) {
            self.warn(ns, format!("NS at the wildcard {} delegates nothing else", self.records[ns].owner), None);
        }
    }

    fn apex(&mut self, file: SourceId, is_whole: bool) {
        let is_soa = |index: &usize| self.records[*index].rtype == RecordType::SOA;
        let soas: Vec<usize> = (0..self.records.len()).filter(is_soa).collect();
        let mut first: Option<usize> = None;
        for soa in soas {
            let record = &self.records[soa];
            if record.owner != *self.zone {
                let problem = Problem::error(self.span(soa), format!("SOA at {}", record.owner));
                self.problems.push(problem.allowed(format!("SOA at {} only", self.zone)));
            } else if let Some(first) = first {
                // The same SOA again ends a transfer that was saved as a file; it has its warning.
                if self.records[first].rdata != record.rdata {
                    self.error(soa, "a second SOA", Some((first, "first here")));
                }
            } else {
                first = Some(soa);
            }
        }
        let start = Span::new(file, 0..0);
        if is_whole && first.is_none() {
            self.problems.push(Problem::error(start, format!("no SOA at {}", self.zone)));
        }
        if is_whole && self.names.at[0].ns.is_none() {
            self.problems.push(Problem::error(start, format!("no NS at {}", self.zone)));
        }
    }

    /// Names that a zone cut or a DNAME hides, one problem for each name.
    fn hidden(&mut self) {
        for number in 0..self.names.at.len() {
            let at = &self.names.at[number];
            let Some(&first) = self.names.order[at.records.clone()].first() else { continue };
            let mut buffer = [0u8; 255];
            match self.names.cover(lower(self.records[first].owner.as_wire(), &mut buffer)) {
                Cover::Dname(dname) => {
                    let message = format!("{} is below a DNAME", self.records[first].owner);
                    self.error(first, message, Some((dname, "the DNAME")));
                }
                Cover::Cut { index, strictly } => self.behind_cut(number, index, strictly),
                Cover::None => self.misplaced_ds(number),
            }
        }
    }

    fn behind_cut(&mut self, number: usize, cut: usize, strictly: bool) {
        let At { records: range, is_server, .. } = &self.names.at[number];
        let is_served = |rtype| match rtype {
            RecordType::A | RecordType::AAAA => *is_server,
            RecordType::NS | RecordType::DS => !strictly,
            // Has its error.
            RecordType::DNAME => !strictly,
            _ => false,
        };
        let occluded = self.names.order[range.clone()].iter().copied();
        let occluded = occluded.into_iter().find(|index| !is_served(self.records[*index].rtype));
        if let Some(index) = occluded {
            let Record { owner, rtype, .. } = &self.records[index];
            let place = if strictly { "below" } else { "at" };
            let message = format!("{owner} {rtype} is {place} a zone cut and never answered");
            self.warn(index, message, Some((cut, "delegated here")));
        }
    }

    fn misplaced_ds(&mut self, number: usize) {
        let records = self.names.at[number].records.clone();
        let ds = self.names.order[records].iter().copied().find(|index| self.records[*index].rtype == RecordType::DS);
        if let Some(ds) = ds {
            let owner = &self.records[ds].owner;
            self.warn(ds, format!("DS at {owner}, which is not delegated here"), None);
        }
    }

    /// Names that NS, MX and SRV records point to.
    fn targets(&mut self, is_whole: bool) {
        for index in 0..self.records.len() {
            let record = &self.records[index];
            let start = match record.rtype {
                RecordType::NS => 0,
                RecordType::MX => 2,
                RecordType::SRV => 6,
                _ => continue,
            };
            // The root says that there is no such service (RFC 7505, RFC 2782).
            let Some(target) = name_at(&record.rdata, start).filter(|target| !target.is_root()) else { continue };
            let mut buffer = [0u8; 255];
            let lower = lower(target.as_wire(), &mut buffer);
            if ends_with(lower, &self.names.apex) {
                self.target(index, &target, lower, is_whole);
            }
        }
    }

    fn target(&mut self, index: usize, target: &Name, lower: &[u8], is_whole: bool) {
        let record = &self.records[index];
        let at = self.names.get(lower);
        if let Some(cname) = at.and_then(|at| at.cname) {
            let message = format!("{} to {target}, which is an alias", record.rtype);
            return self.warn(index, message, Some((cname, "the CNAME")));
        }
        if !is_whole || at.is_some_and(|at| at.has_address) {
            return;
        }
        let cover = self.names.cover(lower);
        let is_delegation = record.rtype == RecordType::NS && record.owner != *self.zone;
        match cover {
            Cover::Cut { index: cut, .. } if is_delegation && self.records[cut].owner == record.owner => {
                let problem = Problem::error(record.span, format!("{target} has no glue"));
                let hint = "add its A or AAAA record: nobody can find it without";
                self.problems.push(problem.hint(hint));
            }
            Cover::Cut { .. } if record.rtype != RecordType::NS => {}
            Cover::Dname(_) => {}
            _ if self.names.has_wildcard(lower) => {}
            _ => {
                let problem =
                    Problem::warning(record.span, format!("{} to {target}, which has no address here", record.rtype));
                self.problems.push(problem.hint("fine when a service of the configuration has that name"));
            }
        }
    }

    /// `www.example.com` without a final dot in `example.com` becomes `www.example.com.example.com`.
    fn forgotten_dots(&mut self) {
        let doubled = [&self.names.apex[..self.names.apex.len() - 1], &self.names.apex].concat();
        if self.zone.is_root() || doubled.len() > 255 {
            return;
        }
        for index in 0..self.records.len() {
            let Record { owner, rtype, rdata, .. } = &self.records[index];
            let target = match *rtype {
                RecordType::NS | RecordType::CNAME | RecordType::DNAME | RecordType::PTR => name_at(rdata, 0),
                RecordType::MX => name_at(rdata, 2),
                RecordType::SRV => name_at(rdata, 6),
                _ => None,
            };
            let mut buffer = [0u8; 255];
            let mut is_doubled = |name: &Name| ends_with(lower(name.as_wire(), &mut buffer), &doubled);
            if let Some(name) = [Some(owner), target.as_ref()].into_iter().flatten().find(|name| is_doubled(name)) {
                let problem = Problem::warning(self.span(index), format!("{name} ends in the zone's name twice"));
                self.problems.push(problem.hint("a name that is complete ends in a dot"));
            }
        }
    }
}
