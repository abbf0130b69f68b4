//! Problems of text input (configuration, zone files, networks): where, what was found, what is allowed.
//!
//! Parsers return the value *and* all problems; nobody stops at the first. A [`Problem`] points into a file that
//! [`Sources`] holds; [`render`] prints it as `file:line:column` with the source line underlined.

use std::ops::Range;
use std::path::{Path, PathBuf};

/// Number of a file in [`Sources`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceId(pub u32);

/// A place in a source: octet offsets into its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// The file.
    pub source: SourceId,
    /// Octet range within its text.
    pub range: Range<usize>,
}

/// A file that was read.
#[derive(Clone, Debug)]
pub struct Source {
    /// The path as shown in messages.
    pub path: PathBuf,
    /// The whole text.
    pub text: String,
}

/// All files that a load has read, in order.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    files: Vec<Source>,
}

/// Whether loading may go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The configuration is refused.
    Error,
    /// Printed, nothing is refused.
    Warning,
}

/// One thing wrong with one place in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Error or warning.
    pub severity: Severity,
    /// Where; `None` when there is no file to point into (it could not be read).
    pub span: Option<Span>,
    /// What was found, in one line.
    pub message: String,
    /// What is allowed there, shown under the line.
    pub allowed: Option<String>,
    /// What to do, "did you mean …".
    pub hint: Option<String>,
    /// Other places that belong to it ("first defined here").
    pub also: Vec<(Span, String)>,
}

impl Problem {
    /// An error at `span`.
    pub fn error(span: Span, message: impl Into<String>) -> Problem {
        Problem {
            severity: Severity::Error,
            span: Some(span),
            message: message.into(),
            allowed: None,
            hint: None,
            also: Vec::new(),
        }
    }

    /// A warning at `span`.
    pub fn warning(span: Span, message: impl Into<String>) -> Problem {
        Problem { severity: Severity::Warning, ..Problem::error(span, message) }
    }

    /// An error without a place, for a file that could not be read.
    pub fn placeless(message: impl Into<String>) -> Problem {
        Problem {
            severity: Severity::Error,
            span: None,
            message: message.into(),
            allowed: None,
            hint: None,
            also: Vec::new(),
        }
    }

    /// Says what is allowed.
    #[must_use]
    pub fn allowed(mut self, allowed: impl Into<String>) -> Problem {
        self.allowed = Some(allowed.into());
        self
    }

    /// Says what to do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Problem {
        self.hint = Some(hint.into());
        self
    }

    /// Names another place that belongs to it.
    #[must_use]
    pub fn also(mut self, span: Span, label: impl Into<String>) -> Problem {
        self.also.push((span, label.into()));
        self
    }
}

impl Sources {
    /// Adds a file's text and returns its number.
    pub fn add(&mut self, path: &Path, text: String) -> SourceId {
        let id = SourceId(u32::try_from(self.files.len()).unwrap_or(u32::MAX));
        self.files.push(Source { path: path.to_path_buf(), text });
        id
    }

    /// The file of that number.
    #[must_use]
    pub fn get(&self, id: SourceId) -> &Source {
        &self.files[id.0 as usize]
    }

    /// Line and column, both from 1, columns in characters.
    #[must_use]
    pub fn position(&self, span: &Span) -> (usize, usize) {
        let text = &self.get(span.source).text;
        let mut start = span.range.start.min(text.len());
        while !text.is_char_boundary(start) {
            start -= 1;
        }
        let line_start = text[..start].rfind('\n').map_or(0, |newline| newline + 1);
        (text[..start].matches('\n').count() + 1, text[line_start..start].chars().count() + 1)
    }

    /// `file:line:column`.
    #[must_use]
    pub fn place(&self, span: &Span) -> String {
        let (line, column) = self.position(span);
        format!("{}:{line}:{column}", self.get(span.source).path.display())
    }
}
