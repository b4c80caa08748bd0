//! Acting as a person: sign-in, and what is done with the refresh token that it leaves (SUPEROFFICE.md 4).

use std::{future::ready, time::Duration};

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use secrecy::SecretString;

use super::UpstreamError;
use crate::domain::{ContextIdentifier, Identity, RefreshToken};

/// What a browser is sent to SuperOffice with (SUPEROFFICE.md 4.1).
pub struct AuthorizationRequest<'a> {
    /// Spares the person the choice of a tenant. What tenant the tokens are for, only their identity says.
    pub tenant: Option<ContextIdentifier>,
    /// One that is registered, to the letter.
    pub redirect_uri: &'a str,
    /// Comes back with the code.
    pub state: &'a SecretString,
    /// Comes back in the `id_token`.
    pub nonce: &'a str,
    /// `BASE64URL(SHA256(verifier))`, without padding (RFC 7636 section 4.2).
    pub code_challenge: &'a str,
    /// The person's user name, if it is known.
    pub login_hint: Option<&'a str>,
}

/// What came back from a sign-in, and what must be shown with it.
pub struct CodeExchange<'a> {
    /// Works once, and for ten minutes.
    pub code: &'a SecretString,
    /// That of the authorization request.
    pub redirect_uri: &'a str,
    /// What the challenge was made of (RFC 7636).
    pub verifier: &'a SecretString,
    /// That of the authorization request.
    pub nonce: &'a str,
    /// How long it may wait for its turn; what is sent has a time of its own. Too late is `NotSent`.
    pub patience: Duration,
}

/// An access token, and whose it is: validated.
#[derive(Debug, Clone)]
pub struct Access {
    /// `8A:…`.
    pub access_token: SecretString,
    /// Counted from when it was asked for.
    pub expires_in: Duration,
    /// By the signed `id_token` that came with it. Whether that is the person meant, the use case compares.
    pub identity: Identity,
}

/// A code was exchanged. Its refresh token lives, also where nothing that came with it can be believed: what is
/// not stored is to be revoked.
#[must_use = "the refresh token in it lives"]
pub struct SignedIn {
    /// To be sealed, or revoked.
    pub refresh_token: RefreshToken,
    /// Who signed in.
    pub access: Result<Access, UpstreamError>,
}

/// A refresh token was spent, and was answered.
///
/// A new refresh token in it may be the only one that works now. So it must be stored before anything else is made of
/// the answer, and there is no other way to the rest: [`Refreshed::once_kept`]. Nor is the rest validated before that:
/// public keys may have to be fetched for it, which takes time that a lone token in memory should not have to survive.
#[must_use = "the only refresh token that still works may be in it"]
pub struct Refreshed {
    rotated: Option<RefreshToken>,
    access: BoxFuture<'static, Result<Access, UpstreamError>>,
}

impl Refreshed {
    /// `rotated` is the new refresh token; `None`: the one that was shown goes on.
    pub fn new(rotated: Option<RefreshToken>, access: Result<Access, UpstreamError>) -> Self {
        Self::validated_by(rotated, ready(access))
    }

    /// As [`Self::new`], with a rest that is still to be validated.
    pub fn validated_by(
        rotated: Option<RefreshToken>,
        access: impl Future<Output = Result<Access, UpstreamError>> + Send + 'static,
    ) -> Self {
        Self { rotated, access: Box::pin(access) }
    }

    /// Has the new refresh token kept, then validates the rest and gives it. `keep` gets `None` if the old one goes on.
    ///
    /// # Errors
    /// That of `keep`; nothing is handed out then.
    pub async fn once_kept<E, F>(
        self,
        keep: impl FnOnce(Option<RefreshToken>) -> F,
    ) -> Result<Result<Access, UpstreamError>, E>
    where
        F: Future<Output = Result<(), E>>,
    {
        keep(self.rotated).await?;
        Ok(self.access.await)
    }
}

/// Why a code or a refresh token got no answer of use. Details are ours, for the log; they never repeat what was
/// received.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExchangeError {
    /// It is used, revoked, expired or somebody else's (`invalid_grant`, RFC 6749 section 5.2). While its tenant cannot
    /// be used, that may pass.
    #[error("SuperOffice does not accept the code or refresh token (any more)")]
    InvalidGrant,
    /// Our own secret is wrong, each that is configured: nothing was spent, and no grant is to blame.
    #[error("SuperOffice accepts none of the configured client secrets")]
    InvalidClient,
    /// HTTP 401 without the name of an error, with each secret that is configured. It may be about the secret, or about
    /// the code or token, which is not spent.
    #[error("SuperOffice answers 401 without saying why")]
    Unauthorized,
    /// Surely nothing was spent: it did not leave.
    #[error("not sent: {0}")]
    NotSent(UpstreamError),
    /// It may or may not have been spent; later it may go better.
    #[error("no answer of use: {0}")]
    Transient(String),
    /// Likewise; something came that cannot be believed.
    #[error("SuperOffice's answer cannot be believed: {0}")]
    InvalidResponse(String),
}

impl ExchangeError {
    /// Whether what was shown may work no more though nothing was had for it.
    #[must_use]
    pub fn may_have_been_spent(&self) -> bool {
        matches!(self, Self::Transient(_) | Self::InvalidResponse(_))
    }
}

/// The login host, as persons need it. An implementation belongs to one application.
///
/// Nothing is sent twice by itself, unless it surely did not leave or our secret was refused and there is another.
#[async_trait]
pub trait OAuth: Send + Sync + 'static {
    /// Where a browser signs in. Holds the state: a secret.
    fn authorization_uri(&self, request: &AuthorizationRequest<'_>) -> SecretString;

    /// Exchanges the code of a sign-in. Without a refresh token in it an answer is of no use: `InvalidResponse`.
    async fn exchange_code(&self, exchange: &CodeExchange<'_>) -> Result<SignedIn, ExchangeError>;

    /// Spends a refresh token.
    async fn refresh(&self, refresh_token: &SecretString) -> Result<Refreshed, ExchangeError>;

    /// Revokes a refresh token. One that is revoked already, or never was, is revoked (RFC 7009 section 2.2).
    async fn revoke(&self, refresh_token: &SecretString) -> Result<(), ExchangeError>;
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use secrecy::ExposeSecret as _;

    use super::*;

    fn refreshed() -> Refreshed {
        let rotated = RefreshToken::new(&"new".into()).unwrap();
        Refreshed::new(Some(rotated), Err(UpstreamError::InvalidResponse("forged".to_owned())))
    }

    #[tokio::test]
    async fn a_rotated_token_is_kept_whatever_the_rest_of_the_answer_is() {
        let kept = RefCell::new(None);
        let keep = async |token: Option<RefreshToken>| {
            *kept.borrow_mut() = token;
            Ok::<_, ()>(())
        };
        let rest = refreshed().once_kept(keep).await.unwrap();
        assert!(rest.is_err());
        assert_eq!(kept.take().unwrap().secret().expose_secret(), "new");
    }

    #[tokio::test]
    async fn nothing_is_handed_out_of_which_the_refresh_token_was_not_kept() {
        let failed = refreshed().once_kept(async |_| Err("store")).await;
        assert_eq!(failed.err(), Some("store"));
    }

    #[tokio::test]
    async fn a_rotated_token_does_not_wait_for_the_rest() {
        let rotated = RefreshToken::new(&"new".into()).ok();
        let refreshed = Refreshed::validated_by(rotated, std::future::pending());
        let kept = RefCell::new(None);
        let rest = refreshed.once_kept(|token| {
            *kept.borrow_mut() = token;
            ready(Ok::<_, ()>(()))
        });
        assert!(futures_util::poll!(Box::pin(rest)).is_pending());
        assert!(kept.take().is_some());
    }

    #[test]
    fn only_what_may_have_arrived_may_have_been_spent() {
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
