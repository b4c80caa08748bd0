//! Sources of an issuer's public keys.

use async_trait::async_trait;

/// The keys could not be read. The message says what to do and contains nothing that was sent or received.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct JwksError(pub String);

/// The JSON Web Key Set (RFC 7517) of one issuer.
#[async_trait]
pub trait JwksSource: Send + Sync + 'static {
    /// Reads the complete key set, with limits on time and size. Does not validate it.
    ///
    /// # Errors
    /// If it cannot be read.
    async fn fetch(&self) -> Result<Vec<u8>, JwksError>;

    /// Returns whether the source is a local file, which can be read without load on another host.
    fn is_local(&self) -> bool;
}
