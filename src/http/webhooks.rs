//! `POST /webhooks/superoffice/associates/{application}`: SuperOffice reports that associates of a tenant have changed.
//! The report is only a hint: it makes the gateway read the data again, and its content is not used.

use std::{collections::HashMap, sync::Arc};

use axum::{
    extract::{Extension, Path, Request, State, rejection::PathRejection},
    http::StatusCode,
};
use serde::Deserialize;
use uuid::Uuid;

use super::{
    middleware::ClientAddress,
    problem::Problem,
    webhook_body::{read_body, without_byte_order_mark},
};
use crate::{
    audit::UnauthenticatedAttempts,
    broker::AssociateHints,
    domain::{ApplicationId, ContextIdentifier, Reason, TenantName},
    ports::WebhookVerifier,
};

/// The path of the webhook.
pub(super) const ASSOCIATES: &str = "/webhooks/superoffice/associates/{application}";

const SIGNATURE: &str = "x-superoffice-signature";

/// One text for all invalid signatures, so that it does not help to forge one.
const INVALID_SIGNATURE: &str = "the header X-Superoffice-Signature must contain the signature of the body with the \
    webhook's secret";

const INVALID_BODY: &str =
    "the body is not that of an associate webhook: JSON with EventId, Event and ContextIdentifier";

/// The dependencies of the webhook.
pub struct Webhooks {
    /// The verifiers of the applications that have a webhook secret.
    pub verifiers: HashMap<ApplicationId, Arc<dyn WebhookVerifier>>,
    /// Receives the changes.
    pub hints: Arc<AssociateHints>,
    /// Counts invalid signatures by client address.
    pub attempts: Arc<UnauthenticatedAttempts>,
}

/// The fields that are read from a body. Others are ignored.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Notification {
    event_id: String,
    event: Event,
    context_identifier: String,
}

#[derive(Debug, Clone, Copy, Deserialize)]
enum Event {
    #[serde(rename = "associate.created")]
    Created,
    #[serde(rename = "associate.changed")]
    Changed,
    #[serde(rename = "associate.deleted")]
    Deleted,
}

impl Event {
    fn as_str(self) -> &'static str {
        match self {
            Self::Created => "associate.created",
            Self::Changed => "associate.changed",
            Self::Deleted => "associate.deleted",
        }
    }
}

/// Accepts a delivery. The answer does not reveal whether the gateway knows the tenant.
pub(super) async fn associates(
    State(webhooks): State<Arc<Webhooks>>,
    application: Result<Path<String>, PathRejection>,
    Extension(client): Extension<ClientAddress>,
    request: Request,
) -> Result<StatusCode, Problem> {
    let Path(application) = application.map_err(|_| Problem::not_found())?;
    let (application, verifier) =
        webhooks.application(&application).ok_or_else(Problem::not_found)?;
    let signature = single_signature(&request);
    let body = read_body(request).await?;
    if !signature.is_some_and(|signature| verifier.is_signature_valid(&body, &signature)) {
        webhooks.attempts.count_address(client.0);
        return Err(Problem::new(Reason::CallerUnauthenticated, INVALID_SIGNATURE));
    }
    let (tenant, event_id, event) =
        read(&body).ok_or_else(|| Problem::new(Reason::InvalidArgument, INVALID_BODY))?;
    let tenant = TenantName { application: application.clone(), tenant };
    if webhooks.hints.hint(&tenant, event_id) {
        tracing::info!(%tenant, event = event.as_str(), "SuperOffice reported changed associates");
    }
    Ok(StatusCode::OK)
}

impl Webhooks {
    fn application(&self, id: &str) -> Option<(&ApplicationId, &dyn WebhookVerifier)> {
        let (id, verifier) = self.verifiers.get_key_value(&id.parse::<ApplicationId>().ok()?)?;
        Some((id, &**verifier))
    }
}

/// Returns the signature, or `None` if there are none or several.
fn single_signature(request: &Request) -> Option<Vec<u8>> {
    let mut values = request.headers().get_all(SIGNATURE).iter();
    match (values.next(), values.next()) {
        (Some(signature), None) => Some(signature.as_bytes().to_vec()),
        _ => None,
    }
}

fn read(body: &[u8]) -> Option<(ContextIdentifier, Uuid, Event)> {
    let notification: Notification = serde_json::from_slice(without_byte_order_mark(body)).ok()?;
    let tenant = notification.context_identifier.parse().ok()?;
    let event_id = Uuid::try_parse(&notification.event_id).ok()?;
    Some((tenant, event_id, notification.event))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GOOD: &str = r#"{"EventId":"7d2b1f0e-0d4e-4c4b-9a55-2f1c2d6a8e10","Timestamp":"2026-11-22T10:00:00.0000000Z",
        "Changes":["group_idx"],"Event":"associate.changed","PrimaryKey":900,"Entity":"associate",
        "ContextIdentifier":"Cust12345","ChangedByAssociateId":5,"WebhookName":"people","FieldValues":{"type":0}}"#;

    #[test]
    fn reads_documented_fields_and_ignores_others() {
        let (tenant, id, event) = read(GOOD.as_bytes()).unwrap();
        assert_eq!(tenant.to_string(), "Cust12345");
        assert_eq!(id.to_string(), "7d2b1f0e-0d4e-4c4b-9a55-2f1c2d6a8e10");
        assert_eq!(event.as_str(), "associate.changed");
        let older = GOOD.replace(r#""FieldValues":{"type":0}"#, r#""Values":{"associate_id":900}"#);
        assert!(read(older.as_bytes()).is_some());
        let odd = r#""Names":"cut \ud83d","Number":1e999,"#;
        let odd = GOOD.replacen('{', &format!("\u{feff}{{{odd}"), 1);
        assert!(read(odd.as_bytes()).is_some());
    }

    #[test]
    fn rejects_undocumented_bodies() {
        for (from, to) in [
            (GOOD, ""),
            (GOOD, "[]"),
            (GOOD, "null"),
            (GOOD, "<html>"),
            ("Cust12345", ""),
            ("Cust12345", "cust12345"),
            ("Cust12345", "Cust12345/../x"),
            ("Cust12345", "Cust12345\\n"),
            (r#""Cust12345""#, "12345"),
            (r#""ContextIdentifier""#, r#""Context""#),
            ("associate.changed", "contact.changed"),
            ("associate.changed", ""),
            ("7d2b1f0e-0d4e-4c4b-9a55-2f1c2d6a8e10", ""),
            ("7d2b1f0e-0d4e-4c4b-9a55-2f1c2d6a8e10", "17"),
            (r#""EventId""#, r#""eventid""#),
            (r#""PrimaryKey":900"#, r#""EventId":"7d2b1f0e-0d4e-4c4b-9a55-2f1c2d6a8e10""#),
            (r#""type":0}}"#, r#""type":0}"#),
        ] {
            let text = GOOD.replace(from, to);
            assert_ne!(text, GOOD);
            assert!(read(text.as_bytes()).is_none(), "{text}");
        }
        let deep = "[".repeat(30_000);
        assert!(read(GOOD.replace("900", &deep).as_bytes()).is_none());
        let mut bytes = GOOD.as_bytes().to_vec();
        bytes[3] = 0xff;
        assert!(read(&bytes).is_none());
    }

    proptest! {
        #[test]
        fn a_tenant_that_was_read_is_in_the_body(
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
            at in 0..GOOD.len(),
            insert: bool,
        ) {
            let mut body = GOOD.as_bytes().to_vec();
            if insert {
                body.splice(at..at, bytes.iter().take(3).copied());
            } else {
                body = bytes;
            }
            if let Some((tenant, ..)) = read(&body) {
                let text = tenant.to_string();
                prop_assert!(body.windows(text.len()).any(|part| part == text.as_bytes()));
            }
        }
    }
}
