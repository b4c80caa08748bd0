//! Listing the events of all chains, newest first.
//!
//! The order is that of the latest time of a chain up to an event, then of the chain's name, then of the number. So a
//! clock that was set back does not change the order within a chain, and a page can continue where the last one ended.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    io,
    ops::ControlFlow,
    sync::{Arc, Mutex, PoisonError},
};

use super::{
    chain::{Chain, PlacedRow},
    place::Place,
};
use crate::ports::{AuditPosition, ChainedRow, TimeSpan};

/// The events of a chain that come after a position in the list.
#[derive(Debug, Clone, Copy)]
struct Bound {
    /// The latest time that is listed.
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
    fn contains(&self, placed: &PlacedRow) -> bool {
        (self.from..=self.to).contains(&placed.row.time.as_microsecond())
    }
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
    let latest = after.map(|position| latest_at(place, &chains, position)).transpose()?;
    let mut listed = Vec::with_capacity(chains.len());
    let mut queue = BinaryHeap::with_capacity(chains.len());
    for chain in chains {
        let (name, newest) = {
            let mut chain = lock(&chain);
            chain.refresh(place)?;
            let newest = chain.latest(place)?;
            (Arc::clone(&chain.name), newest)
        };
        let Some(newest) = newest.filter(|newest| *newest >= span.from) else { continue };
        let bound = match (after, latest) {
            (Some(position), Some(latest)) => bound(&name, position, latest),
            _ => Bound { latest: i64::MAX, sequence: i64::MAX },
        };
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
            rows.push(ChainedRow { chain: Arc::clone(&chain.name), row: placed.row });
        }
        if chain.read.is_empty() {
            chain.read = lock(&chain.chain).rows_before(place, chain.bound, span)?;
        }
        if let Some(next) = chain.read.last() {
            let name = Arc::clone(&chain.name);
            queue.push((next.latest, name, next.row.sequence, Reverse(index)));
        }
    }
    Ok(rows)
}

fn lock(chain: &Mutex<Chain>) -> std::sync::MutexGuard<'_, Chain> {
    chain.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns the latest time of the position's chain up to its event.
fn latest_at(
    place: &Place,
    chains: &[Arc<Mutex<Chain>>],
    position: &AuditPosition,
) -> io::Result<i64> {
    let time = position.time.as_microsecond();
    let Some(chain) = chains.iter().find(|chain| lock(chain).name == position.chain) else {
        return Ok(time);
    };
    let mut chain = lock(chain);
    chain.refresh(place)?;
    let rows = chain.rows(place, position.sequence.saturating_sub(1), 1)?;
    let same = rows.first().filter(|placed| placed.row.sequence == position.sequence);
    Ok(same.map_or(time, |placed| placed.latest))
}

fn bound(chain: &Arc<str>, position: &AuditPosition, latest: i64) -> Bound {
    match chain.cmp(&position.chain) {
        std::cmp::Ordering::Less => Bound { latest, sequence: i64::MAX },
        // Its numbers decide, whatever the times say.
        std::cmp::Ordering::Equal => Bound { latest: i64::MAX, sequence: position.sequence },
        std::cmp::Ordering::Greater => {
            Bound { latest: latest.saturating_sub(1), sequence: i64::MAX }
        }
    }
}

impl Chain {
    /// Returns some of the last events before a bound, in the order of their numbers; none if there are no more.
    fn rows_before(
        &mut self,
        place: &Place,
        bound: Bound,
        span: Span,
    ) -> io::Result<Vec<PlacedRow>> {
        let floor = self.floor();
        for index in (0..self.segment_count()).rev() {
            let Some(times) = self.segment_times(index) else { continue };
            if times.first >= bound.sequence || times.trusted && times.latest_before > bound.latest
            {
                continue;
            }
            if times.earliest.is_none_or(|earliest| earliest <= span.to) {
                self.load(place, index)?;
                let blocks = self.extent(index).map(|extent| extent.blocks.iter());
                for block in blocks.into_iter().flatten().rev() {
                    let later = block.first >= bound.sequence
                        || times.trusted && block.latest_before > bound.latest;
                    if !later && block.earliest <= span.to {
                        let mut rows = Vec::new();
                        self.read_block(place, index, block, |placed| {
                            let wanted = placed.row.sequence < bound.sequence
                                && placed.row.sequence > floor
                                && placed.latest <= bound.latest;
                            if wanted && span.contains(&placed) {
                                rows.push(placed);
                            }
                            ControlFlow::Continue(())
                        })?;
                        if !rows.is_empty() {
                            return Ok(rows);
                        }
                    }
                    // No earlier event is within the span.
                    if times.trusted && block.latest_before < span.from || block.first <= floor {
                        return Ok(Vec::new());
                    }
                }
            }
            if times.trusted && times.latest_before < span.from {
                return Ok(Vec::new());
            }
        }
        Ok(Vec::new())
    }
}
