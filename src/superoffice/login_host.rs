//! The client of one login host. It limits calls, and records the clock difference from each response.

use std::sync::Arc;

use http::{HeaderValue, Method};
use tokio::time::{Instant, timeout_at};

use super::{
    call_limiter::CallLimiter,
    client::{Answer, Client, RequestLimits},
    fault::Fault,
    skew::ClockSkew,
};
use crate::{
    outbound::Request,
    ports::{Clock, ExchangeError, Random, UpstreamError},
};

/// Runs `work` until the deadline, if there is one.
pub(super) async fn with_deadline<T>(
    until: Option<Instant>,
    work: impl Future<Output = Result<T, UpstreamError>>,
) -> Result<T, UpstreamError> {
    let Some(until) = until else { return work.await };
    let late = |_| {
        UpstreamError::Unavailable(
            "the deadline passed while the call waited in the queue".to_owned(),
        )
    };
    timeout_at(until, work).await.map_err(late)?
}

/// The media type of responses.
pub(super) const JSON: &str = "application/json";

/// A login host, which all of its applications share.
pub struct LoginHost {
    client: Client,
    uri: String,
    limiter: CallLimiter,
    skew: ClockSkew,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
}

impl LoginHost {
    /// Creates the client of `uri` (without a trailing slash), with at most `max_concurrent` concurrent calls.
    #[must_use]
    pub fn new(
        client: Client,
        uri: String,
        max_concurrent: u32,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> Self {
        let limiter = CallLimiter::new(max_concurrent, Arc::clone(&clock), Arc::clone(&random));
        Self { client, uri, limiter, skew: ClockSkew::default(), clock, random }
    }

    /// Returns whether the circuit is open because the host does not answer.
    #[must_use]
    pub fn circuit_is_open(&self) -> bool {
        self.limiter.is_open()
    }

    /// Returns its time minus the local time, in seconds.
    #[must_use]
    pub fn clock_skew_seconds(&self) -> i64 {
        self.skew.seconds()
    }

    /// Returns the URI of `path`.
    pub(super) fn address(&self, path: &str) -> String {
        format!("{}{path}", self.uri)
    }

    pub(super) fn get(&self, path: &str) -> Request {
        self.get_accepting(path, JSON)
    }

    /// Like [`Self::get`], with other media types.
    pub(super) fn get_accepting(&self, path: &str, accept: &'static str) -> Request {
        Request::get(&self.address(path), accept)
    }

    pub(super) fn post(&self, path: &str) -> Request {
        let request = Request::new(Method::POST, &self.address(path));
        request.header("accept", HeaderValue::from_static(JSON))
    }

    /// Sends one `GET` that bypasses the call limiter, to check whether the host answers.
    pub(super) async fn get_once(
        &self,
        limits: RequestLimits,
        path: &str,
    ) -> Result<Answer, Fault> {
        self.client.send_once(limits, self.get(path)).await
    }

    pub(super) async fn send(
        &self,
        limits: RequestLimits,
        request: impl Fn() -> Request,
    ) -> Result<Answer, UpstreamError> {
        self.send_limited(limits, None, request)
            .await?
            .map_err(|fault| fault.into_upstream_error(limits))
    }

    /// Like [`Self::send`], but the error says whether the request may have arrived. The request is not started after
    /// `until`; once started, it has its full time limit.
    pub(super) async fn exchange(
        &self,
        limits: RequestLimits,
        until: Option<Instant>,
        request: impl Fn() -> Request,
    ) -> Result<Answer, ExchangeError> {
        let result = self.send_limited(limits, until, request).await;
        let fault = match result.map_err(ExchangeError::NotSent)? {
            Ok(answer) => return Ok(answer),
            Err(fault) => fault,
        };
        let surely_not_sent = fault.is_not_sent();
        Err(match fault.into_upstream_error(limits) {
            error if surely_not_sent => ExchangeError::NotSent(error),
            UpstreamError::InvalidResponse(detail) => ExchangeError::InvalidResponse(detail),
            UpstreamError::Unavailable(detail) => ExchangeError::Transient(detail),
            other => ExchangeError::Transient(other.to_string()),
        })
    }

    async fn send_limited(
        &self,
        limits: RequestLimits,
        until: Option<Instant>,
        request: impl Fn() -> Request,
    ) -> Result<Result<Answer, Fault>, UpstreamError> {
        let permit = with_deadline(until, self.limiter.acquire()).await?;
        let result = self.client.send(limits, &*self.random, request).await;
        permit.report(result.as_ref().err().is_some_and(Fault::is_host_failure));
        if let Ok(Answer { date: Some(date), .. }) = &result {
            self.skew.record(date, self.clock.now());
        }
        Ok(result)
    }
}
