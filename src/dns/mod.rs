//! Wire format: names, types, the query parser and the answer writer. No I/O, no clock, no global state.

pub mod name;
pub mod types;

pub use name::{Name, NameError};
pub use types::{Class, RecordType};
