//! Denials in the trail: the first one of a minute is an event of its own, the others of its caller, action and error
//! reason become one event with their number.

use std::{
    sync::{MutexGuard, PoisonError},
    time::Duration,
};

use super::{AuditUnavailable, CommitWait, EventClass, PendingEvent, Trail};
use crate::{
    audit::denials::{DenialKey, DenialWindows},
    domain::AuditRecord,
};

/// The longest pause between two looks for windows that have ended, and the pause after the queue rejected an event.
const INTERVAL: Duration = Duration::from_secs(1);

impl Trail {
    /// Queues the event of the first denial in a minute, or counts a further one.
    pub(super) fn record_denial(
        &self,
        denial: AuditRecord,
        class: EventClass,
        for_caller: bool,
    ) -> Result<PendingEvent, AuditUnavailable> {
        // Locked until the window is open, so that only one of several denials at a time is the first.
        let mut denials = self.denials();
        let now = self.ports.timer.monotonic();
        let key = denials.key(&denial);
        if let Some(first) = denials.first_event(&key) {
            let wait = self.accept_counted(first, class, for_caller)?;
            denials.count(&key, &denial, self.ports.clock.now());
            self.counters.aggregated_denials.increment();
            return Ok(self.pending(wait, now));
        }
        let (pending, first) = self.enqueue(denial, class, for_caller)?;
        if denials.is_full()
            && let Some(oldest) = denials.first_to_end()
            && self.end_window(&mut denials, &oldest).is_err()
        {
            // Without a window, the next denial gets an event of its own, too.
            return Ok(pending);
        }
        denials.open(key, first, now);
        Ok(pending)
    }

    /// Rejects a counted denial if its own event would be rejected, and returns the commit that its call waits for. So
    /// the answer to a denied call does not depend on earlier ones.
    fn accept_counted(
        &self,
        first: u64,
        class: EventClass,
        for_caller: bool,
    ) -> Result<CommitWait, AuditUnavailable> {
        if self.refuses() {
            return Err(AuditUnavailable);
        }
        let count = {
            let queue = self.queue();
            if queue.waiting.len() >= self.capacity(class) {
                return Err(AuditUnavailable);
            }
            // An event would be committed after all that are queued.
            if self.stalled() { queue.accepted } else { first }
        };
        if !for_caller || *self.committed.borrow() >= count {
            return Ok(CommitWait::None);
        }
        Ok(CommitWait::Count { committed: self.committed.subscribe(), count })
    }

    /// Records the counted denials of each window at its end, a minute after its first denial. Runs for as long as it
    /// is polled.
    pub async fn run_denials(&self) {
        let timer = &*self.ports.timer;
        loop {
            let next = self.denials().next_end();
            let wait = next.map_or(INTERVAL, |end| end.saturating_sub(timer.monotonic()));
            timer.sleep(wait.min(INTERVAL)).await;
            if self.end_windows(timer.monotonic()).is_err() {
                timer.sleep(INTERVAL).await;
            }
        }
    }

    /// Records all denials that were counted so far. Those that the queue cannot accept stay counted.
    ///
    /// # Errors
    /// If there are such.
    pub fn flush_denials(&self) -> Result<(), AuditUnavailable> {
        self.end_windows(Duration::MAX)
    }

    fn end_windows(&self, now: Duration) -> Result<(), AuditUnavailable> {
        let ended = self.denials().ended(now);
        for key in ended {
            self.end_window(&mut self.denials(), &key)?;
        }
        Ok(())
    }

    /// Records the counted denials of a window and removes it. If the queue rejects the event, the window stays open.
    fn end_window(
        &self,
        denials: &mut DenialWindows,
        key: &DenialKey,
    ) -> Result<(), AuditUnavailable> {
        if let Some(event) = denials.event(key) {
            self.enqueue(event, EventClass::Change, false).map(drop)?;
        }
        denials.remove(key);
        Ok(())
    }

    pub(super) fn denials(&self) -> MutexGuard<'_, DenialWindows> {
        self.denials.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
