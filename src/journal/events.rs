//! Reading the events of a chain by their numbers: as rows, and as blocks for a verification.

use std::{io, ops::ControlFlow, sync::Arc};

use super::{
    chain::Chain,
    format::GroupView,
    place::Place,
    segment::{Block, Extent, GroupReader, Visit},
};
use crate::{
    domain::AuditRow,
    ports::{EventBlock, StoredHeads},
};

/// The bytes of bodies from which a block takes no more groups.
const BLOCK_BYTES: usize = 1024 * 1024;

const CONTINUE: ControlFlow<()> = ControlFlow::Continue(());

impl Chain {
    /// Returns up to `limit` events after number `after`, in order.
    pub(crate) fn rows(
        &mut self,
        place: &Place,
        after: i64,
        limit: usize,
    ) -> io::Result<Vec<AuditRow>> {
        let after = after.max(self.floor());
        let mut rows: Vec<AuditRow> = Vec::new();
        for index in self.segment_behind(after)..self.segment_count() {
            self.load(place, index)?;
            for block in self.blocks_behind(index, after) {
                let visit: &mut Visit<'_> = &mut |group| {
                    let wanted = group.rows().filter(|row| row.sequence > after);
                    rows.extend(wanted.take(limit.saturating_sub(rows.len())));
                    if rows.len() < limit { CONTINUE } else { ControlFlow::Break(()) }
                };
                if self.read_groups(place, index, &[block], visit)?.is_break() {
                    return Ok(rows);
                }
            }
        }
        Ok(rows)
    }

    /// Returns the events after number `after`, in order, up to about a megabyte of them, with heads. Names damaged
    /// places on the way.
    pub(crate) fn event_block(
        &mut self,
        place: &Place,
        after: i64,
        heads: StoredHeads,
    ) -> io::Result<EventBlock> {
        let after = after.max(self.floor());
        let chain = Arc::clone(&self.name);
        let mut block = EventBlock::default();
        for index in self.segment_behind(after)..self.segment_count() {
            let visit: &mut Visit<'_> =
                &mut |group| add_group(&mut block, group, after, heads, &chain);
            if self.visit_groups(place, index, after, visit)?.is_break() {
                break;
            }
            // The segment ends here. Its last group is in this block, because a block breaks before a group.
            let last = self.extent(index).and_then(|extent| extent.head.as_ref());
            if let (Some(last), StoredHeads::LastOfFiles) = (last, heads)
                && block.last_sequence() == Some(last.point.sequence)
            {
                block.push_head(last.signature.clone());
            }
        }
        Ok(block)
    }

    /// Calls `visit` with the groups of a segment that may have events after number `after`, until it breaks.
    fn visit_groups(
        &mut self,
        place: &Place,
        index: usize,
        after: i64,
        visit: &mut Visit<'_>,
    ) -> io::Result<ControlFlow<()>> {
        if self.segment_times(index).is_some_and(|times| times.first > after) {
            self.reread_header(place, index)?;
        }
        let known = |extent: &Extent| extent.is_whole() && extent.tail.sequence > after;
        if self.extent(index).is_some_and(known) {
            let known = self.blocks_behind(index, after);
            if self.read_groups(place, index, &known, visit)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        self.load_while(place, index, visit)
    }

    /// Returns the known blocks of a segment that may have events after number `after`.
    fn blocks_behind(&self, index: usize, after: i64) -> Vec<Block> {
        let blocks = self.extent(index).map(|extent| extent.blocks.as_slice()).unwrap_or_default();
        let next = after.saturating_add(1);
        let following = blocks.partition_point(|block| block.first <= next);
        blocks.iter().skip(following.saturating_sub(1)).copied().collect()
    }

    /// Calls `visit` with the groups of some blocks of a segment, until it breaks.
    pub(super) fn read_groups(
        &self,
        place: &Place,
        index: usize,
        blocks: &[Block],
        visit: &mut Visit<'_>,
    ) -> io::Result<ControlFlow<()>> {
        let Some((segment, file)) = self.open_segment(place, index)? else { return Ok(CONTINUE) };
        let incarnation = segment.header.incarnation;
        let mut reader = match blocks {
            [] => return Ok(CONTINUE),
            [block] => GroupReader::of_block(&*file, incarnation, block),
            _ => GroupReader::new(&*file, incarnation),
        };
        for block in blocks {
            let (mut offset, mut first) = (block.from, block.first);
            while offset < block.to {
                let group = reader.group_at(offset)?.filter(|group| group.first >= first);
                let Some(group) = group else {
                    place.report(&segment.path, offset, "the group was changed after it was read");
                    break;
                };
                if visit(&group).is_break() {
                    return Ok(ControlFlow::Break(()));
                }
                first = group.last.saturating_add(1);
                offset += group.bytes.len() as u64;
            }
        }
        Ok(CONTINUE)
    }
}

/// Adds the events of a group after number `after`. Breaks if the block is full.
fn add_group(
    block: &mut EventBlock,
    group: &GroupView<'_>,
    after: i64,
    heads: StoredHeads,
    chain: &Arc<str>,
) -> ControlFlow<()> {
    if group.last <= after {
        return CONTINUE;
    }
    if block.body_bytes() >= BLOCK_BYTES {
        return ControlFlow::Break(());
    }
    for row in group.views().filter(|row| row.sequence > after) {
        block.push(row);
    }
    if heads == StoredHeads::All {
        block.push_head(group.head(chain).signature);
    }
    CONTINUE
}
