//! Domain names in wire format (RFC 1035 §3.1), case kept, compared without case (RFC 4343).

use std::fmt;
use std::hash::{Hash, Hasher};

/// Most octets of a name in wire format, the root label included.
pub const MAX_NAME: usize = 255;
/// Most octets of one label.
pub const MAX_LABEL: usize = 63;

/// An absolute domain name: uncompressed wire format, at most [`MAX_NAME`] octets, ending in the root label.
#[derive(Clone)]
pub struct Name(Box<[u8]>);

/// Why a text or octets are not a domain name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameError {
    /// `a..b`, or nothing at all.
    EmptyLabel,
    /// A label of more than 63 octets.
    LabelTooLong,
    /// More than 255 octets.
    TooLong,
    /// `\` at the end, `\25`, `\999`.
    BadEscape,
    /// A pointer, an unknown label type or the end of the octets where a label should be.
    BadWire,
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            NameError::EmptyLabel => "empty label",
            NameError::LabelTooLong => "label longer than 63 octets",
            NameError::TooLong => "name longer than 255 octets",
            NameError::BadEscape => "bad escape, allowed are \\DDD (000 to 255) and \\ before a character",
            NameError::BadWire => "not a name in wire format",
        })
    }
}

impl std::error::Error for NameError {}

impl Name {
    /// The root, `.`.
    #[must_use]
    pub fn root() -> Name {
        Name(Box::from([0u8]))
    }

    /// From presentation format. A name without a final dot is completed with `origin`, and taken as absolute when
    /// there is none. `@` has no meaning here.
    ///
    /// # Errors
    /// When the text is not a name or becomes too long.
    pub fn parse(text: &str, origin: Option<&Name>) -> Result<Name, NameError> {
        Name::parse_bytes(text.as_bytes(), origin)
    }

    /// [`Name::parse`] for text that need not be UTF-8.
    ///
    /// # Errors
    /// As [`Name::parse`].
    pub fn parse_bytes(text: &[u8], origin: Option<&Name>) -> Result<Name, NameError> {
        if text == b"." {
            return Ok(Name::root());
        }
        let mut wire: Vec<u8> = Vec::with_capacity(text.len() + 2);
        let mut label_start = 0;
        wire.push(0);
        let mut rest = text.iter().copied();
        let mut absolute = false;
        while let Some(octet) = rest.next() {
            absolute = octet == b'.';
            if absolute {
                close_label(&mut wire, label_start)?;
                label_start = wire.len();
                wire.push(0);
            } else {
                wire.push(if octet == b'\\' { unescape(&mut rest)? } else { octet });
            }
            if wire.len() > MAX_NAME + 1 {
                return Err(NameError::TooLong);
            }
        }
        if !absolute {
            close_label(&mut wire, label_start)?;
            wire.extend_from_slice(origin.map_or(&[0u8][..], |origin| &origin.0));
        }
        if wire.len() > MAX_NAME { Err(NameError::TooLong) } else { Ok(Name(wire.into())) }
    }

    /// From uncompressed wire format: exactly one name, nothing behind it.
    ///
    /// # Errors
    /// When it is not.
    pub fn from_wire(wire: &[u8]) -> Result<Name, NameError> {
        let mut at = 0;
        loop {
            let length = *wire.get(at).ok_or(NameError::BadWire)? as usize;
            if length > MAX_LABEL {
                return Err(NameError::BadWire);
            }
            at += 1 + length;
            if at > MAX_NAME {
                return Err(NameError::TooLong);
            }
            if length == 0 {
                return if at == wire.len() { Ok(Name(wire.into())) } else { Err(NameError::BadWire) };
            }
        }
    }

    /// The wire format, case as given.
    #[must_use]
    pub fn as_wire(&self) -> &[u8] {
        &self.0
    }

    /// The same name in lower case.
    #[must_use]
    pub fn to_lower(&self) -> Name {
        // Label lengths are below b'A', so lowering every octet leaves them alone.
        Name(self.0.iter().map(u8::to_ascii_lowercase).collect())
    }

    /// The labels from the left, without the root label.
    pub fn labels(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = &self.0[..];
        std::iter::from_fn(move || {
            let length = *rest.first()? as usize;
            if length == 0 {
                return None;
            }
            let (label, after) = rest[1..].split_at(length);
            rest = after;
            Some(label)
        })
    }

    /// Whether it is the root.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.0.len() == 1
    }

    /// Whether its leftmost label is `*`.
    #[must_use]
    pub fn is_wildcard(&self) -> bool {
        self.0.starts_with(b"\x01*")
    }

    /// The name without its leftmost label; `None` for the root.
    #[must_use]
    pub fn parent(&self) -> Option<Name> {
        let length = self.0[0] as usize;
        (length > 0).then(|| Name(self.0[1 + length..].into()))
    }

    /// Whether it is `ancestor` or below it, without case.
    #[must_use]
    pub fn is_at_or_below(&self, ancestor: &Name) -> bool {
        wire_is_at_or_below(&self.0, &ancestor.0)
    }

    /// Without the final dot, as people write it; `.` for the root.
    #[must_use]
    pub fn to_plain(&self) -> String {
        let text = self.to_string();
        if text.len() > 1 { text[..text.len() - 1].to_string() } else { text }
    }
}

/// [`Name::is_at_or_below`] for names in uncompressed wire format.
#[must_use]
pub fn wire_is_at_or_below(name: &[u8], ancestor: &[u8]) -> bool {
    let mut rest = name;
    while rest.len() > ancestor.len() {
        rest = &rest[1 + rest[0] as usize..];
    }
    rest.eq_ignore_ascii_case(ancestor)
}

/// Writes the length of the label that begins at `start` and ends here.
fn close_label(wire: &mut [u8], start: usize) -> Result<(), NameError> {
    let length = wire.len() - start - 1;
    if length == 0 {
        return Err(NameError::EmptyLabel);
    }
    if length > MAX_LABEL {
        return Err(NameError::LabelTooLong);
    }
    wire[start] = length as u8;
    Ok(())
}

/// What follows a backslash: three decimal digits or one character.
fn unescape(rest: &mut impl Iterator<Item = u8>) -> Result<u8, NameError> {
    let first = rest.next().ok_or(NameError::BadEscape)?;
    if !first.is_ascii_digit() {
        return Ok(first);
    }
    let mut value = u32::from(first - b'0');
    for _ in 0..2 {
        let digit = rest.next().filter(u8::is_ascii_digit).ok_or(NameError::BadEscape)?;
        value = value * 10 + u32::from(digit - b'0');
    }
    u8::try_from(value).map_err(|_| NameError::BadEscape)
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_root() {
            return f.write_str(".");
        }
        for label in self.labels() {
            for &octet in label {
                match octet {
                    b'.' | b'\\' | b'"' | b'(' | b')' | b';' | b'@' | b'$' => write!(f, "\\{}", octet as char)?,
                    0x21..=0x7e => write!(f, "{}", octet as char)?,
                    _ => write!(f, "\\{octet:03}")?,
                }
            }
            f.write_str(".")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Name) -> bool {
        self.0.eq_ignore_ascii_case(&other.0)
    }
}

impl Eq for Name {}

impl Hash for Name {
    fn hash<H: Hasher>(&self, state: &mut H) {
        for octet in &self.0 {
            state.write_u8(octet.to_ascii_lowercase());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_and_prints() {
        let origin = Name::parse("example.com.", None).expect("a name");
        for (text, printed) in [
            ("www", "www.example.com."),
            ("www.example.org.", "www.example.org."),
            ("a\\.b", "a\\.b.example.com."),
            ("\\065\\000", "A\\000.example.com."),
            ("*", "*.example.com."),
            (".", "."),
        ] {
            let name = Name::parse(text, Some(&origin)).expect(text);
            assert_eq!(name.to_string(), printed, "{text}");
            assert_eq!(Name::from_wire(name.as_wire()).expect(text), name);
        }
    }

    #[test]
    fn refuses_what_is_no_name() {
        let long = "a".repeat(64);
        let deep = "a.".repeat(128);
        for (text, error) in [
            ("", NameError::EmptyLabel),
            ("a..b", NameError::EmptyLabel),
            (".a", NameError::EmptyLabel),
            (long.as_str(), NameError::LabelTooLong),
            (deep.as_str(), NameError::TooLong),
            ("a\\", NameError::BadEscape),
            ("a\\25", NameError::BadEscape),
            ("a\\256", NameError::BadEscape),
        ] {
            assert_eq!(Name::parse(text, None).err(), Some(error), "{text}");
        }
    }

    #[test]
    fn compares_without_case_and_by_whole_labels() {
        let name = |text| Name::parse(text, None).expect("a name");
        assert_eq!(name("WWW.Example.COM."), name("www.example.com"));
        assert!(name("a.Example.com").is_at_or_below(&name("example.COM")));
        assert!(!name("anexample.com").is_at_or_below(&name("example.com")));
        assert!(name("com").is_at_or_below(&Name::root()));
        assert_eq!(name("a.b").parent(), Some(name("b")));
    }
}
