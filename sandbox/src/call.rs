//! Executes a call and applies its fault.

use std::time::Duration;

use axum::body::Body;
use hyper::header::HeaderValue;
use hyper::{Response, StatusCode};

use crate::answer::{self, Answer};
use crate::counts::RunningCall;
use crate::endpoint::Endpoint;
use crate::faults::{Fault, FaultBody};
use crate::net::{Aborted, ConnectionEnd};
use crate::platform::Platform;

/// A counted call. It counts as in progress until it is dropped.
pub(crate) struct Call<'a> {
    platform: &'a Platform,
    endpoint: Endpoint,
    ending: &'a ConnectionEnd,
    _running: RunningCall<'a>,
}

impl<'a> Call<'a> {
    pub(crate) fn begin(
        platform: &'a Platform,
        endpoint: Endpoint,
        ending: &'a ConnectionEnd,
    ) -> Self {
        let running = platform.counts.begin_call(endpoint);
        Self { platform, endpoint, ending, _running: running }
    }

    /// Answers the call with its fault or with the handler's response. A fault that changes the
    /// content is passed to the handler.
    pub(crate) async fn answer(
        self,
        tenant: Option<&str>,
        handler: impl FnOnce(Option<&Fault>) -> Answer,
    ) -> Result<Response<Body>, Aborted> {
        if let Some(tenant) = tenant {
            self.platform.counts.count_tenant_call(self.endpoint, tenant);
        }
        let plan = self.platform.faults.take(self.endpoint, tenant);
        if !plan.delay.is_zero() {
            tokio::time::sleep(plan.delay).await;
        }
        let Some(fault) = plan.fault else {
            return Ok(handler(None).into_response());
        };
        match fault {
            Fault::AfterEffect { fault } => {
                let answer = handler(None);
                self.apply_fault(&fault, |_| answer).await
            }
            fault => self.apply_fault(&fault, handler).await,
        }
    }

    async fn apply_fault(
        &self,
        fault: &Fault,
        handler: impl FnOnce(Option<&Fault>) -> Answer,
    ) -> Result<Response<Body>, Aborted> {
        let answer = match fault {
            Fault::Hang => return std::future::pending().await,
            Fault::Reset => {
                self.ending.reset();
                return Err(Aborted);
            }
            Fault::Close => return Err(Aborted),
            Fault::Truncate => return Ok(handler(None).into_truncated()),
            Fault::Huge { mebibytes } => return Ok(answer::huge_json(*mebibytes)),
            Fault::Html => Answer::html(StatusCode::OK, "Sign in"),
            Fault::Redirect { location } => {
                let location = HeaderValue::from_str(location).map_err(|_| Aborted)?;
                Answer::redirect(location)
            }
            Fault::Status { status, body, retry_after } => {
                let status = StatusCode::from_u16(*status).map_err(|_| Aborted)?;
                status_answer(status, body, *retry_after)
            }
            Fault::Delay { milliseconds } => {
                tokio::time::sleep(Duration::from_millis(*milliseconds)).await;
                handler(None)
            }
            fault => handler(Some(fault)),
        };
        Ok(answer.into_response())
    }
}

fn status_answer(status: StatusCode, body: &FaultBody, retry_after: Option<u64>) -> Answer {
    let answer = match body {
        FaultBody::Empty => Answer::empty(status),
        FaultBody::Json(value) => Answer::json(status, value),
        FaultBody::Html(page) => Answer::html_page(status, page),
    };
    match retry_after {
        Some(seconds) => answer.with_retry_after(seconds),
        None => answer,
    }
}
