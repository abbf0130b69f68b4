//! Asks a primary: for the serial of a zone over UDP, then TCP, and for a copy of it over TCP (RFC 5936, RFC 1995). Everything
//! is bounded: octets, time for each message and for the whole, and each message must be signed where there is a key.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use super::assembly::{Assembly, Copied, Refusal, serial_of};
use crate::control::supply::Supply;
use crate::dns::query::{FLAG_AA, FLAG_QR, FLAG_TC, HEADER, MASK_OPCODE};
use crate::dns::tsig::{Checker, Signer};
use crate::dns::{Class, Name, Rcode, RecordType};
use crate::time::unix_seconds;
use crate::zone::{Received, Records, soa_serial};

/// Wait for an answer over UDP, and how often it is asked for.
const UDP_PATIENCE: Duration = Duration::from_secs(1);
const UDP_TRIES: usize = 2;
/// Longest wait for a connection, and for each message of it.
const MESSAGE_PATIENCE: Duration = Duration::from_secs(10);
/// Longest that a copy may take.
const COPY_PATIENCE: Duration = Duration::from_secs(600);
/// Most octets of a copy.
const MOST_OCTETS: u64 = 1 << 30;
/// Longest message over UDP that is read.
const UDP_ROOM: usize = 4096;
/// A copy may lose all records but those it must have, in 1/10 000.
const ANY_SHRINK: u16 = 10_000;
/// The section of answers.
const ANSWER: usize = 1;

/// Why nothing came of asking.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Failed {
    /// Nobody answered, or not what was asked.
    Primary(String),
    /// What came is not to be served.
    Refused(String),
}

impl Failed {
    fn says(text: impl Into<String>) -> Failed {
        Failed::Primary(text.into())
    }

    fn refuses(text: impl Into<String>) -> Failed {
        Failed::Refused(text.into())
    }
}

/// What was asked, to know the answer by.
struct Asked {
    id: u16,
    question: Vec<u8>,
    checker: Option<Checker>,
}

/// A question about a zone, signed if there is a key.
fn ask(supply: &Supply, rtype: RecordType, soa: Option<&[u8]>) -> (Vec<u8>, Asked) {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let id = RandomState::new().hash_one(COUNT.fetch_add(1, Ordering::Relaxed)) as u16;
    let question = question(&supply.origin, rtype);
    let mut message = vec![0; HEADER];
    message[..2].copy_from_slice(&id.to_be_bytes());
    message[5] = 1;
    message.extend_from_slice(&question);
    if let Some(soa) = soa {
        message[9] = 1;
        // The owner is the name of the question.
        message.extend_from_slice(&[0xc0, HEADER as u8]);
        message.extend_from_slice(&RecordType::SOA.0.to_be_bytes());
        message.extend_from_slice(&Class::IN.0.to_be_bytes());
        message.extend_from_slice(&[0; 4]);
        message.extend_from_slice(&(soa.len() as u16).to_be_bytes());
        message.extend_from_slice(soa);
    }
    let checker = supply.key.as_ref().map(|key| {
        let (length, mut signer) = (message.len(), Signer::asking());
        message.resize(length + key.room(), 0);
        let length = signer.sign(key, unix_seconds(), &mut message, length);
        message.truncate(length);
        Checker::new(key, &signer)
    });
    (message, Asked { id, question, checker })
}

impl Asked {
    /// The next message of the answer, behind its question.
    fn read<'m>(&mut self, message: &'m [u8], is_first: bool) -> Result<Received<'m>, Failed> {
        let mut received = Received::new(message).ok_or_else(|| Failed::says("its answer is no message"))?;
        if received.id() != self.id || received.flags() & (FLAG_QR | MASK_OPCODE) != FLAG_QR {
            return Err(Failed::says("its answer is to something else"));
        }
        let rcode = received.flags() & 0xf;
        if let Some(checker) = &mut self.checker
            && let Err(fault) = checker.check(message, unix_seconds())
        {
            // Whoever does not know the key cannot sign that he does not.
            return Err(match rcode {
                0 => Failed::says(format!("its answer is not signed well ({fault:?})")),
                _ => Failed::says(format!("it answers {}, not signed well ({fault:?})", Rcode(rcode))),
            });
        }
        if rcode != 0 {
            return Err(Failed::says(format!("it answers {}", Rcode(rcode))));
        }
        let question = received.question().map_err(|_| Failed::says("its answer has no form"))?;
        let is_ours = |name: &Name, rtype: RecordType| {
            let mut own = name.as_wire().to_vec();
            own.extend(rtype.0.to_be_bytes());
            own.eq_ignore_ascii_case(&self.question[..self.question.len() - 2])
        };
        match question {
            // Those behind the first may go without (RFC 5936 §2.2.1).
            None if !is_first => Ok(received),
            Some(question) if is_ours(&question.name, question.rtype) && received.left(0) == 0 => Ok(received),
            _ => Err(Failed::says("its answer is to something else")),
        }
    }
}

/// The serial that a primary has.
pub(super) async fn serial(supply: &Supply, primary: SocketAddr) -> Result<u32, Failed> {
    for _ in 0..UDP_TRIES {
        match timeout(UDP_PATIENCE, serial_over_udp(supply, primary)).await {
            Ok(Ok(Some(serial))) => return Ok(serial),
            // Truncated, or something that TCP may do better.
            Ok(Ok(None) | Err(_)) => break,
            Err(_) => {}
        }
    }
    let over_tcp = async {
        let mut stream = connect(primary).await?;
        let (message, mut asked) = ask(supply, RecordType::SOA, None);
        send(&mut stream, &message).await?;
        let mut answer = Vec::new();
        receive(&mut stream, &mut answer).await?;
        serial_in(&answer, &mut asked)
    };
    over_tcp.await?.ok_or_else(|| Failed::says("its answer is cut off over TCP"))
}

async fn serial_over_udp(supply: &Supply, primary: SocketAddr) -> Result<Option<u32>, Failed> {
    let any: IpAddr = if primary.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
    let failed = |error: std::io::Error| Failed::says(error.to_string());
    let socket = UdpSocket::bind((any, 0)).await.map_err(failed)?;
    socket.connect(primary).await.map_err(failed)?;
    let (message, mut asked) = ask(supply, RecordType::SOA, None);
    socket.send(&message).await.map_err(failed)?;
    let mut room = [0; UDP_ROOM];
    loop {
        let length = socket.recv(&mut room).await.map_err(failed)?;
        // Anybody may send what answers something else.
        if length >= HEADER && room[..2] == asked.id.to_be_bytes() {
            return serial_in(&room[..length], &mut asked);
        }
    }
}

/// The serial that an answer says; none of one that is truncated.
fn serial_in(answer: &[u8], asked: &mut Asked) -> Result<Option<u32>, Failed> {
    let origin = asked.question[..asked.question.len() - 4].to_vec();
    let mut received = asked.read(answer, true)?;
    if received.flags() & FLAG_TC != 0 {
        return Ok(None);
    }
    if received.flags() & FLAG_AA == 0 {
        return Err(Failed::says("it has no authority over the zone"));
    }
    while let Some(record) = received.next(ANSWER).map_err(|_| Failed::says("its answer has no form"))? {
        if record.rtype == RecordType::SOA && record.owner.eq_ignore_ascii_case(&origin) {
            return Ok(soa_serial(&record.rdata));
        }
    }
    Err(Failed::says("its answer has no SOA"))
}

/// Copies a zone from a primary, of which we have `served`: what changed, if it says that, else all of it.
pub(super) async fn copy(
    supply: &Supply,
    primary: SocketAddr,
    served: Option<&Arc<Records>>,
) -> Result<Copied, Failed> {
    let copied = async {
        if let Some(known) = served {
            match copy_as(RecordType::IXFR, supply, primary, served, Some(known)).await {
                Err(Some(failed)) => return Err(failed),
                Ok(copied) => return Ok(copied),
                // Not what we have: all of it, then.
                Err(None) => {}
            }
        }
        let whole = copy_as(RecordType::AXFR, supply, primary, served, None).await;
        whole.map_err(|failed| failed.unwrap_or_else(|| Failed::refuses("its copy is not that of a whole zone")))
    };
    let late = |_| Failed::refuses(format!("its copy took more than {COPY_PATIENCE:?}"));
    timeout(COPY_PATIENCE, copied).await.map_err(late)?
}

/// `Err(None)` when all of it is to be asked for.
async fn copy_as(
    rtype: RecordType,
    supply: &Supply,
    primary: SocketAddr,
    served: Option<&Arc<Records>>,
    known: Option<&Arc<Records>>,
) -> Result<Copied, Option<Failed>> {
    let soa = known.and_then(|known| known.iter().find(|record| record.rtype == RecordType::SOA));
    let (message, asked) = ask(supply, rtype, soa.map(|soa| soa.rdata));
    let mut stream = connect(primary).await?;
    send(&mut stream, &message).await?;
    let (mut copying, mut answer) = (Copying::new(asked, &supply.origin, known), Vec::new());
    loop {
        receive(&mut stream, &mut answer).await?;
        if copying.take(&answer)? {
            return copying.assembly.finish(served.map(|served| &**served), supply.max_shrink).map_err(refuse);
        }
    }
}

/// What is wrong with a copy; `None` when all of it is to be asked for.
fn refuse(refusal: Refusal) -> Option<Failed> {
    match refusal {
        Refusal::Mismatch => None,
        Refusal::Wrong(what) => Some(Failed::refuses(format!("its copy is not taken: {what}"))),
        Refusal::Shrunk(lost, before) => Some(Failed::refuses(format!(
            "its copy is not taken: it has lost {lost} of {before} records, more than `max-shrink` allows"
        ))),
    }
}

/// A copy while its messages come.
struct Copying<'a> {
    asked: Asked,
    assembly: Assembly<'a>,
    /// Whether what changed was asked for.
    in_steps: bool,
    octets: u64,
    is_first: bool,
}

impl<'a> Copying<'a> {
    fn new(asked: Asked, origin: &'a Name, known: Option<&'a Arc<Records>>) -> Copying<'a> {
        let (assembly, in_steps) = (Assembly::new(origin, known), known.is_some());
        Copying { asked, assembly, in_steps, octets: 0, is_first: true }
    }

    /// Takes the next message; whether it is the last one. `Err(None)` when all of the zone is to be asked for.
    fn take(&mut self, message: &[u8]) -> Result<bool, Option<Failed>> {
        self.octets += message.len() as u64;
        if self.octets > MOST_OCTETS {
            return Err(Some(Failed::refuses(format!("its copy has more than {MOST_OCTETS} octets"))));
        }
        let is_first = std::mem::replace(&mut self.is_first, false);
        let mut received = match self.asked.read(message, is_first) {
            // Some know no IXFR.
            Err(_) if is_first && self.in_steps && message.get(3).is_some_and(|flags| matches!(flags & 0xf, 1 | 4)) => {
                return Err(None);
            }
            received => received?,
        };
        let form = |_| Some(Failed::refuses("its copy is not taken: a record without form"));
        let records = received.left(ANSWER);
        while let Some(record) = received.next(ANSWER).map_err(form)? {
            self.assembly.take(&record).map_err(refuse)?;
        }
        // A message with one SOA and no more may be all there is (RFC 1995 §4); it is looked at without waiting for more.
        let says_nothing = is_first && self.in_steps && records == 1;
        let is_signed = self.asked.checker.as_ref().is_none_or(Checker::is_signed);
        if self.assembly.is_done() && !is_signed {
            return Err(Some(Failed::refuses("its copy is not taken: the end is not signed")));
        }
        Ok(self.assembly.is_done() || says_nothing)
    }
}

/// What a primary's answer makes of a zone of which we have `known`, if anything new: `octets` are its messages, each behind
/// its length, with id 0 and not signed.
///
/// # Errors
/// Why it is not taken.
pub fn assemble(origin: &Name, known: Option<&Arc<Records>>, mut octets: &[u8]) -> Result<Option<Records>, String> {
    let question = question(origin, if known.is_some() { RecordType::IXFR } else { RecordType::AXFR });
    let mut copying = Copying::new(Asked { id: 0, question, checker: None }, origin, known);
    let why = |failed| match failed {
        None => "all of it is to be asked for".to_string(),
        Some(Failed::Primary(why) | Failed::Refused(why)) => why,
    };
    while let Some((length, rest)) = octets.split_first_chunk() {
        let whole = rest.split_at_checked(u16::from_be_bytes(*length).into());
        let (message, behind) = whole.ok_or("a message that is cut off")?;
        octets = behind;
        if copying.take(message).map_err(why)? {
            break;
        }
    }
    let copied =
        copying.assembly.finish(known.map(|known| &**known), ANY_SHRINK).map_err(|refusal| why(refuse(refusal)))?;
    Ok(match copied {
        Copied::Nothing => None,
        Copied::Zone(records) => Some(records),
    })
}

fn question(origin: &Name, rtype: RecordType) -> Vec<u8> {
    [origin.as_wire(), &rtype.0.to_be_bytes(), &Class::IN.0.to_be_bytes()].concat()
}

async fn connect(primary: SocketAddr) -> Result<TcpStream, Failed> {
    let connected = timeout(MESSAGE_PATIENCE, TcpStream::connect(primary)).await;
    let stream = connected.map_err(|_| Failed::says("no connection in time"))?;
    stream.map_err(|error| Failed::says(format!("no connection: {error}")))
}

async fn send(stream: &mut TcpStream, message: &[u8]) -> Result<(), Failed> {
    let framed = [&(message.len() as u16).to_be_bytes(), message].concat();
    let sent = timeout(MESSAGE_PATIENCE, stream.write_all(&framed)).await;
    let sent = sent.map_err(|_| Failed::says("it does not read in time"))?;
    sent.map_err(|error| Failed::says(format!("the connection broke: {error}")))
}

/// The next message, into `answer`.
async fn receive(stream: &mut TcpStream, answer: &mut Vec<u8>) -> Result<(), Failed> {
    let read = async {
        let length = stream.read_u16().await?;
        answer.resize(length.into(), 0);
        stream.read_exact(answer).await.map(drop)
    };
    let read = timeout(MESSAGE_PATIENCE, read).await.map_err(|_| Failed::says("no answer in time"))?;
    read.map_err(|error| match error.kind() {
        std::io::ErrorKind::UnexpectedEof => Failed::says("the connection ended before its answer"),
        _ => Failed::says(format!("the connection broke: {error}")),
    })
}

/// The serial of what is served, if anything is.
pub(super) fn serial_served(served: Option<&Arc<Records>>) -> Option<u32> {
    served.and_then(|records| serial_of(records))
}
