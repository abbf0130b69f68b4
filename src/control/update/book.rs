//! What updates have made of one zone: records that go by themselves after a while, and the serial; `state-dir/updates/NAME`
//! keeps both.
//!
//! One JSON object, with a checksum of all else (XXH3 in hexadecimal digits). It is replaced whole and synced; a file that is
//! damaged is moved aside and never keeps a server from starting.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::message::Op;
use crate::control::files;
use crate::control::supply::{Beside, Supply, after};
use crate::dns::{Name, Rcode, RecordType};
use crate::time::Tick;
use crate::zone::{Record, Records};

use super::message::Refused;

/// The format written.
const VERSION: u32 = 1;
/// Most records of a name, and of a zone.
const MOST_OF_NAME: usize = 100;
const MOST_OF_ZONE: usize = 1000;

/// A TXT record that somebody added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Added {
    /// In lower case.
    pub(super) name: Vec<u8>,
    pub(super) ttl: u32,
    pub(super) rdata: Vec<u8>,
    pub(super) expires: Tick,
}

/// What updates have made of a zone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Book {
    /// The serial that is served; `None` = that of the file, as nothing was ever updated.
    pub(super) serial: Option<u32>,
    /// The file over which it is.
    pub(super) base_digest: u128,
    pub(super) added: Vec<Added>,
}

impl Book {
    /// The data that were added to a name.
    pub(super) fn data<'b>(&'b self, name: &'b [u8]) -> impl Iterator<Item = &'b [u8]> {
        self.added.iter().filter(move |added| added.name == name).map(|added| &*added.rdata)
    }

    /// The book after these have been done; what is added stays until `expires`. The serial goes up where the records are
    /// other ones then.
    pub(super) fn after(&self, ops: &[Op], supply: &Supply, expires: Tick) -> Result<Book, Refused> {
        let mut next = self.clone();
        for op in ops {
            match op {
                Op::Add { name, ttl, rdata } => {
                    let added = Added { name: name.clone(), ttl: *ttl, rdata: rdata.clone(), expires };
                    // One TTL for all records of a name (RFC 2181 §5.2).
                    next.added.iter_mut().filter(|known| known.name == *name).for_each(|known| known.ttl = *ttl);
                    match next.added.iter_mut().find(|known| known.name == *name && known.rdata == *rdata) {
                        Some(known) => *known = added,
                        None => next.added.push(added),
                    }
                    if next.data(name).count() > MOST_OF_NAME {
                        return Err(Refused {
                            rcode: Rcode::REFUSED,
                            why: "the name would have more than 100 records",
                        });
                    }
                }
                Op::Clear { name } => next.added.retain(|known| known.name != *name),
                Op::Delete { name, rdata } => next.added.retain(|known| known.name != *name || known.rdata != *rdata),
            }
        }
        if next.added.len() > MOST_OF_ZONE {
            return Err(Refused { rcode: Rcode::REFUSED, why: "the zone would have more than 1000 such records" });
        }
        if next.shown() != self.shown() {
            next.raise(supply);
        }
        Ok(next)
    }

    /// The book without what has expired; nothing when nothing has.
    pub(super) fn without_expired(&self, supply: &Supply, now: Tick) -> Option<Book> {
        let mut next = self.clone();
        next.added.retain(|added| added.expires > now);
        if next.added.len() == self.added.len() {
            return None;
        }
        next.raise(supply);
        Some(next)
    }

    /// The book over another file; nothing when its serial stays.
    pub(super) fn over(&self, supply: &Supply) -> Option<Book> {
        let serial = self.beside()?.serial_over(supply);
        let next = Book { serial: Some(serial), base_digest: supply.base_digest, added: self.added.clone() };
        (next != *self).then_some(next)
    }

    /// When something expires next.
    pub(super) fn due(&self) -> Option<Tick> {
        self.added.iter().map(|added| added.expires).min()
    }

    /// What is beside the file, if the zone was ever updated.
    pub(super) fn beside(&self) -> Option<Beside> {
        let record = |added: &Added| (added.name.clone(), added.ttl, added.rdata.clone());
        let mut added: Vec<_> = self.added.iter().map(record).collect();
        added.sort_unstable();
        let records: Records =
            added.iter().map(|(name, ttl, rdata)| Record::made(name, RecordType::TXT, *ttl, rdata)).collect();
        Some(Beside { serial: self.serial?, base_digest: self.base_digest, records: Arc::new(records) })
    }

    fn raise(&mut self, supply: &Supply) {
        let served = self.beside().map_or_else(|| supply.serial(), |beside| beside.serial_over(supply));
        (self.serial, self.base_digest) = (Some(after(served)), supply.base_digest);
    }

    /// What is served of it.
    fn shown(&self) -> Vec<(&[u8], u32, &[u8])> {
        let mut shown: Vec<_> = self.added.iter().map(|added| (&*added.name, added.ttl, &*added.rdata)).collect();
        shown.sort_unstable();
        shown
    }
}

/// Where the book of one zone is kept.
#[derive(Clone, Debug)]
pub(super) struct Store {
    path: PathBuf,
}

#[derive(Serialize, Deserialize)]
struct Written {
    version: u32,
    checksum: String,
    #[serde(flatten)]
    lines: Lines,
}

#[derive(Serialize, Deserialize)]
struct Lines {
    serial: Option<u32>,
    /// Digest of the file, in hexadecimal digits.
    file: String,
    records: Vec<Line>,
}

#[derive(Serialize, Deserialize)]
struct Line {
    name: String,
    ttl: u32,
    /// In hexadecimal digits.
    data: String,
    /// Seconds since the Unix epoch.
    expires: u64,
}

impl Store {
    pub(super) fn new(state_dir: &Path, origin: &Name) -> Store {
        Store { path: state_dir.join("updates").join(files::of_zone(origin)) }
    }

    /// What was written last; nothing when nothing was. The time is given by both clocks.
    pub(super) fn load(&self, now: Tick, unix: u64) -> Book {
        let path = self.path.display();
        let octets = match fs::read(&self.path) {
            Ok(octets) => octets,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Book::default(),
            Err(error) => {
                tracing::error!("{path}: {error}; serving the zone without its updates");
                return Book::default();
            }
        };
        decode(&octets, now, unix).unwrap_or_else(|| {
            let aside = self.path.with_file_name(format!("{}.damaged", self.name()));
            let moved = fs::rename(&self.path, &aside).is_ok();
            let moved = if moved { format!("; moved to {}", aside.display()) } else { String::new() };
            tracing::warn!("{path}: damaged{moved}; serving the zone without its updates");
            Book::default()
        })
    }

    /// Writes; on return it is on the disk.
    pub(super) fn save(&self, book: &Book, now: Tick, unix: u64) -> io::Result<()> {
        if let Some(folder) = self.path.parent() {
            fs::create_dir_all(folder)?;
        }
        let octets = encode(book, now, unix)?;
        // No name of a zone has a file of that name.
        files::replace_durably(&self.path, "%new", &octets).map(drop)
    }

    fn name(&self) -> String {
        self.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }
}

fn encode(book: &Book, now: Tick, unix: u64) -> io::Result<Vec<u8>> {
    let line = |added: &Added| Line {
        name: Name::from_wire(&added.name).unwrap_or_else(|_| Name::root()).to_string(),
        ttl: added.ttl,
        data: added.rdata.iter().map(|octet| format!("{octet:02x}")).collect(),
        expires: unix + added.expires.since(now).as_secs(),
    };
    let records = book.added.iter().map(line).collect();
    let lines = Lines { serial: book.serial, file: format!("{:032x}", book.base_digest), records };
    let written = Written { version: VERSION, checksum: checksum(&lines)?, lines };
    let mut octets = serde_json::to_vec_pretty(&written)?;
    octets.push(b'\n');
    Ok(octets)
}

fn checksum(lines: &Lines) -> io::Result<String> {
    Ok(format!("{:016x}", xxh3_64(&serde_json::to_vec(lines)?)))
}

fn decode(octets: &[u8], now: Tick, unix: u64) -> Option<Book> {
    let Written { version, checksum: written, lines } = serde_json::from_slice(octets).ok()?;
    if version != VERSION || checksum(&lines).ok()? != written {
        return None;
    }
    let pair = |data: &str, at: usize| u8::from_str_radix(data.get(at..at + 2)?, 16).ok();
    let added = |line: &Line| {
        Some(Added {
            name: Name::parse(&line.name, None).ok()?.to_lower().as_wire().to_vec(),
            ttl: line.ttl,
            rdata: (0..line.data.len()).step_by(2).map(|at| pair(&line.data, at)).collect::<Option<_>>()?,
            expires: now.plus(Duration::from_secs(line.expires.saturating_sub(unix))),
        })
    };
    Some(Book {
        serial: lines.serial,
        base_digest: u128::from_str_radix(&lines.file, 16).ok()?,
        added: lines.records.iter().map(added).collect::<Option<_>>()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Tick = Tick::START;

    fn name(text: &str) -> Vec<u8> {
        Name::parse(text, None).expect("a name").as_wire().to_vec()
    }

    fn supply(serial: u32, digest: u128) -> Supply {
        let soa = [&[0, 0][..], &serial.to_be_bytes(), &[0; 16]].concat();
        let base: Records = [Record::made(b"\x01z\x00", RecordType::SOA, 60, &soa)].into_iter().collect();
        Supply {
            origin: Name::parse("z", None).expect("a name"),
            primaries: Vec::new(),
            key: None,
            max_shrink: 0,
            update_expire: Duration::from_secs(60),
            base: Arc::new(base),
            base_digest: digest,
        }
    }

    fn add(at: &str, data: &[u8]) -> Op {
        Op::Add { name: name(at), ttl: 60, rdata: data.to_vec() }
    }

    #[test]
    fn the_serial_goes_up_with_each_change() {
        let (supply, later) = (supply(7, 1), NOW.plus(Duration::from_secs(60)));
        let one = Book::default().after(&[add("a.z", b"1")], &supply, later).expect("done");
        assert_eq!((one.serial, one.added.len()), (Some(8), 1));
        let same = one.after(&[add("a.z", b"1")], &supply, later.plus(Duration::from_secs(9))).expect("done");
        assert_eq!((same.serial, same.due()), (Some(8), Some(later.plus(Duration::from_secs(9)))));
        let nothing = one.after(&[Op::Clear { name: name("b.z") }], &supply, later).expect("done");
        assert_eq!(nothing, one);
        let two = one.after(&[add("a.z", b"2"), add("b.z", b"1")], &supply, later).expect("done");
        assert_eq!((two.serial, two.data(&name("a.z")).count()), (Some(9), 2));
        let delete = Op::Delete { name: name("a.z"), rdata: b"1".to_vec() };
        let less = two.after(&[delete], &supply, later).expect("done");
        assert_eq!((less.serial, less.added.len()), (Some(10), 2));
        let replaced = less.after(&[Op::Clear { name: name("a.z") }, add("a.z", b"2")], &supply, later).expect("done");
        assert_eq!(replaced.serial, Some(10), "nothing has changed");
        assert_eq!(less.without_expired(&supply, NOW), None);
        let empty = less.without_expired(&supply, later).expect("expired");
        assert_eq!((empty.serial, empty.added.len()), (Some(11), 0));
    }

    #[test]
    fn another_file_raises_it_too() {
        let book = Book { serial: Some(10), base_digest: 1, added: Vec::new() };
        assert_eq!(book.over(&supply(7, 1)), None);
        assert_eq!(book.over(&supply(7, 2)).and_then(|book| book.serial), Some(11));
        assert_eq!(book.over(&supply(20, 2)).and_then(|book| book.serial), Some(20));
        assert_eq!(Book::default().over(&supply(7, 2)), None);
    }

    #[test]
    fn records_are_bounded() {
        let supply = supply(7, 1);
        let of = |count: u16, names: u16| -> Vec<Op> {
            (0..count).map(|number| add(&format!("{}.z", number % names), &number.to_be_bytes())).collect()
        };
        assert!(Book::default().after(&of(100, 1), &supply, NOW).is_ok());
        assert!(Book::default().after(&of(101, 1), &supply, NOW).is_err());
        assert!(Book::default().after(&of(1000, 100), &supply, NOW).is_ok());
        assert!(Book::default().after(&of(1001, 100), &supply, NOW).is_err());
    }

    #[test]
    fn what_is_saved_is_loaded() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::new(folder.path(), &Name::parse("z.new", None).expect("a name"));
        assert_eq!(store.load(NOW, 5000), Book::default());
        let book =
            Book::default().after(&[add("a\\.b.z", b"\x00\xff")], &supply(7, 3), NOW.plus(Duration::from_secs(60)));
        let book = book.expect("done");
        store.save(&book, NOW, 5000).expect("saved");
        assert_eq!(store.load(NOW, 5000), book);
        assert_eq!(store.load(NOW, 5040).due(), Some(NOW.plus(Duration::from_secs(20))));
        assert_eq!(store.load(NOW, 9000).due(), Some(NOW), "over");
        let text = fs::read_to_string(&store.path).expect("there");
        for bad in [text.replace("00ff", "00fe"), text[..text.len() / 2].into(), String::new()] {
            fs::write(&store.path, bad).expect("written");
            assert_eq!(store.load(NOW, 5000), Book::default());
            assert!(folder.path().join("updates/z.new.damaged").exists());
        }
    }
}
