//! Failures as `application/problem+json` (RFC 9457), with the reasons of the error model.

use std::{borrow::Cow, time::Duration};

use axum::{
    body::Body,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::json;

use crate::{broker::CHECK_SUPEROFFICE_FIRST, domain::Reason};

const MEDIA_TYPE: HeaderValue = HeaderValue::from_static("application/problem+json");

/// The problem document of a failed request.
#[derive(Debug, Clone)]
pub(super) struct Problem {
    status: StatusCode,
    reason: Reason,
    detail: Cow<'static, str>,
    retry_after: Option<Duration>,
    outcome_unknown: bool,
}

/// The `google.rpc.Code` of an aborted call.
const ABORTED: i32 = 10;

impl Problem {
    /// Creates a problem with the status of its reason. The detail is for people and never contains their input.
    pub(super) fn new(reason: Reason, detail: impl Into<Cow<'static, str>>) -> Self {
        let mut detail: Cow<'static, str> = detail.into();
        // Texts that are shared with gRPC name its `RetryInfo`; HTTP has the header Retry-After instead.
        if detail.contains("RetryInfo") {
            detail = detail.replace("RetryInfo", "Retry-After").into();
        }
        let status = status_of(reason);
        Self { status, reason, detail, retry_after: None, outcome_unknown: false }
    }

    /// Returns the problem for an unknown path, or for a resource that an unauthenticated client may not know of.
    pub(super) fn not_found() -> Self {
        Self::new(Reason::ResourceNotFound, "nothing is served at this path; correct the path")
    }

    /// Returns the problem for a path that does not support the method.
    pub(super) fn method_not_allowed() -> Self {
        let status = StatusCode::METHOD_NOT_ALLOWED;
        let detail =
            "this path does not support this method; the header Allow lists the supported ones"
                .into();
        Self { status, detail, ..Self::new(Reason::Unimplemented, "") }
    }

    /// Replaces the status.
    pub(super) fn with_status(self, status: StatusCode) -> Self {
        Self { status, ..self }
    }

    /// Sets the time after which a retry may succeed.
    pub(super) fn with_retry_after(self, retry_after: Option<Duration>) -> Self {
        Self { retry_after, ..self }
    }

    /// Converts the problem for an unsafe request that was already sent: removes the advice to retry, which follows the
    /// first semicolon of the detail, and replaces 503, which clients retry, by 504.
    pub(super) fn with_unknown_outcome(self) -> Self {
        let status = match self.status {
            StatusCode::SERVICE_UNAVAILABLE => StatusCode::GATEWAY_TIMEOUT,
            status => status,
        };
        let happened = self.detail.split(';').next().unwrap_or_default();
        let detail = format!("{happened}; {CHECK_SUPEROFFICE_FIRST}").into();
        Self { status, detail, retry_after: None, outcome_unknown: true, ..self }
    }

    /// Returns the `google.rpc.Code` of the same failure over gRPC.
    pub(super) fn code(&self) -> i32 {
        match self.status {
            StatusCode::GATEWAY_TIMEOUT if self.reason != Reason::DeadlineExceeded => ABORTED,
            _ => self.reason.code(),
        }
    }

    /// Returns the status of the answer.
    pub(super) fn status(&self) -> StatusCode {
        self.status
    }

    /// Returns the reason.
    pub(super) fn reason(&self) -> Reason {
        self.reason
    }

    /// Writes the problem document to a response.
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
            // Rounded up to whole seconds.
            let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
    }
}

/// Returns a response with the problem in its extensions. The body is written later, with the request id.
impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// Returns the status of a reason.
pub(super) fn status_of(reason: Reason) -> StatusCode {
    StatusCode::from_u16(reason.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::BrokerError;

    #[test]
    fn http_texts_name_the_retry_after_header() {
        let error = BrokerError::upstream_invalid("cause");
        let problem =
            Problem::new(error.reason(), format!("{}; {}", error.message(), error.mend()));
        assert!(
            problem.detail.ends_with("try again after the delay in Retry-After"),
            "{problem:?}"
        );
    }

    #[test]
    fn every_reason_has_its_documented_status() {
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
    fn no_problem_after_an_unsafe_request_advises_a_retry() {
        for reason in Reason::ALL {
            let detail = "it broke; send it again after the time in Retry-After";
            let before =
                Problem::new(*reason, detail).with_retry_after(Some(Duration::from_secs(2)));
            let problem = before.clone().with_unknown_outcome();
            let wanted = if before.status == 503 { 504 } else { before.status.as_u16() };
            assert_eq!((problem.status.as_u16(), problem.reason), (wanted, *reason));
            let mut response = problem.clone().into_response();
            problem.write("id-1", &mut response);
            assert!(!response.headers().contains_key(header::RETRY_AFTER), "{reason:?}");
            assert_eq!(problem.detail, format!("it broke; {CHECK_SUPEROFFICE_FIRST}"));
            let aborted = before.status == 503;
            assert_eq!(problem.code(), if aborted { ABORTED } else { reason.code() }, "{reason:?}");
        }
    }
}
