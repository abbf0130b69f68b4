//! `tcp`: a target passes when it accepts a connection.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::time::Duration;

use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use crate::fleet::Target;
use crate::probe::{Check, Finding, Probe, reason, socket_address, source_of};

/// A TCP handshake with one target.
#[derive(Debug)]
pub(super) struct Handshake {
    address: SocketAddr,
    source: Option<IpAddr>,
    timeout: Duration,
}

impl Handshake {
    pub(super) fn new(check: &Check, target: &Target) -> Handshake {
        Handshake { address: socket_address(target), source: source_of(check, target), timeout: check.policy.timeout }
    }

    async fn probe(&self) -> Finding {
        match timeout(self.timeout, connect(self.address, self.source)).await {
            Ok(Ok(_)) => Finding::pass("connected"),
            Ok(Err(error)) => reason::of(&error, self.address.ip()),
            Err(_) => reason::timeout(self.timeout, "connecting"),
        }
    }
}

/// A new connection; `source` is where it comes from, if that is not for the system to choose.
pub(super) async fn connect(address: SocketAddr, source: Option<IpAddr>) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    if let Some(source) = source {
        socket.bind(SocketAddr::new(source, 0))?;
    }
    socket.connect(address).await
}

impl Probe for Handshake {
    fn run(&self) -> Pin<Box<dyn Future<Output = Finding> + Send + '_>> {
        Box::pin(self.probe())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::{Kind, backends};

    async fn probe(address: SocketAddr, source: Option<IpAddr>) -> Finding {
        let check = Check { source, ..backends::check(Kind::Tcp, Duration::from_secs(5)) };
        Handshake::new(&check, &backends::target(address, None)).probe().await
    }

    #[tokio::test]
    async fn findings() {
        let accepting = backends::listen(|_| async {}).await;
        let refusing = backends::refusing().await;
        let loopback = Some("127.0.0.9".parse().unwrap());
        let other_family = Some("2001:db8::1".parse().unwrap());
        let rows = [
            (accepting, None, Finding::pass("connected")),
            (accepting, loopback, Finding::pass("connected")),
            (accepting, other_family, Finding::pass("connected")),
            (refusing, None, Finding::fail("connection refused")),
            (
                accepting,
                Some(backends::NOT_OURS),
                Finding::no_verdict("no such source address or no free port on this node"),
            ),
        ];
        for (address, source, finding) in rows {
            assert_eq!(probe(address, source).await, finding, "{address} from {source:?}");
        }
    }

    #[tokio::test]
    async fn a_full_backlog_is_a_timeout() {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(0).unwrap();
        let address = listener.local_addr().unwrap();
        let _waiting = TcpStream::connect(address).await.unwrap();
        let check = backends::check(Kind::Tcp, Duration::from_millis(50));
        let finding = Handshake::new(&check, &backends::target(address, None)).probe().await;
        assert_eq!(finding, Finding::fail("timeout after 50ms (connecting)"));
    }
}
