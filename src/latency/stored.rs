//! What outlives the process, in octets, little-endian; that they are whole and how old they are is the caller's to know.
//!
//! ```text
//!  u16 regions      each: u8 length, name
//!  u32 prefixes     each: u8 4 or 6, u8 length, address, row
//!  u32 systems      each: u32 number, row
//!  u32 countries    each: two letters, row
//!  row: u16 cells   each: u16 region, u32 seconds since the last sample, u16 estimate, u16 published, u16 weight, u16 count
//! ```
//! Systems and countries have a weight of 0. Of the last samples themselves nothing is kept: an estimate that was restored begins as if all of them had been like
//! it. Where prefixes are is not kept either; [`Book::locate`] tells, and then their systems and countries go by them.

use std::net::IpAddr;

use ipnet::IpNet;

use super::Policy;
use super::around::Tally;
use super::book::{Book, Row, Written, second};
use super::cell::{Cell, Stored};
use crate::geo::Code;
use crate::time::Tick;

/// Octets of a cell.
const CELL: usize = 14;

impl Book {
    /// Writes all that is known, as of now, behind what is there. So much is known that there is to be one copy of it.
    pub fn encode(&self, now: Tick, out: &mut Vec<u8>) {
        let Written { prefixes, systems, countries } = self.rows();
        let estimates = self.counts().estimates;
        let names = self.prefixes_by_region();
        let of_names: usize = names.iter().map(|(name, _)| 1 + name.len()).sum();
        let of_rows = prefixes.len() * 20 + systems.len() * 6 + countries.len() * 4;
        out.reserve_exact(14 + of_names + of_rows + estimates * CELL);
        out.extend((names.len() as u16).to_le_bytes());
        for (name, _) in names {
            // The configuration allows no longer ones.
            let name = &name.as_bytes()[..name.len().min(255)];
            out.push(name.len() as u8);
            out.extend(name);
        }
        out.extend((prefixes.len() as u32).to_le_bytes());
        for (prefix, row) in prefixes {
            match prefix.addr() {
                IpAddr::V4(v4) => {
                    out.extend([4, prefix.prefix_len()]);
                    out.extend(v4.octets());
                }
                IpAddr::V6(v6) => {
                    out.extend([6, prefix.prefix_len()]);
                    out.extend(v6.octets());
                }
            }
            encode_cells(row.cells.iter().map(Cell::stored), second(now), out);
        }
        out.extend((systems.len() as u32).to_le_bytes());
        for (number, row) in systems {
            out.extend(number.to_le_bytes());
            encode_cells(row.0.iter().map(Tally::stored), second(now), out);
        }
        out.extend((countries.len() as u32).to_le_bytes());
        for (Code(letters), row) in countries {
            out.extend(letters);
            encode_cells(row.0.iter().map(Tally::stored), second(now), out);
        }
    }

    /// What was known `elapsed_s` seconds ago. What has expired since is left out. Where the prefixes are is to be told
    /// next.
    ///
    /// # Errors
    /// In words, what does not make sense.
    pub fn decode(octets: &[u8], policy: Policy, now: Tick, elapsed_s: u32) -> Result<Book, String> {
        let mut reader = Reader { left: octets, now: second(now), elapsed_s, regions: 0 };
        let book = reader.book(policy).ok_or("it ends too early, or holds what makes no sense")?;
        if !reader.left.is_empty() {
            return Err(format!("{} octets too many", reader.left.len()));
        }
        let mut book = book;
        book.expire(now);
        Ok(book)
    }
}

fn encode_cells(cells: impl ExactSizeIterator<Item = Stored>, now: u32, out: &mut Vec<u8>) {
    out.extend((cells.len() as u16).to_le_bytes());
    for Stored { region, last, estimate, published, weight, count } in cells {
        out.extend(region.to_le_bytes());
        out.extend(now.saturating_sub(last).to_le_bytes());
        [estimate, published, weight, count].iter().for_each(|value| out.extend(value.to_le_bytes()));
    }
}

struct Reader<'o> {
    left: &'o [u8],
    now: u32,
    elapsed_s: u32,
    regions: u16,
}

impl Reader<'_> {
    fn book(&mut self, policy: Policy) -> Option<Book> {
        let mut book = Book::new(policy);
        self.regions = self.u16()?;
        for number in 0..self.regions {
            let length = self.take::<1>()?[0];
            let (name, rest) = self.left.split_at_checked(length.into())?;
            self.left = rest;
            // A name that comes twice would give two regions one number.
            (book.region(std::str::from_utf8(name).ok()?) == number).then_some(())?;
        }
        for _ in 0..self.u32()? {
            let prefix = self.prefix()?;
            let row = self.row()?;
            book.put_prefix(prefix, row);
        }
        for _ in 0..self.u32()? {
            let number = self.u32()?;
            let row = self.row()?;
            book.put_system(number, &row);
        }
        for _ in 0..self.u32()? {
            let letters = self.take::<2>()?;
            let code = Code::parse(std::str::from_utf8(&letters).ok()?)?;
            let row = self.row()?;
            book.put_country(code, &row);
        }
        Some(book)
    }

    fn prefix(&mut self) -> Option<IpNet> {
        let [family, length] = self.take()?;
        let address = match family {
            4 => IpAddr::from(self.take::<4>()?),
            6 => IpAddr::from(self.take::<16>()?),
            _ => return None,
        };
        IpNet::new(address, length).ok().filter(|net| net.trunc() == *net)
    }

    fn row(&mut self) -> Option<Row> {
        let count = self.u16()?;
        let mut cells: Vec<Cell> = Vec::with_capacity(usize::from(count).min(self.left.len() / CELL));
        for _ in 0..count {
            let (region, age) = (self.u16()?, self.u32()?);
            let last = self.now.saturating_sub(age.saturating_add(self.elapsed_s));
            let [estimate, published, weight, count] = [self.u16()?, self.u16()?, self.u16()?, self.u16()?];
            let follows = cells.last().is_none_or(|before| before.region < region);
            (follows && region < self.regions).then_some(())?;
            cells.push(Cell::restored(Stored { region, last, estimate, published, weight, count }));
        }
        Some(Row { cells })
    }

    fn u16(&mut self) -> Option<u16> {
        self.take().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (octets, rest) = self.left.split_first_chunk::<N>()?;
        self.left = rest;
        Some(*octets)
    }
}
