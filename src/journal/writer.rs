//! Writing one chain. A group is on the disk when [`ChainWriter::append`] returns.

mod opening;
mod spare;

use std::{io, path::PathBuf, sync::Arc};

pub(crate) use self::opening::Opening;
use self::spare::Spare;
use super::{
    chain::Chain,
    error::WriteError,
    files::{self, File, Lock},
    format::{EncodedGroup, GroupView, Incarnation},
    header::Header,
    names,
    place::Place,
    segment::Tail,
};
use crate::{domain::AuditSignature, ports::Clock};

/// The sizes of segments, and how they are prepared.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sizes {
    /// The size of a chain's first segment. Each next one is twice as large.
    pub(crate) first_bytes: u64,
    /// The size of the largest segments.
    pub(crate) segment_bytes: u64,
    /// Whether the next segment is prepared on a thread of its own before it is needed.
    pub(crate) ahead: bool,
}

/// The writer of a chain. It holds the chain's lock.
pub(crate) struct ChainWriter {
    place: Arc<Place>,
    clock: Arc<dyn Clock>,
    sizes: Sizes,
    /// The chain as it is read, to compare groups that are appended again.
    chain: Chain,
    incarnation: Incarnation,
    /// The time at which the chain began, in microseconds.
    begun: i64,
    tail: Tail,
    segment: Option<ActiveSegment>,
    /// A group that may or may not be on the disk. It must be stored before any other group.
    unconfirmed: Option<EncodedGroup>,
    /// The size of the next segment.
    next_bytes: u64,
    spare: Spare,
    _lock: Box<dyn Lock>,
}

/// The newest segment.
struct ActiveSegment {
    file: Box<dyn File>,
    path: PathBuf,
    first: i64,
    /// The offset behind the last group on the disk, and the size of the file.
    end: u64,
    bytes: u64,
    /// The earliest time in this segment, and in the one before, in microseconds.
    earliest: i64,
    former_earliest: i64,
    /// Whether a write or a sync failed, or the file ends with bytes that are no group. The writer then leaves it:
    /// the system may have dropped what was to be written, and a second sync would succeed without it.
    failed: bool,
}

impl ChainWriter {
    /// Prepares the first segment of a chain without events, so that the first group does not wait for it.
    pub(crate) fn prepare(&mut self) -> io::Result<()> {
        if self.segment.is_some() {
            return Ok(());
        }
        let files = &self.place.files;
        self.spare.prepare_now(files, &self.chain.directory, self.next_bytes)
    }

    /// Stores a group, if it follows the last one. A stored group is accepted again.
    pub(crate) fn append(&mut self, mut group: EncodedGroup) -> Result<(), WriteError> {
        if let Some(unconfirmed) = self.unconfirmed.take() {
            self.store(unconfirmed, true)?;
        }
        group.seal(&self.incarnation);
        if group.first <= self.tail.sequence {
            return self.compare(&group);
        }
        if Some(group.first) != self.tail.sequence.checked_add(1) {
            return Err(WriteError::Conflict);
        }
        self.store(group, false)
    }

    /// Checks that the events of a group are stored.
    fn compare(&mut self, group: &EncodedGroup) -> Result<(), WriteError> {
        let Some(view) = GroupView::parse(&group.bytes, &self.incarnation) else {
            return Err(WriteError::Conflict);
        };
        self.chain.refresh(&self.place)?;
        let count = usize::try_from(view.last - view.first).unwrap_or(usize::MAX).saturating_add(1);
        let stored = self.chain.rows(&self.place, view.first.saturating_sub(1), count)?;
        let same = stored.len() == count
            && view.views().zip(&stored).all(|(row, stored)| row == stored.view());
        if same { Ok(()) } else { Err(WriteError::Conflict) }
    }

    /// Writes a group that follows the tail: to the newest segment, or to a new one. `touched` says that a file may
    /// have its bytes already.
    fn store(&mut self, group: EncodedGroup, mut touched: bool) -> Result<(), WriteError> {
        let length = group.bytes.len() as u64;
        let usable =
            |segment: &&mut ActiveSegment| !segment.failed && segment.end + length <= segment.bytes;
        if let Some(segment) = self.segment.as_mut().filter(usable) {
            match segment.write(&group) {
                Ok(()) => {
                    self.advance(&group);
                    return Ok(());
                }
                Err(error) => {
                    let file = segment.path.display();
                    tracing::error!(%error, %file, "an audit segment cannot be written; a new one follows");
                    touched = true;
                }
            }
        }
        match self.begin_segment(&group) {
            Ok(()) => self.advance(&group),
            Err(error) => {
                if touched || matches!(error, WriteError::Unknown(_)) {
                    self.unconfirmed = Some(group);
                }
                return Err(error);
            }
        }
        Ok(())
    }

    fn advance(&mut self, group: &EncodedGroup) {
        let latest = self.tail.latest.max(group.latest);
        self.tail = Tail { sequence: group.last, hash: group.last_hash, latest };
        let half_full = self.segment.as_ref().is_some_and(|s| s.end > s.bytes / 2);
        if half_full && self.sizes.ahead {
            self.spare.prepare(&self.place.files, &self.chain.directory, self.next_bytes);
        }
    }

    /// Makes a new segment with this group the newest one. It gets its name when the group is on the disk, so there is
    /// never a segment without a group. If the newest one has no other group, the new one takes its name.
    fn begin_segment(&mut self, group: &EncodedGroup) -> Result<(), WriteError> {
        let former_earliest = match &self.segment {
            Some(segment) if segment.first == group.first => segment.former_earliest,
            Some(segment) => segment.earliest,
            None => i64::MAX,
        };
        let mut content = self.header(group.first, former_earliest)?;
        content.extend_from_slice(&group.bytes);
        let end = content.len() as u64;
        let directory = &self.chain.directory;
        let files = &self.place.files;
        let (file, bytes) = self.spare.take(files, directory, self.next_bytes.max(end))?;
        files::write_all(&*file, &content, 0)?;
        file.sync_data()?;
        let path = directory.join(names::segment_name(group.first));
        // The former segment may lose its name.
        self.place.watched.forget(directory);
        files
            .rename(&directory.join(names::NEXT_SEGMENT), &path)
            .and_then(|()| files.sync_directory(directory))
            .map_err(WriteError::Unknown)?;
        let segment = ActiveSegment {
            file,
            path,
            first: group.first,
            end,
            bytes,
            earliest: group.earliest,
            former_earliest,
            failed: false,
        };
        if let Some(full) = self.segment.replace(segment) {
            full.seal();
        }
        self.watch();
        self.next_bytes = self.next_bytes.saturating_mul(2).min(self.sizes.segment_bytes);
        Ok(())
    }

    fn header(&self, first: i64, former_earliest: i64) -> Result<Vec<u8>, WriteError> {
        let signer = &self.place.signer;
        let key_id = signer.active_key_id();
        let mut header = Header {
            chain: Arc::clone(&self.chain.name),
            incarnation: self.incarnation,
            first,
            follows: self.tail.hash,
            begun: self.begun,
            created: self.clock.now().as_microsecond(),
            latest: self.tail.latest,
            former_earliest,
            signature: AuditSignature { key_id: Arc::clone(&key_id), bytes: Vec::new() },
        };
        header.signature.bytes = signer.sign(&key_id, &header.message()?)?;
        Ok(header.encode()?)
    }

    /// Watches the newest segment.
    fn watch(&self) {
        if let Some(segment) = &self.segment
            && let Ok(id) = segment.file.id()
        {
            self.place.watched.watch(&self.chain.directory, &segment.path, id);
        }
    }

    /// Cuts the rest of the newest segment off and removes the prepared one. The chain can be continued.
    pub(crate) fn close(mut self) {
        self.spare.discard(&self.place.files, &self.chain.directory);
        if let Some(segment) = self.segment.take() {
            segment.seal();
        }
    }
}

impl Drop for ChainWriter {
    fn drop(&mut self) {
        self.place.watched.forget(&self.chain.directory);
    }
}

impl ActiveSegment {
    /// Writes a group and waits until it is on the disk. A failure is final for this segment.
    fn write(&mut self, group: &EncodedGroup) -> io::Result<()> {
        let written = files::write_all(&*self.file, &group.bytes, self.end)
            .and_then(|()| self.file.sync_data());
        if written.is_err() {
            self.failed = true;
            return written;
        }
        self.end += group.bytes.len() as u64;
        self.earliest = self.earliest.min(group.earliest);
        Ok(())
    }

    /// Cuts the zeros behind the last group off. A failure costs space only.
    fn seal(self) {
        if !self.failed
            && let Err(error) = self.file.truncate(self.end)
        {
            tracing::warn!(%error, file = %self.path.display(), "a full audit segment cannot be cut");
        }
    }
}
