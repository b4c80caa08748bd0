//! The details of a use case's error in a gRPC status.

use tonic_types::ErrorDetails;

use crate::{
    broker::BrokerError,
    domain::{TenantName, Usability},
};

/// The types of resources in error details.
const APPLICATION: &str = "tenantgateway.v1.Application";
const TENANT: &str = "tenantgateway.v1.Tenant";
const ASSOCIATE: &str = "tenantgateway.v1.Associate";
const GRANT: &str = "tenantgateway.v1.Grant";

/// Adds the details that gRPC clients can read from the error.
pub(super) fn add_broker_details(error: &BrokerError, details: &mut ErrorDetails) {
    let stopped = matches!(error, BrokerError::TenantNotRunning(_, state)
        if !matches!(state.usability(), Usability::RetryAfter(_)));
    // A permanent state gets no retry delay.
    if let Some(after) = error.retry_after().filter(|_| !stopped) {
        details.set_retry_info(Some(after));
    }
    match error {
        BrokerError::Invalid { field, problem } => {
            details.add_bad_request_violation(*field, problem);
        }
        BrokerError::ApplicationNotConfigured(_)
        | BrokerError::TenantNotFound(_)
        | BrokerError::AssociatesNotFound(..)
        | BrokerError::AssociateNotMatched(_)
        | BrokerError::GrantNotFound(_)
        | BrokerError::TenantExists(_)
        | BrokerError::VersionConflict(_) => {
            if let Some((kind, name)) = resource_of(error) {
                details.set_resource_info(kind, name, "", error.message());
            }
        }
        BrokerError::TenantHasGrants(_)
        | BrokerError::TenantDisabled(_)
        | BrokerError::NotEnrolled(_)
        | BrokerError::AssociateAmbiguous(..)
        | BrokerError::ConsentRequired(..)
        | BrokerError::SubjectMismatch(_)
        | BrokerError::CannotSignIn(..)
        | BrokerError::GrantAmbiguous(..)
        | BrokerError::Refused(..)
        | BrokerError::ClientSecretRefused(_)
        | BrokerError::ConsentInvalid(_)
        | BrokerError::ConsentRefused
        | BrokerError::WrongSignIn(_) => add_precondition(error, details),
        BrokerError::TenantNotRunning(..) if stopped => add_precondition(error, details),
        BrokerError::BudgetExhausted { tenant, .. } => {
            let description = "applications.calls_per_second of the gateway's configuration";
            details.add_quota_failure_violation(tenant.to_string(), description);
        }
        BrokerError::TooManyConsents => {
            details.add_quota_failure_violation("open consents", error.mend());
        }
        BrokerError::TenantNotRunning(..)
        | BrokerError::UpstreamUnavailable { .. }
        | BrokerError::OutcomeUnknown { .. }
        | BrokerError::UpstreamInvalid { .. }
        | BrokerError::OwnerUnknown(..)
        | BrokerError::StoreUnavailable(_)
        | BrokerError::StoreOutcomeUnknown(_)
        | BrokerError::KeyUnavailable(_)
        | BrokerError::RevealNotAllowed(_)
        | BrokerError::NoLongerPermitted(_)
        | BrokerError::Internal(_) => {}
    }
}

/// Adds the precondition that the tenant, or the configuration, does not meet.
fn add_precondition(error: &BrokerError, details: &mut ErrorDetails) {
    let subject = tenant_of(error).map(ToString::to_string).unwrap_or_default();
    let description = format!("{}; {}", error.message(), error.mend());
    details.add_precondition_failure_violation(error.reason().as_str(), subject, description);
}

/// Returns the type and the name of the resource that does not exist, exists already, or was changed.
fn resource_of(error: &BrokerError) -> Option<(&'static str, String)> {
    match error {
        BrokerError::ApplicationNotConfigured(id) => {
            Some((APPLICATION, format!("applications/{id}")))
        }
        BrokerError::TenantNotFound(name) => Some((TENANT, name.clone())),
        BrokerError::TenantExists(name) | BrokerError::VersionConflict(name) => {
            Some((TENANT, name.to_string()))
        }
        BrokerError::AssociatesNotFound(tenant, ids) => {
            let first = ids.first().map(|id| format!("{tenant}/associates/{id}"));
            Some((ASSOCIATE, first.unwrap_or_default()))
        }
        BrokerError::AssociateNotMatched(tenant) => {
            Some((ASSOCIATE, format!("{tenant}/associates/-")))
        }
        BrokerError::GrantNotFound(name) => Some((GRANT, name.clone())),
        _ => None,
    }
}

/// Returns the tenant that the error is about.
pub(super) fn tenant_of(error: &BrokerError) -> Option<&TenantName> {
    match error {
        BrokerError::TenantExists(name)
        | BrokerError::VersionConflict(name)
        | BrokerError::TenantHasGrants(name)
        | BrokerError::TenantDisabled(name)
        | BrokerError::NotEnrolled(name)
        | BrokerError::Refused(name, _)
        | BrokerError::AssociatesNotFound(name, _)
        | BrokerError::AssociateNotMatched(name)
        | BrokerError::AssociateAmbiguous(name, _)
        | BrokerError::ConsentRequired(name, _)
        | BrokerError::SubjectMismatch(name)
        | BrokerError::CannotSignIn(name, _)
        | BrokerError::GrantAmbiguous(name, _)
        | BrokerError::TenantNotRunning(name, _)
        | BrokerError::BudgetExhausted { tenant: name, .. } => Some(name),
        _ => None,
    }
}
