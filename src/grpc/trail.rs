//! What a call leaves in the audit trail: an event for each decision on a credential, each change and each denial,
//! with how the call ended. It is written on the way out, before the answer.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tonic::Code;

use super::{failure::Failure, layer::Context};
use crate::{
    access::{ActionName, PolicyIds, Resource},
    broker::{Attempts, AuditUnavailable, BrokerError, Pending, Trail, Weight},
    domain::{AuditRecord, AuditText, CredentialId, Decision, Reason},
    listen::Undecided,
};

/// What acts on SuperOffice with the system user's ticket.
const SYSTEM_USER: &str = "system";

/// The trail of the server, and those who never say who they are.
pub struct Audit {
    /// Where events go.
    pub trail: Arc<Trail>,
    /// Where calls without a good credential are counted.
    pub attempts: Arc<Attempts>,
}

impl Audit {
    /// Before a permitted action is done: whether its event can be kept.
    pub(super) fn check(&self, action: ActionName) -> Result<(), Failure> {
        if !is_kept(action) {
            return Ok(());
        }
        self.trail.check(weight(action)).map_err(unavailable)
    }

    /// Writes what was noted of the call since the last time, and waits for it as far as configuration asks.
    pub(super) async fn keep(
        &self,
        context: &Context,
        code: Code,
        reason: Option<Reason>,
    ) -> Result<(), Failure> {
        let pending = self.begin(context, code, reason).map_err(unavailable)?;
        // Too late to hand anything out, and nobody waits for longer than the deadline.
        if code != Code::DeadlineExceeded {
            for pending in pending {
                pending.committed().await.map_err(unavailable)?;
            }
        }
        Ok(())
    }

    /// Writes what was decided before it is done. How it ends is written by itself.
    pub(super) async fn announce(&self, context: &Context) -> Result<(), Failure> {
        let decided = context.notes.lock().decided.clone();
        self.keep(context, Code::Ok, None).await?;
        context.notes.lock().decided = decided;
        Ok(())
    }

    /// The same for a call that nobody waits for any more.
    pub(super) fn keep_unanswered(&self, context: &Context) {
        // What the trail cannot take is in the log: nobody is left to be refused.
        if self.begin(context, Code::Cancelled, None).is_err() {
            tracing::error!(
                request_id = &*context.request_id,
                "a cancelled call is not in the audit trail"
            );
        }
    }

    fn begin(
        &self,
        context: &Context,
        code: Code,
        reason: Option<Reason>,
    ) -> Result<Vec<Pending>, AuditUnavailable> {
        let SinceKept { decided, credential } = context.notes.take();
        let denied_later = reason == Some(Reason::PolicyDenied)
            && decided.iter().all(|one| one.decision == Decision::Allowed);
        let last = decided.len().saturating_sub(1);
        let as_user = |one: &&Decided| one.name == Some(ActionName::CallWebApiAsUser);
        let person = decided.iter().find(as_user).map(|one| acting_as_grant(&one.resource));
        let pending = decided.into_iter().enumerate().map(|(index, mut decided)| {
            // Permitted by policy, but not by the configuration.
            if denied_later && index == last {
                decided.decision = Decision::Denied;
            }
            let weight = decided.weight();
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

fn unavailable(error: AuditUnavailable) -> Failure {
    BrokerError::StoreUnavailable(error.to_string().into()).into()
}

/// What is noted of a call for its events.
#[derive(Default)]
pub(super) struct Notes {
    since_kept: Mutex<SinceKept>,
    reason: OnceLock<AuditText>,
    undecided: Undecided,
}

/// What was noted since events were last written.
#[derive(Default)]
struct SinceKept {
    decided: Vec<Decided>,
    credential: AuditText,
}

/// One decision.
#[derive(Clone)]
struct Decided {
    action: &'static str,
    name: Option<ActionName>,
    resource: AuditText,
    decision: Decision,
    policy_ids: PolicyIds,
}

impl Notes {
    /// Returns the notes of a call that nothing was permitted to yet.
    pub(super) fn new(undecided: Undecided) -> Self {
        Self { undecided, ..Self::default() }
    }

    /// The memory that the call holds until something is permitted.
    pub(super) fn undecided(&self) -> &Undecided {
        &self.undecided
    }

    /// The caller's own words.
    pub(super) fn reason(&self, reason: String) {
        let _ = self.reason.set(reason.into());
    }

    /// The credential that is handed out or named.
    pub(super) fn credential(&self, id: &CredentialId) {
        self.lock().credential = id.shared().into();
    }

    /// The resource of the last decision, where it is known better than what was decided on.
    pub(super) fn resource(&self, resource: impl Into<Resource>) {
        self.named(resource.into().to_string());
    }

    /// The same, by its name.
    pub(super) fn named(&self, name: String) {
        if let Some(last) = self.lock().decided.last_mut() {
            last.resource = name.into();
        }
    }

    /// The resource of a decision, where it is known better than what was decided on.
    pub(super) fn done_to(&self, action: ActionName, name: String) {
        let mut since_kept = self.lock();
        let decided = since_kept.decided.iter_mut().find(|one| one.name == Some(action));
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
        if is_kept(action) {
            let resource = resource.to_string().into();
            let decision = Decision::Allowed;
            let (name, action) = (Some(action), action.as_str());
            self.note(Decided { action, name, resource, decision, policy_ids });
        }
    }

    /// `action` may be a question that is no action of the policy.
    pub(super) fn denied(&self, action: &'static str, resource: String, policy_ids: PolicyIds) {
        let (decision, resource) = (Decision::Denied, resource.into());
        let name = ActionName::from_name(action);
        self.note(Decided { action, name, resource, decision, policy_ids });
    }

    /// What was decided since events were last written came to nothing.
    pub(super) fn forget(&self) {
        drop(self.take());
    }

    fn note(&self, decided: Decided) {
        self.lock().decided.push(decided);
    }

    fn take(&self) -> SinceKept {
        std::mem::take(&mut *self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, SinceKept> {
        self.since_kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Decided {
    fn weight(&self) -> Weight {
        match (self.decision, self.name) {
            (Decision::Allowed, Some(action)) => weight(action),
            _ => Weight::Change,
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

/// Of `applications/…/tenants/…/grants/{grant}` the end, which stands in `credential` too.
fn acting_as_grant(resource: &AuditText) -> AuditText {
    let grant = resource.to_string();
    let grant = grant.find("grants/").and_then(|start| grant.get(start..));
    grant.map(|text| text.to_owned().into()).unwrap_or_default()
}

/// Of what is permitted, looking at tenants, grants and the trail itself leaves no event.
fn is_kept(action: ActionName) -> bool {
    !matches!(action, ActionName::ReadTenants | ActionName::ReadGrants | ActionName::ReadAudit)
}

fn weight(action: ActionName) -> Weight {
    match action {
        ActionName::IssueSystemTicket
        | ActionName::RevealApplicationToken
        | ActionName::IssueAccessToken
        | ActionName::ReadAssociates
        | ActionName::CallWebApi
        | ActionName::CallWebApiAsSystemUser
        | ActionName::CallWebApiAsUser
        | ActionName::CheckExternally => Weight::Credential,
        ActionName::ReadTenants
        | ActionName::ManageTenants
        | ActionName::ReadGrants
        | ActionName::ManageGrants
        | ActionName::ReadAudit => Weight::Change,
    }
}
