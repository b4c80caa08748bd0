//! The next segment, prepared before it is needed: written with zeros, so that a later write changes no metadata.

use std::{io, path::Path, sync::Arc, thread::JoinHandle};

use crate::journal::{
    files::{self, File, Files, Purpose},
    names,
};

/// The zeros that are written at a time.
static PIECE: [u8; 256 * 1024] = [0; 256 * 1024];

/// The number of bytes after which the zeros are synced, so that no other write waits for all of them. The first
/// segment of a chain has so many and needs one sync.
const SYNC_BYTES: u64 = 1024 * 1024;

type Prepared = io::Result<(Box<dyn File>, u64)>;

/// The file that becomes the next segment.
#[derive(Default)]
pub(super) struct Spare(Option<JoinHandle<Prepared>>);

impl Spare {
    /// Starts to prepare a file of so many bytes, unless one is prepared.
    pub(super) fn prepare(&mut self, files: &Arc<dyn Files>, directory: &Path, bytes: u64) {
        if self.0.is_some() {
            return;
        }
        let (files, directory) = (Arc::clone(files), directory.to_owned());
        let work = move || create(&*files, &directory, bytes);
        // Without a thread the file is made when it is needed.
        self.0 = std::thread::Builder::new().name("audit-segment".to_owned()).spawn(work).ok();
    }

    /// Returns a file of at least so many bytes, whose name is that of the next segment.
    pub(super) fn take(
        &mut self,
        files: &Arc<dyn Files>,
        directory: &Path,
        bytes: u64,
    ) -> Prepared {
        let prepared = self.0.take().and_then(|thread| thread.join().ok());
        match prepared {
            Some(Ok((file, prepared))) if prepared >= bytes => Ok((file, prepared)),
            _ => create(&**files, directory, bytes),
        }
    }

    /// Removes the prepared file.
    pub(super) fn discard(&mut self, files: &Arc<dyn Files>, directory: &Path) {
        if let Some(thread) = self.0.take() {
            // A panic of that thread leaves a file that the next segment overwrites.
            let _ = thread.join();
            let _ = files.remove(&directory.join(names::NEXT_SEGMENT));
        }
    }
}

impl Drop for Spare {
    /// Waits for the thread, so that no thread writes the file after the lock of the chain is released.
    fn drop(&mut self) {
        if let Some(thread) = self.0.take() {
            let _ = thread.join();
        }
    }
}

fn create(files: &dyn Files, directory: &Path, bytes: u64) -> Prepared {
    let file = files.open(&directory.join(names::NEXT_SEGMENT), Purpose::Create)?;
    let mut written = 0;
    while written < bytes {
        let left = usize::try_from(bytes - written).unwrap_or(usize::MAX);
        let piece = PIECE.get(..left).unwrap_or(&PIECE);
        files::write_all(&*file, piece, written)?;
        written += piece.len() as u64;
        if written == bytes || written.is_multiple_of(SYNC_BYTES) {
            file.sync_data()?;
        }
    }
    Ok((file, bytes))
}
