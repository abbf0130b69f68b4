//! `least-load`: power of two choices (SPEC 5.4). Of two entries drawn by weight, without replacement, the one with the
//! lower load ÷ capacity is chosen; of equals the one drawn first, so that shares are those of the weights where loads are
//! alike.
//!
//! Several are chosen one after the other: who was drawn and not chosen may be drawn again, who was chosen may not. What is
//! left is kept as sums (the tree of Fenwick 1994): a draw takes as many steps as the number of entries has bits.

use super::super::local::{Local, Random};
use super::super::selection::Roster;

/// How often a second entry is drawn from all, before it is looked for among the others.
const TRIES: usize = 8;

/// Chooses `count` entries.
pub(super) fn rank(roster: &Roster, count: usize, local: &mut Local) {
    if count == 1 {
        let at = one(roster, &mut local.random);
        local.chosen.push(at);
    } else {
        several(roster, count, local);
    }
}

fn one(roster: &Roster, random: &mut Random) -> u32 {
    let first = roster.draw(random.bits());
    if roster.entries.len() == 1 {
        return first;
    }
    let second = other_than(first, roster, random);
    lower(roster, first, second)
}

/// Draws another entry by weight.
fn other_than(first: u32, roster: &Roster, random: &mut Random) -> u32 {
    for _ in 0..TRIES {
        let at = roster.draw(random.bits());
        if at != first {
            return at;
        }
    }
    // One has nearly all of the weight.
    let mut draw = random.below(roster.weight - u64::from(roster.entries[first as usize].weight));
    let mut others = (0..).zip(&roster.entries[..]).filter(|(at, _)| *at != first);
    let hit = others.find(|(_, entry)| {
        let is_hit = draw < u64::from(entry.weight);
        draw = draw.saturating_sub(entry.weight.into());
        is_hit
    });
    // The draw is below the sum of the others' weights, so one is hit.
    hit.map_or(first, |(at, _)| at)
}

fn lower(roster: &Roster, first: u32, second: u32) -> u32 {
    let load = |at: u32| roster.entries[at as usize].load;
    if load(second) < load(first) { second } else { first }
}

fn several(roster: &Roster, count: usize, local: &mut Local) {
    let Local { sums, chosen, random, .. } = local;
    let weight = |at: u32| u64::from(roster.entries[at as usize].weight);
    let mut left = Left::of(sums, roster);
    for _ in 0..count {
        let first = left.draw(random);
        left.take(first, weight(first));
        if left.total == 0 {
            chosen.push(first);
            continue;
        }
        let second = left.draw(random);
        let better = lower(roster, first, second);
        if better == second {
            left.take(second, weight(second));
            left.put_back(first, weight(first));
        }
        chosen.push(better);
    }
}

/// Weights of the entries that are left.
struct Left<'l> {
    /// At n - 1 the sum of the weights of as many entries up to the n-th as the lowest bit of n says.
    sums: &'l mut [u64],
    total: u64,
}

impl<'l> Left<'l> {
    /// All of them, in the room there is.
    fn of(room: &'l mut Vec<u64>, roster: &Roster) -> Left<'l> {
        room.clear();
        room.extend(roster.entries.iter().map(|entry| u64::from(entry.weight)));
        for at in 1..=room.len() {
            let above = at + lowest_bit(at);
            if above <= room.len() {
                room[above - 1] += room[at - 1];
            }
        }
        Left { sums: room, total: roster.weight }
    }

    /// Draws by weight; something must be left.
    fn draw(&self, random: &mut Random) -> u32 {
        let mut draw = random.below(self.total);
        let mut at = 0;
        let mut step = (self.sums.len() + 1).next_power_of_two() / 2;
        while step > 0 {
            if let Some(&sum) = self.sums.get(at + step - 1)
                && sum <= draw
            {
                draw -= sum;
                at += step;
            }
            step /= 2;
        }
        at as u32
    }

    fn take(&mut self, at: u32, weight: u64) {
        self.total -= weight;
        self.each(at, |sum| *sum -= weight);
    }

    fn put_back(&mut self, at: u32, weight: u64) {
        self.total += weight;
        self.each(at, |sum| *sum += weight);
    }

    /// Every sum that an entry is part of.
    fn each(&mut self, at: u32, change: impl Fn(&mut u64)) {
        let mut at = at as usize + 1;
        while at <= self.sums.len() {
            change(&mut self.sums[at - 1]);
            at += lowest_bit(at);
        }
    }
}

fn lowest_bit(number: usize) -> usize {
    number & number.wrapping_neg()
}

#[cfg(test)]
mod tests {
    use super::super::super::selection::tests::roster_loaded;
    use super::*;

    const DRAWS: u32 = 200_000;

    /// How often each entry was in each place.
    fn places(roster: &Roster, count: usize, draws: u32) -> Vec<Vec<f64>> {
        let mut local = Local::new(7);
        let mut places = vec![vec![0.0; roster.entries.len()]; count];
        for _ in 0..draws {
            local.chosen.clear();
            rank(roster, count, &mut local);
            assert_eq!(local.chosen.len(), count);
            for (place, &at) in local.chosen.iter().enumerate() {
                places[place][at as usize] += 1.0 / f64::from(draws);
            }
        }
        places
    }

    /// The chance of each entry to be in each place, by going through all that may be drawn.
    fn expected(weights: &[u32], loads: &[u16], count: usize) -> Vec<Vec<f64>> {
        fn go(left: &[bool], weights: &[u32], loads: &[u16], chance: f64, places: &mut [Vec<f64>]) {
            let Some((place, rest)) = places.split_first_mut() else { return };
            let sum =
                |left: &[bool]| (0..left.len()).filter(|&at| left[at]).map(|at| f64::from(weights[at])).sum::<f64>();
            let (all, open) = (sum(left), left.iter().filter(|&&left| left).count());
            for first in (0..left.len()).filter(|&at| left[at]) {
                let of_first = chance * f64::from(weights[first]) / all;
                let mut next = |chosen: usize, chance: f64| {
                    place[chosen] += chance;
                    let mut left = left.to_vec();
                    left[chosen] = false;
                    go(&left, weights, loads, chance, rest);
                };
                if open == 1 {
                    next(first, of_first);
                }
                for second in (0..left.len()).filter(|&at| left[at] && at != first) {
                    let chance = of_first * f64::from(weights[second]) / (all - f64::from(weights[first]));
                    next(if loads[second] < loads[first] { second } else { first }, chance);
                }
            }
        }
        let mut places = vec![vec![0.0; weights.len()]; count];
        go(&vec![true; weights.len()], weights, loads, 1.0, &mut places);
        places
    }

    #[test]
    fn places_are_as_the_rule_says() {
        for (weights, loads) in [
            (&[2, 1, 1][..], &[0, 0, 0][..]),
            (&[2, 1, 1], &[90, 10, 50]),
            (&[1, 1], &[40, 60]),
            (&[1000, 1, 1], &[90, 10, 50]),
            (&[1, 2, 3, 4, 5], &[5, 4, 3, 2, 1]),
            (&[5], &[70]),
        ] {
            let roster = roster_loaded(weights, loads);
            for count in [1, weights.len().min(2), weights.len()] {
                let (found, expected) = (places(&roster, count, DRAWS), expected(weights, loads, count));
                for (found, expected) in found.iter().flatten().zip(expected.iter().flatten()) {
                    assert!((found - expected).abs() < 0.005, "{weights:?} {loads:?} {count}: {found} for {expected}");
                }
            }
        }
    }

    #[test]
    fn all_of_many_are_chosen_once() {
        let weights: Vec<u32> = (1..=1000).collect();
        let roster = roster_loaded(&weights, &vec![0; 1000]);
        let mut local = Local::new(7);
        for count in [2, 37, 1000] {
            local.chosen.clear();
            rank(&roster, count, &mut local);
            let mut chosen = local.chosen.clone();
            chosen.sort_unstable();
            chosen.dedup();
            assert_eq!(chosen.len(), count);
        }
        assert_eq!(local.sums.len(), 1000);
    }

    /// The one with nearly all of the weight and most of the load gets what the others must not all have.
    #[test]
    fn the_heaviest_need_not_win() {
        let roster = roster_loaded(&[1_000_000, 1], &[50, 20]);
        assert_eq!(places(&roster, 1, 64), [[0.0, 1.0]]);
        let roster = roster_loaded(&[1_000_000, 1], &[20, 20]);
        assert!(places(&roster, 1, 64)[0][0] > 0.9);
    }
}
