//! How a webhook is sent: three attempts, each signed, the same event id.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HOST, USER_AGENT};
use hyper::{Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::Delivery;
use crate::lock::hold;
use crate::net::Tasks;
use crate::platform::Platform;

/// How long an attempt may take. Not documented.
const PATIENCE: Duration = Duration::from_secs(10);

const AGENT: &str = "NetServer-Webhook/11.10";

/// Base64 of HMAC-SHA256 over the raw body, with the secret's UTF-8 as the key.
pub(super) fn signature(secret: &str, body: &[u8]) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    STANDARD.encode(hmac::sign(&key, body))
}

/// Sends what is queued, until the sandbox stops.
pub(crate) async fn deliver(platform: Arc<Platform>, tasks: Tasks) {
    let deliveries = hold(&platform.webhooks.deliveries).take();
    let Some(mut deliveries) = deliveries else {
        return;
    };
    while let Some(delivery) = deliveries.recv().await {
        let platform = Arc::clone(&platform);
        tasks.run(async move {
            let delivered = cycle(&delivery).await;
            platform.webhooks.ended(&delivery.tenant, &delivery.hook, delivered);
        });
    }
}

async fn cycle(delivery: &Delivery) -> bool {
    let [second, third] = delivery.waits;
    for (retry, wait) in [Duration::ZERO, second, third].into_iter().enumerate() {
        tokio::time::sleep(wait).await;
        let attempt = tokio::time::timeout(PATIENCE, attempt(delivery, retry)).await;
        if matches!(attempt, Ok(Ok(StatusCode::OK))) {
            return true;
        }
    }
    false
}

#[derive(Debug, thiserror::Error)]
enum SendError {
    #[error("the target is no HTTP address with a host")]
    Target,
    #[error(transparent)]
    Connect(#[from] std::io::Error),
    #[error(transparent)]
    Http(#[from] hyper::Error),
    #[error(transparent)]
    Request(#[from] hyper::http::Error),
}

async fn attempt(delivery: &Delivery, retry: usize) -> Result<StatusCode, SendError> {
    let target: Uri = delivery.target.parse().map_err(|_| SendError::Target)?;
    let host = target.host().ok_or(SendError::Target)?;
    let port = target.port_u16().unwrap_or(80);
    let path = target.path_and_query().map_or("/", |path| path.as_str());
    let request = Request::post(path)
        .header(HOST, format!("{host}:{port}"))
        .header(CONTENT_TYPE, "application/json; charset=utf-8")
        .header(USER_AGENT, AGENT)
        .header("X-Superoffice-Event", delivery.event)
        .header("X-Superoffice-Eventid", &delivery.event_id)
        .header("X-SuperOffice-Retry", retry)
        .header("X-Superoffice-Signature", &delivery.signature)
        .body(Full::new(Bytes::from(delivery.body.clone())))?;
    let stream = TcpStream::connect((host, port)).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let answer = sender.send_request(request);
    tokio::pin!(answer, connection);
    tokio::select! {
        answer = &mut answer => Ok(answer?.status()),
        ended = &mut connection => {
            ended?;
            Ok(answer.await?.status())
        }
    }
}
