//! Removing what is old, so that it can still be told that only that was removed.

use std::{sync::Arc, time::Duration};

use super::chain::sign;
use crate::{
    domain::{SignedPoint, Statement},
    ports::{AuditSigner, AuditStore, Clock, StoreError},
};

/// Events removed in one transaction: events that are written meanwhile wait no longer than that.
const BATCH: u32 = 1000;

/// Between two looks at what has become old.
const LOOK: Duration = Duration::from_hours(1);

/// Removes events older than a retention. Heads stay, and so does a signed checkpoint of what was removed.
pub struct Retention {
    store: Arc<dyn AuditStore>,
    signer: Arc<dyn AuditSigner>,
    clock: Arc<dyn Clock>,
    keep: Duration,
}

impl Retention {
    /// Keeps events for `keep`.
    #[must_use]
    pub fn new(
        store: Arc<dyn AuditStore>,
        signer: Arc<dyn AuditSigner>,
        clock: Arc<dyn Clock>,
        keep: Duration,
    ) -> Self {
        Self { store, signer, clock, keep }
    }

    /// Prunes now and then, for as long as it is polled.
    pub async fn run(&self) {
        loop {
            if let Err(error) = self.prune().await {
                tracing::warn!(%error, "old audit events could not be removed; tried again later");
            }
            self.clock.sleep(LOOK).await;
        }
    }

    /// Removes what is old now.
    ///
    /// # Errors
    /// If the store fails. What was removed until then is removed in order.
    pub async fn prune(&self) -> Result<(), StoreError> {
        let now = self.clock.now();
        let Ok(before) = now.checked_sub(self.keep) else { return Ok(()) };
        for state in self.store.chains().await? {
            let chain = &state.head.point.chain;
            while let Some(point) = self.store.prunable(chain, before, BATCH).await? {
                let signature = sign(&*self.signer, &point, Statement::Checkpoint)
                    .map_err(|error| StoreError::Unavailable(format!("audit: {error}")))?;
                self.store.prune(&SignedPoint { point, signature }).await?;
            }
        }
        Ok(())
    }
}
