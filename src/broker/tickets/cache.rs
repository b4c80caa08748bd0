//! Tickets in memory. Short critical sections, never across an await; bounded by the tenants in the store.

use std::{
    collections::HashMap,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;

use crate::{
    broker::BrokerError,
    domain::{CredentialId, SystemTicket, Tenant, TenantName},
};

/// A refusal is repeated to callers without asking again for this long at first, then twice as long …
const FIRST_BACK_OFF: Duration = Duration::from_mins(1);
/// … up to this (DESIGN section 7).
const LAST_BACK_OFF: Duration = Duration::from_mins(15);

/// What is known of the tickets of each tenant.
#[derive(Default)]
pub(super) struct Cache(RwLock<HashMap<TenantName, Entry>>);

#[derive(Default)]
struct Entry {
    ticket: Option<Held>,
    /// Rare, so it takes no room where there is none.
    refusal: Option<Box<Refused>>,
    /// When a ticket last took the place of one that was proven dead.
    replaced: Option<Timestamp>,
    /// The last ticket, if it was proven dead and has not been replaced yet.
    dead: Option<CredentialId>,
}

struct Held {
    ticket: Arc<SystemTicket>,
    renew_time: Timestamp,
    /// Unix seconds.
    last_used: AtomicI64,
}

/// SuperOffice said no, and will go on saying no until somebody acts.
struct Refused {
    error: BrokerError,
    token_version: i64,
    until: Timestamp,
    back_off: Duration,
}

impl Cache {
    /// A ticket that was issued under the tenant's present token and lives at least `min_ttl` more.
    pub(super) fn hand_out(
        &self,
        tenant: &Tenant,
        min_ttl: Duration,
        now: Timestamp,
    ) -> Option<Arc<SystemTicket>> {
        let entries = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let held = entries.get(&tenant.name)?.ticket.as_ref()?;
        let remaining = held.ticket.remaining(now);
        if held.ticket.token_version != tenant.token_version
            || remaining.is_zero()
            || remaining < min_ttl
        {
            return None;
        }
        // Once a second at most: every call reads this, on every core.
        if held.last_used.load(Ordering::Relaxed) != now.as_second() {
            held.last_used.store(now.as_second(), Ordering::Relaxed);
        }
        Some(Arc::clone(&held.ticket))
    }

    /// The cached ticket of this id.
    pub(super) fn find(&self, name: &TenantName, id: &CredentialId) -> Option<Arc<SystemTicket>> {
        let entries = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let held = entries.get(name)?.ticket.as_ref()?;
        (held.ticket.credential_id == *id).then(|| Arc::clone(&held.ticket))
    }

    /// Whether there is a ticket, of whatever id.
    pub(super) fn has_ticket(&self, name: &TenantName) -> bool {
        let entries = self.0.read().unwrap_or_else(PoisonError::into_inner);
        entries.get(name).is_some_and(|entry| entry.ticket.is_some())
    }

    /// Takes in a new or stored ticket.
    pub(super) fn insert(
        &self,
        name: &TenantName,
        ticket: Arc<SystemTicket>,
        renew_time: Timestamp,
        now: Timestamp,
    ) {
        self.change(name, |entry| {
            // Renewing in the background is not a use.
            let used = entry.ticket.as_ref().map(|held| held.last_used.load(Ordering::Relaxed));
            let last_used = AtomicI64::new(used.unwrap_or_else(|| now.as_second()));
            let held = Held { ticket, renew_time, last_used };
            entry.ticket = Some(held);
            entry.refusal = None;
            if entry.dead.take().is_some() {
                entry.replaced = Some(now);
            }
        });
    }

    /// Notes that a ticket lives longer.
    pub(super) fn extend(
        &self,
        name: &TenantName,
        id: &CredentialId,
        expire_time: Timestamp,
        renew_time: Timestamp,
    ) {
        self.change(name, |entry| {
            if let Some(held) = entry.ticket.as_mut().filter(|h| h.ticket.credential_id == *id) {
                held.ticket =
                    Arc::new(SystemTicket { expire_time, ..SystemTicket::clone(&held.ticket) });
                held.renew_time = renew_time;
            }
        });
    }

    /// Takes out a ticket that was proven dead. `false` if another one is there.
    pub(super) fn drop_dead(&self, name: &TenantName, id: &CredentialId) -> bool {
        self.change(name, |entry| {
            let is_it = entry.ticket.as_ref().is_some_and(|h| h.ticket.credential_id == *id);
            if is_it {
                entry.ticket = None;
                entry.dead = Some(id.clone());
            }
            is_it
        })
    }

    /// Whether this ticket was proven dead: it may still be in the store for a moment.
    pub(super) fn is_dead(&self, name: &TenantName, id: &CredentialId) -> bool {
        let entries = self.0.read().unwrap_or_else(PoisonError::into_inner);
        entries.get(name).is_some_and(|entry| entry.dead.as_ref() == Some(id))
    }

    /// How long to wait before a ticket may be asked for in place of one that was proven dead; zero if now.
    pub(super) fn wait_before_replacing(
        &self,
        name: &TenantName,
        now: Timestamp,
        at_most_once_in: Duration,
    ) -> Duration {
        let entries = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let replaced =
            entries.get(name).filter(|entry| entry.dead.is_some()).and_then(|entry| entry.replaced);
        let since = replaced.map(|replaced| now.duration_since(replaced).unsigned_abs());
        since.map_or(Duration::ZERO, |since| at_most_once_in.saturating_sub(since))
    }

    /// The refusal that still stands for this token.
    pub(super) fn standing_refusal(
        &self,
        name: &TenantName,
        token_version: i64,
        now: Timestamp,
    ) -> Option<BrokerError> {
        let entries = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let refused = entries.get(name)?.refusal.as_ref()?;
        (refused.token_version == token_version && now < refused.until)
            .then(|| refused.error.clone())
    }

    /// Remembers a refusal; the same one again for twice as long.
    pub(super) fn refuse(
        &self,
        name: &TenantName,
        token_version: i64,
        error: BrokerError,
        now: Timestamp,
    ) {
        self.change(name, |entry| {
            let back_off = match &entry.refusal {
                Some(before) if before.token_version == token_version => {
                    before.back_off.saturating_mul(2).min(LAST_BACK_OFF)
                }
                _ => FIRST_BACK_OFF,
            };
            let until = now.saturating_add(back_off).unwrap_or(Timestamp::MAX);
            entry.refusal = Some(Box::new(Refused { error, token_version, until, back_off }));
        });
    }

    /// Tenants whose ticket is due for renewal and was used lately. Notes for each that it will not be due
    /// again before `retry_time`. Forgets what has expired.
    pub(super) fn due(
        &self,
        now: Timestamp,
        used_within: Duration,
        retry_time: impl Fn() -> Timestamp,
    ) -> Vec<TenantName> {
        let mut entries = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let mut due = Vec::new();
        entries.retain(|name, entry| {
            let Some(held) = &mut entry.ticket else {
                return entry.worth_keeping(now);
            };
            if held.ticket.remaining(now).is_zero() {
                entry.ticket = None;
                return entry.worth_keeping(now);
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

    pub(super) fn len(&self) -> usize {
        self.0.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    fn change<T>(&self, name: &TenantName, change: impl FnOnce(&mut Entry) -> T) -> T {
        let mut entries = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = entries.get_mut(name) {
            return change(entry);
        }
        change(entries.entry(name.clone()).or_default())
    }
}

impl Entry {
    /// Without a ticket an entry is kept as long as it still holds somebody back.
    fn worth_keeping(&self, now: Timestamp) -> bool {
        let recently =
            |time: Timestamp| now.duration_since(time).unsigned_abs() < LAST_BACK_OFF * 2;
        self.refusal.as_ref().is_some_and(|refused| now < refused.until || recently(refused.until))
            || self.replaced.is_some_and(recently)
            || self.dead.is_some()
    }
}
