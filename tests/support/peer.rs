//! NSD or Knot with one zone, which it copies or is copied from: what `primary` and `secondary` have in common.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use hickory_proto::rr::{RData, RecordType};
use tempfile::TempDir;

use super::{client, program, say, until};

/// A key that both sides have.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Key {
    pub(crate) name: &'static str,
    pub(crate) algorithm: &'static str,
    /// In base64.
    pub(crate) secret: &'static str,
}

/// What is to be served, and with whom.
#[derive(Clone, Copy)]
pub(crate) struct Part<'a> {
    pub(crate) zone: &'a str,
    pub(crate) port: u16,
    /// The other side.
    pub(crate) other: SocketAddr,
    pub(crate) key: Option<Key>,
}

/// A server that is not ours; ended by its process id when it is dropped.
pub(crate) struct Peer {
    name: &'static str,
    child: Child,
    folder: TempDir,
    pub(crate) address: SocketAddr,
}

impl Peer {
    /// Starts `nsd` or `knotd` in a folder that was made for it, with a configuration.
    pub(crate) fn start(name: &'static str, folder: TempDir, port: u16, configuration: &str) -> Peer {
        let path = folder.path().join("conf");
        fs::write(&path, configuration).expect("written");
        let log = File::create(folder.path().join("log")).expect("a log");
        let mut command = Command::new(program(name).expect("it is installed"));
        command.args(if name == "nsd" { &["-d", "-c"][..] } else { &["-c"] }).arg(path).stdin(Stdio::null());
        let child = command.stdout(log.try_clone().expect("a log")).stderr(log).spawn().expect("it starts");
        Peer { name, child, folder, address: (Ipv4Addr::LOCALHOST, port).into() }
    }

    /// Its name, for messages.
    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// The file of its zone.
    pub(crate) fn zone_file(folder: &Path) -> std::path::PathBuf {
        folder.join("zone")
    }

    /// Writes its zone file anew and has it read.
    pub(crate) fn serve(&self, text: &str) {
        fs::write(Peer::zone_file(self.folder.path()), text).expect("written");
        let sent = Command::new("kill").args(["-HUP", &self.child.id().to_string()]).status();
        assert!(sent.expect("a program").success());
    }

    /// Waits until it serves this serial of a zone.
    #[track_caller]
    pub(crate) fn wait_serial(&self, zone: &str, serial: u32) {
        until(&format!("{} has serial {serial}", self.name), || {
            let answer = client::try_udp(self.address, &client::query(zone, RecordType::SOA, ""))?;
            let is = |data: &RData| matches!(data, RData::SOA(soa) if soa.serial == serial);
            answer.answers.iter().any(|record| is(&record.data)).then_some(())
        });
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let id = self.child.id().to_string();
        let _ = Command::new("kill").args(["-TERM", &id]).status();
        let _ = self.child.wait();
        if std::thread::panicking() {
            say(&format!("---- log of {} ----\n{}", self.name, self.log()));
        }
    }
}

/// A configuration of NSD; `with` says what the zone has to do with an address (`127.0.0.1@53`) and the name of the key.
pub(crate) fn nsd(part: Part<'_>, folder: &Path, with: impl Fn(&str, &str) -> String) -> String {
    let (Part { zone, port, other, key }, folder) = (part, folder.display());
    let (keys, name) = match key {
        None => (String::new(), "NOKEY"),
        Some(Key { name, algorithm, secret }) => {
            (format!("key:\n  name: \"{name}\"\n  algorithm: {algorithm}\n  secret: \"{secret}\"\n"), name)
        }
    };
    let with = with(&other.to_string().replace(':', "@"), name);
    format!(
        "server:\n  server-count: 1\n  ip-address: 127.0.0.1@{port}\n  username: \"\"\n  zonesdir: \"{folder}\"\n  database: \
         \"\"\n  pidfile: \"{folder}/nsd.pid\"\n  xfrdfile: \"{folder}/xfrd.state\"\n  zonelistfile: \
         \"{folder}/zone.list\"\n  xfrdir: \"{folder}\"\n  xfrd-reload-timeout: 0\nremote-control:\n  control-enable: \
         no\n{keys}zone:\n  name: {zone}\n  zonefile: zone\n{with}"
    )
}

/// A configuration of Knot, which allows the other side an `action`; `with` is what the zone has to do with `other`.
pub(crate) fn knot(part: Part<'_>, folder: &Path, action: &str, with: &str) -> String {
    let (Part { zone, port, other, key }, folder) = (part, folder.display());
    let (keys, name) = match key {
        None => (String::new(), String::new()),
        Some(Key { name, algorithm, secret }) => (
            format!("key:\n  - id: {name}\n    algorithm: {algorithm}\n    secret: \"{secret}\"\n"),
            format!("    key: {name}\n"),
        ),
    };
    let other = other.to_string().replace(':', "@");
    format!(
        "server:\n  rundir: \"{folder}\"\n  listen: 127.0.0.1@{port}\n  udp-workers: 1\n  tcp-workers: 1\n  \
         background-workers: 1\nlog:\n  - target: stderr\n    any: info\ndatabase:\n  storage: \"{folder}\"\n{keys}remote:\n  - \
         id: other\n    address: {other}\n{name}acl:\n  - id: other\n    address: 127.0.0.1\n    action: \
         {action}\n{name}zone:\n  - domain: {zone}\n    storage: \"{folder}\"\n    file: zone\n    acl: other\n{with}"
    )
}
