//! Sealing (encrypting and authenticating) secrets for the store.

use secrecy::SecretString;

/// The place of a secret in the store. It is authenticated with the secret, so a sealed value opens only there.
#[derive(Debug, Clone)]
pub struct SealedField<'a> {
    /// The name of the SuperOffice environment, so that a development row does not open in production.
    pub environment: &'a str,
    /// The table.
    pub table: &'static str,
    /// The resource name of the row.
    pub resource: &'a str,
    /// The column.
    pub field: &'static str,
}

/// Why sealing or opening failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The key with this id is not in the keyring.
    #[error("key {0} is not in the keyring")]
    KeyUnavailable(String),
    /// The sealed bytes are damaged or were moved from another place.
    #[error("a sealed value does not open: {0}")]
    Corrupt(&'static str),
    /// The cryptographic library failed.
    #[error("sealing failed")]
    Failed,
}

/// Seals secrets for the store.
pub trait Sealer: Send + Sync + 'static {
    /// Seals `secret` for its place with the active key.
    ///
    /// # Errors
    /// If there is no active key, or the system's random number generator fails.
    fn seal(&self, place: &SealedField<'_>, secret: &SecretString) -> Result<Vec<u8>, SealError>;

    /// Opens a value that was sealed for the same place.
    ///
    /// # Errors
    /// If its key is missing, or if the bytes were altered or belong to another place.
    fn open(&self, place: &SealedField<'_>, sealed: &[u8]) -> Result<SecretString, SealError>;
}

/// Seals the page tokens of lists, so that callers can neither read nor forge them.
pub trait PageTokens: Send + Sync + 'static {
    /// Seals the state of a listing, bound to `context` (the caller and the query).
    ///
    /// # Errors
    /// If the payload is too long, or the system's random number generator fails.
    fn seal(&self, context: &str, payload: &[u8]) -> Result<String, SealError>;

    /// Opens a token that was sealed for the same context. Returns `None` for any other text.
    fn open(&self, context: &str, token: &str) -> Option<Vec<u8>>;
}
