//! What the trail says of a browser that comes back: it is done on behalf of the caller that began.

use std::sync::Arc;

use super::{Arrival, ConsentTaken, Shared, StillPermitted, failed};
use crate::{
    access::{ActionName, PolicyIds},
    broker::{BrokerError, Weight},
    domain::{AuditRecord, Consent, Decision, Reason, TenantName},
};

/// How an event says that nobody proved who calls: a person's browser came.
const METHOD: &str = "consent";

/// What was decided and done on the way, whatever it comes to.
#[derive(Default)]
pub(super) struct Progress {
    /// The tenant that was changed beside.
    pub(super) enrolled: Option<TenantName>,
    /// The tenant that the person signed in to.
    pub(super) given: Option<TenantName>,
    /// The policies that permit the grant, and the change of the tenant.
    policy_ids: (PolicyIds, PolicyIds),
}

impl Shared {
    /// Writes down what was decided, before anything is stored.
    pub(super) async fn announce(
        &self,
        consent: &Consent,
        arrival: &Arrival,
        permitted: &StillPermitted,
        progress: &mut Progress,
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
            ..record(action, consent, arrival)
        });
        self.commit(events).await
    }

    /// How it ended: one event for the grant, and one for the tenant if it was enrolled. A result that cannot be
    /// written down is none.
    pub(super) async fn write_down(
        &self,
        consent: &Consent,
        arrival: &Arrival,
        result: Result<ConsentTaken, BrokerError>,
        progress: Progress,
    ) -> Result<ConsentTaken, BrokerError> {
        let Progress { enrolled, given, policy_ids } = progress;
        let reason = result.as_ref().err().map(BrokerError::reason);
        let ended = |action: ActionName| AuditRecord {
            code: reason.map_or(0, Reason::code),
            error_reason: reason,
            ..record(action, consent, arrival)
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
                    Err(_) => asked_for(consent).into(),
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
            failed::log(&arrival.request_id, Some(consent), given.as_ref(), error);
        }
        written?;
        result
    }

    async fn commit(&self, events: impl Iterator<Item = AuditRecord>) -> Result<(), BrokerError> {
        let pending: Vec<_> =
            events.map(|event| self.trail.record(event, Weight::Change)).collect();
        for pending in pending {
            let committed = match pending {
                Ok(pending) => pending.committed().await,
                Err(error) => Err(error),
            };
            committed.map_err(|_| no_trail())?;
        }
        Ok(())
    }
}

fn record(action: ActionName, consent: &Consent, arrival: &Arrival) -> AuditRecord {
    AuditRecord {
        caller: consent.caller.id.clone().into(),
        caller_method: METHOD.into(),
        caller_issuer: consent.caller.issuer.clone().unwrap_or_default().into(),
        reason: consent.reason.clone().into(),
        request_id: Arc::clone(&arrival.request_id).into(),
        client_address: arrival.client_address.clone(),
        ..AuditRecord::new(action.as_str(), Decision::Allowed)
    }
}

fn asked_for(consent: &Consent) -> String {
    let application = &consent.application;
    match consent.tenant {
        Some(tenant) => TenantName { application: application.clone(), tenant }.to_string(),
        None => format!("applications/{application}"),
    }
}

pub(super) fn no_trail() -> BrokerError {
    BrokerError::StoreUnavailable("the audit trail cannot take the event".into())
}
