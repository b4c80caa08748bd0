//! Who tells that the state of a tenant has changed (SUPEROFFICE.md 8): a token that the login host has signed.
//!
//! Neither its audience nor its claims are documented. The documented sample validates the signature and the issuer
//! of an `id_token`; tokens of the system user name another one, so both are taken.

use async_trait::async_trait;
use jiff::Timestamp;
use secrecy::SecretString;
use serde::Deserialize;

use super::{
    SuperOffice,
    jwt::{Kind, check_times},
    ticket_jwt::ISSUER,
};
use crate::{
    domain::ContextIdentifier,
    ports::{NotificationVerifier, UpstreamError},
};

const NOTIFICATION: Kind = Kind("notification");

#[derive(Deserialize)]
struct Claims {
    iss: String,
    exp: i64,
    nbf: Option<i64>,
    #[serde(rename = "http://schemes.superoffice.net/identity/ctx")]
    ctx: Option<String>,
    // The tickets of system users are in tokens too, and prove nothing here.
    #[serde(rename = "http://schemes.superoffice.net/identity/ticket")]
    ticket: Option<serde::de::IgnoredAny>,
    // Likewise that a person signed in to some application.
    #[serde(rename = "http://schemes.superoffice.net/identity/associateid")]
    associate_id: Option<serde::de::IgnoredAny>,
}

#[async_trait]
impl NotificationVerifier for SuperOffice {
    async fn verify(
        &self,
        token: &SecretString,
    ) -> Result<Option<ContextIdentifier>, UpstreamError> {
        let header = NOTIFICATION.header(token)?;
        let key = self.keys.signer(&header, token).await?;
        let claims: Claims = NOTIFICATION.claims(&key, token)?;
        let checked = check(&claims, &self.id_tokens.registration.issuer, self.clock.now());
        checked.map_err(|why| NOTIFICATION.refused(why))
    }
}

fn check(
    claims: &Claims,
    issuer: &str,
    now: Timestamp,
) -> Result<Option<ContextIdentifier>, &'static str> {
    if claims.iss != issuer && claims.iss != ISSUER {
        return Err("another issuer");
    }
    if claims.ticket.is_some() || claims.associate_id.is_some() {
        return Err("a token for something else");
    }
    check_times(claims.exp, claims.nbf, now)?;
    let ctx = claims.ctx.as_deref().map(str::parse).transpose();
    ctx.map_err(|_| "ctx is no context identifier")
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: &str = "https://sod.superoffice.com";

    fn claims(text: &str) -> Claims {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn what_the_login_host_signed_for_this_is_taken_and_nothing_else() {
        let ctx = "http://schemes.superoffice.net/identity/ctx";
        for (text, wanted) in [
            (format!(r#"{{"iss":"{OWN}","exp":1000}}"#), Ok(None)),
            (format!(r#"{{"iss":"{ISSUER}","exp":1000,"aud":"x"}}"#), Ok(None)),
            (
                format!(r#"{{"iss":"{OWN}","exp":1000,"{ctx}":"Cust5"}}"#),
                Ok(Some("Cust5".parse().unwrap())),
            ),
            (
                format!(r#"{{"iss":"{OWN}","exp":1000,"{ctx}":"x"}}"#),
                Err("ctx is no context identifier"),
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
                Err("a token for something else"),
            ),
            (
                format!(
                    r#"{{"iss":"{OWN}","exp":1000,"http://schemes.superoffice.net/identity/associateid":"5"}}"#
                ),
                Err("a token for something else"),
            ),
        ] {
            let now = Timestamp::from_second(500).unwrap();
            assert_eq!(check(&claims(&text), OWN, now), wanted, "{text}");
        }
    }
}
