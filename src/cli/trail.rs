//! What commands do is written to the audit trail, in the chain of commands.

use std::sync::Arc;

use super::{Failed, tenant::os_user};
use crate::{
    access::Caller,
    app::Storage,
    broker::{BrokerError, CommandTrail, certify_public_keys},
    crypto::SystemRandom,
    domain::{AuditRecord, Decision, Reason},
    ports::SystemClock,
};

/// How a command ended, as far as its event tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Outcome {
    /// The gRPC code as a number.
    pub(super) code: i32,
    /// The stable reason, if it failed.
    pub(super) reason: Option<Reason>,
}

impl Outcome {
    /// It did what it should, or is about to: what changes something is recorded before it is done.
    pub(super) const DONE: Self = Self { code: 0, reason: None };

    /// Why it was not done.
    pub(super) fn failed(error: &BrokerError) -> Self {
        let reason = error.reason();
        Self { code: reason.code(), reason: Some(reason) }
    }
}

/// Does a change that is in the trail before it is done. What can be seen to fail beforehand (`ready`) is in the trail
/// as failed, and is not begun.
///
/// # Errors
/// If the store does not take the event, so that nothing is done; or if the change fails.
pub(super) async fn change<T>(
    storage: &Storage,
    command: &str,
    resource: &str,
    ready: Result<(), BrokerError>,
    act: impl Future<Output = Result<T, BrokerError>>,
) -> Result<T, Failed> {
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

/// Writes the event of a command, such as `audit.verify`. A command that cannot do so must not do what it would have
/// recorded.
///
/// # Errors
/// If the store does not take the event.
pub(super) async fn record(
    storage: &Storage,
    command: &str,
    resource: &str,
    outcome: Outcome,
) -> Result<(), Failed> {
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
        let (Failed::Failed(cause) | Failed::Usage(cause)) = Failed::from(BrokerError::from(error));
        Failed::Failed(format!("the audit trail does not take the event: {cause}"))
    })
}
