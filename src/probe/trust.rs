//! What `https` and `tls` checks believe: the system's root certificates, or anything where `verify = false`.
//!
//! The roots are read once for all targets. Sessions are never resumed, since resumption skips the certificate. The time
//! that certificates are judged by runs on from the first plausible reading of the wall clock, so that a wall clock
//! that jumps changes no verdict.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use crate::probe::Identity;
use crate::probe::certificates::{Certificate, Certificates};
use crate::time::{self, Tick};

/// 2025-01-01: a wall clock before this is not set.
const PLAUSIBLE_UNIX_SECONDS: u64 = 1_735_689_600;

/// TLS settings that all checks over TLS share.
pub(super) struct Tls {
    provider: Arc<CryptoProvider>,
    extra_roots: Vec<CertificateDer<'static>>,
    clock: Arc<Clock>,
    pub(super) certificates: Arc<Certificates>,
    verifier: OnceLock<Result<Arc<dyn ServerCertVerifier>, String>>,
}

impl Tls {
    /// Believes the system's roots and these.
    pub(super) fn new(extra_roots: Vec<CertificateDer<'static>>) -> Tls {
        Tls {
            provider: Arc::new(ring::default_provider()),
            extra_roots,
            clock: Arc::default(),
            certificates: Arc::default(),
            verifier: OnceLock::new(),
        }
    }

    /// Settings of a client that verifies certificates or accepts any and offers no application protocol; the error says
    /// why it cannot verify. `certificate` takes note of those that it is shown, `identity` is what it shows if asked.
    pub(super) fn client(
        &self,
        verify: bool,
        certificate: Arc<Certificate>,
        identity: Option<&Identity>,
    ) -> Result<ClientConfig, String> {
        let verifier = if verify { self.verifier()? } else { self.accept_any() };
        let verifier = Arc::new(Noting { verifier, certificate });
        let clock: Arc<dyn TimeProvider> = Arc::clone(&self.clock) as _;
        let builder = ClientConfig::builder_with_details(Arc::clone(&self.provider), clock)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let mut config = match identity {
            Some(identity) => builder.with_client_cert_resolver(identity.resolver()),
            None => builder.with_no_client_auth(),
        };
        config.resumption = Resumption::disabled();
        Ok(config)
    }

    fn verifier(&self) -> Result<Arc<dyn ServerCertVerifier>, String> {
        self.verifier.get_or_init(|| self.load_roots()).clone()
    }

    fn load_roots(&self) -> Result<Arc<dyn ServerCertVerifier>, String> {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        roots.add_parsable_certificates(self.extra_roots.iter().cloned());
        by_roots(roots, &self.provider)
    }

    fn accept_any(&self) -> Arc<dyn ServerCertVerifier> {
        Arc::new(AcceptAny(self.provider.signature_verification_algorithms))
    }
}

fn by_roots(roots: RootCertStore, provider: &Arc<CryptoProvider>) -> Result<Arc<dyn ServerCertVerifier>, String> {
    if roots.is_empty() {
        return Err("no root certificates on this node".into());
    }
    let verifier = WebPkiServerVerifier::builder_with_provider(roots.into(), Arc::clone(provider)).build();
    verifier.map(|verifier| verifier as Arc<dyn ServerCertVerifier>).map_err(|error| error.to_string())
}

/// Takes note of a certificate before another judges it.
#[derive(Debug)]
struct Noting {
    verifier: Arc<dyn ServerCertVerifier>,
    certificate: Arc<Certificate>,
}

impl ServerCertVerifier for Noting {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.certificate.note(end_entity);
        self.verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}

/// Accepts any certificate; the handshake must still be signed with its key.
#[derive(Debug)]
struct AcceptAny(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for AcceptAny {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}

/// Wall-clock time that runs on monotonically from its first plausible reading.
#[derive(Debug, Default)]
struct Clock(OnceLock<(Tick, u64)>);

impl Clock {
    /// Seconds since the Unix epoch; `None` until the wall clock is set.
    fn read(&self, now: Tick, wall: u64) -> Option<u64> {
        if self.0.get().is_none() && wall < PLAUSIBLE_UNIX_SECONDS {
            return None;
        }
        let &(began, wall) = self.0.get_or_init(|| (now, wall));
        Some(wall + now.since(began).as_secs())
    }
}

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        let seconds = self.read(time::now(), time::unix_seconds())?;
        Some(UnixTime::since_unix_epoch(Duration::from_secs(seconds)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_roots_nothing_can_be_verified_but_anything_accepted() {
        let error = by_roots(RootCertStore::empty(), &Arc::new(ring::default_provider())).err();
        assert_eq!(error.as_deref(), Some("no root certificates on this node"));
        assert!(Tls::new(Vec::new()).client(false, Arc::default(), None).is_ok());
    }

    #[test]
    fn a_wall_clock_that_jumps_is_not_followed() {
        const SET: u64 = PLAUSIBLE_UNIX_SECONDS + 1000;
        let clock = Clock::default();
        let rows = [
            (0, 0, None, "not set"),
            (1_000, 12, None, "not set"),
            (5_000, SET, Some(SET), "set"),
            (6_000, SET + 1, Some(SET + 1), "runs"),
            (7_000, 0, Some(SET + 2), "1970"),
            (8_000, SET + 86_400, Some(SET + 3), "a day"),
            (9_000, 2_147_483_648, Some(SET + 4), "2038"),
        ];
        for (tick, wall, expected, what) in rows {
            assert_eq!(clock.read(Tick(tick), wall), expected, "{what}");
        }
    }
}
