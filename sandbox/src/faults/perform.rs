//! How a fault befalls a call.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::body::Body;
use hyper::header::HeaderValue;
use hyper::{Response, StatusCode};

use super::{Fault, FaultBody};
use crate::answer::{self, Answer};
use crate::counts::Running;
use crate::endpoint::Endpoint;
use crate::platform::Platform;

/// The service ends the connection without an answer.
#[derive(Debug, thiserror::Error)]
#[error("the connection was ended on purpose")]
pub(crate) struct Aborted;

/// How a connection is to end.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ending {
    reset: Arc<AtomicBool>,
}

impl Ending {
    pub(crate) fn is_reset(&self) -> bool {
        self.reset.load(Ordering::Relaxed)
    }

    fn reset(&self) {
        self.reset.store(true, Ordering::Relaxed);
    }
}

/// A call that was counted; it counts as running until this is dropped.
pub(crate) struct Call<'a> {
    platform: &'a Platform,
    endpoint: Endpoint,
    ending: &'a Ending,
    _running: Running<'a>,
}

impl<'a> Call<'a> {
    pub(crate) fn begin(platform: &'a Platform, endpoint: Endpoint, ending: &'a Ending) -> Self {
        let running = platform.counts.enter(endpoint);
        Self { platform, endpoint, ending, _running: running }
    }

    /// Answers the call: as its fault says, or with the handler's answer. The handler gets the
    /// fault if the fault is about the content of the answer.
    pub(crate) async fn answer(
        self,
        tenant: Option<&str>,
        handler: impl FnOnce(Option<&Fault>) -> Answer,
    ) -> Result<Response<Body>, Aborted> {
        if let Some(tenant) = tenant {
            self.platform.counts.tenant_called(self.endpoint, tenant);
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
                self.befall(&fault, |_| answer).await
            }
            fault => self.befall(&fault, handler).await,
        }
    }

    async fn befall(
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
            Fault::Huge { mebibytes } => return Ok(answer::huge(*mebibytes)),
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
