//! Page tokens that callers carry but cannot read, forge or use elsewhere.
//!
//! Their key is derived from the keyring, so a token survives a restart and every replica takes it. Layout before
//! base64url: version ‖ length of key id ‖ key id ‖ nonce ‖ ciphertext ‖ tag.

use std::fmt;

use aws_lc_rs::{
    aead::AES_256_GCM,
    hkdf::{HKDF_SHA256, Salt},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use zeroize::Zeroizing;

use super::{
    aead::{AeadKey, KEY_LENGTH, associated_data, header, split_header},
    keyring::{Keyring, KeyringError},
};
use crate::ports::{PageTokens, SealError};

/// The longest token that is made or looked at, in characters.
pub const MAX_PAGE_TOKEN_LENGTH: usize = 1024;

const VERSION: u8 = 1;
/// Separates these keys from any others that may one day be derived from the same keyring.
const DERIVATION_SALT: &[u8] = b"tenant-gateway key derivation";
const DERIVATION_LABEL: &[u8] = b"page token v1";

/// Seals page tokens under a key made from the active key, opens them under one made from any key of the keyring.
pub struct PageTokenKey {
    active_id: String,
    keys: Vec<(String, AeadKey)>,
}

impl PageTokenKey {
    /// Derives the keys. `active_id` is the same as for [`super::EnvelopeSealer::new`]; a replica that does not know
    /// yet of a change makes tokens under the old key, which all replicas take.
    ///
    /// # Errors
    /// If the active key is not in the keyring.
    pub fn new(keyring: &Keyring, active_id: &str) -> Result<Self, KeyringError> {
        keyring.position(active_id)?;
        let derived = keyring.keys().iter().map(|key| {
            let derived = derive(key.bytes()).map_err(|_| KeyringError::Failed)?;
            Ok((key.id().to_owned(), derived))
        });
        Ok(Self { active_id: active_id.to_owned(), keys: derived.collect::<Result<_, _>>()? })
    }

    fn find(&self, id: &str) -> Option<&AeadKey> {
        let (_, key) = self.keys.iter().find(|(present, _)| present == id)?;
        Some(key)
    }
}

impl PageTokens for PageTokenKey {
    fn seal(&self, context: &str, payload: &[u8]) -> Result<String, SealError> {
        let key = self.find(&self.active_id).ok_or(SealError::Failed)?;
        let mut token = header(VERSION, &self.active_id)?;
        key.seal_into(&bound_to(&self.active_id, context), payload, &mut token)?;
        let token = URL_SAFE_NO_PAD.encode(token);
        if token.len() > MAX_PAGE_TOKEN_LENGTH {
            return Err(SealError::Failed);
        }
        Ok(token)
    }

    fn open(&self, context: &str, token: &str) -> Option<Vec<u8>> {
        if token.len() > MAX_PAGE_TOKEN_LENGTH {
            return None;
        }
        let token = URL_SAFE_NO_PAD.decode(token).ok()?;
        let (key_id, sealed) = split_header(VERSION, &token)?;
        let payload = self.find(key_id)?.open(&bound_to(key_id, context), sealed)?;
        Some(payload.to_vec())
    }
}

/// Shows ids only.
impl fmt::Debug for PageTokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PageTokenKey").field("active", &self.active_id).finish_non_exhaustive()
    }
}

fn derive(key: &[u8; KEY_LENGTH]) -> Result<AeadKey, SealError> {
    let mut derived = Zeroizing::new([0; KEY_LENGTH]);
    Salt::new(HKDF_SHA256, DERIVATION_SALT)
        .extract(key)
        .expand(&[DERIVATION_LABEL], &AES_256_GCM)
        .and_then(|material| material.fill(derived.as_mut()))
        .map_err(|_| SealError::Failed)?;
    AeadKey::new(&derived)
}

fn bound_to(key_id: &str, context: &str) -> Vec<u8> {
    associated_data(VERSION, &["page token", key_id, context])
}

#[cfg(test)]
mod tests;
