//! The certificate that checks over TLS show to targets which ask for one (`client-certificate`, `client-key`).

use std::fmt;
use std::sync::Arc;

use rustls::client::ResolvesClientCert;
use rustls::crypto::ring;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};

/// A certificate with its chain, and its key.
#[derive(Clone)]
pub struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: Arc<PrivateKeyDer<'static>>,
    resolver: Arc<dyn ResolvesClientCert>,
}

impl Identity {
    /// Of a certificate, those that it was issued by behind it, and the key of the first.
    ///
    /// # Errors
    /// In words, when the key is of no known kind or not that of the certificate.
    pub fn new(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Result<Identity, &'static str> {
        let certified =
            CertifiedKey::from_der(chain.clone(), key.clone_key(), &ring::default_provider()).map_err(|error| {
                match error {
                    rustls::Error::InconsistentKeys(_) => "the key is not that of the certificate",
                    rustls::Error::InvalidCertificate(_) => "the certificate is not readable",
                    _ => "the key is of no kind that is known here",
                }
            })?;
        let resolver = Arc::new(SingleCertAndKey::from(certified));
        Ok(Identity { chain, key: Arc::new(key), resolver })
    }

    pub(super) fn resolver(&self) -> Arc<dyn ResolvesClientCert> {
        Arc::clone(&self.resolver)
    }
}

/// The certificates of a PEM file, at least one.
///
/// # Errors
/// In words.
pub fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, &'static str> {
    let all: Result<Vec<_>, pem::Error> = CertificateDer::pem_slice_iter(pem).collect();
    match all {
        Ok(all) if !all.is_empty() => Ok(all),
        Ok(_) => Err("no certificate in it"),
        Err(_) => Err("not readable as PEM"),
    }
}

/// The first private key of a PEM file: PKCS#8, PKCS#1 or SEC1, not encrypted.
///
/// # Errors
/// In words.
pub fn private_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, &'static str> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|error| match error {
        pem::Error::NoItemsFound => "no private key in it, or an encrypted one",
        _ => "not readable as PEM",
    })
}

impl PartialEq for Identity {
    fn eq(&self, other: &Identity) -> bool {
        self.chain == other.chain && self.key.secret_der() == other.key.secret_der()
    }
}

impl fmt::Debug for Identity {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({} certificates)", self.chain.len())
    }
}

#[cfg(test)]
mod tests {
    use rcgen::KeyPair;

    use super::*;
    use crate::probe::backends::Authority;

    fn key_of(pair: &KeyPair) -> PrivateKeyDer<'static> {
        private_key(pair.serialize_pem().as_bytes()).unwrap()
    }

    #[test]
    fn a_key_belongs_to_its_certificate() {
        let authority = Authority::new("ours");
        let (certificate, key) = authority.issue("prober.example", (2020, 2100));
        let identity = |key: &KeyPair| Identity::new(vec![certificate.clone()], key_of(key));
        let other = KeyPair::generate().unwrap();
        assert_eq!(identity(&key).unwrap(), identity(&key).unwrap());
        assert_eq!(identity(&other).err(), Some("the key is not that of the certificate"));
        assert_eq!(format!("{:?}", identity(&key).unwrap()), "Identity(1 certificates)", "no key in a log");
        let junk = CertificateDer::from(b"junk".to_vec());
        assert_eq!(Identity::new(vec![junk], key_of(&key)).err(), Some("the certificate is not readable"));
    }

    #[test]
    fn files() {
        let key = KeyPair::generate().unwrap().serialize_pem();
        let cut = "-----BEGIN CERTIFICATE-----\nMII";
        assert_eq!(certificates(b"").err(), Some("no certificate in it"));
        assert_eq!(certificates(key.as_bytes()).err(), Some("no certificate in it"));
        assert_eq!(certificates(cut.as_bytes()).err(), Some("not readable as PEM"));
        assert_eq!(private_key(b"junk").err(), Some("no private key in it, or an encrypted one"));
    }
}
