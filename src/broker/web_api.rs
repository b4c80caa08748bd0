//! Calls to the Web API of tenants: with the right credential, within the upstream budget, healed where that is safe.
//!
//! What is above it demands the witness: this use case is for other use cases, not for callers.

mod budget;
mod credential;
mod dead_host;
mod healing;
mod lane;
mod loan;
mod outcome;

use std::{sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use futures_util::TryStreamExt as _;
use http::StatusCode;

pub(super) use self::dead_host::is_gateways;
pub(super) use self::loan::Loan;
use self::{
    budget::{Budget, NoTurn, Turn},
    credential::{Pass, Passes},
    dead_host::evidence,
    healing::{Healing, Kind, Remedy},
    outcome::{REST_OF_BODY, did_not_run, no_answer},
};
pub use self::{
    lane::CallRate,
    outcome::{SendProgress, Used},
};
use super::{
    Application, Applications, BrokerError, Counters, Impersonation, Sent, Statuses, Tickets,
    error::RETRY_SOON,
};
use crate::{
    access::GrantResource,
    domain::{Eyes, TenantName},
    ports::{
        ApiCall, ApiRequest, ApiResponse, Clock, Random, Refusal, Replay, SendError, UpstreamError,
        Verdict,
    },
};

/// A question that is not answered as a whole by then is given up, however steadily it drips.
const LONGEST_READ: Duration = Duration::from_mins(1);

/// How many turns a call takes while its credential is replaced again and again.
const MAX_TURNS: usize = 3;

/// Who calls, and what the call may cost.
#[derive(Debug, Clone)]
pub struct Asking {
    /// Whose data.
    pub tenant: TenantName,
    /// Seen by whom.
    pub eyes: Eyes,
    /// On whose account it counts: accounts share the budget of a tenant fairly.
    pub account: Arc<str>,
    /// By [`WebApi::moment_in`]; what cannot be done by then is refused at once.
    pub deadline: Option<Duration>,
    /// The person as decided on: one who is called otherwise by now is not acted for.
    pub person: Option<GrantResource>,
}

/// The use case.
pub struct WebApi {
    applications: Arc<Applications>,
    statuses: Arc<Statuses>,
    passes: Passes,
    budget: Budget,
    clock: Arc<dyn Clock>,
    pace: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    counters: Arc<Counters>,
}

/// What a call came to.
type Outcome = Result<Answer, SendError>;

struct Answer {
    response: ApiResponse,
    body: Body,
}

/// Of an answer that is wanted whole.
enum Body {
    /// Still to come, or not wanted.
    ToCome,
    Whole(Bytes),
    TooLarge,
}

/// What is wanted of a call.
#[derive(Clone, Copy)]
struct Want {
    kind: Kind,
    /// The whole body, of at most so many bytes.
    whole: Option<usize>,
}

impl WebApi {
    /// Nothing was called yet. `pace` is the clock by which calls wait for their turns.
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
        pace: Arc<dyn Clock>,
        random: Arc<dyn Random>,
        counters: Arc<Counters>,
    ) -> Self {
        let passes = Passes { tickets, impersonation };
        let budget = Budget::new(Arc::clone(&pace));
        Self { applications, statuses, passes, budget, clock, pace, random, counters }
    }

    /// The moment that is so long from now, for [`Asking::deadline`].
    #[must_use]
    pub fn moment_in(&self, patience: Duration) -> Duration {
        self.pace.monotonic().saturating_add(patience)
    }

    /// How many calls wait for their turns.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.budget.waiting()
    }

    /// Asks a question and reads the whole answer.
    pub(super) async fn read<T>(
        &self,
        asking: &Asking,
        call: &ApiCall<T>,
    ) -> Result<T, BrokerError> {
        let want = Want { kind: Kind::Question, whole: Some(call.max_body_bytes) };
        let (outcome, _) = self.call(asking, call.request(), want, &mut |_| {}).await?;
        let name = &asking.tenant;
        let failed = |error: BrokerError| {
            let cause = error.cause().unwrap_or_default();
            tracing::warn!(tenant = %name, call = call.what, reason = error.reason().as_str(), cause, "no answer from the Web API");
            error
        };
        let answer = outcome.map_err(|error| failed(no_answer(call.what, true, &error)))?;
        let status = answer.response.status;
        let doubtful = |why: &str| {
            failed(BrokerError::UpstreamInvalid(format!("{}: {why}", call.what).into()))
        };
        match (answer.response.verdict, answer.body) {
            (Verdict::Done { .. }, Body::Whole(body)) if status == StatusCode::OK => {
                call.read(&body).map_err(|error| failed(BrokerError::from_upstream(name, &error)))
            }
            (Verdict::Done { .. }, Body::TooLarge) => Err(doubtful("larger than any answer")),
            (Verdict::Done { .. }, _) => Err(doubtful(&format!("HTTP {status}"))),
            // Though the token works, or is new: it is the person that may not.
            (Verdict::CredentialRefused | Verdict::Forbidden, _)
                if asking.eyes != Eyes::SystemUser =>
            {
                Err(doubtful(&format!("HTTP {status} to a person")))
            }
            // Though the ticket works, or is new: it is the system user that may not.
            (Verdict::CredentialRefused | Verdict::Forbidden, _) => {
                Err(failed(BrokerError::Refused(name.clone(), Refusal::Rejected)))
            }
            (Verdict::Misdirected, _) => {
                Err(failed(BrokerError::from_upstream(name, &UpstreamError::Misdirected)))
            }
            (Verdict::Throttled { retry_after }, _) => Err(self.exhausted(name, retry_after)),
            (Verdict::Failed, _) => {
                let failure = SendError::Broken(format!("HTTP {status}"));
                Err(failed(no_answer(call.what, true, &failure)))
            }
        }
    }

    /// Makes a call and returns as soon as the answer begins. What SuperOffice answers in the end is passed on,
    /// whatever it is.
    pub(super) async fn send(
        &self,
        asking: &Asking,
        request: ApiRequest,
        used: Used<'_>,
    ) -> Result<Sent, BrokerError> {
        let safe = request.only_reads();
        let question = safe && request.is_replayable();
        let kind = if question { Kind::Question } else { Kind::Order };
        let want = Want { kind, whole: None };
        let (outcome, pass) = self.call(asking, request, want, used).await?;
        let answer = outcome.map_err(|error| {
            tracing::warn!(tenant = %asking.tenant, %error, "no answer from the Web API");
            no_answer("call", safe, &error)
        })?;
        Ok(Sent { response: answer.response, uri: pass.uri })
    }

    /// Makes a call as often as it takes, and no oftener than is safe.
    async fn call(
        &self,
        asking: &Asking,
        request: ApiRequest,
        want: Want,
        used: Used<'_>,
    ) -> Result<(Outcome, Pass), BrokerError> {
        let application = self.applications.get(&asking.tenant.application)?;
        let mut healing = Healing::new(want.kind);
        let mut pass = self.in_time(asking, self.ready(application, asking)).await?;
        let mut next = request;
        loop {
            let replay = next.replay();
            used(SendProgress::Sends(pass.credential_id()));
            // Before it is sent: a ticket's life slides from then.
            let sent = self.clock.now();
            self.counters.web_api_calls.increment();
            let outcome = Box::pin(self.attempt(application, asking, &pass, next, want)).await;
            let verdict = outcome.as_ref().map(|answer| answer.response.verdict);
            if did_not_run(verdict) {
                used(SendProgress::DidNotRun);
            }
            if verdict == Ok(Verdict::Done { success: true }) {
                self.passes.worked(&asking.tenant, &pass, sent);
            }
            let remedy = if self.has_moved(asking, &pass, want.kind, evidence(&outcome)).await {
                healing.follow(verdict)
            } else {
                healing.remedy(verdict, pass.may_be_forbidden_for_its_age(sent))
            };
            // Of a question that answer would say that the credential is bad for good, which nobody has found out.
            let unproven = remedy == Remedy::ProveCredential && want.kind == Kind::Question;
            // A 403 does not say that nothing was done, so no other error takes the place of that answer.
            let done = verdict == Ok(Verdict::Forbidden) && want.kind == Kind::Order;
            let answers = |error: &BrokerError| {
                done || matches!(error, BrokerError::BudgetExhausted { .. }) && !unproven
            };
            match self.in_time(asking, self.heal(application, asking, &pass, remedy)).await {
                Ok(true) => {}
                Ok(false) => return Ok((outcome, pass)),
                Err(error) if answers(&error) => return Ok((outcome, pass)),
                Err(error) => return Err(error),
            }
            // An unsafe call is not sent again after a 403, which does not prove that it did not run.
            if done {
                return Ok((outcome, pass));
            }
            let Some(request) = self.replayed(asking, replay).await else {
                return Ok((outcome, pass));
            };
            pass = match self.in_time(asking, self.ready(application, asking)).await {
                Ok(pass) => pass,
                // There is no time for another call, so that this one's answer is the last.
                Err(error) if answers(&error) => return Ok((outcome, pass)),
                Err(error) => return Err(error),
            };
            next = request;
            self.counters.web_api_repeats.increment();
        }
    }

    /// Waits for the work that precedes an attempt, but not beyond the deadline of the call.
    async fn in_time<T>(
        &self,
        asking: &Asking,
        work: impl Future<Output = Result<T, BrokerError>>,
    ) -> Result<T, BrokerError> {
        let Some(deadline) = asking.deadline else { return work.await };
        let left = deadline.saturating_sub(self.pace.monotonic());
        tokio::select! {
            biased;
            done = work => done,
            () = self.pace.sleep(left) => {
                let cause = "the credential was not ready before the deadline".into();
                Err(BrokerError::UpstreamUnavailable { retry_after: RETRY_SOON, cause })
            }
        }
    }

    /// Returns the request to send once more; `None` if its body is not copied as a whole, or does not arrive in time.
    async fn replayed(&self, asking: &Asking, replay: Option<Replay>) -> Option<ApiRequest> {
        let replay = replay?;
        let left = asking.deadline.map(|deadline| deadline.saturating_sub(self.pace.monotonic()));
        let limit = left.unwrap_or(REST_OF_BODY).min(REST_OF_BODY);
        tokio::select! {
            biased;
            request = replay.request() => request,
            () = self.pace.sleep(limit) => None,
        }
    }

    /// Does what is to be done before the call is made once more. `false` if it is not made.
    async fn heal(
        &self,
        application: &Application,
        asking: &Asking,
        pass: &Pass,
        remedy: Remedy,
    ) -> Result<bool, BrokerError> {
        let tenant = &asking.tenant;
        match remedy {
            Remedy::None => return Ok(false),
            Remedy::ProveCredential => {
                if self.passes.is_doubtful(tenant, pass) {
                    // Finding out is a call too.
                    self.turn(application, asking).await?;
                    // Somebody else may have found out meanwhile.
                    if self.passes.is_doubtful(tenant, pass) {
                        self.passes.prove(tenant, pass).await?;
                    }
                }
            }
            Remedy::Relocate => self.statuses.misdirected(tenant, &pass.uri),
            Remedy::Follow => {}
            Remedy::WaitOut(how_long) | Remedy::Pause(how_long) => {
                self.counters.web_api_throttled.increment();
                tracing::warn!(%tenant, ?how_long, "SuperOffice wants fewer calls to the tenant");
                self.budget.pause(tenant, application.call_rate, how_long);
                return Ok(matches!(remedy, Remedy::WaitOut(_)));
            }
            Remedy::Again(base) => {
                let pause = self.random.jitter(base);
                if asking.deadline.is_some_and(|deadline| self.moment_in(pause) > deadline) {
                    return Ok(false);
                }
                self.pace.sleep(pause).await;
            }
        }
        Ok(true)
    }

    /// A pass, and a turn to use it. The pass comes first: calls that waited for one together must not go together.
    async fn ready(&self, application: &Application, asking: &Asking) -> Result<Pass, BrokerError> {
        let mut pass = self.passes.pass(asking).await?;
        for _ in 0..MAX_TURNS {
            if let Turn::AtOnce = self.turn(application, asking).await? {
                break;
            }
            // Much may have changed meanwhile: the emergency stop holds at once.
            let before = std::mem::replace(&mut pass, self.passes.pass(asking).await?);
            if pass.is_same(&before) {
                break;
            }
            // Others waited for the new one too, each with a turn in hand: together they would be too many.
        }
        Ok(pass)
    }

    async fn turn(&self, application: &Application, asking: &Asking) -> Result<Turn, BrokerError> {
        let Asking { tenant, account, deadline, .. } = asking;
        let turn = self.budget.turn(tenant, application.call_rate, account, *deadline).await;
        turn.map_err(|NoTurn { retry_after }| self.exhausted(tenant, retry_after))
    }

    async fn attempt(
        &self,
        application: &Application,
        asking: &Asking,
        pass: &Pass,
        request: ApiRequest,
        want: Want,
    ) -> Outcome {
        let answering = async {
            let response = application.web_api.send(&pass.uri, &pass.credential, request).await?;
            match want.whole {
                Some(most) if matches!(response.verdict, Verdict::Done { .. }) => {
                    whole(response, most).await
                }
                _ => Ok(Answer { response, body: Body::ToCome }),
            }
        };
        let answering = self.watched(asking, pass, want.kind, answering);
        let left = asking.deadline.map(|deadline| deadline.saturating_sub(self.pace.monotonic()));
        let most = want.whole.map(|_| LONGEST_READ);
        let Some(limit) = left.into_iter().chain(most).min() else { return answering.await };
        tokio::select! {
            biased;
            outcome = answering => outcome,
            () = self.pace.sleep(limit) => Err(SendError::TimedOut(format!("not within {limit:?}"))),
        }
    }

    fn exhausted(&self, tenant: &TenantName, retry_after: Duration) -> BrokerError {
        self.counters.web_api_refused.increment();
        BrokerError::BudgetExhausted { tenant: tenant.clone(), retry_after }
    }
}

/// Reads a body to its end.
async fn whole(mut response: ApiResponse, most: usize) -> Outcome {
    let mut body = BytesMut::new();
    while let Some(part) = response.body.try_next().await? {
        if body.len() + part.len() > most {
            return Ok(Answer { response, body: Body::TooLarge });
        }
        body.extend_from_slice(&part);
    }
    Ok(Answer { response, body: Body::Whole(body.freeze()) })
}

#[cfg(test)]
mod moved_tests;
#[cfg(test)]
mod tests;
