//! Compares every failure with the table of codes, reasons and details.

use super::*;
use crate::{
    access::{ActionName, QuotaKind},
    broker::{ConsentReason, InvalidConsentCause, PermissionLost, SignInMismatch},
    domain::{TenantName, TenantState},
    ports::Refusal,
};

fn tenant() -> TenantName {
    "applications/crm-sync/tenants/Cust12345".parse().unwrap()
}

fn associate() -> crate::domain::AssociateName {
    "applications/crm-sync/tenants/Cust12345/associates/5".parse().unwrap()
}

fn broker_errors() -> Vec<BrokerError> {
    let cause = || "secret cause".into();
    vec![
        BrokerError::Invalid { field: "min_ttl", problem: "too long".to_owned() },
        BrokerError::RevealNotAllowed(tenant().application),
        BrokerError::ApplicationNotConfigured(tenant().application),
        BrokerError::TenantNotFound(tenant().to_string()),
        BrokerError::TenantExists(tenant()),
        BrokerError::VersionConflict(tenant()),
        BrokerError::TenantHasGrants(tenant()),
        BrokerError::TenantDisabled(tenant()),
        BrokerError::NotEnrolled(tenant()),
        BrokerError::Refused(tenant(), Refusal::Revoked),
        BrokerError::Refused(tenant(), Refusal::Expired),
        BrokerError::Refused(tenant(), Refusal::NeedsReapproval),
        BrokerError::Refused(tenant(), Refusal::Rejected),
        BrokerError::Refused(tenant(), Refusal::Credential),
        BrokerError::Refused(tenant(), Refusal::Clock),
        BrokerError::ClientSecretRefused(tenant().application),
        BrokerError::ConsentInvalid(InvalidConsentCause::UnknownState),
        BrokerError::ConsentRefused,
        BrokerError::WrongSignIn(SignInMismatch::Person),
        BrokerError::WrongSignIn(SignInMismatch::Tenant),
        BrokerError::NoLongerPermitted(PermissionLost {
            action: ActionName::ManageGrants,
            resource: "secret cause".into(),
            policy_ids: ["secret cause".into()].into(),
        }),
        BrokerError::TooManyConsents,
        BrokerError::TenantNotRunning(tenant(), TenantState::Suspended),
        BrokerError::TenantNotRunning(tenant(), TenantState::OfflineMaintenance),
        BrokerError::AssociatesNotFound(tenant(), [associate().associate].into()),
        BrokerError::AssociateNotMatched(tenant()),
        BrokerError::AssociateAmbiguous(tenant(), 2),
        BrokerError::GrantNotFound(format!("{}/grants/g1", tenant())),
        BrokerError::ConsentRequired(tenant(), ConsentReason::NotGiven),
        BrokerError::SubjectMismatch(tenant()),
        BrokerError::CannotSignIn(tenant(), crate::domain::AssociateType::System),
        BrokerError::GrantAmbiguous(tenant(), 2),
        BrokerError::OwnerUnknown(associate(), Vec::new()),
        BrokerError::UpstreamUnavailable { retry_after: Duration::from_secs(7), cause: cause() },
        BrokerError::OutcomeUnknown { timed_out: true, cause: cause() },
        BrokerError::OutcomeUnknown { timed_out: false, cause: cause() },
        BrokerError::BudgetExhausted { tenant: tenant(), retry_after: Duration::from_millis(100) },
        BrokerError::upstream_invalid(cause()),
        BrokerError::StoreUnavailable(cause()),
        BrokerError::StoreOutcomeUnknown(cause()),
        BrokerError::KeyUnavailable(cause()),
        BrokerError::Internal(cause()),
    ]
}

fn all() -> Vec<Failure> {
    let mut all: Vec<_> = broker_errors().into_iter().map(Failure::Broker).collect();
    all.extend([
        Failure::invalid("tenant", "wrong"),
        Failure::Unauthenticated("secret cause".to_owned()),
        Failure::CertificateNotTrusted,
        Failure::IssuerUnavailable {
            cause: "secret cause".to_owned(),
            retry_after: Duration::from_secs(3),
        },
        Failure::Denied,
        Failure::PathNotAllowed,
        Failure::OverQuota(OverQuota {
            quota: QuotaKind::Caller,
            retry_after: Duration::from_millis(20),
        }),
        Failure::Overloaded,
        Failure::Unimplemented("this".to_owned()),
        Failure::EncodingNotAccepted,
        Failure::TooLarge("too large".to_owned()),
        Failure::DeadlineExceeded,
        Failure::ShuttingDown,
        Failure::WatchTooSlow,
        Failure::Panicked,
    ]);
    all
}

/// Does not compile when a variant is added, so that it is added to the list above, too.
fn assert_listed(failure: &Failure) {
    match failure {
        Failure::Invalid(_)
        | Failure::Unauthenticated(_)
        | Failure::CertificateNotTrusted
        | Failure::IssuerUnavailable { .. }
        | Failure::Denied
        | Failure::PathNotAllowed
        | Failure::OverQuota(_)
        | Failure::Overloaded
        | Failure::Unimplemented(_)
        | Failure::EncodingNotAccepted
        | Failure::TooLarge(_)
        | Failure::DeadlineExceeded
        | Failure::ShuttingDown
        | Failure::WatchTooSlow
        | Failure::Panicked => {}
        Failure::Broker(error) => match error {
            BrokerError::Invalid { .. }
            | BrokerError::RevealNotAllowed(_)
            | BrokerError::ApplicationNotConfigured(_)
            | BrokerError::TenantNotFound(_)
            | BrokerError::TenantExists(_)
            | BrokerError::VersionConflict(_)
            | BrokerError::TenantHasGrants(_)
            | BrokerError::TenantDisabled(_)
            | BrokerError::NotEnrolled(_)
            | BrokerError::Refused(..)
            | BrokerError::ClientSecretRefused(_)
            | BrokerError::ConsentInvalid(_)
            | BrokerError::ConsentRefused
            | BrokerError::WrongSignIn(_)
            | BrokerError::NoLongerPermitted(_)
            | BrokerError::TooManyConsents
            | BrokerError::TenantNotRunning(..)
            | BrokerError::AssociatesNotFound(..)
            | BrokerError::AssociateNotMatched(_)
            | BrokerError::AssociateAmbiguous(..)
            | BrokerError::GrantNotFound(_)
            | BrokerError::ConsentRequired(..)
            | BrokerError::SubjectMismatch(_)
            | BrokerError::CannotSignIn(..)
            | BrokerError::GrantAmbiguous(..)
            | BrokerError::OwnerUnknown(..)
            | BrokerError::UpstreamUnavailable { .. }
            | BrokerError::OutcomeUnknown { .. }
            | BrokerError::BudgetExhausted { .. }
            | BrokerError::UpstreamInvalid { .. }
            | BrokerError::StoreUnavailable(_)
            | BrokerError::StoreOutcomeUnknown(_)
            | BrokerError::KeyUnavailable(_)
            | BrokerError::Internal(_) => {}
        },
    }
}

#[test]
fn every_error_has_its_documented_code_reason_and_details() {
    let table: Vec<String> = all()
        .iter()
        .map(|failure| {
            assert_listed(failure);
            let status = failure.status("id-1");
            let details = status.get_error_details();
            let info = details.error_info().unwrap();
            assert_eq!(info.domain, "tenantgateway");
            let mut line = format!("{} {}", code_name(status.code()), info.reason);
            for (there, name) in [
                (details.bad_request().is_some(), "BadRequest"),
                (details.resource_info().is_some(), "ResourceInfo"),
                (details.precondition_failure().is_some(), "PreconditionFailure"),
                (details.quota_failure().is_some(), "QuotaFailure"),
                (details.retry_info().is_some(), "RetryInfo"),
                (details.request_info().is_some(), "RequestInfo"),
            ] {
                if there {
                    line = format!("{line} {name}");
                }
            }
            line
        })
        .collect();
    let wanted = [
        "INVALID_ARGUMENT INVALID_ARGUMENT BadRequest",
        "PERMISSION_DENIED POLICY_DENIED",
        "NOT_FOUND APPLICATION_NOT_CONFIGURED ResourceInfo",
        "NOT_FOUND RESOURCE_NOT_FOUND ResourceInfo",
        "ALREADY_EXISTS ALREADY_EXISTS ResourceInfo",
        "ABORTED VERSION_CONFLICT ResourceInfo",
        "FAILED_PRECONDITION TENANT_HAS_GRANTS PreconditionFailure",
        "FAILED_PRECONDITION TENANT_DISABLED PreconditionFailure",
        "FAILED_PRECONDITION SYSTEM_USER_NOT_ENROLLED PreconditionFailure",
        "FAILED_PRECONDITION APPLICATION_REVOKED PreconditionFailure",
        "FAILED_PRECONDITION APPLICATION_EXPIRED PreconditionFailure",
        "FAILED_PRECONDITION APPLICATION_NEEDS_REAPPROVAL PreconditionFailure",
        "FAILED_PRECONDITION SYSTEM_USER_REJECTED PreconditionFailure",
        "FAILED_PRECONDITION APPLICATION_CREDENTIAL_REFUSED PreconditionFailure",
        "UNAVAILABLE UPSTREAM_UNAVAILABLE PreconditionFailure",
        "FAILED_PRECONDITION APPLICATION_CREDENTIAL_REFUSED PreconditionFailure",
        "FAILED_PRECONDITION CONSENT_INVALID PreconditionFailure",
        "FAILED_PRECONDITION CONSENT_REQUIRED PreconditionFailure",
        "FAILED_PRECONDITION SUBJECT_MISMATCH PreconditionFailure",
        "FAILED_PRECONDITION SUBJECT_MISMATCH PreconditionFailure",
        "PERMISSION_DENIED POLICY_DENIED",
        "RESOURCE_EXHAUSTED CALLER_QUOTA_EXCEEDED QuotaFailure RetryInfo",
        "FAILED_PRECONDITION TENANT_NOT_RUNNING PreconditionFailure",
        "UNAVAILABLE TENANT_NOT_RUNNING RetryInfo",
        "NOT_FOUND RESOURCE_NOT_FOUND ResourceInfo",
        "NOT_FOUND RESOURCE_NOT_FOUND ResourceInfo",
        "FAILED_PRECONDITION ASSOCIATE_AMBIGUOUS PreconditionFailure",
        "NOT_FOUND RESOURCE_NOT_FOUND ResourceInfo",
        "FAILED_PRECONDITION CONSENT_REQUIRED PreconditionFailure",
        "FAILED_PRECONDITION SUBJECT_MISMATCH PreconditionFailure",
        "FAILED_PRECONDITION ASSOCIATE_CANNOT_SIGN_IN PreconditionFailure",
        "FAILED_PRECONDITION ASSOCIATE_AMBIGUOUS PreconditionFailure",
        "UNAVAILABLE UPSTREAM_INVALID_RESPONSE RetryInfo",
        "UNAVAILABLE UPSTREAM_UNAVAILABLE RetryInfo",
        "DEADLINE_EXCEEDED DEADLINE_EXCEEDED",
        "ABORTED UPSTREAM_UNAVAILABLE",
        "RESOURCE_EXHAUSTED UPSTREAM_BUDGET_EXHAUSTED QuotaFailure RetryInfo",
        "UNAVAILABLE UPSTREAM_INVALID_RESPONSE RetryInfo",
        "UNAVAILABLE STORE_UNAVAILABLE RetryInfo",
        "UNAVAILABLE STORE_UNAVAILABLE RetryInfo",
        "UNAVAILABLE KEY_UNAVAILABLE RetryInfo",
        "INTERNAL INTERNAL RequestInfo",
        "INVALID_ARGUMENT INVALID_ARGUMENT BadRequest",
        "UNAUTHENTICATED CALLER_UNAUTHENTICATED",
        "UNAUTHENTICATED CALLER_UNAUTHENTICATED",
        "UNAVAILABLE KEY_UNAVAILABLE RetryInfo",
        "PERMISSION_DENIED POLICY_DENIED",
        "PERMISSION_DENIED PATH_NOT_ALLOWED",
        "RESOURCE_EXHAUSTED CALLER_QUOTA_EXCEEDED QuotaFailure RetryInfo",
        "RESOURCE_EXHAUSTED CALLER_QUOTA_EXCEEDED QuotaFailure RetryInfo",
        "UNIMPLEMENTED UNIMPLEMENTED",
        "UNIMPLEMENTED UNIMPLEMENTED",
        "RESOURCE_EXHAUSTED RESPONSE_TOO_LARGE",
        "DEADLINE_EXCEEDED DEADLINE_EXCEEDED",
        "UNAVAILABLE SHUTTING_DOWN",
        "ABORTED WATCH_TOO_SLOW",
        "INTERNAL INTERNAL RequestInfo",
    ];
    assert_eq!(table, wanted);
}

/// Asserts that the status of an unknown outcome does not advise a retry.
fn assert_outcome_unknown(failure: &Failure, status: &Status, advice: &str) {
    let what = format!("{failure:?}: {status:?}");
    let before = failure.status("id-1").code();
    let wanted = if before == Code::Unavailable { Code::Aborted } else { before };
    assert_eq!(status.code(), wanted, "{what}");
    assert_eq!(status.metadata().get("grpc-retry-pushback-ms").unwrap(), "-1", "{what}");
    let details = status.get_error_details();
    assert!(details.retry_info().is_none() && details.quota_failure().is_none(), "{what}");
    let info = details.error_info().unwrap();
    assert_eq!(info.reason, failure.reason().as_str(), "{what}");
    assert_eq!(info.metadata["outcome"], "unknown", "{what}");
    assert!(status.message().ends_with(advice), "{what}");
}

#[test]
fn no_failure_after_an_unsafe_request_advises_a_retry() {
    for failure in all() {
        let status = failure.status_of_unknown_outcome("id-1");
        assert_outcome_unknown(
            &failure,
            &status,
            "check in SuperOffice before you send the request again",
        );
        assert!(!format!("{status:?}").contains("secret cause"), "{failure:?}");
    }
    // The error of the use case has the same status without a note in the context.
    let broken = BrokerError::OutcomeUnknown { timed_out: false, cause: "broken".into() };
    let status = Failure::Broker(broken).status("id-1");
    assert_eq!(status.metadata().get("grpc-retry-pushback-ms").unwrap(), "-1");
    assert_eq!(status.get_error_details().error_info().unwrap().metadata["outcome"], "unknown");
}

#[test]
fn no_failure_of_an_unconfirmed_change_advises_a_retry() {
    for failure in all() {
        let status = failure.status_of_unknown_change("id-1");
        let advice = "read the resource before you send the request again";
        assert_outcome_unknown(&failure, &status, advice);
    }
}

#[test]
fn the_cause_is_never_sent_to_the_caller() {
    for failure in all() {
        let status = failure.status("id-1");
        assert!(!format!("{status:?}").contains("secret cause"), "{failure:?}");
    }
}

#[test]
fn a_temporary_tenant_state_is_unavailable_and_any_other_is_a_failed_precondition() {
    for state in TenantState::ALL {
        let code = Failure::Broker(BrokerError::TenantNotRunning(tenant(), *state)).code();
        let comes_back = ["OfflineMaintenance", "Provisioning", "MigrationPending", "Unknown"];
        let stopped = ["Suspended", "Deleted", "Deleting", "DeleteFailed", "ProvisioningFailed"];
        if comes_back.contains(&state.as_str()) {
            assert_eq!(code, Code::Unavailable, "{state:?}");
        } else if stopped.contains(&state.as_str()) {
            assert_eq!(code, Code::FailedPrecondition, "{state:?}");
        }
    }
}
