//! Pure answering: bytes in, bytes out; no allocation, no lock, no clock, no system call, whatever the transport.
//!
//! ```text
//! respond ─ parse ─┬─ not a query ──────────── silence or an error          (reply)
//!                  ├─ NOTIFY, UPDATE ───────── who says it; handed on        (handed)
//!                  ├─ signed, or a transfer ── who asks, what he may have   (access, transfer)
//!                  └─ chain: follow CNAME and DNAME through our zones      (chain)
//!                        ├─ a steered name ─── decide, pick, write         (steered)
//!                        ├─ HTTPS, SVCB, SRV ─ the same decision           (synthesized)
//!                        ├─ a whoami name ──── who asks                    (whoami)
//!                        ├─ _explain.… ─────── the same, with a trace      (inband, explain)
//!                        └─ static data, referral, NODATA, NXDOMAIN        (chain)
//!                     OPT with client subnet, cookie, extended error       (edns)
//!                     over UDP: whether its network gets one more          (limit)
//! ```
//! Queries that come together are looked at ahead (`ahead`).

mod access;
mod ahead;
mod chain;
mod chaos;
mod edns;
pub mod explain;
mod handed;
mod inband;
mod limit;
mod reply;
mod steered;
mod synthesized;
mod transfer;
pub mod whoami;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::dns::cookie::{Proof, Require};
use crate::dns::query::{FLAG_QR, FLAG_RD, HEADER, MASK_OPCODE};
use crate::dns::{Class, ClientSubnet, Edns, Parsed, Query, Rcode, RecordType, Targets, Writer, query};
use crate::limit::Kind;
use crate::metrics::{Counters, Registry, Senders, TRANSPORTS, Tally};
use crate::snapshot::Snapshot;
use crate::steering::Local;
use crate::time::Tick;
use access::{Entry, Signed};
pub use ahead::look_ahead;
use chain::Current;
pub use edns::ExtendedError;
use edns::Extension;
pub use handed::Handed;
use handed::Taken;
use reply::{Lent, Reply};
pub use transfer::{Order, Transfer};

/// Octets of an answer that every requester takes (RFC 1035 §4.2.1).
const MIN_PAYLOAD: usize = 512;
/// Longest message.
const MAX_MESSAGE: usize = 65_535;

/// What came of a message.
#[derive(Debug)]
pub enum Outcome {
    /// An answer of so many octets was written; 0 = say nothing.
    Answer(usize),
    /// As many messages as a [`Transfer`] makes of it. Only of what came by a stream of octets.
    Stream(Box<Order>),
    /// It is for whoever changes what is served, and answered when that is done.
    Handed(Box<Handed>),
}

impl Outcome {
    /// Octets that were written.
    #[must_use]
    pub fn length(&self) -> usize {
        match self {
            Outcome::Answer(length) => *length,
            Outcome::Stream(_) | Outcome::Handed(_) => 0,
        }
    }
}

/// How a query came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Answers are at most as long as EDNS allows, else truncated.
    Udp = 0,
    /// Answers are at most 65 535 octets; as over all that follow.
    Tcp = 1,
    /// DNS over TLS (RFC 7858).
    Tls = 2,
    /// DNS over HTTPS (RFC 8484), over HTTP/1.1 and HTTP/2.
    Https = 3,
    /// DNS over QUIC (RFC 9250).
    Quic = 4,
    /// DNS over HTTPS, over HTTP/3.
    Https3 = 5,
}

impl Transport {
    /// What it is called in metrics and by `whoami`.
    #[must_use]
    pub fn name(self) -> &'static str {
        TRANSPORTS[self as usize]
    }

    /// Whether nobody on the way can read along: then answers are padded for whoever asks (RFC 7830 §6).
    #[must_use]
    pub fn is_encrypted(self) -> bool {
        !matches!(self, Transport::Udp | Transport::Tcp)
    }

    /// Whether the connection is DNS's own, so that how long it may be idle can be asked for (RFC 7828). QUIC forbids to
    /// (RFC 9250 §5.5.2), HTTP has means of its own.
    #[must_use]
    pub fn has_keepalive(self) -> bool {
        matches!(self, Transport::Tcp | Transport::Tls)
    }
}

/// When a batch of messages is answered, and what holds then; to be set once for each.
#[derive(Clone, Copy, Debug, Default)]
pub struct Moment {
    /// The current time.
    pub now: Tick,
    /// Seconds since the Unix epoch by the wall clock: for DNS cookies and signatures.
    pub wall: u64,
    /// How long a TCP connection may be idle now.
    pub tcp_idle: Duration,
}

/// Who sent a query, how, and when.
#[derive(Clone, Copy, Debug)]
struct Arrival {
    /// The packet's source address.
    source: IpAddr,
    transport: Transport,
    moment: Moment,
}

/// What an answer without records repeats of its query.
#[derive(Clone, Copy)]
struct Head<'a> {
    flags: u16,
    /// Header, and question if there is one.
    octets: &'a [u8],
}

impl<'a> Head<'a> {
    fn of(parsed: &Parsed, query: &'a [u8]) -> Head<'a> {
        let (flags, end) = match parsed {
            Parsed::Silence => (0, 0),
            Parsed::Refuse { flags, question_end, .. } => (*flags, *question_end),
            Parsed::CookieOnly { flags, .. } => (*flags, 0),
            Parsed::Query(asked) => (asked.flags, asked.question_end),
        };
        Head { flags, octets: &query[..end.max(HEADER)] }
    }
}

/// An answer that was written.
#[derive(Clone, Copy)]
struct Given {
    /// Octets; 0 = say nothing.
    length: usize,
    rcode: Rcode,
    /// As what the rate limit counts it, and by the number of what.
    counted_as: (Kind, u32),
    /// What the query's cookie proves.
    proof: Option<Proof>,
}

/// What a thread owns: counters, rotations, random state.
#[derive(Debug)]
pub struct Worker {
    /// Counters that the transport adds to as well.
    pub counters: Arc<Counters>,
    /// When the batch is answered that the next messages belong to.
    pub moment: Moment,
    registry: Arc<Registry>,
    /// Its number among the threads of `registry`.
    number: usize,
    tally: Arc<Tally>,
    local: Local,
    name: Current,
    targets: Targets,
    epoch: u64,
}

impl Worker {
    /// A worker with counters of its own in `registry` and its random state from `seed`.
    #[must_use]
    pub fn new(registry: &Arc<Registry>, seed: u64) -> Worker {
        let (number, counters) = registry.join();
        Worker {
            counters,
            moment: Moment::default(),
            registry: Arc::clone(registry),
            number,
            tally: Arc::default(),
            local: Local::new(seed),
            name: Current::new(),
            targets: Targets::default(),
            epoch: u64::MAX,
        }
    }

    /// Makes room for what `snapshot` needs. To be called when the snapshot changed, before [`respond`]; cheap else.
    pub fn adopt(&mut self, snapshot: &Snapshot) {
        let steering = &snapshot.steering;
        if self.epoch == steering.epoch {
            return;
        }
        self.epoch = steering.epoch;
        self.local.adopt(steering);
        if let Some(made_ahead) = snapshot.tallies.get(self.number) {
            self.tally = Arc::clone(made_ahead);
            return;
        }
        self.tally = Arc::new(Tally::new(Arc::clone(&steering.labels)));
        self.registry.tallies.add(&self.tally);
    }
}

/// Answers the message `query` that `source` (the packet's source address) sent, into `out`, which holds at least 512
/// octets, 65 535 for all but UDP. The worker must have adopted `snapshot`.
pub fn respond(
    snapshot: &Snapshot,
    worker: &mut Worker,
    query: &[u8],
    source: IpAddr,
    transport: Transport,
    out: &mut [u8],
) -> Outcome {
    let arrival = Arrival { source, transport, moment: worker.moment };
    let parsed = query::parse(query, worker.name.begin());
    let given = match &parsed {
        Parsed::Query(asked) => {
            worker.counters.answering.query(transport as usize, asked.qtype.0);
            if let Some(subnet) = asked.edns.as_ref().and_then(|edns| edns.client_subnet.as_ref()) {
                count_subnet(&worker.counters, subnet, source);
            }
            match access::concerns(asked) {
                false => Ok(answer(snapshot, worker, asked, query, arrival, 0, out)),
                true => answer_guarded(snapshot, worker, asked, query, arrival, out),
            }
        }
        Parsed::Silence => Err(ignore(worker, query)),
        Parsed::Refuse { rcode, edns, .. } => {
            refuse(snapshot, worker, (*rcode, edns.as_ref()), Head::of(&parsed, query), query, arrival, out)
        }
        Parsed::CookieOnly { edns, .. } => {
            Ok(answer_cookie(snapshot, worker, edns, Head::of(&parsed, query), arrival, out))
        }
    };
    let mut given = match given {
        Ok(given) => given,
        Err(outcome) => return outcome,
    };
    if let (Transport::Udp, Some(limiter)) = (transport, &snapshot.limiter) {
        given = limit::apply(snapshot, limiter, worker, given, limit::Asked { query, parsed: &parsed, arrival }, out);
    }
    if given.length > 0 {
        worker.counters.answering.answer(transport as usize, given.rcode.0);
    }
    Outcome::Answer(given.length)
}

/// Counts a message to which nothing is said.
#[cold]
fn ignore(worker: &Worker, message: &[u8]) -> Outcome {
    let reason = &worker.counters.answering;
    if message.len() < HEADER {
        reason.silent_short.add(1)
    } else {
        reason.silent_responses.add(1)
    }
    Outcome::Answer(0)
}

/// Answers a message that parsing refuses with that code; `Err` is what comes of one that is no query.
#[cold]
fn refuse(
    snapshot: &Snapshot,
    worker: &mut Worker,
    (rcode, edns): (Rcode, Option<&Edns>),
    head: Head<'_>,
    message: &[u8],
    arrival: Arrival,
    out: &mut [u8],
) -> Result<Given, Outcome> {
    if edns.is_some_and(|edns| edns.has_bad_subnet) {
        worker.counters.answering.ecs_malformed.add(1);
    }
    let taken = match rcode {
        Rcode::NOTIMP => handed::take(snapshot, worker, message, edns, arrival, out),
        _ => Taken::Unknown,
    };
    match taken {
        Taken::Handed(handed) => Err(Outcome::Handed(handed)),
        Taken::Given(given) => Ok(given),
        Taken::Unknown => {
            let extension = Extension::new(snapshot, edns, arrival);
            Ok(bare(&mut worker.targets, &extension, head, rcode, out))
        }
    }
}

/// Answers a message with a cookie and no question.
#[cold]
fn answer_cookie(
    snapshot: &Snapshot,
    worker: &mut Worker,
    edns: &Edns,
    head: Head<'_>,
    arrival: Arrival,
    out: &mut [u8],
) -> Given {
    let extension = Extension::new(snapshot, Some(edns), arrival);
    count_cookie(&worker.counters, extension.proof());
    let rcode = cookie_rcode(extension.proof(), arrival.transport);
    bare(&mut worker.targets, &extension, head, rcode, out)
}

/// Answers a query that is signed, or not for everybody; `Err` is what comes of one that is answered to somebody we know.
#[cold]
fn answer_guarded(
    snapshot: &Snapshot,
    worker: &mut Worker,
    asked: &Query,
    query: &[u8],
    arrival: Arrival,
    out: &mut [u8],
) -> Result<Given, Outcome> {
    let transport = arrival.transport as usize;
    let signed = match access::enter(snapshot, worker, asked, query, arrival, out) {
        Entry::Open(signed) => signed,
        Entry::Unknown(given) => return Ok(given),
        Entry::Known(outcome, rcode) => {
            worker.counters.answering.answer(transport, rcode.0);
            return Err(outcome);
        }
    };
    let room = signed.as_ref().map_or(0, Signed::room);
    let given = answer(snapshot, worker, asked, query, arrival, room, out);
    let Some(signed) = signed else { return Ok(given) };
    worker.counters.answering.answer(transport, given.rcode.0);
    Err(Outcome::Answer(signed.sign(worker.moment.wall, out, given.length)))
}

/// What a query is told that has a cookie and nothing else (RFC 7873 §5.4); `None` = cookies are off.
fn cookie_rcode(proof: Option<Proof>, transport: Transport) -> Rcode {
    match (proof, transport) {
        (None, _) => Rcode::FORMERR,
        (Some(Proof::Bad), Transport::Udp) => Rcode::BADCOOKIE,
        (Some(_), _) => Rcode::NOERROR,
    }
}

/// An answer without records.
fn bare(targets: &mut Targets, extension: &Extension<'_>, head: Head<'_>, rcode: Rcode, out: &mut [u8]) -> Given {
    bare_with(targets, extension, head, (rcode, None), 0, out)
}

/// An answer without records, with an extended error if there is one; `room` octets are kept free for its signature.
fn bare_with(
    targets: &mut Targets,
    extension: &Extension<'_>,
    head: Head<'_>,
    (rcode, error): (Rcode, Option<ExtendedError>),
    room: usize,
    out: &mut [u8],
) -> Given {
    let mut writer = Writer::new(out, targets, extension.least_room(), echoed(head.flags), head.octets);
    writer.set_rcode(rcode);
    writer.reserve(extension.reserved + room);
    let length = extension.finish(&mut writer, rcode, 0, error);
    Given { length, rcode, counted_as: (Kind::Error, 0), proof: extension.proof() }
}

fn count_cookie(counters: &Counters, proof: Option<Proof>) {
    let answering = &counters.answering;
    match proof {
        Some(Proof::Good) => answering.cookies_good.add(1),
        Some(Proof::Absent) => answering.cookies_absent.add(1),
        Some(Proof::Bad) => answering.cookies_bad.add(1),
        None => {}
    }
}

/// Counts a client subnet; who sent it is noted of a sample.
fn count_subnet(counters: &Counters, subnet: &ClientSubnet, source: IpAddr) {
    let answering = &counters.answering;
    answering.ecs.add(1);
    answering.ecs_ipv6.add(u64::from(subnet.family == 2));
    answering.ecs_opted_out.add(u64::from(subnet.source == 0));
    if Senders::is_sampled(answering.ecs.get()) {
        counters.senders.see(source);
    }
}

/// Why a query is not answered, for what its OPT says.
fn objection(snapshot: &Snapshot, edns: &Edns, proof: Option<Proof>, transport: Transport) -> Option<Rcode> {
    if transport == Transport::Udp {
        let is_required = snapshot.settings.cookies.require == Require::Always;
        let lacks_it = matches!(proof, Some(Proof::Absent | Proof::Bad));
        return (is_required && lacks_it).then_some(Rcode::BADCOOKIE);
    }
    (transport.has_keepalive() && edns.has_keepalive_timeout).then_some(Rcode::FORMERR)
}

/// Flags of a query that its answer repeats. CD is not among them: it is for those who check signatures (RFC 4035 §3.1.6).
fn echoed(flags: u16) -> u16 {
    FLAG_QR | (flags & (MASK_OPCODE | FLAG_RD))
}

/// Most octets of the answer to a query.
fn limit_of(snapshot: &Snapshot, query: &Query, transport: Transport) -> usize {
    match (transport, &query.edns) {
        (Transport::Udp, None) => MIN_PAYLOAD,
        (Transport::Udp, Some(edns)) => {
            usize::from(edns.payload.min(snapshot.settings.max_udp_payload)).max(MIN_PAYLOAD)
        }
        _ => MAX_MESSAGE,
    }
}

/// Answers a query; `room` octets are kept free for its signature. Inlined where the many queries go that nobody signed.
#[inline(always)]
fn answer(
    snapshot: &Snapshot,
    worker: &mut Worker,
    query: &Query,
    message: &[u8],
    arrival: Arrival,
    room: usize,
    out: &mut [u8],
) -> Given {
    let Arrival { source, transport, .. } = arrival;
    let extension = Extension::new(snapshot, query.edns.as_ref(), arrival);
    let head = Head { flags: query.flags, octets: &message[..query.question_end] };
    if let Some(edns) = &query.edns {
        count_cookie(&worker.counters, extension.proof());
        if let Some(rcode) = objection(snapshot, edns, extension.proof(), transport) {
            return bare_with(&mut worker.targets, &extension, head, (rcode, None), room, out);
        }
    }
    let limit = limit_of(snapshot, query, transport);
    let Worker { counters, tally, local, name, targets, .. } = worker;
    let mut writer = Writer::new(out, targets, limit, echoed(head.flags), head.octets);
    writer.reserve(extension.reserved + room);
    let mut reply = Reply::new(snapshot, Lent { counters, tally, local }, query, source, transport, writer);
    match (query.qclass, query.qtype) {
        (Class::CH, _) => chaos::answer(&mut reply, name.lower()),
        (Class::IN | Class::ANY, RecordType::AXFR | RecordType::IXFR) => {
            reply.extended_error = Some(ExtendedError::PROHIBITED);
            reply.refuse(Rcode::REFUSED);
        }
        // A type that only signed denials speak of (RFC 9824 §3.5).
        (Class::IN | Class::ANY, RecordType::NXNAME) => {
            reply.extended_error = Some(ExtendedError::INVALID_TYPE);
            reply.refuse(Rcode::FORMERR);
        }
        (Class::IN, _) if !snapshot.settings.explain_from.is_empty() && inband::answer(&mut reply, name.lower()) => {}
        (Class::IN | Class::ANY, _) => chain::answer(&mut reply, name),
        _ => reply.refuse(Rcode::REFUSED),
    }
    if extension.has_subnet() {
        let answering = &reply.thread.counters.answering;
        let counter = if reply.scope > 0 { &answering.ecs_scoped } else { &answering.ecs_unscoped };
        counter.add(1);
    }
    let counted_as = reply.counted_as();
    let length = extension.finish(&mut reply.writer, reply.rcode, reply.scope, reply.extended_error);
    Given { length, rcode: reply.rcode, counted_as, proof: extension.proof() }
}
