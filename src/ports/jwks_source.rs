//! Where an issuer's public keys come from.

use async_trait::async_trait;

/// The keys were not read. Says what to do; never holds what was sent or received.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct JwksError(pub String);

/// The key set (RFC 7517) of one issuer.
#[async_trait]
pub trait JwksSource: Send + Sync + 'static {
    /// Reads it, whole, and bounded in time and size. Nothing in it is checked.
    ///
    /// # Errors
    /// If it cannot be had.
    async fn fetch(&self) -> Result<Vec<u8>, JwksError>;

    /// Whether reading troubles nobody else: a file of this machine.
    fn is_local(&self) -> bool;
}
