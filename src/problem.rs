//! Problems of text input (configuration, zone files, networks): where, what was found, what is allowed.
//!
//! Parsers return the value *and* all problems; nobody stops at the first. A [`Problem`] points into a file that
//! [`Sources`] holds; [`render`] prints it as `file:line:column` with the source line underlined.

use std::ops::Range;
use std::path::{Path, PathBuf};

use annotate_snippets::{Annotation, AnnotationKind, Group, Level, Renderer, Snippet};

/// Number of a file in [`Sources`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceId(pub u32);

/// A place in a source: octet offsets into its text. Small, for a large configuration has millions of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The file.
    pub source: SourceId,
    start: u32,
    end: u32,
}

const _: () = assert!(size_of::<Span>() == 12);

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

impl Span {
    /// The octets `range` of a file's text; no file that is read has more than 2^32.
    #[must_use]
    pub fn new(source: SourceId, range: Range<usize>) -> Span {
        let offset = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        Span { source, start: offset(range.start), end: offset(range.end) }
    }

    /// Octet range within the file's text.
    #[must_use]
    pub fn range(&self) -> Range<usize> {
        self.start as usize..self.end as usize
    }

    /// Order of appearance.
    #[must_use]
    pub fn order(&self) -> (SourceId, u32) {
        (self.source, self.start)
    }
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
        let mut start = (span.start as usize).min(text.len());
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

/// Most characters of a source line that are shown from the place on.
const MAX_LINE: usize = 140;
/// Most characters of a message.
const MAX_MESSAGE: usize = 600;
/// What is allowed stands beside the underline up to this length, else in a note of its own.
const MAX_LABEL: usize = 72;

/// Prints problems one after the other, each as `error: message`, `file:line:column`, the source line with the place
/// underlined, what is allowed, other places and the hint. Long lines and messages are cut, so the output of one problem
/// is bounded whatever the input was.
#[must_use]
pub fn render(problems: &[Problem], sources: &Sources, color: bool) -> String {
    let renderer = if color { Renderer::styled() } else { Renderer::plain() };
    let mut out = String::new();
    for problem in problems {
        out.push_str(&render_one(problem, sources, &renderer));
        out.push_str("\n\n");
    }
    out.truncate(out.trim_end().len());
    if !out.is_empty() {
        out.push('\n');
    }
    out
}

fn render_one(problem: &Problem, sources: &Sources, renderer: &Renderer) -> String {
    let level = match problem.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let allowed = problem.allowed.as_deref().map(|allowed| format!("allowed: {}", cut(allowed)));
    let (label, note) = match allowed {
        Some(allowed) if problem.span.is_some() && allowed.chars().count() <= MAX_LABEL => (Some(allowed), None),
        other => (None, other),
    };
    let mut group = Group::with_title(level.primary_title(cut(&problem.message)));
    if let Some(span) = &problem.span {
        group = group.element(Excerpt::of(sources, span).snippet(AnnotationKind::Primary, label));
    }
    for (span, label) in &problem.also {
        group = group.element(Excerpt::of(sources, span).snippet(AnnotationKind::Context, Some(cut(label))));
    }
    if let Some(note) = note {
        group = group.element(Level::NOTE.message(note));
    }
    if let Some(hint) = &problem.hint {
        group = group.element(Level::HELP.message(cut(hint)));
    }
    renderer.render(&[group])
}

fn cut(text: &str) -> String {
    if text.chars().count() <= MAX_MESSAGE {
        return text.to_string();
    }
    text.chars().take(MAX_MESSAGE).chain("…".chars()).collect()
}

/// The line up to somewhat behind the place; the renderer cuts what stands far before it.
struct Excerpt<'a> {
    path: &'a Path,
    line: usize,
    text: String,
    mark: Range<usize>,
}

impl<'a> Excerpt<'a> {
    fn of(sources: &'a Sources, span: &Span) -> Excerpt<'a> {
        let source = sources.get(span.source);
        let text = &source.text;
        let Range { start, end } = span.range();
        let start = floor_boundary(text, start);
        let begin = text[..start].rfind('\n').map_or(0, |newline| newline + 1);
        let line_end = text[start..].find('\n').map_or(text.len(), |newline| start + newline);
        let rest = text[start..line_end].trim_end_matches('\r');
        let shown = rest.char_indices().nth(MAX_LINE).map_or(rest, |(at, _)| &rest[..at]);
        let marked = floor_boundary(text, end).saturating_sub(start).min(shown.len());
        let is_cut = shown.len() < rest.len();
        let excerpt = format!("{}{shown}{}", &text[begin..start], if is_cut { "…" } else { "" });
        let mark = start - begin..start - begin + marked;
        Excerpt { path: &source.path, line: sources.position(span).0, text: excerpt, mark }
    }

    fn snippet(self, kind: AnnotationKind, label: Option<String>) -> Snippet<'a, Annotation<'a>> {
        let annotation = kind.span(self.mark).label(label);
        let path = self.path.display().to_string();
        Snippet::source(self.text).line_start(self.line).path(path).annotation(annotation)
    }
}

fn floor_boundary(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources(text: &str) -> Sources {
        let mut sources = Sources::default();
        sources.add(Path::new("dir/waymark.toml"), text.to_string());
        sources
    }

    fn span(range: Range<usize>) -> Span {
        Span::new(SourceId(0), range)
    }

    #[test]
    fn shows_place_line_allowed_hint_and_other_places() {
        let sources = sources("[checks.web]\ntype = \"htpp\"\n");
        let problem = Problem::error(span(20..26), "type is \"htpp\"")
            .allowed("http, https, tcp")
            .hint("did you mean \"http\"?")
            .also(span(8..11), "of this check");
        let expected = "\
error: type is \"htpp\"
 --> dir/waymark.toml:2:8
  |
2 | type = \"htpp\"
  |        ^^^^^^ allowed: http, https, tcp
  |
 ::: dir/waymark.toml:1:9
  |
1 | [checks.web]
  |         --- of this check
  |
  = help: did you mean \"http\"?
";
        assert_eq!(render(&[problem], &sources, false), expected);
    }

    #[test]
    fn cuts_long_lines_and_messages() {
        let text = format!("a = \"{}\" # {}", "x".repeat(100_000), "ü".repeat(100_000));
        let sources = sources(&text);
        for range in [0..1, 4..100_004, 50_000..50_010, 100_008..100_009, 199_999..200_000, 300_000..400_000] {
            let problem = Problem::error(span(range), "m".repeat(100_000)).allowed("a".repeat(10_000));
            let printed = render(&[problem], &sources, false);
            assert!(printed.len() < 4_000, "{}", printed.len());
            assert!(printed.contains("dir/waymark.toml:1:"));
        }
    }

    #[test]
    fn any_place_can_be_shown() {
        for text in ["", "\n", "\r\n", "a\r\nb", "ü\tü\u{202e}", "a\n\n\nb"] {
            let sources = sources(text);
            for start in 0..text.len() + 2 {
                for end in start..text.len() + 2 {
                    let problem = Problem::warning(span(start..end), "m").also(span(start..end), "l");
                    assert!(render(&[problem], &sources, true).contains("waymark.toml"));
                }
            }
        }
        assert_eq!(render(&[Problem::placeless("gone")], &Sources::default(), false), "error: gone\n");
        assert_eq!(render(&[], &Sources::default(), false), "");
    }
}
