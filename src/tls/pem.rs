//! Certificates and keys as files hold them (PEM, RFC 7468), and as `rustls` takes them.

use rustls::crypto::ring;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

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

/// A certificate, those that it was issued by behind it, and the key of the first.
///
/// # Errors
/// In words, when the key is of no known kind or not that of the certificate.
pub fn certified(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<CertifiedKey, &'static str> {
    CertifiedKey::from_der(chain, key, &ring::default_provider()).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => "the key is not that of the certificate",
        rustls::Error::InvalidCertificate(_) => "the certificate is not readable",
        _ => "the key is of no kind that is known here",
    })
}

#[cfg(test)]
mod tests {
    use rcgen::KeyPair;

    use super::*;

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
