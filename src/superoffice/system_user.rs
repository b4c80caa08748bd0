//! The system user flow over REST (<https://docs.superoffice.com/en/authentication/online/>).

use std::sync::Arc;

use async_trait::async_trait;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::{Timestamp, tz::TimeZone};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{
    SuperOffice,
    client::{RequestLimits, RetryPolicy, json_lenient, unexpected_status},
    credentials::CredentialPair,
    login_host::JSON,
    refusal::parse_refusal,
    skew::CLOCK_ALARM,
    ticket_jwt,
};
use crate::{
    domain::ContextIdentifier,
    ports::{IssuedTicket, Refusal, SignError, Signer, SystemUserLogin, UpstreamError},
};

const AUTHENTICATE: RequestLimits = RequestLimits {
    name: "PartnerSystemUser/Authenticate",
    max_body_bytes: 256 * 1024,
    retry: RetryPolicy::OnlyIfNotSent,
};

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Request<'a> {
    signed_system_token: &'a str,
    application_token: &'a str,
    context_identifier: String,
    return_token_type: &'static str,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Response {
    is_successful: bool,
    token: Option<SecretString>,
    error_message: Option<String>,
}

/// The reason why authentication with one pair of secret and key failed.
enum AuthenticationError {
    /// Another pair may work: the response names no reason, or says that the signature is wrong.
    TryNextPair(Refusal),
    /// Another pair would fail, too.
    Final(UpstreamError),
}

impl From<UpstreamError> for AuthenticationError {
    fn from(error: UpstreamError) -> Self {
        Self::Final(error)
    }
}

#[async_trait]
impl SystemUserLogin for SuperOffice {
    async fn authenticate(
        &self,
        tenant: ContextIdentifier,
        system_user_token: &SecretString,
    ) -> Result<IssuedTicket, UpstreamError> {
        // Without keys the ticket could not be validated, and each new one adds a row in the customer's database.
        self.keys.ensure_loaded().await?;
        let mut refused = Refusal::Rejected;
        let pairs = self.credentials.pairs();
        let last_worked = pairs.first().map(|pair| Arc::clone(&pair.signer));
        for (place, pair) in pairs.into_iter().enumerate() {
            if place > 0 && !self.credentials.may_try_another(self.clock.monotonic()) {
                break;
            }
            match self.authenticate_with(&pair, tenant, system_user_token).await {
                Ok(ticket) => {
                    self.credentials.mark_pair_working(&pair);
                    return Ok(ticket);
                }
                Err(AuthenticationError::Final(error)) => return Err(error),
                // Reports a wrong signature only if the last working key caused it. The next key may not be registered
                // at SuperOffice yet. A later pair that fails for another reason does not change this result.
                Err(AuthenticationError::TryNextPair(Refusal::Credential))
                    if last_worked.as_ref().is_some_and(|key| Arc::ptr_eq(key, &pair.signer)) =>
                {
                    refused = Refusal::Credential;
                }
                Err(AuthenticationError::TryNextPair(_)) => {}
            }
        }
        Err(UpstreamError::Refused(refused))
    }

    fn application_token(&self) -> SecretString {
        self.credentials.secret()
    }

    fn credential_changes(&self) -> u64 {
        self.credentials.credential_changes()
    }

    fn has_clock_skew(&self) -> bool {
        let skew = self.login.clock_skew_seconds().unsigned_abs();
        skew >= CLOCK_ALARM.unsigned_abs().as_secs()
    }
}

impl SuperOffice {
    async fn authenticate_with(
        &self,
        pair: &CredentialPair,
        tenant: ContextIdentifier,
        system_user_token: &SecretString,
    ) -> Result<IssuedTicket, AuthenticationError> {
        let signed = signed_token(&*pair.signer, system_user_token, self.clock.now())
            // Signing failed, so the configured key is at fault.
            .map_err(|_| AuthenticationError::TryNextPair(Refusal::Credential))?;
        let body = request_body(&signed, &pair.secret, tenant)?;
        let request = || {
            let body = Zeroizing::new(body.to_vec());
            self.login.post("/Login/api/PartnerSystemUser/Authenticate").body(JSON, body)
        };
        let answer = self.login.send(AUTHENTICATE, request).await?;
        if !answer.status.is_success() {
            return Err(unexpected_status(AUTHENTICATE, answer.status).into());
        }
        let response: Response = json_lenient(AUTHENTICATE, &answer.body)?;
        if !response.is_successful {
            return Err(match parse_refusal(&response.error_message.unwrap_or_default()) {
                None => AuthenticationError::TryNextPair(Refusal::Rejected),
                Some(Refusal::Credential) => AuthenticationError::TryNextPair(Refusal::Credential),
                Some(named) => AuthenticationError::Final(UpstreamError::Refused(named)),
            });
        }
        let missing = || {
            UpstreamError::InvalidResponse(
                "the response reports success but has no token".to_owned(),
            )
        };
        let jwt = response.token.ok_or_else(missing)?;
        Ok(ticket_jwt::validate(&self.keys, &jwt, tenant, self.clock.now()).await?)
    }
}

/// Returns `{system user token}.{yyyyMMddHHmm, UTC}.{signature in standard base64}`.
pub(crate) fn signed_token(
    signer: &dyn Signer,
    system_user_token: &SecretString,
    now: Timestamp,
) -> Result<Zeroizing<String>, SignError> {
    let minute = now.to_zoned(TimeZone::UTC).strftime("%Y%m%d%H%M").to_string();
    let mut text = Zeroizing::new(format!("{}.{minute}", system_user_token.expose_secret()));
    let signature = signer.sign(text.as_bytes())?;
    text.push('.');
    STANDARD.encode_string(signature, &mut text);
    Ok(text)
}

fn request_body(
    signed: &str,
    client_secret: &SecretString,
    tenant: ContextIdentifier,
) -> Result<Zeroizing<Vec<u8>>, UpstreamError> {
    let request = Request {
        signed_system_token: signed,
        application_token: client_secret.expose_secret(),
        context_identifier: tenant.to_string(),
        return_token_type: "JWT",
    };
    let body = serde_json::to_vec(&request);
    // Does not happen: strings can always be encoded.
    body.map(Zeroizing::new)
        .map_err(|_| UpstreamError::Unavailable("cannot encode the request".to_owned()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::SystemUserToken;

    struct Echo;

    impl Signer for Echo {
        fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
            Ok(message.to_vec())
        }
    }

    #[test]
    fn a_token_is_signed_with_the_utc_minute_and_standard_base64() {
        let now = "2026-03-01T09:05:59+02:00".parse().unwrap();
        let signed = signed_token(&Echo, &"Søndag App.v2-8k8Q7DmBgo".into(), now).unwrap();
        let payload = "Søndag App.v2-8k8Q7DmBgo.202603010705";
        assert_eq!(*signed, format!("{payload}.{}", STANDARD.encode(payload)));
    }

    proptest! {
        /// SuperOffice splits from the right, because names contain dots.
        #[test]
        fn a_signed_token_can_be_split_from_the_right(
            token in "\\PC{1,40}|[A-Zæøå. =-]{0,20}-[a-zA-Z0-9]{10}|\\.{1,3}",
            seconds in 0..253_402_207_200_i64,
        ) {
            let Ok(token) = SystemUserToken::new(&token.into()) else { return Ok(()) };
            let now = Timestamp::from_second(seconds).unwrap();
            let signed = signed_token(&Echo, token.secret(), now).unwrap();
            let (payload, signature) = signed.rsplit_once('.').unwrap();
            let (found, minute) = payload.rsplit_once('.').unwrap();
            prop_assert_eq!(found, token.secret().expose_secret());
            prop_assert_eq!(STANDARD.decode(signature).unwrap(), payload.as_bytes());
            prop_assert!(minute.len() == 12 && minute.bytes().all(|b| b.is_ascii_digit()));
            let minute = jiff::civil::DateTime::strptime("%Y%m%d%H%M", minute).unwrap();
            let minute = minute.to_zoned(TimeZone::UTC).unwrap().timestamp();
            prop_assert!((0..60).contains(&(seconds - minute.as_second())));
        }
    }

    #[test]
    fn the_request_has_the_documented_fields() {
        let body = request_body("a.b.c", &"secret".into(), "Cust12345".parse().unwrap()).unwrap();
        let wanted = r#"{"SignedSystemToken":"a.b.c","ApplicationToken":"secret","ContextIdentifier":"Cust12345","ReturnTokenType":"JWT"}"#;
        assert_eq!(std::str::from_utf8(&body).unwrap(), wanted);
    }
}
