//! Everything one answer needs, frozen; publisher and reader.

use std::sync::Arc;

use arc_swap::ArcSwap;

/// All that the data plane knows at one moment; never changed, only replaced.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// Counts up with each publish.
    pub serial: u64,
}

/// Where the newest snapshot is; one for the process. Readers keep an `arc_swap::Cache` of it.
pub type Published = Arc<ArcSwap<Snapshot>>;

/// A thread's view of the newest snapshot; reading costs about a nanosecond when nothing changed.
pub type Reader = arc_swap::cache::Cache<Published, Arc<Snapshot>>;
