//! Routes of the control port about people.

use axum::Router;
use axum::extract::{Json, Path, State};
use axum::http::StatusCode;
use axum::routing::{patch, post, put};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Control, ControlError};
use crate::people::{Associate, Oddities, People};
use crate::webhooks::NewWebhook;

const NO_CONTENT: StatusCode = StatusCode::NO_CONTENT;

type NoContentResult = Result<StatusCode, ControlError>;

pub(super) fn routes() -> Router<Control> {
    Router::new()
        .route("/tenants/{tenant}/people", post(generate).put(set_people).get(people))
        .route("/tenants/{tenant}/associates", post(add))
        .route("/tenants/{tenant}/associates/{id}", patch(change).delete(remove))
        .route("/tenants/{tenant}/oddities", put(set_oddities))
        .route("/tenants/{tenant}/webhooks", post(set_webhook).put(set_sent))
        .route(
            "/tenants/{tenant}/webhooks/{name}",
            axum::routing::get(webhook_state).delete(remove_webhook),
        )
}

#[derive(Deserialize)]
struct Generate {
    count: usize,
    #[serde(default)]
    seed: u64,
}

async fn generate(
    State(control): State<Control>,
    Path(tenant): Path<String>,
    Json(body): Json<Generate>,
) -> NoContentResult {
    control.generate_people(&tenant, body.count, body.seed).map(|()| NO_CONTENT)
}

async fn set_people(
    State(control): State<Control>,
    Path(tenant): Path<String>,
    Json(people): Json<People>,
) -> NoContentResult {
    control.set_people(&tenant, people).map(|()| NO_CONTENT)
}

async fn people(
    State(control): State<Control>,
    Path(tenant): Path<String>,
) -> Result<Json<Value>, ControlError> {
    Ok(Json(json!(*control.people(&tenant)?)))
}

async fn add(
    State(control): State<Control>,
    Path(tenant): Path<String>,
    Json(associate): Json<Associate>,
) -> NoContentResult {
    control.add_associate(&tenant, &associate).map(|()| NO_CONTENT)
}

/// Replaces the fields that the body contains.
async fn change(
    State(control): State<Control>,
    Path((tenant, id)): Path<(String, u32)>,
    Json(changes): Json<Map<String, Value>>,
) -> NoContentResult {
    let people = control.people(&tenant)?;
    let old = people.associates.get(&id).ok_or(ControlError::UnknownAssociate(id))?;
    let mut fields = json!(old);
    if let Some(fields) = fields.as_object_mut() {
        if let Some(name) = changes.keys().find(|name| !fields.contains_key(*name)) {
            return Err(ControlError::BadAssociate(format!("unknown field {name}")));
        }
        fields.extend(changes);
    }
    let new: Associate = serde_json::from_value(fields)
        .map_err(|error| ControlError::BadAssociate(error.to_string()))?;
    drop(people);
    control.change_associate(&tenant, id, |associate| *associate = new).map(|()| NO_CONTENT)
}

async fn remove(
    State(control): State<Control>,
    Path((tenant, id)): Path<(String, u32)>,
) -> NoContentResult {
    control.delete_associate(&tenant, id).map(|()| NO_CONTENT)
}

async fn set_oddities(
    State(control): State<Control>,
    Path(tenant): Path<String>,
    Json(oddities): Json<Oddities>,
) -> NoContentResult {
    control.set_oddities(&tenant, oddities).map(|()| NO_CONTENT)
}

async fn set_webhook(
    State(control): State<Control>,
    Path(tenant): Path<String>,
    Json(webhook): Json<NewWebhook>,
) -> NoContentResult {
    control.set_webhook(&tenant, webhook).map(|()| NO_CONTENT)
}

#[derive(Deserialize)]
struct Sent {
    sent: bool,
}

async fn set_sent(
    State(control): State<Control>,
    Path(tenant): Path<String>,
    Json(body): Json<Sent>,
) -> NoContentResult {
    control.set_webhooks_sent(&tenant, body.sent).map(|()| NO_CONTENT)
}

async fn webhook_state(
    State(control): State<Control>,
    Path((tenant, name)): Path<(String, String)>,
) -> Json<Value> {
    Json(json!({ "state": control.webhook_state(&tenant, &name) }))
}

async fn remove_webhook(
    State(control): State<Control>,
    Path((tenant, name)): Path<(String, String)>,
) -> StatusCode {
    control.remove_webhook(&tenant, &name);
    NO_CONTENT
}
