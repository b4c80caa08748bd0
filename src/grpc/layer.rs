//! The tower layer around every call: request id, deadline, authentication, panic handling, a log line, a metric.

use std::{
    collections::HashMap,
    convert::Infallible,
    future::{pending, ready},
    net::{IpAddr, Ipv4Addr},
    panic::AssertUnwindSafe,
    sync::{Arc, OnceLock, atomic::AtomicBool},
    task::{self, Poll},
    time::{Duration, Instant},
};

use futures_util::{FutureExt as _, future::BoxFuture};
use http::{
    HeaderMap, HeaderValue, Request, Response,
    header::{AUTHORIZATION, Entry},
    request::Parts,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{Code, body::Body};
use tower::{Layer, Service};

use super::{
    deadline,
    failure::Failure,
    intake::{ReceiveError, receive},
    normalize::normalize,
    public_stream::PublicStream,
    record::CallRecord,
    server::{MAX_OPEN_MESSAGE_BYTES, Peer, STREAM_WINDOW},
    trail::{AuditRecorder, Notes},
    web_api::{self, MAX_CALL_BYTES},
};
use crate::{
    access::{Access, AdmissionError, Bearer, Caller, PresentedCredentials},
    domain::{AuditText, Reason, TenantName, TrustedProxies},
    listen::{
        IntakeExhausted, RequestCharge, RequestIdGenerator, client_address, panic_message, trace_id,
    },
    ports::Meter,
};

/// Waits for SuperOffice may last this much longer than the call, so that it is always this layer that ends the call
/// and reports the reason.
const UPSTREAM_GRACE: Duration = Duration::from_millis(50);

/// The path prefix of health and reflection, which need no credential: cluster probes have none, the API definition is
/// public, and neither contains tenant data.
const PUBLIC_PREFIX: &str = "/grpc.";

/// The path prefix of reflection, whose calls have more than one request message.
const REFLECTION_PREFIX: &str = "/grpc.reflection.";

/// The state of a running call.
pub(super) struct Context {
    /// The id of the call in the log, in the audit trail and in the answer.
    pub(super) request_id: Arc<str>,
    /// The trace id of the call, if it has one.
    pub(super) trace_id: AuditText,
    /// The caller. [`Caller::unauthenticated`] until it is admitted, and always for public services.
    pub(super) caller: Caller,
    /// The address of the client.
    pub(super) client: IpAddr,
    pub(super) client_text: AuditText,
    /// The time limit of the call from its start, plus [`UPSTREAM_GRACE`].
    pub(super) max_wait: Duration,
    /// The notes for the audit trail.
    pub(super) notes: Notes,
    pub(super) tenant: OnceLock<TenantName>,
    pub(super) failure: OnceLock<(Reason, Option<String>)>,
    /// Whether an unsafe request was sent to SuperOffice and its outcome is unknown.
    pub(super) outcome_unknown: AtomicBool,
    /// Whether a change of our own store was begun and may have been committed.
    pub(super) change_begun: AtomicBool,
}

impl Context {
    /// Returns the context of a request about which Envoy asks (`ext_authz`). This call is Envoy's; the returned
    /// context has the caller and the notes of the held request.
    pub(super) fn on_behalf_of(&self, caller: Caller, client: IpAddr, headers: &HeaderMap) -> Self {
        Self {
            request_id: Arc::clone(&self.request_id),
            trace_id: trace_id(headers).map(AuditText::from).unwrap_or_default(),
            caller,
            client,
            client_text: client.to_canonical().to_string().into(),
            max_wait: self.max_wait,
            notes: Notes::default(),
            tenant: OnceLock::new(),
            failure: OnceLock::new(),
            outcome_unknown: AtomicBool::new(false),
            change_begun: AtomicBool::new(false),
        }
    }

    /// The tenant of the call, if it is known.
    pub(super) fn tenant(&self) -> Option<&TenantName> {
        self.tenant.get()
    }

    /// The address of the client.
    pub(super) fn client(&self) -> IpAddr {
        self.client
    }

    /// Sets the tenant of the call. Returns whether it was not set before.
    pub(super) fn set_tenant(&self, tenant: &TenantName) -> bool {
        self.tenant.get().is_none() && self.tenant.set(tenant.clone()).is_ok()
    }

    /// Logs the end of a stream, which comes after the log line of its call.
    pub(super) fn log_stream_end(&self, failure: &Failure) {
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

    /// Notes the reason why the call fails, for the log.
    pub(super) fn note_failure(&self, failure: &Failure) {
        let _ = self.failure.set((failure.reason(), failure.cause().map(str::to_owned)));
    }
}

/// The dependencies of the layer.
pub(super) struct LayerContext {
    pub(super) access: Arc<Access>,
    pub(super) audit: Arc<AuditRecorder>,
    pub(super) ids: RequestIdGenerator,
    pub(super) meter: Arc<dyn Meter>,
    pub(super) default_deadline: Duration,
    /// The default deadline of Web API calls, which may take minutes.
    pub(super) web_api_timeout: Duration,
    /// Cancelled to end Web API calls that have no answer yet, before their connections are closed.
    pub(super) cut_off: CancellationToken,
    /// Tracks the calls that are not answered yet.
    pub(super) calls: TaskTracker,
    /// The trusted proxies in front of the gateway.
    pub(super) trusted: TrustedProxies,
    /// Cancelled at shutdown, when calls whose message has not arrived must end.
    pub(super) stopping: CancellationToken,
    /// The maximum age of connections, and of streams of public services.
    pub(super) max_connection_age: Duration,
    /// `service/method` of all served RPCs. Other calls are counted as `unknown`.
    pub(super) methods: Vec<String>,
}

/// The tower layer.
#[derive(Clone)]
pub(super) struct CallLayer(Arc<LayerState>);

struct LayerState {
    context: LayerContext,
    methods: HashMap<&'static str, &'static str>,
}

impl CallLayer {
    pub(super) fn new(context: LayerContext) -> Self {
        // Metric labels must be `'static`; these few names are leaked once.
        let leak = |method: &String| -> (&'static str, &'static str) {
            let method: &'static str = method.clone().leak();
            (method, method)
        };
        let methods = context.methods.iter().map(leak).collect();
        Self(Arc::new(LayerState { context, methods }))
    }
}

impl<S> Layer<S> for CallLayer {
    type Service = CallService<S>;

    fn layer(&self, inner: S) -> CallService<S> {
        CallService { state: Arc::clone(&self.0), inner }
    }
}

/// The service that the layer wraps around another one.
#[derive(Clone)]
pub(super) struct CallService<S> {
    state: Arc<LayerState>,
    inner: S,
}

impl<S> Service<Request<Body>> for CallService<S>
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
        let state = Arc::clone(&self.state);
        let inner = self.inner.clone();
        // Taken before tonic starts its own timer.
        let begin = tokio::time::Instant::now();
        let calls_web_api = request.uri().path() == web_api::CALL;
        let requested = deadline::requested(request.headers());
        let timeout = state.call_timeout(requested, calls_web_api);
        let mut record = state.start_record(&request, timeout);
        if let Some(failure) = record.refused.take() {
            // A flood of rejected calls must not allocate the large future of an accepted call for each.
            let response = fail(&record.context, &failure);
            let (response, code) = normalize(response, &record.context);
            return ready(Ok(record.finish(response, code))).boxed();
        }
        async move {
            let work = AssertUnwindSafe(state.handle(inner, request, &mut record)).catch_unwind();
            let answered = tokio::select! {
                biased;
                answered = tokio::time::timeout_at(begin + timeout, work) => Some(answered),
                () = state.cut_off(calls_web_api) => None,
            };
            let response = match answered {
                Some(Ok(Ok(response))) => response,
                Some(Ok(Err(panic))) => {
                    tracing::error!(
                        request_id = &*record.context.request_id,
                        panic = panic_message(&*panic),
                        "a handler panicked"
                    );
                    fail(&record.context, &Failure::Panicked)
                }
                Some(Err(_)) => fail(&record.context, &Failure::DeadlineExceeded),
                None => fail(&record.context, &Failure::ShuttingDown),
            };
            let (response, code) = normalize(response, &record.context);
            // Writing the audit events must also end before the deadline.
            let audit_deadline =
                requested.map(|asked| begin + asked.saturating_sub(deadline::margin(asked) / 2));
            let writing = state.write_audit(&record.context, response, code);
            let (response, code) = match audit_deadline {
                Some(by) => tokio::time::timeout_at(by, writing).await.unwrap_or_else(|_| {
                    let failure = Failure::DeadlineExceeded;
                    (fail(&record.context, &failure), failure.code())
                }),
                None => writing.await,
            };
            Ok(record.finish(response, code))
        }
        .boxed()
    }
}

impl LayerState {
    /// Authenticates the caller, receives the message and runs the handler.
    async fn handle<S>(
        &self,
        mut inner: S,
        request: Request<Body>,
        record: &mut CallRecord,
    ) -> Response<Body>
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    {
        let (mut parts, body) = request.into_parts();
        let public = parts.uri.path().starts_with(PUBLIC_PREFIX);
        let limit = max_request_bytes(parts.uri.path());
        let many_messages = parts.uri.path().starts_with(REFLECTION_PREFIX);
        let context = Arc::clone(&record.context);
        // Concurrently, so that bytes that arrive while the issuer's keys are fetched are charged too.
        let receiving = async {
            if many_messages {
                return Ok(body);
            }
            let undecided = context.notes.undecided();
            receive(body, limit, undecided, &self.context.stopping).await.map_err(Ok)
        };
        let admitting = async {
            if public {
                return Ok(None);
            }
            self.admit(&mut parts, context.client).await.map(Some).map_err(Err)
        };
        let (caller, body) = match futures_util::future::try_join(admitting, receiving).await {
            Ok(arrived) => arrived,
            Err(Err(not_admitted)) => {
                drop(context);
                return self.reject(record, not_admitted);
            }
            Err(Ok(ReceiveError::Failed(failure))) => return fail(&context, &failure),
            Err(Ok(ReceiveError::Broken(status))) => return status.into_http(),
        };
        drop(context);
        if let Some(caller) = caller {
            record.set_caller(caller);
        }
        let mut request = Request::from_parts(parts, body);
        request.extensions_mut().insert(Arc::clone(&record.context));
        let Ok(response) = inner.call(request).await;
        if !record.context.notes.undecided().is_charged() {
            return response;
        }
        let age = self.context.max_connection_age;
        response.map(|body| Body::new(PublicStream::new(body, Arc::clone(&record.context), age)))
    }

    /// Writes the audit events before the answer is sent. If that fails, the call fails.
    async fn write_audit(
        &self,
        context: &Context,
        response: Response<Body>,
        code: Code,
    ) -> (Response<Body>, Code) {
        let reason = context.failure.get().map(|(reason, _)| *reason);
        match self.context.audit.write(context, code, reason).await {
            Ok(()) => (response, code),
            Err(failure) => {
                let status = context.status(&failure);
                context.note_failure(&failure);
                let code = status.code();
                (status.into_http(), code)
            }
        }
    }

    /// Authenticates the caller and removes the credential from the request.
    async fn admit(&self, request: &mut Parts, from: IpAddr) -> Result<Caller, AdmissionError> {
        let authorization = match request.headers.entry(AUTHORIZATION) {
            Entry::Occupied(entry) => entry.remove_entry_mult().1.collect(),
            Entry::Vacant(_) => Vec::new(),
        };
        let peer = request.extensions.get::<Peer>();
        let certificate = peer.and_then(|peer| peer.certificate.clone());
        let presented = PresentedCredentials {
            bearer: Bearer::from_values(authorization.iter().map(HeaderValue::as_bytes)),
            certificate: certificate.as_deref(),
        };
        self.context.access.admit(&presented, from).await
    }

    fn reject(&self, record: &mut CallRecord, not_admitted: AdmissionError) -> Response<Body> {
        match &not_admitted {
            AdmissionError::OverQuota { caller, .. } => record.set_caller(caller.clone()),
            AdmissionError::Unauthenticated(_)
            | AdmissionError::CertificateNotTrusted
            | AdmissionError::TooManyRefusals(_) => {
                self.context.audit.attempts.count_address(record.context.client);
            }
            // The caller may be valid, so this does not count as a failed attempt.
            AdmissionError::KeysUnavailable { .. } => {}
        }
        fail(&record.context, &not_admitted.into())
    }

    /// Completes when a call that has no answer yet must end.
    async fn cut_off(&self, calls_web_api: bool) {
        if calls_web_api {
            self.context.cut_off.cancelled().await;
        } else {
            pending::<()>().await;
        }
    }

    fn call_timeout(&self, requested: Option<Duration>, calls_web_api: bool) -> Duration {
        match requested {
            Some(asked) => asked.saturating_sub(deadline::margin(asked)),
            None if calls_web_api => self.context.web_api_timeout,
            None => self.context.default_deadline,
        }
    }

    fn start_record(&self, request: &Request<Body>, limit: Duration) -> CallRecord {
        let path = request.uri().path().trim_start_matches('/');
        let method = self.methods.get(path).copied().unwrap_or("unknown");
        let peer = request.extensions().get::<Peer>();
        let address = peer.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.address.ip());
        let client = client_address(&self.context.trusted, address, request.headers());
        let (client, forwarded_twice) = client.map_or_else(
            |duplicate| (address, Some(Failure::invalid("x-forwarded-for", duplicate.to_string()))),
            |client| (client, None),
        );
        let (undecided, overloaded) = match charge_call(peer, client, request) {
            Ok(undecided) => (undecided, None),
            Err(IntakeExhausted) => (RequestCharge::default(), Some(Failure::Overloaded)),
        };
        let client_text = match peer {
            Some(peer) if client == address.to_canonical() => Arc::clone(&peer.ip).into(),
            _ => client.to_string().into(),
        };
        let context = Context {
            request_id: self.context.ids.for_request(request.headers()),
            trace_id: trace_id(request.headers()).map(AuditText::from).unwrap_or_default(),
            caller: Caller::unauthenticated(),
            client,
            client_text,
            max_wait: limit.saturating_add(UPSTREAM_GRACE),
            notes: Notes::new(undecided),
            tenant: OnceLock::new(),
            failure: OnceLock::new(),
            outcome_unknown: AtomicBool::new(false),
            change_begun: AtomicBool::new(false),
        };
        CallRecord {
            context: Arc::new(context),
            meter: Arc::clone(&self.context.meter),
            audit: Arc::clone(&self.context.audit),
            method,
            begin: Instant::now(),
            code: Code::Cancelled,
            refused: overloaded.or(forwarded_twice),
            _unanswered: self.context.calls.token(),
        }
    }
}

/// Charges a call to the memory budget of calls that no policy has permitted yet.
fn charge_call(
    peer: Option<&Peer>,
    client: IpAddr,
    request: &Request<Body>,
) -> Result<RequestCharge, IntakeExhausted> {
    let Some(peer) = peer else { return Ok(RequestCharge::default()) };
    // A client that reads no answers blocks its reflection stream; its messages then stay in the window.
    let is_reflection = request.uri().path().starts_with(REFLECTION_PREFIX);
    let window = if is_reflection { STREAM_WINDOW as usize } else { 0 };
    RequestCharge::begin(peer.slot.clone(), client, request.headers(), window)
}

/// Returns the maximum request size of a method before decompression. After it, each service has its own limit.
fn max_request_bytes(path: &str) -> usize {
    if path.starts_with(PUBLIC_PREFIX) { MAX_OPEN_MESSAGE_BYTES } else { MAX_CALL_BYTES }
}

fn fail(context: &Context, failure: &Failure) -> Response<Body> {
    context.note_failure(failure);
    context.status(failure).into_http()
}
