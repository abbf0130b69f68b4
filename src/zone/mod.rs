//! Authoritative data.

mod authority;
mod build;
mod check;
mod collect;
mod encoding;
mod file;
mod generate;
mod lexer;
mod names;
mod negative;
mod node;
mod present;
mod rdata;
mod received;
mod records;
mod special;
mod svcb;
mod table;
mod ttl;
mod wire;

#[cfg(test)]
mod layout_tests;
#[cfg(test)]
mod tests;

pub use authority::{Apex, Authority, Found, LikelyNode, Place, ZoneId};
pub use encoding::base64;
pub use file::{Files, first_origin, parse};
pub use node::{Node, Rrset};
pub use present::lines;
pub use received::{Malformed, Question, Received, ReceivedRecord};
pub use records::{Record, Records, soa_serial};
