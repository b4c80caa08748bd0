//! Audit events of browsers that come back to the callback, in the name of the caller that began the consent.

use std::sync::Arc;

use super::{
    Shared, StillPermitted,
    callback::{CallbackRequest, CompletedConsent},
    failure,
};
use crate::{
    access::{ActionName, PolicyIds},
    audit::{AuditedDecision, EventClass, EventOrigin, EventResult},
    broker::BrokerError,
    domain::{AuditRecord, AuditText, AuditedCaller, Consent, Decision, TenantName},
};

/// The authentication method in these events: a person's browser came, and no caller was authenticated.
const METHOD: &str = "consent";

/// Decisions and changes so far, for the audit event of any outcome.
#[derive(Default)]
pub(super) struct AuditProgress {
    /// The tenant that was enrolled.
    pub(super) enrolled: Option<TenantName>,
    /// The tenant that the person signed in to.
    pub(super) given: Option<TenantName>,
    /// The policies that permit the grant, and those that permit the enrolment.
    policy_ids: (PolicyIds, PolicyIds),
}

impl Shared {
    /// Records the decisions before anything is stored.
    pub(super) async fn audit_decision(
        &self,
        consent: &Consent,
        callback: &CallbackRequest,
        permitted: &StillPermitted,
        progress: &mut AuditProgress,
    ) -> Result<(), BrokerError> {
        let StillPermitted { grants, tenants } = permitted;
        progress.policy_ids.0 = Arc::clone(grants.policy_ids());
        let grants = (ActionName::ManageGrants, grants.resource(), grants.policy_ids());
        let tenants = tenants.as_ref().map(|tenants| {
            progress.policy_ids.1 = Arc::clone(tenants.policy_ids());
            (ActionName::ManageTenants, tenants.resource(), tenants.policy_ids())
        });
        let events = [Some(grants), tenants].into_iter().flatten();
        let origin = event_origin(consent, callback);
        let events = events.map(|(action, resource, policy_ids)| {
            let decided = allowed(action, resource.to_string(), Arc::clone(policy_ids));
            origin.event(decided, EventResult::SUCCESS)
        });
        self.commit(events).await
    }

    /// Records the outcome: one event for the grant, and one for the tenant if it was enrolled. If the event cannot be
    /// recorded, the result is an error.
    pub(super) async fn audit_outcome(
        &self,
        consent: &Consent,
        callback: &CallbackRequest,
        result: Result<CompletedConsent, BrokerError>,
        progress: AuditProgress,
    ) -> Result<CompletedConsent, BrokerError> {
        let AuditProgress { enrolled, given, policy_ids } = progress;
        let reason = result.as_ref().err().map(BrokerError::reason);
        let (of_grant, of_tenant) = policy_ids;
        let first = match &result {
            Err(BrokerError::NoLongerPermitted(denied)) => AuditedDecision {
                decision: Decision::Denied,
                ..allowed(
                    denied.action,
                    Arc::clone(&denied.resource),
                    Arc::clone(&denied.policy_ids),
                )
            },
            Ok(completed) => {
                allowed(ActionName::ManageGrants, completed.grant.name.to_string(), of_grant)
            }
            Err(_) => allowed(ActionName::ManageGrants, scope_name(consent), of_grant),
        };
        let second = enrolled
            .map(|tenant| allowed(ActionName::ManageTenants, tenant.to_string(), of_tenant));
        let origin = event_origin(consent, callback);
        let decisions = [Some(first), second].into_iter().flatten();
        let events = decisions.map(|decided| origin.event(decided, reason.into()));
        let written = self.commit(events).await;
        if let Some(error) = result.as_ref().err().or(written.as_ref().err()) {
            failure::log(&callback.request_id, Some(consent), given.as_ref(), error);
        }
        written?;
        result
    }

    async fn commit(&self, events: impl Iterator<Item = AuditRecord>) -> Result<(), BrokerError> {
        let pending: Vec<_> =
            events.map(|event| self.trail.record(event, EventClass::Change)).collect();
        for pending in pending {
            pending?.committed().await?;
        }
        Ok(())
    }
}

fn event_origin(consent: &Consent, callback: &CallbackRequest) -> EventOrigin {
    let caller = AuditedCaller {
        id: consent.caller.id.clone().into(),
        method: METHOD.into(),
        issuer: consent.caller.issuer.clone().unwrap_or_default().into(),
    };
    EventOrigin {
        caller,
        client_address: callback.client_address.clone(),
        request_id: Arc::clone(&callback.request_id).into(),
        reason: consent.reason.clone().into(),
        ..EventOrigin::default()
    }
}

fn allowed(
    action: ActionName,
    resource: impl Into<AuditText>,
    policy_ids: PolicyIds,
) -> AuditedDecision {
    let decided = AuditedDecision::new(action.as_str(), resource, Decision::Allowed);
    AuditedDecision { policy_ids, ..decided }
}

fn scope_name(consent: &Consent) -> String {
    let application = &consent.application;
    match consent.tenant {
        Some(tenant) => TenantName { application: application.clone(), tenant }.to_string(),
        None => format!("applications/{application}"),
    }
}
