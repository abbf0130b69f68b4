//! Tests on the library and the real binary, as one program. One module for each subject.

mod admin;
mod architecture;
mod example;
mod geo;
mod reload;
mod resolvers;
mod support;
mod tcp_udp;
