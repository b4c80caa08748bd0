//! `POST /webhooks/superoffice/state-change`: SuperOffice reports that a tenant has changed. The report is only a hint:
//! it makes the gateway read the tenant's status again.

use std::sync::Arc;

use axum::{
    extract::{Extension, Request, State},
    http::StatusCode,
};
use secrecy::SecretString;
use serde::Deserialize;

use super::{
    middleware::ClientAddress,
    problem::Problem,
    webhook_body::{read_body, without_byte_order_mark},
};
use crate::{
    audit::UnauthenticatedAttempts,
    broker::{NotificationRejected, StateChange, StateHints},
    domain::{ContextIdentifier, Reason},
};

/// The path of the webhook.
pub(super) const STATE_CHANGE: &str = "/webhooks/superoffice/state-change";

/// The documented change types that need more than a new read of the status.
const BACKUP_RESTORED: i64 = 1;
const SUSPEND: i64 = 2;
const DELETE: i64 = 4;

const INVALID_BODY: &str = "the body is not that of a customer state change: JSON with ChangeType, ContextIdentifier \
    and Token";

/// One text for all invalid tokens, so that it does not help to forge one.
const INVALID_TOKEN: &str = "the Token must be signed by SuperOffice's login service for this tenant and application, \
    not be expired, and not be used before";

/// The dependencies of the webhook.
pub struct StateChanges {
    /// Receives the changes.
    pub hints: StateHints,
    /// Counts invalid tokens by client address.
    pub attempts: Arc<UnauthenticatedAttempts>,
}

/// The fields that are read from a body. Versions and hosts are read from the tenant's status instead.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Notification {
    change_type: i64,
    context_identifier: String,
    token: SecretString,
}

/// Accepts a notification. The answer does not reveal whether the gateway knows the tenant.
pub(super) async fn state_change(
    State(changes): State<Arc<StateChanges>>,
    Extension(client): Extension<ClientAddress>,
    request: Request,
) -> Result<StatusCode, Problem> {
    let body = read_body(request).await?;
    let Some((tenant, change, token)) = read(&body) else {
        changes.attempts.count_address(client.0);
        return Err(Problem::new(Reason::InvalidArgument, INVALID_BODY));
    };
    match changes.hints.receive(&token, tenant, change).await {
        Ok(()) => Ok(StatusCode::OK),
        Err(NotificationRejected::Unsigned | NotificationRejected::AlreadyUsed) => {
            changes.attempts.count_address(client.0);
            Err(Problem::new(Reason::CallerUnauthenticated, INVALID_TOKEN))
        }
        Err(NotificationRejected::KeysUnavailable) => {
            let detail =
                "SuperOffice's keys are not available now; send the notification again later";
            Err(Problem::new(Reason::UpstreamUnavailable, detail))
        }
        Err(NotificationRejected::StoreUnavailable) => {
            let detail =
                "the gateway's store is not available now; send the notification again later";
            Err(Problem::new(Reason::StoreUnavailable, detail))
        }
    }
}

fn read(body: &[u8]) -> Option<(ContextIdentifier, StateChange, SecretString)> {
    let notification: Notification = serde_json::from_slice(without_byte_order_mark(body)).ok()?;
    let change = match notification.change_type {
        BACKUP_RESTORED => StateChange::BackupRestored,
        SUSPEND | DELETE => StateChange::SuspendedOrDeleted,
        _ => StateChange::Other,
    };
    Some((notification.context_identifier.parse().ok()?, change, notification.token))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"{"ChangeType":5,"ContextIdentifier":"Cust12345","VersionName":"Release_10.3.8",
        "FileVersion":"10.3.8.2024","Token":"eyJ.x.y","PublicEndpoint":"sod3.superoffice.com"}"#;

    #[test]
    fn reads_documented_fields_and_ignores_others() {
        for (number, wanted) in [
            ("0", StateChange::Other),
            ("1", StateChange::BackupRestored),
            ("2", StateChange::SuspendedOrDeleted),
            ("3", StateChange::Other),
            ("4", StateChange::SuspendedOrDeleted),
            ("5", StateChange::Other),
            ("99", StateChange::Other),
        ] {
            let text = GOOD.replace(":5", &format!(":{number}"));
            let (tenant, change, _) = read(text.as_bytes()).unwrap();
            assert_eq!((tenant.to_string().as_str(), change), ("Cust12345", wanted));
        }
    }

    #[test]
    fn rejects_undocumented_bodies() {
        for (from, to) in [
            (GOOD, ""),
            (GOOD, "[]"),
            (GOOD, "<html>"),
            ("Cust12345", "cust12345"),
            ("Cust12345", "Cust1/../x"),
            ("\"Token\"", "\"token\""),
            ("\"eyJ.x.y\"", "5"),
            (":5", ":\"5\""),
            ("\"ChangeType\"", "\"Change\""),
        ] {
            let text = GOOD.replace(from, to);
            assert_ne!(text, GOOD);
            assert!(read(text.as_bytes()).is_none(), "{text}");
        }
    }
}
