//! Signing system user tokens.

/// The key could not sign. Says nothing of the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("signing failed")]
pub struct SignError;

/// An RSA private key that never leaves its room.
pub trait Signer: Send + Sync + 'static {
    /// RSASSA-PKCS1-v1_5 with SHA-256 (RFC 8017) over `message`.
    ///
    /// # Errors
    /// If the cryptographic library fails.
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignError>;
}
