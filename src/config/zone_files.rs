//! Zone files from the disk: what `$INCLUDE` names is read from below one folder only, whatever links and `..` say, so
//! that a zone that somebody else writes shows nothing else of this machine.

use std::io;
use std::path::{Path, PathBuf};

use super::files;
use crate::dns::Name;
use crate::problem::{Problem, Sources};
use crate::zone::{self, Records};

/// Files below one folder.
struct Below {
    /// Resolved.
    root: PathBuf,
}

impl zone::Files for Below {
    fn resolve(&self, path: &Path) -> io::Result<PathBuf> {
        path.canonicalize()
    }

    fn root(&self) -> Option<&Path> {
        Some(&self.root)
    }

    fn read(&self, resolved: &Path) -> io::Result<String> {
        // A pipe would keep the load waiting.
        if !resolved.metadata()?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        files::read_text(resolved)
    }
}

/// Why a zone file was not read.
#[derive(Debug)]
pub(super) enum Unread {
    /// The file itself.
    File(io::Error),
    /// The folder that included files are to be below.
    Root(io::Error),
}

/// Reads the zone file at `path`, and what it includes from below `root`, its own folder when that is `None`. The text of
/// the file says whose zone it is, by `origin`; of nobody's zone there are no records.
pub(super) fn read(
    sources: &mut Sources,
    path: &Path,
    root: Option<&Path>,
    origin: impl FnOnce(&str) -> Option<Name>,
) -> Result<Option<(Name, Records, Vec<Problem>)>, Unread> {
    let text = files::read_text(path).map_err(Unread::File)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let root = root.unwrap_or(folder).canonicalize().map_err(Unread::Root)?;
    let origin = origin(&text);
    let source = sources.add(path, text);
    Ok(origin.map(|origin| {
        let (records, problems) = zone::parse(sources, source, &origin, &Below { root });
        (origin, records, problems)
    }))
}

/// A zone file without a configuration around it.
#[derive(Debug)]
pub struct LoadedZone {
    /// Whose zone it is, as far as that is known.
    pub origin: Option<Name>,
    /// The records that are in order.
    pub records: Records,
    /// All problems.
    pub problems: Vec<Problem>,
    /// The files that were read, for rendering the problems.
    pub sources: Sources,
}

/// Reads the zone file at `path` as that of `origin`; without one the zone is the name of the file (`example.com.zone`),
/// or what its first `$ORIGIN` says. Included files are below `root`, the folder of the file when that is `None`.
#[must_use]
pub fn load_zone(path: &Path, origin: Option<Name>, root: Option<&Path>) -> LoadedZone {
    let mut sources = Sources::default();
    let read = read(&mut sources, path, root, |text| origin.or_else(|| origin_of(path, text)));
    let (origin, records, problems) = match read {
        Ok(Some((origin, records, problems))) => (Some(origin), records, problems),
        Ok(None) => (None, Records::default(), vec![whose(path)]),
        Err(Unread::File(error)) => {
            (None, Records::default(), vec![Problem::placeless(format!("{}: {error}", path.display()))])
        }
        Err(Unread::Root(error)) => {
            let root = root.unwrap_or(Path::new(".")).display();
            (None, Records::default(), vec![Problem::placeless(format!("{root}: {error}"))])
        }
    };
    LoadedZone { origin, records, problems, sources }
}

fn whose(path: &Path) -> Problem {
    let problem = Problem::placeless(format!("{}: nothing says which zone this is", path.display()));
    problem.hint("say `--origin NAME`, name the file NAME.zone, or write an absolute `$ORIGIN` into it")
}

/// The zone of a file: its name, if it is one of several labels (`master.zone` says little), then `$ORIGIN`.
fn origin_of(path: &Path, text: &str) -> Option<Name> {
    let stem = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(".zone"));
    let named = stem.and_then(|stem| Name::parse(stem, None).ok()).filter(|name| !name.is_wildcard());
    match named {
        Some(name) if name.labels().count() > 1 => Some(name),
        named => zone::first_origin(text).or(named),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::problem::render;

    const HEAD: &str = "$TTL 300\n@ SOA ns h 1 2 3 4 5\n@ NS ns\nns A 192.0.2.1\n";

    /// Folders `zones` and `common` beside one another, and links between them.
    fn scratch() -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |path: &str| folder.path().join(path);
        for made in ["zones/sub", "common", "zones2"] {
            fs::create_dir_all(at(made)).expect("a folder");
        }
        for file in ["zones/in.inc", "zones/sub/deep.inc", "common/out.inc", "zones2/out.inc"] {
            fs::write(at(file), "x TXT here\n").expect("written");
        }
        symlink("../common/out.inc", at("zones/link.inc")).expect("a link");
        symlink("../common", at("zones/linked")).expect("a link");
        symlink("sub/deep.inc", at("zones/inner.inc")).expect("a link");
        symlink("ex.zone", at("zones/again.inc")).expect("a link");
        symlink("loop.inc", at("zones/loop.inc")).expect("a link");
        folder
    }

    /// What is wrong with a zone that includes `named`.
    fn included(folder: &Path, named: &str, root: Option<&str>) -> String {
        let path = folder.join("zones/ex.zone");
        fs::write(&path, format!("{HEAD}$INCLUDE {named}\n")).expect("written");
        let root = root.map(|root| folder.join(root));
        let loaded = load_zone(&path, Some(Name::parse("example.com", None).expect("a name")), root.as_deref());
        let problems =
            loaded.problems.iter().map(|problem| render(std::slice::from_ref(problem), &loaded.sources, false));
        let text: String = problems.collect();
        assert!(!text.is_empty() || loaded.records.len() == 4, "{named}: it was read");
        text.replace(&*folder.to_string_lossy(), "")
    }

    #[test]
    fn includes_stay_below_one_folder() {
        let folder = scratch();
        let outside = folder.path().join("common/out.inc");
        let outside = outside.to_str().expect("text");
        for (named, root, expected) in [
            ("in.inc", None, ""),
            ("./sub/../in.inc", None, ""),
            ("sub/deep.inc", None, ""),
            ("inner.inc", None, ""),
            ("../zones/in.inc", None, ""),
            ("../common/out.inc", None, "/zones/../common/out.inc is outside /zones"),
            ("../zones2/out.inc", None, "/zones/../zones2/out.inc is outside /zones"),
            ("link.inc", None, "/zones/link.inc is outside /zones"),
            ("linked/out.inc", None, "/zones/linked/out.inc is outside /zones"),
            (outside, None, "/common/out.inc is outside /zones"),
            ("/etc/passwd", None, "/etc/passwd is outside /zones"),
            ("/dev/zero", Some("/"), "/dev/zero cannot be read: not a regular file"),
            ("sub", None, "/zones/sub cannot be read: not a regular file"),
            ("../common/out.inc", Some("."), ""),
            ("link.inc", Some("common"), ""),
            ("in.inc", Some("common"), "/zones/in.inc is outside /common"),
            ("ex.zone", None, "/zones/ex.zone includes itself"),
            ("../zones/./ex.zone", None, "/zones/.././ex.zone includes itself"),
            ("again.inc", None, "/zones/again.inc includes itself"),
            ("loop.inc", None, "/zones/loop.inc cannot be read: Too many levels"),
            ("in.inc", Some("nowhere"), "/nowhere: No such file"),
        ] {
            let told = included(folder.path(), named, root);
            let expected = expected.replace("/zones/.././", "/zones/../zones/./");
            assert_eq!(told.is_empty(), expected.is_empty(), "{named}: {told}");
            assert!(told.contains(&expected), "{named}: {told}");
            assert!(!told.contains("is outside") || told.contains("ex.zone:5:10") && told.contains("include-root"));
        }
    }

    #[test]
    fn a_file_says_whose_zone_it_is() {
        for (file, text, expected) in [
            ("example.com.zone", "", Some("example.com.")),
            ("example.com.zone", "$ORIGIN example.org.\n", Some("example.com.")),
            ("test.zone", "$ORIGIN example.org.\n", Some("example.org.")),
            ("test.zone", "$ORIGIN example\n", Some("test.")),
            ("db.example", "; nothing\n$TTL 5\n$origin Example.org.\n$ORIGIN x.\n", Some("Example.org.")),
            ("db.example", "@ TXT x\n", None),
            ("db.example", " $ORIGIN example.org.\n", None),
            ("*.example.com.zone", "", None),
            ("zone", "", None),
        ] {
            let origin = origin_of(Path::new(file), text).map(|name| name.to_string());
            assert_eq!(origin.as_deref(), expected, "{file} {text}");
        }
    }
}
