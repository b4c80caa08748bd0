//! The next segment, prepared before it is needed: written with zeros, so that a later write changes no metadata.

use std::{io, path::Path, sync::Arc, thread::JoinHandle};

use crate::journal::{
    files::{self, File, Files, Purpose},
    names,
};

/// The zeros that are written at a time.
static PIECE: [u8; 256 * 1024] = [0; 256 * 1024];

type Prepared = io::Result<(Box<dyn File>, u64)>;

/// The file that becomes the next segment.
#[derive(Default)]
pub(super) struct Spare(State);

#[derive(Default)]
enum State {
    /// No file is prepared.
    #[default]
    Missing,
    /// A thread prepares it.
    Preparing(JoinHandle<Prepared>),
    /// The file and its size.
    Ready(Box<dyn File>, u64),
}

impl Spare {
    /// Starts to prepare a file of so many bytes, unless one is prepared.
    pub(super) fn prepare(&mut self, files: &Arc<dyn Files>, directory: &Path, bytes: u64) {
        if !matches!(self.0, State::Missing) {
            return;
        }
        let (files, directory) = (Arc::clone(files), directory.to_owned());
        // Each piece is synced, so that no group that is written meanwhile waits for all of them.
        let work = move || create(&*files, &directory, bytes, true);
        // Without a thread the file is made when it is needed.
        if let Ok(thread) = std::thread::Builder::new().name("audit-segment".to_owned()).spawn(work)
        {
            self.0 = State::Preparing(thread);
        }
    }

    /// Prepares a file of so many bytes, and waits until it is on the disk.
    pub(super) fn prepare_now(
        &mut self,
        files: &Arc<dyn Files>,
        directory: &Path,
        bytes: u64,
    ) -> io::Result<()> {
        let (file, bytes) = self.take(files, directory, bytes)?;
        self.0 = State::Ready(file, bytes);
        Ok(())
    }

    /// Returns a file of at least so many bytes, whose name is that of the next segment.
    pub(super) fn take(
        &mut self,
        files: &Arc<dyn Files>,
        directory: &Path,
        bytes: u64,
    ) -> Prepared {
        let prepared = match std::mem::take(&mut self.0) {
            State::Missing => None,
            State::Preparing(thread) => thread.join().ok().and_then(Result::ok),
            State::Ready(file, bytes) => Some((file, bytes)),
        };
        match prepared {
            Some((file, prepared)) if prepared >= bytes => Ok((file, prepared)),
            _ => create(&**files, directory, bytes, false),
        }
    }

    /// Removes the prepared file.
    pub(super) fn discard(&mut self, files: &Arc<dyn Files>, directory: &Path) {
        match std::mem::take(&mut self.0) {
            State::Missing => return,
            State::Ready(..) => {}
            // A panic of that thread leaves a file that the next segment overwrites.
            State::Preparing(thread) => drop(thread.join()),
        }
        let _ = files.remove(&directory.join(names::NEXT_SEGMENT));
    }
}

impl Drop for Spare {
    /// Waits for the thread, so that no thread writes the file after the lock of the chain is released.
    fn drop(&mut self) {
        if let State::Preparing(thread) = std::mem::take(&mut self.0) {
            let _ = thread.join();
        }
    }
}

fn create(files: &dyn Files, directory: &Path, bytes: u64, sync_pieces: bool) -> Prepared {
    let file = files.open(&directory.join(names::NEXT_SEGMENT), Purpose::Create)?;
    let mut written = 0;
    while written < bytes {
        let left = usize::try_from(bytes - written).unwrap_or(usize::MAX);
        let piece = PIECE.get(..left).unwrap_or(&PIECE);
        files::write_all(&*file, piece, written)?;
        written += piece.len() as u64;
        if sync_pieces || written >= bytes {
            file.sync_data()?;
        }
    }
    Ok((file, bytes))
}
