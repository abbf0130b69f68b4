//! How a region that was lost comes back (SPEC 3.5): after a wait, and then client by client.
//!
//! ```text
//!   ┌─────┐ available                                                          ┌──────┐
//!   │ new │ ─────────────────────────────────────────────────────────────────► │ full │
//!   └─────┘                                                                    └──────┘
//!      │ lost        ┌─────┐   available    ┌─────────┐ `return-after` ┌─────────┐ ▲
//!      └───────────► │ out │ ─────────────► │ waiting │ ─────────────► │ growing │ ┘ `region-ramp`
//!                    └─────┘                └─────────┘                └─────────┘
//! ```
//! Not available leads from everywhere to *out* (from *new* only with evidence: some instances are down, none is unknown).
//! Where no other region serves, whatever is available is *full* at once: there is nobody to be protected from it.
//!
//! With `failback = "manual"` there is one more:
//!
//! ```text
//!   ┌──────┐ lost: its checks say so, unfrozen,  ┌─────────┐ resumed, available  ┌─────────┐
//!   │ full │ ──────────────────────────────────► │ latched │ ──────────────────► │ growing │
//!   └──────┘ while another region is there       └─────────┘                     └─────────┘
//!   growing  ─────────────────────────────────►       │  resumed, not available  ┌─────┐
//!                                                     └────────────────────────► │ out │
//!                                                                                └─────┘
//! ```
//! Nothing else leads out of *latched*. A latched region serves nobody as long as any other can (SPEC 3.3: it is left to
//! the second pass), however healthy it is. What the operator takes out is not lost: it comes back when he says so.

use std::time::Duration;

use crate::time::Tick;

/// Steps in which a returning region grows.
const STEPS: u32 = 40;
/// The least time between two of them.
const LEAST_STEP: Duration = Duration::from_millis(100);

/// All clients: a share of 2^32, less one.
pub const ALL: u32 = u32::MAX;

/// Whether a region serves its clients, all of them or a share.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Presence {
    /// Never available yet, and never lost.
    #[default]
    New,
    /// Not available.
    Out,
    /// Available again since then, not yet in use.
    Waiting(Tick),
    /// Regaining its clients since then.
    Growing(Tick),
    /// Serving all its clients.
    Full,
    /// Out until it is resumed, available or not.
    Latched,
}

/// How a pool's regions return.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Return {
    /// How long a region must be available again before it is used.
    pub after: Duration,
    /// How long it then takes until all clients are back.
    pub ramp: Duration,
    /// Whether a region that was lost stays out until it is resumed.
    pub manual: bool,
}

/// What is seen of a region now.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// Whether it is able to serve (SPEC 3.2).
    pub available: bool,
    /// Whether of some instance nothing is known, so that not being available is no evidence.
    pub unknown: bool,
    /// Whether no other region serves.
    pub alone: bool,
    /// Whether it may be latched when it is lost: by its checks, none of which is frozen, while another is available.
    pub latches: bool,
}

impl Presence {
    /// What it is now, after what was seen.
    #[must_use]
    pub fn next(self, seen: Seen, how: Return, now: Tick) -> Presence {
        if self == Presence::Latched && how.manual {
            return Presence::Latched;
        }
        if !seen.available {
            return match self {
                Presence::New if seen.unknown => Presence::New,
                Presence::Full | Presence::Growing(_) if how.manual && seen.latches => Presence::Latched,
                _ => Presence::Out,
            };
        }
        if seen.alone {
            return Presence::Full;
        }
        match self {
            Presence::New | Presence::Full => Presence::Full,
            Presence::Out | Presence::Latched => Presence::Waiting(now).ripen(how, now),
            Presence::Waiting(_) | Presence::Growing(_) => self.ripen(how, now),
        }
    }

    /// What it is once the operator resumes it: its clients return at once, by the ramp.
    #[must_use]
    pub fn resumed(self, available: bool, now: Tick) -> Presence {
        match self {
            Presence::Latched if available => Presence::Growing(now),
            Presence::Latched => Presence::Out,
            other => other,
        }
    }

    /// What time alone makes of it.
    fn ripen(self, how: Return, now: Tick) -> Presence {
        match self {
            Presence::Waiting(since) if now.since(since) >= how.after => {
                Presence::Growing(since.plus(how.after)).ripen(how, now)
            }
            Presence::Growing(since) if now.since(since) >= how.ramp => Presence::Full,
            other => other,
        }
    }

    /// Whether it serves, be it a share of its clients.
    #[must_use]
    pub fn serves(self) -> bool {
        matches!(self, Presence::New | Presence::Growing(_) | Presence::Full)
    }

    /// The share of clients that it serves while it is available, of 2^32; [`ALL`] = all.
    #[must_use]
    pub fn share(self, how: Return, now: Tick) -> u32 {
        match self {
            Presence::New | Presence::Full => ALL,
            Presence::Out | Presence::Waiting(_) | Presence::Latched => 0,
            Presence::Growing(since) => {
                let grown = now.since(since).as_millis() << 32;
                u32::try_from(grown / how.ramp.as_millis().max(1)).unwrap_or(ALL)
            }
        }
    }

    /// What became of a region, in words, when that is news after what it was before.
    #[must_use]
    pub fn told_after(self, before: Presence, how: Return) -> Option<String> {
        match (before, self) {
            (Presence::Full | Presence::Waiting(_) | Presence::Growing(_), Presence::Out) => {
                Some("not available".into())
            }
            (Presence::Latched, Presence::Growing(_)) => {
                Some(format!("resumed; its clients return, over {:?}", how.ramp))
            }
            (Presence::Latched, Presence::Full) => Some("resumed; serves all its clients again".into()),
            (Presence::Latched, Presence::Out) => Some("resumed, but not available".into()),
            (Presence::Out | Presence::Latched, Presence::Waiting(_)) => {
                Some(format!("available again; its clients return after {:?}, over {:?}", how.after, how.ramp))
            }
            (Presence::Out | Presence::Waiting(_), Presence::Growing(_)) => {
                Some(format!("its clients return, over {:?}", how.ramp))
            }
            (Presence::Out | Presence::Waiting(_) | Presence::Growing(_), Presence::Full) => {
                Some("serves all its clients again".into())
            }
            _ => None,
        }
    }

    /// When it is to be looked at again though nothing else changes; `None` = never.
    #[must_use]
    pub fn due(self, how: Return, now: Tick) -> Option<Tick> {
        match self {
            Presence::New | Presence::Out | Presence::Full | Presence::Latched => None,
            Presence::Waiting(since) => Some(since.plus(how.after)),
            Presence::Growing(since) => {
                let step = (how.ramp / STEPS).max(LEAST_STEP);
                Some(now.plus(step).min(since.plus(how.ramp)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOW: Return = Return { after: Duration::from_secs(30), ramp: Duration::from_secs(120), manual: false };
    const MANUAL: Return = Return { manual: true, ..HOW };

    fn seen(available: bool) -> Seen {
        Seen { available, unknown: false, alone: false, latches: true }
    }

    #[test]
    fn transitions() {
        use Presence::{Full, Growing, New, Out, Waiting};
        let at = |seconds: u64| Tick(seconds * 1000);
        let unknown = Seen { unknown: true, ..seen(false) };
        let alone = Seen { alone: true, ..seen(true) };
        for (before, seen, now, after) in [
            (New, seen(true), 0, Full),
            (New, unknown, 0, New),
            (New, seen(false), 0, Out),
            (Full, unknown, 0, Out),
            (Out, unknown, 0, Out),
            (Out, seen(true), 5, Waiting(at(5))),
            (Out, alone, 5, Full),
            (Waiting(at(5)), alone, 6, Full),
            (Waiting(at(5)), seen(true), 34, Waiting(at(5))),
            (Waiting(at(5)), seen(false), 34, Out),
            (Waiting(at(5)), seen(true), 36, Growing(at(35))),
            (Waiting(at(5)), seen(true), 155, Full),
            (Growing(at(35)), seen(true), 154, Growing(at(35))),
            (Growing(at(35)), seen(true), 155, Full),
            (Growing(at(35)), seen(false), 100, Out),
            (Full, seen(true), 0, Full),
        ] {
            assert_eq!(before.next(seen, HOW, at(now)), after, "{before:?} {seen:?} {now}");
        }
        let at_once = Return::default();
        assert_eq!(Out.next(seen(true), at_once, at(9)), Full);
    }

    #[test]
    fn latches_until_it_is_resumed() {
        use Presence::{Full, Growing, Latched, New, Out, Waiting};
        let at = |seconds: u64| Tick(seconds * 1000);
        let unlatched = Seen { latches: false, ..seen(false) };
        let alone = Seen { alone: true, ..seen(true) };
        for (before, seen, after) in [
            (Full, seen(false), Latched),
            (Growing(at(5)), seen(false), Latched),
            (Full, unlatched, Out),
            (Growing(at(5)), unlatched, Out),
            (New, seen(false), Out),
            (Out, seen(false), Out),
            (Waiting(at(5)), seen(false), Out),
            (Latched, seen(false), Latched),
            (Latched, unlatched, Latched),
            (Latched, seen(true), Latched),
            (Latched, alone, Latched),
            (Out, seen(true), Waiting(at(9))),
        ] {
            assert_eq!(before.next(seen, MANUAL, at(9)), after, "{before:?} {seen:?}");
        }
        assert_eq!((Latched.resumed(true, at(9)), Latched.resumed(false, at(9))), (Growing(at(9)), Out));
        assert_eq!((Full.resumed(true, at(9)), Latched.share(MANUAL, at(99))), (Full, 0));
        assert_eq!(Latched.next(seen(true), HOW, at(9)), Waiting(at(9)), "a reload made it automatic");
    }

    #[test]
    fn grows_evenly() {
        let growing = Presence::Growing(Tick(1000));
        for tenth in 0..=10u64 {
            let share = f64::from(growing.share(HOW, Tick(1000 + tenth * 12_000))) / f64::from(ALL);
            assert!((share - tenth as f64 / 10.0).abs() < 1e-6, "{tenth}: {share}");
        }
    }

    proptest! {
        /// Looked at whenever it is due, a region is never more than 5 points behind, and is full in time.
        #[test]
        fn due_often_enough(after in 0u64..100_000, ramp in 0u64..1_000_000, start in 0u64..1000) {
            let how = Return { after: Duration::from_millis(after), ramp: Duration::from_millis(ramp), manual: false };
            let mut now = Tick(start);
            let mut presence = Presence::Out.next(seen(true), how, now);
            let mut looks = 0;
            while let Some(due) = presence.due(how, now) {
                prop_assert!(due > now || presence.next(seen(true), how, due) != presence);
                if ramp >= 4000 && matches!(presence, Presence::Growing(_)) {
                    let behind = presence.share(how, due).abs_diff(presence.share(how, now));
                    prop_assert!(f64::from(behind) / f64::from(ALL) < 0.05);
                }
                now = due;
                presence = presence.next(seen(true), how, now);
                looks += 1;
                prop_assert!(looks < 100);
            }
            prop_assert_eq!(presence, Presence::Full);
            prop_assert_eq!(now, Tick(start + after + ramp));
        }

        /// Whatever is seen: only a region that served is latched, only where it may be, and only resuming ends that;
        /// while it lasts, it has no share.
        #[test]
        fn only_resuming_ends_a_latch(
            steps in prop::collection::vec((any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>(), 0u64..60_000, 0u8..8), 0..40)
        ) {
            let (mut presence, mut now) = (Presence::New, Tick(0));
            for (available, unknown, alone, latches, passed, resume) in steps {
                now = Tick(now.0 + passed);
                let before = presence;
                if resume == 0 {
                    presence = presence.resumed(available, now);
                    prop_assert!(presence != Presence::Latched);
                    prop_assert!(before == Presence::Latched || presence == before);
                    continue;
                }
                presence = presence.next(Seen { available, unknown, alone, latches }, MANUAL, now);
                if before == Presence::Latched {
                    prop_assert_eq!(presence, Presence::Latched);
                } else if presence == Presence::Latched {
                    prop_assert!(latches && !available && matches!(before, Presence::Full | Presence::Growing(_)));
                }
                if presence == Presence::Latched {
                    prop_assert_eq!((presence.share(MANUAL, now), presence.due(MANUAL, now)), (0, None));
                    prop_assert!(!presence.serves());
                }
            }
        }
    }
}
