//! DNS over QUIC (RFC 9250): each stream that a client opens has one query, with its length before it, and its answer.
//!
//! ```text
//!   stream ─► octets until its end ─► length, id 0, no keepalive? ─► Desk ─► length, answer, end ─► acknowledged
//!                │ late: the stream is reset      │ no: the connection ends with DOQ_PROTOCOL_ERROR
//! ```
//! One stream that is slow or taken back costs itself alone.

use std::rc::Rc;

use bytes::Buf;
use quinn::{ReadError, RecvStream, SendStream, VarInt};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::desk::{self, MESSAGE, stopping};
use super::pulse::{Fault, Request};
use super::quic::{End, Link, STOP_WAIT};
use crate::answer::Transport;
use crate::dns::Parsed;
use crate::dns::query::{self, LowerName};

/// What is agreed on in a handshake.
pub(super) const PROTOCOL: &str = "doq";
/// Streams of one direction that a client may open: one, to be told that there is no use for it (RFC 9250 §4.3.3).
pub(super) const UNIDIRECTIONAL: u32 = 1;
/// Octets of the length before a message.
const LENGTH: usize = 2;
/// Octets read at once.
const READ: usize = 4096;

/// Codes of errors (RFC 9250 §4.3).
const NO_ERROR: u32 = 0;
const INTERNAL_ERROR: u32 = 1;
const PROTOCOL_ERROR: u32 = 2;
const REQUEST_CANCELLED: u32 = 3;
const EXCESSIVE_LOAD: u32 = 4;

/// What a client is told at the end of its connection.
pub(super) fn code(end: End) -> u32 {
    match end {
        End::Done | End::Evicted | End::Fault(Fault::Idle) => NO_ERROR,
        End::Fault(Fault::SlowReader | Fault::Wasteful) => EXCESSIVE_LOAD,
        End::Misuse => PROTOCOL_ERROR,
    }
}

/// Serves a connection until its client closes it or does what must not be done; when stopped, until what came is answered.
pub(super) async fn serve(link: &Rc<Link>, mut stopped: watch::Receiver<bool>) -> End {
    let mut streams = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            () = stopping(&mut stopped) => break,
            Some(ended) = streams.join_next() => if let Ok(Err(Misuse)) = ended { return End::Misuse },
            opened = link.connection.accept_uni() => return if opened.is_ok() { End::Misuse } else { End::Done },
            opened = link.connection.accept_bi() => {
                let Ok((answer, query)) = opened else { return End::Done };
                // The pulse ends the connection.
                let _ = link.meter();
                streams.spawn_local(exchange(Rc::clone(link), answer, query));
            }
        }
    }
    let _ = tokio::time::timeout(STOP_WAIT, async { while streams.join_next().await.is_some() {} }).await;
    End::Done
}

/// A client did what is an error of the whole connection.
#[derive(Debug, PartialEq, Eq)]
struct Misuse;

/// Why a stream has no query.
enum Unread {
    Misuse,
    /// The client took it back, or the connection is over.
    Cancelled,
}

/// A query and its answer.
async fn exchange(link: Rc<Link>, mut send: SendStream, mut receive: RecvStream) -> Result<(), Misuse> {
    let mut request = link.pulse.begin();
    let patience = request.limits().message;
    let refuse = |send: &mut SendStream, code: u32| {
        // It is closed already when the client does not want it any more.
        let _ = send.reset(VarInt::from_u32(code));
    };
    let octets = match tokio::time::timeout(patience, read(&mut receive, &mut request)).await {
        Ok(Ok(octets)) => octets,
        Ok(Err(Unread::Misuse)) => return Err(Misuse),
        Ok(Err(Unread::Cancelled)) => {
            refuse(&mut send, REQUEST_CANCELLED);
            return Ok(());
        }
        Err(_) => {
            desk::count(&link.desk, |counters| &counters.quic_slow_queries, 1);
            let _ = receive.stop(VarInt::from_u32(EXCESSIVE_LOAD));
            refuse(&mut send, EXCESSIVE_LOAD);
            return Ok(());
        }
    };
    let query = whole(&octets)?;
    request.room().await;
    desk::count(&link.desk, |counters| &counters.quic_received, 1);
    let Some(answer) = desk::answer(&link.desk, query, link.client, Transport::Quic) else {
        refuse(&mut send, INTERNAL_ERROR);
        return Ok(());
    };
    let framed = [&(answer.len() as u16).to_be_bytes()[..], &answer].concat();
    let mut answer = request.answered(framed);
    if send.write_all(answer.chunk()).await.is_err() || send.finish().is_err() {
        refuse(&mut send, REQUEST_CANCELLED);
        return Ok(());
    }
    desk::count(&link.desk, |counters| &counters.quic_sent, 1);
    // Until it is acknowledged, it is held.
    if let Ok(None) = send.stopped().await {
        answer.advance(answer.remaining());
    }
    Ok(())
}

/// The octets of a stream, to its end.
async fn read(receive: &mut RecvStream, request: &mut Request) -> Result<Vec<u8>, Unread> {
    let mut octets = vec![];
    loop {
        let chunk = receive.read_chunk(READ, true).await.map_err(|error| match error {
            ReadError::Reset(_) | ReadError::ConnectionLost(_) | ReadError::ClosedStream => Unread::Cancelled,
            ReadError::IllegalOrderedRead | ReadError::ZeroRttRejected => Unread::Misuse,
        })?;
        let Some(chunk) = chunk else { return Ok(octets) };
        request.grew(chunk.bytes.len()).map_err(|_| Unread::Cancelled)?;
        octets.extend_from_slice(&chunk.bytes);
        if octets.len() > LENGTH + MESSAGE {
            return Err(Unread::Misuse);
        }
    }
}

/// The query that the octets of a stream are: one, to their end, with what RFC 9250 §4.2.1 and §5.5.2 ask of it.
fn whole(octets: &[u8]) -> Result<&[u8], Misuse> {
    let (length, query) = octets.split_first_chunk::<LENGTH>().ok_or(Misuse)?;
    let is_whole = usize::from(u16::from_be_bytes(*length)) == query.len();
    if !is_whole || !query.starts_with(&[0, 0]) {
        return Err(Misuse);
    }
    let edns = match query::parse(query, &mut LowerName::new()) {
        // Too short, or an answer.
        Parsed::Silence => return Err(Misuse),
        Parsed::Refuse { edns, .. } => edns,
        Parsed::CookieOnly { edns, .. } => Some(edns),
        Parsed::Query(query) => query.edns,
    };
    let asks_for_keepalive = edns.is_some_and(|edns| edns.keepalive || edns.has_keepalive_timeout);
    if asks_for_keepalive { Err(Misuse) } else { Ok(query) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A query for the root's NS, with the options of an OPT if there are some.
    fn query(id: u16, options: &[u8]) -> Vec<u8> {
        let mut query = id.to_be_bytes().to_vec();
        query.extend([0, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(!options.is_empty()), 0, 0, 2, 0, 1]);
        if !options.is_empty() {
            query.extend([0, 0, 41, 4, 208, 0, 0, 0, 0, 0, options.len() as u8]);
            query.extend(options);
        }
        query
    }

    #[test]
    fn queries_of_streams() {
        let framed = |query: &[u8]| [&(query.len() as u16).to_be_bytes()[..], query].concat();
        let good = query(0, &[]);
        let response = { [&good[..2], &[0x80], &good[3..]].concat() };
        for (octets, is_good) in [
            (framed(&good), true),
            (framed(&query(0, &[0, 12, 0, 1, 0])), true),
            // Another id; keepalive, and with a time; a response; too short, cut, and more behind it.
            (framed(&query(1, &[])), false),
            (framed(&query(0x0100, &[])), false),
            (framed(&query(0, &[0, 11, 0, 0])), false),
            (framed(&query(0, &[0, 11, 0, 2, 0, 9])), false),
            (framed(&response), false),
            (framed(&good[..11]), false),
            (framed(&[]), false),
            (vec![], false),
            (vec![0], false),
            (framed(&good)[..good.len() + 1].to_vec(), false),
            ([framed(&good), vec![0]].concat(), false),
            (framed(&good).repeat(2), false),
            // What is answered with an error is no misuse.
            (framed(&good[..15]), true),
        ] {
            assert_eq!(whole(&octets).is_ok(), is_good, "{octets:?}");
        }
    }
}
