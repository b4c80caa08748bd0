//! Errors of the token endpoint as in RFC 6749 section 5.2. SuperOffice documents none (inferred).

use hyper::StatusCode;
use hyper::header::{CACHE_CONTROL, HeaderValue, WWW_AUTHENTICATE};
use serde_json::json;

use crate::answer::Answer;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OAuthError {
    InvalidRequest(&'static str),
    /// `basic` is true if the client authenticated by header; the response then has
    /// `WWW-Authenticate`.
    InvalidClient {
        basic: bool,
    },
    InvalidGrant(&'static str),
    UnsupportedGrantType,
    /// The tenant is in maintenance or suspended. Says nothing about the grant.
    TenantUnavailable,
    /// The cryptographic library failed.
    CryptoFailure,
}

impl OAuthError {
    pub(super) fn answer(self) -> Answer {
        let (status, code, description) = match self {
            Self::InvalidRequest(text) => (StatusCode::BAD_REQUEST, "invalid_request", text),
            Self::InvalidClient { .. } => {
                (StatusCode::UNAUTHORIZED, "invalid_client", "The client is not authenticated.")
            }
            Self::InvalidGrant(text) => (StatusCode::BAD_REQUEST, "invalid_grant", text),
            Self::UnsupportedGrantType => {
                let text = "The grant type is not supported.";
                (StatusCode::BAD_REQUEST, "unsupported_grant_type", text)
            }
            Self::TenantUnavailable => {
                return Answer::html(StatusCode::SERVICE_UNAVAILABLE, "Technical error");
            }
            Self::CryptoFailure => return Answer::empty(StatusCode::INTERNAL_SERVER_ERROR),
        };
        let body = json!({ "error": code, "error_description": description });
        let answer =
            Answer::json(status, &body).with(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if self == (Self::InvalidClient { basic: true }) {
            let challenge = HeaderValue::from_static("Basic realm=\"SuperOffice\"");
            return answer.with(WWW_AUTHENTICATE, challenge);
        }
        answer
    }
}

impl From<aws_lc_rs::error::Unspecified> for OAuthError {
    fn from(_: aws_lc_rs::error::Unspecified) -> Self {
        Self::CryptoFailure
    }
}
