//! Targets for tests: listeners on loopback that answer, break off, hang or lie.

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rcgen::{CertificateParams, CertifiedIssuer, KeyPair, date_time_ymd};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::fleet::{CheckId, Target};
use crate::health::Policy;
use crate::probe::{Check, Http, Identity, Kind, Version};

/// Accepts connections for as long as the test runs and hands each to `serve`.
pub(super) async fn listen<F>(serve: impl Fn(TcpStream) -> F + Send + 'static) -> SocketAddr
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    address
}

/// An address that nobody listens on.
pub(super) async fn refusing() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap().local_addr().unwrap()
}

/// Reads a request's head and answers with these octets.
pub(super) async fn answering(response: impl Into<Vec<u8>>) -> SocketAddr {
    let response: Arc<[u8]> = response.into().into();
    listen(move |mut stream| {
        let response = Arc::clone(&response);
        async move {
            read_head(&mut stream).await;
            // The prober may have seen enough before all is written.
            let _ = stream.write_all(&response).await;
        }
    })
    .await
}

/// Reads a request's head, which it returns as text.
pub(super) async fn read_head(stream: &mut (impl AsyncReadExt + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(octet) => head.push(octet),
            Err(_) => break,
        }
    }
    String::from_utf8(head).unwrap()
}

/// An authority of our own, and the certificates it issues.
pub(super) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(super) fn new(name: &str) -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        Authority(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub(super) fn root(&self) -> Vec<u8> {
        self.0.der().to_vec()
    }

    /// A server that answers 200 over TLS with a certificate of this name and these years.
    pub(super) async fn serving(&self, name: &str, years: (i32, i32)) -> SocketAddr {
        let (certificate, key) = self.issue(name, years);
        serving_tls(certificate, &key).await
    }

    /// A server that answers `reply` over HTTP/2 and TLS, and says so by ALPN; perhaps to those alone who show a certificate
    /// of this authority.
    pub(super) async fn serving_http2(&self, name: &str, reply: Reply, only_ours: bool) -> SocketAddr {
        let (certificate, key) = self.issue(name, (2020, 2100));
        let mut config = server(certificate, &key, only_ours.then(|| self.only_ours()));
        config.alpn_protocols = vec![b"h2".to_vec()];
        let (acceptor, reply) = (TlsAcceptor::from(Arc::new(config)), Arc::new(reply));
        listen(move |stream| {
            let (acceptor, reply) = (acceptor.clone(), Arc::clone(&reply));
            async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                speak_http2(stream, &reply, &Mutex::default()).await;
            }
        })
        .await
    }

    /// A server that answers 200 over TLS to those alone who show a certificate of this authority.
    pub(super) async fn serving_ours(&self, name: &str) -> SocketAddr {
        let (certificate, key) = self.issue(name, (2020, 2100));
        answering_tls(server(certificate, &key, Some(self.only_ours()))).await
    }

    fn only_ours(&self) -> Arc<dyn ClientCertVerifier> {
        let mut roots = RootCertStore::empty();
        roots.add(self.root().into()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        WebPkiClientVerifier::builder_with_provider(roots.into(), provider).build().unwrap()
    }

    /// What a prober shows to such a server.
    pub(super) fn identity(&self) -> Identity {
        let (certificate, key) = self.issue("prober.example", (2020, 2100));
        Identity::new(vec![certificate], PrivateKeyDer::try_from(key.serialize_der()).unwrap()).unwrap()
    }

    /// A certificate of this name and these years, and its key.
    pub(super) fn issue(&self, name: &str, years: (i32, i32)) -> (CertificateDer<'static>, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let certificate = params(name, years).signed_by(&key, &self.0).unwrap();
        (certificate.der().clone(), key)
    }
}

/// A server whose certificate nobody but itself has signed.
pub(super) async fn serving_self_signed(name: &str) -> SocketAddr {
    let key = KeyPair::generate().unwrap();
    let certificate = params(name, (2020, 2100)).self_signed(&key).unwrap();
    serving_tls(certificate.der().clone(), &key).await
}

fn params(name: &str, (from, until): (i32, i32)) -> CertificateParams {
    let mut params = CertificateParams::new(vec![name.into()]).unwrap();
    params.not_before = date_time_ymd(from, 1, 2);
    params.not_after = date_time_ymd(until, 1, 2);
    params
}

async fn serving_tls(certificate: CertificateDer<'static>, key: &KeyPair) -> SocketAddr {
    answering_tls(server(certificate, key, None)).await
}

fn server(
    certificate: CertificateDer<'static>,
    key: &KeyPair,
    clients: Option<Arc<dyn ClientCertVerifier>>,
) -> ServerConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let builder = match clients {
        Some(clients) => builder.with_client_cert_verifier(clients),
        None => builder.with_no_client_auth(),
    };
    builder.with_single_cert(vec![certificate], key).unwrap()
}

async fn answering_tls(config: ServerConfig) -> SocketAddr {
    let acceptor = TlsAcceptor::from(Arc::new(config));
    listen(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            let Ok(mut stream) = acceptor.accept(stream).await else { return };
            read_head(&mut stream).await;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
            let _ = stream.shutdown().await;
        }
    })
    .await
}

/// A response over HTTP/2.
#[derive(Default)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: Vec<u8>,
    pub(super) trailers: Vec<(&'static str, &'static str)>,
}

/// A request over HTTP/2, as the server saw it.
pub(super) type Seen = Arc<Mutex<Option<http::Request<Vec<u8>>>>>;

/// A server that answers `reply` over HTTP/2 by prior knowledge, and what it was asked last.
pub(super) async fn answering_http2(reply: Reply) -> (SocketAddr, Seen) {
    let (reply, seen) = (Arc::new(reply), Seen::default());
    let kept = Arc::clone(&seen);
    let address = listen(move |stream| {
        let (reply, seen) = (Arc::clone(&reply), Arc::clone(&kept));
        async move { speak_http2(stream, &reply, &seen).await }
    });
    (address.await, seen)
}

async fn speak_http2(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    reply: &Reply,
    seen: &Mutex<Option<http::Request<Vec<u8>>>>,
) {
    let Ok(mut connection) = h2::server::handshake(stream).await else { return };
    while let Some(Ok((request, mut answer))) = connection.accept().await {
        let (head, mut asked) = request.into_parts();
        let serve = async {
            let mut body = Vec::new();
            while let Some(Ok(chunk)) = asked.data().await {
                body.extend_from_slice(&chunk);
            }
            *seen.lock().unwrap() = Some(http::Request::from_parts(head, body));
            let mut response = http::Response::builder().status(reply.status);
            for (name, value) in &reply.headers {
                response = response.header(*name, value);
            }
            let is_short = reply.body.is_empty() && reply.trailers.is_empty();
            // The prober may have seen enough before all is sent.
            let Ok(mut stream) = answer.send_response(response.body(()).unwrap(), is_short) else { return };
            if is_short {
                return;
            }
            let _ = stream.send_data(reply.body.clone().into(), reply.trailers.is_empty());
            if !reply.trailers.is_empty() {
                let trailers = reply
                    .trailers
                    .iter()
                    .map(|(name, value)| (http::HeaderName::from_static(name), http::HeaderValue::from_static(value)));
                let _ = stream.send_trailers(trailers.collect());
            }
        };
        // What is asked comes, and what is answered goes, while the connection is polled.
        let mut serve = std::pin::pin!(serve);
        tokio::select! {
            () = &mut serve => {}
            _ = std::future::poll_fn(|context| connection.poll_closed(context)) => serve.await,
        }
    }
}

/// Closes a connection by a reset.
pub(super) fn reset(stream: &TcpStream) {
    socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO)).unwrap();
}

/// `GET /health`, 200-299.
pub(super) fn http() -> Http {
    Http {
        tls: false,
        verify: true,
        identity: None,
        version: Version::One,
        method: "GET".into(),
        path: "/health".into(),
        headers: Vec::new(),
        expect_status: vec![200..=299],
        expect_body: None,
        load: None,
    }
}

/// A check with that much time for a probe.
pub(super) fn check(kind: Kind, timeout: Duration) -> Check {
    let policy = Policy {
        interval: Duration::from_secs(5),
        timeout,
        fall: 3,
        rise: 3,
        window: None,
        fast_interval: Duration::from_millis(2500),
        hold_down: Duration::ZERO,
    };
    Check { name: "web".into(), policy, kind, source: None }
}

pub(super) fn target(address: SocketAddr, host: Option<&str>) -> Target {
    Target { check: CheckId(0), address: address.ip(), port: address.port(), host: host.map(Into::into) }
}

/// An address that this machine does not have.
pub(super) const NOT_OURS: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
