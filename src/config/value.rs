//! TOML as a tree of values that know their places, in order of appearance.
//!
//! The tree owns its strings, so that a file's syntax tree can be dropped as soon as the file was read. A large
//! configuration has millions of values, so they are small: short texts stand in place, spans have twelve octets. What
//! the parser could not read is [`Data::Broken`]: its problem has been reported, nothing more is to be said of it.

use std::borrow::Cow;

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::packed::Packed;
use crate::fleet::Word;
use crate::problem::{SourceId, Span};

/// A value and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Value {
    pub(super) span: Span,
    pub(super) data: Data,
}

/// What a value is.
#[derive(Clone, Debug)]
pub(super) enum Data {
    Text(Word),
    Integer(i64),
    /// An integer beyond 64 bits: the nearest of 128.
    Huge(Box<i128>),
    Float(f64),
    Boolean(bool),
    Datetime,
    Array(Box<[Value]>),
    Table(Table),
    /// A table that [`Value::pack_inside`] packed.
    Packed(Packed),
    Broken,
}

/// Entries in order of appearance.
#[derive(Clone, Debug, Default)]
pub(super) struct Table {
    pub(super) entries: Box<[Entry]>,
}

/// A key and its value.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) name: Word,
    /// Where the key stands.
    pub(super) key: Span,
    pub(super) value: Value,
}

const _: () = assert!(size_of::<Value>() <= 40 && size_of::<Entry>() <= 80);

impl Value {
    /// Takes over a parsed value of file `source`.
    pub(super) fn new(source: SourceId, value: &Spanned<DeValue<'_>>) -> Value {
        let range = value.span();
        let data = match value.get_ref() {
            // The parser's stand-in for what it could not read.
            DeValue::Integer(_) if range == (0..0) => Data::Broken,
            DeValue::String(text) => Data::Text(Word::from(&**text)),
            DeValue::Integer(number) => integer(number.as_str(), number.radix()),
            DeValue::Float(number) => Data::Float(number.as_str().parse().unwrap_or(f64::NAN)),
            DeValue::Boolean(value) => Data::Boolean(*value),
            DeValue::Datetime(_) => Data::Datetime,
            DeValue::Array(values) => Data::Array(values.iter().map(|value| Value::new(source, value)).collect()),
            DeValue::Table(table) => Data::Table(Table::new(source, table)),
        };
        Value { span: Span::new(source, range), data }
    }

    /// `a string`, `an array`, for messages.
    pub(super) fn type_name(&self) -> &'static str {
        match self.data {
            Data::Text(_) => "a string",
            Data::Integer(_) | Data::Huge(_) => "an integer",
            Data::Float(_) => "a number",
            Data::Boolean(_) => "a boolean",
            Data::Datetime => "a date",
            Data::Array(_) => "an array",
            Data::Table(_) | Data::Packed(_) => "a table",
            Data::Broken => "unreadable",
        }
    }

    /// As shown in messages: short values as written in TOML, long ones by their kind.
    pub(super) fn shown(&self) -> String {
        match &self.data {
            Data::Text(text) => quoted(text),
            Data::Integer(number) => number.to_string(),
            Data::Huge(number) => number.to_string(),
            Data::Float(number) => number.to_string(),
            Data::Boolean(value) => value.to_string(),
            _ => self.type_name().to_string(),
        }
    }

    pub(super) fn text(&self) -> Option<&str> {
        match &self.data {
            Data::Text(text) => Some(text),
            _ => None,
        }
    }

    /// An integer; beyond 128 bits: the nearest of them.
    pub(super) fn integer(&self) -> Option<i128> {
        match &self.data {
            Data::Integer(number) => Some(i128::from(*number)),
            Data::Huge(number) => Some(**number),
            _ => None,
        }
    }

    pub(super) fn table(&self) -> Option<&Table> {
        match &self.data {
            Data::Table(table) => Some(table),
            _ => None,
        }
    }

    /// Packs the table inside a table that is called `name`, once its keys and values were checked: until they are
    /// compiled, only [`Value::entries`] reads them.
    pub(super) fn pack_inside(&mut self, name: &str) {
        let Data::Table(table) = &mut self.data else { return };
        for entry in table.entries.iter_mut().filter(|entry| entry.name == *name) {
            if let Data::Table(inner) = &entry.value.data {
                entry.value.data = Data::Packed(Packed::new(inner));
            }
        }
    }

    /// The entries of a table, packed or not; else none.
    pub(super) fn entries(&self) -> Cow<'_, [Entry]> {
        match &self.data {
            Data::Table(table) => Cow::Borrowed(&table.entries),
            Data::Packed(packed) => Cow::Owned(packed.table(self.span.source).entries.into()),
            _ => Cow::Borrowed(&[]),
        }
    }

    /// The elements of an array, or the value itself: `"a"` is read as `["a"]`.
    pub(super) fn elements(&self) -> &[Value] {
        match &self.data {
            Data::Array(values) => values,
            _ => std::slice::from_ref(self),
        }
    }

    /// Whether both say the same, wherever they stand.
    pub(super) fn says_the_same(&self, other: &Value) -> bool {
        match (&self.data, &other.data) {
            (Data::Text(a), Data::Text(b)) => a == b,
            (Data::Integer(a), Data::Integer(b)) => a == b,
            (Data::Huge(a), Data::Huge(b)) => a == b,
            (Data::Float(a), Data::Float(b)) => a == b,
            (Data::Boolean(a), Data::Boolean(b)) => a == b,
            (Data::Array(a), Data::Array(b)) => {
                a.len() == b.len() && a.iter().zip(b.iter()).all(|(a, b)| a.says_the_same(b))
            }
            (Data::Table(a), Data::Table(b)) => {
                a.entries.len() == b.entries.len()
                    && a.entries
                        .iter()
                        .all(|entry| b.get(&entry.name).is_some_and(|other| entry.value.says_the_same(other)))
            }
            (Data::Broken, _) | (_, Data::Broken) => true,
            _ => false,
        }
    }
}

impl Table {
    /// Takes over a parsed table of file `source`; the parser moves tables that are opened again, so the order of
    /// appearance is told by the keys' places.
    pub(super) fn new(source: SourceId, table: &DeTable<'_>) -> Table {
        let mut entries = Vec::with_capacity(table.len());
        entries.extend(table.iter().map(|(key, value)| entry(source, key, value)));
        Table::in_order(entries)
    }

    /// Puts entries in order of appearance.
    pub(super) fn in_order(mut entries: Vec<Entry>) -> Table {
        if !entries.is_sorted_by_key(Entry::first_place) {
            entries.sort_by_cached_key(Entry::first_place);
        }
        Table { entries: entries.into() }
    }

    pub(super) fn entry(&self, name: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.name == name)
    }

    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        self.entry(name).map(|entry| &entry.value)
    }
}

/// Takes over a key and its value of file `source`.
pub(super) fn entry(source: SourceId, key: &Spanned<DeString<'_>>, value: &Spanned<DeValue<'_>>) -> Entry {
    Entry { name: Word::from(&**key.get_ref()), key: Span::new(source, key.span()), value: Value::new(source, value) }
}

impl Entry {
    /// Where it begins: a table that is opened late may have parts that stand earlier, under headers of their own.
    fn first_place(&self) -> usize {
        let inner = self.value.table().and_then(|table| table.entries.first()).map_or(usize::MAX, Entry::first_place);
        self.key.range().start.min(inner)
    }
}

/// A string in quotes, cut when long.
pub(super) fn quoted(text: &str) -> String {
    const MAX: usize = 80;
    if text.chars().count() <= MAX {
        return format!("{text:?}");
    }
    let start: String = text.chars().take(MAX).collect();
    format!("{:?}", format!("{start}…"))
}

fn integer(digits: &str, radix: u32) -> Data {
    if let Ok(number) = i64::from_str_radix(digits, radix) {
        return Data::Integer(number);
    }
    let saturated = if digits.starts_with('-') { i128::MIN } else { i128::MAX };
    Data::Huge(Box::new(i128::from_str_radix(digits, radix).unwrap_or(saturated)))
}
