//! Versions of zones: what a reload does to the serials of their SOA. A zone is served whatever its serial, but who
//! copies it goes by that alone (RFC 1034 §4.3.5): one that goes back, or stays while the records change, leaves copies
//! as they are. Of one that goes up it is remembered what changed, for those who ask for that alone (RFC 1995): as many
//! changes as the zone has records, of at most [`MOST_STEPS`] editions.

mod difference;

use std::collections::HashMap;
use std::sync::Arc;

use super::World;
use super::supply::is_after;
use crate::config::Zone;
use crate::dns::{LowerName, Name};
use crate::snapshot::{Contents, Gate, History, Step, ZonePolicy};
use crate::zone::{Authority, ZoneId};
use difference::Difference;

/// Most editions of a zone from which the way to the newest is remembered.
const MOST_STEPS: usize = 100;

/// Most zones of which something is said.
const MOST_TOLD: usize = 100;

/// A version of a zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edition {
    /// Its apex.
    pub origin: Name,
    /// The serial of its SOA.
    pub serial: u32,
    /// `zone::Records::digest` of all its static records.
    pub digest: u128,
}

impl Edition {
    pub(super) fn of(zone: &Zone) -> Edition {
        let serial = zone.records.iter().find_map(|record| record.soa_serial()).unwrap_or(0);
        Edition { origin: zone.origin.clone(), serial, digest: zone.records.digest() }
    }
}

/// What is doubtful about the serials of zones that follow those `before`, in words.
pub(super) fn doubts(before: &[Edition], now: &[Edition]) -> Vec<String> {
    let known: HashMap<&Name, &Edition> = before.iter().map(|edition| (&edition.origin, edition)).collect();
    let mut doubts: Vec<String> = now.iter().filter_map(|next| doubt(known.get(&next.origin)?, next)).collect();
    let untold = doubts.len().saturating_sub(MOST_TOLD);
    if untold > 0 {
        doubts.truncate(MOST_TOLD);
        doubts.push(format!("and the serials of {untold} more zones"));
    }
    doubts
}

fn doubt(before: &Edition, now: &Edition) -> Option<String> {
    let (zone, old, new) = (now.origin.to_plain(), before.serial, now.serial);
    // RFC 1982 §3.2: beyond half of the circle is behind; the point opposite is neither.
    let what = match new.wrapping_sub(old) {
        0 if before.digest == now.digest => return None,
        0 => format!("the records have changed, the serial of the SOA is still {new}"),
        1..0x8000_0000 => return None,
        0x8000_0000 => {
            format!("the serial of the SOA, {old} before and {new} now, is neither ahead nor behind (RFC 1982)")
        }
        _ => format!("the serial of the SOA went back from {old} to {new} (RFC 1982)"),
    };
    Some(format!("zone {zone}: {what}: secondaries will not notice; served as it is"))
}

/// What each zone allows, while nothing is known of earlier editions; by `ZoneId`.
pub(super) fn gates(authority: &Authority, policies: Vec<(Name, ZonePolicy)>) -> Vec<Gate> {
    let mut policies: HashMap<Name, ZonePolicy> = policies.into_iter().collect();
    let gate = |origin| Gate { policy: policies.remove(origin).unwrap_or_default(), history: History::default() };
    authority.zones().iter().map(|apex| &apex.origin).map(gate).collect()
}

/// What each zone allows, and what is remembered of its editions, `now` that it is served after another.
pub(super) fn gates_after(before: &World, now: &World) -> Vec<Gate> {
    let zones = (0..).map(ZoneId).zip(&now.transfers.zones);
    zones.map(|(zone, gate)| Gate { policy: gate.policy.clone(), history: history(before, now, zone) }).collect()
}

fn history(before: &World, now: &World, zone: ZoneId) -> History {
    let mut apex = LowerName::new();
    apex.set(now.authority.zone(zone).origin.as_wire());
    let known = before.authority.zone_at(&apex).and_then(|was| Some((was, before.transfers.gate(was)?)));
    let is_copied =
        |world: &World, zone| world.transfers.gate(zone).is_some_and(|gate| !gate.policy.transfer_to.is_empty());
    match known {
        _ if !is_copied(now, zone) => History::default(),
        None => History::default(),
        // Whoever copied it before that was not watched.
        Some((was, _)) if !is_copied(before, was) => {
            History { doubtful_to: before.authority.serial(was), steps: Vec::new() }
        }
        Some((was, gate)) => next(&gate.history, before.contents(was), now.contents(zone)),
    }
}

/// The history of a zone after one more edition.
fn next(history: &History, before: Contents<'_>, now: Contents<'_>) -> History {
    let serial = |of: Contents<'_>| of.authority.serial(of.zone);
    let (Some(from), Some(to)) = (serial(before), serial(now)) else { return History::default() };
    let soa = |of: Contents<'_>| of.authority.soa(of.zone).map(|(ttl, rdata)| (ttl, rdata.to_vec()));
    let doubtful_to = history.doubtful_to;
    let is_sure = |serial: u32| doubtful_to.is_none_or(|last| is_after(serial, last));
    let most = records(now);
    match (is_after(to, from), Difference::between(before, now, most)) {
        (false, Ok(difference)) if to == from && difference.is_empty() && soa(before) == soa(now) => history.clone(),
        (false, _) if is_sure(from) => History { doubtful_to: Some(from), steps: Vec::new() },
        (true, Ok(Difference { removed, added, .. })) if is_sure(from) => {
            let step = Arc::new(Step { from, removed, added });
            History { doubtful_to, steps: bounded(history.steps.iter().cloned().chain([step]).collect(), most) }
        }
        _ => History { doubtful_to, steps: Vec::new() },
    }
}

/// The newest of the steps that together have so many changes at most.
fn bounded(mut steps: Vec<Arc<Step>>, most: usize) -> Vec<Arc<Step>> {
    let mut changes = 0;
    let fits = |step: &&Arc<Step>| {
        changes += step.changes();
        changes <= most
    };
    let kept = steps.iter().rev().take(MOST_STEPS).take_while(fits).count();
    steps.drain(..steps.len() - kept);
    steps
}

/// About how many records a zone has.
fn records(of: Contents<'_>) -> usize {
    let at = |node: crate::zone::Node<'_>| node.rrsets().map(|rrset| usize::from(rrset.count())).sum::<usize>();
    of.authority.nodes(of.zone).map(at).sum::<usize>() + of.authority.zone(of.zone).aside.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::RecordType;
    use crate::problem::{SourceId, Span};
    use crate::zone::Record;

    #[test]
    fn serials_go_up_where_records_change() {
        for (old, new, changed, expected) in [
            (1, 1, false, ""),
            (1, 1, true, "still 1"),
            (1, 2, false, ""),
            (1, 2, true, ""),
            (2, 1, true, "went back from 2 to 1"),
            (2, 1, false, "went back from 2 to 1"),
            (u32::MAX, 0, true, ""),
            (u32::MAX, 0x7fff_fffe, true, ""),
            (u32::MAX, 0x7fff_ffff, true, "neither ahead nor behind"),
            (0, 0x8000_0000, true, "neither ahead nor behind"),
            (0, 0x8000_0001, true, "went back from 0 to 2147483649"),
            (2026112301, 1, true, "went back"),
        ] {
            let origin = Name::parse("example.com", None).expect("a name");
            let before = Edition { origin: origin.clone(), serial: old, digest: 0 };
            let now = Edition { origin, serial: new, digest: u128::from(changed) };
            let told = doubt(&before, &now).unwrap_or_default();
            assert_eq!(told.is_empty(), expected.is_empty(), "{old} {new}: {told}");
            assert!(told.contains(expected), "{old} {new}: {told}");
        }
    }

    #[test]
    fn steps_are_bounded() {
        let step = |from: u32, changes: usize| {
            let soa = |_: usize| Record {
                owner: &[0],
                rtype: RecordType::SOA,
                ttl: 1,
                rdata: &[],
                span: Span::new(SourceId(0), 0..0),
            };
            Arc::new(Step { from, removed: (0..=changes).map(soa).collect(), added: (0..1).map(soa).collect() })
        };
        let kept = |steps: &[usize], most| {
            let steps: Vec<Arc<Step>> = (0..).zip(steps).map(|(from, changes)| step(from, *changes)).collect();
            bounded(steps, most).first().map(|step| step.from)
        };
        for (steps, most, expected) in [
            (&[][..], 5, None),
            (&[1, 2, 3], 6, Some(0)),
            (&[1, 2, 3], 5, Some(1)),
            (&[1, 2, 3], 3, Some(2)),
            (&[1, 2, 3], 2, None),
            (&[9, 0, 0], 2, Some(1)),
            (&[0; 100], 0, Some(0)),
            (&[0; 103], 0, Some(3)),
        ] {
            assert_eq!(kept(steps, most), expected, "{steps:?} of {most}");
        }
    }

    #[test]
    fn only_zones_that_stay_are_compared() {
        let edition = |name, serial| Edition {
            origin: Name::parse(name, None).expect("a name"),
            serial,
            digest: u128::from(serial),
        };
        let before = [edition("a.example", 5), edition("b.example", 5)];
        let now = [edition("c.example", 1), edition("B.Example", 4), edition("a.example", 6)];
        let told = doubts(&before, &now);
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].starts_with("zone B.Example: the serial"), "{told:?}");
    }
}
