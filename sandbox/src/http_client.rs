//! HTTP requests that the service sends itself: notifications and webhooks.

use std::time::Duration;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HOST, HeaderName, HeaderValue, USER_AGENT};
use hyper::{Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// The time limit of an attempt (not documented).
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Debug, thiserror::Error)]
pub(crate) enum SendError {
    #[error("the target must be an HTTP address with a host")]
    InvalidTarget,
    #[error("the target did not answer in time")]
    TimedOut,
    #[error(transparent)]
    Connect(#[from] std::io::Error),
    #[error(transparent)]
    Http(#[from] hyper::Error),
    #[error(transparent)]
    Request(#[from] hyper::http::Error),
}

/// Posts JSON to `http://host:port/path`, and returns the status.
pub(crate) async fn post_json(
    target: &str,
    agent: &str,
    headers: Vec<(HeaderName, HeaderValue)>,
    body: Vec<u8>,
) -> Result<StatusCode, SendError> {
    let attempt = attempt(target, agent, headers, body);
    tokio::time::timeout(ATTEMPT_TIMEOUT, attempt).await.unwrap_or(Err(SendError::TimedOut))
}

async fn attempt(
    target: &str,
    agent: &str,
    headers: Vec<(HeaderName, HeaderValue)>,
    body: Vec<u8>,
) -> Result<StatusCode, SendError> {
    let target: Uri = target.parse().map_err(|_| SendError::InvalidTarget)?;
    let host = target.host().ok_or(SendError::InvalidTarget)?;
    let port = target.port_u16().unwrap_or(80);
    let path = target.path_and_query().map_or("/", |path| path.as_str());
    let mut request = Request::post(path)
        .header(HOST, format!("{host}:{port}"))
        .header(CONTENT_TYPE, "application/json; charset=utf-8")
        .header(USER_AGENT, agent)
        .body(Full::new(Bytes::from(body)))?;
    request.headers_mut().extend(headers);
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
