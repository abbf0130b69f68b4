//! What a request asks for, and what its answer says beside the message (RFC 8484 §4, §5): pure.
//!
//! ```text
//!  path? ─► 404   method? ─► 405   GET, HEAD: ?dns= ─► too long 414, not base64url 400 ─► the query
//!                                  POST: application/dns-message? ─► 415, too long 413 ─► the body is the query
//! ```
//! HEAD is GET whose answer has no body (RFC 9110 §9.3.2). What a client accepts is not asked: there is one type of answers.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderValue};
use http::{Method, Response, StatusCode, Uri};

use crate::dns::RecordType;
use crate::dns::query::HEADER;

/// The type of queries and answers.
const MESSAGE_TYPE: &str = "application/dns-message";
/// The longest message.
const MESSAGE: usize = 65_535;
/// Characters of the longest message in base64url.
const ENCODED: usize = (MESSAGE * 4).div_ceil(3);
/// What is served.
const ALLOWED: &str = "GET, HEAD, POST";

/// What a good request asks.
#[derive(Debug, PartialEq, Eq)]
pub enum Asked {
    /// This message.
    Query(Vec<u8>),
    /// The message that its body is.
    Body,
}

/// Why a request is not answered with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Nothing is served at that path.
    NotFound,
    /// Neither GET nor POST.
    Method,
    /// The body is no DNS message by its type.
    Type,
    /// The body is longer than a message.
    TooLong,
    /// The URL is longer than one with a message.
    LongUrl,
    /// There is no message, or none that gets an answer.
    Bad,
    /// It did not become whole in time.
    TimedOut,
}

impl Refusal {
    /// What it is called in HTTP.
    #[must_use]
    pub fn status(self) -> StatusCode {
        match self {
            Refusal::NotFound => StatusCode::NOT_FOUND,
            Refusal::Method => StatusCode::METHOD_NOT_ALLOWED,
            Refusal::Type => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Refusal::TooLong => StatusCode::PAYLOAD_TOO_LARGE,
            Refusal::LongUrl => StatusCode::URI_TOO_LONG,
            Refusal::Bad => StatusCode::BAD_REQUEST,
            Refusal::TimedOut => StatusCode::REQUEST_TIMEOUT,
        }
    }

    /// The head of the response, which has no body.
    #[must_use]
    pub fn head(self) -> Response<()> {
        let mut response = Response::new(());
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        if self == Refusal::Method {
            headers.insert(ALLOW, HeaderValue::from_static(ALLOWED));
        }
        response
    }
}

/// What a request for `path` asks, by its head.
///
/// # Errors
/// When it is refused.
pub fn read(path: &str, method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<Asked, Refusal> {
    if uri.path() != path {
        return Err(Refusal::NotFound);
    }
    match *method {
        Method::GET | Method::HEAD => query(uri.query().unwrap_or_default()).map(Asked::Query),
        Method::POST => body(headers).map(|()| Asked::Body),
        _ => Err(Refusal::Method),
    }
}

/// The message in the query of a URL: the one value of `dns`.
fn query(text: &str) -> Result<Vec<u8>, Refusal> {
    let mut values = text.split('&').filter_map(|part| part.strip_prefix("dns="));
    let (Some(value), None) = (values.next(), values.next()) else { return Err(Refusal::Bad) };
    if value.len() > ENCODED {
        return Err(Refusal::LongUrl);
    }
    let mut message = vec![0; value.len()];
    let length = BASE64_URL_SAFE_NO_PAD.decode_slice(value, &mut message).map_err(|_| Refusal::Bad)?;
    message.truncate(length);
    Ok(message)
}

fn body(headers: &HeaderMap) -> Result<(), Refusal> {
    let text = |value: &HeaderValue| value.to_str().unwrap_or_default().to_owned();
    let media_type = headers.get(CONTENT_TYPE).map(text).unwrap_or_default();
    let media_type = media_type.split(';').next().unwrap_or_default().trim();
    if !media_type.eq_ignore_ascii_case(MESSAGE_TYPE) {
        return Err(Refusal::Type);
    }
    let length: Option<usize> = headers.get(CONTENT_LENGTH).and_then(|length| text(length).parse().ok());
    if length.is_some_and(|length| length > MESSAGE) { Err(Refusal::TooLong) } else { Ok(()) }
}

/// A body that is being read.
#[derive(Debug, Default)]
pub struct Body(Vec<u8>);

impl Body {
    /// Adds what came.
    ///
    /// # Errors
    /// When no message is that long.
    pub fn add(&mut self, octets: &[u8]) -> Result<(), Refusal> {
        if self.0.len() + octets.len() > MESSAGE {
            return Err(Refusal::TooLong);
        }
        self.0.extend_from_slice(octets);
        Ok(())
    }

    /// All of it.
    #[must_use]
    pub fn whole(self) -> Vec<u8> {
        self.0
    }
}

/// The head of the response that has `answer` as its body. Shared caches keep none: who asks decides what is answered.
#[must_use]
pub fn head(answer: &[u8]) -> Response<()> {
    let mut response = Response::new(());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(MESSAGE_TYPE));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(answer.len()));
    let fresh = format!("private, max-age={}", freshness(answer));
    if let Ok(value) = HeaderValue::try_from(fresh) {
        headers.insert(CACHE_CONTROL, value);
    }
    response
}

/// Seconds that an answer may be kept: the smallest TTL of its answer section; of a negative answer, what its SOA says
/// (RFC 8484 §5.1, RFC 2308 §5); else 0.
#[must_use]
pub fn freshness(answer: &[u8]) -> u32 {
    Records::of(answer).and_then(smallest).unwrap_or(0)
}

fn smallest(mut records: Records<'_>) -> Option<u32> {
    let [answers, authorities] = [records.answers, records.authorities];
    let mut least = None;
    for _ in 0..answers {
        let record = records.next()?;
        least = Some(record.ttl.min(least.unwrap_or(u32::MAX)));
    }
    if least.is_some() {
        return least;
    }
    for _ in 0..authorities {
        let record = records.next()?;
        if record.rtype == RecordType::SOA.0 {
            let (_, minimum) = record.rdata.split_last_chunk()?;
            return Some(record.ttl.min(u32::from_be_bytes(*minimum)));
        }
    }
    None
}

/// What stands behind the question of a message.
struct Records<'a> {
    rest: &'a [u8],
    answers: u16,
    authorities: u16,
}

struct Record<'a> {
    rtype: u16,
    ttl: u32,
    rdata: &'a [u8],
}

impl<'a> Records<'a> {
    fn of(message: &'a [u8]) -> Option<Records<'a>> {
        let (header, mut rest) = message.split_first_chunk::<HEADER>()?;
        let [questions, answers, authorities] = [4, 6, 8].map(|at| u16::from_be_bytes([header[at], header[at + 1]]));
        for _ in 0..questions {
            // Type and class.
            rest = behind_name(rest)?.get(4..)?;
        }
        Some(Records { rest, answers, authorities })
    }

    fn next(&mut self) -> Option<Record<'a>> {
        let (fixed, rest) = behind_name(self.rest)?.split_first_chunk::<10>()?;
        let [type0, type1, _, _, ttl0, ttl1, ttl2, ttl3, length0, length1] = *fixed;
        let (rdata, rest) = rest.split_at_checked(u16::from_be_bytes([length0, length1]).into())?;
        self.rest = rest;
        let (rtype, ttl) = (u16::from_be_bytes([type0, type1]), u32::from_be_bytes([ttl0, ttl1, ttl2, ttl3]));
        Some(Record { rtype, ttl, rdata })
    }
}

/// What follows a name, which ends with the root or a pointer.
fn behind_name(mut octets: &[u8]) -> Option<&[u8]> {
    loop {
        let (&length, rest) = octets.split_first()?;
        match length {
            0 => return Some(rest),
            1..=63 => octets = rest.get(usize::from(length)..)?,
            _ => return rest.get(1..),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATH: &str = "/dns-query";

    fn asked(method: &str, uri: &str, headers: &[(&str, &str)]) -> Result<Asked, Refusal> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(http::HeaderName::try_from(*name).unwrap(), HeaderValue::try_from(*value).unwrap());
        }
        read(PATH, &method.parse().unwrap(), &uri.parse().unwrap(), &map)
    }

    #[test]
    fn what_is_asked() {
        let message = |octets: &[u8]| Ok(Asked::Query(octets.to_vec()));
        let longest = format!("/dns-query?dns={}", "A".repeat(60_000));
        for (method, uri, expected) in [
            ("GET", "/dns-query?dns=AAAB", message(&[0, 0, 1])),
            ("HEAD", "/dns-query?dns=AAAB", message(&[0, 0, 1])),
            ("GET", "/dns-query?dns=-_8", message(&[0xfb, 0xff])),
            ("GET", "/dns-query?a=b&dns=AAAB&c", message(&[0, 0, 1])),
            ("GET", "https://ns.example.com/dns-query?dns=AAAB", message(&[0, 0, 1])),
            ("GET", "/dns-query?dns=", message(&[])),
            ("GET", &longest, message(&[0; 45_000])),
            ("GET", "/dns-query", Err(Refusal::Bad)),
            ("GET", "/dns-query?dns", Err(Refusal::Bad)),
            ("GET", "/dns-query?dns=AAAB&dns=AAAB", Err(Refusal::Bad)),
            // Padding, the other alphabet, octets of which some bits are missing.
            ("GET", "/dns-query?dns=AAA=", Err(Refusal::Bad)),
            ("GET", "/dns-query?dns=+/8", Err(Refusal::Bad)),
            ("GET", "/dns-query?dns=A", Err(Refusal::Bad)),
            ("GET", "/dns-query?dns=%41AAB", Err(Refusal::Bad)),
            ("GET", "/", Err(Refusal::NotFound)),
            ("GET", "/dns-query/?dns=AAAB", Err(Refusal::NotFound)),
            ("PUT", "/", Err(Refusal::NotFound)),
            ("PUT", "/dns-query?dns=AAAB", Err(Refusal::Method)),
            ("CONNECT", "/dns-query", Err(Refusal::Method)),
        ] {
            assert_eq!(asked(method, uri, &[]), expected, "{method} {uri}");
        }
    }

    #[test]
    fn bodies() {
        let good = ("content-type", "application/dns-message");
        for (headers, expected) in [
            (&[good][..], Ok(Asked::Body)),
            (&[("content-type", "Application/DNS-Message; charset=utf-8")], Ok(Asked::Body)),
            (&[good, ("content-length", "65535")], Ok(Asked::Body)),
            (&[good, ("content-length", "65536")], Err(Refusal::TooLong)),
            (&[], Err(Refusal::Type)),
            (&[("content-type", "application/dns-json")], Err(Refusal::Type)),
            (&[("content-type", "application/dns-message2")], Err(Refusal::Type)),
        ] {
            assert_eq!(asked("POST", PATH, headers), expected, "{headers:?}");
        }
        let mut body = Body::default();
        assert_eq!(body.add(&[1; 65_000]), Ok(()));
        assert_eq!(body.add(&[1; 535]), Ok(()));
        assert_eq!(body.add(&[1]), Err(Refusal::TooLong));
        assert_eq!(body.whole().len(), 65_535);
    }

    /// Longer than any URL of this type can be.
    #[test]
    fn a_url_is_measured_before_it_is_decoded() {
        assert_eq!(query(&format!("dns={}", "A".repeat(ENCODED + 1))), Err(Refusal::LongUrl));
        assert_eq!(query(&format!("dns={}", "A".repeat(ENCODED))).map(|message| message.len()), Ok(MESSAGE));
    }

    fn record(rtype: u16, ttl: u32, rdata: &[u8]) -> Vec<u8> {
        let mut record = vec![0xc0, 12];
        record.extend(rtype.to_be_bytes());
        record.extend([0, 1]);
        record.extend(ttl.to_be_bytes());
        record.extend((rdata.len() as u16).to_be_bytes());
        record.extend(rdata);
        record
    }

    fn message(answers: &[Vec<u8>], authorities: &[Vec<u8>]) -> Vec<u8> {
        let mut message = vec![0, 1, 0x84, 0, 0, 1, 0, answers.len() as u8, 0, authorities.len() as u8, 0, 0];
        message.extend(b"\x03www\x07example\0\0\x01\0\x01");
        answers.iter().chain(authorities).for_each(|record| message.extend(record));
        message
    }

    #[test]
    fn how_long_answers_are_fresh() {
        let address = |ttl| record(1, ttl, &[192, 0, 2, 1]);
        // Of the SOA the MINIMUM alone is looked at.
        let soa = |ttl, minimum: u32| record(6, ttl, &[&[0; 18][..], &minimum.to_be_bytes()].concat());
        let ns = record(2, 7, b"\x02ns\xc0\x0c");
        for (answers, authorities, expected) in [
            (vec![address(300)], vec![], 300),
            (vec![address(300), address(30), address(60)], vec![soa(5, 5)], 30),
            (vec![address(0)], vec![], 0),
            (vec![], vec![soa(300, 60)], 60),
            (vec![], vec![soa(60, 300)], 60),
            (vec![], vec![ns.clone(), soa(60, 300)], 60),
            // A referral, and nothing at all.
            (vec![], vec![ns], 0),
            (vec![], vec![], 0),
        ] {
            let message = message(&answers, &authorities);
            assert_eq!(freshness(&message), expected, "{message:?}");
            for cut in 0..message.len() {
                let _ = freshness(&message[..cut]);
            }
        }
    }

    #[test]
    fn heads_of_responses() {
        let response = head(&message(&[record(1, 300, &[192, 0, 2, 1])], &[]));
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()[CACHE_CONTROL], "private, max-age=300");
        assert_eq!(response.headers()[CONTENT_TYPE], "application/dns-message");
        assert_eq!(Refusal::Method.head().headers()[ALLOW], "GET, HEAD, POST");
    }
}
