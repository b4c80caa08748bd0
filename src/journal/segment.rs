//! Reading the groups of one segment, whatever its bytes are.

use std::{io, ops::ControlFlow, sync::Arc};

use super::{
    files::{File, read_full},
    format::{GROUP_MAGIC, GroupView, Incarnation, MIN_GROUP_BYTES, group_length},
    header::{HEADER_BYTES, Header},
};
use crate::domain::{AuditHash, SignedPoint};

/// The bytes that are read at a time.
const WINDOW_BYTES: usize = 256 * 1024;
/// The bytes that are read at a time to look for new groups.
const NEWS_BYTES: usize = 16 * 1024;
/// The bytes of groups between two marks. A read of a few events reads so many bytes.
const BLOCK_BYTES: u64 = 64 * 1024;
/// The most damaged places of a segment that are skipped. Behind them nothing is read.
const MAX_DAMAGES: usize = 1024;
/// The bytes of possible groups that are checked behind a damaged place.
const SEARCH_BUDGET: usize = 256 * 1024 * 1024;

/// Reads groups at given offsets of a file.
pub(crate) struct GroupReader<'a> {
    file: &'a dyn File,
    incarnation: Incarnation,
    window: Vec<u8>,
    window_bytes: usize,
    start: u64,
}

/// The content of a segment behind its last group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rest {
    /// Zeros, or nothing.
    Zeros,
    /// Bytes that are no group.
    Torn,
    /// A group at this offset.
    Group(u64),
}

impl<'a> GroupReader<'a> {
    pub(crate) fn new(file: &'a dyn File, incarnation: Incarnation) -> Self {
        Self { file, incarnation, window: Vec::new(), window_bytes: WINDOW_BYTES, start: 0 }
    }

    /// Creates a reader of the few groups that were added since the last read.
    pub(crate) fn of_news(file: &'a dyn File, incarnation: Incarnation) -> Self {
        Self { window_bytes: NEWS_BYTES, ..Self::new(file, incarnation) }
    }

    /// Creates a reader of so many bytes.
    pub(crate) fn of_block(file: &'a dyn File, incarnation: Incarnation, block: &Block) -> Self {
        let length = usize::try_from(block.to.saturating_sub(block.from)).unwrap_or(WINDOW_BYTES);
        Self { window_bytes: length.min(WINDOW_BYTES), ..Self::new(file, incarnation) }
    }

    /// Returns `length` bytes at an offset, or fewer at the end of the file.
    fn bytes(&mut self, offset: u64, length: usize) -> io::Result<&[u8]> {
        let inside = offset.checked_sub(self.start).and_then(|from| usize::try_from(from).ok());
        let held = inside.is_some_and(|from| self.window.len().saturating_sub(from) >= length);
        if !held {
            self.window.resize(length.max(self.window_bytes), 0);
            let read = read_full(self.file, &mut self.window, offset);
            // After an error the window holds nothing.
            let count = read.as_ref().map_or(0, |count| *count);
            self.window.truncate(count);
            self.start = offset;
            read?;
        }
        let from = usize::try_from(offset.saturating_sub(self.start)).unwrap_or(usize::MAX);
        let rest = self.window.get(from..).unwrap_or_default();
        Ok(rest.get(..length).unwrap_or(rest))
    }

    /// Makes the next read read from the file.
    fn forget(&mut self) {
        self.window.clear();
    }

    /// Returns the group at an offset, if there is a valid one.
    pub(crate) fn group_at(&mut self, offset: u64) -> io::Result<Option<GroupView<'_>>> {
        let Some(length) = group_length(self.bytes(offset, MIN_GROUP_BYTES)?) else {
            return Ok(None);
        };
        // A length that the file does not have must not allocate memory.
        if length > self.window_bytes && offset + length as u64 > self.file.length()? {
            return Ok(None);
        }
        let incarnation = self.incarnation;
        Ok(GroupView::parse(self.bytes(offset, length)?, &incarnation))
    }

    /// Looks for a valid group that begins at `from` or later and whose first event is later than `last`.
    pub(crate) fn search(&mut self, from: u64, last: i64) -> io::Result<Rest> {
        let (mut rest, mut budget) = (Rest::Zeros, SEARCH_BUDGET);
        let mut offset = from;
        loop {
            let chunk = self.bytes(offset, WINDOW_BYTES)?;
            if !is_zero(chunk) {
                rest = Rest::Torn;
            }
            let ends = chunk.len() < GROUP_MAGIC.len();
            let found = if rest == Rest::Zeros { None } else { find_magic(chunk) };
            let (length, magic) = (chunk.len(), GROUP_MAGIC.len());
            match found {
                Some(at) => {
                    offset += at as u64;
                    budget = budget.saturating_sub(self.candidate_length(offset)?);
                    if budget == 0 {
                        return Ok(rest);
                    }
                    if self.group_at(offset)?.is_some_and(|group| group.first > last) {
                        return Ok(Rest::Group(offset));
                    }
                    offset += 1;
                }
                None if ends => return Ok(rest),
                None => offset += (length + 1 - magic) as u64,
            }
        }
    }

    fn candidate_length(&mut self, offset: u64) -> io::Result<usize> {
        Ok(group_length(self.bytes(offset, MIN_GROUP_BYTES)?).unwrap_or(0))
    }
}

/// Returns whether all bytes are zero. Reads pieces without a branch for each byte.
pub(super) fn is_zero(bytes: &[u8]) -> bool {
    bytes.chunks(4096).all(|piece| piece.iter().fold(0_u8, |all, byte| all | *byte) == 0)
}

fn find_magic(bytes: &[u8]) -> Option<usize> {
    bytes.windows(GROUP_MAGIC.len()).position(|bytes| bytes == GROUP_MAGIC)
}

/// Some successive groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Block {
    /// The offset of the first group, and the offset behind the last one.
    pub(crate) from: u64,
    pub(crate) to: u64,
    /// The number of the first event.
    pub(crate) first: i64,
    /// The latest time of all events of the chain before this block.
    pub(crate) latest_before: i64,
    /// The earliest time in the block.
    pub(crate) earliest: i64,
}

/// The end of a chain: the last event's number and hash, and the latest time of all events in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tail {
    pub(crate) sequence: i64,
    pub(crate) hash: AuditHash,
    pub(crate) latest: i64,
}

/// A damaged range of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DamagedRange {
    pub(crate) from: u64,
    pub(crate) to: u64,
}

/// Gets each group before it is added to an extent. If it breaks, the group is not added, and the reading stops.
pub(crate) type Visit<'a> = dyn FnMut(&GroupView<'_>) -> ControlFlow<()> + 'a;

/// The valid groups of a segment: all of them, or only the last ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Extent {
    /// The offset behind the header, or that of the first known group if only the last ones are known.
    pub(crate) start: u64,
    pub(crate) blocks: Vec<Block>,
    /// The offset behind the last valid group.
    pub(crate) end: u64,
    /// The end of the chain: what the segment follows, if it has no event.
    pub(crate) tail: Tail,
    /// The head after the last group, and the offset of that group.
    pub(crate) head: Option<SignedPoint>,
    pub(crate) last_group: u64,
    /// The end of the chain before the last group.
    pub(crate) before_last: Tail,
    /// The earliest time in the segment.
    pub(crate) earliest: i64,
    /// Places with bytes that are no group, and a group behind them.
    pub(crate) damages: Vec<DamagedRange>,
    /// Whether bytes that are no group follow the end. Known after the first scan of the whole segment.
    pub(crate) torn: bool,
    /// The offset of the first group that the next segment supersedes.
    pub(crate) superseded: Option<u64>,
    pub(super) scanned: bool,
}

impl Extent {
    /// Returns the extent of a segment without groups.
    pub(crate) fn empty(header: &Header) -> Self {
        let Header { first, follows: hash, latest, .. } = *header;
        let tail = Tail { sequence: first - 1, hash, latest };
        Self {
            start: HEADER_BYTES as u64,
            blocks: Vec::new(),
            end: HEADER_BYTES as u64,
            tail,
            head: None,
            last_group: HEADER_BYTES as u64,
            before_last: tail,
            earliest: i64::MAX,
            damages: Vec::new(),
            torn: false,
            superseded: None,
            scanned: false,
        }
    }

    /// Returns the extent of a segment of which only the groups from this offset on will be added. The times of the
    /// groups before it are not known, so they may be anything.
    pub(super) fn from_offset(header: &Header, start: u64) -> Self {
        let empty = Self::empty(header);
        let tail = Tail { latest: i64::MAX, ..empty.tail };
        Self { start, end: start, last_group: start, tail, before_last: tail, ..empty }
    }

    /// Returns whether all groups up to the end are known.
    pub(crate) fn is_whole(&self) -> bool {
        self.start == HEADER_BYTES as u64
    }

    /// Adds the groups behind the end, up to the event `until`, with which the next segment begins. Stops before the
    /// group at which `visit` breaks; a later call continues there.
    pub(crate) fn extend(
        &mut self,
        reader: &mut GroupReader<'_>,
        chain: &Arc<str>,
        until: Option<i64>,
        visit: &mut Visit<'_>,
    ) -> io::Result<ControlFlow<()>> {
        let mut resumed = self.damages.last().is_some_and(|range| range.to == self.end);
        while self.damages.len() < MAX_DAMAGES {
            let (end, last) = (self.end, self.tail.sequence);
            let group = reader.group_at(end)?.filter(|group| group.first > last);
            if let Some(group) = group {
                if until.is_some_and(|until| group.first >= until) {
                    self.superseded = Some(end);
                    self.scanned = true;
                    return Ok(ControlFlow::Continue(()));
                }
                if visit(&group).is_break() {
                    return Ok(ControlFlow::Break(()));
                }
                self.add(&group, chain, resumed);
                (resumed, self.torn) = (false, false);
                continue;
            }
            // Reads all zeros behind the end once. Later calls read only the next four bytes.
            let zeros = self.scanned && reader.bytes(end, GROUP_MAGIC.len())? == [0; 4];
            if zeros {
                return Ok(ControlFlow::Continue(()));
            }
            let rest = reader.search(end, last)?;
            self.scanned = true;
            match rest {
                // A process that writes the segment may have completed the group meanwhile.
                Rest::Group(at) if at == end => reader.forget(),
                Rest::Group(at) => {
                    reader.forget();
                    if reader.group_at(end)?.is_some_and(|group| group.first > last) {
                        continue;
                    }
                    self.damages.push(DamagedRange { from: end, to: at });
                    self.end = at;
                    resumed = true;
                }
                Rest::Torn | Rest::Zeros => {
                    self.torn = rest == Rest::Torn;
                    return Ok(ControlFlow::Continue(()));
                }
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Adds the group at the end. `apart` says that it does not follow the former one directly.
    pub(super) fn add(&mut self, group: &GroupView<'_>, chain: &Arc<str>, apart: bool) {
        let to = self.end + group.bytes.len() as u64;
        match self.blocks.last_mut() {
            Some(block) if !apart && self.end - block.from < BLOCK_BYTES => {
                block.to = to;
                block.earliest = block.earliest.min(group.earliest);
            }
            _ => self.blocks.push(Block {
                from: self.end,
                to,
                first: group.first,
                latest_before: self.tail.latest,
                earliest: group.earliest,
            }),
        }
        self.last_group = self.end;
        self.end = to;
        self.before_last = self.tail;
        self.tail = group.tail(self.tail.latest);
        group.put_head(chain, &mut self.head);
        self.earliest = self.earliest.min(group.earliest);
    }
}
