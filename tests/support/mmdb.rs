//! Writes MaxMind DB files (format 2.0) for tests: prefixes and what is said of them, as any publisher would lay them
//! out.
//!
//! ```text
//! search tree   two records a node: another node, node_count = nothing, or node_count + 16 + offset of a value
//! 16 zeros
//! values        each distinct one once
//! marker        ab cd ef "MaxMind.com"
//! metadata      a map
//! ```

// Each test binary that includes this file uses a part of it.
#![allow(dead_code, unreachable_pub)]

use std::net::IpAddr;

use ipnet::IpNet;

/// A value of the data section.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Type 2.
    Text(String),
    /// Type 3.
    Double(f64),
    /// Type 5.
    U16(u16),
    /// Type 6.
    U32(u32),
    /// Type 9.
    U64(u64),
    /// Type 7; keys in the order given.
    Map(Vec<(String, Value)>),
    /// Type 11.
    Array(Vec<Value>),
    /// Type 14.
    Bool(bool),
}

/// A map.
pub fn map<const N: usize>(entries: [(&str, Value); N]) -> Value {
    Value::Map(entries.map(|(key, value)| (key.to_owned(), value)).into())
}

/// A string.
pub fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

/// A file to be.
#[derive(Clone, Debug)]
pub struct Writer {
    /// 4 or 6; IPv4 networks of a version 6 tree lie at `::/96`.
    pub ip_version: u16,
    /// Bits: 24, 28 or 32.
    pub record_size: u16,
    /// What the publisher calls it: programs go by `City` and `Country` in it.
    pub kind: &'static str,
    /// `2002::/16`, `2001::/32` and `::ffff:0:0/96` point to the IPv4 networks, as MaxMind has it.
    pub aliases: bool,
    /// Prefixes and what is said of them; the longest match counts.
    pub networks: Vec<(IpNet, Value)>,
}

impl Writer {
    /// For these networks, given as text, as a version 6 file with aliases.
    pub fn new(networks: impl IntoIterator<Item = (&'static str, Value)>) -> Writer {
        let networks = networks.into_iter().map(|(prefix, value)| (prefix.parse().expect("a prefix"), value));
        let (kind, networks) = ("Waymark-Test", networks.collect());
        Writer { ip_version: 6, record_size: 28, kind, aliases: true, networks }
    }

    /// The octets of the file.
    pub fn write(&self) -> Vec<u8> {
        let mut networks: Vec<(IpNet, &Value)> = self.networks.iter().map(|(prefix, value)| (*prefix, value)).collect();
        networks.sort_by_key(|(prefix, _)| self.place(*prefix).1);
        self.write_all(networks)
    }

    /// The octets of a file of these networks, outer ones before those inside them.
    pub fn write_all<'v>(&self, networks: impl IntoIterator<Item = (IpNet, &'v Value)>) -> Vec<u8> {
        let mut data = Data::default();
        let mut tree = Tree { nodes: vec![[Record::Nothing; 2]] };
        for (prefix, value) in networks {
            let (address, length) = self.place(prefix);
            tree.set(address, length, Record::Value(data.add(value)));
        }
        if self.aliases && self.ip_version == 6 {
            tree.alias();
        }
        let mut file = tree.encode(self.record_size);
        file.extend([0; 16]);
        file.extend(data.octets);
        file.extend(b"\xab\xcd\xefMaxMind.com");
        encode(&self.metadata(tree.nodes.len()), &mut file);
        file
    }

    /// Where in the tree a prefix is: bits from the top, and how many.
    fn place(&self, prefix: IpNet) -> (u128, u8) {
        match (prefix.network(), self.ip_version) {
            (IpAddr::V4(address), 4) => (u128::from(u32::from(address)) << 96, prefix.prefix_len()),
            (IpAddr::V4(address), _) => (u32::from(address).into(), prefix.prefix_len() + 96),
            (IpAddr::V6(address), 6) => (address.into(), prefix.prefix_len()),
            (IpAddr::V6(_), _) => panic!("an IPv6 network in an IPv4 file"),
        }
    }

    fn metadata(&self, nodes: usize) -> Value {
        map([
            ("binary_format_major_version", Value::U16(2)),
            ("binary_format_minor_version", Value::U16(0)),
            ("build_epoch", Value::U64(1_767_225_600)),
            ("database_type", text(self.kind)),
            ("description", map([("en", text("made for a test"))])),
            ("ip_version", Value::U16(self.ip_version)),
            ("languages", Value::Array(vec![text("en")])),
            ("node_count", Value::U32(nodes as u32)),
            ("record_size", Value::U16(self.record_size)),
        ])
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Record {
    Nothing,
    Node(usize),
    /// Offset in the data section.
    Value(usize),
}

struct Tree {
    nodes: Vec<[Record; 2]>,
}

impl Tree {
    /// What is there already moves down where a longer prefix needs room.
    fn set(&mut self, address: u128, length: u8, record: Record) {
        if length == 0 {
            self.nodes[0] = [record; 2];
            return;
        }
        let mut node = 0;
        for depth in 0..length - 1 {
            node = self.below(node, bit(address, depth));
        }
        self.nodes[node][bit(address, length - 1)] = record;
    }

    fn below(&mut self, node: usize, side: usize) -> usize {
        match self.nodes[node][side] {
            Record::Node(below) => below,
            leaf => {
                self.nodes.push([leaf; 2]);
                let below = self.nodes.len() - 1;
                self.nodes[node][side] = Record::Node(below);
                below
            }
        }
    }

    fn alias(&mut self) {
        let mut node = 0;
        for _ in 0..96 {
            let Record::Node(below) = self.nodes[node][0] else { return };
            node = below;
        }
        self.set(0x2002 << 112, 16, Record::Node(node));
        self.set(0x2001 << 112, 32, Record::Node(node));
        self.set(0xffff << 32, 96, Record::Node(node));
    }

    fn encode(&self, record_size: u16) -> Vec<u8> {
        let count = self.nodes.len();
        let number = |record| match record {
            Record::Nothing => count as u32,
            Record::Node(node) => node as u32,
            Record::Value(offset) => (count + 16 + offset) as u32,
        };
        self.nodes.iter().flat_map(|[left, right]| node(number(*left), number(*right), record_size)).collect()
    }
}

fn bit(address: u128, depth: u8) -> usize {
    (address >> (127 - depth)) as usize & 1
}

fn node(left: u32, right: u32, record_size: u16) -> Vec<u8> {
    let (l, r) = (left.to_be_bytes(), right.to_be_bytes());
    assert!(record_size == 32 || left.max(right) >> record_size == 0, "the file needs larger records");
    match record_size {
        24 => [&l[1..], &r[1..]].concat(),
        28 => [&l[1..], &[l[0] << 4 | r[0]], &r[1..]].concat(),
        32 => [l, r].concat(),
        other => panic!("no records of {other} bits"),
    }
}

/// The data section; equal values stand once, as publishers have it.
#[derive(Default)]
struct Data {
    octets: Vec<u8>,
    offsets: std::collections::HashMap<Vec<u8>, usize>,
}

impl Data {
    fn add(&mut self, value: &Value) -> usize {
        let mut octets = Vec::new();
        encode(value, &mut octets);
        *self.offsets.entry(octets).or_insert_with_key(|octets| {
            self.octets.extend(octets);
            self.octets.len() - octets.len()
        })
    }
}

fn encode(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Text(text) => payload(2, text.as_bytes(), out),
        Value::Double(number) => payload(3, &number.to_be_bytes(), out),
        Value::U16(number) => payload(5, significant(&number.to_be_bytes()), out),
        Value::U32(number) => payload(6, significant(&number.to_be_bytes()), out),
        Value::U64(number) => payload(9, significant(&number.to_be_bytes()), out),
        Value::Bool(yes) => control(14, usize::from(*yes), out),
        Value::Array(values) => {
            control(11, values.len(), out);
            values.iter().for_each(|value| encode(value, out));
        }
        Value::Map(entries) => {
            control(7, entries.len(), out);
            for (key, value) in entries {
                payload(2, key.as_bytes(), out);
                encode(value, out);
            }
        }
    }
}

fn significant(octets: &[u8]) -> &[u8] {
    let zeros = octets.iter().take_while(|&&octet| octet == 0).count();
    &octets[zeros..]
}

fn payload(kind: u8, octets: &[u8], out: &mut Vec<u8>) {
    control(kind, octets.len(), out);
    out.extend(octets);
}

/// Type and size: three bits and five, each with its way out for larger ones.
fn control(kind: u8, size: usize, out: &mut Vec<u8>) {
    let (head, extended) = if kind < 8 { (kind << 5, None) } else { (0, Some(kind - 7)) };
    let (short, rest) = match size {
        0..29 => (size as u8, vec![]),
        29..285 => (29, vec![(size - 29) as u8]),
        285..65_821 => (30, ((size - 285) as u16).to_be_bytes().to_vec()),
        _ => panic!("a value this large is not for tests"),
    };
    out.push(head | short);
    out.extend(extended);
    out.extend(rest);
}
