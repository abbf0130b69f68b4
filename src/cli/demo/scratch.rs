//! The demo's configuration as files in a scratch folder, which goes when the demo ends.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;

use super::Ports;

const CONFIG: &str = include_str!("waymark.toml");
const ZONE: &str = include_str!("gslb.example.com.zone");
const NETWORKS: &str = include_str!("networks.toml");

/// A folder that is removed when this is dropped.
#[derive(Debug)]
pub(super) struct Scratch {
    folder: PathBuf,
}

impl Scratch {
    /// Writes the files into a folder of this process.
    pub(super) fn create(ports: Ports) -> io::Result<Scratch> {
        Scratch::create_at(std::env::temp_dir().join(format!("waymark-demo-{}", std::process::id())), ports)
    }

    fn create_at(folder: PathBuf, ports: Ports) -> io::Result<Scratch> {
        let told = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", folder.display()));
        if folder.exists() {
            // An earlier process of this number was killed.
            fs::remove_dir_all(&folder).map_err(told)?;
        }
        fs::DirBuilder::new().mode(0o700).create(&folder).map_err(told)?;
        let scratch = Scratch { folder };
        for (name, text) in [
            ("waymark.toml", adapt(CONFIG, ports).as_str()),
            ("gslb.example.com.zone", ZONE),
            ("networks.toml", NETWORKS),
        ] {
            fs::write(scratch.folder.join(name), text)?;
        }
        Ok(scratch)
    }

    /// The configuration file.
    pub(super) fn config(&self) -> PathBuf {
        self.folder.join("waymark.toml")
    }

    /// The server's `state-dir`.
    pub(super) fn state_dir(&self) -> PathBuf {
        self.folder.join("state")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.folder) {
            tracing::warn!("{}: cannot be removed: {error}", self.folder.display());
        }
    }
}

/// Puts the ports in. The three places do not resemble each other, so the order does not matter.
fn adapt(config: &str, ports: Ports) -> String {
    let Ports { dns, backend, admin } = ports;
    config
        .replace("[\"127.0.0.1:5300\"]", &format!("[\"127.0.0.1:{dns}\"]"))
        .replace("= \"127.0.0.1:8053\"", &format!("= \"127.0.0.1:{admin}\""))
        .replace("port = 18080", &format!("port = {backend}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, Loaded};
    use crate::control::{World, explain};

    const DEFAULTS: Ports = Ports { dns: 5300, backend: 18080, admin: 8053 };

    /// Loads the demo's configuration from a folder of its own.
    fn load(ports: Ports) -> config::Configuration {
        let above = tempfile::tempdir().expect("a folder");
        let scratch = Scratch::create_at(above.path().join("demo"), ports).expect("written");
        let Loaded { configuration, problems, .. } = config::load(&scratch.config());
        assert!(problems.is_empty(), "neither errors nor warnings: {problems:#?}");
        configuration.expect("a configuration")
    }

    #[test]
    fn the_default_ports_are_those_of_the_file() {
        assert_eq!(adapt(CONFIG, DEFAULTS), CONFIG);
    }

    #[test]
    fn other_ports_reach_every_place() {
        // Each takes another's default, so a port put in twice would show.
        let configuration = load(Ports { dns: 8053, backend: 5300, admin: 18080 });
        assert_eq!(configuration.server.listen, ["127.0.0.1:8053".parse().expect("an address")]);
        assert_eq!(configuration.admin.listen, "127.0.0.1:18080".parse().expect("an address"));
        let ports: Vec<u16> = configuration.fleet.targets.iter().map(|target| target.port).collect();
        assert_eq!(ports, [5300; 5]);
    }

    #[test]
    fn the_configuration_is_in_order_and_does_what_its_tests_say() {
        let world = World::compile(load(DEFAULTS));
        assert_eq!(world.tests.len(), 3);
        assert_eq!(explain::failed_tests(&world), Vec::<String>::new());
    }

    #[test]
    fn the_folder_goes() {
        let above = tempfile::tempdir().expect("a folder");
        let folder = above.path().join("demo");
        let scratch = Scratch::create_at(folder.clone(), DEFAULTS).expect("written");
        fs::create_dir(scratch.state_dir()).expect("state");
        drop(scratch);
        assert!(!folder.exists());
    }

    #[test]
    fn what_a_killed_process_left_is_replaced() {
        let above = tempfile::tempdir().expect("a folder");
        let folder = above.path().join("demo");
        fs::create_dir(&folder).expect("left behind");
        fs::write(folder.join("stale"), "").expect("left behind");
        let scratch = Scratch::create_at(folder, DEFAULTS).expect("written");
        assert!(!scratch.folder.join("stale").exists() && scratch.config().exists());
    }
}
