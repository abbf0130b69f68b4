//! What becomes of an answer over UDP where the rate limit has something to say (`crate::limit`): it is sent, not sent, sent
//! truncated, or BADCOOKIE takes its place, which a client that is not spoofed answers with a cookie that exempts it.

use super::edns::Extension;
use super::{Arrival, Given, Head, Worker, bare};
use crate::dns::cookie::{Proof, Require};
use crate::dns::query::{FLAG_AA, FLAG_TC};
use crate::dns::{Edns, Parsed, Rcode};
use crate::limit::{Kind, Limiter, Verdict};
use crate::snapshot::Snapshot;

/// The query that is answered.
#[derive(Clone, Copy)]
pub(super) struct Asked<'a> {
    pub(super) query: &'a [u8],
    pub(super) parsed: &'a Parsed,
    pub(super) arrival: Arrival,
}

/// Counts an answer that stands in `out`, and replaces it where its network had enough.
pub(super) fn apply(
    snapshot: &Snapshot,
    limiter: &Limiter,
    worker: &mut Worker,
    given: Given,
    asked: Asked<'_>,
    out: &mut [u8],
) -> Given {
    let answering = &worker.counters.answering;
    if given.proof == Some(Proof::Good) {
        answering.limit_exempt_cookie.add(1);
        return given;
    }
    let (kind, subject) = given.counted_as;
    let (verdict, begins) = limiter.judge(asked.arrival.source, kind, subject, asked.arrival.moment.now);
    answering.limit_began.add(u64::from(begins));
    match verdict {
        Verdict::Pass => given,
        Verdict::Exempt => {
            answering.limit_exempt_prefix.add(1);
            given
        }
        Verdict::Drop | Verdict::Slip if limiter.policy().dry_run => {
            answering.limit_dry_run.add(1);
            given
        }
        Verdict::Drop | Verdict::Slip => withhold(snapshot, worker, given, verdict, asked, out),
    }
}

/// What is sent instead of an answer.
#[cold]
fn withhold(
    snapshot: &Snapshot,
    worker: &mut Worker,
    given: Given,
    verdict: Verdict,
    asked: Asked<'_>,
    out: &mut [u8],
) -> Given {
    let answering = &worker.counters.answering;
    let has_client_cookie = matches!(given.proof, Some(Proof::Absent | Proof::Bad));
    if has_client_cookie && snapshot.settings.cookies.require != Require::Never {
        answering.limit_bad_cookie.add(1);
        return instead(snapshot, worker, Rcode::BADCOOKIE, asked, out);
    }
    if verdict == Verdict::Drop {
        answering.limit_dropped.add(1);
        return Given { length: 0, ..given };
    }
    answering.limit_slipped.add(1);
    // An error is no larger than that, and to come by TCP would not help.
    if given.counted_as.0 == Kind::Error {
        return given;
    }
    let authoritative = out[2] & (FLAG_AA >> 8) as u8;
    let given = instead(snapshot, worker, Rcode::NOERROR, asked, out);
    out[2] |= (FLAG_TC >> 8) as u8 | authoritative;
    given
}

fn instead(snapshot: &Snapshot, worker: &mut Worker, rcode: Rcode, asked: Asked<'_>, out: &mut [u8]) -> Given {
    let edns = match asked.parsed {
        Parsed::Silence => None,
        Parsed::Refuse { edns, .. } => *edns,
        Parsed::CookieOnly { edns, .. } => Some(*edns),
        Parsed::Query(query) => query.edns,
    };
    // The name of a node is longer than a query: whoever is spoofed is to get little.
    let edns = edns.map(|edns| Edns { nsid: false, ..edns });
    let extension = Extension::new(snapshot, edns.as_ref(), asked.arrival);
    bare(&mut worker.targets, &extension, Head::of(asked.parsed, asked.query), rcode, out)
}
