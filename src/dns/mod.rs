//! Wire format: names, types, the query parser, the answer writer, signatures of messages. No I/O, no clock, no global state.

pub mod cookie;
pub mod name;
pub mod query;
pub mod tsig;
pub mod types;
pub mod writer;

pub use cookie::{Cookie, Secrets};
pub use name::{Name, NameError};
pub use query::{ClientSubnet, Edns, LowerName, Parsed, Query, Rcode};
pub use types::{Class, RecordType};
pub use writer::{Full, Owner, Section, Targets, Writer};
