//! Queries out of a seed: names in, beside, below and outside the zones; types, classes, flags and EDNS of all kinds.

use super::message::{ANY, Ask, ECS, Edns, IN, NSID, RD};
use super::name::{self, Wire};
use super::zones::Zones;
use crate::support::world::Random;

/// Types that are asked for most.
const COMMON: [u16; 16] = [1, 28, 2, 5, 6, 12, 15, 16, 33, 35, 39, 43, 64, 65, 257, ANY];
/// Those that only queries and messages have, and signatures.
const META: [u16; 16] = [0, 41, 46, 47, 48, 50, 51, 128, 249, 250, 251, 252, 253, 254, 65_535, 32_769];

/// Draws queries without end.
pub struct Queries<'a> {
    zones: &'a Zones,
    random: Random,
}

impl<'a> Queries<'a> {
    pub fn new(zones: &'a Zones, seed: u64) -> Queries<'a> {
        Queries { zones, random: Random(seed) }
    }

    pub fn draw(&mut self) -> Ask {
        let name = self.name();
        let (qtype, class) = (self.qtype(), self.class());
        let flags = self.flags();
        let edns = if self.random.one_in(2) { Some(self.edns()) } else { None };
        Ask { flags, name, qtype, class, edns, tcp: self.random.one_in(10) }
    }

    fn name(&mut self) -> Wire {
        let names = &self.zones.names;
        let known = &names[self.random.below(names.len() as u64) as usize];
        let longer = |label: &[u8], name: &[u8]| name::below(label, name).unwrap_or_else(|| name.to_vec());
        let mut name = match self.random.below(12) {
            0..5 => known.clone(),
            5 => longer(b"new", known),
            6 => longer(b"new", &longer(b"a", known)),
            7 => longer(b"*", known),
            8 => name::parent(known).to_vec(),
            9 => longer(b"beside", name::parent(known)),
            10 => longer(&[b'l'; 63], &longer(&[b'm'; 63], known)),
            _ => longer(&self.octets(1, 20), known),
        };
        if self.random.one_in(4) {
            self.shout(&mut name);
        }
        name
    }

    /// Changes the case of some letters.
    fn shout(&mut self, name: &mut [u8]) {
        let bits = self.random.bits();
        // Lengths of labels are at most 63 and no letters.
        let letters = name.iter_mut().enumerate().filter(|(at, _)| bits >> (at % 64) & 1 == 1);
        letters.for_each(|(_, octet)| octet.make_ascii_uppercase());
    }

    fn octets(&mut self, least: u64, more: u64) -> Vec<u8> {
        let length = least + self.random.below(more);
        (0..length).map(|_| self.random.bits() as u8).collect()
    }

    fn qtype(&mut self) -> u16 {
        match self.random.below(20) {
            0 => self.random.bits() as u16,
            1 => META[self.random.below(META.len() as u64) as usize],
            2..5 => self.random.below(260) as u16,
            _ => COMMON[self.random.below(COMMON.len() as u64) as usize],
        }
    }

    fn class(&mut self) -> u16 {
        match self.random.below(60) {
            0 => 3,
            1 => ANY,
            2 => [0, 2, 4, 254][self.random.below(4) as usize],
            3 => self.random.bits() as u16,
            _ => IN,
        }
    }

    /// Of a query: QR is clear.
    fn flags(&mut self) -> u16 {
        match self.random.below(20) {
            0 => self.random.bits() as u16 & 0x7ff0,
            1 => self.random.bits() as u16 & 0x07f0,
            drawn => RD * u16::from(drawn < 11),
        }
    }

    fn edns(&mut self) -> Edns {
        let payload = match self.random.below(4) {
            0 => self.random.bits() as u16,
            1 => self.random.below(1500) as u16,
            _ => 1232,
        };
        let version = if self.random.one_in(40) { 1 + self.random.below(255) as u8 } else { 0 };
        let flags = match self.random.below(20) {
            0 => self.random.bits() as u16,
            drawn => 0x8000 * u16::from(drawn < 10),
        };
        let count = if self.random.one_in(3) { 1 + self.random.below(3) } else { 0 };
        let mut options: Vec<(u16, Vec<u8>)> = vec![];
        for _ in 0..count {
            let option = self.option();
            // NSD gets the length of its OPT wrong when NSID is asked for twice.
            if !options.contains(&option) || option.0 == ECS && self.random.one_in(8) {
                options.push(option);
            }
        }
        Edns { payload, version, flags, options }
    }

    /// NSID, a client subnet, padding, or one that nobody knows. One of cookies would be answered by some.
    fn option(&mut self) -> (u16, Vec<u8>) {
        match self.random.below(4) {
            0 => (NSID, vec![]),
            1 => (ECS, vec![0, 1, 24, 0, 198, 51, 100]),
            2 => (12, vec![0; self.random.below(40) as usize]),
            _ => (20_000 + self.random.below(1000) as u16, self.octets(0, 20)),
        }
    }
}
