//! Telling deliveries of SuperOffice from anybody's.

/// Verifies the signature of webhooks under one secret.
pub trait WebhookVerifier: Send + Sync + 'static {
    /// Whether `signature`, as the header has it, is that of `body` under the secret. Takes as long whatever of it is
    /// wrong.
    fn has_signed(&self, body: &[u8], signature: &[u8]) -> bool;
}
