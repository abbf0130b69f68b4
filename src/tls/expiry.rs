//! When a certificate expires: of all that stands in it, only the end of its validity is read (RFC 5280 §4.1), past what stands
//! before it.
//!
//! ```text
//!   Certificate ─ TBSCertificate ─┬─ [0] version, serial number, signature, issuer
//!                                 └─ Validity ─ notBefore, notAfter
//! ```

const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// The end of a certificate's validity, in seconds since the Unix epoch.
#[must_use]
pub fn not_after(der: &[u8]) -> Option<u64> {
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

    proptest! {
        #[test]
        fn no_octets_panic(octets in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = not_after(&octets);
        }
    }
}
