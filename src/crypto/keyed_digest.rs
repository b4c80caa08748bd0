//! Digests that only this process can compare.

use aws_lc_rs::{
    hmac::{self, HMAC_SHA256},
    rand::SystemRandom,
};

use crate::ports::{Digest, SealError};

/// HMAC-SHA256 (RFC 2104) under a random key that lives as long as this value.
#[derive(Debug)]
pub struct KeyedDigest(hmac::Key);

impl KeyedDigest {
    /// Generates the key.
    ///
    /// # Errors
    /// If the system provides no random bytes.
    pub fn new() -> Result<Self, SealError> {
        let key = hmac::Key::generate(HMAC_SHA256, &SystemRandom::new());
        key.map(Self).map_err(|_| SealError::Failed)
    }
}

impl Digest for KeyedDigest {
    fn digest(&self, bytes: &[u8]) -> [u8; 32] {
        let tag = hmac::sign(&self.0, bytes);
        // The length is always that of SHA-256.
        tag.as_ref().first_chunk().copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_depend_on_bytes_and_key() {
        let (one, other) = (KeyedDigest::new().unwrap(), KeyedDigest::new().unwrap());
        assert_eq!(one.digest(b"a"), one.digest(b"a"));
        assert_ne!(one.digest(b"a"), one.digest(b"b"));
        assert_ne!(one.digest(b"a"), other.digest(b"a"));
        assert_ne!(one.digest(b""), [0; 32]);
    }
}
