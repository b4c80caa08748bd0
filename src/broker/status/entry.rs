//! The cached status of one tenant, and the rules for its use.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;

use crate::{
    broker::compact_time::{CompactDuration, whole_seconds},
    domain::{TenantStatus, WebApiUri},
    ports::{Moment, is_ahead},
};

/// A tenant is in use if a call needed its status within this time.
const IN_USE_WINDOW: Duration = Duration::from_mins(10);

/// The maximum validity of a status: a longer validity in SuperOffice's answer is limited to this when it is read.
const MAX_VALIDITY: Duration = Duration::from_hours(1);

/// Failed calls to one tenant cause at most one status read in this time. The same limit applies to HTTP 421 from an
/// address that a read has just confirmed.
pub(super) const MIN_REREAD_INTERVAL: Duration = Duration::from_secs(15);

/// The status of a tenant, and the events that questioned it. There is an entry for each tenant in use, so it is small.
#[derive(Debug)]
pub(super) struct StatusEntry {
    pub(super) status: Arc<TenantStatus>,
    /// The creation time of the tenant: it differs after a tenant was deleted and added again.
    pub(super) tenant_create_time: Timestamp,
    /// The time at which the status was cached, on the monotonic clock.
    cached_at: CompactDuration,
    /// The remaining validity at `cached_at`.
    valid_for: CompactDuration,
    /// The last use, in whole seconds of the monotonic clock. Atomic, because every call sets it under a shared lock.
    last_used: AtomicU32,
    /// Whether the status was stored while a clock was wrong, so that its age is unknown.
    untrusted: bool,
    /// Boxed, because most entries have only default values here.
    rare: Option<Box<RareState>>,
}

/// The part of an entry that most entries do not need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct RareState {
    /// The number of events that questioned the status. It is part of the key of a read, so no call joins a read that
    /// started before the latest event.
    generation: u64,
    /// The value of `generation` when the read of this status started.
    read_generation: u64,
    /// The value of `generation` after the last event that invalidated all older statuses.
    invalidated_generation: u64,
    /// Whether the invalidation has been written to the store.
    invalidation_stored: bool,
    /// The time since expiry at `cached_at`; zero if the status was valid then.
    overdue_by: Duration,
    /// The earliest time of the next read after a failed one, on the monotonic clock.
    retry_time: Duration,
    /// Whether the last attempt to read the status failed.
    failing: bool,
    /// The time of the last read that a failed call caused, on the monotonic clock.
    host_checked_at: Option<Duration>,
    /// The time at which a read last confirmed the address after HTTP 421, on the monotonic clock.
    confirmed_at: Option<Duration>,
}

/// The state of an entry without a box.
static DEFAULT_STATE: RareState = RareState {
    generation: 0,
    read_generation: 0,
    invalidated_generation: 0,
    invalidation_stored: false,
    overdue_by: Duration::ZERO,
    retry_time: Duration::ZERO,
    failing: false,
    host_checked_at: None,
    confirmed_at: None,
};

/// The result of a cache lookup.
pub(super) enum CachedStatus {
    /// No usable status is cached.
    Unusable,
    /// A valid status.
    Fresh(Arc<TenantStatus>),
    /// A status that should be read again. It stays in use while the read fails.
    Overdue(Arc<TenantStatus>),
    /// An overdue status whose read has just failed: it is used without another attempt.
    OverdueRetryLater(Arc<TenantStatus>),
}

impl StatusEntry {
    pub(super) fn new(
        status: Arc<TenantStatus>,
        tenant_create_time: Timestamp,
        now: Moment,
    ) -> Self {
        let left = status.valid_until.duration_since(now.wall);
        let mut entry = Self {
            cached_at: now.monotonic.into(),
            valid_for: Duration::try_from(left).unwrap_or_default().into(),
            untrusted: now.is_ahead(status.read_time)
                || is_ahead(status.valid_until, MAX_VALIDITY, now.wall),
            status,
            tenant_create_time,
            last_used: AtomicU32::new(whole_seconds(now.monotonic)),
            rare: None,
        };
        let overdue_by = Duration::try_from(-left).unwrap_or_default();
        entry.set_rare(RareState { overdue_by, ..DEFAULT_STATE });
        entry
    }

    fn rare(&self) -> &RareState {
        self.rare.as_deref().unwrap_or(&DEFAULT_STATE)
    }

    fn rare_mut(&mut self) -> &mut RareState {
        self.rare.get_or_insert_with(|| Box::new(DEFAULT_STATE))
    }

    fn set_rare(&mut self, state: RareState) {
        self.rare = (state != DEFAULT_STATE).then(|| Box::new(state));
    }

    /// Returns the number of events that questioned the status.
    pub(super) fn generation(&self) -> u64 {
        self.rare().generation
    }

    /// Returns the number of events when the read of this status started.
    pub(super) fn read_generation(&self) -> u64 {
        self.rare().read_generation
    }

    /// Sets the number of events when the read of this new status started.
    pub(super) fn set_read_generation(&mut self, generation: u64) {
        let read = RareState { generation, read_generation: generation, ..*self.rare() };
        self.set_rare(read);
    }

    /// Returns the earliest time of the next read, on the monotonic clock.
    pub(super) fn retry_time(&self) -> Duration {
        self.rare().retry_time
    }

    /// Records that a read failed, and when the next one may start. Returns whether the read before it failed, too.
    pub(super) fn record_failed_read(&mut self, retry_time: Duration) -> bool {
        let rare = self.rare_mut();
        rare.retry_time = retry_time;
        std::mem::replace(&mut rare.failing, true)
    }

    /// Records whether the store has the invalidation. Returns the value before.
    pub(super) fn set_invalidation_stored(&mut self, stored: bool) -> bool {
        std::mem::replace(&mut self.rare_mut().invalidation_stored, stored)
    }

    /// Returns the time of the last read that a failed call caused, on the monotonic clock.
    pub(super) fn host_checked_at(&self) -> Option<Duration> {
        self.rare().host_checked_at
    }

    /// Records that a failed call causes a read.
    pub(super) fn record_host_check(&mut self, now: Duration) {
        self.rare_mut().host_checked_at = Some(now);
    }

    /// Returns the time at which a read last confirmed the address after HTTP 421, on the monotonic clock.
    pub(super) fn confirmed_at(&self) -> Option<Duration> {
        self.rare().confirmed_at
    }

    /// Records a use. Writes at most once a second, because calls on all cores read this value.
    pub(super) fn record_use(&self, now: Moment) {
        let second = whole_seconds(now.monotonic);
        if self.last_used.load(Ordering::Relaxed) != second {
            self.last_used.store(second, Ordering::Relaxed);
        }
    }

    /// Causes a new read. The status stays in use until the read succeeds.
    pub(super) fn request_revalidation(&mut self) {
        self.rare_mut().generation += 1;
    }

    /// Forbids the use of the status, even if it cannot be read again.
    pub(super) fn invalidate(&mut self) {
        let rare = self.rare_mut();
        rare.generation += 1;
        rare.invalidated_generation = rare.generation;
    }

    pub(super) fn needs_revalidation(&self) -> bool {
        self.rare().read_generation < self.rare().generation
    }

    pub(super) fn is_invalidated(&self) -> bool {
        self.rare().is_invalidated()
    }

    pub(super) fn in_use(&self, now: Moment) -> bool {
        let last_used = Duration::from_secs(self.last_used.load(Ordering::Relaxed).into());
        now.monotonic.saturating_sub(last_used) < IN_USE_WINDOW
    }

    /// Returns whether the status has expired by either clock: the wall clock may have been set back, and the monotonic
    /// clock stops while the machine sleeps.
    fn has_expired(&self, now: Moment) -> bool {
        self.status.valid_until <= now.wall || now.monotonic >= self.expiry()
    }

    /// Returns the time of expiry on the monotonic clock.
    fn expiry(&self) -> Duration {
        Duration::from(self.cached_at) + Duration::from(self.valid_for)
    }

    /// Returns the time since expiry. Uses the monotonic clock, so that setting the wall clock forward has no effect.
    fn stale_for(&self, now: Moment) -> Duration {
        let since = now.monotonic.saturating_sub(self.expiry());
        since.saturating_add(self.rare().overdue_by)
    }

    /// Returns the age of the status, as far as this process knows.
    pub(super) fn age(&self, now: Moment) -> Duration {
        let stored = now.wall.duration_since(self.status.read_time);
        let stored = Duration::try_from(stored).unwrap_or_default();
        stored.max(now.monotonic.saturating_sub(self.cached_at.into()))
    }

    /// Returns whether the status should be read again.
    pub(super) fn is_overdue(&self, now: Moment) -> bool {
        self.has_expired(now) || self.needs_revalidation()
    }

    /// Returns whether calls use an expired status because it cannot be read again.
    pub(super) fn is_served_stale(&self, now: Moment, max_stale: Duration) -> bool {
        self.rare().failing
            && self.in_use(now)
            && self.has_expired(now)
            && !matches!(self.classify(now, max_stale), CachedStatus::Unusable)
    }

    pub(super) fn has_address(&self, uri: &WebApiUri) -> bool {
        self.status.web_api_uri.as_ref() == Some(uri)
    }

    pub(super) fn classify(&self, now: Moment, max_stale: Duration) -> CachedStatus {
        let status = Arc::clone(&self.status);
        let too_old = self.has_expired(now) && self.stale_for(now) >= max_stale;
        if self.is_invalidated() || self.untrusted || too_old {
            CachedStatus::Unusable
        } else if !self.is_overdue(now) {
            CachedStatus::Fresh(status)
        } else if now.monotonic < self.retry_time() {
            CachedStatus::OverdueRetryLater(status)
        } else {
            CachedStatus::Overdue(status)
        }
    }

    /// Copies from the replaced entry `before` everything that a read does not reset.
    pub(super) fn inherit_from(&mut self, before: &Self, generation: u64, now: Duration) {
        // A background read is not a use.
        self.last_used.store(before.last_used.load(Ordering::Relaxed), Ordering::Relaxed);
        let same = self.status.web_api_uri == before.status.web_api_uri;
        let earlier = before.rare();
        let mut rare = RareState {
            generation: earlier.generation.max(generation),
            invalidated_generation: earlier.invalidated_generation,
            host_checked_at: earlier.host_checked_at,
            confirmed_at: if same { earlier.confirmed_at } else { None },
            ..*self.rare()
        };
        if same && earlier.is_invalidated() && !rare.is_invalidated() {
            rare.confirmed_at = Some(now);
        }
        self.set_rare(rare);
    }
}

impl RareState {
    fn is_invalidated(&self) -> bool {
        self.read_generation < self.invalidated_generation
    }
}

/// Returns whether `since` is less than [`MIN_REREAD_INTERVAL`] ago.
pub(super) fn is_recent(since: Option<Duration>, now: Duration) -> bool {
    since.is_some_and(|since| now.saturating_sub(since) < MIN_REREAD_INTERVAL)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::TenantState;

    const MAX_STALE: Duration = Duration::from_hours(24);

    fn now() -> Timestamp {
        "2026-11-22T09:00:00Z".parse().unwrap()
    }

    fn after(passed: Duration) -> Moment {
        Moment { wall: now() + passed, monotonic: passed }
    }

    fn known() -> StatusEntry {
        let status = TenantStatus {
            state: TenantState::Running,
            valid_until: now() + Duration::from_mins(1),
            web_api_uri: None,
            version: String::new(),
            read_time: now(),
        };
        StatusEntry::new(Arc::new(status), now(), after(Duration::ZERO))
    }

    /// There is an entry for each tenant: see the budget of memory in docs/development/performance.md.
    #[test]
    fn an_entry_that_no_event_has_questioned_takes_at_most_56_bytes() {
        assert!(size_of::<StatusEntry>() <= 56);
        let before = known();
        assert!(before.rare.is_none());
        let mut after_an_outage = known();
        after_an_outage.record_failed_read(Duration::from_secs(15));
        assert!(after_an_outage.rare.is_some());
        let mut new = known();
        new.set_read_generation(0);
        new.inherit_from(&after_an_outage, 0, Duration::ZERO);
        assert!(new.rare.is_none());
    }

    #[test]
    fn a_status_is_fresh_then_overdue_then_unusable() {
        let known = known();
        let at = |passed| known.classify(after(passed), MAX_STALE);
        assert!(matches!(at(Duration::from_secs(59)), CachedStatus::Fresh(_)));
        assert!(matches!(at(Duration::from_mins(1)), CachedStatus::Overdue(_)));
        assert!(matches!(at(MAX_STALE), CachedStatus::Overdue(_)));
        assert!(matches!(at(MAX_STALE + Duration::from_mins(1)), CachedStatus::Unusable));
        assert!(matches!(
            known.classify(after(Duration::from_mins(1)), Duration::ZERO),
            CachedStatus::Unusable
        ));
    }

    #[test]
    fn a_questioned_status_stays_in_use_and_an_invalidated_one_does_not() {
        let mut known = known();
        known.request_revalidation();
        assert!(matches!(
            known.classify(after(Duration::ZERO), MAX_STALE),
            CachedStatus::Overdue(_)
        ));
        known.invalidate();
        assert!(matches!(known.classify(after(Duration::ZERO), MAX_STALE), CachedStatus::Unusable));
    }

    #[test]
    fn a_read_started_before_an_invalidation_does_not_end_it() {
        let mut before = known();
        before.invalidate();
        let mut late = known();
        late.inherit_from(&before, 0, Duration::ZERO);
        assert!(late.is_invalidated() && late.confirmed_at().is_none());
        let mut new = known();
        new.set_read_generation(1);
        new.inherit_from(&before, 1, Duration::from_secs(3));
        assert!(!new.is_invalidated());
        assert_eq!(new.confirmed_at(), Some(Duration::from_secs(3)));
    }

    #[test]
    fn only_a_status_whose_read_fails_counts_as_served_stale() {
        let mut known = known();
        let late = after(Duration::from_mins(2));
        assert!(!known.is_served_stale(late, MAX_STALE));
        known.record_failed_read(Duration::ZERO);
        assert!(known.is_served_stale(late, MAX_STALE));
        assert!(!known.is_served_stale(after(Duration::ZERO), MAX_STALE));
        assert!(!known.is_served_stale(after(Duration::from_mins(30)), MAX_STALE), "unused");
        known.invalidate();
        assert!(!known.is_served_stale(late, MAX_STALE));
    }

    #[test]
    fn a_status_stored_by_a_fast_clock_is_read_again_before_use() {
        let (ahead, minute) = (Duration::from_hours(24), Duration::from_mins(1));
        let stored = |read_time: Timestamp, valid_for: Duration| {
            let known = known();
            let mut status = (*known.status).clone();
            (status.read_time, status.valid_until) = (read_time, read_time + valid_for);
            let moment = Moment { wall: now(), monotonic: 5 * minute };
            StatusEntry::new(Arc::new(status), now(), moment).classify(moment, MAX_STALE)
        };
        assert!(matches!(stored(now(), minute), CachedStatus::Fresh(_)));
        assert!(matches!(stored(now() + ahead, minute), CachedStatus::Unusable));
        assert!(matches!(stored(now(), ahead), CachedStatus::Unusable));
        assert!(matches!(stored(now() - ahead, ahead + 2 * MAX_VALIDITY), CachedStatus::Unusable));
    }

    #[test]
    fn setting_the_wall_clock_neither_extends_a_status_nor_makes_it_unusable() {
        let (day, hour) = (Duration::from_hours(24), Duration::from_hours(1));
        let known = known();
        let back = |passed| Moment { wall: now() - day, monotonic: passed };
        assert!(matches!(
            known.classify(back(Duration::from_secs(59)), MAX_STALE),
            CachedStatus::Fresh(_)
        ));
        assert!(matches!(known.classify(back(hour), MAX_STALE), CachedStatus::Overdue(_)));
        assert!(matches!(known.classify(back(2 * day), MAX_STALE), CachedStatus::Unusable));
        let forward = Moment { wall: now() + 30 * day, monotonic: Duration::from_secs(1) };
        assert!(matches!(known.classify(forward, MAX_STALE), CachedStatus::Overdue(_)));
    }
}
