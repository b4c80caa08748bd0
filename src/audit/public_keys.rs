//! The public keys that verify the audit trail, loaded from and stored in the store.

use std::sync::Arc;

use crate::{
    domain::{
        AuditSignature, SignedPoint, Statement, StoredPublicKey, TrustedKeys, certificate_message,
    },
    ports::{AuditSigner, AuditStore, SignError, StoreError},
};

/// The trusted public keys.
#[derive(Debug, Default)]
pub(super) struct PublicKeys(TrustedKeys);

impl PublicKeys {
    /// Returns the keys of the keyring, the keys that these have certified, and so on.
    pub(super) fn load_trusted(signer: &dyn AuditSigner, stored: Vec<StoredPublicKey>) -> Self {
        let verify = |key: &[u8], message: &[u8], by: &[u8]| signer.verify(key, message, by);
        Self(TrustedKeys::new(signer.public_keys(), stored, &verify))
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
        self.0.get(key_id).is_some_and(|public| signer.verify(public, &message, bytes))
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
    for key in missing_certificates(signer, &active, &stored)? {
        store.store_public_key(&key).await?;
    }
    Ok(())
}

/// Returns the trusted keys that are not stored with a certificate of the active key, with one.
fn missing_certificates(
    signer: &dyn AuditSigner,
    active: &Arc<str>,
    stored: &[StoredPublicKey],
) -> Result<Vec<StoredPublicKey>, StoreError> {
    let verify = |key: &[u8], message: &[u8], by: &[u8]| signer.verify(key, message, by);
    let trusted = TrustedKeys::new(signer.public_keys(), stored.to_vec(), &verify);
    let mut missing = Vec::new();
    for (key_id, public_key) in trusted.all() {
        let known = stored.iter().find(|key| key.key_id == key_id && key.public_key == public_key);
        let is_certified = known.is_some_and(|key| {
            key.certificate.key_id == *active && trusted.is_certified(key, &verify)
        });
        if is_certified {
            continue;
        }
        let bytes = signer
            .sign(active, &certificate_message(key_id, public_key, active))
            .map_err(|error: SignError| StoreError::Unavailable(format!("audit: {error}")))?;
        missing.push(StoredPublicKey {
            key_id: key_id.to_owned(),
            public_key: public_key.to_vec(),
            certificate: AuditSignature { key_id: active.clone(), bytes },
        });
    }
    Ok(missing)
}
