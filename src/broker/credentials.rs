//! Credentials in memory: the one ticket of each tenant, the one access token of each grant. Short critical sections,
//! never across an await; bounded by the tenants and grants in the store.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;

use super::BrokerError;
use crate::domain::{AccessToken, CredentialId, SystemTicket};

/// A dead credential is replaced at most this often (DESIGN section 7).
const REPLACE_AT_MOST_ONCE_IN: Duration = Duration::from_mins(1);

/// What SuperOffice gives out for a while, in place of a secret that lasts.
pub(super) trait Credential {
    /// Its public name.
    fn id(&self) -> &CredentialId;

    /// Which version of the lasting secret it was given out for.
    fn token_version(&self) -> i64;

    /// How long it surely works from `now`.
    fn remaining(&self, now: Timestamp) -> Duration;
}

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
    /// When a credential last took the place of one that was proven dead.
    replaced: Option<Timestamp>,
    /// The last credential, if it was proven dead and has not been replaced yet.
    dead: Option<CredentialId>,
}

struct Held<C> {
    credential: Arc<C>,
    renew_time: Timestamp,
    /// Unix seconds.
    last_used: AtomicI64,
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
        now: Timestamp,
    ) -> Option<Arc<C>> {
        let entries = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let held = entries.get(name)?.held.as_ref()?;
        let remaining = held.credential.remaining(now);
        if held.credential.token_version() != token_version
            || remaining.is_zero()
            || remaining < min_ttl
        {
            return None;
        }
        // Once a second at most: every call reads this, on every core.
        if held.last_used.load(Ordering::Relaxed) != now.as_second() {
            held.last_used.store(now.as_second(), Ordering::Relaxed);
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

    /// Takes in a new or stored credential.
    pub(super) fn insert(
        &self,
        name: &K,
        credential: Arc<C>,
        renew_time: Timestamp,
        now: Timestamp,
    ) {
        self.change(name, |entry| {
            // Renewing in the background is not a use.
            let used = entry.held.as_ref().map(|held| held.last_used.load(Ordering::Relaxed));
            let last_used = AtomicI64::new(used.unwrap_or_else(|| now.as_second()));
            let held = Held { credential, renew_time, last_used };
            entry.held = Some(held);
            entry.refusal = None;
            if entry.dead.take().is_some() {
                entry.replaced = Some(now);
            }
        });
    }

    /// Changes what is known of the credential of this id.
    pub(super) fn amend(
        &self,
        name: &K,
        id: &CredentialId,
        renew_time: Timestamp,
        amend: impl FnOnce(&C) -> C,
    ) {
        self.change(name, |entry| {
            if let Some(held) = entry.held.as_mut().filter(|held| held.credential.id() == id) {
                held.credential = Arc::new(amend(&held.credential));
                held.renew_time = renew_time;
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
    pub(super) fn wait_before_replacing(&self, name: &K, now: Timestamp) -> Duration {
        let entries = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let replaced =
            entries.get(name).filter(|entry| entry.dead.is_some()).and_then(|entry| entry.replaced);
        let since = replaced.map(|replaced| now.duration_since(replaced).unsigned_abs());
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

    /// Those whose credential is due for renewal and was used lately. `now` and `monotonic` are the same moment by both
    /// clocks. Notes for each that it will not be due again before `retry_time`. Forgets what has expired.
    pub(super) fn due(
        &self,
        (now, monotonic): (Timestamp, Duration),
        used_within: Duration,
        retry_time: impl Fn() -> Timestamp,
    ) -> Vec<K> {
        let mut entries = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let mut due = Vec::new();
        entries.retain(|name, entry| {
            let Some(held) = &mut entry.held else {
                return entry.worth_keeping(now, monotonic);
            };
            if held.credential.remaining(now).is_zero() {
                entry.held = None;
                return entry.worth_keeping(now, monotonic);
            }
            let idle = now.as_second().saturating_sub(held.last_used.load(Ordering::Relaxed));
            let used = u64::try_from(idle).is_ok_and(|idle| idle < used_within.as_secs());
            if held.renew_time <= now && used {
                held.renew_time = retry_time();
                due.push(name.clone());
            }
            true
        });
        due
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

impl<C> Entry<C> {
    /// Without a credential an entry is kept as long as it still holds somebody back.
    fn worth_keeping(&self, now: Timestamp, monotonic: Duration) -> bool {
        let lately =
            |time: Timestamp, span: Duration| now.duration_since(time).unsigned_abs() < span;
        let refusal = self.refusal.as_ref();
        refusal.is_some_and(|it| monotonic < it.until.saturating_add(it.last * 2))
            || self.replaced.is_some_and(|time| lately(time, REPLACE_AT_MOST_ONCE_IN))
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
}
