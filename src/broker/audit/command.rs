//! The trail of commands: one chain for all of them, however many run at a time.

use std::sync::Arc;

use super::chain::Tip;
use crate::{
    domain::AuditRecord,
    ports::{AuditSigner, AuditStore, Clock, Random, StoreError},
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
    random: Arc<dyn Random>,
}

impl CommandTrail {
    /// A trail in this store.
    #[must_use]
    pub fn new(
        store: Arc<dyn AuditStore>,
        signer: Arc<dyn AuditSigner>,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> Self {
        Self { store, signer, clock, random }
    }

    /// Writes an event, with a request id of its own if it has none: two commands that do the same at the same time
    /// would else write the same event, and the second be taken for a repetition of the first. A command that cannot
    /// write must not do what it would have written.
    ///
    /// # Errors
    /// If the store does not take it.
    pub async fn write(&self, mut record: AuditRecord) -> Result<(), StoreError> {
        if record.request_id.is_empty() {
            let random = u128::from_be_bytes(self.random.bytes());
            record.request_id = format!("{random:032x}").into();
        }
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
