//! Authenticating webhooks and notifications of SuperOffice.

use async_trait::async_trait;
use jiff::Timestamp;
use secrecy::SecretString;

use super::{StoreError, UpstreamError};
use crate::domain::ContextIdentifier;

/// A notification that the login host has signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedNotification {
    /// The tenant in the notification, if there is one.
    pub tenant: Option<ContextIdentifier>,
    /// The `jti` claim of its token, if there is one (RFC 7519 section 4.1.7).
    pub id: Option<String>,
    /// The time from which its token is rejected.
    pub expire_time: Timestamp,
}

/// Stores the digests of accepted notifications, so that each is accepted once.
#[async_trait]
pub trait NotificationStore: Send + Sync + 'static {
    /// Marks a notification as used until its token expires. Returns `false` if it was already used: of concurrent
    /// calls, exactly one returns `true`.
    async fn mark_used(
        &self,
        digest: &[u8; 32],
        expire_time: Timestamp,
        now: Timestamp,
    ) -> Result<bool, StoreError>;

    /// Returns whether a notification is marked as used and its token has not expired. Changes nothing.
    async fn is_used(&self, digest: &[u8; 32], now: Timestamp) -> Result<bool, StoreError>;
}

/// Verifies notifications that the state of a tenant has changed.
#[async_trait]
pub trait NotificationVerifier: Send + Sync + 'static {
    /// Verifies that the login host signed the token for this application and that it has not expired. Returns its
    /// content.
    ///
    /// # Errors
    /// `InvalidResponse` if the token is not valid; another error if that could not be checked.
    async fn verify(&self, token: &SecretString) -> Result<SignedNotification, UpstreamError>;
}

/// Verifies the signatures of webhooks with one secret.
pub trait WebhookVerifier: Send + Sync + 'static {
    /// Returns whether `signature`, the value of the header, is valid for `body`. Compares in constant time.
    fn is_signature_valid(&self, body: &[u8], signature: &[u8]) -> bool;
}
