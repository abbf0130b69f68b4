//! A folder with a configuration and its files, on ports that are its own.

use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

use super::server::Server;
use super::{ports, waymark};

/// The ports that stand in `tests/example/waymark.toml`.
const PORTS: [&str; 3] = [":5300", ":8053", "18080"];

/// A configuration to serve.
pub(crate) struct Site {
    folder: TempDir,
    dns: u16,
    admin: u16,
    /// The port of all backends.
    pub(crate) backends: u16,
}

impl Site {
    /// `tests/example`.
    pub(crate) fn example() -> Site {
        let site = Site::empty();
        for file in ["waymark.toml", "networks.toml", "gslb.example.com.zone"] {
            site.write(file, &read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/example").join(file)));
        }
        site
    }

    /// `tests/example`, with instances that are never checked and so always up.
    pub(crate) fn unchecked() -> Site {
        let site = Site::example();
        site.edit("check        = \"web\"\n", "");
        site
    }

    /// `tests/example`, with checks so patient that a busy machine fails none by itself.
    pub(crate) fn patient() -> Site {
        let site = Site::example();
        site.pace("2s", "1900ms");
        site
    }

    /// `tests/example`, whose first round lasts until every backend has said something.
    pub(crate) fn waiting() -> Site {
        let site = Site::example();
        site.pace("50s", "40s");
        site.edit("state-dir = \"state\"", "state-dir = \"state\"\nstartup-grace = \"50s\"");
        site
    }

    fn pace(&self, interval: &str, timeout: &str) {
        let paced = format!("interval = {interval:?}\ntimeout  = {timeout:?}");
        self.edit("interval = \"1s\"\ntimeout  = \"500ms\"", &paced);
    }

    fn empty() -> Site {
        let folder = tempfile::tempdir().expect("a scratch folder");
        Site { folder, dns: ports::free(), admin: ports::free(), backends: ports::free() }
    }

    /// A file of the site.
    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join(file)
    }

    /// Where the configuration is.
    pub(crate) fn configuration(&self) -> PathBuf {
        self.path("waymark.toml")
    }

    /// Writes a file of the site, with the site's own ports.
    pub(crate) fn write(&self, file: &str, text: &str) {
        let own = [format!(":{}", self.dns), format!(":{}", self.admin), self.backends.to_string()];
        let text = PORTS.iter().zip(own).fold(text.to_owned(), |text, (from, to)| text.replace(from, &to));
        fs::write(self.path(file), text).expect("written");
    }

    /// Replaces text of the configuration, which must be there.
    #[track_caller]
    pub(crate) fn edit(&self, from: &str, to: &str) {
        self.edit_file("waymark.toml", from, to);
    }

    /// Replaces text of a file, which must be there.
    #[track_caller]
    pub(crate) fn edit_file(&self, file: &str, from: &str, to: &str) {
        let text = read(&self.path(file));
        assert!(text.contains(from), "{file} has no {from:?}:\n{text}");
        self.write(file, &text.replace(from, to));
    }

    /// Adds to the end of the configuration.
    pub(crate) fn append(&self, text: &str) {
        self.write("waymark.toml", &(read(&self.configuration()) + text));
    }

    /// Where the server answers.
    pub(crate) fn dns(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.dns).into()
    }

    /// Where the server answers over IPv6.
    pub(crate) fn dns6(&self) -> SocketAddr {
        (Ipv6Addr::LOCALHOST, self.dns).into()
    }

    /// Where the API is.
    pub(crate) fn admin(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.admin).into()
    }

    /// Starts the server; it answers queries.
    pub(crate) fn start(&self) -> Server {
        let mut server = self.spawn();
        server.wait_ready();
        server
    }

    /// Starts the server, without waiting for anything.
    pub(crate) fn spawn(&self) -> Server {
        Server::spawn(&mut self.command(), self.dns(), self.admin())
    }

    /// [`Site::spawn`], with a log that nobody reads.
    pub(crate) fn spawn_unread(&self) -> Server {
        Server::spawn_unread(&mut self.command(), self.dns(), self.admin())
    }

    fn command(&self) -> Command {
        let mut command = waymark();
        command.arg("run").arg("--config").arg(self.configuration());
        command
    }

    /// Runs a command on this configuration to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        let output = waymark().args(arguments).arg("--config").arg(self.configuration()).output();
        output.expect("the program runs")
    }
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
