//! Clients over QUIC, by `quinn` and `h3`: what they send is up to the test, well-formed or not.

use std::collections::HashSet;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;

use bytes::{Buf, Bytes};
use hickory_proto::op::Message;
use http::{Method, Request, Response};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Connection, ConnectionError, Endpoint, ReadToEndError, TransportConfig, VarInt};
use rustls::version::TLS13;

use super::tls::{Authority, HOST};
use super::{PATIENCE, client};

/// Runs a test that waits for the network, as long as anybody is patient.
#[track_caller]
pub(crate) fn run<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async { tokio::time::timeout(PATIENCE, work).await.expect("in time") })
}

/// Clients that believe an authority and speak one protocol.
pub(crate) struct Quic(Endpoint);

impl Quic {
    /// To be made inside [`run`].
    pub(crate) fn new(authority: &Authority, protocol: &str) -> Quic {
        Quic::with(authority, protocol, TransportConfig::default())
    }

    /// With other limits than usual.
    pub(crate) fn with(authority: &Authority, protocol: &str, transport: TransportConfig) -> Quic {
        let mut tls = Arc::unwrap_or_clone(authority.client_of(&[&TLS13], &[protocol]));
        // As far as the server does.
        tls.enable_early_data = true;
        let crypto = QuicClientConfig::try_from(tls).expect("a cipher suite for the beginning");
        let mut endpoint = Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).expect("a socket");
        let mut config = ClientConfig::new(Arc::new(crypto));
        config.transport_config(Arc::new(transport));
        endpoint.set_default_client_config(config);
        Quic(endpoint)
    }

    pub(crate) async fn try_connect(&self, server: SocketAddr) -> Result<Connection, ConnectionError> {
        self.0.connect(server, HOST).expect("a way there").await
    }

    /// Whether what is asked could be sent before the handshake.
    pub(crate) fn has_early_data(&self, server: SocketAddr) -> bool {
        self.0.connect(server, HOST).expect("a way there").into_0rtt().is_ok()
    }

    pub(crate) async fn connect(&self, server: SocketAddr) -> Connection {
        self.try_connect(server).await.expect("a handshake")
    }

    /// First packets of so many connections, each octet for octet as a client sends it.
    pub(crate) async fn first_packets(&self, count: usize) -> Vec<Vec<u8>> {
        let sink = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket");
        sink.set_nonblocking(true).expect("an option");
        let sink = tokio::net::UdpSocket::from_std(sink).expect("a socket");
        let address = sink.local_addr().expect("an address");
        // What is said again is of a connection that is known: by the id that its packets go to.
        let id = |packet: &[u8]| packet[6..6 + usize::from(packet[5])].to_vec();
        let (mut packets, mut known, mut held) = (vec![], HashSet::new(), vec![]);
        for _ in 0..count {
            held.push(self.0.connect(address, HOST).expect("a way there"));
            loop {
                let mut packet = vec![0; 2048];
                let length = sink.recv(&mut packet).await.expect("a packet");
                packet.truncate(length);
                if known.insert(id(&packet)) {
                    packets.push(packet);
                    break;
                }
            }
        }
        packets
    }
}

/// A message with its length, and 0 as its id.
pub(crate) fn framed(query: &Message) -> Vec<u8> {
    let mut octets = client::framed(query);
    octets[2..4].fill(0);
    octets
}

/// Sends octets on a stream of their own; what comes back until its end.
pub(crate) async fn exchange(connection: &Connection, octets: &[u8]) -> Result<Vec<u8>, ReadToEndError> {
    let (mut send, mut receive) = connection.open_bi().await.map_err(|lost| ReadToEndError::Read(lost.into()))?;
    // What is refused before it is sent shows when it is read.
    let _ = send.write_all(octets).await;
    let _ = send.finish();
    receive.read_to_end(1 << 20).await
}

/// Asks over DNS over QUIC.
pub(crate) async fn ask(connection: &Connection, query: &Message) -> Message {
    let answer = exchange(connection, &framed(query)).await.expect("an answer");
    let length = u16::from_be_bytes([answer[0], answer[1]]);
    assert_eq!(usize::from(length), answer.len() - 2);
    let answer = Message::from_vec(&answer[2..]).expect("a message");
    assert_eq!((answer.id, &answer.queries), (0, &query.queries));
    answer
}

/// The code that the server closed a connection with.
pub(crate) async fn closed(connection: &Connection) -> VarInt {
    match connection.closed().await {
        ConnectionError::ApplicationClosed(close) => close.error_code,
        other => panic!("{other}"),
    }
}

/// A client of HTTP/3 on a connection.
pub(crate) struct Http3 {
    requests: h3::client::SendRequest<h3_quinn::OpenStreams, Bytes>,
}

impl Http3 {
    pub(crate) async fn over(connection: Connection) -> Http3 {
        let connection = h3_quinn::Connection::new(connection);
        let (mut driver, requests) = h3::client::new(connection).await.expect("HTTP/3");
        tokio::spawn(async move { driver.wait_idle().await });
        Http3 { requests }
    }

    /// One request; its response and the body of that.
    pub(crate) async fn ask(
        &self,
        method: Method,
        path: &str,
        content_type: Option<&str>,
        body: &[u8],
    ) -> (Response<()>, Vec<u8>) {
        let mut request = Request::builder().method(method).uri(format!("https://{HOST}{path}"));
        if let Some(content_type) = content_type {
            request = request.header("content-type", content_type);
        }
        let mut requests = self.requests.clone();
        let mut stream = requests.send_request(request.body(()).expect("a request")).await.expect("sent");
        if !body.is_empty() {
            // A body that is refused need not be taken.
            let _ = stream.send_data(Bytes::copy_from_slice(body)).await;
        }
        let _ = stream.finish().await;
        let response = stream.recv_response().await.expect("a response");
        let mut octets = vec![];
        while let Some(mut data) = stream.recv_data().await.expect("a body") {
            let length = data.remaining();
            octets.extend_from_slice(&data.copy_to_bytes(length));
        }
        (response, octets)
    }

    /// A POST whose body does not come; its response.
    pub(crate) async fn begin(&self, path: &str, content_type: &str) -> Response<()> {
        let request = Request::post(format!("https://{HOST}{path}")).header("content-type", content_type);
        let mut requests = self.requests.clone();
        let mut stream = requests.send_request(request.body(()).expect("a request")).await.expect("sent");
        stream.recv_response().await.expect("a response")
    }
}
