//! Transaction signatures (RFC 8945): who shares a key with us, and what is not changed on the way.
//!
//! ```text
//! message      | header | question | records … | TSIG |        the last record, not counted in what is signed
//! TSIG         key name | TSIG ANY 0 | length | algorithm | time (48 bits) | fudge | MAC | id | error | other
//!
//! MAC of a query      message without TSIG, its id as first sent; then the variables of the TSIG
//! of its answer       the query's MAC before that
//! of what follows     the MAC of the message before, the message, and of the variables only time and fudge
//! ```
//! Nothing is allocated. The time is an argument: seconds since the Unix epoch.

mod stream;

use ring::hmac;

pub use stream::Checker;

use super::name::{MAX_LABEL, MAX_NAME};
use super::query::{HEADER, LowerName, last_record};
use super::types::{Class, RecordType};
use super::{Name, Rcode};

/// Most octets of the name of a key: with the longest question and all of an OPT, any answer without records then fits
/// 512 octets.
pub const MAX_KEY_NAME: usize = 63;
/// Seconds that the clocks of both sides may differ (RFC 8945 §10).
pub const FUDGE: u16 = 300;
/// Octets of the longest MAC.
const MAX_MAC: usize = 64;
/// Fewest octets of a truncated MAC, whatever the algorithm (RFC 8945 §5.2.2.1).
const MIN_MAC: usize = 10;
/// Octets of type, class, TTL and RDLENGTH.
const FIXED: usize = 10;
/// Octets of a TSIG's data beside its algorithm, MAC and other data: time, fudge, MAC size, id, error, other length.
const DATA: usize = 6 + 2 + 2 + 2 + 2 + 2;
/// Octets of a time.
const TIME: usize = 6;

/// Hash functions for MACs; the others of RFC 8945 §6 are not to be used, or by nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// HMAC with SHA-256.
    Sha256,
    /// HMAC with SHA-384.
    Sha384,
    /// HMAC with SHA-512.
    Sha512,
}

impl Algorithm {
    /// All, by their names.
    pub const ALL: [(&'static str, Algorithm); 3] =
        [("hmac-sha256", Algorithm::Sha256), ("hmac-sha384", Algorithm::Sha384), ("hmac-sha512", Algorithm::Sha512)];

    /// Its name in wire format.
    fn name(self) -> &'static [u8] {
        match self {
            Algorithm::Sha256 => b"\x0bhmac-sha256\x00",
            Algorithm::Sha384 => b"\x0bhmac-sha384\x00",
            Algorithm::Sha512 => b"\x0bhmac-sha512\x00",
        }
    }

    fn hmac(self) -> hmac::Algorithm {
        match self {
            Algorithm::Sha256 => hmac::HMAC_SHA256,
            Algorithm::Sha384 => hmac::HMAC_SHA384,
            Algorithm::Sha512 => hmac::HMAC_SHA512,
        }
    }

    fn octets(self) -> usize {
        self.hmac().digest_algorithm().output_len()
    }
}

/// A secret that is shared with somebody. Showing it does not show the secret.
#[derive(Clone, Debug)]
pub struct Key {
    /// In lower case.
    name: Name,
    algorithm: Algorithm,
    key: hmac::Key,
}

impl Key {
    /// Of a name of at most [`MAX_KEY_NAME`] octets.
    #[must_use]
    pub fn new(name: &Name, algorithm: Algorithm, secret: &[u8]) -> Key {
        Key { name: name.to_lower(), algorithm, key: hmac::Key::new(algorithm.hmac(), secret) }
    }

    /// Its name, in lower case.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// Octets of the longest TSIG that is made with it.
    #[must_use]
    pub fn room(&self) -> usize {
        self.name.as_wire().len() + FIXED + self.algorithm.name().len() + DATA + self.algorithm.octets() + TIME
    }

    /// Whether it signs as another one does.
    #[must_use]
    pub fn is_like(&self, other: &Key) -> bool {
        // The same octets have the same MAC.
        let mac = |key: &Key| hmac::sign(&key.key, b"waymark");
        self.name == other.name && self.algorithm == other.algorithm && mac(self).as_ref() == mac(other).as_ref()
    }

    /// Whether these are the same MAC, as far as the second goes; how long that is found out tells nothing of either.
    fn is_same(&self, mac: &hmac::Tag, given: &[u8]) -> bool {
        // The MACs of both are compared, which `ring` does in constant time.
        let Some(mac) = mac.as_ref().get(..given.len()) else { return false };
        hmac::verify(&self.key, given, hmac::sign(&self.key, mac).as_ref()).is_ok()
    }
}

/// The TSIG record of a message.
#[derive(Clone, Debug)]
pub struct Tsig<'m> {
    /// Where it begins in the message.
    at: usize,
    key_name: LowerName,
    algorithm: LowerName,
    time: u64,
    fudge: u16,
    mac: &'m [u8],
    original_id: [u8; 2],
    error: u16,
    other: &'m [u8],
}

/// What is wrong with a signature (RFC 8945 §5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The MAC has a length that is no MAC's: FORMERR.
    Malformed,
    /// No such key, or another algorithm.
    BadKey,
    /// The MAC is another one.
    BadSig,
    /// Signed too long ago, or by a clock that is ahead.
    BadTime,
    /// Truncated, though nobody was told that he may.
    BadTrunc,
}

impl Fault {
    /// As the TSIG of the answer says it; 0 for what has no TSIG.
    #[must_use]
    pub fn code(self) -> u16 {
        match self {
            Fault::Malformed => 0,
            Fault::BadSig => 16,
            Fault::BadKey => 17,
            Fault::BadTime => 18,
            Fault::BadTrunc => 22,
        }
    }

    /// The response code of the answer.
    #[must_use]
    pub fn rcode(self) -> Rcode {
        if self == Fault::Malformed { Rcode::FORMERR } else { Rcode::NOTAUTH }
    }

    /// Whether the answer that says so is signed: whoever asks has the key (RFC 8945 §5.3.2).
    #[must_use]
    pub fn is_signed(self) -> bool {
        matches!(self, Fault::BadTime | Fault::BadTrunc)
    }
}

impl<'m> Tsig<'m> {
    /// Reads the record at `at` of a message, where its last one begins. `None` is FORMERR: it is not of class ANY with
    /// a TTL of 0, or has no form.
    #[must_use]
    pub fn read(message: &'m [u8], at: usize) -> Option<Tsig<'m>> {
        let (key_name, behind) = name(message, at)?;
        let (fixed, data) = message.get(behind..)?.split_first_chunk::<FIXED>()?;
        let is_tsig = fixed[..2] == RecordType::TSIG.0.to_be_bytes();
        if !is_tsig || fixed[2..4] != Class::ANY.0.to_be_bytes() || fixed[4..8] != [0; 4] {
            return None;
        }
        if data.len() != usize::from(u16::from_be_bytes([fixed[8], fixed[9]])) {
            return None;
        }
        let mut algorithm = LowerName::new();
        let length = algorithm.set(data)?;
        let (&[t0, t1, t2, t3, t4, t5, fudge_high, fudge_low, high, low], rest) = data[length..].split_first_chunk()?;
        let (mac, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes([high, low])))?;
        let (&[id_high, id_low, error_high, error_low, high, low], other) = rest.split_first_chunk()?;
        if other.len() != usize::from(u16::from_be_bytes([high, low])) {
            return None;
        }
        Some(Tsig {
            at,
            key_name,
            algorithm,
            time: u64::from_be_bytes([0, 0, t0, t1, t2, t3, t4, t5]),
            fudge: u16::from_be_bytes([fudge_high, fudge_low]),
            mac,
            original_id: [id_high, id_low],
            error: u16::from_be_bytes([error_high, error_low]),
            other,
        })
    }

    /// The name of the key, in lower-case wire format.
    #[must_use]
    pub fn key_name(&self) -> &[u8] {
        self.key_name.as_wire()
    }

    /// What the sender says is wrong; 0 = nothing.
    #[must_use]
    pub fn error(&self) -> u16 {
        self.error
    }

    /// Whether `message`, of which this is the TSIG, was signed with `key` (`None` = we have none of that name) lately.
    /// `asked` is the query's, where this is its answer.
    ///
    /// # Errors
    /// What is wrong, in the order of RFC 8945 §5.2.
    pub fn verify(&self, message: &[u8], key: Option<&Key>, now: u64, asked: Option<&Signer>) -> Result<(), Fault> {
        let key = key.filter(|key| key.algorithm.name() == self.algorithm.as_wire()).ok_or(Fault::BadKey)?;
        let whole = key.algorithm.octets();
        if self.mac.len() > whole || self.mac.len() < MIN_MAC.max(whole / 2) {
            return Err(Fault::Malformed);
        }
        let mut context = hmac::Context::with_key(&key.key);
        if let Some(asked) = asked {
            asked.mac.put(&mut context);
        }
        let mut header = [0; HEADER];
        header.copy_from_slice(&message[..HEADER]);
        header[..2].copy_from_slice(&self.original_id);
        let records = u16::from_be_bytes([header[10], header[11]]).wrapping_sub(1);
        header[10..].copy_from_slice(&records.to_be_bytes());
        context.update(&header);
        context.update(&message[HEADER..self.at]);
        let stamp = Stamp { time: self.time, fudge: self.fudge, error: self.error, other: self.other };
        stamp.put(&mut context, key);
        if !key.is_same(&context.sign(), self.mac) {
            return Err(Fault::BadSig);
        }
        if now.abs_diff(self.time) > u64::from(self.fudge) {
            return Err(Fault::BadTime);
        }
        if self.mac.len() < whole { Err(Fault::BadTrunc) } else { Ok(()) }
    }

    /// Adds the TSIG of an answer that is not signed, as whoever asked has no key: to the message in the first `length`
    /// octets of `out`. Returns its length then; unchanged where that is more than `limit`.
    pub fn answer_unsigned(&self, fault: Fault, now: u64, out: &mut [u8], length: usize, limit: usize) -> usize {
        let parts = Parts {
            key_name: self.key_name.as_wire(),
            algorithm: self.algorithm.as_wire(),
            stamp: Stamp { time: now, fudge: FUDGE, error: fault.code(), other: &[] },
            mac: &[],
        };
        if length + parts.length() > limit.min(out.len()) { length } else { parts.append(out, length) }
    }

    /// Adds the TSIG of the answer that says that the time is wrong, or the MAC too short: as [`Signer::sign`].
    pub fn answer_signed(&self, fault: Fault, key: &Key, now: u64, out: &mut [u8], length: usize) -> usize {
        // The server's time, beside that of the client (RFC 8945 §5.2.3).
        let ours = time(now);
        let (time, other) = if fault == Fault::BadTime { (self.time, &ours[..]) } else { (now, &[][..]) };
        let stamp = Stamp { time, fudge: FUDGE, error: fault.code(), other };
        Signer::answering(self).sign_as(key, stamp, out, length)
    }
}

/// Where the TSIG of a message begins, its last record; for messages that are no queries, of which [`super::query::parse`]
/// knows it.
#[must_use]
pub fn find(message: &[u8]) -> Option<usize> {
    last_record(message).filter(|last| last.rtype == RecordType::TSIG).map(|last| last.at)
}

/// A MAC, for the one that follows it.
#[derive(Clone, Copy, Debug)]
struct Mac {
    octets: [u8; MAX_MAC],
    /// 0 = there was none.
    length: usize,
}

impl Mac {
    const NONE: Mac = Mac { octets: [0; MAX_MAC], length: 0 };

    fn of(octets: &[u8]) -> Mac {
        let mut mac = Mac::NONE;
        mac.length = octets.len().min(MAX_MAC);
        mac.octets[..mac.length].copy_from_slice(&octets[..mac.length]);
        mac
    }

    fn put(&self, context: &mut hmac::Context) {
        if self.length > 0 {
            context.update(&(self.length as u16).to_be_bytes());
            context.update(&self.octets[..self.length]);
        }
    }
}

/// Signs a query, or the messages that answer one, one after the other.
#[derive(Clone, Copy, Debug)]
pub struct Signer {
    /// Of the query, or of the message before.
    mac: Mac,
    /// Whether the next message follows one that was signed (RFC 8945 §5.3.1).
    follows: bool,
}

impl Signer {
    /// Signs what was not asked for.
    #[must_use]
    pub fn asking() -> Signer {
        Signer { mac: Mac::NONE, follows: false }
    }

    /// Signs the answers to the message with this TSIG, which was verified.
    #[must_use]
    pub fn answering(tsig: &Tsig<'_>) -> Signer {
        Signer { mac: Mac::of(tsig.mac), follows: false }
    }

    /// Signs the message in the first `length` octets of `out`, which has [`Key::room`] behind; returns its length then.
    pub fn sign(&mut self, key: &Key, now: u64, out: &mut [u8], length: usize) -> usize {
        self.sign_as(key, Stamp { time: now, fudge: FUDGE, error: 0, other: &[] }, out, length)
    }

    fn sign_as(&mut self, key: &Key, stamp: Stamp<'_>, out: &mut [u8], length: usize) -> usize {
        let mut context = hmac::Context::with_key(&key.key);
        self.mac.put(&mut context);
        context.update(&out[..length]);
        if self.follows {
            stamp.put_time(&mut context)
        } else {
            stamp.put(&mut context, key)
        }
        let mac = context.sign();
        (self.mac, self.follows) = (Mac::of(mac.as_ref()), true);
        let parts = Parts { key_name: key.name.as_wire(), algorithm: key.algorithm.name(), stamp, mac: mac.as_ref() };
        parts.append(out, length)
    }
}

/// What a TSIG says beside names and MAC.
#[derive(Clone, Copy)]
struct Stamp<'a> {
    time: u64,
    fudge: u16,
    error: u16,
    other: &'a [u8],
}

impl Stamp<'_> {
    /// All variables of a TSIG (RFC 8945 §4.3.3).
    fn put(&self, context: &mut hmac::Context, key: &Key) {
        context.update(key.name.as_wire());
        context.update(&Class::ANY.0.to_be_bytes());
        context.update(&[0; 4]);
        context.update(key.algorithm.name());
        self.put_time(context);
        context.update(&self.error.to_be_bytes());
        context.update(&(self.other.len() as u16).to_be_bytes());
        context.update(self.other);
    }

    fn put_time(&self, context: &mut hmac::Context) {
        context.update(&time(self.time));
        context.update(&self.fudge.to_be_bytes());
    }
}

/// A TSIG to be written.
struct Parts<'a> {
    key_name: &'a [u8],
    algorithm: &'a [u8],
    stamp: Stamp<'a>,
    mac: &'a [u8],
}

impl Parts<'_> {
    fn length(&self) -> usize {
        self.key_name.len() + FIXED + self.data()
    }

    fn data(&self) -> usize {
        self.algorithm.len() + DATA + self.mac.len() + self.stamp.other.len()
    }

    /// Writes it behind the message in the first `length` octets of `out`, where there is room.
    fn append(&self, out: &mut [u8], length: usize) -> usize {
        let Stamp { time: at, fudge, error, other } = self.stamp;
        let id = [out[0], out[1]];
        let pieces: [&[u8]; 14] = [
            self.key_name,
            &RecordType::TSIG.0.to_be_bytes(),
            &Class::ANY.0.to_be_bytes(),
            &[0; 4],
            &(self.data() as u16).to_be_bytes(),
            self.algorithm,
            &time(at),
            &fudge.to_be_bytes(),
            &(self.mac.len() as u16).to_be_bytes(),
            self.mac,
            &id,
            &error.to_be_bytes(),
            &(other.len() as u16).to_be_bytes(),
            other,
        ];
        let mut end = length;
        for piece in pieces {
            out[end..end + piece.len()].copy_from_slice(piece);
            end += piece.len();
        }
        let records = u16::from_be_bytes([out[10], out[11]]).wrapping_add(1);
        out[10..HEADER].copy_from_slice(&records.to_be_bytes());
        end
    }
}

/// A time in 48 bits.
fn time(seconds: u64) -> [u8; TIME] {
    let [_, _, octets @ ..] = seconds.to_be_bytes();
    octets
}

/// The name at `at` of a message, pointers followed as far as they lead backward, and where it ends.
fn name(message: &[u8], at: usize) -> Option<(LowerName, usize)> {
    let (mut wire, mut length) = ([0; MAX_NAME], 0);
    let (mut at, mut end, mut before) = (at, None, at);
    loop {
        let octet = *message.get(at)?;
        if octet & 0xc0 == 0xc0 {
            let to = usize::from(u16::from_be_bytes([octet & 0x3f, *message.get(at + 1)?]));
            end.get_or_insert(at + 2);
            if to >= before {
                return None;
            }
            (at, before) = (to, to);
            continue;
        }
        let label = 1 + usize::from(octet);
        if label > 1 + MAX_LABEL || length + label > MAX_NAME {
            return None;
        }
        wire[length..length + label].copy_from_slice(message.get(at..at + label)?);
        (at, length) = (at + label, length + label);
        if octet == 0 {
            let mut name = LowerName::new();
            name.set(&wire[..length])?;
            return Some((name, end.unwrap_or(at)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// When the vectors were made.
    const NOW: u64 = 1_700_000_000;

    /// MACs made by dnspython 2.9.2 with the key `Transfer.Key`, whose secret is the octets 0 to 31, at [`NOW`]: of a query
    /// for the SOA of example.com with id 0x1234, of the answer `example.com. 300 IN A 192.0.2.1`, and of two more messages
    /// that follow it in a stream, with 192.0.2.2 and 192.0.2.3.
    const VECTORS: [(Algorithm, [&str; 4]); 3] = [
        (
            Algorithm::Sha256,
            [
                "c732c4387a59f2985f56e454eaae31d15e06c7d76308bc15f8d2c9775554acce",
                "cbdc2eed3dfc0f2b8c1250f3aae873764e1e72d976e038fee88a791a568177d3",
                "b01c855c0989a5d80a09b01f7f6c42bdf4f7ccd9598a4c5cca8df4bab2d33665",
                "7abab6424487cce4cca38c0f858d9354fb57d5141fad3a4bd274ec4c753b6f2b",
            ],
        ),
        (
            Algorithm::Sha384,
            [
                "f0fbc59b25c54e9bddb47fbeece7f1a22f427ba2485c96e8f9a7efbed3a3e3780e4bc5ac3334ae5fb13c196d7e1a09a5",
                "44be47b636d07bdc782a49d7efb8ce9a34a8f54233f608010d97325b0635c3c1454d89b5fa8d9012a129d7a55851bc20",
                "266f5ac509f678e875ebd816084bcc08cb6ee45c25b642adbd016f8459069d9ddcc4a0c55456b5dc8826a66c24f5fa26",
                "94b9ca0432739563c400e111ddd1130a308b291f65c6b89bf473f78010880bd77380be2b22ac6752b8a37d85d368ce53",
            ],
        ),
        (
            Algorithm::Sha512,
            [
                "dca1dc9f1e7ec0f682d9342c30f5eafd2f399a8220f0de2d63c3ea914d7ae9f4f6e32cb0a6dfd8906ee8b3b82e7c620e\
                 f4af614401ab660291aa7b74dfed97bd",
                "2efb8ed292218890a98b42fbcad2538a84ee19609aa068ce4e05187880cd7751ee05595053d98cc2afcea791cadc72d2\
                 599a5b1dd82cec01435bd35147f45470",
                "897a980819154a57ce4489574d378ff6847ab15f9db283070fdc01183980605a98147e2386c1baa80d91c621007139c4\
                 997d314864c277d0716125df3f4e4027",
                "94656d6014eaff1c4e3f84281833151aa4fc9e62de1de4fe5f380f7c08c07dd96be93d0edc7246e7cb553685a299543d\
                 d3fcd6c2e65ad2ceb668fe4078f87875",
            ],
        ),
    ];

    fn octets(hex: &str) -> Vec<u8> {
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hexadecimal")).collect()
    }

    fn key(algorithm: Algorithm) -> Key {
        let secret: Vec<u8> = (0..32).collect();
        Key::new(&Name::parse("Transfer.Key", None).expect("a name"), algorithm, &secret)
    }

    /// A query of the vectors without its TSIG.
    fn query() -> Vec<u8> {
        [&[0x12, 0x34, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0][..], b"\x07example\x03com\x00\x00\x06\x00\x01"].concat()
    }

    /// An answer of the vectors without its TSIG, and room for one.
    fn answer(last: u8) -> (Vec<u8>, usize) {
        let record = [0xc0, 12, 0, 1, 0, 1, 0, 0, 1, 44, 0, 4, 192, 0, 2, last];
        let mut answer = [query(), record.to_vec()].concat();
        (answer[2], answer[7]) = (0x84, 1);
        let length = answer.len();
        answer.resize(512, 0);
        (answer, length)
    }

    /// The query of the vectors with a TSIG, and where that begins.
    fn signed(algorithm: Algorithm, mac: &[u8], time: u64) -> (Vec<u8>, usize) {
        let mut out = query();
        let at = out.len();
        out.resize(512, 0);
        let stamp = Stamp { time, fudge: FUDGE, error: 0, other: &[] };
        let parts = Parts { key_name: b"\x08Transfer\x03Key\x00", algorithm: algorithm.name(), stamp, mac };
        let length = parts.append(&mut out, at);
        out.truncate(length);
        (out, at)
    }

    fn mac_in(message: &[u8], octets: usize) -> &[u8] {
        &message[message.len() - 6 - octets..message.len() - 6]
    }

    #[test]
    fn vectors() {
        for (algorithm, macs) in VECTORS {
            let [asked, first, second, third] = macs.map(octets);
            let (key, size) = (key(algorithm), algorithm.octets());
            let (message, at) = signed(algorithm, &asked, NOW);
            let tsig = Tsig::read(&message, at).expect("a TSIG");
            assert_eq!(tsig.key_name(), b"\x08transfer\x03key\x00");
            assert_eq!((find(&message), find(&message[..message.len() - 1])), (Some(at), None));
            for (now, expected) in [
                (NOW, Ok(())),
                (NOW + 300, Ok(())),
                (NOW - 300, Ok(())),
                (NOW + 301, Err(Fault::BadTime)),
                (NOW - 301, Err(Fault::BadTime)),
            ] {
                assert_eq!(tsig.verify(&message, Some(&key), now, None), expected, "{algorithm:?} at {now}");
            }
            let mut signer = Signer::answering(&tsig);
            for (last, mac) in [(1, &first), (2, &second), (3, &third)] {
                let (mut out, length) = answer(last);
                let end = signer.sign(&key, NOW, &mut out, length);
                assert_eq!(mac_in(&out[..end], size), mac, "{algorithm:?} {last}");
                assert!(end - length <= key.room());
            }
            let (mut out, length) = (message[..at].to_vec(), at);
            out[11] = 0;
            out.resize(512, 0);
            let mut asking = Signer::asking();
            let end = asking.sign(&key, NOW, &mut out, length);
            assert_eq!(mac_in(&out[..end], size), asked, "{algorithm:?}");
            // And what answers that.
            let (mut out, length) = answer(1);
            let end = Signer::answering(&tsig).sign(&key, NOW, &mut out, length);
            let tsig = Tsig::read(&out[..end], length).expect("a TSIG");
            assert_eq!(tsig.verify(&out[..end], Some(&key), NOW, Some(&asking)), Ok(()));
            assert_eq!(tsig.verify(&out[..end], Some(&key), NOW, None), Err(Fault::BadSig));
        }
    }

    #[test]
    fn whatever_is_changed_is_noticed() {
        let (algorithm, macs) = &VECTORS[0];
        let (message, at) = signed(*algorithm, &octets(macs[0]), NOW);
        let key = key(*algorithm);
        for octet in 0..message.len() {
            let mut changed = message.clone();
            changed[octet] ^= 0x01;
            let found = Tsig::read(&changed, at).map(|tsig| tsig.verify(&changed, Some(&key), NOW, None));
            // The id is that which the TSIG says. The name is whose key it is, which the caller looks up.
            let is_same = octet < 2 || (at..at + 14).contains(&octet);
            assert_eq!(found == Some(Ok(())), is_same && found.is_some(), "octet {octet}: {found:?}");
        }
        let tsig = Tsig::read(&message, at).expect("a TSIG");
        assert_eq!(tsig.verify(&message, None, NOW, None), Err(Fault::BadKey));
        assert_eq!(tsig.verify(&message, Some(&super::tests::key(Algorithm::Sha512)), NOW, None), Err(Fault::BadKey));
        let other = Key::new(key.name(), *algorithm, b"another secret of this name");
        assert_eq!(tsig.verify(&message, Some(&other), NOW, None), Err(Fault::BadSig));
        assert_eq!(tsig.verify(&message, Some(&other), NOW + 1000, None), Err(Fault::BadSig), "not the time first");
    }

    /// RFC 8945 §5.2.2.1: half of the hash and ten octets at least; §5.2.4: and we ask for all of it.
    #[test]
    fn truncated() {
        for (algorithm, macs) in VECTORS {
            let whole = octets(macs[0]);
            let key = key(algorithm);
            for length in 0..=whole.len() + 1 {
                let mac: Vec<u8> = whole.iter().copied().chain([0]).take(length).collect();
                let (message, at) = signed(algorithm, &mac, NOW);
                let tsig = Tsig::read(&message, at).expect("a TSIG");
                let expected = match length {
                    _ if length == whole.len() => Ok(()),
                    _ if length < whole.len() / 2 || length > whole.len() => Err(Fault::Malformed),
                    _ => Err(Fault::BadTrunc),
                };
                assert_eq!(tsig.verify(&message, Some(&key), NOW, None), expected, "{algorithm:?} {length}");
            }
        }
    }

    #[test]
    fn malformed() {
        let (message, at) = signed(Algorithm::Sha256, &[7; 32], NOW);
        assert!(Tsig::read(&message, at).is_some());
        let owner = at + 14;
        for (octet, to) in [(owner + 1, 1), (owner + 3, 1), (owner + 7, 1), (owner + 9, 0), (at, 64), (owner + 10, 63)]
        {
            let mut changed = message.clone();
            changed[octet] = to;
            assert!(Tsig::read(&changed, at).is_none(), "octet {octet}");
        }
        for length in at..message.len() {
            assert!(Tsig::read(&message[..length], at).is_none(), "{length} octets");
        }
    }

    #[test]
    fn names_may_be_compressed() {
        let message = b"\x03key\x00\x05small\xc0\x00\xc0\x05\xc0\x0d\x03two\xc0\x0d";
        let at = |at| name(message, at).map(|(name, end)| (name.as_wire().to_vec(), end));
        assert_eq!(at(5), Some((b"\x05small\x03key\x00".to_vec(), 13)));
        assert_eq!(at(13), Some((b"\x05small\x03key\x00".to_vec(), 15)));
        assert_eq!(at(15), Some((b"\x05small\x03key\x00".to_vec(), 17)));
        assert_eq!(name(b"\xc0\x00", 0).map(|(_, end)| end), None, "a pointer to itself");
        assert_eq!(name(b"\xc0\x02\xc0\x00", 2).map(|(_, end)| end), None, "a pointer forward");
        assert_eq!(name(b"\xc0", 0).map(|(_, end)| end), None);
    }

    #[test]
    fn faults_are_told() {
        let (message, at) = signed(Algorithm::Sha256, &octets(VECTORS[0].1[0]), NOW);
        let tsig = Tsig::read(&message, at).expect("a TSIG");
        let (mut out, length) = answer(1);
        assert_eq!(tsig.answer_unsigned(Fault::BadKey, NOW, &mut out, length, length + 20), length, "no room");
        let end = tsig.answer_unsigned(Fault::BadKey, NOW, &mut out, length, 512);
        let told = Tsig::read(&out[..end], length).expect("a TSIG");
        assert_eq!((told.mac.len(), told.error(), told.time), (0, 17, NOW));
        let key = key(Algorithm::Sha256);
        let (mut out, length) = answer(1);
        let late = NOW + 1000;
        let end = tsig.answer_signed(Fault::BadTime, &key, late, &mut out, length);
        let told = Tsig::read(&out[..end], length).expect("a TSIG");
        assert_eq!((told.time, told.error(), told.other), (NOW, 18, &time(late)[..]));
        assert_eq!(told.verify(&out[..end], Some(&key), NOW, Some(&Signer::answering(&tsig))), Ok(()));
        assert!(end - length <= key.room());
    }
}
