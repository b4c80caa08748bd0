//! The error model (CONTRACT section 4): every failure becomes a status here and nowhere else.

mod unknown_outcome;

use std::{collections::HashMap, time::Duration};

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt as _};

use super::server::ACCEPTED_ENCODINGS;
use crate::{
    access::{NotAdmitted, OverQuota, Refused},
    broker::BrokerError,
    domain::{Reason, TenantName, Usability},
};

/// `ErrorInfo.domain` of every error.
pub(super) const DOMAIN: &str = "tenantgateway";

/// Whatever the cause: what is wrong with a credential helps nobody who has none.
const UNAUTHENTICATED: &str = "the call needs a credential that names its caller: metadata `authorization: Bearer …` \
    with a token of a configured issuer, or a client certificate";

/// An error travels in headers, of which clients take 8 KiB in all: so many wrong fields are told …
const TOLD_VIOLATIONS: usize = 32;
/// … and so many of them in the message.
const TOLD_IN_MESSAGE: usize = 8;

/// The time after which undecided calls have given back most of what they hold.
const OVERLOAD_PAUSE: Duration = Duration::from_secs(1);

/// Why a call fails.
#[derive(Debug, Clone)]
pub(super) enum Failure {
    /// Fields are wrong: all of them, with their paths.
    Invalid(Vec<FieldViolation>),
    /// Nobody proved who calls. The cause is for the log.
    Unauthenticated(String),
    /// Nobody can tell who calls: the keys of the issuer are not at hand. The cause is for the log.
    IssuerUnavailable { cause: String, retry_after: Duration },
    /// Policy says no.
    Denied,
    /// Policy permits some calls of the Web API, and not this one.
    PathNotAllowed,
    /// The caller calls, or is refused, too often.
    OverQuota(OverQuota),
    /// Calls that are not decided yet hold all the memory that is set aside for them, or as many open streams as they
    /// may.
    Overloaded,
    /// Not built; says what.
    Unimplemented(String),
    /// The message is compressed in a way that is not accepted.
    EncodingNotAccepted,
    /// Message too large.
    TooLarge(String),
    /// The deadline passed.
    DeadlineExceeded,
    /// We are stopping.
    ShuttingDown,
    /// The reader of a stream does not keep up.
    WatchTooSlow,
    /// A handler panicked.
    Panicked,
    /// A use case failed.
    Broker(BrokerError),
}

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Denied(_) => Self::Denied,
            Refused::PathNotAllowed(_) => Self::PathNotAllowed,
            Refused::OverQuota(over) => Self::OverQuota(over),
            Refused::Expired => Self::Unauthenticated(refused.to_string()),
        }
    }
}

impl From<NotAdmitted> for Failure {
    fn from(not_admitted: NotAdmitted) -> Self {
        match not_admitted {
            NotAdmitted::Unauthenticated(cause) => Self::Unauthenticated(cause),
            NotAdmitted::KeysUnavailable { cause, retry_after } => {
                Self::IssuerUnavailable { cause, retry_after }
            }
            NotAdmitted::Slowed(over) | NotAdmitted::OverQuota { over, .. } => {
                Self::OverQuota(over)
            }
        }
    }
}

impl From<BrokerError> for Failure {
    fn from(error: BrokerError) -> Self {
        Self::Broker(error)
    }
}

impl Failure {
    pub(super) fn invalid(field: &str, problem: impl Into<String>) -> Self {
        Self::Invalid(vec![FieldViolation::new(field, problem)])
    }

    pub(super) fn reason(&self) -> Reason {
        match self {
            Self::Invalid(_) => Reason::InvalidArgument,
            Self::Unauthenticated(_) => Reason::CallerUnauthenticated,
            Self::IssuerUnavailable { .. } => Reason::KeyUnavailable,
            Self::Denied => Reason::PolicyDenied,
            Self::PathNotAllowed => Reason::PathNotAllowed,
            Self::OverQuota(_) | Self::Overloaded => Reason::CallerQuotaExceeded,
            Self::Unimplemented(_) | Self::EncodingNotAccepted => Reason::Unimplemented,
            Self::TooLarge(_) => Reason::ResponseTooLarge,
            Self::DeadlineExceeded => Reason::DeadlineExceeded,
            Self::ShuttingDown => Reason::ShuttingDown,
            Self::WatchTooSlow => Reason::WatchTooSlow,
            Self::Panicked => Reason::Internal,
            Self::Broker(error) => error.reason(),
        }
    }

    /// What the log says of the cause, and callers do not.
    pub(super) fn cause(&self) -> Option<&str> {
        match self {
            Self::Broker(error) => error.cause(),
            Self::Unauthenticated(cause) | Self::IssuerUnavailable { cause, .. } => Some(cause),
            Self::Panicked => Some("a handler panicked"),
            _ => None,
        }
    }

    /// The status with all its details.
    pub(super) fn status(&self, request_id: &str) -> Status {
        if self.outcome_is_unknown() {
            return self.status_of_unknown_outcome(request_id);
        }
        let reason = self.reason();
        let mut details = ErrorDetails::new();
        details.set_error_info(reason.as_str(), DOMAIN, self.metadata());
        self.add_details(&mut details);
        if reason == Reason::Internal {
            details.set_request_info(request_id, "");
        }
        Status::with_error_details(self.code(), self.message(), details)
    }

    pub(super) fn code(&self) -> Code {
        match self {
            Self::Broker(BrokerError::TenantNotRunning(_, state)) => match state.usability() {
                Usability::Stopped => Code::FailedPrecondition,
                Usability::ComesBack(_) | Usability::Usable => Code::Unavailable,
            },
            Self::Broker(BrokerError::OutcomeUnknown { timed_out: false, .. }) => Code::Aborted,
            _ => Code::from_i32(self.reason().code()),
        }
    }

    fn message(&self) -> String {
        match self {
            Self::Invalid(violations) => {
                let told = violations.iter().take(TOLD_IN_MESSAGE);
                let fields: Vec<_> =
                    told.map(|v| format!("{}: {}", v.field, v.description)).collect();
                let more = violations.len().saturating_sub(TOLD_IN_MESSAGE);
                let more = if more > 0 { format!("; and {more} more") } else { String::new() };
                format!("the request has wrong fields: {}{more}", fields.join("; "))
            }
            Self::Unauthenticated(_) => UNAUTHENTICATED.to_owned(),
            Self::IssuerUnavailable { .. } => {
                "the keys of the token's issuer cannot be had now; try again after the time in RetryInfo"
                    .to_owned()
            }
            Self::OverQuota(over) => format!(
                "too many calls ({}); call again after the time in RetryInfo",
                over.quota.config_key()
            ),
            Self::Overloaded => {
                "too many calls from this address, or from everywhere, wait for their message or watch; close streams \
                 that are not used, and call again after the time in RetryInfo"
                    .to_owned()
            }
            Self::Denied => {
                "policy does not permit this call; ask who administers the gateway".to_owned()
            }
            Self::PathNotAllowed => {
                "policy permits other calls of the Web API here, and not this method and path; ask who administers the \
                 gateway"
                    .to_owned()
            }
            Self::Unimplemented(what) => format!("{what} is not built"),
            Self::EncodingNotAccepted => format!(
                "the grpc-encoding of this call is not accepted; compress requests with gzip or not at all \
                 (accepted: {ACCEPTED_ENCODINGS})"
            ),
            Self::TooLarge(what) => what.clone(),
            Self::DeadlineExceeded => {
                "the deadline passed; what was begun goes on, so ask again or allow more time"
                    .to_owned()
            }
            Self::ShuttingDown => {
                "this replica is stopping; call again and another one answers".to_owned()
            }
            Self::WatchTooSlow => {
                "the reader did not keep up with the stream; read faster and watch again".to_owned()
            }
            Self::Panicked => "internal error".to_owned(),
            Self::Broker(error @ BrokerError::Internal(_)) => error.message(),
            Self::Broker(error) => format!("{}; {}", error.message(), error.mend()),
        }
    }

    fn metadata(&self) -> HashMap<String, String> {
        let Self::Broker(error) = self else { return HashMap::new() };
        let mut metadata = HashMap::new();
        if let Some(tenant) = tenant_of(error) {
            metadata.insert("tenant".to_owned(), tenant.to_string());
        }
        if let BrokerError::TenantNotRunning(_, state) = error {
            metadata.insert("state".to_owned(), state.as_str().to_owned());
        }
        if let BrokerError::AssociatesNotFound(_, ids) = error {
            let ids: Vec<_> = ids.iter().map(ToString::to_string).collect();
            metadata.insert("associate_ids".to_owned(), ids.join(","));
        }
        metadata
    }

    fn add_details(&self, details: &mut ErrorDetails) {
        match self {
            Self::Invalid(violations) => {
                let told = violations.iter().take(TOLD_VIOLATIONS);
                details.set_bad_request(told.cloned().collect::<Vec<_>>());
            }
            Self::IssuerUnavailable { retry_after, .. } => {
                details.set_retry_info(Some(*retry_after));
            }
            Self::OverQuota(over) => {
                let description =
                    format!("{} of the gateway's configuration", over.quota.config_key());
                details.add_quota_failure_violation(over.quota.subject(), description);
                details.set_retry_info(Some(over.retry_after));
            }
            Self::Overloaded => {
                let description = "memory and streams for calls that are not decided yet";
                details.add_quota_failure_violation("address", description);
                details.set_retry_info(Some(OVERLOAD_PAUSE));
            }
            Self::Broker(error) => add_broker_details(error, details),
            _ => {}
        }
    }
}

fn add_broker_details(error: &BrokerError, details: &mut ErrorDetails) {
    let stopped = matches!(error, BrokerError::TenantNotRunning(_, state)
        if !matches!(state.usability(), Usability::ComesBack(_)));
    // What does not come back by itself is not waited for.
    if let Some(after) = error.retry_after().filter(|_| !stopped) {
        details.set_retry_info(Some(after));
    }
    match error {
        BrokerError::Invalid { field, problem } => {
            details.add_bad_request_violation(*field, problem);
        }
        BrokerError::ApplicationNotConfigured(id) => {
            let name = format!("applications/{id}");
            details.set_resource_info("tenantgateway.v1.Application", name, "", error.message());
        }
        BrokerError::TenantNotFound(name) => {
            details.set_resource_info("tenantgateway.v1.Tenant", name, "", error.message());
        }
        BrokerError::AssociatesNotFound(tenant, ids) => {
            let first = ids.first().map(|id| format!("{tenant}/associates/{id}"));
            let name = first.unwrap_or_default();
            details.set_resource_info("tenantgateway.v1.Associate", name, "", error.message());
        }
        BrokerError::AssociateNotMatched(tenant) => {
            let name = format!("{tenant}/associates/-");
            details.set_resource_info("tenantgateway.v1.Associate", name, "", error.message());
        }
        BrokerError::GrantNotFound(name) => {
            details.set_resource_info("tenantgateway.v1.Grant", name, "", error.message());
        }
        BrokerError::TenantExists(name) | BrokerError::VersionConflict(name) => {
            let name = name.to_string();
            details.set_resource_info("tenantgateway.v1.Tenant", name, "", error.message());
        }
        BrokerError::TenantHasGrants(name)
        | BrokerError::TenantDisabled(name)
        | BrokerError::NotEnrolled(name)
        | BrokerError::AssociateAmbiguous(name, _)
        | BrokerError::ConsentRequired(name, _)
        | BrokerError::SubjectMismatch(name)
        | BrokerError::CannotSignIn(name, _)
        | BrokerError::GrantAmbiguous(name, _)
        | BrokerError::Refused(name, _) => add_precondition(error, name, details),
        BrokerError::TenantNotRunning(name, _) if stopped => add_precondition(error, name, details),
        BrokerError::BudgetExhausted { tenant, .. } => {
            let description = "applications.calls_per_second of the gateway's configuration";
            details.add_quota_failure_violation(tenant.to_string(), description);
        }
        BrokerError::OwnSecretRefused(_)
        | BrokerError::ConsentInvalid(_)
        | BrokerError::ConsentRefused
        | BrokerError::AnotherSubject(_) => {
            let description = format!("{}; {}", error.message(), error.mend());
            let kind = error.reason().as_str();
            details.add_precondition_failure_violation(kind, "", description);
        }
        BrokerError::TooManyConsents => {
            details.add_quota_failure_violation("open consents", error.mend());
        }
        BrokerError::TenantNotRunning(..)
        | BrokerError::UpstreamUnavailable { .. }
        | BrokerError::OutcomeUnknown { .. }
        | BrokerError::UpstreamInvalid(_)
        | BrokerError::NoOwner(..)
        | BrokerError::StoreUnavailable(_)
        | BrokerError::KeyUnavailable(_)
        | BrokerError::RevealNotAllowed(_)
        | BrokerError::NoLongerPermitted(_)
        | BrokerError::Internal(_) => {}
    }
}

fn add_precondition(error: &BrokerError, name: &TenantName, details: &mut ErrorDetails) {
    let description = format!("{}; {}", error.message(), error.mend());
    let kind = error.reason().as_str();
    details.add_precondition_failure_violation(kind, name.to_string(), description);
}

fn tenant_of(error: &BrokerError) -> Option<&TenantName> {
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

/// The name of a code as CONTRACT section 4 writes it.
pub(super) fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

#[cfg(test)]
mod tests;
