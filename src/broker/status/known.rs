//! One tenant's status in memory, and whether calls may go by it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;

use crate::{
    domain::{TenantStatus, WebApiUri},
    ports::{Moment, is_ahead},
};

/// A tenant is in use if a call needed its status within this time.
const IN_USE: Duration = Duration::from_mins(10);

/// A status never holds for longer: what SuperOffice says is limited to this when it is read.
const LONGEST_VALIDITY: Duration = Duration::from_hours(1);

/// Failed calls of one tenant make us ask for its status at most once in this time. HTTP 421 from an address that
/// tenant status has just confirmed is held to the same limit.
pub(super) const BETWEEN_SUSPICIONS: Duration = Duration::from_secs(15);

/// The status of a tenant, and events that question it.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) status: Arc<TenantStatus>,
    /// When the tenant was added: one that was deleted and added again is another.
    pub(super) added: Timestamp,
    /// Counts events that question the status. It is part of the key of a read, so nobody joins a read from before
    /// the latest event.
    pub(super) doubts: u64,
    /// The value of `doubts` when the read of this status began.
    pub(super) doubts_when_asked: u64,
    /// The value of `doubts` after the last event that forbids to use an older status.
    pub(super) refuted_at: u64,
    /// The store has been told that the status is refuted.
    pub(super) refutation_stored: bool,
    /// When the status came here, by the monotonic clock.
    learnt: Duration,
    /// How long it was to hold from then.
    valid_for: Duration,
    /// How long it had not held any more by then.
    overdue_by: Duration,
    /// It was stored while a clock was wrong: nobody can tell how old it is.
    unbelievable: bool,
    /// In whole seconds of the monotonic clock; set by every call, so it needs no exclusive lock.
    pub(super) last_needed: AtomicU64,
    /// By the monotonic clock.
    pub(super) retry_time: Duration,
    /// The last attempt to read the status failed.
    pub(super) failing: bool,
    /// When a failed call last made us ask, on the monotonic clock.
    pub(super) suspected: Option<Duration>,
    /// When tenant status last confirmed an address after HTTP 421, on the monotonic clock.
    pub(super) confirmed: Option<Duration>,
}

/// The usable form of a status in memory.
pub(super) enum AtHand {
    /// No status that may be used.
    Nothing,
    /// A status that holds.
    Fresh(Arc<TenantStatus>),
    /// A status to read again, and to use while that fails.
    Overdue(Arc<TenantStatus>),
    /// The same, and a read has just failed.
    OverdueAndTried(Arc<TenantStatus>),
}

impl Known {
    pub(super) fn new(status: Arc<TenantStatus>, added: Timestamp, now: Moment) -> Self {
        let left = status.valid_until.duration_since(now.wall);
        Self {
            learnt: now.monotonic,
            valid_for: left.try_into().unwrap_or_default(),
            overdue_by: (-left).try_into().unwrap_or_default(),
            unbelievable: now.is_ahead(status.read_time)
                || is_ahead(status.valid_until, LONGEST_VALIDITY, now.wall),
            status,
            added,
            doubts: 0,
            doubts_when_asked: 0,
            refuted_at: 0,
            refutation_stored: false,
            last_needed: AtomicU64::new(now.monotonic.as_secs()),
            retry_time: now.monotonic,
            failing: false,
            suspected: None,
            confirmed: None,
        }
    }

    /// Written once a second at most: every call reads this, on every core.
    pub(super) fn needed(&self, now: Moment) {
        let second = now.monotonic.as_secs();
        if self.last_needed.load(Ordering::Relaxed) != second {
            self.last_needed.store(second, Ordering::Relaxed);
        }
    }

    /// Questions the status: it is read again, and used until then and while that fails.
    pub(super) fn doubt(&mut self) {
        self.doubts += 1;
    }

    /// Forbids to use the status: it is wrong whether or not it can be read again.
    pub(super) fn refute(&mut self) {
        self.doubts += 1;
        self.refuted_at = self.doubts;
    }

    pub(super) fn is_doubted(&self) -> bool {
        self.doubts_when_asked < self.doubts
    }

    pub(super) fn is_refuted(&self) -> bool {
        self.doubts_when_asked < self.refuted_at
    }

    pub(super) fn in_use(&self, now: Moment) -> bool {
        let last_needed = Duration::from_secs(self.last_needed.load(Ordering::Relaxed));
        now.monotonic.saturating_sub(last_needed) < IN_USE
    }

    /// Whether its time has passed, by either clock: the wall clock may have been set back, and the monotonic one stands
    /// still while the machine sleeps.
    fn has_run_out(&self, now: Moment) -> bool {
        self.status.valid_until <= now.wall || now.monotonic >= self.learnt + self.valid_for
    }

    /// How long ago its time passed. A wall clock that was set forward makes nothing unusable.
    fn stale_for(&self, now: Moment) -> Duration {
        let since = now.monotonic.saturating_sub(self.learnt + self.valid_for);
        since.saturating_add(self.overdue_by)
    }

    /// How old the status is, as far as this process knows.
    pub(super) fn age(&self, now: Moment) -> Duration {
        let stored = now.wall.duration_since(self.status.read_time);
        let stored = Duration::try_from(stored).unwrap_or_default();
        stored.max(now.monotonic.saturating_sub(self.learnt))
    }

    /// Whether the status should be read again.
    pub(super) fn is_overdue(&self, now: Moment) -> bool {
        self.has_run_out(now) || self.is_doubted()
    }

    /// Whether calls go by a status that no longer holds because it cannot be read again.
    pub(super) fn is_served_stale(&self, now: Moment, max_stale: Duration) -> bool {
        self.failing
            && self.in_use(now)
            && self.has_run_out(now)
            && !matches!(self.at_hand(now, max_stale), AtHand::Nothing)
    }

    pub(super) fn is_at(&self, uri: &WebApiUri) -> bool {
        self.status.web_api_uri.as_ref() == Some(uri)
    }

    pub(super) fn at_hand(&self, now: Moment, max_stale: Duration) -> AtHand {
        let status = Arc::clone(&self.status);
        let too_old = self.has_run_out(now) && self.stale_for(now) >= max_stale;
        if self.is_refuted() || self.unbelievable || too_old {
            AtHand::Nothing
        } else if !self.is_overdue(now) {
            AtHand::Fresh(status)
        } else if now.monotonic < self.retry_time {
            AtHand::OverdueAndTried(status)
        } else {
            AtHand::Overdue(status)
        }
    }

    /// Takes over from `before`, which this replaces, all that outlives a read.
    pub(super) fn replaces(&mut self, before: &Self, doubts: u64, now: Duration) {
        // Reading in the background is not a use.
        self.last_needed.store(before.last_needed.load(Ordering::Relaxed), Ordering::Relaxed);
        self.doubts = before.doubts.max(doubts);
        self.refuted_at = before.refuted_at;
        self.suspected = before.suspected;
        let same = self.status.web_api_uri == before.status.web_api_uri;
        self.confirmed = if same { before.confirmed } else { None };
        if same && before.is_refuted() && !self.is_refuted() {
            self.confirmed = Some(now);
        }
    }
}

/// Whether `since` is less than [`BETWEEN_SUSPICIONS`] ago.
pub(super) fn is_recent(since: Option<Duration>, now: Duration) -> bool {
    since.is_some_and(|since| now.saturating_sub(since) < BETWEEN_SUSPICIONS)
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

    fn known() -> Known {
        let status = TenantStatus {
            state: TenantState::Running,
            valid_until: now() + Duration::from_mins(1),
            web_api_uri: None,
            version: String::new(),
            read_time: now(),
        };
        Known::new(Arc::new(status), now(), after(Duration::ZERO))
    }

    #[test]
    fn a_status_is_fresh_then_overdue_and_after_its_longest_time_nothing() {
        let known = known();
        let at = |passed| known.at_hand(after(passed), MAX_STALE);
        assert!(matches!(at(Duration::from_secs(59)), AtHand::Fresh(_)));
        assert!(matches!(at(Duration::from_mins(1)), AtHand::Overdue(_)));
        assert!(matches!(at(MAX_STALE), AtHand::Overdue(_)));
        assert!(matches!(at(MAX_STALE + Duration::from_mins(1)), AtHand::Nothing));
        assert!(matches!(
            known.at_hand(after(Duration::from_mins(1)), Duration::ZERO),
            AtHand::Nothing
        ));
    }

    #[test]
    fn a_doubted_status_is_used_while_it_cannot_be_read_and_a_refuted_one_is_not() {
        let mut known = known();
        known.doubt();
        assert!(matches!(known.at_hand(after(Duration::ZERO), MAX_STALE), AtHand::Overdue(_)));
        known.refute();
        assert!(matches!(known.at_hand(after(Duration::ZERO), MAX_STALE), AtHand::Nothing));
    }

    #[test]
    fn an_answer_that_was_asked_for_before_a_refutation_does_not_end_it() {
        let mut before = known();
        before.refute();
        let mut late = known();
        late.replaces(&before, 0, Duration::ZERO);
        assert!(late.is_refuted() && late.confirmed.is_none());
        let mut new = known();
        new.doubts_when_asked = 1;
        new.replaces(&before, 1, Duration::from_secs(3));
        assert!(!new.is_refuted());
        assert_eq!(new.confirmed, Some(Duration::from_secs(3)));
    }

    #[test]
    fn only_a_status_whose_read_fails_counts_as_served_stale() {
        let mut known = known();
        let late = after(Duration::from_mins(2));
        assert!(!known.is_served_stale(late, MAX_STALE));
        known.failing = true;
        assert!(known.is_served_stale(late, MAX_STALE));
        assert!(!known.is_served_stale(after(Duration::ZERO), MAX_STALE));
        assert!(!known.is_served_stale(after(Duration::from_mins(30)), MAX_STALE), "unused");
        known.refute();
        assert!(!known.is_served_stale(late, MAX_STALE));
    }

    #[test]
    fn a_status_that_was_stored_by_a_clock_that_was_ahead_is_read_before_it_is_used() {
        let (ahead, minute) = (Duration::from_hours(24), Duration::from_mins(1));
        let stored = |read_time: Timestamp, valid_for: Duration| {
            let known = known();
            let mut status = (*known.status).clone();
            (status.read_time, status.valid_until) = (read_time, read_time + valid_for);
            let moment = Moment { wall: now(), monotonic: 5 * minute };
            Known::new(Arc::new(status), now(), moment).at_hand(moment, MAX_STALE)
        };
        assert!(matches!(stored(now(), minute), AtHand::Fresh(_)));
        assert!(matches!(stored(now() + ahead, minute), AtHand::Nothing));
        assert!(matches!(stored(now(), ahead), AtHand::Nothing));
        assert!(matches!(stored(now() - ahead, ahead + 2 * LONGEST_VALIDITY), AtHand::Nothing));
    }

    #[test]
    fn a_wall_clock_that_is_set_neither_prolongs_a_status_nor_makes_it_useless() {
        let (day, hour) = (Duration::from_hours(24), Duration::from_hours(1));
        let known = known();
        let back = |passed| Moment { wall: now() - day, monotonic: passed };
        assert!(matches!(
            known.at_hand(back(Duration::from_secs(59)), MAX_STALE),
            AtHand::Fresh(_)
        ));
        assert!(matches!(known.at_hand(back(hour), MAX_STALE), AtHand::Overdue(_)));
        assert!(matches!(known.at_hand(back(2 * day), MAX_STALE), AtHand::Nothing));
        let forward = Moment { wall: now() + 30 * day, monotonic: Duration::from_secs(1) };
        assert!(matches!(known.at_hand(forward, MAX_STALE), AtHand::Overdue(_)));
    }
}
