//! Tests on the library and the real binary, as one program. One module for each subject.

mod admin;
mod architecture;
mod blind;
mod demo;
mod docs;
mod example;
mod geo;
mod history;
mod hostile;
mod last_good;
mod lookup;
mod memory;
mod no_allocation;
mod overrides;
mod passes;
mod reload;
mod resolvers;
mod returns;
mod scenarios;
mod shares;
mod simulation;
mod subnets;
mod support;
mod tcp_udp;
