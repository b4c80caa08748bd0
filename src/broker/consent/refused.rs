//! Errors of a sign-in that SuperOffice refused or that could not be completed.

use std::time::Duration;

use super::failed::WhyInvalid;
use crate::{
    broker::{Application, BrokerError, error::RETRY_SOON},
    ports::ExchangeError,
};

/// The errors of RFC 6749 section 4.1.2.1 and OpenID Connect Core section 3.1.2.6 that may stand in the log.
const NAMED_ERRORS: [&str; 11] = [
    "invalid_request",
    "unauthorized_client",
    "unsupported_response_type",
    "invalid_scope",
    "server_error",
    "temporarily_unavailable",
    "interaction_required",
    "login_required",
    "account_selection_required",
    "consent_required",
    "invalid_client",
];

/// Returns the error of a sign-in that SuperOffice ended with `error`. Only names of the list go to the log.
pub(super) fn sign_in_failed(error: &str) -> BrokerError {
    let named = NAMED_ERRORS.iter().find(|name| **name == error);
    let named = named.map_or("an error that we do not know", |name| name);
    let cause = format!("SuperOffice sent the browser back with {named}").into();
    BrokerError::UpstreamUnavailable { retry_after: RETRY_SOON, cause }
}

/// Returns the error of a code that was not exchanged. Raises the alarm if our own secret is refused.
pub(super) fn not_exchanged(
    application: &Application,
    error: &ExchangeError,
    now: Duration,
) -> BrokerError {
    let cause = error.to_string().into();
    match error {
        // Not a code of this attempt (PKCE), or too old.
        ExchangeError::InvalidGrant => BrokerError::ConsentInvalid(WhyInvalid::CodeRefused),
        ExchangeError::InvalidClient | ExchangeError::Unauthorized => {
            if application.secret_is_refused(error, now) {
                application.alarm(error, now);
                BrokerError::OwnSecretRefused(application.id.clone())
            } else {
                BrokerError::UpstreamInvalid(cause)
            }
        }
        ExchangeError::InvalidResponse(_) => BrokerError::UpstreamInvalid(cause),
        ExchangeError::NotSent(_) | ExchangeError::Transient(_) => {
            BrokerError::UpstreamUnavailable { retry_after: RETRY_SOON, cause }
        }
    }
}
