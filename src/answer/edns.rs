//! The OPT of an answer (RFC 6891): client subnet echoed with its scope (RFC 7871 §7.2), cookie (RFC 7873), TCP keepalive
//! (RFC 7828), NSID (RFC 5001), extended errors (RFC 8914), and over encrypted transports padding (RFC 7830).

use std::net::IpAddr;

use super::{Arrival, MAX_MESSAGE, MIN_PAYLOAD};
use crate::dns::cookie::{COOKIE, Proof};
use crate::dns::writer::OPT;
use crate::dns::{ClientSubnet, Edns, Full, Rcode, Writer};
use crate::snapshot::{Settings, Snapshot};

/// Option codes.
const NSID: u16 = 3;
const CLIENT_SUBNET: u16 = 8;
const DNS_COOKIE: u16 = 10;
const KEEPALIVE: u16 = 11;
const PADDING: u16 = 12;
const EXTENDED_ERROR: u16 = 15;
/// The code for what is not allowed.
const PROHIBITED: u16 = 18;
/// Longest node name in NSID.
const MAX_NSID: usize = 255;
/// Octets of an option before its data.
const OPTION: usize = 4;
/// Octets of the longest client subnet option.
const SUBNET: usize = OPTION + 4 + 16;
/// Padded answers have a multiple of so many octets (RFC 8467 §4.1).
const BLOCK: usize = 468;
static ZEROES: [u8; BLOCK] = [0; BLOCK];

/// An extended error: its code and at most 64 octets of text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExtendedError(u16, &'static str);

impl ExtendedError {
    /// Everything is down and is answered all the same.
    pub(super) const FAIL_OPEN: ExtendedError = ExtendedError(0, "all instances down, answering as if up");
    /// Everything is down and something stands in for it.
    pub(super) const FALLBACK: ExtendedError = ExtendedError(0, "all instances down, answering with the fallback");
    /// What is down was up when this node saw it last, or the other way round.
    pub(super) const STALE: ExtendedError = ExtendedError(3, "health as last seen: this node is cut off");
    /// The zone was not transferred yet, or too long ago.
    pub(super) const NOT_READY: ExtendedError = ExtendedError(14, "the data of the zone are not known");
    /// There is more to do than can be.
    pub(super) const BUSY: ExtendedError = ExtendedError(14, "too much waits to be done");
    /// Others may ask that, not this client.
    pub(super) const PROHIBITED: ExtendedError = ExtendedError(18, "");
    /// No such type can be asked for.
    pub(super) const INVALID_TYPE: ExtendedError = ExtendedError(30, "");
    /// The name is in none of our zones.
    pub(super) const NOT_AUTHORITATIVE: ExtendedError = ExtendedError(20, "");

    /// Why something was not done, in at most 64 octets.
    #[must_use]
    pub const fn because(text: &'static str) -> ExtendedError {
        ExtendedError(PROHIBITED, text)
    }
}

/// What the answer's OPT will say; nothing when the query had none.
pub(super) struct Extension<'a> {
    settings: &'a Settings,
    edns: Option<&'a Edns>,
    /// The cookie to send back, and what the one that came proves.
    cookie: Option<([u8; COOKIE], Proof)>,
    /// How long the connection may be idle, in 100 ms, where that was asked.
    keepalive: Option<u16>,
    /// Whether the length is to tell little: asked for, and nobody can read along.
    is_padded: bool,
    /// Octets to keep back: the options that were asked for. An extended error is only added where room is left.
    pub(super) reserved: usize,
}

impl<'a> Extension<'a> {
    /// For a query with `edns`.
    pub(super) fn new(snapshot: &'a Snapshot, edns: Option<&'a Edns>, arrival: Arrival) -> Extension<'a> {
        let settings = &*snapshot.settings;
        let Some(asked) = edns else {
            return Extension { settings, edns, cookie: None, keepalive: None, is_padded: false, reserved: 0 };
        };
        let cookie = asked.cookie.filter(|_| settings.cookies.enabled);
        // DNS cookies count seconds modulo 2^32.
        let wall = arrival.moment.wall as u32;
        let cookie = cookie.and_then(|cookie| snapshot.secrets.answer(&cookie, arrival.source, wall));
        let keepalive = (asked.keepalive && arrival.transport.has_keepalive())
            .then(|| u16::try_from(arrival.moment.tcp_idle.as_millis() / 100).unwrap_or(u16::MAX));
        let nsid = if asked.nsid { OPTION + nsid(settings).len() } else { 0 };
        let subnet = subnet(settings, asked).map_or(0, |one| OPTION + 4 + usize::from(one.source).div_ceil(8));
        let cookie_octets = cookie.map_or(0, |_| OPTION + COOKIE);
        let is_padded = asked.padding && arrival.transport.is_encrypted();
        let padding = if is_padded { OPTION } else { 0 };
        let reserved = OPT + nsid + subnet + cookie_octets + keepalive.map_or(0, |_| OPTION + 2) + padding;
        Extension { settings, edns, cookie, keepalive, is_padded, reserved }
    }

    /// What the query's cookie proves; `None` when it had none, or cookies are off.
    pub(super) fn proof(&self) -> Option<Proof> {
        self.cookie.map(|(_, proof)| proof)
    }

    /// Octets that an answer without records has room in: any client takes so many.
    pub(super) fn least_room(&self) -> usize {
        if self.is_padded { MAX_MESSAGE } else { MIN_PAYLOAD }
    }

    /// Whether the answer says for which clients it holds.
    pub(super) fn has_subnet(&self) -> bool {
        self.edns.is_some_and(|edns| subnet(self.settings, edns).is_some())
    }

    /// Writes the OPT and returns the length of the message. All but NSID and the extended error always fits: 271 octets
    /// of header and question, 69 of OPT. Of what would not, first the extended error is left out, then NSID.
    pub(super) fn finish(
        &self,
        writer: &mut Writer<'_>,
        rcode: Rcode,
        scope: u8,
        error: Option<ExtendedError>,
    ) -> usize {
        if let Some(edns) = self.edns {
            writer.release(self.reserved);
            // What does not fit any more is left out, and what would follow it.
            let _ = self.write(writer, edns, rcode, scope, error);
        }
        writer.length()
    }

    fn write(
        &self,
        writer: &mut Writer<'_>,
        edns: &Edns,
        rcode: Rcode,
        scope: u8,
        error: Option<ExtendedError>,
    ) -> Result<(), Full> {
        let payload = self.settings.max_udp_payload;
        match subnet(self.settings, edns) {
            None => writer.opt(payload, rcode, edns.dnssec_ok, &[])?,
            Some(subnet) => {
                let mut room = [0; SUBNET];
                writer.opt(payload, rcode, edns.dnssec_ok, encode_subnet(subnet, scope, &mut room))?;
            }
        }
        if let Some((cookie, _)) = &self.cookie {
            writer.option(DNS_COOKIE, [cookie, &[]])?;
        }
        if let Some(keepalive) = self.keepalive {
            writer.option(KEEPALIVE, [&keepalive.to_be_bytes(), &[]])?;
        }
        if edns.nsid {
            writer.option(NSID, [nsid(self.settings), &[]])?;
        }
        if let Some(ExtendedError(code, text)) = error {
            writer.option(EXTENDED_ERROR, [&code.to_be_bytes(), text.as_bytes()])?;
        }
        if self.is_padded { pad(writer) } else { Ok(()) }
    }
}

/// Adds the last option: as many zeroes as the message lacks to whole blocks, or to the longest message.
fn pad(writer: &mut Writer<'_>) -> Result<(), Full> {
    let unpadded = writer.length() + OPTION;
    let length = unpadded.next_multiple_of(BLOCK).min(writer.limit());
    writer.option(PADDING, [&ZEROES[..length.saturating_sub(unpadded)], &[]])
}

/// The client subnet to echo; an ECS that is switched off is an unknown option.
fn subnet<'a>(settings: &Settings, edns: &'a Edns) -> Option<&'a ClientSubnet> {
    edns.client_subnet.as_ref().filter(|_| settings.ecs.enabled)
}

/// The node's name as NSID says it.
fn nsid(settings: &Settings) -> &[u8] {
    let node = settings.node.as_bytes();
    &node[..node.len().min(MAX_NSID)]
}

/// The client subnet option for these clients.
fn encode_subnet<'r>(subnet: &ClientSubnet, scope: u8, room: &'r mut [u8; SUBNET]) -> &'r [u8] {
    let ([high, low], source) = (subnet.family.to_be_bytes(), subnet.source);
    let scope = if source == 0 { 0 } else { scope };
    let octets = source.div_ceil(8).min(16);
    room[..8].copy_from_slice(&[0, CLIENT_SUBNET as u8, 0, 4 + octets, high, low, source, scope]);
    match subnet.address {
        IpAddr::V4(address) => room[8..12].copy_from_slice(&address.octets()),
        IpAddr::V6(address) => room[8..].copy_from_slice(&address.octets()),
    }
    &room[..8 + usize::from(octets)]
}
