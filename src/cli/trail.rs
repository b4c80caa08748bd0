//! Records commands in the audit trail, in the chain of commands.

use std::sync::Arc;

use super::{CommandError, tenant::os_user};
use crate::{
    access::Caller,
    app::Storage,
    broker::{BrokerError, CommandTrail, certify_public_keys},
    crypto::SystemRandom,
    domain::{AuditRecord, Decision, Reason},
    ports::SystemClock,
};

/// The outcome of a command in its audit event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Outcome {
    /// The gRPC code as a number.
    pub(super) code: i32,
    /// The stable reason, if it failed.
    pub(super) reason: Option<Reason>,
}

impl Outcome {
    /// Success. A change is recorded with it before it is made.
    pub(super) const DONE: Self = Self { code: 0, reason: None };

    /// Returns the outcome of a failed command.
    pub(super) fn failed(error: &BrokerError) -> Self {
        let reason = error.reason();
        Self { code: reason.code(), reason: Some(reason) }
    }
}

/// Records a change in the audit trail and then makes it. If `ready` is an error, records the failure and changes
/// nothing.
///
/// # Errors
/// If the event cannot be stored (then nothing is changed), or if the change fails.
pub(super) async fn change<T>(
    storage: &Storage,
    command: &str,
    resource: &str,
    ready: Result<(), BrokerError>,
    act: impl Future<Output = Result<T, BrokerError>>,
) -> Result<T, CommandError> {
    if let Err(error) = ready {
        record(storage, command, resource, Outcome::failed(&error)).await?;
        return Err(error.into());
    }
    record(storage, command, resource, Outcome::DONE).await?;
    let done = act.await;
    if let Err(error) = &done {
        record(storage, command, resource, Outcome::failed(error)).await?;
    }
    Ok(done?)
}

/// Records the event of a command, such as `audit.verify`. If that fails, the command must not do its work.
///
/// # Errors
/// If the event cannot be stored.
pub(super) async fn record(
    storage: &Storage,
    command: &str,
    resource: &str,
    outcome: Outcome,
) -> Result<(), CommandError> {
    let caller = Caller::command_line(&os_user());
    let record = AuditRecord {
        caller: caller.id().to_owned().into(),
        caller_method: caller.method().as_str().into(),
        resource: resource.to_owned().into(),
        code: outcome.code,
        error_reason: outcome.reason,
        ..AuditRecord::new(format!("cli.{command}"), Decision::Allowed)
    };
    let (store, signer) = (storage.store.clone(), storage.audit_signer.clone());
    let write = async {
        certify_public_keys(&*store, &*signer).await?;
        let (clock, random) = (Arc::new(SystemClock), Arc::new(SystemRandom));
        CommandTrail::new(store.clone(), signer.clone(), clock, random).write(record).await
    };
    write.await.map_err(|error| {
        let (CommandError::Failed(cause) | CommandError::Usage(cause)) =
            CommandError::from(BrokerError::from(error));
        CommandError::Failed(format!("the audit event cannot be stored: {cause}"))
    })
}
