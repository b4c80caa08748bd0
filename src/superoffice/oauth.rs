//! Acting as a person: OAuth 2.0 and OpenID Connect at the login host (SUPEROFFICE.md 4; RFC 6749, 7009, 7636).

mod answer;

use std::sync::Arc;

use async_trait::async_trait;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::time::Instant;
use url::form_urlencoded;
use zeroize::Zeroizing;

pub(crate) use self::answer::{Granted, new_refresh_token};
use self::answer::{TOKENS, refusal};
use super::{
    SuperOffice,
    client::{Answer, Profile, Repeat},
    id_token::IdTokens,
    login_host::before,
};
use crate::ports::{
    Access, AuthorizationRequest, CodeExchange, ExchangeError, OAuth, Refreshed, SignedIn,
    UpstreamError,
};

/// Revoking twice changes nothing.
const REVOKE: Profile =
    Profile { what: "oauth/revoke", max_body_bytes: 64 * 1024, repeat: Repeat::Reads };

/// How the login host knows an application, and is known to it.
pub struct Registration {
    /// SuperOffice's name for it (public): the audience of its tokens.
    pub client_id: String,
    /// Who signs in people, `https://{env}.superoffice.com`: without a trailing slash, and without `/login`.
    pub issuer: String,
}

#[async_trait]
impl OAuth for SuperOffice {
    fn authorization_uri(&self, request: &AuthorizationRequest<'_>) -> SecretString {
        let path = match request.tenant {
            Some(tenant) => format!("/login/{tenant}/oauth/authorize"),
            None => "/login/common/oauth/authorize".to_owned(),
        };
        let tenant = request.tenant.map(|tenant| format!("tenant:{tenant}"));
        let mut fields = vec![
            ("client_id", self.id_tokens.registration.client_id.as_str()),
            ("response_type", "code"),
            ("scope", "openid"),
            ("redirect_uri", request.redirect_uri),
            ("state", request.state.expose_secret()),
            ("nonce", request.nonce),
            ("code_challenge", request.code_challenge),
            ("code_challenge_method", "S256"),
        ];
        fields.extend(tenant.as_deref().map(|tenant| ("acr_values", tenant)));
        fields.extend(request.login_hint.map(|hint| ("login_hint", hint)));
        let query = encoded(&fields);
        format!("{}?{}", self.login.address(&path), *query).into()
    }

    async fn exchange_code(&self, exchange: &CodeExchange<'_>) -> Result<SignedIn, ExchangeError> {
        let fields = [
            ("grant_type", "authorization_code"),
            ("code", exchange.code.expose_secret()),
            ("redirect_uri", exchange.redirect_uri),
            ("code_verifier", exchange.verifier.expose_secret()),
        ];
        let until = Instant::now().checked_add(exchange.patience);
        let answer = self.tokens(until, &fields).await?;
        let none = || ExchangeError::InvalidResponse(format!("{}: no refresh_token", TOKENS.what));
        let refresh_token = new_refresh_token(&answer.body)?.ok_or_else(none)?;
        let access = access(&self.id_tokens, &answer.body, Some(exchange.nonce)).await;
        Ok(SignedIn { refresh_token, access })
    }

    async fn refresh(&self, refresh_token: &SecretString) -> Result<Refreshed, ExchangeError> {
        let fields =
            [("grant_type", "refresh_token"), ("refresh_token", refresh_token.expose_secret())];
        let answer = self.tokens(None, &fields).await?;
        let rotated = new_refresh_token(&answer.body)?;
        let id_tokens = Arc::clone(&self.id_tokens);
        let access = async move { access(&id_tokens, &answer.body, None).await };
        Ok(Refreshed::validated_by(rotated, access))
    }

    async fn revoke(&self, refresh_token: &SecretString) -> Result<(), ExchangeError> {
        let fields =
            [("token", refresh_token.expose_secret()), ("token_type_hint", "refresh_token")];
        match self.post(REVOKE, None, "/login/common/oauth/revoke", &fields).await {
            // It is no token of theirs (any more), which is what was wanted.
            Ok(_) | Err(ExchangeError::InvalidGrant) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

impl SuperOffice {
    /// Spends a code or a refresh token, if its turn comes before `until`.
    async fn tokens(
        &self,
        until: Option<Instant>,
        fields: &[(&str, &str)],
    ) -> Result<Answer, ExchangeError> {
        // Without keys the answer could not be validated, and the code would be lost.
        before(until, self.keys.ready()).await.map_err(ExchangeError::NotSent)?;
        self.post(TOKENS, until, "/login/common/oauth/tokens", fields).await
    }

    /// Sends a form with each of our secrets, until one is accepted.
    ///
    /// In the body: query strings, which SuperOffice would also read, stand in logs.
    async fn post(
        &self,
        profile: Profile,
        until: Option<Instant>,
        path: &str,
        fields: &[(&str, &str)],
    ) -> Result<Answer, ExchangeError> {
        let client_id = self.id_tokens.registration.client_id.as_str();
        let mut refused = ExchangeError::Unauthorized;
        for (place, (number, secret)) in self.credentials.secrets().enumerate() {
            if place > 0 && !self.credentials.may_try_another(self.clock.monotonic()) {
                break;
            }
            let client = [("client_id", client_id), ("client_secret", secret.expose_secret())];
            let body = encoded(&[client.as_slice(), fields].concat());
            let request = || {
                let body = Zeroizing::new(body.as_bytes().to_vec());
                self.login.post(path).body("application/x-www-form-urlencoded", body)
            };
            let answer = self.login.exchange(profile, until, request).await?;
            match refusal(profile, &answer) {
                None => {
                    self.credentials.secret_works(number);
                    return Ok(answer);
                }
                // Only of the secret that last worked: the other one need not be active yet.
                Some(ExchangeError::InvalidClient) if place == 0 => {
                    refused = ExchangeError::InvalidClient;
                }
                Some(ExchangeError::InvalidClient | ExchangeError::Unauthorized) => {}
                Some(error) => return Err(error),
            }
        }
        Err(refused)
    }
}

/// What came beside the refresh token, validated.
async fn access(
    id_tokens: &IdTokens,
    body: &[u8],
    nonce: Option<&str>,
) -> Result<Access, UpstreamError> {
    let granted = Granted::read(body)?;
    let identity = id_tokens.open(&granted.id_token, nonce).await?;
    granted.to(identity)
}

/// `application/x-www-form-urlencoded`, for queries and bodies alike (RFC 6749 appendix B).
fn encoded(fields: &[(&str, &str)]) -> Zeroizing<String> {
    // Enough for every byte to be encoded: a string that grows leaves copies behind.
    let most = fields.iter().map(|(name, value)| name.len() + 3 * value.len() + 2).sum();
    let mut text = Zeroizing::new(String::with_capacity(most));
    form_urlencoded::Serializer::new(&mut *text).extend_pairs(fields);
    text
}

#[cfg(test)]
mod tests;
