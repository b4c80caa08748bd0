//! Public keys that outlive key rotation. A signature stays verifiable after its key has left the keyring, because a
//! later active key has certified the public key.

use std::collections::BTreeMap;

use crate::{
    domain::{AuditSignature, SignedPoint, Statement},
    ports::{AuditSigner, AuditStore, SignError, StoreError, StoredPublicKey},
};

/// The prefix of a signed certificate, for domain separation: no other message signed with these keys starts with it.
const CERTIFICATE_DOMAIN: &[u8] = b"tenant-gateway audit public key v1\0";

/// The trusted public keys, by key id.
#[derive(Debug, Default)]
pub(super) struct PublicKeys(BTreeMap<String, Vec<u8>>);

impl PublicKeys {
    /// Returns the keys of the keyring, the keys that these have certified, and so on.
    pub(super) fn load_trusted(signer: &dyn AuditSigner, stored: Vec<StoredPublicKey>) -> Self {
        let mut trusted = Self(signer.public_keys().into_iter().collect());
        let mut left = stored;
        loop {
            let before = left.len();
            left.retain(|key| {
                let good =
                    !trusted.0.contains_key(&key.key_id) && trusted.is_certified(signer, key);
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

    fn is_certified(&self, signer: &dyn AuditSigner, key: &StoredPublicKey) -> bool {
        let by = &key.certificate;
        let message = certificate(&key.key_id, &key.public_key, &by.key_id);
        self.0.get(&*by.key_id).is_some_and(|public| signer.verify(public, &message, &by.bytes))
    }

    /// Returns whether the signature of `point` is valid.
    pub(super) fn verifies(
        &self,
        signer: &dyn AuditSigner,
        point: &SignedPoint,
        statement: Statement,
    ) -> bool {
        let AuditSignature { key_id, bytes } = &point.signature;
        let message = point.point.message(statement, key_id);
        self.0.get(&**key_id).is_some_and(|public| signer.verify(public, &message, bytes))
    }
}

/// Stores every trusted public key, certified by the active key. Must be called at every start and after every change
/// of the active key. Writes only keys that are not yet stored with that certificate.
///
/// # Errors
/// If the store cannot be read or written.
pub async fn certify_public_keys(
    store: &dyn AuditStore,
    signer: &dyn AuditSigner,
) -> Result<(), StoreError> {
    let active = signer.active_key_id();
    let stored = store.public_keys().await?;
    let trusted = PublicKeys::load_trusted(signer, stored.clone());
    for (key_id, public_key) in &trusted.0 {
        let known =
            stored.iter().find(|key| key.key_id == *key_id && key.public_key == *public_key);
        let is_certified = known.is_some_and(|key| {
            key.certificate.key_id == active && trusted.is_certified(signer, key)
        });
        if is_certified {
            continue;
        }
        let bytes = signer
            .sign(&active, &certificate(key_id, public_key, &active))
            .map_err(|error: SignError| StoreError::Unavailable(format!("audit: {error}")))?;
        let key = StoredPublicKey {
            key_id: key_id.clone(),
            public_key: public_key.clone(),
            certificate: AuditSignature { key_id: active.clone(), bytes },
        };
        store.store_public_key(&key).await?;
    }
    Ok(())
}

fn certificate(key_id: &str, public_key: &[u8], by: &str) -> Vec<u8> {
    let mut message = CERTIFICATE_DOMAIN.to_vec();
    for field in [key_id.as_bytes(), public_key, by.as_bytes()] {
        message.extend_from_slice(&(field.len() as u64).to_be_bytes());
        message.extend_from_slice(field);
    }
    message
}
