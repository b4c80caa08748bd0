//! Sealing what is stored.

use secrecy::SecretString;

/// Where a secret is kept. It is bound to that place: sealed for one, it opens in no other.
#[derive(Debug, Clone)]
pub struct SealedField<'a> {
    /// The environment's name, so that a development row does not open in production.
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
    /// The bytes do not open: damaged, or moved from another place.
    #[error("a sealed value does not open: {0}")]
    Corrupt(&'static str),
    /// The cryptographic library failed.
    #[error("sealing failed")]
    Failed,
}

/// Seals secrets for the store (DESIGN rule 6.3).
pub trait Sealer: Send + Sync + 'static {
    /// Seals `secret` for its place, under the active key.
    ///
    /// # Errors
    /// If there is no active key or no randomness.
    fn seal(&self, place: &SealedField<'_>, secret: &SecretString) -> Result<Vec<u8>, SealError>;

    /// Opens what was sealed for the same place.
    ///
    /// # Errors
    /// If its key is missing, or if the bytes were altered or belong to another place.
    fn open(&self, place: &SealedField<'_>, sealed: &[u8]) -> Result<SecretString, SealError>;
}

/// Seals the page tokens of lists, so that callers can neither read nor make them.
pub trait PageTokens: Send + Sync + 'static {
    /// Seals what is needed to go on, bound to `context` (the caller and the query).
    ///
    /// # Errors
    /// If it is too long, or if there is no randomness.
    fn seal(&self, context: &str, payload: &[u8]) -> Result<String, SealError>;

    /// Opens a token that was made for the same context; `None` for any other text.
    fn open(&self, context: &str, token: &str) -> Option<Vec<u8>>;
}
