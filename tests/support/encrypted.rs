//! The example over encrypted transports, with a certificate of the tests' own authority.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};

use super::ports;
use super::site::Site;
use super::tls::{Authority, HOST};

/// A site that listens for all encrypted transports.
pub(crate) struct Encrypted {
    pub(crate) site: Site,
    pub(crate) authority: Authority,
    pub(crate) doh: SocketAddr,
    pub(crate) doq: SocketAddr,
    pub(crate) doh3: SocketAddr,
}

impl Encrypted {
    /// With more keys of `[server]`, a line each.
    pub(crate) fn with(keys: &str) -> Encrypted {
        let (site, authority) = (Site::unchecked(), Authority::new());
        let address = || SocketAddr::from((Ipv4Addr::LOCALHOST, ports::free()));
        let (doh, doq, doh3) = (address(), address(), address());
        authority.issue(2020, 2100).write(&site.path("cert.pem"), &site.path("key.pem"));
        fs::write(site.path("root.pem"), authority.root()).expect("written");
        site.edit("[server]\n", &format!("[server]\n{keys}\n"));
        let lists = format!("doh = [\"{doh}\"]\ndoq = [\"{doq}\"]\ndoh3 = [\"{doh3}\"]\n");
        site.append(&format!("\n[tls]\ncertificate = \"cert.pem\"\nkey = \"key.pem\"\n{lists}"));
        Encrypted { site, authority, doh, doq, doh3 }
    }

    pub(crate) fn new() -> Encrypted {
        Encrypted::with("")
    }

    /// Arguments of kdig and dig that have them believe the authority.
    pub(crate) fn belief(&self) -> [String; 2] {
        [format!("+tls-ca={}", self.site.path("root.pem").display()), format!("+tls-hostname={HOST}")]
    }
}
