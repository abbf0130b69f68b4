//! `round-robin`: smooth weighted round-robin (SPEC 5.2): 2:1:1 gives a b a c. Each step adds its weight to every
//! candidate's running weight, takes the greatest and subtracts the sum from it. Over a cycle that is exact.

use super::super::local::Local;
use super::super::plan::Steered;
use super::Choice;

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
    ranked.clear();
    let mut greatest = 0;
    for (at, candidate) in candidates.list.iter().enumerate() {
        running[at] += i64::from(candidate.weight);
        if running[at] > running[greatest] {
            greatest = at;
        }
    }
    ranked.push((0.0, greatest as u32));
    if count > 1 {
        let others = (0..candidates.list.len()).filter(|&at| at != greatest);
        ranked.extend(others.map(|at| (-(running[at] as f64), at as u32)));
        ranked[1..].sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    }
    running[greatest] -= candidates.weight as i64;
}
