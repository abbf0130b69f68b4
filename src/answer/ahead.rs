//! Looking ahead: before the first query of a batch is answered, the memory that answering will read is asked for, for
//! all of them at once. Among many names none of it is in a cache, nor is a large table of clients, and what one access
//! finds says where the next goes: one by one, the queries would wait for each of a dozen.
//!
//! ```text
//! name ─► slot ─► node ─┬─ static: its records follow it
//!                       └─ tag ─► service ─► standings ─► selection ─► roster, counter, turn
//! client ─► index ─► runs
//! ```
//! Each arrow is a pass over the batch. Nothing is decided here; a wrong guess costs its query the time it would have
//! taken anyway. Which tables of clients a batch will read, nobody knows before its names are looked up: it is taken to
//! read those that the batch before it read.

use std::net::IpAddr;

use smallvec::SmallVec;

use super::{Worker, whoami};
use crate::dns::query::ClientSubnet;
use crate::dns::{Parsed, RecordType, query};
use crate::fleet::Family;
use crate::prefetch;
use crate::snapshot::Snapshot;
use crate::steering::{Likely, Read, ServiceId};
use crate::zone::Place;

/// Queries in one look; of a longer batch only so many.
const MOST: usize = 32;
/// With fewer queries there is too little to wait for at once.
const FEWEST: usize = 4;
/// With fewer names all that they lead to is in the caches anyway.
const MANY_NAMES: usize = 10_000;

/// A query, as far as is needed here.
struct Asked {
    place: Place,
    family: Option<Family>,
    subnet: Option<ClientSubnet>,
    source: IpAddr,
}

/// Asks for the memory that answering `messages` (each with its packet's source address) will read. `waiting` is how
/// many there are.
pub fn look_ahead<'m>(
    snapshot: &Snapshot,
    worker: &mut Worker,
    waiting: usize,
    messages: impl Iterator<Item = (&'m [u8], IpAddr)>,
) {
    let Snapshot { authority, steering, standings, settings, .. } = snapshot;
    let read = std::mem::take(&mut worker.local.read);
    if waiting < FEWEST {
        return;
    }
    if authority.names() < MANY_NAMES {
        if read.is_any() {
            let mut clients: SmallVec<[IpAddr; MOST]> = SmallVec::new();
            messages.take(MOST).for_each(|(message, _)| clients.extend(query::likely_subnet(message)));
            look_up(snapshot, read, &clients);
        }
        return;
    }
    let asked: SmallVec<[Asked; MOST]> = messages
        .take(MOST)
        .filter_map(|(message, source)| {
            let name = worker.name.begin();
            let Parsed::Query(query) = query::parse(message, name) else { return None };
            let family = match query.qtype {
                RecordType::A => Some(Family::V4),
                RecordType::AAAA => Some(Family::V6),
                _ => None,
            };
            let subnet = query.edns.and_then(|edns| edns.client_subnet);
            Some(Asked { place: authority.place(name), family, subnet, source })
        })
        .collect();
    let clients: SmallVec<[IpAddr; MOST]> = asked.iter().filter_map(|asked| Some(asked.subnet?.address)).collect();
    look_up(snapshot, read, &clients);
    let nodes: SmallVec<[_; MOST]> = asked.iter().map(|asked| authority.likely_node(asked.place)).collect();
    let steered: SmallVec<[(ServiceId, Family, &Asked); MOST]> = asked
        .iter()
        .zip(nodes)
        .filter_map(|(asked, node)| {
            let service = ServiceId(authority.likely_tag(node?).filter(|&tag| tag != whoami::TAG)?);
            prefetch::first_line(steering.service(service));
            Some((service, asked.family?, asked))
        })
        .collect();
    let likely: SmallVec<[Likely<'_>; MOST]> = steered
        .iter()
        .filter_map(|&(id, family, asked)| {
            let ecs = steering.service(id).manner.ecs;
            let client = settings.ecs.client(asked.source, asked.subnet.as_ref(), ecs);
            let likely = steering.likely(id, client.address, family)?;
            standings.prefetch(likely.service.layout);
            Some(likely)
        })
        .collect();
    for likely in &likely {
        if let Some(selection) = standings.get(likely.service.layout).get(likely.group, likely.family) {
            prefetch::first_line(selection);
        }
    }
    for likely in &likely {
        if let Some(selection) = standings.get(likely.service.layout).get(likely.group, likely.family) {
            selection.eligible.prefetch();
        }
        if let Some(counter) = worker.tally.counter(likely.service.slot as usize + likely.group) {
            prefetch::first_line(counter);
        }
        worker.local.prefetch(likely);
    }
}

/// Asks for where clients are in the tables that `read` names.
fn look_up(snapshot: &Snapshot, read: Read, clients: &[IpAddr]) {
    let Snapshot { steering, latency, .. } = snapshot;
    let tables = || read.tables().filter_map(|number| Some(&steering.large.get(number)?.table));
    tables().for_each(|table| clients.iter().for_each(|&client| table.prefetch_index(client)));
    if read.has_latency() {
        steering.homes.prefetch(latency, clients);
    }
    tables().for_each(|table| clients.iter().for_each(|&client| table.prefetch_runs(client)));
}
