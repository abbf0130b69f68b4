//! HTTP over TLS by hand: requests of HTTP/1.1 as text, and frames of HTTP/2 one by one (RFC 9113), in whatever order an attacker
//! likes.

use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use rustls::ClientConfig;

use super::tls::{HOST, Secure};

/// Kinds of frames.
pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;
/// Flags of them.
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;
/// Octets of the head of a frame.
const HEAD: usize = 9;

/// A frame that came.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

/// A connection that speaks HTTP/2.
pub(crate) struct H2 {
    secure: Secure,
    next: u32,
}

impl H2 {
    /// Connects, and sends the preface with these settings (numbers and values).
    pub(crate) fn connect(server: SocketAddr, config: &Arc<ClientConfig>, settings: &[(u16, u32)]) -> io::Result<H2> {
        H2::over(Secure::connect(server, config)?, settings)
    }

    pub(crate) fn over(mut secure: Secure, settings: &[(u16, u32)]) -> io::Result<H2> {
        secure.0.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")?;
        let mut h2 = H2 { secure, next: 1 };
        let payload: Vec<u8> = settings
            .iter()
            .flat_map(|(number, value)| [&number.to_be_bytes()[..], &value.to_be_bytes()].concat())
            .collect();
        h2.send(&frame(SETTINGS, 0, 0, &payload))?;
        Ok(h2)
    }

    /// Sends octets as they are.
    pub(crate) fn send(&mut self, octets: &[u8]) -> io::Result<()> {
        self.secure.0.write_all(octets)?;
        self.secure.0.flush()
    }

    /// A number for a new stream.
    pub(crate) fn open(&mut self) -> u32 {
        self.next += 2;
        self.next - 2
    }

    /// The next frame.
    pub(crate) fn receive(&mut self) -> io::Result<Frame> {
        let mut head = [0; HEAD];
        self.secure.0.read_exact(&mut head)?;
        let [l0, l1, l2, kind, flags, s0, s1, s2, s3] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, l0, l1, l2]) as usize];
        self.secure.0.read_exact(&mut payload)?;
        Ok(Frame { kind, flags, stream: u32::from_be_bytes([s0, s1, s2, s3]), payload })
    }

    /// The body of the response of a stream; settings are acknowledged on the way. No other is open.
    pub(crate) fn answer(&mut self, stream: u32) -> io::Result<Vec<u8>> {
        let mut body = vec![];
        loop {
            let frame = self.receive()?;
            match frame.kind {
                SETTINGS if frame.flags == 0 => self.send(&self::frame(SETTINGS, 1, 0, &[]))?,
                DATA if !frame.payload.is_empty() => {
                    let taken = (frame.payload.len() as u32).to_be_bytes();
                    self.send(&self::frame(WINDOW_UPDATE, 0, 0, &taken))?;
                    body.extend(frame.payload);
                }
                RST_STREAM | GOAWAY => return Err(io::Error::other(format!("{:?}", (frame.kind, frame.payload)))),
                _ => {}
            }
            if frame.stream == stream && frame.flags & END_STREAM != 0 {
                return Ok(body);
            }
        }
    }

    /// Takes what came, without waiting; whether the connection still stands.
    pub(crate) fn drain(&mut self) -> bool {
        let socket = self.secure.0.sock.try_clone().expect("a socket");
        socket.set_read_timeout(Some(Duration::from_millis(1))).expect("a timeout");
        let mut octets = [0; 16 * 1024];
        let stands = loop {
            match self.secure.0.read(&mut octets) {
                Ok(0) => break false,
                Ok(_) => {}
                Err(error) => break matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
            }
        };
        socket.set_read_timeout(Some(super::PATIENCE)).expect("a timeout");
        stands
    }

    /// Waits until the server has closed the connection.
    pub(crate) fn wait_closed(&mut self) {
        let mut octets = [0; 16 * 1024];
        loop {
            match self.secure.0.read(&mut octets) {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) => {
                    let waited = matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
                    assert!(!waited, "still open");
                    return;
                }
            }
        }
    }
}

/// A frame as octets.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [_, length @ ..] = (payload.len() as u32).to_be_bytes();
    [&length[..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A header block (RFC 7541) of a request: literals, none of them remembered.
pub(crate) fn block(method: &str, path: &str, headers: &[(&str, &str)]) -> Vec<u8> {
    let mut block = match method {
        "GET" => vec![0x82],
        "POST" => vec![0x83],
        _ => [&[0x02][..], &string(method)].concat(),
    };
    // `:scheme: https`; names 4 and 1 of the static table: `:path`, `:authority`.
    block.push(0x87);
    block.extend([&[0x04][..], &string(path), &[0x01], &string(HOST)].concat());
    for (name, value) in headers {
        block.extend([&[0x00][..], &string(name), &string(value)].concat());
    }
    block
}

fn string(text: &str) -> Vec<u8> {
    let mut octets = vec![];
    if let Ok(length @ 0..127) = u8::try_from(text.len()) {
        octets.push(length);
    } else {
        octets.push(127);
        let mut rest = text.len() - 127;
        while rest >= 128 {
            octets.push((rest % 128) as u8 | 128);
            rest /= 128;
        }
        octets.push(rest as u8);
    }
    octets.extend(text.as_bytes());
    octets
}

/// The URL, below the host, that asks `message`.
pub(crate) fn url(message: &[u8]) -> String {
    format!("/dns-query?dns={}", BASE64_URL_SAFE_NO_PAD.encode(message))
}

/// A response of HTTP/1.1.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    /// Header lines, in small letters.
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

/// Sends a request of HTTP/1.1, and reads its response.
pub(crate) fn http1(secure: &mut Secure, method: &str, path: &str, headers: &str, body: &[u8]) -> io::Result<Reply> {
    secure.0.write_all(format!("{method} {path} HTTP/1.1\r\nHost: {HOST}\r\n{headers}\r\n").as_bytes())?;
    secure.0.write_all(body)?;
    secure.0.flush()?;
    reply(secure, method == "HEAD")
}

/// The next response of HTTP/1.1.
pub(crate) fn reply(secure: &mut Secure, is_head: bool) -> io::Result<Reply> {
    let mut head = vec![];
    while !head.ends_with(b"\r\n\r\n") {
        let mut octet = [0];
        secure.0.read_exact(&mut octet)?;
        head.push(octet[0]);
    }
    let head = String::from_utf8_lossy(&head).to_lowercase();
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok()).unwrap_or(0);
    let mut body = vec![0; if is_head { 0 } else { length }];
    secure.0.read_exact(&mut body)?;
    Ok(Reply { status, head, body })
}
