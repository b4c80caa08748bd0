//! The routes of the control port.

use std::collections::HashMap;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Json, Path, State};
use axum::http::StatusCode;
use axum::routing::{delete, get, post, put};
use hyper::Request;
use hyper::body::Incoming;
use hyper::header::HeaderValue;
use serde::Deserialize;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::{Control, ControlError, people_routes, sign_in_routes, state_changes, traffic};
use crate::endpoint::{ApiHost, Endpoint};
use crate::faults::{Fault, FaultScope};
use crate::lock::read;
use crate::net::{Aborted, ConnectionEnd, Host};
use crate::refusal::Refusal;
use crate::world::{Authorization, NewApplication, NewTenant, TenantState};

/// The control host.
#[derive(Clone)]
pub(crate) struct ControlService {
    router: Router,
}

impl ControlService {
    pub(crate) fn new(control: Control) -> Self {
        Self { router: router(control) }
    }
}

impl Host for ControlService {
    async fn answer(
        &self,
        request: Request<Incoming>,
        _: &ConnectionEnd,
    ) -> Result<axum::http::Response<Body>, Aborted> {
        match self.router.clone().oneshot(request).await {
            Ok(response) => Ok(response),
            Err(never) => match never {},
        }
    }

    fn date(&self) -> Option<HeaderValue> {
        None // the control host uses real time
    }
}

fn router(control: Control) -> Router {
    Router::new()
        .route("/", get(overview))
        .route("/applications", post(add_application))
        .route("/applications/{client_id}/secrets", put(set_secrets))
        .route("/applications/{client_id}/public-keys", put(set_public_keys))
        .route("/tenants", post(add_tenant))
        .route("/tenants/{tenant}/state", put(set_state))
        .route("/tenants/{tenant}/host", put(set_host))
        .route(
            "/authorizations",
            post(authorize).put(set_authorization).delete(remove_authorization),
        )
        .route("/status-validity", put(set_status_validity))
        .route("/unknown-tenants", put(set_unknown_tenants))
        .route("/clock", put(set_clock))
        .route("/signing-key/roll", post(roll_signing_key))
        .route("/tickets/expire", post(expire_tickets))
        .route("/refusals", put(set_refusal))
        .route("/faults", post(inject).delete(clear_faults))
        .route("/counts", delete(reset_counts).get(counts))
        .merge(people_routes::routes())
        .merge(sign_in_routes::routes())
        .merge(state_changes::routes())
        .merge(traffic::routes())
        .with_state(control)
}

type NoContentResult = Result<StatusCode, ControlError>;

const NO_CONTENT: StatusCode = StatusCode::NO_CONTENT;

async fn overview(State(control): State<Control>) -> Json<Value> {
    let world = read(&control.platform.world);
    let tenants: HashMap<&str, Value> = world
        .tenants()
        .map(|tenant| {
            let about = json!({
                "company_name": tenant.company_name,
                "state": tenant.state,
                "host": tenant.host,
            });
            (tenant.id.as_str(), about)
        })
        .collect();
    Json(json!({
        "login": control.login_uri(),
        "api": { "A": control.api_uri(ApiHost::A), "B": control.api_uri(ApiHost::B) },
        "clock": control.now().to_string(),
        "tenants": tenants,
    }))
}

async fn add_application(
    State(control): State<Control>,
    Json(new): Json<NewApplication>,
) -> NoContentResult {
    control.add_application(new).map(|()| NO_CONTENT)
}

#[derive(Deserialize)]
struct Secrets {
    secrets: Vec<String>,
}

async fn set_secrets(
    State(control): State<Control>,
    Path(client_id): Path<String>,
    Json(body): Json<Secrets>,
) -> NoContentResult {
    control.set_secrets(&client_id, &body.secrets).map(|()| NO_CONTENT)
}

#[derive(Deserialize)]
struct PublicKeys {
    public_keys: Vec<String>,
}

async fn set_public_keys(
    State(control): State<Control>,
    Path(client_id): Path<String>,
    Json(body): Json<PublicKeys>,
) -> NoContentResult {
    control.set_public_keys(&client_id, &body.public_keys).map(|()| NO_CONTENT)
}

async fn add_tenant(State(control): State<Control>, Json(new): Json<NewTenant>) -> NoContentResult {
    control.add_tenant(new).map(|()| NO_CONTENT)
}

#[derive(Deserialize)]
struct StateChange {
    state: TenantState,
}

async fn set_state(
    State(control): State<Control>,
    Path(tenant): Path<String>,
    Json(body): Json<StateChange>,
) -> NoContentResult {
    control.set_state(&tenant, body.state).map(|()| NO_CONTENT)
}

#[derive(Deserialize)]
struct Move {
    host: ApiHost,
}

async fn set_host(
    State(control): State<Control>,
    Path(tenant): Path<String>,
    Json(body): Json<Move>,
) -> NoContentResult {
    control.move_tenant(&tenant, body.host).map(|()| NO_CONTENT)
}

#[derive(Deserialize)]
struct Authorize {
    client_id: String,
    tenant: String,
}

async fn authorize(
    State(control): State<Control>,
    Json(body): Json<Authorize>,
) -> Result<Json<Value>, ControlError> {
    let token = control.authorize(&body.client_id, &body.tenant)?;
    Ok(Json(json!({ "system_user_token": token })))
}

#[derive(Deserialize)]
struct AuthorizationChange {
    client_id: String,
    tenant: String,
    authorization: Authorization,
}

async fn set_authorization(
    State(control): State<Control>,
    Json(body): Json<AuthorizationChange>,
) -> NoContentResult {
    control
        .set_authorization(&body.client_id, &body.tenant, body.authorization)
        .map(|()| NO_CONTENT)
}

async fn remove_authorization(
    State(control): State<Control>,
    Json(body): Json<Authorize>,
) -> NoContentResult {
    control.remove_authorization(&body.client_id, &body.tenant).map(|()| NO_CONTENT)
}

#[derive(Deserialize)]
struct Validity {
    seconds: u64,
}

async fn set_status_validity(
    State(control): State<Control>,
    Json(body): Json<Validity>,
) -> StatusCode {
    control.set_status_validity(Duration::from_secs(body.seconds));
    NO_CONTENT
}

#[derive(Deserialize)]
struct UnknownTenants {
    not_found: bool,
}

async fn set_unknown_tenants(
    State(control): State<Control>,
    Json(body): Json<UnknownTenants>,
) -> StatusCode {
    control.set_unknown_tenant_is_404(body.not_found);
    NO_CONTENT
}

#[derive(Deserialize)]
struct ClockChange {
    shift_seconds: i64,
}

async fn set_clock(State(control): State<Control>, Json(body): Json<ClockChange>) -> StatusCode {
    control.shift_clock(body.shift_seconds);
    NO_CONTENT
}

#[derive(Deserialize)]
struct RollSigningKey {
    keep_old: bool,
}

async fn roll_signing_key(
    State(control): State<Control>,
    Json(body): Json<RollSigningKey>,
) -> NoContentResult {
    control.roll_signing_key(body.keep_old).map(|()| NO_CONTENT)
}

#[derive(Deserialize)]
struct Expire {
    #[serde(default)]
    tenant: Option<String>,
}

async fn expire_tickets(State(control): State<Control>, Json(body): Json<Expire>) -> StatusCode {
    control.expire_tickets(body.tenant.as_deref());
    NO_CONTENT
}

#[derive(Deserialize)]
struct RefusalChange {
    refusal: Refusal,
    #[serde(default)]
    message: Option<String>,
}

async fn set_refusal(
    State(control): State<Control>,
    Json(body): Json<RefusalChange>,
) -> StatusCode {
    control.set_refusal_message(body.refusal, body.message);
    NO_CONTENT
}

#[derive(Deserialize)]
struct Injection {
    endpoint: Endpoint,
    fault: Fault,
    #[serde(flatten)]
    scope: FaultScope,
}

async fn inject(State(control): State<Control>, Json(body): Json<Injection>) -> NoContentResult {
    control.inject(body.endpoint, body.fault, body.scope).map(|()| NO_CONTENT)
}

async fn clear_faults(State(control): State<Control>) -> StatusCode {
    control.clear_faults();
    NO_CONTENT
}

async fn counts(State(control): State<Control>) -> Json<Value> {
    let endpoints: HashMap<Endpoint, Value> = Endpoint::ALL
        .into_iter()
        .map(|endpoint| (endpoint, json!(control.platform.counts.for_endpoint(endpoint))))
        .collect();
    Json(json!({
        "endpoints": endpoints,
        "exchanges": control.exchanges(),
        "sign_ins": control.sign_ins(),
    }))
}

async fn reset_counts(State(control): State<Control>) -> StatusCode {
    control.reset_counts();
    NO_CONTENT
}
