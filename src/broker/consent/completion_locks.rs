//! Locks for consents: of several people who come back through one link at the same time, only one is processed.

use std::{
    collections::HashSet,
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::domain::ConsentId;

/// The consents that are being completed.
#[derive(Default)]
pub(super) struct CompletionLocks(Mutex<HashSet<ConsentId>>);

/// The lock of one consent, until it is dropped.
pub(super) struct CompletionLock<'a> {
    locks: &'a CompletionLocks,
    id: ConsentId,
}

impl CompletionLocks {
    /// Locks a consent. Returns `None` while it is locked.
    pub(super) fn begin(&self, id: &ConsentId) -> Option<CompletionLock<'_>> {
        let first = self.lock().insert(id.clone());
        first.then(|| CompletionLock { locks: self, id: id.clone() })
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<ConsentId>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for CompletionLock<'_> {
    fn drop(&mut self) {
        self.locks.lock().remove(&self.id);
    }
}
