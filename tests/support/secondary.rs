//! NSD and Knot as secondaries of a server: they copy its zone, and are told when it changes.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use hickory_proto::rr::RecordType;

pub(crate) use super::peer::Key;
use super::peer::{self, Part, Peer};
use super::{client, ports, until};

/// A server that copies a zone.
pub(crate) struct Secondary(Peer);

impl Secondary {
    /// Starts `nsd` or `knotd` as a secondary for `zone`.
    pub(crate) fn start(name: &'static str, zone: &str, port: u16, primary: SocketAddr, key: Option<Key>) -> Secondary {
        let (folder, part) = (tempfile::tempdir().expect("a folder"), Part { zone, port, other: primary, key });
        let text = match name {
            "nsd" => peer::nsd(part, folder.path(), |primary, key| {
                format!("  allow-notify: 127.0.0.1 {key}\n  request-xfr: {primary} {key}\n")
            }),
            _ => peer::knot(part, folder.path(), "notify", "    master: other\n"),
        };
        Secondary(Peer::start(name, folder, port, &text))
    }

    /// A port for one, which its primary must know before it starts.
    pub(crate) fn port() -> u16 {
        ports::free()
    }

    /// Waits until it serves this serial of the zone; how long that took.
    #[track_caller]
    pub(crate) fn wait_serial(&self, zone: &str, serial: u32) -> Duration {
        let began = Instant::now();
        self.0.wait_serial(zone, serial);
        began.elapsed()
    }

    /// Waits until it has these addresses for a name: for a moment after a change another of its processes may answer.
    #[track_caller]
    pub(crate) fn wait_addresses(&self, name: &str, expected: &[&str]) {
        until(&format!("{} has {expected:?} for {name}", self.0.name()), || {
            let answer = client::try_udp(self.0.address, &client::query(name, RecordType::A, ""))?;
            (client::addresses(&answer) == expected).then_some(())
        });
    }
}
