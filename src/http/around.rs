//! Around every request of the public listener: a request id, a time limit, a net under panics, headers that are
//! always there, one line in the log, one count.

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

use super::{problem::Problem, state_change::STATE_CHANGE, webhooks::ASSOCIATES};
use crate::{
    domain::Reason,
    listen::{ForwardedTwice, REQUEST_ID, RequestIds, Undecided, text_of_panic},
    ports::Meter,
};

/// From the head of a request to its answer, with the body in between: nothing here waits for others.
const REQUEST_TIME: Duration = Duration::from_secs(10);

/// The status in log and metrics of a request whose client went away before the answer; none is sent then.
const CLIENT_GONE: u16 = 499;

/// On every answer that says nothing else: it is kept nowhere, is what it says it is, and loads nothing.
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

/// Where a request comes from: the address of its connection or, behind a trusted proxy, the one that the proxy tells.
#[derive(Debug, Clone, Copy)]
pub(super) struct Client(pub(super) IpAddr);

/// What a request is called in log and audit trail.
#[derive(Debug, Clone)]
pub(super) struct RequestId(pub(super) Arc<str>);

/// What is needed around requests.
pub(super) struct Around {
    pub(super) ids: RequestIds,
    pub(super) meter: Arc<dyn Meter>,
    /// The requests that are not answered yet.
    pub(super) requests: TaskTracker,
}

/// A route as it is written down, which is what log and metrics say of a path.
#[derive(Clone)]
pub(super) struct Route {
    pub(super) around: Arc<Around>,
    pub(super) pattern: &'static str,
}

/// The layer.
pub(super) async fn around(
    State(route): State<Route>,
    mut request: Request,
    next: Next,
) -> Response {
    let mut record = Record::new(&route, &request);
    request.extensions_mut().insert(RequestId(Arc::clone(&record.request_id)));
    let undecided = request.extensions().get::<Arc<Undecided>>().cloned();
    let twice = request.extensions().get::<ForwardedTwice>().copied();
    let answered = async {
        match twice {
            Some(twice) => Problem::new(Reason::InvalidArgument, twice.to_string()).into_response(),
            None => next.run(request).await,
        }
    };
    let work = AssertUnwindSafe(answered).catch_unwind();
    let mut response = match tokio::time::timeout(REQUEST_TIME, work).await {
        Ok(Ok(response)) => response,
        Ok(Err(panic)) => {
            tracing::error!(
                request_id = &*record.request_id,
                panic = text_of_panic(&*panic),
                "a handler panicked"
            );
            Problem::new(Reason::Internal, "internal error").into_response()
        }
        Err(_) => {
            let detail = "the request was not over in time; send it again, and faster";
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
    // Who has signed a delivery keeps the connection. A page is shown to whoever has its link.
    let is_delivery = matches!(route.pattern, ASSOCIATES | STATE_CHANGE);
    if let Some(undecided) = undecided.filter(|_| is_delivery && response.status().is_success()) {
        undecided.permit();
    }
    record.end(response.status());
    response
}

/// Counts and logs a request when it ends, also when its client goes away.
struct Record {
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

impl Record {
    fn new(route: &Route, request: &Request) -> Self {
        let Route { around, pattern } = route;
        Self {
            meter: Arc::clone(&around.meter),
            method: known_name(request.method()),
            route: pattern,
            client: request.extensions().get::<Client>().map(|client| client.0),
            request_id: around.ids.of(request.headers()),
            begin: Instant::now(),
            status: CLIENT_GONE,
            reason: None,
            _unanswered: around.requests.token(),
        }
    }

    fn end(mut self, status: StatusCode) {
        self.status = status.as_u16();
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let duration = self.begin.elapsed();
        self.meter.http_request(self.route, self.status, duration);
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

/// Anybody can make up methods.
pub(super) fn known_name(method: &Method) -> &'static str {
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
