//! Requests that hyper would refuse by itself: they reach the service with a problem in place of their target.

use std::time::Duration;

use axum::http::{StatusCode, Uri};

use crate::{domain::Reason, http::problem::Problem};

/// The time after which undecided requests have given back most of what they hold.
const OVERLOAD_PAUSE: Duration = Duration::from_secs(1);

/// Why a request is refused because of its head, or before it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::http) enum HeadProblem {
    /// The target holds `#`.
    Fragment,
    /// The target is no path, no address and not `*`.
    Target,
    /// The head has too many lines or bytes.
    TooLarge,
    /// The body has more than one length, or a length that is not valid.
    Framing,
    /// The body comes in a transfer coding that is not implemented.
    TransferCoding,
    /// The head is not one of HTTP.
    Malformed,
    /// There is no memory left for a request that is not decided yet. Its head may have no fault.
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

    /// The target of the request that takes the place of the refused one. No other request has it: a quotation mark
    /// that a client sends is passed on encoded. One who could send it would only have the own request refused.
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

    /// The problem that a target stands for.
    pub(super) fn of(target: &Uri) -> Option<Self> {
        let path = target.path();
        if !path.starts_with("/\"") {
            return None;
        }
        Self::ALL.into_iter().find(|problem| problem.target() == path)
    }

    /// Whether the credential of the caller may be missing from what is left of the head.
    pub(in crate::http) fn may_hide_caller(self) -> bool {
        !matches!(self, Self::Fragment | Self::Target)
    }
}

impl From<HeadProblem> for Problem {
    fn from(problem: HeadProblem) -> Self {
        let bad = |detail: &'static str| Self::new(Reason::InvalidArgument, detail);
        match problem {
            HeadProblem::Overloaded => Self::new(
                Reason::CallerQuotaExceeded,
                "too many requests from this address, or from everywhere, are not decided yet; send it again after \
                 the time in Retry-After",
            )
            .after(Some(OVERLOAD_PAUSE)),
            HeadProblem::Fragment => bad(
                "the request target holds a #: a fragment is never sent, and a # in a value is written %23",
            ),
            HeadProblem::Target => bad(
                "the request target is not valid: wanted a path such as /crm-sync/Cust12345/api/v1/Contact/5, with \
                 blanks and control characters percent-encoded",
            ),
            HeadProblem::TooLarge => bad(
                "the head of the request is too large: at most 32 KiB, and over HTTP/1.1 100 header lines",
            )
            .with_status(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE),
            HeadProblem::Framing => bad(
                "the length of the body is not clear: send one valid Content-Length, or over HTTP/1.1 \
                 Transfer-Encoding: chunked",
            ),
            // RFC 9112, section 6.1.
            HeadProblem::TransferCoding => Self::new(
                Reason::Unimplemented,
                "the only transfer coding is chunked: send Transfer-Encoding: chunked",
            ),
            HeadProblem::Malformed => bad(
                "the head of the request is not valid HTTP: check the request line and the header lines, or over \
                 HTTP/2 the pseudo-header fields and that header names are in lower case",
            ),
        }
    }
}
