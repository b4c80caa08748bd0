//! Webhooks: events about created, changed and deleted associates.

mod send;

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use aws_lc_rs::error::Unspecified;
use aws_lc_rs::rand;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

pub(crate) use self::send::deliver;
use crate::clock::{NO_DATE, format_timestamp};
use crate::lock::lock;
use crate::people::{Associate, SYSTEM_ASSOCIATE_ID};

/// A webhook stops after this many consecutive failed deliveries.
const MAX_FAILED_CYCLES: u32 = 3;

/// A webhook to register.
#[derive(Clone, Debug, Deserialize)]
pub struct NewWebhook {
    /// Its name.
    pub name: String,
    /// The target: `http://host:port/path`. SuperOffice requires HTTPS.
    pub target: String,
    /// The secret for its signature.
    pub secret: String,
    /// The events to send; empty means all three.
    #[serde(default)]
    pub events: Vec<String>,
    /// The wait before the second and the third attempt.
    #[serde(default = "documented_waits")]
    pub waits_milliseconds: [u64; 2],
}

impl NewWebhook {
    /// Returns a webhook for all three events, with the documented waits.
    #[must_use]
    pub fn new(name: &str, target: &str, secret: &str) -> Self {
        Self {
            name: name.to_owned(),
            target: target.to_owned(),
            secret: secret.to_owned(),
            events: Vec::new(),
            waits_milliseconds: documented_waits(),
        }
    }
}

fn documented_waits() -> [u64; 2] {
    [1_000, 4_000]
}

/// The state of a webhook.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub enum WebhookState {
    /// Events are sent.
    #[default]
    Active,
    /// Stopped after too many failures.
    TooManyErrors,
}

/// The kind of change of an associate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AssociateEvent {
    Created,
    Changed,
    Deleted,
}

impl AssociateEvent {
    fn name(self) -> &'static str {
        match self {
            Self::Created => "associate.created",
            Self::Changed => "associate.changed",
            Self::Deleted => "associate.deleted",
        }
    }
}

#[derive(Debug)]
struct RegisteredWebhook {
    registration: NewWebhook,
    state: WebhookState,
    failed_cycles: u32,
}

#[derive(Debug)]
struct TenantWebhooks {
    sending: bool,
    hooks: Vec<RegisteredWebhook>,
}

impl Default for TenantWebhooks {
    fn default() -> Self {
        Self { sending: true, hooks: Vec::new() }
    }
}

/// One event to deliver to one webhook.
#[derive(Debug)]
pub(crate) struct Delivery {
    tenant: String,
    hook: String,
    target: String,
    event: &'static str,
    event_id: String,
    signature: String,
    body: Vec<u8>,
    waits: [Duration; 2],
}

#[derive(Debug)]
pub(crate) struct Webhooks {
    by_tenant: Mutex<HashMap<String, TenantWebhooks>>,
    queue: UnboundedSender<Delivery>,
    deliveries: Mutex<Option<UnboundedReceiver<Delivery>>>,
}

impl Default for Webhooks {
    fn default() -> Self {
        let (queue, deliveries) = unbounded_channel();
        Self { by_tenant: Mutex::default(), queue, deliveries: Mutex::new(Some(deliveries)) }
    }
}

impl Webhooks {
    /// Adds a webhook, or replaces the one of that name. Its state becomes active.
    pub(crate) fn set(&self, tenant: &str, about: NewWebhook) {
        let mut by_tenant = lock(&self.by_tenant);
        let hooks = &mut by_tenant.entry(tenant.to_owned()).or_default().hooks;
        hooks.retain(|hook| hook.registration.name != about.name);
        hooks.push(RegisteredWebhook {
            registration: about,
            state: WebhookState::Active,
            failed_cycles: 0,
        });
    }

    pub(crate) fn remove(&self, tenant: &str, name: &str) {
        if let Some(hooks) = lock(&self.by_tenant).get_mut(tenant) {
            hooks.hooks.retain(|hook| hook.registration.name != name);
        }
    }

    pub(crate) fn set_sending(&self, tenant: &str, sending: bool) {
        lock(&self.by_tenant).entry(tenant.to_owned()).or_default().sending = sending;
    }

    pub(crate) fn state(&self, tenant: &str, name: &str) -> Option<WebhookState> {
        let by_tenant = lock(&self.by_tenant);
        let hook =
            by_tenant.get(tenant)?.hooks.iter().find(|hook| hook.registration.name == name)?;
        Some(hook.state)
    }

    /// Queues the event for every webhook of the tenant that subscribes to it.
    pub(crate) fn queue_event(
        &self,
        tenant: &str,
        event: AssociateEvent,
        changes: &[&str],
        associate: &Associate,
        now: Timestamp,
    ) -> Result<(), Unspecified> {
        let by_tenant = lock(&self.by_tenant);
        let Some(hooks) = by_tenant.get(tenant).filter(|hooks| hooks.sending) else {
            return Ok(());
        };
        let name = event.name();
        for RegisteredWebhook { registration: about, state, .. } in &hooks.hooks {
            let wanted = about.events.is_empty() || about.events.iter().any(|one| one == name);
            if !wanted || *state != WebhookState::Active {
                continue;
            }
            let event_id = guid()?;
            let body = body(tenant, event, changes, associate, now, &event_id, &about.name);
            let body = body.to_string().into_bytes();
            let [second, third] = about.waits_milliseconds;
            // The receiver is gone once the sandbox stops.
            let _ = self.queue.send(Delivery {
                tenant: tenant.to_owned(),
                hook: about.name.clone(),
                target: about.target.clone(),
                event: name,
                event_id,
                signature: send::signature(&about.secret, &body),
                body,
                waits: [Duration::from_millis(second), Duration::from_millis(third)],
            });
        }
        Ok(())
    }

    /// Records the result of a delivery.
    fn record_cycle(&self, tenant: &str, name: &str, delivered: bool) {
        let mut by_tenant = lock(&self.by_tenant);
        let hooks = by_tenant.get_mut(tenant).map(|hooks| &mut hooks.hooks);
        let hook =
            hooks.and_then(|hooks| hooks.iter_mut().find(|hook| hook.registration.name == name));
        let Some(hook) = hook else {
            return;
        };
        hook.failed_cycles = if delivered { 0 } else { hook.failed_cycles + 1 };
        if hook.failed_cycles >= MAX_FAILED_CYCLES {
            hook.state = WebhookState::TooManyErrors;
        }
    }
}

fn body(
    tenant: &str,
    event: AssociateEvent,
    changes: &[&str],
    associate: &Associate,
    now: Timestamp,
    event_id: &str,
    webhook: &str,
) -> Value {
    let mut body = json!({
        "EventId": event_id,
        "Timestamp": format_timestamp(now),
        "Changes": changes,
        "Event": event.name(),
        "PrimaryKey": associate.id,
        "Entity": "associate",
        "ContextIdentifier": tenant,
        "ChangedByAssociateId": SYSTEM_ASSOCIATE_ID,
        "WebhookName": webhook,
    });
    if event == AssociateEvent::Deleted {
        let values = json!({ "associate_id": associate.id, "person_id": associate.person_id });
        insert(&mut body, "Values", values);
    } else {
        let values = json!({
            "deleted": associate.deleted,
            "group_idx": associate.group_id,
            "person_id": associate.person_id,
            "registered_associate_id": associate.registered_by,
            "type": associate.kind,
            "updated": date(&associate.updated),
            "updated_associate_id": associate.updated_by,
            "waiting_for_approval": associate.waiting_for_approval,
        });
        insert(&mut body, "FieldValues", values);
    }
    body
}

fn insert(body: &mut Value, name: &str, value: Value) {
    if let Some(fields) = body.as_object_mut() {
        fields.insert(name.to_owned(), value);
    }
}

fn date(text: &str) -> &str {
    if text.is_empty() { NO_DATE } else { text }
}

fn guid() -> Result<String, Unspecified> {
    let mut bytes = [0; 16];
    rand::fill(&mut bytes)?;
    let digits = format!("{:032x}", u128::from_be_bytes(bytes));
    let mut parts = Vec::new();
    let mut rest = digits.as_str();
    for length in [8, 4, 4, 4] {
        let (part, after) = rest.split_at(length);
        parts.push(part);
        rest = after;
    }
    parts.push(rest);
    Ok(parts.join("-"))
}
