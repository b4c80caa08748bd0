//! Telling deliveries of SuperOffice from anybody's.

use async_trait::async_trait;
use secrecy::SecretString;

use super::UpstreamError;
use crate::domain::ContextIdentifier;

/// Verifies who tells that the state of a tenant has changed (SUPEROFFICE.md 8).
#[async_trait]
pub trait NotificationVerifier: Send + Sync + 'static {
    /// Whether the login host of this application has signed the token, and it is current. Gives the tenant that it
    /// names, if it names one.
    ///
    /// # Errors
    /// `InvalidResponse` if not; anything else if that cannot be told.
    async fn verify(
        &self,
        token: &SecretString,
    ) -> Result<Option<ContextIdentifier>, UpstreamError>;
}

/// Verifies the signature of webhooks under one secret.
pub trait WebhookVerifier: Send + Sync + 'static {
    /// Whether `signature`, as the header has it, is that of `body` under the secret. Takes as long whatever of it is
    /// wrong.
    fn has_signed(&self, body: &[u8], signature: &[u8]) -> bool;
}
