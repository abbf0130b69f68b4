//! A sample as somebody gives it: `{"client": "203.0.113.0/24", "region": "eu-west", "rtt-ms": 34}`.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::steering::EcsPolicy;
use crate::steering::client::unwrap;

/// Longest round trip, in milliseconds.
pub const MOST_RTT_MS: f64 = 60_000.0;
/// Longest name of a region, in octets, as in a configuration.
const LONGEST_NAME: usize = 255;
/// Shortest prefix of a client; whoever says less says nothing of where a client is.
const SHORTEST_V4: u8 = 8;
const SHORTEST_V6: u8 = 16;

/// A well-formed sample; whether its region exists is not known here.
#[derive(Clone, Debug, PartialEq)]
pub struct Given {
    /// The client, an address or a prefix; IPv4 inside IPv6 unwrapped.
    pub client: IpNet,
    /// Name of the region.
    pub region: String,
    /// Above 0, at most [`MOST_RTT_MS`].
    pub rtt_ms: f64,
}

impl Given {
    /// A sample of these parts.
    ///
    /// # Errors
    /// In words, what is wrong with the first part that is.
    pub fn new(client: &str, region: &str, rtt_ms: f64) -> Result<Given, String> {
        let client = parse_client(client)?;
        if region.is_empty() || region.len() > LONGEST_NAME {
            return Err("region: not the name of a region".into());
        }
        if !(rtt_ms > 0.0 && rtt_ms <= MOST_RTT_MS) {
            return Err(format!("rtt-ms: {rtt_ms} is not above 0 and at most {MOST_RTT_MS}"));
        }
        Ok(Given { client, region: region.into(), rtt_ms })
    }

    /// What of the client is looked at.
    pub(super) fn prefix(&self, ecs: &EcsPolicy) -> IpNet {
        masked(self.client, ecs)
    }
}

/// A client from an address or a prefix.
///
/// # Errors
/// In words, why it is none.
pub fn parse_client(text: &str) -> Result<IpNet, String> {
    let net = text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
    let Some(net) = net else {
        let shown: String = text.chars().take(60).collect();
        return Err(format!("client: {shown:?} is no address or prefix"));
    };
    let net = unwrapped(net);
    let shortest = if net.addr().is_ipv4() { SHORTEST_V4 } else { SHORTEST_V6 };
    if net.prefix_len() < shortest {
        return Err(format!("client: {net} is too large; at least /{SHORTEST_V4}, IPv6 /{SHORTEST_V6}"));
    }
    Ok(net)
}

/// IPv4 inside IPv6 is IPv4, as in queries.
fn unwrapped(net: IpNet) -> IpNet {
    let (address, bits, _) = unwrap(net.addr(), net.prefix_len(), false);
    IpNet::new(address, bits).unwrap_or(net)
}

/// No longer than what is looked at of a client.
pub(super) fn masked(client: IpNet, ecs: &EcsPolicy) -> IpNet {
    let shortest = if client.addr().is_ipv4() { SHORTEST_V4 } else { SHORTEST_V6 };
    let most = ecs.most_bits(client.addr()).max(shortest);
    let length = client.prefix_len().min(most);
    IpNet::new(client.addr(), length).map_or(client, |net| net.trunc())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_looked_at_as_in_queries() {
        let ecs = EcsPolicy::new(true, 24, 56, Vec::new());
        for (client, expected) in [
            ("203.0.113.0/24", "203.0.113.0/24"),
            ("203.0.113.77", "203.0.113.0/24"),
            ("203.0.113.77/25", "203.0.113.0/24"),
            ("203.0.0.0/16", "203.0.0.0/16"),
            ("2001:db8:1:2ff::7", "2001:db8:1:200::/56"),
            ("::ffff:203.0.113.77", "203.0.113.0/24"),
            ("::ffff:203.0.113.0/120", "203.0.113.0/24"),
            ("64:ff9b::203.0.113.77", "203.0.113.0/24"),
            ("64:ff9b::203.0.0.0/112", "203.0.0.0/16"),
            ("2002:cb00:714d::1", "203.0.113.0/24"),
            ("2002:cb00:7100::/40", "203.0.113.0/24"),
            ("2002:cb00::/32", "203.0.0.0/16"),
            ("2002::/16", "2002::/16"),
        ] {
            let given = Given::new(client, "eu", 3.0).expect("well-formed");
            assert_eq!(given.prefix(&ecs).to_string(), expected, "{client}");
        }
        let off = EcsPolicy::default();
        assert_eq!(Given::new("203.0.113.7", "eu", 3.0).expect("well-formed").prefix(&off).to_string(), "203.0.0.0/8");
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for (client, region, rtt_ms, said) in [
            ("203.0.113", "eu", 3.0, "\"203.0.113\" is no address or prefix"),
            ("", "eu", 3.0, "is no address or prefix"),
            ("203.0.113.0/33", "eu", 3.0, "is no address or prefix"),
            ("0.0.0.0/0", "eu", 3.0, "at least /8"),
            ("2000::/3", "eu", 3.0, "IPv6 /16"),
            ("203.0.113.0/24", "", 3.0, "region"),
            ("203.0.113.0/24", "eu", 0.0, "0 is not above 0"),
            ("203.0.113.0/24", "eu", -1.0, "-1 is not above 0"),
            ("203.0.113.0/24", "eu", 60_001.0, "at most 60000"),
            ("203.0.113.0/24", "eu", f64::NAN, "not above 0"),
            ("203.0.113.0/24", "eu", f64::INFINITY, "not above 0"),
        ] {
            let problem = Given::new(client, region, rtt_ms).expect_err("refused");
            assert!(problem.contains(said), "{client}: {problem}");
        }
    }
}
