//! OAuth at SuperOffice's login host: authorization code, refresh and revocation (RFC 6749, RFC 7009).

use std::{future::ready, time::Duration};

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use secrecy::SecretString;

use super::UpstreamError;
use crate::domain::{ContextIdentifier, RefreshToken, VerifiedIdentity};

/// The parameters of an authorization request (RFC 6749 section 4.1.1).
pub struct AuthorizationRequest<'a> {
    /// The tenant to preselect, so that the person need not choose one. Only the identity in the tokens proves a
    /// tenant.
    pub tenant: Option<ContextIdentifier>,
    /// The redirect URI, exactly as registered at SuperOffice.
    pub redirect_uri: &'a str,
    /// The value that SuperOffice returns with the code.
    pub state: &'a SecretString,
    /// The value that SuperOffice returns in the `id_token`.
    pub nonce: &'a str,
    /// `BASE64URL(SHA256(verifier))`, without padding (RFC 7636 section 4.2).
    pub code_challenge: &'a str,
    /// The person's user name, if it is known.
    pub login_hint: Option<&'a str>,
}

/// The parameters of an access token request with an authorization code (RFC 6749 section 4.1.3).
pub struct CodeExchange<'a> {
    /// The authorization code. It works once and expires after ten minutes.
    pub code: &'a SecretString,
    /// The redirect URI of the authorization request.
    pub redirect_uri: &'a str,
    /// The PKCE code verifier (RFC 7636).
    pub verifier: &'a SecretString,
    /// The nonce of the authorization request.
    pub nonce: &'a str,
    /// The longest wait for the concurrency limit of the login host; the request itself has its own timeout. A request
    /// that waited too long ends as `NotSent`.
    pub max_wait: Duration,
}

/// A validated access token and the identity of its owner.
#[derive(Debug, Clone)]
pub struct VerifiedAccess {
    /// `8A:…`.
    pub access_token: SecretString,
    /// The lifetime, counted from the time of the request.
    pub expires_in: Duration,
    /// The owner, from the signed `id_token` in the same response. The use case checks that it is the expected person.
    pub identity: VerifiedIdentity,
}

/// The response to a code exchange. The refresh token is valid even if the rest of the response is not: it must be
/// stored or revoked.
#[must_use = "it holds a valid refresh token, which must be stored or revoked"]
pub struct CodeResponse {
    /// The refresh token, to be stored or revoked.
    pub refresh_token: RefreshToken,
    /// The validated access token, or the reason why the rest of the response is invalid.
    pub access: Result<VerifiedAccess, UpstreamError>,
}

/// The response to a refresh.
///
/// A rotated refresh token in it may be the only one that works now. It must be stored before the rest of the response
/// is used, and [`Self::after_storing`] is the only way to the rest. The rest is validated afterwards, because that may
/// fetch public keys, and a crash meanwhile would lose a token that exists only in memory.
#[must_use = "it may hold the only valid refresh token"]
pub struct RefreshResponse {
    rotated: Option<RefreshToken>,
    access: BoxFuture<'static, Result<VerifiedAccess, UpstreamError>>,
}

impl RefreshResponse {
    /// Creates a response. `rotated` is the new refresh token; with `None`, the one that was sent stays valid.
    pub fn new(
        rotated: Option<RefreshToken>,
        access: Result<VerifiedAccess, UpstreamError>,
    ) -> Self {
        Self::with_pending_validation(rotated, ready(access))
    }

    /// Creates a response like [`Self::new`]; `access` validates the rest when it is awaited.
    pub fn with_pending_validation(
        rotated: Option<RefreshToken>,
        access: impl Future<Output = Result<VerifiedAccess, UpstreamError>> + Send + 'static,
    ) -> Self {
        Self { rotated, access: Box::pin(access) }
    }

    /// Awaits `keep`, which stores the rotated refresh token (`None` if there is none), then validates and returns the
    /// rest.
    ///
    /// # Errors
    /// The error of `keep`. The rest is not returned then.
    pub async fn after_storing<E, F>(
        self,
        keep: impl FnOnce(Option<RefreshToken>) -> F,
    ) -> Result<Result<VerifiedAccess, UpstreamError>, E>
    where
        F: Future<Output = Result<(), E>>,
    {
        keep(self.rotated).await?;
        Ok(self.access.await)
    }
}

/// A failed code exchange, refresh or revocation. Details are written by the gateway, for the log, and never repeat
/// received text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExchangeError {
    /// The code or token is used, revoked, expired or issued to another client (`invalid_grant`, RFC 6749 section 5.2).
    /// While its tenant is unusable, this can be temporary.
    #[error("SuperOffice does not accept the code or refresh token (any more)")]
    InvalidGrant,
    /// SuperOffice rejects every configured client secret (`invalid_client`). The code or token is not used up.
    #[error("SuperOffice accepts none of the configured client secrets")]
    InvalidClient,
    /// HTTP 401 without an error code, with every configured client secret. The cause may be the secret, or the code or
    /// token, which is not used up.
    #[error("SuperOffice answers 401 without an error code")]
    Unauthorized,
    /// The request was not sent, so the code or token is not used up.
    #[error("not sent: {0}")]
    NotSent(UpstreamError),
    /// A temporary failure. The code or token may be used up.
    #[error("SuperOffice's answer cannot be used: {0}")]
    Transient(String),
    /// The response is invalid. The code or token may be used up.
    #[error("SuperOffice's answer is invalid: {0}")]
    InvalidResponse(String),
}

impl ExchangeError {
    /// Returns whether the code or token may be used up although no token was received for it.
    #[must_use]
    pub fn may_have_been_spent(&self) -> bool {
        matches!(self, Self::Transient(_) | Self::InvalidResponse(_))
    }
}

/// The OAuth endpoints of the login host, for one application.
///
/// A request is repeated only if it was not sent, or if the client secret was rejected and another one is configured.
#[async_trait]
pub trait OAuth: Send + Sync + 'static {
    /// Returns the URI at which a browser signs in. It contains the `state`, which is a secret.
    fn authorization_uri(&self, request: &AuthorizationRequest<'_>) -> SecretString;

    /// Exchanges an authorization code. A response without a refresh token is `InvalidResponse`.
    async fn exchange_code(
        &self,
        exchange: &CodeExchange<'_>,
    ) -> Result<CodeResponse, ExchangeError>;

    /// Requests an access token with a refresh token.
    async fn refresh(&self, refresh_token: &SecretString)
    -> Result<RefreshResponse, ExchangeError>;

    /// Revokes a refresh token. Succeeds for a token that is already revoked or unknown (RFC 7009 section 2.2).
    async fn revoke(&self, refresh_token: &SecretString) -> Result<(), ExchangeError>;
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use secrecy::ExposeSecret as _;

    use super::*;

    fn refreshed() -> RefreshResponse {
        let rotated = RefreshToken::new(&"new".into()).unwrap();
        RefreshResponse::new(
            Some(rotated),
            Err(UpstreamError::InvalidResponse("forged".to_owned())),
        )
    }

    #[tokio::test]
    async fn rotated_token_is_stored_even_if_the_rest_is_invalid() {
        let kept = RefCell::new(None);
        let keep = async |token: Option<RefreshToken>| {
            *kept.borrow_mut() = token;
            Ok::<_, ()>(())
        };
        let rest = refreshed().after_storing(keep).await.unwrap();
        assert!(rest.is_err());
        assert_eq!(kept.take().unwrap().secret().expose_secret(), "new");
    }

    #[tokio::test]
    async fn rest_is_not_returned_if_storing_the_refresh_token_fails() {
        let failed = refreshed().after_storing(async |_| Err("store")).await;
        assert_eq!(failed.err(), Some("store"));
    }

    #[tokio::test]
    async fn rotated_token_is_stored_before_the_rest_is_validated() {
        let rotated = RefreshToken::new(&"new".into()).ok();
        let refreshed = RefreshResponse::with_pending_validation(rotated, std::future::pending());
        let kept = RefCell::new(None);
        let rest = refreshed.after_storing(|token| {
            *kept.borrow_mut() = token;
            ready(Ok::<_, ()>(()))
        });
        assert!(futures_util::poll!(Box::pin(rest)).is_pending());
        assert!(kept.take().is_some());
    }

    #[test]
    fn only_possibly_received_requests_may_have_been_spent() {
        let detail = String::new;
        for (error, spent) in [
            (ExchangeError::InvalidGrant, false),
            (ExchangeError::InvalidClient, false),
            (ExchangeError::Unauthorized, false),
            (ExchangeError::NotSent(UpstreamError::Unavailable(detail())), false),
            (ExchangeError::Transient(detail()), true),
            (ExchangeError::InvalidResponse(detail()), true),
        ] {
            assert_eq!(error.may_have_been_spent(), spent, "{error}");
        }
    }
}
