//! DNS over HTTP/3 (RFC 9114): what is asked, and how, is what it is over HTTP/2 (`doh::request`).
//!
//! A client that is slow to end its request, or never does, costs its stream; what HTTP/3 keeps of frames that are not whole is
//! bounded by looking at how much came whenever there is something to read.

use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use bytes::Buf;
use h3::error::Code;
use h3::server::{RequestResolver, RequestStream, builder};
use http::Method;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::desk::{self, stopping};
use super::doh::{self, Site, request};
use super::pulse::{Answer, Fault, Request};
use super::quic::{End, Link, STOP_WAIT};
use crate::answer::Transport;
use request::{Asked, Refusal};

/// What is agreed on in a handshake.
pub(super) const PROTOCOL: &str = "h3";
/// Streams of one direction that a client may open: control, two of header compression, and some without a meaning
/// (RFC 9114 §6.2).
pub(super) const UNIDIRECTIONAL: u32 = 8;

/// What a client is told at the end of its connection.
pub(super) fn code(end: End) -> u32 {
    let code = match end {
        End::Done | End::Evicted | End::Fault(Fault::Idle) => Code::H3_NO_ERROR,
        End::Fault(Fault::SlowReader | Fault::Wasteful) => Code::H3_EXCESSIVE_LOAD,
        End::Misuse => Code::H3_GENERAL_PROTOCOL_ERROR,
    };
    u32::try_from(code.value()).unwrap_or_default()
}

type Resolver = RequestResolver<h3_quinn::Connection, Answer>;
type Stream = RequestStream<h3_quinn::BidiStream<Answer>, Answer>;

/// Serves a connection until its client closes it; when stopped, until what came is answered.
pub(super) async fn serve(link: &Rc<Link>, site: &Arc<Site>, mut stopped: watch::Receiver<bool>) -> End {
    let mut builder = builder();
    builder.max_field_section_size(u64::from(doh::HEAD)).send_grease(false);
    let connection = tokio::select! {
        biased;
        // A client may leave no room for the stream that HTTP/3 begins with.
        () = stopping(&mut stopped) => return End::Done,
        connection = builder.build(h3_quinn::Connection::new(link.connection.clone())) => connection,
    };
    let Ok(mut connection) = connection else { return End::Done };
    let mut streams = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            () = stopping(&mut stopped) => break,
            Some(_) = streams.join_next() => {}
            opened = metered(link, connection.accept()) => {
                let Some(Ok(Some(resolver))) = opened else { return end(link) };
                streams.spawn_local(exchange(Rc::clone(link), Arc::clone(site), resolver));
            }
        }
    }
    let rest = async {
        let _ = connection.shutdown(0).await;
        while streams.join_next().await.is_some() {}
    };
    let _ = tokio::time::timeout(STOP_WAIT, rest).await;
    End::Done
}

/// How it ended when nothing more can come. The client is told before `h3` tells it less.
fn end(link: &Link) -> End {
    let end = link.pulse.wasted().map_or(End::Done, End::Fault);
    link.close(code(end));
    end
}

/// Does what reads from a connection, as long as it does not waste what is read. `None` = it did.
async fn metered<T>(link: &Link, work: impl Future<Output = T>) -> Option<T> {
    let mut work = pin!(work);
    poll_fn(|context| match link.meter() {
        Ok(()) => work.as_mut().poll(context).map(Some),
        Err(_) => Poll::Ready(None),
    })
    .await
}

/// A request and its response. Errors are the client's or the network's.
async fn exchange(link: Rc<Link>, site: Arc<Site>, resolver: Resolver) {
    let mut request = link.pulse.begin();
    let Some(Some(asked)) = metered(&link, read(&site, resolver, &mut request)).await else {
        desk::count(&link.desk, |counters| &counters.http_refused, 1);
        return;
    };
    let Asking { mut stream, is_head, query } = asked;
    request.room().await;
    let answer = query.and_then(|query| {
        doh::answer(&link.desk, &query, link.client, Transport::Https3, |counters| &counters.quic_received)
    });
    match answer {
        Ok(answer) => {
            let head = site.head(&answer);
            let answer = request.answered(if is_head { vec![] } else { answer });
            if stream.send_response(head).await.is_ok() && stream.send_data(answer).await.is_ok() {
                desk::count(&link.desk, |counters| &counters.quic_sent, 1);
            }
        }
        Err(refusal) => {
            desk::count(&link.desk, |counters| &counters.http_refused, 1);
            let _ = stream.send_response(refusal.head()).await;
            stream.stop_sending(Code::H3_NO_ERROR);
        }
    }
    let _ = stream.finish().await;
}

/// A request whose head is there.
struct Asking {
    stream: Stream,
    is_head: bool,
    query: Result<Vec<u8>, Refusal>,
}

/// `None` = there is no head, and so nothing to respond to.
async fn read(site: &Site, resolver: Resolver, request: &mut Request) -> Option<Asking> {
    let patience = request.limits().message;
    let (head, mut stream) = tokio::time::timeout(patience, resolver.resolve_request()).await.ok()?.ok()?;
    let is_head = head.method() == Method::HEAD;
    let asked = request::read(&site.path, head.method(), head.uri(), head.headers());
    drop(head);
    let query = match asked {
        Ok(Asked::Query(query)) => Ok(query),
        Ok(Asked::Body) => {
            let body = tokio::time::timeout(patience, whole(&mut stream, request)).await;
            body.unwrap_or(Err(Refusal::TimedOut))
        }
        Err(refusal) => Err(refusal),
    };
    Some(Asking { stream, is_head, query })
}

/// Reads a body.
async fn whole(stream: &mut Stream, request: &mut Request) -> Result<Vec<u8>, Refusal> {
    let mut body = request::Body::default();
    while let Some(mut data) = stream.recv_data().await.map_err(|_| Refusal::Bad)? {
        while data.has_remaining() {
            let octets = data.chunk();
            let length = octets.len();
            body.add(octets)?;
            request.grew(length).map_err(|_| Refusal::TooLong)?;
            data.advance(length);
        }
    }
    Ok(body.whole())
}
