//! Messages that are not answered from a snapshot (NOTIFY, UPDATE) on their way to whoever changes what is served, and their
//! answers on the way back, whatever the transport. As many wait as the queue has room for.

use std::fmt;
use std::net::UdpSocket;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use super::socket::Back;
use crate::answer::Handed;

/// Messages that may wait; further ones are answered SERVFAIL.
const QUEUE: usize = 256;

/// Where messages go.
pub type Inbox = mpsc::Sender<Delivery>;

/// A queue of messages.
#[must_use]
pub fn inbox() -> (Inbox, mpsc::Receiver<Delivery>) {
    mpsc::channel(QUEUE)
}

/// A message that was handed on, and the way back to whoever sent it. Dropped, it gets no answer.
#[derive(Debug)]
pub struct Delivery {
    /// The message.
    pub handed: Box<Handed>,
    pub(super) way: Way,
}

/// The way back.
pub(super) enum Way {
    Udp(Arc<UdpSocket>, Back),
    /// To the task of the connection, which waits.
    Stream(oneshot::Sender<Vec<u8>>),
}

impl fmt::Debug for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if matches!(self, Way::Udp(..)) { "Udp" } else { "Stream" })
    }
}

impl Delivery {
    /// Sends the answer. What cannot be sent is lost, as any datagram may be; a connection may be closed by now.
    pub fn answer(self, octets: Vec<u8>) {
        match self.way {
            Way::Udp(socket, back) => drop(back.send(&socket, &octets)),
            Way::Stream(waiting) => drop(waiting.send(octets)),
        }
    }
}
