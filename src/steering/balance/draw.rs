//! `weighted` and `random`: a draw without replacement, probability by weight (SPEC 5.1).

use super::super::local::Local;
use crate::health::group::Candidates;

/// Ranks the `count` drawn first in `local.ranked`. `weight` maps a candidate's weight to the one that counts.
pub(super) fn rank(candidates: &Candidates, count: usize, weight: impl Fn(u32) -> u32, local: &mut Local) {
    local.ranked.clear();
    if count == 1 {
        let at = one(candidates, &weight, local);
        local.ranked.push((0.0, at));
        return;
    }
    // Exponential clocks: the order in which they ring is a draw without replacement (Efraimidis and Spirakis).
    for (at, candidate) in candidates.list.iter().enumerate() {
        let uniform = ((local.random.bits() >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
        local.ranked.push((-libm::log(uniform) / f64::from(weight(candidate.weight)), at as u32));
    }
    super::sort_first(&mut local.ranked, count);
}

/// One draw: exact, without a logarithm.
fn one(candidates: &Candidates, weight: &impl Fn(u32) -> u32, local: &mut Local) -> u32 {
    let weights = || candidates.list.iter().map(|candidate| u64::from(weight(candidate.weight)));
    let mut draw = local.random.below(weights().sum());
    for (at, weight) in weights().enumerate() {
        if draw < weight {
            return at as u32;
        }
        draw -= weight;
    }
    0
}
