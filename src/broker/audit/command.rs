//! The trail of commands: one chain for all of them, however many run at a time.

use std::sync::Arc;

use super::chain::Tip;
use crate::{
    domain::AuditRecord,
    ports::{AuditSigner, AuditStore, Clock, StoreError},
};

/// The chain that commands write.
pub const COMMAND_CHAIN: &str = "cli";

/// How often another command may be quicker. Each time one of them gets on.
const ATTEMPTS: u32 = 100;

/// Writes events of commands. Nothing is queued: when it returns, the event is in the store.
pub struct CommandTrail {
    store: Arc<dyn AuditStore>,
    signer: Arc<dyn AuditSigner>,
    clock: Arc<dyn Clock>,
}

impl CommandTrail {
    /// A trail in this store.
    #[must_use]
    pub fn new(
        store: Arc<dyn AuditStore>,
        signer: Arc<dyn AuditSigner>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { store, signer, clock }
    }

    /// Writes an event. A command that cannot write must not do what it would have written.
    ///
    /// # Errors
    /// If the store does not take it.
    pub async fn write(&self, record: AuditRecord) -> Result<(), StoreError> {
        let chain: Arc<str> = COMMAND_CHAIN.into();
        let mut outcome = Err(StoreError::Conflict);
        for _ in 0..ATTEMPTS {
            let mut tip = Tip::find(&*self.store, &chain).await?;
            let event = std::iter::once((record.clone(), self.clock.now()));
            let group = tip.group(event, &*self.signer).sign(&*self.signer);
            let group =
                group.map_err(|(_, error)| StoreError::Unavailable(format!("audit: {error}")))?;
            outcome = self.store.append(&group).await;
            // Another command was quicker: this event follows its event.
            if !matches!(outcome, Err(StoreError::Conflict)) {
                break;
            }
        }
        outcome
    }
}
