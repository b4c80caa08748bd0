//! The keys that sign the audit trail: Ed25519 (RFC 8032), derived from the keyring.
//!
//! Anyone with the keyring can sign, so the log is protected against those who can write to the store but cannot read
//! the keyring. The keys are derived (RFC 5869) with their own label, so they reveal nothing about the encryption keys.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use aws_lc_rs::{
    aead::AES_256_GCM,
    digest,
    hkdf::{HKDF_SHA256, Salt},
    signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey},
};
use zeroize::Zeroizing;

use super::{
    aead::KEY_LENGTH,
    keyring::{Keyring, KeyringError},
};
use crate::{
    domain::AuditHash,
    ports::{AuditSigner, SignError},
};

/// The same as for page tokens; the labels differ.
const DERIVATION_SALT: &[u8] = b"tenant-gateway key derivation";
const DERIVATION_LABEL: &[u8] = b"audit signing v1";

struct SigningPair {
    id: Arc<str>,
    pair: Ed25519KeyPair,
}

/// Signs with the key derived from the active key of the keyring, and provides the public keys of all keys.
pub struct AuditKeys {
    keys: Vec<SigningPair>,
    /// The index of the active key in `keys`. Only [`AuditKeys::activate`] changes it.
    active: AtomicUsize,
}

impl AuditKeys {
    /// Derives the keys. `active_id` is the same as for [`super::EnvelopeSealer::new`].
    ///
    /// # Errors
    /// If the active key is not in the keyring.
    pub fn new(keyring: &Keyring, active_id: &str) -> Result<Self, KeyringError> {
        let active = keyring.position(active_id)?;
        let pair = |key: &super::KeyEncryptionKey| {
            let pair = derive(key.bytes()).ok_or(KeyringError::Failed)?;
            Ok(SigningPair { id: key.id().into(), pair })
        };
        Ok(Self {
            keys: keyring.keys().iter().map(pair).collect::<Result<_, _>>()?,
            active: AtomicUsize::new(active),
        })
    }

    /// Changes the signing key.
    ///
    /// # Errors
    /// If this key is not in the keyring. The active key then stays the same.
    pub fn activate(&self, id: &str) -> Result<(), KeyringError> {
        let ids = || self.keys.iter().map(|key| &*key.id);
        let position = ids()
            .position(|present| present == id)
            .ok_or_else(|| KeyringError::unknown_active(id, ids()))?;
        self.active.store(position, Ordering::Relaxed);
        Ok(())
    }
}

impl AuditSigner for AuditKeys {
    fn digest(&self, message: &[u8]) -> AuditHash {
        let mut hash = AuditHash::default();
        for (byte, value) in hash.iter_mut().zip(digest::digest(&digest::SHA256, message).as_ref())
        {
            *byte = *value;
        }
        hash
    }

    fn active_key_id(&self) -> Arc<str> {
        let active = self.keys.get(self.active.load(Ordering::Relaxed));
        active.map_or_else(|| "".into(), |key| Arc::clone(&key.id))
    }

    fn sign(&self, key_id: &str, message: &[u8]) -> Result<Vec<u8>, SignError> {
        let key = self.keys.iter().find(|key| &*key.id == key_id).ok_or(SignError)?;
        Ok(key.pair.sign(message).as_ref().to_vec())
    }

    fn public_keys(&self) -> Vec<(String, Vec<u8>)> {
        let public = |key: &SigningPair| {
            (key.id.as_ref().to_owned(), key.pair.public_key().as_ref().to_vec())
        };
        self.keys.iter().map(public).collect()
    }

    fn verify(&self, public_key: &[u8], message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, public_key).verify(message, signature).is_ok()
    }
}

/// Prints only ids.
impl fmt::Debug for AuditKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuditKeys").field("active", &self.active_key_id()).finish_non_exhaustive()
    }
}

fn derive(key: &[u8; KEY_LENGTH]) -> Option<Ed25519KeyPair> {
    let mut seed = Zeroizing::new([0; KEY_LENGTH]);
    Salt::new(HKDF_SHA256, DERIVATION_SALT)
        .extract(key)
        // The algorithm only determines the length: a seed is as long as an AES-256 key.
        .expand(&[DERIVATION_LABEL], &AES_256_GCM)
        .and_then(|material| material.fill(seed.as_mut()))
        .ok()?;
    Ed25519KeyPair::from_seed_unchecked(seed.as_ref()).ok()
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use tempfile::TempDir;

    use super::*;

    /// Two replicas with the same keyring of two keys, and different active keys.
    fn replicas() -> [AuditKeys; 2] {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("keyring.toml");
        let first = Keyring::generate(&path, Timestamp::UNIX_EPOCH).unwrap();
        let second = Keyring::generate_additional(&path, Timestamp::UNIX_EPOCH).unwrap();
        [first, second].map(|id| AuditKeys::new(&Keyring::load(&path).unwrap(), &id).unwrap())
    }

    fn public_key(keys: &AuditKeys, id: &str) -> Vec<u8> {
        keys.public_keys().into_iter().find(|(present, _)| present == id).unwrap().1
    }

    #[test]
    fn replicas_verify_each_others_signatures() {
        let [one, other] = replicas();
        let id = one.active_key_id();
        assert_ne!(id, other.active_key_id());
        let signature = one.sign(&id, b"head").unwrap();
        let key = public_key(&other, &id);
        assert!(other.verify(&key, b"head", &signature));
        assert!(!other.verify(&key, b"heae", &signature));
        assert!(!other.verify(&key, b"head", &signature[1..]));
        assert!(!other.verify(&public_key(&one, &other.active_key_id()), b"head", &signature));
        assert!(!other.verify(b"", b"head", &signature));
        assert!(one.sign("k-unknown", b"head").is_err());
    }

    #[test]
    fn activates_known_keys_and_rejects_unknown_ones() {
        let [one, other] = replicas();
        one.activate(&other.active_key_id()).unwrap();
        assert_eq!(one.active_key_id(), other.active_key_id());
        assert!(one.activate("k-unknown").is_err());
        assert_eq!(one.active_key_id(), other.active_key_id());
    }

    #[test]
    fn the_digest_is_sha_256() {
        let [keys, _] = replicas();
        let wanted = 0xba78_16bf_8f01_cfea_4141_40de_5dae_2223_u128;
        assert_eq!(keys.digest(b"abc")[..16], wanted.to_be_bytes());
    }
}
