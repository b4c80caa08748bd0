//! What the token endpoint says (SUPEROFFICE.md 4.2). Its errors are not documented, so no more is read out of them
//! than RFC 6749 section 5.2 promises.

use std::time::Duration;

use http::StatusCode;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, de::IgnoredAny};

use crate::{
    domain::{Identity, RefreshToken, access_token_tenant},
    ports::{Access, ExchangeError, UpstreamError},
    superoffice::{
        client::{Answer, Profile, Repeat, json_repaired},
        lenient::without_mark,
    },
};

pub(super) const TOKENS: Profile =
    Profile { what: "oauth/tokens", max_body_bytes: 256 * 1024, repeat: Repeat::OnlyIfNotSent };

/// If none is told: the shortest that is documented.
const DEFAULT_LIFETIME: u64 = 20 * 60;

/// Longer than this is not believed.
const LONGEST_LIFETIME: Duration = Duration::from_hours(24);

/// Errors that have a name (RFC 6749 section 5.2, RFC 7009 section 2.2.1) and blame neither grant nor secret.
const NAMED_ERRORS: [&str; 5] = [
    "invalid_request",
    "invalid_scope",
    "unauthorized_client",
    "unsupported_grant_type",
    "unsupported_token_type",
];

#[derive(Deserialize)]
struct Refused {
    error: String,
}

/// All that is looked at before a new refresh token is kept.
#[derive(Deserialize)]
struct First {
    refresh_token: Option<SecretString>,
    error: Option<IgnoredAny>,
}

/// The rest of a success, not validated yet.
#[derive(Deserialize)]
pub(crate) struct Granted {
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

/// Why there is nothing, if there is nothing.
pub(super) fn refusal(profile: Profile, answer: &Answer) -> Option<ExchangeError> {
    let status = answer.status;
    if status.is_success() {
        return None;
    }
    let refused = serde_json::from_slice(without_mark(&answer.body))
        .ok()
        .filter(|_| status.is_client_error());
    let error = refused.map(|Refused { error }| error).unwrap_or_default();
    Some(match error.as_str() {
        "invalid_grant" => ExchangeError::InvalidGrant,
        "invalid_client" => ExchangeError::InvalidClient,
        // Whatever else is said: credentials are what 401 is about (RFC 9110 section 15.5.2).
        // The answer does not say whether it means our secret or the token.
        _ if status == StatusCode::UNAUTHORIZED => ExchangeError::Unauthorized,
        error => {
            let named = NAMED_ERRORS.iter().find(|name| **name == error);
            let named = named.map_or("and no error that we know", |name| name);
            ExchangeError::Transient(format!("{}: HTTP {status}, {named}", profile.what))
        }
    })
}

/// The refresh token in a success, if there is one: absent, null and empty mean that the old one goes on.
///
/// Read before the rest and whatever that is, because it may be the only one that works now.
pub(crate) fn new_refresh_token(body: &[u8]) -> Result<Option<RefreshToken>, ExchangeError> {
    let invalid = |why: &str| ExchangeError::InvalidResponse(format!("{}: {why}", TOKENS.what));
    // A list would be read in the order of the fields.
    if !without_mark(body).trim_ascii_start().starts_with(b"{") {
        return Err(invalid("a success without JSON"));
    }
    let first = json_repaired(TOKENS, body).map_err(|error| match error {
        UpstreamError::InvalidResponse(detail) => ExchangeError::InvalidResponse(detail),
        other => ExchangeError::InvalidResponse(other.to_string()),
    })?;
    let First { refresh_token, error } = first;
    match refresh_token.filter(|token| !token.expose_secret().trim().is_empty()) {
        Some(token) => RefreshToken::new(&token)
            .map(Some)
            .map_err(|why| invalid(&format!("the refresh_token {why}"))),
        None if error.is_some() => Err(invalid("a success that holds an error")),
        None => Ok(None),
    }
}

impl Granted {
    /// Reads the rest of a success.
    pub(crate) fn read(body: &[u8]) -> Result<Self, UpstreamError> {
        let granted: Self = json_repaired(TOKENS, body)?;
        if !granted.token_type.eq_ignore_ascii_case("Bearer") {
            return Err(refused("token_type is not Bearer"));
        }
        Ok(granted)
    }

    /// The access token, if it is for the tenant of `identity`, which came with it.
    pub(crate) fn to(self, identity: Identity) -> Result<Access, UpstreamError> {
        let named = access_token_tenant(&self.access_token)
            .map_err(|_| refused("access_token is no access token"))?;
        if named.is_some_and(|tenant| tenant != identity.tenant) {
            return Err(refused("access_token is for another tenant than id_token"));
        }
        let expires_in =
            lifetime(self.expires_in).ok_or_else(|| refused("expires_in is no time"))?;
        Ok(Access { access_token: self.access_token, expires_in, identity })
    }
}

fn lifetime(told: Option<Seconds>) -> Option<Duration> {
    let seconds = match told {
        None => DEFAULT_LIFETIME,
        Some(Seconds::Whole(seconds)) => seconds,
        Some(Seconds::Part(seconds)) => Duration::try_from_secs_f64(seconds).ok()?.as_secs(),
        Some(Seconds::Text(text)) => text.trim().parse().ok()?,
    };
    (seconds > 0).then(|| Duration::from_secs(seconds).min(LONGEST_LIFETIME))
}

fn refused(why: &str) -> UpstreamError {
    UpstreamError::InvalidResponse(format!("{}: {why}", TOKENS.what))
}
