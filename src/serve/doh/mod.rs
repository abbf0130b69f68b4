//! DNS over HTTPS (RFC 8484), HTTP/1.1 and HTTP/2, as ALPN has it: a connection after its TLS handshake. What is asked is
//! `request`'s; when a connection is to be closed, its `pulse` says.
//!
//! ```text
//!   octets ─► metered ─► hyper ─► request ─► Desk ─► answer ─► hyper ─► octets
//!                └── octets that come ──► pulse ◄── answers that are taken ┘
//! ```
//! A connection may serve any number of requests. The method, path and headers of a request are let go of before its body is
//! read, so that of requests in progress only the queries are held.

mod metered;
pub mod request;

use std::cell::RefCell;
use std::convert::Infallible;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::header::{ALT_SVC, HeaderValue};
use http::{Method, Response};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::server::conn::{http1, http2};
use hyper::service::Service;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_rustls::server::TlsStream;

use super::connections::Seat;
use super::desk::{self, Desk, stopping};
use super::pulse::{Answer, Fault, Pulse, Request};
use crate::answer::Transport;
use crate::metrics::{Counter, Counters};
use metered::Metered;
use request::{Asked, Refusal};

/// What is agreed on in a handshake: the better first.
pub(super) const PROTOCOLS: [&str; 2] = [HTTP2, "http/1.1"];
const HTTP2: &str = "h2";
/// Most octets of the head of a request.
pub(super) const HEAD: u32 = 16 * 1024;
/// Most headers of a request.
const HEADERS: usize = 64;
/// Requests in progress at once on a connection.
pub(super) const STREAMS: u32 = 100;
/// Octets of a body that may come before they are read, and the same of all bodies of a connection.
const STREAM_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = 128 * 1024;
/// Octets of answers that wait for a slow client, on each stream.
const SEND_BUFFER: usize = 64 * 1024;
/// Requests that a client may take back before they are looked at, and streams that may go wrong.
const RESETS: usize = 20;
const STREAM_ERRORS: usize = 64;
/// How long a client has to take the end of its connection.
const CLOSE_WAIT: Duration = Duration::from_millis(500);

/// What is served at an address.
#[derive(Debug)]
pub(super) struct Site {
    /// Path of the URL.
    pub(super) path: String,
    /// Where the same is served over HTTP/3 (RFC 7838).
    pub(super) alt_svc: Option<HeaderValue>,
}

impl Site {
    /// The headers of an answer, whose body it will be.
    pub(super) fn head(&self, answer: &[u8]) -> Response<()> {
        let mut response = request::head(answer);
        if let Some(alt_svc) = &self.alt_svc {
            response.headers_mut().insert(ALT_SVC, alt_svc.clone());
        }
        response
    }
}

/// A connection whose handshake is done.
pub(super) struct Connection {
    pub(super) stream: Box<TlsStream<TcpStream>>,
    pub(super) client: IpAddr,
    pub(super) site: Arc<Site>,
    pub(super) desk: Rc<RefCell<Desk>>,
}

impl Connection {
    /// Serves it to its end.
    pub(super) async fn run(self, seat: Seat, stopped: watch::Receiver<bool>) {
        let pulse = Pulse::new(seat);
        let speaks_http2 = self.stream.get_ref().1.alpn_protocol() == Some(HTTP2.as_bytes());
        let host = Host { site: self.site, client: self.client, desk: Rc::clone(&self.desk), pulse: Rc::clone(&pulse) };
        let octets = TokioIo::new(Metered::new(self.stream, Rc::clone(&pulse)));
        if speaks_http2 {
            drive(http2().serve_connection(octets, host), &pulse, &self.desk, stopped).await;
        } else {
            drive(http1().serve_connection(octets, host), &pulse, &self.desk, stopped).await;
        }
    }
}

fn http1() -> http1::Builder {
    let mut builder = http1::Builder::new();
    // How long a head may take, the pulse knows.
    builder.max_buf_size(HEAD as usize).max_headers(HEADERS).header_read_timeout(None);
    builder
}

fn http2() -> http2::Builder<Local> {
    let mut builder = http2::Builder::new(Local);
    builder
        .max_header_list_size(HEAD)
        .max_concurrent_streams(STREAMS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .max_pending_accept_reset_streams(RESETS)
        .max_local_error_reset_streams(STREAM_ERRORS);
    builder
}

/// Runs the streams of a connection in the thread of the connection. They end with it, as what they wait for does.
#[derive(Clone, Copy)]
struct Local;

impl<F: Future + 'static> hyper::rt::Executor<F> for Local {
    fn execute(&self, stream: F) {
        tokio::task::spawn_local(async move {
            stream.await;
        });
    }
}

/// A connection that can be asked to end.
trait Graceful: Future<Output = hyper::Result<()>> {
    fn end(self: Pin<&mut Self>);
}

impl Graceful for http1::Connection<TokioIo<Metered>, Host> {
    fn end(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

impl Graceful for http2::Connection<TokioIo<Metered>, Host, Local> {
    fn end(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

async fn drive(connection: impl Graceful, pulse: &Pulse, desk: &RefCell<Desk>, mut stopped: watch::Receiver<bool>) {
    let mut connection = pin!(connection);
    let (fault, is_over) = tokio::select! {
        biased;
        () = stopping(&mut stopped) => (None, false),
        // Counted where it is decided.
        () = pulse.seat().evicted() => return,
        fault = pulse.watch() => (Some(fault), fault != Fault::Idle),
        // Other errors are the client's or the network's.
        _ = connection.as_mut() => (pulse.wasted(), true),
    };
    if let Some(fault) = fault {
        desk::count(desk, |counters| counter(fault, counters), 1);
    }
    if !is_over {
        connection.as_mut().end();
        let _ = tokio::time::timeout(CLOSE_WAIT, connection).await;
    }
}

fn counter(fault: Fault, counters: &Counters) -> &Counter {
    match fault {
        Fault::Idle => &counters.tcp_closed_idle,
        Fault::SlowReader => &counters.tcp_closed_slow_reader,
        Fault::Wasteful => &counters.tcp_closed_wasteful,
    }
}

/// Who answers the requests of a connection.
#[derive(Clone)]
struct Host {
    site: Arc<Site>,
    client: IpAddr,
    desk: Rc<RefCell<Desk>>,
    pulse: Rc<Pulse>,
}

impl Service<hyper::Request<Incoming>> for Host {
    type Response = Response<Payload>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Payload>, Infallible>>>>;

    fn call(&self, request: hyper::Request<Incoming>) -> Self::Future {
        let (host, progress) = (self.clone(), self.pulse.begin());
        Box::pin(async move { Ok(host.respond(request, progress).await) })
    }
}

impl Host {
    async fn respond(self, request: hyper::Request<Incoming>, mut progress: Request) -> Response<Payload> {
        let (head, body) = request.into_parts();
        let is_head = head.method == Method::HEAD;
        let asked = request::read(&self.site.path, &head.method, &head.uri, &head.headers);
        drop(head);
        let query = match asked {
            Ok(Asked::Query(query)) => Ok(query),
            Ok(Asked::Body) => whole(body, &mut progress).await,
            Err(refusal) => Err(refusal),
        };
        progress.room().await;
        let answer = query.and_then(|query| {
            answer(&self.desk, &query, self.client, Transport::Https, |counters| &counters.tcp_received)
        });
        match answer {
            Ok(answer) => {
                desk::count(&self.desk, |counters| &counters.tcp_sent, 1);
                let head = self.site.head(&answer);
                // Even so the answer is taken, which is a sign of life.
                let answer = progress.answered(if is_head { vec![] } else { answer });
                head.map(|()| Payload(Some(answer)))
            }
            Err(refusal) => {
                desk::count(&self.desk, |counters| &counters.http_refused, 1);
                refusal.head().map(|()| Payload(None))
            }
        }
    }
}

/// Answers the query of a request.
pub(super) fn answer(
    desk: &RefCell<Desk>,
    query: &[u8],
    client: IpAddr,
    transport: Transport,
    received: fn(&Counters) -> &Counter,
) -> Result<Vec<u8>, Refusal> {
    desk::count(desk, received, 1);
    desk::answer(desk, query, client, transport).ok_or(Refusal::Bad)
}

/// Reads a body.
async fn whole(body: Incoming, progress: &mut Request) -> Result<Vec<u8>, Refusal> {
    let patience = progress.limits().message;
    let read = async {
        let mut body = pin!(body);
        let mut octets = request::Body::default();
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(|_| Refusal::Bad)?.into_data() else { continue };
            octets.add(&data)?;
            progress.grew(data.len()).map_err(|_| Refusal::TooLong)?;
        }
        Ok(octets.whole())
    };
    tokio::time::timeout(patience, read).await.unwrap_or(Err(Refusal::TimedOut))
}

/// The body of a response: an answer, in one piece, or nothing.
struct Payload(Option<Answer>);

impl Body for Payload {
    type Data = Answer;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Answer>, Infallible>>> {
        Poll::Ready(self.0.take().map(|answer| Ok(Frame::data(answer))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.as_ref().map_or(0, |answer| bytes::Buf::remaining(answer) as u64))
    }
}
