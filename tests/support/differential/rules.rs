//! Differences that there are for a reason, each as narrow as it can be told apart.

use super::message::{AA, ANY, Answer, Ask, CH, CNAME, DNAME, ECS, ERROR, IN, NS, Record, TC};
use super::servers::Peer;

/// What of two answers may differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Facet {
    Rcode,
    Flags,
    Question,
    Opt,
    Options,
    Answer,
    Authority,
    Additional,
}

/// Two answers to a query.
pub struct Case<'a> {
    pub peer: Peer,
    pub ask: &'a Ask,
    pub ours: &'a Answer,
    pub theirs: &'a Answer,
}

impl Case<'_> {
    /// In what they differ.
    pub fn facets(&self) -> Vec<Facet> {
        let (ours, theirs) = (self.ours, self.theirs);
        let seen = |answer: &Answer| answer.opt.as_ref().map(|opt| (opt.version, opt.flags));
        let options = |answer: &Answer| answer.opt.as_ref().map(|opt| opt.options.clone());
        let section = |number: usize| ours.sections[number] == theirs.sections[number];
        let same = [
            (Facet::Rcode, ours.rcode == theirs.rcode),
            (Facet::Flags, ours.flags == theirs.flags),
            (Facet::Question, ours.question == theirs.question),
            (Facet::Opt, seen(ours) == seen(theirs)),
            (Facet::Options, seen(ours) != seen(theirs) || options(ours) == options(theirs)),
            (Facet::Answer, section(0)),
            (Facet::Authority, section(1)),
            (Facet::Additional, section(2)),
        ];
        same.into_iter().filter(|(_, same)| !same).map(|(facet, _)| facet).collect()
    }

    /// The rule that explains why they differ in this.
    pub fn explain(&self, facet: Facet) -> Option<&'static str> {
        let rule = RULES.iter().find(|rule| rule.facets.contains(&facet) && (rule.is_so)(self))?;
        Some(rule.name)
    }

    /// What to tell differences of one kind from those of another by.
    pub fn bucket(&self) -> String {
        let Ask { flags, qtype, class, edns, tcp, .. } = self.ask;
        let qtype = if *qtype == ANY || !(1..249).contains(qtype) && *qtype < 256 {
            format!(" type {qtype}")
        } else {
            String::new()
        };
        let class = match *class {
            IN => "",
            3 => " class CH",
            ANY => " class ANY",
            _ => " class other",
        };
        let version = edns.as_ref().map_or(0, |edns| edns.version.min(1));
        let differ = self.ours.flags ^ self.theirs.flags;
        format!(" flags {differ:04x}, opcode {}{qtype}{class} edns {version} tcp {tcp}", flags >> 11)
    }
}

/// A difference and its reason.
pub struct Rule {
    pub name: &'static str,
    pub facets: &'static [Facet],
    pub is_so: fn(&Case<'_>) -> bool,
    /// Who is right, and by what.
    pub reason: &'static str,
}

use Facet::{Additional, Answer as InAnswer, Authority, Flags, Opt, Options, Question, Rcode};

/// The rules as a page.
pub fn page() -> String {
    let mut page = PAGE.to_owned();
    for Rule { name, facets, reason, .. } in RULES {
        let facets: Vec<String> = facets.iter().map(|facet| format!("{facet:?}").to_lowercase()).collect();
        page += &format!("| {name} | {} | {reason} |\n", facets.join(", "));
    }
    page
}

/// What stands before the table of the page.
const PAGE: &str = "\
# Where Waymark answers otherwise than NSD and Knot

`cargo bench --bench compare -- differential` serves generated zones from Waymark, NSD and Knot and asks all of them the
same. Answers must have the same code, flags, question, OPT (the payload aside) and sets of records, but for what stands
here. Of an answer that is cut off all is asked for over TCP. A chain of aliases that leads into another zone of the
server is followed by Waymark; NSD and Knot stop there, and are asked for the rest as a resolver would ask.

Written from `tests/support/differential/rules.rs`; `UPDATE_REFERENCE=1 cargo test differential` writes it anew.

| what | differs | who is right, and why |
|---|---|---|
";

/// All of them; the first that explains a difference counts.
pub const RULES: &[Rule] = &[
    Rule {
        name: "other opcodes",
        facets: &[Rcode, Flags, Question, Opt, Options],
        is_so: |case| case.ask.opcode() != 0 && case.is_bare(4),
        reason: "NOTIFY and UPDATE are for secondaries, which Waymark has none of yet: NOTIMP for all of them. What a message of \
                 another opcode consists of is not known, so no more than its OPT is read.",
    },
    Rule {
        name: "transfers",
        facets: &[Rcode],
        is_so: |case| {
            let is_no = (case.is_bare(5) || case.is_bare(9)) && [4, 9].contains(&case.theirs.rcode);
            [AXFR, IXFR].contains(&case.ask.qtype) && is_no
        },
        reason: "Zones that may not be copied: REFUSED, where others say NOTAUTH; and over UDP REFUSED or NOTAUTH, where others \
                 say NOTIMP. RFC 5936 §2.2.1 leaves that open.",
    },
    Rule {
        name: "type NXNAME",
        facets: &[Rcode, Flags, Options, InAnswer, Authority, Additional],
        is_so: |case| case.ask.qtype == NXNAME && case.is_bare(1),
        reason: "A type that stands in signed denials only must not be asked for: FORMERR (RFC 9824 §3.5).",
    },
    Rule {
        name: "type 0",
        facets: &[Rcode, Flags, InAnswer, Authority, Additional],
        is_so: |case| {
            case.peer == Peer::Knot
                && case.ask.qtype == 0
                && [0, 3, 5, 6].contains(&case.ours.rcode)
                && case.theirs.rcode == 4
        },
        reason: "Knot does not implement type 0, Waymark has it as a type of which there are no data (RFC 8906 §3.1.2).",
    },
    Rule {
        name: "two client subnets",
        facets: &[Rcode, Flags, Question, Options, InAnswer, Authority, Additional],
        is_so: |case| case.options(ECS) > 1 && case.is_bare(1),
        reason: "For which of two the answer would hold is not said: FORMERR, as for what is malformed (RFC 7871 §7.1.1).",
    },
    Rule {
        name: "options of another version",
        facets: &[Options],
        is_so: |case| case.ours.rcode == 16 && case.ours.opt.as_ref().is_some_and(|opt| opt.options.is_empty()),
        reason: "What options of a version mean that is not served is not known, NSID's and a client subnet's neither \
                 (RFC 6891 §6.1.3).",
    },
    Rule {
        name: "BADVERS of NSD",
        facets: &[Flags, Opt],
        is_so: |case| {
            let is_same_version = |opt: &super::message::Opt| opt.version == 0;
            case.peer == Peer::Nsd && case.ours.rcode == 16 && case.theirs.opt.as_ref().is_some_and(is_same_version)
        },
        reason: "NSD repeats all header flags with BADVERS, AA, RA and AD among them, and leaves out DO.",
    },
    Rule {
        name: "client subnets of NSD",
        facets: &[Options],
        is_so: |case| case.peer == Peer::Nsd && case.options(ECS) > 0 && case.differs_by_options(&[ECS, ERROR]),
        reason: "NSD knows no client subnet; Waymark repeats it, here with scope 0 (RFC 7871 §7.2.1).",
    },
    Rule {
        name: "extended errors",
        facets: &[Options],
        is_so: |case| [5, 6].contains(&case.ours.rcode) && case.differs_by_options(&[ERROR]),
        reason: "With REFUSED Waymark says that it is not authoritative (RFC 8914 §4.21), with YXDOMAIN NSD what became too \
                 long.",
    },
    Rule {
        name: "questions of other classes",
        facets: &[Question],
        is_so: |case| {
            case.peer == Peer::Nsd && ![IN, CH, ANY].contains(&case.ask.class) && case.theirs.question.is_empty()
        },
        reason: "NSD leaves out the question when it refuses a class.",
    },
    Rule {
        name: "AA in class ANY",
        facets: &[Flags],
        is_so: |case| case.ask.class == ANY && case.ours.flags ^ case.theirs.flags == AA && !case.ours.has(AA),
        reason: "An answer to class ANY is not authoritative (RFC 1035 §6.2), which Knot says it is.",
    },
    Rule {
        name: "SOA in class ANY",
        facets: &[Authority],
        is_so: |case| case.peer == Peer::Nsd && case.ask.class == ANY && case.theirs.sections[1].is_empty(),
        reason: "NSD leaves out the SOA of a negative answer to class ANY.",
    },
    Rule {
        name: "type ANY over UDP",
        facets: &[Flags, InAnswer, Authority, Additional],
        is_so: |case| {
            case.ask.qtype == ANY && !case.ask.tcp && case.ours.sections[0].iter().any(|record| record.rdata == RFC8482)
        },
        reason: "Waymark answers with HINFO, so that nobody gains from asking (RFC 8482 §4.2), NSD and Knot with one RRset \
                 (§4.1) or TC.",
    },
    Rule {
        name: "type ANY cut off",
        facets: &[Rcode, Flags, InAnswer, Authority, Additional],
        is_so: |case| {
            let differ = case.ours.flags ^ case.theirs.flags;
            let is_cut = case.theirs.has(TC) && differ & !TC == 0;
            case.ask.qtype == ANY && !case.ask.tcp && is_cut && case.has_all_of(0)
        },
        reason: "Of an answer that is cut off before its end the code says nothing; type ANY is not asked for again.",
    },
    Rule {
        name: "type ANY over TCP",
        facets: &[InAnswer, Additional],
        is_so: |case| {
            case.ask.qtype == ANY && case.ask.tcp && case.has_all_of(0) && !case.theirs.sections[0].is_empty()
        },
        reason: "Waymark answers with all there is, as nobody's address is forged over TCP, NSD and Knot with one RRset.",
    },
    Rule {
        name: "type ANY below a DNAME",
        facets: &[Rcode, Flags, InAnswer, Authority, Additional],
        is_so: |case| {
            case.peer == Peer::Knot
                && case.ask.qtype == ANY
                && case.has_all_of(0)
                && case.theirs.sections[0].iter().any(|record| record.rtype == DNAME)
                && case.theirs.sections[1].iter().all(|record| record.rtype == NS)
        },
        reason: "Behind a DNAME the search goes on whatever the type (RFC 6672 §3.2), as NSD has it as well; Knot stops.",
    },
    Rule {
        name: "YXDOMAIN",
        facets: &[Flags, InAnswer, Authority],
        is_so: |case| {
            let goes_on = case.has_none_but(0) && case.missing(0).all(|record| record.rtype == DNAME);
            let is_answer = case.ask.qtype == ANY || goes_on;
            case.peer == Peer::Knot && is_answer && (case.ours.rcode, case.theirs.rcode) == (6, 6)
        },
        reason: "Knot adds the SOA, the DNAME that stands at the target, and for type ANY another record, to YXDOMAIN. RFC \
                 6672 §3.2 asks for the DNAME alone.",
    },
    Rule {
        name: "types of signed zones",
        facets: &[Rcode, InAnswer, Authority, Additional],
        is_so: |case| {
            let is_alias = |record: &Record| [CNAME, DNAME].contains(&record.rtype);
            [RRSIG, NSEC, NSEC3].contains(&case.ask.qtype)
                && case.has_all_of(0)
                && case.extra(0).count() > 0
                && case.extra(0).all(is_alias)
        },
        reason: "RRSIG, NSEC and NSEC3 may stand beside a CNAME in a signed zone (RFC 4035 §2.5), so NSD and Knot do not \
                 follow it for them. Zones here are not signed: the CNAME counts for all types (RFC 1034 §3.6.2).",
    },
    Rule {
        name: "DNAMEs in a circle",
        facets: &[InAnswer],
        is_so: |case| {
            let mut once = case.theirs.sections[0].clone();
            once.dedup();
            case.peer == Peer::Knot && once.len() < case.theirs.sections[0].len() && once == case.ours.sections[0]
        },
        reason: "Knot writes the CNAME of a DNAME that leads in a circle several times, Waymark and NSD once: an RRset has \
                 no record twice (RFC 2181 §5).",
    },
    Rule {
        name: "payloads below 512",
        facets: &[Rcode, Flags, Opt, Options, InAnswer, Authority, Additional],
        is_so: |case| {
            let payload = case.ask.edns.as_ref().map_or(512, |edns| edns.payload);
            case.peer == Peer::Knot && payload < 12 && case.theirs.rcode == 1 && case.theirs.opt.is_none()
        },
        reason: "A payload below 512 means 512 (RFC 6891 §6.2.3); Knot has the smallest for malformed.",
    },
    Rule {
        name: "additional addresses",
        facets: &[Additional],
        is_so: |case| case.has_all_of(2) && case.extra(2).all(|record| case.is_target(&record.owner)),
        reason: "Waymark adds the addresses of NS, MX and SRV that are ours, from other zones too; NSD here adds none, and \
                 Knot those of the same zone.",
    },
    Rule {
        name: "additional addresses of a wildcard",
        facets: &[Additional],
        is_so: |case| {
            let mut missing = case.missing(2).peekable();
            case.peer == Peer::Knot && missing.peek().is_some() && missing.all(|record| case.is_target(&record.owner))
        },
        reason: "Knot adds addresses that a wildcard gives, Waymark those of names that exist. Nobody needs either.",
    },
    Rule {
        name: "additional addresses without room",
        facets: &[Additional],
        is_so: |case| {
            let (missing, extra) = (largest(case.missing(2)), largest(case.extra(2)));
            let is_full = |answer: &Answer, size: usize| !case.ask.tcp && answer.length + size > case.payload();
            match (missing, extra) {
                (Some(size), None) => is_full(case.ours, size),
                (None, Some(size)) => is_full(case.theirs, size),
                _ => false,
            }
        },
        reason: "Addresses beside what is in the domain of a zone cut are left out where there is no room for the RRset (RFC \
                 9471 §3.2).",
    },
];

/// Data of the HINFO that stands for all types.
const RFC8482: &[u8] = b"\x07RFC8482\x00";
/// Octets of a record before its data, the owner a pointer.
const ADDRESS: usize = 12;
const RRSIG: u16 = 46;
const NSEC: u16 = 47;
const NSEC3: u16 = 50;
const NXNAME: u16 = 128;
const IXFR: u16 = 251;
const AXFR: u16 = 252;

/// Octets of the largest RRset of some records.
fn largest<'r>(records: impl Iterator<Item = &'r Record>) -> Option<usize> {
    let mut sizes = std::collections::BTreeMap::new();
    for record in records {
        *sizes.entry((&record.owner, record.rtype)).or_insert(0) += ADDRESS + record.rdata.len();
    }
    sizes.into_values().max()
}

impl Case<'_> {
    /// Whether ours is this code and nothing else.
    fn is_bare(&self, rcode: u16) -> bool {
        self.ours.rcode == rcode && self.ours.sections.iter().all(Vec::is_empty)
    }

    /// How many options of a code were sent.
    fn options(&self, code: u16) -> usize {
        let options = self.ask.edns.iter().flat_map(|edns| &edns.options);
        options.filter(|option| option.0 == code).count()
    }

    /// Whether the same options are left without those.
    fn differs_by_options(&self, codes: &[u16]) -> bool {
        let others = |answer: &Answer| {
            let options = answer.opt.iter().flat_map(|opt| opt.options.clone());
            options.filter(|option| !codes.contains(&option.0)).collect::<Vec<_>>()
        };
        others(self.ours) == others(self.theirs)
    }

    /// Whether ours has every record that theirs has in a section.
    fn has_all_of(&self, section: usize) -> bool {
        self.theirs.sections[section].iter().all(|record| self.ours.sections[section].contains(record))
    }

    /// Whether ours has no record in a section that theirs has not.
    fn has_none_but(&self, section: usize) -> bool {
        self.extra(section).next().is_none()
    }

    /// What ours has in a section and theirs has not.
    fn extra(&self, section: usize) -> impl Iterator<Item = &Record> {
        self.ours.sections[section].iter().filter(move |record| !self.theirs.sections[section].contains(record))
    }

    /// What theirs has in a section and ours has not.
    fn missing(&self, section: usize) -> impl Iterator<Item = &Record> {
        self.theirs.sections[section].iter().filter(move |record| !self.ours.sections[section].contains(record))
    }

    /// How long an answer over UDP may be.
    fn payload(&self) -> usize {
        super::payload(self.ask)
    }

    /// Whether a record of the answer section leads to this name as NS, MX or SRV do.
    fn is_target(&self, name: &[u8]) -> bool {
        self.ours.sections[0].iter().any(|record| {
            let skip = match record.rtype {
                2 => 0,
                15 | 64 | 65 => 2,
                33 => 6,
                _ => return false,
            };
            // Behind the target of SVCB and HTTPS there are parameters.
            record.rdata.get(skip..).is_some_and(|target| target.starts_with(name))
        })
    }
}
