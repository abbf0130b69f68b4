//! What servers of encrypted transports show and agree to: one certificate with its chain and key, read from PEM files, and the
//! settings of `rustls` for it. Who listens where, and what is said inside, others know.
//!
//! ```text
//!   certificate.pem ─┐                    ┌─ server(protocols):  TLS 1.2 and 1.3 over TCP
//!                    ├► Identity ► Certificates
//!   key.pem ─────────┘     ▲              └─ quic(protocols):    TLS 1.3 alone
//!                          └ reload: what is wrong leaves the one before
//! ```
//! Both settings ask [`Certificates`] at each handshake, so that another certificate reaches the next connection and touches
//! none that stands. Sessions are resumed by tickets, whose keys are this process's own; there is no early data, which can be
//! replayed (RFC 8446 §8).

mod expiry;
mod pem;

pub use expiry::not_after;
pub use pem::{certificates, certified, private_key};

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use rustls::crypto::ring::{self, Ticketer};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{ServerConfig, SupportedProtocolVersion};

/// Largest file of certificates or of a key that is read, in octets.
const MAX_FILE: u64 = 1 << 20;

/// Where a certificate and its key are; both may be the same file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Files {
    /// The certificate, and behind it those that it was issued by.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// A certificate with its chain, and its key.
pub struct Identity {
    certified: Arc<CertifiedKey>,
    expires: Option<u64>,
}

impl Identity {
    /// Of a certificate, those that it was issued by behind it, and the key of the first.
    ///
    /// # Errors
    /// In words, when the key is of no known kind or not that of the certificate.
    pub fn new(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Result<Identity, &'static str> {
        let expires = chain.first().and_then(|certificate| not_after(certificate));
        Ok(Identity { certified: Arc::new(certified(chain, key)?), expires })
    }

    /// What stands in the files now.
    ///
    /// # Errors
    /// In words, with the file.
    pub fn read(files: &Files) -> Result<Identity, String> {
        let chain = parsed(&files.certificate, certificates)?;
        let key = parsed(&files.key, private_key)?;
        Identity::new(chain, key).map_err(|wrong| format!("{}: {wrong}", files.key.display()))
    }

    /// When it expires, in seconds since the Unix epoch, as far as it says.
    #[must_use]
    pub fn expires(&self) -> Option<u64> {
        self.expires
    }
}

impl PartialEq for Identity {
    /// The key is that of the certificate.
    fn eq(&self, other: &Identity) -> bool {
        self.certified.cert == other.certified.cert
    }
}

impl fmt::Debug for Identity {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({} certificates)", self.certified.cert.len())
    }
}

/// What a file holds.
fn parsed<T>(path: &Path, parse: impl Fn(&[u8]) -> Result<T, &'static str>) -> Result<T, String> {
    let octets = read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    parse(&octets).map_err(|wrong| format!("{}: {wrong}", path.display()))
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut octets = Vec::new();
    File::open(path)?.take(MAX_FILE + 1).read_to_end(&mut octets)?;
    if octets.len() as u64 > MAX_FILE {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("larger than {MAX_FILE} octets")));
    }
    Ok(octets)
}

/// What all listeners show, and may be told to show from now on.
#[derive(Debug)]
pub struct Certificates {
    shown: ArcSwap<Identity>,
    origin: Mutex<Origin>,
}

#[derive(Debug)]
struct Origin {
    files: Files,
    /// Why what stands there is not shown; `None` = it is.
    refused: Option<String>,
}

impl Certificates {
    /// Shows `identity`, which was read from `files`.
    #[must_use]
    pub fn new(files: Files, identity: Arc<Identity>) -> Arc<Certificates> {
        let origin = Mutex::new(Origin { files, refused: None });
        Arc::new(Certificates { shown: ArcSwap::new(identity), origin })
    }

    /// Shows another identity, which was read from other files or the same, from now on.
    pub fn replace(&self, files: Files, identity: Arc<Identity>) {
        let mut origin = self.origin();
        *origin = Origin { files, refused: None };
        self.shown.store(identity);
    }

    /// Reads the files again. Whether what they hold is another certificate than was shown.
    ///
    /// # Errors
    /// In words, when something is wrong with it; then the one before is shown on.
    pub fn reload(&self) -> Result<bool, String> {
        let files = self.files();
        let read = Identity::read(&files);
        let mut origin = self.origin();
        if origin.files != files {
            // Others took their place meanwhile, and were read then.
            return Ok(false);
        }
        origin.refused = read.as_ref().err().cloned();
        let identity = read?;
        let is_new = **self.shown.load() != identity;
        // Even so the key may be another one.
        self.shown.store(Arc::new(identity));
        Ok(is_new)
    }

    /// Where it is read from.
    #[must_use]
    pub fn files(&self) -> Files {
        self.origin().files.clone()
    }

    /// Why what stands in the files is not shown; `None` = it is.
    #[must_use]
    pub fn refused(&self) -> Option<String> {
        self.origin().refused.clone()
    }

    /// When what is shown expires, in seconds since the Unix epoch, as far as it says.
    #[must_use]
    pub fn expires(&self) -> Option<u64> {
        self.shown.load().expires
    }

    /// Settings of a server over TCP, with TLS 1.2 and 1.3. A client that offers protocols by ALPN must offer one of
    /// `protocols`; one that offers none is served as well.
    #[must_use]
    pub fn server(self: &Arc<Certificates>, protocols: &[&str]) -> ServerConfig {
        self.configured(&[&TLS13, &TLS12], protocols)
    }

    /// Settings of a server over QUIC, with TLS 1.3 alone (RFC 9001 §4.2).
    #[must_use]
    pub fn quic(self: &Arc<Certificates>, protocols: &[&str]) -> ServerConfig {
        self.configured(&[&TLS13], protocols)
    }

    fn configured(
        self: &Arc<Certificates>,
        versions: &[&'static SupportedProtocolVersion],
        protocols: &[&str],
    ) -> ServerConfig {
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(versions)
            .expect("ring has cipher suites and key exchanges for TLS 1.2 and 1.3")
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(self) as _);
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        config.max_early_data_size = 0;
        // Without random numbers there are no tickets, nor handshakes.
        if let Ok(ticketer) = Ticketer::new() {
            config.ticketer = ticketer;
        }
        config
    }

    fn origin(&self) -> MutexGuard<'_, Origin> {
        self.origin.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.shown.load().certified))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    /// A certificate that nobody but itself has signed, and its key.
    fn issue() -> (String, String) {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec!["ns.example.com".into()]).expect("a name");
        (params.self_signed(&key).expect("a certificate").pem(), key.serialize_pem())
    }

    #[test]
    fn what_is_wrong_is_not_shown() {
        let folder = tempfile::tempdir().expect("a folder");
        let files = Files { certificate: folder.path().join("certificate"), key: folder.path().join("key") };
        let write = |certificate: &str, key: &str| {
            fs::write(&files.certificate, certificate).expect("written");
            fs::write(&files.key, key).expect("written");
        };
        let (one, other) = (issue(), issue());
        write(&one.0, &one.1);
        let certificates =
            Certificates::new(files.clone(), Arc::new(Identity::read(&files).expect("a certificate and its key")));
        let shown = || certificates.shown.load().certified.cert[0].clone();
        let first = shown();
        assert_eq!(certificates.reload(), Ok(false), "the same");
        for (certificate, key, wrong) in [
            (&other.0, &one.1, "key: the key is not that of the certificate"),
            (&one.1, &one.1, "certificate: no certificate in it"),
            (&one.0, &one.0, "key: no private key in it, or an encrypted one"),
        ] {
            write(certificate, key);
            let problem = certificates.reload().expect_err(wrong);
            assert!(problem.ends_with(wrong), "{problem}");
            assert_eq!((certificates.refused(), shown()), (Some(problem), first.clone()));
        }
        fs::remove_file(&files.key).expect("removed");
        assert!(certificates.reload().is_err_and(|problem| problem.contains("key: No such file")));
        write(&other.0, &other.1);
        assert_eq!((certificates.reload(), certificates.refused()), (Ok(true), None));
        assert_ne!(shown(), first);
        fs::write(&files.key, vec![b'\n'; MAX_FILE as usize + 1]).expect("written");
        assert!(certificates.reload().is_err_and(|problem| problem.contains("larger than")));
    }

    #[test]
    fn another_configuration_ends_what_was_wrong_with_the_one_before() {
        let folder = tempfile::tempdir().expect("a folder");
        let both = |name: &str, (certificate, key): &(String, String)| {
            let path = folder.path().join(name);
            fs::write(&path, format!("{certificate}{key}")).expect("written");
            Files { certificate: path.clone(), key: path }
        };
        let (one, other) = (both("one", &issue()), both("other", &issue()));
        let read = |files: &Files| Arc::new(Identity::read(files).expect("both in one file"));
        let certificates = Certificates::new(one.clone(), read(&one));
        fs::remove_file(&one.key).expect("removed");
        assert!(certificates.reload().is_err());
        let identity = read(&other);
        certificates.replace(other.clone(), Arc::clone(&identity));
        assert_eq!((certificates.files(), certificates.refused()), (other, None));
        assert_eq!(**certificates.shown.load(), *identity);
        assert_eq!(certificates.expires(), identity.expires());
        assert_eq!(format!("{identity:?}"), "Identity(1 certificates)", "no key in a log");
    }

    #[test]
    fn settings() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("both");
        let (certificate, key) = issue();
        fs::write(&path, certificate + &key).expect("written");
        let files = Files { certificate: path.clone(), key: path };
        let certificates = Certificates::new(files.clone(), Arc::new(Identity::read(&files).expect("an identity")));
        for (settings, is_quic) in [(certificates.server(&["dot"]), false), (certificates.quic(&["doq"]), true)] {
            assert_eq!(settings.alpn_protocols, [if is_quic { &b"doq"[..] } else { b"dot" }]);
            assert!(settings.ticketer.enabled() && settings.max_early_data_size == 0);
        }
    }
}
