//! The audit trail of commands: all commands share one chain, also when several run at the same time.

use std::sync::Arc;

use super::{chain::Tip, public_keys::PublicKeys};
use crate::{
    domain::{AuditRecord, Statement},
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
    /// # Errors
    /// If the store does not accept the event.
    pub async fn write(&self, mut record: AuditRecord) -> Result<(), StoreError> {
        if record.request_id.is_empty() {
            let random = u128::from_be_bytes(self.random.bytes());
            record.request_id = format!("{random:032x}").into();
        }
        let chain = self.chain().await?;
        let mut outcome = Err(StoreError::Conflict);
        for _ in 0..MAX_ATTEMPTS {
            let mut tip = Tip::find(&*self.store, &chain).await?;
            let event = std::iter::once((record.clone(), self.clock.now()));
            let group = tip.group(event, &*self.signer).sign(&*self.signer);
            let group =
                group.map_err(|(_, error)| StoreError::Unavailable(format!("audit: {error}")))?;
            outcome = self.store.append(&group).await;
            // Another command was faster: this event must follow its event.
            if !matches!(outcome, Err(StoreError::Conflict)) {
                break;
            }
        }
        outcome
    }

    /// Returns the chain to continue. A chain whose head has no valid signature was rewritten, and a signed event after
    /// it would make it look valid. So it stays unchanged for verification to report, and commands start another chain.
    async fn chain(&self) -> Result<Arc<str>, StoreError> {
        let keys = PublicKeys::load_trusted(&*self.signer, self.store.public_keys().await?);
        for number in 1..=MAX_CHAINS {
            let chain: Arc<str> = match number {
                1 => COMMAND_CHAIN.into(),
                _ => format!("{COMMAND_CHAIN}-{number}").into(),
            };
            match self.store.chain(&chain).await? {
                Some(state) if !keys.verifies(&*self.signer, &state.head, Statement::Head) => {
                    tracing::error!(%chain, "the head of an audit chain has no valid signature of this gateway");
                }
                _ => return Ok(chain),
            }
        }
        Err(StoreError::Corrupt(format!(
            "all {MAX_CHAINS} audit chains of commands were rewritten"
        )))
    }
}
