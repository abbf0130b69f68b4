//! Clients all over the world, and the resolver that asks for them: real queries over UDP with EDNS Client Subnet.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query};
use hickory_proto::rr::rdata::opt::{ClientSubnet, EdnsOption};
use hickory_proto::rr::{Name, RData, RecordType};
use ipnet::IpNet;
use tokio::net::UdpSocket;
use tokio::time::timeout;

/// A network of `networks.toml`, and what people call its place. One for each kind of answer.
const CLIENTS: [(&str, &str); 7] = [
    ("203.0.113.0/24", "Germany"),
    ("198.18.3.0/24", "Turkey"),
    ("192.0.2.0/24", "New York"),
    ("198.18.13.0/24", "Brazil"),
    ("198.51.100.0/24", "India"),
    ("198.18.22.0/24", "Australia"),
    ("2001:db8:1::/48", "Spain"),
];

/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(1);
/// UDP payload that answers may have.
const PAYLOAD: u16 = 1232;

/// A client network.
#[derive(Clone, Copy, Debug)]
pub(super) struct Client {
    pub(super) prefix: IpNet,
    /// `Germany`.
    pub(super) place: &'static str,
}

impl Client {
    /// All, in the order shown.
    pub(super) fn all() -> Vec<Client> {
        let client = |(prefix, place): (&str, &'static str)| Some(Client { prefix: prefix.parse().ok()?, place });
        CLIENTS.into_iter().filter_map(client).collect()
    }
}

/// Asks the demo's server.
#[derive(Debug)]
pub(super) struct Resolver {
    socket: UdpSocket,
    id: u16,
}

impl Resolver {
    /// For the server at that port of 127.0.0.1.
    pub(super) async fn new(port: u16) -> io::Result<Resolver> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        socket.connect((Ipv4Addr::LOCALHOST, port)).await?;
        Ok(Resolver { socket, id: 0 })
    }

    /// The IPv4 addresses of `name` for a client, in the order answered; `None` when no answer comes.
    pub(super) async fn ask(&mut self, name: &str, client: IpNet) -> Option<Vec<IpAddr>> {
        self.id = self.id.wrapping_add(1);
        self.socket.send(&query(self.id, name, client)?).await.ok()?;
        timeout(PATIENCE, self.answer()).await.ok()?
    }

    /// The answer to the query sent last; what is late to earlier ones is passed over.
    async fn answer(&self) -> Option<Vec<IpAddr>> {
        let mut buffer = [0; PAYLOAD as usize];
        loop {
            let length = self.socket.recv(&mut buffer).await.ok()?;
            let Ok(message) = Message::from_vec(&buffer[..length]) else { continue };
            if message.id == self.id {
                return Some(message.answers.iter().filter_map(|record| address(&record.data)).collect());
            }
        }
    }
}

fn query(id: u16, name: &str, client: IpNet) -> Option<Vec<u8>> {
    let mut message = Message::new(id, MessageType::Query, OpCode::Query);
    message.add_query(Query::query(Name::from_ascii(name).ok()?, RecordType::A));
    let mut edns = Edns::new();
    edns.set_max_payload(PAYLOAD);
    edns.options_mut().insert(EdnsOption::Subnet(ClientSubnet::new(client.addr(), client.prefix_len(), 0)));
    message.set_edns(edns);
    message.to_vec().ok()
}

fn address(data: &RData) -> Option<IpAddr> {
    match data {
        RData::A(address) => Some(IpAddr::V4(address.0)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_clients_are_in_the_table_of_networks() {
        let networks = include_str!("networks.toml");
        assert_eq!(Client::all().len(), CLIENTS.len(), "each is a prefix");
        for (prefix, place) in CLIENTS {
            assert!(networks.contains(&format!("\"{prefix}\"")), "{prefix} ({place})");
        }
    }

    #[tokio::test]
    async fn late_answers_and_noise_are_passed_over() {
        let server = UdpSocket::bind("127.0.0.1:0").await.expect("a free port");
        let mut resolver = Resolver::new(server.local_addr().expect("bound").port()).await.expect("a socket");
        let asked =
            tokio::spawn(
                async move { resolver.ask("www.example.com.", "192.0.2.0/24".parse().expect("a prefix")).await },
            );
        let mut buffer = [0; 1232];
        let (length, from) = server.recv_from(&mut buffer).await.expect("a query");
        let query = Message::from_vec(&buffer[..length]).expect("a query");
        assert_eq!(query.queries[0].to_string(), "www.example.com. IN A");
        let mut answer = query.clone();
        answer.metadata.message_type = MessageType::Response;
        let data = RData::A(Ipv4Addr::new(127, 0, 11, 1).into());
        answer.add_answer(hickory_proto::rr::Record::from_rdata(query.queries[0].name().clone(), 5, data));
        let mut late = query.clone();
        late.metadata.id = query.id.wrapping_sub(1);
        for packet in [b"noise".to_vec(), late.to_vec().expect("octets"), answer.to_vec().expect("octets")] {
            server.send_to(&packet, from).await.expect("sent");
        }
        assert_eq!(asked.await.expect("no panic"), Some(vec![IpAddr::from([127, 0, 11, 1])]));
    }
}
