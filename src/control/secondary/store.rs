//! `state-dir/zones/NAME.zone`: what was copied of a zone, over restarts, and `NAME.confirmed`: when a primary was last heard
//! to have nothing newer. The first is a zone file, with a line before it that tells whether it is whole:
//!
//! ```text
//! ; copied by waymark: digest 1f0e… confirmed 1764180000
//! $ORIGIN example.com.
//! example.com.  300 IN SOA …
//! ```
//! Both are replaced whole. What is damaged is moved aside, and the zone copied anew.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::config::load_zone;
use crate::control::files;
use crate::dns::Name;
use crate::zone::{Records, lines};

/// Begins the first line.
const HEAD: &str = "; copied by waymark: digest ";
const CONFIRMED: &str = " confirmed ";

/// Where one zone is kept.
#[derive(Clone, Debug)]
pub(super) struct Store {
    path: PathBuf,
    origin: Name,
}

/// What was kept.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) records: Records,
    /// When it was confirmed last, seconds since the Unix epoch.
    pub(super) confirmed: u64,
}

impl Store {
    pub(super) fn new(state_dir: &Path, origin: &Name) -> Store {
        let path = state_dir.join("zones").join(format!("{}.zone", files::of_zone(origin)));
        Store { path, origin: origin.clone() }
    }

    /// What was written last; nothing when nothing was. What cannot be read is logged, what is damaged moved aside.
    pub(super) fn load(&self) -> Option<Kept> {
        let path = self.path.display();
        match self.read() {
            Ok(kept) => return Some(kept),
            Err(Unread::Missing) => {}
            Err(Unread::Error(error)) => tracing::error!("{path}: {error}; the zone is copied anew"),
            Err(Unread::Damaged) => {
                let aside = self.path.with_extension("damaged");
                let moved = fs::rename(&self.path, &aside).is_ok();
                let moved = if moved { format!("; moved to {}", aside.display()) } else { String::new() };
                tracing::warn!("{path}: damaged{moved}; the zone is copied anew");
            }
        }
        None
    }

    fn read(&self) -> Result<Kept, Unread> {
        let text = match fs::read_to_string(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(Unread::Missing),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => return Err(Unread::Damaged),
            Err(error) => return Err(Unread::Error(error)),
        };
        let head = text.lines().next().and_then(|line| line.strip_prefix(HEAD)).ok_or(Unread::Damaged)?;
        let (digest, confirmed) = head.split_once(CONFIRMED).ok_or(Unread::Damaged)?;
        let (digest, confirmed) = (digest.to_owned(), confirmed.parse().map_err(|_| Unread::Damaged)?);
        drop(text);
        let records = load_zone(&self.path, Some(self.origin.clone()), None).records;
        if format!("{:032x}", records.digest()) != digest {
            return Err(Unread::Damaged);
        }
        let later = fs::read_to_string(self.path.with_extension("confirmed")).ok();
        let later: Option<u64> = later.and_then(|text| text.trim().parse().ok());
        Ok(Kept { records, confirmed: later.map_or(confirmed, |later| later.max(confirmed)) })
    }

    /// Keeps a copy; on return it is on the disk.
    pub(super) fn save(&self, records: &Records, confirmed: u64) -> io::Result<()> {
        if let Some(folder) = self.path.parent() {
            fs::create_dir_all(folder)?;
        }
        let mut text = format!("{HEAD}{:032x}{CONFIRMED}{confirmed}\n", records.digest());
        for line in lines(&self.origin, records) {
            text.push_str(&line);
            text.push('\n');
        }
        files::replace_durably(&self.path, "new", text.as_bytes()).map(drop)
    }

    /// Notes when what is kept was confirmed.
    pub(super) fn confirm(&self, confirmed: u64) -> io::Result<()> {
        files::replace(&self.path.with_extension("confirmed"), "confirmed-new", format!("{confirmed}\n").as_bytes())
    }
}

enum Unread {
    Missing,
    Damaged,
    Error(io::Error),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::RecordType;
    use crate::zone::Record;

    fn name(text: &str) -> Name {
        Name::parse(text, None).expect("a name")
    }

    #[test]
    fn what_is_saved_is_loaded() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::new(folder.path(), &name("Example.com"));
        assert!(store.load().is_none());
        let soa = [&b"\x02ns\x00\x01h\x00"[..], &[0; 20]].concat();
        let records: Records = [
            Record::made(name("example.com").as_wire(), RecordType::SOA, 60, &soa),
            Record::made(name("example.com").as_wire(), RecordType::NS, 60, b"\x02ns\x00"),
            Record::made(name("A.example.com").as_wire(), RecordType::TXT, 5, b"\x03a\"\xff"),
            Record::made(name("x.example.com").as_wire(), RecordType(65_400), 5, b"\x00"),
        ]
        .into_iter()
        .collect();
        store.save(&records, 1000).expect("saved");
        let kept = store.load().expect("there");
        assert_eq!((kept.records.digest(), kept.confirmed), (records.digest(), 1000));
        store.confirm(2000).expect("saved");
        assert_eq!(store.load().expect("there").confirmed, 2000);
        let path = folder.path().join("zones/example.com.zone");
        let text = fs::read_to_string(&path).expect("there");
        for bad in [text.replace("65400", "65401"), text[..text.len() - 9].into(), String::new(), "x".into()] {
            fs::write(&path, &bad).expect("written");
            assert!(store.load().is_none(), "{bad}");
            assert_eq!(fs::read_to_string(path.with_extension("damaged")).expect("moved"), bad);
        }
    }
}
