//! The audit events of a call: one for each decision on a credential, each change and each denial, with the result of
//! the call. They are written before the answer is sent.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tonic::Code;

use super::{failure::Failure, layer::Context};
use crate::{
    access::{ActionName, PolicyIds, Resource},
    broker::{
        AuditUnavailable, BrokerError, EventClass, PendingEvent, Trail, UnauthenticatedAttempts,
    },
    domain::{AuditRecord, AuditText, CredentialId, Decision, Reason},
    listen::RequestCharge,
};

/// The value of `acting_as` for the system user.
const SYSTEM_USER: &str = "system";

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
        if !is_audited(action) {
            return Ok(());
        }
        self.trail.check(event_class(action)).map_err(audit_unavailable)
    }

    /// Writes the unwritten notes of the call. Waits for the commit if the configuration requires it.
    pub(super) async fn write(
        &self,
        context: &Context,
        code: Code,
        reason: Option<Reason>,
    ) -> Result<(), Failure> {
        let pending = self.start_writes(context, code, reason).map_err(audit_unavailable)?;
        // After the deadline nothing is returned, so the commit need not be awaited.
        if code != Code::DeadlineExceeded {
            for pending in pending {
                pending.committed().await.map_err(audit_unavailable)?;
            }
        }
        Ok(())
    }

    /// Writes the decisions before the action runs. The result gets its own event.
    pub(super) async fn write_before_change(&self, context: &Context) -> Result<(), Failure> {
        let decided = context.notes.lock().decisions.clone();
        self.write(context, Code::Ok, None).await?;
        context.notes.lock().decisions = decided;
        Ok(())
    }

    /// Writes the unwritten notes of a call whose caller has disconnected.
    pub(super) fn write_unanswered(&self, context: &Context) {
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
        context: &Context,
        code: Code,
        reason: Option<Reason>,
    ) -> Result<Vec<PendingEvent>, AuditUnavailable> {
        let UnwrittenNotes { decisions: decided, credential } = context.notes.take();
        let denied_later = reason == Some(Reason::PolicyDenied)
            && decided.iter().all(|one| one.decision == Decision::Allowed);
        let last = decided.len().saturating_sub(1);
        let as_user = |one: &&NotedDecision| one.name == Some(ActionName::CallWebApiAsUser);
        let person = decided.iter().find(as_user).map(|one| acting_as_grant(&one.resource));
        let pending = decided.into_iter().enumerate().map(|(index, mut decided)| {
            // Permitted by policy, but denied by the configuration.
            if denied_later && index == last {
                decided.decision = Decision::Denied;
            }
            let weight = decided.class();
            let reads = decided.name == Some(ActionName::ReadAssociates);
            let mut record = decided.record(context, code, reason);
            if let Some(person) = person.as_ref().filter(|_| reads) {
                record.acting_as = person.clone();
            }
            record.credential_id = credential.clone();
            self.trail.record(record, weight)
        });
        pending.collect()
    }
}

fn audit_unavailable(error: AuditUnavailable) -> Failure {
    BrokerError::StoreUnavailable(error.to_string().into()).into()
}

/// The notes of a call for its audit events.
#[derive(Default)]
pub(super) struct Notes {
    unwritten: Mutex<UnwrittenNotes>,
    reason: OnceLock<AuditText>,
    undecided: RequestCharge,
}

/// The notes that are not written yet.
#[derive(Default)]
struct UnwrittenNotes {
    decisions: Vec<NotedDecision>,
    credential: AuditText,
}

/// A policy decision.
#[derive(Clone)]
struct NotedDecision {
    action: &'static str,
    name: Option<ActionName>,
    resource: AuditText,
    decision: Decision,
    policy_ids: PolicyIds,
}

impl Notes {
    /// Returns the notes of an undecided call.
    pub(super) fn new(undecided: RequestCharge) -> Self {
        Self { undecided, ..Self::default() }
    }

    /// The memory charge of the call until policy permits it.
    pub(super) fn undecided(&self) -> &RequestCharge {
        &self.undecided
    }

    /// Sets the reason that the caller gave.
    pub(super) fn set_reason(&self, reason: String) {
        let _ = self.reason.set(reason.into());
    }

    /// Sets the credential that is issued, used or named.
    pub(super) fn set_credential(&self, id: &CredentialId) {
        self.lock().credential = id.shared().into();
    }

    /// Sets the resource of the last decision, if the action concerns a more specific one.
    pub(super) fn set_last_resource(&self, resource: impl Into<Resource>) {
        self.set_last_resource_name(resource.into().to_string());
    }

    /// Sets the resource name of the last decision.
    pub(super) fn set_last_resource_name(&self, name: String) {
        if let Some(last) = self.lock().decisions.last_mut() {
            last.resource = name.into();
        }
    }

    /// Sets the resource name of the decision on `action`, if the action concerns a more specific one.
    pub(super) fn set_resource_of(&self, action: ActionName, name: String) {
        let mut since_kept = self.lock();
        let decided = since_kept.decisions.iter_mut().find(|one| one.name == Some(action));
        if let Some(decided) = decided {
            decided.resource = name.into();
        }
    }

    pub(super) fn allowed(
        &self,
        action: ActionName,
        resource: &impl ToString,
        policy_ids: PolicyIds,
    ) {
        self.undecided.permit();
        if is_audited(action) {
            let resource = resource.to_string().into();
            let decision = Decision::Allowed;
            let (name, action) = (Some(action), action.as_str());
            self.note(NotedDecision { action, name, resource, decision, policy_ids });
        }
    }

    /// Notes a denial. `action` may be the name of a query that is not a policy action.
    pub(super) fn denied(&self, action: &'static str, resource: String, policy_ids: PolicyIds) {
        let (decision, resource) = (Decision::Denied, resource.into());
        let name = ActionName::from_name(action);
        self.note(NotedDecision { action, name, resource, decision, policy_ids });
    }

    /// Discards the unwritten notes, because their decisions had no effect.
    pub(super) fn discard(&self) {
        drop(self.take());
    }

    fn note(&self, decided: NotedDecision) {
        self.lock().decisions.push(decided);
    }

    fn take(&self) -> UnwrittenNotes {
        std::mem::take(&mut *self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, UnwrittenNotes> {
        self.unwritten.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl NotedDecision {
    fn class(&self) -> EventClass {
        match (self.decision, self.name) {
            (Decision::Allowed, Some(action)) => event_class(action),
            _ => EventClass::Change,
        }
    }

    fn record(self, context: &Context, code: Code, reason: Option<Reason>) -> AuditRecord {
        let caller = &context.caller;
        let acting_as = match self.name {
            Some(
                ActionName::IssueSystemTicket
                | ActionName::RevealApplicationToken
                | ActionName::ReadAssociates
                | ActionName::CallWebApiAsSystemUser,
            ) => SYSTEM_USER.into(),
            Some(ActionName::IssueAccessToken | ActionName::CallWebApiAsUser) => {
                acting_as_grant(&self.resource)
            }
            _ => AuditText::default(),
        };
        AuditRecord {
            caller: caller.shared_id().into(),
            caller_method: caller.method().as_str().into(),
            caller_issuer: caller.shared_issuer().map(AuditText::from).unwrap_or_default(),
            resource: self.resource,
            acting_as,
            policy_ids: self.policy_ids,
            code: code.into(),
            error_reason: reason,
            reason: context.notes.reason.get().cloned().unwrap_or_default(),
            request_id: Arc::clone(&context.request_id).into(),
            trace_id: context.trace_id.clone(),
            client_address: context.client_text.clone(),
            ..AuditRecord::new(self.action, self.decision)
        }
    }
}

/// Returns the `grants/{grant}` part of `applications/…/tenants/…/grants/{grant}`.
fn acting_as_grant(resource: &AuditText) -> AuditText {
    let grant = resource.to_string();
    let grant = grant.find("grants/").and_then(|start| grant.get(start..));
    grant.map(|text| text.to_owned().into()).unwrap_or_default()
}

/// Returns whether a permitted action gets an audit event. Reads of tenants, grants and the trail itself do not.
fn is_audited(action: ActionName) -> bool {
    !matches!(action, ActionName::ReadTenants | ActionName::ReadGrants | ActionName::ReadAudit)
}

fn event_class(action: ActionName) -> EventClass {
    match action {
        ActionName::IssueSystemTicket
        | ActionName::RevealApplicationToken
        | ActionName::IssueAccessToken
        | ActionName::ReadAssociates
        | ActionName::CallWebApi
        | ActionName::CallWebApiAsSystemUser
        | ActionName::CallWebApiAsUser
        | ActionName::CheckExternally => EventClass::Credential,
        ActionName::ReadTenants
        | ActionName::ManageTenants
        | ActionName::ReadGrants
        | ActionName::ManageGrants
        | ActionName::ReadAudit => EventClass::Change,
    }
}
