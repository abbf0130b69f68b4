//! TCP (RFC 1035 §4.2.2, RFC 7766), also inside TLS (RFC 7858): messages with their length before them, any number in flight,
//! each connection its own task, everything bounded. What comes before the first query is `entry`'s.
//!
//! ```text
//!          ┌──────────────────────────────────────────────────────────┐
//!          ▼                                                          │ all taken
//!   wait for octets ──a whole message──► answer a burst ──► write ────┤
//!    │ idle, slow query, end              │ junk             │ slow   └► more whole messages: answer a burst
//!    ▼                                    ▼                  ▼
//!   close (as on eviction by a newcomer; when stopping, after what has arrived is answered)
//! ```
//! While answers wait for the client, nothing is read: TCP pushes back. An idle connection holds no buffer.
//!
//! A message that gets no answer (a response, one that panicked) is passed over and does not count as a sign of life;
//! one shorter than a header means that the framing is lost, so the connection is closed after what came before it is
//! answered. As `respond` does not wait for anything, answers leave in the order of the queries.
//!
//! A message that is handed on (NOTIFY, UPDATE) ends the burst; what follows it waits for its answer.
//!
//! A copy of a zone ends the burst. It is written message after message, each flushed by itself, and between two of them
//! the other connections of the thread have their turn; what the client does not read is not made.

use std::cell::RefCell;
use std::io::{self, Cursor};
use std::net::{IpAddr, TcpListener as StdTcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::runtime;
use tokio::sync::{oneshot, watch};
use tokio::task::{JoinSet, LocalSet};

use super::answerer::Answerer;
use super::connections::{Connections, Seat};
use super::desk::{Desk, MESSAGE, count, stopping};
use super::doh;
use super::entry::{self, Door, Refusal, Speaks};
use super::handover::Way;
use super::stream::{READ, Stream};
use crate::answer::{Outcome, Transfer, Transport};
use crate::dns::query::HEADER;
use crate::metrics::{Counter, Counters};
use crate::time::{self, Tick};

/// Octets of the length before each message.
const LENGTH: usize = 2;
/// A burst ends when it has this many octets; with the longest answer behind it, it has `OUT` at most.
const BURST: usize = 16 * 1024;
const OUT: usize = BURST + LENGTH + MESSAGE;
/// How long to wait after a connection could not be accepted by want of descriptors or memory.
const ACCEPT_WAIT: Duration = Duration::from_millis(50);
/// The same when another one is being closed for it.
const EVICTION_WAIT: Duration = Duration::from_millis(1);
/// How often an idle thread looks for a newer snapshot.
const REFRESH: Duration = Duration::from_secs(1);
/// Longest wait for the answer to a message that was handed on.
const HANDED_WAIT: Duration = Duration::from_secs(30);
/// How long stopping waits for clients to take their answers.
const STOP_WAIT: Duration = Duration::from_millis(500);

/// A socket that connections come to, and what they have to do before they are served.
pub(super) struct Listener {
    pub(super) socket: StdTcpListener,
    pub(super) door: Door,
}

/// Starts thread `index`, which serves the connections that `listeners` accept until `stopped`.
pub(super) fn start(
    index: usize,
    listeners: Vec<Listener>,
    answerer: Answerer,
    connections: Arc<Connections>,
    stopped: watch::Receiver<bool>,
) -> io::Result<JoinHandle<()>> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let listeners: Vec<(TcpListener, Door)> = {
        let _context = runtime.enter();
        let open = |Listener { socket, door }| Ok((TcpListener::from_std(socket)?, door));
        listeners.into_iter().map(open).collect::<io::Result<_>>()?
    };
    thread::Builder::new().name(format!("tcp-{index}")).spawn(move || {
        let desk = Rc::new(Desk::new(answerer, OUT));
        LocalSet::new().block_on(&runtime, serve(listeners, desk, connections, stopped));
    })
}

/// Runs the accept loops, and has an idle thread let go of outdated snapshots.
async fn serve(
    listeners: Vec<(TcpListener, Door)>,
    desk: Rc<RefCell<Desk>>,
    connections: Arc<Connections>,
    stopped: watch::Receiver<bool>,
) {
    let mut loops = JoinSet::new();
    for (listener, door) in listeners {
        loops.spawn_local(accept(listener, door, Rc::clone(&desk), Arc::clone(&connections), stopped.clone()));
    }
    let mut refresh = tokio::time::interval(REFRESH);
    loop {
        tokio::select! {
            ended = loops.join_next() => if ended.is_none() { return },
            _ = refresh.tick() => desk.borrow_mut().refresh(),
        }
    }
}

/// Accepts connections until stopped; returns when all it accepted are closed.
async fn accept(
    listener: TcpListener,
    door: Door,
    desk: Rc<RefCell<Desk>>,
    connections: Arc<Connections>,
    mut stopped: watch::Receiver<bool>,
) {
    let (door, mut tasks) = (Rc::new(door), JoinSet::new());
    loop {
        tokio::select! {
            biased;
            () = stopping(&mut stopped) => break,
            Some(ended) = tasks.join_next() => count_closed(&desk, ended.is_ok()),
            accepted = listener.accept() => match accepted {
                Ok((stream, source)) => {
                    let source = source.ip();
                    let is_balancer = door.is_balancer(source);
                    let (seat, evicted) = connections.admit((!is_balancer).then_some(source), time::now());
                    count(&desk, |counters| &counters.tcp_opened, 1);
                    count(&desk, |counters| &counters.tcp_closed_for_newcomer, evicted);
                    let (desk, stopped) = (Rc::clone(&desk), stopped.clone());
                    if let (Speaks::Dns, false) = (&door.speaks, is_balancer) {
                        let connection = Connection::new(Stream::Plain(stream), source, Transport::Tcp, desk);
                        tasks.spawn_local(connection.run(seat, stopped));
                    } else {
                        let newcomer = Newcomer { stream, source, is_balancer, door: Rc::clone(&door), desk };
                        tasks.spawn_local(newcomer.attend(seat, stopped));
                    }
                }
                Err(error) => accept_failed(&desk, &connections, &error).await,
            },
        }
    }
    drop(listener);
    while let Some(ended) = tasks.join_next().await {
        count_closed(&desk, ended.is_ok());
    }
}

/// Some errors are those of one connection. Others are a want of descriptors or memory, which closing a connection
/// helps, and which the loop must not spin on.
async fn accept_failed(desk: &RefCell<Desk>, connections: &Connections, error: &io::Error) {
    if matches!(
        error.raw_os_error(),
        Some(libc::ECONNABORTED | libc::ECONNRESET | libc::EPROTO | libc::EPERM | libc::EINTR)
    ) {
        return;
    }
    let evicted = connections.make_room();
    count(desk, |counters| &counters.tcp_accept_failed, 1);
    count(desk, |counters| &counters.tcp_closed_for_newcomer, evicted);
    tokio::time::sleep(if evicted > 0 { EVICTION_WAIT } else { ACCEPT_WAIT }).await;
}

fn count_closed(desk: &RefCell<Desk>, orderly: bool) {
    count(desk, |counters| &counters.tcp_closed, 1);
    count(desk, |counters| &counters.panics, u64::from(!orderly));
}

/// A connection that was accepted, and has something to do before its first query.
struct Newcomer {
    stream: TcpStream,
    /// Where its packets come from.
    source: IpAddr,
    is_balancer: bool,
    door: Rc<Door>,
    desk: Rc<RefCell<Desk>>,
}

impl Newcomer {
    /// The connection from its beginning to its end.
    async fn attend(self, seat: Seat, mut stopped: watch::Receiver<bool>) {
        let desk = Rc::clone(&self.desk);
        let entered = tokio::select! {
            biased;
            () = stopping(&mut stopped) => return,
            // Counted where it is decided.
            () = seat.evicted() => return,
            entered = Box::pin(self.enter(&seat)) => entered,
        };
        match entered {
            Ok(Entered::Dns(connection)) => connection.run(seat, stopped).await,
            // What HTTP takes need not lie in the task of every other connection.
            Ok(Entered::Http(connection)) => Box::pin(connection.run(seat, stopped)).await,
            Err(refusal) => count(&desk, |counters| refusal.counter(counters), 1),
        }
    }

    async fn enter(mut self, seat: &Seat) -> Result<Entered, Refusal> {
        let mut client = self.source;
        if self.is_balancer {
            client = entry::client(&mut self.stream, self.source, seat).await?;
            count(&self.desk, |counters| &counters.tcp_closed_for_newcomer, seat.belongs_to(client));
        }
        let acceptor = match &self.door.speaks {
            Speaks::Dns => {
                let stream = Stream::Plain(self.stream);
                return Ok(Entered::Dns(Connection::new(stream, client, Transport::Tcp, self.desk)));
            }
            Speaks::DnsOverTls(acceptor) | Speaks::DnsOverHttps(acceptor, _) => acceptor,
        };
        count(&self.desk, |counters| &counters.tcp_closed_for_newcomer, seat.shakes_hands());
        let (stream, is_resumed) = entry::shake_hands(self.stream, acceptor, seat).await?;
        count(&self.desk, |counters| &counters.tls_handshakes_done, 1);
        count(&self.desk, |counters| &counters.tls_resumed, u64::from(is_resumed));
        Ok(match &self.door.speaks {
            Speaks::DnsOverHttps(_, site) => {
                let site = Arc::clone(site);
                Entered::Http(doh::Connection { stream, client, site, desk: self.desk })
            }
            _ => Entered::Dns(Connection::new(Stream::Tls(stream), client, Transport::Tls, self.desk)),
        })
    }
}

/// A connection that its first query may come over.
enum Entered {
    Dns(Connection),
    Http(doh::Connection),
}

/// Why a connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The client closed its side, and has all its answers.
    Done,
    /// The client or the network broke it.
    Broken,
    Idle,
    SlowQuery,
    SlowReader,
    Junk,
    Evicted,
    Stopped,
}

/// What a burst left in the inbox.
enum Left {
    /// At most a part of a message.
    Nothing,
    /// Whole messages.
    Messages,
    /// Whatever follows a query that is answered with the copy of a zone.
    Transfer(Box<Transfer>),
    /// Whatever follows a message that was handed on, whose answer comes by this.
    Handed(oneshot::Receiver<Vec<u8>>),
    /// A message that cannot be one.
    Junk,
}

struct Connection {
    stream: Stream,
    client: IpAddr,
    transport: Transport,
    desk: Rc<RefCell<Desk>>,
    /// Octets received and not yet answered: at most one message, and one read.
    inbox: Vec<u8>,
    /// When the message at the start of the inbox began to arrive.
    began: Option<Tick>,
    /// Answers of a burst that the client has not taken yet.
    outbox: Cursor<Vec<u8>>,
    /// How many they are.
    answers: u64,
    /// Whether the copy of a zone is on its way.
    copies: bool,
}

impl Connection {
    fn new(stream: Stream, client: IpAddr, transport: Transport, desk: Rc<RefCell<Desk>>) -> Connection {
        let (inbox, outbox) = (vec![], Cursor::default());
        Connection { stream, client, transport, desk, inbox, began: None, outbox, answers: 0, copies: false }
    }

    async fn run(mut self, seat: Seat, mut stopped: watch::Receiver<bool>) {
        // Whichever ends `converse` finds it between two exchanges or waiting for the client, with all state in `self`.
        let end = tokio::select! {
            biased;
            () = stopping(&mut stopped) => End::Stopped,
            () = seat.evicted() => End::Evicted,
            end = self.converse(&seat) => end,
        };
        if self.copies {
            count(&self.desk, |counters| &counters.transfers_broken, 1);
        } else if end == End::Stopped {
            let _ = tokio::time::timeout(STOP_WAIT, self.finish(&seat)).await;
        }
        self.count_end(end);
        self.stream.close(!matches!(end, End::Evicted | End::SlowReader | End::Broken)).await;
    }

    async fn converse(&mut self, seat: &Seat) -> End {
        loop {
            if let Err(end) = self.exchange(seat).await {
                return end;
            }
        }
    }

    /// Reads once and answers what is whole.
    async fn exchange(&mut self, seat: &Seat) -> Result<(), End> {
        self.read(seat).await?;
        self.answer(seat).await
    }

    /// Answers what has already arrived.
    async fn finish(&mut self, seat: &Seat) -> Result<(), End> {
        self.flush(seat).await?;
        for _ in 0..MESSAGE / READ {
            let read = self.stream.read_now(&mut self.inbox).await;
            if !matches!(read, Ok(1..)) {
                break;
            }
            self.answer(seat).await?;
        }
        Ok(())
    }

    /// Waits for octets: for the rest of a message, or for the next one.
    async fn read(&mut self, seat: &Seat) -> Result<(), End> {
        let (deadline, end) = match self.began {
            Some(began) => (began.plus(seat.connections().limits().message), End::SlowQuery),
            None => (seat.idle_since().plus(seat.connections().idle()), End::Idle),
        };
        let left = deadline.since(time::now());
        let read = tokio::time::timeout(left, self.stream.read(&mut self.inbox)).await.map_err(|_| end)?;
        if read.map_err(|_| End::Broken)? == 0 {
            return Err(End::Done);
        }
        self.began.get_or_insert_with(time::now);
        Ok(())
    }

    /// Answers all whole messages in the inbox.
    async fn answer(&mut self, seat: &Seat) -> Result<(), End> {
        loop {
            let left = self.answer_burst(seat.connections());
            self.flush(seat).await?;
            match left {
                Left::Nothing => return Ok(()),
                Left::Messages => {}
                Left::Transfer(transfer) => self.copy(transfer, seat).await?,
                Left::Handed(answer) => self.await_answer(answer, seat).await?,
                Left::Junk => return Err(End::Junk),
            }
        }
    }

    /// Answers as many messages as a burst may have into the outbox.
    fn answer_burst(&mut self, connections: &Connections) -> Left {
        let most = connections.limits().burst;
        let mut desk = self.desk.borrow_mut();
        let Desk { answerer, out } = &mut *desk;
        let mut answers = answerer.begin(connections.idle());
        let (mut taken, mut written, mut received) = (0, 0, 0);
        let left = loop {
            let Some(query) = whole_message(&self.inbox[taken..]) else { break Left::Nothing };
            if query.len() < HEADER {
                break Left::Junk;
            }
            if received == most.max(1) || written >= BURST {
                break Left::Messages;
            }
            let (length_field, answer) = out[written..][..LENGTH + MESSAGE].split_at_mut(LENGTH);
            let outcome = answers.answer(query, self.client, self.transport, answer);
            received += 1;
            taken += LENGTH + query.len();
            let length = match outcome {
                Outcome::Answer(length) => length,
                Outcome::Stream(order) => break Left::Transfer(Box::new(answers.begin(order))),
                Outcome::Handed(handed) => {
                    let (way, waiting) = oneshot::channel();
                    match answers.hand(handed, Way::Stream(way), answer) {
                        0 => break Left::Handed(waiting),
                        busy => busy,
                    }
                }
            };
            if length > 0 {
                length_field.copy_from_slice(&(length as u16).to_be_bytes());
                written += LENGTH + length;
                self.answers += 1;
            }
        };
        answers.counters().tcp_received.add(received as u64);
        self.outbox = Cursor::new(out[..written].to_vec());
        drop(desk);
        self.take(taken);
        left
    }

    /// Waits for the answer to a message that was handed on, and sends it.
    async fn await_answer(&mut self, answer: oneshot::Receiver<Vec<u8>>, seat: &Seat) -> Result<(), End> {
        let answer = tokio::time::timeout(HANDED_WAIT, answer).await.map_err(|_| End::Broken)?;
        let answer = answer.map_err(|_| End::Broken)?;
        self.outbox = Cursor::new([&(answer.len() as u16).to_be_bytes(), &answer[..]].concat());
        self.answers = 1;
        self.flush(seat).await
    }

    /// Sends the copy of a zone, as fast as the client takes it and the others of this thread leave time.
    async fn copy(&mut self, mut transfer: Box<Transfer>, seat: &Seat) -> Result<(), End> {
        let copying = seat.connections().begin_copy();
        self.copies = true;
        while self.write_next(&mut transfer, copying.is_none(), seat.connections()) {
            self.flush(seat).await?;
            if transfer.is_whole() {
                self.copies = false;
                return Ok(());
            }
            tokio::task::yield_now().await;
        }
        // It failed, or panicked.
        Err(End::Broken)
    }

    /// Writes the next message of a copy into the outbox, or that there is none where it `fails`.
    fn write_next(&mut self, transfer: &mut Transfer, fails: bool, connections: &Connections) -> bool {
        let mut desk = self.desk.borrow_mut();
        let Desk { answerer, out } = &mut *desk;
        let (length_field, message) = out[..LENGTH + MESSAGE].split_at_mut(LENGTH);
        let mut answers = answerer.begin(connections.idle());
        let Some(length) = answers.next_message(transfer, fails, message) else { return false };
        length_field.copy_from_slice(&(length as u16).to_be_bytes());
        self.outbox = Cursor::new(out[..LENGTH + length].to_vec());
        self.answers = 1;
        true
    }

    /// Drops the first `octets` of the inbox, which were answered.
    fn take(&mut self, octets: usize) {
        self.inbox.drain(..octets);
        if self.inbox.is_empty() {
            (self.inbox, self.began) = (vec![], None);
        } else if octets > 0 {
            self.began = Some(time::now());
        }
    }

    /// Writes the outbox.
    async fn flush(&mut self, seat: &Seat) -> Result<(), End> {
        if self.answers == 0 {
            return Ok(());
        }
        let patience = seat.connections().limits().write;
        let written = tokio::time::timeout(patience, self.stream.write(&mut self.outbox)).await;
        written.map_err(|_| End::SlowReader)?.map_err(|_| End::Broken)?;
        seat.finished(time::now());
        count(&self.desk, |counters| &counters.tcp_sent, self.answers);
        (self.outbox, self.answers) = (Cursor::default(), 0);
        Ok(())
    }

    fn count_end(&self, end: End) {
        let counter: fn(&Counters) -> &Counter = match end {
            End::Idle => |counters| &counters.tcp_closed_idle,
            End::SlowQuery => |counters| &counters.tcp_closed_slow_query,
            End::SlowReader => |counters| &counters.tcp_closed_slow_reader,
            End::Junk => |counters| &counters.tcp_closed_junk,
            // Evictions are counted where they are decided.
            End::Done | End::Broken | End::Evicted | End::Stopped => return,
        };
        count(&self.desk, counter, 1);
    }
}

/// The message at the start of `octets`, if it is all there.
fn whole_message(octets: &[u8]) -> Option<&[u8]> {
    let (length, rest) = octets.split_first_chunk::<LENGTH>()?;
    rest.get(..usize::from(u16::from_be_bytes(*length)))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{Shutdown, TcpStream};
    use std::time::Instant;

    use super::super::Limits;
    use super::super::testing::{Server, echo, exchange, framed, query, read_message, tcp_exchange, udp_client};
    use super::*;
    use crate::answer::Worker;
    use crate::snapshot::Snapshot;

    const SHORT: Duration = Duration::from_millis(100);

    /// Whether the server closed the connection, orderly or not, without a further message.
    fn is_closed(stream: &mut TcpStream) -> bool {
        match stream.read(&mut [0; 64]) {
            Ok(length) => length == 0,
            Err(error) => error.kind() == io::ErrorKind::ConnectionReset,
        }
    }

    #[test]
    fn frames() {
        for (octets, expected) in [
            (&[][..], None),
            (&[0], None),
            (&[0, 0], Some(&[][..])),
            (&[0, 2, 7], None),
            (&[0, 2, 7, 8, 9], Some(&[7, 8])),
            (&[0xff, 0xff, 1], None),
        ] {
            assert_eq!(whole_message(octets), expected, "{octets:?}");
        }
    }

    #[test]
    fn answers_over_both_families() {
        for listen in ["127.0.0.1:0", "[::1]:0"] {
            let server = Server::start(&[listen], 2, Limits::default(), echo);
            for id in 0..5 {
                let mut stream = server.connect();
                assert!(tcp_exchange(&mut stream, id) && tcp_exchange(&mut stream, id + 1000));
            }
            assert_eq!(server.count(|counters| &counters.tcp_opened), 5);
        }
    }

    #[test]
    fn many_queries_in_one_segment_are_all_answered() {
        // A burst of 7 makes several of them.
        let server = Server::echo(Limits { burst: 7, ..Limits::default() });
        let mut stream = server.connect();
        let (queries, answers): (Vec<_>, Vec<_>) = (0..100).map(query).unzip();
        let segment: Vec<u8> = queries.iter().flat_map(|query| framed(query)).collect();
        stream.write_all(&segment).expect("sent");
        for answer in answers {
            assert_eq!(read_message(&mut stream), Some(answer));
        }
    }

    #[test]
    fn single_octets_make_a_message_and_hold_up_nobody() {
        let server = Server::echo(Limits::default());
        let (mut slow, mut quick) = (server.connect(), server.connect());
        let (query, answer) = query(7);
        for octet in framed(&query) {
            slow.write_all(&[octet]).expect("sent");
            assert!(tcp_exchange(&mut quick, 8));
        }
        assert_eq!(read_message(&mut slow), Some(answer));
    }

    #[test]
    fn a_half_closed_connection_gets_its_answers() {
        let server = Server::echo(Limits::default());
        let mut stream = server.connect();
        stream.write_all(&[framed(&query(1).0), framed(&query(2).0), vec![0, 29, 1]].concat()).expect("sent");
        stream.shutdown(Shutdown::Write).expect("half closed");
        assert_eq!(read_message(&mut stream), Some(query(1).1));
        assert_eq!(read_message(&mut stream), Some(query(2).1));
        assert!(is_closed(&mut stream));
    }

    #[test]
    fn messages_without_an_answer_cost_only_themselves() {
        let server = Server::echo(Limits::default());
        let mut stream = server.connect();
        stream.write_all(&[framed(b"panic, please"), framed(b"silent, please")].concat()).expect("sent");
        assert!(tcp_exchange(&mut stream, 7));
        assert_eq!(server.count(|counters| &counters.panics), 1);
    }

    #[test]
    fn lost_framing_closes_after_the_answers_before_it() {
        let mut server = Server::echo(Limits::default());
        let mut stream = server.connect();
        stream.write_all(&[framed(&query(1).0), framed(&[0; 11]), framed(&[0; 9000])].concat()).expect("sent");
        assert_eq!(read_message(&mut stream), Some(query(1).1));
        assert!(is_closed(&mut stream));
        server.stop();
        assert_eq!(server.count(|counters| &counters.tcp_closed_junk), 1);
    }

    #[test]
    fn the_idle_and_the_slow_are_cut() {
        let limits = Limits { idle: SHORT * 5, message: SHORT, write: SHORT, ..Limits::default() };
        let mut server = Server::echo(limits);
        let mut idle = server.connect();
        let mut dripping = server.connect();
        let began = Instant::now();
        for octet in framed(&query(1).0).into_iter().cycle().take(31 - 1) {
            // Stops when the server has closed; each octet alone comes well before any idle timeout.
            if dripping.write_all(&[octet]).is_err() {
                break;
            }
            thread::sleep(SHORT / 10);
        }
        assert!(is_closed(&mut dripping) && is_closed(&mut idle));
        assert!(began.elapsed() >= SHORT);
        let reading_nothing = server.connect();
        let query = framed(b"long answer, please");
        // 1000 answers of 60 000 octets are more than any socket buffers hold.
        let _ = (&reading_nothing).write_all(&query.repeat(1000));
        let deadline = Instant::now() + Duration::from_secs(10);
        while server.count(|counters| &counters.tcp_closed_slow_reader) == 0 && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(5));
        }
        server.stop();
        let counts = [
            server.count(|counters| &counters.tcp_closed_idle),
            server.count(|counters| &counters.tcp_closed_slow_query),
            server.count(|counters| &counters.tcp_closed_slow_reader),
            server.count(|counters| &counters.tcp_closed),
        ];
        assert_eq!(counts, [1, 1, 1, 3]);
    }

    #[test]
    fn the_oldest_idle_connection_makes_room() {
        let mut server = Server::echo(Limits { connections_per_prefix: 3, ..Limits::default() });
        let mut streams: Vec<TcpStream> = (0..3).map(|_| server.connect()).collect();
        for (id, stream) in streams.iter_mut().enumerate() {
            assert!(tcp_exchange(stream, id as u16));
            thread::sleep(Duration::from_millis(2));
        }
        assert!(tcp_exchange(&mut streams[0], 7));
        let mut newcomer = server.connect();
        assert!(tcp_exchange(&mut newcomer, 8));
        assert!(is_closed(&mut streams[1]));
        assert!(tcp_exchange(&mut streams[0], 9) && tcp_exchange(&mut streams[2], 10));
        server.stop();
        assert_eq!(server.count(|counters| &counters.tcp_closed_for_newcomer), 1);
    }

    #[test]
    fn newcomers_are_served_while_others_hold_all_connections() {
        let server = Server::echo(Limits { connections: 20, connections_per_prefix: 20, ..Limits::default() });
        let holders: Vec<TcpStream> = (0..200).map(|_| server.connect()).collect();
        for mut holder in &holders {
            let _ = holder.write_all(&[0, 29, 1]);
        }
        for id in 0..20 {
            assert!(tcp_exchange(&mut server.connect(), id));
        }
    }

    #[test]
    fn what_arrived_before_stopping_is_answered() {
        let mut server = Server::echo(Limits::default());
        let mut stream = server.connect();
        assert!(tcp_exchange(&mut stream, 1));
        let (queries, answers): (Vec<_>, Vec<_>) = (0..200).map(query).unzip();
        stream.write_all(&queries.iter().flat_map(|query| framed(query)).collect::<Vec<u8>>()).expect("sent");
        let began = Instant::now();
        server.stop();
        assert!(began.elapsed() < Duration::from_secs(1));
        for answer in answers {
            assert_eq!(read_message(&mut stream), Some(answer));
        }
        assert!(is_closed(&mut stream));
        assert!(TcpStream::connect(server.addresses[0]).is_err());
    }

    /// Answers with how long the connection may be idle, in ms, behind the header.
    fn idle(_: &Snapshot, worker: &mut Worker, _: &[u8], _: IpAddr, _: Transport, out: &mut [u8]) -> Outcome {
        let idle = worker.moment.tcp_idle.as_millis() as u64;
        out[..8].copy_from_slice(&idle.to_be_bytes());
        Outcome::Answer(8)
    }

    /// What RFC 7828 has clients told.
    #[test]
    fn answers_know_the_patience_of_the_moment() {
        let limits = Limits { connections: 4, ..Limits::default() };
        let server = Server::start(&["127.0.0.1:0"], 1, limits, idle);
        let told = |stream: &mut TcpStream| {
            stream.write_all(&framed(&query(1).0)).expect("sent");
            read_message(stream).and_then(|told| Some(u64::from_be_bytes(*told.first_chunk()?)))
        };
        let mut streams: Vec<TcpStream> = Vec::new();
        for expected in [limits.idle, limits.idle, limits.idle_when_pressed] {
            streams.push(server.connect());
            let told: Vec<_> = streams.iter_mut().map(told).collect();
            assert_eq!(told, vec![Some(expected.as_millis() as u64); streams.len()]);
        }
    }

    #[test]
    fn stopping_does_not_wait_for_a_slow_reader() {
        let mut server = Server::echo(Limits::default());
        let mut stream = server.connect();
        let _ = stream.set_write_timeout(Some(SHORT));
        let _ = stream.write_all(&framed(b"long answer, please").repeat(1000));
        // Meanwhile others are answered.
        assert!(tcp_exchange(&mut server.connect(), 1));
        let began = Instant::now();
        server.stop();
        assert!(began.elapsed() < Duration::from_secs(1));
    }

    #[test]
    fn both_transports_share_a_server() {
        let server = Server::start(&["127.0.0.1:0", "[::1]:0"], 2, Limits::default(), echo);
        for (address, client) in server.addresses.iter().zip(["127.0.0.1:0", "[::1]:0"]) {
            assert_eq!(exchange(&udp_client(client), *address, &query(1).0).0, query(1).1);
            let mut stream = TcpStream::connect(address).expect("a connection");
            assert!(tcp_exchange(&mut stream, 2));
        }
    }
}
