//! Where data of zones come from beside files: primaries that they are copied from, and updates; and the messages by which both
//! begin, NOTIFY and UPDATE.

use std::path::Path;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use super::secondary::{Board, Secondaries};
use super::supply::Given;
use super::update::Updates;
use super::world::World;
use crate::dns::{Name, Rcode};
use crate::serve::{Delivery, Inbox, inbox};
use crate::snapshot::{Message, Published};
use crate::time::unix_seconds;

/// Where data of zones come from beside files.
#[derive(Debug)]
pub struct Sources {
    /// Zones that are copied.
    pub secondaries: Secondaries,
    /// Zones that are updated.
    pub updates: Updates,
}

impl Sources {
    /// Those of a configuration, with what an earlier process left in `state_dir`.
    #[must_use]
    pub fn start(state_dir: &Path, world: &World) -> Sources {
        let secondaries = Secondaries::start(state_dir, &world.supplies);
        Sources { secondaries, updates: Updates::start(state_dir, &world.supplies) }
    }

    /// Goes by another configuration.
    pub fn follow(&mut self, world: &World) {
        self.secondaries.follow(&world.supplies);
        self.updates.follow(&world.supplies);
    }

    /// What is known now.
    #[must_use]
    pub fn given(&self) -> Given {
        let mut given = self.secondaries.given();
        self.updates.give(&mut given);
        given
    }

    /// What is about to be compiled, and up to which update that goes.
    #[must_use]
    pub fn take_given(&mut self) -> (Given, u64) {
        let mut given = self.secondaries.take_given();
        let change = self.updates.take_given(&mut given);
        (given, change)
    }

    /// Waits until something is known of zones that is not compiled; of which ones. Given up on, it has lost nothing.
    pub async fn changed(&mut self) -> Vec<Name> {
        tokio::select! {
            names = self.secondaries.changed() => names,
            names = self.updates.changed() => names,
        }
    }

    /// Starts the task that hears messages which are no queries; where they go.
    #[must_use]
    pub fn open(&self, published: &Published) -> Inbox {
        let (inbox, deliveries) = inbox();
        let updates = self.updates.open(Arc::clone(published));
        tokio::spawn(hear(deliveries, self.secondaries.board(), updates, Arc::clone(published)));
        inbox
    }
}

/// Hears messages that are no queries.
async fn hear(
    mut deliveries: mpsc::Receiver<Delivery>,
    secondaries: Arc<Board>,
    updates: mpsc::Sender<Delivery>,
    published: Published,
) {
    while let Some(delivery) = deliveries.recv().await {
        let (delivery, answer) = match delivery.handed.kind {
            Message::Notify => {
                secondaries.notify(&delivery.handed.zone, delivery.handed.source());
                let answer = delivery.handed.answer(&published.load(), Rcode::NOERROR, None, unix_seconds());
                (delivery, answer)
            }
            Message::Update => match updates.try_send(delivery) {
                Ok(()) => continue,
                Err(TrySendError::Full(delivery) | TrySendError::Closed(delivery)) => {
                    let answer = delivery.handed.busy(&published.load(), unix_seconds());
                    (delivery, answer)
                }
            },
        };
        delivery.answer(answer);
    }
}
