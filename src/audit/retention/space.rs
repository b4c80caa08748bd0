//! Removing events for which there is no space, and the alarm before that.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
    sync::{Arc, MutexGuard, PoisonError},
};

use jiff::Timestamp;

use super::{
    Retention,
    removal::{Outcome, Removal, Removed},
};
use crate::{
    audit::public_keys::PublicKeys,
    ports::{StoreError, StoredSegment},
};

/// The notes of a retention between two runs.
#[derive(Debug, Default)]
pub(super) struct SpaceState {
    /// Whether the alarm was raised, and the journal has not become smaller since.
    alarmed: bool,
    /// Whether the log says that too little can be removed.
    stuck: bool,
    /// Chains from which nothing can be removed, because they are damaged.
    skipped: BTreeSet<Arc<str>>,
}

/// The files to remove from one chain.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Planned {
    segments: u64,
    last_sequence: i64,
}

/// The events that a run has removed.
#[derive(Debug, Default)]
struct Tally {
    events: u64,
    segments: u64,
    /// The earliest and the latest time.
    span: Option<(Timestamp, Timestamp)>,
}

impl Tally {
    fn add(&mut self, removed: &Removed, segments: u64) {
        let Removed { events, from, to, .. } = removed;
        self.events += events;
        self.segments += segments;
        let (earliest, latest) = self.span.unwrap_or((*from, *to));
        self.span = Some((earliest.min(*from), latest.max(*to)));
    }
}

impl Retention {
    /// Measures the journal, for the metrics and the alarm. Returns whether it takes more space than it may.
    ///
    /// # Errors
    /// If the store cannot be measured.
    pub async fn is_too_large(&self) -> Result<bool, StoreError> {
        Ok(self.excess().await? > 0)
    }

    /// Removes the oldest files of all chains until the journal takes no more space than it may. The file with the head
    /// of a chain stays, and so does every file of a damaged chain.
    ///
    /// # Errors
    /// The first failure of the store, after every chain was tried. What was removed before stays removed.
    pub async fn prune_by_size(&self) -> Result<(), StoreError> {
        if self.excess().await? == 0 {
            self.state().stuck = false;
            return Ok(());
        }
        let mut tally = Tally::default();
        let outcome = self.remove_excess(&mut tally).await;
        let Tally { events, segments, span } = tally;
        if let Some((from, to)) = span {
            self.counters.removed_by_size.add(events);
            tracing::warn!(
                events, segments, %from, %to, max_bytes = self.counters.max_bytes(),
                "the audit journal took more space than audit.max_bytes, and its oldest events were removed"
            );
        }
        outcome
    }

    async fn remove_excess(&self, tally: &mut Tally) -> Result<(), StoreError> {
        let keys = self.trusted_keys().await?;
        let mut outcome = self.finish_prunes(&self.store.chains().await?, &keys).await;
        let mut skipped = self.state().skipped.clone();
        // Each round removes a file or skips one more chain.
        loop {
            let excess = self.excess().await?;
            if excess == 0 {
                self.state().stuck = false;
                return outcome;
            }
            let planned = plan(self.store.segments().await?, &skipped, excess);
            if planned.is_empty() {
                self.report_stuck();
                return outcome;
            }
            for (chain, planned) in planned {
                match self.remove_planned(&chain, &keys, planned).await {
                    Ok(Outcome::Removed(removed)) => tally.add(&removed, planned.segments),
                    Ok(Outcome::Nothing | Outcome::Faulty) => {
                        self.state().skipped.insert(Arc::clone(&chain));
                        skipped.insert(chain);
                    }
                    Err(error) => {
                        skipped.insert(chain);
                        outcome = outcome.and(Err(error));
                    }
                }
            }
        }
    }

    async fn remove_planned(
        &self,
        chain: &Arc<str>,
        keys: &PublicKeys,
        planned: Planned,
    ) -> Result<Outcome, StoreError> {
        match self.store.chain(chain).await? {
            Some(state) => self.remove(state, keys, &Removal::UpTo(planned.last_sequence)).await,
            None => Ok(Outcome::Nothing),
        }
    }

    /// Returns the number of bytes that are too many.
    async fn excess(&self) -> Result<u64, StoreError> {
        let space = self.store.space().await?;
        let share = |volume: u64| volume / 10 * 7;
        let max = self.limits.max_bytes.or_else(|| space.volume_bytes.map(share));
        self.counters.set_space(space.bytes, max.unwrap_or_default());
        // Without the size of the volume nothing is removed.
        let Some(max) = max else { return Ok(0) };
        self.raise_alarm(space.bytes, max);
        Ok(space.bytes.saturating_sub(max))
    }

    /// Logs an alarm when the journal begins to take more than 80 % of its space.
    fn raise_alarm(&self, journal_bytes: u64, max_bytes: u64) {
        let above = journal_bytes > max_bytes / 5 * 4;
        if mem::replace(&mut self.state().alarmed, above) || !above {
            return;
        }
        tracing::warn!(
            alarm = "audit_journal_size",
            journal_bytes,
            max_bytes,
            "the audit journal takes more than 80 % of audit.max_bytes; beyond it, the oldest events are removed"
        );
    }

    fn report_stuck(&self) {
        if mem::replace(&mut self.state().stuck, true) {
            return;
        }
        tracing::error!(
            journal_bytes = self.counters.bytes(),
            max_bytes = self.counters.max_bytes(),
            "the audit journal takes more space than audit.max_bytes, and nothing more can be removed: the newest file \
            of each chain and damaged chains stay; raise audit.max_bytes, or reduce audit.segment_bytes"
        );
    }

    /// Makes the next run try the damaged chains again.
    pub(super) fn retry_skipped_chains(&self) {
        self.state().skipped.clear();
    }

    fn state(&self) -> MutexGuard<'_, SpaceState> {
        self.space.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Chooses the oldest files that have together at least so many bytes.
fn plan(
    mut segments: Vec<StoredSegment>,
    skipped: &BTreeSet<Arc<str>>,
    excess: u64,
) -> BTreeMap<Arc<str>, Planned> {
    segments.retain(|segment| !skipped.contains(&segment.chain));
    // The time never decreases within a chain, so its files stay in order.
    segments.sort_by(|one, other| {
        let key = |segment: &StoredSegment| (segment.latest, segment.last_sequence);
        key(one).cmp(&key(other)).then_with(|| one.chain.cmp(&other.chain))
    });
    let mut planned = BTreeMap::<Arc<str>, Planned>::new();
    let mut bytes: u64 = 0;
    for StoredSegment { chain, last_sequence, bytes: length, .. } in segments {
        if bytes >= excess {
            break;
        }
        bytes = bytes.saturating_add(length);
        let entry = planned.entry(chain).or_default();
        entry.segments += 1;
        entry.last_sequence = last_sequence;
    }
    planned
}
