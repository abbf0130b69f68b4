//! NOTIFY (RFC 1996): those who copy a zone are told when its serial went up, and at a start, so that they need not wait
//! for the refresh timer of its SOA.
//!
//! ```text
//! zone × target ─► send ─► answered: done          after 1, 2, 4, 8, 16, 32 s once more, then given up
//! ```
//! One task and a socket for each family do all of it; whatever zones and targets there are, at most [`MOST_A_SECOND`]
//! messages leave in a second. A target that does not answer is one line in the log, until it has answered again.

use std::collections::hash_map::RandomState;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::future;
use std::hash::BuildHasher;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::World;
use crate::dns::query::{FLAG_AA, FLAG_QR, HEADER, MASK_OPCODE};
use crate::dns::tsig::{Key, Signer, Tsig};
use crate::dns::{Class, Name, Owner, RecordType, Section, Targets, Writer, tsig};
use crate::time::unix_seconds;
use crate::zone::ZoneId;

/// The opcode in the header's flags.
const OPCODE: u16 = 4 << 11;
/// How often a target is told, and after how long it is given up at first; each wait is twice the one before.
const TRIES: u32 = 6;
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// Messages sent in a second.
const MOST_A_SECOND: u32 = 1000;
/// Octets of a message: what is longer is sent without its SOA.
const ROOM: usize = 1232;

/// What became of notifies.
#[derive(Debug, Default)]
pub struct Notifies {
    /// Messages sent.
    pub sent: AtomicU64,
    /// Zones whose target has answered.
    pub acknowledged: AtomicU64,
    /// Zones of which a target has said that they are no concern of its.
    pub refused: AtomicU64,
    /// Zones whose target was given up.
    pub unanswered: AtomicU64,
}

/// A zone to tell of.
#[derive(Debug)]
struct Zone {
    origin: Name,
    serial: u32,
    /// TTL and data.
    soa: (u32, Vec<u8>),
    targets: Vec<SocketAddr>,
    key: Option<Key>,
}

/// Says what is served, to the task that tells others.
#[derive(Debug)]
pub struct Notifier {
    served: watch::Sender<Vec<Arc<Zone>>>,
    totals: Arc<Notifies>,
}

impl Notifier {
    /// Starts the task; it ends when this is dropped.
    #[must_use]
    pub fn start() -> Notifier {
        let (served, news) = watch::channel(Vec::new());
        let totals: Arc<Notifies> = Arc::default();
        tokio::spawn(run(news, Arc::clone(&totals)));
        Notifier { served, totals }
    }

    /// What became of notifies.
    #[must_use]
    pub fn totals(&self) -> Arc<Notifies> {
        Arc::clone(&self.totals)
    }

    /// This is served from now on.
    pub fn serves(&self, world: &World) {
        let zones = (0..).map(ZoneId).zip(&world.transfers.zones).filter(|(_, gate)| !gate.policy.notify.is_empty());
        let zone = |(id, gate): (ZoneId, &crate::snapshot::Gate)| {
            let (ttl, soa) = world.authority.soa(id)?;
            Some(Arc::new(Zone {
                origin: world.authority.zone(id).origin.clone(),
                serial: world.authority.serial(id)?,
                soa: (ttl, soa.to_vec()),
                targets: gate.policy.notify.clone(),
                key: gate.policy.key.map(|key| world.transfers.key(key).clone()),
            }))
        };
        self.served.send_replace(zones.filter_map(zone).collect());
    }
}

async fn run(mut news: watch::Receiver<Vec<Arc<Zone>>>, totals: Arc<Notifies>) {
    let v4 = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await;
    let v6 = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).await;
    let mut desk = Desk {
        v4: v4.ok(),
        v6: v6.ok(),
        totals,
        told: HashMap::new(),
        queue: Queue::default(),
        silent: HashSet::new(),
    };
    let (mut from_v4, mut from_v6) = ([0; ROOM], [0; ROOM]);
    loop {
        let due = desk.queue.due();
        tokio::select! {
            changed = news.changed() => {
                if changed.is_err() {
                    return;
                }
                let zones = news.borrow_and_update().clone();
                desk.take(&zones, Instant::now());
            }
            () = until(due) => desk.send_next(Instant::now()).await,
            (length, from) = receive(desk.v4.as_ref(), &mut from_v4) => desk.hear(&from_v4[..length], from),
            (length, from) = receive(desk.v6.as_ref(), &mut from_v6) => desk.hear(&from_v6[..length], from),
        }
    }
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => future::pending().await,
    }
}

/// The next datagram; errors of earlier ones, as ICMP tells them, are passed over.
async fn receive(socket: Option<&UdpSocket>, buffer: &mut [u8]) -> (usize, SocketAddr) {
    let Some(socket) = socket else { return future::pending().await };
    loop {
        match socket.recv_from(buffer).await {
            Ok(received) => return received,
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

/// A zone that a target is to be told of.
#[derive(Debug)]
struct Notify {
    zone: Arc<Zone>,
    target: SocketAddr,
    /// How often it was told.
    tries: u32,
    /// Of the message sent last; it may be answered late.
    id: u16,
    /// What its answer is signed after.
    signer: Signer,
}

/// What is to be told, by when.
#[derive(Debug, Default)]
struct Queue {
    all: BTreeMap<(Instant, u64), Notify>,
    next: u64,
}

impl Queue {
    fn due(&self) -> Option<Instant> {
        self.all.keys().next().map(|(due, _)| *due)
    }

    fn push(&mut self, due: Instant, notify: Notify) {
        self.next += 1;
        self.all.insert((due, self.next), notify);
    }

    fn take(&mut self, now: Instant) -> Option<Notify> {
        let first = self.all.first_entry()?;
        (first.key().0 <= now).then(|| first.remove())
    }

    /// Takes the one that a message with this id from this target answers.
    fn answered(&mut self, from: SocketAddr, id: u16) -> Option<Notify> {
        let is = |notify: &Notify| notify.target == from && notify.id == id && notify.tries > 0;
        let key = self.all.iter().find(|(_, notify)| is(notify)).map(|(key, _)| *key)?;
        self.all.remove(&key)
    }
}

struct Desk {
    v4: Option<UdpSocket>,
    v6: Option<UdpSocket>,
    totals: Arc<Notifies>,
    /// Which serial of a zone a target was told of last.
    told: HashMap<(Name, SocketAddr), u32>,
    queue: Queue,
    /// Targets of which was said that they do not answer.
    silent: HashSet<SocketAddr>,
}

impl Desk {
    /// Has everybody told of what is new in these zones.
    fn take(&mut self, zones: &[Arc<Zone>], now: Instant) {
        let told = std::mem::take(&mut self.told);
        let mut is_told: HashSet<(&Name, SocketAddr)> = HashSet::new();
        let mut due = now;
        let mut news = Vec::new();
        for zone in zones {
            for &target in &zone.targets {
                let before = told.get(&(zone.origin.clone(), target));
                // RFC 1982 §3.2: up, by less than half of the circle.
                let is_news = before.is_none_or(|&before| (1..0x8000_0000).contains(&zone.serial.wrapping_sub(before)));
                self.told.insert((zone.origin.clone(), target), zone.serial);
                if is_news {
                    news.push((zone, target));
                } else {
                    is_told.insert((&zone.origin, target));
                }
            }
        }
        // What is out of date need not be told any more, nor what is about no zone of ours.
        self.queue.all.retain(|_, notify| is_told.contains(&(&notify.zone.origin, notify.target)));
        for (zone, target) in news {
            let notify = Notify { zone: Arc::clone(zone), target, tries: 0, id: 0, signer: Signer::asking() };
            self.queue.push(due, notify);
            due += Duration::from_secs(1) / MOST_A_SECOND;
        }
    }

    /// Sends what is due first.
    async fn send_next(&mut self, now: Instant) {
        let Some(mut notify) = self.queue.take(now) else { return };
        if notify.tries == TRIES {
            self.totals.unanswered.fetch_add(1, Ordering::Relaxed);
            let zone = notify.zone.origin.to_plain();
            self.tell_once(notify.target, &format!("does not answer that zone {zone} has changed (NOTIFY)"));
            return;
        }
        notify.id = RandomState::new().hash_one(notify.tries) as u16;
        let message = notify.message();
        let socket = if notify.target.is_ipv4() { &self.v4 } else { &self.v6 };
        if let Some(socket) = socket {
            // What could not be sent is what did not arrive.
            let _ = socket.send_to(&message, notify.target).await;
            self.totals.sent.fetch_add(1, Ordering::Relaxed);
        }
        let wait = FIRST_WAIT * 2u32.pow(notify.tries);
        notify.tries += 1;
        self.queue.push(now + wait, notify);
    }

    fn hear(&mut self, message: &[u8], from: SocketAddr) {
        let Some(header) = message.first_chunk::<HEADER>() else { return };
        let flags = u16::from_be_bytes([header[2], header[3]]);
        if flags & (FLAG_QR | MASK_OPCODE) != FLAG_QR | OPCODE {
            return;
        }
        let id = u16::from_be_bytes([header[0], header[1]]);
        let Some(notify) = self.queue.answered(from, id) else { return };
        let rcode = flags & 0xf;
        if rcode == 0 && !notify.is_signed_well(message) {
            // Not by whom it was told: it is told again.
            self.queue.push(Instant::now() + FIRST_WAIT, notify);
            return;
        }
        if rcode == 0 {
            self.totals.acknowledged.fetch_add(1, Ordering::Relaxed);
            if self.silent.remove(&from) {
                tracing::info!("{from} answers again that zones have changed (NOTIFY)");
            }
            return;
        }
        self.totals.refused.fetch_add(1, Ordering::Relaxed);
        let zone = notify.zone.origin.to_plain();
        self.tell_once(from, &format!("does not want to know that zone {zone} has changed (NOTIFY): rcode {rcode}"));
    }

    fn tell_once(&mut self, target: SocketAddr, what: &str) {
        if self.silent.insert(target) {
            tracing::warn!("{target} {what}; it will see changes when it looks itself");
        }
    }
}

impl Notify {
    /// The message, with the SOA if it fits (RFC 1996 §3.7).
    fn message(&mut self) -> Vec<u8> {
        let Zone { origin, soa: (ttl, soa), key, .. } = &*self.zone;
        let mut head = vec![0; HEADER];
        head[..2].copy_from_slice(&self.id.to_be_bytes());
        head.extend_from_slice(origin.as_wire());
        head.extend_from_slice(&RecordType::SOA.0.to_be_bytes());
        head.extend_from_slice(&Class::IN.0.to_be_bytes());
        let room = key.as_ref().map_or(0, Key::room);
        let (mut out, mut targets) = (vec![0; ROOM], Targets::default());
        let mut writer = Writer::new(&mut out, &mut targets, ROOM - room, OPCODE | FLAG_AA, &head);
        let mark = writer.mark();
        if writer.record(Section::Answer, Owner::Question, RecordType::SOA, *ttl, soa).is_err() {
            writer.rewind(mark);
        }
        let mut length = writer.length();
        if let Some(key) = key {
            self.signer = Signer::asking();
            length = self.signer.sign(key, unix_seconds(), &mut out, length);
        }
        out.truncate(length);
        out
    }

    /// Whether an answer is signed as the message was.
    fn is_signed_well(&self, message: &[u8]) -> bool {
        let Some(key) = &self.zone.key else { return true };
        let found = tsig::find(message).and_then(|at| Tsig::read(message, at));
        let is_right = |tsig: &Tsig<'_>| {
            let of_key = tsig.key_name() == key.name().as_wire();
            of_key && tsig.verify(message, Some(key), unix_seconds(), Some(&self.signer)).is_ok()
        };
        found.as_ref().is_some_and(is_right)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zone(serial: u32, targets: &[SocketAddr]) -> Vec<Arc<Zone>> {
        let origin = Name::parse("example.com", None).expect("a name");
        vec![Arc::new(Zone { origin, serial, soa: (60, vec![0; 22]), targets: targets.to_vec(), key: None })]
    }

    fn desk() -> Desk {
        let (totals, told, silent) = Default::default();
        Desk { v4: None, v6: None, totals, told, queue: Queue::default(), silent }
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_does_not_answer_is_told_six_times() {
        let target: SocketAddr = ([192, 0, 2, 1], 53).into();
        let mut desk = desk();
        let begun = Instant::now();
        desk.take(&zone(1, &[target]), begun);
        let mut told = Vec::new();
        while let Some(due) = desk.queue.due() {
            told.push(due.duration_since(begun).as_secs());
            desk.send_next(due).await;
        }
        assert_eq!(told, [0, 1, 3, 7, 15, 31, 63]);
        assert_eq!(desk.totals.unanswered.load(Ordering::Relaxed), 1);
        assert!(desk.silent.contains(&target));
    }

    #[tokio::test(start_paused = true)]
    async fn only_what_is_new_is_told() {
        let (one, other): (SocketAddr, SocketAddr) = (([192, 0, 2, 1], 53).into(), ([192, 0, 2, 2], 53).into());
        let mut desk = desk();
        let waiting = |desk: &Desk| -> Vec<(u32, SocketAddr)> {
            desk.queue.all.values().map(|notify| (notify.zone.serial, notify.target)).collect()
        };
        for (serial, targets, expected) in [
            (5, &[one][..], &[(5, one)][..]),
            (5, &[one], &[(5, one)]),
            (5, &[one, other], &[(5, one), (5, other)]),
            (6, &[one, other], &[(6, one), (6, other)]),
            (4, &[other], &[(6, other)]),
            (5, &[other], &[(5, other)]),
        ] {
            desk.take(&zone(serial, targets), Instant::now());
            assert_eq!(waiting(&desk), expected, "{serial} {targets:?}");
        }
        desk.take(&[], Instant::now());
        assert!(waiting(&desk).is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn only_an_answer_of_the_target_counts() {
        let (target, other): (SocketAddr, SocketAddr) = (([192, 0, 2, 1], 53).into(), ([192, 0, 2, 2], 53).into());
        let mut desk = desk();
        desk.take(&zone(1, &[target]), Instant::now());
        let answer =
            |id: u16, flags: u16| [id.to_be_bytes(), flags.to_be_bytes(), [0; 2], [0; 2], [0; 2], [0; 2]].concat();
        desk.hear(&answer(0, FLAG_QR | OPCODE), target);
        assert!(desk.queue.due().is_some(), "nothing was sent yet");
        desk.send_next(Instant::now()).await;
        let id = desk.queue.all.values().next().map(|notify| notify.id).expect("one");
        for (id, flags, from) in [
            (id, OPCODE, target),
            (id, FLAG_QR, target),
            (id, FLAG_QR | OPCODE, other),
            (id ^ 1, FLAG_QR | OPCODE, target),
        ] {
            desk.hear(&answer(id, flags), from);
            assert!(desk.queue.due().is_some());
        }
        desk.hear(&answer(id, FLAG_QR | OPCODE), target);
        assert!(desk.queue.due().is_none());
        assert_eq!(desk.totals.acknowledged.load(Ordering::Relaxed), 1);
    }
}
