//! Balancing: which instances of the group that serves, and in which order (SPEC 5). One file for each kind.
//!
//! Every kind chooses entries of a roster, best first, in [`Local`]; what is handed out is the same for all: one address
//! of each chosen instance first, then further ones, at most `answers` (0 = all); or one CNAME, where that is the best.

mod draw;
mod least_load;
pub(super) mod round_robin;
mod sticky;

use std::net::IpAddr;

use super::client::Client;
use super::hash;
use super::local::Local;
use super::plan::{Steered, Steering};
use super::selection::{Entry, Part, Roster};
use super::service::Balance;
use super::trace::{Silent, Trace};
use crate::fleet::{Family, InstanceId};

/// Most instances whose rank a trace tells.
const MOST_RANKED: usize = 5;

/// Which roster, of which group and version, in which family.
#[derive(Clone, Copy, Debug)]
pub struct Choice<'a> {
    /// Who may be picked.
    pub roster: &'a Roster,
    /// Index into the layout's groups.
    pub group: usize,
    /// Version of the roster, above 0.
    pub version: u64,
    /// Family asked for.
    pub family: Family,
    /// Whether no CNAME can be answered, so that the addresses behind it are.
    pub no_cname: bool,
    /// Whether a rotation goes on by a turn: not for what is told of addresses beside them, else a client that asks for both
    /// would always get the same ones.
    pub takes_turn: bool,
}

/// Picks for `client` and hands the addresses to `emit`, best first; or once `None`, for the CNAME of that instance.
/// Returns the scope that stickiness needs, in bits of [`Client::address`], 0 when the client did not matter.
pub fn pick<T: Trace>(
    steering: &Steering,
    steered: &Steered,
    choice: Choice<'_>,
    client: &Client,
    local: &mut Local,
    trace: &mut T,
    mut emit: impl FnMut(InstanceId, Option<IpAddr>),
) -> u8 {
    let Chosen { roster, most, scope } = choose(steering, steered, choice, client, local, trace);
    match local.chosen.first().map(|&at| &roster.entries[at as usize]) {
        Some(Entry { instance, address: None, .. }) if !choice.no_cname => emit(*instance, None),
        Some(Entry { instance, address, .. }) if most == 1 && address.is_some() => emit(*instance, *address),
        _ => hand_out(roster, &local.chosen, most, choice.no_cname, &mut |instance, one| emit(instance, Some(one))),
    }
    scope
}

/// Picks instances as [`pick`] does, and hands each to `emit` with its weight, best first.
pub fn pick_instances(
    steering: &Steering,
    steered: &Steered,
    choice: Choice<'_>,
    client: &Client,
    local: &mut Local,
    mut emit: impl FnMut(InstanceId, u32),
) -> u8 {
    let Chosen { roster, most, scope } = choose(steering, steered, choice, client, local, &mut Silent);
    let entries = local.chosen.iter().take(most).map(|&at| &roster.entries[at as usize]);
    entries.for_each(|entry| emit(entry.instance, entry.weight));
    scope
}

/// What was chosen of; the entries stand in [`Local::chosen`].
struct Chosen<'a> {
    roster: &'a Roster,
    /// Most addresses that are handed out.
    most: usize,
    scope: u8,
}

/// Chooses entries, best first; inlined where addresses are picked, as it is nearly all of that.
#[inline(always)]
fn choose<'a, T: Trace>(
    steering: &Steering,
    steered: &Steered,
    choice: Choice<'a>,
    client: &Client,
    local: &mut Local,
    trace: &mut T,
) -> Chosen<'a> {
    let (choice, part) = match choice.roster.parts() {
        [] => (choice, (0, 0)),
        parts => of_part(parts, steering, steered, choice, client, local, trace),
    };
    let roster = choice.roster;
    let most = most_addresses(steered.manner.answers, roster);
    let count = most.min(roster.entries.len());
    let mut scope = 0;
    local.chosen.clear();
    match steered.manner.balance {
        Balance::Weighted => draw::by_weight(roster, count, local),
        Balance::Random => draw::alike(roster, count, local),
        Balance::RoundRobin => round_robin::rank(steering, steered, choice, part, count, local, choice.takes_turn),
        Balance::LeastLoad => least_load::rank(roster, count, local),
        Balance::Sticky => {
            scope = client.key_bits(steered.manner.sticky);
            sticky::rank(client.key(steered.hash, steered.manner.sticky), roster, count, local);
        }
    }
    trace.note("balance", || {
        // Where nobody's load counts all are 0.
        let reports = roster.entries.iter().any(|entry| entry.load > 0);
        let chosen = local.chosen.iter().map(|&at| {
            let entry = &roster.entries[at as usize];
            let name = &steering.fleet.instance(entry.instance).name;
            let load = match steered.manner.balance {
                Balance::LeastLoad if reports => format!("load {}%, ", entry.load),
                _ => String::new(),
            };
            format!("{name} ({load}weight {} of {})", entry.weight, roster.weight)
        });
        let how = match steered.manner.balance {
            Balance::LeastLoad if !reports => "weighted draw, as fewer than two report their load",
            balance => kind(balance),
        };
        format!("{how}: {}", chosen.collect::<Vec<_>>().join(", "))
    });
    if steered.manner.balance == Balance::Sticky {
        trace.note("hash", || ranking(steering, steered, roster, client));
        trace.note("scope", || format!("{scope}: sticky by hash of {}", client.describe_key(steered.manner.sticky)));
    }
    Chosen { roster, most, scope }
}

/// The pool that answers, of those that share the clients; its number, and that of the entries before. The client's key
/// decides where that is to keep its instance, else a draw (SPEC 5.5).
fn of_part<'a, T: Trace>(
    parts: &'a [Part],
    steering: &Steering,
    steered: &Steered,
    choice: Choice<'a>,
    client: &Client,
    local: &mut Local,
    trace: &mut T,
) -> (Choice<'a>, (usize, usize)) {
    let at = if steered.manner.balance == Balance::Sticky {
        let key = client.key(steered.hash, steered.manner.sticky);
        let rank = |part: &Part| hash::rank(hash::score(key, part.hash), u64::from(part.share));
        (0..parts.len()).min_by(|&a, &b| rank(&parts[a]).total_cmp(&rank(&parts[b])))
    } else {
        let mut draw = local.random.below(parts.iter().map(|part| u64::from(part.share)).sum());
        parts.iter().position(|part| {
            let is_hit = draw < u64::from(part.share);
            draw = draw.saturating_sub(u64::from(part.share));
            is_hit
        })
    };
    let at = at.unwrap_or(0);
    trace.note("pool", || {
        let all: u64 = parts.iter().map(|part| u64::from(part.share)).sum();
        let first = parts[at].roster.entries[0].instance;
        let pool = &steering.fleet.pool(steering.fleet.instance(first).pool).name;
        format!("{pool} (share {} of {all} of those that have an instance here)", parts[at].share)
    });
    (Choice { roster: &parts[at].roster, ..choice }, (at, parts[at].from))
}

/// Chooses the `count` lowest of `local.ranked`, in order. Of equal ranks the one configured first is the lower.
fn choose_lowest(count: usize, local: &mut Local) {
    let order = |a: &(f64, u32), b: &(f64, u32)| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1));
    let ranked = &mut local.ranked[..];
    if (1..ranked.len()).contains(&count) {
        ranked.select_nth_unstable_by(count - 1, order);
    }
    ranked[..count].sort_unstable_by(order);
    local.chosen.extend(ranked[..count].iter().map(|(_, at)| at));
}

/// At most this many addresses are handed out.
fn most_addresses(answers: u16, roster: &Roster) -> usize {
    match usize::from(answers) {
        0 => roster.addresses(),
        1 => roster.entries.len().min(1),
        most => most.min(roster.addresses()),
    }
}

/// The first address of each, then the second of each that has one, until `most` are out. Whoever has a CNAME has the
/// addresses behind it only where `no_cname` can be answered; if that leaves none, any other entry's are answered.
fn hand_out(roster: &Roster, chosen: &[u32], most: usize, no_cname: bool, emit: &mut impl FnMut(InstanceId, IpAddr)) {
    let entries = || chosen.iter().map(|&at| &roster.entries[at as usize]);
    let mut left = most;
    for entry in entries().take(most) {
        if let Some(address) = entry.address {
            emit(entry.instance, address);
            left -= 1;
        }
    }
    let mut round = 0;
    while left > 0 {
        let before = left;
        for entry in entries().filter(|entry| no_cname || entry.address.is_some()) {
            if let Some(&address) = roster.further(entry).get(round)
                && left > 0
            {
                emit(entry.instance, address);
                left -= 1;
            }
        }
        round += 1;
        if left == before {
            break;
        }
    }
    if no_cname && left == most {
        let others =
            roster.entries.iter().flat_map(|entry| roster.addresses_of(entry).map(|one| (entry.instance, one)));
        others.take(most).for_each(|(instance, address)| emit(instance, address));
    }
}

/// How the hash of a client ranks those that may be picked, the lowest first.
fn ranking(steering: &Steering, steered: &Steered, roster: &Roster, client: &Client) -> String {
    let sticky = steered.manner.sticky;
    let key = client.key(steered.hash, sticky);
    let rank = |entry: &Entry| hash::rank(hash::score(key, entry.hash), u64::from(entry.weight));
    let mut ranked: Vec<(f64, &Entry)> = roster.entries.iter().map(|entry| (rank(entry), entry)).collect();
    ranked.sort_by(|a, b| a.0.total_cmp(&b.0));
    let name = |entry: &Entry| &steering.fleet.instance(entry.instance).name;
    let shown = ranked.iter().take(MOST_RANKED).map(|(rank, entry)| format!("{} {rank:.3}", name(entry)));
    let mut shown: Vec<String> = shown.collect();
    if ranked.len() > MOST_RANKED {
        shown.push(format!("{} more", ranked.len() - MOST_RANKED));
    }
    format!("{} by service and weight, the lowest first: {}", client.describe_key(sticky), shown.join(", "))
}

fn kind(balance: Balance) -> &'static str {
    match balance {
        Balance::Weighted => "weighted draw",
        Balance::Random => "random draw",
        Balance::RoundRobin => "round-robin",
        Balance::Sticky => "sticky by client hash",
        Balance::LeastLoad => "less loaded of two drawn by weight",
    }
}
