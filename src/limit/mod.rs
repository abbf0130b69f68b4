//! Response rate limiting: how many answers over UDP a network may get in a second, by kind of answer, so that nobody
//! gains from sending queries in its name.
//!
//! What answers have in common that a flood would ask for again and again is counted together:
//!
//! | kind | counted by |
//! |---|---|
//! | positive, NODATA | name |
//! | wildcard (and DNAME) | the wildcard, whatever names it is asked for |
//! | NXDOMAIN | zone |
//! | referral | zone cut |
//! | error | nothing |
//! | total, where it is limited | nothing |
//!
//! A bucket holds a second's worth of answers and is refilled all the time: a network that asks for more gets its rate, and of
//! what is beyond that every so many answers truncated, so that a client of that network can come by TCP.

mod table;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering};

use ipnet::IpNet;

use crate::time::Tick;
use table::{Spent, Table};

/// Kinds of answers, which are counted apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Records of the name asked.
    Positive,
    /// Made from a wildcard or a DNAME.
    Wildcard,
    /// The name has no such records.
    Nodata,
    /// There is no such name.
    Nxdomain,
    /// Others know.
    Referral,
    /// REFUSED, FORMERR and all other codes.
    Error,
    /// All of these.
    Total,
}

/// Names of kinds, in their order.
pub const KINDS: [&str; 7] = ["positive", "wildcard", "nodata", "nxdomain", "referral", "error", "total"];

/// What is limited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Answers a second of one kind and subject to one prefix, 1 to 1 000 000.
    pub rate: u32,
    /// Answers a second of all kinds to one prefix; 0 = as many as there are.
    pub total: u32,
    /// Every so many answers beyond the rate go out truncated; 0 = none does. At most 100.
    pub slip: u8,
    /// Bits of an IPv4 prefix, 1 to 32.
    pub ipv4: u8,
    /// Bits of an IPv6 prefix, 1 to 64.
    pub ipv6: u8,
    /// Prefixes that are not limited.
    pub exempt: Vec<IpNet>,
    /// Count only.
    pub dry_run: bool,
    /// How many buckets there are, at 8 octets each.
    pub buckets: usize,
}

/// What is to become of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes out.
    Pass,
    /// It would not, but its prefix is exempt.
    Exempt,
    /// It is not sent.
    Drop,
    /// It is sent truncated.
    Slip,
}

/// A prefix as a number: IPv4 below 2^33, above that the first half of an IPv6 address.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Prefix(u64);

/// What marks an IPv4 prefix; as IPv6 it would be in 0:1::/32, which nobody has.
const IS_IPV4: u64 = 1 << 32;

/// Counts answers; shared by all threads.
#[derive(Debug)]
pub struct Limiter {
    policy: Policy,
    table: Table,
    /// By kind: a prefix that began to be limited since somebody looked; 0 = none.
    began: [AtomicU64; KINDS.len()],
}

impl Limiter {
    /// With nothing counted yet. Who knows `key` could have others counted with somebody, so it is random.
    #[must_use]
    pub fn new(policy: Policy, key: u128) -> Limiter {
        Limiter { table: Table::new(policy.buckets, key), policy, began: Default::default() }
    }

    /// What it goes by.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Counts an answer of `kind` about `subject` to `source`, and says what is to become of it, and whether its prefix
    /// begins to be limited.
    pub fn judge(&self, source: IpAddr, kind: Kind, subject: u32, now: Tick) -> (Verdict, bool) {
        // They use up nothing of what their neighbours have.
        if !self.policy.exempt.is_empty() && self.is_exempt(source) {
            return (Verdict::Exempt, false);
        }
        let prefix = self.prefix(source);
        let Policy { rate, total, slip, .. } = self.policy;
        let spend = |kind: Kind, subject, rate| {
            let spent = self.table.spend(prefix.0, (kind as u64) << 32 | u64::from(subject), rate, slip, now);
            (kind, spent)
        };
        let (mut by, mut spent) = spend(kind, subject, rate);
        if spent == Spent::Within && total > 0 {
            (by, spent) = spend(Kind::Total, 0, total);
        }
        match spent {
            Spent::Within => (Verdict::Pass, false),
            Spent::Beyond { slips, begins } => {
                if begins {
                    self.began[by as usize].store(prefix.0, Ordering::Relaxed);
                }
                (if slips { Verdict::Slip } else { Verdict::Drop }, begins)
            }
        }
    }

    /// A prefix of each kind that began to be limited since the last call, the last one where there were several.
    pub fn news(&self) -> impl Iterator<Item = (&'static str, IpNet)> {
        KINDS.into_iter().zip(&self.began).filter_map(|(kind, began)| {
            let prefix = began.swap(0, Ordering::Relaxed);
            Some((kind, self.net(Prefix(prefix)))).filter(|_| prefix != 0)
        })
    }

    fn is_exempt(&self, source: IpAddr) -> bool {
        let source = source.to_canonical();
        self.policy.exempt.iter().any(|prefix| prefix.contains(&source))
    }

    fn prefix(&self, source: IpAddr) -> Prefix {
        match source.to_canonical() {
            IpAddr::V4(address) => {
                let mask = u32::MAX << (32 - u32::from(self.policy.ipv4.clamp(1, 32)));
                Prefix(IS_IPV4 | u64::from(address.to_bits() & mask))
            }
            IpAddr::V6(address) => {
                let mask = u64::MAX << (64 - u32::from(self.policy.ipv6.clamp(1, 64)));
                Prefix((address.to_bits() >> 64) as u64 & mask)
            }
        }
    }

    fn net(&self, Prefix(bits): Prefix) -> IpNet {
        let (address, length): (IpAddr, u8) = match bits >> 32 == 1 {
            true => (Ipv4Addr::from_bits(bits as u32).into(), self.policy.ipv4),
            false => (Ipv6Addr::from_bits(u128::from(bits) << 64).into(), self.policy.ipv6),
        };
        IpNet::new_assert(address, length)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const POLICY: Policy = Policy {
        rate: 200,
        total: 0,
        slip: 2,
        ipv4: 24,
        ipv6: 64,
        exempt: Vec::new(),
        dry_run: false,
        buckets: 10_000,
    };

    /// Queries by a clock of its own.
    struct Fixture {
        limiter: Limiter,
        now: Tick,
    }

    impl Fixture {
        fn new(policy: Policy) -> Fixture {
            Fixture { limiter: Limiter::new(policy, 7), now: Tick::START }
        }

        fn judge(&self, source: &str, kind: Kind, subject: u32) -> Verdict {
            self.limiter.judge(source.parse().expect("an address"), kind, subject, self.now).0
        }

        /// So many queries a second for so long: how many passed, were dropped, slipped.
        fn flood(&mut self, source: &str, kind: Kind, per_ms: usize, time: Duration) -> [usize; 3] {
            let mut counts = [0; 3];
            for _ in 0..time.as_millis() {
                for _ in 0..per_ms {
                    match self.judge(source, kind, 1) {
                        Verdict::Pass => counts[0] += 1,
                        Verdict::Drop => counts[1] += 1,
                        Verdict::Slip => counts[2] += 1,
                        Verdict::Exempt => panic!("nobody is exempt"),
                    }
                }
                self.now = self.now.plus(Duration::from_millis(1));
            }
            counts
        }

        fn passes(&self, source: &str, kind: Kind, subject: u32) -> bool {
            self.judge(source, kind, subject) == Verdict::Pass
        }
    }

    #[test]
    fn a_flood_is_cut_to_the_rate_and_slips() {
        let mut fixture = Fixture::new(POLICY);
        let [passed, dropped, slipped] = fixture.flood("192.0.2.1", Kind::Positive, 50, Duration::from_secs(10));
        // A full bucket, and the rate for ten seconds.
        assert!((200 * 11 - 2..=200 * 11).contains(&passed), "{passed}");
        assert_eq!(passed + dropped + slipped, 500_000);
        assert!(dropped.abs_diff(slipped) <= 1, "{dropped} dropped, {slipped} truncated");
    }

    #[test]
    fn what_is_within_the_rate_is_left_alone() {
        let mut fixture = Fixture::new(POLICY);
        for _ in 0..10_000 {
            assert!(fixture.passes("192.0.2.1", Kind::Positive, 1));
            fixture.now = fixture.now.plus(Duration::from_millis(5));
        }
    }

    #[test]
    fn it_recovers() {
        let mut fixture = Fixture::new(POLICY);
        fixture.flood("192.0.2.1", Kind::Positive, 50, Duration::from_secs(2));
        fixture.passes("192.0.2.1", Kind::Positive, 1);
        assert!(!fixture.passes("192.0.2.1", Kind::Positive, 1));
        for rest in [1, 3600, 30 * 24 * 3600] {
            fixture.now = fixture.now.plus(Duration::from_secs(rest));
            let passed = (0..1000).filter(|_| fixture.passes("192.0.2.1", Kind::Positive, 1)).count();
            assert_eq!(passed, 200, "a full bucket after {rest} s");
        }
    }

    #[test]
    fn slips() {
        for (slip, expected) in [(0, 0), (1, 8400), (2, 4200), (3, 2800), (10, 840)] {
            let fixture = Fixture::new(Policy { slip, ..POLICY });
            let slipped = (0..8600).filter(|_| fixture.judge("192.0.2.1", Kind::Error, 0) == Verdict::Slip).count();
            assert_eq!(slipped, expected, "slip {slip}");
        }
    }

    #[test]
    fn prefixes_and_kinds_are_counted_apart() {
        let fixture = Fixture::new(POLICY);
        for flooded in ["192.0.2.1", "2001:db8::1"] {
            (0..200).for_each(|_| assert!(fixture.passes(flooded, Kind::Positive, 1)));
        }
        for (source, kind, subject, passes) in [
            ("192.0.2.1", Kind::Positive, 1, false),
            ("192.0.2.200", Kind::Positive, 1, false),
            ("::ffff:192.0.2.7", Kind::Positive, 1, false),
            ("192.0.3.1", Kind::Positive, 1, true),
            ("192.0.2.1", Kind::Positive, 2, true),
            ("192.0.2.1", Kind::Wildcard, 1, true),
            ("192.0.2.1", Kind::Nodata, 1, true),
            ("192.0.2.1", Kind::Nxdomain, 1, true),
            ("192.0.2.1", Kind::Referral, 1, true),
            ("192.0.2.1", Kind::Error, 1, true),
            ("2001:db8::ffff:1", Kind::Positive, 1, false),
            ("2001:db8:0:1::1", Kind::Positive, 1, true),
        ] {
            assert_eq!(fixture.passes(source, kind, subject), passes, "{source} {kind:?} {subject}");
        }
        let other = Fixture::new(Policy { ipv4: 16, ipv6: 48, ..POLICY });
        for (one, another) in [("192.0.2.1", "192.0.3.1"), ("2001:db8::1", "2001:db8:0:1::1")] {
            (0..200).for_each(|_| assert!(other.passes(one, Kind::Error, 0)));
            assert!(!other.passes(another, Kind::Error, 0));
        }
    }

    #[test]
    fn a_total() {
        let fixture = Fixture::new(Policy { total: 500, ..POLICY });
        let passed = (0..10_000).filter(|&subject| fixture.passes("192.0.2.1", Kind::Positive, subject)).count();
        assert_eq!(passed, 500);
        assert!(fixture.passes("192.0.3.1", Kind::Positive, 1));
        assert_eq!(fixture.limiter.news().map(|(kind, _)| kind).collect::<Vec<_>>(), ["total"]);
    }

    #[test]
    fn the_exempt() {
        let exempt = vec!["192.0.2.128/25".parse().expect("a prefix")];
        let fixture = Fixture::new(Policy { exempt, ..POLICY });
        (0..300).for_each(|_| assert_eq!(fixture.judge("192.0.2.200", Kind::Error, 0), Verdict::Exempt));
        // Nothing of what their neighbours have is gone.
        (0..200).for_each(|_| assert!(fixture.passes("192.0.2.1", Kind::Error, 0)));
        assert_ne!(fixture.judge("192.0.2.1", Kind::Error, 0), Verdict::Pass);
        assert_eq!(fixture.judge("192.0.2.200", Kind::Error, 0), Verdict::Exempt);
    }

    /// Each thread goes by the time of its batch.
    #[test]
    fn a_thread_that_is_behind_forgives_nothing() {
        let limiter = Limiter::new(POLICY, 7);
        let judge = |now| limiter.judge([192, 0, 2, 1].into(), Kind::Positive, 1, now).0 == Verdict::Pass;
        let ahead = Tick::START.plus(Duration::from_millis(20));
        assert_eq!((0..300).filter(|_| judge(ahead)).count(), 200);
        for behind in
            [Tick::START, Tick::START.plus(Duration::from_millis(19)), Tick::START.plus(Duration::from_millis(1))]
        {
            assert_eq!((0..300).filter(|_| judge(behind)).count(), 0, "{behind:?}");
        }
    }

    #[test]
    fn it_says_who_begins_to_be_limited() {
        let mut fixture = Fixture::new(POLICY);
        let news = |fixture: &Fixture| -> Vec<(&str, String)> {
            fixture.limiter.news().map(|(kind, prefix)| (kind, prefix.to_string())).collect()
        };
        fixture.flood("192.0.2.1", Kind::Nxdomain, 50, Duration::from_millis(50));
        fixture.flood("2001:db8::1", Kind::Error, 50, Duration::from_millis(50));
        let expected = [("nxdomain", "192.0.2.0/24".to_owned()), ("error", "2001:db8::/64".to_owned())];
        assert_eq!(news(&fixture), expected);
        fixture.flood("192.0.2.1", Kind::Nxdomain, 50, Duration::from_secs(3));
        assert_eq!(news(&fixture), [], "it goes on");
        fixture.now = fixture.now.plus(Duration::from_secs(2));
        fixture.flood("192.0.2.1", Kind::Nxdomain, 50, Duration::from_millis(50));
        assert_eq!(news(&fixture), expected[..1], "it begins again");
    }

    /// More prefixes than there are buckets: who floods is limited all the same, others lose nothing.
    #[test]
    fn a_full_table() {
        let fixture = Fixture::new(Policy { buckets: 64, ..POLICY });
        let mut passed = 0;
        for number in 0..100_000u32 {
            let other = Ipv4Addr::from_bits(0x0a00_0000 | number << 8).to_string();
            assert!(fixture.passes(&other, Kind::Positive, 1), "{other}");
            passed += usize::from(fixture.passes("192.0.2.1", Kind::Positive, 1));
        }
        assert_eq!(passed, 200);
    }

    #[test]
    fn threads_share_the_count() {
        let limiter = Limiter::new(POLICY, 7);
        let count = || {
            let judge =
                |_: &u32| limiter.judge([192, 0, 2, 1].into(), Kind::Positive, 1, Tick::START).0 == Verdict::Pass;
            (0..10_000).filter(judge).count()
        };
        let passed: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(count)).collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).sum()
        });
        assert_eq!(passed, 200);
    }
}
