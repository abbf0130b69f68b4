//! MaxMind DB files, read into memory (never mapped: a mapped file truncated in place is a SIGBUS).
//!
//! A file is read once, wholly, when it is loaded: its tree is walked in the order of addresses and each record it
//! points to is decoded once, so that whatever is wrong with it is found before anyone is answered by it. What is left
//! is a [`RangeMap`] of places; the octets are dropped. `maxminddb` reads metadata and records; the walk is our own,
//! as that crate's takes any network that shares its record with the IPv4 ones for an alias of them.
//!
//! ```text
//! node    record 0 | record 1     24, 28 or 32 bits each; 28: the middle octet holds the top four bits of both
//! record  < node_count another node, = node_count nothing known, > node_count a value
//! ```
//! In a version 6 tree IPv4 networks lie at `::/96`. Where `2002::/16` and its like lead to the same node (6to4,
//! Teredo and mapped addresses) they are skipped: SPEC 4.1 reads such addresses as the IPv4 inside.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use maxminddb::{MaxMindDbError, Reader};

use super::places::{Interner, NumberMap, Places};
use super::range_map::{Bits, Builder};
use super::record::{Paths, Record};
use super::{Known, Place, PlaceId, RangeMap};

/// How many names the message about a useless file gives.
const NAMES_IN_MESSAGE: usize = 12;
/// Most records that are looked at to tell what there is in them.
const EXAMPLES: usize = 10_000;
/// Most things that records are said to have.
const MAX_FIELDS: usize = 100;

/// How many nodes down the IPv4 networks begin in a version 6 tree.
const IPV4_DEPTH: u32 = 96;

/// A geo data base; cheap to copy.
#[derive(Clone, Debug)]
pub struct Database {
    name: String,
    kind: String,
    built: u64,
    networks: [usize; 2],
    map: RangeMap<PlaceId>,
    pub(super) places: Places,
}

/// A data base, and how its file is made.
#[derive(Clone, Debug)]
pub struct Described {
    /// What it says.
    pub database: Database,
    /// 4, or 6 for both families.
    pub ip_version: u16,
    /// Bits of a record of its search tree: 24, 28 or 32.
    pub record_size: u16,
    /// What its records have, in order of first appearance; of large files the first of them were looked at.
    pub fields: Vec<Field>,
}

/// Something that records have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// `country.iso_code`.
    pub path: String,
    /// Whether Waymark reads it.
    pub is_read: bool,
}

impl Database {
    /// Takes the name that messages use, and the octets of a `.mmdb` file; its schema is told from its content.
    ///
    /// # Errors
    /// In words, without the name, when it is not a data base, is damaged, or says nothing that is understood.
    pub fn parse(name: String, octets: Vec<u8>) -> Result<Database, String> {
        let reader = Reader::from_source(octets.as_slice()).map_err(|error| not_a_database(&octets, &error))?;
        Survey::new(&reader, &octets).database(name).map(|(database, _)| database)
    }

    /// [`Database::parse`], and how the file is made.
    ///
    /// # Errors
    /// The same.
    pub fn describe(name: String, octets: Vec<u8>) -> Result<Described, String> {
        let reader = Reader::from_source(octets.as_slice()).map_err(|error| not_a_database(&octets, &error))?;
        let (database, examples) = Survey::new(&reader, &octets).database(name)?;
        let fields = fields(&reader, examples);
        let metadata = reader.metadata();
        Ok(Described { database, ip_version: metadata.ip_version, record_size: metadata.record_size, fields })
    }

    /// As given to [`Database::parse`].
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the publisher calls it, `GeoLite2-City`.
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// When it was made, in seconds since 1970.
    pub fn built(&self) -> u64 {
        self.built
    }

    /// How many networks its file has, IPv4 and IPv6: neighbours that say the same are apart there.
    pub fn networks(&self) -> [usize; 2] {
        self.networks
    }

    /// All it says, to be measured.
    pub fn known(&self) -> Known<'_> {
        Known { map: &self.map, places: self.places() }
    }

    /// What it says of every address.
    pub fn map(&self) -> &RangeMap<PlaceId> {
        &self.map
    }

    /// Its distinct places by [`PlaceId`]; the first is the unknown one.
    pub fn places(&self) -> &[Place] {
        self.places.as_slice()
    }

    /// Its name, the widest prefix around the address of which it says the same, and what that is.
    pub(super) fn says(&self, address: IpAddr) -> (String, IpNet, Place) {
        let (id, length) = self.map.lookup(address);
        let prefix = IpNet::new(address, length).expect("a scope is no longer than its address").trunc();
        (self.name.clone(), prefix, self.places.get(id).clone())
    }
}

/// Everything found on one walk through a file.
struct Survey<'a> {
    reader: &'a Reader<&'a [u8]>,
    tree: Tree<'a>,
    interner: Interner,
    /// Place of each record that was met, by the number in the tree that leads to it.
    decoded: NumberMap<PlaceId>,
    /// Steps that are left: a sound tree has as many as it has records; one whose nodes are reached over and over would
    /// take for ever.
    steps: usize,
    /// Networks that were met, by family.
    networks: [usize; 2],
    /// An address of each of the first records.
    examples: Vec<IpAddr>,
}

impl<'a> Survey<'a> {
    fn new(reader: &'a Reader<&'a [u8]>, octets: &'a [u8]) -> Survey<'a> {
        let metadata = reader.metadata();
        let tree = Tree {
            octets,
            node_count: metadata.node_count,
            record_size: metadata.record_size,
            version: metadata.ip_version,
        };
        let steps = 4 * metadata.node_count as usize + 256;
        Survey {
            reader,
            tree,
            interner: Interner::new(),
            decoded: NumberMap::default(),
            steps,
            networks: [0; 2],
            examples: Vec::new(),
        }
    }

    /// The data base, and addresses of records that tell what it has.
    fn database(mut self, name: String) -> Result<(Database, Vec<IpAddr>), String> {
        self.tree.check_end()?;
        let map = self.map()?;
        self.check_use()?;
        let metadata = self.reader.metadata();
        let (kind, built, networks) = (metadata.database_type.clone(), metadata.build_epoch, self.networks);
        Ok((Database { name, kind, built, networks, map, places: self.interner.finish() }, self.examples))
    }

    fn map(&mut self) -> Result<RangeMap<PlaceId>, String> {
        let (mut v4, mut v6) = (Builder::new(PlaceId::UNKNOWN), Builder::new(PlaceId::UNKNOWN));
        if self.tree.version == 4 {
            self.walk::<u32>(0, None, &mut v4)?;
        } else {
            let start = self.tree.ipv4_start();
            self.walk::<u32>(start, None, &mut v4)?;
            self.walk::<u128>(0, Some(start).filter(|&node| node < self.tree.node_count), &mut v6)?;
        }
        Ok(RangeMap::from_runs(v4, v6))
    }

    /// Takes the records below a node in the order of their addresses, leaving out the subtree at `except`.
    fn walk<A: Bits + Into<Address>>(
        &mut self,
        from: u32,
        except: Option<u32>,
        runs: &mut Builder<A, PlaceId>,
    ) -> Result<(), String> {
        let mut open = vec![(from, A::ZERO, 0)];
        while let Some((node, first, depth)) = open.pop() {
            self.steps =
                self.steps.checked_sub(1).ok_or("damaged: its search tree leads to the same nodes again and again")?;
            // One record may speak for all of IPv4, and is not for the IPv6 addresses where it lies either.
            if except == Some(node) || (depth == IPV4_DEPTH && first == A::ZERO) {
                runs.push(first, PlaceId::UNKNOWN);
            } else if node >= self.tree.node_count {
                runs.push(first, self.place(node, first.into())?);
            } else {
                let half = first.with_bit(depth).ok_or("damaged: its search tree is deeper than an address is long")?;
                open.push((self.tree.below(node, 1), half, depth + 1));
                open.push((self.tree.below(node, 0), first, depth + 1));
            }
        }
        Ok(())
    }

    /// The place that a leaf stands for; any address below it leads to its record.
    fn place(&mut self, leaf: u32, address: Address) -> Result<PlaceId, String> {
        if leaf == self.tree.node_count {
            return Ok(PlaceId::UNKNOWN);
        }
        self.networks[usize::from(address.0.is_ipv6())] += 1;
        if let Some(&id) = self.decoded.get(&leaf.into()) {
            return Ok(id);
        }
        if self.examples.len() < EXAMPLES {
            self.examples.push(address.0);
        }
        let record = self.reader.lookup(address.0).and_then(|found| found.decode::<Record<'_>>()).map_err(damaged)?;
        let id = self.interner.intern(record.unwrap_or_default().place());
        self.decoded.insert(leaf.into(), id);
        Ok(id)
    }

    /// Refuses a file from which nothing was learned.
    fn check_use(&self) -> Result<(), String> {
        if self.interner.len() > 1 {
            return Ok(());
        }
        if self.decoded.is_empty() {
            return Err("holds no networks".into());
        }
        let fields = fields(self.reader, self.examples.iter().copied());
        let names: Vec<&str> = fields.iter().take(NAMES_IN_MESSAGE).map(|field| &*field.path).collect();
        Err(format!("says nothing of where addresses are that is understood; its records have: {}", names.join(", ")))
    }
}

/// What the records of these addresses have.
fn fields(reader: &Reader<&[u8]>, examples: impl IntoIterator<Item = IpAddr>) -> Vec<Field> {
    let mut fields: Vec<Field> = Vec::new();
    for address in examples {
        let Ok(Some(paths)) = reader.lookup(address).and_then(|found| found.decode::<Paths>()) else { continue };
        for (path, is_read) in paths.0 {
            if fields.len() < MAX_FIELDS && fields.iter().all(|field| field.path != path) {
                fields.push(Field { path, is_read });
            }
        }
    }
    fields
}

/// The search tree of a file whose metadata is sound and whose length fits it.
struct Tree<'a> {
    octets: &'a [u8],
    node_count: u32,
    record_size: u16,
    version: u16,
}

impl Tree<'_> {
    fn below(&self, node: u32, side: usize) -> u32 {
        let size = usize::from(self.record_size) / 4;
        let node = &self.octets[node as usize * size..][..size];
        let number = |octets: &[u8]| octets.iter().fold(0, |number, &octet| number << 8 | u32::from(octet));
        match (self.record_size, side) {
            (28, 0) => u32::from(node[3] >> 4) << 24 | number(&node[..3]),
            (28, _) => number(&node[3..]) & 0x0fff_ffff,
            (_, 0) => number(&node[..size / 2]),
            (_, _) => number(&node[size / 2..]),
        }
    }

    /// Between tree and values are 16 zeros.
    fn check_end(&self) -> Result<(), String> {
        let end = self.node_count as usize * usize::from(self.record_size) / 4;
        let zeros = self.octets.get(end..end + 16).is_some_and(|octets| octets.iter().all(|&octet| octet == 0));
        if zeros { Ok(()) } else { Err("damaged: its search tree does not end where its metadata say".into()) }
    }

    /// What `::/96` leads to: the IPv4 networks, or a leaf.
    fn ipv4_start(&self) -> u32 {
        (0..IPV4_DEPTH).fold(0, |node, _| if node < self.node_count { self.below(node, 0) } else { node })
    }
}

/// An address made of its number.
struct Address(IpAddr);

impl From<u32> for Address {
    fn from(number: u32) -> Address {
        Address(Ipv4Addr::from(number).into())
    }
}

impl From<u128> for Address {
    fn from(number: u128) -> Address {
        Address(Ipv6Addr::from(number).into())
    }
}

/// Beginnings of what is given instead of a data base, and what to say of it.
const MISTAKEN: [(&[u8], &str); 6] = [
    (b"", "is empty"),
    (b"\x1f\x8b", "is compressed with gzip; unpack it first"),
    (b"PK\x03\x04", "is a zip archive; unpack it first"),
    (b"BZh", "is compressed with bzip2; unpack it first"),
    (b"\xfd7zXZ", "is compressed with xz; unpack it first"),
    (b"<", "is a web page or XML, not a MaxMind DB file"),
];

fn not_a_database(octets: &[u8], error: &MaxMindDbError) -> String {
    let given = |(head, _): &&(&[u8], &str)| if head.is_empty() { octets.is_empty() } else { octets.starts_with(head) };
    match MISTAKEN.iter().find(given) {
        Some((_, what)) => (*what).into(),
        None => format!("is no MaxMind DB file, or is cut short ({} octets): {error}", octets.len()),
    }
}

fn damaged(error: MaxMindDbError) -> String {
    format!("damaged: {error}")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::geo::mmdb::{Value, Writer, map, text};

    fn country(code: &str) -> Value {
        map([("country", map([("iso_code", text(code)), ("names", map([("en", text("…"))]))]))])
    }

    fn sample() -> Writer {
        Writer::new([
            ("192.0.2.0/24", country("US")),
            ("203.0.113.0/24", country("DE")),
            ("203.0.113.128/25", country("TR")),
            ("2001:db8::/32", country("FR")),
            ("2001:db8:1::/48", country("JP")),
        ])
    }

    fn parse(writer: &Writer) -> Database {
        Database::parse("test.mmdb".into(), writer.write()).unwrap()
    }

    fn at(database: &Database, address: &str) -> (String, u8) {
        let (id, scope) = database.map().lookup(address.parse().unwrap());
        (database.places()[id.0 as usize].country.map_or("-".into(), |code| code.to_string()), scope)
    }

    fn is(country: &str, scope: u8) -> (String, u8) {
        (country.into(), scope)
    }

    #[test]
    fn every_layout_reads_alike() {
        for record_size in [24, 28, 32] {
            for aliases in [false, true] {
                let database = parse(&Writer { record_size, aliases, ..sample() });
                assert_eq!(at(&database, "192.0.2.9"), is("US", 24));
                assert_eq!(at(&database, "203.0.113.9"), is("DE", 25));
                assert_eq!(at(&database, "203.0.113.200"), is("TR", 25));
                assert_eq!(at(&database, "203.0.112.1"), is("-", 24));
                assert_eq!(at(&database, "2001:db8:2::1"), is("FR", 47));
                assert_eq!(at(&database, "2001:db8:1::1"), is("JP", 48));
                for alias in ["::192.0.2.9", "::ffff:192.0.2.9", "2002:c000:0209::1", "2001:0:c000:209::"] {
                    assert_eq!(at(&database, alias).0, "-", "{alias}");
                }
                assert_eq!(
                    (database.name(), database.kind(), database.built()),
                    ("test.mmdb", "Waymark-Test", 1_767_225_600)
                );
                assert_eq!(database.places().len(), 5 + 1);
            }
        }
    }

    #[test]
    fn files_of_one_family() {
        let mut v4 = Writer { ip_version: 4, ..sample() };
        v4.networks.retain(|(prefix, _)| matches!(prefix, IpNet::V4(_)));
        let database = parse(&v4);
        assert_eq!(at(&database, "203.0.113.9"), is("DE", 25));
        assert_eq!(at(&database, "2001:db8::1"), is("-", 0));

        let mut v6 = sample();
        v6.networks.retain(|(prefix, _)| matches!(prefix, IpNet::V6(_)));
        let database = parse(&v6);
        assert_eq!(at(&database, "203.0.113.9"), is("-", 0));
        assert_eq!(at(&database, "2001:db8:1::1"), is("JP", 48));
    }

    #[test]
    fn a_record_around_the_ipv4_space_is_no_alias() {
        let database = parse(&Writer::new([("::/3", country("US")), ("2000::/3", country("US"))]));
        assert_eq!(at(&database, "192.0.2.1"), is("US", 0));
        assert_eq!(at(&database, "2a00::1"), is("US", 2));
        assert_eq!(at(&database, "::5"), is("US", 2));
        assert_eq!(at(&database, "4000::"), is("-", 2));
    }

    #[test]
    fn one_record_of_all_ipv4_is_for_no_ipv6() {
        let database = parse(&Writer::new([("0.0.0.0/0", country("US")), ("2a00::/16", country("DE"))]));
        assert_eq!(at(&database, "192.0.2.1"), is("US", 0));
        assert_eq!(at(&database, "::5"), is("-", 3));
    }

    #[test]
    fn the_whole_space_in_one_record() {
        for (ip_version, prefix) in [(4, "0.0.0.0/0"), (6, "::/0")] {
            let database = parse(&Writer { ip_version, aliases: false, ..Writer::new([(prefix, country("US"))]) });
            assert_eq!(at(&database, "255.255.255.255"), is("US", 0));
        }
    }

    #[test]
    fn neighbours_of_one_place_merge() {
        let database = parse(&Writer::new([("192.0.2.0/25", country("US")), ("192.0.2.128/25", country("us"))]));
        assert_eq!(at(&database, "192.0.2.1"), is("US", 24));
        assert_eq!(database.map().runs(), 3 + 1);
    }

    #[test]
    fn what_says_nothing_is_refused_with_its_names() {
        let useless = map([("is_anycast", Value::Bool(true)), ("isp", text("Example"))]);
        let error = Database::parse("x".into(), Writer::new([("192.0.2.0/24", useless)]).write()).unwrap_err();
        assert_eq!(error, "says nothing of where addresses are that is understood; its records have: is_anycast, isp");
        let error = Database::parse("x".into(), Writer::new([]).write()).unwrap_err();
        assert_eq!(error, "holds no networks");
    }

    #[test]
    fn what_is_no_data_base_is_refused_in_words() {
        for (octets, words) in [
            (&b""[..], "is empty"),
            (b"\x1f\x8b\x08\x00rest", "unpack it first"),
            (b"PK\x03\x04rest", "unpack it first"),
            (b"<!DOCTYPE html>", "is a web page"),
            (b"network,country_code\n192.0.2.0/24,US\n", "is no MaxMind DB file, or is cut short (37 octets)"),
            (&[0; 4096], "is no MaxMind DB file"),
        ] {
            let error = Database::parse("x".into(), octets.to_vec()).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn every_truncation_is_refused() {
        let whole = sample().write();
        let metadata = whole.windows(3).rposition(|octets| octets == b"\xab\xcd\xef").unwrap();
        for length in (0..whole.len()).filter(|length| length % 97 == 0 || *length >= metadata) {
            assert!(Database::parse("x".into(), whole[..length].to_vec()).is_err(), "{length} of {}", whole.len());
        }
        for missing in [1, 100, whole.len() / 2] {
            assert!(Database::parse("x".into(), whole[missing..].to_vec()).is_err(), "without the first {missing}");
        }
    }

    /// The octet behind a name of the metadata is of the value's kind and length, then comes the value.
    #[test]
    fn metadata_that_cannot_be_are_refused() {
        let whole = sample().write();
        let position = |name: &str| whole.windows(name.len()).rposition(|octets| octets == name.as_bytes()).unwrap();
        for (name, value) in
            [("record_size", 26), ("record_size", 0), ("ip_version", 5), ("binary_format_major_version", 3)]
        {
            let mut odd = whole.clone();
            odd[position(name) + name.len() + 1] = value;
            let error = Database::parse("x".into(), odd).unwrap_err();
            assert!(error.contains("is no MaxMind DB file"), "{name} {value}: {error}");
        }
        for name in ["node_count", "record_size", "ip_version"] {
            let mut without = whole.clone();
            without[position(name)] = b'_';
            assert!(Database::parse("x".into(), without).is_err(), "without {name}");
        }
        // A tree of fewer nodes than there are, and of more.
        for value in [1, 255] {
            let mut odd = whole.clone();
            let at = position("node_count") + "node_count".len();
            let length = usize::from(odd[at] & 0x1f);
            odd[at + length] = value;
            assert!(Database::parse("x".into(), odd).is_err(), "a node count that ends in {value}");
        }
    }

    #[test]
    fn what_is_in_a_file_is_described() {
        let Described { database, ip_version, record_size, fields } =
            Database::describe("x".into(), sample().write()).unwrap();
        assert_eq!((ip_version, record_size, database.networks()), (6, 28, [3, 17]));
        let paths: Vec<(&str, bool)> = fields.iter().map(|field| (&*field.path, field.is_read)).collect();
        assert_eq!(paths, [("country.iso_code", true), ("country.names", false)]);
    }

    /// All records of a node lead back to the root, or to nodes shared by all others.
    #[test]
    fn endless_trees_are_refused() {
        let mut looped = sample().write();
        looped[..7].fill(0);
        assert!(Database::parse("x".into(), looped).unwrap_err().starts_with("damaged: its search tree"));
        let mut folded = Writer { record_size: 32, ..sample() }.write();
        for node in 0..100_u32 {
            let next = (node + 1).to_be_bytes();
            folded[node as usize * 8..][..8].copy_from_slice(&[next, next].concat());
        }
        assert!(Database::parse("x".into(), folded).unwrap_err().starts_with("damaged: its search tree"));
    }

    proptest! {
        #[test]
        fn noise_never_panics(
            flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
            size in 0..3usize,
        ) {
            let mut octets = Writer { record_size: [24, 28, 32][size], ..sample() }.write();
            let length = octets.len();
            for (at, octet) in flips {
                // Half of them in what stands after the tree, which is far shorter than it.
                let at = if octet % 2 == 0 { at.index(length) } else { length - 1 - at.index(400) };
                octets[at] = octet;
            }
            let _ = Database::parse("x".into(), octets);
        }
    }
}
