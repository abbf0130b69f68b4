//! Text of record data with a shape of its own: LOC, APL, WKS, IPSECKEY, HIP, and the parameters of SVCB.
//!
//! What the text cannot say is left to the caller, who reads every line once more.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::{Data, quoted, to_base64, to_hex};
use crate::zone::svcb;

/// The middle of angles, thousandths of a second (RFC 1876 §2).
const MIDDLE: u32 = 1 << 31;
/// Centimetres between the lowest altitude and the reference.
const LOWEST: i64 = 10_000_000;

/// Angles, altitude, size and precisions (RFC 1876 §3).
pub(super) fn location(data: &mut Data<'_>) -> Option<()> {
    let [_version, size, horizontal, vertical] = data.take()?;
    for [plus, minus] in [["N", "S"], ["E", "W"]] {
        let angle = u32::from_be_bytes(data.take()?);
        let (thousandths, direction) = (angle.abs_diff(MIDDLE), if angle < MIDDLE { minus } else { plus });
        let (degrees, minutes) = (thousandths / 3_600_000, thousandths / 60_000 % 60);
        let (seconds, part) = (thousandths / 1000 % 60, thousandths % 1000);
        data.word(format_args!("{degrees} {minutes} {seconds}.{part:03} {direction}"));
    }
    let altitude = i64::from(u32::from_be_bytes(data.take()?)) - LOWEST;
    let sign = if altitude < 0 { "-" } else { "" };
    data.word(format_args!("{sign}{}m", metres(altitude.unsigned_abs())));
    for size in [size, horizontal, vertical] {
        let centimetres = u64::from(size >> 4).checked_mul(10u64.pow(u32::from(size & 15)))?;
        data.word(format_args!("{}m", metres(centimetres)));
    }
    Some(())
}

fn metres(centimetres: u64) -> String {
    format!("{}.{:02}", centimetres / 100, centimetres % 100)
}

/// `[!]family:address/prefix …` (RFC 3123 §5).
pub(super) fn prefixes(data: &mut Data<'_>) -> Option<()> {
    while !data.rest.is_empty() {
        let [_, family, length, used] = data.take()?;
        let (sign, octets) = (if used & 0x80 != 0 { "!" } else { "" }, data.octets(usize::from(used & 0x7f))?);
        let mut address = [0; 16];
        address.get_mut(..octets.len())?.copy_from_slice(octets);
        let [a, b, c, d, ..] = address;
        match family {
            1 => data.word(format_args!("{sign}1:{}/{length}", Ipv4Addr::new(a, b, c, d))),
            _ => data.word(format_args!("{sign}{family}:{}/{length}", Ipv6Addr::from(address))),
        }
    }
    Some(())
}

/// A protocol and ports, by number (RFC 1035 §3.4.2).
pub(super) fn services(data: &mut Data<'_>) -> Option<()> {
    data.u8()?;
    for (octet, at) in data.all().iter().zip(0usize..) {
        (0..8).filter(|bit| octet & (0x80 >> bit) != 0).for_each(|bit| data.word(at * 8 + bit));
    }
    Some(())
}

/// Precedence, gateway type, algorithm, gateway, key (RFC 4025 §3.1).
pub(super) fn gateway(data: &mut Data<'_>) -> Option<()> {
    data.u8()?;
    let kind = data.u8()?;
    data.u8()?;
    match kind {
        0 => data.word("."),
        1 => data.address::<4, Ipv4Addr>()?,
        2 => data.address::<16, Ipv6Addr>()?,
        _ => data.name()?,
    }
    let key = data.all();
    if !key.is_empty() {
        data.word(to_base64(key));
    }
    Some(())
}

/// Algorithm, tag, key, rendezvous servers (RFC 8005 §6).
pub(super) fn host_identity(data: &mut Data<'_>) -> Option<()> {
    let [tag_length] = data.take()?;
    data.u8()?;
    let key_length = u16::from_be_bytes(data.take()?);
    let tag = data.octets(tag_length.into())?;
    data.word(to_hex(tag));
    let key = data.octets(key_length.into())?;
    data.word(to_base64(key));
    while !data.rest.is_empty() {
        data.name()?;
    }
    Some(())
}

/// `key="value" …` (RFC 9460 §2.1).
pub(super) fn params(data: &mut Data<'_>) -> Option<()> {
    for (key, value) in svcb::split(data.all()).ok()? {
        match svcb::text(key, value) {
            Some(text) => data.word(format_args!("{}={text}", svcb::name_of(key))),
            None if value.is_empty() => data.word(svcb::name_of(key)),
            None => data.word(format_args!("key{key}={}", quoted(value))),
        }
    }
    Some(())
}
