//! `POST /webhooks/superoffice/state-change`: SuperOffice says that a tenant has changed (SUPEROFFICE.md 8). What it
//! says is a hint: nothing in it is believed but that it is worth looking again.

use std::sync::Arc;

use axum::{
    extract::{Extension, Request, State},
    http::StatusCode,
};
use secrecy::SecretString;
use serde::Deserialize;

use super::{around::Client, problem::Problem, webhook_body::read_body, webhooks::without_mark};
use crate::{
    broker::{Attempts, StateChange, StateHints, Unheard},
    domain::{ContextIdentifier, Reason},
};

/// The path.
pub(super) const STATE_CHANGE: &str = "/webhooks/superoffice/state-change";

/// Numbers of the documentation. The others need no more than a look.
const BACKUP_RESTORED: i64 = 1;
const SUSPEND: i64 = 2;
const DELETE: i64 = 4;

const UNDOCUMENTED: &str = "the body is not that of a customer state change: JSON with ChangeType, ContextIdentifier \
    and Token";

/// Whatever is wrong with the token: nobody is helped to make one.
const UNSIGNED: &str =
    "the Token must be a current one that SuperOffice's login service has signed for this tenant";

/// What notifications are taken with.
pub struct StateChanges {
    /// Hears of changes.
    pub hints: StateHints,
    /// Counts those who did not sign.
    pub attempts: Arc<Attempts>,
}

/// What is read of a body; versions and hosts are for the tenant's own status to say.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Notification {
    change_type: i64,
    context_identifier: String,
    token: SecretString,
}

/// Takes a notification. Who has signed it hears nothing of whether the tenant is known here.
pub(super) async fn state_change(
    State(changes): State<Arc<StateChanges>>,
    Extension(client): Extension<Client>,
    request: Request,
) -> Result<StatusCode, Problem> {
    let body = read_body(request).await?;
    let Some((tenant, change, token)) = read(&body) else {
        changes.attempts.count_address(client.0);
        return Err(Problem::new(Reason::InvalidArgument, UNDOCUMENTED));
    };
    match changes.hints.hear(&token, tenant, change).await {
        Ok(()) => Ok(StatusCode::OK),
        Err(Unheard::Unsigned) => {
            changes.attempts.count_address(client.0);
            Err(Problem::new(Reason::CallerUnauthenticated, UNSIGNED))
        }
        Err(Unheard::KeysUnavailable) => {
            let detail = "SuperOffice's keys cannot be had now; send it again later";
            Err(Problem::new(Reason::UpstreamUnavailable, detail))
        }
        Err(Unheard::StoreUnavailable) => {
            let detail = "this cannot be noted now; send it again later";
            Err(Problem::new(Reason::StoreUnavailable, detail))
        }
    }
}

fn read(body: &[u8]) -> Option<(ContextIdentifier, StateChange, SecretString)> {
    let told: Notification = serde_json::from_slice(without_mark(body)).ok()?;
    let change = match told.change_type {
        BACKUP_RESTORED => StateChange::BackupRestored,
        SUSPEND | DELETE => StateChange::Ended,
        _ => StateChange::Other,
    };
    Some((told.context_identifier.parse().ok()?, change, told.token))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"{"ChangeType":5,"ContextIdentifier":"Cust12345","VersionName":"Release_10.3.8",
        "FileVersion":"10.3.8.2024","Token":"eyJ.x.y","PublicEndpoint":"sod3.superoffice.com"}"#;

    #[test]
    fn what_is_documented_is_read_and_the_rest_left_alone() {
        for (number, wanted) in [
            ("0", StateChange::Other),
            ("1", StateChange::BackupRestored),
            ("2", StateChange::Ended),
            ("3", StateChange::Other),
            ("4", StateChange::Ended),
            ("5", StateChange::Other),
            ("99", StateChange::Other),
        ] {
            let text = GOOD.replace(":5", &format!(":{number}"));
            let (tenant, change, _) = read(text.as_bytes()).unwrap();
            assert_eq!((tenant.to_string().as_str(), change), ("Cust12345", wanted));
        }
    }

    #[test]
    fn what_is_not_documented_is_nothing() {
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
