//! The RSA key of an application, which signs system user tokens (SUPEROFFICE.md 2.3 and 3).
//!
//! The Developer Portal hands out .NET XML once, and people convert it, so three forms are read and everything else
//! that people try is recognised and answered with what to do.

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

/// What a new key signs to prove that it can.
const PROBE: &[u8] = b"tenant-gateway signing key probe";

/// An RSA private key of 2048 to 8192 bits that signs with RSASSA-PKCS1-v1_5 and SHA-256.
pub struct SigningKey {
    pair: KeyPair,
    key_id: String,
    modulus_bits: usize,
}

impl SigningKey {
    /// Reads a key: .NET XML (`RSAKeyValue`), PKCS#1 PEM or PKCS#8 PEM. A byte order mark, white space and quotes
    /// around it, and line breaks written as `\n`, as they come out of environment variables, are borne.
    ///
    /// A key that comes back has signed a message whose signature its public half verified.
    ///
    /// # Errors
    /// With what was found instead and what to do about it, without any part of the text.
    pub fn parse(text: &SecretString) -> Result<Self, SigningKeyError> {
        let text = text::normalize(text.expose_secret())?;
        let pair = if text.starts_with('<') {
            xml::parse(&text)?
        } else if text.contains(pem::BEGIN) {
            pem::parse(&text)?
        } else {
            return Err(SigningKeyError::Unrecognized);
        };
        Self::proven(pair)
    }

    fn proven(pair: KeyPair) -> Result<Self, SigningKeyError> {
        let public = PublicKeyComponents::from(pair.public_key());
        let key = Self {
            key_id: thumbprint::jwk_thumbprint(&public.n, &public.e),
            modulus_bits: bits(&public.n),
            pair,
        };
        let signature = key.sign(PROBE).map_err(|_| SigningKeyError::Inconsistent)?;
        public
            .verify(&RSA_PKCS1_2048_8192_SHA256, PROBE, &signature)
            .map_err(|_| SigningKeyError::Inconsistent)?;
        Ok(key)
    }

    /// The JWK thumbprint of the public key (RFC 7638, SHA-256, base64url): the same for every form of the same key,
    /// and no secret.
    #[must_use]
    pub fn key_id(&self) -> &str {
        &self.key_id
    }

    /// The length of the modulus.
    #[must_use]
    pub fn modulus_bits(&self) -> usize {
        self.modulus_bits
    }
}

/// Takes a quarter of a millisecond for 2048 bits and many times that for 8192.
impl Signer for SigningKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
        let mut signature = vec![0; self.pair.public_modulus_len()];
        // The library takes a source of randomness for other paddings and does not use it for this one.
        self.pair
            .sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature)
            .map_err(|_| SignError)?;
        Ok(signature)
    }
}

/// Shows key id and length only.
impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey")
            .field("key_id", &self.key_id)
            .field("modulus_bits", &self.modulus_bits)
            .finish_non_exhaustive()
    }
}

/// Significant bits of a big-endian number without leading zero bytes.
fn bits(number: &[u8]) -> usize {
    let first = number.first().copied().unwrap_or_default();
    (number.len() * 8).saturating_sub(first.leading_zeros() as usize)
}

#[cfg(test)]
mod tests;
