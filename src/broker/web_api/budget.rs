//! The upstream budget (DESIGN section 7): so many calls a second of each application to each tenant, shared fairly.
//!
//! Nobody works for the waiters: who is next sleeps until its own turn and then wakes the one behind it. A call that
//! is given up leaves its place, and if it was next it wakes the one behind it too; it never held anything to give back.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::Notify;

use super::lane::{CallRate, Lane, Waiter};
use crate::{domain::TenantName, ports::Clock};

/// No call waits longer than this for its turn, whatever its deadline: this bounds how many wait.
const LONGEST_WAIT: Duration = Duration::from_mins(1);

/// Lanes that nobody needs are forgotten when there are at least so many.
const MANY_LANES: usize = 1024;

/// The lanes of all tenants that were called lately.
pub(super) struct Budget {
    lanes: Mutex<Lanes>,
    pace: Arc<dyn Clock>,
}

#[derive(Default)]
struct Lanes {
    of: HashMap<TenantName, Lane>,
    /// How many make it worth looking for those that nobody needs.
    tidy_at: usize,
    next_id: u64,
}

/// A turn was had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// Without waiting.
    AtOnce,
    /// After others.
    Waited,
}

/// There is no turn before the deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no call to the tenant can be made before its deadline; one can in {retry_after:?}")]
pub(super) struct NoTurn {
    pub(super) retry_after: Duration,
}

impl Budget {
    pub(super) fn new(pace: Arc<dyn Clock>) -> Self {
        Self { lanes: Mutex::default(), pace }
    }

    /// Waits for the turn of a call on this account, if there will be one before `deadline`.
    pub(super) async fn turn(
        &self,
        tenant: &TenantName,
        rate: CallRate,
        account: &Arc<str>,
        deadline: Option<Duration>,
    ) -> Result<Turn, NoTurn> {
        let now = self.pace.monotonic();
        let last = deadline.unwrap_or(Duration::MAX).min(now + LONGEST_WAIT);
        let Some(mut waiting) = self.join(tenant, rate, account, now, last)? else {
            return Ok(Turn::AtOnce);
        };
        loop {
            match waiting.look(self.pace.monotonic()) {
                Look::Go => return Ok(Turn::Waited),
                Look::InVain(no_turn) => return Err(no_turn),
                Look::Sleep(nap) => tokio::select! {
                    () = waiting.wake.notified() => {}
                    () = self.pace.sleep(nap) => {}
                },
            }
        }
    }

    /// SuperOffice wants no calls to this tenant for a while.
    pub(super) fn pause(&self, tenant: &TenantName, rate: CallRate, how_long: Duration) {
        let now = self.pace.monotonic();
        self.lock().lane(tenant, rate, now).pause(now + how_long);
    }

    /// How many calls wait for their turns.
    pub(super) fn waiting(&self) -> usize {
        self.lock().of.values().map(Lane::waiting).sum()
    }

    /// `None` if the call can go at once.
    fn join<'b>(
        &'b self,
        tenant: &'b TenantName,
        rate: CallRate,
        account: &'b Arc<str>,
        now: Duration,
        last: Duration,
    ) -> Result<Option<Waiting<'b>>, NoTurn> {
        let mut lanes = self.lock();
        let id = lanes.next_id;
        lanes.next_id += 1;
        let lane = lanes.lane(tenant, rate, now);
        let turn = lane.opens(lane.before(account), now);
        if turn > last {
            return Err(NoTurn { retry_after: turn.saturating_sub(now) });
        }
        if lane.nobody_waits() && lane.take(now) {
            return Ok(None);
        }
        let wake = Arc::<Notify>::default();
        lane.join(account, Waiter { id, last, wake: Arc::clone(&wake) });
        Ok(Some(Waiting { budget: self, tenant, account, id, last, wake, left: false }))
    }

    fn lock(&self) -> MutexGuard<'_, Lanes> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lanes {
    fn lane(&mut self, tenant: &TenantName, rate: CallRate, now: Duration) -> &mut Lane {
        if self.of.len() >= self.tidy_at.max(MANY_LANES) && !self.of.contains_key(tenant) {
            self.of.retain(|_, lane| !lane.is_fresh(now));
            self.tidy_at = self.of.len() * 2;
        }
        self.of.entry(tenant.clone()).or_insert_with(|| Lane::new(rate))
    }
}

/// What one that waits finds when it looks.
enum Look {
    Go,
    InVain(NoTurn),
    Sleep(Duration),
}

/// A place in a queue, which is left when this is dropped.
struct Waiting<'b> {
    budget: &'b Budget,
    tenant: &'b TenantName,
    account: &'b Arc<str>,
    id: u64,
    last: Duration,
    wake: Arc<Notify>,
    left: bool,
}

impl Waiting<'_> {
    fn look(&mut self, now: Duration) -> Look {
        let mut lanes = self.budget.lock();
        let Some(lane) = lanes.of.get_mut(self.tenant) else {
            return Look::Go; // never: a lane with somebody in it is not forgotten
        };
        if lane.is_next(self.id) {
            if lane.take(now) {
                lane.serve_next();
                self.left = true;
                return Look::Go;
            }
            let turn = lane.opens(0, now);
            if turn <= self.last {
                return Look::Sleep(turn.saturating_sub(now));
            }
            return Look::InVain(NoTurn { retry_after: turn.saturating_sub(now) });
        }
        if now < self.last && !lane.is_paused_beyond(self.last) {
            return Look::Sleep(self.last.saturating_sub(now));
        }
        Look::InVain(NoTurn { retry_after: lane.opens(1, now).saturating_sub(now) })
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if !self.left
            && let Some(lane) = self.budget.lock().of.get_mut(self.tenant)
        {
            lane.leave(self.account, self.id);
        }
    }
}

#[cfg(test)]
mod tests;
