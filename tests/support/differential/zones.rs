//! Zones out of a seed, as text: few labels, so that names meet; every kind of node and most types.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::name::{self, Wire};
use crate::support::world::Random;

/// Zones below one another and beside; the last has odd octets in its name.
const ORIGINS: [&str; 6] =
    ["example", "child.example", "other.test", "far.away.other.test", "zone.deep.a.a.net", "odd"];
/// Names outside of all.
const OUTSIDE: [&str; 6] = ["", "test", "net", "www.invalid", "exampl", "notexample"];
/// Labels of owners; those at the front are drawn more often.
const LABELS: [&[u8]; 20] = [
    b"a",
    b"b",
    b"c",
    b"d",
    b"www",
    b"*",
    b"e",
    b"f",
    b"mail",
    b"ns1",
    b"_tcp",
    b"*a",
    b"x.y",
    b"\0",
    b"\xff\xfe",
    b" ",
    b"\"@;(",
    b"\\",
    b"-",
    b"ThisLabelHasSixtyThreeOctets-abcdefghijklmnopqrstuvwxyz-0123456",
];
/// Owners that are drawn for each zone, besides those that each has.
const OWNERS: usize = 90;

/// A zone file.
pub struct Zone {
    /// In lower case.
    pub origin: Wire,
    pub text: String,
}

/// All that is served.
pub struct Zones {
    pub zones: Vec<Zone>,
    /// Owners, and names that records point to.
    pub names: Vec<Wire>,
}

impl Zones {
    /// The same seed makes the same zones.
    pub fn new(seed: u64) -> Zones {
        let mut random = Random(seed);
        let mut drafts: Vec<Draft> = ORIGINS.iter().map(|origin| Draft::new(name::of(origin), &mut random)).collect();
        let mut names: Vec<Wire> = drafts.iter().flat_map(|draft| draft.owners.keys().cloned()).collect();
        names.extend(OUTSIDE.map(name::of));
        let zones: Vec<Zone> = drafts.iter_mut().map(|draft| draft.write(&names, &mut random)).collect();
        Zones { zones, names }
    }

    /// The zone that a name in lower case is in.
    pub fn zone_of(&self, name: &[u8]) -> Option<&Zone> {
        name::upwards(name).find_map(|each| self.zones.iter().find(|zone| zone.origin == each))
    }
}

/// What stands at a name.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Data,
    /// An RRset that does not fit a datagram.
    Large,
    Cname,
    Dname,
    Cut,
    /// The next of a chain, which is longer than servers follow.
    Chain(usize),
}

/// Links of the long chain in each zone.
const CHAIN: usize = 24;

struct Draft {
    origin: Wire,
    owners: BTreeMap<Wire, Kind>,
}

impl Draft {
    fn new(origin: Wire, random: &mut Random) -> Draft {
        let mut draft = Draft { origin, owners: BTreeMap::new() };
        for _ in 0..OWNERS {
            if let Some(owner) = draft.draw_owner(random) {
                let kind = draft.draw_kind(&owner, random);
                draft.owners.entry(owner).or_insert(kind);
            }
        }
        for link in 0..CHAIN {
            let owner = draft.link(link);
            draft.owners.insert(owner, Kind::Chain(link));
        }
        draft
    }

    fn link(&self, number: usize) -> Wire {
        name::below(format!("chain{number}").as_bytes(), &self.origin).expect("short")
    }

    /// A name below the apex by one label to four, or one of 255 octets. Not below a DNAME, where nothing may be, and
    /// below a cut, where it is never seen, seldom.
    fn draw_owner(&self, random: &mut Random) -> Option<Wire> {
        let mut owner = self.origin.clone();
        let depth = 1 + random.below(4);
        for _ in 0..depth {
            let most = 1 + random.below(LABELS.len() as u64);
            let label = LABELS[random.below(most) as usize].to_ascii_lowercase();
            owner = name::below(&label, &owner)?;
        }
        if random.one_in(40) {
            while owner.len() <= name::MAX_NAME - 2 {
                let room = name::MAX_NAME - owner.len() - 1;
                owner = name::below(&vec![b'l'; room.min(40)], &owner)?;
            }
        }
        let is_hidden = name::upwards(name::parent(&owner)).any(|above| match self.owners.get(above) {
            Some(Kind::Dname) => true,
            Some(Kind::Cut) => random.below(5) > 0,
            _ => false,
        });
        Some(owner).filter(|_| !is_hidden)
    }

    fn draw_kind(&self, owner: &[u8], random: &mut Random) -> Kind {
        let is_leaf = !self.owners.keys().any(|other| other != owner && name::is_within(other, owner));
        let is_wildcard = owner.starts_with(b"\x01*");
        let is_behind_cut = name::upwards(owner).any(|above| self.owners.get(above) == Some(&Kind::Cut));
        match random.below(20) {
            0..5 => Kind::Cname,
            5..7 if is_leaf && !is_wildcard && !is_behind_cut => Kind::Dname,
            7..10 if !is_wildcard => Kind::Cut,
            10 => Kind::Large,
            _ => Kind::Data,
        }
    }

    fn write(&mut self, names: &[Wire], random: &mut Random) -> Zone {
        let origin = name::text(&self.origin);
        let minimum = 30 + random.below(5000);
        let mut text =
            format!("$TTL 300\n{origin} 3000 SOA ns1.{origin} hostmaster.{origin} 7 7200 1800 259200 {minimum}\n");
        let apex = format!("NS ns1.{origin}\nNS ns.invalid.\nMX 10 mail.{origin}\nTXT \"apex\"\n");
        for line in apex.lines() {
            let _ = writeln!(text, "{origin} {line}");
        }
        let mut writer = Writer { draft: self, names, random, text };
        writer.name_server();
        for (owner, kind) in &self.owners {
            writer.node(owner, *kind);
        }
        for child in ORIGINS.map(name::of) {
            if name::is_within(name::parent(&child), &self.origin) {
                writer.cut(&child);
            }
        }
        Zone { origin: self.origin.clone(), text: writer.text }
    }
}

struct Writer<'a> {
    draft: &'a Draft,
    names: &'a [Wire],
    random: &'a mut Random,
    text: String,
}

impl Writer<'_> {
    fn record(&mut self, owner: &[u8], rest: &str) {
        let _ = writeln!(self.text, "{} {rest}", name::text(owner));
    }

    /// The address of the apex's server, unless that name is used for something else.
    fn name_server(&mut self) {
        let owner = name::below(b"ns1", &self.draft.origin).expect("short");
        if !self.draft.owners.contains_key(&owner) {
            self.record(&owner, "A 192.0.2.53");
            self.record(&owner, "AAAA 2001:db8::53");
        }
    }

    fn node(&mut self, owner: &[u8], kind: Kind) {
        match kind {
            Kind::Data => self.data(owner),
            Kind::Large => self.large(owner),
            Kind::Cname => {
                let target = self.target(owner);
                let ttl = self.random.below(1000);
                self.record(owner, &format!("{ttl} CNAME {target}"));
            }
            Kind::Dname => {
                let target = self.target(owner);
                self.record(owner, &format!("600 DNAME {target}"));
                if self.random.one_in(2) {
                    self.record(owner, "TXT \"beside a DNAME\"");
                }
            }
            Kind::Cut => self.cut(owner),
            Kind::Chain(link) => {
                let next = self.draft.link(link + 1);
                self.record(owner, &format!("CNAME {}", name::text(&next)));
            }
        }
    }

    /// Any name that is, or one below it, or none; of those within some zone most.
    fn target(&mut self, owner: &[u8]) -> String {
        let drawn = self.random.below(self.names.len() as u64) as usize;
        let target = match self.random.below(12) {
            // A circle of one.
            0 => owner.to_vec(),
            1 | 2 => name::below(b"zz", &self.names[drawn]).unwrap_or_else(|| owner.to_vec()),
            3 => name::below(b"zz", &self.draft.origin).expect("short"),
            _ => self.names[drawn].clone(),
        };
        name::text(&target)
    }

    /// NS within, beside and outside, with the glue that the first need.
    fn cut(&mut self, owner: &[u8]) {
        let text = name::text(owner);
        self.record(owner, "NS ns.invalid.");
        if self.random.one_in(2)
            && let Some(server) = name::below(b"ns-of-cut", owner)
        {
            self.record(owner, &format!("NS ns-of-cut.{text}"));
            self.record(&server, "A 192.0.2.54");
            if self.random.one_in(2) {
                self.record(&server, "AAAA 2001:db8::54");
            }
        }
        let beside = name::below(b"ns1", &self.draft.origin).expect("short");
        // Nobody would find it where it is below the cut.
        if !name::is_within(&beside, owner) && self.random.one_in(3) {
            self.record(owner, &format!("NS {}", name::text(&beside)));
        }
        if self.random.one_in(3) {
            self.record(owner, "60 DS 4711 13 2 00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff");
        }
    }

    fn large(&mut self, owner: &[u8]) {
        let count = 5 + self.random.below(80);
        let kind = self.random.below(3);
        for number in 0..count {
            match kind {
                0 => self.record(owner, &format!("A 198.51.100.{number}")),
                1 => self.record(owner, &format!("TXT \"{}{number}\"", "large ".repeat(8))),
                _ => self.record(owner, &format!("MX {number} mail{number}.invalid.")),
            }
        }
    }

    /// One RRset to four, at most one of a type.
    fn data(&mut self, owner: &[u8]) {
        let mut types = vec![];
        for _ in 0..=self.random.below(4) {
            let number = self.random.below(TYPES.len() as u64) as usize;
            if !types.contains(&number) {
                types.push(number);
            }
        }
        for number in types {
            let ttl = self.random.below(100_000);
            for index in 0..=self.random.below(3) {
                let drawn = self.random.below(self.names.len() as u64) as usize;
                let data = TYPES[number].replace("@NAME@", &name::text(&self.names[drawn]));
                self.record(owner, &format!("{ttl} {}", data.replace("@N@", &(index + 1).to_string())));
            }
        }
    }
}

/// Types with data; `@NAME@` is some name, `@N@` a number that differs within an RRset.
const TYPES: [&str; 29] = [
    "A 192.0.2.@N@",
    "AAAA 2001:db8::@N@",
    "TXT \"some text\" \"and more\" @N@",
    "MX @N@ @NAME@",
    "SRV @N@ 5 443 @NAME@",
    "PTR @NAME@",
    "CAA @N@ issue \"ca.example\"",
    "HINFO \"cpu @N@\" os",
    "NAPTR @N@ 1 \"u\" \"E2U+sip\" \"!^.*$!sip:x@example!\" @NAME@",
    "SSHFP 4 2 00112233445566778899aabbccddeeff00112233445566778899aabbccddee0@N@",
    "TLSA @N@ 1 1 00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff",
    "LOC 52 @N@ 0 N 13 24 18 E 34m 1m 10000m 10m",
    "URI @N@ 1 \"https://example/\"",
    "RP @NAME@ @NAME@",
    "AFSDB @N@ @NAME@",
    "RT @N@ @NAME@",
    "KX @N@ @NAME@",
    "SPF \"v=spf1 -all @N@\"",
    "HTTPS @N@ @NAME@ alpn=h2,h3 port=8443 ipv4hint=192.0.2.1",
    "SVCB @N@ . alpn=dot ipv6hint=2001:db8::1 key65400=x",
    "OPENPGPKEY mQENBFVHm5sBC@N@A=",
    "EUI48 00-00-5e-00-53-0@N@",
    "EUI64 00-00-5e-ef-10-00-00-0@N@",
    "CERT @N@ 7 8 mQENBFVHm5sBCA==",
    "DHCID AAIBY2/AuCccgoJbsaxcQc9TUapptP69lOjxfNuVAA2kjEA=",
    "MINFO @NAME@ @NAME@",
    "TYPE65400 \\# 4 0a00000@N@",
    "TYPE999 \\# 0",
    "SMIMEA @N@ 1 1 00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff",
];
