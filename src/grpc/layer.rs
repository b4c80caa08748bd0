//! Around every call: a request id, a deadline, the caller, a net under panics, one line in the log, one count.

use std::{
    collections::HashMap,
    convert::Infallible,
    future::pending,
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
    intake::{NotReceived, receive},
    normalize::{ACCEPT_ENCODING, normalize},
    public_stream::PublicStream,
    record::Record,
    server::{ACCEPTED_ENCODINGS, MAX_OPEN_MESSAGE_BYTES, Peer, STREAM_WINDOW},
    trail::{Audit, Notes},
    web_api::{self, MAX_CALL_BYTES},
};
use crate::{
    access::{Access, Bearer, Caller, NotAdmitted, Presented},
    domain::{AuditText, Reason, TenantName, TrustedProxies},
    listen::{
        IntakeExhausted, REQUEST_ID, RequestIds, Undecided, client_address, text_of_panic, trace_id,
    },
    ports::Meter,
};

/// What waits for SuperOffice waits so much longer than the deadline, so that it is always this layer that ends the call
/// and says why.
const BEYOND_THE_DEADLINE: Duration = Duration::from_millis(50);

/// Services that every gRPC server has and that tell nothing of tenants: probes of a cluster bring no credential,
/// and the contract is public.
const OPEN_TO_ALL: &str = "/grpc.";

/// Public services whose calls have more than one request message.
const REFLECTION: &str = "/grpc.reflection.";

/// What is known of a call while it runs.
pub(super) struct Context {
    /// Names the call in the log, in the audit trail and in the answer.
    pub(super) request_id: Arc<str>,
    /// The trace that the call belongs to; empty if it says none.
    pub(super) trace_id: AuditText,
    /// Who calls. Nobody in particular where no credential is looked at.
    pub(super) caller: Caller,
    /// Where the connection comes from.
    pub(super) client: IpAddr,
    pub(super) client_text: AuditText,
    /// How long its caller waits, from the beginning, and a moment more.
    pub(super) patience: Duration,
    /// For the audit trail.
    pub(super) notes: Notes,
    pub(super) tenant: OnceLock<TenantName>,
    pub(super) failure: OnceLock<(Reason, Option<String>)>,
    /// An unsafe request has left for SuperOffice, and nobody knows whether it ran.
    pub(super) outcome_unknown: AtomicBool,
    /// A change of our own store was begun, and may have been kept.
    pub(super) change_begun: AtomicBool,
}

impl Context {
    /// What a proxy asks for somebody else, beside the call of the proxy: with its own caller and its own notes.
    pub(super) fn on_behalf_of(&self, caller: Caller, client: IpAddr, headers: &HeaderMap) -> Self {
        Self {
            request_id: Arc::clone(&self.request_id),
            trace_id: trace_id(headers).map(AuditText::from).unwrap_or_default(),
            caller,
            client,
            client_text: client.to_canonical().to_string().into(),
            patience: self.patience,
            notes: Notes::default(),
            tenant: OnceLock::new(),
            failure: OnceLock::new(),
            outcome_unknown: AtomicBool::new(false),
            change_begun: AtomicBool::new(false),
        }
    }

    /// Which tenant the call is about, if that is known.
    pub(super) fn tenant(&self) -> Option<&TenantName> {
        self.tenant.get()
    }

    /// Where the call comes from.
    pub(super) fn client(&self) -> IpAddr {
        self.client
    }

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
    pub(super) ids: RequestIds,
    pub(super) meter: Arc<dyn Meter>,
    pub(super) default_deadline: Duration,
    /// The same for calls of the Web API, which may take minutes.
    pub(super) web_api_timeout: Duration,
    /// Ends the calls of the Web API that have no answer yet, before their connections are cut.
    pub(super) cut_off: CancellationToken,
    /// The calls that are not answered yet.
    pub(super) calls: TaskTracker,
    /// The proxies in front.
    pub(super) trusted: TrustedProxies,
    /// Cancelled when calls whose message has not arrived are not waited for any more.
    pub(super) stopping: CancellationToken,
    /// Public streams end after this, as connections do.
    pub(super) max_connection_age: Duration,
    /// `service/method` of everything that is served; a call to anything else is counted as `unknown`.
    pub(super) methods: Vec<String>,
}

/// Wraps services.
#[derive(Clone)]
pub(super) struct Around(Arc<Leaked>);

struct Leaked {
    surroundings: Surroundings,
    methods: HashMap<&'static str, &'static str>,
}

impl Around {
    pub(super) fn new(surroundings: Surroundings) -> Self {
        // Labels of metrics live as long as the process, and so do these few names.
        let leak = |method: &String| -> (&'static str, &'static str) {
            let method: &'static str = method.clone().leak();
            (method, method)
        };
        let methods = surroundings.methods.iter().map(leak).collect();
        Self(Arc::new(Leaked { surroundings, methods }))
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
        // Before the framework's own timer begins.
        let begin = tokio::time::Instant::now();
        async move {
            let calls_web_api = request.uri().path() == web_api::CALL;
            let asked = deadline::asked(request.headers());
            let limit = around.limit(asked, calls_web_api);
            let mut record = around.record(&request, limit);
            let work = AssertUnwindSafe(around.handle(inner, request, &mut record)).catch_unwind();
            let answered = tokio::select! {
                biased;
                answered = tokio::time::timeout_at(begin + limit, work) => Some(answered),
                () = around.cut_off(calls_web_api) => None,
            };
            let response = match answered {
                Some(Ok(Ok(response))) => response,
                Some(Ok(Err(panic))) => {
                    tracing::error!(
                        request_id = &*record.context.request_id,
                        panic = text_of_panic(&*panic),
                        "a handler panicked"
                    );
                    fail(&record.context, &Failure::Panicked)
                }
                Some(Err(_)) => fail(&record.context, &Failure::DeadlineExceeded),
                None => fail(&record.context, &Failure::ShuttingDown),
            };
            let (response, code) = normalize(response, &record.context);
            // An answer that is not yet written down when the deadline passes comes too late as well.
            let keep_by =
                asked.map(|asked| begin + asked.saturating_sub(deadline::margin(asked) / 2));
            let keep = around.keep(&record.context, response, code);
            let (mut response, code) = match keep_by {
                Some(by) => tokio::time::timeout_at(by, keep).await.unwrap_or_else(|_| {
                    let failure = Failure::DeadlineExceeded;
                    (fail(&record.context, &failure), failure.code())
                }),
                None => keep.await,
            };
            // Every answer lists the accepted encodings, so that clients learn that they may compress.
            let accepted = HeaderValue::from_static(ACCEPTED_ENCODINGS);
            response.headers_mut().insert(ACCEPT_ENCODING, accepted);
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
        request: Request<Body>,
        record: &mut Record,
    ) -> Response<Body>
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    {
        if let Some(refused) = record.refused.take() {
            return fail(&record.context, &refused);
        }
        let (mut parts, body) = request.into_parts();
        let public = parts.uri.path().starts_with(OPEN_TO_ALL);
        let limit = request_limit(parts.uri.path());
        let many_messages = parts.uri.path().starts_with(REFLECTION);
        let context = Arc::clone(&record.context);
        // Together, so that what arrives while the issuer's keys are fetched is charged too.
        let receiving = async {
            if many_messages {
                return Ok(body);
            }
            let undecided = context.notes.undecided();
            receive(body, limit, undecided, &self.surroundings.stopping).await.map_err(Ok)
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
                return self.turn_away(record, not_admitted);
            }
            Err(Ok(NotReceived::Failed(failure))) => return fail(&context, &failure),
            Err(Ok(NotReceived::Broken(status))) => return status.into_http(),
        };
        drop(context);
        if let Some(caller) = caller {
            record.is_called_by(caller);
        }
        let mut request = Request::from_parts(parts, body);
        request.extensions_mut().insert(Arc::clone(&record.context));
        let Ok(response) = inner.call(request).await;
        if !record.context.notes.undecided().is_charged() {
            return response;
        }
        let age = self.surroundings.max_connection_age;
        response.map(|body| Body::new(PublicStream::new(body, Arc::clone(&record.context), age)))
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
                let status = context.status(&failure);
                context.failed(&failure);
                let code = status.code();
                (status.into_http(), code)
            }
        }
    }

    /// Who calls. The credential goes no further than this.
    async fn admit(&self, request: &mut Parts, from: IpAddr) -> Result<Caller, NotAdmitted> {
        let authorization = match request.headers.entry(AUTHORIZATION) {
            Entry::Occupied(entry) => entry.remove_entry_mult().1.collect(),
            Entry::Vacant(_) => Vec::new(),
        };
        let peer = request.extensions.get::<Peer>();
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
            NotAdmitted::Unauthenticated(_) | NotAdmitted::Distrusted | NotAdmitted::Slowed(_) => {
                self.surroundings.audit.attempts.count_address(record.context.client);
            }
            // It may well be somebody: who, cannot be told now.
            NotAdmitted::KeysUnavailable { .. } => {}
        }
        fail(&record.context, &not_admitted.into())
    }

    /// Completes when a call that has no answer yet must end.
    async fn cut_off(&self, calls_web_api: bool) {
        if calls_web_api {
            self.surroundings.cut_off.cancelled().await;
        } else {
            pending::<()>().await;
        }
    }

    fn limit(&self, asked: Option<Duration>, calls_web_api: bool) -> Duration {
        match asked {
            Some(asked) => asked.saturating_sub(deadline::margin(asked)),
            None if calls_web_api => self.surroundings.web_api_timeout,
            None => self.surroundings.default_deadline,
        }
    }

    fn record(&self, request: &Request<Body>, limit: Duration) -> Record {
        let path = request.uri().path().trim_start_matches('/');
        let method = self.methods.get(path).copied().unwrap_or("unknown");
        let peer = request.extensions().get::<Peer>();
        let address = peer.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.address.ip());
        let client = client_address(&self.surroundings.trusted, address, request.headers());
        let (client, forwarded_twice) = client.map_or_else(
            |twice| (address, Some(Failure::invalid("x-forwarded-for", twice.to_string()))),
            |client| (client, None),
        );
        let (undecided, overloaded) = match begin(peer, client, request) {
            Ok(undecided) => (undecided, None),
            Err(IntakeExhausted) => (Undecided::default(), Some(Failure::Overloaded)),
        };
        let client_text = match peer {
            Some(peer) if client == address.to_canonical() => Arc::clone(&peer.ip).into(),
            _ => client.to_string().into(),
        };
        let context = Context {
            request_id: self.surroundings.ids.of(request.headers()),
            trace_id: trace_id(request.headers()).map(AuditText::from).unwrap_or_default(),
            caller: Caller::nobody(),
            client,
            client_text,
            patience: limit.saturating_add(BEYOND_THE_DEADLINE),
            notes: Notes::new(undecided),
            tenant: OnceLock::new(),
            failure: OnceLock::new(),
            outcome_unknown: AtomicBool::new(false),
            change_begun: AtomicBool::new(false),
        };
        Record {
            context: Arc::new(context),
            meter: Arc::clone(&self.surroundings.meter),
            audit: Arc::clone(&self.surroundings.audit),
            method,
            begin: Instant::now(),
            code: Code::Cancelled,
            refused: overloaded.or(forwarded_twice),
            _unanswered: self.surroundings.calls.token(),
        }
    }
}

/// Charges a call to the memory of undecided calls.
fn begin(
    peer: Option<&Peer>,
    client: IpAddr,
    request: &Request<Body>,
) -> Result<Undecided, IntakeExhausted> {
    let Some(peer) = peer else { return Ok(Undecided::default()) };
    // A reader that does not read stops its stream: then its messages stay in the window.
    let is_reflection = request.uri().path().starts_with(REFLECTION);
    let window = if is_reflection { STREAM_WINDOW as usize } else { 0 };
    Undecided::begin(peer.slot.clone(), client, request.headers(), window)
}

/// The largest request of a method, before decompression. Each service has a limit of its own after it.
fn request_limit(path: &str) -> usize {
    if path.starts_with(OPEN_TO_ALL) { MAX_OPEN_MESSAGE_BYTES } else { MAX_CALL_BYTES }
}

fn fail(context: &Context, failure: &Failure) -> Response<Body> {
    context.failed(failure);
    context.status(failure).into_http()
}
