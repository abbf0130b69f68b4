//! Cuts a zone file into entries of tokens with their places (RFC 1035 §5.1). Knows quotes, escapes, comments and
//! parentheses; knows nothing of records.
//!
//! | octets | are |
//! |---|---|
//! | `;` to the end of the line | a comment |
//! | `( … )` | one entry over several lines, may be nested |
//! | `"…"` | a quoted token, ends on its line |
//! | `\X`, `\DDD` | an escape; kept as written, decoded by [`octets`] |
//! | `key="…"` | one token with quotes inside ([`Quoting::Mixed`], SVCB parameters) |
//! | space or tab at the start of a line | the owner of the entry before |
//!
//! The lexer holds an offset, not the text, so that other files can be read between two entries.

use std::borrow::Cow;
use std::ops::Range;

use crate::problem::{Problem, SourceId, Span};

/// Most octets of a token as written: 65 535 octets, each as `\DDD`.
const MAX_TOKEN: usize = 4 * 65_535;
/// Most tokens of an entry: 65 535 octets of data one by one, and what stands before them.
const MAX_TOKENS: usize = 65_600;
/// Most octets between an opening parenthesis and its end.
const MAX_ENTRY: usize = 4 << 20;
/// Most characters of the file that a message quotes.
const MAX_QUOTED: usize = 48;

/// A result whose error is a problem at its place.
pub(super) type Outcome<T> = Result<T, Box<Problem>>;

/// How a token was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Quoting {
    /// `token`
    Bare,
    /// `"token"`
    Quoted,
    /// `key="token"`
    Mixed,
}

/// Octet offsets of a token, without the quotes of a quoted one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) quoting: Quoting,
}

/// Text that tokens point into, and where it stands in a source.
#[derive(Clone, Copy)]
pub(super) struct Input<'a> {
    pub(super) text: &'a str,
    pub(super) source: SourceId,
    /// The place of all tokens, when the text was generated.
    pub(super) pinned: Option<(usize, usize)>,
}

impl<'a> Input<'a> {
    /// The token as written.
    pub(super) fn raw(&self, token: Token) -> &'a str {
        &self.text[token.start..token.end]
    }

    /// The place of an octet range.
    pub(super) fn span(&self, range: Range<usize>) -> Span {
        let (start, end) = self.pinned.unwrap_or((range.start, range.end));
        Span::new(self.source, start..end)
    }

    /// An error at a token.
    pub(super) fn error(&self, token: Token, message: impl Into<String>) -> Box<Problem> {
        Box::new(Problem::error(self.span(token.start..token.end), message))
    }
}

/// Text for a message: in backquotes, shortened.
pub(super) fn quote(text: &str) -> String {
    match text.char_indices().nth(MAX_QUOTED) {
        Some((end, _)) => format!("`{}…` ({} octets)", &text[..end], text.len()),
        None => format!("`{text}`"),
    }
}

/// The octets that a token stands for.
pub(super) fn octets(raw: &str) -> Result<Cow<'_, [u8]>, &'static str> {
    if !raw.contains('\\') {
        return Ok(Cow::Borrowed(raw.as_bytes()));
    }
    let mut decoded = Vec::with_capacity(raw.len());
    let mut rest = raw.bytes();
    while let Some(octet) = rest.next() {
        decoded.push(if octet == b'\\' { escaped(&mut rest)? } else { octet });
    }
    Ok(Cow::Owned(decoded))
}

fn escaped(rest: &mut std::str::Bytes<'_>) -> Result<u8, &'static str> {
    const BAD: &str = "bad escape, allowed are \\DDD (000 to 255) and \\ before a character";
    let first = rest.next().ok_or(BAD)?;
    if !first.is_ascii_digit() {
        return Ok(first);
    }
    let mut value = u16::from(first - b'0');
    for _ in 0..2 {
        let digit = rest.next().filter(u8::is_ascii_digit).ok_or(BAD)?;
        value = value * 10 + u16::from(digit - b'0');
    }
    u8::try_from(value).map_err(|_| BAD)
}

/// Where an entry begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// Whether its line starts with a space or tab.
    pub(super) blank_owner: bool,
    /// What is wrong with its text, first fault only.
    pub(super) fault: Option<Fault>,
}

/// A lexical fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) message: &'static str,
}

/// How far a file has been cut.
#[derive(Clone, Debug, Default)]
pub(super) struct Lexer {
    at: usize,
}

impl Lexer {
    /// Cuts the next entry that is not empty into `tokens`; `None` at the end of the text.
    pub(super) fn next(&mut self, text: &str, tokens: &mut Vec<Token>) -> Option<Entry> {
        tokens.clear();
        if self.at == 0 && text.starts_with('\u{feff}') {
            self.at = 3;
        }
        let mut scan = Scan { text: text.as_bytes(), at: self.at, start: self.at, opened: 0, depth: 0, fault: None };
        scan.entry(tokens);
        self.at = scan.at;
        let blank_owner = matches!(scan.text.get(scan.start), Some(b' ' | b'\t'));
        (!tokens.is_empty() || scan.fault.is_some()).then_some(Entry { blank_owner, fault: scan.fault })
    }
}

/// The work on one entry.
struct Scan<'a> {
    text: &'a [u8],
    at: usize,
    /// Start of the entry's first line.
    start: usize,
    /// Place of the outermost parenthesis, while `depth` is not 0.
    opened: usize,
    depth: usize,
    fault: Option<Fault>,
}

impl Scan<'_> {
    fn entry(&mut self, tokens: &mut Vec<Token>) {
        while let Some(&octet) = self.text.get(self.at) {
            match octet {
                b'\n' => {
                    self.at += 1;
                    if self.ends_line(tokens) {
                        return;
                    }
                }
                b' ' | b'\t' => self.at += 1,
                b'\r' if self.ends_in_newline() => self.at += 1,
                b';' => self.skip_line(),
                b'(' => self.open(),
                b')' => self.close(),
                b'"' => self.quoted(tokens),
                _ => self.bare(tokens),
            }
        }
        self.unclosed();
    }

    /// Whether a line's end is the entry's end.
    fn ends_line(&mut self, tokens: &[Token]) -> bool {
        if self.depth > 0 {
            if self.at - self.start > MAX_ENTRY {
                self.unclosed();
                self.at = self.text.len();
            }
            return false;
        }
        if tokens.is_empty() && self.fault.is_none() {
            self.start = self.at;
            return false;
        }
        true
    }

    /// A carriage return belongs to the line's end when nothing but the newline, or the text's end, follows.
    fn ends_in_newline(&self) -> bool {
        matches!(self.text.get(self.at + 1), None | Some(b'\n'))
    }

    fn skip_line(&mut self) {
        let rest = &self.text[self.at..];
        self.at += rest.iter().position(|&octet| octet == b'\n').unwrap_or(rest.len());
    }

    fn open(&mut self) {
        if self.depth == 0 {
            self.opened = self.at;
        }
        self.depth += 1;
        self.at += 1;
    }

    fn close(&mut self) {
        match self.depth.checked_sub(1) {
            Some(depth) => self.depth = depth,
            None => self.fault(self.at, self.at + 1, "`)` without `(`"),
        }
        self.at += 1;
    }

    fn unclosed(&mut self) {
        if self.depth > 0 {
            self.depth = 0;
            self.fault = None;
            self.fault(self.opened, self.opened + 1, "`(` is never closed; nothing behind it was read");
        }
    }

    fn quoted(&mut self, tokens: &mut Vec<Token>) {
        let open = self.at;
        if self.skip_quoted() {
            self.push(tokens, Token { start: open + 1, end: self.at - 1, quoting: Quoting::Quoted });
        }
    }

    /// Skips a quoted string; whether it was closed.
    fn skip_quoted(&mut self) -> bool {
        let open = self.at;
        self.at += 1;
        while let Some(&octet) = self.text.get(self.at) {
            match octet {
                b'"' => {
                    self.at += 1;
                    return true;
                }
                b'\n' => break,
                b'\r' if self.ends_in_newline() => break,
                b'\\' => self.escape(),
                _ => self.plain(octet),
            }
        }
        self.fault(open, open + 1, "`\"` is not closed on its line");
        false
    }

    fn bare(&mut self, tokens: &mut Vec<Token>) {
        let start = self.at;
        let mut quoting = Quoting::Bare;
        while let Some(&octet) = self.text.get(self.at) {
            match octet {
                b' ' | b'\t' | b'\n' | b';' | b'(' | b')' => break,
                b'\r' if self.ends_in_newline() => break,
                b'"' if self.at > start && self.text[self.at - 1] == b'=' => {
                    quoting = Quoting::Mixed;
                    self.skip_quoted();
                }
                b'"' => break,
                b'\\' => self.escape(),
                _ => self.plain(octet),
            }
        }
        self.push(tokens, Token { start, end: self.at, quoting });
    }

    /// A backslash and the octet behind it.
    fn escape(&mut self) {
        match self.text.get(self.at + 1) {
            None | Some(b'\n' | b'\r') => {
                self.fault(self.at, self.at + 1, "`\\` at the end of a line");
                self.at += 1;
            }
            Some(&octet) => {
                self.at += 1;
                self.plain(octet);
            }
        }
    }

    fn plain(&mut self, octet: u8) {
        if (octet < b' ' && octet != b'\t') || octet == 0x7f {
            self.fault(self.at, self.at + 1, "control character; \\DDD is how to write one");
        }
        self.at += 1;
    }

    fn push(&mut self, tokens: &mut Vec<Token>, token: Token) {
        if token.end - token.start > MAX_TOKEN {
            self.fault(token.start, token.start + 1, "text of more than 262140 octets");
        } else if tokens.len() == MAX_TOKENS {
            self.fault(token.start, token.end, "too much in one entry");
        } else {
            tokens.push(token);
        }
    }

    fn fault(&mut self, start: usize, end: usize, message: &'static str) {
        self.fault.get_or_insert(Fault { start, end, message });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(text: &str) -> String {
        let (mut lexer, mut tokens, mut lines) = (Lexer::default(), Vec::new(), Vec::new());
        while let Some(entry) = lexer.next(text, &mut tokens) {
            let mut line = String::from(if entry.blank_owner { "_" } else { "" });
            for token in &tokens {
                let raw = &text[token.start..token.end];
                line += &match token.quoting {
                    Quoting::Bare => format!("[{raw}]"),
                    Quoting::Quoted => format!("<{raw}>"),
                    Quoting::Mixed => format!("{{{raw}}}"),
                };
            }
            if let Some(fault) = entry.fault {
                line += &format!("!{} {}", fault.start, fault.message);
            }
            lines.push(line);
        }
        lines.join("|")
    }

    #[test]
    fn cuts_entries() {
        for (text, expected) in [
            ("", ""),
            ("\n \n\t; only a comment\n\n", ""),
            ("a b", "[a][b]"),
            ("a b\r\n c\td\r", "[a][b]|_[c][d]"),
            ("\u{feff}a", "[a]"),
            ("a ( b ; comment )\n c\n) d\ne", "[a][b][c][d]|[e]"),
            ("a (b(c)\n)d", "[a][b][c][d]"),
            (" (\na)", "_[a]"),
            ("a \"b;(c)\" d", "[a]<b;(c)>[d]"),
            ("a \"b\\\"c\" \"\"", "[a]<b\\\"c><>"),
            ("a\"b\"\"c\"d", "[a]<b><c>[d]"),
            ("k=\"a b\",x y", "{k=\"a b\",x}[y]"),
            ("a\\ b\\;c\\\\ d", "[a\\ b\\;c\\\\][d]"),
            ("é \\é", "[é][\\é]"),
            ("a )\nb", "[a]!2 `)` without `(`|[b]"),
            ("a \"b\nc", "[a]!2 `\"` is not closed on its line|[c]"),
            ("a (b\nc", "[a][b][c]!2 `(` is never closed; nothing behind it was read"),
            ("a\\\nb", "[a\\]!1 `\\` at the end of a line|[b]"),
            ("a\0b\nc", "[a\0b]!1 control character; \\DDD is how to write one|[c]"),
            ("a\rb", "[a\rb]!1 control character; \\DDD is how to write one"),
        ] {
            assert_eq!(cut(text), expected, "{text:?}");
        }
    }

    #[test]
    fn bounds_what_it_takes() {
        let long = "a".repeat(MAX_TOKEN + 1);
        assert!(cut(&long).contains("more than 262140"));
        let many = "a ".repeat(MAX_TOKENS + 1);
        assert!(cut(&many).contains("too much in one entry"));
        let open = format!("b (\n{}", "; comment\n".repeat(MAX_ENTRY / 10 + 10));
        assert!(cut(&format!("{open})\nc")).ends_with("never closed; nothing behind it was read"));
    }

    #[test]
    fn decodes_escapes() {
        for (raw, expected) in [
            ("plain", Some(&b"plain"[..])),
            ("a\\.b\\000\\255", Some(b"a.b\0\xff")),
            ("\\é", Some("é".as_bytes())),
            ("\\", None),
            ("\\25", None),
            ("\\256", None),
            ("\\1a0", None),
        ] {
            assert_eq!(octets(raw).ok().as_deref(), expected, "{raw}");
        }
    }
}
