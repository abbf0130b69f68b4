//! Zone files (RFC 1035 §5): directives and records, with every problem at its place.

use std::io;
use std::path::Path;

use super::Record;
use crate::dns::Name;
use crate::problem::{Problem, SourceId, Sources};

/// Reads the zone file `file` of `sources` with `origin` as its first `$ORIGIN`; `read` fetches what `$INCLUDE` names.
/// Returns all records that are in order and all problems.
pub fn parse(
    _sources: &mut Sources,
    _file: SourceId,
    _origin: &Name,
    _read: &mut dyn FnMut(&Path) -> io::Result<String>,
) -> (Vec<Record>, Vec<Problem>) {
    (Vec::new(), Vec::new())
}
