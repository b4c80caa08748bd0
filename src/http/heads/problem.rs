//! The problem of a request that hyper would refuse by itself. It replaces the target of the request.

use std::time::Duration;

use axum::http::{StatusCode, Uri};

use crate::{domain::Reason, http::problem::Problem};

/// The time after which unauthorized requests have released most of their memory.
const OVERLOAD_RETRY_DELAY: Duration = Duration::from_secs(1);

/// The reason why a request is refused because of its head, or before its head is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::http) enum HeadProblem {
    /// The target contains `#`.
    Fragment,
    /// The target is not a path, an absolute URI or `*`.
    Target,
    /// The head has too many lines or bytes.
    TooLarge,
    /// The body has several lengths or an invalid length.
    Framing,
    /// The body has a transfer coding that is not implemented.
    TransferCoding,
    /// The head is not valid HTTP.
    Malformed,
    /// The memory budget of unauthorized requests is exhausted. The head may be valid.
    Overloaded,
}

impl HeadProblem {
    const ALL: [Self; 7] = [
        Self::Fragment,
        Self::Target,
        Self::TooLarge,
        Self::Framing,
        Self::TransferCoding,
        Self::Malformed,
        Self::Overloaded,
    ];

    /// Returns the target of the request that replaces the refused one. No client can send it, because a quotation mark
    /// from a client is percent-encoded; it would only make the client's own request fail.
    pub(super) fn target(self) -> &'static str {
        match self {
            Self::Fragment => "/\"fragment",
            Self::Target => "/\"target",
            Self::TooLarge => "/\"too-large",
            Self::Framing => "/\"framing",
            Self::TransferCoding => "/\"transfer-coding",
            Self::Malformed => "/\"malformed",
            Self::Overloaded => "/\"overloaded",
        }
    }

    /// Returns the problem that a target encodes.
    pub(super) fn from_uri(target: &Uri) -> Option<Self> {
        let path = target.path();
        if !path.starts_with("/\"") {
            return None;
        }
        Self::ALL.into_iter().find(|problem| problem.target() == path)
    }

    /// Returns whether the rest of the head may lack the caller's credential.
    pub(in crate::http) fn may_hide_credential(self) -> bool {
        !matches!(self, Self::Fragment | Self::Target)
    }
}

impl From<HeadProblem> for Problem {
    fn from(problem: HeadProblem) -> Self {
        let bad = |detail: &'static str| Self::new(Reason::InvalidArgument, detail);
        match problem {
            HeadProblem::Overloaded => Self::new(
                Reason::CallerQuotaExceeded,
                "too many requests of this address, or of all addresses, are not authorized yet; send the request \
                 again after the time in Retry-After",
            )
            .with_retry_after(Some(OVERLOAD_RETRY_DELAY)),
            HeadProblem::Fragment => bad(
                "the request target contains #: do not send fragments, and write # in a value as %23",
            ),
            HeadProblem::Target => bad(
                "the request target is not valid: use a path such as /crm-sync/Cust12345/api/v1/Contact/5, with \
                 spaces and control characters percent-encoded",
            ),
            HeadProblem::TooLarge => bad(
                "the head of the request is too large: the limits are 32 KiB, and 100 header lines over HTTP/1.1",
            )
            .with_status(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE),
            HeadProblem::Framing => bad(
                "the length of the body is ambiguous: send one valid Content-Length, or over HTTP/1.1 \
                 Transfer-Encoding: chunked",
            ),
            // RFC 9112, section 6.1.
            HeadProblem::TransferCoding => Self::new(
                Reason::Unimplemented,
                "the only supported transfer coding is chunked: send Transfer-Encoding: chunked",
            ),
            HeadProblem::Malformed => bad(
                "the head of the request is not valid HTTP: check the request line and the header lines, or over \
                 HTTP/2 the pseudo-header fields and that header names are in lower case",
            ),
        }
    }
}
