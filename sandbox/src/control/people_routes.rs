//! The control port: people.

use axum::Router;
use axum::extract::{Json, Path, State};
use axum::http::StatusCode;
use axum::routing::{patch, post, put};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Control, ControlError};
use crate::people::{Associate, Oddities, People};
use crate::webhooks::NewWebhook;

const DONE: StatusCode = StatusCode::NO_CONTENT;

type Done = Result<StatusCode, ControlError>;

pub(super) fn routes() -> Router<Control> {
    Router::new()
        .route("/tenants/{tenant}/people", post(generate).put(set_people).get(people))
        .route("/tenants/{tenant}/associates", post(add))
        .route("/tenants/{tenant}/associates/{id}", patch(change).delete(remove))
        .route("/tenants/{tenant}/oddities", put(set_oddities))
        .route("/tenants/{tenant}/webhooks", post(set_webhook).put(set_sent))
        .route("/tenants/{tenant}/webhooks/{name}", axum::routing::get(state).delete(unhook))
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
) -> Done {
    control.generate_people(&tenant, body.count, body.seed).map(|()| DONE)
}

async fn set_people(
    State(control): State<Control>,
    Path(tenant): Path<String>,
    Json(people): Json<People>,
) -> Done {
    control.set_people(&tenant, people).map(|()| DONE)
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
) -> Done {
    control.add_associate(&tenant, &associate).map(|()| DONE)
}

/// What the body holds replaces what is there.
async fn change(
    State(control): State<Control>,
    Path((tenant, id)): Path<(String, u32)>,
    Json(changes): Json<Map<String, Value>>,
) -> Done {
    let people = control.people(&tenant)?;
    let old = people.associates.get(&id).ok_or(ControlError::UnknownAssociate(id))?;
    let mut fields = json!(old);
    if let Some(fields) = fields.as_object_mut() {
        if let Some(name) = changes.keys().find(|name| !fields.contains_key(*name)) {
            return Err(ControlError::BadAssociate(format!("there is no field {name}")));
        }
        fields.extend(changes);
    }
    let new: Associate = serde_json::from_value(fields)
        .map_err(|error| ControlError::BadAssociate(error.to_string()))?;
    drop(people);
    control.change_associate(&tenant, id, |associate| *associate = new).map(|()| DONE)
}

async fn remove(State(control): State<Control>, Path((tenant, id)): Path<(String, u32)>) -> Done {
    control.delete_associate(&tenant, id).map(|()| DONE)
}

async fn set_oddities(
    State(control): State<Control>,
    Path(tenant): Path<String>,
    Json(oddities): Json<Oddities>,
) -> Done {
    control.set_oddities(&tenant, oddities).map(|()| DONE)
}

async fn set_webhook(
    State(control): State<Control>,
    Path(tenant): Path<String>,
    Json(webhook): Json<NewWebhook>,
) -> Done {
    control.set_webhook(&tenant, webhook).map(|()| DONE)
}

#[derive(Deserialize)]
struct Sent {
    sent: bool,
}

async fn set_sent(
    State(control): State<Control>,
    Path(tenant): Path<String>,
    Json(body): Json<Sent>,
) -> Done {
    control.set_webhooks_sent(&tenant, body.sent).map(|()| DONE)
}

async fn state(
    State(control): State<Control>,
    Path((tenant, name)): Path<(String, String)>,
) -> Json<Value> {
    Json(json!({ "state": control.webhook_state(&tenant, &name) }))
}

async fn unhook(
    State(control): State<Control>,
    Path((tenant, name)): Path<(String, String)>,
) -> StatusCode {
    control.remove_webhook(&tenant, &name);
    DONE
}
