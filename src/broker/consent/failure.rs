//! The log entry of a failed consent.

use crate::{
    broker::BrokerError,
    domain::{Consent, TenantName},
};

/// Logs a failed consent. `request_id` is the number on the page.
pub(super) fn log(
    request_id: &str,
    consent: Option<&Consent>,
    tenant: Option<&TenantName>,
    error: &BrokerError,
) {
    let requested = consent.and_then(|consent| {
        let tenant = consent.tenant?;
        Some(TenantName { application: consent.application.clone(), tenant })
    });
    let message = error.message();
    tracing::info!(
        application = consent.map(|consent| consent.application.as_str()),
        tenant = tenant.or(requested.as_ref()).map(tracing::field::display),
        consent = consent.map(|consent| tracing::field::display(&consent.id)),
        reason = error.reason().as_str(),
        cause = error.cause().unwrap_or(&message),
        request_id,
        "a consent was not given"
    );
}
