//! `[regions]`.

use super::fields::Fields;
use super::files::Document;
use super::findings::Findings;
use super::keys;
use super::kinds;
use super::text::nearest;
use super::value::{Data, Value, quoted};
use crate::fleet::Region;
use crate::geo::{Coordinates, PROVIDERS, Provider, cloud_region};
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
    if let Data::Text(text) = &value.data {
        return cloud_region(text);
    }
    let fields = Fields::alone(&keys::LOCATION, value.span, value.table()?);
    Some(Coordinates { latitude: fields.number("latitude")?, longitude: fields.number("longitude")? })
}

const FORM: &str = "{ latitude = 53.3, longitude = -6.3 }";

/// Checks a `location`.
pub(super) fn check_location(value: &Value, problems: &mut Vec<Problem>) {
    match &value.data {
        Data::Text(text) => problems.extend(unknown_location(value, text)),
        Data::Table(_) => keys::check_whole_table(&keys::LOCATION, value, problems),
        Data::Broken => {}
        _ => problems.push(
            kinds::wrong_type(value, "a location").allowed(format!("{FORM}, or a cloud region: \"aws:eu-west-1\"")),
        ),
    }
}

/// The problem of a location by name that is none.
fn unknown_location(value: &Value, text: &str) -> Option<Problem> {
    let (key, region) = text.split_once(':').unwrap_or(("", text));
    let keys = || PROVIDERS.iter().map(|provider| provider.key);
    let Some(provider) = PROVIDERS.iter().find(|provider| provider.key == key) else {
        let message = match text.contains(':') {
            true => format!("there is no cloud provider {}", quoted(key)),
            false => format!("{} is not a location", quoted(text)),
        };
        let problem = Problem::error(value.span, message);
        let form = format!("PROVIDER:REGION with {}; or {FORM}", keys().collect::<Vec<_>>().join(", "));
        let of = |provider: &&Provider| provider.location(region).is_some();
        let meant = PROVIDERS.iter().find(of).map(|provider| provider.key).or_else(|| nearest(key, keys()));
        return Some(match meant {
            Some(key) => problem.allowed(form).hint(format!("did you mean \"{key}:{}\"?", shown(region))),
            None => problem.allowed(form),
        });
    };
    if provider.location(region).is_some() {
        return None;
    }
    let names: Vec<&str> = provider.names().collect();
    let message = format!("{} has no region {} that is known", provider.name, quoted(region));
    let problem = Problem::error(value.span, message).allowed(names.join(", "));
    Some(match nearest(region, names) {
        Some(name) => problem.hint(format!("did you mean \"{key}:{name}\"?")),
        None => problem.hint(format!("a place that is not in the list: location = {FORM}")),
    })
}

/// As much of a name as belongs into a hint.
fn shown(name: &str) -> String {
    name.chars().take(60).collect()
}
