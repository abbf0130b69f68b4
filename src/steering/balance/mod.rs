//! Balancing: which instances of the group that serves, and in which order (SPEC 5). One file for each kind.
//!
//! Every kind turns candidates into a ranking in [`Local`]; what is handed out is the same for all: one address of each
//! chosen instance first, then further ones, at most `answers` (0 = all).

mod draw;
mod round_robin;
mod sticky;

use std::net::IpAddr;

use super::client::Client;
use super::local::Local;
use super::plan::Steered;
use super::service::Balance;
use super::trace::Trace;
use super::walk::sticky_bits;
use crate::fleet::{Family, Fleet, InstanceId};
use crate::health::group::Candidates;

/// Which candidates, of which group and version, in which family.
#[derive(Clone, Copy, Debug)]
pub struct Choice<'a> {
    /// Who may be picked.
    pub candidates: &'a Candidates,
    /// Index into the layout's groups.
    pub group: usize,
    /// Version of the candidates.
    pub version: u64,
    /// Family asked for.
    pub family: Family,
}

/// Picks for `client` and hands the addresses to `emit`, best first. Returns the scope that stickiness needs, in bits of
/// [`Client::address`], 0 when the client did not matter.
pub fn pick<T: Trace>(
    steered: &Steered,
    choice: Choice<'_>,
    client: &Client,
    fleet: &Fleet,
    local: &mut Local,
    trace: &mut T,
    mut emit: impl FnMut(InstanceId, IpAddr),
) -> u8 {
    let candidates = choice.candidates;
    let most = most_addresses(steered.service.answers, candidates);
    let count = most.min(candidates.list.len());
    let mut scope = 0;
    match steered.service.balance {
        Balance::Weighted => draw::rank(candidates, count, |weight| weight, local),
        Balance::Random => draw::rank(candidates, count, |_| 1, local),
        Balance::RoundRobin => round_robin::rank(steered, choice, count, local),
        Balance::Sticky => {
            scope = sticky_bits(steered.service.sticky, client.address);
            sticky::rank(steered.hash, client.address, scope, candidates, count, local);
        }
    }
    trace.note("balance", || {
        let chosen = local.ranked[..count].iter().map(|&(_, at)| {
            let candidate = &candidates.list[at as usize];
            format!(
                "{} (weight {} of {})",
                fleet.instance(candidate.instance).name,
                candidate.weight,
                candidates.weight
            )
        });
        format!("{}: {}", kind(steered.service.balance), chosen.collect::<Vec<_>>().join(", "))
    });
    hand_out(candidates, &local.ranked[..count], most, &mut emit);
    scope
}

/// Puts the `count` lowest ranks first and in order; nothing is promised of the others. Of equal ranks the one configured
/// first is the lower.
fn sort_first(ranked: &mut [(f64, u32)], count: usize) {
    let order = |a: &(f64, u32), b: &(f64, u32)| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1));
    if (1..ranked.len()).contains(&count) {
        ranked.select_nth_unstable_by(count - 1, order);
    }
    ranked[..count].sort_unstable_by(order);
}

/// At most this many addresses are handed out.
fn most_addresses(answers: u16, candidates: &Candidates) -> usize {
    match usize::from(answers) {
        0 => candidates.addresses.len(),
        most => most.min(candidates.addresses.len()),
    }
}

/// The first address of each, then the second of each that has one, until `most` are out.
fn hand_out(candidates: &Candidates, ranked: &[(f64, u32)], most: usize, emit: &mut impl FnMut(InstanceId, IpAddr)) {
    let mut left = most;
    let mut round = 0;
    while left > 0 {
        let before = left;
        for &(_, at) in ranked {
            let candidate = &candidates.list[at as usize];
            if let Some(&address) = candidates.addresses_of(candidate).get(round)
                && left > 0
            {
                emit(candidate.instance, address);
                left -= 1;
            }
        }
        round += 1;
        if left == before {
            return;
        }
    }
}

fn kind(balance: Balance) -> &'static str {
    match balance {
        Balance::Weighted => "weighted draw",
        Balance::Random => "random draw",
        Balance::RoundRobin => "round-robin",
        Balance::Sticky => "sticky by client hash",
    }
}
