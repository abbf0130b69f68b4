//! Who may copy which zone, and what changed between the editions of one: all that transfers need beside the zones.
//!
//! ```text
//! History   serial 4 ──Step──► 5 ──Step──► 7 = served      whoever has 4 or 5 gets the steps from there (RFC 1995)
//!           Step { removed: SOA 4, records …, added: SOA 5, records … }
//! ```

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;

use super::Contents;
use crate::dns::tsig::Key;
use crate::steering::Steering;
use crate::zone::{Authority, Records, ZoneId};

/// Index into [`Transfers::keys`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyId(pub u32);

/// What others may say to us, beside asking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    /// A zone has changed at a primary of it (NOTIFY, RFC 1996).
    Notify,
    /// A zone is to be changed (UPDATE, RFC 2136).
    Update,
}

/// Keys, and what each zone allows.
#[derive(Clone, Debug, Default)]
pub struct Transfers {
    /// By [`KeyId`].
    pub keys: Vec<Key>,
    /// By `ZoneId`.
    pub zones: Vec<Gate>,
}

impl Transfers {
    /// The key of a name in lower-case wire format. There are a few.
    #[must_use]
    pub fn key_named(&self, name: &[u8]) -> Option<(KeyId, &Key)> {
        let is = |(_, key): &(KeyId, &Key)| key.name().as_wire() == name;
        (0..).map(KeyId).zip(&self.keys).find(is)
    }

    /// The key of a number.
    #[must_use]
    pub fn key(&self, id: KeyId) -> &Key {
        &self.keys[id.0 as usize]
    }

    /// Whether any zone takes messages of this kind from anybody.
    #[must_use]
    pub fn takes(&self, message: Message) -> bool {
        self.zones.iter().any(|gate| match message {
            Message::Notify => !gate.policy.primaries.is_empty(),
            Message::Update => !gate.policy.update_from.is_empty(),
        })
    }

    /// A zone as it is copied.
    #[must_use]
    pub fn contents<'a>(&self, authority: &'a Authority, steering: &'a Steering, zone: ZoneId) -> Contents<'a> {
        let skips = self.gate(zone).is_some_and(|gate| gate.policy.skips_steered);
        Contents { authority, zone, steering: Some(steering).filter(|_| !skips) }
    }

    /// What a zone allows.
    #[must_use]
    pub fn gate(&self, zone: ZoneId) -> Option<&Gate> {
        self.zones.get(zone.0 as usize)
    }
}

/// What a zone allows to whom.
#[derive(Clone, Debug, Default)]
pub struct Gate {
    /// As configured.
    pub policy: ZonePolicy,
    /// Its editions, as far as they are remembered.
    pub history: History,
}

/// What of a `[zones."NAME"]` says who may copy it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ZonePolicy {
    /// What whoever wants something of it must sign with.
    pub key: Option<KeyId>,
    /// Who may copy it.
    pub transfer_to: Vec<IpNet>,
    /// Who is told of changes.
    pub notify: Vec<SocketAddr>,
    /// Whether steered names are left out of copies.
    pub skips_steered: bool,
    /// Where its data come from; empty = from a file.
    pub primaries: Vec<SocketAddr>,
    /// Who may update it.
    pub update_from: Vec<IpNet>,
}

impl ZonePolicy {
    /// Whether `source`, who signed with `key`, may copy the zone.
    #[must_use]
    pub fn admits(&self, source: IpAddr, key: Option<KeyId>) -> bool {
        self.has_key(key) && self.transfer_to.iter().any(|prefix| prefix.contains(&source))
    }

    /// Whether what `source`, who signed with `key`, says of changes at its primaries is heard.
    #[must_use]
    pub fn hears(&self, source: IpAddr, key: Option<KeyId>) -> bool {
        self.has_key(key) && self.primaries.iter().any(|primary| primary.ip() == source)
    }

    /// Whether `source`, who signed with `key`, may update the zone.
    #[must_use]
    pub fn may_update(&self, source: IpAddr, key: Option<KeyId>) -> bool {
        self.has_key(key) && self.update_from.iter().any(|prefix| prefix.contains(&source))
    }

    fn has_key(&self, key: Option<KeyId>) -> bool {
        self.key.is_none() || self.key == key
    }
}

/// The editions of a zone.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// Up to this serial the same one may have been that of several zones, as it was not raised or went back: whoever has
    /// it may have anything.
    pub doubtful_to: Option<u32>,
    /// From each edition that is remembered to the next, the oldest first; the last leads to what is served.
    pub steps: Vec<Arc<Step>>,
}

impl History {
    /// The steps that lead from `serial` to what is served.
    #[must_use]
    pub fn since(&self, serial: u32) -> Option<&[Arc<Step>]> {
        let first = self.steps.iter().position(|step| step.from == serial)?;
        Some(&self.steps[first..])
    }
}

/// What changed from one edition to the next.
#[derive(Debug)]
pub struct Step {
    /// The serial before.
    pub from: u32,
    /// The SOA before, then what was removed.
    pub removed: Records,
    /// The SOA then, and what was added.
    pub added: Records,
}

impl Step {
    /// How many records were removed or added, the SOA not counted.
    #[must_use]
    pub fn changes(&self) -> usize {
        (self.removed.len() + self.added.len()).saturating_sub(2)
    }
}
