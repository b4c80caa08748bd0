//! The directory of a journal, shared by readers and writers.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use super::{
    damage::{Damage, DamageLog},
    files::Files,
    header::Header,
    keys,
    watched::WatchedFiles,
};
use crate::{
    domain::{AuditDamage, StoredPublicKey, TrustedKeys},
    ports::{AuditSigner, StoreError},
};

/// The directory of a journal, and what is needed to read it.
pub(crate) struct Place {
    pub(crate) files: Arc<dyn Files>,
    pub(crate) directory: PathBuf,
    pub(crate) signer: Arc<dyn AuditSigner>,
    pub(crate) damages: DamageLog,
    pub(crate) watched: WatchedFiles,
    trusted: Mutex<Arc<TrustedKeys>>,
}

impl Place {
    pub(crate) fn new(
        files: Arc<dyn Files>,
        directory: PathBuf,
        signer: Arc<dyn AuditSigner>,
    ) -> Self {
        let trusted = Mutex::new(Arc::new(trusted_keys(&*signer, Vec::new())));
        Self {
            files,
            directory,
            signer,
            damages: DamageLog::default(),
            watched: WatchedFiles::default(),
            trusted,
        }
    }

    /// Checks that the files that are written are still at their paths.
    pub(crate) fn check_files(&self) -> Result<(), StoreError> {
        self.watched.check(&*self.files)
    }

    pub(super) fn report(&self, file: &Path, offset: u64, problem: &'static str) {
        self.damages.report(Damage { file: file.to_owned(), offset, problem });
    }

    /// Returns whether a trusted key has signed the header. Reads the file of public keys for a key that is not known.
    pub(super) fn verifies(&self, header: &Header) -> io::Result<bool> {
        let Ok(message) = header.message() else { return Ok(false) };
        let by = &header.signature;
        let verifies = |keys: &TrustedKeys| {
            let public = keys.get(&by.key_id);
            public.is_some_and(|public| self.signer.verify(public, &message, &by.bytes))
        };
        let known = Arc::clone(&*self.trusted.lock().unwrap_or_else(PoisonError::into_inner));
        if verifies(&known) {
            return Ok(true);
        }
        let stored = keys::read(&*self.files, &self.directory)?;
        let known = Arc::new(trusted_keys(&*self.signer, stored.into_values().collect()));
        let valid = verifies(&known);
        *self.trusted.lock().unwrap_or_else(PoisonError::into_inner) = known;
        Ok(valid)
    }

    /// Returns the damaged places that were found, with files relative to the directory.
    pub(super) fn damaged_places(&self) -> Vec<AuditDamage> {
        let relative = |Damage { file, offset, problem }: Damage| {
            let file = file.strip_prefix(&self.directory).unwrap_or(&file);
            AuditDamage { file: file.display().to_string(), offset, problem }
        };
        self.damages.found().into_iter().map(relative).collect()
    }
}

/// Returns the keys of the keyring, and the stored keys that they have certified.
fn trusted_keys(signer: &dyn AuditSigner, stored: Vec<StoredPublicKey>) -> TrustedKeys {
    let verify = |key: &[u8], message: &[u8], by: &[u8]| signer.verify(key, message, by);
    TrustedKeys::new(signer.public_keys(), stored, &verify)
}
