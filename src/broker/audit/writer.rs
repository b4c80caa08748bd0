//! The one who writes: takes what waits, commits it, answers everybody, and begins again.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use jiff::Timestamp;

use super::{
    GROUP_LIMIT, Queued, Trail,
    bell::{Answerer, Ringing},
    chain::{Tip, Unsigned},
};
use crate::{
    domain::AuditRecord,
    ports::{AuditGroup, SignError, StoreError},
};

/// How long events that nobody waits for may be gathered: a commit costs what many calls cost.
const LINGER: Duration = Duration::from_millis(10);

/// Callers that were answered together call again one soon after the other, and to commit the first of them alone would
/// cost as much as to commit all: so many of them are waited for, and so long, which is the least that a timer knows.
const GATHERED: usize = 64;
const GATHER: Duration = Duration::from_millis(1);

/// Between attempts at a store that fails.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// After this an attempt counts as failed, though the store may still do it: appending is repeatable.
const ATTEMPT_LIMIT: Duration = Duration::from_secs(10);

/// What the writer is at.
#[derive(Default)]
pub(super) struct Writing {
    /// Where the chain ends; not known before the first group.
    tip: Option<Tip>,
    stage: Stage,
    waiters: Vec<Answerer>,
    /// How many events the group has, and since when the first of them waits, by the monotonic clock.
    size: u64,
    oldest: Duration,
    /// How many callers there seem to be that wait for their events, one after the other.
    callers: usize,
}

/// How far the group is. Once numbered it stays as it is until it is in the store.
#[derive(Default)]
enum Stage {
    #[default]
    Idle,
    Taken(Vec<(AuditRecord, Timestamp)>),
    Numbered(Unsigned),
    Signed(AuditGroup),
}

#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Sign(#[from] SignError),
    #[error("the store does not answer")]
    NoAnswer,
}

impl Trail {
    /// Writes for as long as it is polled. Where it is dropped, another call goes on where it was.
    pub async fn run(&self) {
        let mut writing = self.writing.lock().await;
        loop {
            if let Stage::Idle = writing.stage {
                self.gather(&mut writing).await;
                self.wait_for_work().await;
                self.take(&mut writing);
            }
            self.commit(&mut writing).await;
        }
    }

    /// Returns when as many wait as were there last time, as far as they are worth waiting for. Where they do not come,
    /// there are fewer now, and the next ones wait for fewer.
    async fn gather(&self, writing: &mut Writing) {
        let enough = writing.callers.min(GATHERED);
        if enough < 2 {
            return;
        }
        let mut gathered = {
            let mut queue = self.queue();
            queue.enough = enough;
            queue.waiting.len() >= enough
        };
        let mut timer = self.ports.pace.sleep(GATHER);
        while !gathered {
            tokio::select! {
                () = &mut timer => gathered = true,
                () = self.work.notified() => {
                    let queue = self.queue();
                    // Less is enough where somebody wants everything to be written now.
                    gathered = queue.waiting.len() >= queue.enough;
                }
            }
        }
        let mut queue = self.queue();
        queue.enough = 1;
        if queue.waiting.len() < enough {
            writing.callers = queue.waiting.len();
        }
    }

    /// Returns when there is something to write: at once if somebody waits for it, else after a short while in which
    /// more may come.
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
        let mut linger = self.ports.pace.sleep(LINGER);
        while !ready() {
            tokio::select! {
                () = &mut linger => return,
                () = self.work.notified() => {}
            }
        }
    }

    fn take(&self, writing: &mut Writing) {
        let taken: Vec<Queued> = {
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
        for Queued { record, time, waiter, .. } in taken {
            records.push((record, time));
            writing.waiters.extend(waiter);
        }
        writing.stage = Stage::Taken(records);
    }

    /// Returns when the group is in the store, however long that takes, and has told who waits.
    async fn commit(&self, writing: &mut Writing) {
        let oldest = writing.oldest;
        {
            let mut persist = Box::pin(self.persist(writing));
            tokio::select! {
                biased;
                () = &mut persist => {}
                () = self.ports.pace.sleep(self.patience_left(oldest)) => {
                    self.set_stalled(true);
                    persist.await;
                }
            }
        }
        writing.stage = Stage::Idle;
        let callers = {
            let queue = self.queue();
            writing.waiters.len() + if queue.urgent { queue.waiting.len() } else { 0 }
        };
        writing.callers = writing.callers.max(callers);
        self.ports.counters.audit_groups.increment();
        self.ports.counters.audit_events.add(writing.size);
        self.committed_for_callers.fetch_add(writing.waiters.len() as u64, Ordering::AcqRel);
        let mut ringing = Ringing::default();
        // Whoever gave up has its event kept all the same.
        writing.waiters.drain(..).for_each(|waiter| waiter.answer(&mut ringing));
        drop(ringing);
        self.committed.send_modify(|count| *count += writing.size);
        let waiting_since = self.queue().waiting.front().map(|queued| queued.since);
        self.set_stalled(waiting_since.is_some_and(|since| self.patience_left(since).is_zero()));
    }

    async fn persist(&self, writing: &mut Writing) {
        let mut pause = FIRST_PAUSE;
        let mut failures: u32 = 0;
        loop {
            let attempt = tokio::select! {
                biased;
                done = self.attempt(writing) => done,
                () = self.ports.pace.sleep(ATTEMPT_LIMIT) => Err(Trouble::NoAnswer),
            };
            let Err(error) = attempt else { break };
            self.ports.counters.audit_failures.increment();
            failures += 1;
            if failures.is_power_of_two() {
                let events = writing.size;
                tracing::warn!(%error, events, failures, "audit events cannot be committed yet");
            }
            self.ports.pace.sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        if failures > 0 {
            tracing::info!(events = writing.size, failures, "audit events are committed again");
        }
    }

    async fn attempt(&self, writing: &mut Writing) -> Result<(), Trouble> {
        let tip = match &mut writing.tip {
            Some(tip) => tip,
            unknown => unknown.insert(Tip::find(&*self.ports.store, &self.chain).await?),
        };
        let signer = &*self.ports.signer;
        if let Stage::Taken(records) = &mut writing.stage {
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

    /// For how long an event may still wait that waits since then.
    fn patience_left(&self, since: Duration) -> Duration {
        let waited = self.ports.pace.monotonic().saturating_sub(since);
        self.rules.max_wait.saturating_sub(waited)
    }

    fn set_stalled(&self, stalled: bool) {
        let changed = self.slow.swap(stalled, Ordering::AcqRel) != stalled;
        self.notify_stalled();
        if changed {
            let chain = Arc::clone(&self.chain);
            if stalled {
                tracing::error!(%chain, "the audit trail is stalled: what needs it is refused");
            } else {
                tracing::info!(%chain, "the audit trail is written again");
            }
        }
    }
}
