//! NSD and Knot as primaries, which a server copies a zone from; and one that does whatever it is told, right or not.

use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, OpCode, Query};
use hickory_proto::rr::rdata::{A, NS, SOA};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use waymark::dns::tsig::{self, Signer, Tsig};

use super::peer::{self, Key, Part, Peer};
use super::{client, ports};

/// A primary that is not ours.
pub(crate) struct Primary {
    peer: Peer,
    pub(crate) address: SocketAddr,
}

impl Primary {
    /// Starts `nsd` or `knotd` as primary of a zone of `names` hosts, which tells `secondary` of changes.
    pub(crate) fn start(
        name: &'static str,
        zone: &'static str,
        secondary: SocketAddr,
        key: Option<Key>,
        timers: &str,
    ) -> Primary {
        let (folder, port) = (tempfile::tempdir().expect("a folder"), ports::free());
        let part = Part { zone, port, other: secondary, key };
        let text = match name {
            "nsd" => peer::nsd(part, folder.path(), |secondary, key| {
                format!(
                    "  store-ixfr: yes\n  create-ixfr: yes\n  notify: {secondary} {key}\n  provide-xfr: 127.0.0.1 {key}\n"
                )
            }),
            _ => peer::knot(
                part,
                folder.path(),
                "transfer",
                "    zonefile-load: difference\n    zonefile-sync: -1\n    journal-content: changes\n    notify: other\n",
            ),
        };
        fs::write(Peer::zone_file(folder.path()), zone_text(1, &["192.0.2.1"], timers)).expect("written");
        let peer = Peer::start(name, folder, port, &text);
        peer.wait_serial(zone, 1);
        Primary { address: peer.address, peer }
    }

    /// Serves another version of the zone, in which `static` has these addresses.
    pub(crate) fn change(&self, serial: u32, addresses: &[&str], timers: &str) {
        self.peer.serve(&zone_text(serial, addresses, timers));
    }
}

/// A zone; `timers` are refresh, retry, expire and minimum.
fn zone_text(serial: u32, addresses: &[&str], timers: &str) -> String {
    let mut zone = format!("$TTL 300\n@ SOA ns1 hostmaster {serial} {timers}\n@ NS ns1\nns1 A 127.0.0.1\n");
    for address in addresses {
        let _ = writeln!(zone, "static A {address}");
    }
    for host in 0..20 {
        let _ = writeln!(zone, "host-{host} A 192.0.2.{host}");
    }
    zone + "mail MX 10 static\ntext TXT \"a \\\"b\\\"\"\nwww A 192.0.2.99\nodd TYPE65400 \\# 2 0001\n"
}

/// What a [`Liar`] does when it is asked for a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lie {
    /// A right copy.
    None,
    /// It closes the connection in the middle.
    BreaksOff,
    /// The records never end.
    Endless,
    /// The zone has lost almost everything.
    Shrinks,
    /// The zone has its SOA and nothing else.
    Empty,
    /// The SOA at the end is another one.
    OtherEnd,
    /// A name of another zone.
    OtherZone,
    /// The third message is signed with another key.
    BadThird,
    /// Nothing is signed.
    Unsigned,
    /// A record has no form.
    Malformed,
    /// It refuses.
    Refuses,
}

/// A primary in this process.
pub(crate) struct Liar {
    pub(crate) address: SocketAddr,
    state: Arc<State>,
    over_udp: Option<thread::JoinHandle<()>>,
}

struct State {
    zone: Name,
    serial: AtomicU32,
    lie: Mutex<Lie>,
    key: Option<tsig::Key>,
    /// Copies that were begun.
    copies: AtomicUsize,
    ends: AtomicBool,
}

/// Names of a right copy.
const HOSTS: u32 = 40;

impl Liar {
    pub(crate) fn start(zone: &str, key: Option<tsig::Key>) -> Liar {
        let port = ports::free();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("a free port");
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).expect("a free port");
        socket.set_read_timeout(Some(Duration::from_millis(100))).expect("a timeout");
        let mut zone = Name::from_ascii(zone).expect("a name");
        zone.set_fqdn(true);
        let (serial, lie, copies, ends) =
            (AtomicU32::new(1), Mutex::new(Lie::None), AtomicUsize::new(0), AtomicBool::new(false));
        let state = Arc::new(State { zone, serial, lie, key, copies, ends });
        let (over_udp, over_tcp) = (Arc::clone(&state), Arc::clone(&state));
        let over_udp = Some(thread::spawn(move || over_udp.serve_udp(&socket)));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if over_tcp.ends.load(Ordering::Relaxed) {
                    return;
                }
                let state = Arc::clone(&over_tcp);
                thread::spawn(move || state.serve_tcp(stream));
            }
        });
        Liar { address: (Ipv4Addr::LOCALHOST, port).into(), state, over_udp }
    }

    /// From now on it has this serial, and lies so.
    pub(crate) fn set(&self, serial: u32, lie: Lie) {
        *self.state.lie.lock().expect("no panic") = lie;
        self.state.serial.store(serial, Ordering::Relaxed);
    }

    pub(crate) fn copies(&self) -> usize {
        self.state.copies.load(Ordering::Relaxed)
    }

    /// Tells a secondary that the zone has changed, from `source`; the rcode of the answer.
    pub(crate) fn notify(&self, secondary: SocketAddr, source: IpAddr) -> u16 {
        let socket = UdpSocket::bind((source, 0)).expect("a socket");
        socket.set_read_timeout(Some(super::PATIENCE)).expect("a timeout");
        let mut message = Message::new(77, MessageType::Query, OpCode::Notify);
        message.add_query(Query::query(self.state.zone.clone(), RecordType::SOA));
        let mut octets = message.to_vec().expect("encodes");
        if let Some(key) = &self.state.key {
            sign(&mut Signer::asking(), key, &mut octets);
        }
        socket.send_to(&octets, secondary).expect("sent");
        let mut room = [0; 1024];
        let (length, _) = socket.recv_from(&mut room).expect("an answer");
        assert!(length >= 12 && room[..2] == octets[..2] && room[2] & 0xf8 == 0xa0, "{:?}", &room[..length]);
        u16::from(room[3] & 0xf)
    }
}

impl Drop for Liar {
    fn drop(&mut self) {
        self.state.ends.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address);
        let _ = self.over_udp.take().map(thread::JoinHandle::join);
    }
}

fn sign(signer: &mut Signer, key: &tsig::Key, octets: &mut Vec<u8>) {
    let length = octets.len();
    octets.resize(length + key.room(), 0);
    let length = signer.sign(key, waymark::time::unix_seconds(), octets, length);
    octets.truncate(length);
}

impl State {
    fn serve_udp(&self, socket: &UdpSocket) {
        let mut room = [0; 4096];
        while !self.ends.load(Ordering::Relaxed) {
            let Ok((length, from)) = socket.recv_from(&mut room) else { continue };
            for octets in self.answers(&room[..length]).into_iter().take(1) {
                let _ = socket.send_to(&octets, from);
            }
        }
    }

    fn serve_tcp(&self, mut stream: TcpStream) {
        while let Some(query) = client::read_framed(&mut stream) {
            let is_endless = *self.lie.lock().expect("no panic") == Lie::Endless && is_copy(&query);
            let answers = self.answers(&query);
            let framed = |octets: &[u8]| [&(octets.len() as u16).to_be_bytes(), octets].concat();
            for octets in &answers {
                if stream.write_all(&framed(octets)).is_err() {
                    return;
                }
            }
            // The last message again and again, unsigned, as long as somebody reads.
            while is_endless && stream.write_all(&framed(answers.last().expect("one"))).is_ok() {}
            if is_copy(&query) {
                let _ = stream.shutdown(std::net::Shutdown::Write);
                let _ = stream.read(&mut [0; 1]);
                return;
            }
        }
    }

    fn soa(&self, serial: u32) -> Record {
        let soa = SOA::new(self.zone.clone(), self.zone.clone(), serial, 1, 1, 3600, 30);
        Record::from_rdata(self.zone.clone(), 300, RData::SOA(soa))
    }

    fn host(&self, number: u32) -> Record {
        let name = Name::from_ascii(format!("host-{number}")).expect("a name").append_domain(&self.zone).expect("fits");
        Record::from_rdata(name, 300, RData::A(A::new(192, 0, 2, number as u8)))
    }

    /// The messages that answer a query.
    fn answers(&self, query: &[u8]) -> Vec<Vec<u8>> {
        let Ok(asked) = Message::from_vec(query) else { return Vec::new() };
        let (lie, serial) = (*self.lie.lock().expect("no panic"), self.serial.load(Ordering::Relaxed));
        let mut sections: Vec<Vec<Record>> = vec![vec![self.soa(serial)]];
        if is_copy(query) {
            self.copies.fetch_add(1, Ordering::Relaxed);
            let ns = Record::from_rdata(self.zone.clone(), 300, RData::NS(NS(self.zone.clone())));
            let foreign = Record::from_rdata(
                Name::from_ascii("x.example.org.").expect("a name"),
                300,
                RData::A(A::new(192, 0, 2, 1)),
            );
            sections = (0..4).map(|part| (0..HOSTS / 4).map(|at| self.host(part * HOSTS / 4 + at)).collect()).collect();
            sections[0].insert(0, ns);
            sections[0].insert(0, self.soa(serial));
            let last = sections.last_mut().expect("some");
            match lie {
                Lie::OtherEnd => last.push(self.soa(serial + 1)),
                Lie::Endless | Lie::BreaksOff => {}
                _ => last.push(self.soa(serial)),
            }
            match lie {
                Lie::Shrinks => sections = vec![[&sections[0][..3], &[self.soa(serial)]].concat()],
                Lie::Empty => sections = vec![vec![self.soa(serial), self.soa(serial)]],
                Lie::OtherZone => sections[2].push(foreign),
                _ => {}
            }
        }
        let mut signer = tsig::find(query).and_then(|at| Tsig::read(query, at)).map(|tsig| Signer::answering(&tsig));
        let mut messages = Vec::new();
        for (number, records) in sections.into_iter().enumerate() {
            let mut message = Message::new(asked.id, MessageType::Response, OpCode::Query);
            message.metadata.authoritative = true;
            message.add_queries(asked.queries.clone());
            if lie == Lie::Refuses && is_copy(query) {
                message.metadata.response_code = hickory_proto::op::ResponseCode::Refused;
            }
            message.add_answers(records);
            let mut octets = message.to_vec().expect("encodes");
            if lie == Lie::Malformed && number == 2 {
                let end = octets.len();
                octets[end - 5] = 3;
            }
            let is_bad = lie == Lie::BadThird && number == 2;
            if let (Some(signer), Some(key)) = (&mut signer, &self.key)
                && !(lie == Lie::Unsigned && is_copy(query))
            {
                let other = tsig::Key::new(key.name(), tsig::Algorithm::Sha256, &[9; 32]);
                sign(signer, if is_bad { &other } else { key }, &mut octets);
            }
            messages.push(octets);
        }
        messages
    }
}

fn is_copy(query: &[u8]) -> bool {
    let asked = Message::from_vec(query).ok();
    let rtype = asked.and_then(|asked| asked.queries.first().map(|query| query.query_type()));
    matches!(rtype, Some(RecordType::AXFR | RecordType::IXFR))
}
