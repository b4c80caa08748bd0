//! Events of grants, for watches.

use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::broadcast;

use crate::{
    broker::TooSlow,
    domain::{Grant, GrantEventKind},
};

/// The most events that a reader may fall behind. A slower reader gets an error.
const FEED_CAPACITY: usize = 1024;

/// An event of a grant.
#[derive(Debug, Clone)]
pub struct GrantEvent {
    /// The grant after the event. `None` marks the end of a resynchronization or, in a feed, a request to begin one.
    pub grant: Option<Arc<Grant>>,
    /// The kind of event.
    pub kind: GrantEventKind,
    /// The time of the event.
    pub time: Timestamp,
}

/// A receiver of all events from now on.
pub struct GrantEventReceiver(broadcast::Receiver<GrantEvent>);

impl GrantEventReceiver {
    /// Waits for the next event.
    ///
    /// # Errors
    /// If events were lost because this reader was too slow.
    pub async fn next(&mut self) -> Result<GrantEvent, TooSlow> {
        self.0.recv().await.map_err(|_| TooSlow)
    }
}

/// The sender of events.
pub(super) struct GrantEventSender(broadcast::Sender<GrantEvent>);

impl GrantEventSender {
    pub(super) fn new() -> Self {
        Self(broadcast::Sender::new(FEED_CAPACITY))
    }

    pub(super) fn subscribe(&self) -> GrantEventReceiver {
        GrantEventReceiver(self.0.subscribe())
    }

    /// Asks all watches to read all grants again, because any of them may have changed.
    pub(super) fn send_resync(&self, time: Timestamp) {
        let _ = self.0.send(GrantEvent { grant: None, kind: GrantEventKind::Resync, time });
    }

    pub(super) fn send(&self, grant: &Arc<Grant>, kind: GrantEventKind, time: Timestamp) {
        // It is not an error if there is no receiver.
        let _ = self.0.send(GrantEvent { grant: Some(Arc::clone(grant)), kind, time });
    }
}
