//! The kinds of faults.

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

/// A kind of fault.
///
/// In JSON, `kind` holds the name in snake case, next to the fields of the fault: `{"kind": "status", "status": 503,
/// "body": {"html": "<h1>Down</h1>"}}`.
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
    /// Delays the call. Several delays add up, and other faults still apply.
    Delay {
        /// The delay.
        milliseconds: u64,
    },
    /// Sends no response until the client disconnects. The call has no effect.
    Hang,
    /// Executes the call and applies this fault to the response, so that the client loses it.
    AfterEffect {
        /// Any fault that does not change the content of the response; delays are allowed.
        fault: Box<Fault>,
    },
    /// Resets the connection (RST).
    Reset,
    /// Closes the connection without a response.
    Close,
    /// Declares the full length, sends half of the body, and closes the connection.
    Truncate,
    /// Answers 200 with an HTML page.
    Html,
    /// Answers 200 with the JSON content type and a body of spaces; `u64::MAX` is endless.
    Huge {
        /// The length of the body.
        mebibytes: u64,
    },
    /// Answers 307 to this address; a client that follows sends the same body there.
    Redirect {
        /// The address.
        location: String,
    },
    /// Authenticate: refuses every request with this text.
    Refuse {
        /// The `ErrorMessage`.
        message: String,
    },
    /// Authenticate, Tokens: the token's `ctx` names this tenant.
    WrongContext {
        /// The tenant to name.
        context: String,
    },
    /// Authenticate: the ticket inside the token names this tenant, and is not valid.
    WrongTicketContext {
        /// The tenant to name.
        context: String,
    },
    /// Authenticate, Tokens: the token's signature does not match.
    WrongSignature,
    /// Authenticate, Tokens: the token is signed with a key outside the key set, and names that key.
    ForeignKey,
    /// Authenticate, Tokens: the token says `"alg": "none"` and is not signed.
    AlgNone,
    /// Authenticate, Tokens: the token is signed with HS256, with the public key (PEM) as the secret.
    Hs256PublicKey,
    /// Authenticate: the token's issuer is the login address instead of `SuperOffice AS`. Tokens: it is `SuperOffice
    /// AS` instead of the login address.
    WrongIssuer,
    /// Authenticate: the token's audience is the serial number of another database. Tokens: it is another client id.
    WrongAudience,
    /// Authenticate, Tokens: the token expired an hour ago.
    ExpiredToken,
    /// Authenticate: the token has no ticket.
    MissingTicket,
    /// Authenticate: the ticket in the token is malformed.
    MalformedTicket,
    /// `TenantStatus`: the status names this tenant.
    OtherTenant {
        /// The tenant to name.
        context: String,
    },
    /// `TenantStatus`: replaces the addresses; an absent one stays as it is.
    Addresses {
        /// The value of `Api`.
        #[serde(default)]
        api: Option<String>,
        /// The value of `Endpoint`.
        #[serde(default)]
        endpoint: Option<String>,
    },
    /// Authorize: redirects to the application with this error, from any page.
    AuthorizeError {
        /// The `error`, such as `server_error` (RFC 6749 section 4.1.2.1).
        error: String,
    },
    /// Tokens: the id token has a wrong nonce.
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
        /// The tenant to name.
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

    /// Executes the call and applies this fault to the response.
    #[must_use]
    pub fn after_effect(fault: Self) -> Self {
        Self::AfterEffect { fault: Box::new(fault) }
    }

    /// A delay in whole milliseconds.
    #[must_use]
    pub fn delay(delay: Duration) -> Self {
        Self::Delay { milliseconds: u64::try_from(delay.as_millis()).unwrap_or(u64::MAX) }
    }

    /// Returns whether the fault is possible at this endpoint and its fields are valid.
    pub(crate) fn is_valid_at(&self, endpoint: Endpoint) -> bool {
        match self {
            Self::Status { status, .. } => {
                // 1xx responses are interim: a client would wait for the final one.
                StatusCode::from_u16(*status).is_ok_and(|_| (200..600).contains(status))
            }
            Self::Redirect { location } => HeaderValue::from_str(location).is_ok(),
            Self::AfterEffect { fault } => {
                let nested = matches!(**fault, Self::AfterEffect { .. });
                !nested && !fault.changes_content() && fault.is_valid_at(endpoint)
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

    /// Returns whether the handler must apply the fault to the content of the response.
    fn changes_content(&self) -> bool {
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
