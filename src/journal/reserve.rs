//! A small file that is removed when the volume is full, so that retention can store its checkpoint and then remove
//! segments.

use std::io;

use super::{
    files::{self, Purpose},
    names,
    place::Place,
};

/// The bytes of the file: more than the checkpoint needs, in blocks of any file system.
const BYTES: usize = 64 * 1024;

static CONTENT: [u8; BYTES] = [0xff; BYTES];

/// Returns whether an operation failed because the volume or the user's share of it is full.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Removes the file. Returns whether there was one.
pub(super) fn free(place: &Place) -> bool {
    place.files.remove(&place.directory.join(names::RESERVE)).is_ok()
}

/// Creates the file, if there is none. A failure is no error: the next call tries again.
pub(super) fn fill(place: &Place) {
    let path = place.directory.join(names::RESERVE);
    if place.files.length(&path).is_ok_and(|bytes| bytes >= BYTES as u64) {
        return;
    }
    let create = || {
        let file = place.files.open(&path, Purpose::Create)?;
        files::write_all(&*file, &CONTENT, 0)?;
        file.sync_data()
    };
    if create().is_err() {
        free(place);
    }
}
