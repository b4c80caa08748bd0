//! Public keys beyond the rotation of keys: what a key has signed can be verified when it is no longer in the keyring,
//! because a key that was active later has certified its public key.

use std::collections::BTreeMap;

use crate::{
    domain::{AuditSignature, SignedPoint, Statement},
    ports::{AuditSigner, AuditStore, KeptPublicKey, SignError, StoreError},
};

/// Nothing else that is signed with these keys begins so.
const CERTIFICATE_DOMAIN: &[u8] = b"tenant-gateway audit public key v1\0";

/// Public keys that are believed, by key id.
#[derive(Debug, Default)]
pub(super) struct PublicKeys(BTreeMap<String, Vec<u8>>);

impl PublicKeys {
    /// Those of the keyring, and those that they have certified, and so on.
    pub(super) fn believe(signer: &dyn AuditSigner, kept: Vec<KeptPublicKey>) -> Self {
        let mut believed = Self(signer.public_keys().into_iter().collect());
        let mut left = kept;
        loop {
            let before = left.len();
            left.retain(|key| {
                let good = !believed.0.contains_key(&key.key_id) && believed.certified(signer, key);
                if good {
                    believed.0.insert(key.key_id.clone(), key.public_key.clone());
                }
                !good
            });
            if left.len() == before {
                return believed;
            }
        }
    }

    fn certified(&self, signer: &dyn AuditSigner, key: &KeptPublicKey) -> bool {
        let by = &key.certificate;
        let message = certificate(&key.key_id, &key.public_key, &by.key_id);
        self.0.get(&*by.key_id).is_some_and(|public| signer.verify(public, &message, &by.bytes))
    }

    /// Whether the signature holds.
    pub(super) fn holds(
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

/// Keeps every public key that is believed, certified by the active key. To be called at every start and after every
/// change of the active key; writes only what is not kept so already.
///
/// # Errors
/// If the store cannot be read or written.
pub async fn certify_public_keys(
    store: &dyn AuditStore,
    signer: &dyn AuditSigner,
) -> Result<(), StoreError> {
    let active = signer.active_key_id();
    let kept = store.public_keys().await?;
    let believed = PublicKeys::believe(signer, kept.clone());
    for (key_id, public_key) in &believed.0 {
        let known = kept.iter().find(|key| key.key_id == *key_id && key.public_key == *public_key);
        let settled = known
            .is_some_and(|key| key.certificate.key_id == active && believed.certified(signer, key));
        if settled {
            continue;
        }
        let bytes = signer
            .sign(&active, &certificate(key_id, public_key, &active))
            .map_err(|error: SignError| StoreError::Unavailable(format!("audit: {error}")))?;
        let key = KeptPublicKey {
            key_id: key_id.clone(),
            public_key: public_key.clone(),
            certificate: AuditSignature { key_id: active.clone(), bytes },
        };
        store.keep_public_key(&key).await?;
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
