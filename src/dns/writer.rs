//! The answer writer: header, question, records with name compression, OPT; into a given buffer, nothing allocated.
//!
//! A whole RRset is written or none of it ([`Writer::mark`] and [`Writer::rewind`]); room for the OPT is kept back from the
//! start. Names are compressed against the names written before (RFC 1035 §4.1.4), in record data only where RFC 1035
//! itself defines the type (RFC 3597 §4). Most answers hold no name but the one asked: the positions of labels are
//! gathered when the first name is to be compressed, not before.

use std::net::IpAddr;

use super::name::MAX_LABEL;
use super::query::{FLAG_TC, HEADER, Last, Rcode, last_record};
use super::types::{Class, RecordType};

/// How many label positions are remembered; further names are written out in full.
const MAX_TARGETS: usize = 48;
/// Compression pointers have 14 bits.
const MAX_POINTER: usize = 0x3fff;
/// The first two bits of a pointer.
const POINTER: u16 = 0xc000;
/// Octets of a record's type, class, TTL and RDLENGTH.
const FIXED: usize = 10;
/// Octets of an OPT without options.
pub const OPT: usize = 11;

/// A section of a message, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    /// Answers.
    Answer = 6,
    /// SOA of negative answers, NS of referrals.
    Authority = 8,
    /// Glue and OPT.
    Additional = 10,
}

/// Did not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// A state to return to.
#[derive(Clone, Copy)]
pub struct Mark {
    length: usize,
    targets: usize,
    counts: [u8; 6],
}

/// Where the labels of names were written; the room belongs to the thread.
#[derive(Clone, Debug)]
pub struct Targets {
    /// Positions in the message.
    at: [u16; MAX_TARGETS],
    /// Octets that the name from there on has when uncompressed.
    lengths: [u8; MAX_TARGETS],
    /// How many there are; none before the first name is compressed.
    count: usize,
}

impl Default for Targets {
    fn default() -> Targets {
        Targets { at: [0; MAX_TARGETS], lengths: [0; MAX_TARGETS], count: 0 }
    }
}

/// Writes one message.
pub struct Writer<'a> {
    out: &'a mut [u8],
    length: usize,
    limit: usize,
    targets: &'a mut Targets,
    /// Where the data of the record written last begin.
    rdata_at: usize,
}

impl<'a> Writer<'a> {
    /// Begins a message of at most `limit` octets that answers `head`: header and question of a query, or its header
    /// alone. Its id and question are repeated, the flags are these, the counts 0. The buffer must hold `head`.
    pub fn new(out: &'a mut [u8], targets: &'a mut Targets, limit: usize, flags: u16, head: &[u8]) -> Writer<'a> {
        let limit = limit.min(out.len());
        let length = head.len();
        out[..length].copy_from_slice(head);
        let [high, low] = flags.to_be_bytes();
        let questions = u8::from(length > HEADER);
        out[2..HEADER].copy_from_slice(&[high, low, 0, questions, 0, 0, 0, 0, 0, 0]);
        targets.count = 0;
        Writer { out, length, limit, targets, rdata_at: length }
    }

    /// Octets written so far.
    #[must_use]
    pub fn length(&self) -> usize {
        self.length
    }

    /// Keeps `octets` back for the OPT; [`Writer::release`] gives them free.
    pub fn reserve(&mut self, octets: usize) {
        self.limit = self.limit.saturating_sub(octets);
    }

    /// Gives `octets` free that were kept back.
    pub fn release(&mut self, octets: usize) {
        self.limit = (self.limit + octets).min(self.out.len());
    }

    /// How many octets the message may have in all.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Sets further header flags.
    pub fn set_flags(&mut self, flags: u16) {
        let [high, low] = flags.to_be_bytes();
        self.out[2] |= high;
        self.out[3] |= low;
    }

    /// Clears header flags.
    pub fn clear_flags(&mut self, flags: u16) {
        let [high, low] = flags.to_be_bytes();
        self.out[2] &= !high;
        self.out[3] &= !low;
    }

    /// Sets the lower four bits of the response code.
    pub fn set_rcode(&mut self, rcode: Rcode) {
        self.out[3] = (self.out[3] & 0xf0) | (rcode.0 & 0x0f) as u8;
    }

    /// Where to return to when what follows does not fit.
    #[must_use]
    pub fn mark(&self) -> Mark {
        let mut counts = [0; 6];
        counts.copy_from_slice(&self.out[6..HEADER]);
        Mark { length: self.length, targets: self.targets.count, counts }
    }

    /// Forgets all that was written since.
    pub fn rewind(&mut self, mark: Mark) {
        self.length = mark.length;
        self.targets.count = mark.targets;
        self.out[6..HEADER].copy_from_slice(&mark.counts);
    }

    /// How many records a section has.
    #[must_use]
    pub fn count(&self, section: Section) -> u16 {
        let at = section as usize;
        u16::from_be_bytes([self.out[at], self.out[at + 1]])
    }

    /// Copies `count` encoded records, and returns them as they stand in the message. Their names are no targets of
    /// later pointers.
    ///
    /// # Errors
    /// [`Full`] when they do not fit; then nothing was written.
    pub fn copy(&mut self, section: Section, records: &[u8], count: u16) -> Result<&mut [u8], Full> {
        let start = self.length;
        self.put(records)?;
        self.add(section, count);
        Ok(&mut self.out[start..self.length])
    }

    /// Writes a record of class IN.
    ///
    /// # Errors
    /// [`Full`] when it does not fit; the message is then to be rewound.
    pub fn record(
        &mut self,
        section: Section,
        owner: Owner<'_>,
        rtype: RecordType,
        ttl: u32,
        rdata: &[u8],
    ) -> Result<(), Full> {
        self.record_of_class(section, owner, rtype, Class::IN, ttl, rdata)
    }

    /// Writes an A or AAAA record in the answer section.
    ///
    /// # Errors
    /// As [`Writer::record`].
    pub fn address(&mut self, owner: Owner<'_>, ttl: u32, address: IpAddr) -> Result<(), Full> {
        let (v4, v6);
        let (rtype, rdata): (RecordType, &[u8]) = match (address, owner.pointer()) {
            (IpAddr::V4(address), Some([high, low])) => {
                let ([ttl0, ttl1, ttl2, ttl3], [a, b, c, d]) = (ttl.to_be_bytes(), address.octets());
                self.put(&[high, low, 0, 1, 0, 1, ttl0, ttl1, ttl2, ttl3, 0, 4, a, b, c, d])?;
                self.add(Section::Answer, 1);
                return Ok(());
            }
            (IpAddr::V4(address), None) => {
                v4 = address.octets();
                (RecordType::A, &v4)
            }
            (IpAddr::V6(address), _) => {
                v6 = address.octets();
                (RecordType::AAAA, &v6)
            }
        };
        self.record(Section::Answer, owner, rtype, ttl, rdata)
    }

    /// [`Writer::record`] in another class than IN.
    ///
    /// # Errors
    /// [`Full`] when it does not fit.
    pub fn record_of_class(
        &mut self,
        section: Section,
        owner: Owner<'_>,
        rtype: RecordType,
        class: Class,
        ttl: u32,
        rdata: &[u8],
    ) -> Result<(), Full> {
        let mut head = [0u8; 2 + FIXED];
        head[2..4].copy_from_slice(&rtype.0.to_be_bytes());
        head[4..6].copy_from_slice(&class.0.to_be_bytes());
        head[6..10].copy_from_slice(&ttl.to_be_bytes());
        head[10..].copy_from_slice(&(rdata.len() as u16).to_be_bytes());
        match owner.pointer() {
            Some(pointer) => {
                head[..2].copy_from_slice(&pointer);
                self.put(&head)?;
            }
            None => {
                self.name(owner.name())?;
                self.put(&head[2..])?;
            }
        }
        self.rdata_at = self.length;
        match names_in(rtype) {
            None => self.put(rdata)?,
            Some(names) => self.rdata(names, rdata)?,
        }
        self.add(section, 1);
        Ok(())
    }

    /// Begins a record of class IN, whose data follow by [`Writer::append`].
    ///
    /// # Errors
    /// [`Full`] when it does not fit; the message is then to be rewound.
    pub fn begin(&mut self, section: Section, owner: Owner<'_>, rtype: RecordType, ttl: u32) -> Result<(), Full> {
        self.record(section, owner, rtype, ttl, &[])
    }

    /// Adds to the data of the record written last.
    ///
    /// # Errors
    /// As [`Writer::begin`].
    pub fn append(&mut self, octets: &[u8]) -> Result<(), Full> {
        self.put(octets)?;
        self.set_rdlength();
        Ok(())
    }

    /// Takes back octets that were added last to the data of the record written last, in which no name begins.
    pub fn take_back(&mut self, octets: usize) {
        self.length -= octets.min(self.length - self.rdata_at.min(self.length));
        self.set_rdlength();
    }

    /// Replaces two octets that were written before, for a length that is known only now.
    pub fn overwrite(&mut self, at: usize, octets: [u8; 2]) {
        self.out[..self.length][at..at + 2].copy_from_slice(&octets);
    }

    /// Where the name is that the data of the record written last begin with, when a pointer can say so.
    #[must_use]
    pub fn name_in_rdata(&self) -> Option<u16> {
        self.name_at(self.rdata_at)
    }

    /// Where a pointer to the name that was written at `at` is to lead, when one can.
    #[must_use]
    pub fn name_at(&self, at: usize) -> Option<u16> {
        let octets = self.out[..self.length].get(at..)?;
        match *octets.first()? {
            0 => None,
            high @ 0xc0.. => Some(u16::from_be_bytes([high & 0x3f, *octets.get(1)?])),
            _ => Some(at as u16).filter(|_| at <= MAX_POINTER),
        }
    }

    /// Writes an OPT record with `options`, which are encoded already; [`Writer::option`] adds others.
    ///
    /// # Errors
    /// [`Full`] when it does not fit; the message is then to be rewound.
    #[inline]
    pub fn opt(&mut self, payload: u16, rcode: Rcode, dnssec_ok: bool, options: &[u8]) -> Result<(), Full> {
        let [payload_high, payload_low] = payload.to_be_bytes();
        let [_, rtype] = RecordType::OPT.0.to_be_bytes();
        let dnssec_ok = if dnssec_ok { 0x80 } else { 0 };
        let extended = (rcode.0 >> 4) as u8;
        let [high, low] = (options.len() as u16).to_be_bytes();
        self.put(&[0, 0, rtype, payload_high, payload_low, extended, 0, dnssec_ok, 0, high, low])?;
        self.rdata_at = self.length;
        if !options.is_empty() {
            self.put(options)?;
        }
        self.add(Section::Additional, 1);
        Ok(())
    }

    /// Adds an option, whose data are these parts, to the OPT that was written last.
    ///
    /// # Errors
    /// [`Full`] when it does not fit; then nothing was written.
    pub fn option(&mut self, code: u16, parts: [&[u8]; 2]) -> Result<(), Full> {
        let [first, second] = parts;
        let data = first.len() + second.len();
        if self.length + 4 + data > self.limit {
            return Err(Full);
        }
        let ([code_high, code_low], [high, low]) = (code.to_be_bytes(), (data as u16).to_be_bytes());
        self.put(&[code_high, code_low, high, low])?;
        self.put(first)?;
        self.put(second)?;
        self.set_rdlength();
        Ok(())
    }

    fn add(&mut self, section: Section, records: u16) {
        let count = self.count(section).saturating_add(records);
        let at = section as usize;
        self.out[at..at + 2].copy_from_slice(&count.to_be_bytes());
    }

    /// Writes how long the data of the record written last are.
    fn set_rdlength(&mut self) {
        let octets = (self.length - self.rdata_at) as u16;
        self.out[self.rdata_at - 2..self.rdata_at].copy_from_slice(&octets.to_be_bytes());
    }

    fn put(&mut self, octets: &[u8]) -> Result<(), Full> {
        let end = self.length + octets.len();
        if end > self.limit {
            return Err(Full);
        }
        self.out[self.length..end].copy_from_slice(octets);
        self.length = end;
        Ok(())
    }

    /// Record data with names to be compressed.
    fn rdata(&mut self, names: Names, rdata: &[u8]) -> Result<(), Full> {
        let mut rest = rdata;
        // Loading has checked the layout; data cut short is written as it is.
        if let Some((head, tail)) = rest.split_at_checked(names.before) {
            self.put(head)?;
            rest = tail;
        }
        for _ in 0..names.count {
            let Some(end) = name_length(rest) else { break };
            self.name(&rest[..end])?;
            rest = &rest[end..];
        }
        self.put(rest)?;
        self.set_rdlength();
        Ok(())
    }

    /// A name, compressed; `wire` is uncompressed.
    fn name(&mut self, wire: &[u8]) -> Result<(), Full> {
        if self.targets.count == 0 {
            self.remember_question();
        }
        let start = self.length;
        let mut at = 0;
        while wire[at] != 0 {
            if let Some(target) = self.find(&wire[at..]) {
                self.put(&wire[..at])?;
                self.remember(start, at, wire.len());
                return self.put(&(POINTER | target).to_be_bytes());
            }
            at += 1 + wire[at] as usize;
        }
        self.put(wire)?;
        self.remember(start, at, wire.len());
        Ok(())
    }

    /// The position of a name equal to `wire` that was written before.
    fn find(&self, wire: &[u8]) -> Option<u16> {
        let Targets { at, lengths, count } = &*self.targets;
        let mut next = 0;
        while let Some(found) = lengths[next..*count].iter().position(|length| usize::from(*length) == wire.len()) {
            let target = at[next + found];
            if self.equals(usize::from(target), wire) {
                return Some(target);
            }
            next += found + 1;
        }
        None
    }

    /// Whether the name at `at` in the message, pointers followed, is `wire`. Pointers here were written by us and lead
    /// backward only.
    fn equals(&self, mut at: usize, mut wire: &[u8]) -> bool {
        // A name written in full, in the same case.
        if self.out[at..self.length].starts_with(wire) {
            return true;
        }
        loop {
            let length = self.out[at];
            if length & 0xc0 == 0xc0 {
                at = usize::from(u16::from_be_bytes([length & 0x3f, self.out[at + 1]]));
                continue;
            }
            let end = 1 + length as usize;
            if wire.len() < end || !self.out[at..at + end].eq_ignore_ascii_case(&wire[..end]) {
                return false;
            }
            if length == 0 {
                return true;
            }
            at += end;
            wire = &wire[end..];
        }
    }

    /// Remembers the labels of the question's name.
    fn remember_question(&mut self) {
        let has_question = self.out[5] != 0;
        if let Some(length) = name_length(&self.out[HEADER..self.length]).filter(|_| has_question) {
            self.remember(HEADER, length - 1, length);
        }
    }

    /// Remembers the labels in the `octets` written at `start`; they begin a name of `length` octets.
    fn remember(&mut self, start: usize, octets: usize, length: usize) {
        let targets = &mut *self.targets;
        let mut at = 0;
        while at < octets && start + at <= MAX_POINTER && targets.count < MAX_TARGETS {
            targets.at[targets.count] = (start + at) as u16;
            targets.lengths[targets.count] = (length - at) as u8;
            targets.count += 1;
            at += 1 + usize::from(self.out[start + at]);
        }
    }
}

/// The owner of a record to be written.
#[derive(Clone, Copy)]
pub enum Owner<'a> {
    /// The name asked.
    Question,
    /// The name that was written at this place of the message, at most 2^14 - 1.
    At(u16),
    /// This name, uncompressed wire format.
    Name(&'a [u8]),
}

impl Owner<'_> {
    /// The pointer that it is written as; none for a name that is not known to stand in the message.
    #[must_use]
    pub fn pointer(self) -> Option<[u8; 2]> {
        match self {
            Owner::Question => Some((POINTER | HEADER as u16).to_be_bytes()),
            Owner::At(at) => Some((POINTER | at).to_be_bytes()),
            Owner::Name(_) => None,
        }
    }

    fn name(&self) -> &[u8] {
        match self {
            Owner::Name(wire) => wire,
            Owner::Question | Owner::At(_) => &[0],
        }
    }
}

/// Names in record data that may be compressed.
#[derive(Clone, Copy)]
struct Names {
    /// Octets before them.
    before: usize,
    count: usize,
}

/// The names in the data of a type that may be compressed: those of RFC 1035 alone.
fn names_in(rtype: RecordType) -> Option<Names> {
    let (before, count) = match rtype {
        RecordType::NS | RecordType::CNAME | RecordType::PTR => (0, 1),
        RecordType::MB | RecordType::MD | RecordType::MF | RecordType::MG | RecordType::MR => (0, 1),
        RecordType::SOA | RecordType::MINFO => (0, 2),
        RecordType::MX => (2, 1),
        _ => return None,
    };
    Some(Names { before, count })
}

/// Whether data of this type hold names that are compressed; all other data are copied as they are.
#[must_use]
pub fn is_compressed(rtype: RecordType) -> bool {
    names_in(rtype).is_some()
}

/// Octets of the uncompressed name at the start of `wire`.
#[must_use]
pub fn name_length(wire: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        let length = *wire.get(at)? as usize;
        if length > MAX_LABEL {
            return None;
        }
        at += 1 + length;
        if length == 0 {
            return Some(at);
        }
    }
}

/// Cuts an answer that is too long for its way (RFC 9715 §3.1) down to its question and its OPT, and marks it as
/// truncated; its octets then. `None` when it is signed, or no answer.
#[must_use]
pub fn cut(answer: &mut [u8]) -> Option<usize> {
    let Last { question_end, at, rtype } = last_record(answer)?;
    if rtype == RecordType::TSIG {
        return None;
    }
    // Whoever writes an OPT writes it last.
    let (opt, end) = if rtype == RecordType::OPT { (at, answer.len()) } else { (0, 0) };
    answer.copy_within(opt..end, question_end);
    let [truncated, _] = FLAG_TC.to_be_bytes();
    answer[2] |= truncated;
    answer[6..HEADER].copy_from_slice(&[0, 0, 0, 0, 0, u8::from(end > 0)]);
    Some(question_end + end - opt)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::Name;
    use hickory_proto::op::Message;

    fn wire(text: &str) -> Vec<u8> {
        Name::parse(text, None).expect("a name").as_wire().to_vec()
    }

    /// Header and question of a query for A.
    fn query(text: &str) -> Vec<u8> {
        [&[0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1], &wire(text)[..], &[0, 1, 0, 1]].concat()
    }

    #[test]
    fn compresses_against_all_names_before() {
        let mut buffer = [0u8; 512];
        let mut targets = Targets::default();
        let mut writer = Writer::new(&mut buffer, &mut targets, 512, 0x8400, &query("WWW.example.com"));
        let soa = [&wire("ns1.Example.com")[..], &wire("hostmaster.ns1.example.com"), &[0; 20]].concat();
        writer.record(Section::Answer, Owner::Question, RecordType::CNAME, 5, &wire("a.example.com")).expect("fits");
        writer.record(Section::Authority, Owner::Name(&wire("example.com")), RecordType::SOA, 30, &soa).expect("fits");
        writer
            .record(Section::Additional, Owner::Name(&wire("a.example.com")), RecordType::A, 5, &[192, 0, 2, 1])
            .expect("fits");
        let length = writer.length();
        // question 33; CNAME 2+10+4; SOA 2+10+(6)+(13)+20; A 2+10+4
        assert_eq!(length, 33 + 16 + 51 + 16);
        let message = Message::from_vec(&buffer[..length]).expect("hickory reads it");
        assert_eq!(message.answers[0].data.to_string(), "a.example.com.");
        let authority = message.authorities[0].to_string();
        assert!(authority.contains("ns1.example.com. hostmaster.ns1.example.com."), "{authority}");
        assert_eq!(message.additionals[0].name.to_string(), "a.example.com.");
    }

    #[test]
    fn forgets_names_that_were_rewound() {
        let mut buffer = [0u8; 512];
        let mut targets = Targets::default();
        let mut writer = Writer::new(&mut buffer, &mut targets, 512, 0x8400, &query("www.example.com"));
        let (mark, gone) = (writer.mark(), wire("gone.example.org"));
        writer.record(Section::Answer, Owner::Question, RecordType::CNAME, 5, &gone).expect("fits");
        assert_eq!(writer.name_in_rdata(), Some(33 + 12));
        writer.rewind(mark);
        writer.record(Section::Answer, Owner::Name(&gone), RecordType::A, 5, &[192, 0, 2, 1]).expect("fits");
        // Owner in full, then a pointer to it.
        assert_eq!(writer.length(), 33 + 18 + 10 + 4);
        writer.record(Section::Answer, Owner::At(33), RecordType::PTR, 5, &gone).expect("fits");
        assert_eq!((writer.length(), writer.name_in_rdata()), (65 + 2 + 10 + 2, Some(33)));
        writer.record(Section::Answer, Owner::Question, RecordType::PTR, 5, &[0]).expect("fits");
        assert_eq!(writer.name_in_rdata(), None);
        let length = writer.length();
        let message = Message::from_vec(&buffer[..length]).expect("hickory reads it");
        assert_eq!(message.answers[1].to_string(), "gone.example.org. 5 IN PTR gone.example.org.");
    }

    #[test]
    fn leaves_names_of_later_types_alone() {
        let mut buffer = [0u8; 512];
        let mut targets = Targets::default();
        let mut writer = Writer::new(&mut buffer, &mut targets, 512, 0x8400, &query("example.com"));
        let srv = [&[0, 1, 0, 2, 0, 80][..], &wire("a.example.com")].concat();
        writer.record(Section::Answer, Owner::Question, RecordType::SRV, 5, &srv).expect("fits");
        assert_eq!(writer.length(), HEADER + 17 + 12 + srv.len());
    }

    #[test]
    fn cut_to_question_and_opt() {
        for (has_opt, end) in [(true, 33 + OPT + 5), (false, 33)] {
            let mut buffer = [0u8; 512];
            let mut targets = Targets::default();
            let mut writer = Writer::new(&mut buffer, &mut targets, 512, 0x8400, &query("www.example.com"));
            writer.record(Section::Answer, Owner::Question, RecordType::TXT, 5, &[7; 200]).expect("fits");
            writer
                .record(Section::Authority, Owner::Name(&wire("example.com")), RecordType::NS, 5, &wire("ns"))
                .expect("fits");
            if has_opt {
                writer.opt(1232, Rcode::NOERROR, true, &[0, 3, 0, 1, 9]).expect("fits");
            }
            let length = writer.length();
            assert_eq!(cut(&mut buffer[..length]), Some(end));
            let message = Message::from_vec(&buffer[..end]).expect("hickory reads it");
            assert!(message.metadata.truncation && message.metadata.authoritative && message.queries.len() == 1);
            assert!(message.answers.is_empty() && message.authorities.is_empty() && message.additionals.is_empty());
            assert_eq!(message.edns.map(|edns| edns.max_payload()), has_opt.then_some(1232));
            // There is no more to cut.
            assert_eq!(cut(&mut buffer[..end]), Some(end));
        }
    }

    #[test]
    fn what_is_signed_or_no_answer_is_not_cut() {
        let mut buffer = [0u8; 512];
        let mut targets = Targets::default();
        let mut writer = Writer::new(&mut buffer, &mut targets, 512, 0x8400, &query("www.example.com"));
        writer.record(Section::Additional, Owner::Name(&[0]), RecordType::TSIG, 0, &[0; 16]).expect("fits");
        let length = writer.length();
        for length in 0..=length {
            let whole = buffer;
            assert_eq!(cut(&mut buffer[..length]), None, "{length}");
            assert_eq!(buffer, whole);
        }
    }

    #[test]
    fn rewinds_what_does_not_fit() {
        let mut buffer = [0u8; 512];
        let mut targets = Targets::default();
        let mut writer = Writer::new(&mut buffer, &mut targets, 80, 0x8400, &query("www.example.com"));
        let mark = writer.mark();
        let mut written = 0;
        while writer.record(Section::Answer, Owner::Question, RecordType::A, 5, &[192, 0, 2, written]).is_ok() {
            written += 1;
        }
        assert_eq!((written, writer.count(Section::Answer)), (2, 2));
        writer.rewind(mark);
        assert_eq!((writer.length(), writer.count(Section::Answer)), (33, 0));
    }

    #[test]
    fn writes_many_long_names() {
        let mut buffer = vec![0u8; 65_535];
        let mut targets = Targets::default();
        let mut writer = Writer::new(&mut buffer, &mut targets, 65_535, 0x8400, &query("example.com"));
        for index in 0..500 {
            let name = format!("{index}{}.{}.example.com", "a".repeat(40), "b".repeat(60));
            writer.record(Section::Answer, Owner::Question, RecordType::NS, 5, &wire(&name)).expect("fits");
        }
        let length = writer.length();
        assert_eq!(Message::from_vec(&buffer[..length]).expect("hickory reads it").answers.len(), 500);
    }
}
