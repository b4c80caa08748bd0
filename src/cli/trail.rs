//! Records commands in the audit trail, in the chain of commands.

use std::sync::Arc;

use super::{CommandError, os_user::os_user};
use crate::{
    access::Caller,
    app::Storage,
    audit::{AuditedDecision, CommandTrail, EventOrigin, certify_public_keys},
    broker::BrokerError,
    crypto::SystemRandom,
    domain::{Decision, Reason},
    ports::{AuditHeadStore as _, SystemClock},
};

pub(super) use crate::audit::EventResult;

/// The error of a recorded change.
pub(super) trait RecordedError: Into<CommandError> {
    /// Returns the reason that the audit trail gets.
    fn reason(&self) -> Reason;
}

impl RecordedError for BrokerError {
    fn reason(&self) -> Reason {
        self.reason()
    }
}

/// Records a change in the audit trail and then makes it. If `ready` is an error, records the failure and changes
/// nothing.
///
/// # Errors
/// If the event cannot be stored (then nothing is changed), or if the change fails.
pub(super) async fn change<T, E: RecordedError>(
    storage: &Storage,
    command: &str,
    resource: &str,
    ready: Result<(), BrokerError>,
    act: impl Future<Output = Result<T, E>>,
) -> Result<T, CommandError> {
    if let Err(error) = ready {
        record(storage, command, resource, EventResult::failed(error.reason())).await?;
        return Err(error.into());
    }
    record(storage, command, resource, EventResult::SUCCESS).await?;
    let done = act.await;
    if let Err(error) = &done {
        record(storage, command, resource, EventResult::failed(error.reason())).await?;
    }
    done.map_err(Into::into)
}

/// Records the event of a command, such as `audit.verify`. If that fails, the command must not do its work.
///
/// # Errors
/// If the event cannot be stored.
pub(super) async fn record(
    storage: &Storage,
    command: &str,
    resource: &str,
    result: EventResult,
) -> Result<(), CommandError> {
    let caller = Caller::command_line(&os_user()).audited();
    let action = format!("cli.{command}");
    let decided = AuditedDecision::new(action, resource.to_owned(), Decision::Allowed);
    let event = EventOrigin { caller, ..EventOrigin::default() }.event(decided, result);
    let (store, signer) = (storage.audit.clone(), storage.audit_signer.clone());
    let write = async {
        certify_public_keys(&*store, &*signer).await?;
        let (clock, random) = (Arc::new(SystemClock), Arc::new(SystemRandom));
        let trail = CommandTrail::new(store.clone(), signer.clone(), clock, random);
        storage.store.put_head(&trail.write(event).await?).await
    };
    write.await.map_err(|error| {
        let (CommandError::Failed(cause) | CommandError::Usage(cause)) =
            CommandError::from(BrokerError::from(error));
        CommandError::Failed(format!("the audit event cannot be stored: {cause}"))
    })
}
