//! One call: who calls, what is asked, may it be done, done.

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
    request::{Asked, Cut, body, check_shape},
    standstill::Standstill,
    trail::Record,
};
use crate::{
    access::{Access, Bearer, Caller, Calling, NotAdmitted, Presented},
    broker::{Attempts, Egress, Links, SendProgress, Sending, Sent, Trail},
    domain::{Reason, TrustedProxies},
    http::{around::known_name, conversation::RequestBody, heads::HeadProblem, problem::Problem},
    listen::{REQUEST_ID, RequestIds, Undecided, client_address, text_of_panic, trace_id},
    ports::{CopyBudget, Meter},
};

/// When another replica answers in place of one that is stopping.
const STOPPED_SOON: Duration = Duration::from_secs(2);

/// Everything that calls go through.
pub(super) struct Door {
    pub(super) access: Arc<Access>,
    pub(super) egress: Arc<Egress>,
    pub(super) trail: Arc<Trail>,
    pub(super) attempts: Arc<Attempts>,
    pub(super) ids: RequestIds,
    pub(super) meter: Arc<dyn Meter>,
    pub(super) rules: EgressRules,
    /// The proxies in front.
    pub(super) trusted: TrustedProxies,
    /// The calls that have not ended yet.
    pub(super) requests: TaskTracker,
    pub(super) standstill: Standstill,
    /// The memory of copies of request bodies.
    pub(super) copies: CopyBudget,
    /// Ends the calls that have no answer yet.
    pub(super) cut_off: CancellationToken,
}

/// A call that has an answer of SuperOffice.
struct Passed {
    sent: Sent,
    method: Method,
    /// For a body in which they are to be rewritten.
    links: Option<Links>,
}

impl Door {
    /// Answers a request.
    pub(super) async fn pass(
        self: Arc<Self>,
        peer: Peer,
        request: Request<RequestBody>,
    ) -> Response<Body> {
        let client = client_address(&self.trusted, peer.address, request.headers());
        let (peer, twice) = match client {
            Ok(address) => (peer.at(address), None),
            Err(twice) => (peer, Some(twice)),
        };
        let request_id = self.ids.of(request.headers());
        let watched = (request.version() == Version::HTTP_2).then_some(&self.standstill);
        let method = known_name(request.method());
        let trace_id = trace_id(request.headers());
        let mut record = Record::begin(
            Arc::clone(&self),
            peer.clone(),
            Arc::clone(&request_id),
            trace_id,
            method,
        );
        let answered = async {
            match twice {
                Some(twice) => Err(Problem::new(Reason::InvalidArgument, twice.to_string()).into()),
                None => self.call(&peer, request, &mut record).await,
            }
        };
        let work = AssertUnwindSafe(Box::pin(answered));
        let called = tokio::select! {
            biased;
            called = work.catch_unwind() => called.unwrap_or_else(|panic| {
                let (request_id, panic) = (&*request_id, text_of_panic(&*panic));
                tracing::error!(request_id, panic, "a handler panicked");
                Err(Problem::new(Reason::Internal, "internal error").into())
            }),
            () = self.cut_off.cancelled() => Err(stopped()),
        };
        let answered = match called {
            Ok(Passed { sent, method, links }) => {
                pass_back(sent, &method, links.as_ref(), watched, record).await
            }
            Err(failure) => Err((failure, record)),
        };
        let mut answer = answered.unwrap_or_else(|(mut failure, mut record)| {
            if record.outcome_is_unknown {
                failure.problem = failure.problem.of_unknown_outcome();
            }
            let mut answer = failure.problem.clone().into_response();
            failure.problem.write(&request_id, &mut answer);
            if failure.problem.reason() == Reason::CallerUnauthenticated {
                let challenge = HeaderValue::from_static("Bearer");
                answer.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
            }
            record.failed(&failure, answer.status());
            answer
        });
        let headers = answer.headers_mut();
        if let Ok(id) = HeaderValue::from_str(&request_id) {
            headers.insert(REQUEST_ID, id);
        }
        answer
    }

    async fn call(
        &self,
        peer: &Peer,
        request: Request<RequestBody>,
        record: &mut Record,
    ) -> Result<Passed, Failure> {
        let head_problem = request.extensions().get::<HeadProblem>().copied();
        match head_problem {
            None => check_shape(&request)?,
            // Before its token is verified, which costs more than the answer.
            Some(problem @ HeadProblem::Overloaded) => return Err(Problem::from(problem).into()),
            Some(_) => {}
        }
        let caller = match (self.admit(peer, request.headers()).await, head_problem) {
            (Ok(caller), _) => caller,
            // The credential may be in the part of the head that could not be read.
            (Err(NotAdmitted::Unauthenticated(_)), Some(problem)) if problem.may_hide_caller() => {
                self.attempts.count_address(peer.address);
                return Err(Problem::from(problem).into());
            }
            (Err(not_admitted), _) => return Err(self.turn_away(peer, record, not_admitted)),
        };
        record.is_called_by(caller.clone());
        if let Some(problem) = head_problem {
            return Err(Problem::from(problem).into());
        }
        let Asked { tenant, path, eyes, words, rewrite_links } = Asked::read(&request)?;
        record.words = words;
        let public_uri = self.rules.public_uri.as_deref();
        if rewrite_links && public_uri.is_none() {
            let detail = "Gateway-Rewrite-Links: egress.public_uri of the gateway's configuration is missing";
            return Err(Problem::new(Reason::InvalidArgument, detail).into());
        }
        let somebody = self.access.may_act_as_somebody(&caller, &tenant);
        let chosen = self.egress.chosen(&tenant, eyes, somebody).await?;
        let method = request.method().clone();
        let call = Calling { on: tenant.clone(), method: method.clone(), path };
        let acting = match self.access.act(&caller, call, chosen) {
            Ok(acting) => acting,
            Err(not_acting) => {
                record.refused(&not_acting).await?;
                return Err(not_acting.into());
            }
        };
        if let Some(undecided) = request.extensions().get::<Arc<Undecided>>() {
            undecided.permit();
        }
        let pending = record.permitted(&acting)?;
        let (parts, incoming) = request.into_parts();
        let cut = Cut::default();
        let body = body(incoming, self.rules.max_body_bytes, &cut, &self.copies).await?;
        let headers = with_ours(parts.headers, &record.request_id, rewrite_links);
        let safe = matches!(method, Method::GET | Method::HEAD);
        let mut pending = Some(pending);
        // What changes something must not be done and then be answered as if it had not.
        if !safe && let Some(pending) = pending.take() {
            pending.committed().await?;
        }
        let sending = Sending { headers, body, patience: self.rules.timeout };
        let mut used = |progress: SendProgress<'_>| match progress {
            SendProgress::Sends(id) => {
                record.opens_with(id);
                record.outcome_is_unknown = !safe;
            }
            SendProgress::DidNotRun => record.outcome_is_unknown = false,
        };
        let sent = self.egress.send(&acting, sending, &mut used).await;
        // Before anything of the answer is on the wire.
        if let Some(pending) = pending {
            pending.committed().await?;
        }
        let mut sent = match (sent, cut.get()) {
            (Ok(sent), _) => sent,
            (Err(_), Some(problem)) => return Err(problem.clone().into()),
            (Err(error), None) => return Err(error.into()),
        };
        let links = || Links::new(public_uri.unwrap_or_default(), &tenant, &sent.uri);
        let links = (rewrite_links || Links::are_in(&sent.response.headers)).then(links);
        if let Some(links) = &links {
            links.rewrite_headers(&mut sent.response.headers);
        }
        Ok(Passed { sent, method, links: links.filter(|_| rewrite_links) })
    }

    /// Who calls. A client library may have its own idea of `Authorization`, so the header for proxies comes first.
    async fn admit(&self, peer: &Peer, headers: &HeaderMap) -> Result<Caller, NotAdmitted> {
        let name = if headers.contains_key(header::PROXY_AUTHORIZATION) {
            header::PROXY_AUTHORIZATION
        } else {
            header::AUTHORIZATION
        };
        let values = headers.get_all(name);
        let presented = Presented {
            bearer: Bearer::from_values(values.iter().map(HeaderValue::as_bytes)),
            certificate: peer.certificate.as_deref(),
        };
        self.access.admit(&presented, peer.address).await
    }

    fn turn_away(&self, peer: &Peer, record: &mut Record, not_admitted: NotAdmitted) -> Failure {
        match &not_admitted {
            NotAdmitted::OverQuota { caller, .. } => record.is_called_by(caller.clone()),
            NotAdmitted::Unauthenticated(_) | NotAdmitted::Distrusted | NotAdmitted::Slowed(_) => {
                self.attempts.count_address(peer.address);
            }
            // It may well be somebody: who, cannot be told now.
            NotAdmitted::KeysUnavailable { .. } => {}
        }
        not_admitted.into()
    }
}

fn stopped() -> Failure {
    let detail = "this replica of the gateway is stopping; another one answers";
    Problem::new(Reason::ShuttingDown, detail).after(Some(STOPPED_SOON)).into()
}

/// What is sent besides what the use case leaves in.
fn with_ours(mut headers: HeaderMap, request_id: &str, rewrite_links: bool) -> HeaderMap {
    if let Ok(id) = HeaderValue::from_str(request_id) {
        headers.insert(HeaderName::from_static(REQUEST_ID), id);
    }
    if rewrite_links {
        // What is compressed cannot be rewritten, and of a part nobody can tell where a link begins.
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        headers.remove(header::RANGE);
        headers.remove(header::IF_RANGE);
    }
    headers
}
