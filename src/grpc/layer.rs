//! Around every call: a request id, a deadline, the caller, a net under panics, one line in the log, one count.

use std::{
    any::Any,
    collections::HashMap,
    convert::Infallible,
    net::{IpAddr, Ipv4Addr},
    panic::AssertUnwindSafe,
    sync::{Arc, OnceLock},
    task::{self, Poll},
    time::{Duration, Instant},
};

use futures_util::{FutureExt as _, future::BoxFuture};
use http::{
    HeaderMap, HeaderValue, Request, Response,
    header::{AUTHORIZATION, Entry},
};
use tokio_util::task::{TaskTracker, task_tracker::TaskTrackerToken};
use tonic::{Code, body::Body};
use tower::{Layer, Service};

use super::{
    failure::{Failure, code_name},
    normalize::normalize,
    request_ids::RequestIds,
    server::Peer,
    trail::{Audit, Notes},
};
use crate::{
    access::{Access, Bearer, Caller, NotAdmitted, Presented},
    domain::{AuditText, Reason, TenantName},
    ports::{Clock, Meter, Random},
};

/// Taken from the caller where it is well formed, and sent back.
const REQUEST_ID: &str = "x-request-id";

/// A caller's request id is longer than this only by mistake.
const MAX_REQUEST_ID_BYTES: usize = 64;

/// Our answer to a passed deadline must leave before the framework's own, which has no details.
const DEADLINE_MARGIN: Duration = Duration::from_millis(2);

/// Services that every gRPC server has and that tell nothing of tenants: probes of a cluster bring no credential,
/// and the contract is public.
const OPEN_TO_ALL: &str = "/grpc.";

/// What is known of a call while it runs.
pub(super) struct Context {
    /// Names the call in the log, in the audit trail and in the answer.
    pub(super) request_id: Arc<str>,
    /// The trace that the call belongs to; empty if it says none.
    pub(super) trace_id: AuditText,
    /// Who calls. Nobody in particular where no credential is looked at.
    pub(super) caller: Caller,
    /// Where the connection comes from.
    client: IpAddr,
    pub(super) client_text: AuditText,
    /// For the audit trail.
    pub(super) notes: Notes,
    tenant: OnceLock<TenantName>,
    failure: OnceLock<(Reason, Option<String>)>,
}

impl Context {
    /// Notes which tenant the call is about. Whether that is new.
    pub(super) fn concerns(&self, tenant: &TenantName) -> bool {
        self.tenant.get().is_none() && self.tenant.set(tenant.clone()).is_ok()
    }

    /// A stream ended after its call was answered: it has a line of its own in the log.
    pub(super) fn stream_ended(&self, failure: &Failure) {
        let Self { request_id, caller, tenant, .. } = self;
        let request_id = &**request_id;
        tracing::info!(
            reason = failure.reason().as_str(),
            cause = failure.cause(),
            caller = caller.id(),
            tenant = tenant.get().map(tracing::field::display),
            request_id,
            "stream ended"
        );
    }

    /// Notes why the call fails, for the log.
    pub(super) fn failed(&self, failure: &Failure) {
        let _ = self.failure.set((failure.reason(), failure.cause().map(str::to_owned)));
    }
}

/// What the layer needs.
pub(super) struct Surroundings {
    pub(super) access: Arc<Access>,
    pub(super) audit: Arc<Audit>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) random: Arc<dyn Random>,
    pub(super) meter: Arc<dyn Meter>,
    pub(super) default_deadline: Duration,
    /// The calls that are not answered yet.
    pub(super) calls: TaskTracker,
    /// `service/method` of everything that is served; a call to anything else is counted as `unknown`.
    pub(super) methods: Vec<String>,
}

/// Wraps services.
#[derive(Clone)]
pub(super) struct Around(Arc<Leaked>);

struct Leaked {
    surroundings: Surroundings,
    methods: HashMap<&'static str, &'static str>,
    ids: RequestIds,
}

impl Around {
    pub(super) fn new(surroundings: Surroundings) -> Self {
        // Labels of metrics live as long as the process, and so do these few names.
        let leak = |method: &String| -> (&'static str, &'static str) {
            let method: &'static str = method.clone().leak();
            (method, method)
        };
        let methods = surroundings.methods.iter().map(leak).collect();
        let ids = RequestIds::new(&*surroundings.random);
        Self(Arc::new(Leaked { surroundings, methods, ids }))
    }
}

impl<S> Layer<S> for Around {
    type Service = Wrapped<S>;

    fn layer(&self, inner: S) -> Wrapped<S> {
        Wrapped { around: Arc::clone(&self.0), inner }
    }
}

/// A wrapped service.
#[derive(Clone)]
pub(super) struct Wrapped<S> {
    around: Arc<Leaked>,
    inner: S,
}

impl<S> Service<Request<Body>> for Wrapped<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, cx: &mut task::Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let around = Arc::clone(&self.around);
        let inner = self.inner.clone();
        async move {
            let mut record = around.record(&request);
            let limit = around.limit(request.headers());
            let work = AssertUnwindSafe(around.handle(inner, request, &mut record)).catch_unwind();
            let response = match tokio::time::timeout(limit, work).await {
                Ok(Ok(response)) => response,
                Ok(Err(panic)) => {
                    tracing::error!(
                        request_id = &*record.context.request_id,
                        panic = text_of(&*panic),
                        "a handler panicked"
                    );
                    fail(&record.context, &Failure::Panicked)
                }
                Err(_) => fail(&record.context, &Failure::DeadlineExceeded),
            };
            let (response, code) = normalize(response, &record.context);
            let (mut response, code) = around.keep(&record.context, response, code).await;
            if let Ok(mut id) = HeaderValue::from_str(&record.context.request_id) {
                // Never twice the same, so not worth a place in the header table of the connection (RFC 7541
                // section 7.1.3): putting it there cost more than the rest of this layer.
                id.set_sensitive(true);
                response.headers_mut().insert(REQUEST_ID, id);
            }
            record.end(code);
            Ok(response)
        }
        .boxed()
    }
}

impl Leaked {
    /// Lets the caller in and hands the call on.
    async fn handle<S>(
        &self,
        mut inner: S,
        mut request: Request<Body>,
        record: &mut Record,
    ) -> Response<Body>
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    {
        if !request.uri().path().starts_with(OPEN_TO_ALL) {
            match self.admit(&mut request, record.context.client).await {
                Ok(caller) => record.is_called_by(caller),
                Err(not_admitted) => return self.turn_away(record, not_admitted),
            }
        }
        request.extensions_mut().insert(Arc::clone(&record.context));
        let Ok(response) = inner.call(request).await;
        response
    }

    /// Writes down what was decided, before the answer leaves: an answer that cannot be written down is none.
    async fn keep(
        &self,
        context: &Context,
        response: Response<Body>,
        code: Code,
    ) -> (Response<Body>, Code) {
        let reason = context.failure.get().map(|(reason, _)| *reason);
        match self.surroundings.audit.keep(context, code, reason).await {
            Ok(()) => (response, code),
            Err(failure) => {
                let status = failure.status(&context.request_id);
                context.failed(&failure);
                let code = status.code();
                (status.into_http(), code)
            }
        }
    }

    /// Who calls. The credential goes no further than this.
    async fn admit(
        &self,
        request: &mut Request<Body>,
        from: IpAddr,
    ) -> Result<Caller, NotAdmitted> {
        let headers = request.headers_mut();
        let authorization = match headers.entry(AUTHORIZATION) {
            Entry::Occupied(entry) => entry.remove_entry_mult().1.collect(),
            Entry::Vacant(_) => Vec::new(),
        };
        let peer = request.extensions().get::<Peer>();
        let certificate = peer.and_then(|peer| peer.certificate.clone());
        let presented = Presented {
            bearer: Bearer::from_values(authorization.iter().map(HeaderValue::as_bytes)),
            certificate: certificate.as_deref(),
        };
        self.surroundings.access.admit(&presented, from).await
    }

    fn turn_away(&self, record: &mut Record, not_admitted: NotAdmitted) -> Response<Body> {
        match &not_admitted {
            NotAdmitted::OverQuota { caller, .. } => record.is_called_by(caller.clone()),
            NotAdmitted::Unauthenticated(_) | NotAdmitted::Slowed(_) => {
                self.surroundings.audit.unauthenticated(record.context.client);
            }
            // It may well be somebody: who, cannot be told now.
            NotAdmitted::KeysUnavailable { .. } => {}
        }
        fail(&record.context, &not_admitted.into())
    }

    fn request_id(&self, headers: &HeaderMap) -> Arc<str> {
        let given = headers.get(REQUEST_ID).and_then(|id| id.to_str().ok()).filter(|id| fine(id));
        given.map_or_else(|| self.ids.next(self.surroundings.clock.now()), Into::into)
    }

    fn limit(&self, headers: &HeaderMap) -> Duration {
        let asked = headers.get("grpc-timeout").and_then(|value| value.to_str().ok());
        match asked.and_then(read_timeout) {
            Some(asked) => asked.saturating_sub(DEADLINE_MARGIN.min(asked / 10)),
            None => self.surroundings.default_deadline,
        }
    }

    fn record(&self, request: &Request<Body>) -> Record {
        let path = request.uri().path().trim_start_matches('/');
        let method = self.methods.get(path).copied().unwrap_or("unknown");
        let peer = request.extensions().get::<Peer>();
        let context = Context {
            request_id: self.request_id(request.headers()),
            trace_id: trace_id(request.headers()).map(AuditText::from).unwrap_or_default(),
            caller: Caller::nobody(),
            client: peer.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.address.ip()),
            client_text: peer.map(|peer| Arc::clone(&peer.ip).into()).unwrap_or_default(),
            notes: Notes::default(),
            tenant: OnceLock::new(),
            failure: OnceLock::new(),
        };
        Record {
            context: Arc::new(context),
            meter: Arc::clone(&self.surroundings.meter),
            audit: Arc::clone(&self.surroundings.audit),
            method,
            begin: Instant::now(),
            code: Code::Cancelled,
            _unanswered: self.surroundings.calls.token(),
        }
    }
}

/// Counts and logs a call when it ends, also when its caller gives up.
struct Record {
    context: Arc<Context>,
    meter: Arc<dyn Meter>,
    audit: Arc<Audit>,
    method: &'static str,
    begin: Instant,
    code: Code,
    _unanswered: TaskTrackerToken,
}

impl Record {
    /// Before anybody else holds the context.
    fn is_called_by(&mut self, caller: Caller) {
        if let Some(context) = Arc::get_mut(&mut self.context) {
            context.caller = caller;
        }
    }

    fn end(mut self, code: Code) {
        self.code = code;
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        self.audit.keep_unanswered(&self.context);
        let Context { request_id, caller, client, tenant, failure, .. } = &*self.context;
        let duration = self.begin.elapsed();
        let code = code_name(self.code);
        self.meter.request(self.method, code, duration);
        let failure = failure.get();
        let nobody = caller.is_nobody();
        // Probes come every few seconds and tell nothing.
        if self.method.starts_with("grpc.") && self.code == Code::Ok {
            return;
        }
        tracing::info!(
            rpc.method = self.method,
            rpc.code = code,
            reason = failure.map(|(reason, _)| reason.as_str()),
            cause = failure.and_then(|(_, cause)| cause.as_deref()),
            caller = (!nobody).then(|| caller.id()),
            caller_certificate = caller.certificate(),
            client_address = nobody.then(|| tracing::field::display(client)),
            tenant = tenant.get().map(tracing::field::display),
            request_id = &**request_id,
            duration_us = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX),
            "call ended"
        );
    }
}

fn fail(context: &Context, failure: &Failure) -> Response<Body> {
    context.failed(failure);
    failure.status(&context.request_id).into_http()
}

/// What a panic said, if it said it in text. Panics are our own words, never a caller's or SuperOffice's.
fn text_of(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("without text")
}

fn fine(id: &str) -> bool {
    (1..=MAX_REQUEST_ID_BYTES).contains(&id.len())
        && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
}

/// The trace of `traceparent` (W3C Trace Context, 3.2.2.3), if it is one.
fn trace_id(headers: &HeaderMap) -> Option<Arc<str>> {
    let parent = headers.get("traceparent")?.to_str().ok()?;
    let id = parent.split('-').nth(1)?;
    let hex = id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    (id.len() == 32 && hex && id.bytes().any(|b| b != b'0')).then(|| id.into())
}

/// `grpc-timeout`: at most eight digits and a unit (gRPC over HTTP/2).
fn read_timeout(value: &str) -> Option<Duration> {
    let (digits, unit) = value.split_at_checked(value.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(number * 3600)),
        "M" => Some(Duration::from_secs(number * 60)),
        "S" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_millis(number)),
        "u" => Some(Duration::from_micros(number)),
        "n" => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_deadline_is_read_in_each_unit_and_nothing_else() {
        assert_eq!(read_timeout("1H"), Some(Duration::from_hours(1)));
        assert_eq!(read_timeout("2M"), Some(Duration::from_mins(2)));
        assert_eq!(read_timeout("3S"), Some(Duration::from_secs(3)));
        assert_eq!(read_timeout("4m"), Some(Duration::from_millis(4)));
        assert_eq!(read_timeout("5u"), Some(Duration::from_micros(5)));
        assert_eq!(read_timeout("6n"), Some(Duration::from_nanos(6)));
        for value in ["", "S", "1", "1s", "-1S", "+1S", "123456789S", "1.5S", "å", "1å"] {
            assert_eq!(read_timeout(value), None, "{value}");
        }
    }

    proptest! {
        #[test]
        fn every_deadline_of_the_protocol_is_read_and_nothing_else(
            text in "[0-9]{1,9}[HMSmunsh]|[+-]?[0-9.]{0,4}\\PC{0,2}|\\PC{0,12}",
        ) {
            let digits = text.trim_end_matches(['H', 'M', 'S', 'm', 'u', 'n']);
            let legal = digits.len() + 1 == text.len()
                && (1..=8).contains(&digits.len())
                && digits.bytes().all(|b| b.is_ascii_digit());
            prop_assert_eq!(read_timeout(&text).is_some(), legal);
        }
    }

    #[test]
    fn a_request_id_is_taken_only_if_it_cannot_disturb_a_log() {
        assert!(fine("0196f1d2-5c7a-7000-8000-000000000000"));
        for id in ["", "a b", "a\n", "å", &"a".repeat(65)] {
            assert!(!fine(id), "{id}");
        }
    }
}
