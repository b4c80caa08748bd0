//! Who signed in, as SuperOffice signs it (SUPEROFFICE.md 4.3; OpenID Connect Core section 3.1.3.7).

use std::sync::Arc;

use jiff::Timestamp;
use jsonwebtoken::{DecodingKey, Header};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;

use super::{
    jwks::KeySet,
    jwt::{Audience, Kind, check_begun, check_times, printable},
    oauth::Registration,
};
use crate::{
    domain::{AssociateId, ContextIdentifier, Identity, SystemUserToken, is_same_name},
    ports::{Clock, UpstreamError},
};

const ID_TOKEN: Kind = Kind("id_token");

/// A user name is compared, so what is longer than an e-mail address can be is refused, not cut (RFC 3696).
const MAX_USER_NAME_BYTES: usize = 320;

/// What a token must say to be meant for us.
#[derive(Clone, Copy)]
pub(crate) struct Expected<'a> {
    /// `https://{env}.superoffice.com`, to the letter.
    pub(crate) issuer: &'a str,
    /// The one audience.
    pub(crate) client_id: &'a str,
    /// What was sent with the authorization request, if this answers one.
    pub(crate) nonce: Option<&'a str>,
}

/// Times are numbers, SuperOffice's own claims texts, and some are either.
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

/// Validates what is signed for one application.
pub(super) struct IdTokens {
    pub(super) registration: Registration,
    pub(super) keys: Arc<KeySet>,
    pub(super) clock: Arc<dyn Clock>,
}

impl IdTokens {
    /// Validates the token and takes out whom it names. Which tenant and person it should be, the use case compares.
    pub(super) async fn open(
        &self,
        jwt: &SecretString,
        nonce: Option<&str>,
    ) -> Result<Identity, UpstreamError> {
        let header = read_header(jwt)?;
        let key = self.keys.signer(&header, jwt).await?;
        let Registration { issuer, client_id } = &self.registration;
        open_with(&key, jwt, Expected { issuer, client_id, nonce }, self.clock.now())
    }
}

/// The header, which names the key: nothing in it is believed yet.
pub(crate) fn read_header(jwt: &SecretString) -> Result<Header, UpstreamError> {
    ID_TOKEN.header(jwt)
}

/// Validates with the key that the header names.
pub(crate) fn open_with(
    key: &DecodingKey,
    jwt: &SecretString,
    expected: Expected<'_>,
    now: Timestamp,
) -> Result<Identity, UpstreamError> {
    let claims: Claims = ID_TOKEN.claims(key, jwt)?;
    let identity = check(&claims, expected, now).and_then(|()| identity(claims));
    identity.map_err(|why| ID_TOKEN.refused(why))
}

fn check(claims: &Claims, expected: Expected<'_>, now: Timestamp) -> Result<(), &'static str> {
    if claims.iss != expected.issuer {
        return Err("another issuer");
    }
    let for_us_alone = match &claims.aud {
        Audience::One(audience) => audience == expected.client_id,
        Audience::Many(audiences) => {
            matches!(audiences.as_slice(), [one] if one == expected.client_id)
        }
    };
    let party = claims.azp.as_deref().unwrap_or(expected.client_id);
    if !for_us_alone || party != expected.client_id {
        return Err("another audience");
    }
    check_times(claims.exp, claims.nbf, now)?;
    let issued = claims.iat.get().ok_or("iat is no time")?;
    check_begun(issued, now).map_err(|_| "issued at a time to come; compare clocks")?;
    match (expected.nonce, &claims.nonce) {
        (Some(sent), Some(came)) if same(sent, came) => Ok(()),
        (Some(_), _) => Err("not the nonce of this sign-in"),
        (None, _) => Ok(()),
    }
}

fn identity(claims: Claims) -> Result<Identity, &'static str> {
    let tenant: ContextIdentifier =
        claims.ctx.parse().map_err(|_| "ctx is no context identifier")?;
    let associate_id = match &claims.associate_id {
        Number::Number(number) => i32::try_from(*number).ok().and_then(AssociateId::new),
        Number::Text(text) => text.parse().ok(),
    };
    // `upn` and `sub` name the same person by the documentation. Their spelling may differ.
    let user_principal_name = claims.upn.unwrap_or_else(|| claims.sub.clone());
    if !is_user_name(&user_principal_name) {
        return Err("upn is no user name");
    }
    if !is_same_name(&user_principal_name, &claims.sub) {
        return Err("upn and sub are not the same");
    }
    let name = |parts: [Option<String>; 2]| {
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        printable(parts.join(" ").trim())
    };
    let told = |text: &SecretString| !text.expose_secret().trim().is_empty();
    let system_token = claims.system_token.filter(told);
    let system_user_token = system_token.map(|text| SystemUserToken::new(&text)).transpose();
    let is_administrator = match &claims.is_administrator {
        Some(Flag::Flag(flag)) => *flag,
        Some(Flag::Text(text)) => text.eq_ignore_ascii_case("true"),
        None => false,
    };
    Ok(Identity {
        tenant,
        associate_id: associate_id.ok_or("associateid is no id of an associate")?,
        user_principal_name,
        full_name: name([claims.first_name, claims.last_name]),
        email: printable(&claims.primary_email.or(claims.email).unwrap_or_default()),
        is_administrator,
        system_user_token: system_user_token.map_err(|_| "system_token is no token")?,
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

/// Looks at every byte, wherever the first difference is.
fn same(a: &str, b: &str) -> bool {
    let differences = a.bytes().zip(b.bytes()).fold(0, |all, (a, b)| all | (a ^ b));
    a.len() == b.len() && differences == 0
}

#[cfg(test)]
pub(super) mod tests;
