//! Queries as octets, and answers taken apart for comparison: names without compression and in lower case, records in an
//! order of their own. Written apart from the server's own code, so that both cannot be wrong alike.

use std::fmt;

use super::name::{self, Wire};

/// Header flags.
pub const QR: u16 = 0x8000;
pub const AA: u16 = 0x0400;
pub const TC: u16 = 0x0200;
pub const RD: u16 = 0x0100;
pub const RA: u16 = 0x0080;
/// Types and classes that rules speak of.
pub const NS: u16 = 2;
pub const CNAME: u16 = 5;
pub const SOA: u16 = 6;
pub const DNAME: u16 = 39;
pub const OPT: u16 = 41;
pub const ANY: u16 = 255;
pub const IN: u16 = 1;
pub const CH: u16 = 3;

/// EDNS options.
pub const NSID: u16 = 3;
pub const ECS: u16 = 8;
pub const ERROR: u16 = 15;

/// A query.
#[derive(Clone, Debug)]
pub struct Ask {
    pub flags: u16,
    pub name: Wire,
    pub qtype: u16,
    pub class: u16,
    pub edns: Option<Edns>,
    pub tcp: bool,
}

/// What its OPT says.
#[derive(Clone, Debug)]
pub struct Edns {
    pub payload: u16,
    pub version: u8,
    /// DO and those without a meaning.
    pub flags: u16,
    pub options: Vec<(u16, Vec<u8>)>,
}

impl Ask {
    /// A plain question over TCP.
    pub fn plain(name: Wire, qtype: u16) -> Ask {
        Ask { flags: 0, name, qtype, class: IN, edns: None, tcp: true }
    }

    pub fn opcode(&self) -> u16 {
        self.flags >> 11 & 15
    }

    /// The message, to be sent with this id.
    pub fn encode(&self, id: u16) -> Vec<u8> {
        let counts = [1, 0, 0, u16::from(self.edns.is_some())];
        let mut octets: Vec<u8> = [id, self.flags].into_iter().chain(counts).flat_map(u16::to_be_bytes).collect();
        octets.extend(&self.name);
        octets.extend([self.qtype, self.class].into_iter().flat_map(u16::to_be_bytes));
        if let Some(edns) = &self.edns {
            let options: Vec<u8> = edns.options.iter().flat_map(option).collect();
            octets.push(0);
            octets.extend(
                [OPT, edns.payload, u16::from(edns.version), edns.flags].into_iter().flat_map(u16::to_be_bytes),
            );
            octets.extend((options.len() as u16).to_be_bytes());
            octets.extend(options);
        }
        octets
    }
}

fn option((code, data): &(u16, Vec<u8>)) -> Vec<u8> {
    [&code.to_be_bytes()[..], &(data.len() as u16).to_be_bytes(), data].concat()
}

impl fmt::Display for Ask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, transport) = (name::text(&self.name), if self.tcp { "tcp" } else { "udp" });
        write!(f, "{name} class {} type {} flags {:04x} {transport}", self.class, self.qtype, self.flags)?;
        match &self.edns {
            None => Ok(()),
            Some(Edns { payload, version, flags, options }) => {
                write!(f, " edns {version} payload {payload} flags {flags:04x} options {options:02x?}")
            }
        }
    }
}

/// An answer, taken apart.
#[derive(Clone, PartialEq, Eq)]
pub struct Answer {
    /// Header flags with opcode, without rcode.
    pub flags: u16,
    /// With the upper bits of an OPT.
    pub rcode: u16,
    /// As it is in the message.
    pub question: Vec<u8>,
    /// Answer, authority, additional; each sorted.
    pub sections: [Vec<Record>; 3],
    pub opt: Option<Opt>,
    /// Octets of the message.
    pub length: usize,
}

/// A record but for those of EDNS.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Record {
    pub owner: Wire,
    pub rtype: u16,
    pub class: u16,
    pub ttl: u32,
    pub rdata: Vec<u8>,
}

/// An OPT, its payload aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opt {
    pub version: u8,
    pub flags: u16,
    pub options: Vec<(u16, Vec<u8>)>,
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Record { owner, rtype, class, ttl, rdata } = self;
        let shown = &rdata[..rdata.len().min(32)];
        write!(f, "{} {ttl} {class} {rtype} {}", name::text(owner), shown.escape_ascii())
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Answer { flags, rcode, question, sections: [answer, authority, additional], opt, length } = self;
        write!(f, "flags {flags:04x} rcode {rcode}, {length} octets, {} of question, opt {opt:02x?}", question.len())?;
        write!(f, "\n        {answer:?}\n        {authority:?}\n        {additional:?}")
    }
}

impl Answer {
    /// `None` when it is no message, or has two OPTs.
    pub fn parse(octets: &[u8]) -> Option<Answer> {
        let number = |at: usize| Some(u16::from_be_bytes([*octets.get(at)?, *octets.get(at + 1)?]));
        let flags = number(2)?;
        let mut at = 12;
        for _ in 0..number(4)? {
            at = expand(octets, at)?.1 + 4;
        }
        let question = octets.get(12..at)?.to_vec();
        let mut answer = Answer {
            flags: flags & !15,
            rcode: flags & 15,
            question,
            sections: Default::default(),
            opt: None,
            length: octets.len(),
        };
        for section in 0..3 {
            for _ in 0..number(6 + 2 * section)? {
                let (record, end) = record(octets, at)?;
                at = end;
                if record.rtype == OPT {
                    answer.take_opt(section, &record)?;
                } else {
                    answer.sections[section].push(record);
                }
            }
            answer.sections[section].sort_unstable();
        }
        Some(answer).filter(|_| at == octets.len())
    }

    fn take_opt(&mut self, section: usize, record: &Record) -> Option<()> {
        if section != 2 || self.opt.is_some() || record.owner != [0] {
            return None;
        }
        let [upper, version, high, low] = record.ttl.to_be_bytes();
        self.rcode |= u16::from(upper) << 4;
        let mut options = vec![];
        let mut rest = &record.rdata[..];
        while !rest.is_empty() {
            let (head, behind) = rest.split_first_chunk::<4>()?;
            let (data, behind) = behind.split_at_checked(usize::from(u16::from_be_bytes([head[2], head[3]])))?;
            options.push((u16::from_be_bytes([head[0], head[1]]), data.to_vec()));
            rest = behind;
        }
        options.sort_unstable();
        self.opt = Some(Opt { version, flags: u16::from_be_bytes([high, low]), options });
        Some(())
    }

    pub fn has(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }

    /// The target of the CNAME of `owner` in the answer section.
    pub fn cname(&self, owner: &[u8]) -> Option<&Wire> {
        let is = |record: &&Record| record.rtype == CNAME && record.owner == owner;
        self.sections[0].iter().find(is).map(|record| &record.rdata)
    }
}

/// A record with its data free of compression, and where the next one begins.
fn record(octets: &[u8], at: usize) -> Option<(Record, usize)> {
    let (owner, at) = expand(octets, at)?;
    let fixed = octets.get(at..)?.first_chunk::<10>()?;
    let number = |at: usize| u16::from_be_bytes([fixed[at], fixed[at + 1]]);
    let end = at + 10 + usize::from(number(8));
    let rtype = number(0);
    let rdata = plain(octets.get(..end)?, at + 10, rtype)?;
    let ttl = u32::from_be_bytes([fixed[4], fixed[5], fixed[6], fixed[7]]);
    Some((Record { owner, rtype, class: number(2), ttl, rdata }, end))
}

/// Record data without compression, names in it in lower case (RFC 4034 §6.2).
fn plain(octets: &[u8], start: usize, rtype: u16) -> Option<Vec<u8>> {
    // What stands before the names, and how many there are: NS, CNAME, SOA, PTR … have them first.
    let (before, names) = match rtype {
        2..=5 | 7..=9 | 12 | 39 => (0, 1),
        6 | 14 | 17 => (0, 2),
        15 | 18 | 21 | 36 => (2, 1),
        26 => (2, 2),
        33 => (6, 1),
        35 => (naptr_texts(octets.get(start..)?)?, 1),
        _ => (0, 0),
    };
    let mut data = octets.get(start..start + before)?.to_vec();
    let mut at = start + before;
    for _ in 0..names {
        let (name, end) = expand(octets, at)?;
        data.extend(name);
        at = end;
    }
    data.extend(octets.get(at..)?);
    Some(data)
}

/// Octets before the name of a NAPTR record: two numbers and three texts.
fn naptr_texts(data: &[u8]) -> Option<usize> {
    (0..3).try_fold(4, |at, _| Some(at + 1 + usize::from(*data.get(at)?)))
}

/// The name at `at` in lower case, and where what follows it begins. Pointers must lead backward.
fn expand(octets: &[u8], at: usize) -> Option<(Wire, usize)> {
    let (mut name, mut at, mut end, mut before) = (vec![], at, None, at);
    loop {
        let length = *octets.get(at)?;
        match length {
            0 => {
                name.push(0);
                let whole = Some(name).filter(|name| name.len() <= name::MAX_NAME);
                return Some((whole?, end.unwrap_or(at + 1)));
            }
            1..=63 => {
                name.extend(octets.get(at..=at + usize::from(length))?.to_ascii_lowercase());
                at += 1 + usize::from(length);
            }
            0xc0.. => {
                end.get_or_insert(at + 2);
                at = usize::from(u16::from_be_bytes([length & 0x3f, *octets.get(at + 1)?]));
                if at >= before {
                    return None;
                }
                before = at;
            }
            _ => return None,
        }
    }
}
