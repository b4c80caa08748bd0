//! The upstream budget: limits the calls per second of each application to each tenant, and shares them fairly.
//!
//! No task serves the queue: the first waiter sleeps until its own time and then wakes the next one. A cancelled waiter
//! leaves the queue, and if it was first it wakes the next one. It holds no permit, so it has none to return.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::Notify;

use super::tenant_limiter::{CallRate, TenantLimiter, Waiter};
use crate::{domain::TenantName, ports::Clock};

/// No call waits longer than this for its permit, even if its deadline is later: this bounds the number of waiters.
const MAX_WAIT: Duration = Duration::from_mins(1);

/// Unused limiters are removed when there are at least this many limiters.
const MIN_CLEANUP_SIZE: usize = 1024;

/// The limiters of all tenants that were called recently.
pub(super) struct Budget {
    limiters: Mutex<Limiters>,
    timer: Arc<dyn Clock>,
}

#[derive(Default)]
struct Limiters {
    by_tenant: HashMap<TenantName, TenantLimiter>,
    /// The number of limiters at which unused ones are removed next.
    cleanup_size: usize,
    next_id: u64,
}

/// The permit to make one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Permit {
    /// Granted without waiting.
    Immediate,
    /// Granted after waiting for other calls.
    AfterWaiting,
}

/// No permit is available before the deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "no call to the tenant is allowed before its deadline; the next is allowed in {retry_after:?}"
)]
pub(super) struct OverLimit {
    pub(super) retry_after: Duration,
}

impl Budget {
    pub(super) fn new(timer: Arc<dyn Clock>) -> Self {
        Self { limiters: Mutex::default(), timer }
    }

    /// Waits for a permit for a call of this queue, if there is one before `deadline`.
    pub(super) async fn acquire(
        &self,
        tenant: &TenantName,
        rate: CallRate,
        queue_key: &Arc<str>,
        deadline: Option<Duration>,
    ) -> Result<Permit, OverLimit> {
        let now = self.timer.monotonic();
        let wait_until = deadline.unwrap_or(Duration::MAX).min(now + MAX_WAIT);
        let Some(mut waiting) = self.enqueue(tenant, rate, queue_key, now, wait_until)? else {
            return Ok(Permit::Immediate);
        };
        loop {
            match waiting.poll(self.timer.monotonic()) {
                WaitState::Permitted => return Ok(Permit::AfterWaiting),
                WaitState::Rejected(over_limit) => return Err(over_limit),
                WaitState::Sleep(delay) => tokio::select! {
                    () = waiting.wake.notified() => {}
                    () = self.timer.sleep(delay) => {}
                },
            }
        }
    }

    /// Grants no permits for this tenant for a while, because SuperOffice throttles it.
    pub(super) fn pause(&self, tenant: &TenantName, rate: CallRate, duration: Duration) {
        let now = self.timer.monotonic();
        self.lock().limiter(tenant, rate, now).pause(now + duration);
    }

    /// Returns the number of calls that wait for a permit.
    pub(super) fn waiting(&self) -> usize {
        self.lock().by_tenant.values().map(TenantLimiter::waiting).sum()
    }

    /// Adds a call to the queue; `None` if it may be made at once.
    fn enqueue<'b>(
        &'b self,
        tenant: &'b TenantName,
        rate: CallRate,
        queue_key: &'b Arc<str>,
        now: Duration,
        deadline: Duration,
    ) -> Result<Option<QueuedCall<'b>>, OverLimit> {
        let mut limiters = self.lock();
        let id = limiters.next_id;
        limiters.next_id += 1;
        let limiter = limiters.limiter(tenant, rate, now);
        let time = limiter.earliest_time(limiter.calls_ahead(queue_key), now);
        if time > deadline {
            return Err(OverLimit { retry_after: time.saturating_sub(now) });
        }
        if limiter.has_no_waiters() && limiter.try_take(now) {
            return Ok(None);
        }
        let wake = Arc::<Notify>::default();
        limiter.enqueue(queue_key, Waiter { id, deadline, wake: Arc::clone(&wake) });
        Ok(Some(QueuedCall {
            budget: self,
            tenant,
            queue_key,
            id,
            deadline,
            wake,
            dequeued: false,
        }))
    }

    fn lock(&self) -> MutexGuard<'_, Limiters> {
        self.limiters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Limiters {
    fn limiter(
        &mut self,
        tenant: &TenantName,
        rate: CallRate,
        now: Duration,
    ) -> &mut TenantLimiter {
        if self.by_tenant.len() >= self.cleanup_size.max(MIN_CLEANUP_SIZE)
            && !self.by_tenant.contains_key(tenant)
        {
            self.by_tenant.retain(|_, limiter| !limiter.is_unused(now));
            self.cleanup_size = self.by_tenant.len() * 2;
        }
        self.by_tenant.entry(tenant.clone()).or_insert_with(|| TenantLimiter::new(rate))
    }
}

/// The state of a waiting call.
enum WaitState {
    Permitted,
    Rejected(OverLimit),
    Sleep(Duration),
}

/// A call in the queue. Dropping it removes it from the queue.
struct QueuedCall<'b> {
    budget: &'b Budget,
    tenant: &'b TenantName,
    queue_key: &'b Arc<str>,
    id: u64,
    deadline: Duration,
    wake: Arc<Notify>,
    dequeued: bool,
}

impl QueuedCall<'_> {
    fn poll(&mut self, now: Duration) -> WaitState {
        let mut limiters = self.budget.lock();
        let Some(limiter) = limiters.by_tenant.get_mut(self.tenant) else {
            return WaitState::Permitted; // unreachable: a limiter with waiters is not removed
        };
        if limiter.is_next(self.id) {
            if limiter.try_take(now) {
                limiter.serve_next();
                self.dequeued = true;
                return WaitState::Permitted;
            }
            let time = limiter.earliest_time(0, now);
            if time <= self.deadline {
                return WaitState::Sleep(time.saturating_sub(now));
            }
            return WaitState::Rejected(OverLimit { retry_after: time.saturating_sub(now) });
        }
        if now < self.deadline && !limiter.is_paused_beyond(self.deadline) {
            return WaitState::Sleep(self.deadline.saturating_sub(now));
        }
        WaitState::Rejected(OverLimit {
            retry_after: limiter.earliest_time(1, now).saturating_sub(now),
        })
    }
}

impl Drop for QueuedCall<'_> {
    fn drop(&mut self) {
        if !self.dequeued
            && let Some(limiter) = self.budget.lock().by_tenant.get_mut(self.tenant)
        {
            limiter.remove(self.queue_key, self.id);
        }
    }
}

#[cfg(test)]
mod tests;
