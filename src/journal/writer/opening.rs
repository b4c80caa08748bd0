//! Opening a chain for writing, also after a crash.

use std::{path::Path, sync::Arc};

use super::{ActiveSegment, ChainWriter, Sizes, Spare};
use crate::{
    journal::{
        chain::{Chain, Segment},
        compressed,
        error::WriteError,
        files::{self, Lock, Purpose},
        format::EncodedGroup,
        names,
        place::Place,
        segment::{Extent, GroupReader, Tail},
    },
    ports::{Clock, Random},
};

/// The dependencies and settings for opening a chain.
pub(crate) struct Opening {
    pub(crate) place: Arc<Place>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) random: Arc<dyn Random>,
    pub(crate) sizes: Sizes,
    /// Whether to wait until another process has released the chain's lock.
    pub(crate) wait: bool,
}

impl Opening {
    /// Locks the chain and finds its end. A torn group at the end is cut off; it was never acknowledged. Damage before
    /// a valid group is an error, and nothing is changed.
    pub(crate) fn open(&self, name: &Arc<str>) -> Result<ChainWriter, WriteError> {
        let files = &self.place.files;
        let directory = names::directory_name(name)
            .map(|folder| self.place.directory.join(folder))
            .ok_or(crate::journal::format::EncodeError::Field)?;
        files.create_directory(&directory)?;
        files.sync_directory(&self.place.directory)?;
        let lock = self.lock(name, &directory)?;
        let mut chain = Chain::new(Arc::clone(name), directory);
        chain.refresh(&self.place)?;
        chain.load_newest(&self.place)?;
        if let Some(damage) = chain.damage_at_end() {
            return Err(WriteError::Damaged(damage));
        }
        // The name of the newest segment may not be on the disk yet.
        files.sync_directory(&chain.directory)?;
        let Some((incarnation, continued)) = self.find_end(&chain)? else {
            return Ok(self.begin(chain, lock));
        };
        let begun = chain.begun();
        let next_bytes = continued.segment.bytes.saturating_mul(2);
        let writer = ChainWriter {
            place: Arc::clone(&self.place),
            clock: Arc::clone(&self.clock),
            sizes: self.sizes,
            chain,
            incarnation,
            begun,
            tail: continued.tail,
            segment: Some(continued.segment),
            unconfirmed: continued.unconfirmed,
            next_bytes: next_bytes.max(self.sizes.first_bytes).min(self.sizes.segment_bytes),
            spare: Spare::default(),
            _lock: lock,
        };
        writer.watch();
        Ok(writer)
    }

    fn lock(&self, name: &Arc<str>, directory: &Path) -> Result<Box<dyn Lock>, WriteError> {
        let lock = self.place.files.lock(&directory.join(names::CHAIN_LOCK), self.wait)?;
        lock.ok_or_else(|| WriteError::Busy(name.to_string()))
    }

    /// Begins a chain. Its first segment is made with its first group.
    fn begin(&self, chain: Chain, lock: Box<dyn Lock>) -> ChainWriter {
        ChainWriter {
            place: Arc::clone(&self.place),
            clock: Arc::clone(&self.clock),
            sizes: self.sizes,
            chain,
            incarnation: self.random.bytes(),
            begun: self.clock.now().as_microsecond(),
            tail: Tail { sequence: 0, hash: [0; 32], latest: i64::MIN },
            segment: None,
            unconfirmed: None,
            next_bytes: self.sizes.first_bytes,
            spare: Spare::default(),
            _lock: lock,
        }
    }

    fn find_end(&self, chain: &Chain) -> Result<Option<([u8; 16], Continued)>, WriteError> {
        let Some(incarnation) = chain.incarnation() else { return Ok(None) };
        let Some((segment, extent)) = chain.newest() else { return Ok(None) };
        Ok(Some((incarnation, self.reopen(segment, extent)?)))
    }

    /// Opens the newest segment, and writes its last group again: what can be read may not be on the disk, if a process
    /// ended between the write and the sync.
    fn reopen(&self, segment: &Segment, extent: &Extent) -> Result<Continued, WriteError> {
        let file = self.place.files.open(&segment.path, Purpose::Write)?;
        let bytes = file.length()?;
        let compressed = compressed::is_compressed(&*file)?;
        let active = ActiveSegment {
            file,
            path: segment.path.clone(),
            first: segment.header.first,
            end: extent.end,
            bytes,
            earliest: extent.earliest,
            former_earliest: segment.header.former_earliest,
            // A compressed segment cannot be appended to.
            failed: extent.torn || compressed,
        };
        let shown = active.path.display();
        if extent.torn {
            tracing::warn!(
                file = %shown, offset = extent.end,
                "an audit group at the end of a segment is incomplete and is cut off; it was never acknowledged"
            );
        }
        let mut continued = Continued { tail: extent.tail, unconfirmed: None, segment: active };
        if compressed {
            return Ok(continued);
        }
        let active = &mut continued.segment;
        let mut reader = GroupReader::new(&*active.file, segment.header.incarnation);
        let Some(group) = reader.group_at(extent.last_group)?.map(|group| group.encoded()) else {
            return Err(std::io::Error::other("the segment changes while it is opened").into());
        };
        let again = files::write_all(&*active.file, &group.bytes, extent.last_group)
            .and_then(|()| active.file.sync_data());
        if let Err(error) = again {
            let file = active.path.display();
            tracing::error!(%error, %file, "an audit segment cannot be written; a new one follows");
            active.failed = true;
            continued.tail = extent.before_last;
            continued.unconfirmed = Some(group);
        }
        Ok(continued)
    }
}

/// The end of a chain.
struct Continued {
    tail: Tail,
    segment: ActiveSegment,
    unconfirmed: Option<EncodedGroup>,
}
