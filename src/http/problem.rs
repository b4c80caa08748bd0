//! Failures as `application/problem+json` (RFC 9457), with the reasons of the error model (CONTRACT section 4).

use std::{borrow::Cow, time::Duration};

use axum::{
    body::Body,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::json;

use crate::{broker::LOOK_FIRST, domain::Reason};

const MEDIA_TYPE: HeaderValue = HeaderValue::from_static("application/problem+json");

/// Why a request fails.
#[derive(Debug, Clone)]
pub(super) struct Problem {
    status: StatusCode,
    reason: Reason,
    detail: Cow<'static, str>,
    retry_after: Option<Duration>,
    outcome_unknown: bool,
}

/// `google.rpc.Code` of a call that was given up.
const ABORTED: i32 = 10;

impl Problem {
    /// With the status that goes with the reason. The detail is for people and never repeats what they sent.
    pub(super) fn new(reason: Reason, detail: impl Into<Cow<'static, str>>) -> Self {
        let mut detail: Cow<'static, str> = detail.into();
        // Texts that gRPC shows too name its message, whose place in HTTP a header takes.
        if detail.contains("RetryInfo") {
            detail = detail.replace("RetryInfo", "Retry-After").into();
        }
        let status = status_of(reason);
        Self { status, reason, detail, retry_after: None, outcome_unknown: false }
    }

    /// For a path that is not served, and for what somebody without a credential may not know.
    pub(super) fn nothing_here() -> Self {
        Self::new(Reason::ResourceNotFound, "there is nothing here; look at the path once more")
    }

    /// For a path that is served to another method.
    pub(super) fn wrong_method() -> Self {
        let status = StatusCode::METHOD_NOT_ALLOWED;
        let detail = "this path takes another method; the header Allow names it".into();
        Self { status, detail, ..Self::new(Reason::Unimplemented, "") }
    }

    /// The same with another status.
    pub(super) fn with_status(self, status: StatusCode) -> Self {
        Self { status, ..self }
    }

    /// The same may succeed after this.
    pub(super) fn after(self, retry_after: Option<Duration>) -> Self {
        Self { retry_after, ..self }
    }

    /// The same after an unsafe request was sent: without advice to send it again, which is what follows the first
    /// semicolon of the detail, and with 504 for 503, after which clients send again.
    pub(super) fn of_unknown_outcome(self) -> Self {
        let status = match self.status {
            StatusCode::SERVICE_UNAVAILABLE => StatusCode::GATEWAY_TIMEOUT,
            status => status,
        };
        let happened = self.detail.split(';').next().unwrap_or_default();
        let detail = format!("{happened}; {LOOK_FIRST}").into();
        Self { status, detail, retry_after: None, outcome_unknown: true, ..self }
    }

    /// The `google.rpc.Code` that a call over gRPC would end with.
    pub(super) fn code(&self) -> i32 {
        match self.status {
            StatusCode::GATEWAY_TIMEOUT if self.reason != Reason::DeadlineExceeded => ABORTED,
            _ => self.reason.code(),
        }
    }

    /// The status of its answer.
    pub(super) fn status(&self) -> StatusCode {
        self.status
    }

    /// The stable part.
    pub(super) fn reason(&self) -> Reason {
        self.reason
    }

    /// Writes itself into the response that carries it.
    pub(super) fn write(&self, request_id: &str, response: &mut Response) {
        let Self { status, reason, detail, retry_after, outcome_unknown } = self;
        let mut body = json!({
            "type": "about:blank",
            "title": status.canonical_reason().unwrap_or_default(),
            "status": status.as_u16(),
            "detail": detail,
            "reason": reason.as_str(),
            "request_id": request_id,
        });
        if let Some(body) = body.as_object_mut().filter(|_| *outcome_unknown) {
            body.insert("outcome".to_owned(), "unknown".into());
        }
        *response.body_mut() = Body::from(body.to_string());
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, MEDIA_TYPE);
        if let Some(after) = retry_after {
            // Whole seconds: nobody is told to come too early.
            let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
    }
}

/// Has its status, and carries the problem to where the id of the request is known.
impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// The status that goes with a reason.
pub(super) fn status_of(reason: Reason) -> StatusCode {
    StatusCode::from_u16(reason.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::BrokerError;

    #[test]
    fn texts_over_http_name_the_header_that_says_when_to_try_again() {
        let error = BrokerError::UpstreamInvalid("cause".into());
        let problem =
            Problem::new(error.reason(), format!("{}; {}", error.message(), error.mend()));
        assert!(problem.detail.ends_with("try again after the time in Retry-After"), "{problem:?}");
    }

    #[test]
    fn every_reason_has_the_status_of_the_contract() {
        for reason in Reason::ALL {
            let wanted = match reason {
                Reason::InvalidArgument => 400,
                Reason::CallerUnauthenticated => 401,
                Reason::PolicyDenied | Reason::PathNotAllowed => 403,
                Reason::ResourceNotFound | Reason::ApplicationNotConfigured => 404,
                Reason::AlreadyExists | Reason::VersionConflict | Reason::WatchTooSlow => 409,
                Reason::ResponseTooLarge => 413,
                Reason::CallerQuotaExceeded | Reason::UpstreamBudgetExhausted => 429,
                Reason::Internal => 500,
                Reason::Unimplemented => 501,
                Reason::TenantNotRunning
                | Reason::ShuttingDown
                | Reason::UpstreamUnavailable
                | Reason::UpstreamInvalidResponse
                | Reason::StoreUnavailable
                | Reason::KeyUnavailable => 503,
                Reason::DeadlineExceeded => 504,
                _ => 412,
            };
            assert_eq!(status_of(*reason).as_u16(), wanted, "{reason:?}");
        }
    }

    #[test]
    fn no_problem_after_an_unsafe_request_was_sent_advises_to_send_it_again() {
        for reason in Reason::ALL {
            let detail = "it broke; send it again after the time in Retry-After";
            let before = Problem::new(*reason, detail).after(Some(Duration::from_secs(2)));
            let problem = before.clone().of_unknown_outcome();
            let wanted = if before.status == 503 { 504 } else { before.status.as_u16() };
            assert_eq!((problem.status.as_u16(), problem.reason), (wanted, *reason));
            let mut response = problem.clone().into_response();
            problem.write("id-1", &mut response);
            assert!(!response.headers().contains_key(header::RETRY_AFTER), "{reason:?}");
            assert_eq!(problem.detail, format!("it broke; {LOOK_FIRST}"));
            let aborted = before.status == 503;
            assert_eq!(problem.code(), if aborted { ABORTED } else { reason.code() }, "{reason:?}");
        }
    }
}
