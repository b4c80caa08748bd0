//! Envelope encryption: each record has its own key, which is encrypted with a key of the keyring.
//!
//! The layout is: version ‖ length of key id ‖ key id ‖ sealed record key ‖ sealed secret. Sealed means nonce ‖
//! ciphertext ‖ tag of AES-256-GCM. Both layers are bound to version, key id and storage location. The secret itself is
//! bound to the key id. So after a change of the key it is not enough to encrypt the record key again: each secret must
//! be opened and sealed again.

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

/// The version of the layout above. A new layout gets a new number, and this one stays readable.
const VERSION: u8 = 1;
const WRAPPED_KEY_LENGTH: usize = KEY_LENGTH + OVERHEAD;

struct WrappingKey {
    id: String,
    key: AeadKey,
}

/// Seals with the active key of a keyring, and opens with any of its keys.
pub struct EnvelopeSealer {
    keys: Vec<WrappingKey>,
    /// The index of the active key in `keys`. Only [`EnvelopeSealer::activate`] changes it.
    active: AtomicUsize,
}

impl EnvelopeSealer {
    /// Prepares the keys of a keyring. The store says which one is active; a new store uses [`Keyring::first_id`].
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

    /// Changes the active key, which seals new values. A running replica calls this when the store's active key has
    /// changed.
    ///
    /// # Errors
    /// If this key is not in the keyring. The active key then stays the same.
    pub fn activate(&self, id: &str) -> Result<(), KeyringError> {
        let ids = || self.keys.iter().map(|key| key.id.as_str());
        let position = ids()
            .position(|present| present == id)
            .ok_or_else(|| KeyringError::unknown_active(id, ids()))?;
        // Relaxed ordering is enough: the keys do not change.
        self.active.store(position, Ordering::Relaxed);
        Ok(())
    }

    /// Returns the id of the active key.
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
            &binding(Layer::RecordKey, &wrapping.id, place),
            record_key.as_ref(),
            &mut sealed,
        )?;
        AeadKey::new(&record_key)?.seal_into(
            &binding(Layer::Secret, &wrapping.id, place),
            secret,
            &mut sealed,
        )?;
        Ok(sealed)
    }

    fn open(&self, place: &SealedField<'_>, sealed: &[u8]) -> Result<SecretString, SealError> {
        let parts = SealedParts::split(sealed).ok_or(SealError::Corrupt("unknown layout"))?;
        let wrapping = self
            .find(parts.key_id)
            .ok_or_else(|| SealError::KeyUnavailable(parts.key_id.to_owned()))?;

        let record_key = wrapping
            .key
            .open(&binding(Layer::RecordKey, parts.key_id, place), parts.wrapped_key)
            .ok_or(SealError::Corrupt("altered, or moved from another location"))?;
        let record_key: &[u8; KEY_LENGTH] = record_key
            .as_slice()
            .try_into()
            .map_err(|_| SealError::Corrupt("its record key has the wrong length"))?;
        let secret = AeadKey::new(record_key)?
            .open(&binding(Layer::Secret, parts.key_id, place), parts.secret)
            .ok_or(SealError::Corrupt("altered after its record key"))?;
        str::from_utf8(&secret).map(SecretString::from).map_err(|_| SealError::Corrupt("not text"))
    }
}

/// Prints only ids.
impl fmt::Debug for EnvelopeSealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EnvelopeSealer")
            .field("active", &self.active_id())
            .field("keys", &self.keys.iter().map(|key| &key.id).collect::<Vec<_>>())
            .finish()
    }
}

/// Returns the id of the key that a sealed value needs, without opening it. `None` if the layout is unknown.
#[must_use]
pub fn key_id_of(sealed: &[u8]) -> Option<&str> {
    SealedParts::split(sealed).map(|parts| parts.key_id)
}

struct SealedParts<'a> {
    key_id: &'a str,
    wrapped_key: &'a [u8],
    secret: &'a [u8],
}

impl<'a> SealedParts<'a> {
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

fn binding(layer: Layer, key_id: &str, place: &SealedField<'_>) -> Vec<u8> {
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
