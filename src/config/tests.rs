//! The example loads as it stands, every problem reads as its golden file says, and no text at all makes loading panic.

use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::*;
use crate::problem::render;

#[test]
fn the_example_loads() {
    let loaded = load(Path::new("tests/example/waymark.toml"));
    assert_eq!(render(&loaded.problems, &loaded.sources, false), "");
    let configuration = loaded.configuration.expect("a configuration");
    assert_eq!(configuration.services.len(), 4);
}
