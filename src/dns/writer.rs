//! The answer writer: header, question, records with name compression, OPT; into a given buffer, nothing allocated.
//!
//! A whole RRset is written or none of it ([`Writer::mark`] and [`Writer::rewind`]); room for the OPT is kept back from the
//! start. Names are compressed against the names written before (RFC 1035 §4.1.4), in record data only where RFC 1035
//! itself defines the type (RFC 3597 §4).

use super::name::MAX_LABEL;
use super::query::{HEADER, Rcode};
use super::types::{Class, RecordType};

/// How many label positions are remembered; further names are written out in full.
const MAX_TARGETS: usize = 48;
/// Compression pointers have 14 bits.
const MAX_POINTER: usize = 0x3fff;

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

/// Writes one message.
pub struct Writer<'a> {
    out: &'a mut [u8],
    length: usize,
    limit: usize,
    targets: [u16; MAX_TARGETS],
    target_count: usize,
}

impl<'a> Writer<'a> {
    /// Begins a message of at most `limit` octets with a header (counts 0) and the octets of a question; `question` may
    /// be empty, then QDCOUNT is 0. The buffer must hold header and question.
    pub fn new(out: &'a mut [u8], limit: usize, id: u16, flags: u16, question: &[u8]) -> Writer<'a> {
        let limit = limit.min(out.len());
        out[..2].copy_from_slice(&id.to_be_bytes());
        out[2..4].copy_from_slice(&flags.to_be_bytes());
        out[4..HEADER].fill(0);
        out[5] = u8::from(!question.is_empty());
        out[HEADER..HEADER + question.len()].copy_from_slice(question);
        let length = HEADER + question.len();
        let mut writer = Writer { out, length, limit, targets: [0; MAX_TARGETS], target_count: 0 };
        if !question.is_empty() {
            writer.remember(HEADER);
        }
        writer
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
        counts.copy_from_slice(&self.out[6..12]);
        Mark { length: self.length, targets: self.target_count, counts }
    }

    /// Forgets all that was written since.
    pub fn rewind(&mut self, mark: Mark) {
        self.length = mark.length;
        self.target_count = mark.targets;
        self.out[6..12].copy_from_slice(&mark.counts);
    }

    /// How many records a section has.
    #[must_use]
    pub fn count(&self, section: Section) -> u16 {
        let at = section as usize;
        u16::from_be_bytes([self.out[at], self.out[at + 1]])
    }

    /// Writes a record whose owner is the name at `owner_at` in the message (12: the name asked) if not 0, else `owner`.
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
        match owner {
            Owner::Question => self.put(&[0xc0, HEADER as u8])?,
            Owner::Name(wire) => self.name(wire)?,
        }
        let mut fixed = [0u8; 10];
        fixed[..2].copy_from_slice(&rtype.0.to_be_bytes());
        fixed[2..4].copy_from_slice(&Class::IN.0.to_be_bytes());
        fixed[4..8].copy_from_slice(&ttl.to_be_bytes());
        self.put(&fixed)?;
        let rdata_at = self.length;
        self.rdata(rtype, rdata)?;
        let octets = (self.length - rdata_at) as u16;
        self.out[rdata_at - 2..rdata_at].copy_from_slice(&octets.to_be_bytes());
        self.increment(section);
        Ok(())
    }

    /// Writes an OPT record with options already encoded; uses what was kept back.
    ///
    /// # Errors
    /// [`Full`] when it does not fit.
    pub fn opt(&mut self, payload: u16, rcode: Rcode, dnssec_ok: bool, options: &[u8]) -> Result<(), Full> {
        let mut fixed = [0u8; 11];
        fixed[1..3].copy_from_slice(&RecordType::OPT.0.to_be_bytes());
        fixed[3..5].copy_from_slice(&payload.to_be_bytes());
        fixed[5] = (rcode.0 >> 4) as u8;
        fixed[7] = if dnssec_ok { 0x80 } else { 0 };
        fixed[9..11].copy_from_slice(&(options.len() as u16).to_be_bytes());
        self.put(&fixed)?;
        self.put(options)?;
        self.increment(Section::Additional);
        Ok(())
    }

    fn increment(&mut self, section: Section) {
        let count = self.count(section).saturating_add(1);
        let at = section as usize;
        self.out[at..at + 2].copy_from_slice(&count.to_be_bytes());
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

    /// Record data; names in it are compressed for the types of RFC 1035 alone.
    fn rdata(&mut self, rtype: RecordType, rdata: &[u8]) -> Result<(), Full> {
        let (before, names) = match rtype {
            RecordType::NS | RecordType::CNAME | RecordType::PTR => (0, 1),
            RecordType::MB | RecordType::MD | RecordType::MF | RecordType::MG | RecordType::MR => (0, 1),
            RecordType::SOA | RecordType::MINFO => (0, 2),
            RecordType::MX => (2, 1),
            _ => return self.put(rdata),
        };
        let mut rest = rdata;
        // Loading has checked the layout; data cut short is written as it is.
        if let Some((head, tail)) = rest.split_at_checked(before) {
            self.put(head)?;
            rest = tail;
        }
        for _ in 0..names {
            let Some(end) = name_length(rest) else { break };
            self.name(&rest[..end])?;
            rest = &rest[end..];
        }
        self.put(rest)
    }

    /// A name, compressed; `wire` is uncompressed.
    fn name(&mut self, wire: &[u8]) -> Result<(), Full> {
        let mut at = 0;
        while wire[at] != 0 {
            if let Some(target) = self.find(&wire[at..]) {
                self.put(&wire[..at])?;
                self.remember_labels(self.length - at, at);
                return self.put(&(0xc000 | target).to_be_bytes());
            }
            at += 1 + wire[at] as usize;
        }
        let start = self.length;
        self.put(wire)?;
        self.remember_labels(start, at);
        Ok(())
    }

    /// The position of a name equal to `wire` that was written before.
    fn find(&self, wire: &[u8]) -> Option<u16> {
        self.targets[..self.target_count].iter().copied().find(|&target| self.equals(target as usize, wire))
    }

    /// Whether the name at `at` in the message, pointers followed, is `wire`. Pointers here were written by us and lead
    /// backward only.
    fn equals(&self, mut at: usize, mut wire: &[u8]) -> bool {
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

    /// Remembers the labels of a name written out in full at `at` (the question).
    fn remember(&mut self, at: usize) {
        let length = name_length(&self.out[at..self.length]).unwrap_or(1);
        self.remember_labels(at, length - 1);
    }

    /// Remembers the positions of the labels in the `octets` written at `start`.
    fn remember_labels(&mut self, start: usize, octets: usize) {
        let mut at = start;
        while at < start + octets && at <= MAX_POINTER && self.target_count < MAX_TARGETS {
            self.targets[self.target_count] = at as u16;
            self.target_count += 1;
            at += 1 + self.out[at] as usize;
        }
    }
}

/// The owner of a record to be written.
#[derive(Clone, Copy)]
pub enum Owner<'a> {
    /// The name asked.
    Question,
    /// This name, uncompressed wire format.
    Name(&'a [u8]),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::Name;
    use hickory_proto::op::Message;

    fn wire(text: &str) -> Vec<u8> {
        Name::parse(text, None).expect("a name").as_wire().to_vec()
    }

    fn question(text: &str) -> Vec<u8> {
        [&wire(text)[..], &[0, 1, 0, 1]].concat()
    }

    #[test]
    fn compresses_against_all_names_before() {
        let mut buffer = [0u8; 512];
        let mut writer = Writer::new(&mut buffer, 512, 7, 0x8400, &question("WWW.example.com"));
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
    fn leaves_names_of_later_types_alone() {
        let mut buffer = [0u8; 512];
        let mut writer = Writer::new(&mut buffer, 512, 7, 0x8400, &question("example.com"));
        let srv = [&[0, 1, 0, 2, 0, 80][..], &wire("a.example.com")].concat();
        writer.record(Section::Answer, Owner::Question, RecordType::SRV, 5, &srv).expect("fits");
        assert_eq!(writer.length(), HEADER + 17 + 12 + srv.len());
    }

    #[test]
    fn rewinds_what_does_not_fit() {
        let mut buffer = [0u8; 512];
        let mut writer = Writer::new(&mut buffer, 80, 7, 0x8400, &question("www.example.com"));
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
        let mut writer = Writer::new(&mut buffer, 65_535, 7, 0x8400, &question("example.com"));
        for index in 0..500 {
            let name = format!("{index}{}.{}.example.com", "a".repeat(40), "b".repeat(60));
            writer.record(Section::Answer, Owner::Question, RecordType::NS, 5, &wire(&name)).expect("fits");
        }
        let length = writer.length();
        assert_eq!(Message::from_vec(&buffer[..length]).expect("hickory reads it").answers.len(), 500);
    }
}
