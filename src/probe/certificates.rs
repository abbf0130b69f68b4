//! When the certificates that targets show expire (SPEC 2.6): noted at each handshake, believed or not, for metrics.
//!
//! Of a certificate only the end of its validity is read (RFC 5280 §4.1), past what stands before it:
//!
//! ```text
//!   Certificate ─ TBSCertificate ─┬─ [0] version, serial number, signature, issuer
//!                                 └─ Validity ─ notBefore, notAfter
//! ```

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::fleet::Target;
use crate::probe::{Check, socket_address};

/// The certificates of all targets that are probed over TLS.
#[derive(Debug, Default)]
pub struct Certificates(Mutex<Vec<Weak<Certificate>>>);

/// Whose certificate it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Holder {
    /// The check's name.
    pub check: String,
    /// Address and port.
    pub target: String,
    /// Host that was asked for; empty = the address itself.
    pub host: String,
}

/// The certificate that one target showed last.
#[derive(Debug, Default)]
pub(super) struct Certificate {
    holder: Holder,
    /// In seconds since the Unix epoch; 0 = none seen.
    expires: AtomicU64,
}

impl Certificates {
    /// When each certificate that was seen expires, in seconds since the Unix epoch.
    #[must_use]
    pub fn expiries(&self) -> BTreeMap<Holder, u64> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = all.iter().filter_map(Weak::upgrade);
        let expiry = |seen: Arc<Certificate>| (seen.holder.clone(), seen.expires.load(Ordering::Relaxed));
        seen.map(expiry).filter(|(_, expires)| *expires != 0).collect()
    }

    /// A place for the certificate of a target, listed for as long as it is held.
    pub(super) fn of(&self, check: &Check, target: &Target) -> Arc<Certificate> {
        let holder = Holder {
            check: check.name.clone(),
            target: socket_address(target).to_string(),
            host: target.host.as_deref().unwrap_or_default().to_string(),
        };
        let certificate = Arc::new(Certificate { holder, expires: AtomicU64::new(0) });
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() == all.capacity() {
            all.retain(|held| held.strong_count() > 0);
        }
        all.push(Arc::downgrade(&certificate));
        certificate
    }
}

impl Certificate {
    /// Takes note of a certificate in DER; one that cannot be read is passed over.
    pub(super) fn note(&self, der: &[u8]) {
        if let Some(expires) = not_after(der) {
            self.expires.store(expires, Ordering::Relaxed);
        }
    }
}

const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// The end of a certificate's validity, in seconds since the Unix epoch.
fn not_after(der: &[u8]) -> Option<u64> {
    let (certificate, _) = expect(SEQUENCE, der)?;
    let (mut rest, _) = expect(SEQUENCE, certificate)?;
    if rest.first() == Some(&VERSION) {
        rest = element(rest)?.2;
    }
    for _ in ["serial number", "signature", "issuer"] {
        rest = element(rest)?.2;
    }
    let (validity, _) = expect(SEQUENCE, rest)?;
    let (_, _, not_after) = element(validity)?;
    let (tag, time, _) = element(not_after)?;
    seconds(tag, std::str::from_utf8(time).ok()?)
}

/// The content of an element with this tag, and what stands behind it.
fn expect(tag: u8, input: &[u8]) -> Option<(&[u8], &[u8])> {
    let (found, content, rest) = element(input)?;
    (found == tag).then_some((content, rest))
}

/// Tag and content of the first element, and what stands behind it.
fn element(input: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[tag, short], rest) = input.split_first_chunk()?;
    let (length, rest) = match short {
        ..=0x7f => (usize::from(short), rest),
        0x81..=0x83 => {
            let (octets, rest) = rest.split_at_checked(usize::from(short & 0x7f))?;
            (octets.iter().fold(0, |length, octet| length << 8 | usize::from(*octet)), rest)
        }
        // Indefinite lengths are not DER, and no certificate is longer than 16 MiB.
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

/// `YYMMDDHHMMSSZ` or `YYYYMMDDHHMMSSZ` (RFC 5280 §4.1.2.5).
fn seconds(tag: u8, text: &str) -> Option<u64> {
    let digits = text.strip_suffix('Z').filter(|digits| digits.bytes().all(|octet| octet.is_ascii_digit()))?;
    let (year, rest) = match (tag, digits.len()) {
        (UTC_TIME, 12) => {
            let year: u64 = digits[..2].parse().ok()?;
            (if year < 50 { 2000 + year } else { 1900 + year }, &digits[2..])
        }
        (GENERALIZED_TIME, 14) => (digits[..4].parse().ok()?, &digits[4..]),
        _ => return None,
    };
    let number = |at: usize| rest[at..at + 2].parse::<u64>().ok();
    let (month, day) = (number(0)?, number(2)?);
    let time = number(4)? * 3_600 + number(6)? * 60 + number(8)?;
    Some(days(year, month, day)? * 86_400 + time)
}

/// Days from 1970-01-01 to a date, in years that begin in March so that leap days come last.
fn days(year: u64, month: u64, day: u64) -> Option<u64> {
    if !(1..=12).contains(&month) || day == 0 || year == 0 {
        return None;
    }
    let (year, month_from_march) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    (year * 365 + year / 4 - year / 100 + year / 400 + day_of_year).checked_sub(719_468)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::probe::{Kind, backends};

    #[test]
    fn times() {
        let rows = [
            (UTC_TIME, "700101000000Z", Some(0)),
            (UTC_TIME, "260102000000Z", Some(1_767_312_000)),
            (UTC_TIME, "000229000000Z", Some(951_782_400)),
            (UTC_TIME, "491231235959Z", Some(2_524_607_999)),
            (UTC_TIME, "500101000000Z", None),
            (GENERALIZED_TIME, "21000301000000Z", Some(4_107_542_400)),
            (GENERALIZED_TIME, "99991231235959Z", Some(253_402_300_799)),
            (GENERALIZED_TIME, "00000101000000Z", None),
            (GENERALIZED_TIME, "20261301000000Z", None),
            (GENERALIZED_TIME, "260102000000Z", None),
            (UTC_TIME, "2601020000Z", None),
            (UTC_TIME, "26010200000+Z", None),
            (0x04, "260102000000Z", None),
        ];
        for (tag, text, expected) in rows {
            assert_eq!(seconds(tag, text), expected, "{text}");
        }
    }

    #[test]
    fn certificates() {
        let authority = backends::Authority::new("ours");
        let rows = [((2020, 2024), 1_704_153_600), ((2020, 2049), 2_493_158_400), ((2020, 2100), 4_102_531_200)];
        for (years, expires) in rows {
            let der = authority.issue("www.example.com", years).0;
            assert_eq!(not_after(&der), Some(expires), "{years:?}");
            assert!((0..120).all(|cut| not_after(&der[..cut]).is_none()), "what is cut has none");
        }
    }

    #[test]
    fn certificates_are_listed_while_they_are_held() {
        let all = Certificates::default();
        let check = backends::check(Kind::Tls { verify: true, identity: None }, std::time::Duration::from_secs(1));
        let of = |port: u16| all.of(&check, &backends::target(([192, 0, 2, 1], port).into(), Some("a.example")));
        let der = backends::Authority::new("ours").issue("a.example", (2020, 2024)).0;
        let (one, other) = (of(1), of(2));
        one.note(&der);
        one.note(b"junk");
        let holder = Holder { check: "web".into(), target: "192.0.2.1:1".into(), host: "a.example".into() };
        assert_eq!(all.expiries(), BTreeMap::from([(holder, 1_704_153_600)]), "of one that was seen");
        drop(one);
        assert_eq!(all.expiries(), BTreeMap::new());
        for port in 0..1000 {
            of(port);
        }
        assert!(all.0.lock().unwrap().len() < 100, "what is gone is forgotten");
        drop(other);
    }

    proptest! {
        #[test]
        fn no_octets_panic(octets in proptest::collection::vec(any::<u8>(), 0..200)) {
            not_after(&octets);
        }

        #[test]
        fn no_change_of_a_certificate_panics(at in 0_usize..200, octet in any::<u8>()) {
            let mut der = backends::Authority::new("ours").root();
            der[at] = octet;
            not_after(&der);
        }
    }
}
