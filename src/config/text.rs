//! Small notations inside strings: durations, shares, prefixes, names of things (SPEC 1.1, 1.6).

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

/// Units of a duration in the order they must have, in milliseconds.
const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Why a text is not a prefix.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum PrefixError {
    /// Not an address with an optional `/length`.
    Malformed,
    /// Bits are set past the prefix; the prefix without them.
    HostBits(IpNet),
    /// IPv4 written as mapped IPv6; clients have IPv4 addresses then.
    Mapped(IpNet),
}

/// `250ms`, `5s`, `1m30s`, `2h`; units d h m s ms, each at most once, in this order.
#[must_use]
pub fn duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut units = UNITS.iter();
    let mut total_ms: u64 = 0;
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let number: u64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let letters = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_alphabetic()).len();
        let (_, factor) = units.find(|(unit, _)| *unit == &rest[..letters])?;
        total_ms = total_ms.checked_add(number.checked_mul(*factor)?)?;
        rest = &rest[letters..];
    }
    (!text.is_empty()).then(|| Duration::from_millis(total_ms))
}

/// A duration as one writes it: `1m30s`, `250ms`, `0s`.
pub fn show_duration(duration: Duration) -> String {
    let mut rest_ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let mut text = String::new();
    for (unit, factor) in UNITS {
        if rest_ms >= factor {
            text.push_str(&format!("{}{unit}", rest_ms / factor));
            rest_ms %= factor;
        }
    }
    if text.is_empty() { "0s".to_string() } else { text }
}

/// `50%`, `12.5%`, `0.01%`, in 1/10 000.
pub(super) fn share(text: &str) -> Option<u32> {
    let number = text.strip_suffix('%')?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let all_digits = |part: &str| !part.is_empty() && part.bytes().all(|octet| octet.is_ascii_digit());
    if !all_digits(whole) || !all_digits(fraction) || fraction.len() > 2 {
        return None;
    }
    let hundredths: u32 = format!("{fraction:0<2}").parse().ok()?;
    whole.parse::<u32>().ok()?.checked_mul(100)?.checked_add(hundredths)
}

/// A share as one writes it.
pub(super) fn show_share(share: u32) -> String {
    match (share / 100, share % 100) {
        (whole, 0) => format!("{whole}%"),
        (whole, part) if part % 10 == 0 => format!("{whole}.{}%", part / 10),
        (whole, part) => format!("{whole}.{part:02}%"),
    }
}

/// `203.0.113.0/24`, `2001:db8::/32`, or an address alone.
pub(super) fn prefix(text: &str) -> Result<IpNet, PrefixError> {
    let parsed = match text.parse::<IpAddr>() {
        Ok(address) => Ok(IpNet::from(address)),
        Err(_) => text.parse::<IpNet>().map_err(|_| PrefixError::Malformed),
    }?;
    if parsed.addr() != parsed.network() {
        return Err(PrefixError::HostBits(parsed.trunc()));
    }
    match parsed {
        IpNet::V6(net) if net.prefix_len() >= 96 => match net.addr().to_ipv4_mapped() {
            Some(v4) => {
                Err(IpNet::new(v4.into(), net.prefix_len() - 96).map_or(PrefixError::Malformed, PrefixError::Mapped))
            }
            None => Ok(parsed),
        },
        _ => Ok(parsed),
    }
}

/// Whether a text can name a region, check, pool, map or instance: it must fit into `instance/web/eu-1` and a glob.
pub(super) fn is_name(text: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    (1..=63).contains(&text.len()) && text.chars().all(allowed) && !text.starts_with(['-', '.'])
}

/// The name nearest to `name`, when it is near enough to be meant.
pub(super) fn nearest<'a>(name: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = name.to_lowercase();
    if lower.len() > 255 {
        return None;
    }
    let names: Vec<&str> = names.into_iter().collect();
    if let Some(longer) = names.iter().find(|name| lower.len() >= 3 && name.starts_with(&lower)) {
        return Some(longer);
    }
    let (distance, candidate) = closest(&lower, &names)?;
    let longest = lower.chars().count().max(candidate.chars().count());
    (distance <= (longest / 3).max(1) && distance < longest).then_some(candidate)
}

/// The first of the names with the least distance. Most of many names are passed over for their length, or because only
/// the same in other letters would be nearer than what was found.
fn closest<'a>(lower: &str, names: &[&'a str]) -> Option<(usize, &'a str)> {
    let mut best: Option<(usize, &str)> = None;
    for &name in names {
        let least = match name.is_ascii() && lower.is_ascii() {
            true if name.eq_ignore_ascii_case(lower) => 0,
            true => name.len().abs_diff(lower.len()).max(1),
            false => 0,
        };
        if best.is_some_and(|(distance, _)| distance <= least) {
            continue;
        }
        let distance = strsim::osa_distance(lower, &name.to_lowercase());
        if best.is_none_or(|(least, _)| distance < least) {
            best = Some((distance, name));
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, ms) in [
            ("250ms", Some(250)),
            ("5s", Some(5_000)),
            ("1m30s", Some(90_000)),
            ("2h", Some(7_200_000)),
            ("0s", Some(0)),
            ("1d2h3m4s5ms", Some(93_784_005)),
            ("", None),
            ("5", None),
            ("s", None),
            ("5 s", None),
            ("-5s", None),
            ("1.5s", None),
            ("1s1m", None),
            ("1s1s", None),
            ("5sec", None),
            ("99999999999999999999s", None),
            ("18446744073709551615d", None),
        ] {
            assert_eq!(duration(text), ms.map(Duration::from_millis), "{text}");
        }
        for text in ["250ms", "5s", "1m30s", "2h", "0s", "1d"] {
            assert_eq!(show_duration(duration(text).expect("a duration")), text);
        }
    }

    #[test]
    fn shares() {
        for (text, expected) in [
            ("50%", Some(5_000)),
            ("0%", Some(0)),
            ("12.5%", Some(1_250)),
            ("0.01%", Some(1)),
            ("200%", Some(20_000)),
            ("50", None),
            ("%", None),
            (".5%", None),
            ("5.%", None),
            ("0.001%", None),
            ("-1%", None),
            ("99999999999%", None),
        ] {
            assert_eq!(share(text), expected, "{text}");
        }
        for text in ["50%", "12.5%", "0.01%", "0%"] {
            assert_eq!(show_share(share(text).expect("a share")), text);
        }
    }

    #[test]
    fn prefixes() {
        let net = |text: &str| text.parse::<IpNet>().expect("a prefix");
        assert_eq!(prefix("203.0.113.0/24"), Ok(net("203.0.113.0/24")));
        assert_eq!(prefix("203.0.113.7"), Ok(net("203.0.113.7/32")));
        assert_eq!(prefix("2001:db8::"), Ok(net("2001:db8::/128")));
        assert_eq!(prefix("203.0.113.7/24"), Err(PrefixError::HostBits(net("203.0.113.0/24"))));
        assert_eq!(prefix("::ffff:192.0.2.0/120"), Err(PrefixError::Mapped(net("192.0.2.0/24"))));
        for text in ["", "x", "1.2.3/8", "1.2.3.4/33", "::/129", "1.2.3.4/-1", " 1.2.3.4"] {
            assert_eq!(prefix(text), Err(PrefixError::Malformed), "{text}");
        }
    }

    #[test]
    fn near_misses() {
        let keys = ["interval", "timeout", "fall", "rise"];
        assert_eq!(nearest("intervall", keys), Some("interval"));
        assert_eq!(nearest("Timeout", keys), Some("timeout"));
        assert_eq!(nearest("time", keys), Some("timeout"));
        assert_eq!(nearest("retries", keys), None);
        assert_eq!(nearest("x", ["y"]), None);
    }

    proptest::proptest! {
        #[test]
        fn the_closest_is_the_first_of_those_with_the_least_distance(
            lower in "[abü]{0,4}",
            names in proptest::collection::vec("[aAbBüÜ]{0,5}", 0..8),
        ) {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let scored = names.iter().map(|name| (strsim::osa_distance(&lower, &name.to_lowercase()), *name));
            proptest::prop_assert_eq!(closest(&lower, &names), scored.min_by_key(|(distance, _)| *distance));
        }
    }
}
