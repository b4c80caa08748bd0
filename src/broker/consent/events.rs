//! Audit events of browsers that come back to the callback, in the name of the caller that began the consent.

use std::sync::Arc;

use super::{CallbackRequest, CompletedConsent, Shared, StillPermitted, failure};
use crate::{
    access::{ActionName, PolicyIds},
    broker::{BrokerError, EventClass},
    domain::{AuditRecord, Consent, Decision, Reason, TenantName},
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
        let events = events.map(|(action, resource, policy_ids)| AuditRecord {
            resource: resource.to_string().into(),
            policy_ids: Arc::clone(policy_ids),
            ..record(action, consent, callback)
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
        let ended = |action: ActionName| AuditRecord {
            code: reason.map_or(0, Reason::code),
            error_reason: reason,
            ..record(action, consent, callback)
        };
        let first = match &result {
            Err(BrokerError::NoLongerPermitted(denied)) => AuditRecord {
                resource: Arc::clone(&denied.resource).into(),
                decision: Decision::Denied,
                policy_ids: Arc::clone(&denied.policy_ids),
                ..ended(denied.action)
            },
            other => AuditRecord {
                resource: match other {
                    Ok(taken) => taken.grant.name.to_string().into(),
                    Err(_) => scope_name(consent).into(),
                },
                policy_ids: policy_ids.0,
                ..ended(ActionName::ManageGrants)
            },
        };
        let second = enrolled.map(|tenant| AuditRecord {
            resource: tenant.to_string().into(),
            policy_ids: policy_ids.1,
            ..ended(ActionName::ManageTenants)
        });
        let written = self.commit([Some(first), second].into_iter().flatten()).await;
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
            let committed = match pending {
                Ok(pending) => pending.committed().await,
                Err(error) => Err(error),
            };
            committed.map_err(|_| audit_unavailable())?;
        }
        Ok(())
    }
}

fn record(action: ActionName, consent: &Consent, callback: &CallbackRequest) -> AuditRecord {
    AuditRecord {
        caller: consent.caller.id.clone().into(),
        caller_method: METHOD.into(),
        caller_issuer: consent.caller.issuer.clone().unwrap_or_default().into(),
        reason: consent.reason.clone().into(),
        request_id: Arc::clone(&callback.request_id).into(),
        client_address: callback.client_address.clone(),
        ..AuditRecord::new(action.as_str(), Decision::Allowed)
    }
}

fn scope_name(consent: &Consent) -> String {
    let application = &consent.application;
    match consent.tenant {
        Some(tenant) => TenantName { application: application.clone(), tenant }.to_string(),
        None => format!("applications/{application}"),
    }
}

pub(super) fn audit_unavailable() -> BrokerError {
    BrokerError::StoreUnavailable("the audit trail cannot accept the event".into())
}
