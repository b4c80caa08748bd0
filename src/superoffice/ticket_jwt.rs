//! The signed answer in which a ticket comes (SUPEROFFICE.md 2.6).

use jiff::Timestamp;
use jsonwebtoken::{DecodingKey, Header};
use secrecy::SecretString;
use serde::Deserialize;

use super::{
    jwks::KeySet,
    jwt::{Audience, Kind, check_times, printable},
};
use crate::{
    domain::{ContextIdentifier, ticket_tenant},
    ports::{IssuedTicket, UpstreamError},
};

/// Literally this, in every environment.
pub(super) const ISSUER: &str = "SuperOffice AS";

const JWT: Kind = Kind("system user JWT");

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

/// Validates the token for `tenant` and takes the ticket out.
///
/// The audience is made of the token's own serial number, so it proves little; what binds the ticket to the
/// tenant asked for is `ctx`, and the ticket's own inside where it can be read.
pub(super) async fn open(
    keys: &KeySet,
    jwt: &SecretString,
    tenant: ContextIdentifier,
    now: Timestamp,
) -> Result<IssuedTicket, UpstreamError> {
    let header = read_header(jwt)?;
    let key = keys.signer(&header, jwt).await?;
    open_with(&key, jwt, tenant, now)
}

/// The header, which names the key: nothing in it is believed yet.
pub(crate) fn read_header(jwt: &SecretString) -> Result<Header, UpstreamError> {
    JWT.header(jwt)
}

/// Validates with the key that the header names.
pub(crate) fn open_with(
    key: &DecodingKey,
    jwt: &SecretString,
    tenant: ContextIdentifier,
    now: Timestamp,
) -> Result<IssuedTicket, UpstreamError> {
    let claims: Claims = JWT.claims(key, jwt)?;
    check(&claims, tenant, now).map_err(|why| JWT.refused(why))?;
    let Claims { ticket, company_name, .. } = claims;
    match ticket_tenant(&ticket).map_err(|_| JWT.refused("what it holds is not a ticket"))? {
        Some(other) if other != tenant => Err(JWT.refused("the ticket inside is another tenant's")),
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
