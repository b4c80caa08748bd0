//! Validates ID tokens, which name the person who signed in (OpenID Connect Core section 3.1.3.7).

use std::sync::Arc;

use jiff::Timestamp;
use jsonwebtoken::{DecodingKey, Header};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;

use super::{
    jwks::CachedJwks,
    jwt::{Audience, TokenKind, check_not_future, check_times, printable},
    registration::Registration,
};
use crate::{
    domain::{AssociateId, ContextIdentifier, SystemUserToken, VerifiedIdentity, is_same_name},
    ports::{Clock, UpstreamError},
};

const ID_TOKEN: TokenKind = TokenKind("id_token");

/// The maximum length of a user name, which is that of an e-mail address (RFC 3696). Longer names are rejected instead
/// of truncated, because user names are compared.
const MAX_USER_NAME_BYTES: usize = 320;

/// The expected values of claims.
#[derive(Clone, Copy)]
pub(crate) struct Expected<'a> {
    /// The issuer, exactly `https://{env}.superoffice.com`.
    pub(crate) issuer: &'a str,
    /// The only allowed audience.
    pub(crate) client_id: &'a str,
    /// The nonce of the authorization request, if the token answers one.
    pub(crate) nonce: Option<&'a str>,
}

/// The claims. Times are numbers, SuperOffice's own claims are strings, and some can be either.
#[derive(Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    aud: Audience,
    azp: Option<String>,
    exp: i64,
    nbf: Option<i64>,
    iat: Number,
    nonce: Option<String>,
    #[serde(rename = "http://schemes.superoffice.net/identity/ctx")]
    ctx: String,
    #[serde(rename = "http://schemes.superoffice.net/identity/associateid")]
    associate_id: Number,
    #[serde(rename = "http://schemes.superoffice.net/identity/upn")]
    upn: Option<String>,
    #[serde(rename = "http://schemes.superoffice.net/identity/is_administrator")]
    is_administrator: Option<Flag>,
    #[serde(rename = "http://schemes.superoffice.net/identity/so_primary_email_address")]
    primary_email: Option<String>,
    #[serde(rename = "http://schemes.superoffice.net/identity/email")]
    email: Option<String>,
    #[serde(rename = "http://schemes.superoffice.net/identity/firstname")]
    first_name: Option<String>,
    #[serde(rename = "http://schemes.superoffice.net/identity/lastname")]
    last_name: Option<String>,
    #[serde(rename = "http://schemes.superoffice.net/identity/company_name")]
    company_name: Option<String>,
    #[serde(rename = "http://schemes.superoffice.net/identity/system_token")]
    system_token: Option<SecretString>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Number {
    Number(i64),
    Text(String),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Flag {
    Flag(bool),
    Text(String),
}

/// Validates the ID tokens of one application.
pub(super) struct IdTokenValidator {
    pub(super) registration: Registration,
    pub(super) keys: Arc<CachedJwks>,
    pub(super) clock: Arc<dyn Clock>,
}

impl IdTokenValidator {
    /// Validates the token and returns its identity. The caller compares tenant and person with the expected ones.
    pub(super) async fn validate(
        &self,
        jwt: &SecretString,
        nonce: Option<&str>,
    ) -> Result<VerifiedIdentity, UpstreamError> {
        let header = read_header(jwt)?;
        let key = self.keys.signing_key(&header, jwt).await?;
        let Registration { issuer, client_id } = &self.registration;
        validate_with_key(&key, jwt, Expected { issuer, client_id, nonce }, self.clock.now())
    }
}

/// Reads the header, which names the key. The header is not verified yet.
pub(crate) fn read_header(jwt: &SecretString) -> Result<Header, UpstreamError> {
    ID_TOKEN.header(jwt)
}

/// Validates the token with the key that its header names.
pub(crate) fn validate_with_key(
    key: &DecodingKey,
    jwt: &SecretString,
    expected: Expected<'_>,
    now: Timestamp,
) -> Result<VerifiedIdentity, UpstreamError> {
    let claims: Claims = ID_TOKEN.claims(key, jwt)?;
    let identity = check(&claims, expected, now).and_then(|()| identity(claims));
    identity.map_err(|why| ID_TOKEN.invalid(why))
}

fn check(claims: &Claims, expected: Expected<'_>, now: Timestamp) -> Result<(), &'static str> {
    if claims.iss != expected.issuer {
        return Err("another issuer");
    }
    let is_only_audience = match &claims.aud {
        Audience::One(audience) => audience == expected.client_id,
        Audience::Many(audiences) => {
            matches!(audiences.as_slice(), [one] if one == expected.client_id)
        }
    };
    let party = claims.azp.as_deref().unwrap_or(expected.client_id);
    if !is_only_audience || party != expected.client_id {
        return Err("another audience");
    }
    check_times(claims.exp, claims.nbf, now)?;
    let issued = claims.iat.get().ok_or("iat is not a time")?;
    check_not_future(issued, now).map_err(|_| "issued in the future; compare clocks")?;
    match (expected.nonce, &claims.nonce) {
        (Some(sent), Some(received)) if constant_time_eq(sent, received) => Ok(()),
        (Some(_), _) => Err("not the nonce of this sign-in"),
        (None, _) => Ok(()),
    }
}

fn identity(claims: Claims) -> Result<VerifiedIdentity, &'static str> {
    let tenant: ContextIdentifier =
        claims.ctx.parse().map_err(|_| "ctx is not a context identifier")?;
    let associate_id = match &claims.associate_id {
        Number::Number(number) => i32::try_from(*number).ok().and_then(AssociateId::new),
        Number::Text(text) => text.parse().ok(),
    };
    // The documentation says that `upn` and `sub` name the same person. Their spelling may differ.
    let user_principal_name = claims.upn.unwrap_or_else(|| claims.sub.clone());
    if !is_user_name(&user_principal_name) {
        return Err("upn is not a user name");
    }
    if !is_same_name(&user_principal_name, &claims.sub) {
        return Err("upn and sub are not the same");
    }
    let name = |parts: [Option<String>; 2]| {
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        printable(parts.join(" ").trim())
    };
    let is_present = |text: &SecretString| !text.expose_secret().trim().is_empty();
    let system_token = claims.system_token.filter(is_present);
    let system_user_token = system_token.map(|text| SystemUserToken::new(&text)).transpose();
    let is_administrator = match &claims.is_administrator {
        Some(Flag::Flag(flag)) => *flag,
        Some(Flag::Text(text)) => text.eq_ignore_ascii_case("true"),
        None => false,
    };
    Ok(VerifiedIdentity {
        tenant,
        associate_id: associate_id.ok_or("associateid is not an associate id")?,
        user_principal_name,
        full_name: name([claims.first_name, claims.last_name]),
        email: printable(&claims.primary_email.or(claims.email).unwrap_or_default()),
        is_administrator,
        system_user_token: system_user_token.map_err(|_| "system_token is not a token")?,
        company_name: printable(&claims.company_name.unwrap_or_default()),
    })
}

fn is_user_name(text: &str) -> bool {
    let bare = text.trim() == text && !text.chars().any(char::is_control);
    bare && (1..=MAX_USER_NAME_BYTES).contains(&text.len())
}

impl Number {
    fn get(&self) -> Option<i64> {
        match self {
            Self::Number(number) => Some(*number),
            Self::Text(text) => text.parse().ok(),
        }
    }
}

/// Compares two strings in constant time.
fn constant_time_eq(a: &str, b: &str) -> bool {
    let differences = a.bytes().zip(b.bytes()).fold(0, |all, (a, b)| all | (a ^ b));
    a.len() == b.len() && differences == 0
}

#[cfg(test)]
pub(super) mod tests;
