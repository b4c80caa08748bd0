//! Handles one call: authentication, validation, authorization and forwarding.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use axum::{
    body::Body,
    http::{HeaderMap, HeaderName, HeaderValue, Method, header, request::Parts},
    response::{IntoResponse as _, Response},
};
use futures_util::FutureExt as _;
use hyper::{Request, Version};
use tokio_util::sync::CancellationToken;

use super::{
    answer::pass_back,
    call_record::{CallRecord, CallRecorder},
    failure::Failure,
    peer::Peer,
    request::{BodyError, ProxyRequest, check_shape, prepare_body},
    stalled_clients::StalledClientTimeout,
};
use crate::{
    access::{
        Access, AdmissionError, AuthorizedCall, Bearer, Caller, PresentedCredentials, RequestedCall,
    },
    audit::UnauthenticatedAttempts,
    broker::{Egress, EgressRequest, LinkRewriter, SendProgress, WebApiResponse},
    domain::{Reason, TrustedProxies},
    http::{
        heads::HeadProblem, http_server::RequestBody, middleware::method_label, problem::Problem,
    },
    listen::{
        REQUEST_ID, RequestCharge, RequestIdGenerator, client_address, panic_message, trace_id,
    },
    ports::CopyBudget,
};

/// The `Retry-After` of a stopping replica, after which another one answers.
const SHUTDOWN_RETRY_AFTER: Duration = Duration::from_secs(2);

/// The configuration of the listener.
#[derive(Debug, Clone)]
pub struct EgressRules {
    /// The public base URI of the listener, without a slash at the end. Rewritten links begin with it.
    pub public_uri: Option<String>,
    /// The maximum size of a request body, if there is a limit.
    pub max_body_bytes: Option<u64>,
    /// The time limit for the start of an answer.
    pub timeout: Duration,
}

/// The handler of all calls.
pub(super) struct ProxyHandler {
    pub(super) access: Arc<Access>,
    pub(super) egress: Arc<Egress>,
    pub(super) recorder: Arc<CallRecorder>,
    pub(super) attempts: Arc<UnauthenticatedAttempts>,
    pub(super) ids: RequestIdGenerator,
    pub(super) rules: EgressRules,
    /// The trusted proxies in front of the gateway.
    pub(super) trusted: TrustedProxies,
    pub(super) stalled_clients: StalledClientTimeout,
    /// The memory budget for copies of request bodies.
    pub(super) copies: CopyBudget,
    /// Cancelled to end the calls that have no answer yet.
    pub(super) cut_off: CancellationToken,
}

/// The answer of SuperOffice to a call.
struct UpstreamAnswer {
    upstream: WebApiResponse,
    method: Method,
    /// The links to rewrite in the body, if the caller requested it.
    links: Option<LinkRewriter>,
}

impl ProxyHandler {
    /// Answers a request.
    pub(super) async fn proxy(&self, peer: Peer, request: Request<RequestBody>) -> Response<Body> {
        let client = client_address(&self.trusted, peer.address, request.headers());
        let (peer, conflict) = match client {
            Ok(address) => (peer.with_address(address), None),
            Err(conflict) => (peer, Some(conflict)),
        };
        let request_id = self.ids.for_request(request.headers());
        let stalled_clients =
            (request.version() == Version::HTTP_2).then_some(&self.stalled_clients);
        let mut record = CallRecord::begin(
            Arc::clone(&self.recorder),
            peer.clone(),
            Arc::clone(&request_id),
            trace_id(request.headers()),
            method_label(request.method()),
        );
        let forwarded = match conflict {
            Some(conflict) => {
                Err(Problem::new(Reason::InvalidArgument, conflict.to_string()).into())
            }
            None => self.forward_or_cut_off(&peer, request, &mut record).await,
        };
        let answered = match forwarded {
            Ok(UpstreamAnswer { upstream, method, links }) => {
                pass_back(upstream, &method, links.as_ref(), stalled_clients, record).await
            }
            Err(failure) => Err((failure, record)),
        };
        let mut answer = answered.unwrap_or_else(|(failure, record)| fail(failure, record));
        if let Ok(id) = HeaderValue::from_str(&request_id) {
            answer.headers_mut().insert(REQUEST_ID, id);
        }
        answer
    }

    /// Forwards a request. Returns a failure if the handler panics, or the shutdown ends the call.
    async fn forward_or_cut_off(
        &self,
        peer: &Peer,
        request: Request<RequestBody>,
        record: &mut CallRecord,
    ) -> Result<UpstreamAnswer, Failure> {
        let request_id = Arc::clone(&record.request_id);
        let work = AssertUnwindSafe(Box::pin(self.forward(peer, request, record)));
        tokio::select! {
            biased;
            forwarded = work.catch_unwind() => forwarded.unwrap_or_else(|panic| {
                let (request_id, panic) = (&*request_id, panic_message(&*panic));
                tracing::error!(request_id, panic, "a handler panicked");
                Err(Problem::new(Reason::Internal, "internal error").into())
            }),
            () = self.cut_off.cancelled() => Err(shutting_down()),
        }
    }

    async fn forward(
        &self,
        peer: &Peer,
        request: Request<RequestBody>,
        record: &mut CallRecord,
    ) -> Result<UpstreamAnswer, Failure> {
        let (head, body) = request.into_parts();
        let caller = self.authenticate(peer, &head, record).await?;
        let (call, rewrites_links) = self.authorize(&caller, &head, record).await?;
        if let Some(charge) = head.extensions.get::<Arc<RequestCharge>>() {
            charge.permit();
        }
        let headers = with_gateway_headers(head.headers, &record.request_id, rewrites_links);
        let mut upstream = self.send(&call, headers, body, record).await?;
        let public_uri = self.rules.public_uri.as_deref().unwrap_or_default();
        let has_links = rewrites_links || LinkRewriter::has_links(&upstream.response.headers);
        let links = has_links.then(|| LinkRewriter::new(public_uri, call.tenant(), &upstream.uri));
        if let Some(links) = &links {
            links.rewrite_headers(&mut upstream.response.headers);
        }
        let links = links.filter(|_| rewrites_links);
        Ok(UpstreamAnswer { upstream, method: head.method, links })
    }

    /// Authenticates the caller. Refuses a request with an invalid head.
    async fn authenticate(
        &self,
        peer: &Peer,
        head: &Parts,
        record: &mut CallRecord,
    ) -> Result<Caller, Failure> {
        let head_problem = head.extensions.get::<HeadProblem>().copied();
        match head_problem {
            None => check_shape(head)?,
            // Refused first, because verifying the token costs more than this answer.
            Some(problem @ HeadProblem::Overloaded) => return Err(Problem::from(problem).into()),
            Some(_) => {}
        }
        let presented = PresentedCredentials {
            bearer: Bearer::from_forwarded_call(&head.headers),
            certificate: peer.certificate.as_deref(),
        };
        let caller = match self.access.admit(&presented, peer.address).await {
            Ok(caller) => caller,
            Err(not_admitted) => {
                if let Some(caller) = not_admitted.caller() {
                    record.set_caller(caller.clone());
                }
                if not_admitted.is_failed_attempt() {
                    self.attempts.count_address(peer.address);
                }
                // The credential may be in the part of the head that could not be parsed.
                let hidden = head_problem.filter(|problem| problem.may_hide_credential());
                return Err(match (not_admitted, hidden) {
                    (AdmissionError::Unauthenticated(_), Some(problem)) => {
                        Problem::from(problem).into()
                    }
                    (not_admitted, _) => not_admitted.into(),
                });
            }
        };
        record.set_caller(caller.clone());
        match head_problem {
            Some(problem) => Err(Problem::from(problem).into()),
            None => Ok(caller),
        }
    }

    /// Authorizes the call. Returns it, and whether the caller requests rewritten links.
    async fn authorize(
        &self,
        caller: &Caller,
        head: &Parts,
        record: &mut CallRecord,
    ) -> Result<(AuthorizedCall, bool), Failure> {
        let ProxyRequest { tenant, path, actor, reason, rewrite_links } = ProxyRequest::read(head)?;
        record.caller_reason = reason;
        record.set_path(&path);
        if rewrite_links && self.rules.public_uri.is_none() {
            let detail = "Gateway-Rewrite-Links: egress.public_uri of the gateway's configuration is missing";
            return Err(Problem::new(Reason::InvalidArgument, detail).into());
        }
        let may_act_as_some_person = self.access.may_act_as_some_person(caller, &tenant);
        let actor = self.egress.resolve_actor(&tenant, actor, may_act_as_some_person).await?;
        let call = RequestedCall { target: tenant, method: head.method.clone(), path };
        match self.access.authorize_web_api_call(caller, call, actor) {
            Ok(call) => Ok((call, rewrite_links)),
            Err(refused) => {
                record.write_refused(&refused).await?;
                Err(refused.into())
            }
        }
    }

    /// Sends a permitted call to SuperOffice. Commits its audit event before any part of the answer is sent.
    async fn send(
        &self,
        call: &AuthorizedCall,
        headers: HeaderMap,
        body: RequestBody,
        record: &mut CallRecord,
    ) -> Result<WebApiResponse, Failure> {
        let mut pending = Some(record.queue_permitted(call)?);
        let body_error = BodyError::default();
        let max_bytes = self.rules.max_body_bytes;
        let body = prepare_body(body, max_bytes, &body_error, &self.copies).await?;
        let safe = matches!(*call.method(), Method::GET | Method::HEAD);
        // An unsafe call is audited before it runs. Otherwise it could run and then fail because of the audit trail.
        if !safe && let Some(pending) = pending.take() {
            pending.committed().await?;
        }
        let request = EgressRequest { headers, body, max_wait: self.rules.timeout };
        let mut on_progress = |progress: SendProgress<'_>| match progress {
            SendProgress::Sending(id) => {
                record.set_credential(id);
                record.outcome_is_unknown = !safe;
            }
            SendProgress::DidNotRun => record.outcome_is_unknown = false,
        };
        let upstream = self.egress.send(call, request, &mut on_progress).await;
        if let Some(pending) = pending {
            pending.committed().await?;
        }
        upstream.map_err(|error| match body_error.get() {
            Some(problem) => problem.clone().into(),
            None => error.into(),
        })
    }
}

/// Turns a failure into an answer, and records it.
fn fail(mut failure: Failure, mut record: CallRecord) -> Response<Body> {
    if record.outcome_is_unknown {
        failure.problem = failure.problem.with_unknown_outcome();
    }
    let mut answer = failure.problem.clone().into_response();
    failure.problem.write(&record.request_id, &mut answer);
    if failure.problem.reason() == Reason::CallerUnauthenticated {
        let challenge = HeaderValue::from_static("Bearer");
        answer.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
    }
    record.set_failure(&failure, answer.status());
    answer
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
