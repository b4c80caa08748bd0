//! Calls to the Web API of tenants: adds the credential, respects the upstream budget, and retries where that is safe.
//!
//! Only other use cases call this one; they require the [`Authorized`](crate::access::Authorized) witness of a caller.

mod budget;
mod call;
mod credential;
mod credential_headers;
mod dead_host;
mod outcome;
mod retry;
mod tenant_limiter;

use std::{sync::Arc, time::Duration};

use http::StatusCode;

pub(super) use self::credential_headers::CredentialHeaders;
pub(super) use self::dead_host::is_gateway_error;
use self::{
    budget::{Budget, OverLimit, Permit},
    call::{Answer, Body, CallOptions, CallResult},
    credential::{CredentialSource, UpstreamCredential},
    dead_host::{DeadHostDetector, host_failure},
    outcome::{BODY_COPY_TIMEOUT, did_not_run, no_answer_error},
    retry::{RetryAction, RetryState, Safety},
};
pub use self::{
    call::{WebApiCallContext, WebApiResponse},
    outcome::{ProgressCallback, SendProgress},
    tenant_limiter::CallRate,
};
use super::{
    Application, Applications, BrokerError, Counters, Impersonation, Runtime, Statuses, Tickets,
    error::RETRY_SOON,
};
use crate::{
    domain::{Actor, TenantName},
    ports::{
        ApiQuery, ApiRequest, CallOutcome, Clock, Random, Refusal, Replay, SendError, UpstreamError,
    },
};

/// The time limit for reading a whole answer, even if data keeps arriving slowly.
const MAX_READ_TIME: Duration = Duration::from_mins(1);

/// The maximum number of permits that one call acquires while its credential keeps changing.
const MAX_ACQUISITIONS: usize = 3;

/// The use case of calls to the Web API.
pub struct WebApi {
    applications: Arc<Applications>,
    statuses: Arc<Statuses>,
    credentials: CredentialSource,
    hosts: DeadHostDetector,
    budget: Budget,
    clock: Arc<dyn Clock>,
    timer: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    counters: Arc<Counters>,
}

impl WebApi {
    /// Creates the use case. Waits for permits, pauses and deadlines use the runtime's timer.
    #[must_use]
    pub fn new(
        applications: Arc<Applications>,
        statuses: Arc<Statuses>,
        tickets: Arc<Tickets>,
        impersonation: Arc<Impersonation>,
        runtime: &Runtime,
    ) -> Self {
        let Runtime { clock, timer, random, counters, .. } = runtime.clone();
        let credentials = CredentialSource { tickets, impersonation };
        let hosts = DeadHostDetector { statuses: Arc::clone(&statuses), timer: Arc::clone(&timer) };
        let budget = Budget::new(Arc::clone(&timer));
        Self { applications, statuses, credentials, hosts, budget, clock, timer, random, counters }
    }

    /// Returns the moment that is `max_wait` from now, for [`WebApiCallContext::deadline`].
    #[must_use]
    pub fn deadline_in(&self, max_wait: Duration) -> Duration {
        self.timer.monotonic().saturating_add(max_wait)
    }

    /// Returns the number of calls that wait for a permit.
    #[must_use]
    pub fn waiting_calls(&self) -> usize {
        self.budget.waiting()
    }

    /// Makes a safe call and reads the whole answer.
    pub(super) async fn read<T>(
        &self,
        context: &WebApiCallContext,
        call: &ApiQuery<T>,
    ) -> Result<T, BrokerError> {
        let options =
            CallOptions { safety: Safety::Safe, max_body_bytes: Some(call.max_body_bytes) };
        let (result, _) = self.call(context, call.request(), options, &mut |_| {}).await?;
        let name = &context.tenant;
        let failed = |error: BrokerError| {
            let cause = error.cause().unwrap_or_default();
            tracing::warn!(tenant = %name, call = call.what, reason = error.reason().as_str(), cause, "no answer from the Web API");
            error
        };
        let answer = result.map_err(|error| failed(no_answer_error(call.what, true, &error)))?;
        let status = answer.response.status;
        let invalid =
            |why: &str| failed(BrokerError::upstream_invalid(format!("{}: {why}", call.what)));
        match (answer.response.outcome, answer.body) {
            (CallOutcome::Done { .. }, Body::Complete(body)) if status == StatusCode::OK => {
                call.read(&body).map_err(|error| failed(BrokerError::from_upstream(name, &error)))
            }
            (CallOutcome::Done { .. }, Body::TooLarge) => {
                Err(invalid("the answer exceeds the size limit"))
            }
            (CallOutcome::Done { .. }, _) => Err(invalid(&format!("HTTP {status}"))),
            // The access token was verified or is new, so the person lacks the right.
            (CallOutcome::CredentialRefused | CallOutcome::Forbidden, _)
                if context.actor != Actor::SystemUser =>
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
        context: &WebApiCallContext,
        request: ApiRequest,
        on_progress: ProgressCallback<'_>,
    ) -> Result<WebApiResponse, BrokerError> {
        let safe = request.is_safe_method();
        let repeatable = safe && request.is_replayable();
        let safety = if repeatable { Safety::Safe } else { Safety::Unsafe };
        let options = CallOptions { safety, max_body_bytes: None };
        let (result, credential) = self.call(context, request, options, on_progress).await?;
        let answer = result.map_err(|error| {
            tracing::warn!(tenant = %context.tenant, %error, "no answer from the Web API");
            no_answer_error("call", safe, &error)
        })?;
        Ok(WebApiResponse { response: answer.response, uri: credential.uri })
    }

    /// Makes a call, and repeats it where that may help and is safe.
    async fn call(
        &self,
        context: &WebApiCallContext,
        request: ApiRequest,
        options: CallOptions,
        on_progress: ProgressCallback<'_>,
    ) -> Result<(CallResult, UpstreamCredential), BrokerError> {
        let application = self.applications.get(&context.tenant.application)?;
        let mut retry_state = RetryState::new(options.safety);
        let mut credential =
            self.before_deadline(context, self.acquire(application, context)).await?;
        let mut next = request;
        loop {
            let replay = next.replay();
            on_progress(SendProgress::Sending(credential.credential_id()));
            // Taken before sending: the ticket's expiry time is extended from this moment.
            let sent_at = self.clock.now();
            self.counters.web_api_calls.increment();
            let result =
                Box::pin(self.attempt(application, context, &credential, next, options)).await;
            let outcome = result.as_ref().map(|answer| answer.response.outcome);
            if did_not_run(outcome) {
                on_progress(SendProgress::DidNotRun);
            }
            if outcome == Ok(CallOutcome::Done { success: true }) {
                self.credentials.record_success(&context.tenant, &credential, sent_at);
            }
            let (safety, failure) = (options.safety, host_failure(&result));
            let action = if self.hosts.has_moved(context, &credential.uri, safety, failure).await {
                retry_state.action_after_move(outcome)
            } else {
                retry_state.next_action(outcome, credential.may_have_expired(sent_at))
            };
            // For a safe call, returning this 401 would say that the credential is dead, which is not verified.
            let unproven = action == RetryAction::VerifyCredential && safety == Safety::Safe;
            // A 403 does not prove that the call did not run: an unsafe call is not sent again, and no other error may
            // replace that answer.
            let is_final = outcome == Ok(CallOutcome::Forbidden) && safety == Safety::Unsafe;
            let replay = if is_final { None } else { replay };
            match self.prepare_attempt(application, context, &credential, action, replay).await {
                Ok(Some((request, new))) => (next, credential) = (request, new),
                Ok(None) => return Ok((result, credential)),
                Err(BrokerError::BudgetExhausted { .. }) if !unproven => {
                    return Ok((result, credential));
                }
                Err(_) if is_final => return Ok((result, credential)),
                Err(error) => return Err(error),
            }
            self.counters.web_api_repeats.increment();
        }
    }

    /// Does the work that must precede another attempt, and returns its request and credential. Returns `None` if there
    /// is no other attempt.
    async fn prepare_attempt(
        &self,
        application: &Application,
        context: &WebApiCallContext,
        credential: &UpstreamCredential,
        action: RetryAction,
        replay: Option<Replay>,
    ) -> Result<Option<(ApiRequest, UpstreamCredential)>, BrokerError> {
        let applied = self.apply_action(application, context, credential, action);
        if !self.before_deadline(context, applied).await? {
            return Ok(None);
        }
        let Some(request) = self.rebuild_request(context, replay).await else { return Ok(None) };
        let next = self.before_deadline(context, self.acquire(application, context)).await?;
        Ok(Some((request, next)))
    }

    fn time_left(&self, context: &WebApiCallContext) -> Option<Duration> {
        context.time_left(self.timer.monotonic())
    }

    /// Waits for the work before an attempt, but not beyond the deadline of the call.
    async fn before_deadline<T>(
        &self,
        context: &WebApiCallContext,
        work: impl Future<Output = Result<T, BrokerError>>,
    ) -> Result<T, BrokerError> {
        let Some(left) = self.time_left(context) else { return work.await };
        tokio::select! {
            biased;
            done = work => done,
            () = self.timer.sleep(left) => {
                let cause = "the preparation of the attempt did not end before the deadline".into();
                Err(BrokerError::UpstreamUnavailable { retry_after: RETRY_SOON, cause })
            }
        }
    }

    /// Returns the request to send again; `None` if its body has no full copy, or its rest does not arrive in time.
    async fn rebuild_request(
        &self,
        context: &WebApiCallContext,
        replay: Option<Replay>,
    ) -> Option<ApiRequest> {
        let replay = replay?;
        let limit = self.time_left(context).unwrap_or(BODY_COPY_TIMEOUT).min(BODY_COPY_TIMEOUT);
        tokio::select! {
            biased;
            request = replay.request() => request,
            () = self.timer.sleep(limit) => None,
        }
    }

    /// Does what `action` requires before another attempt. Returns `false` if there is no other attempt.
    async fn apply_action(
        &self,
        application: &Application,
        context: &WebApiCallContext,
        credential: &UpstreamCredential,
        action: RetryAction,
    ) -> Result<bool, BrokerError> {
        let tenant = &context.tenant;
        match action {
            RetryAction::GiveUp => return Ok(false),
            RetryAction::VerifyCredential => {
                if self.credentials.needs_verification(tenant, credential) {
                    // The probe is a call, too, and needs a permit.
                    self.acquire_permit(application, context).await?;
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
                if context.deadline.is_some_and(|deadline| self.deadline_in(pause) > deadline) {
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
        context: &WebApiCallContext,
    ) -> Result<UpstreamCredential, BrokerError> {
        let mut credential = self.credentials.get(context).await?;
        for _ in 0..MAX_ACQUISITIONS {
            if let Permit::Immediate = self.acquire_permit(application, context).await? {
                break;
            }
            // The state may have changed while waiting: a disabled tenant must stop at once.
            let before = std::mem::replace(&mut credential, self.credentials.get(context).await?);
            if credential.is_same(&before) {
                break;
            }
            // The credential changed while this call waited. All calls that waited for it would now be sent together,
            // so each takes another permit.
        }
        Ok(credential)
    }

    async fn acquire_permit(
        &self,
        application: &Application,
        context: &WebApiCallContext,
    ) -> Result<Permit, BrokerError> {
        let WebApiCallContext { tenant, queue_key, deadline, .. } = context;
        let permit = self.budget.acquire(tenant, application.call_rate, queue_key, *deadline).await;
        permit.map_err(|OverLimit { retry_after }| self.budget_exhausted(tenant, retry_after))
    }

    async fn attempt(
        &self,
        application: &Application,
        context: &WebApiCallContext,
        credential: &UpstreamCredential,
        request: ApiRequest,
        options: CallOptions,
    ) -> CallResult {
        let answer = async {
            let response =
                application.web_api.send(&credential.uri, &credential.credential, request).await?;
            match options.max_body_bytes {
                Some(max_bytes) if matches!(response.outcome, CallOutcome::Done { .. }) => {
                    Answer::read(response, max_bytes).await
                }
                _ => Ok(Answer { response, body: Body::Streaming }),
            }
        };
        let answer = self.hosts.watch(context, &credential.uri, options.safety, answer);
        let left = self.time_left(context);
        let max_read_time = options.max_body_bytes.map(|_| MAX_READ_TIME);
        let Some(limit) = left.into_iter().chain(max_read_time).min() else { return answer.await };
        tokio::select! {
            biased;
            result = answer => result,
            () = self.timer.sleep(limit) => Err(SendError::TimedOut(format!("not within {limit:?}"))),
        }
    }

    fn budget_exhausted(&self, tenant: &TenantName, retry_after: Duration) -> BrokerError {
        self.counters.web_api_refused.increment();
        BrokerError::BudgetExhausted { tenant: tenant.clone(), retry_after }
    }
}

#[cfg(test)]
mod dead_host_tests;
#[cfg(test)]
mod tests;
