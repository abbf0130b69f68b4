//! An order of regions for a place: the same for all its clients, but for *runs*, stretches that each client gets in an
//! order of its own.
//!
//! ```text
//! groups   eu-west  eu-central   us-east   ap-south
//! runs     └── split 80:20 ──┘   then the same for everybody
//! ```

use super::local::Random;
use super::{hash, weighted};
use crate::fleet::RegionId;

/// Groups, most wanted first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Order {
    /// Indexes into the layout's groups.
    pub groups: Box<[u32]>,
    /// Stretches of `groups` that are ordered for each query; mostly none. They do not overlap.
    pub runs: Box<[Run]>,
    /// The only regions that the client may be sent to, by fences; `None` = any.
    pub fence: Option<Box<[RegionId]>>,
}

/// A stretch of an order.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Run {
    /// Index of its first.
    pub from: u32,
    /// Index behind its last.
    pub to: u32,
    /// What orders it.
    pub by: By,
}

/// What orders a run; shares belong to its groups, one by one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum By {
    /// The client's key, by weighted rendezvous; the weight of a region is that of its instances.
    Weights,
    /// The same by these shares: who changes them moves only as many clients as he must.
    Shares(Box<[u32]>),
    /// A draw for each query.
    Draw(Box<[u32]>),
    /// What was measured of the client's ways to the regions; those about as near as the best by the client's key, as
    /// `Weights`, and those that are not measured last, as they stand.
    Latency {
        /// How much farther is about as near, in tenths of a millisecond.
        tolerance: u16,
    },
}

impl Order {
    /// Whether every client of it goes through the groups as they stand.
    #[must_use]
    pub fn is_fixed(&self) -> bool {
        self.runs.is_empty()
    }

    /// Whether the client's key decides about a part of it.
    #[must_use]
    pub fn goes_by_key(&self) -> bool {
        self.runs.iter().any(|run| matches!(run.by, By::Weights | By::Shares(_)))
    }

    /// Whether what is measured decides about a part of it.
    #[must_use]
    pub fn goes_by_latency(&self) -> bool {
        self.runs.iter().any(|run| matches!(run.by, By::Latency { .. }))
    }
}

/// Regions, most wanted first, while a policy puts them in order.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Ranking {
    pub(super) regions: Vec<RegionId>,
    pub(super) runs: Vec<Run>,
}

impl Ranking {
    /// The same for everybody.
    pub(super) fn fixed(regions: Vec<RegionId>) -> Ranking {
        Ranking { regions, runs: Vec::new() }
    }

    /// The first `count` in an order of each client's own, where that is more than one.
    pub(super) fn with_run(mut self, count: usize, by: By) -> Ranking {
        if count > 1 {
            self.runs.push(Run { from: 0, to: count as u32, by });
        }
        self
    }

    /// Adds those regions that are not there yet.
    pub(super) fn extend(&mut self, regions: Vec<RegionId>) {
        for region in regions {
            if !self.regions.contains(&region) {
                self.regions.push(region);
            }
        }
    }

    /// [`Ranking::extend`], with those that are added in the order that was measured.
    pub(super) fn push_measured(&mut self, regions: Vec<RegionId>, tolerance: u16) {
        let from = self.regions.len() as u32;
        self.extend(regions);
        let to = self.regions.len() as u32;
        if to - from > 1 {
            self.runs.push(Run { from, to, by: By::Latency { tolerance } });
        }
    }

    /// Adds regions that are not there yet by their shares.
    pub(super) fn push_split(&mut self, split: impl IntoIterator<Item = (RegionId, u32)>) {
        let from = self.regions.len() as u32;
        let (regions, shares): (Vec<RegionId>, Vec<u32>) = split.into_iter().unzip();
        self.regions.extend(regions);
        let to = self.regions.len() as u32;
        if to - from > 1 {
            self.runs.push(Run { from, to, by: By::Shares(shares.into()) });
        }
    }

    /// Removes every region that is not allowed, and its share.
    pub(super) fn keep(&mut self, allowed: &[RegionId]) {
        let kept: Vec<bool> = self.regions.iter().map(|region| allowed.contains(region)).collect();
        let count = |to: u32| kept[..to as usize].iter().filter(|&&kept| kept).count() as u32;
        for run in &mut self.runs {
            run.keep(&kept[run.from as usize..run.to as usize]);
            (run.from, run.to) = (count(run.from), count(run.to));
        }
        self.runs.retain(|run| run.to - run.from > 1);
        let mut each = kept.iter();
        self.regions.retain(|_| *each.next().unwrap_or(&false));
    }
}

impl Run {
    fn keep(&mut self, kept: &[bool]) {
        let of_kept =
            |shares: &[u32]| shares.iter().zip(kept).filter(|(_, kept)| **kept).map(|(share, _)| *share).collect();
        match &mut self.by {
            By::Weights | By::Latency { .. } => {}
            By::Shares(shares) | By::Draw(shares) => *shares = of_kept(shares),
        }
    }
}

/// Puts `groups` into a random order by `shares`; `room` is for the shares.
pub(super) fn draw(groups: &mut [u32], shares: &[u32], room: &mut Vec<u32>, random: &mut Random) {
    room.clear();
    room.extend_from_slice(shares);
    weighted::shuffle(groups, room, random);
}

/// Puts `groups` into the order of a client's `key`, by the frozen hash and the weight of each; those of weight 0 come
/// last. `room` is for the ranks.
pub(super) fn by_key(groups: &mut [u32], key: u64, room: &mut Vec<(f64, u32)>, of: impl Fn(usize, u32) -> (u32, u64)) {
    room.clear();
    room.extend(groups.iter().enumerate().map(|(place, &group)| {
        let (hash, weight) = of(place, group);
        let rank = if weight == 0 { f64::INFINITY } else { hash::rank(hash::score(key, hash), weight) };
        (rank, group)
    }));
    room.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    for (to, (_, group)) in groups.iter_mut().zip(room) {
        *to = *group;
    }
}
