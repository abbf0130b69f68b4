//! Pure answering: bytes in, bytes out.

use std::net::IpAddr;
use std::sync::Arc;

use crate::metrics::Counters;
use crate::snapshot::Snapshot;

/// How a query came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Answers are at most as long as EDNS allows, else truncated.
    Udp,
    /// Answers are at most 65 535 octets.
    Tcp,
}

/// What a thread owns: counters, rotations, random state.
#[derive(Debug)]
pub struct Worker {
    /// Counters that the transport adds to as well.
    pub counters: Arc<Counters>,
}

impl Worker {
    /// A worker with its random state from `seed`.
    #[must_use]
    pub fn new(counters: Arc<Counters>, _seed: u64) -> Worker {
        Worker { counters }
    }

    /// Makes room for what `snapshot` needs. To be called when the snapshot changed, before [`respond`]; cheap else.
    pub fn adopt(&mut self, _snapshot: &Snapshot) {}
}

/// Answers the message `query` that `client` (a packet's source) sent, into `out`; returns the octets written, 0 =
/// say nothing. `out` holds at least 512 octets, 65 535 for TCP.
pub fn respond(
    _snapshot: &Snapshot,
    _worker: &mut Worker,
    _query: &[u8],
    _client: IpAddr,
    _transport: Transport,
    _out: &mut [u8],
) -> usize {
    0
}
