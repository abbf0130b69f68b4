//! Requests over the control socket, octet by octet.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use serde_json::Value;

use super::site::Site;

/// A connection; `None` when nobody listens.
pub(crate) fn connect(site: &Site) -> Option<UnixStream> {
    UnixStream::connect(site.path("state/control")).ok()
}

/// Status and body of a request.
#[track_caller]
pub(crate) fn ask(site: &Site, method: &str, path: &str, body: &str) -> (u16, Value) {
    try_ask(site, method, path, body).expect("a response")
}

/// The same; `None` when there is none, or not all of it.
pub(crate) fn try_ask(site: &Site, method: &str, path: &str, body: &str) -> Option<(u16, Value)> {
    let mut stream = connect(site)?;
    let length = body.len();
    let head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {length}");
    write!(stream, "{head}\r\n\r\n{body}").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some((status, serde_json::from_str(body).ok()?))
}
