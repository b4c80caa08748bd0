//! Notifications of state changes, in Rust and on the control port.

use axum::Router;
use axum::extract::{Json, State};
use axum::routing::post;
use hyper::StatusCode;
use serde_json::{Value, json};

use super::{Control, ControlError};
use crate::lock::read;
use crate::state_changes::{StateChange, USER_AGENT};

impl Control {
    /// Sends a notification once, and returns the status of the response. It does not change the
    /// tenant.
    ///
    /// # Errors
    ///
    /// When there is no such tenant, or the target does not respond.
    pub async fn send_state_change(&self, change: &StateChange) -> Result<u16, ControlError> {
        let unknown = || ControlError::UnknownTenant(change.tenant.clone());
        let tenant = read(&self.platform.world).tenant(&change.tenant).cloned();
        let body = change.body(&self.platform, &tenant.ok_or_else(unknown)?)?;
        let body = body.to_string().into_bytes();
        let sent =
            crate::http_client::post_json(&change.target, USER_AGENT, Vec::new(), body).await;
        sent.as_ref().map(StatusCode::as_u16).map_err(|error| {
            let text = error.to_string();
            ControlError::NotSent(text)
        })
    }
}

pub(super) fn routes() -> Router<Control> {
    Router::new().route("/state-changes", post(send_state_change))
}

/// Answers after the target has responded, with its status.
async fn send_state_change(
    State(control): State<Control>,
    Json(change): Json<StateChange>,
) -> Result<Json<Value>, ControlError> {
    let status = control.send_state_change(&change).await?;
    Ok(Json(json!({ "status": status })))
}
