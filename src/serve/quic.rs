//! QUIC (RFC 9000): sockets, handshakes, and the life of connections, whatever is spoken over them (`doq`, `doh3`).
//!
//! ```text
//!  Initial ─► handshakes in progress?
//!     │ fewer than half of the cap      │ more, address not proven     │ more, address proven
//!     ▼                                 ▼                              ▼
//!   handshake, in its own task        Retry, nothing is kept         handshake; past the cap the first that began ends
//!     └─ done ─► seat of the client's prefix ─► doq, doh3 ─► closed by the client, a fault of its pulse, misuse, a newcomer
//! ```
//! A seat is only taken for an address that is proven, by a Retry or by the end of the handshake: who forges addresses takes
//! nobody's place. There is no early data, which can be replayed, and no migration: whose queries they are does not change.
//! Each worker has a socket of its own for each address, among which the kernel spreads clients.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::pending;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use quinn::crypto::rustls::{NoInitialCipherSuite, QuicServerConfig};
use quinn::{
    Connecting, Endpoint, EndpointConfig, IdleTimeout, Incoming, ServerConfig, TokioRuntime, TransportConfig, VarInt,
};
use tokio::runtime;
use tokio::sync::{Notify, watch};
use tokio::task::{JoinSet, LocalSet};

use super::answerer::Answerer;
use super::connections::{Connections, Seat};
use super::desk::{Desk, MESSAGE, count, stopping};
use super::doh::Site;
use super::pulse::{Fault, Pulse, TooMuch};
use super::{Limits, doh3, doq};
use crate::metrics::{Counter, Counters};
use crate::time;

/// Handshakes of a thread that may be in progress.
const HANDSHAKES: usize = 512;
/// Requests in progress at once on a connection.
const STREAMS: u32 = 100;
/// Octets that may come before they are read, on a stream and on a connection; and those of answers that are on their way.
const STREAM_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = 256 * 1024;
const SEND_WINDOW: u64 = 256 * 1024;
/// Connections that have not been looked at, and octets of early packets kept for each and for all of them.
const INCOMING: usize = 1024;
const INCOMING_BUFFER: u64 = 8 * 1024;
const INCOMING_BUFFERS: u64 = 1024 * 1024;
/// How often it is looked at how much came.
const LOOK: Duration = Duration::from_secs(1);
/// How often an idle thread looks for a newer snapshot.
const REFRESH: Duration = Duration::from_secs(1);
/// How long stopping waits for clients to take their answers, and to be told that it is the end.
pub(super) const STOP_WAIT: Duration = Duration::from_millis(500);
const LAST_WAIT: Duration = Duration::from_millis(100);

/// What is spoken at an address.
#[derive(Clone)]
pub(super) enum Speaks {
    Doq,
    Doh3(Arc<Site>),
}

/// A socket that connections come to.
pub(super) struct Listener {
    pub(super) socket: UdpSocket,
    pub(super) tls: Arc<rustls::ServerConfig>,
    pub(super) speaks: Speaks,
}

/// Starts thread `index`, which serves the connections that come to `listeners` until `stopped`.
pub(super) fn start(
    index: usize,
    listeners: Vec<Listener>,
    answerer: Answerer,
    connections: Arc<Connections>,
    stopped: watch::Receiver<bool>,
) -> io::Result<JoinHandle<()>> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let endpoints: Vec<(Endpoint, Speaks)> = {
        let _context = runtime.enter();
        let limits = connections.limits();
        let open = |listener| endpoint(listener, limits);
        listeners.into_iter().map(open).collect::<io::Result<_>>()?
    };
    thread::Builder::new().name(format!("quic-{index}")).spawn(move || {
        let desk = Rc::new(Desk::new(answerer, MESSAGE));
        LocalSet::new().block_on(&runtime, serve(endpoints, desk, connections, stopped));
    })
}

fn endpoint(listener: Listener, limits: &Limits) -> io::Result<(Endpoint, Speaks)> {
    let Listener { socket, tls, speaks } = listener;
    let uni = match speaks {
        Speaks::Doq => doq::UNIDIRECTIONAL,
        Speaks::Doh3(_) => doh3::UNIDIRECTIONAL,
    };
    let config = config(tls, limits, uni).map_err(io::Error::other)?;
    let endpoint = Endpoint::new(EndpointConfig::default(), Some(config), socket, Arc::new(TokioRuntime))?;
    Ok((endpoint, speaks))
}

fn config(tls: Arc<rustls::ServerConfig>, limits: &Limits, uni: u32) -> Result<ServerConfig, NoInitialCipherSuite> {
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(STREAMS))
        .max_concurrent_uni_streams(VarInt::from_u32(uni))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
        .receive_window(VarInt::from_u32(CONNECTION_WINDOW))
        .send_window(SEND_WINDOW)
        .max_idle_timeout(IdleTimeout::try_from(limits.idle).ok())
        .datagram_receive_buffer_size(None);
    let mut config = ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls)?));
    config
        .transport_config(Arc::new(transport))
        .migration(false)
        .max_incoming(INCOMING)
        .incoming_buffer_size(INCOMING_BUFFER)
        .incoming_buffer_size_total(INCOMING_BUFFERS);
    Ok(config)
}

/// Runs the accept loops, and has an idle thread let go of outdated snapshots.
async fn serve(
    endpoints: Vec<(Endpoint, Speaks)>,
    desk: Rc<RefCell<Desk>>,
    connections: Arc<Connections>,
    stopped: watch::Receiver<bool>,
) {
    let (handshakes, mut loops) = (Rc::new(Handshakes::default()), JoinSet::new());
    for (endpoint, speaks) in endpoints {
        let (connections, handshakes, desk) = (Arc::clone(&connections), Rc::clone(&handshakes), Rc::clone(&desk));
        let door = Door { speaks, connections, handshakes, desk };
        loops.spawn_local(accept(endpoint, Rc::new(door), stopped.clone()));
    }
    let mut refresh = tokio::time::interval(REFRESH);
    loop {
        tokio::select! {
            ended = loops.join_next() => if ended.is_none() { return },
            _ = refresh.tick() => desk.borrow_mut().refresh(),
        }
    }
}

/// Takes connections until stopped; returns when all of them are closed, and their clients were told.
async fn accept(endpoint: Endpoint, door: Rc<Door>, mut stopped: watch::Receiver<bool>) {
    let mut tasks = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            () = stopping(&mut stopped) => break,
            Some(ended) = tasks.join_next() => count_closed(&door.desk, ended.is_ok()),
            incoming = endpoint.accept() => {
                let Some(newcomer) = incoming.map(|incoming| door.admit(incoming)) else { break };
                if let Some(newcomer) = newcomer {
                    count(&door.desk, |counters| &counters.quic_opened, 1);
                    tasks.spawn_local(newcomer.attend(stopped.clone()));
                }
            }
        }
    }
    // Newcomers are told to come again later.
    endpoint.set_server_config(None);
    while let Some(ended) = tasks.join_next().await {
        count_closed(&door.desk, ended.is_ok());
    }
    let _ = tokio::time::timeout(LAST_WAIT, endpoint.wait_idle()).await;
}

fn count_closed(desk: &RefCell<Desk>, orderly: bool) {
    count(desk, |counters| &counters.quic_closed, 1);
    count(desk, |counters| &counters.panics, u64::from(!orderly));
}

/// What whoever comes to an address meets.
struct Door {
    speaks: Speaks,
    connections: Arc<Connections>,
    handshakes: Rc<Handshakes>,
    desk: Rc<RefCell<Desk>>,
}

impl Door {
    /// Whoever may begin a handshake now; others are asked to prove their address.
    fn admit(self: &Rc<Door>, incoming: Incoming) -> Option<Newcomer> {
        let (client, is_proven) = (incoming.remote_address(), incoming.remote_address_validated());
        if !is_proven && self.handshakes.are_many() {
            count(&self.desk, |counters| &counters.quic_retries, 1);
            // It fails for those alone whose address is proven.
            let _ = incoming.retry();
            return None;
        }
        let Ok(connecting) = incoming.accept() else {
            // Its first packet was enough to see that nothing comes of it.
            count(&self.desk, |counters| &counters.tls_handshakes_failed, 1);
            return None;
        };
        let place = Handshakes::begin(&self.handshakes);
        Some(Newcomer { connecting, client, is_proven, place, door: Rc::clone(self) })
    }

    /// A seat for a client whose address is proven.
    fn seat(&self, client: SocketAddr) -> Seat {
        let (seat, evicted) = self.connections.admit(Some(client.ip()), time::now());
        count(&self.desk, |counters| &counters.quic_closed_for_newcomer, evicted);
        seat
    }
}

/// Handshakes of a thread that are in progress, by the order of their beginning.
#[derive(Default)]
struct Handshakes {
    /// How many there were.
    begun: Cell<u64>,
    places: RefCell<BTreeMap<u64, Rc<Notify>>>,
}

impl Handshakes {
    /// Whether addresses must be proven.
    fn are_many(&self) -> bool {
        self.places.borrow().len() >= HANDSHAKES / 2
    }

    /// A place for one more; past the cap the first that began loses its own.
    fn begin(handshakes: &Rc<Handshakes>) -> Place {
        let (mut places, lost) = (handshakes.places.borrow_mut(), Rc::new(Notify::new()));
        if places.len() >= HANDSHAKES
            && let Some((_, first)) = places.pop_first()
        {
            first.notify_one();
        }
        let id = handshakes.begun.get();
        handshakes.begun.set(id + 1);
        places.insert(id, Rc::clone(&lost));
        Place { id, lost, handshakes: Rc::clone(handshakes) }
    }
}

/// One of them; given up when dropped.
struct Place {
    id: u64,
    lost: Rc<Notify>,
    handshakes: Rc<Handshakes>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.handshakes.places.borrow_mut().remove(&self.id);
    }
}

/// A connection whose handshake began.
struct Newcomer {
    connecting: Connecting,
    client: SocketAddr,
    is_proven: bool,
    place: Place,
    door: Rc<Door>,
}

impl Newcomer {
    /// The connection from its beginning to its end.
    async fn attend(self, mut stopped: watch::Receiver<bool>) {
        let (door, client) = (Rc::clone(&self.door), self.client);
        let seat = self.is_proven.then(|| door.seat(client));
        let shaken = tokio::select! {
            biased;
            () = stopping(&mut stopped) => return,
            () = evicted(seat.as_ref()) => return,
            shaken = self.shake_hands(seat.as_ref()) => shaken,
        };
        let Some(connection) = shaken else { return };
        let seat = seat.unwrap_or_else(|| door.seat(client));
        seat.has_shaken_hands(time::now());
        let link = Link { connection, client: client.ip(), desk: Rc::clone(&door.desk), pulse: Pulse::new(seat) };
        // What a connection takes need not lie in the task of every handshake.
        Box::pin(Rc::new(link).run(&door.speaks, stopped)).await;
    }

    /// `None` = there is nobody to speak with.
    async fn shake_hands(self, seat: Option<&Seat>) -> Option<quinn::Connection> {
        let Newcomer { connecting, place, door, .. } = self;
        let made_room = seat.map_or(0, Seat::shakes_hands);
        count(&door.desk, |counters| &counters.quic_closed_for_newcomer, made_room);
        let shaken = tokio::select! {
            biased;
            () = place.lost.notified() => return None,
            shaken = tokio::time::timeout(door.connections.limits().message, connecting) => shaken,
        };
        let outcome: fn(&Counters) -> &Counter = match &shaken {
            Ok(Ok(_)) => |counters| &counters.tls_handshakes_done,
            Ok(Err(_)) => |counters| &counters.tls_handshakes_failed,
            Err(_) => |counters| &counters.tls_handshakes_timed_out,
        };
        count(&door.desk, outcome, 1);
        shaken.ok()?.ok()
    }
}

/// Waits until a newcomer gets the seat, if there is one.
async fn evicted(seat: Option<&Seat>) {
    match seat {
        Some(seat) => seat.evicted().await,
        None => pending().await,
    }
}

/// A connection, as those have it who speak over it.
pub(super) struct Link {
    pub(super) connection: quinn::Connection,
    pub(super) client: IpAddr,
    pub(super) desk: Rc<RefCell<Desk>>,
    pub(super) pulse: Rc<Pulse>,
}

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The client closed it, or was told why it ended.
    Done,
    Evicted,
    Fault(Fault),
    /// The client said what must not be said.
    Misuse,
}

impl Link {
    async fn run(self: Rc<Link>, speaks: &Speaks, stopped: watch::Receiver<bool>) {
        let mut spoken = pin!(async {
            match speaks {
                Speaks::Doq => doq::serve(&self, stopped).await,
                Speaks::Doh3(site) => doh3::serve(&self, site, stopped).await,
            }
        });
        let end = tokio::select! {
            biased;
            () = self.pulse.seat().evicted() => End::Evicted,
            fault = self.pulse.watch() => End::Fault(fault),
            () = self.watch() => End::Fault(Fault::Wasteful),
            end = spoken.as_mut() => end,
        };
        if let Some(counter) = counter(end) {
            count(&self.desk, counter, 1);
        }
        // What is dropped closes it as well, with less to say.
        self.close(match speaks {
            Speaks::Doq => doq::code(end),
            Speaks::Doh3(_) => doh3::code(end),
        });
    }

    pub(super) fn close(&self, code: u32) {
        self.connection.close(VarInt::from_u32(code), b"");
    }

    /// Looks how much came; returns when that was too much.
    async fn watch(&self) {
        while self.meter().is_ok() {
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Tells the pulse how much came.
    pub(super) fn meter(&self) -> Result<(), TooMuch> {
        self.pulse.received_in_all(self.connection.stats().udp_rx.bytes)
    }
}

/// Counters of ends that the server decided on; evictions are counted where they are decided.
fn counter(end: End) -> Option<fn(&Counters) -> &Counter> {
    match end {
        End::Done | End::Evicted => None,
        End::Fault(Fault::Idle) => Some(|counters| &counters.quic_closed_idle),
        End::Fault(Fault::SlowReader) => Some(|counters| &counters.quic_closed_slow_reader),
        End::Fault(Fault::Wasteful) => Some(|counters| &counters.quic_closed_wasteful),
        End::Misuse => Some(|counters| &counters.quic_closed_misuse),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn past_the_cap_the_first_handshake_ends() {
        let handshakes = Rc::new(Handshakes::default());
        let mut places = vec![];
        for number in 0..HANDSHAKES {
            assert_eq!(handshakes.are_many(), number >= HANDSHAKES / 2);
            places.push(Handshakes::begin(&handshakes));
        }
        places.push(Handshakes::begin(&handshakes));
        let is_kept = |place: &Place| handshakes.places.borrow().contains_key(&place.id);
        assert_eq!(places.iter().filter(|place| is_kept(place)).count(), HANDSHAKES);
        assert!(!is_kept(&places[0]) && is_kept(&places[HANDSHAKES]));
        drop(places);
        assert!(handshakes.places.borrow().is_empty());
    }
}
