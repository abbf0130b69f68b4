//! TOML as a tree of values that know their places, in order of appearance.
//!
//! The tree owns its strings, so that a file's syntax tree can be dropped as soon as the file was read. A large
//! configuration has millions of values, so they are small: short texts stand in place, spans have twelve octets. What
//! the parser could not read is [`Data::Broken`]: its problem has been reported, nothing more is to be said of it.

use std::borrow::Cow;

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::packed::{Packed, Packer};
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
    /// A table at the end of a [`Pack`].
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

/// A path of keys, of which `*` is any, to tables that are packed at once, before the next is taken over.
type Pack = [&'static str];

/// There may be a million instances in all; [`Value::entries`] reads them.
const INSTANCES: &Pack = &["pools", "*", "instances"];

/// Takes over what was parsed of one file.
pub(super) struct Reader {
    source: SourceId,
    packer: Packer,
}

impl Reader {
    pub(super) fn new(source: SourceId) -> Reader {
        Reader { source, packer: Packer::default() }
    }

    /// Takes over a key and its value that stand at the top of the file.
    pub(super) fn top_entry(&mut self, key: &Spanned<DeString<'_>>, value: &Spanned<DeValue<'_>>) -> Entry {
        self.entry(key, value, Some(INSTANCES))
    }

    fn entry(&mut self, key: &Spanned<DeString<'_>>, value: &Spanned<DeValue<'_>>, pack: Option<&Pack>) -> Entry {
        let name = Word::from(&**key.get_ref());
        let inside = match pack {
            Some([first, rest @ ..]) if *first == "*" || name == *first => Some(rest),
            _ => None,
        };
        Entry { name, key: Span::new(self.source, key.span()), value: self.value(value, inside) }
    }

    fn value(&mut self, value: &Spanned<DeValue<'_>>, pack: Option<&Pack>) -> Value {
        let range = value.span();
        let data = match value.get_ref() {
            // The parser's stand-in for what it could not read.
            DeValue::Integer(_) if range == (0..0) => Data::Broken,
            DeValue::String(text) => Data::Text(Word::from(&**text)),
            DeValue::Integer(number) => integer(number.as_str(), number.radix()),
            DeValue::Float(number) => Data::Float(number.as_str().parse().unwrap_or(f64::NAN)),
            DeValue::Boolean(value) => Data::Boolean(*value),
            DeValue::Datetime(_) => Data::Datetime,
            DeValue::Array(values) => Data::Array(values.iter().map(|value| self.value(value, None)).collect()),
            DeValue::Table(table) if pack == Some(&[]) => Data::Packed(self.packed(table)),
            DeValue::Table(table) => Data::Table(self.table(table, pack)),
        };
        Value { span: Span::new(self.source, range), data }
    }

    /// The parser moves tables that are opened again, so the order of appearance is told by the keys' places.
    fn table(&mut self, table: &DeTable<'_>, pack: Option<&Pack>) -> Table {
        let mut entries = Vec::with_capacity(table.len());
        entries.extend(table.iter().map(|(key, value)| self.entry(key, value, pack)));
        Table::in_order(entries)
    }

    /// Packs entry by entry; all at once only where they are not in order of appearance.
    fn packed(&mut self, table: &DeTable<'_>) -> Packed {
        self.packer.begin(table.len());
        for (key, value) in table {
            let entry = self.entry(key, value, None);
            if !self.packer.push(&entry) {
                let table = self.table(table, None);
                self.packer.begin(table.entries.len());
                table.entries.iter().for_each(|entry| _ = self.packer.push(entry));
                break;
            }
        }
        self.packer.finish()
    }
}

impl Value {
    /// Takes over a parsed value of file `source`.
    pub(super) fn new(source: SourceId, value: &Spanned<DeValue<'_>>) -> Value {
        Reader::new(source).value(value, None)
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

    /// The entries of a table, packed or not.
    pub(super) fn entries(&self) -> Option<Cow<'_, [Entry]>> {
        match &self.data {
            Data::Table(table) => Some(Cow::Borrowed(&table.entries)),
            Data::Packed(packed) => Some(Cow::Owned(packed.table(self.span.source).entries.into())),
            _ => None,
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

impl Entry {
    /// Its name as a value: where a table's keys refer to something.
    pub(super) fn name_as_value(&self) -> Value {
        Value { span: self.key, data: Data::Text(self.name.clone()) }
    }

    /// Where it begins: a table that is opened late may have parts that stand earlier, under headers of their own.
    pub(super) fn first_place(&self) -> usize {
        let inside = match &self.value.data {
            Data::Table(table) => table.entries.first().map_or(usize::MAX, Entry::first_place),
            Data::Packed(packed) => packed.first_place(),
            _ => usize::MAX,
        };
        self.key.range().start.min(inside)
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
