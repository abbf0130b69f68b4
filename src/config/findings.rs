//! Problems while a configuration is loaded, in the three kinds that a syntax error tells apart.
//!
//! After a syntax error parts of a file are missing from what was read. What is said of a single value still holds, but
//! "missing" and "there is no such region" would be guesses: those are kept back until the syntax is in order.

use std::collections::HashSet;

use crate::problem::{Problem, Severity, Sources};

/// Most problems that are reported at once.
const MAX_PROBLEMS: usize = 1_000;

/// Problems found so far.
#[derive(Default)]
pub(super) struct Findings {
    /// Of the syntax, such that what follows may not have been read.
    pub(super) syntax: Vec<Problem>,
    /// Of single keys and values.
    pub(super) local: Vec<Problem>,
    /// Of what is missing or does not fit together.
    pub(super) cross: Vec<Problem>,
}

impl Findings {
    /// All that are to be reported, in order of place, bounded.
    pub(super) fn finish(mut self, sources: &Sources) -> Vec<Problem> {
        let line = |problem: &Problem| problem.span.as_ref().map(|span| (span.source, sources.position(span).0));
        if !self.syntax.is_empty() {
            self.cross.clear();
            // Lines are counted from the beginning of a file, so what will not be shown is cut off first.
            self.syntax.truncate(MAX_PROBLEMS);
            self.local.truncate(MAX_PROBLEMS);
            let broken: HashSet<_> = self.syntax.iter().map(line).collect();
            self.local.retain(|problem| !broken.contains(&line(problem)));
        }
        let mut problems = self.syntax;
        problems.append(&mut self.local);
        problems.append(&mut self.cross);
        problems.sort_by_key(|problem| problem.span.map(|span| span.order()));
        problems.dedup();
        bound(problems)
    }
}

/// Keeps errors rather than warnings when there are too many.
fn bound(mut problems: Vec<Problem>) -> Vec<Problem> {
    if problems.len() <= MAX_PROBLEMS {
        return problems;
    }
    let total = problems.len();
    let has_errors = problems.iter().any(|problem| problem.severity == Severity::Error);
    problems.retain(|problem| !has_errors || problem.severity == Severity::Error);
    problems.truncate(MAX_PROBLEMS);
    if has_errors {
        problems.push(Problem::placeless(format!("{} further problems are not shown", total - problems.len())));
    }
    problems
}
