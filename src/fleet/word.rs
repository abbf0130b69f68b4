//! Texts that are short most of the time, names and addresses as written: kept in place, without an allocation of their
//! own, for a large configuration has millions of them.
//!
//! ```text
//! octet 0      1       2 … 23
//! form      length     up to 22 octets of UTF-8
//! form         -       from 8 on: pointer and length of a longer text
//! ```

use std::borrow::Borrow;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;

/// Most octets that are kept in place.
const SHORT: usize = 22;

/// A text that never changes.
#[derive(Clone)]
pub struct Word(Form);

const _: () = assert!(size_of::<Word>() == 24);

#[derive(Clone)]
enum Form {
    Short(u8, [u8; SHORT]),
    Long(Box<str>),
}

impl Word {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match &self.0 {
            Form::Short(length, octets) => {
                std::str::from_utf8(&octets[..usize::from(*length)]).expect("it was made of a str")
            }
            Form::Long(text) => text,
        }
    }

    /// Its octets, without the look at each of them that [`Word::as_str`] takes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            Form::Short(length, octets) => &octets[..usize::from(*length)],
            Form::Long(text) => text.as_bytes(),
        }
    }
}

impl From<&str> for Word {
    fn from(text: &str) -> Word {
        let mut octets = [0; SHORT];
        match (octets.get_mut(..text.len()), u8::try_from(text.len())) {
            (Some(place), Ok(length)) => {
                place.copy_from_slice(text.as_bytes());
                Word(Form::Short(length, octets))
            }
            _ => Word(Form::Long(text.into())),
        }
    }
}

impl Deref for Word {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl Borrow<str> for Word {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

impl PartialEq for Word {
    fn eq(&self, other: &Word) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for Word {}

impl PartialEq<str> for Word {
    fn eq(&self, other: &str) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl PartialEq<&str> for Word {
    fn eq(&self, other: &&str) -> bool {
        self == *other
    }
}

impl Hash for Word {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // As `str` does it, for maps are asked with one.
        self.as_str().hash(state);
    }
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self)
    }
}

impl fmt::Debug for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn keeps_texts_of_any_length() {
        for length in [0, 1, SHORT - 1, SHORT, SHORT + 1, 300] {
            let text = "ü1"[..].chars().cycle().take(length).collect::<String>();
            let word = Word::from(text.as_str());
            assert_eq!(word.as_str(), text);
            assert_eq!((format!("{word}"), format!("{word:?}")), (text.clone(), format!("{text:?}")));
            assert!(word == text.as_str() && word == word.clone() && word != format!("{text}x").as_str());
            assert_eq!(HashMap::from([(word, 1)]).get(text.as_str()), Some(&1));
        }
    }
}
