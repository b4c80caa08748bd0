//! The cache of credentials: one ticket for each tenant, one access token for each grant. Locks are held briefly and
//! never across an await. The number of tenants and grants in the store bounds the cache.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;

use super::{
    BrokerError,
    compact_time::{CompactDuration, whole_seconds},
};
use crate::{
    domain::{AccessToken, CredentialId, SystemTicket},
    ports::Moment,
};

/// The minimum time between two replacements of dead credentials of one tenant or grant.
const MIN_REPLACEMENT_INTERVAL: Duration = Duration::from_mins(1);

/// A short-lived credential that SuperOffice issues in exchange for a long-lived secret.
pub(super) trait Credential {
    /// Returns the public id.
    fn id(&self) -> &CredentialId;

    /// Returns the version of the long-lived secret for which it was issued.
    fn token_version(&self) -> i64;

    /// Returns the time that it is still valid, by the wall clock.
    fn remaining(&self, now: Timestamp) -> Duration;

    /// Returns the total lifetime, from its issue to its expiry.
    fn lifetime(&self) -> Duration;

    /// Returns a copy with corrected times after the wall clock was set back: it expires at `end`, and was issued no
    /// later than `now`.
    fn with_corrected_times(&self, end: Timestamp, now: Timestamp) -> Self;
}

/// The wall clock counts as set back if it gives a credential this much more lifetime than the monotonic clock.
const SET_BACK_TOLERANCE: Duration = Duration::from_secs(2);

/// The time for which a failure is cached: `first`, then twice as long after each further failure, up to a maximum.
#[derive(Debug, Clone, Copy)]
pub(super) struct BackOff {
    pub(super) first: Duration,
    pub(super) max: Duration,
}

/// The cached credentials and failures of each tenant or grant. Entries are boxed, because half of a map's places or
/// more may be empty.
pub(super) struct CredentialCache<K, C>(RwLock<HashMap<K, Box<Entry<C>>>>);

/// An entry for one tenant or grant. There may be many, so it is small.
struct Entry<C> {
    current: Option<CachedCredential<C>>,
    /// Boxed, because most entries have none.
    failure: Option<Box<CachedFailure>>,
    /// Boxed, because most entries have none.
    replacement: Option<Box<Replacement>>,
}

/// The replacements of dead credentials.
#[derive(Default)]
struct Replacement {
    /// The time at which a dead credential was last replaced, on the monotonic clock.
    last_replaced: Option<Duration>,
    /// The id of the last credential, if it is dead and has not been replaced yet.
    dead_id: Option<CredentialId>,
}

/// A credential and its times. They are on the monotonic clock, because the wall clock may be set.
struct CachedCredential<C> {
    credential: Arc<C>,
    /// The total lifetime when the credential was cached. Corrected times would give only a part of it.
    lifetime: CompactDuration,
    end: CompactDuration,
    renew_time: CompactDuration,
    /// The last use, in whole seconds.
    last_used: AtomicU32,
}

impl<C: Credential> CachedCredential<C> {
    /// Returns the shorter of the remaining lifetimes by both clocks. The wall clock runs while the machine sleeps; the
    /// monotonic clock cannot be set.
    fn remaining(&self, now: Moment) -> Duration {
        self.credential.remaining(now.wall).min(now.remaining_until(self.end.into()))
    }
}

/// A failure that is returned to callers without a new attempt. Times are on the monotonic clock.
struct CachedFailure {
    error: BrokerError,
    token_version: i64,
    until: Duration,
    back_off: Duration,
    max_back_off: Duration,
    ended_by: EndedBy,
}

/// The event that ends a cached failure early, besides a new version of the long-lived secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EndedBy {
    /// None.
    Nothing,
    /// Another client secret or private key works. The number is the count of such changes when the failure was cached.
    OtherCredential(u64),
    /// The clocks of the login host and of this machine agree again.
    CorrectClock,
}

/// The current values of everything that can end a cached failure.
#[derive(Debug, Clone, Copy)]
pub(super) struct FailureConditions {
    /// The current time on the monotonic clock.
    pub(super) now: Duration,
    /// `SystemUserLogin::credential_changes`.
    pub(super) credential_changes: u64,
    /// `SystemUserLogin::has_clock_skew`.
    pub(super) has_clock_skew: bool,
}

impl CachedFailure {
    fn is_in_force(&self, conditions: &FailureConditions) -> bool {
        let ended = match self.ended_by {
            EndedBy::Nothing => false,
            EndedBy::OtherCredential(changes) => changes != conditions.credential_changes,
            EndedBy::CorrectClock => !conditions.has_clock_skew,
        };
        conditions.now < self.until && !ended
    }
}

impl<K: Eq + Hash + Clone, C: Credential> CredentialCache<K, C> {
    /// Returns the credential if it was issued for this version of the secret and is valid for at least `min_ttl`.
    pub(super) fn get_valid(
        &self,
        name: &K,
        token_version: i64,
        min_ttl: Duration,
        now: Moment,
    ) -> Option<Arc<C>> {
        let entries = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let held = entries.get(name)?.current.as_ref()?;
        let remaining = held.remaining(now);
        if held.credential.token_version() != token_version
            || remaining.is_zero()
            || remaining < min_ttl
        {
            return None;
        }
        // Written at most once a second, because calls on all cores read this value.
        let second = whole_seconds(now.monotonic);
        if held.last_used.load(Ordering::Relaxed) != second {
            held.last_used.store(second, Ordering::Relaxed);
        }
        Some(Arc::clone(&held.credential))
    }

    /// Returns the credential, without a check of its version, id or age.
    pub(super) fn current(&self, name: &K) -> Option<Arc<C>> {
        let entries = self.0.read().unwrap_or_else(PoisonError::into_inner);
        entries.get(name)?.current.as_ref().map(|held| Arc::clone(&held.credential))
    }

    /// Returns the total lifetime of the cached credential, from its issue to its expiry.
    pub(super) fn lifetime(&self, name: &K) -> Option<Duration> {
        let entries = self.0.read().unwrap_or_else(PoisonError::into_inner);
        entries.get(name)?.current.as_ref().map(|held| held.lifetime.into())
    }

    /// Returns the credential if it has this id.
    pub(super) fn find(&self, name: &K, id: &CredentialId) -> Option<Arc<C>> {
        self.current(name).filter(|credential| credential.id() == id)
    }

    /// Caches a new or stored credential, which is due for renewal in `renew_in`.
    pub(super) fn insert(&self, name: &K, credential: Arc<C>, renew_in: Duration, now: Moment) {
        self.update_entry(name, |entry| {
            // A background renewal is not a use.
            let used = entry.current.as_ref().map(|held| held.last_used.load(Ordering::Relaxed));
            let last_used = AtomicU32::new(used.unwrap_or(whole_seconds(now.monotonic)));
            let end = now.monotonic.saturating_add(remaining_lifetime(&*credential, now)).into();
            let renew_time = now.monotonic.saturating_add(renew_in).into();
            let lifetime = credential.lifetime().into();
            let held = CachedCredential { credential, lifetime, end, renew_time, last_used };
            entry.current = Some(held);
            entry.failure = None;
            if let Some(replacement) = &mut entry.replacement
                && replacement.dead_id.take().is_some()
            {
                replacement.last_replaced = Some(now.monotonic);
            }
        });
    }

    /// Replaces the credential of this id with a changed copy.
    pub(super) fn update(
        &self,
        name: &K,
        id: &CredentialId,
        renew_in: Duration,
        now: Moment,
        change: impl FnOnce(&C) -> C,
    ) {
        self.update_entry(name, |entry| {
            if let Some(held) = entry.current.as_mut().filter(|held| held.credential.id() == id) {
                held.credential = Arc::new(change(&held.credential));
                let remaining = remaining_lifetime(&*held.credential, now);
                held.end = now.monotonic.saturating_add(remaining).into();
                held.renew_time = now.monotonic.saturating_add(renew_in).into();
            }
        });
    }

    /// Removes a dead credential. Returns `false` if another credential is cached.
    pub(super) fn remove_dead(&self, name: &K, id: &CredentialId) -> bool {
        self.update_entry(name, |entry| {
            let matches = entry.current.as_ref().is_some_and(|held| held.credential.id() == id);
            if matches {
                entry.current = None;
                entry.replacement.get_or_insert_default().dead_id = Some(id.clone());
            }
            matches
        })
    }

    /// Returns whether this credential is known to be dead. It may still be in the store for a moment.
    pub(super) fn is_dead(&self, name: &K, id: &CredentialId) -> bool {
        let entries = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let replacement = entries.get(name).and_then(|entry| entry.replacement.as_deref());
        replacement.is_some_and(|it| it.dead_id.as_ref() == Some(id))
    }

    /// Returns the time until a dead credential may be replaced; zero if it may be replaced now.
    pub(super) fn replacement_delay(&self, name: &K, now: Duration) -> Duration {
        let entries = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let replacement = entries.get(name).and_then(|entry| entry.replacement.as_deref());
        let replaced =
            replacement.filter(|it| it.dead_id.is_some()).and_then(|it| it.last_replaced);
        let since = replaced.map(|replaced| now.saturating_sub(replaced));
        since.map_or(Duration::ZERO, |since| MIN_REPLACEMENT_INTERVAL.saturating_sub(since))
    }

    /// Returns the cached failure for this version of the long-lived secret, and its remaining time.
    pub(super) fn cached_failure(
        &self,
        name: &K,
        token_version: i64,
        conditions: &FailureConditions,
    ) -> Option<(BrokerError, Duration)> {
        let entries = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let failure = entries.get(name)?.failure.as_ref()?;
        (failure.token_version == token_version && failure.is_in_force(conditions))
            .then(|| (failure.error.clone(), failure.until.saturating_sub(conditions.now)))
    }

    /// Caches a failure, each further one for twice as long. Returns the time for which it is cached.
    pub(super) fn record_failure(
        &self,
        name: &K,
        token_version: i64,
        error: BrokerError,
        back_off: BackOff,
        ended_by: EndedBy,
        now: Duration,
    ) -> Duration {
        let BackOff { first, max: max_back_off } = back_off;
        self.update_entry(name, |entry| {
            let back_off = match &entry.failure {
                Some(before) if before.token_version == token_version => {
                    before.back_off.saturating_mul(2).clamp(first.min(max_back_off), max_back_off)
                }
                _ => first,
            };
            let until = now.saturating_add(back_off);
            let failure =
                CachedFailure { error, token_version, until, back_off, max_back_off, ended_by };
            entry.failure = Some(Box::new(failure));
            back_off
        })
    }

    /// Ends a cached failure: the next call tries again. If it fails again, that failure is cached for longer.
    pub(super) fn clear_failure(&self, name: &K) {
        let mut entries = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(failure) = entries.get_mut(name).and_then(|entry| entry.failure.as_mut()) {
            failure.until = Duration::ZERO;
        }
    }

    /// Returns the keys whose credential is due for renewal and was used recently. None of them is due again before
    /// `retry_in` has passed. Removes expired credentials, and corrects the times of the others.
    pub(super) fn take_due(
        &self,
        now: Moment,
        used_within: Duration,
        retry_in: impl Fn() -> Duration,
    ) -> Vec<K> {
        let mut entries = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let mut due = Vec::new();
        entries.retain(|name, entry| {
            let Some(held) = &mut entry.current else {
                return entry.must_be_kept(now.monotonic);
            };
            if held.remaining(now).is_zero() {
                entry.current = None;
                return entry.must_be_kept(now.monotonic);
            }
            let left = now.remaining_until(held.end.into());
            if held.credential.remaining(now.wall) > left.saturating_add(SET_BACK_TOLERANCE)
                && let Ok(end) = now.wall.saturating_add(left)
            {
                held.credential = Arc::new(held.credential.with_corrected_times(end, now.wall));
            }
            let last_used = held.last_used.load(Ordering::Relaxed);
            let unused = whole_seconds(now.monotonic).saturating_sub(last_used);
            let used = u64::from(unused) < used_within.as_secs();
            if Duration::from(held.renew_time) <= now.monotonic && used {
                held.renew_time = now.monotonic.saturating_add(retry_in()).into();
                due.push(name.clone());
            }
            true
        });
        due
    }

    /// Returns the keys of all entries.
    pub(super) fn keys(&self) -> Vec<K> {
        let entries = self.0.read().unwrap_or_else(PoisonError::into_inner);
        entries.keys().cloned().collect()
    }

    /// Removes the entries whose key matches.
    pub(super) fn forget(&self, matches: impl Fn(&K) -> bool) {
        let mut entries = self.0.write().unwrap_or_else(PoisonError::into_inner);
        entries.retain(|name, _| !matches(name));
    }

    pub(super) fn len(&self) -> usize {
        self.0.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    fn update_entry<T>(&self, name: &K, change: impl FnOnce(&mut Entry<C>) -> T) -> T {
        let mut entries = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = entries.get_mut(name) {
            return change(entry);
        }
        change(entries.entry(name.clone()).or_default())
    }
}

/// Returns the remaining lifetime of a credential before it is cached. If the wall clock was set back during the
/// request, that clock gives too much; the total lifetime still bounds the result.
fn remaining_lifetime(credential: &impl Credential, now: Moment) -> Duration {
    credential.remaining(now.wall).min(credential.lifetime())
}

impl<C> Entry<C> {
    /// Returns whether an entry without a credential still delays or rejects calls.
    fn must_be_kept(&self, now: Duration) -> bool {
        let recently = |time: Duration| now.saturating_sub(time) < MIN_REPLACEMENT_INTERVAL;
        let failure = self.failure.as_ref();
        failure.is_some_and(|it| now < it.until.saturating_add(it.max_back_off * 2))
            || self
                .replacement
                .as_ref()
                .is_some_and(|it| it.last_replaced.is_some_and(recently) || it.dead_id.is_some())
    }
}

impl<K, C> Default for CredentialCache<K, C> {
    fn default() -> Self {
        Self(RwLock::default())
    }
}

impl<C> Default for Entry<C> {
    fn default() -> Self {
        Self { current: None, failure: None, replacement: None }
    }
}

macro_rules! impl_credential {
    ($($credential:ty),+) => {$(
        impl Credential for $credential {
            fn id(&self) -> &CredentialId {
                &self.credential_id
            }

            fn token_version(&self) -> i64 {
                self.token_version
            }

            fn remaining(&self, now: Timestamp) -> Duration {
                self.remaining(now)
            }

            fn lifetime(&self) -> Duration {
                self.remaining(self.issue_time)
            }

            fn with_corrected_times(&self, end: Timestamp, now: Timestamp) -> Self {
                Self { expire_time: end, issue_time: self.issue_time.min(now), ..self.clone() }
            }
        }
    )+};
}

impl_credential!(SystemTicket, AccessToken);

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_hours(1);

    fn ticket(issued: Timestamp) -> Arc<SystemTicket> {
        Arc::new(SystemTicket {
            value: "7T:x".into(),
            credential_id: CredentialId::of_ticket([1; 16]),
            issue_time: issued,
            expire_time: issued + 6 * HOUR,
            token_version: 1,
        })
    }

    /// There is an entry for each tenant: see the budget of memory in docs/development/performance.md.
    #[test]
    fn an_entry_without_a_failure_takes_at_most_56_bytes() {
        assert!(size_of::<Entry<SystemTicket>>() <= 56);
    }

    #[test]
    fn a_wall_clock_set_back_extends_nothing_and_returned_times_are_corrected() {
        let cache = CredentialCache::<u8, SystemTicket>::default();
        let right = Timestamp::UNIX_EPOCH;
        let ahead = Moment { wall: right + 24 * HOUR, monotonic: HOUR };
        cache.insert(&1, ticket(ahead.wall), 5 * HOUR, ahead);
        let later = Moment { wall: right + 2 * HOUR, monotonic: 3 * HOUR };
        assert!(cache.get_valid(&1, 1, 4 * HOUR, later).is_some());
        assert!(cache.get_valid(&1, 1, 5 * HOUR, later).is_none(), "only four hours are left");
        assert!(cache.take_due(later, 9 * HOUR, || HOUR).is_empty());
        let cached = cache.get_valid(&1, 1, HOUR, later).unwrap();
        assert_eq!((cached.issue_time, cached.expire_time), (later.wall, right + 6 * HOUR));
        assert_eq!(cache.lifetime(&1), Some(6 * HOUR));
        let end = Moment { wall: right, monotonic: 7 * HOUR };
        assert!(cache.get_valid(&1, 1, Duration::ZERO, end).is_none());
    }

    #[test]
    fn a_wall_clock_set_back_during_a_request_extends_nothing() {
        let cache = CredentialCache::<u8, SystemTicket>::default();
        let right = Timestamp::UNIX_EPOCH;
        let now = Moment { wall: right, monotonic: HOUR };
        // Issued by a clock that was a day ahead.
        cache.insert(&1, ticket(right + 24 * HOUR), 5 * HOUR, now);
        assert!(cache.get_valid(&1, 1, 6 * HOUR, now).is_some());
        let end = Moment { wall: right + 6 * HOUR, monotonic: 7 * HOUR };
        assert!(cache.get_valid(&1, 1, Duration::ZERO, end).is_none());
        let amended = CredentialCache::<u8, SystemTicket>::default();
        amended.insert(&1, ticket(right + 24 * HOUR), 5 * HOUR, now);
        let id = CredentialId::of_ticket([1; 16]);
        amended.update(&1, &id, 5 * HOUR, now, SystemTicket::clone);
        assert!(amended.get_valid(&1, 1, Duration::ZERO, end).is_none());
    }

    #[test]
    fn renewal_and_use_follow_the_monotonic_clock() {
        let cache = CredentialCache::<u8, SystemTicket>::default();
        let begin = Moment { wall: Timestamp::UNIX_EPOCH, monotonic: Duration::ZERO };
        cache.insert(&1, ticket(begin.wall), 2 * HOUR, begin);
        let at = |wall: Timestamp, monotonic| Moment { wall, monotonic };
        let due = |now| cache.take_due(now, 3 * HOUR, || HOUR);
        assert!(due(at(begin.wall + 3 * HOUR, HOUR)).is_empty());
        assert_eq!(due(at(begin.wall, 2 * HOUR)), [1]);
        assert!(due(at(begin.wall, 2 * HOUR)).is_empty(), "the renewal has started");
        assert!(due(at(begin.wall, 4 * HOUR)).is_empty(), "the credential was not used recently");
    }
}
