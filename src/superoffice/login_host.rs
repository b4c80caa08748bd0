//! Talking to one login host: everything goes through its gate, and every answer tells its time.

use std::sync::Arc;

use http::{HeaderValue, Method};
use tokio::time::{Instant, timeout_at};

use super::{
    client::{Answer, Client, Profile},
    fault::Fault,
    gate::Gate,
    skew::ClockSkew,
};
use crate::{
    outbound::Request,
    ports::{Clock, ExchangeError, Random, UpstreamError},
};

/// Work that waits until then at most, where it has a limit.
pub(super) async fn before<T>(
    until: Option<Instant>,
    work: impl Future<Output = Result<T, UpstreamError>>,
) -> Result<T, UpstreamError> {
    let Some(until) = until else { return work.await };
    let late = |_| UpstreamError::Unavailable("it was not its turn in time".to_owned());
    timeout_at(until, work).await.map_err(late)?
}

/// The media type of answers.
pub(super) const JSON: &str = "application/json";

/// What all applications of one login host share.
pub struct LoginHost {
    client: Client,
    uri: String,
    gate: Gate,
    skew: ClockSkew,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
}

impl LoginHost {
    /// The host at `uri` (without a trailing slash), which is asked by at most `max_concurrent` calls at one time.
    #[must_use]
    pub fn new(
        client: Client,
        uri: String,
        max_concurrent: u32,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> Self {
        let gate = Gate::new(max_concurrent, Arc::clone(&clock), Arc::clone(&random));
        Self { client, uri, gate, skew: ClockSkew::default(), clock, random }
    }

    /// Whether it is given a rest because it does not answer.
    #[must_use]
    pub fn circuit_is_open(&self) -> bool {
        self.gate.is_open()
    }

    /// How far its clock is from ours, in seconds.
    #[must_use]
    pub fn clock_skew_seconds(&self) -> i64 {
        self.skew.seconds()
    }

    /// Where `path` is.
    pub(super) fn address(&self, path: &str) -> String {
        format!("{}{path}", self.uri)
    }

    pub(super) fn get(&self, path: &str) -> Request {
        self.get_accepting(path, JSON)
    }

    /// As [`Self::get`], with other media types.
    pub(super) fn get_accepting(&self, path: &str, accept: &'static str) -> Request {
        Request::get(&self.address(path), accept)
    }

    pub(super) fn post(&self, path: &str) -> Request {
        let request = Request::new(Method::POST, &self.address(path));
        request.header("accept", HeaderValue::from_static(JSON))
    }

    /// Asks once, past the gate: to find out whether the host answers.
    pub(super) async fn ask_once(&self, profile: Profile, path: &str) -> Result<Answer, Fault> {
        self.client.once(profile, self.get(path)).await
    }

    pub(super) async fn send(
        &self,
        profile: Profile,
        request: impl Fn() -> Request,
    ) -> Result<Answer, UpstreamError> {
        self.through_the_gate(profile, None, request).await?.map_err(|fault| fault.of(profile))
    }

    /// As [`Self::send`], and a failure tells whether the request may have arrived. It is not sent later than `until`;
    /// from then on it has its whole time.
    pub(super) async fn exchange(
        &self,
        profile: Profile,
        until: Option<Instant>,
        request: impl Fn() -> Request,
    ) -> Result<Answer, ExchangeError> {
        let result = self.through_the_gate(profile, until, request).await;
        let fault = match result.map_err(ExchangeError::NotSent)? {
            Ok(answer) => return Ok(answer),
            Err(fault) => fault,
        };
        let surely_not_sent = fault.is_before_sending();
        Err(match fault.of(profile) {
            error if surely_not_sent => ExchangeError::NotSent(error),
            UpstreamError::InvalidResponse(detail) => ExchangeError::InvalidResponse(detail),
            UpstreamError::Unavailable(detail) => ExchangeError::Transient(detail),
            other => ExchangeError::Transient(other.to_string()),
        })
    }

    async fn through_the_gate(
        &self,
        profile: Profile,
        until: Option<Instant>,
        request: impl Fn() -> Request,
    ) -> Result<Result<Answer, Fault>, UpstreamError> {
        let passage = before(until, self.gate.enter()).await?;
        let result = self.client.send(profile, &*self.random, request).await;
        passage.report(result.as_ref().err().is_some_and(Fault::is_the_hosts));
        if let Ok(Answer { date: Some(date), .. }) = &result {
            self.skew.note(date, self.clock.now());
        }
        Ok(result)
    }
}
