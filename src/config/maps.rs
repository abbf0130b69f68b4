//! `[maps]`: lists, fences and their selectors.

use std::collections::HashMap;

use super::SelectorSpans;
use super::fields::{Fields, Index, entries};
use super::files::Document;
use super::findings::Findings;
use super::keys;
use super::kinds;
use super::selectors::{self, Wrong};
use super::services;
use super::value::{Data, Entry, Table, Value, quoted};
use crate::fleet::RegionId;
use crate::problem::{Problem, Span};
use crate::steering::{Element, FenceUnknown, List, Map, MapEntry, Selector, Within};

/// A map, and where its parts stand.
pub(super) struct Placed {
    pub(super) map: Map,
    pub(super) name: Span,
    /// Place of `default`; `None` when it is not given.
    pub(super) default: Option<Span>,
    /// Places of the entries' keys.
    pub(super) entries: Vec<Span>,
    /// Places of the fences' keys.
    pub(super) fences: Vec<Span>,
}

impl Placed {
    /// The map, and where its parts stand.
    pub(super) fn apart(self) -> (Map, SelectorSpans) {
        let Placed { map, name, entries, fences, .. } = self;
        (map, SelectorSpans { name, entries, fences })
    }
}

/// Compiles all maps, in configured order.
pub(super) fn compile(document: &Document, findings: &mut Findings) -> Vec<Placed> {
    let regions = Index::new("region", document.section("regions"));
    let mut maps = Vec::new();
    for entry in document.named("maps") {
        let fields = Fields::of(document, "maps", "map", &keys::MAP, entry, findings);
        maps.push(map(&fields, &entry.name, &regions, findings));
    }
    maps
}

fn map(fields: &Fields<'_>, name: &str, regions: &Index<'_>, findings: &mut Findings) -> Placed {
    let default = fields.find("default");
    let is_entry = |entry: &&Entry| !keys::is_key("maps", &entry.name);
    let given = distinct(fields, |table| table.entries.iter().filter(is_entry).collect(), findings);
    let places = given.iter().map(|(entry, _)| entry.key).collect();
    let compile = |(entry, selector): (&Entry, Selector)| MapEntry {
        text: entry.name.to_string(),
        selector,
        value: list(&entry.value, regions, findings),
    };
    let compiled = given.into_iter().map(compile).collect();
    let (fences, fence_places) = fences(fields, regions, findings).into_iter().unzip();
    Placed {
        map: Map {
            name: name.to_string(),
            within: match fields.text("within").as_deref() {
                Some("listed") => Within::Listed,
                Some("latency") => Within::Latency,
                _ => Within::Nearest,
            },
            fence_unknown: match fields.text("fence-unknown").as_deref() {
                Some("nodata") => FenceUnknown::Nodata,
                _ => FenceUnknown::Default,
            },
            default: default.map(|value| list(value, regions, findings)).unwrap_or_default(),
            entries: compiled,
            fences,
        },
        name: fields.place,
        default: default.map(|value| value.span),
        entries: places,
        fences: fence_places,
    }
}

/// What the table itself gives and then what it inherits, each selector once: the first that says it counts, and a table
/// that says one twice itself is told.
fn distinct<'d>(
    fields: &Fields<'d>,
    of_table: impl Fn(&'d Table) -> Vec<&'d Entry>,
    findings: &mut Findings,
) -> Vec<(&'d Entry, Selector)> {
    let own = fields.own.into_iter().map(|table| (table, true));
    let tables = own.chain(fields.inherited.iter().map(|table| (*table, false)));
    let mut seen: HashMap<Vec<String>, Span> = HashMap::new();
    let mut distinct = Vec::new();
    for (entry, is_own) in
        tables.flat_map(|(table, is_own)| of_table(table).into_iter().map(move |entry| (entry, is_own)))
    {
        let Ok(selector) = selectors::selector(&entry.name) else { continue };
        // Parts in a fixed order tell entries apart that are written differently.
        let mut parts: Vec<String> = selector.0.iter().map(|part| format!("{part:?}")).collect();
        parts.sort();
        match seen.get(&parts) {
            Some(first) if is_own => findings.cross.push(same_selector(entry, first)),
            Some(_) => {}
            None => {
                seen.insert(parts, entry.key);
                distinct.push((entry, selector));
            }
        }
    }
    distinct
}

fn same_selector(entry: &Entry, first: &Span) -> Problem {
    Problem::error(entry.key, format!("{} is the same as an entry before", quoted(&entry.name)))
        .also(*first, "first written here")
}

type Fence = MapEntry<Vec<RegionId>>;

fn fences(fields: &Fields<'_>, regions: &Index<'_>, findings: &mut Findings) -> Vec<(Fence, Span)> {
    let given =
        distinct(fields, |table| table.get("fences").map(entries).unwrap_or_default().iter().collect(), findings);
    let compile = |(entry, selector): (&Entry, Selector)| {
        let named = entry.value.elements().iter().filter_map(|value| region(value, regions, findings)).collect();
        (MapEntry { text: entry.name.to_string(), selector, value: named }, entry.key)
    };
    given.into_iter().map(compile).collect()
}

fn region(value: &Value, regions: &Index<'_>, findings: &mut Findings) -> Option<RegionId> {
    // Where "*" is out of place it was said.
    let named = Some(value).filter(|value| value.text() != Some("*"))?;
    regions.resolve(named, findings).and_then(|number| u16::try_from(number).ok()).map(RegionId)
}

fn list(value: &Value, regions: &Index<'_>, findings: &mut Findings) -> List {
    let mut list = List::new();
    for element in value.elements() {
        match &element.data {
            Data::Text(text) if text == "*" => list.push(Element::Rest),
            Data::Array(tier) => {
                list.push(Element::Tier(tier.iter().filter_map(|value| region(value, regions, findings)).collect()));
            }
            Data::Table(split) => list.push(Element::Split(compile_split(split, regions, findings))),
            _ => list.extend(region(element, regions, findings).map(Element::Region)),
        }
    }
    list
}

fn compile_split(split: &Table, regions: &Index<'_>, findings: &mut Findings) -> Vec<(RegionId, u32)> {
    let mut shares = Vec::new();
    for entry in &split.entries {
        shares.extend(region(&entry.name_as_value(), regions, findings).zip(services::share(&entry.value)));
    }
    shares
}

/// Checks a list: regions, tiers, splits, `"*"`.
pub(super) fn check_list(value: &Value, problems: &mut Vec<Problem>) {
    const FORM: &str = "[\"eu-west\", [\"us-east\", \"us-west\"], { ap-south = 80, ap-east = 20 }, \"*\"]";
    if !matches!(value.data, Data::Array(_) | Data::Text(_)) {
        problems.push(kinds::wrong_type(value, "a list of regions").allowed(FORM));
        return;
    }
    if value.elements().is_empty() {
        problems.push(Problem::error(value.span, "a list without regions").hint("\"*\" stands for all"));
    }
    let mut seen: HashMap<&str, &Span> = HashMap::new();
    for element in value.elements() {
        match &element.data {
            Data::Table(split) => check_split(element, split, &mut seen, problems),
            Data::Array(tier) => check_tier(element, tier, &mut seen, problems),
            _ => check_region(element, &mut seen, problems),
        }
    }
}

fn check_tier<'v>(
    value: &Value,
    tier: &'v [Value],
    seen: &mut HashMap<&'v str, &'v Span>,
    problems: &mut Vec<Problem>,
) {
    if tier.is_empty() {
        problems.push(Problem::error(value.span, "a tier without regions"));
    }
    for element in tier {
        if element.text() == Some("*") {
            let problem = Problem::error(element.span, "\"*\" inside a tier");
            problems.push(problem.hint("\"*\" stands for itself in the list, it is ordered by distance anyway"));
        } else {
            check_region(element, seen, problems);
        }
    }
}

fn check_split<'v>(
    value: &'v Value,
    split: &'v Table,
    seen: &mut HashMap<&'v str, &'v Span>,
    problems: &mut Vec<Problem>,
) {
    for entry in &split.entries {
        if entry.name == *"*" {
            let problem = Problem::error(entry.key, "\"*\" inside a split");
            problems.push(problem.hint("name each region with its share; \"*\" stands for itself in the list"));
        } else {
            check_once(&entry.name, &entry.key, seen, problems);
        }
    }
    services::check_shares(value, problems);
}

fn check_region<'v>(value: &'v Value, seen: &mut HashMap<&'v str, &'v Span>, problems: &mut Vec<Problem>) {
    match kinds::text(value) {
        Ok(name) => check_once(name, &value.span, seen, problems),
        Err(_) if matches!(value.data, Data::Broken) => {}
        Err(problem) => problems.push(*problem),
    }
}

fn check_once<'v>(name: &'v str, place: &'v Span, seen: &mut HashMap<&'v str, &'v Span>, problems: &mut Vec<Problem>) {
    if let Some(first) = seen.insert(name, place) {
        let problem = Problem::error(*place, format!("{} is listed twice", quoted(name)));
        problems.push(problem.also(*first, "first listed here"));
    }
}

/// Checks a map entry: its selector and its list.
pub(super) fn check_entry(entry: &Entry, problems: &mut Vec<Problem>) {
    check_selector(entry, problems);
    check_list(&entry.value, problems);
}

fn check_selector(entry: &Entry, problems: &mut Vec<Problem>) {
    if let Err(wrong) = selectors::selector(&entry.name) {
        problems.push(problem(entry.key, wrong));
    }
}

fn problem(span: Span, wrong: Wrong) -> Problem {
    Problem { allowed: wrong.allowed, hint: wrong.hint, ..Problem::error(span, wrong.message) }
}

/// Checks `fences`.
pub(super) fn check_fences(value: &Value, problems: &mut Vec<Problem>) {
    let Some(table) = value.table() else {
        problems.push(*kinds::wrong_type(value, "a table of selectors"));
        return;
    };
    for entry in &table.entries {
        check_selector(entry, problems);
        let regions = entry.value.elements();
        if regions.is_empty() {
            let problem = Problem::error(entry.value.span, "a fence without regions lets nobody in");
            problems.push(problem.hint("name the regions that these clients may reach"));
        }
        let mut seen = HashMap::new();
        for region in regions {
            if region.text() == Some("*") {
                problems.push(Problem::error(region.span, "\"*\" in a fence fences nothing"));
            } else {
                check_region(region, &mut seen, problems);
            }
        }
    }
}

fn check_code<T>(value: &Value, read: fn(&str) -> Result<T, Wrong>, problems: &mut Vec<Problem>) {
    match value.text() {
        Some(text) => {
            if let Err(wrong) = read(text) {
                problems.push(problem(value.span, wrong));
            }
        }
        None => problems.push(*kinds::wrong_type(value, "a string")),
    }
}

/// Checks `continent` of a network.
pub(super) fn check_continent(value: &Value, problems: &mut Vec<Problem>) {
    check_code(value, selectors::continent, problems);
}

/// Checks `country` of a network.
pub(super) fn check_country(value: &Value, problems: &mut Vec<Problem>) {
    check_code(value, selectors::country, problems);
}

/// Checks `subdivision` of a network.
pub(super) fn check_subdivision(value: &Value, problems: &mut Vec<Problem>) {
    check_code(value, selectors::subdivision, problems);
}
