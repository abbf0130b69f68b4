//! `round-robin`: smooth weighted round-robin (SPEC 5.2): 2:1:1 gives a b a c. Exact over any full cycle.
//!
//! Of those that have not had more than their share so far, the one whose next turn is due first takes it (worst-case
//! fair weighted fair queueing, Bennett and Zhang 1996). A candidate's running weight is what it is owed: turns so far ×
//! its weight − its own turns × the sum of weights. None can have more turns in a cycle than its weight, and the turns
//! add up to the sum of weights, hence each has exactly its weight. Taking the greatest running weight instead, as is
//! usual, gives a b c a.

use std::cmp::Ordering;

use super::super::local::Local;
use super::super::plan::Steered;
use super::Choice;
use crate::health::group::Candidates;

/// Ranks the `count` next in `local.ranked`, and steps the rotation once.
pub(super) fn rank(steered: &Steered, choice: Choice<'_>, count: usize, local: &mut Local) {
    let candidates = choice.candidates;
    let base = steered.rotations[choice.group][choice.family as usize];
    let version = steered.versions + 2 * choice.group + choice.family as usize;
    let Local { rotations, versions, ranked, .. } = local;
    let running = &mut rotations[base..base + candidates.list.len()];
    if versions[version] != choice.version {
        versions[version] = choice.version;
        running.fill(0);
    }
    let sooner = |a: usize, b: usize| by_due_time(candidates, running, a, b);
    ranked.clear();
    if count == 1 {
        let first = (0..candidates.list.len()).min_by(|&a, &b| sooner(a, b)).unwrap_or(0);
        ranked.push((0.0, first as u32));
    } else {
        ranked.extend((0..candidates.list.len()).map(|at| (0.0, at as u32)));
        ranked.sort_unstable_by(|a, b| sooner(a.1 as usize, b.1 as usize));
    }
    let first = ranked[0].1 as usize;
    running[first] -= candidates.weight as i64;
    for (running, candidate) in running.iter_mut().zip(&candidates.list) {
        *running += i64::from(candidate.weight);
    }
}

/// Whose turn is sooner: those that are owed nothing come last, then the next turn that ends first, then the heavier,
/// then the one configured first. A turn ends when the sum of weights has been earned.
fn by_due_time(candidates: &Candidates, running: &[i64], a: usize, b: usize) -> Ordering {
    let total = candidates.weight as i64;
    let weight = |at: usize| i64::from(candidates.list[at].weight);
    // Left to earn ÷ own weight, compared by cross multiplication; at most 2 × 10^6 × (instances × 10^6).
    let left = |at: usize, other: usize| i128::from(total - running[at]) * i128::from(weight(other));
    let is_ahead = |at: usize| running[at] < 0;
    is_ahead(a)
        .cmp(&is_ahead(b))
        .then_with(|| left(a, b).cmp(&left(b, a)))
        .then_with(|| weight(b).cmp(&weight(a)))
        .then(a.cmp(&b))
}
