//! `sticky`: weighted rendezvous hashing of the client prefix (SPEC 5.3). Adding, removing or failing an instance moves
//! only the clients that must move.

use std::net::IpAddr;

use super::super::hash;
use super::super::local::Local;
use crate::health::group::Candidates;

/// Ranks the `count` best for this client first in `local.ranked`.
pub(super) fn rank(service: u64, client: IpAddr, bits: u8, candidates: &Candidates, count: usize, local: &mut Local) {
    let key = hash::client_key(service, client, bits);
    local.ranked.clear();
    let first = candidates.list[0].weight;
    if count == 1 && candidates.list.iter().all(|candidate| candidate.weight == first) {
        // One weight class: the highest score wins, no logarithm is needed.
        let scores = candidates.list.iter().enumerate().map(|(at, candidate)| (hash::score(key, candidate.hash), at));
        let best = scores.max_by_key(|&(score, at)| (score, std::cmp::Reverse(at))).map_or(0, |(_, at)| at);
        local.ranked.push((0.0, best as u32));
        return;
    }
    for (at, candidate) in candidates.list.iter().enumerate() {
        let score = hash::score(key, candidate.hash);
        local.ranked.push((hash::rank(score, u64::from(candidate.weight)), at as u32));
    }
    if count == 1 {
        let best = local.ranked.iter().copied().min_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        local.ranked.clear();
        local.ranked.extend(best);
        return;
    }
    local.ranked.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
}
