//! Errors of probes in words (SPEC 2.7), and whose fault they are (SPEC 2.1).
//!
//! What the node itself caused is no verdict: no route for the family, descriptors, ports, memory, permissions, its
//! clock, its root certificates. Everything else is the target's failure. "Host unreachable" is a failure: the node has
//! a route and somebody on it says that the target is not there.

use std::borrow::Cow;
use std::error::Error;
use std::io::{self, ErrorKind};
use std::net::IpAddr;
use std::time::Duration;

use rustls::CertificateError;
use rustls::pki_types::UnixTime;

use crate::probe::Finding;

/// An error and, as its sources, what caused it.
type Link<'a> = &'a (dyn Error + 'static);

/// Most names of a certificate that a reason lists.
const MOST_NAMES: usize = 3;

/// The check's time ran out while `doing`.
pub(super) fn timeout(after: Duration, doing: &str) -> Finding {
    Finding::fail(&format!("timeout after {after:?} ({doing})"))
}

/// What an error says of the target at `address`: the first in its chain of sources that is understood.
pub(super) fn of(error: Link<'_>, address: IpAddr) -> Finding {
    first_in_chain(error, &|error| of_transport(error, address))
        .or_else(|| first_in_chain(error, &|error| error.downcast_ref().map(of_http)))
        .unwrap_or_else(|| Finding::fail("connection failed"))
}

fn first_in_chain(error: Link<'_>, meaning: &dyn Fn(Link<'_>) -> Option<Finding>) -> Option<Finding> {
    meaning(error).or_else(|| first_in_chain(error.source()?, meaning))
}

fn of_transport(error: Link<'_>, address: IpAddr) -> Option<Finding> {
    if let Some(error) = error.downcast_ref::<rustls::Error>() {
        return Some(of_tls(error));
    }
    let error = error.downcast_ref::<io::Error>()?;
    match error.get_ref() {
        // Such an io::Error says nothing itself, and passes over what it carries as its source.
        Some(inner) if inner.is::<rustls::Error>() || inner.is::<io::Error>() => of_transport(inner, address),
        _ => Some(of_io(error, address)),
    }
}

fn of_io(error: &io::Error, address: IpAddr) -> Finding {
    let own_fault = error.raw_os_error().and_then(|code| own_fault(code, address));
    own_fault.map_or_else(|| Finding::fail(&io_words(error.kind())), |reason| Finding::no_verdict(&reason))
}

/// The system's error codes that say more of this node than of the target.
fn own_fault(code: i32, address: IpAddr) -> Option<Cow<'static, str>> {
    let family = if address.is_ipv4() { "IPv4" } else { "IPv6" };
    Some(match code {
        libc::ENETUNREACH => format!("no route to {family} network").into(),
        libc::EAFNOSUPPORT => format!("no {family} on this node").into(),
        libc::ENETDOWN => "network of this node is down".into(),
        libc::EADDRNOTAVAIL | libc::EADDRINUSE => "no such source address or no free port on this node".into(),
        libc::EMFILE | libc::ENFILE => "out of file descriptors on this node".into(),
        libc::ENOBUFS | libc::ENOMEM => "out of memory on this node".into(),
        libc::EAGAIN => "out of ports or memory on this node".into(),
        libc::EACCES | libc::EPERM => "not permitted on this node".into(),
        _ => return None,
    })
}

fn io_words(kind: ErrorKind) -> Cow<'static, str> {
    match kind {
        ErrorKind::ConnectionRefused => "connection refused".into(),
        ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted | ErrorKind::BrokenPipe => "connection reset".into(),
        ErrorKind::HostUnreachable => "host unreachable".into(),
        ErrorKind::TimedOut => "connection timed out".into(),
        ErrorKind::UnexpectedEof => "connection closed".into(),
        other => format!("connection failed: {other}").into(),
    }
}

fn of_http(error: &hyper::Error) -> Finding {
    Finding::fail(match () {
        () if error.is_parse_too_large() => "response head too large",
        () if error.is_incomplete_message() || error.is_closed() => "connection closed before a response",
        () if error.is_body_write_aborted() => "connection closed before the request was read",
        () => "not HTTP",
    })
}

/// What an error of HTTP/2 says of the target at `address`.
pub(super) fn of_http2(error: &h2::Error, address: IpAddr) -> Finding {
    if let Some(error) = error.get_io() {
        return match error.kind() {
            // Nothing came any more, which is no error of the system's.
            ErrorKind::BrokenPipe | ErrorKind::UnexpectedEof if error.raw_os_error().is_none() => {
                Finding::fail("connection closed before a response")
            }
            // An error of TLS, of which no more than its text is left.
            ErrorKind::InvalidData => match error.to_string().strip_prefix("received fatal alert: ") {
                Some(alert) => Finding::fail(&format!("refused by TLS alert: {}", spaced(alert))),
                None => Finding::fail("TLS connection broken"),
            },
            _ => of(error, address),
        };
    }
    match error.reason() {
        Some(reason) if error.is_remote() => Finding::fail(&format!("refused by HTTP/2 error {reason:?}")),
        // Of one stream, so that the connection is in order.
        Some(_) if error.is_reset() => Finding::fail("response head too large or malformed"),
        Some(_) => Finding::fail("not HTTP/2"),
        // What was asked for cannot be said in HTTP/2.
        None => Finding::no_verdict("this request cannot be sent over HTTP/2"),
    }
}

fn of_tls(error: &rustls::Error) -> Finding {
    Finding::fail(&match error {
        rustls::Error::FailedToGetCurrentTime => return Finding::no_verdict("clock of this node is not set"),
        rustls::Error::InvalidCertificate(error) => of_certificate(error),
        rustls::Error::InvalidMessage(_) => "not TLS".into(),
        rustls::Error::AlertReceived(alert) => format!("refused by TLS alert: {}", spaced(&format!("{alert:?}"))),
        rustls::Error::NoCertificatesPresented => "no certificate".into(),
        rustls::Error::PeerIncompatible(_) => "no TLS version or cipher in common".into(),
        _ => "TLS handshake failed".into(),
    })
}

fn of_certificate(error: &CertificateError) -> String {
    match error {
        CertificateError::Expired => "certificate expired".into(),
        CertificateError::ExpiredContext { not_after, .. } => format!("certificate expired {}", date(*not_after)),
        CertificateError::NotValidYet => "certificate not valid yet".into(),
        CertificateError::NotValidYetContext { not_before, .. } => {
            format!("certificate not valid before {}", date(*not_before))
        }
        CertificateError::UnknownIssuer => "certificate signed by an unknown authority".into(),
        CertificateError::NotValidForName => "certificate is for another name".into(),
        CertificateError::NotValidForNameContext { expected, presented } => {
            format!("certificate is for {}, not {}", names(presented), expected.to_str())
        }
        CertificateError::Revoked => "certificate revoked".into(),
        CertificateError::BadEncoding => "certificate not readable".into(),
        CertificateError::BadSignature => "certificate with a bad signature".into(),
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "certificate is not for servers".into()
        }
        CertificateError::Other(other) => format!("certificate not accepted: {}", spaced(&other.to_string())),
        _ => "certificate not accepted".into(),
    }
}

/// The names in a certificate, which webpki gives as `DnsName("www.example.com")`.
fn names(presented: &[String]) -> String {
    let bare = |name: &String| {
        let inner = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')')).unwrap_or(name);
        inner.trim_matches('"').to_string()
    };
    let mut names: Vec<String> = presented.iter().take(MOST_NAMES).map(bare).collect();
    match presented.len() {
        0 => names.push("no name".into()),
        count if count > MOST_NAMES => names.push(format!("{} more", count - MOST_NAMES)),
        _ => {}
    }
    names.join(", ")
}

/// `HandshakeFailure` as `handshake failure`.
fn spaced(camel: &str) -> String {
    let mut words = String::with_capacity(camel.len() + 8);
    let mut before = 'A';
    for letter in camel.chars() {
        if letter.is_ascii_uppercase() && before.is_ascii_lowercase() {
            words.push(' ');
        }
        words.push(letter.to_ascii_lowercase());
        before = letter;
    }
    words
}

/// `2026-01-02`, in UTC.
fn date(time: UnixTime) -> String {
    let (year, month, day) = civil(time.as_secs() / 86_400);
    format!("{year}-{month:02}-{day:02}")
}

/// Year, month and day of a number of days since 1970-01-01, in years that begin in March so that leap days come last.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::Outcome;

    #[test]
    fn system_errors() {
        let v4: IpAddr = "192.0.2.1".parse().unwrap();
        let v6: IpAddr = "2001:db8::1".parse().unwrap();
        let rows = [
            (libc::ENETUNREACH, v4, Outcome::NoVerdict, "no route to IPv4 network"),
            (libc::ENETUNREACH, v6, Outcome::NoVerdict, "no route to IPv6 network"),
            (libc::EAFNOSUPPORT, v6, Outcome::NoVerdict, "no IPv6 on this node"),
            (libc::ENETDOWN, v4, Outcome::NoVerdict, "network of this node is down"),
            (libc::EADDRNOTAVAIL, v4, Outcome::NoVerdict, "no such source address or no free port on this node"),
            (libc::EMFILE, v4, Outcome::NoVerdict, "out of file descriptors on this node"),
            (libc::ENFILE, v4, Outcome::NoVerdict, "out of file descriptors on this node"),
            (libc::ENOBUFS, v4, Outcome::NoVerdict, "out of memory on this node"),
            (libc::ENOMEM, v4, Outcome::NoVerdict, "out of memory on this node"),
            (libc::EPERM, v4, Outcome::NoVerdict, "not permitted on this node"),
            (libc::EACCES, v4, Outcome::NoVerdict, "not permitted on this node"),
            (libc::EHOSTUNREACH, v4, Outcome::Fail, "host unreachable"),
            (libc::ECONNREFUSED, v4, Outcome::Fail, "connection refused"),
            (libc::ECONNRESET, v4, Outcome::Fail, "connection reset"),
            (libc::EPIPE, v4, Outcome::Fail, "connection reset"),
            (libc::ETIMEDOUT, v4, Outcome::Fail, "connection timed out"),
        ];
        for (code, address, outcome, reason) in rows {
            assert_eq!(of(&io::Error::from_raw_os_error(code), address), Finding::new(outcome, reason));
        }
    }

    #[test]
    fn tls_errors_inside_io_errors() {
        let rows = [
            (rustls::Error::NoCertificatesPresented, Finding::fail("no certificate")),
            (rustls::Error::FailedToGetCurrentTime, Finding::no_verdict("clock of this node is not set")),
            (
                rustls::Error::AlertReceived(rustls::AlertDescription::HandshakeFailure),
                Finding::fail("refused by TLS alert: handshake failure"),
            ),
            (
                rustls::Error::AlertReceived(rustls::AlertDescription::UnknownCA),
                Finding::fail("refused by TLS alert: unknown ca"),
            ),
            (
                CertificateError::NotValidForNameContext {
                    expected: "www.example.com".try_into().unwrap(),
                    presented: (1..=5).map(|n| format!("DnsName(\"{n}.example\")")).collect(),
                }
                .into(),
                Finding::fail("certificate is for 1.example, 2.example, 3.example, 2 more, not www.example.com"),
            ),
        ];
        for (error, finding) in rows {
            let wrapped = io::Error::other(io::Error::new(ErrorKind::InvalidData, error));
            assert_eq!(of(&wrapped, "192.0.2.1".parse().unwrap()), finding);
        }
    }

    #[test]
    fn dates() {
        let rows = [
            (0, "1970-01-01"),
            (951_782_400, "2000-02-29"),
            (1_767_312_000, "2026-01-02"),
            (4_107_542_400, "2100-03-01"),
        ];
        for (seconds, text) in rows {
            assert_eq!(date(UnixTime::since_unix_epoch(Duration::from_secs(seconds))), text);
        }
    }
}
