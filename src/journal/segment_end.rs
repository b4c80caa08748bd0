//! Reading the last groups of a segment from its end.
//!
//! A group repeats its length in its last bytes, and none of its last four bytes is zero. So the last group ends where
//! the zeros begin, and the groups before it are found one by one. Anything unusual is left to the reading from the
//! beginning: only that finds torn ends and damaged places.

use std::{io, sync::Arc};

use super::{
    files::{File, read_full},
    format::{GROUP_END, GROUP_TRAILER, GroupView, Incarnation, MAX_GROUP_BYTES, MIN_GROUP_BYTES},
    header::{HEADER_BYTES, Header},
    segment::{Extent, is_zero},
};

/// The bytes at the end of the groups that are read: about 200 events, enough for a page of a list.
pub(crate) const END_BYTES: u64 = 64 * 1024;

/// The bytes that are read first to find the end of the groups, and the most that are read at a time.
const FIRST_READ: u64 = 16 * 1024;
const LARGEST_READ: u64 = 256 * 1024;

/// Returns the last groups of a segment, at least one: those that begin in the last `bytes` before the zeros. `until`
/// is the first event of the next segment.
///
/// Returns `None` if the segment has no group, if its last bytes or the bytes before these groups are no valid group,
/// if the numbers do not grow, or if the next segment does not follow the last group. Damage at earlier places is not
/// noticed.
pub(crate) fn last_groups(
    file: &dyn File,
    header: &Header,
    chain: &Arc<str>,
    until: Option<i64>,
    bytes: u64,
) -> io::Result<Option<Extent>> {
    let end = end_of_groups(file)?;
    let Some(last) = last_length(file, end)? else { return Ok(None) };
    let first_byte = HEADER_BYTES as u64;
    let start = end.saturating_sub(bytes.max(last)).max(first_byte);
    let content = read_range(file, start, end)?;
    let Some((groups, offset)) = split_groups(&content, &header.incarnation, start) else {
        return Ok(None);
    };
    let follows =
        |group: &GroupView<'_>| until.is_none_or(|until| group.last.checked_add(1) == Some(until));
    let valid = groups.first().is_some_and(follows)
        && groups.last().is_some_and(|group| group.first >= header.first)
        && groups.is_sorted_by(|later, earlier| later.first > earlier.last);
    if !valid {
        return Ok(None);
    }
    let mut extent = if offset == first_byte {
        Extent::empty(header)
    } else {
        Extent::from_offset(header, offset)
    };
    for group in groups.iter().rev() {
        extent.add(group, chain, false);
    }
    // The bytes behind the last group were read: they are zeros.
    extent.scanned = true;
    Ok(Some(extent))
}

/// Returns the offset behind the last byte that is not zero, or the end of the header.
fn end_of_groups(file: &dyn File) -> io::Result<u64> {
    let first_byte = HEADER_BYTES as u64;
    let (mut end, mut size) = (file.length()?, FIRST_READ);
    while end > first_byte {
        let from = end.saturating_sub(size).max(first_byte);
        let content = read_range(file, from, end)?;
        if let Some(last) = last_nonzero(&content) {
            return Ok(from + last as u64 + 1);
        }
        end = from;
        size = (size * 2).min(LARGEST_READ);
    }
    Ok(first_byte)
}

fn last_nonzero(bytes: &[u8]) -> Option<usize> {
    let mut end = bytes.len();
    for piece in bytes.rchunks(1024) {
        if !is_zero(piece) {
            let last = piece.iter().rposition(|byte| *byte != 0)?;
            return Some(end - piece.len() + last);
        }
        end -= piece.len();
    }
    None
}

/// Returns the bytes of a range, or fewer if the file was cut meanwhile.
fn read_range(file: &dyn File, from: u64, to: u64) -> io::Result<Vec<u8>> {
    let length = usize::try_from(to.saturating_sub(from)).unwrap_or(0);
    let mut content = vec![0; length];
    let read = read_full(file, &mut content, from)?;
    content.truncate(read);
    Ok(content)
}

/// Returns the length that the last bytes of the group that ends at `end` say.
fn last_length(file: &dyn File, end: u64) -> io::Result<Option<u64>> {
    let first_byte = HEADER_BYTES as u64;
    let from = end.saturating_sub(GROUP_TRAILER as u64);
    if from < first_byte {
        return Ok(None);
    }
    let trailer = read_range(file, from, end)?;
    let length = trailer_length(&trailer).map(|length| length as u64);
    Ok(length.filter(|length| end - first_byte >= *length))
}

/// Returns the length that the last bytes of a group say.
fn trailer_length(bytes: &[u8]) -> Option<usize> {
    let trailer = bytes.last_chunk::<GROUP_TRAILER>()?;
    let (length, end) = trailer.split_first_chunk::<4>()?;
    let length = u32::from_be_bytes(*length) as usize;
    let possible = (MIN_GROUP_BYTES..=MAX_GROUP_BYTES).contains(&length);
    (end == GROUP_END && possible).then_some(length)
}

/// Returns the groups at the end of these bytes, which begin at `start` of the file, the last one first, and the offset
/// of the first group. Returns `None` if something there is no valid group.
fn split_groups<'a>(
    content: &'a [u8],
    incarnation: &Incarnation,
    start: u64,
) -> Option<(Vec<GroupView<'a>>, u64)> {
    let whole = start == HEADER_BYTES as u64;
    let (mut groups, mut left) = (Vec::new(), content);
    while !left.is_empty() {
        let length = if left.len() < GROUP_TRAILER { None } else { Some(trailer_length(left)?) };
        let begins = length.and_then(|length| left.len().checked_sub(length));
        // The group before begins before these bytes.
        let Some(at) = begins else {
            if whole {
                return None;
            }
            break;
        };
        let (before, group) = left.split_at_checked(at)?;
        groups.push(GroupView::parse(group, incarnation)?);
        left = before;
    }
    Some((groups, start + left.len() as u64))
}
