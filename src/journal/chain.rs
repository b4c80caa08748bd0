//! Reading the segments of one chain.

use std::{
    io,
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    compressed,
    damage::Damage,
    files,
    format::{GroupView, Incarnation},
    header::{self, HEADER_BYTES, Header},
    names,
    place::Place,
    segment::{Block, Extent, GroupReader},
};
use crate::domain::{AuditRow, ChainState, SignedPoint};

/// The most segments of a chain: 4 TiB of 64 MiB.
const MAX_SEGMENTS: usize = 65_536;

/// A segment of a chain.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) path: PathBuf,
    pub(crate) header: Header,
    /// Whether a trusted key has signed the header. The times in another header are not used.
    pub(crate) trusted: bool,
    /// The number of the first event of the next segment.
    pub(super) until: Option<i64>,
    /// The groups; unknown until they are needed.
    extent: Option<Extent>,
    /// Whether all groups up to `until` are known.
    complete: bool,
}

/// The segments of a chain, and its checkpoint.
#[derive(Debug)]
pub(crate) struct Chain {
    pub(crate) name: Arc<str>,
    pub(crate) directory: PathBuf,
    pub(super) segments: Vec<Segment>,
    checkpoint: Option<SignedPoint>,
    /// The newest file with the name of a segment that is no segment of this chain.
    rejected: Option<i64>,
}

/// The times of a segment, in microseconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct SegmentTimes {
    /// The number of the first event.
    pub(super) first: i64,
    /// Whether the header is signed, so that `latest_before` is true.
    pub(super) trusted: bool,
    /// The latest time of all events before the segment.
    pub(super) latest_before: i64,
    /// The earliest time in the segment, if the next one says it.
    pub(super) earliest: Option<i64>,
}

/// An event with its place in the list of all events: the latest time of its chain up to it. Within a chain this time
/// never decreases, so the order of events in a list is also that of their numbers.
#[derive(Debug, Clone)]
pub(crate) struct PlacedRow {
    pub(crate) latest: i64,
    pub(crate) row: AuditRow,
}

impl Chain {
    pub(crate) fn new(name: Arc<str>, directory: PathBuf) -> Self {
        Self { name, directory, segments: Vec::new(), checkpoint: None, rejected: None }
    }

    /// Reads what was written since the last call.
    pub(crate) fn refresh(&mut self, place: &Place) -> io::Result<()> {
        let mut names = match place.files.list(&self.directory) {
            Ok(names) => names,
            Err(error) if is_absent(&error) => Vec::new(),
            Err(error) => return Err(error),
        };
        names.sort_unstable();
        let firsts: Vec<i64> = names.iter().filter_map(|n| names::first_of_segment(n)).collect();
        if firsts.len() > MAX_SEGMENTS {
            let what = format!("{}: more than {MAX_SEGMENTS} segments", self.directory.display());
            return Err(io::Error::other(what));
        }
        self.segments.retain(|segment| firsts.binary_search(&segment.header.first).is_ok());
        self.rejected = None;
        for first in firsts {
            let Err(at) = self.position_of(first) else { continue };
            match self.read_segment(place, first)? {
                Some(segment) => self.segments.insert(at, segment),
                None => self.rejected = Some(first),
            }
        }
        self.drop_strangers(place);
        self.link();
        self.checkpoint = self.read_checkpoint(place)?;
        if let Some(newest) = self.segments.len().checked_sub(1) {
            self.load(place, newest)?;
        }
        Ok(())
    }

    fn position_of(&self, first: i64) -> Result<usize, usize> {
        self.segments.binary_search_by_key(&first, |segment| segment.header.first)
    }

    /// Reads the header of a segment. Returns `None` if it is damaged or gone.
    fn read_segment(&self, place: &Place, first: i64) -> io::Result<Option<Segment>> {
        let path = self.directory.join(names::segment_name(first));
        let mut bytes = [0; HEADER_BYTES];
        let read = match compressed::open(&*place.files, &path) {
            Ok(file) => files::read_full(&*file, &mut bytes, 0)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let Some(header) = Header::decode(bytes.get(..read).unwrap_or_default()) else {
            place.report(&path, 0, "the header of the segment is damaged");
            return Ok(None);
        };
        if header.chain != self.name || header.first != first {
            place.report(&path, 0, "the segment is of another chain or begins with another event");
            return Ok(None);
        }
        let trusted = place.verifies(&header)?;
        if !trusted {
            place.report(&path, 0, "no known key has signed the header of the segment");
        }
        Ok(Some(Segment { path, header, trusted, until: None, extent: None, complete: false }))
    }

    /// Drops segments of an earlier chain of the same name.
    fn drop_strangers(&mut self, place: &Place) {
        let Some(incarnation) = self.incarnation() else { return };
        let rejected = &mut self.rejected;
        self.segments.retain(|segment| {
            let own = segment.header.incarnation == incarnation;
            if !own {
                place.report(&segment.path, 12, "the segment is of another chain of this name");
                *rejected = (*rejected).max(Some(segment.header.first));
            }
            own
        });
    }

    /// Returns the id of the chain: that of the newest segment with a valid signature, or of the newest one.
    pub(crate) fn incarnation(&self) -> Option<Incarnation> {
        let trusted = self.segments.iter().rev().find(|segment| segment.trusted);
        trusted.or(self.segments.last()).map(|segment| segment.header.incarnation)
    }

    /// Sets where each segment ends.
    fn link(&mut self) {
        let mut until = None;
        for segment in self.segments.iter_mut().rev() {
            let reaches =
                |extent: &Extent| until.is_some_and(|until| extent.tail.sequence >= until);
            if segment.extent.as_ref().is_some_and(reaches) {
                segment.extent = None;
            }
            segment.complete &= segment.until == until && segment.extent.is_some();
            segment.until = until;
            until = Some(segment.header.first);
        }
    }

    fn read_checkpoint(&self, place: &Place) -> io::Result<Option<SignedPoint>> {
        let path = self.directory.join(names::CHECKPOINT);
        let Some(bytes) = files::read_small(&*place.files, &path, HEADER_BYTES)? else {
            return Ok(None);
        };
        let checkpoint = header::decode_checkpoint(&bytes);
        let own = checkpoint.filter(|checkpoint| checkpoint.point.chain == self.name);
        if own.is_none() {
            place.report(&path, 0, "the checkpoint is damaged or of another chain");
        }
        Ok(own)
    }

    /// Reads the groups of a segment that are not known yet.
    pub(super) fn load(&mut self, place: &Place, index: usize) -> io::Result<()> {
        let Some(segment) = self.segments.get_mut(index) else { return Ok(()) };
        if segment.complete {
            return Ok(());
        }
        let Segment { path, header, until, .. } = segment;
        let file = match compressed::open(&*place.files, path) {
            Ok(file) => file,
            // Retention has removed it meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        let mut reader = GroupReader::new(&*file, header.incarnation);
        let mut extent = segment.extent.take().unwrap_or_else(|| Extent::empty(header));
        let known = extent.damages.len();
        extent.extend(&mut reader, &self.name, *until)?;
        for range in extent.damages.iter().skip(known) {
            place.report(path, range.from, "these bytes are not the group that should be here");
        }
        let (superseded, end) = (extent.superseded, extent.end);
        if until.is_some_and(|until| extent.tail.sequence.saturating_add(1) < until) {
            place.report(path, end, "events are missing between here and the next segment");
        } else if extent.head.is_none() {
            place.report(path, end, "the segment has no group");
        }
        let path = path.clone();
        segment.extent = Some(extent);
        segment.complete = segment.until.is_some();
        if let Some(offset) = superseded {
            let group = reader.group_at(offset)?.map(|group| group.bytes.to_vec());
            self.check_superseded(place, index, &path, offset, group.as_deref())?;
        }
        Ok(())
    }

    /// Checks that a group which the next segment supersedes is the first group there, if there is one.
    fn check_superseded(
        &self,
        place: &Place,
        index: usize,
        path: &Path,
        offset: u64,
        group: Option<&[u8]>,
    ) -> io::Result<()> {
        let Some(next) = self.segments.get(index + 1) else { return Ok(()) };
        let Ok(file) = compressed::open(&*place.files, &next.path) else { return Ok(()) };
        let mut reader = GroupReader::new(&*file, next.header.incarnation);
        let other = reader.group_at(HEADER_BYTES as u64)?;
        if let (Some(group), Some(other)) = (group, other)
            && group != other.bytes
        {
            place.report(path, offset, "the next segment has another group with these events");
        }
        Ok(())
    }

    /// Returns the newest segment that has a group, after its groups were read.
    fn newest_with_groups(&mut self, place: &Place) -> io::Result<Option<&Extent>> {
        for index in (0..self.segments.len()).rev() {
            self.load(place, index)?;
            let filled = |extent: &Extent| extent.head.is_some();
            if self.extent(index).is_some_and(filled) {
                return Ok(self.extent(index));
            }
        }
        Ok(None)
    }

    pub(super) fn extent(&self, index: usize) -> Option<&Extent> {
        self.segments.get(index).and_then(|segment| segment.extent.as_ref())
    }

    pub(super) fn segment_count(&self) -> usize {
        self.segments.len()
    }

    /// Returns what is known of a segment's times without its groups.
    pub(super) fn segment_times(&self, index: usize) -> Option<SegmentTimes> {
        let segment = self.segments.get(index)?;
        let next = self.segments.get(index + 1).filter(|next| next.trusted);
        Some(SegmentTimes {
            first: segment.header.first,
            trusted: segment.trusted,
            latest_before: segment.header.latest,
            earliest: next.map(|next| next.header.former_earliest),
        })
    }

    /// Returns the newest segment, with its groups.
    pub(crate) fn newest(&self) -> Option<(&Segment, &Extent)> {
        self.segments.last().and_then(|segment| Some((segment, segment.extent.as_ref()?)))
    }

    /// Returns the damage that forbids to continue the chain: a file that is newer than every segment, or a damaged
    /// place in the newest segment. A new segment could replace the former and would make the latter look intact.
    pub(crate) fn damage_at_end(&self) -> Option<Damage> {
        let newest = self.newest();
        let first = newest.map_or(0, |(segment, _)| segment.header.first);
        if let Some(rejected) = self.rejected.filter(|rejected| *rejected > first) {
            let file = self.directory.join(names::segment_name(rejected));
            return Some(Damage { file, offset: 0, problem: "the newest segment is damaged" });
        }
        if newest.is_none() && self.checkpoint.is_some() {
            let file = self.directory.join(names::CHECKPOINT);
            return Some(Damage { file, offset: 0, problem: "the segments behind it are missing" });
        }
        let (segment, extent) = newest?;
        let empty = extent.head.is_none().then_some(HEADER_BYTES as u64);
        let offset = extent.damages.first().map(|range| range.from).or(empty)?;
        let problem = "these bytes are not the group that should be here";
        Some(Damage { file: segment.path.clone(), offset, problem })
    }

    /// Returns the time at which the chain began, in microseconds.
    pub(crate) fn begun(&self) -> i64 {
        self.segments.first().map_or(i64::MAX, |segment| segment.header.begun)
    }

    /// Returns the state, if the chain has a group.
    pub(crate) fn state(&mut self, place: &Place) -> io::Result<Option<ChainState>> {
        let head = self.newest_with_groups(place)?.and_then(|extent| extent.head.clone());
        let checkpoint = self.checkpoint.clone();
        Ok(head.map(|head| ChainState { head, checkpoint }))
    }

    /// Returns the latest time of all events; `None` if there are none.
    pub(crate) fn latest(&mut self, place: &Place) -> io::Result<Option<i64>> {
        Ok(self.newest_with_groups(place)?.map(|extent| extent.tail.latest))
    }

    /// Returns the number of the event before the first one that may be read.
    pub(super) fn floor(&self) -> i64 {
        self.checkpoint.as_ref().map_or(0, |checkpoint| checkpoint.point.sequence)
    }

    /// Returns up to `limit` events after number `after`, in order.
    pub(crate) fn rows(
        &mut self,
        place: &Place,
        after: i64,
        limit: usize,
    ) -> io::Result<Vec<PlacedRow>> {
        let after = after.max(self.floor());
        let mut rows: Vec<PlacedRow> = Vec::new();
        let following = self
            .segments
            .partition_point(|segment| segment.header.first <= after.saturating_add(1));
        for index in following.saturating_sub(1)..self.segments.len() {
            self.load(place, index)?;
            let Some(extent) = self.extent(index) else { continue };
            let blocks =
                extent.blocks.partition_point(|block| block.first <= after.saturating_add(1));
            for block in extent.blocks.iter().skip(blocks.saturating_sub(1)) {
                self.read_block(place, index, block, |row| {
                    if row.row.sequence > after {
                        rows.push(row);
                    }
                    if rows.len() >= limit {
                        ControlFlow::Break(())
                    } else {
                        ControlFlow::Continue(())
                    }
                })?;
                if rows.len() >= limit {
                    return Ok(rows);
                }
            }
        }
        Ok(rows)
    }

    /// Calls `take` with the events of a block, until it breaks.
    pub(super) fn read_block(
        &self,
        place: &Place,
        index: usize,
        block: &Block,
        mut take: impl FnMut(PlacedRow) -> ControlFlow<()>,
    ) -> io::Result<()> {
        let Some(segment) = self.segments.get(index) else { return Ok(()) };
        let file = match compressed::open(&*place.files, &segment.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        let mut reader = GroupReader::of_block(&*file, segment.header.incarnation, block);
        let (mut offset, mut latest, mut first) = (block.from, block.latest_before, block.first);
        while offset < block.to {
            let group = reader.group_at(offset)?.filter(|group| group.first >= first);
            let Some(group) = group else {
                place.report(&segment.path, offset, "the group was changed after it was read");
                return Ok(());
            };
            if take_rows(&group, &mut latest, &mut take).is_break() {
                return Ok(());
            }
            first = group.last.saturating_add(1);
            offset += group.bytes.len() as u64;
        }
        Ok(())
    }
}

/// Returns whether there is no such directory.
fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn take_rows(
    group: &GroupView<'_>,
    latest: &mut i64,
    take: &mut impl FnMut(PlacedRow) -> ControlFlow<()>,
) -> ControlFlow<()> {
    for row in group.rows() {
        *latest = (*latest).max(row.time.as_microsecond());
        take(PlacedRow { latest: *latest, row })?;
    }
    ControlFlow::Continue(())
}
