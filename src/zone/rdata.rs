//! Record data from text to wire format, by one table: what the data of each type consists of ([`form`]).
//!
//! The same table reads text ([`encode`]) and checks wire format (`wire::verify`), which is how `\# LENGTH HEX`
//! (RFC 3597 §5) of a known type is held to its type. Both ways end in the same verification. Names stay uncompressed
//! and keep their case. Types with a shape of their own have files of their own: `svcb`, `special`.
//!
//! The text parser of `hickory-proto` is not used: it has no origin for relative names, no places, drops what stands
//! behind the data, and knows a third of the types. It is the second parser of the tests.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::encoding::{base64, hex};
use super::lexer::{Input, Outcome, Quoting, Token, octets, quote};
use super::{special, svcb, ttl, wire};
use crate::dns::{Name, RecordType};
use crate::problem::Problem;

/// Most octets of record data.
const MAX_RDATA: usize = 65_535;

/// A part of record data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    /// A domain name.
    Name,
    /// A number of one octet.
    U8,
    /// A number of two octets.
    U16,
    /// A number of four octets.
    U32,
    /// Seconds, with units.
    Period,
    /// An IPv4 address.
    A,
    /// An IPv6 address.
    Aaaa,
    /// A character-string: at most 255 octets.
    Text,
    /// One character-string or none.
    OptionalText,
    /// One or more of them, to the end.
    Texts,
    /// Any octets written as one string without a length, to the end.
    Value,
    /// Like `Value`, not empty.
    FilledValue,
    /// Letters and digits behind their length (CAA).
    Tag,
    /// A DNSSEC algorithm by number or mnemonic.
    Algorithm,
    /// A certificate type by number or mnemonic (RFC 4398 §2.1).
    CertType,
    /// Base64 to the end, at least one octet.
    Base64,
    /// Hexadecimal to the end, at least one octet.
    Hex,
    /// Type bitmap, to the end (RFC 4034 §4.1.2).
    Types,
    /// Six octets, `-` between.
    Eui48,
    /// Eight octets, `-` between.
    Eui64,
    /// Four groups of hexadecimal, `:` between (RFC 6742 §2).
    Node64,
    /// `0x` and hexadecimal (RFC 1706 §8).
    Nsap,
    /// A place on earth (RFC 1876).
    Location,
    /// Address prefixes, to the end (RFC 3123).
    Prefixes,
    /// Protocol and ports (RFC 1035 §3.4.2).
    Services,
    /// Gateway and key (RFC 4025).
    Gateway,
    /// Host identity (RFC 8005).
    HostIdentity,
    /// Service parameters (RFC 9460).
    Params,
}

/// What the data of a type consists of; `None` when only `\#` can give it.
pub(super) fn form(rtype: RecordType) -> Option<&'static [Field]> {
    use Field as F;
    Some(match rtype {
        RecordType::A => &[F::A],
        RecordType::AAAA => &[F::Aaaa],
        RecordType::NS | RecordType::CNAME | RecordType::PTR | RecordType::DNAME => &[F::Name],
        RecordType::MD | RecordType::MF | RecordType::MB | RecordType::MG | RecordType::MR => &[F::Name],
        RecordType::MX | RecordType::AFSDB | RecordType::RT | RecordType::KX | RecordType::LP => &[F::U16, F::Name],
        RecordType::TXT | RecordType::SPF => &[F::Texts],
        RecordType::SRV => &[F::U16, F::U16, F::U16, F::Name],
        RecordType::SOA => &[F::Name, F::Name, F::U32, F::Period, F::Period, F::Period, F::Period],
        RecordType::WKS => &[F::A, F::Services],
        RecordType::HINFO => &[F::Text, F::Text],
        RecordType::MINFO | RecordType::RP => &[F::Name, F::Name],
        RecordType::X25 => &[F::Text],
        RecordType::ISDN => &[F::Text, F::OptionalText],
        RecordType::NSAP => &[F::Nsap],
        RecordType::PX => &[F::U16, F::Name, F::Name],
        RecordType::LOC => &[F::Location],
        RecordType::NAPTR => &[F::U16, F::U16, F::Text, F::Text, F::Text, F::Name],
        RecordType::CERT => &[F::CertType, F::U16, F::Algorithm, F::Base64],
        RecordType::APL => &[F::Prefixes],
        RecordType::DS | RecordType::CDS => &[F::U16, F::Algorithm, F::U8, F::Hex],
        RecordType::SSHFP => &[F::U8, F::U8, F::Hex],
        RecordType::IPSECKEY => &[F::Gateway],
        RecordType::DNSKEY | RecordType::CDNSKEY | RecordType::KEY => &[F::U16, F::U8, F::Algorithm, F::Base64],
        RecordType::DHCID | RecordType::OPENPGPKEY => &[F::Base64],
        RecordType::TLSA | RecordType::SMIMEA => &[F::U8, F::U8, F::U8, F::Hex],
        RecordType::HIP => &[F::HostIdentity],
        RecordType::CSYNC => &[F::U32, F::U16, F::Types],
        RecordType::ZONEMD => &[F::U32, F::U8, F::U8, F::Hex],
        RecordType::SVCB | RecordType::HTTPS => &[F::U16, F::Name, F::Params],
        RecordType::NID | RecordType::L64 => &[F::U16, F::Node64],
        RecordType::L32 => &[F::U16, F::A],
        RecordType::EUI48 => &[F::Eui48],
        RecordType::EUI64 => &[F::Eui64],
        RecordType::URI => &[F::U16, F::U16, F::FilledValue],
        RecordType::CAA => &[F::U8, F::Tag, F::Value],
        _ => return None,
    })
}

impl Field {
    /// What it is called in messages.
    fn what(self) -> &'static str {
        match self {
            Field::Name => "name",
            Field::U8 => "number 0-255",
            Field::U16 => "number 0-65535",
            Field::U32 => "number 0-4294967295",
            Field::Period => "period (seconds, or like 1h30m)",
            Field::A => "IPv4 address",
            Field::Aaaa => "IPv6 address",
            Field::Text => "string",
            Field::OptionalText => "[string]",
            Field::Texts => "string …",
            Field::Value | Field::FilledValue => "quoted string",
            Field::Tag => "tag",
            Field::Algorithm => "algorithm",
            Field::CertType => "certificate type",
            Field::Base64 => "base64",
            Field::Hex => "hexadecimal",
            Field::Types => "[type …]",
            Field::Eui48 => "00-00-5e-00-53-2a",
            Field::Eui64 => "00-00-5e-ef-10-00-00-2a",
            Field::Node64 => "2001:db8:1140:1000",
            Field::Nsap => "0x and hexadecimal",
            Field::Location => {
                "degrees [minutes [seconds]] N|S degrees [minutes [seconds]] E|W altitude[m] [size[m] …]"
            }
            Field::Prefixes => "[[!]family:address/prefix …]",
            Field::Services => "protocol [port …]",
            Field::Gateway => "precedence gateway-type algorithm gateway [base64]",
            Field::HostIdentity => "algorithm hexadecimal base64 [name …]",
            Field::Params => "[key[=value] …]",
        }
    }
}

/// The text form of a type, for messages.
fn describe(form: &[Field]) -> String {
    form.iter().map(|field| field.what()).collect::<Vec<_>>().join(", ")
}

/// The record data that `tokens` give for a record of type `rtype`. `before` is the token before them; `room` is used
/// for the result.
pub(super) fn encode(
    rtype: RecordType,
    input: Input<'_>,
    before: Token,
    tokens: &[Token],
    origin: &Name,
    mut room: Vec<u8>,
) -> Outcome<Vec<u8>> {
    room.clear();
    let mut fields = Fields { input, origin, tokens, last: before, wire: room };
    match tokens.first() {
        Some(&first) if input.raw(first) == "\\#" && first.quoting == Quoting::Bare => fields.generic()?,
        _ => fields.of_type(rtype)?,
    }
    let place = *tokens.first().unwrap_or(&before);
    let whole = Token { end: tokens.last().map_or(place.end, |last| last.end), ..place };
    if fields.wire.len() > MAX_RDATA {
        let problem = input.error(whole, format!("record data of {} octets", fields.wire.len()));
        return Err(Box::new(problem.allowed(format!("at most {MAX_RDATA}"))));
    }
    match wire::verify(rtype, &fields.wire) {
        Ok(()) => Ok(fields.wire),
        Err(message) => Err(input.error(whole, format!("not a valid {rtype}: {message}"))),
    }
}

/// The tokens of record data that are left, and the wire format so far.
pub(super) struct Fields<'a> {
    pub(super) input: Input<'a>,
    origin: &'a Name,
    tokens: &'a [Token],
    last: Token,
    pub(super) wire: Vec<u8>,
}

impl<'a> Fields<'a> {
    /// `\# LENGTH HEX` (RFC 3597 §5).
    fn generic(&mut self) -> Outcome<()> {
        self.next("`\\#`")?;
        let (token, length) = self.number::<u16>("length 0-65535")?;
        let data = self.joined("");
        self.wire = hex(&data).map_err(|message| self.error(message))?;
        if self.wire.len() != usize::from(length) {
            let message = format!("length {length}, but {} octets follow", self.wire.len());
            return Err(self.input.error(token, message));
        }
        Ok(())
    }

    fn of_type(&mut self, rtype: RecordType) -> Outcome<()> {
        let Some(form) = form(rtype) else {
            let problem = self.error(format!("{rtype} has no text form here"));
            return Err(Box::new(problem.allowed("`\\#`, the length and hexadecimal digits (RFC 3597)")));
        };
        let explained = |problem: Box<Problem>| match problem.allowed {
            Some(_) => problem,
            None => Box::new(problem.allowed(format!("data of {rtype}: {}", describe(form)))),
        };
        form.iter().try_for_each(|field| self.field(*field)).map_err(explained)?;
        match self.tokens.first() {
            Some(&token) => {
                let message = format!("unexpected {} behind the record data", quote(self.input.raw(token)));
                Err(explained(self.input.error(token, message)))
            }
            None => Ok(()),
        }
    }

    fn field(&mut self, field: Field) -> Outcome<()> {
        match field {
            Field::Name => self.name(),
            Field::U8 => self.number::<u8>(field.what()).map(|(_, number)| self.wire.push(number)),
            Field::U16 => self.u16(field.what()),
            Field::U32 => self.number::<u32>(field.what()).map(|(_, number)| self.put(&number.to_be_bytes())),
            Field::Period => self.period(),
            Field::A => self.parsed::<Ipv4Addr>(field.what()).map(|address| self.put(&address.octets())),
            Field::Aaaa => self.parsed::<Ipv6Addr>(field.what()).map(|address| self.put(&address.octets())),
            Field::Text => self.text(),
            Field::OptionalText => {
                if self.tokens.is_empty() {
                    Ok(())
                } else {
                    self.text()
                }
            }
            Field::Texts => self.texts(),
            Field::Value | Field::FilledValue => self.value(),
            Field::Tag => self.tag(),
            Field::Algorithm => self.algorithm(),
            Field::CertType => self.cert_type(),
            Field::Base64 => self.base64(),
            Field::Hex => self.hex(),
            Field::Types => self.types(),
            Field::Eui48 => self.groups::<6>('-', 2, field.what()),
            Field::Eui64 => self.groups::<8>('-', 2, field.what()),
            Field::Node64 => self.groups::<4>(':', 4, field.what()),
            Field::Nsap => special::nsap(self),
            Field::Location => special::location(self),
            Field::Prefixes => special::prefixes(self),
            Field::Services => special::services(self),
            Field::Gateway => special::gateway(self),
            Field::HostIdentity => special::host_identity(self),
            Field::Params => svcb::params(self),
        }
    }

    pub(super) fn put(&mut self, octets: &[u8]) {
        self.wire.extend_from_slice(octets);
    }

    /// Whether all tokens were used.
    pub(super) fn is_done(&self) -> bool {
        self.tokens.is_empty()
    }

    /// The next token.
    pub(super) fn next(&mut self, what: &str) -> Outcome<Token> {
        let Some((&first, rest)) = self.tokens.split_first() else {
            return Err(self.error(format!("the record ends where there should be: {what}")));
        };
        (self.last, self.tokens) = (first, rest);
        Ok(first)
    }

    /// The next token as written, which must not be quoted.
    pub(super) fn bare(&mut self, what: &str) -> Outcome<&'a str> {
        let token = self.next(what)?;
        let raw = self.input.raw(token);
        if token.quoting == Quoting::Bare {
            Ok(raw)
        } else {
            Err(self.error(format!("a quoted string where there should be: {what}")))
        }
    }

    /// The next token as written, left where it is; nothing when it is quoted.
    pub(super) fn peek(&self) -> Option<&'a str> {
        let token = self.tokens.first().filter(|token| token.quoting == Quoting::Bare)?;
        Some(self.input.raw(*token))
    }

    /// An error at the token that was taken last.
    pub(super) fn error(&self, message: impl Into<String>) -> Box<Problem> {
        self.input.error(self.last, message)
    }

    /// An error for the token that was taken last, which is not `what`.
    pub(super) fn not(&self, what: &str) -> Box<Problem> {
        self.error(format!("{} is not a valid {what}", quote(self.input.raw(self.last))))
    }

    /// The next token by its type's own parser.
    pub(super) fn parsed<T: std::str::FromStr>(&mut self, what: &str) -> Outcome<T> {
        let raw = self.bare(what)?;
        raw.parse().map_err(|_| self.not(what))
    }

    /// A number in decimal digits.
    pub(super) fn number<T: std::str::FromStr>(&mut self, what: &str) -> Outcome<(Token, T)> {
        let raw = self.bare(what)?;
        // The standard parser takes a plus sign.
        let digits = Some(raw).filter(|raw| raw.starts_with(|first: char| first.is_ascii_digit()));
        let number = digits.and_then(|digits| digits.parse().ok()).ok_or_else(|| self.not(what))?;
        Ok((self.last, number))
    }

    pub(super) fn u16(&mut self, what: &str) -> Outcome<()> {
        let (_, number) = self.number::<u16>(what)?;
        self.put(&number.to_be_bytes());
        Ok(())
    }

    fn period(&mut self) -> Outcome<()> {
        let raw = self.bare(Field::Period.what())?;
        let seconds = ttl::seconds(raw).and_then(|seconds| u32::try_from(seconds).ok());
        let seconds = seconds.ok_or_else(|| self.not(Field::Period.what()))?;
        self.put(&seconds.to_be_bytes());
        Ok(())
    }

    pub(super) fn name(&mut self) -> Outcome<()> {
        let token = self.next("name")?;
        let name = read_name(self.input, token, self.origin)?;
        self.put(name.as_wire());
        Ok(())
    }

    fn decoded(&mut self, what: &str) -> Outcome<Vec<u8>> {
        let token = self.next(what)?;
        if token.quoting == Quoting::Mixed {
            return Err(self.error("a quote in the middle of a string, quote the whole of it"));
        }
        octets(self.input.raw(token)).map(Into::into).map_err(|message| self.error(message))
    }

    fn text(&mut self) -> Outcome<()> {
        let text = self.decoded("string")?;
        let Ok(length) = u8::try_from(text.len()) else {
            let problem = self.error(format!("a string of {} octets", text.len()));
            return Err(Box::new(problem.allowed("at most 255 octets").hint("split it into several strings")));
        };
        self.wire.push(length);
        self.put(&text);
        Ok(())
    }

    fn texts(&mut self) -> Outcome<()> {
        self.text()?;
        while !self.is_done() {
            self.text()?;
        }
        Ok(())
    }

    fn value(&mut self) -> Outcome<()> {
        let value = self.decoded("quoted string")?;
        self.put(&value);
        Ok(())
    }

    fn tag(&mut self) -> Outcome<()> {
        const WHAT: &str = "tag of letters and digits, such as issue";
        let raw = self.bare(WHAT)?;
        let length = u8::try_from(raw.len()).map_err(|_| self.not(WHAT))?;
        if !raw.bytes().all(|octet| octet.is_ascii_alphanumeric()) {
            return Err(self.not(WHAT));
        }
        self.wire.push(length);
        self.put(raw.as_bytes());
        Ok(())
    }

    fn algorithm(&mut self) -> Outcome<()> {
        const WHAT: &str = "algorithm, 0-255 or a mnemonic such as ECDSAP256SHA256";
        let number = self.mnemonic(ALGORITHMS, WHAT)?;
        self.wire.push(u8::try_from(number).map_err(|_| self.not(WHAT))?);
        Ok(())
    }

    fn cert_type(&mut self) -> Outcome<()> {
        let number = self.mnemonic(CERT_TYPES, "certificate type, 0-65535 or a mnemonic such as PKIX")?;
        self.put(&number.to_be_bytes());
        Ok(())
    }

    fn mnemonic(&mut self, table: &[(&str, u16)], what: &str) -> Outcome<u16> {
        if let Some((_, number)) =
            self.peek().and_then(|raw| table.iter().find(|(mnemonic, _)| mnemonic.eq_ignore_ascii_case(raw)))
        {
            self.next(what)?;
            return Ok(*number);
        }
        self.number::<u16>(what).map(|(_, number)| number)
    }

    /// All tokens that are left in one, for data that may be cut by blanks.
    pub(super) fn joined(&mut self, start: &str) -> String {
        let mut joined = String::from(start);
        while let Some(raw) = self.peek() {
            joined.push_str(raw);
            (self.last, self.tokens) = (self.tokens[0], &self.tokens[1..]);
        }
        joined
    }

    fn base64(&mut self) -> Outcome<()> {
        let first = self.bare(Field::Base64.what())?;
        let data = self.joined(first);
        let data = base64(&data).map_err(|message| self.error(message))?;
        self.put(&data);
        Ok(())
    }

    fn hex(&mut self) -> Outcome<()> {
        let first = self.bare(Field::Hex.what())?;
        let data = self.joined(first);
        let data = hex(&data).map_err(|message| self.error(message))?;
        self.put(&data);
        Ok(())
    }

    fn types(&mut self) -> Outcome<()> {
        let mut types = Vec::new();
        while !self.is_done() {
            let raw = self.bare("type")?;
            types.push(RecordType::parse(raw).ok_or_else(|| self.not("type"))?.0);
        }
        types.sort_unstable();
        types.dedup();
        for window in types.chunk_by(|a, b| a >> 8 == b >> 8) {
            self.window(window);
        }
        Ok(())
    }

    /// One window of a type bitmap (RFC 4034 §4.1.2).
    fn window(&mut self, types: &[u16]) {
        let mut bits = [0u8; 32];
        let mut length = 0;
        for rtype in types {
            let low = usize::from(*rtype & 0xff);
            bits[low / 8] |= 0x80 >> (low % 8);
            length = low / 8 + 1;
        }
        self.wire.extend([(types[0] >> 8) as u8, length as u8]);
        self.put(&bits[..length]);
    }

    /// `N` groups of up to `digits` hexadecimal digits.
    fn groups<const N: usize>(&mut self, separator: char, digits: usize, example: &str) -> Outcome<()> {
        let raw = self.bare(example)?;
        let what = format!("group of {N} hexadecimal numbers such as {example}");
        if raw.split(separator).count() != N {
            return Err(self.not(&what));
        }
        for group in raw.split(separator) {
            let filled = (1..=digits).contains(&group.len()) && (digits == 4 || group.len() == digits);
            let padded = format!("{group:0>digits$}");
            let octets = Some(padded).filter(|_| filled).and_then(|padded| hex(&padded).ok());
            let octets = octets.ok_or_else(|| self.not(&what))?;
            self.put(&octets);
        }
        Ok(())
    }
}

/// A name as zone files write it: `@` is the origin, without a final dot it is completed with the origin.
pub(super) fn read_name(input: Input<'_>, token: Token, origin: &Name) -> Outcome<Name> {
    let raw = input.raw(token);
    if token.quoting != Quoting::Bare {
        return Err(input.error(token, "a quoted string, not a name"));
    }
    if raw == "@" {
        return Ok(origin.clone());
    }
    if !raw.is_ascii() {
        let problem = input.error(token, format!("{} has characters beyond ASCII", quote(raw)));
        return Err(Box::new(problem.hint("write the ASCII form of the name (xn--…), or octets as \\DDD")));
    }
    Name::parse(raw, Some(origin)).map_err(|error| input.error(token, format!("{}: {error}", quote(raw))))
}

/// DNSSEC algorithms (RFC 8624 and the registry).
const ALGORITHMS: &[(&str, u16)] = &[
    ("DELETE", 0),
    ("RSAMD5", 1),
    ("DH", 2),
    ("DSA", 3),
    ("RSASHA1", 5),
    ("DSA-NSEC3-SHA1", 6),
    ("NSEC3DSA", 6),
    ("RSASHA1-NSEC3-SHA1", 7),
    ("NSEC3RSASHA1", 7),
    ("RSASHA256", 8),
    ("RSASHA512", 10),
    ("ECC-GOST", 12),
    ("ECDSAP256SHA256", 13),
    ("ECDSAP384SHA384", 14),
    ("ED25519", 15),
    ("ED448", 16),
    ("INDIRECT", 252),
    ("PRIVATEDNS", 253),
    ("PRIVATEOID", 254),
];

/// Certificate types (RFC 4398 §2.1).
const CERT_TYPES: &[(&str, u16)] = &[
    ("PKIX", 1),
    ("SPKI", 2),
    ("PGP", 3),
    ("IPKIX", 4),
    ("ISPKI", 5),
    ("IPGP", 6),
    ("ACPKIX", 7),
    ("IACPKIX", 8),
    ("URI", 253),
    ("OID", 254),
];
