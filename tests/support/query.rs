//! Queries as octets, written apart from the server's own code.

use std::net::{IpAddr, Ipv4Addr};

use hickory_proto::op::Message;
use hickory_proto::rr::rdata::opt::{EdnsCode, EdnsOption};
use ipnet::IpNet;
use waymark::answer::Transport;

/// Option code of the client subnet.
pub(crate) const CLIENT_SUBNET: u16 = 8;
/// Option code of NSID.
pub(crate) const NSID: u16 = 3;

/// A query; public parts may be set as a test needs.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) id: u16,
    pub(crate) flags: u16,
    /// Uncompressed wire format.
    pub(crate) name: Vec<u8>,
    pub(crate) qtype: u16,
    pub(crate) class: u16,
    pub(crate) edns: Option<Edns>,
    pub(crate) source: IpAddr,
    pub(crate) transport: Transport,
}

/// What its OPT says.
#[derive(Clone, Debug)]
pub(crate) struct Edns {
    pub(crate) payload: u16,
    pub(crate) version: u8,
    pub(crate) dnssec_ok: bool,
    pub(crate) options: Vec<(u16, Vec<u8>)>,
}

impl Ask {
    /// RD, class IN, EDNS with 1232 octets, from a loopback address over UDP.
    pub(crate) fn new(name: &str, qtype: u16) -> Ask {
        Ask {
            id: 0x4711,
            flags: 0x0100,
            name: wire(name),
            qtype,
            class: 1,
            edns: Some(Edns { payload: 1232, version: 0, dnssec_ok: false, options: Vec::new() }),
            source: IpAddr::V4(Ipv4Addr::LOCALHOST),
            transport: Transport::Udp,
        }
    }

    /// With a client subnet.
    pub(crate) fn subnet(self, prefix: &str) -> Ask {
        let prefix: IpNet = prefix.parse().expect("a prefix");
        self.option(CLIENT_SUBNET, subnet_option(prefix))
    }

    /// With an option.
    pub(crate) fn option(mut self, code: u16, data: Vec<u8>) -> Ask {
        self.edns.as_mut().expect("EDNS").options.push((code, data));
        self
    }

    /// From this address.
    pub(crate) fn from(self, source: &str) -> Ask {
        Ask { source: source.parse().expect("an address"), ..self }
    }

    /// Over TCP.
    pub(crate) fn tcp(self) -> Ask {
        Ask { transport: Transport::Tcp, ..self }
    }

    /// Without EDNS.
    pub(crate) fn plain(self) -> Ask {
        Ask { edns: None, ..self }
    }

    /// The message.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut octets = Vec::new();
        for field in [self.id, self.flags, 1, 0, 0, u16::from(self.edns.is_some())] {
            octets.extend(field.to_be_bytes());
        }
        octets.extend(&self.name);
        octets.extend(self.qtype.to_be_bytes());
        octets.extend(self.class.to_be_bytes());
        octets.extend(self.edns.iter().flat_map(Edns::encode));
        octets
    }
}

impl Edns {
    /// The OPT record.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let options: Vec<u8> = self
            .options
            .iter()
            .flat_map(|(code, data)| [&code.to_be_bytes()[..], &(data.len() as u16).to_be_bytes(), data].concat())
            .collect();
        let mut octets = vec![0, 0, 41];
        octets.extend(self.payload.to_be_bytes());
        octets.extend([0, self.version, if self.dnssec_ok { 0x80 } else { 0 }, 0]);
        octets.extend((options.len() as u16).to_be_bytes());
        octets.extend(options);
        octets
    }
}

/// The data of a client subnet option.
pub(crate) fn subnet_option(prefix: IpNet) -> Vec<u8> {
    let octets = match prefix.trunc().addr() {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    };
    let family = if prefix.addr().is_ipv4() { 1 } else { 2 };
    let length = prefix.prefix_len();
    [&[0, family, length, 0][..], &octets[..usize::from(length).div_ceil(8)]].concat()
}

/// A name in wire format.
pub(crate) fn wire(name: &str) -> Vec<u8> {
    waymark::dns::Name::parse(name, None).unwrap_or_else(|error| panic!("{name}: {error}")).as_wire().to_vec()
}

/// Source length and scope of the client subnet echoed.
pub(crate) fn echoed(message: &Message) -> Option<(IpAddr, u8, u8)> {
    match message.edns.as_ref()?.option(EdnsCode::Subnet)? {
        EdnsOption::Subnet(subnet) => Some((subnet.addr(), subnet.source_prefix(), subnet.scope_prefix())),
        _ => None,
    }
}

/// Scope of the client subnet echoed.
pub(crate) fn scope(message: &Message) -> Option<u8> {
    echoed(message).map(|(_, _, scope)| scope)
}
