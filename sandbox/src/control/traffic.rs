//! The control of how fast the Web API may be called, in Rust and on the control port.

use axum::Router;
use axum::extract::{Json, Path, State};
use axum::http::StatusCode;
use axum::routing::{get, put};
use serde_json::{Value, json};

use super::Control;
use crate::traffic::{CallRate, RateLimit};

impl Control {
    /// Limits the calls of each tenant's Web API, or with `None` no longer does.
    pub fn set_rate_limit(&self, limit: Option<RateLimit>) {
        self.platform.traffic.limit(limit);
    }

    /// How fast the Web API of a tenant was called, since it was started or the counts were reset.
    #[must_use]
    pub fn call_rate(&self, tenant: &str) -> CallRate {
        self.platform.traffic.rate(tenant)
    }
}

pub(super) fn routes() -> Router<Control> {
    Router::new()
        .route("/tenants/{tenant}/call-rate", get(call_rate))
        .route("/rate-limit", put(set_rate_limit).delete(remove_rate_limit))
}

async fn call_rate(State(control): State<Control>, Path(tenant): Path<String>) -> Json<Value> {
    Json(json!(control.call_rate(&tenant)))
}

async fn set_rate_limit(
    State(control): State<Control>,
    Json(limit): Json<RateLimit>,
) -> StatusCode {
    control.set_rate_limit(Some(limit));
    StatusCode::NO_CONTENT
}

async fn remove_rate_limit(State(control): State<Control>) -> StatusCode {
    control.set_rate_limit(None);
    StatusCode::NO_CONTENT
}
