//! Checks record data in wire format against its type: every name, length and bitmap, to the last octet.
//!
//! Whatever way record data came in (text, `\#`, a transfer), it is in order when [`verify`] says so. Types without a
//! form are opaque (RFC 3597).

use super::rdata::{Field, form};
use super::{special, svcb};
use crate::dns::name::{MAX_LABEL, MAX_NAME};
use crate::dns::{Name, RecordType};

/// What is wrong, for "not a valid MX: …".
type Checked<T = ()> = Result<T, &'static str>;

/// Checks the record data of a type.
pub(super) fn verify(rtype: RecordType, rdata: &[u8]) -> Checked {
    let Some(form) = form(rtype) else { return Ok(()) };
    let mut cursor = Cursor { whole: rdata, rest: rdata };
    form.iter().try_for_each(|field| cursor.field(*field))?;
    if !cursor.rest.is_empty() {
        return Err("octets behind the end");
    }
    verify_value(rtype, rdata)
}

/// What the parts alone do not show; `rdata` has the type's form.
fn verify_value(rtype: RecordType, rdata: &[u8]) -> Checked {
    match rtype {
        RecordType::DNSKEY | RecordType::CDNSKEY if rdata[2] != 3 => Err("the protocol must be 3"),
        // `0 0 0 00` asks the parent to delete the DS (RFC 8078 §4).
        RecordType::CDS if rdata == [0; 5] => Ok(()),
        // Bits beyond immediate and soaminimum keep every parent from acting on it (RFC 7477 §2.1.1.2).
        RecordType::CSYNC if rdata[4] != 0 || rdata[5] > 3 => Err("unknown flags, allowed are 0 to 3"),
        RecordType::NAPTR if !has_naptr_flags(rdata) => Err("the flags must be letters and digits (RFC 3403 §4.1)"),
        RecordType::DS | RecordType::CDS => sized(rdata[3], &rdata[4..], &[(1, 20), (2, 32), (4, 48)]),
        RecordType::SSHFP => sized(rdata[1], &rdata[2..], &[(1, 20), (2, 32)]),
        RecordType::TLSA | RecordType::SMIMEA => sized(rdata[2], &rdata[3..], &[(1, 32), (2, 64)]),
        RecordType::ZONEMD if rdata.len() < 6 + 12 => Err("a digest has at least 12 octets"),
        RecordType::ZONEMD => sized(rdata[5], &rdata[6..], &[(1, 48), (2, 64)]),
        _ => Ok(()),
    }
}

fn has_naptr_flags(rdata: &[u8]) -> bool {
    rdata[5..][..usize::from(rdata[4])].iter().all(u8::is_ascii_alphanumeric)
}

/// Holds a digest to the length of its kind, if that is known.
fn sized(kind: u8, digest: &[u8], lengths: &[(u8, usize)]) -> Checked {
    match lengths.iter().find(|(known, _)| *known == kind) {
        Some((_, length)) if *length != digest.len() => Err("the digest's length does not fit its type"),
        _ => Ok(()),
    }
}

struct Cursor<'a> {
    whole: &'a [u8],
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    fn field(&mut self, field: Field) -> Checked {
        match field {
            Field::Name => self.name(),
            Field::U8 | Field::Algorithm => self.take(1).map(drop),
            Field::U16 | Field::CertType => self.take(2).map(drop),
            Field::U32 | Field::Period | Field::A => self.take(4).map(drop),
            Field::Aaaa => self.take(16).map(drop),
            Field::Text => self.text(),
            Field::OptionalText if self.rest.is_empty() => Ok(()),
            Field::OptionalText => self.text(),
            Field::Texts => self.texts(),
            Field::Value => self.skip_rest(0),
            Field::FilledValue | Field::Base64 | Field::Hex | Field::Nsap => self.skip_rest(1),
            Field::Tag => self.tag(),
            Field::Types => self.types(),
            Field::Eui48 => self.take(6).map(drop),
            Field::Eui64 | Field::Node64 => self.take(8).map(drop),
            Field::Location => self.location(),
            Field::Prefixes => self.prefixes(),
            Field::Services => self.services(),
            Field::Gateway => self.gateway(),
            Field::HostIdentity => self.host_identity(),
            Field::Params => self.params(),
        }
    }

    fn take(&mut self, length: usize) -> Checked<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or("it is cut off")?;
        self.rest = rest;
        Ok(taken)
    }

    fn octet(&mut self) -> Checked<u8> {
        self.take(1).map(|octets| octets[0])
    }

    fn skip_rest(&mut self, least: usize) -> Checked {
        if self.rest.len() < least {
            return Err("it is cut off");
        }
        self.rest = &[];
        Ok(())
    }

    fn name(&mut self) -> Checked {
        let start = self.rest.len();
        loop {
            let length = usize::from(self.octet()?);
            if length > MAX_LABEL {
                return Err("a name with a compression pointer or an unknown label type");
            }
            self.take(length)?;
            if start - self.rest.len() > MAX_NAME {
                return Err("a name longer than 255 octets");
            }
            if length == 0 {
                return Ok(());
            }
        }
    }

    fn text(&mut self) -> Checked {
        let length = self.octet()?;
        self.take(length.into()).map(drop)
    }

    fn texts(&mut self) -> Checked {
        self.text()?;
        while !self.rest.is_empty() {
            self.text()?;
        }
        Ok(())
    }

    fn tag(&mut self) -> Checked {
        let length = self.octet()?;
        let tag = self.take(length.into())?;
        let good = !tag.is_empty() && tag.iter().all(u8::is_ascii_alphanumeric);
        if good { Ok(()) } else { Err("a tag consists of letters and digits") }
    }

    /// Windows ascend, have 1 to 32 octets, and do not end in a zero octet (RFC 4034 §4.1.2).
    fn types(&mut self) -> Checked {
        let mut next = 0u16;
        while !self.rest.is_empty() {
            let (window, length) = (u16::from(self.octet()?), self.octet()?);
            let bits = self.take(length.into())?;
            if window < next || !(1..=32).contains(&length) || bits.last() == Some(&0) {
                return Err("a malformed type bitmap");
            }
            next = window + 1;
        }
        Ok(())
    }

    /// RFC 1876 §2: version 0, sizes of one digit and a power of ten, both up to 9.
    fn location(&mut self) -> Checked {
        let octets = self.take(16)?;
        if octets[0] != 0 {
            return Err("the version must be 0");
        }
        if octets[1..4].iter().any(|size| size >> 4 > 9 || size & 15 > 9) {
            return Err("a size beyond its range");
        }
        Ok(())
    }

    fn prefixes(&mut self) -> Checked {
        while !self.rest.is_empty() {
            let head = self.take(4)?;
            let (family, used) = (u16::from_be_bytes([head[0], head[1]]), head[3] & 0x7f);
            let known = special::FAMILIES.iter().find(|(number, _)| *number == family);
            let (_, octets) = known.ok_or("an unknown address family")?;
            let address = self.take(used.into())?;
            if used > *octets || u16::from(head[2]) > u16::from(*octets) * 8 || address.last() == Some(&0) {
                return Err("a malformed address prefix");
            }
        }
        Ok(())
    }

    fn services(&mut self) -> Checked {
        self.take(1)?;
        if self.rest.len() > 8192 {
            return Err("a bitmap for ports beyond 65535");
        }
        self.skip_rest(0)
    }

    fn gateway(&mut self) -> Checked {
        let head = self.take(3)?;
        match head[1] {
            0 => {}
            1 => self.take(4).map(drop)?,
            2 => self.take(16).map(drop)?,
            3 => self.name()?,
            _ => return Err("an unknown gateway type"),
        }
        if (head[2] == 0) != self.rest.is_empty() {
            return Err("algorithm 0 has no key, all others have one");
        }
        self.skip_rest(0)
    }

    fn host_identity(&mut self) -> Checked {
        let head = self.take(4)?;
        let key = usize::from(u16::from_be_bytes([head[2], head[3]]));
        if head[0] == 0 || key == 0 {
            return Err("an empty tag or key");
        }
        self.take(usize::from(head[0]) + key)?;
        while !self.rest.is_empty() {
            self.name()?;
        }
        Ok(())
    }

    fn params(&mut self) -> Checked {
        let priority = u16::from_be_bytes([self.whole[0], self.whole[1]]);
        svcb::verify(priority, std::mem::take(&mut self.rest))
    }
}

/// The name at the start of `rdata`, which is in order.
pub(super) fn name_at(rdata: &[u8], start: usize) -> Option<Name> {
    let rest = rdata.get(start..)?;
    let mut end = 0;
    loop {
        let length = usize::from(*rest.get(end)?);
        end += 1 + length;
        if length == 0 {
            return Name::from_wire(&rest[..end]).ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zone::encoding::hex;

    #[test]
    fn refuses_octets_that_are_not_of_the_type() {
        for (rtype, octets, good) in [
            (RecordType::A, "c0000201", true),
            (RecordType::A, "c00002", false),
            (RecordType::A, "c000020100", false),
            (RecordType::AAAA, "00000000000000000000000000000001", true),
            (RecordType::NS, "0161c000", false),
            (RecordType::NS, "0161", false),
            (RecordType::NS, "016100", true),
            (RecordType::NS, "01610000", false),
            (RecordType::TXT, "", false),
            (RecordType::TXT, "00", true),
            (RecordType::TXT, "0261", false),
            (RecordType::SOA, &format!("0000{}", "00".repeat(20)), true),
            (RecordType::SOA, &format!("0000{}", "00".repeat(19)), false),
            (RecordType::CSYNC, "0000000100010001", false),
            (RecordType::CSYNC, "00000001000400016000", false),
            (RecordType::CSYNC, "00000001000100026000", false),
            (RecordType::CSYNC, "000000010001000160", true),
            (RecordType::CSYNC, "000000010001000160000160", false),
            (RecordType::DS, "0001080100", false),
            (RecordType::DS, "000108f000", true),
            (RecordType::CDS, "0000000000", true),
            (RecordType::LOC, "01000000800000008000000000989680", false),
            (RecordType::LOC, "00121613800000008000000000989680", true),
            (RecordType::APL, "", true),
            (RecordType::APL, "00010801c0", true),
            (RecordType::APL, "0001080200c0", true),
            (RecordType::APL, "00010802c000", false),
            (RecordType::APL, "00012101c0", false),
            (RecordType::APL, "00030801c0", false),
            (RecordType::HTTPS, "000100", true),
            (RecordType::HTTPS, "0001", false),
            (RecordType::HTTPS, "00000000030002003500", false),
            (RecordType::HTTPS, "0001000003000201bb", true),
            (RecordType::HTTPS, "00010000030001bb", false),
            (RecordType::HTTPS, "0001000003000201bb0003000201bb", false),
            (RecordType::HTTPS, "0001000003000201bb00010003026832", false),
            (RecordType::HTTPS, "000100000100030268320003000201bb", true),
            (RecordType::HTTPS, "0001000000000200030003000201bb", true),
            (RecordType::HTTPS, "0001000000000200040003000201bb", false),
            (RecordType::HTTPS, "0001000000000400030003000300020035", false),
            (RecordType::HTTPS, "00010000000002000000", false),
            (RecordType::HTTPS, "00010000020000", false),
            (RecordType::HTTPS, "000100ffff0000", false),
            (RecordType::IPSECKEY, "0a000000", false),
            (RecordType::IPSECKEY, "0a0000", true),
            (RecordType(65400), "", true),
        ] {
            let octets = hex(octets).expect("hexadecimal");
            let got = verify(rtype, &octets);
            assert_eq!(got.is_ok(), good, "{rtype} {octets:02x?}: {got:?}");
        }
    }

    #[test]
    fn bounds_names() {
        let long = [&[1u8, b'a'].repeat(127)[..], &[0]].concat();
        assert_eq!(long.len(), 255);
        assert!(verify(RecordType::NS, &long).is_ok());
        assert!(verify(RecordType::NS, &[&[1, b'a'], &long[..]].concat()).is_err());
    }
}
