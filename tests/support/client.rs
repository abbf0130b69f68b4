//! Clients that share nothing with the code under test: DNS by `hickory-proto` over plain sockets, HTTP by hand.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query};
use hickory_proto::rr::rdata::opt::{ClientSubnet, EdnsCode, EdnsOption};
use hickory_proto::rr::{Name, RData, RecordType};
use ipnet::IpNet;

use super::PATIENCE;

/// A query with EDNS; `subnet` goes along as ECS unless it is empty.
#[track_caller]
pub(crate) fn query(name: &str, rtype: RecordType, subnet: &str) -> Message {
    let mut message = plain(name, rtype);
    let mut edns = Edns::new();
    edns.set_max_payload(1232);
    if !subnet.is_empty() {
        let subnet: IpNet = subnet.parse().expect("a prefix");
        edns.options_mut().insert(EdnsOption::Subnet(ClientSubnet::new(subnet.addr(), subnet.prefix_len(), 0)));
    }
    message.set_edns(edns);
    message
}

/// A query without EDNS.
#[track_caller]
pub(crate) fn plain(name: &str, rtype: RecordType) -> Message {
    static ID: AtomicU16 = AtomicU16::new(1);
    let mut message = Message::new(ID.fetch_add(1, Ordering::Relaxed), MessageType::Query, OpCode::Query);
    let mut name = Name::from_ascii(name).expect("a name");
    name.set_fqdn(true);
    message.add_query(Query::query(name, rtype));
    message
}

/// Asks over UDP from a socket of its own.
#[track_caller]
pub(crate) fn udp(server: SocketAddr, query: &Message) -> Message {
    let any: IpAddr = if server.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
    let socket = UdpSocket::bind((any, 0)).expect("a socket");
    socket.connect(server).expect("a route");
    udp_on(&socket, query)
}

/// Asks over UDP once; `None` when nobody answers within a second.
pub(crate) fn try_udp(server: SocketAddr, query: &Message) -> Option<Message> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).ok()?;
    socket.connect(server).ok()?;
    socket.set_read_timeout(Some(Duration::from_secs(1))).ok()?;
    socket.send(&query.to_vec().ok()?).ok()?;
    let mut buffer = [0; 4096];
    let length = receive(&socket, &mut buffer).ok()?;
    Message::from_vec(&buffer[..length]).ok()
}

/// Asks over a connected UDP socket, which takes answers from the address asked alone.
#[track_caller]
pub(crate) fn udp_on(socket: &UdpSocket, query: &Message) -> Message {
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    socket.send(&query.to_vec().expect("encodes")).expect("sent");
    let mut buffer = [0; 65_535];
    let length = receive(socket, &mut buffer).expect("an answer");
    answer_to(query, &buffer[..length])
}

/// A wait with a timeout may be interrupted, as when the machine is paused.
fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match socket.recv(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            outcome => return outcome,
        }
    }
}

/// Asks over one TCP connection, all at once; the answers in the order of the queries.
#[track_caller]
pub(crate) fn tcp(server: SocketAddr, queries: &[Message]) -> Vec<Message> {
    let mut stream = TcpStream::connect(server).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let octets: Vec<u8> = queries.iter().flat_map(framed).collect();
    stream.write_all(&octets).expect("sent");
    let mut answers: Vec<Option<Message>> = vec![None; queries.len()];
    for _ in queries {
        let message = read_framed(&mut stream).expect("an answer");
        let id = u16::from_be_bytes([message[0], message[1]]);
        let index = queries.iter().position(|query| query.id == id).expect("an answer to what was asked");
        answers[index] = Some(answer_to(&queries[index], &message));
    }
    answers.into_iter().map(|answer| answer.expect("one answer to each")).collect()
}

/// A message as it goes over TCP.
pub(crate) fn framed(query: &Message) -> Vec<u8> {
    let message = query.to_vec().expect("encodes");
    [&(message.len() as u16).to_be_bytes(), &message[..]].concat()
}

/// The next message of a TCP connection; `None` at its end.
pub(crate) fn read_framed(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut length = [0; 2];
    stream.read_exact(&mut length).ok()?;
    let mut message = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut message).expect("a whole message");
    Some(message)
}

#[track_caller]
fn answer_to(query: &Message, octets: &[u8]) -> Message {
    let answer = Message::from_vec(octets).expect("a well-formed answer");
    assert_eq!((answer.id, answer.message_type), (query.id, MessageType::Response));
    assert_eq!(answer.queries, query.queries);
    answer
}

/// The addresses of an answer, sorted.
pub(crate) fn addresses(answer: &Message) -> Vec<String> {
    let mut addresses: Vec<IpAddr> = answer.answers.iter().filter_map(|record| record.data.ip_addr()).collect();
    addresses.sort_unstable();
    addresses.iter().map(ToString::to_string).collect()
}

/// The records of the answer section as `TYPE data`, sorted.
pub(crate) fn records(answer: &Message) -> Vec<String> {
    let show = |data: &RData| format!("{} {data}", data.record_type());
    let mut records: Vec<String> = answer.answers.iter().map(|record| show(&record.data)).collect();
    records.sort_unstable();
    records
}

/// The least TTL of the answer section.
pub(crate) fn ttl(answer: &Message) -> u32 {
    answer.answers.iter().map(|record| record.ttl).min().expect("an answer")
}

/// Code and text of the Extended DNS Error.
pub(crate) fn extended_error(answer: &Message) -> Option<(u16, String)> {
    match answer.edns.as_ref()?.option(EdnsCode::Unknown(15))? {
        EdnsOption::Unknown(_, data) => {
            Some((u16::from_be_bytes([data[0], data[1]]), String::from_utf8_lossy(&data[2..]).into_owned()))
        }
        _ => None,
    }
}

/// Scope of the client subnet echoed.
pub(crate) fn scope(answer: &Message) -> Option<u8> {
    match answer.edns.as_ref()?.option(EdnsCode::Subnet)? {
        EdnsOption::Subnet(subnet) => Some(subnet.scope_prefix()),
        _ => None,
    }
}

/// Runs a DNS client as `program @127.0.0.1 -p PORT …`; what it prints.
#[track_caller]
pub(crate) fn tool(program: &str, server: SocketAddr, arguments: &[&str]) -> String {
    let (at, port) = (format!("@{}", server.ip()), server.port().to_string());
    let output = Command::new(program).args([&*at, "-p", &*port]).args(arguments).output().expect("it runs");
    let text = text(&output);
    assert!(output.status.success(), "{program} {arguments:?}: {}\n{text}", output.status);
    text
}

/// Both outputs of a program.
pub(crate) fn text(output: &Output) -> String {
    [&output.stdout[..], &output.stderr[..]].map(String::from_utf8_lossy).concat()
}

/// A response over HTTP.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    /// Header lines as sent.
    pub(crate) head: String,
    pub(crate) body: String,
}

/// `GET`.
#[track_caller]
pub(crate) fn get(server: SocketAddr, path: &str) -> Response {
    try_get(server, path).expect("an HTTP response")
}

/// `GET`; `None` when nobody answers.
pub(crate) fn try_get(server: SocketAddr, path: &str) -> Option<Response> {
    request(server, "GET", path, &server.to_string())
}

/// A request without a body.
pub(crate) fn request(server: SocketAddr, method: &str, path: &str, host: &str) -> Option<Response> {
    let mut stream = TcpStream::connect(server).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    let head = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
    stream.write_all(head.as_bytes()).ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some(Response { status, head: head.to_owned(), body: body.to_owned() })
}
