//! Pure answering: bytes in, bytes out; no allocation, no lock, no clock, no system call, whatever the transport.
//!
//! ```text
//! respond ─ parse ─┬─ not a query ──────────── silence or an error          (reply)
//!                  └─ chain: follow CNAME and DNAME through our zones      (chain)
//!                        ├─ a steered name ─── decide, pick, write         (steered)
//!                        ├─ a whoami name ──── who asks                    (whoami)
//!                        ├─ _explain.… ─────── the same, with a trace      (inband, explain)
//!                        └─ static data, referral, NODATA, NXDOMAIN        (chain)
//!                     OPT with client subnet, NSID, extended error         (edns)
//! ```
//! Queries that come together are looked at ahead (`ahead`).

mod ahead;
mod chain;
mod chaos;
mod edns;
pub mod explain;
mod inband;
mod reply;
mod steered;
pub mod whoami;

use std::net::IpAddr;
use std::sync::Arc;

use crate::dns::query::{FLAG_QR, FLAG_RD, HEADER, MASK_OPCODE};
use crate::dns::{Class, ClientSubnet, Parsed, Query, Rcode, RecordType, Targets, Writer, query};
use crate::metrics::{Counters, Registry, Senders, Tally};
use crate::snapshot::Snapshot;
use crate::steering::Local;
pub use ahead::look_ahead;
use chain::Current;
use edns::Extension;
use reply::{Lent, Reply};

/// Octets of an answer that every requester takes (RFC 1035 §4.2.1).
const MIN_PAYLOAD: usize = 512;
/// Longest message.
const MAX_MESSAGE: usize = 65_535;

/// How a query came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Answers are at most as long as EDNS allows, else truncated.
    Udp = 0,
    /// Answers are at most 65 535 octets.
    Tcp = 1,
}

/// What a thread owns: counters, rotations, random state.
#[derive(Debug)]
pub struct Worker {
    /// Counters that the transport adds to as well.
    pub counters: Arc<Counters>,
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

/// Answers the message `query` that `source` (the packet's source address) sent, into `out`; returns the octets
/// written, 0 = say nothing. `out` holds at least 512 octets, 65 535 for TCP. The worker must have adopted `snapshot`.
pub fn respond(
    snapshot: &Snapshot,
    worker: &mut Worker,
    query: &[u8],
    source: IpAddr,
    transport: Transport,
    out: &mut [u8],
) -> usize {
    let (length, rcode) = match query::parse(query, worker.name.begin()) {
        Parsed::Silence => {
            let reason = &worker.counters.answering;
            if query.len() < HEADER {
                reason.silent_short.add(1)
            } else {
                reason.silent_responses.add(1)
            }
            return 0;
        }
        Parsed::Refuse { rcode, flags, question_end, edns } => {
            let head = &query[..question_end.max(HEADER)];
            if edns.is_some_and(|edns| edns.has_bad_subnet) {
                worker.counters.answering.ecs_malformed.add(1);
            }
            let extension = Extension::new(&snapshot.settings, edns.as_ref());
            let mut writer = Writer::new(out, &mut worker.targets, MIN_PAYLOAD, echoed(flags), head);
            writer.set_rcode(rcode);
            writer.reserve(extension.reserved);
            (extension.finish(&mut writer, rcode, 0, None), rcode)
        }
        Parsed::Query(parsed) => {
            worker.counters.answering.query(transport as usize, parsed.qtype.0);
            if let Some(subnet) = parsed.edns.as_ref().and_then(|edns| edns.client_subnet.as_ref()) {
                count_subnet(&worker.counters, subnet, source);
            }
            answer(snapshot, worker, &parsed, query, source, transport, out)
        }
    };
    worker.counters.answering.answer(transport as usize, rcode.0);
    length
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

/// Flags of a query that its answer repeats. CD is not among them: it is for those who check signatures (RFC 4035 §3.1.6).
fn echoed(flags: u16) -> u16 {
    FLAG_QR | (flags & (MASK_OPCODE | FLAG_RD))
}

fn answer(
    snapshot: &Snapshot,
    worker: &mut Worker,
    query: &Query,
    message: &[u8],
    source: IpAddr,
    transport: Transport,
    out: &mut [u8],
) -> (usize, Rcode) {
    let limit = match (transport, &query.edns) {
        (Transport::Tcp, _) => MAX_MESSAGE,
        (Transport::Udp, None) => MIN_PAYLOAD,
        (Transport::Udp, Some(edns)) => {
            usize::from(edns.payload.min(snapshot.settings.max_udp_payload)).max(MIN_PAYLOAD)
        }
    };
    let extension = Extension::new(&snapshot.settings, query.edns.as_ref());
    let Worker { counters, tally, local, name, targets, .. } = worker;
    let mut writer = Writer::new(out, targets, limit, echoed(query.flags), &message[..query.question_end]);
    writer.reserve(extension.reserved);
    let mut reply = Reply::new(snapshot, Lent { counters, tally, local }, query, source, transport, writer);
    match (query.qclass, query.qtype) {
        (Class::CH, _) => chaos::answer(&mut reply, name.lower()),
        (Class::IN | Class::ANY, RecordType::AXFR | RecordType::IXFR) => reply.refuse(Rcode::REFUSED),
        // A type that only signed denials speak of (RFC 9824 §3.5).
        (Class::IN | Class::ANY, RecordType::NXNAME) => reply.refuse(Rcode::FORMERR),
        (Class::IN, _) if !snapshot.settings.explain_from.is_empty() && inband::answer(&mut reply, name.lower()) => {}
        (Class::IN | Class::ANY, _) => chain::answer(&mut reply, name),
        _ => reply.refuse(Rcode::REFUSED),
    }
    if extension.has_subnet() {
        let answering = &reply.thread.counters.answering;
        let counter = if reply.scope > 0 { &answering.ecs_scoped } else { &answering.ecs_unscoped };
        counter.add(1);
    }
    let length = extension.finish(&mut reply.writer, reply.rcode, reply.scope, reply.extended_error);
    (length, reply.rcode)
}
