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

use std::io::{self, Write};
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
    /// Writes all that is known, as of now; row by row, for so much is known that there is to be one copy of it.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn encode(&self, now: Tick, out: &mut impl Write) -> io::Result<()> {
        let Written { prefixes, systems, countries } = self.rows();
        let names = self.prefixes_by_region();
        out.write_all(&(names.len() as u16).to_le_bytes())?;
        for (name, _) in names {
            // The configuration allows no longer ones.
            let name = &name.as_bytes()[..name.len().min(255)];
            out.write_all(&[name.len() as u8])?;
            out.write_all(name)?;
        }
        out.write_all(&(prefixes.len() as u32).to_le_bytes())?;
        for (prefix, row) in prefixes {
            match prefix.addr() {
                IpAddr::V4(v4) => {
                    out.write_all(&[4, prefix.prefix_len()])?;
                    out.write_all(&v4.octets())?;
                }
                IpAddr::V6(v6) => {
                    out.write_all(&[6, prefix.prefix_len()])?;
                    out.write_all(&v6.octets())?;
                }
            }
            encode_cells(row.cells.iter().map(Cell::stored), second(now), out)?;
        }
        out.write_all(&(systems.len() as u32).to_le_bytes())?;
        for (number, row) in systems {
            out.write_all(&number.to_le_bytes())?;
            encode_cells(row.all.iter().map(Tally::stored), second(now), out)?;
        }
        out.write_all(&(countries.len() as u32).to_le_bytes())?;
        for (Code(letters), row) in countries {
            out.write_all(&letters)?;
            encode_cells(row.all.iter().map(Tally::stored), second(now), out)?;
        }
        Ok(())
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

fn encode_cells(cells: impl ExactSizeIterator<Item = Stored>, now: u32, out: &mut impl Write) -> io::Result<()> {
    out.write_all(&(cells.len() as u16).to_le_bytes())?;
    for Stored { region, last, estimate, published, weight, count } in cells {
        let mut octets = [0; CELL];
        octets[..2].copy_from_slice(&region.to_le_bytes());
        octets[2..6].copy_from_slice(&now.saturating_sub(last).to_le_bytes());
        let rest = octets[6..].chunks_exact_mut(2).zip([estimate, published, weight, count]);
        rest.for_each(|(octets, value)| octets.copy_from_slice(&value.to_le_bytes()));
        out.write_all(&octets)?;
    }
    Ok(())
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
