//! What several benches use.
//!
//! | file | gives |
//! |---|---|
//! | `fixture` | a configuration with every kind of answer, ready to answer in this process |
//! | `load` | a load generator, as a function: `load::run(&Options) -> Report` |
//! | `echo` | the floor of every figure: a server that only turns datagrams round |
//! | `cpu` | processor time that a process has used |
//! | `system` | system calls that the standard library does not offer |
//! | `differential` | NSD and Knot beside Waymark, asked the same; that of the tests |
//! | `floods` | clients that only hold connections; that of the tests |
//! | `mmdb`, `world`, `agree` | data base files, a world in one, gdnsd beside Waymark in it; those of the tests |
//! | `networks` | where clients are: one table, for Waymark and for its peers |
//! | `query` | queries octet by octet, with client subnets that vary |

// Each bench uses a part of it.
#![allow(dead_code)]

#[path = "../../tests/support/agree.rs"]
pub(crate) mod agree;
pub(crate) mod cpu;
#[path = "../../tests/support/differential/mod.rs"]
pub(crate) mod differential;
pub(crate) mod echo;
pub(crate) mod fixture;
#[path = "../../tests/support/floods.rs"]
pub(crate) mod floods;
pub(crate) mod load;
#[path = "../../tests/support/mmdb.rs"]
pub(crate) mod mmdb;
pub(crate) mod networks;
pub(crate) mod query;
pub(crate) mod system;
#[path = "../../tests/support/world.rs"]
pub(crate) mod world;
