//! How an instance that recovered gets its weight back (SPEC 2.9): a tenth of it at once, the rest evenly over `ramp`.

use std::time::Duration;

use super::group::{Candidate, Candidates, Standing};
use crate::fleet::{Address, Family, Fleet, TargetId};
use crate::time::Tick;

/// The parts that a whole weight has while something ramps.
const WHOLE: u32 = 40;
/// The parts that an instance begins with.
const FIRST: u32 = 4;

/// The parts of its weight that an instance has which recovered at `since`.
fn parts(since: Tick, ramp: Duration, now: Tick) -> u32 {
    let (elapsed, whole) = (now.since(since).as_millis(), ramp.as_millis());
    if elapsed >= whole { WHOLE } else { FIRST + (u128::from(WHOLE - FIRST) * elapsed / whole) as u32 }
}

/// When it has a part more; `None` when it has all.
fn next(since: Tick, ramp: Duration, now: Tick) -> Option<Tick> {
    let steps = parts(since, ramp, now) - FIRST + 1;
    let after = (ramp.as_millis() * u128::from(steps)).div_ceil(u128::from(WHOLE - FIRST));
    (steps <= WHOLE - FIRST).then(|| since.plus(Duration::from_millis(after as u64)))
}

impl Standing {
    /// Lessens the weight of eligible instances that recovered a short while ago. `recovered` says when, by `TargetId`; it
    /// may be shorter. Weights are in fortieths then, all of them. Where nobody has a whole weight there is nobody to take
    /// the rest, and nothing is lessened. Whether the group is available goes by whole weights, as was judged before.
    pub fn ramp(&mut self, fleet: &Fleet, family: Family, recovered: &[Option<Tick>], ramp: Duration, now: Tick) {
        if recovered.is_empty() || ramp.is_zero() {
            return;
        }
        let since = |address: &Address| {
            let of = |target: &TargetId| recovered.get(target.0 as usize).copied().flatten();
            address.targets.iter().filter_map(of).max()
        };
        let recovery = |candidate: &Candidate| {
            let addresses = &fleet.instance(candidate.instance).addresses;
            let of_family = addresses.iter().filter(|address| Family::of(address.ip) == family);
            // One that passes suffices behind a CNAME: it recovered when all of them did.
            let behind = || addresses.iter().map(since).collect::<Option<Vec<Tick>>>()?.into_iter().min();
            if candidate.is_cname { behind() } else { of_family.filter_map(since).max() }
        };
        let recoveries: Vec<Option<Tick>> = self.eligible.list.iter().map(recovery).collect();
        let share = |since: &Option<Tick>| since.map_or(WHOLE, |since| parts(since, ramp, now));
        self.due = recoveries.iter().flatten().filter_map(|&since| next(since, ramp, now)).min();
        let is_whole = |since: &Option<Tick>| share(since) == WHOLE;
        if recoveries.iter().all(is_whole) || !recoveries.iter().any(is_whole) {
            return;
        }
        scale(&mut self.eligible, recoveries.iter().map(share));
        scale(&mut self.unknown, std::iter::repeat(WHOLE));
        scale(&mut self.allowed, std::iter::repeat(WHOLE));
    }
}

fn scale(candidates: &mut Candidates, parts: impl Iterator<Item = u32>) {
    for (candidate, parts) in candidates.list.iter_mut().zip(parts) {
        candidate.weight = candidate.weight.saturating_mul(parts);
    }
    candidates.weight = candidates.list.iter().map(|candidate| u64::from(candidate.weight)).sum();
}

#[cfg(test)]
mod tests {
    use super::*;

    const RAMP: Duration = Duration::from_secs(90);

    #[test]
    fn grows_from_a_tenth_to_all() {
        for (seconds, parts_then) in [(0, 4), (2, 4), (5, 6), (45, 22), (89, 39), (90, 40), (1000, 40)] {
            assert_eq!(parts(Tick(7), RAMP, Tick(7 + seconds * 1000)), parts_then, "{seconds}");
        }
    }

    #[test]
    fn is_looked_at_once_for_each_part() {
        for ramp in [Duration::from_millis(1), Duration::from_millis(17), Duration::from_millis(1234), RAMP] {
            let (mut now, mut before, mut looks) = (Tick(5), 0, 0);
            while let Some(due) = next(Tick(5), ramp, now) {
                let had = parts(Tick(5), ramp, now);
                assert!(due > now && had > before, "{ramp:?} {now:?}");
                (now, before, looks) = (due, had, looks + 1);
            }
            assert_eq!((now, parts(Tick(5), ramp, now)), (Tick(5).plus(ramp), WHOLE));
            assert!(looks <= 36);
        }
    }
}
