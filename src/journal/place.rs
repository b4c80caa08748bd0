//! The directory of a journal, shared by readers and writers.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use super::{
    damage::{Damage, DamageLog},
    files::Files,
    header::Header,
    keys::{self, TrustedKeys},
    watched::WatchedFiles,
};
use crate::ports::{AuditSigner, StoreError};

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
        let trusted = Mutex::new(Arc::new(TrustedKeys::new(&*signer, &BTreeMap::new())));
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
        let known = Arc::clone(&*self.trusted.lock().unwrap_or_else(PoisonError::into_inner));
        if known.verifies(&*self.signer, &by.key_id, &message, &by.bytes) {
            return Ok(true);
        }
        let stored = keys::read(&*self.files, &self.directory)?;
        let known = Arc::new(TrustedKeys::new(&*self.signer, &stored));
        let valid = known.verifies(&*self.signer, &by.key_id, &message, &by.bytes);
        *self.trusted.lock().unwrap_or_else(PoisonError::into_inner) = known;
        Ok(valid)
    }
}
