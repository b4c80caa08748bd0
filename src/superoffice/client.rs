//! The HTTP client of SuperOffice: timeouts, size limits and retries.

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use http::{StatusCode, header::DATE};
use tokio::{
    runtime::{self, Handle},
    time::{Instant, timeout_at},
};
use zeroize::Zeroizing;

use super::{
    fault::Fault,
    json_repair::{read_repaired, strip_byte_order_mark},
};
use crate::{
    outbound::{self, HttpClient, Network, Request, Response},
    ports::{Random, UpstreamError},
};

/// The wait before the first retry. Each further wait is four times as long; all have jitter.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// The settings of the client.
#[derive(Debug, Clone, Copy)]
pub struct ClientOptions {
    /// The time limit for one request, including the whole response.
    pub timeout: Duration,
    /// Allows plain HTTP and loopback addresses, for tests.
    pub allow_loopback: bool,
}

/// The limits of one kind of request.
#[derive(Debug, Clone, Copy)]
pub(super) struct RequestLimits {
    /// The name of the request in errors and logs.
    pub(super) name: &'static str,
    /// The maximum size of a response body.
    pub(super) max_body_bytes: usize,
    /// The retry policy.
    pub(super) retry: RetryPolicy,
}

/// The condition for sending a request again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RetryPolicy {
    /// Retries up to twice: repeating the request is safe. Not after a timeout, which has used up the caller's time.
    Idempotent,
    /// Retries up to twice if the request was not sent: processing it twice would have side effects at the customer.
    OnlyIfNotSent,
}

/// A complete response with any status below 500 except 429.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    /// The `Date` header.
    pub(super) date: Option<String>,
    pub(super) body: Zeroizing<Vec<u8>>,
}

/// Sends requests to SuperOffice. Cheap to clone; clones share connections.
#[derive(Clone, Debug)]
pub struct Client {
    options: ClientOptions,
    network: Network,
    /// The HTTP client for everything but the Web API.
    http: HttpClient,
    /// The HTTP clients for the Web API, one for each runtime that serves callers. A connection runs on the runtime
    /// that opened it, so with one shared client each call would wake other threads.
    per_runtime: Arc<RwLock<Vec<(runtime::Id, HttpClient)>>>,
}

impl Client {
    /// Creates a client without connecting. It follows no redirects, and connects to public addresses only.
    #[must_use]
    pub fn new(network: &Network, options: ClientOptions) -> Self {
        let http = network.client(options.profile());
        Self { options, network: network.clone(), http, per_runtime: Arc::default() }
    }

    /// Returns the HTTP client of the current runtime.
    fn for_current_runtime(&self) -> HttpClient {
        let here = Handle::current().id();
        let known = |all: &[(runtime::Id, HttpClient)]| {
            all.iter().find(|(id, _)| *id == here).map(|(_, client)| client.clone())
        };
        let found = known(&self.per_runtime.read().unwrap_or_else(PoisonError::into_inner));
        found.unwrap_or_else(|| {
            let client = self.network.client(self.options.profile());
            let mut all = self.per_runtime.write().unwrap_or_else(PoisonError::into_inner);
            all.push((here, client.clone()));
            client
        })
    }

    /// Sends a Web API call and returns when the response begins, with any status. There is no time limit.
    pub(super) async fn send_streaming(&self, request: Request) -> Result<Response, Fault> {
        self.for_current_runtime().send(request).await
    }

    /// Sends a request, and retries it as `limits.retry` says. A 5xx or 429 is an error; every other status is an
    /// answer.
    pub(super) async fn send(
        &self,
        limits: RequestLimits,
        random: &dyn Random,
        request: impl Fn() -> Request,
    ) -> Result<Answer, Fault> {
        let mut pause = FIRST_PAUSE;
        for _ in 0..2 {
            match self.send_once(limits, request()).await {
                Ok(answer) => return Ok(answer),
                Err(fault) if fault.may_retry(limits.retry) => {
                    tokio::time::sleep(random.jitter(pause)).await;
                    pause *= 4;
                }
                Err(fault) => return Err(fault),
            }
        }
        self.send_once(limits, request()).await
    }

    /// Sends a request without retries.
    pub(super) async fn send_once(
        &self,
        limits: RequestLimits,
        request: Request,
    ) -> Result<Answer, Fault> {
        let limit = self.options.timeout;
        let until = Instant::now() + limit;
        let late = |_| Fault::Timeout(limit);
        let mut response = timeout_at(until, self.http.send(request)).await.map_err(late)??;
        let status = response.status;
        if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
            return Err(Fault::Status(status));
        }
        let date = response.headers.get(DATE).and_then(|date| date.to_str().ok());
        let date = date.map(str::to_owned);
        let mut body = Zeroizing::new(Vec::new());
        while let Some(chunk) = timeout_at(until, response.chunk()).await.map_err(late)?? {
            if body.len() + chunk.len() > limits.max_body_bytes {
                return Err(Fault::TooLarge(limits.max_body_bytes));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Answer { status, date, body })
    }
}

impl ClientOptions {
    fn profile(self) -> outbound::Profile {
        outbound::Profile::superoffice(self.timeout, self.allow_loopback)
    }
}

/// Returns the error for a response with an unexpected status.
pub(super) fn unexpected_status(limits: RequestLimits, status: StatusCode) -> UpstreamError {
    UpstreamError::InvalidResponse(format!("{}: HTTP {status}", limits.name))
}

/// Parses JSON. The error contains the position of the mistake, and nothing of the content.
pub(super) fn json<'b, T: serde::Deserialize<'b>>(
    limits: RequestLimits,
    body: &'b [u8],
) -> Result<T, UpstreamError> {
    serde_json::from_slice(strip_byte_order_mark(body)).map_err(|error| {
        let kind = match error.classify() {
            serde_json::error::Category::Data => "JSON with other fields or types than documented",
            _ => "not JSON",
        };
        let (line, column) = (error.line(), error.column());
        UpstreamError::InvalidResponse(format!(
            "{}: {kind} (line {line}, column {column})",
            limits.name
        ))
    })
}

/// Parses JSON like [`json`], and repairs invalid characters first if necessary.
pub(super) fn json_lenient<T: serde::de::DeserializeOwned>(
    limits: RequestLimits,
    body: &[u8],
) -> Result<T, UpstreamError> {
    read_repaired(body, |body| json(limits, body))
}
