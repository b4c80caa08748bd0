//! The audit trail of commands: all commands share one chain, also when several run at the same time.

use std::sync::Arc;

use super::{chain::Tip, public_keys::PublicKeys};
use crate::{
    domain::{AuditRecord, SignedPoint, Statement},
    ports::{AuditSigner, AuditStore, Clock, Random, StoreError},
};

/// The name of the chain that commands write.
pub const COMMAND_CHAIN: &str = "cli";

/// The most command chains that are tried: a command skips a chain whose head has no valid signature.
const MAX_CHAINS: u32 = 16;

/// The most attempts to append an event. Each conflict means that another command has appended its own.
const MAX_ATTEMPTS: u32 = 100;

/// Writes the audit events of commands, without a queue: each call returns when the event is in the store.
pub struct CommandTrail {
    store: Arc<dyn AuditStore>,
    signer: Arc<dyn AuditSigner>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
}

impl CommandTrail {
    /// Creates a trail that writes to this store.
    #[must_use]
    pub fn new(
        store: Arc<dyn AuditStore>,
        signer: Arc<dyn AuditSigner>,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> Self {
        Self { store, signer, clock, random }
    }

    /// Writes an event, and adds a random request id if it has none. Without the id, two commands that do the same at
    /// the same time would write equal events, and the second would count as a repetition of the first. If the write
    /// fails, the command must not do the operation.
    ///
    /// Returns the head of the chain after the event. A chain that was changed by someone without the key stays as it
    /// is, and commands continue another one: a signed event after the change would make it look valid.
    ///
    /// # Errors
    /// If the store does not accept the event.
    pub async fn write(&self, mut record: AuditRecord) -> Result<SignedPoint, StoreError> {
        if record.request_id.is_empty() {
            let random = u128::from_be_bytes(self.random.bytes());
            record.request_id = format!("{random:032x}").into();
        }
        let keys = PublicKeys::load_trusted(&*self.signer, self.store.public_keys().await?);
        for number in 1..=MAX_CHAINS {
            let chain: Arc<str> = match number {
                1 => COMMAND_CHAIN.into(),
                _ => format!("{COMMAND_CHAIN}-{number}").into(),
            };
            if let Some(state) = self.store.chain(&chain).await?
                && !keys.verifies(&*self.signer, &state.head, Statement::Head)
            {
                tracing::error!(%chain, "the head of an audit chain has no valid signature of this gateway");
                continue;
            }
            match self.append(&chain, &record).await {
                Err(StoreError::Corrupt(problem)) => {
                    tracing::error!(%chain, problem, "an audit chain is damaged; another one is continued");
                }
                done => return done,
            }
        }
        let problem = format!("all {MAX_CHAINS} audit chains of commands were changed");
        Err(StoreError::Corrupt(problem))
    }

    /// Appends an event to a chain that other commands may write at the same time.
    async fn append(
        &self,
        chain: &Arc<str>,
        record: &AuditRecord,
    ) -> Result<SignedPoint, StoreError> {
        for _ in 0..MAX_ATTEMPTS {
            let mut tip = Tip::find(&*self.store, chain).await?;
            let event = std::iter::once((record.clone(), self.clock.now()));
            let group = tip.group(event, &*self.signer).sign(&*self.signer);
            let group =
                group.map_err(|(_, error)| StoreError::Unavailable(format!("audit: {error}")))?;
            match self.store.append(&group).await {
                // Another command was faster: this event must follow its event.
                Err(StoreError::Conflict) => {}
                done => return done.map(|()| group.head),
            }
        }
        Err(StoreError::Conflict)
    }
}
