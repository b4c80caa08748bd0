//! Verifies notifications of tenant state changes: tokens that the login host signs.
//!
//! The audience and the claims of the token are not documented. The documented sample validates the signature and the
//! issuer of an `id_token`. Tokens of the system user flow name another issuer, so both issuers are accepted. A token
//! with an audience must name this application in one of the two documented forms.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use secrecy::SecretString;
use serde::Deserialize;

use super::{
    SuperOffice,
    jwt::{Audience, LEEWAY, TokenKind, check_times},
    registration::Registration,
    ticket_jwt::ISSUER,
};
use crate::{
    domain::ContextIdentifier,
    ports::{NotificationVerifier, SignedNotification, UpstreamError, is_ahead},
};

const NOTIFICATION: TokenKind = TokenKind("notification");

#[derive(Deserialize)]
struct Claims {
    iss: String,
    exp: i64,
    nbf: Option<i64>,
    aud: Option<Audience>,
    jti: Option<String>,
    #[serde(rename = "http://schemes.superoffice.net/identity/ctx")]
    ctx: Option<String>,
    // A token with a system user ticket is no notification.
    #[serde(rename = "http://schemes.superoffice.net/identity/ticket")]
    ticket: Option<serde::de::IgnoredAny>,
    // A token about a person's sign-in is no notification.
    #[serde(rename = "http://schemes.superoffice.net/identity/associateid")]
    associate_id: Option<serde::de::IgnoredAny>,
}

#[async_trait]
impl NotificationVerifier for SuperOffice {
    async fn verify(&self, token: &SecretString) -> Result<SignedNotification, UpstreamError> {
        let header = NOTIFICATION.header(token)?;
        let key = self.keys.signing_key(&header, token).await?;
        let claims: Claims = NOTIFICATION.claims(&key, token)?;
        let checked = check(&claims, &self.id_tokens.registration, self.clock.now());
        let tenant = checked.map_err(|why| NOTIFICATION.invalid(why))?;
        let id = claims.jti.filter(|id| !id.is_empty());
        // The token is accepted until then; see `check_times`.
        let end = Timestamp::from_second(claims.exp).and_then(|end| end.checked_add(LEEWAY));
        let expire_time = end.map_err(|_| NOTIFICATION.invalid("impossible time"))?;
        Ok(SignedNotification { tenant, id, expire_time })
    }
}

/// The maximum remaining lifetime. A used token must be remembered until it expires, so longer ones are rejected.
const MAX_LIFETIME: Duration = Duration::from_hours(24);

fn check(
    claims: &Claims,
    registration: &Registration,
    now: Timestamp,
) -> Result<Option<ContextIdentifier>, &'static str> {
    if claims.iss != registration.issuer && claims.iss != ISSUER {
        return Err("another issuer");
    }
    if claims.ticket.is_some() || claims.associate_id.is_some() {
        return Err("a token for another purpose");
    }
    if claims
        .aud
        .as_ref()
        .is_some_and(|audience| !includes_application(audience, &registration.client_id))
    {
        return Err("for another audience");
    }
    check_times(claims.exp, claims.nbf, now)?;
    if Timestamp::from_second(claims.exp).is_ok_and(|end| is_ahead(end, MAX_LIFETIME, now)) {
        return Err("the lifetime is too long");
    }
    let ctx = claims.ctx.as_deref().map(str::parse).transpose();
    ctx.map_err(|_| "ctx is not a context identifier")
}

/// Returns whether the audience is the client id, as in an `id_token`, or the client id with the prefix `spn:`.
fn includes_application(audience: &Audience, client_id: &str) -> bool {
    let is_ours =
        |name: &String| name.strip_prefix("spn:").unwrap_or(name).eq_ignore_ascii_case(client_id);
    match audience {
        Audience::One(name) => is_ours(name),
        Audience::Many(names) => names.iter().any(is_ours),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: &str = "https://sod.superoffice.com";

    fn claims(text: &str) -> Claims {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn accepts_only_notifications_of_the_login_host() {
        let ctx = "http://schemes.superoffice.net/identity/ctx";
        for (text, wanted) in [
            (format!(r#"{{"iss":"{OWN}","exp":1000}}"#), Ok(None)),
            (format!(r#"{{"iss":"{ISSUER}","exp":1000,"aud":"client"}}"#), Ok(None)),
            (format!(r#"{{"iss":"{ISSUER}","exp":1000,"aud":"spn:client"}}"#), Ok(None)),
            (format!(r#"{{"iss":"{OWN}","exp":1000,"aud":["x","client"]}}"#), Ok(None)),
            (format!(r#"{{"iss":"{OWN}","exp":1000,"aud":"x"}}"#), Err("for another audience")),
            (format!(r#"{{"iss":"{OWN}","exp":1000,"aud":"spn:x"}}"#), Err("for another audience")),
            (format!(r#"{{"iss":"{OWN}","exp":1000,"aud":[]}}"#), Err("for another audience")),
            (format!(r#"{{"iss":"{OWN}","exp":1000,"aud":""}}"#), Err("for another audience")),
            (format!(r#"{{"iss":"{OWN}","exp":100000}}"#), Err("the lifetime is too long")),
            (
                format!(r#"{{"iss":"{OWN}","exp":1000,"{ctx}":"Cust5"}}"#),
                Ok(Some("Cust5".parse().unwrap())),
            ),
            (
                format!(r#"{{"iss":"{OWN}","exp":1000,"{ctx}":"x"}}"#),
                Err("ctx is not a context identifier"),
            ),
            (r#"{"iss":"https://evil.example","exp":1000}"#.to_owned(), Err("another issuer")),
            (format!(r#"{{"iss":"{OWN}","exp":1}}"#), Err("expired; compare clocks")),
            (
                format!(r#"{{"iss":"{OWN}","exp":1000,"nbf":900}}"#),
                Err("not yet valid; compare clocks"),
            ),
            (
                format!(
                    r#"{{"iss":"{ISSUER}","exp":1000,"http://schemes.superoffice.net/identity/ticket":"7T:x"}}"#
                ),
                Err("a token for another purpose"),
            ),
            (
                format!(
                    r#"{{"iss":"{OWN}","exp":1000,"http://schemes.superoffice.net/identity/associateid":"5"}}"#
                ),
                Err("a token for another purpose"),
            ),
        ] {
            let now = Timestamp::from_second(500).unwrap();
            let registration =
                Registration { issuer: OWN.to_owned(), client_id: "client".to_owned() };
            assert_eq!(check(&claims(&text), &registration, now), wanted, "{text}");
        }
    }
}
