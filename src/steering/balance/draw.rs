//! `weighted` and `random`: a draw without replacement, probability by weight (SPEC 5.1).
//!
//! | how many | way |
//! |---|---|
//! | one | the alias table, or for equal weights an index |
//! | several of few | one after the other, each by weight among those left |
//! | several of many | exponential clocks: the order in which they ring (Efraimidis and Spirakis 2006) |

use super::super::local::Local;
use super::super::selection::Roster;

/// Up to so many entries a draw goes through those that are left.
const FEW: usize = 32;

/// Draws `count` entries by weight.
pub(super) fn by_weight(roster: &Roster, count: usize, local: &mut Local) {
    if count == 1 {
        let at = roster.draw(local.random.bits());
        local.chosen.push(at);
    } else {
        several(roster, count, |at| roster.entries[at].weight, local);
    }
}

/// Draws `count` entries, all alike.
pub(super) fn alike(roster: &Roster, count: usize, local: &mut Local) {
    if count == 1 {
        let at = local.random.below(roster.entries.len() as u64) as u32;
        local.chosen.push(at);
    } else {
        several(roster, count, |_| 1, local);
    }
}

fn several(roster: &Roster, count: usize, weight: impl Fn(usize) -> u32, local: &mut Local) {
    if roster.entries.len() <= FEW {
        one_by_one(roster.entries.len(), count, weight, local);
    } else {
        by_clocks(roster.entries.len(), count, weight, local);
    }
}

fn one_by_one(entries: usize, count: usize, weight: impl Fn(usize) -> u32, local: &mut Local) {
    // Those that are left: their weights, and which they are.
    let mut left = [(0u64, 0u32); FEW];
    let mut left = &mut left[..entries];
    left.iter_mut().enumerate().for_each(|(at, each)| *each = (u64::from(weight(at)), at as u32));
    let mut sum: u64 = left.iter().map(|(weight, _)| weight).sum();
    for _ in 0..count {
        // The last that is left is drawn in any case.
        let mut draw = if left.len() > 1 { local.random.below(sum) } else { 0 };
        let hit = left.iter().position(|&(weight, _)| {
            let is_hit = draw < weight;
            draw = draw.saturating_sub(weight);
            is_hit
        });
        // The draw is below the sum of what is left, so one is hit.
        left.swap(0, hit.unwrap_or(0));
        let Some((&mut (weight, at), others)) = std::mem::take(&mut left).split_first_mut() else { return };
        sum -= weight;
        local.chosen.push(at);
        left = others;
    }
}

fn by_clocks(entries: usize, count: usize, weight: impl Fn(usize) -> u32, local: &mut Local) {
    local.ranked.clear();
    for at in 0..entries {
        let uniform = ((local.random.bits() >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
        local.ranked.push((-libm::log(uniform) / f64::from(weight(at)), at as u32));
    }
    super::choose_lowest(count, local);
}
