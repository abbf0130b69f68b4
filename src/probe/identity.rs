//! The certificate that checks over TLS show to targets which ask for one (`client-certificate`, `client-key`).

use std::fmt;
use std::sync::Arc;

use rustls::client::ResolvesClientCert;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::SingleCertAndKey;

use crate::tls;

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
        let certified = tls::certified(chain.clone(), key.clone_key())?;
        let resolver = Arc::new(SingleCertAndKey::from(certified));
        Ok(Identity { chain, key: Arc::new(key), resolver })
    }

    pub(super) fn resolver(&self) -> Arc<dyn ResolvesClientCert> {
        Arc::clone(&self.resolver)
    }
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
        tls::private_key(pair.serialize_pem().as_bytes()).unwrap()
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
}
