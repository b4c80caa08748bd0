//! Reading a segment from memory, for property tests and the fuzz target `segment`.

use std::{io, ops::ControlFlow};

use super::{
    files::{File, FileId},
    format::{EncodedGroup, GroupView, Incarnation, group_length},
    header::{HEADER_BYTES, Header},
    segment::{Extent, GroupReader},
};
use crate::{
    domain::{AuditRow, AuditSignature},
    ports::AuditGroup,
};

/// A segment in memory.
pub(super) struct Memory<'a>(pub(super) &'a [u8]);

impl File for Memory<'_> {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        let rest = self.0.get(from..).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        if let (Some(to), Some(from)) = (buffer.get_mut(..count), rest.get(..count)) {
            to.copy_from_slice(from);
        }
        Ok(count)
    }

    fn write_at(&self, _: &[u8], _: u64) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.0.len() as u64)
    }

    fn truncate(&self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn id(&self) -> io::Result<FileId> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// Returns the events of a segment, whatever its bytes are; `None` if it has no valid header.
///
/// # Errors
/// With a broken promise: an event does not encode to the bytes that it was read from, or the numbers do not grow.
pub(crate) fn read_segment(bytes: &[u8]) -> Result<Option<Vec<AuditRow>>, &'static str> {
    let Some(header) = bytes.get(..HEADER_BYTES).and_then(Header::decode) else { return Ok(None) };
    if header.encode().ok().as_deref() != bytes.get(..HEADER_BYTES) {
        return Err("the header does not encode to its bytes");
    }
    let file = Memory(bytes);
    let mut extent = Extent::empty(&header);
    let mut reader = GroupReader::new(&file, header.incarnation);
    let failed = |_| "a read from memory failed";
    let all = extent.extend(&mut reader, &header.chain, None, &mut |_| ControlFlow::Continue(()));
    let _ = all.map_err(failed)?;
    let mut rows: Vec<AuditRow> = Vec::new();
    for block in &extent.blocks {
        let mut reader = GroupReader::of_block(&file, header.incarnation, block);
        let mut offset = block.from;
        while offset < block.to {
            let group = reader.group_at(offset).map_err(failed)?;
            let group = group.ok_or("a group was found once and not again")?;
            check_group(&group, &header)?;
            if rows.last().is_some_and(|last| last.sequence >= group.first) {
                return Err("the numbers do not grow");
            }
            rows.extend(group.rows());
            offset += group.bytes.len() as u64;
        }
    }
    Ok(Some(rows))
}

fn check_group(group: &GroupView<'_>, header: &Header) -> Result<(), &'static str> {
    let rows: Vec<AuditRow> = group.rows().collect();
    let again = AuditGroup { rows, head: group.head(&header.chain) };
    let mut again = EncodedGroup::new(&again).map_err(|_| "a group cannot be encoded again")?;
    again.seal(&header.incarnation);
    if again.bytes == group.bytes { Ok(()) } else { Err("a group does not encode to its bytes") }
}

/// Returns a segment with these groups, for tests that change it.
#[must_use]
pub(crate) fn make_segment(groups: &[AuditGroup]) -> Option<Vec<u8>> {
    let incarnation: Incarnation = [5; 16];
    let first = groups.first()?;
    let signature = AuditSignature { key_id: "k-1".into(), bytes: vec![3; 64] };
    let header = Header {
        chain: first.head.point.chain.clone(),
        incarnation,
        first: first.first_sequence(),
        follows: [0; 32],
        begun: 0,
        created: 0,
        latest: i64::MIN,
        former_earliest: i64::MAX,
        signature,
    };
    let mut bytes = header.encode().ok()?;
    for group in groups {
        let mut group = EncodedGroup::new(group).ok()?;
        group.seal(&incarnation);
        bytes.extend_from_slice(&group.bytes);
    }
    Some(bytes)
}

/// Makes the checksums of a segment right, so that arbitrary bytes reach the checks behind them.
pub(crate) fn correct_checksums(bytes: &mut [u8]) {
    let Some((header, mut rest)) = bytes.split_at_mut_checked(HEADER_BYTES) else { return };
    let Some((content, checksum)) = header.split_last_chunk_mut::<4>() else { return };
    *checksum = crc32c::crc32c(content).to_be_bytes();
    let Some(incarnation) = content.get(12..28).and_then(|id| Incarnation::try_from(id).ok())
    else {
        return;
    };
    while let Some(length) = group_length(rest) {
        let Some((group, behind)) = rest.split_at_mut_checked(length) else { return };
        let checksum = super::format::group_checksum(group, &incarnation).unwrap_or_default();
        if let Some(place) = group.get_mut(8..12) {
            place.copy_from_slice(&checksum.to_be_bytes());
        }
        rest = behind;
    }
}
