//! Reading a table's fields: what it gives itself, then what it extends, then `[defaults.…]`, then the table of keys
//! (SPEC 1.4). Values were checked before; one that is wrong reads as if it were not there.

use std::net::IpAddr;
use std::time::Duration;

use super::files::{Document, Named};
use super::findings::Findings;
use super::keys::{self, Default, PERSONAL, Section};
use super::kinds::{self, Kind, Read};
use super::value::{Data, Entry, Table, Value, quoted};
use crate::fleet::Few;
use crate::problem::{Problem, SourceId, Span};

/// The fields of one table.
pub(super) struct Fields<'d> {
    section: &'static Section,
    /// Where its name stands, for what is missing.
    pub(super) place: Span,
    pub(super) own: Option<&'d Table>,
    /// What it takes from others, nearest first.
    pub(super) inherited: Vec<&'d Table>,
}

impl<'d> Fields<'d> {
    /// A table that inherits nothing.
    pub(super) fn alone(section: &'static Section, place: Span, table: &'d Table) -> Fields<'d> {
        Fields { section, place, own: Some(table), inherited: Vec::new() }
    }

    /// A named table with all that it takes from others; `kind` is its name in `[defaults]`.
    pub(super) fn of(
        document: &'d Document,
        group: &str,
        kind: &str,
        section: &'static Section,
        entry: &'d Entry,
        findings: &mut Findings,
    ) -> Fields<'d> {
        let mut inherited = Vec::new();
        let mut path = vec![entry];
        let mut at = entry;
        while let Some(value) = at.value.table().and_then(|table| table.get("extends")) {
            let Some(name) = value.text() else { break };
            let Some(next) = document.find(group, name) else {
                if path.len() == 1 {
                    findings.cross.push(unknown_reference(value, kind, name, document.section(group).names()));
                }
                break;
            };
            if path.iter().any(|seen| seen.name == next.name) {
                let is_first = path.iter().all(|seen| appears(entry) <= appears(seen));
                if next.name == entry.name && is_first {
                    findings.cross.push(cycle("extends", &path, value));
                }
                break;
            }
            path.push(next);
            inherited.extend(next.value.table());
            at = next;
        }
        if let Some(defaults) = document.find("defaults", kind) {
            inherited.extend(defaults.value.table());
        }
        Fields { section, place: entry.key, own: entry.value.table(), inherited }
    }

    /// The value of a key wherever it is given.
    pub(super) fn find(&self, name: &str) -> Option<&'d Value> {
        self.own(name).or_else(|| {
            let mut givers = self.inherited.iter().filter(|_| !PERSONAL.contains(&name));
            givers.find_map(|table| table.get(name))
        })
    }

    /// The value that the table itself gives.
    pub(super) fn own(&self, name: &str) -> Option<&'d Value> {
        self.own?.get(name)
    }

    /// Where to point when something is wrong with a key: its value, else the table's name.
    pub(super) fn at(&self, name: &str) -> Span {
        self.find(name).map_or_else(|| self.place, |value| value.span)
    }

    /// Says which required keys nobody gives.
    pub(super) fn require(&self, findings: &mut Findings) {
        let Some(own) = self.own else { return };
        for key in self.section.keys.iter().filter(|key| matches!(key.default, Default::Required)) {
            if self.find(key.name).is_none() {
                findings.cross.extend(keys::missing(self.section, key, own, self.place));
            }
        }
    }

    /// Reads a key: what is given and right, else the default.
    fn read<T>(&self, name: &str, read: impl Fn(&Value) -> Option<T>) -> Option<T> {
        let given = self.find(name).and_then(&read);
        given.or_else(|| read(self.section.key(name).default_value()?))
    }

    pub(super) fn boolean(&self, name: &str) -> bool {
        self.read(name, |value| kinds::boolean(value).ok()).unwrap_or_default()
    }

    /// An integer in the key's range, which the caller's type holds.
    pub(super) fn integer<T: TryFrom<i128>>(&self, name: &str) -> Option<T> {
        let Kind::Integer { min, max } = self.section.key(name).kind else { return None };
        self.read(name, |value| T::try_from(kinds::integer(value, min, max).ok()?).ok())
    }

    pub(super) fn number(&self, name: &str) -> Option<f64> {
        let Kind::Number { min, max } = self.section.key(name).kind else { return None };
        self.read(name, |value| kinds::number(value, min, max).ok())
    }

    pub(super) fn text(&self, name: &str) -> Option<String> {
        let words = match self.section.key(name).kind {
            Kind::Choice { words, .. } => Some(words),
            _ => None,
        };
        let is_word = |text: &&str| words.is_none_or(|words| words.contains(text));
        self.read(name, |value| kinds::text(value).ok().filter(is_word).map(str::to_string))
    }

    pub(super) fn duration(&self, name: &str) -> Option<Duration> {
        let Kind::Duration { min_ms, max_ms } = self.section.key(name).kind else { return None };
        self.read(name, |value| kinds::duration(value, min_ms, max_ms).ok())
    }

    /// Whether a duration is given but wrong, which is said elsewhere; what is made of it stands for nothing.
    pub(super) fn is_wrong_duration(&self, name: &str) -> bool {
        let Kind::Duration { min_ms, max_ms } = self.section.key(name).kind else { return false };
        self.find(name).is_some_and(|value| kinds::duration(value, min_ms, max_ms).is_err())
    }

    pub(super) fn share(&self, name: &str) -> Option<u16> {
        let Kind::Share { max } = self.section.key(name).kind else { return None };
        self.read(name, |value| u16::try_from(kinds::share(value, max).ok()?).ok())
    }

    pub(super) fn address(&self, name: &str) -> Option<IpAddr> {
        self.read(name, |value| kinds::address(value).ok())
    }

    /// All elements that are right, each with its value.
    pub(super) fn each<T>(&self, name: &str, read: impl Fn(&Value) -> Read<T>) -> Few<(T, Span)> {
        let all = |value: &Value| -> Few<(T, Span)> {
            value.elements().iter().filter_map(|value| Some((read(value).ok()?, value.span))).collect()
        };
        match self.find(name) {
            Some(value) => all(value),
            None => self.section.key(name).default_value().map(all).unwrap_or_default(),
        }
    }

    /// Reads a key with a reader of its own.
    pub(super) fn custom<T>(&self, name: &str, read: impl Fn(&Value) -> Option<T>) -> Option<T> {
        self.read(name, read)
    }
}

/// A name that names nothing.
pub(super) fn unknown_reference<'a>(
    value: &Value,
    what: &str,
    found: &str,
    names: impl IntoIterator<Item = &'a str>,
) -> Problem {
    const MAX_LISTED: usize = 20;
    let names: Vec<&str> = names.into_iter().collect();
    let problem = Problem::error(value.span, format!("there is no {what} {}", quoted(found)));
    let problem = match names.len() {
        0 => problem.allowed(format!("none: no {what} is configured")),
        1..=MAX_LISTED => problem.allowed(names.join(", ")),
        count => problem.allowed(format!("{} and {} more", names[..MAX_LISTED].join(", "), count - MAX_LISTED)),
    };
    kinds::did_you_mean(problem, found, names)
}

/// Things that name each other in a circle; told once, at the one that comes first.
fn cycle(key: &str, path: &[&Entry], last: &Value) -> Problem {
    let first = path[0];
    let mut names: Vec<&str> = path.iter().map(|entry| entry.name.as_str()).collect();
    names.push(&first.name);
    let mut problem = Problem::error(last.span, format!("`{key}` goes round in a circle: {}", names.join(" → ")));
    if path.len() > 1 {
        for entry in path {
            if let Some(value) = entry.value.table().and_then(|table| table.get(key))
                && value.span != last.span
            {
                problem = problem.also(value.span, format!("{} takes from here", quoted(&entry.name)));
            }
        }
    }
    problem
}

/// Order of appearance.
fn appears(entry: &Entry) -> (SourceId, u32) {
    entry.key.order()
}

/// Entries of a table value, with their keys.
pub(super) fn entries(value: &Value) -> &[Entry] {
    match &value.data {
        Data::Table(table) => &table.entries,
        _ => &[],
    }
}

/// Names of one kind of thing and their numbers, in configured order.
pub(super) struct Index<'d> {
    what: &'static str,
    pub(super) named: &'d Named,
}

impl<'d> Index<'d> {
    pub(super) fn new(what: &'static str, named: &'d Named) -> Index<'d> {
        Index { what, named }
    }

    /// The number of what a value names; a problem when there is none.
    pub(super) fn resolve(&self, value: &Value, findings: &mut Findings) -> Option<u32> {
        // Looking for near misses in many names for many problems that nobody will see takes long.
        const MAX_SUGGESTED: usize = 1_000;
        let name = kinds::text(value).ok()?;
        let number = self.named.number(name);
        if number.is_none() {
            let most = if findings.cross.len() < MAX_SUGGESTED { usize::MAX } else { 0 };
            findings.cross.push(unknown_reference(value, self.what, name, self.named.names().take(most)));
        }
        number
    }
}
