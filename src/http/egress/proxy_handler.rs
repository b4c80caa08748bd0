//! Handles one call: authentication, validation, authorization and forwarding.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use axum::{
    body::Body,
    http::{HeaderMap, HeaderName, HeaderValue, Method, header},
    response::{IntoResponse as _, Response},
};
use futures_util::FutureExt as _;
use hyper::{Request, Version};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    EgressRules, Peer,
    answer::pass_back,
    failure::Failure,
    request::{BodyError, ProxyRequest, check_shape, prepare_body},
    stalled_clients::StalledClientTimeout,
    trail::CallRecord,
};
use crate::{
    access::{Access, AdmissionError, Bearer, Caller, PresentedCredentials, RequestedCall},
    broker::{
        Egress, EgressRequest, EgressResponse, LinkRewriter, SendProgress, Trail,
        UnauthenticatedAttempts,
    },
    domain::{Reason, TrustedProxies},
    http::{around::method_label, connections::RequestBody, heads::HeadProblem, problem::Problem},
    listen::{
        REQUEST_ID, RequestCharge, RequestIdGenerator, client_address, panic_message, trace_id,
    },
    ports::{CopyBudget, Meter},
};

/// The `Retry-After` of a stopping replica, after which another one answers.
const SHUTDOWN_RETRY_AFTER: Duration = Duration::from_secs(2);

/// The handler of all calls.
pub(super) struct ProxyHandler {
    pub(super) access: Arc<Access>,
    pub(super) egress: Arc<Egress>,
    pub(super) trail: Arc<Trail>,
    pub(super) attempts: Arc<UnauthenticatedAttempts>,
    pub(super) ids: RequestIdGenerator,
    pub(super) meter: Arc<dyn Meter>,
    pub(super) rules: EgressRules,
    /// The trusted proxies in front of the gateway.
    pub(super) trusted: TrustedProxies,
    /// Tracks the running calls.
    pub(super) requests: TaskTracker,
    pub(super) stalled_clients: StalledClientTimeout,
    /// The memory budget for copies of request bodies.
    pub(super) copies: CopyBudget,
    /// Cancelled to end the calls that have no answer yet.
    pub(super) cut_off: CancellationToken,
}

/// The answer of SuperOffice to a call.
struct UpstreamAnswer {
    sent: EgressResponse,
    method: Method,
    /// The links to rewrite in the body, if the caller requested it.
    links: Option<LinkRewriter>,
}

impl ProxyHandler {
    /// Answers a request.
    pub(super) async fn proxy(
        self: Arc<Self>,
        peer: Peer,
        request: Request<RequestBody>,
    ) -> Response<Body> {
        let client = client_address(&self.trusted, peer.address, request.headers());
        let (peer, duplicate) = match client {
            Ok(address) => (peer.with_address(address), None),
            Err(twice) => (peer, Some(twice)),
        };
        let request_id = self.ids.for_request(request.headers());
        let watched = (request.version() == Version::HTTP_2).then_some(&self.stalled_clients);
        let method = method_label(request.method());
        let trace_id = trace_id(request.headers());
        let mut record = CallRecord::begin(
            Arc::clone(&self),
            peer.clone(),
            Arc::clone(&request_id),
            trace_id,
            method,
        );
        let answered = async {
            match duplicate {
                Some(twice) => Err(Problem::new(Reason::InvalidArgument, twice.to_string()).into()),
                None => self.forward(&peer, request, &mut record).await,
            }
        };
        let work = AssertUnwindSafe(Box::pin(answered));
        let called = tokio::select! {
            biased;
            called = work.catch_unwind() => called.unwrap_or_else(|panic| {
                let (request_id, panic) = (&*request_id, panic_message(&*panic));
                tracing::error!(request_id, panic, "a handler panicked");
                Err(Problem::new(Reason::Internal, "internal error").into())
            }),
            () = self.cut_off.cancelled() => Err(shutting_down()),
        };
        let answered = match called {
            Ok(UpstreamAnswer { sent, method, links }) => {
                pass_back(sent, &method, links.as_ref(), watched, record).await
            }
            Err(failure) => Err((failure, record)),
        };
        let mut answer = answered.unwrap_or_else(|(mut failure, mut record)| {
            if record.outcome_is_unknown {
                failure.problem = failure.problem.with_unknown_outcome();
            }
            let mut answer = failure.problem.clone().into_response();
            failure.problem.write(&request_id, &mut answer);
            if failure.problem.reason() == Reason::CallerUnauthenticated {
                let challenge = HeaderValue::from_static("Bearer");
                answer.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
            }
            record.set_failure(&failure, answer.status());
            answer
        });
        let headers = answer.headers_mut();
        if let Ok(id) = HeaderValue::from_str(&request_id) {
            headers.insert(REQUEST_ID, id);
        }
        answer
    }

    async fn forward(
        &self,
        peer: &Peer,
        request: Request<RequestBody>,
        record: &mut CallRecord,
    ) -> Result<UpstreamAnswer, Failure> {
        let head_problem = request.extensions().get::<HeadProblem>().copied();
        match head_problem {
            None => check_shape(&request)?,
            // Refused first, because verifying the token costs more than this answer.
            Some(problem @ HeadProblem::Overloaded) => return Err(Problem::from(problem).into()),
            Some(_) => {}
        }
        let caller = match (self.admit(peer, request.headers()).await, head_problem) {
            (Ok(caller), _) => caller,
            // The credential may be in the part of the head that could not be parsed.
            (Err(AdmissionError::Unauthenticated(_)), Some(problem))
                if problem.may_hide_credential() =>
            {
                self.attempts.count_address(peer.address);
                return Err(Problem::from(problem).into());
            }
            (Err(not_admitted), _) => return Err(self.reject(peer, record, not_admitted)),
        };
        record.set_caller(caller.clone());
        if let Some(problem) = head_problem {
            return Err(Problem::from(problem).into());
        }
        let ProxyRequest { tenant, path, actor, reason, rewrite_links } =
            ProxyRequest::read(&request)?;
        record.caller_reason = reason;
        let public_uri = self.rules.public_uri.as_deref();
        if rewrite_links && public_uri.is_none() {
            let detail = "Gateway-Rewrite-Links: egress.public_uri of the gateway's configuration is missing";
            return Err(Problem::new(Reason::InvalidArgument, detail).into());
        }
        let somebody = self.access.may_act_as_any_person(&caller, &tenant);
        let chosen = self.egress.resolve_actor(&tenant, actor, somebody).await?;
        let method = request.method().clone();
        let call = RequestedCall { target: tenant.clone(), method: method.clone(), path };
        let acting = match self.access.authorize_web_api_call(&caller, call, chosen) {
            Ok(acting) => acting,
            Err(not_acting) => {
                record.write_refused(&not_acting).await?;
                return Err(not_acting.into());
            }
        };
        if let Some(undecided) = request.extensions().get::<Arc<RequestCharge>>() {
            undecided.permit();
        }
        let pending = record.write_permitted(&acting)?;
        let (parts, incoming) = request.into_parts();
        let cut = BodyError::default();
        let body = prepare_body(incoming, self.rules.max_body_bytes, &cut, &self.copies).await?;
        let headers = with_gateway_headers(parts.headers, &record.request_id, rewrite_links);
        let safe = matches!(method, Method::GET | Method::HEAD);
        let mut pending = Some(pending);
        // An unsafe call is audited before it runs. Otherwise it could run and then fail because of the audit trail.
        if !safe && let Some(pending) = pending.take() {
            pending.committed().await?;
        }
        let sending = EgressRequest { headers, body, max_wait: self.rules.timeout };
        let mut on_progress = |progress: SendProgress<'_>| match progress {
            SendProgress::Sending(id) => {
                record.set_credential(id);
                record.outcome_is_unknown = !safe;
            }
            SendProgress::DidNotRun => record.outcome_is_unknown = false,
        };
        let sent = self.egress.send(&acting, sending, &mut on_progress).await;
        // Committed before any part of the answer is sent.
        if let Some(pending) = pending {
            pending.committed().await?;
        }
        let mut sent = match (sent, cut.get()) {
            (Ok(sent), _) => sent,
            (Err(_), Some(problem)) => return Err(problem.clone().into()),
            (Err(error), None) => return Err(error.into()),
        };
        let links = || LinkRewriter::new(public_uri.unwrap_or_default(), &tenant, &sent.uri);
        let links = (rewrite_links || LinkRewriter::has_links(&sent.response.headers)).then(links);
        if let Some(links) = &links {
            links.rewrite_headers(&mut sent.response.headers);
        }
        Ok(UpstreamAnswer { sent, method, links: links.filter(|_| rewrite_links) })
    }

    /// Authenticates the caller. `Proxy-Authorization` comes first, because some client libraries always set
    /// `Authorization`.
    async fn admit(&self, peer: &Peer, headers: &HeaderMap) -> Result<Caller, AdmissionError> {
        let name = if headers.contains_key(header::PROXY_AUTHORIZATION) {
            header::PROXY_AUTHORIZATION
        } else {
            header::AUTHORIZATION
        };
        let values = headers.get_all(name);
        let presented = PresentedCredentials {
            bearer: Bearer::from_values(values.iter().map(HeaderValue::as_bytes)),
            certificate: peer.certificate.as_deref(),
        };
        self.access.admit(&presented, peer.address).await
    }

    fn reject(
        &self,
        peer: &Peer,
        record: &mut CallRecord,
        not_admitted: AdmissionError,
    ) -> Failure {
        match &not_admitted {
            AdmissionError::OverQuota { caller, .. } => record.set_caller(caller.clone()),
            AdmissionError::Unauthenticated(_)
            | AdmissionError::CertificateNotTrusted
            | AdmissionError::TooManyRefusals(_) => {
                self.attempts.count_address(peer.address);
            }
            // The caller may be valid, so this does not count as a failed attempt.
            AdmissionError::KeysUnavailable { .. } => {}
        }
        not_admitted.into()
    }
}

fn shutting_down() -> Failure {
    let detail =
        "this replica of the gateway is stopping; send the request again to reach another one";
    Problem::new(Reason::ShuttingDown, detail).with_retry_after(Some(SHUTDOWN_RETRY_AFTER)).into()
}

/// Adds the gateway's own request headers.
fn with_gateway_headers(
    mut headers: HeaderMap,
    request_id: &str,
    rewrite_links: bool,
) -> HeaderMap {
    if let Ok(id) = HeaderValue::from_str(request_id) {
        headers.insert(HeaderName::from_static(REQUEST_ID), id);
    }
    if rewrite_links {
        // Links cannot be rewritten in compressed or partial bodies.
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        headers.remove(header::RANGE);
        headers.remove(header::IF_RANGE);
    }
    headers
}
