//! Which instances, for this client, now.

pub mod service;

pub use service::{
    Balance, Element, FenceUnknown, List, Map, MapEntry, MapId, Part, Selector, Service, ServiceId, Steer, Sticky,
    WhenAllDown, Within,
};
