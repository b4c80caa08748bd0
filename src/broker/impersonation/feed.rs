//! What happens to grants, for those who watch them.

use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::broadcast;

use crate::{
    broker::TooSlow,
    domain::{Grant, GrantEventKind},
};

/// What happened but was not read by its readers yet. Who falls behind by more is ended.
const FEED_LENGTH: usize = 1024;

/// Something that happened.
#[derive(Debug, Clone)]
pub struct GrantEvent {
    /// To this grant, as it is since; without one where a resynchronization ends or, in a feed, is to begin.
    pub grant: Option<Arc<Grant>>,
    /// What it was.
    pub kind: GrantEventKind,
    /// When.
    pub time: Timestamp,
}

/// Everything that happens from now on.
pub struct GrantFeed(broadcast::Receiver<GrantEvent>);

impl GrantFeed {
    /// Waits for the next.
    ///
    /// # Errors
    /// If some were lost because this reader fell behind.
    pub async fn next(&mut self) -> Result<GrantEvent, TooSlow> {
        self.0.recv().await.map_err(|_| TooSlow)
    }
}

/// Where it is told.
pub(super) struct Feed(broadcast::Sender<GrantEvent>);

impl Feed {
    pub(super) fn new() -> Self {
        Self(broadcast::Sender::new(FEED_LENGTH))
    }

    pub(super) fn subscribe(&self) -> GrantFeed {
        GrantFeed(self.0.subscribe())
    }

    /// Anything may have happened: whoever watches reads everything again.
    pub(super) fn look_again(&self, time: Timestamp) {
        let _ = self.0.send(GrantEvent { grant: None, kind: GrantEventKind::Resync, time });
    }

    pub(super) fn tell(&self, grant: &Arc<Grant>, kind: GrantEventKind, time: Timestamp) {
        // Nobody listening is no error.
        let _ = self.0.send(GrantEvent { grant: Some(Arc::clone(grant)), kind, time });
    }
}
