//! Tenant status: a tenant's API host and state.

use hyper::StatusCode;
use jiff::SignedDuration;
use serde_json::{Value, json};

use crate::answer::Answer;
use crate::clock::format_timestamp;
use crate::faults::Fault;
use crate::lock::read;
use crate::platform::Platform;
use crate::world::TenantState;

/// The version of every simulated tenant.
const VERSION: &str = "Release_11.10_2026.02.24-02";

pub(super) fn status(platform: &Platform, tenant: &str, fault: Option<&Fault>) -> Answer {
    let rules = platform.rules();
    let known = read(&platform.world).tenant(tenant).map(|tenant| {
        let endpoint = format!("{}/{}", platform.addresses.api(tenant.host), tenant.id);
        (tenant.state, endpoint)
    });
    if known.is_none() && rules.unknown_tenant_is_404 {
        return Answer::html(StatusCode::NOT_FOUND, "Not found");
    }
    let now = platform.clock.now();
    let validity = SignedDuration::try_from(rules.status_validity).unwrap_or(SignedDuration::MAX);
    let valid_until = format_timestamp(now.saturating_add(validity).unwrap_or(now));
    let mut body = match known {
        Some((state, endpoint)) => json!({
            "ContextIdentifier": tenant,
            "Api": format!("{endpoint}/api"),
            "Endpoint": endpoint,
            "State": state,
            "IsRunning": state.is_running(),
            "ValidUntil": valid_until,
            "Version": VERSION,
        }),
        None => json!({
            "ContextIdentifier": tenant,
            "Endpoint": null,
            "State": TenantState::Unknown,
            "IsRunning": false,
            "ValidUntil": valid_until,
            "Api": null,
        }),
    };
    if let (Some(fault), Some(fields)) = (fault, body.as_object_mut()) {
        apply_fault(fields, fault);
    }
    Answer::json(StatusCode::OK, &body)
}

fn apply_fault(fields: &mut serde_json::Map<String, Value>, fault: &Fault) {
    match fault {
        Fault::OtherTenant { context } => {
            fields.insert("ContextIdentifier".to_owned(), json!(context));
        }
        Fault::Addresses { api, endpoint } => {
            if let Some(api) = api {
                fields.insert("Api".to_owned(), json!(api));
            }
            if let Some(endpoint) = endpoint {
                fields.insert("Endpoint".to_owned(), json!(endpoint));
            }
        }
        Fault::MissingFields { fields: missing } => {
            fields.retain(|name, _| !missing.contains(name));
        }
        _ => {}
    }
}
