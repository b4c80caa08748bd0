//! The keyring: a file of key-encryption keys.
//!
//! It changes only by commands: [`Keyring::generate`] creates it and [`Keyring::generate_additional`] adds a key. No
//! key is ever removed, because backups still need it. The store records which key is active, so that all replicas
//! change at the same time.

mod error;
mod file;
mod format;

use std::{fmt, path::Path};

use jiff::Timestamp;
use secrecy::{ExposeSecret, ExposeSecretMut, SecretBox};

pub use self::error::{KeyringError, KeyringFormatError};
use super::aead::KEY_LENGTH;

/// A key of the keyring. Its bytes are zeroed when dropped.
pub struct KeyEncryptionKey {
    id: String,
    create_time: Timestamp,
    bytes: SecretBox<[u8; KEY_LENGTH]>,
}

impl KeyEncryptionKey {
    /// Returns the id, which sealed values contain.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Returns the time at which the key was created.
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
            // Whole seconds are easier to read.
            create_time: Timestamp::from_second(now.as_second()).unwrap_or(now),
            bytes,
        })
    }
}

/// Prints only the id.
impl fmt::Debug for KeyEncryptionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.id)
    }
}

/// The keys of a keyring file, in file order. There is at least one. Debug output contains only ids.
#[derive(Debug)]
pub struct Keyring {
    keys: Vec<KeyEncryptionKey>,
}

impl Keyring {
    /// Writes a new keyring file with one key and returns the key's id.
    ///
    /// # Errors
    /// If the path exists, or cannot be written.
    pub fn generate(path: &Path, now: Timestamp) -> Result<String, KeyringError> {
        let key = KeyEncryptionKey::random(now)?;
        file::create(path, &format::new_file(&key))?;
        Ok(key.id)
    }

    /// Adds an inactive key to a keyring file and returns its id. The rest of the file stays unchanged, including
    /// comments. The file is replaced atomically.
    ///
    /// # Errors
    /// If [`Keyring::load`] rejects the file, or it cannot be written.
    pub fn generate_additional(path: &Path, now: Timestamp) -> Result<String, KeyringError> {
        file::replace(path, |text| {
            let present = Self::parse(path, text)?;
            let key = loop {
                let key = KeyEncryptionKey::random(now)?;
                if present.get(&key.id).is_none() {
                    break key;
                }
            };
            Ok((format::append_key(text, &key), key.id))
        })
    }

    /// Reads a keyring file.
    ///
    /// # Errors
    /// If it is missing, accessible by the group or others, or not a keyring.
    pub fn load(path: &Path) -> Result<Self, KeyringError> {
        Self::parse(path, &file::read(path)?)
    }

    pub(crate) fn parse(path: &Path, text: &str) -> Result<Self, KeyringError> {
        match format::parse(text) {
            Ok(keys) => Ok(Self { keys }),
            Err(source) => Err(KeyringError::Format { file: path.to_owned(), source }),
        }
    }

    /// Returns the keys, in the order of the file.
    #[must_use]
    pub fn keys(&self) -> &[KeyEncryptionKey] {
        &self.keys
    }

    /// Returns the ids of the keys, in the order of the file.
    pub fn key_ids(&self) -> impl Iterator<Item = &str> {
        self.keys.iter().map(KeyEncryptionKey::id)
    }

    /// Returns the first key's id, which is the active key of a new store. Never empty, because a keyring has a key.
    #[must_use]
    pub fn first_id(&self) -> &str {
        self.key_ids().next().unwrap_or_default()
    }

    /// Returns the key with this id.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<&KeyEncryptionKey> {
        self.keys.iter().find(|key| key.id == id)
    }

    /// Returns the index of the key with this id, or an error with the existing ids.
    pub(super) fn position(&self, id: &str) -> Result<usize, KeyringError> {
        self.key_ids()
            .position(|present| present == id)
            .ok_or_else(|| KeyringError::unknown_active(id, self.key_ids()))
    }
}

#[cfg(test)]
mod tests;
