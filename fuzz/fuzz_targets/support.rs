//! What the targets share with the tests.
#![allow(dead_code)]

#[path = "../../tests/support/fuzz.rs"]
pub mod fuzz;
#[path = "../../tests/support/differential/message.rs"]
pub mod message;
#[path = "../../tests/support/differential/name.rs"]
pub mod name;
