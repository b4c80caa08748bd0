//! Why a call is not made, as an answer in HTTP.

use crate::{
    access::{NotActing, NotAdmitted, OverQuota, Refused},
    broker::{AuditUnavailable, BrokerError},
    domain::Reason,
    http::problem::Problem,
};

/// Whatever the cause: what is wrong with a credential helps nobody who has none.
const UNAUTHENTICATED: &str = "the request needs a credential that names its caller: a header Authorization or \
    Proxy-Authorization with `Bearer` and a token of a configured issuer, or a client certificate";

/// For a client whose certificate was accepted when its connection began.
const CERTIFICATE_NOT_TRUSTED: &str = "the client certificate of this connection is no longer trusted: its authority \
    was removed from client_ca_file, or a certificate of its chain has expired; connect again with a certificate of a \
    present authority";

/// A problem, and what the log says of its cause.
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
        let problem = Problem::new(error.reason(), detail).after(error.retry_after());
        Self { problem, cause: error.cause().map(str::to_owned) }
    }
}

impl From<AuditUnavailable> for Failure {
    fn from(error: AuditUnavailable) -> Self {
        BrokerError::StoreUnavailable(error.to_string().into()).into()
    }
}

impl From<NotAdmitted> for Failure {
    fn from(not_admitted: NotAdmitted) -> Self {
        match not_admitted {
            NotAdmitted::Unauthenticated(cause) => unauthenticated(cause),
            NotAdmitted::Distrusted => not_trusted(),
            NotAdmitted::KeysUnavailable { cause, retry_after } => {
                let detail = "the keys of the token's issuer cannot be had now; send the request again later";
                let problem = Problem::new(Reason::KeyUnavailable, detail);
                Self { problem: problem.after(Some(retry_after)), cause: Some(cause) }
            }
            NotAdmitted::Slowed(over) | NotAdmitted::OverQuota { over, .. } => over_quota(&over),
        }
    }
}

impl From<NotActing> for Failure {
    fn from(not_acting: NotActing) -> Self {
        let NotActing::Refused { refused, .. } = not_acting else {
            let detail = "policy lets you act as several users of the tenant: say as whom with the header \
                Gateway-Act-As: `system`, `associates/{associate}` or `grants/{grant}`";
            return Problem::new(Reason::InvalidArgument, detail).into();
        };
        match refused {
            Refused::Denied(_) => {
                let detail = "policy does not permit this call; ask who administers the gateway";
                Problem::new(Reason::PolicyDenied, detail).into()
            }
            Refused::PathNotAllowed(_) => {
                let detail = "policy permits other calls of the Web API here, and not this method and path; ask who \
                    administers the gateway";
                Problem::new(Reason::PathNotAllowed, detail).into()
            }
            Refused::OverQuota(over) => over_quota(&over),
            Refused::Expired => unauthenticated(refused.to_string()),
            Refused::Distrusted => not_trusted(),
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
    let detail = format!("too many calls ({}); send it again later", over.quota.config_key());
    Problem::new(Reason::CallerQuotaExceeded, detail).after(Some(over.retry_after)).into()
}
