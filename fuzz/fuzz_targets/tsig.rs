//! Any octets as a message that may be signed; what must hold is in `tests/support/fuzz.rs`.
#![no_main]

mod support;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|octets: &[u8]| support::fuzz::tsig(octets));
