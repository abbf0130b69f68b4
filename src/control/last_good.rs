//! Last-good health: what was known of all targets and groups, kept on disk so that the next process answers rightly
//! from its first answer on (SPEC 2.5). Here: the file and what it says; `keeper` writes it.
//!
//! ```text
//! state-dir/last-good
//!
//! waymark last-good 1 8f3a0c5e71d2b946          the version of the format, XXH3 of all that follows the line
//! {"written_ms": …, "targets": […], "groups": […]}
//! ```
//! Times are milliseconds since the Unix epoch. Targets are found again by check, address, port and host, groups by
//! pool, regions and family, as at a reload. Unknown targets are not in it.

mod keeper;

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, Read};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::World;
use super::files;
use super::succession::{GroupName, Key, group_name, key, watched_groups};
use crate::fleet::{Family, Target};
use crate::health::{Memory, Verdict};
use crate::steering::{LayoutId, Table};
use crate::time::Tick;

pub use keeper::{Keeper, Notes};

/// What the file begins with, before the checksum.
const HEAD: &str = "waymark last-good 1 ";
/// From this age on it is not believed.
const OLDEST: Duration = Duration::from_secs(10 * 60);
/// The largest file that is read, octets: a million targets take a fifth of it.
const LARGEST: u64 = 1 << 30;

/// Where the file of a server is.
#[must_use]
pub fn path(state_dir: &Path) -> PathBuf {
    state_dir.join("last-good")
}

/// What the file says.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct LastGood<'w> {
    written_ms: u64,
    targets: Vec<TargetEntry<'w>>,
    groups: Vec<GroupEntry<'w>>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct TargetEntry<'w> {
    check: Cow<'w, str>,
    address: IpAddr,
    port: u16,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    host: Option<Cow<'w, str>>,
    up: bool,
    since_ms: u64,
    /// Times down that count for the hold-down.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    downs_ms: Vec<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    held_until_ms: Option<u64>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct GroupEntry<'w> {
    pool: Cow<'w, str>,
    regions: Vec<Cow<'w, str>>,
    ipv6: bool,
    lost_ms: u64,
}

/// The same moment by both clocks.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// Monotonic.
    pub now: Tick,
    /// Milliseconds since the Unix epoch.
    pub unix_ms: u64,
}

impl Clock {
    /// What the wall clock shows at a tick.
    fn unix(self, at: Tick) -> u64 {
        let (ahead, behind) = (at.since(self.now), self.now.since(at));
        self.unix_ms.saturating_add(ahead.as_millis() as u64).saturating_sub(behind.as_millis() as u64)
    }

    /// The tick of a time that has passed; one in the future is now.
    fn past(self, unix_ms: u64) -> Tick {
        self.now.minus(Duration::from_millis(self.unix_ms.saturating_sub(unix_ms)))
    }

    /// The tick of a time that may lie ahead.
    fn any(self, unix_ms: u64) -> Tick {
        self.past(unix_ms).plus(Duration::from_millis(unix_ms.saturating_sub(self.unix_ms)))
    }
}

impl LastGood<'static> {
    /// Reads the file at `path`; `Ok(None)` when there is none.
    ///
    /// # Errors
    /// In words, why it is not believed: damaged, of another version, too old, from the future, or not to be read.
    pub fn read(path: &Path, unix_ms: u64) -> Result<Option<LastGood<'static>>, String> {
        let mut octets = Vec::new();
        match File::open(path).and_then(|file| file.take(LARGEST).read_to_end(&mut octets)) {
            Ok(_) => LastGood::parse(&octets, unix_ms).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.to_string()),
        }
    }

    fn parse(octets: &[u8], unix_ms: u64) -> Result<LastGood<'static>, String> {
        let end = octets.iter().position(|&octet| octet == b'\n').ok_or("it is damaged: it has no first line")?;
        let (head, body) = (&octets[..end], &octets[end + 1..]);
        let sum = head.strip_prefix(HEAD.as_bytes()).ok_or("it is of another version, or no such file at all")?;
        if sum != format!("{:016x}", xxh3_64(body)).as_bytes() {
            return Err("it is damaged: its checksum is wrong".into());
        }
        let read: LastGood<'static> =
            serde_json::from_slice(body).map_err(|error| format!("it is damaged: {error}"))?;
        let age = unix_ms.checked_sub(read.written_ms).ok_or("it is from the future by this machine's clock")?;
        if Duration::from_millis(age) >= OLDEST {
            return Err(format!("it is {} s old, which is too old to go by", age / 1000));
        }
        Ok(read)
    }

    /// When it was written, milliseconds since the Unix epoch.
    #[must_use]
    pub fn written_ms(&self) -> u64 {
        self.written_ms
    }
}

impl<'w> LastGood<'w> {
    /// What is known now: `memories` by `TargetId`, and the times of loss in `standings`.
    pub(super) fn of(world: &'w World, memories: &[Memory], standings: &Table, clock: Clock) -> LastGood<'w> {
        let targets = world.fleet().targets.iter().zip(memories);
        let known = targets.filter(|(_, memory)| memory.verdict != Verdict::Unknown);
        let targets = known.map(|(target, memory)| TargetEntry::new(key(target, world), memory, clock)).collect();
        let groups = lost(world, standings).into_iter().map(|(((pool, regions), family), lost_at)| GroupEntry {
            pool: pool.into(),
            regions: regions.into_iter().map(Cow::from).collect(),
            ipv6: family == Family::V6,
            lost_ms: clock.unix(lost_at),
        });
        LastGood { written_ms: clock.unix_ms, targets, groups: groups.collect() }
    }

    /// The file.
    fn encode(&self) -> Vec<u8> {
        let body = serde_json::to_vec(self).expect("texts and numbers, and keys that are texts");
        let head = format!("{HEAD}{:016x}\n", xxh3_64(&body));
        [head.as_bytes(), &body].concat()
    }

    /// Ready for looking things up; its times as ticks of this process.
    pub(super) fn recall(&self, clock: Clock) -> Recall<'_> {
        let targets = self.targets.iter().map(|entry| (entry.key(), entry.memory(clock)));
        let groups = self.groups.iter().map(|entry| (entry.name(), clock.past(entry.lost_ms)));
        Recall { targets: targets.collect(), groups: groups.collect() }
    }
}

impl<'w> TargetEntry<'w> {
    fn new((check, address, port, host): Key<'w>, memory: &Memory, clock: Clock) -> TargetEntry<'w> {
        TargetEntry {
            check: check.into(),
            address,
            port,
            host: host.map(Cow::from),
            up: memory.verdict == Verdict::Up,
            since_ms: clock.unix(memory.since),
            downs_ms: memory.downs.iter().map(|&down| clock.unix(down)).collect(),
            held_until_ms: (memory.held_until > clock.now).then(|| clock.unix(memory.held_until)),
        }
    }

    fn key(&self) -> Key<'_> {
        (&self.check, self.address, self.port, self.host.as_deref())
    }

    fn memory(&self, clock: Clock) -> Memory {
        Memory {
            verdict: if self.up { Verdict::Up } else { Verdict::Down },
            since: clock.past(self.since_ms),
            downs: self.downs_ms.iter().map(|&down| clock.past(down)).collect(),
            held_until: self.held_until_ms.map_or(Tick::default(), |until| clock.any(until)),
        }
    }
}

impl GroupEntry<'_> {
    fn name(&self) -> (GroupName<'_>, Family) {
        let family = if self.ipv6 { Family::V6 } else { Family::V4 };
        ((&self.pool, self.regions.iter().map(|region| &**region).collect()), family)
    }
}

/// The groups that have lost their last eligible instance, and when.
fn lost<'w>(world: &'w World, standings: &Table) -> BTreeMap<(GroupName<'w>, Family), Tick> {
    let mut lost = BTreeMap::new();
    for (layout, group) in watched_groups(world) {
        for family in Family::BOTH {
            let selection = standings.get(layout).get(group, family);
            if let Some(at) = selection.and_then(|selection| selection.lost_at) {
                lost.insert((group_name(world, world.steering.layout(layout), group), family), at);
            }
        }
    }
    lost
}

/// What was known, to be found again.
pub(super) struct Recall<'f> {
    targets: HashMap<Key<'f>, Memory>,
    groups: HashMap<(GroupName<'f>, Family), Tick>,
}

impl Recall<'_> {
    /// The health of a target.
    pub(super) fn target(&self, target: &Target, world: &World) -> Option<Memory> {
        self.targets.get(&key(target, world)).cloned()
    }

    /// When a group lost its last eligible instance.
    pub(super) fn lost_at(&self, world: &World, layout: LayoutId, group: usize, family: Family) -> Option<Tick> {
        if self.groups.is_empty() {
            return None;
        }
        self.groups.get(&(group_name(world, world.steering.layout(layout), group), family)).copied()
    }
}

/// Replaces the file at `path`.
fn write(path: &Path, octets: &[u8]) -> io::Result<()> {
    files::replace(path, "tmp", octets)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const CLOCK: Clock = Clock { now: Tick(1_000_000), unix_ms: 1_700_000_000_000 };

    fn file() -> LastGood<'static> {
        let memory = Memory {
            verdict: Verdict::Down,
            since: Tick(990_000),
            downs: vec![Tick(500_000), Tick(990_000)],
            held_until: Tick(1_020_000),
        };
        let address = IpAddr::from([192, 0, 2, 1]);
        LastGood {
            written_ms: CLOCK.unix_ms,
            targets: vec![
                TargetEntry::new(("web", address, 80, Some("www.example.com")), &memory, CLOCK),
                TargetEntry::new(("web", address, 81, None), &Memory { verdict: Verdict::Up, ..memory }, CLOCK),
            ],
            groups: vec![GroupEntry {
                pool: "web".into(),
                regions: vec!["eu".into()],
                ipv6: true,
                lost_ms: CLOCK.unix_ms - 7000,
            }],
        }
    }

    #[test]
    fn what_is_written_is_read_with_the_ticks_of_another_process() {
        let read = LastGood::parse(&file().encode(), CLOCK.unix_ms + 60_000).expect("as written");
        assert_eq!(read, file());
        let later = Clock { now: Tick::START, unix_ms: CLOCK.unix_ms + 60_000 };
        let recall = read.recall(later);
        let address = IpAddr::from([192, 0, 2, 1]);
        let memory = &recall.targets[&("web", address, 80, Some("www.example.com"))];
        let ago = |seconds| Tick::START.minus(Duration::from_secs(seconds));
        assert_eq!(
            (memory.verdict, memory.since, &memory.downs[..]),
            (Verdict::Down, ago(70), &[ago(560), ago(70)][..])
        );
        assert_eq!(memory.held_until, ago(40));
        assert_eq!(recall.targets[&("web", address, 81, None)].verdict, Verdict::Up);
        assert_eq!(recall.groups[&(("web", vec!["eu"]), Family::V6)], ago(67));
    }

    #[test]
    fn what_cannot_be_believed_is_refused() {
        let good = file().encode();
        let at = |age_ms: i64| CLOCK.unix_ms.saturating_add_signed(age_ms);
        let cut = good[..good.len() - 1].to_vec();
        let flipped: Vec<u8> = good.iter().rev().enumerate().map(|(i, &o)| if i == 9 { o ^ 1 } else { o }).collect();
        let flipped = flipped.into_iter().rev().collect();
        let newer = String::from_utf8(good.clone()).expect("text").replace("last-good 1 ", "last-good 2 ");
        for (octets, unix_ms, said) in [
            (good.clone(), at(0), ""),
            (good.clone(), at(599_999), ""),
            (good.clone(), at(600_000), "too old"),
            (good.clone(), at(-1), "future"),
            (good, 0, "future"),
            (cut, at(0), "checksum"),
            (flipped, at(0), "checksum"),
            (newer.into_bytes(), at(0), "another version"),
            (Vec::new(), at(0), "no first line"),
            (vec![0xff; 4096], at(0), "no first line"),
            (b"\n".repeat(4096), at(0), "another version"),
        ] {
            match LastGood::parse(&octets, unix_ms) {
                Ok(_) => assert_eq!(said, ""),
                Err(why) => assert!(!said.is_empty() && why.contains(said), "{why}, expected {said:?}"),
            }
        }
    }

    #[test]
    fn a_file_is_replaced_whole() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = path(folder.path());
        assert_eq!(LastGood::read(&path, 0), Ok(None));
        for _ in 0..2 {
            write(&path, &file().encode()).expect("written");
        }
        assert_eq!(LastGood::read(&path, CLOCK.unix_ms), Ok(Some(file())));
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 1);
        assert!(write(&path.join("below"), b"").is_err());
    }
}
