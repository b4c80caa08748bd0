//! Public keys that outlive key rotation. A signature stays verifiable after its key has left the keyring, because a
//! later active key has certified the public key.

use std::collections::BTreeMap;

use super::AuditSignature;

/// The prefix of a signed certificate, for domain separation: no other message signed with these keys starts with it.
const CERTIFICATE_DOMAIN: &[u8] = b"tenant-gateway audit public key v1\0";

/// A stored public key. It verifies old signatures after the private key has left the keyring.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredPublicKey {
    /// The id of the key.
    pub key_id: String,
    /// The public key.
    pub public_key: Vec<u8>,
    /// The signature over this public key by a key that became active later.
    pub certificate: AuditSignature,
}

/// The public keys whose signatures are valid, by key id.
#[derive(Debug, Default)]
pub struct TrustedKeys(BTreeMap<String, Vec<u8>>);

/// Says whether a public key has made a signature: it gets the key, the message and the signature.
type Verify<'a> = dyn Fn(&[u8], &[u8], &[u8]) -> bool + 'a;

impl TrustedKeys {
    /// Returns the keys of the keyring, the stored keys that these have certified, and so on.
    #[must_use]
    pub fn new(
        keyring: Vec<(String, Vec<u8>)>,
        stored: Vec<StoredPublicKey>,
        verify: &Verify<'_>,
    ) -> Self {
        let mut trusted = Self(keyring.into_iter().collect());
        let mut left = stored;
        loop {
            let before = left.len();
            left.retain(|key| {
                let good =
                    !trusted.0.contains_key(&key.key_id) && trusted.is_certified(key, verify);
                if good {
                    trusted.0.insert(key.key_id.clone(), key.public_key.clone());
                }
                !good
            });
            if left.len() == before {
                return trusted;
            }
        }
    }

    /// Returns whether a trusted key has certified a stored key.
    #[must_use]
    pub fn is_certified(&self, key: &StoredPublicKey, verify: &Verify<'_>) -> bool {
        let by = &key.certificate;
        let message = certificate_message(&key.key_id, &key.public_key, &by.key_id);
        self.get(&by.key_id).is_some_and(|public| verify(public, &message, &by.bytes))
    }

    /// Returns a trusted key.
    #[must_use]
    pub fn get(&self, key_id: &str) -> Option<&[u8]> {
        self.0.get(key_id).map(Vec::as_slice)
    }

    /// Returns all trusted keys with their ids.
    pub fn all(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.0.iter().map(|(id, key)| (id.as_str(), key.as_slice()))
    }
}

/// Returns the message that the key `by` signs to certify a public key.
#[must_use]
pub fn certificate_message(key_id: &str, public_key: &[u8], by: &str) -> Vec<u8> {
    let mut message = CERTIFICATE_DOMAIN.to_vec();
    for field in [key_id.as_bytes(), public_key, by.as_bytes()] {
        message.extend_from_slice(&(field.len() as u64).to_be_bytes());
        message.extend_from_slice(field);
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every key signs a message with its own bytes behind the message.
    fn verify(public: &[u8], message: &[u8], signature: &[u8]) -> bool {
        signature == [message, public].concat()
    }

    fn certified(id: &str, by: &str, by_key: &[u8]) -> StoredPublicKey {
        let public_key = id.as_bytes().to_vec();
        let bytes = [&certificate_message(id, &public_key, by)[..], by_key].concat();
        let certificate = AuditSignature { key_id: by.into(), bytes };
        StoredPublicKey { key_id: id.to_owned(), public_key, certificate }
    }

    #[test]
    fn only_keys_of_the_keyring_and_keys_certified_through_them_are_trusted() {
        let keyring = vec![("k-3".to_owned(), b"k-3".to_vec())];
        // `k-1` is certified by `k-2`, which is certified by the keyring. `k-4` certifies itself and `k-5`.
        let stored = vec![
            certified("k-1", "k-2", b"k-2"),
            certified("k-2", "k-3", b"k-3"),
            certified("k-4", "k-4", b"k-4"),
            certified("k-5", "k-4", b"k-4"),
            certified("k-6", "k-3", b"another key"),
        ];
        let trusted = TrustedKeys::new(keyring, stored, &verify);
        let ids: Vec<&str> = trusted.all().map(|(id, _)| id).collect();
        assert_eq!(ids, ["k-1", "k-2", "k-3"]);
        assert_eq!((trusted.get("k-1"), trusted.get("k-4")), (Some(&b"k-1"[..]), None));
    }

    #[test]
    fn the_fields_of_a_certificate_are_separated() {
        let message = certificate_message("k-1", b"ab", "k-2");
        assert_ne!(message, certificate_message("k-1a", b"b", "k-2"));
        assert!(message.starts_with(b"tenant-gateway audit public key v1\0"));
    }
}
