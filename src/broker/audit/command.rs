//! The trail of commands: one chain for all of them, however many run at a time.

use std::sync::Arc;

use super::{chain::Tip, public_keys::PublicKeys};
use crate::{
    domain::{AuditRecord, Statement},
    ports::{AuditSigner, AuditStore, Clock, Random, StoreError},
};

/// The chain that commands write.
pub const COMMAND_CHAIN: &str = "cli";

/// How many chains of commands may be rewritten before they are given up.
const CHAINS: u32 = 16;

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
        let chain = self.chain().await?;
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

    /// The chain to go on with. One whose head nobody has signed was rewritten; to sign what follows it would make it
    /// look right. It stays as it is, for verification to name, and commands begin another.
    async fn chain(&self) -> Result<Arc<str>, StoreError> {
        let keys = PublicKeys::believe(&*self.signer, self.store.public_keys().await?);
        for number in 1..=CHAINS {
            let chain: Arc<str> = match number {
                1 => COMMAND_CHAIN.into(),
                _ => format!("{COMMAND_CHAIN}-{number}").into(),
            };
            match self.store.chain(&chain).await? {
                Some(state) if !keys.holds(&*self.signer, &state.head, Statement::Head) => {
                    tracing::error!(%chain, "the head of an audit chain is not signed by a key of ours");
                }
                _ => return Ok(chain),
            }
        }
        Err(StoreError::Corrupt(format!("all {CHAINS} audit chains of commands were rewritten")))
    }
}
