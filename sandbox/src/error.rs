//! Errors of the control, and their HTTP responses.

use aws_lc_rs::error::Unspecified;
use axum::extract::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::endpoint::Endpoint;
use crate::keys::KeyFormatError;

/// The reason why the control rejected a request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ControlError {
    /// No application has this client id.
    #[error("no application has the client id {0}")]
    UnknownApplication(String),
    /// No tenant has this id.
    #[error("there is no tenant {0}")]
    UnknownTenant(String),
    /// No associate of the tenant has this id.
    #[error("there is no associate {0}")]
    UnknownAssociate(u32),
    /// An associate cannot be parsed.
    #[error("not a valid associate: {0}")]
    BadAssociate(String),
    /// The application was never authorized on the tenant.
    #[error("the application {0} was never authorized on {1}")]
    NotAuthorized(String, String),
    /// The id is in use.
    #[error("{0} exists already")]
    Exists(String),
    /// A tenant id is `Cust` and digits.
    #[error("{0} is not a tenant id: it must be Cust followed by digits")]
    BadTenantId(String),
    /// A secret is empty, or another application has it.
    #[error("the secret is empty or belongs to another application")]
    BadSecret,
    /// A redirect address is neither an address nor a regular expression.
    #[error("{0} is not a redirect address")]
    BadUri(String),
    /// The associate is not an employee who can sign in.
    #[error("associate {0} cannot sign in")]
    CannotSignIn(u32),
    /// A notification could not be sent.
    #[error("the notification was not sent: {0}")]
    NotSent(String),
    /// A public key cannot be parsed.
    #[error("{0}")]
    BadPublicKey(String),
    /// The fault is not possible at that endpoint, or its fields are invalid.
    #[error("this fault is not possible at {0:?}")]
    InvalidFault(Endpoint),
    /// The cryptographic library failed.
    #[error("the cryptographic library failed")]
    Crypto,
}

impl From<KeyFormatError> for ControlError {
    fn from(error: KeyFormatError) -> Self {
        Self::BadPublicKey(error.to_string())
    }
}

impl From<Unspecified> for ControlError {
    fn from(_: Unspecified) -> Self {
        Self::Crypto
    }
}

impl IntoResponse for ControlError {
    fn into_response(self) -> Response {
        let status = match self {
            Self::UnknownApplication(_)
            | Self::UnknownTenant(_)
            | Self::UnknownAssociate(_)
            | Self::NotAuthorized(..) => StatusCode::NOT_FOUND,
            Self::Exists(_) => StatusCode::CONFLICT,
            Self::NotSent(_) => StatusCode::BAD_GATEWAY,
            Self::Crypto => StatusCode::INTERNAL_SERVER_ERROR,
            Self::BadTenantId(_)
            | Self::BadSecret
            | Self::BadAssociate(_)
            | Self::BadPublicKey(_)
            | Self::BadUri(_)
            | Self::CannotSignIn(_)
            | Self::InvalidFault(_) => StatusCode::BAD_REQUEST,
        };
        (status, Json(json!({ "error": self.to_string() }))).into_response()
    }
}
