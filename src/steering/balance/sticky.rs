//! `sticky`: weighted rendezvous hashing of the client prefix (SPEC 5.3). Adding, removing or failing an instance moves
//! only the clients that must move.
//!
//! Within a class of equal weights the highest score wins; only between classes a logarithm decides. Rosters with large
//! classes keep the hashes of each together, so that the compiler scores several at once.

use multiversion::multiversion;

use super::super::hash;
use super::super::local::Local;
use super::super::selection::{Class, LANES, Roster};

/// Chooses the `count` best for the client of that key.
pub(super) fn rank(key: u64, roster: &Roster, count: usize, local: &mut Local) {
    if count == 1 {
        let best = if roster.classes().is_empty() { best_of_few(key, roster) } else { best_of_many(key, roster) };
        local.chosen.push(best);
        return;
    }
    local.ranked.clear();
    local.ranked.extend(roster.entries.iter().enumerate().map(|(at, entry)| {
        let score = hash::score(key, entry.hash);
        (hash::rank(score, u64::from(entry.weight)), at as u32)
    }));
    super::choose_lowest(count, local);
}

/// The best so far: what `-ln(u) ÷ weight` says of it, and its index.
#[derive(Clone, Copy)]
struct Best {
    rank: f64,
    at: u32,
}

impl Best {
    const NONE: Best = Best { rank: f64::INFINITY, at: u32::MAX };

    /// Takes another in if it is better; of equal ranks the one configured first is. As -ln(u) is at least 1 - u, most
    /// are known to be worse without a logarithm.
    fn or(self, score: u32, weight: u32, at: u32) -> Best {
        let least = (1.0 - hash::uniform(score)) / f64::from(weight);
        if least > self.rank {
            return self;
        }
        let rank = hash::rank(score, u64::from(weight));
        if (rank, at) < (self.rank, self.at) { Best { rank, at } } else { self }
    }
}

/// Scores of neighbours of equal weight are compared as they are.
fn best_of_few(key: u64, roster: &Roster) -> u32 {
    let mut best = Best::NONE;
    let entries = &roster.entries;
    let mut top = (hash::score(key, entries[0].hash), 0);
    for at in 1..entries.len() {
        let score = hash::score(key, entries[at].hash);
        if entries[at].weight != entries[top.1].weight {
            best = best.or(top.0, entries[top.1].weight, top.1 as u32);
            top = (score, at);
        } else if score > top.0 {
            top = (score, at);
        }
    }
    if best.at == u32::MAX {
        return top.1 as u32;
    }
    best.or(top.0, entries[top.1].weight, top.1 as u32).at
}

fn best_of_many(key: u64, roster: &Roster) -> u32 {
    let classes = roster.classes();
    if let [only] = classes {
        return only.entries[highest(key, only).1];
    }
    let taken = classes.iter().fold(Best::NONE, |best, class| {
        let (score, at) = highest(key, class);
        best.or(score, class.weight, class.entries[at])
    });
    taken.at
}

/// The highest score of a class and the index of the first that has it.
#[multiversion(targets("x86_64+avx2", "x86_64+avx512f+avx512dq+avx512vl"))]
fn highest(key: u64, class: &Class) -> (u32, usize) {
    let score = |hash| hash::score(key, hash);
    let mut best = (0, &class.blocks[0], 0);
    for (number, block) in class.blocks.iter().enumerate() {
        let highest = block.iter().map(|&hash| score(hash)).fold(0, u32::max);
        if highest > best.0 {
            best = (highest, block, number);
        }
    }
    // Which of its block is found without a branch for each: a bit for each that has the score. Scoring a block again is
    // less than keeping its scores.
    let (highest, block, number) = best;
    let has = |(lane, &hash): (usize, &u32)| u32::from(score(hash) == highest) << lane;
    let having = block.iter().enumerate().map(has).fold(0, |all, one| all | one);
    (highest, number * LANES + having.trailing_zeros() as usize)
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::super::super::selection::tests::roster;
    use super::*;

    /// Seeking class by class finds whom a logarithm for each finds.
    #[test]
    fn classes_change_nothing() {
        for (count, kinds) in [(1, 1), (7, 1), (7, 3), (16, 2), (40, 2), (40, 8), (300, 1), (300, 3), (300, 100)] {
            let weights: Vec<u32> = (0..count).map(|at: u32| 1 + at.wrapping_mul(0x9e37_79b1) % kinds).collect();
            let roster = roster(&weights, false);
            assert_eq!(roster.classes().is_empty(), count <= 16 || count < 8 * kinds, "{count} {kinds}");
            let mut local = Local::new(0);
            for client in 0..500u32 {
                let client = IpAddr::from((client << 8).to_be_bytes());
                let key = hash::client_key(1, client, 24);
                let mut first = |answers| {
                    local.chosen.clear();
                    rank(key, &roster, answers, &mut local);
                    local.chosen[0]
                };
                assert_eq!(first(1), first(2.min(count as usize)), "{count} {client}");
                let rank = |at: &u32| {
                    let entry = &roster.entries[*at as usize];
                    hash::rank(hash::score(key, entry.hash), u64::from(entry.weight))
                };
                let expected = (0..count).min_by(|a, b| rank(a).total_cmp(&rank(b))).expect("one");
                assert_eq!(first(1), expected, "{count} {client}");
            }
        }
    }
}
