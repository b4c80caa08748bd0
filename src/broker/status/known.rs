//! One tenant's status in memory, and whether calls may go by it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;

use crate::domain::{TenantStatus, WebApiUri};

/// A tenant is in use if a call needed its status within this time.
const IN_USE_SECONDS: i64 = 600;

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
    /// Unix seconds; set by every call, so it needs no exclusive lock.
    pub(super) last_needed: AtomicI64,
    pub(super) retry_time: Timestamp,
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
    pub(super) fn new(status: Arc<TenantStatus>, added: Timestamp, now: Timestamp) -> Self {
        Self {
            status,
            added,
            doubts: 0,
            doubts_when_asked: 0,
            refuted_at: 0,
            refutation_stored: false,
            last_needed: AtomicI64::new(now.as_second()),
            retry_time: now,
            failing: false,
            suspected: None,
            confirmed: None,
        }
    }

    /// Written once a second at most: every call reads this, on every core.
    pub(super) fn needed(&self, now: Timestamp) {
        if self.last_needed.load(Ordering::Relaxed) != now.as_second() {
            self.last_needed.store(now.as_second(), Ordering::Relaxed);
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

    pub(super) fn in_use(&self, now: Timestamp) -> bool {
        now.as_second() - self.last_needed.load(Ordering::Relaxed) < IN_USE_SECONDS
    }

    /// Whether the status should be read again.
    pub(super) fn is_overdue(&self, now: Timestamp) -> bool {
        self.status.valid_until <= now || self.is_doubted()
    }

    /// Whether calls go by a status that no longer holds because it cannot be read again.
    pub(super) fn is_served_stale(&self, now: Timestamp, max_stale: Duration) -> bool {
        self.failing
            && self.in_use(now)
            && self.status.valid_until <= now
            && !matches!(self.at_hand(now, max_stale), AtHand::Nothing)
    }

    pub(super) fn is_at(&self, uri: &WebApiUri) -> bool {
        self.status.web_api_uri.as_ref() == Some(uri)
    }

    pub(super) fn at_hand(&self, now: Timestamp, max_stale: Duration) -> AtHand {
        let status = Arc::clone(&self.status);
        let stale_until = status.valid_until.saturating_add(max_stale).unwrap_or(Timestamp::MAX);
        if self.is_refuted() || stale_until <= now {
            AtHand::Nothing
        } else if !self.is_overdue(now) {
            AtHand::Fresh(status)
        } else if now < self.retry_time {
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

    fn known() -> Known {
        let status = TenantStatus {
            state: TenantState::Running,
            valid_until: now() + Duration::from_mins(1),
            web_api_uri: None,
            version: String::new(),
            read_time: now(),
        };
        Known::new(Arc::new(status), now(), now())
    }

    #[test]
    fn a_status_is_fresh_then_overdue_and_after_its_longest_time_nothing() {
        let known = known();
        let at = |after| known.at_hand(now() + after, MAX_STALE);
        assert!(matches!(at(Duration::from_secs(59)), AtHand::Fresh(_)));
        assert!(matches!(at(Duration::from_mins(1)), AtHand::Overdue(_)));
        assert!(matches!(at(MAX_STALE), AtHand::Overdue(_)));
        assert!(matches!(at(MAX_STALE + Duration::from_mins(1)), AtHand::Nothing));
        assert!(matches!(
            known.at_hand(now() + Duration::from_mins(1), Duration::ZERO),
            AtHand::Nothing
        ));
    }

    #[test]
    fn a_doubted_status_is_used_while_it_cannot_be_read_and_a_refuted_one_is_not() {
        let mut known = known();
        known.doubt();
        assert!(matches!(known.at_hand(now(), MAX_STALE), AtHand::Overdue(_)));
        known.refute();
        assert!(matches!(known.at_hand(now(), MAX_STALE), AtHand::Nothing));
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
        let late = now() + Duration::from_mins(2);
        assert!(!known.is_served_stale(late, MAX_STALE));
        known.failing = true;
        assert!(known.is_served_stale(late, MAX_STALE));
        assert!(!known.is_served_stale(now(), MAX_STALE));
        assert!(!known.is_served_stale(now() + Duration::from_mins(30), MAX_STALE), "unused");
        known.refute();
        assert!(!known.is_served_stale(late, MAX_STALE));
    }
}
