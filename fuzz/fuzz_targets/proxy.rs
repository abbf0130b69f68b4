//! Any octets as what a balancer sends first; what must hold is in `tests/support/fuzz.rs`.
#![no_main]

mod support;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|octets: &[u8]| support::fuzz::proxy(octets));
