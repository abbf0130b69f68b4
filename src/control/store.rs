//! `state-dir/overrides`: the overrides of the operator over restarts (SPEC 8.2).
//!
//! One JSON object: `version`, `checksum` (XXH3 of the list as compact JSON, in hexadecimal digits), `overrides`. It is
//! written beside, synced, renamed over the old one, and the folder synced: after that it survives a loss of power, and
//! at no moment is there half of it. A file that is damaged is moved aside and never keeps a server from starting.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::files;
use super::overrides::Override;

/// The format written.
const VERSION: u32 = 1;
/// Longest file read, in octets: many times what the most overrides take.
const LONGEST: u64 = 16 << 20;

/// Where overrides are kept.
#[derive(Clone, Debug)]
pub struct Store {
    path: PathBuf,
}

#[derive(Serialize, Deserialize)]
struct Kept {
    version: u32,
    checksum: String,
    overrides: Vec<Override>,
}

impl Store {
    /// In this `state-dir`.
    #[must_use]
    pub fn new(state_dir: &Path) -> Store {
        Store { path: state_dir.join("overrides") }
    }

    /// What was written last; nothing when nothing was. What cannot be read is logged, what is damaged moved aside.
    #[must_use]
    pub fn load(&self) -> Vec<Override> {
        let path = self.path.display();
        let octets = match self.read() {
            Ok(octets) => octets,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Vec::new(),
            Err(error) => {
                tracing::error!("{path}: {error}; serving without the overrides that were kept");
                return Vec::new();
            }
        };
        decode(&octets).unwrap_or_else(|problem| {
            let aside = self.path.with_extension("damaged");
            let moved = match fs::rename(&self.path, &aside) {
                Ok(()) => format!("moved to {}", aside.display()),
                Err(error) => format!("and cannot be moved aside: {error}"),
            };
            tracing::warn!("{path}: {problem}; {moved}; serving without the overrides that were kept");
            Vec::new()
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
    pub fn save(&self, overrides: &[Override]) -> io::Result<()> {
        files::replace(&self.path, "new", &encode(overrides)?)?;
        File::open(self.path.parent().unwrap_or(Path::new(".")))?.sync_all()
    }
}

fn encode(overrides: &[Override]) -> io::Result<Vec<u8>> {
    let kept = Kept { version: VERSION, checksum: checksum(overrides)?, overrides: overrides.to_vec() };
    let mut octets = serde_json::to_vec_pretty(&kept)?;
    octets.push(b'\n');
    Ok(octets)
}

fn checksum(overrides: &[Override]) -> io::Result<String> {
    Ok(format!("{:016x}", xxh3_64(&serde_json::to_vec(overrides)?)))
}

fn decode(octets: &[u8]) -> Result<Vec<Override>, String> {
    #[derive(Deserialize)]
    struct Head {
        version: u32,
    }
    let damaged = |error: serde_json::Error| format!("damaged: {error}");
    let Head { version } = serde_json::from_slice(octets).map_err(damaged)?;
    if version != VERSION {
        return Err(format!("of version {version}, this program reads version {VERSION}"));
    }
    let kept: Kept = serde_json::from_slice(octets).map_err(damaged)?;
    match checksum(&kept.overrides) {
        Ok(checksum) if checksum == kept.checksum => Ok(kept.overrides),
        _ => Err("damaged: its checksum is wrong".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::overrides::Action;
    use super::*;

    fn some() -> Vec<Override> {
        let of = |target: &str, action, until| Override {
            target: target.into(),
            action,
            who: "älice \"root\"".into(),
            why: "tests, and such".into(),
            since: 1_700_000_000,
            until,
        };
        vec![of("region/eu-*", Action::Drain, None), of("instance/web/eu-1", Action::Weight(50), Some(1_700_000_060))]
    }

    #[test]
    fn what_is_saved_is_loaded() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::new(folder.path());
        assert!(store.load().is_empty());
        for list in [some(), Vec::new(), some()] {
            store.save(&list).expect("saved");
            assert_eq!(store.load(), list);
        }
        let names: Vec<_> =
            fs::read_dir(folder.path()).expect("a folder").flatten().map(|one| one.file_name()).collect();
        assert_eq!(names, ["overrides"]);
    }

    #[test]
    fn what_is_damaged_is_moved_aside() {
        let good = String::from_utf8(encode(&some()).expect("encoded")).expect("text");
        for bad in [
            String::new(),
            "garbage".into(),
            good[..good.len() / 2].into(),
            good.replace("eu-1", "eu-2"),
            good.replace("\"version\": 1", "\"version\": 2"),
            good.replace("weight 50%", "weight 5000%"),
            good.replace("drain", "dance"),
        ] {
            assert_ne!(bad, good);
            let folder = tempfile::tempdir().expect("a folder");
            let store = Store::new(folder.path());
            fs::write(folder.path().join("overrides"), &bad).expect("written");
            assert!(store.load().is_empty(), "{bad}");
            assert_eq!(fs::read_to_string(folder.path().join("overrides.damaged")).expect("moved"), bad);
            assert!(!folder.path().join("overrides").exists());
        }
    }

    #[test]
    fn what_cannot_be_saved_leaves_the_old() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::new(folder.path());
        store.save(&some()).expect("saved");
        fs::create_dir(folder.path().join("overrides.new")).expect("in the way");
        assert!(store.save(&[]).is_err());
        assert_eq!(store.load(), some());
        assert!(Store::new(&folder.path().join("nowhere")).save(&[]).is_err());
    }
}
