//! Wire format: names, types, the query parser and the answer writer. No I/O, no clock, no global state.

pub mod cookie;
pub mod name;
pub mod query;
pub mod types;
pub mod writer;

pub use cookie::{Cookie, Secrets};
pub use name::{Name, NameError};
pub use query::{ClientSubnet, Edns, LowerName, Parsed, Query, Rcode};
pub use types::{Class, RecordType};
pub use writer::{Full, Owner, Section, Targets, Writer};
