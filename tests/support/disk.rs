//! A small disk for a folder of a site: a tmpfs in a mount namespace of its own, so that nobody else sees it and nothing of
//! it is left.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use super::server::Server;
use super::site::Site;
use super::{has, needs_root};

/// A disk that fills up soon, as long as this lives.
pub(crate) struct SmallDisk<'s> {
    site: &'s Site,
    folder: PathBuf,
    /// Keeps the namespace.
    holder: Child,
    /// What `nsenter` needs beside that.
    enter: &'static [&'static str],
}

/// What `unshare` and `nsenter` are told: as root, and as a user who may have a name space in which he is root.
const WAYS: [(&[&str], &[&str]); 2] =
    [(&["--mount"], &["--mount"]), (&["--map-root-user", "--mount"], &["--user", "--preserve-credentials", "--mount"])];

/// Mounts, says so, and waits until nobody reads it any more.
const HOLD: &str = r#"mkdir -p "$1" && mount -t tmpfs -o "size=$2" tmpfs "$1" && echo mounted && exec sleep 900"#;

impl<'s> SmallDisk<'s> {
    /// Mounts a disk of `size` over a folder of the site; `None` where that is not allowed, which is said.
    pub(crate) fn mount(site: &'s Site, folder: &str, size: &str) -> Option<SmallDisk<'s>> {
        if !has("unshare") || !has("nsenter") {
            return None;
        }
        let folder = site.path(folder);
        for (unshare, enter) in WAYS {
            let mut command = Command::new("unshare");
            command.args(unshare).args(["sh", "-c", HOLD, "sh"]).arg(&folder).arg(size);
            let mut holder = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("unshare starts");
            let mut line = String::new();
            let said = BufReader::new(holder.stdout.take().expect("piped")).read_line(&mut line);
            if said.is_ok() && line.trim() == "mounted" {
                return Some(SmallDisk { site, folder, holder, enter });
            }
            let _ = holder.kill();
            let _ = holder.wait();
        }
        needs_root("a small disk");
        None
    }

    /// A command that sees the disk.
    fn inside(&self) -> Command {
        let mut command = Command::new("nsenter");
        command.env_remove("WAYMARK_CONFIG").env_remove("WAYMARK_LOG").env_remove("SUDO_USER");
        command.args(self.enter).arg(format!("--target={}", self.holder.id()));
        command
    }

    fn shell(&self, script: &str) -> Output {
        let output = self.inside().args(["sh", "-c", script, "sh"]).arg(&self.folder).output();
        output.expect("nsenter runs")
    }

    /// Starts the server; it answers queries.
    pub(crate) fn start(&self) -> Server {
        let mut command = self.inside();
        command.arg(env!("CARGO_BIN_EXE_waymark")).arg("run").arg("--config").arg(self.site.configuration());
        let mut server = Server::spawn(&mut command, self.site.dns(), self.site.admin());
        server.wait_ready();
        server
    }

    /// Runs a command of the program to its end.
    pub(crate) fn waymark(&self, arguments: &[&str]) -> Output {
        let mut command = self.inside();
        command.arg(env!("CARGO_BIN_EXE_waymark")).args(arguments).arg("--config").arg(self.site.configuration());
        command.output().expect("nsenter runs")
    }

    /// A file there; empty when there is none.
    pub(crate) fn read(&self, file: &str) -> String {
        String::from_utf8_lossy(&self.shell(&format!(r#"cat "$1/{file}""#)).stdout).into_owned()
    }

    /// Fills it to the last octet.
    pub(crate) fn fill(&self) {
        let output = self.shell(r#"cat /dev/zero > "$1/filler""#);
        assert!(!output.status.success(), "it took everything");
    }

    /// Makes room again.
    pub(crate) fn empty(&self) {
        assert!(self.shell(r#"rm "$1/filler""#).status.success());
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}
