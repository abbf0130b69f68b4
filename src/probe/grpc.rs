//! `grpc`: the health checking protocol of gRPC, version 1: a target passes when `grpc.health.v1.Health/Check` says that
//! the service, or the server as a whole, is SERVING.
//!
//! ```text
//!   frame    0 = not compressed (1 octet) ─ length (4 octets) ─ message
//!   request  message HealthCheckRequest  { string service = 1; }
//!   answer   message HealthCheckResponse { ServingStatus status = 1; }
//! ```
//! The two messages are so small that they are written and read here (protobuf wire format: tag = field × 8 + type).

use std::borrow::Cow;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, TE, USER_AGENT as AGENT};
use http::{HeaderMap, HeaderValue, Method};

use crate::fleet::Target;
use crate::probe::http::USER_AGENT;
use crate::probe::http2::{Answer, Line, Wanted, secure, uri};
use crate::probe::trust::Tls;
use crate::probe::{Check, Finding, Identity, Probe};

/// Most octets of an answer: a frame's head, and a message with a field or two.
const MOST_ANSWER: usize = 1024;
/// Method that is called.
const METHOD: &str = "/grpc.health.v1.Health/Check";
/// Names of statuses of a call, by number.
const CALL_STATUSES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];
/// Names of statuses of a service, by number.
const SERVING_STATUSES: [&str; 4] = ["UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"];
/// The one that passes.
const SERVING: u64 = 1;

/// A `grpc` check.
#[derive(Clone, Debug, PartialEq)]
pub struct Grpc {
    /// Whether over TLS.
    pub tls: bool,
    /// Whether the certificate must be valid for the host.
    pub verify: bool,
    /// The certificate that is shown to targets.
    pub identity: Option<Arc<Identity>>,
    /// Service that is asked about; empty = the server as a whole.
    pub service: String,
}

/// A call of one target.
pub(super) struct Call {
    /// The error says why this node cannot ask.
    prepared: Result<(Line, http::Request<()>), String>,
    message: Bytes,
}

impl Call {
    pub(super) fn new(kind: &Grpc, check: &Check, target: &Target, trust: &Tls) -> Call {
        Call { prepared: prepare(kind, check, target, trust), message: frame(&kind.service).into() }
    }

    async fn probe(&self) -> Finding {
        match &self.prepared {
            Ok((line, request)) => {
                match line.ask(request.clone(), self.message.clone(), Wanted::Trailers(MOST_ANSWER)).await {
                    Ok(answer) => judge(&answer),
                    Err(finding) => finding,
                }
            }
            Err(reason) => Finding::no_verdict(reason),
        }
    }
}

impl Probe for Call {
    fn run(&self) -> Pin<Box<dyn Future<Output = Finding> + Send + '_>> {
        Box::pin(self.probe())
    }
}

fn prepare(kind: &Grpc, check: &Check, target: &Target, trust: &Tls) -> Result<(Line, http::Request<()>), String> {
    let secure = match kind.tls {
        true => Some(secure(kind.verify, kind.identity.as_deref(), check, target, trust)?),
        false => None,
    };
    let mut request = http::Request::new(());
    *request.uri_mut() = uri(kind.tls, target, METHOD)?;
    *request.method_mut() = Method::POST;
    let timeout = format!("{}m", check.policy.timeout.as_millis());
    let timeout = HeaderValue::from_str(&timeout).expect("digits and a letter");
    let headers = request.headers_mut();
    headers.insert(AGENT, HeaderValue::from_static(USER_AGENT));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(TE, HeaderValue::from_static("trailers"));
    headers.insert("grpc-timeout", timeout);
    Ok((Line::new(check, target, secure), request))
}

/// The request's message in its frame.
fn frame(service: &str) -> Vec<u8> {
    let mut message = Vec::new();
    if !service.is_empty() {
        message.push(1 << 3 | 2);
        push_varint(&mut message, service.len());
        message.extend_from_slice(service.as_bytes());
    }
    let length = u32::try_from(message.len()).expect("as short as a line of the configuration");
    [&[0], &length.to_be_bytes()[..], &message].concat()
}

fn push_varint(message: &mut Vec<u8>, mut number: usize) {
    while number >= 0x80 {
        message.push(number as u8 | 0x80);
        number >>= 7;
    }
    message.push(number as u8);
}

fn judge(answer: &Answer) -> Finding {
    if answer.status != http::StatusCode::OK {
        return Finding::fail(&format!("status {}, expected 200 with an answer of gRPC", answer.status.as_u16()));
    }
    let content = answer.headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    if !content.starts_with(b"application/grpc") {
        return Finding::fail("not gRPC");
    }
    // A call that fails at once has its status among the headers.
    match call_status(&answer.trailers).or_else(|| call_status(&answer.headers)) {
        None if answer.body.len() >= MOST_ANSWER => Finding::fail("grpc answer longer than 1 KiB"),
        None => Finding::fail("grpc answer without a status"),
        Some((0, _)) => match serving_status(&answer.body) {
            Some(SERVING) => Finding::pass("grpc health SERVING"),
            Some(other) => {
                let name = usize::try_from(other).ok().and_then(|number| SERVING_STATUSES.get(number));
                let name = name.map_or_else(|| Cow::from(other.to_string()), |&name| name.into());
                Finding::fail(&format!("grpc health {name}, expected SERVING"))
            }
            None => Finding::fail("grpc answer not readable"),
        },
        Some((number, said)) => {
            let name = CALL_STATUSES.get(usize::from(number)).unwrap_or(&"of no known name");
            let said = if said.is_empty() { said } else { format!(": {said}") };
            Finding::fail(&format!("grpc status {number} {name}{said}"))
        }
    }
}

/// Number and message of `grpc-status`; a number that cannot be read is 2, UNKNOWN.
fn call_status(headers: &HeaderMap) -> Option<(u16, String)> {
    let status = headers.get("grpc-status")?;
    let number = status.to_str().ok().and_then(|text| text.parse().ok()).unwrap_or(2);
    let said = headers.get("grpc-message").map(|said| decoded(said.as_bytes())).unwrap_or_default();
    Some((number, said))
}

/// Text whose octets may be written as `%20`.
fn decoded(text: &[u8]) -> String {
    let mut octets = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, after @ ..] = rest {
        let escaped = match rest {
            [b'%', high, low, ..] => {
                std::str::from_utf8(&[*high, *low]).ok().and_then(|digits| u8::from_str_radix(digits, 16).ok())
            }
            _ => None,
        };
        octets.push(escaped.unwrap_or(*first));
        rest = if escaped.is_some() { &rest[3..] } else { after };
    }
    String::from_utf8_lossy(&octets).into_owned()
}

/// Field 1 of a message in its frame; 0 when it is left out, as protobuf does with zeroes.
fn serving_status(body: &[u8]) -> Option<u64> {
    let (head, message) = body.split_first_chunk::<5>()?;
    let [0, length @ ..] = *head else { return None };
    if u32::from_be_bytes(length) as usize != message.len() {
        return None;
    }
    let (mut rest, mut status) = (message, 0);
    while !rest.is_empty() {
        let tag = varint(&mut rest)?;
        match (tag >> 3, tag & 7) {
            (1, 0) => status = varint(&mut rest)?,
            (_, 0) => drop(varint(&mut rest)?),
            (_, 1) => rest = rest.get(8..)?,
            (_, 2) => {
                let length = usize::try_from(varint(&mut rest)?).ok()?;
                rest = rest.get(length..)?;
            }
            (_, 5) => rest = rest.get(4..)?,
            _ => return None,
        }
    }
    Some(status)
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (&octet, after) = rest.split_first()?;
        *rest = after;
        number |= u64::from(octet & 0x7f) << shift;
        if octet & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rustls::pki_types::CertificateDer;
    use tokio::io::AsyncWriteExt;

    use super::*;
    use crate::probe::Kind;
    use crate::probe::backends::{self, Reply};

    const AMPLE: Duration = Duration::from_secs(20);
    const NAME: &str = "api.example.com";

    fn asking(service: &str, tls: bool) -> Grpc {
        Grpc { tls, verify: true, identity: None, service: service.into() }
    }

    fn grpc_reply(body: &[u8], trailers: &[(&'static str, &'static str)]) -> Reply {
        let headers = vec![("content-type", "application/grpc+proto".into())];
        Reply { status: 200, headers, body: body.to_vec(), trailers: trailers.to_vec() }
    }

    async fn probe(kind: Grpc, address: std::net::SocketAddr, host: Option<&str>, trust: &Tls) -> Finding {
        let check = backends::check(Kind::Grpc(kind.clone()), AMPLE);
        Call::new(&kind, &check, &backends::target(address, host), trust).probe().await
    }

    #[tokio::test]
    async fn answers() {
        const OK: &[(&str, &str)] = &[("grpc-status", "0")];
        let status = |number: u8| grpc_reply(&[0, 0, 0, 0, 2, 8, number], OK);
        let html = || Reply { status: 200, headers: vec![("content-type", "text/html".into())], ..Reply::default() };
        let at_once = |status: &str, message: &str| {
            let mut reply = grpc_reply(&[], &[]);
            reply.headers.extend([("grpc-status", status.into()), ("grpc-message", message.into())]);
            reply
        };
        let rows = [
            (status(1), Finding::pass("grpc health SERVING")),
            (status(2), Finding::fail("grpc health NOT_SERVING, expected SERVING")),
            (status(3), Finding::fail("grpc health SERVICE_UNKNOWN, expected SERVING")),
            (status(9), Finding::fail("grpc health 9, expected SERVING")),
            (grpc_reply(&[0; 5], OK), Finding::fail("grpc health UNKNOWN, expected SERVING")),
            (grpc_reply(&[0, 0, 0, 0, 6, 0x12, 2, 8, 1, 8, 1], OK), Finding::pass("grpc health SERVING")),
            (grpc_reply(&[0, 0, 0, 0, 9, 8, 1], OK), Finding::fail("grpc answer not readable")),
            (grpc_reply(&[1, 0, 0, 0, 2, 8, 1], OK), Finding::fail("grpc answer not readable")),
            (grpc_reply(&[0, 0, 0, 0, 2, 8, 0x80], OK), Finding::fail("grpc answer not readable")),
            (grpc_reply(&[], OK), Finding::fail("grpc answer not readable")),
            (grpc_reply(&[0, 0, 0, 0, 2, 8, 1], &[]), Finding::fail("grpc answer without a status")),
            (grpc_reply(&[0; 1 << 20], OK), Finding::fail("grpc answer longer than 1 KiB")),
            (at_once("12", ""), Finding::fail("grpc status 12 UNIMPLEMENTED")),
            (
                at_once("5", "no%20such%20service: 100%"),
                Finding::fail("grpc status 5 NOT_FOUND: no such service: 100%"),
            ),
            (at_once("99", ""), Finding::fail("grpc status 99 of no known name")),
            (at_once("junk", ""), Finding::fail("grpc status 2 UNKNOWN")),
            (
                grpc_reply(&[], &[("grpc-status", "14"), ("grpc-message", "draining")]),
                Finding::fail("grpc status 14 UNAVAILABLE: draining"),
            ),
            (html(), Finding::fail("not gRPC")),
            (Reply { status: 503, ..html() }, Finding::fail("status 503, expected 200 with an answer of gRPC")),
        ];
        for (reply, finding) in rows {
            let (address, _) = backends::answering_http2(reply).await;
            assert_eq!(probe(asking("", false), address, None, &Tls::new(Vec::new())).await, finding);
        }
    }

    #[tokio::test]
    async fn calls() {
        let (address, seen) =
            backends::answering_http2(grpc_reply(&[0, 0, 0, 0, 2, 8, 1], &[("grpc-status", "0")])).await;
        let long = "x".repeat(200);
        let rows = [
            ("", vec![0, 0, 0, 0, 0]),
            ("acme.Shop", [&[0, 0, 0, 0, 11, 10, 9][..], b"acme.Shop"].concat()),
            (&long, [&[0, 0, 0, 0, 203, 10, 200, 1][..], long.as_bytes()].concat()),
        ];
        for (service, message) in rows {
            let finding = probe(asking(service, false), address, Some(NAME), &Tls::new(Vec::new())).await;
            assert_eq!(finding, Finding::pass("grpc health SERVING"));
            let request = seen.lock().unwrap().take().unwrap();
            assert_eq!(request.uri(), "http://api.example.com/grpc.health.v1.Health/Check");
            assert_eq!((request.method(), request.body()), (&Method::POST, &message));
            for (name, value) in [
                ("content-type", "application/grpc"),
                ("te", "trailers"),
                ("grpc-timeout", "20000m"),
                ("user-agent", USER_AGENT),
            ] {
                assert_eq!(request.headers()[name], value);
            }
        }
    }

    #[tokio::test]
    async fn over_tls() {
        let authority = backends::Authority::new("ours");
        let trust = Tls::new(vec![CertificateDer::from(authority.root())]);
        let serving = grpc_reply(&[0, 0, 0, 0, 2, 8, 1], &[("grpc-status", "0")]);
        let address = authority.serving_http2(NAME, serving, false).await;
        let finding = probe(asking("", true), address, Some(NAME), &trust).await;
        assert_eq!(finding, Finding::pass("grpc health SERVING"));
        let finding = probe(asking("", true), address, Some("other.example"), &trust).await;
        assert_eq!(finding, Finding::fail("certificate is for api.example.com, not other.example"));
        let finding = probe(asking("", false), address, None, &trust).await;
        assert!(finding.outcome == crate::health::Outcome::Fail, "{finding:?}");
    }

    #[tokio::test]
    async fn broken_targets() {
        let trust = Tls::new(Vec::new());
        let older = backends::listen(|mut stream| async move {
            let _ = stream.write_all(b"HTTP/1.1 505 HTTP Version Not Supported\r\n\r\n").await;
            tokio::time::sleep(AMPLE).await;
        });
        assert_eq!(probe(asking("", false), older.await, None, &trust).await, Finding::fail("not HTTP/2"));
        let refusing = backends::refusing().await;
        assert_eq!(probe(asking("", false), refusing, None, &trust).await, Finding::fail("connection refused"));
        let finding = probe(asking("", false), refusing, Some("a b"), &trust).await;
        assert_eq!(finding.outcome, crate::health::Outcome::NoVerdict, "{finding:?}");
    }

    proptest::proptest! {
        #[test]
        fn no_answer_panics(body in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..64)) {
            serving_status(&body);
            serving_status(&[&[0, 0, 0, 0, body.len() as u8][..], &body].concat());
            decoded(&body);
        }
    }
}
