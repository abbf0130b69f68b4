//! `state-dir/overrides`: the overrides of the operator over restarts (SPEC 8.2), and which regions are latched out of
//! which services until he resumes them (SPEC 3.5).
//!
//! One JSON object: `version`, `checksum` (XXH3 of the lists as compact JSON, in hexadecimal digits), `overrides`,
//! `latches` where there are any. It is written beside, synced, renamed over the old one, and the folder synced: after
//! that it survives a loss of power, and at no moment is there half of it. A file that is damaged is moved aside and never
//! keeps a server from starting.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::files::{self, Kept};
use super::latches::Latch;
use super::overrides::Override;

/// The format written.
const VERSION: u32 = 1;
/// Longest file read, in octets: many times what the most overrides take, and as many latches as there may be services.
const LONGEST: u64 = 256 << 20;

/// Where overrides are kept.
#[derive(Clone, Debug)]
pub struct Store {
    path: PathBuf,
}

#[derive(Serialize, Deserialize)]
struct Written {
    version: u32,
    checksum: String,
    #[serde(flatten)]
    lists: Lists,
}

/// What is kept.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Lists {
    /// Oldest first.
    pub overrides: Vec<Override>,
    /// In any order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub latches: Vec<Latch>,
}

impl Store {
    /// In this `state-dir`.
    #[must_use]
    pub fn new(state_dir: &Path) -> Store {
        Store { path: state_dir.join("overrides") }
    }

    /// What was written last; nothing when nothing was. What cannot be read is logged, what is damaged moved aside.
    #[must_use]
    pub fn load(&self) -> Lists {
        let path = self.path.display();
        let octets = match self.read() {
            Ok(octets) => octets,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Lists::default(),
            Err(error) => {
                tracing::error!("{path}: {error}; serving without the overrides that were kept");
                return Lists::default();
            }
        };
        decode(&octets).unwrap_or_else(|problem| {
            let aside = self.path.with_extension("damaged");
            let moved = match fs::rename(&self.path, &aside) {
                Ok(()) => format!("moved to {}", aside.display()),
                Err(error) => format!("and cannot be moved aside: {error}"),
            };
            tracing::warn!("{path}: {problem}; {moved}; serving without the overrides that were kept");
            Lists::default()
        })
    }

    fn read(&self) -> io::Result<Vec<u8>> {
        let mut octets = Vec::new();
        File::open(&self.path)?.take(LONGEST).read_to_end(&mut octets)?;
        Ok(octets)
    }

    /// Writes; on return it is on the disk.
    ///
    /// # Errors
    /// When it is not; what was written before is there still.
    pub fn save(&self, lists: Lists) -> io::Result<Kept> {
        files::replace_durably(&self.path, "new", &encode(lists)?)
    }
}

fn encode(lists: Lists) -> io::Result<Vec<u8>> {
    let written = Written { version: VERSION, checksum: checksum(&lists)?, lists };
    let mut octets = serde_json::to_vec_pretty(&written)?;
    octets.push(b'\n');
    Ok(octets)
}

fn checksum(lists: &Lists) -> io::Result<String> {
    let mut octets = serde_json::to_vec(&lists.overrides)?;
    if !lists.latches.is_empty() {
        octets.extend(serde_json::to_vec(&lists.latches)?);
    }
    Ok(format!("{:016x}", xxh3_64(&octets)))
}

fn decode(octets: &[u8]) -> Result<Lists, String> {
    #[derive(Deserialize)]
    struct Head {
        version: u32,
    }
    let damaged = |error: serde_json::Error| format!("damaged: {error}");
    let Head { version } = serde_json::from_slice(octets).map_err(damaged)?;
    if version != VERSION {
        return Err(format!("of version {version}, this program reads version {VERSION}"));
    }
    let written: Written = serde_json::from_slice(octets).map_err(damaged)?;
    match checksum(&written.lists) {
        Ok(checksum) if checksum == written.checksum => Ok(written.lists),
        _ => Err("damaged: its checksum is wrong".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::overrides::Action;
    use super::*;

    fn some() -> Lists {
        let of = |target: &str, action, until| Override {
            target: target.into(),
            action,
            who: "älice \"root\"".into(),
            why: "tests, and such".into(),
            since: 1_700_000_000,
            until,
        };
        let latch = Latch { service: "www.example.com".into(), region: "eu".into(), ipv6: true, since: 1_700_000_000 };
        Lists {
            overrides: vec![
                of("region/eu-*", Action::Drain, None),
                of("instance/web/eu-1", Action::Weight(50), Some(1_700_000_060)),
            ],
            latches: vec![latch],
        }
    }

    #[test]
    fn what_is_saved_is_loaded() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::new(folder.path());
        assert_eq!(store.load(), Lists::default());
        let without = Lists { latches: Vec::new(), ..some() };
        for list in [some(), Lists::default(), without, some()] {
            store.save(list.clone()).expect("saved");
            assert_eq!(store.load(), list);
        }
        let names: Vec<_> =
            fs::read_dir(folder.path()).expect("a folder").flatten().map(|one| one.file_name()).collect();
        assert_eq!(names, ["overrides"]);
    }

    #[test]
    fn what_is_damaged_is_moved_aside() {
        let good = String::from_utf8(encode(some()).expect("encoded")).expect("text");
        for bad in [
            String::new(),
            "garbage".into(),
            good[..good.len() / 2].into(),
            good.replace("eu-1", "eu-2"),
            good.replace("\"version\": 1", "\"version\": 2"),
            good.replace("weight 50%", "weight 5000%"),
            good.replace("drain", "dance"),
            good.replace("\"ipv6\": true", "\"ipv6\": false"),
        ] {
            assert_ne!(bad, good);
            let folder = tempfile::tempdir().expect("a folder");
            let store = Store::new(folder.path());
            fs::write(folder.path().join("overrides"), &bad).expect("written");
            assert_eq!(store.load(), Lists::default(), "{bad}");
            assert_eq!(fs::read_to_string(folder.path().join("overrides.damaged")).expect("moved"), bad);
            assert!(!folder.path().join("overrides").exists());
        }
    }

    #[test]
    fn what_cannot_be_saved_leaves_the_old() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::new(folder.path());
        store.save(some()).expect("saved");
        fs::create_dir(folder.path().join("overrides.new")).expect("in the way");
        assert!(store.save(Lists::default()).is_err());
        assert_eq!(store.load(), some());
        assert!(Store::new(&folder.path().join("nowhere")).save(Lists::default()).is_err());
    }
}
