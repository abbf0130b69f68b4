//! The servers, how each is given the data, and how it is started.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::ValueEnum;

use crate::full;
use crate::kind::{HOSTS, Kind};
use crate::support::networks::{self, Network};

/// A server that can take part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Peer {
    /// The floor: it knows no DNS, and sends as many octets as Waymark does
    Echo,
    /// The program of this build
    Waymark,
    /// What `--other` names
    #[value(skip)]
    Other,
    Gdnsd,
    Knot,
    Nsd,
    Pdns,
}

/// Files of a peer: name, and text in which `@DIR@`, `@PORT@` and `@ADMIN@` are filled in.
type Files = Vec<(&'static str, String)>;

impl Peer {
    /// In the order of their turns.
    pub(crate) const ALL: [Peer; 7] =
        [Peer::Echo, Peer::Waymark, Peer::Other, Peer::Gdnsd, Peer::Knot, Peer::Nsd, Peer::Pdns];

    /// As it is called on the command line and in the table.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Peer::Echo => "echo",
            Peer::Waymark => "waymark",
            Peer::Other => "other",
            Peer::Gdnsd => "gdnsd",
            Peer::Knot => "knot",
            Peer::Nsd => "nsd",
            Peer::Pdns => "pdns",
        }
    }

    /// Whether it has this kind of answer.
    pub(crate) fn knows(self, kind: Kind) -> bool {
        match self {
            Peer::Echo | Peer::Waymark | Peer::Other => true,
            Peer::Gdnsd => !matches!(kind, Kind::Sticky | Kind::Nearest | Kind::Latency),
            Peer::Knot | Peer::Pdns => matches!(kind, Kind::Static | Kind::Geo | Kind::Weighted),
            Peer::Nsd => kind == Kind::Static,
        }
    }

    /// Where its program is; `None` when it is not installed.
    pub(crate) fn program(self, other: Option<&Path>) -> Option<PathBuf> {
        match self {
            Peer::Echo => std::env::current_exe().ok(),
            Peer::Waymark => Some(env!("CARGO_BIN_EXE_waymark").into()),
            Peer::Other => other.map(Path::to_path_buf),
            Peer::Gdnsd => find("gdnsd"),
            Peer::Knot => find("knotd"),
            Peer::Nsd => find("nsd"),
            Peer::Pdns => find("pdns_server"),
        }
    }

    /// The command that serves the files of `folder`. Not for echo, whose arguments differ from kind to kind.
    pub(crate) fn command(self, program: &Path, folder: &Path) -> Command {
        let mut command = Command::new(program);
        let file = |name: &str| folder.join(name);
        match self {
            Peer::Echo => {}
            Peer::Waymark | Peer::Other => {
                command.env_remove("WAYMARK_LOG").arg("run").arg("--config").arg(file("waymark.toml"));
            }
            Peer::Gdnsd => {
                command.arg("-c").arg(folder).arg("start");
            }
            Peer::Knot => {
                command.arg("-c").arg(file("knot.conf"));
            }
            Peer::Nsd => {
                command.arg("-d").arg("-c").arg(file("nsd.conf"));
            }
            Peer::Pdns => {
                command.arg(format!("--config-dir={}", folder.display()));
            }
        }
        command
    }

    /// Writes its configuration and the data into `folder`. `admin` is a second port for those that need one; Waymark has
    /// all of steering configured where `is_full`.
    pub(crate) fn write(self, folder: &Path, port: u16, admin: u16, is_full: bool) -> Result<(), String> {
        let directory = folder.display().to_string();
        let networks = networks::networks();
        let is_full = is_full && self.is_waymark();
        let [server, geo, world, rest] = match is_full {
            true => [full::SERVER, full::GEO, &full::world(&networks), full::REST],
            false => [""; 4],
        };
        let (port, admin) = (port.to_string(), admin.to_string());
        let own = [("@DIR@", &*directory), ("@PORT@", &port), ("@ADMIN@", &admin)];
        let keys = own.into_iter().chain([("@SERVER@", server), ("@GEO@", geo), ("@WORLD@", world), ("@REST@", rest)]);
        for (name, text) in self.files(&networks) {
            let text = keys.clone().fold(text, |text, (key, value)| text.replace(key, value));
            write(&folder.join(name), text.as_bytes())?;
        }
        if matches!(self, Peer::Gdnsd | Peer::Knot | Peer::Pdns) {
            write(&folder.join("geo.mmdb"), &networks::mmdb(&networks))?;
        }
        if is_full {
            for (name, octets) in full::files(&networks) {
                write(&folder.join(name), &octets)?;
            }
        }
        Ok(())
    }

    /// Whether it is this program, of whatever build.
    pub(crate) fn is_waymark(self) -> bool {
        matches!(self, Peer::Waymark | Peer::Other)
    }

    /// The command that has the server in `folder` take in the samples of a file. Only for Waymark.
    pub(crate) fn import(program: &Path, folder: &Path, samples: &Path) -> Command {
        let mut command = Command::new(program);
        command.args(["latency", "import", "--control"]).arg(folder.join("state/control")).arg(samples);
        command
    }

    fn files(self, networks: &[Network]) -> Files {
        match self {
            Peer::Echo => vec![],
            Peer::Waymark | Peer::Other => vec![
                ("waymark.toml", include_str!("peers/waymark.toml").to_owned() + &sticky_instances() + "@REST@"),
                ("networks.toml", networks::toml(networks)),
                ("zone", zone()),
            ],
            Peer::Gdnsd => vec![
                ("config", include_str!("peers/gdnsd.config").to_owned()),
                ("zones/example.com", zone() + include_str!("peers/gdnsd.dynamic")),
            ],
            Peer::Knot => vec![
                ("knot.conf", include_str!("peers/knot.conf").to_owned()),
                ("knot-geo.conf", include_str!("peers/knot-geo.conf").to_owned()),
                ("knot-weighted.conf", include_str!("peers/knot-weighted.conf").to_owned()),
                ("zone", zone()),
            ],
            Peer::Nsd => vec![("nsd.conf", include_str!("peers/nsd.conf").to_owned()), ("zone", zone())],
            Peer::Pdns => vec![
                ("pdns.conf", include_str!("peers/pdns.conf").to_owned()),
                ("pdns-named.conf", include_str!("peers/pdns-named.conf").to_owned()),
                ("pdns-zones.yaml", include_str!("peers/pdns-zones.yaml").to_owned()),
                ("zone", zone() + include_str!("peers/pdns.dynamic")),
            ],
        }
    }
}

/// A program in the PATH, or where servers are that a user's PATH leaves out.
fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default();
    let folders = path.split(':').chain(["/usr/local/sbin", "/usr/sbin", "/sbin"]);
    folders.map(|folder| Path::new(folder).join(program)).find(|path| path.is_file())
}

fn write(path: &Path, octets: &[u8]) -> Result<(), String> {
    let folder = path.parent().expect("a file is in a folder");
    let written = fs::create_dir_all(folder).and_then(|()| fs::write(path, octets));
    written.map_err(|error| format!("cannot write {}: {error}", path.display()))
}

/// The zone `example.com`, as far as it is the same for all.
fn zone() -> String {
    let mut text = "$ORIGIN example.com.\n$TTL 30\n@ 3600 IN SOA ns1 hostmaster 1 7200 1800 259200 60\n\
                    @ 3600 NS ns1\nns1 3600 A 127.0.0.1\n"
        .to_owned();
    for host in 1..=HOSTS {
        let _ = writeln!(text, "h{host} A 192.0.2.{}", host % 250 + 1);
    }
    text
}

/// The pool behind [`Kind::Sticky`].
fn sticky_instances() -> String {
    (1..=30).fold(String::new(), |mut text, number| {
        let _ = writeln!(text, "i{number} = {{ address = \"192.0.2.{number}\" }}");
        text
    })
}
