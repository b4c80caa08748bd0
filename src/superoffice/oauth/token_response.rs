//! Responses of the token endpoint. Its errors are not documented, so only the fields of RFC 6749 section 5.2 are used.

use std::time::Duration;

use http::StatusCode;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, de::IgnoredAny};

use crate::{
    domain::{RefreshToken, VerifiedIdentity, access_token_tenant},
    ports::{ExchangeError, UpstreamError, VerifiedAccess},
    superoffice::{
        client::{Answer, RequestLimits, RetryPolicy, json_lenient},
        json_repair::strip_byte_order_mark,
    },
};

pub(super) const TOKENS: RequestLimits = RequestLimits {
    name: "oauth/tokens",
    max_body_bytes: 256 * 1024,
    retry: RetryPolicy::OnlyIfNotSent,
};

/// The lifetime of an access token without `expires_in`: the shortest documented one, in seconds.
const DEFAULT_LIFETIME: u64 = 20 * 60;

/// The maximum lifetime of an access token; longer ones are reduced to it.
const MAX_LIFETIME: Duration = Duration::from_hours(24);

/// Error codes (RFC 6749 section 5.2, RFC 7009 section 2.2.1) that concern neither the grant nor the client secret.
const NAMED_ERRORS: [&str; 5] = [
    "invalid_request",
    "invalid_scope",
    "unauthorized_client",
    "unsupported_grant_type",
    "unsupported_token_type",
];

#[derive(Deserialize)]
struct ErrorResponse {
    error: String,
}

/// The fields that are read before a new refresh token is stored.
#[derive(Deserialize)]
struct RefreshTokenFields {
    refresh_token: Option<SecretString>,
    error: Option<IgnoredAny>,
}

/// The other fields of a token response, not validated yet.
#[derive(Deserialize)]
pub(crate) struct TokenResponse {
    token_type: String,
    access_token: SecretString,
    expires_in: Option<Seconds>,
    pub(crate) id_token: SecretString,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Seconds {
    Whole(u64),
    Part(f64),
    Text(String),
}

/// Returns the error of a response, if it is one.
pub(super) fn exchange_error(limits: RequestLimits, answer: &Answer) -> Option<ExchangeError> {
    let status = answer.status;
    if status.is_success() {
        return None;
    }
    let refused = serde_json::from_slice(strip_byte_order_mark(&answer.body))
        .ok()
        .filter(|_| status.is_client_error());
    let error = refused.map(|ErrorResponse { error }| error).unwrap_or_default();
    Some(match error.as_str() {
        "invalid_grant" => ExchangeError::InvalidGrant,
        "invalid_client" => ExchangeError::InvalidClient,
        // A 401 is about credentials, whatever the body says (RFC 9110 section 15.5.2). The response does not say
        // whether it means the client secret or the token.
        _ if status == StatusCode::UNAUTHORIZED => ExchangeError::Unauthorized,
        error => {
            let named = NAMED_ERRORS.iter().find(|name| **name == error);
            let named = named.map_or("and no known error code", |name| name);
            ExchangeError::Transient(format!("{}: HTTP {status}, {named}", limits.name))
        }
    })
}

/// Returns the refresh token of a successful response. If it is absent, null or empty, the old one stays valid.
///
/// It is read first and even if the rest is invalid, because it may be the only one that works now.
pub(crate) fn new_refresh_token(body: &[u8]) -> Result<Option<RefreshToken>, ExchangeError> {
    let invalid = |why: &str| ExchangeError::InvalidResponse(format!("{}: {why}", TOKENS.name));
    // serde would also accept a JSON array, in the order of the fields.
    if !strip_byte_order_mark(body).trim_ascii_start().starts_with(b"{") {
        return Err(invalid("a successful response without a JSON object"));
    }
    let first = json_lenient(TOKENS, body).map_err(|error| match error {
        UpstreamError::InvalidResponse(detail) => ExchangeError::InvalidResponse(detail),
        other => ExchangeError::InvalidResponse(other.to_string()),
    })?;
    let RefreshTokenFields { refresh_token, error } = first;
    match refresh_token.filter(|token| !token.expose_secret().trim().is_empty()) {
        Some(token) => RefreshToken::new(&token)
            .map(Some)
            .map_err(|why| invalid(&format!("the refresh_token {why}"))),
        None if error.is_some() => Err(invalid("a successful response with an error")),
        None => Ok(None),
    }
}

impl TokenResponse {
    /// Reads the other fields of a successful response.
    pub(crate) fn read(body: &[u8]) -> Result<Self, UpstreamError> {
        let granted: Self = json_lenient(TOKENS, body)?;
        if !granted.token_type.eq_ignore_ascii_case("Bearer") {
            return Err(invalid("token_type is not Bearer"));
        }
        Ok(granted)
    }

    /// Returns the access token if it belongs to the tenant of `identity`, which the same response named.
    pub(crate) fn into_access(
        self,
        identity: VerifiedIdentity,
    ) -> Result<VerifiedAccess, UpstreamError> {
        let named = access_token_tenant(&self.access_token)
            .map_err(|_| invalid("access_token is not an access token"))?;
        if named.is_some_and(|tenant| tenant != identity.tenant) {
            return Err(invalid("access_token is for another tenant than id_token"));
        }
        let expires_in =
            lifetime(self.expires_in).ok_or_else(|| invalid("expires_in is not a duration"))?;
        Ok(VerifiedAccess { access_token: self.access_token, expires_in, identity })
    }
}

fn lifetime(told: Option<Seconds>) -> Option<Duration> {
    let seconds = match told {
        None => DEFAULT_LIFETIME,
        Some(Seconds::Whole(seconds)) => seconds,
        Some(Seconds::Part(seconds)) => Duration::try_from_secs_f64(seconds).ok()?.as_secs(),
        Some(Seconds::Text(text)) => text.trim().parse().ok()?,
    };
    (seconds > 0).then(|| Duration::from_secs(seconds).min(MAX_LIFETIME))
}

fn invalid(why: &str) -> UpstreamError {
    UpstreamError::InvalidResponse(format!("{}: {why}", TOKENS.name))
}
