//! The OPT of an answer (RFC 6891): client subnet echoed with its scope (RFC 7871 §7.2), NSID (RFC 5001), extended
//! errors (RFC 8914).

use std::net::IpAddr;

use crate::dns::{Edns, Rcode, Writer};
use crate::snapshot::Settings;

/// Octets of an OPT without options.
const OPT: usize = 11;
/// Option codes.
const NSID: u16 = 3;
const CLIENT_SUBNET: u16 = 8;
const EXTENDED_ERROR: u16 = 15;
/// Longest node name in NSID.
const MAX_NSID: usize = 255;
/// Room for the longest of each option.
const MAX_OPTIONS: usize = (4 + MAX_NSID) + (4 + 4 + 16) + (4 + 2 + 64);

/// An extended error: its code and at most 64 octets of text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ExtendedError(u16, &'static str);

impl ExtendedError {
    /// Everything is down and is answered all the same.
    pub(super) const FAIL_OPEN: ExtendedError = ExtendedError(0, "all instances down, answering as if up");
    /// Everything is down and something stands in for it.
    pub(super) const FALLBACK: ExtendedError = ExtendedError(0, "all instances down, answering with the fallback");
    /// The name is in none of our zones.
    pub(super) const NOT_AUTHORITATIVE: ExtendedError = ExtendedError(20, "");
}

/// What the answer's OPT will say; nothing when the query had none.
pub(super) struct Extension<'a> {
    settings: &'a Settings,
    edns: Option<&'a Edns>,
    error: Option<ExtendedError>,
}

impl<'a> Extension<'a> {
    /// For a query with `edns`.
    pub(super) fn new(settings: &'a Settings, edns: Option<&'a Edns>) -> Extension<'a> {
        Extension { settings, edns, error: None }
    }

    pub(super) fn with_error(self, error: Option<ExtendedError>) -> Extension<'a> {
        Extension { error, ..self }
    }

    /// Octets to keep back: the options that were asked for. An extended error is only added where room is left.
    pub(super) fn reserved(&self) -> usize {
        let Some(edns) = self.edns else { return 0 };
        let nsid = if edns.nsid { 4 + self.settings.node.len().min(MAX_NSID) } else { 0 };
        let subnet = self.subnet().map_or(0, |subnet| 8 + usize::from(subnet.source).div_ceil(8));
        OPT + nsid + subnet
    }

    /// The client subnet to echo; an ECS that is switched off is an unknown option.
    fn subnet(&self) -> Option<&'a crate::dns::ClientSubnet> {
        self.edns.and_then(|edns| edns.client_subnet.as_ref()).filter(|_| self.settings.ecs.enabled)
    }

    /// Writes the OPT and returns the length of the message. The client subnet always fits: 271 octets of header and
    /// question, 35 of OPT. What else would not is left out: first the extended error, then NSID.
    pub(super) fn finish(&self, mut writer: Writer<'_>, rcode: Rcode, scope: u8) -> usize {
        let Some(edns) = self.edns else { return writer.length() };
        writer.release(self.reserved());
        let mut options = Options { octets: [0; MAX_OPTIONS], length: 0 };
        self.add_subnet(&mut options, scope);
        let least = options.length;
        if edns.nsid {
            let node = self.settings.node.as_bytes();
            options.option(NSID, &[&node[..node.len().min(MAX_NSID)]]);
        }
        let asked = options.length;
        if let Some(ExtendedError(code, text)) = self.error {
            options.option(EXTENDED_ERROR, &[&code.to_be_bytes(), text.as_bytes()]);
        }
        let mark = writer.mark();
        for length in [options.length, asked, least] {
            let payload = self.settings.max_udp_payload;
            if writer.opt(payload, rcode, edns.dnssec_ok, &options.octets[..length]).is_ok() {
                break;
            }
            writer.rewind(mark);
        }
        writer.length()
    }

    fn add_subnet(&self, options: &mut Options, scope: u8) {
        let Some(subnet) = self.subnet() else { return };
        let octets = usize::from(subnet.source).div_ceil(8);
        let scope = if subnet.source == 0 { 0 } else { scope };
        let [high, low] = subnet.family.to_be_bytes();
        let (v4, v6);
        let address: &[u8] = match subnet.address {
            IpAddr::V4(address) => {
                v4 = address.octets();
                &v4[..octets]
            }
            IpAddr::V6(address) => {
                v6 = address.octets();
                &v6[..octets]
            }
        };
        options.option(CLIENT_SUBNET, &[&[high, low, subnet.source, scope], address]);
    }
}

/// Options as they are encoded.
struct Options {
    octets: [u8; MAX_OPTIONS],
    length: usize,
}

impl Options {
    /// Adds an option whose data are these parts; the buffer holds the longest of each kind.
    fn option(&mut self, code: u16, parts: &[&[u8]]) {
        let data: usize = parts.iter().map(|part| part.len()).sum();
        self.put(&code.to_be_bytes());
        self.put(&(data as u16).to_be_bytes());
        for part in parts {
            self.put(part);
        }
    }

    fn put(&mut self, octets: &[u8]) {
        self.octets[self.length..self.length + octets.len()].copy_from_slice(octets);
        self.length += octets.len();
    }
}
