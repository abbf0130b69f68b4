//! TTLs and periods: seconds, or numbers with the units `w d h m s` (`1h30m`).

/// The largest TTL (RFC 2181 §8).
pub(super) const MAX_TTL: u32 = i32::MAX as u32;

/// Seconds; `None` when the text is no period or beyond all bounds.
pub(super) fn seconds(text: &str) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    let (mut total, mut number, mut units) = (0u64, None::<u64>, false);
    for octet in text.bytes() {
        match octet {
            b'0'..=b'9' => {
                number = Some(number.unwrap_or(0).checked_mul(10)?.checked_add(u64::from(octet - b'0'))?);
            }
            _ => {
                total = total.checked_add(number.take()?.checked_mul(unit(octet)?)?)?;
                units = true;
            }
        }
    }
    match (number, units) {
        (Some(number), false) => Some(number),
        (None, true) => Some(total),
        // `1h30`: thirty of what?
        _ => None,
    }
}

fn unit(octet: u8) -> Option<u64> {
    Some(match octet.to_ascii_lowercase() {
        b'w' => 604_800,
        b'd' => 86_400,
        b'h' => 3600,
        b'm' => 60,
        b's' => 1,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_units() {
        for (text, expected) in [
            ("0", Some(0)),
            ("300", Some(300)),
            ("1h30m", Some(5400)),
            ("1W2D3H4M5S", Some(788_645)),
            ("4294967296", Some(4_294_967_296)),
            ("", None),
            ("h", None),
            ("1h30", None),
            ("1x", None),
            ("-1", None),
            ("99999999999999999999", None),
            ("99999999999999999w", None),
        ] {
            assert_eq!(seconds(text), expected, "{text}");
        }
    }
}
