//! The signed JWT that carries a ticket.

use jiff::Timestamp;
use jsonwebtoken::{DecodingKey, Header};
use secrecy::SecretString;
use serde::Deserialize;

use super::{
    jwks::CachedJwks,
    jwt::{Audience, TokenKind, check_times, printable},
};
use crate::{
    domain::{ContextIdentifier, ticket_tenant},
    ports::{IssuedTicket, UpstreamError},
};

/// The issuer, which is the same in every environment.
pub(super) const ISSUER: &str = "SuperOffice AS";

const JWT: TokenKind = TokenKind("system user JWT");

#[derive(Deserialize)]
struct Claims {
    iss: String,
    aud: Audience,
    exp: i64,
    nbf: Option<i64>,
    #[serde(rename = "http://schemes.superoffice.net/identity/ctx")]
    ctx: String,
    #[serde(rename = "http://schemes.superoffice.net/identity/serial")]
    serial: String,
    #[serde(rename = "http://schemes.superoffice.net/identity/ticket")]
    ticket: SecretString,
    #[serde(rename = "http://schemes.superoffice.net/identity/company_name", default)]
    company_name: String,
}

/// Validates the token for `tenant` and returns the ticket.
///
/// The audience is built from the token's own serial number, so it proves little. `ctx` binds the ticket to the
/// requested tenant, and so does the tenant inside the ticket, where it is readable.
pub(super) async fn validate(
    keys: &CachedJwks,
    jwt: &SecretString,
    tenant: ContextIdentifier,
    now: Timestamp,
) -> Result<IssuedTicket, UpstreamError> {
    let header = read_header(jwt)?;
    let key = keys.signing_key(&header, jwt).await?;
    validate_with_key(&key, jwt, tenant, now)
}

/// Reads the header, which names the key. The header is not verified yet.
pub(crate) fn read_header(jwt: &SecretString) -> Result<Header, UpstreamError> {
    JWT.header(jwt)
}

/// Validates the token with the key that its header names.
pub(crate) fn validate_with_key(
    key: &DecodingKey,
    jwt: &SecretString,
    tenant: ContextIdentifier,
    now: Timestamp,
) -> Result<IssuedTicket, UpstreamError> {
    let claims: Claims = JWT.claims(key, jwt)?;
    check(&claims, tenant, now).map_err(|why| JWT.invalid(why))?;
    let Claims { ticket, company_name, .. } = claims;
    match ticket_tenant(&ticket).map_err(|_| JWT.invalid("the ticket claim is not a ticket"))? {
        Some(other) if other != tenant => Err(JWT.invalid("the ticket belongs to another tenant")),
        _ => Ok(IssuedTicket { value: ticket, company_name: printable(&company_name) }),
    }
}

fn check(claims: &Claims, tenant: ContextIdentifier, now: Timestamp) -> Result<(), &'static str> {
    if claims.iss != ISSUER {
        return Err("another issuer");
    }
    let wanted = format!("spn:{}", claims.serial);
    let addressed = match &claims.aud {
        Audience::One(aud) => *aud == wanted,
        Audience::Many(auds) => auds.contains(&wanted),
    };
    if !addressed {
        return Err("another audience");
    }
    check_times(claims.exp, claims.nbf, now)?;
    if claims.ctx != tenant.to_string() {
        return Err("another tenant");
    }
    Ok(())
}

#[cfg(test)]
mod tests;
