//! Hexadecimal and base64 (RFC 4648 §4, §8), strict: padding complete, unused bits zero.

/// The octets of hexadecimal digits in either case.
pub(super) fn hex(text: &str) -> Result<Vec<u8>, &'static str> {
    const BAD: &str = "hexadecimal digits in pairs are needed here";
    if !text.len().is_multiple_of(2) {
        return Err(BAD);
    }
    let nibble = |octet: u8| char::from(octet).to_digit(16).map(|value| value as u8).ok_or(BAD);
    text.as_bytes().chunks_exact(2).map(|pair| Ok(nibble(pair[0])? << 4 | nibble(pair[1])?)).collect()
}

/// The octets of padded base64.
pub fn base64(text: &str) -> Result<Vec<u8>, &'static str> {
    const BAD: &str = "base64 with its padding is needed here";
    if !text.len().is_multiple_of(4) {
        return Err(BAD);
    }
    let data = text.strip_suffix("==").or_else(|| text.strip_suffix('=')).unwrap_or(text).as_bytes();
    let mut octets = Vec::with_capacity(data.len() / 4 * 3 + 2);
    for group in data.chunks(4) {
        let mut bits = 0u32;
        for octet in group {
            bits = bits << 6 | u32::from(sextet(*octet).ok_or(BAD)?);
        }
        bits <<= 6 * (4 - group.len());
        let [_, decoded @ ..] = bits.to_be_bytes();
        let count = group.len() * 6 / 8;
        if decoded[count..].iter().any(|unused| *unused != 0) {
            return Err("base64 with bits behind its end");
        }
        octets.extend_from_slice(&decoded[..count]);
    }
    Ok(octets)
}

/// Octets as hexadecimal digits in upper case.
pub(super) fn to_hex(octets: &[u8]) -> String {
    let digit = |nibble: u8| char::from(b"0123456789ABCDEF"[usize::from(nibble)]);
    octets.iter().flat_map(|octet| [digit(octet >> 4), digit(octet & 15)]).collect()
}

/// Octets as padded base64.
pub(super) fn to_base64(octets: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(octets.len().div_ceil(3) * 4);
    for group in octets.chunks(3) {
        let octet = |at: usize| u32::from(group.get(at).copied().unwrap_or(0));
        let bits = octet(0) << 16 | octet(1) << 8 | octet(2);
        for place in 0..4 {
            let digit = char::from(DIGITS[(bits >> (18 - 6 * place) & 63) as usize]);
            text.push(if place <= group.len() { digit } else { '=' });
        }
    }
    text
}

fn sextet(octet: u8) -> Option<u8> {
    Some(match octet {
        b'A'..=b'Z' => octet - b'A',
        b'a'..=b'z' => octet - b'a' + 26,
        b'0'..=b'9' => octet - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_decodes() {
        for (octets, expected) in
            [(&b""[..], ""), (b"f", "Zg=="), (b"fo", "Zm8="), (b"foo", "Zm9v"), (b"\xff\xef\xbe", "/+++")]
        {
            assert_eq!(to_base64(octets), expected);
        }
        let all: Vec<u8> = (0..=255).collect();
        for length in 0..all.len() {
            assert_eq!(base64(&to_base64(&all[..length])).as_deref(), Ok(&all[..length]));
            assert_eq!(hex(&to_hex(&all[..length])).as_deref(), Ok(&all[..length]));
        }
    }

    #[test]
    fn decodes() {
        for (text, expected) in
            [("", Some(&b""[..])), ("00fF", Some(b"\x00\xff")), ("0", None), ("0g", None), ("é", None), ("+1", None)]
        {
            assert_eq!(hex(text).ok().as_deref(), expected, "{text}");
        }
        for (text, expected) in [
            ("", Some(&b""[..])),
            ("AA==", Some(b"\0")),
            ("Zm8=", Some(b"fo")),
            ("Zm9v", Some(b"foo")),
            ("Zm9vYmFy", Some(b"foobar")),
            ("/+8=", Some(b"\xff\xef")),
            ("AB==", None),
            ("Zm9=", None),
            ("Zm9", None),
            ("=", None),
            ("====", None),
            ("Z===", None),
            ("Zm=v", None),
            ("Zm9v Zm9v", None),
            ("ééé", None),
        ] {
            assert_eq!(base64(text).ok().as_deref(), expected, "{text}");
        }
    }
}
