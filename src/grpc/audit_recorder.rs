//! The audit events of a call: one for each decision on a credential, each change and each denial, with the result of
//! the call. They are written before the answer is sent.

use std::sync::Arc;

use tonic::Code;

use super::{
    context::CallContext,
    failure::Failure,
    notes::{NotedDecision, UnwrittenNotes, event_class, is_audited},
};
use crate::{
    access::ActionName,
    audit::{
        AuditUnavailable, EventClass, EventResult, PendingEvent, Trail, UnauthenticatedAttempts,
    },
    broker::BrokerError,
    domain::{Decision, Reason},
};

/// Writes the audit events of calls, and counts failed authentications.
pub struct AuditRecorder {
    /// The audit trail.
    pub trail: Arc<Trail>,
    /// Counts calls without a valid credential.
    pub attempts: Arc<UnauthenticatedAttempts>,
}

impl AuditRecorder {
    /// Checks that the event of a permitted action can be written. Runs before the action.
    pub(super) fn check(&self, action: ActionName) -> Result<(), Failure> {
        if is_audited(action) {
            self.trail.check(event_class(action)).map_err(BrokerError::from)?;
        }
        Ok(())
    }

    /// Writes the unwritten notes of the call. Waits for the commit if the configuration requires it.
    pub(super) async fn write(
        &self,
        context: &CallContext,
        code: Code,
        reason: Option<Reason>,
    ) -> Result<(), Failure> {
        let pending = self.start_writes(context, code, reason).map_err(BrokerError::from)?;
        // After the deadline nothing is returned, so the commit need not be awaited.
        if code != Code::DeadlineExceeded {
            for pending in pending {
                pending.committed().await.map_err(BrokerError::from)?;
            }
        }
        Ok(())
    }

    /// Writes the decisions before the action runs. The result gets its own event.
    pub(super) async fn write_before_change(&self, context: &CallContext) -> Result<(), Failure> {
        let decisions = context.notes.decisions();
        self.write(context, Code::Ok, None).await?;
        context.notes.set_decisions(decisions);
        Ok(())
    }

    /// Writes the unwritten notes of a call whose caller has disconnected.
    pub(super) fn write_unanswered(&self, context: &CallContext) {
        // A failure is only logged, because there is no caller to refuse.
        if self.start_writes(context, Code::Cancelled, None).is_err() {
            tracing::error!(
                request_id = &*context.request_id,
                "a cancelled call is not in the audit trail"
            );
        }
    }

    fn start_writes(
        &self,
        context: &CallContext,
        code: Code,
        reason: Option<Reason>,
    ) -> Result<Vec<PendingEvent>, AuditUnavailable> {
        let UnwrittenNotes { decisions, credential } = context.notes.take();
        if decisions.is_empty() {
            return Ok(Vec::new());
        }
        let denied_later = reason == Some(Reason::PolicyDenied)
            && decisions.iter().all(|noted| noted.decided.decision == Decision::Allowed);
        let last = decisions.len().saturating_sub(1);
        let as_user = |noted: &&NotedDecision| noted.name == Some(ActionName::CallWebApiAsUser);
        let person = decisions.iter().find(as_user).map(|noted| noted.decided.actor.clone());
        if decisions.iter().all(|noted| noted.class() == EventClass::Credential) {
            context.note_credential_audited();
        }
        let origin = context.event_origin();
        let result = EventResult { code: code.into(), reason, credential_id: credential };
        let pending = decisions.into_iter().enumerate().map(|(index, mut noted)| {
            // Policy permitted the action. Then the configuration denied it (`RevealNotAllowed`), or a later decision
            // did (`NoLongerPermitted`).
            if denied_later && index == last {
                noted.decided.decision = Decision::Denied;
            }
            let class = noted.class();
            // The associates are read as this person.
            if noted.name == Some(ActionName::ReadAssociates)
                && let Some(person) = &person
            {
                noted.decided.actor.clone_from(person);
            }
            self.trail.record(origin.event(noted.decided, result.clone()), class)
        });
        pending.collect()
    }
}
