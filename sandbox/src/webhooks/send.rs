//! Delivery of webhooks: three attempts with the same signature and event id.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::StatusCode;
use hyper::header::{HeaderName, HeaderValue};

use super::{Delivery, Webhooks};
use crate::http_client::{self, SendError};
use crate::lock::lock;
use crate::net::Tasks;

const USER_AGENT: &str = "NetServer-Webhook/11.10";

/// Returns base64 of HMAC-SHA256 over the raw body, with the secret's UTF-8 as the key.
pub(super) fn signature(secret: &str, body: &[u8]) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    STANDARD.encode(hmac::sign(&key, body))
}

/// Delivers queued events until the sandbox stops.
pub(crate) async fn deliver(webhooks: Arc<Webhooks>, tasks: Tasks) {
    let deliveries = lock(&webhooks.deliveries).take();
    let Some(mut deliveries) = deliveries else {
        return;
    };
    while let Some(delivery) = deliveries.recv().await {
        let webhooks = Arc::clone(&webhooks);
        tasks.run(async move {
            let delivered = deliver_with_retries(&delivery).await;
            webhooks.record_cycle(&delivery.tenant, &delivery.hook, delivered);
        });
    }
}

async fn deliver_with_retries(delivery: &Delivery) -> bool {
    let [second, third] = delivery.waits;
    for (retry, wait) in (0_u32..).zip([Duration::ZERO, second, third]) {
        tokio::time::sleep(wait).await;
        if matches!(attempt(delivery, retry).await, Ok(StatusCode::OK)) {
            return true;
        }
    }
    false
}

async fn attempt(delivery: &Delivery, retry: u32) -> Result<StatusCode, SendError> {
    let text = |text: &str| HeaderValue::from_str(text).map_err(hyper::http::Error::from);
    let headers = vec![
        (HeaderName::from_static("x-superoffice-event"), HeaderValue::from_static(delivery.event)),
        (HeaderName::from_static("x-superoffice-eventid"), text(&delivery.event_id)?),
        (HeaderName::from_static("x-superoffice-retry"), HeaderValue::from(retry)),
        (HeaderName::from_static("x-superoffice-signature"), text(&delivery.signature)?),
    ];
    http_client::post_json(&delivery.target, USER_AGENT, headers, delivery.body.clone()).await
}
