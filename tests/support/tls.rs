//! Certificates of an authority of the tests' own, and clients that believe it alone: TLS without the code under test.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::{fs, io};

use hickory_proto::op::Message;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion};

use super::{PATIENCE, client};

/// The name that certificates are for.
pub(crate) const HOST: &str = "ns.example.com";

/// An authority, and what it issues.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, in PEM.
pub(crate) struct Issued {
    pub(crate) certificate: String,
    pub(crate) key: String,
    pub(crate) der: CertificateDer<'static>,
}

impl Authority {
    pub(crate) fn new() -> Authority {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // Else OpenSSL takes what it issues for its own.
        params.distinguished_name.push(DnType::CommonName, "authority of tests");
        let key = KeyPair::generate().expect("a key");
        Authority(CertifiedIssuer::self_signed(params, key).expect("a certificate"))
    }

    /// Its own certificate, in PEM.
    pub(crate) fn root(&self) -> String {
        self.0.pem()
    }

    /// A certificate for [`HOST`], from the beginning of one year to that of another.
    pub(crate) fn issue(&self, from: i32, until: i32) -> Issued {
        let mut params = CertificateParams::new(vec![HOST.into()]).expect("a name");
        (params.not_before, params.not_after) = (date_time_ymd(from, 1, 1), date_time_ymd(until, 1, 1));
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.0).expect("a certificate");
        Issued { certificate: certificate.pem(), key: key.serialize_pem(), der: certificate.der().clone() }
    }

    /// A client of these versions that offers these protocols. Its sessions are resumed where the server does.
    pub(crate) fn client_of(
        &self,
        versions: &[&'static SupportedProtocolVersion],
        protocols: &[&str],
    ) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).expect("a root");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions);
        let mut config = builder.expect("versions").with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        Arc::new(config)
    }

    pub(crate) fn client(&self) -> Arc<ClientConfig> {
        self.client_of(rustls::ALL_VERSIONS, &["dot"])
    }
}

impl Issued {
    /// Puts both in place of what stands there, the key with nobody else's eyes on it.
    pub(crate) fn write(&self, certificate: &Path, key: &Path) {
        for (path, text) in [(key, &self.key), (certificate, &self.certificate)] {
            let new = path.with_extension("new");
            fs::write(&new, text).expect("written");
            fs::set_permissions(&new, fs::Permissions::from_mode(0o600)).expect("permissions");
            fs::rename(&new, path).expect("in place");
        }
    }
}

/// A connection over TLS.
pub(crate) struct Secure(pub(crate) StreamOwned<ClientConnection, TcpStream>);

impl Secure {
    /// Connects and shakes hands.
    pub(crate) fn connect(server: SocketAddr, config: &Arc<ClientConfig>) -> io::Result<Secure> {
        Secure::over(TcpStream::connect(server)?, config)
    }

    /// Shakes hands over a connection that stands.
    pub(crate) fn over(stream: TcpStream, config: &Arc<ClientConfig>) -> io::Result<Secure> {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from(HOST).expect("a name");
        let connection = ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
        let mut stream = StreamOwned::new(connection, stream);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        Ok(Secure(stream))
    }

    /// Sends all of them at once.
    pub(crate) fn send(&mut self, queries: &[Message]) -> io::Result<()> {
        let octets: Vec<u8> = queries.iter().flat_map(client::framed).collect();
        self.0.write_all(&octets)?;
        self.0.flush()
    }

    /// The next message, as octets.
    pub(crate) fn receive(&mut self) -> io::Result<Vec<u8>> {
        let mut length = [0; 2];
        self.0.read_exact(&mut length)?;
        let mut message = vec![0; u16::from_be_bytes(length).into()];
        self.0.read_exact(&mut message)?;
        Ok(message)
    }

    /// One query and its answer.
    pub(crate) fn ask(&mut self, query: &Message) -> io::Result<Message> {
        self.send(std::slice::from_ref(query))?;
        let answer = Message::from_vec(&self.receive()?).map_err(io::Error::other)?;
        assert_eq!((answer.id, &answer.queries), (query.id, &query.queries));
        Ok(answer)
    }

    /// What the server showed.
    pub(crate) fn certificate(&self) -> CertificateDer<'static> {
        let shown = self.0.conn.peer_certificates().expect("a certificate");
        shown.first().expect("the server's own").clone().into_owned()
    }
}
