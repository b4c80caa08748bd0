//! The writer of the audit trail: takes queued events, commits them as a group, notifies the callers, and repeats.
//!
//! A group is what was queued while the last one was committed. No event with a waiting caller waits for a timer.

use std::{
    sync::{Arc, PoisonError, atomic::Ordering},
    time::Duration,
};

use jiff::Timestamp;

use super::{GROUP_LIMIT, QueuedEvent, Trail};
use crate::{
    audit::{
        chain::{Tip, UnsignedGroup},
        wake::{CommitNotifier, WakeBatch},
    },
    domain::AuditRecord,
    ports::{AuditGroup, SignError, StoreError},
};

/// The longest time for which events without a waiting caller are collected, because a commit is expensive.
const BATCH_DELAY: Duration = Duration::from_millis(10);

/// The pauses between attempts while the store fails: they double from the first to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const MAX_PAUSE: Duration = Duration::from_secs(2);

/// The time-out of an attempt. The store may still complete it later; appending the same group again is safe.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(10);

/// The writer's state.
#[derive(Default)]
pub(super) struct WriterState {
    /// The end of the chain; unknown before the first group.
    tip: Option<Tip>,
    stage: Stage,
    waiters: Vec<CommitNotifier>,
    /// The number of events in the group, and the time at which the oldest was queued, by the monotonic clock.
    size: u64,
    oldest: Duration,
}

/// The progress of the current group. A numbered group does not change until it is in the store.
#[derive(Default)]
enum Stage {
    #[default]
    Idle,
    Dequeued(Vec<(AuditRecord, Timestamp)>),
    Numbered(UnsignedGroup),
    Signed(AuditGroup),
}

#[derive(Debug, thiserror::Error)]
enum CommitError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Sign(#[from] SignError),
    #[error("the store does not answer")]
    NoAnswer,
}

impl Trail {
    /// Writes for as long as it is polled. If it is dropped, the next call continues at the same place.
    pub async fn run(&self) {
        let mut writing = self.writing.lock().await;
        loop {
            if let Stage::Idle = writing.stage {
                self.wait_for_work().await;
                self.take(&mut writing);
            }
            self.commit(&mut writing).await;
        }
    }

    /// Returns when there are events to write: at once if a caller waits, else after a short delay that collects more.
    async fn wait_for_work(&self) {
        while self.queue().waiting.is_empty() {
            self.work.notified().await;
        }
        let ready = || {
            let queue = self.queue();
            queue.urgent || queue.waiting.len() >= GROUP_LIMIT
        };
        if ready() {
            return;
        }
        let mut linger = self.ports.timer.sleep(BATCH_DELAY);
        while !ready() {
            tokio::select! {
                () = &mut linger => return,
                () = self.work.notified() => {}
            }
        }
    }

    fn take(&self, writing: &mut WriterState) {
        let taken: Vec<QueuedEvent> = {
            let mut queue = self.queue();
            let count = queue.waiting.len().min(GROUP_LIMIT);
            let taken = queue.waiting.drain(..count).collect();
            queue.urgent = !queue.waiting.is_empty();
            taken
        };
        let Some(first) = taken.first() else { return };
        writing.oldest = first.since;
        writing.size = taken.len() as u64;
        let mut records = Vec::with_capacity(taken.len());
        for QueuedEvent { record, time, waiter, .. } in taken {
            records.push((record, time));
            writing.waiters.extend(waiter);
        }
        writing.stage = Stage::Dequeued(records);
    }

    /// Stores the group, however long that takes, and then notifies the waiting callers.
    async fn commit(&self, writing: &mut WriterState) {
        let oldest = writing.oldest;
        {
            let mut persist = Box::pin(self.persist(writing));
            tokio::select! {
                biased;
                () = &mut persist => {}
                () = self.ports.timer.sleep(self.remaining_wait(oldest)) => {
                    self.set_slow(true);
                    persist.await;
                }
            }
        }
        if let Stage::Signed(group) = std::mem::take(&mut writing.stage) {
            *self.head.lock().unwrap_or_else(PoisonError::into_inner) = Some(group.head);
        }
        self.counters.groups.increment();
        self.counters.events.add(writing.size);
        self.committed_for_callers.fetch_add(writing.waiters.len() as u64, Ordering::AcqRel);
        let mut batch = WakeBatch::default();
        // The event is stored even if its caller has stopped waiting.
        writing.waiters.drain(..).for_each(|waiter| waiter.notify(&mut batch));
        drop(batch);
        self.committed.send_modify(|count| *count += writing.size);
        let waiting_since = self.queue().waiting.front().map(|queued| queued.since);
        self.set_slow(waiting_since.is_some_and(|since| self.remaining_wait(since).is_zero()));
    }

    async fn persist(&self, writing: &mut WriterState) {
        let mut pause = FIRST_PAUSE;
        let mut failures: u32 = 0;
        loop {
            let attempt = tokio::select! {
                biased;
                done = self.attempt(writing) => done,
                () = self.ports.timer.sleep(ATTEMPT_TIMEOUT) => Err(CommitError::NoAnswer),
            };
            let Err(error) = attempt else { break };
            self.counters.failures.increment();
            failures += 1;
            if failures.is_power_of_two() {
                let events = writing.size;
                tracing::warn!(%error, events, failures, "audit events cannot be committed yet");
            }
            self.ports.timer.sleep(pause).await;
            pause = (pause * 2).min(MAX_PAUSE);
        }
        if failures > 0 {
            tracing::info!(events = writing.size, failures, "audit events are committed again");
        }
    }

    async fn attempt(&self, writing: &mut WriterState) -> Result<(), CommitError> {
        let tip = match &mut writing.tip {
            Some(tip) => tip,
            unknown => unknown.insert(Tip::find(&*self.ports.store, &self.chain).await?),
        };
        let signer = &*self.ports.signer;
        if let Stage::Dequeued(records) = &mut writing.stage {
            let records = std::mem::take(records);
            writing.stage = Stage::Numbered(tip.group(records.into_iter(), signer));
        }
        if let Stage::Numbered(_) = writing.stage
            && let Stage::Numbered(unsigned) = std::mem::take(&mut writing.stage)
        {
            match unsigned.sign(signer) {
                Ok(group) => writing.stage = Stage::Signed(group),
                Err((unsigned, error)) => {
                    writing.stage = Stage::Numbered(unsigned);
                    return Err(error.into());
                }
            }
        }
        if let Stage::Signed(group) = &writing.stage {
            self.ports.store.append(group).await?;
        }
        Ok(())
    }

    /// Returns how long an event that was queued at `since` may still wait.
    fn remaining_wait(&self, since: Duration) -> Duration {
        let waited = self.ports.timer.monotonic().saturating_sub(since);
        self.rules.max_wait.saturating_sub(waited)
    }

    fn set_slow(&self, slow: bool) {
        let changed = self.slow.swap(slow, Ordering::AcqRel) != slow;
        self.notify_stalled();
        if changed {
            let chain = Arc::clone(&self.chain);
            if slow {
                tracing::error!(%chain, "the audit trail is stalled: calls that need it are rejected");
            } else {
                tracing::info!(%chain, "the audit trail is written again");
            }
        }
    }
}
