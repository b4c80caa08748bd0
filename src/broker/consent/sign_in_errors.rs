//! Errors of sign-ins that SuperOffice rejected or that could not be completed.

use std::{sync::Arc, time::Duration};

use super::invalid_cause::InvalidConsentCause;
use crate::{
    broker::{Application, BrokerError, error::RETRY_SOON},
    ports::ExchangeError,
};

/// The error codes of RFC 6749 section 4.1.2.1 and OpenID Connect Core section 3.1.2.6 that may be logged.
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

/// Returns the error for a sign-in that SuperOffice ended with `error`. Only error codes of the list are logged.
pub(super) fn sign_in_error(error: &str) -> BrokerError {
    let named = NAMED_ERRORS.iter().find(|name| **name == error);
    let named = named.map_or("an unknown error", |name| name);
    let cause = format!("SuperOffice sent the browser back with {named}").into();
    BrokerError::UpstreamUnavailable { retry_after: RETRY_SOON, cause }
}

/// Returns the error for a code that was not exchanged. Raises the alarm if SuperOffice rejects the client secret.
pub(super) fn exchange_error(
    application: &Application,
    error: &ExchangeError,
    now: Duration,
) -> BrokerError {
    let cause: Arc<str> = error.to_string().into();
    match error {
        // The code belongs to another attempt (PKCE), or is too old.
        ExchangeError::InvalidGrant => {
            BrokerError::ConsentInvalid(InvalidConsentCause::CodeRefused)
        }
        ExchangeError::InvalidClient | ExchangeError::Unauthorized => {
            if application.secret_is_refused(error, now) {
                application.alarm(error, now);
                BrokerError::ClientSecretRefused(application.id.clone())
            } else {
                BrokerError::upstream_invalid(cause)
            }
        }
        ExchangeError::InvalidResponse(_) => BrokerError::upstream_invalid(cause),
        ExchangeError::NotSent(_) | ExchangeError::Transient(_) => {
            BrokerError::UpstreamUnavailable { retry_after: RETRY_SOON, cause }
        }
    }
}
