//! Reading the configuration's files into one document: TOML with all syntax errors, `include` and its globs, and one
//! name defined twice (SPEC 1.1).

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};
use std::sync::LazyLock;

use super::findings::Findings;
use super::geo_files::Stamp;
use super::keys::{self, DEFAULTS, EMPTY, PERSONAL, Shape, TOP};
use super::kinds;
use super::text;
use super::value::{Data, Entry, Table, Value, quoted};
use crate::fleet::{Word, glob};
use crate::problem::{Problem, SourceId, Sources, Span};

/// Largest file that is read, in octets.
const MAX_FILE: u64 = 1 << 30;
/// Most files that one configuration includes.
const MAX_INCLUDED: usize = 10_000;

/// All files of a configuration, merged.
#[derive(Default)]
pub(super) struct Document {
    singles: HashMap<&'static str, Table>,
    named: HashMap<&'static str, Named>,
    /// `[[tests]]`.
    pub(super) tests: Vec<Value>,
}

/// `[regions.…]` and such, in configured order.
#[derive(Default)]
pub(super) struct Named {
    pub(super) entries: Vec<Entry>,
    numbers: HashMap<Word, u32>,
}

/// A section that is not there.
static NOTHING: LazyLock<Named> = LazyLock::new(Named::default);

impl Named {
    /// The place of a name in configured order.
    pub(super) fn number(&self, name: &str) -> Option<u32> {
        self.numbers.get(name).copied()
    }

    /// All names, in configured order.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|entry| &*entry.name)
    }

    fn find(&self, name: &str) -> Option<&Entry> {
        self.number(name).map(|number| &self.entries[number as usize])
    }

    fn push(&mut self, entry: Entry) {
        self.numbers.insert(entry.name.clone(), self.entries.len() as u32);
        self.entries.push(entry);
    }

    /// Drops entries; the others are numbered anew.
    fn retain(&mut self, keep: impl Fn(&Entry) -> bool) {
        self.entries.retain(keep);
        self.numbers = self.entries.iter().map(|entry| entry.name.clone()).zip(0..).collect();
    }
}

impl Document {
    /// `[server]` and such; empty when not there.
    pub(super) fn single(&self, name: &str) -> &Table {
        self.singles.get(name).unwrap_or(&EMPTY)
    }

    /// `[regions.…]` and such, with the names of all.
    pub(super) fn section(&self, name: &str) -> &Named {
        self.named.get(name).unwrap_or(&NOTHING)
    }

    /// `[regions.…]` and such, in configured order.
    pub(super) fn named(&self, name: &str) -> &[Entry] {
        &self.section(name).entries
    }

    /// One of them by its name.
    pub(super) fn find(&self, section: &str, name: &str) -> Option<&Entry> {
        self.section(section).find(name)
    }

    /// Drops what a section that was compiled says, which may be most of the document; its names stay.
    pub(super) fn forget(&mut self, section: &str) {
        for entry in self.named.get_mut(section).into_iter().flat_map(|named| &mut named.entries) {
            entry.value.data = Data::Broken;
        }
    }
}

/// Reads `path` and what it includes.
pub(super) fn read(path: &Path, sources: &mut Sources, findings: &mut Findings) -> Document {
    let mut document = Document::default();
    let text = match read_text(path) {
        Ok(text) => text,
        Err(error) => {
            let problem = Problem::placeless(format!("{}: {error}", path.display()));
            findings.syntax.push(problem.hint("name the configuration with `--config FILE`"));
            sources.add(path, String::new());
            return document;
        }
    };
    let source = sources.add(path, text);
    let root = parse(sources, source, findings);
    let included = included_files(&root, path, findings);
    document.take(root, findings, true);
    for (path, span) in included {
        match read_text(&path) {
            Ok(text) => {
                let source = sources.add(&path, text);
                let root = parse(sources, source, findings);
                document.take(root, findings, false);
            }
            Err(error) => findings.local.push(unreadable(span, &path, &error)),
        }
    }
    document
}

/// The problem of a file that is named at `span`.
pub(super) fn unreadable(span: Span, path: &Path, error: &io::Error) -> Problem {
    let problem = Problem::error(span, format!("{}: {error}", path.display()));
    match error.kind() {
        io::ErrorKind::NotFound => problem.hint("relative paths are relative to the file that names them"),
        _ => problem,
    }
}

/// Reads a text file.
pub(super) fn read_text(path: &Path) -> io::Result<String> {
    text(read_octets(path)?)
}

/// Reads a text file that nobody else should be able to read.
pub(super) fn read_secret(path: &Path, span: Span, findings: &mut Findings) -> Option<String> {
    match read_text(path) {
        Ok(text) => {
            tell_open(path, span, findings);
            Some(text)
        }
        Err(error) => {
            findings.local.push(unreadable(span, path, &error));
            None
        }
    }
}

/// Warns of a secret that anybody may read.
pub(super) fn tell_open(path: &Path, span: Span, findings: &mut Findings) {
    if fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o007 != 0) {
        let problem = Problem::warning(span, format!("{}: anybody on this machine may read it", path.display()));
        findings.local.push(problem.hint(format!("chmod o= {}", path.display())));
    }
}

/// Octets as text.
pub(super) fn text(octets: Vec<u8>) -> io::Result<String> {
    String::from_utf8(octets).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let line = error.as_bytes()[..at].iter().filter(|octet| **octet == b'\n').count() + 1;
        io::Error::new(io::ErrorKind::InvalidData, format!("not UTF-8 text (line {line})"))
    })
}

/// Reads a file of bounded size.
pub fn read_octets(path: &Path) -> io::Result<Vec<u8>> {
    read_stamped(path).map(|(octets, _)| octets)
}

/// Reads a file of bounded size, and says which version of it that was.
pub(super) fn read_stamped(path: &Path) -> io::Result<(Vec<u8>, Stamp)> {
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    // What else reads as a file (a pipe, a folder) says no length.
    let length = metadata.len().min(MAX_FILE);
    let mut octets = Vec::with_capacity(length as usize + 1);
    file.take(MAX_FILE + 1).read_to_end(&mut octets)?;
    if octets.len() as u64 > MAX_FILE {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("larger than {MAX_FILE} octets")));
    }
    // As it was before it was read: what was written meanwhile is another version.
    Ok((octets, Stamp::of(&metadata)))
}

/// A path named in file `source`.
pub(super) fn resolve(sources: &Sources, source: SourceId, named: &str) -> PathBuf {
    let base = sources.get(source).path.parent().unwrap_or(Path::new(""));
    base.join(named)
}

/// Parses the text of `source`, keeps every syntax error.
pub(super) fn parse(sources: &Sources, source: SourceId, findings: &mut Findings) -> Table {
    let mut entries = Vec::new();
    super::syntax::parse(&sources.get(source).text, source, findings, &mut |entry| entries.push(entry));
    Table::in_order(entries)
}

impl Document {
    /// `[services.www.example.com]` is no service `www`: what is said of it is that quotes are missing, nothing else.
    fn drop_unquoted(&mut self, findings: &mut Findings) {
        for group in DOMAIN_NAMES {
            let Some(named) = self.named.get_mut(group) else { continue };
            let unquoted: Vec<Problem> = named.entries.iter().filter_map(|entry| unquoted_name(group, entry)).collect();
            if !unquoted.is_empty() {
                named.retain(|entry| unquoted_name(group, entry).is_none());
                findings.local.extend(unquoted);
            }
        }
    }

    /// Merges a file's tables in; what is no known section is a problem.
    fn take(&mut self, root: Table, findings: &mut Findings, is_main: bool) {
        for entry in root.entries {
            let Some((name, shape)) = TOP.iter().find(|(name, _)| entry.name == *name) else {
                findings.local.push(unknown_section(&entry));
                continue;
            };
            match shape {
                Shape::Include if is_main => {}
                Shape::Include => findings.local.push(
                    Problem::error(entry.key, "`include` in an included file")
                        .hint("only the main configuration file includes others"),
                ),
                Shape::Single(_) => self.take_single(name, entry, findings),
                Shape::Named(_) | Shape::Defaults => self.take_named(name, entry, findings),
                Shape::Several(_) => self.take_several(entry, findings),
            }
        }
    }

    fn take_single(&mut self, name: &'static str, entry: Entry, findings: &mut Findings) {
        let Some(table) = into_table(entry, findings) else { return };
        let merged = self.singles.entry(name).or_default();
        let mut entries = std::mem::take(&mut merged.entries).into_vec();
        for entry in table.entries {
            match entries.iter().find(|first| first.name == entry.name) {
                Some(first) => findings.local.push(twice(&entry, first)),
                None => entries.push(entry),
            }
        }
        merged.entries = entries.into();
    }

    fn take_named(&mut self, name: &'static str, entry: Entry, findings: &mut Findings) {
        let Some(table) = into_table(entry, findings) else { return };
        let named = self.named.entry(name).or_default();
        for entry in table.entries {
            match named.find(&entry.name) {
                Some(first) => findings.local.push(twice(&entry, first)),
                None => named.push(entry),
            }
        }
    }

    fn take_several(&mut self, entry: Entry, findings: &mut Findings) {
        match entry.value.data {
            Data::Array(values) => self.tests.extend(values),
            _ => {
                let message = format!("expected an array of tables, found {}", entry.value.type_name());
                findings
                    .local
                    .push(Problem::error(entry.key, message).hint(format!("write [[{}]] in two brackets", entry.name)));
            }
        }
    }
}

fn into_table(entry: Entry, findings: &mut Findings) -> Option<Table> {
    match entry.value.data {
        Data::Table(table) => Some(table),
        Data::Broken => None,
        _ => {
            findings.local.push(*kinds::wrong_type(&entry.value, "a table"));
            None
        }
    }
}

fn twice(second: &Entry, first: &Entry) -> Problem {
    Problem::error(second.key, format!("{} is defined twice", quoted(&second.name)))
        .also(first.key, "first defined here")
}

fn unknown_section(entry: &Entry) -> Problem {
    let names: Vec<&str> = TOP.iter().map(|(name, _)| *name).collect();
    let what = if entry.value.table().is_some() { "section" } else { "key" };
    let problem = Problem::error(entry.key, format!("unknown {what} {}", quoted(&entry.name)));
    keys::unknown(problem.allowed(names.join(", ")), &entry.name, &names)
}

/// Checks all keys and values one by one, before anything is compiled.
pub(super) fn check_values(document: &mut Document, findings: &mut Findings) {
    document.drop_unquoted(findings);
    let problems = &mut findings.local;
    for (name, shape) in TOP {
        match shape {
            Shape::Single(section) => keys::check_table(section, document.single(name), problems),
            Shape::Named(section) => {
                for entry in document.named(name) {
                    check_named(name, section, entry, problems);
                }
            }
            Shape::Several(section) => {
                for value in &document.tests {
                    keys::check_whole_table(section, value, problems);
                }
            }
            Shape::Defaults => {
                for entry in document.named(name) {
                    check_defaults(entry, problems);
                }
            }
            Shape::Include => {}
        }
    }
}

fn check_named(group: &str, section: &'static keys::Section, entry: &Entry, problems: &mut Vec<Problem>) {
    if DOMAIN_NAMES.contains(&group) {
        if let Err(message) = kinds::domain_name_of(&entry.name) {
            problems.push(Problem::error(entry.key, message));
        }
    } else if !text::is_name(&entry.name) {
        problems.push(bad_name(entry));
    }
    kinds::check(&kinds::Kind::Table(section), &entry.value, problems);
}

/// A name that cannot be one of a region, check, pool, map or instance.
pub(super) fn bad_name(entry: &Entry) -> Problem {
    Problem::error(entry.key, format!("{} cannot be a name", quoted(&entry.name)))
        .allowed("letters, digits, \"-\", \"_\", \".\"; at most 63; begins with a letter, digit or \"_\"")
}

/// Sections whose names are domain names.
const DOMAIN_NAMES: [&str; 3] = ["keys", "zones", "services"];

/// `[services.www.example.com]` nests tables; the name must be quoted.
fn unquoted_name(group: &str, entry: &Entry) -> Option<Problem> {
    let mut inside = Vec::new();
    let mut table = entry.value.table()?;
    while let [Entry { name, value: Value { data: Data::Table(inner), .. }, .. }] = &table.entries[..] {
        if keys::is_key(group, name) {
            break;
        }
        inside.push(&**name);
        table = inner;
    }
    (!inside.is_empty()).then(|| {
        let full = format!("{}.{}", entry.name, inside.join("."));
        Problem::error(entry.key, "a domain name without quotes")
            .hint(format!("write [{group}.\"{full}\"]: in TOML a dot outside quotes opens a table inside"))
    })
}

fn check_defaults(entry: &Entry, problems: &mut Vec<Problem>) {
    let Some((_, section)) = DEFAULTS.iter().find(|(name, _)| entry.name == *name) else {
        let names: Vec<&str> = DEFAULTS.iter().map(|(name, _)| *name).collect();
        let problem = Problem::error(entry.key, format!("unknown key {} in [defaults]", quoted(&entry.name)));
        problems.push(keys::unknown(problem.allowed(names.join(", ")), &entry.name, &names));
        return;
    };
    kinds::check(&kinds::Kind::Table(section), &entry.value, problems);
    let Some(table) = entry.value.table() else { return };
    for given in table.entries.iter().filter(|given| PERSONAL.contains(&given.name.as_str())) {
        let message = format!("`{}` in [defaults.{}]", given.name, entry.name);
        problems.push(Problem::error(given.key, message).hint(format!("give it in each {}", entry.name)));
    }
}

/// What `include` names, in order, each with the place that names it.
fn included_files(root: &Table, main: &Path, findings: &mut Findings) -> Vec<(PathBuf, Span)> {
    let Some(value) = root.get("include") else { return Vec::new() };
    let base = main.parent().unwrap_or(Path::new(""));
    let mut seen = HashSet::from([main.to_path_buf()]);
    let mut files = Vec::new();
    for element in value.elements() {
        let pattern = match kinds::text(element) {
            Ok(pattern) => pattern,
            Err(problem) => {
                kinds::report::<()>(Err(problem), element, &mut findings.local);
                continue;
            }
        };
        if pattern.contains("**") {
            let problem = Problem::error(element.span, "`**` in a pattern");
            findings.local.push(problem.hint("name each folder: \"services/*/*.toml\""));
            continue;
        }
        for path in expand(base, pattern) {
            if files.len() < MAX_INCLUDED && seen.insert(path.clone()) {
                files.push((path, element.span));
            }
        }
    }
    files
}

/// The files that a pattern names, sorted; a pattern without wildcard names one, whether it exists or not.
fn expand(base: &Path, pattern: &str) -> Vec<PathBuf> {
    let mut found = vec![base.to_path_buf()];
    for component in Path::new(pattern).components() {
        found = match component {
            Component::Normal(part) if part.to_string_lossy().contains('*') => {
                found.iter().flat_map(|folder| matching(folder, &part.to_string_lossy())).collect()
            }
            other => found.iter().map(|path| path.join(other)).collect(),
        };
    }
    if pattern.contains('*') {
        found.retain(|path| path.is_file());
    }
    found.sort();
    found
}

/// Entries of a folder that match; hidden ones only when the pattern begins with a dot.
fn matching(folder: &Path, pattern: &str) -> Vec<PathBuf> {
    let listed = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let Ok(entries) = std::fs::read_dir(listed) else { return Vec::new() };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names
        .filter(|name| glob(pattern, name) && (pattern.starts_with('.') || !name.starts_with('.')))
        .map(|name| folder.join(name))
        .collect()
}
