//! The system user exchange: a signed system user token is exchanged for a ticket.

use std::sync::Arc;

use axum::body::Body;
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use hyper::header::CONTENT_TYPE;
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use serde::Deserialize;
use serde_json::json;

use super::signed_token::SignedToken;
use super::token;
use crate::answer::Answer;
use crate::call::Call;
use crate::clock::{is_within_skew, parse_timestamp};
use crate::endpoint::Endpoint;
use crate::faults::Fault;
use crate::lock::read;
use crate::net::{Aborted, ConnectionEnd};
use crate::platform::Platform;
use crate::refusal::{self, Refusal};
use crate::tickets::Holder;
use crate::world::{Application, AuthorizationRecord, Tenant};

/// The maximum body size. A signed token has about 400 bytes; this leaves room for any name.
const MAX_BODY_BYTES: usize = 64 * 1024;

/// The documented request. All fields are required.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Exchange {
    signed_system_token: String,
    application_token: String,
    context_identifier: String,
    return_token_type: String,
}

pub(super) async fn answer(
    platform: &Platform,
    request: Request<Incoming>,
    ending: &ConnectionEnd,
) -> Result<Response<Body>, Aborted> {
    if request.method() != Method::POST {
        return Ok(Answer::method_not_allowed("POST").into_response());
    }
    let call = Call::begin(platform, Endpoint::Authenticate, ending);
    match read_exchange(request).await {
        Ok(exchange) => {
            let tenant = exchange.context_identifier.clone();
            call.answer(Some(&tenant), |fault| respond(platform, &exchange, fault)).await
        }
        Err(answer) => call.answer(None, |_| answer).await,
    }
}

async fn read_exchange(request: Request<Incoming>) -> Result<Exchange, Answer> {
    if !is_json(request.headers()) {
        return Err(Answer::empty(StatusCode::UNSUPPORTED_MEDIA_TYPE));
    }
    let body = Limited::new(request.into_body(), MAX_BODY_BYTES)
        .collect()
        .await
        .map_err(|_| Answer::empty(StatusCode::PAYLOAD_TOO_LARGE))?
        .to_bytes();
    let exchange: Exchange = serde_json::from_slice(&body)
        .map_err(|_| Answer::bad_request("The request body is not a system user exchange."))?;
    if !exchange.return_token_type.eq_ignore_ascii_case("JWT") {
        return Err(Answer::bad_request("The ReturnTokenType is not supported."));
    }
    Ok(exchange)
}

fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = value.and_then(|value| value.split(';').next());
    essence.is_some_and(|essence| essence.trim().eq_ignore_ascii_case("application/json"))
}

fn respond(platform: &Platform, exchange: &Exchange, fault: Option<&Fault>) -> Answer {
    if let Some(Fault::Refuse { message }) = fault {
        return refuse(platform, message);
    }
    let (tenant, holder) = match check_exchange(platform, exchange) {
        Ok(decided) => decided,
        Err(refusal) => return refuse(platform, &platform.refusals.text(refusal)),
    };
    let issued = platform
        .tickets
        .issue(holder, platform.clock.now())
        .and_then(|ticket| token::write(platform, &tenant, &ticket, fault));
    match issued {
        Ok(token) => {
            platform.counts.count_issued();
            Answer::json(
                StatusCode::OK,
                &json!({ "IsSuccessful": true, "Token": token, "ErrorMessage": null }),
            )
        }
        Err(_) => Answer::empty(StatusCode::INTERNAL_SERVER_ERROR),
    }
}

fn refuse(platform: &Platform, message: &str) -> Answer {
    platform.counts.count_refused();
    Answer::json(
        StatusCode::OK,
        &json!({ "IsSuccessful": false, "Token": null, "ErrorMessage": message }),
    )
}

/// Checks in this order: secret, signature, timestamp, tenant, system user token, authorization,
/// tenant state.
fn check_exchange(platform: &Platform, exchange: &Exchange) -> Result<(Tenant, Holder), Refusal> {
    let (application, found) = look_up(platform, exchange)?;
    let signed =
        SignedToken::parse(&exchange.signed_system_token).ok_or(Refusal::InvalidSignature)?;
    let genuine = application
        .public_keys
        .iter()
        .any(|key| key.verifies(signed.payload.as_bytes(), &signed.signature));
    if !genuine {
        return Err(Refusal::InvalidSignature);
    }
    let stamp = parse_timestamp(signed.timestamp).ok_or(Refusal::InvalidTimestamp)?;
    if !is_within_skew(platform.clock.now(), stamp, platform.rules().allowed_skew) {
        return Err(Refusal::InvalidTimestamp);
    }
    let (tenant, record) = found.ok_or(Refusal::Denied)?;
    if record.system_user_token != signed.system_user_token {
        return Err(Refusal::Denied);
    }
    refusal::check(record.state)?;
    if !tenant.state.is_running() {
        return Err(Refusal::TenantUnavailable);
    }
    let holder = Holder { tenant: tenant.id.clone(), client_id: application.client_id.clone() };
    Ok((tenant, holder))
}

type TenantAndRecord = Option<(Tenant, AuthorizationRecord)>;

/// Returns copies, so that the world is not locked during signature verification.
fn look_up(
    platform: &Platform,
    exchange: &Exchange,
) -> Result<(Arc<Application>, TenantAndRecord), Refusal> {
    let world = read(&platform.world);
    let application = world
        .application_by_secret(&exchange.application_token)
        .ok_or(Refusal::UnknownApplication)?;
    let found = world.tenant(&exchange.context_identifier).and_then(|tenant| {
        let record = tenant.record(&application.client_id)?;
        Some((tenant.clone(), record.clone()))
    });
    Ok((Arc::clone(application), found))
}
