//! The files that `[geo]` names: which version of each was read, and reading one of them again by itself.
//!
//! A file is told from the one before by device, inode, size and time of change, as the open file has them: another file
//! may stand at its path a moment later. One that changes while it is read is left for later.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::files;
use super::findings::Findings;
use super::networks;
use crate::geo::{Database, Network};
use crate::problem::{Severity, Sources, Span, render};
use crate::time::unix_seconds;

/// What tells one version of a file from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    /// Seconds and nanoseconds.
    changed: (i64, i64),
}

impl Stamp {
    /// The version that stands at a path now.
    ///
    /// # Errors
    /// When there is none.
    pub fn at(path: &Path) -> io::Result<Stamp> {
        std::fs::metadata(path).map(|metadata| Stamp::of(&metadata))
    }

    pub(super) fn of(metadata: &Metadata) -> Stamp {
        let changed = (metadata.mtime(), metadata.mtime_nsec());
        Stamp { device: metadata.dev(), inode: metadata.ino(), size: metadata.size(), changed }
    }
}

/// A file that was read.
#[derive(Clone, Debug)]
pub struct GeoFile {
    /// As configured.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
    /// Which version was read.
    pub stamp: Stamp,
    /// When, in seconds since the Unix epoch.
    pub loaded_at: u64,
}

/// All that were read.
#[derive(Clone, Debug, Default)]
pub struct GeoFiles {
    /// `networks`.
    pub networks: Option<GeoFile>,
    /// `databases`, in the order of [`crate::geo::Data::databases`].
    pub databases: Vec<GeoFile>,
}

impl GeoFiles {
    /// All of them, the networks first.
    pub fn iter(&self) -> impl Iterator<Item = &GeoFile> {
        self.networks.iter().chain(&self.databases)
    }
}

/// Why a file was not taken.
#[derive(Debug)]
pub enum Unread {
    /// It cannot be opened or read: it may be on its way.
    Missing(io::Error),
    /// This version of it is wrong, in words.
    Wrong(Stamp, String),
}

impl GeoFile {
    pub(super) fn new(name: &str, path: &Path, stamp: Stamp) -> GeoFile {
        GeoFile { name: name.into(), path: path.to_path_buf(), stamp, loaded_at: unix_seconds() }
    }

    /// Reads what stands there now as a data base.
    ///
    /// # Errors
    /// See [`Unread`].
    pub fn read_database(&self) -> Result<(GeoFile, Database), Unread> {
        let (octets, stamp) = self.read_settled()?;
        let parsed = Database::parse(self.name.clone(), octets);
        let database = parsed.map_err(|message| Unread::Wrong(stamp, message))?;
        Ok((GeoFile::new(&self.name, &self.path, stamp), database))
    }

    /// Reads a version that is still the one that stands there afterwards.
    fn read_settled(&self) -> Result<(Vec<u8>, Stamp), Unread> {
        let (octets, stamp) = files::read_stamped(&self.path).map_err(Unread::Missing)?;
        match Stamp::at(&self.path) {
            Ok(after) if after == stamp => Ok((octets, stamp)),
            Ok(_) => Err(Unread::Missing(io::Error::new(io::ErrorKind::Interrupted, "it changed while it was read"))),
            Err(error) => Err(Unread::Missing(error)),
        }
    }

    /// Reads what stands there now as networks.
    ///
    /// # Errors
    /// See [`Unread`].
    pub fn read_networks(&self) -> Result<(GeoFile, Vec<Network>), Unread> {
        let (octets, stamp) = self.read_settled()?;
        let text = files::text(octets).map_err(|error| Unread::Wrong(stamp, error.to_string()))?;
        let listed = NetworksFile::parse(&self.path, text);
        if let Some(problems) = listed.problems() {
            return Err(Unread::Wrong(stamp, problems));
        }
        Ok((GeoFile::new(&self.name, &self.path, stamp), listed.networks))
    }
}

/// A file of networks, read by itself.
pub struct NetworksFile {
    /// Its networks, in order of appearance.
    pub networks: Vec<Network>,
    places: Vec<Span>,
    problems: Vec<crate::problem::Problem>,
    sources: Sources,
}

impl NetworksFile {
    /// Reads a file.
    ///
    /// # Errors
    /// When it cannot be read; what is wrong with its text is in [`NetworksFile::problems`].
    pub fn read(path: &Path) -> io::Result<NetworksFile> {
        files::read_text(path).map(|text| NetworksFile::parse(path, text))
    }

    fn parse(path: &Path, text: String) -> NetworksFile {
        let (mut sources, mut findings) = (Sources::default(), Findings::default());
        let source = sources.add(path, text);
        let mut placed = networks::Placed::default();
        networks::parse(source, &sources, &mut findings, &mut placed);
        let problems = findings.finish(&sources);
        NetworksFile { networks: placed.data.networks, places: placed.networks, problems, sources }
    }

    /// All errors, as shown to people; `None` when there are none.
    #[must_use]
    pub fn problems(&self) -> Option<String> {
        let is_wrong = self.problems.iter().any(|problem| problem.severity == Severity::Error);
        is_wrong.then(|| render(&self.problems, &self.sources, false))
    }

    /// `networks.toml:12:1`, of the network with this prefix.
    #[must_use]
    pub fn place_of(&self, prefix: ipnet::IpNet) -> Option<String> {
        let at = self.networks.iter().position(|network| network.prefix == prefix)?;
        Some(self.sources.place(&self.places[at]))
    }
}
