//! What instances report of their load, and what follows from it (SPEC 5.4): who is at its most gets no clients while
//! another can have them, and each has a ratio, load ÷ capacity, by which `least-load` chooses.
//!
//! ```text
//! of those that may be picked     at max-load, another is not  ─► set aside
//! ratios, of those that are left  two or more count            ─► each its own; who has none that counts, the mean
//!                                 fewer                        ─► all alike: as `weighted`
//! ```
//! Whether a region is available was judged before: who is full works, and a region that is half full is not half dead.
//! What moves clients of a loaded region on is `spill` (SPEC 3.4).
//!
//! When a report counts is known to whoever keeps them; here there is no clock.

use super::group::{Candidates, Standing};
use crate::fleet::InstanceId;

/// The ratio of an instance whose load is its capacity: ratios are in percent.
pub const WHOLE: u16 = 100;
/// The highest ratio that is told apart.
const HIGHEST: u16 = 60_000;

/// What is gone by of one instance's reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reported {
    /// Load ÷ capacity in percent, at most [`ratio`]'s; `None` without a report that is young enough.
    pub load: Option<u16>,
    /// It began to report a short while ago, so that its ratio does not tell how much it can take.
    pub is_new: bool,
    /// Its load is its `max-load` or more.
    pub is_full: bool,
    /// The part of its weight that its agent has it have, in percent; 0 = its agent drains it.
    pub percent: u16,
}

impl Default for Reported {
    /// Nothing is reported.
    fn default() -> Reported {
        Reported { load: None, is_new: false, is_full: false, percent: 100 }
    }
}

impl Reported {
    /// The ratio that it is compared by.
    fn counts(self) -> Option<u16> {
        self.load.filter(|_| !self.is_new)
    }
}

/// Of an instance, what a trace says beside its health.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remark {
    /// Its agent drains it.
    DrainedByAgent,
    /// It is at its `max-load`, and others are not.
    AtMaxLoad,
    /// It is compared by the mean: it has not reported for too long, or never.
    Silent,
    /// It is compared by the mean: it began to report a short while ago.
    New,
}

impl Remark {
    /// In words.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Remark::DrainedByAgent => "is drained by its agent",
            Remark::AtMaxLoad => "is at its max-load",
            Remark::Silent => "no report, the mean",
            Remark::New => "new, the mean",
        }
    }
}

/// `load` of `capacity` (which is above 0) in percent, as exact as it is.
#[must_use]
pub fn ratio(load: f64, capacity: f64) -> f64 {
    (load / capacity * f64::from(WHOLE)).min(HIGHEST.into())
}

/// What is said of an instance; nothing, where the list is too short.
#[must_use]
pub fn of(reported: &[Reported], id: InstanceId) -> Reported {
    reported.get(id.0 as usize).copied().unwrap_or_default()
}

impl Standing {
    /// Sets aside who is full, and where some service `ranks` by load says how loaded each is. `reported` is by
    /// [`InstanceId`]; it may be shorter.
    pub fn heed_load(&mut self, reported: &[Reported], ranks: bool) {
        if reported.is_empty() {
            return;
        }
        self.set_full_aside(reported);
        if !ranks {
            return;
        }
        rank(&mut self.unknown, reported);
        rank(&mut self.allowed, reported);
        if !rank(&mut self.eligible, reported) {
            return;
        }
        let remark = |id| match of(reported, id) {
            said if said.counts().is_some() => None,
            said if said.load.is_some() => Some((id, Remark::New)),
            _ => Some((id, Remark::Silent)),
        };
        self.remarks.extend(self.eligible.list.iter().filter_map(|one| remark(one.instance)));
    }

    fn set_full_aside(&mut self, reported: &[Reported]) {
        let is_full = |id| of(reported, id).is_full;
        let full = self.eligible.list.iter().filter(|one| is_full(one.instance)).count();
        if full == 0 || full == self.eligible.list.len() {
            return;
        }
        let aside = self.eligible.list.iter().filter(|one| is_full(one.instance));
        self.remarks.extend(aside.map(|one| (one.instance, Remark::AtMaxLoad)));
        self.eligible = self.eligible.only(|id| !is_full(id));
    }
}

/// Gives each the ratio that it is compared by; whether they differ in what they are compared by at all.
fn rank(candidates: &mut Candidates, reported: &[Reported]) -> bool {
    let counting = candidates.list.iter().filter_map(|one| of(reported, one.instance).counts());
    let (count, sum) = counting.fold((0u64, 0u64), |(count, sum), ratio| (count + 1, sum + u64::from(ratio)));
    if count < 2 {
        return false;
    }
    let mean = ((sum + count / 2) / count) as u16;
    for one in &mut candidates.list {
        one.load = of(reported, one.instance).counts().unwrap_or(mean);
    }
    true
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    /// `a`, `b` … of weight 1, each with what it reports: `50`, `50new`, `50full`, `-`.
    fn standing(reports: &str) -> (Standing, Vec<Reported>) {
        let reported = |word: &str| {
            let digits: String = word.chars().take_while(char::is_ascii_digit).collect();
            let (is_new, is_full) = (word.ends_with("new"), word.ends_with("full"));
            Reported { load: digits.parse().ok(), is_new, is_full, percent: 100 }
        };
        let reported: Vec<Reported> = reports.split_whitespace().map(reported).collect();
        let mut eligible = Candidates::default();
        for at in 0..reported.len() as u32 {
            eligible.push(InstanceId(at), 1, std::iter::once(IpAddr::from([192, 0, 2, at as u8])));
        }
        (Standing { allowed: eligible.clone(), eligible, available: true, ..Standing::default() }, reported)
    }

    #[test]
    fn each_is_compared_by_its_own_or_the_mean() {
        for (reports, expected) in [
            ("10 90", "a10 b90"),
            ("10 90 -", "a10 b90 c50"),
            ("10 90 0new", "a10 b90 c50"),
            ("10 15 -", "a10 b15 c13"),
            // Fewer than two: as `weighted`.
            ("10 - -", "a0 b0 c0"),
            ("10 50new -", "a0 b0 c0"),
            ("- -", "a0 b0"),
            // Who is full is out while another is not, and counts for no mean.
            ("10 100full 30", "a10 c30"),
            ("10 100full -", "a0 c0"),
            ("90full 100full", "a90 b100"),
            ("0newfull -", "b0"),
            ("60000 0", "a60000 b0"),
        ] {
            let (mut standing, reported) = standing(reports);
            standing.heed_load(&reported, true);
            let shown = standing.eligible.list.iter().map(|one| {
                let letter = (b'a' + one.instance.0 as u8) as char;
                assert_eq!(standing.eligible.addresses_of(one), [IpAddr::from([192, 0, 2, one.instance.0 as u8])]);
                format!("{letter}{}", one.load)
            });
            assert_eq!(shown.collect::<Vec<_>>().join(" "), expected, "{reports}");
            assert_eq!(standing.eligible.weight, standing.eligible.list.len() as u64, "{reports}");
            assert!(standing.available && standing.allowed.list.len() == reported.len());
        }
    }

    #[test]
    fn what_is_not_compared_is_said() {
        let (mut with, reported) = standing("10 90 - 0new 700full");
        with.heed_load(&reported, true);
        let expected = [(4, Remark::AtMaxLoad), (2, Remark::Silent), (3, Remark::New)];
        assert_eq!(with.remarks, expected.map(|(id, remark)| (InstanceId(id), remark)));
        let (mut without, reported) = standing("10 90 - 0new 700full");
        without.heed_load(&reported, false);
        assert_eq!(without.remarks, [(InstanceId(4), Remark::AtMaxLoad)], "max-load counts for every balance");
        assert!(without.eligible.list.iter().all(|one| one.load == 0));
        let (mut nobody, _) = standing("- -");
        let before = nobody.clone();
        nobody.heed_load(&[], true);
        assert_eq!(nobody, before);
    }

    #[test]
    fn ratios_have_an_end() {
        assert_eq!((ratio(345.0, 800.0), ratio(0.0, 800.0)), (43.125, 0.0));
        assert_eq!((ratio(1e12, 0.001), ratio(f64::MAX, 1.0)), (f64::from(HIGHEST), f64::from(HIGHEST)));
    }
}
