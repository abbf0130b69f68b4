//! When the certificates that targets show expire (SPEC 2.6): noted at each handshake, believed or not, for metrics.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::fleet::Target;
use crate::probe::{Check, socket_address};
use crate::tls::not_after;

/// The certificates of all targets that are probed over TLS.
#[derive(Debug, Default)]
pub struct Certificates(Mutex<Vec<Weak<Certificate>>>);

/// Whose certificate it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Holder {
    /// The check's name.
    pub check: String,
    /// Address and port.
    pub target: String,
    /// Host that was asked for; empty = the address itself.
    pub host: String,
}

/// The certificate that one target showed last.
#[derive(Debug, Default)]
pub(super) struct Certificate {
    holder: Holder,
    /// In seconds since the Unix epoch; 0 = none seen.
    expires: AtomicU64,
}

impl Certificates {
    /// When each certificate that was seen expires, in seconds since the Unix epoch.
    #[must_use]
    pub fn expiries(&self) -> BTreeMap<Holder, u64> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = all.iter().filter_map(Weak::upgrade);
        let expiry = |seen: Arc<Certificate>| (seen.holder.clone(), seen.expires.load(Ordering::Relaxed));
        seen.map(expiry).filter(|(_, expires)| *expires != 0).collect()
    }

    /// A place for the certificate of a target, listed for as long as it is held.
    pub(super) fn of(&self, check: &Check, target: &Target) -> Arc<Certificate> {
        let holder = Holder {
            check: check.name.clone(),
            target: socket_address(target).to_string(),
            host: target.host.as_deref().unwrap_or_default().to_string(),
        };
        let certificate = Arc::new(Certificate { holder, expires: AtomicU64::new(0) });
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() == all.capacity() {
            all.retain(|held| held.strong_count() > 0);
        }
        all.push(Arc::downgrade(&certificate));
        certificate
    }
}

impl Certificate {
    /// Takes note of a certificate in DER; one that cannot be read is passed over.
    pub(super) fn note(&self, der: &[u8]) {
        if let Some(expires) = not_after(der) {
            self.expires.store(expires, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::probe::{Kind, backends};

    #[test]
    fn certificates() {
        let authority = backends::Authority::new("ours");
        let rows = [((2020, 2024), 1_704_153_600), ((2020, 2049), 2_493_158_400), ((2020, 2100), 4_102_531_200)];
        for (years, expires) in rows {
            let der = authority.issue("www.example.com", years).0;
            assert_eq!(not_after(&der), Some(expires), "{years:?}");
            assert!((0..120).all(|cut| not_after(&der[..cut]).is_none()), "what is cut has none");
        }
    }

    #[test]
    fn certificates_are_listed_while_they_are_held() {
        let all = Certificates::default();
        let check = backends::check(Kind::Tls { verify: true, identity: None }, std::time::Duration::from_secs(1));
        let of = |port: u16| all.of(&check, &backends::target(([192, 0, 2, 1], port).into(), Some("a.example")));
        let der = backends::Authority::new("ours").issue("a.example", (2020, 2024)).0;
        let (one, other) = (of(1), of(2));
        one.note(&der);
        one.note(b"junk");
        let holder = Holder { check: "web".into(), target: "192.0.2.1:1".into(), host: "a.example".into() };
        assert_eq!(all.expiries(), BTreeMap::from([(holder, 1_704_153_600)]), "of one that was seen");
        drop(one);
        assert_eq!(all.expiries(), BTreeMap::new());
        for port in 0..1000 {
            of(port);
        }
        assert!(all.0.lock().unwrap().len() < 100, "what is gone is forgotten");
        drop(other);
    }

    proptest! {
        #[test]
        fn no_change_of_a_certificate_panics(at in 0_usize..200, octet in any::<u8>()) {
            let mut der = backends::Authority::new("ours").root();
            der[at] = octet;
            let _ = not_after(&der);
        }
    }
}
