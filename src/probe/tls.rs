//! `tls`: a target passes when it completes a TLS handshake with a certificate that is valid for the host.
//!
//! SNI names the target's host. A target without host, or whose host is an address, must have a certificate for that
//! address and is sent no SNI. Nothing is said over the connection once it stands.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::fleet::Target;
use crate::probe::trust::Tls;
use crate::probe::{Check, Finding, Identity, Probe, reason, socket_address, source_of, tcp};

/// A TLS handshake with one target.
pub(super) struct Handshake {
    /// The error says why this node cannot ask.
    prepared: Result<Secure, String>,
    address: SocketAddr,
    source: Option<IpAddr>,
    timeout: Duration,
}

/// The handshake itself, over a connection that stands.
pub(super) struct Secure {
    connector: TlsConnector,
    name: ServerName<'static>,
    address: IpAddr,
}

impl Secure {
    /// `protocol` is what is offered by ALPN; the error says why this node cannot ask.
    pub(super) fn new(
        verify: bool,
        identity: Option<&Identity>,
        protocol: Option<&[u8]>,
        check: &Check,
        target: &Target,
        trust: &Tls,
    ) -> Result<Secure, String> {
        let name = match target.host.as_deref() {
            Some(host) => ServerName::try_from(host.trim_end_matches('.').to_string())
                .map_err(|_| format!("cannot ask for {host} over TLS"))?,
            None => ServerName::from(target.address),
        };
        let mut client = trust.client(verify, trust.certificates.of(check, target), identity)?;
        client.alpn_protocols = protocol.map(<[u8]>::to_vec).into_iter().collect();
        Ok(Secure { connector: TlsConnector::from(Arc::new(client)), name, address: target.address })
    }

    /// `timeout` is what the whole probe had until `deadline`.
    pub(super) async fn connect(
        &self,
        stream: TcpStream,
        deadline: Instant,
        timeout: Duration,
    ) -> Result<TlsStream<TcpStream>, Finding> {
        timeout_at(deadline, self.connector.connect(self.name.clone(), stream))
            .await
            .map_err(|_| reason::timeout(timeout, "waiting for the TLS handshake"))?
            .map_err(|error| reason::of(&error, self.address))
    }
}

impl Handshake {
    pub(super) fn new(
        verify: bool,
        identity: Option<&Identity>,
        check: &Check,
        target: &Target,
        trust: &Tls,
    ) -> Handshake {
        Handshake {
            prepared: Secure::new(verify, identity, None, check, target, trust),
            address: socket_address(target),
            source: source_of(check, target),
            timeout: check.policy.timeout,
        }
    }

    async fn probe(&self) -> Finding {
        match &self.prepared {
            Ok(prepared) => self.shake_hands(prepared).await.unwrap_or_else(|finding| finding),
            Err(reason) => Finding::no_verdict(reason),
        }
    }

    /// Pass, or whatever ended it before.
    async fn shake_hands(&self, prepared: &Secure) -> Result<Finding, Finding> {
        let deadline = Instant::now() + self.timeout;
        let stream = timeout_at(deadline, tcp::connect(self.address, self.source))
            .await
            .map_err(|_| reason::timeout(self.timeout, "connecting"))?
            .map_err(|error| reason::of(&error, self.address.ip()))?;
        prepared.connect(stream, deadline, self.timeout).await?;
        Ok(Finding::pass("TLS handshake done"))
    }
}

impl Probe for Handshake {
    fn run(&self) -> Pin<Box<dyn Future<Output = Finding> + Send + '_>> {
        Box::pin(self.probe())
    }
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::CertificateDer;
    use tokio::io::AsyncWriteExt;

    use super::*;
    use crate::probe::{Kind, backends};

    const AMPLE: Duration = Duration::from_secs(20);
    const SHORT: Duration = Duration::from_millis(300);
    const NAME: &str = "www.example.com";

    fn handshake(address: SocketAddr, host: Option<&str>, verify: bool, timeout: Duration, trust: &Tls) -> Handshake {
        let check = backends::check(Kind::Tls { verify, identity: None }, timeout);
        Handshake::new(verify, None, &check, &backends::target(address, host), trust)
    }

    #[tokio::test]
    async fn certificates() {
        let authority = backends::Authority::new("ours");
        let stranger = backends::Authority::new("a stranger's");
        let good = authority.serving(NAME, (2020, 2100)).await;
        let expired = authority.serving(NAME, (2020, 2024)).await;
        let early = authority.serving(NAME, (2099, 2100)).await;
        let by_address = authority.serving("127.0.0.1", (2020, 2100)).await;
        let strange = stranger.serving(NAME, (2020, 2100)).await;
        let passed = Finding::pass("TLS handshake done");
        let rows = [
            (good, Some(NAME), true, passed.clone()),
            (good, Some("WWW.EXAMPLE.COM."), true, passed.clone()),
            (by_address, None, true, passed.clone()),
            (by_address, Some("127.0.0.1"), true, passed.clone()),
            (expired, Some(NAME), true, Finding::fail("certificate expired 2024-01-02")),
            (expired, Some(NAME), false, passed.clone()),
            (early, Some(NAME), true, Finding::fail("certificate not valid before 2099-01-02")),
            (good, Some("a.example"), true, Finding::fail("certificate is for www.example.com, not a.example")),
            (good, None, true, Finding::fail("certificate is for www.example.com, not 127.0.0.1")),
            (good, None, false, passed.clone()),
            (strange, Some(NAME), true, Finding::fail("certificate signed by an unknown authority")),
            (strange, Some(NAME), false, passed),
        ];
        let trust = Tls::new(vec![CertificateDer::from(authority.root())]);
        for (address, host, verify, finding) in rows {
            let handshake = handshake(address, host, verify, AMPLE, &trust);
            assert_eq!(handshake.probe().await, finding, "{host:?}");
            assert_eq!(handshake.probe().await, finding, "{host:?} again: no session is resumed");
        }
        let handshake = handshake(expired, Some(NAME), true, AMPLE, &trust);
        handshake.probe().await;
        let expiries: Vec<u64> = trust.certificates.expiries().into_values().collect();
        assert_eq!(expiries, [1_704_153_600], "2024-01-02, of the one that is still probed");
    }

    #[tokio::test]
    async fn what_is_no_handshake() {
        let plain = backends::listen(|mut stream| async move {
            let _ = stream.write_all(b"SSH-2.0-OpenSSH_9.9\r\n").await;
            backends::read_head(&mut stream).await;
        })
        .await;
        let closes = backends::listen(|_| async {}).await;
        let hangs = backends::listen(|stream| async move {
            tokio::time::sleep(AMPLE).await;
            drop(stream);
        })
        .await;
        let drips = backends::listen(|mut stream| async move {
            // The head of a handshake record of 16 KiB, of which an octet comes now and then.
            let _ = stream.write_all(&[22, 3, 3, 64, 0]).await;
            while stream.write_all(b"x").await.is_ok() {
                tokio::time::sleep(SHORT / 30).await;
            }
        })
        .await;
        let rows = [
            (plain, AMPLE, vec!["not TLS"]),
            (closes, AMPLE, vec!["connection closed", "connection reset"]),
            (backends::refusing().await, AMPLE, vec!["connection refused"]),
            (hangs, SHORT, vec!["timeout after 300ms (waiting for the TLS handshake)"]),
            (drips, SHORT, vec!["timeout after 300ms (waiting for the TLS handshake)", "not TLS"]),
        ];
        for (address, timeout, reasons) in rows {
            let finding = handshake(address, Some(NAME), false, timeout, &Tls::new(Vec::new())).probe().await;
            assert!(reasons.iter().any(|reason| finding == Finding::fail(reason)), "{finding:?}, expected {reasons:?}");
        }
    }

    #[tokio::test]
    async fn what_this_node_cannot_ask_is_no_verdict() {
        let handshake = handshake(backends::refusing().await, Some("a b"), false, AMPLE, &Tls::new(Vec::new()));
        assert_eq!(handshake.probe().await, Finding::no_verdict("cannot ask for a b over TLS"));
    }
}
