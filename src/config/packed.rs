//! Tables as octets, for the time between reading a file and compiling what it says: as a tree the values of a million
//! instances take several hundred megabytes, and most of it is places that are looked at only when something is wrong.
//!
//! ```text
//! table   number of entries, entries
//! entry   name: text, place of the key, value
//! value   form (one octet), place, data
//! text    length, octets
//! place   octets from the beginning of the place before (zigzag), length
//! ```
//!
//! Numbers have seven bits in an octet, the lowest first; the eighth says that more follow. All places of a table are in
//! one file.

use super::value::{Data, Entry, Table, Value};
use crate::fleet::Word;
use crate::problem::{SourceId, Span};

const BROKEN: u8 = 0;
const DATETIME: u8 = 1;
const FALSE: u8 = 2;
const TRUE: u8 = 3;
const TEXT: u8 = 4;
const INTEGER: u8 = 5;
const HUGE: u8 = 6;
const FLOAT: u8 = 7;
const ARRAY: u8 = 8;
const TABLE: u8 = 9;

/// A table that was packed.
#[derive(Clone, Debug)]
pub(super) struct Packed(Box<[u8]>);

impl Packed {
    /// The table, whose places are in `source`.
    pub(super) fn table(&self, source: SourceId) -> Table {
        Unpacker { rest: &self.0, source, last: 0 }.table()
    }

    /// Where the table begins, whatever its header says.
    pub(super) fn first_place(&self) -> usize {
        let mut unpacker = Unpacker { rest: &self.0, source: SourceId(0), last: 0 };
        match unpacker.number() {
            0 => usize::MAX,
            _ => unpacker.entry().first_place(),
        }
    }
}

/// Packs one table after the other.
#[derive(Default)]
pub(super) struct Packer {
    out: Vec<u8>,
    /// Where the last place began.
    last: i64,
    /// Where the entry before began.
    before: usize,
}

impl Packer {
    /// Begins a table of so many entries.
    pub(super) fn begin(&mut self, entries: usize) {
        self.out.clear();
        (self.last, self.before) = (0, 0);
        self.number(entries as u64);
    }

    /// Packs the next entry, unless it begins before the one before.
    pub(super) fn push(&mut self, entry: &Entry) -> bool {
        let at = entry.first_place();
        let is_next = at >= self.before;
        if is_next {
            self.before = at;
            self.entry(entry);
        }
        is_next
    }

    pub(super) fn finish(&mut self) -> Packed {
        Packed(Box::from(&self.out[..]))
    }

    fn table(&mut self, table: &Table) {
        self.number(table.entries.len() as u64);
        table.entries.iter().for_each(|entry| self.entry(entry));
    }

    fn entry(&mut self, entry: &Entry) {
        self.text(&entry.name);
        self.place(entry.key);
        self.value(&entry.value);
    }

    fn value(&mut self, value: &Value) {
        let mut begin = |form| {
            self.out.push(form);
            self.place(value.span);
        };
        match &value.data {
            Data::Broken => begin(BROKEN),
            Data::Datetime => begin(DATETIME),
            Data::Boolean(false) => begin(FALSE),
            Data::Boolean(true) => begin(TRUE),
            Data::Text(text) => {
                begin(TEXT);
                self.text(text);
            }
            Data::Integer(number) => {
                begin(INTEGER);
                self.number(zigzag(*number));
            }
            Data::Huge(number) => {
                begin(HUGE);
                self.out.extend(number.to_le_bytes());
            }
            Data::Float(number) => {
                begin(FLOAT);
                self.out.extend(number.to_le_bytes());
            }
            Data::Array(values) => {
                begin(ARRAY);
                self.number(values.len() as u64);
                values.iter().for_each(|value| self.value(value));
            }
            Data::Table(table) => {
                begin(TABLE);
                self.table(table);
            }
            Data::Packed(packed) => {
                begin(TABLE);
                self.table(&packed.table(value.span.source));
            }
        }
    }

    fn text(&mut self, text: &Word) {
        self.number(text.as_bytes().len() as u64);
        self.out.extend_from_slice(text.as_bytes());
    }

    fn place(&mut self, span: Span) {
        let (start, end) = (span.range().start as i64, span.range().end as i64);
        self.number(zigzag(start - self.last));
        self.number(zigzag(end - start));
        self.last = start;
    }

    fn number(&mut self, mut number: u64) {
        while number > 0x7f {
            self.out.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.out.push(number as u8);
    }
}

/// Small numbers for those near zero: 0, -1, 1, -2 … become 0, 1, 2, 3 …
fn zigzag(number: i64) -> u64 {
    (number << 1 ^ number >> 63) as u64
}

fn unzigzag(number: u64) -> i64 {
    (number >> 1) as i64 ^ -((number & 1) as i64)
}

struct Unpacker<'p> {
    rest: &'p [u8],
    source: SourceId,
    last: i64,
}

impl Unpacker<'_> {
    fn table(&mut self) -> Table {
        Table { entries: (0..self.number()).map(|_| self.entry()).collect() }
    }

    fn entry(&mut self) -> Entry {
        Entry { name: self.text(), key: self.place(), value: self.value() }
    }

    fn value(&mut self) -> Value {
        let [form] = self.octets();
        let span = self.place();
        let data = match form {
            DATETIME => Data::Datetime,
            FALSE => Data::Boolean(false),
            TRUE => Data::Boolean(true),
            TEXT => Data::Text(self.text()),
            INTEGER => Data::Integer(unzigzag(self.number())),
            HUGE => Data::Huge(Box::new(i128::from_le_bytes(self.octets()))),
            FLOAT => Data::Float(f64::from_le_bytes(self.octets())),
            ARRAY => Data::Array((0..self.number()).map(|_| self.value()).collect()),
            TABLE => Data::Table(self.table()),
            _ => Data::Broken,
        };
        Value { span, data }
    }

    fn text(&mut self) -> Word {
        let length = self.number() as usize;
        let (text, rest) = self.rest.split_at(length);
        self.rest = rest;
        Word::from(std::str::from_utf8(text).expect("it was packed as a str"))
    }

    fn place(&mut self) -> Span {
        let start = self.last + unzigzag(self.number());
        let end = start + unzigzag(self.number());
        self.last = start;
        Span::new(self.source, start as usize..end as usize)
    }

    fn number(&mut self) -> u64 {
        let mut number = 0;
        for shift in (0..).step_by(7) {
            let [octet] = self.octets();
            number |= u64::from(octet & 0x7f) << shift;
            if octet & 0x80 == 0 {
                break;
            }
        }
        number
    }

    fn octets<const N: usize>(&mut self) -> [u8; N] {
        let (octets, rest) = self.rest.split_first_chunk().expect("what was packed ends where it did");
        self.rest = rest;
        *octets
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::value::Reader;

    /// What `[pools]` of a text says, with and without packing.
    fn both(text: &str) -> [String; 2] {
        let source = SourceId(7);
        let (document, _) = toml::de::DeTable::parse_recoverable(text);
        let (key, pools) = document.get_ref().get_key_value("pools").expect("pools");
        let packed = Reader::new(source).top_entry(key, pools);
        let mut instances = 0;
        let Data::Table(mut pools) = packed.value.data else { panic!("a table") };
        for pool in &mut pools.entries {
            let Data::Table(pool) = &mut pool.value.data else { panic!("a table") };
            for entry in &mut pool.entries {
                instances += usize::from(matches!(entry.value.data, Data::Packed(_)));
                let entries = entry.value.entries().map(|entries| entries.into_owned());
                entry.value.data = Data::Table(Table { entries: entries.expect("a table").into() });
            }
        }
        assert_eq!(instances, pools.entries.len());
        let tree = Value::new(source, document.get_ref().get("pools").expect("pools"));
        [format!("{pools:?}"), format!("{:?}", tree.table().expect("a table"))]
    }

    #[test]
    fn unpacks_what_was_packed() {
        let [unpacked, tree] = both(
            r#"
            [pools.a.instances]
            a = { text = "ü", "" = 'a text that is longer than what stands in place', no = false, yes = true }
            b = [0, -1, 63, 64, -9223372036854775808, 9223372036854775808, 99999999999999999999999999999999999999999]
            c = [1.5, -inf, 1979-05-27, [], {}, [{ x = [[1]] }]]
            [pools.empty.instances]
            [pools.broken.instances]
            x =
            "#,
        );
        assert_eq!(unpacked, tree);
    }

    #[test]
    fn keeps_the_order_of_appearance() {
        let [unpacked, tree] = both(
            "[pools.b.instances.z.y]\na = 1\n[pools.a.instances]\nz = 1\n[pools.c.instances.y]\n[pools.b.instances.x]\n\
             [pools.b.instances.z]\nb = 1\n[pools.b.instances]\nw = 1\n[pools.a.instances.y]\n[pools.b]\n",
        );
        assert_eq!(unpacked, tree);
    }
}
