//! TOML syntax: every error at its place, none that is only the consequence of another.
//!
//! An array or inline table that is not closed swallows the rest of the file, and the parser has something to say about
//! each line of it; at a key without value it gives up. So the text is parsed up to there, and again from the next
//! `[header]` on.

use std::borrow::Cow;
use std::collections::HashSet;
use std::ops::Range;

use toml::de::{DeTable, Error};

use super::findings::Findings;
use super::value::{Entry, Reader};
use crate::problem::{Problem, SourceId, Span};

/// How often parsing of a file begins anew.
const MAX_PARTS: usize = 20;
/// For how many keys of a file that stand twice the first one is looked for.
const MAX_SEARCHES: usize = 100;

/// Parses a text; hands over its top entries and keeps its errors.
pub(super) fn parse(text: &str, source: SourceId, findings: &mut Findings, take: &mut dyn FnMut(Entry)) {
    let mut from = 0;
    let mut reader = Reader::new(source);
    for _ in 0..MAX_PARTS {
        let padded: Cow<'_, str> =
            if from == 0 { text.into() } else { format!("{}{}", " ".repeat(from), &text[from..]).into() };
        let (table, errors) = DeTable::parse_recoverable(&padded);
        let Some(end) = where_lost(text, &errors) else {
            keep(text, source, errors, findings);
            table.get_ref().iter().for_each(|(key, value)| take(reader.top_entry(key, value)));
            return;
        };
        let (table, errors) = DeTable::parse_recoverable(&padded[..end]);
        keep(text, source, errors, findings);
        table.get_ref().iter().for_each(|(key, value)| take(reader.top_entry(key, value)));
        let Some(next) = next_header(text, end) else { return };
        from = next;
    }
}

/// Up to where the text makes sense.
fn where_lost(text: &str, errors: &[Error]) -> Option<usize> {
    let unclosed = where_unclosed(text, errors);
    let given_up = errors.iter().filter(|error| error.message().starts_with("key with no value")).find_map(|error| {
        let at = error.span()?.start.min(text.len());
        let end = text[at..].find('\n').map(|length| at + length + 1)?;
        // On the last lines there is nothing to begin anew with.
        next_header(text, end).map(|_| end)
    });
    unclosed.into_iter().chain(given_up).min()
}

/// Beginning of the line with which something that was not closed begins to swallow what follows.
fn where_unclosed(text: &str, errors: &[Error]) -> Option<usize> {
    errors.iter().find(|error| error.message().starts_with("unclosed"))?;
    let starts = errors.iter().filter_map(|error| Some(error.span()?.start.min(text.len())));
    let begins_line = |at: &usize| {
        let line = line_start(text, *at);
        line > 0 && matches!(text[line..*at].trim(), "" | "[" | "[[") && looks_like_a_statement(&text[line..])
    };
    starts.filter(begins_line).min().map(|at| line_start(text, at))
}

/// Whether a line is a header or begins `key =`.
fn looks_like_a_statement(text: &str) -> bool {
    let line = text.lines().next().unwrap_or_default();
    is_header(line)
        || line.split_once('=').is_some_and(|(key, _)| !key.trim().is_empty() && !key.contains(['{', '[', ',']))
}

/// `[name]`, `[[name]]`, not an element of an array of arrays; the closing bracket may be forgotten.
fn is_header(line: &str) -> bool {
    let line = line.split('#').next().unwrap_or_default().trim();
    line.starts_with('[') && !line.contains(',') && !line.contains("= ") && !line.starts_with("[\"")
}

fn next_header(text: &str, from: usize) -> Option<usize> {
    let mut at = from;
    for line in text[from..].split_inclusive('\n') {
        if is_header(line) {
            return Some(at);
        }
        at += line.len();
    }
    None
}

/// Keeps errors: of each line the first only, the others come of it.
fn keep(text: &str, source: SourceId, errors: Vec<Error>, findings: &mut Findings) {
    let mut lines = HashSet::new();
    let mut doubled_headers = HashSet::new();
    let mut searches = 0..MAX_SEARCHES;
    for error in errors {
        let range = error.span().unwrap_or(text.len()..text.len());
        let range = range.start.min(text.len())..range.end.min(text.len());
        if error.message() == "duplicate key" {
            let search = searches.next().is_some();
            findings.local.extend(duplicate_key(text, Span::new(source, range), search, &mut doubled_headers));
        } else if lines.insert(line_start(text, range.start)) {
            findings.syntax.push(problem(text, source, range, error.message()));
        }
    }
}

fn problem(text: &str, source: SourceId, range: Range<usize>, message: &str) -> Problem {
    let (range, hint) = match message {
        _ if message.starts_with("unclosed array") => (last_before(text, range.start), Some("close it with \"]\"")),
        _ if message.starts_with("unclosed inline") => (last_before(text, range.start), Some("close it with \"}\"")),
        _ if message.starts_with("invalid boolean")
            || message.starts_with("invalid float")
            || message.starts_with("string values must be quoted") =>
        {
            (range, Some("strings stand in quotes: \"…\""))
        }
        _ => (range, None),
    };
    let problem = Problem::error(Span::new(source, range), format!("invalid TOML: {message}"));
    Problem { hint: hint.map(str::to_string), ..problem }
}

/// The last character before a place that is not blank.
fn last_before(text: &str, at: usize) -> Range<usize> {
    let end = text[..at].trim_end().len();
    let start = text[..end].char_indices().next_back().map_or(0, |(start, _)| start);
    start..end
}

fn line_start(text: &str, at: usize) -> usize {
    text[..at].rfind('\n').map_or(0, |newline| newline + 1)
}

/// The parser says only where the second one stands; the first is looked for in the text. Keys below a header that
/// stands twice are not told one by one.
fn duplicate_key(text: &str, span: Span, search: bool, doubled_headers: &mut HashSet<usize>) -> Option<Problem> {
    let key = text.get(span.range()).unwrap_or_default();
    let problem = Problem::error(span, format!("`{key}` is defined twice"));
    let own_line = line_start(text, span.range().start);
    let line = text[own_line..].lines().next().unwrap_or_default().trim();
    let is_header = line.starts_with('[');
    if is_header {
        doubled_headers.insert(own_line);
    }
    if !search {
        return Some(problem);
    }
    let mut end = own_line;
    while end > 0 {
        let start = line_start(text, end - 1);
        let earlier = &text[start..end];
        let trimmed = earlier.trim();
        let found = if is_header {
            trimmed == line
        } else {
            trimmed.strip_prefix(key).is_some_and(|rest| rest.trim_start().starts_with('='))
        };
        if found {
            let first = start + (earlier.len() - earlier.trim_start().len());
            let length = if is_header { trimmed.len() } else { key.len() };
            return Some(problem.also(Span::new(span.source, first..first + length), "first defined here"));
        }
        if !is_header && trimmed.starts_with('[') {
            return (!doubled_headers.contains(&start)).then_some(problem);
        }
        end = start;
    }
    Some(problem)
}
