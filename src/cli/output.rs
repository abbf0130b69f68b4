//! Printing. A reader that goes away (`waymark status | head`) ends the output, not the program with a panic.

use std::io::{self, IsTerminal, Write};

use serde::Serialize;

use crate::problem::{Problem, Severity, Sources, render};

/// A line to standard output.
pub(super) fn line(text: &str) {
    let _ = writeln!(io::stdout().lock(), "{text}");
}

/// A line to standard error, as `waymark: …`.
pub(super) fn error(text: &str) {
    let _ = writeln!(io::stderr().lock(), "waymark: {text}");
}

/// Pretty JSON to standard output.
pub(super) fn json(value: &impl Serialize) {
    match serde_json::to_string_pretty(value) {
        Ok(text) => line(&text),
        Err(problem) => error(&format!("cannot be shown as JSON: {problem}")),
    }
}

/// Problems to standard error, each with its source line.
pub(super) fn problems(problems: &[Problem], sources: &Sources) {
    if !problems.is_empty() {
        let color = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        let _ = write!(io::stderr().lock(), "{}", render(problems, sources, color));
    }
}

/// A problem in JSON.
#[derive(Serialize)]
pub(super) struct ProblemReport {
    severity: &'static str,
    place: Option<String>,
    message: String,
    allowed: Option<String>,
    hint: Option<String>,
}

impl ProblemReport {
    pub(super) fn of(problem: &Problem, sources: &Sources) -> ProblemReport {
        ProblemReport {
            severity: match problem.severity {
                Severity::Error => "error",
                Severity::Warning => "warning",
            },
            place: problem.span.as_ref().map(|span| sources.place(span)),
            message: problem.message.clone(),
            allowed: problem.allowed.clone(),
            hint: problem.hint.clone(),
        }
    }
}

/// `1 zone`, `2 zones`.
pub(super) fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}
