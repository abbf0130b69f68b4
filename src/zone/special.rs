//! Record data whose text has a shape of its own: LOC, APL, WKS, IPSECKEY, HIP, NSAP.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::encoding::{base64, hex};
use super::lexer::Outcome;
use super::rdata::Fields;

/// Address families of APL (RFC 3123 §4) and how many octets their addresses have.
pub(super) const FAMILIES: [(u16, u8); 2] = [(1, 4), (2, 16)];

/// `0x47.0005.80…`: digits, dots are decoration (RFC 1706 §8).
pub(super) fn nsap(fields: &mut Fields<'_>) -> Outcome<()> {
    const WHAT: &str = "address of the form 0x47.0005.80";
    let raw = fields.bare(WHAT)?;
    let digits = raw.strip_prefix("0x").or_else(|| raw.strip_prefix("0X")).map(|digits| digits.replace('.', ""));
    let octets = digits.and_then(|digits| hex(&digits).ok()).ok_or_else(|| fields.not(WHAT))?;
    fields.put(&octets);
    Ok(())
}

/// RFC 1876 §3. Absent sizes are 1 m, 10 000 m and 10 m.
pub(super) fn location(fields: &mut Fields<'_>) -> Outcome<()> {
    let latitude = angle(fields, 90, ["N", "S"])?;
    let longitude = angle(fields, 180, ["E", "W"])?;
    let altitude = altitude(fields)?;
    let mut sizes = [0x12, 0x16, 0x13];
    for size in &mut sizes {
        if !fields.is_done() {
            *size = self::size(fields)?;
        }
    }
    fields.put(&[0]);
    fields.put(&sizes);
    for number in [latitude, longitude, altitude] {
        fields.put(&number.to_be_bytes());
    }
    Ok(())
}

/// Degrees, minutes and seconds up to one of two directions, as thousandths of a second around 2^31.
fn angle(fields: &mut Fields<'_>, most: u64, [plus, minus]: [&str; 2]) -> Outcome<u32> {
    let parts = [("number of degrees", most, 0), ("number of minutes", 59, 0), ("number of seconds", 59, 3)];
    let mut thousandths = 0;
    for (index, (what, most, places)) in parts.into_iter().enumerate() {
        if index > 0 && fields.peek().is_some_and(|raw| direction(raw, plus, minus).is_some()) {
            break;
        }
        let raw = fields.bare(what)?;
        let scale = 10u64.pow(places);
        let value = decimal(raw, places).filter(|value| *value < (most + 1) * scale);
        thousandths += value.ok_or_else(|| fields.not(what))? * 3_600_000 / 60u64.pow(index as u32) / scale;
    }
    let what = format!("direction, {plus} or {minus}");
    let raw = fields.bare(&what)?;
    let negative = direction(raw, plus, minus).ok_or_else(|| fields.not(&what))?;
    if thousandths > most * 3_600_000 {
        return Err(fields.error(format!("more than {most} degrees")));
    }
    // At most 180 degrees are 648 000 000 thousandths of a second.
    let thousandths = thousandths as u32;
    Ok(if negative { (1 << 31) - thousandths } else { (1 << 31) + thousandths })
}

/// Whether a direction is the negative one.
fn direction(raw: &str, plus: &str, minus: &str) -> Option<bool> {
    if raw.eq_ignore_ascii_case(plus) { Some(false) } else { raw.eq_ignore_ascii_case(minus).then_some(true) }
}

/// Centimetres above 100 000 m below the reference.
fn altitude(fields: &mut Fields<'_>) -> Outcome<u32> {
    const WHAT: &str = "altitude in metres, -100000.00 to 42849672.95";
    let raw = fields.bare(WHAT)?;
    let metres = raw.strip_suffix(['m', 'M']).unwrap_or(raw);
    let value = match metres.strip_prefix('-') {
        Some(below) => decimal(below, 2).and_then(|below| 10_000_000u64.checked_sub(below)),
        None => decimal(metres, 2).map(|above| above + 10_000_000),
    };
    value.and_then(|value| u32::try_from(value).ok()).ok_or_else(|| fields.not(WHAT))
}

/// A size in metres as one digit and a power of ten, of centimetres.
fn size(fields: &mut Fields<'_>) -> Outcome<u8> {
    const WHAT: &str = "size in metres, 0.00 to 90000000.00";
    let raw = fields.bare(WHAT)?;
    let value = decimal(raw.strip_suffix(['m', 'M']).unwrap_or(raw), 2).filter(|value| *value <= 9_000_000_000);
    let mut digit = value.ok_or_else(|| fields.not(WHAT))?;
    let mut power = 0u8;
    while digit > 9 {
        digit /= 10;
        power += 1;
    }
    Ok((digit as u8) << 4 | power)
}

/// A number with at most `places` decimals, in units of the last of them; below 10^12.
fn decimal(text: &str, places: u32) -> Option<u64> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let is_digits = |text: &str| text.bytes().all(|octet| octet.is_ascii_digit());
    if whole.is_empty() || whole.len() > 9 || part.len() > places as usize || !is_digits(whole) || !is_digits(part) {
        return None;
    }
    if text.ends_with('.') {
        return None;
    }
    format!("{whole}{part:0<width$}", width = places as usize).parse().ok()
}

/// `[!]family:address/prefix …` (RFC 3123 §5), zero octets at the end of an address left out.
pub(super) fn prefixes(fields: &mut Fields<'_>) -> Outcome<()> {
    const WHAT: &str = "prefix, [!]1:IPv4/length or [!]2:IPv6/length";
    while !fields.is_done() {
        let raw = fields.bare(WHAT)?;
        let item = prefix(raw).ok_or_else(|| fields.not(WHAT))?;
        fields.put(&item);
    }
    Ok(())
}

fn prefix(raw: &str) -> Option<Vec<u8>> {
    let plain = raw.strip_prefix('!');
    let (family, rest) = plain.unwrap_or(raw).split_once(':')?;
    let (address, length) = rest.split_once('/')?;
    let address = match family {
        "1" => address.parse::<Ipv4Addr>().ok()?.octets().to_vec(),
        "2" => address.parse::<Ipv6Addr>().ok()?.octets().to_vec(),
        _ => return None,
    };
    let length = length.parse::<u8>().ok().filter(|bits| usize::from(*bits) <= address.len() * 8)?;
    let used = address.iter().rposition(|octet| *octet != 0).map_or(0, |last| last + 1);
    let negated = if plain.is_some() { 0x80 } else { 0 };
    let mut item = vec![0, family.as_bytes()[0] - b'0', length, negated | used as u8];
    item.extend_from_slice(&address[..used]);
    Some(item)
}

/// Ports that WKS records name in practice.
const PORTS: &[(&str, u16)] = &[
    ("echo", 7),
    ("ftp-data", 20),
    ("ftp", 21),
    ("ssh", 22),
    ("telnet", 23),
    ("smtp", 25),
    ("time", 37),
    ("domain", 53),
    ("tftp", 69),
    ("gopher", 70),
    ("finger", 79),
    ("http", 80),
    ("pop3", 110),
    ("nntp", 119),
    ("ntp", 123),
    ("imap", 143),
    ("snmp", 161),
    ("https", 443),
];

/// A protocol and a bitmap of its ports (RFC 1035 §3.4.2).
pub(super) fn services(fields: &mut Fields<'_>) -> Outcome<()> {
    let protocol = match fields.peek() {
        Some(raw) if raw.eq_ignore_ascii_case("tcp") => fields.bare("tcp").map(|_| 6)?,
        Some(raw) if raw.eq_ignore_ascii_case("udp") => fields.bare("udp").map(|_| 17)?,
        _ => fields.number::<u8>("protocol, TCP, UDP or 0-255")?.1,
    };
    let mut bits = Vec::new();
    while !fields.is_done() {
        let port = usize::from(port(fields)?);
        bits.resize(bits.len().max(port / 8 + 1), 0u8);
        bits[port / 8] |= 0x80 >> (port % 8);
    }
    fields.put(&[protocol]);
    fields.put(&bits);
    Ok(())
}

fn port(fields: &mut Fields<'_>) -> Outcome<u16> {
    const WHAT: &str = "port 0-65535";
    let raw = fields.bare(WHAT)?;
    let named = PORTS.iter().find(|(name, _)| name.eq_ignore_ascii_case(raw)).map(|(_, port)| *port);
    named.or_else(|| raw.parse().ok()).ok_or_else(|| fields.not(WHAT))
}

/// RFC 4025 §3.1: precedence, gateway type, algorithm, gateway, key (none for algorithm 0).
pub(super) fn gateway(fields: &mut Fields<'_>) -> Outcome<()> {
    let (_, precedence) = fields.number::<u8>("precedence 0-255")?;
    let (_, kind) = fields.number::<u8>("gateway type 0-3")?;
    let (_, algorithm) = fields.number::<u8>("algorithm 0-255")?;
    fields.put(&[precedence, kind, algorithm]);
    match kind {
        0 if fields.peek() == Some(".") => fields.bare(".").map(|_| ())?,
        1 => {
            let address = fields.parsed::<Ipv4Addr>("IPv4 address")?;
            fields.put(&address.octets());
        }
        2 => {
            let address = fields.parsed::<Ipv6Addr>("IPv6 address")?;
            fields.put(&address.octets());
        }
        3 => fields.name()?,
        _ => return Err(fields.error("gateway types are 0 (`.`), 1 (IPv4), 2 (IPv6) and 3 (name)")),
    }
    let key = fields.joined("");
    let key = base64(&key).map_err(|message| fields.error(message))?;
    fields.put(&key);
    Ok(())
}

/// RFC 8005 §6: algorithm, tag in hexadecimal, key in base64, rendezvous servers.
pub(super) fn host_identity(fields: &mut Fields<'_>) -> Outcome<()> {
    let (_, algorithm) = fields.number::<u8>("algorithm 0-255")?;
    let tag = fields.bare("host identity tag")?;
    let tag = hex(tag).map_err(|message| fields.error(message))?;
    let tag_length = u8::try_from(tag.len()).map_err(|_| fields.error("a tag of more than 255 octets"))?;
    let key = fields.bare("public key")?;
    let key = base64(key).map_err(|message| fields.error(message))?;
    let key_length = u16::try_from(key.len()).map_err(|_| fields.error("a key of more than 65535 octets"))?;
    fields.put(&[tag_length, algorithm]);
    fields.put(&key_length.to_be_bytes());
    fields.put(&tag);
    fields.put(&key);
    while !fields.is_done() {
        fields.name()?;
    }
    Ok(())
}
