//! The Web API of a tenant: one call to it, put into words that a use case can branch on.
//!
//! Knows no host and no credential by itself: both come with the call, chosen by the use case.

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
    /// What is to be done.
    pub method: Method,
    /// What follows the tenant's `…/api`: nothing, or something that begins with `/` or `?`.
    pub path_and_query: String,
    /// Whatever is in them, the credential is that of the call.
    pub headers: HeaderMap,
    /// What is sent.
    pub body: ApiBody,
    /// The longest wait for the beginning of the answer. For a body that arrives while it is sent, the time counts from
    /// its last part.
    pub answer_within: Duration,
}

/// The body of a request.
pub enum ApiBody {
    /// At hand, so it can be sent again.
    Whole(Bytes),
    /// Comes while it is sent, and only once.
    Stream {
        /// What comes.
        parts: BodyParts,
        /// So many bytes, if that is known before.
        length: Option<u64>,
        /// The copy that is taken while the body is sent, if one is taken.
        copy: Option<BodyCopy>,
    },
}

/// A request that was sent and may be sent once more. Its drop frees the copy of the body.
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
    /// Reads the rest of the body where it still arrives, and returns the request; `None` if the body is too long for a
    /// copy, failed, or found no room in the budget of copies.
    pub async fn request(self) -> Option<ApiRequest> {
        let Self { method, path_and_query, headers, body, answer_within } = self;
        let body = match body {
            ReplayBody::Whole(body) => body,
            ReplayBody::Copy(copy) => copy.whole().await?,
        };
        let body = ApiBody::Whole(body);
        Some(ApiRequest { method, path_and_query, headers, body, answer_within })
    }
}

/// What was answered.
pub struct ApiResponse {
    /// What the answer means for the call.
    pub verdict: Verdict,
    /// The status itself, for those who pass it on.
    pub status: StatusCode,
    /// As they came.
    pub headers: HeaderMap,
    /// Comes as it is read. It may break off.
    pub body: BoxStream<'static, Result<Bytes, SendError>>,
}

/// What an answer means for the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It was dealt with: done, or refused for what was asked.
    Done {
        /// Whether it was done: the credential has been used.
        success: bool,
    },
    /// The credential is not accepted (401).
    CredentialRefused,
    /// It may not be done with this credential, or the credential has expired (403).
    Forbidden,
    /// The tenant is on another host (421).
    Misdirected,
    /// Too many calls (429).
    Throttled {
        /// For how long there should be none.
        retry_after: Duration,
    },
    /// The host failed (5xx).
    Failed,
}

/// A call without an answer. Details are ours, for the log; they never repeat what was received.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The host was not reached, so nothing was sent.
    #[error("not sent: {0}")]
    NotSent(String),
    /// The request cannot be sent as it is, whatever the host does.
    #[error("cannot be sent: {0}")]
    Unsendable(String),
    /// It may or may not have been dealt with.
    #[error("broke off: {0}")]
    Broken(String),
    /// Likewise, and the time for it is used up.
    #[error("timed out: {0}")]
    TimedOut(String),
}

/// Whose eyes a call sees with, as SuperOffice wants it proven.
#[derive(Debug, Clone)]
pub enum ApiCredential {
    /// The system user: a ticket, which works only together with the client secret.
    SystemUser {
        /// `7T:…`.
        ticket: SecretString,
    },
    /// A person.
    Person {
        /// `8A:…`.
        access_token: SecretString,
    },
}

/// Sends calls to the Web API. An implementation belongs to one application.
#[async_trait]
pub trait WebApiHost: Send + Sync + 'static {
    /// Sends the request once, with this credential and no other, and returns as soon as the answer begins.
    ///
    /// Follows no redirect, and sends nothing outside of `uri`.
    async fn send(
        &self,
        uri: &WebApiUri,
        credential: &ApiCredential,
        request: ApiRequest,
    ) -> Result<ApiResponse, SendError>;

    /// The headers that carry this credential and no other, for somebody who sends a call by itself.
    ///
    /// # Errors
    /// If the credential cannot stand in a header.
    fn headers_of(&self, credential: &ApiCredential) -> Result<HeaderMap, SendError>;
}

/// The longest wait for the beginning of an answer to a question of our own. The platform names no limit; its own
/// clients wait this long.
const QUESTION_TIMEOUT: Duration = Duration::from_secs(30);

/// Reads the body of an answer.
type Reader<T> = Box<dyn Fn(&[u8]) -> Result<T, UpstreamError> + Send + Sync>;

/// A question to the Web API, and how its answer is read. Asking twice changes nothing.
pub struct ApiCall<T> {
    /// Names it in logs.
    pub what: &'static str,
    /// How it is asked.
    pub method: Method,
    /// As in [`ApiRequest`].
    pub path_and_query: String,
    /// As in [`ApiRequest`].
    pub headers: HeaderMap,
    /// As in [`ApiRequest`].
    pub body: Bytes,
    /// More than this is not an answer.
    pub max_body_bytes: usize,
    /// How a whole body of a 200 is read.
    pub reader: Reader<T>,
}

impl<T> ApiCall<T> {
    /// The request, as often as it is sent.
    #[must_use]
    pub fn request(&self) -> ApiRequest {
        ApiRequest {
            method: self.method.clone(),
            path_and_query: self.path_and_query.clone(),
            headers: self.headers.clone(),
            body: ApiBody::Whole(self.body.clone()),
            answer_within: QUESTION_TIMEOUT,
        }
    }

    /// Reads the whole body of a 200.
    ///
    /// # Errors
    /// If it cannot be believed.
    pub fn read(&self, body: &[u8]) -> Result<T, UpstreamError> {
        (self.reader)(body)
    }
}

impl ApiRequest {
    /// Returns what it takes to send the request once more, or `None` if its body arrives only once and is not copied.
    /// Takes the copy out of the request.
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
            answer_within: self.answer_within,
        })
    }

    /// Whether [`Self::replay`] returns something.
    #[must_use]
    pub fn is_replayable(&self) -> bool {
        !matches!(self.body, ApiBody::Stream { copy: None, .. })
    }

    /// Whether it only reads, by its method (RFC 9110 section 9.2.1).
    #[must_use]
    pub fn only_reads(&self) -> bool {
        matches!(self.method, Method::GET | Method::HEAD)
    }
}

// Bodies are data of the customer: never printed.
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
            .field("verdict", &self.verdict)
            .field("status", &self.status)
            .finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for ApiCall<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.path_and_query)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::CopyBudget;

    #[test]
    fn a_credential_is_never_printed() {
        let ticket = ApiCredential::SystemUser { ticket: "7T:canary".into() };
        let token = ApiCredential::Person { access_token: "8A:canary".into() };
        for printed in [format!("{ticket:?}"), format!("{token:?}")] {
            assert!(!printed.contains("canary"), "{printed}");
        }
    }

    #[tokio::test]
    async fn a_body_that_comes_only_once_is_sent_again_only_from_its_copy() {
        let request = |body| ApiRequest {
            method: Method::PUT,
            path_and_query: "/v1/Contact/5".to_owned(),
            headers: HeaderMap::new(),
            body,
            answer_within: Duration::from_secs(1),
        };
        let parts = || -> BodyParts { Box::pin(futures_util::stream::empty()) };
        let once = ApiBody::Stream { parts: parts(), length: None, copy: None };
        assert!(request(once).replay().is_none());
        let (parts, copy) = BodyCopy::of(parts(), &CopyBudget::new(0));
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
