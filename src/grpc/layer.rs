//! The tower layer around every call: request id, deadline, authentication, panic handling, a log line, a metric.

use std::{
    collections::HashMap,
    convert::Infallible,
    future::{pending, ready},
    net::{IpAddr, Ipv4Addr},
    panic::AssertUnwindSafe,
    sync::Arc,
    task::{self, Poll},
    time::{Duration, Instant},
};

use futures_util::{FutureExt as _, future::BoxFuture};
use http::{
    HeaderValue, Request, Response,
    header::{AUTHORIZATION, Entry},
    request::Parts,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{Code, body::Body};
use tower::{Layer, Service};

use super::{
    audit_recorder::AuditRecorder,
    call_record::{CallRecord, ServedMethod},
    context::CallContext,
    deadline,
    failure::Failure,
    intake::{ReceiveError, receive},
    limits::{MAX_CALL_BYTES, MAX_PUBLIC_MESSAGE_BYTES, STREAM_WINDOW},
    normalize::normalize,
    peer::Peer,
    public_stream::PublicStream,
};
use crate::{
    access::{Access, AdmissionError, Bearer, Caller, PresentedCredentials},
    domain::TrustedProxies,
    listen::{IntakeExhausted, RequestCharge, RequestIdGenerator, client_address, panic_message},
    ports::Meter,
};

/// The time by which a wait for SuperOffice may exceed the call's time limit, so that this layer ends the call and
/// reports the reason.
const UPSTREAM_GRACE: Duration = Duration::from_millis(50);

/// The path prefix of health and reflection, which need no credential: cluster probes have none, the API definition is
/// public, and neither contains tenant data.
const PUBLIC_PREFIX: &str = "/grpc.";

/// The path prefix of reflection, whose calls have more than one request message.
const REFLECTION_PREFIX: &str = "/grpc.reflection.";

/// The path of Web API calls, which have a longer default deadline and are ended at shutdown.
const WEB_API_CALL_PATH: &str = "/tenantgateway.v1.WebApiService/Call";

/// The dependencies of the layer.
pub(super) struct LayerDependencies {
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
    /// Cancelled during shutdown, when connections get a GOAWAY, and watches and incomplete requests end.
    pub(super) stopping: CancellationToken,
    /// The maximum age of connections, and of streams of public services.
    pub(super) max_connection_age: Duration,
    /// `service/method` of all served RPCs. Other calls are counted as `unknown`.
    pub(super) methods: Vec<String>,
}

/// The tower layer.
#[derive(Clone)]
pub(super) struct CallLayer {
    dependencies: Arc<LayerDependencies>,
    /// `service/method` of all served RPCs.
    methods: Arc<[&'static str]>,
}

/// The state of the layer on one thread. Each thread has its own, because a counter of references that several threads
/// change at every call costs more time than the rest of this state.
struct LayerState {
    dependencies: Arc<LayerDependencies>,
    methods: HashMap<&'static str, Arc<ServedMethod>>,
    unknown: Arc<ServedMethod>,
}

/// The reason why the handler of a call did not run.
enum NotHandled {
    NotAdmitted(AdmissionError),
    NotReceived(ReceiveError),
}

impl CallLayer {
    pub(super) fn new(dependencies: LayerDependencies) -> Self {
        // Metric labels must be `'static`; these few names are leaked once.
        let leak = |method: &String| -> &'static str { method.clone().leak() };
        let methods = dependencies.methods.iter().map(leak).collect();
        Self { dependencies: Arc::new(dependencies), methods }
    }
}

impl<S> Layer<S> for CallLayer {
    type Service = CallService<S>;

    /// Called once by each thread that serves connections.
    fn layer(&self, inner: S) -> CallService<S> {
        let LayerDependencies { meter, audit, .. } = &*self.dependencies;
        let served = |name: &'static str| {
            Arc::new(ServedMethod {
                name,
                meter: meter.request_meter(name),
                audit: Arc::clone(audit),
            })
        };
        let state = LayerState {
            dependencies: Arc::clone(&self.dependencies),
            methods: self.methods.iter().map(|&name| (name, served(name))).collect(),
            unknown: served("unknown"),
        };
        CallService { state: Arc::new(state), inner }
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
        let calls_web_api = request.uri().path() == WEB_API_CALL_PATH;
        let requested = deadline::requested(request.headers());
        let timeout = state.call_timeout(requested, calls_web_api);
        let mut record = state.start_record(&request, begin.into_std(), timeout);
        if let Some(failure) = record.refused.take() {
            // A flood of rejected calls must not allocate the large future of an accepted call for each.
            let response = fail(&record.context, &failure);
            let (response, code) = normalize(response, &record.context);
            return ready(Ok(record.finish(response, code))).boxed();
        }
        async move {
            let work =
                AssertUnwindSafe(state.handle(inner, request, &record.context)).catch_unwind();
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
                requested.map(|limit| begin + limit.saturating_sub(deadline::margin(limit) / 2));
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
        context: &Arc<CallContext>,
    ) -> Response<Body>
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    {
        let (mut parts, body) = request.into_parts();
        let public = parts.uri.path().starts_with(PUBLIC_PREFIX);
        let limit = max_request_bytes(parts.uri.path());
        let many_messages = parts.uri.path().starts_with(REFLECTION_PREFIX);
        // Concurrently, so that bytes that arrive while the issuer's keys are fetched are charged too.
        let receiving = async {
            if many_messages {
                return Ok(body);
            }
            let charge = &context.charge;
            receive(body, limit, charge, &self.dependencies.stopping)
                .await
                .map_err(NotHandled::NotReceived)
        };
        let admitting = async {
            if public {
                return Ok(None);
            }
            let admitted = self.admit(&mut parts, context.client).await;
            admitted.map(Some).map_err(NotHandled::NotAdmitted)
        };
        let (caller, body) = match futures_util::future::try_join(admitting, receiving).await {
            Ok(arrived) => arrived,
            Err(NotHandled::NotAdmitted(not_admitted)) => {
                return self.reject(context, not_admitted);
            }
            Err(NotHandled::NotReceived(ReceiveError::Failed(failure))) => {
                return fail(context, &failure);
            }
            Err(NotHandled::NotReceived(ReceiveError::Broken(status))) => {
                return status.into_http();
            }
        };
        if let Some(caller) = caller {
            context.set_caller(caller);
        }
        let mut request = Request::from_parts(parts, body);
        request.extensions_mut().insert(Arc::clone(context));
        let Ok(response) = inner.call(request).await;
        if !context.charge.is_charged() {
            return response;
        }
        // No policy has permitted the call. If its service is public, the answer may be an endless stream.
        let age = self.dependencies.max_connection_age;
        response.map(|body| Body::new(PublicStream::new(body, Arc::clone(context), age)))
    }

    /// Writes the audit events before the answer is sent. If that fails, the call fails.
    async fn write_audit(
        &self,
        context: &CallContext,
        response: Response<Body>,
        code: Code,
    ) -> (Response<Body>, Code) {
        let reason = context.failure.get().map(|(reason, _)| *reason);
        match self.dependencies.audit.write(context, code, reason).await {
            Ok(()) => (response, code),
            Err(failure) => {
                let status = context.fail(&failure);
                let code = status.code();
                (status.into_http(), code)
            }
        }
    }

    /// Authenticates the caller and removes the credential from the request.
    async fn admit(&self, request: &mut Parts, from: IpAddr) -> Result<Caller, AdmissionError> {
        // Two values are enough to see that there is more than one.
        let authorization = match request.headers.entry(AUTHORIZATION) {
            Entry::Occupied(entry) => {
                let (_, mut values) = entry.remove_entry_mult();
                [values.next(), values.next()]
            }
            Entry::Vacant(_) => [None, None],
        };
        let authorization = authorization.iter().flatten();
        let peer = request.extensions.get::<Peer>();
        let certificate = peer.and_then(|peer| peer.certificate.clone());
        let presented = PresentedCredentials {
            bearer: Bearer::from_values(authorization.map(HeaderValue::as_bytes)),
            certificate: certificate.as_deref(),
        };
        self.dependencies.access.admit(&presented, from).await
    }

    fn reject(&self, context: &CallContext, not_admitted: AdmissionError) -> Response<Body> {
        if let Some(caller) = not_admitted.caller() {
            context.set_caller(caller.clone());
        }
        if not_admitted.is_failed_attempt() {
            self.dependencies.audit.attempts.count_address(context.client);
        }
        fail(context, &not_admitted.into())
    }

    /// Completes when a call that has no answer yet must end.
    async fn cut_off(&self, calls_web_api: bool) {
        if calls_web_api {
            self.dependencies.cut_off.cancelled().await;
        } else {
            pending::<()>().await;
        }
    }

    fn call_timeout(&self, requested: Option<Duration>, calls_web_api: bool) -> Duration {
        match requested {
            Some(limit) => limit.saturating_sub(deadline::margin(limit)),
            None if calls_web_api => self.dependencies.web_api_timeout,
            None => self.dependencies.default_deadline,
        }
    }

    fn start_record(
        &self,
        request: &Request<Body>,
        begin: Instant,
        timeout: Duration,
    ) -> CallRecord {
        let path = request.uri().path().trim_start_matches('/');
        let method = self.methods.get(path).unwrap_or(&self.unknown);
        let peer = request.extensions().get::<Peer>();
        let address = peer.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.address.ip());
        let client = client_address(&self.dependencies.trusted, address, request.headers());
        let (client, forwarded_twice) = client.map_or_else(
            |duplicate| (address, Some(Failure::invalid("x-forwarded-for", duplicate.to_string()))),
            |client| (client, None),
        );
        let (charge, overloaded) = match charge_call(peer, client, request) {
            Ok(charge) => (charge, None),
            Err(IntakeExhausted) => (RequestCharge::default(), Some(Failure::Overloaded)),
        };
        let client_text = match peer {
            Some(peer) if client == address.to_canonical() => Arc::clone(&peer.ip).into(),
            _ => client.to_string().into(),
        };
        let context = CallContext::new(
            self.dependencies.ids.for_request(request.headers()),
            request.headers(),
            client,
            client_text,
            timeout.saturating_add(UPSTREAM_GRACE),
            charge,
        );
        CallRecord {
            context: Arc::new(context),
            method: Arc::clone(method),
            begin,
            code: Code::Cancelled,
            refused: overloaded.or(forwarded_twice),
            _unanswered: self.dependencies.calls.token(),
        }
    }
}

/// Charges a call to the memory budget of unauthorized calls.
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
    if path.starts_with(PUBLIC_PREFIX) { MAX_PUBLIC_MESSAGE_BYTES } else { MAX_CALL_BYTES }
}

fn fail(context: &CallContext, failure: &Failure) -> Response<Body> {
    context.fail(failure).into_http()
}
