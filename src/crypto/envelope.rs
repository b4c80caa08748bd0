//! Envelope encryption: each record has a key of its own, and that key is sealed by one of the keyring.
//!
//! Layout: version ‖ length of key id ‖ key id ‖ sealed record key ‖ sealed secret, where sealed is
//! nonce ‖ ciphertext ‖ tag of AES-256-GCM. Both layers are bound to version, key id and the place they are kept at.
//! Because the key id is bound in, rewrapping for another key means opening and sealing again.

use std::{
    fmt,
    sync::atomic::{AtomicUsize, Ordering},
};

use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use super::{
    aead::{AeadKey, KEY_LENGTH, OVERHEAD, associated_data, header, split_header},
    keyring::{Keyring, KeyringError},
};
use crate::ports::{SealError, SealedField, Sealer};

/// The layout above. Another one gets another number, and this one stays readable.
const VERSION: u8 = 1;
const WRAPPED_KEY_LENGTH: usize = KEY_LENGTH + OVERHEAD;

struct WrappingKey {
    id: String,
    key: AeadKey,
}

/// Seals under the active key of a keyring, opens under any of them.
pub struct EnvelopeSealer {
    keys: Vec<WrappingKey>,
    /// Position of the active key. Only [`EnvelopeSealer::activate`] writes it, and only positions of `keys`.
    active: AtomicUsize,
}

impl EnvelopeSealer {
    /// Prepares the keys of a keyring. The store says which one is active; a new store takes
    /// [`Keyring::first_id`].
    ///
    /// # Errors
    /// If the active key is not in the keyring.
    pub fn new(keyring: &Keyring, active_id: &str) -> Result<Self, KeyringError> {
        let active = keyring.position(active_id)?;
        let prepare = |key: &super::KeyEncryptionKey| {
            Ok(WrappingKey {
                id: key.id().to_owned(),
                key: AeadKey::new(key.bytes()).map_err(|_| KeyringError::Failed)?,
            })
        };
        Ok(Self {
            keys: keyring.keys().iter().map(prepare).collect::<Result<_, _>>()?,
            active: AtomicUsize::new(active),
        })
    }

    /// Seals under another key from now on: what a running replica does when the store's active key has changed.
    ///
    /// # Errors
    /// If this key is not in the keyring. The active key stays what it was.
    pub fn activate(&self, id: &str) -> Result<(), KeyringError> {
        let ids = || self.keys.iter().map(|key| key.id.as_str());
        let position = ids()
            .position(|present| present == id)
            .ok_or_else(|| KeyringError::unknown_active(id, ids()))?;
        // Nothing else is published with it: the keys were there from the beginning.
        self.active.store(position, Ordering::Relaxed);
        Ok(())
    }

    /// The id of the key that seals now.
    #[must_use]
    pub fn active_id(&self) -> &str {
        self.active().map(|key| key.id.as_str()).unwrap_or_default()
    }

    fn active(&self) -> Option<&WrappingKey> {
        self.keys.get(self.active.load(Ordering::Relaxed))
    }

    fn find(&self, id: &str) -> Option<&WrappingKey> {
        self.keys.iter().find(|key| key.id == id)
    }
}

impl Sealer for EnvelopeSealer {
    fn seal(&self, place: &SealedField<'_>, secret: &SecretString) -> Result<Vec<u8>, SealError> {
        let wrapping = self.active().ok_or(SealError::Failed)?;
        let mut record_key = Zeroizing::new([0; KEY_LENGTH]);
        aws_lc_rs::rand::fill(record_key.as_mut()).map_err(|_| SealError::Failed)?;

        let secret = secret.expose_secret().as_bytes();
        let mut sealed = header(VERSION, &wrapping.id)?;
        sealed.reserve_exact(WRAPPED_KEY_LENGTH + secret.len() + OVERHEAD);
        wrapping.key.seal_into(
            &bound_to(Layer::RecordKey, &wrapping.id, place),
            record_key.as_ref(),
            &mut sealed,
        )?;
        AeadKey::new(&record_key)?.seal_into(
            &bound_to(Layer::Secret, &wrapping.id, place),
            secret,
            &mut sealed,
        )?;
        Ok(sealed)
    }

    fn open(&self, place: &SealedField<'_>, sealed: &[u8]) -> Result<SecretString, SealError> {
        let parts = Parts::split(sealed).ok_or(SealError::Corrupt("not in the known layout"))?;
        let wrapping = self
            .find(parts.key_id)
            .ok_or_else(|| SealError::KeyUnavailable(parts.key_id.to_owned()))?;

        let record_key = wrapping
            .key
            .open(&bound_to(Layer::RecordKey, parts.key_id, place), parts.wrapped_key)
            .ok_or(SealError::Corrupt("altered, or moved from another place"))?;
        let record_key: &[u8; KEY_LENGTH] = record_key
            .as_slice()
            .try_into()
            .map_err(|_| SealError::Corrupt("its record key has the wrong length"))?;
        let secret = AeadKey::new(record_key)?
            .open(&bound_to(Layer::Secret, parts.key_id, place), parts.secret)
            .ok_or(SealError::Corrupt("altered behind its record key"))?;
        str::from_utf8(&secret).map(SecretString::from).map_err(|_| SealError::Corrupt("not text"))
    }
}

/// Shows ids only.
impl fmt::Debug for EnvelopeSealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EnvelopeSealer")
            .field("active", &self.active_id())
            .field("keys", &self.keys.iter().map(|key| &key.id).collect::<Vec<_>>())
            .finish()
    }
}

/// The id of the key that a sealed value needs, without opening it. `None` if the value is not in a known layout.
#[must_use]
pub fn key_id_of(sealed: &[u8]) -> Option<&str> {
    Parts::split(sealed).map(|parts| parts.key_id)
}

struct Parts<'a> {
    key_id: &'a str,
    wrapped_key: &'a [u8],
    secret: &'a [u8],
}

impl<'a> Parts<'a> {
    fn split(sealed: &'a [u8]) -> Option<Self> {
        let (key_id, rest) = split_header(VERSION, sealed)?;
        let (wrapped_key, secret) = rest.split_at_checked(WRAPPED_KEY_LENGTH)?;
        (secret.len() >= OVERHEAD).then_some(Self { key_id, wrapped_key, secret })
    }
}

#[derive(Clone, Copy)]
enum Layer {
    RecordKey,
    Secret,
}

fn bound_to(layer: Layer, key_id: &str, place: &SealedField<'_>) -> Vec<u8> {
    let layer = match layer {
        Layer::RecordKey => "record key",
        Layer::Secret => "secret",
    };
    associated_data(
        VERSION,
        &[layer, key_id, place.environment, place.table, place.resource, place.field],
    )
}

#[cfg(test)]
mod tests;
