//! The journal: what happened and why, for `waymark history` (SPEC 8.1). Here: its records and how they are read;
//! `writer` appends them.
//!
//! ```text
//! state-dir/journal      one JSON object a line, appended; at 8 MiB it becomes
//! state-dir/journal.1    which replaces the one before
//! ```
//! A line that is no record, as the last one after the process was killed while it wrote, is passed over.

mod writer;

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use ::time::OffsetDateTime;
use serde::{Deserialize, Serialize};

use super::World;
use super::status::{describe_target, word};
use crate::dns::Name;
use crate::fleet::{self, Family, TargetId};
use crate::health::Transition;
use crate::time::unix_milliseconds;

pub use writer::Journal;

/// Octets that a reason keeps.
const LONGEST_REASON: usize = 500;

/// Where the journal of a server is.
#[must_use]
pub fn path(state_dir: &Path) -> PathBuf {
    state_dir.join("journal")
}

/// Where the part before it is.
fn earlier(path: &Path) -> PathBuf {
    path.with_extension("1")
}

/// Something that happened.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Record {
    /// When, milliseconds since the Unix epoch.
    pub time_ms: u64,
    /// The same by RFC 3339, in UTC.
    pub time: String,
    /// What.
    pub kind: Kind,
    /// To what, as in the log: `instance/web/eu-1 (check/web at 192.0.2.1:80)`.
    pub target: String,
    /// What was before.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub old: String,
    /// What is from now on.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub new: String,
    /// Why, in words.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Names that it is found by, beside those in `target`: `region/eu-west`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<String>,
    /// Records before it that could not be written.
    #[serde(skip_serializing_if = "is_zero")]
    pub lost: u64,
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// Kinds of record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A verdict changed.
    Verdict,
    /// A configuration was accepted.
    Reload,
    /// A configuration was refused.
    ReloadRefused,
    /// A geo file was replaced.
    Geo,
    /// The target of a CNAME has other addresses.
    Target,
    /// A zone that does not come from a file has changed, or is not known any more.
    Zone,
    /// The server answers.
    Start,
    /// The server was told to end.
    Stop,
    /// A service began or ceased to answer though nothing works.
    FailOpen,
    /// The operator overrode what checks say, or that ended.
    Override,
    /// A check is not believed, or is believed again.
    Suspect,
    /// A region stays out of a service until it is resumed, or does so no more.
    Failback,
    /// This node cannot see the world, or sees it again.
    Blind,
    /// The agent of an instance drains it, or does so no more.
    Agent,
    /// Written by a version that knows more.
    #[default]
    #[serde(other)]
    Other,
}

impl Kind {
    /// As in the file.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Kind::Verdict => "verdict",
            Kind::Reload => "reload",
            Kind::ReloadRefused => "reload-refused",
            Kind::Zone => "zone",
            Kind::Geo => "geo",
            Kind::Target => "target",
            Kind::Start => "start",
            Kind::Stop => "stop",
            Kind::FailOpen => "fail-open",
            Kind::Override => "override",
            Kind::Suspect => "suspect",
            Kind::Failback => "failback",
            Kind::Blind => "blind",
            Kind::Agent => "agent",
            Kind::Other => "other",
        }
    }
}

impl Record {
    /// Something that happens now, of which the rest is to be said.
    #[must_use]
    pub fn new(kind: Kind, target: impl Into<String>) -> Record {
        let time_ms = unix_milliseconds();
        Record { time_ms, time: rfc_3339(time_ms), kind, target: target.into(), ..Record::default() }
    }

    /// A change of verdict.
    pub(super) fn verdict(world: &World, target: TargetId, transition: &Transition) -> Record {
        Record {
            old: word(transition.from).into(),
            new: word(transition.to).into(),
            reason: short(&transition.reason),
            names: names(world, target),
            ..Record::new(Kind::Verdict, describe_target(world, target))
        }
    }

    /// Something of which `reason` says all.
    pub(super) fn said(kind: Kind, target: impl Into<String>, reason: &str) -> Record {
        Record { reason: short(reason), ..Record::new(kind, target) }
    }

    /// A service begins to fail open, or ceases to.
    pub(super) fn fail_open(service: &str, begins: bool) -> Record {
        let (healthy, open) = ("healthy instances", "when-all-down");
        let (old, new, reason) = match begins {
            true => (healthy, open, "all instances down for some clients"),
            false => (open, healthy, "some instance works again"),
        };
        let (old, new, reason) = (old.into(), new.into(), reason.into());
        Record { old, new, reason, ..Record::new(Kind::FailOpen, format!("service/{service}")) }
    }

    /// A region is latched out of a service, or no more; `why` in words.
    pub(super) fn latch(service: &str, region: &str, family: Family, is: bool, why: &str) -> Record {
        let (new, reason) = (if is { "latched out" } else { "latched no more" }, why);
        let (new, reason) = (new.into(), format!("{reason} ({family})"));
        let names = vec![format!("region/{region}")];
        Record { new, reason, names, ..Record::new(Kind::Failback, format!("service/{service} region/{region}")) }
    }

    /// A geo file that was replaced, and what became of it.
    pub(super) fn geo(file: &str, new: &str, reason: &str) -> Record {
        Record { new: new.into(), reason: short(reason), ..Record::new(Kind::Geo, format!("geo/{file}")) }
    }

    /// The target of a CNAME that has other addresses.
    pub(super) fn target(name: &Name, [old, new]: [&[IpAddr]; 2]) -> Record {
        let shown = |addresses: &[IpAddr]| {
            let each: Vec<String> = addresses.iter().map(ToString::to_string).collect();
            if each.is_empty() { "no address".to_string() } else { each.join(" ") }
        };
        Record { old: shown(old), new: shown(new), ..Record::new(Kind::Target, format!("target/{}", name.to_plain())) }
    }

    /// A zone that has another serial, or none.
    pub(super) fn zone(name: &Name, [old, new]: [Option<u32>; 2]) -> Record {
        let shown = |serial: Option<u32>| serial.map_or("not known".to_string(), |serial| format!("serial {serial}"));
        Record { old: shown(old), new: shown(new), ..Record::new(Kind::Zone, format!("zone/{}", name.to_plain())) }
    }

    /// A reload that was refused.
    pub(super) fn refused(problems: &[String]) -> Record {
        Record {
            new: "refused".into(),
            reason: first_of(problems),
            ..Record::new(Kind::ReloadRefused, "configuration")
        }
    }

    /// A reload that was accepted, and what is doubtful about it.
    pub(super) fn reload(world: &World, warnings: &[String]) -> Record {
        let (services, targets) = (world.steering.configured(), world.fleet().targets.len());
        let mut reason = format!("{services} services, {targets} targets");
        if !warnings.is_empty() {
            reason = short(&format!("{reason}; {}", first_of(warnings)));
        }
        Record { new: "accepted".into(), reason, ..Record::new(Kind::Reload, "configuration") }
    }

    /// Whether a pattern names what it is about: as a whole (`instance/web/*`, `region/eu-west`), or, without a slash,
    /// by any part (`eu-1`, `eu-*`).
    #[must_use]
    pub fn is_about(&self, pattern: &str) -> bool {
        let in_target = self.target.split_whitespace().map(|part| part.trim_matches(['(', ')']));
        in_target.chain(self.names.iter().map(String::as_str)).any(|name| {
            if pattern.contains('/') {
                fleet::glob(pattern, name)
            } else {
                name.split('/').any(|part| fleet::glob(pattern, part))
            }
        })
    }
}

/// The pools and regions of the instances that a target is probed for.
fn names(world: &World, target: TargetId) -> Vec<String> {
    let fleet = world.fleet();
    let of_instance = |id| {
        let instance = fleet.instance(id);
        let regions = instance.regions.iter().map(|&region| format!("region/{}", fleet.region(region).name));
        std::iter::once(format!("pool/{}", fleet.pool(instance.pool).name)).chain(regions)
    };
    let mut names: Vec<String> = world.owners_of(target).flat_map(of_instance).collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// The first of some texts in one line, and how many more there are.
fn first_of(texts: &[String]) -> String {
    let first = texts.first().map(|text| text.split_whitespace().collect::<Vec<_>>().join(" "));
    let first = short(&first.unwrap_or_default());
    match texts.len() {
        0 | 1 => first,
        count => format!("{first} (and {} more)", count - 1),
    }
}

/// A text that is not longer than a reason may be.
fn short(text: &str) -> String {
    text[..text.floor_char_boundary(LONGEST_REASON)].into()
}

/// `2026-01-02T03:04:05.678Z`, of milliseconds since the Unix epoch.
#[must_use]
pub fn rfc_3339(unix_ms: u64) -> String {
    let Ok(at) = OffsetDateTime::from_unix_timestamp_nanos(i128::from(unix_ms) * 1_000_000) else {
        return String::new();
    };
    let (year, month, day) = at.to_calendar_date();
    let (hour, minute, second, millisecond) = at.to_hms_milli();
    format!("{year:04}-{:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millisecond:03}Z", u8::from(month))
}

/// Which records somebody wants.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// A pattern of [`Record::is_about`].
    pub target: Option<String>,
    /// Not before, milliseconds since the Unix epoch.
    pub since_ms: u64,
    /// At most so many, the newest.
    pub limit: usize,
}

/// The records that are wanted, the oldest first. None when nothing was ever written.
///
/// # Errors
/// When a file cannot be read.
pub fn read(path: &Path, wanted: &Wanted) -> io::Result<Vec<Record>> {
    let (newer, older) = (open(path)?, open(&earlier(path))?);
    let mut found = VecDeque::new();
    // One that was renamed between the two is there twice.
    let is_same = matches!((&newer, &older), (Some(newer), Some(older)) if inode(newer)? == inode(older)?);
    for file in older.filter(|_| !is_same).into_iter().chain(newer) {
        for line in BufReader::new(file).split(b'\n') {
            let Ok(record) = serde_json::from_slice::<Record>(&line?) else { continue };
            let is_wanted = record.time_ms >= wanted.since_ms
                && wanted.target.as_ref().is_none_or(|pattern| record.is_about(pattern));
            if is_wanted {
                if found.len() >= wanted.limit {
                    found.pop_front();
                }
                found.push_back(record);
            }
        }
    }
    Ok(found.into())
}

fn open(path: &Path) -> io::Result<Option<File>> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn inode(file: &File) -> io::Result<(u64, u64)> {
    file.metadata().map(|data| (data.dev(), data.ino()))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn times_are_shown_in_utc() {
        assert_eq!(rfc_3339(1_700_000_000_123), "2023-11-14T22:13:20.123Z");
        assert_eq!(rfc_3339(1_700_000_000_000), "2023-11-14T22:13:20.000Z");
        assert_eq!(rfc_3339(u64::MAX), "");
    }

    #[test]
    fn kinds_are_called_as_they_are_written() {
        let kinds =
            [Kind::Verdict, Kind::Reload, Kind::ReloadRefused, Kind::Start, Kind::Stop, Kind::FailOpen, Kind::Other];
        for kind in kinds {
            assert_eq!(serde_json::to_value(kind).expect("a word"), kind.word());
        }
    }

    #[test]
    fn records_are_found_by_name() {
        let record = Record {
            names: vec!["pool/web".into(), "region/eu-west".into()],
            ..Record::new(Kind::Verdict, "instance/web/eu-1 instance/api/eu-9 (check/web at 192.0.2.1:80)")
        };
        for (pattern, is_about) in [
            ("instance/web/eu-1", true),
            ("instance/web/*", true),
            ("instance/api/eu-9", true),
            ("instance/web/eu-2", false),
            ("region/eu-west", true),
            ("region/*", true),
            ("region/us-east", false),
            ("pool/web", true),
            ("check/web", true),
            ("eu-1", true),
            ("eu-*", true),
            ("*", true),
            ("u-1", false),
            ("192.0.2.1:80", true),
            ("", false),
        ] {
            assert_eq!(record.is_about(pattern), is_about, "{pattern}");
        }
    }

    #[test]
    fn a_refusal_is_one_short_line() {
        let refused = Record::refused(&["error: unknown key\n  --> a:1:2\n".into(), "x".into(), "y".into()]);
        assert_eq!(refused.reason, "error: unknown key --> a:1:2 (and 2 more)");
        assert_eq!(Record::refused(&["ä".repeat(1000)]).reason, "ä".repeat(250));
        assert_eq!(Record::refused(&[]).reason, "");
    }

    #[test]
    fn reads_what_is_wanted_and_passes_over_what_is_torn() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = path(folder.path());
        let all = Wanted { target: None, since_ms: 0, limit: 100 };
        assert!(read(&path, &all).expect("nothing").is_empty());
        let line = |time_ms, target: &str| {
            let record = Record { time_ms, target: target.into(), kind: Kind::Verdict, ..Record::default() };
            serde_json::to_string(&record).expect("JSON") + "\n"
        };
        fs::write(earlier(&path), line(1, "instance/web/a") + &line(2, "instance/web/b")).expect("written");
        let known = line(3, "instance/web/a");
        let newer = r#"{"time_ms":4,"kind":"drained","target":"instance/web/a","who":"me"}"#;
        fs::write(&path, format!("{known}{newer}\n\n\u{0}\n{}", &known[..20])).expect("written");
        let times = |wanted: &Wanted| {
            read(&path, wanted).expect("read").iter().map(|record| record.time_ms).collect::<Vec<_>>()
        };
        assert_eq!(times(&all), [1, 2, 3, 4]);
        assert_eq!(times(&Wanted { limit: 2, ..all.clone() }), [3, 4]);
        assert_eq!(times(&Wanted { since_ms: 2, ..all.clone() }), [2, 3, 4]);
        assert_eq!(times(&Wanted { target: Some("instance/*/b".into()), ..all.clone() }), [2]);
        fs::rename(&path, earlier(&path)).expect("renamed");
        fs::hard_link(earlier(&path), &path).expect("linked");
        assert_eq!(times(&all), [3, 4]);
    }
}
