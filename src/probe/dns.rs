//! `dns`: one query to a name server; a target passes with the expected rcode and, where one is named, record.
//!
//! ```text
//!   UDP, connected to the target ─► response with our id and question ─┬─► judged
//!                                        │ TC                          │
//!                                        └─► the same over TCP ────────┘
//! ```
//!
//! One datagram is sent per probe: a lost one is a failure, which `fall` and `window` weigh. The query asks for recursion,
//! which authoritative servers ignore, and has no EDNS, so that any server understands it. Datagrams that are no response
//! to it are passed over, up to a bound.

use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, OpCode, Query as Question};
use hickory_proto::rr::{Name as MessageName, RData, RecordType as MessageRecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout_at};

use crate::dns::{Name, Rcode, RecordType};
use crate::fleet::Target;
use crate::probe::{Check, Finding, Probe, reason, socket_address, source_of, tcp};

/// Room for a datagram; without EDNS none is longer than 512 octets.
const DATAGRAM: usize = 4096;
/// Most datagrams that are passed over.
const MOST_PASSED_OVER: usize = 100;
/// Most records that a reason lists.
const MOST_LISTED: usize = 3;

/// A `dns` check.
#[derive(Clone, Debug, PartialEq)]
pub struct Dns {
    /// Name that is asked for.
    pub name: Name,
    /// Type that is asked for.
    pub rtype: RecordType,
    /// Rcode that passes.
    pub expect_rcode: Rcode,
    /// Data of a record that the answer must hold, as text: `192.0.2.1`, `www.example.com`, `10 mail.example.com`.
    pub expect_answer: Option<String>,
}

/// A query to one target.
pub(super) struct Lookup {
    /// The error says why this node cannot ask.
    question: Result<Question, String>,
    kind: Dns,
    address: SocketAddr,
    source: Option<IpAddr>,
    timeout: Duration,
}

impl Lookup {
    pub(super) fn new(kind: &Dns, check: &Check, target: &Target) -> Lookup {
        let name = MessageName::from_labels(kind.name.labels());
        let question = name.map(|name| Question::query(name, MessageRecordType::from(kind.rtype.0)));
        Lookup {
            question: question.map_err(|error| format!("cannot ask for {}: {error}", kind.name)),
            kind: kind.clone(),
            address: socket_address(target),
            source: source_of(check, target),
            timeout: check.policy.timeout,
        }
    }

    async fn probe(&self) -> Finding {
        match &self.question {
            Ok(question) => self.ask(question).await.unwrap_or_else(|finding| finding),
            Err(reason) => Finding::no_verdict(reason),
        }
    }

    /// Pass, or whatever ended it before.
    async fn ask(&self, question: &Question) -> Result<Finding, Finding> {
        let deadline = Instant::now() + self.timeout;
        let asked = Asked::new(question).map_err(|error| Finding::no_verdict(&format!("cannot ask: {error}")))?;
        let mut response = timeout_at(deadline, self.over_udp(&asked))
            .await
            .map_err(|_| reason::timeout(self.timeout, "waiting for a response"))??;
        if response.metadata.truncation {
            response = timeout_at(deadline, self.over_tcp(&asked))
                .await
                .map_err(|_| reason::timeout(self.timeout, "over TCP, after a truncated response"))??;
        }
        self.judge(&response)
    }

    async fn over_udp(&self, asked: &Asked<'_>) -> Result<Message, Finding> {
        let socket = connect(self.address, self.source).await.map_err(|error| self.failed(&error))?;
        socket.send(&asked.octets).await.map_err(|error| self.failed(&error))?;
        let mut buffer = vec![0; DATAGRAM];
        for _ in 0..MOST_PASSED_OVER {
            let length = socket.recv(&mut buffer).await.map_err(|error| self.failed(&error))?;
            if let Some(response) = asked.response(&buffer[..length]) {
                return response;
            }
        }
        Err(Finding::fail("answers to other questions only"))
    }

    async fn over_tcp(&self, asked: &Asked<'_>) -> Result<Message, Finding> {
        let octets = exchange(self.address, self.source, &asked.octets).await.map_err(|error| self.failed(&error))?;
        let response = asked.response(&octets).unwrap_or_else(|| Err(Finding::fail("answer to another question")))?;
        if response.metadata.truncation {
            return Err(Finding::fail("truncated response over TCP"));
        }
        Ok(response)
    }

    fn failed(&self, error: &io::Error) -> Finding {
        reason::of(error, self.address.ip())
    }

    fn judge(&self, response: &Message) -> Result<Finding, Finding> {
        let (rcode, expected) = (Rcode(u16::from(response.metadata.response_code)), self.kind.expect_rcode);
        if rcode != expected {
            return Err(Finding::fail(&format!("rcode {rcode}, expected {expected}")));
        }
        let Some(expected) = &self.kind.expect_answer else { return Ok(Finding::pass(&format!("rcode {rcode}"))) };
        let rtype = MessageRecordType::from(self.kind.rtype.0);
        let of_type = response.answers.iter().map(|record| &record.data).filter(|data| data.record_type() == rtype);
        let answers: Vec<String> = of_type.map(comparable).collect();
        if answers.contains(&comparable_text(self.kind.rtype, expected)) {
            return Ok(Finding::pass(&format!("answer {expected}")));
        }
        let found = listed(self.kind.rtype, &answers);
        Err(Finding::fail(&format!("{found}, expected {expected}")))
    }
}

impl Probe for Lookup {
    fn run(&self) -> Pin<Box<dyn Future<Output = Finding> + Send + '_>> {
        Box::pin(self.probe())
    }
}

/// A query as it was sent.
struct Asked<'q> {
    id: u16,
    question: &'q Question,
    octets: Vec<u8>,
}

impl Asked<'_> {
    fn new(question: &Question) -> Result<Asked<'_>, String> {
        let id = RandomState::new().hash_one(0) as u16;
        let mut message = Message::new(id, MessageType::Query, OpCode::Query);
        message.metadata.recursion_desired = true;
        message.add_query(question.clone());
        let octets = message.to_vec().map_err(|error| error.to_string())?;
        Ok(Asked { id, question, octets })
    }

    /// The response in these octets; `None` where they answer something else.
    fn response(&self, octets: &[u8]) -> Option<Result<Message, Finding>> {
        if octets.get(..2) != Some(&self.id.to_be_bytes()[..]) {
            return None;
        }
        let Ok(message) = Message::from_vec(octets) else { return Some(Err(Finding::fail("response not readable"))) };
        // Servers may leave the question out where they could not read it, or would not.
        let is_ours = match &message.queries[..] {
            [] => message.answers.is_empty() && message.metadata.response_code != Default::default(),
            [question] => question == self.question,
            _ => false,
        };
        (message.metadata.message_type == MessageType::Response && is_ours).then_some(Ok(message))
    }
}

async fn connect(address: SocketAddr, source: Option<IpAddr>) -> io::Result<UdpSocket> {
    let any = if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind(SocketAddr::new(source.unwrap_or(any), 0)).await?;
    socket.connect(address).await?;
    Ok(socket)
}

/// Sends a message over TCP and reads one (RFC 1035 §4.2.2).
async fn exchange(address: SocketAddr, source: Option<IpAddr>, query: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = tcp::connect(address, source).await?;
    let length = u16::try_from(query.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), query].concat()).await?;
    let length = stream.read_u16().await?;
    let mut response = vec![0; usize::from(length)];
    stream.read_exact(&mut response).await?;
    Ok(response)
}

/// Record data as text that is the same where they mean the same.
fn comparable(data: &RData) -> String {
    comparable_text(RecordType(data.record_type().into()), &data.to_string())
}

/// Names are compared without case and final dot, texts as they are.
fn comparable_text(rtype: RecordType, text: &str) -> String {
    if rtype == RecordType::TXT {
        return text.to_string();
    }
    let words = text.split_whitespace().map(|word| match word.trim_end_matches('.') {
        "" => word.to_string(),
        word => word.to_ascii_lowercase(),
    });
    words.collect::<Vec<_>>().join(" ")
}

/// `answer 192.0.2.1, 192.0.2.2`.
fn listed(rtype: RecordType, answers: &[String]) -> String {
    let shown = answers[..answers.len().min(MOST_LISTED)].join(", ");
    match answers.len() {
        0 => format!("no {rtype} in the answer"),
        count if count > MOST_LISTED => format!("answer {shown}, {} more", count - MOST_LISTED),
        _ => format!("answer {shown}"),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use hickory_proto::op::ResponseCode;
    use hickory_proto::rr::Record;
    use hickory_proto::rr::rdata::{CNAME, TXT};

    use super::*;
    use crate::probe::{Kind, backends};

    const AMPLE: Duration = Duration::from_secs(20);
    const SHORT: Duration = Duration::from_millis(300);

    /// What a server makes of a query over UDP (false) or TCP (true): messages that it sends.
    type Serve = dyn Fn(Message, bool) -> Vec<Vec<u8>> + Send + Sync;

    /// A name server on UDP and TCP.
    async fn serving(serve: impl Fn(Message, bool) -> Vec<Vec<u8>> + Send + Sync + 'static) -> SocketAddr {
        let serve: Arc<Serve> = Arc::new(serve);
        let over_tcp = Arc::clone(&serve);
        let address = backends::listen(move |mut stream| {
            let serve = Arc::clone(&over_tcp);
            async move {
                let mut query = vec![0; usize::from(stream.read_u16().await.unwrap())];
                stream.read_exact(&mut query).await.unwrap();
                for response in serve(Message::from_vec(&query).unwrap(), true) {
                    let _ = stream.write_u16(response.len() as u16).await;
                    let _ = stream.write_all(&response).await;
                }
            }
        })
        .await;
        let socket = UdpSocket::bind(address).await.unwrap();
        tokio::spawn(async move {
            let mut buffer = [0; 512];
            while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
                for response in serve(Message::from_vec(&buffer[..length]).unwrap(), false) {
                    let _ = socket.send_to(&response, from).await;
                }
            }
        });
        address
    }

    fn response(query: &Message, rcode: ResponseCode, data: Vec<RData>) -> Message {
        let mut message = query.clone();
        message.metadata.message_type = MessageType::Response;
        message.metadata.response_code = rcode;
        let name = message.queries[0].name().clone();
        message.add_answers(data.into_iter().map(|data| Record::from_rdata(name.clone(), 5, data)));
        message
    }

    fn octets(message: Message) -> Vec<u8> {
        message.to_vec().unwrap()
    }

    fn a(last: u8) -> RData {
        RData::A(Ipv4Addr::new(192, 0, 2, last).into())
    }

    /// `www.example.com A`, expecting NOERROR.
    fn www() -> Dns {
        Dns {
            name: Name::parse("www.example.com", None).unwrap(),
            rtype: RecordType::A,
            expect_rcode: Rcode::NOERROR,
            expect_answer: None,
        }
    }

    fn expecting(rtype: RecordType, answer: &str) -> Dns {
        Dns { rtype, expect_answer: Some(answer.into()), ..www() }
    }

    async fn probe(kind: Dns, address: SocketAddr, timeout: Duration) -> Finding {
        let check = backends::check(Kind::Dns(kind.clone()), timeout);
        Lookup::new(&kind, &check, &backends::target(address, None)).probe().await
    }

    #[tokio::test]
    async fn answers() {
        let server = serving(|query, _| {
            let data = match query.queries[0].query_type() {
                MessageRecordType::A => (1..=5).map(a).collect(),
                MessageRecordType::CNAME => {
                    vec![RData::CNAME(CNAME(MessageName::from_ascii("Web.Example.NET.").unwrap()))]
                }
                MessageRecordType::TXT => vec![RData::TXT(TXT::new(vec!["All is ".into(), "well".into()]))],
                _ => Vec::new(),
            };
            vec![octets(response(&query, ResponseCode::NoError, data))]
        })
        .await;
        let refusing = serving(|query, _| vec![octets(response(&query, ResponseCode::Refused, Vec::new()))]).await;
        let bare = serving(|mut query, _| {
            query.queries.clear();
            query.metadata.message_type = MessageType::Response;
            query.metadata.response_code = ResponseCode::FormErr;
            vec![octets(query)]
        })
        .await;
        let rows = [
            (server, www(), Finding::pass("rcode NOERROR")),
            (server, expecting(RecordType::A, "192.0.2.5"), Finding::pass("answer 192.0.2.5")),
            (
                server,
                expecting(RecordType::A, "192.0.2.9"),
                Finding::fail("answer 192.0.2.1, 192.0.2.2, 192.0.2.3, 2 more, expected 192.0.2.9"),
            ),
            (server, expecting(RecordType::CNAME, "web.example.net"), Finding::pass("answer web.example.net")),
            (server, expecting(RecordType::TXT, "All is well"), Finding::pass("answer All is well")),
            (
                server,
                expecting(RecordType::TXT, "all is well"),
                Finding::fail("answer All is well, expected all is well"),
            ),
            (
                server,
                expecting(RecordType::AAAA, "2001:db8::1"),
                Finding::fail("no AAAA in the answer, expected 2001:db8::1"),
            ),
            (refusing, www(), Finding::fail("rcode REFUSED, expected NOERROR")),
            (refusing, Dns { expect_rcode: Rcode::REFUSED, ..www() }, Finding::pass("rcode REFUSED")),
            (bare, www(), Finding::fail("rcode FORMERR, expected NOERROR")),
            (backends::refusing().await, www(), Finding::fail("connection refused")),
        ];
        for (address, kind, finding) in rows {
            assert_eq!(probe(kind.clone(), address, AMPLE).await, finding, "{kind:?}");
        }
    }

    #[tokio::test]
    async fn what_answers_something_else_is_passed_over() {
        let noisy = serving(|query, _| {
            let good = response(&query, ResponseCode::NoError, vec![a(1)]);
            let mut other_id = good.clone();
            other_id.metadata.id ^= 1;
            other_id.metadata.response_code = ResponseCode::ServFail;
            let mut other_question = good.clone();
            other_question.queries[0].name = MessageName::from_ascii("a.example.").unwrap();
            other_question.metadata.response_code = ResponseCode::ServFail;
            vec![b"noise".to_vec(), octets(other_id), octets(other_question), octets(query), octets(good)]
        })
        .await;
        assert_eq!(probe(www(), noisy, AMPLE).await, Finding::pass("rcode NOERROR"));
        let flooding = serving(|_, _| vec![b"noise".to_vec(); 2 * MOST_PASSED_OVER]).await;
        assert_eq!(probe(www(), flooding, AMPLE).await, Finding::fail("answers to other questions only"));
        let broken = serving(|query, _| vec![octets(query)[..8].to_vec()]).await;
        assert_eq!(probe(www(), broken, AMPLE).await, Finding::fail("response not readable"));
    }

    #[tokio::test]
    async fn a_truncated_response_is_asked_for_over_tcp() {
        let truncated = |query: &Message| {
            let mut message = response(query, ResponseCode::NoError, Vec::new());
            message.metadata.truncation = true;
            octets(message)
        };
        let whole = serving(move |query, over_tcp| {
            let all = (1..=200).map(a).collect();
            vec![if over_tcp { octets(response(&query, ResponseCode::NoError, all)) } else { truncated(&query) }]
        })
        .await;
        let kind = expecting(RecordType::A, "192.0.2.200");
        assert_eq!(probe(kind.clone(), whole, AMPLE).await, Finding::pass("answer 192.0.2.200"));
        let rows: [(&'static Serve, Duration, &str); 3] = [
            (&|_, _| vec![b"xxxxxxxxxxxx".to_vec()], AMPLE, "answer to another question"),
            (&|_, _| Vec::new(), AMPLE, "connection closed"),
            (&|query, _| vec![[&octets(query)[..2], &[0; 20]].concat()], AMPLE, "answer to another question"),
        ];
        for (over_tcp, timeout, reason) in rows {
            let server =
                serving(move |query, is_tcp| if is_tcp { over_tcp(query, true) } else { vec![truncated(&query)] });
            assert_eq!(probe(kind.clone(), server.await, timeout).await, Finding::fail(reason));
        }
        let always = serving(move |query, _| vec![truncated(&query)]).await;
        assert_eq!(probe(kind, always, AMPLE).await, Finding::fail("truncated response over TCP"));
    }

    #[tokio::test]
    async fn silence_and_drips_end_by_the_timeout() {
        let silent = serving(|_, _| Vec::new()).await;
        assert_eq!(probe(www(), silent, SHORT).await, Finding::fail("timeout after 300ms (waiting for a response)"));
        let drips = backends::listen(|mut stream| async move {
            let _ = stream.write_u16(u16::MAX).await;
            while stream.write_all(b"x").await.is_ok() {
                tokio::time::sleep(SHORT / 30).await;
            }
        })
        .await;
        let socket = UdpSocket::bind(drips).await.unwrap();
        tokio::spawn(async move {
            let mut buffer = [0; 512];
            let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
            let mut message = response(&Message::from_vec(&buffer[..length]).unwrap(), ResponseCode::NoError, vec![]);
            message.metadata.truncation = true;
            socket.send_to(&octets(message), from).await.unwrap();
        });
        let finding = probe(www(), drips, SHORT).await;
        assert_eq!(finding, Finding::fail("timeout after 300ms (over TCP, after a truncated response)"));
    }

    #[tokio::test]
    async fn a_source_that_this_node_lacks_is_no_verdict() {
        let check = Check { source: Some(backends::NOT_OURS), ..backends::check(Kind::Dns(www()), AMPLE) };
        let lookup = Lookup::new(&www(), &check, &backends::target(backends::refusing().await, None));
        let finding = Finding::no_verdict("no such source address or no free port on this node");
        assert_eq!(lookup.probe().await, finding);
    }
}
