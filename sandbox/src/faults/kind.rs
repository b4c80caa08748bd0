//! The faults there are.

use std::time::Duration;

use hyper::StatusCode;
use hyper::header::HeaderValue;
use serde::Deserialize;
use serde_json::Value;

use crate::endpoint::Endpoint;

/// The body of a [`Fault::Status`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultBody {
    /// No body.
    #[default]
    Empty,
    /// A JSON body.
    Json(Value),
    /// An HTML page.
    Html(String),
}

/// Something that goes wrong.
///
/// As JSON, a fault is an object with its name in snake case as `kind` beside its fields:
/// `{"kind": "status", "status": 503, "body": {"html": "<h1>Down</h1>"}}`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Fault {
    /// Answers with this status.
    Status {
        /// The HTTP status, 200 to 599.
        status: u16,
        /// The body.
        #[serde(default)]
        body: FaultBody,
        /// Seconds for a `Retry-After` header.
        #[serde(default)]
        retry_after: Option<u64>,
    },
    /// Waits before anything else happens. Several delays add up, and other faults still apply.
    Delay {
        /// How long.
        milliseconds: u64,
    },
    /// Never answers, until the client leaves. The call has no effect.
    Hang,
    /// The call takes effect, and then this befalls the answer: how a client loses what it was
    /// given.
    AfterEffect {
        /// What befalls the answer: any fault that is not about its content, a delay included.
        fault: Box<Fault>,
    },
    /// Resets the connection (RST).
    Reset,
    /// Closes the connection without an answer.
    Close,
    /// Announces the whole body, sends half of it, and closes.
    Truncate,
    /// Answers 200 with an HTML page.
    Html,
    /// Answers 200 with so much white space that says it is JSON; `u64::MAX` is endless.
    Huge {
        /// How much.
        mebibytes: u64,
    },
    /// Answers 307 to this address, which asks the client to send the same body there.
    Redirect {
        /// The address.
        location: String,
    },
    /// Authenticate: refuses with this text, whatever was sent.
    Refuse {
        /// The `ErrorMessage`.
        message: String,
    },
    /// Authenticate, Tokens: the token's `ctx` names this tenant.
    WrongContext {
        /// The tenant named.
        context: String,
    },
    /// Authenticate: the ticket inside the token names this tenant, and is not valid.
    WrongTicketContext {
        /// The tenant named.
        context: String,
    },
    /// Authenticate, Tokens: the token's signature does not match.
    WrongSignature,
    /// Authenticate, Tokens: the token is signed with a key that is in no key set, and names that key.
    ForeignKey,
    /// Authenticate, Tokens: the token says `"alg": "none"` and is not signed.
    AlgNone,
    /// Authenticate, Tokens: the token is signed with HS256, with the public key (PEM) as the secret.
    Hs256PublicKey,
    /// Authenticate: the token's issuer is the login address instead of `SuperOffice AS`. Tokens:
    /// the other way round.
    WrongIssuer,
    /// Authenticate: the token's audience is another serial number than its own. Tokens: it is
    /// another client id.
    WrongAudience,
    /// Authenticate, Tokens: the token expired an hour ago.
    ExpiredToken,
    /// Authenticate: the token has no ticket.
    MissingTicket,
    /// Authenticate: the ticket in the token is not in the form of a ticket.
    MalformedTicket,
    /// `TenantStatus`: the status names this tenant.
    OtherTenant {
        /// The tenant named.
        context: String,
    },
    /// `TenantStatus`: these addresses instead of the real ones; without one, it is the real one.
    Addresses {
        /// The value of `Api`.
        #[serde(default)]
        api: Option<String>,
        /// The value of `Endpoint`.
        #[serde(default)]
        endpoint: Option<String>,
    },
    /// Authorize: sends the person back to the application with this error, whichever page it is.
    AuthorizeError {
        /// The `error`, such as `server_error` (RFC 6749 section 4.1.2.1).
        error: String,
    },
    /// Tokens: the id token has another nonce than was sent.
    WrongNonce,
    /// Tokens: the id token is about this associate of the tenant.
    WrongPerson {
        /// The associate.
        associate_id: u32,
    },
    /// Tokens: the id token lacks these claims, named with or without SuperOffice's prefix.
    MissingClaims {
        /// The names of the claims.
        claims: Vec<String>,
    },
    /// `TenantStatus`, Tokens: the answer lacks these fields.
    MissingFields {
        /// The names of the fields.
        fields: Vec<String>,
    },
    /// `CurrentPrincipal`: `DatabaseContextIdentifier` names this tenant.
    WrongDatabase {
        /// The tenant named.
        context: String,
    },
}

impl Fault {
    /// A status with an HTML page, as front ends send it.
    #[must_use]
    pub fn status(status: u16) -> Self {
        let body = FaultBody::Html(format!("<html><body><h1>{status}</h1></body></html>"));
        Self::Status { status, body, retry_after: None }
    }

    /// A status with a JSON body.
    #[must_use]
    pub fn json(status: u16, body: Value) -> Self {
        Self::Status { status, body: FaultBody::Json(body), retry_after: None }
    }

    /// The call takes effect, and then this befalls the answer.
    #[must_use]
    pub fn after_effect(fault: Self) -> Self {
        Self::AfterEffect { fault: Box::new(fault) }
    }

    /// A delay; below a millisecond it is none.
    #[must_use]
    pub fn delay(delay: Duration) -> Self {
        Self::Delay { milliseconds: u64::try_from(delay.as_millis()).unwrap_or(u64::MAX) }
    }

    /// Whether the fault means something at this endpoint and its fields can be sent.
    pub(crate) fn fits(&self, endpoint: Endpoint) -> bool {
        match self {
            Self::Status { status, .. } => {
                // Lower ones are interim answers: no client would see an end.
                StatusCode::from_u16(*status).is_ok_and(|_| (200..600).contains(status))
            }
            Self::Redirect { location } => HeaderValue::from_str(location).is_ok(),
            Self::AfterEffect { fault } => {
                let nested = matches!(**fault, Self::AfterEffect { .. });
                !nested && !fault.is_about_content() && fault.fits(endpoint)
            }
            Self::Delay { .. }
            | Self::Hang
            | Self::Reset
            | Self::Close
            | Self::Truncate
            | Self::Html
            | Self::Huge { .. } => true,
            Self::Refuse { .. }
            | Self::WrongTicketContext { .. }
            | Self::MissingTicket
            | Self::MalformedTicket => endpoint == Endpoint::Authenticate,
            Self::WrongContext { .. }
            | Self::WrongSignature
            | Self::ForeignKey
            | Self::AlgNone
            | Self::Hs256PublicKey
            | Self::WrongIssuer
            | Self::WrongAudience
            | Self::ExpiredToken => matches!(endpoint, Endpoint::Authenticate | Endpoint::Tokens),
            Self::WrongNonce | Self::WrongPerson { .. } | Self::MissingClaims { .. } => {
                endpoint == Endpoint::Tokens
            }
            Self::MissingFields { .. } => {
                matches!(endpoint, Endpoint::TenantStatus | Endpoint::Tokens)
            }
            Self::AuthorizeError { .. } => endpoint == Endpoint::Authorize,
            Self::OtherTenant { .. } | Self::Addresses { .. } => endpoint == Endpoint::TenantStatus,
            Self::WrongDatabase { .. } => endpoint == Endpoint::CurrentPrincipal,
        }
    }

    /// Whether a handler has to know of it while it makes the answer.
    fn is_about_content(&self) -> bool {
        !matches!(
            self,
            Self::Status { .. }
                | Self::Delay { .. }
                | Self::Hang
                | Self::Reset
                | Self::Close
                | Self::Truncate
                | Self::Html
                | Self::Huge { .. }
                | Self::Redirect { .. }
                | Self::AfterEffect { .. }
        )
    }
}
