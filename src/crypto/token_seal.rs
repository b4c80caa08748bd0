//! Encrypted page tokens, which callers cannot read, forge or use for another query.
//!
//! The key is derived from the keyring, so a token survives a restart and every replica accepts it. The layout before
//! base64url is: version ‖ length of key id ‖ key id ‖ nonce ‖ ciphertext ‖ tag.

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

/// The maximum length of a page token, in characters.
pub const MAX_PAGE_TOKEN_LENGTH: usize = 1024;

const VERSION: u8 = 1;
/// Separates these keys from other keys that are derived from the same keyring.
const DERIVATION_SALT: &[u8] = b"tenant-gateway key derivation";
const DERIVATION_LABEL: &[u8] = b"page token v1";

/// Seals page tokens with a key derived from the active key; opens them with one derived from any key.
pub struct PageTokenKey {
    active_id: String,
    keys: Vec<(String, AeadKey)>,
}

impl PageTokenKey {
    /// Derives the keys. `active_id` is the same as for [`super::EnvelopeSealer::new`]. A replica that has not noticed
    /// a change yet still uses the old key, which all replicas accept.
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
        key.seal_into(&binding(&self.active_id, context), payload, &mut token)?;
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
        let payload = self.find(key_id)?.open(&binding(key_id, context), sealed)?;
        Some(payload.to_vec())
    }
}

/// Prints only ids.
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

fn binding(key_id: &str, context: &str) -> Vec<u8> {
    associated_data(VERSION, &["page token", key_id, context])
}

#[cfg(test)]
mod tests;
