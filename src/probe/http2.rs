//! HTTP/2 (RFC 9113): one request over a connection of its own. What `http` and `https` checks with `http-version = "2"`
//! and `grpc` checks share, and the first two themselves.
//!
//! ```text
//!   connecting ─► TLS handshake, ALPN "h2" ─► waiting for a response ─► reading the body ─► trailers
//!                 (over TCP alone: prior knowledge)
//! ```
//! The target may send one response with headers of 16 KiB, and as much of a body as is asked for; all else that it
//! sends is answered with an error or not at all, and everything ends by the check's timeout.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use http::uri::{Authority, Uri};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, timeout_at};

use crate::fleet::Target;
use crate::probe::http::{BODY_LIMIT, USER_AGENT};
use crate::probe::trust::Tls;
use crate::probe::{Check, Finding, Http, Probe, reason, socket_address, source_of, tcp, tls};

/// Most octets of a response's headers, and of its trailers.
const MOST_HEADERS: u32 = 16 << 10;
/// What may be under way to this node at once, in octets.
const WINDOW: u32 = BODY_LIMIT as u32;
/// As offered by ALPN.
const PROTOCOL: &[u8] = b"h2";

/// How to reach one target.
pub(super) struct Line {
    address: SocketAddr,
    source: Option<IpAddr>,
    timeout: Duration,
    /// `None` = over TCP alone.
    secure: Option<tls::Secure>,
}

/// How much of a response is wanted.
#[derive(Clone, Copy)]
pub(super) enum Wanted {
    /// Nothing behind its head.
    Head,
    /// The beginning of its body, in octets.
    Body(usize),
    /// The same, as far as it comes in time.
    Begun(usize),
    /// Body and trailers; a body of more octets is cut, and its trailers are lost.
    Trailers(usize),
}

/// A response.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
    pub(super) trailers: HeaderMap,
}

impl Line {
    /// `secure` is made by [`secure`].
    pub(super) fn new(check: &Check, target: &Target, secure: Option<tls::Secure>) -> Line {
        Line {
            address: socket_address(target),
            source: source_of(check, target),
            timeout: check.policy.timeout,
            secure,
        }
    }

    /// Asks over a new connection; or what ended that before there was an answer.
    pub(super) async fn ask(&self, request: http::Request<()>, body: Bytes, wanted: Wanted) -> Result<Answer, Finding> {
        let deadline = Instant::now() + self.timeout;
        let stream = timeout_at(deadline, tcp::connect(self.address, self.source))
            .await
            .map_err(|_| reason::timeout(self.timeout, "connecting"))?
            .map_err(|error| reason::of(&error, self.address.ip()))?;
        // Small frames follow one another; none is to wait until the one before is acknowledged.
        stream.set_nodelay(true).map_err(|error| reason::of(&error, self.address.ip()))?;
        match &self.secure {
            None => self.exchange(stream, deadline, request, body, wanted).await,
            Some(secure) => {
                let stream = secure.connect(stream, deadline, self.timeout).await?;
                if stream.get_ref().1.alpn_protocol() != Some(PROTOCOL) {
                    return Err(Finding::fail("no HTTP/2: the target did not agree to it in the TLS handshake"));
                }
                self.exchange(stream, deadline, request, body, wanted).await
            }
        }
    }

    async fn exchange(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin,
        deadline: Instant,
        request: http::Request<()>,
        body: Bytes,
        wanted: Wanted,
    ) -> Result<Answer, Finding> {
        let failed = |error: h2::Error| reason::of_http2(&error, self.address.ip());
        let late = |doing: &'static str| move |_| reason::timeout(self.timeout, doing);
        let waiting = "waiting for a response";
        let (client, connection) =
            timeout_at(deadline, bounded().handshake(stream)).await.map_err(late(waiting))?.map_err(failed)?;
        let exchange = async {
            let response = timeout_at(deadline, send(client, request, body)).await;
            let response = response.map_err(late(waiting))?.map_err(failed)?;
            let rest = timeout_at(deadline, read(response, wanted, deadline)).await;
            rest.map_err(late("reading the body"))?.map_err(failed)
        };
        beside(connection, exchange).await
    }
}

/// What `Line::new` needs for a check over TLS; the error says why this node cannot ask.
pub(super) fn secure(
    verify: bool,
    identity: Option<&crate::probe::Identity>,
    check: &Check,
    target: &Target,
    trust: &Tls,
) -> Result<tls::Secure, String> {
    tls::Secure::new(verify, identity, Some(PROTOCOL), check, target, trust)
}

/// The URI of a request: its authority is the target's host as configured, or its address and port.
pub(super) fn uri(is_tls: bool, target: &Target, path: &str) -> Result<Uri, String> {
    let authority = match target.host.as_deref() {
        Some(host) if host.parse::<std::net::Ipv6Addr>().is_ok() => format!("[{host}]"),
        Some(host) => host.to_string(),
        None => socket_address(target).to_string(),
    };
    let cannot = |error: http::Error| format!("cannot ask {authority} for {path}: {error}");
    let named = Authority::try_from(authority.as_str()).map_err(|error| cannot(error.into()))?;
    let scheme = if is_tls { "https" } else { "http" };
    Uri::builder().scheme(scheme).authority(named).path_and_query(path).build().map_err(cannot)
}

fn bounded() -> h2::client::Builder {
    let mut builder = h2::client::Builder::new();
    builder
        .enable_push(false)
        .max_header_list_size(MOST_HEADERS)
        .initial_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .max_concurrent_streams(1)
        .max_send_buffer_size(WINDOW as usize);
    builder
}

async fn send(
    client: SendRequest<Bytes>,
    request: http::Request<()>,
    body: Bytes,
) -> Result<http::Response<h2::RecvStream>, h2::Error> {
    let mut client = client.ready().await?;
    let (response, mut sending) = client.send_request(request, body.is_empty())?;
    if !body.is_empty() {
        sending.send_data(body, true)?;
    }
    response.await
}

async fn read(
    response: http::Response<h2::RecvStream>,
    wanted: Wanted,
    deadline: Instant,
) -> Result<Answer, h2::Error> {
    let (head, mut stream) = response.into_parts();
    let most = match wanted {
        Wanted::Head => 0,
        Wanted::Body(most) | Wanted::Begun(most) | Wanted::Trailers(most) => most,
    };
    let mut answer =
        Answer { status: head.status, headers: head.headers, body: Vec::new(), trailers: HeaderMap::new() };
    while answer.body.len() < most {
        let next = match wanted {
            Wanted::Begun(_) => timeout_at(deadline, stream.data()).await.ok().flatten().and_then(Result::ok),
            _ => stream.data().await.transpose()?,
        };
        let Some(chunk) = next else {
            if matches!(wanted, Wanted::Trailers(_)) {
                answer.trailers = stream.trailers().await?.unwrap_or_default();
            }
            break;
        };
        let room = most - answer.body.len();
        answer.body.extend_from_slice(&chunk[..chunk.len().min(room)]);
        stream.flow_control().release_capacity(chunk.len())?;
    }
    Ok(answer)
}

/// Drives a connection for as long as `exchange` goes on over it.
async fn beside<T>(connection: impl Future, exchange: impl Future<Output = T>) -> T {
    let mut exchange = pin!(exchange);
    tokio::select! {
        outcome = &mut exchange => outcome,
        // Whatever ended it, the exchange has been told.
        _ = connection => exchange.await,
    }
}

/// An `http` or `https` check over HTTP/2, of one target.
pub(super) struct Request {
    /// The error says why this node cannot ask.
    prepared: Result<(Line, http::Request<()>), String>,
    kind: Http,
}

impl Request {
    pub(super) fn new(kind: &Http, check: &Check, target: &Target, trust: &Tls) -> Request {
        Request { prepared: prepare(kind, check, target, trust), kind: kind.clone() }
    }

    async fn probe(&self) -> Finding {
        match &self.prepared {
            Ok((line, request)) => self.ask(line, request).await.unwrap_or_else(|finding| finding),
            Err(reason) => Finding::no_verdict(reason),
        }
    }

    /// Pass, or whatever ended it before.
    async fn ask(&self, line: &Line, request: &http::Request<()>) -> Result<Finding, Finding> {
        let wanted = match self.kind.expect_body {
            Some(_) => Wanted::Body(BODY_LIMIT),
            None if self.kind.needs_body() => Wanted::Begun(BODY_LIMIT),
            None => Wanted::Head,
        };
        let answer = line.ask(request.clone(), Bytes::new(), wanted).await?;
        self.kind.check_status(answer.status)?;
        self.kind.check_body(&answer.body)?;
        Ok(self.kind.passed(answer.status, &answer.headers, Ok(&answer.body)))
    }
}

impl Probe for Request {
    fn run(&self) -> Pin<Box<dyn Future<Output = Finding> + Send + '_>> {
        Box::pin(self.probe())
    }
}

fn prepare(kind: &Http, check: &Check, target: &Target, trust: &Tls) -> Result<(Line, http::Request<()>), String> {
    let secure = match kind.tls {
        true => Some(secure(kind.verify, kind.identity.as_deref(), check, target, trust)?),
        false => None,
    };
    let mut request = http::Request::new(());
    *request.uri_mut() = uri(kind.tls, target, &kind.path)?;
    *request.method_mut() =
        Method::from_bytes(kind.method.as_bytes()).map_err(|_| format!("no method {}", kind.method))?;
    let headers = request.headers_mut();
    headers.insert(http::header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
    for (name, value) in &kind.headers {
        let header = HeaderName::from_bytes(name.as_bytes()).map_err(|_| format!("no header name: {name}"))?;
        headers.insert(header, HeaderValue::from_str(value).map_err(|_| format!("no header value: {value}"))?);
    }
    Ok((Line::new(check, target, secure), request))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustls::pki_types::CertificateDer;
    use tokio::io::AsyncWriteExt;

    use super::*;
    use crate::probe::backends::{self, Reply};
    use crate::probe::{BodyMatch, Kind, Version};

    const AMPLE: Duration = Duration::from_secs(20);
    const SHORT: Duration = Duration::from_millis(300);
    const NAME: &str = "www.example.com";

    fn two() -> Http {
        Http { version: Version::Two, ..backends::http() }
    }

    fn looking_for(text: &str) -> Http {
        Http { expect_body: Some(BodyMatch::Contains(text.into())), ..two() }
    }

    async fn probe(kind: Http, address: SocketAddr, host: Option<&str>, timeout: Duration, trust: &Tls) -> Finding {
        let check = backends::check(Kind::Http(kind.clone()), timeout);
        Request::new(&kind, &check, &backends::target(address, host), trust).probe().await
    }

    #[tokio::test]
    async fn answers() {
        let endless = || vec![b'.'; 10 << 20];
        let many = || vec![("x-filler", "x".repeat(60_000))];
        let rows = [
            (two(), Reply { status: 200, body: b"ok".to_vec(), ..Reply::default() }, Finding::pass("status 200")),
            (two(), Reply { status: 204, ..Reply::default() }, Finding::pass("status 204")),
            (two(), Reply { status: 503, ..Reply::default() }, Finding::fail("status 503, expected 200-299")),
            (two(), Reply { status: 302, ..Reply::default() }, Finding::fail("status 302, expected 200-299")),
            (two(), Reply { status: 200, body: endless(), ..Reply::default() }, Finding::pass("status 200")),
            (
                two(),
                Reply { status: 200, headers: many(), ..Reply::default() },
                Finding::fail("response head too large or malformed"),
            ),
            (
                looking_for("is well"),
                Reply { status: 200, body: b"all is well".to_vec(), ..Reply::default() },
                Finding::pass("status 200"),
            ),
            (
                looking_for("ok"),
                Reply { status: 200, ..Reply::default() },
                Finding::fail("body does not contain \"ok\""),
            ),
            (
                looking_for("ok"),
                Reply { status: 200, body: endless(), ..Reply::default() },
                Finding::fail("first 64 KiB of the body do not contain \"ok\""),
            ),
        ];
        let trust = Tls::new(Vec::new());
        for (kind, reply, finding) in rows {
            let what = format!("{} and {} octets", reply.status, reply.body.len());
            let (address, _) = backends::answering_http2(reply).await;
            assert_eq!(probe(kind, address, None, AMPLE, &trust).await, finding, "{what}");
        }
    }

    #[tokio::test]
    async fn requests() {
        let (address, seen) = backends::answering_http2(Reply { status: 200, ..Reply::default() }).await;
        let here = address.to_string();
        let headers = vec![("X-Asks".to_string(), "waymark".to_string())];
        let method = Http { method: "HEAD".into(), path: "/a/b?c=d&e".into(), headers, ..two() };
        for (kind, host, authority) in [
            (method.clone(), Some(NAME), NAME),
            (method.clone(), None, &*here),
            (method, Some("2001:db8::1"), "[2001:db8::1]"),
        ] {
            assert_eq!(probe(kind, address, host, AMPLE, &Tls::new(Vec::new())).await, Finding::pass("status 200"));
            let request = seen.lock().unwrap().take().unwrap();
            assert_eq!(request.uri().to_string(), format!("http://{authority}/a/b?c=d&e"));
            assert_eq!((request.method().as_str(), request.version()), ("HEAD", http::Version::HTTP_2));
            assert_eq!(
                (&request.headers()["user-agent"], &request.headers()["x-asks"]),
                (&USER_AGENT.parse().unwrap(), &"waymark".parse().unwrap())
            );
        }
    }

    #[tokio::test]
    async fn what_speaks_no_http2() {
        let older = backends::listen(|mut stream| async move {
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n").await;
            tokio::time::sleep(AMPLE).await;
        });
        let resets = backends::listen(|mut stream| async move {
            backends::read_head(&mut stream).await;
            backends::reset(&stream);
        });
        let hangs = backends::listen(|stream| async move {
            tokio::time::sleep(AMPLE).await;
            drop(stream);
        });
        // Its own settings, an acknowledgement of ours, and then one ping after the other.
        let pings = backends::listen(|mut stream| async move {
            let _ = stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 4, 1, 0, 0, 0, 0]).await;
            while stream.write_all(&[&[0, 0, 8, 6, 0, 0, 0, 0, 0][..], &[7; 8]].concat()).await.is_ok() {}
        });
        let rows = [
            (backends::refusing().await, AMPLE, vec!["connection refused"]),
            (older.await, AMPLE, vec!["not HTTP/2"]),
            (
                backends::listen(|_| async {}).await,
                AMPLE,
                vec!["connection closed before a response", "connection reset"],
            ),
            (resets.await, AMPLE, vec!["connection reset"]),
            (hangs.await, SHORT, vec!["timeout after 300ms (waiting for a response)"]),
            (
                pings.await,
                SHORT,
                vec!["timeout after 300ms (waiting for a response)", "connection reset", "not HTTP/2"],
            ),
        ];
        for (address, timeout, reasons) in rows {
            let finding = probe(two(), address, None, timeout, &Tls::new(Vec::new())).await;
            assert!(reasons.iter().any(|reason| finding == Finding::fail(reason)), "{finding:?}, expected {reasons:?}");
        }
    }

    #[tokio::test]
    async fn over_tls() {
        let authority = backends::Authority::new("ours");
        let trust = Tls::new(vec![CertificateDer::from(authority.root())]);
        let good = authority.serving_http2(NAME, Reply { status: 200, ..Reply::default() }, false).await;
        let picky = authority.serving_http2(NAME, Reply { status: 200, ..Reply::default() }, true).await;
        let older = authority.serving(NAME, (2020, 2100)).await;
        let over =
            |identity: Option<crate::probe::Identity>| Http { tls: true, identity: identity.map(Arc::new), ..two() };
        let rows = [
            (over(None), good, Some(NAME), Finding::pass("status 200")),
            (over(None), good, None, Finding::fail("certificate is for www.example.com, not 127.0.0.1")),
            (Http { verify: false, ..over(None) }, good, None, Finding::pass("status 200")),
            (
                over(None),
                older,
                Some(NAME),
                Finding::fail("no HTTP/2: the target did not agree to it in the TLS handshake"),
            ),
            (over(Some(authority.identity())), picky, Some(NAME), Finding::pass("status 200")),
        ];
        for (kind, address, host, finding) in rows {
            assert_eq!(probe(kind, address, host, AMPLE, &trust).await, finding, "{host:?}");
        }
        let finding = probe(over(None), picky, Some(NAME), AMPLE, &trust).await;
        // The alert may be lost in the reset of a connection that is closed with our request unread.
        let reasons =
            ["refused by TLS alert: certificate required", "connection reset", "connection closed before a response"];
        assert!(reasons.iter().any(|reason| finding == Finding::fail(reason)), "{finding:?}");
    }
}
