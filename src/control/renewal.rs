//! Geo files that are replaced while the server runs: when one is read again, and whether what it says now is taken.
//!
//! Polled, not notified: a poll sees a rename on every file system, also over the network and through the mounts of a
//! container, where `inotify` says nothing, and costs a system call for each file. A new version is read once it looks
//! the same at two polls, so that one that is still being written in place is not read halfway. Only the geo files are
//! read: the configuration file may be half edited.
//!
//! ```text
//! same as what was read ──► nothing        gone ──► what was read stays, said once
//! another, first seen   ──► wait           another, seen before ──► read ─► wrong, or doubted (geo::doubt), or a
//!                                                                           test fails: what was read stays
//!                                                                        ─► else served
//! ```

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::explain::failed_tests;
use super::world::World;
use crate::config::{GeoFile, GeoFiles, Stamp, Unread};
use crate::geo::{self, Database, Network};

/// How often the files are looked at.
pub const POLL: Duration = Duration::from_secs(2);

/// A geo file whose newest version is not served.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GeoRefusal {
    /// As configured.
    pub file: String,
    /// Why, in words.
    pub reason: String,
}

/// When which file is to be read again.
#[derive(Debug)]
pub struct Watch {
    files: Vec<Watched>,
}

#[derive(Debug)]
struct Watched {
    file: GeoFile,
    /// What was read last, taken or not; `None` = whatever is there is to be read.
    read: Option<Stamp>,
    /// What the last poll found.
    seen: Option<Stamp>,
    is_gone: bool,
}

/// What a poll finds.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// To be read, by number in [`GeoFiles::iter`].
    pub due: Vec<usize>,
    /// Gone since the poll before.
    pub gone: Vec<GeoRefusal>,
}

impl Watch {
    /// Watches files as they were read.
    #[must_use]
    pub fn new(files: &GeoFiles) -> Watch {
        let watched =
            |file: &GeoFile| Watched { file: file.clone(), read: Some(file.stamp), seen: None, is_gone: false };
        Watch { files: files.iter().map(watched).collect() }
    }

    /// What is to be looked at.
    #[must_use]
    pub fn paths(&self) -> Vec<PathBuf> {
        self.files.iter().map(|watched| watched.file.path.clone()).collect()
    }

    /// Takes what stands at each of the paths now.
    pub fn look(&mut self, found: Vec<io::Result<Stamp>>) -> Look {
        let mut look = Look::default();
        for (number, (watched, found)) in self.files.iter_mut().zip(found).enumerate() {
            match found {
                Err(error) => look.gone.extend(watched.miss(&error)),
                Ok(stamp) if watched.is_due(stamp) => look.due.push(number),
                Ok(_) => {}
            }
        }
        look
    }

    /// What stands there now is not tried again.
    pub fn give_up(&mut self) {
        self.files.iter_mut().for_each(|watched| watched.read = watched.seen.or(watched.read));
    }

    /// This version of a file was read, taken or not.
    pub fn was_read(&mut self, number: usize, stamp: Stamp) {
        self.files[number].read = Some(stamp);
    }
}

impl Watched {
    fn miss(&mut self, error: &io::Error) -> Option<GeoRefusal> {
        self.seen = None;
        // Whatever comes back is read, so that it is known to be what is served.
        self.read = None;
        let is_new = !std::mem::replace(&mut self.is_gone, true);
        is_new.then(|| GeoRefusal { file: self.file.name.clone(), reason: format!("cannot be read: {error}") })
    }

    fn is_due(&mut self, now: Stamp) -> bool {
        self.is_gone = false;
        let is_settled = self.seen.replace(now) == Some(now);
        is_settled && self.read != Some(now)
    }
}

/// What came of reading files again.
#[derive(Debug, Default)]
pub struct Renewed {
    /// The world with those that were taken; `None` = none was.
    pub world: Option<World>,
    /// Their names.
    pub taken: Vec<String>,
    /// Those that were not.
    pub refused: Vec<GeoRefusal>,
    /// Versions that were read, by number of the file.
    pub read: Vec<(usize, Stamp)>,
}

/// Reads the files of these numbers again, and compiles the configuration that runs with those that are taken.
#[must_use]
pub fn renew(world: &World, due: &[usize]) -> Renewed {
    let (mut data, mut files) = (world.geo().clone(), world.geo_files.clone());
    let mut renewed = Renewed::default();
    for &number in due {
        let Some(file) = world.geo_files.iter().nth(number) else { continue };
        let outcome = match number.checked_sub(usize::from(files.networks.is_some())) {
            None => networks(file, &world.geo().networks).map(|(newer, networks)| {
                data.networks = networks;
                files.networks.insert(newer).stamp
            }),
            Some(at) => database(file, &world.geo().databases[at]).map(|(newer, database)| {
                data.databases[at] = database;
                files.databases[at] = newer;
                files.databases[at].stamp
            }),
        };
        renewed.note(number, &file.name, outcome);
    }
    if !renewed.taken.is_empty() {
        renewed.compile(world, data, files);
    }
    renewed
}

impl Renewed {
    fn note(&mut self, number: usize, name: &str, outcome: Result<Stamp, Unread>) {
        match outcome {
            Ok(stamp) => {
                self.taken.push(name.into());
                self.read.push((number, stamp));
            }
            Err(Unread::Wrong(stamp, reason)) => {
                self.refused.push(GeoRefusal { file: name.into(), reason });
                self.read.push((number, stamp));
            }
            // The next poll sees what became of it.
            Err(Unread::Missing(_)) => {}
        }
    }

    fn compile(&mut self, world: &World, data: geo::Data, files: GeoFiles) {
        let next = world.with_geo(data, files);
        let failed = failed_tests(&next);
        let Some(first) = failed.first() else {
            self.world = Some(next);
            return;
        };
        let more = if failed.len() > 1 { format!(" (and {} more)", failed.len() - 1) } else { String::new() };
        let refusal = |file| GeoRefusal { file, reason: format!("{first}{more}") };
        self.refused.extend(std::mem::take(&mut self.taken).into_iter().map(refusal));
    }
}

fn database(file: &GeoFile, before: &Database) -> Result<(GeoFile, Database), Unread> {
    let (newer, database) = file.read_database()?;
    match geo::doubt(before.known(), database.known()) {
        Some(doubt) => Err(Unread::Wrong(newer.stamp, doubt)),
        None => Ok((newer, database)),
    }
}

fn networks(file: &GeoFile, before: &[Network]) -> Result<(GeoFile, Vec<Network>), Unread> {
    let (newer, networks) = file.read_networks()?;
    match doubt_networks(before, &networks) {
        Some(doubt) => Err(Unread::Wrong(newer.stamp, doubt)),
        None => Ok((newer, networks)),
    }
}

/// Networks are written by the operator, who may well move them: only many that are missing are doubted.
fn doubt_networks(before: &[Network], after: &[Network]) -> Option<String> {
    let few = after.len() < before.len().div_ceil(2);
    few.then(|| format!("more than half empty: it has {} networks, {} before", after.len(), before.len()))
}

/// What of a world would not have been taken by itself after the one before; a reload takes it all the same.
#[must_use]
pub fn doubts(before: &World, after: &World) -> Vec<GeoRefusal> {
    let known = before.geo_files.databases.iter().zip(&before.geo().databases);
    let same = |path: &Path| known.clone().find(|(file, _)| file.path == path);
    let of_database = |(file, database): (&GeoFile, &Database)| {
        let (_, old) = same(&file.path).filter(|(old, _)| old.stamp != file.stamp)?;
        Some(GeoRefusal { file: file.name.clone(), reason: geo::doubt(old.known(), database.known())? })
    };
    let of_networks = || {
        let (old, new) = before.geo_files.networks.as_ref().zip(after.geo_files.networks.as_ref())?;
        let doubt = (old.path == new.path).then(|| doubt_networks(&before.geo().networks, &after.geo().networks));
        Some(GeoRefusal { file: new.name.clone(), reason: doubt.flatten()? })
    };
    let databases = after.geo_files.databases.iter().zip(&after.geo().databases);
    of_networks().into_iter().chain(databases.filter_map(of_database)).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn error() -> io::Result<Stamp> {
        Err(io::ErrorKind::NotFound.into())
    }

    /// Versions of a file that differ in length.
    fn versions(folder: &Path, count: usize) -> Vec<Stamp> {
        let path = folder.join("a");
        let version = |length| {
            fs::write(&path, vec![b' '; length]).expect("written");
            Stamp::at(&path).expect("there")
        };
        (0..count).map(version).collect()
    }

    #[test]
    fn a_file_is_read_once_it_has_settled() {
        let folder = tempfile::tempdir().expect("a folder");
        let [old, half, new] = versions(folder.path(), 3)[..] else { panic!("three") };
        let file = GeoFile { name: "a".into(), path: folder.path().join("a"), stamp: old, loaded_at: 0 };
        let mut watch = Watch::new(&GeoFiles { networks: None, databases: vec![file] });
        let mut looks = |found: io::Result<Stamp>| {
            let Look { due, gone } = watch.look(vec![found]);
            let said = (due.len(), gone.len());
            due.iter().for_each(|&number| watch.was_read(number, watch.files[number].seen.expect("seen")));
            said
        };
        for (found, due, gone) in [
            (Ok(old), 0, 0),
            (Ok(half), 0, 0),
            (Ok(new), 0, 0),
            (Ok(new), 1, 0),
            (Ok(new), 0, 0),
            (error(), 0, 1),
            (error(), 0, 0),
            (Ok(new), 0, 0),
            (Ok(new), 1, 0),
            (Ok(new), 0, 0),
            (Ok(old), 0, 0),
            (error(), 0, 1),
            (Ok(old), 0, 0),
            (Ok(old), 1, 0),
        ] {
            let shown = format!("{found:?}");
            assert_eq!(looks(found), (due, gone), "{shown}");
        }
    }

    #[test]
    fn networks_may_move_but_not_vanish() {
        let networks = |count: u8, code: &[u8; 2]| -> Vec<Network> {
            let place = geo::Place { country: Some(geo::Code(*code)), ..geo::Place::UNKNOWN };
            let prefix = |at: u8| ipnet::IpNet::new([10, at, 0, 0].into(), 16).expect("a prefix");
            (0..count).map(|at| Network { prefix: prefix(at), place: place.clone() }).collect()
        };
        for (before, after, doubted) in [(0, 0, false), (1, 0, true), (2, 1, false), (3, 1, true), (3, 2, false)] {
            let doubt = doubt_networks(&networks(before, b"DE"), &networks(after, b"FR"));
            assert_eq!(doubt.is_some(), doubted, "{before} {after}: {doubt:?}");
        }
    }
}
