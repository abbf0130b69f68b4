//! `[geo]`: the networks file and the data bases.

use std::collections::HashMap;

use ipnet::IpNet;

use super::fields::Fields;
use super::files::{self, Document};
use super::findings::Findings;
use super::geo_files::{GeoFile, GeoFiles};
use super::keys;
use super::kinds;
use super::selectors;
use super::syntax;
use super::value::{Entry, Value, quoted};
use crate::geo::{Coordinates, Data, Database, Network, Place};
use crate::problem::{Problem, SourceId, Sources, Span};

/// Networks, and where each stands.
#[derive(Default)]
pub(super) struct Placed {
    pub(super) data: Data,
    pub(super) networks: Vec<Span>,
    /// Which files were read.
    pub(super) files: GeoFiles,
}

/// Reads all that says where clients are.
pub(super) fn compile(document: &Document, sources: &mut Sources, findings: &mut Findings) -> Placed {
    let span = Span::new(SourceId(0), 0..0);
    let fields = Fields::alone(&keys::GEO, span, document.single("geo"));
    let mut placed = Placed::default();
    if let (Some(value), Some(named)) = (fields.own("networks"), fields.text("networks")) {
        read_networks(value, &named, sources, findings, &mut placed);
    }
    for value in fields.own("databases").map(Value::elements).unwrap_or_default() {
        if let Some((file, database)) = database(value, sources, findings) {
            placed.files.databases.push(file);
            placed.data.databases.push(database);
        }
    }
    placed
}

fn database(value: &Value, sources: &Sources, findings: &mut Findings) -> Option<(GeoFile, Database)> {
    let named = kinds::text(value).ok()?;
    let path = files::resolve(sources, value.span.source, named);
    let (octets, stamp) = match files::read_stamped(&path) {
        Ok(read) => read,
        Err(error) => {
            findings.local.push(files::unreadable(value.span, &path, &error));
            return None;
        }
    };
    match Database::parse(named.to_string(), octets) {
        Ok(database) => Some((GeoFile::new(named, &path, stamp), database)),
        Err(message) => {
            findings.local.push(Problem::error(value.span, format!("{}: {message}", path.display())));
            None
        }
    }
}

fn read_networks(value: &Value, named: &str, sources: &mut Sources, findings: &mut Findings, placed: &mut Placed) {
    let path = files::resolve(sources, value.span.source, named);
    let read = files::read_stamped(&path).and_then(|(octets, stamp)| Ok((files::text(octets)?, stamp)));
    let (text, stamp) = match read {
        Ok(read) => read,
        Err(error) => {
            findings.local.push(files::unreadable(value.span, &path, &error));
            return;
        }
    };
    placed.files.networks = Some(GeoFile::new(named, &path, stamp));
    let source = sources.add(&path, text);
    parse(source, sources, findings, placed);
}

/// Takes all networks of a file.
pub(super) fn parse(source: SourceId, sources: &Sources, findings: &mut Findings, placed: &mut Placed) {
    let mut first: HashMap<IpNet, Span> = HashMap::new();
    let mut found = Findings::default();
    // One entry after the other: there may be a million of them.
    syntax::parse(&sources.get(source).text, source, findings, &mut |entry| {
        let Some(network) = network(&entry, &mut found) else { return };
        if let Some(first) = first.insert(network.prefix, entry.key) {
            let message = format!("{} is the same network as one before", quoted(&entry.name));
            found.local.push(Problem::error(entry.key, message).also(first, "first written here"));
            return;
        }
        placed.networks.push(entry.key);
        placed.data.networks.push(network);
    });
    findings.local.append(&mut found.local);
}

fn network(entry: &Entry, findings: &mut Findings) -> Option<Network> {
    let prefix = match kinds::prefix_of(&entry.name) {
        Ok(prefix) => Some(prefix),
        Err((message, hint)) => {
            let problem = Problem::error(entry.key, message);
            findings.local.push(match hint {
                Some(hint) => problem.hint(hint),
                None => problem.allowed("\"192.0.2.0/24\" or \"2001:db8::/32\", in quotes"),
            });
            None
        }
    };
    kinds::check(&kinds::Kind::Table(&keys::NETWORK), &entry.value, &mut findings.local);
    let fields = Fields::alone(&keys::NETWORK, entry.key, entry.value.table()?);
    let place = place(&fields, findings);
    Some(Network { prefix: prefix?, place })
}

fn place(fields: &Fields<'_>, findings: &mut Findings) -> Place {
    let text = |name: &str| fields.own(name).and_then(Value::text);
    let country = text("country").and_then(|text| selectors::country(text).ok());
    let subdivision = text("subdivision").and_then(|text| selectors::subdivision(text).ok());
    if let (Some(country), Some(subdivision)) = (country, &subdivision)
        && subdivision.as_bytes().get(..2) != Some(&country.0[..])
    {
        let message = format!("subdivision {} is not in country {country}", quoted(subdivision));
        let problem = Problem::error(fields.at("subdivision"), message);
        findings.local.push(problem.also(fields.at("country"), "the country"));
    }
    let coordinates = match (fields.number("latitude"), fields.number("longitude")) {
        (Some(latitude), Some(longitude)) => Some(Coordinates { latitude, longitude }),
        _ => None,
    };
    for (given, missing) in [("latitude", "longitude"), ("longitude", "latitude")] {
        if let Some(value) = fields.own(given)
            && fields.own(missing).is_none()
        {
            findings.local.push(Problem::error(value.span, format!("`{given}` without `{missing}`")));
        }
    }
    Place {
        continent: text("continent").and_then(|text| selectors::continent(text).ok()),
        country,
        subdivision,
        city: fields.integer("city"),
        as_number: fields.integer("as"),
        coordinates,
    }
}
