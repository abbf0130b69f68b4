//! One estimate: the round-trip time from some clients to one region.
//!
//! ```text
//!  sample ─► the last 7 ─► their median ─► at most so far from the estimate ─► mean that forgets ─► dead band ─► published
//! ```
//! The median takes out garbage, one sample in ten and more, and follows a real change after four samples. The mean
//! weighs what it knows down by half with each half-life, so that it neither hangs on to the past where samples are rare
//! nor runs after noise where they are many; it lets go faster while the median is far off, for that is no noise. The published value stays until the estimate has left a band around it:
//! decisions go by published values alone, so that noise does not swap regions that are about as near.

use super::around::Vote;

/// Samples whose median counts.
const RECENT: usize = 7;
/// Samples from which an estimate counts.
pub const ENOUGH: u16 = 3;
/// Most that the past weighs against a new sample, in [`WHOLE`].
const MOST_WEIGHT: f32 = 16.0;
/// Parts of a sample in which weights are kept.
const WHOLE: f32 = 256.0;
/// Half of the least dead band, in tenths of a millisecond.
const LEAST_BAND: f32 = 20.0;
/// Half of the dead band, as a part of what is published.
const BAND: f32 = 0.06;
/// From so far off on a median says that the way is another one, as a part of the estimate, and in tenths of a millisecond.
const FAR: f32 = 0.2;
const LEAST_FAR: f32 = 100.0;
/// What the past weighs then, of what it would.
const DOUBT: f32 = 0.75;
/// How far one median moves the estimate at most, beside once its value up and half of it down, in tenths of a millisecond.
const LEAST_STEP: f32 = 500.0;

/// A round-trip time in tenths of a millisecond, above 0. What is longer than 6.5 seconds is as bad as that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rtt(pub u16);

impl Rtt {
    /// From milliseconds.
    #[must_use]
    pub fn from_ms(ms: f64) -> Rtt {
        Rtt((ms * 10.0).round().clamp(1.0, u16::MAX.into()) as u16)
    }

    /// In milliseconds.
    #[must_use]
    pub fn ms(self) -> f64 {
        f64::from(self.0) / 10.0
    }
}

/// An estimate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Cell {
    /// Tenths of a millisecond.
    estimate: f32,
    /// When the last sample came, in seconds of `book::second`.
    pub(super) last: u32,
    /// The last samples, in tenths of a millisecond, the oldest at `count` modulo their number.
    recent: [u16; RECENT],
    /// To which region.
    pub(super) region: u16,
    /// What the estimate weighs against a new sample, in 1/256 of a sample.
    weight: u16,
    /// Samples so far; stops counting near its end.
    pub(super) count: u16,
    /// What decisions go by, in tenths of a millisecond; 0 = too few samples yet.
    published: u16,
}

// 100 000 prefixes times 32 regions are to take little more than 100 MB.
const _: () = assert!(size_of::<Cell>() == 32);

/// What of a cell outlives the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stored {
    pub(super) region: u16,
    pub(super) last: u32,
    pub(super) estimate: u16,
    pub(super) published: u16,
    pub(super) weight: u16,
    pub(super) count: u16,
}

impl Cell {
    /// Of one sample.
    pub(super) fn new(region: u16, rtt: Rtt, second: u32) -> Cell {
        let mut recent = [0; RECENT];
        recent[0] = rtt.0;
        let weight = WHOLE as u16;
        Cell { estimate: rtt.0.into(), last: second, recent, region, weight, count: 1, published: 0 }
    }

    /// Takes a sample; whether what is published changed.
    pub(super) fn take(&mut self, rtt: Rtt, second: u32, half_life: f32) -> bool {
        let passed = second.saturating_sub(self.last);
        self.last = self.last.max(second);
        self.recent[usize::from(self.count) % RECENT] = rtt.0;
        // The same remainder goes on.
        self.count = if self.count == u16::MAX { u16::MAX - (RECENT as u16 - 1) } else { self.count + 1 };
        let median = f32::from(self.median());
        let is_far = (median - self.estimate).abs() > (self.estimate * FAR).max(LEAST_FAR);
        let doubt = if is_far { DOUBT } else { 1.0 };
        let past = f32::from(self.weight) / WHOLE * libm::exp2f(-(passed as f32) / half_life) * doubt;
        let weight = (past + 1.0).min(MOST_WEIGHT);
        self.weight = (weight * WHOLE) as u16;
        if usize::from(self.count) <= RECENT {
            self.estimate = median;
        } else {
            let (least, most) = (self.estimate / 2.0 - LEAST_STEP, self.estimate * 2.0 + LEAST_STEP);
            self.estimate += (median.clamp(least, most) - self.estimate) / weight;
        }
        self.settle()
    }

    /// Of an even number the lower one: what delays a round trip is more common than what shortens it.
    fn median(&self) -> u16 {
        let mut sorted = self.recent;
        let known = usize::from(self.count).min(RECENT);
        let sorted = &mut sorted[..known];
        sorted.sort_unstable();
        sorted[(known - 1) / 2]
    }

    fn settle(&mut self) -> bool {
        if self.count < ENOUGH {
            return false;
        }
        let is_new = is_beyond_band(self.published, self.estimate);
        let now = self.rounded();
        is_new && std::mem::replace(&mut self.published, now) != now
    }

    fn rounded(&self) -> u16 {
        (self.estimate.round() as u16).max(1)
    }

    /// What decisions go by; `None` while there are too few samples.
    pub(super) fn published(&self) -> Option<Rtt> {
        Some(Rtt(self.published)).filter(|rtt| rtt.0 > 0)
    }

    /// What is thought now.
    pub(super) fn estimate(&self) -> Rtt {
        Rtt(self.rounded())
    }

    /// What it says among others: what is published, or else what is thought.
    pub(super) fn vote(&self) -> Vote {
        Vote { rtt: self.published().unwrap_or(self.estimate()), samples: self.count }
    }

    pub(super) fn stored(&self) -> Stored {
        let Cell { last, region, weight, count, published, .. } = *self;
        Stored { region, last, estimate: self.rounded(), published, weight, count }
    }

    /// Of the samples themselves nothing is left but what they came to.
    pub(super) fn restored(stored: Stored) -> Cell {
        let Stored { region, last, estimate, published, weight, count } = stored;
        let estimate = estimate.max(1);
        Cell {
            estimate: estimate.into(),
            last,
            recent: [estimate; RECENT],
            region,
            weight,
            count: count.max(1),
            published,
        }
    }
}

/// Whether an estimate, in tenths of a millisecond, has left the dead band around what is published, or nothing is (0).
pub(super) fn is_beyond_band(published: u16, estimate: f32) -> bool {
    let around = f32::from(published);
    published == 0 || (estimate - around).abs() > (around * BAND).max(LEAST_BAND)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HALF_LIFE: f32 = 600.0;

    /// A cell of samples in milliseconds, one every `every` seconds.
    fn cell(samples: &[f64], every: u32) -> Cell {
        let mut each = samples.iter().zip((0..).step_by(every as usize));
        let (&first, second) = each.next().expect("a sample");
        let mut cell = Cell::new(0, Rtt::from_ms(first), second);
        each.for_each(|(&ms, second)| {
            cell.take(Rtt::from_ms(ms), second, HALF_LIFE);
        });
        cell
    }

    fn published(cell: &Cell) -> Option<f64> {
        cell.published().map(Rtt::ms)
    }

    #[test]
    fn few_samples_count_for_nothing_and_garbage_for_little() {
        for (samples, expected) in [
            (&[30.0][..], None),
            (&[30.0, 31.0], None),
            (&[30.0, 31.0, 32.0], Some(31.0)),
            (&[9_000.0, 31.0, 30.0], Some(31.0)),
            (&[0.1, 31.0, 30.0], Some(30.0)),
            (&[30.0, 31.0, 5_000.0, 0.2, 30.0], Some(31.0)),
        ] {
            assert_eq!(published(&cell(samples, 1)), expected, "{samples:?}");
        }
    }

    #[test]
    fn garbage_moves_an_estimate_by_little_even_where_it_is_the_median() {
        let mut samples = vec![30.0; 40];
        samples.extend([4_000.0; 4]);
        let now = cell(&samples, 1).estimate().ms();
        assert!(now < 40.0, "{now}");
    }

    #[test]
    fn a_shift_is_followed_within_two_half_lives() {
        for every in [10, 60, 150] {
            let mut samples = vec![30.0; 100];
            let shifted = 2 * HALF_LIFE as usize / every as usize;
            samples.extend(vec![130.0; shifted]);
            let now = published(&cell(&samples, every)).expect("published");
            assert!(now > 90.0, "every {every} s: {now}");
        }
    }

    #[test]
    fn what_is_published_stays_within_its_band() {
        let mut cell = cell(&[100.0; 20], 1);
        assert_eq!(published(&cell), Some(100.0));
        for (at, ms) in (20..).zip([95.0, 105.0, 104.0, 96.0].into_iter().cycle().take(400)) {
            assert!(!cell.take(Rtt::from_ms(ms), at, HALF_LIFE));
        }
        let mut moved = 0;
        for at in 500..600 {
            moved += u32::from(cell.take(Rtt::from_ms(112.0), at, HALF_LIFE));
        }
        assert_eq!((moved, published(&cell).is_some_and(|ms| ms > 106.0)), (1, true));
    }

    #[test]
    fn it_counts_on_and_on() {
        let mut cell = cell(&[20.0; 8], 1);
        for second in 0..200_000 {
            cell.take(Rtt::from_ms(20.0), second, HALF_LIFE);
        }
        assert!(cell.count > u16::MAX - RECENT as u16);
        for second in 200_000..200_040 {
            cell.take(Rtt::from_ms(50.0), second, HALF_LIFE);
        }
        assert!(published(&cell).is_some_and(|ms| ms > 45.0), "{cell:?}");
    }

    #[test]
    fn times_are_bounded() {
        assert_eq!([0.0, 0.01, 34.0, 6_553.5, 60_000.0].map(|ms| Rtt::from_ms(ms).0), [1, 1, 340, 65_535, 65_535]);
        let cell = cell(&[60_000.0; 30], 1);
        assert_eq!(published(&cell), Some(6_553.5));
        assert_eq!(Cell::restored(cell.stored()).published(), cell.published());
    }
}
