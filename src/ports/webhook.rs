//! Telling deliveries of SuperOffice from anybody's.

use async_trait::async_trait;
use jiff::Timestamp;
use secrecy::SecretString;

use super::{StoreError, UpstreamError};
use crate::domain::ContextIdentifier;

/// A notification that the login host has signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedNotification {
    /// The tenant that it names, if it names one.
    pub tenant: Option<ContextIdentifier>,
    /// The id of its token, if it has one (RFC 7519 section 4.1.7).
    pub id: Option<String>,
    /// From then on its token is not taken any more.
    pub expire_time: Timestamp,
}

/// Remembers notifications that were taken, so that each is taken once.
#[async_trait]
pub trait NotificationStore: Send + Sync + 'static {
    /// Notes a notification until its token has expired. `false` if it was noted before: of all who bring it, one is
    /// told `true`.
    async fn use_once(
        &self,
        digest: &[u8; 32],
        expire_time: Timestamp,
        now: Timestamp,
    ) -> Result<bool, StoreError>;

    /// Whether a notification was noted and its token has not expired. Changes nothing.
    async fn is_used(&self, digest: &[u8; 32], now: Timestamp) -> Result<bool, StoreError>;
}

/// Verifies who tells that the state of a tenant has changed (SUPEROFFICE.md 8).
#[async_trait]
pub trait NotificationVerifier: Send + Sync + 'static {
    /// Whether the login host of this application has signed the token for it, and it is current. Gives what it says.
    ///
    /// # Errors
    /// `InvalidResponse` if not; anything else if that cannot be told.
    async fn verify(&self, token: &SecretString) -> Result<SignedNotification, UpstreamError>;
}

/// Verifies the signature of webhooks under one secret.
pub trait WebhookVerifier: Send + Sync + 'static {
    /// Whether `signature`, as the header has it, is that of `body` under the secret. Takes as long whatever of it is
    /// wrong.
    fn has_signed(&self, body: &[u8], signature: &[u8]) -> bool;
}
