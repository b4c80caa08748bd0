//! Calls to the Web API of a tenant, with results that a use case can branch on.
//!
//! The use case chooses the host and the credential of each call.

use std::{fmt, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use http::{HeaderMap, Method, StatusCode};
use secrecy::SecretString;

use super::{BodyCopy, BodyParts, UpstreamError};
use crate::domain::WebApiUri;

/// A call to the Web API, without the credential.
#[derive(Debug)]
pub struct ApiRequest {
    /// The HTTP method.
    pub method: Method,
    /// The part of the URI after the tenant's `…/api`: empty, or starting with `/` or `?`.
    pub path_and_query: String,
    /// The headers. Credentials in them are replaced by the credential of the call.
    pub headers: HeaderMap,
    /// The body.
    pub body: ApiBody,
    /// The longest wait for the start of the response. With a streamed body, the time counts from its last part.
    pub response_timeout: Duration,
}

/// The body of a request.
pub enum ApiBody {
    /// A buffered body, which can be sent again.
    Whole(Bytes),
    /// A body that arrives while it is sent, and only once.
    Stream {
        /// The parts of the body.
        parts: BodyParts,
        /// The length in bytes, if it is known in advance.
        length: Option<u64>,
        /// The copy that is taken while the body is sent, if one is taken.
        copy: Option<BodyCopy>,
    },
}

/// A request that was sent and may be sent once more. Dropping it frees the copy of the body.
#[derive(Debug)]
pub struct Replay {
    method: Method,
    path_and_query: String,
    headers: HeaderMap,
    body: ReplayBody,
    answer_within: Duration,
}

enum ReplayBody {
    Whole(Bytes),
    Copy(BodyCopy),
}

impl Replay {
    /// Reads the rest of a body that still arrives, and returns the request. Returns `None` if the body is too long for
    /// a copy, if it failed, or if the memory budget for copies is used up.
    pub async fn request(self) -> Option<ApiRequest> {
        let Self { method, path_and_query, headers, body, answer_within } = self;
        let body = match body {
            ReplayBody::Whole(body) => body,
            ReplayBody::Copy(copy) => copy.into_bytes().await?,
        };
        let body = ApiBody::Whole(body);
        Some(ApiRequest { method, path_and_query, headers, body, response_timeout: answer_within })
    }
}

/// A response of the Web API.
pub struct ApiResponse {
    /// The meaning of the status for the call.
    pub outcome: CallOutcome,
    /// The status, for forwarding.
    pub status: StatusCode,
    /// The headers as received.
    pub headers: HeaderMap,
    /// The body, read as it is polled. It can be interrupted.
    pub body: BoxStream<'static, Result<Bytes, SendError>>,
}

/// The meaning of a response for the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallOutcome {
    /// The host processed the call: it succeeded, or it was rejected because of its content.
    Done {
        /// Whether it succeeded. Then the credential was used.
        success: bool,
    },
    /// The host does not accept the credential (401).
    CredentialRefused,
    /// The credential does not permit the call, or it has expired (403).
    Forbidden,
    /// The tenant is on another host (421).
    Misdirected,
    /// Too many calls (429).
    Throttled {
        /// The time to wait before the next call.
        retry_after: Duration,
    },
    /// The host failed (5xx).
    Failed,
}

/// A call without a response. Details are written by the gateway, for the log, and never repeat received text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The host was not reached, so nothing was sent.
    #[error("not sent: {0}")]
    NotSent(String),
    /// The request is invalid and cannot be sent to any host.
    #[error("cannot be sent: {0}")]
    InvalidRequest(String),
    /// The connection failed after the request was sent. The host may have processed it.
    #[error("connection lost: {0}")]
    Interrupted(String),
    /// The time for the call is used up. The host may have processed it.
    #[error("timed out: {0}")]
    TimedOut(String),
}

/// The credential of a call, in the form that SuperOffice requires.
#[derive(Debug, Clone)]
pub enum ApiCredential {
    /// The system user's ticket, which works only together with the client secret.
    SystemUser {
        /// The ticket, which starts with `7T:`.
        ticket: SecretString,
    },
    /// A person's access token.
    Person {
        /// The access token, which starts with `8A:`.
        access_token: SecretString,
    },
}

/// Sends calls to the Web API. An implementation belongs to one application.
#[async_trait]
pub trait WebApiHost: Send + Sync + 'static {
    /// Sends the request once, with only this credential, and returns when the response starts.
    ///
    /// Does not follow redirects, and sends nothing outside `uri`.
    async fn send(
        &self,
        uri: &WebApiUri,
        credential: &ApiCredential,
        request: ApiRequest,
    ) -> Result<ApiResponse, SendError>;

    /// Returns the headers that carry this credential, for a proxy that sends the call itself.
    ///
    /// # Errors
    /// If the credential is not a valid header value.
    fn credential_headers(&self, credential: &ApiCredential) -> Result<HeaderMap, SendError>;
}

/// The longest wait for the start of the response to the gateway's own queries. SuperOffice documents no limit; its own
/// clients wait this long.
const QUERY_TIMEOUT: Duration = Duration::from_secs(30);

/// Parses the body of a response.
type Parser<T> = Box<dyn Fn(&[u8]) -> Result<T, UpstreamError> + Send + Sync>;

/// A safe (RFC 9110 section 9.2.1) query to the Web API and the parser of its response.
pub struct ApiQuery<T> {
    /// The name of the query in logs.
    pub what: &'static str,
    /// The HTTP method.
    pub method: Method,
    /// The part of the URI after the tenant's `…/api`.
    pub path_and_query: String,
    /// The headers, without a credential.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
    /// The maximum size of the response; a larger one is an error.
    pub max_body_bytes: usize,
    /// Parses the complete body of a 200 response.
    pub parser: Parser<T>,
}

impl<T> ApiQuery<T> {
    /// Returns the request. It can be called for each retry.
    #[must_use]
    pub fn request(&self) -> ApiRequest {
        ApiRequest {
            method: self.method.clone(),
            path_and_query: self.path_and_query.clone(),
            headers: self.headers.clone(),
            body: ApiBody::Whole(self.body.clone()),
            response_timeout: QUERY_TIMEOUT,
        }
    }

    /// Parses the complete body of a 200 response.
    ///
    /// # Errors
    /// If the body is invalid.
    pub fn read(&self, body: &[u8]) -> Result<T, UpstreamError> {
        (self.parser)(body)
    }
}

impl ApiRequest {
    /// Returns a replay of this request, or `None` if its body arrives only once and is not copied. Takes the copy out
    /// of the request.
    #[must_use]
    pub fn replay(&mut self) -> Option<Replay> {
        let body = match &mut self.body {
            ApiBody::Whole(body) => ReplayBody::Whole(body.clone()),
            ApiBody::Stream { copy, .. } => ReplayBody::Copy(copy.take()?),
        };
        Some(Replay {
            method: self.method.clone(),
            path_and_query: self.path_and_query.clone(),
            headers: self.headers.clone(),
            body,
            answer_within: self.response_timeout,
        })
    }

    /// Returns whether [`Self::replay`] would return a replay.
    #[must_use]
    pub fn is_replayable(&self) -> bool {
        !matches!(self.body, ApiBody::Stream { copy: None, .. })
    }

    /// Returns whether the method is safe (RFC 9110 section 9.2.1).
    #[must_use]
    pub fn is_safe_method(&self) -> bool {
        matches!(self.method, Method::GET | Method::HEAD)
    }
}

// Bodies are customer data, so they are never printed.
impl fmt::Debug for ApiBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(body) => write!(f, "{} bytes", body.len()),
            Self::Stream { .. } => f.write_str("a stream"),
        }
    }
}

impl fmt::Debug for ReplayBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Whole(_) => "whole",
            Self::Copy(_) => "a copy",
        })
    }
}

impl fmt::Debug for ApiResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiResponse")
            .field("outcome", &self.outcome)
            .field("status", &self.status)
            .finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for ApiQuery<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.path_and_query)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::CopyBudget;

    #[test]
    fn debug_output_hides_credentials() {
        let ticket = ApiCredential::SystemUser { ticket: "7T:canary".into() };
        let token = ApiCredential::Person { access_token: "8A:canary".into() };
        for printed in [format!("{ticket:?}"), format!("{token:?}")] {
            assert!(!printed.contains("canary"), "{printed}");
        }
    }

    #[tokio::test]
    async fn streamed_body_is_replayed_only_from_its_copy() {
        let request = |body| ApiRequest {
            method: Method::PUT,
            path_and_query: "/v1/Contact/5".to_owned(),
            headers: HeaderMap::new(),
            body,
            response_timeout: Duration::from_secs(1),
        };
        let parts = || -> BodyParts { Box::pin(futures_util::stream::empty()) };
        let once = ApiBody::Stream { parts: parts(), length: None, copy: None };
        assert!(request(once).replay().is_none());
        let (parts, copy) = BodyCopy::new(parts(), &CopyBudget::new(0));
        let copied = ApiBody::Stream { parts, length: None, copy: Some(copy) };
        let whole = ApiBody::Whole(Bytes::from_static(b"{}"));
        for (body, sent) in [(copied, ""), (whole, "{}")] {
            let mut request = request(body);
            assert!(request.is_replayable());
            let again = request.replay().unwrap().request().await.unwrap();
            assert!(matches!(again.body, ApiBody::Whole(body) if &body[..] == sent.as_bytes()));
            assert_eq!(again.path_and_query, request.path_and_query);
        }
    }
}
