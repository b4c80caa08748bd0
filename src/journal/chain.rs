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
    files::{self, File},
    format::Incarnation,
    header::{self, HEADER_BYTES, Header},
    names,
    place::Place,
    segment::{Extent, GroupReader, Visit},
    segment_end::{self, END_BYTES},
};
use crate::domain::{ChainState, SignedPoint};

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
    /// The groups, or the last of them; unknown until they are needed.
    extent: Option<Extent>,
    /// Whether all groups from the start of the extent up to `until` are known.
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

impl Chain {
    pub(crate) fn new(name: Arc<str>, directory: PathBuf) -> Self {
        Self { name, directory, segments: Vec::new(), checkpoint: None, rejected: None }
    }

    /// Finds the segments and reads their headers and the checkpoint. Groups are read when they are needed.
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
        Ok(())
    }

    fn position_of(&self, first: i64) -> Result<usize, usize> {
        self.segments.binary_search_by_key(&first, |segment| segment.header.first)
    }

    /// Reads the header of a segment. Returns `None` if it is damaged or gone.
    fn read_segment(&self, place: &Place, first: i64) -> io::Result<Option<Segment>> {
        let path = self.directory.join(names::segment_name(first));
        let mut bytes = [0; HEADER_BYTES];
        let Some(file) = open(place, &path)? else { return Ok(None) };
        let read = files::read_full(&*file, &mut bytes, 0)?;
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

    /// Reads the header of a segment again, for a verification: the file may have been changed since it was read.
    pub(super) fn reread_header(&mut self, place: &Place, index: usize) -> io::Result<()> {
        let Some(first) = self.segments.get(index).map(|segment| segment.header.first) else {
            return Ok(());
        };
        let now = self.read_segment(place, first)?;
        if let (Some(now), Some(segment)) = (now, self.segments.get_mut(index)) {
            if now.header.incarnation == segment.header.incarnation {
                (segment.header, segment.trusted) = (now.header, now.trusted);
            } else {
                place.report(&segment.path, 12, "the segment is of another chain of this name");
            }
        }
        Ok(())
    }

    /// Reads all groups of the newest segment.
    pub(crate) fn load_newest(&mut self, place: &Place) -> io::Result<()> {
        self.segments.len().checked_sub(1).map_or(Ok(()), |newest| self.load(place, newest))
    }

    /// Reads the groups of a segment that are not known yet.
    pub(super) fn load(&mut self, place: &Place, index: usize) -> io::Result<()> {
        self.load_while(place, index, &mut |_| ControlFlow::Continue(())).map(drop)
    }

    /// Reads the groups of a segment that are not known yet, until `visit` breaks. A later call continues there.
    pub(super) fn load_while(
        &mut self,
        place: &Place,
        index: usize,
        visit: &mut Visit<'_>,
    ) -> io::Result<ControlFlow<()>> {
        let end = ControlFlow::Continue(());
        let Some(segment) = self.segments.get_mut(index) else { return Ok(end) };
        if segment.extent.as_ref().is_some_and(|extent| !extent.is_whole()) {
            (segment.extent, segment.complete) = (None, false);
        }
        if segment.complete {
            return Ok(end);
        }
        let Segment { path, header, until, .. } = segment;
        let Some(file) = open(place, path)? else { return Ok(end) };
        let mut reader = GroupReader::new(&*file, header.incarnation);
        let mut extent = segment.extent.take().unwrap_or_else(|| Extent::empty(header));
        let known = extent.damages.len();
        let read = extent.extend(&mut reader, &self.name, *until, visit)?;
        for range in extent.damages.iter().skip(known) {
            place.report(path, range.from, "these bytes are not the group that should be here");
        }
        if read.is_break() {
            segment.extent = Some(extent);
            return Ok(read);
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
        Ok(read)
    }

    /// Reads the last groups of a segment that are not known yet. Reads all groups if something at the end is unusual.
    pub(super) fn load_end(&mut self, place: &Place, index: usize) -> io::Result<()> {
        let Some(segment) = self.segments.get_mut(index) else { return Ok(()) };
        if segment.extent.as_ref().is_some_and(Extent::is_whole) {
            return self.load(place, index);
        }
        if segment.complete {
            return Ok(());
        }
        let Segment { path, header, until, .. } = segment;
        let Some(file) = open(place, path)? else { return Ok(()) };
        let known = match segment.extent.take() {
            None => segment_end::last_groups(&*file, header, &self.name, *until, END_BYTES)?,
            Some(mut extent) => {
                let mut reader = GroupReader::of_news(&*file, header.incarnation);
                let all: &mut Visit<'_> = &mut |_| ControlFlow::Continue(());
                let _ = extent.extend(&mut reader, &self.name, *until, all)?;
                let next = extent.tail.sequence.checked_add(1);
                let follows = until.is_none_or(|until| Some(until) == next);
                Some(extent).filter(|extent| follows && extent.damages.is_empty())
            }
        };
        if known.is_none() {
            return self.load(place, index);
        }
        segment.complete = segment.until.is_some();
        segment.extent = known;
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
        let Ok(Some(file)) = open(place, &next.path) else { return Ok(()) };
        let mut reader = GroupReader::new(&*file, next.header.incarnation);
        let other = reader.group_at(HEADER_BYTES as u64)?;
        if let (Some(group), Some(other)) = (group, other)
            && group != other.bytes
        {
            place.report(path, offset, "the next segment has another group with these events");
        }
        Ok(())
    }

    /// Returns the newest segment that has a group, after its last groups were read.
    pub(super) fn newest_with_groups(&mut self, place: &Place) -> io::Result<Option<usize>> {
        for index in (0..self.segments.len()).rev() {
            self.load_end(place, index)?;
            if self.extent(index).is_some_and(|extent| extent.head.is_some()) {
                return Ok(Some(index));
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

    /// Returns the index of the segment in which the event after number `after` is, or would be.
    pub(super) fn segment_behind(&self, after: i64) -> usize {
        let next = after.saturating_add(1);
        let following = self.segments.partition_point(|segment| segment.header.first <= next);
        following.saturating_sub(1)
    }

    /// Opens a segment for reading; `None` if it is gone.
    pub(super) fn open_segment(
        &self,
        place: &Place,
        index: usize,
    ) -> io::Result<Option<(&Segment, Box<dyn File>)>> {
        let Some(segment) = self.segments.get(index) else { return Ok(None) };
        Ok(open(place, &segment.path)?.map(|file| (segment, file)))
    }

    /// Returns the newest segment, with its groups, after [`Self::load_newest`].
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

    /// Returns the state, if the chain has a group. The head may have been read from the end of a file, without the
    /// groups before it.
    pub(crate) fn state(&mut self, place: &Place) -> io::Result<Option<ChainState>> {
        let newest = self.newest_with_groups(place)?.and_then(|index| self.extent(index));
        let head = newest.and_then(|extent| extent.head.clone());
        let checkpoint = self.checkpoint.clone();
        Ok(head.map(|head| ChainState { head, checkpoint }))
    }

    /// Returns the number of the event before the first one that may be read.
    pub(super) fn floor(&self) -> i64 {
        self.checkpoint.as_ref().map_or(0, |checkpoint| checkpoint.point.sequence)
    }
}

/// Returns whether there is no such directory.
fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Opens a segment for reading. Returns `None` if retention has removed it meanwhile.
fn open(place: &Place, path: &Path) -> io::Result<Option<Box<dyn File>>> {
    match compressed::open(&*place.files, path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
