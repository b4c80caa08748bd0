//! The error model: the only module that converts failures to gRPC statuses.

mod broker_details;
mod unknown_outcome;

use std::{collections::HashMap, time::Duration};

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt as _};

use self::broker_details::{add_broker_details, tenant_of};
use super::limits::ACCEPTED_ENCODINGS;
use crate::{
    access::{AccessError, AdmissionError, OverQuota},
    broker::BrokerError,
    domain::{Reason, Usability},
};

/// `ErrorInfo.domain` of every error.
pub(super) const DOMAIN: &str = "tenantgateway";

/// One text for all causes, so that it does not help to guess credentials.
const UNAUTHENTICATED: &str = "the call needs a credential that names its caller: metadata `authorization: Bearer …` \
    with a token of a configured issuer, or a client certificate";

/// For a client whose certificate was accepted when its connection began.
const CERTIFICATE_NOT_TRUSTED: &str = "the client certificate of this connection is no longer trusted: its authority \
    was removed from client_ca_file, or a certificate of its chain has expired; connect again with a certificate of a \
    trusted authority";

/// The maximum number of violations in the details. Errors are sent in headers, of which clients accept 8 KiB in all.
const MAX_DETAIL_VIOLATIONS: usize = 32;
/// The maximum number of violations in the message.
const MAX_MESSAGE_VIOLATIONS: usize = 8;

/// The time after which calls that policy has not permitted yet have released most of their memory.
const OVERLOAD_RETRY_DELAY: Duration = Duration::from_secs(1);

/// The reason why a call fails.
#[derive(Debug, Clone)]
pub(super) enum Failure {
    /// The request has invalid fields: all violations, with the paths of their fields.
    Invalid(Vec<FieldViolation>),
    /// The caller is not authenticated. The cause is for the log.
    Unauthenticated(String),
    /// The certificate of the caller's connection is no longer trusted.
    CertificateNotTrusted,
    /// The caller cannot be authenticated: the keys of the issuer are not available. The cause is for the log.
    IssuerUnavailable { cause: String, retry_after: Duration },
    /// Policy denies the call.
    Denied,
    /// Policy permits other Web API calls, but not this one.
    PathNotAllowed,
    /// The caller has too many calls, or too many refused calls.
    OverQuota(OverQuota),
    /// The calls that policy has not permitted yet use their whole memory budget, or the maximum number of streams.
    Overloaded,
    /// The named feature is not implemented.
    Unimplemented(String),
    /// The compression of the message is not accepted.
    EncodingNotAccepted,
    /// A message is too large. Contains the text for the caller.
    TooLarge(String),
    /// The deadline passed.
    DeadlineExceeded,
    /// The gateway is stopping.
    ShuttingDown,
    /// The client reads a stream too slowly.
    WatchTooSlow,
    /// A handler panicked.
    Panicked,
    /// A use case failed.
    Broker(BrokerError),
}

impl From<AccessError> for Failure {
    fn from(refused: AccessError) -> Self {
        match refused {
            AccessError::Denied(_) => Self::Denied,
            AccessError::PathNotAllowed(_) => Self::PathNotAllowed,
            AccessError::OverQuota(over) => Self::OverQuota(over),
            AccessError::CredentialExpired => Self::Unauthenticated(refused.to_string()),
            AccessError::CertificateNotTrusted => Self::CertificateNotTrusted,
        }
    }
}

impl From<AdmissionError> for Failure {
    fn from(not_admitted: AdmissionError) -> Self {
        match not_admitted {
            AdmissionError::Unauthenticated(cause) => Self::Unauthenticated(cause),
            AdmissionError::CertificateNotTrusted => Self::CertificateNotTrusted,
            AdmissionError::KeysUnavailable { cause, retry_after } => {
                Self::IssuerUnavailable { cause, retry_after }
            }
            AdmissionError::TooManyRefusals(over) | AdmissionError::OverQuota { over, .. } => {
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
            Self::Unauthenticated(_) | Self::CertificateNotTrusted => Reason::CallerUnauthenticated,
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

    /// Returns the code and the reason of an outcome, which is a success without a failure.
    pub(super) fn outcome(failure: Option<&Self>) -> (Code, Option<Reason>) {
        failure.map_or((Code::Ok, None), |failure| (failure.code(), Some(failure.reason())))
    }

    /// The cause, for the log only.
    pub(super) fn cause(&self) -> Option<&str> {
        match self {
            Self::Broker(error) => error.cause(),
            Self::Unauthenticated(cause) | Self::IssuerUnavailable { cause, .. } => Some(cause),
            Self::CertificateNotTrusted => Some("the client certificate is no longer trusted"),
            Self::Panicked => Some("a handler panicked"),
            _ => None,
        }
    }

    /// Returns the status with all its details.
    pub(super) fn status(&self, request_id: &str) -> Status {
        if self.outcome_is_unknown() {
            return self.status_of_unknown_outcome(request_id);
        }
        if let Self::Broker(error @ BrokerError::StoreOutcomeUnknown(_)) = self {
            // The call itself changes nothing, so it can be retried.
            return Self::Broker(error.clone().without_change()).status(request_id);
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
                Usability::Unusable => Code::FailedPrecondition,
                Usability::RetryAfter(_) | Usability::Usable => Code::Unavailable,
            },
            Self::Broker(BrokerError::OutcomeUnknown { timed_out: false, .. }) => Code::Aborted,
            _ => Code::from_i32(self.reason().code()),
        }
    }

    fn message(&self) -> String {
        match self {
            Self::Invalid(violations) => {
                let listed = violations.iter().take(MAX_MESSAGE_VIOLATIONS);
                let fields: Vec<_> =
                    listed.map(|v| format!("{}: {}", v.field, v.description)).collect();
                let more = violations.len().saturating_sub(MAX_MESSAGE_VIOLATIONS);
                let more = if more > 0 { format!("; and {more} more") } else { String::new() };
                format!("the request has invalid fields: {}{more}", fields.join("; "))
            }
            Self::Unauthenticated(_) => UNAUTHENTICATED.to_owned(),
            // The client has proven that it owns this certificate, so it may know the reason.
            Self::CertificateNotTrusted => CERTIFICATE_NOT_TRUSTED.to_owned(),
            Self::IssuerUnavailable { .. } => {
                "the keys of the token's issuer are not available now; try again after the time in RetryInfo"
                    .to_owned()
            }
            Self::OverQuota(over) => format!(
                "too many calls ({}); call again after the time in RetryInfo",
                over.quota.config_key()
            ),
            Self::Overloaded => {
                "too many calls of this address, or of all addresses, wait for their message or watch; close unused \
                 streams, and call again after the time in RetryInfo"
                    .to_owned()
            }
            Self::Denied => {
                "policy does not permit this call; ask who administers the gateway".to_owned()
            }
            Self::PathNotAllowed => {
                "policy permits other Web API calls here, but not this method and path; ask who administers the gateway"
                    .to_owned()
            }
            Self::Unimplemented(what) => format!("{what} is not implemented"),
            Self::EncodingNotAccepted => format!(
                "the grpc-encoding of this call is not accepted; compress requests with gzip or not at all \
                 (accepted: {ACCEPTED_ENCODINGS})"
            ),
            Self::TooLarge(what) => what.clone(),
            Self::DeadlineExceeded => {
                "the deadline passed; started work continues, so call again or set a longer deadline"
                    .to_owned()
            }
            Self::ShuttingDown => {
                "this replica is stopping; call again to reach another replica".to_owned()
            }
            Self::WatchTooSlow => {
                "the client read the stream too slowly; read faster and watch again".to_owned()
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
                let listed = violations.iter().take(MAX_DETAIL_VIOLATIONS);
                details.set_bad_request(listed.cloned().collect::<Vec<_>>());
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
                let description = "memory and streams of calls that policy has not permitted yet";
                details.add_quota_failure_violation("address", description);
                details.set_retry_info(Some(OVERLOAD_RETRY_DELAY));
            }
            Self::Broker(error) => add_broker_details(error, details),
            _ => {}
        }
    }
}

/// Returns the name of a code in `google/rpc/code.proto`.
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
