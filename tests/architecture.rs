//! The layers of `ARCHITECTURE.md`: a module uses rows below its own only.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Modules that must not be named above the border between the planes: `answer` and `serve` know nothing of the
/// control plane, and it nothing of them, but for `control`, `admin` and `cli` on top.
const DATA_PLANE: &[&str] = &["answer", "serve"];
const CONTROL_PLANE: &[&str] = &["probe", "config"];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Module → the modules its files name as `crate::…`, with a place for each.
fn edges() -> BTreeMap<String, BTreeMap<String, String>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    let mut edges: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    for file in files {
        let relative = file.strip_prefix(&root).expect("below src");
        let module = relative.iter().next().expect("a part").to_string_lossy().trim_end_matches(".rs").to_string();
        let text = fs::read_to_string(&file).expect("text");
        let used = edges.entry(module).or_default();
        for (number, line) in text.lines().enumerate() {
            for name in named(line) {
                used.entry(name).or_insert_with(|| format!("{}:{}", relative.display(), number + 1));
            }
        }
    }
    edges
}

/// The modules that a line names: `crate::dns::Name`, `use crate::{dns, zone::Record}` is not used here.
fn named(line: &str) -> Vec<String> {
    let code = line.split("//").next().unwrap_or_default();
    let parts = code.split("crate::").skip(1);
    parts.map(|rest| rest.chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect()).collect()
}

/// Module → its row in the table of `ARCHITECTURE.md`. A module may use the modules of lower rows, never one of its own
/// row or above.
fn rows() -> BTreeMap<String, usize> {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("ARCHITECTURE.md")).expect("text");
    let table = text.split("| row | modules | owns |").nth(1).expect("the layer table");
    let mut rows = BTreeMap::new();
    for line in table.lines().skip(2).take_while(|line| line.starts_with('|')) {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let row = cells[1].parse().expect("the number of a row");
        for module in cells[2].split_whitespace() {
            let module = module.trim_matches('`').to_string();
            assert_eq!(rows.insert(module, row), None, "twice in the layer table: {line}");
        }
    }
    rows
}

#[test]
fn modules_use_lower_rows_only() {
    let (edges, rows) = (edges(), rows());
    let row = |module: &str| *rows.get(module).unwrap_or_else(|| panic!("{module} has no row in the layer table"));
    assert!(edges.len() > 10, "the sources were found");
    for module in rows.keys() {
        assert!(edges.contains_key(module), "{module} is in the layer table and not in src");
    }
    let mut wrong = Vec::new();
    for (module, used) in edges.iter().filter(|(module, _)| !["lib", "main"].contains(&module.as_str())) {
        for (name, place) in used.iter().filter(|(name, _)| *name != module) {
            assert!(!name.is_empty(), "{place}: write one `use crate::…` for each module");
            if row(name) >= row(module) {
                wrong.push(format!("{place}: {module} uses {name}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_planes_share_only_what_lies_between() {
    let edges = edges();
    for (from, to) in [(DATA_PLANE, CONTROL_PLANE), (CONTROL_PLANE, DATA_PLANE)] {
        for module in from {
            for (name, place) in &edges[*module] {
                assert!(!to.contains(&name.as_str()), "{place}: {module} uses {name}");
            }
        }
    }
}

/// `answer` and all below it open nothing, read no clock and start nothing.
#[test]
fn what_is_pure_stays_pure() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for module in ["dns", "geo", "zone", "fleet", "health", "latency", "steering", "snapshot", "answer"] {
        let mut files = Vec::new();
        sources(&root.join(module), &mut files);
        files.retain(|file| {
            !["tests.rs", "testing.rs"].contains(&file.file_name().and_then(|n| n.to_str()).unwrap_or(""))
        });
        for file in files {
            let text = fs::read_to_string(&file).expect("text");
            let code = text.split("mod tests {").next().unwrap_or_default();
            for forbidden in [
                "std::fs",
                "std::net::UdpSocket",
                "std::net::Tcp",
                "std::thread",
                "Instant::now",
                "SystemTime",
                "time::now",
                "unix_seconds",
                "unix_nanoseconds",
                "tokio::",
            ] {
                assert!(!code.contains(forbidden), "{} names {forbidden}", file.display());
            }
        }
    }
}
