//! What comes before the first query of a connection, in its own task and bounded in time: whose it is, where a balancer says
//! so ([`proxy`]), and the TLS handshake.
//!
//! ```text
//!  accepted ─ from a balancer? ─► header: the client ─┐
//!      └──────────────────────────────────────────────┴► seat of the client's prefix ─ TLS? ─► handshake ─┐
//!                                                                     └──────────────────────────────────┴► queries
//! ```
//! Of one prefix only half as many connections may be in their handshake as may be open; a newcomer replaces the one that
//! began first, so that whoever only begins handshakes takes the place of his own kind.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::connections::Seat;
use super::doh::Site;
use super::proxy::{self, HEAD, MOST};
use crate::metrics::{Counter, Counters};
use crate::time;

/// What is spoken on the connections of a listener.
#[derive(Clone)]
pub(super) enum Speaks {
    /// DNS as it is.
    Dns,
    /// DNS inside TLS.
    DnsOverTls(TlsAcceptor),
    /// DNS over HTTP inside TLS.
    DnsOverHttps(TlsAcceptor, Arc<Site>),
}

/// What whoever comes to a listener has to do before he is served.
#[derive(Clone)]
pub(super) struct Door {
    pub(super) speaks: Speaks,
    /// Balancers, whose connections begin with a header.
    pub(super) proxies: Arc<[IpNet]>,
}

impl Door {
    pub(super) fn is_balancer(&self, source: IpAddr) -> bool {
        self.proxies.iter().any(|prefix| prefix.contains(&source))
    }
}

/// Why nobody came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The balancer did not begin with a header, or not in time.
    BadHeader,
    /// The client closed, or nothing could be agreed on.
    Failed,
    /// It took too long.
    TimedOut,
}

impl Refusal {
    pub(super) fn counter(self, counters: &Counters) -> &Counter {
        match self {
            Refusal::BadHeader => &counters.tcp_closed_bad_header,
            Refusal::Failed => &counters.tls_handshakes_failed,
            Refusal::TimedOut => &counters.tls_handshakes_timed_out,
        }
    }
}

/// Reads whose connection it is, octet for octet: what follows is not the header's.
pub(super) async fn client(stream: &mut TcpStream, balancer: IpAddr, seat: &Seat) -> Result<IpAddr, Refusal> {
    let read = async {
        let mut octets = [0; MOST];
        stream.read_exact(&mut octets[..HEAD]).await.ok()?;
        let length = proxy::length(&octets[..HEAD])?;
        stream.read_exact(&mut octets[HEAD..length]).await.ok()?;
        proxy::parse(&octets[..length])
    };
    let header = tokio::time::timeout(seat.connections().limits().message, read).await;
    let header = header.ok().flatten().ok_or(Refusal::BadHeader)?;
    Ok(header.client.unwrap_or(balancer))
}

/// Shakes hands; whether a session was resumed.
pub(super) async fn shake_hands(
    stream: TcpStream,
    acceptor: &TlsAcceptor,
    seat: &Seat,
) -> Result<(Box<TlsStream<TcpStream>>, bool), Refusal> {
    let handshake = tokio::time::timeout(seat.connections().limits().message, acceptor.accept(stream)).await;
    let stream = handshake.map_err(|_| Refusal::TimedOut)?.map_err(|_| Refusal::Failed)?;
    seat.has_shaken_hands(time::now());
    let is_resumed = stream.get_ref().1.handshake_kind() == Some(rustls::HandshakeKind::Resumed);
    Ok((Box::new(stream), is_resumed))
}
