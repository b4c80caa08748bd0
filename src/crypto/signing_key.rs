//! The RSA key of an application, which signs system user tokens.
//!
//! The Developer Portal shows .NET XML once, and people convert it. So three formats are accepted, and other common
//! inputs get an error that says what to do.

mod error;
mod pem;
mod text;
mod thumbprint;
mod xml;

use std::fmt;

use aws_lc_rs::{
    rand::SystemRandom,
    rsa::{KeyPair, PublicKeyComponents},
    signature::{KeyPair as _, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256},
};
use secrecy::{ExposeSecret, SecretString};

use crate::ports::{SignError, Signer};

pub use self::error::SigningKeyError;

/// The message of the self-test of a new key.
const SELF_TEST_MESSAGE: &[u8] = b"tenant-gateway signing key probe";

/// An RSA private key of 2048 to 8192 bits that signs with RSASSA-PKCS1-v1_5 and SHA-256.
pub struct SigningKey {
    pair: KeyPair,
    key_id: String,
    modulus_bits: usize,
}

impl SigningKey {
    /// Parses a key: .NET XML (`RSAKeyValue`), PKCS#1 PEM or PKCS#8 PEM. Accepts a byte order mark, white space and
    /// quotes around it, and line breaks written as `\n`, as in environment variables.
    ///
    /// The key has passed a self-test: its public key has verified a signature.
    ///
    /// # Errors
    /// With what was found instead and what to do, without any part of the text.
    pub fn parse(text: &SecretString) -> Result<Self, SigningKeyError> {
        let text = text::normalize(text.expose_secret())?;
        let pair = if text.starts_with('<') {
            xml::parse(&text)?
        } else if text.contains(pem::BEGIN) {
            pem::parse(&text)?
        } else {
            return Err(SigningKeyError::Unrecognized);
        };
        Self::self_tested(pair)
    }

    fn self_tested(pair: KeyPair) -> Result<Self, SigningKeyError> {
        let public = PublicKeyComponents::from(pair.public_key());
        let key = Self {
            key_id: thumbprint::jwk_thumbprint(&public.n, &public.e),
            modulus_bits: bits(&public.n),
            pair,
        };
        let signature = key.sign(SELF_TEST_MESSAGE).map_err(|_| SigningKeyError::Inconsistent)?;
        public
            .verify(&RSA_PKCS1_2048_8192_SHA256, SELF_TEST_MESSAGE, &signature)
            .map_err(|_| SigningKeyError::Inconsistent)?;
        Ok(key)
    }

    /// Returns the JWK thumbprint of the public key (RFC 7638, SHA-256, base64url). It is the same for every format of
    /// the key, and not secret.
    #[must_use]
    pub fn key_id(&self) -> &str {
        &self.key_id
    }

    /// Returns the length of the modulus.
    #[must_use]
    pub fn modulus_bits(&self) -> usize {
        self.modulus_bits
    }
}

/// A signature takes a quarter of a millisecond for 2048 bits, and many times that for 8192.
impl Signer for SigningKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
        let mut signature = vec![0; self.pair.public_modulus_len()];
        // The library requires a random source for other paddings, but does not use it for this one.
        self.pair
            .sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature)
            .map_err(|_| SignError)?;
        Ok(signature)
    }
}

/// Prints only key id and length.
impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey")
            .field("key_id", &self.key_id)
            .field("modulus_bits", &self.modulus_bits)
            .finish_non_exhaustive()
    }
}

/// Returns the number of significant bits of a big-endian number without leading zero bytes.
fn bits(number: &[u8]) -> usize {
    let first = number.first().copied().unwrap_or_default();
    (number.len() * 8).saturating_sub(first.leading_zeros() as usize)
}

#[cfg(test)]
mod tests;
