//! Authoritative data.

mod authority;
mod build;
mod check;
mod collect;
mod encoding;
mod file;
mod generate;
mod lexer;
mod negative;
mod node;
mod rdata;
mod special;
mod svcb;
mod table;
mod ttl;
mod wire;

#[cfg(test)]
mod tests;

pub use authority::{Apex, Authority, Found, ZoneId};
pub use file::parse;
pub use node::{Node, Rrset};

use crate::dns::{Name, RecordType};
use crate::problem::Span;

/// One record as loaded, class IN.
#[derive(Clone, Debug)]
pub struct Record {
    /// Owner name, absolute, case kept.
    pub owner: Name,
    /// Type, never a meta type.
    pub rtype: RecordType,
    /// Seconds, at most 2^31 - 1.
    pub ttl: u32,
    /// Record data in wire format, names in it uncompressed, case kept; at most 65 535 octets.
    pub rdata: Box<[u8]>,
    /// Where in the zone file.
    pub span: Span,
}
