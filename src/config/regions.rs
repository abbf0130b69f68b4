//! `[regions]`.

use super::fields::Fields;
use super::files::Document;
use super::findings::Findings;
use super::keys;
use super::kinds;
use super::value::{Data, Value};
use crate::fleet::Region;
use crate::geo::Coordinates;
use crate::problem::Problem;

/// Most regions there can be: their numbers have 16 bits.
const MAX_REGIONS: usize = 4096;

/// Compiles all regions, in configured order.
pub(super) fn compile(document: &Document, findings: &mut Findings) -> Vec<Region> {
    let entries = document.named("regions");
    if let Some(entry) = entries.get(MAX_REGIONS) {
        let message = format!("{} regions", entries.len());
        findings.cross.push(Problem::error(entry.key, message).allowed(format!("at most {MAX_REGIONS}")));
    }
    let region = |entry: &super::value::Entry| {
        let table = entry.value.table().unwrap_or(&keys::EMPTY);
        let fields = Fields::alone(&keys::REGION, entry.key, table);
        Region {
            name: entry.name.to_string(),
            location: fields.own("location").and_then(location),
            bias: fields.integer("bias").unwrap_or_default(),
            only_named: fields.boolean("only-named"),
        }
    };
    entries.iter().map(region).collect()
}

fn location(value: &Value) -> Option<Coordinates> {
    let fields = Fields::alone(&keys::LOCATION, value.span, value.table()?);
    Some(Coordinates { latitude: fields.number("latitude")?, longitude: fields.number("longitude")? })
}

/// Checks a `location`.
pub(super) fn check_location(value: &Value, problems: &mut Vec<Problem>) {
    match &value.data {
        Data::Text(text) => {
            let what = format!("a location by name ({})", super::value::quoted(text));
            let hint = "write it as { latitude = 53.3, longitude = -6.3 }";
            problems.push(*kinds::not_available(value, &what, hint));
        }
        Data::Table(_) => keys::check_whole_table(&keys::LOCATION, value, problems),
        _ => problems.push(kinds::wrong_type(value, "a location").allowed("{ latitude = 53.3, longitude = -6.3 }")),
    }
}
