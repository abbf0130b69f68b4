//! Everything one answer needs, frozen; publisher and reader.
//!
//! A change of health is a new [`Snapshot`] that shares everything unchanged with the one before.

mod contents;
mod transfers;

use std::sync::Arc;

use arc_swap::ArcSwap;
use ipnet::IpNet;

use crate::dns::Secrets;
use crate::dns::cookie::Require;
use crate::geo;
use crate::latency::View;
use crate::limit::Limiter;
use crate::metrics::Tally;
use crate::steering::{EcsPolicy, Situation, Steering, Table};
use crate::zone::{Authority, ZoneId};
pub use contents::Contents;
pub use transfers::{Gate, History, KeyId, Message, Step, Transfers, ZonePolicy};

/// All that the data plane knows at one moment; never changed, only replaced.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// Counts up with each publish.
    pub serial: u64,
    /// Static names, and where services are.
    pub authority: Arc<Authority>,
    /// Services, maps and places, compiled.
    pub steering: Arc<Steering>,
    /// What each group can do now, by layout.
    pub standings: Table,
    /// How long the ways from clients to regions are.
    pub latency: View,
    /// What DNS cookies are made with; none = there are no cookies.
    pub secrets: Arc<Secrets>,
    /// Who may copy which zone, and what messages are signed with.
    pub transfers: Arc<Transfers>,
    /// Settings that shape answers.
    pub settings: Arc<Settings>,
    /// How many answers a network gets over UDP; `None` = as many as it asks for.
    pub limiter: Option<Arc<Limiter>>,
    /// By family: this node sees nothing of the world, and health is what it was.
    pub blind: [bool; 2],
    /// Counters of answers for each thread that answers, made ahead; may be fewer than there are threads.
    pub tallies: Arc<[Arc<Tally>]>,
}

impl Snapshot {
    /// What decisions go by beside what is configured.
    #[must_use]
    pub fn situation(&self) -> Situation<'_> {
        Situation { standings: &self.standings, latency: &self.latency }
    }

    /// A zone as it is copied.
    #[must_use]
    pub fn contents(&self, zone: ZoneId) -> Contents<'_> {
        self.transfers.contents(&self.authority, &self.steering, zone)
    }
}

/// What of `[server]` and `[ecs]` shapes answers.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Whose address decides.
    pub ecs: EcsPolicy,
    /// Largest UDP answer, 512..=4096 octets.
    pub max_udp_payload: u16,
    /// NSID, `id.server`; at most 255 octets.
    pub node: String,
    /// Whether `id.server` and `version.bind` are answered.
    pub identity: bool,
    /// Packet sources whose `_explain.NAME` is answered.
    pub explain_from: Vec<IpNet>,
    /// Whether DNS cookies are answered, and asked for.
    pub cookies: CookiePolicy,
    /// Who says what of where clients are, for explanations.
    pub geo: Arc<geo::Data>,
}

/// `[cookies]`, but for the secrets.
#[derive(Clone, Copy, Debug, Default)]
pub struct CookiePolicy {
    /// Whether cookies are looked at; else they are an unknown option.
    pub enabled: bool,
    /// When queries over UDP must have one.
    pub require: Require,
}

/// Where the newest snapshot is; one for the process.
pub type Published = Arc<ArcSwap<Snapshot>>;

/// A thread's view of the newest snapshot; reading costs about a nanosecond when nothing changed.
pub type Reader = arc_swap::cache::Cache<Published, Arc<Snapshot>>;
