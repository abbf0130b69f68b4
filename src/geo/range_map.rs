//! A value for every address: both address spaces cut into maximal runs of equal values.
//!
//! Owns lookup with the widest correct scope (RFC 7871 §7.2.1), nested prefixes, and combining of maps; what the values
//! mean is the caller's. Neighbouring runs always differ, therefore a scope is as wide as the data allow.
//!
//! ```text
//! starts   0.0.0.0   10.0.0.0   11.0.0.0        a run ends where the next one starts
//! values   a         b          a
//! ```
//! A space of many runs carries an index: by as many top bits as the number of runs warrants, and, where many runs share
//! these (IPv6: all of a registry lies in one /12), by as many of the next bits as there are runs for. Few runs are left to search, and
//! they lie in a cache line or two: of millions of runs each line is a miss, which costs more than all else.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use ipnet::IpNet;

use crate::prefetch;

/// Spaces with fewer runs are searched without an index.
const INDEX_FROM_RUNS: usize = 512;
/// Addresses that share the top bits get an index of their own from this number of runs.
const SPLIT_FROM_RUNS: usize = 8;
/// Most bits of an address that choose a bucket of the first level.
const MAX_TOP_BITS: u32 = 16;
/// Most bits of an address that choose a slot of the second level.
const MAX_SPLIT_BITS: u32 = 16;

/// A value for every IPv4 and every IPv6 address; cheap to copy.
#[derive(Clone, PartialEq, Eq)]
pub struct RangeMap<V> {
    v4: Arc<Runs<u32, V>>,
    v6: Arc<Runs<u128, V>>,
}

impl<V: Copy + Eq> RangeMap<V> {
    /// The same value everywhere.
    pub fn uniform(value: V) -> RangeMap<V> {
        RangeMap::new(Runs::uniform(value), Runs::uniform(value))
    }

    /// What the longest prefix around an address says, in any order of input; of equal prefixes the last one counts.
    pub fn from_prefixes(default: V, prefixes: impl IntoIterator<Item = (IpNet, V)>) -> RangeMap<V> {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for (prefix, value) in prefixes {
            match prefix {
                IpNet::V4(net) => v4.push((u32::from(net.network()), u32::from(net.broadcast()), value)),
                IpNet::V6(net) => v6.push((u128::from(net.network()), u128::from(net.broadcast()), value)),
            }
        }
        RangeMap::new(Runs::from_nested(default, v4), Runs::from_nested(default, v6))
    }

    /// Takes runs as they come; each family in ascending order.
    pub(super) fn from_runs(v4: Builder<u32, V>, v6: Builder<u128, V>) -> RangeMap<V> {
        RangeMap::new(v4.finish(), v6.finish())
    }

    /// Combines two maps address by address; `f` is called once for each stretch in which neither changes.
    pub fn zip<B: Copy + Eq, C: Copy + Eq>(&self, other: &RangeMap<B>, mut f: impl FnMut(V, B) -> C) -> RangeMap<C> {
        RangeMap::new(self.v4.zip(&other.v4, &mut f), self.v6.zip(&other.v6, &mut f))
    }

    /// Replaces each value; `f` is called once for each run.
    pub fn map<C: Copy + Eq>(&self, mut f: impl FnMut(V) -> C) -> RangeMap<C> {
        RangeMap::new(self.v4.map(&mut f), self.v6.map(&mut f))
    }

    /// Calls `f` with first address, last address and both values of each stretch in which neither map changes: IPv4, then
    /// IPv6, in ascending order.
    pub fn each_stretch<B: Copy + Eq>(&self, other: &RangeMap<B>, mut f: impl FnMut(IpAddr, IpAddr, V, B)) {
        self.v4.each_stretch(&other.v4, &mut |first, last, a, b| f(v4(first), v4(last), a, b));
        self.v6.each_stretch(&other.v6, &mut |first, last, a, b| f(v6(first), v6(last), a, b));
    }

    /// Calls `f` with first address, last address and value of each run: IPv4, then IPv6, in ascending order.
    pub fn each_run(&self, mut f: impl FnMut(IpAddr, IpAddr, V)) {
        self.each_stretch(&RangeMap::uniform(()), |first, last, value, ()| f(first, last, value));
    }

    /// The value at an address, and the length of the widest prefix around it in which every address has this value:
    /// 0 where its whole family has one value.
    #[inline]
    pub fn lookup(&self, address: IpAddr) -> (V, u8) {
        match address {
            IpAddr::V4(address) => self.v4.lookup(address.into()),
            IpAddr::V6(address) => self.v6.lookup(address.into()),
        }
    }

    /// Asks the processor for what says where the runs around an address are: the first of two steps that are to be taken
    /// well before a lookup, for many addresses one after the other.
    pub fn prefetch_index(&self, address: IpAddr) {
        match address {
            IpAddr::V4(address) => self.v4.prefetch_index(address.into()),
            IpAddr::V6(address) => self.v6.prefetch_index(address.into()),
        }
    }

    /// Asks the processor for the runs around an address: the second step.
    pub fn prefetch_runs(&self, address: IpAddr) {
        match address {
            IpAddr::V4(address) => self.v4.prefetch_runs(address.into()),
            IpAddr::V6(address) => self.v6.prefetch_runs(address.into()),
        }
    }

    /// Number of runs of both families; at least 2.
    pub fn runs(&self) -> usize {
        self.v4.starts.len() + self.v6.starts.len()
    }

    /// Every value that some address has, once, in ascending order.
    pub fn values(&self) -> impl Iterator<Item = V>
    where
        V: Ord,
    {
        let mut values: Vec<V> = self.v4.values.iter().chain(&self.v6.values).copied().collect();
        values.sort_unstable();
        values.dedup();
        values.into_iter()
    }
}

impl<V> RangeMap<V> {
    fn new(v4: Runs<u32, V>, v6: Runs<u128, V>) -> RangeMap<V> {
        RangeMap { v4: Arc::new(v4), v6: Arc::new(v6) }
    }
}

fn v4(number: u32) -> IpAddr {
    Ipv4Addr::from_bits(number).into()
}

fn v6(number: u128) -> IpAddr {
    Ipv6Addr::from_bits(number).into()
}

/// Counts only: a city data base has millions of runs.
impl<V> fmt::Debug for RangeMap<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RangeMap({} IPv4 runs, {} IPv6 runs)", self.v4.starts.len(), self.v6.starts.len())
    }
}

/// One address space. `starts` ascends from 0, and `values` has no equal neighbours.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Runs<A, V> {
    starts: Vec<A>,
    values: Vec<V>,
    index: Option<Index>,
}

impl<A: Bits, V: Copy + Eq> Runs<A, V> {
    fn uniform(value: V) -> Runs<A, V> {
        Runs { starts: vec![A::ZERO], values: vec![value], index: None }
    }

    /// Takes (first, last, value) of prefixes, which lie inside each other or apart.
    fn from_nested(default: V, mut prefixes: Vec<(A, A, V)>) -> Runs<A, V> {
        prefixes.sort_by(|a, b| a.0.cmp(&b.0).then(b.1.cmp(&a.1)));
        let mut runs = Builder::new(default);
        let mut around: Vec<(A, V)> = Vec::new();
        for (first, last, value) in prefixes {
            leave(&mut around, default, &mut runs, |end| end < first);
            runs.push(first, value);
            around.push((last, value));
        }
        leave(&mut around, default, &mut runs, |_| true);
        runs.finish()
    }

    fn zip<B: Copy + Eq, C: Copy + Eq>(&self, other: &Runs<A, B>, f: &mut impl FnMut(V, B) -> C) -> Runs<A, C> {
        let (mut here, mut there) = (0, 0);
        let mut runs = Builder::new(f(self.values[0], other.values[0]));
        loop {
            let at = match (self.starts.get(here + 1), other.starts.get(there + 1)) {
                (None, None) => return runs.finish(),
                (Some(&a), Some(&b)) => a.min(b),
                (Some(&a), None) | (None, Some(&a)) => a,
            };
            here += usize::from(self.starts.get(here + 1) == Some(&at));
            there += usize::from(other.starts.get(there + 1) == Some(&at));
            runs.push(at, f(self.values[here], other.values[there]));
        }
    }

    fn each_stretch<B: Copy + Eq>(&self, other: &Runs<A, B>, f: &mut impl FnMut(A, A, V, B)) {
        let (mut here, mut there, mut first) = (0, 0, A::ZERO);
        loop {
            let next = match (self.starts.get(here + 1), other.starts.get(there + 1)) {
                (Some(&a), Some(&b)) => Some(a.min(b)),
                (a, b) => a.or(b).copied(),
            };
            let last = next.and_then(A::predecessor).unwrap_or(A::LAST);
            f(first, last, self.values[here], other.values[there]);
            let Some(at) = next else { return };
            here += usize::from(self.starts.get(here + 1) == Some(&at));
            there += usize::from(other.starts.get(there + 1) == Some(&at));
            first = at;
        }
    }

    fn map<C: Copy + Eq>(&self, f: &mut impl FnMut(V) -> C) -> Runs<A, C> {
        let mut runs = Builder::new(f(self.values[0]));
        for (&start, &value) in self.starts.iter().zip(&self.values).skip(1) {
            runs.push(start, f(value));
        }
        runs.finish()
    }

    #[inline]
    fn lookup(&self, address: A) -> (V, u8) {
        let run = self.find(address);
        (self.values[run], self.scope(address, run))
    }

    fn prefetch_index(&self, address: A) {
        if let Some(index) = &self.index {
            prefetch::first_line(&index.buckets[address.slice(0, index.top_bits)]);
        }
    }

    fn prefetch_runs(&self, address: A) {
        let (low, high) = self.bounds(address);
        prefetch::lines(&self.starts[low..=high], 2);
        prefetch::lines(&self.values[low..=high], 2);
    }

    /// First and last run that may hold the address.
    #[inline]
    fn bounds(&self, address: A) -> (usize, usize) {
        self.index.as_ref().map_or((0, self.starts.len() - 1), |index| index.bounds(address))
    }

    /// Number of the run that holds the address: the last that does not start after it.
    #[inline]
    fn find(&self, address: A) -> usize {
        let (low, high) = self.bounds(address);
        low + self.starts[low + 1..=high].partition_point(|&start| start <= address)
    }

    /// A prefix lies inside the run if it has neither of the addresses next to the run.
    #[inline]
    fn scope(&self, address: A, run: usize) -> u8 {
        let before = self.starts[run].predecessor().map_or(0, |before| address.common_bits(before) + 1);
        let after = self.starts.get(run + 1).map_or(0, |&after| address.common_bits(after) + 1);
        before.max(after)
    }
}

/// Ends the innermost prefixes while `over` says so of their last address.
fn leave<A: Bits, V: Copy + Eq>(
    around: &mut Vec<(A, V)>,
    default: V,
    runs: &mut Builder<A, V>,
    over: impl Fn(A) -> bool,
) {
    while let Some(&(last, _)) = around.last().filter(|(last, _)| over(*last)) {
        around.pop();
        if let Some(next) = last.successor() {
            runs.push(next, around.last().map_or(default, |&(_, value)| value));
        }
    }
}

/// Collects the runs of one address space from its start on.
#[derive(Debug)]
pub(super) struct Builder<A, V> {
    starts: Vec<A>,
    values: Vec<V>,
}

impl<A: Bits, V: Copy + Eq> Builder<A, V> {
    pub(super) fn new(first: V) -> Builder<A, V> {
        Builder { starts: vec![A::ZERO], values: vec![first] }
    }

    /// From `start` on, which is not below any given before, the value is this; the last word on a start counts.
    pub(super) fn push(&mut self, start: A, value: V) {
        if self.starts.last() == Some(&start) {
            self.starts.pop();
            self.values.pop();
        }
        if self.values.last() != Some(&value) {
            self.starts.push(start);
            self.values.push(value);
        }
    }

    fn finish(mut self) -> Runs<A, V> {
        self.starts.shrink_to_fit();
        self.values.shrink_to_fit();
        let index = (self.starts.len() >= INDEX_FROM_RUNS).then(|| Index::new(&self.starts));
        Runs { starts: self.starts, values: self.values, index }
    }
}

/// Narrows the runs that may hold an address by its leading bits.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Index {
    /// How many bits choose a bucket.
    top_bits: u32,
    /// By the top bits, and one more.
    buckets: Box<[Bucket]>,
    /// Second levels, one after the other: number of the run that holds the first address of the slot.
    slots: Box<[u32]>,
}

/// Addresses with the same top bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bucket {
    /// Number of the run that holds the first address.
    run: u32,
    /// Where its second level begins in `slots`, and in the low bits how many bits choose a slot; 0 = no second level. It
    /// ends with the next bucket's `run`.
    split: u32,
}

impl Bucket {
    /// Bits of `split` that hold a number of bits, at most [`MAX_SPLIT_BITS`].
    const BITS: u32 = 5;

    fn new(run: usize, slots: usize, bits: u32) -> Bucket {
        // Slots are at most half the runs that share top bits, and each run has octets of a file behind it.
        assert!(slots < 1 << (u32::BITS - Bucket::BITS), "fewer than 2^27 slots");
        Bucket { run: as_run(run), split: (slots as u32) << Bucket::BITS | bits }
    }
}

impl Index {
    fn new<A: Bits>(starts: &[A]) -> Index {
        // About one run a bucket, where they lie evenly: more buckets than that only take room in the cache.
        let top_bits = starts.len().ilog2().clamp(1, MAX_TOP_BITS);
        let mut index = Indexer { starts, top_bits, run: 0, slots: Vec::new() };
        let mut buckets: Vec<Bucket> = (0..1 << top_bits).map(|top| index.bucket(top)).collect();
        buckets.push(Bucket::new(starts.len() - 1, index.slots.len(), 0));
        Index { top_bits, buckets: buckets.into(), slots: index.slots.into() }
    }

    /// First and last run that may hold the address.
    #[inline]
    fn bounds<A: Bits>(&self, address: A) -> (usize, usize) {
        let top = address.slice(0, self.top_bits);
        let (bucket, next) = (self.buckets[top], self.buckets[top + 1]);
        let bits = bucket.split & ((1 << Bucket::BITS) - 1);
        if bits == 0 {
            return (bucket.run as usize, next.run as usize);
        }
        let slot = (bucket.split >> Bucket::BITS) as usize + address.slice(self.top_bits, bits);
        (self.slots[slot] as usize, self.slots[slot + 1] as usize)
    }
}

/// Builds an [`Index`] in one pass over the starts.
struct Indexer<'a, A> {
    starts: &'a [A],
    top_bits: u32,
    run: usize,
    slots: Vec<u32>,
}

impl<A: Bits> Indexer<'_, A> {
    fn bucket(&mut self, top: usize) -> Bucket {
        let run = self.advance(A::from_slice(top, self.top_bits));
        let inside = self.starts[run..].partition_point(|start| start.slice(0, self.top_bits) <= top);
        let bits = split_bits(inside);
        let slots = self.slots.len();
        if bits > 0 {
            self.split(top, bits, run + inside - 1);
        }
        Bucket::new(run, slots, bits)
    }

    fn split(&mut self, top: usize, bits: u32, last: usize) {
        for slot in 0..1 << bits {
            let run = self.advance(A::from_slice(top << bits | slot, self.top_bits + bits));
            self.slots.push(as_run(run));
        }
        self.slots.push(as_run(last));
    }

    /// Moves to the run that holds the address, which is not below the last one asked for.
    fn advance(&mut self, address: A) -> usize {
        self.run += self.starts[self.run + 1..].iter().take_while(|&&start| start <= address).count();
        self.run
    }
}

/// Two to four runs a slot, where they lie evenly.
fn split_bits(runs: usize) -> u32 {
    if runs < SPLIT_FROM_RUNS { 0 } else { (runs / 2).ilog2().min(MAX_SPLIT_BITS) }
}

fn as_run(number: usize) -> u32 {
    u32::try_from(number).expect("runs end at distinct prefixes held in memory, far fewer than 2^32")
}

/// An address as a number.
pub(super) trait Bits: Copy + Ord {
    const ZERO: Self;
    const LAST: Self;
    /// `count` bits after the first `skip` ones.
    fn slice(self, skip: u32, count: u32) -> usize;
    /// The first address whose first `count` bits are these.
    fn from_slice(bits: usize, count: u32) -> Self;
    /// How many leading bits two different addresses share.
    fn common_bits(self, other: Self) -> u8;
    /// With the bit after the first `skip` ones set; `None` if there is none.
    fn with_bit(self, skip: u32) -> Option<Self>;
    fn successor(self) -> Option<Self>;
    fn predecessor(self) -> Option<Self>;
}

macro_rules! bits {
    ($number:ty) => {
        impl Bits for $number {
            const ZERO: $number = 0;
            const LAST: $number = <$number>::MAX;
            #[inline]
            fn slice(self, skip: u32, count: u32) -> usize {
                ((self << skip) >> (<$number>::BITS - count)) as usize
            }
            fn from_slice(bits: usize, count: u32) -> $number {
                (bits as $number) << (<$number>::BITS - count)
            }
            #[inline]
            fn common_bits(self, other: $number) -> u8 {
                (self ^ other).leading_zeros() as u8
            }
            fn with_bit(self, skip: u32) -> Option<$number> {
                Some(self | (<$number>::MAX ^ <$number>::MAX >> 1).checked_shr(skip)?)
            }
            fn successor(self) -> Option<$number> {
                self.checked_add(1)
            }
            #[inline]
            fn predecessor(self) -> Option<$number> {
                self.checked_sub(1)
            }
        }
    };
}
bits!(u32);
bits!(u128);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Prefixes = Vec<(IpNet, u8)>;

    /// Few distinct leading bits, so that prefixes nest and touch.
    fn v4() -> impl Strategy<Value = IpNet> {
        let crowded = prop_oneof![Just(0u32), Just(u32::MAX), Just(0x0a00_0000), any::<u32>()];
        (crowded, any::<u32>(), 0u8..=32, 0u32..=32).prop_map(|(base, noise, length, keep)| {
            let address = base ^ noise.checked_shr(keep).unwrap_or(0);
            IpNet::new(Ipv4Addr::from(address).into(), length).unwrap().trunc()
        })
    }

    fn v6() -> impl Strategy<Value = IpNet> {
        let crowded = prop_oneof![Just(0u128), Just(u128::MAX), Just(0x2a00_u128 << 112), any::<u128>()];
        (crowded, any::<u128>(), 0u8..=128, 0u32..=128).prop_map(|(base, noise, length, keep)| {
            let address = base ^ noise.checked_shr(keep).unwrap_or(0);
            IpNet::new(Ipv6Addr::from(address).into(), length).unwrap().trunc()
        })
    }

    fn prefixes(most: usize) -> impl Strategy<Value = Prefixes> {
        prop::collection::vec((prop_oneof![v4(), v6()], 0u8..5), 0..most)
    }

    /// Longest match by scan; of equal prefixes the last.
    fn naive(prefixes: &Prefixes, address: IpAddr) -> u8 {
        let around = prefixes.iter().filter(|(prefix, _)| prefix.contains(&address));
        around.max_by_key(|(prefix, _)| prefix.prefix_len()).map_or(9, |&(_, value)| value)
    }

    /// Addresses at which something can change, and their neighbours.
    fn probes(prefixes: &Prefixes) -> Vec<IpAddr> {
        let step = |address: IpAddr, by: i8| match address {
            IpAddr::V4(a) => IpAddr::V4(u32::from(a).wrapping_add_signed(by.into()).into()),
            IpAddr::V6(a) => IpAddr::V6(u128::from(a).wrapping_add_signed(by.into()).into()),
        };
        let ends = ["0.0.0.0", "255.255.255.255", "::", "2a00::1", "ffff::"].map(|text| text.parse().unwrap());
        let edges = prefixes.iter().flat_map(|(prefix, _)| [prefix.network(), prefix.broadcast()]);
        ends.into_iter().chain(edges).flat_map(|a| [step(a, -1), a, step(a, 1)]).collect()
    }

    /// All prefixes that lie inside, and the space itself where it has none, agree.
    fn agrees(prefixes: &Prefixes, scope: IpNet, value: u8) -> bool {
        let inside = prefixes.iter().filter(|(prefix, _)| scope.contains(prefix));
        let edges = inside.flat_map(|(prefix, _)| [prefix.network(), prefix.broadcast()]);
        let after = edges.flat_map(|edge| neighbours(edge, scope)).chain([scope.network(), scope.broadcast()]);
        after.into_iter().all(|address| naive(prefixes, address) == value)
    }

    fn neighbours(address: IpAddr, inside: IpNet) -> Vec<IpAddr> {
        let around = match address {
            IpAddr::V4(a) => {
                let a = u32::from(a);
                [a.saturating_sub(1), a, a.saturating_add(1)].map(|a| IpAddr::V4(a.into()))
            }
            IpAddr::V6(a) => {
                let a = u128::from(a);
                [a.saturating_sub(1), a, a.saturating_add(1)].map(|a| IpAddr::V6(a.into()))
            }
        };
        around.into_iter().filter(|address| inside.contains(address)).collect()
    }

    fn merged<A, V: PartialEq>(runs: &Runs<A, V>) -> bool {
        runs.values.windows(2).all(|pair| pair[0] != pair[1])
    }

    /// With an index even where there are few runs.
    fn indexed(map: &RangeMap<u8>) -> RangeMap<u8> {
        let v4 = Runs { index: Some(Index::new(&map.v4.starts)), ..(*map.v4).clone() };
        let v6 = Runs { index: Some(Index::new(&map.v6.starts)), ..(*map.v6).clone() };
        RangeMap::new(v4, v6)
    }

    proptest! {
        #[test]
        fn lookup_is_the_longest_match_with_the_widest_scope(list in prefixes(24)) {
            let map = RangeMap::from_prefixes(9, list.iter().copied());
            prop_assert!(merged(&map.v4) && merged(&map.v6));
            for address in probes(&list) {
                let (value, length) = map.lookup(address);
                prop_assert_eq!(value, naive(&list, address), "{}", address);
                let scope = IpNet::new(address, length).unwrap().trunc();
                prop_assert!(agrees(&list, scope, value), "{} is too wide for {}", scope, address);
                if length > 0 {
                    let wider = IpNet::new(address, length - 1).unwrap().trunc();
                    prop_assert!(!agrees(&list, wider, value), "{} is too narrow for {}", scope, address);
                }
                prop_assert_eq!(map.lookup(scope.network()), (value, length));
                prop_assert_eq!(map.lookup(scope.broadcast()), (value, length));
            }
        }

        #[test]
        fn zip_and_map_are_pointwise(one in prefixes(16), two in prefixes(16)) {
            let a = RangeMap::from_prefixes(9, one.iter().copied());
            let b = RangeMap::from_prefixes(9, two.iter().copied());
            let both = a.zip(&b, |a, b| (a + b) % 3);
            let odd = a.map(|a| a % 2);
            prop_assert!(merged(&both.v4) && merged(&both.v6) && merged(&odd.v4) && merged(&odd.v6));
            for address in probes(&one).into_iter().chain(probes(&two)) {
                let (a, b) = (a.lookup(address).0, b.lookup(address).0);
                prop_assert_eq!(both.lookup(address).0, (a + b) % 3);
                prop_assert_eq!(odd.lookup(address).0, a % 2);
            }
            let mut stretches = Vec::new();
            a.each_stretch(&b, |first, last, a, b| stretches.push((first, last, a, b)));
            for address in probes(&one).into_iter().chain(probes(&two)) {
                let of = |(first, last, ..): &&(IpAddr, IpAddr, u8, u8)| *first <= address && address <= *last;
                let around: Vec<_> = stretches.iter().filter(of).map(|&(_, _, a, b)| (a, b)).collect();
                prop_assert_eq!(around, [(a.lookup(address).0, b.lookup(address).0)]);
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(12))]
        #[test]
        fn an_index_changes_nothing(list in prefixes(1500)) {
            let bare = RangeMap::from_prefixes(9, list.iter().copied());
            let plain = RangeMap::new(
                Runs { index: None, ..(*bare.v4).clone() },
                Runs { index: None, ..(*bare.v6).clone() },
            );
            let indexed = indexed(&bare);
            for address in probes(&list) {
                for map in [&indexed, &plain] {
                    map.prefetch_index(address);
                    map.prefetch_runs(address);
                }
                prop_assert_eq!(indexed.lookup(address), plain.lookup(address), "{}", address);
            }
        }
    }

    #[test]
    fn crowded_buckets_are_split() {
        let crowd = (0..40_000u128).map(|i| {
            let address = Ipv6Addr::from((0x2a00_u128 << 112) | (i << 96) | (i << 40));
            (IpNet::new(address.into(), 88).unwrap(), (i % 5) as u8)
        });
        let list: Vec<_> = crowd.collect();
        let map = RangeMap::from_prefixes(9, list.iter().copied());
        assert!(map.v6.index.as_ref().unwrap().slots.len() > 4096);
        assert!(map.v4.index.is_none());
        for (prefix, value) in list {
            assert_eq!(map.lookup(prefix.network()).0, value);
            assert_eq!(map.lookup(prefix.broadcast()).0, value);
        }
    }

    #[test]
    fn scopes() {
        let net = |text: &str| text.parse::<IpNet>().unwrap();
        let map = RangeMap::from_prefixes(0, [(net("10.0.0.0/8"), 1), (net("10.1.0.0/16"), 2)]);
        for (address, value, scope) in [
            ("10.1.2.3", 2, 16),
            ("10.0.0.1", 1, 16),
            ("10.2.0.1", 1, 15),
            ("10.255.0.1", 1, 9),
            ("11.0.0.1", 0, 8),
            ("128.0.0.1", 0, 1),
            ("2001:db8::1", 0, 0),
        ] {
            assert_eq!(map.lookup(address.parse().unwrap()), (value, scope), "{address}");
        }
        assert_eq!(RangeMap::uniform(7).lookup("192.0.2.1".parse().unwrap()), (7, 0));
        assert_eq!(map.runs(), 5 + 1);
        assert_eq!(map.values().collect::<Vec<_>>(), [0, 1, 2]);
    }

    #[test]
    fn the_last_of_equal_prefixes_counts() {
        let net: IpNet = "192.0.2.0/24".parse().unwrap();
        let map = RangeMap::from_prefixes(0, [(net, 1), (net, 2)]);
        assert_eq!(map.lookup("192.0.2.1".parse().unwrap()), (2, 24));
    }

    #[test]
    fn equal_neighbours_merge_into_a_wider_scope() {
        let nets = ["192.0.2.0/25", "192.0.2.128/25", "192.0.3.0/24"].map(|text| text.parse::<IpNet>().unwrap());
        let map = RangeMap::from_prefixes(0, nets.map(|net| (net, 1)));
        assert_eq!(map.lookup("192.0.3.9".parse().unwrap()), (1, 23));
        assert_eq!(map.runs(), 3 + 1);
    }
}
