//! Record types and classes by number and by mnemonic (RFC 1035 §3.2, RFC 3597 §5).

use std::fmt;

/// A record type, also one that this server does not know.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordType(pub u16);

/// A class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Class(pub u16);

impl Class {
    /// Internet.
    pub const IN: Class = Class(1);
    /// Chaos, for `version.bind`.
    pub const CH: Class = Class(3);
    /// No class: in updates, what is not there or is to go.
    pub const NONE: Class = Class(254);
    /// Any class, in queries.
    pub const ANY: Class = Class(255);
}

macro_rules! record_types {
    ($($name:ident = $number:literal),* $(,)?) => {
        #[allow(missing_docs)]
        impl RecordType {
            $(pub const $name: RecordType = RecordType($number);)*
        }
        /// Mnemonic and number of every type that has one here.
        const MNEMONICS: &[(&str, u16)] = &[$((stringify!($name), $number)),*];
    };
}

record_types! {
    A = 1, NS = 2, MD = 3, MF = 4, CNAME = 5, SOA = 6, MB = 7, MG = 8, MR = 9, NULL = 10, WKS = 11, PTR = 12,
    HINFO = 13, MINFO = 14, MX = 15, TXT = 16, RP = 17, AFSDB = 18, X25 = 19, ISDN = 20, RT = 21, NSAP = 22,
    SIG = 24, KEY = 25, PX = 26, AAAA = 28, LOC = 29, NXT = 30, SRV = 33, NAPTR = 35, KX = 36, CERT = 37, DNAME = 39,
    OPT = 41, APL = 42, DS = 43, SSHFP = 44, IPSECKEY = 45, RRSIG = 46, NSEC = 47, DNSKEY = 48, DHCID = 49,
    NSEC3 = 50, NSEC3PARAM = 51, TLSA = 52, SMIMEA = 53, HIP = 55, CDS = 59, CDNSKEY = 60, OPENPGPKEY = 61,
    CSYNC = 62, ZONEMD = 63, SVCB = 64, HTTPS = 65, SPF = 99, NID = 104, L32 = 105, L64 = 106, LP = 107, EUI48 = 108,
    EUI64 = 109, NXNAME = 128, TKEY = 249, TSIG = 250, IXFR = 251, AXFR = 252, MAILB = 253, MAILA = 254, ANY = 255,
    URI = 256, CAA = 257,
}

impl RecordType {
    /// From a mnemonic or `TYPE123`, without case.
    #[must_use]
    pub fn parse(text: &str) -> Option<RecordType> {
        if let Some((_, number)) = MNEMONICS.iter().find(|(name, _)| name.eq_ignore_ascii_case(text)) {
            return Some(RecordType(*number));
        }
        let digits = text.get(..4).filter(|start| start.eq_ignore_ascii_case("TYPE")).map(|_| &text[4..])?;
        if digits.is_empty() || !digits.bytes().all(|octet| octet.is_ascii_digit()) {
            return None;
        }
        digits.parse().ok().map(RecordType)
    }

    /// Whether a query of this type asks for a copy of a zone.
    #[must_use]
    pub fn is_transfer(self) -> bool {
        matches!(self, RecordType::IXFR | RecordType::AXFR)
    }

    /// Types that only queries or messages carry, never a zone (RFC 6895 §3.1).
    #[must_use]
    pub fn is_meta(self) -> bool {
        self == RecordType::OPT || (128..256).contains(&self.0) || self.0 == 0
    }
}

impl fmt::Display for RecordType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match MNEMONICS.iter().find(|(_, number)| *number == self.0) {
            Some((name, _)) => f.write_str(name),
            None => write!(f, "TYPE{}", self.0),
        }
    }
}

impl fmt::Debug for RecordType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
