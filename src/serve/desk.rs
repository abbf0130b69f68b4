//! What the tasks of a thread share: the answerer, and room to write an answer. None keeps it while waiting.

use std::cell::RefCell;
use std::net::IpAddr;
use std::time::Duration;

use tokio::sync::watch;

use super::answerer::Answerer;
use crate::answer::Transport;
use crate::metrics::{Counter, Counters};

/// The longest message.
pub(super) const MESSAGE: usize = 65_535;

/// Where queries are answered.
pub(super) struct Desk {
    pub(super) answerer: Answerer,
    /// Where answers are written before the connection keeps them.
    pub(super) out: Box<[u8]>,
}

impl Desk {
    /// With room for so many octets, at least for one message.
    pub(super) fn new(answerer: Answerer, room: usize) -> RefCell<Desk> {
        RefCell::new(Desk { answerer, out: vec![0; room.max(MESSAGE)].into() })
    }

    /// Has the answerer let go of an outdated snapshot.
    pub(super) fn refresh(&mut self) {
        let _ = self.answerer.begin(Duration::ZERO);
    }
}

/// Answers one message. `None` = it gets no answer.
pub(super) fn answer(desk: &RefCell<Desk>, query: &[u8], client: IpAddr, transport: Transport) -> Option<Vec<u8>> {
    let Desk { answerer, out } = &mut *desk.borrow_mut();
    // None of those who come here is told how long he may be idle, or gets the copy of a zone (`answer::access`).
    let length = answerer.begin(Duration::ZERO).answer(query, client, transport, &mut out[..MESSAGE]).length();
    (length > 0).then(|| out[..length].to_vec())
}

/// Adds to a counter of the thread.
pub(super) fn count(desk: &RefCell<Desk>, counter: impl Fn(&Counters) -> &Counter, count: u64) {
    counter(desk.borrow().answerer.counters()).add(count);
}

/// Waits until the service is to end.
pub(super) async fn stopping(stopped: &mut watch::Receiver<bool>) {
    // An error means that the sender is gone, and with it whoever wanted the service.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}
