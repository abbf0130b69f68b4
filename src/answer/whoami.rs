//! `whoami` names say who asks (TXT), and from which address (A, AAAA): what Waymark sees of a client, for whoever wonders.
//!
//! ```text
//! "resolver 192.0.2.53" "ecs 203.0.113.0/24" "client 203.0.113.0" "place continent EU, country DE" "node ams-1" "transport udp"
//! ```
//! Anybody may ask, so it is as cheap as any other answer: nothing is allocated, and the text is at most [`MOST`] octets
//! longer than the question.

use std::fmt::{self, Write};

use super::reply::Reply;
use crate::dns::{ClientSubnet, Owner, Rcode, RecordType, Section};
use crate::fleet::Family;
use crate::geo;
use crate::steering::client::Origin;
use crate::zone::ZoneId;

/// The tag of a `whoami` name in [`crate::zone::Authority`], where those of services are their numbers.
pub const TAG: u32 = u32::MAX - 1;

/// Most octets of the text.
const MOST: usize = 384;
/// Most octets of one string of it; longer ones are cut.
const MOST_OF_STRING: usize = 96;

/// Answers at a `whoami` name in `zone`, as the records of `owner`. False when the type asked is not of its making.
pub(super) fn answer(reply: &mut Reply<'_>, zone: ZoneId, owner: Owner<'_>) -> bool {
    let subnet = reply.query.edns.and_then(|edns| edns.client_subnet);
    let asks_for = match reply.query.qtype {
        RecordType::TXT | RecordType::ANY => None,
        RecordType::A => Some(Family::V4),
        RecordType::AAAA => Some(Family::V6),
        _ => return false,
    };
    // The answer is for whoever sent just this.
    reply.scope = reply.scope.max(subnet.map_or(0, |subnet| subnet.source));
    match asks_for {
        None => text(reply, subnet.as_ref(), owner),
        Some(family) => address(reply, family, zone, owner),
    }
    true
}

fn address(reply: &mut Reply<'_>, family: Family, zone: ZoneId, owner: Owner<'_>) {
    let source = reply.source.to_canonical();
    if Family::of(source) != family {
        return reply.negative(Rcode::NOERROR, reply.snapshot.authority.zone(zone), 0);
    }
    let mark = reply.writer.mark();
    if reply.writer.address(owner, 0, source).is_err() {
        reply.writer.rewind(mark);
        reply.truncate();
    }
}

fn text(reply: &mut Reply<'_>, subnet: Option<&ClientSubnet>, owner: Owner<'_>) {
    let snapshot = reply.snapshot;
    let (settings, atlas) = (&snapshot.settings, &snapshot.steering.atlas);
    let client = settings.ecs.client(reply.source, subnet, true);
    let fate = match client.origin {
        Origin::Subnet => "",
        Origin::Resolver => " (not used)",
        Origin::SetAside(_) => " (set aside)",
    };
    let mut strings = Strings::new();
    strings.add(format_args!("resolver {}", reply.source.to_canonical()));
    match subnet {
        Some(ClientSubnet { address, source, .. }) => {
            strings.add(format_args!("ecs {address}/{source}{fate}"));
        }
        None => strings.add(format_args!("ecs none")),
    }
    strings.add(format_args!("client {}", client.address));
    strings.add(format_args!("place {}", Place(atlas.place(atlas.lookup(client.address).0))));
    strings.add(format_args!("node {}", settings.node));
    strings.add(format_args!("transport {}", reply.transport.name()));
    reply.record(Section::Answer, owner, RecordType::TXT, 0, strings.rdata());
}

/// Strings of a TXT record in the making, each behind its length.
struct Strings {
    octets: [u8; MOST],
    length: usize,
    /// Where the string that is written ends at the latest.
    limit: usize,
}

impl Strings {
    fn new() -> Strings {
        Strings { octets: [0; MOST], length: 0, limit: 0 }
    }

    /// Adds a string; what is too long is cut, between two characters.
    fn add(&mut self, text: fmt::Arguments<'_>) {
        let at = self.length;
        if at + 1 >= MOST {
            return;
        }
        self.length += 1;
        self.limit = (self.length + MOST_OF_STRING).min(MOST);
        // It fails when the string is full, which is then what is told.
        let _ = self.write_fmt(text);
        self.octets[at] = (self.length - at - 1) as u8;
    }

    fn rdata(&self) -> &[u8] {
        &self.octets[..self.length]
    }
}

impl Write for Strings {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let fits = text.floor_char_boundary(self.limit - self.length);
        let end = self.length + fits;
        self.octets[self.length..end].copy_from_slice(&text.as_bytes()[..fits]);
        self.length = end;
        if fits == text.len() { Ok(()) } else { Err(fmt::Error) }
    }
}

/// A place without its coordinates, which would make the answer long.
struct Place<'a>(&'a geo::Place);

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = self.0;
        let mut gap = "";
        let mut part = |text: fmt::Arguments<'_>| write!(f, "{}{text}", std::mem::replace(&mut gap, ", "));
        if let Some(code) = place.continent {
            part(format_args!("continent {code}"))?;
        }
        if let Some(code) = place.country {
            part(format_args!("country {code}"))?;
        }
        if let Some(code) = &place.subdivision {
            part(format_args!("subdivision {code}"))?;
        }
        if let Some(id) = place.city {
            part(format_args!("city {id}"))?;
        }
        if let Some(number) = place.as_number {
            part(format_args!("as {number}"))?;
        }
        if gap.is_empty() { f.write_str("unknown") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(strings: &Strings) -> Vec<String> {
        let mut rest = strings.rdata();
        let mut shown = Vec::new();
        while let Some((&length, behind)) = rest.split_first() {
            let (text, left) = behind.split_at(usize::from(length));
            shown.push(String::from_utf8(text.to_vec()).expect("UTF-8"));
            rest = left;
        }
        shown
    }

    #[test]
    fn strings_are_cut_where_they_are_full() {
        let mut strings = Strings::new();
        let long = "ä".repeat(100);
        strings.add(format_args!("node {long}"));
        for number in 0..20 {
            strings.add(format_args!("{number} {long}"));
        }
        let shown = shown(&strings);
        assert_eq!(shown[0], format!("node {}", "ä".repeat(45)));
        assert!(shown.iter().all(|text| text.len() <= MOST_OF_STRING));
        assert!(strings.rdata().len() <= MOST);
    }

    #[test]
    fn places_in_words() {
        let place = geo::Place {
            country: geo::Code::parse("DE"),
            subdivision: Some("DE-BE".into()),
            as_number: Some(64_500),
            ..geo::Place::UNKNOWN
        };
        assert_eq!(Place(&place).to_string(), "country DE, subdivision DE-BE, as 64500");
        assert_eq!(Place(&geo::Place::UNKNOWN).to_string(), "unknown");
    }
}
