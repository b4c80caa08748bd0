//! The keyring: a file of key-encryption keys.
//!
//! It changes only by hand: [`Keyring::generate`] makes it, [`Keyring::generate_additional`] adds a key, and nothing
//! ever takes one away, because backups still need it. Which key is active is kept in the store, so that all
//! replicas change over together.

mod error;
mod file;
mod format;

use std::{fmt, path::Path};

use jiff::Timestamp;
use secrecy::{ExposeSecret, ExposeSecretMut, SecretBox};

pub use self::error::{KeyringError, KeyringFormatError};
use super::aead::KEY_LENGTH;

/// One key of the keyring. Its bytes are zeroed when dropped.
pub struct KeyEncryptionKey {
    id: String,
    create_time: Timestamp,
    bytes: SecretBox<[u8; KEY_LENGTH]>,
}

impl KeyEncryptionKey {
    /// The id, by which sealed values name the key.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// When the key was made.
    #[must_use]
    pub fn create_time(&self) -> Timestamp {
        self.create_time
    }

    pub(super) fn bytes(&self) -> &[u8; KEY_LENGTH] {
        self.bytes.expose_secret()
    }

    fn random(now: Timestamp) -> Result<Self, KeyringError> {
        let mut id = [0; 8];
        let mut bytes = SecretBox::new(Box::new([0; KEY_LENGTH]));
        aws_lc_rs::rand::fill(&mut id).map_err(|_| KeyringError::Failed)?;
        aws_lc_rs::rand::fill(bytes.expose_secret_mut()).map_err(|_| KeyringError::Failed)?;
        Ok(Self {
            id: format!("k-{:016x}", u64::from_be_bytes(id)),
            // Whole seconds, because people read it.
            create_time: Timestamp::from_second(now.as_second()).unwrap_or(now),
            bytes,
        })
    }
}

/// Shows the id only.
impl fmt::Debug for KeyEncryptionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.id)
    }
}

/// The keys of one keyring file, in its order. There is at least one. Debug output shows ids only.
#[derive(Debug)]
pub struct Keyring {
    keys: Vec<KeyEncryptionKey>,
}

impl Keyring {
    /// Writes a new keyring file with one key and returns the key's id.
    ///
    /// # Errors
    /// If something with this name exists, or it cannot be written.
    pub fn generate(path: &Path, now: Timestamp) -> Result<String, KeyringError> {
        let key = KeyEncryptionKey::random(now)?;
        file::create(path, &format::new_file(&key))?;
        Ok(key.id)
    }

    /// Adds a key, not yet active, to a keyring file and returns the key's id. What is in the file stays as it is,
    /// comments too. A reader sees the file as it was or as it is then, never half of it.
    ///
    /// # Errors
    /// If [`Keyring::load`] refuses the file, or it cannot be written.
    pub fn generate_additional(path: &Path, now: Timestamp) -> Result<String, KeyringError> {
        file::replace(path, |text| {
            let present = Self::parse(path, text)?;
            let key = loop {
                let key = KeyEncryptionKey::random(now)?;
                if present.get(&key.id).is_none() {
                    break key;
                }
            };
            Ok((format::appended(text, &key), key.id))
        })
    }

    /// Reads a keyring file.
    ///
    /// # Errors
    /// If it is missing, open to the group or to others, or not a keyring.
    pub fn load(path: &Path) -> Result<Self, KeyringError> {
        Self::parse(path, &file::read(path)?)
    }

    pub(crate) fn parse(path: &Path, text: &str) -> Result<Self, KeyringError> {
        match format::parse(text) {
            Ok(keys) => Ok(Self { keys }),
            Err(source) => Err(KeyringError::Format { file: path.to_owned(), source }),
        }
    }

    /// The keys, in the order of the file.
    #[must_use]
    pub fn keys(&self) -> &[KeyEncryptionKey] {
        &self.keys
    }

    /// The ids of the keys, in the order of the file.
    pub fn key_ids(&self) -> impl Iterator<Item = &str> {
        self.keys.iter().map(KeyEncryptionKey::id)
    }

    /// The first key's id: the one that a new store makes active. Empty never, because a keyring has a key.
    #[must_use]
    pub fn first_id(&self) -> &str {
        self.key_ids().next().unwrap_or_default()
    }

    /// The key with this id.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<&KeyEncryptionKey> {
        self.keys.iter().find(|key| key.id == id)
    }

    /// The position of the key with this id, or an error that says what there is instead.
    pub(super) fn position(&self, id: &str) -> Result<usize, KeyringError> {
        self.key_ids()
            .position(|present| present == id)
            .ok_or_else(|| KeyringError::unknown_active(id, self.key_ids()))
    }
}

#[cfg(test)]
mod tests;
