//! Files in memory that fail on request, and that lose what was not synced.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{File, FileId, Files, Lock, Purpose};

/// The bytes that the disk writes as a whole.
pub(crate) const SECTOR: usize = 512;

/// The failure of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// A write takes only so many bytes and succeeds.
    Short(usize),
    /// A write takes only so many bytes, and the disk is then full until [`Simulated::mend`].
    Full(usize),
    /// The operation fails and does nothing.
    Error,
    /// A sync fails, and the data can be read but is never written.
    Dropped,
    /// The operation is done, and fails nevertheless.
    DoneButError,
    /// This operation and all later ones fail: the process has ended.
    Halt,
}

/// The unsynced state that reaches the disk before the power fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PowerLoss {
    /// Nothing: only what was synced is there.
    LosesUnsynced,
    /// Everything that was not dropped.
    KeepsAll,
    /// Sectors with an even or an odd number, and the names.
    KeepsSectors(u64),
    /// All sectors but the last unsynced one of each file.
    LosesLastSector,
    /// Half of the last unsynced sector of each file.
    TearsLastSector,
    /// All data, but no name of a file.
    LosesNames,
}

#[derive(Default, Clone)]
struct Content {
    cached: Vec<u8>,
    durable: Vec<u8>,
    dirty: BTreeSet<usize>,
}

#[derive(Default)]
struct State {
    files: BTreeMap<u64, Content>,
    names: BTreeMap<PathBuf, u64>,
    durable_names: BTreeMap<PathBuf, u64>,
    next_id: u64,
    locked: BTreeSet<PathBuf>,
    /// The number of operations that change something.
    operations: u64,
    failure: Option<(u64, Failure)>,
    full: bool,
    halted: bool,
}

/// A file system in memory.
#[derive(Clone, Default)]
pub(crate) struct Simulated(Arc<Mutex<State>>);

impl Simulated {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the operation with this number, counted from now, fail.
    pub(crate) fn fail(&self, operation: u64, failure: Failure) {
        let mut state = self.state();
        state.failure = Some((state.operations + operation, failure));
    }

    /// Ends the failures.
    pub(crate) fn mend(&self) {
        let mut state = self.state();
        (state.failure, state.full, state.halted) = (None, false, false);
    }

    pub(crate) fn operations(&self) -> u64 {
        self.state().operations
    }

    /// Fails the power: what is not on the disk is gone, except for what `loss` keeps.
    pub(crate) fn lose_power(&self, loss: PowerLoss) {
        let mut state = self.state();
        for content in state.files.values_mut() {
            content.lose(loss);
        }
        if matches!(loss, PowerLoss::LosesUnsynced | PowerLoss::LosesNames) {
            state.names = state.durable_names.clone();
        } else {
            state.durable_names = state.names.clone();
        }
        state.locked.clear();
        (state.failure, state.full, state.halted) = (None, false, false);
    }

    /// Returns the content of a file.
    pub(crate) fn content(&self, path: &Path) -> Option<Vec<u8>> {
        let state = self.state();
        state.names.get(path).map(|id| state.files[id].cached.clone())
    }

    /// Replaces the content of a file, as somebody who can write to the disk.
    pub(crate) fn put(&self, path: &Path, bytes: Vec<u8>) {
        let mut state = self.state();
        let id = state.next_id;
        state.next_id += 1;
        let content = Content { cached: bytes.clone(), durable: bytes, dirty: BTreeSet::default() };
        state.files.insert(id, content);
        state.names.insert(path.to_owned(), id);
        state.durable_names.insert(path.to_owned(), id);
    }

    /// Removes all files below a path.
    pub(crate) fn remove_all(&self, path: &Path) {
        let mut state = self.state();
        state.names.retain(|name, _| !name.starts_with(path));
        state.durable_names.retain(|name, _| !name.starts_with(path));
    }
}

impl Content {
    fn lose(&mut self, loss: PowerLoss) {
        let last = self.dirty.last().copied();
        for sector in std::mem::take(&mut self.dirty) {
            let from = sector * SECTOR;
            let to = (from + SECTOR).min(self.cached.len());
            let to = match loss {
                PowerLoss::LosesUnsynced => continue,
                PowerLoss::KeepsSectors(parity) if sector as u64 % 2 != parity => continue,
                PowerLoss::LosesLastSector if Some(sector) == last => continue,
                PowerLoss::TearsLastSector if Some(sector) == last => from + (to - from) / 2,
                _ => to,
            };
            if from >= to {
                continue;
            }
            if self.durable.len() < to {
                self.durable.resize(to, 0);
            }
            self.durable[from..to].copy_from_slice(&self.cached[from..to]);
        }
        self.cached = self.durable.clone();
    }
}

impl State {
    /// Counts an operation, and returns its failure.
    fn operate(&mut self) -> io::Result<Option<Failure>> {
        if self.halted {
            return Err(io::Error::other("halted"));
        }
        let number = self.operations;
        self.operations += 1;
        let Some((_, failure)) = self.failure.filter(|(at, _)| *at == number) else {
            return Ok(None);
        };
        match failure {
            Failure::Error => Err(io::Error::other("EIO")),
            Failure::Halt => {
                self.halted = true;
                Err(io::Error::other("halted"))
            }
            other => Ok(Some(other)),
        }
    }
}

fn done(failure: Option<Failure>) -> io::Result<()> {
    match failure {
        Some(Failure::DoneButError | Failure::Dropped) => Err(io::Error::other("EIO")),
        _ => Ok(()),
    }
}

struct OpenFile {
    disk: Simulated,
    id: u64,
}

impl File for OpenFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let state = self.disk.state();
        let content = &state.files[&self.id].cached;
        let rest = content.get(usize::try_from(offset).unwrap()..).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let mut state = self.disk.state();
        if state.full {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let failure = state.operate()?;
        let count = match failure {
            Some(Failure::Short(count) | Failure::Full(count)) => count.min(bytes.len()),
            _ => bytes.len(),
        };
        let from = usize::try_from(offset).unwrap();
        let content = state.files.get_mut(&self.id).unwrap();
        if content.cached.len() < from + count {
            content.cached.resize(from + count, 0);
        }
        content.cached[from..from + count].copy_from_slice(&bytes[..count]);
        content.dirty.extend(from / SECTOR..(from + count).div_ceil(SECTOR));
        if matches!(failure, Some(Failure::Full(_))) {
            state.full = true;
            if count == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
        }
        if failure == Some(Failure::Short(0)) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        done(failure)?;
        Ok(count)
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.disk.state();
        let failure = state.operate()?;
        let content = state.files.get_mut(&self.id).unwrap();
        if failure == Some(Failure::Dropped) {
            content.dirty.clear();
        } else {
            for sector in std::mem::take(&mut content.dirty) {
                let from = sector * SECTOR;
                let to = (from + SECTOR).min(content.cached.len());
                if content.durable.len() < to {
                    content.durable.resize(to, 0);
                }
                if from < to {
                    content.durable[from..to].copy_from_slice(&content.cached[from..to]);
                }
            }
        }
        done(failure)
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.disk.state().files[&self.id].cached.len() as u64)
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        let failure = state.operate()?;
        let content = state.files.get_mut(&self.id).unwrap();
        let length = usize::try_from(length).unwrap();
        content.cached.truncate(length);
        content.durable.truncate(length);
        content.dirty.retain(|sector| sector * SECTOR < length);
        done(failure)
    }

    fn id(&self) -> io::Result<FileId> {
        Ok(FileId(0, self.id))
    }
}

struct Held(Simulated, PathBuf);

impl Lock for Held {}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.state().locked.remove(&self.1);
    }
}

impl Files for Simulated {
    fn open(&self, path: &Path, purpose: Purpose) -> io::Result<Box<dyn File>> {
        let mut state = self.state();
        let id = state.names.get(path).copied();
        let id = match (purpose, id) {
            (Purpose::Create, _) => {
                state.operate()?;
                let id = state.next_id;
                state.next_id += 1;
                state.files.insert(id, Content::default());
                state.names.insert(path.to_owned(), id);
                id
            }
            (_, Some(id)) => id,
            (_, None) => return Err(io::ErrorKind::NotFound.into()),
        };
        Ok(Box::new(OpenFile { disk: self.clone(), id }))
    }

    fn id(&self, path: &Path) -> io::Result<FileId> {
        let state = self.state();
        match state.names.get(path) {
            Some(id) => Ok(FileId(0, *id)),
            None if state.locked.contains(path) => Ok(FileId(1, 0)),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        let failure = state.operate()?;
        let id = state.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        state.names.insert(to.to_owned(), id);
        done(failure)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        let failure = state.operate()?;
        let id = state.names.remove(path).ok_or(io::ErrorKind::NotFound)?;
        // The space of the file can be used again.
        if state.files.get(&id).is_some_and(|content| !content.cached.is_empty()) {
            state.full = false;
        }
        done(failure)
    }

    fn length(&self, path: &Path) -> io::Result<u64> {
        self.content(path)
            .map_or_else(|| Err(io::ErrorKind::NotFound.into()), |c| Ok(c.len() as u64))
    }

    fn volume_bytes(&self, _: &Path) -> io::Result<u64> {
        Ok(1024 * 1024 * 1024)
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        let state = self.state();
        let below = state.names.keys().filter_map(|path| path.strip_prefix(directory).ok());
        let first = below.filter_map(|path| path.iter().next()?.to_str().map(str::to_owned));
        Ok(first.collect::<BTreeSet<_>>().into_iter().collect())
    }

    fn create_directory(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn sync_directory(&self, directory: &Path) -> io::Result<()> {
        let mut state = self.state();
        let failure = state.operate()?;
        let inside = |path: &PathBuf| path.parent() == Some(directory);
        let now: Vec<_> = state.names.iter().filter(|(path, _)| inside(path)).collect();
        let now: Vec<_> = now.into_iter().map(|(path, id)| (path.clone(), *id)).collect();
        if failure != Some(Failure::Dropped) {
            state.durable_names.retain(|path, _| !inside(path));
            state.durable_names.extend(now);
        }
        done(failure)
    }

    fn lock(&self, path: &Path, wait: bool) -> io::Result<Option<Box<dyn Lock>>> {
        let taken = !self.state().locked.insert(path.to_owned());
        assert!(!(taken && wait), "waits forever: {}", path.display());
        Ok((!taken).then(|| Box::new(Held(self.clone(), path.to_owned())) as Box<dyn Lock>))
    }
}
