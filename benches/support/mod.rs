//! What several benches use.
//!
//! | file | gives |
//! |---|---|
//! | `fixture` | a configuration with every kind of answer, ready to answer in this process |
//! | `networks` | where clients are: one table, for Waymark and for its peers |
//! | `query` | queries octet by octet, with client subnets that vary |

// Each bench uses a part of it.
#![allow(dead_code)]

pub(crate) mod fixture;
pub(crate) mod networks;
pub(crate) mod query;
