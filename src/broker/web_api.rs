//! Calls to the Web API of tenants: adds the credential, respects the upstream budget, and retries where that is safe.
//!
//! Only other use cases call this one; they require the [`Authorized`](crate::access::Authorized) witness of a caller.

mod budget;
mod credential;
mod credential_headers;
mod dead_host;
mod outcome;
mod retry;
mod tenant_limiter;

use std::{sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use futures_util::TryStreamExt as _;
use http::StatusCode;

pub(super) use self::credential_headers::CredentialHeaders;
pub(super) use self::dead_host::is_gateway_error;
use self::{
    budget::{Budget, OverLimit, Permit},
    credential::{CredentialSource, UpstreamCredential},
    dead_host::host_failure,
    outcome::{BODY_COPY_TIMEOUT, did_not_run, no_answer_error},
    retry::{RetryAction, RetryState, Safety},
};
pub use self::{
    outcome::{ProgressCallback, SendProgress},
    tenant_limiter::CallRate,
};
use super::{
    Application, Applications, BrokerError, Counters, EgressResponse, Impersonation, Statuses,
    Tickets, error::RETRY_SOON,
};
use crate::{
    access::GrantResource,
    domain::{Actor, TenantName},
    ports::{
        ApiQuery, ApiRequest, ApiResponse, CallOutcome, Clock, Random, Refusal, Replay, SendError,
        UpstreamError,
    },
};

/// The time limit for reading a whole answer, even if data keeps arriving slowly.
const MAX_READ_TIME: Duration = Duration::from_mins(1);

/// The maximum number of permits that one call acquires while its credential keeps changing.
const MAX_ACQUISITIONS: usize = 3;

/// The properties of a call: its tenant, its credential, and the limits for it.
#[derive(Debug, Clone)]
pub struct CallOrigin {
    /// The tenant to call.
    pub tenant: TenantName,
    /// The user for whom SuperOffice runs the call.
    pub actor: Actor,
    /// The account that the call counts against: accounts share the budget of a tenant fairly.
    pub account: Arc<str>,
    /// The deadline, from [`WebApi::deadline_in`]. A call that cannot be made by then is rejected at once.
    pub deadline: Option<Duration>,
    /// The person for whom policy permitted the call. If their name has changed since, the call is not made.
    pub person: Option<GrantResource>,
}

/// The use case of calls to the Web API.
pub struct WebApi {
    applications: Arc<Applications>,
    statuses: Arc<Statuses>,
    credentials: CredentialSource,
    budget: Budget,
    clock: Arc<dyn Clock>,
    timer: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    counters: Arc<Counters>,
}

/// The result of one attempt.
type CallResult = Result<Answer, SendError>;

struct Answer {
    response: ApiResponse,
    body: Body,
}

/// The body of an answer.
enum Body {
    /// The body is not read yet.
    Streaming,
    Complete(Bytes),
    TooLarge,
}

/// The way in which a call is made.
#[derive(Clone, Copy)]
struct CallOptions {
    safety: Safety,
    /// If set, reads the whole body, up to this number of bytes.
    max_body_bytes: Option<usize>,
}

impl WebApi {
    /// Creates the use case. Waits for permits, pauses and deadlines use the clock `timer`.
    #[must_use]
    #[expect(
        clippy::too_many_arguments,
        reason = "wiring: every collaborator is named once, in app"
    )]
    pub fn new(
        applications: Arc<Applications>,
        statuses: Arc<Statuses>,
        tickets: Arc<Tickets>,
        impersonation: Arc<Impersonation>,
        clock: Arc<dyn Clock>,
        timer: Arc<dyn Clock>,
        random: Arc<dyn Random>,
        counters: Arc<Counters>,
    ) -> Self {
        let credentials = CredentialSource { tickets, impersonation };
        let budget = Budget::new(Arc::clone(&timer));
        Self { applications, statuses, credentials, budget, clock, timer, random, counters }
    }

    /// Returns the moment that is `patience` from now, for [`CallOrigin::deadline`].
    #[must_use]
    pub fn deadline_in(&self, patience: Duration) -> Duration {
        self.timer.monotonic().saturating_add(patience)
    }

    /// Returns the number of calls that wait for a permit.
    #[must_use]
    pub fn waiting_calls(&self) -> usize {
        self.budget.waiting()
    }

    /// Makes a safe call and reads the whole answer.
    pub(super) async fn read<T>(
        &self,
        origin: &CallOrigin,
        call: &ApiQuery<T>,
    ) -> Result<T, BrokerError> {
        let options =
            CallOptions { safety: Safety::Safe, max_body_bytes: Some(call.max_body_bytes) };
        let (outcome, _) = self.call(origin, call.request(), options, &mut |_| {}).await?;
        let name = &origin.tenant;
        let failed = |error: BrokerError| {
            let cause = error.cause().unwrap_or_default();
            tracing::warn!(tenant = %name, call = call.what, reason = error.reason().as_str(), cause, "no answer from the Web API");
            error
        };
        let answer = outcome.map_err(|error| failed(no_answer_error(call.what, true, &error)))?;
        let status = answer.response.status;
        let invalid = |why: &str| {
            failed(BrokerError::UpstreamInvalid(format!("{}: {why}", call.what).into()))
        };
        match (answer.response.verdict, answer.body) {
            (CallOutcome::Done { .. }, Body::Complete(body)) if status == StatusCode::OK => {
                call.read(&body).map_err(|error| failed(BrokerError::from_upstream(name, &error)))
            }
            (CallOutcome::Done { .. }, Body::TooLarge) => {
                Err(invalid("the answer exceeds the size limit"))
            }
            (CallOutcome::Done { .. }, _) => Err(invalid(&format!("HTTP {status}"))),
            // The access token was verified or is new, so the person lacks the right.
            (CallOutcome::CredentialRefused | CallOutcome::Forbidden, _)
                if origin.actor != Actor::SystemUser =>
            {
                Err(invalid(&format!("HTTP {status} to a person")))
            }
            // The ticket was verified or is new, so the system user lacks the right.
            (CallOutcome::CredentialRefused | CallOutcome::Forbidden, _) => {
                Err(failed(BrokerError::Refused(name.clone(), Refusal::Rejected)))
            }
            (CallOutcome::Misdirected, _) => {
                Err(failed(BrokerError::from_upstream(name, &UpstreamError::Misdirected)))
            }
            (CallOutcome::Throttled { retry_after }, _) => {
                Err(self.budget_exhausted(name, retry_after))
            }
            (CallOutcome::Failed, _) => {
                let failure = SendError::Interrupted(format!("HTTP {status}"));
                Err(failed(no_answer_error(call.what, true, &failure)))
            }
        }
    }

    /// Makes a call and returns as soon as the answer starts. Returns SuperOffice's last answer, whatever its status.
    pub(super) async fn send(
        &self,
        origin: &CallOrigin,
        request: ApiRequest,
        on_progress: ProgressCallback<'_>,
    ) -> Result<EgressResponse, BrokerError> {
        let safe = request.is_safe_method();
        let repeatable = safe && request.is_replayable();
        let safety = if repeatable { Safety::Safe } else { Safety::Unsafe };
        let options = CallOptions { safety, max_body_bytes: None };
        let (outcome, credential) = self.call(origin, request, options, on_progress).await?;
        let answer = outcome.map_err(|error| {
            tracing::warn!(tenant = %origin.tenant, %error, "no answer from the Web API");
            no_answer_error("call", safe, &error)
        })?;
        Ok(EgressResponse { response: answer.response, uri: credential.uri })
    }

    /// Makes a call, and repeats it where that may help and is safe.
    async fn call(
        &self,
        origin: &CallOrigin,
        request: ApiRequest,
        options: CallOptions,
        on_progress: ProgressCallback<'_>,
    ) -> Result<(CallResult, UpstreamCredential), BrokerError> {
        let application = self.applications.get(&origin.tenant.application)?;
        let mut retry_state = RetryState::new(options.safety);
        let mut credential =
            self.before_deadline(origin, self.acquire(application, origin)).await?;
        let mut next = request;
        loop {
            let replay = next.replay();
            on_progress(SendProgress::Sending(credential.credential_id()));
            // Taken before sending: the ticket's expiry time is extended from this moment.
            let sent = self.clock.now();
            self.counters.web_api_calls.increment();
            let outcome =
                Box::pin(self.attempt(application, origin, &credential, next, options)).await;
            let verdict = outcome.as_ref().map(|answer| answer.response.verdict);
            if did_not_run(verdict) {
                on_progress(SendProgress::DidNotRun);
            }
            if verdict == Ok(CallOutcome::Done { success: true }) {
                self.credentials.record_success(&origin.tenant, &credential, sent);
            }
            let failure = host_failure(&outcome);
            let action = if self.has_moved(origin, &credential, options.safety, failure).await {
                retry_state.action_after_move(verdict)
            } else {
                retry_state.next_action(verdict, credential.may_have_expired(sent))
            };
            // For a safe call, returning this 401 would say that the credential is dead, which is not verified.
            let unproven =
                action == RetryAction::VerifyCredential && options.safety == Safety::Safe;
            // A 403 does not prove that the call did not run, so no other error may replace that answer.
            let forbidden_unsafe =
                verdict == Ok(CallOutcome::Forbidden) && options.safety == Safety::Unsafe;
            let keeps_answer = |error: &BrokerError| {
                forbidden_unsafe
                    || matches!(error, BrokerError::BudgetExhausted { .. }) && !unproven
            };
            let preparation = self.prepare_retry(application, origin, &credential, action);
            match self.before_deadline(origin, preparation).await {
                Ok(true) => {}
                Ok(false) => return Ok((outcome, credential)),
                Err(error) if keeps_answer(&error) => return Ok((outcome, credential)),
                Err(error) => return Err(error),
            }
            // An unsafe call is not sent again after a 403, which does not prove that it did not run.
            if forbidden_unsafe {
                return Ok((outcome, credential));
            }
            let Some(request) = self.rebuild_request(origin, replay).await else {
                return Ok((outcome, credential));
            };
            let ready = self.acquire(application, origin);
            credential = match self.before_deadline(origin, ready).await {
                Ok(new) => new,
                // No time is left for another attempt, so the caller gets this answer.
                Err(error) if keeps_answer(&error) => return Ok((outcome, credential)),
                Err(error) => return Err(error),
            };
            next = request;
            self.counters.web_api_repeats.increment();
        }
    }

    /// Waits for the work before an attempt, but not beyond the deadline of the call.
    async fn before_deadline<T>(
        &self,
        origin: &CallOrigin,
        work: impl Future<Output = Result<T, BrokerError>>,
    ) -> Result<T, BrokerError> {
        let Some(deadline) = origin.deadline else { return work.await };
        let left = deadline.saturating_sub(self.timer.monotonic());
        tokio::select! {
            biased;
            done = work => done,
            () = self.timer.sleep(left) => {
                let cause = "the credential was not available before the deadline".into();
                Err(BrokerError::UpstreamUnavailable { retry_after: RETRY_SOON, cause })
            }
        }
    }

    /// Returns the request to send again; `None` if its body has no full copy, or its rest does not arrive in time.
    async fn rebuild_request(
        &self,
        origin: &CallOrigin,
        replay: Option<Replay>,
    ) -> Option<ApiRequest> {
        let replay = replay?;
        let left = origin.deadline.map(|deadline| deadline.saturating_sub(self.timer.monotonic()));
        let limit = left.unwrap_or(BODY_COPY_TIMEOUT).min(BODY_COPY_TIMEOUT);
        tokio::select! {
            biased;
            request = replay.request() => request,
            () = self.timer.sleep(limit) => None,
        }
    }

    /// Does the work that must precede another attempt. Returns `false` if there is no other attempt.
    async fn prepare_retry(
        &self,
        application: &Application,
        origin: &CallOrigin,
        credential: &UpstreamCredential,
        action: RetryAction,
    ) -> Result<bool, BrokerError> {
        let tenant = &origin.tenant;
        match action {
            RetryAction::GiveUp => return Ok(false),
            RetryAction::VerifyCredential => {
                if self.credentials.needs_verification(tenant, credential) {
                    // The probe is a call, too, and needs a permit.
                    self.acquire_permit(application, origin).await?;
                    // Another call may have verified the credential in the meantime.
                    if self.credentials.needs_verification(tenant, credential) {
                        self.credentials.verify(tenant, credential).await?;
                    }
                }
            }
            RetryAction::InvalidateAddress => {
                self.statuses.report_misdirected(tenant, &credential.uri);
            }
            RetryAction::UseNewAddress => {}
            RetryAction::PauseAndRetry(pause) | RetryAction::PauseOnly(pause) => {
                self.counters.web_api_throttled.increment();
                tracing::warn!(%tenant, ?pause, "SuperOffice throttles calls to the tenant");
                self.budget.pause(tenant, application.call_rate, pause);
                return Ok(matches!(action, RetryAction::PauseAndRetry(_)));
            }
            RetryAction::RetryAfter(base) => {
                let pause = self.random.jitter(base);
                if origin.deadline.is_some_and(|deadline| self.deadline_in(pause) > deadline) {
                    return Ok(false);
                }
                self.timer.sleep(pause).await;
            }
        }
        Ok(true)
    }

    /// Returns a credential after acquiring a permit. The credential is fetched first: calls that wait for one together
    /// must not be sent together.
    async fn acquire(
        &self,
        application: &Application,
        origin: &CallOrigin,
    ) -> Result<UpstreamCredential, BrokerError> {
        let mut credential = self.credentials.get(origin).await?;
        for _ in 0..MAX_ACQUISITIONS {
            if let Permit::Immediate = self.acquire_permit(application, origin).await? {
                break;
            }
            // The state may have changed while waiting: a disabled tenant must stop at once.
            let before = std::mem::replace(&mut credential, self.credentials.get(origin).await?);
            if credential.is_same(&before) {
                break;
            }
            // Other calls with a permit waited for the new credential, too: together they would exceed the rate.
        }
        Ok(credential)
    }

    async fn acquire_permit(
        &self,
        application: &Application,
        origin: &CallOrigin,
    ) -> Result<Permit, BrokerError> {
        let CallOrigin { tenant, account, deadline, .. } = origin;
        let permit = self.budget.acquire(tenant, application.call_rate, account, *deadline).await;
        permit.map_err(|OverLimit { retry_after }| self.budget_exhausted(tenant, retry_after))
    }

    async fn attempt(
        &self,
        application: &Application,
        origin: &CallOrigin,
        credential: &UpstreamCredential,
        request: ApiRequest,
        options: CallOptions,
    ) -> CallResult {
        let answer = async {
            let response =
                application.web_api.send(&credential.uri, &credential.credential, request).await?;
            match options.max_body_bytes {
                Some(most) if matches!(response.verdict, CallOutcome::Done { .. }) => {
                    read_body(response, most).await
                }
                _ => Ok(Answer { response, body: Body::Streaming }),
            }
        };
        let answer = self.watch_host(origin, credential, options.safety, answer);
        let left = origin.deadline.map(|deadline| deadline.saturating_sub(self.timer.monotonic()));
        let most = options.max_body_bytes.map(|_| MAX_READ_TIME);
        let Some(limit) = left.into_iter().chain(most).min() else { return answer.await };
        tokio::select! {
            biased;
            outcome = answer => outcome,
            () = self.timer.sleep(limit) => Err(SendError::TimedOut(format!("not within {limit:?}"))),
        }
    }

    fn budget_exhausted(&self, tenant: &TenantName, retry_after: Duration) -> BrokerError {
        self.counters.web_api_refused.increment();
        BrokerError::BudgetExhausted { tenant: tenant.clone(), retry_after }
    }
}

/// Reads a body to its end, up to a maximum size.
async fn read_body(mut response: ApiResponse, most: usize) -> CallResult {
    let mut body = BytesMut::new();
    while let Some(part) = response.body.try_next().await? {
        if body.len() + part.len() > most {
            return Ok(Answer { response, body: Body::TooLarge });
        }
        body.extend_from_slice(&part);
    }
    Ok(Answer { response, body: Body::Complete(body.freeze()) })
}

#[cfg(test)]
mod dead_host_tests;
#[cfg(test)]
mod tests;
