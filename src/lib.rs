//! Waymark, an authoritative DNS server for global server load balancing. `ARCHITECTURE.md` is the map of this crate.

pub mod admin;
pub mod answer;
pub mod cli;
pub mod config;
pub mod control;
pub mod dns;
pub mod fleet;
pub mod geo;
pub mod health;
pub mod idle;
pub mod latency;
pub mod limit;
pub mod metrics;
pub mod prefetch;
pub mod probe;
pub mod problem;
pub mod serve;
pub mod snapshot;
pub mod steering;
pub mod time;
pub mod tls;
pub mod zone;
