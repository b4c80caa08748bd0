//! Which consents are being kept: of several people who come back by one link at once, one is heard.

use std::{
    collections::HashSet,
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::domain::ConsentId;

/// The consents that are being kept.
#[derive(Default)]
pub(super) struct Keeping(Mutex<HashSet<ConsentId>>);

/// One of them, until it is dropped.
pub(super) struct Kept<'a> {
    keeping: &'a Keeping,
    id: ConsentId,
}

impl Keeping {
    /// `None` while somebody else's is kept.
    pub(super) fn begin(&self, id: &ConsentId) -> Option<Kept<'_>> {
        let first = self.lock().insert(id.clone());
        first.then(|| Kept { keeping: self, id: id.clone() })
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<ConsentId>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Kept<'_> {
    fn drop(&mut self) {
        self.keeping.lock().remove(&self.id);
    }
}
