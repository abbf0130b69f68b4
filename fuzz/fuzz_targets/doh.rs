//! Any octets as a request of DNS over HTTPS, and as its answer; what must hold is in `tests/support/fuzz.rs`.
#![no_main]

mod support;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|octets: &[u8]| support::fuzz::doh(octets));
