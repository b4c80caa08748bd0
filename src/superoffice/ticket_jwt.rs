//! The signed answer in which a ticket comes (SUPEROFFICE.md 2.6).

use jiff::{SignedDuration, Timestamp};
use jsonwebtoken::{Algorithm, DecodingKey, Header, Validation, decode, decode_header};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;

use super::jwks::KeySet;
use crate::{
    domain::{ContextIdentifier, ticket_tenant},
    ports::{IssuedTicket, UpstreamError},
};

/// Literally this, in every environment.
const ISSUER: &str = "SuperOffice AS";

/// How far the clocks of SuperOffice and ours may be apart when times are compared. Such a token lives five
/// minutes and is read at once, so a minute is plenty.
const LEEWAY: SignedDuration = SignedDuration::from_secs(60);

/// A company's name is the customer's own words and shown to people, on terminals too; more than this is not a name.
const MAX_COMPANY_NAME_CHARS: usize = 256;

/// Far more than a real token has.
const MAX_JWT_BYTES: usize = 64 * 1024;

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

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
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
    let key = keys.find(header.kid.as_deref(), header.x5t.as_deref()).await?;
    open_with(&key, jwt, tenant, now)
}

/// The header, which names the key: nothing in it is believed yet.
pub(crate) fn read_header(jwt: &SecretString) -> Result<Header, UpstreamError> {
    let text = jwt.expose_secret();
    if text.len() > MAX_JWT_BYTES {
        return Err(refused("too long"));
    }
    let header = decode_header(text).map_err(|_| refused("no JWT header"))?;
    if header.alg != Algorithm::RS256 {
        return Err(refused("not signed with RS256"));
    }
    Ok(header)
}

/// Validates with the key that the header names.
pub(crate) fn open_with(
    key: &DecodingKey,
    jwt: &SecretString,
    tenant: ContextIdentifier,
    now: Timestamp,
) -> Result<IssuedTicket, UpstreamError> {
    let text = jwt.expose_secret();
    let claims =
        decode::<Claims>(text, key, &signature_only()).map_err(|error| match error.kind() {
            jsonwebtoken::errors::ErrorKind::InvalidSignature => refused("wrong signature"),
            _ => refused("claims missing or of other types than documented"),
        })?;
    check(&claims.claims, tenant, now)?;
    let Claims { ticket, company_name, .. } = claims.claims;
    match ticket_tenant(&ticket).map_err(|_| refused("what it holds is not a ticket"))? {
        Some(other) if other != tenant => Err(refused("the ticket inside is another tenant's")),
        _ => Ok(IssuedTicket { value: ticket, company_name: printable(&company_name) }),
    }
}

fn printable(name: &str) -> String {
    name.chars().filter(|c| !c.is_control()).take(MAX_COMPANY_NAME_CHARS).collect()
}

/// The library checks signature and algorithm; times are ours, because time is passed in.
fn signature_only() -> Validation {
    let mut validation = Validation::new(Algorithm::RS256);
    validation.validate_exp = false;
    validation.validate_nbf = false;
    validation.validate_aud = false;
    validation.required_spec_claims.clear();
    validation
}

fn check(claims: &Claims, tenant: ContextIdentifier, now: Timestamp) -> Result<(), UpstreamError> {
    let instant = |seconds| Timestamp::from_second(seconds).map_err(|_| refused("impossible time"));
    if claims.iss != ISSUER {
        return Err(refused("another issuer"));
    }
    let wanted = format!("spn:{}", claims.serial);
    let addressed = match &claims.aud {
        Audience::One(aud) => *aud == wanted,
        Audience::Many(auds) => auds.contains(&wanted),
    };
    if !addressed {
        return Err(refused("another audience"));
    }
    if now.duration_since(instant(claims.exp)?) >= LEEWAY {
        return Err(refused("expired; compare clocks"));
    }
    if let Some(nbf) = claims.nbf
        && instant(nbf)?.duration_since(now) > LEEWAY
    {
        return Err(refused("not yet valid; compare clocks"));
    }
    if claims.ctx != tenant.to_string() {
        return Err(refused("another tenant"));
    }
    Ok(())
}

fn refused(why: &str) -> UpstreamError {
    UpstreamError::InvalidResponse(format!("system user JWT: {why}"))
}

#[cfg(test)]
mod tests;
