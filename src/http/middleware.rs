//! The middleware of the public listener: request id, time limit, panic handling, default response headers, a log line
//! and a metric for each request.

use std::{
    net::IpAddr,
    panic::AssertUnwindSafe,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    extract::{Request, State},
    http::{HeaderName, HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use futures_util::FutureExt as _;
use tokio_util::task::{TaskTracker, task_tracker::TaskTrackerToken};

use super::problem::Problem;
use crate::{
    domain::Reason,
    listen::{
        ConflictingForwardedHeaders, REQUEST_ID, RequestCharge, RequestIdGenerator, panic_message,
    },
    ports::Meter,
};

/// The time limit from the head of a request, including its body, to its answer.
const REQUEST_TIME: Duration = Duration::from_secs(10);

/// The status in log and metrics of a request whose client disconnected before the answer. It is never sent.
const CLIENT_GONE: u16 = 499;

/// The default headers of answers: no caching, no content sniffing, no subresources and no referrer.
const HEADERS: [(HeaderName, HeaderValue); 4] = [
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(
            "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        ),
    ),
    (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
];

/// The client's address: that of the connection or, behind a trusted proxy, the one that the proxy reports.
#[derive(Debug, Clone, Copy)]
pub(super) struct ClientAddress(pub(super) IpAddr);

/// The id of a request in the log and in the audit trail.
#[derive(Debug, Clone)]
pub(super) struct RequestId(pub(super) Arc<str>);

/// The dependencies of the middleware.
pub(super) struct RequestLayer {
    pub(super) ids: RequestIdGenerator,
    pub(super) meter: Arc<dyn Meter>,
    /// Tracks the requests that are not answered yet.
    pub(super) requests: TaskTracker,
}

/// A route and its pattern, which is logged instead of the path.
#[derive(Clone)]
pub(super) struct Route {
    pub(super) layer: Arc<RequestLayer>,
    pub(super) pattern: &'static str,
    /// Whether requests are signed, so that a successful one authenticates its client.
    pub(super) is_signed: bool,
}

/// The middleware function.
pub(super) async fn wrap_request(
    State(route): State<Route>,
    mut request: Request,
    next: Next,
) -> Response {
    let mut record = RequestRecord::new(&route, &request);
    request.extensions_mut().insert(RequestId(Arc::clone(&record.request_id)));
    let charge = request.extensions().get::<Arc<RequestCharge>>().cloned();
    let conflict = request.extensions().get::<ConflictingForwardedHeaders>().copied();
    let answered = async {
        match conflict {
            Some(conflict) => {
                Problem::new(Reason::InvalidArgument, conflict.to_string()).into_response()
            }
            None => next.run(request).await,
        }
    };
    let work = AssertUnwindSafe(answered).catch_unwind();
    let mut response = match tokio::time::timeout(REQUEST_TIME, work).await {
        Ok(Ok(response)) => response,
        Ok(Err(panic)) => {
            tracing::error!(
                request_id = &*record.request_id,
                panic = panic_message(&*panic),
                "a handler panicked"
            );
            Problem::new(Reason::Internal, "internal error").into_response()
        }
        Err(_) => {
            let detail = "the request took too long; send it again, faster";
            Problem::new(Reason::DeadlineExceeded, detail).into_response()
        }
    };
    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        problem.write(&record.request_id, &mut response);
        record.reason = Some(problem.reason());
    }
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers.entry(name).or_insert(value);
    }
    if let Ok(id) = HeaderValue::from_str(&record.request_id) {
        headers.insert(REQUEST_ID, id);
    }
    // A signed request authenticates its client, so its connection may stay. A page view does not.
    let authenticated = route.is_signed && response.status().is_success();
    if let Some(charge) = charge.filter(|_| authenticated) {
        charge.permit();
    }
    record.end(response.status());
    response
}

/// Counts and logs a request when it ends, also if its client disconnects.
struct RequestRecord {
    meter: Arc<dyn Meter>,
    method: &'static str,
    route: &'static str,
    client: Option<IpAddr>,
    request_id: Arc<str>,
    begin: Instant,
    status: u16,
    reason: Option<Reason>,
    _unanswered: TaskTrackerToken,
}

impl RequestRecord {
    fn new(route: &Route, request: &Request) -> Self {
        let Route { layer, pattern, .. } = route;
        Self {
            meter: Arc::clone(&layer.meter),
            method: method_label(request.method()),
            route: pattern,
            client: request.extensions().get::<ClientAddress>().map(|client| client.0),
            request_id: layer.ids.for_request(request.headers()),
            begin: Instant::now(),
            status: CLIENT_GONE,
            reason: None,
            _unanswered: layer.requests.token(),
        }
    }

    fn end(mut self, status: StatusCode) {
        self.status = status.as_u16();
    }
}

impl Drop for RequestRecord {
    fn drop(&mut self) {
        let duration = self.begin.elapsed();
        self.meter.record_http_request(self.route, self.status, duration);
        tracing::info!(
            http.method = self.method,
            http.route = self.route,
            http.status = self.status,
            reason = self.reason.map(Reason::as_str),
            client_address = self.client.map(tracing::field::display),
            request_id = &*self.request_id,
            duration_us = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX),
            "request ended"
        );
    }
}

/// Returns a fixed label for a method, because clients can make up any number of methods.
pub(super) fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}
