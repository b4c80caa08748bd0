//! Listing the events of all chains, newest first.
//!
//! The order is that of an event's order time, then of the chain's name, then of the number. The order time is the
//! earliest time from the event to the end of its segment, but not less than the latest time before the segment. It is
//! the event's own time unless the clock was set back. Within a chain it never decreases, so a clock that was set back
//! does not change the order within a chain, and a page can continue where the last one ended. It is known from the
//! end of a segment, so a first page needs only the last groups.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    io,
    ops::ControlFlow,
    sync::{Arc, Mutex, PoisonError},
};

use jiff::Timestamp;

use super::{
    chain::{Chain, SegmentTimes},
    place::Place,
    segment::{Block, Extent, Visit},
};
use crate::{
    domain::AuditRow,
    ports::{AuditPosition, ChainedRow, TimeSpan},
};

/// The events of a chain that come after a position in the list.
#[derive(Debug, Clone, Copy)]
struct Bound {
    /// The latest order time that is listed.
    latest: i64,
    /// The number before which events are listed.
    sequence: i64,
}

/// A span of time in microseconds.
#[derive(Debug, Clone, Copy)]
struct Span {
    from: i64,
    to: i64,
}

impl Span {
    fn contains(&self, row: &AuditRow) -> bool {
        (self.from..=self.to).contains(&row.time.as_microsecond())
    }
}

/// An event and its order time in microseconds.
struct PlacedRow {
    order_time: i64,
    row: AuditRow,
}

/// A chain that is being listed.
struct Listed {
    chain: Arc<Mutex<Chain>>,
    name: Arc<str>,
    bound: Bound,
    /// Events that were read and not listed, in the order of their numbers.
    read: Vec<PlacedRow>,
}

/// Returns up to `limit` events within a span, starting after `after`.
pub(crate) fn newest(
    place: &Place,
    chains: Vec<Arc<Mutex<Chain>>>,
    span: TimeSpan,
    after: Option<&AuditPosition>,
    limit: usize,
) -> io::Result<Vec<ChainedRow>> {
    let span = Span { from: span.from.as_microsecond(), to: span.to.as_microsecond() };
    let mut listed = Vec::with_capacity(chains.len());
    let mut queue = BinaryHeap::with_capacity(chains.len());
    for chain in chains {
        let (name, newest) = {
            let mut chain = lock(&chain);
            chain.refresh(place)?;
            let newest = chain.newest_order_time(place, span)?;
            (Arc::clone(&chain.name), newest)
        };
        let Some(newest) = newest else { continue };
        let all = Bound { latest: i64::MAX, sequence: i64::MAX };
        let bound = after.map_or(all, |position| bound(&name, position));
        // An estimate: the chain is opened when its turn comes.
        queue.push((newest.min(bound.latest), Arc::clone(&name), i64::MAX, Reverse(listed.len())));
        listed.push(Listed { chain, name, bound, read: Vec::new() });
    }
    let mut rows = Vec::new();
    while rows.len() < limit {
        let Some((_, _, sequence, Reverse(index))) = queue.pop() else { break };
        let Some(chain) = listed.get_mut(index) else { break };
        if let Some(placed) = chain.read.pop_if(|placed| placed.row.sequence == sequence) {
            chain.bound.sequence = placed.row.sequence;
            let time = Timestamp::from_microsecond(placed.order_time);
            let order_time = time.unwrap_or(Timestamp::MAX);
            let name = Arc::clone(&chain.name);
            rows.push(ChainedRow { chain: name, row: placed.row, order_time });
        }
        if chain.read.is_empty() {
            chain.read = lock(&chain.chain).rows_before(place, chain.bound, span)?;
        }
        if let Some(next) = chain.read.last() {
            let name = Arc::clone(&chain.name);
            queue.push((next.order_time, name, next.row.sequence, Reverse(index)));
        }
    }
    Ok(rows)
}

fn lock(chain: &Mutex<Chain>) -> std::sync::MutexGuard<'_, Chain> {
    chain.lock().unwrap_or_else(PoisonError::into_inner)
}

fn bound(chain: &Arc<str>, position: &AuditPosition) -> Bound {
    let latest = position.time.as_microsecond();
    match chain.cmp(&position.chain) {
        std::cmp::Ordering::Less => Bound { latest, sequence: i64::MAX },
        // Its numbers decide, whatever the times say.
        std::cmp::Ordering::Equal => Bound { latest: i64::MAX, sequence: position.sequence },
        std::cmp::Ordering::Greater => {
            Bound { latest: latest.saturating_sub(1), sequence: i64::MAX }
        }
    }
}

/// The part of a list that is looked for.
#[derive(Clone, Copy)]
struct Wanted {
    bound: Bound,
    span: Span,
    /// The number of the event before the first one that may be read.
    floor: i64,
}

impl Chain {
    /// Returns the order time of the last event; `None` if the chain has no event, or certainly none since the start of
    /// the span.
    fn newest_order_time(&mut self, place: &Place, span: Span) -> io::Result<Option<i64>> {
        let Some(index) = self.newest_with_groups(place)? else { return Ok(None) };
        let (Some(times), Some(extent)) = (self.segment_times(index), self.extent(index)) else {
            return Ok(None);
        };
        let head = extent.head.as_ref().filter(|_| extent.tail.latest >= span.from);
        Ok(head.map(|head| head.point.time.as_microsecond().max(times.latest_before)))
    }

    /// Returns some of the last events before a bound, in the order of their numbers; none if there are no more.
    fn rows_before(
        &mut self,
        place: &Place,
        bound: Bound,
        span: Span,
    ) -> io::Result<Vec<PlacedRow>> {
        let wanted = Wanted { bound, span, floor: self.floor() };
        let partial = |extent: &Extent| !extent.is_whole();
        for index in (0..self.segment_count()).rev() {
            let Some(times) = self.segment_times(index) else { continue };
            if times.first >= bound.sequence || times.trusted && times.latest_before > bound.latest
            {
                continue;
            }
            if times.earliest.is_none_or(|earliest| earliest <= span.to) {
                self.load_end(place, index)?;
                let mut found = self.rows_of_segment(place, index, times, wanted)?;
                if found.is_none() && self.extent(index).is_some_and(partial) {
                    self.load(place, index)?;
                    found = self.rows_of_segment(place, index, times, wanted)?;
                }
                if let Some(rows) = found {
                    return Ok(rows);
                }
            }
            if times.trusted && times.latest_before < span.from {
                return Ok(Vec::new());
            }
        }
        Ok(Vec::new())
    }

    /// Returns the wanted events of the last block of a segment that has any. Returns no event if no earlier one is
    /// wanted either, and `None` if the groups or segments before the known groups may have some.
    fn rows_of_segment(
        &self,
        place: &Place,
        index: usize,
        times: SegmentTimes,
        wanted: Wanted,
    ) -> io::Result<Option<Vec<PlacedRow>>> {
        let Wanted { bound, span, floor } = wanted;
        let before = times.latest_before;
        // The earliest time behind the block.
        let mut behind = i64::MAX;
        let blocks = self.extent(index).map(|extent| extent.blocks.as_slice()).unwrap_or_default();
        for block in blocks.iter().rev() {
            let earliest = behind.min(block.earliest);
            let later = block.first >= bound.sequence || earliest.max(before) > bound.latest;
            if !later && block.earliest <= span.to {
                let rows = self.rows_of_block(place, index, block, (before, behind), wanted)?;
                if !rows.is_empty() {
                    return Ok(Some(rows));
                }
            }
            // No earlier event is within the span.
            if times.trusted && block.latest_before < span.from || block.first <= floor {
                return Ok(Some(Vec::new()));
            }
            behind = earliest;
        }
        Ok(None)
    }

    /// Returns the wanted events of a block. `before` is the latest time before the segment, `behind` the earliest one
    /// behind the block.
    fn rows_of_block(
        &self,
        place: &Place,
        index: usize,
        block: &Block,
        (before, mut behind): (i64, i64),
        wanted: Wanted,
    ) -> io::Result<Vec<PlacedRow>> {
        let Wanted { bound, span, floor } = wanted;
        let mut rows: Vec<AuditRow> = Vec::new();
        let visit: &mut Visit<'_> = &mut |group| {
            rows.extend(group.rows());
            ControlFlow::Continue(())
        };
        let _ = self.read_groups(place, index, std::slice::from_ref(block), visit)?;
        let mut placed = Vec::with_capacity(rows.len());
        for row in rows.into_iter().rev() {
            behind = behind.min(row.time.as_microsecond());
            let order_time = behind.max(before);
            let listed = row.sequence < bound.sequence && row.sequence > floor;
            if listed && order_time <= bound.latest && span.contains(&row) {
                placed.push(PlacedRow { order_time, row });
            }
        }
        placed.reverse();
        Ok(placed)
    }
}
