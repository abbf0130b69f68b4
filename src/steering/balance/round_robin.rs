//! `round-robin`: smooth weighted round-robin (SPEC 5.2): 2:1:1 gives a b a c. Exact over any full cycle.
//!
//! Of those that have not had more than their share so far, the one whose next turn is due first takes it (worst-case
//! fair weighted fair queueing, Bennett and Zhang 1996). An entry's running weight is what it is owed: turns so far ×
//! its weight − its own turns × the sum of weights. None can have more turns in a cycle than its weight, and the turns
//! add up to the sum of weights, hence each has exactly its weight. Taking the greatest running weight instead, as is
//! usual, gives a b c a.
//!
//! A cycle that is short is laid out when health changes ([`cycle`]); a thread then only counts its place in it. Else
//! the running weights are stepped at each answer. With several answers the next ones of the cycle follow.

use std::cmp::Ordering;
use std::ops::Range;

use super::super::local::{Local, Turn};
use super::super::plan::{Group, Steered, Steering};
use super::super::selection::Roster;
use super::Choice;
use crate::fleet::greatest_common_divisor;

/// The longest cycle that is laid out, in turns.
const LONGEST: u64 = 4096;
/// The same, in turns for each entry: several answers go through it in search of those not chosen yet.
const LONGEST_FOR_EACH: u64 = 32;

/// The order of turns over a whole cycle; `None` when that is long.
pub(in crate::steering) fn cycle(weights: &[u32]) -> Option<Vec<u16>> {
    let divisor = weights.iter().copied().fold(0, greatest_common_divisor);
    let weights: Vec<u32> = weights.iter().map(|weight| weight / divisor.max(1)).collect();
    let turns: u64 = weights.iter().map(|&weight| u64::from(weight)).sum();
    if turns > LONGEST.min(LONGEST_FOR_EACH * weights.len() as u64) {
        return None;
    }
    let mut running = vec![0; weights.len()];
    Some((0..turns).map(|_| step(&weights, turns, &mut running) as u16).collect())
}

/// Chooses the `count` next, and steps the rotation once if it is to. `part` is the number of the pool and of the entries before it,
/// where several share the clients: each has a rotation of its own.
pub(super) fn rank(
    steering: &Steering,
    steered: &Steered,
    choice: Choice<'_>,
    (part, from): (usize, usize),
    count: usize,
    local: &mut Local,
    takes_turn: bool,
) {
    let roster = choice.roster;
    let Local { turns, running, chosen, .. } = local;
    let of_part = if part == 0 { 0 } else { part * 2 * steering.layout(steered.layout).groups.len() };
    let turn = &mut turns[steered.turn(choice.group, choice.family) + of_part];
    let before = *turn;
    let is_new = turn.version != choice.version;
    if is_new {
        *turn = Turn { version: choice.version, place: 0 };
    }
    match roster.cycle() {
        [] => {
            let running = &mut running[running_of(steering, steered, choice)][from..][..roster.entries.len()];
            if is_new {
                running.fill(0);
            }
            by_running_weights(roster, running, count, chosen);
            if takes_turn {
                advance(|at| roster.entries[at].weight, roster.weight, running, chosen[0] as usize);
            }
        }
        cycle => by_cycle(cycle, &mut turn.place, count, chosen),
    }
    if !takes_turn {
        *turn = before;
    }
}

/// Where the running weights of a group and family are.
fn running_of(steering: &Steering, steered: &Steered, choice: Choice<'_>) -> Range<usize> {
    let groups = &steering.layout(steered.layout).groups;
    let members = |group: &Group| group.members.len();
    let before: usize = groups[..choice.group].iter().map(members).sum();
    let own = members(&groups[choice.group]);
    let start = steered.running as usize + 2 * before + choice.family as usize * own;
    start..start + own
}

/// `place` is the turn that is next.
fn by_cycle(cycle: &[u16], place: &mut u64, count: usize, chosen: &mut Vec<u32>) {
    let next = *place as usize;
    *place = if next + 1 == cycle.len() { 0 } else { *place + 1 };
    if count == 1 {
        return chosen.push(cycle[next].into());
    }
    let (before, after) = cycle.split_at(next);
    for &at in after.iter().chain(before) {
        if chosen.len() == count {
            return;
        }
        if !chosen.contains(&u32::from(at)) {
            chosen.push(at.into());
        }
    }
}

fn by_running_weights(roster: &Roster, running: &[i64], count: usize, chosen: &mut Vec<u32>) {
    let weight = |at: usize| roster.entries[at].weight;
    if count == 1 {
        chosen.push(next(weight, roster.weight, running) as u32);
    } else {
        chosen.extend(0..running.len() as u32);
        chosen.sort_unstable_by(|&a, &b| sooner(weight, roster.weight, running, a as usize, b as usize));
        chosen.truncate(count);
    }
}

/// Takes a turn: whose it is.
fn step(weights: &[u32], total: u64, running: &mut [i64]) -> usize {
    let weight = |at: usize| weights[at];
    let next = next(weight, total, running);
    advance(weight, total, running, next);
    next
}

fn next(weight: impl Fn(usize) -> u32 + Copy, total: u64, running: &[i64]) -> usize {
    (0..running.len()).min_by(|&a, &b| sooner(weight, total, running, a, b)).unwrap_or(0)
}

fn advance(weight: impl Fn(usize) -> u32, total: u64, running: &mut [i64], taken: usize) {
    running[taken] -= total as i64;
    for (at, running) in running.iter_mut().enumerate() {
        *running += i64::from(weight(at));
    }
}

/// Whose turn is sooner: those that are owed nothing come last, then the next turn that ends first, then the heavier,
/// then the one configured first. A turn ends when the sum of weights has been earned.
fn sooner(weight: impl Fn(usize) -> u32, total: u64, running: &[i64], a: usize, b: usize) -> Ordering {
    let weight = |at: usize| i64::from(weight(at));
    // Left to earn ÷ own weight, compared by cross multiplication; at most 2 × 10^6 × (instances × 10^6).
    let left = |at: usize, other: usize| i128::from(total as i64 - running[at]) * i128::from(weight(other));
    let is_ahead = |at: usize| running[at] < 0;
    is_ahead(a)
        .cmp(&is_ahead(b))
        .then_with(|| left(a, b).cmp(&left(b, a)))
        .then_with(|| weight(b).cmp(&weight(a)))
        .then(a.cmp(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_cycles_are_laid_out() {
        for (weights, expected) in [
            (&[2, 1, 1][..], Some(&[0u16, 1, 0, 2][..])),
            (&[4, 2, 2], Some(&[0, 1, 0, 2])),
            (&[7], Some(&[0])),
            (&[1, 1, 1], Some(&[0, 1, 2])),
            (&[1000, 1, 1], None),
            (&[999_983, 999_979], None),
        ] {
            assert_eq!(cycle(weights).as_deref(), expected, "{weights:?}");
        }
    }

    /// Each has its weight's part of any whole cycle, wherever that begins.
    #[test]
    fn cycles_are_exact() {
        for weights in [&[5, 3, 2][..], &[9, 1], &[6, 5, 4, 3, 2, 1], &[31, 1]] {
            let cycle = cycle(weights).expect("short");
            for begin in 0..cycle.len() {
                let turns = (0..cycle.len()).map(|turn| usize::from(cycle[(begin + turn) % cycle.len()]));
                let mut counts = vec![0; weights.len()];
                turns.for_each(|at| counts[at] += 1);
                assert_eq!(counts, weights);
            }
        }
    }

    #[test]
    fn several_answers_are_the_next_ones_of_the_cycle() {
        let cycle = cycle(&[2, 1, 1]).expect("short");
        let mut place = 0;
        let mut taken = || {
            let mut chosen = Vec::new();
            by_cycle(&cycle, &mut place, 2, &mut chosen);
            chosen
        };
        assert_eq!([taken(), taken(), taken(), taken(), taken()], [[0, 1], [1, 0], [0, 2], [2, 0], [0, 1]]);
    }
}
