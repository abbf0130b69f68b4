//! `steer = "weighted"`: a random order by shares; regions without a share come last (SPEC 4.6). Where clients keep their
//! instance or region the client's key takes the place of the draw (SPEC 5.3).

use super::local::Random;
use super::order::{By, Ranking};
use crate::fleet::{Fleet, RegionId};

/// The regions that are `present`, those with a share first; the order is drawn for each query, or where clients are to
/// `keep` their region once for each client.
#[must_use]
pub(super) fn order(fleet: &Fleet, shares: &[(RegionId, u32)], present: &[RegionId], keep: bool) -> Ranking {
    let share = |region: RegionId| shares.iter().find(|(named, _)| *named == region).map_or(0, |&(_, share)| share);
    let named = |region: RegionId| shares.iter().any(|&(named, _)| named == region);
    let mut order: Vec<RegionId> =
        present.iter().copied().filter(|&region| named(region) || !fleet.region(region).only_named).collect();
    order.sort_by_key(|&region| share(region) == 0);
    let shares = order.iter().map(|&region| share(region)).collect();
    let count = order.len();
    Ranking::fixed(order).with_run(count, if keep { By::Shares(shares) } else { By::Draw(shares) })
}

/// Puts `order` into a random order: each next one by its share among those left; shares of 0 keep their place at the
/// end. `shares` belongs to `order` and is shuffled along.
pub(super) fn shuffle(order: &mut [u32], shares: &mut [u32], random: &mut Random) {
    for at in 0..order.len() {
        let total: u64 = shares[at..].iter().map(|&share| u64::from(share)).sum();
        if total == 0 {
            return;
        }
        let mut draw = random.below(total);
        let chosen = (at..order.len()).find(|&index| {
            let share = u64::from(shares[index]);
            let hit = draw < share;
            draw = draw.saturating_sub(share);
            hit
        });
        let chosen = chosen.unwrap_or(at);
        // Rotate rather than swap, so that those behind keep their order.
        order[at..=chosen].rotate_right(1);
        shares[at..=chosen].rotate_right(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_hold() {
        let mut random = Random::new(7);
        let mut first = [0u32; 4];
        for _ in 0..100_000 {
            let (mut order, mut shares) = ([0, 1, 2, 3], [70, 30, 0, 0]);
            shuffle(&mut order, &mut shares, &mut random);
            assert_eq!(order[2..], [2, 3]);
            first[order[0] as usize] += 1;
        }
        assert!((69_500..70_500).contains(&first[0]), "{first:?}");
        assert_eq!(first[2] + first[3], 0);
    }
}
