//! NSD and Knot as secondaries of a server: they copy its zone, and are told when it changes.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use hickory_proto::rr::{RData, RecordType};
use tempfile::TempDir;

use super::{client, ports, program, say, until};

/// A key that both sides have.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Key {
    pub(crate) name: &'static str,
    pub(crate) algorithm: &'static str,
    /// In base64.
    pub(crate) secret: &'static str,
}

/// A server that copies a zone; ended by its process id when it is dropped.
pub(crate) struct Secondary {
    name: &'static str,
    child: Child,
    folder: TempDir,
    address: SocketAddr,
}

impl Secondary {
    /// Starts `nsd` or `knotd` as a secondary for `zone`.
    pub(crate) fn start(name: &'static str, zone: &str, port: u16, primary: SocketAddr, key: Option<Key>) -> Secondary {
        let folder = tempfile::tempdir().expect("a folder");
        let text = match name {
            "nsd" => nsd(zone, folder.path(), port, primary, key),
            _ => knot(zone, folder.path(), port, primary, key),
        };
        let configuration = folder.path().join("conf");
        fs::write(&configuration, text).expect("written");
        let log = File::create(folder.path().join("log")).expect("a log");
        let mut command = Command::new(program(name).expect("it is installed"));
        command.args(if name == "nsd" { &["-d", "-c"][..] } else { &["-c"] }).arg(configuration).stdin(Stdio::null());
        let child = command.stdout(log.try_clone().expect("a log")).stderr(log).spawn().expect("it starts");
        Secondary { name, child, folder, address: (Ipv4Addr::LOCALHOST, port).into() }
    }

    /// A port for one, which its primary must know before it starts.
    pub(crate) fn port() -> u16 {
        ports::free()
    }

    /// Waits until it serves this serial of the zone; how long that took.
    #[track_caller]
    pub(crate) fn wait_serial(&self, zone: &str, serial: u32) -> Duration {
        let began = Instant::now();
        until(&format!("{} has serial {serial}", self.name), || {
            let answer = client::try_udp(self.address, &client::query(zone, RecordType::SOA, ""))?;
            let is = |data: &RData| matches!(data, RData::SOA(soa) if soa.serial == serial);
            answer.answers.iter().any(|record| is(&record.data)).then_some(())
        });
        began.elapsed()
    }

    /// Waits until it has these addresses for a name: for a moment after a change another of its processes may answer.
    #[track_caller]
    pub(crate) fn wait_addresses(&self, name: &str, expected: &[&str]) {
        until(&format!("{} has {expected:?} for {name}", self.name), || {
            let answer = client::try_udp(self.address, &client::query(name, RecordType::A, ""))?;
            (client::addresses(&answer) == expected).then_some(())
        });
    }
}

impl Drop for Secondary {
    fn drop(&mut self) {
        let id = self.child.id().to_string();
        let _ = Command::new("kill").args(["-TERM", &id]).status();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            say(&format!("---- log of {} ----\n{log}", self.name));
        }
    }
}

fn nsd(zone: &str, folder: &Path, port: u16, primary: SocketAddr, key: Option<Key>) -> String {
    let at = folder.display();
    let (keys, name) = match key {
        None => (String::new(), "NOKEY"),
        Some(Key { name, algorithm, secret }) => {
            (format!("key:\n  name: \"{name}\"\n  algorithm: {algorithm}\n  secret: \"{secret}\"\n"), name)
        }
    };
    format!(
        "server:\n  server-count: 1\n  ip-address: 127.0.0.1@{port}\n  username: \"\"\n  zonesdir: \"{at}\"\n  database: \
         \"\"\n  pidfile: \"{at}/nsd.pid\"\n  xfrdfile: \"{at}/xfrd.state\"\n  zonelistfile: \"{at}/zone.list\"\n  xfrdir: \
         \"{at}\"\n  xfrd-reload-timeout: 0\nremote-control:\n  control-enable: no\n{keys}zone:\n  name: {zone}\n  zonefile: \
         zone\n  allow-notify: 127.0.0.1 {name}\n  request-xfr: {primary} {name}\n",
        primary = primary.to_string().replace(':', "@")
    )
}

fn knot(zone: &str, folder: &Path, port: u16, primary: SocketAddr, key: Option<Key>) -> String {
    let at = folder.display();
    let (keys, name) = match key {
        None => (String::new(), String::new()),
        Some(Key { name, algorithm, secret }) => (
            format!("key:\n  - id: {name}\n    algorithm: {algorithm}\n    secret: \"{secret}\"\n"),
            format!("    key: {name}\n"),
        ),
    };
    format!(
        "server:\n  rundir: \"{at}\"\n  listen: 127.0.0.1@{port}\n  udp-workers: 1\n  tcp-workers: 1\n  background-workers: \
         1\nlog:\n  - target: stderr\n    any: info\ndatabase:\n  storage: \"{at}\"\n{keys}remote:\n  - id: primary\n    \
         address: {primary}\n{name}acl:\n  - id: notified\n    address: 127.0.0.1\n    action: notify\n{name}zone:\n  - \
         domain: {zone}\n    storage: \"{at}\"\n    file: zone\n    master: primary\n    acl: notified\n",
        primary = primary.to_string().replace(':', "@")
    )
}
