//! The notes of a call for its audit events: the decisions, the credential, the caller's reason and the Web API call.

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use crate::{
    access::{ActionName, PolicyIds, Resource},
    audit::{AuditedDecision, AuditedWebApiCall, EventClass},
    domain::{AuditText, CredentialId, Decision},
};

/// The notes of a call for its audit events.
#[derive(Default)]
pub(super) struct Notes {
    unwritten: Mutex<UnwrittenNotes>,
    reason: OnceLock<AuditText>,
    web_api_call: OnceLock<AuditedWebApiCall>,
}

/// The notes that are not written yet.
#[derive(Default)]
pub(super) struct UnwrittenNotes {
    pub(super) decisions: Vec<NotedDecision>,
    pub(super) credential: AuditText,
}

/// A policy decision.
#[derive(Clone)]
pub(super) struct NotedDecision {
    /// The policy action; `None` for a query that is not a policy action.
    pub(super) name: Option<ActionName>,
    pub(super) decided: AuditedDecision,
}

/// The resource of a noted decision.
#[derive(Clone, Copy)]
pub(super) enum NotedResource<'a> {
    /// The resource that policy decided on.
    Exact(&'a Resource),
    /// A name that stands for several resources, or the text of the request.
    Name(&'a str),
}

impl<'a> From<&'a Resource> for NotedResource<'a> {
    fn from(resource: &'a Resource) -> Self {
        Self::Exact(resource)
    }
}

impl Notes {
    /// The reason that the caller gave; empty if it gave none.
    pub(super) fn reason(&self) -> AuditText {
        self.reason.get().cloned().unwrap_or_default()
    }

    /// Sets the reason that the caller gave.
    pub(super) fn set_reason(&self, reason: String) {
        let _ = self.reason.set(reason.into());
    }

    /// The Web API call that is requested; empty for other calls.
    pub(super) fn web_api_call(&self) -> AuditedWebApiCall {
        self.web_api_call.get().cloned().unwrap_or_default()
    }

    /// Sets the Web API call that is requested.
    pub(super) fn set_web_api_call(&self, call: AuditedWebApiCall) {
        let _ = self.web_api_call.set(call);
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
            last.decided.resource = name.into();
        }
    }

    /// Sets the resource name of the decision on `action`, if the action concerns a more specific one.
    pub(super) fn set_resource_of(&self, action: ActionName, name: String) {
        let mut unwritten = self.lock();
        let noted = unwritten.decisions.iter_mut().find(|noted| noted.name == Some(action));
        if let Some(noted) = noted {
            noted.decided.resource = name.into();
        }
    }

    /// Notes a permission.
    pub(super) fn allowed<'a>(
        &self,
        action: ActionName,
        resource: impl Into<NotedResource<'a>>,
        policy_ids: PolicyIds,
    ) {
        if is_audited(action) {
            let (name, action) = (Some(action), action.as_str());
            self.note(name, action, resource.into(), Decision::Allowed, policy_ids);
        }
    }

    /// Notes a denial. `action` may be the name of a query that is not a policy action.
    pub(super) fn denied<'a>(
        &self,
        action: &'static str,
        resource: impl Into<NotedResource<'a>>,
        policy_ids: PolicyIds,
    ) {
        let name = ActionName::from_name(action);
        self.note(name, action, resource.into(), Decision::Denied, policy_ids);
    }

    /// Discards the unwritten notes, because their decisions had no effect.
    pub(super) fn discard(&self) {
        drop(self.take());
    }

    fn note(
        &self,
        name: Option<ActionName>,
        action: &'static str,
        resource: NotedResource<'_>,
        decision: Decision,
        policy_ids: PolicyIds,
    ) {
        let (exact, text) = match resource {
            NotedResource::Exact(exact) => (Some(exact), exact.to_string()),
            NotedResource::Name(text) => (None, text.to_owned()),
        };
        let actor = name.and_then(|name| name.actor(exact));
        let decided = AuditedDecision::new(action, text, decision);
        let decided = AuditedDecision { actor, policy_ids, ..decided };
        self.lock().decisions.push(NotedDecision { name, decided });
    }

    /// Returns a copy of the unwritten decisions.
    pub(super) fn decisions(&self) -> Vec<NotedDecision> {
        self.lock().decisions.clone()
    }

    /// Sets the unwritten decisions.
    pub(super) fn set_decisions(&self, decisions: Vec<NotedDecision>) {
        self.lock().decisions = decisions;
    }

    /// Takes the unwritten notes.
    pub(super) fn take(&self) -> UnwrittenNotes {
        std::mem::take(&mut *self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, UnwrittenNotes> {
        self.unwritten.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl NotedDecision {
    /// Returns the class of the decision's audit event.
    pub(super) fn class(&self) -> EventClass {
        match (self.decided.decision, self.name) {
            (Decision::Allowed, Some(action)) => event_class(action),
            _ => EventClass::Change,
        }
    }
}

/// Returns whether a permitted action gets an audit event. Reads of tenants, grants and the trail itself do not.
pub(super) fn is_audited(action: ActionName) -> bool {
    !matches!(action, ActionName::ReadTenants | ActionName::ReadGrants | ActionName::ReadAudit)
}

/// Returns the class of the audit event of a permitted action.
pub(super) fn event_class(action: ActionName) -> EventClass {
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
