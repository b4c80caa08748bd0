//! Converts the reasons why a call is refused or fails to problem documents.

use crate::{
    access::{AccessError, AdmissionError, CallError, OverQuota},
    audit::AuditUnavailable,
    broker::BrokerError,
    domain::Reason,
    http::problem::Problem,
};

/// One text for all causes, so that it does not help to guess credentials.
const UNAUTHENTICATED: &str = "the request needs a credential that names its caller: a header Authorization or \
    Proxy-Authorization with `Bearer` and a token of a configured issuer, or a client certificate";

/// For a client whose certificate was accepted when its connection began.
const CERTIFICATE_NOT_TRUSTED: &str = "the client certificate of this connection is no longer trusted: its authority \
    was removed from client_ca_file, or a certificate of its chain has expired; connect again with a certificate of a \
    trusted authority";

/// A problem, and its cause for the log.
pub(super) struct Failure {
    pub(super) problem: Problem,
    pub(super) cause: Option<String>,
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self { problem, cause: None }
    }
}

impl From<BrokerError> for Failure {
    fn from(error: BrokerError) -> Self {
        let error = error.without_change();
        let detail = format!("{}; {}", error.message(), error.mend());
        let problem = Problem::new(error.reason(), detail).with_retry_after(error.retry_after());
        Self { problem, cause: error.cause().map(str::to_owned) }
    }
}

impl From<AuditUnavailable> for Failure {
    fn from(error: AuditUnavailable) -> Self {
        BrokerError::from(error).into()
    }
}

impl From<AdmissionError> for Failure {
    fn from(not_admitted: AdmissionError) -> Self {
        match not_admitted {
            AdmissionError::Unauthenticated(cause) => unauthenticated(cause),
            AdmissionError::CertificateNotTrusted => not_trusted(),
            AdmissionError::KeysUnavailable { cause, retry_after } => {
                let detail = "the keys of the token's issuer are not available now; send the request again later";
                let problem = Problem::new(Reason::KeyUnavailable, detail);
                Self { problem: problem.with_retry_after(Some(retry_after)), cause: Some(cause) }
            }
            AdmissionError::TooManyRefusals(over) | AdmissionError::OverQuota { over, .. } => {
                over_quota(&over)
            }
        }
    }
}

impl From<CallError> for Failure {
    fn from(refusal: CallError) -> Self {
        let CallError::Refused { refused, .. } = refusal else {
            let detail = "policy permits several users of the tenant: name one in the header \
                Gateway-Act-As: `system`, `associates/{associate}` or `grants/{grant}`";
            return Problem::new(Reason::InvalidArgument, detail).into();
        };
        match refused {
            AccessError::Denied(_) => {
                let detail = "policy does not permit this call; ask who administers the gateway";
                Problem::new(Reason::PolicyDenied, detail).into()
            }
            AccessError::PathNotAllowed(_) => {
                let detail = "policy permits other Web API calls here, but not this method and path; ask who \
                    administers the gateway";
                Problem::new(Reason::PathNotAllowed, detail).into()
            }
            AccessError::OverQuota(over) => over_quota(&over),
            AccessError::CredentialExpired => unauthenticated(refused.to_string()),
            AccessError::CertificateNotTrusted => not_trusted(),
        }
    }
}

fn unauthenticated(cause: String) -> Failure {
    let problem = Problem::new(Reason::CallerUnauthenticated, UNAUTHENTICATED);
    Failure { problem, cause: Some(cause) }
}

fn not_trusted() -> Failure {
    let problem = Problem::new(Reason::CallerUnauthenticated, CERTIFICATE_NOT_TRUSTED);
    Failure { problem, cause: Some("the client certificate is no longer trusted".to_owned()) }
}

fn over_quota(over: &OverQuota) -> Failure {
    let detail =
        format!("too many calls ({}); send the request again later", over.quota.config_key());
    Problem::new(Reason::CallerQuotaExceeded, detail)
        .with_retry_after(Some(over.retry_after))
        .into()
}
