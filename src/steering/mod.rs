//! Which instances, for this client, now: a pure function of configuration, health, client and seed.
//!
//! | step | file |
//! |---|---|
//! | whose address decides | `client` |
//! | the order of regions for a place, compiled once | `plan`, `order`, with a policy each in `geo`, `nearest`, `latency`, `failover`, `weighted`, and `selector`, `fence` |
//! | selectors of maps that nobody reaches | `reach` |
//! | what each group can do, frozen for picking | `selection` |
//! | the first group that can serve, by health | `walk` |
//! | which of its instances | `balance` |
//! | what a service answers beside addresses | `beside` |

pub mod balance;
pub mod beside;
pub mod client;
mod failover;
mod fence;
mod geo;
pub mod hash;
mod latency;
pub mod local;
mod nearest;
pub mod order;
pub mod plan;
pub mod reach;
pub mod selection;
mod selector;
pub mod service;
#[cfg(test)]
mod testing;
pub mod trace;
pub mod walk;
mod weighted;

pub use client::{Client, EcsPolicy};
pub use latency::Homes;
pub use local::{Local, Read};
pub use nearest::biased_km;
pub use plan::{LayoutId, Likely, Steered, Steering};
pub use selection::{Standings, Table};
pub use service::{
    Balance, Element, FenceUnknown, List, Manner, Map, MapEntry, MapId, Part, Selector, Service, ServiceId, Steer,
    Sticky, StickyBy, StickyLevel, WhenAllDown, Within,
};
pub use walk::{Decision, Outcome, Situation, decide};
