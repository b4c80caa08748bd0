//! Keeps the audit journal while the gateway serves: stores the chain's head apart from the files, compresses segments,
//! and removes those that are too old or too many.

use std::{sync::Arc, time::Duration};

use crate::{
    audit::{Retention, Trail},
    journal::Journal,
    ports::{AuditHeadStore, Clock, StoreError},
};

/// The interval at which the newest head is stored. The documentation promises one second.
const HEAD_INTERVAL: Duration = Duration::from_millis(500);

/// The interval at which the journal is measured. A flood of events must not fill the volume between two measurements.
const MEASURE_INTERVAL: Duration = Duration::from_mins(1);

/// The interval at which complete segments are compressed. A journal that is too large is compressed at once.
const COMPRESS_INTERVAL: Duration = Duration::from_mins(10);

/// The interval at which old events are removed.
const AGE_INTERVAL: Duration = Duration::from_hours(1);

/// The age of the newest event at which the last segment of another chain is compressed.
const IDLE_AGE: Duration = Duration::from_hours(1);

/// The journal of a server, and where the head of its chain is kept.
pub(super) struct JournalUpkeep {
    pub(super) journal: Arc<Journal>,
    pub(super) heads: Arc<dyn AuditHeadStore>,
    pub(super) trail: Arc<Trail>,
    pub(super) retention: Retention,
    pub(super) clock: Arc<dyn Clock>,
}

impl JournalUpkeep {
    /// Runs until the future is dropped.
    pub(super) async fn run(&self) {
        tokio::join!(self.keep_head(), self.keep_space());
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

    /// Compresses and removes segments, one after the other: both hold the lock of a chain for long.
    async fn keep_space(&self) {
        let mut next_age = self.clock.monotonic();
        let mut next_compression = next_age.saturating_add(COMPRESS_INTERVAL);
        loop {
            let now = self.clock.monotonic();
            if now >= next_age {
                self.remove_old().await;
                next_age = now.saturating_add(AGE_INTERVAL);
            }
            let too_large = self.is_too_large().await;
            // Compression first, because it loses no event.
            if too_large || now >= next_compression {
                self.compress().await;
                next_compression = now.saturating_add(COMPRESS_INTERVAL);
            }
            if too_large {
                self.remove_excess().await;
            }
            self.clock.sleep(MEASURE_INTERVAL).await;
        }
    }

    async fn remove_old(&self) {
        if let Err(error) = self.retention.prune_by_age().await {
            tracing::warn!(%error, "old audit events could not be removed; retrying later");
        }
    }

    async fn is_too_large(&self) -> bool {
        self.retention.is_too_large().await.unwrap_or_else(|error| {
            tracing::warn!(%error, "the audit journal cannot be measured; retrying later");
            false
        })
    }

    async fn remove_excess(&self) {
        if let Err(error) = self.retention.prune_by_size().await {
            tracing::error!(
                %error,
                "the audit journal is larger than audit.max_bytes, and events could not be removed; retrying later"
            );
        }
    }

    async fn compress(&self) {
        let Ok(idle_before) = self.clock.now().checked_sub(IDLE_AGE) else { return };
        match self.journal.compress(idle_before).await {
            Ok(0) => {}
            Ok(segments) => tracing::info!(segments, "audit segments were compressed"),
            Err(error) => {
                tracing::warn!(%error, "audit segments cannot be compressed; retrying later");
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
