//! Keeps the audit journal while the gateway serves: stores the chain's head apart from the files, and compresses
//! segments.

use std::{sync::Arc, time::Duration};

use crate::{
    audit::Trail,
    journal::Journal,
    ports::{AuditHeadStore, Clock, StoreError},
};

/// The interval at which the newest head is stored. The documentation promises one second.
const HEAD_INTERVAL: Duration = Duration::from_millis(500);

/// The interval at which complete segments are compressed.
const COMPRESS_INTERVAL: Duration = Duration::from_mins(10);

/// The age of the newest event at which the last segment of another chain is compressed.
const IDLE_AGE: Duration = Duration::from_hours(1);

/// The journal of a server, and where the head of its chain is kept.
pub(super) struct JournalUpkeep {
    pub(super) journal: Arc<Journal>,
    pub(super) heads: Arc<dyn AuditHeadStore>,
    pub(super) trail: Arc<Trail>,
    pub(super) clock: Arc<dyn Clock>,
}

impl JournalUpkeep {
    /// Runs until the future is dropped.
    pub(super) async fn run(&self) {
        tokio::join!(self.keep_head(), self.compress());
    }

    /// Stores the head of the chain whenever it has changed.
    async fn keep_head(&self) {
        let mut stored = 0;
        let mut failing = false;
        loop {
            self.clock.sleep(HEAD_INTERVAL).await;
            match store_head(&self.trail, &*self.heads, stored).await {
                Ok(sequence) => {
                    stored = sequence;
                    failing = false;
                }
                Err(error) => {
                    if !std::mem::replace(&mut failing, true) {
                        tracing::warn!(%error, "the head of the audit chain cannot be stored; retrying");
                    }
                }
            }
        }
    }

    async fn compress(&self) {
        loop {
            self.clock.sleep(COMPRESS_INTERVAL).await;
            let Ok(idle_before) = self.clock.now().checked_sub(IDLE_AGE) else { continue };
            match self.journal.compress(idle_before).await {
                Ok(0) => {}
                Ok(segments) => tracing::info!(segments, "audit segments were compressed"),
                Err(error) => {
                    tracing::warn!(%error, "audit segments cannot be compressed; retrying later");
                }
            }
        }
    }
}

/// Stores the head of the chain, unless it is the event with the number `stored`. Returns the number of the stored
/// event.
///
/// # Errors
/// If the store does not accept it.
pub(super) async fn store_head(
    trail: &Trail,
    heads: &dyn AuditHeadStore,
    stored: i64,
) -> Result<i64, StoreError> {
    let Some(head) = trail.head().filter(|head| head.point.sequence != stored) else {
        return Ok(stored);
    };
    heads.put_head(&head).await?;
    Ok(head.point.sequence)
}
