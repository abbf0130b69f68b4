//! What is checked: servers at any number of addresses of loopback, in one thread on a core of its own.

use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use rcgen::{CertificateParams, CertifiedIssuer, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;

use crate::support::system;

/// Whom certificates are for.
pub(crate) const HOST: &str = "www.example.com";
const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
/// Connections that the kernel takes while the thread is busy.
const BACKLOG: u32 = 4096;

/// A thread that runs tasks, until it is dropped.
pub(crate) struct Servants {
    pub(crate) handle: Handle,
    _running: oneshot::Sender<()>,
}

impl Servants {
    /// Begins on this core.
    pub(crate) fn start(core: usize) -> io::Result<Servants> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (running, ended) = oneshot::channel();
        let (pinned, is_pinned) = mpsc::channel();
        thread::spawn(move || {
            // Whoever starts it waits for this.
            let _ = pinned.send(system::pin(core));
            let _ = runtime.block_on(ended);
            runtime.shutdown_background();
        });
        is_pinned.recv().map_err(io::Error::other)??;
        Ok(Servants { handle, _running: running })
    }

    /// Runs `serve` for each connection that a listener takes.
    pub(crate) fn accept<S, F>(&self, listener: std::net::TcpListener, serve: S) -> tokio::task::AbortHandle
    where
        S: Fn(TcpStream) -> F + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let accepting = async move {
            let Ok(listener) = TcpListener::from_std(listener) else { return };
            loop {
                match listener.accept().await {
                    Ok((stream, _)) => drop(tokio::spawn(serve(stream))),
                    // Out of descriptors: the next one may find some.
                    Err(_) => tokio::task::yield_now().await,
                }
            }
        };
        self.handle.spawn(accepting).abort_handle()
    }
}

/// A port at one address, or at all of loopback.
pub(crate) fn listen(address: SocketAddr, backlog: u32) -> io::Result<std::net::TcpListener> {
    // Sockets of tokio want a runtime to be near.
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let _near = runtime.enter();
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(backlog)?.into_std()
}

/// How a backend treats whoever connects.
#[derive(Clone)]
pub(crate) enum Manners {
    /// Closes at once.
    Close,
    /// Answers a request with 200.
    Http,
    /// The same over TLS.
    Https(TlsAcceptor),
    /// Reads until the other side gives up.
    Silent,
}

/// Every connection that was taken: to which address, and when.
pub(crate) type Visits = Arc<Mutex<Vec<(Ipv4Addr, Instant)>>>;

/// A backend at all addresses of loopback; its port, and who came.
pub(crate) fn everywhere(servants: &Servants, manners: &Manners) -> io::Result<(u16, Visits)> {
    let listener = listen((Ipv4Addr::UNSPECIFIED, 0).into(), BACKLOG)?;
    let port = listener.local_addr()?.port();
    let visits = Visits::default();
    let (noted, manners) = (Arc::clone(&visits), manners.clone());
    servants.accept(listener, move |stream| {
        let now = Instant::now();
        if let Ok(SocketAddr::V4(local)) = stream.local_addr() {
            noted.lock().unwrap_or_else(PoisonError::into_inner).push((*local.ip(), now));
        }
        treat(stream, manners.clone())
    });
    Ok((port, visits))
}

async fn treat(mut stream: TcpStream, manners: Manners) {
    match manners {
        Manners::Close => {}
        Manners::Http => answer(&mut stream, OK).await,
        Manners::Https(acceptor) => {
            if let Ok(mut stream) = acceptor.accept(stream).await {
                answer(&mut stream, OK).await;
            }
        }
        Manners::Silent => {
            let mut octets = [0; 512];
            while stream.read(&mut octets).await.is_ok_and(|read| read > 0) {}
        }
    }
}

/// Reads a request and answers it. What fails is the prober's to see.
pub(crate) async fn answer(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), response: &[u8]) {
    let mut head = [0; 2048];
    let mut length = 0;
    while length < head.len() && !head[..length].ends_with(b"\r\n\r\n") {
        match stream.read(&mut head[length..]).await {
            Ok(read) if read > 0 => length += read,
            _ => return,
        }
    }
    let _ = stream.write_all(response).await;
    let _ = stream.shutdown().await;
}

/// A certificate for [`HOST`] by an authority of our own, whose certificate is written to a file.
pub(crate) fn tls(folder: &Path) -> Result<(TlsAcceptor, PathBuf), Box<dyn std::error::Error + Send + Sync>> {
    let mut authority = CertificateParams::new(Vec::new())?;
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate()?)?;
    let path = folder.join("roots.pem");
    std::fs::write(&path, authority.pem())?;
    let key = KeyPair::generate()?;
    let certificate = CertificateParams::new(vec![HOST.into()])?.signed_by(&key, &authority)?;
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], PrivateKeyDer::try_from(key.serialize_der())?)?;
    Ok((TlsAcceptor::from(Arc::new(config)), path))
}
