//! Removing and compressing segments.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use jiff::Timestamp;

use super::{
    chain::{Chain, Segment},
    compressed, files, names,
    place::Place,
};

/// Stores a checkpoint and removes the segments before the one that has the checkpoint's event. Returns whether the
/// checkpoint is later than the former one and not later than the head.
pub(super) fn prune(
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
    // The oldest first, so that no later one is missing after a crash.
    for path in chain.before(sequence) {
        place.files.remove(&path)?;
    }
    place.files.sync_directory(&chain.directory)?;
    chain.refresh(place)?;
    Ok(true)
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

fn compress_one(place: &Place, directory: &Path, path: &Path) -> io::Result<bool> {
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else { return Ok(false) };
    match compressed::compress(&*place.files, directory, name) {
        // Retention has removed it before it was locked.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        done => done,
    }
}

impl Chain {
    /// Returns the files of all segments.
    fn paths(&self) -> Vec<PathBuf> {
        self.segments.iter().map(|segment| segment.path.clone()).collect()
    }

    /// Returns the files of the segments whose last event comes before this one, oldest first.
    fn before(&self, sequence: i64) -> Vec<PathBuf> {
        let past = |segment: &&Segment| segment.until.is_some_and(|until| until <= sequence);
        self.segments.iter().take_while(past).map(|segment| segment.path.clone()).collect()
    }
}
