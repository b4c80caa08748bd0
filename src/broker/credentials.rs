//! Credentials in memory: the one ticket of each tenant, the one access token of each grant. Short critical sections,
//! never across an await; bounded by the tenants and grants in the store.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;

use super::BrokerError;
use crate::{
    domain::{AccessToken, CredentialId, SystemTicket},
    ports::Moment,
};

/// A dead credential is replaced at most this often (DESIGN section 7).
const REPLACE_AT_MOST_ONCE_IN: Duration = Duration::from_mins(1);

/// What SuperOffice gives out for a while, in place of a secret that lasts.
pub(super) trait Credential {
    /// Its public name.
    fn id(&self) -> &CredentialId;

    /// Which version of the lasting secret it was given out for.
    fn token_version(&self) -> i64;

    /// How long it surely works from `now`, by the wall clock.
    fn remaining(&self, now: Timestamp) -> Duration;

    /// How long it was to live at most, by its own times.
    fn life(&self) -> Duration;

    /// The same credential with times that fit a wall clock that was set back: it ends at `end`, and was issued no later
    /// than `now`.
    fn corrected(&self, end: Timestamp, now: Timestamp) -> Self;
}

/// The wall clock was set back if a credential seems to live so much longer than it does.
const SET_BACK: Duration = Duration::from_secs(2);

/// A refusal is repeated to callers without asking again for so long at first, then twice as long, and so on.
#[derive(Debug, Clone, Copy)]
pub(super) struct BackOff {
    pub(super) first: Duration,
    pub(super) last: Duration,
}

/// What is known of the credentials of each tenant or grant.
pub(super) struct Credentials<K, C>(RwLock<HashMap<K, Entry<C>>>);

struct Entry<C> {
    held: Option<Held<C>>,
    /// Rare, so it takes no room where there is none.
    refusal: Option<Box<Refused>>,
    /// When a credential last took the place of one that was proven dead, by the monotonic clock.
    replaced: Option<Duration>,
    /// The last credential, if it was proven dead and has not been replaced yet.
    dead: Option<CredentialId>,
}

/// A credential and when it ends. Times are of the monotonic clock: the wall clock may be set while it is held.
struct Held<C> {
    credential: Arc<C>,
    end: Duration,
    renew_time: Duration,
    /// In whole seconds.
    last_used: AtomicU64,
}

impl<C: Credential> Held<C> {
    /// How long the credential surely works: both clocks must say so. The wall clock goes on while the machine sleeps,
    /// the monotonic one cannot be set.
    fn remaining(&self, now: Moment) -> Duration {
        self.credential.remaining(now.wall).min(now.left(self.end))
    }
}

/// A refusal or failure that is repeated to callers. Times are of the monotonic clock.
struct Refused {
    error: BrokerError,
    token_version: i64,
    until: Duration,
    back_off: Duration,
    last: Duration,
    ended_by: EndedBy,
}

/// An event that ends a refusal before its time, besides another version of the lasting secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EndedBy {
    /// None.
    Nothing,
    /// Another client secret or private key is found to work: their changes are counted, and this was the count.
    OtherCredential(u64),
    /// The login host's clock and ours agree again.
    CorrectClock,
}

/// The present state of everything that can end a refusal.
#[derive(Debug, Clone, Copy)]
pub(super) struct Circumstances {
    /// Now, by the monotonic clock.
    pub(super) now: Duration,
    /// `SystemUserLogin::credential_changes`.
    pub(super) credential_changes: u64,
    /// `SystemUserLogin::clock_is_off`.
    pub(super) clock_is_off: bool,
}

impl Refused {
    fn stands(&self, circumstances: &Circumstances) -> bool {
        let ended = match self.ended_by {
            EndedBy::Nothing => false,
            EndedBy::OtherCredential(changes) => changes != circumstances.credential_changes,
            EndedBy::CorrectClock => !circumstances.clock_is_off,
        };
        circumstances.now < self.until && !ended
    }
}

impl<K: Eq + Hash + Clone, C: Credential> Credentials<K, C> {
    /// A credential that was given out for this version of the lasting secret and lives at least `min_ttl` more.
    pub(super) fn hand_out(
        &self,
        name: &K,
        token_version: i64,
        min_ttl: Duration,
        now: Moment,
    ) -> Option<Arc<C>> {
        let entries = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let held = entries.get(name)?.held.as_ref()?;
        let remaining = held.remaining(now);
        if held.credential.token_version() != token_version
            || remaining.is_zero()
            || remaining < min_ttl
        {
            return None;
        }
        // Once a second at most: every call reads this, on every core.
        let second = now.monotonic.as_secs();
        if held.last_used.load(Ordering::Relaxed) != second {
            held.last_used.store(second, Ordering::Relaxed);
        }
        Some(Arc::clone(&held.credential))
    }

    /// The credential, whatever its version, its id and its age.
    pub(super) fn held(&self, name: &K) -> Option<Arc<C>> {
        let entries = self.0.read().unwrap_or_else(PoisonError::into_inner);
        entries.get(name)?.held.as_ref().map(|held| Arc::clone(&held.credential))
    }

    /// The credential of this id.
    pub(super) fn find(&self, name: &K, id: &CredentialId) -> Option<Arc<C>> {
        self.held(name).filter(|credential| credential.id() == id)
    }

    /// Takes in a new or stored credential, which is due for renewal in `renew_in`.
    pub(super) fn insert(&self, name: &K, credential: Arc<C>, renew_in: Duration, now: Moment) {
        self.change(name, |entry| {
            // Renewing in the background is not a use.
            let used = entry.held.as_ref().map(|held| held.last_used.load(Ordering::Relaxed));
            let last_used = AtomicU64::new(used.unwrap_or(now.monotonic.as_secs()));
            let end = now.monotonic.saturating_add(left(&*credential, now));
            let renew_time = now.monotonic.saturating_add(renew_in);
            let held = Held { credential, end, renew_time, last_used };
            entry.held = Some(held);
            entry.refusal = None;
            if entry.dead.take().is_some() {
                entry.replaced = Some(now.monotonic);
            }
        });
    }

    /// Changes what is known of the credential of this id.
    pub(super) fn amend(
        &self,
        name: &K,
        id: &CredentialId,
        renew_in: Duration,
        now: Moment,
        amend: impl FnOnce(&C) -> C,
    ) {
        self.change(name, |entry| {
            if let Some(held) = entry.held.as_mut().filter(|held| held.credential.id() == id) {
                held.credential = Arc::new(amend(&held.credential));
                held.end = now.monotonic.saturating_add(left(&*held.credential, now));
                held.renew_time = now.monotonic.saturating_add(renew_in);
            }
        });
    }

    /// Takes out a credential that was proven dead. `false` if another one is there.
    pub(super) fn drop_dead(&self, name: &K, id: &CredentialId) -> bool {
        self.change(name, |entry| {
            let is_it = entry.held.as_ref().is_some_and(|held| held.credential.id() == id);
            if is_it {
                entry.held = None;
                entry.dead = Some(id.clone());
            }
            is_it
        })
    }

    /// Whether this credential was proven dead: it may still be in the store for a moment.
    pub(super) fn is_dead(&self, name: &K, id: &CredentialId) -> bool {
        let entries = self.0.read().unwrap_or_else(PoisonError::into_inner);
        entries.get(name).is_some_and(|entry| entry.dead.as_ref() == Some(id))
    }

    /// How long to wait before a credential may be asked for in place of one that was proven dead; zero if now.
    pub(super) fn wait_before_replacing(&self, name: &K, now: Duration) -> Duration {
        let entries = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let replaced =
            entries.get(name).filter(|entry| entry.dead.is_some()).and_then(|entry| entry.replaced);
        let since = replaced.map(|replaced| now.saturating_sub(replaced));
        since.map_or(Duration::ZERO, |since| REPLACE_AT_MOST_ONCE_IN.saturating_sub(since))
    }

    /// The refusal that still stands for this version of the lasting secret, and for how long.
    pub(super) fn standing_refusal(
        &self,
        name: &K,
        token_version: i64,
        circumstances: &Circumstances,
    ) -> Option<(BrokerError, Duration)> {
        let entries = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let refused = entries.get(name)?.refusal.as_ref()?;
        (refused.token_version == token_version && refused.stands(circumstances))
            .then(|| (refused.error.clone(), refused.until.saturating_sub(circumstances.now)))
    }

    /// Remembers a refusal, one after another for twice as long. Returns for how long.
    pub(super) fn refuse(
        &self,
        name: &K,
        token_version: i64,
        error: BrokerError,
        back_off: BackOff,
        ended_by: EndedBy,
        now: Duration,
    ) -> Duration {
        let BackOff { first, last } = back_off;
        self.change(name, |entry| {
            let back_off = match &entry.refusal {
                Some(before) if before.token_version == token_version => {
                    before.back_off.saturating_mul(2).clamp(first.min(last), last)
                }
                _ => first,
            };
            let until = now.saturating_add(back_off);
            let refused = Refused { error, token_version, until, back_off, last, ended_by };
            entry.refusal = Some(Box::new(refused));
            back_off
        })
    }

    /// Ends a refusal: the next caller asks SuperOffice. If that is refused again, it is remembered for longer.
    pub(super) fn end_refusal(&self, name: &K) {
        let mut entries = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(refused) = entries.get_mut(name).and_then(|entry| entry.refusal.as_mut()) {
            refused.until = Duration::ZERO;
        }
    }

    /// Those whose credential is due for renewal and was used lately. Notes for each that it will not be due again before
    /// `retry_in` has passed. Forgets what has expired, and corrects what the wall clock says of the others.
    pub(super) fn due(
        &self,
        now: Moment,
        used_within: Duration,
        retry_in: impl Fn() -> Duration,
    ) -> Vec<K> {
        let mut entries = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let mut due = Vec::new();
        entries.retain(|name, entry| {
            let Some(held) = &mut entry.held else {
                return entry.worth_keeping(now.monotonic);
            };
            if held.remaining(now).is_zero() {
                entry.held = None;
                return entry.worth_keeping(now.monotonic);
            }
            let left = now.left(held.end);
            if held.credential.remaining(now.wall) > left.saturating_add(SET_BACK)
                && let Ok(end) = now.wall.saturating_add(left)
            {
                held.credential = Arc::new(held.credential.corrected(end, now.wall));
            }
            let last_used = held.last_used.load(Ordering::Relaxed);
            let used = now.monotonic.as_secs().saturating_sub(last_used) < used_within.as_secs();
            if held.renew_time <= now.monotonic && used {
                held.renew_time = now.monotonic.saturating_add(retry_in());
                due.push(name.clone());
            }
            true
        });
        due
    }

    /// Everyone of whom something is known.
    pub(super) fn names(&self) -> Vec<K> {
        let entries = self.0.read().unwrap_or_else(PoisonError::into_inner);
        entries.keys().cloned().collect()
    }

    /// Forgets everything of those of whom this is true.
    pub(super) fn forget(&self, is_meant: impl Fn(&K) -> bool) {
        let mut entries = self.0.write().unwrap_or_else(PoisonError::into_inner);
        entries.retain(|name, _| !is_meant(name));
    }

    pub(super) fn len(&self) -> usize {
        self.0.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    fn change<T>(&self, name: &K, change: impl FnOnce(&mut Entry<C>) -> T) -> T {
        let mut entries = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = entries.get_mut(name) {
            return change(entry);
        }
        change(entries.entry(name.clone()).or_default())
    }
}

/// How long a credential surely works from now, before it is held. If the wall clock was set back while the
/// credential was fetched, the wall clock says too much, but the credential's own times still bound it.
fn left(credential: &impl Credential, now: Moment) -> Duration {
    credential.remaining(now.wall).min(credential.life())
}

impl<C> Entry<C> {
    /// Without a credential an entry is kept as long as it still holds somebody back.
    fn worth_keeping(&self, now: Duration) -> bool {
        let lately = |time: Duration| now.saturating_sub(time) < REPLACE_AT_MOST_ONCE_IN;
        let refusal = self.refusal.as_ref();
        refusal.is_some_and(|it| now < it.until.saturating_add(it.last * 2))
            || self.replaced.is_some_and(lately)
            || self.dead.is_some()
    }
}

impl<K, C> Default for Credentials<K, C> {
    fn default() -> Self {
        Self(RwLock::default())
    }
}

impl<C> Default for Entry<C> {
    fn default() -> Self {
        Self { held: None, refusal: None, replaced: None, dead: None }
    }
}

impl Credential for SystemTicket {
    fn id(&self) -> &CredentialId {
        &self.credential_id
    }

    fn token_version(&self) -> i64 {
        self.token_version
    }

    fn remaining(&self, now: Timestamp) -> Duration {
        self.remaining(now)
    }

    fn life(&self) -> Duration {
        self.remaining(self.issue_time)
    }

    fn corrected(&self, end: Timestamp, now: Timestamp) -> Self {
        Self { expire_time: end, issue_time: self.issue_time.min(now), ..self.clone() }
    }
}

impl Credential for AccessToken {
    fn id(&self) -> &CredentialId {
        &self.credential_id
    }

    fn token_version(&self) -> i64 {
        self.token_version
    }

    fn remaining(&self, now: Timestamp) -> Duration {
        self.remaining(now)
    }

    fn life(&self) -> Duration {
        self.remaining(self.issue_time)
    }

    fn corrected(&self, end: Timestamp, now: Timestamp) -> Self {
        Self { expire_time: end, issue_time: self.issue_time.min(now), ..self.clone() }
    }
}

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

    #[test]
    fn a_wall_clock_that_is_set_back_prolongs_nothing_and_the_times_that_are_told_are_corrected() {
        let cache = Credentials::<u8, SystemTicket>::default();
        let right = Timestamp::UNIX_EPOCH;
        let ahead = Moment { wall: right + 24 * HOUR, monotonic: HOUR };
        cache.insert(&1, ticket(ahead.wall), 5 * HOUR, ahead);
        let later = Moment { wall: right + 2 * HOUR, monotonic: 3 * HOUR };
        assert!(cache.hand_out(&1, 1, 4 * HOUR, later).is_some());
        assert!(cache.hand_out(&1, 1, 5 * HOUR, later).is_none(), "it lives for four hours more");
        assert!(cache.due(later, 9 * HOUR, || HOUR).is_empty());
        let told = cache.hand_out(&1, 1, HOUR, later).unwrap();
        assert_eq!((told.issue_time, told.expire_time), (later.wall, right + 6 * HOUR));
        let end = Moment { wall: right, monotonic: 7 * HOUR };
        assert!(cache.hand_out(&1, 1, Duration::ZERO, end).is_none());
    }

    #[test]
    fn a_wall_clock_that_is_set_back_while_a_credential_is_fetched_prolongs_nothing() {
        let cache = Credentials::<u8, SystemTicket>::default();
        let right = Timestamp::UNIX_EPOCH;
        let now = Moment { wall: right, monotonic: HOUR };
        // Issued by a clock that was a day ahead.
        cache.insert(&1, ticket(right + 24 * HOUR), 5 * HOUR, now);
        assert!(cache.hand_out(&1, 1, 6 * HOUR, now).is_some());
        let end = Moment { wall: right + 6 * HOUR, monotonic: 7 * HOUR };
        assert!(cache.hand_out(&1, 1, Duration::ZERO, end).is_none());
        let amended = Credentials::<u8, SystemTicket>::default();
        amended.insert(&1, ticket(right + 24 * HOUR), 5 * HOUR, now);
        let id = CredentialId::of_ticket([1; 16]);
        amended.amend(&1, &id, 5 * HOUR, now, SystemTicket::clone);
        assert!(amended.hand_out(&1, 1, Duration::ZERO, end).is_none());
    }

    #[test]
    fn renewal_and_use_go_by_the_monotonic_clock() {
        let cache = Credentials::<u8, SystemTicket>::default();
        let begin = Moment { wall: Timestamp::UNIX_EPOCH, monotonic: Duration::ZERO };
        cache.insert(&1, ticket(begin.wall), 2 * HOUR, begin);
        let at = |wall: Timestamp, monotonic| Moment { wall, monotonic };
        let due = |now| cache.due(now, 3 * HOUR, || HOUR);
        assert!(due(at(begin.wall + 3 * HOUR, HOUR)).is_empty());
        assert_eq!(due(at(begin.wall, 2 * HOUR)), [1]);
        assert!(due(at(begin.wall, 2 * HOUR)).is_empty(), "it was begun");
        assert!(due(at(begin.wall, 4 * HOUR)).is_empty(), "nobody has used it lately");
    }
}
