//! The keys with which the login service signs its tokens.

use std::fmt::Write as _;
use std::sync::Arc;

use aws_lc_rs::digest::{self, SHA1_FOR_LEGACY_USE_ONLY};
use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::der::Reader;
use super::pem::write_pem;

#[derive(Debug)]
pub(crate) struct SigningKey {
    pair: KeyPair,
    /// The SHA-1 in upper-case hex, in the format of SuperOffice's key ids.
    pub(crate) kid: String,
    /// The same SHA-1 in base64url.
    pub(crate) x5t: String,
    modulus: String,
    exponent: String,
    /// The public key in PEM. A forged HS256 token uses it as the shared secret.
    pub(crate) public_pem: String,
}

impl SigningKey {
    pub(crate) fn generate() -> Result<Self, Unspecified> {
        let pair = KeyPair::generate(KeySize::Rsa2048)?;
        let der: PublicKeyX509Der<'_> = pair.public_key().as_der()?;
        // SuperOffice hashes a certificate. The sandbox has none and hashes the public key.
        let thumbprint = digest::digest(&SHA1_FOR_LEGACY_USE_ONLY, der.as_ref());
        let kid = thumbprint.as_ref().iter().fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02X}");
            text
        });
        let mut integers = Reader::new(pair.public_key().as_ref()).sequence().ok_or(Unspecified)?;
        let modulus = URL_SAFE_NO_PAD.encode(integers.integer().ok_or(Unspecified)?);
        let exponent = URL_SAFE_NO_PAD.encode(integers.integer().ok_or(Unspecified)?);
        Ok(Self {
            kid,
            x5t: URL_SAFE_NO_PAD.encode(thumbprint.as_ref()),
            modulus,
            exponent,
            public_pem: write_pem("PUBLIC KEY", der.as_ref()),
            pair,
        })
    }

    pub(crate) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Unspecified> {
        let mut signature = vec![0; self.pair.public_modulus_len()];
        self.pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature)?;
        Ok(signature)
    }

    fn jwk(&self) -> Value {
        json!({
            "kty": "RSA",
            "use": "sig",
            "alg": "RS256",
            "kid": self.kid,
            "x5t": self.x5t,
            "e": self.exponent,
            "n": self.modulus,
        })
    }
}

/// The current key, and old keys that stay published after a rollover.
#[derive(Debug)]
pub(crate) struct SigningKeys {
    current: Arc<SigningKey>,
    old: Vec<Arc<SigningKey>>,
}

impl SigningKeys {
    pub(crate) fn new(key: SigningKey) -> Self {
        Self { current: Arc::new(key), old: Vec::new() }
    }

    pub(crate) fn current(&self) -> Arc<SigningKey> {
        Arc::clone(&self.current)
    }

    pub(crate) fn roll(&mut self, key: SigningKey, keep_old: bool) {
        let previous = std::mem::replace(&mut self.current, Arc::new(key));
        if keep_old {
            self.old.insert(0, previous);
        } else {
            self.old.clear();
        }
    }

    pub(crate) fn jwks(&self) -> Value {
        let keys: Vec<Value> =
            std::iter::once(&self.current).chain(&self.old).map(|key| key.jwk()).collect();
        json!({ "keys": keys })
    }
}
