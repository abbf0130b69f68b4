//! Tests on the library and the real binary, as one program. One module for each subject.

mod architecture;
mod demo;
mod docs;
mod hostile;
mod lookup;
mod no_allocation;
mod passes;
mod scenarios;
mod shares;
mod subnets;
mod support;
