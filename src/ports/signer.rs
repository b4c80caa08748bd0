//! Signing system user tokens.

/// Signing failed. Contains nothing about the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("signing failed")]
pub struct SignError;

/// An RSA private key, which never leaves the `crypto` module.
pub trait Signer: Send + Sync + 'static {
    /// Signs `message` with RSASSA-PKCS1-v1_5 and SHA-256 (RFC 8017).
    ///
    /// # Errors
    /// If the cryptographic library fails.
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignError>;
}
