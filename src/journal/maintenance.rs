//! Removing and compressing segments, and the space that they take.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use jiff::Timestamp;

use super::{
    Shared,
    chain::{Chain, Segment},
    compressed, files, lock, names,
    place::Place,
    reserve, shortening,
};
use crate::ports::{AuditSpace, StoredSegment};

/// Stores a checkpoint and removes the segments without an event behind it. Returns whether the checkpoint is later
/// than the former one and not later than the head.
pub(super) fn prune(
    place: &Place,
    chain: &mut Chain,
    sequence: i64,
    encoded: &[u8],
) -> io::Result<bool> {
    let mut stored = store_checkpoint(place, chain, sequence, encoded);
    // A full volume must not prevent that space is freed.
    if stored.as_ref().is_err_and(reserve::is_full) && reserve::free(place) {
        stored = store_checkpoint(place, chain, sequence, encoded);
    }
    if !stored? {
        return Ok(false);
    }
    finish_prune(place, chain, true)?;
    reserve::fill(place);
    Ok(true)
}

fn store_checkpoint(
    place: &Place,
    chain: &mut Chain,
    sequence: i64,
    encoded: &[u8],
) -> io::Result<bool> {
    // Two processes may prune. A lock that waits is always returned.
    let _lock = place.files.lock(&chain.directory.join(names::PRUNE_LOCK), true)?;
    chain.refresh(place)?;
    let head = chain.state(place)?.map_or(0, |state| state.head.point.sequence);
    if sequence <= chain.floor() || sequence > head {
        return Ok(false);
    }
    files::replace(&*place.files, &chain.directory, names::CHECKPOINT, encoded)?;
    chain.refresh(place)?;
    Ok(true)
}

/// Removes what the checkpoint makes superfluous. Does nothing while another process prunes or compresses the chain,
/// unless it is to wait.
pub(super) fn finish_prune(place: &Place, chain: &mut Chain, wait: bool) -> io::Result<()> {
    remove_pruned(place, chain, wait)?;
    if shortening::shorten(place, chain)? {
        remove_pruned(place, chain, wait)?;
    }
    Ok(())
}

/// Removes the segments without an event behind the checkpoint.
fn remove_pruned(place: &Place, chain: &mut Chain, wait: bool) -> io::Result<()> {
    if chain.pruned(place)?.is_empty() {
        return Ok(());
    }
    let lock = place.files.lock(&chain.directory.join(names::PRUNE_LOCK), wait)?;
    if lock.is_none() {
        return Ok(());
    }
    chain.refresh(place)?;
    // The oldest first, so that no later one is missing after a crash.
    for path in chain.pruned(place)? {
        match place.files.remove(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => remove_copy(place, &path),
        }
    }
    place.files.sync_directory(&chain.directory)?;
    chain.refresh(place)
}

/// Removes the unfinished compressed copy of a segment, if there is one.
fn remove_copy(place: &Place, path: &Path) {
    let mut copy = path.to_owned().into_os_string();
    copy.push(".new");
    // A failure costs space only.
    let _ = place.files.remove(Path::new(&copy));
}

/// Returns the complete segments of all chains, except those before the checkpoint.
pub(super) fn segments(shared: &Shared) -> io::Result<Vec<StoredSegment>> {
    let mut found = Vec::new();
    for chain in shared.chains()? {
        let mut chain = lock(&chain);
        chain.refresh(&shared.place)?;
        chain.add_complete(&shared.place, &mut found)?;
    }
    Ok(found)
}

/// Returns the space that the files of all chains take, also files that are no segments.
pub(super) fn space(place: &Place) -> io::Result<AuditSpace> {
    let mut bytes: u64 = 0;
    for folder in place.files.list(&place.directory)? {
        if names::chain_of_directory(&folder).is_none() {
            continue;
        }
        let directory = place.directory.join(folder);
        for name in gone_is_empty(place.files.list(&directory))? {
            bytes = bytes.saturating_add(gone_is_empty(place.files.length(&directory.join(name)))?);
        }
    }
    let volume_bytes = place.files.volume_bytes(&place.directory);
    Ok(AuditSpace { bytes, volume_bytes: volume_bytes.ok().filter(|bytes| *bytes > 0) })
}

/// Takes a file or directory that was removed meanwhile, or that is no directory, for an empty one.
fn gone_is_empty<T: Default>(found: io::Result<T>) -> io::Result<T> {
    match found {
        Err(error)
            if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) =>
        {
            Ok(T::default())
        }
        found => found,
    }
}

/// Compresses the complete segments of a chain, and its last one if nothing was written since `idle_before`. Returns
/// their number.
pub(super) fn compress(
    place: &Place,
    chain: &Mutex<Chain>,
    idle_before: Timestamp,
) -> io::Result<u64> {
    let (directory, mut segments, idle) = {
        let mut chain = chain.lock().unwrap_or_else(PoisonError::into_inner);
        chain.refresh(place)?;
        let head = chain.state(place)?.map(|state| state.head.point.time);
        let idle = head.is_some_and(|time| time < idle_before);
        (chain.directory.clone(), chain.paths(), idle)
    };
    remove_prepared(place, &directory);
    if segments.is_empty() {
        return Ok(0);
    }
    // Retention removes no segment meanwhile. The chain can be read.
    let Some(_lock) = place.files.lock(&directory.join(names::PRUNE_LOCK), false)? else {
        return Ok(0);
    };
    let writing =
        if idle { place.files.lock(&directory.join(names::CHAIN_LOCK), false)? } else { None };
    if writing.is_none() {
        segments.pop();
    }
    let mut count = 0;
    for path in segments {
        count += u64::from(compress_one(place, &directory, &path)?);
    }
    Ok(count)
}

/// Removes the prepared segment of a process that was killed. A failure costs space only, until the next time.
fn remove_prepared(place: &Place, directory: &Path) {
    let prepared = directory.join(names::NEXT_SEGMENT);
    if place.files.id(&prepared).is_ok()
        && let Ok(Some(_writing)) = place.files.lock(&directory.join(names::CHAIN_LOCK), false)
    {
        let _ = place.files.remove(&prepared);
    }
}

fn compress_one(place: &Place, directory: &Path, path: &Path) -> io::Result<bool> {
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else { return Ok(false) };
    match compressed::compress(&*place.files, directory, name) {
        // Retention has removed it before it was locked.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => {
            // The volume may be full.
            remove_copy(place, path);
            Err(error)
        }
        done => done,
    }
}

impl Chain {
    /// Returns the files of all segments.
    fn paths(&self) -> Vec<PathBuf> {
        self.segments.iter().map(|segment| segment.path.clone()).collect()
    }

    /// Returns the files of the segments without an event behind the checkpoint, oldest first. The segment with the
    /// head is not among them, so a chain always has a segment.
    fn pruned(&mut self, place: &Place) -> io::Result<Vec<PathBuf>> {
        let floor = self.floor();
        if floor == 0 {
            return Ok(Vec::new());
        }
        let Some(state) = self.state(place)? else { return Ok(Vec::new()) };
        let last = floor.min(state.head.point.sequence.saturating_sub(1));
        let past =
            |segment: &&Segment| segment.until.is_some_and(|until| until.saturating_sub(1) <= last);
        Ok(self.segments.iter().take_while(past).map(|segment| segment.path.clone()).collect())
    }

    /// Adds the segments that end behind the checkpoint and before the head. Stops at the first segment whose end is
    /// not signed, in the header of the next one.
    fn add_complete(&mut self, place: &Place, found: &mut Vec<StoredSegment>) -> io::Result<()> {
        let Some(state) = self.state(place)? else { return Ok(()) };
        let (floor, head) = (self.floor(), state.head.point.sequence);
        for (segment, next) in self.segments.iter().zip(self.segments.iter().skip(1)) {
            let last_sequence = next.header.first.saturating_sub(1);
            let latest = Timestamp::from_microsecond(next.header.latest);
            let Some(latest) = latest.ok().filter(|_| next.trusted && last_sequence < head) else {
                break;
            };
            if last_sequence > floor {
                let bytes = gone_is_empty(place.files.length(&segment.path))?;
                let chain = Arc::clone(&self.name);
                found.push(StoredSegment { chain, last_sequence, bytes, latest });
            }
        }
        Ok(())
    }
}
