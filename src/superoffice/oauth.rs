//! Access as a person: OAuth 2.0 and OpenID Connect at the login host (RFC 6749, 7009, 7636).

mod token_response;

use std::sync::Arc;

use async_trait::async_trait;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::time::Instant;
use url::form_urlencoded;
use zeroize::Zeroizing;

use self::token_response::{TOKENS, exchange_error};
pub(crate) use self::token_response::{TokenResponse, new_refresh_token};
use super::{
    SuperOffice,
    client::{Answer, RequestLimits, RetryPolicy},
    id_token::IdTokenValidator,
    login_host::with_deadline,
};
use crate::ports::{
    AuthorizationRequest, CodeExchange, CodeResponse, ExchangeError, OAuth, RefreshResponse,
    UpstreamError, VerifiedAccess,
};

/// Revoking a token twice is safe.
const REVOKE: RequestLimits = RequestLimits {
    name: "oauth/revoke",
    max_body_bytes: 64 * 1024,
    retry: RetryPolicy::Idempotent,
};

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
        let query = form_encoded(&fields);
        format!("{}?{}", self.login.address(&path), *query).into()
    }

    async fn exchange_code(
        &self,
        exchange: &CodeExchange<'_>,
    ) -> Result<CodeResponse, ExchangeError> {
        let fields = [
            ("grant_type", "authorization_code"),
            ("code", exchange.code.expose_secret()),
            ("redirect_uri", exchange.redirect_uri),
            ("code_verifier", exchange.verifier.expose_secret()),
        ];
        let until = Instant::now().checked_add(exchange.max_wait);
        let answer = self.request_tokens(until, &fields).await?;
        let none = || ExchangeError::InvalidResponse(format!("{}: no refresh_token", TOKENS.name));
        let refresh_token = new_refresh_token(&answer.body)?.ok_or_else(none)?;
        let access = validated_access(&self.id_tokens, &answer.body, Some(exchange.nonce)).await;
        Ok(CodeResponse { refresh_token, access })
    }

    async fn refresh(
        &self,
        refresh_token: &SecretString,
    ) -> Result<RefreshResponse, ExchangeError> {
        let fields =
            [("grant_type", "refresh_token"), ("refresh_token", refresh_token.expose_secret())];
        let answer = self.request_tokens(None, &fields).await?;
        let rotated = new_refresh_token(&answer.body)?;
        let id_tokens = Arc::clone(&self.id_tokens);
        let access = async move { validated_access(&id_tokens, &answer.body, None).await };
        Ok(RefreshResponse::with_pending_validation(rotated, access))
    }

    async fn revoke(&self, refresh_token: &SecretString) -> Result<(), ExchangeError> {
        let fields =
            [("token", refresh_token.expose_secret()), ("token_type_hint", "refresh_token")];
        match self.post(REVOKE, None, "/login/common/oauth/revoke", &fields).await {
            // The token is unknown or already revoked, so the goal is reached.
            Ok(_) | Err(ExchangeError::InvalidGrant) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

impl SuperOffice {
    /// Exchanges a code or a refresh token, if the request can start before `until`.
    async fn request_tokens(
        &self,
        until: Option<Instant>,
        fields: &[(&str, &str)],
    ) -> Result<Answer, ExchangeError> {
        // Without keys the response could not be validated, and the code would be lost.
        with_deadline(until, self.keys.ensure_loaded()).await.map_err(ExchangeError::NotSent)?;
        self.post(TOKENS, until, "/login/common/oauth/tokens", fields).await
    }

    /// Sends a form with each client secret, until one is accepted.
    ///
    /// The fields are sent in the body. SuperOffice would also accept a query string, but those are logged.
    async fn post(
        &self,
        limits: RequestLimits,
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
            let body = form_encoded(&[client.as_slice(), fields].concat());
            let request = || {
                let body = Zeroizing::new(body.as_bytes().to_vec());
                self.login.post(path).body("application/x-www-form-urlencoded", body)
            };
            let answer = self.login.exchange(limits, until, request).await?;
            match exchange_error(limits, &answer) {
                None => {
                    self.credentials.mark_secret_working(number);
                    return Ok(answer);
                }
                // Counts only for the last working secret: the other one may not be active yet.
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

/// Validates the rest of a token response.
async fn validated_access(
    id_tokens: &IdTokenValidator,
    body: &[u8],
    nonce: Option<&str>,
) -> Result<VerifiedAccess, UpstreamError> {
    let granted = TokenResponse::read(body)?;
    let identity = id_tokens.validate(&granted.id_token, nonce).await?;
    granted.into_access(identity)
}

/// Encodes fields as `application/x-www-form-urlencoded`, for queries and bodies (RFC 6749 appendix B).
fn form_encoded(fields: &[(&str, &str)]) -> Zeroizing<String> {
    // Room for every byte to be escaped: a string that grows would leave copies of secrets in memory.
    let most = fields.iter().map(|(name, value)| name.len() + 3 * value.len() + 2).sum();
    let mut text = Zeroizing::new(String::with_capacity(most));
    form_urlencoded::Serializer::new(&mut *text).extend_pairs(fields);
    text
}

#[cfg(test)]
mod tests;
