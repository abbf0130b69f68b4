//! Opens the sockets of all listen addresses, all or nothing, before any thread starts.
//!
//! Each address gets one TCP listener, which all workers accept from, and one UDP socket per worker, among which the
//! kernel spreads clients (`SO_REUSEPORT`). The listener is not shared, so that a second server on the same address
//! finds it in use instead of silently taking half of the queries. Addresses of DNS over TLS get a TCP listener alone.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::AsFd;
use std::sync::Arc;

use http::HeaderValue;
use ipnet::IpNet;
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use tokio_rustls::TlsAcceptor;

use super::doh::{self, Site};
use super::entry::{Door, Speaks};
use super::{Inbox, cores, doh3, doq, quic, socket, tcp, udp};
use crate::tls::Certificates;

/// Size asked for each UDP buffer; the kernel gives what `net.core.rmem_max` and `wmem_max` allow. It changes nothing in
/// what a query costs; of a burst of 512 small ones the usual 208 KiB lose some.
const UDP_BUFFER: usize = 4 << 20;
/// Octets of answers that the kernel takes for a connection; Linux keeps twice as many for them.
const TCP_SEND_BUFFER: usize = 64 * 1024;
/// How long a client may remember where HTTP/3 is.
const ALT_SVC_SECONDS: u32 = 86_400;
/// Connections that wait to be accepted; the kernel gives what `net.core.somaxconn` allows.
const BACKLOG: i32 = 1024;
/// How often to try for a port that is free for TCP and UDP alike.
const PORT_ATTEMPTS: usize = 16;

/// Sockets of all listen addresses, bound.
pub struct Listeners {
    addresses: Vec<SocketAddr>,
    /// Those of encrypted transports, in the order of binding.
    encrypted: Vec<(Protected, SocketAddr)>,
    /// For each worker, one for each address, those of encrypted transports behind the others.
    pub(super) tcp: Vec<Vec<tcp::Listener>>,
    /// For each worker, one for each address of QUIC.
    pub(super) quic: Vec<Vec<quic::Listener>>,
    /// For each address, one for each worker, in the order of binding.
    pub(super) udp: Vec<udp::Socket>,
    /// Balancers, whose connections and datagrams begin with a header.
    pub(super) proxies: Arc<[IpNet]>,
    /// Where messages go that are no queries.
    pub(super) inbox: Option<Inbox>,
}

/// Addresses of encrypted transports, and what their clients are shown.
#[derive(Clone, Debug)]
pub struct Encrypted {
    /// What all of them show.
    pub certificates: Arc<Certificates>,
    /// DNS over TLS, over TCP.
    pub dot: Vec<SocketAddr>,
    /// DNS over HTTPS, over TCP.
    pub doh: Vec<SocketAddr>,
    /// DNS over QUIC, over UDP.
    pub doq: Vec<SocketAddr>,
    /// DNS over HTTP/3, over UDP.
    pub doh3: Vec<SocketAddr>,
    /// Path of the URL of DNS over HTTPS and over HTTP/3.
    pub doh_path: String,
}

/// What DNS over TLS is called in a handshake (RFC 7858, ALPN of IANA).
const ALPN_DOT: &str = "dot";

impl Listeners {
    /// Binds TCP and UDP on each of `addresses`, for `workers` threads each (at least one). Port 0 is a free port, the
    /// same for both. An address that is not there yet is bound all the same, and works once it appears.
    pub fn bind(addresses: &[SocketAddr], workers: usize) -> Result<Listeners, BindError> {
        let workers = workers.max(1);
        let tcp = (0..workers).map(|_| vec![]).collect();
        let quic = (0..workers).map(|_| vec![]).collect();
        let mut listeners = Listeners {
            addresses: vec![],
            encrypted: vec![],
            tcp,
            quic,
            udp: vec![],
            proxies: Arc::default(),
            inbox: None,
        };
        for &address in addresses {
            let (tcp, udp) = bind_address(address, workers).map_err(|error| listeners.explain(error))?;
            let bound = listeners.accept_on(&tcp, address, &Speaks::Dns)?;
            listeners.addresses.push(bound);
            listeners.udp.extend(udp);
        }
        Ok(listeners)
    }

    /// Listens for encrypted transports as well.
    ///
    /// # Errors
    /// When an address cannot be bound.
    pub fn encrypted(mut self, of: &Encrypted) -> Result<Listeners, BindError> {
        let acceptor = |protocols: &[&str]| TlsAcceptor::from(Arc::new(of.certificates.server(protocols)));
        let dot = Speaks::DnsOverTls(acceptor(&[ALPN_DOT]));
        for &address in &of.dot {
            let bound = self.listen_on(address, &dot)?;
            self.encrypted.push((Protected::Tls, bound));
        }
        let quic = |protocol: &str| Arc::new(of.certificates.quic(&[protocol]));
        let doq = quic(doq::PROTOCOL);
        for &address in &of.doq {
            let bound = self.listen_on_quic(address, &doq, &quic::Speaks::Doq)?;
            self.encrypted.push((Protected::Quic, bound));
        }
        let doh3 = quic(doh3::PROTOCOL);
        let site = |alt_svc| Arc::new(Site { path: of.doh_path.clone(), alt_svc });
        for &address in &of.doh3 {
            let bound = self.listen_on_quic(address, &doh3, &quic::Speaks::Doh3(site(None)))?;
            self.encrypted.push((Protected::Http3, bound));
        }
        let doh = acceptor(&doh::PROTOCOLS);
        for &address in &of.doh {
            let site = site(self.http3_beside(&address).and_then(alt_svc));
            let bound = self.listen_on(address, &Speaks::DnsOverHttps(doh.clone(), site))?;
            self.encrypted.push((Protected::Https, bound));
        }
        Ok(self)
    }

    /// Gives every worker a socket for what comes to an address over QUIC; the address that it got.
    fn listen_on_quic(
        &mut self,
        address: SocketAddr,
        tls: &Arc<rustls::ServerConfig>,
        speaks: &quic::Speaks,
    ) -> Result<SocketAddr, BindError> {
        let failed = |cause| BindError::new(address, "UDP", cause);
        let sockets = bind_quic(address, self.quic.len()).map_err(|cause| self.explain(failed(cause)))?;
        let bound = sockets.first().map_or(Ok(address), UdpSocket::local_addr).map_err(failed)?;
        for (of_worker, socket) in self.quic.iter_mut().zip(sockets) {
            of_worker.push(quic::Listener { socket, tls: Arc::clone(tls), speaks: speaks.clone() });
        }
        Ok(bound)
    }

    /// Has every worker accept what comes to an address over TCP; the address that it got.
    fn listen_on(&mut self, address: SocketAddr, speaks: &Speaks) -> Result<SocketAddr, BindError> {
        let tcp = bind_tcp(address).map_err(|cause| self.explain(BindError::new(address, "TCP", cause)))?;
        self.accept_on(&tcp, address, speaks)
    }

    /// What comes from these prefixes begins with a header that says whose it is.
    #[must_use]
    pub fn behind(mut self, proxies: &[IpNet]) -> Listeners {
        self.proxies = proxies.into();
        for listener in self.tcp.iter_mut().flatten() {
            listener.door.proxies = Arc::clone(&self.proxies);
        }
        self
    }

    /// Has every worker accept what comes to a socket; its address.
    fn accept_on(
        &mut self,
        socket: &TcpListener,
        address: SocketAddr,
        speaks: &Speaks,
    ) -> Result<SocketAddr, BindError> {
        let failed = |cause| BindError::new(address, "TCP", cause);
        for of_worker in &mut self.tcp {
            let door = Door { speaks: speaks.clone(), proxies: Arc::clone(&self.proxies) };
            of_worker.push(tcp::Listener { socket: socket.try_clone().map_err(failed)?, door });
        }
        socket.local_addr().map_err(failed)
    }

    /// Where HTTP/3 is served for those who reach an address.
    fn http3_beside(&self, address: &SocketAddr) -> Option<&SocketAddr> {
        let http3 = self.encrypted.iter().filter(|(protected, _)| *protected == Protected::Http3);
        http3.map(|(_, bound)| bound).find(|bound| reaches(bound, address))
    }

    /// The error, and which other address of ours is behind it, if one is.
    fn explain(&self, mut error: BindError) -> BindError {
        let is_same = |protected: &Protected| (error.transport == "UDP") == protected.is_over_udp();
        let encrypted = self.encrypted.iter().filter(|(protected, _)| is_same(protected)).map(|(_, bound)| bound);
        let mut bound = self.addresses.iter().chain(encrypted);
        error.covered_by = bound.find(|bound| covers(bound, &error.address)).copied();
        error
    }

    /// Has messages that are no queries (NOTIFY, UPDATE) handed to whoever reads `inbox`; without one they are answered
    /// SERVFAIL.
    #[must_use]
    pub fn handing_to(mut self, inbox: Inbox) -> Listeners {
        self.inbox = Some(inbox);
        self
    }

    /// Has each UDP worker run on a core of its own and get what that core receives. What of it fails is logged.
    #[must_use]
    pub fn pinned(mut self) -> Listeners {
        cores::assign(&self.addresses, &mut self.udp, self.tcp.len());
        self
    }

    /// The addresses, in the order given, with the ports they got.
    #[must_use]
    pub fn local_addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Those of encrypted transports, with the ports they got.
    #[must_use]
    pub fn encrypted_addresses(&self) -> &[(Protected, SocketAddr)] {
        &self.encrypted
    }
}

/// An encrypted transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protected {
    /// DNS over TLS.
    Tls,
    /// DNS over HTTPS: HTTP/1.1 and HTTP/2.
    Https,
    /// DNS over QUIC.
    Quic,
    /// DNS over HTTP/3.
    Http3,
}

impl Protected {
    fn is_over_udp(self) -> bool {
        matches!(self, Protected::Quic | Protected::Http3)
    }
}

impl fmt::Display for Protected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Protected::Tls => "TLS",
            Protected::Https => "HTTPS",
            Protected::Quic => "QUIC",
            Protected::Http3 => "HTTP/3",
        })
    }
}

impl fmt::Debug for Listeners {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listeners")
            .field("addresses", &self.addresses)
            .field("encrypted", &self.encrypted)
            .finish_non_exhaustive()
    }
}

/// Says when receive buffers are smaller than was asked for.
pub(super) fn tell_small_buffers(sockets: &[udp::Socket]) {
    let size = |udp: &udp::Socket| SockRef::from(&udp.socket).recv_buffer_size().ok();
    if let Some(smallest) = sockets.iter().filter_map(size).min().filter(|&smallest| smallest < UDP_BUFFER) {
        tracing::info!(
            "a UDP receive buffer holds {smallest} octets, not {UDP_BUFFER}: more `net.core.rmem_max` loses less of a burst"
        );
    }
}

/// Why no address was bound.
#[derive(Debug)]
pub struct BindError {
    address: SocketAddr,
    transport: &'static str,
    cause: io::Error,
    /// Another of our own listen addresses which holds this one's port.
    covered_by: Option<SocketAddr>,
}

impl BindError {
    fn new(address: SocketAddr, transport: &'static str, cause: io::Error) -> BindError {
        BindError { address, transport, cause, covered_by: None }
    }

    /// What to do about it.
    fn hint(&self) -> String {
        let port = self.address.port();
        match (self.cause.kind(), self.covered_by) {
            (io::ErrorKind::AddrInUse, Some(other)) => {
                format!("`{other}` of the listen addresses covers it already; list only one of them")
            }
            (io::ErrorKind::AddrInUse, None) => {
                format!(
                    "another process has it (`ss -lntup 'sport = :{port}'` shows which); stop that or use another port"
                )
            }
            (io::ErrorKind::PermissionDenied, _) if port != 0 && port < 1024 => {
                "ports below 1024 need a privilege: `setcap cap_net_bind_service=+ep` on the executable, \
                 `AmbientCapabilities=CAP_NET_BIND_SERVICE` in its service unit, or a port of 1024 or more"
                    .into()
            }
            (io::ErrorKind::PermissionDenied, _) => "a security policy forbids it".into(),
            _ if self.cause.raw_os_error() == Some(libc::EMFILE) => {
                "raise the limit on open files (`ulimit -n`)".into()
            }
            _ if self.cause.raw_os_error() == Some(libc::EAFNOSUPPORT) => {
                "this machine has no such address family; leave the address out".into()
            }
            _ => String::new(),
        }
    }
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot listen on {} over {}: {}", self.address, self.transport, self.cause)?;
        match self.hint() {
            hint if hint.is_empty() => Ok(()),
            hint => write!(f, "; {hint}"),
        }
    }
}

impl std::error::Error for BindError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.cause)
    }
}

/// Whether a listener on `bound` holds the port of `address` too.
fn covers(bound: &SocketAddr, address: &SocketAddr) -> bool {
    let same_family = bound.is_ipv4() == address.is_ipv4();
    let overlap = bound.ip() == address.ip() || bound.ip().is_unspecified() || address.ip().is_unspecified();
    bound.port() == address.port() && same_family && overlap
}

/// Whether whoever reaches `other` over the same address reaches this one.
fn reaches(this: &SocketAddr, other: &SocketAddr) -> bool {
    this.is_ipv4() == other.is_ipv4() && (this.ip() == other.ip() || this.ip().is_unspecified())
}

/// What a response says of HTTP/3 on the same host (RFC 7838 §3).
fn alt_svc(doh3: &SocketAddr) -> Option<HeaderValue> {
    HeaderValue::try_from(format!("h3=\":{}\"; ma={ALT_SVC_SECONDS}", doh3.port())).ok()
}

/// TCP first: for port 0 it finds the port that UDP then needs, which may be taken there.
fn bind_address(address: SocketAddr, workers: usize) -> Result<(TcpListener, Vec<udp::Socket>), BindError> {
    let mut attempts = if address.port() == 0 { PORT_ATTEMPTS } else { 1 };
    loop {
        attempts -= 1;
        let tcp = bind_tcp(address).map_err(|cause| BindError::new(address, "TCP", cause))?;
        let udp = tcp.local_addr().and_then(|bound| (0..workers).map(|_| bind_udp(bound)).collect());
        match udp {
            Ok(udp) => return Ok((tcp, udp)),
            Err(cause) if cause.kind() == io::ErrorKind::AddrInUse && attempts > 0 => {}
            Err(cause) => return Err(BindError::new(address, "UDP", cause)),
        }
    }
}

fn bind_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = new_socket(&address, Type::STREAM, Protocol::TCP)?;
    // A restart must not wait for old connections to time out.
    socket.set_reuse_address(true)?;
    socket.set_tcp_nodelay(true)?;
    socket.set_nonblocking(true)?;
    // Connections have it from here. What is not bounded grows to megabytes for each client that reads slowly.
    let _ = socket.set_send_buffer_size(TCP_SEND_BUFFER);
    bind_or_await(&socket, &address)?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn bind_udp(address: SocketAddr) -> io::Result<udp::Socket> {
    let socket = new_socket(&address, Type::DGRAM, Protocol::UDP)?;
    socket.set_reuse_port(true)?;
    socket::forbid_fragments(socket.as_fd(), &address)?;
    let wildcard = address.ip().is_unspecified();
    if wildcard {
        socket::tell_destination(socket.as_fd(), &address)?;
    }
    // Larger buffers help bursts; smaller ones are no reason not to serve.
    let _ = socket.set_recv_buffer_size(UDP_BUFFER);
    let _ = socket.set_send_buffer_size(UDP_BUFFER);
    bind_or_await(&socket, &address)?;
    Ok(udp::Socket { socket: socket.into(), wildcard, core: None })
}

/// One socket for each worker, among which the kernel spreads clients; the first is alone for a moment, so that a second server
/// on the same address finds it in use.
fn bind_quic(address: SocketAddr, workers: usize) -> io::Result<Vec<UdpSocket>> {
    let alone = new_socket(&address, Type::DGRAM, Protocol::UDP)?;
    bind_or_await(&alone, &address)?;
    let bound = alone.local_addr()?.as_socket().unwrap_or(address);
    drop(alone);
    let bind = |_| {
        let socket = new_socket(&bound, Type::DGRAM, Protocol::UDP)?;
        socket.set_reuse_port(true)?;
        socket.set_nonblocking(true)?;
        let _ = socket.set_recv_buffer_size(UDP_BUFFER);
        let _ = socket.set_send_buffer_size(UDP_BUFFER);
        bind_or_await(&socket, &bound)?;
        Ok(socket.into())
    };
    (0..workers).map(bind).collect()
}

fn new_socket(address: &SocketAddr, kind: Type, protocol: Protocol) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(*address), kind, Some(protocol))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    Ok(socket)
}

/// Binds, if need be to an address that this machine does not have yet.
fn bind_or_await(socket: &Socket, address: &SocketAddr) -> io::Result<()> {
    match socket.bind(&(*address).into()) {
        Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => {
            match address {
                SocketAddr::V4(_) => socket.set_freebind_v4(true)?,
                SocketAddr::V6(_) => socket.set_freebind_v6(true)?,
            }
            socket.bind(&(*address).into())?;
            tracing::warn!(%address, "this machine does not have the listen address (yet)");
            Ok(())
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bind(addresses: &[&str], workers: usize) -> Result<Listeners, BindError> {
        let addresses: Vec<SocketAddr> = addresses.iter().map(|address| address.parse().expect("an address")).collect();
        Listeners::bind(&addresses, workers)
    }

    #[test]
    fn connections_have_small_send_buffers() {
        let listener = bind_tcp("127.0.0.1:0".parse().expect("an address")).expect("a free port");
        let _client = std::net::TcpStream::connect(listener.local_addr().expect("an address")).expect("a connection");
        listener.set_nonblocking(false).expect("an option");
        let (accepted, _) = listener.accept().expect("the connection");
        let size = socket2::SockRef::from(&accepted).send_buffer_size().expect("an option");
        assert!(size <= 2 * TCP_SEND_BUFFER, "{size}");
    }

    #[test]
    fn each_address_gets_one_port_for_both_transports() {
        let listeners = bind(&["127.0.0.1:0", "[::1]:0"], 3).expect("free ports");
        assert_eq!((listeners.tcp.len(), listeners.tcp[0].len(), listeners.udp.len()), (3, 2, 6));
        for (index, address) in listeners.local_addresses().iter().enumerate() {
            assert_ne!(address.port(), 0);
            for udp in &listeners.udp[3 * index..3 * index + 3] {
                assert_eq!(&udp.socket.local_addr().expect("an address"), address);
            }
        }
    }

    /// Whether `attempt` ends well with some port: other programs take and leave ports meanwhile.
    fn with_some_port(attempt: impl Fn() -> bool) -> bool {
        (0..32).any(|_| attempt())
    }

    #[test]
    fn an_address_in_use_is_named() {
        assert!(with_some_port(|| {
            let udp = UdpSocket::bind("127.0.0.1:0").expect("a socket");
            let address = udp.local_addr().expect("an address").to_string();
            let error = bind(&[&address], 1).expect_err("in use").to_string();
            error.starts_with(&format!("cannot listen on {address} over UDP: Address already in use"))
                && error.contains("another process has it (`ss -lntup")
        }));
    }

    #[test]
    fn a_second_server_is_refused() {
        let first = bind(&["127.0.0.1:0"], 1).expect("free ports");
        let address = first.local_addresses()[0].to_string();
        let error = bind(&[&address], 1).expect_err("in use").to_string();
        assert!(error.contains("over TCP: Address already in use"), "{error}");
    }

    #[test]
    fn a_second_server_over_quic_is_refused() {
        let first = bind_quic("127.0.0.1:0".parse().expect("an address"), 3).expect("a free port");
        let addresses: Vec<_> = first.iter().map(|socket| socket.local_addr().expect("an address")).collect();
        assert!(addresses.len() == 3 && addresses.iter().all(|address| *address == addresses[0]), "{addresses:?}");
        let error = bind_quic(addresses[0], 3).expect_err("in use");
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn http3_is_told_of_where_it_is_reached() {
        for (doh3, doh, expected) in [
            ("192.0.2.1:443", "192.0.2.1:8443", true),
            ("0.0.0.0:443", "192.0.2.1:443", true),
            ("[::]:443", "[2001:db8::1]:443", true),
            ("192.0.2.1:443", "0.0.0.0:443", false),
            ("192.0.2.2:443", "192.0.2.1:443", false),
            ("[::]:443", "192.0.2.1:443", false),
        ] {
            let [this, other] = [doh3, doh].map(|address| address.parse().expect("an address"));
            assert_eq!(reaches(&this, &other), expected, "{doh3} {doh}");
        }
        assert_eq!(alt_svc(&"192.0.2.1:443".parse().expect("an address")).expect("a value"), "h3=\":443\"; ma=86400");
    }

    #[test]
    fn a_listen_address_twice_is_named() {
        assert!(with_some_port(|| {
            let port = bind(&["127.0.0.1:0"], 1).expect("free ports").local_addresses()[0].port();
            let (wildcard, specific) = (format!("0.0.0.0:{port}"), format!("127.0.0.1:{port}"));
            let error = bind(&[&wildcard, &specific], 1).expect_err("in use").to_string();
            error.ends_with(&format!("`{wildcard}` of the listen addresses covers it already; list only one of them"))
        }));
    }

    #[test]
    fn hints_say_what_to_do() {
        for (errno, port, expected) in [
            (libc::EACCES, 53, "setcap cap_net_bind_service=+ep"),
            (libc::EACCES, 5300, "security policy"),
            (libc::EMFILE, 53, "ulimit -n"),
            (libc::EAFNOSUPPORT, 53, "no such address family"),
        ] {
            let address = SocketAddr::from(([192, 0, 2, 1], port));
            let error = BindError::new(address, "TCP", io::Error::from_raw_os_error(errno)).to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn an_address_that_is_not_there_yet_is_bound() {
        for address in ["192.0.2.1:0", "[2001:db8::1]:0"] {
            bind(&[address], 1).expect("bound all the same");
        }
    }
}
