//! Notifications from SuperOffice that a tenant has changed. A notification is only a hint: it causes a read of the
//! tenant status, and that status decides.

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

use super::{
    Applications, BrokerError, Impersonation, Runtime, Statuses, TenantDirectory, Tickets,
};
use crate::{
    domain::{ContextIdentifier, Tenant, TenantName},
    ports::{AuditSigner, Clock, NotificationStore, StoreError, UpstreamError},
};

/// The length of a window: the first notification in it causes a read, and all later ones cause one read at its end.
const WINDOW_LENGTH: Duration = Duration::from_mins(1);

/// The interval between checks for windows that have ended.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// The change that a notification announces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StateChange {
    /// The tenant's database was restored from a backup: it may not contain our credentials any more, or may assign
    /// them to another person.
    BackupRestored,
    /// The tenant is suspended or deleted: its last status must not be used any more, even if it cannot be read
    /// again.
    SuspendedOrDeleted,
    /// Any other change: only the tenant status shows it.
    Other,
}

/// The reason why a notification is rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotificationRejected {
    /// No login host of a configured application has signed it for this tenant.
    #[error("no login host of a configured application has signed it for this tenant")]
    Unsigned,
    /// It was accepted before.
    #[error("it was accepted before")]
    AlreadyUsed,
    /// The signature cannot be verified now.
    #[error("the signing keys of a login host are not available")]
    KeysUnavailable,
    /// The store does not answer, so the notification cannot be recorded.
    #[error("the store does not answer")]
    StoreUnavailable,
}

/// The use case that handles notifications about tenants.
#[derive(Clone)]
pub struct StateHints(Arc<Shared>);

struct Shared {
    applications: Arc<Applications>,
    directory: Arc<TenantDirectory>,
    statuses: Arc<Statuses>,
    tickets: Arc<Tickets>,
    impersonation: Arc<Impersonation>,
    clock: Arc<dyn Clock>,
    used: UsedNotifications,
    /// The current window of each tenant. Contains only tenants that are in the store.
    windows: Mutex<HashMap<TenantName, Window>>,
    tasks: TaskTracker,
    handle: Handle,
}

/// The record of accepted notifications, so that each is accepted once.
#[derive(Clone)]
pub struct UsedNotifications {
    /// Stores the digests, also across a restart.
    pub store: Arc<dyn NotificationStore>,
    /// Computes the digests.
    pub signer: Arc<dyn AuditSigner>,
}

impl UsedNotifications {
    /// Returns the digest of a token: over its id, or over the tenant and the token if it has no id. A token without id
    /// and tenant may be identical for several tenants that SuperOffice notifies in the same second.
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

/// The notifications of a tenant in the current window.
struct Window {
    end: Duration,
    /// Whether cached credentials were invalidated in this window.
    credentials_invalidated: bool,
    /// Whether a notification after the read said that the tenant is suspended or deleted.
    suspended_or_deleted: bool,
    /// Whether the status was invalidated in this window.
    status_invalidated: bool,
    /// The change to handle at the end of the window.
    deferred: Option<StateChange>,
}

impl StateHints {
    /// Creates the use case. Reads run on the Tokio runtime on which this is called.
    #[must_use]
    pub fn new(
        applications: Arc<Applications>,
        directory: Arc<TenantDirectory>,
        statuses: Arc<Statuses>,
        tickets: Arc<Tickets>,
        impersonation: Arc<Impersonation>,
        used: UsedNotifications,
        runtime: &Runtime,
    ) -> Self {
        let Runtime { clock, tasks, .. } = runtime.clone();
        let shared = Shared {
            applications,
            directory,
            statuses,
            tickets,
            impersonation,
            clock,
            used,
            windows: Mutex::default(),
            tasks,
            handle: Handle::current(),
        };
        Self(Arc::new(shared))
    }

    /// Handles deferred notifications at the end of their windows, until this future is dropped.
    pub async fn run(&self) {
        let shared = &self.0;
        loop {
            shared.clock.sleep(CHECK_INTERVAL).await;
            for (name, change, ended) in shared.take_due() {
                let again = Arc::clone(shared);
                let work = async move { again.run_deferred(&name, change, ended).await };
                shared.tasks.spawn_on(work, &shared.handle);
            }
        }
    }

    /// Accepts a notification that a tenant has changed; `token` is its signed proof. The result does not reveal
    /// whether the tenant is known here.
    ///
    /// # Errors
    /// If no login host has signed it, it was accepted before, or the keys or the store are not available.
    pub async fn receive(
        &self,
        token: &SecretString,
        tenant: ContextIdentifier,
        change: StateChange,
    ) -> Result<(), NotificationRejected> {
        let shared = &self.0;
        let (mut names, mut proof, mut keys_missing) = (Vec::new(), None, false);
        for application in shared.applications.all() {
            match application.notifications.verify(token).await {
                Ok(signed) if signed.tenant.is_none_or(|named| named == tenant) => {
                    names.push(TenantName { application: application.id.clone(), tenant });
                    proof = Some(signed);
                }
                Ok(_) | Err(UpstreamError::InvalidResponse(_)) => {}
                Err(error) => {
                    tracing::warn!(%error, application = %application.id, "a notification cannot be verified now");
                    keys_missing = true;
                }
            }
        }
        let Some(proof) = proof else {
            return Err(if keys_missing {
                NotificationRejected::KeysUnavailable
            } else {
                NotificationRejected::Unsigned
            });
        };
        let digest = shared.used.digest(token, proof.id.as_deref(), tenant);
        shared.check_unused(&digest, tenant).await?;
        for name in names {
            shared.handle(name, change).await?;
        }
        // Recorded last: if the store fails or this process ends before, SuperOffice sends the notification again.
        // Handling it twice does no harm.
        shared.mark_used(&digest, proof.expire_time, tenant).await
    }
}

impl Shared {
    /// Rejects a notification that was accepted before. Does not record it.
    async fn check_unused(
        &self,
        digest: &[u8; 32],
        tenant: ContextIdentifier,
    ) -> Result<(), NotificationRejected> {
        let used = self.used.store.is_used(digest, self.clock.now()).await;
        require_new(used.map(|used| !used), tenant)
    }

    /// Records a notification as accepted. If two copies arrive at once, the second is rejected here, after both were
    /// handled.
    async fn mark_used(
        &self,
        digest: &[u8; 32],
        expire_time: Timestamp,
        tenant: ContextIdentifier,
    ) -> Result<(), NotificationRejected> {
        let new = self.used.store.mark_used(digest, expire_time, self.clock.now()).await;
        require_new(new, tenant)
    }

    /// Reads the status now or at the end of the window, in a background task. The invalidation of credentials is
    /// stored before SuperOffice gets its answer; if that fails, SuperOffice sends the notification again.
    async fn handle(
        self: &Arc<Self>,
        name: TenantName,
        change: StateChange,
    ) -> Result<(), NotificationRejected> {
        let tenant = match self.directory.get(&name).await {
            Ok(tenant) => tenant,
            Err(BrokerError::TenantNotFound(_)) => return Ok(()),
            Err(error) => {
                tracing::warn!(cause = error.cause(), tenant = %name, "a notification cannot be handled: the store does not answer");
                return Err(NotificationRejected::StoreUnavailable);
            }
        };
        tracing::info!(tenant = %name, ?change, "SuperOffice notified that a tenant has changed");
        let (read, invalidate) = self.plan(&name, change);
        if invalidate && let Err(rejected) = self.invalidate_credentials(&name).await {
            self.defer(&name, change);
            return Err(rejected);
        }
        if read {
            let shared = Arc::clone(self);
            // The read stores and announces its own result.
            let ended = change == StateChange::SuspendedOrDeleted;
            let work = async move { shared.read_status(&tenant, ended).await };
            self.tasks.spawn_on(work, &self.handle);
        }
        Ok(())
    }

    /// Opens a window, or defers to the end of the open one what was already done in it. Returns whether to read the
    /// status now, and whether to invalidate cached credentials now.
    fn plan(&self, name: &TenantName, change: StateChange) -> (bool, bool) {
        let end = self.clock.monotonic() + WINDOW_LENGTH;
        let restored = change == StateChange::BackupRestored;
        let mut windows = self.lock_windows();
        if let Some(window) = windows.get_mut(name) {
            let invalidate = restored && !window.credentials_invalidated;
            window.credentials_invalidated |= invalidate;
            // A status that is known to be wrong must not stay in use until the end of the window.
            if change == StateChange::SuspendedOrDeleted
                && !std::mem::replace(&mut window.status_invalidated, true)
            {
                return (true, invalidate);
            }
            window.suspended_or_deleted |= change == StateChange::SuspendedOrDeleted;
            if window.deferred != Some(StateChange::BackupRestored) {
                window.deferred = Some(if invalidate { StateChange::Other } else { change });
            }
            return (false, invalidate);
        }
        let suspended_or_deleted = change == StateChange::SuspendedOrDeleted;
        let fresh = Window {
            end,
            credentials_invalidated: restored,
            suspended_or_deleted: false,
            status_invalidated: suspended_or_deleted,
            deferred: None,
        };
        windows.insert(name.clone(), fresh);
        (true, restored)
    }

    /// Defers a change that could not be handled: it is tried again at the end of the window.
    fn defer(&self, name: &TenantName, change: StateChange) {
        let end = self.clock.monotonic() + WINDOW_LENGTH;
        let fresh = Window {
            end,
            credentials_invalidated: false,
            suspended_or_deleted: false,
            status_invalidated: false,
            deferred: None,
        };
        let mut windows = self.lock_windows();
        let window = windows.entry(name.clone()).or_insert(fresh);
        // Credentials are not invalidated yet: a repeated notification in this window invalidates them at once.
        (window.credentials_invalidated, window.deferred) = (false, Some(change));
    }

    /// Handles a change that was deferred to the end of a window.
    async fn run_deferred(&self, name: &TenantName, change: StateChange, ended: bool) {
        let tenant = match self.directory.get(name).await {
            Ok(tenant) => tenant,
            Err(BrokerError::TenantNotFound(_)) => return,
            Err(_) => {
                self.defer(name, change);
                if let Some(window) = self.lock_windows().get_mut(name) {
                    window.suspended_or_deleted |= ended;
                }
                return;
            }
        };
        if change == StateChange::BackupRestored && self.invalidate_credentials(name).await.is_err()
        {
            self.defer(name, change);
        }
        self.read_status(&tenant, ended).await;
    }

    /// Reads the tenant's status. The read stores and announces its result, and logs its failure.
    async fn read_status(&self, tenant: &Tenant, ended: bool) {
        let _ = if ended {
            self.statuses.invalidate(tenant).await
        } else {
            self.statuses.revalidate(tenant).await
        };
    }

    /// Invalidates all credentials of a tenant whose database was restored: each is verified before its next use.
    async fn invalidate_credentials(&self, name: &TenantName) -> Result<(), NotificationRejected> {
        let grants = self.impersonation.mark_all_unconfirmed(name).await;
        let ticket = self.tickets.discard(name).await;
        grants.and(ticket).map_err(|error| {
            tracing::error!(cause = error.cause(), tenant = %name, "cached credentials cannot be invalidated: the store does not answer");
            NotificationRejected::StoreUnavailable
        })
    }

    /// Returns the deferred changes of windows that have ended. Those windows start again; the others are removed.
    fn take_due(&self) -> Vec<(TenantName, StateChange, bool)> {
        let now = self.clock.monotonic();
        let mut due = Vec::new();
        self.lock_windows().retain(|name, window| {
            if now < window.end {
                return true;
            }
            (window.end, window.credentials_invalidated, window.status_invalidated) =
                (now + WINDOW_LENGTH, false, false);
            let (deferred, ended) =
                (window.deferred.take(), std::mem::take(&mut window.suspended_or_deleted));
            due.extend(deferred.map(|change| (name.clone(), change, ended)));
            deferred.is_some()
        });
        due
    }

    fn lock_windows(&self) -> MutexGuard<'_, HashMap<TenantName, Window>> {
        self.windows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Accepts a notification that the store says is new.
fn require_new(
    is_new: Result<bool, StoreError>,
    tenant: ContextIdentifier,
) -> Result<(), NotificationRejected> {
    match is_new {
        Ok(true) => Ok(()),
        Ok(false) => {
            tracing::warn!(%tenant, "rejected a notification that was accepted before");
            Err(NotificationRejected::AlreadyUsed)
        }
        Err(error) => {
            tracing::warn!(%error, %tenant, "a notification cannot be recorded: the store does not answer");
            Err(NotificationRejected::StoreUnavailable)
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
