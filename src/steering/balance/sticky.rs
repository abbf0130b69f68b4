//! `sticky`: weighted rendezvous hashing of the client prefix (SPEC 5.3). Adding, removing or failing an instance moves
//! only the clients that must move.

use std::net::IpAddr;

use super::super::hash;
use super::super::local::Local;
use crate::health::group::Candidates;

/// Most distinct weights that are kept apart while the best is sought.
const MAX_CLASSES: usize = 8;

/// The best of those with the same weight.
#[derive(Clone, Copy, Default)]
struct Class {
    weight: u32,
    score: u32,
    at: u32,
}

/// Ranks the `count` best for this client first in `local.ranked`.
pub(super) fn rank(service: u64, client: IpAddr, bits: u8, candidates: &Candidates, count: usize, local: &mut Local) {
    let key = hash::client_key(service, client, bits);
    local.ranked.clear();
    if count == 1
        && let Some(best) = best(key, candidates)
    {
        local.ranked.push((0.0, best));
        return;
    }
    for (at, candidate) in candidates.list.iter().enumerate() {
        let score = hash::score(key, candidate.hash);
        local.ranked.push((hash::rank(score, u64::from(candidate.weight)), at as u32));
    }
    super::sort_first(&mut local.ranked, count);
}

/// The best, with a logarithm for each class of weight instead of each candidate: within a class the highest score is
/// the best. `None` when there are more than [`MAX_CLASSES`].
fn best(key: u64, candidates: &Candidates) -> Option<u32> {
    let mut classes = [Class::default(); MAX_CLASSES];
    let mut used = 0;
    let mut class = 0;
    for (at, candidate) in candidates.list.iter().enumerate() {
        let score = hash::score(key, candidate.hash);
        // Neighbours mostly have the same weight, and no weight is 0.
        if classes[class].weight != candidate.weight {
            class = classes[..used].iter().position(|class| class.weight == candidate.weight).unwrap_or(used);
            if class == used {
                *classes.get_mut(class)? = Class { weight: candidate.weight, score, at: at as u32 };
                used += 1;
            }
        }
        let best = &mut classes[class];
        if score > best.score {
            (best.score, best.at) = (score, at as u32);
        }
    }
    let rank = |class: &Class| hash::rank(class.score, u64::from(class.weight));
    let classes = &classes[..used];
    if let [only] = classes {
        return Some(only.at);
    }
    classes.iter().min_by(|a, b| rank(a).total_cmp(&rank(b)).then(a.at.cmp(&b.at))).map(|class| class.at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::InstanceId;
    use crate::health::Candidate;

    /// Seeking class by class finds whom a logarithm for each finds.
    #[test]
    fn classes_change_nothing() {
        for (count, weights) in [(1, 1), (7, 1), (40, 2), (40, 8), (40, 9), (300, 3), (300, 100)] {
            let candidate = |at: u32| Candidate {
                instance: InstanceId(at),
                weight: 1 + at.wrapping_mul(0x9e37_79b1) % weights,
                hash: hash::of_name(&format!("web/{at}")) as u32,
                addresses: 0..1,
            };
            let candidates = Candidates { list: (0..count).map(candidate).collect(), ..Candidates::default() };
            let mut local = Local::new(0);
            for client in 0..500u32 {
                let client = IpAddr::from((client << 8).to_be_bytes());
                rank(1, client, 24, &candidates, 2.min(count as usize), &mut local);
                let ranked = local.ranked[0].1;
                rank(1, client, 24, &candidates, 1, &mut local);
                assert_eq!(local.ranked[0].1, ranked, "{count} {weights} {client}");
            }
        }
    }
}
