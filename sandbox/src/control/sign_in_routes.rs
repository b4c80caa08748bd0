//! Routes of the control port about sign-ins.

use axum::Router;
use axum::extract::{Json, Path, State};
use axum::http::StatusCode;
use axum::routing::{get, post, put};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Control, ControlError};
use crate::grants::SignInRules;
use crate::world::SignIn;

const NO_CONTENT: StatusCode = StatusCode::NO_CONTENT;

type NoContentResult = Result<StatusCode, ControlError>;

pub(super) fn routes() -> Router<Control> {
    Router::new()
        .route("/applications/{client_id}/sign-in", put(set_sign_in))
        .route("/authorizations/{client_id}/{tenant}", get(authorization))
        .route("/sign-in-rules", put(set_rules).get(rules))
        .route("/grants", post(begin_grant).get(grants))
        .route("/grants/revoke", post(revoke_grants))
        .route("/access-tokens/expire", post(expire_access_tokens))
        .route("/tenants/{tenant}/restore-backup", post(restore_backup))
}

async fn set_sign_in(
    State(control): State<Control>,
    Path(client_id): Path<String>,
    Json(sign_in): Json<SignIn>,
) -> NoContentResult {
    control.set_sign_in(&client_id, &sign_in).map(|()| NO_CONTENT)
}

async fn authorization(
    State(control): State<Control>,
    Path((client_id, tenant)): Path<(String, String)>,
) -> Json<Value> {
    Json(json!({
        "authorization": control.authorization(&client_id, &tenant),
        "approval": control.approval(&client_id, &tenant),
    }))
}

/// Sets fields that the body does not contain to their defaults.
async fn set_rules(State(control): State<Control>, Json(rules): Json<SignInRules>) -> StatusCode {
    control.set_sign_in_rules(rules);
    NO_CONTENT
}

async fn rules(State(control): State<Control>) -> Json<SignInRules> {
    Json(control.sign_in_rules())
}

#[derive(Deserialize)]
struct GrantRequest {
    client_id: String,
    tenant: String,
    associate_id: u32,
}

async fn begin_grant(
    State(control): State<Control>,
    Json(body): Json<GrantRequest>,
) -> Result<Json<Value>, ControlError> {
    let token = control.begin_grant(&body.client_id, &body.tenant, body.associate_id)?;
    Ok(Json(json!({ "refresh_token": token })))
}

async fn grants(State(control): State<Control>) -> Json<Value> {
    Json(json!({ "grants": control.grants() }))
}

#[derive(Deserialize)]
struct RevokeRequest {
    client_id: String,
    tenant: String,
    #[serde(default)]
    associate_id: Option<u32>,
}

async fn revoke_grants(
    State(control): State<Control>,
    Json(body): Json<RevokeRequest>,
) -> Result<Json<Value>, ControlError> {
    let revoked = control.revoke_grants(&body.client_id, &body.tenant, body.associate_id)?;
    Ok(Json(json!({ "revoked": revoked })))
}

#[derive(Deserialize)]
struct Expire {
    #[serde(default)]
    tenant: Option<String>,
}

async fn expire_access_tokens(
    State(control): State<Control>,
    Json(body): Json<Expire>,
) -> StatusCode {
    control.expire_access_tokens(body.tenant.as_deref());
    NO_CONTENT
}

#[derive(Deserialize)]
struct Restore {
    keep_grants: bool,
}

async fn restore_backup(
    State(control): State<Control>,
    Path(tenant): Path<String>,
    Json(body): Json<Restore>,
) -> NoContentResult {
    control.restore_backup(&tenant, body.keep_grants).map(|()| NO_CONTENT)
}
