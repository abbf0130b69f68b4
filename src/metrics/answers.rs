//! What answering counts: queries by transport and type, answers by transport and rcode, and by service and region.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Counter;

/// Types counted by name; the last is all others.
pub const TYPES: [(&str, u16); 14] = [
    ("A", 1),
    ("NS", 2),
    ("CNAME", 5),
    ("SOA", 6),
    ("PTR", 12),
    ("MX", 15),
    ("TXT", 16),
    ("AAAA", 28),
    ("SRV", 33),
    ("DS", 43),
    ("DNSKEY", 48),
    ("HTTPS", 65),
    ("ANY", 255),
    ("other", 0),
];

/// Response codes counted by name; the last is all others.
pub const RCODES: [(&str, u16); 11] = [
    ("NOERROR", 0),
    ("FORMERR", 1),
    ("SERVFAIL", 2),
    ("NXDOMAIN", 3),
    ("NOTIMP", 4),
    ("REFUSED", 5),
    ("YXDOMAIN", 6),
    ("NOTAUTH", 9),
    ("BADVERS", 16),
    ("BADCOOKIE", 23),
    ("other", u16::MAX),
];

/// Transports, in the order of their counters.
pub const TRANSPORTS: [&str; 6] = ["udp", "tcp", "dot", "doh", "doq", "doh3"];

/// Counters of `answer`, one set for each thread.
#[derive(Debug, Default)]
pub struct AnswerCounters {
    /// By transport and [`TYPES`].
    pub queries: [[Counter; TYPES.len()]; TRANSPORTS.len()],
    /// By transport and [`RCODES`].
    pub answers: [[Counter; RCODES.len()]; TRANSPORTS.len()],
    /// Queries with a client subnet.
    pub ecs: Counter,
    /// Those of them with an IPv6 one.
    pub ecs_ipv6: Counter,
    /// Those of them that say that no address is to be used: a source prefix length of 0.
    pub ecs_opted_out: Counter,
    /// Client subnets that were set aside: not global unicast, and not from a trusted source.
    pub ecs_set_aside: Counter,
    /// Queries with a malformed client subnet.
    pub ecs_malformed: Counter,
    /// Answers to a client subnet with a scope above 0: they depend on it.
    pub ecs_scoped: Counter,
    /// Answers to a client subnet with scope 0: they are for everybody.
    pub ecs_unscoped: Counter,
    /// Queries with a good server cookie.
    pub cookies_good: Counter,
    /// Queries with a client cookie alone.
    pub cookies_absent: Counter,
    /// Queries with a server cookie that is not ours, not the client's, or too old.
    pub cookies_bad: Counter,
    /// Answers that the rate limit withheld.
    pub limit_dropped: Counter,
    /// Answers that the rate limit truncated.
    pub limit_slipped: Counter,
    /// Answers that gave way to BADCOOKIE for the rate limit.
    pub limit_bad_cookie: Counter,
    /// Answers that the rate limit would have withheld or truncated.
    pub limit_dry_run: Counter,
    /// Answers that the rate limit did not look at, for the query had a good cookie.
    pub limit_exempt_cookie: Counter,
    /// Answers beyond the rate that were sent, for their prefix is exempt.
    pub limit_exempt_prefix: Counter,
    /// How often a prefix began to be limited.
    pub limit_began: Counter,
    /// Messages signed with a key of ours.
    pub tsig_good: Counter,
    /// Messages signed with a key that is not known here.
    pub tsig_bad_key: Counter,
    /// Messages whose signature is not that of the key.
    pub tsig_bad_signature: Counter,
    /// Messages signed too long ago, or by a clock that is ahead.
    pub tsig_bad_time: Counter,
    /// Messages with a truncated signature.
    pub tsig_truncated: Counter,
    /// Whole zones that were begun to be copied.
    pub transfers_whole: Counter,
    /// Changes of zones that were begun to be copied.
    pub transfers_incremental: Counter,
    /// Queries for changes that were answered with the SOA alone.
    pub transfers_current: Counter,
    /// Queries for copies that were refused.
    pub transfers_refused: Counter,
    /// Notifies of others that are not heard.
    pub notifies_refused: Counter,
    /// Updates of zones by those who may not.
    pub updates_refused: Counter,
    /// Notifies and updates that could not be handed on: too many wait.
    pub handed_busy: Counter,
    /// Answers with TC.
    pub truncated: Counter,
    /// Messages left without an answer: responses.
    pub silent_responses: Counter,
    /// Messages left without an answer: shorter than a header.
    pub silent_short: Counter,
    /// Answers made while every instance was down.
    pub fail_open: Counter,
}

impl AnswerCounters {
    /// Counts a query.
    pub fn query(&self, transport: usize, rtype: u16) {
        self.queries[transport][TYPE_PLACES.of(rtype)].add(1);
    }

    /// Counts an answer.
    pub fn answer(&self, transport: usize, rcode: u16) {
        self.answers[transport][RCODE_PLACES.of(rcode)].add(1);
    }
}

/// Where numbers below 256 stand in a list whose last place is for all others.
struct Places {
    places: [u8; 256],
    other: u8,
}

static TYPE_PLACES: Places = Places::new(&TYPES);
static RCODE_PLACES: Places = Places::new(&RCODES);

impl Places {
    const fn new(list: &[(&str, u16)]) -> Places {
        let other = list.len() as u8 - 1;
        let mut places = [other; 256];
        let mut place = 0;
        while place < list.len() - 1 {
            places[list[place].1 as usize] = place as u8;
            place += 1;
        }
        Places { places, other }
    }

    fn of(&self, number: u16) -> usize {
        usize::from(*self.places.get(usize::from(number)).unwrap_or(&self.other))
    }
}

/// Labels of a [`Tally`]'s counters: service and region.
pub type Labels = Arc<[(Arc<str>, Arc<str>)]>;

/// Answers by service and region, of one thread and one compilation of the services.
#[derive(Debug, Default)]
pub struct Tally {
    labels: Labels,
    counts: Box<[Counter]>,
}

impl Tally {
    /// All zero.
    #[must_use]
    pub fn new(labels: Labels) -> Tally {
        let counts = labels.iter().map(|_| Counter::default()).collect();
        Tally { labels, counts }
    }

    /// The counter in a slot, if it is there.
    #[must_use]
    pub fn counter(&self, slot: usize) -> Option<&Counter> {
        self.counts.get(slot)
    }

    /// Counts an answer; a slot that is not there is ignored.
    pub fn add(&self, slot: usize) {
        if let Some(counter) = self.counter(slot) {
            counter.add(1);
        }
    }
}

/// Answers by service and region.
type Sums = BTreeMap<(Arc<str>, Arc<str>), u64>;

/// All tallies: those in use, and the sums of those that a new compilation replaced.
///
/// Tallies may be long. They are summed up outside the lock, so that nobody waits for whoever does.
#[derive(Debug, Default)]
pub struct Tallies {
    inner: Mutex<TalliesInner>,
    /// Held by the one thread that retires.
    retiring: Mutex<()>,
}

#[derive(Clone, Debug, Default)]
struct TalliesInner {
    live: Vec<Arc<Tally>>,
    past: Arc<Sums>,
}

impl Tallies {
    /// Takes a tally in that a thread will count in.
    pub fn add(&self, tally: &Arc<Tally>) {
        let mut inner = self.lock();
        if !inner.live.iter().any(|known| Arc::ptr_eq(known, tally)) {
            inner.live.push(Arc::clone(tally));
        }
    }

    /// Gives up the tallies that nobody counts in any more; what they counted stays in the sums.
    pub fn retire(&self) {
        let _alone = self.retiring.lock().unwrap_or_else(PoisonError::into_inner);
        let TalliesInner { live, past } = {
            let inner = self.lock();
            let is_over = |tally: &&Arc<Tally>| Arc::strong_count(tally) == 1;
            TalliesInner { live: inner.live.iter().filter(is_over).cloned().collect(), past: Arc::clone(&inner.past) }
        };
        if live.is_empty() {
            return;
        }
        let mut sums = Sums::clone(&past);
        live.iter().for_each(|tally| add(&mut sums, tally));
        // A name that never had an answer needs no place among those that are gone.
        sums.retain(|_, count| *count > 0);
        let mut inner = self.lock();
        inner.live.retain(|known| !live.iter().any(|retired| Arc::ptr_eq(known, retired)));
        inner.past = Arc::new(sums);
    }

    /// Answers by (service, region); a service that is gone keeps its sum.
    #[must_use]
    pub fn sum(&self) -> BTreeMap<(Arc<str>, Arc<str>), u64> {
        let TalliesInner { live, past } = self.lock().clone();
        let mut sums = Sums::clone(&past);
        live.iter().for_each(|tally| add(&mut sums, tally));
        sums
    }

    fn lock(&self) -> MutexGuard<'_, TalliesInner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn add(sums: &mut Sums, tally: &Tally) {
    for ((service, region), count) in tally.labels.iter().zip(&tally.counts) {
        *sums.entry((Arc::clone(service), Arc::clone(region))).or_default() += count.get();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_each_number_in_its_place() {
        for (places, list) in [(&TYPE_PLACES, &TYPES[..]), (&RCODE_PLACES, &RCODES[..])] {
            for (place, (name, number)) in list.iter().enumerate() {
                assert_eq!(places.of(*number), place, "{name}");
            }
            for number in [200, 256, u16::MAX] {
                assert_eq!(places.of(number), list.len() - 1);
            }
        }
    }

    #[test]
    fn sums_outlive_a_replacement() {
        let labels: Labels = Arc::from([("www".into(), "eu".into()), ("www".into(), "us".into())]);
        let tallies = Tallies::default();
        let tally = || Arc::new(Tally::new(Arc::clone(&labels)));
        let (one, two) = (tally(), tally());
        for tally in [&one, &two, &one] {
            tallies.add(tally);
        }
        one.add(0);
        two.add(0);
        two.add(1);
        two.add(7);
        drop(one);
        let three = tally();
        tallies.add(&three);
        three.add(1);
        for live in [3, 2, 2] {
            assert_eq!(tallies.lock().live.len(), live);
            let sums: Vec<u64> = tallies.sum().into_values().collect();
            assert_eq!(sums, [2, 2]);
            tallies.retire();
        }
    }
}
