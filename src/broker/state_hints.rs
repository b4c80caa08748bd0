//! What SuperOffice tells of changes of a tenant: a hint, never an order (DESIGN section 6, rule 12). What is so, the
//! tenant's own status says.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;
use zeroize::Zeroizing;

use super::{Applications, BrokerError, Directory, Impersonation, Statuses, Tickets};
use crate::{
    domain::{ContextIdentifier, Tenant, TenantName},
    ports::{AuditSigner, Clock, NotificationStore, StoreError, UpstreamError},
};

/// Hints of a tenant make us look once in this time; what came meanwhile, once at its end.
const INTERVAL: Duration = Duration::from_mins(1);

/// How often minutes that have ended are looked for.
const LOOK: Duration = Duration::from_secs(1);

/// What is said to have happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StateChange {
    /// The tenant's database went back to a backup: it may not know our credentials any more, or know them as
    /// somebody else's.
    BackupRestored,
    /// The tenant is suspended or deleted: calls must not go by its last status any more, whether or not it can be read
    /// again.
    Ended,
    /// Whatever else: its status tells.
    Other,
}

/// Why a notification is not heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unheard {
    /// No login host of ours has signed it for this tenant.
    #[error("no login host has signed it")]
    Unsigned,
    /// It was heard before.
    #[error("it was used before")]
    Used,
    /// That cannot be told now.
    #[error("the keys of a login host cannot be had")]
    KeysUnavailable,
    /// What it says cannot be noted now.
    #[error("the store does not take it")]
    StoreUnavailable,
}

/// What hints are about.
#[derive(Clone)]
pub struct StateHints(Arc<Shared>);

struct Shared {
    applications: Arc<Applications>,
    directory: Arc<Directory>,
    statuses: Arc<Statuses>,
    tickets: Arc<Tickets>,
    impersonation: Arc<Impersonation>,
    clock: Arc<dyn Clock>,
    used: UsedNotifications,
    /// By tenants that are in the store.
    heard: Mutex<HashMap<TenantName, Heard>>,
    tasks: TaskTracker,
    runtime: Handle,
}

/// Remembers notifications, so that each is heard once.
#[derive(Clone)]
pub struct UsedNotifications {
    /// Keeps them, also over a restart.
    pub store: Arc<dyn NotificationStore>,
    /// Makes the digests that they are kept by.
    pub signer: Arc<dyn AuditSigner>,
}

impl UsedNotifications {
    /// Of what was signed for a tenant. The id of the token names it, if it has one. One without an id and without a
    /// tenant may be the very same for several tenants, which SuperOffice tells of in one second.
    fn digest(
        &self,
        token: &SecretString,
        id: Option<&str>,
        tenant: ContextIdentifier,
    ) -> [u8; 32] {
        let signed = match id {
            Some(id) => format!("id {id}"),
            None => format!("{tenant} {}", token.expose_secret()),
        };
        self.signer.digest(Zeroizing::new(signed).as_bytes())
    }
}

/// What was heard of a tenant in the running minute.
struct Heard {
    until: Duration,
    /// Its credentials were doubted in this minute.
    doubted: bool,
    /// The tenant was said to be suspended or deleted after we looked.
    ended: bool,
    /// The status was refuted in this minute.
    refuted: bool,
    /// To be done at its end.
    later: Option<StateChange>,
}

impl StateHints {
    /// Nothing was heard so far. Looking will run on the runtime that this is called on.
    #[must_use]
    #[expect(clippy::too_many_arguments, reason = "wiring")]
    pub fn new(
        applications: Arc<Applications>,
        directory: Arc<Directory>,
        statuses: Arc<Statuses>,
        tickets: Arc<Tickets>,
        impersonation: Arc<Impersonation>,
        clock: Arc<dyn Clock>,
        used: UsedNotifications,
        tasks: TaskTracker,
    ) -> Self {
        let (heard, runtime) = (Mutex::default(), Handle::current());
        let shared = Shared {
            applications,
            directory,
            statuses,
            tickets,
            impersonation,
            clock,
            used,
            heard,
            tasks,
            runtime,
        };
        Self(Arc::new(shared))
    }

    /// Looks where more was heard in a minute than was looked at, for as long as it is polled.
    pub async fn run(&self) {
        let shared = &self.0;
        loop {
            shared.clock.sleep(LOOK).await;
            for (name, change, ended) in shared.due() {
                let again = Arc::clone(shared);
                let work = async move { again.make_up_for(&name, change, ended).await };
                shared.tasks.spawn_on(work, &shared.runtime);
            }
        }
    }

    /// A tenant has changed, somebody says, and proves by `token` who that is. Nothing tells whether the tenant is
    /// known here.
    ///
    /// # Errors
    /// If it is proven by no login host, or that cannot be told now.
    pub async fn hear(
        &self,
        token: &SecretString,
        tenant: ContextIdentifier,
        change: StateChange,
    ) -> Result<(), Unheard> {
        let shared = &self.0;
        let (mut names, mut proof, mut unknown) = (Vec::new(), None, false);
        for application in shared.applications.all() {
            match application.notifications.verify(token).await {
                Ok(signed) if signed.tenant.is_none_or(|named| named == tenant) => {
                    names.push(TenantName { application: application.id.clone(), tenant });
                    proof = Some(signed);
                }
                Ok(_) | Err(UpstreamError::InvalidResponse(_)) => {}
                Err(error) => {
                    tracing::warn!(%error, application = %application.id, "a notification cannot be verified");
                    unknown = true;
                }
            }
        }
        let Some(proof) = proof else {
            return Err(if unknown { Unheard::KeysUnavailable } else { Unheard::Unsigned });
        };
        let digest = shared.used.digest(token, proof.id.as_deref(), tenant);
        shared.check_unused(&digest, tenant).await?;
        for name in names {
            shared.hint(name, change).await?;
        }
        // Last: one that was only partly acted on, because the store failed or this process ended, is sent again.
        // Acting on it twice does no harm.
        shared.use_once(&digest, proof.expire_time, tenant).await
    }
}

impl Shared {
    /// Rejects a notification that was used before. Nothing is noted yet.
    async fn check_unused(
        &self,
        digest: &[u8; 32],
        tenant: ContextIdentifier,
    ) -> Result<(), Unheard> {
        let used = self.used.store.is_used(digest, self.clock.now()).await;
        take_unused(used.map(|used| !used), tenant)
    }

    /// Notes that a notification was used. Of two that come at once the later one is rejected here, after both were
    /// acted on.
    async fn use_once(
        &self,
        digest: &[u8; 32],
        expire_time: Timestamp,
        tenant: ContextIdentifier,
    ) -> Result<(), Unheard> {
        let new = self.used.store.use_once(digest, expire_time, self.clock.now()).await;
        take_unused(new, tenant)
    }

    /// Looks, now or at the end of the minute. Looking belongs to the gateway: SuperOffice does not wait for it. But
    /// what must not be forgotten is in the store before it is answered, so that it is sent again if that fails.
    async fn hint(self: &Arc<Self>, name: TenantName, change: StateChange) -> Result<(), Unheard> {
        let tenant = match self.directory.get(&name).await {
            Ok(tenant) => tenant,
            Err(BrokerError::TenantNotFound(_)) => return Ok(()),
            Err(error) => {
                tracing::warn!(cause = error.cause(), tenant = %name, "a notification cannot be taken");
                return Err(Unheard::StoreUnavailable);
            }
        };
        tracing::info!(tenant = %name, ?change, "a tenant has changed, SuperOffice says");
        let (look, doubt) = self.now(&name, change);
        if doubt && let Err(unheard) = self.doubt(&name).await {
            self.later(&name, change);
            return Err(unheard);
        }
        if look {
            let shared = Arc::clone(self);
            // What it learns is written down and told by itself.
            let ended = change == StateChange::Ended;
            let work = async move { shared.look(&tenant, ended).await };
            self.tasks.spawn_on(work, &self.runtime);
        }
        Ok(())
    }

    /// Begins a minute, or leaves to the end of the running one what was done in it before. Whether to look, and
    /// whether to doubt what is cached, now.
    fn now(&self, name: &TenantName, change: StateChange) -> (bool, bool) {
        let until = self.clock.monotonic() + INTERVAL;
        let restored = change == StateChange::BackupRestored;
        let mut heard = self.heard();
        if let Some(heard) = heard.get_mut(name) {
            let doubt = restored && !heard.doubted;
            heard.doubted |= doubt;
            // A status that is known to be wrong is not used to the end of the minute.
            if change == StateChange::Ended && !std::mem::replace(&mut heard.refuted, true) {
                return (true, doubt);
            }
            heard.ended |= change == StateChange::Ended;
            if heard.later != Some(StateChange::BackupRestored) {
                heard.later = Some(if doubt { StateChange::Other } else { change });
            }
            return (false, doubt);
        }
        let refuted = change == StateChange::Ended;
        let fresh = Heard { until, doubted: restored, ended: false, refuted, later: None };
        heard.insert(name.clone(), fresh);
        (true, restored)
    }

    /// It was not done: at the end of the minute it is tried again.
    fn later(&self, name: &TenantName, change: StateChange) {
        let until = self.clock.monotonic() + INTERVAL;
        let fresh = Heard { until, doubted: false, ended: false, refuted: false, later: None };
        let mut heard = self.heard();
        let heard = heard.entry(name.clone()).or_insert(fresh);
        // Not doubted either: if the notification is sent again before the minute ends, that is tried at once.
        (heard.doubted, heard.later) = (false, Some(change));
    }

    /// What was left to the end of a minute.
    async fn make_up_for(&self, name: &TenantName, change: StateChange, ended: bool) {
        let tenant = match self.directory.get(name).await {
            Ok(tenant) => tenant,
            Err(BrokerError::TenantNotFound(_)) => return,
            Err(_) => {
                self.later(name, change);
                if let Some(heard) = self.heard().get_mut(name) {
                    heard.ended |= ended;
                }
                return;
            }
        };
        if change == StateChange::BackupRestored && self.doubt(name).await.is_err() {
            self.later(name, change);
        }
        self.look(&tenant, ended).await;
    }

    /// Reads the tenant's status, which stores and announces what it learns, and logs a failure.
    async fn look(&self, tenant: &Tenant, ended: bool) {
        let _ = if ended {
            self.statuses.refute(tenant).await
        } else {
            self.statuses.look_again(tenant).await
        };
    }

    /// The tenant's database went back to a backup: nothing that it gave out is believed before it is proven.
    async fn doubt(&self, name: &TenantName) -> Result<(), Unheard> {
        let grants = self.impersonation.doubt(name).await;
        let ticket = self.tickets.forget(name).await;
        grants.and(ticket).map_err(|error| {
            tracing::error!(cause = error.cause(), tenant = %name, "credentials cannot be doubted now");
            Unheard::StoreUnavailable
        })
    }

    /// What came in minutes that have ended: these begin anew, and the others are forgotten.
    fn due(&self) -> Vec<(TenantName, StateChange, bool)> {
        let now = self.clock.monotonic();
        let mut due = Vec::new();
        self.heard().retain(|name, heard| {
            if now < heard.until {
                return true;
            }
            (heard.until, heard.doubted, heard.refuted) = (now + INTERVAL, false, false);
            let (later, ended) = (heard.later.take(), std::mem::take(&mut heard.ended));
            due.extend(later.map(|change| (name.clone(), change, ended)));
            later.is_some()
        });
        due
    }

    fn heard(&self) -> MutexGuard<'_, HashMap<TenantName, Heard>> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Accepts a notification that the store says is new.
fn take_unused(is_new: Result<bool, StoreError>, tenant: ContextIdentifier) -> Result<(), Unheard> {
    match is_new {
        Ok(true) => Ok(()),
        Ok(false) => {
            tracing::warn!(%tenant, "a notification was sent once more, and is not heard again");
            Err(Unheard::Used)
        }
        Err(error) => {
            tracing::warn!(%error, %tenant, "a notification cannot be taken");
            Err(Unheard::StoreUnavailable)
        }
    }
}

impl fmt::Debug for StateHints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StateHints").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
