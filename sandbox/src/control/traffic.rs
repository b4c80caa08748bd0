//! Control of the rate limit of the Web API, in Rust and on the control port.

use axum::Router;
use axum::extract::{Json, Path, State};
use axum::http::StatusCode;
use axum::routing::{get, put};
use serde_json::{Value, json};

use super::Control;
use crate::traffic::{CallRate, RateLimit};

impl Control {
    /// Limits the calls of each tenant's Web API; `None` removes the limit.
    pub fn set_rate_limit(&self, limit: Option<RateLimit>) {
        self.platform.traffic.set_limit(limit);
    }

    /// Returns the call rate of a tenant's Web API, measured since the start or the last reset of
    /// the counts.
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
