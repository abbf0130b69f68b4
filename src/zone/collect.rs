//! Collects problems up to a bound, errors and warnings apart, so that many warnings never hide an error.

use crate::problem::{Problem, Severity, SourceId};

/// Most errors, and most warnings, that are kept.
const MAX_KEPT: usize = 1000;

/// Problems of one zone.
#[derive(Default)]
pub(super) struct Problems {
    kept: Vec<Problem>,
    errors: usize,
    warnings: usize,
}

impl Problems {
    /// Adds one, or counts it when there are too many.
    pub(super) fn push(&mut self, problem: Problem) {
        let count = match problem.severity {
            Severity::Error => &mut self.errors,
            Severity::Warning => &mut self.warnings,
        };
        *count += 1;
        if *count <= MAX_KEPT {
            self.kept.push(problem);
        }
    }

    /// How many errors there were.
    pub(super) fn errors(&self) -> usize {
        self.errors
    }

    /// All that were kept in the order of the files, then how many more there were.
    pub(super) fn finish(mut self) -> Vec<Problem> {
        self.kept.sort_by_key(|problem| problem.span.map_or((SourceId(u32::MAX), 0), |span| span.order()));
        for (count, severity, word) in
            [(self.errors, Severity::Error, "errors"), (self.warnings, Severity::Warning, "warnings")]
        {
            if let Some(more) = count.checked_sub(MAX_KEPT).filter(|more| *more > 0) {
                self.kept.push(Problem { severity, ..Problem::placeless(format!("and {more} more {word}")) });
            }
        }
        self.kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_errors_behind_many_warnings() {
        let mut problems = Problems::default();
        for _ in 0..MAX_KEPT + 5 {
            problems.push(Problem { severity: Severity::Warning, ..Problem::placeless("w") });
        }
        problems.push(Problem::placeless("e"));
        assert_eq!(problems.errors(), 1);
        let all = problems.finish();
        assert_eq!(all.len(), MAX_KEPT + 2);
        assert!(all.iter().any(|problem| problem.message == "e"));
        assert_eq!(all.last().map(|problem| problem.message.as_str()), Some("and 5 more warnings"));
    }
}
