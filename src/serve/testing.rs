//! What the tests of the transports share: a responder, and a server on ports of its own.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;

use super::{Limits, Listeners, Respond, Running};
use crate::answer::{Outcome, Transport, Worker};
use crate::metrics::{Counter, Counters, Registry};
use crate::snapshot::{Published, Snapshot};

/// Long enough for any answer on a busy machine.
const PATIENCE: Duration = Duration::from_secs(10);

/// Gives a message back with QR set. "panic…" panics, "silent…" gets no answer, "long…" one of 60 000 octets.
pub(super) fn echo(
    _: &Snapshot,
    _: &mut Worker,
    query: &[u8],
    _: IpAddr,
    transport: Transport,
    out: &mut [u8],
) -> Outcome {
    match query {
        [b'p', b'a', b'n', b'i', b'c', ..] => panic!("as asked"),
        [b's', b'i', b'l', ..] => return Outcome::Answer(0),
        [b'l', b'o', b'n', b'g', ..] if transport == Transport::Tcp => {
            out[..60_000].fill(b'x');
            return Outcome::Answer(60_000);
        }
        _ => {}
    }
    out[..query.len()].copy_from_slice(query);
    out[2] |= 0x80;
    Outcome::Answer(query.len())
}

pub(super) fn snapshot(serial: u64) -> Snapshot {
    Snapshot { serial, ..Snapshot::default() }
}

pub(super) fn published() -> Published {
    Arc::new(ArcSwap::from_pointee(snapshot(0)))
}

/// A query of twelve octets or more whose first two are `id`, and what [`echo`] makes of it.
pub(super) fn query(id: u16) -> (Vec<u8>, Vec<u8>) {
    let mut query = vec![0; 29];
    query[..2].copy_from_slice(&id.to_be_bytes());
    let mut answer = query.clone();
    answer[2] |= 0x80;
    (query, answer)
}

/// A server that runs.
pub(super) struct Server {
    pub(super) addresses: Vec<SocketAddr>,
    pub(super) registry: Arc<Registry>,
    pub(super) running: Option<Running>,
}

impl Server {
    pub(super) fn start(listen: &[&str], workers: usize, limits: Limits, respond: Respond) -> Server {
        Server::start_on(Server::bind(listen, workers), limits, respond)
    }

    pub(super) fn bind(listen: &[&str], workers: usize) -> Listeners {
        let listen: Vec<SocketAddr> = listen.iter().map(|address| address.parse().expect("an address")).collect();
        Listeners::bind(&listen, workers).expect("free ports")
    }

    pub(super) fn start_on(listeners: Listeners, limits: Limits, respond: Respond) -> Server {
        let addresses = listeners.local_addresses().to_vec();
        let registry: Arc<Registry> = Arc::default();
        let running = listeners.serve_with(&published(), &registry, 1, limits, respond).expect("threads");
        Server { addresses, registry, running: Some(running) }
    }

    /// An echo server on 127.0.0.1 with one worker.
    pub(super) fn echo(limits: Limits) -> Server {
        Server::start(&["127.0.0.1:0"], 1, limits, echo)
    }

    pub(super) fn count(&self, counter: impl Fn(&Counters) -> &Counter) -> u64 {
        self.registry.sum(counter)
    }

    pub(super) fn stop(&mut self) {
        if let Some(running) = self.running.take() {
            running.stop();
        }
    }

    pub(super) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.addresses[0]).expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream.set_nodelay(true).expect("no delay");
        stream
    }
}

/// A client's UDP socket at `address`.
pub(super) fn udp_client(address: &str) -> UdpSocket {
    let socket = UdpSocket::bind(address).expect("a socket");
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    socket
}

/// Sends `query` to `server`; what came back, and from where.
pub(super) fn exchange(client: &UdpSocket, server: SocketAddr, query: &[u8]) -> (Vec<u8>, SocketAddr) {
    client.send_to(query, server).expect("sent");
    let mut buffer = [0; 4096];
    let (length, from) = client.recv_from(&mut buffer).expect("an answer");
    (buffer[..length].to_vec(), from)
}

/// `message` with its length before it (RFC 1035 §4.2.2).
pub(super) fn framed(message: &[u8]) -> Vec<u8> {
    let mut framed = (message.len() as u16).to_be_bytes().to_vec();
    framed.extend_from_slice(message);
    framed
}

/// The next message; `None` when the server closed or reset the connection.
pub(super) fn read_message(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut length = [0; 2];
    match stream.read_exact(&mut length) {
        Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock) => panic!("nothing came: {error}"),
        other => other.ok()?,
    }
    let mut message = vec![0; u16::from_be_bytes(length) as usize];
    stream.read_exact(&mut message).ok()?;
    Some(message)
}

/// One query and its answer over `stream`; whether it was answered rightly.
pub(super) fn tcp_exchange(stream: &mut TcpStream, id: u16) -> bool {
    let (query, answer) = query(id);
    stream.write_all(&framed(&query)).is_ok() && read_message(stream) == Some(answer)
}
