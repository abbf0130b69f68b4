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
//! The work is linear in the records but for sorting within a name; names are numbered once, by `names`.

use super::collect::Problems;
use super::names::{Cover, Names};
use super::records::{Record, Records};
use super::wire::name_at;
use crate::dns::name::wire_is_at_or_below;
use crate::dns::{Name, RecordType};
use crate::problem::{Problem, SourceId, Span};

/// Most octets of an RRset's records in an answer: 65 535 less header, question, EDNS and room for a signature. The
/// owner of each is a pointer.
const MAX_RRSET: usize = 65_535 - 1024;
/// Octets of a record before its data, the owner a pointer.
const RECORD_HEAD: usize = 12;

/// Checks the records of `zone`, whose main file is `file`, and drops repetitions.
pub(super) fn check(zone: &Name, file: SourceId, records: &mut Records, problems: &mut Problems) {
    let is_whole = problems.errors() == 0;
    let mut repeated = {
        let names = Names::new(zone, records);
        let mut check = Check { records, zone, names, problems, repeated: Vec::new() };
        check.sets();
        check.apex(file, is_whole);
        check.hidden();
        check.targets(is_whole);
        check.forgotten_dots();
        check.repeated
    };
    repeated.sort_unstable();
    records.remove(&repeated);
}

/// The name in lower case, in a buffer.
fn lower<'a>(wire: &[u8], buffer: &'a mut [u8; 255]) -> &'a [u8] {
    let lower = &mut buffer[..wire.len()];
    lower.copy_from_slice(wire);
    lower.make_ascii_lowercase();
    lower
}

struct Check<'a> {
    records: &'a Records,
    zone: &'a Name,
    names: Names<'a>,
    problems: &'a mut Problems,
    /// Records that repeat another.
    repeated: Vec<usize>,
}

impl<'a> Check<'a> {
    fn record(&self, index: usize) -> Record<'a> {
        self.records.get(index)
    }

    fn span(&self, index: usize) -> Span {
        self.record(index).span
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
        let records = self.records;
        let mut sorted: Vec<usize> = Vec::new();
        for number in 0..self.names.len() {
            sorted.clear();
            sorted.extend(self.names.records_at(number));
            if let [] | [_] = sorted[..] {
                self.alone(number, sorted.first().copied());
                continue;
            }
            self.beside(number, &sorted);
            let key = |index: usize| (records.rtype(index), records.get(index).rdata, index);
            sorted.sort_by(|a, b| key(*a).cmp(&key(*b)));
            for set in sorted.chunk_by(|a, b| records.rtype(*a) == records.rtype(*b)) {
                self.set(set);
            }
            self.at_wildcard(number);
        }
    }

    fn alone(&mut self, number: usize, only: Option<usize>) {
        if let Some(index) = only {
            let octets = self.record(index).rdata.len() + RECORD_HEAD;
            if octets > MAX_RRSET {
                self.too_large(index, octets);
            }
        }
        self.at_wildcard(number);
    }

    /// One RRset, sorted by data.
    fn set(&mut self, set: &[usize]) {
        let first = set.iter().copied().min().expect("chunks are not empty");
        let records = self.records;
        for pair in set.windows(2) {
            if records.get(pair[0]).rdata == records.get(pair[1]).rdata {
                self.repeated.push(pair[1]);
                self.warn(pair[1], "the same record again", Some((pair[0], "first here")));
            }
        }
        let ttl = |index: usize| records.get(index).ttl;
        let mut differing = set.iter().copied().filter(|index| ttl(*index) != ttl(first));
        if let Some(other) = differing.by_ref().min() {
            let lowest = set.iter().map(|index| ttl(*index)).min().unwrap_or(0);
            let record = records.get(other);
            let (owner, rtype) = (record.name(), record.rtype);
            let message = format!("{owner} {rtype} has several TTLs, the lowest is used: {lowest}");
            self.warn(other, message, Some((first, "another TTL here")));
        }
        self.single(set, first);
        let octets: usize = set.iter().map(|index| records.get(*index).rdata.len() + RECORD_HEAD).sum();
        if octets > MAX_RRSET {
            self.too_large(first, octets);
        }
    }

    fn too_large(&mut self, index: usize, octets: usize) {
        let record = self.record(index);
        let message = format!("the RRset {} {} has {octets} octets", record.name(), record.rtype);
        let problem = Problem::error(record.span, message);
        self.problems.push(problem.allowed(format!("at most {MAX_RRSET}, so that it fits one message")));
    }

    /// CNAME and DNAME are alone of their type.
    fn single(&mut self, set: &[usize], first: usize) {
        let record = self.record(first);
        if !matches!(record.rtype, RecordType::CNAME | RecordType::DNAME) {
            return;
        }
        let second = set.iter().copied().filter(|index| self.record(*index).rdata != record.rdata).min();
        if let Some(second) = second {
            let message = format!("{} has two {} records", record.name(), record.rtype);
            self.error(second, message, Some((first, "first here")));
        }
    }

    /// What must not stand beside one another; `all` in the order of the file.
    fn beside(&mut self, number: usize, all: &[usize]) {
        let at = self.names.at(number);
        let records = self.records;
        if let Some(cname) = at.cname()
            && let Some(other) = all.iter().copied().find(|index| records.rtype(*index) != RecordType::CNAME)
        {
            let record = records.get(other);
            let message = format!("{} has a CNAME beside {}", record.name(), record.rtype);
            self.error(cname, message, Some((other, "other data here")));
        }
        if let (Some(dname), Some(ns)) = (at.dname(), at.ns())
            && number != 0
        {
            let message = format!("{} has a DNAME beside the NS of a delegation", records.get(dname).name());
            self.error(dname, message, Some((ns, "delegated here")));
        }
    }

    fn at_wildcard(&mut self, number: usize) {
        let at = self.names.at(number);
        let is_wildcard = |index: &usize| self.record(*index).owner.starts_with(b"\x01*");
        let (dname, ns) = (at.dname().filter(is_wildcard), at.ns().filter(is_wildcard));
        if let Some(dname) = dname {
            self.error(dname, format!("a DNAME at the wildcard {}", self.record(dname).name()), None);
        }
        if let Some(ns) = ns {
            self.warn(ns, format!("NS at the wildcard {} delegates nothing else", self.record(ns).name()), None);
        }
    }

    fn apex(&mut self, file: SourceId, is_whole: bool) {
        let is_soa = |index: &usize| self.records.rtype(*index) == RecordType::SOA;
        let soas: Vec<usize> = (0..self.records.len()).filter(is_soa).collect();
        let mut first: Option<usize> = None;
        for soa in soas {
            let record = self.record(soa);
            if record.name() != *self.zone {
                let problem = Problem::error(record.span, format!("SOA at {}", record.name()));
                self.problems.push(problem.allowed(format!("SOA at {} only", self.zone)));
            } else if let Some(first) = first {
                // The same SOA again ends a transfer that was saved as a file; it has its warning.
                if self.record(first).rdata != record.rdata {
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
        if is_whole && self.names.at(0).ns().is_none() {
            self.problems.push(Problem::error(start, format!("no NS at {}", self.zone)));
        }
    }

    /// Names that a zone cut or a DNAME hides, one problem for each name.
    fn hidden(&mut self) {
        for number in 0..self.names.len() {
            let Some(first) = self.names.records_at(number).next() else { continue };
            let mut buffer = [0u8; 255];
            match self.names.cover(lower(self.record(first).owner, &mut buffer)) {
                Cover::Dname(dname) => {
                    let message = format!("{} is below a DNAME", self.record(first).name());
                    self.error(first, message, Some((dname, "the DNAME")));
                }
                Cover::Cut { index, strictly } => self.behind_cut(number, index, strictly),
                Cover::None => self.misplaced_ds(number),
            }
        }
    }

    fn behind_cut(&mut self, number: usize, cut: usize, strictly: bool) {
        let is_server = self.names.at(number).is_server;
        let is_served = |rtype| match rtype {
            RecordType::A | RecordType::AAAA => is_server,
            RecordType::NS | RecordType::DS => !strictly,
            // Has its error.
            RecordType::DNAME => !strictly,
            _ => false,
        };
        let occluded = self.names.records_at(number).find(|index| !is_served(self.records.rtype(*index)));
        if let Some(index) = occluded {
            let record = self.record(index);
            let place = if strictly { "below" } else { "at" };
            let message = format!("{} {} is {place} a zone cut and never answered", record.name(), record.rtype);
            self.warn(index, message, Some((cut, "delegated here")));
        }
    }

    fn misplaced_ds(&mut self, number: usize) {
        let ds = self.names.records_at(number).find(|index| self.records.rtype(*index) == RecordType::DS);
        if let Some(ds) = ds {
            let owner = self.record(ds).name();
            self.warn(ds, format!("DS at {owner}, which is not delegated here"), None);
        }
    }

    /// Names that NS, MX and SRV records point to.
    fn targets(&mut self, is_whole: bool) {
        for index in 0..self.records.len() {
            let start = match self.records.rtype(index) {
                RecordType::NS => 0,
                RecordType::MX => 2,
                RecordType::SRV => 6,
                _ => continue,
            };
            // The root says that there is no such service (RFC 7505, RFC 2782).
            let Some(target) = name_at(self.record(index).rdata, start).filter(|target| !target.is_root()) else {
                continue;
            };
            let mut buffer = [0u8; 255];
            let lower = lower(target.as_wire(), &mut buffer);
            if wire_is_at_or_below(lower, self.names.apex()) {
                self.target(index, &target, lower, is_whole);
            }
        }
    }

    fn target(&mut self, index: usize, target: &Name, lower: &[u8], is_whole: bool) {
        let record = self.record(index);
        let at = self.names.get(lower);
        if let Some(cname) = at.and_then(|at| at.cname()) {
            let message = format!("{} to {target}, which is an alias", record.rtype);
            return self.warn(index, message, Some((cname, "the CNAME")));
        }
        if !is_whole || at.is_some_and(|at| at.has_address) {
            return;
        }
        let cover = self.names.cover(lower);
        let is_delegation = record.rtype == RecordType::NS && record.name() != *self.zone;
        match cover {
            Cover::Cut { index: cut, .. } if is_delegation && self.record(cut).name() == record.name() => {
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
        let apex = self.names.apex();
        let doubled = [&apex[..apex.len() - 1], apex].concat();
        if self.zone.is_root() || doubled.len() > 255 {
            return;
        }
        for index in 0..self.records.len() {
            let Record { owner, rtype, rdata, .. } = self.record(index);
            let target = match rtype {
                RecordType::NS | RecordType::CNAME | RecordType::DNAME | RecordType::PTR => Some(rdata),
                RecordType::MX => rdata.get(2..),
                RecordType::SRV => rdata.get(6..),
                _ => None,
            };
            let names = std::iter::once(owner).chain(target);
            let mut found = names.filter(|name| wire_is_at_or_below(name, &doubled));
            if let Some(name) = found.next().and_then(|name| Name::from_wire(name).ok()) {
                let problem = Problem::warning(self.span(index), format!("{name} ends in the zone's name twice"));
                self.problems.push(problem.hint("a name that is complete ends in a dot"));
            }
        }
    }
}
